//! A plan brought to life: the lab is built, its load is run, and what was measured becomes a report, in the order in
//! which nothing that was measured can be lost.
//!
//! [`run`] is what a program that uses this crate calls. The lab is still there when it returns, so that the report can be
//! written before anything else can go wrong; [`Ran::finish`] takes it away.

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
use crate::system::{StopSignals, SystemError, TapFabric};
use crate::time::Instant;
use crate::vm::VmId;

pub use self::error::LabError;

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

/// A run that is over. Its lab is still there.
#[derive(Debug)]
#[must_use]
pub struct Ran {
    /// What was measured.
    pub report: Report,
    /// Why it ended; `None` if something went wrong that [`Ran::finish`] tells.
    end: Option<End>,
    lab: Option<Lab>,
}

/// What is to be taken away, and what went wrong before.
#[derive(Debug)]
struct Lab {
    fabric: TapFabric,
    hook: Option<HookDown>,
    signals: StopSignals,
    failed: Option<SystemError>,
}

/// The hook was told that the lab is up, so it is to be told that it goes.
#[derive(Debug)]
struct HookDown;

/// Builds the lab, and runs the experiment. `command` is what the report says that ran.
///
/// # Errors
/// When the lab can't be made. What goes wrong later is told by [`Ran::finish`], because what was measured is worth
/// writing.
pub fn run(
    experiment: &Experiment,
    command: &str,
    observer: &mut dyn Observer,
) -> Result<Ran, LabError> {
    match &experiment.simulation {
        Some(simulation) => simulated::run(experiment, simulation, command),
        None => taps::run(experiment, command, observer),
    }
}

impl Ran {
    /// Why the run is not what was asked for, one thing each: pings that were not answered or not sent, frames that were
    /// not carried. An expectation that judges loss alone decides about it. Empty for a run that only served.
    pub fn shortcomings(
        &self,
        experiment: &Experiment,
        expectations: &[Expectation],
    ) -> Vec<String> {
        completeness::shortcomings(experiment, &self.report, self.end, expectations)
    }

    /// Takes the lab away.
    ///
    /// # Errors
    /// With the first thing that went wrong: in the run, or now.
    pub fn finish(self, experiment: &Experiment) -> Result<(), LabError> {
        let Some(lab) = self.lab else {
            return Ok(());
        };
        taps::take_away(experiment, lab)
    }
}

/// Takes in how many frames each TAP's queue did not take.
fn count_overflows(recorder: &mut Recorder, frames: impl IntoIterator<Item = u64>) {
    let frames = frames.into_iter().fold(0, u64::saturating_add);
    recorder.dropped_many(DropReason::TapQueue, frames);
}

#[cfg(test)]
mod tests;
