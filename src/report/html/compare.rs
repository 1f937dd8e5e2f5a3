//! The page of two runs side by side.

use std::io::{self, Write};

use super::super::compare::{Comparison, row};
use super::super::svg;
use super::super::{Report, compare};
use super::{Cell, Escaped, figure, page, table};
use crate::record::Metric;

/// Writes a comparison of `after` with `before` as a page, both curves in one picture; each run comes with what to
/// call it, such as its file's name. The page is one file that needs nothing from elsewhere.
///
/// # Errors
/// When `out` can't be written to.
pub fn compare_html(
    before: (&str, &Report),
    after: (&str, &Report),
    out: &mut impl Write,
) -> io::Result<()> {
    let comparison = compare(before, after);
    let mut body = head(&comparison);
    let keys = [before.0, after.0];
    let [one, other] = [before.1, after.1].map(|report| &report.histograms);
    body += &figure(
        "rtt by percentile",
        "Counted from when a ping was sent.",
        &keys,
        |size| svg::percentiles(&[&one[Metric::Rtt], &other[Metric::Rtt]], size),
    )?;
    body += &figure(
        "Response by percentile",
        "Counted from when a ping was due: what a user of the network feels.",
        &keys,
        |size| svg::percentiles(&[&one[Metric::Response], &other[Metric::Response]], size),
    )?;
    body += &differences(&comparison);
    page(
        &format!("tap-reactor: {} and {}", before.0, after.0),
        &body,
        out,
    )
}

fn head(comparison: &Comparison) -> String {
    let mut html = String::from("<header>\n<h1>Two runs of tap-reactor</h1>\n");
    for (class, side) in [("a", &comparison.before), ("b", &comparison.after)] {
        html += &format!(
            "<p><span class=\"key {class}\"></span>{}: <code>{}</code></p>\n",
            Escaped(&side.name),
            Escaped(&side.run)
        );
    }
    for each in &comparison.unlike {
        html += &format!(
            "<p class=\"quiet\">differ in {}</p>\n",
            Escaped(&each.to_string())
        );
    }
    let sentence = comparison.sentence();
    html += &format!(
        "</header>\n<p class=\"verdict plain\">{}</p>\n",
        Escaped(&sentence)
    );
    for side in [&comparison.before, &comparison.after] {
        if side.limited_by_tool {
            let (name, verdict) = (Escaped(&side.name), Escaped(&side.verdict));
            html += &format!("<p class=\"verdict bad\">{name}: {verdict}</p>\n");
        }
    }
    html
}

fn differences(comparison: &Comparison) -> String {
    let headings = [
        "figure",
        "before",
        "after",
        "difference",
        "ratio",
        "spread",
        "larger than the spread",
    ];
    let rows = comparison.known().map(|each| {
        let beyond = match each.beyond_spread {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        };
        let mut cells = vec![Cell::new(each.figure.clone())];
        cells.extend(row(each).map(Cell::new));
        cells.push(Cell::new(beyond));
        cells
    });
    let table = table(&headings, rows, false);
    format!(
        "<section>\n<h2>Differences</h2>\n<p class=\"quiet\">spread: twice the standard deviation of a figure from \
         second to second, of the run that varies more</p>\n{table}</section>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn both_curves_are_in_one_picture() {
        let mut out = Vec::new();
        let (before, after) = (fixtures::report(), fixtures::slower(2));
        compare_html(("a<b.json", &before), ("b.json", &after), &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        assert_eq!(page.matches("<figure>").count(), 2);
        let picture = page.split("<svg").nth(1).unwrap();
        assert!(picture.contains("#1F6FB2") && picture.contains("#C2541B"));
        assert!(page.contains("a&lt;b.json") && !page.contains("a<b.json"));
        assert!(page.contains("rtt.p99_9"));
    }
}
