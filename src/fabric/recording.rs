//! What an instrument has written of a run, for its report.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::InstrumentKind;

/// A file, or what a reader was handed, of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Recording {
    /// The instrument that wrote it.
    pub kind: &'static InstrumentKind,
    /// The name of the file; `-` for standard output.
    pub file: String,
    /// Records written: frames, events.
    pub records: u64,
    /// Those that were not: the reader was slow or gone, the disk was full, the limit was reached.
    #[serde(default)]
    pub dropped: u64,
    /// Frames of pings that were written before it was known what came of them.
    #[serde(default)]
    pub unknown: u64,
    /// Failed pings whose frames were to be captured, and were in memory no more (`--capture-on-loss`). Those that were due
    /// before the capture began are not counted.
    #[serde(default)]
    pub missed: u64,
    /// Files begun: more than one in a ring, of which the last ones are kept.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// True if it could not be written to its end.
    #[serde(default)]
    pub has_failed: bool,
    /// Why it ends before the run; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}
