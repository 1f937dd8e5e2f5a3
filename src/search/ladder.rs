//! The loads that trials are made at.

use std::ops::RangeInclusive;

/// So many loads has a ladder at most.
const MOST: usize = 1_000_000;

/// Loads from the least to the greatest, so close that two neighbours are no further apart than the least width of the goals:
/// evenly spread in logarithms, as loads are compared by their ratio.
#[derive(Clone, PartialEq, Debug)]
pub struct Ladder(Vec<f64>);

impl Ladder {
    /// Spreads loads over `range`, whole numbers only if `whole`; `None` if there are less than two, or more than a million.
    pub fn new(range: &RangeInclusive<f64>, width: f64, whole: bool) -> Option<Ladder> {
        let (least, greatest) = (*range.start(), *range.end());
        if !(least > 0.0 && least < greatest && greatest.is_finite() && width > 0.0) {
            return None;
        }
        // A little narrower, for the sake of rounding.
        let step = -(-width * 0.999).ln_1p();
        let steps = ((greatest / least).ln() / step).ceil().max(1.0);
        if steps > MOST as f64 {
            return None;
        }
        let spread = |index: f64| least * (greatest / least).powf(index / steps);
        let mut loads: Vec<f64> = (0..=steps as usize)
            .map(|index| spread(index as f64))
            .collect();
        if whole {
            for load in &mut loads {
                *load = load.round();
            }
            loads.retain(|load| range.contains(load));
        }
        loads.dedup();
        (loads.len() > 1).then_some(Ladder(loads))
    }

    /// The load with that number, or the last.
    pub fn at(&self, index: usize) -> f64 {
        let load = self.0.get(index).or(self.0.last());
        load.copied().unwrap_or_default()
    }

    /// The number of the greatest.
    pub fn last(&self) -> usize {
        self.0.len() - 1
    }

    /// The number of the greatest that is not above `load`; of the least if all are.
    pub fn below(&self, load: f64) -> usize {
        self.0
            .partition_point(|known| *known <= load)
            .saturating_sub(1)
    }

    /// Returns true if the two are no further apart than `width`, a share of the greater one, or are neighbours.
    pub fn is_within(&self, lower: usize, upper: usize, width: f64) -> bool {
        let (low, high) = (self.at(lower), self.at(upper));
        upper <= lower + 1 || high - low <= width * high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_no_further_apart_than_the_width() {
        let ladder = Ladder::new(&(1_000.0..=1e6), 0.01, false).unwrap();
        assert_eq!((ladder.at(0), ladder.at(ladder.last())), (1_000.0, 1e6));
        for index in 0..ladder.last() {
            let (low, high) = (ladder.at(index), ladder.at(index + 1));
            assert!(low < high && (high - low) / high <= 0.01, "{low} {high}");
        }
        assert_eq!(ladder.below(999.0), 0);
        assert_eq!(ladder.below(1e9), ladder.last());
        let index = ladder.below(ladder.at(7));
        assert_eq!(index, 7);
    }

    #[test]
    fn whole_loads_are_told_once() {
        let ladder = Ladder::new(&(1.0..=20.0), 0.01, true).unwrap();
        let loads: Vec<f64> = (0..=ladder.last()).map(|index| ladder.at(index)).collect();
        assert_eq!(loads, (1..=20).map(f64::from).collect::<Vec<_>>());
        assert!(ladder.is_within(3, 4, 0.01));
        assert!(!ladder.is_within(3, 5, 0.01));
    }

    #[test]
    fn there_is_none_without_a_range() {
        for (range, width) in [
            (0.0..=1.0, 0.1),
            (2.0..=1.0, 0.1),
            (1.0..=1.0, 0.1),
            (1.0..=f64::INFINITY, 0.1),
            (1.0..=1e9, 1e-9),
        ] {
            assert_eq!(Ladder::new(&range, width, false), None, "{range:?}");
        }
        assert_eq!(Ladder::new(&(1.2..=1.4), 0.1, true), None);
    }
}
