//! The times during which the process did not run although it had something to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// A time during which the process did not run although it had something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When it may have begun.
    pub from: Instant,
    /// When it was over.
    pub to: Instant,
    /// How long it took, in nanoseconds: at most from `from` to `to`.
    pub nanos: u64,
    /// The part of that during which others had the processor; the rest the process was stopped, or its machine was.
    pub run_delay: u64,
    /// The part of it during which the tool wrote a file that the run is recorded in.
    pub writing: u64,
    /// The part of it during which the tool answered a client of its control socket.
    pub answering: u64,
}

/// Pauses of the process, and their effect on a run. A latency across one is neither the network's nor the tool's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pauses {
    /// How many there were: half a millisecond or more each.
    pub count: u64,
    /// How long they took together, in nanoseconds.
    pub total_ns: u64,
    /// How long the longest took, in nanoseconds.
    pub longest_ns: u64,
    /// The part of `total_ns` during which others had the processor; the rest the process was stopped, or the machine was.
    pub run_delay_ns: u64,
    /// The part of `total_ns` during which the tool wrote a capture or a trace.
    #[serde(default)]
    pub writing_ns: u64,
    /// The part of `total_ns` during which the tool answered clients of its control socket.
    #[serde(default)]
    pub answering_ns: u64,
    /// Pings lost that were on their way during one.
    pub lost: u64,
}

impl Pauses {
    /// Returns true if there was none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes in those of another run.
    pub fn merge(&mut self, other: Pauses) {
        self.count = self.count.saturating_add(other.count);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.run_delay_ns = self.run_delay_ns.saturating_add(other.run_delay_ns);
        self.writing_ns = self.writing_ns.saturating_add(other.writing_ns);
        self.answering_ns = self.answering_ns.saturating_add(other.answering_ns);
        self.lost = self.lost.saturating_add(other.lost);
    }

    /// Takes in one pause.
    pub(super) fn add(&mut self, pause: Pause) {
        let Pause {
            nanos,
            run_delay,
            writing,
            answering,
            ..
        } = pause;
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(nanos);
        self.longest_ns = self.longest_ns.max(nanos);
        self.run_delay_ns = self.run_delay_ns.saturating_add(run_delay);
        self.writing_ns = self.writing_ns.saturating_add(writing);
        self.answering_ns = self.answering_ns.saturating_add(answering);
    }
}
