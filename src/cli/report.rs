//! The `report` subcommand: reports saved runs again, each by itself, merged, or compared.

use tap_reactor::report::{self, Change, LoadError, NotOneExperiment, Report};

use super::console;
use super::run::{RunError, WIDTH};
use super::{ReportMode, ReportRequest};

/// Why saved runs could not be told.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file is no report.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Runs can't be merged.
    #[error("--merge: {0} (--allow-different merges them nevertheless)")]
    Different(#[from] NotOneExperiment),
    /// What was to be told could not be written.
    #[error(transparent)]
    Output(#[from] RunError),
}

/// Reads the files, and tells them as asked. Tells whether they are as they were expected to be.
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
    // Of two runs that are compared, the second is judged.
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
    match (request.mode, reports.as_slice(), named.as_slice()) {
        (ReportMode::Compare, [before, after], [one, other]) => {
            Ok(compare(request, (one, before), (other, after))? && is_met)
        }
        (_, reports, _) => {
            each(request, reports)?;
            Ok(is_met)
        }
    }
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

/// Reports two runs side by side. Returns whether they are as much the same as they were to be.
fn compare(
    request: ReportRequest,
    before: (&str, &Report),
    after: (&str, &Report),
) -> Result<bool, RunError> {
    for file in request.reports {
        report::write_comparison(file, before, after)?;
    }
    let comparison = report::compare(before, after);
    match (request.json, request.quiet) {
        (true, _) => console::print(|out| report::compare_json(&comparison, out))?,
        (false, true) => {}
        (false, false) => console::print(|out| report::compare_text(&comparison, out))?,
    }
    let is_as_wanted = !request.fail_on_change || comparison.change() == Change::No;
    if !is_as_wanted {
        console::eprint(format_args!("tap-reactor: {}", comparison.sentence()));
    }
    Ok(is_as_wanted)
}
