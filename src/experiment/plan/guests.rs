//! What all VMs have in common: how they come by their addresses, and what they do unasked.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{first_host, is_host_of};
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{GuestPlan, Ipv6Plan, VmPlan};
use crate::vm::PingOptions;

pub(super) fn guests(
    settings: &Settings,
    vms: &[VmPlan],
    subnet: Ipv4Net,
    ipv6: Option<Ipv6Plan>,
) -> Result<GuestPlan, SettingError> {
    let gateway = settings
        .get("gateway")
        .map(|setting| gateway(setting, vms, subnet))
        .transpose()?;
    Ok(GuestPlan {
        prefix_length: subnet.prefix_len(),
        gateway,
        dhcp: dhcp(settings)?,
        probe: settings.switch("probe")?,
        announce: settings.switch("announce")?,
        udp_echo: settings.switch("udp-echo")?,
        ping: ping(settings)?,
        ipv6,
    })
}

/// Whether addresses come from a server, which then says all there is to say about them.
fn dhcp(settings: &Settings) -> Result<bool, SettingError> {
    let dhcp = settings.switch("dhcp")?;
    if dhcp {
        if let Some(setting) = settings.get("gateway") {
            return Err(setting.error("not allowed with dhcp: the server names the gateway"));
        }
        if settings.switch("static-neighbours")? {
            return Err(SettingError::new(
                "static-neighbours: not allowed with dhcp: nobody's address is known beforehand",
            ));
        }
    }
    Ok(dhcp)
}

fn ping(settings: &Settings) -> Result<PingOptions, SettingError> {
    let default = PingOptions::default();
    let number = |name: &str, default: u8, allowed: std::ops::RangeInclusive<u8>| {
        let words = format!("{} to {}", allowed.start(), allowed.end());
        settings.get(name).map_or(Ok(default), |setting| {
            let value = setting.value(&words)?;
            if allowed.contains(&value) {
                Ok(value)
            } else {
                Err(setting.error(format_args!("allowed is {words}")))
            }
        })
    };
    Ok(PingOptions {
        time_to_live: number("ttl", default.time_to_live, 1..=255)?,
        dscp: number("dscp", default.dscp, 0..=63)?,
        dont_fragment: settings.switch("dont-fragment")?,
    })
}

fn gateway(setting: &Setting, vms: &[VmPlan], subnet: Ipv4Net) -> Result<Ipv4Addr, SettingError> {
    let example = first_host(subnet).addr();
    let gateway: Ipv4Addr = setting.value(&format!("an IPv4 address, such as {example}"))?;
    if !is_host_of(subnet, gateway) {
        return Err(setting.error(format_args!(
            "not a host of {subnet}, where the VMs could reach it; allowed is one such as {example}"
        )));
    }
    if let [only] = vms
        && only.address == gateway
    {
        let why = format_args!("that is the address of vm0, the only VM; allowed is another one");
        return Err(setting.error(why));
    }
    Ok(gateway)
}
