//! Reports of searches: what is carried, and every trial.

mod text;

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use text::search_text;

use super::expect::{Operator, operator};
use super::json::document;
use super::units::{count, percent, rate};
use super::{Outcome, Report};
use crate::record::Metric;
use crate::search::{Ending, Finding, Goal, Planned, Search, Verdict};

/// The name and version of the document's form, which changes as that of a report does.
pub const SEARCH_SCHEMA: &str = "tap-reactor/search/1";

/// What a search has found. Fields that end in `_ns` are nanoseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SearchReport {
    /// The name and version of the document's form.
    #[schemars(extend("const" = SEARCH_SCHEMA))]
    pub schema: String,
    /// The tool and its version.
    pub tool: String,
    /// The command that ran, in a line.
    pub run: String,
    /// When the first trial began, in milliseconds since 1970; absent of simulated ones.
    pub started_unix_ms: Option<u64>,
    /// How long it took, the set-up of the trials included.
    pub elapsed_ns: u64,
    /// True if it was ended before it was done, by a signal or because its time was over.
    pub interrupted: bool,
    /// What was varied.
    pub axis: String,
    /// The least load that was to be tried.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// What was found for each goal.
    pub goals: Vec<GoalReport>,
    /// The trials, in their order.
    pub trials: Vec<TrialReport>,
    /// The expectations of the search, and the result of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<Outcome>,
    /// Why it was ended before it was done, one sentence each; absent if it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortcomings: Vec<String>,
}

/// What holds of a search without shortcomings.
pub(super) const SEARCH_COMPLETE: &str = "the search is complete";

/// What was found for a goal.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GoalReport {
    /// The goal as it was written.
    pub goal: String,
    /// The greatest load at which it is met, below all at which it is not (RFC 9971, relevant lower bound).
    pub lower: Option<f64>,
    /// The least load at which it is not (relevant upper bound).
    pub upper: Option<f64>,
    /// What is carried of the lower one (conditional throughput).
    pub throughput: Option<f64>,
    /// How the search ended: with both bounds, with the end of the range or of the tool, or before it was done.
    pub ending: Ended,
    /// All of that for a person.
    pub sentence: String,
}

/// How the search for a goal ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Both bounds are known, as close as asked for.
    Found,
    /// Even the greatest load is carried.
    AboveRange,
    /// Not even the least is.
    BelowRange,
    /// The tool has come to its end before the network.
    LimitedByTool,
    /// There was no time for more.
    Unfinished,
}

/// A trial.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TrialReport {
    /// The load.
    pub load: f64,
    /// How long it was sent for.
    pub duration_ns: u64,
    /// What the trial tells of: the network, or nothing, because the tool was the limit or something else had the processor.
    pub valid: bool,
    /// For each goal, whether what is to hold did; empty of a trial that is not valid.
    #[serde(default)]
    pub good: Vec<bool>,
    /// Pings sent; in a trial of streams alone, frames.
    pub sent: u64,
    /// Pings that failed, or copies of frames that were lost.
    pub failed: u64,
    /// The share of them, from 0 to 1.
    pub loss: f64,
    /// Pings answered, or frames received, per second.
    pub rate_per_s: f64,
    /// 99 % of the round trips took at most this long.
    pub rtt_p99_ns: Option<u64>,
    /// In a trial of streams alone, so long took 99 % of the ways at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_way_p99_ns: Option<u64>,
    /// Verdict on the trial, for a person.
    pub sentence: String,
}

/// An expectation of a search, such as `throughput>200k`.
#[derive(Clone, PartialEq, Debug)]
pub struct SearchExpectation {
    text: String,
    operator: Operator,
    value: f64,
}

/// The words before a sign.
const THROUGHPUT: &str = "throughput";

impl std::str::FromStr for SearchExpectation {
    type Err = String;

    fn from_str(text: &str) -> Result<SearchExpectation, String> {
        let expected = || "expected a bound of what is carried, such as throughput>200k".to_owned();
        let rest = text.trim().strip_prefix(THROUGHPUT).ok_or_else(expected)?;
        let (operator, value) = operator(rest.trim_start()).ok_or_else(expected)?;
        let value = value.trim().trim_end_matches("/s").trim_end();
        let value = crate::number::number(value).ok_or_else(expected)?;
        Ok(SearchExpectation {
            text: text.trim().to_owned(),
            operator,
            value,
        })
    }
}

impl SearchExpectation {
    /// Checks the throughput of every goal.
    pub fn check(&self, report: &SearchReport) -> Outcome {
        let found: Option<Vec<f64>> = report.goals.iter().map(|goal| goal.throughput).collect();
        let found = found.filter(|found| !found.is_empty());
        let shown = found.as_ref().map(|found| {
            let each: Vec<_> = found.iter().map(|load| report.show(*load)).collect();
            each.join(", ")
        });
        Outcome {
            expectation: self.text.clone(),
            found: shown,
            holds: found.is_some_and(|found| {
                found
                    .iter()
                    .all(|each| self.operator.holds(*each, self.value))
            }),
        }
    }
}

impl SearchReport {
    /// What the 99th percentile of a trial is of.
    pub(super) fn p99_title(&self) -> &'static str {
        let is_of_streams = |trial: &TrialReport| trial.one_way_p99_ns.is_some();
        match self.trials.iter().any(is_of_streams) {
            true => "one-way p99",
            false => "rtt p99",
        }
    }

    /// Returns why the search fails, one sentence each: what was expected and does not hold, goals without a lower bound, and why it
    /// was ended early. Empty of a search that ends with exit status 0.
    pub fn why_failed(&self) -> Vec<String> {
        let unmet = self.expectations.iter().filter(|outcome| !outcome.holds);
        let unmet = unmet.map(ToString::to_string);
        let unbound = self.goals.iter().filter(|goal| goal.lower.is_none());
        let unbound = unbound.map(|goal| format!("{}: {}", goal.goal, goal.sentence));
        let early = self.shortcomings.iter().cloned();
        unmet.chain(unbound).chain(early).collect()
    }

    /// A load for a person.
    pub fn show(&self, load: f64) -> String {
        show(&self.axis, load)
    }
}

/// A load of `axis` for a person: pings per second, or a number.
pub fn show(axis: &str, load: f64) -> String {
    match axis {
        "rate" => rate(load),
        _ => count(load.round() as u64),
    }
}

impl TrialReport {
    /// The trial `planned`, of which `report` tells.
    pub fn new(planned: &Planned, verdict: &Verdict, report: &Report) -> TrialReport {
        let good = match verdict {
            Verdict::Measured { good, .. } => good.clone(),
            Verdict::Limited(_) | Verdict::Disturbed => Vec::new(),
        };
        let of_streams = report.stream_counts.filter(|_| report.is_of_streams());
        let (sent, failed, rate_per_s) = match of_streams {
            Some(counts) => (
                counts.sent,
                counts.lost,
                report.stream_rate().unwrap_or(0.0),
            ),
            None => (
                report.totals.sent,
                report.totals.failed(),
                report.rate_per_s,
            ),
        };
        TrialReport {
            load: planned.load,
            duration_ns: u64::try_from(planned.duration.as_nanos()).unwrap_or(u64::MAX),
            valid: matches!(verdict, Verdict::Measured { .. }),
            good,
            sent,
            failed,
            loss: report.loss(),
            rate_per_s,
            rtt_p99_ns: report.summaries[Metric::Rtt].p99,
            one_way_p99_ns: of_streams.and(report.summaries[Metric::Stream].p99),
            sentence: report.verdict.sentence.clone(),
        }
    }
}

impl TrialReport {
    /// 99 % of the round trips, or of streams alone of the ways, took at most so long.
    pub(super) fn p99(&self) -> Option<u64> {
        self.rtt_p99_ns.or(self.one_way_p99_ns)
    }
}

impl GoalReport {
    /// What was found for `goal`.
    pub fn new(goal: &Goal, finding: &Finding) -> GoalReport {
        GoalReport {
            goal: goal.to_string(),
            lower: finding.lower,
            upper: finding.upper,
            throughput: finding.throughput,
            ending: match finding.ending {
                Ending::Found => Ended::Found,
                Ending::Range => Ended::AboveRange,
                Ending::Least => Ended::BelowRange,
                Ending::Tool => Ended::LimitedByTool,
                Ending::Unfinished => Ended::Unfinished,
            },
            sentence: sentence(&goal.axis, finding),
        }
    }
}

/// What was found, for a person.
fn sentence(axis: &str, finding: &Finding) -> String {
    let show = |load: f64| show(axis, load);
    let what = match axis {
        "rate" => "The network carries",
        _ => "The goal is met up to",
    };
    let least = finding.lower.map(|lower| match finding.throughput {
        // As much as was sent, to a ten thousandth.
        Some(throughput) if lower - throughput > lower * 1e-4 => {
            format!("{} of {}", show(throughput), show(lower))
        }
        _ => show(lower),
    });
    match (finding.ending, least, finding.upper) {
        (Ending::Found, Some(least), Some(upper)) => {
            format!("{what} {least}; at {} the goal is not met.", show(upper))
        }
        (Ending::Range, Some(least), _) => {
            format!("{what} at least {least}, the greatest load of the range.")
        }
        (Ending::Least, _, Some(upper)) => {
            format!(
                "Not even at {} is the goal met, the least load of the range.",
                show(upper)
            )
        }
        (Ending::Tool, Some(least), None) => {
            format!("{what} at least {least}; this tool on this machine ends there.")
        }
        (Ending::Tool, None, _) => {
            "This tool on this machine ends below the range: nothing is known of the network."
                .to_owned()
        }
        (_, Some(least), Some(upper)) => {
            let upper = show(upper);
            format!(
                "{what} at least {least}; at {upper} the goal is not met. The search was not done."
            )
        }
        (_, Some(least), None) => format!("{what} at least {least}. The search was not done."),
        (_, None, Some(upper)) => {
            format!(
                "At {} the goal is not met. The search was not done.",
                show(upper)
            )
        }
        (_, None, None) => "Nothing is known yet. The search was not done.".to_owned(),
    }
}

/// The findings of `search`, so far, for a line of progress: what it is between, for each goal.
pub fn progress(axis: &str, search: &Search) -> String {
    let each = search.findings().into_iter().map(|finding| {
        let show = |load: Option<f64>| load.map_or_else(|| "?".to_owned(), |load| show(axis, load));
        format!("{} to {}", show(finding.lower), show(finding.upper))
    });
    each.collect::<Vec<_>>().join("; ")
}

/// What a trial was, in a line of progress.
pub fn trial_words(axis: &str, trial: &TrialReport) -> String {
    let what = match (trial.valid, trial.good.as_slice()) {
        (false, _) => "the tool was the limit".to_owned(),
        (true, good) if good.iter().all(|good| *good) => "good".to_owned(),
        (true, [_]) => "bad".to_owned(),
        (true, good) => {
            let met = good.iter().filter(|good| **good).count();
            format!("good for {met} of {} goals", good.len())
        }
    };
    let load = show(axis, trial.load);
    format!("{load}: {what}, {} lost", percent(trial.loss))
}

/// Writes the document and a line end.
///
/// # Errors
/// When `out` can't be written to.
pub fn search_json(report: &SearchReport, out: &mut impl Write) -> io::Result<()> {
    document(report, out)
}
