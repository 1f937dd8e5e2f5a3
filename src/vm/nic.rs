//! The network interface of a VM: its hardware address, and the groups that it is in.

use std::net::{IpAddr, Ipv4Addr};

use super::{PROTOCOLS, Vm};
use crate::time::Instant;
use crate::wire::{
    ArpPacket, DHCP_SERVER_PORT, EthernetFrame, Ipv4Packet, MacAddr, PROTOCOL_UDP, Payload,
    ipv4_multicast_mac, multicast_mac,
};

/// The receive filter of a network interface, as a network card is told it. A fabric may keep everything else from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RxFilter {
    /// Its hardware address.
    pub mac: MacAddr,
    /// The IPv4 addresses that it answers ARP requests for (RFC 826). None while it looks for one: it hears all then.
    pub addresses: Vec<Ipv4Addr>,
    /// The groups that it is a member of, broadcast not counted.
    pub groups: Vec<MacAddr>,
    /// It takes every frame, whomever that is for.
    pub is_promiscuous: bool,
}

impl RxFilter {
    /// The filter of an interface that is in no group and has no IPv4 address yet.
    pub fn new(mac: MacAddr) -> RxFilter {
        RxFilter {
            mac,
            addresses: Vec::new(),
            groups: Vec::new(),
            is_promiscuous: false,
        }
    }

    /// Lets a frame through, or not: one for the interface, for a group that it is in, or a broadcast that is neither an
    /// ARP request between others nor for DHCP servers, of which no VM is one. Announcements (sender = target, RFC 5227)
    /// and replies concern everybody.
    ///
    /// A network card passes requests between others, and a host updates what it knows of their senders. They are dropped
    /// all the same: when N VMs resolve one neighbour each, they are N² frames.
    pub fn accepts(&self, frame: &EthernetFrame<'_>) -> bool {
        if self.is_promiscuous {
            return true;
        }
        if frame.destination != MacAddr::BROADCAST {
            return frame.destination == self.mac || self.groups.contains(&frame.destination);
        }
        match frame.payload() {
            Ok(Payload::Arp(arp)) => {
                arp.operation != ArpPacket::REQUEST
                    || self.addresses.is_empty()
                    || self.addresses.contains(&arp.target)
                    || self.addresses.contains(&arp.sender)
                    || arp.sender == arp.target
            }
            Ok(Payload::Ipv4(packet)) => !is_for_dhcp_servers(&packet),
            _ => true,
        }
    }
}

impl Vm {
    /// The hardware address of its interface.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The filter of its network interface: no other frame makes the VM do anything, until it has another address.
    pub fn rx_filter(&self) -> RxFilter {
        let address = self.address().or(self.ipv4.tentative());
        let mut groups = Vec::new();
        self.each_group(&mut |group| {
            let mac = group_mac(group);
            if !groups.contains(&mac) {
                groups.push(mac);
            }
        });
        RxFilter {
            mac: self.mac(),
            addresses: address.into_iter().collect(),
            groups,
            is_promiscuous: false,
        }
    }

    /// Tells if a frame to `destination` is for its network interface.
    pub(super) fn accepts(&self, destination: MacAddr) -> bool {
        let is_of_group = || {
            let mut is_of_group = false;
            self.each_group(&mut |group| is_of_group |= group_mac(group) == destination);
            is_of_group
        };
        destination == self.mac
            || destination == MacAddr::BROADCAST
            || destination.is_multicast() && is_of_group()
    }

    /// Joins a group, which is reported to routers from `at` on; one of a protocol that it does not speak is not joined.
    /// Its receive filter is another one then.
    pub fn join_group(&mut self, at: Instant, group: IpAddr) {
        self.is_dirty = true;
        match group {
            IpAddr::V4(group) => self.join_ipv4_group(at, group),
            IpAddr::V6(group) => self.join_ipv6_group(at, group),
        }
    }

    /// Tells if it is in the group `group`.
    pub(super) fn is_in_group(&self, group: IpAddr) -> bool {
        let mut is_in_group = false;
        self.each_group(&mut |own| is_in_group |= own == group);
        is_in_group
    }

    /// Tells of each group that one of its protocols is in, of some twice.
    pub(super) fn each_group(&self, tell: &mut dyn FnMut(IpAddr)) {
        for protocol in PROTOCOLS {
            (protocol.groups)(self, tell);
        }
    }
}

/// The hardware address that packets to the group `group` are sent to.
pub(super) fn group_mac(group: IpAddr) -> MacAddr {
    match group {
        IpAddr::V4(group) => ipv4_multicast_mac(group),
        IpAddr::V6(group) => multicast_mac(group),
    }
}

/// Tells if a datagram goes to the port of DHCP servers.
pub(crate) fn is_for_dhcp_servers(packet: &Ipv4Packet<'_>) -> bool {
    packet.protocol == PROTOCOL_UDP
        && !packet.is_fragment
        && packet.options.is_empty()
        && packet.payload.get(2..4) == Some(&DHCP_SERVER_PORT.to_be_bytes())
}
