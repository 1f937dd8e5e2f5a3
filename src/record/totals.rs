//! What became of the pings, as counts.

use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// What became of the pings of one flow, of one phase, or of a run.
///
/// Every ping that was sent ends as exactly one of `received`, `lost`, `corrupt`, `errored` or `abandoned`. The other counts
/// stand beside these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Echo requests that were written.
    pub sent: u64,
    /// Pings answered within the timeout, with the payload that was sent.
    pub received: u64,
    /// Pings sent and not answered within the timeout.
    pub lost: u64,
    /// Pings given up before they were sent, because the neighbour's address was not found. Not part of `sent`.
    pub unresolved: u64,
    /// Further replies to a ping that was answered already.
    pub duplicate: u64,
    /// Replies that came after the timeout. Their pings stay lost.
    pub late: u64,
    /// Replies whose sequence number is lower than one answered before in the same flow. They are received as well.
    pub reordered: u64,
    /// Pings whose reply carried another payload than was sent; neither received nor lost.
    pub corrupt: u64,
    /// Pings that somebody reported undeliverable by an ICMP error; neither received nor lost.
    #[serde(default)]
    pub errored: u64,
    /// Pings that were on their way when the VM that had sent them left, as the plan wanted: nobody was there to hear an
    /// answer. Neither received nor lost.
    #[serde(default)]
    pub abandoned: u64,
    /// Pings that were due in a phase and were not sent before it ended, because the tool was behind. Counted for the
    /// phase and the run, not for a flow, and not part of any other count.
    #[serde(default)]
    pub unsent: u64,
}

impl Totals {
    /// Pings that ended without the answer they should have had: lost, corrupt, reported undeliverable, or never sent for want
    /// of a neighbour.
    pub const fn failed(&self) -> u64 {
        self.lost
            .saturating_add(self.unresolved)
            .saturating_add(self.corrupt)
            .saturating_add(self.errored)
    }

    /// Pings of which is known what became of them: [`received`](Self::received) and [`failed`](Self::failed).
    pub const fn ended(&self) -> u64 {
        self.received.saturating_add(self.failed())
    }

    /// Pings that were to be made: sent, or given up before that.
    pub const fn attempted(&self) -> u64 {
        self.sent.saturating_add(self.unresolved)
    }

    /// The share of ended pings that failed, from 0 to 1; 0 where none has ended.
    pub fn loss(&self) -> f64 {
        match self.ended() {
            0 => 0.0,
            ended => self.failed() as f64 / ended as f64,
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        // Every field is named, so that one added later can't be forgotten here.
        let Totals {
            sent,
            received,
            lost,
            unresolved,
            duplicate,
            late,
            reordered,
            corrupt,
            errored,
            abandoned,
            unsent,
        } = other;
        self.sent = self.sent.saturating_add(sent);
        self.received = self.received.saturating_add(received);
        self.lost = self.lost.saturating_add(lost);
        self.unresolved = self.unresolved.saturating_add(unresolved);
        self.duplicate = self.duplicate.saturating_add(duplicate);
        self.late = self.late.saturating_add(late);
        self.reordered = self.reordered.saturating_add(reordered);
        self.corrupt = self.corrupt.saturating_add(corrupt);
        self.errored = self.errored.saturating_add(errored);
        self.abandoned = self.abandoned.saturating_add(abandoned);
        self.unsent = self.unsent.saturating_add(unsent);
    }
}

impl Add for Totals {
    type Output = Totals;

    fn add(mut self, other: Totals) -> Totals {
        self += other;
        self
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(totals: I) -> Totals {
        totals.fold(Totals::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_OF_EACH: Totals = Totals {
        sent: 1,
        received: 2,
        lost: 3,
        unresolved: 4,
        duplicate: 5,
        late: 6,
        reordered: 7,
        corrupt: 8,
        errored: 9,
        abandoned: 11,
        unsent: 10,
    };

    #[test]
    fn totals_add_field_by_field() {
        let twice = ONE_OF_EACH + ONE_OF_EACH;
        assert_eq!(
            twice,
            Totals {
                sent: 2,
                received: 4,
                lost: 6,
                unresolved: 8,
                duplicate: 10,
                late: 12,
                reordered: 14,
                corrupt: 16,
                errored: 18,
                abandoned: 22,
                unsent: 20,
            }
        );
    }

    #[test]
    fn a_full_count_stays_full() {
        let full = Totals {
            sent: u64::MAX,
            ..Totals::default()
        };
        assert_eq!((full + ONE_OF_EACH).sent, u64::MAX);
    }

    #[test]
    fn loss_is_the_share_of_ended_pings_without_a_good_answer() {
        let table = [
            (0, 0, 0, 0, 0.0),
            (10, 0, 0, 0, 0.0),
            (9, 1, 0, 0, 0.1),
            (0, 5, 0, 0, 1.0),
            (0, 0, 5, 0, 1.0),
            (5, 1, 2, 2, 0.5),
        ];
        for (received, lost, unresolved, corrupt, loss) in table {
            let totals = Totals {
                received,
                lost,
                unresolved,
                corrupt,
                ..Totals::default()
            };
            assert_eq!(totals.loss(), loss, "{totals:?}");
        }
    }
}
