//! Records of each phase of a run.

use super::{Connections, Latency, Metric, Scope, Totals};
use crate::time::Instant;
use crate::vm::ConnectionCounts;

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
    /// When the first of its pings was due, and when the last one was sent or answered.
    active: Option<(Instant, Instant)>,
    /// When the last of its pings ended, however it did.
    ended: Instant,
    schedule: Schedule,
    /// Frames of streams were sent in it.
    has_streams: bool,
    /// TCP connections that pings have opened in it.
    connections: Option<Box<Connections>>,
    /// Time of the schedule and time of waiting of the phases that were merged into this one, in nanoseconds.
    merged: (u64, u64),
}

/// How far the schedule of a phase is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Schedule {
    /// More pings are to come.
    Open,
    /// No ping comes any more. The time of a closed loop, which has no schedule but its replies, ends with its last reply.
    Over { at: Option<Instant> },
}

/// Work of the reactor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Times the reactor woke up.
    pub turns: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// Nanoseconds spent working rather than waiting, while the schedule had pings to come.
    pub busy: u64,
    /// The same after that, when pings on their way were waited for.
    pub busy_after: u64,
    /// Nanoseconds spent asking again and again whether there is work, instead of sleeping.
    pub spin: u64,
}

impl Work {
    pub(crate) fn add(&mut self, other: Work) {
        self.turns += other.turns;
        self.frames_in += other.frames_in;
        self.frames_out += other.frames_out;
        self.busy = self.busy.saturating_add(other.busy);
        self.busy_after = self.busy_after.saturating_add(other.busy_after);
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
            active: None,
            ended: Instant::ZERO,
            schedule: Schedule::Open,
            has_streams: false,
            connections: None,
            merged: (0, 0),
        }
    }

    /// The name given to it; empty for a run that was not divided.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if its pings are part of the run's figures: not those of a warm-up.
    pub const fn counted(&self) -> bool {
        self.counted
    }

    /// Counts of its pings, by how each ended.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The histogram of `metric`; nothing of one that is recorded for the run as a whole.
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

    /// Forgets what was measured of a metric of phases.
    pub(super) fn clear(&mut self, metric: Metric) {
        if let Some(latency) = self.latencies.get_mut(metric.slot()) {
            latency.clear();
        }
    }

    /// Work of the reactor during the phase.
    pub const fn work(&self) -> &Work {
        &self.work
    }

    /// Nanoseconds that its schedule took: n pings take n intervals, whatever became of the last of them. The time of a closed
    /// loop ends with its last reply. 0 if there was neither a schedule nor a ping.
    pub fn elapsed(&self) -> u64 {
        let own = match (self.schedule, self.active) {
            (Schedule::Over { at: Some(at) }, _) => at.nanos_since(self.begin),
            (_, Some((from, to))) => to.nanos_since(from),
            (_, None) => 0,
        };
        self.merged.0.saturating_add(own)
    }

    /// Nanoseconds for which pings on their way were waited for after that.
    pub fn waited(&self) -> u64 {
        let own = match self.schedule_end() {
            Some(end) if self.active.is_some() => self.ended.nanos_since(end),
            _ => 0,
        };
        self.merged.1.saturating_add(own)
    }

    /// When its schedule was over, so far as it is.
    fn schedule_end(&self) -> Option<Instant> {
        match self.schedule {
            Schedule::Over { at: Some(at) } => Some(at),
            _ => self.active.map(|(_, to)| to),
        }
    }

    /// When there was nothing more of it: neither pings to come nor pings on their way.
    pub(super) fn end(&self) -> Instant {
        self.schedule_end().unwrap_or(self.begin).max(self.ended)
    }

    /// A ping that was due at `due` was sent at `sent`.
    pub(super) fn sent(&mut self, due: Instant, sent: Instant) {
        let (from, to) = self.active.unwrap_or((due, sent));
        self.active = Some((from.min(due), to.max(sent)));
    }

    /// A frame of a stream that was due at `due` was sent at `sent`.
    pub(super) fn stream_sent(&mut self, due: Instant, sent: Instant) {
        self.has_streams = true;
        self.sent(due, sent);
    }

    /// Returns true if frames of streams were sent in it.
    pub const fn has_streams(&self) -> bool {
        self.has_streams
    }

    /// A ping was answered.
    pub(super) fn answered(&mut self, received: Instant) {
        if let Some((_, to)) = &mut self.active {
            *to = received.max(*to);
        }
        self.ended(received);
    }

    /// A ping ended.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ended = self.ended.max(now);
    }

    /// No ping comes any more. The schedule took until `at`, if it is one that does not go by replies.
    pub(super) fn end_schedule(&mut self, at: Option<Instant>) {
        if self.schedule == Schedule::Open {
            self.schedule = Schedule::Over { at };
        }
    }

    /// The reactor worked for `nanos` nanoseconds.
    pub(super) fn busy(&mut self, nanos: u64) {
        let busy = match self.schedule {
            Schedule::Open => &mut self.work.busy,
            Schedule::Over { .. } => &mut self.work.busy_after,
        };
        *busy = busy.saturating_add(nanos);
    }

    /// TCP connections that pings have opened in it, and the most that were open at once in it; `None` if there are none.
    pub fn connections(&self) -> Option<&Connections> {
        self.connections.as_deref()
    }

    /// So much has happened to TCP connections, of which so many are open now.
    pub(super) fn connections_changed(&mut self, counts: ConnectionCounts, open: u64) {
        let connections = self.connections.get_or_insert_default();
        connections.counts += counts;
        connections.open = open;
        connections.open_at_once = connections.open_at_once.max(open);
    }

    /// Takes in another phase's figures, as if both had been one.
    pub(super) fn merge(&mut self, other: &Phase) {
        self.totals += other.totals;
        self.has_streams |= other.has_streams;
        if let Some(theirs) = other.connections() {
            let ours = self.connections.get_or_insert_default();
            ours.counts += theirs.counts;
            ours.open_at_once = ours.open_at_once.max(theirs.open_at_once);
        }
        for (ours, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            ours.merge(theirs);
        }
        self.work.add(other.work);
        self.merged.0 = self.merged.0.saturating_add(other.elapsed());
        self.merged.1 = self.merged.1.saturating_add(other.waited());
    }
}
