//! The report for a person at a terminal.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::iter;

use super::bins::{Classes, bar};
use super::marks::{self, MarkReport};
use super::units::{Unit, count, counted, percent, rate, span, span_or_dash};
use super::{
    FlowReport, LossReport, MemberReport, Report, Table, connections, environment, floods,
    impairments, link_changes, losses, misbehaviours, moves, path_split, recordings, shortcomings,
    streams,
};
use crate::escape::{Escaped, escaped};
use crate::record::{
    Addresses, Conflict, Count, DropReason, Drops, Latency, Metric, NeighbourSearch, Totals,
};

/// Up to this many flows are told one by one; of more only the worst.
const FLOWS_SHOWN: usize = 20;

/// Members of a multicast group that are told one by one.
const MEMBERS_SHOWN: usize = 20;

/// So many of the worst are told where there are more than [`FLOWS_SHOWN`].
const WORST_SHOWN: usize = 10;

/// Rows of a histogram.
const ROWS: usize = 20;

/// Writes `report` for a person, in lines of at most `width` columns where that is possible (80 is usual).
///
/// # Errors
/// When `out` can't be written to.
pub fn text(report: &Report, out: &mut impl Write, width: usize) -> io::Result<()> {
    flows(report, out)?;
    overview(report, out)?;
    if report.has_load() || report.summaries[Metric::Lease].count > 0 {
        latencies(report, out)?;
    }
    if !report.phases.is_empty() {
        phases(report, out)?;
    }
    ranks(report, out)?;
    marks(report, out)?;
    moves::text(report, out)?;
    lost_pings(report, out)?;
    for misbehaviour in &report.misbehaviours {
        writeln!(out)?;
        writeln!(
            out,
            "{}",
            escaped(&misbehaviours::words(&misbehaviour.summary))
        )?;
        for line in misbehaviours::lines(misbehaviour) {
            writeln!(out, "  {line}")?;
        }
    }
    if !report.floods.is_empty() {
        let mut table = Table::new(1, &floods::COLUMNS);
        floods::rows(report)
            .into_iter()
            .for_each(|row| table.row(row));
        writeln!(out)?;
        table
            .lines()
            .iter()
            .try_for_each(|line| writeln!(out, "{line}"))?;
    }
    for (place, line) in streams::lines(report).iter().enumerate() {
        if place == 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", escaped(line))?;
    }
    path_split::text(report, out)?;
    histogram("rtt", &report.histograms[Metric::Rtt], out, width)?;
    histogram("lease", &report.histograms[Metric::Lease], out, width)?;
    histogram("outage", &report.histograms[Metric::Outage], out, width)?;
    connections::text(report, out)?;
    addresses(&report.addresses, out)?;
    if !report.impairments.is_empty() {
        writeln!(out)?;
        writeln!(out, "impaired frames (--impair)")?;
        for (kind, frames) in impairments::rows(&report.impairments) {
            writeln!(out, "  {kind:<34}{frames:>12}")?;
        }
    }
    if !report.links.is_empty() {
        writeln!(out)?;
        writeln!(out, "links that others changed")?;
        for told in report
            .links
            .iter()
            .map(link_changes::words)
            .chain(link_changes::untold(report))
        {
            writeln!(out, "  {told}")?;
        }
    }
    if !report.errors.is_empty() {
        writeln!(out)?;
        writeln!(out, "pings reported undeliverable")?;
        for (error, pings) in &report.errors {
            writeln!(out, "  {:<22}{:>12}", error.name(), count(*pings))?;
        }
    }
    if report.drops.total() > 0 {
        writeln!(out)?;
        writeln!(out, "dropped frames")?;
        for (reason, frames) in report.drops.iter() {
            writeln!(out, "  {reason:<22}{:>12}", count(frames))?;
        }
        for (reason, hint) in hints(&report.drops) {
            writeln!(out, "{reason}: {hint}")?;
        }
    }
    if report.has_load() {
        writeln!(out)?;
        writeln!(out, "{}", Escaped(&report.verdict.sentence))?;
        if let Some(spun) = report.spun() {
            writeln!(out, "Busy polling took {}.", span(spun))?;
        }
    }
    for outcome in &report.expectations {
        writeln!(out, "{}", escaped(&outcome.to_string()))?;
    }
    for shortcoming in report.shortcomings.iter().flatten() {
        writeln!(out, "{}", escaped(&shortcomings::sentence(shortcoming)))?;
    }
    Ok(())
}

/// Advice about drops whose name does not explain them.
pub(super) fn hints(drops: &Drops) -> impl Iterator<Item = (DropReason, &'static str)> {
    drops
        .iter()
        .filter_map(|(reason, _)| Some((reason, reason.hint()?)))
}

fn addresses(addresses: &Addresses, out: &mut impl Write) -> io::Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let Addresses {
        leased,
        renewed,
        lost,
        waited_ns,
        missing,
        conflicts,
    } = addresses;
    if [leased, renewed, lost] != [&0; 3] {
        let (leased, renewed, lost) = (count(*leased), count(*renewed), count(*lost));
        writeln!(
            out,
            "addresses by DHCP: {leased} granted, {renewed} renewed, {lost} lost"
        )?;
    }
    if *missing > 0 {
        let vms = counted(*missing, "VM");
        let waited = span(*waited_ns);
        writeln!(
            out,
            "the pings began after {waited}, when {vms} had no address"
        )?;
    } else if *waited_ns > 0 {
        let waited = span(*waited_ns);
        writeln!(
            out,
            "the pings began after {waited}, when every VM had its address"
        )?;
    }
    for conflict in conflicts {
        let Conflict {
            vm,
            address,
            mac,
            times,
        } = conflict;
        writeln!(
            out,
            "{}: {} claims {address} as well ({})",
            Escaped(vm),
            Escaped(mac),
            counted(*times, "time")
        )?;
    }
    Ok(())
}

fn flows(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let flows = report.flows.as_slice();
    if flows.len() <= FLOWS_SHOWN {
        return flows.iter().try_for_each(|each| flow(each, out));
    }
    writeln!(
        out,
        "{}, {} of them without loss; the worst {WORST_SHOWN}:",
        counted(report.flow_count, "flow"),
        count(report.flows_whole)
    )?;
    worst(flows, WORST_SHOWN).try_for_each(|each| flow(each, out))
}

/// The flows that lost most, and among those that lost the same the slowest.
pub(super) fn worst(flows: &[FlowReport], number: usize) -> impl Iterator<Item = &FlowReport> {
    let badness = |flow: &FlowReport| {
        let slow = flow.rtt_ns.p99.or(flow.rtt_ns.max).unwrap_or(0);
        Reverse((flow.totals.failed(), slow))
    };
    let mut order: Vec<&FlowReport> = flows.iter().collect();
    if number < order.len() {
        order.select_nth_unstable_by_key(number, |flow| badness(flow));
        order.truncate(number);
    }
    order.sort_by_key(|flow| badness(flow));
    order.into_iter()
}

/// One flow, as `ping` sums up.
fn flow(flow: &FlowReport, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{} → {}", Escaped(&flow.src), Escaped(&flow.dst))?;
    if let Some(address) = &flow.address {
        write!(out, " ({})", Escaped(address))?;
    }
    write!(out, "{}: {}", flow.by(), outcome(&flow.totals))?;
    let rtt = &flow.rtt_ns;
    if let (Some(min), Some(mean), Some(max), Some(stdev)) = (rtt.min, rtt.mean, rtt.max, rtt.stdev)
    {
        let unit = Unit::of(mean as f64);
        let numbers = [min, mean, max, stdev].map(|nanos| unit.number(nanos as f64));
        let (numbers, unit) = (numbers.join("/"), unit.symbol());
        write!(out, ", rtt min/mean/max/stdev = {numbers} {unit}")?;
    }
    writeln!(out)?;
    if let Some(losses) = losses::of_flow_in_words(&flow.losses) {
        writeln!(out, "  not received: {}", Escaped(&losses))?;
    }
    members(flow, out)
}

/// The members of the multicast group that a flow pings; of many, those that have answered the fewest pings.
fn members(flow: &FlowReport, out: &mut impl Write) -> io::Result<()> {
    let mut members: Vec<&MemberReport> = flow.members.iter().collect();
    if members.len() > MEMBERS_SHOWN {
        members.sort_by_key(|member| (Reverse(member.lost), member.received));
        members.truncate(MEMBERS_SHOWN);
        let all = counted(flow.members.len() as u64, "member");
        writeln!(out, "  {all}; the {MEMBERS_SHOWN} that answered least:")?;
    }
    for member in members {
        let address = Escaped(&member.address);
        match &member.vm {
            Some(vm) => write!(out, "  {} ({address})", Escaped(vm))?,
            None => write!(out, "  {address}")?,
        }
        writeln!(
            out,
            ": {} received, {} lost",
            count(member.received),
            percent(member.loss())
        )?;
    }
    Ok(())
}

/// Counts in words: those that always matter, and of the others those that occurred.
pub(super) fn outcome(totals: &Totals) -> String {
    let mut text = format!(
        "{} sent, {} received, {} lost",
        count(totals.sent),
        count(totals.received),
        percent(totals.loss())
    );
    for &each in Count::ALL {
        let is_told = matches!(each, Count::Sent | Count::Received | Count::Lost);
        if !is_told && totals.get(each) > 0 {
            text += &format!(", {} {}", count(totals.get(each)), each.words());
        }
    }
    text
}

fn overview(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.flow_count > 0 {
        writeln!(out)?;
    }
    if report.interrupted && report.has_load() {
        writeln!(out, "Interrupted: the figures are those until then.")?;
    }
    environment::tell(report, out)?;
    if report.flows.len() > 1 {
        writeln!(out, "in all: {}", outcome(&report.totals))?;
    }
    if !report.has_load() {
        return writeln!(
            out,
            "served: {} in, {} out; the lab was set up in {}",
            counted(report.reactor.frames_in, "frame"),
            counted(report.reactor.frames_out, "frame"),
            span(report.setup_ns)
        );
    }
    match &report.stream_counts {
        Some(counts) if report.flow_count == 0 => {
            let frames = counted(counts.received, "frame");
            write!(out, "{frames} received in {}", span(report.elapsed_ns))?;
        }
        _ => {
            write!(out, "{} answered", counted(report.totals.received, "ping"))?;
            if report.elapsed_ns > 0 {
                let (time, rate) = (span(report.elapsed_ns), rate(report.rate_per_s));
                write!(out, " in {time} ({rate})")?;
            }
        }
    }
    if report.waited_ns >= WORTH_TELLING {
        let waited = span(report.waited_ns);
        write!(out, ", and {waited} of waiting for those on their way")?;
    }
    write!(out, "; the lab was set up in {}", span(report.setup_ns))?;
    match report.neighbours.as_ref().map(neighbours) {
        Some(neighbours) => writeln!(out, ", and {neighbours}")?,
        None => writeln!(out)?,
    }
    pauses(report, out)?;
    for recording in &report.recordings {
        writeln!(out, "{}", recordings::sentence(recording))?;
    }
    Ok(())
}

/// The result of the search for neighbours: `3 neighbours found in 84.0 µs`.
pub(super) fn neighbours(search: &NeighbourSearch) -> String {
    let time = span(search.elapsed_ns);
    let asked = counted(search.asked, "neighbour");
    match search.missing {
        0 => format!("{asked} found in {time}"),
        _ => format!("{} of {asked} found in {time}", count(search.found)),
    }
}
/// Columns of the names of metrics, which few are longer than.
const LABEL: usize = 11;

/// Waiting for less than this many nanoseconds is part of every run.
const WORTH_TELLING: u64 = 10_000_000;

/// That the process did not run, and what came of it.
fn pauses(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let pauses = &report.pauses;
    if pauses.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "The process was paused {} for {} in all, the longest {}; other processes had the processor for {} of that{}{}.",
        match pauses.count {
            1 => "once".to_owned(),
            times => format!("{} times", count(times)),
        },
        span(pauses.total_ns),
        span(pauses.longest_ns),
        span(pauses.run_delay_ns),
        match pauses.writing_ns {
            0 => String::new(),
            nanos => format!(", and files were written for {}", span(nanos)),
        },
        match pauses.answering_ns {
            0 => String::new(),
            nanos => format!(", and clients were answered for {}", span(nanos)),
        }
    )?;
    if pauses.lost > 0 {
        writeln!(
            out,
            "On their way then, and lost: {}{}.",
            counted(pauses.lost, "ping"),
            match report.impairments.is_empty() {
                true => "",
                false => ", those that --impair lost included",
            }
        )?;
    }
    Ok(())
}

/// The name of a row of latencies. Lag is that of frames which the poll announced: the name has their share of all frames.
fn label(report: &Report, metric: Metric) -> String {
    let lag = report.summaries[Metric::Lag].count;
    let frames = report.reactor.measured_frames_in();
    if metric != Metric::Lag || frames <= lag {
        return metric.to_string();
    }
    match (lag as f64 * 100.0 / frames as f64).round() {
        0.0 => format!("{metric} (<1 %)"),
        share => format!("{metric} ({share} %)"),
    }
}

fn latencies(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let measured = report.summaries.iter().filter(|(_, of)| of.count > 0);
    let rows: Vec<_> = measured
        .map(|(metric, summary)| (label(report, metric), summary))
        .collect();
    let width = rows.iter().map(|(label, _)| label.len()).max();
    let width = width.unwrap_or(0).max(LABEL);
    writeln!(out)?;
    write!(out, "{:<width$}{:>9}", "", "count")?;
    for title in ["min", "p50", "p90", "p99", "p99.9", "max"] {
        write!(out, "{title:>9}")?;
    }
    writeln!(out)?;
    for (label, summary) in rows {
        write!(out, "{label:<width$}{:>9}", count(summary.count))?;
        for value in [
            summary.min,
            summary.p50,
            summary.p90,
            summary.p99,
            summary.p99_9,
            summary.max,
        ] {
            write!(out, "{:>9}", span_or_dash(value))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The ranks that made the run together.
fn ranks(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.ranks.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(2, &RANK_COLUMNS);
    rank_rows(report).for_each(|row| table.row(row));
    writeln!(out)?;
    let lines = table.lines();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// The columns of the table of ranks.
pub(super) const RANK_COLUMNS: [&str; 6] =
    ["rank", "host", "answered", "late p99", "busy", "clock ±"];

/// Its rows.
pub(super) fn rank_rows(report: &Report) -> impl Iterator<Item = [String; 6]> {
    report.ranks.iter().map(|row| {
        [
            row.rank.to_string(),
            escaped(&row.host),
            rate(row.rate_per_s),
            span_or_dash(row.lateness_ns.p99),
            percent(row.verdict.busy_share),
            span(row.clock_error_ns),
        ]
    })
}

fn phases(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let phases = report.phases.as_slice();
    // The pauses of a run explain what a phase alone would hold against the tool.
    let limit = match report.verdict.disturbed {
        true => "disturbed",
        false => "limited by the tool",
    };
    let names: Vec<_> = phases.iter().map(|phase| escaped(&phase.name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max();
    let width = width.unwrap_or(0).max("phase".len());
    writeln!(out)?;
    write!(out, "{:<width$}", "phase")?;
    for title in ["sent", "answered", "loss", "rtt p50", "resp. p99", "busy"] {
        write!(out, "{title:>11}")?;
    }
    writeln!(out)?;
    for (phase, name) in phases.iter().zip(&names) {
        write!(out, "{name:<width$}")?;
        for value in [
            rate(phase.sent_per_s),
            rate(phase.rate_per_s),
            percent(phase.totals.loss()),
            span_or_dash(phase.summaries[Metric::Rtt].p50),
            span_or_dash(phase.summaries[Metric::Response].p99),
            percent(phase.verdict.busy_share),
        ] {
            write!(out, "{value:>11}")?;
        }
        let notes = [
            (!phase.counted).then_some("not counted".to_owned()),
            (!phase.verdict.is_of_network()).then_some(limit.to_owned()),
            phase
                .nothing_sent
                .as_ref()
                .map(|why| format!("nothing sent: {why}")),
        ];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        if !notes.is_empty() {
            write!(out, "  ({})", Escaped(&notes.join(", ")))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Up to this many marks are told.
const MARKS_SHOWN: usize = 20;

/// What was measured from each mark on: a row for each, and what it is about.
fn marks(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if report.marks.is_empty() {
        return Ok(());
    }
    let shown = || report.marks.iter().take(MARKS_SHOWN);
    let mut table = Table::new(1, &[&["mark"], &MARK_COLUMNS[..]].concat());
    for mark in shown() {
        table.row([vec![escaped(&mark.name)], mark_cells(mark).into()].concat());
    }
    let details = iter::once(None).chain(shown().map(|mark| mark.detail.as_ref()));
    writeln!(out)?;
    for (line, detail) in table.lines().iter().zip(details) {
        match detail {
            Some(detail) => writeln!(out, "{line}  ({})", Escaped(detail))?,
            None => writeln!(out, "{line}")?,
        }
    }
    let others = report.marks.len().saturating_sub(MARKS_SHOWN) as u64;
    if others > 0 {
        let others = counted(others, "mark");
        writeln!(out, "and {others} more; a .csv or .json report has them")?;
    }
    match marks::untold(report) {
        Some(untold) => writeln!(out, "{untold}"),
        None => Ok(()),
    }
}

/// The columns of the table of marks behind the name.
pub(super) const MARK_COLUMNS: [&str; 8] = [
    "after",
    "passed",
    "first p50",
    "first p99",
    "first max",
    "last max",
    "gap max",
    "changes",
];

/// The cells of a mark behind its name.
pub(super) fn mark_cells(mark: &MarkReport) -> [String; 8] {
    let changes = mark.changes.max.map_or("–".to_owned(), count);
    [
        span(mark.at_ns),
        format!("{} of {}", count(mark.passed), count(mark.flow_count)),
        span_or_dash(mark.first_pass_ns.p50),
        span_or_dash(mark.first_pass_ns.p99),
        span_or_dash(mark.first_pass_ns.max),
        span_or_dash(mark.last_pass_ns.max),
        span_or_dash(mark.longest_gap_ns.max),
        changes,
    ]
}

/// Up to this many rows of losses are told.
const LOSSES_SHOWN: usize = 20;

/// The pings that failed and the frames of streams that were lost, by cause, direction and place, and how that was found out.
fn lost_pings(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let both = [(&report.losses, "ping"), (&report.stream_losses, "frame")];
    let are_lost = both.iter().any(|(rows, _)| !rows.is_empty());
    for (rows, what) in both {
        loss_rows(rows, what, out)?;
    }
    match losses::method(report).filter(|_| are_lost) {
        Some(method) => writeln!(out, "{}", Escaped(&method)),
        None => Ok(()),
    }
}

fn loss_rows(rows: &[LossReport], what: &str, out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let shown = || rows.iter().take(LOSSES_SHOWN);
    let (lost, all) = (format!("lost {what}s"), format!("{what}s"));
    let mut table = Table::new(3, &[&lost, "direction", "place", &all]);
    for row in shown() {
        let [cause, direction, place, _] = row.cells();
        table.row([cause, direction, escaped(&place), count(row.count)]);
    }
    let reasons = iter::once(None).chain(shown().map(|row| row.reason.as_ref()));
    writeln!(out)?;
    for (line, reason) in table.lines().iter().zip(reasons) {
        match reason {
            Some(reason) => writeln!(out, "{line}  {}", Escaped(reason))?,
            None => writeln!(out, "{line}")?,
        }
    }
    let others = rows.get(LOSSES_SHOWN..).unwrap_or_default();
    if !others.is_empty() {
        let number: u64 = others.iter().map(|row| row.count).sum();
        let number = counted(number, what);
        writeln!(out, "and {number} more, which a .csv or .json report tells")?;
    }
    Ok(())
}

fn histogram(name: &str, latency: &Latency, out: &mut impl Write, width: usize) -> io::Result<()> {
    let classes = Classes::new(latency, ROWS);
    let greatest = classes.classes.iter().map(|class| class.count).max();
    let Some(greatest) = greatest else {
        return Ok(());
    };
    let rows: Vec<_> = classes
        .classes
        .iter()
        .map(|class| {
            let share = class.count as f64 / latency.count() as f64;
            let numbers = format!("{} {:>8}", count(class.count), percent(share));
            (class.count, class.label.clone(), numbers)
        })
        .collect();
    let widest = |column: fn(&(u64, String, String)) -> &String| {
        let widths = rows.iter().map(|row| column(row).chars().count());
        widths.max().unwrap_or(0)
    };
    let (labels, numbers) = (widest(|row| &row.1), widest(|row| &row.2));
    let bars = width.saturating_sub(labels + numbers + 5).max(10);
    writeln!(out)?;
    writeln!(out, "{name}")?;
    for (number, label, figures) in &rows {
        let bar = bar(*number as f64 / greatest as f64, bars);
        let pad = " ".repeat(bars - bar.chars().count().min(bars));
        if *number == 0 {
            writeln!(out, "  {label:>labels$} │")?;
        } else {
            writeln!(out, "  {label:>labels$} │{bar}{pad} {figures:>numbers$}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
