//! The port of one VM: its TAP, and what its queue could not hold.

use super::super::drops::{Reading, overflows};
use super::super::error::SystemError;
use super::super::filter::FilterKind;
use super::super::netlink::link::Link;
use super::super::tap::Tap;
use super::TapFabric;
use crate::fabric::Read;
use crate::vm::VmId;
use crate::wire::MacAddr;

/// So many links are looked up one by one; to list all takes as long as a hundred of that, of very many longer.
const FEW: usize = 32;

/// The port of one VM.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) tap: Tap,
    /// The number by which the kernel knows the link in the namespace that it is in.
    pub(super) index: u32,
    /// The hardware address of the VM's interface, which is not that of the TAP.
    pub(super) mac: MacAddr,
    /// Frames read since the queue was found empty, those apart that were read where they had just been written.
    pub(super) row: u32,
    /// The most that ever was.
    longest_row: u32,
    /// The kernel's counter of drops when the run had just got the TAP, which may have a past.
    dropped_before: u64,
}

impl Port {
    pub(super) fn new(tap: Tap, index: u32, mac: MacAddr, dropped_before: u64) -> Port {
        Port {
            tap,
            index,
            mac,
            row: 0,
            longest_row: 0,
            dropped_before,
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
    /// How many frames each VM did not get because its TAP's queue was full, in the run and up to now, read for all of them
    /// at once; of those that have left, until they did. To be asked at the end of a run: what lies unread in a queue is
    /// lost by it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn queue_drops(&mut self) -> Result<Vec<(VmId, u64)>, SystemError> {
        let mut links = self.netlink.links()?;
        links.extend(self.moves.links()?);
        let mut found = self.departed.clone();
        found.extend(links.iter().filter_map(|link| self.reading(link)));
        found.sort_by_key(|(vm, _)| *vm);
        let readings: Vec<Reading> = found.iter().map(|(_, reading)| *reading).collect();
        let mut drops: Vec<(VmId, u64)> = Vec::with_capacity(found.len());
        for ((vm, _), overflow) in found.iter().zip(overflows(&readings, self.is_blurred())) {
            match drops.last_mut() {
                Some((last, frames)) if last == vm => *frames += overflow,
                _ => drops.push((*vm, overflow)),
            }
        }
        Ok(drops)
    }

    /// Keeps what the counters of `vms` say, whose TAPs are about to go.
    pub(super) fn keep_counters(&mut self, vms: &[VmId]) -> Result<(), SystemError> {
        let links = if vms.len() <= FEW {
            let mut links = Vec::with_capacity(vms.len());
            for vm in vms {
                let name = self.lab.tap_name(vm.0);
                links.extend(self.moves.netlink_of(*vm, &mut self.netlink).link(&name)?);
            }
            links
        } else {
            let mut links = self.netlink.links()?;
            links.extend(self.moves.links()?);
            links
        };
        for link in &links {
            let reading = self.reading(link).filter(|(vm, _)| vms.contains(vm));
            self.departed.extend(reading);
        }
        Ok(())
    }

    /// The reading of the queue of a link; `None` unless it is the TAP of a VM.
    fn reading(&mut self, link: &Link) -> Option<(VmId, Reading)> {
        let is_blurred = self.is_blurred();
        let vm = VmId(self.lab.tap_index(&link.name)?);
        let port = self.taps.get_mut(vm.index())?.as_mut()?;
        let tx_dropped = link.tx_dropped.saturating_sub(port.dropped_before);
        if tx_dropped > 0 && is_blurred {
            port.read_all(link.tx_queue_length);
        }
        let reading = Reading {
            tx_dropped,
            queue_length: link.tx_queue_length,
            longest_row: port.longest_row,
        };
        Some((vm, reading))
    }

    /// Returns true if a counter holds the drops of a filter beside those of the queue. The shared filter's drops come to no
    /// counter.
    fn is_blurred(&self) -> bool {
        self.filter_kind() == FilterKind::Classic
    }
}
