//! The VMs behind one port, by what they accept, and those of them that one frame is for.

use rustc_hash::FxHashMap;

use crate::fabric::RxIndex;
use crate::vm::{RxFilter, VmId};
use crate::wire::{EthernetFrame, MacAddr};

/// The VMs behind a port.
#[derive(Debug)]
pub(super) struct Stations {
    by_mac: FxHashMap<MacAddr, VmId>,
    macs: FxHashMap<VmId, MacAddr>,
    /// Finds those that accept what is for several. `None` if all of them get it.
    index: Option<RxIndex>,
}

/// The VMs that a frame is for, in order, each until it has it.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    vms: Vec<VmId>,
    next: usize,
}

impl Recipients {
    /// The next one.
    #[inline]
    pub(super) fn next(&self) -> Option<VmId> {
        self.vms.get(self.next).copied()
    }

    /// The next one has the frame, or is gone.
    #[inline]
    pub(super) fn pass(&mut self) {
        self.next += 1;
    }

    /// It is for none.
    pub(super) fn clear(&mut self) {
        self.vms.clear();
        self.next = 0;
    }
}

impl Stations {
    /// None yet. With `filters` they get nothing that their network cards would drop.
    pub(super) fn new(filters: bool) -> Stations {
        Stations {
            by_mac: FxHashMap::default(),
            macs: FxHashMap::default(),
            index: filters.then(RxIndex::default),
        }
    }

    /// The VM with that address.
    #[inline]
    pub(super) fn of(&self, mac: MacAddr) -> Option<VmId> {
        self.by_mac.get(&mac).copied()
    }

    pub(super) fn add(&mut self, vm: VmId, rx_filter: &RxFilter) {
        self.remove(vm);
        self.by_mac.insert(rx_filter.mac, vm);
        self.macs.insert(vm, rx_filter.mac);
        if let Some(index) = &mut self.index {
            index.add(vm, rx_filter);
        }
    }

    pub(super) fn remove(&mut self, vm: VmId) {
        if let Some(mac) = self.macs.remove(&vm)
            && self.of(mac) == Some(vm)
        {
            self.by_mac.remove(&mac);
        }
        if let Some(index) = &mut self.index {
            index.remove(vm);
        }
    }

    pub(super) fn has(&self, vm: VmId) -> bool {
        self.macs.contains_key(&vm)
    }

    /// Finds the VMs that `frame` is for, but for its sender: one by its address, or those that accept what is for several.
    #[inline]
    pub(super) fn find(&self, frame: &[u8], recipients: &mut Recipients) {
        recipients.clear();
        let Some((destination, source)) = addresses(frame) else {
            return;
        };
        match destination.is_multicast() {
            false => recipients.vms.extend(self.of(destination)),
            true => self.find_several(frame, source, recipients),
        }
    }

    #[cold]
    fn find_several(&self, frame: &[u8], source: MacAddr, recipients: &mut Recipients) {
        let sender = self.of(source);
        let vms = &mut recipients.vms;
        let parsed = EthernetFrame::parse(frame).ok();
        let listeners = self.index.as_ref().zip(parsed);
        match listeners.map(|(index, frame)| index.listeners(&frame)) {
            Some(Some(listeners)) => vms.extend(listeners),
            _ => {
                vms.extend(self.macs.keys());
                vms.sort_unstable();
            }
        }
        vms.retain(|vm| Some(*vm) != sender);
    }
}

/// The destination and the source of a frame.
#[inline]
pub(super) fn addresses(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let (destination, rest) = frame.split_first_chunk()?;
    Some((MacAddr(*destination), MacAddr(*rest.first_chunk()?)))
}
