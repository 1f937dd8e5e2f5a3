//! The `report` subcommand: reports saved runs again, each by itself, merged, or compared.

use std::io;

use tap_reactor::report::{self, Change, LoadError, NotOneExperiment, Report};

use super::console::{self, Out};
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

/// Tells runs one by one. A page holds one.
fn each(request: ReportRequest, reports: &[Report]) -> Result<(), RunError> {
    let is_page = request.html.is_some();
    if let Some((page, report)) = request.html.zip(reports.first()) {
        report::write_file(page, report)?;
    }
    for report in reports {
        print(
            (request.json, is_page),
            |out| report::json(report, out),
            |out| report::text(report, out, WIDTH),
        )?;
    }
    Ok(())
}

/// Tells two runs side by side. Tells whether they are as much the same as they were to be.
fn compare(
    request: ReportRequest,
    before: (&str, &Report),
    after: (&str, &Report),
) -> Result<bool, RunError> {
    let is_page = request.html.is_some();
    if let Some(page) = request.html {
        report::write_comparison(page, before, after)?;
    }
    let comparison = report::compare(before, after);
    print(
        (request.json, is_page),
        |out| report::compare_json(&comparison, out),
        |out| report::compare_text(&comparison, out),
    )?;
    let is_as_wanted = !request.fail_on_change || comparison.change() == Change::No;
    if !is_as_wanted {
        console::eprint(format_args!("tap-reactor: {}", comparison.sentence()));
    }
    Ok(is_as_wanted)
}

/// Prints the JSON document or the text, whichever is asked for; nothing where a page is.
fn print(
    (as_json, is_page): (bool, bool),
    json: impl FnOnce(&mut Out) -> io::Result<()>,
    text: impl FnOnce(&mut Out) -> io::Result<()>,
) -> Result<(), RunError> {
    if as_json {
        console::print(json)?;
    } else if !is_page {
        console::print(text)?;
    }
    Ok(())
}
