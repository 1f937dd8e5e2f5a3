//! Pings that somebody reported undeliverable, by what was reported.

use std::collections::BTreeMap;

use crate::vm::PingError;

/// So many pings for each error that occurred. In JSON a map of their names.
pub type ErrorCounts = BTreeMap<PingError, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_written_by_their_names() {
        for &error in PingError::ALL {
            let json = format!(r#"{{"{}":1}}"#, error.name());
            let counts = ErrorCounts::from([(error, 1)]);
            assert_eq!(serde_json::to_string(&counts).unwrap(), json);
            assert_eq!(serde_json::from_str::<ErrorCounts>(&json).unwrap(), counts);
        }
    }
}
