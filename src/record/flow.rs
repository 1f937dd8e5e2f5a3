//! Records of each flow.

use super::{Latency, LatencySummary, Moments, Totals};
use crate::time::Instant;

/// One flow's counts and latencies: 184 bytes, and a histogram more where there are few flows.
///
/// A mesh of 1,000 VMs has 999,000 flows; at this size they take 175 MiB.
#[derive(Clone, Debug, Default)]
pub struct FlowRecord {
    totals: Totals,
    rtt: Moments,
    /// One past the highest sequence number that was answered.
    next: u64,
    first: First,
    /// When the last reply was received; [`Instant::ZERO`] before the first.
    last: Instant,
    histogram: Option<Box<Latency>>,
}

/// How far the first ping of a flow has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum First {
    /// It was not sent yet.
    #[default]
    Unsent,
    /// It was sent, and had been due then.
    Due(Instant),
    /// It was answered.
    Answered,
}

impl FlowRecord {
    /// A flow without pings; `histogram` says whether percentiles are kept for it.
    pub(super) fn new(histogram: bool) -> FlowRecord {
        FlowRecord {
            histogram: histogram.then(Box::default),
            ..FlowRecord::default()
        }
    }

    /// The counts.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) fn totals_mut(&mut self) -> &mut Totals {
        &mut self.totals
    }

    /// When the last reply was received, [`Instant::ZERO`] before the first; and one past the highest sequence number that was
    /// answered.
    pub(super) const fn last_answer(&self) -> (Instant, u64) {
        (self.last, self.next)
    }

    /// The latencies, if a histogram was kept.
    pub fn rtt(&self) -> Option<&Latency> {
        self.histogram.as_deref()
    }

    /// The rtt figures: all of them with a histogram, else those that [`Moments`] has.
    pub fn summary(&self) -> LatencySummary {
        match &self.histogram {
            Some(histogram) => histogram.summary(),
            None => LatencySummary::from(&self.rtt),
        }
    }

    /// The mean rtt in whole nanoseconds, without a look at the histogram.
    pub(super) fn mean(&self) -> Option<u64> {
        let moments = match &self.histogram {
            Some(histogram) => histogram.moments(),
            None => &self.rtt,
        };
        moments.mean().map(|mean| mean.round() as u64)
    }

    pub(super) fn drop_histogram(&mut self) {
        if let Some(histogram) = self.histogram.take() {
            self.rtt.merge(histogram.moments());
        }
    }

    pub(super) fn sent(&mut self, due: Instant) {
        self.totals.sent += 1;
        if self.first == First::Unsent {
            self.first = First::Due(due);
        }
    }

    /// Takes in a reply that was received at `received`; tells whether it overtook another, and whether it is the first ping's.
    pub(super) fn answered(
        &mut self,
        sequence: u64,
        due: Instant,
        received: Instant,
        rtt: u64,
    ) -> Answer {
        self.totals.received += 1;
        self.last = received;
        let reordered = sequence < self.next;
        if reordered {
            self.totals.reordered += 1;
        } else {
            self.next = sequence.saturating_add(1);
        }
        self.answered_again(rtt);
        let first = self.first == First::Due(due);
        if first {
            self.first = First::Answered;
        }
        Answer { reordered, first }
    }

    /// Takes in the rtt of a reply; a ping may have several, of which the first answers it.
    #[inline(always)]
    pub(super) fn answered_again(&mut self, rtt: u64) {
        match &mut self.histogram {
            Some(histogram) => histogram.record(rtt),
            None => self.rtt.record(rtt),
        }
    }
}

/// The place of a reply in its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// A ping with a higher sequence number was answered before.
    pub reordered: bool,
    /// The ping was the first of its flow.
    pub first: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_flows_take_a_few_hundred_bytes_each() {
        assert_eq!(size_of::<FlowRecord>(), 184);
    }

    #[test]
    fn losing_the_histogram_loses_only_the_percentiles() {
        let mut flow = FlowRecord::new(true);
        for nanos in [10, 20, 30] {
            flow.answered(nanos, Instant::ZERO, Instant::ZERO, nanos);
        }
        let with = flow.summary();
        flow.drop_histogram();
        flow.answered(40, Instant::ZERO, Instant::ZERO, 40);
        let without = flow.summary();
        assert_eq!(with.p50, Some(20));
        assert_eq!(
            (without.count, without.min, without.max),
            (4, Some(10), Some(40))
        );
        assert_eq!(without.p50, None);
    }
}
