//! Flows that join a phase while it runs: one of their VMs starts during it, or they were added during it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::schedule::exponential;
use super::{Arrivals, FlowId, Load, Pacing, RateSchedule, Schedule};
use crate::time::Instant;

impl Load {
    /// Adds a flow of which a VM does not exist yet: nothing is due for it until [`Load::wake`].
    pub fn add_pending_flow(&mut self) -> FlowId {
        let id = self.add_flow();
        self.suspend(id);
        id
    }

    /// Suspends a flow that was just added until [`Load::wake`].
    pub fn suspend(&mut self, id: FlowId) {
        if self.tell_apart(id, Load::suspend).is_some() {
            return;
        }
        if let Some(flow) = self.flows.get_mut(id.index()) {
            flow.suspend();
        }
    }

    /// Makes a flow that was added after the present phase began one of the phase: from `now` on, or, if it is pending,
    /// once it [wakes](Load::wake). Does nothing between phases.
    pub fn join(&mut self, now: Instant, id: FlowId) {
        if self.pacing.is_none() || self.taking_part.contains(id) {
            return;
        }
        self.taking_part.insert(id);
        if let Schedule::Rate(rate) = &mut self.schedule {
            rate.seek_turn(&self.taking_part);
        }
        match self.flows.get(id.index()) {
            Some(flow) if flow.is_pending() => self.pending += 1,
            Some(flow) if flow.is_here() => self.begin_flow(now, id),
            _ => {}
        }
    }

    /// Lets a pending flow take part from `now` on, in the present phase too. Its first ping is due at `now` (Poisson
    /// arrivals: an exponentially distributed time later): such flows are spread by the start times of their VMs.
    pub fn wake(&mut self, now: Instant, id: FlowId) {
        if self.tell_apart(id, |load, id| load.wake(now, id)).is_some() {
            return;
        }
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        if !flow.wake() || !self.taking_part.contains(id) {
            return;
        }
        self.pending = self.pending.saturating_sub(1);
        self.begin_flow(now, id);
    }

    fn begin_flow(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        flow.begin(now, self.count);
        self.span.starts(now);
        if flow.is_finished() {
            return;
        }
        self.unfinished += 1;
        if matches!(self.schedule, Schedule::Idle) {
            self.schedule = self.empty_schedule(now);
        }
        self.schedule_flow(now, id);
    }

    /// Makes the first ping of a flow that joins due at `now`, or later.
    pub(super) fn schedule_flow(&mut self, now: Instant, id: FlowId) {
        if self
            .flows
            .get(id.index())
            .is_none_or(|flow| flow.is_finished())
        {
            return;
        }
        match &mut self.schedule {
            Schedule::Idle => {}
            Schedule::Changing(changing) => changing.join(now, id),
            // Due times without a flow to send are skipped, not counted as unsent.
            Schedule::Rate(rate) if self.unfinished == 1 => rate.skip_to(now, &mut self.random),
            Schedule::Rate(_) => {}
            Schedule::Interval { interval, next } => {
                let wait = match self.arrivals {
                    Arrivals::Uniform => Duration::ZERO,
                    Arrivals::Poisson => interval.mul_f64(exponential(1.0, &mut self.random)),
                };
                next.push(Reverse((now + wait, id)));
            }
            Schedule::Window { starting, .. } => starting.push(Reverse((now, id))),
        }
    }

    /// Returns a schedule of the present pacing from `now` on in which no flow has a ping due yet.
    pub(super) fn empty_schedule(&mut self, now: Instant) -> Schedule {
        match self.pacing {
            None => Schedule::Idle,
            Some(Pacing::Interval(interval)) => Schedule::Interval {
                interval,
                next: BinaryHeap::new(),
            },
            Some(Pacing::Rate(rate)) => {
                let flows = (&self.taking_part, self.arrivals);
                Schedule::Rate(RateSchedule::new(now, rate, flows, &mut self.random))
            }
            Some(Pacing::Window(window)) => Schedule::Window {
                window,
                open: VecDeque::new(),
                starting: BinaryHeap::new(),
            },
        }
    }
}
