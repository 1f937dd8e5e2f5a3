//! The frames that are held, in the order of their release, in bounded memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::fabric::{Direction, Impaired};
use crate::time::{Instant, Span};
use crate::vm::VmId;

/// Bytes that are held at most, those of the bookkeeping included; further frames are dropped, and counted.
pub const MAX_HELD_BYTES: usize = 256 << 20;

/// Bytes of memory that a held frame takes beside its own.
const OVERHEAD: usize = size_of::<Reverse<Entry>>() + size_of::<Slot>() + 16;

/// A frame that is held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    pub(super) at: Instant,
    pub(super) vm: VmId,
    pub(super) direction: Direction,
    pub(super) frame: Box<[u8]>,
    /// What was done to it.
    pub(super) impaired: Impaired,
    /// It is part of the counts: not of a warm-up.
    pub(super) is_counted: bool,
}

/// Release, number among all frames, place.
type Entry = (Instant, u64, u32);
/// The frame at a place, with its number.
type Slot = Option<(u64, Held)>;

/// Held frames; those of the same time are released in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Store {
    due: BinaryHeap<Reverse<Entry>>,
    frames: Vec<Slot>,
    free: Vec<u32>,
    bytes: usize,
    count: u64,
}

impl Held {
    /// When its VM sent it; `None` of one that is to be received.
    pub(super) fn sent(&self) -> Option<Instant> {
        let delay = Span::from(self.impaired.delay).0;
        let sent = Instant::from_nanos(self.at.as_nanos().saturating_sub(delay));
        (self.direction == Direction::Out).then_some(sent)
    }
}

impl Store {
    /// Holds a frame. Returns false if there is no room for it.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        let bytes = self.bytes + OVERHEAD + held.frame.len();
        if bytes > MAX_HELD_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.count += 1;
        let place = self.free.pop().unwrap_or(self.frames.len() as u32);
        self.due.push(Reverse((held.at, self.count, place)));
        match self.frames.get_mut(place as usize) {
            Some(slot) => *slot = Some((self.count, held)),
            None => self.frames.push(Some((self.count, held))),
        }
        true
    }

    /// The time of the next release.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next frame that is to be released by `now`.
    pub(super) fn release(&mut self, now: Instant) -> Option<Held> {
        self.next_at().filter(|at| *at <= now)?;
        let Reverse((_, _, place)) = self.due.pop()?;
        let held = self.take(place);
        self.skip_removed();
        held
    }

    /// Removes the frames of which `is_gone` is true of the VM, and returns them.
    pub(super) fn remove(&mut self, is_gone: impl Fn(&VmId) -> bool) -> Vec<Held> {
        let is_of_gone = |slot: &Slot| slot.as_ref().is_some_and(|(_, held)| is_gone(&held.vm));
        let places = self.frames.iter().enumerate();
        let places = places.filter(|(_, slot)| is_of_gone(slot));
        let places: Vec<u32> = places.map(|(place, _)| place as u32).collect();
        let removed = places.iter().filter_map(|place| self.take(*place));
        let removed = removed.collect();
        self.skip_removed();
        removed
    }

    /// The frames that are held.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.frames.iter().flatten().map(|(_, held)| held)
    }

    fn take(&mut self, place: u32) -> Option<Held> {
        let (_, held) = self.frames.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.bytes = self.bytes.saturating_sub(OVERHEAD + held.frame.len());
        Some(held)
    }

    /// Drops the entries at the head of the order whose frames were removed.
    fn skip_removed(&mut self) {
        while let Some(Reverse((_, number, place))) = self.due.peek() {
            let slot = self.frames.get(*place as usize).and_then(Option::as_ref);
            if slot.is_some_and(|(present, _)| present == number) {
                return;
            }
            self.due.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(at: u64, length: usize) -> Held {
        Held {
            at: Instant::from_nanos(at),
            vm: VmId(0),
            direction: Direction::Out,
            frame: vec![0; length].into(),
            impaired: Impaired::default(),
            is_counted: true,
        }
    }

    #[test]
    fn frames_are_released_by_time_and_those_of_one_time_in_the_order_of_their_coming() {
        let mut store = Store::default();
        for (at, length) in [(5, 1), (3, 2), (5, 3), (9, 4), (3, 5)] {
            assert!(store.hold(held(at, length)));
        }
        assert_eq!(store.release(Instant::from_nanos(2)), None);
        let released = std::iter::from_fn(|| store.release(Instant::from_nanos(8)));
        let lengths: Vec<usize> = released.map(|held| held.frame.len()).collect();
        assert_eq!(lengths, [2, 5, 1, 3]);
        assert_eq!(store.next_at(), Some(Instant::from_nanos(9)));
        assert_eq!(store.iter().count(), 1);
    }

    #[test]
    fn frames_of_a_vm_that_goes_are_removed_and_never_released() {
        let mut store = Store::default();
        for at in 0..6 {
            let vm = VmId(at as u32 % 2);
            assert!(store.hold(Held { vm, ..held(at, 10) }));
        }
        assert_eq!(store.remove(|vm| *vm == VmId(0)).len(), 3);
        // It takes a place that is free now, and keeps its own time.
        assert!(store.hold(held(9, 20)));
        assert_eq!(store.next_at(), Some(Instant::from_nanos(1)));
        let released = std::iter::from_fn(|| store.release(Instant::from_nanos(8)));
        assert!(released.map(|held| held.vm).eq([VmId(1); 3]));
        assert_eq!(store.next_at(), Some(Instant::from_nanos(9)));
        assert_eq!(
            store.release(Instant::from_nanos(9)).unwrap().frame.len(),
            20
        );
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn memory_is_bounded_and_room_comes_back() {
        let mut store = Store::default();
        let room = MAX_HELD_BYTES / (65_535 + OVERHEAD);
        let taken = (0..2 * room).filter(|i| store.hold(held(*i as u64, 65_535)));
        assert_eq!(taken.count(), room);
        assert!(store.release(Instant::from_nanos(u64::MAX)).is_some());
        assert!(store.hold(held(0, 65_535)) && !store.hold(held(0, 65_535)));
    }
}
