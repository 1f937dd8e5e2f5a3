//! Counts of pings, by how each ended.

use std::ops::{Add, AddAssign};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares [`Totals`] and [`Count`]. A row is a count's doc, its field, its variant, and how a report for people says it.
macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $(#[serde($serde:ident)])? $field:ident $count:ident: $words:literal;)*) => {
        /// Counts of the pings of one flow, of one phase, or of a run.
        ///
        /// Every ping that was sent ends as exactly one of `received`, `lost`, `corrupt`, `errored` or `abandoned`. The other
        /// counts stand beside these.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
        pub struct Totals {
            $($(#[doc = $doc])+ $(#[serde($serde)])? pub $field: u64,)*
        }

        /// One of the counts of [`Totals`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)] // They are those of the fields.
        pub enum Count {
            $($count,)*
        }

        impl Count {
            /// Every count, in the order in which reports list them.
            pub const ALL: &'static [Count] = &[$(Count::$count,)*];

            /// Its name in documents, tables and expectations: `sent`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Count::$count => stringify!($field),)*
                }
            }

            /// Its description, in sentences.
            pub fn doc(self) -> &'static str {
                match self {
                    $(Count::$count => concat!($($doc,)+).trim(),)*
                }
            }

            /// Returns true if it is counted for each flow too, and not for phases and the run alone.
            pub const fn is_of_flows(self) -> bool {
                !matches!(self, Count::Unsent)
            }

            /// How a report for people says it, behind the number.
            pub const fn words(self) -> &'static str {
                match self {
                    $(Count::$count => $words,)*
                }
            }
        }

        impl Totals {
            /// How many there are of `count`.
            pub const fn get(&self, count: Count) -> u64 {
                match count {
                    $(Count::$count => self.$field,)*
                }
            }

            /// How much each count has grown since it was as in `before`.
            pub const fn since(&self, before: &Totals) -> Totals {
                Totals {
                    $($field: self.$field.saturating_sub(before.$field),)*
                }
            }
        }

        impl AddAssign for Totals {
            fn add_assign(&mut self, other: Totals) {
                $(self.$field = self.$field.saturating_add(other.$field);)*
            }
        }
    };
}

counts! {
    /// Echo requests that were written.
    sent Sent: "sent";
    /// Pings answered within the timeout, with the payload that was sent.
    received Received: "received";
    /// Pings sent and not answered within the timeout.
    lost Lost: "lost";
    /// Pings given up before they were sent, because the neighbour's address was not found. Not part of `sent`.
    unresolved Unresolved: "unresolved";
    /// Further replies to a ping that was answered already.
    duplicate Duplicate: "duplicate";
    /// Replies of VMs that are members of the multicast group pinged which did not come within the timeout: one for each ping
    /// and each such VM. Their pings are received if another member has answered.
    #[serde(default)]
    member_lost MemberLost: "lost by members";
    /// Replies that came after the timeout. Their pings stay lost.
    late Late: "late";
    /// Replies whose sequence number is lower than one answered before in the same flow. They are received as well.
    reordered Reordered: "reordered";
    /// Pings whose reply carried another payload than was sent; neither received nor lost.
    corrupt Corrupt: "corrupt";
    /// Pings that somebody reported undeliverable by an ICMP error; neither received nor lost.
    #[serde(default)]
    errored Errored: "errored";
    /// Pings that were on their way when the VM that had sent them left, as the plan wanted: nobody was there to hear an
    /// answer. Neither received nor lost.
    #[serde(default)]
    abandoned Abandoned: "abandoned";
    /// Pings that were due in a phase and were not sent before it ended, because the tool was behind. Counted for the
    /// phase and the run, not for a flow, and not part of any other count.
    #[serde(default)]
    unsent Unsent: "due but never sent";
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

    /// Pings that were sent and have not ended.
    pub fn outstanding(&self) -> u64 {
        let ended = [
            self.received,
            self.lost,
            self.corrupt,
            self.errored,
            self.abandoned,
        ];
        ended.into_iter().fold(self.sent, u64::saturating_sub)
    }

    /// The share of ended pings that failed, from 0 to 1; 0 where none has ended.
    pub fn loss(&self) -> f64 {
        match self.ended() {
            0 => 0.0,
            ended => self.failed() as f64 / ended as f64,
        }
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
        member_lost: 12,
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
                member_lost: 24,
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
