//! A run second by second.

use super::sparse::{SparseLatency, Tally};
use crate::time::Instant;

/// So many intervals are one second long, …
const SECONDS: usize = 600;

/// … and after every so many further ones their length doubles. What is kept of a run grows with the logarithm of its
/// duration therefore: 600 intervals of ten minutes, some 2,800 of a day. Nothing is ever merged, so closing an
/// interval costs the same few microseconds however long the run.
const BEFORE_DOUBLING: usize = 300;

const SECOND: u64 = 1_000_000_000;

/// Counts and histograms of one interval.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Interval {
    /// Its begin in nanoseconds, counted from the first send.
    pub start: u64,
    /// Its length in nanoseconds.
    pub length: u64,
    /// Pings sent in it.
    pub sent: u64,
    /// Pings answered in it.
    pub received: u64,
    /// Pings given up in it: lost, unresolved, or answered corruptly.
    pub failed: u64,
    /// The rtt of the pings answered in it.
    pub rtt: SparseLatency,
    /// The response time of the pings answered in it.
    pub response: SparseLatency,
}

/// The intervals of a run. Those in which nothing happened are left out.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    origin: Option<Instant>,
    /// The end of the current interval; [`Instant::ZERO`] before the first.
    until: Instant,
    closed: Vec<Interval>,
    /// The current one, but for its latencies.
    open: Interval,
    rtt: Tally,
    response: Tally,
}

impl Timeline {
    pub(super) fn new() -> Timeline {
        Timeline {
            origin: None,
            until: Instant::ZERO,
            closed: Vec::with_capacity(SECONDS),
            open: Interval {
                length: SECOND,
                ..Interval::default()
            },
            rtt: Tally::new(),
            response: Tally::new(),
        }
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.at(now).sent += 1;
    }

    pub(super) fn answered(&mut self, rtt: u64, response: u64, now: Instant) {
        self.at(now).received += 1;
        self.rtt.record(rtt);
        self.response.record(response);
    }

    /// A frame of a stream has come that was on its way for so many nanoseconds: only rtt is known, which is that.
    pub(super) fn came(&mut self, one_way: u64, now: Instant) {
        self.at(now).received += 1;
        self.rtt.record(one_way);
    }

    /// Another reply to a ping that was answered has come.
    pub(super) fn answered_again(&mut self, rtt: u64, now: Instant) {
        self.at(now);
        self.rtt.record(rtt);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.at(now).failed += 1;
    }

    /// The intervals that are over in which something happened.
    pub(super) fn closed(&self) -> &[Interval] {
        &self.closed
    }

    /// The current interval, cut off at `end`, if anything happened in it.
    pub(super) fn open(&self, end: Instant) -> Option<Interval> {
        let end = self.origin.map_or(0, |origin| end.nanos_since(origin));
        self.open_is_used().then(|| Interval {
            length: end
                .saturating_sub(self.open.start)
                .clamp(1, self.open.length),
            rtt: self.rtt.snapshot(),
            response: self.response.snapshot(),
            ..self.open.clone()
        })
    }

    /// The last interval that is over by `now`, if that was not longer ago than it took itself.
    pub(super) fn recent(&self, now: Instant) -> Option<Interval> {
        let since = now.nanos_since(self.origin?);
        let end = |interval: &Interval| interval.start.saturating_add(interval.length);
        // Only the next event closes it.
        let last = match since >= end(&self.open) {
            true if self.open_is_used() => Interval {
                rtt: self.rtt.snapshot(),
                response: self.response.snapshot(),
                ..self.open.clone()
            },
            _ => self.closed.last()?.clone(),
        };
        (since < end(&last).saturating_add(last.length)).then_some(last)
    }

    /// The interval that `now` falls into; one that is over is closed first.
    #[inline]
    fn at(&mut self, now: Instant) -> &mut Interval {
        if now >= self.until {
            self.turn(now);
        }
        &mut self.open
    }

    /// Has the current interval be the one that `now` falls into, before which the last one has ended.
    #[cold]
    fn turn(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let since = now.nanos_since(origin);
        if since >= self.open.start.saturating_add(self.open.length) {
            self.close(since);
        }
        let end = self.open.start.saturating_add(self.open.length);
        self.until = Instant::from_nanos(origin.as_nanos().saturating_add(end));
    }

    const fn open_is_used(&self) -> bool {
        self.open.sent > 0 || self.open.received > 0 || self.open.failed > 0 || !self.rtt.is_empty()
    }

    /// Closes the current interval and opens the one that `since` falls into.
    fn close(&mut self, since: u64) {
        let next = self.open.start.saturating_add(self.open.length);
        if self.open_is_used() {
            self.closed.push(Interval {
                rtt: self.rtt.take(),
                response: self.response.take(),
                ..std::mem::take(&mut self.open)
            });
        }
        let doublings = self
            .closed
            .len()
            .saturating_sub(SECONDS)
            .div_ceil(BEFORE_DOUBLING);
        let length = SECOND << doublings.min(30);
        self.open = Interval {
            start: next + (since - next) / length * length,
            length,
            ..Interval::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timeline {
        fn intervals(&self, end: Instant) -> Vec<Interval> {
            self.closed()
                .iter()
                .cloned()
                .chain(self.open(end))
                .collect()
        }
    }

    fn at(nanos: u64) -> Instant {
        // A run begins at any time of the clock.
        Instant::from_nanos(77_000_000_123 + nanos)
    }

    #[test]
    fn each_second_has_its_own_figures() {
        let mut timeline = Timeline::new();
        timeline.sent(at(0));
        timeline.answered(100, 150, at(100));
        timeline.sent(at(999_999_999));
        timeline.answered(200, 250, at(SECOND));
        timeline.failed(at(2 * SECOND + 5));
        let intervals = timeline.intervals(at(2 * SECOND + 5));
        let told: Vec<_> = intervals
            .iter()
            .map(|i| {
                (
                    i.start,
                    i.length,
                    i.sent,
                    i.received,
                    i.failed,
                    i.rtt.count(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                (0, SECOND, 2, 1, 0, 1),
                (SECOND, SECOND, 0, 1, 0, 1),
                (2 * SECOND, 5, 0, 0, 1, 0)
            ]
        );
        assert_eq!(intervals[1].rtt.expand().quantile(0.5), Some(200));
        assert_eq!(intervals[1].response.expand().quantile(0.5), Some(250));
    }

    #[test]
    fn the_recent_interval_is_the_last_one_that_is_over_unless_it_is_long_over() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.recent(at(0)), None);
        for tenth in 0..15 {
            timeline.sent(at(tenth * SECOND / 10));
            timeline.answered(tenth, tenth, at(tenth * SECOND / 10 + 7));
        }
        for (tenth, recent) in [
            (15, Some((0, 10))),
            (19, Some((0, 10))),
            // Nothing has happened since that could have closed it.
            (20, Some((SECOND, 5))),
            (29, Some((SECOND, 5))),
            (30, None),
        ] {
            let found = timeline.recent(at(tenth * SECOND / 10));
            let found = found.map(|interval| (interval.start, interval.rtt.count()));
            assert_eq!(found, recent, "{tenth}");
        }
    }

    #[test]
    fn seconds_in_which_nothing_happened_are_left_out() {
        let mut timeline = Timeline::new();
        for second in [0, 1, 500_000] {
            timeline.sent(at(second * SECOND + 7));
        }
        let intervals = timeline.intervals(at(500_001 * SECOND));
        let starts: Vec<_> = intervals.iter().map(|i| i.start / SECOND).collect();
        assert_eq!(starts, [0, 1, 500_000]);
    }

    #[test]
    fn a_day_is_kept_in_a_few_thousand_intervals_and_no_ping_is_missing() {
        let mut timeline = Timeline::new();
        let day = 86_400;
        (0..day).for_each(|second| timeline.sent(at(second * SECOND)));
        let intervals = timeline.intervals(at(day * SECOND));
        assert!(
            (2_000..3_000).contains(&intervals.len()),
            "{}",
            intervals.len()
        );
        assert_eq!(intervals.iter().map(|i| i.sent).sum::<u64>(), day);
        let touch = intervals
            .windows(2)
            .all(|pair| pair[0].start + pair[0].length == pair[1].start);
        assert!(touch);
        assert!(intervals[..SECONDS].iter().all(|i| i.length == SECOND));
    }

    #[test]
    fn an_event_from_before_counts_in_the_current_interval() {
        let mut timeline = Timeline::new();
        timeline.sent(at(0));
        timeline.sent(at(3 * SECOND));
        timeline.answered(1, 1, at(SECOND));
        assert_eq!(timeline.intervals(at(4 * SECOND))[1].received, 1);
    }
}
