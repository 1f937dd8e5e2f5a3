//! Labs: builds a plan's VMs and fabric, runs its load, and reports on it, in an order that loses no measurement.
//!
//! [`Lab`] is what a program that uses this crate calls:
//!
//! ```
//! use tap_reactor::experiment::{self, Scenario};
//! use tap_reactor::lab::Lab;
//!
//! let scenario = Scenario::parse("two.toml", "fabric = 'sim'\nping = 'vm0:vm1'\ncount = 100")?;
//! let plan = experiment::plan(&scenario)?;
//! let mut lab = Lab::build(&plan, &mut ())?;
//! lab.run(&mut ());
//! assert_eq!(lab.report("two VMs").totals.received, 100);
//! lab.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program can change a lab while it runs, by the [commands](crate::hypervisor::Command) that its phases give, too:
//!
//! ```
//! use std::time::Duration;
//!
//! use tap_reactor::experiment::{Experiment, Scenario};
//! use tap_reactor::hypervisor::Command;
//! use tap_reactor::lab::Lab;
//! use tap_reactor::load::Pace;
//! use tap_reactor::reactor::End;
//!
//! let scenario = Scenario::parse("ten.toml", "fabric = 'sim'\nvms = 10")?;
//! let plan = tap_reactor::experiment::plan(&scenario)?;
//! let mut lab = Lab::build(&plan, &mut ())?;
//! lab.begin(&mut ());
//! let flows = lab.flows_of("vm0:vm[1-9]", None)?;
//! lab.carry_out(Command::StartFlows(flows, None))?;
//! lab.drive(Some(lab.now() + Duration::from_secs(5)))?;
//!
//! let added = lab.expect_vms(90)?;
//! lab.carry_out(Command::StartVms(added))?;
//! let flows = lab.flows_of("vm[10-99]:vm0", None)?;
//! let pace = Pace { pacing: Experiment::pacing_of("interval", "100ms")?, count: None };
//! lab.carry_out(Command::StartFlows(flows, Some(pace)))?;
//! lab.carry_out(Command::SetPacing(Experiment::pacing_of("rate", "1000")?))?;
//! let rules = lab.rules_of(&["vm7:loss=10%"])?;
//! lab.carry_out(Command::Impair(rules))?;
//! lab.drive(Some(lab.now() + Duration::from_secs(5)))?;
//! let so_far = lab.report("so far");
//! assert!(so_far.totals.received > 5_000);
//!
//! let gone = lab.vms_named("vm[90-99]")?;
//! lab.carry_out(Command::StopVms(gone))?;
//! lab.carry_out(Command::Stop)?;
//! assert_eq!(lab.drive(None)?, End::Stopped);
//! lab.finish(&mut ());
//! assert_eq!(lab.report("the whole of it").flows.len(), 99);
//! lab.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A plan comes from a [scenario](crate::experiment::Scenario), or from [code](Experiment::of_vms). Below [`Lab`] are
//! [`TapLab`], for a program that begins phases of its own or measures between the steps, and [`SimulatedLab`], for one
//! that brings its own [fabric](crate::fabric::Fabric).
//!
//! See also: [`crate::report`] for what comes of a run, [`crate::hypervisor`] for what a lab is made of.

mod build;
mod completeness;
mod control;
mod driver;
mod error;
mod instruments;
mod meeting;
mod names;
mod real_time;
mod steering;
mod steps;
mod virtual_time;

use std::borrow::Cow;

use crate::experiment::{Experiment, VmPlan};
use crate::fabric::{Instrument, Rule};
use crate::hypervisor::{Command, FlowConfig, Outcome, Relocation};
use crate::reactor::{End, Watcher};
use crate::report::{Expectation, Report};
use crate::system::FabricKind;
use crate::time::Instant;
use crate::vm::VmId;

pub use self::driver::Driver;
pub use self::error::LabError;
pub use self::meeting::Gathered;
pub use self::real_time::{InterfaceLab, RealTime, TapLab};
pub use self::steps::LabOn;
pub use self::virtual_time::{SimulatedLab, VirtualTime};

/// Receives the progress of a run.
pub trait Observer {
    /// Returns the command that makes the run, for the files that it is recorded in.
    fn command(&self) -> String {
        String::new()
    }

    /// `vm` was created at `now`.
    fn made(&mut self, now: Instant, vm: VmId, plan: &VmPlan) {
        let _ = (now, vm, plan);
    }

    /// All VMs exist, and nothing was sent yet. Returns the watchers that are shown the figures during the
    /// run.
    fn begins(&mut self, now: Instant) -> Vec<Watcher> {
        let _ = now;
        Vec::new()
    }

    /// A run without pings is about to wait; `words` describe it.
    fn serves(&mut self, words: &str) {
        let _ = words;
    }

    /// The lab listens over TCP; `words` tell where.
    fn listens(&mut self, words: &str) {
        let _ = words;
    }

    /// `words` are a warning for the reader of the figures.
    fn warns(&mut self, words: &str) {
        let _ = words;
    }
}

/// Ignores everything.
impl Observer for () {}

/// The VMs of a plan on their fabric, and their load.
///
/// It is built, run, and reported on in that order, and [closed](Lab::close) last, so that the report can be written before
/// anything else can fail. Dropping it removes it as well, but ignores errors.
///
/// From its creation until it is closed the lab handles SIGINT, SIGTERM and SIGHUP: the first ends the run in order, and
/// further ones within two seconds do nothing. Closing restores the process's own handling. Signals belong to the whole
/// process, so only one lab at a time can handle them.
///
/// The kinds of lab have finer steps, for a program that works with the VMs directly or brings its own [fabric].
///
/// [fabric]: crate::fabric::Fabric
#[derive(Debug)]
pub enum Lab<'a> {
    /// On TAPs, in real time.
    Taps(Box<TapLab<'a>>),
    /// Behind interfaces that exist, in real time.
    Interfaces(Box<InterfaceLab<'a>>),
    /// On a switch in memory, in virtual time.
    Simulated(Box<SimulatedLab<'a>>),
}

/// Evaluates an expression of the lab, whichever it is.
macro_rules! of_either {
    ($either:expr, $lab:ident => $call:expr) => {
        match $either {
            Lab::Taps($lab) => $call,
            Lab::Interfaces($lab) => $call,
            Lab::Simulated($lab) => $call,
        }
    };
}

impl<'a> Lab<'a> {
    /// Builds fabric and VMs, and tells `observer` of each VM. `plan` is an [`Experiment`] or a reference to one.
    ///
    /// # Errors
    /// If the system refuses an operation, or the plan exceeds a limit of the tool. Nothing is left behind then.
    pub fn build(
        plan: impl Into<Cow<'a, Experiment>>,
        observer: &mut dyn Observer,
    ) -> Result<Lab<'a>, LabError> {
        let plan = plan.into();
        if plan.is_simulated {
            let mut lab = SimulatedLab::on_switch(plan)?;
            lab.populate(observer)?;
            return Ok(Lab::Simulated(Box::new(lab)));
        }
        if plan.lab.fabric == FabricKind::Interface {
            let mut lab = InterfaceLab::observed(plan, observer)?;
            lab.populate(observer)?;
            return Ok(Lab::Interfaces(Box::new(lab)));
        }
        let mut lab = TapLab::observed(plan, observer)?;
        lab.populate(observer)?;
        Ok(Lab::Taps(Box::new(lab)))
    }

    /// Runs the load until the plan is over or a signal comes: [`Lab::begin`], [`Lab::drive`] and [`Lab::finish`].
    /// [`Lab::close`] returns errors of the run, so that a report of what was measured can be written first.
    pub fn run(&mut self, observer: &mut dyn Observer) {
        of_either!(self, lab => lab.run(observer));
    }

    /// Begins the phases of the plan, for a program that [drives](Lab::drive) the lab and gives it commands.
    pub fn begin(&mut self, observer: &mut dyn Observer) {
        of_either!(self, lab => lab.begin(observer));
    }

    /// Runs until the phases are over, a signal comes or the run is stopped by a command; until `until` at the latest.
    ///
    /// # Errors
    /// If the system refuses an operation, or a VM can't start or stop.
    pub fn drive(&mut self, until: Option<Instant>) -> Result<End, LabError> {
        of_either!(self, lab => lab.drive(until))
    }

    /// Completes the records of a run that has ended, before its report is made.
    pub fn finish(&mut self, observer: &mut dyn Observer) {
        of_either!(self, lab => lab.finish(observer));
    }

    /// Returns the present time of the lab.
    pub fn now(&self) -> Instant {
        of_either!(self, lab => lab.now())
    }

    /// Returns the plan, with what was added later.
    pub fn plan(&self) -> &Experiment {
        of_either!(self, lab => lab.plan())
    }

    /// Carries out `command` now. Flows that it adds are in the plan and in the report from then on.
    ///
    /// # Errors
    /// If it asks for what can't be, or the system refuses an operation.
    pub fn carry_out(&mut self, command: Command) -> Result<Outcome, LabError> {
        of_either!(self, lab => lab.carry_out(command))
    }

    /// Adds `number` VMs to the plan, which [`Command::StartVms`] starts.
    ///
    /// # Errors
    /// If there is no room for so many.
    pub fn expect_vms(&mut self, number: u32) -> Result<Vec<VmId>, LabError> {
        of_either!(self, lab => lab.expect_vms(number))
    }

    /// Returns the VMs that `who` names and that exist or are to start: `vm3`, `vm[0-9]`, `all`, or a group.
    ///
    /// # Errors
    /// If there are none.
    pub fn vms_named(&self, who: &str) -> Result<Vec<VmId>, LabError> {
        of_either!(self, lab => lab.vms_named(who))
    }

    /// Returns the flows of a pattern such as `vm0:vm1` or `mesh`, for [`Command::StartFlows`]. Their pings have `size` bytes
    /// of payload; by default as many as those of the plan.
    ///
    /// # Errors
    /// If it is no pattern, or names VMs that do not exist.
    pub fn flows_of(&self, pattern: &str, size: Option<&str>) -> Result<Vec<FlowConfig>, LabError> {
        of_either!(self, lab => lab.flows_of(pattern, size))
    }

    /// Returns the rules that values such as `vm3:delay=5ms,loss=1%` stand for, for [`Command::Impair`].
    ///
    /// # Errors
    /// If one can't be understood, or names a VM that does not exist.
    pub fn rules_of(&self, impair: &[&str]) -> Result<Vec<Rule>, LabError> {
        of_either!(self, lab => lab.rules_of(impair))
    }

    /// Returns the VM that a value such as `vm3:leaf1` moves, and where to, `repeat` times there and back, for
    /// [`Command::Move`].
    ///
    /// # Errors
    /// If it can't be understood, is about several VMs or none that exists, or names a time.
    pub fn move_of(
        &self,
        value: &str,
        repeat: Option<u32>,
    ) -> Result<(VmId, Relocation), LabError> {
        of_either!(self, lab => lab.move_of(value, repeat))
    }

    /// Returns the instrument that options of a run stand for, such as `capture` with `capture-on-loss`, for
    /// [`Command::Observe`]. Its file is created. `command` names the run in it.
    ///
    /// # Errors
    /// If a value can't be, or the file can't be created.
    pub fn instrument_of(
        &mut self,
        command: &str,
        options: &[(&'static str, &str)],
    ) -> Result<Box<dyn Instrument>, LabError> {
        of_either!(self, lab => lab.instrument_of(command, options))
    }

    /// Returns the report of what was measured so far. `command` names the run in it.
    pub fn report(&mut self, command: &str) -> Report {
        of_either!(self, lab => lab.report(command))
    }

    /// Gives the report to rank 0, or gathers those of all ranks there. Of a run that is not of several ranks it is the report.
    /// [`Lab::judge`] comes after it.
    pub fn gather(&mut self, report: Report) -> Gathered {
        of_either!(self, lab => lab.gather(report))
    }

    /// Judges the report of a run that is over: keeps in it what came of `expectations`, and why the run is
    /// [incomplete](Report::shortcomings): pings not answered or not sent, frames not carried, an early end. An expectation about
    /// failed pings alone decides how many may fail. A run without flows and streams is complete. Returns true if all is as
    /// expected; else [`Report::why_failed`] tells why not.
    pub fn judge(&self, report: &mut Report, expectations: &[Expectation]) -> bool {
        of_either!(self, lab => lab.judge(report, expectations))
    }

    /// Removes the lab.
    ///
    /// # Errors
    /// The first error of the run, or of the removal.
    pub fn close(self) -> Result<(), LabError> {
        of_either!(self, lab => lab.close())
    }
}

#[cfg(test)]
mod tests;
