//! Flows: who pings whom, and when a ping is due. Pure: no file descriptor, no clock, no log.
//!
//! [`Load`] is asked [`Load::next`] until it says that nothing is due, told of every ping that is over, and says when
//! it wants to be asked again. A paced flow is open loop: its next ping is due an interval after the *previous due
//! time*, whatever the replies do, so that a slow network can't slow its own measurement down (coordinated omission). A
//! flow with a window is closed loop: each ping that is over makes the next one due.

mod flow;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub use flow::{Flow, Pacing};

use crate::time::Instant;

/// A flow's index: one source pinging one destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowId(pub u32);

impl FlowId {
    /// The index into a table of flows.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A ping that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The flow that it belongs to.
    pub flow: FlowId,
    /// When the schedule wanted it sent.
    pub due: Instant,
    /// Whether the same flow has another ping due at the same time: a window that opens.
    pub more: bool,
}

/// All flows of a run.
#[derive(Debug, Default)]
pub struct Load {
    flows: Vec<Flow>,
    /// Paced flows by the time their next ping is due.
    paced: BinaryHeap<Reverse<(Instant, FlowId)>>,
    /// Windowed flows that may send now, the one that has waited longest first.
    open: VecDeque<FlowId>,
    /// Pings that were handed out and are not over.
    on_their_way: u64,
    /// Flows that will have another ping due, now or when one is over.
    unfinished: usize,
    stopped: bool,
}

impl Load {
    /// Adds a flow whose first ping is due at `start`.
    pub fn add(&mut self, start: Instant, pacing: Pacing, count: Option<u64>) -> FlowId {
        // A run has fewer flows than 32 bits can count: each takes more than 100 bytes.
        let id = FlowId(self.flows.len() as u32);
        let flow = Flow::new(start, pacing, count);
        if !flow.is_finished() {
            self.unfinished += 1;
            match pacing {
                Pacing::Interval(_) => self.paced.push(Reverse((start, id))),
                Pacing::Window(_) => self.open.push_back(id),
            }
        }
        self.flows.push(flow);
        id
    }

    /// The next ping that is due at `now`, the one that has been due longest first among paced flows.
    pub fn next(&mut self, now: Instant) -> Option<Due> {
        if self.stopped {
            return None;
        }
        let due = self.next_paced(now).or_else(|| self.next_open(now))?;
        self.on_their_way += 1;
        Some(due)
    }

    /// Tells that a ping of `flow` is over.
    pub fn finished(&mut self, now: Instant, id: FlowId) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        if let Some(flow) = self.flows.get_mut(id.index())
            && flow.ping_finished(now)
        {
            self.open.push_back(id);
        }
    }

    /// When [`Load::next`] has something: [`Instant::ZERO`] for at once, `None` for not before a ping is over.
    pub fn next_at(&self) -> Option<Instant> {
        if self.stopped {
            None
        } else if self.open.is_empty() {
            self.paced.peek().map(|Reverse((at, _))| *at)
        } else {
            Some(Instant::ZERO)
        }
    }

    /// Has nothing due from now on; pings on their way may still end.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether every ping was sent and is over.
    pub fn is_done(&self) -> bool {
        self.on_their_way == 0 && (self.stopped || self.unfinished == 0)
    }

    fn next_paced(&mut self, now: Instant) -> Option<Due> {
        let mut first = self.paced.peek_mut().filter(|first| first.0.0 <= now)?;
        let Reverse((due, id)) = *first;
        match self.flows.get_mut(id.index()).and_then(Flow::advance) {
            // Replacing the top in place costs one sift instead of a pop and a push.
            Some(next) => *first = Reverse((next, id)),
            None => {
                std::collections::binary_heap::PeekMut::pop(first);
                self.unfinished -= 1;
            }
        }
        Some(Due {
            flow: id,
            due,
            more: false,
        })
    }

    fn next_open(&mut self, now: Instant) -> Option<Due> {
        let &id = self.open.front()?;
        let flow = self.flows.get_mut(id.index())?;
        let due = flow.take_credit();
        let more = flow.has_credit();
        if !more {
            self.open.pop_front();
        }
        if flow.is_finished() {
            self.unfinished -= 1;
        }
        Some(Due {
            flow: id,
            due: due.min(now),
            more,
        })
    }
}

#[cfg(test)]
mod tests;
