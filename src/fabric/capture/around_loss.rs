//! The frames around pings that were lost, late or corrupt, or that not every member of a group answered, from a ring in
//! memory.
//!
//! A ping is known to be lost when its timeout has passed, and what tells why happened before. So a frame is kept until it is
//! known what came of the pings before it and of those that follow it closely: while all are answered, few frames are kept, in
//! memory that stays in the processor's caches. Nothing is looked up by name and nothing formatted until a ping fails, so that
//! it costs little to have it on.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::file::{File, Frame};
use super::fragments::Fragments;
use super::hidden::Hidden;
use super::narrated::{echo_of, fate};
use super::pings::Key;
use super::queue::{Kept, Queue};
use super::words::{
    Fate, Part, PingName, push, push_fate, push_lot, push_malformed, push_name, push_piece,
};
use super::{END, MAX_KEPT};
use crate::fabric::{Direction, Observed};
use crate::load::Target;
use crate::time::Instant;
use crate::vm::{Event, Ignored, PingId, PingOutcome, VmId};
use crate::wire::{Describe, EchoHead, FragmentHead, MacAddr, ParseError};

/// Frames that are looked at to find one frame of a ping when it fails.
const MAX_LOOKS: usize = 8_192;

/// Bytes that are kept of a frame at least, so that it is known of which ping it is: up to the numbers of an echo message behind
/// IPv6, two tags and the header of a fragment.
const HEAD: usize = 80;

/// Frames that are dropped in a turn: many are when a ping is over that took long, and none is to wait for that.
pub(super) const PIECE: usize = 1_024;

/// Pings of which it is known at most what came of them; where there are more, it is known anew.
const MAX_TOLD: usize = 1 << 16;

/// Frames behind a fragment among which the last one of its datagram is looked for.
const MAX_PIECES: usize = 256;

/// What came of the ping that a frame begins; `None` for other frames.
type OfPing = Option<Fate>;

/// Keeps all frames for a while, and writes those around failed pings.
#[derive(Debug)]
pub(super) struct AroundLoss {
    queue: Queue<OfPing>,
    /// Frames that were removed from the queue so far: the number of its first one.
    removed: u64,
    /// Frames before and after each failed ping.
    around: u64,
    has_comments: bool,
    /// Bytes that are written of each frame.
    snap: usize,
    /// The time for which a ping is waited for.
    longest: Duration,
    /// The first and last numbers of frames that are to be written, apart from each other and in order.
    wanted: VecDeque<(u64, u64)>,
    /// The number of the first frame that begins a ping of which more may be heard; those before begin none, or one that is
    /// over.
    first_open: u64,
    /// The number of the last frame that began a ping.
    newest: u64,
    /// Pings of frames from there on that are not over.
    open: usize,
    /// The pings of VMs whose frames are not captured.
    hidden: Hidden,
    /// The failed pings of frames that are kept, each with its full sequence number.
    failed: FxHashMap<Key, (u64, Fate)>,
    /// What came of the pings of which a request was written, for the frames after it.
    told: FxHashMap<Key, Fate>,
    /// Failed pings of which the request was not found soon, each with the number of the frame after which it failed. They are
    /// looked for when the time of a request is over.
    sought: FxHashMap<Key, u64>,
    /// Failed pings whose frames were in memory no more.
    missed: u64,
    fragments: Fragments<(Key, Part, Target)>,
    comment: Vec<u8>,
    unknown: u64,
}

impl AroundLoss {
    pub(super) fn new(
        around: u32,
        has_comments: bool,
        snap: usize,
        longest: Duration,
    ) -> AroundLoss {
        AroundLoss {
            queue: Queue::new(),
            removed: 0,
            around: around.into(),
            has_comments,
            snap,
            longest,
            wanted: VecDeque::new(),
            first_open: 0,
            newest: 0,
            open: 0,
            hidden: Hidden::default(),
            failed: FxHashMap::default(),
            told: FxHashMap::default(),
            sought: FxHashMap::default(),
            missed: 0,
            fragments: Fragments::new(),
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

    /// Keeps a frame.
    #[inline]
    pub(super) fn frame(&mut self, at: Instant, seen: &Observed<'_>) {
        let begins_ping = seen.direction == Direction::Out && EchoHead::is_request(seen.frame);
        if begins_ping {
            self.newest = self.end();
            self.open += 1;
        }
        let of_ping = begins_ping.then_some(Fate::Open);
        self.queue.push(at, seen, self.snap.max(HEAD), of_ping);
    }

    /// Follows a ping that a frame of a VM begins whose frames are not captured.
    #[inline]
    pub(super) fn hidden_frame(&mut self, at: Instant, seen: &Observed<'_>) {
        if seen.direction == Direction::Out
            && let Some(echo) = EchoHead::parse(seen.frame).filter(|echo| echo.is_request)
        {
            let key = Key::new(seen.vm, echo.identifier, echo.sequence);
            self.hidden.open(at, key, self.end());
        }
    }

    /// Notes that a frame that was sent at `at` was never released.
    pub(super) fn unreleased(&mut self, at: Instant, seen: &Observed<'_>) {
        self.queue.unreleased(at, seen);
    }

    /// Takes an event of `vm`, whose own frames are captured or are not.
    #[inline]
    pub(super) fn event(&mut self, now: Instant, vm: VmId, is_captured: bool, event: &Event) {
        let (ping, outcome) = match event {
            Event::Ping(ping, outcome) => (ping, outcome),
            Event::Ignored(Ignored::Malformed(error)) => return self.malformed(now, vm, error),
            _ => return,
        };
        match *outcome {
            PingOutcome::Member {
                is_first: false,
                is_last: false,
                ..
            } => {}
            PingOutcome::Answered { .. } | PingOutcome::Member { is_last: true, .. }
                if !is_captured =>
            {
                self.hidden.close(key_of(vm, *ping));
            }
            PingOutcome::Answered { sent, received, .. }
            | PingOutcome::Member {
                is_last: true,
                sent,
                received,
                ..
            } => self.answered(vm, *ping, sent, Fate::Answered(received.nanos_since(sent))),
            PingOutcome::Member { sent, received, .. } => {
                self.answered(vm, *ping, sent, Fate::Member(received.nanos_since(sent)));
            }
            outcome => self.outcome(vm, is_captured, *ping, outcome),
        }
    }

    /// Notes with the last frame that its receiver could not read it, if it is an echo message.
    #[cold]
    fn malformed(&mut self, now: Instant, vm: VmId, error: &ParseError) {
        let is_it = |last: &&Kept<OfPing>| {
            (last.at, last.vm, last.direction) == (now, vm, Direction::In)
                && EchoHead::parse(self.queue.bytes(last).0).is_some()
        };
        if self.has_comments && self.queue.back().filter(is_it).is_some() {
            self.queue.note(|text| push_malformed(text, error));
        }
    }

    /// A ping was answered whose first frame was sent at `sent`.
    #[inline]
    fn answered(&mut self, vm: VmId, ping: PingId, sent: Instant, fate: Fate) {
        // With one on its way, it is this.
        let newest = self.newest.wrapping_sub(self.removed) as usize;
        if !self.settle(newest, vm, ping, sent, fate) {
            self.find_answered(vm, ping, sent, fate);
        }
    }

    fn find_answered(&mut self, vm: VmId, ping: PingId, sent: Instant, fate: Fate) {
        let mut index = self.queue.first_at(sent);
        let end = index + MAX_LOOKS;
        let is_of_then = |kept: &Kept<OfPing>| kept.at == sent;
        while index < end
            && self.queue.get(index).is_some_and(is_of_then)
            && !self.settle(index, vm, ping, sent, fate)
        {
            index += 1;
        }
    }

    /// Notes what came of a ping that was sent at `sent`, if it is the one that the frame of that index began.
    #[inline]
    fn settle(&mut self, index: usize, vm: VmId, ping: PingId, sent: Instant, fate: Fate) -> bool {
        let is_of_then = |kept: &Kept<OfPing>| kept.at == sent;
        let kept = self.queue.get(index).filter(|kept| is_of_then(kept));
        let is_it = kept.is_some_and(|kept| {
            // Pings that a VM sends at one time are told apart by their numbers.
            let has_neighbour = |index| self.queue.get(index).is_some_and(is_of_then);
            let is_alone = !has_neighbour(index.wrapping_sub(1)) && !has_neighbour(index + 1);
            kept.vm == vm && is_open(kept) && (is_alone || self.begins(kept, ping))
        });
        if is_it {
            self.close(index, fate);
        }
        is_it
    }

    /// Returns true if the numbers in a frame are those of `ping`.
    fn begins(&self, kept: &Kept<OfPing>, ping: PingId) -> bool {
        EchoHead::parse(self.queue.bytes(kept).0).is_some_and(|echo| {
            echo.identifier == ping.session.0 && echo.sequence == ping.sequence as u16
        })
    }

    /// Notes what came of the ping that the frame of that index began.
    #[inline]
    fn close(&mut self, index: usize, fate: Fate) {
        let is_counted = self.removed + index as u64 >= self.first_open;
        if let Some(Kept {
            what: Some(of_ping),
            ..
        }) = self.queue.get_mut(index)
        {
            let is_over = is_counted && of_ping.is_open() && !fate.is_open();
            self.open -= usize::from(is_over);
            *of_ping = match (*of_ping, fate) {
                // With the first reply it is received.
                (Fate::Member(nanos), Fate::Answered(_)) => Fate::Answered(nanos),
                (_, fate) => fate,
            };
        }
    }

    /// The number of the next frame.
    #[inline]
    fn end(&self) -> u64 {
        self.removed + self.queue.len() as u64
    }

    #[cold]
    fn outcome(&mut self, vm: VmId, is_captured: bool, ping: PingId, outcome: PingOutcome) {
        let fate = match outcome {
            PingOutcome::MembersLost { .. } => Some(Fate::MembersLost),
            _ => fate(outcome),
        };
        let Some(mut fate) = fate else {
            return;
        };
        let (due, fails) = match outcome {
            PingOutcome::Lost { due }
            | PingOutcome::MembersLost { due }
            | PingOutcome::Corrupt { due } => (Some(due), true),
            PingOutcome::Late { lost } => (lost, true),
            PingOutcome::Abandoned { due } | PingOutcome::Errored { due, .. } => (Some(due), false),
            _ => return,
        };
        let key = key_of(vm, ping);
        let request = match is_captured {
            true => due.and_then(|due| self.close_request(due, vm, ping, fate)),
            false => self.hidden.close(key),
        };
        if !fails {
            return;
        }
        if let (None, Some((_, Fate::MembersLost))) = (due, self.failed.get(&key)) {
            // A member's reply is late, and others are not.
            fate = Fate::MembersLost;
        }
        self.failed.insert(key, (ping.sequence, fate));
        let last = self.end().saturating_sub(1);
        // The reply is the last frame; of a ping that was lost, the request says more.
        match request.filter(|number| *number >= self.removed) {
            Some(number) => self.want(number),
            // A late one was given up before.
            None if due.is_none() => {}
            // Its neighbour was resolved late, so that many frames came before it was sent; or it is in memory no more.
            None if request.is_none() && is_captured => self.seek(key),
            None => self.missed += 1,
        }
        if !matches!(fate, Fate::Lost) && !matches!(outcome, PingOutcome::MembersLost { .. }) {
            self.want(last);
        }
    }

    /// Notes what came of a ping that was due at `due` with the frame that began it, and returns the number of that.
    fn close_request(&mut self, due: Instant, vm: VmId, ping: PingId, fate: Fate) -> Option<u64> {
        let index = self.find_request(due, vm, ping)?;
        self.close(index, fate);
        Some(self.removed + index as u64)
    }

    /// The index of the frame with which a ping began that was due at `due`.
    fn find_request(&self, due: Instant, vm: VmId, ping: PingId) -> Option<usize> {
        let first = self.queue.first_at(due);
        let is_it = |index: &usize| {
            self.queue
                .get(*index)
                .is_some_and(|kept| kept.what.is_some() && kept.vm == vm && self.begins(kept, ping))
        };
        let end = self.queue.len().min(first + MAX_LOOKS);
        (first..end).find(is_it)
    }

    /// Notes that a ping has failed whose request was not found.
    fn seek(&mut self, key: Key) {
        if self.told.contains_key(&key) {
            // It was written beside another.
            return;
        }
        if self.sought.len() >= MAX_TOLD {
            self.give_up();
        }
        self.missed += u64::from(self.sought.insert(key, self.end()).is_some());
    }

    /// Counts the failed pings as missed whose requests were not found.
    fn give_up(&mut self) {
        self.missed += self.sought.len() as u64;
        self.sought.clear();
    }

    /// Marks the frames around the one with that index if it begins a ping that failed and was not found then.
    #[cold]
    fn find_sought(&mut self, index: usize) {
        let number = self.removed + index as u64;
        let Some(kept) = self.queue.get(index) else {
            return;
        };
        let Some(echo) = EchoHead::parse(self.queue.bytes(kept).0) else {
            return;
        };
        let key = Key::new(kept.vm, echo.identifier, echo.sequence);
        match self.sought.remove(&key) {
            Some(end) if number < end => {
                let fate = self.failed.get(&key).map_or(Fate::Lost, |(_, fate)| *fate);
                self.close(index, fate);
                self.want(number);
            }
            // One of 65,536 pings ago.
            Some(_) => self.missed += 1,
            None => {}
        }
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

    /// Writes and drops the frames that are in front of no ping of which something may be heard after `now`, some in a call.
    pub(super) fn trim(
        &mut self,
        now: Instant,
        stations: &FxHashMap<MacAddr, VmId>,
        file: &mut File,
    ) {
        self.look_for_open(now);
        // A frame may still be before a ping that is lost.
        let hidden = self.hidden.first(now, self.longest);
        let first = hidden.map_or(self.first_open, |number| number.min(self.first_open));
        let before = first.saturating_sub(self.around);
        let mut over = before.saturating_sub(self.removed).min(PIECE as u64) as usize;
        if self.wanted.is_empty() {
            self.drop_front(over);
            over = 0;
        }
        while over > 0 && !file.is_behind() && !self.is_front_held(now) {
            self.take_front(now, stations, file);
            over -= 1;
        }
        while self.queue.size() > MAX_KEPT && self.take_front(now, stations, file) {}
    }

    /// Returns true if impairments hold the first frame, of which it may still be known what becomes of it.
    fn is_front_held(&self, now: Instant) -> bool {
        let front = self.queue.front();
        front.is_some_and(|front| front.is_held(now) && now < front.at + self.longest)
    }

    /// Finds the first frame that begins a ping of which something may be heard after `now`.
    #[inline]
    fn look_for_open(&mut self, now: Instant) {
        if self.open == 0 {
            self.first_open = self.end();
            return;
        }
        for _ in 0..PIECE {
            let index = (self.first_open - self.removed) as usize;
            match self.queue.get(index) {
                Some(kept) if is_open(kept) => {
                    if now < kept.at + self.longest {
                        return;
                    }
                    if !self.sought.is_empty() {
                        self.find_sought(index);
                    }
                    let is_still_open = self.queue.get(index).is_some_and(is_open);
                    self.open -= usize::from(is_still_open);
                }
                Some(_) => {}
                None => return,
            }
            self.first_open += 1;
        }
    }

    /// Removes the first `count` frames, of which none is wanted.
    #[inline]
    fn drop_front(&mut self, count: usize) {
        if count > 0 {
            self.queue.pop(count);
            self.removed += count as u64;
            // What was told is over, and its numbers will come again.
            self.failed.clear();
            self.told.clear();
        }
    }

    /// Writes all that is to be written, at the end of the run.
    pub(super) fn write_all(&mut self, stations: &FxHashMap<MacAddr, VmId>, file: &mut File) {
        for index in 0..self.queue.len() {
            if !self.sought.is_empty() && self.queue.get(index).is_some_and(is_open) {
                self.find_sought(index);
            }
        }
        self.give_up();
        while self.take_front(END, stations, file) {}
    }

    /// Removes the first frame, and writes it if it is wanted. Returns false if there is none.
    fn take_front(
        &mut self,
        now: Instant,
        stations: &FxHashMap<MacAddr, VmId>,
        file: &mut File,
    ) -> bool {
        if !self.sought.is_empty() && self.queue.front().is_some_and(is_open) {
            self.find_sought(0);
        }
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
        let is_wanted = self
            .wanted
            .front()
            .is_some_and(|(first, _)| *first <= self.removed);
        if is_wanted {
            self.write(now, &front, stations, file);
        }
        if self.failed.len() + self.told.len() > MAX_TOLD {
            self.failed.clear();
            self.told.clear();
        }
        self.queue.pop(1);
        self.removed += 1;
        if self.removed > self.first_open {
            self.first_open = self.removed;
            self.open -= usize::from(is_open(&front));
        }
        true
    }

    #[cold]
    fn write(
        &mut self,
        now: Instant,
        front: &Kept<OfPing>,
        stations: &FxHashMap<MacAddr, VmId>,
        file: &mut File,
    ) {
        let mut comment = std::mem::take(&mut self.comment);
        comment.clear();
        if self.has_comments {
            let is_known = self.describe(front, stations, &mut comment);
            self.unknown += u64::from(!is_known);
            push_lot(&mut comment, front, now);
        }
        let (bytes, _) = self.queue.bytes(front);
        file.write(&Frame {
            at: front.at,
            vm: front.vm,
            direction: front.direction,
            bytes: bytes.get(..self.snap).unwrap_or(bytes),
            length: front.length,
            comment: &comment,
        });
        self.comment = comment;
    }

    /// Writes what the first frame is. Returns false if it is of a ping of which it is not known what came of it.
    fn describe(
        &mut self,
        front: &Kept<OfPing>,
        stations: &FxHashMap<MacAddr, VmId>,
        comment: &mut Vec<u8>,
    ) -> bool {
        let (bytes, malformed) = self.queue.bytes(front);
        if !malformed.is_empty() {
            comment.extend_from_slice(malformed);
            return true;
        }
        let seen = Observed {
            vm: front.vm,
            direction: front.direction,
            frame: bytes,
            impaired: front.impaired,
            refused: front.refused,
        };
        let echo = EchoHead::parse(bytes);
        let ping = echo.and_then(|echo| echo_of(&seen, &echo, stations));
        let piece = match (echo, ping) {
            (None, _) => self.fragments.find(&seen),
            (_, Some(ping)) => {
                self.fragments.begin(&seen, ping);
                None
            }
            _ => None,
        };
        let Some((key, part, target)) = ping.or(piece.map(|(ping, _)| ping)) else {
            push(comment, format_args!("{}", Describe(bytes)));
            return true;
        };
        if let Some((_, piece)) = piece {
            let of = piece.is_last.then_some(piece.number);
            let of = of.or_else(|| self.last_piece(&seen));
            push_piece(comment, piece.number, of);
        }
        let name = PingName {
            source: key.source(),
            sequence: self.sequence(key),
            target,
        };
        push_name(comment, part, &name);
        let failed = self.failed.get(&key).map(|(_, fate)| *fate);
        if let Some(fate) = front.what {
            self.told.insert(key, fate);
        }
        // Of other frames, the request says it. It may not be in the file.
        let Some(fate) = failed.or_else(|| self.told.get(&key).copied()) else {
            return true;
        };
        push_fate(comment, part, fate);
        fate != Fate::Open
    }

    /// The number of the last fragment of the datagram of which the first frame has one, if it follows soon.
    fn last_piece(&self, first: &Observed<'_>) -> Option<u16> {
        let head = FragmentHead::parse(first.frame)?;
        let mut later = (1..MAX_PIECES).map_while(|index| self.queue.get(index));
        later.find_map(|kept| {
            let frame = self.queue.bytes(kept).0;
            let other = FragmentHead::parse(frame)?;
            let seen = Observed {
                vm: kept.vm,
                direction: kept.direction,
                frame,
                ..*first
            };
            let is_it = other.identification == head.identification;
            let (_, piece) = self.fragments.find(&seen).filter(|_| is_it)?;
            piece.is_last.then_some(piece.number)
        })
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
}

/// Returns true if the frame begins a ping that is not over.
#[inline]
fn is_open(kept: &Kept<OfPing>) -> bool {
    kept.what.is_some_and(Fate::is_open)
}

/// A ping of `vm` by what its frames say of it.
fn key_of(vm: VmId, ping: PingId) -> Key {
    Key::new(vm, ping.session.0, ping.sequence as u16)
}
