//! A summary in Markdown, which the job pages of GitHub and GitLab show.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::pieces::Next;
use super::search::{SEARCH_COMPLETE, SearchReport};
use super::shortcomings::COMPLETE;
use super::text::{RANK_COLUMNS, rank_rows};
use super::units::{count, percent, rate, span, span_or_dash};
use super::{Outcome, Report, connections, streams};
use crate::escape::is_hidden;
use crate::record::{LatencySummary, Metric};

/// Writes the summary of a run: the expectations, whether it is complete, the verdict, and a table of figures.
pub(super) fn markdown_piece(report: &Report, _: usize, out: &mut Vec<u8>) -> io::Result<Next> {
    let judged = report.shortcomings.iter();
    let judged = judged.flat_map(|shortcomings| complete(COMPLETE, shortcomings));
    let mut text = head(&report.run, expected(&report.expectations).chain(judged));
    let totals = &report.totals;
    let pings = (!report.is_of_streams()).then(|| {
        format!(
            "{} pings sent, {} received, {} lost; {} answered",
            count(totals.sent),
            count(totals.received),
            percent(totals.loss()),
            rate(report.rate_per_s)
        )
    });
    let of_streams = report.stream_counts.as_ref().map(streams::sentence);
    let sentences = pings.into_iter().chain(of_streams);
    let sentences = sentences.chain([report.verdict.sentence.clone()]);
    for sentence in sentences {
        text += &format!("{}\n\n", shown(&sentence));
    }
    if let Some(connections) = &report.connections {
        text += &format!("{}\n\n", shown(&connections::sentence(connections)));
    }
    text += "| | count | min | p50 | p99 | p99.9 | max |\n|---|--:|--:|--:|--:|--:|--:|\n";
    for metric in [
        Metric::Rtt,
        Metric::Response,
        Metric::Lateness,
        Metric::Resolution,
        Metric::Stream,
    ] {
        let LatencySummary {
            count: number,
            min,
            p50,
            p99,
            p99_9,
            max,
            ..
        } = report.summaries[metric];
        if number > 0 {
            let spans = [min, p50, p99, p99_9, max].map(span_or_dash).join(" | ");
            text += &format!("| {} | {} | {spans} |\n", metric.name(), count(number));
        }
    }
    if !report.streams.is_empty() {
        let columns = streams::COLUMNS;
        text += &format!("\n| {} |\n|---", columns.join(" | "));
        text += &"|--:".repeat(columns.len() - 1);
        text += "|\n";
        for row in streams::rows(report, streams::SHOWN) {
            text += &format!("| {} |\n", row.map(|cell| shown(&cell)).join(" | "));
        }
        streams::notes(report).for_each(|line| text += &format!("\n{line}\n"));
    }
    for (rows, what) in [(&report.losses, "pings"), (&report.stream_losses, "frames")] {
        if !rows.is_empty() {
            text += &format!(
                "\n| lost {what} | direction | place | reason | {what} |\n|---|---|---|---|--:|\n"
            );
        }
        for row in rows {
            let cells = row.cells().map(|cell| shown(&cell)).join(" | ");
            text += &format!("| {cells} | {} |\n", count(row.count));
        }
    }
    if !report.ranks.is_empty() {
        let [first, host, figures @ ..] = RANK_COLUMNS;
        let figures = figures.join(" | ");
        text += &format!("\n| {first} | {host} | {figures} |\n|--:|---|--:|--:|--:|--:|\n");
        for row in rank_rows(report) {
            text += &format!("| {} |\n", row.map(|cell| shown(&cell)).join(" | "));
        }
    }
    out.write_all(text.as_bytes())?;
    Ok(None)
}

/// Writes the summary of what a search has found.
///
/// # Errors
/// When `out` can't be written to.
pub fn search_markdown(report: &SearchReport, out: &mut dyn Write) -> io::Result<()> {
    let goals = report.goals.iter();
    let goals = goals.map(|goal| {
        let words = format!("{}: {}", goal.goal, goal.sentence);
        (goal.lower.is_some(), words)
    });
    let complete = complete(SEARCH_COMPLETE, &report.shortcomings);
    let lines = goals.chain(expected(&report.expectations)).chain(complete);
    let mut text = head(&report.run, lines);
    let (trials, elapsed) = (report.trials.len() as u64, span(report.elapsed_ns));
    text += &format!("{} trials in {elapsed}\n", count(trials));
    out.write_all(text.as_bytes())
}

/// A sentence, and whether all is well with what it says.
type Line = (bool, String);

/// The head: what ran, and lines of what came of it.
fn head(run: &str, lines: impl Iterator<Item = Line>) -> String {
    let mut text = format!("### tap-reactor\n\n{}\n\n", shown(run));
    let before = text.len();
    for (holds, words) in lines {
        let sign = if holds { "✅" } else { "❌" };
        // A String takes everything.
        let _ = writeln!(text, "- {sign} {}", shown(&words));
    }
    if text.len() > before {
        text.push('\n');
    }
    text
}

fn expected(outcomes: &[Outcome]) -> impl Iterator<Item = Line> {
    let outcomes = outcomes.iter();
    outcomes.map(|outcome| (outcome.holds, outcome.to_string()))
}

/// The shortcomings; if there are none, the words for all that is `complete`.
fn complete(complete: &str, shortcomings: &[String]) -> Vec<Line> {
    match shortcomings {
        [] => vec![(true, complete.to_owned())],
        all => all.iter().map(|what| (false, what.clone())).collect(),
    }
}

/// Text that is shown as it is, whatever it holds.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for each in text.chars() {
        match each {
            '\n' => shown.push(' '),
            each if is_hidden(each) => shown.push(char::REPLACEMENT_CHARACTER),
            each if each.is_ascii_punctuation() && !".,:;()/%-+=".contains(each) => {
                shown.push('\\');
                shown.push(each);
            }
            each => shown.push(each),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn a_summary_has_the_verdict_the_expectations_and_the_figures() {
        let mut report = fixtures::whole();
        report.expect(&["p99<1ns".parse().unwrap(), "loss<1%".parse().unwrap()]);
        report.run = "a | b <script> *c*".to_owned();
        let mut out = Vec::new();
        markdown_piece(&report, 0, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\na \\| b \\<script\\> \\*c\\*\n"), "{text}");
        assert!(
            text.contains("- ❌ expected p99\\<1ns: FAILS, found "),
            "{text}"
        );
        assert!(text.contains("- ✅ expected loss\\<1%: holds"), "{text}");
        assert!(text.contains("\n- ❌ pings not answered: 5\n\n"), "{text}");
        assert!(text.contains("\n| rtt | 3,995 | "), "{text}");
        assert!(
            text.contains("\n90 TCP connections opened (45.0/s), at most 30 open at once;"),
            "{text}"
        );
        assert!(
            text.contains("\n| lost pings | direction | place | reason | pings |\n"),
            "{text}"
        );
        let ranks = "\n| rank | host | answered | late p99 | busy | clock ± |\n|--:|---|--:|--:|--:|--:|\n| 1 | host1 | ";
        assert!(text.contains(ranks), "{text}");
    }

    #[test]
    fn a_run_is_told_to_be_complete_only_if_it_is_known_to_be() {
        let mut report = fixtures::report();
        for (shortcomings, told) in [
            (None, None),
            (Some(vec![]), Some("- ✅ the run is complete\n")),
            (
                Some(vec!["SIGINT <b> came".to_owned(), "more".to_owned()]),
                Some("- ❌ SIGINT \\<b\\> came\n- ❌ more\n"),
            ),
        ] {
            report.shortcomings = shortcomings;
            let mut out = Vec::new();
            markdown_piece(&report, 0, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert!(
                text.contains(&format!("\n\n{}", told.unwrap_or_default())),
                "{text}"
            );
            assert_eq!(text.contains("\n- "), told.is_some(), "{text}");
        }
    }

    #[test]
    fn streams_have_a_table_and_pings_are_told_only_where_there_are_some() {
        let mut report = fixtures::stream();
        let written = |report: &Report| {
            let mut out = Vec::new();
            markdown_piece(report, 0, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = written(&report);
        for part in [
            "\n20 frames sent, 19 received, 5.00 % lost, 1 received twice, 1 reordered\n",
            "\n| stream | sent | received | lost | twice | late | p50 | p99 | jitter | Mbit/s |\n|---|--:|",
            "\n| vm0 → vm1 | 20 | 19 | 5.00 % | 1 | 1 | ",
            "\n| stream | 19 | ",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("pings sent"), "{text}");
        report.streams = vec![report.streams[0].clone(); streams::SHOWN + 2];
        assert!(written(&report).contains("\n… and 2 more\n"));
        assert!(written(&fixtures::report()).contains("pings sent"));
    }
}
