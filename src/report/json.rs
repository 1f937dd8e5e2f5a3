//! The report as one JSON document.

use std::io::{self, Write};

use super::Report;

/// Writes `report` as one JSON document and a line end.
///
/// # Errors
/// When `out` can't be written to.
pub fn json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    out.write_all(b"\n")
}
