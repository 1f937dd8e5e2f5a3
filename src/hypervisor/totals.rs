//! Totals over all VMs: the VMs without an address, the destinations of flows, and the memory that fragments take.

use std::net::IpAddr;

use super::{Hypervisor, MAX_FRAGMENT_BYTES};
use crate::fabric::Fabric;
use crate::record::DropReason;
use crate::time::Instant;
use crate::vm::VmId;

impl<F: Fabric> Hypervisor<F> {
    /// Updates the number of VMs that have no address yet.
    pub(super) fn count_configuring(&mut self, vm: VmId) {
        let Some(Some(slot)) = self.slots.get_mut(vm.index()) else {
            return;
        };
        let is_configuring = slot.vm.is_configuring();
        let was_configuring = std::mem::replace(&mut slot.is_configuring, is_configuring);
        self.configuring += usize::from(is_configuring);
        self.configuring -= usize::from(was_configuring);
    }

    /// Tells what has happened to the TCP connections that `vm` has opened.
    pub(super) fn count_connections(&mut self, now: Instant, vm: VmId) {
        let slot = self.slots.get_mut(vm.index()).and_then(Option::as_mut);
        if let Some(counts) = slot.and_then(|slot| slot.vm.take_connection_counts()) {
            self.recorder.connections_changed(now, counts);
        }
    }

    /// Sends the pings to `vm`, those of that IP version, to `address`, its new address, from now on.
    pub(super) fn redirect_flows(&mut self, vm: VmId, address: IpAddr) {
        let Some(Some(target)) = self.slots.get_mut(vm.index()) else {
            return;
        };
        let flows = std::mem::take(&mut target.targeted_by);
        for flow in &flows {
            let Some(owner) = self.flows.get(flow.index()).and_then(|flow| flow.ping) else {
                continue;
            };
            if let Some(Some(source)) = self.slots.get_mut(owner.vm.index()) {
                source.vm.redirect(owner.session, address);
            }
        }
        if let Some(Some(target)) = self.slots.get_mut(vm.index()) {
            target.targeted_by = flows;
        }
        self.redirect_streams(vm, address);
    }

    /// Updates the number of bytes of fragments that the VMs hold. A VM that exceeds [`MAX_FRAGMENT_BYTES`], the bound for
    /// all of them, loses its incomplete datagrams.
    pub(super) fn bound_fragments(&mut self, vm: VmId) {
        let Some(Some(slot)) = self.slots.get_mut(vm.index()) else {
            return;
        };
        let mut bytes = slot.vm.fragment_bytes();
        if bytes == slot.fragment_bytes {
            return;
        }
        if self.fragment_bytes - slot.fragment_bytes + bytes > MAX_FRAGMENT_BYTES {
            let datagrams = slot.vm.drop_fragments() as u64;
            self.recorder
                .dropped_many(DropReason::ReassemblyFull, datagrams);
            bytes = slot.vm.fragment_bytes();
        }
        self.fragment_bytes = self.fragment_bytes - slot.fragment_bytes + bytes;
        slot.fragment_bytes = bytes;
    }

    /// Updates the receive filter of a VM that has gained or lost an address.
    pub(super) fn set_rx_filter(&mut self, vm: VmId) {
        if let Some(Some(slot)) = self.slots.get(vm.index()) {
            // If it fails, the old filter drops ARP requests for a new address: its pings count as unresolved.
            let rx_filter = slot.vm.rx_filter();
            let _ = self.fabric.set_rx_filter(vm, &rx_filter);
            self.fabric.set_station(vm, slot.vm.station());
        }
    }
}
