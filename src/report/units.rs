//! Numbers as people read them: three significant digits and a fitting unit.

use crate::time::Span;

/// A unit of time that figures are shown in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
}

impl Unit {
    const ALL: [Unit; 4] = [
        Unit::Nanoseconds,
        Unit::Microseconds,
        Unit::Milliseconds,
        Unit::Seconds,
    ];

    /// The largest unit in which `nanos`, rounded to three digits, is at least one.
    pub fn of(nanos: f64) -> Unit {
        let fits = |unit: &&Unit| nanos / unit.nanos() >= 0.999_5;
        *Self::ALL
            .iter()
            .rev()
            .find(fits)
            .unwrap_or(&Unit::Nanoseconds)
    }

    /// How many nanoseconds it has.
    pub const fn nanos(self) -> f64 {
        match self {
            Unit::Nanoseconds => 1.0,
            Unit::Microseconds => 1e3,
            Unit::Milliseconds => 1e6,
            Unit::Seconds => 1e9,
        }
    }

    /// The symbol behind the number.
    pub const fn symbol(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Microseconds => "µs",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
        }
    }

    /// `nanos` in this unit with three significant digits, without the symbol.
    pub fn number(self, nanos: f64) -> String {
        significant(nanos / self.nanos())
    }
}

/// A span such as `8.12 µs`, `412 ns` or `2.00 s`.
pub fn span(nanos: u64) -> String {
    Span(nanos).to_string()
}

/// A span, or a dash where there is none.
pub fn span_or_dash(nanos: Option<u64>) -> String {
    nanos.map_or_else(|| "–".to_owned(), span)
}

/// A span on an axis, without the zeros that mean nothing: `10 µs`, `2.5 ms`, `0`.
pub fn tick(nanos: f64) -> String {
    if nanos <= 0.0 {
        return "0".to_owned();
    }
    let unit = Unit::of(nanos);
    let number = unit.number(nanos);
    let number = match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.'),
        None => &number,
    };
    format!("{number} {}", unit.symbol())
}

/// Three significant digits, never an exponent: `0.0812`, `9.33`, `41.2`, `1235`.
pub fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let magnitude = |value: f64| value.abs().log10().floor() as i32;
    let decimals = |magnitude: i32| (2 - magnitude).clamp(0, 9);
    let text = format!("{value:.*}", decimals(magnitude(value)) as usize);
    // 9.996 has two decimals, but is 10.0 when rounded to them.
    let rounded: f64 = text.parse().unwrap_or(value);
    if rounded == 0.0 || magnitude(rounded) == magnitude(value) {
        return text;
    }
    format!("{value:.*}", decimals(magnitude(rounded)) as usize)
}

/// A count with its thousands apart: `9,900`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 ping`, `9,900 pings`.
pub fn counted(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// A share as a percentage. `0 %` and `100 %` are said only of exactly nothing and exactly everything.
pub fn percent(share: f64) -> String {
    match share {
        share if share.is_nan() || share <= 0.0 => "0 %".to_owned(),
        share if share >= 1.0 => "100 %".to_owned(),
        share if share < 0.000_01 => "< 0.001 %".to_owned(),
        share if share > 0.999_9 => "> 99.99 %".to_owned(),
        share if share > 0.99 => format!("{:.2} %", share * 100.0),
        share => format!("{} %", significant(share * 100.0)),
    }
}

/// A rate per second: `20,000/s`, `12.5/s`.
pub fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        return format!("{}/s", count(per_second.round() as u64));
    }
    format!("{}/s", significant(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_three_digits_and_a_fitting_unit() {
        for (nanos, text) in [
            (0, "0 ns"),
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (8_123, "8.12 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_400, "999 µs"),
            (999_600, "1.00 ms"),
            (41_249_000, "41.2 ms"),
            (2_000_000_000, "2.00 s"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(span(nanos), text, "{nanos}");
        }
    }

    #[test]
    fn ticks_have_no_idle_zeros() {
        for (nanos, text) in [
            (0.0, "0"),
            (1.0, "1 ns"),
            (100.0, "100 ns"),
            (12_500.0, "12.5 µs"),
            (99_999.999_9, "100 µs"),
            (2e9, "2 s"),
        ] {
            assert_eq!(tick(nanos), text, "{nanos}");
        }
    }

    #[test]
    fn small_numbers_keep_three_digits_without_an_exponent() {
        for (value, text) in [
            (0.0, "0"),
            (0.0812, "0.0812"),
            (0.099_96, "0.100"),
            (9.333, "9.33"),
            (1_234.6, "1235"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (999_000, "999,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!(counted(1, "flow"), "1 flow");
        assert_eq!(counted(0, "flow"), "0 flows");
    }

    #[test]
    fn nothing_and_everything_are_said_of_nothing_else() {
        for (share, text) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.000_001, "< 0.001 %"),
            (0.999_999, "> 99.99 %"),
            (0.123_4, "12.3 %"),
            (0.001_25, "0.125 %"),
            (0.995, "99.50 %"),
            (f64::NAN, "0 %"),
        ] {
            assert_eq!(percent(share), text, "{share}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        for (value, text) in [(0.0, "0/s"), (12.5, "12.5/s"), (19_999.7, "20,000/s")] {
            assert_eq!(rate(value), text);
        }
    }
}
