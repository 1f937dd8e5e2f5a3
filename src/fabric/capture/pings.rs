//! The pings whose frames are kept until it is known what came of them.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::words::{Fate, Part, PingName};
use crate::fabric::ping_numbers::PingNumbers;
use crate::load::Target;
use crate::vm::VmId;
use crate::wire::FLOW_BITS;

/// The place of a ping among those that are followed.
pub(super) type Slot = u32;

/// A ping by what frames say of it: its source, and identifier and sequence number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key(u64);

impl Key {
    #[inline]
    pub(super) const fn new(source: VmId, identifier: u32, sequence: u16) -> Key {
        let flow = identifier as u64 & ((1 << FLOW_BITS) - 1);
        Key((source.0 as u64) << (16 + FLOW_BITS) | flow << 16 | sequence as u64)
    }

    /// The flow: the same for all its pings.
    pub(super) const fn flow(self) -> u64 {
        self.0 >> 16
    }

    pub(super) const fn source(self) -> VmId {
        VmId((self.0 >> (16 + FLOW_BITS)) as u32)
    }

    pub(super) const fn identifier(self) -> u32 {
        (self.0 >> 16) as u32 & ((1 << FLOW_BITS) - 1)
    }

    pub(super) const fn sequence(self) -> u16 {
        self.0 as u16
    }
}

/// A ping that is followed.
#[derive(Clone, Copy, Debug)]
struct Ping {
    key: Key,
    name: PingName,
    fate: Fate,
    /// Frames of it that are kept.
    frames: u32,
    /// The fragments of its request and of its reply, where that is known.
    fragments: [Option<u16>; 2],
}

/// Failed pings that are remembered when their frames are written: a frame of one may come later.
const MAX_FAILED: usize = 1 << 16;

/// The pings on their way, and those whose frames are still kept.
#[derive(Debug, Default)]
pub(super) struct Pings {
    slots: Vec<Ping>,
    free: Vec<Slot>,
    by_key: FxHashMap<Key, Slot>,
    flows: FxHashMap<u64, Flow>,
    /// What came of pings that failed and of which no frame is kept, the oldest first.
    failed: FxHashMap<Key, Fate>,
    order: VecDeque<Key>,
}

/// A flow: the pings of one identifier of a VM.
#[derive(Clone, Copy, Debug)]
struct Flow {
    numbers: PingNumbers,
    /// What is pinged.
    target: Target,
}

impl Flow {
    fn new(identifier: u32, target: Target) -> Flow {
        Flow {
            numbers: PingNumbers::of(identifier),
            target,
        }
    }
}

impl Pings {
    /// Adds a flow, whose pings have that identifier.
    pub(super) fn add_flow(&mut self, source: VmId, identifier: u32, target: Target) {
        let flow = Key::new(source, identifier, 0).flow();
        self.flows.insert(flow, Flow::new(identifier, target));
    }

    /// Follows a ping that is sent, to `target` by what its frame says. Returns its place, and true if it is sent again.
    #[inline]
    pub(super) fn open(&mut self, key: Key, target: Target) -> (Slot, bool) {
        let flow = self.flows.entry(key.flow());
        let flow = flow.or_insert_with(|| Flow::new(key.identifier(), target));
        let (sequence, is_repeat) = flow.numbers.sent(key.sequence());
        let name = PingName {
            source: key.source(),
            sequence,
            target: flow.target,
        };
        if is_repeat
            && let Some(slot) = self.find(key)
            && self.get(slot).is_some_and(|(of_slot, _)| of_slot == name)
        {
            return (slot, true);
        }
        let ping = Ping {
            key,
            name,
            fate: Fate::Open,
            frames: 0,
            fragments: [None; 2],
        };
        if !self.failed.is_empty() {
            self.failed.remove(&key);
        }
        let slot = self.free.pop().unwrap_or(self.slots.len() as Slot);
        match self.slots.get_mut(slot as usize) {
            Some(space) => *space = ping,
            None => self.slots.push(ping),
        }
        // One of 65,536 pings ago, of which nobody has heard since.
        if let Some(old) = self.by_key.insert(key, slot)
            && self.frames(old) == 0
        {
            self.free.push(old);
        }
        (slot, is_repeat)
    }

    /// A ping is over that was never sent.
    #[cold]
    pub(super) fn unsent(&mut self, flow: Key, number: u64) {
        if let Some(flow) = self.flows.get_mut(&flow.flow()) {
            flow.numbers.ended(number);
        }
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<Slot> {
        self.by_key.get(&key).copied()
    }

    /// The name of a ping that is not followed any more.
    pub(super) fn name(&self, key: Key, target: Target) -> PingName {
        let flow = self.flows.get(&key.flow()).copied();
        let flow = flow.unwrap_or(Flow::new(key.identifier(), target));
        PingName {
            source: key.source(),
            sequence: flow.numbers.newest(key.sequence()),
            target: flow.target,
        }
    }

    /// One more frame of the ping is kept.
    #[inline]
    pub(super) fn keep(&mut self, slot: Slot) {
        if let Some(ping) = self.slots.get_mut(slot as usize) {
            ping.frames += 1;
        }
    }

    /// Notes the number of fragments of which a part of a ping consists.
    pub(super) fn cut(&mut self, slot: Slot, part: Part, fragments: u16) {
        if let Some(ping) = self.slots.get_mut(slot as usize) {
            let [request, reply] = &mut ping.fragments;
            *(if part == Part::Reply { reply } else { request }) = Some(fragments);
        }
    }

    /// The number of fragments of which a part of a ping consists, where that is known.
    pub(super) fn fragments(&self, slot: Slot, part: Part) -> Option<u16> {
        let [request, reply] = self.slots.get(slot as usize)?.fragments;
        if part == Part::Reply { reply } else { request }
    }

    /// Notes why a ping was lost.
    #[cold]
    pub(super) fn explain(&mut self, key: Key, lost: Fate) {
        let followed = self.by_key.get(&key).copied();
        let followed = followed.and_then(|slot| self.slots.get_mut(slot as usize));
        let fate = followed
            .map(|ping| &mut ping.fate)
            .or(self.failed.get_mut(&key));
        if let Some(fate) = fate.filter(|fate| matches!(fate, Fate::Lost(_))) {
            *fate = lost;
        }
    }

    /// What came of a ping that is not followed any more, if it failed.
    pub(super) fn failed(&self, key: Key) -> Option<Fate> {
        self.failed.get(&key).copied()
    }

    #[cold]
    fn remember(&mut self, key: Key, fate: Fate) {
        if self.failed.insert(key, fate).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_FAILED
            && let Some(oldest) = self.order.pop_front()
        {
            self.failed.remove(&oldest);
        }
    }

    /// Notes what came of a ping.
    #[inline]
    pub(super) fn settle(&mut self, slot: Slot, fate: Fate) {
        let Some(ping) = self.slots.get_mut(slot as usize) else {
            return;
        };
        ping.fate = fate;
        if ping.frames == 0 {
            self.forget(slot);
        }
    }

    /// Returns true if it is known what came of a ping.
    #[inline]
    pub(super) fn is_settled(&self, slot: Slot) -> bool {
        let ping = self.slots.get(slot as usize);
        ping.is_none_or(|ping| ping.fate != Fate::Open)
    }

    /// Name and fate of a ping.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<(PingName, Fate)> {
        let ping = self.slots.get(slot as usize)?;
        Some((ping.name, ping.fate))
    }

    fn frames(&self, slot: Slot) -> u32 {
        let ping = self.slots.get(slot as usize);
        ping.map_or(0, |ping| ping.frames)
    }

    /// Forgets the pings of a VM of which nothing is kept: nothing will be heard of them.
    pub(super) fn stop(&mut self, vm: VmId) {
        let of_vm = self.by_key.iter().filter(|(key, _)| key.source() == vm);
        let slots: Vec<Slot> = of_vm.map(|(_, slot)| *slot).collect();
        for slot in slots {
            if self.frames(slot) == 0 {
                self.forget(slot);
            }
        }
    }

    /// A frame of the ping is kept no longer.
    #[inline]
    pub(super) fn release(&mut self, slot: Slot) {
        let Some(ping) = self.slots.get_mut(slot as usize) else {
            return;
        };
        ping.frames = ping.frames.saturating_sub(1);
        if ping.frames == 0 {
            self.forget(slot);
        }
    }

    fn forget(&mut self, slot: Slot) {
        let Some(&Ping { key, fate, .. }) = self.slots.get(slot as usize) else {
            return;
        };
        if self.by_key.get(&key) == Some(&slot) {
            self.by_key.remove(&key);
            if !matches!(fate, Fate::Open | Fate::Answered(_)) {
                self.remember(key, fate);
            }
        }
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Target = Target::Vm(VmId(1));

    fn key(sequence: u64) -> Key {
        Key::new(VmId(0), 5, sequence as u16)
    }

    #[test]
    fn the_sequence_number_is_told_in_full() {
        let mut pings = Pings::default();
        for sequence in 0..200_000u64 {
            let (slot, _) = pings.open(key(sequence), TO);
            assert_eq!(pings.get(slot).unwrap().0.sequence, sequence);
            pings.settle(slot, Fate::Lost(None));
        }
        assert_eq!(pings.name(key(199_000), TO).sequence, 199_000);
        assert_eq!(pings.slots.len(), 1);
        assert!(pings.by_key.is_empty());
    }

    #[test]
    fn a_ping_is_followed_while_its_frames_are_kept_or_its_fate_is_open() {
        let mut pings = Pings::default();
        let (slot, _) = pings.open(key(3), TO);
        pings.keep(slot);
        pings.keep(slot);
        pings.settle(slot, Fate::Answered(5));
        pings.release(slot);
        assert_eq!(pings.get(slot).unwrap().1, Fate::Answered(5));
        assert_eq!(pings.find(key(3)), Some(slot));
        pings.release(slot);
        assert_eq!(pings.find(key(3)), None);
        // Its place is taken by the next.
        assert_eq!(pings.open(key(4), TO), (slot, false));
    }

    #[test]
    fn pings_of_which_nobody_hears_again_take_no_more_memory() {
        let mut pings = Pings::default();
        for sequence in 0..300_000 {
            pings.open(key(sequence), TO);
        }
        assert!(pings.slots.len() <= (1 << 16) + 1);
        pings.stop(VmId(0));
        assert_eq!(pings.by_key.len(), 0);
        assert_eq!(pings.free.len(), pings.slots.len());
    }
}
