//! Answers on their way out: each goes to the neighbour that the routes name, and waits while that is looked for.
//!
//! An answer is built in the frame of its question. The hardware address that the question came from is the right one only
//! if the asker is a neighbour, and no neighbour entry says otherwise: a question from another network may have come
//! by another way than the one that leads back.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::{Event, Ignored, Reaction, Transmit, Vm};
use crate::time::Instant;
use crate::wire::set_destination;

/// Bytes of answers that may wait for neighbours; the next are dropped.
pub const MAX_WAITING_ANSWERS: usize = 128 * 1024;

/// The answers that wait for one neighbour.
#[derive(Debug)]
struct Waiting {
    next_hop: IpAddr,
    frames: VecDeque<Box<[u8]>>,
}

/// Answers that wait for neighbours: for routers, so that there are few of these. Nothing is on the heap before the first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl Answers {
    /// Keeps a frame until `next_hop` is known. False if too much is kept already.
    fn push(&mut self, next_hop: IpAddr, frame: &[u8]) -> bool {
        if self.bytes + frame.len() > MAX_WAITING_ANSWERS {
            return false;
        }
        self.bytes += frame.len();
        let known = self.waiting.iter_mut().find(|w| w.next_hop == next_hop);
        match known {
            Some(waiting) => waiting.frames.push_back(frame.into()),
            None => self.waiting.push(Waiting {
                next_hop,
                frames: VecDeque::from([frame.into()]),
            }),
        }
        true
    }

    /// Takes the oldest frame for a neighbour of which `is_settled` is true.
    fn pop(&mut self, is_settled: impl Fn(IpAddr) -> bool) -> Option<(IpAddr, Box<[u8]>)> {
        let index = self.waiting.iter().position(|w| is_settled(w.next_hop))?;
        let waiting = self.waiting.get_mut(index)?;
        let (next_hop, frame) = (waiting.next_hop, waiting.frames.pop_front());
        if waiting.frames.is_empty() {
            self.waiting.swap_remove(index);
        }
        let frame = frame?;
        self.bytes -= frame.len();
        Some((next_hop, frame))
    }
}

impl Vm {
    /// Hands the answer to `destination` in the first `length` bytes of `buffer`, which is addressed to where the question
    /// came from, to `next_hop`. `None` if it has to wait for that, or there is no answer.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn hand_to(
        &mut self,
        now: Instant,
        next_hop: IpAddr,
        destination: IpAddr,
        length: Option<usize>,
        buffer: &mut [u8],
    ) -> Result<Option<Transmit>, Ignored> {
        let Some(length) = length else {
            return Ok(None);
        };
        let frame = buffer.get_mut(..length).unwrap_or_default();
        match self.lead_to(now, next_hop, destination, frame)? {
            true => self.fit(now, Some(Transmit { length, ping: None }), true, buffer),
            false => Ok(None),
        }
    }

    /// Addresses the answer in `frame` to `next_hop`. Returns false if it has to wait for that.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn lead_to(
        &mut self,
        now: Instant,
        next_hop: IpAddr,
        destination: IpAddr,
        frame: &mut [u8],
    ) -> Result<bool, Ignored> {
        if next_hop != destination {
            return self.lead_to_neighbour(now, next_hop, frame);
        }
        if let Some(mac) = self.neighbours.get(next_hop) {
            set_destination(frame, mac);
        }
        Ok(true)
    }

    /// Addresses `frame` to `next_hop`, which is asked for if it is not known. Returns false if it has to wait for that.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn lead_to_neighbour(
        &mut self,
        now: Instant,
        next_hop: IpAddr,
        frame: &mut [u8],
    ) -> Result<bool, Ignored> {
        if let Some(mac) = self.neighbours.reach(now, next_hop) {
            set_destination(frame, mac);
            return Ok(true);
        }
        let is_kept = self.answers.push(next_hop, frame);
        is_kept.then_some(false).ok_or(Ignored::AnswerQueueFull)
    }

    /// Tells if an answer waits no longer: its neighbour is known, or was asked for in vain.
    pub(super) fn has_answers(&self) -> bool {
        let mut waiting = self.answers.waiting.iter();
        waiting.any(|waiting| self.is_settled(waiting.next_hop))
    }

    fn is_settled(&self, next_hop: IpAddr) -> bool {
        self.neighbours.get(next_hop).is_some() || !self.neighbours.is_asking(next_hop)
    }

    /// Sends an answer whose neighbour is known now, or drops one whose neighbour was asked for in vain.
    pub(super) fn next_answer(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        if !self.has_answers() {
            return None;
        }
        let mut answers = std::mem::take(&mut self.answers);
        let next = answers.pop(|next_hop| self.is_settled(next_hop));
        self.answers = answers;
        let (next_hop, frame) = next?;
        let sent = self.neighbours.get(next_hop).ok_or(Ignored::NoNeighbour);
        let sent = sent.and_then(|mac| {
            let length = frame.len();
            let space = buffer.get_mut(..length).ok_or(Ignored::AnswerQueueFull)?;
            space.copy_from_slice(&frame);
            set_destination(space, mac);
            self.fit(now, Some(Transmit { length, ping: None }), true, buffer)
        });
        if sent.is_err() {
            self.keep_ignored(&frame);
        }
        Some(Reaction {
            transmit: sent.unwrap_or_default(),
            event: sent.err().map(Event::Ignored),
        })
    }
}
