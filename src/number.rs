//! Parsing of numbers in the notations that options and scenarios accept: `10000`, `10_000`, `10k`, `1.5M`, `2e3`.

/// Suffixes and their factors (SI: `k` is 1000, for bytes too).
const LETTERS: [(char, u64); 4] = [
    ('k', 1_000),
    ('K', 1_000),
    ('M', 1_000_000),
    ('G', 1_000_000_000),
];

/// The number up to which an `f64` represents every integer.
const EXACT: f64 = (1u64 << 53) as f64;

/// Parses a number. `None` if `text` is not a number, or is negative or not finite.
pub fn number(text: &str) -> Option<f64> {
    let (digits, factor) = parts(text)?;
    let number = digits.parse::<f64>().ok()? * factor as f64;
    number.is_finite().then_some(number)
}

/// Parses an integer, such as `10k` or `1.5k`. `None` for other numbers, such as `1.5`, and for those above 2^64 − 1.
pub fn whole_number(text: &str) -> Option<u64> {
    let (digits, factor) = parts(text)?;
    if let Ok(number) = digits.parse::<u64>() {
        return number.checked_mul(factor);
    }
    let number = number(text)?;
    (number.fract() == 0.0 && number <= EXACT).then_some(number as u64)
}

/// Splits `text` into its digits, without separators, and the factor of its suffix.
fn parts(text: &str) -> Option<(String, u64)> {
    let letter = LETTERS
        .iter()
        .find_map(|(letter, factor)| Some((text.strip_suffix(*letter)?, *factor)));
    let (digits, factor) = letter.unwrap_or((text, 1));
    let is_digit = |at: usize| digits.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    // Rules out what f64::from_str() accepts besides: signs, `inf`, `nan`.
    let is_number = is_digit(0) || digits.starts_with('.') && is_digit(1);
    let divides = |(at, _): (usize, _)| at > 0 && is_digit(at - 1) && is_digit(at + 1);
    let is_divided = digits.match_indices('_').all(divides);
    (is_number && is_divided).then(|| (digits.replace('_', ""), factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("10000", Some(10_000.0)),
            ("10_000", Some(10_000.0)),
            ("10k", Some(10_000.0)),
            ("10K", Some(10_000.0)),
            ("1M", Some(1e6)),
            ("2G", Some(2e9)),
            ("1.5k", Some(1_500.0)),
            (".5", Some(0.5)),
            ("0.25", Some(0.25)),
            ("2e3", Some(2_000.0)),
            ("1e-3", Some(0.001)),
            ("1_0.5", Some(10.5)),
            ("", None),
            ("k", None),
            ("_1", None),
            ("1_", None),
            ("1__0", None),
            ("1_k", None),
            ("1kk", None),
            ("1m", None),
            ("1 k", None),
            ("-1", None),
            ("+1", None),
            ("inf", None),
            ("NaN", None),
            ("1e999", None),
            ("1e308G", None),
            ("0x10", None),
            ("½", None),
            (".", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_whole_and_exact() {
        for (text, expected) in [
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709551615k", None),
            ("10k", Some(10_000)),
            ("1.5k", Some(1_500)),
            ("1.5", None),
            ("1e3", Some(1_000)),
            ("1e19", None),
            ("-1", None),
        ] {
            assert_eq!(whole_number(text), expected, "{text}");
        }
    }
}
