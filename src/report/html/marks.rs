//! Marks on a page: a picture of the first passes, a table of the marks, and one of their flows.

use std::io;

use super::super::marks::{Marks, untold};
use super::super::text::{MARK_COLUMNS, mark_cells};
use super::super::{Report, svg};
use super::{
    Cell, END_TABLE, Escaped, KEYS, ROWS, ROWS_LISTED, begin_table, figure, table, table_rows,
};
use crate::record::{Latency, MarkMetric};

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

/// The section of the marks, up to the table of their flows.
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
        "<section>\n<h2>Marks</h2>\n<p class=\"quiet\">{}</p>\n{}{}",
        Escaped(&docs.join(" · ")),
        table(&headings, rows, false),
        more.unwrap_or_default()
    )
}

/// The pieces of the table of the flows of all marks.
pub(super) fn pieces(report: &Report) -> usize {
    let flows = report.marks.iter().map(|mark| mark.flows.len());
    let listed = flows.sum::<usize>().min(ROWS_LISTED);
    match report.marks.as_slice() {
        [] => 0,
        _ => listed.div_ceil(ROWS).max(1),
    }
}

/// A piece of the table of the flows of all marks, and the end of the section behind the last one.
pub(super) fn flows(report: &Report, piece: usize) -> String {
    let flows = report.marks.iter().enumerate().flat_map(|(index, mark)| {
        let title = format!("{}. {}", index + 1, mark.name);
        mark.flows.iter().map(move |flow| (title.clone(), flow))
    });
    let listed = flows.take(ROWS_LISTED).skip(piece * ROWS).take(ROWS);
    let rows = table_rows(listed.map(|(title, flow)| {
        let name = format!("{} → {}", flow.src, flow.dst);
        vec![
            Cell::words(title),
            Cell::words(name),
            Cell::number(flow.answered),
            Cell::number(flow.unanswered),
            Cell::nanos(flow.first_pass_ns),
            Cell::nanos(flow.last_pass_ns),
            Cell::nanos(flow.longest_gap_ns),
            Cell::number(flow.changes),
        ]
    }));
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
    let begin = match piece {
        0 => begin_table(&headings, true),
        _ => String::new(),
    };
    let end = match piece + 1 == pieces(report) {
        true => format!("{END_TABLE}</section>\n"),
        false => String::new(),
    };
    begin + &rows + &end
}
