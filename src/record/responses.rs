//! Response from mark to mark, of the flows with a VM that misbehaves and of all others.

use super::Latency;
use crate::load::FlowId;
use crate::time::Instant;

/// The figures of all windows: the first is before the first mark, and each mark begins another.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    /// By flow: one of its ends misbehaves at some time.
    own: Vec<bool>,
    windows: Vec<Window>,
}

/// A window.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The flows between VMs that behave.
    pub others: Response,
    /// The flows from or to a VM that misbehaves at some time.
    pub own: Response,
}

/// The figures of some flows in some windows.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Pings that passed.
    pub answered: u64,
    /// Pings that did not.
    pub unanswered: u64,
    /// From when each was due to the receipt of its answer; `None` without answers.
    pub latency: Option<Box<Latency>>,
}

impl Response {
    /// Takes in the figures of further windows.
    pub fn merge(&mut self, other: &Response) {
        self.answered = self.answered.saturating_add(other.answered);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        if let Some(latency) = &other.latency {
            self.latency.get_or_insert_default().merge(latency);
        }
    }
}

impl Responses {
    /// Keeps `so_far`, the figures of all flows, for the window with that index, which is the present one.
    pub(super) fn begin(&mut self, index: usize, so_far: Response) {
        if let Some(window) = self.window(index) {
            window.others = so_far;
        }
    }

    /// One of the ends of `flow` misbehaves at some time.
    pub(super) fn set_own(&mut self, flow: FlowId) {
        if self.own.len() <= flow.index() {
            self.own.resize(flow.index() + 1, false);
        }
        if let Some(is_own) = self.own.get_mut(flow.index()) {
            *is_own = true;
        }
    }

    /// A ping of `flow`, due at `due` in the window with that index, was answered at `received`.
    pub(super) fn passed(&mut self, index: usize, flow: FlowId, due: Instant, received: Instant) {
        if let Some(response) = self.response(index, flow) {
            response.answered = response.answered.saturating_add(1);
            let latency = response.latency.get_or_insert_default();
            latency.record(received.nanos_since(due));
        }
    }

    /// A ping of `flow`, due in the window with that index, ended otherwise.
    pub(super) fn failed(&mut self, index: usize, flow: FlowId) {
        if let Some(response) = self.response(index, flow) {
            response.unanswered = response.unanswered.saturating_add(1);
        }
    }

    /// Returns the windows in which a ping has ended, and those between them.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    fn response(&mut self, index: usize, flow: FlowId) -> Option<&mut Response> {
        let is_own = self.own.get(flow.index()).copied().unwrap_or(false);
        let window = self.window(index)?;
        Some(match is_own {
            true => &mut window.own,
            false => &mut window.others,
        })
    }

    fn window(&mut self, index: usize) -> Option<&mut Window> {
        if self.windows.len() <= index {
            self.windows.resize_with(index + 1, Window::default);
        }
        self.windows.get_mut(index)
    }
}
