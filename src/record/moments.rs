//! Count, extremes, mean and standard deviation of a series, in forty bytes.

/// The exact count, least and greatest value, and the running mean and spread of a series of nanoseconds.
///
/// The mean and the sum of squared deviations are kept by Welford's method, which neither overflows nor cancels as a
/// sum of squares does ("Note on a Method for Calculating Corrected Sums of Squares and Products", 1962).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Moments {
    count: u64,
    min: u64,
    max: u64,
    mean: f64,
    squared_deviations: f64,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments {
            count: 0,
            min: u64::MAX,
            max: 0,
            mean: 0.0,
            squared_deviations: 0.0,
        }
    }
}

impl Moments {
    /// The moments of a series of which only these are known: as they stand in a saved report.
    ///
    /// `mean` and `stdev` are in nanoseconds; values that are no numbers count as 0.
    pub fn from_parts(count: u64, min: u64, max: u64, mean: f64, stdev: f64) -> Moments {
        if count == 0 {
            return Moments::default();
        }
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        Moments {
            count,
            min,
            max,
            mean: finite(mean),
            squared_deviations: finite(stdev * stdev) * count as f64,
        }
    }

    /// Takes in one value.
    pub fn record(&mut self, nanos: u64) {
        self.count = self.count.saturating_add(1);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
        let value = signed(nanos) as f64;
        let before = value - self.mean;
        self.mean += before / signed(self.count) as f64;
        self.squared_deviations += before * (value - self.mean);
    }

    /// Takes in every value of `other` (Chan, Golub and LeVeque's pairwise update, 1979).
    pub fn merge(&mut self, other: &Moments) {
        if other.count == 0 {
            return;
        }
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.mean += apart * theirs / (ours + theirs);
        self.squared_deviations +=
            other.squared_deviations + apart * apart * ours * theirs / (ours + theirs);
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// How many values there were.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The least value in nanoseconds, if there was any.
    pub const fn min(&self) -> Option<u64> {
        if self.count == 0 {
            None
        } else {
            Some(self.min)
        }
    }

    /// The greatest value in nanoseconds, if there was any.
    pub const fn max(&self) -> Option<u64> {
        if self.count == 0 {
            None
        } else {
            Some(self.max)
        }
    }

    /// The mean in nanoseconds, if there was any value.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// The standard deviation of these values (not an estimate for others) in nanoseconds, if there was any value.
    pub fn stdev(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.squared_deviations.max(0.0) / self.count as f64).sqrt())
    }
}

/// The same number where it has a sign: processors convert those to floating point in one instruction, and others in eight. No
/// span is as long as 292 years, and no series has as many values.
const fn signed(value: u64) -> i64 {
    if value > i64::MAX as u64 {
        i64::MAX
    } else {
        value as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.record(*value));
        moments
    }

    #[test]
    fn known_series_have_known_moments() {
        let table: &[(&[u64], u64, u64, f64, f64)] = &[
            (&[7], 7, 7, 7.0, 0.0),
            (&[2, 4, 4, 4, 5, 5, 7, 9], 2, 9, 5.0, 2.0),
            (
                &[3_600_000_000_000, 3_600_000_000_002],
                3_600_000_000_000,
                3_600_000_000_002,
                3_600_000_000_001.0,
                1.0,
            ),
        ];
        for &(values, min, max, mean, stdev) in table {
            let moments = of(values);
            assert_eq!(moments.count(), values.len() as u64);
            assert_eq!(moments.min(), Some(min));
            assert_eq!(moments.max(), Some(max));
            assert_eq!(moments.mean(), Some(mean));
            assert!(
                (moments.stdev().unwrap() - stdev).abs() < 1e-6,
                "{values:?}"
            );
        }
    }

    #[test]
    fn a_series_without_values_has_no_moments() {
        let none = Moments::default();
        assert_eq!(
            (none.min(), none.max(), none.mean(), none.stdev()),
            (None, None, None, None)
        );
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let values: Vec<u64> = (0..1000).map(|i| (i * 7919) % 104_729).collect();
        for split in [0, 1, 500, 999, 1000] {
            let mut merged = of(&values[..split]);
            merged.merge(&of(&values[split..]));
            let whole = of(&values);
            assert_eq!(
                (merged.count(), merged.min(), merged.max()),
                (whole.count(), whole.min(), whole.max())
            );
            assert!((merged.mean().unwrap() - whole.mean().unwrap()).abs() < 1e-6);
            assert!((merged.stdev().unwrap() - whole.stdev().unwrap()).abs() < 1e-6);
        }
    }

    #[test]
    fn moments_survive_being_taken_apart() {
        let whole = of(&[2, 4, 4, 4, 5, 5, 7, 9]);
        assert_eq!(Moments::from_parts(8, 2, 9, 5.0, 2.0), whole);
        assert_eq!(
            Moments::from_parts(0, 1, 2, 3.0, 4.0).count(),
            Moments::default().count()
        );
    }
}
