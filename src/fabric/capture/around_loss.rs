//! The frames around pings that were lost, late or corrupt, from a ring in memory.
//!
//! A frame is kept for as long as a ping may take: a ping is known to be lost when its timeout has passed, and what tells
//! why happened before. Until then nothing is looked up and nothing formatted, so that it costs little to have it on.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::MAX_KEPT;
use super::file::{File, Frame};
use super::narrated::{echo_of, fate};
use super::pings::Key;
use super::queue::{Kept, Queue};
use super::words::{Fate, Part, PingName, push, push_fate, push_lot, push_name};
use crate::fabric::{Direction, Impaired, Observed, WriteDrop};
use crate::time::Instant;
use crate::vm::{Event, PingId, PingOutcome, VmId};
use crate::wire::{Describe, EchoHead, MacAddr};

/// Frames that are looked at to find one frame of a ping.
const MAX_LOOKS: usize = 8_192;

/// What is known of a frame when it is shown: what the impairments did to it, and why the fabric did not take it.
type Known = (Impaired, Option<WriteDrop>);

/// Keeps all frames for a while, and writes those around failed pings.
#[derive(Debug)]
pub(super) struct AroundLoss {
    queue: Queue<Known>,
    /// Frames that were removed from the queue so far: the number of its first one.
    removed: u64,
    /// Frames before and after each failed ping.
    around: u64,
    has_comments: bool,
    /// The time for which a frame is kept.
    longest: Duration,
    /// The first and last numbers of frames that are to be written, apart from each other and in order.
    wanted: VecDeque<(u64, u64)>,
    /// The failed pings of frames that are kept, each with its full sequence number.
    failed: FxHashMap<Key, (u64, Fate)>,
    /// What came of the other pings of which a request was written, for the frames after it.
    told: FxHashMap<Key, Fate>,
    /// Failed pings of which the request was not found.
    missed: u64,
    comment: Vec<u8>,
    unknown: u64,
}

impl AroundLoss {
    pub(super) fn new(around: u32, has_comments: bool, longest: Duration) -> AroundLoss {
        AroundLoss {
            queue: Queue::new(),
            removed: 0,
            around: around.into(),
            has_comments,
            longest,
            wanted: VecDeque::new(),
            failed: FxHashMap::default(),
            told: FxHashMap::default(),
            missed: 0,
            comment: Vec::new(),
            unknown: 0,
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.queue.size()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) const fn unknown(&self) -> u64 {
        self.unknown
    }

    pub(super) const fn missed(&self) -> u64 {
        self.missed
    }

    /// Keeps `snap` bytes of a frame.
    #[inline]
    pub(super) fn frame(&mut self, at: Instant, seen: &Observed<'_>, snap: usize) {
        let place = (seen.vm, seen.direction);
        self.queue
            .push(at, place, seen.frame, snap, (seen.impaired, seen.refused));
    }

    /// Takes an event of `vm`.
    #[inline]
    pub(super) fn event(&mut self, vm: VmId, event: &Event) {
        if let Event::Ping(ping, outcome) = event
            && !matches!(
                outcome,
                PingOutcome::Answered { .. } | PingOutcome::Member { .. }
            )
        {
            self.outcome(vm, *ping, *outcome);
        }
    }

    #[cold]
    fn outcome(&mut self, vm: VmId, ping: PingId, outcome: PingOutcome) {
        let due = match outcome {
            PingOutcome::Lost { due } | PingOutcome::Corrupt { due } => Some(due),
            PingOutcome::Late { lost } => lost,
            _ => return,
        };
        let key = Key::new(vm, ping.session.0, ping.sequence as u16);
        if let Some(fate) = fate(outcome) {
            self.failed.insert(key, (ping.sequence, fate));
        }
        let newest = (self.removed + self.queue.len() as u64).saturating_sub(1);
        // The reply is the last frame; of a ping that was lost, the request says more.
        match due.and_then(|due| self.find_request(due, vm, ping)) {
            Some(number) => self.want(number),
            // A late one was given up before.
            None => self.missed += u64::from(!matches!(outcome, PingOutcome::Late { lost: None })),
        }
        if !matches!(outcome, PingOutcome::Lost { .. }) {
            self.want(newest);
        }
    }

    /// The number of the frame with which a ping began that was due at `due`.
    fn find_request(&self, due: Instant, vm: VmId, ping: PingId) -> Option<u64> {
        let first = self.queue.first_at(due);
        let is_it = |index: &usize| {
            let is_it = |kept: &Kept<Known>| {
                let echo = EchoHead::parse(self.queue.bytes(kept).0);
                kept.vm == vm
                    && kept.direction == Direction::Out
                    && echo.is_some_and(|echo| {
                        echo.is_request
                            && echo.identifier == ping.session.0
                            && echo.sequence == ping.sequence as u16
                    })
            };
            self.queue.get(*index).is_some_and(is_it)
        };
        let end = self.queue.len().min(first + MAX_LOOKS);
        let index = (first..end).find(is_it)?;
        Some(self.removed + index as u64)
    }

    /// Marks the frames around the one with that number.
    fn want(&mut self, number: u64) {
        let first = number.saturating_sub(self.around).max(self.removed);
        let last = number + self.around;
        let at = self.wanted.partition_point(|(_, end)| *end + 1 < first);
        let (mut first, mut last) = (first, last);
        while let Some(&(from, to)) = self.wanted.get(at)
            && from <= last + 1
        {
            (first, last) = (first.min(from), last.max(to));
            self.wanted.remove(at);
        }
        self.wanted.insert(at, (first, last));
    }

    /// Writes and drops the frames of whose pings nothing more is heard by `now`.
    pub(super) fn trim(
        &mut self,
        now: Instant,
        stations: &FxHashMap<MacAddr, VmId>,
        file: &mut File,
    ) {
        let around = self.around as usize;
        loop {
            // A frame may still be before a ping that is lost.
            let later = self.queue.get(around);
            let is_over = later.is_some_and(|later| later.at + self.longest <= now);
            if self.queue.size() <= MAX_KEPT && (file.is_behind() || !is_over) {
                return;
            }
            if !self.take_front(stations, file) {
                return;
            }
        }
    }

    /// Writes all that is to be written.
    pub(super) fn write_all(&mut self, stations: &FxHashMap<MacAddr, VmId>, file: &mut File) {
        while self.take_front(stations, file) {}
    }

    /// Removes the first frame, and writes it if it is wanted. Returns false if there is none.
    fn take_front(&mut self, stations: &FxHashMap<MacAddr, VmId>, file: &mut File) -> bool {
        let Some(&front) = self.queue.front() else {
            return false;
        };
        while self
            .wanted
            .front()
            .is_some_and(|(_, last)| *last < self.removed)
        {
            self.wanted.pop_front();
        }
        if self.wanted.is_empty() {
            // What was told is over, and its numbers will come again.
            self.failed.clear();
            self.told.clear();
        }
        let is_wanted = self
            .wanted
            .front()
            .is_some_and(|(first, _)| *first <= self.removed);
        if is_wanted {
            self.write(&front, stations, file);
        }
        self.queue.pop();
        self.removed += 1;
        true
    }

    #[cold]
    fn write(&mut self, front: &Kept<Known>, stations: &FxHashMap<MacAddr, VmId>, file: &mut File) {
        let mut comment = std::mem::take(&mut self.comment);
        comment.clear();
        if self.has_comments {
            let is_known = self.describe(front, stations, &mut comment);
            self.unknown += u64::from(!is_known);
            let (impaired, refused) = front.what;
            push_lot(&mut comment, impaired, refused);
        }
        let (bytes, _) = self.queue.bytes(front);
        file.write(&Frame {
            at: front.at,
            vm: front.vm,
            direction: front.direction,
            bytes,
            length: front.length,
            comment: &comment,
        });
        self.comment = comment;
    }

    /// Writes what the first frame is. Returns false if it is of a ping of which it is not known what came of it.
    fn describe(
        &mut self,
        front: &Kept<Known>,
        stations: &FxHashMap<MacAddr, VmId>,
        comment: &mut Vec<u8>,
    ) -> bool {
        let (bytes, _) = self.queue.bytes(front);
        let seen = Observed {
            vm: front.vm,
            direction: front.direction,
            frame: bytes,
            impaired: front.what.0,
            refused: front.what.1,
        };
        let echo = EchoHead::parse(bytes);
        let Some((key, part, target)) = echo.and_then(|echo| echo_of(&seen, &echo, stations))
        else {
            push(comment, format_args!("{}", Describe(bytes)));
            return true;
        };
        let name = PingName {
            source: key.source(),
            sequence: self.sequence(key),
            target,
        };
        push_name(comment, part, &name);
        let failed = self.failed.get(&key).map(|(_, fate)| *fate);
        let fate = match (failed, part) {
            (Some(fate), _) => fate,
            (None, Part::Sent) => {
                let fate = self.find_reply(front, key);
                self.told.insert(key, fate);
                fate
            }
            (None, Part::Request | Part::Reply) => match self.told.get(&key) {
                Some(fate) => *fate,
                // Its request, which is not in the file, would say.
                None => return true,
            },
        };
        push_fate(comment, part, fate);
        fate != Fate::Open
    }

    /// The sequence number in full, near that of a failed ping of the same flow.
    fn sequence(&self, key: Key) -> u64 {
        let mut of_flow = self
            .failed
            .iter()
            .filter(|(other, _)| other.flow() == key.flow());
        let Some((near, (sequence, _))) = of_flow.next() else {
            return key.sequence().into();
        };
        let apart = key.sequence().wrapping_sub(near.sequence()) as i16;
        sequence.saturating_add_signed(apart.into())
    }

    /// What came of a ping whose request is `front`, the first frame, by its reply.
    fn find_reply(&self, front: &Kept<Known>, key: Key) -> Fate {
        let answered = |kept: &Kept<Known>| {
            let is_here = kept.vm == front.vm && kept.direction == Direction::In;
            let echo = is_here.then(|| EchoHead::parse(self.queue.bytes(kept).0));
            let is_reply = echo.flatten().is_some_and(|echo| {
                !echo.is_request && Key::new(kept.vm, echo.identifier, echo.sequence) == key
            });
            is_reply.then(|| Fate::Answered(kept.at.nanos_since(front.at)))
        };
        let mut later = (1..MAX_LOOKS).map_while(|index| self.queue.get(index));
        later.find_map(answered).unwrap_or(Fate::Open)
    }
}
