//! What came of pings: noted with the frames that began them, and around which of these frames are wanted.

use super::{AroundLoss, MAX_LOOKS, MAX_TOLD, OfPing, Sought, is_open};
use crate::fabric::capture::narrated::fate;
use crate::fabric::capture::pings::Key;
use crate::fabric::capture::queue::Kept;
use crate::fabric::capture::words::{Fate, push_malformed};
use crate::fabric::{Direction, Explained};
use crate::time::Instant;
use crate::vm::{Event, Ignored, PingId, PingOutcome, VmId};
use crate::wire::{ParseError, ProbeHead};

impl AroundLoss {
    /// Takes an event of `vm`, whose own frames are captured or are not.
    #[inline]
    pub(in crate::fabric::capture) fn event(
        &mut self,
        now: Instant,
        vm: VmId,
        is_captured: bool,
        event: &Event,
    ) {
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
            PingOutcome::Unresolved { .. } => self.unsent(vm, *ping),
            outcome => self.outcome(vm, is_captured, *ping, outcome),
        }
    }

    /// Notes with the last frame that its receiver could not read it, if it is one of a ping.
    #[cold]
    fn malformed(&mut self, now: Instant, vm: VmId, error: &ParseError) {
        let is_it = |last: &&Kept<OfPing>| {
            (last.at, last.vm, last.direction) == (now, vm, Direction::In)
                && ProbeHead::parse(self.queue.bytes(last).0).is_some()
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
        ProbeHead::parse(self.queue.bytes(kept).0).is_some_and(|echo| {
            echo.identifier == ping.session.0 && echo.sequence == ping.wire_sequence()
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
            None if request.is_none() => {
                let is_of_capture = due.is_some_and(|due| due >= self.began);
                match is_captured {
                    true => self.seek(key, is_of_capture),
                    false => self.missed += u64::from(is_of_capture),
                }
            }
            None => self.missed += 1,
        }
        if !matches!(fate, Fate::Lost(_)) && !matches!(outcome, PingOutcome::MembersLost { .. }) {
            self.want(last);
        }
    }

    /// Takes why a ping failed.
    pub(in crate::fabric::capture) fn explained(&mut self, found: &Explained<'_>) {
        let key = key_of(found.vm, found.ping);
        let lost = Fate::Lost(Some((found.direction, found.words)));
        let failed = self.failed.get_mut(&key).map(|(_, fate)| fate);
        let Some(fate) = failed.filter(|fate| matches!(fate, Fate::Lost(_))) else {
            return;
        };
        *fate = lost;
        if let Some(index) = self.find_request(found.due, found.vm, found.ping) {
            self.close(index, lost);
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
    fn seek(&mut self, key: Key, is_of_capture: bool) {
        if self.told.contains_key(&key) {
            // It was written beside another.
            return;
        }
        if self.sought.len() >= MAX_TOLD {
            self.give_up();
        }
        let sought = Sought {
            end: self.end(),
            is_of_capture,
        };
        let old = self.sought.insert(key, sought);
        self.missed += u64::from(old.is_some_and(|old| old.is_of_capture));
    }

    /// Counts the failed pings as missed whose requests were not found.
    pub(super) fn give_up(&mut self) {
        let of_capture = self.sought.values().filter(|sought| sought.is_of_capture);
        self.missed += of_capture.count() as u64;
        self.sought.clear();
    }

    /// Marks the frames around the one with that index if it begins a ping that failed and was not found then.
    #[cold]
    pub(super) fn find_sought(&mut self, index: usize) {
        let number = self.removed + index as u64;
        let Some(kept) = self.queue.get(index) else {
            return;
        };
        let Some(echo) = ProbeHead::parse(self.queue.bytes(kept).0) else {
            return;
        };
        let key = Key::new(kept.vm, echo.identifier, echo.sequence);
        match self.sought.remove(&key) {
            Some(sought) if number < sought.end => {
                let fate = self
                    .failed
                    .get(&key)
                    .map_or(Fate::Lost(None), |(_, fate)| *fate);
                self.close(index, fate);
                self.want(number);
            }
            // One of 65,536 pings ago.
            Some(sought) => self.missed += u64::from(sought.is_of_capture),
            None => {}
        }
    }
}

/// A ping of `vm` by what its frames say of it.
fn key_of(vm: VmId, ping: PingId) -> Key {
    Key::new(vm, ping.session.0, ping.wire_sequence())
}
