//! The steps of a lab: VMs and flows are created, the load runs, the report is made, and all is removed.

use std::borrow::Cow;

use super::build::{
    add_flow, count_drops, load, machine_report, memory, per_vm_bytes, phase_names, plan_report,
    recorder, set_flow_paths,
};
use super::control::{Control, Listeners};
use super::meeting::Meeting;
use super::names::{Leased, describe_vm, flow_name, serving, stream_names, waiting_to_forward};
use super::{Driver, LabError, Observer, completeness, instruments};
use crate::experiment::{self, Experiment, FlowPlan};
use crate::fabric::{Fabric, Notice, Place, Recording};
use crate::hypervisor::{Command, Hypervisor, RefusedMoves, RefusedStarts};
use crate::load::FlowId;
use crate::ranks::{Gate, Turns};
use crate::reactor::End;
use crate::report::{Builder, Context, Expectation, FabricReport, Report, StreamName};
use crate::system::{SharedWords, SystemError, allocated_bytes};
use crate::time::{Instant, unix_millis};
use crate::vm::{VmConfig, VmId};

/// VMs that are created between two looks at signals, which is some ten milliseconds.
const VMS_AT_ONCE: usize = 32;

/// A lab on a fabric `F`, driven by `D`; see [`TapLab`](super::TapLab) and [`SimulatedLab`](super::SimulatedLab).
#[derive(Debug)]
pub struct LabOn<'a, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    pub(super) plan: Cow<'a, Experiment>,
    pub(super) driver: D,
    pub(super) hypervisor: Hypervisor<F>,
    /// The beginning of its set-up.
    pub(super) started: Instant,
    /// The beginning of its load.
    pub(super) start: Instant,
    /// Memory that each VM takes.
    vm_bytes: Option<u64>,
    /// It has all VMs and flows: not if a signal came before.
    is_whole: bool,
    is_interrupted: bool,
    /// The reason of the run's end; `None` before, and if something went wrong.
    end: Option<End>,
    /// The addresses that VMs had leased when the run ended.
    leased: Option<Leased>,
    /// The files that the run was recorded in.
    recordings: Vec<Recording>,
    /// The sockets at which it listens, still without clients.
    listeners: Listeners,
    /// The clients of these sockets, if there are any.
    pub(super) control: Option<Control>,
    /// The meeting with other ranks, if there are any.
    pub(super) meeting: Option<Meeting>,
    /// What is amiss in other ranks, once the report was [gathered](LabOn::gather).
    pub(super) amiss_elsewhere: Vec<String>,
    /// The reason of the run's end, if that came before its begin.
    pub(super) ended_early: Option<End>,
    /// The first thing that went wrong.
    pub(super) failed: Option<SystemError>,
    is_there: bool,
}

impl<'a, F, D> LabOn<'a, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Creates a lab still without VMs, whose set-up has begun at `started`. Its clients connect to the listeners.
    pub(super) fn of(
        plan: Cow<'a, Experiment>,
        fabric: F,
        driver: D,
        (started, listeners): (Instant, Listeners),
    ) -> LabOn<'a, F, D> {
        LabOn {
            hypervisor: Hypervisor::new(fabric, recorder(&plan), plan.load_seed()),
            plan,
            driver,
            started,
            start: started,
            vm_bytes: None,
            is_whole: false,
            is_interrupted: false,
            end: None,
            leased: None,
            recordings: Vec::new(),
            listeners,
            control: None,
            meeting: None,
            amiss_elsewhere: Vec::new(),
            ended_early: None,
            failed: None,
            is_there: true,
        }
    }

    /// Creates the VMs of the plan, tells `observer` of each, runs the plan's hook, and adds the flows. A signal ends this
    /// early; [`LabOn::run`] then returns before anything is sent.
    ///
    /// # Errors
    /// If the system refuses an operation, or the plan exceeds a limit of the tool. The lab can only be closed then.
    pub fn populate(&mut self, observer: &mut dyn Observer) -> Result<(), LabError> {
        let before = allocated_bytes();
        let listeners = std::mem::take(&mut self.listeners);
        self.serve_at(listeners, observer)?;
        self.carry_out(Command::Impair(self.plan.impairments.clone()))?;
        self.add_instruments(observer)?;
        self.is_whole = self.create_vms(observer)?;
        if !self.is_whole {
            return Ok(());
        }
        let vms = self.plan.own_vms() - self.plan.pending_vms().len();
        self.vm_bytes = per_vm_bytes(before, vms);
        let delay = self.hypervisor.fabric().forwards_after();
        if !delay.is_zero() {
            observer.warns(&waiting_to_forward(&self.plan, delay));
        }
        let fabric = self.hypervisor.fabric().inner();
        self.driver.make_ready(&self.plan, fabric)?;
        if self.driver.is_to_stop()? {
            self.is_whole = false;
            return Ok(());
        }
        self.prepare_moves()?;
        let unix_nanos = self.driver.unix_nanos_at_zero();
        load(&self.plan, unix_nanos, &mut self.hypervisor)?;
        let topology = self.hypervisor.fabric().environment().topology;
        if let Some(topology) = topology.filter(|topology| topology.leaves() > 0) {
            let flows = (0..).map(FlowId).zip(self.plan.flows.iter().copied());
            set_flow_paths(flows, &topology, self.hypervisor.recorder());
        }
        if self.plan.is_one_way {
            self.measure_one_way()?;
        }
        self.hypervisor
            .attribute_losses(self.plan.attribute_loss, self.plan.timeout)
            .map_err(|error| not_told_of_drops(error.into()))?;
        let incoming = self.plan.part.iter().flat_map(|part| &part.incoming);
        let sources = incoming.filter_map(|flow| {
            let plan = self.plan.vms.get(flow.source.index())?;
            Some((plan.mac, flow.source))
        });
        self.hypervisor.ping_from_others(sources);
        Ok(())
    }

    /// Has both ways of pings measured apart, of those between ranks on this machine as well.
    fn measure_one_way(&mut self) -> Result<(), SystemError> {
        self.hypervisor.measure_one_way();
        let Some(part) = &self.plan.part else {
            return Ok(());
        };
        let Some(memory) = part.turns else {
            return Ok(());
        };
        let memory = Box::new(SharedWords::inherited(memory)?);
        let sources = part.incoming.iter().filter_map(|flow| {
            let plan = self.plan.vms.get(flow.source.index())?;
            Some((plan.mac, (flow.source, part.owners.of(flow.source))))
        });
        if let Some(turns) = Turns::new(memory, part.rank) {
            self.hypervisor
                .measure_one_way_between_ranks(turns, sources);
        }
        Ok(())
    }

    /// Makes ready what the moves of the plan need, so that one that can't be is told before the first ping.
    fn prepare_moves(&mut self) -> Result<(), LabError> {
        let moves = self.plan.phases.iter().flat_map(|phase| &phase.moves);
        for planned in moves.filter(|planned| planned.relocation.to != Place::Back) {
            let prepared = self
                .hypervisor
                .prepare_move(planned.vm, &planned.relocation.to);
            prepared.map_err(LabError::of_command)?;
        }
        Ok(())
    }

    /// Switches the instruments of the plan on.
    fn add_instruments(&mut self, observer: &mut dyn Observer) -> Result<(), SystemError> {
        let pipes = self.driver.pipes()?;
        let signals = self.driver.signals();
        let pipes = pipes.as_ref();
        let made = instruments::make(&self.plan, pipes, signals, self.started, observer)?;
        for instrument in made {
            self.hypervisor.fabric().add(instrument);
        }
        Ok(())
    }

    /// Creates the VMs that exist from the beginning, and announces the others to the hypervisor. Returns false if a signal
    /// came before all were created.
    fn create_vms(&mut self, observer: &mut dyn Observer) -> Result<bool, SystemError> {
        let pending_vms = self.plan.pending_vms();
        let all = 0..self.plan.vms.len();
        let all = all.filter(|index| self.plan.is_own(VmId(*index as u32)));
        let all: Vec<usize> = all.collect();
        for some in all.chunks(VMS_AT_ONCE) {
            let is_pending = |index: &usize| pending_vms.contains(&VmId(*index as u32));
            let (pending, present): (Vec<usize>, Vec<usize>) =
                some.iter().partition(|index| is_pending(index));
            pending.into_iter().for_each(|index| self.expect_vm(index));
            self.create_some(&present)?;
            let now = self.driver.now();
            for index in present {
                let vm = VmId(index as u32);
                let Some(of_vm) = self.plan.vms.get(index) else {
                    continue;
                };
                if self.hypervisor.fabric().is_watched() {
                    let how = describe_vm(&self.plan, vm, of_vm);
                    let notice = Notice::Started(vm, &how);
                    self.hypervisor.fabric().tell(now, &notice);
                }
                observer.made(now, vm, of_vm);
            }
            if self.driver.is_to_stop()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates VMs of the plan. They start when their ports are expected to carry what they send.
    fn create_some(&mut self, indices: &[usize]) -> Result<(), SystemError> {
        let start = self.driver.now() + self.hypervisor.fabric().forwards_after();
        let configs = indices.iter().filter_map(|index| {
            let config = self.vm_config(*index)?;
            Some((VmId(*index as u32), config))
        });
        let configs: Vec<_> = configs.collect();
        self.hypervisor.create_vms(start, configs)?;
        for index in indices {
            let report = start + self.plan.report_delay(*index);
            let vm = VmId(*index as u32);
            for group in self.plan.groups_of(vm) {
                self.hypervisor.join_group(report, vm, group);
            }
        }
        Ok(())
    }

    /// Announces a VM of the plan that starts later to the hypervisor.
    pub(super) fn expect_vm(&mut self, index: usize) {
        let vm = VmId(index as u32);
        if let Some(config) = self.vm_config(index) {
            self.hypervisor.expect_vm(vm, config);
        }
        for group in self.plan.groups_of(vm) {
            self.hypervisor.join_group(self.driver.now(), vm, group);
        }
    }

    /// Returns the configuration of a VM of the plan that starts about now.
    fn vm_config(&self, index: usize) -> Option<VmConfig> {
        Some(VmConfig {
            unix_nanos: self.driver.unix_nanos_at_zero(),
            ..self.plan.vm_config(index)?
        })
    }

    /// Returns the plan, flows that were added later included.
    pub fn plan(&self) -> &Experiment {
        &self.plan
    }

    /// Returns the owner of VMs, flows, fabric and recorder.
    pub fn hypervisor(&mut self) -> &mut Hypervisor<F> {
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

    /// Runs until the phases that were begun are over, a signal comes or the run is stopped by a command; until `until` at the
    /// latest. Without flows it runs until then or a signal. A program gives commands between two calls.
    ///
    /// # Errors
    /// If the system refuses an operation, or a VM can't start or stop.
    pub fn drive(&mut self, until: Option<Instant>) -> Result<End, LabError> {
        let end = self.run_and_serve(until)?;
        self.end = Some(end);
        Ok(end)
    }

    /// Runs the load of the plan; see [`Lab::run`](super::Lab::run).
    pub fn run(&mut self, observer: &mut dyn Observer) {
        self.begin(observer);
        let until = self.plan.serve.map(|time| self.start + time);
        let mut ended = match (self.failed.take(), self.ended_early.take()) {
            (Some(error), _) => Err(error),
            (None, Some(end)) => Ok(end),
            (None, None) => self.run_and_serve(until),
        };
        self.tell_end(&ended);
        if self.plan.is_simulated && self.plan.stays && matches!(ended, Ok(End::Done)) {
            ended = self.serve_after_run().map(|()| End::Done);
        }
        match ended {
            Ok(end) => self.end = Some(end),
            Err(error) => {
                // What was on its way has no end any more.
                self.hypervisor.stop(self.driver.now());
                self.hypervisor.give_up(self.driver.now());
                (self.end, self.failed) = (None, Some(error));
            }
        }
        self.finish(observer);
    }

    /// Begins the phases of the plan; see [`Lab::begin`](super::Lab::begin).
    pub fn begin(&mut self, observer: &mut dyn Observer) {
        self.announce(observer);
        let hypervisor = &mut self.hypervisor;
        // Only now, so that what the set-up itself does to the links is not told.
        let has_links = hypervisor.fabric().watch_links();
        hypervisor.mark_on(self.plan.mark_on);
        // Those of the set-up, too.
        for warning in hypervisor.fabric().warnings() {
            observer.warns(&warning.to_string());
        }
        if self.is_whole && self.meeting.is_some() {
            if !self.plan.phases.is_empty() {
                self.hypervisor.stop_at_gates();
            }
            self.failed = self.pass(Gate::Labs).err();
        }
        let hypervisor = &mut self.hypervisor;
        self.start = self.driver.now();
        if has_links {
            hypervisor.recorder().watch_links(self.start);
        }
        // A lab without flows may get some from clients, and does not end with them. A simulation ends with its events.
        let waits_for_clients = !self.plan.listen.control.is_empty() && !self.plan.has_load();
        if (self.plan.stays || waits_for_clients) && !self.plan.is_simulated {
            hypervisor.stay();
        }
        hypervisor.start(self.start, self.plan.phases.clone());
        self.tell_offenders_elsewhere();
    }

    /// Completes the records of a run that has ended; see [`Lab::finish`](super::Lab::finish).
    pub fn finish(&mut self, observer: &mut dyn Observer) {
        self.driver.end_watch();
        if let Some(meeting) = &mut self.meeting {
            meeting.tell(observer);
        }
        let hypervisor = &mut self.hypervisor;
        hypervisor.end();
        let leaves_links = hypervisor.fabric().outlives_process();
        let guarded = self.driver.signals().guard_end(leaves_links);
        self.is_interrupted = match self.end {
            Some(End::Done | End::Called) => false,
            // One that stays has no other end.
            Some(End::Signal(_) | End::Stopped) => !self.plan.stays || !hypervisor.was_complete(),
            None => true,
        };
        if matches!(self.end, Some(End::Signal(_))) && leaves_links {
            observer.warns(
                "ending; a signal more than two seconds from now ends at once and leaves links behind, for tap-reactor clean",
            );
        }
        // What has happened since the driver last looked.
        hypervisor.end_moves(true);
        hypervisor.look_at_links(self.driver.now());
        hypervisor.look_at_moves(self.driver.now());
        let counted = count_drops(hypervisor).map_err(SystemError::from);
        hypervisor.explain_rest(self.driver.now());
        // What a VM sends when it stops belongs to the run, and the addresses that it gives back to the report.
        self.leased = Some(Leased::of(&self.plan, hypervisor));
        hypervisor.leave(self.driver.now());
        self.recordings = hypervisor.fabric().finish(self.driver.now());
        let failed = self.failed.take();
        self.failed = failed.or(counted.err()).or(guarded.err());
    }

    /// Tells the observer of the run that is about to begin.
    fn announce(&mut self, observer: &mut dyn Observer) {
        let watchers = observer.begins(self.driver.now());
        let has_flows = self.hypervisor.has_flows();
        if self.is_whole && !has_flows {
            observer.serves(&serving(&self.plan));
        }
        if self.plan.resolution.spared.is_some()
            && let Some(neighbours) = experiment::neighbours(&self.plan)
        {
            observer.warns(&neighbours);
        }
        for watcher in watchers.into_iter().filter(|_| has_flows) {
            self.driver.watch(watcher);
        }
    }

    /// Returns the report of what was measured so far; see [`Lab::report`](super::Lab::report).
    pub fn report(&mut self, command: &str) -> Report {
        let mut builder = Builder::default();
        loop {
            if let Some(report) = self.report_slice(&mut builder, command) {
                return report;
            }
        }
    }

    /// The names of the streams, by their numbers.
    pub(super) fn stream_names(&self) -> Vec<StreamName> {
        let leased_now = || Leased::of(&self.plan, &self.hypervisor);
        let leased = self.leased.clone().unwrap_or_else(leased_now);
        stream_names(&self.plan, &leased)
    }

    /// Makes a slice of the report of what was measured so far. Returns the report once it is complete: its counts are those
    /// of one instant. The run may go on between two calls.
    pub fn report_slice(&mut self, builder: &mut Builder, command: &str) -> Option<Report> {
        let plan = &*self.plan;
        let leased_now = || Leased::of(plan, &self.hypervisor);
        let leased = self.leased.clone().unwrap_or_else(leased_now);
        let name = |index| flow_name(plan, &leased, index);
        if builder.is_counted() {
            return builder.complete(&name);
        }
        if !builder.prepare(self.hypervisor.recorder(), &name) {
            return None;
        }
        let since_start = self.driver.now().nanos_since(self.start) / 1_000_000;
        self.hypervisor.look_at_moves(self.driver.now());
        let impairments = self.hypervisor.fabric().impairments();
        let mut misbehaviours = self.hypervisor.fabric().misbehaviours();
        misbehaviours.extend_from_slice(self.hypervisor.misbehaviours_elsewhere());
        let floods = self.hypervisor.fabric().floods();
        let path_split = self.hypervisor.fabric().path_split();
        let environment = self.hypervisor.fabric().environment();
        let topology = environment.topology;
        // Of a simulation neither wall clock nor machine nor memory: the same command makes the same document each time.
        let is_real = !environment.is_simulated;
        let started = unix_millis().map(|now| now.saturating_sub(since_start));
        builder.count(
            self.hypervisor.recorder(),
            &Context {
                run: command,
                setup_ns: self.start.nanos_since(self.started),
                began: self.start,
                interrupted: self.is_interrupted,
                started_unix_ms: started.filter(|_| is_real),
                fabric: Some(&FabricReport {
                    kind: environment.kind,
                    leaves: topology.map_or(0, |topology| topology.leaves()),
                    ports_per_bridge: topology.map(|topology| topology.ports_per_bridge()),
                    flows_across: 0,
                    neighbours: plan.lab.neighbours.to_string(),
                    spared_deliveries: plan.resolution.spared.filter(|_| is_real),
                    simulated: environment.is_simulated,
                }),
                impairments: &impairments,
                misbehaviours: &misbehaviours,
                floods: floods.as_ref(),
                path_split: path_split.as_ref(),
                streams: &stream_names(plan, &leased),
                memory: memory(self.vm_bytes).filter(|_| is_real),
                phases: &phase_names(plan),
                plan: Some(&plan_report(plan)),
                machine: is_real.then(machine_report).flatten().as_ref(),
                recordings: &self.recordings,
                flows: &name,
            },
        );
        None
    }

    /// Judges the report of the run; see [`Lab::judge`](super::Lab::judge).
    pub fn judge(&self, report: &mut Report, expectations: &[Expectation]) -> bool {
        report.expect(expectations);
        let end = self.end.filter(|_| self.is_interrupted);
        let amiss = completeness::shortcomings(&self.plan, report, end, expectations);
        let elsewhere = self.amiss_elsewhere.iter().cloned();
        let failed = self.failed.iter();
        let failed = failed.map(|error| format!("the run has failed: {error}"));
        let all = elsewhere.chain(self.refusals()).chain(amiss).chain(failed);
        report.shortcomings = Some(all.collect());
        report.why_failed().is_empty()
    }

    /// Returns what VMs could not do, one sentence each.
    pub(super) fn refusals(&self) -> Vec<String> {
        let refused = self.hypervisor.refused_starts();
        let refused = refused.map(|RefusedStarts { first, why, count }| match count {
            1 => format!("{first} could not start: {why}"),
            _ => format!("{count} VMs could not start, {first} first: {why}"),
        });
        let unmoved = self.hypervisor.refused_moves();
        let unmoved = unmoved.map(|RefusedMoves { first, why, count }| match count {
            1 => format!("{first} could not move: {why}"),
            _ => format!("{count} moves could not be made, that of {first} first: {why}"),
        });
        refused.into_iter().chain(unmoved).collect()
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
        self.stop_listening();
        let left = self.driver.leave(&self.plan);
        self.hypervisor.leave(self.driver.now());
        // Of a program that drives it by itself.
        self.hypervisor.fabric().finish(self.driver.now());
        let removed = self.hypervisor.fabric().close();
        let released = self.driver.signals().release();
        if let Some(failed) = self.failed.take() {
            return Err(failed.into());
        }
        left?;
        removed.map_err(SystemError::from)?;
        Ok(released?)
    }
}

impl<F, D> Drop for LabOn<'_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    fn drop(&mut self) {
        // Errors are returned by close alone.
        let _ = self.take_away();
    }
}

/// The kernel is to tell of the frames that it drops, and does not.
pub(super) fn not_told_of_drops(error: SystemError) -> SystemError {
    let needed = error
        .advice()
        .map_or_else(String::new, |advice| format!("{advice}, or "));
    error.asked_for_by("--attribute-loss on").advise(format!(
        "{needed}--attribute-loss auto, which goes by counters without it"
    ))
}
