//! The addresses of the host's side of the bridge: at most one of each version.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::addresses::is_host_of;
use super::first_host;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{Ipv6Plan, VmPlan};
use crate::system::LabConfig;
use crate::vm::VmId;

/// Puts the addresses into the plan of the lab, and checks that as a whole.
pub(super) fn addresses(
    settings: &Settings,
    lab: &mut LabConfig,
    vms: &[VmPlan],
    subnet: Ipv4Net,
    ipv6: Option<Ipv6Plan>,
) -> Result<(), SettingError> {
    for setting in settings.all("host-address") {
        if settings.switch("attach")? {
            let why = "cannot be used with --attach, which leaves the bridge as it is";
            return Err(setting.error(why));
        }
        let net: IpNet = setting.value("an address and its prefix length, such as 10.77.0.1/16")?;
        let again = match net {
            IpNet::V4(net) => {
                check_ipv4(setting, net, vms, subnet)?;
                lab.host_address.replace(net).is_some()
            }
            IpNet::V6(net) => {
                // There is a plan: an IPv6 address asks for one.
                ipv6.map_or(Ok(()), |plan| check_ipv6(setting, net, vms, &plan))?;
                lab.host_address6.replace(net).is_some()
            }
        };
        if again {
            return Err(setting.error("expected one IPv4 and one IPv6 address"));
        }
    }
    lab.validate().map_err(SettingError::new)
}

fn check_ipv4(
    setting: &Setting,
    net: Ipv4Net,
    vms: &[VmPlan],
    subnet: Ipv4Net,
) -> Result<(), SettingError> {
    let example = first_host(subnet);
    if let Some(vm) = vms.iter().position(|vm| vm.address == net.addr()) {
        let why =
            format_args!("that is the address of vm{vm}; expected any other, such as {example}");
        return Err(setting.error(why));
    }
    if !is_host_of(subnet, net.addr()) {
        let why = format_args!("not a host of {subnet}; expected one such as {example}");
        return Err(setting.error(why));
    }
    if !is_host_of(net, net.addr()) {
        let why = format_args!("not the address of a host; expected one such as {example}");
        return Err(setting.error(why));
    }
    Ok(())
}

fn check_ipv6(
    setting: &Setting,
    net: Ipv6Net,
    vms: &[VmPlan],
    plan: &Ipv6Plan,
) -> Result<(), SettingError> {
    let (address, example) = (net.addr(), plan.host());
    let vm = (0..vms.len() as u32).find(|&vm| plan.address(VmId(vm)) == address);
    if let Some(vm) = vm {
        let why =
            format_args!("that is the address of vm{vm}; expected any other, such as {example}");
        return Err(setting.error(why));
    }
    // The first address of a network is every router's (RFC 4291 section 2.6.1).
    if !plan.subnet.contains(&address) || address == plan.subnet.network() {
        let why = format_args!(
            "not a host of {}; expected one such as {example}",
            plan.subnet
        );
        return Err(setting.error(why));
    }
    Ok(())
}
