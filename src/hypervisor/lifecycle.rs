//! VMs that start and stop during a phase, while others ping.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{FlowConfig, Hypervisor};
use crate::fabric::{Fabric, Notice};
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{VmConfig, VmId};
use crate::wire::MacAddr;

/// The kind of a [`Transition`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The VM starts.
    Start,
    /// The VM stops.
    Stop,
}

/// The scheduled start or stop of a VM during a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transition {
    /// Time since the start of the phase.
    pub after: Duration,
    /// The VM.
    pub vm: VmId,
    /// Start or stop.
    pub change: Change,
}

/// The result of [`Hypervisor::make_transition`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transitioned {
    /// This VM started.
    Started(VmId),
    /// These VMs stopped.
    Stopped(Vec<VmId>),
}

/// A VM that starts later.
#[derive(Debug)]
struct PendingVm {
    config: VmConfig,
    /// Its static neighbours.
    neighbours: Vec<(IpAddr, MacAddr)>,
    /// The groups that it joins.
    groups: Vec<IpAddr>,
}

/// Scheduled starts and stops, and the flows that wait for a start.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    pending_vms: FxHashMap<VmId, PendingVm>,
    /// The starts and stops to come, the earliest first.
    due: VecDeque<(Instant, VmId, Change)>,
    /// Flows of which at least one VM does not exist yet.
    pending_flows: BTreeMap<FlowId, FlowConfig>,
    pending_flows_of: FxHashMap<VmId, Vec<FlowId>>,
}

impl Lifecycle {
    pub(super) fn begin(&mut self, at: Instant, transitions: &[Transition]) {
        // Those left over from an earlier phase are due before all of these.
        let transitions = transitions.iter().map(|m| (at + m.after, m.vm, m.change));
        self.due.extend(transitions);
    }

    /// Cancels all starts and stops to come.
    pub(super) fn stop(&mut self) {
        self.due.clear();
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.front().map(|(at, ..)| *at)
    }

    pub(super) fn are_done(&self) -> bool {
        self.due.is_empty()
    }

    /// Returns true if a VM of the flow starts later.
    pub(super) fn is_pending(&self, flow: &FlowConfig) -> bool {
        let is_pending_vm = |vm| self.pending_vms.contains_key(&vm);
        !self.pending_vms.is_empty()
            && (is_pending_vm(flow.source) || flow.target.is_some_and(is_pending_vm))
    }

    pub(super) fn add_pending_flow(&mut self, id: FlowId, flow: FlowConfig) {
        for vm in [Some(flow.source), flow.target].into_iter().flatten() {
            self.pending_flows_of.entry(vm).or_default().push(id);
        }
        self.pending_flows.insert(id, flow);
    }

    /// Takes the stops due by `now` from the head of the queue, up to the first start. Returns their VMs.
    fn leaving(&mut self, now: Instant) -> Vec<VmId> {
        let mut leaving = Vec::new();
        while let Some((_, vm, Change::Stop)) = self.due.front().filter(|(at, ..)| *at <= now) {
            leaving.push(*vm);
            self.due.pop_front();
        }
        leaving
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Declares a VM that a phase's [`Transition`] starts. To be called before the flows from and to it are added.
    pub fn expect_vm(&mut self, id: VmId, config: VmConfig) {
        // Its id is in use from now on.
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        let pending = PendingVm {
            config,
            neighbours: Vec::new(),
            groups: Vec::new(),
        };
        self.lifecycle.pending_vms.insert(id, pending);
    }

    /// Adds a static neighbour entry, `address` at `mac`, to a VM; to one that starts later, at its start.
    pub fn tell_neighbour(&mut self, vm: VmId, address: IpAddr, mac: MacAddr) {
        if let Some(pending) = self.lifecycle.pending_vms.get_mut(&vm) {
            pending.neighbours.push((address, mac));
        } else if let Some(vm) = self.vm_mut(vm) {
            vm.add_neighbour(address, mac);
        }
    }

    /// Makes a VM join a multicast group, and report it from `at` on; one that starts later joins at its start.
    pub fn join_group(&mut self, at: Instant, vm: VmId, group: IpAddr) {
        if let Some(pending) = self.lifecycle.pending_vms.get_mut(&vm) {
            pending.groups.push(group);
        } else if let Some(joining) = self.vm_mut(vm) {
            joining.join_group(at, group);
            self.set_rx_filter(vm);
            self.schedule(vm);
        }
    }

    /// Returns true if VMs are still to start or to stop in the present phase.
    pub fn has_transitions(&self) -> bool {
        !self.lifecycle.are_done()
    }

    /// Performs the next start or stop that is due at `now`. `None` when none is due. VMs that are due to stop do so in
    /// one call, because that takes hardly longer than one stop.
    ///
    /// # Errors
    /// If the fabric can't create or remove a port.
    pub fn make_transition(&mut self, now: Instant) -> Result<Option<Transitioned>, F::Error> {
        match self.lifecycle.due.front() {
            Some(&(at, vm, Change::Start)) if at <= now => {
                self.lifecycle.due.pop_front();
                self.start_vm(now, vm)?;
                self.fabric.tell(now, &Notice::Started(vm, ""));
                Ok(Some(Transitioned::Started(vm)))
            }
            Some(&(at, _, Change::Stop)) if at <= now => {
                let leaving = self.lifecycle.leaving(now);
                self.remove_vms(now, &leaving)?;
                for vm in &leaving {
                    self.fabric.tell(now, &Notice::Stopped(*vm));
                }
                Ok(Some(Transitioned::Stopped(leaving)))
            }
            _ => Ok(None),
        }
    }

    fn start_vm(&mut self, now: Instant, id: VmId) -> Result<(), F::Error> {
        let Some(pending) = self.lifecycle.pending_vms.remove(&id) else {
            return Ok(());
        };
        self.create_vm_as(id, now, pending.config)?;
        for (address, mac) in pending.neighbours {
            self.tell_neighbour(id, address, mac);
        }
        for group in pending.groups {
            self.join_group(now, id, group);
        }
        self.member_changed(now, id);
        self.wake_flows(now, id);
        Ok(())
    }

    /// Begins the flows that waited for nothing but `vm` to exist and to have an address.
    pub(super) fn wake_flows(&mut self, now: Instant, vm: VmId) {
        let is_ready = |slots: &[Option<super::Slot>], vm: VmId| {
            let slot = slots.get(vm.index()).and_then(Option::as_ref);
            slot.is_some_and(|slot| !slot.is_configuring)
        };
        if self.lifecycle.pending_flows.is_empty() || !is_ready(&self.slots, vm) {
            return;
        }
        for id in self
            .lifecycle
            .pending_flows_of
            .remove(&vm)
            .unwrap_or_default()
        {
            let Some(mut flow) = self.lifecycle.pending_flows.get(&id).copied() else {
                continue;
            };
            let ends = [Some(flow.source), flow.target].into_iter().flatten();
            if !ends.clone().all(|vm| is_ready(&self.slots, vm)) {
                continue;
            }
            self.lifecycle.pending_flows.remove(&id);
            if flow.session.destination.is_unspecified()
                && let Some(target) = flow.target.and_then(|vm| self.vm(vm))
                && let Some(address) = target.leased_address(flow.session.destination)
            {
                flow.session.destination = address;
            }
            if let Some(ping) = self.open_flow(id, &flow)
                && let Some(state) = self.flows.get_mut(id.index())
            {
                state.ping = Some(ping);
                self.tell_members(id);
                if !self.resolution.admit(id) {
                    self.load.wake(now, id);
                }
            }
        }
    }
}
