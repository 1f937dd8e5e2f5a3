//! Duration of a schedule: n pings take n intervals, the last one's included, independent of replies.

use std::time::Duration;

use super::Pacing;
use crate::time::Instant;

/// The time span in which the pings of a phase are due.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Span {
    /// Time between two pings of the phase; `None` for a closed loop.
    gap: Option<Duration>,
    /// Time between two pings of a flow; with a rate, the same as `gap`.
    interval: Duration,
    /// Start of the first and of the last flow.
    starts: Option<(Instant, Instant)>,
    /// Due time of the last ping handed out.
    pub(super) last_due: Instant,
}

impl Span {
    pub(super) fn of(pacing: Pacing, flows: usize) -> Span {
        let gap = super::gap(pacing, flows);
        Span {
            gap,
            interval: match pacing {
                Pacing::Interval(interval) => interval,
                Pacing::Rate(_) | Pacing::Window(_) => gap.unwrap_or_default(),
            },
            starts: None,
            last_due: Instant::ZERO,
        }
    }

    /// Records that a flow begins at `at`.
    pub(super) fn starts(&mut self, at: Instant) {
        let (first, last) = self.starts.unwrap_or((at, at));
        self.starts = Some((first.min(at), last.max(at)));
    }

    /// Returns the end of the last ping's interval; `None` for a closed loop or before a flow began. With flows spread
    /// over their interval, the last ping takes the gap between two flows; with flows that begin at once, the whole
    /// interval.
    pub(super) fn end(&self) -> Option<Instant> {
        let (first, last) = self.starts?;
        let together = self.interval.saturating_sub(last - first);
        Some(self.last_due + self.gap?.max(together))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arrivals, Load, Pacing, PhaseLoad, Start};
    use super::*;

    #[test]
    fn n_pings_take_n_intervals_however_flows_begin() {
        let ms = Duration::from_millis;
        let at = |millis| Some(Instant::ZERO + ms(millis));
        let table = [
            (1, Pacing::Interval(ms(10)), 1, Start::Spread, at(10)),
            (1, Pacing::Interval(ms(10)), 50, Start::Spread, at(500)),
            (5, Pacing::Interval(ms(10)), 1, Start::Spread, at(10)),
            (5, Pacing::Interval(ms(10)), 4, Start::Spread, at(40)),
            (5, Pacing::Interval(ms(10)), 4, Start::Within(ms(0)), at(40)),
            (1, Pacing::Rate(1000.0), 7, Start::Spread, at(7)),
            (7, Pacing::Rate(500.0), 3, Start::Spread, at(42)),
            (7, Pacing::Window(2), 3, Start::Spread, None),
        ];
        for (flows, pacing, count, start, end) in table {
            let mut load = Load::new(1);
            (0..flows).for_each(|_| {
                load.add_flow();
            });
            let phase = PhaseLoad {
                flows: (0..flows).into(),
                pacing,
                arrivals: Arrivals::Uniform,
                count: Some(count),
                start,
            };
            load.begin(Instant::ZERO, &phase);
            let later = Instant::ZERO + ms(100_000);
            while let Some(due) = load.next(later) {
                load.finished(later, due.flow);
            }
            assert!(load.is_handed_out());
            assert_eq!(
                load.schedule_end(),
                end,
                "{flows} flows, {pacing:?}, {start:?}"
            );
        }
        // Flows that begin far apart take as long as they do.
        let mut load = Load::new(1);
        load.add_flow();
        load.add_flow();
        let phase = PhaseLoad {
            flows: (0..2).into(),
            pacing: Pacing::Interval(ms(10)),
            arrivals: Arrivals::Uniform,
            count: Some(1),
            start: Start::Within(ms(1_000)),
        };
        load.begin(Instant::ZERO, &phase);
        let last = std::iter::from_fn(|| load.next(Instant::ZERO + ms(2_000))).last();
        let last = last.map(|due| due.due + ms(5));
        assert_eq!(load.schedule_end(), last);
    }
}
