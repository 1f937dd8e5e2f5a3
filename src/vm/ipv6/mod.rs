//! IPv6 (RFC 8200): the packets that a VM takes, and the state that it keeps.
//!
//! A VM without IPv6 has none of this: it is a box, or nothing.

mod address;
mod conflict_detection;
pub(super) mod dhcp;
pub(super) mod fragment;
pub(super) mod icmp;
mod icmp_error;
pub(super) mod mld;
pub(super) mod neighbour_discovery;
mod responder;
mod route;
pub(super) mod router_discovery;
mod slaac;
pub(super) mod tcp;
pub(super) mod udp;

use std::net::Ipv6Addr;

use self::address::Addresses;
pub use self::address::{MAX_IPV6_ADDRESSES, START_WAIT, is_link_scope};
pub use self::conflict_detection::DUPLICATE_PROBES;
use self::dhcp::DhcpClient;
pub use self::fragment::IPV6_REASSEMBLY_TIMEOUT;
use self::mld::Mld;
pub use self::route::{
    MAX_PREFIXES, MAX_ROUTERS, ROUTER_SOLICITATION_INTERVAL, ROUTER_SOLICITATIONS,
};
use self::route::{Routes, may_be_sender};
use super::fragment::Reassembly;
use super::ip::{DEFAULT_TIME_TO_LIVE, Disposition, Input, Received, is_shared};
use super::limiter::ErrorLimiter;
use super::path_mtu::PathMtus;
use super::{Ignored, Ipv6Config, Ipv6Interface, PROTOCOLS, Vm};
use crate::time::Instant;
use crate::wire::{
    ETHER_TYPE_IPV6, IPV6_MINIMUM_MTU, Ipv6Envelope, Ipv6Packet, MacAddr, NeighbourDiscovery,
    PROTOCOL_ICMPV6, UpperLayer, link_local, multicast_mac,
};

/// Bytes that each address takes.
#[cfg(test)]
pub(super) const ADDRESS_BYTES: usize = size_of::<address::Address>();

/// The state of a VM on IPv6.
#[derive(Debug)]
pub(in crate::vm) struct Ipv6 {
    addresses: Addresses,
    routes: Routes,
    path_mtus: PathMtus<Ipv6Addr>,
    mld: Mld,
    /// Nothing before the first fragment.
    pub(in crate::vm) fragments: Option<Box<Reassembly>>,
    limiter: ErrorLimiter,
    hop_limit: u8,
    /// The largest packet that the link carries, where a router says that it is smaller than the interface's.
    link_mtu: Option<u16>,
    /// It asks if somebody else has an address before it uses it.
    probe: bool,
    /// It takes addresses from router advertisements, not routers alone.
    slaac: bool,
    /// Boxed: most VMs have none.
    dhcp: Option<Box<DhcpClient>>,
}

impl Ipv6 {
    /// The state of a VM that starts at `now`.
    pub(in crate::vm) fn new(
        now: Instant,
        mac: MacAddr,
        config: &Ipv6Config,
        random: &mut fastrand::Rng,
    ) -> Ipv6 {
        let mut ipv6 = Ipv6 {
            addresses: Addresses::with_room(2, config.announce),
            routes: Routes::by(config.gateway),
            path_mtus: PathMtus::new(),
            mld: Mld::new(),
            fragments: None,
            limiter: ErrorLimiter::default(),
            hop_limit: DEFAULT_TIME_TO_LIVE,
            link_mtu: None,
            probe: config.probe,
            slaac: config.slaac,
            dhcp: None,
        };
        let start = now + START_WAIT.mul_f64(random.f64());
        let link_local = Ipv6Interface {
            address: link_local(mac),
            prefix_length: 64,
        };
        for interface in [Some(link_local), config.interface].into_iter().flatten() {
            let probe = config.probe.then_some(start);
            ipv6.addresses.add(now, interface, None, probe, random);
        }
        // Reports come before the probe, so that a switch that looks at them passes the answers (RFC 4862 section 5.4.2).
        let report = if config.probe {
            now
        } else {
            now + config.report
        };
        ipv6.mld.changed(report);
        if config.slaac || config.dhcp {
            ipv6.routes.solicit(start);
        }
        if config.dhcp {
            ipv6.dhcp = Some(Box::new(DhcpClient::new(now, mac, random)));
        }
        ipv6
    }

    /// Returns true if `address` is one of its own, or is tried.
    pub(in crate::vm) fn has_address(&self, address: Ipv6Addr) -> bool {
        self.addresses.find(address).is_some()
    }

    /// Tells if an address is still tried, or a router or DHCP server still looked for.
    pub(in crate::vm) fn is_configuring(&self) -> bool {
        self.routes.is_soliciting()
            || self.lacks_lease()
            || self.addresses.iter().any(|a| !a.is_assigned())
    }

    /// The address that a DHCP server has granted, the first if there are several.
    pub(in crate::vm) fn leased(&self) -> Option<Ipv6Addr> {
        self.dhcp.as_ref()?.address()
    }

    fn lacks_lease(&self) -> bool {
        self.dhcp.is_some() && self.leased().is_none()
    }

    /// Tells if it listens to routers: it takes addresses from their advertisements, or needs the routes in them for those
    /// that DHCP servers grant.
    fn hears_routers(&self) -> bool {
        self.slaac || self.dhcp.is_some()
    }

    /// Returns true if no address but link-local ones is assigned, or none is granted where a DHCP server is to.
    pub(in crate::vm) fn lacks_address(&self) -> bool {
        if self.lacks_lease() {
            return true;
        }
        let mut assigned = self.addresses.iter().filter(|a| a.is_assigned());
        !assigned.any(|a| !a.interface.address.is_unicast_link_local())
    }

    /// Hop limit of packets for which nothing else is asked.
    pub(in crate::vm) const fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// The largest packet to send over an interface that carries those of `interface` bytes.
    pub(in crate::vm) fn mtu(&self, interface: u16) -> u16 {
        self.link_mtu.unwrap_or(interface)
    }

    /// The largest packet that the link and every path carry.
    pub(in crate::vm) fn least_mtu(&self, interface: u16) -> u16 {
        self.mtu(interface).min(self.path_mtus.least())
    }

    /// The largest packet that the path to `destination` carries.
    pub(in crate::vm) fn path_mtu(
        &self,
        now: Instant,
        destination: Ipv6Addr,
        interface: u16,
    ) -> u16 {
        self.path_mtus.get(now, destination, self.mtu(interface))
    }

    /// Takes a router's word that the path to `destination` carries `mtu` bytes only. Less than what every link carries is
    /// not believed.
    fn lower_path_mtu(&mut self, now: Instant, destination: Ipv6Addr, mtu: u16, interface: u16) {
        if usize::from(mtu) >= IPV6_MINIMUM_MTU {
            let link = self.mtu(interface);
            self.path_mtus.lower(now, destination, mtu, link);
        }
    }

    /// The address from which packets to `destination` are sent.
    pub(in crate::vm) fn source_for(
        &self,
        now: Instant,
        destination: Ipv6Addr,
    ) -> Option<Ipv6Addr> {
        self.addresses.source_for(now, destination)
    }

    /// The link-local address, or the unspecified one while there is none.
    fn link_local_source(&self) -> Ipv6Addr {
        self.addresses
            .iter()
            .find(|a| a.is_assigned() && a.interface.address.is_unicast_link_local())
            .map_or(Ipv6Addr::UNSPECIFIED, |a| a.interface.address)
    }
}

impl Vm {
    /// The IPv6 addresses that it uses, the link-local one first.
    pub fn ipv6_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let addresses = self.ipv6.iter().flat_map(|ipv6| ipv6.addresses.iter());
        addresses
            .filter(|a| a.is_assigned())
            .map(|a| a.interface.address)
    }

    /// Looks at a packet, whose frame is `frame`.
    pub(super) fn receive_ipv6(
        &mut self,
        now: Instant,
        frame: &[u8],
        source_mac: MacAddr,
        packet: &Ipv6Packet<'_>,
    ) -> Result<Disposition, Ignored> {
        let off = Ignored::EtherType(ETHER_TYPE_IPV6);
        let ipv6 = self.ipv6.as_ref().ok_or(off)?;
        let (source, destination) = (packet.source, packet.destination);
        if !ipv6.addresses.is_assigned(destination) && !self.is_in_group(destination.into()) {
            return Err(Ignored::OtherAddress);
        }
        // Only an advertisement from one of our own addresses says something: somebody else has it.
        let is_own = ipv6.addresses.is_assigned(source);
        let is_advertisement = packet.next_header == PROTOCOL_ICMPV6
            && packet.payload.first() == Some(&NeighbourDiscovery::NEIGHBOUR_ADVERTISEMENT);
        let is_discovery = packet.next_header == PROTOCOL_ICMPV6
            && matches!(
                packet.payload.first(),
                Some(
                    &NeighbourDiscovery::NEIGHBOUR_SOLICITATION
                        | &NeighbourDiscovery::NEIGHBOUR_ADVERTISEMENT
                )
            );
        // A host that tries an address speaks from none, and one with our hardware address may try ours.
        let is_possible =
            is_discovery || (!source.is_unspecified() && self.is_other_station(source_mac));
        if !may_be_sender(source)
            || !source_mac.is_unicast()
            || !is_possible
            || (is_own && !is_advertisement)
        {
            return Err(Ignored::BadSource);
        }
        match packet.upper_layer() {
            Err(fault) => self.refuse_extension(now, packet, fault),
            Ok(UpperLayer::Fragment(fragment)) => {
                let headers = fragment.headers_in(frame, packet).unwrap_or_default();
                self.receive_ipv6_fragment(now, headers, packet, &fragment)
            }
            Ok(UpperLayer::Whole {
                protocol,
                named_at,
                offset,
                payload,
            }) => {
                let datagram = Received {
                    source_mac,
                    is_shared: is_shared(frame),
                    packet,
                    protocol,
                    offset,
                    payload,
                };
                for protocol in PROTOCOLS {
                    if let Input::Ipv6(accepts, receive) = protocol.input
                        && accepts(self, &datagram)
                    {
                        return receive(self, now, &datagram);
                    }
                }
                self.refuse_protocol(packet, protocol, named_at)
            }
        }
    }
}

/// The headers of a packet from `source` to the group `group`.
fn to_group(source_mac: MacAddr, source: Ipv6Addr, group: Ipv6Addr) -> Ipv6Envelope {
    Ipv6Envelope {
        source_mac,
        destination_mac: multicast_mac(group),
        source,
        destination: group,
        traffic_class: 0,
        hop_limit: DEFAULT_TIME_TO_LIVE,
    }
}
