//! One run from set-up to report, in the order in which nothing that was measured can be lost.

mod build;
mod simulated;
mod words;

use std::io::{self, IsTerminal, Write};

use tap_reactor::experiment::{self, Experiment, VmPlan};
use tap_reactor::hypervisor::Hypervisor;
use tap_reactor::reactor::{End, Narrator, Reactor};
use tap_reactor::record::DropReason;
use tap_reactor::report::{self, Context, FabricReport, FileError, Report};
use tap_reactor::system::{
    self, HookEvent, Neighbours, StopSignals, SystemError, TapFabric, resident_bytes,
};
use tap_reactor::time::{Clock, MonotonicClock, unix_millis};
use tap_reactor::vm::VmId;

use self::build::{
    add_flows, create_vms, fill_neighbour_tables, place_flows, recorder, time_of_day_at_zero,
};
use self::words::{flow_name, ipv4_words, leased_addresses, serving};
use crate::cli::Output;
use crate::progress::{self, Progress};

/// Columns of the report for people.
pub const WIDTH: usize = 80;
/// File descriptors of a run beside one for each TAP: standard streams, poll, timer, signals, netlink, namespaces.
const OTHER_DESCRIPTORS: u64 = 16;

/// Why a run could not be made, or its report not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The system refused an operation.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The report could not be written.
    #[error("write to standard output: {0}")]
    Output(#[from] io::Error),
    /// A report could not be written to its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The plan does not fit the tool.
    #[error("{0}")]
    Plan(String),
}

/// Prints `text` on standard output.
pub fn print(text: &str) -> Result<(), RunError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Removes what killed runs have left behind, and tells what was removed and what was not.
pub fn clean() -> Result<(), RunError> {
    let cleaned = system::clean()?;
    let mut text = String::new();
    for name in &cleaned.removed {
        text.push_str(&format!("removed {name}\n"));
    }
    for (name, reason) in &cleaned.kept {
        text.push_str(&format!("kept {name}: {reason}\n"));
    }
    if text.is_empty() && cleaned.failed.is_empty() {
        text.push_str("nothing to remove\n");
    }
    print(&text)?;
    for error in &cleaned.failed {
        eprintln!("tap-reactor: {error}");
    }
    match cleaned.failed.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Builds the lab, runs the experiment, prints the report, and takes the lab away. Tells whether every ping was
/// answered.
pub fn experiment(experiment: &Experiment, output: &Output) -> Result<bool, RunError> {
    match &experiment.simulation {
        Some(simulation) => simulated::experiment(experiment, simulation, output),
        None => on_taps(experiment, output),
    }
}

fn on_taps(experiment: &Experiment, output: &Output) -> Result<bool, RunError> {
    let clock = MonotonicClock;
    let started = clock.now();
    system::raise_descriptor_limit()?;
    system::ensure_descriptors(experiment.vms.len() as u64 + OTHER_DESCRIPTORS)?;
    let signals = StopSignals::new()?;
    let mut narrator = output
        .verbose
        .then(|| Narrator::new(Box::new(io::stderr()), started));
    let mut reactor = Reactor::new(signals)?;
    reactor.spin(experiment.spin);

    let registry = reactor.registry()?;
    let fabric = TapFabric::new(registry, experiment.lab.clone())?;
    let topology = fabric.topology();
    let mut hypervisor = Hypervisor::new(fabric, recorder(experiment), experiment.seed);
    let before = resident_bytes();
    let at_terminal = !output.quiet && !output.verbose && io::stderr().is_terminal();
    let mut setup =
        at_terminal.then(|| progress::Setup::new(experiment.vms.len() as u64, clock.now()));
    let on_start = |vm: VmId, plan: &VmPlan| -> Result<bool, SystemError> {
        if let Some(setup) = &mut setup {
            setup.show(clock.now(), u64::from(vm.0) + 1);
        }
        if let Some(narrator) = &mut narrator {
            let ipv6 = experiment.ipv6_address(vm);
            let ipv6 = ipv6.map_or(String::new(), |address| format!(" and {address}"));
            let address = ipv4_words(experiment, plan.address);
            let words = format_args!(
                "{vm} starts: {address}{ipv6} at {} on {}{}",
                plan.mac, experiment.lab.tap_prefix, vm.0
            );
            narrator.say(clock.now(), words);
        }
        reactor.is_to_stop()
    };
    let time_of_day = time_of_day_at_zero(clock.now());
    let now = || clock.now();
    // Who has had enough before all VMs are there gets the report of a run in which nothing was sent.
    let is_set_up = create_vms(experiment, &mut hypervisor, time_of_day, now, on_start)?;
    drop(setup);
    let mut memory = None;
    if is_set_up {
        let vms = experiment.vms.len() - experiment.newcomers().len();
        memory = self::build::memory(before, vms);
        hook(experiment, HookEvent::Up)?;
        add_flows(experiment, &mut hypervisor)?;
        if let Some(topology) = topology.filter(|topology| topology.leaves() > 0) {
            place_flows(experiment, &topology, hypervisor.recorder());
        }
        if experiment.lab.neighbours == Neighbours::Told {
            fill_neighbour_tables(experiment, &mut hypervisor);
        }
    }
    if is_set_up && !hypervisor.has_flows() && !output.quiet && !output.json {
        eprintln!("{}", serving(experiment));
    }
    if let Some(narrator) = narrator {
        reactor.narrate(narrator);
    }

    for warning in hypervisor.fabric().warnings() {
        if !output.quiet {
            eprintln!("tap-reactor: {warning}");
        }
    }
    if experiment.spared_deliveries.is_some()
        && !output.quiet
        && let Some(neighbours) = experiment::neighbours(experiment)
    {
        eprintln!("tap-reactor: {neighbours}");
    }
    let start = clock.now();
    if at_terminal && hypervisor.has_flows() {
        let mut progress = Progress::new(experiment, start);
        reactor.watch(
            progress::PERIOD,
            Box::new(move |now, recorder| progress.show(now, recorder)),
        );
    }
    hypervisor.wait_for_addresses(experiment.address_wait);
    hypervisor.start(start, experiment.phases.clone());
    let until = experiment.serve.map(|time| start + time);
    let ended = reactor.run(&mut hypervisor, until);
    reactor.end_watch();
    if matches!(ended, Ok(End::Signal(_)))
        && hypervisor.fabric().leaves_links_if_killed()
        && !output.quiet
    {
        eprintln!(
            "tap-reactor: ending; a second signal ends at once and leaves links behind, for tap-reactor clean"
        );
    }
    // From here on a second signal ends the process at once.
    let restored = reactor.restore_signals();
    let leased = leased_addresses(experiment, &hypervisor);
    let (mut fabric, mut recorder) = hypervisor.into_parts();
    let drops = fabric.queue_drops();
    if let Ok(drops) = &drops {
        let frames = drops.iter().map(|(_, frames)| frames).sum();
        recorder.dropped_many(DropReason::TapQueue, frames);
    }
    let mut report = Report::new(
        &recorder,
        &Context {
            run: &output.command,
            setup_ns: start.nanos_since(started),
            interrupted: matches!(ended, Ok(End::Signal(_)) | Err(_)),
            flows: &|index| flow_name(experiment, &leased, index),
            started_unix_ms: unix_millis()
                .map(|now| now.saturating_sub(clock.now().nanos_since(start) / 1_000_000)),
            fabric: Some(&FabricReport {
                kind: experiment.lab.switching.to_string(),
                leaves: topology.map_or(0, |topology| topology.leaves()),
                ports_per_bridge: topology.map(|topology| topology.ports_per_bridge()),
                flows_across: 0,
                neighbours: experiment.lab.neighbours.to_string(),
                spared_deliveries: experiment.spared_deliveries,
                simulated: false,
            }),
            memory,
        },
    );
    let as_expected = report.expect(&output.expectations);
    let written = write_files(&report, output);
    let printed = print_report(&report, output);
    // Whatever went wrong above, the lab is taken away before the program says so.
    let unhooked = match is_set_up {
        true => hook(experiment, HookEvent::Down),
        false => Ok(()),
    };
    let removed = fabric.remove_all();
    let end = ended?;
    drops?;
    restored?;
    printed?;
    written?;
    unhooked?;
    removed?;
    Ok(as_expected && every_ping_was_answered(experiment, &report, end))
}

/// Runs the user's hook, if there is one.
fn hook(experiment: &Experiment, event: HookEvent) -> Result<(), SystemError> {
    match &experiment.lab.hook {
        Some(command) => system::run_hook(command, event, &experiment.lab),
        None => Ok(()),
    }
}

/// Writes every file that can be written, and returns the first error.
fn write_files(report: &Report, output: &Output) -> Result<(), FileError> {
    let results: Vec<_> = output
        .reports
        .iter()
        .map(|path| report::write_file(path, report))
        .collect();
    results.into_iter().collect()
}

fn print_report(report: &Report, output: &Output) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if output.json {
        report::json(report, &mut out)?;
    } else if !output.quiet {
        report::text(report, &mut out, WIDTH)?;
    }
    out.flush()
}

/// Whether the run may end with status 0. A run without a count ends whenever it is told to; one with a count is not
/// complete before it is reached, unless its time was up first.
fn every_ping_was_answered(experiment: &Experiment, report: &Report, end: End) -> bool {
    let totals = &report.totals;
    let none_failed = totals.unsent == 0
        && totals.failed() == 0
        && report.drops.get(DropReason::TooManyOutstanding) == 0;
    let complete = match (end, experiment.planned_pings()) {
        (End::Signal(_), Some(planned)) => totals.received == planned,
        (End::Signal(_), None) | (End::Done, _) => true,
    };
    none_failed && complete
}
