//! Response before, during and after misbehaviours, of the flows of VMs that misbehave and of all others.
//!
//! Windows follow one another: each beginning and each end of a misbehaviour begins another one. A ping belongs to the window in
//! which it was due. Those of a warm-up are in none, as in all figures of a run.

use super::LeanLatency;
use crate::fabric::MAX_MISBEHAVIOURS;
use crate::load::FlowId;
use crate::time::Instant;

/// Windows at most: each misbehaviour begins two.
const MAX_WINDOWS: usize = 2 * MAX_MISBEHAVIOURS + 1;

/// The figures of all windows.
#[derive(Clone, Debug)]
pub struct Responses {
    /// By flow: one of its ends misbehaves at some time.
    misbehaving: Vec<bool>,
    /// In the order of their beginnings; the first is the time before all misbehaviours.
    windows: Vec<Window>,
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
    /// From when each was due to the receipt of its answer.
    pub latency: LeanLatency,
}

impl Response {
    /// Takes in the figures of further windows.
    pub fn merge(&mut self, other: &Response) {
        self.answered = self.answered.saturating_add(other.answered);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        self.latency.merge(&other.latency);
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
        if let Some(response) = self.response(flow, due) {
            response.answered = response.answered.saturating_add(1);
            response.latency.record(received.nanos_since(due));
        }
    }

    /// A ping of `flow`, due at `due`, ended otherwise.
    pub(super) fn failed(&mut self, flow: FlowId, due: Instant) {
        if let Some(response) = self.response(flow, due) {
            response.unanswered = response.unanswered.saturating_add(1);
        }
    }

    /// Returns the windows, in the order of their beginnings.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    fn response(&mut self, flow: FlowId, due: Instant) -> Option<&mut Response> {
        let is_misbehaving = self.misbehaving.get(flow.index());
        let is_misbehaving = is_misbehaving.copied().unwrap_or(false);
        let mut latest_first = self.windows.iter_mut().rev();
        let window = latest_first.find(|window| window.begin <= due)?;
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
            responses.failed(stranger, at(edge * 10 + 9));
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
    fn pings_of_a_warm_up_are_in_no_window() {
        let mut recorder = Recorder::new(Limits::default());
        recorder.add_flow();
        recorder.begin_warmup(at(0));
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
