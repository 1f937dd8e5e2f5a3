//! The reasons why a run is incomplete. Beside the user's expectations they decide between the exit statuses 0 and 1.

use crate::experiment::Experiment;
use crate::reactor::End;
use crate::record::{Count, DropReason};
use crate::report::{Expectation, Report};

use super::recordings;

/// Drops of frames that count as a fault of the tool or the kernel, and their words.
const DROPS: [(DropReason, &str); 6] = [
    (
        DropReason::TooManyOutstanding,
        "pings not sent because their flow had too many on their way",
    ),
    (DropReason::QueueFull, "frames refused by a full queue"),
    (
        DropReason::LinkDown,
        "frames refused by a TAP that was down",
    ),
    (DropReason::Refused, "frames refused by the kernel"),
    (DropReason::ReadFailed, "failed reads of a TAP"),
    (
        DropReason::TapQueue,
        "frames that overflowed the queue of a TAP before they were read",
    ),
];

/// So many members of groups are named that have not answered.
const MEMBERS_NAMED: usize = 3;

/// Returns the shortcomings of a run that was asked to ping, one sentence each. There are none if at least one ping was
/// sent and every ping sent was answered. An expectation about failed pings alone decides how many may fail.
pub(super) fn shortcomings(
    experiment: &Experiment,
    report: &Report,
    end: Option<End>,
    expectations: &[Expectation],
) -> Vec<String> {
    let mut amiss: Vec<String> = recordings::shortcomings(&report.recordings).collect();
    if experiment.flows.is_empty() {
        return amiss;
    }
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            amiss.push(format!("{what}: {number}"));
        }
    };
    let is_simulated = report
        .fabric
        .as_ref()
        .is_some_and(|fabric| fabric.simulated);
    let totals = &report.totals;
    let unresolved = match report.addresses.missing {
        0 => "pings not sent because their neighbour did not answer".to_owned(),
        1 => "pings not sent, when 1 VM had no address".to_owned(),
        vms => format!("pings not sent, when {vms} VMs had no address"),
    };
    let is_judged = |what| expectations.iter().any(|expected| expected.judges(what));
    for (judged, what) in [
        (Count::Lost, "pings not answered"),
        (Count::Unresolved, unresolved.as_str()),
        (Count::Corrupt, "pings answered with another payload"),
        (Count::Errored, "pings reported undeliverable"),
        (Count::Unsent, "pings that were due and not sent in time"),
    ] {
        if !is_judged(judged) {
            count(totals.get(judged), what);
        }
    }
    if !is_judged(Count::MemberLost) {
        members(report, &mut amiss);
    }
    let mut count = |number: u64, what: &str| {
        if number > 0 {
            amiss.push(format!("{what}: {number}"));
        }
    };
    for (reason, what) in DROPS {
        // The queues of a simulated fabric are part of the network that was asked for.
        if reason != DropReason::TapQueue || !is_simulated {
            count(report.drops.get(reason), what);
        }
    }
    if totals.attempted() == 0 {
        let uncounted = report.phases.iter().filter(|phase| !phase.counted);
        let uncounted: u64 = uncounted.map(|phase| phase.totals.sent).sum();
        amiss.push(match uncounted {
            0 => "no ping was sent".to_owned(),
            _ => "no ping was sent but in a warm-up, whose pings do not count".to_owned(),
        });
    }
    if let (Some(End::Signal(signal)), Some(planned)) = (end, experiment.planned_pings())
        && totals.attempted() < planned
    {
        let sent = totals.attempted();
        amiss.push(format!(
            "{signal} came when {sent} of {planned} pings had been sent"
        ));
    }
    amiss
}

/// Adds a sentence for each of the first VMs that have not answered every ping to a group that they had joined, and one for
/// the others.
fn members(report: &Report, amiss: &mut Vec<String>) {
    let members = report.flows.iter().flat_map(|flow| {
        let members = flow.members.iter();
        members.map(move |member| (&flow.dst, member))
    });
    let mut lost = report.totals.member_lost;
    let members = members.filter_map(|(group, member)| Some((group, member, member.vm.as_ref()?)));
    let behind = members.filter(|(_, member, _)| member.lost > 0);
    for (group, member, vm) in behind.take(MEMBERS_NAMED) {
        let (received, ended) = (member.received, member.ended());
        amiss.push(format!(
            "{vm} answered {received} of {ended} pings to {group}"
        ));
        lost = lost.saturating_sub(member.lost);
    }
    if lost > 0 {
        amiss.push(format!(
            "replies of further members of groups that did not come in time: {lost}"
        ));
    }
}
