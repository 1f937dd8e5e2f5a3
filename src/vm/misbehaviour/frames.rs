//! The frames of misbehaving VMs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Flood, Station};
use crate::vm::ip::DEFAULT_TIME_TO_LIVE;
use crate::vm::ipv6::neighbour_discovery;
use crate::wire::{
    AdvertisedPrefix, ArpPacket, DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpKind, DhcpRequest,
    EthernetFrame, Icmpv6Message, Ipv4Envelope, Ipv6Envelope, MacAddr,
    NEIGHBOUR_DISCOVERY_HOP_LIMIT, NeighbourAdvertisement, NeighbourDiscovery,
    NeighbourSolicitation, Payload, link_local, multicast_mac, solicited_node,
    write_router_advertisement, write_udp,
};

/// The port at which nobody listens and nobody minds (RFC 863).
const DISCARD_PORT: u16 = 9;
/// Bytes that a broadcast datagram carries: its frame is as long as the shortest on a wire.
const BROADCAST_PAYLOAD: usize = 18;
/// EtherType for local experiments (IEEE 802), which no host speaks.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// Bytes of the shortest frame on a wire, without its check sequence.
const SHORTEST: usize = 60;
/// The prefix of a rogue router: of nobody, since it is for documents (RFC 3849).
pub(super) const ROGUE_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);
/// Seconds for which a rogue router is one, and its prefix valid.
const ROGUE_LIFETIME: u16 = 1800;

/// An address of one station that nobody gives out: locally administered, with a second byte that VMs do not have.
pub(super) fn random_mac(random: &mut fastrand::Rng) -> MacAddr {
    let [a, b, c, d, ..] = random.u64(..).to_be_bytes();
    MacAddr([0x06, random.u8(1..), a, b, c, d])
}

/// Builds the frame by which `station` announces that it has `address`.
pub(super) fn announcement(station: &Station, address: IpAddr, buffer: &mut [u8]) -> Option<usize> {
    match address {
        IpAddr::V4(address) => {
            ArpPacket::request(station.mac, address, address).write(MacAddr::BROADCAST, buffer)
        }
        IpAddr::V6(address) => neighbour_discovery::announcement(station.mac, address, buffer),
    }
}

/// Builds the answer to `question` if that asks who has `address`.
pub(super) fn claim(
    station: &Station,
    question: &EthernetFrame<'_>,
    address: IpAddr,
    buffer: &mut [u8],
) -> Option<usize> {
    match (question.payload().ok()?, address) {
        (Payload::Arp(arp), IpAddr::V4(address)) => {
            let asks = arp.operation == ArpPacket::REQUEST
                && arp.target == address
                && arp.sender != address;
            let reply = ArpPacket {
                operation: ArpPacket::REPLY,
                sender_mac: station.mac,
                sender: address,
                target_mac: arp.sender_mac,
                target: arp.sender,
            };
            reply.write(arp.sender_mac, buffer).filter(|_| asks)
        }
        (Payload::Ipv6(packet), IpAddr::V6(address)) => {
            let upper = packet.payload;
            let message = Icmpv6Message::parse(&packet, upper, 0).ok()?;
            let Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Solicitation(asked)) =
                message
            else {
                return None;
            };
            if asked.target != address {
                return None;
            }
            if packet.source.is_unspecified() {
                return neighbour_discovery::announcement(station.mac, address, buffer);
            }
            NeighbourAdvertisement {
                target: address,
                target_link: Some(station.mac),
                router: false,
                solicited: true,
                overrides: true,
            }
            .write(
                envelope(station, address, (packet.source, question.source)),
                buffer,
            )
        }
        _ => None,
    }
}

fn envelope(
    station: &Station,
    source: Ipv6Addr,
    (destination, destination_mac): (Ipv6Addr, MacAddr),
) -> Ipv6Envelope {
    Ipv6Envelope {
        source_mac: station.mac,
        destination_mac,
        source,
        destination,
        traffic_class: 0,
        hop_limit: NEIGHBOUR_DISCOVERY_HOP_LIMIT,
    }
}

/// Builds the next frame of a flood.
pub(super) fn flood(
    flood: Flood,
    station: &Station,
    random: &mut fastrand::Rng,
    buffer: &mut [u8],
) -> Option<usize> {
    match flood {
        Flood::Arp => {
            let sender = station.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            ArpPacket::request(station.mac, sender, random_neighbour(station, random))
                .write(MacAddr::BROADCAST, buffer)
        }
        Flood::Broadcast => {
            let source = station.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            let fill = |room: &mut [u8]| {
                room.fill(0);
                Some(room.len())
            };
            let ports = (DISCARD_PORT, DISCARD_PORT);
            let envelope = broadcast(station.mac, source);
            write_udp(&envelope, ports, BROADCAST_PAYLOAD, fill, buffer)
        }
        Flood::Mac => {
            let frame = buffer.get_mut(..SHORTEST)?;
            frame.fill(0);
            let addresses = [random_mac(random), random_mac(random)];
            let head = addresses.iter().flat_map(|mac| mac.0).chain(EXPERIMENTAL);
            for (space, byte) in frame.iter_mut().zip(head) {
                *space = byte;
            }
            Some(SHORTEST)
        }
        Flood::Dhcp => {
            let mac = random_mac(random);
            let discovery = DhcpRequest {
                kind: DhcpKind::Discover,
                transaction: random.u32(..),
                client_mac: mac,
                seconds: 0,
                client_address: Ipv4Addr::UNSPECIFIED,
                requested: None,
                server: None,
                maximum_size: 0,
            };
            let fill = |room: &mut [u8]| discovery.write(room);
            let ports = (DHCP_CLIENT_PORT, DHCP_SERVER_PORT);
            let envelope = broadcast(mac, Ipv4Addr::UNSPECIFIED);
            write_udp(&envelope, ports, DhcpRequest::LENGTH, fill, buffer)
        }
        Flood::Router => {
            let prefix = AdvertisedPrefix {
                prefix: ROGUE_PREFIX,
                length: 64,
                on_link: true,
                autonomous: true,
                valid_lifetime: ROGUE_LIFETIME.into(),
                preferred_lifetime: ROGUE_LIFETIME.into(),
            };
            let source = link_local(station.mac);
            write_router_advertisement(station.mac, source, ROGUE_LIFETIME, &prefix, buffer)
        }
        Flood::Neighbour => {
            let [a, b, c, d] = [(); 4].map(|()| random.u16(..));
            let target = Ipv6Addr::new(0xfe80, 0, 0, 0, a, b, c, d);
            let group = solicited_node(target);
            let source = link_local(station.mac);
            let envelope = envelope(station, source, (group, multicast_mac(group)));
            NeighbourSolicitation {
                target,
                source_link: Some(station.mac),
                nonce: None,
            }
            .write(envelope, buffer)
        }
    }
}

/// The headers of a datagram to all hosts of the link.
fn broadcast(source_mac: MacAddr, source: Ipv4Addr) -> Ipv4Envelope {
    Ipv4Envelope {
        source_mac,
        destination_mac: MacAddr::BROADCAST,
        source,
        destination: Ipv4Addr::BROADCAST,
        time_to_live: DEFAULT_TIME_TO_LIVE,
        dscp: 0,
        dont_fragment: false,
        identification: 0,
    }
}

/// A random host of the network of `station`, which may exist or not.
fn random_neighbour(station: &Station, random: &mut fastrand::Rng) -> Ipv4Addr {
    let (own, bits) = match (station.address, station.prefix_length) {
        // One without an address asks for what nobody has (RFC 5737): its requests are probes, to which whoever has an address
        // gives that up.
        (None, _) => (Ipv4Addr::new(192, 0, 2, 0), 24),
        // The whole world is not its network, even if it takes everybody for a neighbour.
        (Some(own), 0..8) => (own, 16),
        (Some(own), bits) => (own, bits.min(30)),
    };
    let hosts = u32::MAX >> bits;
    // Neither the network's own address nor that of all its hosts.
    let host = random.u32(1..hosts);
    Ipv4Addr::from(u32::from(own) & !hosts | host)
}
