//! VMs that start, stop, move and misbehave during a phase, while others ping.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::moves::Announcing;
use super::{Command, CommandError, FlowConfig, Hypervisor, Phase, Relocation};
use crate::fabric::{Fabric, Notice, SplitPings};
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{Misbehaviour, VmConfig, VmId};
use crate::wire::MacAddr;

/// The kind of a [`Transition`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The VM starts.
    Start,
    /// The VM stops.
    Stop,
}

/// A scheduled misbehaviour of a VM during a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedMisbehaviour {
    /// Time since the start of the phase.
    pub after: Duration,
    /// The VM.
    pub vm: VmId,
    /// What it does.
    pub misbehaviour: Misbehaviour,
    /// For how long; `None`: until the end of the phase.
    pub lasts: Option<Duration>,
}

/// A change that is due to a VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// It starts or stops.
    Presence(Change),
    /// It moves.
    Move(Box<Relocation>),
    /// It announces itself where it has moved to.
    Announce(Announcing),
    /// It misbehaves, for that long or until the end of the phase.
    Misbehave(Misbehaviour, Option<Duration>),
    /// It behaves again.
    Behave,
    /// It misbehaves in another rank, for that long or until the end of the phase.
    MisbehaveElsewhere(Misbehaviour, Option<Duration>),
    /// It behaves again there.
    BehaveElsewhere,
    /// Pings are followed from now on, to split their way, or no longer: those of all VMs.
    Split(Option<SplitPings>),
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

/// The scheduled move of a VM during a phase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedMove {
    /// Time since the start of the phase.
    pub after: Duration,
    /// The VM.
    pub vm: VmId,
    /// Where it goes.
    pub relocation: Relocation,
}

/// VMs that could not start while a run went on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedStarts {
    /// The first of them.
    pub first: VmId,
    /// The reason that the fabric gave for that one.
    pub why: String,
    /// Their number.
    pub count: u64,
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

/// Scheduled changes of VMs, and the flows that wait for a start.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    pending_vms: FxHashMap<VmId, PendingVm>,
    /// The changes to come, the earliest first.
    due: VecDeque<(Instant, VmId, Due)>,
    /// Pending VMs that start one after the other from now on.
    starting: VecDeque<VmId>,
    /// VMs that misbehave until the end of the phase at the latest.
    misbehaving: Vec<VmId>,
    /// Flows of which at least one VM does not exist yet.
    pending_flows: BTreeMap<FlowId, FlowConfig>,
    pending_flows_of: FxHashMap<VmId, Vec<FlowId>>,
}

impl Lifecycle {
    pub(super) fn begin(&mut self, at: Instant, phase: &Phase) {
        for planned in &phase.transitions {
            self.schedule(
                at + planned.after,
                planned.vm,
                Due::Presence(planned.change),
            );
        }
        for planned in &phase.moves {
            let due = Due::Move(Box::new(planned.relocation.clone()));
            self.schedule(at + planned.after, planned.vm, due);
        }
        for planned in &phase.misbehaviours {
            let due = Due::Misbehave(planned.misbehaviour, planned.lasts);
            self.schedule(at + planned.after, planned.vm, due);
        }
        for planned in &phase.misbehaviours_elsewhere {
            let due = Due::MisbehaveElsewhere(planned.misbehaviour, planned.lasts);
            self.schedule(at + planned.after, planned.vm, due);
        }
        if phase.splits.is_some() {
            self.schedule(at, VmId(0), Due::Split(phase.splits));
        }
    }

    /// Takes a misbehaviour that is due by `at`, if nothing else is due before.
    pub(super) fn next_misbehaviour(
        &mut self,
        at: Instant,
    ) -> Option<(VmId, Misbehaviour, Option<Duration>)> {
        match self.due.front()? {
            &(due, vm, Due::Misbehave(misbehaviour, lasts)) if due <= at => {
                self.due.pop_front();
                Some((vm, misbehaviour, lasts))
            }
            _ => None,
        }
    }

    /// Schedules another change.
    pub(super) fn schedule(&mut self, at: Instant, vm: VmId, due: Due) {
        // Who behaves again at an instant may misbehave in another way from then on.
        let is_end = matches!(due, Due::Behave | Due::BehaveElsewhere);
        let is_before = |other: Instant| other < at || other == at && !is_end;
        let place = self.due.partition_point(|(other, ..)| is_before(*other));
        self.due.insert(place, (at, vm, due));
    }

    /// The misbehaviour of `vm` ends with the phase.
    pub(super) fn ends_with_phase(&mut self, vm: VmId) {
        self.misbehaving.push(vm);
    }

    /// Cancels the end of the misbehaviour of `vm`, which has ended.
    pub(super) fn forget_misbehaviour_of(&mut self, vm: VmId) {
        let is_end = |of: VmId, due: &Due| of == vm && *due == Due::Behave;
        self.due.retain(|(_, vm, due)| !is_end(*vm, due));
        self.misbehaving.retain(|other| *other != vm);
    }

    /// The misbehaviours of the present phase that are still to come, the earliest first: when each is due.
    pub(super) fn misbehaviours(&self) -> impl Iterator<Item = (Instant, VmId, Misbehaviour)> {
        self.due.iter().filter_map(|(at, vm, due)| match due {
            Due::Misbehave(misbehaviour, _) => Some((*at, *vm, *misbehaviour)),
            _ => None,
        })
    }

    /// Cancels the misbehaviours of `vms` that are still to come.
    pub(super) fn forget_misbehaviours_to_come(&mut self, vms: &[VmId]) {
        self.due
            .retain(|(_, vm, due)| !matches!(due, Due::Misbehave(..)) || !vms.contains(vm));
    }

    /// Takes the misbehaviours of a phase that is over: the VMs that misbehave, and what others were still to do.
    pub(super) fn take_misbehaviours_of_phase(&mut self) -> (Vec<VmId>, Vec<(VmId, Misbehaviour)>) {
        let mut unbegun = Vec::new();
        self.due.retain(|(_, vm, due)| match due {
            Due::Misbehave(misbehaviour, _) => {
                unbegun.push((*vm, *misbehaviour));
                false
            }
            Due::MisbehaveElsewhere(..) | Due::BehaveElsewhere => false,
            Due::Presence(_) | Due::Move(_) | Due::Announce(_) | Due::Behave | Due::Split(_) => {
                true
            }
        });
        (std::mem::take(&mut self.misbehaving), unbegun)
    }

    /// Cancels all changes to come.
    pub(super) fn cancel(&mut self) {
        self.due.clear();
        self.starting.clear();
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        match self.starting.is_empty() {
            true => self.due.front().map(|(at, ..)| *at),
            false => Some(Instant::ZERO),
        }
    }

    /// Returns true if nothing is to change any more.
    pub(super) fn is_done(&self) -> bool {
        self.due.is_empty() && self.starting.is_empty()
    }

    /// Returns true if no VM is to start, stop or move. A phase does not wait for misbehaviours.
    pub(super) fn is_settled(&self) -> bool {
        let is_awaited = |due: &Due| match due {
            Due::Presence(_) | Due::Move(_) | Due::Announce(_) | Due::Split(_) => true,
            Due::Misbehave(..) | Due::Behave => false,
            Due::MisbehaveElsewhere(..) | Due::BehaveElsewhere => false,
        };
        let mut due = self.due.iter();
        self.starting.is_empty() && !due.any(|(.., due)| is_awaited(due))
    }

    /// The changes to come with their VMs, as they are carried out.
    #[cfg(test)]
    pub(super) fn changes(&self) -> impl Iterator<Item = (Instant, VmId)> {
        self.due.iter().map(|(at, vm, _)| (*at, *vm))
    }

    /// Lets pending VMs start from now on.
    pub(super) fn start(&mut self, vms: Vec<VmId>) {
        let pending = &self.pending_vms;
        let vms = vms.into_iter().filter(|vm| pending.contains_key(vm));
        self.starting.extend(vms);
    }

    /// Returns true if `vm` is to start later.
    pub(super) fn is_expected(&self, vm: VmId) -> bool {
        self.pending_vms.contains_key(&vm)
    }

    /// The number of VMs that are to start.
    pub(super) fn expected(&self) -> usize {
        self.pending_vms.len()
    }

    /// The moves of the present phase that are still to come, the earliest first: when each is due.
    pub(super) fn moves(&self) -> impl Iterator<Item = (Instant, VmId, &Relocation)> {
        self.due.iter().filter_map(|(at, vm, due)| match due {
            Due::Move(relocation) => Some((*at, *vm, &**relocation)),
            _ => None,
        })
    }

    /// Cancels the moves of `vms` that are still to come.
    pub(super) fn forget_moves_of(&mut self, vms: &[VmId]) {
        self.due
            .retain(|(_, vm, due)| !matches!(due, Due::Move(_)) || !vms.contains(vm));
    }

    /// Forgets VMs that will not start. Returns the flows that waited for them.
    fn forget_vms(&mut self, vms: &[VmId]) -> Vec<FlowId> {
        let mut flows = Vec::new();
        for vm in vms {
            if self.pending_vms.remove(vm).is_some() {
                flows.extend(self.forget_flows_of(*vm));
            }
        }
        flows
    }

    /// Forgets the flows that waited for `vm`, and returns them.
    fn forget_flows_of(&mut self, vm: VmId) -> Vec<FlowId> {
        let flows = self.pending_flows_of.remove(&vm).unwrap_or_default();
        for flow in &flows {
            self.pending_flows.remove(flow);
        }
        flows
    }

    /// Forgets a flow that ended before its VMs had started.
    pub(super) fn forget_flow(&mut self, flow: FlowId) {
        self.pending_flows.remove(&flow);
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
        while let Some((_, vm, Due::Presence(Change::Stop))) =
            self.due.front().filter(|(at, ..)| *at <= now)
        {
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

    /// Returns true if `vm` was announced and has not started yet.
    pub fn is_expected(&self, vm: VmId) -> bool {
        self.lifecycle.is_expected(vm)
    }

    /// Returns the flows whose target is `vm`, those that wait for it to start included.
    pub fn flows_to(&self, vm: VmId) -> Vec<FlowId> {
        let slot = self.slots.get(vm.index()).and_then(Option::as_ref);
        let open = slot.map_or(&[][..], |slot| slot.targeted_by.as_slice());
        let pending = self.lifecycle.pending_flows_of.get(&vm);
        open.iter()
            .chain(pending.into_iter().flatten())
            .copied()
            .collect()
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

    /// Returns true if [`Hypervisor::carry_out_due`] has something to do, now or later.
    #[inline]
    pub fn has_due_commands(&self) -> bool {
        !self.lifecycle.is_done()
    }

    /// Starts the next VM that is to start, or carries out the next command of the present phase that is due at `now`. Returns
    /// false when there is nothing to do. VMs that are due to stop do so in one call, because that takes hardly longer than
    /// one stop.
    ///
    /// A VM whose port the fabric can't create does not start: [`Hypervisor::refused_starts`]. One that it can't move stays:
    /// [`Hypervisor::refused_moves`].
    ///
    /// # Errors
    /// If the fabric can't remove a port.
    pub fn carry_out_due(&mut self, now: Instant) -> Result<bool, F::Error> {
        if self.lifecycle.starting.is_empty() {
            let is_due = |(at, ..): &&(Instant, VmId, Due)| *at <= now;
            let command = match self.lifecycle.due.front().filter(is_due) {
                None => return Ok(false),
                Some((.., Due::Presence(Change::Stop))) => {
                    Command::StopVms(self.lifecycle.leaving(now))
                }
                Some(_) => match self.lifecycle.due.pop_front() {
                    Some((_, vm, Due::Presence(Change::Start))) => Command::StartVms(vec![vm]),
                    Some((_, vm, Due::Move(relocation))) => Command::Move(vm, relocation),
                    Some((_, vm, Due::Announce(announcing))) => {
                        self.announce_move(now, vm, announcing);
                        return Ok(true);
                    }
                    Some((.., Due::Split(pings))) => {
                        self.fabric.split_path(pings)?;
                        return Ok(true);
                    }
                    Some((due, vm, Due::Misbehave(misbehaviour, lasts))) => {
                        self.misbehave_as_planned(now, (due, vm), misbehaviour, lasts);
                        return Ok(true);
                    }
                    Some((_, vm, Due::Behave)) => {
                        self.behave(now, &[vm]);
                        return Ok(true);
                    }
                    Some((due, vm, Due::MisbehaveElsewhere(misbehaviour, lasts))) => {
                        self.misbehaves_elsewhere(due, vm, misbehaviour, lasts);
                        return Ok(true);
                    }
                    Some((due, vm, Due::BehaveElsewhere)) => {
                        self.behaves_elsewhere(due, Some(vm));
                        return Ok(true);
                    }
                    Some((.., Due::Presence(Change::Stop))) | None => return Ok(false),
                },
            };
            let moving = match &command {
                Command::Move(vm, _) => Some(*vm),
                _ => None,
            };
            match (self.carry_out(now, command), moving) {
                (Err(error), Some(vm)) => self.move_refused(now, vm, &error.to_string()),
                (Err(CommandError::Fabric(error)), None) => return Err(error),
                // Other commands ask for nothing that can't be.
                (Err(CommandError::Refused(_)), None) | (Ok(_), _) => {}
            }
        }
        if let Some(vm) = self.lifecycle.starting.pop_front() {
            let started = self.check_flooded(0).and_then(|()| {
                let started = self.start_vm(now, vm);
                started.map_err(|error| error.to_string())
            });
            if let Err(why) = started {
                self.start_refused(now, vm, &why);
            }
        }
        Ok(true)
    }

    /// Stops VMs at `now`. On a real fabric each call takes milliseconds ([`crate::system::TapFabric`]'s `unplug`), for one or
    /// for many.
    pub(super) fn stop_vms(&mut self, now: Instant, vms: &[VmId]) -> Result<(), F::Error> {
        self.await_moves_of(vms);
        let mut flows = self.lifecycle.forget_vms(vms);
        let mut stopped = Vec::new();
        self.behave(now, vms);
        for vm in vms {
            self.abandon_pings_of(now, *vm);
            self.flows_leave(*vm);
            self.end_sightings(*vm);
            self.leave_vm(now, *vm);
            self.member_left(*vm);
            let Some(slot) = self.slots.get_mut(vm.index()).and_then(Option::take) else {
                continue;
            };
            if self.offenders.contains(vm) {
                // It may be known by several addresses.
                self.stations.retain(|_, of| of != vm);
            }
            if self.stations.get(&slot.vm.mac()) == Some(vm) {
                self.stations.remove(&slot.vm.mac());
            }
            flows.extend(slot.flows.iter());
            stopped.push(*vm);
            self.configuring -= usize::from(slot.is_configuring);
            self.fragment_bytes = self.fragment_bytes.saturating_sub(slot.fragment_bytes);
        }
        self.load.retire(&flows);
        if let Some(streams) = &mut self.streams {
            streams.becomes_absent(stopped.iter().copied());
        }
        self.fabric.drop_held(now, Some(&stopped));
        let unplugged = self.fabric.unplug(&stopped);
        for vm in stopped {
            self.fabric.tell(now, &Notice::Stopped(vm));
        }
        unplugged
    }

    /// Gives a VM up that can't start, with the flows that waited for it, and tells why.
    #[cold]
    fn start_refused(&mut self, now: Instant, vm: VmId, why: &str) {
        let flows = self.lifecycle.forget_vms(&[vm]);
        self.load.retire(&flows);
        let flows = self.lifecycle.forget_flows_of(vm);
        self.load.retire(&flows);
        self.fabric.tell(now, &Notice::StartRefused(vm, why));
        let refused = self.refused_starts.get_or_insert_with(|| RefusedStarts {
            first: vm,
            why: why.to_owned(),
            count: 0,
        });
        refused.count += 1;
    }

    /// The VMs that could not start while the run went on, if there are any.
    pub const fn refused_starts(&self) -> Option<&RefusedStarts> {
        self.refused_starts.as_ref()
    }

    fn start_vm(&mut self, now: Instant, id: VmId) -> Result<(), F::Error> {
        let Some(pending) = self.lifecycle.pending_vms.remove(&id) else {
            return Ok(());
        };
        self.create_vms(now, [(id, pending.config)])?;
        if let Some(streams) = &mut self.streams {
            streams.is_there(id);
        }
        for (address, mac) in pending.neighbours {
            self.tell_neighbour(id, address, mac);
        }
        for group in pending.groups {
            self.join_group(now, id, group);
        }
        self.member_changed(now, id);
        self.wake_flows(now, id);
        self.fabric.tell(now, &Notice::Started(id, ""));
        Ok(())
    }

    /// The address that pings of a flow go to at present: the one that its VM has leased, where none is planned.
    pub(super) fn present_destination(&self, flow: &FlowConfig) -> IpAddr {
        let planned = flow.session.destination;
        let target = flow.target.filter(|_| planned.is_unspecified());
        let target = target.and_then(|vm| self.vm(vm));
        let leased = target.and_then(|vm| vm.leased_address(planned));
        leased.unwrap_or(planned)
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
            flow.session.destination = self.present_destination(&flow);
            if let Some(ping) = self.open_flow(id, &flow)
                && let Some(state) = self.flows.get_mut(id.index())
            {
                state.ping = Some(ping);
                self.recorder.began(id);
                self.tell_members(id);
                if !self.resolution.admit(id) {
                    self.load.wake(now, id);
                }
            }
        }
    }
}
