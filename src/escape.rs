//! Escapes text from files and frames, so that it can't control the terminal that displays it.

use std::fmt::{self, Write as _};

/// Returns true for characters that control a terminal or the layout of text instead of being displayed: control
/// characters, 0x80 to 0x9f included (ECMA-48), line and paragraph separators, and changes of the writing direction
/// (Unicode Standard Annex 9), which make a text look like another.
pub const fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f'
            | '\x7f'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Displays text with [hidden](is_hidden) characters escaped, such as `\u{1b}`, `\n` or `\u{202e}`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|each| match is_hidden(each) {
            true => each
                .escape_default()
                .try_for_each(|part| f.write_char(part)),
            false => f.write_char(each),
        })
    }
}

/// Returns `text` with [hidden](is_hidden) characters escaped.
pub fn escaped(text: &str) -> String {
    Escaped(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_do_something_is_shown_and_all_else_is_left_alone() {
        for (text, shown) in [
            (
                "vm0 → 10.77.0.3, 8.12 µs: 日本語 é",
                "vm0 → 10.77.0.3, 8.12 µs: 日本語 é",
            ),
            (
                "\x1b[2Jred\x1b]0;title\x07",
                "\\u{1b}[2Jred\\u{1b}]0;title\\u{7}",
            ),
            ("a\nb\r\tc\0\x7f", "a\\nb\\r\\tc\\u{0}\\u{7f}"),
            ("\u{85}\u{9b}31m", "\\u{85}\\u{9b}31m"),
            (
                "\u{202e}evil\u{2066}\u{200f}\u{61c}\u{2028}",
                "\\u{202e}evil\\u{2066}\\u{200f}\\u{61c}\\u{2028}",
            ),
            ("C:\\n", "C:\\n"),
        ] {
            assert_eq!(escaped(text), shown);
            assert!(!shown.chars().any(is_hidden));
        }
        for kept in [
            ' ', '~', '\u{a0}', '\u{60}', '\u{200d}', '\u{2027}', '\u{202f}', '\u{2065}',
            '\u{206a}',
        ] {
            assert!(!is_hidden(kept), "{kept:?}");
        }
    }
}
