//! Flows: who pings whom, and when a ping is due. Pure: no file descriptor, no clock, no log.
//!
//! [`Load`] is asked [`Load::next`] until it says that nothing is due, told of every ping that is over, and says when
//! it wants to be asked again. An open loop's next ping is due a fixed time after the *previous due time*, whatever the
//! replies do, so that a slow network can't slow its own measurement down (coordinated omission). A closed loop makes a
//! ping due whenever another is over.

mod flow;
mod newcomers;
mod pattern;
mod schedule;
mod span;

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use self::flow::Flow;
use self::newcomers::Newcomers;
pub use self::pattern::{Pattern, PatternError, Selection, Target};
pub use self::schedule::{Arrivals, Pacing, PhaseLoad, Start};
use self::schedule::{RateSchedule, Schedule, exponential, overdue};
use self::span::Span;
use crate::time::Instant;

/// A flow's index: one source pinging one destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub u32);

impl FlowId {
    /// The index into a table of flows.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A ping that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The flow that it belongs to.
    pub flow: FlowId,
    /// When the schedule wanted it sent.
    pub due: Instant,
    /// Whether the same flow has another ping due at the same time: a window that opens.
    pub more: bool,
}

/// All flows of a run, and the phase that it is in.
#[derive(Debug)]
pub struct Load {
    flows: Vec<Flow>,
    schedule: Schedule,
    arrivals: Arrivals,
    random: fastrand::Rng,
    /// Flows that will have another ping due in this phase.
    unfinished: u32,
    /// Pings that were handed out and are not over.
    on_their_way: u64,
    newcomers: Newcomers,
    span: Span,
}

impl Load {
    /// A load without flows, whose random choices follow from `seed`.
    pub fn new(seed: u64) -> Load {
        Load {
            flows: Vec::new(),
            schedule: Schedule::Idle,
            arrivals: Arrivals::Uniform,
            random: fastrand::Rng::with_seed(seed),
            unfinished: 0,
            on_their_way: 0,
            newcomers: Newcomers::default(),
            span: Span::default(),
        }
    }

    /// Adds a flow, which has nothing due until a phase begins that it takes part in.
    pub fn add_flow(&mut self) -> FlowId {
        // A run has fewer flows than 32 bits can count: each takes more than 100 bytes.
        let id = FlowId(self.flows.len() as u32);
        let mut flow = Flow::default();
        flow.end();
        self.flows.push(flow);
        id
    }

    /// Begins a phase at `start`; what an earlier one has left undone stays so. Pings on their way may still end.
    pub fn begin(&mut self, start: Instant, load: &PhaseLoad) {
        self.stop();
        self.arrivals = load.arrivals;
        self.span = Span::new(load);
        let mut starts = BinaryHeap::with_capacity(load.flows.len());
        let mut awaited = 0;
        for (number, id) in (0..).zip(load.flows.clone().map(FlowId)) {
            let Some(flow) = self.flows.get_mut(id.index()) else {
                continue;
            };
            if !flow.is_here() {
                awaited += u32::from(flow.is_awaited());
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
        self.newcomers = Newcomers::new(load, awaited);
        self.schedule = match load.pacing {
            Pacing::Interval(interval) => Schedule::Interval {
                interval,
                next: starts,
            },
            Pacing::Rate(rate) => {
                Schedule::Rate(RateSchedule::new(start, rate, load, &mut self.random))
            }
            Pacing::Window(window) => Schedule::Window {
                window,
                open: VecDeque::with_capacity(starts.len()),
                starting: starts,
            },
        };
    }

    /// The next ping that is due at `now`, the one that has been due longest first.
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        let due = match &mut self.schedule {
            Schedule::Idle => None,
            Schedule::Interval { .. } => self.next_of_interval(now),
            Schedule::Rate(_) => self.next_of_rate(now),
            Schedule::Window { .. } => self.next_of_window(now),
        }?;
        self.on_their_way += 1;
        self.span.last_due = due.due;
        Some(due)
    }

    /// Whether every ping of the phase has been handed out, however few they were.
    pub fn is_handed_out(&self) -> bool {
        self.unfinished == 0 && self.newcomers.are_none()
    }

    /// When the schedule of an open loop was over whose pings have all been handed out: n pings take n intervals. `None` for
    /// a closed loop, which has none.
    pub fn schedule_end(&self) -> Option<Instant> {
        self.span.end()
    }

    /// Tells that a ping of `id` is over.
    pub fn finished(&mut self, now: Instant, id: FlowId) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        flow.ping_finished();
        if let Schedule::Window { window, open, .. } = &mut self.schedule
            && flow.open(now, *window)
        {
            open.push_back(id);
        }
    }

    /// When [`Load::next`] has something: [`Instant::ZERO`] for at once, `None` for not before a ping is over.
    pub fn next_at(&self) -> Option<Instant> {
        match &self.schedule {
            Schedule::Idle => None,
            Schedule::Interval { next, .. } => next.peek().map(|Reverse((at, _))| *at),
            // Nobody is there yet who could send.
            Schedule::Rate(_) if self.unfinished == 0 => None,
            Schedule::Rate(rate) => Some(rate.due()),
            Schedule::Window { open, .. } if !open.is_empty() => Some(Instant::ZERO),
            Schedule::Window { starting, .. } => starting.peek().map(|Reverse((at, _))| *at),
        }
    }

    /// Whether an open loop has a ping that was due before `end` and was not handed out.
    pub fn is_behind(&self, end: Instant) -> bool {
        match &self.schedule {
            Schedule::Interval { .. } | Schedule::Rate(_) => {
                self.next_at().is_some_and(|at| at < end)
            }
            Schedule::Idle | Schedule::Window { .. } => false,
        }
    }

    /// Ends a phase whose time is up at `end`. Returns how many pings of an open loop were due before that and were not
    /// handed out: with Poisson arrivals a number drawn as their due times would have been. Takes time in proportion to
    /// the number of flows.
    pub fn end_phase(&mut self, end: Instant) -> u64 {
        let unsent = match std::mem::take(&mut self.schedule) {
            Schedule::Idle | Schedule::Window { .. } => 0,
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
        };
        self.stop();
        unsent
    }

    /// Has nothing due from now on; pings on their way may still end.
    pub fn stop(&mut self) {
        self.schedule = Schedule::Idle;
        self.unfinished = 0;
        self.newcomers = Newcomers::default();
        self.flows.iter_mut().for_each(Flow::end);
    }

    /// Ends a flow for good: nothing is due for it from now on, in later phases either, and what is on its way is not
    /// waited for. Takes time in proportion to the number of flows.
    pub fn retire(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        let had_more = !flow.is_finished();
        if flow.is_awaited() {
            self.newcomers.left(id);
        }
        self.on_their_way = self.on_their_way.saturating_sub(flow.retire().into());
        if had_more {
            self.unfinished = self.unfinished.saturating_sub(1);
        }
        match &mut self.schedule {
            Schedule::Idle => {}
            Schedule::Interval { next, .. } => next.retain(|Reverse((_, flow))| *flow != id),
            Schedule::Rate(_) if self.unfinished == 0 && self.newcomers.are_none() => {
                self.schedule = Schedule::Idle;
            }
            // Flows without pings are passed over.
            Schedule::Rate(_) => {}
            Schedule::Window { open, starting, .. } => {
                open.retain(|flow| *flow != id);
                starting.retain(|Reverse((_, flow))| *flow != id);
            }
        }
    }

    /// Whether every ping of the phase has been handed out, and every ping is over.
    pub fn is_done(&self) -> bool {
        self.on_their_way == 0 && self.unfinished == 0
    }

    /// Hands out a ping of `id`. Whether the flow has more in this phase.
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
        let Some(id) = rate.take_turn(may_send) else {
            self.schedule = Schedule::Idle;
            return None;
        };
        rate.advance(&mut self.random);
        self.take(id);
        if self.unfinished == 0 && self.newcomers.are_none() {
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
            if self
                .flows
                .get_mut(id.index())
                .is_some_and(|flow| flow.open(at, window))
            {
                open.push_back(id);
            }
        }
        let &id = open.front()?;
        let due = self.flows.get(id.index())?.open_since();
        self.take(id);
        let more = self
            .flows
            .get(id.index())
            .is_some_and(|flow| flow.may_send(window));
        if !more && let Schedule::Window { open, .. } = &mut self.schedule {
            open.pop_front();
            if let Some(flow) = self.flows.get_mut(id.index()) {
                flow.left_queue();
            }
        }
        Some(Due {
            flow: id,
            due,
            more,
        })
    }
}

/// The mean time between two pings of a whole phase; `None` for a closed loop.
pub fn mean_gap(load: &PhaseLoad) -> Option<Duration> {
    match load.pacing {
        Pacing::Interval(interval) => Some(interval / (load.flows.len() as u32).max(1)),
        Pacing::Rate(rate) => {
            Some(Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX))
        }
        Pacing::Window(_) => None,
    }
}

#[cfg(test)]
mod tests;
