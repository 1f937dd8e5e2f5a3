//! The run in real time: TAPs, a fabric of the kernel's, and the reactor.

use super::build::{
    add_flows, create_vms, fill_neighbour_tables, machine_report, memory, per_vm_bytes,
    phase_names, place_flows, plan_report, recorder, time_of_day_at_zero,
};
use super::names::{flow_name, leased_addresses, serving, vm_starts};
use super::{HookDown, Lab, LabError, Observer, Ran, count_overflows};
use crate::experiment::{self, Experiment, VmPlan};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::reactor::{End, Reactor};
use crate::report::{Context, FabricReport, Report};
use crate::system::{
    self, HookEnd, HookEvent, Neighbours, StopSignals, SystemError, TapFabric, resident_bytes,
};
use crate::time::{Clock, MonotonicClock, unix_millis};
use crate::vm::VmId;

/// File descriptors of a run beside one for each TAP: standard streams, poll, timer, signals, netlink, namespaces.
const OTHER_DESCRIPTORS: u64 = 16;

pub(super) fn run(
    experiment: &Experiment,
    command: &str,
    observer: &mut dyn Observer,
) -> Result<Ran, LabError> {
    let clock = MonotonicClock;
    let started = clock.now();
    system::raise_descriptor_limit()?;
    system::ensure_descriptors(experiment.vms.len() as u64 + OTHER_DESCRIPTORS)?;
    let signals = StopSignals::new()?;
    let mut narrator = observer.narrator(started);
    let mut reactor = Reactor::new(signals)?;
    reactor.spin(experiment.spin);
    if let Some(frames) = experiment.lab.tx_queue_length {
        reactor.queues_hold(frames);
    }

    let registry = reactor.registry()?;
    let fabric = TapFabric::new(registry, experiment.lab.clone())?;
    let topology = fabric.topology();
    let mut hypervisor = Hypervisor::new(fabric, recorder(experiment), experiment.seed);
    let before = resident_bytes();
    let on_start = |vm: VmId, plan: &VmPlan| -> Result<bool, SystemError> {
        observer.made(clock.now(), vm, plan);
        if let Some(narrator) = &mut narrator {
            narrator.say(
                clock.now(),
                format_args!("{}", vm_starts(experiment, vm, plan)),
            );
        }
        reactor.is_to_stop()
    };
    let time_of_day = time_of_day_at_zero(clock.now());
    let now = || clock.now();
    // Who has had enough before all VMs are there gets the report of a run in which nothing was sent.
    let mut is_set_up = create_vms(experiment, &mut hypervisor, time_of_day, now, on_start)?;
    let watcher = observer.begins(clock.now());
    let mut vm_bytes = None;
    let mut hook_down = None;
    if is_set_up {
        let vms = experiment.vms.len() - experiment.newcomers().len();
        vm_bytes = per_vm_bytes(before, vms);
        let hooked = hook(experiment, HookEvent::Up, reactor.signals())?;
        hook_down = Some(HookDown);
        if let HookEnd::Interrupted(signal) = hooked {
            reactor.stop(signal);
            is_set_up = false;
        }
    }
    if is_set_up {
        add_flows(experiment, &mut hypervisor)?;
        if let Some(topology) = topology.filter(|topology| topology.leaves() > 0) {
            place_flows(experiment, &topology, hypervisor.recorder());
        }
        if experiment.lab.neighbours == Neighbours::Static {
            fill_neighbour_tables(experiment, &mut hypervisor);
        }
    }
    if is_set_up && !hypervisor.has_flows() {
        observer.serves(&serving(experiment));
    }
    if let Some(narrator) = narrator {
        reactor.narrate(narrator);
    }

    // Only now, so that what the set-up itself does to the links is not told.
    hypervisor.fabric().watch_links();
    for warning in hypervisor.fabric().warnings() {
        observer.warns(&warning.to_string());
    }
    if experiment.resolution.spared.is_some()
        && let Some(neighbours) = experiment::neighbours(experiment)
    {
        observer.warns(&neighbours);
    }
    let start = clock.now();
    hypervisor.recorder().watch_links(start);
    if let Some(watcher) = watcher
        && hypervisor.has_flows()
    {
        reactor.watch(watcher);
    }
    hypervisor.wait_for_addresses(experiment.address_wait);
    if let Some(first) = experiment.resolution.first {
        hypervisor.find_neighbours_first(first);
    }
    hypervisor.start(start, experiment.phases.clone());
    let until = experiment.serve.map(|time| start + time);
    let ended = reactor.run(&mut hypervisor, until);
    reactor.end_watch();
    if ended.is_err() {
        // What was on its way has no end any more.
        hypervisor.stop(clock.now());
        hypervisor.give_up(clock.now());
    }
    let signals = reactor.into_signals();
    let leaves_links = hypervisor.fabric().leaves_links_if_killed();
    let guarded = signals.guard_end(leaves_links);
    if matches!(ended, Ok(End::Signal(_))) && leaves_links {
        observer.warns(
            "ending; a signal more than two seconds from now ends at once and leaves links behind, for tap-reactor clean",
        );
    }
    // What has happened since the poll was last asked.
    for event in hypervisor.fabric().link_events() {
        hypervisor.recorder().link_changed(clock.now(), event);
    }
    let leased = leased_addresses(experiment, &hypervisor);
    let (mut fabric, mut recorder) = hypervisor.into_parts();
    let drops = fabric.queue_drops();
    if let Ok(drops) = &drops {
        count_overflows(&mut recorder, drops.iter().map(|(_, frames)| *frames));
    }
    let report = Report::new(
        &recorder,
        &Context {
            run: command,
            setup_ns: start.nanos_since(started),
            interrupted: matches!(ended, Ok(End::Signal(_)) | Err(_)),
            flows: &|index| flow_name(experiment, &leased, index),
            started_unix_ms: unix_millis()
                .map(|now| now.saturating_sub(clock.now().nanos_since(start) / 1_000_000)),
            fabric: Some(&FabricReport {
                kind: experiment.lab.switching.to_string(),
                leaves: topology.map_or(0, |topology| topology.leaves()),
                ports_per_bridge: topology.map(|topology| topology.ports_per_bridge()),
                flows_across: 0,
                neighbours: experiment.lab.neighbours.to_string(),
                spared_deliveries: experiment.resolution.spared,
                simulated: false,
            }),
            memory: memory(vm_bytes),
            phases: &phase_names(experiment),
            plan: Some(&plan_report(experiment)),
            machine: machine_report().as_ref(),
        },
    );
    Ok(Ran {
        report,
        end: ended.as_ref().ok().copied(),
        lab: Some(Lab {
            fabric,
            hook: hook_down,
            signals,
            failed: ended.err().or(drops.err()).or(guarded.err()),
        }),
    })
}

/// Takes the lab away, whatever went wrong before. Returns the first error.
pub(super) fn take_away(experiment: &Experiment, lab: Lab) -> Result<(), LabError> {
    let unhooked = match lab.hook {
        Some(HookDown) => hook(experiment, HookEvent::Down, &lab.signals).map(drop),
        None => Ok(()),
    };
    let removed = lab.fabric.remove_all();
    if let Some(failed) = lab.failed {
        return Err(failed.into());
    }
    unhooked?;
    Ok(removed?)
}

/// Runs the user's hook, if there is one.
fn hook(
    experiment: &Experiment,
    event: HookEvent,
    signals: &StopSignals,
) -> Result<HookEnd, SystemError> {
    match &experiment.lab.hook {
        Some(command) => system::run_hook(command, event, &experiment.lab, signals),
        None => Ok(HookEnd::Done),
    }
}
