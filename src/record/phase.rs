//! What is kept of each phase of a run.

use super::{Latency, Metric, Scope, Totals};
use crate::time::Instant;

/// One part of a run: a warm-up, a step of a ramp, a phase of a scenario, or the whole of a simple run.
///
/// A ping belongs to the phase in which it was due, whenever its reply comes. A phase takes about 1 MiB: four
/// histograms.
#[derive(Clone, Debug)]
pub struct Phase {
    pub(super) name: String,
    pub(super) counted: bool,
    pub(super) begin: Instant,
    pub(super) totals: Totals,
    /// By [`Metric::slot`].
    latencies: [Latency; Metric::OF_A_PHASE],
    pub(super) work: Work,
    /// The first send and the last end of a ping.
    pub(super) span: Option<(Instant, Instant)>,
}

/// What the reactor did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Times the reactor woke up.
    pub turns: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// Nanoseconds spent working rather than waiting.
    pub busy: u64,
    /// Nanoseconds spent asking again and again whether there is work, instead of sleeping.
    pub spin: u64,
}

impl Work {
    pub(super) fn add(&mut self, other: Work) {
        self.turns += other.turns;
        self.frames_in += other.frames_in;
        self.frames_out += other.frames_out;
        self.busy = self.busy.saturating_add(other.busy);
        self.spin = self.spin.saturating_add(other.spin);
    }
}

impl Phase {
    pub(super) fn new() -> Phase {
        Phase {
            name: String::new(),
            counted: true,
            begin: Instant::ZERO,
            totals: Totals::default(),
            latencies: std::array::from_fn(|_| Latency::new()),
            work: Work::default(),
            span: None,
        }
    }

    /// The name given to it; empty for a run that was not divided.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its pings are part of the run's figures: not those of a warm-up.
    pub const fn counted(&self) -> bool {
        self.counted
    }

    /// What became of its pings.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What was measured of `metric`; nothing of one that is kept for the run as a whole.
    pub fn latency(&self, metric: Metric) -> Option<&Latency> {
        let of_phases = metric.scope() != Scope::Run;
        self.latencies.get(metric.slot()).filter(|_| of_phases)
    }

    /// received − sent.
    pub const fn rtt(&self) -> &Latency {
        &self.latencies[Metric::Rtt.slot()]
    }

    /// received − due.
    pub const fn response(&self) -> &Latency {
        &self.latencies[Metric::Response.slot()]
    }

    /// sent − due.
    pub const fn lateness(&self) -> &Latency {
        &self.latencies[Metric::Lateness.slot()]
    }

    /// How long frames waited for the tool itself.
    pub const fn lag(&self) -> &Latency {
        &self.latencies[Metric::Lag.slot()]
    }

    /// Takes in one value of a metric of phases.
    #[inline]
    pub(super) fn record(&mut self, metric: Metric, nanos: u64) {
        if let Some(latency) = self.latencies.get_mut(metric.slot()) {
            latency.record(nanos);
        }
    }

    /// What the reactor did meanwhile.
    pub const fn work(&self) -> &Work {
        &self.work
    }

    /// Nanoseconds from the first send to the last reply, or to the last ping given up; 0 if nothing was sent.
    pub fn elapsed(&self) -> u64 {
        self.span.map_or(0, |(from, to)| to.nanos_since(from))
    }

    /// Makes the span reach to `now`.
    pub(super) fn reach(&mut self, now: Instant) {
        let (from, to) = self.span.unwrap_or((now, now));
        self.span = Some((from, to.max(now)));
    }

    /// Takes in another phase's figures, as if both had been one.
    pub(super) fn merge(&mut self, other: &Phase) {
        self.totals += other.totals;
        for (ours, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            ours.merge(theirs);
        }
        self.work.add(other.work);
        self.span = match (self.span, other.span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }
}
