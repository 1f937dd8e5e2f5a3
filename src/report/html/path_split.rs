//! Where the microseconds go, on a page: a stacked bar for each way, and the table of the stages.

use super::super::Report;
use super::super::path_split::{COLUMNS, heading, rows, sentences};
use super::super::svg::{COLORS, INK};
use super::super::units::span;
use super::{Cell, Escaped, table};
use crate::record::{PathStage, PathWay};

/// The width of a bar that is as long as a whole way, in the units of its picture.
const WIDTH: f64 = 1_000.0;

/// The section; nothing where ways were not split.
pub(super) fn path_split(report: &Report) -> String {
    let Some(split) = &report.path_split else {
        return String::new();
    };
    if split.pings == 0 {
        return format!(
            "<section>\n<h2>Where the microseconds go</h2>\n<p class=\"quiet\">{}.</p>\n</section>\n",
            Escaped(&heading(split))
        );
    }
    let longest = PathWay::ALL.map(|way| report.sum_of_path_medians(&[way]));
    let longest = longest.into_iter().max().unwrap_or_default().max(1);
    let bars = PathWay::ALL.map(|way| {
        let bar = bar(report, way, longest);
        format!("<span>{}</span>{bar}\n", way.word())
    });
    let keys = PathStage::ALL
        .into_iter()
        .zip('a'..)
        .map(|(stage, class)| format!("<span class=\"key {class}\">{}</span>", stage.word()));
    let notes = sentences(report, split).into_iter();
    let notes = notes.map(|note| format!("<p class=\"quiet\">{}</p>\n", Escaped(&note)));
    let rows = rows(report)
        .into_iter()
        .map(|row| row.map(Cell::new).into());
    format!(
        "<section>\n<h2>Where the microseconds go</h2>\n<p class=\"quiet\">{}. Medians of each stage, in the order of the way.</p>\n\
         <p class=\"keys areas\">{}</p>\n<div class=\"stack\">\n{}</div>\n{}{}</section>\n",
        Escaped(&heading(split)),
        keys.collect::<String>(),
        bars.concat(),
        table(&COLUMNS, rows, false),
        notes.collect::<String>(),
    )
}

/// The bar of one way, of which the longest is as wide as the page.
fn bar(report: &Report, way: PathWay, longest: u64) -> String {
    let mut left = 0.0;
    let mut areas = String::new();
    for (index, stage) in PathStage::ALL.into_iter().enumerate() {
        let nanos = report.path_median(stage, way);
        let width = nanos as f64 / longest as f64 * WIDTH;
        let color = COLORS.get(index).unwrap_or(&INK);
        areas += &format!(
            "<rect x=\"{left:.1}\" y=\"0\" width=\"{width:.1}\" height=\"20\" fill=\"#{:02X}{:02X}{:02X}\"><title>{} {}</title></rect>",
            color.0,
            color.1,
            color.2,
            stage.word(),
            span(nanos),
        );
        left += width;
    }
    let sum = span(report.sum_of_path_medians(&[way]));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 20\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{} {sum}\">{areas}</svg>",
        way.word()
    )
}
