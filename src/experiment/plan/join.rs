//! A bridge that exists and that the VMs' TAPs join (`--join`). It decides some of the plan: the MTU, and which network is
//! likely to be the VMs'.

use std::net::IpAddr;

use ipnet::IpNet;

use super::memberships::group;
use super::netns;
use crate::experiment::VmPlan;
use crate::experiment::options::{Kind, option};
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::system::{
    ExistingBridge, FabricKind, LabConfig, NetnsChoice, SystemError, validate_interface_name,
};

/// Settings that contradict a bridge that exists, and the reason.
const CONTRADICTIONS: &[(&str, &str)] = &[
    ("bridge", "which names a bridge to make"),
    ("attach", "which uses TAPs that exist"),
    ("ports-per-bridge", "which makes bridges"),
    ("host-address", "which changes the bridge"),
    ("vlan-filtering", "which changes the bridge"),
    ("uplink", "which changes the bridge"),
    ("underlay", "which changes the bridge"),
];

/// The setting that names the bridge: the only value of `--join` that is no multicast group.
pub(in crate::experiment) fn named(settings: &Settings) -> Result<Option<&Setting>, SettingError> {
    let mut named = None;
    for setting in settings.all("join") {
        if group(setting)?.is_none() && named.replace(setting).is_some() {
            return Err(setting.error("expected one bridge, and multicast groups beside it"));
        }
    }
    Ok(named)
}

/// Looks up the bridge to join, if there is one; everything that can be told without it is checked before.
pub(super) fn bridge(
    settings: &Settings,
    (fabric, is_simulated): (FabricKind, bool),
    find: impl Fn(&NetnsChoice, &str) -> Result<ExistingBridge, SystemError>,
) -> Result<Option<ExistingBridge>, SettingError> {
    let Some(join) = named(settings)? else {
        return Ok(None);
    };
    let name = &join.text;
    if name == "off" {
        let why =
            "expected the name of a bridge or a multicast group; without the option none is joined";
        return Err(join.error(why));
    }
    validate_interface_name(name).map_err(|why| join.error(why))?;
    if fabric != FabricKind::Bridge || is_simulated {
        let fabric = settings.or_default("fabric");
        let why = format_args!("needs --fabric bridge, and the fabric is {}", fabric.text);
        return Err(join.error(why));
    }
    for (name, why) in CONTRADICTIONS {
        let is_switch = option(name).is_some_and(|option| option.kind == Kind::Switch);
        let other = settings.get(name);
        if let Some(other) = other.filter(|other| !other.is_off()) {
            let other = match is_switch {
                true => format!("--{name}"),
                false => format!("--{name} {}", other.text),
            };
            return Err(join.error(format_args!("expected without {other}, {why}")));
        }
    }
    let netns = netns(settings, fabric)?;
    if netns == NetnsChoice::Private {
        let why = "expected with --netns host, or with --netns NAME for the namespace that has the bridge: \
                   a private one does not exist yet";
        return Err(join.error(why));
    }
    let bridge = find(&netns, name).map_err(SettingError::new)?;
    if settings.get("subnet").is_none() && !settings.switch("dhcp")? {
        return Err(join.error(format_args!(
            "expected with --dhcp, or with --subnet and --first for the VMs' addresses: {}",
            likely_network(&bridge)
        )));
    }
    Ok(Some(bridge))
}

/// Checks that the bridge takes the TAPs of `lab`, and that no VM is told the bridge's own address.
pub(super) fn check(
    settings: &Settings,
    bridge: &ExistingBridge,
    lab: &LabConfig,
    vms: &[VmPlan],
) -> Result<(), SettingError> {
    let error = |why: String| match named(settings) {
        Ok(Some(join)) => join.error(why),
        _ => SettingError::new(why),
    };
    bridge.check(lab).map_err(SettingError::new)?;
    let is_taken = |vm: &VmPlan| {
        let own = bridge.addresses().iter().map(IpNet::addr);
        own.into_iter().any(|own| own == IpAddr::V4(vm.address))
    };
    match vms.iter().position(is_taken) {
        Some(vm) if !settings.switch("dhcp")? => {
            let address = vms.get(vm).map(|vm| vm.address.to_string());
            let address = address.unwrap_or_default();
            Err(error(format!(
                "{address}, which would be vm{vm}'s, is the address of the bridge itself; expected another --first"
            )))
        }
        _ => Ok(()),
    }
}

/// The network that the bridge's own address is in, as what is likely to be meant.
fn likely_network(bridge: &ExistingBridge) -> String {
    let name = bridge.name();
    let own = bridge.addresses().iter().find_map(|address| match address {
        IpNet::V4(address) => Some(address),
        IpNet::V6(_) => None,
    });
    match own {
        Some(own) => format!(
            "{name} itself has {own}, so --subnet {} is likely, with a --first from which on addresses are free",
            own.trunc()
        ),
        None => format!("{name} itself has no IPv4 address that would tell its network"),
    }
}
