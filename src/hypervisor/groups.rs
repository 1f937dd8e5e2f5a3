//! The members of multicast groups that flows ping: the VMs that are expected to answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::{Hypervisor, PingOwner};
use crate::fabric::Fabric;
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{MemberId, SessionId, Vm, VmId};

/// The expected members of each flow to a group; their [`MemberId`]s count them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: BTreeMap<FlowId, Vec<VmId>>,
    flows_of: FxHashMap<VmId, Vec<(FlowId, MemberId)>>,
}

impl Groups {
    /// The expected member with that number.
    pub(super) fn get(&self, flow: FlowId, member: MemberId) -> Option<VmId> {
        let members = self.members.get(&flow)?;
        members.get(member.0 as usize).copied()
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Expects `members` to answer the pings of `flow`, to a multicast group, while they exist. To be called when the flow
    /// is added. A ping is over when all of them have answered; the others' answers count as lost after the timeout.
    pub fn expect_members(&mut self, flow: FlowId, members: Vec<VmId>) {
        for (number, vm) in (0..).map(MemberId).zip(&members) {
            let flows = self.groups.flows_of.entry(*vm).or_default();
            flows.push((flow, number));
        }
        self.groups.members.insert(flow, members);
        self.tell_members(flow);
    }

    /// Tells the session of `flow`, if it is open, of the members that it is to expect.
    pub(super) fn tell_members(&mut self, flow: FlowId) {
        let Some(members) = self.groups.members.get(&flow) else {
            return;
        };
        let Some(owner) = self.flows.get(flow.index()).and_then(|flow| flow.ping) else {
            return;
        };
        let members = members.clone();
        if let Some(source) = self.vm_mut(owner.vm) {
            source.expect_members(owner.session, members.len());
        }
        for (number, vm) in (0..).map(MemberId).zip(members) {
            if self.vm(vm).is_some() {
                self.tell_member(owner, number, vm, Some(Instant::ZERO));
            }
        }
    }

    /// Tells the sessions that expect `vm` to answer that its state has changed at `now`. One that starts during the run is
    /// expected to answer once it has its addresses.
    pub(super) fn member_changed(&mut self, now: Instant, vm: VmId) {
        let Some(Some(slot)) = self.slots.get(vm.index()) else {
            return;
        };
        let since = (!slot.is_configuring).then_some(now);
        for (owner, member) in self.sessions_with(vm) {
            self.tell_member(owner, member, vm, since);
        }
    }

    /// Tells the sessions that expect `vm` to answer that it has left.
    pub(super) fn member_left(&mut self, vm: VmId) {
        for (owner, member) in self.sessions_with(vm) {
            if let Some(source) = self.vm_mut(owner.vm) {
                source.member_left(owner.session, member);
            }
        }
        self.groups.flows_of.remove(&vm);
    }

    /// Records the answers to pings of `session` that members still owed when the pings ended.
    #[cold]
    pub(super) fn record_unanswered(&mut self, vm: VmId, session: SessionId, flow: FlowId) {
        let Some(source) = self.vm_mut(vm) else {
            return;
        };
        for (member, due) in source.take_unanswered(session) {
            if let Some(member) = self.groups.get(flow, member) {
                self.recorder().member_lost(flow, member, due);
            }
        }
    }

    fn sessions_with(&self, vm: VmId) -> Vec<(PingOwner, MemberId)> {
        let flows = self.groups.flows_of.get(&vm).into_iter().flatten();
        let sessions = flows.filter_map(|(flow, member)| {
            let owner = self.flows.get(flow.index())?.ping?;
            Some((owner, *member))
        });
        sessions.collect()
    }

    fn tell_member(
        &mut self,
        owner: PingOwner,
        member: MemberId,
        vm: VmId,
        since: Option<Instant>,
    ) {
        let addresses: Vec<IpAddr> = self.vm(vm).into_iter().flat_map(addresses).collect();
        if let Some(source) = self.vm_mut(owner.vm) {
            source.update_member(owner.session, member, since, addresses.into_iter());
        }
    }
}

/// The addresses that `vm` uses.
fn addresses(vm: &Vm) -> impl Iterator<Item = IpAddr> {
    let ipv4 = vm.address().into_iter().map(IpAddr::V4);
    ipv4.chain(vm.ipv6_addresses().map(IpAddr::V6))
}
