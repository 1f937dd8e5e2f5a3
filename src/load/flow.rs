//! Scheduling state of one flow.

use crate::time::Instant;

/// Presence of the two VMs of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Presence {
    #[default]
    Here,
    /// A VM is still to start: nothing is due until then.
    Pending,
    /// A VM has stopped: nothing is due ever again.
    Gone,
}

/// Counts a flow's pings: those left in the present phase and those outstanding.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Flow {
    /// Pings of this phase not yet handed out; `None` for an unlimited number.
    left: Option<u64>,
    /// Pings handed out and not finished, those of earlier phases included.
    outstanding: u32,
    /// Time since which a windowed flow may send.
    open_since: Instant,
    /// A windowed flow is in the queue of flows that may send.
    is_queued: bool,
    presence: Presence,
}

impl Flow {
    /// Begins a phase of `count` pings (`None`: unlimited), the first of them due at `start`.
    pub(super) fn begin(&mut self, start: Instant, count: Option<u64>) {
        *self = Flow {
            left: count,
            open_since: start,
            is_queued: false,
            ..*self
        };
    }

    /// Ends the phase for this flow: no further ping is due in it.
    pub(super) fn end(&mut self) {
        self.left = Some(0);
        self.is_queued = false;
    }

    /// Ends the flow for good. Returns the number of outstanding pings.
    pub(super) fn retire(&mut self) -> u32 {
        self.end();
        self.presence = Presence::Gone;
        std::mem::take(&mut self.outstanding)
    }

    /// Suspends the flow until [`Flow::wake`].
    pub(super) fn suspend(&mut self) {
        self.presence = Presence::Pending;
    }

    /// Resumes a flow suspended by [`Flow::suspend`]. Returns true if it was suspended.
    pub(super) fn wake(&mut self) -> bool {
        let was_pending = self.is_pending();
        if was_pending {
            self.presence = Presence::Here;
        }
        was_pending
    }

    /// Returns true if the flow is suspended until [`Flow::wake`].
    pub(super) fn is_pending(&self) -> bool {
        self.presence == Presence::Pending
    }

    /// Returns true if both VMs of the flow exist, so that it takes part in phases.
    pub(super) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    /// Returns true once all pings of this phase have been handed out.
    pub(super) fn is_finished(&self) -> bool {
        self.left == Some(0)
    }

    /// Returns the number of pings of this phase not yet handed out; [`u64::MAX`] if unlimited.
    pub(super) fn left(&self) -> u64 {
        self.left.unwrap_or(u64::MAX)
    }

    /// Counts a ping as handed out.
    pub(super) fn take(&mut self) {
        self.outstanding += 1;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }

    /// Returns true if the flow may send one more ping with `window` outstanding at most.
    pub(super) fn may_send(&self, window: u32) -> bool {
        self.outstanding < window && !self.is_finished()
    }

    /// Returns the time since which a windowed flow may send: when the reply came that opened its window.
    pub(super) fn open_since(&self) -> Instant {
        self.open_since
    }

    /// Records that the flow was removed from the queue of flows that may send.
    pub(super) fn left_queue(&mut self) {
        self.is_queued = false;
    }

    /// Marks the flow as queued from `now` on if it may send and is not queued yet. Returns true if it did.
    pub(super) fn open(&mut self, now: Instant, window: u32) -> bool {
        let opens = !self.is_queued && self.may_send(window);
        if opens {
            (self.is_queued, self.open_since) = (true, now);
        }
        opens
    }

    /// Counts an outstanding ping as finished.
    pub(super) fn ping_finished(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }
}
