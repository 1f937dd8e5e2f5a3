//! Expectations of a run's figures, as `--expect` gives them, and their results.
//!
//! ```text
//! expectation = figure operator value
//! figure      = [metric "."] statistic | count | "loss" | "rate" | "losses." cause | "mark." name "." of_mark
//!             | "floods." kind "." of_flood | "streams." of_stream | "connections." of_connections
//! metric      = a name of the table of metrics, such as "rtt" or "boot"; rtt if none is named
//! statistic   = "min" | "mean" | "stdev" | "max" | "p" number                         (p50, p99, p99.9, p99_9, …)
//! count       = a name of the table of counts, such as "received" | "drops"
//! cause       = a name of the table of causes, such as "unknown" or "queue_full": the pings that failed for it
//! name        = that of one or more marks, all of which it is about
//! of_mark     = ["first_pass." | "last_pass." | "longest_gap." | "changes."] statistic | "changes"     (the most of a flow)
//!             | "passed" | "flows" | "marks"
//! kind        = that of frames that were flooded, such as "unknown_unicast"
//! of_flood    = "frames" | "copies" | "repeated" | "unwanted" | "last_copy." statistic
//! of_stream   = a name of the counts of streams, such as "lost" or "leaked" | "loss" | "rate"
//!             | "jitter" | "longest_gap" | "longest_loss" | "extent"     (the most of a stream)
//! of_connections = "opened" | "rate" | "open_at_once" | "ended_by_peer" | "syns_repeated"
//! operator    = "<" | "<=" | ">" | ">=" | "="
//! value       = number unit
//! unit        = "ns" | "us" | "µs" | "ms" | "s"     of a latency
//!             | "%"                                 of loss
//!             | ["/s"]                              of rate
//!             |                                     of a count
//! ```
//!
//! The figures of a mark are over the flows that pinged since; flows that never passed have no first pass, so that `passed` is
//! to be expected, too. Where flows pinged and none passed, their last pass was at once: nothing has leaked.
//!
//! Of a run of streams alone, `loss`, `rate`, the counts that streams have too and times without a metric are those of its streams.
//!
//! Examples: `mark.policy.first_pass.p99<500ms`, `p99<200us`, `response.p99.9 <= 2ms`, `loss<0.1%`, `received>=100`, `rate>5000`.

mod parse;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use parse::operator;
pub use parse::{ParseExpectationError, expected_figures};

use super::marks::{MarkReport, Marks};
use super::units::{count, percent, rate, significant, span};
use super::{ConnectionReport, Report, StreamCounts, StreamReport};
use crate::record::{Cause, Count, FloodKind, Latency, MarkMetric, MarkName, Metric};

/// An expected value of a figure of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Expectation {
    text: String,
    figure: Figure,
    operator: Operator,
    /// In nanoseconds, as a share from 0 to 1, per second, or as a count.
    value: f64,
}

/// A figure that can be expected to be something.
#[derive(Clone, PartialEq, Debug)]
enum Figure {
    Mark(MarkName, OfMark),
    /// Of the rtt, or of a run of streams alone of their one-way time, if no metric is named.
    Latency(Option<Metric>, Statistic),
    Count(Count),
    Drops,
    /// Pings that failed for this cause.
    Losses(Cause),
    Loss,
    Rate,
    Flood(FloodKind, OfFlood),
    Stream(OfStream),
    /// The figure of that name of TCP connections.
    Connections(&'static str),
}

/// A figure of the streams of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
enum OfStream {
    /// The count of that name, of all of them.
    Count(&'static str),
    /// Lost frames of that cause.
    Losses(Cause),
    Loss,
    /// Frames per second that were received.
    Rate,
    Jitter,
    LongestGap,
    LongestLoss,
    Extent,
}

/// A figure of the frames of one kind that were flooded.
#[derive(Clone, Copy, PartialEq, Debug)]
enum OfFlood {
    Frames,
    Copies,
    Repeated,
    Unwanted,
    LastCopy(Statistic),
}

/// So many decimals tell any two numbers of a size apart that reports have.
const MOST_DECIMALS: usize = 17;

/// A figure of the marks of one name.
#[derive(Clone, Copy, PartialEq, Debug)]
enum OfMark {
    Figure(MarkMetric, Statistic),
    /// Flows of which a ping passed, those of all the marks added up.
    Passed,
    /// Flows that pinged, added up as well.
    Flows,
    /// How many marks there are.
    Marks,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Statistic {
    Min,
    Mean,
    Stdev,
    Max,
    /// From 0 to 1.
    Quantile(f64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
}

/// The result of an [`Expectation`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// The expectation as it was written.
    pub expectation: String,
    /// The value that was found as text, or that no such mark was set; absent if the run does not have that figure.
    pub found: Option<String>,
    /// True if the value is as expected. A figure that the run does not have is not.
    pub holds: bool,
}

impl Expectation {
    /// Checks `report`.
    pub fn check(&self, report: &Report) -> Outcome {
        let found = self.figure.of(report);
        let mut told = found.map(|found| self.show(found));
        if let Figure::Mark(name, of) = &self.figure {
            match Marks::named(report, name.as_str()) {
                None => told = Some(format!("that no mark {name} was set")),
                Some(marks) if of.is_nothing(marks) => {
                    told = Some("that nothing passed".to_owned())
                }
                Some(_) => {}
            }
        }
        if self.is_of_floods() && !report.floods_counted {
            told = Some("that floods were not counted (--count-floods)".to_owned());
        }
        Outcome {
            expectation: self.text.clone(),
            found: told,
            holds: found.is_some_and(|found| self.operator.holds(found, self.value)),
        }
    }

    /// The value that was found in a few digits, or if those would be judged otherwise than the value, in as many as it takes.
    fn show(&self, found: f64) -> String {
        let judged = |value| self.operator.holds(value, self.value);
        let agrees = |text: &String| {
            // What is no value, such as "< 0.001 %", is none that could be judged.
            let value = self.figure.value(&text.replace(',', ""));
            value.map_or(true, |value| judged(value) == judged(found))
        };
        let short = self.figure.show(found);
        if agrees(&short) {
            return short;
        }
        let longer = (0..=MOST_DECIMALS).map(|decimals| self.figure.show_with(found, decimals));
        longer
            .filter(|text| text.len() > short.len())
            .find(agrees)
            .unwrap_or(short)
    }

    /// Returns true if it is about flooded frames, which are counted only on request.
    pub const fn is_of_floods(&self) -> bool {
        matches!(self.figure, Figure::Flood(..))
    }

    /// Returns true if it is about the times that moved VMs were gone.
    pub const fn is_of_moves(&self) -> bool {
        matches!(self.figure, Figure::Latency(Some(Metric::Outage), _))
    }

    /// Returns true if it may fail because the tool is too slow. What it counts of floods is the network's doing alone.
    pub const fn is_up_to_tool(&self) -> bool {
        !matches!(
            self.figure,
            Figure::Flood(
                _,
                OfFlood::Frames | OfFlood::Copies | OfFlood::Repeated | OfFlood::Unwanted
            )
        )
    }

    /// Returns true if it says how many frames of streams may be lost in `report`, so that it alone decides about them.
    pub fn judges_streams(&self, report: &Report) -> bool {
        matches!(
            self.figure.of_what(report).as_ref().unwrap_or(&self.figure),
            Figure::Stream(OfStream::Loss | OfStream::Count("lost" | "received"))
        )
    }

    /// Returns true if it says how many pings may end as `how`, so that it alone decides about them.
    pub fn judges(&self, how: Count) -> bool {
        match &self.figure {
            Figure::Count(count) if *count == how => true,
            Figure::Loss | Figure::Count(Count::Received) => matches!(
                how,
                Count::Lost | Count::Unresolved | Count::Corrupt | Count::Errored
            ),
            Figure::Count(_)
            | Figure::Drops
            | Figure::Losses(_)
            | Figure::Rate
            | Figure::Latency(..)
            | Figure::Flood(..)
            | Figure::Stream(_)
            | Figure::Connections(_)
            | Figure::Mark(..) => false,
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Display for Outcome {
    /// The line that is printed, such as `expected p99<200us: holds, found 82.8 µs`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "holds" } else { "FAILS" };
        let found = self.found.as_deref().unwrap_or("no value");
        write!(f, "expected {}: {verdict}, found {found}", self.expectation)
    }
}

impl Operator {
    pub(super) fn holds(self, found: f64, value: f64) -> bool {
        match self {
            Operator::Less => found < value,
            Operator::LessOrEqual => found <= value,
            Operator::Greater => found > value,
            Operator::GreaterOrEqual => found >= value,
            Operator::Equal => found == value,
        }
    }
}

impl Figure {
    /// The figure of streams that it stands for in `report`, if that has nothing else.
    fn of_what(&self, report: &Report) -> Option<Figure> {
        if !report.is_of_streams() {
            return None;
        }
        Some(match self {
            Figure::Loss => Figure::Stream(OfStream::Loss),
            Figure::Rate => Figure::Stream(OfStream::Rate),
            Figure::Losses(cause) => Figure::Stream(OfStream::Losses(*cause)),
            Figure::Latency(None, statistic) => Figure::Latency(Some(Metric::Stream), *statistic),
            Figure::Count(count) => {
                let mut names = StreamCounts::NAMES.iter();
                let (name, _) = names.find(|(name, _)| *name == count.name())?;
                Figure::Stream(OfStream::Count(name))
            }
            _ => return None,
        })
    }

    fn of(&self, report: &Report) -> Option<f64> {
        if let Some(of_streams) = self.of_what(report) {
            return of_streams.of(report);
        }
        match self {
            Figure::Mark(name, of) => of.of(Marks::named(report, name.as_str())?),
            Figure::Latency(metric, statistic) => {
                statistic.of(&report.histograms[metric.unwrap_or(Metric::Rtt)])
            }
            Figure::Count(count) => Some(report.totals.get(*count) as f64),
            Figure::Drops => Some(report.drops.total() as f64),
            Figure::Losses(cause) => Some(report.lost_for(*cause)? as f64),
            Figure::Loss => (report.totals.ended() > 0).then(|| report.totals.loss()),
            Figure::Rate => (report.elapsed_ns > 0).then_some(report.rate_per_s),
            Figure::Flood(kind, of) => of.of(report, *kind),
            Figure::Stream(of) => of.of(report),
            Figure::Connections(name) => report.connections?.figure(name),
        }
    }

    /// Returns true if it is a time.
    const fn is_time(&self) -> bool {
        match self {
            Figure::Latency(..)
            | Figure::Flood(_, OfFlood::LastCopy(_))
            | Figure::Stream(OfStream::Jitter | OfStream::LongestGap) => true,
            Figure::Mark(_, of) => of.is_time(),
            _ => false,
        }
    }

    /// Returns true if it is a number per second.
    fn is_rate(&self) -> bool {
        match self {
            Figure::Rate | Figure::Stream(OfStream::Rate) => true,
            Figure::Connections(name) => *name == ConnectionReport::RATE,
            _ => false,
        }
    }

    fn show(&self, found: f64) -> String {
        match self {
            Figure::Mark(_, of) if of.is_fraction() => significant(found),
            _ if self.is_time() => span(found.round() as u64),
            Figure::Latency(..) | Figure::Mark(..) => count(found.round() as u64),
            Figure::Count(_) | Figure::Drops | Figure::Losses(_) | Figure::Flood(..) => {
                count(found as u64)
            }
            Figure::Loss | Figure::Stream(OfStream::Loss) => percent(found),
            _ if self.is_rate() => rate(found),
            Figure::Rate | Figure::Stream(_) | Figure::Connections(_) => count(found as u64),
        }
    }

    /// The value with so many decimals.
    fn show_with(&self, found: f64, decimals: usize) -> String {
        match self {
            _ if self.is_time() => format!("{found:.decimals$} ns"),
            Figure::Loss | Figure::Stream(OfStream::Loss) => {
                format!("{:.decimals$} %", found * 100.0)
            }
            _ if self.is_rate() => format!("{found:.decimals$}/s"),
            _ => format!("{found:.decimals$}"),
        }
    }
}

impl OfFlood {
    /// `None` if nothing was counted, and of a time if there is none.
    fn of(self, report: &Report, kind: FloodKind) -> Option<f64> {
        if !report.floods_counted {
            return None;
        }
        let flood = report.floods.iter().find(|flood| flood.kind == kind);
        let Some(flood) = flood else {
            return (!matches!(self, OfFlood::LastCopy(_))).then_some(0.0);
        };
        Some(match self {
            OfFlood::Frames => flood.frames as f64,
            OfFlood::Copies => flood.copies as f64,
            OfFlood::Repeated => flood.repeated as f64,
            OfFlood::Unwanted => flood.unwanted as f64,
            OfFlood::LastCopy(statistic) => return statistic.of(&flood.last_copy.expand()),
        })
    }
}

impl OfStream {
    /// `None` of a run without streams, and of what none of them has.
    fn of(self, report: &Report) -> Option<f64> {
        let counts = report.stream_counts?;
        let most = |of: fn(&StreamReport) -> Option<f64>| {
            let values = report.streams.iter().filter_map(of);
            values.max_by(f64::total_cmp)
        };
        match self {
            OfStream::Count(name) => Some(counts.get(name)? as f64),
            OfStream::Losses(cause) => Some(report.frames_lost_for(cause)? as f64),
            OfStream::Loss => (counts.expected > 0).then(|| counts.loss()),
            OfStream::Rate => report.stream_rate(),
            OfStream::Jitter => most(|stream| stream.jitter_ns),
            OfStream::LongestGap => most(|stream| Some(stream.longest_gap_ns as f64)),
            OfStream::LongestLoss => most(|stream| Some(stream.longest_loss as f64)),
            OfStream::Extent => most(|stream| Some(stream.most_extent as f64)),
        }
    }
}

impl OfMark {
    fn of(self, marks: Marks<'_>) -> Option<f64> {
        let sum = |of: fn(&MarkReport) -> u64| Some(marks.each().map(of).sum::<u64>() as f64);
        match self {
            OfMark::Figure(metric, statistic) => match self.is_nothing(marks) {
                true => Some(0.0),
                false => statistic.of(&marks.latency(metric)),
            },
            OfMark::Passed => sum(|mark| mark.passed),
            OfMark::Flows => sum(|mark| mark.flow_count),
            OfMark::Marks => sum(|_| 1),
        }
    }

    /// Returns true if it is the last pass of flows that pinged and of which none passed.
    fn is_nothing(self, marks: Marks<'_>) -> bool {
        let has_pinged = || marks.each().any(|mark| mark.flow_count > 0);
        matches!(self, OfMark::Figure(MarkMetric::LastPass, _))
            && has_pinged()
            && marks.each().all(|mark| mark.passed == 0)
    }

    /// Returns true if it is a number that need not be whole.
    const fn is_fraction(self) -> bool {
        use Statistic::{Mean, Stdev};
        matches!(self, OfMark::Figure(metric, Mean | Stdev) if !metric.is_time())
    }

    /// Returns true if it is a time; else it is a number.
    const fn is_time(self) -> bool {
        matches!(self, OfMark::Figure(metric, _) if metric.is_time())
    }
}

impl Statistic {
    fn of(self, latency: &Latency) -> Option<f64> {
        let moments = latency.moments();
        match self {
            Statistic::Min => moments.min().map(|nanos| nanos as f64),
            Statistic::Mean => moments.mean(),
            Statistic::Stdev => moments.stdev(),
            Statistic::Max => moments.max().map(|nanos| nanos as f64),
            Statistic::Quantile(quantile) => latency.quantile(quantile).map(|nanos| nanos as f64),
        }
    }
}

impl Report {
    /// Checks the run against what was expected of it, and keeps what came of that in
    /// [`expectations`](Report::expectations). Tells whether all of it holds.
    pub fn expect(&mut self, expectations: &[Expectation]) -> bool {
        let outcomes = expectations.iter().map(|each| each.check(self));
        self.expectations = outcomes.collect();
        self.expectations.iter().all(|outcome| outcome.holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn check(text: &str) -> Outcome {
        text.parse::<Expectation>()
            .unwrap()
            .check(&fixtures::report())
    }

    #[test]
    fn figures_of_connections_have_the_names_of_a_comparison_and_a_run_without_any_has_none() {
        let whole = fixtures::whole();
        for (text, found, holds) in [
            ("connections.opened>=90", "90", true),
            ("connections.rate>10", "45.0/s", true),
            ("connections.opened_per_s>50/s", "45.0/s", false),
            ("connections.open_at_once<=30", "30", true),
            ("connections.ended_by_peer=0", "2", false),
            ("connections.syns_repeated<5", "4", true),
        ] {
            let outcome = text.parse::<Expectation>().unwrap().check(&whole);
            assert_eq!(outcome.found.as_deref(), Some(found), "{text}");
            assert_eq!(outcome.holds, holds, "{text}");
            assert_eq!((check(text).found, check(text).holds), (None, false));
        }
    }

    #[test]
    fn floods_that_were_not_counted_are_not_none() {
        let (counted, uncounted) = (fixtures::whole(), fixtures::report());
        for (text, holds, is_up_to_tool) in [
            ("floods.arp_request.frames=1", true, false),
            ("floods.arp_request.unwanted<5", false, false),
            ("floods.unknown_unicast.frames=0", true, false),
            ("floods.unknown_unicast.last_copy.max<1s", false, true),
        ] {
            let expectation: Expectation = text.parse().unwrap();
            assert_eq!(expectation.check(&counted).holds, holds, "{text}");
            assert_eq!(expectation.is_up_to_tool(), is_up_to_tool, "{text}");
            let told = expectation.check(&uncounted).to_string();
            let why = "FAILS, found that floods were not counted (--count-floods)";
            assert_eq!(told, format!("expected {text}: {why}"));
        }
    }

    #[test]
    fn figures_of_a_known_run_are_judged_rightly() {
        // 4,000 pings, 5 lost, rtt from 9 to 163 µs with p50 11.1 µs, each sent 20 to 70 µs after it was due.
        for (text, holds) in [
            ("p50<12us", true),
            ("p50 < 11us", false),
            ("rtt.p50 >= 11us", true),
            ("rtt.max<=163us", true),
            ("min>9000ns", true),
            ("mean<15.9us", true),
            ("mean<15.8us", false),
            ("p99.9<162us", false),
            ("p99_9<163us", true),
            ("response.p50>56us", true),
            ("lateness.max<70us", true),
            ("lateness.max<0.05ms", false),
            ("resolution.max=31us", true),
            ("first.max<12us", true),
            ("lag.p99<3us", true),
            ("loss<0.126%", true),
            ("loss<0.1%", false),
            ("loss=0", false),
            ("sent=4000", true),
            ("received>=3996", false),
            ("lost<=5", true),
            ("drops=3", true),
            ("corrupt=0", true),
            ("rate>400", true),
            ("rate>=501/s", false),
        ] {
            assert_eq!(check(text).holds, holds, "{}", check(text));
        }
    }

    #[test]
    fn every_count_can_be_expected_and_judges_itself_alone() {
        let mut report = fixtures::report();
        report.totals = serde_json::from_str(
            r#"{"sent":1,"received":2,"lost":3,"unresolved":4,"duplicate":5,"member_lost":6,"late":7,"reordered":8,"corrupt":9,
                "errored":10,"abandoned":11,"unsent":12}"#,
        )
        .unwrap();
        for (number, count) in (1..).zip(Count::ALL) {
            let text = format!("{}={number}", count.name());
            let expectation = text.parse::<Expectation>().unwrap();
            assert!(expectation.check(&report).holds, "{text}");
        }
        for (text, judged) in [
            ("loss<1%", &["lost", "unresolved", "corrupt", "errored"][..]),
            (
                "received>=1",
                &["received", "lost", "unresolved", "corrupt", "errored"],
            ),
            ("lost=0", &["lost"]),
            ("unsent<9", &["unsent"]),
            ("drops=0", &[]),
            ("rate>1", &[]),
            ("p99<1s", &[]),
        ] {
            let expectation = text.parse::<Expectation>().unwrap();
            let counts = Count::ALL.iter().map(|count| (count.name(), *count));
            let found = counts.filter(|(_, count)| expectation.judges(*count));
            let found: Vec<_> = found.map(|(name, _)| name).collect();
            assert_eq!(found, judged, "{text}");
        }
    }

    #[test]
    fn the_line_says_what_was_found() {
        for (text, line) in [
            ("p50<12us", "expected p50<12us: holds, found 11.1 µs"),
            ("loss<0.1%", "expected loss<0.1%: FAILS, found 0.125 %"),
            (
                "received=4000",
                "expected received=4000: FAILS, found 3,995",
            ),
            ("loss=0.13%", "expected loss=0.13%: FAILS, found 0.125 %"),
        ] {
            assert_eq!(check(text).to_string(), line);
        }
    }

    #[test]
    fn of_a_run_of_streams_alone_figures_without_a_name_are_theirs() {
        // 20 frames, of which one was lost and another took 150 µs, the others 10.
        let alone = fixtures::stream();
        let beside = fixtures::report();
        for (text, holds, holds_beside) in [
            ("loss=5%", true, false),
            ("sent=20", true, false),
            ("received=19", true, false),
            ("reordered=1", true, false),
            ("late=0", true, true),
            ("rate>9k", true, false),
            ("p50<11us", true, false),
            ("max<=150us", true, false),
            ("rtt.max<1s", false, true),
        ] {
            let expectation: Expectation = text.parse().unwrap();
            assert_eq!(expectation.check(&alone).holds, holds, "{text}");
            assert_eq!(expectation.check(&beside).holds, holds_beside, "{text}");
        }
        let loss: Expectation = "loss<=5%".parse().unwrap();
        assert!(loss.judges_streams(&alone) && !loss.judges_streams(&beside));
    }

    #[test]
    fn a_figure_that_a_run_does_not_have_is_not_as_expected() {
        use crate::record::{Limits, Recorder};
        use crate::report::Context;
        let mut empty = Report::new(&Recorder::new(Limits::default()), &Context::default());
        for text in ["p99<1s", "loss<1%", "rate>0", "lag.max<1s"] {
            let outcome = text.parse::<Expectation>().unwrap().check(&empty);
            assert!(!outcome.holds, "{outcome}");
            assert!(outcome.to_string().ends_with("no value"), "{outcome}");
        }
        let expectations = ["sent=0", "p99<1s"].map(|text| text.parse().unwrap());
        assert!(!empty.expect(&expectations));
        assert!(empty.expect(&expectations[..1]));
        assert_eq!(empty.expectations.len(), 1);
    }
}
