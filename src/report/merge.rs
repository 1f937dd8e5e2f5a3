//! Several runs told as one.

use std::collections::HashMap;

use super::build::per_second;
use super::verdict::{Evidence, lag_p99};
use super::{FlowReport, PhaseReport, Report, SCHEMA, SecondReport, Verdict, links};
use crate::record::{DropReason, LatencySummary, Metric, Moments, PerMetric};

/// The report of several runs as if they had been one, made one after the other; nothing of no runs.
///
/// Counts and histograms add up, and the percentiles come from the merged histograms. Times add up too: `elapsed_ns`,
/// `setup_ns`, and the seconds of the second run follow those of the first. Flows between the same two are one flow;
/// its percentiles are not known then, for a single flow's histogram is not saved.
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
            .filter(|memory| Some(memory) == other.memory.as_ref());
        merged.elapsed_ns = merged.elapsed_ns.saturating_add(other.elapsed_ns);
        merged.waited_ns = merged.waited_ns.saturating_add(other.waited_ns);
        merged.pauses.merge(other.pauses);
        merged.setup_ns = merged.setup_ns.saturating_add(other.setup_ns);
        merged.totals += other.totals;
        merged.drops.merge(&other.drops);
        for (error, pings) in &other.errors {
            *merged.errors.entry(*error).or_default() += pings;
        }
        merged.addresses.merge(&other.addresses);
        merged.merge_links(other);
        merged.reactor.merge(&other.reactor);
        for (metric, histogram) in other.histograms.iter() {
            merged.histograms[metric].merge(histogram);
        }
    }
    merged.flows = flows(reports);
    merged.flow_count = merged.flows.len() as u64;
    let whole = merged.flows.iter().filter(|flow| flow.totals.failed() == 0);
    merged.flows_whole = whole.count() as u64;
    if !others.is_empty() {
        // They were expected of a single run.
        merged.expectations.clear();
    }
    merged.summarize();
    Some(merged)
}

impl Report {
    /// Sets every figure that follows from others.
    fn summarize(&mut self) {
        self.schema = SCHEMA.to_owned();
        self.rate_per_s = per_second(self.totals.received, self.elapsed_ns);
        self.summaries = PerMetric::from_fn(|metric| self.histograms[metric].summary());
        self.verdict = Verdict::of(&Evidence {
            elapsed_ns: self.elapsed_ns,
            busy_ns: self.reactor.busy_ns,
            rtt_p99_ns: self.summaries[Metric::Rtt].p99,
            lag_p99_ns: lag_p99(&self.histograms[Metric::Lag], self.reactor.frames_in),
            lateness_p99_ns: self.summaries[Metric::Lateness].p99,
            tap_queue_drops: self.drops.get(DropReason::TapQueue),
            unsent: self.totals.unsent,
        });
        self.verdict
            .sentence
            .extend(links::sentence(&self.links, self.links_untold));
    }
}

/// What ran, once for each that is not the same as another.
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
        let who = (&flow.src, &flow.dst, &flow.address);
        let index = *index_of.entry(who).or_insert(flows.len());
        match flows.get_mut(index) {
            None => flows.push(flow.clone()),
            Some(known) => {
                known.totals += flow.totals;
                known.rtt_ns = sum(&known.rtt_ns, &flow.rtt_ns);
            }
        }
    }
    flows
}

/// What two summaries come to together; percentiles can't be added up.
fn sum(one: &LatencySummary, other: &LatencySummary) -> LatencySummary {
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
    use crate::report::samples;

    #[test]
    fn one_run_merged_is_itself() {
        let report = samples::report();
        assert_eq!(merge(std::slice::from_ref(&report)), Some(report));
        assert_eq!(merge(&[]), None);
    }

    #[test]
    fn counts_add_up_and_percentiles_are_those_of_all_values() {
        let (one, other) = (samples::report(), samples::slower(3));
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
    fn the_same_flow_of_two_runs_is_one_flow() {
        let mut other = samples::slower(3);
        other.flows[1].dst = "vm9".to_owned();
        let one = samples::report();
        let merged = merge(&[one.clone(), other.clone()]).unwrap();
        assert_eq!(merged.flows.len(), 3);
        let flow = &merged.flows[0];
        assert_eq!(flow.totals, one.flows[0].totals + other.flows[0].totals);
        assert_eq!(flow.rtt_ns.min, one.flows[0].rtt_ns.min);
        assert_eq!(flow.rtt_ns.p50, None);
        assert_eq!(merged.flows[2].rtt_ns, other.flows[1].rtt_ns);
    }

    #[test]
    fn what_ran_is_told_once() {
        let mut reports = [samples::report(), samples::report(), samples::report()];
        reports[1].run = "other".to_owned();
        assert_eq!(runs(&reports), format!("2 × {} + other", reports[0].run));
    }
}
