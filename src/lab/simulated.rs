//! The same experiment in virtual time, on a switch in memory: no TAP, no privilege, no waiting.

use std::time::Duration;

use crate::experiment::Experiment;
use crate::hypervisor::Hypervisor;
use crate::reactor::End;
use crate::report::{Context, FabricReport, Report};
use crate::sim::{self, Simulation};
use crate::system::{Neighbours, StopSignals};
use crate::time::Instant;

use super::build::{
    add_flows, create_vms, fill_neighbour_tables, phase_names, plan_report, recorder,
};
use super::names::flow_name;
use super::{LabError, Ran, count_overflows};

/// When a simulation without pings and without an end is ended: after that much virtual time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long pings on their way are waited for after a signal, in virtual time.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(super) fn run(
    experiment: &Experiment,
    simulation: &Simulation,
    command: &str,
) -> Result<Ran, LabError> {
    let switch = simulation.switch(experiment.seed, experiment.lab.filter);
    let recorder = recorder(experiment);
    let mut hypervisor = Hypervisor::new(switch, recorder, experiment.seed);
    // It is midnight where time is virtual.
    let midnight = 0;
    let now = || Instant::ZERO;
    let Ok(_) = create_vms(experiment, &mut hypervisor, midnight, now, |_, _| Ok(false));
    add_flows(experiment, &mut hypervisor)?;
    if experiment.lab.neighbours == Neighbours::Static {
        fill_neighbour_tables(experiment, &mut hypervisor);
    }

    hypervisor.wait_for_addresses(experiment.address_wait);
    if let Some(first) = experiment.resolution.first {
        hypervisor.find_neighbours_first(first);
    }
    hypervisor.start(Instant::ZERO, experiment.phases.clone());
    let until = match hypervisor.has_flows() {
        // It ends where its plan does.
        true => Instant::from_nanos(u64::MAX),
        false => Instant::ZERO + experiment.serve.unwrap_or(LONGEST),
    };
    let signals = StopSignals::new()?;
    let mut signal = None;
    let is_to_stop = || {
        signal = signals.take().ok().flatten();
        signal.is_some()
    };
    let (now, _) = sim::run_unless(&mut hypervisor, Instant::ZERO, until, is_to_stop);
    if signal.is_some() {
        hypervisor.stop(now);
        let ended = sim::run(&mut hypervisor, now, now + LAST_WAIT);
        hypervisor.give_up(ended);
    }
    signals.guard_end(false)?;
    let end = signal.map_or(End::Done, End::Signal);
    let (switch, mut recorder) = hypervisor.into_parts();
    count_overflows(&mut recorder, [switch.queue_drops()]);

    let report = Report::new(
        &recorder,
        &Context {
            run: command,
            phases: &phase_names(experiment),
            plan: Some(&plan_report(experiment)),
            interrupted: signal.is_some(),
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
    );
    Ok(Ran {
        report,
        end: Some(end),
        lab: None,
    })
}
