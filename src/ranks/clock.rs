//! The offset between the clocks of two ranks: of several exchanges the one with the shortest round trip is right to within
//! half of that (as in RFC 5905, section 8).

use crate::time::Instant;

/// Exchanges that are made.
pub const EXCHANGES: u32 = 16;

/// The offset of rank 0's clock from this rank's.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClockOffset {
    /// What is added to a time of this rank to get that of rank 0, in nanoseconds.
    pub nanos: i64,
    /// By how much that may be wrong, in nanoseconds.
    pub error: u64,
}

impl ClockOffset {
    /// The offset by one exchange: `sent` and `received` by this rank's clock, `there` by that of rank 0 in between.
    pub fn of_exchange(sent: Instant, there: Instant, received: Instant) -> ClockOffset {
        let trip = received.nanos_since(sent);
        let middle = sent.as_nanos().saturating_add(trip / 2);
        let nanos = i128::from(there.as_nanos()) - i128::from(middle);
        let most = i128::from(i64::MAX);
        ClockOffset {
            nanos: nanos.clamp(-most, most) as i64,
            error: trip.div_ceil(2),
        }
    }

    /// The better of the two.
    pub fn better(self, other: ClockOffset) -> ClockOffset {
        match other.error < self.error {
            true => other,
            false => self,
        }
    }

    /// The time of this rank at which rank 0 has `there`.
    pub fn here(self, there: Instant) -> Instant {
        let nanos = i128::from(there.as_nanos()) - i128::from(self.nanos);
        Instant::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_within_its_error_however_the_way_is_divided() {
        for offset in [-5_000_000_000i64, -7, 0, 3, 9_000_000_000] {
            let mut best: Option<ClockOffset> = None;
            for (there, back) in [(10, 90), (50, 50), (0, 400), (7, 7), (1_000, 1)] {
                let sent = 1_000_000_000_000u64;
                let at = (sent + there).wrapping_add_signed(offset);
                let [sent, at, received] = [sent, at, sent + there + back].map(Instant::from_nanos);
                let one = ClockOffset::of_exchange(sent, at, received);
                assert!((one.nanos - offset).unsigned_abs() <= one.error, "{one:?}");
                best = Some(best.map_or(one, |best| best.better(one)));
            }
            let best = best.unwrap();
            assert_eq!(best.error, 7);
            let here = Instant::from_nanos(5_000_000_000_000);
            let there = Instant::from_nanos(5_000_000_000_000u64.wrapping_add_signed(offset));
            assert!(best.here(there).nanos_since(here) <= 7);
            assert!(here.nanos_since(best.here(there)) <= 7);
        }
    }
}
