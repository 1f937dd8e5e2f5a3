//! `tap-reactor`: reads the command line, runs the experiment, prints the report.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;

use std::process::ExitCode;

use cli::ctl::Failure;
use cli::report::ReportError;
use cli::{clean, console, ctl, ranks, report, run};
use tap_reactor::system::EarlySignals;

/// Every ping was answered.
const SUCCESS: u8 = 0;
/// Some pings were not.
const INCOMPLETE: u8 = 1;
/// The command line can't be right.
const USAGE: u8 = 2;
/// The system refused something.
const REFUSED: u8 = 3;

fn main() -> ExitCode {
    let early = match EarlySignals::new() {
        Ok(early) => early,
        Err(error) => {
            console::eprint(format_args!("tap-reactor: {error}"));
            return ExitCode::from(REFUSED);
        }
    };
    if let Err(error) = ranks::begin() {
        console::eprint(format_args!("tap-reactor: {error}"));
        return ExitCode::from(REFUSED);
    }
    let request = match cli::parse(std::env::args_os()) {
        Ok(request) => request,
        Err(error) => {
            console::eprint(format_args!("tap-reactor: {error}"));
            return ExitCode::from(USAGE);
        }
    };
    // Until its lab takes the signals; who does anything else does it under the signals' usual actions.
    let early = Some(early).filter(|_| {
        use cli::Request::{Launch, Run, Search, Sweep};
        matches!(request, Run(..) | Sweep(_) | Search(_) | Launch(_))
    });
    let result = match request {
        cli::Request::Print(text) => run::print(&text).map(|()| true),
        cli::Request::Clean => clean::clean().map(|()| true),
        cli::Request::Report(request) => match report::report(request) {
            Ok(is_as_expected) => Ok(is_as_expected),
            Err(ReportError::Output(error)) => Err(error),
            // A file that is no report is wrong input, as a flag may be.
            Err(error) => {
                console::eprint(format_args!("tap-reactor: {error}"));
                return ExitCode::from(USAGE);
            }
        },
        cli::Request::Ctl(request) => match ctl::run(request) {
            Ok(()) => Ok(true),
            Err(error) => {
                console::eprint(format_args!("error: {error}"));
                return ExitCode::from(match error.failure() {
                    Failure::Refused => INCOMPLETE,
                    Failure::Usage => USAGE,
                    Failure::System => REFUSED,
                });
            }
        },
        cli::Request::Sweep(sweep) => sweep.run(early),
        cli::Request::Search(search) => search.run(early),
        cli::Request::Launch(launch) => match launch.run(early) {
            Ok(Some(is_as_expected)) => Ok(is_as_expected),
            // The rank has told it.
            Ok(None) => return ExitCode::from(REFUSED),
            Err(error) => Err(error),
        },
        cli::Request::Run(experiment, output) => run::experiment(&experiment, output, early),
    };
    ExitCode::from(match result {
        Ok(true) => SUCCESS,
        Ok(false) => INCOMPLETE,
        Err(error) => {
            let is_of_other = error.is_of_other_rank();
            match ranks::other_rank() {
                Some(_) if is_of_other => {}
                Some(rank) => console::eprint(format_args!("tap-reactor: rank {rank}: {error}")),
                None => console::eprint(format_args!("tap-reactor: {error}")),
            }
            if is_of_other { INCOMPLETE } else { REFUSED }
        }
    })
}
