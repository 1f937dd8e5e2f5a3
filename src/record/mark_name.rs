//! Names of marks.

use std::fmt;
use std::str::FromStr;

/// The longest name.
const LONGEST: usize = 64;

/// The name of a mark: 1 to 64 letters, digits, `-` and `_`, so that it fits into figures such as
/// `mark.policy.first_pass.p99`, names of files and lines of a trace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MarkName(String);

/// A text is no name of a mark.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{found:?} is no name of a mark; expected 1 to {LONGEST} letters, digits, - and _")]
pub struct NoMarkName {
    /// The text.
    pub found: String,
}

impl MarkName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MarkName {
    type Err = NoMarkName;

    fn from_str(name: &str) -> Result<MarkName, NoMarkName> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        match (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_part) {
            true => Ok(MarkName(name.to_owned())),
            false => Err(NoMarkName {
                found: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for MarkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word() {
        for name in ["policy", "a", "Policy-2_b", &"x".repeat(64)] {
            assert_eq!(name.parse::<MarkName>().unwrap().to_string(), name);
        }
        for name in ["", "a.b", "two words", "ä", "a/b", &"x".repeat(65)] {
            let error = name.parse::<MarkName>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{name:?} is no name of a mark; expected 1 to 64 letters, digits, - and _")
            );
        }
    }
}
