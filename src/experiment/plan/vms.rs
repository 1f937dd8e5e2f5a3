//! The VMs: their number, groups and addresses.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::addresses::{first_of_version, is_host_of};
use super::size::MOST_VMS;
use crate::experiment::scenario::Scenario;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{AddressPlan, Pin, VmPlan};
use crate::ranks::MAX_RANKS;
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
                || name.text.contains([':', '>', '[', ']', ',']))
        {
            let why = "expected a name that no other group has, without : > [ ] and commas, and none that patterns use";
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

/// The VMs of groups that choose their rank.
pub(super) fn pins(groups: &[Group<'_>]) -> Result<Vec<Pin>, SettingError> {
    let chosen = groups.iter().filter_map(|group| {
        let setting = group
            .settings
            .get("rank")
            .filter(|_| group.name.is_some() || groups.len() > 1)?;
        Some((group, setting))
    });
    let pins = chosen.map(|(group, setting)| {
        Ok(Pin {
            vms: group.first..group.first.saturating_add(group.vms),
            rank: setting.number_in(0..=MAX_RANKS - 1)?,
        })
    });
    pins.collect()
}

/// The number of VMs of all groups together.
pub(super) fn check_number(groups: &[Group<'_>]) -> Result<u32, SettingError> {
    let vms: u64 = groups.iter().map(|group| u64::from(group.vms)).sum();
    let number = u32::try_from(vms).ok().filter(|vms| *vms <= MOST_VMS);
    number.ok_or_else(|| {
        // The one with the most is likely to be wrong.
        let most = groups.iter().max_by_key(|group| group.vms);
        let setting = most.and_then(|group| group.settings.get("vms"));
        let of_all = if groups.len() > 1 {
            " in all groups"
        } else {
            ""
        };
        let why = format!("expected no more than {MOST_VMS}{of_all}");
        setting.map_or_else(|| SettingError::new(&why), |setting| setting.error(&why))
    })
}

pub(super) fn vms(
    settings: &Settings,
    groups: &[Group<'_>],
    subnet: Ipv4Net,
) -> Result<Vec<VmPlan>, SettingError> {
    let count: u64 = groups.iter().map(|group| u64::from(group.vms)).sum();
    // The default one is large enough for the most VMs.
    let too_small = |error| settings.or_default("subnet").error(error);
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
    let mut given: HashMap<usize, &Setting> = HashMap::new();
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
        let vm = index.and_then(|index| Some((index, vms.get_mut(index)?)));
        let (index, vm) = vm.ok_or_else(|| {
            setting.error(format_args!(
                "there is no {name:?}; expected vm0 to vm{last}"
            ))
        })?;
        vm.mac = mac;
        if given.insert(index, setting).is_some() {
            return Err(setting.error(format_args!(
                "{name} has one already; expected one for each VM"
            )));
        }
    }
    check_distinct(&vms, groups, &given)?;
    Ok(vms)
}

/// The addresses from `first` on, for which `subnet` must have room.
pub(super) fn starting_at(
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

/// Makes sure that no two VMs have the same address of either kind. Of those that are `given`, the error names the last.
fn check_distinct(
    vms: &[VmPlan],
    groups: &[Group<'_>],
    given: &HashMap<usize, &Setting>,
) -> Result<(), SettingError> {
    let of_group = |vm: u32, name: &str| {
        let group = groups.iter().rev().find(|group| group.first <= vm)?;
        group
            .settings
            .get(name)
            .filter(|_| groups.len() > 1 || group.name.is_some())
    };
    let given = |vm: u32| given.get(&(vm as usize)).copied();
    check_each(vms, |vm| vm.address, |vm| of_group(vm, "address"))?;
    check_each(
        vms,
        |vm| vm.mac,
        |vm| given(vm).or_else(|| of_group(vm, "mac")),
    )
}

fn check_each<'a, A: Ord + Display>(
    vms: &[VmPlan],
    address: impl Fn(&VmPlan) -> A,
    setting: impl Fn(u32) -> Option<&'a Setting>,
) -> Result<(), SettingError> {
    let mut all: Vec<_> = (0u32..).zip(vms).map(|(i, vm)| (address(vm), i)).collect();
    // Quick if they are in order already, as they are by default.
    all.sort();
    let same = all.windows(2).find(|two| two[0].0 == two[1].0);
    let Some([(what, one), (_, other)]) = same else {
        return Ok(());
    };
    let why = format!("vm{one} and vm{other} both have {what}; expected a different one for each");
    let setting = setting(*other).or_else(|| setting(*one));
    Err(setting.map_or_else(|| SettingError::new(&why), |setting| setting.error(&why)))
}
