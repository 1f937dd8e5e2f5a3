//! The end of a run: nothing more is sent, what is on its way is waited for, and what is left then is given up.

use super::Hypervisor;
use super::phases::CATCH_UP;
use crate::fabric::Fabric;
use crate::time::Instant;
use crate::vm::{GiveUp, PingOutcome, VmId};

impl<F: Fabric> Hypervisor<F> {
    /// Ends the run at `now` before its plan is over: no ping is sent any more, and no VM comes up or leaves. What is on its
    /// way may still be answered, until [`Hypervisor::is_done`], or [`Hypervisor::give_up`].
    pub fn stop(&mut self, now: Instant) {
        // Those that were due a moment ago would have been sent now, so that it is not for want of the tool.
        let behind = Instant::from_nanos(now.as_nanos().saturating_sub(CATCH_UP.as_nanos() as u64));
        let unsent = self.load.end_phase(behind);
        self.recorder().unsent(unsent);
        self.end_schedule(Some(now));
        self.phases.clear();
        self.phase_end = None;
        self.lasts = false;
        self.held = None;
        self.end_search(now);
        self.moves.stop();
        self.give_up_all(now, GiveUp::Unsent);
    }

    /// The run is over: a schedule whose pings were all handed out is, too.
    pub fn end(&mut self) {
        if self.load.is_handed_out() {
            self.end_schedule(self.load.schedule_end());
        }
    }

    /// Waits no longer: every ping on its way is lost from `now` on.
    pub fn give_up(&mut self, now: Instant) {
        self.give_up_all(now, GiveUp::All);
    }

    /// The VM leaves at `now`: what it had on its way has nobody to come back to.
    pub(super) fn abandon_pings_of(&mut self, now: Instant, vm: VmId) {
        self.end_pings(now, vm, GiveUp::All, true);
    }

    fn give_up_all(&mut self, now: Instant, which: GiveUp) {
        for vm in (0..self.guests.len() as u32).map(VmId) {
            self.end_pings(now, vm, which, false);
        }
    }

    /// Ends pings of one VM, and records what came of them.
    fn end_pings(&mut self, now: Instant, id: VmId, which: GiveUp, leaves: bool) {
        let Some(Some(guest)) = self.guests.get_mut(id.index()) else {
            return;
        };
        for (ping, outcome) in guest.vm.give_up(which) {
            match outcome {
                PingOutcome::Lost { due } if leaves => self.record_abandoned(now, id, ping, due),
                _ => self.record_ping(now, id, ping, outcome),
            }
        }
    }
}
