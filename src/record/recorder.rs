//! The recorder: takes in what happened, one event at a time.

mod details;
mod moves;
mod read;
mod streams;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::by_group::ByGroup;
use super::by_path::FlowPaths;
use super::flow::FlowRecord;
use super::phase::{Phase, Work};
use super::timeline::Timeline;
use super::{
    Addresses, Attribution, Cause, Connections, DropReason, Drops, ErrorCounts, Latency, Links,
    LossMethod, Losses, Marks, Metric, Moves, NeighbourSearch, Pause, Pauses, Responses, Streams,
    Totals,
};
use crate::fabric::LinkEvent;
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{ConnectionCounts, PingError, VmId};
use crate::wire::MacAddr;

/// Bounds of a recorder's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// As long as there are at most this many flows, each has a histogram of its own.
    ///
    /// A histogram takes 260 KiB, so the default of 32 costs at most 8 MiB. More flows than that are more than a person
    /// looks at one by one; each of them keeps counts, least and greatest value, mean and standard deviation.
    pub flow_histograms: usize,
    /// How many phases the run will have; their memory is made ready beforehand, so that beginning one does not
    /// disturb the measurement. More of them are allowed.
    pub phases: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            flow_histograms: 32,
            phases: 1,
        }
    }
}

/// A member of a multicast group that a flow pings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Member {
    /// A VM of the run.
    Vm(VmId),
    /// None of the run's VMs, with its address.
    Other(IpAddr),
}

/// Counts of one member of a multicast group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemberCounts {
    /// Pings that it has answered in time, each once.
    pub answered: u64,
    /// Pings that it was expected to answer and has not answered in time.
    pub lost: u64,
}

/// Takes in what happened to every ping and every frame of a run.
///
/// Once every flow has been added, an event costs an update of a few counters and buckets. Only the closing of an
/// interval allocates, once a second: what it keeps of it.
#[derive(Clone, Debug)]
pub struct Recorder {
    limits: Limits,
    flows: Vec<FlowRecord>,
    /// Never empty; the last one is the current one.
    phases: Vec<Phase>,
    spare: Vec<Phase>,
    /// True if the first phase has begun, with a name.
    is_begun: bool,
    /// Histograms of the run as a whole, by [`Metric::slot`].
    latencies: [Latency; Metric::OF_A_RUN],
    flow_paths: FlowPaths,
    timeline: Timeline,
    drops: Drops,
    errors: ErrorCounts,
    losses: Losses,
    /// Replies of the members of multicast groups.
    members: BTreeMap<(FlowId, Member), MemberCounts>,
    addresses: Addresses,
    /// `None` until the first is opened, or its SYN is repeated.
    connections: Option<Connections>,
    neighbours: Option<NeighbourSearch>,
    /// Work of the reactor before the first phase.
    setup: Work,
    pauses: Pauses,
    /// The last pause, from when to when.
    pause: (Instant, Instant),
    links: Links,
    details: Option<Box<Details>>,
    /// `None` of a run without streams.
    streams: Option<Box<Streams>>,
}

/// What few runs ask for: it is told of each ping beside the rest, and one look at a batch of them tells that there is none.
#[derive(Clone, Default, Debug)]
struct Details {
    /// `None` until the first mark is set.
    marks: Option<Marks>,
    by_group: Option<ByGroup>,
    /// `None` until a VM misbehaves, or is expected to.
    responses: Option<Responses>,
    /// `None` until the first VM is moved.
    moves: Option<Moves>,
}

impl Recorder {
    /// A recorder without flows, in a first phase without a name.
    pub fn new(limits: Limits) -> Recorder {
        Recorder {
            limits,
            flows: Vec::new(),
            phases: vec![Phase::new()],
            spare: (1..limits.phases).map(|_| Phase::new()).collect(),
            is_begun: false,
            latencies: std::array::from_fn(|_| Latency::new()),
            flow_paths: FlowPaths::default(),
            timeline: Timeline::new(),
            drops: Drops::default(),
            errors: ErrorCounts::new(),
            losses: Losses::default(),
            members: BTreeMap::new(),
            addresses: Addresses::default(),
            connections: None,
            neighbours: None,
            setup: Work::default(),
            pauses: Pauses::default(),
            pause: (Instant::ZERO, Instant::ZERO),
            links: Links::default(),
            details: None,
            streams: None,
        }
    }

    /// Makes room for one flow more: the n-th call, from 0, makes room for `FlowId(n)`.
    pub fn add_flow(&mut self) {
        let few = self.flows.len() < self.limits.flow_histograms;
        if self.flows.len() == self.limits.flow_histograms {
            self.flows.iter_mut().for_each(FlowRecord::drop_histogram);
        }
        let id = FlowId(self.flows.len() as u32);
        self.flows.push(FlowRecord::new(few));
        self.began(id);
    }

    /// The first phase is about to begin. What the reactor did until now belongs to the set-up and says nothing of what is
    /// measured.
    pub fn end_setup(&mut self) {
        let first = self.current();
        first.clear(Metric::Lag);
        self.setup = std::mem::take(&mut first.work);
        self.pauses = Pauses::default();
    }

    /// Begins a phase: pings due from now on belong to it.
    pub fn begin_phase(&mut self, name: &str, now: Instant) {
        self.begin(name, true, now);
    }

    /// Begins a phase whose pings are sent but not counted: they stand in their own phase and nowhere else.
    pub fn begin_uncounted(&mut self, name: &str, now: Instant) {
        self.begin(name, false, now);
    }

    fn begin(&mut self, name: &str, counted: bool, now: Instant) {
        // What was recorded before the first phase began is part of it.
        if std::mem::replace(&mut self.is_begun, true) {
            let phase = self.spare.pop().unwrap_or_else(Phase::new);
            self.phases.push(phase);
        }
        let current = self.current();
        current.name = name.to_owned();
        current.counted = counted;
        current.begin = now;
    }

    /// An echo request was written at `sent`; the schedule had wanted it at `due`. Since `ready` nothing but the tool delayed
    /// it: `due`, and the time on top that it had to wait for its neighbour.
    pub fn echo_sent(&mut self, flow: FlowId, due: Instant, ready: Instant, sent: Instant) {
        let phase = self.phase_at(due);
        phase.totals.sent += 1;
        phase.record(Metric::Lateness, sent.nanos_since(ready));
        phase.sent(due, sent);
        if !phase.counted {
            return;
        }
        self.timeline.sent(sent);
        if let Some(flow) = self.flows.get_mut(flow.index()) {
            flow.sent(due);
        }
    }

    /// The reply to a ping came in time, with the payload that was sent.
    ///
    /// `sequence` counts the pings of the flow and does not wrap, from whichever number: a reply whose number is lower
    /// than one answered before counts as reordered.
    pub fn answered(
        &mut self,
        flow: FlowId,
        sequence: u64,
        due: Instant,
        sent: Instant,
        received: Instant,
    ) {
        let response = received.nanos_since(due);
        let rtt = received.nanos_since(sent);
        let phase = self.phase_at(due);
        phase.totals.received += 1;
        phase.record(Metric::Rtt, rtt);
        phase.record(Metric::Response, response);
        phase.answered(received);
        if !phase.counted {
            return;
        }
        if sent < self.pause.1 && received > self.pause.0 {
            self.record(Metric::Paused, rtt);
        }
        self.timeline.answered(rtt, response, received);
        if let Some(metric) = self.flow_paths.metric_of(flow) {
            self.record(metric, rtt);
        }
        if let Some(record) = self.flows.get_mut(flow.index()) {
            let answer = record.answered(sequence, due, received, rtt);
            if answer.first {
                self.record(Metric::First, rtt);
            }
            if answer.reordered {
                self.reordered(flow, due);
            }
        }
    }

    /// A ping due at `due` took these nanoseconds to the VM that it was for, and its reply the others from there.
    pub fn one_way(&mut self, due: Instant, (forward, backward): (u64, u64)) {
        if self.phase_at(due).counted {
            self.record(Metric::Forward, forward);
            self.record(Metric::Backward, backward);
        }
    }

    /// The reply to a ping due at `due` came after that to a later one.
    #[cold]
    fn reordered(&mut self, flow: FlowId, due: Instant) {
        let count = |totals: &mut Totals| totals.reordered += 1;
        let phase = self.phase_index_at(due);
        count(&mut self.phases[phase].totals);
        if let Some(by_group) = self.by_group_mut() {
            by_group.count(phase, flow, count);
        }
    }

    /// A member of the multicast group that `flow` pings has replied to a ping due at `due`, as the first or a further one.
    pub fn member_answered(&mut self, flow: FlowId, member: Member, due: Instant) {
        if self.phase_at(due).counted {
            self.members.entry((flow, member)).or_default().answered += 1;
        }
    }

    /// The reply of `vm`, a member of the multicast group that `flow` pings, to a ping due at `due` did not come in time.
    pub fn member_lost(&mut self, flow: FlowId, vm: VmId, due: Instant) {
        if self.phase_at(due).counted {
            let counts = self.members.entry((flow, Member::Vm(vm))).or_default();
            counts.lost += 1;
        }
        self.count(flow, due, |totals| totals.member_lost += 1);
    }

    /// A further member of a multicast group has replied to a ping that another has answered. Its rtt counts like the
    /// first one's; the ping is received once.
    pub fn answered_again(&mut self, flow: FlowId, due: Instant, sent: Instant, received: Instant) {
        let rtt = received.nanos_since(sent);
        let index = self.phase_index_at(due);
        if let Some(by_group) = self.by_group_mut() {
            by_group.record(index, flow, Metric::Rtt, rtt);
        }
        let phase = self.phase_at(due);
        phase.record(Metric::Rtt, rtt);
        phase.answered(received);
        if !phase.counted {
            return;
        }
        self.timeline.answered_again(rtt, received);
        if let Some(flow) = self.flows.get_mut(flow.index()) {
            flow.answered_again(rtt);
        }
    }

    /// The ping `sequence` of `flow`, due at `due`, was given up at `now`: no answer came within the timeout.
    pub fn lost(&mut self, flow: FlowId, sequence: u64, due: Instant, now: Instant) {
        self.pauses.lost += u64::from(due < self.pause.1 && now > self.pause.0);
        let failed = Attribution::UNKNOWN;
        self.ended(flow, (sequence, due), now, failed, |totals| {
            totals.lost += 1;
        });
    }

    /// The ping `sequence` of `flow`, due at `due`, is lost: its answer came after the timeout, at `now`, before it was given up.
    pub fn lost_late(&mut self, flow: FlowId, sequence: u64, due: Instant, now: Instant) {
        self.lost(flow, sequence, due, now);
        self.attribute(flow, due, Attribution::UNKNOWN, Attribution::LATE);
    }

    /// The ping `sequence` of `flow`, due at `due`, was on its way when its VM or its flow left.
    pub fn abandoned(&mut self, flow: FlowId, sequence: u64, due: Instant) {
        if let Some(marks) = self.marks_of(flow) {
            marks.abandoned(flow, sequence);
        }
        self.count(flow, due, |totals| totals.abandoned += 1);
    }

    /// The ping `sequence` of `flow`, due at `due`, was given up at `now` before it was sent: the neighbour's address was not
    /// found.
    pub fn unresolved(&mut self, flow: FlowId, sequence: u64, due: Instant, now: Instant) {
        let failed = Attribution::UNRESOLVED;
        self.ended(flow, (sequence, due), now, failed, |totals| {
            totals.unresolved += 1;
        });
    }

    /// The reply to the ping `sequence` of `flow`, due at `due`, came at `now` with another payload than was sent.
    pub fn corrupt(&mut self, flow: FlowId, sequence: u64, due: Instant, now: Instant) {
        let failed = Attribution::CORRUPT;
        self.ended(flow, (sequence, due), now, failed, |totals| {
            totals.corrupt += 1;
        });
    }

    /// The ping `sequence` of `flow`, due at `due`, was given up at `now`, because somebody reported `error` about it.
    pub fn errored(
        &mut self,
        flow: FlowId,
        sequence: u64,
        due: Instant,
        error: PingError,
        now: Instant,
    ) {
        *self.errors.entry(error).or_default() += 1;
        let failed = Attribution::reported(error);
        self.ended(flow, (sequence, due), now, failed, |totals| {
            totals.errored += 1;
        });
    }

    /// A ping was refused `elapsed` nanoseconds after it was sent. Refusals belong to the run as a whole, a warm-up included.
    pub fn refused(&mut self, elapsed: u64) {
        self.record(Metric::Refused, elapsed);
    }

    /// A further reply came at `now` to a ping that was answered already. Counts for the phase that `now` is in.
    pub fn duplicate(&mut self, flow: FlowId, now: Instant) {
        self.count(flow, now, |totals| totals.duplicate += 1);
    }

    /// A reply came at `now` to a ping that was given up already. Counts for the phase that `now` is in.
    pub fn late(&mut self, flow: FlowId, now: Instant) {
        self.late_after_move(flow);
        self.count(flow, now, |totals| totals.late += 1);
    }

    /// No ping of the present phase comes any more; those on their way are waited for. Its schedule took until `at`: `None` for
    /// a closed loop, which goes by its replies.
    pub fn end_schedule(&mut self, at: Option<Instant>) {
        self.current().end_schedule(at);
    }

    /// So many pings of the present phase were due and will not be sent: its time is up.
    pub fn unsent(&mut self, pings: u64) {
        let phase = self.current();
        phase.totals.unsent = phase.totals.unsent.saturating_add(pings);
        if phase.counted {
            self.losses.add(None, pings, Attribution::UNSENT);
        }
    }

    /// The ping of `flow` that was due at `due`, which failed, is put down to `to`; so far it was put down to `from`.
    pub fn attribute(&mut self, flow: FlowId, due: Instant, from: Attribution, to: Attribution) {
        self.attribute_after_move(flow, due, from.cause, to.cause);
        if self.is_counted(due) {
            if let Some(responses) = self.responses_mut() {
                responses.attribute(flow, due, from.cause, to.cause);
            }
            self.attribute_counted(flow, 1, from, to);
        }
    }

    /// All lost pings of `flow` of which nothing was known are put down to `to` where moves cost them, and while VMs misbehaved.
    pub fn attribute_rest(&mut self, flow: FlowId, to: Cause) {
        let Some(details) = &mut self.details else {
            return;
        };
        if let Some(moves) = &mut details.moves {
            moves.attribute_all(flow, Cause::Unknown, to);
        }
        if let Some(responses) = &mut details.responses {
            responses.attribute_rest(flow, to);
        }
    }

    /// So many pings of `flow` that failed, of phases that count, are put down to `to`; so far they were put down to `from`.
    pub fn attribute_counted(
        &mut self,
        flow: FlowId,
        pings: u64,
        from: Attribution,
        to: Attribution,
    ) {
        self.losses.transfer(flow, pings, from, to);
    }

    /// Returns true if a ping due at `due` counts: its phase is no warm-up.
    pub fn is_counted(&self, due: Instant) -> bool {
        let phase = self.phases.get(self.phase_index_at(due));
        phase.is_some_and(|phase| phase.counted)
    }

    /// Tells how it is found out where pings are lost, and why not better.
    pub fn set_loss_method(&mut self, method: LossMethod, why: String) {
        self.losses.set_method(method, why);
    }

    /// The kernel dropped so many frames of which it told nothing more.
    pub fn drops_missed(&mut self, frames: u64) {
        self.losses.miss(frames);
    }

    /// A neighbour's hardware address was found over IPv4, `elapsed` nanoseconds after it was first asked for.
    ///
    /// Resolutions belong to the run as a whole, a warm-up included.
    pub fn resolved(&mut self, elapsed: u64) {
        self.record(Metric::Resolution, elapsed);
    }

    /// The same over IPv6.
    pub fn resolved6(&mut self, elapsed: u64) {
        self.record(Metric::Resolution6, elapsed);
    }

    /// A DHCP server granted an address `elapsed` nanoseconds after the VM had begun to look for one.
    ///
    /// Addresses belong to the run as a whole, a warm-up included.
    pub fn leased(&mut self, elapsed: u64) {
        self.record(Metric::Lease, elapsed);
        self.addresses.leased += 1;
    }

    /// So much has happened to the TCP connections of a VM by `now`.
    pub fn connections_changed(&mut self, now: Instant, counts: ConnectionCounts) {
        let is_counted = self.is_counted(now);
        let connections = self.connections.get_or_insert_default();
        connections.add(counts, is_counted);
        let open = connections.open;
        self.phase_at(now).connections_changed(counts, open);
    }

    /// The pings waited that many nanoseconds for VMs to get their addresses, and then began without `missing` of them.
    pub fn waited_for_addresses(&mut self, waited: u64, missing: u64) {
        self.addresses.waited_ns = waited;
        self.addresses.missing = missing;
    }

    /// VMs looked for their neighbours before the first phase, with that result.
    pub fn searched_neighbours(&mut self, search: NeighbourSearch) {
        self.neighbours = Some(search);
    }

    /// A DHCP server granted an address for longer.
    pub fn renewed(&mut self) {
        self.addresses.renewed += 1;
    }

    /// A lease ran out, or was taken back.
    pub fn lease_lost(&mut self) {
        self.addresses.lost += 1;
    }

    /// The station `mac` claims the address of `vm` as well.
    pub fn conflict(&mut self, vm: VmId, address: IpAddr, mac: MacAddr) {
        self.addresses.conflict(vm, address, mac);
    }

    /// A VM got its first answer `elapsed` nanoseconds after it had been made.
    ///
    /// Belongs to the run as a whole, a warm-up included.
    pub fn booted(&mut self, elapsed: u64) {
        self.record(Metric::Boot, elapsed);
    }

    /// From now on the rtt of `flow` is recorded beside those of others that cross from one leaf to another, or that do
    /// not.
    pub fn set_flow_path(&mut self, flow: FlowId, is_across: bool) {
        self.flow_paths.set(flow, is_across);
    }

    /// A frame was handled `elapsed` nanoseconds after the poll that announced it had returned.
    pub fn lag(&mut self, elapsed: u64) {
        self.current().record(Metric::Lag, elapsed);
    }

    /// A frame was read.
    pub fn frame_in(&mut self) {
        self.current().work.frames_in += 1;
    }

    /// A frame was written.
    pub fn frame_out(&mut self) {
        self.current().work.frames_out += 1;
    }

    /// The reactor woke up.
    pub fn turn(&mut self) {
        self.current().work.turns += 1;
    }

    /// The reactor worked for `nanos` nanoseconds before it waited again.
    pub fn busy(&mut self, nanos: u64) {
        self.current().busy(nanos);
    }

    /// The reactor asked in vain for `nanos` nanoseconds instead of sleeping.
    pub fn spun(&mut self, nanos: u64) {
        let work = &mut self.current().work;
        work.spin = work.spin.saturating_add(nanos);
    }

    /// The run begins at `now`: changes of links are told from here on.
    pub fn watch_links(&mut self, now: Instant) {
        self.links.begin(now);
    }

    /// Somebody else changed a link of the run's; it was seen at `at`. Belongs to the run as a whole, a warm-up included.
    pub fn link_changed(&mut self, at: Instant, event: LinkEvent) {
        self.links.changed(at, event);
    }

    /// A frame that an impairment held was released, so many nanoseconds after its time.
    pub fn released(&mut self, late: u64) {
        self.record(Metric::Release, late);
    }

    /// The process was paused. Belongs to the run as a whole, a warm-up included.
    pub fn paused(&mut self, pause: Pause) {
        self.pauses.add(pause);
        self.pause = (pause.from, pause.to);
    }

    /// A frame was dropped.
    pub fn dropped(&mut self, reason: DropReason) {
        self.drops.add(reason, 1);
    }

    /// Several frames were dropped for the same reason, as a counter of the kernel tells afterwards.
    pub fn dropped_many(&mut self, reason: DropReason, frames: u64) {
        self.drops.add(reason, frames);
    }

    /// Takes in one value of a metric of the run.
    #[inline]
    fn record(&mut self, metric: Metric, nanos: u64) {
        if let Some(latency) = self.latencies.get_mut(metric.slot()) {
            latency.record(nanos);
        }
    }

    /// The ping of `flow` with that number, due at `due`, ended at `now` without a valid answer in time. It is put down to
    /// `to` until more is known.
    fn ended(
        &mut self,
        flow: FlowId,
        (sequence, due): (u64, Instant),
        now: Instant,
        to: Attribution,
        count: fn(&mut Totals),
    ) {
        if let Some(marks) = self.marks_of(flow) {
            marks.failed(flow, sequence, due);
        }
        self.failed_after_move(flow, (sequence, due), to.cause);
        let phase = self.phase_at(due);
        phase.ended(now);
        if phase.counted {
            self.timeline.failed(now);
            if let Some(responses) = self.responses_mut() {
                responses.failed(flow, due, to.cause);
            }
            let known = (flow.index() < self.flows.len()).then_some(flow);
            self.losses.add(known, 1, to);
        }
        self.count(flow, due, count);
    }

    fn count(&mut self, flow: FlowId, at: Instant, count: fn(&mut Totals)) {
        let index = self.phase_index_at(at);
        if let Some(by_group) = self.by_group_mut() {
            by_group.count(index, flow, count);
        }
        let phase = self.phase_at(at);
        count(&mut phase.totals);
        if phase.counted
            && let Some(flow) = self.flows.get_mut(flow.index())
        {
            count(flow.totals_mut());
        }
    }

    fn current(&mut self) -> &mut Phase {
        let last = self.phases.len() - 1;
        &mut self.phases[last]
    }

    /// The phase that something due at `at` belongs to: the last that had begun by then.
    fn phase_at(&mut self, at: Instant) -> &mut Phase {
        let index = self.phase_index_at(at);
        &mut self.phases[index]
    }

    /// The index of the phase that something due at `at` belongs to.
    #[inline]
    fn phase_index_at(&self, at: Instant) -> usize {
        let begun = self.phases.iter().rposition(|phase| phase.begin <= at);
        begun.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
