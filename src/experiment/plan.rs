//! From what a user asked for to a plan that can be carried out, or to what is wrong with it. Nothing is touched.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::scenario::Scenario;
use super::settings::{Setting, SettingError, Settings};
use super::{AddressPlan, Experiment, FlowPlan, GuestPlan, IpVersion, VmPlan};
use crate::load::{Pattern, Target};
use crate::system::{LabConfig, Neighbours, Switching, validate_interface_name};
use crate::topology::Callers;
use crate::vm::{MAX_SESSIONS, VmId};
use crate::wire::{
    ICMP_ECHO_HEADER_LENGTH, IPV4_HEADER_LENGTH, IPV4_MAX_LENGTH, IPV6_HEADER_LENGTH, MacAddr,
};

mod fabric;
mod guests;
mod host;
mod ipv6;
mod moves;
mod neighbours;
mod phases;
mod vlan;

use self::fabric::{Fabric, fabric, frames, ports_per_bridge};

/// Smallest and largest MTU of a TAP (`ETH_MIN_MTU`, and `MAX_MTU` less the Ethernet header, `drivers/net/tun.c`).
const MTU: std::ops::RangeInclusive<u16> = 68..=65_521;
/// Payload of a ping when nothing else is said, as `ping` has it.
const DEFAULT_SIZE: usize = 56;

/// Makes a plan of what `scenario` asks for.
///
/// # Errors
/// With the setting that can't be, where it was written, and what is allowed.
pub fn plan(scenario: &Scenario) -> Result<Experiment, SettingError> {
    let settings = &scenario.settings;
    let groups = groups(scenario)?;
    let count = check_number(&groups)?;
    let subnet = subnet(settings)?;
    let mut vms = vms(settings, &groups, subnet)?;
    let (switching, simulation) = match fabric(settings)? {
        Fabric::Taps(switching) => (switching, None),
        Fabric::Simulated(simulation) => (Switching::External, Some(simulation)),
    };
    let mut lab = lab(settings, count, switching)?;
    vlan::place(settings, &groups, &mut vms)?;
    lab.vlan_filtering = vlan::filtering(settings, &vms)?;
    let ipv6 = ipv6::ipv6(scenario, lab.mtu, lab.vms)?;
    host::addresses(settings, &mut lab, &vms, subnet, ipv6)?;
    let seed = settings
        .get("seed")
        .map_or(Ok(0), |s| s.value("a whole number from 0 on"))?;
    let timeout = settings
        .get("timeout")
        .map_or(Ok(Duration::from_secs(1)), Setting::duration)?;
    let guests = guests::guests(settings, &vms, subnet, ipv6)?;
    let may_fragment = settings.switch("fragment")?;
    if let Some(setting) = settings.get("dont-fragment").filter(|_| may_fragment) {
        return Err(setting.error("not allowed beside fragment"));
    }
    let world = World {
        switching: match simulation {
            // Its ports come and go.
            Some(_) => Switching::Bridge,
            None => lab.switching,
        },
        may_fragment,
        subnet,
        guests: &guests,
        mtu: lab.mtu,
        groups: &groups,
        vms: &vms,
        seed,
    };
    let (flows, phases, serve) = phases::phases(scenario, &world)?;
    check_flow_numbers(&flows)?;
    let is_simulated = simulation.is_some();
    let (neighbours, spared_deliveries) =
        neighbours::neighbours(settings, &lab, is_simulated, &vms, &flows)?;
    lab.neighbours = neighbours;
    lab.callers = callers(&lab, &flows);
    Ok(Experiment {
        lab,
        simulation,
        vms,
        address_wait: guests::address_wait(settings, &guests)?,
        guests,
        flows,
        phases,
        timeout,
        serve,
        spared_deliveries,
        seed,
        spin: spin(settings)?,
    })
}

/// How long to go on polling before sleep: for so long, always, or, when nothing is said, not at all.
fn spin(settings: &Settings) -> Result<Duration, SettingError> {
    match settings.get("spin") {
        None => Ok(Duration::ZERO),
        Some(setting) if setting.text == "always" => Ok(Duration::MAX),
        Some(setting) => humantime::parse_duration(&setting.text).map_err(|error| {
            setting.error(format_args!(
                "{error}; allowed are always, and times such as 50us"
            ))
        }),
    }
}

/// From which leaves VMs are talked to, if anybody wants to know.
fn callers(lab: &LabConfig, flows: &[FlowPlan]) -> Callers {
    let Some(Ok(topology)) = lab.topology() else {
        return Callers::default();
    };
    if lab.neighbours == Neighbours::Asked {
        return Callers::default();
    }
    let to_vm = |flow: &FlowPlan| match flow.target {
        Target::Vm(target) => Some((flow.source, target)),
        Target::Address(_) => None,
    };
    Callers::new(&topology, flows.iter().filter_map(to_vm))
}

/// Some VMs in a row.
struct Group<'a> {
    name: Option<&'a str>,
    first: u32,
    vms: u32,
    settings: &'a Settings,
}

/// What the flows are planned in.
struct World<'a> {
    switching: Switching,
    may_fragment: bool,
    subnet: Ipv4Net,
    guests: &'a GuestPlan,
    mtu: u16,
    groups: &'a [Group<'a>],
    vms: &'a [VmPlan],
    seed: u64,
}

fn groups(scenario: &Scenario) -> Result<Vec<Group<'_>>, SettingError> {
    let number = |setting: &Setting| match setting.value::<u32>("a number of VMs") {
        Ok(0) => Err(setting.error(format_args!("allowed is 1 or more"))),
        other => other,
    };
    let total = scenario.settings.get("vms").map(number).transpose()?;
    if scenario.groups.is_empty() {
        let settings = &scenario.settings;
        return Ok(vec![Group {
            name: None,
            first: 0,
            vms: total.unwrap_or(2),
            settings,
        }]);
    }
    if let Some(setting) = scenario.settings.get("vms") {
        return Err(
            setting.error("not allowed beside groups, which say themselves how many VMs they have")
        );
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for settings in &scenario.groups {
        let vms = settings.get("vms").map_or(Ok(1), number)?;
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
            let why = "allowed is a name that no other group has, without : [ ], and none that patterns use";
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

/// How many VMs the groups have together.
fn check_number(groups: &[Group<'_>]) -> Result<u32, SettingError> {
    let vms: u64 = groups.iter().map(|group| u64::from(group.vms)).sum();
    u32::try_from(vms)
        .map_err(|_| SettingError::new(format_args!("vms: {vms} are more than 32 bits can count")))
}

fn lab(settings: &Settings, vms: u32, switching: Switching) -> Result<LabConfig, SettingError> {
    let default = LabConfig::default();
    let text = |name: &str, default: String| settings.get(name).map_or(default, |s| s.text.clone());
    let netns = settings.get("netns").map_or(Ok(default.netns), |setting| {
        setting.text.parse().map_err(|why| {
            setting.error(format_args!(
                "{why}; allowed are private, host, or the name of a namespace"
            ))
        })
    })?;
    let allowed = format!("{} to {}", MTU.start(), MTU.end());
    let mtu =
        settings
            .get("mtu")
            .map_or(Ok(default.mtu), |setting| match setting.value(&allowed) {
                Ok(mtu) if !MTU.contains(&mtu) => {
                    Err(setting.error(format_args!("allowed is {allowed}")))
                }
                other => other,
            })?;
    for name in ["bridge", "tap-prefix"] {
        if let Some(setting) = settings.get(name) {
            validate_interface_name(&setting.text).map_err(|why| setting.error(why))?;
        }
    }
    Ok(LabConfig {
        vms,
        netns,
        bridge: text("bridge", default.bridge),
        tap_prefix: text("tap-prefix", default.tap_prefix),
        mtu,
        host_address: None,
        host_address6: None,
        vlan_filtering: None,
        attach: settings.switch("attach")?,
        tx_queue_length: frames(settings, "txqueuelen")?,
        switching,
        ports_per_bridge: match switching {
            Switching::Bridge => ports_per_bridge(settings, vms)?,
            _ => default.ports_per_bridge,
        },
        hook: settings.get("hook").map(|setting| setting.text.clone()),
        neighbours: default.neighbours,
        callers: default.callers,
        filter: filter(settings, vms)?,
    })
}

/// Whether the kernel drops what a VM's network card would. It looks at every frame then, pings included, which pays
/// only where many VMs hear each other's broadcasts.
fn filter(settings: &Settings, vms: u32) -> Result<bool, SettingError> {
    const FEW: u32 = 256;
    let (wanted, unwanted) = (settings.switch("filter")?, settings.switch("no-filter")?);
    if wanted && unwanted {
        let why = "--filter: it contradicts --no-filter; allowed is one of them";
        return Err(SettingError::new(why.to_owned()));
    }
    Ok(wanted || !unwanted && vms >= FEW)
}

fn subnet(settings: &Settings) -> Result<Ipv4Net, SettingError> {
    let default = Setting {
        name: "subnet",
        text: "10.77.0.0/16".to_owned(),
        origin: super::Origin::Flag,
    };
    let setting = settings.get("subnet").unwrap_or(&default);
    let subnet: Ipv4Net = setting.value("a network, such as 10.77.0.0/16")?;
    if subnet.addr() != subnet.network() {
        let why = format_args!(
            "bits are set behind the prefix; allowed is {}",
            subnet.trunc()
        );
        return Err(setting.error(why));
    }
    if !is_host_of(subnet, first_host(subnet).addr()) {
        return Err(setting.error("allowed is a network of hosts, such as 10.77.0.0/16"));
    }
    Ok(subnet)
}

fn vms(
    settings: &Settings,
    groups: &[Group<'_>],
    subnet: Ipv4Net,
) -> Result<Vec<VmPlan>, SettingError> {
    let count: u64 = groups.iter().map(|group| u64::from(group.vms)).sum();
    let too_small = |error| match settings.get("subnet").or(settings.get("vms")) {
        Some(setting) => setting.error(error),
        None => SettingError::new(error),
    };
    let addresses = AddressPlan::new(subnet, count).map_err(too_small)?;
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
            .ok_or_else(|| setting.error("allowed is vmI=MAC, such as vm0=02:00:00:00:00:01"))?;
        let mac = unicast(setting, mac)?;
        let index = name
            .strip_prefix("vm")
            .and_then(|index| index.parse::<usize>().ok());
        let last = vms.len().saturating_sub(1);
        let vm = index.and_then(|index| vms.get_mut(index));
        vm.ok_or_else(|| {
            setting.error(format_args!(
                "there is no {name:?}; allowed are vm0 to vm{last}"
            ))
        })?
        .mac = mac;
    }
    check_distinct(&vms)?;
    Ok(vms)
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
        let why = "not the address of one interface; allowed is a unicast address, such as 02:00:00:00:00:01";
        return Err(setting.error(why));
    }
    Ok(mac)
}

fn check_distinct(vms: &[VmPlan]) -> Result<(), SettingError> {
    let mut macs = HashMap::new();
    let mut addresses = HashMap::new();
    for (i, vm) in vms.iter().enumerate() {
        let same_mac = macs
            .insert(vm.mac, i)
            .map(|other| (other, vm.mac.to_string()));
        let same_address = addresses
            .insert(vm.address, i)
            .map(|other| (other, vm.address.to_string()));
        if let Some((other, what)) = same_address.or(same_mac) {
            return Err(SettingError::new(format_args!(
                "mac and address: vm{other} and vm{i} both have {what}; allowed is a different one for each"
            )));
        }
    }
    Ok(())
}

/// Flows of one VM are told apart by the ICMP identifier, of which there are so many.
fn check_flow_numbers(flows: &[FlowPlan]) -> Result<(), SettingError> {
    let mut numbers: HashMap<VmId, usize> = HashMap::new();
    for flow in flows {
        let number = numbers.entry(flow.source).or_default();
        *number += 1;
        if *number > MAX_SESSIONS {
            return Err(SettingError::new(format_args!(
                "ping: {} has more than {MAX_SESSIONS} flows, which is all that ICMP identifiers can tell apart",
                flow.source
            )));
        }
    }
    Ok(())
}

/// The address that the host's side of the bridge has by convention: the first of the network.
fn first_host(subnet: Ipv4Net) -> Ipv4Net {
    let first = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1));
    Ipv4Net::new(first, subnet.prefix_len()).unwrap_or(subnet)
}

/// Whether `address` can be one host of `net`.
fn is_host_of(net: Ipv4Net, address: Ipv4Addr) -> bool {
    let is_edge = net.prefix_len() < 31 && (address == net.network() || address == net.broadcast());
    net.contains(&address) && !is_edge && is_host(address)
}

/// Whether `address` can be one host of some network (RFC 6890).
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !address.is_loopback() && !address.is_unspecified() && first < 224
}

impl World<'_> {
    /// The flows of one pattern, whose sides may be names of groups.
    fn flows(
        &self,
        setting: &Setting,
        size: Option<&Setting>,
        over_ipv6: bool,
    ) -> Result<Vec<FlowPlan>, SettingError> {
        let side = |side: &str| {
            let group = self.groups.iter().find(|group| group.name == Some(side));
            group.map_or_else(
                || side.to_owned(),
                |group| format!("vm[{}-{}]", group.first, group.first + group.vms - 1),
            )
        };
        let text = match setting.text.split_once(':') {
            Some((source, target)) => format!("{}:{}", side(source), side(target)),
            None => setting.text.clone(),
        };
        let pattern: Pattern = text.parse().map_err(|error| setting.error(error))?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let vms = self.vms.len() as u32;
        let flows = pattern
            .flows(vms, &mut random)
            .map_err(|error| setting.error(error))?;
        let mut planned = Vec::with_capacity(flows.len());
        for (source, target) in flows {
            let version = match target {
                Target::Vm(_) if over_ipv6 => IpVersion::V6,
                Target::Address(IpAddr::V6(_)) => IpVersion::V6,
                Target::Vm(_) | Target::Address(IpAddr::V4(_)) => IpVersion::V4,
            };
            let target = self.reachable(target).map_err(|why| setting.error(why))?;
            if target == Target::Vm(source) {
                let why =
                    format_args!("{source} can't ping itself; allowed is another VM or address");
                return Err(setting.error(why));
            }
            let payload_length = self.payload_length(source, size, version)?;
            planned.push(FlowPlan {
                source,
                target,
                version,
                payload_length,
            });
        }
        Ok(planned)
    }

    /// The target, as a VM if it is one.
    fn reachable(&self, target: Target) -> Result<Target, String> {
        let Target::Address(address) = target else {
            return Ok(target);
        };
        let (vm, reachable) = match address {
            IpAddr::V4(address) if self.guests.dhcp => {
                // Which VM will have which address is the server's choice, and so is the way out.
                let why = || format!("{address} can't be the address of a host");
                (None, is_host(address).then_some(()).ok_or_else(why))
            }
            IpAddr::V4(address) => {
                let vm = self.vms.iter().position(|vm| vm.address == address);
                (vm, self.check_reachable(address))
            }
            IpAddr::V6(address) => {
                // A plan is there: an IPv6 target asks for one.
                let plan = self.guests.ipv6.ok_or("VMs don't speak IPv6")?;
                let mut vms = (0..self.vms.len()).map(|vm| plan.address(VmId(vm as u32)));
                (
                    vms.position(|vm| vm == address),
                    plan.check_reachable(address),
                )
            }
        };
        match vm {
            Some(index) => Ok(Target::Vm(VmId(index as u32))),
            None => reachable.map(|()| target),
        }
    }

    /// Why VMs can't ping `address`, which is none of theirs; nothing if they can.
    fn check_reachable(&self, address: Ipv4Addr) -> Result<(), String> {
        let is_outside =
            self.guests.gateway.is_some() && !self.subnet.contains(&address) && is_host(address);
        if is_outside || is_host_of(self.subnet, address) {
            return Ok(());
        }
        Err(format!(
            "{address} is not a host of {}, and without a gateway VMs reach no other network",
            self.subnet
        ))
    }

    /// The payload of pings from `source`: what the phase says, or the source's group, or the default.
    fn payload_length(
        &self,
        source: VmId,
        size: Option<&Setting>,
        version: IpVersion,
    ) -> Result<usize, SettingError> {
        let group = self
            .groups
            .iter()
            .rev()
            .find(|group| group.first <= source.0);
        let Some(setting) = size.or_else(|| group?.settings.get("size")) else {
            return self.fits(DEFAULT_SIZE, None, version);
        };
        self.fits(setting.value("a number of bytes")?, Some(setting), version)
    }

    fn fits(
        &self,
        size: usize,
        setting: Option<&Setting>,
        version: IpVersion,
    ) -> Result<usize, SettingError> {
        // The length that an IPv6 header tells is without the header.
        let (name, header, whole) = match version {
            IpVersion::V4 => ("IPv4", IPV4_HEADER_LENGTH, IPV4_MAX_LENGTH),
            IpVersion::V6 => (
                "IPv6",
                IPV6_HEADER_LENGTH,
                IPV4_MAX_LENGTH + IPV6_HEADER_LENGTH,
            ),
        };
        let overhead = header + ICMP_ECHO_HEADER_LENGTH;
        let mtu = usize::from(self.mtu);
        let largest = if self.may_fragment { whole } else { mtu } - overhead;
        if size <= largest {
            return Ok(size);
        }
        let headers = format!("{name} and ICMP headers take {overhead} bytes");
        let why = if self.may_fragment {
            format!("in fragments allowed is 0 to {largest} ({headers})")
        } else {
            let most = whole - overhead;
            format!(
                "with an MTU of {mtu} allowed is 0 to {largest} ({headers}), or up to {most} with --fragment"
            )
        };
        Err(match setting {
            Some(setting) => setting.error(why),
            None => SettingError::new(format_args!("size {size}: {why}")),
        })
    }
}

#[cfg(test)]
mod tests;
