//! Reports as files, in the format that the ending asks for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{
    Destination, DestinationError, Histograms, Report, compare, compare_html, compare_json, csv,
    hgrm, hlog, html, json,
};
use crate::record::Latency;

/// What a report file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `.json`: the whole document, as `--json` prints it.
    Json,
    /// `.csv`: a row per flow.
    Csv,
    /// `.hgrm`: the percentile table of HdrHistogram plotters.
    Hgrm,
    /// `.hlog`: the interval log of HdrHistogram tools.
    Hlog,
    /// `.html`: a page to look at.
    Html,
}

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The ending of the name says no format.
    #[error(
        "report {}: the name must end in .json, .csv, .hgrm, .hlog or .html, which says the format",
        .0.display()
    )]
    UnknownEnding(PathBuf),
    /// The ending of the name says no format that a comparison can have.
    #[error("comparison {}: the name must end in .html or .json, which says the format", .0.display())]
    NoComparison(PathBuf),
    /// It can't be written where it was to go.
    #[error(transparent)]
    Destination(#[from] DestinationError),
}

impl Format {
    /// The format that the ending of `path` asks for.
    ///
    /// # Errors
    /// When there is none, or none that is known.
    pub fn of(path: &Path) -> Result<Format, FileError> {
        match path.extension().and_then(OsStr::to_str) {
            Some("json") => Ok(Format::Json),
            Some("csv") => Ok(Format::Csv),
            Some("hgrm") => Ok(Format::Hgrm),
            Some("hlog") => Ok(Format::Hlog),
            Some("html") => Ok(Format::Html),
            _ => Err(FileError::UnknownEnding(path.to_owned())),
        }
    }
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
/// A `.hgrm` holds the rtt, or the histogram that the name says before the ending: `run.response.hgrm`,
/// `run.lateness.hgrm` and so on.
///
/// # Errors
/// When the ending is not known, or the system refuses.
pub fn write_file(destination: Destination, report: &Report) -> Result<(), FileError> {
    let path = destination.path().to_owned();
    let format = Format::of(&path)?;
    Ok(destination.write(|mut out| match format {
        Format::Json => json(report, &mut out),
        Format::Csv => csv(report, &mut out),
        Format::Hgrm => hgrm(histogram_named_in(&path, &report.histograms), &mut out),
        Format::Hlog => hlog(report, &mut out),
        Format::Html => html(report, &mut out),
    })?)
}

/// Writes a comparison of `after` with `before`: a page if the name ends in `.html`, one JSON document if it ends in
/// `.json`. Each run comes with what to call it, such as its file's name.
///
/// # Errors
/// When the ending is another, or the system refuses.
pub fn write_comparison(
    destination: Destination,
    before: (&str, &Report),
    after: (&str, &Report),
) -> Result<(), FileError> {
    match Format::of(destination.path()) {
        Ok(Format::Html) => destination.write(|mut out| compare_html(before, after, &mut out))?,
        Ok(Format::Json) => {
            destination.write(|mut out| compare_json(&compare(before, after), &mut out))?
        }
        _ => return Err(FileError::NoComparison(destination.path().to_owned())),
    }
    Ok(())
}

/// The histogram that a name such as `run.response.hgrm` asks for.
fn histogram_named_in<'a>(path: &Path, histograms: &'a Histograms) -> &'a Latency {
    let stem = path.file_stem().map(Path::new);
    match stem.and_then(Path::extension).and_then(OsStr::to_str) {
        Some("response") => &histograms.response,
        Some("lateness") => &histograms.lateness,
        Some("resolution") => &histograms.resolution,
        Some("resolution6") => &histograms.resolution6,
        Some("lease") => &histograms.lease,
        Some("first") => &histograms.first,
        Some("lag") => &histograms.lag,
        _ => &histograms.rtt,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::samples;

    #[test]
    fn the_ending_says_the_format_and_an_unknown_one_is_refused() {
        for (name, format) in [
            ("a.json", Some(Format::Json)),
            ("b/a.b.csv", Some(Format::Csv)),
            ("a.hgrm", Some(Format::Hgrm)),
            ("a.hlog", Some(Format::Hlog)),
            ("a.html", Some(Format::Html)),
            ("a.pdf", None),
            ("json", None),
            (".json", None),
            ("", None),
        ] {
            assert_eq!(Format::of(Path::new(name)).ok(), format, "{name}");
        }
        let error = Format::of(Path::new("a.pdf")).unwrap_err().to_string();
        assert_eq!(
            error,
            "report a.pdf: the name must end in .json, .csv, .hgrm, .hlog or .html, which says the format"
        );
    }

    #[test]
    fn every_format_is_written_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "r.json",
            "r.csv",
            "r.hgrm",
            "r.response.hgrm",
            "r.hlog",
            "r.html",
        ];
        for name in names {
            let path = folder.path().join(name);
            // A second time over the first.
            for _ in 0..2 {
                write_file(check_file(&path).unwrap(), &samples::report()).unwrap();
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
        let (before, after) = (samples::report(), samples::slower(2));
        for (name, written) in [
            ("c.html", true),
            ("c.json", true),
            ("c.csv", false),
            ("c", false),
        ] {
            let path = folder.path().join(name);
            let destination = Destination::new(&path).unwrap();
            let result = write_comparison(destination, ("a", &before), ("b", &after));
            assert_eq!(result.is_ok(), written, "{name}");
            assert_eq!(path.exists(), written, "{name}");
        }
    }
}
