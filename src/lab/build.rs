//! Creates the VMs and flows of a plan, and describes the plan for the report.

use std::net::IpAddr;

use crate::experiment::{Experiment, FlowPlan, Scenario, Setting, Settings, StreamPlan};
use crate::fabric::Fabric;
use crate::hypervisor::{FlowConfig, Hypervisor, StreamFlow};
use crate::load::{FlowId, Target};
use crate::record::{ByGroup, DropReason, Limits, Recorder};
use crate::report::{MachineReport, MemoryReport, PlanReport, SettingsReport, Values};
use crate::system::{self, Neighbours, allocated_bytes, memory_use};
use crate::time::{Instant, unix_nanos};
use crate::topology::Topology;
use crate::vm::{DEFAULT_TIME_TO_LIVE, PingOptions, SessionConfig, StreamConfig, VmId};

use super::LabError;

pub(super) fn recorder(experiment: &Experiment) -> Recorder {
    let mut recorder = Recorder::new(Limits {
        // In one more, flows may ping that are added later.
        phases: experiment.phases.len().max(1) + usize::from(experiment.stays),
        ..Limits::default()
    });
    if !experiment.listen.is_empty()
        && let Some(by_group) = ByGroup::new(experiment.vm_groups())
    {
        recorder.count_by_group(by_group);
    }
    recorder
}

/// Nanoseconds from 1970 (UTC) to [`Instant::ZERO`]; 0 on a machine that does not know.
pub(super) fn unix_nanos_at_zero(now: Instant) -> u64 {
    unix_nanos().unwrap_or(0).saturating_sub(now.as_nanos())
}

/// Returns the memory that each of `vms` VMs has taken since the process had `before` bytes; `None` if the kernel does not
/// tell.
pub(super) fn per_vm_bytes(before: Option<u64>, vms: usize) -> Option<u64> {
    let (before, now) = before.zip(allocated_bytes())?;
    Some(now.saturating_sub(before) / (vms as u64).max(1))
}

/// Returns the present and the peak memory of the process.
pub(super) fn memory(per_vm_bytes: Option<u64>) -> Option<MemoryReport> {
    let (per_vm_bytes, memory) = per_vm_bytes.zip(memory_use())?;
    Some(MemoryReport {
        rss_bytes: memory.present,
        peak_bytes: Some(memory.peak),
        per_vm_bytes,
    })
}

/// Returns name and counting of each planned phase, for the report.
pub(super) fn phase_names(experiment: &Experiment) -> Vec<(String, bool)> {
    let phases = experiment.phases.iter();
    phases
        .map(|phase| (phase.name.clone(), phase.is_counted))
        .collect()
}

/// Returns the plan in the report's form.
pub(super) fn plan_report(experiment: &Experiment) -> PlanReport {
    let Scenario {
        settings,
        groups,
        phases,
    } = &experiment.effective;
    PlanReport {
        settings: settings_report(settings),
        groups: groups.iter().map(settings_report).collect(),
        phases: phases.iter().map(settings_report).collect(),
    }
}

fn settings_report(settings: &Settings) -> SettingsReport {
    let values = |values: &[Setting]| match values {
        [one] => Values::One(one.text.clone()),
        several => Values::Several(several.iter().map(|one| one.text.clone()).collect()),
    };
    let named = settings.iter();
    named
        .map(|(name, each)| (name.to_owned(), values(each)))
        .collect()
}

/// Returns a description of this machine in the report's form.
pub(super) fn machine_report() -> Option<MachineReport> {
    let machine = system::machine()?;
    Some(MachineReport {
        kernel: machine.kernel.clone(),
        processor: machine.processor.clone(),
        processors: machine.processors,
    })
}

/// Tells the recorder which flows cross from one leaf to another.
pub(super) fn set_flow_paths(
    flows: impl Iterator<Item = (FlowId, FlowPlan)>,
    topology: &Topology,
    recorder: &mut Recorder,
) {
    for (id, flow) in flows {
        if let Target::Vm(target) = flow.target {
            recorder.set_flow_path(id, topology.is_across(flow.source, target));
        }
    }
}

/// Adds the plan's flows, and prepares how VMs resolve each other's addresses.
///
/// The frames of its streams tell by `unix_nanos`, when the run began, that they are not those of another run.
pub(super) fn load(
    experiment: &Experiment,
    unix_nanos: u64,
    hypervisor: &mut Hypervisor<impl Fabric>,
) -> Result<(), LabError> {
    add_flows(experiment, hypervisor)?;
    add_streams(experiment, unix_nanos, hypervisor)?;
    if experiment.lab.neighbours == Neighbours::Static {
        fill_neighbour_tables(experiment, hypervisor);
    }
    hypervisor.wait_for_addresses(experiment.address_wait);
    if let Some(first) = experiment.resolution.first {
        hypervisor.find_neighbours_first(first);
    }
    Ok(())
}

fn add_flows(
    experiment: &Experiment,
    hypervisor: &mut Hypervisor<impl Fabric>,
) -> Result<(), LabError> {
    let mut flows = experiment.flows.iter();
    flows.try_for_each(|flow| add_flow(experiment, flow, hypervisor).map(drop))
}

fn add_streams(
    experiment: &Experiment,
    unix_nanos: u64,
    hypervisor: &mut Hypervisor<impl Fabric>,
) -> Result<(), LabError> {
    if experiment.streams.is_empty() {
        return Ok(());
    }
    let run = match &experiment.part {
        Some(part) => part.run(),
        None => (unix_nanos ^ unix_nanos >> 32 ^ experiment.seed) as u32,
    };
    hypervisor.expect_streams(run, experiment.timeout);
    let has_own_clock = experiment.lab.sharing.is_none();
    for stream in &experiment.streams {
        let receivers = stream.receivers.iter().copied();
        let (own, elsewhere): (Vec<VmId>, Vec<VmId>) =
            receivers.partition(|vm| experiment.is_own(*vm));
        let destination = experiment.destination_of(stream).ok_or_else(|| {
            let (source, target) = (stream.source, stream.target);
            LabError::Plan(format!(
                "{source} can't send to {target}: it has no such address"
            ))
        })?;
        hypervisor.add_stream(StreamFlow {
            source: stream.source,
            config: StreamConfig {
                destination,
                mac: stream.mac,
                options: options(experiment.vm_defaults.ping, destination),
            },
            target: match stream.target {
                Target::Vm(vm) => Some(vm),
                Target::Address(_) => None,
            },
            receivers: own,
            receivers_elsewhere: elsewhere.len() as u64,
            has_two_clocks: has_own_clock && !experiment.is_own(stream.source),
            sizes: stream.sizes.clone(),
            is_counted: stream.is_counted,
        });
    }
    Ok(())
}

/// Adds a flow of the plan.
pub(super) fn add_flow(
    experiment: &Experiment,
    flow: &FlowPlan,
    hypervisor: &mut Hypervisor<impl Fabric>,
) -> Result<FlowId, LabError> {
    let config = flow_config(experiment, flow)?;
    let added = hypervisor.add_flow(config);
    if let Some(id) = added {
        expect_members(experiment, id, &config, hypervisor);
    }
    added.ok_or_else(|| {
        LabError::Plan(format!(
            "{} does not exist, or has more flows than can be told apart",
            flow.source
        ))
    })
}

/// Returns a flow of the plan as its source VM is to ping.
///
/// # Errors
/// If the target has no such address.
pub(super) fn flow_config(
    experiment: &Experiment,
    flow: &FlowPlan,
) -> Result<FlowConfig, LabError> {
    let destination = experiment.destination(flow).ok_or_else(|| {
        let FlowPlan { source, target, .. } = flow;
        LabError::Plan(format!(
            "{source} can't ping {target}: it has no such address"
        ))
    })?;
    Ok(FlowConfig {
        source: flow.source,
        session: SessionConfig {
            destination,
            probe: flow.probe,
            payload_length: flow.payload_length,
            timeout: experiment.timeout,
            options: options(experiment.vm_defaults.ping, destination),
        },
        target: match flow.target {
            Target::Vm(vm) => Some(vm).filter(|vm| experiment.is_own(*vm)),
            Target::Address(_) => None,
        },
    })
}

/// Has the flow `id`, if it pings a group, expect answers of the members of the plan.
pub(super) fn expect_members(
    experiment: &Experiment,
    id: FlowId,
    flow: &FlowConfig,
    hypervisor: &mut Hypervisor<impl Fabric>,
) {
    let group = flow.session.destination;
    if group.is_multicast() {
        let members = experiment.others(group, flow.source).collect();
        hypervisor.expect_members(id, members);
    }
}

/// Header fields of pings to `destination`. What goes to a group stays on the link (RFC 1112 section 6.1), unless another
/// number of hops than the default is asked for.
fn options(asked: PingOptions, destination: IpAddr) -> PingOptions {
    let is_default = asked.time_to_live == DEFAULT_TIME_TO_LIVE;
    PingOptions {
        time_to_live: match destination.is_multicast() && is_default {
            true => 1,
            false => asked.time_to_live,
        },
        ..asked
    }
}

/// Fills the neighbour tables of both ends of every flow.
fn fill_neighbour_tables(experiment: &Experiment, hypervisor: &mut Hypervisor<impl Fabric>) {
    let incoming = experiment.part.iter().flat_map(|part| &part.incoming);
    let of_streams = experiment.streams.iter().filter_map(StreamPlan::as_flow);
    let flows = experiment.flows.iter().chain(incoming).copied();
    let flows = flows.chain(of_streams);
    flows.for_each(|flow| fill_neighbour_tables_of(experiment, &flow, hypervisor));
}

/// Fills the neighbour tables of both ends of `flow`.
pub(super) fn fill_neighbour_tables_of(
    experiment: &Experiment,
    flow: &FlowPlan,
    hypervisor: &mut Hypervisor<impl Fabric>,
) {
    if let Target::Vm(target) = flow.target {
        for (vm, neighbour) in [(flow.source, target), (target, flow.source)] {
            if let Some(plan) = experiment.vms.get(neighbour.index())
                && let Some(address) = experiment.address(neighbour, flow.version)
            {
                hypervisor.tell_neighbour(vm, address, plan.mac);
            }
        }
    }
}

/// Counts the frames that queues of the fabric did not take among those that were dropped.
pub(super) fn count_drops<F: Fabric>(hypervisor: &mut Hypervisor<F>) -> Result<(), F::Error> {
    let frames = hypervisor.fabric().drops()?;
    hypervisor
        .recorder()
        .dropped_many(DropReason::TapQueue, frames);
    Ok(())
}
