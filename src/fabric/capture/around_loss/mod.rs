//! The frames around pings that were lost, late or corrupt, or that not every member of a group answered, from a ring in
//! memory.
//!
//! A ping is known to be lost when its timeout has passed, and what tells why happened before. So a frame is kept until it is
//! known what came of the pings before it and of those that follow it closely: while all are answered, few frames are kept, in
//! memory that stays in the processor's caches. Nothing is looked up by name and nothing formatted until a ping fails, so that
//! it costs little to have it on.

mod outcomes;
mod words;

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::file::File;
use super::hidden::Hidden;
use super::pings::Key;
use super::queue::{Kept, Queue};
use super::words::{Fate, Part};
use super::{END, MAX_KEPT};
use crate::fabric::fragments::Fragments;
use crate::fabric::ping_numbers::PingNumbers;
use crate::fabric::{Direction, Observed};
use crate::load::Target;
use crate::time::Instant;
use crate::vm::{PingId, VmId};
use crate::wire::{MacAddr, ProbeHead};

/// Frames that are looked at to find one frame of a ping when it fails.
const MAX_LOOKS: usize = 8_192;

/// Bytes that are kept of a frame at least, so that it is known of which ping it is: up to the numbers of an echo message behind
/// IPv6, two tags and the header of a fragment.
const HEAD: usize = 80;

/// Frames that are dropped in a turn: many are when a ping is over that took long, and none is to wait for that.
pub(super) const PIECE: usize = 1_024;

/// Pings of which it is known at most what came of them; where there are more, it is known anew.
const MAX_TOLD: usize = 1 << 16;

/// What came of the ping that a frame begins; `None` for other frames.
type OfPing = Option<Fate>;

/// A failed ping whose request is looked for.
#[derive(Clone, Copy, Debug)]
struct Sought {
    /// The number of the frame after which it failed.
    end: u64,
    /// It was sent while frames were captured: without its request it is missed.
    is_of_capture: bool,
}

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
    /// Failed pings of which the request was not found soon. They are looked for when the time of a request is over.
    sought: FxHashMap<Key, Sought>,
    /// The beginning: requests that were sent before it are not there.
    began: Instant,
    /// Failed pings whose frames were in memory no more.
    missed: u64,
    fragments: Fragments<(Key, Part, Target)>,
    /// The numbers of flows whose requests may be sent again.
    numbers: FxHashMap<u64, PingNumbers>,
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
            began: Instant::ZERO,
            missed: 0,
            fragments: Fragments::default(),
            numbers: FxHashMap::default(),
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

    pub(super) const fn has_comments(&self) -> bool {
        self.has_comments
    }

    pub(super) const fn missed(&self) -> u64 {
        self.missed
    }

    /// Frames are shown from `now` on.
    pub(super) const fn begin(&mut self, now: Instant) {
        self.began = now;
    }

    /// Keeps a frame.
    #[inline]
    pub(super) fn frame(&mut self, at: Instant, seen: &Observed<'_>) {
        let begins_ping = seen.direction == Direction::Out
            && ProbeHead::is_request(seen.frame)
            && !(ProbeHead::is_segment(seen.frame) && self.repeats(seen));
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
            && let Some(echo) = ProbeHead::parse(seen.frame).filter(|echo| echo.is_request)
        {
            let key = Key::new(seen.vm, echo.identifier, echo.sequence);
            if !(ProbeHead::is_segment(seen.frame) && self.repeats(seen)) {
                self.hidden.open(at, key, self.end());
            }
        }
    }

    /// Returns true if a request was sent before.
    fn repeats(&mut self, seen: &Observed<'_>) -> bool {
        ProbeHead::parse(seen.frame).is_some_and(|head| {
            let key = Key::new(seen.vm, head.identifier, head.sequence);
            let numbers = self.numbers.entry(key.flow());
            let numbers = numbers.or_insert_with(|| PingNumbers::of(head.identifier));
            numbers.sent(head.sequence).1
        })
    }

    /// A ping is over that was never sent.
    fn unsent(&mut self, vm: VmId, ping: PingId) {
        let flow = Key::new(vm, ping.session.0, 0).flow();
        if let Some(numbers) = self.numbers.get_mut(&flow) {
            numbers.ended(ping.sequence);
        }
    }

    /// Notes that a frame that was sent at `at` was never released.
    pub(super) fn unreleased(&mut self, at: Instant, seen: &Observed<'_>) {
        self.queue.unreleased(at, seen);
    }

    /// The number of the next frame.
    #[inline]
    fn end(&self) -> u64 {
        self.removed + self.queue.len() as u64
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

    /// Writes all that is to be written, at the end of the run or by request. What will come of pings on their way is not
    /// known; the frames around them are written, too.
    pub(super) fn write_all(&mut self, stations: &FxHashMap<MacAddr, VmId>, file: &mut File) {
        for index in 0..self.queue.len() {
            if !self.sought.is_empty() && self.queue.get(index).is_some_and(is_open) {
                self.find_sought(index);
            }
        }
        self.give_up();
        for index in self.first_open.saturating_sub(self.removed) as usize..self.queue.len() {
            if self.queue.get(index).is_some_and(is_open) {
                self.want(self.removed + index as u64);
            }
        }
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
}

/// Returns true if the frame begins a ping that is not over.
#[inline]
fn is_open(kept: &Kept<OfPing>) -> bool {
    kept.what.is_some_and(Fate::is_open)
}
