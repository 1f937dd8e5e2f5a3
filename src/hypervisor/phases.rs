//! The phases of a run, one after the other.

use std::ops::Range;
use std::time::Duration;

use super::{Hypervisor, Move};
use crate::fabric::Fabric;
use crate::load::{Arrivals, Pacing, PhaseLoad, Start};
use crate::time::{Instant, earliest};

/// How long after the end of a phase the pings that were due in it are still sent; what is left then was never sent.
pub(super) const CATCH_UP: Duration = Duration::from_millis(100);

/// How long pings wait for VMs that try an address or look for a DHCP server, when nothing else is said.
pub const ADDRESS_WAIT: Duration = Duration::from_secs(10);

/// One part of a run, with a part of the report to itself.
#[derive(Clone, PartialEq, Debug)]
pub struct Phase {
    /// Its name; empty for a run that is not divided.
    pub name: String,
    /// Whether its pings count for the run's figures. Those of a warm-up do not.
    pub is_counted: bool,
    /// Who pings, and when.
    pub load: PhaseLoad,
    /// When it ends even though pings are left; the next phase begins then, and replies under way still count for this
    /// one. Without a count it lasts that long, even if nothing is due. `None` for when every ping is over.
    pub duration: Option<Duration>,
    /// The VMs that come up or leave in the course of it, in the order of their times.
    pub moves: Vec<Move>,
}

impl Phase {
    /// A nameless phase that counts, in which each of `flows` sends `count` pings as `pacing` says.
    pub fn counted(flows: Range<u32>, pacing: Pacing, count: u64) -> Phase {
        Phase::of(flows, pacing, Some(count), None)
    }

    /// A nameless phase that counts, in which each of `flows` sends as `pacing` says for `duration`.
    pub fn timed(flows: Range<u32>, pacing: Pacing, duration: Duration) -> Phase {
        Phase::of(flows, pacing, None, Some(duration))
    }

    fn of(
        flows: Range<u32>,
        pacing: Pacing,
        count: Option<u64>,
        duration: Option<Duration>,
    ) -> Phase {
        Phase {
            name: String::new(),
            is_counted: true,
            load: PhaseLoad {
                flows,
                pacing,
                arrivals: Arrivals::Uniform,
                count,
                start: Start::Spread,
            },
            duration,
            moves: Vec::new(),
        }
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Has the first phase wait for VMs that have no address yet, so long at most; [`ADDRESS_WAIT`] if nothing is said.
    pub fn wait_for_addresses(&mut self, at_most: Duration) {
        self.address_wait = at_most;
    }

    /// Begins the first of `phases`; each of the others follows the one before.
    ///
    /// It begins at `now`, or, when some VMs have no address yet, as soon as all have one, or when that has been
    /// [waited for](Hypervisor::wait_for_addresses) long enough; and when neighbours are to be
    /// [found first](Hypervisor::find_neighbours_first), after that. The pings from and to VMs without an address are then
    /// unresolved, until they have one.
    pub fn start(&mut self, now: Instant, phases: Vec<Phase>) {
        self.phases = phases.into();
        if self.configuring > 0 && !self.phases.is_empty() {
            self.held = Some((now, now + self.address_wait));
        } else {
            self.begin_run(now);
        }
    }

    /// Ends the present phase if its time is up or its pings are over, and returns until when pings are to be handed
    /// out: until now, or until the end of a phase that has some left to catch up with.
    pub(super) fn turn_phase(&mut self, now: Instant) -> Instant {
        if let Some((since, until)) = self.held {
            if self.configuring > 0 && now < until {
                return now;
            }
            self.held = None;
            let waited = now.nanos_since(since);
            self.recorder
                .waited_for_addresses(waited, self.configuring as u64);
            self.begin_run(now);
        }
        if self.resolution.is_active() && self.find_neighbours(now) {
            return now;
        }
        if self.is_scheduled && !self.lasts && self.load.is_handed_out() {
            let end = self.load.schedule_end();
            self.end_schedule(earliest(end, self.phase_end.filter(|_| end.is_some())));
        }
        match self.phase_end {
            Some(end) if end <= now && self.load.is_behind(end) && now - end < CATCH_UP => {
                return Instant::from_nanos(end.as_nanos().saturating_sub(1));
            }
            // The next begins when this one should have ended, so that lateness does not shift the schedule.
            Some(end) if end <= now => {
                let unsent = self.load.end_phase(end);
                self.recorder().unsent(unsent);
                self.end_schedule(Some(end));
                self.begin_next_phase(end);
            }
            _ if !self.phases.is_empty() && self.is_quiet() => {
                self.end_schedule(Some(now));
                self.begin_next_phase(now);
            }
            _ => {}
        }
        now
    }

    pub(super) fn begin_next_phase(&mut self, at: Instant) {
        self.phase_end = None;
        self.lasts = false;
        let Some(phase) = self.phases.pop_front() else {
            self.end_search(at);
            return self.load.stop();
        };
        if phase.is_counted {
            self.recorder().begin_phase(&phase.name, at);
        } else {
            self.recorder().begin_warmup(at);
        }
        self.load.begin(at, &phase.load);
        self.moves.begin(at, &phase.moves);
        self.phase_end = phase.duration.map(|duration| at + duration);
        self.lasts = phase.duration.is_some() && phase.load.count.is_none();
        self.is_scheduled = true;
    }

    /// No ping of the present phase is due any more. Its schedule took until `at`, if it has one.
    pub(super) fn end_schedule(&mut self, at: Option<Instant>) {
        if std::mem::take(&mut self.is_scheduled) {
            self.recorder().end_schedule(at);
        }
    }

    /// Whether the last phase has ended and every ping is over. True from the start when there are no phases.
    pub fn is_done(&self) -> bool {
        self.phases.is_empty() && self.is_quiet()
    }

    /// Whether every ping of the present phase is over, and no VM is to come or to go.
    fn is_quiet(&self) -> bool {
        !self.lasts && self.load.is_done() && self.moves.are_done() && !self.resolution.is_active()
    }
}
