//! Due times of pings, for the three kinds of pacing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::change::Changing;
use super::flow::Flow;
use super::{FlowId, FlowSet};
use crate::time::Instant;

/// The pacing of a phase's pings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pacing {
    /// Open loop: each flow sends one ping every interval, independent of replies.
    Interval(Duration),
    /// Open loop: all flows together send this many pings a second, in turn.
    Rate(f64),
    /// Closed loop: each flow keeps this many pings outstanding and sends another when one finishes.
    Window(u32),
}

/// The distribution of the due times of an open loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Arrivals {
    /// Evenly spaced.
    #[default]
    Uniform,
    /// A Poisson process: the times between pings, and before the first, are exponentially distributed, as those of many
    /// independent users. With an interval each flow is a separate process; with a rate all flows together are one
    /// process, whose pings they send in turn.
    Poisson,
}

/// The due times of the first pings of a phase's flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Start {
    /// Evenly spread over the interval, in the order of the flows, so that all pings of the phase are evenly spaced. A
    /// rate spreads them anyway. Windows open all at once: their later pings follow the replies.
    #[default]
    Spread,
    /// At random within this time; all at once if it is zero. No effect on a rate.
    Within(Duration),
    /// As [`Start::Spread`], of flows that are a part of `all`: number 0 is the `first`th of these.
    Share {
        /// Flows before the first one.
        first: u32,
        /// All flows together.
        all: u32,
    },
}

/// The load of one phase.
#[derive(Clone, PartialEq, Debug)]
pub struct PhaseLoad {
    /// The flows that take part.
    pub flows: FlowSet,
    /// The pacing of their pings.
    pub pacing: Pacing,
    /// The distribution of the due times.
    pub arrivals: Arrivals,
    /// Pings of each flow; `None` for as many as the phase has time for.
    pub count: Option<u64>,
    /// The due times of the first pings.
    pub start: Start,
}

impl PhaseLoad {
    /// Returns the time from the start of the phase to the first ping of its flow `number` (0 is the phase's first flow).
    pub(super) fn first_due(&self, number: u32, random: &mut fastrand::Rng) -> Duration {
        let start = match (self.start, self.arrivals) {
            (Start::Within(time), _) => time.mul_f64(random.f64()),
            (Start::Spread | Start::Share { .. }, Arrivals::Uniform) => self.first_expected(number),
            (Start::Spread | Start::Share { .. }, Arrivals::Poisson) => Duration::ZERO,
        };
        match (self.pacing, self.arrivals) {
            (Pacing::Interval(interval), Arrivals::Poisson) => {
                start + interval.mul_f64(exponential(1.0, random))
            }
            _ => start,
        }
    }

    /// Returns the number of pings due within `duration`, or until the count is reached; the expected value where due
    /// times are random. `None` if the number depends on replies or is unlimited.
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
            // All flows together are one flow with a shorter interval.
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
            (Pacing::Interval(_), Arrivals::Uniform, Start::Within(_) | Start::Share { .. }) => {
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
    /// Returns the time from the start of the phase to the first ping of its flow `number`. Random starts are taken as
    /// evenly spread: each flow in the middle of its share of the time.
    pub fn first_expected(&self, number: u32) -> Duration {
        let (number, flows) = (u64::from(number), self.flows.len() as u64);
        match (self.start, self.pacing) {
            (Start::Spread, Pacing::Interval(interval)) => part(interval, number, flows),
            (Start::Share { first, all }, Pacing::Interval(interval)) => {
                part(interval, u64::from(first) + number, u64::from(all))
            }
            (Start::Spread | Start::Share { .. }, _) => Duration::ZERO,
            (Start::Within(time), _) => part(time, 2 * number + 1, 2 * flows),
        }
    }

    /// Returns the number of pings of one flow that are due from `first`, the due time of its first ping, until before
    /// `end`; the phase's count at most. A rate and a window have no interval: the count, or [`u64::MAX`] without one.
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

/// Returns `time` × `number` / `parts`.
fn part(time: Duration, number: u64, parts: u64) -> Duration {
    let nanos = time.as_nanos() * u128::from(number) / u128::from(parts.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Pings of a windowed flow that may be sent since the same time. Each reply opens the window for one: a flow that is never at
/// the end of its window has pings that are due since different times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) flow: FlowId,
    pub(super) since: Instant,
    pub(super) pings: u32,
}

/// The remaining due times of a phase.
#[derive(Debug, Default)]
pub(super) enum Schedule {
    /// Nothing is due.
    #[default]
    Idle,
    /// Each flow has due times of its own: the flows, ordered by the due time of their next ping.
    Interval {
        interval: Duration,
        next: BinaryHeap<Reverse<(Instant, FlowId)>>,
    },
    /// All flows share one sequence of due times and send in turn.
    Rate(RateSchedule),
    /// The pings that may be sent now, in the order in which windows opened for them, and the flows that have yet to start.
    Window {
        window: u32,
        open: VecDeque<Opened>,
        starting: BinaryHeap<Reverse<(Instant, FlowId)>>,
    },
    /// The pacing has changed: the pings that were due before are handed out first.
    Changing(Box<Changing>),
}

impl Schedule {
    /// Returns the time of the next due ping: [`Instant::ZERO`] if one is due now, `None` if none is due before another
    /// finishes. Without `unfinished` flows nothing is due at a rate.
    #[inline]
    pub(super) fn next_at(&self, has_unfinished: bool) -> Option<Instant> {
        match self {
            Schedule::Idle => None,
            Schedule::Interval { next, .. } => next.peek().map(|Reverse((at, _))| *at),
            // No VM of these flows exists yet.
            Schedule::Rate(_) if !has_unfinished => None,
            Schedule::Rate(rate) => Some(rate.due()),
            Schedule::Window { open, .. } if !open.is_empty() => Some(Instant::ZERO),
            Schedule::Window { starting, .. } => starting.peek().map(|Reverse((at, _))| *at),
            Schedule::Changing(changing) => Some(changing.next_at()),
        }
    }

    /// Drops what it has of flows that are retired. `taking_part` are left; with `is_over` none of them has a ping to send.
    pub(super) fn drop_retired(&mut self, flows: &[Flow], taking_part: &FlowSet, is_over: bool) {
        let stays = |id: &FlowId| flows.get(id.index()).is_some_and(Flow::is_here);
        match self {
            Schedule::Idle => {}
            Schedule::Interval { next, .. } => next.retain(|Reverse((_, id))| stays(id)),
            Schedule::Rate(_) if is_over => *self = Schedule::Idle,
            Schedule::Rate(rate) => rate.seek_turn(taking_part),
            Schedule::Window { open, starting, .. } => {
                open.retain(|opened| stays(&opened.flow));
                starting.retain(|Reverse((_, id))| stays(id));
            }
            Schedule::Changing(changing) => {
                changing
                    .schedule_before()
                    .drop_retired(flows, taking_part, is_over);
            }
        }
    }
}

/// The evenly spaced or Poisson due times of a rate, without drift.
#[derive(Debug)]
pub(super) struct RateSchedule {
    start: Instant,
    /// Pings a second.
    rate: f64,
    arrivals: Arrivals,
    /// Due times handed out or skipped.
    handed_out: u64,
    /// Nanoseconds from the start to the next due time.
    next: f64,
    /// The flow whose turn it is.
    turn: u32,
    /// The flows from that one to before this one take part; their turns follow one another.
    turns_end: u32,
}

impl RateSchedule {
    pub(super) fn new(
        start: Instant,
        rate: f64,
        (flows, arrivals): (&FlowSet, Arrivals),
        random: &mut fastrand::Rng,
    ) -> RateSchedule {
        let mut schedule = RateSchedule {
            start,
            rate,
            arrivals,
            handed_out: 0,
            next: 0.0,
            turn: 0,
            turns_end: 0,
        };
        schedule.seek_turn(flows);
        if arrivals == Arrivals::Poisson {
            schedule.next = exponential(1e9 / rate, random);
        }
        schedule
    }

    pub(super) fn due(&self) -> Instant {
        self.start + Duration::from_nanos(self.next as u64)
    }

    /// Returns the number of due times before `end` that were not handed out.
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

    /// Skips the due times before `now`, at which no flow could send.
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

    /// Returns the index of the first evenly spaced due time that is not before `at` and not handed out.
    fn first_from(&self, at: Instant) -> u64 {
        due_before(at.nanos_since(self.start), self.rate).max(self.handed_out)
    }

    /// Advances to the next due time.
    pub(super) fn advance(&mut self, random: &mut fastrand::Rng) {
        self.handed_out += 1;
        self.next = match self.arrivals {
            // Computed from the start, so that rounding errors do not add up.
            Arrivals::Uniform => due_after(self.handed_out, self.rate),
            Arrivals::Poisson => self.next + exponential(1e9 / self.rate, random),
        };
    }

    /// Changes the rate at `at`. The time from then to the next ping, which is not due before, changes in proportion.
    pub(super) fn change_rate(&mut self, at: Instant, rate: f64, random: &mut fastrand::Rng) {
        self.skip_to(at, random);
        let left = self.due().nanos_since(at) as f64 * self.rate / rate;
        self.start = at + Duration::from_nanos(left as u64);
        self.rate = rate;
        (self.handed_out, self.next) = (0, 0.0);
    }

    /// Returns the next of `flows` in turn that `may_send`. `None` if none may.
    pub(super) fn take_turn(
        &mut self,
        flows: &FlowSet,
        mut may_send: impl FnMut(FlowId) -> bool,
    ) -> Option<FlowId> {
        let first = self.turn;
        loop {
            let flow = FlowId(self.turn);
            self.turn += 1;
            if self.turn >= self.turns_end {
                self.seek_turn(flows);
            }
            if may_send(flow) {
                return Some(flow);
            }
            if self.turn == first {
                return None;
            }
        }
    }

    /// Finds the flow whose turn it is after `flows` have changed, or when the turns of some that follow one another end.
    #[cold]
    pub(super) fn seek_turn(&mut self, flows: &FlowSet) {
        let next = flows.rest_from(FlowId(self.turn));
        let next = next.or_else(|| flows.rest_from(FlowId(0)));
        let next = next.unwrap_or_default();
        (self.turn, self.turns_end) = (next.start, next.end);
    }
}

/// Returns the nanoseconds from the start of an evenly spaced rate to its ping `number`, counted from 0.
fn due_after(number: u64, rate: f64) -> f64 {
    number as f64 * 1e9 / rate
}

/// Returns the number of pings of an evenly spaced rate that are due in the first `nanos` nanoseconds.
fn due_before(nanos: u64, rate: f64) -> u64 {
    // The product may be off by a rounding error, so a binary search finds the number that due_after() agrees with.
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

/// Returns the number of due times of one flow from `next`, its next one, until before `end`.
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

/// Draws from a Poisson distribution: the number of events in a time in which `mean` are expected.
fn poisson(mean: f64, random: &mut fastrand::Rng) -> u64 {
    /// From this mean on a normal distribution approximates it, in constant time.
    const MANY: f64 = 1000.0;
    if mean >= MANY {
        // Box–Muller transform; 1 − u is never 0.
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

/// Draws from an exponential distribution with mean `mean`.
pub(super) fn exponential(mean: f64, random: &mut fastrand::Rng) -> f64 {
    // 1 − u is never 0, whose logarithm would be infinite.
    -mean * (1.0 - random.f64()).ln()
}
