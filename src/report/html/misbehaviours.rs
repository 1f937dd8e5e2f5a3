//! Misbehaviours on a page: a section of their own, a table for each.

use super::super::Report;
use super::super::misbehaviours::{COLUMNS, rows, words};
use super::{Cell, Escaped, table};

/// The section of misbehaviours; nothing where all VMs behaved.
pub(super) fn misbehaviours(report: &Report) -> String {
    if report.misbehaviours.is_empty() {
        return String::new();
    }
    let each = report.misbehaviours.iter().map(|misbehaviour| {
        let rows = rows(misbehaviour);
        let cells = rows.into_iter().map(|row| row.map(Cell::new).into());
        let of_flows = match cells.len() {
            0 => String::new(),
            _ => table(&COLUMNS, cells, false),
        };
        format!("<p>{}</p>\n{of_flows}", Escaped(&words(misbehaviour)))
    });
    format!(
        "<section>\n<h2>Misbehaviour</h2>\n<p class=\"quiet\">others: flows between VMs that behave · own: flows from or to \
         one that misbehaves</p>\n{}</section>\n",
        each.collect::<String>()
    )
}
