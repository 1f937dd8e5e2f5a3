//! The sequence of a run's phases.

use std::time::Duration;

use super::lifecycle::Due;
use super::{Command, Hypervisor, PlannedMisbehaviour, PlannedMove, Transition};
use crate::fabric::{Fabric, Rule, SplitPings};
use crate::load::{Arrivals, FlowSet, Pacing, PhaseLoad, Start};
use crate::record::MarkName;
use crate::time::{Instant, earliest};
use crate::vm::VmId;

/// The name of the phase in which flows ping that are there when those of the plan are over.
pub(super) const STAY: &str = "stay";

/// The time after the end of a phase in which its overdue pings are still sent. Those left after that count as unsent.
pub(super) const CATCH_UP: Duration = Duration::from_millis(100);

/// The default of [`Hypervisor::wait_for_addresses`].
pub const ADDRESS_WAIT: Duration = Duration::from_secs(10);

/// A phase of a run, with a section of its own in the report.
#[derive(Clone, PartialEq, Debug)]
pub struct Phase {
    /// Its name; empty for a run of a single phase.
    pub name: String,
    /// Its pings count in the run's totals; false for a warm-up.
    pub is_counted: bool,
    /// Its flows and their schedule.
    pub load: PhaseLoad,
    /// Its streams and their schedules: flows there are streams.
    pub streams: Vec<PhaseLoad>,
    /// Its maximum duration. The next phase begins at its end; replies that arrive later still count for this phase.
    /// Without a count of pings the phase always takes this long. `None`: it ends when every ping is finished.
    pub duration: Option<Duration>,
    /// The starts and stops of VMs during the phase, in the order of their times.
    pub transitions: Vec<Transition>,
    /// The misbehaviours of VMs during the phase.
    pub misbehaviours: Vec<PlannedMisbehaviour>,
    /// Those of VMs that other ranks have.
    pub misbehaviours_elsewhere: Vec<PlannedMisbehaviour>,
    /// The moves of VMs during the phase.
    pub moves: Vec<PlannedMove>,
    /// The impairments from the beginning of the phase on; `None` leaves those that are.
    pub impairments: Option<Vec<Rule>>,
    /// The name of the mark that its beginning is, if it is one.
    pub mark: Option<MarkName>,
    /// The pings of the phase are followed, to split their way.
    pub splits: Option<SplitPings>,
}

impl Phase {
    /// A nameless phase that counts, in which each of `flows` sends `count` pings as `pacing` says.
    pub fn counted(flows: impl Into<FlowSet>, pacing: Pacing, count: u64) -> Phase {
        Phase::of(flows.into(), pacing, Some(count), None)
    }

    /// A nameless phase that counts, in which each of `flows` sends as `pacing` says for `duration`.
    pub fn timed(flows: impl Into<FlowSet>, pacing: Pacing, duration: Duration) -> Phase {
        Phase::of(flows.into(), pacing, None, Some(duration))
    }

    /// A phase that counts and has no end, still without flows.
    pub(super) fn open(name: &str, pacing: Pacing) -> Phase {
        Phase {
            name: name.to_owned(),
            ..Phase::of(FlowSet::default(), pacing, None, None)
        }
    }

    fn of(flows: FlowSet, pacing: Pacing, count: Option<u64>, duration: Option<Duration>) -> Phase {
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
            streams: Vec::new(),
            duration,
            transitions: Vec::new(),
            misbehaviours: Vec::new(),
            misbehaviours_elsewhere: Vec::new(),
            moves: Vec::new(),
            impairments: None,
            mark: None,
            splits: None,
        }
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Sets the maximum time that the first phase waits for VMs without an address (conflict detection, DHCP);
    /// [`ADDRESS_WAIT`] by default.
    pub fn wait_for_addresses(&mut self, at_most: Duration) {
        self.address_wait = at_most;
    }

    /// Starts the run: `phases` follow one another.
    ///
    /// The first begins at `now`, but waits until all VMs have an address, at most for the time set by
    /// [`Hypervisor::wait_for_addresses`], and after that for neighbour resolution if
    /// [`Hypervisor::find_neighbours_first`] was called. Pings from and to VMs that have no address by then count as
    /// unresolved until they have one.
    pub fn start(&mut self, now: Instant, phases: Vec<Phase>) {
        self.is_planned = !phases.is_empty();
        self.expect_misbehaviours(&phases);
        self.phases = phases.into();
        if self.configuring > 0 && !self.phases.is_empty() {
            self.held = Some((now, now + self.address_wait));
        } else {
            self.begin_run(now);
        }
    }

    /// Ends the present phase if its time is up or its pings are finished. Returns the time up to which due pings are to
    /// be handed out: `now`, or the end of a phase that is over but still has pings to catch up with.
    pub(super) fn turn_phase(&mut self, now: Instant) -> Instant {
        if let Some((since, until)) = self.held {
            if self.configuring > 0 && now < until {
                return now;
            }
            self.held = None;
            let waited = now.nanos_since(since);
            let slots = self.slots.iter().flatten();
            let missing = slots.filter(|slot| slot.vm.lacks_address()).count() as u64;
            self.recorder.waited_for_addresses(waited, missing);
            self.begin_run(now);
        }
        if self.resolution.is_active() && self.find_neighbours(now) {
            return now;
        }
        if self.gates.is_some() && self.look_at_gate(now) {
            return now;
        }
        if self.streams.is_some() {
            self.settle_streams(now);
        }
        if self.is_scheduled && !self.lasts && self.is_handed_out() {
            let end = self.load.schedule_end();
            let streams = self.streams.as_ref().and_then(|it| it.schedule_end());
            let end = end.max(streams);
            self.end_schedule(earliest(end, self.phase_end.filter(|_| end.is_some())));
        }
        match self.phase_end {
            Some(end) if end <= now && self.is_behind(end) && now - end < CATCH_UP => {
                return Instant::from_nanos(end.as_nanos().saturating_sub(1));
            }
            // The next phase begins at the scheduled end of this one, so that lateness does not shift the schedule.
            Some(end) if end <= now => {
                let unsent = self.load.end_phase(end);
                self.recorder().unsent(unsent);
                self.end_streams(end);
                // No frame that comes is going to have it looked at again where all of them have come.
                self.settle_streams(now);
                self.end_schedule(Some(end));
                self.end_phase(end);
            }
            _ if self.ends_with_apart && !self.load.has_counted_apart() => {
                self.ends_with_apart = false;
                self.lasts = false;
                self.end_schedule(Some(now));
                self.end_load(now);
            }
            // Flows with a pace of their own end with the last phase, or go on in another one.
            _ if self.is_quiet() && (!self.phases.is_empty() || self.load.sends_apart()) => {
                self.end_schedule(Some(now));
                self.end_phase(now);
            }
            _ => {}
        }
        if !self.is_scheduled && self.gates.is_some() {
            // The last phase may be over just now, and nothing else be due.
            self.look_at_gate(now);
        }
        now
    }

    /// The present phase is over at `at`: the next one begins, if none waits for others.
    fn end_phase(&mut self, at: Instant) {
        if self.phases.is_empty() || !self.come_to_gate() {
            return self.begin_next_phase(at);
        }
        // It goes on in other ranks, and what VMs do in it here until the gate opens.
        self.phase_end = None;
        self.lasts = false;
    }

    pub(super) fn begin_next_phase(&mut self, at: Instant) {
        self.end_misbehaviours_of_phase(at);
        if self.fabric.splits_path() {
            self.lifecycle.schedule(at, VmId(0), Due::Split(None));
        }
        self.phase_end = None;
        self.lasts = false;
        let Some(phase) = self.phases.pop_front() else {
            self.end_search(at);
            return self.end_phases(at);
        };
        self.begin_phase(at, phase);
    }

    /// Ends the load at `at` with the last phase of the plan.
    /// Flows with a pace of their own go on in a lab that stays, and else for as long as one of them has a number of pings to
    /// send.
    fn end_phases(&mut self, at: Instant) {
        let is_counted = self.load.has_counted_apart();
        if is_counted || self.stays && self.load.sends_apart() {
            self.begin_phase(at, Phase::open(STAY, self.pacing));
            self.ends_with_apart = !self.stays;
            return;
        }
        self.end_load(at);
    }

    /// Ends the load at `at` for good: no further ping is due, of no flow.
    pub(super) fn end_load(&mut self, at: Instant) {
        let unsent = self.load.end_run(at);
        self.recorder().unsent(unsent);
        self.end_streams(at);
    }

    /// Returns true once every ping and frame of the present phase was handed out.
    pub(super) fn is_handed_out(&self) -> bool {
        let streams = self.streams.as_ref();
        self.load.is_handed_out() && streams.is_none_or(|streams| streams.is_handed_out())
    }

    /// Returns true if something was due before `end` and was not sent.
    fn is_behind(&self, end: Instant) -> bool {
        let streams = self.streams.as_ref();
        self.load.is_behind(end) || streams.is_some_and(|streams| streams.is_behind(end))
    }

    /// Begins `phase` at `at`.
    pub(super) fn begin_phase(&mut self, at: Instant, phase: Phase) {
        if phase.is_counted {
            self.recorder().begin_phase(&phase.name, at);
        } else {
            self.recorder().begin_uncounted(&phase.name, at);
        }
        let first_due = match phase.splits {
            // Not before the kernel stamps frames, even of a phase that begins late.
            Some(_) => at + CATCH_UP,
            None => at,
        };
        self.load.begin(first_due, &phase.load);
        self.begin_streams(first_due, &phase.streams);
        self.pacing = phase.load.pacing;
        self.lifecycle.begin(at, &phase);
        let mark = phase.mark.map(|name| {
            let detail = String::new();
            Command::Mark { name, detail }
        });
        let impair = phase.impairments.map(Command::Impair);
        for command in [mark, impair].into_iter().flatten() {
            // Nothing of that can fail.
            let _ = self.carry_out(at, command);
        }
        self.fabric.set_counted(phase.is_counted);
        self.phase_end = phase.duration.map(|duration| at + duration);
        let is_empty = phase.load.flows.is_empty() && phase.streams.is_empty();
        // A rank without flows waits at a gate for those who have a number of pings to send.
        let is_to_wait = self.gates.is_some() && phase.load.count.is_some();
        self.is_open = is_empty && phase.duration.is_none() && !is_to_wait;
        self.lasts = phase.load.count.is_none() && (phase.duration.is_some() || self.is_open);
        self.is_scheduled = true;
        // A phase of a fixed length ends at one instant everywhere.
        let is_gated = phase.load.count.is_some() || phase.duration.is_none();
        if let Some(gates) = &mut self.gates {
            gates.begin(is_gated);
        }
        // Before the first ping, which is due by now.
        while let Some((vm, misbehaviour, lasts)) = self.lifecycle.next_misbehaviour(at) {
            self.misbehave_as_planned(at, (at, vm), misbehaviour, lasts);
        }
    }

    /// Returns true while pings are followed to split their way, and before.
    pub(super) fn is_to_split_path(&self) -> bool {
        self.fabric.splits_path() || self.phases.iter().any(|phase| phase.splits.is_some())
    }

    /// Records the end of the present phase's schedule: at `at`, or `None` for a closed loop.
    pub(super) fn end_schedule(&mut self, at: Option<Instant>) {
        if std::mem::take(&mut self.is_scheduled) {
            self.recorder().end_schedule(at);
        }
    }

    /// Returns true while the first phase waits for addresses or neighbours.
    pub fn is_waiting(&self) -> bool {
        self.held.is_some() || self.resolution.is_before_phases()
    }

    /// Keeps the run going when its plan is complete, until it is [stopped](Hypervisor::stop).
    pub fn stay(&mut self) {
        self.stays = true;
    }

    /// Returns true once the last phase has ended and every ping is finished, or if there are no phases; not before it is
    /// stopped if it is to [stay](Hypervisor::stay).
    pub fn is_done(&self) -> bool {
        !self.stays && self.is_idle() && !self.has_gates()
    }

    /// Returns true if no phase runs or is to come, no flow has a pace of its own, and every ping is finished.
    pub fn is_idle(&self) -> bool {
        self.phases.is_empty() && self.is_quiet() && !self.load.has_apart()
    }

    /// Returns true once every phase of the plan is over.
    pub(super) fn is_complete(&self) -> bool {
        self.phases.is_empty() && (self.is_open || self.is_quiet())
    }

    /// Returns true if every ping of the present phase is finished and no VM is to start or stop in it.
    pub(super) fn is_quiet(&self) -> bool {
        !self.lasts
            && self.load.is_done()
            && self.streams.as_ref().is_none_or(|it| it.is_done())
            && self.lifecycle.is_settled()
            && !self.is_any_under_way()
            && !self.resolution.is_active()
    }
}
