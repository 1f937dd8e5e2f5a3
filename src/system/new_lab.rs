//! What is decided about a new lab before any of it is made.

use super::clean::mark_of;
use super::error::SystemError;
use super::lab::LabConfig;
use super::link::Link;
use super::mark::{Mark, Owner};
use crate::wire::MacAddr;

/// Checks that no link of somebody else has the name of the lab's bridge or of one of its first `taps` TAPs.
///
/// # Errors
/// The first name that is taken, and what to do about it.
pub(super) fn check_free<'a>(
    lab: &LabConfig,
    taps: u32,
    mut others: impl Iterator<Item = &'a Link>,
) -> Result<(), SystemError> {
    let is_bridge = |link: &Link| link.name == lab.bridge;
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
        format!("a link called {name} exists already"),
    );
    Err(match mark_of(link).map(|mark| mark.owner()) {
        Some(Owner::Gone) => {
            error.advise("a run that was killed has left it behind: tap-reactor clean")
        }
        Some(Owner::Alive | Owner::Unknown) => {
            error.advise(format!("another run uses it: choose another {flag}"))
        }
        None => error.advise(format!(
            "choose another {flag}, or remove it: ip link delete {name}"
        )),
    })
}

/// The bridge's address. It is given, because a bridge without one takes the lowest of its ports' and changes it as they
/// come and go. With an IPv4 address it is made from that, as those of the VMs are; without, from the process number.
pub(super) fn bridge_mac(lab: &LabConfig, mark: &Mark) -> MacAddr {
    let (first, [a, b, c, d]) = match lab.host_address {
        Some(address) => (0x02, address.addr().octets()),
        None => (0x06, mark.pid().to_be_bytes()),
    };
    MacAddr([first, 0x00, a, b, c, d])
}
