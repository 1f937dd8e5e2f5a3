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
    for chunk in tail.chunks_mut(PATTERN.len()) {
        chunk.copy_from_slice(&PATTERN[..chunk.len()]);
    }
    let (whole, rest) = (tail.len() / 256, tail.len() % 256);
    let pattern = PATTERN_SUMS[256] * whole as u64 + PATTERN_SUMS[rest];
    let number = u64::from_ne_bytes(number);
    // The two halves of the number, so that nothing overflows.
    Summed::new((number >> 32) + (number & 0xffff_ffff) + pattern)
}

/// Tells if `payload` is what [`fill`] wrote into `length` bytes for ping `sequence`.
pub(super) fn matches(sequence: u64, length: usize, payload: &[u8]) -> bool {
    let number = sequence.to_be_bytes();
    let Some((head, tail)) = payload.split_first_chunk() else {
        return payload.len() == length && payload == &number[..payload.len()];
    };
    payload.len() == length
        && *head == number
        && tail
            .chunks(PATTERN.len())
            .all(|chunk| chunk == &PATTERN[..chunk.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_any_length_matches_only_itself() {
        for length in [
            0, 1, 7, 8, 9, 56, 255, 264, 265, 1472, 4103, 4104, 4105, 9000,
        ] {
            let mut payload = vec![0; length];
            let told = fill(0x0102_0304_0506_0708, &mut payload);
            let fold = |mut sum: u64| {
                while sum >> 16 != 0 {
                    sum = (sum >> 16) + (sum & 0xffff);
                }
                sum
            };
            let found = ().sum(&payload);
            assert_eq!(fold(told.get()), fold(found.get()), "{length}");
            assert!(matches(0x0102_0304_0506_0708, length, &payload), "{length}");
            assert!(
                !matches(0x0102_0304_0506_0708, length + 1, &payload),
                "{length}"
            );
            for i in [0, length / 2, length.saturating_sub(1)] {
                if let Some(byte) = payload.get_mut(i) {
                    *byte ^= 1;
                    assert!(
                        !matches(0x0102_0304_0506_0708, length, &payload),
                        "{length}, byte {i}"
                    );
                    payload[i] ^= 1;
                }
            }
        }
    }
}
