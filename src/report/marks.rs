//! Marks: what was measured of the flows since each, in the document, and the marks of one name as one.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FlowName, Report, encoding};
use crate::load::FlowId;
use crate::record::{
    FlowMark, Latency, LatencySummary, MAX_MARKS, Mark, MarkMetric, SparseLatency,
};
use crate::time::Instant;

/// Up to this many flows are told one by one for each mark.
pub const MARK_FLOWS_TOLD: usize = 1_000;
/// So many are told where there are more: one half are those with the longest first pass, those that never passed before all
/// others, and one half those with the longest last pass.
pub const MARK_WORST_TOLD: usize = 100;

/// A mark, and the figures of the flows from then on until the next one, or the end of the run. A ping belongs to the last
/// mark at or before the time when it was due. It passes if it counts as received; the instant of that is the receipt of the
/// answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MarkReport {
    /// Its name, which other marks may have, too.
    pub name: String,
    /// What it is about, such as `tap1 was set down`; absent if there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When it was set, in nanoseconds since the first ping could be sent, which is after the set-up; 0 if it was set before.
    pub at_ns: u64,
    /// When the next one was set, by the same clock; absent of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ns: Option<u64>,
    /// Flows of which a ping has ended that belongs to it.
    pub flow_count: u64,
    /// Those of them of which a ping passed.
    pub passed: u64,
    /// From the mark to the receipt of the first answer, of each flow that passed; of one that began after the mark, from its own
    /// first ping on.
    pub first_pass_ns: LatencySummary,
    /// From the mark to the receipt of the last answer, of each flow that passed; of one that began after the mark, from its own
    /// first ping on.
    pub last_pass_ns: LatencySummary,
    /// The longest time between two answers that follow one another, of each flow with two.
    pub longest_gap_ns: LatencySummary,
    /// How often a flow's pings began to pass or ceased to, in the order of their sending: a number of changes, not a time.
    pub changes: ChangesSummary,
    /// Every flow; of more than 1,000 the 100 that passed last of all or for the longest time.
    pub flows: Vec<MarkFlowReport>,
    /// The histograms that the percentiles come from, each over the flows.
    pub histograms: MarkHistograms,
}

/// Summary of how often the pings of each flow began to pass or ceased to: numbers of changes, not times. Without flows every
/// figure but `count` is absent (`null` in JSON).
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChangesSummary {
    /// How many flows there were.
    pub count: u64,
    /// The least number.
    pub min: Option<u64>,
    /// The mean, of which the fraction matters.
    pub mean: Option<f64>,
    /// The standard deviation.
    pub stdev: Option<f64>,
    /// Half of the flows have at most this number.
    pub p50: Option<u64>,
    /// Nine tenths of the flows have at most this number.
    pub p90: Option<u64>,
    /// 99 % of the flows have at most this number.
    pub p99: Option<u64>,
    /// 99.9 % of the flows have at most this number.
    pub p99_9: Option<u64>,
    /// The greatest number.
    pub max: Option<u64>,
}

impl From<&Latency> for ChangesSummary {
    fn from(changes: &Latency) -> ChangesSummary {
        let whole = changes.summary();
        ChangesSummary {
            count: whole.count,
            min: whole.min,
            mean: changes.moments().mean(),
            stdev: changes.moments().stdev(),
            p50: whole.p50,
            p90: whole.p90,
            p99: whole.p99,
            p99_9: whole.p99_9,
            max: whole.max,
        }
    }
}

impl ChangesSummary {
    /// The figures but for the count as text, in the order of [`LatencySummary::figures`].
    pub(super) fn figures(&self) -> [Option<String>; 8] {
        let whole = |number: Option<u64>| number.map(|number| number.to_string());
        let fraction = |number: Option<f64>| number.map(|number| number.to_string());
        [
            whole(self.min),
            fraction(self.mean),
            fraction(self.stdev),
            whole(self.p50),
            whole(self.p90),
            whole(self.p99),
            whole(self.p99_9),
            whole(self.max),
        ]
    }
}

/// The histograms of a mark: each is `null`, or its `min`, `max`, `mean` and `stdev` with `hdr`, as those of the run.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MarkHistograms {
    /// That of `first_pass_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub first_pass: SparseLatency,
    /// That of `last_pass_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub last_pass: SparseLatency,
    /// That of `longest_gap_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub longest_gap: SparseLatency,
    /// That of `changes`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub changes: SparseLatency,
}

/// The figures of a flow since a mark.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MarkFlowReport {
    /// The source, such as `vm0`.
    pub src: String,
    /// The destination, such as `vm1`, or an address.
    pub dst: String,
    /// Pings that passed.
    pub answered: u64,
    /// Pings that did not.
    pub unanswered: u64,
    /// From the mark to when its first ping was due, if it was added or its VM started after the mark: its `first_pass_ns` and
    /// `last_pass_ns` count from then on. Absent of flows that were there when the mark was set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_ns: Option<u64>,
    /// From the mark to the receipt of the first answer; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_pass_ns: Option<u64>,
    /// From the mark to the receipt of the last answer; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pass_ns: Option<u64>,
    /// The longest time between two answers that follow one another; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_gap_ns: Option<u64>,
    /// How often its pings began to pass or ceased to, in the order of their sending.
    pub changes: u64,
}

impl MarkFlowReport {
    /// Returns a figure; `None` if the flow has none.
    pub(super) const fn figure(&self, metric: MarkMetric) -> Option<u64> {
        match metric {
            MarkMetric::FirstPass => self.first_pass_ns,
            MarkMetric::LastPass => self.last_pass_ns,
            MarkMetric::LongestGap => self.longest_gap_ns,
            MarkMetric::Changes => Some(self.changes),
        }
    }
}

impl MarkReport {
    /// Returns the histogram of a figure.
    pub const fn histogram(&self, metric: MarkMetric) -> &SparseLatency {
        let histograms = &self.histograms;
        match metric {
            MarkMetric::FirstPass => &histograms.first_pass,
            MarkMetric::LastPass => &histograms.last_pass,
            MarkMetric::LongestGap => &histograms.longest_gap,
            MarkMetric::Changes => &histograms.changes,
        }
    }

    /// The report of a mark without the figures of its flows.
    fn without_flows(mark: &Mark) -> MarkReport {
        MarkReport {
            name: mark.name().to_string(),
            detail: (!mark.detail().is_empty()).then(|| mark.detail().to_owned()),
            at_ns: 0,
            end_ns: None,
            flow_count: 0,
            passed: 0,
            first_pass_ns: LatencySummary::default(),
            last_pass_ns: LatencySummary::default(),
            longest_gap_ns: LatencySummary::default(),
            changes: ChangesSummary::default(),
            flows: Vec::new(),
            histograms: MarkHistograms::default(),
        }
    }

    /// Takes in the flows of another rank since the same mark.
    fn add(&mut self, other: &MarkReport) {
        for metric in MarkMetric::ALL {
            let mut sum = self.histogram(*metric).expand();
            sum.merge(&other.histogram(*metric).expand());
            self.set(*metric, &sum);
        }
        let room = MARK_FLOWS_TOLD.saturating_sub(self.flows.len());
        self.flows.extend(other.flows.iter().take(room).cloned());
    }

    /// Sets what is told of a figure.
    fn set(&mut self, metric: MarkMetric, latency: &Latency) {
        let summary = latency.summary();
        let sparse = SparseLatency::from(latency);
        let histograms = &mut self.histograms;
        match metric {
            MarkMetric::FirstPass => {
                self.passed = summary.count;
                (self.first_pass_ns, histograms.first_pass) = (summary, sparse);
            }
            MarkMetric::LastPass => (self.last_pass_ns, histograms.last_pass) = (summary, sparse),
            MarkMetric::LongestGap => {
                (self.longest_gap_ns, histograms.longest_gap) = (summary, sparse);
            }
            MarkMetric::Changes => {
                self.flow_count = summary.count;
                (self.changes, histograms.changes) = (ChangesSummary::from(latency), sparse);
            }
        }
    }
}

/// Flows of a mark that a slice names.
const FLOWS: usize = 200;

/// The report of a mark that is being made, in slices.
#[derive(Debug)]
pub(super) struct Telling {
    report: MarkReport,
    /// The [version](Mark::version) of the mark that it is of.
    version: u64,
    /// The figures that are told.
    figures: usize,
    /// The flows that are told one by one; `None` as long as they are not chosen.
    chosen: Option<Vec<(FlowId, FlowMark)>>,
}

impl Telling {
    pub(super) fn new(mark: &Mark) -> Telling {
        Telling {
            report: MarkReport::without_flows(mark),
            version: mark.version(),
            figures: 0,
            chosen: None,
        }
    }

    /// Tells a part of `mark`, the one that it was begun with.
    pub(super) fn go_on(&mut self, mark: &Mark, name: &dyn Fn(usize) -> Option<FlowName>) {
        if let Some(metric) = MarkMetric::ALL.get(self.figures) {
            self.report.set(*metric, &mark.latency(*metric));
            self.figures += 1;
            return;
        }
        let chosen = self.chosen.get_or_insert_with(|| chosen(mark));
        let told = self.report.flows.len();
        self.report.flows.reserve_exact(chosen.len() - told);
        for (id, figures) in chosen.iter().skip(told).take(FLOWS) {
            self.report.flows.push(flow(*id, figures, name));
        }
    }

    /// Returns true once all is told.
    pub(super) fn is_told(&self) -> bool {
        let chosen = self.chosen.as_ref();
        chosen.is_some_and(|chosen| self.report.flows.len() == chosen.len())
    }

    /// Returns true if all that is told of it stands still for `mark`.
    pub(super) fn is_of(&self, mark: &Mark) -> bool {
        self.version == mark.version()
    }

    /// The report, once all is told.
    pub(super) fn end(self, mark: &Mark, began: Instant) -> MarkReport {
        MarkReport {
            at_ns: mark.at().nanos_since(began),
            end_ns: mark.end().map(|end| end.nanos_since(began)),
            ..self.report
        }
    }
}

/// The flows to be told one by one: all of them, or of many those that stand out.
fn chosen(mark: &Mark) -> Vec<(FlowId, FlowMark)> {
    let mut all: Vec<(FlowId, &FlowMark)> = mark.flows().collect();
    if all.len() > MARK_FLOWS_TOLD {
        let half = MARK_WORST_TOLD / 2;
        let never = |figure: Option<u64>| Reverse(figure.unwrap_or(u64::MAX));
        let slow = |(id, of): &(FlowId, &FlowMark)| (never(of.get(MarkMetric::FirstPass)), *id);
        all.select_nth_unstable_by_key(half, slow);
        let leaking = |(id, of): &(FlowId, &FlowMark)| (Reverse(of.get(MarkMetric::LastPass)), *id);
        if let Some(others) = all.get_mut(half..) {
            others.select_nth_unstable_by_key(half, leaking);
        }
        all.truncate(MARK_WORST_TOLD);
        all.sort_unstable_by_key(|(id, _)| *id);
    }
    all.into_iter()
        .map(|(id, figures)| (id, *figures))
        .collect()
}

fn flow(
    id: FlowId,
    figures: &FlowMark,
    name: &dyn Fn(usize) -> Option<FlowName>,
) -> MarkFlowReport {
    let name = name(id.index()).unwrap_or_else(|| FlowName::unknown(id.index()));
    MarkFlowReport {
        src: name.src,
        dst: name.dst,
        answered: figures.answered,
        unanswered: figures.unanswered,
        began_ns: figures.began_ns(),
        first_pass_ns: figures.get(MarkMetric::FirstPass),
        last_pass_ns: figures.get(MarkMetric::LastPass),
        longest_gap_ns: figures.get(MarkMetric::LongestGap),
        changes: figures.get(MarkMetric::Changes).unwrap_or(0),
    }
}

/// The marks of one name, as one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks<'a> {
    report: &'a Report,
    pub(super) name: &'a str,
}

impl<'a> Marks<'a> {
    /// Returns the marks of `report` that are named `name`; `None` if there are none.
    pub(super) fn named(report: &'a Report, name: &'a str) -> Option<Marks<'a>> {
        let marks = Marks { report, name };
        let is_there = marks.each().next().is_some();
        is_there.then_some(marks)
    }

    /// Returns the marks of `report` by name, in the order in which the names first came.
    pub(super) fn of(report: &'a Report) -> Vec<Marks<'a>> {
        let mut all: Vec<Marks<'a>> = Vec::new();
        for mark in &report.marks {
            if !all.iter().any(|known| known.name == mark.name) {
                let name = mark.name.as_str();
                all.push(Marks { report, name });
            }
        }
        all
    }

    pub(super) fn each(self) -> impl Iterator<Item = &'a MarkReport> {
        let marks = self.report.marks.iter();
        marks.filter(move |mark| mark.name == self.name)
    }

    /// Returns the histogram of a figure over the flows of all of them.
    pub(super) fn latency(self, metric: MarkMetric) -> Latency {
        let mut sum = Latency::new();
        for mark in self.each() {
            sum.merge(&mark.histogram(metric).expand());
        }
        sum
    }
}

impl Report {
    /// Takes in the marks of another run, told by the time of that.
    pub(super) fn merge_marks(&mut self, other: &Report) {
        let room = MAX_MARKS.saturating_sub(self.marks.len());
        let taken = other.marks.len().min(room);
        self.marks.extend(other.marks.iter().take(taken).cloned());
        let untaken = (other.marks.len() - taken) as u64;
        self.marks_untold = self
            .marks_untold
            .saturating_add(other.marks_untold)
            .saturating_add(untaken);
    }
}

/// The marks of several ranks, each of them once, with the flows of all. Marks of one name about the same are one in their order.
pub(super) fn of_ranks(reports: &[&Report]) -> Vec<MarkReport> {
    let mut all: Vec<MarkReport> = Vec::new();
    for report in reports {
        let mut is_taken = vec![false; all.len()];
        for mark in &report.marks {
            let candidates = all.iter_mut().zip(&mut is_taken);
            let mut same = candidates.filter(|(other, is_taken)| {
                !**is_taken && (&other.name, &other.detail) == (&mark.name, &mark.detail)
            });
            match same.next() {
                Some((other, is_taken)) => {
                    *is_taken = true;
                    other.add(mark);
                }
                None => all.push(mark.clone()),
            }
        }
    }
    all.sort_by_key(|mark| mark.at_ns);
    all
}

/// How many marks there were beside those that are told, in words.
pub(super) fn untold(report: &Report) -> Option<String> {
    (report.marks_untold > 0).then(|| {
        let more = super::units::counted(report.marks_untold, "mark");
        format!("and {more} more, without figures")
    })
}

#[cfg(test)]
mod tests;
