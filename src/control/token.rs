//! The token that a client of a lab shows where the kernel does not tell who it is (RFC 6750).

use std::fmt;
use std::str::FromStr;

use constant_time_eq::constant_time_eq;

/// The environment variable that has a token, for the program and its clients. Hooks do not get it.
pub const TOKEN_VARIABLE: &str = "TAP_REACTOR_TOKEN";

/// Characters of a token at least: 16 random ones of base64 are 96 bits.
pub const SHORTEST_TOKEN: usize = 16;
/// Characters of a token at most.
pub const LONGEST_TOKEN: usize = 4096;

/// The scheme of `Authorization`.
const SCHEME: &str = "Bearer";

/// A secret that client and lab share. It shows itself nowhere: not as text, and not in `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a text is no token. It does not quote the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits and - . _ ~ + / =, as 'openssl rand -hex 32' prints them"
)]
pub struct TokenError;

impl FromStr for Token {
    type Err = TokenError;

    /// Reads a token; line ends after it are no part of it.
    ///
    /// # Errors
    /// If it is too short to be a secret, or has a character that a header field can't carry in a token.
    fn from_str(text: &str) -> Result<Token, TokenError> {
        let text = text.trim_end_matches(['\n', '\r']);
        let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        match (SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&text.len())
            && text.bytes().all(is_of_token)
        {
            true => Ok(Token(text.to_owned())),
            false => Err(TokenError),
        }
    }
}

impl Token {
    /// Its bytes, for who authenticates by it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the value of the header field `Authorization` that shows it.
    pub fn authorization(&self) -> String {
        format!("{SCHEME} {}", self.0)
    }

    /// Returns true if `authorization`, the value of a header field, shows this token. The time that it takes depends on the
    /// length of what was shown alone.
    pub fn is_shown_by(&self, authorization: &[u8]) -> bool {
        let (scheme, shown) = authorization
            .split_at_checked(SCHEME.len())
            .unwrap_or_default();
        // Schemes are told apart without their case (RFC 9110, section 11.1).
        scheme.eq_ignore_ascii_case(SCHEME.as_bytes())
            && shown.first() == Some(&b' ')
            && constant_time_eq(shown.trim_ascii(), self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The value of a request's `Authorization`, which shows itself nowhere either.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials(pub(super) Vec<u8>);

impl Credentials {
    /// The value as it came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "c2VjcmV0-of.the_lab~+/==";

    #[test]
    fn a_token_is_long_enough_to_be_a_secret_and_fits_a_header_field() {
        for (text, is_token) in [
            (TEXT, true),
            ("0123456789abcdef", true),
            ("0123456789abcdef\n", true),
            ("0123456789abcdef\r\n", true),
            ("0123456789abcde", false),
            ("0123456789abcde\n", false),
            ("", false),
            ("0123456789abcdef\nx", false),
            ("0123456789 abcdef", false),
            ("0123456789abcdef\0", false),
            ("0123456789abcdefä", false),
        ] {
            assert_eq!(text.parse::<Token>().is_ok(), is_token, "{text:?}");
        }
        assert!("x".repeat(LONGEST_TOKEN).parse::<Token>().is_ok());
        assert!("x".repeat(LONGEST_TOKEN + 1).parse::<Token>().is_err());
    }

    #[test]
    fn only_the_whole_token_in_its_scheme_is_taken() {
        let token: Token = TEXT.parse().unwrap();
        let longer = format!("Bearer {TEXT}=");
        for (shown, is_right) in [
            (token.authorization().as_str(), true),
            (&format!("bearer {TEXT}"), true),
            (&format!("BEARER  {TEXT} "), true),
            (&longer, false),
            (&longer[..longer.len() - 2], false),
            (&format!("Basic {TEXT}"), false),
            (&format!("Bearer\t{TEXT}"), false),
            (&format!("Bearer{TEXT}"), false),
            (&format!("Bearer {}", TEXT.to_uppercase()), false),
            (TEXT, false),
            ("Bearer ", false),
            ("Bearer", false),
            ("", false),
        ] {
            assert_eq!(token.is_shown_by(shown.as_bytes()), is_right, "{shown:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown_by_accident() {
        let token: Token = TEXT.parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token");
        let error = "short".parse::<Token>().unwrap_err().to_string();
        assert!(!error.contains("short"), "{error}");
    }
}
