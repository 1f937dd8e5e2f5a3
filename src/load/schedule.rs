//! When pings are due: the three ways to send.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use super::FlowId;
use crate::time::Instant;

/// When a phase's pings are due.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pacing {
    /// Open loop: one ping of each flow every interval, whatever becomes of the others.
    Interval(Duration),
    /// Open loop: that many pings a second over all flows together, in turn.
    Rate(f64),
    /// Closed loop: each flow has that many pings on their way at any time, as fast as replies come.
    Window(u32),
}

/// How the due times of an open loop lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Arrivals {
    /// Evenly.
    #[default]
    Uniform,
    /// As a Poisson process: the times between pings are exponentially distributed, as those of many independent users.
    Poisson,
}

/// The load of one phase.
#[derive(Clone, PartialEq, Debug)]
pub struct PhaseLoad {
    /// The flows that take part, by their ids.
    pub flows: Range<u32>,
    /// When their pings are due.
    pub pacing: Pacing,
    /// How the due times lie.
    pub arrivals: Arrivals,
    /// Pings of each flow; `None` for as many as the phase has time for.
    pub count: Option<u64>,
    /// The flows' first pings are spread over this time, at random. Without effect on a rate, which spreads them anyway.
    pub start_jitter: Duration,
}

/// The due times that are left in a phase.
#[derive(Debug, Default)]
pub(super) enum Schedule {
    /// Nothing is due.
    #[default]
    Idle,
    /// Each flow by itself: the flows by the time that their next ping is due.
    Interval {
        interval: Duration,
        next: BinaryHeap<Reverse<(Instant, FlowId)>>,
    },
    /// All flows in turn.
    Rate(RateSchedule),
    /// The flows that may send now, the one that has waited longest first, and those that have yet to start.
    Window {
        window: u32,
        open: VecDeque<FlowId>,
        starting: BinaryHeap<Reverse<(Instant, FlowId)>>,
    },
}

/// Evenly spread or Poisson due times of a rate, without drift.
#[derive(Debug)]
pub(super) struct RateSchedule {
    start: Instant,
    /// Pings a second.
    rate: f64,
    arrivals: Arrivals,
    /// Pings that have become due.
    handed_out: u64,
    /// Nanoseconds from the start to the next ping.
    next: f64,
    flows: Range<u32>,
    /// The flow whose turn it is.
    turn: u32,
}

impl RateSchedule {
    pub(super) fn new(
        start: Instant,
        rate: f64,
        load: &PhaseLoad,
        random: &mut fastrand::Rng,
    ) -> RateSchedule {
        let mut schedule = RateSchedule {
            start,
            rate,
            arrivals: load.arrivals,
            handed_out: 0,
            next: 0.0,
            flows: load.flows.clone(),
            turn: load.flows.start,
        };
        if load.arrivals == Arrivals::Poisson {
            schedule.next = exponential(1e9 / rate, random);
        }
        schedule
    }

    pub(super) fn due(&self) -> Instant {
        self.start + Duration::from_nanos(self.next as u64)
    }

    /// Goes on to the next due time.
    pub(super) fn advance(&mut self, random: &mut fastrand::Rng) {
        self.handed_out += 1;
        self.next = match self.arrivals {
            // From the start each time, so that no rounding adds up.
            Arrivals::Uniform => self.handed_out as f64 * 1e9 / self.rate,
            Arrivals::Poisson => self.next + exponential(1e9 / self.rate, random),
        };
    }

    /// The flows in turn, each once, beginning with the one whose turn it is; the one taken is the last of the round.
    pub(super) fn take_turn(&mut self, mut may_send: impl FnMut(FlowId) -> bool) -> Option<FlowId> {
        for _ in self.flows.clone() {
            let flow = FlowId(self.turn);
            self.turn = if self.turn + 1 < self.flows.end {
                self.turn + 1
            } else {
                self.flows.start
            };
            if may_send(flow) {
                return Some(flow);
            }
        }
        None
    }
}

/// An exponentially distributed number with that mean.
pub(super) fn exponential(mean: f64, random: &mut fastrand::Rng) -> f64 {
    // 1 − u is never 0, whose logarithm would be infinite.
    -mean * (1.0 - random.f64()).ln()
}
