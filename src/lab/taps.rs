//! The lab in real time: TAPs, a fabric of the kernel, and the reactor.

use std::borrow::Cow;

use super::build::{
    add_flow, add_instruments, count_drops, create_vms, load, machine_report, memory, per_vm_bytes,
    phase_names, plan_report, recorder, set_flow_paths, time_of_day_at_zero,
};
use super::names::{flow_name, leased_addresses, serving, waiting_to_forward};
use super::{LabError, Observer, completeness};
use crate::experiment::{self, Experiment, FlowPlan, VmPlan};
use crate::hypervisor::Hypervisor;
use crate::load::FlowId;
use crate::reactor::{End, Reactor};
use crate::report::{Context, Expectation, FabricReport, Report};
use crate::system::{
    self, HookEnd, HookEvent, StopSignals, SystemError, TapFabric, resident_bytes,
};
use crate::time::{Clock, Instant, MonotonicClock, unix_millis};
use crate::topology::Topology;
use crate::vm::VmId;

/// File descriptors of a run beside one for each TAP: standard streams, poll, timer, signals, netlink, namespaces.
const OTHER_DESCRIPTORS: u64 = 16;

/// VMs on TAPs, in real time, with the single steps of [`Lab`](super::Lab).
///
/// [`TapLab::new`] creates the fabric, [`TapLab::populate`] VMs and flows. Then either [`TapLab::run`] runs the whole plan,
/// or a program starts phases of its own and [drives](TapLab::drive) them, any number of times:
///
/// ```no_run
/// # // Needs root.
/// use tap_reactor::experiment::{Experiment, FlowPlan};
/// use tap_reactor::hypervisor::Phase;
/// use tap_reactor::lab::TapLab;
/// use tap_reactor::load::Pacing;
/// use tap_reactor::time::{Clock, MonotonicClock};
/// use tap_reactor::vm::VmId;
///
/// let mut plan = Experiment::of_vms(2)?;
/// plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
/// let mut lab = TapLab::new(plan)?;
/// lab.populate(&mut ())?;
/// for window in [1, 64] {
///     let phase = Phase::counted(0..1, Pacing::Window(window), 10_000);
///     let start = MonotonicClock.now();
///     lab.hypervisor().start(start, vec![phase]);
///     lab.drive(None)?;
///     println!("window {window}: {:?}", MonotonicClock.now() - start);
/// }
/// lab.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Signals and dropping: see [`Lab`](super::Lab).
#[derive(Debug)]
pub struct TapLab<'a> {
    plan: Cow<'a, Experiment>,
    reactor: Reactor,
    hypervisor: Hypervisor<TapFabric>,
    topology: Option<Topology>,
    /// The beginning of its set-up.
    started: Instant,
    /// The beginning of its load.
    start: Instant,
    /// Memory that each VM takes.
    vm_bytes: Option<u64>,
    /// It has all VMs and flows: not if a signal came before.
    is_whole: bool,
    /// The hook was told that the lab is up, so that it is to be told that it goes.
    is_hooked: bool,
    is_interrupted: bool,
    /// The reason of the run's end; `None` before, and if something went wrong.
    end: Option<End>,
    /// The first thing that went wrong.
    failed: Option<SystemError>,
    is_there: bool,
}

impl<'a> TapLab<'a> {
    /// Creates the fabric of `plan`, still without VMs, and begins to handle signals.
    ///
    /// # Errors
    /// If the system refuses an operation. Nothing is left behind then.
    pub fn new(plan: impl Into<Cow<'a, Experiment>>) -> Result<TapLab<'a>, LabError> {
        let plan = plan.into();
        let started = MonotonicClock.now();
        system::raise_descriptor_limit()?;
        system::ensure_descriptors(plan.vms.len() as u64 + OTHER_DESCRIPTORS)?;
        let mut reactor = Reactor::new(StopSignals::new()?)?;
        reactor.spin(plan.spin);
        if let Some(frames) = plan.lab.tx_queue_length {
            reactor.queues_hold(frames);
        }
        let fabric = TapFabric::new(reactor.registry()?, plan.lab.clone())?;
        let topology = fabric.topology();
        Ok(TapLab {
            hypervisor: Hypervisor::new(fabric, recorder(&plan), plan.seed),
            plan,
            reactor,
            topology,
            started,
            start: started,
            vm_bytes: None,
            is_whole: false,
            is_hooked: false,
            is_interrupted: false,
            end: None,
            failed: None,
            is_there: true,
        })
    }

    /// Creates the VMs of the plan, tells `observer` of each, runs the plan's hook, and adds the flows. A signal ends this
    /// early; [`TapLab::run`] then returns before anything is sent.
    ///
    /// # Errors
    /// If the system refuses an operation, or the plan exceeds a limit of the tool. The lab can only be closed then.
    pub fn populate(&mut self, observer: &mut dyn Observer) -> Result<(), LabError> {
        let TapLab {
            plan,
            hypervisor,
            reactor,
            ..
        } = self;
        let clock = MonotonicClock;
        let before = resident_bytes();
        add_instruments(hypervisor, self.started, observer);
        let on_start = |vm: VmId, of_vm: &VmPlan| {
            observer.made(clock.now(), vm, of_vm);
            reactor.is_to_stop()
        };
        let time_of_day = time_of_day_at_zero(clock.now());
        // A VM starts when its port is expected to carry what it sends.
        let delay = hypervisor.fabric().inner().time_to_forward();
        let now = || clock.now() + delay;
        self.is_whole = create_vms(plan, hypervisor, time_of_day, now, on_start)?;
        if !self.is_whole {
            return Ok(());
        }
        let vms = plan.vms.len() - plan.newcomers().len();
        self.vm_bytes = per_vm_bytes(before, vms);
        if !delay.is_zero() {
            observer.warns(&waiting_to_forward(plan, delay));
        }
        let mut stopped_by = hypervisor
            .fabric()
            .inner()
            .wait_until_forwarding(reactor.signals())?;
        if stopped_by.is_none() {
            stopped_by = match hook(plan, HookEvent::Up, reactor.signals())? {
                HookEnd::Interrupted(signal) => Some(signal),
                HookEnd::Done => None,
            };
            self.is_hooked = true;
        }
        if let Some(signal) = stopped_by {
            reactor.stop(signal);
            self.is_whole = false;
            return Ok(());
        }
        load(plan, hypervisor)?;
        if let Some(topology) = self.topology.filter(|topology| topology.leaves() > 0) {
            set_flow_paths(plan, &topology, hypervisor.recorder());
        }
        Ok(())
    }

    /// Returns the plan, flows that were added later included.
    pub fn plan(&self) -> &Experiment {
        &self.plan
    }

    /// Returns the owner of VMs, flows, fabric and recorder.
    pub fn hypervisor(&mut self) -> &mut Hypervisor<TapFabric> {
        &mut self.hypervisor
    }

    /// Adds a flow to the lab and to its plan.
    ///
    /// # Errors
    /// If its source does not exist or has too many flows, or its target has no such address.
    pub fn add_flow(&mut self, flow: FlowPlan) -> Result<FlowId, LabError> {
        let id = add_flow(&self.plan, &flow, &mut self.hypervisor)?;
        self.plan.to_mut().flows.push(flow);
        Ok(id)
    }

    /// Runs the reactor until the phases that were [started](Hypervisor::start) are over or a signal comes. Without flows it
    /// runs until `until` or a signal.
    ///
    /// # Errors
    /// If the poll or the timer fails, or a VM can't start or stop.
    pub fn drive(&mut self, until: Option<Instant>) -> Result<End, LabError> {
        Ok(self.reactor.run(&mut self.hypervisor, until)?)
    }

    /// Runs the load of the plan; see [`Lab::run`](super::Lab::run).
    pub fn run(&mut self, observer: &mut dyn Observer) {
        let clock = MonotonicClock;
        self.announce(observer);
        let hypervisor = &mut self.hypervisor;
        // Only now, so that what the set-up itself does to the links is not told.
        hypervisor.fabric().inner().watch_links();
        self.start = clock.now();
        hypervisor.recorder().watch_links(self.start);
        hypervisor.start(self.start, self.plan.phases.clone());
        let until = self.plan.serve.map(|time| self.start + time);
        let ended = self.reactor.run(hypervisor, until);
        self.reactor.end_watch();
        if ended.is_err() {
            // What was on its way has no end any more.
            hypervisor.stop(clock.now());
            hypervisor.give_up(clock.now());
        }
        hypervisor.end();
        let leaves_links = hypervisor.fabric().inner().leaves_links_if_killed();
        let guarded = self.reactor.signals_mut().guard_end(leaves_links);
        self.is_interrupted = matches!(ended, Ok(End::Signal(_)) | Err(_));
        if matches!(ended, Ok(End::Signal(_))) && leaves_links {
            observer.warns(
                "ending; a signal more than two seconds from now ends at once and leaves links behind, for tap-reactor clean",
            );
        }
        // What has happened since the poll was last asked.
        hypervisor.look_at_links(clock.now());
        let counted = count_drops(hypervisor);
        self.end = ended.as_ref().ok().copied();
        self.failed = ended.err().or(counted.err()).or(guarded.err());
    }

    /// Tells the observer of the run that is about to begin.
    fn announce(&mut self, observer: &mut dyn Observer) {
        let watcher = observer.begins(MonotonicClock.now());
        let has_flows = self.hypervisor.has_flows();
        if self.is_whole && !has_flows {
            observer.serves(&serving(&self.plan));
        }
        for warning in self.hypervisor.fabric().inner().warnings() {
            observer.warns(&warning.to_string());
        }
        if self.plan.resolution.spared.is_some()
            && let Some(neighbours) = experiment::neighbours(&self.plan)
        {
            observer.warns(&neighbours);
        }
        if let Some(watcher) = watcher.filter(|_| has_flows) {
            self.reactor.watch(watcher);
        }
    }

    /// Returns the report of what was measured so far; see [`Lab::report`](super::Lab::report).
    pub fn report(&mut self, command: &str) -> Report {
        let since_start = MonotonicClock.now().nanos_since(self.start) / 1_000_000;
        let plan = &*self.plan;
        let leased = leased_addresses(plan, &self.hypervisor);
        let topology = self.topology;
        Report::new(
            self.hypervisor.recorder(),
            &Context {
                run: command,
                setup_ns: self.start.nanos_since(self.started),
                interrupted: self.is_interrupted,
                flows: &|index| flow_name(plan, &leased, index),
                started_unix_ms: unix_millis().map(|now| now.saturating_sub(since_start)),
                fabric: Some(&FabricReport {
                    kind: plan.lab.fabric.to_string(),
                    leaves: topology.map_or(0, |topology| topology.leaves()),
                    ports_per_bridge: topology.map(|topology| topology.ports_per_bridge()),
                    flows_across: 0,
                    neighbours: plan.lab.neighbours.to_string(),
                    spared_deliveries: plan.resolution.spared,
                    simulated: false,
                }),
                memory: memory(self.vm_bytes),
                phases: &phase_names(plan),
                plan: Some(&plan_report(plan)),
                machine: machine_report().as_ref(),
            },
        )
    }

    /// Returns why the run is incomplete; see [`Lab::shortcomings`](super::Lab::shortcomings).
    pub fn shortcomings(&self, report: &Report, expectations: &[Expectation]) -> Vec<String> {
        completeness::shortcomings(&self.plan, report, self.end, expectations)
    }

    /// Removes the lab.
    ///
    /// # Errors
    /// The first error of the run, or of the removal.
    pub fn close(mut self) -> Result<(), LabError> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), LabError> {
        if !std::mem::take(&mut self.is_there) {
            return Ok(());
        }
        let unhooked = match std::mem::take(&mut self.is_hooked) {
            true => hook(&self.plan, HookEvent::Down, self.reactor.signals()).map(drop),
            false => Ok(()),
        };
        let removed = self.hypervisor.fabric().inner().remove_all();
        let released = self.reactor.signals_mut().release();
        if let Some(failed) = self.failed.take() {
            return Err(failed.into());
        }
        unhooked?;
        removed?;
        Ok(released?)
    }
}

impl Drop for TapLab<'_> {
    fn drop(&mut self) {
        // Errors are returned by close alone.
        let _ = self.take_away();
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
