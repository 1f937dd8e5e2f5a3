//! Busy polling: polling again instead of sleeping, because a wake-up takes longer than a round trip.

use std::time::Duration;

use crate::time::Instant;

/// The time for which to go on polling without sleep after the last work.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct BusyPoll {
    span: Duration,
    until: Instant,
    /// The last poll did not wait and found nothing, and nothing was done since.
    was_idle: bool,
}

impl BusyPoll {
    /// Creates the state for busy polling during `span` after any work; without end for [`Duration::MAX`].
    pub(super) fn new(span: Duration) -> BusyPoll {
        BusyPoll {
            span,
            until: Instant::ZERO + span,
            was_idle: false,
        }
    }

    /// Returns true if the reactor is to poll again at `now` instead of sleeping.
    pub(super) fn goes_on(self, now: Instant) -> bool {
        now < self.until
    }

    /// Records the result of a poll: `was_idle` if it did not wait and found nothing.
    pub(super) fn polled(&mut self, was_idle: bool) {
        self.was_idle = was_idle;
    }

    /// Records work at `now`.
    pub(super) fn worked(&mut self, now: Instant) {
        self.until = now + self.span;
        self.was_idle = false;
    }

    /// Returns true if nothing was done since the last poll, which found nothing.
    pub(super) fn was_idle(self) -> bool {
        self.was_idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_for_its_span_after_work_or_for_ever() {
        let at = Instant::from_nanos;
        for (span, later, goes_on) in [
            (Duration::ZERO, 0, false),
            (Duration::from_nanos(10), 9, true),
            (Duration::from_nanos(10), 10, false),
            (Duration::MAX, 1 << 60, true),
        ] {
            let mut busy_poll = BusyPoll::new(span);
            busy_poll.worked(at(5));
            assert_eq!(busy_poll.goes_on(at(5 + later)), goes_on, "{span:?}");
        }
    }

    #[test]
    fn a_poll_in_vain_is_idle_until_there_is_work() {
        let mut busy_poll = BusyPoll::new(Duration::MAX);
        assert!(busy_poll.goes_on(Instant::from_nanos(7)) && !busy_poll.was_idle());
        busy_poll.polled(true);
        assert!(busy_poll.was_idle());
        busy_poll.worked(Instant::ZERO);
        assert!(!busy_poll.was_idle());
    }
}
