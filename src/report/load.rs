//! Saved reports, read back.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Report, SCHEMA};

/// Why a saved report can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system refused to read the file.
    #[error("read report {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is JSON, but not a report; or it isn't even that.
    #[error("{} is not a report of this tool: expected a .json report, {found}", .path.display())]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The file says that it is a report, but isn't one.
    #[error("report {}: {source}", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        source: serde_json::Error,
    },
}

/// What every document of this tool says first.
#[derive(Deserialize)]
struct Head {
    schema: Option<String>,
}

/// Reads the report that `--report NAME.json` or `--json` wrote to `path`.
///
/// # Errors
/// When the file can't be read, is no report, or is one of another version of the form.
pub fn load(path: &Path) -> Result<Report, LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Report, LoadError> {
    let not_a_report = |found: String| LoadError::NotAReport {
        path: path.to_owned(),
        found,
    };
    let head: Head =
        serde_json::from_slice(bytes).map_err(|error| not_a_report(format!("found: {error}")))?;
    match head.schema.as_deref() {
        Some(SCHEMA) => {}
        Some(other) => {
            return Err(not_a_report(format!("schema {SCHEMA:?}, found {other:?}")));
        }
        None => return Err(not_a_report("found JSON without a schema".to_owned())),
    }
    serde_json::from_slice(bytes).map_err(|source| LoadError::Broken {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{json, samples};

    fn saved() -> String {
        let mut bytes = Vec::new();
        json(&samples::report(), &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_saved_report_tells_the_same_as_before() {
        let read = parse(Path::new("a.json"), saved().as_bytes()).unwrap();
        let mut again = Vec::new();
        json(&read, &mut again).unwrap();
        assert!(String::from_utf8(again).unwrap() == saved());
    }

    #[test]
    fn what_is_no_report_is_refused_by_name() {
        let table = [
            (String::new(), "a.json is not a report of this tool"),
            ("text".to_owned(), "a.json is not a report of this tool"),
            ("[1]".to_owned(), "a.json is not a report of this tool"),
            ("{}".to_owned(), "found JSON without a schema"),
            (
                saved().replace(SCHEMA, "tap-reactor/report/9"),
                "found \"tap-reactor/report/9\"",
            ),
            (
                saved().replace("\"sent\"", "\"send\""),
                "report a.json: missing field `sent`",
            ),
            (
                saved().replace("HISTFAAA", "HISTGAAA"),
                "report a.json: histogram: does not begin",
            ),
            (
                saved()[..saved().len() / 2].to_owned(),
                "a.json is not a report of this tool",
            ),
        ];
        for (text, wrong) in table {
            let error = parse(Path::new("a.json"), text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = load(Path::new("/no/such/run.json"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("read report /no/such/run.json: "),
            "{error}"
        );
    }
}
