//! Lost pings, and lost frames of streams, on a page.

use super::super::units::count;
use super::super::{LossReport, Report, losses};
use super::{Cell, Escaped, table};

/// The section with the pings that failed, by cause, direction and place; nothing of a run in which none failed.
pub(super) fn lost_pings(report: &Report) -> String {
    let said = "Every ping that failed or was not sent";
    section(report, &report.losses, ("pings", said))
}

/// The section with the frames of streams that were lost, likewise.
pub(super) fn lost_frames(report: &Report) -> String {
    let said = "Every frame of a stream that was sent and not received";
    section(report, &report.stream_losses, ("frames", said))
}

fn section(report: &Report, rows: &[LossReport], (what, said): (&str, &str)) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let rows = rows.iter().map(|row| {
        let [cause, direction, place, reason] = row.cells();
        let cells = [cause, direction, place, count(row.count), reason];
        cells.map(Cell::new).into()
    });
    let headings = ["cause", "direction", "place", what, "reason"];
    let method = losses::method(report).unwrap_or_default();
    format!(
        "<section>\n<h2>Lost {what}</h2>\n<p class=\"quiet\">{said}: {}.</p>\n{}</section>\n",
        Escaped(&method),
        table(&headings, rows, false)
    )
}
