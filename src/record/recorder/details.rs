//! What a recorder is told of marks, misbehaviours and groups, of which few runs have any.

use super::super::by_group::ByGroup;
use super::Recorder;
use crate::load::FlowId;
use crate::record::{LeanLatency, MarkName, Marks, Metric, Response, Responses};
use crate::time::Instant;
use crate::vm::VmId;

impl Recorder {
    /// Somebody gave the instant `at` a name; `detail` says what it is about, if there is something to say. Pings due from then
    /// on belong to it. `next` are the numbers of the flows' first pings that have not ended; it is asked for with the first
    /// mark.
    pub fn mark<N>(&mut self, at: Instant, name: MarkName, detail: String, next: impl FnOnce() -> N)
    where
        N: Iterator<Item = u64>,
    {
        let marks = &mut self.details.get_or_insert_default().marks;
        let marks = marks.get_or_insert_with(|| Marks::new(next()));
        marks.set(at, name, detail);
    }

    /// Keeps response before, during and after misbehaviours from now on, because a VM misbehaves or will.
    pub fn keep_responses(&mut self) {
        if self.responses().is_some() {
            return;
        }
        let totals = self.totals();
        let so_far = Response {
            answered: totals.received,
            unanswered: totals.failed(),
            causes: self.losses.failed_by_cause(),
            latency: LeanLatency::from(&self.latency(Metric::Response)),
        };
        let details = self.details.get_or_insert_default();
        details.responses = Some(Responses::new(so_far));
    }

    /// A misbehaviour begins or ends at `at`.
    pub fn divide_responses(&mut self, at: Instant) {
        if let Some(responses) = self.responses_mut() {
            responses.begin(at);
        }
    }

    /// An end of `flow` is a VM that misbehaves at some time.
    pub fn set_misbehaving(&mut self, flow: FlowId) {
        if let Some(responses) = self.responses_mut() {
            responses.set_misbehaving(flow);
        }
    }

    /// Counts by group from now on, before there are flows.
    pub fn count_by_group(&mut self, groups: ByGroup) {
        self.details.get_or_insert_default().by_group = Some(groups);
    }

    /// The pings of `flow` come from `source`.
    pub fn set_source(&mut self, flow: FlowId, source: VmId) {
        if let Some(by_group) = self.by_group_mut() {
            by_group.set_source(flow, source);
        }
    }

    /// Returns true if there are marks, moves, misbehaviours or figures by group: they are to be told of each ping that is sent or answered.
    #[inline]
    pub const fn has_details(&self) -> bool {
        self.details.is_some()
    }

    /// A ping was sent, as [`Recorder::echo_sent`] has it, where figures are kept by group.
    pub fn group_sent(&mut self, flow: FlowId, due: Instant, ready: Instant, sent: Instant) {
        let phase = self.phase_index_at(due);
        if let Some(by_group) = self.by_group_mut() {
            by_group.count(phase, flow, |totals| totals.sent += 1);
            by_group.record(phase, flow, Metric::Lateness, sent.nanos_since(ready));
        }
    }

    /// `flow` can ping from now on, because its VMs have started, where there are marks.
    pub fn began(&mut self, flow: FlowId) {
        if let Some(marks) = self.marks_of(flow) {
            marks.began(flow);
        }
    }

    /// The ping `sequence` of `flow` was answered, as [`Recorder::answered`] has it, where there are marks, moves or figures by group.
    pub fn answered_in_detail(
        &mut self,
        flow: FlowId,
        sequence: u64,
        due: Instant,
        sent: Instant,
        received: Instant,
    ) {
        if let Some(marks) = self.marks_of(flow) {
            marks.passed(flow, sequence, due, received);
        }
        if self.is_counted(due)
            && let Some(responses) = self.responses_mut()
        {
            responses.passed(flow, due, received);
        }
        self.passed_after_move((flow, sequence), sent, received);
        let phase = self.phase_index_at(due);
        if let Some(by_group) = self.by_group_mut() {
            by_group.count(phase, flow, |totals| totals.received += 1);
            by_group.record(phase, flow, Metric::Rtt, received.nanos_since(sent));
            by_group.record(phase, flow, Metric::Response, received.nanos_since(due));
        }
    }

    /// The marks, if there is `flow`.
    pub(super) fn marks_of(&mut self, flow: FlowId) -> Option<&mut Marks> {
        let is_known = flow.index() < self.flows.len();
        let marks = self.details.as_mut()?.marks.as_mut();
        marks.filter(|_| is_known)
    }

    pub(super) fn responses_mut(&mut self) -> Option<&mut Responses> {
        self.details.as_mut()?.responses.as_mut()
    }

    pub(super) fn by_group_mut(&mut self) -> Option<&mut ByGroup> {
        self.details.as_mut()?.by_group.as_mut()
    }

    /// Returns the marks, if there are any.
    pub fn marks(&self) -> Option<&Marks> {
        self.details.as_ref()?.marks.as_ref()
    }

    /// Returns response before, during and after misbehaviours, if that is kept.
    pub fn responses(&self) -> Option<&Responses> {
        self.details.as_ref()?.responses.as_ref()
    }

    /// Returns the figures by group, if they are kept.
    pub fn by_group(&self) -> Option<&ByGroup> {
        self.details.as_ref()?.by_group.as_ref()
    }
}
