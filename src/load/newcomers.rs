//! Flows that join while a phase is under way: their VMs come up in the course of it.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use super::schedule::exponential;
use super::{Arrivals, FlowId, Load, PhaseLoad, Schedule};
use crate::time::Instant;

/// What a phase has ready for flows that are not there yet.
#[derive(Default, Debug)]
pub(super) struct Newcomers {
    flows: Range<u32>,
    /// Pings of each flow of the phase.
    count: Option<u64>,
    /// How many flows of the phase are awaited.
    awaited: u32,
}

impl Newcomers {
    pub(super) fn new(load: &PhaseLoad, awaited: u32) -> Newcomers {
        Newcomers {
            flows: load.flows.clone(),
            count: load.count,
            awaited,
        }
    }

    /// Whether nobody is awaited.
    pub(super) fn are_none(&self) -> bool {
        self.awaited == 0
    }

    /// Takes note that an awaited flow came, or will never come. Whether it takes part in the phase.
    pub(super) fn left(&mut self, id: FlowId) -> bool {
        let is_of_phase = self.flows.contains(&id.0);
        if is_of_phase {
            self.awaited = self.awaited.saturating_sub(1);
        }
        is_of_phase
    }
}

impl Load {
    /// Adds a flow whose ends are not both there: nothing is due for it in any phase before it is [woken](Load::wake).
    pub fn add_awaited_flow(&mut self) -> FlowId {
        let id = self.add_flow();
        if let Some(flow) = self.flows.get_mut(id.index()) {
            flow.await_ends();
        }
        id
    }

    /// Has an awaited flow take part from `now` on, in the present phase too. Its first ping is due then: when flows
    /// come, their VMs' coming spreads them.
    pub fn wake(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        if !flow.wake() || !self.newcomers.left(id) {
            return;
        }
        flow.begin(now, self.newcomers.count);
        self.span.starts(now);
        if flow.is_finished() {
            return;
        }
        self.unfinished += 1;
        match &mut self.schedule {
            Schedule::Idle => {}
            // What was due while nobody was there is nobody's.
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
}
