//! The search for neighbours before anything is sent to them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Result of the search for neighbours before the first phase of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NeighbourSearch {
    /// Neighbours that VMs asked for: who is asked learns the address of the one who asks, and need not ask.
    pub asked: u64,
    /// Those of them that answered.
    pub found: u64,
    /// Those that did not, before the run began.
    pub missing: u64,
    /// How long it took, in nanoseconds.
    pub elapsed_ns: u64,
}

impl NeighbourSearch {
    /// This search and another, one after the other.
    pub fn and(self, other: NeighbourSearch) -> NeighbourSearch {
        NeighbourSearch {
            asked: self.asked.saturating_add(other.asked),
            found: self.found.saturating_add(other.found),
            missing: self.missing.saturating_add(other.missing),
            elapsed_ns: self.elapsed_ns.saturating_add(other.elapsed_ns),
        }
    }
}
