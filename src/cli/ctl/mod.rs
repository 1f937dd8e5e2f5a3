//! The `ctl` subcommand: steers a running lab and asks it, as a client of its control interface.
//!
//! [`COMMANDS`] is the one table of commands: parser, help, man page, completions and the shell are made from it. What a lab
//! is asked and what it answers are the documents of [`tap_reactor::control`]. This is a process of its own, not the lab's:
//! it waits for the lab, within limits.

mod actions;
mod client;
mod command;
mod misbehave;
mod moving;
mod shell;
mod text;
mod watch;

use std::io;
use std::path::PathBuf;

use structopt::clap::ArgMatches;
use tap_reactor::control::ControlAddress;
use tap_reactor::experiment::SettingError;
use tap_reactor::report::{FileError, LoadError};
use tap_reactor::system::{SystemError, read_token};

use self::client::{ANSWER_TIME, Client};
use self::command::Call;
pub use self::command::{COMMANDS, Command};
use super::app::OPERAND;
use super::subcommand::NAME;
use super::words::Words;
use super::{UsageError, console, settings};

/// The version that labs are expected to have.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The option that names the file of a token.
const TOKEN: &str = "control-token-file";

/// A call of the `ctl` subcommand.
#[derive(Debug)]
pub struct CtlRequest {
    address: ControlAddress,
    token_file: Option<PathBuf>,
    /// The command; `None` for the shell.
    call: Option<Call>,
    /// Print documents as they are.
    json: bool,
}

impl CtlRequest {
    /// Reads the options and operands of the subcommand.
    ///
    /// # Errors
    /// If there is no such command, or its options and operands are others.
    pub fn new(words: &Words, matches: &ArgMatches<'_>) -> Result<CtlRequest, UsageError> {
        let given = settings(words, matches);
        let operands = matches.values_of(OPERAND).into_iter().flatten();
        let mut operands = operands.map(str::to_owned);
        let Some(socket) = operands.next() else {
            return Err(UsageError::new(
                "ctl: expected the address of a lab, as after its --control",
            ));
        };
        let address = socket
            .parse()
            .map_err(|expected| UsageError::new(format_args!("ctl {socket:?}: {expected}")))?;
        let json = given.switch("json")?;
        let token_file = given.get(TOKEN).map(|setting| setting.text.clone().into());
        let call = Call::new(operands.collect(), given)?;
        Ok(CtlRequest {
            address,
            token_file,
            call,
            json,
        })
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The lab refuses a request.
    #[error("{error}; expected {expected}")]
    Refused { error: String, expected: String },
    /// A line of the shell is wrong.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// No lab can be reached.
    #[error("{address}: {why}")]
    NoLab {
        address: ControlAddress,
        why: String,
    },
    /// The lab does not answer in time.
    #[error("the lab does not answer; expected that within {} seconds", ANSWER_TIME.as_secs())]
    Late,
    /// The lab has gone before it has answered.
    #[error("the lab has ended before it had answered")]
    Ended,
    /// Whoever answers speaks another language.
    #[error("what answers is no lab of this version: {0}; expected one of {NAME} {VERSION}")]
    Foreign(String),
    /// The report of a lab can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The system refused an operation.
    #[error(transparent)]
    System(#[from] SystemError),
    /// Something could not be written.
    #[error("write to standard output: {0}")]
    Output(#[from] io::Error),
    /// A file could not be written.
    #[error("write to {file}: {error}")]
    Write { file: String, error: io::Error },
    /// A report could not be written to its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A command of a script has failed; it was told of.
    #[error("line {line}: {error}")]
    Script { line: usize, error: Box<CtlError> },
    /// Commands can't be read.
    #[error("read commands: {0}")]
    Input(String),
}

impl From<SettingError> for CtlError {
    fn from(error: SettingError) -> CtlError {
        CtlError::Usage(error.into())
    }
}

/// The kind of an error, as exit statuses have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The lab did not do it.
    Refused,
    /// The command line is wrong.
    Usage,
    /// The system has no lab, or refused an operation.
    System,
}

impl CtlError {
    /// The error of a connection to a lab that has broken off, or took longer than a client waits.
    fn of_connection(error: io::Error) -> CtlError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CtlError::Late,
            io::ErrorKind::InvalidData => CtlError::Foreign(error.to_string()),
            _ => CtlError::Ended,
        }
    }

    /// Its kind.
    pub fn failure(&self) -> Failure {
        match self {
            CtlError::Refused { .. } => Failure::Refused,
            CtlError::Usage(_) => Failure::Usage,
            CtlError::Script { error, .. } => error.failure(),
            _ => Failure::System,
        }
    }

    /// Returns true if there is no lab any more.
    const fn is_end(&self) -> bool {
        matches!(self, CtlError::Ended | CtlError::NoLab { .. })
    }
}

/// Does what was asked for.
pub fn run(request: CtlRequest) -> Result<(), CtlError> {
    let token = match &request.address {
        // The kernel tells a lab at a path who asks.
        ControlAddress::Path(_) => None,
        ControlAddress::Tcp(_) => read_token(request.token_file.as_deref())?,
    };
    let client = Client::new(request.address, token);
    match request.call {
        Some(call) => (call.command.run)(&client, &call, request.json),
        None => shell::run(&client, request.json),
    }
}

/// Prints text on standard output.
fn print(text: &str) -> Result<(), CtlError> {
    use io::Write as _;
    Ok(console::print(|out| out.write_all(text.as_bytes()))?)
}

#[cfg(test)]
mod tests;
