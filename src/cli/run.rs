//! Runs an experiment from the command line: prints its progress and delivers its report.

use std::io::{self, IsTerminal, Write};

use tap_reactor::experiment::{Experiment, VmPlan};
use tap_reactor::fabric::WriteTo;
use tap_reactor::lab::{Gathered, Lab, LabError, Observer};
use tap_reactor::reactor::Watcher;
use tap_reactor::report::{self, Destination, FileError, Report};
use tap_reactor::system::{EarlySignals, KernelWait, SystemError};
use tap_reactor::time::Instant;
use tap_reactor::vm::VmId;

use super::Output;
use super::console;
use super::progress::{self, Progress};

/// Columns of the report for people.
pub const WIDTH: usize = 80;

/// An error of a run, or of the delivery of its report.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run could not be made.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The system refused an operation.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The report could not be written.
    #[error("write to standard output: {0}")]
    Output(#[from] io::Error),
    /// A report could not be written to its file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RunError {
    /// Returns true if other ranks are the reason.
    pub fn is_of_other_rank(&self) -> bool {
        matches!(self, RunError::Lab(LabError::Ranks(_)))
    }
}

/// Prints `text` on standard output.
pub fn print(text: &str) -> Result<(), RunError> {
    Ok(console::print(|out| out.write_all(text.as_bytes()))?)
}

/// Prints all errors but the last, which is returned, if there is any.
pub(super) fn last_of(mut errors: Vec<RunError>) -> Result<(), RunError> {
    let last = errors.pop();
    for error in errors {
        console::eprint(format_args!("tap-reactor: {error}"));
    }
    last.map_or(Ok(()), Err)
}

/// Builds the lab, runs the experiment, writes and prints the report, and takes the lab away. Tells whether all was as
/// expected.
///
/// Files are written first, because no reader can hold them up; and whatever went wrong, the lab is removed before the
/// program says so.
///
/// `early` has the signals until the lab takes them.
pub fn experiment(
    experiment: &Experiment,
    output: Output,
    early: Option<EarlySignals>,
) -> Result<bool, RunError> {
    let is_output_taken = experiment.writes_to(&WriteTo::StandardOutput);
    let (json, quiet) = (output.json, output.quiet);
    let print = |report: &Report| print_report(report, json, quiet, is_output_taken);
    measure(experiment, &output, early, print).map(|(_, is_as_expected)| is_as_expected)
}

/// The same, but `print` tells of the report, which is returned too.
pub(super) fn measure(
    experiment: &Experiment,
    output: &Output,
    early: Option<EarlySignals>,
    print: impl FnOnce(&Report) -> io::Result<()>,
) -> Result<(Report, bool), RunError> {
    let mut terminal = Terminal::new(experiment, output);
    // Without it, nobody is told.
    let waiting = tells_of_waits(experiment, output).then(|| KernelWait::watch(tell_of_wait).ok());
    let mut lab = Lab::build(experiment, &mut terminal)?;
    drop(waiting);
    drop(early);
    lab.run(&mut terminal);
    drop(terminal);
    let report = lab.report(&output.command);
    let (mut report, reports) = match lab.gather(report) {
        Gathered::Whole(report) => (*report, output.reports.clone()),
        // Rank 0 tells it, and what is amiss in it.
        Gathered::Delivered(report) => {
            lab.close()?;
            return Ok((*report, true));
        }
        // The files are rank 0's.
        Gathered::Kept(report) => (*report, Vec::new()),
    };
    let is_as_expected = lab.judge(&mut report, &output.expectations);
    let mut errors = write_files(&report, reports);
    for why in report.why_failed() {
        console::eprint(format_args!("tap-reactor: {why}"));
    }
    errors.extend(print(&report).err().map(RunError::from));
    errors.extend(lab.close().err().map(RunError::from));
    last_of(errors)?;
    Ok((report, is_as_expected))
}

fn tells_of_waits(experiment: &Experiment, output: &Output) -> bool {
    !experiment.is_simulated && !output.quiet
}

fn tell_of_wait() {
    console::eprint(
        "tap-reactor: waiting for the kernel, which has not answered a request for a second; it makes and removes links \
         one after the other, those of others too",
    );
}

/// The observer of a run that prints for a terminal.
struct Terminal<'a> {
    experiment: &'a Experiment,
    output: &'a Output,
    /// True if a progress line is drawn.
    is_live: bool,
    setup: Option<progress::Setup>,
}

impl Terminal<'_> {
    fn new<'a>(experiment: &'a Experiment, output: &'a Output) -> Terminal<'a> {
        Terminal {
            experiment,
            output,
            is_live: !experiment.is_simulated
                && is_first(experiment)
                && !output.quiet
                && !experiment.writes_to(&WriteTo::StandardError)
                && io::stderr().is_terminal(),
            setup: None,
        }
    }
}

impl Observer for Terminal<'_> {
    fn command(&self) -> String {
        self.output.command.clone()
    }

    fn made(&mut self, now: Instant, vm: VmId, _: &VmPlan) {
        if self.is_live {
            let vms = self.experiment.vms.len() as u64;
            let setup = || progress::Setup::new(vms, now);
            let setup = self.setup.get_or_insert_with(setup);
            setup.show(now, u64::from(vm.0) + 1);
        }
    }

    fn begins(&mut self, now: Instant) -> Vec<Watcher> {
        self.setup = None;
        if !self.is_live {
            return Vec::new();
        }
        let mut progress = Progress::new(self.experiment, now);
        vec![Watcher {
            period: progress::PERIOD,
            look: Box::new(move |now, recorder| progress.show(now, recorder)),
        }]
    }

    fn serves(&mut self, words: &str) {
        if is_first(self.experiment) && !self.output.quiet && !self.output.json {
            console::eprint(words);
        }
    }

    fn listens(&mut self, words: &str) {
        if !self.output.quiet {
            console::eprint(words);
        }
    }

    fn warns(&mut self, words: &str) {
        if is_first(self.experiment) && !self.output.quiet {
            console::eprint(format_args!("tap-reactor: {words}"));
        }
    }
}

/// Returns true if this process tells of the run: if there are several ranks, the first.
fn is_first(experiment: &Experiment) -> bool {
    let part = experiment.part.as_ref();
    part.is_none_or(|part| part.rank.is_first())
}

/// Writes every file that can be written, and returns why others can't.
fn write_files(report: &Report, destinations: Vec<Destination>) -> Vec<RunError> {
    let written = destinations.into_iter();
    let written = written.map(|destination| report::write_file(destination, report));
    written
        .filter_map(|one| one.err().map(RunError::from))
        .collect()
}

/// Prints the report on standard output, or on standard error where the other takes the frames.
pub(super) fn print_report(
    report: &Report,
    json: bool,
    quiet: bool,
    is_output_taken: bool,
) -> io::Result<()> {
    let text = |out: &mut console::Out| report::text(report, out, WIDTH);
    match (json, quiet) {
        (true, _) => console::print(|out| report::json(report, out)),
        (false, true) => Ok(()),
        (false, false) if is_output_taken => console::print_on(io::stderr(), text),
        (false, false) => console::print(text),
    }
}
