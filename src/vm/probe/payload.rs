//! The payload of a ping: its sequence number and a pattern, by which a reply that was damaged is told.

use crate::wire::{Filled, Summed};

/// The pattern that the payload of every ping repeats behind its sequence number, as `ping` does: 0 to 255, 16 times, so that
/// a large one takes few copies.
const PATTERN: [u8; 16 * 256] = {
    let mut pattern = [0; 16 * 256];
    let mut i = 0;
    while i < pattern.len() {
        pattern[i] = i as u8;
        i += 1;
    }
    pattern
};

/// The sums of the first bytes of the pattern, by how many they are: up to 256, after which it repeats.
const PATTERN_SUMS: [u64; 257] = {
    let mut sums = [0; 257];
    let mut i = 0;
    while i < 256 {
        // The two bytes of a word as they lie in memory.
        let word = if i % 2 == 0 {
            [i as u8, 0]
        } else {
            [0, i as u8]
        };
        sums[i + 1] = sums[i] + u16::from_ne_bytes(word) as u64;
        i += 1;
    }
    sums
};

/// Writes the payload of ping `sequence`: the number itself in eight bytes (cut short if there is no room), then a
/// counting pattern. Returns its sum.
pub(in crate::vm) fn fill(sequence: u64, payload: &mut [u8]) -> Summed {
    let number = sequence.to_be_bytes();
    let Some((head, tail)) = payload.split_first_chunk_mut() else {
        payload.copy_from_slice(&number[..payload.len()]);
        return ().sum(payload);
    };
    *head = number;
    match PATTERN.get(..tail.len()) {
        Some(pattern) => tail.copy_from_slice(pattern),
        None => fill_long(tail),
    }
    sum(sequence, tail.len())
}

/// Repeats the pattern where there is more room than for all that is there of it.
#[inline(never)]
fn fill_long(tail: &mut [u8]) {
    for chunk in tail.chunks_mut(PATTERN.len()) {
        chunk.copy_from_slice(&PATTERN[..chunk.len()]);
    }
}

/// Tells if nothing but the pattern is in what is longer than all that is there of it.
#[inline(never)]
fn is_long_pattern(tail: &[u8]) -> bool {
    let mut chunks = tail.chunks(PATTERN.len());
    chunks.all(|chunk| chunk == &PATTERN[..chunk.len()])
}

/// The sum of a sequence number and so many bytes of the pattern.
#[inline(always)]
fn sum(sequence: u64, pattern: usize) -> Summed {
    let (whole, rest) = (pattern / 256, pattern % 256);
    let pattern = PATTERN_SUMS[256] * whole as u64 + PATTERN_SUMS[rest];
    let number = u64::from_ne_bytes(sequence.to_be_bytes());
    // The two halves of the number, so that nothing overflows.
    Summed::new((number >> 32) + (number & 0xffff_ffff) + pattern)
}

/// The payload of an echo message, looked through once: to compare it takes a fraction of the time of adding it up, and
/// the sum of the pattern is known.
#[derive(Clone, Copy, Debug)]
pub(in crate::vm) struct Contents<'a> {
    payload: &'a [u8],
    /// The sequence number in front, if nothing but the pattern is behind it.
    sequence: Option<u64>,
}

impl Contents<'_> {
    /// Looks through `payload`.
    #[inline(always)]
    pub(in crate::vm) fn of(payload: &[u8]) -> Contents<'_> {
        let is_pattern = |tail: &[u8]| match PATTERN.get(..tail.len()) {
            Some(pattern) => tail == pattern,
            None => is_long_pattern(tail),
        };
        let sequence = match payload.split_first_chunk() {
            Some((head, tail)) if is_pattern(tail) => Some(u64::from_be_bytes(*head)),
            _ => None,
        };
        Contents { payload, sequence }
    }

    /// Its sum.
    #[inline(always)]
    pub(in crate::vm) fn sum(&self) -> Summed {
        match self.sequence {
            Some(sequence) => sum(sequence, self.payload.len() - size_of::<u64>()),
            None => ().sum(self.payload),
        }
    }

    /// Tells if it is what [`fill`] wrote into `length` bytes for ping `sequence`.
    #[inline(always)]
    pub(super) fn is_of(&self, sequence: u64, length: usize) -> bool {
        let is_cut_short = || sequence.to_be_bytes().get(..length) == Some(self.payload);
        self.payload.len() == length
            && match self.sequence {
                Some(own) => own == sequence,
                None => is_cut_short(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQUENCE: u64 = 0x0102_0304_0506_0708;

    #[test]
    fn a_payload_of_any_length_matches_only_itself() {
        for length in [
            0, 1, 7, 8, 9, 56, 255, 264, 265, 1472, 4103, 4104, 4105, 9000,
        ] {
            let mut payload = vec![0; length];
            let told = fill(SEQUENCE, &mut payload);
            let fold = |mut sum: u64| {
                while sum >> 16 != 0 {
                    sum = (sum >> 16) + (sum & 0xffff);
                }
                sum
            };
            let contents = Contents::of(&payload);
            for told in [told, contents.sum()] {
                assert_eq!(fold(told.get()), fold(().sum(&payload).get()), "{length}");
            }
            assert!(contents.is_of(SEQUENCE, length), "{length}");
            assert!(!contents.is_of(SEQUENCE, length + 1), "{length}");
            for i in [0, length / 2, length.saturating_sub(1)] {
                if i >= length {
                    continue;
                }
                payload[i] ^= 1;
                let damaged = Contents::of(&payload);
                assert!(!damaged.is_of(SEQUENCE, length), "{length}, byte {i}");
                let (told, found) = (damaged.sum(), ().sum(&payload));
                assert_eq!(fold(told.get()), fold(found.get()), "{length}, byte {i}");
                payload[i] ^= 1;
            }
        }
    }
}
