//! The same experiment in virtual time, on a switch in memory: no TAP, no privilege, no waiting.

use std::time::Duration;

use crate::experiment::Experiment;
use crate::hypervisor::Hypervisor;
use crate::reactor::End;
use crate::record::DropReason;
use crate::report::{Context, FabricReport, Report};
use crate::sim::{self, Simulation};
use crate::system::Neighbours;
use crate::time::Instant;

use super::build::{add_flows, create_vms, fill_neighbour_tables, recorder};
use super::names::flow_name;
use super::{LabError, Ran, every_ping_was_answered};

/// When a simulation without an end is ended: after that much virtual time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

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
    if experiment.lab.neighbours == Neighbours::Told {
        fill_neighbour_tables(experiment, &mut hypervisor);
    }

    hypervisor.wait_for_addresses(experiment.address_wait);
    hypervisor.start(Instant::ZERO, experiment.phases.clone());
    let until = Instant::ZERO + experiment.serve.unwrap_or(LONGEST);
    sim::run(&mut hypervisor, Instant::ZERO, until);
    let (switch, mut recorder) = hypervisor.into_parts();
    recorder.dropped_many(DropReason::TapQueue, switch.queue_drops());

    let report = Report::new(
        &recorder,
        &Context {
            run: command,
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
            // Neither wall clock nor memory: the same command makes the same document each time.
            ..Context::default()
        },
    );
    let is_complete = every_ping_was_answered(experiment, &report, End::Done);
    Ok(Ran {
        report,
        is_complete,
        lab: None,
    })
}
