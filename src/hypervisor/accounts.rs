//! What is kept of all VMs together: who has no address yet, who goes to whom, and how much memory fragments take.

use std::net::Ipv4Addr;

use super::{Hypervisor, MAX_FRAGMENT_BYTES};
use crate::fabric::Fabric;
use crate::record::DropReason;
use crate::vm::VmId;

impl<F: Fabric> Hypervisor<F> {
    /// Keeps the account of the VMs that have no address yet.
    pub(super) fn count_configuring(&mut self, vm: VmId) {
        let Some(Some(guest)) = self.guests.get_mut(vm.index()) else {
            return;
        };
        let is_configuring = guest.vm.is_configuring();
        let was_configuring = std::mem::replace(&mut guest.is_configuring, is_configuring);
        self.configuring += usize::from(is_configuring);
        self.configuring -= usize::from(was_configuring);
    }

    /// Has the pings to `vm` go to the address that it has from now on.
    pub(super) fn redirect_flows(&mut self, vm: VmId, address: Ipv4Addr) {
        let Some(Some(target)) = self.guests.get_mut(vm.index()) else {
            return;
        };
        let flows = std::mem::take(&mut target.targeted_by);
        for flow in &flows {
            let Some(owner) = self.flows.get(flow.index()).and_then(|flow| flow.ping) else {
                continue;
            };
            if let Some(Some(source)) = self.guests.get_mut(owner.vm.index()) {
                source.vm.redirect(owner.session, address.into());
            }
        }
        if let Some(Some(target)) = self.guests.get_mut(vm.index()) {
            target.targeted_by = flows;
        }
    }

    /// Keeps the account of the fragments that VMs hold. The VM that goes beyond the bound for all of them loses those
    /// that wait for others.
    pub(super) fn bound_fragments(&mut self, vm: VmId) {
        let Some(Some(guest)) = self.guests.get_mut(vm.index()) else {
            return;
        };
        let mut bytes = guest.vm.fragment_bytes();
        if bytes == guest.fragment_bytes {
            return;
        }
        if self.fragment_bytes - guest.fragment_bytes + bytes > MAX_FRAGMENT_BYTES {
            let datagrams = guest.vm.drop_fragments() as u64;
            self.recorder
                .dropped_many(DropReason::ReassemblyFull, datagrams);
            bytes = guest.vm.fragment_bytes();
        }
        self.fragment_bytes = self.fragment_bytes - guest.fragment_bytes + bytes;
        guest.fragment_bytes = bytes;
    }

    /// Tells the fabric what a VM listens to that has got or lost an address.
    pub(super) fn tune(&mut self, vm: VmId) {
        if let Some(Some(guest)) = self.guests.get(vm.index()) {
            // Where that fails the VM does without: others can't resolve its address, which shows in the figures.
            let _ = self.fabric.tune(vm, &guest.vm.rx_filter());
        }
    }
}
