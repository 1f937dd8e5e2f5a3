//! The multicast groups that VMs join (`--join GROUP`): of all VMs, and of single groups of a scenario.

use std::net::{IpAddr, Ipv4Addr};

use super::vms::Group;
use crate::experiment::settings::{Setting, SettingError};
use crate::experiment::{Membership, Scenario};
use crate::wire::{ALL_HOSTS, ALL_NODES};

/// The most groups that one VM joins on each version of IP, as of a socket in Linux (`igmp_max_memberships`).
const MOST_GROUPS: usize = 20;

const EXPECTED: &str = "expected a multicast group, such as 239.1.2.3";

/// The address that the value of `--join` is, if it is one, and not the name of a bridge.
///
/// # Errors
/// When it looks like an address and is none.
pub(super) fn group(setting: &Setting) -> Result<Option<IpAddr>, SettingError> {
    let text = &setting.text;
    let address = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    match address.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => {
            let has_dots = text.contains('.') && !text.contains(|c: char| c.is_alphabetic());
            match has_dots || text.contains(':') {
                true => Err(setting.error(EXPECTED)),
                false => Ok(None),
            }
        }
    }
}

/// Who joins which group.
pub(super) fn memberships(
    scenario: &Scenario,
    groups: &[Group<'_>],
    vms: u32,
) -> Result<Vec<Membership>, SettingError> {
    let mut memberships: Vec<Membership> = Vec::new();
    for setting in scenario.settings.all("join") {
        if let Some(group) = group(setting)? {
            add(&mut memberships, setting, group, 0..vms)?;
        }
    }
    if scenario.groups.is_empty() {
        return Ok(memberships);
    }
    for of_vms in groups {
        for setting in of_vms.settings.all("join") {
            let group = group(setting)?.ok_or_else(|| setting.error(EXPECTED))?;
            let vms = of_vms.first..of_vms.first + of_vms.vms;
            add(&mut memberships, setting, group, vms)?;
        }
    }
    Ok(memberships)
}

fn add(
    memberships: &mut Vec<Membership>,
    setting: &Setting,
    group: IpAddr,
    vms: std::ops::Range<u32>,
) -> Result<(), SettingError> {
    check(group).map_err(|why| setting.error(why))?;
    let of_first = memberships
        .iter()
        .filter(|joined| joined.vms.contains(&vms.start))
        .filter(|joined| joined.group.is_ipv4() == group.is_ipv4());
    if of_first.clone().any(|joined| joined.group == group) {
        return Err(setting.error("joined already; expected each group once"));
    }
    if of_first.count() >= MOST_GROUPS {
        let why = format_args!("expected {MOST_GROUPS} groups at most for each VM");
        return Err(setting.error(why));
    }
    memberships.push(Membership { group, vms });
    Ok(())
}

/// Checks that hosts join that group.
pub(super) fn check(group: IpAddr) -> Result<(), String> {
    match group {
        IpAddr::V4(ALL_HOSTS) => Err(format!("each host is in {ALL_HOSTS} anyway; {EXPECTED}")),
        IpAddr::V6(ALL_NODES) => Err(format!("each host is in {ALL_NODES} anyway; {EXPECTED}")),
        IpAddr::V4(address) if address == Ipv4Addr::new(224, 0, 0, 0) => {
            Err(format!("{address} is reserved; {EXPECTED}"))
        }
        IpAddr::V6(address) if address.is_multicast() && address.octets()[1] & 0x0f < 2 => {
            Err("that group does not leave the host; expected one such as ff05::1:3".to_owned())
        }
        _ if group.is_multicast() => Ok(()),
        _ => Err(format!(
            "not a multicast group, nor the name of a bridge; {EXPECTED}"
        )),
    }
}
