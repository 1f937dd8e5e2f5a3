//! How much a figure varies within one run.
//!
//! A run says nothing of how much the next run would differ, but its seconds say how steady it was. A difference
//! between two runs that is no larger than what a figure does from one second to the next is no news. The measure is
//! twice the standard deviation of the seconds' figures, which about 95 % of the seconds of a steady run lie within; a
//! single stall widens it, as it should: such a run was not steady.

use super::SECONDS_NEEDED;
use crate::report::{Report, SecondReport};

/// How many standard deviations the spread is.
const DEVIATIONS: f64 = 2.0;

/// The spread of `figure` over the whole seconds among `seconds`; nothing if they are too few.
pub fn within(
    seconds: &[SecondReport],
    figure: impl Fn(&SecondReport) -> Option<f64>,
) -> Option<f64> {
    // The last second was cut off, so its rate is that of a part.
    let whole = seconds.get(..seconds.len().checked_sub(1)?)?;
    of_values(whole.iter().filter_map(figure))
}

/// The spread of the values of a figure in whole seconds; nothing if they are too few.
pub fn of_values(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    if values.len() < SECONDS_NEEDED {
        return None;
    }
    let number = values.len() as f64;
    let mean = values.iter().sum::<f64>() / number;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some(DEVIATIONS * (squares / (number - 1.0)).sqrt())
}

/// Twice the standard error of the difference between the losses of two runs, of which each ping was lost or not;
/// nothing if a run has too few seconds.
///
/// The loss of a second is no measure here: a ping fails at its timeout, which may be seconds after those were answered
/// that were sent beside it, and a share of few pings varies by more than a difference that matters.
pub fn of_loss(one: &Report, other: &Report) -> Option<f64> {
    of_shares([one, other].map(|run| {
        let is_long = run.seconds.len() > SECONDS_NEEDED;
        is_long.then(|| (run.totals.loss(), run.totals.ended()))
    }))
}

/// The same of the copies of frames of streams that were to come.
pub fn of_stream_loss(one: &Report, other: &Report) -> Option<f64> {
    of_shares([one, other].map(|run| {
        let is_long = run.elapsed_ns >= SECONDS_NEEDED as u64 * 1_000_000_000;
        let counts = run.stream_counts.filter(|_| is_long)?;
        Some((counts.loss(), counts.expected))
    }))
}

/// Twice the standard error of the difference of two shares, each of so many.
fn of_shares(shares: [Option<(f64, u64)>; 2]) -> Option<f64> {
    let variance =
        |(share, number): (f64, u64)| (number > 0).then(|| share * (1.0 - share) / number as f64);
    let [one, other] = shares;
    Some(DEVIATIONS * (variance(one?)? + variance(other?)?).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn a_figure_that_never_changes_has_no_spread() {
        let report = fixtures::report();
        assert_eq!(within(&report.seconds, |_| Some(7.0)), Some(0.0));
    }

    #[test]
    fn the_spread_is_twice_the_standard_deviation_of_whole_seconds() {
        let seconds = fixtures::report().seconds;
        let starts = within(&seconds, |second| Some(second.start_ns as f64 / 1e9));
        // Whole seconds 0 to 6 or so: the deviation of 0, 1, …, n − 1 is √(n (n + 1) / 12).
        let number = (seconds.len() - 1) as f64;
        let expected = 2.0 * (number * (number + 1.0) / 12.0).sqrt();
        assert!(
            (starts.unwrap() - expected).abs() < 1e-9,
            "{starts:?} is not {expected}"
        );
    }

    #[test]
    fn few_seconds_have_no_spread() {
        let seconds = fixtures::report().seconds;
        for number in 0..=SECONDS_NEEDED {
            assert_eq!(within(&seconds[..number], |_| Some(1.0)), None, "{number}");
        }
        assert!(within(&seconds[..=SECONDS_NEEDED], |_| Some(1.0)).is_some());
    }
}
