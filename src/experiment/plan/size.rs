//! The size of a plan, checked against the free memory before lists are made.

use crate::experiment::{Experiment, Processes, SettingError};
use crate::system::available_bytes;

/// Most VMs of a plan: more than leaf bridges around a spine have ports for.
pub(super) const MOST_VMS: u32 = 1 << 20;

/// Bytes that a flow takes in a run: plan, session, schedule, figures (`tests/allocations.rs`).
pub const BYTES_PER_FLOW: u64 = 1_000;
/// Bytes that a flow of another rank takes while the plan is divided.
const BYTES_PER_FLOW_OF_OTHERS: u64 = 100;
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
    /// Flows of which it is not known yet whether another rank has them: as if it had.
    pub(super) undivided: u64,
    pub(super) phases: u64,
    pub(super) processes: Processes,
}

impl Size {
    fn bytes(self) -> u64 {
        let tap = if self.are_simulated { 0 } else { BYTES_PER_TAP };
        [
            (self.vms, BYTES_PER_VM + tap),
            (self.flows, BYTES_PER_FLOW),
            (self.undivided, BYTES_PER_FLOW_OF_OTHERS),
            (
                self.phases.saturating_mul(self.processes()),
                BYTES_PER_PHASE,
            ),
        ]
        .into_iter()
        .map(|(number, bytes)| number.saturating_mul(bytes))
        .fold(0, u64::saturating_add)
    }

    fn processes(self) -> u64 {
        match self.processes {
            Processes::One | Processes::Rank(_) => 1,
            Processes::All(ranks) => u64::from(ranks),
        }
    }

    /// Makes sure that a run of this has room in `free` bytes of memory; `None` for unknown.
    pub(super) fn check(self, free: Option<u64>) -> Result<(), SettingError> {
        let Size { vms, phases, .. } = self;
        let flows = self.flows.saturating_add(self.undivided);
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
        let who = match self.processes {
            Processes::One | Processes::All(_) => String::new(),
            Processes::Rank(rank) => format!("rank {rank}: "),
        };
        Err(SettingError::new(format_args!(
            "{who}{vms} VMs{flows}{phases} take {:.1} GB of memory; expected no more than the {:.1} GB that are free",
            gigabytes(self.bytes()),
            gigabytes(free)
        )))
    }
}

impl Experiment {
    /// Makes sure that the part of a rank has room in the memory of this machine, now that it is known which flows are its own.
    ///
    /// # Errors
    /// If it has not.
    pub fn check_room(&self) -> Result<(), SettingError> {
        let rank = self.part.as_ref().map(|part| part.rank);
        let size = Size {
            vms: self.own_vms() as u64,
            are_simulated: self.is_simulated,
            flows: self.flows.len() as u64,
            undivided: 0,
            phases: self.phases.len() as u64,
            processes: rank.map_or(Processes::One, Processes::Rank),
        };
        size.check(available_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::Rank;

    #[test]
    fn what_has_no_room_is_refused_with_its_size() {
        let mesh = Size {
            vms: 10_000,
            are_simulated: false,
            flows: 99_990_000,
            undivided: 0,
            phases: 1,
            processes: Processes::One,
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

    #[test]
    fn of_a_plan_of_many_machines_a_rank_counts_its_own_part() {
        let rank = Rank::new(7, 3_200).unwrap();
        let part = Size {
            vms: u64::from(Processes::Rank(rank).vms_of(960_000, &[])),
            are_simulated: false,
            flows: 0,
            undivided: 480_000,
            phases: 1,
            processes: Processes::Rank(rank),
        };
        assert_eq!(part.vms, 300);
        assert!(part.check(Some(100_000_000)).is_ok());
        let error = part.check(Some(50_000_000)).unwrap_err().to_string();
        assert_eq!(
            error,
            "rank 7/3200: 300 VMs with 480000 flows take 0.1 GB of memory; expected no more than the 0.1 GB that are free"
        );
        // The ranks of one machine take what they take together, and each has histograms of its own.
        let ranks = |number| Size {
            vms: 960_000,
            flows: 480_000,
            undivided: 0,
            processes: Processes::All(number),
            ..part
        };
        let both = ranks(32).bytes() - ranks(1).bytes();
        assert_eq!(both, 31 * BYTES_PER_PHASE);
        assert!(ranks(32).check(Some(90_000_000_000)).is_err());
    }
}
