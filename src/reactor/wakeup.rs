//! How much too late a timer wakes the reactor, so that it can be set for that much earlier.
//!
//! Between a timer's expiry and the return of `epoll_wait` a processor has to leave its idle state and the scheduler to
//! pick the thread: tens of microseconds, in which nothing of ours runs. Who wants to send on time has to be woken before
//! it is time, and polls until it is.

use crate::time::Instant;

/// The most that a timer is set earlier. Where wake-ups take longer, pings stay late; a core is not burnt for them.
const MOST: u64 = 60_000;
/// Nanoseconds by which one wake-up moves the estimate, however early or late it was: what a busy host does to one wake-up
/// in a hundred says nothing about the next.
const STEP: u64 = 250;
/// What a wake-up is taken to need before any was seen.
const AT_FIRST: u64 = 20_000;

/// Follows the median delay of a wake-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wakeup {
    /// In nanoseconds.
    delay: u64,
}

impl Default for Wakeup {
    fn default() -> Wakeup {
        Wakeup { delay: AT_FIRST }
    }
}

impl Wakeup {
    /// When to set the timer for, in order to be awake at `deadline`. At least half of the time from `now` is slept, so
    /// that there always is a wake-up to learn from, and sleep to be had.
    pub(super) fn before(self, now: Instant, deadline: Instant) -> Instant {
        let early = self.delay.min(deadline.nanos_since(now) / 2);
        Instant::from_nanos(deadline.as_nanos().saturating_sub(early))
    }

    /// A timer that was set for `set` woke the reactor at `woken`.
    pub(super) fn woke(&mut self, set: Instant, woken: Instant) {
        self.delay = if woken.nanos_since(set) > self.delay {
            (self.delay + STEP).min(MOST)
        } else {
            self.delay.saturating_sub(STEP)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_set_earlier_by_the_median_of_the_delays_and_by_no_more_than_a_bound() {
        let at = |micros| Instant::from_nanos(1000 * micros);
        let lead = |wakeup: Wakeup| (at(1000) - wakeup.before(at(0), at(1000))).as_micros();
        let mut random = fastrand::Rng::with_seed(1);
        let mut wakeup = Wakeup::default();
        for round in 0..10_000 {
            // Between 30 and 50 µs, and now and then 10 ms.
            let micros = if round % 50 == 0 {
                10_000
            } else {
                random.u64(30..50)
            };
            wakeup.woke(at(0), at(micros));
        }
        assert!((35..=45).contains(&lead(wakeup)), "{} µs", lead(wakeup));
        for _ in 0..1000 {
            wakeup.woke(at(0), at(u64::MAX / 1000));
        }
        assert_eq!(lead(wakeup), 60);
        for _ in 0..1000 {
            wakeup.woke(at(0), at(0));
        }
        assert_eq!(lead(wakeup), 0);
    }

    #[test]
    fn half_of_the_time_is_slept_at_least() {
        let at = Instant::from_nanos;
        for (now, deadline, set) in [
            (0, 100_000, 80_000),
            (70_000, 100_000, 85_000),
            (99_999, 100_000, 100_000),
            (100_001, 100_000, 100_000),
            (0, 0, 0),
        ] {
            assert_eq!(
                Wakeup::default().before(at(now), at(deadline)),
                at(set),
                "{now} to {deadline}"
            );
        }
    }
}
