//! Points in time, and the only place that reads a clock.
//!
//! Everything else takes `now` as an argument, which is what lets the state machines be tested in virtual time.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: nanoseconds on `CLOCK_MONOTONIC`, or nanoseconds of virtual time in a simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The start of time.
    pub const ZERO: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the start of time.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Nanoseconds since the start of time.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to `self`; 0 if `earlier` is in fact later.
    pub const fn nanos_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The earlier of two deadlines, of which either may be absent.
///
/// Written out because it stands in the path of every frame, where an iterator over an array of options was seen to
/// take a twentieth of a round trip.
pub fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Saturates at the end of time (584 years).
    fn add(self, span: Duration) -> Instant {
        let seconds = span.as_secs().saturating_mul(1_000_000_000);
        let nanos = seconds.saturating_add(span.subsec_nanos().into());
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Saturates at zero, as [`Instant::nanos_since`] does.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

/// A source of [`Instant`]s: the machine's clock in a run, a variable in a simulation.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Instant;
}

/// The time of day in milliseconds since 1970, for a report to say when it was made; nothing is measured by it.
#[allow(clippy::disallowed_methods)]
pub fn unix_millis() -> Option<u64> {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    u64::try_from(since_1970.as_millis()).ok()
}

/// `CLOCK_MONOTONIC`, the clock that timerfds are armed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    #[allow(clippy::disallowed_methods)]
    fn now(&self) -> Instant {
        // CLOCK_MONOTONIC exists on every Linux, so the call has no error to report (clock_gettime(2)).
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Instant::ZERO, |t| {
            Instant(t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64)
        })
    }
}

/// How much processor time the calling thread has had, in nanoseconds (`CLOCK_THREAD_CPUTIME_ID`); `None` where the kernel
/// does not tell.
#[allow(clippy::disallowed_methods)]
pub fn thread_cpu_nanos() -> Option<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
