//! What the schedule knows of one flow.

use crate::time::Instant;

/// Whether a flow's ends are there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Presence {
    #[default]
    Here,
    /// Not yet: nothing is due.
    Awaited,
    /// Not any more.
    Gone,
}

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
    presence: Presence,
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
        self.presence = Presence::Gone;
        std::mem::take(&mut self.on_their_way)
    }

    /// Has nothing due before it is [woken](Flow::wake).
    pub(super) fn await_ends(&mut self) {
        self.presence = Presence::Awaited;
    }

    /// Has pings from now on. Whether it was awaited.
    pub(super) fn wake(&mut self) -> bool {
        let was_awaited = self.is_awaited();
        if was_awaited {
            self.presence = Presence::Here;
        }
        was_awaited
    }

    /// Whether it is to be woken.
    pub(super) fn is_awaited(&self) -> bool {
        self.presence == Presence::Awaited
    }

    /// Whether it takes part in phases.
    pub(super) fn is_here(&self) -> bool {
        self.presence == Presence::Here
    }

    /// Whether all pings of this phase have been handed out.
    pub(super) fn is_finished(&self) -> bool {
        self.left == Some(0)
    }

    /// How many pings of this phase have not been handed out; [`u64::MAX`] for without end.
    pub(super) fn left(&self) -> u64 {
        self.left.unwrap_or(u64::MAX)
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
