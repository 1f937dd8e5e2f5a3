//! Where the microseconds of a round trip go, where that was found out (`--path-split`).

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{counted, percent, span, span_or_dash};
use super::{Report, Table, encoding};
use crate::record::{
    Latency, LatencySummary, PathSplit, PathStage, PathWay, SparseLatency, StageTimes,
};

/// The parts of the round trips of pings that were followed by stamps (`--path-split`). Their times are without what the
/// stamps took.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PathSplitReport {
    /// Pings that were followed all the way.
    pub pings: u64,
    /// Pings that were to be and were not: lost, or not seen on a part of their way.
    pub incomplete: u64,
    /// What a stamp of the kernel took, in nanoseconds: from the medians of round trips with and without.
    pub kernel_stamp_ns: f64,
    /// What a stamp of this process took: a reading of the clock.
    pub clock_reading_ns: f64,
    /// Round trips of the same flows without stamps, right before.
    pub unstamped_rtt_ns: LatencySummary,
    /// Round trips of the pings that were followed, without what their stamps took: the stages of each ping sum to it.
    pub rtt_ns: LatencySummary,
    /// The histogram of `unstamped_rtt_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub unstamped_rtt: SparseLatency,
    /// The histogram of `rtt_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub rtt: SparseLatency,
}

/// One stage of the way of requests or replies.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageReport {
    /// The stage.
    pub stage: PathStage,
    /// The frame.
    pub direction: PathWay,
    /// How long it took.
    pub time_ns: LatencySummary,
    /// The histogram of that.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub time: SparseLatency,
}

impl StageReport {
    fn of(stage: PathStage, direction: PathWay, time: SparseLatency) -> StageReport {
        StageReport {
            stage,
            direction,
            time_ns: time.expand().summary(),
            time,
        }
    }
}

impl From<&PathSplit> for PathSplitReport {
    fn from(split: &PathSplit) -> PathSplitReport {
        PathSplitReport {
            pings: split.pings,
            incomplete: split.incomplete,
            kernel_stamp_ns: split.cost.by_kernel,
            clock_reading_ns: split.cost.by_process,
            unstamped_rtt_ns: split.unstamped.expand().summary(),
            rtt_ns: split.rtt.expand().summary(),
            unstamped_rtt: split.unstamped.clone(),
            rtt: split.rtt.clone(),
        }
    }
}

/// The stages of ways that were split, in the order of the way of the request and then of the reply.
pub(super) fn stages(split: Option<&PathSplit>) -> Vec<StageReport> {
    let stages = split.into_iter().flat_map(|split| &split.stages);
    let report = |of: &StageTimes| StageReport::of(of.stage, of.way, of.times.clone());
    stages.map(report).collect()
}

impl PathSplitReport {
    /// Takes in the pings of another run. What stamps took is the average over the pings of both.
    fn merge(&mut self, other: &PathSplitReport) {
        let pings = self.pings.saturating_add(other.pings);
        let average = |ours: f64, theirs: f64| match pings {
            0 => ours,
            _ => (ours * self.pings as f64 + theirs * other.pings as f64) / pings as f64,
        };
        self.kernel_stamp_ns = average(self.kernel_stamp_ns, other.kernel_stamp_ns);
        self.clock_reading_ns = average(self.clock_reading_ns, other.clock_reading_ns);
        self.pings = pings;
        self.incomplete = self.incomplete.saturating_add(other.incomplete);
        let unstamped = both(&self.unstamped_rtt, &other.unstamped_rtt);
        (self.unstamped_rtt, self.unstamped_rtt_ns) = unstamped;
        (self.rtt, self.rtt_ns) = both(&self.rtt, &other.rtt);
    }
}

impl Report {
    /// A stage of one way.
    fn path_stage(&self, stage: PathStage, way: PathWay) -> Option<&StageReport> {
        let mut stages = self.path_stages.iter();
        stages.find(|of| of.stage == stage && of.direction == way)
    }

    /// The median of a stage, in nanoseconds.
    pub(super) fn path_median(&self, stage: PathStage, way: PathWay) -> u64 {
        let stage = self.path_stage(stage, way);
        stage.and_then(|of| of.time_ns.p50).unwrap_or_default()
    }

    /// The sum of the medians of all stages of some ways.
    pub(super) fn sum_of_path_medians(&self, ways: &[PathWay]) -> u64 {
        let of_way = |way: &PathWay| {
            let stages = PathStage::ALL.into_iter();
            stages
                .map(|stage| self.path_median(stage, *way))
                .sum::<u64>()
        };
        ways.iter().map(of_way).sum()
    }

    /// The times of a stage of a frame, whichever way it went.
    pub(super) fn path_of_frame(&self, stage: PathStage) -> LatencySummary {
        let mut times = Latency::new();
        for of in self.path_stages.iter().filter(|of| of.stage == stage) {
            times.merge(&of.time.expand());
        }
        times.summary()
    }

    /// Takes in the stages of another run.
    pub(super) fn merge_path_split(&mut self, other: &Report) {
        match (&mut self.path_split, &other.path_split) {
            (Some(ours), Some(theirs)) => ours.merge(theirs),
            (ours @ None, theirs) => ours.clone_from(theirs),
            (Some(_), None) => {}
        }
        for theirs in &other.path_stages {
            let mut stages = self.path_stages.iter_mut();
            match stages.find(|of| (of.stage, of.direction) == (theirs.stage, theirs.direction)) {
                Some(ours) => (ours.time, ours.time_ns) = both(&ours.time, &theirs.time),
                None => self.path_stages.push(theirs.clone()),
            }
        }
    }
}

/// The times of both, and their summary.
fn both(one: &SparseLatency, other: &SparseLatency) -> (SparseLatency, LatencySummary) {
    let mut times = one.expand();
    times.merge(&other.expand());
    (SparseLatency::from(&times), times.summary())
}

/// The columns of the table of stages.
pub(super) const COLUMNS: [&str; 6] = [
    "stage",
    "request p50",
    "reply p50",
    "request p99",
    "reply p99",
    "share",
];

/// The rows of that table. The share is that of both medians in the sum of all.
pub(super) fn rows(report: &Report) -> Vec<[String; 6]> {
    let all = report.sum_of_path_medians(&PathWay::ALL).max(1);
    let row = |stage: PathStage| {
        let [request, reply] = PathWay::ALL.map(|way| report.path_stage(stage, way));
        let p99 = |of: Option<&StageReport>| span_or_dash(of.and_then(|of| of.time_ns.p99));
        let p50 = |of: Option<&StageReport>| span_or_dash(of.and_then(|of| of.time_ns.p50));
        let medians = PathWay::ALL.map(|way| report.path_median(stage, way));
        [
            stage.word().to_owned(),
            p50(request),
            p50(reply),
            p99(request),
            p99(reply),
            percent(medians.iter().sum::<u64>() as f64 / all as f64),
        ]
    };
    PathStage::ALL.map(row).into()
}

/// What is to be said of the stages beside their table, in sentences.
pub(super) fn sentences(report: &Report, split: &PathSplitReport) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(rtt) = split.rtt_ns.p50 {
        let stamps = |nanos: f64| span(nanos.round() as u64);
        sentences.push(format!(
            "The medians sum to {}; a round trip takes {} (p50), and as measured without stamps {}.",
            span(report.sum_of_path_medians(&PathWay::ALL)),
            span(rtt),
            span_or_dash(split.unstamped_rtt_ns.p50),
        ));
        sentences.push(format!(
            "Stamps are taken off: {} each of the kernel's, {} each of this process's.",
            stamps(split.kernel_stamp_ns),
            stamps(split.clock_reading_ns)
        ));
    }
    if split.incomplete > 0 {
        sentences.push(format!(
            "{} more had not all stamps: lost, or not seen on a part of the way.",
            counted(split.incomplete, "ping")
        ));
    }
    sentences
}

/// The heading of the table.
pub(super) fn heading(split: &PathSplitReport) -> String {
    if split.pings == 0 {
        return "No ping was followed to its end after the run, to split its way".to_owned();
    }
    let pings = counted(split.pings, "ping");
    format!("Where the time of {pings} went that were followed after the run")
}

/// Writes the stages for a person, if ways were split.
pub(super) fn text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let Some(split) = &report.path_split else {
        return Ok(());
    };
    writeln!(out)?;
    writeln!(out, "{}", heading(split))?;
    if split.pings > 0 {
        let mut table = Table::new(1, &COLUMNS);
        rows(report).into_iter().for_each(|row| table.row(row));
        for line in table.lines() {
            writeln!(out, "  {line}")?;
        }
    }
    for sentence in sentences(report, split) {
        writeln!(out, "  {sentence}")?;
    }
    Ok(())
}
