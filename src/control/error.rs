//! What a client is told when something can't be done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a request was not carried out: the body of every response whose status is 400 or above.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct ApiError {
    /// The status code of the response.
    #[serde(skip)]
    pub status: u16,
    /// The methods that the resource has, if the request had another.
    #[serde(skip)]
    pub allow: Option<String>,
    /// What is wrong.
    pub error: String,
    /// What was expected in its place.
    pub expected: String,
}

impl ApiError {
    /// `error` says what is wrong, `expected` what was expected in its place.
    pub fn new(status: u16, error: impl Into<String>, expected: impl Into<String>) -> ApiError {
        ApiError {
            status,
            allow: None,
            error: error.into(),
            expected: expected.into(),
        }
    }

    /// `words` are those of an error for a terminal: what is wrong, then `expected` and what was expected.
    pub fn in_words(status: u16, words: &impl ToString) -> ApiError {
        let words = words.to_string();
        match words.rsplit_once("expected ") {
            Some((error, expected)) if !error.trim().is_empty() => {
                let error = error.trim_end();
                // Behind a colon, they name no more than what is wrong.
                let error = match error.strip_suffix(':') {
                    Some(what) => format!("{what} can't be"),
                    None => error.trim_end_matches([';', ',']).to_owned(),
                };
                ApiError::new(status, error, expected)
            }
            Some((_, expected)) => {
                ApiError::new(status, "it is none of what is expected", expected)
            }
            None => ApiError::new(status, words, "another value"),
        }
    }

    /// Returns the document.
    pub(super) fn to_json(&self) -> Vec<u8> {
        // Texts can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
