//! The lab in real time: TAPs, a fabric of the kernel's, and the reactor.

use super::build::{
    create_vms, load, machine_report, memory, per_vm_bytes, phase_names, plan_report, recorder,
    set_flow_paths, time_of_day_at_zero,
};
use super::names::{flow_name, leased_addresses, serving, vm_starts};
use super::{LabError, Observer, count_overflows};
use crate::experiment::{self, Experiment, VmPlan};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::reactor::{End, Reactor};
use crate::report::{Context, FabricReport, Report};
use crate::system::{
    self, HookEnd, HookEvent, StopSignals, SystemError, TapFabric, resident_bytes,
};
use crate::time::{Clock, Instant, MonotonicClock, unix_millis};
use crate::topology::Topology;
use crate::vm::VmId;

/// File descriptors of a run beside one for each TAP: standard streams, poll, timer, signals, netlink, namespaces.
const OTHER_DESCRIPTORS: u64 = 16;

/// VMs on TAPs.
#[derive(Debug)]
pub(super) struct OnTaps {
    reactor: Reactor,
    hypervisor: Hypervisor<TapFabric>,
    topology: Option<Topology>,
    /// When the program began with it.
    started: Instant,
    /// When its load began.
    start: Instant,
    /// What each VM takes of memory.
    vm_bytes: Option<u64>,
    /// Whether it has all VMs and flows: not if a signal came before.
    is_whole: bool,
    /// Whether the hook was told that the lab is up, so that it is to be told that it goes.
    is_hooked: bool,
    is_interrupted: bool,
    /// What went wrong first.
    failed: Option<SystemError>,
    is_there: bool,
}

impl OnTaps {
    pub(super) fn build(
        experiment: &Experiment,
        observer: &mut dyn Observer,
    ) -> Result<OnTaps, LabError> {
        let clock = MonotonicClock;
        let started = clock.now();
        system::raise_descriptor_limit()?;
        system::ensure_descriptors(experiment.vms.len() as u64 + OTHER_DESCRIPTORS)?;
        let mut reactor = Reactor::new(StopSignals::new()?)?;
        reactor.spin(experiment.spin);
        if let Some(frames) = experiment.lab.tx_queue_length {
            reactor.queues_hold(frames);
        }
        let fabric = TapFabric::new(reactor.registry()?, experiment.lab.clone())?;
        let topology = fabric.topology();
        let mut lab = OnTaps {
            hypervisor: Hypervisor::new(fabric, recorder(experiment), experiment.seed),
            reactor,
            topology,
            started,
            start: started,
            vm_bytes: None,
            is_whole: false,
            is_hooked: false,
            is_interrupted: false,
            failed: None,
            is_there: true,
        };
        lab.populate(experiment, observer)?;
        Ok(lab)
    }

    /// Makes the VMs, joins them to the user's switch if that is what the hook does, and gives them their flows. Who has had
    /// enough before that is done gets the report of a run in which nothing was sent.
    fn populate(
        &mut self,
        experiment: &Experiment,
        observer: &mut dyn Observer,
    ) -> Result<(), LabError> {
        let clock = MonotonicClock;
        let before = resident_bytes();
        let mut narrator = observer.narrator(self.started);
        let reactor = &mut self.reactor;
        let on_start = |vm: VmId, plan: &VmPlan| -> Result<bool, SystemError> {
            observer.made(clock.now(), vm, plan);
            if let Some(narrator) = &mut narrator {
                let words = vm_starts(experiment, vm, plan);
                narrator.say(clock.now(), format_args!("{words}"));
            }
            reactor.is_to_stop()
        };
        let time_of_day = time_of_day_at_zero(clock.now());
        let now = || clock.now();
        let hypervisor = &mut self.hypervisor;
        self.is_whole = create_vms(experiment, hypervisor, time_of_day, now, on_start)?;
        if let Some(narrator) = narrator {
            self.reactor.narrate(narrator);
        }
        if !self.is_whole {
            return Ok(());
        }
        let vms = experiment.vms.len() - experiment.newcomers().len();
        self.vm_bytes = per_vm_bytes(before, vms);
        let hooked = hook(experiment, HookEvent::Up, self.reactor.signals())?;
        self.is_hooked = true;
        if let HookEnd::Interrupted(signal) = hooked {
            self.reactor.stop(signal);
            self.is_whole = false;
            return Ok(());
        }
        load(experiment, &mut self.hypervisor)?;
        if let Some(topology) = self.topology.filter(|topology| topology.leaves() > 0) {
            set_flow_paths(experiment, &topology, self.hypervisor.recorder());
        }
        Ok(())
    }

    pub(super) fn run(
        &mut self,
        experiment: &Experiment,
        observer: &mut dyn Observer,
    ) -> Option<End> {
        let clock = MonotonicClock;
        self.announce(experiment, observer);
        let hypervisor = &mut self.hypervisor;
        // Only now, so that what the set-up itself does to the links is not told.
        hypervisor.fabric().watch_links();
        self.start = clock.now();
        hypervisor.recorder().watch_links(self.start);
        hypervisor.start(self.start, experiment.phases.clone());
        let until = experiment.serve.map(|time| self.start + time);
        let ended = self.reactor.run(hypervisor, until);
        self.reactor.end_watch();
        if ended.is_err() {
            // What was on its way has no end any more.
            hypervisor.stop(clock.now());
            hypervisor.give_up(clock.now());
        }
        hypervisor.end();
        let leaves_links = hypervisor.fabric().leaves_links_if_killed();
        let guarded = self.reactor.signals_mut().guard_end(leaves_links);
        self.is_interrupted = matches!(ended, Ok(End::Signal(_)) | Err(_));
        if matches!(ended, Ok(End::Signal(_))) && leaves_links {
            observer.warns(
                "ending; a signal more than two seconds from now ends at once and leaves links behind, for tap-reactor clean",
            );
        }
        // What has happened since the poll was last asked.
        for event in hypervisor.fabric().link_events() {
            hypervisor.recorder().link_changed(clock.now(), event);
        }
        let drops = hypervisor.fabric().queue_drops();
        if let Ok(drops) = &drops {
            let frames = drops.iter().map(|(_, frames)| *frames);
            count_overflows(hypervisor.recorder(), frames);
        }
        let end = ended.as_ref().ok().copied();
        self.failed = ended.err().or(drops.err()).or(guarded.err());
        end
    }

    /// Tells whoever wants to know what the run is going to be.
    fn announce(&mut self, experiment: &Experiment, observer: &mut dyn Observer) {
        let watcher = observer.begins(MonotonicClock.now());
        let has_flows = self.hypervisor.has_flows();
        if self.is_whole && !has_flows {
            observer.serves(&serving(experiment));
        }
        for warning in self.hypervisor.fabric().warnings() {
            observer.warns(&warning.to_string());
        }
        if experiment.resolution.spared.is_some()
            && let Some(neighbours) = experiment::neighbours(experiment)
        {
            observer.warns(&neighbours);
        }
        if let Some(watcher) = watcher.filter(|_| has_flows) {
            self.reactor.watch(watcher);
        }
    }

    pub(super) fn report(&mut self, experiment: &Experiment, command: &str) -> Report {
        let since_start = MonotonicClock.now().nanos_since(self.start) / 1_000_000;
        let leased = leased_addresses(experiment, &self.hypervisor);
        let topology = self.topology;
        Report::new(
            self.hypervisor.recorder(),
            &Context {
                run: command,
                setup_ns: self.start.nanos_since(self.started),
                interrupted: self.is_interrupted,
                flows: &|index| flow_name(experiment, &leased, index),
                started_unix_ms: unix_millis().map(|now| now.saturating_sub(since_start)),
                fabric: Some(&FabricReport {
                    kind: experiment.lab.fabric.to_string(),
                    leaves: topology.map_or(0, |topology| topology.leaves()),
                    ports_per_bridge: topology.map(|topology| topology.ports_per_bridge()),
                    flows_across: 0,
                    neighbours: experiment.lab.neighbours.to_string(),
                    spared_deliveries: experiment.resolution.spared,
                    simulated: false,
                }),
                memory: memory(self.vm_bytes),
                phases: &phase_names(experiment),
                plan: Some(&plan_report(experiment)),
                machine: machine_report().as_ref(),
            },
        )
    }

    /// Takes the lab away, whatever went wrong before. Returns the first error.
    pub(super) fn take_away(&mut self, experiment: &Experiment) -> Result<(), LabError> {
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        let unhooked = match std::mem::take(&mut self.is_hooked) {
            true => hook(experiment, HookEvent::Down, self.reactor.signals()).map(drop),
            false => Ok(()),
        };
        let removed = self.hypervisor.fabric().remove_all();
        let released = self.reactor.signals_mut().release();
        if let Some(failed) = self.failed.take() {
            return Err(failed.into());
        }
        unhooked?;
        removed?;
        Ok(released?)
    }
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
