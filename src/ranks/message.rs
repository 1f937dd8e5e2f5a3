//! What ranks say to each other once they have met: JSON, one message a line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the form of what ranks say. All ranks have the same.
pub const VERSION: u32 = 1;

/// A point of a run that no rank passes before all have come to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// Rank 0 has made the bridges, if ranks share a lab.
    Bridges,
    /// All VMs exist.
    Labs,
    /// The phase with that number begins.
    Phase(u32),
    /// The last phase is over, or the run was stopped and the pings of the rank are.
    End,
}

impl fmt::Display for Gate {
    /// As the place where a rank waits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gate::Bridges => f.write_str("before the lab"),
            Gate::Labs => f.write_str("before the run"),
            Gate::Phase(number) => write!(f, "before phase {number}"),
            Gate::End => f.write_str("behind the last phase"),
        }
    }
}

/// A message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Message {
    /// To rank 0: what time is it? `sent` comes back.
    Tick {
        /// Nanoseconds of the asker's clock.
        sent: u64,
    },
    /// From rank 0: it is `now`.
    Tock {
        /// That of the question.
        sent: u64,
        /// Nanoseconds of rank 0's clock.
        now: u64,
    },
    /// To rank 0: the clocks are compared.
    Synchronized {
        /// Nanoseconds from this rank's clock to that of rank 0.
        offset: i64,
        /// By how much that may be wrong.
        error: u64,
        /// The name of the host.
        host: String,
    },
    /// To rank 0: this rank has come to `gate`.
    Arrived {
        /// The gate.
        gate: Gate,
    },
    /// From rank 0: all have, and go on at `at`.
    Open {
        /// The gate.
        gate: Gate,
        /// Nanoseconds of rank 0's clock.
        at: u64,
    },
    /// Both ways, once a second: this rank lives.
    Alive {
        /// The phase that it is in.
        phase: String,
    },
    /// Both ways: the run ends now, for all.
    Stop {
        /// If it failed, why.
        why: Option<String>,
    },
    /// To rank 0: a part of what this rank has measured.
    Document {
        /// The text.
        part: String,
        /// It is the last part.
        is_last: bool,
    },
    /// From rank 0: it has the whole document.
    Taken,
}
