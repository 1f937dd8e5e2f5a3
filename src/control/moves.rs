//! What clients send and get about moves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A move to make now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveVm {
    /// The VM, where it goes, and how it announces itself there, as after `--move`, without a time:
    /// `vm3:leaf1,announce=rarp,count=3`.
    #[serde(rename = "move")]
    pub order: String,
    /// Moves in all, there and back, as after `--repeat`; one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub repeat: Option<u32>,
}

/// A move that was made; further ones follow where it is repeated. Reports tell what the flows of the VM missed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MovedVm {
    /// The VM.
    pub vm: String,
    /// Where it was, such as `leaf0`.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// When the change of its link began, in nanoseconds since the set-up began, as the lab, its events and `--trace` tell time.
    pub time_ns: u64,
    /// How long that took.
    pub netlink_ns: u64,
}

/// A move that was made, or one of the present phase that is to come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Move")]
pub struct MoveDocument {
    /// The VM.
    pub vm: String,
    /// Where it was; absent of a move to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Where it went or goes; of a move to come, `back` is where it was before.
    pub to: String,
    /// When the change of its link began, or is due, in nanoseconds since the set-up began.
    pub time_ns: u64,
    /// How long that change took; absent of a move to come, and of one that goes on or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netlink_ns: Option<u64>,
    /// Moves there and back that this one, which is to come, begins: more than 1 if it is repeated. 0 of one that was made.
    pub to_come: u32,
}
