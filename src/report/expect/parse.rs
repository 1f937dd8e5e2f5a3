//! Reading an expectation.

use std::str::FromStr;

use super::{Expectation, Figure, OfFlood, OfMark, OfStream, Operator, Statistic};
use crate::record::{Cause, Count, FloodKind, MarkMetric, Metric};
use crate::report::{ConnectionReport, StreamCounts};

/// Why a text is no expectation: the part that was found, and what is expected there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseExpectationError {
    /// There is no operator.
    #[error("expected one of < <= > >= = between figure and value, as in p99<200us")]
    NoOperator,
    /// The figure is not known.
    #[error("no figure is named {found:?}; expected {}", expected_figures())]
    Figure {
        /// The name.
        found: String,
    },
    /// The value does not fit the figure.
    #[error("{found:?} is no value for this figure; expected {expected}")]
    Value {
        /// The value.
        found: String,
        /// The form of a value.
        expected: &'static str,
    },
}

impl FromStr for Expectation {
    type Err = ParseExpectationError;

    fn from_str(text: &str) -> Result<Expectation, ParseExpectationError> {
        let at = text
            .find(['<', '>', '='])
            .ok_or(ParseExpectationError::NoOperator)?;
        let (name, rest) = text.split_at(at);
        let (operator, value) = operator(rest).ok_or(ParseExpectationError::NoOperator)?;
        let (name, value) = (name.trim(), value.trim());
        let figure = figure(name).ok_or_else(|| ParseExpectationError::Figure {
            found: name.to_owned(),
        })?;
        let value = figure
            .value(value)
            .map_err(|expected| ParseExpectationError::Value {
                found: value.to_owned(),
                expected,
            })?;
        Ok(Expectation {
            text: text.trim().to_owned(),
            figure,
            operator,
            value,
        })
    }
}

pub fn operator(text: &str) -> Option<(Operator, &str)> {
    // The longer ones first.
    let operators = [
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("=", Operator::Equal),
    ];
    let found = |(sign, operator)| Some((operator, text.strip_prefix(sign)?));
    operators.into_iter().find_map(found)
}

/// Every figure that can be expected to be something, for messages and help.
pub fn expected_figures() -> String {
    let counts: Vec<_> = Count::ALL.iter().map(|count| count.name()).collect();
    let causes: Vec<_> = Cause::ALL.iter().map(|cause| cause.name()).collect();
    let floods = FloodKind::ALL.map(FloodKind::name);
    let streams: Vec<_> = StreamCounts::NAMES.iter().map(|(name, _)| *name).collect();
    let connections: Vec<_> = ConnectionReport::figures().collect();
    format!(
        "min, mean, stdev, max or a percentile such as p50 or p99.9, of the rtt (of streams alone, of their one-way time) or with one of {} and a dot before it; \
         or {}, drops, loss, rate; or losses.CAUSE with one of {}; or mark.NAME and one of {} with a dot and one of the former behind it, or one of \
         changes, passed, flows, marks; or floods.KIND with one of {} and, behind a dot, frames, copies, repeated, unwanted, or \
         last_copy with a dot and one of the first behind it; or streams. with one of {}, losses.CAUSE, loss, rate, jitter, \
         longest_gap, longest_loss, extent behind it; or connections. with one of {} behind it",
        Metric::names(),
        counts.join(", "),
        causes.join(", "),
        MarkMetric::names(),
        floods.join(", "),
        streams.join(", "),
        connections.join(", ")
    )
}

fn figure(name: &str) -> Option<Figure> {
    if let Some(count) = Count::ALL.iter().find(|count| count.name() == name) {
        return Some(Figure::Count(*count));
    }
    match name {
        "drops" => return Some(Figure::Drops),
        "loss" => return Some(Figure::Loss),
        "rate" => return Some(Figure::Rate),
        _ => {}
    }
    if let Some(cause) = name.strip_prefix("losses.") {
        return Some(Figure::Losses(self::cause(cause)?));
    }
    if let Some(of_flood) = name.strip_prefix("floods.") {
        let (kind, figure) = of_flood.split_once('.')?;
        return Some(Figure::Flood(
            FloodKind::named(kind)?,
            self::of_flood(figure)?,
        ));
    }
    if let Some(of_connections) = name.strip_prefix("connections.") {
        let name = match of_connections {
            // As the JSON document names it.
            "opened_per_s" => ConnectionReport::RATE,
            name => name,
        };
        let mut names = ConnectionReport::figures();
        return names.find(|known| *known == name).map(Figure::Connections);
    }
    if let Some(of_stream) = name.strip_prefix("streams.") {
        return Some(Figure::Stream(self::of_stream(of_stream)?));
    }
    if let Some(of_mark) = name.strip_prefix("mark.") {
        let (mark, figure) = of_mark.split_once('.')?;
        return Some(Figure::Mark(mark.parse().ok()?, self::of_mark(figure)?));
    }
    let (metric, statistic) = match name.split_once('.') {
        Some((metric, statistic)) if !is_percentile(metric) => {
            (Some(metric.parse().ok()?), statistic)
        }
        // The point of p99.9.
        _ => (None, name),
    };
    Some(Figure::Latency(metric, self::statistic(statistic)?))
}

fn cause(name: &str) -> Option<Cause> {
    let mut causes = Cause::ALL.iter();
    causes.find(|known| known.name() == name).copied()
}

fn of_flood(name: &str) -> Option<OfFlood> {
    match name {
        "frames" => Some(OfFlood::Frames),
        "copies" => Some(OfFlood::Copies),
        "repeated" => Some(OfFlood::Repeated),
        "unwanted" => Some(OfFlood::Unwanted),
        _ => Some(OfFlood::LastCopy(statistic(
            name.strip_prefix("last_copy.")?,
        )?)),
    }
}

fn of_stream(name: &str) -> Option<OfStream> {
    if let Some(cause) = name.strip_prefix("losses.") {
        return Some(OfStream::Losses(self::cause(cause)?));
    }
    Some(match name {
        "loss" => OfStream::Loss,
        "rate" => OfStream::Rate,
        "jitter" => OfStream::Jitter,
        "longest_gap" => OfStream::LongestGap,
        "longest_loss" => OfStream::LongestLoss,
        "extent" => OfStream::Extent,
        _ => {
            let mut names = StreamCounts::NAMES.iter();
            OfStream::Count(names.find(|(known, _)| *known == name)?.0)
        }
    })
}

fn of_mark(name: &str) -> Option<OfMark> {
    match name {
        "passed" => return Some(OfMark::Passed),
        "flows" => return Some(OfMark::Flows),
        "marks" => return Some(OfMark::Marks),
        "changes" => return Some(OfMark::Figure(MarkMetric::Changes, Statistic::Max)),
        _ => {}
    }
    let (metric, statistic) = name.split_once('.')?;
    Some(OfMark::Figure(
        metric.parse().ok()?,
        self::statistic(statistic)?,
    ))
}

/// Returns true if a name begins as that of a percentile does.
fn is_percentile(name: &str) -> bool {
    let digits = name.strip_prefix('p').unwrap_or_default();
    digits.starts_with(|first: char| first.is_ascii_digit())
}

fn statistic(name: &str) -> Option<Statistic> {
    match name {
        "min" => Some(Statistic::Min),
        "mean" => Some(Statistic::Mean),
        "stdev" => Some(Statistic::Stdev),
        "max" => Some(Statistic::Max),
        _ => {
            // p99_9 is how the JSON document names it.
            let percentile = number(&name.strip_prefix('p')?.replace('_', "."))?;
            (percentile <= 100.0).then_some(Statistic::Quantile(percentile / 100.0))
        }
    }
}

impl Figure {
    /// The value that `text` says, or else what is expected.
    pub(super) fn value(&self, text: &str) -> Result<f64, &'static str> {
        match self {
            Figure::Mark(_, of) if of.is_fraction() => {
                let found = crate::number::number(text);
                found.ok_or("a number such as 0.5 or 10")
            }
            _ if self.is_time() => {
                // "s" is the end of all the others.
                let units = [
                    ("ns", 1.0),
                    ("us", 1e3),
                    ("µs", 1e3),
                    ("ms", 1e6),
                    ("s", 1e9),
                ];
                let in_unit = |(unit, nanos): (&str, f64)| {
                    Some(number(text.strip_suffix(unit)?.trim_end())? * nanos)
                };
                let found = units.into_iter().find_map(in_unit);
                found.ok_or("a time such as 200us, 1.5ms or 2s")
            }
            Figure::Loss | Figure::Stream(OfStream::Loss) => {
                let percent = text
                    .strip_suffix('%')
                    .and_then(|text| number(text.trim_end()));
                let share = percent
                    .filter(|percent| *percent <= 100.0)
                    .map(|percent| percent / 100.0);
                // Nothing is nothing in any unit.
                let none = || (number(text) == Some(0.0)).then_some(0.0);
                share.or_else(none).ok_or("a percentage such as 0.1%")
            }
            _ if self.is_rate() => {
                let per_second = text.strip_suffix("/s").unwrap_or(text).trim_end();
                let per_second = crate::number::number(per_second);
                per_second.ok_or("a number per second such as 20000, 20k or 20000/s")
            }
            _ => whole(text),
        }
    }
}

fn whole(text: &str) -> Result<f64, &'static str> {
    let count = crate::number::whole_number(text).map(|count| count as f64);
    count.ok_or("a whole number such as 100 or 10k")
}

/// Digits, with a point among them if need be.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_and_counts_are_numbers_as_people_write_them() {
        for (one, other) in [
            ("rate>10k", "rate>10000"),
            ("rate>1.5M/s", "rate>1_500_000"),
            ("sent>=2k", "sent>=2000"),
            ("drops<1_000", "drops<1000"),
        ] {
            let value = |text: &str| text.parse::<Expectation>().unwrap().value;
            assert_eq!(value(one), value(other), "{one}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_expected() {
        for (text, said) in [
            ("", "expected one of < <= > >= ="),
            ("p99", "expected one of < <= > >= ="),
            ("p99!200us", "expected one of < <= > >= ="),
            (
                "p101<1ms",
                "no figure is named \"p101\"; expected min, mean",
            ),
            ("<1ms", "no figure is named \"\""),
            ("rtt<1ms", "no figure is named \"rtt\""),
            ("rtt.loss<1%", "no figure is named \"rtt.loss\""),
            ("p<1ms", "no figure is named \"p\""),
            ("p9e1<1ms", "no figure is named \"p9e1\""),
            (
                "p99<200",
                "\"200\" is no value for this figure; expected a time such as 200us",
            ),
            ("p99<-1us", "expected a time"),
            ("p99<<1us", "expected a time"),
            ("p99<NaNus", "expected a time"),
            ("loss<1", "expected a percentage such as 0.1%"),
            ("loss<101%", "expected a percentage"),
            ("rate>fast", "expected a number per second"),
            ("streams.sents=1", "no figure is named \"streams.sents\""),
            (
                "connections.open=1",
                "no figure is named \"connections.open\"",
            ),
            ("connections.opened>1.5", "expected a whole number"),
            ("received>=1.5", "expected a whole number"),
        ] {
            let error = text.parse::<Expectation>().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn spaces_do_not_matter_and_units_are_told_apart() {
        for (text, value) in [
            ("p99<200us", 200_000.0),
            (" p99 < 200 us ", 200_000.0),
            ("p99<200µs", 200_000.0),
            ("p99<1.5ms", 1_500_000.0),
            ("p99<2s", 2e9),
            ("p99<7ns", 7.0),
            ("loss<=0.5 %", 0.005),
            ("loss=0", 0.0),
            ("rate>20000/s", 20_000.0),
            ("sent>=10", 10.0),
        ] {
            let expectation: Expectation = text.parse().unwrap();
            assert_eq!(expectation.value, value, "{text}");
            assert_eq!(expectation.to_string(), text.trim());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = text.parse::<Expectation>();
        }

        #[test]
        fn nothing_nearly_right_makes_the_reader_panic(text in "[prlt.0-9_%]{0,6}[<>=]{0,3}[0-9.µumns%/]{0,6}") {
            let _ = text.parse::<Expectation>();
        }
    }
}
