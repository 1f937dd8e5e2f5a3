//! The settings of the VMs for IPv6, if any option needs it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::addresses::{first_of_version, is_host6, is_of_hosts6};
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{Ipv6Plan, Scenario};
use crate::vm::VmId;
use crate::wire::IPV6_MINIMUM_MTU;

/// A network for examples in messages.
const EXAMPLE: &str = "fd77::/64";
/// Addresses of a network that are no VM's: the network's own and the host side's.
const RESERVED: u32 = 2;

/// The plan, or `None` when nothing asks for IPv6: a switch, a network, an address or a target.
pub(super) fn ipv6(
    scenario: &Scenario,
    mtu: u16,
    vms: u32,
) -> Result<Option<Ipv6Plan>, SettingError> {
    let settings = &scenario.settings;
    let slaac = settings.switch("slaac")?;
    let dhcp = settings.switch("dhcp6")?;
    let mut wanting = ["ipv6", "slaac", "dhcp6"]
        .into_iter()
        .filter_map(|name| settings.get(name))
        .collect::<Vec<_>>();
    wanting.extend(settings.get("subnet6"));
    for settings in scenario.phases.iter().chain([settings]) {
        wanting.extend(settings.get("ping-ipv6"));
        wanting.extend(
            settings
                .all("ping")
                .iter()
                .filter(|setting| is_ipv6_target(setting)),
        );
    }
    let has_colon = |setting: &&Setting| setting.text.contains(':');
    for name in ["host-address", "gateway", "first"] {
        wanting.extend(settings.all(name).iter().filter(has_colon));
    }
    for settings in scenario.groups.iter().chain([settings]) {
        wanting.extend(settings.all("join").iter().filter(has_colon));
    }
    let Some(wanting) = wanting.into_iter().find(|setting| !setting.is_off()) else {
        return Ok(None);
    };
    if let Some(off) = settings.get("ipv6")
        && !off.switch()?
    {
        return Err(wanting.error(format_args!(
            "cannot be used with {}={}",
            off.flag(),
            off.text
        )));
    }
    if usize::from(mtu) < IPV6_MINIMUM_MTU {
        let why = format!("IPv6 needs an MTU of {IPV6_MINIMUM_MTU} or more (RFC 8200 section 5)");
        return Err(match settings.get("mtu") {
            Some(setting) => setting.error(why),
            None => SettingError::new(why),
        });
    }
    let subnet = subnet(settings, vms)?;
    let plan = Ipv6Plan {
        subnet,
        first: first(settings, subnet, vms)?,
        gateway: None,
        slaac,
        dhcp,
    };
    Ok(Some(plan))
}

/// Makes sure that the IPv6 network has room for `vms` VMs.
pub(super) fn check_room(settings: &Settings, vms: u32) -> Result<(), SettingError> {
    let subnet = subnet(settings, vms)?;
    first(settings, subnet, vms).map(drop)
}

/// Returns true if a pattern's target is an IPv6 address: no other has a colon in it.
fn is_ipv6_target(setting: &Setting) -> bool {
    let target = setting.text.split_once(':').map(|(_, target)| target);
    target.is_some_and(|target| target.contains(':'))
}

fn subnet(settings: &Settings, vms: u32) -> Result<Ipv6Net, SettingError> {
    let setting = settings.or_default("subnet6");
    let subnet: Ipv6Net = setting.value(&format!("an IPv6 network, such as {EXAMPLE}"))?;
    if subnet.addr() != subnet.network() {
        return Err(setting.error(format_args!(
            "bits are set behind the prefix; expected {}",
            subnet.trunc()
        )));
    }
    if !is_of_hosts6(subnet) {
        let why = format_args!("expected a network of hosts, such as {EXAMPLE}");
        return Err(setting.error(why));
    }
    let room = addresses(subnet);
    if u64::from(vms) + u64::from(RESERVED) > room {
        let room = room.saturating_sub(RESERVED.into());
        return Err(setting.error(format_args!("has room for {room} VMs, not for {vms}")));
    }
    Ok(subnet)
}

/// The number of addresses of a network, capped at the largest `u64`.
fn addresses(subnet: Ipv6Net) -> u64 {
    let host_bits = 128 - u32::from(subnet.prefix_len());
    1u64.checked_shl(host_bits).unwrap_or(u64::MAX)
}

/// The address of `vm0`: as somebody says, or network + 2. All VMs have room from there on.
fn first(settings: &Settings, subnet: Ipv6Net, vms: u32) -> Result<Ipv6Addr, SettingError> {
    let default = subnet.network().to_bits().wrapping_add(RESERVED.into());
    let Some((setting, IpAddr::V6(first))) = first_of_version(settings, IpAddr::is_ipv6)? else {
        return Ok(Ipv6Addr::from_bits(default));
    };
    // The first address of a network is every router's (RFC 4291 section 2.6.1).
    if !subnet.contains(&first) || first == subnet.network() {
        return Err(setting.error(format_args!("expected a host of {subnet}")));
    }
    let last = first
        .to_bits()
        .checked_add(u128::from(vms.saturating_sub(1)));
    if last.is_none_or(|last| !subnet.contains(&Ipv6Addr::from_bits(last))) {
        return Err(setting.error(format_args!(
            "from there on {subnet} has no room for {vms} VMs"
        )));
    }
    Ok(first)
}

impl Ipv6Plan {
    /// The address of `vm`: that of `vm0` + index.
    pub fn address(&self, vm: VmId) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.first.to_bits().wrapping_add(vm.0.into()))
    }

    /// The address that the host's side of the bridge has by convention: network + 1.
    pub fn host(&self) -> Ipv6Net {
        let first = Ipv6Addr::from_bits(self.subnet.network().to_bits().wrapping_add(1));
        Ipv6Net::new(first, self.subnet.prefix_len()).unwrap_or(self.subnet)
    }

    /// Checks that VMs can ping `address`; the error says why they can't.
    pub(super) fn check_reachable(&self, address: Ipv6Addr) -> Result<(), String> {
        if !is_host6(address) {
            return Err(format!("{address} is not the address of one host"));
        }
        let is_near = self.subnet.contains(&address) || address.is_unicast_link_local();
        if is_near || self.slaac || self.dhcp || self.gateway.is_some() {
            return Ok(());
        }
        Err(format!(
            "{address} is not a host of {}, and without --gateway, --slaac or --dhcp6 VMs know of no router to other networks",
            self.subnet
        ))
    }
}
