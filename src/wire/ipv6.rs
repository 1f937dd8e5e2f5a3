//! IPv6 packets (RFC 8200): the fixed header, and the addresses that follow from others (RFC 4291).

use std::net::Ipv6Addr;

use etherparse::err::ipv6::HeaderSliceError;
use etherparse::{EtherType, IpNumber, Ipv6FlowLabel, Ipv6Header, Ipv6HeaderSlice};

use super::error::{Layer, ParseError};
use super::ethernet::{self, ETHERNET_HEADER_LENGTH};
use super::mac::MacAddr;

/// Bytes of the header before any extension header.
pub const IPV6_HEADER_LENGTH: usize = 40;

/// `ETH_P_IPV6`
pub const ETHER_TYPE_IPV6: u16 = EtherType::IPV6.0;

/// `IPPROTO_ICMPV6`
pub const PROTOCOL_ICMPV6: u8 = IpNumber::IPV6_ICMP.0;

/// The least MTU of a link that carries IPv6, and the largest error message (RFC 8200 section 5, RFC 4443 section 2.4).
pub const IPV6_MINIMUM_MTU: usize = 1280;

/// Where the payload's length stands in the fixed header.
pub const IPV6_PAYLOAD_LENGTH_OFFSET: usize = 4;

/// All nodes of the link: `ff02::1` (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All nodes of one's own interface: `ff01::1`.
pub const ALL_NODES_OF_INTERFACE: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link: `ff02::2`.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// All MLDv2 routers of the link: `ff02::16` (RFC 3810 section 11).
pub const ALL_MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// The solicited-node group of `address`: `ff02::1:ff` and its last 24 bits (RFC 4291 section 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | a as u16,
        (b as u16) << 8 | c as u16,
    )
}

/// The hardware address that packets to the group `group` are sent to: `33:33` and its last 32 bits (RFC 2464 section
/// 7).
pub const fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// Bits of the interface identifier of such an address (RFC 4291 section 2.5.1).
pub const INTERFACE_IDENTIFIER_BITS: u8 = 64;

/// The interface identifier of `mac` in modified EUI-64 form (RFC 4291 appendix A), behind the 64-bit `prefix`.
pub fn eui64_address(prefix: Ipv6Addr, mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    let prefix = prefix.to_bits() >> 64 << 64;
    Ipv6Addr::from_bits(prefix | u128::from(identifier))
}

/// The link-local address of the interface `mac`.
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    eui64_address(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), mac)
}

/// A packet whose fixed header is sound. IPv6 has no header checksum.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Packet<'a> {
    /// Where it comes from.
    pub source: Ipv6Addr,
    /// Where it goes.
    pub destination: Ipv6Addr,
    /// Differentiated services and ECN (RFC 2474, RFC 3168).
    pub traffic_class: u8,
    /// Hops it may still take.
    pub hop_limit: u8,
    /// The header behind the fixed one: a protocol, or an extension header.
    pub next_header: u8,
    /// Its length is said to be in a jumbo payload option (RFC 2675), which no link here needs.
    pub is_jumbo: bool,
    /// Where the fixed header starts in the frame.
    pub offset: usize,
    /// All that follows the fixed header, link-layer padding cut off.
    pub payload: &'a [u8],
}

impl<'a> Ipv6Packet<'a> {
    /// Reads the packet at the start of `bytes`, which lie `offset` bytes into the frame.
    ///
    /// # Errors
    /// When bytes are missing or the version is not 6.
    pub fn parse(bytes: &'a [u8], offset: usize) -> Result<Self, ParseError> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|e| match e {
            HeaderSliceError::Len(e) => {
                ParseError::truncated(Layer::Ipv6, offset, e.required_len, e.len)
            }
            HeaderSliceError::Content(_) => ParseError::field(Layer::Ipv6, offset, "version"),
        })?;
        let is_jumbo = header.payload_length() == 0
            && header.next_header() == IpNumber::IPV6_HEADER_HOP_BY_HOP;
        let length = if is_jumbo {
            bytes.len()
        } else {
            IPV6_HEADER_LENGTH + usize::from(header.payload_length())
        };
        let payload = bytes
            .get(IPV6_HEADER_LENGTH..length)
            .ok_or_else(|| ParseError::truncated(Layer::Ipv6, offset, length, bytes.len()))?;
        Ok(Ipv6Packet {
            source: header.source_addr(),
            destination: header.destination_addr(),
            traffic_class: header.traffic_class(),
            hop_limit: header.hop_limit(),
            next_header: header.next_header().0,
            is_jumbo,
            offset,
            payload,
        })
    }
}

/// The Ethernet and IPv6 header fields of a packet to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Envelope {
    /// The sender's hardware address.
    pub source_mac: MacAddr,
    /// The next hop's hardware address.
    pub destination_mac: MacAddr,
    /// The sender's address.
    pub source: Ipv6Addr,
    /// Where the packet goes.
    pub destination: Ipv6Addr,
    /// Differentiated services and ECN.
    pub traffic_class: u8,
    /// Hops it may take.
    pub hop_limit: u8,
}

impl Ipv6Envelope {
    /// That of the answer to the packet in `frame`, sent from `source_mac` to where it came from, with its code point and without
    /// congestion marks (RFC 3168); and the hop limit that it came with. `None` if there is no such packet.
    pub(super) fn answering(
        frame: &[u8],
        source_mac: MacAddr,
        hop_limit: u8,
    ) -> Option<(Ipv6Envelope, u8)> {
        /// The bits of the traffic class that are no code point but congestion marks.
        const CONGESTION: u8 = 0x03;
        let bytes = frame.get(ETHERNET_HEADER_LENGTH..)?;
        let packet = Ipv6Packet::parse(bytes, ETHERNET_HEADER_LENGTH).ok()?;
        let envelope = Ipv6Envelope {
            source_mac,
            destination_mac: MacAddr(*frame.get(6..)?.first_chunk()?),
            source: packet.destination,
            destination: packet.source,
            traffic_class: packet.traffic_class & !CONGESTION,
            hop_limit,
        };
        Some((envelope, packet.hop_limit))
    }

    /// Puts both headers at the start of `buffer`, for `payload_length` bytes that start with `next_header`.
    ///
    /// Returns those bytes, to be written, or `None` when the buffer is too short or the packet would be too long.
    pub(super) fn write<'a>(
        &self,
        next_header: IpNumber,
        payload_length: usize,
        buffer: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let rest = ethernet::write_header(
            buffer,
            self.destination_mac,
            self.source_mac,
            EtherType::IPV6,
        )?;
        let (header, rest) = rest.split_at_mut_checked(IPV6_HEADER_LENGTH)?;
        let bytes = Ipv6Header {
            traffic_class: self.traffic_class,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: u16::try_from(payload_length).ok()?,
            next_header,
            hop_limit: self.hop_limit,
            source: self.source.octets(),
            destination: self.destination.octets(),
        }
        .to_bytes();
        header.copy_from_slice(&bytes);
        rest.get_mut(..payload_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_from_others_as_the_rfcs_say() {
        let mac = MacAddr([2, 0, 0x0a, 0x4d, 0, 2]);
        assert_eq!(link_local(mac).to_string(), "fe80::aff:fe4d:2");
        let address: Ipv6Addr = "fd77::12:3456".parse().unwrap();
        assert_eq!(solicited_node(address).to_string(), "ff02::1:ff12:3456");
        assert_eq!(
            multicast_mac(solicited_node(address)).to_string(),
            "33:33:ff:12:34:56"
        );
    }
}
