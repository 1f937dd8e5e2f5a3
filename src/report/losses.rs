//! Where pings were lost and why, as reports tell it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use super::units::{count, counted};
use crate::load::FlowId;
use crate::record::{Attribution, Cause, LossMethod, Losses, Way};

/// Pings that failed for the same cause, in the same place and direction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LossReport {
    /// Why they failed.
    pub cause: Cause,
    /// Where: a VM or its port, such as `vm3`, another link, such as `br0`, `tool`, `others` for several places, or `unknown`.
    pub place: String,
    /// The part of a ping that did not arrive.
    pub direction: Way,
    /// The number of pings.
    pub count: u64,
    /// What more is known: the kernel's reason and its function, why a VM ignored the frame, what stood in its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How it was found out where pings were lost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LossSearchReport {
    /// By what the kernel tells of each drop, by what it counts, or not at all.
    pub method: LossMethod,
    /// Why not better; absent if there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Drops that the kernel told of and that were not looked at, because there were too many of them.
    #[serde(default, skip_serializing_if = "super::document::nothing")]
    pub missed: u64,
}

/// Pings that were lost to one cause.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CauseReport {
    /// The cause.
    pub cause: Cause,
    /// How many.
    pub count: u64,
}

impl From<(Cause, u64)> for CauseReport {
    fn from((cause, count): (Cause, u64)) -> CauseReport {
        CauseReport { cause, count }
    }
}

/// What pings were lost to, in a cell: the cause if it is one, or how many to each.
pub(super) fn cause_words(causes: &[CauseReport]) -> String {
    match causes {
        [one] => one.cause.to_string(),
        several => {
            let several = several.iter();
            let several = several.map(|of| format!("{} {}", of.cause, count(of.count)));
            several.collect::<Vec<_>>().join(", ")
        }
    }
}

impl From<(&Attribution, u64)> for LossReport {
    fn from((of, count): (&Attribution, u64)) -> LossReport {
        LossReport {
            cause: of.cause,
            place: of.place.to_string(),
            direction: of.way,
            count,
            reason: of.reason(),
        }
    }
}

impl From<&Losses> for LossSearchReport {
    fn from(losses: &Losses) -> LossSearchReport {
        let (method, why) = losses.method();
        LossSearchReport {
            method,
            why: (!why.is_empty()).then(|| why.to_owned()),
            missed: losses.missed(),
        }
    }
}

impl LossReport {
    /// What, where and why in words, such as `request dropped in the bridge`, `vm3` and the reason; the last may be empty.
    pub(super) fn cells(&self) -> [String; 4] {
        [
            self.cause.words().to_owned(),
            self.direction.word().to_owned(),
            self.place.clone(),
            self.reason.clone().unwrap_or_default(),
        ]
    }

    /// In a few words: `3 queue of the destination full (request, vm1)`.
    fn short(&self) -> String {
        let (pings, words) = (count(self.count), self.cause.words());
        let direction = Some(self.direction).filter(|way| *way != Way::Unknown);
        let place = Some(self.place.as_str()).filter(|place| !["unknown", "tool"].contains(place));
        let known: Vec<&str> = direction.map(Way::word).into_iter().chain(place).collect();
        match known.as_slice() {
            [] => format!("{pings} {words}"),
            known => format!("{pings} {words} ({})", known.join(", ")),
        }
    }
}

/// The losses of a run, those with the most pings first.
pub(super) fn of_run(losses: &Losses) -> Vec<LossReport> {
    sorted(losses.rows().map(LossReport::from))
}

/// Those of a flow.
pub(super) fn of_flow(losses: &Losses, flow: FlowId) -> Vec<LossReport> {
    let rows = losses.of_flow(flow);
    sorted(
        rows.iter()
            .map(|(of, pings)| LossReport::from((of, *pings))),
    )
}

fn sorted(rows: impl Iterator<Item = LossReport>) -> Vec<LossReport> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|one, other| (Reverse(one.count), one).cmp(&(Reverse(other.count), other)));
    rows
}

/// Adds the losses of `others` up with those of `known`.
pub(super) fn merge(known: &mut Vec<LossReport>, others: &[LossReport]) {
    if others.is_empty() {
        return;
    }
    let mut sums = BTreeMap::new();
    for row in known.drain(..).chain(others.iter().cloned()) {
        let count = row.count;
        let sum: &mut u64 = sums.entry(LossReport { count: 0, ..row }).or_default();
        *sum = sum.saturating_add(count);
    }
    let rows = sums.into_iter();
    *known = sorted(rows.map(|(row, count)| LossReport { count, ..row }));
}

/// Puts as many of the pings of which `is_open` is true down to `to` as that counts, and returns how many there were.
pub(super) fn explain(
    rows: &mut Vec<LossReport>,
    to: LossReport,
    is_open: impl Fn(&LossReport) -> bool,
) -> u64 {
    let mut left = to.count;
    for row in rows.iter_mut().filter(|row| is_open(row)) {
        let taken = left.min(row.count);
        row.count -= taken;
        left -= taken;
    }
    rows.retain(|row| row.count > 0);
    let count = to.count - left;
    if count > 0 {
        merge(rows, &[LossReport { count, ..to }]);
    }
    count
}

/// Rows of a flow that are told in its line.
const OF_FLOW_SHOWN: usize = 3;

/// The losses of a flow in a line, if it has some.
pub(super) fn of_flow_in_words(losses: &[LossReport]) -> Option<String> {
    let shown: Vec<String> = losses
        .iter()
        .take(OF_FLOW_SHOWN)
        .map(LossReport::short)
        .collect();
    let others = losses.iter().skip(OF_FLOW_SHOWN).map(|row| row.count);
    let others: u64 = others.fold(0, u64::saturating_add);
    let more = (others > 0).then(|| format!("{} otherwise", count(others)));
    let told: Vec<String> = shown.into_iter().chain(more).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// How it was found out, in a sentence.
pub(super) fn method(report: &Report) -> Option<String> {
    let search = report.loss_attribution.as_ref()?;
    let how = match search.method {
        LossMethod::Tracepoints => "found by the kernel's tracepoints",
        LossMethod::Counters => "found by elimination, from counters and the states of ports",
        LossMethod::None => "the kernel was not asked",
    };
    let why = search.why.as_ref().map(|why| format!(" ({why})"));
    let missed = (search.missed > 0).then(|| {
        let drops = counted(search.missed, "drop");
        format!("; {drops} more than could be looked at")
    });
    let parts = [why, missed].into_iter().flatten();
    Some(how.to_owned() + &parts.collect::<String>())
}

impl Report {
    /// The number of pings that failed for `cause`; `None` of a report of a version that did not tell causes.
    pub fn lost_for(&self, cause: Cause) -> Option<u64> {
        let has_causes =
            !self.losses.is_empty() || self.totals.failed() == 0 && self.totals.ended() > 0;
        let rows = self.losses.iter().filter(|row| row.cause == cause);
        has_causes.then(|| rows.fold(0, |sum: u64, row| sum.saturating_add(row.count)))
    }

    /// The number of frames of streams that were lost to `cause`; `None` of a report without streams, or of a version that did not tell
    /// causes.
    pub fn frames_lost_for(&self, cause: Cause) -> Option<u64> {
        let counts = self.stream_counts?;
        let has_causes = !self.stream_losses.is_empty() || counts.lost == 0;
        let rows = self.stream_losses.iter().filter(|row| row.cause == cause);
        has_causes.then(|| rows.fold(0, |sum: u64, row| sum.saturating_add(row.count)))
    }

    /// Takes in the losses of another run.
    pub(super) fn merge_losses(&mut self, other: &Report) {
        merge(&mut self.losses, &other.losses);
        // Of runs in which it was found out in different ways none is that of all.
        let known = self
            .loss_attribution
            .take()
            .zip(other.loss_attribution.as_ref());
        let alike =
            known.filter(|(one, other)| (one.method, &one.why) == (other.method, &other.why));
        self.loss_attribution = alike.map(|(one, other)| LossSearchReport {
            missed: one.missed.saturating_add(other.missed),
            ..one
        });
    }
}

#[cfg(test)]
mod tests;
