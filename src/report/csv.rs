//! The report as a table: a row for the run, for each phase, flow and member of the group that it pings, for each mark and flow
//! of a mark, and for each stream.

use std::io::{self, Write};

use super::pieces::{self, Next};
use super::{
    ConnectionReport, FlowReport, LossReport, MarkFlowReport, MarkReport, MemberReport, RankReport,
    Report, StreamCounts, StreamReport,
};
use crate::record::{Count, LatencySummary, MarkMetric, Metric, Moments, PerMetric, Totals};

/// The first cells of a row, before its counts, its loss and the figures of each metric.
const WHAT: [&str; 7] = [
    "kind",
    "phase",
    "src",
    "dst",
    "address",
    "elapsed_ns",
    "nothing_sent",
];

/// Cells of the summary of a metric: its count and its figures.
const OF_SUMMARY: usize = 1 + LatencySummary::FIGURES;

/// Cells of a row, up to what marks have.
const BEFORE_MARKS: usize = WHAT.len() + Count::ALL.len() + 1 + Metric::COUNT * OF_SUMMARY;

/// Cells of a row.
const COLUMNS: usize = BEFORE_STREAMS + OF_STREAM.len();

/// Cells of a row, up to what streams have.
const BEFORE_STREAMS: usize = BEFORE_RANK + OF_RANK.len();

/// Cells of a row, up to what ranks have.
const BEFORE_RANK: usize = BEFORE_CONNECTIONS + OF_CONNECTIONS.len();

/// Cells of a row, up to what connections have.
const BEFORE_CONNECTIONS: usize = BEFORE_PROBE + 1;

/// Cells of a row, up to the kind of a flow's probes.
const BEFORE_PROBE: usize = BEFORE_LOSSES + OF_LOSS.len();

/// Cells of a row, up to what losses have.
const BEFORE_LOSSES: usize = BEFORE_MARKS + OF_MARK.len() + MarkMetric::ALL.len() * OF_SUMMARY;

/// Flows in a piece.
const FLOWS: usize = 50;

/// Writes `report` as comma-separated values (RFC 4180) with a line of column names first: a row whose `kind` is `run`, one
/// `phase` for each part of a run that was divided, one `flow` for each flow, and one `member` for each member of the group
/// that a flow pings, with its own `address`; then one `mark` for each mark, and one `mark_flow` for each flow since it, whose
/// figures are those of a single value. Behind the run and its phases there is a `loss` for each cause, place and direction of
/// failed pings, a `rank` for each of several ranks, and behind each flow a `flow_loss` for each of its own, of streams `streams_loss` and `stream_loss`. One `streams` has what
/// became of the frames of all streams, in the columns of the same counts of pings and in those of streams alone, and one `stream` at
/// the end that of each. Columns that end in `_ns` are nanoseconds; what
/// is not known of a row is empty.
///
/// # Errors
/// When `out` can't be written to.
pub fn csv(report: &Report, out: &mut impl Write) -> io::Result<()> {
    pieces::write(report, csv_piece, out)
}

/// Writes the piece of [`csv()`] with the rows of [`FLOWS`] flows from number `from` on, or as many of marks and of streams, which are
/// counted behind the flows; the first one has the rows of the run and its phases before them.
pub(super) fn csv_piece(report: &Report, from: usize, out: &mut Vec<u8>) -> io::Result<Next> {
    let mut table = csv::Writer::from_writer(out);
    if from == 0 {
        first_rows(report, &mut table)?;
    }
    let flows = report.flows.len();
    let marks = report.marks.iter().map(|mark| 1 + mark.flows.len());
    let before_streams = flows + marks.sum::<usize>();
    let all = before_streams + report.streams.len();
    let next = match from < flows {
        true => flows.min(from + FLOWS),
        false => all.min(from + FLOWS),
    };
    for flow in report.flows.get(from..next.min(flows)).unwrap_or_default() {
        flow_rows(flow, &mut table)?;
    }
    let of_marks = report.marks.iter().flat_map(|mark| {
        let flows = mark.flows.iter().map(move |flow| (mark, Some(flow)));
        std::iter::once((mark, None)).chain(flows)
    });
    let of_marks = of_marks.skip(from.saturating_sub(flows));
    for (mark, flow) in of_marks.take(next.saturating_sub(from.max(flows))) {
        table.write_record(match flow {
            Some(flow) => mark_flow_row(mark, flow),
            None => mark_row(mark),
        })?;
    }
    let streams = from.saturating_sub(before_streams)..next.saturating_sub(before_streams);
    for stream in report.streams.get(streams).unwrap_or_default() {
        table.write_record(stream_row(stream))?;
        for loss in &stream.losses {
            let address = stream.address.as_deref().unwrap_or_default();
            let what = [
                "stream_loss",
                &stream.phase,
                &stream.src,
                &stream.dst,
                address,
                "",
                "",
            ];
            table.write_record(loss_row(what, loss))?;
        }
    }
    table.flush()?;
    Ok(Some(next).filter(|next| *next < all))
}

fn first_rows(report: &Report, table: &mut csv::Writer<impl Write>) -> io::Result<()> {
    table.write_record(columns())?;
    let run = ["run", "", "", "", "", &report.elapsed_ns.to_string(), ""];
    let run = row(run, &report.totals, |metric| report.summaries[metric]);
    table.write_record(with_connections(run, report.connections.as_ref()))?;
    for phase in &report.phases {
        let what = [
            "phase",
            &phase.name,
            "",
            "",
            "",
            &phase.elapsed_ns.to_string(),
            phase.nothing_sent.as_deref().unwrap_or_default(),
        ];
        let of_phase = row(what, &phase.totals, |metric| phase.summaries[metric]);
        table.write_record(with_connections(of_phase, phase.connections.as_ref()))?;
    }
    if let Some(counts) = &report.stream_counts {
        let one_way = &report.summaries[Metric::Stream];
        let what = ["streams", "", "", "", "", "", ""];
        let mut row = counts_row(what, counts, one_way);
        row.resize(COLUMNS, String::new());
        let rates = [
            ("stream_sent_frames_per_s", Some(report.stream_load())),
            ("stream_received_frames_per_s", report.stream_rate()),
        ];
        for (name, rate) in rates {
            let place = OF_STREAM.iter().position(|column| *column == name);
            let cell = place.and_then(|place| row.get_mut(BEFORE_STREAMS + place));
            if let (Some(cell), Some(rate)) = (cell, rate) {
                *cell = rate.to_string();
            }
        }
        table.write_record(row)?;
    }
    for loss in &report.stream_losses {
        table.write_record(loss_row(["streams_loss", "", "", "", "", "", ""], loss))?;
    }
    for loss in &report.losses {
        table.write_record(loss_row(["loss", "", "", "", "", "", ""], loss))?;
    }
    for rank in &report.ranks {
        table.write_record(rank_row(rank))?;
    }
    Ok(())
}

fn flow_rows(flow: &FlowReport, table: &mut csv::Writer<impl Write>) -> io::Result<()> {
    let address = flow.address.as_deref().unwrap_or_default();
    let what = ["flow", "", &flow.src, &flow.dst, address, "", ""];
    // Of a flow only the rtt is kept.
    let mut row = row(what, &flow.totals, |metric| match metric {
        Metric::Rtt => flow.rtt_ns,
        _ => LatencySummary::default(),
    });
    for (count, cell) in Count::ALL.iter().zip(row.iter_mut().skip(WHAT.len())) {
        if !count.is_of_flows() {
            cell.clear();
        }
    }
    if let Some(cell) = row.get_mut(BEFORE_PROBE) {
        flow.probe.name().clone_into(cell);
    }
    table.write_record(row)?;
    for loss in &flow.losses {
        let what = ["flow_loss", "", &flow.src, &flow.dst, address, "", ""];
        table.write_record(loss_row(what, loss))?;
    }
    for member in &flow.members {
        table.write_record(member_row(flow, member))?;
    }
    Ok(())
}

/// The row of a run or a phase, with what its connections have.
fn with_connections(row: Vec<String>, connections: Option<&ConnectionReport>) -> Vec<String> {
    let mut row = row;
    if let Some(connections) = connections {
        row.truncate(BEFORE_CONNECTIONS);
        row.extend(of_connections(connections));
        row.resize(COLUMNS, String::new());
    }
    row
}

/// The cells of what the connections of a run or a phase have.
const OF_CONNECTIONS: [&str; 5] = [
    "connections_opened",
    "connections_opened_per_s",
    "connections_open_at_once",
    "connections_ended_by_peer",
    "connections_syns_repeated",
];

fn of_connections(connections: &ConnectionReport) -> [String; OF_CONNECTIONS.len()] {
    let ConnectionReport {
        opened,
        opened_per_s,
        open_at_once,
        ended_by_peer,
        syns_repeated,
    } = *connections;
    [
        opened.to_string(),
        opened_per_s.to_string(),
        open_at_once.to_string(),
        ended_by_peer.to_string(),
        syns_repeated.to_string(),
    ]
}

/// The cells of what losses have.
const OF_LOSS: [&str; 5] = [
    "loss_cause",
    "loss_direction",
    "loss_place",
    "loss_count",
    "loss_reason",
];

fn loss_row(what: [&str; WHAT.len()], loss: &LossReport) -> Vec<String> {
    let mut row = blank(what);
    row.resize(BEFORE_LOSSES, String::new());
    row.extend([
        loss.cause.name().to_owned(),
        loss.direction.word().to_owned(),
        loss.place.clone(),
        loss.count.to_string(),
        loss.reason.clone().unwrap_or_default(),
    ]);
    row.resize(COLUMNS, String::new());
    row
}

/// The cells of what ranks have.
const OF_RANK: [&str; 6] = [
    "rank",
    "rank_host",
    "rank_rate_per_s",
    "rank_busy_share",
    "rank_clock_offset_ns",
    "rank_clock_error_ns",
];

/// Of a rank only the lateness is kept.
fn rank_row(rank: &RankReport) -> Vec<String> {
    let mut row: Vec<_> = ["rank", "", "", "", "", "", ""].map(str::to_owned).into();
    row.resize(WHAT.len() + Count::ALL.len() + 1, String::new());
    for metric in Metric::ALL {
        match metric {
            Metric::Lateness => push_summary(&mut row, &rank.lateness_ns),
            _ => row.resize(row.len() + OF_SUMMARY, String::new()),
        }
    }
    row.resize(BEFORE_RANK, String::new());
    row.extend([
        rank.rank.to_string(),
        rank.host.clone(),
        rank.rate_per_s.to_string(),
        rank.verdict.busy_share.to_string(),
        rank.clock_offset_ns.to_string(),
        rank.clock_error_ns.to_string(),
    ]);
    row.resize(COLUMNS, String::new());
    row
}

/// The first cells of what marks have, behind the figures of each metric.
const OF_MARK: [&str; 5] = [
    "mark",
    "mark_detail",
    "mark_at_ns",
    "mark_flows",
    "mark_passed",
];

fn mark_row(mark: &MarkReport) -> Vec<String> {
    let mut row = blank(["mark", "", "", "", "", "", ""]);
    row.extend([
        mark.name.clone(),
        mark.detail.clone().unwrap_or_default(),
        mark.at_ns.to_string(),
        mark.flow_count.to_string(),
        mark.passed.to_string(),
    ]);
    for times in [
        &mark.first_pass_ns,
        &mark.last_pass_ns,
        &mark.longest_gap_ns,
    ] {
        push_summary(&mut row, times);
    }
    row.push(mark.changes.count.to_string());
    row.extend(mark.changes.figures().map(Option::unwrap_or_default));
    row.resize(COLUMNS, String::new());
    row
}

fn mark_flow_row(mark: &MarkReport, flow: &MarkFlowReport) -> Vec<String> {
    let mut row = blank(["mark_flow", "", &flow.src, &flow.dst, "", "", ""]);
    let passed = u64::from(flow.answered > 0).to_string();
    let detail = mark.detail.clone().unwrap_or_default();
    let at = mark.at_ns.to_string();
    row.extend([mark.name.clone(), detail, at, "1".to_owned(), passed]);
    for metric in MarkMetric::ALL {
        let mut figure = Moments::default();
        flow.figure(*metric)
            .into_iter()
            .for_each(|value| figure.record(value));
        push_summary(&mut row, &LatencySummary::from(&figure));
    }
    row.resize(COLUMNS, String::new());
    row
}

/// The cells of what streams alone have: counts first, then what is of a single one.
const OF_STREAM: [&str; 15] = [
    "stream_expected",
    "stream_stale",
    "stream_leaked",
    "stream_sizes",
    "stream_most_extent",
    "stream_extents",
    "stream_longest_loss",
    "stream_longest_gap_ns",
    "stream_jitter_ns",
    "stream_sent_octets",
    "stream_sent_frames_per_s",
    "stream_sent_mbit_per_s",
    "stream_received_octets",
    "stream_received_frames_per_s",
    "stream_received_mbit_per_s",
];

fn stream_row(stream: &StreamReport) -> Vec<String> {
    let address = stream.address.as_deref().unwrap_or_default();
    let (src, dst) = (stream.src.as_str(), stream.dst.as_str());
    let what = ["stream", &stream.phase, src, dst, address, "", ""];
    let mut row = counts_row(what, &stream.counts, &stream.one_way_ns);
    row.push(stream.sizes.clone());
    row.extend(
        [
            stream.most_extent,
            stream.extents,
            stream.longest_loss,
            stream.longest_gap_ns,
        ]
        .map(|number| number.to_string()),
    );
    let jitter = stream.jitter_ns.map(|nanos| nanos.to_string());
    row.push(jitter.unwrap_or_default());
    for end in [&stream.sent, &stream.received] {
        row.extend([
            end.octets.to_string(),
            end.frames_per_s.to_string(),
            end.mbit_per_s.to_string(),
        ]);
    }
    row
}

/// A row of frames of streams, up to what is of a single one.
fn counts_row(
    what: [&str; WHAT.len()],
    counts: &StreamCounts,
    one_way: &LatencySummary,
) -> Vec<String> {
    let mut row: Vec<_> = what.map(str::to_owned).into();
    let number = |name: &str| counts.get(name).map(|number| number.to_string());
    row.extend(
        Count::ALL
            .iter()
            .map(|count| number(count.name()).unwrap_or_default()),
    );
    row.push(counts.loss().to_string());
    for metric in Metric::ALL {
        match metric {
            Metric::Stream => push_summary(&mut row, one_way),
            _ => row.resize(row.len() + OF_SUMMARY, String::new()),
        }
    }
    row.resize(BEFORE_STREAMS, String::new());
    row.extend([counts.expected, counts.stale, counts.leaked].map(|number| number.to_string()));
    row
}

/// A row without counts and figures of metrics, up to what marks have.
fn blank(what: [&str; WHAT.len()]) -> Vec<String> {
    let mut row: Vec<_> = what.map(str::to_owned).into();
    row.resize(BEFORE_MARKS, String::new());
    row
}

fn push_summary(row: &mut Vec<String>, summary: &LatencySummary) {
    row.push(summary.count.to_string());
    let figures = summary.figures().map(|(_, nanos)| nanos);
    row.extend(figures.map(|nanos| nanos.map(|nanos| nanos.to_string()).unwrap_or_default()));
}

/// Of a member only its replies are known.
fn member_row(flow: &FlowReport, member: &MemberReport) -> Vec<String> {
    let what = ["member", "", &flow.src, &flow.dst, &member.address, "", ""];
    let mut row: Vec<_> = what.map(str::to_owned).into();
    row.extend(Count::ALL.iter().map(|count| match count {
        Count::Received => member.received.to_string(),
        Count::MemberLost => member.lost.to_string(),
        _ => String::new(),
    }));
    row.push(member.loss().to_string());
    row.resize(COLUMNS, String::new());
    row
}

/// The names of all columns.
fn columns() -> Vec<String> {
    let names = LatencySummary::default().figures().map(|(name, _)| name);
    let counts = Count::ALL.iter().map(|count| count.name());
    let first = WHAT.into_iter().chain(counts).chain(["loss"]);
    let mut columns: Vec<_> = first.map(str::to_owned).collect();
    for metric in Metric::ALL {
        columns.push(format!("{metric}_count"));
        let unit = metric.unit();
        columns.extend(names.map(|name| format!("{metric}_{name}_{unit}")));
    }
    columns.extend(OF_MARK.map(str::to_owned));
    for metric in MarkMetric::ALL {
        columns.push(format!("{metric}_count"));
        let unit = if metric.is_time() { "_ns" } else { "" };
        columns.extend(names.map(|name| format!("{metric}_{name}{unit}")));
    }
    columns.extend(OF_LOSS.map(str::to_owned));
    columns.push("probe".to_owned());
    columns.extend(OF_CONNECTIONS.map(str::to_owned));
    columns.extend(OF_RANK.map(str::to_owned));
    columns.extend(OF_STREAM.map(str::to_owned));
    columns
}

fn row(
    what: [&str; WHAT.len()],
    totals: &Totals,
    summary: impl FnMut(Metric) -> LatencySummary,
) -> Vec<String> {
    let mut row: Vec<_> = what.map(str::to_owned).into();
    row.extend(
        Count::ALL
            .iter()
            .map(|count| totals.get(*count).to_string()),
    );
    row.push(totals.loss().to_string());
    for (_, summary) in PerMetric::from_fn(summary).iter() {
        push_summary(&mut row, summary);
    }
    row.resize(COLUMNS, String::new());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    /// The rows of `kind` as a program reads them: each a lookup of a column by name.
    fn rows(report: &Report, kind: &str) -> Vec<std::collections::HashMap<String, String>> {
        let mut out = Vec::new();
        csv(report, &mut out).unwrap();
        let mut reader = csv::Reader::from_reader(out.as_slice());
        let rows = reader.deserialize().map(Result::unwrap);
        rows.filter(|row: &std::collections::HashMap<String, String>| row["kind"] == kind)
            .collect()
    }

    #[test]
    fn each_rank_has_a_row_and_runs_of_one_process_have_none() {
        let mut report = fixtures::whole();
        let told = rows(&report, "rank");
        assert_eq!(told.len(), report.ranks.len());
        let (row, rank) = (&told[0], &report.ranks[0]);
        for (column, expected) in [
            ("rank", rank.rank.to_string()),
            ("rank_host", rank.host.clone()),
            ("rank_rate_per_s", rank.rate_per_s.to_string()),
            ("rank_busy_share", rank.verdict.busy_share.to_string()),
            ("rank_clock_offset_ns", rank.clock_offset_ns.to_string()),
            ("rank_clock_error_ns", rank.clock_error_ns.to_string()),
            ("lateness_count", rank.lateness_ns.count.to_string()),
            ("sent", String::new()),
            ("rtt_count", String::new()),
        ] {
            assert_eq!(row[column], expected, "{column}");
        }
        report.ranks.clear();
        assert_eq!(rows(&report, "rank").len(), 0);
    }

    #[test]
    fn each_flow_has_a_row_and_each_column_a_value_of_its_own() {
        let mut report = fixtures::report();
        report.flows[0].src = "quoted \", and with comma".to_owned();
        let rows = rows(&report, "flow");
        assert_eq!(rows.len(), report.flows.len());
        for (row, flow) in rows.iter().zip(&report.flows) {
            assert_eq!(row["src"], flow.src);
            assert_eq!(row["lost"], flow.totals.lost.to_string());
            assert_eq!(row["rtt_max_ns"], flow.rtt_ns.max.unwrap().to_string());
            assert_eq!(row["rtt_p50_ns"], flow.rtt_ns.p50.unwrap().to_string());
            assert_eq!(row["lag_p50_ns"], "");
        }
    }

    #[test]
    fn each_member_of_a_group_has_a_row_behind_its_flow() {
        let mut report = fixtures::report();
        report.flows[0].members = vec![MemberReport {
            vm: Some("vm1".to_owned()),
            address: "10.77.0.3".to_owned(),
            received: 3,
            lost: 1,
        }];
        let rows = rows(&report, "member");
        assert_eq!(rows.len(), 1);
        for (column, cell) in [
            ("dst", report.flows[0].dst.as_str()),
            ("address", "10.77.0.3"),
            ("received", "3"),
            ("member_lost", "1"),
            ("lost", ""),
            ("loss", "0.25"),
            ("rtt_count", ""),
        ] {
            assert_eq!(rows[0][column], cell, "{column}");
        }
    }

    #[test]
    fn the_run_has_the_figures_of_its_connections() {
        for (column, cell) in [
            ("connections_opened", "90"),
            ("connections_opened_per_s", "45"),
            ("connections_open_at_once", "30"),
            ("connections_ended_by_peer", "2"),
            ("connections_syns_repeated", "4"),
        ] {
            assert_eq!(rows(&fixtures::whole(), "run")[0][column], cell, "{column}");
            assert_eq!(rows(&fixtures::report(), "run")[0][column], "", "{column}");
            assert_eq!(rows(&fixtures::whole(), "flow")[0][column], "", "{column}");
        }
    }

    #[test]
    fn each_stream_has_a_row_and_all_of_them_one() {
        let report = fixtures::stream();
        let (each, all) = (rows(&report, "stream"), rows(&report, "streams"));
        assert_eq!((each.len(), all.len()), (1, 1));
        for (column, cell) in [
            ("sent", "20"),
            ("received", "19"),
            ("lost", "1"),
            ("duplicate", "1"),
            ("reordered", "1"),
            ("late", ""),
            ("loss", "0.05"),
            ("rtt_count", ""),
            ("stream_count", "19"),
            ("stream_max_ns", "150000"),
            ("stream_expected", "20"),
            ("stream_sent_frames_per_s", "10000"),
        ] {
            assert_eq!(each[0][column], cell, "{column}");
            assert_eq!(all[0][column], cell, "{column}");
        }
        for (column, cell) in [
            ("src", "vm0"),
            ("dst", "vm1"),
            ("stream_most_extent", "1"),
            ("stream_longest_loss", "1"),
            ("stream_sent_octets", "2500"),
            ("stream_received_octets", "2375"),
        ] {
            assert_eq!(each[0][column], cell, "{column}");
            assert_ne!(all[0][column], cell, "{column}");
        }
        let mut many = fixtures::report();
        many.streams = vec![report.streams[0].clone(); 3 * FLOWS + 1];
        assert_eq!(rows(&many, "stream").len(), many.streams.len());
        assert_eq!(rows(&many, "flow").len(), many.flows.len());
    }

    #[test]
    fn each_count_is_in_its_column() {
        let mut report = fixtures::report();
        report.totals = Totals {
            sent: 1,
            received: 2,
            lost: 3,
            unresolved: 4,
            duplicate: 5,
            member_lost: 6,
            late: 7,
            reordered: 8,
            corrupt: 9,
            errored: 10,
            abandoned: 11,
            unsent: 12,
        };
        let row = &rows(&report, "run")[0];
        for (number, count) in (1..).zip(Count::ALL) {
            assert_eq!(row[count.name()], number.to_string(), "{count:?}");
        }
        assert_eq!(row["loss"], report.totals.loss().to_string());
        assert_eq!(row["elapsed_ns"], report.elapsed_ns.to_string());
    }
}
