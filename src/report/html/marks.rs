//! Marks on a page: a picture of the first passes, a table of the marks, and one of their flows.

use std::io;

use super::super::marks::{Marks, untold};
use super::super::text::{MARK_COLUMNS, mark_cells};
use super::super::units::{count, span_or_dash};
use super::super::{Report, svg};
use super::{Cell, Escaped, KEYS, figure, table};
use crate::record::{Latency, MarkMetric};

/// More rows than this are not listed: a browser must be able to show the page.
const FLOWS_LISTED: usize = 1_000;

/// The picture of the first passes by the names of the marks; nothing of names of which no two flows passed.
pub(super) fn first_passes(report: &Report) -> io::Result<String> {
    let passes = |marks: Marks<'_>| (marks.name.to_owned(), marks.latency(MarkMetric::FirstPass));
    let named = Marks::of(report).into_iter().map(passes);
    let drawn = named.filter(|(_, first)| first.count() > 1);
    let drawn: Vec<(String, Latency)> = drawn.take(KEYS.len()).collect();
    let names: Vec<&str> = drawn.iter().map(|(name, _)| name.as_str()).collect();
    let latencies: Vec<&Latency> = drawn.iter().map(|(_, first)| first).collect();
    match latencies.as_slice() {
        [] => Ok(String::new()),
        [one] => figure(
            "Histogram of the first pass",
            "Flows by the time from the mark to the receipt of their first answer.",
            &names,
            |size| svg::histogram(one, size),
        ),
        several => figure(
            "First pass by percentile",
            "Flows by the time from the mark to the receipt of their first answer.",
            &names,
            |size| svg::percentiles(several, size),
        ),
    }
}

/// The section of the marks.
pub(super) fn marks(report: &Report) -> String {
    let mut headings = vec!["mark"];
    headings.extend(MARK_COLUMNS);
    headings.push("about");
    let rows = report.marks.iter().map(|mark| {
        let detail = mark.detail.clone().unwrap_or_default();
        let name = Cell::new(mark.name.clone());
        let cells = mark_cells(mark).map(Cell::new);
        let cells = [name].into_iter().chain(cells);
        cells.chain([Cell::new(detail)]).collect()
    });
    let docs: Vec<_> = MarkMetric::ALL
        .iter()
        .map(|metric| format!("{metric}: {}", metric.doc()))
        .collect();
    let more = untold(report).map(|untold| format!("<p>{}</p>\n", Escaped(&untold)));
    format!(
        "<section>\n<h2>Marks</h2>\n<p class=\"quiet\">{}</p>\n{}{}{}</section>\n",
        Escaped(&docs.join(" · ")),
        table(&headings, rows, false),
        more.unwrap_or_default(),
        flows(report)
    )
}

/// The table of the flows of all marks.
fn flows(report: &Report) -> String {
    let flows = report.marks.iter().enumerate().flat_map(|(index, mark)| {
        let title = format!("{}. {}", index + 1, mark.name);
        mark.flows.iter().map(move |flow| (title.clone(), flow))
    });
    let nanos = |nanos: Option<u64>| Cell::sorted_by(span_or_dash(nanos), nanos);
    let number = |number: u64| Cell::sorted_by(count(number), Some(number));
    let rows = flows.take(FLOWS_LISTED).map(|(title, flow)| {
        let name = format!("{} → {}", flow.src, flow.dst);
        vec![
            Cell::sorted_by(title.clone(), Some(title)),
            Cell::sorted_by(name.clone(), Some(name)),
            number(flow.answered),
            number(flow.unanswered),
            nanos(flow.first_pass_ns),
            nanos(flow.last_pass_ns),
            nanos(flow.longest_gap_ns),
            number(flow.changes),
        ]
    });
    let headings = [
        "mark",
        "flow",
        "answered",
        "unanswered",
        "first pass",
        "last pass",
        "longest gap",
        "changes",
    ];
    table(&headings, rows, true)
}
