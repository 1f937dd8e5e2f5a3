//! Lost pings on a page.

use super::super::units::count;
use super::super::{Report, losses};
use super::{Cell, Escaped, table};

/// The section with the pings that failed, by cause, direction and place; nothing of a run in which none failed.
pub(super) fn lost_pings(report: &Report) -> String {
    if report.losses.is_empty() {
        return String::new();
    }
    let rows = report.losses.iter().map(|row| {
        let [cause, direction, place, reason] = row.cells();
        let cells = [cause, direction, place, count(row.count), reason];
        cells.map(Cell::new).into()
    });
    let headings = ["cause", "direction", "place", "pings", "reason"];
    let method = losses::method(report).unwrap_or_default();
    format!(
        "<section>\n<h2>Lost pings</h2>\n<p class=\"quiet\">Every ping that failed or was not sent: {}.</p>\n{}</section>\n",
        Escaped(&method),
        table(&headings, rows, false)
    )
}
