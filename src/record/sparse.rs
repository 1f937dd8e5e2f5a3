//! Histograms of which only the buckets that hold something are kept.

use rustc_hash::FxHashMap;

use super::{LONGEST, Latency, Moments};

/// Bits of a value that its bucket keeps: eleven give three decimal digits, as in [`Latency`].
const KEPT_BITS: u32 = 11;

/// How many buckets there are up to [`LONGEST`].
pub(super) const BUCKETS: usize = 33 * 1024;

/// The bucket of `nanos`: the same division that an HDR histogram of three digits has, in sixteen bits.
pub(super) fn bucket_of(nanos: u64) -> u16 {
    let nanos = nanos.min(LONGEST);
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(KEPT_BITS);
    // Below 2^11 every value has a bucket; above, the top bit is implied and each doubling has 2^10 buckets.
    (u64::from(shift << (KEPT_BITS - 1)) + (nanos >> shift)) as u16
}

/// The least value in bucket `bucket`, in nanoseconds.
pub(super) fn low_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    let shift = (bucket >> (KEPT_BITS - 1)).saturating_sub(1);
    (bucket - (shift << (KEPT_BITS - 1))) << shift
}

/// The greatest value in bucket `bucket`, in nanoseconds.
pub(super) fn high_of(bucket: u16) -> u64 {
    low_of(bucket.saturating_add(1)).saturating_sub(1)
}

/// A finished histogram of one interval: six bytes for each bucket that holds something.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct SparseLatency {
    /// The exact extremes; mean and standard deviation as the buckets give them.
    moments: Moments,
    buckets: Box<[u16]>,
    counts: Box<[u32]>,
}

impl SparseLatency {
    /// The buckets that hold something, with their counts; in no order.
    fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        let lows = self.buckets.iter().map(|bucket| low_of(*bucket));
        lows.zip(self.counts.iter().copied())
    }

    /// How many values there are.
    pub const fn count(&self) -> u64 {
        self.moments.count()
    }

    /// The same values as a full histogram.
    pub fn expand(&self) -> Latency {
        let mut latency = Latency::new();
        for (low, count) in self.iter() {
            latency.record_bucket(low, u64::from(count));
        }
        latency.set_moments(self.moments);
        latency
    }
}

impl From<&Latency> for SparseLatency {
    fn from(latency: &Latency) -> SparseLatency {
        let filled = latency.iter();
        let (buckets, counts): (Vec<u16>, Vec<u32>) = filled
            .map(|bucket| {
                let count = u32::try_from(bucket.count).unwrap_or(u32::MAX);
                (bucket_of(bucket.low), count)
            })
            .unzip();
        SparseLatency {
            moments: *latency.moments(),
            buckets: buckets.into(),
            counts: counts.into(),
        }
    }
}

/// A histogram that takes memory for the buckets that hold something, to be filled where there are many: a value costs a
/// look-up more than one of a [`Latency`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct LeanLatency {
    moments: Moments,
    counts: FxHashMap<u16, u64>,
}

impl LeanLatency {
    /// Takes in one span.
    pub fn record(&mut self, nanos: u64) {
        self.moments.record(nanos);
        self.add(bucket_of(nanos), 1);
    }

    /// Takes in every value of `other`.
    pub fn merge(&mut self, other: &LeanLatency) {
        self.moments.merge(&other.moments);
        for (bucket, count) in &other.counts {
            self.add(*bucket, *count);
        }
    }

    fn add(&mut self, bucket: u16, values: u64) {
        let count = self.counts.entry(bucket).or_default();
        *count = count.saturating_add(values);
    }
}

impl From<&LeanLatency> for Latency {
    fn from(lean: &LeanLatency) -> Latency {
        let mut latency = Latency::new();
        for (bucket, count) in &lean.counts {
            latency.record_bucket(low_of(*bucket), *count);
        }
        latency.set_moments(lean.moments);
        latency
    }
}

impl From<&Latency> for LeanLatency {
    fn from(latency: &Latency) -> LeanLatency {
        let filled = latency.iter();
        LeanLatency {
            moments: *latency.moments(),
            counts: filled
                .map(|bucket| (bucket_of(bucket.low), bucket.count))
                .collect(),
        }
    }
}

/// A histogram that is filled, taken out, and filled again: 200 KiB, all of it when it is made.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    counts: Vec<u32>,
    /// The buckets that hold something, so that taking them out costs no walk over all of them.
    filled: Vec<u16>,
    min: u64,
    max: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            counts: vec![0; BUCKETS],
            filled: Vec::with_capacity(BUCKETS),
            min: u64::MAX,
            max: 0,
        }
    }

    /// Takes in one span.
    pub(super) fn record(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        let count = &mut self.counts[usize::from(bucket)];
        if *count == 0 {
            self.filled.push(bucket);
        }
        *count = count.saturating_add(1);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
    }

    /// Tells if no value was recorded so far.
    pub(super) const fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// The values recorded so far.
    pub(super) fn snapshot(&self) -> SparseLatency {
        let buckets: Box<[u16]> = self.filled.as_slice().into();
        let count_of = |bucket: &u16| self.counts[usize::from(*bucket)];
        let mut sparse = SparseLatency {
            moments: Moments::default(),
            counts: buckets.iter().map(count_of).collect(),
            buckets,
        };
        sparse.moments = self.moments(&sparse);
        sparse
    }

    /// Takes out what was recorded: the tally is empty then.
    pub(super) fn take(&mut self) -> SparseLatency {
        let sparse = self.snapshot();
        for bucket in self.filled.drain(..) {
            self.counts[usize::from(bucket)] = 0;
        }
        (self.min, self.max) = (u64::MAX, 0);
        sparse
    }

    /// Mean and deviation from the middles of the buckets: off by less than one part in two thousand.
    fn moments(&self, sparse: &SparseLatency) -> Moments {
        let middle = |bucket: u16, low: u64| {
            (low as f64 + (high_of(bucket) - low) as f64 / 2.0)
                .clamp(self.min as f64, self.max as f64)
        };
        let values = || {
            let middles = sparse
                .buckets
                .iter()
                .map(|&bucket| middle(bucket, low_of(bucket)));
            middles.zip(sparse.counts.iter().copied())
        };
        let count: u64 = values().map(|(_, count)| u64::from(count)).sum();
        let of_all = |sum: f64| sum / count.max(1) as f64;
        let mean = of_all(
            values()
                .map(|(value, count)| value * f64::from(count))
                .sum(),
        );
        let apart = |value: f64| (value - mean) * (value - mean);
        let variance = of_all(values().map(|(v, count)| apart(v) * f64::from(count)).sum());
        Moments::from_parts(count, self.min, self.max, mean, variance.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> impl Iterator<Item = u64> {
        let around = |power: u32| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1];
        (0..42)
            .flat_map(around)
            .chain([0, 1_234_567, LONGEST - 1, LONGEST])
    }

    #[test]
    fn buckets_are_those_of_the_full_histogram() {
        let full = Latency::new().histogram();
        assert_eq!(full.distinct_values(), BUCKETS);
        for value in values().filter(|value| *value <= LONGEST) {
            let bucket = bucket_of(value);
            assert_eq!(low_of(bucket), full.lowest_equivalent(value), "{value}");
            assert_eq!(high_of(bucket), full.highest_equivalent(value), "{value}");
            assert_eq!(bucket_of(low_of(bucket)), bucket, "{value}");
            assert!(usize::from(bucket) < BUCKETS, "{value}");
        }
        assert!(usize::from(bucket_of(u64::MAX)) < BUCKETS);
    }

    #[test]
    fn what_is_taken_out_is_what_a_full_histogram_would_hold() {
        let (mut tally, mut full) = (Tally::new(), Latency::new());
        for value in values().chain(values()) {
            tally.record(value);
            full.record(value);
        }
        let expanded = tally.take().expand();
        assert_eq!(expanded.histogram(), full.histogram());
        assert_eq!(expanded.quantile(0.5), full.quantile(0.5));
        let (mean, exact) = (
            expanded.moments().mean().unwrap(),
            full.moments().mean().unwrap(),
        );
        assert!(
            (mean - exact).abs() <= exact / 2_000.0,
            "{mean} is not {exact}"
        );
        let (stdev, exact) = (
            expanded.moments().stdev().unwrap(),
            full.moments().stdev().unwrap(),
        );
        assert!(
            (stdev - exact).abs() <= exact / 1_000.0,
            "{stdev} is not {exact}"
        );
        assert_eq!(tally.take(), SparseLatency::default());
    }

    #[test]
    fn a_constant_comes_out_exactly() {
        let mut tally = Tally::new();
        (0..10).for_each(|_| tally.record(200_000));
        let summary = tally.take().expand().summary();
        assert_eq!(
            (summary.count, summary.min, summary.stdev),
            (10, Some(200_000), Some(0))
        );
        assert_eq!((summary.mean, summary.p99), (Some(200_000), Some(200_000)));
    }

    #[test]
    fn sparse_and_full_are_inverse() {
        let mut full = Latency::new();
        values().for_each(|value| full.record(value));
        assert_eq!(SparseLatency::from(&full).expand(), full);
    }

    #[test]
    fn a_lean_histogram_holds_what_a_full_one_does_filled_or_merged() {
        let (mut full, mut filled) = (Latency::new(), LeanLatency::default());
        for value in values() {
            full.record(value);
            filled.record(value);
        }
        assert_eq!(Latency::from(&filled), full);
        assert_eq!(Latency::from(&LeanLatency::from(&full)), full);
        filled.merge(&filled.clone());
        full.merge(&full.clone());
        assert_eq!(Latency::from(&filled), full);
    }
}
