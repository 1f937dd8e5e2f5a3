//! The `report` subcommand: reports saved runs again, each by itself, merged, or compared.

use std::collections::HashSet;
use std::path::PathBuf;

use structopt::clap::ArgMatches;
use tap_reactor::report::{
    self, Change, Destination, Expectation, LoadError, NotOneExperiment, Report, check_comparison,
    check_file,
};

use super::app::OPERAND;
use super::console;
use super::files::destinations;
use super::run::{RunError, WIDTH};
use super::words::Words;
use super::{UsageError, expectations, settings};

/// A call of the `report` subcommand.
#[derive(Clone, PartialEq, Debug)]
pub struct ReportRequest {
    /// The files, `.json` reports.
    pub files: Vec<PathBuf>,
    /// The kind of report.
    pub mode: ReportMode,
    /// Print one JSON document.
    pub json: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// Files for the report; the ending of each says its format.
    pub reports: Vec<Destination>,
    /// Merge runs even if they are not of one experiment.
    pub allow_different: bool,
    /// Expectations that the figures are held to; of a comparison, those of every run but the first.
    pub expectations: Vec<Expectation>,
    /// Fail if any of the compared runs differs from the first.
    pub fail_on_change: bool,
}

/// The kind of report of saved runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportMode {
    /// Each by itself.
    Each,
    /// All as one run.
    Merge,
    /// Each against the first.
    Compare,
}

/// An error of the `report` subcommand.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file is no report.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Runs can't be merged.
    #[error("--merge: {0} (--allow-different merges them nevertheless)")]
    Different(#[from] NotOneExperiment),
    /// The report could not be written.
    #[error(transparent)]
    Output(#[from] RunError),
}

impl ReportRequest {
    /// Reads the options and operands of the subcommand.
    ///
    /// # Errors
    /// If they contradict each other, or a file can't be written.
    pub fn new(words: &Words, matches: &ArgMatches<'_>) -> Result<ReportRequest, UsageError> {
        let given = settings(words, matches);
        let files = matches.values_of(OPERAND).into_iter().flatten();
        let files: Vec<PathBuf> = files.map(PathBuf::from).collect();
        let is_on = |name| given.switch(name);
        let (merge, compare) = (is_on("merge")?, is_on("compare")?);
        for (name, other, is_there) in [
            ("allow-different", "merge", merge),
            ("fail-on-change", "compare", compare),
        ] {
            if is_on(name)? && !is_there {
                return Err(UsageError::new(format_args!("--{name}: needs --{other}")));
            }
        }
        let mode = match (merge, compare) {
            (true, true) => return Err(UsageError::new("--merge: cannot be used with --compare")),
            (true, false) => ReportMode::Merge,
            (false, true) => ReportMode::Compare,
            (false, false) => ReportMode::Each,
        };
        if mode == ReportMode::Merge
            && let Some(again) = twice(&files)
        {
            let why = format_args!(
                "report: {}: given twice; expected each run once",
                again.display()
            );
            return Err(UsageError::new(why));
        }
        let why = match (mode, files.len()) {
            (_, 0) => Some("expected the files of saved runs, such as run.json".to_owned()),
            (ReportMode::Compare, 1) => Some(
                "--compare: expected two files or more, the first of them the baseline".to_owned(),
            ),
            (ReportMode::Each, 2..) => {
                let whole = ["json", "output"].into_iter().find_map(|name| {
                    let flag = given.get(name).filter(|setting| !setting.is_off())?;
                    Some(flag.flag())
                });
                whole.map(|flag| {
                    format!(
                        "{flag}: a document holds one run; expected one file, --merge or --compare"
                    )
                })
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err(UsageError::new(format_args!("report: {why}")));
        }
        let reports = match mode {
            ReportMode::Compare => {
                destinations(&given, &files, |path| check_comparison(path, files.len()))?
            }
            ReportMode::Each | ReportMode::Merge => destinations(&given, &files, check_file)?,
        };
        Ok(ReportRequest {
            files,
            mode,
            json: is_on("json")?,
            quiet: is_on("quiet")?,
            reports,
            allow_different: is_on("allow-different")?,
            fail_on_change: is_on("fail-on-change")?,
            expectations: expectations(&given)?,
        })
    }
}

/// The first file that was named before, under whatever name.
fn twice(files: &[PathBuf]) -> Option<&PathBuf> {
    // A file that does not exist is an error when it is read.
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let mut seen = HashSet::new();
    files.iter().find(|path| !seen.insert(real(path)))
}

/// Reads the files and reports them. Returns true if all expectations hold and no run differs where none may.
pub fn report(request: ReportRequest) -> Result<bool, ReportError> {
    let mut reports = request
        .files
        .iter()
        .map(|path| report::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    if request.mode == ReportMode::Merge {
        if !request.allow_different {
            report::check_one_experiment(&reports)?;
        }
        reports = report::merge(&reports).into_iter().collect();
    }
    let mut names = request.files.iter().map(|path| path.display().to_string());
    let named: Vec<_> = match request.mode {
        ReportMode::Merge => vec!["merged".to_owned()],
        ReportMode::Each | ReportMode::Compare => names.by_ref().collect(),
    };
    let mut is_met = true;
    // Of runs that are compared, the first is what the others are judged by.
    let first = usize::from(request.mode == ReportMode::Compare);
    for (report, name) in reports.iter_mut().zip(&named).skip(first) {
        if request.expectations.is_empty() {
            break;
        }
        is_met &= report.expect(&request.expectations);
        for unmet in report.expectations.iter().filter(|outcome| !outcome.holds) {
            console::eprint(format_args!("tap-reactor: {name}: {unmet}"));
        }
    }
    if request.mode == ReportMode::Compare {
        let names = named.iter().map(String::as_str);
        let runs: Vec<_> = names.zip(&reports).collect();
        return Ok(compare(request, &runs)? && is_met);
    }
    each(request, &reports)?;
    Ok(is_met)
}

/// Reports runs one by one. A file holds one.
fn each(request: ReportRequest, reports: &[Report]) -> Result<(), RunError> {
    for file in request.reports {
        if let Some(report) = reports.first() {
            report::write_file(file, report)?;
        }
    }
    for report in reports {
        match (request.json, request.quiet) {
            (true, _) => console::print(|out| report::json(report, out))?,
            (false, true) => {}
            (false, false) => console::print(|out| report::text(report, out, WIDTH))?,
        }
    }
    Ok(())
}

/// Reports runs side by side. Returns whether all are as much the same as the first as they were expected to be.
fn compare(request: ReportRequest, runs: &[(&str, &Report)]) -> Result<bool, RunError> {
    for file in request.reports {
        report::write_comparison(file, runs)?;
    }
    let comparisons = report::compare(runs);
    match (request.json, request.quiet) {
        (true, _) => console::print(|out| report::compare_json(&comparisons, out))?,
        (false, true) => {}
        (false, false) => console::print(|out| report::compare_text(&comparisons, out))?,
    }
    let mut is_as_wanted = true;
    let changed = comparisons
        .iter()
        .filter(|each| each.change() != Change::No);
    for changed in changed.filter(|_| request.fail_on_change) {
        is_as_wanted = false;
        let sentence = changed.sentence();
        match comparisons.len() {
            1 => console::eprint(format_args!("tap-reactor: {sentence}")),
            _ => console::eprint(format_args!(
                "tap-reactor: {}: {sentence}",
                changed.after.name
            )),
        }
    }
    Ok(is_as_wanted)
}
