//! Several runs told as one.

use std::collections::HashMap;

use super::build::per_second;
use super::provenance::unlike;
use super::{
    FlowReport, MemberReport, MergedReport, PhaseReport, Report, SCHEMA, SecondReport, losses,
    shortcomings,
};
use crate::record::{LatencySummary, Moments, PerMetric};

/// The report of several runs as if they had been one, made one after the other; nothing of no runs.
///
/// Counts and histograms add up, and the percentiles come from the merged histograms. Times add up too: `elapsed_ns`,
/// `setup_ns`, and the seconds of the second run follow those of the first. Flows between the same two are one flow;
/// its percentiles are not known then, for a single flow's histogram is not saved. What the runs differ in besides their
/// figures stands in the document; [`check_one_experiment`](super::check_one_experiment) says beforehand if it is too much.
pub fn merge(reports: &[Report]) -> Option<Report> {
    let (first, others) = reports.split_first()?;
    let mut merged = first.clone();
    merged.phases = phases(reports);
    merged.run = runs(reports);
    for other in others {
        let before = merged.elapsed_ns;
        merged
            .seconds
            .extend(other.seconds.iter().map(|second| SecondReport {
                start_ns: second.start_ns.saturating_add(before),
                ..second.clone()
            }));
        merged.started_unix_ms = match (merged.started_unix_ms, other.started_unix_ms) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        merged.interrupted |= other.interrupted;
        // Of runs on different fabrics none is that of all.
        merged.fabric = merged
            .fabric
            .filter(|fabric| Some(fabric) == other.fabric.as_ref());
        merged.memory = merged
            .memory
            .zip(other.memory)
            .map(|(one, other)| one.greatest(other));
        merged.plan = merged
            .plan
            .zip(other.plan.as_ref())
            .map(|(mut plan, other)| {
                plan.keep_common(other);
                plan
            });
        merged.machine = merged
            .machine
            .filter(|machine| Some(machine) == other.machine.as_ref());
        merged.elapsed_ns = merged.elapsed_ns.saturating_add(other.elapsed_ns);
        merged.waited_ns = merged.waited_ns.saturating_add(other.waited_ns);
        merged.pauses.merge(other.pauses);
        merged.setup_ns = merged.setup_ns.saturating_add(other.setup_ns);
        merged.totals += other.totals;
        merged.drops.merge(&other.drops);
        for (error, pings) in &other.errors {
            *merged.errors.entry(*error).or_default() += pings;
        }
        merged.neighbours = match (merged.neighbours, other.neighbours) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        merged.addresses.merge(&other.addresses);
        merged.merge_connections(other);
        merged.merge_losses(other);
        merged.merge_links(other);
        merged.merge_marks(other);
        merged.merge_moves(other);
        merged.merge_impairments(other);
        merged.merge_misbehaviours(other);
        merged.merge_floods(other);
        merged.merge_streams(other);
        merged.merge_path_split(other);
        merged.merge_recordings(other);
        merged.reactor.merge(&other.reactor);
        for (metric, histogram) in other.histograms.iter() {
            merged.histograms[metric].merge(histogram);
        }
    }
    merged.flows = flows(reports);
    (merged.flow_count, merged.flows_whole) = flow_counts(reports, &merged.flows);
    merged.shortcomings = shortcomings::of_all(reports);
    if !others.is_empty() {
        // They were expected of a single run, as ranks are of one.
        merged.expectations.clear();
        merged.ranks.clear();
        merged.merged = Some(merged_from(reports));
    }
    merged.summarize(busy(reports));
    Some(merged)
}

impl Report {
    /// Sets every figure that follows from others; the reactor was busy for `busy_ns` of the time that counts.
    fn summarize(&mut self, busy_ns: u64) {
        self.schema = SCHEMA.to_owned();
        self.rate_per_s = per_second(self.totals.received, self.elapsed_ns);
        self.count_connections();
        self.summaries = PerMetric::from_fn(|metric| self.histograms[metric].summary());
        self.judge(busy_ns, self.reactor.measured_frames_in());
    }
}

/// How long the reactors worked in the time that counts.
fn busy(reports: &[Report]) -> u64 {
    let busy = |report: &Report| report.verdict.busy_share * report.elapsed_ns as f64;
    reports
        .iter()
        .map(|report| busy(report) as u64)
        .fold(0, u64::saturating_add)
}

/// How many runs there are, and what they differ in, those included that were merged before.
fn merged_from(reports: &[Report]) -> MergedReport {
    let before = || reports.iter().map(|report| report.merged.as_ref());
    let runs = before().map(|merged| merged.map_or(1, |merged| merged.runs));
    let mut differences = unlike(&reports.iter().collect::<Vec<_>>());
    for each in before().flatten().flat_map(|merged| &merged.unlike) {
        if !differences.iter().any(|known| known.what == each.what) {
            differences.push(each.clone());
        }
    }
    MergedReport {
        runs: runs.fold(0, u64::saturating_add),
        unlike: differences,
    }
}

/// How many flows there are, and how many of them sent pings of which none failed, `flows` being those that are told.
///
/// Runs of very many flows tell the worst ones only. They are the same flows in each run then: as many as the run with most
/// has, and whole of them are those of the run with fewest but for those that are told to have failed in another.
fn flow_counts(reports: &[Report], flows: &[FlowReport]) -> (u64, u64) {
    let told = flows.len() as u64;
    let failed =
        |flows: &[FlowReport]| flows.iter().filter(|flow| flow.totals.failed() > 0).count() as u64;
    if reports
        .iter()
        .all(|report| report.flow_count == report.flows.len() as u64)
    {
        let whole = |flow: &&FlowReport| flow.totals.sent > 0 && flow.totals.failed() == 0;
        return (told, flows.iter().filter(whole).count() as u64);
    }
    let most = reports.iter().map(|report| report.flow_count).max();
    let fewest = reports.iter().min_by_key(|report| report.flows_whole);
    let whole = fewest.map_or(0, |report| {
        let failed_elsewhere = failed(flows).saturating_sub(failed(&report.flows));
        report.flows_whole.saturating_sub(failed_elsewhere)
    });
    (most.unwrap_or(0).max(told), whole)
}

/// The commands that ran, each once.
fn runs(reports: &[Report]) -> String {
    let mut runs: Vec<(&str, usize)> = Vec::new();
    for Report { run, .. } in reports {
        match runs.iter_mut().find(|(known, _)| known == run) {
            Some((_, times)) => *times += 1,
            None => runs.push((run, 1)),
        }
    }
    let told: Vec<_> = runs
        .into_iter()
        .map(|(run, times)| {
            if times == 1 {
                run.to_owned()
            } else {
                format!("{times} × {run}")
            }
        })
        .collect();
    told.join(" + ")
}

/// The phases of all runs, each with the number of its run before its name.
fn phases(reports: &[Report]) -> Vec<PhaseReport> {
    if let [only] = reports {
        return only.phases.clone();
    }
    let numbered = |(index, report): (usize, &Report)| -> Vec<PhaseReport> {
        let phases = report.phases.iter();
        phases
            .map(|phase| PhaseReport {
                name: format!("run {}: {}", index + 1, phase.name),
                ..phase.clone()
            })
            .collect()
    };
    reports.iter().enumerate().flat_map(numbered).collect()
}

fn flows(reports: &[Report]) -> Vec<FlowReport> {
    let mut flows: Vec<FlowReport> = Vec::new();
    let mut index_of = HashMap::new();
    for flow in reports.iter().flat_map(|report| &report.flows) {
        let who = (&flow.src, &flow.dst, &flow.address, flow.probe);
        let index = *index_of.entry(who).or_insert(flows.len());
        match flows.get_mut(index) {
            None => flows.push(flow.clone()),
            Some(known) => {
                known.totals += flow.totals;
                losses::merge(&mut known.losses, &flow.losses);
                known.rtt_ns = sum(&known.rtt_ns, &flow.rtt_ns);
                merge_members(&mut known.members, &flow.members);
            }
        }
    }
    flows
}

fn merge_members(known: &mut Vec<MemberReport>, others: &[MemberReport]) {
    for other in others {
        match known
            .iter_mut()
            .find(|one| (&one.vm, &one.address) == (&other.vm, &other.address))
        {
            Some(one) => {
                one.received = one.received.saturating_add(other.received);
                one.lost = one.lost.saturating_add(other.lost);
            }
            None => known.push(other.clone()),
        }
    }
}

/// The summary of two together, without percentiles, which can't be added up.
pub(super) fn sum(one: &LatencySummary, other: &LatencySummary) -> LatencySummary {
    match (one.count, other.count) {
        (_, 0) => *one,
        (0, _) => *other,
        _ => {
            let mut moments = moments(one);
            moments.merge(&self::moments(other));
            LatencySummary::from(&moments)
        }
    }
}

fn moments(summary: &LatencySummary) -> Moments {
    let known = |nanos: Option<u64>| nanos.unwrap_or(0);
    Moments::from_parts(
        summary.count,
        known(summary.min),
        known(summary.max),
        known(summary.mean) as f64,
        known(summary.stdev) as f64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DropReason, Metric, Totals};
    use crate::report::{FabricReport, MemoryReport, fixtures};

    #[test]
    fn one_run_merged_is_itself() {
        let report = fixtures::report();
        assert_eq!(merge(std::slice::from_ref(&report)), Some(report));
        assert_eq!(merge(&[]), None);
    }

    #[test]
    fn counts_add_up_and_percentiles_are_those_of_all_values() {
        let (one, other) = (fixtures::report(), fixtures::slower(3));
        let merged = merge(&[one.clone(), other.clone()]).unwrap();
        assert_eq!(merged.totals, one.totals + other.totals);
        let [rtt, fast, slow] = [&merged, &one, &other].map(|run| run.summaries[Metric::Rtt]);
        assert_eq!(rtt.count, fast.count + slow.count);
        assert_eq!((rtt.min, rtt.max), (fast.min, slow.max));
        // Half of the values are those of the fast run, and all but its tail lie below those of the slow one.
        assert!(rtt.p50 > fast.p90 && rtt.p50 < slow.p50);
        assert_eq!(merged.elapsed_ns, one.elapsed_ns + other.elapsed_ns);
        assert_eq!(
            merged.reactor.turns,
            one.reactor.turns + other.reactor.turns
        );
        assert_eq!(
            merged.drops.total(),
            one.drops.total() + other.drops.total()
        );
        assert_eq!(
            merged.seconds.len(),
            one.seconds.len() + other.seconds.len()
        );
        assert!(
            merged
                .seconds
                .windows(2)
                .all(|pair| pair[0].start_ns < pair[1].start_ns)
        );
        assert!((merged.rate_per_s / one.rate_per_s - 1.0).abs() < 0.01);
    }

    #[test]
    fn runs_of_so_many_ranks_and_of_one_process_are_told_to_differ() {
        let one = fixtures::report();
        let rank = fixtures::whole().ranks[0].clone();
        let two = Report {
            ranks: vec![rank.clone(), rank],
            ..one.clone()
        };
        let unlike = |runs: &[Report]| {
            let merged = merge(runs).unwrap().merged.unwrap();
            merged
                .unlike
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(unlike(&[one.clone(), two.clone()]), ["ranks: 1 / 2"]);
        assert_eq!(unlike(&[two.clone(), two.clone()]), [""; 0]);
        let both = merge(&[two.clone(), two]).unwrap();
        assert_eq!(unlike(&[both.clone(), both.clone()]), [""; 0]);
    }

    #[test]
    fn times_add_up_and_the_run_began_when_the_first_did() {
        let (mut one, mut other) = (fixtures::report(), fixtures::report());
        for (first, second, began) in [
            (Some(7_000), Some(9_000), Some(7_000)),
            (Some(9_000), Some(7_000), Some(7_000)),
            (None, Some(9_000), Some(9_000)),
            (Some(9_000), None, Some(9_000)),
            (None, None, None),
        ] {
            (one.started_unix_ms, other.started_unix_ms) = (first, second);
            (one.setup_ns, other.setup_ns) = (30, 12);
            (one.waited_ns, other.waited_ns) = (400, 100);
            let merged = merge(&[one.clone(), other.clone()]).unwrap();
            assert_eq!(merged.started_unix_ms, began, "{first:?} {second:?}");
            assert_eq!((merged.setup_ns, merged.waited_ns), (42, 500));
            assert!(!merged.interrupted);
        }
        other.interrupted = true;
        assert!(merge(&[one.clone(), other.clone()]).unwrap().interrupted);
        assert!(merge(&[other, one]).unwrap().interrupted);
    }

    #[test]
    fn the_verdict_is_that_of_all_runs() {
        let (mut one, other) = (fixtures::report(), fixtures::report());
        // A warm-up may have been busier than what counts.
        one.reactor.busy_ns = one.elapsed_ns * 2;
        one.drops.add(DropReason::TapQueue, 3);
        one.totals.unsent = 4;
        let merged = merge(&[other.clone(), one.clone()]).unwrap();
        assert!((merged.verdict.busy_share - other.verdict.busy_share).abs() < 1e-6);
        assert_eq!(merged.verdict.tap_queue_drops, 3);
        assert!(merged.verdict.limited_by_tool);
        assert!(
            merged.verdict.sentence.contains("4 due pings"),
            "{}",
            merged.verdict.sentence
        );
    }

    #[test]
    fn runs_that_tell_only_their_worst_flows_have_as_many_flows_as_each_had() {
        let run = |failing: &[&str]| {
            let mut report = fixtures::report();
            report.flow_count = 999_000;
            report.flows_whole = 999_000 - failing.len() as u64;
            let flow = |dst: &str, lost| {
                let mut flow = report.flows[0].clone();
                (flow.dst, flow.totals.lost) = (dst.to_owned(), lost);
                flow
            };
            let slow = ["slow 1", "slow 2"].map(|dst| flow(dst, 0));
            let failing = failing.iter().map(|dst| flow(dst, 3));
            report.flows = failing.chain(slow).collect();
            report
        };
        let ten: Vec<_> = (0..10)
            .map(|i| run(if i == 4 { &["a", "b"] } else { &["b"] }))
            .collect();
        let merged = merge(&ten).unwrap();
        assert_eq!((merged.flow_count, merged.flows_whole), (999_000, 998_998));
        let merged = merge(&[run(&[]), run(&["a"]), run(&["b", "c"])]).unwrap();
        assert_eq!((merged.flow_count, merged.flows_whole), (999_000, 998_997));
    }

    #[test]
    fn a_flow_that_sent_nothing_is_not_one_without_loss() {
        let (mut one, mut other) = (fixtures::report(), fixtures::report());
        for report in [&mut one, &mut other] {
            report.flows.truncate(1);
            report.flows[0].totals = Totals {
                sent: 5,
                received: 5,
                ..Totals::default()
            };
            let mut idle = report.flows[0].clone();
            (idle.dst, idle.totals) = ("vm9".to_owned(), Totals::default());
            report.flows.push(idle);
        }
        let merged = merge(&[one, other]).unwrap();
        assert_eq!((merged.flow_count, merged.flows_whole), (2, 1));
    }

    #[test]
    fn a_merged_document_says_of_how_many_runs_it_is_and_what_they_differ_in() {
        let run = |kind: &str, peak| {
            let mut report = fixtures::report();
            report.fabric = Some(FabricReport {
                kind: kind.to_owned(),
                leaves: 0,
                ports_per_bridge: None,
                flows_across: 0,
                neighbours: "broadcast".to_owned(),
                spared_deliveries: None,
                simulated: false,
            });
            report.memory = Some(MemoryReport {
                rss_bytes: 5,
                peak_bytes: Some(peak),
                per_vm_bytes: 1,
            });
            report
        };
        let same = merge(&[run("bridge", 7), run("bridge", 9)]).unwrap();
        assert_eq!(
            same.merged,
            Some(MergedReport {
                runs: 2,
                unlike: Vec::new()
            })
        );
        assert_eq!(
            same.fabric.as_ref().map(|fabric| fabric.kind.as_str()),
            Some("bridge")
        );
        assert_eq!(same.memory.and_then(|memory| memory.peak_bytes), Some(9));
        let mixed = merge(&[same, run("xdp", 8)]).unwrap();
        let merged = mixed.merged.clone().unwrap();
        assert_eq!(merged.runs, 3);
        assert_eq!(merged.unlike[0].to_string(), "fabric: bridge / xdp");
        assert_eq!(mixed.fabric, None);
        // What was found before is not forgotten.
        let again = merge(&[mixed, run("xdp", 8)]).unwrap().merged.unwrap();
        assert_eq!((again.runs, again.unlike), (4, merged.unlike));
        assert_eq!(merge(&[run("xdp", 8)]).unwrap().merged, None);
    }

    #[test]
    fn the_same_flow_of_two_runs_is_one_flow() {
        let mut other = fixtures::slower(3);
        other.flows[1].dst = "vm9".to_owned();
        let one = fixtures::report();
        let merged = merge(&[one.clone(), other.clone()]).unwrap();
        assert_eq!(merged.flows.len(), 3);
        let flow = &merged.flows[0];
        assert_eq!(flow.totals, one.flows[0].totals + other.flows[0].totals);
        assert_eq!(flow.rtt_ns.min, one.flows[0].rtt_ns.min);
        assert_eq!(flow.rtt_ns.p50, None);
        assert_eq!(merged.flows[2].rtt_ns, other.flows[1].rtt_ns);
    }

    #[test]
    fn phases_say_of_which_run_they_are() {
        let mut one = fixtures::report();
        one.phases = vec![fixtures::phase()];
        let names = |report: &Report| -> Vec<String> {
            let phases = report.phases.iter();
            phases.map(|phase| phase.name.clone()).collect()
        };
        let merged = merge(&[one.clone(), fixtures::report(), one.clone()]).unwrap();
        assert_eq!(names(&merged), ["run 1: calm", "run 3: calm"]);
        assert_eq!(names(&merge(&[one]).unwrap()), ["calm"]);
    }

    #[test]
    fn what_ran_is_told_once() {
        let mut reports = [fixtures::report(), fixtures::report(), fixtures::report()];
        reports[1].run = "other".to_owned();
        assert_eq!(runs(&reports), format!("2 × {} + other", reports[0].run));
    }
}
