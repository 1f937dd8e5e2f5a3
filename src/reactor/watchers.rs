//! Watchers: they see the figures of a run from time to time, as a line of progress does. As many as there are.

use std::fmt;
use std::time::Duration;

use crate::record::Recorder;
use crate::time::Instant;

/// A callback that sees the measurements periodically during a run.
pub struct Watcher {
    /// The time between two calls.
    pub period: Duration,
    /// The callback. It runs in the event loop and delays it, so it must be fast.
    pub look: Box<Look>,
}

/// The callback of a [`Watcher`].
type Look = dyn FnMut(Instant, &Recorder);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// The watchers of a run.
#[derive(Default, Debug)]
pub(super) struct Watchers {
    /// Each with the time of its next call.
    all: Vec<(Instant, Watcher)>,
    /// The earliest of these times.
    next: Option<Instant>,
}

impl Watchers {
    /// Adds a watcher, to be called at `now` first.
    pub(super) fn add(&mut self, now: Instant, watcher: Watcher) {
        self.all.push((now, watcher));
        self.next = Some(now);
    }

    /// Returns the time of the next call.
    #[inline]
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next
    }

    /// Calls those whose time has come. Returns true if there was one.
    #[inline]
    pub(super) fn look(&mut self, now: Instant, recorder: &Recorder) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.call(now, recorder);
        }
        is_due
    }

    #[cold]
    fn call(&mut self, now: Instant, recorder: &Recorder) {
        for (next, watcher) in self.all.iter_mut().filter(|(next, _)| *next <= now) {
            *next = now + watcher.period;
            (watcher.look)(now, recorder);
        }
        self.next = self.all.iter().map(|(next, _)| *next).min();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::record::Limits;

    #[test]
    fn each_watcher_is_called_in_its_own_period() {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let calls = Rc::new(RefCell::new(Vec::new()));
        let recorder = Recorder::new(Limits::default());
        let mut watchers = Watchers::default();
        assert_eq!(
            (watchers.next_at(), watchers.look(at(0), &recorder)),
            (None, false)
        );
        for (name, period) in [("slow", 50), ("fast", 20)] {
            let calls = Rc::clone(&calls);
            let look = move |now: Instant, _: &Recorder| {
                calls.borrow_mut().push((name, now.as_nanos() / 1_000_000));
            };
            let period = Duration::from_millis(period);
            let look = Box::new(look);
            watchers.add(at(0), Watcher { period, look });
        }
        for millis in 0..65 {
            let is_due = watchers.next_at() == Some(at(millis));
            assert_eq!(watchers.look(at(millis), &recorder), is_due, "{millis}");
        }
        let expected = [
            ("slow", 0),
            ("fast", 0),
            ("fast", 20),
            ("fast", 40),
            ("slow", 50),
            ("fast", 60),
        ];
        assert_eq!(*calls.borrow(), expected);
    }
}
