//! The end of a run: sending stops, outstanding pings are waited for, and those left after that are counted as lost.

use super::phases::CATCH_UP;
use super::{Hypervisor, PingOwner};
use crate::fabric::{Fabric, Notice};
use crate::time::Instant;
use crate::vm::{Event, GiveUp, PingId, PingOutcome, VmId};

/// Room for a frame that a VM sends when it stops: a message to a DHCP server has a few hundred bytes.
const LAST_FRAME: usize = 1500;

impl<F: Fabric> Hypervisor<F> {
    /// Ends the run at `now` before its plan is complete: no further ping is sent, no VM starts or stops. Outstanding pings
    /// may still be answered, until [`Hypervisor::is_done`] or [`Hypervisor::give_up`].
    pub fn stop(&mut self, now: Instant) {
        self.was_complete = self.is_complete();
        // VMs of other ranks may wait for answers still.
        match self.is_planned {
            true => self.come_to_last_gate_next(),
            false => self.pass_last_gate(),
        }
        // Pings due within the last CATCH_UP would have been sent now; they are not counted as unsent by the tool's fault.
        let behind = Instant::from_nanos(now.as_nanos().saturating_sub(CATCH_UP.as_nanos() as u64));
        self.end_load(behind);
        self.end_schedule(Some(now));
        self.phases.clear();
        self.phase_end = None;
        self.lasts = false;
        self.ends_with_apart = false;
        self.stays = false;
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.fabric.tell(now, &Notice::Stopping);
        }
        self.held = None;
        self.end_search(now);
        self.end_misbehaviours_of_phase(now);
        self.behave_all(now);
        self.lifecycle.cancel();
        self.give_up_all(now, GiveUp::Unsent);
    }

    /// Ends the present schedule in the records if all of its pings were handed out. To be called at the end of a run.
    pub fn end(&mut self) {
        if self.is_handed_out() {
            let streams = self.streams.as_ref().and_then(|it| it.schedule_end());
            self.end_schedule(self.load.schedule_end().max(streams));
        }
    }

    /// Lets all VMs send what is still to be sent before they go, at the end of a run.
    pub fn leave(&mut self, now: Instant) {
        self.end_misbehaviours_of_phase(now);
        self.behave_all(now);
        for vm in (0..self.slots.len() as u32).map(VmId) {
            self.leave_vm(now, vm);
        }
    }

    /// Sends what `vm` still has to say when it stops at `now`: it leaves its groups, and gives its leases back.
    pub(super) fn leave_vm(&mut self, now: Instant, vm: VmId) {
        let mut buffer = [0; LAST_FRAME];
        while let Some(Some(slot)) = self.slots.get_mut(vm.index())
            && let Some(transmit) = slot.vm.leave(now, &mut buffer)
        {
            let frame = buffer.get(..transmit.length).unwrap_or_default();
            let outcome = self.fabric.write(now, vm, frame);
            self.frame_written(outcome, || (now, vm, frame));
        }
        self.count_connections(now, vm);
    }

    /// Ends every outstanding ping at `now` as lost. A run that was [stopped](Hypervisor::stop) is at its last gate then.
    pub fn give_up(&mut self, now: Instant) {
        self.give_up_all(now, GiveUp::All);
        self.give_up_streams();
        if self.is_stopping {
            self.come_to_gate_at_once();
        }
    }

    /// Returns true if the plan was complete when the run was [stopped](Hypervisor::stop): what was running then had no end.
    pub fn was_complete(&self) -> bool {
        self.was_complete
    }

    /// Returns true once the run was [stopped](Hypervisor::stop) before its plan was complete.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Ends the outstanding pings of a VM that stops at `now` as abandoned.
    pub(super) fn abandon_pings_of(&mut self, now: Instant, vm: VmId) {
        if let Some(Some(slot)) = self.slots.get_mut(vm.index()) {
            let ended = slot.vm.give_up(GiveUp::All);
            self.record_ended(now, vm, ended, true);
        }
    }

    /// Ends the outstanding pings of a flow that ends at `now` as abandoned.
    pub(super) fn abandon_pings_of_flow(&mut self, now: Instant, flow: PingOwner) {
        if let Some(Some(slot)) = self.slots.get_mut(flow.vm.index()) {
            let ended = slot.vm.give_up_session(flow.session, GiveUp::All);
            self.record_ended(now, flow.vm, ended, true);
        }
    }

    fn give_up_all(&mut self, now: Instant, which: GiveUp) {
        self.look_at_drops(now);
        for vm in (0..self.slots.len() as u32).map(VmId) {
            if let Some(Some(slot)) = self.slots.get_mut(vm.index()) {
                let ended = slot.vm.give_up(which);
                self.record_ended(now, vm, ended, false);
            }
        }
    }

    /// Records the outcomes of pings of one VM; lost ones as abandoned if their VM or flow `leaves`.
    fn record_ended(
        &mut self,
        now: Instant,
        id: VmId,
        ended: Vec<(PingId, PingOutcome)>,
        leaves: bool,
    ) {
        for (ping, outcome) in ended {
            let outcome = match outcome {
                PingOutcome::Lost { due } if leaves => PingOutcome::Abandoned { due },
                outcome => outcome,
            };
            self.fabric.tell_event(now, id, &Event::Ping(ping, outcome));
            match outcome {
                // The members' answers, too.
                PingOutcome::MembersLost { .. } if leaves => {}
                _ => self.record_ping(now, id, ping, outcome),
            }
        }
    }
}
