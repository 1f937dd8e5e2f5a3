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
    /// As a Poisson process: the times between pings, and before the first, are exponentially distributed, as those of
    /// many independent users. With an interval each flow is a process of its own; with a rate all flows together are
    /// one, of which each has its turn.
    Poisson,
}

/// When the first pings of a phase's flows are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// Evenly spread over the interval, in the order of the flows: as evenly lie all their pings. A rate spreads them
    /// anyway; windows open all at once, because what they send waits for replies from then on.
    #[default]
    Spread,
    /// At random within that time, or all at once if it is none. Without effect on a rate.
    Within(Duration),
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
    /// When the first of them are due.
    pub start: Start,
}

impl PhaseLoad {
    /// How long after the phase's beginning the flow of that number, counted from the phase's first, has its first ping
    /// due.
    pub(super) fn first_due(&self, number: u32, random: &mut fastrand::Rng) -> Duration {
        let start = match (self.start, self.arrivals) {
            (Start::Within(time), _) => time.mul_f64(random.f64()),
            (Start::Spread, Arrivals::Uniform) => self.first_expected(number),
            (Start::Spread, Arrivals::Poisson) => Duration::ZERO,
        };
        match (self.pacing, self.arrivals) {
            (Pacing::Interval(interval), Arrivals::Poisson) => {
                start + interval.mul_f64(exponential(1.0, random))
            }
            _ => start,
        }
    }

    /// How many pings are due within `duration`, or until the count is reached: exactly, or what is to be expected where
    /// that is a matter of chance. `None` where it depends on replies or has no end.
    pub fn pings_due(&self, duration: Option<Duration>) -> Option<u64> {
        let flows = self.flows.len() as u64;
        let by_count = self.count.map(|count| count.saturating_mul(flows));
        let Some(duration) = duration else {
            return by_count;
        };
        let by_time = match (self.pacing, self.arrivals, self.start) {
            (Pacing::Window(_), ..) => return by_count,
            (Pacing::Rate(rate), Arrivals::Uniform, _) => due_before(nanos(duration), rate),
            (Pacing::Rate(rate), Arrivals::Poisson, _) => {
                (rate * duration.as_secs_f64()).round() as u64
            }
            // All flows together are one that pings so much more often.
            (Pacing::Interval(interval), Arrivals::Uniform, Start::Spread) => {
                let due = duration.as_nanos().saturating_mul(flows.into());
                let due = due.div_ceil(interval.as_nanos().max(1));
                u64::try_from(due).unwrap_or(u64::MAX)
            }
            (Pacing::Interval(interval), Arrivals::Poisson, _) => {
                let each = duration.as_secs_f64() / interval.as_secs_f64();
                let count = self.count.unwrap_or(u64::MAX) as f64;
                (each.min(count) * flows as f64).round() as u64
            }
            (Pacing::Interval(_), Arrivals::Uniform, Start::Within(Duration::ZERO)) => {
                let each = self.pings_between(Duration::ZERO, duration);
                each.saturating_mul(flows)
            }
            (Pacing::Interval(_), Arrivals::Uniform, Start::Within(_)) => {
                let first = |number| self.first_expected(number);
                let each = (0..self.flows.len() as u32)
                    .map(|number| self.pings_between(first(number), duration));
                each.fold(0, u64::saturating_add)
            }
        };
        Some(by_count.map_or(by_time, |count| count.min(by_time)))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl PhaseLoad {
    /// How long after the phase's beginning a flow of an interval, of that number, has its first ping due: exactly, or on
    /// average of all flows where that is a matter of chance.
    pub fn first_expected(&self, number: u32) -> Duration {
        let (number, flows) = (u64::from(number), self.flows.len() as u64);
        match (self.start, self.pacing) {
            (Start::Spread, Pacing::Interval(interval)) => part(interval, number, flows),
            (Start::Spread, _) => Duration::ZERO,
            (Start::Within(time), _) => part(time, 2 * number + 1, 2 * flows),
        }
    }

    /// How many pings a flow of an interval has due whose first one is due at `first`, and that ends at `end`.
    pub fn pings_between(&self, first: Duration, end: Duration) -> u64 {
        let count = self.count.unwrap_or(u64::MAX);
        let Pacing::Interval(interval) = self.pacing else {
            return count;
        };
        let left = end.saturating_sub(first).as_nanos();
        let pings = left.div_ceil(interval.as_nanos().max(1));
        u64::try_from(pings).unwrap_or(u64::MAX).min(count)
    }
}

/// `number` parts of `time`, of which there are `parts` in all.
fn part(time: Duration, number: u64, parts: u64) -> Duration {
    let nanos = time.as_nanos() * u128::from(number) / u128::from(parts.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
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

    /// How many due times there are before `end` that were not handed out, the next one included.
    pub(super) fn overdue(&self, end: Instant, random: &mut fastrand::Rng) -> u64 {
        if self.due() >= end {
            return 0;
        }
        match self.arrivals {
            Arrivals::Uniform => self.first_from(end) - self.handed_out,
            Arrivals::Poisson => {
                let rest = end.nanos_since(self.due()) as f64;
                poisson(rest * self.rate / 1e9, random).saturating_add(1)
            }
        }
    }

    /// Passes over the due times before `now`, which nobody was there for.
    pub(super) fn skip_to(&mut self, now: Instant, random: &mut fastrand::Rng) {
        if self.due() >= now {
            return;
        }
        match self.arrivals {
            Arrivals::Uniform => {
                self.handed_out = self.first_from(now);
                self.next = due_after(self.handed_out, self.rate);
            }
            // A Poisson process has no memory.
            Arrivals::Poisson => {
                let passed = now.nanos_since(self.start) as f64;
                self.next = passed + exponential(1e9 / self.rate, random);
            }
        }
    }

    /// The number of the first evenly spread due time at `at` or later, of those that were not handed out.
    fn first_from(&self, at: Instant) -> u64 {
        due_before(at.nanos_since(self.start), self.rate).max(self.handed_out)
    }

    /// Goes on to the next due time.
    pub(super) fn advance(&mut self, random: &mut fastrand::Rng) {
        self.handed_out += 1;
        self.next = match self.arrivals {
            // From the start each time, so that no rounding adds up.
            Arrivals::Uniform => due_after(self.handed_out, self.rate),
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

/// Nanoseconds from the start of an evenly spread rate to its ping of that number, the first of which is 0.
fn due_after(number: u64, rate: f64) -> f64 {
    number as f64 * 1e9 / rate
}

/// How many pings of an evenly spread rate are due before `nanos` nanoseconds have passed.
fn due_before(nanos: u64, rate: f64) -> u64 {
    // The product is off by a rounding, so the number is looked for, twice as far as it can be.
    let most = (nanos as f64 * rate / 1e9) as u64;
    let (mut from, mut to) = (0, most.saturating_mul(2).saturating_add(2));
    while from < to {
        let middle = from + (to - from) / 2;
        if (due_after(middle, rate) as u64) < nanos {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    from
}

/// How many due times an open loop of one flow has before `end`, the next of which is at `next`.
pub(super) fn overdue(
    next: Instant,
    end: Instant,
    interval: Duration,
    arrivals: Arrivals,
    random: &mut fastrand::Rng,
) -> u64 {
    if next >= end {
        return 0;
    }
    let rest = end.nanos_since(next);
    match arrivals {
        Arrivals::Uniform => rest.div_ceil(nanos(interval).max(1)),
        Arrivals::Poisson => {
            let mean = rest as f64 / (interval.as_nanos() as f64).max(1.0);
            poisson(mean, random).saturating_add(1)
        }
    }
}

/// How many events of a Poisson process fall into a time in which `mean` are expected.
fn poisson(mean: f64, random: &mut fastrand::Rng) -> u64 {
    /// From here on the normal distribution is as good, and takes no longer for more.
    const MANY: f64 = 1000.0;
    if mean >= MANY {
        // Box and Muller's; 1 − u is never 0.
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
        return (mean + mean.sqrt() * normal).round() as u64;
    }
    let mut events = 0;
    let mut at = exponential(1.0, random);
    while at < mean {
        events += 1;
        at += exponential(1.0, random);
    }
    events
}

/// An exponentially distributed number with that mean.
pub(super) fn exponential(mean: f64, random: &mut fastrand::Rng) -> f64 {
    // 1 − u is never 0, whose logarithm would be infinite.
    -mean * (1.0 - random.f64()).ln()
}
