//! A plan brought to life: the lab is built, its load is run, and what was measured becomes a report, in the order in
//! which nothing that was measured can be lost.
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
mod error;
mod names;
mod simulated;
mod taps;

use std::borrow::Cow;

use crate::experiment::{Experiment, VmPlan};
use crate::reactor::{Narrator, Watcher};
use crate::report::{Expectation, Report};
use crate::time::Instant;
use crate::vm::VmId;

pub use self::error::LabError;
pub use self::simulated::SimulatedLab;
pub use self::taps::TapLab;

/// Hears what goes on in a run.
pub trait Observer {
    /// The run began at `now`. Returns a narrator of each step of it, if there is to be one.
    fn narrator(&mut self, now: Instant) -> Option<Narrator> {
        let _ = now;
        None
    }

    /// `vm` was made at `now`.
    fn made(&mut self, now: Instant, vm: VmId, plan: &VmPlan) {
        let _ = (now, vm, plan);
    }

    /// All VMs are there, and nothing was sent yet. Returns what looks at the figures meanwhile, if anything does.
    fn begins(&mut self, now: Instant) -> Option<Watcher> {
        let _ = now;
        None
    }

    /// A run without pings is about to wait, as `words` say.
    fn serves(&mut self, words: &str) {
        let _ = words;
    }

    /// Whoever reads the figures should know `words`.
    fn warns(&mut self, words: &str) {
        let _ = words;
    }
}

/// Hears nothing.
impl Observer for () {}

/// A plan brought to life: VMs on their fabric, and the load that they are to carry.
///
/// It is built, run, and reported on in that order, and [closed](Lab::close) last, so that the report can be written before
/// anything else can go wrong. Dropped, it is taken away as well; what goes wrong then is told by nobody.
///
/// From when it is built until it is closed SIGINT, SIGTERM and SIGHUP are the lab's: they end the run, and whatever follows
/// the first one within two seconds does nothing. Then they mean to the process what they did before. They are the whole
/// process's, so one lab at a time has them.
///
/// The two variants have the same steps and finer ones, for a program that wants its hands on the VMs, or a [fabric] of its
/// own: [`TapLab`] and [`SimulatedLab`].
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
    /// Makes the VMs and their fabric, and tells `observer` of each VM. The plan is lent or given.
    ///
    /// # Errors
    /// When the system refuses something, or the plan does not fit the tool; nothing is left behind then.
    pub fn build(
        plan: impl Into<Cow<'a, Experiment>>,
        observer: &mut dyn Observer,
    ) -> Result<Lab<'a>, LabError> {
        let plan = plan.into();
        if plan.is_simulated() {
            let mut lab = SimulatedLab::on_switch(plan)?;
            lab.populate(observer)?;
            return Ok(Lab::Simulated(Box::new(lab)));
        }
        let mut lab = TapLab::new(plan)?;
        lab.populate(observer)?;
        Ok(Lab::Taps(Box::new(lab)))
    }

    /// Carries the load until the plan is over or a signal comes. What goes wrong meanwhile is told by [`Lab::close`], because
    /// what was measured is worth a report.
    pub fn run(&mut self, observer: &mut dyn Observer) {
        match self {
            Lab::Taps(lab) => lab.run(observer),
            Lab::Simulated(lab) => lab.run(),
        }
    }

    /// Reports on what was measured so far; `command` is what it says that ran.
    pub fn report(&mut self, command: &str) -> Report {
        match self {
            Lab::Taps(lab) => lab.report(command),
            Lab::Simulated(lab) => lab.report(command),
        }
    }

    /// Says why the run is not what was asked for, one thing each: pings that were not answered or not sent, frames that
    /// were not carried. An expectation that judges loss alone decides about it. Empty for a run that only served.
    pub fn shortcomings(&self, report: &Report, expectations: &[Expectation]) -> Vec<String> {
        match self {
            Lab::Taps(lab) => lab.shortcomings(report, expectations),
            Lab::Simulated(lab) => lab.shortcomings(report, expectations),
        }
    }

    /// Takes the lab away.
    ///
    /// # Errors
    /// With the first thing that went wrong: in the run, or now.
    pub fn close(self) -> Result<(), LabError> {
        match self {
            Lab::Taps(lab) => lab.close(),
            Lab::Simulated(lab) => lab.close(),
        }
    }
}

#[cfg(test)]
mod tests;
