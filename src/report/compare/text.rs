//! A comparison for a person at a terminal.

use std::io::{self, Write};
use std::iter;

use super::{Comparison, Difference, Judgement, Quantity, Side, short_names};
use crate::escape::{Escaped, escaped};
use crate::report::units::{count, percent, rate, significant, span};

/// The columns that a table of several runs has at most, as far as its headings let it.
const WIDTH: usize = 100;

/// The least width of a column with a figure, with the space before it.
const FIGURE: usize = 12;

/// The width of the ratio and the judgement behind a figure.
const JUDGED: usize = 18;

/// Writes `comparisons` with one baseline for a person: of one run all that is known of each figure, of several a column for
/// each.
///
/// # Errors
/// When `out` can't be written to.
pub fn compare_text(comparisons: &[Comparison], out: &mut impl Write) -> io::Result<()> {
    match comparisons {
        [] => Ok(()),
        [one] => pair(one, out),
        [first, ..] => several(&first.before, comparisons, out),
    }
}

fn pair(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let Comparison { before, after, .. } = comparison;
    let width = figure_width(comparison.known());
    for (role, side) in [("before", before), ("after ", after)] {
        head(role, side, out)?;
    }
    for each in &comparison.unlike {
        writeln!(out, "differ  {}", escaped(&each.to_string()))?;
    }
    writeln!(out)?;
    write!(out, "{:<width$}", "")?;
    for title in ["before", "after", "difference", "ratio", "spread"] {
        write!(out, "{title:>FIGURE$}")?;
    }
    writeln!(out)?;
    for each in comparison.known() {
        write!(out, "{:<width$}", each.figure)?;
        for value in row(each) {
            write!(out, "{value:>FIGURE$}")?;
        }
        let mark = match each.beyond_spread {
            Some(true) => "  *",
            _ => "",
        };
        writeln!(out, "{mark}")?;
    }
    writeln!(out)?;
    writeln!(out, "{}", escaped(&comparison.sentence()))?;
    if comparison.beyond_spread().0 > 0 {
        writeln!(out, "They are marked with *.")?;
    }
    limits([before, after].into_iter(), out)
}

fn several(baseline: &Side, comparisons: &[Comparison], out: &mut impl Write) -> io::Result<()> {
    head("baseline", baseline, out)?;
    for (each, number) in comparisons.iter().zip(2..) {
        head(&format!("{:<8}", format!("run {number}")), &each.after, out)?;
        for unlike in &each.unlike {
            let unlike = unlike.to_string();
            writeln!(out, "{:<8}  differs in {}", "", escaped(&unlike))?;
        }
    }
    let names = names(comparisons);
    let names: Vec<_> = names.iter().map(|name| escaped(name)).collect();
    let Some((baseline_name, names)) = names.split_first() else {
        return Ok(());
    };
    let rows: Vec<Row> = cells(comparisons).collect();
    let figure = figure_width(comparisons.iter().flat_map(Comparison::known));
    // Two spaces before a heading, whatever its length.
    let wide = |name: &str, least: usize| least.max(2 + name.chars().count());
    let baseline_width = wide(baseline_name, FIGURE);
    let widest = names.iter().map(|name| wide(name, FIGURE + JUDGED)).max();
    let widest = widest.unwrap_or(FIGURE + JUDGED);
    let room = WIDTH.saturating_sub(figure + baseline_width);
    let in_a_row = (room / widest).max(1);
    for (block, names) in names.chunks(in_a_row).enumerate() {
        writeln!(out)?;
        write!(out, "{:<figure$}{baseline_name:>baseline_width$}", "")?;
        for name in names {
            write!(out, "{name:>widest$}")?;
        }
        writeln!(out)?;
        for row in &rows {
            write!(
                out,
                "{:<figure$}{:>baseline_width$}",
                row.figure, row.baseline
            )?;
            let first = block * in_a_row;
            for [value, ratio, word] in row.runs.iter().skip(first).take(names.len()) {
                let value_width = widest - JUDGED;
                write!(out, "{value:>value_width$}{ratio:>10}  {word:>6}")?;
            }
            writeln!(out)?;
        }
    }
    writeln!(out)?;
    writeln!(
        out,
        "better, worse: by more than the two runs vary from second to second; –: that is not known."
    )?;
    for (each, name) in comparisons.iter().zip(names) {
        writeln!(out, "{name}: {}", escaped(&each.sentence()))?;
    }
    let sides = comparisons.iter().map(|each| &each.after);
    limits(iter::once(baseline).chain(sides), out)
}

/// Short names of all runs, the baseline's first.
pub fn names(comparisons: &[Comparison]) -> Vec<String> {
    let baseline = comparisons.first().map(|each| &each.before);
    let others = comparisons.iter().map(|each| &each.after);
    let sides = baseline.into_iter().chain(others);
    short_names(&sides.map(|side| side.name.as_str()).collect::<Vec<_>>())
}

fn head(role: &str, side: &Side, out: &mut impl Write) -> io::Result<()> {
    let (name, run) = (Escaped(&side.name), Escaped(&side.run));
    writeln!(out, "{role}  {name}: {run}")
}

/// The verdicts on runs whose figures are not the network's.
fn limits<'a>(sides: impl Iterator<Item = &'a Side>, out: &mut impl Write) -> io::Result<()> {
    for side in sides.filter(|side| side.limited_by_tool) {
        writeln!(out, "{}: {}", Escaped(&side.name), Escaped(&side.verdict))?;
    }
    Ok(())
}

fn figure_width<'a>(known: impl Iterator<Item = &'a Difference>) -> usize {
    known
        .map(|each| each.figure.chars().count())
        .max()
        .unwrap_or(0)
}

/// A figure of several runs, as a person reads it.
pub struct Row {
    /// Its name.
    pub figure: String,
    /// The baseline's.
    pub baseline: String,
    /// Each other run's, its ratio to the baseline's, and better, worse or same.
    pub runs: Vec<[String; 3]>,
}

/// The figures that at least one of the runs has.
pub fn cells(comparisons: &[Comparison]) -> impl Iterator<Item = Row> {
    let figures = comparisons
        .first()
        .map_or(0, |first| first.differences.len());
    (0..figures).filter_map(|index| {
        let of_all = || {
            comparisons
                .iter()
                .filter_map(|each| each.differences.get(index))
        };
        let is_known = of_all().any(Difference::is_known);
        let first = of_all().next().filter(|_| is_known)?;
        let [baseline, ..] = row(first);
        let runs = of_all().map(|each| {
            let [_, value, _, ratio, _] = row(each);
            let word = each.judgement().map_or("–", Judgement::word);
            [value, ratio, word.to_owned()]
        });
        Some(Row {
            figure: first.figure.clone(),
            baseline,
            runs: runs.collect(),
        })
    })
}

/// before, after, difference, ratio and spread, as a person reads them.
pub fn row(each: &Difference) -> [String; 5] {
    let shown = |value: Option<f64>| value.map(|value| show(each.quantity, value));
    let signed = |by: f64| match show(each.quantity, by.abs()) {
        same if by == 0.0 => same,
        more if by > 0.0 => format!("+{more}"),
        less => format!("−{less}"),
    };
    let ratio = each.ratio.map(|ratio| format!("× {}", significant(ratio)));
    [
        shown(each.before),
        shown(each.after),
        each.difference.map(signed),
        ratio,
        shown(each.spread).map(|spread| format!("± {spread}")),
    ]
    .map(|told| told.unwrap_or_else(|| "–".to_owned()))
}

fn show(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::Ns => span(value.round() as u64),
        Quantity::Share => percent(value),
        Quantity::PerSecond => rate(value),
        Quantity::Flows | Quantity::Pings | Quantity::Connections | Quantity::Segments => {
            count(value.round() as u64)
        }
        // Of an average, a tenth.
        Quantity::Frames if value.fract() != 0.0 => format!("{value:.1}"),
        Quantity::Frames => count(value as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Report, compare, fixtures};

    #[test]
    fn every_figure_has_a_line_and_those_that_differ_a_mark() {
        let (before, mut after) = (fixtures::report(), fixtures::slower(3));
        after.verdict.limited_by_tool = true;
        let comparison = compare(&[("a.json", &before), ("b.json", &after)]);
        let mut out = Vec::new();
        compare_text(&comparison, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let p50 = text
            .lines()
            .find(|line| line.starts_with("rtt.p50"))
            .unwrap();
        assert!(
            p50.contains("× 3.0") && p50.ends_with('*') && p50.contains("+22."),
            "{text}"
        );
        let rate = text.lines().find(|line| line.starts_with("rate")).unwrap();
        assert!(!rate.ends_with('*'), "{text}");
        assert!(text.contains("before  a.json: --vms 2"), "{text}");
        assert!(text.contains("b.json: The figures"), "{text}");
        assert!(
            text.lines().take(40).all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    fn told(runs: &[(&str, &Report)]) -> String {
        let mut out = Vec::new();
        compare_text(&compare(runs), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn three_runs_have_a_column_each_and_a_word_for_every_figure() {
        let (base, mut slow) = (fixtures::report(), fixtures::slower(3));
        slow.verdict.limited_by_tool = true;
        let text = told(&[
            ("x/r.json", &slow),
            ("x/base.json", &base),
            ("y/r.json", &slow),
        ]);
        let words = |start: &str| -> Vec<&str> {
            let line = text.lines().find(|line| line.starts_with(start)).unwrap();
            line.split_whitespace().collect()
        };
        assert_eq!(
            words("   ")[..3],
            ["x/r.json", "base.json", "y/r.json"],
            "{text}"
        );
        let p50 = words("rtt.p50");
        let (better, same) = (&p50[3..8], &p50[8..]);
        assert_eq!(better[2..], ["×", "0.333", "better"], "{text}");
        assert_eq!(same, [p50[1], "µs", "×", "1.00", "same"], "{text}");
        assert_eq!(words("resolution.p50").last(), Some(&"–"), "{text}");
        assert!(text.starts_with("baseline  x/r.json: --vms 2"), "{text}");
        assert!(text.contains("\nrun 3     y/r.json: --vms 2"), "{text}");
        assert!(
            text.contains("\nbase.json: 12 of 14 figures differ"),
            "{text}"
        );
        assert!(text.contains("\ny/r.json: No figure differs"), "{text}");
        assert_eq!(text.matches("r.json: The figures").count(), 2, "{text}");
        let table = text.lines().skip(3).take(30);
        assert!(
            table.clone().all(|line| line.chars().count() <= 100),
            "{text}"
        );
        assert!(
            table.clone().any(|line| line.chars().count() >= 80),
            "{text}"
        );
    }

    #[test]
    fn more_runs_than_fit_side_by_side_make_further_tables() {
        let runs = [1, 2, 3, 1, 2, 3].map(fixtures::slower);
        let long =
            "a-name-for-a-run-that-is-wider-than-any-column-has-to-be-and-than-two-beside-it.json";
        for (last, tables) in [("f.json", 3), (long, 5)] {
            let names = ["a.json", "b.json", "c.json", "d.json", "e.json", last];
            let named: Vec<_> = names.into_iter().zip(&runs).collect();
            let text = told(&named);
            assert_eq!(text.matches("\nrtt.p50 ").count(), tables, "{text}");
            let headings = |name: &str| {
                let lines = text.lines().filter(|line| line.starts_with("   "));
                lines.filter(|line| line.contains(name)).count()
            };
            assert_eq!(headings("a.json"), tables, "{text}");
            assert!(names[1..].iter().all(|name| headings(name) == 1), "{text}");
            assert_eq!(text.matches("× 3.00").count() % 2, 0, "{text}");
        }
    }

    #[test]
    fn names_of_several_runs_do_nothing_to_a_terminal() {
        let report = fixtures::report();
        let text = told(&[("a", &report), ("\x1b[2J", &report), ("c", &report)]);
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn differences_have_their_sign() {
        let of = |difference: f64, quantity| Difference {
            figure: "x".to_owned(),
            quantity,
            before: Some(2_000.0),
            after: None,
            difference: Some(difference),
            ratio: Some(0.5),
            spread: None,
            beyond_spread: None,
        };
        for (difference, quantity, told) in [
            (-1_500.0, Quantity::Ns, "−1.50 µs"),
            (1_500.0, Quantity::Ns, "+1.50 µs"),
            (0.0, Quantity::Share, "0 %"),
            (12.5, Quantity::PerSecond, "+12.5/s"),
        ] {
            assert_eq!(row(&of(difference, quantity))[2], told);
        }
        let row = row(&of(0.0, Quantity::Ns));
        assert_eq!(
            [&row[0], &row[1], &row[3], &row[4]],
            ["2.00 µs", "–", "× 0.500", "–"]
        );
    }
}
