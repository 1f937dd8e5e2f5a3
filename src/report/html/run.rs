//! The page of one run.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use super::super::pieces::{self, Next};
use super::super::provenance::list;
use super::super::svg::{self, Line, Size};
use super::super::text::{RANK_COLUMNS, hints, neighbours, rank_rows};
use super::super::units::{count, counted, percent, rate, span, span_or_dash};
use super::super::{
    Report, SecondReport, connections, impairments, link_changes, moves, recordings, shortcomings,
    streams,
};
use super::flows::flows;
use super::misbehaviours::{floods_counted, misbehaviours};
use super::path_split::path_split;
use super::{
    Cell, Escaped, ROWS_LISTED, begin_figure, begin_page, end_figure, end_page, figure, losses,
    marks, table,
};
use crate::record::{LatencySummary, Metric};

/// Writes `report` as a page: summary, verdict, pictures, tables. It is one file that needs nothing from elsewhere,
/// for light and dark, screen and paper.
///
/// # Errors
/// When `out` can't be written to.
pub fn html(report: &Report, out: &mut impl Write) -> io::Result<()> {
    pieces::write(report, html_piece, out)
}

type Section = fn(&Report) -> io::Result<String>;

/// The sections before the flows, each a piece.
const SECTIONS: &[Section] = &[
    |report| Ok(head(report) + &outcomes(report) + &tiles(report)),
    leases,
    outages,
    marks::first_passes,
    percentiles,
    end_percentiles,
    distribution,
    over_time,
    |report| {
        Ok(latencies(report)
            + &phases(report)
            + &ranks(report)
            + &streams_table(report)
            + &misbehaviours(report)
            + &floods_counted(report))
    },
    |report| Ok(path_split(report)),
    |report| Ok(moves_table(report)),
    |report| Ok(losses::lost_pings(report) + &losses::lost_frames(report)),
    |report| match report.marks.as_slice() {
        [] => Ok(String::new()),
        _ => Ok(marks::marks(report)),
    },
];

/// Writes the piece of [`html()`] of that number: a section; behind the sections rows of the marks' flows; and behind those rows
/// of flows, from the one with the number that is left.
pub(in crate::report) fn html_piece(
    report: &Report,
    from: usize,
    out: &mut Vec<u8>,
) -> io::Result<Next> {
    if from == 0 {
        begin_page(&format!("tap-reactor: {}", report.run), out)?;
    }
    let Some(row) = from.checked_sub(SECTIONS.len()) else {
        if let Some(section) = SECTIONS.get(from) {
            out.write_all(section(report)?.as_bytes())?;
        }
        return Ok(Some(from + 1));
    };
    let of_marks = marks::pieces(report);
    let Some(row) = row.checked_sub(of_marks) else {
        out.write_all(marks::flows(report, row).as_bytes())?;
        return Ok(Some(from + 1));
    };
    let (rows, next) = match report.flows.as_slice() {
        [] => (String::new(), None),
        all => flows(all, row),
    };
    out.write_all(rows.as_bytes())?;
    if next.is_none() {
        out.write_all(inside(report).as_bytes())?;
        end_page(out)?;
    }
    Ok(next.map(|row| SECTIONS.len() + of_marks + row))
}

fn head(report: &Report) -> String {
    let began = report.started_unix_ms.map(|millis| {
        let began = UNIX_EPOCH + Duration::from_millis(millis.min(253_402_300_799_999));
        format!(" · {}", humantime::format_rfc3339_seconds(began))
    });
    let merged = report
        .merged
        .as_ref()
        .map(|merged| match merged.unlike.as_slice() {
            [] => format!(" · merged from {}", counted(merged.runs, "run")),
            unlike => format!(
                " · merged from {}, which differ in {}",
                counted(merged.runs, "run"),
                list(unlike)
            ),
        });
    let verdict = &report.verdict;
    format!(
        "<header>\n<h1>tap-reactor report</h1>\n<p><code>{}</code></p>\n\
         <p class=\"quiet\">{}{} · ran {}, set up in {}{}{}{}</p>\n</header>\n\
         <p class=\"verdict{}\">{}</p>\n",
        Escaped(&report.run),
        Escaped(&report.tool),
        began.unwrap_or_default(),
        span(report.elapsed_ns),
        span(report.setup_ns),
        report
            .neighbours
            .as_ref()
            .map_or(String::new(), |search| format!(", {}", neighbours(search))),
        Escaped(&merged.unwrap_or_default()),
        if report.interrupted {
            " · <strong class=\"bad\">interrupted</strong>"
        } else {
            ""
        },
        match (!verdict.is_of_network(), report.totals.sent) {
            (true, _) => " bad",
            (false, 0) => " plain",
            (false, _) => "",
        },
        Escaped(&verdict.sentence)
    )
}

/// What came of the expectations, and why the run is incomplete.
fn outcomes(report: &Report) -> String {
    let mut html = String::new();
    let expected = report.expectations.iter();
    let expected = expected.map(|outcome| (outcome.holds, outcome.to_string()));
    let amiss = report.shortcomings.iter().flatten();
    let amiss = amiss.map(|what| (false, shortcomings::sentence(what)));
    for (holds, line) in expected.chain(amiss) {
        let class = if holds { "" } else { " bad" };
        let _ = writeln!(html, "<p class=\"verdict{class}\">{}</p>", Escaped(&line));
    }
    html
}

fn tiles(report: &Report) -> String {
    let mut html = String::from("<div class=\"tiles\">\n");
    let totals = &report.totals;
    for (name, value, bad) in [
        ("sent", count(totals.sent), false),
        ("received", count(totals.received), false),
        ("lost", percent(totals.loss()), totals.failed() > 0),
        ("answered", rate(report.rate_per_s), false),
        (
            "rtt p50",
            span_or_dash(report.summaries[Metric::Rtt].p50),
            false,
        ),
        (
            "rtt p99",
            span_or_dash(report.summaries[Metric::Rtt].p99),
            false,
        ),
        (
            "response p99",
            span_or_dash(report.summaries[Metric::Response].p99),
            false,
        ),
        ("flows", count(report.flow_count), false),
    ] {
        let class = if bad { " class=\"bad\"" } else { "" };
        let _ = writeln!(
            html,
            "<div class=\"tile\"><b{class}>{value}</b><span>{name}</span></div>"
        );
    }
    html + "</div>\n"
}

/// The section of streams; nothing where there were none.
fn streams_table(report: &Report) -> String {
    let Some(counts) = &report.stream_counts else {
        return String::new();
    };
    let rows = streams::rows(report, ROWS_LISTED);
    let rows = rows.map(|row| row.map(Cell::new).into());
    format!(
        "<section>\n<h2>Streams</h2>\n<p class=\"quiet\">{}{} · p50, p99: one-way times · late: came after a later one (RFC \
         4737) · jitter: RFC 3550</p>\n{}{}</section>\n",
        Escaped(&streams::sentence(counts)),
        streams::two_clocks(report).map_or_else(String::new, |line| format!(" · {line}")),
        table(&streams::COLUMNS, rows, false),
        streams::left_out(report, ROWS_LISTED).map_or_else(String::new, |line| format!(
            "<p class=\"quiet\">{line}</p>\n"
        ))
    )
}

fn leases(report: &Report) -> io::Result<String> {
    if report.summaries[Metric::Lease].count == 0 {
        return Ok(String::new());
    }
    figure(
        "DHCP leases",
        "VMs by the time that DHCP took to grant them an address.",
        &[],
        |size| svg::histogram(&report.histograms[Metric::Lease], size),
    )
}

fn outages(report: &Report) -> io::Result<String> {
    if report.summaries[Metric::Outage].count == 0 {
        return Ok(String::new());
    }
    figure(
        "Outages by moves",
        "Moves and flows by the time from the last answer before to the first after.",
        &[],
        |size| svg::histogram(&report.histograms[Metric::Outage], size),
    )
}

/// The section of the moves.
fn moves_table(report: &Report) -> String {
    if report.moves.is_empty() {
        return String::new();
    }
    let rows = report.moves.iter().take(ROWS_LISTED);
    let rows = rows.map(|made| moves::move_cells(made).map(Cell::new).into());
    let more = moves::unlisted(report, ROWS_LISTED).into_iter();
    let more: String = more
        .map(|more| format!("<p>{}</p>\n", Escaped(&more)))
        .collect();
    format!(
        "<section>\n<h2>Moves</h2>\n<p class=\"quiet\">{}</p>\n{}{}</section>\n",
        Escaped(moves::GAP_DOC),
        table(&moves::MOVE_COLUMNS, rows, true),
        more
    )
}

fn percentiles(report: &Report) -> io::Result<String> {
    let Some(wide) = draw_percentiles(report, Size::Wide)? else {
        return Ok(String::new());
    };
    Ok(begin_figure(
        "Latency by percentile",
        "rtt is counted from when a ping was sent, response from when it was due.",
        &["rtt", "response"],
        wide,
    ))
}

fn end_percentiles(report: &Report) -> io::Result<String> {
    let narrow = draw_percentiles(report, Size::Narrow)?;
    Ok(narrow.map(end_figure).unwrap_or_default())
}

fn draw_percentiles(report: &Report, size: Size) -> io::Result<Option<String>> {
    if report.summaries[Metric::Rtt].count == 0 {
        return Ok(None);
    }
    let of = |metric| &report.histograms[metric];
    svg::percentiles(&[of(Metric::Rtt), of(Metric::Response)], size).map(Some)
}

fn distribution(report: &Report) -> io::Result<String> {
    if report.summaries[Metric::Rtt].count == 0 {
        return Ok(String::new());
    }
    figure(
        "Histogram of the rtt",
        "Pings by rtt; the first and the last bar may hold all that is far below or above the middle 90 %.",
        &[],
        |size| svg::histogram(&report.histograms[Metric::Rtt], size),
    )
}

fn over_time(report: &Report) -> io::Result<String> {
    let seconds = &report.seconds;
    if report.summaries[Metric::Rtt].count == 0 || seconds.len() < 2 {
        return Ok(String::new());
    }
    let lines = [
        over(seconds, |second| second.rtt_ns.p50),
        over(seconds, |second| second.rtt_ns.p99),
        over(seconds, |second| second.response_ns.p99),
    ];
    figure(
        "Latency over time",
        "Percentiles of the pings answered in each second.",
        &["rtt p50", "rtt p99", "response p99"],
        |size| svg::over_time(&lines, size),
    )
}

/// A figure of each second, at its middle.
fn over(seconds: &[SecondReport], figure: fn(&SecondReport) -> Option<u64>) -> Line {
    let middle =
        |second: &SecondReport| (second.start_ns as f64 + second.length_ns as f64 / 2.0) / 1e9;
    let points = seconds.iter();
    points
        .filter_map(|second| Some((middle(second), figure(second)? as f64)))
        .collect()
}

fn latencies(report: &Report) -> String {
    if report.totals.attempted() == 0 && report.summaries[Metric::Lease].count == 0 {
        return String::new();
    }
    let headings = [
        "", "count", "min", "p50", "p90", "p99", "p99.9", "max", "mean", "stdev",
    ];
    let measured = || report.summaries.iter().filter(|(_, of)| of.count > 0);
    let rows = measured().map(|(metric, summary)| {
        let LatencySummary {
            min,
            mean,
            stdev,
            p50,
            p90,
            p99,
            p99_9,
            max,
            ..
        } = *summary;
        let figures = [min, p50, p90, p99, p99_9, max, mean, stdev];
        [Cell::new(metric.name()), Cell::new(count(summary.count))]
            .into_iter()
            .chain(
                figures
                    .into_iter()
                    .map(|nanos| Cell::new(span_or_dash(nanos))),
            )
            .collect()
    });
    let table = table(&headings, rows, false);
    let docs: Vec<_> = measured()
        .map(|(metric, _)| format!("{metric}: {}", metric.doc()))
        .collect();
    format!(
        "<section>\n<h2>Latencies</h2>\n<p class=\"quiet\">{}</p>\n{table}</section>\n",
        Escaped(&docs.join(" · "))
    )
}

fn phases(report: &Report) -> String {
    if report.phases.is_empty() {
        return String::new();
    }
    let headings = [
        "phase",
        "sent",
        "answered",
        "lost",
        "rtt p50",
        "rtt p99",
        "response p99",
        "busy",
        "figures show",
    ];
    let rows = report.phases.iter().map(|phase| {
        let limited = phase.verdict.limited_by_tool;
        let disturbed = report.verdict.disturbed;
        let described = match (&phase.nothing_sent, phase.counted, limited) {
            (Some(why), ..) => format!("nothing sent: {why}"),
            (None, false, _) => "not counted".to_owned(),
            (None, true, true) if disturbed => "neither, disturbed".to_owned(),
            (None, true, true) => "the tool's limit".to_owned(),
            (None, true, false) => "the network".to_owned(),
        };
        [
            phase.name.clone(),
            rate(phase.sent_per_s),
            rate(phase.rate_per_s),
            percent(phase.totals.loss()),
            span_or_dash(phase.summaries[Metric::Rtt].p50),
            span_or_dash(phase.summaries[Metric::Rtt].p99),
            span_or_dash(phase.summaries[Metric::Response].p99),
            percent(phase.verdict.busy_share),
            described,
        ]
        .map(Cell::new)
        .into()
    });
    let table = table(&headings, rows, false);
    format!("<section>\n<h2>Phases</h2>\n{table}</section>\n")
}

fn ranks(report: &Report) -> String {
    if report.ranks.is_empty() {
        return String::new();
    }
    let rows = rank_rows(report).map(|row| row.map(Cell::new).into());
    let table = table(&RANK_COLUMNS, rows, false);
    format!("<section>\n<h2>Ranks</h2>\n{table}</section>\n")
}

fn inside(report: &Report) -> String {
    let reactor = &report.reactor;
    let mut html = format!(
        "<section>\n<h2>Reactor</h2>\n<p>{}, {} read and {} written; busy for {}.</p>\n",
        counted(reactor.turns, "wake-up"),
        counted(reactor.frames_in, "frame"),
        count(reactor.frames_out),
        span(reactor.busy_ns)
    );
    if let Some(spun) = report.spun() {
        html += &format!("<p>Busy polling took {}.</p>\n", span(spun));
    }
    if let Some(connections) = &report.connections {
        html += &format!("<p>{}.</p>\n", connections::sentence(connections));
    }
    for recording in &report.recordings {
        let told = recordings::sentence(recording);
        html += &format!("<p>{}</p>\n", Escaped(&told));
    }
    if !report.impairments.is_empty() {
        let rows = impairments::rows(&report.impairments).into_iter();
        let rows = rows.map(|(kind, frames)| vec![Cell::new(kind), Cell::new(frames)]);
        html += "<h2>Impaired frames</h2>\n";
        html += &table(&["by --impair", "frames"], rows, false);
    }
    if !report.links.is_empty() {
        html += "<p>Links that others changed:</p>\n<ul>\n";
        for told in report
            .links
            .iter()
            .map(link_changes::words)
            .chain(link_changes::untold(report))
        {
            html += &format!("<li>{}</li>\n", Escaped(&told));
        }
        html += "</ul>\n";
    }
    if report.drops.total() > 0 {
        let rows = report
            .drops
            .iter()
            .map(|(reason, frames)| vec![Cell::new(reason.name()), Cell::new(count(frames))]);
        html += &table(&["drop reason", "frames"], rows, false);
        for (reason, hint) in hints(&report.drops) {
            html += &format!("<p>{reason}: {hint}.</p>\n");
        }
    }
    html + "</section>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn written(report: &Report) -> String {
        let mut out = Vec::new();
        html(report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = written(&fixtures::report());
        for reference in ["src=", "url(", "@import", "https:"] {
            assert!(!page.contains(reference), "{reference}");
        }
        let names = page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(page.matches("http:").count(), names);
    }

    #[test]
    fn the_page_has_its_pictures_and_tables() {
        let page = written(&fixtures::report());
        assert_eq!(page.matches("<figure>").count(), 5);
        assert_eq!(page.matches("<svg ").count(), 10);
        assert_eq!(page.matches("class=\"sortable\"").count(), 2);
        assert!(page.contains("2025-10-09T08:53:20Z"));
        assert!(page.contains("unknown_ethertype"));
    }

    #[test]
    fn gaps_that_have_no_row_are_counted() {
        let mut report = fixtures::whole();
        report.moves = vec![report.moves[0].clone(); ROWS_LISTED + 5];
        assert!(written(&report).contains("<p>and 5 gaps more; a .json report has them</p>"));
    }

    #[test]
    fn names_from_a_file_can_not_become_a_script() {
        let mut report = fixtures::report();
        let hostile = "<script>alert(1)</script>\"'";
        report.run = hostile.to_owned();
        report.tool = hostile.to_owned();
        report.verdict.sentence = hostile.to_owned();
        report.flows[0].src = hostile.to_owned();
        report.flows[0].address = Some(hostile.to_owned());
        let page = written(&report);
        assert!(!page.contains("<script>alert"));
        assert_eq!(page.matches("<script>").count(), 1);
    }

    #[test]
    fn the_page_says_why_the_run_is_incomplete_and_nothing_if_it_is_not() {
        let mut report = fixtures::report();
        let told = "<p class=\"verdict bad\">The run is not complete: ";
        assert!(!written(&report).contains(told));
        report.shortcomings = Some(Vec::new());
        assert!(!written(&report).contains(told));
        report.shortcomings = Some(vec!["<b> is gone".to_owned()]);
        let line = format!("{told}&lt;b&gt; is gone</p>\n");
        assert!(written(&report).contains(&line));
    }

    #[test]
    fn a_run_without_pings_makes_a_page_too() {
        use crate::record::{Limits, Recorder};
        use crate::report::Context;
        let report = Report::new(&Recorder::new(Limits::default()), &Context::default());
        assert!(written(&report).contains("Nothing was measured"));
    }
}
