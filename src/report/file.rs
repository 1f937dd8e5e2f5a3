//! Reports as files, in the format that the ending asks for.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Format, FormatError, Report};

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name of the file says no format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The folder that the file is to lie in can't be had.
    #[error("report {}: the folder {} does not exist", .path.display(), .folder.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// The system refused.
    #[error("write report {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes sure before a run that a report can be written to `path` after it, as far as that can be known; writes
/// nothing.
///
/// # Errors
/// When the ending is not known or the folder does not exist.
pub fn check_file(path: &Path) -> Result<Format, FileError> {
    let format = Format::of(path)?;
    let folder = folder_of(path);
    if folder.is_dir() {
        return Ok(format);
    }
    Err(FileError::NoFolder {
        path: path.to_owned(),
        folder: folder.to_owned(),
    })
}

/// Writes `report` to `path` in the format that the ending asks for.
///
/// The file appears complete or not at all: it is written beside its place under another name, and renamed.
///
/// # Errors
/// When the ending is not known, or the system refuses.
pub fn write_file(path: &Path, report: &Report) -> Result<(), FileError> {
    let format = check_file(path)?;
    replace_file(path, |out| format.write(report, out))
}

/// Writes a comparison of `after` with `before` to `path`: a page if it ends in `.html`, one JSON document if it ends
/// in `.json`. Each run comes with what to call it, such as its file's name. The file appears complete or not at all.
///
/// # Errors
/// When the ending is another, or the system refuses.
pub fn write_comparison(
    path: &Path,
    before: (&str, &Report),
    after: (&str, &Report),
) -> Result<(), FileError> {
    let format = Format::of_comparison(path)?;
    replace_file(path, |out| format.write_comparison(before, after, out))
}

/// Writes a file that appears complete or not at all.
///
/// # Errors
/// When the system refuses.
fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut std::fs::File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let replace = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".tap-reactor-report-")
            // As any file: the mask of the process takes away from this.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder_of(path))?;
        let mut out = BufWriter::new(file.as_file_mut());
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.persist(path).map_err(|refused| refused.error)?;
        Ok(())
    };
    replace().map_err(|source| FileError::Write {
        path: path.to_owned(),
        source,
    })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::samples;

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
            write_file(&path, &samples::report()).unwrap();
            // A second time over the first.
            write_file(&path, &samples::report()).unwrap();
            assert!(fs::metadata(&path).unwrap().len() > 100, "{name}");
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o600, 0o600, "{name}: {mode:o}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), names.len());
        let tables =
            ["r.hgrm", "r.response.hgrm"].map(|name| fs::read(folder.path().join(name)).unwrap());
        assert_ne!(tables[0], tables[1]);
    }

    #[test]
    fn a_report_that_fails_leaves_the_old_one_and_no_half_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        fs::write(&path, "old").unwrap();
        let failed = replace_file(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        let error = failed.unwrap_err().to_string();
        assert!(
            error.starts_with("write report ") && error.ends_with("no more"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
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
            let result = write_comparison(&path, ("a", &before), ("b", &after));
            assert_eq!(result.is_ok(), written, "{name}");
            assert_eq!(path.exists(), written, "{name}");
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_is_found_before_the_run() {
        let error = check_file(Path::new("/no/such/folder/r.json"))
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "report /no/such/folder/r.json: the folder /no/such/folder does not exist"
        );
        assert!(check_file(Path::new("r.json")).is_ok());
    }
}
