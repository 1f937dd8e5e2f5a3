//! Marks: instants that somebody named, and how long it took from each until the pings of each flow passed, or no longer did.
//!
//! # What is measured
//!
//! A ping belongs to the last mark at or before the time when it was *due*, as it belongs to a phase. It was sent after the
//! mark then, for no ping is sent before it is due. So a mark's window ends with the next mark, whoever sets it, or with the
//! run; the answer to a ping of the window may come after its end. Pings of a warm-up belong to marks as all others do.
//!
//! A ping *passes* if it counts as received: answered in time and with the data that was sent; one to a group, if its first
//! member has answered so. The instant of a pass is the *receipt* of the answer, because only then it is known. So a first
//! pass is told too late by at most the flow's interval between two pings and one rtt, and never too early; a last pass is
//! told too early by at most one interval, or too late by at most one rtt. Late answers, and duplicates, are no passes:
//! who looks for leaks that are slow raises the timeout of pings.
//!
//! A flow that begins after a mark, because it was added or because its VM started, has nothing to tell of the time before: its
//! passes are told from when its own first ping was due.
//!
//! A ping that was sent and not received does not pass, and neither does one that could not be sent because nobody answered
//! for its neighbour. One that was on its way when its VM or its flow was taken away says nothing, and does not count.
//!
//! # How
//!
//! First pass, last pass and the gaps follow from the receipts, which come in order. Changes are counted in the order of the
//! pings' numbers in their flow, which is that of their sending, while they end in any order: of each flow the ends that came
//! before an earlier ping's are kept until that has ended, three bytes each; no flow has more than
//! [`MAX_OUTSTANDING`](crate::vm::MAX_OUTSTANDING) of those.

use std::collections::VecDeque;

use super::{Latency, MarkMetric, MarkName};
use crate::load::FlowId;
use crate::time::Instant;

/// Marks of a run that keep figures, the first of them; of the others only the number is known.
pub const MAX_MARKS: usize = 64;

/// Flows whose figures are kept, those of all marks together: 56 bytes each. A mark that would need more keeps none, unless it
/// is the first.
pub const MAX_MARKED_FLOWS: usize = 1 << 20;

/// Ends that one flow keeps because an earlier ping has none. VMs have fewer pings on their way.
const MAX_KEPT: usize = 1 << 16;

/// All marks of a run.
#[derive(Clone, Debug)]
pub struct Marks {
    marks: Vec<Mark>,
    untold: u64,
    /// By flow: how far its pings have ended.
    ends: Vec<Ends>,
}

/// A mark, and the figures of the flows until the next one.
#[derive(Clone, Debug)]
pub struct Mark {
    name: MarkName,
    detail: String,
    at: Instant,
    end: Option<Instant>,
    /// By flow; shorter if the others have none.
    flows: Vec<FlowMark>,
    /// How often the figures of a flow have changed.
    changed: u64,
}

/// The figures of a flow since a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowMark {
    /// Pings that passed.
    pub answered: u64,
    /// Pings that did not.
    pub unanswered: u64,
    first_ns: u64,
    last_ns: u64,
    longest_gap_ns: u64,
    /// From the mark to when the first ping was due that has ended; only of a flow that began after the mark.
    begins_ns: u64,
    changes: u32,
    /// How the last one ended, in the order of sending, of those that are known so far.
    passes: Option<bool>,
    /// The flow began after the mark.
    is_later: bool,
}

/// How far the pings of a flow have ended.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// The number of the first ping whose end is not known.
    next: u64,
    /// The ends of those from there on that are known.
    kept: VecDeque<Option<End>>,
}

/// The end of a ping.
#[derive(Clone, Copy, Debug)]
struct End {
    /// The index of its mark; `None` if it belongs to none that keeps figures.
    mark: Option<u8>,
    passes: bool,
}

impl Marks {
    /// Creates the state of flows, of which there are as many as `next` has numbers: each that of the flow's first ping that
    /// has not ended.
    pub(super) fn new(next: impl Iterator<Item = u64>) -> Marks {
        let ends = next.map(|next| Ends {
            next,
            kept: VecDeque::new(),
        });
        Marks {
            marks: Vec::new(),
            untold: 0,
            ends: ends.collect(),
        }
    }

    /// Sets a mark at `at`, or at the last one if that is later, as it is of a phase that begins behind its schedule.
    pub(super) fn set(&mut self, at: Instant, name: MarkName, detail: String) {
        let at = self.marks.last().map_or(at, |last| at.max(last.at));
        if let Some(last) = self.marks.last_mut() {
            last.end.get_or_insert(at);
        }
        let kept: usize = self.marks.iter().map(|mark| mark.flows.len()).sum();
        let has_room = kept.saturating_add(self.ends.len()) <= MAX_MARKED_FLOWS;
        // Behind one that keeps none, no other does, so that windows follow one another.
        if self.untold > 0 || self.marks.len() == MAX_MARKS || !(has_room || self.marks.is_empty())
        {
            self.untold = self.untold.saturating_add(1);
            return;
        }
        self.marks.push(Mark {
            name,
            detail,
            at,
            end: None,
            flows: Vec::new(),
            changed: 0,
        });
    }

    /// `flow` was added, or its VMs have started: from now on it pings.
    pub(super) fn began(&mut self, flow: FlowId) {
        let last = self.marks.last_mut().filter(|mark| mark.end.is_none());
        if let Some(mark) = last {
            mark.change(flow, FlowMark::began);
        }
    }

    /// The ping `sequence` of `flow`, due at `due`, was answered at `received`.
    pub(super) fn passed(&mut self, flow: FlowId, sequence: u64, due: Instant, received: Instant) {
        let mark = self.index_at(due);
        if let Some(mark) = mark.and_then(|index| self.marks.get_mut(usize::from(index))) {
            let (due, since) = (due.nanos_since(mark.at), received.nanos_since(mark.at));
            mark.change(flow, |figures| figures.passed(due, since));
        }
        self.ended(flow, sequence, End { mark, passes: true });
    }

    /// The ping `sequence` of `flow`, due at `due`, ended otherwise.
    pub(super) fn failed(&mut self, flow: FlowId, sequence: u64, due: Instant) {
        let mark = self.index_at(due);
        if let Some(mark) = mark.and_then(|index| self.marks.get_mut(usize::from(index))) {
            let due = due.nanos_since(mark.at);
            mark.change(flow, |figures| figures.failed(due));
        }
        let passes = false;
        self.ended(flow, sequence, End { mark, passes });
    }

    /// The ping `sequence` of `flow` ended, and says nothing.
    pub(super) fn abandoned(&mut self, flow: FlowId, sequence: u64) {
        let nothing = End {
            mark: None,
            passes: false,
        };
        self.ended(flow, sequence, nothing);
    }

    /// The index of the mark that a ping due at `due` belongs to.
    fn index_at(&self, due: Instant) -> Option<u8> {
        let index = self.marks.iter().rposition(|mark| mark.at <= due)?;
        let mark = self.marks.get(index)?;
        let is_within = mark.end.is_none_or(|end| due < end);
        u8::try_from(index).ok().filter(|_| is_within)
    }

    /// Takes in the end of a ping, and all that waited for it.
    fn ended(&mut self, flow: FlowId, sequence: u64, end: End) {
        if self.ends.len() <= flow.index() {
            self.ends.resize_with(flow.index() + 1, Ends::default);
        }
        let Some(ends) = self.ends.get_mut(flow.index()) else {
            return;
        };
        let marks = &mut self.marks;
        let mut count = |End { mark, passes }: End| {
            if let Some(mark) = mark.and_then(|index| marks.get_mut(usize::from(index))) {
                mark.change(flow, |figures| figures.followed(passes));
            }
        };
        let Some(ahead) = sequence.checked_sub(ends.next) else {
            return;
        };
        if ahead == 0 && ends.kept.is_empty() {
            ends.next += 1;
            return count(end);
        }
        let ahead = match usize::try_from(ahead) {
            Ok(ahead) if ahead < MAX_KEPT => ahead,
            // So far apart are only pings of somebody who leaves numbers out.
            _ => {
                ends.kept.drain(..).flatten().for_each(&mut count);
                ends.next = sequence;
                0
            }
        };
        if ends.kept.len() <= ahead {
            ends.kept.resize(ahead + 1, None);
        }
        if let Some(kept) = ends.kept.get_mut(ahead) {
            *kept = Some(end);
        }
        while let Some(Some(end)) = ends.kept.front().copied() {
            ends.kept.pop_front();
            ends.next += 1;
            count(end);
        }
    }

    /// Returns the marks that keep figures, in the order of their times.
    pub fn all(&self) -> &[Mark] {
        &self.marks
    }

    /// Returns the number of marks beside [those](Marks::all).
    pub const fn untold(&self) -> u64 {
        self.untold
    }
}

impl Mark {
    /// Returns its name, which others may have, too.
    pub const fn name(&self) -> &MarkName {
        &self.name
    }

    /// Returns what it is about, such as `tap1 was set down`; empty if there is nothing to say.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns its time.
    pub const fn at(&self) -> Instant {
        self.at
    }

    /// Returns the time of the next mark, if there is one.
    pub const fn end(&self) -> Option<Instant> {
        self.end
    }

    /// Returns a number that grows whenever the figures of a flow change.
    pub const fn version(&self) -> u64 {
        self.changed
    }

    /// Returns the figures of the flows of which a ping of its window has ended.
    pub fn flows(&self) -> impl Iterator<Item = (FlowId, &FlowMark)> {
        let flows = (0..).map(FlowId).zip(&self.flows);
        flows.filter(|(_, figures)| figures.has_pinged())
    }

    /// Returns the figures of all flows as a histogram.
    pub fn latency(&self, metric: MarkMetric) -> Latency {
        let mut latency = Latency::new();
        let values = self.flows().filter_map(|(_, figures)| figures.get(metric));
        values.for_each(|value| latency.record(value));
        latency
    }

    fn change(&mut self, flow: FlowId, change: impl FnOnce(&mut FlowMark)) {
        if self.flows.len() <= flow.index() {
            self.flows.resize(flow.index() + 1, FlowMark::default());
        }
        if let Some(figures) = self.flows.get_mut(flow.index()) {
            change(figures);
            self.changed += 1;
        }
    }
}

impl FlowMark {
    /// Returns true if a ping of the flow has ended.
    pub const fn has_pinged(&self) -> bool {
        self.answered > 0 || self.unanswered > 0
    }

    /// Returns a figure; `None` if the flow has none.
    pub fn get(&self, metric: MarkMetric) -> Option<u64> {
        let (value, is_there) = match metric {
            MarkMetric::FirstPass => (self.since_beginning(self.first_ns), self.answered > 0),
            MarkMetric::LastPass => (self.since_beginning(self.last_ns), self.answered > 0),
            MarkMetric::LongestGap => (self.longest_gap_ns, self.answered > 1),
            MarkMetric::Changes => (self.changes.into(), self.has_pinged()),
        };
        is_there.then_some(value)
    }

    /// Returns the time from the mark to when the flow's first ping was due, in nanoseconds, if the flow began after the mark:
    /// its passes are told from then on.
    pub fn began_ns(&self) -> Option<u64> {
        (self.is_later && self.has_pinged()).then_some(self.begins_ns)
    }

    fn since_beginning(&self, since_mark: u64) -> u64 {
        since_mark.saturating_sub(self.began_ns().unwrap_or(0))
    }

    /// The flow begins now. One of which pings have ended was there before.
    fn began(&mut self) {
        if !self.has_pinged() {
            (self.is_later, self.begins_ns) = (true, u64::MAX);
        }
    }

    /// Takes in an answer, `since` nanoseconds after the mark, to a ping that was due `due` nanoseconds after it.
    fn passed(&mut self, due: u64, since: u64) {
        self.begins_ns = self.begins_ns.min(due);
        if self.answered == 0 {
            self.first_ns = since;
        } else {
            let gap = since.saturating_sub(self.last_ns);
            self.longest_gap_ns = self.longest_gap_ns.max(gap);
        }
        self.last_ns = self.last_ns.max(since);
        self.answered = self.answered.saturating_add(1);
    }

    /// Takes in a ping that did not pass, due `due` nanoseconds after the mark.
    fn failed(&mut self, due: u64) {
        self.begins_ns = self.begins_ns.min(due);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// The next ping in the order of sending has passed, or has not.
    fn followed(&mut self, passes: bool) {
        let before = self.passes.replace(passes);
        if before.is_some_and(|before| before != passes) {
            self.changes = self.changes.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
