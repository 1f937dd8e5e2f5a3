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

/// The kind of a [`Move`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The VM starts.
    Start,
    /// The VM stops.
    Stop,
}

/// The scheduled start or stop of a VM during a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// Time since the start of the phase.
    pub after: Duration,
    /// The VM.
    pub vm: VmId,
    /// Start or stop.
    pub change: Change,
}

/// The result of [`Hypervisor::make_move`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moved {
    /// This VM started.
    Started(VmId),
    /// These VMs stopped.
    Stopped(Vec<VmId>),
}

/// A VM that starts later.
#[derive(Debug)]
struct Newcomer {
    config: VmConfig,
    /// Its static neighbours.
    neighbours: Vec<(IpAddr, MacAddr)>,
    /// The groups that it joins.
    groups: Vec<IpAddr>,
}

/// Scheduled starts and stops, and the flows that wait for a start.
#[derive(Debug, Default)]
pub(super) struct Moves {
    newcomers: FxHashMap<VmId, Newcomer>,
    /// The starts and stops to come, the earliest first.
    due: VecDeque<(Instant, VmId, Change)>,
    /// Flows of which at least one VM does not exist yet.
    awaited: BTreeMap<FlowId, FlowConfig>,
    awaited_of: FxHashMap<VmId, Vec<FlowId>>,
}

impl Moves {
    pub(super) fn begin(&mut self, at: Instant, moves: &[Move]) {
        // Those left over from an earlier phase are due before all of these.
        let moves = moves.iter().map(|m| (at + m.after, m.vm, m.change));
        self.due.extend(moves);
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
    pub(super) fn is_awaited(&self, flow: &FlowConfig) -> bool {
        let is_newcomer = |vm| self.newcomers.contains_key(&vm);
        !self.newcomers.is_empty()
            && (is_newcomer(flow.source) || flow.target.is_some_and(is_newcomer))
    }

    pub(super) fn await_flow(&mut self, id: FlowId, flow: FlowConfig) {
        for vm in [Some(flow.source), flow.target].into_iter().flatten() {
            self.awaited_of.entry(vm).or_default().push(id);
        }
        self.awaited.insert(id, flow);
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
    /// Declares a VM that a phase's [`Move`] starts. To be called before the flows from and to it are added.
    pub fn expect_vm(&mut self, id: VmId, config: VmConfig) {
        // Its id is in use from now on.
        if self.guests.len() <= id.index() {
            self.guests.resize_with(id.index() + 1, || None);
        }
        let newcomer = Newcomer {
            config,
            neighbours: Vec::new(),
            groups: Vec::new(),
        };
        self.moves.newcomers.insert(id, newcomer);
    }

    /// Adds a static neighbour entry, `address` at `mac`, to a VM; to one that starts later, at its start.
    pub fn tell_neighbour(&mut self, vm: VmId, address: IpAddr, mac: MacAddr) {
        if let Some(newcomer) = self.moves.newcomers.get_mut(&vm) {
            newcomer.neighbours.push((address, mac));
        } else if let Some(vm) = self.vm_mut(vm) {
            vm.add_neighbour(address, mac);
        }
    }

    /// Makes a VM join a multicast group, and report it from `at` on; one that starts later joins at its start.
    pub fn join_group(&mut self, at: Instant, vm: VmId, group: IpAddr) {
        if let Some(newcomer) = self.moves.newcomers.get_mut(&vm) {
            newcomer.groups.push(group);
        } else if let Some(joining) = self.vm_mut(vm) {
            joining.join_group(at, group);
            self.set_rx_filter(vm);
            self.schedule(vm);
        }
    }

    /// Returns true if VMs are still to start or to stop in the present phase.
    pub fn has_moves(&self) -> bool {
        !self.moves.are_done()
    }

    /// Performs the next start or stop that is due at `now`. `None` when none is due. VMs that are due to stop do so in
    /// one call, because that takes hardly longer than one stop.
    ///
    /// # Errors
    /// If the fabric can't create or remove a port.
    pub fn make_move(&mut self, now: Instant) -> Result<Option<Moved>, F::Error> {
        match self.moves.due.front() {
            Some(&(at, vm, Change::Start)) if at <= now => {
                self.moves.due.pop_front();
                self.start_vm(now, vm)?;
                self.fabric.tell(now, &Notice::Started(vm, ""));
                Ok(Some(Moved::Started(vm)))
            }
            Some(&(at, _, Change::Stop)) if at <= now => {
                let leaving = self.moves.leaving(now);
                self.remove_vms(now, &leaving)?;
                for vm in &leaving {
                    self.fabric.tell(now, &Notice::Stopped(*vm));
                }
                Ok(Some(Moved::Stopped(leaving)))
            }
            _ => Ok(None),
        }
    }

    fn start_vm(&mut self, now: Instant, id: VmId) -> Result<(), F::Error> {
        let Some(newcomer) = self.moves.newcomers.remove(&id) else {
            return Ok(());
        };
        self.create_vm_as(id, now, newcomer.config)?;
        for (address, mac) in newcomer.neighbours {
            self.tell_neighbour(id, address, mac);
        }
        for group in newcomer.groups {
            self.join_group(now, id, group);
        }
        self.member_changed(now, id);
        self.wake_flows(now, id);
        Ok(())
    }

    /// Begins the flows that waited for nothing but `vm` to exist and to have an address.
    pub(super) fn wake_flows(&mut self, now: Instant, vm: VmId) {
        let is_ready = |guests: &[Option<super::Guest>], vm: VmId| {
            let guest = guests.get(vm.index()).and_then(Option::as_ref);
            guest.is_some_and(|guest| !guest.is_configuring)
        };
        if self.moves.awaited.is_empty() || !is_ready(&self.guests, vm) {
            return;
        }
        for id in self.moves.awaited_of.remove(&vm).unwrap_or_default() {
            let Some(mut flow) = self.moves.awaited.get(&id).copied() else {
                continue;
            };
            let ends = [Some(flow.source), flow.target].into_iter().flatten();
            if !ends.clone().all(|vm| is_ready(&self.guests, vm)) {
                continue;
            }
            self.moves.awaited.remove(&id);
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
