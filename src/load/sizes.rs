//! Sizes of the frames of a stream: of one size, of several in turn, or uniformly distributed.

use std::fmt;
use std::str::FromStr;

/// Sizes of frames in bytes, frame check sequences included, VLAN tags not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sizes {
    /// These in turn; not empty.
    InTurn(Box<[u16]>),
    /// Any from the first to the last, both included, each as likely.
    Uniform(u16, u16),
}

/// The sizes of the letters of RFC 6985 section 4, `a` to `j`.
const LETTERS: [u16; 10] = [64, 128, 256, 512, 1024, 1280, 1518, 2112, 9000, 16_000];
/// The simple mix that most devices are tested with: packets of 40, 576 and 1,500 bytes, seven, four and one of them.
const SIMPLE_MIX: [u16; 12] = [64, 594, 64, 64, 594, 64, 594, 64, 64, 594, 64, 1518];
/// Sizes in turn at most.
const MOST_IN_TURN: usize = 1024;

impl Sizes {
    /// Reads what a user wrote; the largest frame that the link carries is one of `largest` bytes.
    ///
    /// # Errors
    /// With what is expected.
    pub fn parse(text: &str, largest: u16) -> Result<Sizes, String> {
        let expected = || {
            format!(
                "{text:?} is no size of frames; expected a number of bytes such as 64, a range 64-1518, several in turn \
                 64/594/1518, imix, or the letters of RFC 6985 such as aaafg"
            )
        };
        let number = |text: &str| u16::from_str(text).map_err(|_| expected());
        let in_turn = |sizes: Vec<u16>| Sizes::InTurn(sizes.into());
        let is_letters = |text: &str| {
            let is_letter = |letter: u8| matches!(letter, b'a'..=b'j' | b'z');
            !text.is_empty() && text.bytes().all(is_letter)
        };
        if text.len() > MOST_IN_TURN {
            return Err(format!("expected {MOST_IN_TURN} letters at most"));
        }
        match text {
            "imix" => Ok(Sizes::InTurn(SIMPLE_MIX.into())),
            letters if is_letters(letters) => {
                let size = |letter: u8| match letter {
                    b'z' => Some(largest),
                    letter => LETTERS.get(usize::from(letter - b'a')).copied(),
                };
                Ok(in_turn(letters.bytes().filter_map(size).collect()))
            }
            _ => match text.split_once('-') {
                Some((from, to)) => {
                    let (from, to) = (number(from)?, number(to)?);
                    match from <= to {
                        true => Ok(Sizes::Uniform(from, to)),
                        false => Err(format!(
                            "{from} is greater than {to}; expected the lower number first"
                        )),
                    }
                }
                None => {
                    let sizes = text.split('/').map(number);
                    sizes.collect::<Result<_, _>>().map(in_turn)
                }
            },
        }
    }

    /// The smallest and the largest.
    pub fn extremes(&self) -> (u16, u16) {
        match self {
            Sizes::InTurn(sizes) => {
                let least = sizes.iter().min().copied().unwrap_or(0);
                (least, sizes.iter().max().copied().unwrap_or(0))
            }
            Sizes::Uniform(from, to) => (*from, *to),
        }
    }

    /// The size of the frame with that number.
    #[inline]
    pub fn of(&self, number: u64, random: &mut fastrand::Rng) -> u16 {
        match self {
            Sizes::InTurn(sizes) => match &**sizes {
                [only] => *only,
                several => {
                    let place = number % several.len().max(1) as u64;
                    several.get(place as usize).copied().unwrap_or(0)
                }
            },
            Sizes::Uniform(from, to) => random.u16(*from..=*to),
        }
    }
}

impl fmt::Display for Sizes {
    /// As it may be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::InTurn(sizes) if **sizes == SIMPLE_MIX => f.write_str("imix"),
            Sizes::InTurn(sizes) => {
                for (place, size) in sizes.iter().enumerate() {
                    let between = if place > 0 { "/" } else { "" };
                    write!(f, "{between}{size}")?;
                }
                Ok(())
            }
            Sizes::Uniform(from, to) => write!(f, "{from}-{to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_sizes_and_is_written_so_that_it_can_be_read_again() {
        for (text, shown, extremes) in [
            ("64", "64", (64, 64)),
            ("64-1518", "64-1518", (64, 1518)),
            ("64/1518/100", "64/1518/100", (64, 1518)),
            ("aaafg", "64/64/64/1280/1518", (64, 1518)),
            ("zb", "1600/128", (128, 1600)),
            ("imix", "imix", (64, 1518)),
        ] {
            let sizes = Sizes::parse(text, 1600).unwrap();
            assert_eq!(sizes.to_string(), shown);
            assert_eq!(sizes.extremes(), extremes, "{text}");
            assert_eq!(Sizes::parse(shown, 1600), Ok(sizes));
        }
        for (text, expected) in [
            ("", "expected a number of bytes"),
            ("aak", "the letters of RFC 6985"),
            ("64,128", "several in turn"),
            ("100-64", "expected the lower number first"),
            ("70000", "is no size"),
            ("64/", "is no size"),
        ] {
            let error = Sizes::parse(text, 1518).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_come_in_turn_or_each_as_often() {
        let mut random = fastrand::Rng::with_seed(6985);
        let mix = Sizes::parse("imix", 1518).unwrap();
        let first: Vec<u16> = (0..24).map(|number| mix.of(number, &mut random)).collect();
        for (size, times) in [(64, 14), (594, 8), (1518, 2)] {
            let found = first.iter().filter(|one| **one == size).count();
            assert_eq!(found, times, "{size}");
        }
        let uniform = Sizes::Uniform(100, 103);
        let mut found = [0; 4];
        for number in 0..4000 {
            found[usize::from(uniform.of(number, &mut random)) - 100] += 1;
        }
        assert!(
            found.iter().all(|times| (900..1100).contains(times)),
            "{found:?}"
        );
    }
}
