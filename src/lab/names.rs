//! The names of VMs and flows in reports and transcripts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::experiment::{Experiment, IpVersion, VmPlan};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::load::Target;
use crate::report::{FlowName, StreamName};
use crate::vm::{VmId, is_link_scope};
use crate::wire::link_local;

/// The addresses that VMs got from DHCP servers in the run: IPv4 and IPv6, by VM. Empty if they get none.
#[derive(Clone, Debug, Default)]
pub(super) struct Leased(Vec<[Option<IpAddr>; 2]>);

impl Leased {
    /// The addresses that VMs have now.
    pub(super) fn of(experiment: &Experiment, hypervisor: &Hypervisor<impl Fabric>) -> Leased {
        let mut versions = [IpVersion::V4, IpVersion::V6].into_iter();
        if !versions.any(|version| experiment.vm_defaults.leases(version)) {
            return Leased::default();
        }
        let versions = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let vms = (0..experiment.vms.len() as u32).map(|vm| hypervisor.vm(VmId(vm)));
        Leased(
            vms.map(|vm| versions.map(|version| vm?.leased_address(version)))
                .collect(),
        )
    }

    /// The address of `vm` of the version of `like`.
    fn get(&self, vm: VmId, like: IpAddr) -> Option<IpAddr> {
        let [ipv4, ipv6] = *self.0.get(vm.index())?;
        if like.is_ipv4() { ipv4 } else { ipv6 }
    }
}

/// Returns source and destination of the flow with that index.
pub(super) fn flow_name(
    experiment: &Experiment,
    leased: &Leased,
    index: usize,
) -> Option<FlowName> {
    let flow = experiment.flows.get(index)?;
    let planned = experiment.destination(flow)?;
    let lease = match flow.target {
        Target::Vm(vm) if planned.is_unspecified() => leased.get(vm, planned),
        _ => None,
    };
    let address = lease.unwrap_or(planned).to_string();
    let src = flow.source.to_string();
    Some(match flow.target {
        Target::Vm(vm) => FlowName {
            src,
            dst: vm.to_string(),
            probe: flow.probe.kind,
            address: Some(address).filter(|_| lease.is_some() || !planned.is_unspecified()),
            members: Vec::new(),
        },
        Target::Address(_) => FlowName {
            src,
            dst: address,
            probe: flow.probe.kind,
            address: None,
            members: members(experiment, leased, flow.source, planned),
        },
    })
}

/// Returns the names of the streams, by their numbers.
pub(super) fn stream_names(experiment: &Experiment, leased: &Leased) -> Vec<StreamName> {
    let streams = experiment.streams.iter();
    let names = streams.map(|stream| {
        let planned = experiment.destination_of(stream);
        let (dst, address) = match (stream.target, stream.name) {
            (Target::Vm(vm), _) => {
                let lease = planned.filter(IpAddr::is_unspecified);
                let lease = lease.map(|planned| leased.get(vm, planned));
                (vm.to_string(), lease.unwrap_or(planned))
            }
            (Target::Address(address), Some(name)) => (name.to_owned(), Some(address)),
            (Target::Address(address), None) => (address.to_string(), None),
        };
        StreamName {
            src: stream.source.to_string(),
            dst,
            address: address.map(|address| address.to_string()),
            sizes: stream.sizes.to_string(),
            phase: stream.phase.clone(),
        }
    });
    names.collect()
}

/// Returns the VMs other than `source` that join `group`, each with the address that it answers from. None of what is no
/// group.
fn members(
    experiment: &Experiment,
    leased: &Leased,
    source: VmId,
    group: IpAddr,
) -> Vec<(VmId, IpAddr)> {
    let version = match group {
        IpAddr::V4(_) => IpVersion::V4,
        IpAddr::V6(_) => IpVersion::V6,
    };
    let address = |vm: VmId| {
        if let IpAddr::V6(group) = group
            && is_link_scope(group)
        {
            // RFC 6724 section 5, rule 2.
            return Some(link_local(experiment.vms.get(vm.index())?.mac).into());
        }
        let lease = leased.get(vm, group);
        lease.or_else(|| experiment.address(vm, version))
    };
    let others = experiment.others(group, source);
    others.filter_map(|vm| Some((vm, address(vm)?))).collect()
}

/// The reason why a run waits before its VMs start.
pub(super) fn waiting_to_forward(experiment: &Experiment, delay: Duration) -> String {
    let delay = humantime::format_duration(delay);
    let bridge = &experiment.lab.bridge;
    format!(
        "{bridge} runs the spanning tree protocol: its new ports forward after {delay}, and the VMs start then"
    )
}

/// Describes a run without pings, before it waits.
pub(super) fn serving(experiment: &Experiment) -> String {
    let addresses = |index: usize, address: Ipv4Addr| {
        let address = ipv4_words(experiment, address);
        format!("{address}{}", ipv6_words(experiment, VmId(index as u32)))
    };
    let last_index = experiment.vms.len().saturating_sub(1);
    let who = match experiment.vms.as_slice() {
        [_] if experiment.vm_defaults.dhcp => "vm0, its address by DHCP,".to_owned(),
        [_, ..] if experiment.vm_defaults.dhcp => {
            format!("vm0 to vm{last_index}, their addresses by DHCP,")
        }
        [first] => format!("vm0 at {}", addresses(0, first.address)),
        [first, .., last] => {
            let first = addresses(0, first.address);
            let final_address = addresses(last_index, last.address);
            format!("vm0 to vm{last_index} at {first} to {final_address}")
        }
        [] => String::new(),
    };
    match (experiment.serve, experiment.listen.control.as_slice()) {
        (Some(duration), _) => {
            format!("serving {who} for {}", humantime::format_duration(duration))
        }
        (None, []) => format!("serving {who} until SIGINT or SIGTERM"),
        (None, addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let addresses = addresses.join(" or ");
            format!("serving {who} until SIGINT, SIGTERM or a request to stop at {addresses}")
        }
    }
}

/// Returns a VM's planned address, or that it gets one by DHCP.
fn ipv4_words(experiment: &Experiment, address: Ipv4Addr) -> String {
    if experiment.vm_defaults.dhcp {
        "an address by DHCP".to_owned()
    } else {
        address.to_string()
    }
}

/// Returns a VM's planned IPv6 address behind the other, or that it gets one by DHCP. Empty if it speaks no IPv6.
fn ipv6_words(experiment: &Experiment, vm: VmId) -> String {
    match experiment.ipv6_address(vm) {
        Some(Ipv6Addr::UNSPECIFIED) => " and one by DHCPv6".to_owned(),
        Some(address) => format!(" and {address}"),
        None => String::new(),
    }
}

/// Describes the start of a VM, for a transcript.
pub(super) fn describe_vm(experiment: &Experiment, vm: VmId, plan: &VmPlan) -> String {
    let ipv6 = ipv6_words(experiment, vm);
    let address = ipv4_words(experiment, plan.address);
    format!(
        "{address}{ipv6} at {} on {}",
        plan.mac,
        experiment.lab.port_name(vm)
    )
}
