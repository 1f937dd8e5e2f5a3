//! Numbers as people write them: `10000`, `10_000`, `10k`, `1.5M`, `2e3`.

/// What a letter behind a number multiplies it by (SI, so a `k` of bytes is a thousand of them).
const LETTERS: [(char, u64); 4] = [
    ('k', 1_000),
    ('K', 1_000),
    ('M', 1_000_000),
    ('G', 1_000_000_000),
];

/// Largest number below which a float holds every whole one.
const EXACT: f64 = (1u64 << 53) as f64;

/// The number that `text` is, never negative, infinite or none.
pub fn number(text: &str) -> Option<f64> {
    let (digits, factor) = parts(text)?;
    let number = digits.parse::<f64>().ok()? * factor as f64;
    number.is_finite().then_some(number)
}

/// The whole number that `text` is, such as `10k`, or `1.5k`, but not `1.5`.
pub fn whole_number(text: &str) -> Option<u64> {
    let (digits, factor) = parts(text)?;
    if let Ok(number) = digits.parse::<u64>() {
        return number.checked_mul(factor);
    }
    let number = number(text)?;
    (number.fract() == 0.0 && number <= EXACT).then_some(number as u64)
}

/// The digits, without what divides them, and what they are multiplied by.
fn parts(text: &str) -> Option<(String, u64)> {
    let letter = LETTERS
        .iter()
        .find_map(|(letter, factor)| Some((text.strip_suffix(*letter)?, *factor)));
    let (digits, factor) = letter.unwrap_or((text, 1));
    let is_digit = |at: usize| digits.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    // A sign, infinity, and what is not a number all begin otherwise.
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
