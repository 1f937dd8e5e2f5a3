//! What a VM is, before it has done anything.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::ipv6::Ipv6Config;
use crate::wire::{MacAddr, Vlan};

/// What a VM is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmConfig {
    /// The hardware address of its interface.
    pub mac: MacAddr,
    /// The largest IP datagram that its link carries, in bytes. Larger ones are sent in fragments.
    pub mtu: u16,
    /// Where its random choices start from: two VMs of one run are to have different ones.
    pub seed: u64,
    /// Milliseconds from midnight UTC to [`crate::time::Instant::ZERO`]: hosts tell each other the time of day (RFC 792).
    pub time_of_day: u32,
    /// The VLAN that it is in.
    pub vlan: Option<Vlan>,
    /// What it is on IPv4.
    pub ipv4: Ipv4Config,
    /// What it is on IPv6, if it speaks it.
    pub ipv6: Option<Ipv6Config>,
}

impl VmConfig {
    /// A VM that has the address `address` from the start, takes everybody for its neighbour, and does nothing unasked.
    pub fn new(mac: MacAddr, address: Ipv4Addr) -> VmConfig {
        let interface = Ipv4Interface {
            address,
            prefix_length: 0,
            gateway: None,
        };
        VmConfig {
            mac,
            mtu: 1500,
            seed: u64::from(u32::from(address)),
            ipv4: Ipv4Config {
                addressing: Addressing::Static(interface),
                probe: false,
                announce: None,
                udp_echo: false,
            },
            time_of_day: 0,
            vlan: None,
            ipv6: None,
        }
    }
}

/// What a VM is on IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Config {
    /// Where its address comes from.
    pub addressing: Addressing,
    /// Whether it asks if somebody else has the address before it uses it (RFC 5227 section 2.1).
    pub probe: bool,
    /// Whether it announces its address (RFC 5227 section 2.3), and how long after its start. Many VMs that announce at
    /// once are a broadcast storm, hence the delay.
    pub announce: Option<Duration>,
    /// Whether it sends back what comes to UDP port 7 (RFC 862).
    pub udp_echo: bool,
}

/// Where a VM's IPv4 address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// It is told.
    Static(Ipv4Interface),
    /// From a DHCP server (RFC 2131).
    Dhcp,
}

/// An IPv4 address and what it takes to use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Interface {
    /// The address.
    pub address: Ipv4Addr,
    /// How many of its bits name the network: who shares them is a neighbour, 0 to 32.
    pub prefix_length: u8,
    /// Who takes datagrams for other networks.
    pub gateway: Option<Ipv4Addr>,
}

impl Ipv4Interface {
    /// Whom a datagram for `destination` is handed to. `None` when there is no way there. The gateway is a neighbour even
    /// outside the network, as clouds have it that lease an address of its own to each VM (/32).
    pub fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        if self.is_neighbour(destination) {
            Some(destination)
        } else {
            self.gateway
        }
    }

    /// Whether `address` is everybody's on this network: all ones behind the prefix, or everywhere.
    pub fn is_broadcast(&self, address: Ipv4Addr) -> bool {
        let directed = u32::from(self.address) | !self.mask();
        address.is_broadcast() || (self.prefix_length < 31 && u32::from(address) == directed)
    }

    fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(self.address)) & self.mask() == 0
    }

    fn mask(&self) -> u32 {
        let host_bits = 32 - u32::from(self.prefix_length.min(32));
        u32::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_the_network_goes_to_the_gateway() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        let table = [
            (16, Some("10.77.0.1"), "10.77.9.9", Some("10.77.9.9")),
            (16, Some("10.77.0.1"), "10.78.0.1", Some("10.77.0.1")),
            (16, None, "10.78.0.1", None),
            (24, Some("10.77.1.1"), "10.78.0.1", Some("10.77.1.1")),
            (32, Some("169.254.1.1"), "10.77.0.3", Some("169.254.1.1")),
            (0, None, "192.0.2.1", Some("192.0.2.1")),
            (32, None, "10.77.0.3", None),
        ];
        for (prefix_length, gateway, destination, next_hop) in table {
            let interface = Ipv4Interface {
                address: ip("10.77.0.2"),
                prefix_length,
                gateway: gateway.map(ip),
            };
            assert_eq!(
                interface.next_hop(ip(destination)),
                next_hop.map(ip),
                "/{prefix_length} {gateway:?} {destination}"
            );
        }
    }

    #[test]
    fn a_broadcast_address_is_told_from_a_hosts() {
        for (prefix_length, address, expected) in [
            (16, [10, 77, 255, 255], true),
            (16, [255; 4], true),
            (16, [10, 77, 0, 255], false),
            (31, [10, 77, 0, 3], false),
            (32, [10, 77, 0, 2], false),
        ] {
            let interface = Ipv4Interface {
                address: Ipv4Addr::new(10, 77, 0, 2),
                prefix_length,
                gateway: None,
            };
            assert_eq!(
                interface.is_broadcast(address.into()),
                expected,
                "{address:?}/{prefix_length}"
            );
        }
    }
}
