//! The lead of a timer: it is set earlier than the deadline by the time that a wake-up takes.
//!
//! Between a timer's expiry and the return of `epoll_wait`, a processor has to leave its idle state and the scheduler has
//! to pick the thread, which takes tens of microseconds. To send on time, the reactor is woken before the deadline and
//! busy-polls until then.

use crate::time::Instant;

/// Maximum lead, in nanoseconds. If wake-ups take longer, pings are late: a longer busy poll would cost too much of a core.
const MOST: u64 = 60_000;
/// Nanoseconds by which one wake-up moves the estimate, independent of its delay, so that rare outliers have no effect.
const STEP: u64 = 250;
/// The initial estimate, in nanoseconds.
const AT_FIRST: u64 = 20_000;

/// Estimates the median delay of a wake-up.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerLead {
    /// The estimate, in nanoseconds.
    delay: u64,
}

impl Default for TimerLead {
    fn default() -> TimerLead {
        TimerLead { delay: AT_FIRST }
    }
}

impl TimerLead {
    /// Returns the time to set the timer for, so that the reactor is awake at `deadline`. It is not before half of the time
    /// from `now` to the deadline, so that every wait sleeps and gives a delay to estimate from.
    pub(super) fn before(self, now: Instant, deadline: Instant) -> Instant {
        let early = self.delay.min(deadline.nanos_since(now) / 2);
        Instant::from_nanos(deadline.as_nanos().saturating_sub(early))
    }

    /// Updates the estimate: a timer set for `set` woke the reactor at `woken`.
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
        let lead =
            |timer_lead: TimerLead| (at(1000) - timer_lead.before(at(0), at(1000))).as_micros();
        let mut random = fastrand::Rng::with_seed(1);
        let mut timer_lead = TimerLead::default();
        for round in 0..10_000 {
            // Between 30 and 50 µs, and now and then 10 ms.
            let micros = if round % 50 == 0 {
                10_000
            } else {
                random.u64(30..50)
            };
            timer_lead.woke(at(0), at(micros));
        }
        assert!(
            (35..=45).contains(&lead(timer_lead)),
            "{} µs",
            lead(timer_lead)
        );
        for _ in 0..1000 {
            timer_lead.woke(at(0), at(u64::MAX / 1000));
        }
        assert_eq!(lead(timer_lead), 60);
        for _ in 0..1000 {
            timer_lead.woke(at(0), at(0));
        }
        assert_eq!(lead(timer_lead), 0);
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
                TimerLead::default().before(at(now), at(deadline)),
                at(set),
                "{now} to {deadline}"
            );
        }
    }
}
