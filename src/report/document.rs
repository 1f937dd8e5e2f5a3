//! The report as a plain document: what `--json` prints and what saved runs are read back from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ConnectionReport, FabricReport, FloodReport, ImpairedFrames, LossReport, LossSearchReport,
    MachineReport, MarkReport, MemoryReport, MergedReport, MisbehaviourReport, MoveReport, Outcome,
    PathSplitReport, PlanReport, RankReport, StageReport, StreamCounts, StreamReport, StreamTotals,
    Verdict, encoding, keyed,
};
use crate::fabric::Recording;
use crate::record::{
    Addresses, Drops, ErrorCounts, Latency, LatencySummary, LinkChanged, Metric, NeighbourSearch,
    Pauses, PerMetric, SparseLatency, Totals,
};
use crate::vm::ProbeKind;

/// The name and version of the document's form. A field may be added under the same version; one that goes or changes
/// its meaning makes a new one.
pub const SCHEMA: &str = "tap-reactor/report/1";

/// All that a run measured. Fields that end in `_ns` are nanoseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The name and version of the document's form.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The tool and its version.
    pub tool: String,
    /// The command or the scenario that ran, in a line.
    pub run: String,
    /// When the run began, in milliseconds since 1970; absent if that is not known, as in a simulation.
    pub started_unix_ms: Option<u64>,
    /// True if the run was ended before it was done.
    pub interrupted: bool,
    /// Duration of the schedules of the phases that count: n pings take n intervals, however the last of them ended. The
    /// time of a closed loop ends with its last reply.
    pub elapsed_ns: u64,
    /// For how long pings on their way were waited for after that.
    #[serde(default)]
    pub waited_ns: u64,
    /// From the start of the program until the first ping could be sent.
    pub setup_ns: u64,
    /// Pings answered per second of `elapsed_ns`.
    pub rate_per_s: f64,
    /// Counts of the pings, by how each ended.
    pub totals: Totals,
    /// Summary of each metric, as `rtt_ns`, `response_ns` and so on.
    #[serde(flatten, with = "keyed::summaries")]
    #[schemars(schema_with = "keyed::summaries::schema")]
    pub summaries: PerMetric<LatencySummary>,
    /// The plan: every setting and its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
    /// On which machine it ran; absent of a simulation, which is the same on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineReport>,
    /// The runs that were merged into this document, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<MergedReport>,
    /// The ranks that made the run together, if there were several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankReport>,
    /// The fabric that carried the frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<FabricReport>,
    /// Memory that the run used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryReport>,
    /// Verdict: the figures describe the network, or the tool.
    pub verdict: Verdict,
    /// The expectations of the run, and the result of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<Outcome>,
    /// Why the run is incomplete, one sentence each: pings or frames not answered or not sent, where no expectation says how many
    /// may fail; frames not carried; an end before all was done. Empty if it is complete. Absent if that was not judged: the run
    /// was not over, or an earlier version wrote the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortcomings: Option<Vec<String>>,
    /// Work of the reactor.
    pub reactor: ReactorReport,
    /// Dropped frames by reason; only the reasons that occurred.
    #[schemars(schema_with = "keyed::drops")]
    pub drops: Drops,
    /// Pings reported undeliverable, by what was reported; only what occurred.
    #[serde(default)]
    #[schemars(schema_with = "keyed::errors")]
    pub errors: ErrorCounts,
    /// The pings that failed, and those that were due and could not be sent, by cause, place and direction: as many as `failed`
    /// pings and `unsent` ones; empty if there are none of these. At most 200 rows tell their place.
    #[serde(default)]
    pub losses: Vec<LossReport>,
    /// How it was found out where pings were lost; absent of a report of an earlier version, and of merged runs that differ in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_attribution: Option<LossSearchReport>,
    /// Result of the search for neighbours before the first ping; absent where VMs asked when pings were due, or nobody
    /// had to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<NeighbourSearch>,
    /// Leases and conflicts of the VMs' addresses.
    #[serde(default, skip_serializing_if = "Addresses::is_empty")]
    pub addresses: Addresses,
    /// The TCP connections that pings have opened; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionReport>,
    /// The times during which the process did not run although it had something to do.
    #[serde(default, skip_serializing_if = "Pauses::is_empty")]
    pub pauses: Pauses,
    /// Frames that `--impair` delayed, lost or changed, by VM, direction and kind; only what occurred. A frame is counted once
    /// for each kind, whatever it carries (pings, ARP, neighbour discovery, DHCP). A warm-up is impaired too, but not counted:
    /// neither the frames of its pings nor others that were sent or arrived while it lasted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub impairments: Vec<ImpairedFrames>,
    /// VMs that misbehaved on purpose (`--misbehave`), in the order of their beginnings, and what that did to the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misbehaviours: Vec<MisbehaviourReport>,
    /// What became of the frames of all streams (`--stream`), warm-ups not counted; absent of a run without streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_counts: Option<StreamCounts>,
    /// How many these were, and how fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_totals: Option<StreamTotals>,
    /// The lost frames of all of these by cause and place: as many as `stream_counts.lost`. The direction of all that is known is
    /// `request`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stream_losses: Vec<LossReport>,
    /// The streams, in the order of their phases; of more than 1,000 those that lost most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamReport>,
    /// Frames that were flooded, if they were counted (`--count-floods`), by kind; only what occurred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floods: Vec<FloodReport>,
    /// They were counted; absent if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub floods_counted: bool,
    /// The pings that were followed after the run, to split their round trips into parts (`--path-split`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_split: Option<PathSplitReport>,
    /// Those parts: the stages of the way of the request, and then of the reply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_stages: Vec<StageReport>,
    /// The files that the run was recorded in, set-up and warm-up included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recordings: Vec<Recording>,
    /// Changes of the run's links by others, the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkChanged>,
    /// How much more they did.
    #[serde(default, skip_serializing_if = "nothing")]
    pub links_untold: u64,
    /// Instants that somebody named, the first of them, and what was measured of the flows from each on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<MarkReport>,
    /// How many more there were.
    #[serde(default, skip_serializing_if = "nothing")]
    pub marks_untold: u64,
    /// Moves of VMs, an entry for each flow that such a VM sends or receives: of more than 1,000 those with the longest gaps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoveReport>,
    /// How many more there were. The histogram of outages has the first 65,536 gaps of a run; those beyond are not measured.
    #[serde(default, skip_serializing_if = "nothing")]
    pub moves_untold: u64,
    /// The parts of a run that was divided: a warm-up, the steps of a ramp, the phases of a scenario.
    #[serde(default)]
    pub phases: Vec<PhaseReport>,
    /// The run second by second; a run of more than ten minutes has longer intervals too.
    #[serde(default)]
    pub seconds: Vec<SecondReport>,
    /// How many flows there were.
    #[serde(default)]
    pub flow_count: u64,
    /// How many of them sent pings of which none failed. Of merged runs that tell only their worst flows: at most so many.
    #[serde(default)]
    pub flows_whole: u64,
    /// Every flow; of more than 20,000 the 1,000 that lost most or were slowest.
    pub flows: Vec<FlowReport>,
    /// The histograms that the percentiles come from, by the names of their metrics. In JSON each is `null`, or its `min`,
    /// `max`, `mean` and `stdev` with `hdr`: HdrHistogram's compressed form, version 2, in base64.
    #[serde(with = "keyed::histograms")]
    #[schemars(schema_with = "keyed::histograms::schema")]
    pub histograms: PerMetric<Latency>,
}

impl Report {
    /// For how many nanoseconds the reactor polled instead of sleeping, if that was more than a hundredth of the run.
    pub(super) fn spun(&self) -> Option<u64> {
        let spun = self.reactor.spin_ns;
        (spun.saturating_mul(100) > self.elapsed_ns).then_some(spun)
    }
}

pub(super) const fn nothing(number: &u64) -> bool {
    *number == 0
}

/// Work of the reactor in the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReactorReport {
    /// Times it woke up.
    pub turns: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Those of them that were read before the first phase, when neighbours were looked for.
    #[serde(default)]
    pub setup_frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// How long it worked rather than waited.
    pub busy_ns: u64,
    /// Time of busy polling without work (`--spin`).
    #[serde(default)]
    pub spin_ns: u64,
}

impl ReactorReport {
    /// Frames read while pings were due or waited for.
    pub(super) fn measured_frames_in(&self) -> u64 {
        self.frames_in.saturating_sub(self.setup_frames_in)
    }

    /// Takes in what the reactor did in another run.
    pub(super) fn merge(&mut self, other: &ReactorReport) {
        self.turns = self.turns.saturating_add(other.turns);
        self.frames_in = self.frames_in.saturating_add(other.frames_in);
        self.setup_frames_in = self.setup_frames_in.saturating_add(other.setup_frames_in);
        self.frames_out = self.frames_out.saturating_add(other.frames_out);
        self.busy_ns = self.busy_ns.saturating_add(other.busy_ns);
        self.spin_ns = self.spin_ns.saturating_add(other.spin_ns);
    }
}

/// One part of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// True if its pings are part of the run's figures; those of a warm-up are not.
    pub counted: bool,
    /// Why no ping was sent in it; absent where some were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing_sent: Option<String>,
    /// Duration of its schedule.
    pub elapsed_ns: u64,
    /// For how long pings on their way were waited for after that.
    #[serde(default)]
    pub waited_ns: u64,
    /// Pings sent per second of `elapsed_ns`: what was offered.
    pub sent_per_s: f64,
    /// Pings answered per second of `elapsed_ns`: what came through.
    pub rate_per_s: f64,
    /// Counts of its pings, by how each ended.
    pub totals: Totals,
    /// TCP connections that its pings have opened; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionReport>,
    /// Summary of each metric that is recorded for each phase, as `rtt_ns` and so on.
    #[serde(flatten, with = "keyed::phase_summaries")]
    #[schemars(schema_with = "keyed::phase_summaries::schema")]
    pub summaries: PerMetric<LatencySummary>,
    /// Verdict: its figures describe the network, or the tool.
    pub verdict: Verdict,
}

/// One flow: one source that pings one destination.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FlowReport {
    /// The source, such as `vm0`.
    pub src: String,
    /// The destination, such as `vm1`, or an address.
    pub dst: String,
    /// The address of `dst`, if `dst` is not one itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it sends. A report of an earlier version does not say it: `icmp`.
    #[serde(default)]
    pub probe: ProbeKind,
    /// Counts of its pings, by how each ended. Without `unsent`, which is not counted for a flow.
    #[serde(serialize_with = "encoding::flow_totals")]
    pub totals: Totals,
    /// Its pings that failed, by cause, place and direction; at most eight rows tell their place. Of very many flows that lost
    /// pings the first 10,000 have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<LossReport>,
    /// received − sent, of each reply. Percentiles are absent in a run of very many flows.
    pub rtt_ns: LatencySummary,
    /// Of a flow to a multicast group: its members, those of the plan that never replied included. `received` counts a ping
    /// once, with the first reply; the replies of all members together are as many as `rtt_ns` counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberReport>,
}

/// One member of a multicast group that a flow pings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberReport {
    /// The VM; absent if it is none of the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// The address that it replies from.
    pub address: String,
    /// Pings that it has answered in time, each once.
    pub received: u64,
    /// Pings sent that it has not answered in time; of a VM, those sent and over while it existed.
    #[serde(default)]
    pub lost: u64,
}

impl MemberReport {
    /// Pings that it has answered or was expected to answer.
    pub const fn ended(&self) -> u64 {
        self.received.saturating_add(self.lost)
    }

    /// The share of those that it has not answered, from 0 to 1; 0 where there are none.
    pub fn loss(&self) -> f64 {
        match self.ended() {
            0 => 0.0,
            ended => self.lost as f64 / ended as f64,
        }
    }
}

/// One interval of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SecondReport {
    /// Its begin, counted from the first send.
    pub start_ns: u64,
    /// Its length.
    pub length_ns: u64,
    /// Pings sent in it.
    pub sent: u64,
    /// Pings answered in it.
    pub received: u64,
    /// Pings given up in it.
    pub failed: u64,
    /// The rtt of the pings answered in it.
    pub rtt_ns: LatencySummary,
    /// The response time of the pings answered in it.
    pub response_ns: LatencySummary,
    /// The histogram of `rtt_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub rtt: SparseLatency,
    /// The histogram of `response_ns`.
    #[serde(with = "encoding::sparse")]
    #[schemars(schema_with = "encoding::sparse::schema")]
    pub response: SparseLatency,
}

impl SecondReport {
    /// Summary and histogram of a metric in this interval; nothing if the metric is not recorded by the second.
    pub fn latency(&self, metric: Metric) -> Option<(&LatencySummary, &SparseLatency)> {
        match metric {
            Metric::Rtt => Some((&self.rtt_ns, &self.rtt)),
            Metric::Response => Some((&self.response_ns, &self.response)),
            _ => None,
        }
    }
}
