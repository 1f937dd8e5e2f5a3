//! The same lab in virtual time, on a switch in memory: no TAP, no privilege, no waiting.

use std::time::Duration;

use super::build::{create_vms, load, phase_names, plan_report, recorder};
use super::names::flow_name;
use super::{LabError, count_overflows};
use nix::sys::signal::Signal;

use crate::experiment::{Experiment, VmPlan};
use crate::hypervisor::Hypervisor;
use crate::reactor::{End, LAST_WAIT};
use crate::report::{Context, FabricReport, Report};
use crate::sim::{self, Simulation, Switch};
use crate::system::{StopSignals, SystemError};
use crate::time::Instant;

/// When a simulation without pings and without an end is ended: after that much virtual time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// VMs on a switch in memory.
#[derive(Debug)]
pub(super) struct Simulated {
    hypervisor: Hypervisor<Switch>,
    signals: StopSignals,
    /// What ended it, or is to.
    signal: Option<Signal>,
    /// What went wrong.
    failed: Option<SystemError>,
}

impl Simulated {
    pub(super) fn build(
        experiment: &Experiment,
        simulation: &Simulation,
    ) -> Result<Simulated, LabError> {
        let signals = StopSignals::new()?;
        let switch = simulation.switch(experiment.seed, experiment.lab.filter);
        let mut hypervisor = Hypervisor::new(switch, recorder(experiment), experiment.seed);
        // It is midnight where time is virtual.
        let midnight = 0;
        let now = || Instant::ZERO;
        let mut signal = None;
        let mut is_to_stop = || {
            signal = signal.or_else(|| signals.take().ok().flatten());
            signal.is_some()
        };
        let made = |_, _: &VmPlan| Ok(is_to_stop());
        let Ok(is_whole) = create_vms(experiment, &mut hypervisor, midnight, now, made);
        // Who has had enough before that is done gets the report of a run in which nothing was sent.
        if is_whole {
            load(experiment, &mut hypervisor)?;
        }
        Ok(Simulated {
            hypervisor,
            signals,
            signal,
            failed: None,
        })
    }

    pub(super) fn run(&mut self, experiment: &Experiment) -> Option<End> {
        let (hypervisor, signals) = (&mut self.hypervisor, &mut self.signals);
        hypervisor.start(Instant::ZERO, experiment.phases.clone());
        let until = match hypervisor.has_flows() {
            // It ends where its plan does.
            true => Instant::from_nanos(u64::MAX),
            false => Instant::ZERO + experiment.serve.unwrap_or(LONGEST),
        };
        let signal = &mut self.signal;
        let is_to_stop = || {
            *signal = signal.or_else(|| signals.take().ok().flatten());
            signal.is_some()
        };
        let (now, _) = sim::run_unless(hypervisor, Instant::ZERO, until, is_to_stop);
        if signal.is_some() {
            hypervisor.stop(now);
            let ended = sim::run(hypervisor, now, now + LAST_WAIT);
            hypervisor.give_up(ended);
        }
        hypervisor.end();
        self.failed = signals.guard_end(false).err();
        let overflows = hypervisor.fabric().queue_drops();
        count_overflows(hypervisor.recorder(), [overflows]);
        Some(signal.map_or(End::Done, End::Signal))
    }

    pub(super) fn report(&mut self, experiment: &Experiment, command: &str) -> Report {
        Report::new(
            self.hypervisor.recorder(),
            &Context {
                run: command,
                phases: &phase_names(experiment),
                plan: Some(&plan_report(experiment)),
                interrupted: self.signal.is_some(),
                flows: &|index| flow_name(experiment, &[], index),
                fabric: Some(&FabricReport {
                    kind: "sim".to_owned(),
                    leaves: 0,
                    ports_per_bridge: None,
                    flows_across: 0,
                    neighbours: experiment.lab.neighbours.to_string(),
                    spared_deliveries: None,
                    simulated: true,
                }),
                // Neither wall clock nor machine nor memory: the same command makes the same document each time.
                ..Context::default()
            },
        )
    }

    pub(super) fn take_away(&mut self) -> Result<(), LabError> {
        let released = self.signals.release();
        if let Some(failed) = self.failed.take() {
            return Err(failed.into());
        }
        Ok(released?)
    }
}
