//! Count, extremes, mean and standard deviation of a series, in 48 bytes.

/// The exact count, least and greatest value, and the mean and spread of a series of nanoseconds.
///
/// What is kept are whole numbers, the sum of the values and that of their squares: nothing is rounded before the figures are
/// asked for, in whatever order values and series are taken in. Together the values last 584 years at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moments {
    count: u64,
    min: u64,
    max: u64,
    sum: u64,
    /// The sum of the squares, its lower and its upper half: a whole number of 128 bits would lie at multiples of 16 bytes.
    squares: [u64; 2],
}

impl Default for Moments {
    fn default() -> Moments {
        Moments {
            count: 0,
            min: u64::MAX,
            max: 0,
            sum: 0,
            squares: [0; 2],
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
        let mut moments = Moments {
            count,
            min,
            max,
            sum: (finite(mean) * count as f64).round() as u64,
            squares: [0; 2],
        };
        let (whole, rest) = moments.mean_and_rest();
        let deviations = finite(stdev * stdev) * count as f64 + moments.left_by(rest);
        let squares = moments.squares_around(whole, rest);
        moments.set_squares(squares.saturating_add(deviations.round() as u128));
        moments
    }

    /// Takes in one value.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.count += 1;
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
        self.sum = self.sum.saturating_add(nanos);
        let square = u128::from(nanos) * u128::from(nanos);
        self.set_squares(self.squares().saturating_add(square));
    }

    /// Takes in every value of `other`.
    pub fn merge(&mut self, other: &Moments) {
        self.count = self.count.saturating_add(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
        self.set_squares(self.squares().saturating_add(other.squares()));
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
        (self.count > 0).then(|| {
            let (whole, rest) = self.mean_and_rest();
            whole as f64 + rest as f64 / self.count as f64
        })
    }

    /// The standard deviation of these values (not an estimate for others) in nanoseconds, if there was any value.
    pub fn stdev(&self) -> Option<f64> {
        (self.count > 0).then(|| {
            let (whole, rest) = self.mean_and_rest();
            // From the whole number below the mean, which no digit is lost by, and then from the mean.
            let deviations = self
                .squares()
                .saturating_sub(self.squares_around(whole, rest));
            let deviations = deviations as f64 - self.left_by(rest);
            (deviations.max(0.0) / self.count as f64).sqrt()
        })
    }

    /// The mean, rounded down, and what that leaves of the sum.
    const fn mean_and_rest(&self) -> (u64, u64) {
        (self.sum / self.count, self.sum % self.count)
    }

    /// By how much the squares of all deviations from the mean rounded down, which leaves `rest`, exceed those from the mean.
    fn left_by(&self, rest: u64) -> f64 {
        rest as f64 * (rest as f64 / self.count as f64)
    }

    /// The sum of the squares less that of all deviations from `mean`, which is the mean rounded down and leaves `rest`.
    fn squares_around(&self, mean: u64, rest: u64) -> u128 {
        u128::from(mean).saturating_mul(u128::from(self.sum) + u128::from(rest))
    }

    #[inline]
    const fn squares(&self) -> u128 {
        let [low, high] = self.squares;
        (high as u128) << 64 | low as u128
    }

    #[inline]
    const fn set_squares(&mut self, squares: u128) {
        self.squares = [squares as u64, (squares >> 64) as u64];
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
            (
                &[3_600_000_000_001; 3],
                3_600_000_000_001,
                3_600_000_000_001,
                3_600_000_000_001.0,
                0.0,
            ),
            (
                &[3_600_000_000_000, 3_600_000_000_001],
                3_600_000_000_000,
                3_600_000_000_001,
                3_600_000_000_000.5,
                0.5,
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
