//! The `report` subcommand: reports saved runs again, each by itself, merged, or compared.

use tap_reactor::report::{self, Change, LoadError, NotOneExperiment, Report};

use super::console;
use super::run::{RunError, WIDTH};
use super::{ReportMode, ReportRequest};

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
