//! Two runs side by side: what differs, and whether it differs by more than the runs themselves vary.

mod spread;
mod text;

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

pub use text::compare_text;
pub(super) use text::row;

use super::json::document;
use super::provenance::unlike;
use super::units::count;
use super::{Report, SecondReport, Unlike};
use crate::record::{Count, LatencySummary, Metric, Scope, Totals};

/// The name and version of the form of a [`Comparison`] as JSON.
pub const COMPARISON_SCHEMA: &str = "tap-reactor/comparison/1";

/// What two runs differ in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// [`COMPARISON_SCHEMA`].
    pub schema: String,
    /// What the runs differ in besides their figures: plan, fabric, version, machine.
    #[serde(default)]
    pub unlike: Vec<Unlike>,
    /// The run that is compared with.
    pub before: Side,
    /// The run that is compared.
    pub after: Side,
    /// Figures of every metric, loss and rate.
    pub differences: Vec<Difference>,
}

/// One of the two runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Side {
    /// What it is called here, such as its file's name.
    pub name: String,
    /// What ran.
    pub run: String,
    /// Whether its figures describe something else than the network: the tool's limit, or a disturbance.
    pub limited_by_tool: bool,
    /// The verdict on it.
    pub verdict: String,
    /// What became of its pings, if none was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<String>,
}

/// What a figure is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Nanoseconds.
    Ns,
    /// A share from 0 to 1.
    Share,
    /// Events per second.
    PerSecond,
}

/// One figure of both runs. What a run does not have is absent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Its name, such as `rtt.p99`.
    pub figure: String,
    /// What it is counted in.
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
    /// run that varies more. Absent if a run has fewer than [`SECONDS_NEEDED`] whole seconds.
    pub spread: Option<f64>,
    /// Whether the difference is larger than the spread; absent if the spread is.
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
    /// Whether it is compared of metrics that are not kept by the second too.
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
            Figure::Rate => (report.elapsed_ns > 0).then_some(report.rate_per_s),
        }
    }

    /// As a second of a run has it.
    fn of_second(self, second: &SecondReport) -> Option<f64> {
        match self {
            Figure::Latency(metric, statistic) => nanos((statistic.of)(second.latency(metric)?.0)),
            Figure::Loss => {
                let ended = second.received.saturating_add(second.failed);
                (ended > 0).then(|| second.failed as f64 / ended as f64)
            }
            Figure::Rate => Some(second.received as f64 * 1e9 / second.length_ns.max(1) as f64),
        }
    }
}

fn nanos(figure: Option<u64>) -> Option<f64> {
    figure.map(|nanos| nanos as f64)
}

/// Compares `after` with `before`; each comes with what to call it, such as its file's name.
pub fn compare(before: (&str, &Report), after: (&str, &Report)) -> Comparison {
    let difference = |figure: Figure| {
        let values = [before.1, after.1].map(|run| figure.of_run(run));
        let both = values[0].zip(values[1]);
        let spreads = [before.1, after.1]
            .map(|run| spread::within(&run.seconds, |second| figure.of_second(second)));
        let spread = spreads[0]
            .zip(spreads[1])
            .map(|(one, other)| one.max(other));
        let difference = both.map(|(before, after)| after - before);
        Difference {
            figure: figure.name(),
            quantity: figure.quantity(),
            before: values[0],
            after: values[1],
            difference,
            ratio: both
                .filter(|(before, _)| *before > 0.0)
                .map(|(before, after)| after / before),
            spread,
            beyond_spread: difference.zip(spread).map(|(by, spread)| by.abs() > spread),
        }
    };
    Comparison {
        schema: COMPARISON_SCHEMA.to_owned(),
        unlike: unlike(&[before.1, after.1]),
        before: Side::new(before),
        after: Side::new(after),
        differences: Figure::all().map(difference).collect(),
    }
}

impl Side {
    fn new((name, report): (&str, &Report)) -> Side {
        Side {
            name: name.to_owned(),
            run: report.run.clone(),
            limited_by_tool: !report.verdict.is_of_network(),
            verdict: report.verdict.sentence.clone(),
            outage: outage(&report.totals),
        }
    }
}

impl Comparison {
    /// The figures that at least one of the runs has.
    pub(super) fn known(&self) -> impl Iterator<Item = &Difference> + Clone {
        let is_known = |each: &&Difference| each.before.is_some() || each.after.is_some();
        self.differences.iter().filter(is_known)
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

    /// Whether the runs differ: by more than they vary, or because one of them is an outage and the other is not.
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

    /// What it comes to, in a sentence.
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

/// Whether two runs differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// They do.
    Yes,
    /// They do not, as far as figures tell.
    No,
    /// Nothing can be said.
    Unknown,
}

/// What became of the pings, if none was answered.
fn outage(totals: &Totals) -> Option<String> {
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

/// Writes a comparison as one JSON document and a line end.
///
/// # Errors
/// When `out` can't be written to.
pub fn compare_json(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    document(comparison, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn of<'a>(comparison: &'a Comparison, figure: &str) -> &'a Difference {
        let found = comparison
            .differences
            .iter()
            .find(|each| each.figure == figure);
        found.unwrap()
    }

    #[test]
    fn a_run_does_not_differ_from_itself() {
        let report = fixtures::report();
        let same = compare(("a", &report), ("b", &report));
        for each in &same.differences {
            assert_eq!(each.difference, Some(0.0), "{each:?}");
            // Where a metric is not kept by the second, nobody knows how much it varies.
            assert_ne!(each.beyond_spread, Some(true), "{each:?}");
        }
        assert_eq!(same.beyond_spread(), (0, 14));
        assert!(same.sentence().starts_with("No figure differs"));
    }

    #[test]
    fn a_run_three_times_slower_differs_by_that_and_not_in_rate() {
        let (before, after) = (fixtures::report(), fixtures::slower(3));
        let comparison = compare(("a.json", &before), ("b.json", &after));
        let p50 = of(&comparison, "rtt.p50");
        assert!((p50.ratio.unwrap() - 3.0).abs() < 0.01, "{p50:?}");
        assert!(p50.difference.unwrap() > 0.0);
        assert_eq!(p50.beyond_spread, Some(true), "{p50:?}");
        assert_eq!(of(&comparison, "rate").beyond_spread, Some(false));
        assert_eq!(of(&comparison, "loss").ratio, Some(1.0));
    }

    #[test]
    fn of_short_runs_no_spread_is_told() {
        let mut short = fixtures::report();
        short.seconds.truncate(SECONDS_NEEDED - 1);
        let comparison = compare(("a", &short), ("b", &fixtures::report()));
        assert!(
            comparison
                .differences
                .iter()
                .all(|each| each.beyond_spread.is_none())
        );
        assert!(comparison.sentence().starts_with("Whether"));
    }

    #[test]
    fn a_second_in_which_no_ping_ended_says_nothing_of_loss() {
        let mut idle = fixtures::report();
        (idle.seconds[2].received, idle.seconds[2].failed) = (0, 0);
        let comparison = compare(("a", &idle), ("b", &idle));
        let loss = of(&comparison, "loss");
        assert!(loss.spread.is_some_and(f64::is_finite), "{loss:?}");
        assert_eq!(loss.beyond_spread, Some(false));
    }

    #[test]
    fn what_a_run_does_not_have_is_absent() {
        use crate::record::{Limits, Recorder};
        use crate::report::Context;
        let empty = Report::new(&Recorder::new(Limits::default()), &Context::default());
        let comparison = compare(("a", &empty), ("b", &fixtures::report()));
        for each in &comparison.differences {
            assert_eq!(
                (each.before, each.difference, each.ratio),
                (None, None, None),
                "{each:?}"
            );
        }
    }

    #[test]
    fn an_outage_is_told_as_one_and_is_a_change() {
        let report = |totals: Totals| Report {
            totals,
            ..fixtures::report()
        };
        let calm = fixtures::report();
        let attempted = Totals {
            sent: 1_000,
            lost: 1_000,
            unresolved: 500,
            corrupt: 2,
            errored: 3,
            unsent: 4,
            ..Totals::default()
        };
        let out = report(attempted);
        let none = report(Totals::default());
        let all = "no ping was answered (1,000 lost, 500 unresolved, 2 corrupt, 3 errored, 4 due but never sent)";
        let unresolved = report(Totals {
            unresolved: 5,
            ..Totals::default()
        });
        for (before, after, change, sentence) in [
            (
                &calm,
                &out,
                Change::Yes,
                format!("An outage: of after, {all}."),
            ),
            (
                &out,
                &calm,
                Change::Yes,
                format!("An outage has ended: of before, {all}."),
            ),
            (
                &calm,
                &none,
                Change::Yes,
                "An outage: of after, no ping was sent.".to_owned(),
            ),
            (
                &calm,
                &unresolved,
                Change::Yes,
                "An outage: of after, no ping was answered (5 unresolved).".to_owned(),
            ),
            (
                &none,
                &out,
                Change::Unknown,
                format!(
                    "Neither run can be compared: of before, no ping was sent; of after, {all}."
                ),
            ),
        ] {
            let comparison = compare(("before", before), ("after", after));
            assert_eq!(comparison.sentence(), sentence);
            assert_eq!(comparison.change(), change, "{sentence}");
        }
        let one = report(Totals {
            received: 1,
            ..attempted
        });
        assert_eq!(compare(("a", &one), ("b", &one)).before.outage, None);
    }

    #[test]
    fn runs_that_differ_by_more_than_they_vary_have_changed() {
        let mut short = fixtures::report();
        short.seconds.truncate(SECONDS_NEEDED - 1);
        for (after, change, sentence) in [
            (fixtures::report(), Change::No, "No figure differs by more"),
            (
                fixtures::slower(3),
                Change::Yes,
                "12 of 14 figures differ by more",
            ),
            (
                short,
                Change::Unknown,
                "Whether the differences mean anything",
            ),
        ] {
            let comparison = compare(("a", &fixtures::report()), ("b", &after));
            assert_eq!(comparison.change(), change, "{sentence}");
            assert!(
                comparison.sentence().starts_with(sentence),
                "{}",
                comparison.sentence()
            );
        }
    }

    #[test]
    fn a_comparison_as_json_is_read_back() {
        let comparison = compare(("a", &fixtures::report()), ("b", &fixtures::slower(2)));
        let mut out = Vec::new();
        compare_json(&comparison, &mut out).unwrap();
        assert_eq!(
            serde_json::from_slice::<Comparison>(&out).unwrap(),
            comparison
        );
    }
}
