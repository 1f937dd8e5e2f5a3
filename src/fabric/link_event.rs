//! Changes of a fabric's links that another process made during a run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vm::VmId;

/// A change of one of the run's links that the run did not make itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkEvent {
    /// The link's name, such as `tap1` or `br0`.
    pub link: String,
    /// The VM whose port it is; `None` for a bridge or a link between two bridges.
    pub vm: Option<VmId>,
    /// The change.
    pub change: LinkFate,
}

/// A change of a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum LinkFate {
    /// It was deleted.
    Deleted,
    /// It was moved to another network namespace.
    Moved,
    /// It was set down.
    Down,
    /// It was set up again.
    Up,
    /// It has no carrier any more: the other end is down, or nothing is connected.
    CarrierLost,
    /// It has a carrier again.
    CarrierBack,
    /// It was removed from this bridge.
    Left {
        /// The bridge's name.
        bridge: String,
    },
    /// It was made a port of this bridge.
    Joined {
        /// The bridge's name.
        bridge: String,
    },
}

impl fmt::Display for LinkFate {
    /// Formats the change as the predicate of a sentence that begins with the link's name: `was set down`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkFate::Deleted => f.write_str("was deleted"),
            LinkFate::Moved => f.write_str("was moved to another namespace"),
            LinkFate::Down => f.write_str("was set down"),
            LinkFate::Up => f.write_str("was set up again"),
            LinkFate::CarrierLost => f.write_str("lost its carrier"),
            LinkFate::CarrierBack => f.write_str("has its carrier again"),
            LinkFate::Left { bridge } => write!(f, "was removed from {bridge}"),
            LinkFate::Joined { bridge } => write!(f, "was added to {bridge}"),
        }
    }
}
