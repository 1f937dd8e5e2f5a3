//! Frames that were flooded, and how many copies that made, where they were counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{count, span_or_dash};
use super::{Report, encoding};
use crate::record::{FloodKind, Floods, LatencySummary, SparseLatency};

/// The frames of one kind that were flooded (`--count-floods`), and their copies.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FloodReport {
    /// The kind.
    pub kind: FloodKind,
    /// Frames that VMs sent; of those to one station the ones that came to others, too.
    pub frames: u64,
    /// Copies that VMs got, all together.
    pub copies: u64,
    /// Copies of a frame, on average.
    pub amplification: f64,
    /// The most VMs that one frame came to.
    pub most_vms: u64,
    /// Copies beyond the first that one VM got of one frame.
    pub repeated: u64,
    /// Copies that came to VMs which they are not for: another one was asked, is in the group, or has the address.
    pub unwanted: u64,
    /// From the sending of each frame to the receipt of its last copy.
    pub last_copy_ns: LatencySummary,
    /// The histogram of that.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub last_copy: SparseLatency,
}

impl FloodReport {
    fn set_figures(&mut self) {
        self.amplification = match self.frames {
            0 => 0.0,
            frames => self.copies as f64 / frames as f64,
        };
        self.last_copy_ns = self.last_copy.expand().summary();
    }
}

/// The reports of the kinds that occurred.
pub(super) fn floods(floods: Option<&Floods>) -> Vec<FloodReport> {
    let report = |kind: FloodKind| {
        let counts = floods?.get(kind).filter(|counts| counts.frames > 0)?;
        let mut report = FloodReport {
            kind,
            frames: counts.frames,
            copies: counts.copies,
            amplification: 0.0,
            most_vms: counts.most_vms,
            repeated: counts.repeated,
            unwanted: counts.unwanted,
            last_copy_ns: LatencySummary::default(),
            last_copy: SparseLatency::from(&counts.last_copy),
        };
        report.set_figures();
        Some(report)
    };
    FloodKind::ALL.into_iter().filter_map(report).collect()
}

/// The columns of the table of floods.
pub(super) const COLUMNS: [&str; 9] = [
    "flooded", "frames", "copies", "a frame", "most VMs", "repeated", "unwanted", "last p50",
    "last max",
];

/// The rows of that table.
pub(super) fn rows(report: &Report) -> Vec<[String; 9]> {
    let row = |of: &FloodReport| {
        [
            of.kind.words().to_owned(),
            count(of.frames),
            count(of.copies),
            format!("{:.1}", of.amplification),
            count(of.most_vms),
            count(of.repeated),
            count(of.unwanted),
            span_or_dash(of.last_copy_ns.p50),
            span_or_dash(of.last_copy_ns.max),
        ]
    };
    report.floods.iter().map(row).collect()
}

impl Report {
    /// Takes in what was flooded in another run.
    pub(super) fn merge_floods(&mut self, other: &Report) {
        self.floods_counted &= other.floods_counted;
        for theirs in &other.floods {
            let Some(ours) = self.floods.iter_mut().find(|of| of.kind == theirs.kind) else {
                self.floods.push(theirs.clone());
                continue;
            };
            ours.frames = ours.frames.saturating_add(theirs.frames);
            ours.copies = ours.copies.saturating_add(theirs.copies);
            ours.most_vms = ours.most_vms.max(theirs.most_vms);
            ours.repeated = ours.repeated.saturating_add(theirs.repeated);
            ours.unwanted = ours.unwanted.saturating_add(theirs.unwanted);
            let mut last = ours.last_copy.expand();
            last.merge(&theirs.last_copy.expand());
            ours.last_copy = SparseLatency::from(&last);
            ours.set_figures();
        }
        self.floods.sort_by_key(|of| of.kind);
    }
}
