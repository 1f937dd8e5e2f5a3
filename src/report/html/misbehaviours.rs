//! Misbehaviours and floods on a page: a section for each.

use super::super::Report;
use super::super::floods;
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
        format!(
            "<p>{}</p>\n{of_flows}",
            Escaped(&words(&misbehaviour.summary))
        )
    });
    format!(
        "<section>\n<h2>Misbehaviour</h2>\n<p class=\"quiet\">between others: flows between VMs that behave in the run · of \
         misbehaving VMs: flows from or to one that does not</p>\n{}</section>\n",
        each.collect::<String>()
    )
}

/// The section of floods; nothing where they were not counted.
pub(super) fn floods_counted(report: &Report) -> String {
    if report.floods.is_empty() {
        return String::new();
    }
    let rows = floods::rows(report).into_iter();
    let rows = rows.map(|row| row.map(Cell::new).into());
    format!(
        "<section>\n<h2>Floods</h2>\n<p class=\"quiet\">unwanted: copies that came to VMs which they are not for · last: from \
         sending to the last copy</p>\n{}</section>\n",
        table(&floods::COLUMNS, rows, false)
    )
}
