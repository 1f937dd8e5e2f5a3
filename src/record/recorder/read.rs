//! What a recorder has taken in.

use std::cmp::Reverse;
use std::ops::Range;

use super::super::phase::{Phase, Work};
use super::{Member, MemberCounts, Recorder};
use crate::load::FlowId;
use crate::record::{
    Addresses, Connections, Drops, ErrorCounts, FlowRecord, Interval, Latency, Links, Losses,
    Metric, NeighbourSearch, Pauses, Scope, Totals,
};
use crate::time::Instant;
use crate::vm::VmId;

impl Recorder {
    /// The flows, in the order of their ids.
    pub fn flows(&self) -> &[FlowRecord] {
        &self.flows
    }

    /// The members of the multicast group that `flow` pings, with the counts of each: VMs of the run, then others in the
    /// order of their addresses. Only those of which something is known; none for other flows.
    pub fn members(&self, flow: FlowId) -> impl Iterator<Item = (Member, MemberCounts)> {
        let first = (flow, Member::Vm(VmId(0)));
        let members = self.members.range(first..);
        let members = members.take_while(move |((of, _), _)| *of == flow);
        members.map(|((_, member), counts)| (*member, *counts))
    }

    /// Returns true if anything is known of a member of a multicast group.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The phases that were begun, in order, whatever happened in them. A run that was not divided, or in which none was begun,
    /// is one phase without a name.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }

    /// The phase that the run is in; a look at it costs nothing, so it serves a display that is drawn meanwhile.
    pub fn current_phase(&self) -> &Phase {
        &self.phases[self.phases.len() - 1]
    }

    /// All phases that count, as one.
    pub fn run(&self) -> Phase {
        let mut run = Phase::new();
        for phase in self.phases.iter().filter(|phase| phase.counted) {
            run.merge(phase);
        }
        run
    }

    /// Counts of the pings of all phases that count, by how each ended.
    pub fn totals(&self) -> Totals {
        let counted = self.phases.iter().filter(|phase| phase.counted);
        counted.map(|phase| phase.totals).sum()
    }

    /// The pings that count, second by second; after ten minutes the intervals grow longer. Only intervals that are over, in
    /// which something happened: they stay as they are, and more follow.
    pub fn closed_intervals(&self) -> &[Interval] {
        self.timeline.closed()
    }

    /// The interval that follows the [closed ones](Recorder::closed_intervals), up to the last event, if anything happened in it.
    pub fn open_interval(&self) -> Option<Interval> {
        let counted = self.phases.iter().filter(|phase| phase.counted);
        let end = counted.map(Phase::end).max();
        self.timeline.open(end.unwrap_or(Instant::ZERO))
    }

    /// The last of the [closed intervals](Recorder::closed_intervals) that is over by `now`, if that was not longer ago
    /// than it took itself.
    pub fn recent(&self, now: Instant) -> Option<Interval> {
        self.timeline.recent(now)
    }

    /// The flows in the order of their failed pings, and those of which as many failed in the order of their mean rtt, the
    /// worst one first: those with these places. Looks at each flow once, and sorts only what it returns.
    pub fn worst_flows(&self, places: Range<usize>) -> Vec<FlowId> {
        let ids = (0..self.flows.len() as u32).map(FlowId);
        let mut flows: Vec<_> = ids.map(|id| (self.badness(id), id)).collect();
        if places.end < flows.len() {
            flows.select_nth_unstable(places.end);
            flows.truncate(places.end);
        }
        if places.start >= flows.len() {
            return Vec::new();
        }
        flows.select_nth_unstable(places.start);
        let mut worst = flows.split_off(places.start);
        worst.sort_unstable();
        worst.into_iter().map(|(_, id)| id).collect()
    }

    /// Keeps the worst `number` of `flows`, in no order.
    pub fn keep_worst(&self, number: usize, flows: &mut Vec<FlowId>) {
        if number < flows.len() {
            flows.select_nth_unstable_by_key(number, |id| self.badness(*id));
            flows.truncate(number);
        }
    }

    fn badness(&self, id: FlowId) -> impl Ord + use<> {
        let flow = self.flows.get(id.index());
        Reverse(flow.map(|flow| (flow.totals().failed(), flow.mean())))
    }

    /// The histogram of `metric` of the run as a whole; nothing of one that is recorded for each phase.
    pub fn run_latency(&self, metric: Metric) -> Option<&Latency> {
        let of_run = metric.scope() == Scope::Run;
        self.latencies.get(metric.slot()).filter(|_| of_run)
    }

    /// The histogram of `metric`: the sum of the phases that count, or that of the run as a whole.
    pub fn latency(&self, metric: Metric) -> Latency {
        let mut sum = Latency::new();
        self.add_latency(metric, &mut sum);
        sum
    }

    /// Adds the histogram of `metric` to `sum`.
    pub fn add_latency(&self, metric: Metric, sum: &mut Latency) {
        self.latencies_of(metric).for_each(|part| sum.merge(part));
    }

    /// Returns true if there is a value of `metric`.
    pub fn has(&self, metric: Metric) -> bool {
        self.latencies_of(metric).any(|part| !part.is_empty())
    }

    /// The histograms that the one of `metric` is the sum of.
    fn latencies_of(&self, metric: Metric) -> impl Iterator<Item = &Latency> {
        let counted = self.phases.iter().filter(|phase| phase.counted);
        let of_phases = counted.filter_map(move |phase| phase.latency(metric));
        self.run_latency(metric).into_iter().chain(of_phases)
    }

    /// The TCP connections that pings have opened; `None` if there are none.
    pub const fn connections(&self) -> Option<&Connections> {
        self.connections.as_ref()
    }

    /// Leases and conflicts of the VMs' addresses.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Result of the search for neighbours before the first phase, if there was one.
    pub const fn neighbours(&self) -> Option<&NeighbourSearch> {
        self.neighbours.as_ref()
    }

    /// How many flows cross from one leaf to another, if flow paths were [set](Recorder::set_flow_path).
    pub fn flows_across(&self) -> u64 {
        self.flow_paths.flows_across()
    }

    /// Dropped frames by reason.
    pub const fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Changes of the run's links by others.
    pub const fn links(&self) -> &Links {
        &self.links
    }

    /// Pauses of the process, and their effect on the run.
    pub const fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Pings reported undeliverable, by what was reported. They belong to the run as a whole, a warm-up included.
    pub const fn errors(&self) -> &ErrorCounts {
        &self.errors
    }

    /// The pings that failed, by what they are put down to.
    pub const fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Work of the reactor before the first phase.
    pub const fn setup(&self) -> &Work {
        &self.setup
    }

    /// Work of the reactor from the first phase on, a warm-up included.
    pub fn work(&self) -> Work {
        let mut work = Work::default();
        self.phases.iter().for_each(|phase| work.add(phase.work));
        work
    }
}
