//! What the command line may ask for. Each error names the flag, what was found and what is allowed.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::Ipv4Net;
use tap_reactor::experiment::{AddressPlan, Experiment, FlowPlan, Target, VmPlan};
use tap_reactor::load::Pacing;
use tap_reactor::system::{LabConfig, Switching};
use tap_reactor::topology::Topology;
use tap_reactor::vm::VmId;
use tap_reactor::wire::{ICMP_ECHO_HEADER_LENGTH, IPV4_HEADER_LENGTH, MacAddr};

use super::{Arguments, Ipv4Addr};

/// Smallest and largest MTU of a TAP (`ETH_MIN_MTU`, and `MAX_MTU` less the Ethernet header, `drivers/net/tun.c`).
const MTU: std::ops::RangeInclusive<u16> = 68..=65_521;

/// A span of time as people write it: `200us`, `10ms`, `2s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err(format!(
            "{text:?} is no time at all; allowed is more than 0, such as 10ms"
        )),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!(
            "{text:?}: {error}; allowed are times such as 200us, 10ms, 2s"
        )),
    }
}

/// Turns the words into a plan.
pub(super) fn experiment(arguments: &Arguments) -> Result<Experiment, String> {
    let lab = lab(arguments)?;
    let vms = vms(arguments)?;
    if arguments.count == Some(0) {
        return Err("--count 0: allowed is 1 or more".to_owned());
    }
    let overhead = IPV4_HEADER_LENGTH + ICMP_ECHO_HEADER_LENGTH;
    let largest = usize::from(arguments.mtu) - overhead;
    if arguments.size > largest {
        return Err(format!(
            "--size {}: with --mtu {} allowed is 0 to {largest} (IPv4 and ICMP headers take {overhead} bytes)",
            arguments.size, arguments.mtu
        ));
    }
    let host = arguments.host_addr;
    if let Some(net) = host {
        if let Some(vm) = vms.iter().position(|vm| vm.address == net.addr()) {
            return Err(format!(
                "--host-addr {net}: that is the address of vm{vm}; allowed is any other, such as {}",
                host_address(arguments.subnet)
            ));
        }
        if !is_host_of(net, net.addr()) {
            return Err(format!(
                "--host-addr {net}: not the address of a host; allowed is one such as {}",
                host_address(arguments.subnet)
            ));
        }
    }
    let flows = arguments
        .ping
        .iter()
        .map(|text| flow(text, &vms, arguments.subnet))
        .collect::<Result<_, _>>()?;
    Ok(Experiment {
        lab,
        vms,
        flows,
        count: arguments.count,
        pacing: Pacing::Interval(arguments.interval),
        timeout: arguments.timeout,
        payload_length: arguments.size,
        duration: arguments.duration,
    })
}

fn lab(arguments: &Arguments) -> Result<LabConfig, String> {
    let netns = arguments.netns.parse().map_err(|why| {
        let name = &arguments.netns;
        format!("--netns {name:?}: {why}; allowed are private, host, or the name of a namespace")
    })?;
    if arguments.vms == 0 {
        return Err("--vms 0: allowed is 1 or more".to_owned());
    }
    if !arguments.attach {
        Topology::new(arguments.vms, arguments.ports_per_bridge).map_err(|error| {
            format!("--ports-per-bridge {}: {error}", arguments.ports_per_bridge)
        })?;
    }
    if !MTU.contains(&arguments.mtu) {
        let (least, most) = (MTU.start(), MTU.end());
        return Err(format!(
            "--mtu {}: allowed is {least} to {most}",
            arguments.mtu
        ));
    }
    if arguments.txqueuelen == Some(0) {
        return Err("--txqueuelen 0: allowed is 1 or more frames".to_owned());
    }
    let lab = LabConfig {
        vms: arguments.vms,
        netns,
        bridge: arguments.bridge.clone(),
        tap_prefix: arguments.tap_prefix.clone(),
        mtu: arguments.mtu,
        host_address: arguments.host_addr,
        attach: arguments.attach,
        tx_queue_length: arguments.txqueuelen,
        switching: Switching::Bridge,
        ports_per_bridge: arguments.ports_per_bridge,
        filter: !arguments.no_filter,
    };
    lab.validate().map_err(|error| error.to_string())?;
    Ok(lab)
}

fn vms(arguments: &Arguments) -> Result<Vec<VmPlan>, String> {
    let subnet = arguments.subnet;
    if subnet.addr() != subnet.network() {
        return Err(format!(
            "--subnet {subnet}: bits are set behind the prefix; allowed is {}",
            subnet.trunc()
        ));
    }
    if !is_host_of(subnet, host_address(subnet).addr()) {
        return Err(format!(
            "--subnet {subnet}: allowed is a network of hosts, such as 10.77.0.0/16"
        ));
    }
    let plan =
        AddressPlan::new(subnet, u64::from(arguments.vms)).map_err(|e| format!("--subnet: {e}"))?;
    let mut vms: Vec<VmPlan> = (0..arguments.vms).map(|i| plan.vm(VmId(i))).collect();
    for text in &arguments.mac {
        let (name, mac) = text.split_once('=').ok_or_else(|| {
            format!("--mac {text:?}: allowed is vmI=MAC, such as vm0=02:00:00:00:00:01")
        })?;
        let mac: MacAddr = mac.parse().map_err(|e| format!("--mac {name}: {e}"))?;
        if !mac.is_unicast() {
            return Err(format!(
                "--mac {text}: not the address of one interface; allowed is a unicast address, such as 02:00:00:00:00:01"
            ));
        }
        let vm = vm(name, &vms).map_err(|e| format!("--mac {text}: {e}"))?;
        if let Some(plan) = vms.get_mut(vm.index()) {
            plan.mac = mac;
        }
    }
    let mut owners = HashMap::new();
    for (i, vm) in vms.iter().enumerate() {
        if let Some(other) = owners.insert(vm.mac, i) {
            return Err(format!(
                "--mac: vm{other} and vm{i} both have {}; allowed is a different one for each",
                vm.mac
            ));
        }
    }
    Ok(vms)
}

fn flow(text: &str, vms: &[VmPlan], subnet: Ipv4Net) -> Result<FlowPlan, String> {
    let fail = |why: String| Err(format!("--ping {text}: {why}"));
    let Some((source, target)) = text.split_once(':') else {
        return fail("allowed is SRC:DST, such as vm0:vm1 or vm0:10.77.0.1".to_owned());
    };
    let source = match vm(source, vms) {
        Ok(vm) => vm,
        Err(why) => return fail(why),
    };
    let target = match target.parse::<Ipv4Addr>() {
        Ok(address) => match vms.iter().position(|vm| vm.address == address) {
            Some(index) => Target::Vm(VmId(index as u32)),
            None if is_host_of(subnet, address) => Target::Address(address),
            None => {
                return fail(format!(
                    "{address} is not a host of {subnet}, and VMs reach no other network"
                ));
            }
        },
        Err(_) => match vm(target, vms) {
            Ok(vm) => Target::Vm(vm),
            Err(why) => return fail(format!("{why}, or an IPv4 address")),
        },
    };
    if target == Target::Vm(source) {
        return fail(format!(
            "{source} can't ping itself; allowed is another VM or address"
        ));
    }
    Ok(FlowPlan { source, target })
}

fn vm(name: &str, vms: &[VmPlan]) -> Result<VmId, String> {
    let index = name
        .strip_prefix("vm")
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    index
        .and_then(|digits| digits.parse::<u32>().ok())
        .filter(|&index| (index as usize) < vms.len())
        .map(VmId)
        .ok_or_else(|| match vms.len() {
            1 => format!("there is no {name:?}; allowed is vm0"),
            n => format!("there is no {name:?}; allowed are vm0 to vm{}", n - 1),
        })
}

/// The address that the host's side of the bridge has by convention: the first of the network.
fn host_address(subnet: Ipv4Net) -> Ipv4Net {
    let first = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1));
    Ipv4Net::new_assert(first, subnet.prefix_len())
}

/// Whether `address` can be one host of `net`.
fn is_host_of(net: Ipv4Net, address: Ipv4Addr) -> bool {
    let is_edge = net.prefix_len() < 31 && (address == net.network() || address == net.broadcast());
    net.contains(&address)
        && !is_edge
        && !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unspecified()
        && address.octets()[0] < 240
}
