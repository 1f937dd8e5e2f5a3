//! A deadline that wakes the poll: mio's own timeout rounds up to a millisecond, a timerfd does not.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::error::SystemError;
use crate::time::Instant;

/// A one-shot timer on `CLOCK_MONOTONIC` (`timerfd_create(2)`): readable from its deadline on.
#[derive(Debug)]
pub struct DeadlineTimer {
    timer: TimerFd,
    armed: Option<Instant>,
}

impl DeadlineTimer {
    /// A timer that is not armed.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn new() -> Result<Self, SystemError> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)
            .map_err(|errno| SystemError::kernel("make a timer", errno))?;
        Ok(Self { timer, armed: None })
    }

    /// Wakes the poll at `deadline`, at once if that has passed; or earlier, if it was armed for earlier before: to see
    /// once more that nothing is due costs no more than to arm it anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn arm(&mut self, deadline: Instant) -> Result<(), SystemError> {
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        // All zeros would disarm the timer (timerfd_settime(2)).
        let nanos = deadline.as_nanos().max(1);
        let at = TimeSpec::new(
            (nanos / 1_000_000_000) as i64,
            (nanos % 1_000_000_000) as i64,
        );
        self.timer
            .set(
                Expiration::OneShot(at),
                TimerSetTimeFlags::TFD_TIMER_ABSTIME,
            )
            .map_err(|errno| SystemError::kernel("arm the timer", errno))?;
        self.armed = Some(deadline);
        Ok(())
    }

    /// The deadline that the timer is armed for, unless it has rung.
    pub fn armed(&self) -> Option<Instant> {
        self.armed
    }

    /// Tells the timer that its wake-up was seen. It need not be read: the poll reports an edge once, and to arm it anew
    /// forgets that it rang (`timerfd_setup()` in `fs/timerfd.c`).
    pub fn rang(&mut self) {
        self.armed = None;
    }
}

impl AsRawFd for DeadlineTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Clock, MonotonicClock};
    use mio::unix::SourceFd;
    use mio::{Interest, Token};
    use std::time::Duration;

    #[test]
    fn a_deadline_wakes_the_poll_once_and_not_before_its_time() {
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(4);
        let mut timer = DeadlineTimer::new().unwrap();
        poll.registry()
            .register(
                &mut SourceFd(&timer.as_raw_fd()),
                Token(7),
                Interest::READABLE,
            )
            .unwrap();
        // Past, present and future; the first is zero, which must not disarm it.
        for ahead in [None, Some(Duration::ZERO), Some(Duration::from_millis(2))] {
            let deadline = ahead.map_or(Instant::ZERO, |ahead| MonotonicClock.now() + ahead);
            timer.arm(deadline).unwrap();
            assert_eq!(timer.armed(), Some(deadline));
            poll.poll(&mut events, Some(Duration::from_secs(10)))
                .unwrap();
            assert_eq!(
                events.iter().map(|event| event.token()).collect::<Vec<_>>(),
                [Token(7)]
            );
            assert!(MonotonicClock.now() >= deadline);
            timer.rang();
            assert_eq!(timer.armed(), None);
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty(), "it rings once");
        }
    }

    #[test]
    fn an_earlier_deadline_moves_it_and_a_later_one_does_not() {
        let mut timer = DeadlineTimer::new().unwrap();
        let at = |seconds| MonotonicClock.now() + Duration::from_secs(seconds);
        let (first, earlier, later) = (at(100), at(50), at(200));
        for (deadline, armed) in [(first, first), (earlier, earlier), (later, earlier)] {
            timer.arm(deadline).unwrap();
            assert_eq!(timer.armed(), Some(armed));
        }
    }
}
