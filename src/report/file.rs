//! Reports as files, in the format that the ending asks for.

use std::path::Path;

use super::{Destination, DestinationError, Format, FormatError, Report, SearchReport};

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name of the file says no format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// It can't be written where it was to go.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

/// Makes sure before a run that a report can be written to `path` after it, as far as that can be known; leaves nothing
/// there.
///
/// # Errors
/// When the ending is not known, or it can't be written there.
pub fn check_file(path: &Path) -> Result<Destination, FileError> {
    Format::of(path)?;
    Ok(Destination::new(path)?)
}

/// Writes `report` in the format that the ending asks for.
///
/// # Errors
/// When the ending is not known, the name says a mark that was never set, or the system refuses.
pub fn write_file(destination: Destination, report: &Report) -> Result<(), FileError> {
    let format = Format::of(destination.path())?;
    format.check(report)?;
    Ok(destination.write(|mut out| format.write(report, &mut out))?)
}

/// Makes sure that a comparison of so many runs can be written to `path`, as [`check_file`] does for a report.
///
/// # Errors
/// When the ending is none that a comparison can have, the format doesn't take so many runs, or it can't be written there.
pub fn check_comparison(path: &Path, runs: usize) -> Result<Destination, FileError> {
    Format::of_comparison(path, runs)?;
    Ok(Destination::new(path)?)
}

/// Writes a comparison of runs with the first of them, the baseline: a page if the name ends in `.html`, JSON if it ends in
/// `.json`. Each run comes with its name, such as its file's.
///
/// # Errors
/// When the ending is another, the format doesn't take so many runs, or the system refuses.
pub fn write_comparison(
    destination: Destination,
    runs: &[(&str, &Report)],
) -> Result<(), FileError> {
    let format = Format::of_comparison(destination.path(), runs.len())?;
    Ok(destination.write(|mut out| format.write_comparison(runs, &mut out))?)
}

/// Makes sure that what a search will find can be written to `path`, as [`check_file`] does for a report.
///
/// # Errors
/// When the ending is none that a search can have, or it can't be written there.
pub fn check_search(path: &Path) -> Result<Destination, FileError> {
    Format::of_search(path)?;
    Ok(Destination::new(path)?)
}

/// Writes what a search has found: a page if the name ends in `.html`, JSON if it ends in `.json`.
///
/// # Errors
/// When the ending is another, or the system refuses.
pub fn write_search(destination: Destination, report: &SearchReport) -> Result<(), FileError> {
    let format = Format::of_search(destination.path())?;
    Ok(destination.write(|mut out| format.write_search(report, &mut out))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::fixtures;

    #[test]
    fn every_format_is_written_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut names: Vec<_> = Format::all().map(|f| format!("r.{}", f.ending())).collect();
        names.push("r.response.hgrm".to_owned());
        for name in &names {
            let path = folder.path().join(name);
            // A second time over the first.
            for _ in 0..2 {
                write_file(check_file(&path).unwrap(), &fixtures::report()).unwrap();
                assert!(fs::metadata(&path).unwrap().len() > 100, "{name}");
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len());
        let tables =
            ["r.hgrm", "r.response.hgrm"].map(|name| fs::read(folder.path().join(name)).unwrap());
        assert_ne!(tables[0], tables[1]);
    }

    #[test]
    fn a_comparison_is_a_page_or_a_document() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (fixtures::report(), fixtures::slower(2));
        for (name, written) in [
            ("c.html", true),
            ("c.json", true),
            ("c.csv", false),
            ("c", false),
        ] {
            let path = folder.path().join(name);
            let destination = Destination::new(&path).unwrap();
            let result = write_comparison(destination, &[("a", &before), ("b", &after)]);
            assert_eq!(result.is_ok(), written, "{name}");
            assert_eq!(path.exists(), written, "{name}");
        }
    }
}
