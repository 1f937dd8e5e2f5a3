//! The head of a probe or of its reply, wherever in a frame it lies, with nothing verified: for what looks at frames and does
//! not act on them.

use std::net::IpAddr;

use etherparse::{EtherType, Ipv4HeaderSlice, Ipv6HeaderSlice, icmpv6};

use super::arp::ArpPacket;
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmp::{TYPE_ECHO_REPLY, TYPE_ECHO_REQUEST};
use super::ipv4::{PROTOCOL_ICMP, PROTOCOL_UDP};
use super::ipv6::{IPV6_HEADER_LENGTH, PROTOCOL_ICMPV6};
use super::ipv6_extension::{IPV6_FRAGMENT_HEADER_LENGTH, UpperLayer, walk};
use super::mac::MacAddr;
use super::neighbour_discovery::NeighbourDiscovery;
use super::probe_number::{of_tcp_number, of_udp_number};
use super::stamp::StampNumber;
use super::tcp::PROTOCOL_TCP;
use super::udp::{UDP_HEADER_LENGTH, is_ephemeral};
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// The protocol number of IPv6's fragment header (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// Bytes of the shortest frame with an echo message in IPv4.
const SHORTEST_IPV4: usize = ETHERNET_HEADER_LENGTH + 20 + 8;

/// Addresses and numbers of a probe or its reply, of one that is sent in fragments those of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeHead {
    /// The address the frame was sent to.
    pub destination_mac: MacAddr,
    /// The address that it was sent from.
    pub source_mac: MacAddr,
    /// The address the message was sent from.
    pub source: IpAddr,
    /// The address it was sent to.
    pub destination: IpAddr,
    /// It is a request rather than a reply.
    pub is_request: bool,
    /// Tells the probe from those of other sessions.
    pub identifier: u32,
    /// Its number in its session.
    pub sequence: u16,
}

impl ProbeHead {
    /// Returns true if `frame` is a request, of one that is sent in fragments the first.
    #[inline]
    pub fn is_request(frame: &[u8]) -> bool {
        match frame {
            // IPv4 without tags and options, as most frames are.
            &[
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                8,
                0,
                0x45,
                _,
                _,
                _,
                _,
                _,
                f0,
                f1,
                _,
                PROTOCOL_ICMP,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                kind,
                code,
                ..,
            ] => {
                (f0 & 0x1f, f1) == (0, 0)
                    && (kind, code) == (TYPE_ECHO_REQUEST, 0)
                    && frame.len() >= SHORTEST_IPV4
            }
            _ => ProbeHead::parse(frame).is_some_and(|echo| echo.is_request),
        }
    }

    /// Returns true if `frame` carries a TCP segment, in IPv6 without extension headers.
    pub fn is_segment(frame: &[u8]) -> bool {
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let packet = frame.get(ETHERNET_HEADER_LENGTH + tags..);
        packet.is_some_and(|packet| match packet.first().map(|byte| byte >> 4) {
            Some(4) => packet.get(9) == Some(&PROTOCOL_TCP),
            _ => packet.get(6) == Some(&PROTOCOL_TCP),
        })
    }

    /// Reads `frame`. `None` if it carries no probe and no reply, or a later fragment of one.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<ProbeHead> {
        let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = frame else {
            return None;
        };
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let packet = frame.get(ETHERNET_HEADER_LENGTH + tags..)?;
        let ether_type = frame.get(ETHERNET_HEADER_LENGTH + tags - 2..)?;
        let ether_type = u16::from_be_bytes(*ether_type.first_chunk()?);
        let (source, destination, message) = match EtherType(ether_type) {
            EtherType::IPV4 => behind_ipv4(packet)?,
            EtherType::IPV6 => behind_ipv6(packet)?,
            _ => return None,
        };
        let (identifier, sequence) = message.number?;
        Some(ProbeHead {
            destination_mac: MacAddr([d0, d1, d2, d3, d4, d5]),
            source_mac: MacAddr([s0, s1, s2, s3, s4, s5]),
            source,
            destination,
            is_request: message.is_request,
            identifier,
            sequence,
        })
    }

    /// The request that a reply answers, or the reply to a request.
    pub const fn turned(self) -> ProbeHead {
        ProbeHead {
            destination_mac: self.source_mac,
            source_mac: self.destination_mac,
            source: self.destination,
            destination: self.source,
            is_request: !self.is_request,
            ..self
        }
    }
}

/// A question for a hardware address or its answer, over IPv4 or IPv6. No number tells it from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkHead {
    /// The address the frame was sent to.
    pub destination_mac: MacAddr,
    /// The address that it was sent from.
    pub source_mac: MacAddr,
    /// It is a request rather than a reply.
    pub is_request: bool,
    /// The address that is asked for.
    pub target: IpAddr,
}

impl LinkHead {
    /// Reads `frame`. `None` if it is no such message.
    pub fn parse(frame: &[u8]) -> Option<LinkHead> {
        let (destination_mac, rest) = frame.split_first_chunk()?;
        let source_mac = rest.first_chunk()?;
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let packet = frame.get(ETHERNET_HEADER_LENGTH + tags..)?;
        let ether_type = frame.get(ETHERNET_HEADER_LENGTH + tags - 2..)?;
        let ether_type = u16::from_be_bytes(*ether_type.first_chunk()?);
        let (is_request, target) = match EtherType(ether_type) {
            EtherType::ARP => {
                let arp = ArpPacket::parse(packet, 0).ok()?;
                match arp.operation {
                    ArpPacket::REQUEST => (true, arp.target.into()),
                    ArpPacket::REPLY => (false, arp.sender.into()),
                    _ => return None,
                }
            }
            EtherType::IPV6 => {
                let (head, message) = packet.split_first_chunk::<IPV6_HEADER_LENGTH>()?;
                let &[kind, _, _, _, _, _, _, _, ref target @ ..] = message else {
                    return None;
                };
                let is_request = kind == NeighbourDiscovery::NEIGHBOUR_SOLICITATION;
                let is_reply = kind == NeighbourDiscovery::NEIGHBOUR_ADVERTISEMENT;
                if head[6] != PROTOCOL_ICMPV6 || !(is_request || is_reply) {
                    return None;
                }
                (is_request, IpAddr::from(*target.first_chunk::<16>()?))
            }
            _ => return None,
        };
        Some(LinkHead {
            destination_mac: MacAddr(*destination_mac),
            source_mac: MacAddr(*source_mac),
            is_request,
            target,
        })
    }
}

/// A probe or its reply behind the IP headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Message {
    is_request: bool,
    /// Its ports, from and to; those of an echo message are 0.
    ports: (u16, u16),
    /// Identifier and sequence number, if it has not been cut off before them.
    number: Option<(u32, u16)>,
}

impl Message {
    #[inline]
    fn parse(protocol: u8, bytes: &[u8]) -> Option<Message> {
        match protocol {
            PROTOCOL_ICMP => Message::echo(bytes, (TYPE_ECHO_REQUEST, TYPE_ECHO_REPLY)),
            PROTOCOL_ICMPV6 => {
                Message::echo(bytes, (icmpv6::TYPE_ECHO_REQUEST, icmpv6::TYPE_ECHO_REPLY))
            }
            PROTOCOL_UDP => Message::datagram(bytes),
            PROTOCOL_TCP => Message::segment(bytes),
            _ => None,
        }
    }

    #[inline]
    fn echo(bytes: &[u8], (request, reply): (u8, u8)) -> Option<Message> {
        let &[kind, 0, _, _, i0, i1, n0, n1, ..] = bytes else {
            return None;
        };
        (kind == request || kind == reply).then_some(Message {
            is_request: kind == request,
            ports: (0, 0),
            number: Some((
                u16::from_be_bytes([i0, i1]).into(),
                u16::from_be_bytes([n0, n1]),
            )),
        })
    }

    fn datagram(bytes: &[u8]) -> Option<Message> {
        let (is_request, ports) = ports_of(bytes)?;
        Some(Message {
            is_request,
            ports,
            number: number_in(is_request, bytes),
        })
    }

    /// A SYN, or what answers one: a SYN or a reset that acknowledges it. Its number is the SYN's. Of a segment that is cut off
    /// before its flags nothing says that it is none.
    fn segment(bytes: &[u8]) -> Option<Message> {
        let (is_request, ports) = ports_of(bytes)?;
        let number = |at: usize| {
            let number = bytes.get(at..)?.first_chunk().copied();
            number.map(u32::from_be_bytes)
        };
        let sequence = match (is_request, bytes.get(13)) {
            (true, Some(flags)) if flags & (SYN | RST | ACK) != SYN => return None,
            (true, _) => number(4),
            (false, Some(flags)) if flags & ACK != 0 && flags & (SYN | RST) != 0 => {
                number(8).map(|acknowledged| acknowledged.wrapping_sub(1))
            }
            (false, _) => return None,
        };
        Some(Message {
            is_request,
            ports,
            number: sequence.map(of_tcp_number),
        })
    }
}

/// Reads the ports in front of a datagram or segment, and tells if it is a request: probes come from ephemeral ports and go to
/// others, replies the other way round.
fn ports_of(bytes: &[u8]) -> Option<(bool, (u16, u16))> {
    let &[s0, s1, d0, d1, ..] = bytes else {
        return None;
    };
    let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let is_request = is_ephemeral(ports.0);
    (is_request != is_ephemeral(ports.1)).then_some((is_request, ports))
}

/// The flags of a TCP segment (RFC 9293 section 3.1).
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The number in a datagram, which may be cut off anywhere: a UDP probe's, or that of a STAMP test packet.
fn number_in(is_request: bool, datagram: &[u8]) -> Option<(u32, u16)> {
    /// What is behind the number of a UDP probe.
    const PATTERN: [u8; 4] = [0, 1, 2, 3];
    let (header, payload) = datagram.split_first_chunk::<UDP_HEADER_LENGTH>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let (number, behind) = payload.split_first_chunk::<8>()?;
    let sent = length.saturating_sub(header.len() + number.len());
    let sent = sent.min(PATTERN.len());
    if behind.get(..sent) == PATTERN.get(..sent) {
        return Some(of_udp_number(u64::from_be_bytes(*number)));
    }
    let number = match is_request {
        true => StampNumber::of_request(payload)?,
        false => StampNumber::of_reply(payload)?,
    };
    Some((number.session?.into(), number.sequence as u16))
}

/// A probe or a reply that an ICMP error quotes: the IP header, and as much of what is behind it as the error holds, eight
/// bytes at least (RFC 792).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuotedProbe {
    /// It is a request rather than a reply.
    pub is_request: bool,
    /// Its source address.
    pub source: IpAddr,
    /// Where it was to go.
    pub destination: IpAddr,
    /// Its protocol (`IPPROTO_*`).
    pub protocol: u8,
    /// Its ports, from and to; those of an echo message are 0.
    pub ports: (u16, u16),
    /// Identifier and sequence number, if they are quoted.
    pub number: Option<(u32, u16)>,
}

impl QuotedProbe {
    /// Finds the probe in the IPv4 datagram that an error quotes. `None` if it is about something else.
    ///
    /// The quoted header's checksum is not looked at: routers on the way may have quoted what they had changed.
    pub(super) fn of_ipv4(quote: &[u8]) -> Option<QuotedProbe> {
        let header = Ipv4HeaderSlice::from_slice(quote).ok()?;
        if header.fragments_offset().value() != 0 {
            return None;
        }
        let behind = quote.get(header.slice().len()..)?;
        let (source, destination) = (header.source_addr(), header.destination_addr());
        QuotedProbe::of(
            source.into(),
            destination.into(),
            header.protocol().0,
            behind,
        )
    }

    /// Finds the probe in the IPv6 packet that an error quotes, which may be cut off anywhere behind it, or be a first fragment of
    /// it. `None` if it is about something else.
    pub fn of_ipv6(invoking_packet: &[u8]) -> Option<QuotedProbe> {
        let header = Ipv6HeaderSlice::from_slice(invoking_packet).ok()?;
        let rest = invoking_packet.get(IPV6_HEADER_LENGTH..)?;
        let upper = match walk(header.next_header().0, rest, 0).ok()? {
            UpperLayer::Fragment(fragment) if fragment.fragment_offset == 0 => {
                walk(fragment.next_header, fragment.payload, 0).ok()?
            }
            upper => upper,
        };
        let UpperLayer::Whole {
            protocol, payload, ..
        } = upper
        else {
            return None;
        };
        let (source, destination) = (header.source_addr(), header.destination_addr());
        QuotedProbe::of(source.into(), destination.into(), protocol, payload)
    }

    fn of(source: IpAddr, destination: IpAddr, protocol: u8, behind: &[u8]) -> Option<QuotedProbe> {
        let is_foreign = match source {
            IpAddr::V4(_) => protocol == PROTOCOL_ICMPV6,
            IpAddr::V6(_) => protocol == PROTOCOL_ICMP,
        };
        let message = Message::parse(protocol, behind).filter(|_| !is_foreign)?;
        Some(QuotedProbe {
            is_request: message.is_request,
            source,
            destination,
            protocol,
            ports: message.ports,
            number: message.number,
        })
    }
}

/// Source, destination and message of an IPv4 packet.
#[inline]
fn behind_ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, Message)> {
    let head = packet.first_chunk::<20>()?;
    let fragment_offset = u16::from_be_bytes([head[6] & 0x1f, head[7]]);
    if fragment_offset != 0 || head[9] == PROTOCOL_ICMPV6 {
        return None;
    }
    let address = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let message = packet.get(usize::from(head[0] & 0x0f) * 4..)?;
    let message = Message::parse(head[9], message)?;
    Some((address(12), address(16), message))
}

/// Source, destination and message of an IPv6 packet.
fn behind_ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, Message)> {
    let head = packet.first_chunk::<IPV6_HEADER_LENGTH>()?;
    let destination: [u8; 16] = *head.last_chunk()?;
    let source: [u8; 16] = *head.get(8..)?.first_chunk()?;
    let behind = packet.get(IPV6_HEADER_LENGTH..)?;
    let (protocol, message) = match head[6] {
        FRAGMENT_HEADER => match behind {
            &[protocol, _, o0, o1, ..] if u16::from_be_bytes([o0, o1]) & 0xfff8 == 0 => {
                (protocol, behind.get(IPV6_FRAGMENT_HEADER_LENGTH..)?)
            }
            _ => return None,
        },
        protocol => (protocol, behind),
    };
    let message = Message::parse(protocol, message).filter(|_| protocol != PROTOCOL_ICMP)?;
    Some((source.into(), destination.into(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{A, B, write_echo4, write_echo6};
    use crate::wire::{ARP_FRAME_LENGTH, Vlan, insert_fragment_header};

    const PAYLOAD: usize = 56;

    fn request4(buffer: &mut [u8]) -> usize {
        write_echo4(PAYLOAD, buffer)
    }

    fn request6(buffer: &mut [u8]) -> usize {
        write_echo6(PAYLOAD, buffer)
    }

    #[test]
    fn an_echo_message_is_found_behind_tags_and_in_a_first_fragment() {
        let expected = |source: &str, destination: &str| ProbeHead {
            destination_mac: B,
            source_mac: A,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            is_request: true,
            identifier: 5,
            sequence: 65_535,
        };
        let mut buffer = [0; 200];
        let length = request4(&mut buffer);
        assert_eq!(
            ProbeHead::parse(&buffer[..length]),
            Some(expected("10.77.0.2", "10.77.0.3"))
        );
        for vlan in ["7", "100.200"] {
            let vlan: Vlan = vlan.parse().unwrap();
            let tags = vlan.length();
            let length = request4(&mut buffer[tags..]);
            vlan.put_on(&mut buffer).unwrap();
            let frame = &buffer[..tags + length];
            assert_eq!(
                ProbeHead::parse(frame),
                Some(expected("10.77.0.2", "10.77.0.3"))
            );
        }
        let length = request6(&mut buffer);
        assert_eq!(
            ProbeHead::parse(&buffer[..length]),
            Some(expected("fd77::2", "fd77::3"))
        );
        buffer.copy_within(..length, 8);
        insert_fragment_header(&mut buffer, 9).unwrap();
        let length = length + 8;
        assert_eq!(
            ProbeHead::parse(&buffer[..length]),
            Some(expected("fd77::2", "fd77::3"))
        );
        // A later fragment has the bytes of a message somewhere in its middle.
        buffer[14 + 40 + 3] = 8;
        assert_eq!(ProbeHead::parse(&buffer[..length]), None);
    }

    #[test]
    fn a_request_is_told_from_all_else_with_and_without_reading_its_head() {
        let mut buffer = [0; 200];
        for write in [request4, request6] {
            let length = write(&mut buffer);
            assert!(ProbeHead::is_request(&buffer[..length]));
            // Each byte that says what it is, and some that do not.
            for at in 0..60 {
                for value in [0, 1, 8, 0x45, 0x46, 128, 129, 255] {
                    let before = std::mem::replace(&mut buffer[at], value);
                    let head = ProbeHead::parse(&buffer[..length]);
                    let expected = head.is_some_and(|head| head.is_request);
                    let found = ProbeHead::is_request(&buffer[..length]);
                    assert_eq!(found, expected, "{at} {value}");
                    buffer[at] = before;
                }
            }
            for cut in 0..length {
                let head = ProbeHead::parse(&buffer[..cut]);
                let expected = head.is_some_and(|head| head.is_request);
                assert_eq!(ProbeHead::is_request(&buffer[..cut]), expected, "{cut}");
            }
        }
    }

    #[test]
    fn what_is_no_echo_message_has_no_head_and_no_prefix_of_one_panics() {
        let mut buffer = [0; 200];
        for write in [request4, request6] {
            let length = write(&mut buffer);
            for cut in 0..60.min(length) {
                // Whatever is there of it.
                let _ = ProbeHead::parse(&buffer[..cut]);
            }
            assert_eq!(ProbeHead::parse(&buffer[..ARP_FRAME_LENGTH - 10]), None);
        }
        request4(&mut buffer);
        for (at, value) in [(13, 6), (20, 0x1f), (23, 17), (34, 3), (35, 1)] {
            let before = std::mem::replace(&mut buffer[at], value);
            assert_eq!(ProbeHead::parse(&buffer), None, "{at}");
            buffer[at] = before;
        }
    }
}
