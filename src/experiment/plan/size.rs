//! The size of a plan, checked against the free memory before lists are made.

use crate::experiment::SettingError;

/// Most VMs of a plan: more than leaf bridges around a spine have ports for.
pub(super) const MOST_VMS: u32 = 1 << 20;

/// Bytes that a flow takes in a run: plan, session, schedule, figures (`tests/allocations.rs`).
pub const BYTES_PER_FLOW: u64 = 1_000;
/// Bytes that a VM takes: its state, and its neighbours.
pub const BYTES_PER_VM: u64 = 1_024;
/// Bytes that the kernel takes for a TAP.
const BYTES_PER_TAP: u64 = 100_000;
/// Bytes that the histograms of a phase take.
pub const BYTES_PER_PHASE: u64 = 1_150_000;

/// The numbers of the things that take memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Size {
    pub(super) vms: u64,
    pub(super) are_simulated: bool,
    pub(super) flows: u64,
    pub(super) phases: u64,
}

impl Size {
    fn bytes(self) -> u64 {
        let tap = if self.are_simulated { 0 } else { BYTES_PER_TAP };
        [
            (self.vms, BYTES_PER_VM + tap),
            (self.flows, BYTES_PER_FLOW),
            (self.phases, BYTES_PER_PHASE),
        ]
        .into_iter()
        .map(|(number, bytes)| number.saturating_mul(bytes))
        .fold(0, u64::saturating_add)
    }

    /// Makes sure that a run of this has room in `free` bytes of memory; `None` for unknown.
    pub(super) fn check(self, free: Option<u64>) -> Result<(), SettingError> {
        let Size {
            vms, flows, phases, ..
        } = self;
        if flows > u64::from(u32::MAX) {
            let most = u32::MAX;
            let why = format_args!("ping: {flows} flows; expected no more than {most}");
            return Err(SettingError::new(why));
        }
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let Some(free) = free.filter(|free| *free < self.bytes()) else {
            return Ok(());
        };
        let flows = match flows {
            0 => String::new(),
            flows => format!(" with {flows} flows"),
        };
        let phases = match phases {
            0 | 1 => String::new(),
            phases => format!(" in {phases} phases"),
        };
        Err(SettingError::new(format_args!(
            "{vms} VMs{flows}{phases} take {:.1} GB of memory; expected no more than the {:.1} GB that are free",
            gigabytes(self.bytes()),
            gigabytes(free)
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_refused_with_its_size() {
        let mesh = Size {
            vms: 10_000,
            are_simulated: false,
            flows: 99_990_000,
            phases: 1,
        };
        let error = mesh.check(Some(8_000_000_000)).unwrap_err().to_string();
        assert_eq!(
            error,
            "10000 VMs with 99990000 flows take 101.0 GB of memory; expected no more than the 8.0 GB that are free"
        );
        assert!(mesh.check(Some(102_000_000_000)).is_ok());
        assert!(mesh.check(None).is_ok());
        let numbered = Size {
            flows: 1 << 32,
            ..mesh
        };
        assert!(numbered.check(None).is_err());
    }
}
