//! The same lab in virtual time, on a fabric in memory: no TAP, no privilege, no waiting.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::build::{
    add_flow, add_instruments, count_drops, create_vms, load, phase_names, plan_report, recorder,
};
use super::names::flow_name;
use super::{LabError, Observer, completeness};
use crate::experiment::{Experiment, FlowPlan, VmPlan};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::load::FlowId;
use crate::reactor::{End, LAST_WAIT};
use crate::report::{Context, Expectation, FabricReport, Report};
use crate::sim::{self, Switch};
use crate::system::{StopSignals, SystemError};
use crate::time::Instant;
use crate::vm::VmId;

/// The virtual time after which a simulation without pings and without an end is ended.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// VMs on a fabric in memory, in virtual time, with the single steps of [`Lab`](super::Lab).
///
/// Any [`Fabric`] will do whose operations can't fail and which reports its [arrivals](Fabric::next_at);
/// `scripts/examples/custom-fabric.rs` brings one.
///
/// ```
/// use tap_reactor::experiment::{Experiment, FlowPlan};
/// use tap_reactor::hypervisor::Phase;
/// use tap_reactor::lab::SimulatedLab;
/// use tap_reactor::load::Pacing;
/// use tap_reactor::sim::{Impairments, Switch};
/// use tap_reactor::vm::VmId;
///
/// let mut plan = Experiment::of_vms(2)?;
/// plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
/// plan.phases = vec![Phase::counted(0..1, Pacing::Window(1), 100)];
/// let switch = Switch::new(Impairments::default(), plan.seed);
/// let mut lab = SimulatedLab::new("switch", switch, plan)?;
/// lab.populate(&mut ())?;
/// lab.run();
/// assert_eq!(lab.hypervisor().recorder().totals().received, 100);
/// lab.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Signals and dropping: see [`Lab`](super::Lab).
#[derive(Debug)]
pub struct SimulatedLab<'a, F: Fabric<Error = Infallible> = Switch> {
    plan: Cow<'a, Experiment>,
    /// The fabric's name in a report.
    kind: String,
    hypervisor: Hypervisor<F>,
    signals: StopSignals,
    /// The signal that ended it, or is to.
    signal: Option<Signal>,
    /// The reason of the run's end; `None` before.
    end: Option<End>,
    /// The first thing that went wrong.
    failed: Option<SystemError>,
}

impl<'a> SimulatedLab<'a> {
    /// Creates a lab on the switch of `--fabric sim`, with the plan's impairments.
    ///
    /// # Errors
    /// As [`SimulatedLab::new`].
    pub fn on_switch(plan: impl Into<Cow<'a, Experiment>>) -> Result<SimulatedLab<'a>, LabError> {
        let plan = plan.into();
        let simulation = plan.simulation.unwrap_or_default();
        let switch = simulation.switch(plan.seed, plan.lab.filter);
        SimulatedLab::new("sim", switch, plan)
    }
}

impl<'a, F: Fabric<Error = Infallible>> SimulatedLab<'a, F> {
    /// Creates a lab on `fabric`, still without VMs, and begins to handle signals. Reports call the fabric `kind`.
    ///
    /// # Errors
    /// If the kernel has no descriptor left for the signals.
    pub fn new(
        kind: &str,
        fabric: F,
        plan: impl Into<Cow<'a, Experiment>>,
    ) -> Result<SimulatedLab<'a, F>, LabError> {
        let plan = plan.into();
        Ok(SimulatedLab {
            kind: kind.to_owned(),
            hypervisor: Hypervisor::new(fabric, recorder(&plan), plan.seed),
            plan,
            signals: StopSignals::new()?,
            signal: None,
            end: None,
            failed: None,
        })
    }

    /// Creates the VMs of the plan at [`Instant::ZERO`], tells `observer` of each, and adds the flows. A signal ends this
    /// early; [`SimulatedLab::run`] then returns before anything is sent.
    ///
    /// # Errors
    /// If the plan exceeds a limit of the tool.
    pub fn populate(&mut self, observer: &mut dyn Observer) -> Result<(), LabError> {
        add_instruments(&mut self.hypervisor, Instant::ZERO, observer);
        // It is midnight where time is virtual.
        let midnight = 0;
        let now = || Instant::ZERO;
        let (signal, signals) = (&mut self.signal, &self.signals);
        let made = |vm: VmId, of_vm: &VmPlan| {
            observer.made(Instant::ZERO, vm, of_vm);
            Ok(is_to_stop(signal, signals))
        };
        let Ok(is_whole) = create_vms(&self.plan, &mut self.hypervisor, midnight, now, made);
        if is_whole {
            load(&self.plan, &mut self.hypervisor)?;
        }
        Ok(())
    }

    /// Returns the plan, flows that were added later included.
    pub fn plan(&self) -> &Experiment {
        &self.plan
    }

    /// Returns the owner of VMs, flows, fabric and recorder. [`sim::run`] drives it.
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

    /// Runs the load of the plan; see [`Lab::run`](super::Lab::run).
    pub fn run(&mut self) {
        let hypervisor = &mut self.hypervisor;
        hypervisor.start(Instant::ZERO, self.plan.phases.clone());
        let until = match hypervisor.has_flows() {
            // It ends where its plan does.
            true => Instant::from_nanos(u64::MAX),
            false => Instant::ZERO + self.plan.serve.unwrap_or(LONGEST),
        };
        let (signal, signals) = (&mut self.signal, &self.signals);
        let asks = || is_to_stop(signal, signals);
        let (now, _) = sim::run_unless(hypervisor, Instant::ZERO, until, asks);
        if self.signal.is_some() {
            hypervisor.stop(now);
            let ended = sim::run(hypervisor, now, now + LAST_WAIT);
            hypervisor.give_up(ended);
        }
        hypervisor.end();
        self.failed = self.signals.guard_end(false).err();
        let Ok(()) = count_drops(hypervisor);
        self.end = Some(self.signal.map_or(End::Done, End::Signal));
    }

    /// Returns the report of what was measured so far; see [`Lab::report`](super::Lab::report).
    pub fn report(&mut self, command: &str) -> Report {
        let plan = &*self.plan;
        Report::new(
            self.hypervisor.recorder(),
            &Context {
                run: command,
                phases: &phase_names(plan),
                plan: Some(&plan_report(plan)),
                interrupted: self.signal.is_some(),
                flows: &|index| flow_name(plan, &[], index),
                fabric: Some(&FabricReport {
                    kind: self.kind.clone(),
                    leaves: 0,
                    ports_per_bridge: None,
                    flows_across: 0,
                    neighbours: plan.lab.neighbours.to_string(),
                    spared_deliveries: None,
                    simulated: true,
                }),
                // Neither wall clock nor machine nor memory: the same command makes the same document each time.
                ..Context::default()
            },
        )
    }

    /// Returns why the run is incomplete; see [`Lab::shortcomings`](super::Lab::shortcomings).
    pub fn shortcomings(&self, report: &Report, expectations: &[Expectation]) -> Vec<String> {
        completeness::shortcomings(&self.plan, report, self.end, expectations)
    }

    /// Closes the lab, and restores the process's own handling of signals.
    ///
    /// # Errors
    /// The first error of the run, or of closing.
    pub fn close(mut self) -> Result<(), LabError> {
        let released = self.signals.release();
        if let Some(failed) = self.failed.take() {
            return Err(failed.into());
        }
        Ok(released?)
    }
}

/// Returns true if a signal asks for the end. Remembers it in `seen`.
fn is_to_stop(seen: &mut Option<Signal>, signals: &StopSignals) -> bool {
    *seen = seen.or_else(|| signals.take().ok().flatten());
    seen.is_some()
}
