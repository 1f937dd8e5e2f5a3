//! A lab that somebody else has prepared: it must be complete, is used as it is, and left alone (`--attach`).

use std::collections::HashSet;
use std::time::Duration;

use super::super::error::SystemError;
use super::super::lab_config::LabConfig;
use super::super::netlink::Netlink;
use super::super::netlink::bridge::BridgeSettings;
use super::super::netlink::link::{Link, LinkKind};
use super::super::tap::Tap;
use super::Switching;

/// The prepared bridge, whose ports are the prepared TAPs.
#[derive(Debug)]
pub(in crate::system) struct AttachedBridge {
    name: String,
    index: u32,
    settings: BridgeSettings,
}

/// Its TAPs are ports already.
impl Switching for AttachedBridge {
    fn links(&self, lab: &LabConfig) -> HashSet<String> {
        [lab.bridge.clone()].into()
    }

    fn bridge_index(&self) -> Option<u32> {
        Some(self.index)
    }

    /// A TAP has a carrier only while somebody is attached to it, and the bridge has its own from its ports.
    fn slow_ports<'a>(&'a self, taps: HashSet<&'a str>) -> HashSet<&'a str> {
        let bridge = (!taps.is_empty()).then_some(self.name.as_str());
        taps.into_iter().chain(bridge).collect()
    }

    fn time_to_forward(&self) -> Duration {
        self.settings.time_to_forward()
    }
}

/// Checks that the bridge and all TAPs of `lab` are there and ready.
///
/// # Errors
/// The first thing that is not as it should be, with the command that prepares it.
pub(in crate::system) fn check_attached_lab(
    netlink: &mut Netlink,
    lab: &LabConfig,
) -> Result<AttachedBridge, SystemError> {
    let bridge = check_bridge(netlink, &lab.bridge)?;
    let links = netlink.links()?;
    let mut taps = vec![None; lab.vms as usize];
    for link in &links {
        let index = lab.tap_index(&link.name).map(|index| index as usize);
        if let Some(slot) = index.and_then(|index| taps.get_mut(index)) {
            *slot = Some(link);
        }
    }
    for (index, link) in (0..).zip(taps) {
        check_tap(lab, Some(bridge.index), &lab.tap_name(index), link)?;
    }
    Ok(bridge)
}

/// Attaches to a prepared TAP, a port of the bridge with the index `bridge`. Returns with it how many frames it had dropped by then.
///
/// # Errors
/// When it is not as it should be. It is never made: `TUNSETIFF` would make one that is missing, so this looks it up
/// before, and after.
pub(in crate::system) fn attach_tap(
    netlink: &mut Netlink,
    lab: &LabConfig,
    bridge: Option<u32>,
    name: &str,
) -> Result<(Tap, u64), SystemError> {
    let before = netlink.link(name)?;
    check_tap(lab, bridge, name, before.as_ref())?;
    let tap = Tap::attach(name)?;
    let after = netlink.link(name)?;
    match (before, after) {
        (Some(before), Some(after)) if before.index == after.index => Ok((tap, after.tx_dropped)),
        _ => {
            let operation = format!("attach to TAP {name}");
            Err(SystemError::refused(operation, "it was removed just now"))
        }
    }
}

fn check_bridge(netlink: &mut Netlink, name: &str) -> Result<AttachedBridge, SystemError> {
    let refused = |why: &str| SystemError::refused(format!("attach to bridge {name}"), why);
    let Some(link) = netlink.link(name)? else {
        return Err(refused("there is no such link").advise(format!(
            "ip link add {name} type bridge; ip link set {name} up"
        )));
    };
    let Some(settings) = netlink.bridge_settings(name)? else {
        return Err(refused("it is not a bridge"));
    };
    if !link.up {
        return Err(refused("it is down").advise(format!("ip link set {name} up")));
    }
    Ok(AttachedBridge {
        name: link.name,
        index: link.index,
        settings,
    })
}

fn check_tap(
    lab: &LabConfig,
    bridge_index: Option<u32>,
    name: &str,
    link: Option<&Link>,
) -> Result<(), SystemError> {
    let LabConfig { bridge, mtu, .. } = lab;
    let refused = |why: &str, what_to_do: String| {
        Err(SystemError::refused(format!("attach to TAP {name}"), why).advise(what_to_do))
    };
    let make = format!("ip tuntap add dev {name} mode tap; ip link set {name} master {bridge} up");
    match link {
        None => refused("there is no such link", make),
        Some(link) if link.kind != LinkKind::Tap => refused("it is not a TAP", make),
        Some(link) if link.master != bridge_index => refused(
            &format!("it is not a port of bridge {bridge}"),
            format!("ip link set {name} master {bridge}"),
        ),
        Some(link) if !link.up => refused("it is down", format!("ip link set {name} up")),
        Some(link) if link.mtu < u32::from(*mtu) => refused(
            &format!("its MTU is {}, the lab's {mtu}", link.mtu),
            format!("ip link set {name} mtu {mtu}, or --mtu {}", link.mtu),
        ),
        Some(_) => Ok(()),
    }
}
