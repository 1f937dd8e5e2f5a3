//! The reasons why a run is incomplete. Beside the user's expectations they decide between the exit statuses 0 and 1.

use crate::experiment::Experiment;
use crate::fabric::{Impairment, MAX_HELD_BYTES};
use crate::reactor::End;
use crate::record::{Count, DropReason};
use crate::report::{Expectation, Report};

use super::instruments;

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
        "frames that overflowed the queue of a port before they were read",
    ),
];

/// So many members of groups are named that have not answered.
const MEMBERS_NAMED: usize = 3;

/// The reasons, beside a neighbour that does not answer, for which a ping is not sent.
const UNSENT: [(DropReason, &str); 5] = [
    (
        DropReason::PortsInUse,
        "pings not sent because all ports were in use",
    ),
    (
        DropReason::NoRoute,
        "pings not sent because no route led to their target",
    ),
    (
        DropReason::FragmentationNeeded,
        "pings not sent because their path carries only smaller ones",
    ),
    (
        DropReason::NeighbourQueueFull,
        "pings not sent because too many waited for their neighbour",
    ),
    (
        DropReason::FragmentQueueFull,
        "pings not sent because too many fragments waited",
    ),
];

/// The reason for which `unresolved` pings were not sent. Answers are dropped for the same reasons, so that the drops tell
/// the one reason only if no other comes into question.
fn unsent_because(report: &Report, unresolved: u64) -> &'static str {
    let dropped = |(reason, what)| (report.drops.get(reason), what);
    let mut reasons = UNSENT
        .into_iter()
        .map(dropped)
        .filter(|(count, _)| *count > 0);
    match (reasons.next(), reasons.next()) {
        (None, _) => "pings not sent because their neighbour did not answer",
        (Some((count, what)), None) if count >= unresolved => what,
        _ => "pings not sent, for reasons that the drops tell in part",
    }
}

/// Returns the shortcomings of a run that was asked to ping or to send streams, one sentence each. There are none if at least one
/// ping was sent and every ping sent was answered, and the same of the frames of streams. An expectation about those that failed
/// alone decides how many may fail. `end` is what ended
/// the run, if that was before its plan was complete.
pub(super) fn shortcomings(
    experiment: &Experiment,
    report: &Report,
    end: Option<End>,
    expectations: &[Expectation],
) -> Vec<String> {
    let mut amiss: Vec<String> = instruments::shortcomings(&report.recordings).collect();
    let part = experiment.part.as_ref();
    let has_pings = part.map_or(experiment.flows.len(), |part| part.all_flows) > 0;
    if !has_pings && experiment.streams.is_empty() {
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
        0 => unsent_because(report, totals.unresolved).to_owned(),
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
    if let Some(streams) = &report.stream_counts {
        let judges = |expected: &Expectation| expected.judges_streams(report);
        if !expectations.iter().any(judges) {
            count(streams.lost, "frames of streams not received");
        }
        count(
            streams.unresolved,
            "frames not sent because their neighbour is not known",
        );
        count(streams.unsent, "frames that were due and not sent in time");
    }
    for (reason, what) in DROPS {
        // The queues of a simulated fabric are part of the network that was asked for.
        if reason != DropReason::TapQueue || !is_simulated {
            count(report.drops.get(reason), what);
        }
    }
    let refused = report.impairments.iter();
    let refused = refused.filter(|frames| frames.kind == Impairment::NoMemory);
    let most = MAX_HELD_BYTES >> 20;
    count(
        refused.map(|frames| frames.frames).sum(),
        &format!("frames dropped because --impair holds no more than {most} MiB"),
    );
    if !is_judged(Count::MemberLost) {
        members(report, &mut amiss);
    }
    if report
        .stream_counts
        .is_some_and(|streams| streams.sent == 0)
    {
        amiss.push("no frame was sent".to_owned());
    }
    if has_pings && totals.attempted() == 0 {
        let uncounted = report.phases.iter().filter(|phase| !phase.counted);
        let uncounted: u64 = uncounted.map(|phase| phase.totals.sent).sum();
        amiss.push(match uncounted {
            0 => "no ping was sent".to_owned(),
            _ => "no ping was sent but in a warm-up, whose pings do not count".to_owned(),
        });
    }
    let why = match end {
        Some(End::Signal(signal)) => Some(format!("{signal} came")),
        Some(End::Stopped) => Some("it was stopped".to_owned()),
        Some(End::Done | End::Called) | None => None,
    };
    let planned = part.map_or_else(|| experiment.planned_pings(), |part| part.all_pings);
    let sent = totals.attempted();
    match (why, planned) {
        (Some(why), _) if !has_pings && experiment.has_end() => {
            amiss.push(format!("{why} before the run was over"));
        }
        (Some(why), Some(planned)) if sent < planned => amiss.push(format!(
            "{why} when {sent} of {planned} pings had been sent"
        )),
        // How many there would have been is not known: it depends on the network.
        (Some(why), None) if experiment.has_end() => amiss.push(format!(
            "{why} before the run was over, when {sent} pings had been sent"
        )),
        _ => {}
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
