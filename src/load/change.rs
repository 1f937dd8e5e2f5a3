//! A change of the pacing while a phase runs: no ping is lost or sent twice by it, and no due time is moved into the past.
//!
//! What was due before the change stays due when it was, however late it is handed out. After it each flow has one next
//! ping, as before, and the time to that changes in proportion to the interval or to the rate: flows that were spread evenly
//! stay so, and exponentially distributed times stay that. Between kinds of pacing, flows begin as those of a phase do.

use std::cmp::Reverse;
use std::time::Duration;

use super::schedule::exponential;
use super::{Arrivals, Due, FlowId, Load, Pacing, Schedule, Span, push};
use crate::time::Instant;

/// A schedule that ends when its pings that were due before the change are handed out.
#[derive(Debug)]
pub(super) struct Changing {
    from: Schedule,
    at: Instant,
    to: Pacing,
    /// Flows that have joined since, and when.
    joined: Vec<(Instant, FlowId)>,
}

impl Changing {
    /// The time of the next due ping, or of the change.
    pub(super) fn next_at(&self) -> Instant {
        let next = self.from.next_at(true);
        next.map_or(self.at, |next| next.min(self.at))
    }

    /// The schedule up to the change.
    pub(super) fn schedule_before(&mut self) -> &mut Schedule {
        &mut self.from
    }

    /// Lets a flow join at `now`, after the change.
    pub(super) fn join(&mut self, now: Instant, id: FlowId) {
        self.joined.push((now, id));
    }
}

/// Returns the last instant before `at`.
fn before(at: Instant) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_sub(1))
}

impl Load {
    /// Changes the pacing of the present phase at `now`, which is not before the last ping handed out. Each flow sends as many
    /// pings as it was to send; those with a pace of their own keep it. Takes time proportional to the number of flows. Does nothing between phases.
    pub fn set_pacing(&mut self, now: Instant, pacing: Pacing) {
        if self.pacing.is_none() {
            return;
        }
        self.pacing = Some(pacing);
        let is_behind = self.phase_next_at().is_some_and(|next| next < now);
        match (&self.schedule, pacing) {
            (Schedule::Idle, _) => {}
            // Those that are open stay in the queue, and were due when they opened.
            (Schedule::Window { .. }, Pacing::Window(_)) => self.change(now, pacing, &[]),
            _ if is_behind => {
                self.schedule = Schedule::Changing(Box::new(Changing {
                    from: std::mem::take(&mut self.schedule),
                    at: now,
                    to: pacing,
                    joined: Vec::new(),
                }));
            }
            _ => self.change(now, pacing, &[]),
        }
    }

    /// Hands out a ping that was due before the change, or changes the schedule and hands out what is due then.
    #[cold]
    pub(super) fn next_of_change(&mut self, now: Instant) -> Option<Due> {
        let Schedule::Changing(mut changing) = std::mem::take(&mut self.schedule) else {
            return None;
        };
        let at = changing.at;
        self.schedule = changing.from;
        let due = self.next_due(now.min(before(at)));
        if due.is_some() || now < at {
            changing.from = std::mem::take(&mut self.schedule);
            self.schedule = Schedule::Changing(changing);
            return due;
        }
        self.change(at, changing.to, &changing.joined);
        self.next_due(now)
    }

    /// Ends a change at `end`. Returns the number of pings that were due before it and not handed out.
    pub(super) fn end_change(&mut self, changing: Changing, end: Instant) -> u64 {
        let Changing { at, to, .. } = changing;
        self.schedule = changing.from;
        let last = before(at.min(end));
        // One by one: they are those of the time between two turns.
        let unsent = std::iter::from_fn(|| self.next_due(last)).count() as u64;
        if end <= at {
            return unsent;
        }
        self.change(at, to, &changing.joined);
        unsent.saturating_add(self.overdue(end))
    }

    /// Gives the flows their due times of the pacing `to` from `at` on; none has one before that. Those that have `joined`
    /// begin when they did.
    fn change(&mut self, at: Instant, to: Pacing, joined: &[(Instant, FlowId)]) {
        let mut schedule = std::mem::take(&mut self.schedule);
        match (&mut schedule, to) {
            (Schedule::Interval { interval, next }, Pacing::Interval(to)) => {
                let scale = to.as_secs_f64() / interval.as_secs_f64();
                let scaled = |Reverse((due, id)): Reverse<(Instant, FlowId)>| {
                    let left = Duration::from_nanos(due.nanos_since(at));
                    Reverse((at + left.mul_f64(scale), id))
                };
                *next = std::mem::take(next).into_iter().map(scaled).collect();
                *interval = to;
                self.schedule = schedule;
                joined
                    .iter()
                    .for_each(|(at, id)| self.schedule_flow(*at, *id));
            }
            (Schedule::Rate(rate), Pacing::Rate(to)) => {
                rate.change_rate(at, to, &mut self.random);
                self.schedule = schedule;
            }
            (Schedule::Window { window, .. }, Pacing::Window(to)) => {
                *window = to;
                self.schedule = schedule;
                self.reopen_windows(at, to);
            }
            _ => {
                if let Schedule::Window { open, .. } = &schedule {
                    for opened in open {
                        if let Some(flow) = self.flows.get_mut(opened.flow.index()) {
                            flow.left_queue();
                        }
                    }
                }
                self.begin_flows(at);
            }
        }
        let mut span = Span::of(to, self.taking_part.len());
        span.last_due = self.span.last_due;
        match &self.schedule {
            Schedule::Interval { next, .. } => {
                next.iter().for_each(|Reverse((due, _))| span.starts(*due));
            }
            _ => span.starts(at),
        }
        self.span = span;
    }

    /// Begins the flows that have pings left at `at`, as those of a phase begin.
    fn begin_flows(&mut self, at: Instant) {
        self.schedule = self.empty_schedule(at);
        let flows = &self.flows;
        let has_more = |id: &FlowId| {
            let flow = flows.get(id.index());
            flow.is_some_and(|flow| !flow.is_finished())
        };
        let ids: Vec<FlowId> = self.taking_part.iter().filter(has_more).collect();
        let number = ids.len() as u32;
        for (place, id) in (0u32..).zip(ids) {
            match &mut self.schedule {
                Schedule::Interval { interval, next } => {
                    let wait = match self.arrivals {
                        Arrivals::Uniform => interval.mul_f64(f64::from(place) / f64::from(number)),
                        Arrivals::Poisson => interval.mul_f64(exponential(1.0, &mut self.random)),
                    };
                    next.push(Reverse((at + wait, id)));
                }
                Schedule::Window { starting, .. } => starting.push(Reverse((at, id))),
                _ => {}
            }
        }
    }

    /// Opens the windows that have become larger at `at`, and takes out of the queue what no longer fits in.
    fn reopen_windows(&mut self, at: Instant, window: u32) {
        let Schedule::Window { open, .. } = &mut self.schedule else {
            return;
        };
        let flows = &mut self.flows;
        for opened in open.iter() {
            if let Some(flow) = flows.get_mut(opened.flow.index()) {
                flow.left_queue();
            }
        }
        open.retain_mut(|opened| {
            let flow = flows.get_mut(opened.flow.index());
            opened.pings = flow.map_or(0, |flow| flow.open(window, opened.pings));
            opened.pings > 0
        });
        for id in self.taking_part.iter() {
            if let Some(flow) = flows.get_mut(id.index()).filter(|f| f.start() <= at) {
                push(open, id, at, flow.open(window, u32::MAX));
            }
        }
    }
}
