//! The port of one VM: its TAP, and what its queue could not hold.

use super::super::error::SystemError;
use super::super::filter::FilterKind;
use super::super::overflow::{Reading, overflows};
use super::super::tap::Tap;
use super::TapFabric;
use crate::fabric::Read;
use crate::vm::VmId;

/// The port of one VM.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) tap: Tap,
    /// The bridge that it is on, as `Bridges::choose` says.
    pub(super) place: usize,
    /// Frames read since the queue was found empty, those apart that were read where they had just been written.
    pub(super) row: u32,
    /// The most that ever was.
    longest_row: u32,
}

impl Port {
    pub(super) fn new(tap: Tap, place: usize) -> Port {
        Port {
            tap,
            place,
            row: 0,
            longest_row: 0,
        }
    }

    /// Takes note that a frame was read from the queue.
    #[inline]
    pub(super) fn count_read(&mut self) {
        self.row = self.row.saturating_add(1);
        self.longest_row = self.longest_row.max(self.row);
    }

    /// Reads what is left, at most `length` frames, for the sake of the count.
    fn read_all(&mut self, length: u32) {
        let mut cut_off = [0; 1];
        for _ in 0..length {
            if !matches!(self.tap.read(&mut cut_off), Read::Frame(_)) {
                return;
            }
            self.count_read();
        }
    }
}

impl TapFabric {
    /// How many frames each VM did not get because its TAP's queue was full, read for all of them at once. To be asked
    /// at the end of a run: what lies unread in a queue is lost by it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn queue_drops(&mut self) -> Result<Vec<(VmId, u64)>, SystemError> {
        let links = self.netlink.links()?;
        // What the shared one drops comes to no counter.
        let is_blurred = self.filter_kind() == FilterKind::Classic;
        let mut found = Vec::with_capacity(self.taps.len());
        for link in &links {
            let Some(vm) = self.lab.tap_index(&link.name).map(VmId) else {
                continue;
            };
            let Some(Some(port)) = self.taps.get_mut(vm.index()) else {
                continue;
            };
            if link.tx_dropped > 0 && is_blurred {
                port.read_all(link.tx_queue_length);
            }
            let reading = Reading {
                tx_dropped: link.tx_dropped,
                queue_length: link.tx_queue_length,
                longest_row: port.longest_row,
            };
            found.push((vm, reading));
        }
        found.sort_unstable_by_key(|(vm, _)| *vm);
        let readings: Vec<Reading> = found.iter().map(|(_, reading)| *reading).collect();
        let overflows = overflows(&readings, is_blurred);
        Ok(found.iter().map(|(vm, _)| *vm).zip(overflows).collect())
    }
}
