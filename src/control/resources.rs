//! What clients send and get: the documents of the resources. Words and values of requests are those of scenarios.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fabric::Recording;
use crate::record::{Drops, ErrorCounts, Interval, LatencySummary, Mark, MarkMetric, Totals};
use crate::report::{FlowReport, ImpairedFrames, PlanReport, keyed};
use crate::time::Instant;
use crate::vm::VmId;

/// Items of a list that a response has where nothing else is asked for.
pub const PAGE: usize = 100;
/// Items of a list that a response has at most.
pub const LARGEST_PAGE: usize = 1000;
/// Phases that the document of a lab has at most.
pub const PHASES_TOLD: usize = 20;

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The items before it.
    pub offset: usize,
    /// The most items in it.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct List<T> {
    /// The items of the whole list.
    pub total: usize,
    /// The items before the first one here.
    pub offset: usize,
    /// The items from there on.
    pub items: Vec<T>,
}

impl<T> List<T> {
    /// The items of `page`; `item` makes the one with an index, or leaves it out.
    pub fn of(page: Page, total: usize, item: impl FnMut(usize) -> Option<T>) -> List<T> {
        let end = total.min(page.offset.saturating_add(page.limit));
        List {
            total,
            offset: page.offset,
            items: (page.offset..end).filter_map(item).collect(),
        }
    }
}

impl<T: Serialize> List<T> {
    /// Writes the list behind the items in `text`, or if that is empty, with its begin; without its end. Returns the total.
    pub(super) fn write(&self, text: &mut Vec<u8>) -> serde_json::Result<usize> {
        let mut is_first = text.is_empty();
        if is_first {
            let List { total, offset, .. } = self;
            let begin = format!("{{\"total\":{total},\"offset\":{offset},\"items\":[");
            text.extend_from_slice(begin.as_bytes());
        }
        is_first |= text.ends_with(b"[");
        for item in &self.items {
            if !std::mem::take(&mut is_first) {
                text.push(b',');
            }
            serde_json::to_writer(&mut *text, item)?;
        }
        Ok(self.total)
    }
}

/// The order of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// By number, as it grew.
    #[default]
    Number,
    /// Those of which most pings failed first, and among those of which as many did the slowest.
    Worst,
}

impl Order {
    /// The orders, each with its word.
    pub const ALL: [(&'static str, Order); 2] =
        [("number", Order::Number), ("worst", Order::Worst)];
}

/// What a lab does at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabState {
    /// It waits for addresses or neighbours before its first phase.
    Waiting,
    /// A phase runs.
    Running,
    /// Its VMs only answer: it has no flows, or its phases are over.
    Serving,
    /// It was told to stop, and waits for outstanding pings.
    Stopping,
    /// Its run is over.
    Over,
}

/// The lab as a whole.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Lab")]
pub struct LabDocument {
    /// Program and version.
    pub tool: String,
    /// The command that made it.
    pub run: String,
    /// What it does at present.
    pub state: LabState,
    /// Nanoseconds since the set-up began; of a simulation, of virtual time.
    pub time_ns: u64,
    /// The present phase; absent if it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// VMs that exist.
    pub vms: usize,
    /// Flows, removed ones included.
    pub flows: usize,
    /// Pings of the run so far, by how each ended.
    pub totals: Totals,
    /// The addresses at which it is controlled, as after `--control`, each with the port that it has.
    pub control: Vec<String>,
    /// Those of its metrics, as after `--metrics`.
    pub metrics: Vec<String>,
    /// received − sent, of the run so far.
    pub rtt_ns: LatencySummary,
    /// received − due, of the run so far.
    pub response_ns: LatencySummary,
    /// The last second in which something happened; absent if that was longer ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<RecentDocument>,
    /// The last phases of a run that is divided, the present one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseDocument>,
    /// Dropped frames by reason; only the reasons that occurred.
    #[schemars(schema_with = "keyed::drops")]
    pub drops: Drops,
    /// Pings reported undeliverable, by what was reported; only what occurred.
    #[schemars(schema_with = "keyed::errors")]
    pub errors: ErrorCounts,
    /// The last mark, and what came of it so far; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<MarkSoFar>,
    /// The rules of impairment, as `GET /impairments` has them.
    pub impairments: Vec<ImpairDocument>,
    /// The plan, as it was at the start: every setting and its value.
    pub plan: PlanReport,
}

/// What came of a mark so far. Reports have the percentiles, and all marks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MarkSoFar {
    /// Its name.
    pub name: String,
    /// How long ago it was set.
    pub since_ns: u64,
    /// Flows of which a ping has ended that belongs to it.
    pub flows: u64,
    /// Those of them of which a ping passed.
    pub passed: u64,
    /// The latest of their first passes.
    pub first_pass_ns: Option<u64>,
    /// The latest of their last passes.
    pub last_pass_ns: Option<u64>,
    /// The longest time between two answers of a flow.
    pub longest_gap_ns: Option<u64>,
}

impl MarkSoFar {
    /// The state of `mark` at `now`. Looks at each flow once.
    pub fn of(mark: &Mark, now: Instant) -> MarkSoFar {
        let mut so_far = MarkSoFar {
            name: mark.name().to_string(),
            since_ns: now.nanos_since(mark.at()),
            flows: 0,
            passed: 0,
            first_pass_ns: None,
            last_pass_ns: None,
            longest_gap_ns: None,
        };
        for (_, flow) in mark.flows() {
            so_far.flows += 1;
            so_far.passed += u64::from(flow.answered > 0);
            for (longest, metric) in [
                (&mut so_far.first_pass_ns, MarkMetric::FirstPass),
                (&mut so_far.last_pass_ns, MarkMetric::LastPass),
                (&mut so_far.longest_gap_ns, MarkMetric::LongestGap),
            ] {
                *longest = flow.get(metric).max(*longest);
            }
        }
        so_far
    }
}

/// The figures of the last interval that is over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Recent")]
pub struct RecentDocument {
    /// Its length: a second, or more after ten minutes.
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
}

impl From<Interval> for RecentDocument {
    fn from(interval: Interval) -> RecentDocument {
        RecentDocument {
            length_ns: interval.length,
            sent: interval.sent,
            received: interval.received,
            failed: interval.failed,
            rtt_ns: interval.rtt.expand().summary(),
            response_ns: interval.response.expand().summary(),
        }
    }
}

/// A phase so far.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Phase")]
pub struct PhaseDocument {
    /// Its name.
    pub name: String,
    /// False of a warm-up, whose pings are not part of the run's figures.
    pub counted: bool,
    /// Duration of its schedule so far.
    pub elapsed_ns: u64,
    /// Counts of its pings, by how each ended.
    pub totals: Totals,
}

/// A VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Vm")]
pub struct VmDocument {
    /// Its name: `vm0`.
    pub name: String,
    /// The hardware address of its interface.
    pub mac: String,
    /// Its IPv4 address; absent while it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its planned or leased IPv6 address; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address6: Option<String>,
    /// False while it is still to start, and once it has stopped.
    pub is_up: bool,
    /// It asks for an address, or checks one, before it uses it.
    pub is_configuring: bool,
}

/// VMs to add.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddVms {
    /// How many. They start one after the other, and have the settings that all VMs share.
    pub vms: u32,
}

/// VMs that are added or removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChangedVms {
    /// How many.
    pub vms: usize,
    /// The first of them; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The last of them; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl ChangedVms {
    /// So many VMs, with the first and the last of them.
    pub fn new(vms: usize, ends: Option<(VmId, VmId)>) -> ChangedVms {
        ChangedVms {
            vms,
            first: ends.map(|(first, _)| first.to_string()),
            last: ends.map(|(_, last)| last.to_string()),
        }
    }
}

/// A flow.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Flow")]
pub struct FlowDocument {
    /// Its number: `events` and `DELETE /flows/{flow}` have the same.
    pub id: u32,
    /// Its pings so far.
    #[serde(flatten)]
    pub report: FlowReport,
}

/// Flows to add.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddFlows {
    /// Who pings whom, as after `--ping`: `vm0:vm1`, `vm[0-4]:10.77.0.1`, `mesh`.
    pub ping: String,
    /// Bytes of payload of each ping; as the plan has it by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Pings per second of these flows together, whatever others send. Without `rate`, `interval` and `window` they send as
    /// the others do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The time between two pings of each of these flows, whatever others send: `10ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Pings of each of these flows that are outstanding at a time, whatever others send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Pings of each of these flows, with one of `rate`, `interval` and `window`; without it they end with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
}

/// Flows that were added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AddedFlows {
    /// How many.
    pub flows: usize,
    /// The number of the first one; the others' follow.
    pub first: u32,
}

/// How the flows send.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Load")]
pub struct LoadDocument {
    /// Pings per second of all flows together, as after `--rate`: `5000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The time between two pings of a flow, as after `--interval`: `10ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Pings of a flow that are outstanding at a time, as after `--window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
}

/// Impairments to add: to the frames that they are about they apply in place of those so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Impairment")]
pub struct ImpairDocument {
    /// Whose frames, and what is done to them, as after `--impair`: `vm3:delay=5ms,loss=1%`.
    pub impair: String,
}

/// The impairments that apply.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Impairments")]
pub struct ImpairmentsDocument {
    /// The rules: of those about a frame, the last one applies.
    pub rules: Vec<ImpairDocument>,
    /// The frames that were impaired so far.
    pub frames: Vec<ImpairedFrames>,
}

/// A capture to begin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Capture")]
pub struct CaptureDocument {
    /// The file, as after `--capture`; the folder that the lab was started in is where a relative path begins. Without it the
    /// frames are the response. Over TCP there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// The VMs, as after `--capture-vms`; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<String>,
    /// The bytes of each frame that are kept, as after `--capture-snap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap: Option<u32>,
    /// Only so many frames before and after each failed ping, as after `--capture-on-loss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_loss: Option<u32>,
}

/// A capture into a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "CaptureSoFar")]
pub struct CaptureSoFar {
    /// Its number: `DELETE /captures/{capture}` has the same.
    pub id: u32,
    /// What was written so far.
    #[serde(flatten)]
    pub recording: Recording,
}

/// A mark to set now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMark {
    /// Its name: a word of letters, digits, `-` and `_`.
    pub name: String,
}

/// A mark that was set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Mark")]
pub struct MarkDocument {
    /// Its name.
    pub name: String,
    /// When it was set, in nanoseconds since the set-up began, as the lab, its events and `--trace` tell time. Reports tell a mark
    /// as `at_ns`, from the first ping on.
    pub time_ns: u64,
}

/// It was done, and there is no more to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Done {}
