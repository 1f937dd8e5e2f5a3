//! Histograms of a few buckets with fixed edges, as scrapers of metrics read them.

use super::Latency;
use super::sparse::{bucket_of, high_of, low_of};

/// The upper edges of the buckets, three a decade: in nanoseconds, and in seconds as the label `le` has them. Both formats
/// of metrics have the same values (OpenMetrics wants a point in them), so that a series is the same in both.
pub const EDGES: [(u64, &str); 22] = [
    (1_000, "1e-06"),
    (2_000, "2e-06"),
    (5_000, "5e-06"),
    (10_000, "1e-05"),
    (20_000, "2e-05"),
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (200_000, "0.0002"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_000_000_000, "2.0"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
];

/// A histogram with [`EDGES`], not yet cumulative, in 208 bytes.
///
/// A value is taken for any of those that a [`Latency`] does not tell apart from it, so that histograms of parts add up to
/// the one that is made of the [`Latency`] of the whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buckets {
    /// How many values are within each edge and not within the one before.
    pub counts: [u64; EDGES.len()],
    /// How many values there are.
    pub count: u64,
    /// Made of whole numbers out of the buckets of a [`Latency`], so off by less than one part in two thousand: the mean times
    /// the count is nearer, but rounding could make it shrink, which a scraper takes for a restart.
    pub sum_ns: u128,
}

impl Buckets {
    /// Takes in every value of `latency`.
    pub fn add(&mut self, latency: &Latency) {
        let buckets = latency.iter();
        buckets.for_each(|bucket| self.add_span(bucket.low, bucket.high, bucket.count));
    }

    /// Takes in one value.
    pub fn record(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        self.add_span(low_of(bucket), high_of(bucket), 1);
    }

    /// Takes in every value of `other`.
    pub fn merge(&mut self, other: &Buckets) {
        for (ours, theirs) in self.counts.iter_mut().zip(other.counts) {
            *ours = ours.saturating_add(theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Takes in `count` values from `low` to `high`.
    fn add_span(&mut self, low: u64, high: u64, count: u64) {
        let middle = low + (high - low) / 2;
        self.sum_ns += u128::from(middle) * u128::from(count);
        self.count = self.count.saturating_add(count);
        let edge = EDGES.partition_point(|(edge, _)| *edge < low);
        if let Some(within) = self.counts.get_mut(edge) {
            *within = within.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_one_by_one_make_the_buckets_of_their_latency() {
        let around = |nanos: u64| {
            [
                nanos - nanos / 900,
                nanos - 1,
                nanos,
                nanos + 1,
                nanos + nanos / 900,
            ]
        };
        let edges = EDGES.iter().flat_map(|(edge, _)| around(*edge));
        for nanos in edges.chain((0..42).flat_map(|power| around(1 << power))) {
            let mut latency = Latency::new();
            latency.record(nanos);
            let (mut of_latency, mut of_value) = (Buckets::default(), Buckets::default());
            of_latency.add(&latency);
            of_value.record(nanos);
            assert_eq!(of_value, of_latency, "{nanos}");
        }
    }

    #[test]
    fn merged_parts_are_the_whole() {
        let (mut whole, mut parts) = (Buckets::default(), [Buckets::default(); 2]);
        for nanos in (0..50_000).map(|i| i * i) {
            whole.record(nanos);
            parts[usize::from(nanos % 3 == 0)].record(nanos);
        }
        let [mut one, other] = parts;
        one.merge(&other);
        assert_eq!(one, whole);
    }

    #[test]
    fn the_stated_memory_cost_is_true() {
        assert_eq!(size_of::<Buckets>(), 208);
    }
}
