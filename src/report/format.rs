//! The table of the formats in which a report is written: one row for each ending of a file's name.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;

use super::csv::csv_piece;
use super::hlog::hlog_piece;
use super::html::MOST_RUNS;
use super::html::html_piece;
use super::json::json_piece;
use super::junit::{junit_piece, search_junit};
use super::markdown::{markdown_piece, search_markdown};
use super::marks::Marks;
use super::pieces::{self, Next, WritePiece};
use super::search::{SearchReport, search_json};
use super::{Report, compare, compare_html, compare_json, hgrm, search_html};
use crate::record::{Latency, MarkMetric, MarkName, Metric};

/// A row: what the name of a file ends in, and what is written into it.
#[derive(Debug)]
struct Row {
    ending: &'static str,
    doc: &'static str,
    media_type: &'static str,
    write: Writer,
    compare: Option<Comparer>,
    search: Option<WriteSearch>,
}

/// Writes what a search has found.
type WriteSearch = fn(&SearchReport, &mut dyn Write) -> io::Result<()>;

/// How a comparison is written.
#[derive(Clone, Copy, Debug)]
struct Comparer {
    write: WriteComparison,
    /// No more runs than this.
    most: usize,
}

/// Writes runs, the baseline first, each with its name.
type WriteComparison = fn(&[(&str, &Report)], &mut dyn Write) -> io::Result<()>;

/// The writer of a format.
#[derive(Debug)]
enum Writer {
    /// The whole run, in pieces.
    Run(WritePiece),
    /// One histogram, that of the metric that the name says before its ending.
    Histogram(fn(&Latency, &mut dyn Write) -> io::Result<()>),
}

/// The media type of a format that has none of its own.
const PLAIN: &str = "text/plain";

const ROWS: &[Row] = &[
    Row {
        ending: "json",
        doc: "the whole document, as --json prints it",
        media_type: "application/json",
        write: Writer::Run(json_piece),
        compare: Some(Comparer {
            write: |runs, mut out| compare_json(&compare(runs), &mut out),
            most: usize::MAX,
        }),
        search: Some(|report, mut out| search_json(report, &mut out)),
    },
    Row {
        ending: "csv",
        doc: "a table: a row for the run, one for each phase, flow, mark and flow of a mark",
        media_type: "text/csv",
        write: Writer::Run(csv_piece),
        compare: None,
        search: None,
    },
    Row {
        ending: "hgrm",
        doc: "the percentiles of one metric for the plotters of HdrHistogram: of the rtt, or NAME.METRIC.hgrm, such as \
              NAME.mark.policy.first_pass.hgrm",
        media_type: PLAIN,
        write: Writer::Histogram(|latency, mut out| hgrm(latency, &mut out)),
        compare: None,
        search: None,
    },
    Row {
        ending: "hlog",
        doc: "the interval log of the tools of HdrHistogram",
        media_type: PLAIN,
        write: Writer::Run(hlog_piece),
        compare: None,
        search: None,
    },
    Row {
        ending: "junit.xml",
        doc: "test cases for CI: one for each expectation, and one that the run is complete",
        media_type: "application/xml",
        write: Writer::Run(junit_piece),
        compare: None,
        search: Some(search_junit),
    },
    Row {
        ending: "md",
        doc: "a summary in Markdown, for the job pages of GitHub and GitLab",
        media_type: "text/markdown",
        write: Writer::Run(markdown_piece),
        compare: None,
        search: Some(search_markdown),
    },
    Row {
        ending: "html",
        doc: "a page to look at",
        media_type: "text/html",
        write: Writer::Run(html_piece),
        compare: Some(Comparer {
            write: |runs, mut out| compare_html(runs, &mut out),
            most: MOST_RUNS,
        }),
        search: Some(|report, mut out| search_html(report, &mut out)),
    },
];

/// Why the name of a file says no format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// The ending is none of the table's.
    #[error("the ending says the format; expected {}", Format::endings(|_| true))]
    UnknownEnding,
    /// The ending is none that a comparison can have.
    #[error(
        "the ending says the format; expected {} for a comparison",
        Format::endings(|row| row.compare.is_some())
    )]
    NoComparison,
    /// The ending is none that a search can have.
    #[error(
        "the ending says the format; expected {} for a search",
        Format::endings(|row| row.search.is_some())
    )]
    NoSearch,
    /// The format doesn't take so many runs.
    #[error("expected at most {most} runs, each of which has a colour of its own, found {found}")]
    TooManyRuns {
        /// How many runs it takes.
        most: usize,
        /// How many there are.
        found: usize,
    },
    /// The name says a metric that there is not.
    #[error(
        "no metric is named {found:?}; expected a name without a further dot, for the rtt, or before .{ending} one of {}, or \
         mark.NAME and one of {}",
        Metric::names(),
        MarkMetric::names()
    )]
    UnknownMetric {
        /// The text in place of a metric.
        found: String,
        /// The ending.
        ending: &'static str,
    },
    /// The name says a mark that was not set.
    #[error("no mark {name} was set; expected one that was{}", those(.set))]
    UnknownMark {
        /// The name.
        name: MarkName,
        /// The names of those that were set.
        set: Vec<String>,
    },
}

/// The names of marks, behind what they are.
fn those(set: &[String]) -> String {
    match set {
        [] => ", but there is none".to_owned(),
        set => format!(": {}", set.join(", ")),
    }
}

/// The format of a report file.
#[derive(Clone, Debug)]
pub struct Format {
    row: &'static Row,
    /// Which histogram, where it holds only one.
    metric: OneMetric,
}

/// The metric of a file that holds a single histogram.
#[derive(Clone, PartialEq, Eq, Debug)]
enum OneMetric {
    OfRun(Metric),
    /// Of the marks of that name.
    OfMark(MarkName, MarkMetric),
}

impl OneMetric {
    /// Has `write` write the histogram of `report`.
    fn write(
        &self,
        report: &Report,
        write: fn(&Latency, &mut dyn Write) -> io::Result<()>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            OneMetric::OfRun(metric) => write(&report.histograms[*metric], out),
            OneMetric::OfMark(name, metric) => {
                let marks = Marks::named(report, name.as_str());
                let latency = marks.map(|marks| marks.latency(*metric));
                write(&latency.unwrap_or_default(), out)
            }
        }
    }

    /// Reads the metric at the end of a name without its ending: `a.boot`, `a.mark.policy.first_pass`. The rtt if there is no
    /// dot; the error is what stands in place of a metric.
    fn at_end(stem: &str) -> Result<OneMetric, &str> {
        let Some((before, name)) = stem.rsplit_once('.') else {
            return Ok(OneMetric::OfRun(Metric::Rtt));
        };
        if let Ok(metric) = name.parse() {
            return Ok(OneMetric::OfRun(metric));
        }
        let of_mark = || {
            let (before, mark) = before.rsplit_once('.')?;
            let is_mark = before == "mark" || before.ends_with(".mark");
            let metric = name.parse().ok().filter(|_| is_mark)?;
            Some(OneMetric::OfMark(mark.parse().ok()?, metric))
        };
        of_mark().ok_or(name)
    }
}

impl Format {
    /// The format that the name of `path` asks for.
    ///
    /// # Errors
    /// When its ending is not known, or it names a metric that there is not.
    pub fn of(path: &Path) -> Result<Format, FormatError> {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let stem_of = |row: &'static Row| {
            let stem = name.strip_suffix(row.ending)?.strip_suffix('.')?;
            (!stem.is_empty()).then_some((row, stem))
        };
        let found = ROWS.iter().find_map(stem_of);
        let (row, stem) = found.ok_or(FormatError::UnknownEnding)?;
        // A dot at the beginning hides the file.
        let stem = stem.strip_prefix('.').unwrap_or(stem);
        let metric = match row.write {
            Writer::Run(_) => OneMetric::OfRun(Metric::Rtt),
            Writer::Histogram(_) => {
                OneMetric::at_end(stem).map_err(|found| FormatError::UnknownMetric {
                    found: found.to_owned(),
                    ending: row.ending,
                })?
            }
        };
        Ok(Format { row, metric })
    }

    /// The format that the name of `path` asks for, for a comparison of so many runs.
    ///
    /// # Errors
    /// When a comparison has no such format, or one that doesn't take so many.
    pub fn of_comparison(path: &Path, runs: usize) -> Result<Format, FormatError> {
        let format = Format::of(path).ok();
        let found = format.and_then(|format| {
            let most = format.row.compare?.most;
            Some((format, most))
        });
        let (format, most) = found.ok_or(FormatError::NoComparison)?;
        match runs <= most {
            true => Ok(format),
            false => Err(FormatError::TooManyRuns { most, found: runs }),
        }
    }

    /// The format in which the name of `path` asks for what a search has found.
    ///
    /// # Errors
    /// When a search has no such format.
    pub fn of_search(path: &Path) -> Result<Format, FormatError> {
        let format = Format::of(path).ok();
        let format = format.filter(|format| format.row.search.is_some());
        format.ok_or(FormatError::NoSearch)
    }

    /// The ending of the file's name, without the dot.
    pub const fn ending(&self) -> &'static str {
        self.row.ending
    }

    /// The media type of what is written.
    pub const fn media_type(&self) -> &'static str {
        self.row.media_type
    }

    /// The format that `media_type` or a range of them (`text/*`) asks for, the first one that fits.
    pub fn of_media_type(media_type: &str) -> Option<Format> {
        let (kind, subtype) = media_type.split_once('/')?;
        let fits = |range: &str, name: &str| range == "*" || range.eq_ignore_ascii_case(name);
        Format::with_media_types().find(|format| {
            let own = format.row.media_type.split_once('/');
            own.is_some_and(|own| fits(kind, own.0) && fits(subtype, own.1))
        })
    }

    /// The formats with a media type that no other has.
    pub fn with_media_types() -> impl Iterator<Item = Format> {
        Format::all().filter(|format| format.row.media_type != PLAIN)
    }

    /// Every format; one of a single histogram has that of the rtt.
    pub fn all() -> impl Iterator<Item = Format> {
        ROWS.iter().map(|row| Format {
            row,
            metric: OneMetric::OfRun(Metric::Rtt),
        })
    }

    /// Every ending with what it stands for, for a help text.
    pub fn help() -> String {
        let formats: Vec<_> = Format::all()
            .map(|Format { row, .. }| format!(".{} ({})", row.ending, row.doc))
            .collect();
        formats.join(", ")
    }

    /// Makes sure that `report` has what the name asks for.
    ///
    /// # Errors
    /// When that is the histogram of a mark that was never set.
    pub fn check(&self, report: &Report) -> Result<(), FormatError> {
        match &self.metric {
            OneMetric::OfMark(name, _) if Marks::named(report, name.as_str()).is_none() => {
                let set = Marks::of(report).into_iter();
                Err(FormatError::UnknownMark {
                    name: name.clone(),
                    set: set.map(|marks| marks.name.to_owned()).collect(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Writes `report`.
    ///
    /// # Errors
    /// When `out` can't be written to.
    pub fn write(&self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        match self.row.write {
            Writer::Run(piece) => pieces::write(report, piece, out),
            Writer::Histogram(write) => self.metric.write(report, write, out),
        }
    }

    /// Writes the piece of `report` that begins at `from`, and returns where the next one does.
    pub(super) fn write_piece(
        &self,
        report: &Report,
        from: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<Next> {
        match self.row.write {
            Writer::Run(piece) => piece(report, from, out),
            Writer::Histogram(write) => self.metric.write(report, write, out).map(|()| None),
        }
    }

    /// Writes what a search has found, in a format [for those](Format::of_search).
    ///
    /// # Errors
    /// When `out` can't be written to, or no search has this format.
    pub fn write_search(&self, report: &SearchReport, out: &mut dyn Write) -> io::Result<()> {
        match self.row.search {
            Some(write) => write(report, out),
            None => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Writes a comparison of runs with the first of them, each with its name.
    ///
    /// # Errors
    /// When `out` can't be written to, or a comparison has no such format.
    pub fn write_comparison(
        &self,
        runs: &[(&str, &Report)],
        out: &mut dyn Write,
    ) -> io::Result<()> {
        match self.row.compare {
            Some(comparer) => (comparer.write)(runs, out),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn endings(is_told: fn(&Row) -> bool) -> String {
        let told = ROWS.iter().filter(|row| is_told(row));
        let told: Vec<_> = told.map(|row| format!(".{}", row.ending)).collect();
        match told.as_slice() {
            [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            _ => told.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format_and_what_is_wrong_with_it_is_said() {
        for (name, found) in [
            ("a.json", Ok(("json", Metric::Rtt))),
            ("b/a.b.csv", Ok(("csv", Metric::Rtt))),
            ("a.hgrm", Ok(("hgrm", Metric::Rtt))),
            ("a.boot.hgrm", Ok(("hgrm", Metric::Boot))),
            ("2.a.within_leaf.hgrm", Ok(("hgrm", Metric::WithinLeaf))),
            ("b.x/a.hgrm", Ok(("hgrm", Metric::Rtt))),
            (
                "a.boto.hgrm",
                Err(
                    "no metric is named \"boto\"; expected a name without a further dot, for the \
                     rtt, or before .hgrm one of rtt, response, lateness, lag,",
                ),
            ),
            ("a.RTT.hgrm", Err("no metric is named \"RTT\"")),
            ("a.hlog", Ok(("hlog", Metric::Rtt))),
            ("a.html", Ok(("html", Metric::Rtt))),
            (
                "a.pdf",
                Err("the ending says the format; expected .json, .csv, .hgrm"),
            ),
            ("json", Err("the ending")),
            (".json", Err("the ending")),
            ("", Err("the ending")),
        ] {
            match (Format::of(Path::new(name)), found) {
                (Ok(format), Ok((ending, metric))) => {
                    let expected = (ending, OneMetric::OfRun(metric));
                    assert_eq!((format.ending(), format.metric), expected, "{name}");
                }
                (Err(error), Err(said)) => {
                    assert!(
                        error.to_string().starts_with(said) || error.to_string().contains(said),
                        "{error}"
                    );
                }
                (format, found) => {
                    panic!("{name}: {:?} is not {found:?}", format.map(|f| f.ending()))
                }
            }
        }
    }

    #[test]
    fn a_name_may_ask_for_a_metric_of_a_mark() {
        for (name, mark, metric) in [
            (
                "a.mark.policy.first_pass.hgrm",
                "policy",
                MarkMetric::FirstPass,
            ),
            ("mark.link.changes.hgrm", "link", MarkMetric::Changes),
            (
                "a.mark.mark.longest_gap.hgrm",
                "mark",
                MarkMetric::LongestGap,
            ),
        ] {
            let format = Format::of(Path::new(name)).unwrap();
            let expected = OneMetric::OfMark(mark.parse().unwrap(), metric);
            assert_eq!(format.metric, expected, "{name}");
        }
        for name in [
            "a.policy.first_pass.hgrm",
            "a.first_pass.hgrm",
            "mark.a.b.hgrm",
        ] {
            assert!(Format::of(Path::new(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_media_type_asks_for_a_format() {
        for (media_type, ending) in [
            ("application/json", Some("json")),
            ("text/csv", Some("csv")),
            ("Text/HTML", Some("html")),
            ("*/*", Some("json")),
            ("text/*", Some("csv")),
            ("text/plain", None),
            ("image/png", None),
            ("*", None),
            ("", None),
        ] {
            let format = Format::of_media_type(media_type);
            assert_eq!(format.map(|f| f.ending()), ending, "{media_type}");
        }
    }

    #[test]
    fn a_comparison_has_its_own_formats() {
        let of = |name, runs| Format::of_comparison(Path::new(name), runs);
        assert!(of("c.html", MOST_RUNS).is_ok());
        assert!(of("c.json", 10_000).is_ok());
        assert_eq!(
            of("c.html", 7).err().unwrap().to_string(),
            "expected at most 6 runs, each of which has a colour of its own, found 7"
        );
        for name in ["c.csv", "c", "c.rtt.hgrm"] {
            let error = of(name, 2).err().unwrap();
            let said = "the ending says the format; expected .json or .html for a comparison";
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn help_names_every_ending_and_what_it_holds() {
        let help = Format::help();
        for row in ROWS {
            assert!(
                help.contains(&format!(".{} ({})", row.ending, row.doc)),
                "{help}"
            );
        }
    }
}
