//! Saved runs, told again: each by itself, merged, or compared.

use std::io;

use tap_reactor::report::{self, Change, LoadError, NotOneExperiment, Report};

use crate::cli::{Saved, Telling};
use crate::console::{self, Out};
use crate::run::{RunError, WIDTH};

/// Why saved runs could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
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
pub fn tell(saved: Saved) -> Result<bool, SavedError> {
    let mut reports = saved
        .files
        .iter()
        .map(|path| report::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    if saved.telling == Telling::Merged {
        if !saved.allow_different {
            report::check_one_experiment(&reports)?;
        }
        reports = report::merge(&reports).into_iter().collect();
    }
    let mut names = saved.files.iter().map(|path| path.display().to_string());
    let named: Vec<_> = match saved.telling {
        Telling::Merged => vec!["merged".to_owned()],
        Telling::Each | Telling::Compared => names.by_ref().collect(),
    };
    let mut is_met = true;
    // Of two runs that are compared, the second is judged.
    let first = usize::from(saved.telling == Telling::Compared);
    for (report, name) in reports.iter_mut().zip(&named).skip(first) {
        if saved.expectations.is_empty() {
            break;
        }
        is_met &= report.expect(&saved.expectations);
        for unmet in report.expectations.iter().filter(|outcome| !outcome.holds) {
            console::tell(format_args!("tap-reactor: {name}: {unmet}"));
        }
    }
    match (saved.telling, reports.as_slice(), named.as_slice()) {
        (Telling::Compared, [before, after], [one, other]) => {
            Ok(compare(saved, (one, before), (other, after))? && is_met)
        }
        (_, reports, _) => {
            each(saved, reports)?;
            Ok(is_met)
        }
    }
}

/// Tells runs one by one. A page holds one.
fn each(saved: Saved, reports: &[Report]) -> Result<(), RunError> {
    let is_page = saved.html.is_some();
    if let Some((page, report)) = saved.html.zip(reports.first()) {
        report::write_file(page, report)?;
    }
    for report in reports {
        print(
            (saved.json, is_page),
            |out| report::json(report, out),
            |out| report::text(report, out, WIDTH),
        )?;
    }
    Ok(())
}

/// Tells two runs side by side. Tells whether they are as much the same as they were to be.
fn compare(
    saved: Saved,
    before: (&str, &Report),
    after: (&str, &Report),
) -> Result<bool, RunError> {
    let is_page = saved.html.is_some();
    if let Some(page) = saved.html {
        report::write_comparison(page, before, after)?;
    }
    let comparison = report::compare(before, after);
    print(
        (saved.json, is_page),
        |out| report::compare_json(&comparison, out),
        |out| report::compare_text(&comparison, out),
    )?;
    let is_as_wanted = !saved.fail_on_change || comparison.change() == Change::No;
    if !is_as_wanted {
        console::tell(format_args!("tap-reactor: {}", comparison.sentence()));
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
