//! What clients send and get about misbehaviours.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fabric::MisbehaviourRecord;
use crate::time::Instant;
use crate::vm::Misdeed;

/// A misbehaviour to begin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Misbehave")]
pub struct MisbehaveDocument {
    /// Which VMs, what they do and for how long, as after `--misbehave`: `vm9:arp-flood 1000/s+2s`. It begins at once.
    pub misbehave: String,
}

/// A misbehaviour of a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Misbehaviour")]
pub struct MisbehaviourDocument {
    /// The VM: `vm9`.
    pub vm: String,
    /// What it does: `arp-flood 1000/s`.
    pub what: String,
    /// When it began, in nanoseconds since the first ping could be sent.
    pub began_ns: u64,
    /// When it ended; absent if it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ns: Option<u64>,
    /// Why it did not take place; absent if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it has done so far, and how often; only what occurred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Misdeed, u64>,
}

impl MisbehaviourDocument {
    /// The document of `record`, with times since `start`.
    pub fn of(record: &MisbehaviourRecord, start: Instant) -> MisbehaviourDocument {
        MisbehaviourDocument {
            vm: record.vm.to_string(),
            what: record.misbehaviour.to_string(),
            began_ns: record.began.nanos_since(start),
            ended_ns: record.ended.map(|ended| ended.nanos_since(start)),
            refused: record.refused.clone(),
            counts: record.misdeeds.iter().collect(),
        }
    }
}
