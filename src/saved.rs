//! Saved runs, told again: each by itself, merged, or compared.

use std::io;

use tap_reactor::report::{self, LoadError, Report};

use crate::cli::{Saved, Telling};
use crate::console::{self, Out};
use crate::run::{RunError, WIDTH};

/// Why saved runs could not be told.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A file is no report.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// What was to be told could not be written.
    #[error(transparent)]
    Output(#[from] RunError),
}

/// Reads the files, and tells them as asked.
pub fn tell(saved: Saved) -> Result<(), SavedError> {
    let reports = saved
        .files
        .iter()
        .map(|path| report::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    match (saved.telling, reports.as_slice(), saved.files.as_slice()) {
        (Telling::Compared, [before, after], [one, other]) => {
            let [one, other] = [one, other].map(|path| path.display().to_string());
            Ok(compare(saved, (&one, before), (&other, after))?)
        }
        (Telling::Merged, reports, _) => match report::merge(reports) {
            Some(merged) => Ok(each(saved, &[merged])?),
            None => Ok(()),
        },
        (_, reports, _) => Ok(each(saved, reports)?),
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

fn compare(saved: Saved, before: (&str, &Report), after: (&str, &Report)) -> Result<(), RunError> {
    let is_page = saved.html.is_some();
    if let Some(page) = saved.html {
        report::write_comparison(page, before, after)?;
    }
    let comparison = report::compare(before, after);
    print(
        (saved.json, is_page),
        |out| report::compare_json(&comparison, out),
        |out| report::compare_text(&comparison, out),
    )
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
