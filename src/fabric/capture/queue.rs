//! Frames that are kept for a while, in the order of time.

use std::collections::VecDeque;

use crate::fabric::Direction;
use crate::time::Instant;
use crate::vm::VmId;

/// Bytes at the start of the buffer that are left unused before the rest moves there.
const MAX_UNUSED: usize = 1 << 20;

/// A frame that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept<T> {
    pub(super) at: Instant,
    pub(super) vm: VmId,
    pub(super) direction: Direction,
    /// Bytes that the frame had.
    pub(super) length: u32,
    /// What is known of it.
    pub(super) what: T,
    /// Bytes of it that are kept.
    captured: u32,
    /// Bytes of text that follow them.
    noted: u32,
    /// Bytes of frames and texts that were appended before.
    from: u64,
}

/// A queue of frames, each with some text.
#[derive(Debug)]
pub(super) struct Queue<T> {
    frames: VecDeque<Kept<T>>,
    /// Frame and text of each, one after the other.
    bytes: Vec<u8>,
    /// Bytes that were removed from the start of `bytes` so far.
    removed: u64,
}

impl<T: Copy> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue {
            frames: VecDeque::new(),
            bytes: Vec::new(),
            removed: 0,
        }
    }

    /// The memory that its frames take, in bytes.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.frames.len() * size_of::<Kept<T>>()
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Appends the first `snap` bytes of `frame`.
    #[inline]
    pub(super) fn push(
        &mut self,
        at: Instant,
        (vm, direction): (VmId, Direction),
        frame: &[u8],
        snap: usize,
        what: T,
    ) {
        let kept = frame.get(..snap).unwrap_or(frame);
        self.frames.push_back(Kept {
            at,
            vm,
            direction,
            length: frame.len() as u32,
            what,
            captured: kept.len() as u32,
            noted: 0,
            from: self.removed + self.bytes.len() as u64,
        });
        self.bytes.extend_from_slice(kept);
    }

    /// Lets `write` append to the text of the last frame. Nothing is written if there is no frame.
    pub(super) fn note(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(last) = self.frames.back_mut() else {
            return;
        };
        let before = self.bytes.len();
        write(&mut self.bytes);
        last.noted += (self.bytes.len() - before) as u32;
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Kept<T>> {
        self.frames.front()
    }

    pub(super) fn back(&self) -> Option<&Kept<T>> {
        self.frames.back()
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Kept<T>> {
        self.frames.get(index)
    }

    /// The index of the first frame at `at` or later.
    pub(super) fn first_at(&self, at: Instant) -> usize {
        self.frames.partition_point(|kept| kept.at < at)
    }

    /// The bytes of a frame of the queue, and its text.
    #[inline]
    pub(super) fn bytes(&self, kept: &Kept<T>) -> (&[u8], &[u8]) {
        let start = (kept.from - self.removed) as usize;
        let end = start + (kept.captured + kept.noted) as usize;
        let both = self.bytes.get(start..end).unwrap_or_default();
        both.split_at_checked(kept.captured as usize)
            .unwrap_or_default()
    }

    /// Removes the first frame.
    #[inline]
    pub(super) fn pop(&mut self) {
        let Some(front) = self.frames.pop_front() else {
            return;
        };
        if self.frames.is_empty() {
            self.removed += self.bytes.len() as u64;
            self.bytes.clear();
            return;
        }
        let end = front.from + u64::from(front.captured + front.noted);
        let unused = (end - self.removed) as usize;
        if unused >= MAX_UNUSED && unused >= self.bytes.len() / 2 {
            self.bytes.drain(..unused);
            self.removed = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_their_texts_come_out_as_they_went_in() {
        let mut queue = Queue::new();
        let frame = vec![7; 1_000];
        let (mut first, mut next) = (0u64, 0u64);
        for round in 1..100 {
            for _ in 0..round * 2 {
                let at = Instant::from_nanos(next);
                let place = (VmId(next as u32), Direction::In);
                queue.push(at, place, &frame, (next % 1_200) as usize, next);
                queue.note(|text| text.extend(next.to_string().bytes()));
                next += 1;
            }
            for _ in 0..round {
                let kept = *queue.front().unwrap();
                assert_eq!((kept.what, kept.at.as_nanos()), (first, first));
                let (bytes, text) = queue.bytes(&kept);
                assert_eq!(bytes.len(), (first as usize % 1_200).min(1_000));
                assert_eq!(text, first.to_string().as_bytes());
                queue.pop();
                first += 1;
            }
            assert_eq!(queue.first_at(Instant::from_nanos(first + 1)), 1);
        }
        // Memory is given back, but for what may be left unused.
        assert!(queue.size() < 2 * (queue.len() * 1_100 + MAX_UNUSED));
        while queue.front().is_some() {
            queue.pop();
        }
        assert_eq!(queue.size(), 0);
    }
}
