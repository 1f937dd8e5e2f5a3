//! The settings that all VMs share: the source of their addresses, and what they do unasked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::addresses::{is_host, is_host_of, is_host6};
use super::first_host;
use super::probe::port;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{Ipv6Plan, VmDefaults, VmPlan};
use crate::system::Prepared;
use crate::vm::{PingOptions, StampMode, VmId};

pub(super) fn vm_defaults(
    settings: &Settings,
    vms: &[VmPlan],
    subnet: Ipv4Net,
    ipv6: Option<Ipv6Plan>,
    prepared: Prepared,
) -> Result<VmDefaults, SettingError> {
    let (gateway, gateway6) = gateways(settings, vms, subnet, ipv6)?;
    let ipv6 = ipv6.map(|plan| Ipv6Plan {
        gateway: gateway6,
        ..plan
    });
    Ok(VmDefaults {
        prefix_length: subnet.prefix_len(),
        gateway,
        dhcp: settings.switch("dhcp")?,
        dad: match settings.get("dad") {
            Some(setting) => setting.switch()?,
            // On a bridge that exists there are others, who may have any address.
            None => prepared == Prepared::Bridge,
        },
        announce: settings.switch("announce")?,
        udp_echo: settings.switch("udp-echo")?,
        stamp_reflector: stamp_reflector(settings)?,
        tcp_listen: tcp_listen(settings)?,
        ping: ping(settings)?,
        ipv6,
    })
}

/// The longest time that pings wait for VMs that acquire or check their addresses.
pub(super) fn address_wait(
    settings: &Settings,
    vm_defaults: &VmDefaults,
) -> Result<Duration, SettingError> {
    let setting = settings.or_default("address-wait");
    if settings.get("address-wait").is_some() && !vm_defaults.asks_for_addresses() {
        let why = "nothing to wait for; needs --dhcp, --dhcp6, --dad or --slaac";
        return Err(setting.error(why));
    }
    setting.duration_or_none()
}

fn stamp_reflector(settings: &Settings) -> Result<Option<StampMode>, SettingError> {
    let Some(setting) = settings.get("stamp-reflector") else {
        return Ok(None);
    };
    Ok(match setting.choice()? {
        "stateless" => Some(StampMode::Stateless),
        "stateful" => Some(StampMode::Stateful),
        _ => None,
    })
}

fn tcp_listen(settings: &Settings) -> Result<Option<u16>, SettingError> {
    let setting = settings.get("tcp-listen");
    let setting = setting.filter(|setting| setting.text != "off");
    setting
        .map(|setting| port(setting, &setting.text))
        .transpose()
}

fn ping(settings: &Settings) -> Result<PingOptions, SettingError> {
    Ok(PingOptions {
        time_to_live: settings.or_default("ttl").number_in(1..=255)?,
        dscp: settings.or_default("dscp").number_in(0..=63)?,
        dont_fragment: settings.switch("dont-fragment")?,
    })
}

/// The routers for other networks, on IPv4 and on IPv6.
fn gateways(
    settings: &Settings,
    vms: &[VmPlan],
    subnet: Ipv4Net,
    ipv6: Option<Ipv6Plan>,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), SettingError> {
    let (mut ipv4_gateway, mut ipv6_gateway) = (None, None);
    for setting in settings.all("gateway") {
        let example = first_host(subnet).addr();
        let address: IpAddr = setting.value(&format!("an address, such as {example}"))?;
        let again = match address {
            IpAddr::V4(_) if settings.switch("dhcp")? => {
                return Err(
                    setting.error("cannot be used with --dhcp: the server names the gateway")
                );
            }
            IpAddr::V6(_) if settings.switch("slaac")? => {
                return Err(setting.error("cannot be used with --slaac: routers name themselves"));
            }
            IpAddr::V6(_) if settings.switch("dhcp6")? => {
                return Err(setting.error("cannot be used with --dhcp6: routers name themselves"));
            }
            IpAddr::V4(address) => {
                check_gateway(setting, address, vms, subnet)?;
                ipv4_gateway.replace(address).is_some()
            }
            IpAddr::V6(address) => {
                // There is a plan: an IPv6 address asks for one.
                ipv6.map_or(Ok(()), |plan| {
                    check_ipv6_gateway(setting, address, vms, plan)
                })?;
                ipv6_gateway.replace(address).is_some()
            }
        };
        if again {
            return Err(setting.error("expected one IPv4 and one IPv6 address"));
        }
    }
    Ok((ipv4_gateway, ipv6_gateway))
}

fn check_gateway(
    setting: &Setting,
    gateway: Ipv4Addr,
    vms: &[VmPlan],
    subnet: Ipv4Net,
) -> Result<(), SettingError> {
    // One outside the network is a neighbour all the same: clouds have those.
    let is_gateway = if subnet.contains(&gateway) {
        is_host_of(subnet, gateway)
    } else {
        is_host(gateway)
    };
    if !is_gateway {
        let example = first_host(subnet).addr();
        return Err(setting.error(format_args!(
            "no host has that address; expected one such as {example}"
        )));
    }
    if let [only] = vms
        && only.address == gateway
    {
        let why = format_args!("that is the address of vm0, the only VM; expected another one");
        return Err(setting.error(why));
    }
    Ok(())
}

fn check_ipv6_gateway(
    setting: &Setting,
    gateway: Ipv6Addr,
    vms: &[VmPlan],
    plan: Ipv6Plan,
) -> Result<(), SettingError> {
    // The first address of a network is every router's (RFC 4291 section 2.6.1): nobody's in particular.
    if gateway == plan.subnet.network() || !is_host6(gateway) {
        let example = plan.host().addr();
        return Err(setting.error(format_args!(
            "no host has that address; expected one such as {example}"
        )));
    }
    if vms.len() == 1 && plan.address(VmId(0)) == gateway {
        let why = format_args!("that is the address of vm0, the only VM; expected another one");
        return Err(setting.error(why));
    }
    Ok(())
}
