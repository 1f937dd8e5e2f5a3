//! VMs that come up and leave while others ping.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{FlowConfig, Hypervisor};
use crate::fabric::Fabric;
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{VmConfig, VmId};
use crate::wire::MacAddr;

/// What becomes of a VM in the course of a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It comes up.
    Start,
    /// It leaves.
    Stop,
}

/// That a VM comes up or leaves in the course of a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// How long after the phase's beginning.
    pub after: Duration,
    /// The VM.
    pub vm: VmId,
    /// What becomes of it.
    pub change: Change,
}

/// What [`Hypervisor::make_move`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moved {
    /// This VM came up.
    Started(VmId),
    /// These left.
    Stopped(Vec<VmId>),
}

/// A VM that is to come up later.
#[derive(Debug)]
struct Newcomer {
    config: VmConfig,
    /// Neighbours that it is told beforehand.
    neighbours: Vec<(IpAddr, MacAddr)>,
}

/// Who comes and goes, and the flows that wait for that.
#[derive(Debug, Default)]
pub(super) struct Moves {
    newcomers: FxHashMap<VmId, Newcomer>,
    /// What is to be done, the earliest first.
    due: VecDeque<(Instant, VmId, Change)>,
    /// Flows of which at least one end is not there.
    awaited: BTreeMap<FlowId, FlowConfig>,
    awaited_of: FxHashMap<VmId, Vec<FlowId>>,
}

impl Moves {
    pub(super) fn begin(&mut self, at: Instant, moves: &[Move]) {
        // What an earlier phase has left undone is earlier than all of these.
        let moves = moves.iter().map(|m| (at + m.after, m.vm, m.change));
        self.due.extend(moves);
    }

    /// Has nothing to do any more.
    pub(super) fn stop(&mut self) {
        self.due.clear();
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.front().map(|(at, ..)| *at)
    }

    pub(super) fn are_done(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether an end of a flow is to come up later.
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

    /// The VMs that are to leave by `now`, as far as nobody comes up before them.
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
    /// Announces a VM that comes up by a phase's [`Move`]. To be called before flows are added that wait for it.
    pub fn expect_vm(&mut self, id: VmId, config: VmConfig) {
        // Its number is taken from now on.
        if self.guests.len() <= id.index() {
            self.guests.resize_with(id.index() + 1, || None);
        }
        let newcomer = Newcomer {
            config,
            neighbours: Vec::new(),
        };
        self.moves.newcomers.insert(id, newcomer);
    }

    /// Tells a VM beforehand that its neighbour `address` is at `mac`, one that is still to come up at its start.
    pub fn tell_neighbour(&mut self, vm: VmId, address: IpAddr, mac: MacAddr) {
        if let Some(newcomer) = self.moves.newcomers.get_mut(&vm) {
            newcomer.neighbours.push((address, mac));
        } else if let Some(vm) = self.vm_mut(vm) {
            vm.add_neighbour(address, mac);
        }
    }

    /// Whether VMs of the present phase are still to come up or to leave.
    pub fn has_moves(&self) -> bool {
        !self.moves.are_done()
    }

    /// Does the next move that is due at `now`. `None` when none is. VMs that are to leave do so together, because that
    /// takes hardly longer than one.
    ///
    /// # Errors
    /// When the fabric refuses.
    pub fn make_move(&mut self, now: Instant) -> Result<Option<Moved>, F::Error> {
        match self.moves.due.front() {
            Some(&(at, vm, Change::Start)) if at <= now => {
                self.moves.due.pop_front();
                self.start_vm(now, vm)?;
                Ok(Some(Moved::Started(vm)))
            }
            Some(&(at, _, Change::Stop)) if at <= now => {
                let leaving = self.moves.leaving(now);
                self.remove_vms(now, &leaving)?;
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
        self.wake_flows(now, id);
        Ok(())
    }

    /// Has flows begin that waited for `vm` only: for it to be there, and to have an address.
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
                && let Some(address) = flow.target.and_then(|vm| self.vm(vm)?.address())
            {
                flow.session.destination = address.into();
            }
            if let Some(ping) = self.open_flow(id, &flow)
                && let Some(state) = self.flows.get_mut(id.index())
            {
                state.ping = Some(ping);
                if !self.resolution.admit(id) {
                    self.load.wake(now, id);
                }
            }
        }
    }
}
