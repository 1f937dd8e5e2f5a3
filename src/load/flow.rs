//! The schedule of one flow.

use std::time::Duration;

use crate::time::Instant;

/// When a flow's pings are due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pacing {
    /// Open loop: one ping every interval, whatever becomes of the others.
    Interval(Duration),
    /// Closed loop: that many pings on their way at any time, as fast as replies come.
    Window(u32),
}

/// The schedule of one flow: how many pings it has had, and when the next one is due.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    pacing: Pacing,
    /// Pings not yet handed out; `None` for without end.
    left: Option<u64>,
    /// When the next ping is due; for a window, when the oldest unused credit came.
    due: Instant,
    /// Pings that a windowed flow may send now.
    credit: u32,
}

impl Flow {
    /// A flow whose first ping is due at `start`.
    pub(super) fn new(start: Instant, pacing: Pacing, count: Option<u64>) -> Self {
        let credit = match pacing {
            Pacing::Interval(_) => 0,
            Pacing::Window(window) => window,
        };
        Flow {
            pacing,
            left: count,
            due: start,
            credit,
        }
    }

    /// Whether all of its pings have been handed out.
    pub(super) fn is_finished(&self) -> bool {
        self.left == Some(0)
    }

    /// Hands out the ping of a paced flow, and returns when the next one is due, if there is one.
    pub(super) fn advance(&mut self) -> Option<Instant> {
        let Pacing::Interval(interval) = self.pacing else {
            return None;
        };
        self.count_down();
        self.due = self.due + interval;
        (!self.is_finished()).then_some(self.due)
    }

    /// Hands out a ping of a windowed flow, and returns when it became due.
    pub(super) fn take_credit(&mut self) -> Instant {
        self.count_down();
        self.credit = self.credit.saturating_sub(1);
        self.due
    }

    /// Whether a windowed flow may send now.
    pub(super) fn has_credit(&self) -> bool {
        self.credit > 0 && !self.is_finished()
    }

    /// Takes note that a ping is over. Returns whether that lets a windowed flow send that could not before.
    pub(super) fn ping_finished(&mut self, now: Instant) -> bool {
        if matches!(self.pacing, Pacing::Interval(_)) || self.is_finished() {
            return false;
        }
        let opens = self.credit == 0;
        if opens {
            self.due = now;
        }
        self.credit += 1;
        opens
    }

    fn count_down(&mut self) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }
}
