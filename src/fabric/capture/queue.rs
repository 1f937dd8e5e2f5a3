//! Frames that are kept for a while, in the order of time.

use std::collections::VecDeque;

use crate::fabric::{Direction, Impaired, Impairment, Observed, WriteDrop};
use crate::time::Instant;
use crate::vm::VmId;

/// Bytes of a block of memory: few enough to stay in a processor's cache while frames come and go, and more than any frame
/// has.
const BLOCK: usize = 1 << 17;

/// A frame that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kept<T> {
    pub(super) at: Instant,
    pub(super) vm: VmId,
    pub(super) direction: Direction,
    /// Bytes that the frame had.
    pub(super) length: u32,
    /// What the impairments did to it.
    pub(super) impaired: Impaired,
    /// Why the fabric did not take it.
    pub(super) refused: Option<WriteDrop>,
    /// What is known of it.
    pub(super) what: T,
    /// The number of its block, and its place there.
    block: u32,
    from: u32,
    /// Bytes of it that are kept.
    captured: u32,
    /// Bytes of text that follow them.
    noted: u32,
}

impl<T> Kept<T> {
    /// Returns true if impairments still hold it at `now`, after it was sent. One that was received was held before.
    #[inline]
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.impaired.has(Impairment::Delayed)
            && self.direction == Direction::Out
            && now < self.at + self.impaired.delay
            && !self.impaired.has(Impairment::Unreleased)
    }
}

/// A queue of frames, each with some text. Its memory grows and shrinks block by block, so that nothing is ever moved.
#[derive(Debug)]
pub(super) struct Queue<T> {
    frames: VecDeque<Kept<T>>,
    /// Frame and text of each, one after the other.
    blocks: VecDeque<Vec<u8>>,
    /// The number of the first block.
    first_block: u32,
    /// The last block that was emptied, to be filled again.
    spare: Vec<u8>,
}

impl<T: Copy> Queue<T> {
    pub(super) fn new() -> Queue<T> {
        Queue {
            frames: VecDeque::new(),
            blocks: VecDeque::new(),
            first_block: 0,
            spare: Vec::new(),
        }
    }

    /// The memory that its frames take, in bytes: whole blocks, and what is kept of each frame.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.blocks.len() * BLOCK + self.frames.len() * size_of::<Kept<T>>()
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// Appends the first `snap` bytes of a frame that was seen at `at`.
    #[inline]
    pub(super) fn push(&mut self, at: Instant, seen: &Observed<'_>, snap: usize, what: T) {
        let kept = seen.frame.get(..snap).unwrap_or(seen.frame);
        let has_room = |block: &Vec<u8>| block.is_empty() || block.len() + kept.len() <= BLOCK;
        if !self.blocks.back().is_some_and(has_room) {
            self.begin_block();
        }
        let count = self.blocks.len() as u32;
        let Some(block) = self.blocks.back_mut() else {
            return;
        };
        self.frames.push_back(Kept {
            at,
            vm: seen.vm,
            direction: seen.direction,
            length: seen.frame.len() as u32,
            impaired: seen.impaired,
            refused: seen.refused,
            what,
            block: self.first_block.wrapping_add(count - 1),
            from: block.len() as u32,
            captured: kept.len() as u32,
            noted: 0,
        });
        block.extend_from_slice(kept);
    }

    #[cold]
    fn begin_block(&mut self) {
        let mut block = std::mem::take(&mut self.spare);
        block.clear();
        block.reserve(BLOCK);
        self.blocks.push_back(block);
    }

    /// Lets `write` append to the text of the last frame. Nothing is written if there is no frame.
    pub(super) fn note(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let (Some(last), Some(block)) = (self.frames.back_mut(), self.blocks.back_mut()) {
            let before = block.len();
            write(block);
            last.noted += (block.len() - before) as u32;
        }
    }

    /// Removes the text of the last frame, and returns what is known of that, to be changed.
    pub(super) fn clear_note(&mut self) -> Option<&mut T> {
        let (last, block) = (self.frames.back_mut()?, self.blocks.back_mut()?);
        block.truncate((last.from + last.captured) as usize);
        last.noted = 0;
        Some(&mut last.what)
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

    #[inline]
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Kept<T>> {
        self.frames.get_mut(index)
    }

    /// The index of the first frame at `at` or later. The later that is, the sooner it is found.
    #[inline]
    pub(super) fn first_at(&self, at: Instant) -> usize {
        let is_before = |index: usize| self.get(index).is_some_and(|kept| kept.at < at);
        // The first frame that is looked for is behind `start`, or at it, and before `end`, or at it.
        let (mut start, mut end, mut step) = (self.len(), self.len(), 1);
        while start > 0 && !is_before(start - 1) {
            end = start - 1;
            start = start.saturating_sub(step);
            step *= 2;
        }
        while start < end {
            let middle = start + (end - start) / 2;
            match is_before(middle) {
                true => start = middle + 1,
                false => end = middle,
            }
        }
        start
    }

    /// Notes with a frame that was sent at `at`, and held since, that it was never released.
    pub(super) fn unreleased(&mut self, at: Instant, seen: &Observed<'_>) {
        for index in self.first_at(at)..self.len() {
            match self.get_mut(index) {
                Some(kept) if kept.at == at => {
                    if kept.vm == seen.vm
                        && kept.direction == seen.direction
                        && kept.impaired.delay == seen.impaired.delay
                        && kept.impaired.has(Impairment::Delayed)
                    {
                        kept.impaired.add(Impairment::Unreleased);
                    }
                }
                _ => return,
            }
        }
    }

    /// The bytes of a frame of the queue, and its text.
    #[inline]
    pub(super) fn bytes(&self, kept: &Kept<T>) -> (&[u8], &[u8]) {
        let block = kept.block.wrapping_sub(self.first_block) as usize;
        let block = self.blocks.get(block).map(Vec::as_slice);
        let start = kept.from as usize;
        let end = start + (kept.captured + kept.noted) as usize;
        let both = block.and_then(|block| block.get(start..end));
        both.unwrap_or_default()
            .split_at_checked(kept.captured as usize)
            .unwrap_or_default()
    }

    /// Removes the first `count` frames.
    #[inline]
    pub(super) fn pop(&mut self, count: usize) {
        self.frames.drain(..count.min(self.frames.len()));
        let is_last = self.blocks.len() == 1;
        match (self.frames.front(), self.blocks.front_mut()) {
            (Some(next), _) if next.block == self.first_block => {}
            (None, Some(block)) if is_last => block.clear(),
            _ => self.end_blocks(),
        }
    }

    /// Gives the memory of the blocks back of which no frame is left.
    #[cold]
    fn end_blocks(&mut self) {
        let next = self.frames.front().map(|next| next.block);
        while !self.blocks.is_empty() && next != Some(self.first_block) {
            self.spare = self.blocks.pop_front().unwrap_or_default();
            self.first_block = self.first_block.wrapping_add(1);
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
                let seen = Observed {
                    vm: VmId(next as u32),
                    direction: Direction::In,
                    frame: &frame,
                    impaired: Impaired::default(),
                    refused: None,
                };
                queue.push(at, &seen, (next % 1_200) as usize, next);
                queue.note(|text| text.extend(next.to_string().bytes()));
                next += 1;
            }
            for _ in 0..round {
                let kept = *queue.front().unwrap();
                assert_eq!((kept.what, kept.at.as_nanos()), (first, first));
                let (bytes, text) = queue.bytes(&kept);
                assert_eq!(bytes.len(), (first as usize % 1_200).min(1_000));
                assert_eq!(text, first.to_string().as_bytes());
                queue.pop(1);
                first += 1;
            }
            for at in [first, first + 1, next - 1, next] {
                let index = queue.first_at(Instant::from_nanos(at));
                assert_eq!(index as u64, at - first);
            }
            assert_eq!(queue.first_at(Instant::ZERO), 0);
            // Memory is given back, but for a block.
            let blocks: usize = queue.blocks.iter().map(Vec::capacity).sum();
            assert!(blocks <= queue.len() * 1_010 * 11 / 10 + 2 * BLOCK);
        }
        while queue.front().is_some() {
            queue.pop(1);
        }
        assert_eq!(queue.size(), BLOCK);
        assert!(queue.blocks.iter().all(Vec::is_empty));
    }
}
