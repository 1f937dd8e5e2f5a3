//! The order in which the numbered frames of a stream arrive (RFC 4737): which are first copies, which are late and by how much.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Gaps between the numbers received that are remembered. With one more, the oldest is forgotten: of a frame that comes from
/// before its end it can't be told whether it is a duplicate.
pub const MAX_SEQUENCE_GAPS: usize = 4096;

/// Numbers that have not come, though a higher one has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gap {
    first: u64,
    /// The number behind the last one.
    end: u64,
    /// How many frames had arrived before the one that left the gap.
    before: u64,
}

/// How far a frame is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// It is the first copy, in order or not.
    First,
    /// It came before.
    Duplicate,
    /// It is from before what is remembered.
    Stale,
}

/// Frames out of order, duplicates not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reordering {
    /// Frames that came after one with a higher number (RFC 4737 section 3.3).
    pub reordered: u64,
    /// The greatest extent of one: so many frames came before it since the first with a higher number did (section 4.2.1).
    pub most_extent: u64,
    /// Their extents, all together.
    pub extents: u64,
}

/// The numbers that have arrived. Memory: 24 bytes a gap, nothing where no frame is lost or late.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sequence {
    /// The number expected next: that behind the highest.
    next: u64,
    /// First copies so far.
    arrived: u64,
    /// In ascending order.
    #[serde(skip)]
    gaps: VecDeque<Gap>,
    /// Nothing is known of numbers below this one.
    known_from: u64,
    /// The longest of the gaps that are forgotten.
    longest_forgotten: u64,
    reordering: Reordering,
}

impl Sequence {
    /// Takes in the number of a frame that has arrived.
    #[inline]
    pub(super) fn arrived(&mut self, number: u64) -> Order {
        if number == self.next {
            self.next += 1;
            self.arrived += 1;
            return Order::First;
        }
        self.arrived_elsewhere(number)
    }

    fn arrived_elsewhere(&mut self, number: u64) -> Order {
        if number > self.next {
            self.add_gap(Gap {
                first: self.next,
                end: number,
                before: self.arrived,
            });
            self.next = number + 1;
            self.arrived += 1;
            return Order::First;
        }
        if number < self.known_from {
            return Order::Stale;
        }
        let Some(gap) = self.take_from_gap(number) else {
            return Order::Duplicate;
        };
        let extent = self.arrived - gap.before;
        self.arrived += 1;
        let reordering = &mut self.reordering;
        reordering.reordered += 1;
        reordering.most_extent = reordering.most_extent.max(extent);
        reordering.extents += extent;
        Order::First
    }

    fn add_gap(&mut self, gap: Gap) {
        self.gaps.push_back(gap);
        self.forget_some();
    }

    fn forget_some(&mut self) {
        if self.gaps.len() > MAX_SEQUENCE_GAPS
            && let Some(oldest) = self.gaps.pop_front()
        {
            self.known_from = oldest.end;
            self.longest_forgotten = self.longest_forgotten.max(oldest.end - oldest.first);
        }
    }

    /// Takes `number` out of the gap that it is in. Returns the gap as it was; `None` if it is in none.
    fn take_from_gap(&mut self, number: u64) -> Option<Gap> {
        let place = self.gaps.partition_point(|gap| gap.end <= number);
        let gap = self.gaps.get_mut(place)?;
        let whole = *gap;
        if number < whole.first {
            return None;
        }
        let (before, behind) = (number - whole.first, whole.end - number - 1);
        match (before, behind) {
            (0, 0) => drop(self.gaps.remove(place)),
            (0, _) => gap.first = number + 1,
            (_, 0) => gap.end = number,
            _ => {
                gap.end = number;
                let rest = Gap {
                    first: number + 1,
                    ..whole
                };
                self.gaps.insert(place + 1, rest);
                self.forget_some();
            }
        }
        Some(whole)
    }

    /// Returns true if that number has not come, so far as is known.
    pub(super) fn is_missing(&self, number: u64) -> bool {
        if number >= self.next || number < self.known_from {
            return true;
        }
        let place = self.gaps.partition_point(|gap| gap.end <= number);
        self.gaps.get(place).is_some_and(|gap| gap.first <= number)
    }

    /// The same, of which no further frame is to come: it needs no gaps any more.
    pub(super) fn closed(&self) -> Sequence {
        Sequence {
            known_from: self.next,
            longest_forgotten: self.longest_loss(0),
            gaps: VecDeque::new(),
            ..*self
        }
    }

    pub(super) const fn reordering(&self) -> &Reordering {
        &self.reordering
    }

    /// The most numbers in a row that have not come, of `sent` from 0 on.
    pub(super) fn longest_loss(&self, sent: u64) -> u64 {
        let gaps = self.gaps.iter().map(|gap| gap.end - gap.first);
        let tail = sent.saturating_sub(self.next);
        gaps.chain([tail, self.longest_forgotten])
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_has_not_come_is_missing_wherever_it_is() {
        let mut sequence = Sequence::default();
        let came = [0, 1, 5, 3, 9, 8];
        for number in came {
            sequence.arrived(number);
        }
        for number in 0..12 {
            assert_eq!(
                sequence.is_missing(number),
                !came.contains(&number),
                "{number}"
            );
        }
    }

    /// The extents of the reordered frames as RFC 4737 defines them, in quadratic time.
    fn extents(arrivals: &[u64]) -> Vec<u64> {
        let mut next = 0;
        let mut extents = Vec::new();
        for (i, number) in arrivals.iter().enumerate() {
            if *number >= next {
                next = number + 1;
                continue;
            }
            let earliest = arrivals[..i].iter().position(|other| other > number);
            extents.push((i - earliest.unwrap()) as u64);
        }
        extents
    }

    #[test]
    fn the_examples_of_rfc_4737_come_out() {
        // Section 7.1 and 7.2, numbered from 1 there.
        for (arrivals, expected) in [
            (&[1, 2, 3, 7, 8, 9, 10, 4, 5, 6, 11][..], &[4, 5, 6][..]),
            (&[1, 2, 3, 4, 6, 7, 5, 8, 9, 10][..], &[2]),
            (&[1, 2, 3][..], &[]),
        ] {
            let mut sequence = Sequence::default();
            for number in arrivals {
                assert_eq!(sequence.arrived(number - 1), Order::First);
            }
            let Reordering {
                reordered,
                most_extent,
                extents: sum,
            } = sequence.reordering;
            assert_eq!(reordered, expected.len() as u64);
            assert_eq!(most_extent, expected.iter().copied().max().unwrap_or(0));
            assert_eq!(sum, expected.iter().sum::<u64>());
            let zero_based: Vec<u64> = arrivals.iter().map(|number| number - 1).collect();
            assert_eq!(extents(&zero_based), expected);
        }
    }

    #[test]
    fn it_tells_what_a_set_of_all_numbers_tells() {
        let mut random = fastrand::Rng::with_seed(4737);
        for _ in 0..300 {
            let sent = random.u64(1..60);
            let mut frames: Vec<u64> = (0..sent).filter(|_| random.u8(..10) > 1).collect();
            let copies: Vec<u64> = frames
                .iter()
                .copied()
                .filter(|_| random.u8(..10) == 0)
                .collect();
            frames.extend(copies);
            for _ in 0..random.usize(..20) {
                if frames.len() > 1 {
                    let (one, other) = (random.usize(..frames.len()), random.usize(..frames.len()));
                    frames.swap(one, other);
                }
            }
            let (mut sequence, mut seen, mut firsts) =
                (Sequence::default(), HashSet::new(), Vec::new());
            for number in frames {
                let expected = match seen.insert(number) {
                    true => Order::First,
                    false => Order::Duplicate,
                };
                assert_eq!(sequence.arrived(number), expected);
                if expected == Order::First {
                    firsts.push(number);
                }
            }
            let expected = extents(&firsts);
            let told = sequence.reordering;
            assert_eq!(told.reordered, expected.len() as u64);
            assert_eq!(
                told.most_extent,
                expected.iter().copied().max().unwrap_or(0)
            );
            assert_eq!(told.extents, expected.iter().sum::<u64>());
            let mut longest = (0, 0);
            for number in 0..sent {
                longest.0 = match seen.contains(&number) {
                    true => 0,
                    false => longest.0 + 1,
                };
                longest.1 = longest.0.max(longest.1);
            }
            assert_eq!(sequence.longest_loss(sent), longest.1);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_older_is_taken_for_neither() {
        let mut sequence = Sequence::default();
        let gaps = MAX_SEQUENCE_GAPS as u64 + 10;
        for number in 0..gaps {
            // Every other one is missing: 0, 2, 4 and so on.
            sequence.arrived(2 * number + 1);
        }
        assert_eq!(sequence.gaps.len(), MAX_SEQUENCE_GAPS);
        assert_eq!(sequence.arrived(0), Order::Stale);
        assert_eq!(sequence.arrived(1), Order::Stale);
        assert_eq!(sequence.arrived(2 * gaps - 2), Order::First);
        assert_eq!(sequence.arrived(2 * gaps - 1), Order::Duplicate);
        assert_eq!(sequence.longest_loss(2 * gaps + 7), 7);
    }
}
