//! A validated plan: what to build, what to send. Plain data, checked before anything is touched.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::load::Pacing;
use crate::system::LabConfig;
use crate::vm::{Addressing, Ipv4Config, Ipv4Interface, VmConfig, VmId};
use crate::wire::MacAddr;

/// What one VM is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmPlan {
    /// The hardware address of its interface.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
}

/// What a flow is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowPlan {
    /// Who sends.
    pub source: VmId,
    /// Who is to answer.
    pub target: Target,
}

/// What all VMs of a run have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestPlan {
    /// How many bits of an address name the VMs' network.
    pub prefix_length: u8,
    /// Who takes datagrams for other networks.
    pub gateway: Option<Ipv4Addr>,
    /// Whether a VM asks if somebody else has its address before it uses it (RFC 5227).
    pub probe: bool,
    /// Whether a VM announces its address.
    pub announce: bool,
    /// Whether a VM sends back what comes to UDP port 7 (RFC 862).
    pub udp_echo: bool,
}

/// How much later than the one before it a VM announces its address, for each port of the bridge: a broadcast costs the
/// kernel 2 to 2.5 µs a port, so that this takes a quarter of a processor.
const ANNOUNCEMENT_PER_PORT: Duration = Duration::from_micros(10);

/// The destination of a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// One of our VMs.
    Vm(VmId),
    /// Something that is not a VM.
    Address(Ipv4Addr),
}

/// What to build, what to send, and for how long.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Where the VMs live.
    pub lab: LabConfig,
    /// The VMs, `vm0` first.
    pub vms: Vec<VmPlan>,
    /// What the VMs have in common.
    pub guests: GuestPlan,
    /// Who pings whom. Without flows the VMs only answer.
    pub flows: Vec<FlowPlan>,
    /// Pings of each flow; `None` for as many as the time allows.
    pub count: Option<u64>,
    /// When each flow's pings are due.
    pub pacing: Pacing,
    /// How long a reply is waited for.
    pub timeout: Duration,
    /// Bytes of payload of each ping.
    pub payload_length: usize,
    /// When to stop; `None` for when everything is done.
    pub duration: Option<Duration>,
}

/// The default address plan: the host's side has `.1` of the subnet, the VMs what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressPlan {
    subnet: Ipv4Net,
}

/// A subnet that can't hold the VMs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{subnet} has room for {room} VMs (network, host side and broadcast address taken off), not for {vms}"
)]
pub struct SubnetTooSmall {
    subnet: Ipv4Net,
    room: u64,
    vms: u64,
}

impl AddressPlan {
    /// A plan for `vms` VMs in `subnet`.
    ///
    /// # Errors
    /// When the subnet has fewer addresses than VMs need.
    pub fn new(subnet: Ipv4Net, vms: u64) -> Result<AddressPlan, SubnetTooSmall> {
        let room = (1u64 << (32 - subnet.prefix_len())).saturating_sub(3);
        if vms > room {
            return Err(SubnetTooSmall { subnet, room, vms });
        }
        Ok(AddressPlan {
            subnet: subnet.trunc(),
        })
    }

    /// Address and MAC of `vm`: network + 2 + index, and `02:00` followed by that address.
    pub fn vm(&self, vm: VmId) -> VmPlan {
        let address = Ipv4Addr::from(u32::from(self.subnet.network()).wrapping_add(2 + vm.0));
        let [a, b, c, d] = address.octets();
        VmPlan {
            mac: MacAddr([2, 0, a, b, c, d]),
            address,
        }
    }
}

impl Experiment {
    /// What VM number `index` is told at its start. `None` if there is none of that number.
    pub fn vm_config(&self, index: usize) -> Option<VmConfig> {
        let VmPlan { mac, address } = *self.vms.get(index)?;
        let guests = &self.guests;
        let turn = u32::try_from(index * self.vms.len()).unwrap_or(u32::MAX);
        Some(VmConfig {
            mac,
            mtu: self.lab.mtu,
            seed: index as u64,
            ipv4: Ipv4Config {
                addressing: Addressing::Static(Ipv4Interface {
                    address,
                    prefix_length: guests.prefix_length,
                    gateway: guests.gateway,
                }),
                probe: guests.probe,
                announce: guests
                    .announce
                    .then(|| ANNOUNCEMENT_PER_PORT.saturating_mul(turn)),
                udp_echo: guests.udp_echo,
            },
        })
    }

    /// The address that a flow's pings go to. `None` if its VM does not exist.
    pub fn destination(&self, target: Target) -> Option<Ipv4Addr> {
        match target {
            Target::Vm(vm) => self.vms.get(vm.index()).map(|vm| vm.address),
            Target::Address(address) => Some(address),
        }
    }

    /// How many pings all flows together are to send; `None` when that depends on the time.
    pub fn planned_pings(&self) -> Option<u64> {
        self.count
            .map(|count| count.saturating_mul(self.flows.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vm_has_the_address_after_the_hosts() {
        let plan = AddressPlan::new("10.77.0.0/16".parse().unwrap(), 2).unwrap();
        let vm = plan.vm(VmId(0));
        assert_eq!(
            (vm.address.to_string(), vm.mac.to_string()),
            ("10.77.0.2".into(), "02:00:0a:4d:00:02".into())
        );
        assert_eq!(plan.vm(VmId(254)).address.to_string(), "10.77.1.0");
    }

    #[test]
    fn a_subnet_holds_all_but_three_of_its_addresses() {
        let subnet = |text: &str| text.parse().unwrap();
        for (net, fits, too_many) in [
            ("10.0.0.0/29", 5, 6),
            ("10.0.0.0/30", 1, 2),
            ("10.0.0.0/16", 65_533, 65_534),
        ] {
            assert!(AddressPlan::new(subnet(net), fits).is_ok(), "{net}");
            assert!(AddressPlan::new(subnet(net), too_many).is_err(), "{net}");
        }
        assert!(AddressPlan::new(subnet("10.0.0.0/31"), 1).is_err());
        assert!(AddressPlan::new(subnet("10.0.0.0/32"), 1).is_err());
    }
}
