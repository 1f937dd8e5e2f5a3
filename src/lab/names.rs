//! The names of VMs and flows in reports and transcripts.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::experiment::{Experiment, VmPlan};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::load::Target;
use crate::report::FlowName;
use crate::vm::VmId;

/// Returns source and destination of the flow with that index. `leased` has the addresses that VMs got in the run.
pub(super) fn flow_name(
    experiment: &Experiment,
    leased: &[Option<Ipv4Addr>],
    index: usize,
) -> Option<FlowName> {
    let flow = experiment.flows.get(index)?;
    let planned = experiment.destination(flow)?;
    let lease = match flow.target {
        Target::Vm(vm) if planned.is_unspecified() => leased.get(vm.index()).copied().flatten(),
        _ => None,
    };
    let address = lease.map_or(planned, IpAddr::V4).to_string();
    let src = flow.source.to_string();
    Some(match flow.target {
        Target::Vm(vm) => FlowName {
            src,
            dst: vm.to_string(),
            address: Some(address).filter(|_| lease.is_some() || !planned.is_unspecified()),
        },
        Target::Address(_) => FlowName {
            src,
            dst: address,
            address: None,
        },
    })
}

/// Returns the VMs' addresses if they come from a DHCP server; empty otherwise.
pub(super) fn leased_addresses(
    experiment: &Experiment,
    hypervisor: &Hypervisor<impl Fabric>,
) -> Vec<Option<Ipv4Addr>> {
    let vms = (0..experiment.vms.len() as u32).map(VmId);
    let address = |vm| hypervisor.vm(vm).and_then(|vm| vm.address());
    if experiment.vm_defaults.dhcp {
        vms.map(address).collect()
    } else {
        Vec::new()
    }
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
        let ipv6 = experiment.ipv6_address(VmId(index as u32));
        ipv6.map_or_else(|| address.clone(), |ipv6| format!("{address} and {ipv6}"))
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
    match experiment.serve {
        Some(duration) => format!("serving {who} for {}", humantime::format_duration(duration)),
        None => format!("serving {who} until SIGINT or SIGTERM"),
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

/// Describes the start of a VM, for a transcript.
pub(super) fn describe_vm(experiment: &Experiment, vm: VmId, plan: &VmPlan) -> String {
    let ipv6 = experiment.ipv6_address(vm);
    let ipv6 = ipv6.map_or(String::new(), |address| format!(" and {address}"));
    let address = ipv4_words(experiment, plan.address);
    format!(
        "{address}{ipv6} at {} on {}{}",
        plan.mac, experiment.lab.tap_prefix, vm.0
    )
}
