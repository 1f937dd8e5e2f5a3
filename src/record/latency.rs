//! Latencies: the buckets of an HDR histogram beside exact extremes and moments.

use std::fmt;

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Moments;
use super::sparse::{BUCKETS, bucket_of, high_of, low_of};

/// The longest span a histogram tells apart, in nanoseconds: one hour. Longer ones are counted in its last bucket.
pub const LONGEST: u64 = 3_600_000_000_000;

/// How many decimal digits of a value the buckets keep: a value is off by less than one part in a thousand.
const DIGITS: u8 = 3;

/// A histogram of spans in nanoseconds, from 1 ns to one hour, with three significant digits.
///
/// It takes about 260 KiB, all of it when it is made: recording never allocates and never fails. Beside the buckets
/// it keeps the least and the greatest value, the mean and the standard deviation exactly; percentiles are the upper
/// edge of their bucket, but never beyond the greatest value that occurred.
///
/// The buckets are those of [`Histogram`], and are counted here, because every ping is recorded in several of these: that takes
/// a quarter of the instructions.
#[derive(Clone, PartialEq)]
pub struct Latency {
    counts: Box<[u64]>,
    moments: Moments,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency::new()
    }
}

impl fmt::Debug for Latency {
    /// The exact figures: of the buckets there are 33,000.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latency").field(&self.moments).finish()
    }
}

/// One bucket of a [`Latency`] that holds something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// The least value that falls into it, in nanoseconds.
    pub low: u64,
    /// The greatest value that falls into it, in nanoseconds.
    pub high: u64,
    /// How many values did.
    pub count: u64,
}

impl Latency {
    /// A histogram without values.
    pub fn new() -> Latency {
        Latency {
            counts: vec![0; BUCKETS].into(),
            moments: Moments::default(),
        }
    }

    /// Takes in one span.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.record_bucket(nanos, 1);
        self.moments.record(nanos);
    }

    /// Forgets every value.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.moments = Moments::default();
    }

    /// Takes every value out. What is left has no room for any, and takes no memory.
    pub(crate) fn take(&mut self) -> Latency {
        let nothing = Latency {
            counts: Box::default(),
            moments: Moments::default(),
        };
        std::mem::replace(self, nothing)
    }

    /// Takes in every value of `other`.
    pub fn merge(&mut self, other: &Latency) {
        if other.moments.count() > 0 {
            for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
                *ours = ours.saturating_add(*theirs);
            }
            self.moments.merge(&other.moments);
        }
    }

    /// Puts `count` values into the bucket of `nanos`, for building a histogram from its parts; the exact figures are
    /// for [`set_moments`](Self::set_moments) to give.
    #[inline]
    pub(super) fn record_bucket(&mut self, nanos: u64, count: u64) {
        if let Some(counted) = self.counts.get_mut(usize::from(bucket_of(nanos))) {
            *counted = counted.saturating_add(count);
        }
    }

    pub(super) fn set_moments(&mut self, moments: Moments) {
        self.moments = moments;
    }

    /// The histogram that holds `buckets`, with the exact figures that were saved beside them.
    ///
    /// Nothing is returned if `buckets` has other bounds or digits than [`Latency::new`] gives, or another number of
    /// values than `moments`.
    pub fn from_parts(buckets: Histogram<u64>, moments: Moments) -> Option<Latency> {
        let bounds = (buckets.low(), buckets.high(), buckets.sigfig());
        if bounds != (1, LONGEST, DIGITS) || buckets.len() != moments.count() {
            return None;
        }
        let mut latency = Latency::new();
        for step in buckets.iter_recorded() {
            latency.record_bucket(step.value_iterated_to(), step.count_at_value());
        }
        latency.set_moments(moments);
        Some(latency)
    }

    /// The buckets as `hdrhistogram` has them, for writing them to a file.
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST, DIGITS)
            .expect("one nanosecond to one hour with three digits are bounds a histogram can have");
        for bucket in self.iter() {
            histogram.saturating_record_n(bucket.low, bucket.count);
        }
        histogram
    }

    /// The exact figures beside the buckets.
    pub const fn moments(&self) -> &Moments {
        &self.moments
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.moments.count()
    }

    /// Returns true if there is no value.
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The value in nanoseconds that the share `quantile` (0 to 1) of all values does not exceed; nothing where there
    /// are no values.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        self.quantiles(&[quantile]).pop()
    }

    /// The values that the shares `quantiles`, in ascending order, do not exceed: those that [`quantile`](Latency::quantile)
    /// returns, at the cost of one of them. None where there are no values.
    pub fn quantiles(&self, quantiles: &[f64]) -> Vec<u64> {
        let Some((min, max)) = self.moments.min().zip(self.moments.max()) else {
            return Vec::new();
        };
        let mut buckets = self.iter();
        let (mut seen, mut value) = (0, min);
        let value_at = |quantile: &f64| {
            let rank = (quantile.min(1.0) * self.count() as f64).ceil() as u64;
            while seen < rank
                && let Some(bucket) = buckets.next()
            {
                seen += bucket.count;
                // Past the longest span only the greatest value is known.
                value = bucket.high.clamp(min, max);
            }
            value
        };
        quantiles.iter().map(value_at).collect()
    }

    /// The buckets that hold something, from the least value to the greatest.
    pub fn iter(&self) -> impl Iterator<Item = Bucket> {
        let counts = (0..).zip(&self.counts).filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| Bucket {
            low: low_of(bucket),
            high: high_of(bucket),
            count: *count,
        })
    }

    /// The figures that reports show.
    pub fn summary(&self) -> LatencySummary {
        let mut values = self.quantiles(&[0.5, 0.9, 0.99, 0.999]).into_iter();
        LatencySummary {
            p50: values.next(),
            p90: values.next(),
            p99: values.next(),
            p99_9: values.next(),
            ..LatencySummary::from(&self.moments)
        }
    }
}

/// Summary of a series of latencies, in whole nanoseconds.
///
/// Without values every figure but `count` is absent (`null` in JSON). The percentiles are absent too where no
/// histogram was kept, as for each of very many flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct LatencySummary {
    /// How many values there were.
    pub count: u64,
    /// The least value, exactly.
    pub min: Option<u64>,
    /// The mean.
    pub mean: Option<u64>,
    /// The standard deviation of the values.
    pub stdev: Option<u64>,
    /// Half of the values are at most this.
    pub p50: Option<u64>,
    /// Nine tenths of the values are at most this.
    pub p90: Option<u64>,
    /// 99 % of the values are at most this.
    pub p99: Option<u64>,
    /// 99.9 % of the values are at most this.
    pub p99_9: Option<u64>,
    /// The greatest value, exactly.
    pub max: Option<u64>,
}

impl LatencySummary {
    /// The number of [figures](LatencySummary::figures).
    pub const FIGURES: usize = 8;

    /// The figures but for the count, each with its name, in the order in which documents have them.
    pub const fn figures(&self) -> [(&'static str, Option<u64>); LatencySummary::FIGURES] {
        [
            ("min", self.min),
            ("mean", self.mean),
            ("stdev", self.stdev),
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99_9", self.p99_9),
            ("max", self.max),
        ]
    }
}

impl From<&Moments> for LatencySummary {
    /// The figures that can be had without a histogram.
    fn from(moments: &Moments) -> LatencySummary {
        LatencySummary {
            count: moments.count(),
            min: moments.min(),
            mean: moments.mean().map(|mean| mean.round() as u64),
            stdev: moments.stdev().map(|stdev| stdev.round() as u64),
            max: moments.max(),
            ..LatencySummary::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Latency {
        let mut latency = Latency::new();
        values.into_iter().for_each(|value| latency.record(value));
        latency
    }

    #[test]
    fn a_constant_comes_out_exactly() {
        for nanos in [0, 1, 2047, 123_457, 8_400_001, LONGEST, LONGEST * 5] {
            let summary = of([nanos; 10]).summary();
            assert_eq!(
                summary,
                LatencySummary {
                    count: 10,
                    min: Some(nanos),
                    mean: Some(nanos),
                    stdev: Some(0),
                    p50: Some(nanos),
                    p90: Some(nanos),
                    p99: Some(nanos),
                    p99_9: Some(nanos),
                    max: Some(nanos)
                }
            );
        }
    }

    #[test]
    fn quantiles_are_those_of_the_full_histogram() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in [1, 2, 10, 1_000, 5_000] {
            let values = (0..count).map(|_| random.u64(..LONGEST) >> random.u32(..42));
            let latency = of(values);
            let full = latency.histogram();
            assert_eq!(full.len(), count);
            for share in 0..=1_000 {
                let share = f64::from(share) / 1e3;
                let (min, max) = (latency.moments().min(), latency.moments().max());
                let theirs = full
                    .value_at_quantile(share)
                    .clamp(min.unwrap(), max.unwrap());
                assert_eq!(latency.quantile(share), Some(theirs), "{share} of {count}");
            }
        }
    }

    #[test]
    fn many_quantiles_at_once_are_those_that_are_had_one_by_one() {
        let quantiles: Vec<f64> = (0..=1_000).map(|share| f64::from(share) / 1e3).collect();
        for latency in [
            of([]),
            of([7]),
            of((1..5_000).map(|i| i * i)),
            of([LONGEST * 2]),
        ] {
            let one_by_one = quantiles.iter().filter_map(|each| latency.quantile(*each));
            assert_eq!(
                latency.quantiles(&quantiles),
                one_by_one.collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn percentiles_of_an_even_spread_are_within_a_thousandth() {
        let latency = of((1..=100_000).map(|i| i * 1_000));
        for (quantile, nanos) in [
            (0.5, 50_000_000_u64),
            (0.9, 90_000_000),
            (0.99, 99_000_000),
            (0.999, 99_900_000),
            (1.0, 100_000_000),
        ] {
            let found = latency.quantile(quantile).unwrap();
            assert!(
                found.abs_diff(nanos) <= nanos / 1000,
                "{quantile}: {found} is not {nanos}"
            );
        }
        assert_eq!(latency.quantile(1.0), Some(100_000_000));
    }

    #[test]
    fn without_values_only_the_count_is_given() {
        assert_eq!(Latency::new().summary(), LatencySummary::default());
    }

    #[test]
    fn a_span_past_the_longest_keeps_its_exact_value_as_the_maximum() {
        let latency = of([1_000, u64::MAX]);
        assert_eq!(latency.moments().max(), Some(u64::MAX));
        assert_eq!(latency.iter().map(|bucket| bucket.count).sum::<u64>(), 2);
    }

    #[test]
    fn merged_halves_equal_the_whole() {
        let mut merged = of(0..500);
        merged.merge(&of(500..1000));
        merged.merge(&Latency::new());
        assert_eq!(merged.summary(), of(0..1000).summary());
    }

    #[test]
    fn the_stated_memory_cost_is_true() {
        let bytes = size_of_val(&*Latency::new().counts);
        assert!((250 << 10..270 << 10).contains(&bytes), "{bytes}");
    }

    #[test]
    fn every_value_lies_in_the_bucket_that_is_told() {
        let latency = of([3, 5_000, 5_001, 77_777_777]);
        let buckets: Vec<_> = latency.iter().collect();
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 4);
        for value in [3, 5_000, 77_777_777] {
            assert!(
                buckets
                    .iter()
                    .any(|bucket| (bucket.low..=bucket.high).contains(&value))
            );
        }
    }
}
