//! What clients send and get: the documents of the resources. Words and values of requests are those of scenarios.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Totals;
use crate::report::{FlowReport, ImpairedFrames, PlanReport};

/// Items of a list that a response has where nothing else is asked for.
pub const PAGE: usize = 100;
/// Items of a list that a response has at most.
pub const LARGEST_PAGE: usize = 1000;

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The items before it.
    pub offset: usize,
    /// The most items in it.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
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

/// What a lab does at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
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
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
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
    /// The plan, as it was at the start: every setting and its value.
    pub plan: PlanReport,
}

/// A VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddVms {
    /// How many. They start one after the other, and have the settings that all VMs share.
    pub vms: u32,
}

/// VMs that are added or removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
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

/// A flow.
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Flow")]
pub struct FlowDocument {
    /// Its number: `events` and `DELETE /flows/{flow}` have the same.
    pub id: u32,
    /// Its pings so far.
    #[serde(flatten)]
    pub report: FlowReport,
}

/// Flows to add.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddFlows {
    /// Who pings whom, as after `--ping`: `vm0:vm1`, `vm[0-4]:10.77.0.1`, `mesh`.
    pub ping: String,
    /// Bytes of payload of each ping; as the plan has it by default.
    pub size: Option<u32>,
}

/// Flows that were added.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
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
#[derive(Clone, PartialEq, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Impairments")]
pub struct ImpairmentsDocument {
    /// The rules: of those about a frame, the last one applies.
    pub rules: Vec<ImpairDocument>,
    /// The frames that were impaired so far.
    pub frames: Vec<ImpairedFrames>,
}

/// A capture to begin.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Capture")]
pub struct CaptureDocument {
    /// The file, as after `--capture`; the folder that the lab was started in is where a relative path begins. Without it the
    /// frames are the response. Over TCP there is none.
    pub capture: Option<String>,
    /// The VMs, as after `--capture-vms`; all by default.
    pub vms: Option<String>,
    /// The bytes of each frame that are kept, as after `--capture-snap`.
    pub snap: Option<u32>,
    /// Only so many frames before and after each failed ping, as after `--capture-on-loss`.
    pub on_loss: Option<u32>,
}

/// A mark to set now.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetMark {
    /// Its name: a word of letters, digits, `-` and `_`.
    pub name: String,
}

/// A mark that was set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Mark")]
pub struct MarkDocument {
    /// Its name.
    pub name: String,
    /// When it was set, in nanoseconds since the set-up began.
    pub time_ns: u64,
}

/// It was done, and there is no more to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Done {}
