//! Load generation: flows (source and destination of pings) and the times at which their pings are due. Pure: no file
//! descriptor, no clock, no log.
//!
//! The driver calls [`Load::next`] until it returns `None`, reports every finished ping with [`Load::finished`], and
//! sleeps until [`Load::next_at`]. In an open loop ([`Pacing::Interval`], [`Pacing::Rate`]) the next ping is due a fixed
//! time after the *previous due time*, independent of the replies, so that a slow network can't slow down its own
//! measurement (coordinated omission). In a closed loop ([`Pacing::Window`]) a ping becomes due when another finishes.

mod apart;
mod change;
mod flow;
mod flow_set;
mod pattern;
mod pending;
mod schedule;
mod sizes;
mod span;

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use self::apart::Apart;
pub use self::apart::Pace;
use self::flow::Flow;
pub use self::flow_set::FlowSet;
pub use self::pattern::{Pattern, PatternError, Population, Selection, Target};
pub use self::schedule::{Arrivals, Pacing, PhaseLoad, Start};
use self::schedule::{Opened, RateSchedule, Schedule, exponential, overdue};
pub use self::sizes::Sizes;
use self::span::Span;
use crate::time::Instant;

/// So long the place of a ping that could not be sent stays empty in a closed loop: as `ping -f` waits (iputils).
const UNSENT_WAIT: Duration = Duration::from_millis(10);

/// The index of a flow: one source VM that pings one destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub u32);

impl FlowId {
    /// Returns the index into a table of flows.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A ping that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The flow that it belongs to.
    pub flow: FlowId,
    /// The time at which the schedule has it sent.
    pub due: Instant,
    /// The same flow has another ping due at the same time, because a window opens by more than one.
    pub more: bool,
}

/// All flows of a run and the schedule of the present phase.
#[derive(Debug)]
pub struct Load {
    flows: Vec<Flow>,
    schedule: Schedule,
    arrivals: Arrivals,
    random: fastrand::Rng,
    /// Number of flows that have another ping due in this phase.
    unfinished: u32,
    /// Pings handed out and not finished.
    outstanding: u64,
    /// The flows of the present phase.
    taking_part: FlowSet,
    /// Number of those whose VMs do not all exist yet.
    pending: u32,
    /// Pings of each flow of the present phase.
    count: Option<u64>,
    /// The pacing of the present phase; `None` between phases.
    pacing: Option<Pacing>,
    span: Span,
    /// The flows with a pace of their own.
    apart: Vec<Apart>,
}

impl Load {
    /// Creates a load without flows, whose random numbers are seeded by `seed`.
    pub fn new(seed: u64) -> Load {
        Load {
            flows: Vec::new(),
            schedule: Schedule::Idle,
            arrivals: Arrivals::Uniform,
            random: fastrand::Rng::with_seed(seed),
            unfinished: 0,
            outstanding: 0,
            taking_part: FlowSet::default(),
            pending: 0,
            count: None,
            pacing: None,
            span: Span::default(),
            apart: Vec::new(),
        }
    }

    /// Adds a flow. Nothing is due for it until a phase begins that includes it.
    pub fn add_flow(&mut self) -> FlowId {
        // A run has fewer flows than 32 bits can count: each takes more than 100 bytes.
        let id = FlowId(self.flows.len() as u32);
        let mut flow = Flow::default();
        flow.end();
        self.flows.push(flow);
        id
    }

    /// Begins a phase at `start`. Pings that an earlier phase did not hand out are dropped; outstanding ones may still
    /// finish. Flows with a pace of their own go on.
    pub fn begin(&mut self, start: Instant, load: &PhaseLoad) {
        self.stop_phase();
        self.arrivals = load.arrivals;
        self.span = Span::of(load.pacing, load.flows.len());
        self.taking_part = load.flows.clone();
        (self.count, self.pacing) = (load.count, Some(load.pacing));
        let mut starts = BinaryHeap::with_capacity(load.flows.len());
        for (number, id) in (0..).zip(load.flows.iter()) {
            let Some(flow) = self.flows.get_mut(id.index()) else {
                continue;
            };
            if !flow.is_here() {
                self.pending += u32::from(flow.is_pending());
                continue;
            }
            let first = start + load.first_due(number, &mut self.random);
            flow.begin(first, load.count);
            self.span.starts(first);
            if !flow.is_finished() {
                self.unfinished += 1;
                starts.push(Reverse((first, id)));
            }
        }
        self.schedule = match load.pacing {
            Pacing::Interval(interval) => Schedule::Interval {
                interval,
                next: starts,
            },
            Pacing::Rate(rate) => {
                let flows = (&load.flows, load.arrivals);
                Schedule::Rate(RateSchedule::new(start, rate, flows, &mut self.random))
            }
            Pacing::Window(window) => Schedule::Window {
                window,
                open: VecDeque::with_capacity(starts.len()),
                starting: starts,
            },
        };
        self.begin_apart(start);
    }

    /// Returns the time between two pings of a flow by its present pace: at a rate, the time in which each of the flows that
    /// share it has its turn. `None` for a closed loop, and for a flow without part in the present phase.
    pub fn interval_of(&self, id: FlowId) -> Option<Duration> {
        if let Some((load, id)) = self.apart_of(id) {
            return load.interval_of(id);
        }
        match self.pacing.filter(|_| self.taking_part.contains(id))? {
            Pacing::Interval(interval) => Some(interval),
            // One that has handed out its last ping had its turn as well.
            Pacing::Rate(rate) => {
                let seconds = f64::from(self.unfinished.max(1)) / rate;
                Some(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
            }
            Pacing::Window(_) => None,
        }
    }

    /// Returns true if a flow has a part in the present phase.
    pub fn takes_part(&self, id: FlowId) -> bool {
        match self.apart_of(id) {
            Some((load, id)) => load.takes_part(id),
            None => self.taking_part.contains(id),
        }
    }

    /// Returns true before the first phase, and after the last.
    pub fn is_between_phases(&self) -> bool {
        self.pacing.is_none()
    }

    /// Hands out the next ping that is due at `now`, in the order of due times. `None` when nothing is due.
    #[inline(always)]
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        if !self.apart.is_empty()
            && let Some(due) = self.next_apart(now)
        {
            return Some(due);
        }
        let due = self.next_due(now)?;
        self.outstanding += 1;
        self.span.last_due = due.due;
        Some(due)
    }

    #[inline]
    fn next_due(&mut self, now: Instant) -> Option<Due> {
        match &mut self.schedule {
            Schedule::Idle => None,
            Schedule::Interval { .. } => self.next_of_interval(now),
            Schedule::Rate(_) => self.next_of_rate(now),
            Schedule::Window { .. } => self.next_of_window(now),
            Schedule::Changing(_) => self.next_of_change(now),
        }
    }

    /// Returns true once every ping of the phase has been handed out, or when it has none.
    pub fn is_handed_out(&self) -> bool {
        self.unfinished == 0 && self.pending == 0
    }

    /// Returns the end of an open loop's schedule once all pings have been handed out: n pings take n intervals. `None`
    /// for a closed loop, which has no schedule.
    pub fn schedule_end(&self) -> Option<Instant> {
        self.span.end()
    }

    /// Records that a ping of `id` was answered, lost, or ended otherwise. In a closed loop that opens the window.
    pub fn finished(&mut self, now: Instant, id: FlowId) {
        if self.ended_apart(id, |load, id| load.finished(now, id)) {
            return;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        flow.ping_finished();
        if let Schedule::Window { window, open, .. } = &mut self.schedule {
            let pings = flow.open(*window, u32::MAX);
            push(open, id, now, pings);
        }
    }

    /// Records that a ping of `id` could not be sent. In a closed loop its place is open again 10 ms later: the next one may
    /// fail as quickly.
    #[cold]
    pub fn not_sent(&mut self, now: Instant, id: FlowId) {
        if self.ended_apart(id, |load, id| load.not_sent(now, id)) {
            return;
        }
        let Schedule::Window { starting, .. } = &mut self.schedule else {
            return self.finished(now, id);
        };
        starting.push(Reverse((now + UNSENT_WAIT, id)));
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(flow) = self.flows.get_mut(id.index()) {
            flow.ping_finished();
        }
    }

    /// Has the load of a flow with a pace of its own take in that a ping has ended. Returns false of another flow.
    #[inline]
    fn ended_apart(&mut self, id: FlowId, end: impl FnOnce(&mut Load, FlowId)) -> bool {
        let apart = self.tell_apart(id, |load, id| {
            end(load, id);
            load.is_over()
        });
        if apart == Some(true) {
            self.drop_apart();
        }
        apart.is_some()
    }

    /// Returns the time from which [`Load::next`] returns a ping: [`Instant::ZERO`] if one is due now, `None` if none is
    /// due before another finishes.
    pub fn next_at(&self) -> Option<Instant> {
        match self.apart.is_empty() {
            true => self.phase_next_at(),
            false => self.next_at_of_all(),
        }
    }

    #[inline]
    fn phase_next_at(&self) -> Option<Instant> {
        self.schedule.next_at(self.unfinished > 0)
    }

    /// Returns true if an open loop has a ping that was due before `end` and was not handed out.
    pub fn is_behind(&self, end: Instant) -> bool {
        match &self.schedule {
            Schedule::Interval { .. } | Schedule::Rate(_) => {
                self.phase_next_at().is_some_and(|at| at < end)
            }
            Schedule::Changing(changing) => changing.next_at() < end,
            Schedule::Idle | Schedule::Window { .. } => false,
        }
    }

    /// Ends a phase at `end`. Returns the number of pings of an open loop that were due before `end` and not handed out;
    /// with Poisson arrivals this number is drawn from the distribution of the missing due times. Takes time
    /// proportional to the number of flows.
    pub fn end_phase(&mut self, end: Instant) -> u64 {
        let unsent = self.overdue(end);
        self.stop_phase();
        unsent
    }

    /// Ends the phase at `end`, and with it flows that have a pace of their own. Returns the number of pings that were due
    /// before, as [`Load::end_phase`] does.
    pub fn end_run(&mut self, end: Instant) -> u64 {
        let apart = self.end_apart(end);
        self.end_phase(end).saturating_add(apart)
    }

    /// Ends the schedule. Returns the number of its pings that were due before `end` and not handed out.
    fn overdue(&mut self, end: Instant) -> u64 {
        match std::mem::take(&mut self.schedule) {
            Schedule::Idle | Schedule::Window { .. } => 0,
            Schedule::Changing(changing) => self.end_change(*changing, end),
            Schedule::Interval { interval, next } => {
                let (flows, random) = (&self.flows, &mut self.random);
                next.iter()
                    .map(|&Reverse((due, id))| {
                        let due = overdue(due, end, interval, self.arrivals, random);
                        due.min(flows.get(id.index()).map_or(0, Flow::left))
                    })
                    .fold(0, u64::saturating_add)
            }
            Schedule::Rate(_) if self.unfinished == 0 => 0,
            Schedule::Rate(rate) => {
                let left = self.flows.iter().map(Flow::left);
                let left = left.fold(0, u64::saturating_add);
                rate.overdue(end, &mut self.random).min(left)
            }
        }
    }

    /// Ends the schedule of the phase: nothing is due in it from now on. Outstanding pings may still finish.
    fn stop_phase(&mut self) {
        self.schedule = Schedule::Idle;
        self.unfinished = 0;
        (self.pending, self.pacing) = (0, None);
        self.taking_part = FlowSet::default();
        self.flows.iter_mut().for_each(Flow::end);
    }

    /// Ends flows for good: nothing is due for them in this or any later phase, and their outstanding pings are no longer
    /// waited for. Takes time proportional to the number of flows.
    pub fn retire(&mut self, ids: &[FlowId]) {
        self.retire_apart(ids);
        for id in ids {
            let Some(flow) = self.flows.get_mut(id.index()) else {
                continue;
            };
            if flow.is_pending() && self.taking_part.contains(*id) {
                self.pending = self.pending.saturating_sub(1);
            }
            if !flow.is_finished() {
                self.unfinished = self.unfinished.saturating_sub(1);
            }
            self.outstanding = self.outstanding.saturating_sub(flow.retire().into());
            self.taking_part.remove(*id);
        }
        if !ids.is_empty() {
            let is_over = self.is_handed_out();
            self.schedule
                .drop_retired(&self.flows, &self.taking_part, is_over);
        }
    }

    /// Returns true once every ping of the phase has been handed out and none is outstanding. Flows with a pace of their own
    /// have no part in it.
    pub fn is_done(&self) -> bool {
        self.outstanding == 0 && self.unfinished == 0
    }

    /// Returns true if nothing is due any more, and every ping has finished.
    fn is_over(&self) -> bool {
        self.is_handed_out() && self.outstanding == 0
    }

    /// Hands out a ping of `id`. Returns true if the flow has more pings in this phase.
    fn take(&mut self, id: FlowId) -> bool {
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return false;
        };
        flow.take();
        if flow.is_finished() {
            self.unfinished = self.unfinished.saturating_sub(1);
        }
        !flow.is_finished()
    }

    fn next_of_interval(&mut self, now: Instant) -> Option<Due> {
        let Schedule::Interval { interval, next } = &mut self.schedule else {
            return None;
        };
        let mean = *interval;
        let &Reverse((due, id)) = next.peek().filter(|first| first.0.0 <= now)?;
        let has_more = self.take(id);
        let Schedule::Interval { next, .. } = &mut self.schedule else {
            return None;
        };
        let mut first = next.peek_mut()?;
        if has_more {
            let step = match self.arrivals {
                Arrivals::Uniform => mean,
                Arrivals::Poisson => mean.mul_f64(exponential(1.0, &mut self.random)),
            };
            // Replacing the first in place costs one sift instead of a pop and a push.
            *first = Reverse((due + step, id));
        } else {
            PeekMut::pop(first);
        }
        Some(Due {
            flow: id,
            due,
            more: false,
        })
    }

    fn next_of_rate(&mut self, now: Instant) -> Option<Due> {
        let Schedule::Rate(rate) = &mut self.schedule else {
            return None;
        };
        let due = rate.due();
        if due > now || self.unfinished == 0 {
            return None;
        }
        let flows = &self.flows;
        let may_send = |id: FlowId| {
            flows
                .get(id.index())
                .is_some_and(|flow| !flow.is_finished())
        };
        let Some(id) = rate.take_turn(&self.taking_part, may_send) else {
            self.schedule = Schedule::Idle;
            return None;
        };
        rate.advance(&mut self.random);
        self.take(id);
        if self.unfinished == 0 && self.pending == 0 {
            self.schedule = Schedule::Idle;
        }
        Some(Due {
            flow: id,
            due,
            more: false,
        })
    }

    fn next_of_window(&mut self, now: Instant) -> Option<Due> {
        let Schedule::Window {
            window,
            open,
            starting,
        } = &mut self.schedule
        else {
            return None;
        };
        let window = *window;
        while let Some(&Reverse((at, id))) = starting.peek().filter(|first| first.0.0 <= now) {
            starting.pop();
            if let Some(flow) = self.flows.get_mut(id.index()) {
                push(open, id, at, flow.open(window, u32::MAX));
            }
        }
        let first = open.front_mut()?;
        let Opened { flow, since, .. } = *first;
        first.pings = first.pings.saturating_sub(1);
        if first.pings == 0 {
            open.pop_front();
        }
        let more = open.front().is_some_and(|next| next.flow == flow);
        self.take(flow);
        Some(Due {
            flow,
            due: since,
            more,
        })
    }
}

/// Queues `pings` of a flow that may be sent since then.
#[inline]
fn push(open: &mut VecDeque<Opened>, flow: FlowId, since: Instant, pings: u32) {
    if pings > 0 {
        open.push_back(Opened { flow, since, pings });
    }
}

/// Returns the mean time between two pings of a phase, all flows together; `None` for a closed loop.
pub fn mean_gap(load: &PhaseLoad) -> Option<Duration> {
    gap(load.pacing, load.flows.len())
}

/// Returns the mean time between two pings of so many flows; `None` for a closed loop.
fn gap(pacing: Pacing, flows: usize) -> Option<Duration> {
    match pacing {
        Pacing::Interval(interval) => Some(interval / (flows as u32).max(1)),
        Pacing::Rate(rate) => {
            Some(Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX))
        }
        Pacing::Window(_) => None,
    }
}

#[cfg(test)]
mod apart_tests;
#[cfg(test)]
mod steered_tests;
#[cfg(test)]
mod tests;
