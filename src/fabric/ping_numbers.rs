//! The numbers of a flow's pings in full, of which 16 bits travel with a frame, or fewer.

use crate::wire::sequence_mask;

/// The numbers of one flow so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct PingNumbers {
    /// That of the ping behind the newest.
    next: u64,
    /// The bits of a number that travel. Pings on their way are no further apart than half of what these tell apart, so that one that
    /// is sent again is told from a new one.
    mask: u16,
}

impl PingNumbers {
    /// Those of a flow of which nothing was sent.
    pub(super) const fn of(identifier: u32) -> PingNumbers {
        PingNumbers {
            next: 0,
            mask: sequence_mask(identifier),
        }
    }

    /// A request with `sequence` is sent: returns the number of its ping, and true if one of that was sent before.
    pub(super) fn sent(&mut self, sequence: u16) -> (u64, bool) {
        let ahead = sequence.wrapping_sub(self.next as u16) & self.mask;
        let behind = self.behind(sequence);
        match self.next.checked_sub(behind.into()) {
            Some(number) if ahead > self.mask / 2 => (number, true),
            _ => {
                let number = self.next + u64::from(ahead);
                self.next = number + 1;
                (number, false)
            }
        }
    }

    /// The ping of that number is over, even if it was never sent.
    pub(super) fn ended(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
    }

    /// The number of the newest ping with `sequence`.
    pub(super) fn newest(&self, sequence: u16) -> u64 {
        let behind = match self.behind(sequence) {
            0 => u64::from(self.mask) + 1,
            behind => behind.into(),
        };
        self.next.checked_sub(behind).unwrap_or(sequence.into())
    }

    /// How far `sequence` is behind the next number.
    const fn behind(&self, sequence: u16) -> u16 {
        (self.next as u16).wrapping_sub(sequence) & self.mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_that_is_sent_again_keeps_its_number_and_others_have_theirs_in_full() {
        let mut numbers = PingNumbers::of(0);
        for number in 0..200_000_u64 {
            assert_eq!(numbers.sent(number as u16), (number, false));
            for behind in [0, 1, 32_767] {
                if let Some(old) = number.checked_sub(behind) {
                    assert_eq!(numbers.sent(old as u16), (old, true));
                }
            }
        }
        assert_eq!(numbers.newest(199_999_u32 as u16), 199_999);
        assert_eq!(numbers.newest(140_000_u32 as u16), 140_000);
    }

    #[test]
    fn pings_that_were_never_sent_have_their_numbers_too() {
        let mut numbers = PingNumbers::of(0);
        assert_eq!(numbers.sent(0), (0, false));
        numbers.ended(0);
        numbers.ended(99_999);
        assert_eq!(numbers.sent(100_003_u32 as u16), (100_003, false));
        // One that was on its way with them.
        assert_eq!(numbers.sent(100_001_u32 as u16), (100_001, true));
    }
}
