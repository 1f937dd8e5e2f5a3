//! Runs side by side: each is compared with the first, the baseline. A comparison says what differs, and whether it
//! differs by more than the two runs themselves vary.

mod names;
pub(super) mod spread;
mod sweep;
mod text;

use std::collections::BTreeSet;
use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use names::short_names;
pub use sweep::{breaking_point, sweep_text};
pub use text::compare_text;
pub(super) use text::{cells, names, row};

use super::connections;
use super::floods::FloodReport;
use super::json::document;
use super::marks::{MarkReport, Marks};
use super::misbehaviours::{ResponseReport, others_during};
use super::provenance::unlike;
use super::units::count;
use super::{Report, SecondReport, StreamCounts, StreamSpread, Unlike};
use crate::record::{
    Cause, Count, FloodKind, LatencySummary, MarkMetric, Metric, PathStage, Scope,
};

/// The name and version of the form of a [`Comparison`] as JSON.
pub const COMPARISON_SCHEMA: &str = "tap-reactor/comparison/1";

/// A run compared with the baseline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The name and version of the document's form.
    #[schemars(extend("const" = COMPARISON_SCHEMA))]
    pub schema: String,
    /// Differences of the runs besides their figures: plan, fabric, version, machine.
    #[serde(default)]
    pub unlike: Vec<Unlike>,
    /// The baseline.
    pub before: Side,
    /// The run that is compared with it.
    pub after: Side,
    /// Figures of every metric, loss and rate.
    pub differences: Vec<Difference>,
}

/// One of the two runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Side {
    /// Its name here, such as its file's.
    pub name: String,
    /// The command that ran.
    pub run: String,
    /// True if its figures do not describe the network: the tool was the limit, or the run was disturbed.
    pub limited_by_tool: bool,
    /// The verdict on it.
    pub verdict: String,
    /// Counts of its pings as text, if none was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<String>,
    /// True if the run was ended before it was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Why a user would call it broken: pings whose neighbour was not found, or an expectation that does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// The unit of a figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Nanoseconds.
    Ns,
    /// A share from 0 to 1.
    Share,
    /// Events per second.
    PerSecond,
    /// A number of flows.
    Flows,
    /// A number of pings that failed.
    Pings,
    /// A number of frames, or of their copies.
    Frames,
    /// A number of TCP connections.
    Connections,
    /// A number of TCP segments.
    Segments,
}

/// One figure of both runs. What a run does not have is absent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// Its name, such as `rtt.p99`.
    pub figure: String,
    /// Its unit.
    pub quantity: Quantity,
    /// The first run's.
    pub before: Option<f64>,
    /// The second run's.
    pub after: Option<f64>,
    /// after − before.
    pub difference: Option<f64>,
    /// after ÷ before; absent if before is 0.
    pub ratio: Option<f64>,
    /// How much the figure varies within a run: twice the standard deviation of its value in each whole second, of the
    /// run that varies more; of loss, twice the standard error of the difference of the two shares. Absent if a run has
    /// fewer than [`SECONDS_NEEDED`] whole seconds. Of the flows that passed since a mark, the difference of the flows that
    /// pinged, if that does not explain the difference; else absent.
    pub spread: Option<f64>,
    /// True if the difference is larger than the spread; absent if the spread is.
    pub beyond_spread: Option<bool>,
}

/// From fewer seconds than this no spread is told.
pub const SECONDS_NEEDED: usize = 5;

/// A figure that is compared.
#[derive(Clone, Copy)]
enum Figure {
    Latency(Metric, &'static Statistic),
    Loss,
    Rate,
}

/// A figure of a latency.
struct Statistic {
    name: &'static str,
    of: fn(&LatencySummary) -> Option<u64>,
    /// True if it is also compared for metrics that are not recorded by the second.
    always: bool,
}

/// A [`Statistic`] by the name of its field.
macro_rules! statistic {
    ($field:ident, $always:literal) => {
        Statistic {
            name: stringify!($field),
            of: |summary| summary.$field,
            always: $always,
        }
    };
}

const STATISTICS: [Statistic; 6] = [
    statistic!(p50, true),
    statistic!(p90, false),
    statistic!(p99, true),
    statistic!(p99_9, false),
    statistic!(max, true),
    statistic!(mean, false),
];

impl Figure {
    /// All figures, in the order in which they are told.
    fn all() -> impl Iterator<Item = Figure> {
        let of = move |&metric: &Metric| {
            let told = STATISTICS
                .iter()
                .filter(move |of| of.always || metric.scope() == Scope::Second);
            told.map(move |statistic| Figure::Latency(metric, statistic))
        };
        let latencies = Metric::ALL.iter().flat_map(of);
        latencies.chain([Figure::Loss, Figure::Rate])
    }

    fn name(self) -> String {
        match self {
            Figure::Latency(metric, statistic) => format!("{metric}.{}", statistic.name),
            Figure::Loss => "loss".to_owned(),
            Figure::Rate => "rate".to_owned(),
        }
    }

    const fn quantity(self) -> Quantity {
        match self {
            Figure::Latency(..) => Quantity::Ns,
            Figure::Loss => Quantity::Share,
            Figure::Rate => Quantity::PerSecond,
        }
    }

    /// As a run has it.
    fn of_run(self, report: &Report) -> Option<f64> {
        match self {
            Figure::Latency(metric, statistic) => nanos((statistic.of)(&report.summaries[metric])),
            Figure::Loss => (report.totals.ended() > 0).then(|| report.totals.loss()),
            Figure::Rate => {
                let is_pinged = report.stream_counts.is_none() || report.totals.attempted() > 0;
                (is_pinged && report.elapsed_ns > 0).then_some(report.rate_per_s)
            }
        }
    }

    /// As a second of a run has it; nothing of loss, which is judged by its [counts](spread::of_loss).
    fn of_second(self, second: &SecondReport) -> Option<f64> {
        match self {
            Figure::Latency(metric, statistic) => nanos((statistic.of)(second.latency(metric)?.0)),
            Figure::Loss => None,
            Figure::Rate => Some(second.received as f64 * 1e9 / second.length_ns.max(1) as f64),
        }
    }
}

fn nanos(figure: Option<u64>) -> Option<f64> {
    figure.map(|nanos| nanos as f64)
}

/// Compares each run but the first with the first, the baseline: of N runs there are N − 1 comparisons. Each run comes with
/// its name, such as its file's.
pub fn compare(runs: &[(&str, &Report)]) -> Vec<Comparison> {
    match runs {
        [before, others @ ..] => others.iter().map(|after| pair(*before, *after)).collect(),
        [] => Vec::new(),
    }
}

fn pair(before: (&str, &Report), after: (&str, &Report)) -> Comparison {
    let difference = |figure: Figure| {
        let values = [before.1, after.1].map(|run| figure.of_run(run));
        let spread = match figure {
            Figure::Loss => spread::of_loss(before.1, after.1),
            Figure::Latency(Metric::Stream, of) => {
                greater([before.1, after.1].map(|run| stream_spread(run)?.of(of.name)))
            }
            _ => {
                let within =
                    |run: &Report| spread::within(&run.seconds, |second| figure.of_second(second));
                greater([before.1, after.1].map(within))
            }
        };
        Difference::new(figure.name(), figure.quantity(), values, spread)
    };
    Comparison {
        schema: COMPARISON_SCHEMA.to_owned(),
        unlike: unlike(&[before.1, after.1]),
        before: Side::new(before),
        after: Side::new(after),
        differences: Figure::all()
            .map(difference)
            .chain(of_losses(before.1, after.1))
            .chain(of_marks(before.1, after.1))
            .chain(of_misbehaviours(before.1, after.1))
            .chain(of_streams(before.1, after.1))
            .chain(of_floods(before.1, after.1))
            .chain(connections::differences(before.1, after.1))
            .chain(of_path(before.1, after.1))
            .collect(),
    }
}

/// The spread of the run that varies more.
fn greater(spreads: [Option<f64>; 2]) -> Option<f64> {
    let [one, other] = spreads;
    Some(one?.max(other?))
}

/// How much streams vary within a run.
fn stream_spread(run: &Report) -> Option<StreamSpread> {
    run.stream_totals?.spread
}

/// Failed pings by cause, of each cause that one of the runs has. How much that varies is not known.
fn of_losses(before: &Report, after: &Report) -> Vec<Difference> {
    let counts = Cause::ALL.iter().map(|cause| {
        let of = |run: &Report| Some(run.lost_for(*cause)? as f64);
        (cause, [of(before), of(after)])
    });
    let occurred = counts.filter(|(_, counts)| counts.iter().any(|count| *count > Some(0.0)));
    occurred
        .map(|(cause, counts)| {
            let figure = format!("losses.{cause}");
            Difference::new(figure, Quantity::Pings, counts, None)
        })
        .collect()
}

/// What was measured from marks on, of each name that one of the runs has. How much the times vary is not known. Flows that
/// passed in one run only are a change however short the runs are: a policy that never takes effect has no time that differs.
fn of_marks(before: &Report, after: &Report) -> Vec<Difference> {
    let mut names: Vec<&str> = Marks::of(before).iter().map(|marks| marks.name).collect();
    let others = Marks::of(after).into_iter().map(|marks| marks.name);
    let others: Vec<_> = others.filter(|name| !names.contains(name)).collect();
    names.extend(others);
    let mut differences = Vec::new();
    for name in names {
        let sum = |of: fn(&MarkReport) -> u64| {
            [before, after].map(|run| {
                let marks = Marks::named(run, name)?;
                Some(marks.each().map(of).sum::<u64>() as f64)
            })
        };
        let (passed, flows) = (sum(|mark| mark.passed), sum(|mark| mark.flow_count));
        let apart = |[before, after]: [Option<f64>; 2]| Some((after? - before?).abs());
        let explained = apart(flows).filter(|flows| apart(passed) > Some(*flows));
        for (what, values, spread) in [("passed", passed, explained), ("flows", flows, None)] {
            let figure = format!("mark.{name}.{what}");
            differences.push(Difference::new(figure, Quantity::Flows, values, spread));
        }
        for &metric in MarkMetric::ALL.iter().filter(|metric| metric.is_time()) {
            let summaries = [before, after].map(|run| {
                let marks = Marks::named(run, name);
                marks.map(|marks| marks.latency(metric).summary())
            });
            for statistic in STATISTICS.iter().filter(|statistic| statistic.always) {
                let value = |summary: &Option<LatencySummary>| {
                    nanos(summary.as_ref().and_then(statistic.of))
                };
                let figure = format!("mark.{name}.{metric}.{}", statistic.name);
                let [before, after] = [value(&summaries[0]), value(&summaries[1])];
                differences.push(Difference::new(figure, Quantity::Ns, [before, after], None));
            }
        }
    }
    differences
}

/// What misbehaviours of each kind that one of the runs has did to the flows between VMs that behave, while they lasted. How
/// much that varies is not known.
fn of_misbehaviours(before: &Report, after: &Report) -> Vec<Difference> {
    let all = before.misbehaviours.iter().chain(&after.misbehaviours);
    let kinds: BTreeSet<&str> = all.map(|each| each.summary.kind.as_str()).collect();
    let mut differences = Vec::new();
    for kind in kinds {
        let during = [before, after].map(|run| others_during(run, kind));
        let name = |what: &str| format!("misbehave.{kind}.{what}");
        let losses = during.each_ref().map(ResponseReport::loss);
        differences.push(Difference::new(name("loss"), Quantity::Share, losses, None));
        for statistic in STATISTICS.iter().filter(|statistic| statistic.always) {
            let values = during
                .each_ref()
                .map(|of| nanos((statistic.of)(&of.response_ns)));
            let figure = name(&format!("response.{}", statistic.name));
            differences.push(Difference::new(figure, Quantity::Ns, values, None));
        }
    }
    differences
}

/// What became of the frames of streams, if one of the runs has some, of each count that one of them has. How much that varies is
/// known of loss and rate.
fn of_streams(before: &Report, after: &Report) -> Vec<Difference> {
    let both = [before, after];
    if both.iter().all(|run| run.stream_counts.is_none()) {
        return Vec::new();
    }
    let difference = |name: &str, quantity, of: &dyn Fn(&Report) -> Option<f64>| {
        let figure = format!("streams.{name}");
        Difference::new(figure, quantity, both.map(of), None)
    };
    let count = |run: &Report, name: &str| run.stream_counts?.get(name);
    let occurred = StreamCounts::NAMES
        .iter()
        .filter(|(name, _)| both.iter().any(|run| count(run, name) > Some(0)));
    let counts = occurred.map(|(name, _)| {
        difference(
            name,
            Quantity::Frames,
            &|run| Some(count(run, name)? as f64),
        )
    });
    let loss = |run: &Report| Some(run.stream_counts?.loss());
    let spread = spread::of_stream_loss(before, after);
    let others = [
        Difference::new(
            "streams.loss".to_owned(),
            Quantity::Share,
            both.map(loss),
            spread,
        ),
        Difference::new(
            "streams.rate".to_owned(),
            Quantity::PerSecond,
            both.map(Report::stream_rate),
            greater(both.map(|run| stream_spread(run)?.of("rate"))),
        ),
    ];
    let causes = Cause::ALL.iter().map(|cause| {
        let frames = |run: &Report| Some(run.frames_lost_for(*cause)? as f64);
        let name = format!("losses.{cause}");
        difference(&name, Quantity::Frames, &frames)
    });
    let occurred = Cause::ALL
        .iter()
        .map(|cause| both.iter().any(|run| run.frames_lost_for(*cause) > Some(0)));
    let causes = causes
        .zip(occurred)
        .filter_map(|(one, occurred)| occurred.then_some(one));
    others.into_iter().chain(counts).chain(causes).collect()
}

/// What was flooded, of each kind that one of the runs has counted. How much that varies is not known.
fn of_floods(before: &Report, after: &Report) -> Vec<Difference> {
    let mut differences = Vec::new();
    for kind in FloodKind::ALL {
        let floods = [before, after].map(|run| run.floods.iter().find(|of| of.kind == kind));
        if floods == [None, None] {
            continue;
        }
        let mut add = |what: &str, quantity, of: &dyn Fn(&FloodReport) -> Option<f64>| {
            let figure = format!("floods.{}.{what}", kind.name());
            let values = floods.map(|flood| of(flood?));
            differences.push(Difference::new(figure, quantity, values, None));
        };
        let frames = Quantity::Frames;
        add("frames", frames, &|of| Some(of.frames as f64));
        add("copies", frames, &|of| Some(of.copies as f64));
        add("amplification", frames, &|of| Some(of.amplification));
        add("repeated", frames, &|of| Some(of.repeated as f64));
        add("unwanted", frames, &|of| Some(of.unwanted as f64));
        for statistic in STATISTICS.iter().filter(|statistic| statistic.always) {
            let what = format!("last_copy.{}", statistic.name);
            add(&what, Quantity::Ns, &|of| {
                nanos((statistic.of)(&of.last_copy_ns))
            });
        }
    }
    differences
}

/// How long the stages of the way of a frame took, if one of the runs has split it. How much that varies is not known.
fn of_path(before: &Report, after: &Report) -> Vec<Difference> {
    let both = [before, after].map(|run| run.path_split.as_ref());
    if both == [None, None] {
        return Vec::new();
    }
    let difference = |name: String, summaries: [Option<LatencySummary>; 2]| {
        STATISTICS[..]
            .iter()
            .filter(|statistic| statistic.always)
            .map(move |statistic| {
                let values = summaries.map(|of| nanos(of.as_ref().and_then(statistic.of)));
                let figure = format!("path.{name}.{}", statistic.name);
                Difference::new(figure, Quantity::Ns, values, None)
            })
    };
    let rtt = both.map(|split| split.map(|split| split.rtt_ns));
    let mut differences: Vec<_> = difference("rtt".to_owned(), rtt).collect();
    for stage in PathStage::ALL {
        let times = [before, after].map(|run| {
            let is_split = run.path_split.is_some();
            is_split.then(|| run.path_of_frame(stage))
        });
        differences.extend(difference(stage.name().to_owned(), times));
    }
    differences
}

impl Difference {
    pub(super) fn new(
        figure: String,
        quantity: Quantity,
        values: [Option<f64>; 2],
        spread: Option<f64>,
    ) -> Difference {
        let both = values[0].zip(values[1]);
        let difference = both.map(|(before, after)| after - before);
        Difference {
            figure,
            quantity,
            before: values[0],
            after: values[1],
            difference,
            ratio: both
                .filter(|(before, _)| *before > 0.0)
                .map(|(before, after)| after / before),
            spread,
            beyond_spread: difference.zip(spread).map(|(by, spread)| by.abs() > spread),
        }
    }

    /// Returns true if one of the runs has the figure.
    pub(super) const fn is_known(&self) -> bool {
        self.before.is_some() || self.after.is_some()
    }

    /// The figure of `after` judged against that of `before`; nothing where the spread is not known.
    pub fn judgement(&self) -> Option<Judgement> {
        let more = self.difference? > 0.0;
        Some(match (self.beyond_spread?, self.quantity) {
            (false, _) => Judgement::Same,
            (true, Quantity::PerSecond | Quantity::Flows) if more => Judgement::Better,
            (true, Quantity::Ns | Quantity::Share | Quantity::Pings | Quantity::Frames)
                if !more =>
            {
                Judgement::Better
            }
            (true, _) => Judgement::Worse,
        })
    }
}

/// A figure of one run, judged against the baseline's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Less latency or loss, a higher rate or more flows that passed, by more than the runs vary.
    Better,
    /// More latency or loss, a lower rate or fewer flows that passed, by more than the runs vary.
    Worse,
    /// A difference that is no larger than what the runs vary by.
    Same,
}

impl Judgement {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Judgement::Better => "better",
            Judgement::Worse => "worse",
            Judgement::Same => "same",
        }
    }
}

impl Side {
    fn new((name, report): (&str, &Report)) -> Side {
        Side {
            name: name.to_owned(),
            run: report.run.clone(),
            limited_by_tool: !report.verdict.is_of_network(),
            verdict: report.verdict.sentence.clone(),
            outage: outage(report),
            interrupted: report.interrupted,
            fault: sweep::fault(report),
        }
    }
}

impl Comparison {
    /// The figures that at least one of the runs has.
    pub(super) fn known(&self) -> impl Iterator<Item = &Difference> + Clone {
        self.differences.iter().filter(|each| each.is_known())
    }

    /// How many figures differ by more than the runs vary, of how many of which that can be said.
    pub fn beyond_spread(&self) -> (usize, usize) {
        let judged = self
            .differences
            .iter()
            .filter_map(|each| each.beyond_spread);
        (
            judged.clone().filter(|beyond| *beyond).count(),
            judged.count(),
        )
    }

    /// Judges the runs: they differ by more than they vary, or because one of them is an outage and the other is not.
    pub fn change(&self) -> Change {
        match (
            &self.before.outage,
            &self.after.outage,
            self.beyond_spread(),
        ) {
            (Some(_), Some(_), _) => Change::Unknown,
            (Some(_), None, _) | (None, Some(_), _) => Change::Yes,
            (None, None, (_, 0)) => Change::Unknown,
            (None, None, (0, _)) => Change::No,
            (None, None, _) => Change::Yes,
        }
    }

    /// The result in a sentence.
    pub fn sentence(&self) -> String {
        let (before, after) = (&self.before, &self.after);
        match (&before.outage, &after.outage) {
            (Some(one), Some(other)) => {
                return format!(
                    "Neither run can be compared: of {}, {one}; of {}, {other}.",
                    before.name, after.name
                );
            }
            (Some(one), None) => return format!("An outage has ended: of {}, {one}.", before.name),
            (None, Some(other)) => return format!("An outage: of {}, {other}.", after.name),
            (None, None) => {}
        }
        match self.beyond_spread() {
            (_, 0) => format!(
                "Whether the differences mean anything can't be said: that takes {SECONDS_NEEDED} whole seconds \
                 of each run."
            ),
            (0, _) => {
                "No figure differs by more than the runs vary from second to second.".to_owned()
            }
            (some, all) => {
                format!(
                    "{some} of {all} figures differ by more than the runs vary from second to second."
                )
            }
        }
    }
}

/// The judgement of two runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// They do.
    Yes,
    /// They do not, as far as figures tell.
    No,
    /// Nothing can be said.
    Unknown,
}

/// Counts of the pings as text, if none was answered; in a run of streams alone, those of frames, if none came of those that were to.
fn outage(report: &Report) -> Option<String> {
    let totals = &report.totals;
    let has_streams = report.stream_totals.is_some_and(|of| of.streams > 0);
    let is_of_streams = has_streams && totals.attempted() == 0;
    if let Some(frames) = report.stream_counts.filter(|_| is_of_streams) {
        return match (frames.sent, frames.expected, frames.received) {
            (0, ..) => Some("no frame was sent".to_owned()),
            (_, 1.., 0) => Some(format!("no frame came ({} lost)", count(frames.lost))),
            _ => None,
        };
    }
    if totals.received > 0 {
        return None;
    }
    let ends = [
        Count::Lost,
        Count::Unresolved,
        Count::Corrupt,
        Count::Errored,
        Count::Unsent,
    ];
    let ends = ends.into_iter().filter(|each| totals.get(*each) > 0);
    let ends: Vec<_> = ends
        .map(|each| format!("{} {}", count(totals.get(each)), each.words()))
        .collect();
    let what = match totals.attempted() {
        0 => "no ping was sent",
        _ => "no ping was answered",
    };
    Some(match ends.as_slice() {
        [] => what.to_owned(),
        ends => format!("{what} ({})", ends.join(", ")),
    })
}

/// Writes one comparison as one JSON document, several as a list of such documents; and a line end.
///
/// # Errors
/// When `out` can't be written to.
pub fn compare_json(comparisons: &[Comparison], out: &mut impl Write) -> io::Result<()> {
    match comparisons {
        [one] => document(one, out),
        several => document(&several, out),
    }
}

#[cfg(test)]
mod tests;
