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
    /// When a windowed flow starts in the present phase.
    start: Instant,
    /// Pings of a windowed flow that may be sent, and are in the queue of those.
    queued: u32,
    presence: Presence,
}

impl Flow {
    /// Begins a phase of `count` pings (`None`: unlimited), the first of them due at `start`.
    pub(super) fn begin(&mut self, start: Instant, count: Option<u64>) {
        *self = Flow {
            left: count,
            start,
            queued: 0,
            ..*self
        };
    }

    /// Ends the phase for this flow: no further ping is due in it.
    pub(super) fn end(&mut self) {
        self.left = Some(0);
        self.queued = 0;
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
        self.queued = self.queued.saturating_sub(1);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }

    /// Returns when a windowed flow starts in the present phase.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Records that the pings of the flow were taken out of the queue of those that may be sent.
    pub(super) fn left_queue(&mut self) {
        self.queued = 0;
    }

    /// Queues as many pings as `window` leaves room for, `most` at most. Returns their number.
    pub(super) fn open(&mut self, window: u32, most: u32) -> u32 {
        let taken = self.outstanding.saturating_add(self.queued);
        let left = self.left().saturating_sub(self.queued.into());
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let opened = window.saturating_sub(taken).min(left).min(most);
        self.queued += opened;
        opened
    }

    /// Counts an outstanding ping as finished.
    pub(super) fn ping_finished(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }
}
