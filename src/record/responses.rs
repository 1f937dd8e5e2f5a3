//! Response before, during and after misbehaviours, of the flows of VMs that misbehave and of all others.
//!
//! Windows follow one another: each beginning and each end of a misbehaviour begins another one. A ping belongs to the window in
//! which it was due. Those of a warm-up are in none, as in all figures of a run.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{Cause, LeanLatency};
use crate::fabric::MAX_MISBEHAVIOURS;
use crate::load::FlowId;
use crate::time::Instant;

/// Windows at most: each misbehaviour begins two.
const MAX_WINDOWS: usize = 2 * MAX_MISBEHAVIOURS + 1;

/// Flows and windows whose pings without a known cause are counted apart: what they are put down to may be found out later.
const MAX_OPEN: usize = 1 << 16;

/// The figures of all windows.
#[derive(Clone, Debug)]
pub struct Responses {
    /// By flow: one of its ends misbehaves at some time.
    misbehaving: Vec<bool>,
    /// In the order of their beginnings; the first is the time before all misbehaviours.
    windows: Vec<Window>,
    /// Pings of which no cause is known yet, by flow and the number of the window.
    open: FxHashMap<(FlowId, usize), u64>,
}

/// A window.
#[derive(Clone, Debug)]
pub struct Window {
    begin: Instant,
    /// The flows between VMs that behave.
    pub others: Response,
    /// The flows from or to a VM that misbehaves at some time.
    pub misbehaving: Response,
}

/// The figures of some flows in some windows.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Pings that passed.
    pub answered: u64,
    /// Pings that did not.
    pub unanswered: u64,
    /// What those are put down to.
    pub causes: BTreeMap<Cause, u64>,
    /// From when each was due to the receipt of its answer.
    pub latency: LeanLatency,
}

impl Response {
    /// Takes in the figures of further windows.
    pub fn merge(&mut self, other: &Response) {
        self.answered = self.answered.saturating_add(other.answered);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        for (cause, pings) in &other.causes {
            let sum = self.causes.entry(*cause).or_default();
            *sum = sum.saturating_add(*pings);
        }
        self.latency.merge(&other.latency);
    }

    /// So many pings are put down to `to` in place of `from`, as far as there are any.
    fn transfer(&mut self, pings: u64, from: Cause, to: Cause) {
        let Some(of_from) = self.causes.get_mut(&from) else {
            return;
        };
        let pings = pings.min(*of_from);
        *of_from -= pings;
        *self.causes.entry(to).or_default() += pings;
        self.causes.retain(|_, pings| *pings > 0);
    }
}

impl Window {
    fn new(begin: Instant) -> Window {
        Window {
            begin,
            others: Response::default(),
            misbehaving: Response::default(),
        }
    }

    /// Returns the time from which on pings belong to it that are due.
    pub const fn begin(&self) -> Instant {
        self.begin
    }
}

impl Responses {
    /// Keeps `so_far`, the figures of all flows, for the first window.
    pub(super) fn new(so_far: Response) -> Responses {
        let first = Window {
            others: so_far,
            ..Window::new(Instant::ZERO)
        };
        Responses {
            misbehaving: Vec::new(),
            windows: vec![first],
            open: FxHashMap::default(),
        }
    }

    /// Begins another window at `at`, or with the last one if that begins later.
    pub(super) fn begin(&mut self, at: Instant) {
        let is_later = self.windows.last().is_none_or(|last| last.begin < at);
        if is_later && self.windows.len() < MAX_WINDOWS {
            self.windows.push(Window::new(at));
        }
    }

    /// One of the ends of `flow` misbehaves at some time.
    pub(super) fn set_misbehaving(&mut self, flow: FlowId) {
        if self.misbehaving.len() <= flow.index() {
            self.misbehaving.resize(flow.index() + 1, false);
        }
        if let Some(is_misbehaving) = self.misbehaving.get_mut(flow.index()) {
            *is_misbehaving = true;
        }
    }

    /// A ping of `flow`, due at `due`, was answered at `received`.
    pub(super) fn passed(&mut self, flow: FlowId, due: Instant, received: Instant) {
        if let Some((response, _)) = self.response(flow, due) {
            response.answered = response.answered.saturating_add(1);
            response.latency.record(received.nanos_since(due));
        }
    }

    /// A ping of `flow`, due at `due`, ended otherwise, and is put down to `cause`.
    pub(super) fn failed(&mut self, flow: FlowId, due: Instant, cause: Cause) {
        if let Some((response, number)) = self.response(flow, due) {
            response.unanswered = response.unanswered.saturating_add(1);
            *response.causes.entry(cause).or_default() += 1;
            let open = (flow, number);
            if cause == Cause::Unknown
                && (self.open.len() < MAX_OPEN || self.open.contains_key(&open))
            {
                *self.open.entry(open).or_default() += 1;
            }
        }
    }

    /// The ping of `flow` due at `due`, which failed, is put down to `to` in place of `from`.
    pub(super) fn attribute(&mut self, flow: FlowId, due: Instant, from: Cause, to: Cause) {
        if let Some((response, number)) = self.response(flow, due) {
            response.transfer(1, from, to);
            if from == Cause::Unknown
                && let Some(open) = self.open.get_mut(&(flow, number))
            {
                *open = open.saturating_sub(1);
            }
        }
    }

    /// All pings of `flow` of which no cause was known are put down to `to`.
    pub(super) fn attribute_rest(&mut self, flow: FlowId, to: Cause) {
        for number in 0..self.windows.len() {
            if let Some(pings) = self.open.remove(&(flow, number))
                && let Some(response) = self.response_in(number, flow)
            {
                response.transfer(pings, Cause::Unknown, to);
            }
        }
    }

    /// Returns the windows, in the order of their beginnings.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// The figures of `flow` in the window of `due`, and the window's number.
    fn response(&mut self, flow: FlowId, due: Instant) -> Option<(&mut Response, usize)> {
        let number = self
            .windows
            .iter()
            .rposition(|window| window.begin <= due)?;
        Some((self.response_in(number, flow)?, number))
    }

    fn response_in(&mut self, number: usize, flow: FlowId) -> Option<&mut Response> {
        let is_misbehaving = self.misbehaving.get(flow.index());
        let is_misbehaving = is_misbehaving.copied().unwrap_or(false);
        let window = self.windows.get_mut(number)?;
        Some(match is_misbehaving {
            true => &mut window.misbehaving,
            false => &mut window.others,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Latency, Limits, Recorder};

    const fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn every_misbehaviour_of_a_run_has_windows_of_its_own() {
        let mut responses = Responses::new(Response::default());
        let edges = 2 * MAX_MISBEHAVIOURS as u64;
        for edge in 1..=edges {
            responses.begin(at(edge * 10));
        }
        let stranger = FlowId(1);
        responses.set_misbehaving(stranger);
        for edge in 0..=edges {
            responses.passed(FlowId(0), at(edge * 10), at(edge * 10 + edge));
            responses.failed(stranger, at(edge * 10 + 9), Cause::Impaired);
        }
        let figures = |window: &Window| {
            let Window {
                others,
                misbehaving,
                ..
            } = window;
            let latency = Latency::from(&others.latency);
            let answered = (others.answered, misbehaving.answered);
            let unanswered = (others.unanswered, misbehaving.unanswered);
            (answered, unanswered, latency.moments().max())
        };
        assert_eq!(responses.windows().len() as u64, edges + 1);
        for (edge, window) in (0..).zip(responses.windows()) {
            assert_eq!(window.begin(), at(edge * 10));
            assert_eq!(figures(window), ((1, 0), (0, 1), Some(edge)));
        }
    }

    #[test]
    fn a_lost_ping_is_put_down_to_its_cause_in_the_window_in_which_it_was_due() {
        let mut responses = Responses::new(Response::default());
        responses.begin(at(100));
        let (flow, other) = (FlowId(0), FlowId(1));
        for due in [10, 20, 110, 120, 130] {
            responses.failed(flow, at(due), Cause::Unknown);
        }
        responses.failed(other, at(140), Cause::Unknown);
        responses.attribute(flow, at(110), Cause::Unknown, Cause::QueueFull);
        responses.attribute(flow, at(120), Cause::Late, Cause::InBridge); // it is put down to no such cause
        responses.attribute_rest(flow, Cause::Filtered);
        responses.attribute_rest(flow, Cause::InBridge);
        let causes = |number: usize| {
            let causes = responses.windows()[number].others.causes.iter();
            causes
                .map(|(cause, pings)| (*cause, *pings))
                .collect::<Vec<_>>()
        };
        assert_eq!(causes(0), [(Cause::Filtered, 2)]);
        let mut expected = [
            (Cause::QueueFull, 1),
            (Cause::Filtered, 2),
            (Cause::Unknown, 1),
        ];
        expected.sort();
        assert_eq!(causes(1), expected);
    }

    #[test]
    fn pings_of_a_warm_up_are_in_no_window() {
        let mut recorder = Recorder::new(Limits::default());
        recorder.add_flow();
        recorder.begin_uncounted("warm-up", at(0));
        recorder.keep_responses();
        recorder.divide_responses(at(10));
        recorder.begin_phase("", at(100));
        let flow = FlowId(0);
        for (sequence, due) in (0..).zip([5, 15, 105, 115]) {
            let (due, received) = (at(due), at(due + 3));
            recorder.answered_in_detail(flow, 2 * sequence, due, due, received);
            recorder.lost(flow, 2 * sequence + 1, due, received);
        }
        let windows = recorder.responses().unwrap().windows();
        let pings = |window: &Window| (window.others.answered, window.others.unanswered);
        assert_eq!(
            windows.iter().map(pings).collect::<Vec<_>>(),
            [(0, 0), (2, 2)]
        );
    }
}
