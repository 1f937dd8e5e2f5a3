//! A comparison for a person at a terminal.

use std::io::{self, Write};

use super::{Comparison, Difference, Quantity};
use crate::escape::{Escaped, escaped};
use crate::report::units::{percent, rate, significant, span};

/// Writes `comparison` for a person.
///
/// # Errors
/// When `out` can't be written to.
pub fn compare_text(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let Comparison { before, after, .. } = comparison;
    let widest = comparison
        .known()
        .map(|each| each.figure.chars().count())
        .max();
    let width = widest.unwrap_or(0);
    for (role, side) in [("before", before), ("after ", after)] {
        writeln!(
            out,
            "{role}  {}: {}",
            Escaped(&side.name),
            Escaped(&side.run)
        )?;
    }
    for each in &comparison.unlike {
        writeln!(out, "differ  {}", escaped(&each.to_string()))?;
    }
    writeln!(out)?;
    write!(out, "{:<width$}", "")?;
    for title in ["before", "after", "difference", "ratio", "spread"] {
        write!(out, "{title:>12}")?;
    }
    writeln!(out)?;
    for each in comparison.known() {
        write!(out, "{:<width$}", each.figure)?;
        for value in row(each) {
            write!(out, "{value:>12}")?;
        }
        writeln!(
            out,
            "{}",
            if each.beyond_spread == Some(true) {
                "  *"
            } else {
                ""
            }
        )?;
    }
    writeln!(out)?;
    writeln!(out, "{}", escaped(&comparison.sentence()))?;
    if comparison.beyond_spread().0 > 0 {
        writeln!(out, "They are marked with *.")?;
    }
    for side in [before, after]
        .into_iter()
        .filter(|side| side.limited_by_tool)
    {
        writeln!(out, "{}: {}", Escaped(&side.name), Escaped(&side.verdict))?;
    }
    Ok(())
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{compare, fixtures};

    #[test]
    fn every_figure_has_a_line_and_those_that_differ_a_mark() {
        let (before, mut after) = (fixtures::report(), fixtures::slower(3));
        after.verdict.limited_by_tool = true;
        let comparison = compare(("a.json", &before), ("b.json", &after));
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
