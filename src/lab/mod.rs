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
//! A plan comes from a [scenario](crate::experiment::Scenario), or from [code](Experiment::of_vms). Below [`Lab`] are
//! [`TapLab`], for a program that begins phases of its own or measures between the steps, and [`SimulatedLab`], for one
//! that brings its own [fabric](crate::fabric::Fabric).
//!
//! See also: [`crate::report`] for what comes of a run, [`crate::hypervisor`] for what a lab is made of.

mod build;
mod completeness;
mod driver;
mod error;
mod instruments;
mod names;
mod real_time;
mod steps;
mod virtual_time;

use std::borrow::Cow;

use crate::experiment::{Experiment, VmPlan};
use crate::reactor::Watcher;
use crate::report::{Expectation, Report};
use crate::time::Instant;
use crate::vm::VmId;

pub use self::driver::Driver;
pub use self::error::LabError;
pub use self::real_time::{RealTime, TapLab};
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

    /// All VMs exist, and nothing was sent yet. Returns a watcher that is shown the figures during the run, if there is to
    /// be one.
    fn begins(&mut self, now: Instant) -> Option<Watcher> {
        let _ = now;
        None
    }

    /// A run without pings is about to wait; `words` describe it.
    fn serves(&mut self, words: &str) {
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
/// The two kinds of lab have finer steps, for a program that works with the VMs directly or brings its own [fabric].
///
/// [fabric]: crate::fabric::Fabric
#[derive(Debug)]
pub enum Lab<'a> {
    /// On TAPs, in real time.
    Taps(Box<TapLab<'a>>),
    /// On a switch in memory, in virtual time.
    Simulated(Box<SimulatedLab<'a>>),
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
        let mut lab = TapLab::new(plan)?;
        lab.populate(observer)?;
        Ok(Lab::Taps(Box::new(lab)))
    }

    /// Runs the load until the plan is over or a signal comes. [`Lab::close`] returns errors of the run, so that a report
    /// of what was measured can be written first.
    pub fn run(&mut self, observer: &mut dyn Observer) {
        match self {
            Lab::Taps(lab) => lab.run(observer),
            Lab::Simulated(lab) => lab.run(observer),
        }
    }

    /// Returns the report of what was measured so far. `command` names the run in it.
    pub fn report(&mut self, command: &str) -> Report {
        match self {
            Lab::Taps(lab) => lab.report(command),
            Lab::Simulated(lab) => lab.report(command),
        }
    }

    /// Returns why the run is incomplete, one sentence each: pings not answered or not sent, frames not carried. An
    /// expectation about failed pings alone decides how many may fail. Empty for a run without flows.
    pub fn shortcomings(&self, report: &Report, expectations: &[Expectation]) -> Vec<String> {
        match self {
            Lab::Taps(lab) => lab.shortcomings(report, expectations),
            Lab::Simulated(lab) => lab.shortcomings(report, expectations),
        }
    }

    /// Removes the lab.
    ///
    /// # Errors
    /// The first error of the run, or of the removal.
    pub fn close(self) -> Result<(), LabError> {
        match self {
            Lab::Taps(lab) => lab.close(),
            Lab::Simulated(lab) => lab.close(),
        }
    }
}

#[cfg(test)]
mod tests;
