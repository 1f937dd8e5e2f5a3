//! VMs that misbehaved on purpose, and what that did to the others: response before, meanwhile and after.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::losses::{CauseReport, cause_words};
use super::units::{count, percent, span, span_or_dash};
use super::{Report, Table, encoding};
use crate::fabric::MisbehaviourRecord;
use crate::record::{
    Cause, Latency, LatencySummary, LeanLatency, Response, Responses, SparseLatency, Window,
};
use crate::time::Instant;
use crate::vm::{Misbehaviour, Misdeed, VmId};

/// A misbehaviour of a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Misbehaviour")]
pub struct MisbehaviourSummary {
    /// The VM, such as `vm9`.
    #[serde(with = "crate::vm::named")]
    #[schemars(with = "String", regex(pattern = crate::vm::named::PATTERN))]
    pub vm: VmId,
    /// The word for what it did, such as `arp-flood`.
    pub kind: String,
    /// What it did, such as `arp-flood 1000/s`.
    pub what: String,
    /// When it began, or is to, in nanoseconds since the first ping could be sent.
    pub began_ns: u64,
    /// It is still to come; absent if it has begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_come: bool,
    /// When it ended, by the same clock; absent if it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ns: Option<u64>,
    /// Why it did not take place; absent if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it has done, and how often; only what occurred.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Misdeed, u64>,
}

impl MisbehaviourSummary {
    /// The summary of `record`, with times since `start`.
    pub fn of(record: &MisbehaviourRecord, start: Instant) -> MisbehaviourSummary {
        MisbehaviourSummary {
            vm: record.vm,
            kind: record.misbehaviour.name().to_owned(),
            what: record.misbehaviour.to_string(),
            began_ns: record.began.nanos_since(start),
            to_come: false,
            ended_ns: record.ended.map(|ended| ended.nanos_since(start)),
            refused: record.refused.clone(),
            counts: record.misdeeds.iter().collect(),
        }
    }

    /// That of one that is due `at`, with times since `start`.
    pub fn planned(
        (at, vm, misbehaviour): (Instant, VmId, Misbehaviour),
        start: Instant,
    ) -> MisbehaviourSummary {
        MisbehaviourSummary {
            vm,
            kind: misbehaviour.name().to_owned(),
            what: misbehaviour.to_string(),
            began_ns: at.nanos_since(start),
            to_come: true,
            ended_ns: None,
            refused: None,
            counts: BTreeMap::new(),
        }
    }

    /// How long it took, in nanoseconds; `None` if it goes on.
    pub fn lasted_ns(&self) -> Option<u64> {
        let ended = self.ended_ns?;
        Some(ended.saturating_sub(self.began_ns))
    }

    /// What it has done, in words: `2,000 sent, 3 left out`. Empty if nothing.
    pub fn done(&self) -> String {
        let done = self.counts.iter();
        let done = done.map(|(kind, number)| format!("{} {}", count(*number), kind.words()));
        done.collect::<Vec<_>>().join(", ")
    }
}

/// A misbehaviour of a VM (`--misbehave`), and what became of pings before, meanwhile and after. A ping belongs to the time at
/// which it was due; those of a warm-up are left out. Before is the time up to the beginning, from the end of the misbehaviour before it or from the beginning of
/// the run on; after is the time from the end on until the next misbehaviour.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MisbehaviourReport {
    /// What it was.
    #[serde(flatten)]
    pub summary: MisbehaviourSummary,
    /// Flows between VMs that do not misbehave in the run. Of a misbehaviour that came by request in a run without others,
    /// the time before is that of all flows.
    pub others: DisturbedReport,
    /// Flows from or to a VM that misbehaves in the run: this one, or another.
    pub misbehaving: DisturbedReport,
}

/// The pings of some flows before a misbehaviour, meanwhile, and after.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DisturbedReport {
    /// Those due before.
    pub before: ResponseReport,
    /// Those due meanwhile.
    pub during: ResponseReport,
    /// Those due after.
    pub after: ResponseReport,
}

/// The pings of some flows in some time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ResponseReport {
    /// Pings that were answered in time.
    pub answered: u64,
    /// Pings that were not.
    pub unanswered: u64,
    /// What they were lost to, as in `losses`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<CauseReport>,
    /// From when each was due to its answer.
    pub response_ns: LatencySummary,
    /// The histogram of that.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub response: SparseLatency,
}

impl ResponseReport {
    /// The share of pings that were not answered; `None` without pings.
    pub fn loss(&self) -> Option<f64> {
        let ended = self.answered.saturating_add(self.unanswered);
        (ended > 0).then(|| self.unanswered as f64 / ended as f64)
    }

    fn figures(&self) -> Response {
        let causes = self.causes.iter();
        Response {
            answered: self.answered,
            unanswered: self.unanswered,
            causes: causes.map(|of| (of.cause, of.count)).collect(),
            latency: LeanLatency::from(&self.response.expand()),
        }
    }

    fn add(&mut self, other: &ResponseReport) {
        let mut sum = self.figures();
        sum.merge(&other.figures());
        *self = sum.into();
    }

    /// Puts pings of which no cause is known down to `to`.
    fn explain(&mut self, to: Cause) {
        let mut sum = self.figures();
        if let Some(pings) = sum.causes.remove(&Cause::Unknown) {
            *sum.causes.entry(to).or_default() += pings;
        }
        *self = sum.into();
    }
}

impl From<Response> for ResponseReport {
    fn from(response: Response) -> ResponseReport {
        let latency = Latency::from(&response.latency);
        ResponseReport {
            answered: response.answered,
            unanswered: response.unanswered,
            causes: response.causes.into_iter().map(CauseReport::from).collect(),
            response_ns: latency.summary(),
            response: SparseLatency::from(&latency),
        }
    }
}

impl DisturbedReport {
    /// The three times, each with its word.
    pub fn times(&self) -> [(&'static str, &ResponseReport); 3] {
        [
            ("before", &self.before),
            ("during", &self.during),
            ("after", &self.after),
        ]
    }

    fn add(&mut self, other: &DisturbedReport) {
        self.before.add(&other.before);
        self.during.add(&other.during);
        self.after.add(&other.after);
    }

    fn has_pings(&self) -> bool {
        let mut times = self.times().into_iter();
        times.any(|(_, of)| of.loss().is_some())
    }
}

impl MisbehaviourReport {
    /// Puts pings of which no cause is known down to `to`.
    pub(super) fn explain(&mut self, to: Cause) {
        for of in [&mut self.others, &mut self.misbehaving] {
            of.before.explain(to);
            of.during.explain(to);
            of.after.explain(to);
        }
    }

    /// The flows that are told apart, each with its word.
    pub fn flows(&self) -> [(&'static str, &DisturbedReport); 2] {
        [
            ("between others", &self.others),
            ("of misbehaving VMs", &self.misbehaving),
        ]
    }
}

/// The reports of `records`, with what `responses` has of the times; these are told since `began`.
pub(super) fn misbehaviours(
    records: &[MisbehaviourRecord],
    responses: Option<&Responses>,
    began: Instant,
) -> Vec<MisbehaviourReport> {
    let windows = responses.map_or(&[][..], Responses::windows);
    let took_place = || records.iter().filter(|record| record.refused.is_none());
    let end_of =
        |record: &MisbehaviourRecord| record.ended.unwrap_or(Instant::from_nanos(u64::MAX));
    let report = |record: &MisbehaviourRecord| {
        let end = end_of(record);
        // Nobody misbehaves in a time that is quiet.
        let quiet_since = took_place()
            .map(end_of)
            .filter(|end| *end <= record.began)
            .max();
        let quiet_since = quiet_since.unwrap_or(Instant::ZERO);
        let is_quiet = |begin: Instant| {
            let mut others = took_place();
            !others.any(|other| other.began <= begin && begin < end_of(other))
        };
        let next = took_place()
            .map(|other| other.began)
            .filter(|next| *next >= end)
            .min();
        let is_before = |at| quiet_since <= at && at < record.began && is_quiet(at);
        let is_during = |at| record.began <= at && at < end;
        let is_before_next = |at: Instant| next.is_none_or(|next| at < next);
        let is_after = |at| end <= at && is_before_next(at) && is_quiet(at);
        let disturbed = |of: fn(&Window) -> &Response| {
            let sum = |is_part: &dyn Fn(Instant) -> bool| {
                let mut sum = Response::default();
                let parts = windows.iter().filter(|window| is_part(window.begin()));
                parts.for_each(|part| sum.merge(of(part)));
                sum.into()
            };
            DisturbedReport {
                before: sum(&is_before),
                during: sum(&is_during),
                after: sum(&is_after),
            }
        };
        MisbehaviourReport {
            summary: MisbehaviourSummary::of(record, began),
            others: disturbed(|window| &window.others),
            misbehaving: disturbed(|window| &window.misbehaving),
        }
    };
    records.iter().map(report).collect()
}

/// What became of pings of flows between VMs that behave while others misbehaved in this way, in all of these times.
pub(super) fn others_during(report: &Report, kind: &str) -> ResponseReport {
    let mut sum = Response::default();
    let of_kind = report
        .misbehaviours
        .iter()
        .filter(|each| each.summary.kind == kind);
    for during in of_kind.map(|each| &each.others.during) {
        sum.merge(&during.figures());
    }
    sum.into()
}

/// The misbehaviours of several ranks, each told by the rank of the VM, with what became of the pings of all. Of each report the
/// last ones are of VMs of other ranks: so many as the number beside it says.
pub(super) fn of_ranks(parts: &mut [(&mut Report, usize)]) -> Vec<MisbehaviourReport> {
    let mut own = Vec::new();
    let mut elsewhere = Vec::new();
    for (report, number) in parts {
        let known = report.misbehaviours.len().saturating_sub(*number);
        elsewhere.push(report.misbehaviours.split_off(known));
        own.extend(report.misbehaviours.iter().cloned());
    }
    for each in elsewhere.iter().flatten() {
        let of = &each.summary;
        let same = own.iter_mut().filter(|other: &&mut MisbehaviourReport| {
            (other.summary.vm, &other.summary.what) == (of.vm, &of.what)
        });
        let nearest = same.min_by_key(|other| other.summary.began_ns.abs_diff(of.began_ns));
        // Nothing became of pings by one that did not take place.
        if let Some(nearest) = nearest.filter(|other| other.summary.refused.is_none()) {
            nearest.others.add(&each.others);
            nearest.misbehaving.add(&each.misbehaving);
        }
    }
    own.sort_by_key(|each| each.summary.began_ns);
    own
}

/// The columns of the table of what a misbehaviour did to flows.
pub(super) const COLUMNS: [&str; 9] = [
    "flows",
    "when",
    "answered",
    "lost",
    "response p50",
    "p90",
    "p99",
    "max",
    "lost to",
];

/// The rows of that table.
pub(super) fn rows(report: &MisbehaviourReport) -> Vec<[String; 9]> {
    let mut rows = Vec::new();
    for (flows, disturbed) in report.flows() {
        if !disturbed.has_pings() {
            continue;
        }
        for (when, of) in disturbed.times() {
            let lost = of.loss().map_or_else(|| "–".to_owned(), percent);
            let figures = &of.response_ns;
            rows.push([
                flows.to_owned(),
                when.to_owned(),
                count(of.answered),
                lost,
                span_or_dash(figures.p50),
                span_or_dash(figures.p90),
                span_or_dash(figures.p99),
                span_or_dash(figures.max),
                cause_words(&of.causes),
            ]);
        }
    }
    rows
}

/// What a misbehaviour was, in a line: `vm9 arp-flood 1000/s after 5.00 s for 2.00 s: 2,000 sent`.
pub(super) fn words(of: &MisbehaviourSummary) -> String {
    let MisbehaviourSummary { vm, what, .. } = of;
    let after = span(of.began_ns);
    if let Some(why) = &of.refused {
        return format!("{vm} {what} after {after} did not take place: {why}");
    }
    let lasts = of.lasted_ns().map_or_else(
        || "since".to_owned(),
        |lasts| format!("for {}", span(lasts)),
    );
    let done = match of.counts.is_empty() {
        true => "nothing done".to_owned(),
        false => of.done(),
    };
    format!("{vm} {what} after {after} {lasts}: {done}")
}

/// The table of what a misbehaviour did to flows, in lines.
pub(super) fn lines(report: &MisbehaviourReport) -> Vec<String> {
    let rows = rows(report);
    if rows.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new(2, &COLUMNS);
    rows.into_iter().for_each(|row| table.row(row));
    table.lines()
}

/// The addition to a verdict where VMs misbehaved.
pub(super) fn sentence(reports: &[MisbehaviourReport]) -> Option<String> {
    let summaries = reports.iter().map(|report| &report.summary);
    let mut took_place = summaries.filter(|of| of.refused.is_none());
    let first = took_place.next()?;
    let more = match took_place.count() as u64 {
        0 => String::new(),
        others => format!(", and {} more", count(others)),
    };
    Some(format!(
        " Misbehaviour was asked for (--misbehave): {} {}{more}.",
        first.vm, first.what
    ))
}

impl Report {
    /// Takes in the misbehaviours of another run, told by the time of that. Each run has a bounded number of them.
    pub(super) fn merge_misbehaviours(&mut self, other: &Report) {
        let theirs = other.misbehaviours.iter().cloned();
        self.misbehaviours.extend(theirs);
    }
}

#[cfg(test)]
mod tests {
    use crate::fabric::MAX_MISBEHAVIOURS;
    use crate::report::{fixtures, merge};

    #[test]
    fn reports_of_runs_that_are_merged_keep_the_misbehaviours_of_each() {
        let mut report = fixtures::whole();
        let one = report.misbehaviours[0].clone();
        report.misbehaviours = vec![one; MAX_MISBEHAVIOURS - 1];
        let merged = merge(&[report.clone(), report.clone(), report]).unwrap();
        assert_eq!(merged.misbehaviours.len(), 3 * (MAX_MISBEHAVIOURS - 1));
    }
}
