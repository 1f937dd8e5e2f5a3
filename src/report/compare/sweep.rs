//! Runs in which one setting grows, and where they break.

use std::io::{self, Write};

use super::{Comparison, Side};
use crate::escape::{Escaped, escaped};
use crate::record::{Metric, Totals};
use crate::report::Report;
use crate::report::table::Table;
use crate::report::units::{count, rate, span_or_dash};

/// Writes runs that differ in the value of `setting` for a person: a row for each, what else differs from the first, and
/// where they break. Each comes with its name, such as `vms=100`; `comparisons` are [theirs](super::compare()).
///
/// # Errors
/// When `out` can't be written to.
pub fn sweep_text(
    setting: &str,
    runs: &[(&str, &Report)],
    comparisons: &[Comparison],
    out: &mut impl Write,
) -> io::Result<()> {
    let has_floods = runs.iter().any(|(_, run)| !run.floods.is_empty());
    let has_pings = runs.iter().any(|(_, run)| !run.is_of_streams());
    let has_streams = runs.iter().any(|(_, run)| run.stream_counts.is_some());
    let of_pings = [
        "pings",
        "lost",
        "unresolved",
        "resolved p50",
        "p99",
        "rtt p50",
        "p99",
        "rate",
    ];
    let of_streams = ["frames", "lost", "one-way p50", "p99", "rate"];
    let mut headings = vec![""];
    headings.extend(of_pings.iter().filter(|_| has_pings));
    headings.extend(of_streams.iter().filter(|_| has_streams));
    headings.extend(has_floods.then_some("copies"));
    let mut table = Table::new(1, &headings);
    for (name, run) in runs {
        let totals = &run.totals;
        let resolution = &run.summaries[Metric::Resolution];
        let rtt = &run.summaries[Metric::Rtt];
        let of_pings = [
            count(totals.sent + totals.unresolved),
            count(totals.lost),
            count(totals.unresolved),
            span_or_dash(resolution.p50),
            span_or_dash(resolution.p99),
            span_or_dash(rtt.p50),
            span_or_dash(rtt.p99),
            rate(run.rate_per_s),
        ];
        let counts = run.stream_counts.unwrap_or_default();
        let one_way = &run.summaries[Metric::Stream];
        let of_streams = [
            count(counts.sent),
            count(counts.lost),
            span_or_dash(one_way.p50),
            span_or_dash(one_way.p99),
            rate(run.stream_rate().unwrap_or(0.0)),
        ];
        let mut row = vec![escaped(name)];
        row.extend(of_pings.into_iter().filter(|_| has_pings));
        row.extend(of_streams.into_iter().filter(|_| has_streams));
        let copies = run.floods.iter().map(|of| of.copies);
        row.extend(has_floods.then(|| count(copies.sum())));
        table.row(row);
    }
    for line in table.lines() {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    for each in comparisons {
        for unlike in each.unlike.iter().filter(|unlike| unlike.what != setting) {
            let name = Escaped(&each.after.name);
            let unlike = unlike.to_string();
            writeln!(out, "{name}: differs in {}", escaped(&unlike))?;
        }
    }
    for side in sides(comparisons).filter(|side| side.limited_by_tool) {
        writeln!(out, "{}: {}", Escaped(&side.name), escaped(&side.verdict))?;
    }
    writeln!(out, "{}", escaped(&breaking_point(comparisons)))
}

/// All runs, the first of them before the others.
fn sides(comparisons: &[Comparison]) -> impl Iterator<Item = &Side> {
    let baseline = comparisons.first().map(|each| &each.before);
    let others = comparisons.iter().map(|each| &each.after);
    baseline.into_iter().chain(others)
}

/// What must not be in a run, in words: a neighbour that was not found, or an expectation that does not hold. `None` if
/// there is nothing.
pub(super) fn fault(report: &Report) -> Option<String> {
    let Totals {
        sent, unresolved, ..
    } = report.totals;
    if unresolved > 0 {
        let (some, all) = (count(unresolved), count(sent + unresolved));
        return Some(format!("{some} of {all} pings unresolved"));
    }
    if let Some(streams) = report.stream_counts
        && streams.unresolved > 0
    {
        let (some, all) = (
            count(streams.unresolved),
            count(streams.sent + streams.unresolved),
        );
        return Some(format!("{some} of {all} frames without a neighbour"));
    }
    let unmet = report.expectations.iter().find(|outcome| !outcome.holds)?;
    Some(unmet.to_string())
}

/// The first of the compared runs that has a fault and the one before it, in a sentence. One that was ended early tells
/// nothing.
pub fn breaking_point(comparisons: &[Comparison]) -> String {
    let sides: Vec<&Side> = sides(comparisons)
        .filter(|side| !side.interrupted)
        .collect();
    let broken = sides.iter().enumerate();
    let broken = broken.filter_map(|(at, side)| Some((at, side, side.fault.as_deref()?)));
    match (broken.min_by_key(|(at, ..)| *at), sides.last()) {
        (Some((at, broken, fault)), _) => match at.checked_sub(1).and_then(|at| sides.get(at)) {
            Some(holds) => format!(
                "Holds at {}, breaks at {}: {fault}.",
                holds.name, broken.name
            ),
            None => format!("Breaks at {} already: {fault}.", broken.name),
        },
        (None, Some(last)) => {
            let at = match sides.len() {
                1 => format!("at {}", last.name),
                runs => format!("at all {runs} values"),
            };
            format!("Holds {at}: every neighbour is found, and every expectation holds.")
        }
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{compare, fixtures};

    #[test]
    fn the_first_run_with_a_fault_is_where_it_breaks() {
        let whole = fixtures::report();
        let mut unresolved = whole.clone();
        unresolved.totals.sent = 947;
        unresolved.totals.unresolved = 53;
        let mut unmet = whole.clone();
        assert!(!unmet.expect(&["p99<1ns".parse().unwrap()]));
        for (runs, sentence) in [
            (
                [&whole, &whole, &unresolved],
                "Holds at vms=2, breaks at vms=3: 53 of 1,000 pings unresolved.",
            ),
            (
                [&unresolved, &whole, &unresolved],
                "Breaks at vms=1 already: 53 of 1,000 pings unresolved.",
            ),
            (
                [&whole, &unmet, &unresolved],
                "Holds at vms=1, breaks at vms=2: expected p99<1ns: FAILS, found ",
            ),
            (
                [&whole, &whole, &whole],
                "Holds at all 3 values: every neighbour is found, and every expectation holds.",
            ),
        ] {
            let named: Vec<_> = ["vms=1", "vms=2", "vms=3"].into_iter().zip(runs).collect();
            let told = breaking_point(&compare(&named));
            assert!(told.starts_with(sentence), "{told}");
        }
        assert_eq!(breaking_point(&[]), "");
        let mut ended = unresolved.clone();
        ended.interrupted = true;
        let runs = [("vms=1", &whole), ("vms=2", &ended)];
        let told = breaking_point(&compare(&runs));
        assert!(told.starts_with("Holds at vms=1: every "), "{told}");
    }
}
