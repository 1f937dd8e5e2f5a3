//! The fabric of a run, and the memory that the run used.

use std::io::{self, Write};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use super::provenance::list;
use super::units::{count, counted};
use crate::escape::Escaped;

/// The fabric that carried frames from VM to VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FabricReport {
    /// `bridge`, `xdp`, `none` (somebody else's switch), `sim` (a switch in memory, in virtual time), or the name that a
    /// program gave its own fabric.
    pub kind: String,
    /// Leaf bridges around a spine; 0 where one bridge did for all VMs.
    pub leaves: u32,
    /// How many VMs may share one bridge; absent where there are no bridges of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_per_bridge: Option<u32>,
    /// Flows between VMs of different leaves.
    pub flows_across: u64,
    /// How VMs came by each other's hardware addresses: `before` (they asked all others before the first ping), `at-once`
    /// (when pings were due), `proxy` (the bridge answered), or `static` (they knew).
    #[serde(default = "at_once")]
    pub neighbours: String,
    /// How many deliveries of broadcasts that spared, where the tool chose it for that reason; absent where the user did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spared_deliveries: Option<u64>,
    /// True if the figures are from a simulation, without a kernel.
    pub simulated: bool,
}

/// The value for reports of versions that did not write it.
fn at_once() -> String {
    "at-once".to_owned()
}

/// Memory of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemoryReport {
    /// Resident memory at the end of the run, in bytes. (Documents without `peak_bytes` have it as it was when the lab had been
    /// set up.)
    pub rss_bytes: u64,
    /// The most that was ever resident, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Memory that each VM added when it was created, without flows, histograms and the kernel's own memory.
    pub per_vm_bytes: u64,
}

impl MemoryReport {
    /// The greater of each figure of two runs.
    pub(super) fn greatest(self, other: MemoryReport) -> MemoryReport {
        MemoryReport {
            rss_bytes: self.rss_bytes.max(other.rss_bytes),
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
            per_vm_bytes: self.per_vm_bytes.max(other.per_vm_bytes),
        }
    }
}

/// Tells what is out of the ordinary: a simulation, a tree of bridges, another fabric than a bridge.
pub(super) fn tell(report: &Report, out: &mut impl Write) -> io::Result<()> {
    if let Some(merged) = &report.merged {
        write!(out, "Merged from {}", counted(merged.runs, "run"))?;
        match merged.unlike.as_slice() {
            [] => writeln!(out, ".")?,
            unlike => writeln!(out, ", which differ in {}.", Escaped(&list(unlike)))?,
        }
    }
    let Some(fabric) = &report.fabric else {
        return Ok(());
    };
    if fabric.simulated {
        let fabric = match fabric.kind.as_str() {
            "sim" => "a switch in memory",
            other => other,
        };
        return writeln!(
            out,
            "Simulated: {}, in virtual time; no kernel and no TAP was involved.",
            Escaped(fabric)
        );
    }
    if fabric.leaves > 0 {
        let ports = fabric.ports_per_bridge.unwrap_or_default();
        writeln!(
            out,
            "The VMs were on {} leaf bridges of up to {} ports around a spine; {} crossed it.",
            count(fabric.leaves.into()),
            count(ports.into()),
            counted(fabric.flows_across, "flow")
        )?;
    }
    match fabric.kind.as_str() {
        "xdp" => writeln!(out, "Frames went from TAP to TAP by XDP, without a bridge.")?,
        "none" => writeln!(out, "Frames went by whatever the TAPs were attached to.")?,
        _ => {}
    }
    tell_neighbours(fabric, out)
}

fn tell_neighbours(fabric: &FabricReport, out: &mut impl Write) -> io::Result<()> {
    let how = match fabric.neighbours.as_str() {
        "proxy" => "The bridge answered ARP requests",
        "static" => "Neighbours were known beforehand",
        _ => return Ok(()),
    };
    match fabric.spared_deliveries {
        Some(deliveries) => writeln!(
            out,
            "{how}: to flood the requests would have been {} deliveries (--resolve=before does it).",
            count(deliveries)
        ),
        None => writeln!(out, "{how}."),
    }
}
