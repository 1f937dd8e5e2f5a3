//! From what a recorder took in to the document.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::builder::Builder;
use super::units::counted;
use super::verdict::Evidence;
use super::{
    ConnectionReport, FabricReport, FlowReport, MachineReport, MemberReport, MemoryReport,
    PhaseReport, PlanReport, Report, SecondReport, StreamName, Verdict, impairments, link_changes,
    losses, misbehaviours,
};
use crate::fabric::{ImpairmentCount, MisbehaviourRecord, Recording};
use crate::load::FlowId;
use crate::record::{
    Floods, Interval, Latency, LatencySummary, Member, MemberCounts, Metric, PathSplit, PerMetric,
    Phase, Recorder, Totals,
};
use crate::time::Instant;
use crate::vm::{ProbeKind, VmId};

/// Up to this many flows a report tells every one. A flow takes about 400 bytes in memory and twice that as JSON, so
/// this many are 16 MB of it; a mesh of a thousand VMs would make 800 MB that nobody opens.
pub const FLOWS_TOLD: usize = 20_000;
/// So many of the worst flows are told where there are more than [`FLOWS_TOLD`].
pub const WORST_TOLD: usize = 1_000;

/// The parts of a report that a [`Recorder`] does not have.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The command or the scenario that ran, in a line.
    pub run: &'a str,
    /// When the run began, in milliseconds since 1970.
    pub started_unix_ms: Option<u64>,
    /// From the start of the program until the first ping could be sent, in nanoseconds.
    pub setup_ns: u64,
    /// When the first ping could be sent: from then on the times of marks are told.
    pub began: Instant,
    /// True if the run was ended before it was done.
    pub interrupted: bool,
    /// Names the flow with that index. Called only for flows that the report lists.
    pub flows: &'a dyn Fn(usize) -> Option<FlowName>,
    /// The phases that were planned, each with its name and whether it counts; none of a run that is not divided.
    pub phases: &'a [(String, bool)],
    /// The plan: every setting and its value.
    pub plan: Option<&'a PlanReport>,
    /// On which machine it ran.
    pub machine: Option<&'a MachineReport>,
    /// The fabric that carried the frames.
    pub fabric: Option<&'a FabricReport>,
    /// The frames that were impaired.
    pub impairments: &'a [ImpairmentCount],
    /// The misbehaviours of VMs.
    pub misbehaviours: &'a [MisbehaviourRecord],
    /// What was flooded, if that was counted.
    pub floods: Option<&'a Floods>,
    /// The stages of the way of pings, if it was split.
    pub path_split: Option<&'a PathSplit>,
    /// The names of the streams, by their numbers.
    pub streams: &'a [StreamName],
    /// Memory that the run used.
    pub memory: Option<MemoryReport>,
    /// The files that the run was recorded in.
    pub recordings: &'a [Recording],
}

impl Default for Context<'_> {
    fn default() -> Self {
        Context {
            run: "",
            started_unix_ms: None,
            setup_ns: 0,
            began: Instant::ZERO,
            interrupted: false,
            flows: &|_| None,
            phases: &[],
            plan: None,
            machine: None,
            fabric: None,
            impairments: &[],
            misbehaviours: &[],
            floods: None,
            path_split: None,
            streams: &[],
            memory: None,
            recordings: &[],
        }
    }
}

/// Source and destination of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowName {
    /// The source, such as `vm0`.
    pub src: String,
    /// The destination, such as `vm1`, or an address.
    pub dst: String,
    /// The address of `dst`, if `dst` is not one itself.
    pub address: Option<String>,
    /// What is sent.
    pub probe: ProbeKind,
    /// The VMs that are members of `dst`, if that is a multicast group, each with the address that it answers from.
    pub members: Vec<(VmId, IpAddr)>,
}

impl FlowName {
    /// The name of the flow with that index, where nobody knows it.
    pub(super) fn unknown(index: usize) -> FlowName {
        FlowName {
            src: format!("flow {index}"),
            ..FlowName::default()
        }
    }
}

impl Report {
    /// The report of what `recorder` took in.
    pub fn new(recorder: &Recorder, context: &Context<'_>) -> Report {
        let mut builder = Builder::default();
        while !builder.prepare(recorder, context.flows) {}
        builder.count(recorder, context);
        loop {
            if let Some(report) = builder.complete(context.flows) {
                return report;
            }
        }
    }

    /// Sets the verdict by the other figures: for `busy_ns` the reactor worked in the time that counts, and read `frames_in`
    /// frames.
    pub(super) fn judge(&mut self, busy_ns: u64, frames_in: u64) {
        self.verdict = Verdict::of(&Evidence::of_run(self, busy_ns, frames_in));
        self.verdict.sentence += &self.influences();
    }

    /// What stands behind the sentence of the verdict: what others and the run itself have done to the network.
    pub(super) fn influences(&self) -> String {
        let links = link_changes::sentence(&self.links, self.links_untold);
        let impaired = impairments::sentence(&self.impairments);
        let misbehaved = misbehaviours::sentence(&self.misbehaviours);
        [links, impaired, misbehaved]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// The phases of a run that was divided, those of `planned` included that it did not come to. One phase without a name is
/// none. The first ones are `prepared`.
pub(super) fn phases(
    recorder: &Recorder,
    prepared: Vec<PhaseReport>,
    planned: &[(String, bool)],
) -> Vec<PhaseReport> {
    if let ([phase], [] | [_]) = (recorder.phases(), planned)
        && phase.name().is_empty()
        && planned.iter().all(|(name, _)| name.is_empty())
    {
        return Vec::new();
    }
    let begun = match (recorder.phases(), planned) {
        // It has no name because it was not begun.
        ([phase], [(first, _), ..]) if phase.name() != first => &[],
        (phases, _) => phases,
    };
    let others = planned.iter().skip(begun.len());
    let mut prepared = prepared.into_iter();
    let report = |phase| {
        let prepared = prepared.next().filter(|report| report.is_of(phase));
        prepared.unwrap_or_else(|| PhaseReport::new(phase))
    };
    begun
        .iter()
        .map(report)
        .chain(others.map(|(name, counted)| PhaseReport::never_begun(name, *counted)))
        .collect()
}

impl PhaseReport {
    pub(super) fn new(phase: &Phase) -> PhaseReport {
        PhaseReport {
            name: phase.name().to_owned(),
            counted: phase.counted(),
            nothing_sent: match phase.has_streams() {
                true => None,
                false => nothing_sent(phase.totals()),
            },
            elapsed_ns: phase.elapsed(),
            waited_ns: phase.waited(),
            sent_per_s: per_second(phase.totals().sent, phase.elapsed()),
            rate_per_s: per_second(phase.totals().received, phase.elapsed()),
            totals: *phase.totals(),
            connections: ConnectionReport::of(phase.connections(), phase.elapsed()),
            summaries: PerMetric::from_fn(|metric| {
                let latency = phase.latency(metric);
                latency.map(Latency::summary).unwrap_or_default()
            }),
            verdict: Verdict::of(&Evidence::of_phase(phase)),
        }
    }

    /// Returns true if nothing has happened in `phase` since it was told.
    fn is_of(&self, phase: &Phase) -> bool {
        let count = |metric| phase.latency(metric).map_or(0, Latency::count);
        let connections = ConnectionReport::of(phase.connections(), phase.elapsed());
        self.totals == *phase.totals()
            && self.connections == connections
            && (self.elapsed_ns, self.waited_ns) == (phase.elapsed(), phase.waited())
            && Metric::ALL
                .iter()
                .all(|metric| self.summaries[*metric].count == count(*metric))
    }

    fn never_begun(name: &str, counted: bool) -> PhaseReport {
        PhaseReport {
            name: name.to_owned(),
            counted,
            nothing_sent: Some("the run ended before it began".to_owned()),
            elapsed_ns: 0,
            waited_ns: 0,
            sent_per_s: 0.0,
            rate_per_s: 0.0,
            totals: Totals::default(),
            connections: None,
            summaries: PerMetric::default(),
            verdict: Verdict::of(&Evidence::default()),
        }
    }
}

/// Why no ping of a phase was sent, if none was.
fn nothing_sent(totals: &Totals) -> Option<String> {
    match totals {
        Totals { sent: 1.., .. } => None,
        Totals {
            unresolved: pings @ 1..,
            ..
        } => Some(format!(
            "there was no way to send {}",
            counted(*pings, "ping")
        )),
        Totals {
            unsent: pings @ 1..,
            ..
        } => Some(format!(
            "{} could not be sent in time",
            counted(*pings, "due ping")
        )),
        _ => Some("no ping was due in it".to_owned()),
    }
}

impl FlowReport {
    /// How it pings, if it is not by ICMP echo: ` by udp`.
    pub(super) fn by(&self) -> String {
        match self.probe {
            ProbeKind::Icmp => String::new(),
            kind => format!(" by {kind}"),
        }
    }

    /// The report of the flow with that index, named `name`. `None` if `recorder` has none.
    pub(crate) fn of(
        recorder: &Recorder,
        index: usize,
        name: Option<FlowName>,
    ) -> Option<FlowReport> {
        recorder.flows().get(index)?;
        let (mut flow, members) = named(index, name);
        count_flow(&mut flow, index, Some(&members), recorder);
        Some(flow)
    }
}

/// The report of a flow with its name, still without counts; and the members of the group that it pings.
pub(super) fn named(index: usize, name: Option<FlowName>) -> (FlowReport, Vec<(VmId, IpAddr)>) {
    let FlowName {
        src,
        dst,
        address,
        probe,
        members,
    } = name.unwrap_or_else(|| FlowName::unknown(index));
    let flow = FlowReport {
        src,
        dst,
        address,
        probe,
        totals: Totals::default(),
        losses: Vec::new(),
        rtt_ns: LatencySummary::default(),
        members: Vec::new(),
    };
    (flow, members)
}

/// Takes the counts of the flow with that index, and those of the members `planned` of the group that it pings, if any.
pub(super) fn count_flow(
    report: &mut FlowReport,
    index: usize,
    planned: Option<&Vec<(VmId, IpAddr)>>,
    recorder: &Recorder,
) {
    let Some(flow) = recorder.flows().get(index) else {
        return;
    };
    report.totals = *flow.totals();
    report.losses = losses::of_flow(recorder.losses(), FlowId(index as u32));
    report.rtt_ns = flow.summary();
    if planned.is_some() || recorder.has_members() {
        let answered = recorder.members(FlowId(index as u32)).collect();
        let planned = planned.map(Vec::as_slice).unwrap_or_default();
        report.members = members(planned, flow.totals(), answered);
    }
}

/// The members of the multicast group that a flow with the counts `of_flow` pings: those of the plan, and others that have
/// `answered`. Others are expected to answer every ping.
fn members(
    planned: &[(VmId, IpAddr)],
    of_flow: &Totals,
    mut answered: BTreeMap<Member, MemberCounts>,
) -> Vec<MemberReport> {
    let expected = of_flow.sent.saturating_sub(of_flow.abandoned);
    let report =
        |vm: Option<VmId>, address: IpAddr, counts: MemberCounts, lost: u64| MemberReport {
            vm: vm.map(|vm| vm.to_string()),
            address: address.to_string(),
            received: counts.answered,
            lost,
        };
    let planned = planned.iter().map(|&(vm, address)| {
        let counts = answered.remove(&Member::Vm(vm)).unwrap_or_default();
        report(Some(vm), address, counts, counts.lost)
    });
    let mut members: Vec<_> = planned.collect();
    members.extend(answered.iter().filter_map(|(member, counts)| match member {
        Member::Other(address) => {
            let lost = expected.saturating_sub(counts.answered);
            Some(report(None, *address, *counts, lost))
        }
        Member::Vm(_) => None,
    }));
    members
}

/// Events per second, in thousandths; 0 where no time passed.
pub(super) fn per_second(events: u64, elapsed_ns: u64) -> f64 {
    let rate = match elapsed_ns {
        0 => return 0.0,
        elapsed => events as f64 * 1e9 / elapsed as f64,
    };
    // A ping an hour is not none.
    let digits = if rate < 1.0 { 1e9 } else { 1e3 };
    (rate * digits).round() / digits
}

impl From<Interval> for SecondReport {
    fn from(interval: Interval) -> SecondReport {
        SecondReport {
            start_ns: interval.start,
            length_ns: interval.length,
            sent: interval.sent,
            received: interval.received,
            failed: interval.failed,
            rtt_ns: interval.rtt.expand().summary(),
            response_ns: interval.response.expand().summary(),
            rtt: interval.rtt,
            response: interval.response,
        }
    }
}

#[cfg(test)]
mod tests;
