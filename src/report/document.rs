//! The report as a plain document: what `--json` prints and what saved runs are read back from.

use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::record::{Drops, Latency, LatencySummary, Phase, Recorder, Totals};

/// The name and version of the document's form. A field may be added under the same version; one that goes or changes
/// its meaning makes a new one.
pub const SCHEMA: &str = "tap-reactor/report/1";

/// All that a run measured. Fields that end in `_ns` are nanoseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The tool and its version.
    pub tool: String,
    /// What ran: the command or the scenario, in a line.
    pub run: String,
    /// When the run began, in milliseconds since 1970; absent if that is not known, as in a simulation.
    pub started_unix_ms: Option<u64>,
    /// Whether the run was ended before it was done.
    pub interrupted: bool,
    /// From the first send to the last reply, or to the last ping given up.
    pub elapsed_ns: u64,
    /// From the start of the program until the first ping could be sent.
    pub setup_ns: u64,
    /// Pings answered per second of `elapsed_ns`.
    pub rate_per_s: f64,
    /// What became of the pings.
    pub totals: Totals,
    /// received − sent.
    pub rtt_ns: LatencySummary,
    /// received − due: free of coordinated omission.
    pub response_ns: LatencySummary,
    /// sent − due: the generator's own fault.
    pub lateness_ns: LatencySummary,
    /// How long neighbours took to resolve, from the first request to the reply.
    pub resolution_ns: LatencySummary,
    /// The rtt of the first ping of each flow.
    pub first_ns: LatencySummary,
    /// How long frames waited for the tool itself.
    pub lag_ns: LatencySummary,
    /// Whether the figures describe the network.
    pub verdict: Verdict,
    /// What the reactor did.
    pub reactor: ReactorReport,
    /// Dropped frames by reason; only the reasons that occurred.
    pub drops: Drops,
    /// The parts of a run that was divided: a warm-up, the steps of a ramp, the phases of a scenario.
    #[serde(default)]
    pub phases: Vec<PhaseReport>,
    /// Every flow.
    pub flows: Vec<FlowReport>,
    /// The histograms that the percentiles come from.
    #[serde(skip)]
    pub histograms: Histograms,
}

/// What the reactor did in the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReactorReport {
    /// Times it woke up.
    pub turns: u64,
    /// Frames read.
    pub frames_in: u64,
    /// Frames written.
    pub frames_out: u64,
    /// How long it worked rather than waited.
    pub busy_ns: u64,
}

/// One part of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// Whether its pings are part of the run's figures; those of a warm-up are not.
    pub counted: bool,
    /// From its first send to the last reply, or to the last ping given up.
    pub elapsed_ns: u64,
    /// Pings sent per second of `elapsed_ns`: what was offered.
    pub sent_per_s: f64,
    /// Pings answered per second of `elapsed_ns`: what came through.
    pub rate_per_s: f64,
    /// What became of its pings.
    pub totals: Totals,
    /// received − sent.
    pub rtt_ns: LatencySummary,
    /// received − due.
    pub response_ns: LatencySummary,
    /// sent − due.
    pub lateness_ns: LatencySummary,
    /// How long frames waited for the tool itself.
    pub lag_ns: LatencySummary,
    /// Whether its figures describe the network.
    pub verdict: Verdict,
}

/// One flow: one source that pings one destination.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowReport {
    /// Who sends, such as `vm0`.
    pub src: String,
    /// Who answers, such as `vm1`, or an address.
    pub dst: String,
    /// The address of `dst`, if `dst` is not one itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What became of its pings.
    pub totals: Totals,
    /// received − sent. Percentiles are absent in a run of very many flows.
    pub rtt_ns: LatencySummary,
}

/// The histograms of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Histograms {
    /// received − sent.
    pub rtt: Latency,
    /// received − due.
    pub response: Latency,
    /// sent − due.
    pub lateness: Latency,
    /// How long neighbours took to resolve.
    pub resolution: Latency,
    /// The rtt of the first ping of each flow.
    pub first: Latency,
    /// How long frames waited for the tool itself.
    pub lag: Latency,
}

/// What a report says that a [`Recorder`] does not know.
#[derive(Clone, Debug, Default)]
pub struct Context<'a> {
    /// What ran: the command or the scenario, in a line.
    pub run: &'a str,
    /// When the run began, in milliseconds since 1970.
    pub started_unix_ms: Option<u64>,
    /// From the start of the program until the first ping could be sent, in nanoseconds.
    pub setup_ns: u64,
    /// Whether the run was ended before it was done.
    pub interrupted: bool,
    /// Who the flows are, in the order of their ids.
    pub flows: &'a [FlowName],
}

/// Who a flow goes from and to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowName {
    /// Who sends, such as `vm0`.
    pub src: String,
    /// Who answers, such as `vm1`, or an address.
    pub dst: String,
    /// The address of `dst`, if `dst` is not one itself.
    pub address: Option<String>,
}

impl Report {
    /// The report of what `recorder` took in.
    pub fn new(recorder: &Recorder, context: &Context<'_>) -> Report {
        let run = recorder.run();
        let work = recorder.work();
        Report {
            schema: SCHEMA.to_owned(),
            tool: concat!("tap-reactor ", env!("CARGO_PKG_VERSION")).to_owned(),
            run: context.run.to_owned(),
            started_unix_ms: context.started_unix_ms,
            interrupted: context.interrupted,
            elapsed_ns: run.elapsed(),
            setup_ns: context.setup_ns,
            rate_per_s: per_second(run.totals().received, run.elapsed()),
            totals: *run.totals(),
            rtt_ns: run.rtt().summary(),
            response_ns: run.response().summary(),
            lateness_ns: run.lateness().summary(),
            resolution_ns: recorder.resolution().summary(),
            first_ns: recorder.first().summary(),
            lag_ns: run.lag().summary(),
            verdict: Verdict::new(&run, recorder.drops()),
            reactor: ReactorReport {
                turns: work.turns,
                frames_in: work.frames_in,
                frames_out: work.frames_out,
                busy_ns: work.busy,
            },
            drops: *recorder.drops(),
            phases: phases(recorder),
            flows: flows(recorder, context),
            histograms: Histograms {
                rtt: run.rtt().clone(),
                response: run.response().clone(),
                lateness: run.lateness().clone(),
                resolution: recorder.resolution().clone(),
                first: recorder.first().clone(),
                lag: run.lag().clone(),
            },
        }
    }
}

/// The phases of a run that was divided: one phase without a name is none.
fn phases(recorder: &Recorder) -> Vec<PhaseReport> {
    match recorder.phases() {
        [phase] if phase.name().is_empty() => Vec::new(),
        phases => phases.iter().map(PhaseReport::new).collect(),
    }
}

impl PhaseReport {
    fn new(phase: &Phase) -> PhaseReport {
        PhaseReport {
            name: phase.name().to_owned(),
            counted: phase.counted(),
            elapsed_ns: phase.elapsed(),
            sent_per_s: per_second(phase.totals().sent, phase.elapsed()),
            rate_per_s: per_second(phase.totals().received, phase.elapsed()),
            totals: *phase.totals(),
            rtt_ns: phase.rtt().summary(),
            response_ns: phase.response().summary(),
            lateness_ns: phase.lateness().summary(),
            lag_ns: phase.lag().summary(),
            // The queues' overflow is known for the run as a whole only.
            verdict: Verdict::new(phase, &Drops::default()),
        }
    }
}

fn flows(recorder: &Recorder, context: &Context<'_>) -> Vec<FlowReport> {
    let name = |index: usize| {
        let unknown = || FlowName {
            src: format!("flow {index}"),
            ..FlowName::default()
        };
        context.flows.get(index).cloned().unwrap_or_else(unknown)
    };
    let records = recorder.flows().iter().enumerate();
    records
        .map(|(index, flow)| {
            let FlowName { src, dst, address } = name(index);
            FlowReport {
                src,
                dst,
                address,
                totals: *flow.totals(),
                rtt_ns: flow.summary(),
            }
        })
        .collect()
}

/// Events per second, in thousandths; 0 where no time passed.
fn per_second(events: u64, elapsed_ns: u64) -> f64 {
    match elapsed_ns {
        0 => 0.0,
        elapsed => (events as f64 * 1e12 / elapsed as f64).round() / 1e3,
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
