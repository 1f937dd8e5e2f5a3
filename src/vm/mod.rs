//! The state machine of one VM. Pure: no file descriptor, no clock, no log.

/// A VM's index: `vm0` is the first one made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VmId(pub u32);

impl VmId {
    /// The index into a table of VMs.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for VmId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vm{}", self.0)
    }
}
