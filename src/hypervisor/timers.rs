//! Deadlines: pings that are due, timers of VMs, and timeouts of pings.

use std::cmp::Reverse;

use super::{Hypervisor, Outgoing, Step, Timer};
use crate::fabric::Fabric;
use crate::load::{Due, FlowId};
use crate::record::DropReason;
use crate::time::{Instant, earliest};
use crate::vm::{PingStart, Reaction, Unsent, VmId};

impl<F: Fabric> Hypervisor<F> {
    /// Performs one step that is due at `now`; a frame to send is built in `buffer`. `None` when nothing is due.
    ///
    /// One call performs one step, so that the driver keeps its budgets. A step may be an event without a frame.
    pub fn next_step(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Step> {
        let due_by = self.turn_phase(now);
        // VMs that were removed meanwhile are skipped.
        while let Some(vm) = self.ready.pop_front() {
            let fragment = self.next_fragment(vm, buffer);
            if let Some(step) = fragment.or_else(|| self.poll_vm(now, vm, buffer)) {
                return Some(step);
            }
        }
        while let Some(&Reverse((at, timer))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let step = match timer {
                Timer::PingTimeout(flow) => self.expire_ping(now, flow),
                Timer::Vm(vm) => self.wake_vm(now, vm, buffer),
            };
            if step.is_some() {
                return step;
            }
        }
        if self.streams.is_some()
            && let Some(step) = self.next_of_streams(now, due_by, buffer)
        {
            return Some(step);
        }
        let due = self.load.next(due_by)?;
        self.start_ping(now, due, buffer)
    }

    fn start_ping(&mut self, now: Instant, due: Due, buffer: &mut [u8]) -> Option<Step> {
        let owner = self.flows.get(due.flow.index())?.ping?;
        let slot = self.slots.get_mut(owner.vm.index())?.as_mut()?;
        let event = match slot.vm.ping(now, owner.session, due.due, buffer) {
            PingStart::Transmit(transmit) => {
                if slot.vm.take_dirty() {
                    self.after_change(now, owner.vm);
                }
                return Some(Step::Send(Outgoing {
                    vm: owner.vm,
                    length: transmit.length,
                    ping: transmit.ping,
                    more: due.more,
                }));
            }
            PingStart::Waiting => None,
            PingStart::Unresolved(event, unsent) => {
                let reason = match unsent {
                    Unsent::NoRoute => DropReason::NoRoute,
                    Unsent::NeighbourQueueFull => DropReason::NeighbourQueueFull,
                    Unsent::FragmentQueueFull => DropReason::FragmentQueueFull,
                    Unsent::FragmentationNeeded => DropReason::FragmentationNeeded,
                    Unsent::PortsInUse => DropReason::PortsInUse,
                };
                self.recorder.dropped(reason);
                self.note_unsent(now, owner.vm, &event, reason);
                Some(event)
            }
            PingStart::Refused => {
                self.recorder.dropped(DropReason::TooManyOutstanding);
                self.load.not_sent(now, due.flow);
                None
            }
        };
        let reaction = Reaction {
            transmit: None,
            event,
        };
        Some(self.apply(now, owner.vm, reaction).into())
    }

    fn wake_vm(&mut self, now: Instant, vm: VmId, buffer: &mut [u8]) -> Option<Step> {
        self.slots.get_mut(vm.index())?.as_mut()?.armed = None;
        self.poll_vm(now, vm, buffer)
    }

    /// Has a VM, which was taken out of the queue of those that have something to do, send a fragment that others follow. It is in
    /// the queue again then.
    #[inline]
    fn next_fragment(&mut self, vm: VmId, buffer: &mut [u8]) -> Option<Step> {
        let slot = self.slots.get_mut(vm.index())?.as_mut()?;
        let transmit = slot.vm.next_fragment(buffer)?;
        self.ready.push_back(vm);
        Some(Step::Send(Outgoing {
            vm,
            length: transmit.length,
            ping: transmit.ping,
            more: false,
        }))
    }

    fn poll_vm(&mut self, now: Instant, vm: VmId, buffer: &mut [u8]) -> Option<Step> {
        let slot = self.slots.get_mut(vm.index())?.as_mut()?;
        slot.is_ready = false;
        let reaction = slot.vm.poll(now, buffer).unwrap_or_default();
        Some(self.apply(now, vm, reaction).into())
    }

    /// Ends the oldest ping of a flow as lost if its timeout has passed, and sets the timer for the next.
    fn expire_ping(&mut self, now: Instant, flow: FlowId) -> Option<Step> {
        let state = self.flows.get_mut(flow.index())?;
        state.is_armed = false;
        let owner = state.ping?;
        let event = self
            .slots
            .get_mut(owner.vm.index())?
            .as_mut()?
            .vm
            .expire(now, owner.session);
        self.arm_timeout(flow);
        let reaction = Reaction {
            transmit: None,
            event,
        };
        Some(self.apply(now, owner.vm, reaction).into())
    }

    /// Returns the time of the next deadline, at which to call [`Hypervisor::next_arrival`] and [`Hypervisor::next_step`]:
    /// [`Instant::ZERO`] if something is due now, `None` if nothing is due before the poll reports a frame.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(flow) = self.unarmed.pop() {
            self.arm_timeout(flow);
        }
        if !self.ready.is_empty() {
            return Some(Instant::ZERO);
        }
        if self.held.is_some() && self.configuring == 0 {
            return Some(Instant::ZERO);
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let timer = earliest(timer, self.lifecycle.next_at());
        let timer = earliest(timer, self.resolution.next_at());
        let phase = earliest(self.phase_end, self.held.map(|(_, until)| until));
        let timer = earliest(timer, self.fabric.next_at());
        let phase = match &self.gates {
            Some(gates) => earliest(phase, gates.opens_at()),
            None => phase,
        };
        let phase = match &self.streams {
            Some(streams) => earliest(phase, streams.deadline()),
            None => phase,
        };
        earliest(timer, earliest(self.load.next_at(), phase))
    }

    pub(super) fn schedule(&mut self, vm: VmId) {
        let Some(Some(slot)) = self.slots.get_mut(vm.index()) else {
            return;
        };
        match slot.vm.poll_at() {
            None => {}
            Some(Instant::ZERO) if slot.is_ready => {}
            Some(Instant::ZERO) => {
                slot.is_ready = true;
                self.ready.push_back(vm);
            }
            Some(at) if slot.armed.is_some_and(|armed| armed <= at) => {}
            Some(at) => {
                slot.armed = Some(at);
                self.timers.push(Reverse((at, Timer::Vm(vm))));
            }
        }
    }

    pub(super) fn arm_timeout(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.index()).filter(|flow| !flow.is_armed) else {
            return;
        };
        let Some(ping) = flow.ping else {
            return;
        };
        let Some(Some(slot)) = self.slots.get(ping.vm.index()) else {
            return;
        };
        if let Some(at) = slot.vm.expires_at(ping.session) {
            flow.is_armed = true;
            self.timers.push(Reverse((at, Timer::PingTimeout(id))));
        }
    }
}
