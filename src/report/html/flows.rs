//! The table of flows on a page.

use super::super::FlowReport;
use super::super::text::worst;
use super::super::units::{count, counted, percent, span_or_dash};
use super::{Cell, table};
use crate::record::Totals;

/// More flows than this are not listed, only the worst of them: a browser must be able to show the page.
const FLOWS_LISTED: usize = 1_000;

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

/// The section with every flow, or the worst of very many.
pub fn flows(flows: &[FlowReport]) -> String {
    let mut rare = RARE.to_vec();
    rare.retain(|(_, count)| flows.iter().any(|flow| count(&flow.totals) > 0));

    let mut headings = vec!["flow", "sent", "received", "lost"];
    headings.extend(rare.iter().map(|(name, _)| *name));
    headings.extend(["min", "mean", "p50", "p99", "max"]);
    let nanos = |nanos: Option<u64>| Cell::sorted_by(span_or_dash(nanos), nanos);
    let number = |number: u64| Cell::sorted_by(count(number), Some(number));
    let rows = worst(flows, FLOWS_LISTED).map(|flow| {
        let address = flow.address.iter().map(|address| format!(" ({address})"));
        let name = format!("{} → {}{}", flow.src, flow.dst, address.collect::<String>());
        let (totals, rtt) = (&flow.totals, &flow.rtt_ns);
        let mut row = vec![
            Cell::sorted_by(name.clone(), Some(name)),
            number(totals.sent),
            number(totals.received),
            Cell::sorted_by(percent(totals.loss()), Some(totals.loss())),
        ];
        row.extend(rare.iter().map(|(_, count)| number(count(totals))));
        row.extend([rtt.min, rtt.mean, rtt.p50, rtt.p99, rtt.max].map(nanos));
        row
    });
    let note = if flows.len() > FLOWS_LISTED {
        format!(
            "The {} of {} that lost most or were slowest; a .csv or .json report has them all. ",
            count(FLOWS_LISTED as u64),
            counted(flows.len() as u64, "flow")
        )
    } else {
        String::new()
    };
    let table = table(&headings, rows, true);
    format!(
        "<section>\n<h2>Flows</h2>\n<p class=\"quiet\">{note}Latencies are rtt. A heading sorts by its column.</p>\n\
         {table}</section>\n{}",
        members(flows)
    )
}

/// The section with the members of the multicast groups that are pinged; nothing if none is.
fn members(flows: &[FlowReport]) -> String {
    let members = flows.iter().flat_map(|flow| {
        let members = flow.members.iter();
        members.map(move |member| (flow, member))
    });
    let rows: Vec<_> = members
        .take(FLOWS_LISTED)
        .map(|(flow, member)| {
            let who = match &member.vm {
                Some(vm) => format!("{vm} ({})", member.address),
                None => member.address.clone(),
            };
            let loss = member.loss();
            let group = format!("{} → {}", flow.src, flow.dst);
            vec![
                Cell::sorted_by(group.clone(), Some(group)),
                Cell::sorted_by(who.clone(), Some(who)),
                Cell::sorted_by(count(member.received), Some(member.received)),
                Cell::sorted_by(percent(loss), Some(loss)),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let table = table(
        &["flow", "member", "received", "lost"],
        rows.into_iter(),
        true,
    );
    format!(
        "<section>\n<h2>Members of groups</h2>\n<p class=\"quiet\">Each may answer each ping once; a ping is received with \
         the first reply.</p>\n{table}</section>\n"
    )
}
