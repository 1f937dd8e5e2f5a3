//! A report that is made in slices while a run goes on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::build::{Context, FLOWS_TOLD, WORST_TOLD, count_flow, named, per_second, phases};
use super::floods::floods;
use super::marks::{MarkReport, Telling};
use super::misbehaviours::misbehaviours;
use super::moves;
use super::path_split::{self, PathSplitReport};
use super::{
    ConnectionReport, FabricReport, FlowName, FlowReport, PhaseReport, ReactorReport, Report,
    SCHEMA, SecondReport, Verdict, losses, streams,
};
use crate::load::FlowId;
use crate::record::{FlowRecord, Latency, Mark, Marks, Metric, PerMetric, Recorder, Work};
use crate::time::Instant;
use crate::vm::VmId;

/// A report that is being made, in slices: what takes long is prepared beforehand, all counts are then taken at once, so that
/// they are those of one instant, and what follows from them is told afterwards.
#[derive(Debug, Default)]
pub struct Builder {
    /// Closed intervals of the run, which nothing changes.
    pub(super) seconds: Vec<SecondReport>,
    /// Those of the run, as long as they are empty.
    histograms: Option<PerMetric<Latency>>,
    /// The metrics whose histograms have got their memory.
    ready: Vec<Metric>,
    /// The flows that are not among the worst of very many.
    worst: Worst,
    /// The flows that are told, still without their counts.
    pub(super) flows: Vec<FlowReport>,
    /// The members of the groups that flows ping, by the place of the flow in `flows`.
    members: BTreeMap<usize, Vec<(VmId, IpAddr)>>,
    /// The phases before the present one, in which hardly anything happens any more.
    phases: Vec<PhaseReport>,
    /// Marks before the last one, of which the same holds.
    marks: Vec<Telling>,
    /// The report, once all counts are taken.
    counted: Option<Box<Counted>>,
}

/// A report that has its counts.
#[derive(Debug)]
struct Counted {
    report: Report,
    /// The metrics that are summed up.
    summed_up: usize,
    /// The marks that are still to be told, each with its place, as they were when all was counted.
    marks: Vec<(usize, Mark, Telling)>,
    /// When the first ping could be sent.
    began: Instant,
    /// For how long the reactor worked in the time that counts, in nanoseconds.
    busy_ns: u64,
    /// The frames that it read in that.
    frames_in: u64,
}

/// Intervals that a slice makes ready.
const SECONDS: usize = 4;
/// Flows that a slice makes ready.
pub(super) const FLOWS: usize = 200;
/// Flows that a slice looks at for the worst of them.
const FLOWS_SEEN: usize = 10_000;

impl Builder {
    /// Prepares a slice of the report of what `recorder` takes in; `name` names the flow with an index. Returns true once all
    /// is prepared: all is to be [counted](Builder::count) before anything else is recorded.
    pub fn prepare(
        &mut self,
        recorder: &Recorder,
        name: &dyn Fn(usize) -> Option<FlowName>,
    ) -> bool {
        let closed = recorder.closed_intervals();
        let closed = closed.get(self.seconds.len()..).unwrap_or_default();
        if !closed.is_empty() {
            self.seconds.reserve_exact(closed.len() + 1);
            let more = closed.iter().take(SECONDS).cloned();
            self.seconds.extend(more.map(SecondReport::from));
            return false;
        }
        let mut unready = Metric::ALL.iter();
        if let Some(&metric) = unready.find(|metric| !self.ready.contains(metric)) {
            // Memory is had from the system when it is written to for the first time.
            let histograms = self.histograms.get_or_insert_default();
            if recorder.has(metric) {
                histograms[metric].clear();
            }
            self.ready.push(metric);
            return false;
        }
        let before = recorder
            .phases()
            .split_last()
            .map_or(&[][..], |(_, all)| all);
        if let Some(phase) = before.get(self.phases.len()) {
            self.phases.push(PhaseReport::new(phase));
            return false;
        }
        if self.prepare_mark(recorder, name) {
            return false;
        }
        let flows = recorder.flows();
        if flows.len() > FLOWS_TOLD && self.worst.seen < flows.len() {
            // Flows that were told while there were fewer are not among the worst for that.
            self.flows.clear();
            self.members.clear();
            self.worst.look_at(recorder);
            return false;
        }
        let told = match flows.len() > FLOWS_TOLD {
            true => self.worst.indices.len(),
            false => flows.len(),
        };
        let next = self.flows.len();
        // To make room later would copy them all.
        self.flows.reserve_exact(told.saturating_sub(next));
        for place in (next..told).take(FLOWS) {
            let index = self.index(place, flows.len());
            let (flow, members) = named(index, name(index));
            if !members.is_empty() {
                self.members.insert(place, members);
            }
            self.flows.push(flow);
        }
        self.flows.len() == told
    }

    /// The number of the flow that is told at `place`, of so many flows.
    fn index(&self, place: usize, flows: usize) -> usize {
        let worst = self.worst.indices.get(place);
        let worst = worst.filter(|_| flows > FLOWS_TOLD);
        worst.map_or(place, |id| id.index())
    }

    /// Prepares a part of a mark before the last one. Returns false if all of them are told.
    fn prepare_mark(
        &mut self,
        recorder: &Recorder,
        name: &dyn Fn(usize) -> Option<FlowName>,
    ) -> bool {
        let before = marks(recorder).split_last().map_or(&[][..], |(_, all)| all);
        if self.marks.last().is_none_or(Telling::is_told) {
            let Some(mark) = before.get(self.marks.len()) else {
                return false;
            };
            self.marks.push(Telling::new(mark));
        }
        let place = self.marks.len().saturating_sub(1);
        if let Some((telling, mark)) = self.marks.last_mut().zip(before.get(place)) {
            telling.go_on(mark, name);
        }
        true
    }

    /// Takes all counts, those of now. [`Builder::prepare`] has just returned true.
    pub fn count(&mut self, recorder: &Recorder, context: &Context<'_>) {
        let mut flows = std::mem::take(&mut self.flows);
        for (place, flow) in flows.iter_mut().enumerate() {
            let index = self.index(place, recorder.flows().len());
            count_flow(flow, index, self.members.get(&place), recorder);
        }
        let Builder {
            mut seconds,
            histograms,
            worst,
            phases: prepared,
            marks: told,
            ..
        } = std::mem::take(self);
        let mut histograms = histograms.unwrap_or_default();
        let counted = || recorder.phases().iter().filter(|phase| phase.counted());
        let totals = recorder.totals();
        let elapsed_ns = counted().fold(0, |sum: u64, phase| sum.saturating_add(phase.elapsed()));
        let waited_ns = counted().fold(0, |sum: u64, phase| sum.saturating_add(phase.waited()));
        let mut counted_work = Work::default();
        counted().for_each(|phase| counted_work.add(*phase.work()));
        for &metric in Metric::ALL {
            recorder.add_latency(metric, &mut histograms[metric]);
        }
        seconds.extend(recorder.open_interval().map(SecondReport::from));
        let (setup, work) = (recorder.setup(), recorder.work());
        let links = recorder.links();
        let (marks, marks_left) = count_marks(marks(recorder), told, context.began);
        let (moves, moves_untold) = moves::told(recorder.moves(), context.began, context.flows);
        let of_streams = |of| streams::of_streams(of, context.streams);
        let streams = recorder.streams().map(of_streams).unwrap_or_default();
        let records = recorder.flows();
        let is_whole = |flow: &&FlowRecord| flow.totals().sent > 0 && flow.totals().failed() == 0;
        let report = Report {
            schema: SCHEMA.to_owned(),
            tool: concat!("tap-reactor ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: context.run.to_owned(),
            started_unix_ms: context.started_unix_ms,
            interrupted: context.interrupted,
            elapsed_ns,
            waited_ns,
            setup_ns: context.setup_ns,
            rate_per_s: per_second(totals.received, elapsed_ns),
            totals,
            summaries: PerMetric::default(),
            plan: context.plan.cloned(),
            machine: context.machine.cloned(),
            merged: None,
            ranks: Vec::new(),
            fabric: context.fabric.cloned().map(|fabric| FabricReport {
                flows_across: recorder.flows_across(),
                ..fabric
            }),
            memory: context.memory,
            verdict: Verdict::default(),
            expectations: Vec::new(),
            shortcomings: None,
            reactor: ReactorReport {
                turns: setup.turns + work.turns,
                frames_in: setup.frames_in + work.frames_in,
                setup_frames_in: setup.frames_in,
                frames_out: setup.frames_out + work.frames_out,
                busy_ns: work.busy,
                spin_ns: work.spin,
            },
            drops: *recorder.drops(),
            errors: recorder.errors().clone(),
            losses: losses::of_run(recorder.losses()),
            loss_attribution: Some(recorder.losses().into()),
            neighbours: recorder.neighbours().copied(),
            addresses: recorder.addresses().clone(),
            connections: ConnectionReport::of(recorder.connections(), elapsed_ns),
            impairments: context.impairments.iter().map(Into::into).collect(),
            misbehaviours: misbehaviours(
                context.misbehaviours,
                recorder.responses(),
                context.began,
            ),
            stream_counts: streams.counts,
            stream_totals: streams.totals,
            stream_losses: streams.losses,
            streams: streams.streams,
            floods: floods(context.floods),
            floods_counted: context.floods.is_some(),
            path_split: context.path_split.map(PathSplitReport::from),
            path_stages: path_split::stages(context.path_split),
            links: links.changes().to_vec(),
            links_untold: links.untold(),
            marks,
            marks_untold: recorder.marks().map_or(0, Marks::untold),
            moves,
            moves_untold,
            pauses: *recorder.pauses(),
            recordings: context.recordings.to_vec(),
            phases: phases(recorder, prepared, context.phases),
            seconds,
            flow_count: records.len() as u64,
            flows_whole: match records.len() > FLOWS_TOLD {
                true => worst.whole,
                false => records.iter().filter(is_whole).count() as u64,
            },
            flows,
            histograms,
        };
        self.counted = Some(Box::new(Counted {
            report,
            summed_up: 0,
            marks: marks_left,
            began: context.began,
            busy_ns: counted_work.busy,
            frames_in: counted_work.frames_in,
        }));
    }

    /// Returns true once all is [counted](Builder::count).
    pub const fn is_counted(&self) -> bool {
        self.counted.is_some()
    }

    /// Tells a slice of what follows from the counts; `name` names the flow with an index. Returns the report once it is
    /// complete.
    pub fn complete(&mut self, name: &dyn Fn(usize) -> Option<FlowName>) -> Option<Report> {
        let Counted {
            report,
            summed_up,
            marks,
            began,
            busy_ns,
            frames_in,
        } = self.counted.as_deref_mut()?;
        if let Some(&metric) = Metric::ALL.get(*summed_up) {
            report.summaries[metric] = report.histograms[metric].summary();
            *summed_up += 1;
            return None;
        }
        if let Some((_, mark, telling)) = marks.last_mut() {
            telling.go_on(mark, name);
            if telling.is_told()
                && let Some((place, mark, telling)) = marks.pop()
                && let Some(told) = report.marks.get_mut(place)
            {
                *told = telling.end(&mark, *began);
            }
            return None;
        }
        report.judge(*busy_ns, *frames_in);
        self.counted.take().map(|counted| counted.report)
    }
}

/// The marks of a run that keep figures.
fn marks(recorder: &Recorder) -> &[Mark] {
    recorder.marks().map_or(&[], Marks::all)
}

/// The reports of `marks`, and those of them that are still to be told, each with its place: all that have changed since the
/// first ones were `told`.
fn count_marks(
    marks: &[Mark],
    told: Vec<Telling>,
    began: Instant,
) -> (Vec<MarkReport>, Vec<(usize, Mark, Telling)>) {
    let mut told = told.into_iter();
    let (mut reports, mut left) = (Vec::new(), Vec::new());
    for (place, mark) in marks.iter().enumerate() {
        let telling = told.next().filter(|telling| telling.is_of(mark));
        let telling = telling.unwrap_or_else(|| {
            left.push((place, mark.clone(), Telling::new(mark)));
            Telling::new(mark)
        });
        reports.push(telling.end(mark, began));
    }
    (reports, left)
}

/// The flows to be told where there are very many: those that lost most, and among those that lost the same the slowest.
#[derive(Debug, Default)]
struct Worst {
    /// The flows that were looked at.
    seen: usize,
    /// How many of them sent pings of which none failed.
    whole: u64,
    /// The worst of them, in the order of their numbers.
    indices: Vec<FlowId>,
}

impl Worst {
    /// Looks at some flows more.
    fn look_at(&mut self, recorder: &Recorder) {
        let flows = recorder.flows();
        let next = flows.len().min(self.seen + FLOWS_SEEN);
        let seen = std::mem::replace(&mut self.seen, next);
        self.indices.extend((seen as u32..next as u32).map(FlowId));
        let looked_at = flows.get(seen..next).unwrap_or_default();
        let totals = looked_at.iter().map(FlowRecord::totals);
        let whole = totals.filter(|totals| totals.sent > 0 && totals.failed() == 0);
        self.whole += whole.count() as u64;
        recorder.keep_worst(WORST_TOLD, &mut self.indices);
        self.indices.sort_unstable();
    }
}
