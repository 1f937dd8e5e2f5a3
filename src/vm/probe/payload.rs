//! The payload of a ping: its sequence number and a pattern, by which a reply that was damaged is told.

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

/// Writes the payload of ping `sequence`: the number itself in eight bytes (cut short if there is no room), then a
/// counting pattern.
pub(in crate::vm) fn fill(sequence: u64, payload: &mut [u8]) {
    let number = sequence.to_be_bytes();
    let Some((head, tail)) = payload.split_first_chunk_mut() else {
        return payload.copy_from_slice(&number[..payload.len()]);
    };
    *head = number;
    for chunk in tail.chunks_mut(PATTERN.len()) {
        chunk.copy_from_slice(&PATTERN[..chunk.len()]);
    }
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
            fill(0x0102_0304_0506_0708, &mut payload);
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
