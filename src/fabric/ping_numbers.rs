//! The numbers of a flow's pings in full, of which 16 bits travel with a frame.

use crate::vm::MAX_OUTSTANDING;

/// How far apart the pings on their way may be. So 16 bits tell a ping that is sent again from a new one.
const REACH: u16 = MAX_OUTSTANDING as u16;

/// The numbers of one flow so far.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PingNumbers {
    /// That of the ping behind the newest.
    next: u64,
}

impl PingNumbers {
    /// A request with the 16-bit `sequence` is sent: returns the number of its ping, and true if one of that was sent before.
    pub(super) fn sent(&mut self, sequence: u16) -> (u64, bool) {
        let ahead = sequence.wrapping_sub(self.next as u16);
        let behind = (self.next as u16).wrapping_sub(sequence);
        match self.next.checked_sub(behind.into()) {
            Some(number) if ahead >= REACH => (number, true),
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

    /// The number of the newest ping with the 16-bit `sequence`.
    pub(super) fn newest(&self, sequence: u16) -> u64 {
        let behind = (self.next as u16).wrapping_sub(sequence);
        let behind = match behind {
            0 => 1 << 16,
            behind => behind.into(),
        };
        self.next.checked_sub(behind).unwrap_or(sequence.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_that_is_sent_again_keeps_its_number_and_others_have_theirs_in_full() {
        let mut numbers = PingNumbers::default();
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
        let mut numbers = PingNumbers::default();
        assert_eq!(numbers.sent(0), (0, false));
        numbers.ended(0);
        numbers.ended(99_999);
        assert_eq!(numbers.sent(100_003_u32 as u16), (100_003, false));
        // One that was on its way with them.
        assert_eq!(numbers.sent(100_001_u32 as u16), (100_001, true));
    }
}
