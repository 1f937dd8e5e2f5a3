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

mod build;
mod completeness;
mod error;
mod names;
mod simulated;
mod taps;

use crate::experiment::{Experiment, VmPlan};
use crate::reactor::{End, Narrator, Watcher};
use crate::record::{DropReason, Recorder};
use crate::report::{Expectation, Report};
use crate::time::Instant;
use crate::vm::VmId;

pub use self::error::LabError;
use self::simulated::Simulated;
use self::taps::OnTaps;

/// Whom a run tells what goes on.
pub trait Observer {
    /// The run began at `now`: who narrates each step of it, if anybody does.
    fn narrator(&mut self, now: Instant) -> Option<Narrator> {
        let _ = now;
        None
    }

    /// `vm` was made at `now`.
    fn made(&mut self, now: Instant, vm: VmId, plan: &VmPlan) {
        let _ = (now, vm, plan);
    }

    /// All VMs are there, and nothing was sent yet. Who looks at the figures meanwhile, if anybody does.
    fn begins(&mut self, now: Instant) -> Option<Watcher> {
        let _ = now;
        None
    }

    /// A run without pings is about to wait, as `words` say.
    fn serves(&mut self, words: &str) {
        let _ = words;
    }

    /// Something that whoever reads the figures should know.
    fn warns(&mut self, words: &str) {
        let _ = words;
    }
}

/// Nobody.
impl Observer for () {}

/// A plan brought to life: VMs on their fabric, and the load that they are to carry.
///
/// It is built, run, and reported on in that order, and [closed](Lab::close) last, so that the report can be written before
/// anything else can go wrong. Dropped, it is taken away as well; what goes wrong then is told by nobody.
///
/// From when it is built until it is closed SIGINT, SIGTERM and SIGHUP are the lab's: they end the run, and whatever follows
/// the first one within two seconds does nothing. Then they mean to the process what they did before. They are the whole
/// process's, so one lab at a time has them.
#[derive(Debug)]
pub struct Lab<'a> {
    experiment: &'a Experiment,
    kind: Kind,
    /// Why the run ended; `None` before, and if something went wrong.
    end: Option<End>,
}

/// Where a lab lives.
#[derive(Debug)]
enum Kind {
    Taps(Box<OnTaps>),
    Simulated(Box<Simulated>),
}

impl<'a> Lab<'a> {
    /// Makes the VMs and their fabric, and tells `observer` of each.
    ///
    /// # Errors
    /// When the system refuses something, or the plan does not fit the tool; nothing is left behind then.
    pub fn build(
        experiment: &'a Experiment,
        observer: &mut dyn Observer,
    ) -> Result<Lab<'a>, LabError> {
        let kind = match &experiment.simulation {
            Some(simulation) => {
                Kind::Simulated(Box::new(Simulated::build(experiment, simulation)?))
            }
            None => Kind::Taps(Box::new(OnTaps::build(experiment, observer)?)),
        };
        Ok(Lab {
            experiment,
            kind,
            end: None,
        })
    }

    /// Carries the load until the plan is over or a signal comes. What goes wrong meanwhile is told by [`Lab::close`], because
    /// what was measured is worth a report.
    pub fn run(&mut self, observer: &mut dyn Observer) {
        self.end = match &mut self.kind {
            Kind::Taps(lab) => lab.run(self.experiment, observer),
            Kind::Simulated(lab) => lab.run(self.experiment),
        };
    }

    /// What was measured so far; `command` is what it says that ran.
    pub fn report(&mut self, command: &str) -> Report {
        match &mut self.kind {
            Kind::Taps(lab) => lab.report(self.experiment, command),
            Kind::Simulated(lab) => lab.report(self.experiment, command),
        }
    }

    /// Why the run is not what was asked for, one thing each: pings that were not answered or not sent, frames that were
    /// not carried. An expectation that judges loss alone decides about it. Empty for a run that only served.
    pub fn shortcomings(&self, report: &Report, expectations: &[Expectation]) -> Vec<String> {
        completeness::shortcomings(self.experiment, report, self.end, expectations)
    }

    /// Takes the lab away.
    ///
    /// # Errors
    /// With the first thing that went wrong: in the run, or now.
    pub fn close(mut self) -> Result<(), LabError> {
        self.take_away()
    }

    fn take_away(&mut self) -> Result<(), LabError> {
        match &mut self.kind {
            Kind::Taps(lab) => lab.take_away(self.experiment),
            Kind::Simulated(lab) => lab.take_away(),
        }
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        // Who wants to know closes it.
        let _ = self.take_away();
    }
}

/// Takes in how many frames each TAP's queue did not take.
fn count_overflows(recorder: &mut Recorder, frames: impl IntoIterator<Item = u64>) {
    let frames = frames.into_iter().fold(0, u64::saturating_add);
    recorder.dropped_many(DropReason::TapQueue, frames);
}

#[cfg(test)]
mod tests;
