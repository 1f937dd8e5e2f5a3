//! Saved reports, read back.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Report, SCHEMA};

/// Why a saved report can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system refused to read the file.
    #[error("{}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is JSON, but not a report; or it isn't even that.
    #[error("{}: not a report of this tool; expected a .json report, {found}", .path.display())]
    NotAReport {
        /// The file.
        path: PathBuf,
        /// The kind of file that was found.
        found: String,
    },
    /// The file says that it is a report, but isn't one.
    #[error("{}: {source}", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The error and its line.
        source: serde_json::Error,
    },
}

/// The first field of every document of this tool.
#[derive(Deserialize)]
struct Head {
    schema: Option<String>,
}

/// Reads the report that `--output NAME.json` or `--json` wrote to `path`.
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

/// Reads the document `bytes`, which came from `path`.
///
/// # Errors
/// When it is no report of this version.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Report, LoadError> {
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
mod tests;
