//! One report of what several ranks have measured at the same time.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build::per_second;
use super::merge::merge;
use super::streams::{StreamName, StreamsOfRank};
use super::units::count;
use super::verdict::{OF_IMPAIRED_NETWORK, OF_NETWORK};
use super::{
    ConnectionReport, LossReport, PhaseReport, Report, SecondReport, Verdict, keyed, losses, marks,
    misbehaviours,
};
use crate::fabric::Impairment;
use crate::hypervisor::LossOfOthers;
use crate::ranks::ClockOffset;
use crate::record::{
    Cause, Latency, LatencySummary, Metric, PerMetric, Recorder, SparseLatency, Way,
};

/// One rank of a run that several made together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RankReport {
    /// Its number.
    pub rank: u32,
    /// The name of its host.
    pub host: String,
    /// Its pings answered per second.
    pub rate_per_s: f64,
    /// How late it sent its pings.
    pub lateness_ns: LatencySummary,
    /// Verdict: its figures describe the network, or the tool.
    pub verdict: Verdict,
    /// What is added to a time of its clock to get that of rank 0.
    pub clock_offset_ns: i64,
    /// By how much that may be wrong.
    pub clock_error_ns: u64,
}

/// What a rank tells rank 0 when its run is over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RankDocument {
    /// What was amiss beside what the figures tell.
    amiss: Vec<String>,
    /// What has become here of pings of VMs that others have.
    of_others: Vec<LossOfOthersReport>,
    /// The histograms of each phase, which a report has not.
    phases: Vec<PhaseHistograms>,
    /// The report of the rank alone.
    report: Report,
    /// So many of its misbehaviours, the last ones, are of VMs of other ranks.
    misbehaviours_elsewhere: usize,
    /// What it knows of streams, if there are any.
    streams: Option<StreamsOfRank>,
}

/// Pings of a VM of one rank to one of another, which knows what became of them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct LossOfOthersReport {
    src: String,
    dst: String,
    loss: LossReport,
}

impl From<LossOfOthers> for LossOfOthersReport {
    fn from(of: LossOfOthers) -> LossOfOthersReport {
        LossOfOthersReport {
            src: of.source.to_string(),
            dst: of.target.to_string(),
            loss: LossReport::from((&of.what, of.pings)),
        }
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct PhaseHistograms {
    #[serde(with = "keyed::histograms")]
    histograms: PerMetric<Latency>,
}

impl RankDocument {
    /// What a rank tells that has measured `report` with `recorder`, with streams of these names, and knows what became of pings `of_others`. So many of its
    /// misbehaviours as the number beside it says, the last ones, are of VMs of other ranks.
    pub fn new(
        (mut report, misbehaviours_elsewhere): (Report, usize),
        (recorder, streams): (&Recorder, &[StreamName]),
        of_others: Vec<LossOfOthers>,
        amiss: Vec<String>,
    ) -> RankDocument {
        // They are in `streams`.
        report.streams.clear();
        report.stream_losses.clear();
        let phases = recorder.phases().iter().map(|phase| PhaseHistograms {
            histograms: PerMetric::from_fn(|metric| {
                phase.latency(metric).cloned().unwrap_or_default()
            }),
        });
        RankDocument {
            amiss,
            of_others: of_others
                .into_iter()
                .map(LossOfOthersReport::from)
                .collect(),
            phases: phases.collect(),
            report,
            misbehaviours_elsewhere,
            streams: recorder.streams().map(|of| StreamsOfRank::of(of, streams)),
        }
    }

    /// Has `report`, that of this rank, tell those streams only that have no end elsewhere, since no other rank's will be added. Returns
    /// what is to be said of those that are left out.
    pub fn tell_alone(&mut self, report: &mut Report) -> Option<String> {
        let (told, left_out) = self.streams.take().map(StreamsOfRank::told)?;
        told.put_into(report);
        left_out_words(left_out)
    }

    /// The text of it.
    ///
    /// # Errors
    /// If a figure can't be written.
    pub fn to_text(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// The document of that text.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> serde_json::Result<RankDocument> {
        serde_json::from_str(text)
    }
}

/// A rank, and what it has told.
#[derive(Clone, PartialEq, Debug)]
pub struct RankPart {
    /// Its number.
    pub rank: u32,
    /// Its host.
    pub host: String,
    /// Its clock.
    pub clock: ClockOffset,
    /// What it has measured.
    pub document: RankDocument,
}

/// What ranks have told, gathered as it comes. Of each rank but the first only what can't be told before all have come is kept:
/// flows, rows, what became of pings; histograms, seconds and streams are added up at once, and take as much as those of one rank.
#[derive(Clone, PartialEq, Debug)]
pub struct RankParts(Vec<RankPart>);

impl RankParts {
    /// Begins with what the first rank has told.
    pub fn new(first: RankPart) -> RankParts {
        RankParts(vec![first])
    }

    /// Adds what another rank has told.
    pub fn add(&mut self, mut part: RankPart) {
        if let Some(first) = self.0.first_mut() {
            part.give_histograms_to(first);
        }
        self.0.push(part);
    }

    /// The report of all ranks as one process would have made it, and what was amiss in them. Counts and histograms add up;
    /// times do not, since all ran at once.
    pub fn merge(self) -> Option<(Report, Vec<String>)> {
        let RankParts(mut parts) = self;
        parts.sort_by_key(|part| part.rank);
        merge_ranks(parts)
    }
}

impl RankPart {
    fn give_histograms_to(&mut self, first: &mut RankPart) {
        let (document, ours) = (&mut self.document, &mut first.document);
        for metric in Metric::ALL.iter().copied() {
            let theirs = document.report.histograms[metric].take();
            ours.report.histograms[metric].merge(&theirs);
        }
        let mut phases = std::mem::take(&mut document.phases).into_iter();
        for (known, phase) in ours.phases.iter_mut().zip(&mut phases) {
            for (metric, histogram) in phase.histograms.iter() {
                known.histograms[metric].merge(histogram);
            }
        }
        ours.phases.extend(phases);
        match (&mut ours.streams, document.streams.take()) {
            (Some(known), Some(streams)) => known.add(streams),
            (known @ None, streams) => *known = streams,
            (Some(_), None) => {}
        }
        let seconds = std::mem::take(&mut document.report.seconds);
        add_seconds(&mut ours.report.seconds, seconds);
    }
}

/// The report of ranks whose histograms, seconds and streams the first has.
fn merge_ranks(mut parts: Vec<RankPart>) -> Option<(Report, Vec<String>)> {
    explain_losses(&mut parts);
    let mut amiss = Vec::new();
    for part in &parts {
        let rank = part.rank;
        let told = part.document.amiss.iter();
        amiss.extend(told.map(|what| format!("rank {rank}: {what}")));
    }
    let rows: Vec<RankReport> = parts.iter().map(row).collect();
    let phases = phases(&parts);
    let sentences: Vec<String> = parts.iter().map(own_sentence).collect();
    let documents = parts.iter_mut().map(|part| &mut part.document);
    let mut of_ranks: Vec<_> = documents
        .map(|document| (&mut document.report, document.misbehaviours_elsewhere))
        .collect();
    let misbehaviours = misbehaviours::of_ranks(&mut of_ranks);
    let streams = parts
        .first_mut()
        .and_then(|part| part.document.streams.take());
    let (mut streams, left_out) = streams.map(StreamsOfRank::told).unwrap_or_default();
    amiss.extend(left_out_words(left_out));
    for RankPart { document, .. } in &mut parts {
        // The first tells those of all.
        std::mem::take(&mut streams).put_into(&mut document.report);
    }
    let reports: Vec<Report> = parts.into_iter().map(|part| part.document.report).collect();
    let mut merged = merge(&reports)?;
    let first = reports.first()?;
    let longest = |time: fn(&Report) -> u64| reports.iter().map(time).max().unwrap_or(0);
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).fold(0, u64::saturating_add);
    merged.run.clone_from(&first.run);
    merged.merged = None;
    merged.elapsed_ns = longest(|report| report.elapsed_ns);
    merged.waited_ns = longest(|report| report.waited_ns);
    merged.setup_ns = longest(|report| report.setup_ns);
    merged.rate_per_s = per_second(merged.totals.received, merged.elapsed_ns);
    let each = reports.iter().filter_map(|report| report.connections);
    merged.connections = ConnectionReport::of_ranks(each, merged.elapsed_ns);
    merged.flow_count = sum(|report| report.flow_count);
    merged.flows_whole = sum(|report| report.flows_whole);
    merged.fabric = first.fabric.clone().map(|mut fabric| {
        let across = reports.iter().filter_map(|report| report.fabric.as_ref());
        fabric.flows_across = across.map(|fabric| fabric.flows_across).sum();
        fabric
    });
    if let Some(memory) = &mut merged.memory {
        let each = || reports.iter().filter_map(|report| report.memory);
        memory.rss_bytes = each().map(|memory| memory.rss_bytes).sum();
        memory.peak_bytes = each().map(|memory| memory.peak_bytes).sum();
    }
    merged.misbehaviours = misbehaviours;
    merged.marks = marks::of_ranks(&reports.iter().collect::<Vec<_>>());
    let untold = reports.iter().map(|report| report.marks_untold).max();
    merged.marks_untold = untold.unwrap_or(0);
    merged.phases = phases;
    merged.verdict = verdict(&rows, &sentences, &merged);
    merged.ranks = rows;
    Some((merged, amiss))
}

/// That so many streams are left out, if any are.
fn left_out_words(streams: u64) -> Option<String> {
    let words = match streams {
        0 => return None,
        1 => "1 stream is left out, which begins or ends".to_owned(),
        more => format!("{} streams are left out, which begin or end", count(more)),
    };
    Some(format!(
        "{words} in a rank that has not told what it has measured"
    ))
}

/// Puts pings whose loss the rank that sent them does not know down to what the others say of them.
fn explain_losses(parts: &mut [RankPart]) {
    let documents = || parts.iter().map(|part| &part.document);
    let told = documents().flat_map(|document| &document.of_others);
    let mut told: Vec<LossOfOthersReport> = told.cloned().collect();
    // What was done on purpose comes first: a VM may have ignored what was changed.
    told.sort_by(|one, other| one.loss.cmp(&other.loss));
    let is_unknown = |row: &LossReport| row.cause == Cause::Unknown;
    for part in parts {
        let report = &mut part.document.report;
        let mut causes = BTreeSet::new();
        for LossOfOthersReport { src, dst, loss } in &mut told {
            // Who sent a ping ignores the reply if that was changed on its way.
            let of_changed = loss.direction == Way::Reply
                && loss.reason.as_deref() == Some(Impairment::Corrupted.words());
            let is_changed = |row: &LossReport| {
                let is_ignored = row.cause == Cause::Ignored && row.direction == Way::Reply;
                of_changed && is_ignored && row.place == *src
            };
            let is_open: [&dyn Fn(&LossReport) -> bool; 2] = [&is_changed, &is_unknown];
            let flows = report.flows.iter_mut();
            for flow in flows.filter(|flow| flow.src == *src && flow.dst == *dst) {
                for is_open in is_open {
                    let count = losses::explain(&mut flow.losses, loss.clone(), is_open);
                    loss.count -= count;
                    if count > 0 {
                        causes.insert(loss.cause);
                        let of_run = LossReport {
                            count,
                            ..loss.clone()
                        };
                        losses::explain(&mut report.losses, of_run, is_open);
                    }
                }
            }
        }
        // By when they were due it is only known if it is the same for all.
        if let (Some(cause), None) = (causes.pop_first(), causes.pop_first())
            && !report.losses.iter().any(is_unknown)
        {
            let misbehaviours = report.misbehaviours.iter_mut();
            misbehaviours.for_each(|misbehaviour| misbehaviour.explain(cause));
        }
    }
}

fn row(part: &RankPart) -> RankReport {
    let report = &part.document.report;
    RankReport {
        rank: part.rank,
        host: part.host.clone(),
        rate_per_s: report.rate_per_s,
        lateness_ns: report.summaries[Metric::Lateness],
        verdict: report.verdict.clone(),
        clock_offset_ns: part.clock.nanos,
        clock_error_ns: part.clock.error,
    }
}

/// The run is limited by the tool, or disturbed, if any rank was.
fn verdict(rows: &[RankReport], sentences: &[String], merged: &Report) -> Verdict {
    let each = || rows.iter().zip(sentences);
    let worst = |is_so: fn(&Verdict) -> bool| each().find(|(row, _)| is_so(&row.verdict));
    let limited = worst(|verdict| verdict.limited_by_tool);
    let disturbed = worst(|verdict| verdict.disturbed);
    let busiest = rows.iter().map(|row| row.verdict.busy_share);
    let of_all = &merged.verdict;
    let mut verdict = Verdict {
        busy_share: busiest.fold(0.0, f64::max),
        limited_by_tool: limited.is_some() || of_all.limited_by_tool && disturbed.is_none(),
        disturbed: limited.is_none() && disturbed.is_some(),
        ..of_all.clone()
    };
    if let Some((row, own)) = limited.or(disturbed) {
        verdict.sentence = format!("Rank {}: {}", row.rank, sentence(own, merged));
    } else if !of_all.limited_by_tool
        && let Some((_, own)) = each().max_by(|(one, _), (other, _)| {
            let shares = [one, other].map(|row| row.verdict.busy_share);
            shares[0].total_cmp(&shares[1])
        })
    {
        // Of a run that describes the network the busiest rank tells by how much.
        verdict.sentence = sentence(own, merged);
    }
    verdict
}

/// The sentence of a rank's verdict, without what was done to the network.
fn own_sentence(part: &RankPart) -> String {
    let report = &part.document.report;
    let whole = report.verdict.sentence.as_str();
    let own = whole.strip_suffix(report.influences().as_str());
    own.unwrap_or(whole)
        .replacen(OF_IMPAIRED_NETWORK, OF_NETWORK, 1)
}

/// The sentence with what was done to the network in all ranks.
fn sentence(own: &str, merged: &Report) -> String {
    let is_impaired = !merged.impairments.is_empty();
    let own = match own.strip_prefix(OF_NETWORK).filter(|_| is_impaired) {
        Some(rest) => format!("{OF_IMPAIRED_NETWORK}{rest}"),
        None => own.to_owned(),
    };
    own + &merged.influences()
}

/// The phases, which all ranks went through together.
fn phases(parts: &[RankPart]) -> Vec<PhaseReport> {
    let most = parts
        .iter()
        .max_by_key(|part| part.document.report.phases.len());
    let names = most.map_or(&[][..], |part| &part.document.report.phases);
    let merged = names.iter().enumerate().map(|(number, known)| {
        let mut phase = known.clone();
        let of_ranks: Vec<&PhaseReport> = parts
            .iter()
            .filter_map(|part| part.document.report.phases.get(number))
            .collect();
        phase.totals = Default::default();
        of_ranks.iter().for_each(|each| phase.totals += each.totals);
        let longest = |time: fn(&PhaseReport) -> u64| of_ranks.iter().map(|each| time(each)).max();
        phase.elapsed_ns = longest(|each| each.elapsed_ns).unwrap_or(0);
        phase.waited_ns = longest(|each| each.waited_ns).unwrap_or(0);
        phase.sent_per_s = per_second(phase.totals.sent, phase.elapsed_ns);
        phase.rate_per_s = per_second(phase.totals.received, phase.elapsed_ns);
        let each = of_ranks.iter().filter_map(|each| each.connections);
        phase.connections = ConnectionReport::of_ranks(each, phase.elapsed_ns);
        if of_ranks.iter().any(|each| each.nothing_sent.is_none()) {
            phase.nothing_sent = None;
        }
        let histograms = parts
            .iter()
            .find_map(|part| part.document.phases.get(number));
        if let Some(PhaseHistograms { histograms }) = histograms {
            phase.summaries = PerMetric::from_fn(|metric| histograms[metric].summary());
        }
        // Of a rank that has sent something, if there is one.
        let judged = of_ranks.iter().filter(|each| each.nothing_sent.is_none());
        let worst = judged.max_by(|one, other| {
            let badness = |verdict: &Verdict| (verdict.limited_by_tool, verdict.disturbed);
            let (one, other) = (&one.verdict, &other.verdict);
            badness(one)
                .cmp(&badness(other))
                .then(one.busy_share.total_cmp(&other.busy_share))
        });
        if let Some(worst) = worst {
            phase.verdict = worst.verdict.clone();
        }
        phase
    });
    merged.collect()
}

/// Adds the seconds of a rank, which began everywhere at once.
fn add_seconds(known: &mut Vec<SecondReport>, seconds: Vec<SecondReport>) {
    let each = std::mem::take(known).into_iter();
    let mut all: BTreeMap<u64, SecondReport> = each.map(|of| (of.start_ns, of)).collect();
    for second in seconds {
        let Some(known) = all.get_mut(&second.start_ns) else {
            all.insert(second.start_ns, second);
            continue;
        };
        known.length_ns = known.length_ns.max(second.length_ns);
        known.sent = known.sent.saturating_add(second.sent);
        known.received = known.received.saturating_add(second.received);
        known.failed = known.failed.saturating_add(second.failed);
        (known.rtt, known.rtt_ns) = both(&known.rtt, &second.rtt);
        (known.response, known.response_ns) = both(&known.response, &second.response);
    }
    known.extend(all.into_values());
}

fn both(one: &SparseLatency, other: &SparseLatency) -> (SparseLatency, LatencySummary) {
    let mut sum = one.expand();
    sum.merge(&other.expand());
    (SparseLatency::from(&sum), sum.summary())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fabric::Direction;
    use crate::report::{ImpairedFrames, fixtures};
    use crate::vm::VmId;

    fn part(rank: u32, report: Report) -> RankPart {
        let phases = report.phases.iter().map(|_| PhaseHistograms {
            histograms: report.histograms.clone(),
        });
        RankPart {
            rank,
            host: format!("host{rank}"),
            clock: ClockOffset {
                nanos: -5 * i64::from(rank),
                error: 3,
            },
            document: RankDocument {
                amiss: vec![format!("something of {rank}")],
                of_others: Vec::new(),
                phases: phases.collect(),
                report,
                misbehaviours_elsewhere: 0,
                streams: None,
            },
        }
    }

    /// What comes of parts of which the first is rank 0, and the others come in another order than that of their ranks.
    fn merge_ranks(parts: Vec<RankPart>) -> Option<(Report, Vec<String>)> {
        let mut parts = parts.into_iter();
        let mut gathered = RankParts::new(parts.next()?);
        parts.rev().for_each(|part| gathered.add(part));
        gathered.merge()
    }

    #[test]
    fn of_ranks_that_have_come_no_histogram_and_no_second_is_kept() {
        let mut gathered = RankParts::new(part(0, fixtures::whole()));
        for rank in 1..5 {
            gathered.add(part(rank, fixtures::slower(3)));
        }
        let RankParts(parts) = &gathered;
        for RankPart { document, .. } in &parts[1..] {
            assert!(document.phases.is_empty() && document.report.seconds.is_empty());
            for (_, histogram) in document.report.histograms.iter() {
                assert_eq!(*histogram, histogram.clone().take());
            }
        }
    }

    #[test]
    fn ranks_are_told_as_one_run_whose_percentiles_come_from_all_values() {
        let (one, other) = (fixtures::whole(), fixtures::slower(3));
        let parts = vec![part(0, one.clone()), part(1, other.clone())];
        let (merged, amiss) = merge_ranks(parts).unwrap();
        assert_eq!(amiss, ["rank 0: something of 0", "rank 1: something of 1"]);
        assert_eq!(merged.elapsed_ns, one.elapsed_ns.max(other.elapsed_ns));
        assert_eq!(merged.totals, one.totals + other.totals);
        assert_eq!(merged.run, one.run);
        assert_eq!(merged.merged, None);
        let expected = per_second(merged.totals.received, merged.elapsed_ns);
        assert_eq!(merged.rate_per_s, expected);
        let mut all = one.histograms[Metric::Rtt].clone();
        all.merge(&other.histograms[Metric::Rtt]);
        assert_eq!(merged.summaries[Metric::Rtt], all.summary());
        let seconds = one.seconds.len().max(other.seconds.len());
        assert_eq!(merged.seconds.len(), seconds);
        let received =
            |report: &Report| report.seconds.iter().map(|each| each.received).sum::<u64>();
        assert_eq!(received(&merged), received(&one) + received(&other));
        let rows: Vec<_> = merged
            .ranks
            .iter()
            .map(|row| (row.rank, row.clock_offset_ns))
            .collect();
        assert_eq!(rows, [(0, 0), (1, -5)]);
        assert_eq!(merged.ranks[1].host, "host1");
        let phases: Vec<&str> = merged
            .phases
            .iter()
            .map(|phase| phase.name.as_str())
            .collect();
        let known: Vec<&str> = one.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(phases, known);
        assert_eq!(merge_ranks(Vec::new()), None);
    }

    #[test]
    fn one_rank_that_is_limited_by_the_tool_limits_the_whole() {
        let (mut one, other) = (fixtures::report(), fixtures::report());
        one.verdict.limited_by_tool = true;
        one.verdict.sentence = "It was busy.".to_owned();
        let (merged, _) = merge_ranks(vec![part(0, other.clone()), part(1, one)]).unwrap();
        assert!(merged.verdict.limited_by_tool);
        assert_eq!(merged.verdict.sentence, "Rank 1: It was busy.");
        let (merged, _) = merge_ranks(vec![part(0, other.clone()), part(1, other)]).unwrap();
        assert!(!merged.verdict.limited_by_tool);
    }

    #[test]
    fn what_one_rank_has_done_to_the_network_is_told_whichever_rank_is_told_of() {
        let (plain, mut impaired) = (fixtures::report(), fixtures::report());
        impaired.impairments = vec![ImpairedFrames {
            vm: VmId(1),
            direction: Direction::In,
            kind: Impairment::Lost,
            frames: 7,
        }];
        let judged = |mut report: Report, busy: u64| {
            report.judge(busy, 0);
            report
        };
        // The busiest is the one that has impaired nothing.
        let busy = plain.elapsed_ns / 2;
        let ranks = [judged(plain, busy), judged(impaired, 0)];
        let parts = |ranks: &[Report]| {
            let parts = (0..).zip(ranks);
            parts
                .map(|(rank, report)| part(rank, report.clone()))
                .collect()
        };
        let (merged, _) = merge_ranks(parts(&ranks)).unwrap();
        let sentence = &merged.verdict.sentence;
        assert!(
            sentence.starts_with(&format!("{OF_IMPAIRED_NETWORK}: the reactor was busy 50")),
            "{sentence}"
        );
        assert_eq!(
            sentence.matches("Frames were impaired").count(),
            1,
            "{sentence}"
        );
        assert!(sentence.ends_with("(--impair): 7 lost."), "{sentence}");
        let [mut busy, impaired] = ranks;
        busy.verdict.limited_by_tool = true;
        let (merged, _) = merge_ranks(parts(&[busy, impaired])).unwrap();
        let sentence = &merged.verdict.sentence;
        assert!(sentence.starts_with("Rank 0: "), "{sentence}");
        assert!(sentence.ends_with("(--impair): 7 lost."), "{sentence}");
    }

    #[test]
    fn what_one_rank_knows_of_the_lost_pings_of_another_explains_them_and_changes_no_sum() {
        let unknown = |count| LossReport {
            cause: Cause::Unknown,
            place: "unknown".to_owned(),
            direction: Way::Unknown,
            count,
            reason: None,
        };
        let impaired = |count| LossReport {
            cause: Cause::Impaired,
            place: "vm1".to_owned(),
            direction: Way::Request,
            ..unknown(count)
        };
        let mut report = fixtures::report();
        report.flows.truncate(1);
        let told = |src: &str, loss| LossOfOthersReport {
            src: src.to_owned(),
            dst: report.flows[0].dst.clone(),
            loss,
        };
        let own = report.flows[0].src.clone();
        let told = vec![told(&own, impaired(3)), told("vm99", impaired(5))];
        report.flows[0].losses = vec![unknown(4)];
        report.losses = vec![unknown(10)];
        let mut other = part(1, fixtures::report());
        other.document.report.flows.clear();
        other.document.report.losses.clear();
        other.document.of_others = told;
        let (merged, _) = merge_ranks(vec![part(0, report), other]).unwrap();
        assert_eq!(merged.flows[0].losses, [impaired(3), unknown(1)]);
        assert_eq!(merged.losses, [unknown(7), impaired(3)]);
    }

    #[test]
    fn replies_that_the_source_ignores_are_put_down_to_the_rank_that_has_changed_them() {
        let mut report = fixtures::report();
        report.flows.truncate(1);
        let (src, dst) = (report.flows[0].src.clone(), report.flows[0].dst.clone());
        let row = |cause, place: &str, direction, count, reason: &str| LossReport {
            cause,
            place: place.to_owned(),
            direction,
            count,
            reason: Some(reason.to_owned()),
        };
        let ignored = row(Cause::Ignored, &src, Way::Reply, 5, "bad_icmp_checksum");
        let elsewhere = row(Cause::Ignored, &dst, Way::Request, 2, "bad_icmp_checksum");
        report.flows[0].losses = vec![ignored.clone(), elsewhere.clone()];
        report.losses.clone_from(&report.flows[0].losses);
        let mut other = part(1, fixtures::report());
        other.document.report.flows.clear();
        other.document.report.losses.clear();
        other.document.of_others = vec![
            LossOfOthersReport {
                src: src.clone(),
                dst: dst.clone(),
                loss: row(Cause::Impaired, &dst, Way::Reply, 4, "corrupted"),
            },
            LossOfOthersReport {
                src,
                dst: dst.clone(),
                loss: row(Cause::Impaired, &dst, Way::Reply, 9, "lost"),
            },
        ];
        let (merged, _) = merge_ranks(vec![part(0, report), other]).unwrap();
        let expected = [
            row(Cause::Impaired, &dst, Way::Reply, 4, "corrupted"),
            elsewhere,
            LossReport {
                count: 1,
                ..ignored
            },
        ];
        assert_eq!(merged.flows[0].losses, expected);
        assert_eq!(merged.losses, expected);
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let document = part(1, fixtures::whole()).document;
        let text = document.to_text().unwrap();
        let read = RankDocument::parse(&text).unwrap();
        assert_eq!(read.report.totals, document.report.totals);
        assert_eq!(read.report.ranks, document.report.ranks);
        let histograms = |document: &RankDocument| {
            let phases = document.phases.iter();
            let each = phases.map(|phase| phase.histograms[Metric::Rtt].summary());
            each.collect::<Vec<_>>()
        };
        assert_eq!(histograms(&read), histograms(&document));
        assert!(RankDocument::parse("{}").is_err());
    }
}
