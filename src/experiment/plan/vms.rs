//! The VMs: their number, groups and addresses.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::addresses::{first_of_version, is_host_of};
use super::size::MOST_VMS;
use crate::experiment::scenario::Scenario;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{AddressPlan, VmPlan};
use crate::vm::VmId;
use crate::wire::MacAddr;

/// Some VMs in a row.
pub(super) struct Group<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) first: u32,
    pub(super) vms: u32,
    pub(super) settings: &'a Settings,
}

/// VMs of a group that does not say how many it has.
pub(in crate::experiment) const VMS_OF_A_GROUP: u32 = 1;

pub(super) fn groups(scenario: &Scenario) -> Result<Vec<Group<'_>>, SettingError> {
    let number = |setting: &Setting| match setting.number::<u32>("a number of VMs") {
        Ok(0) => Err(setting.error(format_args!("expected 1 or more"))),
        other => other,
    };
    if scenario.groups.is_empty() {
        let settings = &scenario.settings;
        return Ok(vec![Group {
            name: None,
            first: 0,
            vms: number(&settings.or_default("vms"))?,
            settings,
        }]);
    }
    if let Some(setting) = scenario.settings.get("vms") {
        return Err(
            setting.error("cannot be used with groups, each of which has its own number of VMs")
        );
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for settings in &scenario.groups {
        let vms = settings.get("vms").map_or(Ok(VMS_OF_A_GROUP), number)?;
        let first = groups
            .last()
            .map_or(0, |group| group.first.saturating_add(group.vms));
        let name = settings.get("name");
        if let Some(name) = name
            && (groups
                .iter()
                .any(|group| group.name == Some(name.text.as_str()))
                || ["all", "random"].contains(&name.text.as_str())
                || name.text.starts_with("vm")
                || name.text.contains([':', '[', ']']))
        {
            let why = "expected a name that no other group has, without : [ ], and none that patterns use";
            return Err(name.error(why));
        }
        groups.push(Group {
            name: name.map(|name| name.text.as_str()),
            first,
            vms,
            settings,
        });
    }
    Ok(groups)
}

/// The number of VMs of all groups together.
pub(super) fn check_number(groups: &[Group<'_>]) -> Result<u32, SettingError> {
    let vms: u64 = groups.iter().map(|group| u64::from(group.vms)).sum();
    let number = u32::try_from(vms).ok().filter(|vms| *vms <= MOST_VMS);
    number.ok_or_else(|| {
        SettingError::new(format_args!("vms: {vms}; expected no more than {MOST_VMS}"))
    })
}

pub(super) fn vms(
    settings: &Settings,
    groups: &[Group<'_>],
    subnet: Ipv4Net,
) -> Result<Vec<VmPlan>, SettingError> {
    let count: u64 = groups.iter().map(|group| u64::from(group.vms)).sum();
    let too_small = |error| match settings.get("subnet").or(settings.get("vms")) {
        Some(setting) => setting.error_naming(error),
        None => SettingError::new(error),
    };
    let addresses = match first_of_version(settings, IpAddr::is_ipv4)? {
        Some((setting, IpAddr::V4(first))) => starting_at(setting, first, subnet, count)?,
        _ => AddressPlan::new(subnet, count).map_err(too_small)?,
    };
    let mut vms: Vec<VmPlan> = (0..count as u32).map(|i| addresses.vm(VmId(i))).collect();
    for group in groups
        .iter()
        .filter(|group| group.name.is_some() || groups.len() > 1)
    {
        let members = vms
            .iter_mut()
            .skip(group.first as usize)
            .take(group.vms as usize);
        place_group(group, members, subnet)?;
    }
    for setting in settings.all("mac") {
        let (name, mac) = setting
            .text
            .split_once('=')
            .ok_or_else(|| setting.error("expected vmI=MAC, such as vm0=02:00:00:00:00:01"))?;
        let mac = unicast(setting, mac)?;
        let index = name
            .strip_prefix("vm")
            .and_then(|index| index.parse::<usize>().ok());
        let last = vms.len().saturating_sub(1);
        let vm = index.and_then(|index| vms.get_mut(index));
        vm.ok_or_else(|| {
            setting.error(format_args!(
                "there is no {name:?}; expected vm0 to vm{last}"
            ))
        })?
        .mac = mac;
    }
    check_distinct(&vms)?;
    Ok(vms)
}

/// The addresses from `first` on, for which `subnet` must have room.
fn starting_at(
    setting: &Setting,
    first: Ipv4Addr,
    subnet: Ipv4Net,
    vms: u64,
) -> Result<AddressPlan, SettingError> {
    if !is_host_of(subnet, first) {
        return Err(setting.error(format_args!("expected a host of {subnet}")));
    }
    let last = u64::from(u32::from(first)).saturating_add(vms.saturating_sub(1));
    let last = u32::try_from(last).map(Ipv4Addr::from);
    if !last.is_ok_and(|last| is_host_of(subnet, last)) {
        let why = format_args!("from there on {subnet} has no room for {vms} VMs");
        return Err(setting.error(why));
    }
    Ok(AddressPlan::starting_at(first))
}

/// Gives the VMs of a group the addresses that the group asks for: the first one's, and those that follow it.
fn place_group<'a>(
    group: &Group<'_>,
    members: impl Iterator<Item = &'a mut VmPlan>,
    subnet: Ipv4Net,
) -> Result<(), SettingError> {
    let address = group.settings.get("address");
    let first: Option<Ipv4Addr> = address
        .map(|setting| setting.value("an IPv4 address of the subnet"))
        .transpose()?;
    let mac = group.settings.get("mac");
    let first_mac = mac
        .map(|setting| unicast(setting, &setting.text))
        .transpose()?;
    for (i, vm) in (0u32..).zip(members) {
        if let (Some(setting), Some(first)) = (address, first) {
            vm.address = Ipv4Addr::from(u32::from(first).wrapping_add(i));
            if !is_host_of(subnet, vm.address) {
                let why = format_args!("{} is not a host of {subnet}", vm.address);
                return Err(setting.error(why));
            }
            let [a, b, c, d] = vm.address.octets();
            vm.mac = MacAddr([2, 0, a, b, c, d]);
        }
        if let (Some(setting), Some(MacAddr([a, b, c, d, e, f]))) = (mac, first_mac) {
            let low = u32::from_be_bytes([c, d, e, f]).checked_add(i);
            let [c, d, e, f] = low
                .ok_or_else(|| setting.error("the group's addresses run over ff:ff:ff:ff"))?
                .to_be_bytes();
            vm.mac = MacAddr([a, b, c, d, e, f]);
        }
    }
    Ok(())
}

fn unicast(setting: &Setting, mac: &str) -> Result<MacAddr, SettingError> {
    let mac: MacAddr = mac.parse().map_err(|error| setting.error(error))?;
    if !mac.is_unicast() {
        let why = "not the address of one interface; expected a unicast address, such as 02:00:00:00:00:01";
        return Err(setting.error(why));
    }
    Ok(mac)
}

/// Makes sure that no two VMs have the same address of either kind.
fn check_distinct(vms: &[VmPlan]) -> Result<(), SettingError> {
    check_each(vms, |vm| vm.address)?;
    check_each(vms, |vm| vm.mac)
}

fn check_each<A: Ord + Display>(
    vms: &[VmPlan],
    address: impl Fn(&VmPlan) -> A,
) -> Result<(), SettingError> {
    let mut all: Vec<_> = (0u32..).zip(vms).map(|(i, vm)| (address(vm), i)).collect();
    // Quick if they are in order already, as they are by default.
    all.sort();
    let same = all.windows(2).find(|two| two[0].0 == two[1].0);
    match same {
        Some([(what, one), (_, other)]) => Err(SettingError::new(format_args!(
            "mac and address: vm{one} and vm{other} both have {what}; expected a different one for each"
        ))),
        _ => Ok(()),
    }
}
