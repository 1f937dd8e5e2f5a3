//! Flows: who pings whom, and when a ping is due. Pure: no file descriptor, no clock, no log.

/// A flow's index: one source pinging one destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub u32);

impl FlowId {
    /// The index into a table of flows.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
