//! Points in time, and clocks. No other module reads a clock: all take `now` as an argument, so that the state machines
//! can be tested in virtual time.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds of `CLOCK_MONOTONIC`, or nanoseconds of virtual time in a simulation.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Instant(u64);

impl Instant {
    /// The origin of time.
    pub const ZERO: Instant = Instant(0);

    /// Returns the instant `nanos` nanoseconds after [`Instant::ZERO`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Returns the nanoseconds since [`Instant::ZERO`].
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the nanoseconds from `earlier` to `self`; 0 if `earlier` is later than `self`.
    pub const fn nanos_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Returns the earlier of two optional deadlines; `None` only if both are absent.
///
/// It is a `match` because it is on the path of every frame, where an iterator over an array of options took a twentieth
/// of a round trip.
pub fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, None) => one,
        (None, other) => other,
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// Adds a duration; saturates after 584 years.
    fn add(self, span: Duration) -> Instant {
        let seconds = span.as_secs().saturating_mul(1_000_000_000);
        let nanos = seconds.saturating_add(span.subsec_nanos().into());
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// Returns the time between two instants; saturates at zero, as [`Instant::nanos_since`] does.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

/// A span of time as people read it, with three digits, in reports, traces and comments alike: `412 ns`, `8.12 µs`, `2.00 s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span(pub u64);

impl From<Duration> for Span {
    /// Saturates after 584 years.
    fn from(span: Duration) -> Span {
        Span(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Span {
    /// The digits in front of the point and those behind it, how many of these there are, and the unit.
    #[inline]
    pub(crate) const fn parts(self) -> (u64, u64, u8, &'static str) {
        let nanos = self.0;
        // In whole numbers, because comments of captures have one in each frame.
        let (unit, symbol) = match nanos {
            ..=999 => return (nanos, 0, 0, "ns"),
            1_000..=999_499 => (1_000, "µs"),
            999_500..=999_499_999 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (scale, decimals) = match nanos {
            nanos if nanos < unit / 1_000 * 9_995 => (100, 2),
            nanos if nanos < unit / 1_000 * 99_950 => (10, 1),
            _ => (1, 0),
        };
        let step = unit / scale;
        let shown = nanos.saturating_add(step / 2) / step;
        (shown / scale, shown % scale, decimals, symbol)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (whole, _, 0, unit) => write!(f, "{whole} {unit}"),
            (whole, fraction, decimals, unit) => {
                let width = decimals.into();
                write!(f, "{whole}.{fraction:0width$} {unit}")
            }
        }
    }
}

/// A source of [`Instant`]s: the machine's clock in a run, a variable in a simulation.
pub trait Clock {
    /// Returns the present time.
    fn now(&self) -> Instant;
}

/// A clock that stands still.
impl Clock for Instant {
    fn now(&self) -> Instant {
        *self
    }
}

/// The present time, for code that needs it only sometimes: a reading of the clock takes a fiftieth of a round trip.
pub trait Now {
    /// Returns the present time; the same each time it is called.
    fn now(&mut self) -> Instant;
}

impl Now for Instant {
    #[inline]
    fn now(&mut self) -> Instant {
        *self
    }
}

impl<N: Now> Now for &mut N {
    #[inline]
    fn now(&mut self) -> Instant {
        (*self).now()
    }
}

/// A reading of a clock that is made when somebody first asks for it.
#[derive(Debug)]
pub struct LazyNow<C> {
    clock: C,
    reading: Option<Instant>,
}

impl<C: Clock> LazyNow<C> {
    /// Creates a reading of `clock` that is still to be made.
    pub const fn new(clock: C) -> LazyNow<C> {
        LazyNow {
            clock,
            reading: None,
        }
    }

    /// Returns the reading if it was made.
    pub const fn reading(&self) -> Option<Instant> {
        self.reading
    }

    /// Forgets the reading: the next one is made when somebody asks for it.
    #[inline]
    pub const fn pass(&mut self) {
        self.reading = None;
    }
}

impl<C: Clock> Now for LazyNow<C> {
    #[inline]
    fn now(&mut self) -> Instant {
        match self.reading {
            Some(now) => now,
            None => *self.reading.insert(self.clock.now()),
        }
    }
}

/// Returns the time of day in milliseconds since 1970 (UTC), for the date of a report. Nothing is measured with it.
pub fn unix_millis() -> Option<u64> {
    unix_nanos().map(|nanos| nanos / 1_000_000)
}

/// Returns the time of day in nanoseconds since 1970 (UTC), for the dates of frames. Nothing is measured with it.
#[allow(clippy::disallowed_methods)]
pub fn unix_nanos() -> Option<u64> {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    u64::try_from(since_1970.as_nanos()).ok()
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

/// Returns the processor time that the calling thread has used, in nanoseconds (`CLOCK_THREAD_CPUTIME_ID`); `None` if the
/// kernel does not support that clock.
#[allow(clippy::disallowed_methods)]
pub fn thread_cpu_nanos() -> Option<u64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?;
    Some(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
