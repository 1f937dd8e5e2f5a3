//! The same experiment in virtual time, on a switch in memory: no TAP, no privilege, no waiting.

use std::time::Duration;

use tap_reactor::experiment::Experiment;
use tap_reactor::hypervisor::Hypervisor;
use tap_reactor::reactor::End;
use tap_reactor::record::DropReason;
use tap_reactor::report::{Context, FabricReport, Report};
use tap_reactor::sim::{self, Simulation};
use tap_reactor::system::Neighbours;
use tap_reactor::time::Instant;

use super::RunError;
use crate::cli::Output;

/// When a simulation without an end is ended: after that much virtual time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Runs the experiment and prints the report. Tells whether every ping was answered.
pub(super) fn experiment(
    experiment: &Experiment,
    simulation: &Simulation,
    output: &Output,
) -> Result<bool, RunError> {
    let switch = simulation.switch(experiment.seed, experiment.lab.filter);
    let recorder = super::build::recorder(experiment);
    let mut hypervisor = Hypervisor::new(switch, recorder, experiment.seed);
    // It is midnight where time is virtual.
    let midnight = 0;
    let now = || Instant::ZERO;
    let Ok(_) =
        super::build::create_vms(experiment, &mut hypervisor, midnight, now, |_, _| Ok(false));
    super::build::add_flows(experiment, &mut hypervisor)?;
    if experiment.lab.neighbours == Neighbours::Told {
        super::build::fill_neighbour_tables(experiment, &mut hypervisor);
    }

    hypervisor.wait_for_addresses(experiment.address_wait);
    hypervisor.start(Instant::ZERO, experiment.phases.clone());
    let until = Instant::ZERO + experiment.serve.unwrap_or(LONGEST);
    sim::run(&mut hypervisor, Instant::ZERO, until);
    let (switch, mut recorder) = hypervisor.into_parts();
    recorder.dropped_many(DropReason::TapQueue, switch.queue_drops());

    let mut report = Report::new(
        &recorder,
        &Context {
            run: &output.command,
            flows: &|index| super::words::flow_name(experiment, &[], index),
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
    let as_expected = report.expect(&output.expectations);
    let written = super::write_files(&report, output);
    super::print_report(&report, output)?;
    written?;
    Ok(as_expected && super::every_ping_was_answered(experiment, &report, End::Done))
}
