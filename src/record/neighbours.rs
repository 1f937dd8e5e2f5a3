//! The search for neighbours before anything is sent to them.

use serde::{Deserialize, Serialize};

/// What became of the search for neighbours before the first phase of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
