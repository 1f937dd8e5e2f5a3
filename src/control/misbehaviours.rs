//! What clients send about misbehaviours.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A misbehaviour to begin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Misbehave")]
pub struct MisbehaveDocument {
    /// Which VMs, what they do and for how long, as after `--misbehave`: `vm9:arp-flood 1000/s+2s`. It begins at once.
    pub misbehave: String,
}
