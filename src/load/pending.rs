//! Flows that join during a phase, because one of their VMs starts during it.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::Duration;

use super::schedule::exponential;
use super::{Arrivals, FlowId, Load, PhaseLoad, Schedule};
use crate::time::Instant;

/// Flows of the present phase whose VMs do not all exist yet, and the pings that each is to send.
#[derive(Default, Debug)]
pub(super) struct PendingFlows {
    flows: Range<u32>,
    /// Pings of each flow of the phase.
    count: Option<u64>,
    /// Number of such flows.
    pending: u32,
}

impl PendingFlows {
    pub(super) fn new(load: &PhaseLoad, pending: u32) -> PendingFlows {
        PendingFlows {
            flows: load.flows.clone(),
            count: load.count,
            pending,
        }
    }

    /// Returns true if no flow is pending.
    pub(super) fn are_none(&self) -> bool {
        self.pending == 0
    }

    /// Stops expecting a flow that has joined or will never join. Returns true if it belongs to the phase.
    pub(super) fn left(&mut self, id: FlowId) -> bool {
        let is_of_phase = self.flows.contains(&id.0);
        if is_of_phase {
            self.pending = self.pending.saturating_sub(1);
        }
        is_of_phase
    }
}

impl Load {
    /// Adds a flow of which a VM does not exist yet: nothing is due for it until [`Load::wake`].
    pub fn add_pending_flow(&mut self) -> FlowId {
        let id = self.add_flow();
        if let Some(flow) = self.flows.get_mut(id.index()) {
            flow.suspend();
        }
        id
    }

    /// Lets a pending flow take part from `now` on, in the present phase too. Its first ping is due at `now` (Poisson
    /// arrivals: an exponentially distributed time later): such flows are spread by the start times of their VMs.
    pub fn wake(&mut self, now: Instant, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id.index()) else {
            return;
        };
        if !flow.wake() || !self.pending.left(id) {
            return;
        }
        flow.begin(now, self.pending.count);
        self.span.starts(now);
        if flow.is_finished() {
            return;
        }
        self.unfinished += 1;
        match &mut self.schedule {
            Schedule::Idle => {}
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
}
