//! The head of an echo message, wherever in a frame it lies, with nothing verified: for what looks at frames and does not
//! act on them.

use std::net::IpAddr;

use etherparse::{EtherType, icmpv6};

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmp::{TYPE_ECHO_REPLY, TYPE_ECHO_REQUEST};
use super::ipv4::PROTOCOL_ICMP;
use super::ipv6::{IPV6_HEADER_LENGTH, PROTOCOL_ICMPV6};
use super::ipv6_extension::IPV6_FRAGMENT_HEADER_LENGTH;
use super::mac::MacAddr;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// The protocol number of IPv6's fragment header (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// Bytes of the shortest frame with an echo message in IPv4.
const SHORTEST_IPV4: usize = ETHERNET_HEADER_LENGTH + 20 + 8;

/// Addresses and numbers of an ICMP or ICMPv6 echo message, of one that is sent in fragments those of the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoHead {
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
    /// Tells the message from those of other sessions.
    pub identifier: u16,
    /// Its number in its session.
    pub sequence: u16,
}

impl EchoHead {
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
                protocol,
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
                protocol == PROTOCOL_ICMP
                    && (f0 & 0x1f, f1) == (0, 0)
                    && (kind, code) == (TYPE_ECHO_REQUEST, 0)
                    && frame.len() >= SHORTEST_IPV4
            }
            _ => EchoHead::parse(frame).is_some_and(|echo| echo.is_request),
        }
    }

    /// Reads `frame`. `None` if it carries no echo message, or a later fragment of one.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<EchoHead> {
        let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = frame else {
            return None;
        };
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let packet = frame.get(ETHERNET_HEADER_LENGTH + tags..)?;
        let ether_type = frame.get(ETHERNET_HEADER_LENGTH + tags - 2..)?;
        let ether_type = u16::from_be_bytes(*ether_type.first_chunk()?);
        let ((source, destination, message), kinds) = match EtherType(ether_type) {
            EtherType::IPV4 => {
                let kinds = (TYPE_ECHO_REQUEST, TYPE_ECHO_REPLY);
                (behind_ipv4(packet)?, kinds)
            }
            EtherType::IPV6 => {
                let kinds = (icmpv6::TYPE_ECHO_REQUEST, icmpv6::TYPE_ECHO_REPLY);
                (behind_ipv6(packet)?, kinds)
            }
            _ => return None,
        };
        let &[kind, 0, _, _, i0, i1, n0, n1, ..] = message else {
            return None;
        };
        (kind == kinds.0 || kind == kinds.1).then_some(EchoHead {
            destination_mac: MacAddr([d0, d1, d2, d3, d4, d5]),
            source_mac: MacAddr([s0, s1, s2, s3, s4, s5]),
            source,
            destination,
            is_request: kind == kinds.0,
            identifier: u16::from_be_bytes([i0, i1]),
            sequence: u16::from_be_bytes([n0, n1]),
        })
    }

    /// The request that a reply answers, or the reply to a request.
    pub const fn turned(self) -> EchoHead {
        EchoHead {
            destination_mac: self.source_mac,
            source_mac: self.destination_mac,
            source: self.destination,
            destination: self.source,
            is_request: !self.is_request,
            ..self
        }
    }
}

/// Source, destination and ICMP message of an IPv4 packet.
#[inline]
fn behind_ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let head = packet.first_chunk::<20>()?;
    let fragment_offset = u16::from_be_bytes([head[6] & 0x1f, head[7]]);
    if head[9] != PROTOCOL_ICMP || fragment_offset != 0 {
        return None;
    }
    let address = |at: usize| IpAddr::from([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let message = packet.get(usize::from(head[0] & 0x0f) * 4..)?;
    Some((address(12), address(16), message))
}

/// Source, destination and ICMPv6 message of an IPv6 packet.
fn behind_ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let head = packet.first_chunk::<IPV6_HEADER_LENGTH>()?;
    let destination: [u8; 16] = *head.last_chunk()?;
    let source: [u8; 16] = *head.get(8..)?.first_chunk()?;
    let behind = packet.get(IPV6_HEADER_LENGTH..)?;
    let message = match head[6] {
        PROTOCOL_ICMPV6 => behind,
        FRAGMENT_HEADER => match behind {
            &[PROTOCOL_ICMPV6, _, o0, o1, ..] if u16::from_be_bytes([o0, o1]) & 0xfff8 == 0 => {
                behind.get(IPV6_FRAGMENT_HEADER_LENGTH..)?
            }
            _ => return None,
        },
        _ => return None,
    };
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
        let expected = |source: &str, destination: &str| EchoHead {
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
            EchoHead::parse(&buffer[..length]),
            Some(expected("10.77.0.2", "10.77.0.3"))
        );
        for vlan in ["7", "100.200"] {
            let vlan: Vlan = vlan.parse().unwrap();
            let tags = vlan.length();
            let length = request4(&mut buffer[tags..]);
            vlan.put_on(&mut buffer).unwrap();
            let frame = &buffer[..tags + length];
            assert_eq!(
                EchoHead::parse(frame),
                Some(expected("10.77.0.2", "10.77.0.3"))
            );
        }
        let length = request6(&mut buffer);
        assert_eq!(
            EchoHead::parse(&buffer[..length]),
            Some(expected("fd77::2", "fd77::3"))
        );
        buffer.copy_within(..length, 8);
        insert_fragment_header(&mut buffer, 9).unwrap();
        let length = length + 8;
        assert_eq!(
            EchoHead::parse(&buffer[..length]),
            Some(expected("fd77::2", "fd77::3"))
        );
        // A later fragment has the bytes of a message somewhere in its middle.
        buffer[14 + 40 + 3] = 8;
        assert_eq!(EchoHead::parse(&buffer[..length]), None);
    }

    #[test]
    fn a_request_is_told_from_all_else_with_and_without_reading_its_head() {
        let mut buffer = [0; 200];
        for write in [request4, request6] {
            let length = write(&mut buffer);
            assert!(EchoHead::is_request(&buffer[..length]));
            // Each byte that says what it is, and some that do not.
            for at in 0..60 {
                for value in [0, 1, 8, 0x45, 0x46, 128, 129, 255] {
                    let before = std::mem::replace(&mut buffer[at], value);
                    let head = EchoHead::parse(&buffer[..length]);
                    let expected = head.is_some_and(|head| head.is_request);
                    let found = EchoHead::is_request(&buffer[..length]);
                    assert_eq!(found, expected, "{at} {value}");
                    buffer[at] = before;
                }
            }
            for cut in 0..length {
                let head = EchoHead::parse(&buffer[..cut]);
                let expected = head.is_some_and(|head| head.is_request);
                assert_eq!(EchoHead::is_request(&buffer[..cut]), expected, "{cut}");
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
                let _ = EchoHead::parse(&buffer[..cut]);
            }
            assert_eq!(EchoHead::parse(&buffer[..ARP_FRAME_LENGTH - 10]), None);
        }
        request4(&mut buffer);
        for (at, value) in [(13, 6), (20, 0x1f), (23, 17), (34, 3), (35, 1)] {
            let before = std::mem::replace(&mut buffer[at], value);
            assert_eq!(EchoHead::parse(&buffer), None, "{at}");
            buffer[at] = before;
        }
    }
}
