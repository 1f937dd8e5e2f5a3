//! What the schedule knows of one flow.

use crate::time::Instant;

/// How many pings a flow has had in this phase, and how many are on their way.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Flow {
    /// Pings of this phase not yet handed out; `None` for without end.
    left: Option<u64>,
    /// Pings that were handed out and are not over, those of earlier phases too.
    on_their_way: u32,
    /// Since when a windowed flow may send.
    open_since: Instant,
    /// Whether a windowed flow stands in the queue of those that may send.
    is_queued: bool,
    /// Whether it is over for good.
    is_retired: bool,
}

impl Flow {
    /// Begins a phase with `count` pings, the first of them due at `start`.
    pub(super) fn begin(&mut self, start: Instant, count: Option<u64>) {
        *self = Flow {
            left: count,
            open_since: start,
            is_queued: false,
            ..*self
        };
    }

    /// Has no ping left in this phase.
    pub(super) fn end(&mut self) {
        self.left = Some(0);
        self.is_queued = false;
    }

    /// Has no ping left, in this phase or a later one. Returns how many were on their way.
    pub(super) fn retire(&mut self) -> u32 {
        self.end();
        self.is_retired = true;
        std::mem::take(&mut self.on_their_way)
    }

    /// Whether it is over for good.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Whether all pings of this phase have been handed out.
    pub(super) fn is_finished(&self) -> bool {
        self.left == Some(0)
    }

    /// Hands out a ping.
    pub(super) fn take(&mut self) {
        self.on_their_way += 1;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
    }

    /// Whether the flow may send one more, with a window of `window`.
    pub(super) fn may_send(&self, window: u32) -> bool {
        self.on_their_way < window && !self.is_finished()
    }

    /// Since when a windowed flow may send: when the reply came that made room.
    pub(super) fn open_since(&self) -> Instant {
        self.open_since
    }

    /// Takes note that the flow left the queue of those that may send.
    pub(super) fn left_queue(&mut self) {
        self.is_queued = false;
    }

    /// Queues the flow from `now` on, if it may send and is not queued. Whether that was so.
    pub(super) fn open(&mut self, now: Instant, window: u32) -> bool {
        let opens = !self.is_queued && self.may_send(window);
        if opens {
            (self.is_queued, self.open_since) = (true, now);
        }
        opens
    }

    /// Takes note that a ping is over.
    pub(super) fn ping_finished(&mut self) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
    }
}
