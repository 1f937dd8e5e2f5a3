//! One run from set-up to report, in the order in which nothing that was measured can be lost.

use std::io::{self, IsTerminal, Write};
use std::net::Ipv4Addr;

use tap_reactor::experiment::Experiment;
use tap_reactor::hypervisor::{FlowConfig, Hypervisor};
use tap_reactor::load::Target;
use tap_reactor::reactor::{End, Narrator, Reactor};
use tap_reactor::record::{DropReason, Limits, Recorder};
use tap_reactor::report::{self, Context, FileError, FlowName, Report};
use tap_reactor::system::{self, StopSignals, SystemError, TapFabric};
use tap_reactor::time::{Clock, Instant, MonotonicClock, unix_millis};
use tap_reactor::vm::{SessionConfig, VmId};

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
    let clock = MonotonicClock;
    let started = clock.now();
    system::raise_descriptor_limit()?;
    system::ensure_descriptors(experiment.vms.len() as u64 + OTHER_DESCRIPTORS)?;
    let signals = StopSignals::new()?;
    let mut narrator = output
        .verbose
        .then(|| Narrator::new(Box::new(io::stderr()), started));
    let mut reactor = Reactor::new(signals)?;

    let registry = reactor.registry()?;
    let fabric = TapFabric::new(registry, experiment.lab.clone())?;
    let limits = Limits {
        phases: experiment.phases.len().max(1),
        ..Limits::default()
    };
    let recorder = Recorder::new(limits);
    let mut hypervisor = Hypervisor::new(fabric, recorder, experiment.seed);
    for (index, plan) in experiment.vms.iter().enumerate() {
        let Some(config) = experiment.vm_config(index) else {
            continue;
        };
        let vm = hypervisor.create_vm(clock.now(), config)?;
        if let Some(narrator) = &mut narrator {
            let ipv6 = experiment.ipv6_address(vm);
            let ipv6 = ipv6.map_or(String::new(), |address| format!(" and {address}"));
            let words = format_args!(
                "{vm} starts: {}{ipv6} at {} on {}{}",
                plan.address, plan.mac, experiment.lab.tap_prefix, vm.0
            );
            narrator.say(clock.now(), words);
        }
    }
    let names = add_flows(experiment, &mut hypervisor)?;
    if experiment.static_neighbours {
        fill_neighbour_tables(experiment, &mut hypervisor, clock.now());
    }
    if names.is_empty() && !output.quiet && !output.json {
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
    let start = clock.now();
    if !output.quiet && !output.verbose && io::stderr().is_terminal() && hypervisor.has_flows() {
        let mut progress = Progress::new(experiment, start);
        reactor.watch(
            progress::PERIOD,
            Box::new(move |now, recorder| progress.show(now, recorder)),
        );
    }
    hypervisor.start(start, experiment.phases.clone());
    let until = experiment.serve.map(|time| start + time);
    let ended = reactor.run(&mut hypervisor, until);
    reactor.end_watch();
    // From here on a second signal ends the process at once.
    let restored = reactor.restore_signals();
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
            flows: &names,
            started_unix_ms: unix_millis()
                .map(|now| now.saturating_sub(clock.now().nanos_since(start) / 1_000_000)),
        },
    );
    let as_expected = report.expect(&output.expectations);
    let written = write_files(&report, output);
    let printed = print_report(&report, output);
    // Whatever went wrong above, the lab is taken away before the program says so.
    let removed = fabric.remove_all();
    let end = ended?;
    drops?;
    restored?;
    printed?;
    written?;
    removed?;
    Ok(as_expected && every_ping_was_answered(experiment, &report, end))
}

fn add_flows(
    experiment: &Experiment,
    hypervisor: &mut Hypervisor<TapFabric>,
) -> Result<Vec<FlowName>, RunError> {
    let mut names = Vec::with_capacity(experiment.flows.len());
    for flow in &experiment.flows {
        let refused = || {
            RunError::Plan(format!(
                "{} has more flows than ICMP can tell apart",
                flow.source
            ))
        };
        let destination = experiment.destination(flow).ok_or_else(refused)?;
        let session = SessionConfig {
            destination,
            payload_length: flow.payload_length,
            timeout: experiment.timeout,
            options: experiment.guests.ping,
        };
        let config = FlowConfig {
            source: flow.source,
            session,
        };
        hypervisor.add_flow(config).ok_or_else(refused)?;
        let address = destination.to_string();
        names.push(match flow.target {
            Target::Vm(vm) => FlowName {
                src: flow.source.to_string(),
                dst: vm.to_string(),
                address: Some(address),
            },
            Target::Address(_) => FlowName {
                src: flow.source.to_string(),
                dst: address,
                address: None,
            },
        });
    }
    Ok(names)
}

/// What a run without pings tells before it waits.
fn serving(experiment: &Experiment) -> String {
    let addresses = |index: usize, address: Ipv4Addr| {
        let ipv6 = experiment.ipv6_address(VmId(index as u32));
        ipv6.map_or_else(
            || address.to_string(),
            |ipv6| format!("{address} and {ipv6}"),
        )
    };
    let who = match experiment.vms.as_slice() {
        [first] => format!("vm0 at {}", addresses(0, first.address)),
        [first, .., last] => {
            let index = experiment.vms.len() - 1;
            let (first, last) = (addresses(0, first.address), addresses(index, last.address));
            format!("vm0 to vm{index} at {first} to {last}")
        }
        [] => String::new(),
    };
    match experiment.serve {
        Some(duration) => format!("serving {who} for {}", humantime::format_duration(duration)),
        None => format!("serving {who} until SIGINT or SIGTERM"),
    }
}

/// Makes both ends of every flow known to each other.
fn fill_neighbour_tables(
    experiment: &Experiment,
    hypervisor: &mut Hypervisor<TapFabric>,
    now: Instant,
) {
    for flow in &experiment.flows {
        let Target::Vm(target) = flow.target else {
            continue;
        };
        for (vm, neighbour) in [(flow.source, target), (target, flow.source)] {
            if let Some(plan) = experiment.vms.get(neighbour.index())
                && let Some(address) = experiment.address(neighbour, flow.version)
                && let Some(vm) = hypervisor.vm_mut(vm)
            {
                vm.add_neighbour(now, address, plan.mac);
            }
        }
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
    let none_failed = totals.failed() == 0 && report.drops.get(DropReason::TooManyOutstanding) == 0;
    let complete = match (end, experiment.planned_pings()) {
        (End::Signal(_), Some(planned)) => totals.received == planned,
        (End::Signal(_), None) | (End::Done, _) => true,
    };
    none_failed && complete
}
