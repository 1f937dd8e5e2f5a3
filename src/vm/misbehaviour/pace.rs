//! The rates of a misbehaviour: frames that are sent unasked, and frames that may be sent back.

use std::time::Duration;

use crate::time::Instant;

/// Frames that are made up for at once, if they are due, are those of this time; of earlier ones only the number is known.
const CATCH_UP: Duration = Duration::from_millis(100);
/// Frames that may be sent back at once are those of this time.
const BURST: Duration = Duration::from_millis(10);

const SECOND: u64 = 1_000_000_000;

/// The times at which frames are due, as so many a span.
#[derive(Debug)]
pub(super) struct Pace {
    begin: Instant,
    /// Frames in a span.
    rate: u32,
    /// Nanoseconds of the span.
    span: u64,
    /// Frames that were due so far.
    taken: u64,
}

impl Pace {
    pub(super) const fn per_second(begin: Instant, rate: u32) -> Pace {
        Pace {
            begin,
            rate,
            span: SECOND,
            taken: 0,
        }
    }

    pub(super) fn every(begin: Instant, interval: Duration) -> Pace {
        Pace {
            rate: 1,
            span: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX),
            ..Pace::per_second(begin, 1)
        }
    }

    /// The time at which the next frame is due.
    pub(super) fn next_at(&self) -> Instant {
        let nanos = u128::from(self.taken) * u128::from(self.span) / u128::from(self.rate.max(1));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        Instant::from_nanos(self.begin.as_nanos().saturating_add(nanos))
    }

    /// The number of frames that were due before `now`, and were not taken.
    pub(super) fn left(&self, now: Instant) -> u64 {
        let elapsed = u128::from(now.nanos_since(self.begin));
        let due = (elapsed * u128::from(self.rate)).div_ceil(u128::from(self.span.max(1)));
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        due.saturating_sub(self.taken)
    }

    /// Takes the next frame that is due at `now`, if there is one. Returns how many before it were due for so long that they
    /// are left out.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        if self.next_at() > now {
            return None;
        }
        let mut missed = 0;
        if now - self.next_at()
            > CATCH_UP.max(Duration::from_nanos(
                self.span / u64::from(self.rate.max(1)),
            ))
        {
            let elapsed = u128::from(now.nanos_since(self.begin));
            let due = elapsed * u128::from(self.rate) / u128::from(self.span.max(1));
            let due = u64::try_from(due).unwrap_or(u64::MAX);
            missed = due.saturating_sub(self.taken);
            self.taken = due;
        }
        self.taken += 1;
        Some(missed)
    }
}

/// Allows so many frames a second, in bursts of a hundredth of that.
#[derive(Debug)]
pub(super) struct Limit {
    /// Nanoseconds from one frame to the next.
    interval: u64,
    /// When the next one would be due if they were spaced evenly.
    next: Instant,
}

impl Limit {
    pub(super) fn per_second(rate: u32) -> Limit {
        Limit {
            interval: SECOND / u64::from(rate.max(1)),
            next: Instant::ZERO,
        }
    }

    /// Returns true if another frame may be sent at `now`, and counts it.
    pub(super) fn allow(&mut self, now: Instant) -> bool {
        let burst = BURST.max(Duration::from_nanos(self.interval));
        if self.next > now + burst {
            return false;
        }
        self.next = self.next.max(now) + Duration::from_nanos(self.interval);
        true
    }
}
