//! The page of runs side by side.

use std::io::{self, Write};
use std::iter;

use super::super::compare::{Comparison, Side, cells, names, row};
use super::super::svg::{self, COLORS};
use super::super::{Report, compare};
use super::{Cell, Escaped, KEYS, begin_page, end_page, figure, table};
use crate::record::Metric;

/// As many runs have a colour of their own in a picture.
pub const MOST_RUNS: usize = COLORS.len();

/// Writes a comparison of runs with the first of them, the baseline, as a page: the curves of all in one picture, a table
/// of all, and what there is of each comparison. Each run comes with its name, such as its file's. The page is one file that
/// needs nothing from elsewhere.
///
/// # Errors
/// When `out` can't be written to, or there are more runs than a picture has colours.
pub fn compare_html(runs: &[(&str, &Report)], out: &mut impl Write) -> io::Result<()> {
    if runs.len() > MOST_RUNS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let comparisons = compare(runs);
    let names = names(&comparisons);
    let keys: Vec<_> = names.iter().map(String::as_str).collect();
    let mut body = head(&comparisons);
    for (title, note, metric) in [
        (
            "rtt by percentile",
            "Counted from when a ping was sent.",
            Metric::Rtt,
        ),
        (
            "Response by percentile",
            "Counted from when a ping was due: what a user of the network feels.",
            Metric::Response,
        ),
    ] {
        let latencies: Vec<_> = runs
            .iter()
            .map(|(_, run)| &run.histograms[metric])
            .collect();
        body += &figure(title, note, &keys, |size| {
            svg::percentiles(&latencies, size)
        })?;
    }
    match comparisons.as_slice() {
        [one] => body += &differences("Differences", one),
        several => {
            body += &overview(several, &keys);
            let baseline = keys.first().copied().unwrap_or_default();
            for (each, name) in several.iter().zip(keys.iter().skip(1)) {
                body += &differences(&format!("{name} compared with {baseline}"), each);
            }
        }
    }
    let title = match keys.as_slice() {
        [others @ .., last] => format!("tap-reactor: {} and {last}", others.join(", ")),
        [] => "tap-reactor".to_owned(),
    };
    begin_page(&title, out)?;
    out.write_all(body.as_bytes())?;
    end_page(out)
}

/// The baseline, and what is compared with it.
fn sides(comparisons: &[Comparison]) -> impl Iterator<Item = &Side> {
    let baseline = comparisons.first().map(|each| &each.before);
    baseline
        .into_iter()
        .chain(comparisons.iter().map(|each| &each.after))
}

fn head(comparisons: &[Comparison]) -> String {
    let number = match comparisons.len() + 1 {
        2 => "Two".to_owned(),
        more => more.to_string(),
    };
    let mut html = format!("<header>\n<h1>{number} runs of tap-reactor</h1>\n");
    for (class, side) in KEYS.iter().zip(sides(comparisons)) {
        html += &format!(
            "<p><span class=\"key {class}\"></span>{}: <code>{}</code></p>\n",
            Escaped(&side.name),
            Escaped(&side.run)
        );
    }
    let is_pair = comparisons.len() == 1;
    if let (false, Some(first)) = (is_pair, comparisons.first()) {
        let baseline = Escaped(&first.before.name);
        html += &format!("<p class=\"quiet\">Each is compared with {baseline}.</p>\n");
    }
    // Of whom something is said need not be said of two runs.
    let of = |side: &Side| match is_pair {
        true => String::new(),
        false => format!("{}: ", Escaped(&side.name)),
    };
    for comparison in comparisons {
        for unlike in &comparison.unlike {
            let (of, unlike) = (of(&comparison.after), unlike.to_string());
            let unlike = Escaped(&unlike);
            html += &match is_pair {
                true => format!("<p class=\"quiet\">differ in {unlike}</p>\n"),
                false => format!("<p class=\"quiet\">{of}differs in {unlike}</p>\n"),
            };
        }
    }
    html += "</header>\n";
    for comparison in comparisons {
        let (of, sentence) = (of(&comparison.after), comparison.sentence());
        let sentence = Escaped(&sentence);
        html += &format!("<p class=\"verdict plain\">{of}{sentence}</p>\n");
    }
    for (side, fault) in sides(comparisons).filter_map(|side| Some((side, side.fault.as_ref()?))) {
        let (name, fault) = (Escaped(&side.name), Escaped(fault));
        html += &format!("<p class=\"verdict bad\">{name}: {fault}</p>\n");
    }
    for side in sides(comparisons).filter(|side| side.limited_by_tool) {
        let (name, verdict) = (Escaped(&side.name), Escaped(&side.verdict));
        html += &format!("<p class=\"verdict bad\">{name}: {verdict}</p>\n");
    }
    html
}

/// The figures of all runs, a column each.
fn overview(comparisons: &[Comparison], names: &[&str]) -> String {
    let headings: Vec<_> = iter::once("figure").chain(names.iter().copied()).collect();
    let rows = cells(comparisons).map(|row| {
        let judged = row
            .runs
            .iter()
            .map(|[value, ratio, word]| format!("{value}, {ratio}, {word}"));
        let first = [row.figure, row.baseline].into_iter();
        first.chain(judged).map(Cell::new).collect()
    });
    let table = table(&headings, rows, false);
    format!(
        "<section>\n<h2>All runs</h2>\n<p class=\"quiet\">Each figure, its ratio to that of the first run, and better or \
         worse if they differ by more than the two runs vary from second to second</p>\n{table}</section>\n"
    )
}

fn differences(title: &str, comparison: &Comparison) -> String {
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
    let title = Escaped(title);
    format!(
        "<section>\n<h2>{title}</h2>\n<p class=\"quiet\">spread: twice the standard deviation of a figure from \
         second to second, of the run that varies more; of loss, twice the standard error of the difference</p>\n{table}</section>\n"
    )
}

#[cfg(test)]
mod tests {
    use plotters::style::RGBColor;

    use super::*;
    use crate::report::fixtures;

    #[test]
    fn both_curves_are_in_one_picture() {
        let mut out = Vec::new();
        let (before, after) = (fixtures::report(), fixtures::slower(2));
        compare_html(&[("a<b.json", &before), ("b.json", &after)], &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        assert_eq!(page.matches("<figure>").count(), 2);
        let picture = page.split("<svg").nth(1).unwrap();
        assert!(picture.contains("#1F6FB2") && picture.contains("#C2541B"));
        assert!(page.contains("a&lt;b.json") && !page.contains("a<b.json"));
        assert!(page.contains("rtt.p99_9"));
    }

    fn page_of(number: usize) -> io::Result<String> {
        let runs: Vec<_> = (1..).take(number).map(fixtures::slower).collect();
        let names: Vec<_> = (1..=number).map(|each| format!("{each}/r.json")).collect();
        let named: Vec<_> = names.iter().map(String::as_str).zip(&runs).collect();
        let mut out = Vec::new();
        compare_html(&named, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn as_many_runs_as_there_are_colours_share_a_picture_and_a_table() {
        for number in 3..=MOST_RUNS {
            let page = page_of(number).unwrap();
            assert_eq!(page.matches("<figure>").count(), 2);
            let picture = page.split("<svg").nth(1).unwrap();
            for color in &COLORS[..number] {
                let RGBColor(r, g, b) = color;
                assert!(
                    picture.contains(&format!("stroke=\"#{r:02X}{g:02X}{b:02X}\"")),
                    "{number}"
                );
            }
            for each in 1..=number {
                let heading = format!("<th scope=\"col\">{each}/r.json</th>");
                assert_eq!(page.matches(&heading).count(), 1, "{number}");
                let detail = format!("<h2>{each}/r.json compared with 1/r.json</h2>");
                assert_eq!(page.contains(&detail), each > 1, "{number}");
            }
            assert!(page.contains("× 2.00, worse</td>"), "{page}");
            assert!(page.contains(&format!("<h1>{number} runs of tap-reactor</h1>")));
        }
        let refused = page_of(MOST_RUNS + 1).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    /// The colours `--a`, `--b`, … of the style, on a light ground and on a dark one.
    fn styled() -> [Vec<[f64; 3]>; 2] {
        let style = super::super::STYLE;
        let (light, dark) = style.split_once("prefers-color-scheme: dark").unwrap();
        [light, dark].map(|style| {
            let color = |key: &&str| {
                let (_, rest) = style.split_once(&format!("--{key}: #")).unwrap();
                [0, 2, 4]
                    .map(|at| u8::from_str_radix(&rest[at..at + 2], 16).unwrap())
                    .map(linear)
            };
            KEYS.iter().map(color).collect()
        })
    }

    fn linear(part: u8) -> f64 {
        match f64::from(part) / 255.0 {
            part if part <= 0.04045 => part / 12.92,
            part => ((part + 0.055) / 1.055).powf(2.4),
        }
    }

    fn times(matrix: [[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
    }

    /// Linear sRGB in Oklab (Björn Ottosson, 2020), in which equal distances look equally different.
    fn oklab(rgb: [f64; 3]) -> [f64; 3] {
        let cones = times(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ],
            rgb,
        );
        times(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ],
            cones.map(f64::cbrt),
        )
    }

    /// Sight with all cones, and without those for red, green and blue (Machado, Oliveira, Fernandes 2009).
    const SIGHTS: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ];

    #[test]
    fn colours_are_told_apart_by_the_colour_blind_too() {
        for (ground, colors) in ["light", "dark"].into_iter().zip(styled()) {
            assert_eq!(colors.len(), MOST_RUNS);
            for sight in SIGHTS {
                let seen =
                    |rgb: &[f64; 3]| oklab(times(sight, *rgb).map(|part| part.clamp(0.0, 1.0)));
                let seen: Vec<_> = colors.iter().map(seen).collect();
                for (index, one) in seen.iter().enumerate() {
                    for (other, key) in seen.iter().zip(KEYS).skip(index + 1) {
                        let apart: f64 = one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum();
                        let keys = (KEYS[index], key);
                        // Five times what is just noticed.
                        assert!(
                            apart.sqrt() >= 0.1,
                            "{ground}: {keys:?} are {} apart",
                            apart.sqrt()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn pictures_are_drawn_in_the_colours_of_the_style() {
        let of = |color: &RGBColor| [color.0, color.1, color.2].map(linear);
        assert_eq!(styled()[0], COLORS.iter().map(of).collect::<Vec<_>>());
    }
}
