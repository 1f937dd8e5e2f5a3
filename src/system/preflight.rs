//! Checks of a new lab before any of it is made.

use std::collections::HashSet;

use super::clean::mark_of;
use super::error::SystemError;
use super::lab_config::LabConfig;
use super::mark::Owner;
use super::netlink::link::{Link, LinkKind};

/// Checks that no link of somebody else has the name of one of the lab's `bridges` and their links, or of one of its first
/// `taps` TAPs.
///
/// # Errors
/// The first name that is taken, and what to do about it.
pub(super) fn check_free<'a>(
    lab: &LabConfig,
    bridges: &HashSet<String>,
    taps: u32,
    mut others: impl Iterator<Item = &'a Link>,
) -> Result<(), SystemError> {
    let is_bridge = |link: &Link| bridges.contains(&link.name);
    let is_tap = |link: &Link| lab.tap_index(&link.name).is_some_and(|index| index < taps);
    let Some(link) = others.find(|link| is_bridge(link) || is_tap(link)) else {
        return Ok(());
    };
    let (what, flag) = if is_bridge(link) {
        ("bridge", "--bridge")
    } else {
        ("TAP", "--tap-prefix")
    };
    let name = &link.name;
    let error = SystemError::refused(
        format!("create {what} {name}"),
        format!("a link of that name exists, {}", link.kind),
    );
    Err(match mark_of(link).map(|mark| mark.owner()) {
        Some(Owner::Gone) => {
            error.advise("a run that was killed has left it behind: tap-reactor clean")
        }
        Some(Owner::Alive | Owner::Unknown) => {
            error.advise(format!("another run uses it: choose another {flag}"))
        }
        None if is_bridge(link) && link.kind == LinkKind::Bridge => error.advise(format!(
            "choose another --bridge, or add TAPs to that one: --join {name}"
        )),
        None => error.advise(format!("choose another {flag}")),
    })
}
