//! The `clean` subcommand: removes the links and namespaces that killed runs have left behind.

use tap_reactor::system;

use super::run::{RunError, last_of, print};

/// Removes what killed runs have left behind, and prints what was removed and what was kept.
pub fn clean() -> Result<(), RunError> {
    let cleaned = system::clean()?;
    let mut text = String::new();
    for name in &cleaned.removed {
        text.push_str(&format!("removed {name}\n"));
    }
    for (name, reason) in &cleaned.kept {
        text.push_str(&format!("kept {name}: {reason}\n"));
    }
    if text.is_empty() && cleaned.failed.is_empty() {
        text.push_str("nothing to remove\n");
    }
    print(&text)?;
    last_of(cleaned.failed.into_iter().map(RunError::from).collect())
}
