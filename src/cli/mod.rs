//! The command line: words in, a checked plan out. No other module knows `structopt`.
//!
//! A flag becomes a [`Settings`] entry of the same name, as a line of a scenario file does; what the values may be is
//! checked where the plan is made.

mod app;
pub mod clean;
mod completions;
pub mod console;
pub mod ctl;
mod files;
mod help;
mod man;
mod options;
mod progress;
pub mod ranks;
pub mod report;
pub mod run;
mod schema;
pub mod search;
mod subcommand;
pub mod sweep;
mod usage;
mod words;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use structopt::clap::ArgMatches;
use tap_reactor::control;
use tap_reactor::experiment::options::{any_of, suggestion};
use tap_reactor::experiment::{
    self, Experiment, Origin, Processes, Scenario, Setting, SettingError, Settings,
};
use tap_reactor::fabric::WriteTo;
use tap_reactor::report::{
    Destination, Expectation, check_comparison, check_file, comparison_schema_json,
    line_schema_json, schema_json, search_schema_json,
};

use self::ctl::CtlRequest;
use self::ranks::{Launch, Place};
use self::report::ReportRequest;
use self::subcommand::{NAME, Subcommand};
use self::sweep::{Axis, Sweep};
use self::words::Words;

/// A command line that was read and checked.
#[derive(Debug)]
pub enum Request {
    /// Run an experiment.
    Run(Box<Experiment>, Output),
    /// Start ranks that run one together.
    Launch(Launch),
    /// Run one for each value of a setting.
    Sweep(Sweep),
    /// Search for the greatest load.
    Search(Box<search::Asked>),
    /// Remove what killed runs have left behind.
    Clean,
    /// Read saved runs and report them again.
    Report(ReportRequest),
    /// Ask a running lab something.
    Ctl(CtlRequest),
    /// Print this text and be done.
    Print(String),
}

/// The output of a run.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// The command as it was typed, for the report.
    pub command: String,
    /// Print nothing but errors.
    pub quiet: bool,
    /// Print the report as one JSON document.
    pub json: bool,
    /// Files for the report; the ending of each says its format.
    pub reports: Vec<Destination>,
    /// Expectations that the figures are held to.
    pub expectations: Vec<Expectation>,
}

/// A command line that is wrong, in one line that says what was wrong and what is expected.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// In one line, whatever `why` quotes.
    fn new(why: impl Display) -> UsageError {
        SettingError::new(why).into()
    }
}

impl From<SettingError> for UsageError {
    fn from(error: SettingError) -> UsageError {
        UsageError(error.to_string())
    }
}

/// Reads and checks the words of the command line, the program's name first.
///
/// # Errors
/// With one line that says what was wrong and what is expected. Nothing has been touched then.
pub fn parse<I: IntoIterator<Item = OsString>>(words: I) -> Result<Request, UsageError> {
    let words: Vec<OsString> = words.into_iter().collect();
    // The parser takes everything for text, and ends the process where it is none.
    if let Some(word) = words.iter().find(|word| word.to_str().is_none()) {
        let word = word.to_string_lossy();
        return Err(UsageError::new(format_args!(
            "{word}: expected text in UTF-8"
        )));
    }
    let typed: Vec<&str> = words.iter().skip(1).filter_map(|w| w.to_str()).collect();
    let words = Words::new(&typed);
    if words.is_short("version", 0).is_some() {
        let version = concat!("tap-reactor ", env!("CARGO_PKG_VERSION"), "\n");
        return Ok(Request::Print(version.to_owned()));
    }
    if let Some(is_short) = words.is_short("help", 0) {
        return Ok(Request::Print(help::render(words.subcommand, is_short)));
    }
    let line = [NAME]
        .into_iter()
        .chain(words.words.iter().map(String::as_str));
    let matches = app::app()
        .get_matches_from_safe(line)
        .map_err(|error| usage::explain(&error, &words))?;
    let own = matches.subcommand().1.unwrap_or(&matches);
    match words.subcommand {
        Subcommand::Bare | Subcommand::Run => {
            let command = format!("{} {}", NAME, typed.join(" "));
            run_request(command, &words, own)
        }
        Subcommand::Search => {
            let command = format!("{} {}", NAME, typed.join(" "));
            search::request(command, &words, own)
        }
        Subcommand::Clean => Ok(Request::Clean),
        Subcommand::Completions | Subcommand::Schema => document(&words, own),
        Subcommand::Man => Ok(Request::Print(man::render())),
        Subcommand::Report => ReportRequest::new(&words, own).map(Request::Report),
        Subcommand::Ctl => CtlRequest::new(&words, own).map(Request::Ctl),
    }
}

fn run_request(
    command: String,
    words: &Words,
    matches: &ArgMatches<'_>,
) -> Result<Request, UsageError> {
    let given = settings(words, matches);
    let setting = given.get("scenario");
    let file = setting.map(|setting| {
        let text = std::fs::read_to_string(&setting.text).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => setting.error("expected a file of text in UTF-8"),
            _ => setting.error(error),
        })?;
        Scenario::parse(&setting.text, &text)
    });
    let file = file.transpose()?.unwrap_or_default();
    let inputs = setting.map(|setting| PathBuf::from(&setting.text));
    let runs = Runs {
        command,
        quiet_flag: words.flag("quiet"),
        file,
        inputs: inputs.into_iter().collect(),
    };
    let is_dry_run = given.switch("dry-run")?;
    let place = Place::find(&given)?;
    let Some(setting) = given.get("sweep") else {
        let (experiment, output) = runs.plan(&given, place.processes())?;
        let experiment = match place {
            Place::Alone => experiment,
            Place::Rank(rank, sharing, meet) => ranks::part(experiment, rank, sharing, meet)?,
            Place::Launcher(ranks) => {
                let launch = Launch::new(&experiment, ranks)?;
                return match is_dry_run {
                    true => Ok(Request::Print(experiment::describe_ranks(
                        &experiment,
                        ranks,
                    )?)),
                    false => Ok(Request::Launch(launch)),
                };
            }
        };
        return Ok(match is_dry_run {
            true => Request::Print(experiment::describe(&experiment)),
            false => Request::Run(Box::new(experiment), output),
        });
    };
    let axis = Axis::new(setting, &given)?;
    let planned = axis.of_runs(&given)?.into_iter().map(|of_run| {
        let planned = runs.plan(&of_run, Processes::One);
        planned.map_err(|error| setting.error(error).into())
    });
    let planned = planned.collect::<Result<Vec<_>, UsageError>>()?;
    if is_dry_run {
        let names = axis.names();
        let plans = names.zip(planned).map(|(name, (experiment, _))| {
            format!("{name}\n\n{}\n", experiment::describe(&experiment))
        });
        return Ok(Request::Print(plans.collect()));
    }
    let outputs = sweep::of_comparison(&given);
    let check = |path: &Path| check_comparison(path, planned.len());
    let comparisons = files::destinations(&outputs, &runs.inputs, check)?;
    Sweep::new(&axis, planned, comparisons).map(Request::Sweep)
}

/// What the runs of a command line have in common.
struct Runs {
    command: String,
    quiet_flag: String,
    file: Scenario,
    inputs: Vec<PathBuf>,
}

impl Runs {
    /// Plans the run that has the flags `given`, of which this machine has `processes`.
    ///
    /// # Errors
    /// With one line that says what was wrong and what is expected.
    fn plan(
        &self,
        given: &Settings,
        processes: Processes,
    ) -> Result<(Experiment, Output), UsageError> {
        let scenario = self.file.clone().overlaid(&given.of_experiment());
        let experiment = match given.switch("dry-run")? {
            true => experiment::draft(&scenario, processes)?,
            false => experiment::plan_for(&scenario, processes)?,
        };
        let reports = files::destinations(&scenario.settings, &self.inputs, check_file)?;
        let (json, quiet) = (given.switch("json")?, given.switch("quiet")?);
        let taken = |to: &WriteTo| match to {
            WriteTo::StandardError if quiet => Some(self.quiet_flag.clone()),
            WriteTo::StandardOutput if json => {
                Some("--json, which takes standard output too".to_owned())
            }
            _ => None,
        };
        let (settings, inputs) = (&scenario.settings, &self.inputs);
        files::check_sockets(&experiment, settings, inputs, &reports)?;
        files::check_instruments(&experiment, settings, inputs, &reports, taken)?;
        let expectations = expectations(settings)?;
        let mut of_floods = settings.all("expect").iter().zip(&expectations);
        if let Some((setting, _)) = of_floods.find(|(_, one)| one.is_of_floods())
            && !experiment.counts_floods()
        {
            return Err(setting.error(UNCOUNTED).into());
        }
        let mut of_moves = settings.all("expect").iter().zip(&expectations);
        if let Some((setting, _)) = of_moves.find(|(_, one)| one.is_of_moves())
            && !experiment.may_move_pinged_vms()
        {
            return Err(setting.error(UNMOVED).into());
        }
        if let Some(setting) = settings.get("expect")
            && !experiment.has_load()
        {
            let why =
                "nothing is pinged; expected a ping pattern beside it, such as --ping vm0:vm1";
            return Err(setting.error(why).into());
        }
        let output = Output {
            command: self.command.clone(),
            quiet,
            json,
            reports,
            expectations,
        };
        Ok((experiment, output))
    }
}

/// A text that the operand chooses.
fn document(words: &Words, matches: &ArgMatches<'_>) -> Result<Request, UsageError> {
    let subcommand = words.subcommand;
    let name = subcommand.name();
    let operands = subcommand.operands().into_iter();
    let choices: Vec<&str> = operands.flat_map(|operand| operand.choices).collect();
    let expected = any_of(&choices);
    let Some(found) = matches.value_of(app::OPERAND) else {
        return Err(UsageError::new(format_args!(
            "{name}: expected {expected} after it"
        )));
    };
    let text = match (subcommand, found) {
        (Subcommand::Completions, shell) => completions::render(shell),
        (_, "scenario") => Some(schema::scenario()),
        (_, "report") => Some(schema_json()),
        (_, "comparison") => Some(comparison_schema_json()),
        (_, "search") => Some(search_schema_json()),
        (_, "control") => Some(control::description()),
        (_, instrument) => line_schema_json(instrument),
    };
    text.map(Request::Print).ok_or_else(|| {
        let meant = suggestion(found, "", choices.iter().copied());
        UsageError::new(format_args!("{name} {found}: expected {expected}{meant}"))
    })
}

/// Why a figure of moves can't be expected to be something.
const UNMOVED: &str =
    "no VM moves that is pinged or pings; expected --move beside it, and a ping pattern";

/// Why a figure of floods can't be expected to be something.
const UNCOUNTED: &str = "floods are not counted; expected --count-floods beside it";

fn expectations(settings: &Settings) -> Result<Vec<Expectation>, SettingError> {
    let all = settings.all("expect").iter();
    all.map(|setting| setting.text.parse().map_err(|error| setting.error(error)))
        .collect()
}

/// The options that were given, under their names, as they were typed.
fn settings(words: &Words, matches: &ArgMatches<'_>) -> Settings {
    let mut settings = Settings::default();
    for option in words.subcommand.options() {
        let implied = option.implied.unwrap_or("on");
        let values = matches.values_of(option.name).into_iter().flatten();
        let mut values: Vec<&str> = values.collect();
        if values.is_empty() && matches.is_present(option.name) {
            values.push(implied);
        }
        for (number, text) in values.into_iter().enumerate() {
            let is_short = words.is_short(option.name, number).unwrap_or(false);
            settings.add(Setting {
                name: option.name,
                text: text.to_owned(),
                origin: Origin::Flag { is_short },
            });
        }
    }
    settings
}

#[cfg(test)]
mod tests;
