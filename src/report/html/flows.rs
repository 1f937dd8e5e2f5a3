//! The table of flows on a page.

use std::ops::Range;

use super::super::FlowReport;
use super::super::losses;
use super::super::pieces::Next;
use super::super::text::worst;
use super::super::units::{count, counted};
use super::{Cell, END_TABLE, ROWS, ROWS_LISTED, begin_table, table_rows};
use crate::record::Totals;

/// Counts that are rarely anything but 0: a column is shown of those that are not.
const RARE: [(&str, Count); 6] = [
    ("unresolved", |totals| totals.unresolved),
    ("duplicate", |totals| totals.duplicate),
    ("late", |totals| totals.late),
    ("reordered", |totals| totals.reordered),
    ("corrupt", |totals| totals.corrupt),
    ("errored", |totals| totals.errored),
];

type Count = fn(&Totals) -> u64;

/// Writes the rows from number `from` on of the section with every flow, or the worst of very many, and of that with the
/// members of the multicast groups that are pinged, if any is; and each section's begin and end. Returns the number of the
/// row that follows.
pub(in crate::report) fn flows(flows: &[FlowReport], from: usize) -> (String, Next) {
    let of_flows = flows.len().min(ROWS_LISTED);
    let members = flows.iter().map(|flow| flow.members.len());
    let of_members = members.sum::<usize>().min(ROWS_LISTED);
    let (html, next) = match from < of_flows {
        true => {
            let next = of_flows.min(from + ROWS);
            (flow_rows(flows, from..next, of_flows), next)
        }
        false => {
            let from = from - of_flows;
            let next = of_members.min(from + ROWS);
            (member_rows(flows, from..next, of_members), of_flows + next)
        }
    };
    (
        html,
        Some(next).filter(|next| *next < of_flows + of_members),
    )
}

/// Rows of the section with the flows, which has `all` of them.
fn flow_rows(flows: &[FlowReport], range: Range<usize>, all: usize) -> String {
    let mut rare = RARE.to_vec();
    rare.retain(|(_, count)| flows.iter().any(|flow| count(&flow.totals) > 0));
    let are_lossy = flows.iter().any(|flow| !flow.losses.is_empty());
    let mut html = String::new();
    if range.start == 0 {
        let mut headings = vec!["flow", "sent", "received", "lost"];
        headings.extend(rare.iter().map(|(name, _)| *name));
        headings.extend(["min", "mean", "p50", "p99", "max"]);
        headings.extend(are_lossy.then_some("not received"));
        let note = if flows.len() > ROWS_LISTED {
            format!(
                "The {} of {} that lost most or were slowest; a .csv or .json report has them all. ",
                count(ROWS_LISTED as u64),
                counted(flows.len() as u64, "flow")
            )
        } else {
            String::new()
        };
        html += &format!(
            "<section>\n<h2>Flows</h2>\n<p class=\"quiet\">{note}Latencies are rtt. A heading sorts by its column.</p>\n"
        );
        html += &begin_table(&headings, true);
    }
    let listed = worst(flows, ROWS_LISTED)
        .skip(range.start)
        .take(range.len());
    html += &table_rows(listed.map(|flow| {
        let address = flow.address.iter().map(|address| format!(" ({address})"));
        let (address, by) = (address.collect::<String>(), flow.by());
        let name = format!("{} → {}{address}{by}", flow.src, flow.dst);
        let (totals, rtt) = (&flow.totals, &flow.rtt_ns);
        let mut row = vec![
            Cell::words(name),
            Cell::number(totals.sent),
            Cell::number(totals.received),
            Cell::percent(totals.loss()),
        ];
        row.extend(rare.iter().map(|(_, count)| Cell::number(count(totals))));
        row.extend([rtt.min, rtt.mean, rtt.p50, rtt.p99, rtt.max].map(Cell::nanos));
        let losses = || losses::of_flow_in_words(&flow.losses).unwrap_or_default();
        row.extend(are_lossy.then(|| Cell::words(losses())));
        row
    }));
    end_section(html, range.end == all)
}

/// Rows of the section with the members of groups, which has `all` of them.
fn member_rows(flows: &[FlowReport], range: Range<usize>, all: usize) -> String {
    let mut html = String::new();
    if range.start == 0 {
        html += "<section>\n<h2>Members of groups</h2>\n<p class=\"quiet\">Each may answer each ping once; a ping is \
                 received with the first reply.</p>\n";
        html += &begin_table(&["flow", "member", "received", "lost"], true);
    }
    let members = flows.iter().flat_map(|flow| {
        let members = flow.members.iter();
        members.map(move |member| (flow, member))
    });
    let listed = members.skip(range.start).take(range.len());
    html += &table_rows(listed.map(|(flow, member)| {
        let who = match &member.vm {
            Some(vm) => format!("{vm} ({})", member.address),
            None => member.address.clone(),
        };
        let group = format!("{} → {}", flow.src, flow.dst);
        vec![
            Cell::words(group),
            Cell::words(who),
            Cell::number(member.received),
            Cell::percent(member.loss()),
        ]
    }));
    end_section(html, range.end == all)
}

/// Ends a section and its table if it `is_whole`.
fn end_section(html: String, is_whole: bool) -> String {
    match is_whole {
        true => html + END_TABLE + "</section>\n",
        false => html,
    }
}
