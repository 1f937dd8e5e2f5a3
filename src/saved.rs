//! Saved runs, told again: each by itself, merged, or compared.

use std::io;
use std::path::Path;

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
pub fn tell(saved: &Saved) -> Result<(), SavedError> {
    let reports = saved
        .files
        .iter()
        .map(|path| report::load(path))
        .collect::<Result<Vec<_>, _>>()?;
    match (saved.telling, reports.as_slice()) {
        (Telling::Compared, [before, after]) => {
            let names: Vec<String> = saved
                .files
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let [one, other] = names.as_slice() else {
                return Ok(());
            };
            Ok(compare(saved, (one, before), (other, after))?)
        }
        (Telling::Merged, reports) => {
            let merged = report::merge(reports);
            Ok(merged.iter().try_for_each(|report| each(saved, report))?)
        }
        (_, reports) => Ok(reports.iter().try_for_each(|report| each(saved, report))?),
    }
}

fn each(saved: &Saved, report: &Report) -> Result<(), RunError> {
    if let Some(path) = &saved.html {
        report::write_file(path, report)?;
    }
    print(
        saved,
        |out| report::json(report, out),
        |out| report::text(report, out, WIDTH),
    )
}

fn compare(saved: &Saved, before: (&str, &Report), after: (&str, &Report)) -> Result<(), RunError> {
    if let Some(path) = &saved.html {
        report::write_comparison(Path::new(path), before, after)?;
    }
    let comparison = report::compare(before, after);
    print(
        saved,
        |out| report::compare_json(&comparison, out),
        |out| report::compare_text(&comparison, out),
    )
}

/// Prints the JSON document or the text, whichever is asked for; nothing where a page is.
fn print(
    saved: &Saved,
    json: impl FnOnce(&mut Out) -> io::Result<()>,
    text: impl FnOnce(&mut Out) -> io::Result<()>,
) -> Result<(), RunError> {
    if saved.json {
        console::print(json)?;
    } else if saved.html.is_none() {
        console::print(text)?;
    }
    Ok(())
}
