//! The configuration of a VM.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::StampMode;
use crate::wire::{MacAddr, Vlan};

/// The configuration of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmConfig {
    /// The hardware address of its interface.
    pub mac: MacAddr,
    /// The largest IP datagram that its link carries, in bytes. Larger ones are sent in fragments.
    pub mtu: u16,
    /// Where its random choices start from: two VMs of one run are to have different ones.
    pub seed: u64,
    /// Nanoseconds from 1970 (UTC) to [`crate::time::Instant::ZERO`]: hosts tell each other the time (RFC 792, RFC 8762).
    pub unix_nanos: u64,
    /// The VLAN that it is in.
    pub vlan: Option<Vlan>,
    /// It reflects STAMP test packets to UDP port 862 (RFC 8762).
    pub stamp_reflector: Option<StampMode>,
    /// The TCP port at which it accepts connections and closes them again.
    pub tcp_listen: Option<u16>,
    /// Its IPv4 part.
    pub ipv4: Ipv4Config,
    /// Its IPv6 part; `None` for a VM without IPv6.
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
            unix_nanos: 0,
            vlan: None,
            stamp_reflector: None,
            tcp_listen: None,
            ipv6: None,
        }
    }
}

/// The IPv4 part of a VM's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Config {
    /// Where its address comes from.
    pub addressing: Addressing,
    /// It asks if somebody else has the address before it uses it (RFC 5227 section 2.1).
    pub probe: bool,
    /// How long after its start it announces its address (RFC 5227 section 2.3), if at all. Many VMs that announce at
    /// once are a broadcast storm, hence the delay.
    pub announce: Option<Duration>,
    /// It sends back datagrams to UDP port 7 (RFC 862).
    pub udp_echo: bool,
}

/// The IPv6 part of a VM's configuration, beside the link-local address that it makes from its hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Config {
    /// An address that it is told.
    pub interface: Option<Ipv6Interface>,
    /// The router for other networks, until one says that it is.
    pub gateway: Option<Ipv6Addr>,
    /// It asks if somebody else has an address before it uses it (RFC 4862 section 5.4).
    pub probe: bool,
    /// It takes addresses and default routers from router advertisements.
    pub slaac: bool,
    /// It takes addresses from a DHCP server (RFC 8415), and default routers and on-link prefixes from router
    /// advertisements.
    pub dhcp: bool,
    /// How long after its start it reports the groups that it listens to. Many VMs that do so at once are a storm.
    pub report: Duration,
    /// How long after its start, or after it has made sure of an address, it announces it (RFC 4861 section 7.2.6), if at
    /// all.
    pub announce: Option<Duration>,
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
    /// The router for datagrams to other networks.
    pub gateway: Option<Ipv4Addr>,
}

/// An address, and the network that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Interface {
    /// The address.
    pub address: Ipv6Addr,
    /// How many of its bits name the network, 0 to 128: hosts that share them are neighbours.
    pub prefix_length: u8,
}
