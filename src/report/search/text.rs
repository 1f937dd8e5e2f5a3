//! What a search has found, for a terminal.

use std::io::{self, Write};

use super::SearchReport;
use crate::escape::escaped;
use crate::report::Table;
use crate::report::units::{count, percent, rate, span, span_or_dash};

/// Writes `report` for a person: a sentence for each goal, and the trials in the order of their loads.
///
/// # Errors
/// When `out` can't be written to.
pub fn search_text(report: &SearchReport, out: &mut impl Write) -> io::Result<()> {
    for goal in &report.goals {
        writeln!(out, "{}", escaped(&goal.goal))?;
        writeln!(out, "  {}", goal.sentence)?;
    }
    writeln!(out)?;
    let mut trials: Vec<_> = report.trials.iter().collect();
    trials.sort_by(|one, other| one.load.total_cmp(&other.load));
    let mut table = Table::new(
        1,
        &[
            "load",
            "for",
            "sent",
            "failed",
            "lost",
            "rate",
            report.p99_title(),
            "goals met",
        ],
    );
    for trial in trials {
        let met = trial.good.iter().filter(|good| **good).count();
        table.row(vec![
            report.show(trial.load),
            span(trial.duration_ns),
            count(trial.sent),
            count(trial.failed),
            percent(trial.loss),
            rate(trial.rate_per_s),
            span_or_dash(trial.p99()),
            match trial.valid {
                true => format!("{met} of {}", trial.good.len()),
                false => "not valid".to_owned(),
            },
        ]);
    }
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    let invalid = report.trials.iter().filter(|trial| !trial.valid);
    if let Some(first) = invalid.clone().next() {
        writeln!(
            out,
            "\nNot valid {}: {}",
            match invalid.count() {
                1 => "was one trial".to_owned(),
                more => format!("were {} trials, the first of them", count(more as u64)),
            },
            escaped(&first.sentence)
        )?;
    }
    for outcome in &report.expectations {
        writeln!(out, "{}", escaped(&outcome.to_string()))?;
    }
    for what in &report.shortcomings {
        writeln!(out, "{}", escaped(what))?;
    }
    writeln!(
        out,
        "\n{} trials in {}",
        count(report.trials.len() as u64),
        span(report.elapsed_ns)
    )
}
