//! UDP (RFC 768): read, built, and sent back.

use std::ops::RangeInclusive;

use etherparse::{IpNumber, UdpHeader, UdpHeaderSlice};

use super::checksum;
use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::flow_label::set_flow_label;
use super::icmpv6::turn_around;
use super::ipv4::{self, IPV4_HEADER_LENGTH, Ipv4Envelope, Ipv4Packet, PROTOCOL_UDP};
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Envelope, Ipv6Packet};
use super::mac::MacAddr;

/// Bytes of a header.
pub const UDP_HEADER_LENGTH: usize = 8;

/// The port of the echo service (RFC 862).
pub const UDP_ECHO_PORT: u16 = 7;

/// The ports that hosts choose from for themselves: those of Linux (`net.ipv4.ip_local_port_range`).
pub const EPHEMERAL_PORTS: RangeInclusive<u16> = 32_768..=60_999;

/// Returns true if a host may have chosen `port` for itself, and no service is expected there.
#[inline]
pub const fn is_ephemeral(port: u16) -> bool {
    *EPHEMERAL_PORTS.start() <= port && port <= *EPHEMERAL_PORTS.end()
}

/// A datagram whose length and checksum have been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpDatagram<'a> {
    /// The port that it was sent from.
    pub source_port: u16,
    /// The port that it is for.
    pub destination_port: u16,
    /// Its payload.
    pub payload: &'a [u8],
}

impl<'a> UdpDatagram<'a> {
    /// Reads the datagram in `packet`, whose protocol is UDP.
    ///
    /// # Errors
    /// When bytes are missing, the length field is less than a header, or there is a checksum and it is wrong. It need
    /// not have one over IPv4.
    pub fn parse(packet: &Ipv4Packet<'a>) -> Result<Self, ParseError> {
        let (source, destination) = (packet.source, packet.destination);
        read(packet.payload, packet.payload_offset, |sum, datagram| {
            sum == 0
                || checksum::with_ipv4_pseudo_header(source, destination, PROTOCOL_UDP, datagram)
                    == 0
        })
    }

    /// Reads the datagram `payload`, which `packet` carries and which lies `offset` bytes into the frame.
    ///
    /// # Errors
    /// As [`UdpDatagram::parse`], but over IPv6 there must be a checksum (RFC 8200 section 8.1).
    pub fn parse_ipv6(
        packet: &Ipv6Packet<'_>,
        payload: &'a [u8],
        offset: usize,
    ) -> Result<Self, ParseError> {
        let (source, destination) = (packet.source, packet.destination);
        read(payload, offset, |sum, datagram| {
            sum != 0
                && checksum::with_pseudo_header(source, destination, PROTOCOL_UDP, datagram) == 0
        })
    }
}

/// Reads the datagram at the start of `bytes`; `is_sound` is asked about its checksum and its bytes.
fn read(
    bytes: &[u8],
    offset: usize,
    is_sound: impl FnOnce(u16, &[u8]) -> bool,
) -> Result<UdpDatagram<'_>, ParseError> {
    let truncated = |needed| ParseError::truncated(Layer::Udp, offset, needed, bytes.len());
    let header = UdpHeaderSlice::from_slice(bytes).map_err(|e| truncated(e.required_len))?;
    let length = usize::from(header.length());
    if length < UDP_HEADER_LENGTH {
        return Err(ParseError::field(Layer::Udp, offset, "length"));
    }
    let datagram = bytes.get(..length).ok_or_else(|| truncated(length))?;
    if !is_sound(header.checksum(), datagram) {
        return Err(ParseError::checksum(Layer::Udp, offset));
    }
    Ok(UdpDatagram {
        source_port: header.source_port(),
        destination_port: header.destination_port(),
        payload: datagram.get(UDP_HEADER_LENGTH..).unwrap_or_default(),
    })
}

/// Builds the frame of a datagram from one port to another at the start of `buffer`; `fill` writes what it carries into
/// the bytes that it is given, at most `room` of them, and returns how many it took.
///
/// Returns the frame's length, or `None` when the buffer is too short or `fill` says so.
pub fn write_udp(
    envelope: &Ipv4Envelope,
    (source_port, destination_port): (u16, u16),
    room: usize,
    fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    buffer: &mut [u8],
) -> Option<usize> {
    let start = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH + UDP_HEADER_LENGTH;
    let taken = fill(buffer.get_mut(start..start + room)?)?;
    let udp = envelope.write(IpNumber::UDP, UDP_HEADER_LENGTH + taken, buffer)?;
    let (header, payload) = udp.split_at_mut_checked(UDP_HEADER_LENGTH)?;
    let udp_header = UdpHeader::with_ipv4_checksum(
        source_port,
        destination_port,
        &etherparse::Ipv4Header {
            source: envelope.source.octets(),
            destination: envelope.destination.octets(),
            protocol: IpNumber::UDP,
            ..Default::default()
        },
        payload,
    )
    .ok()?;
    header.copy_from_slice(&udp_header.to_bytes());
    Some(start + taken)
}

/// The same over IPv6; `fill` is given all bytes that there are.
pub fn write_ipv6_udp(
    envelope: &Ipv6Envelope,
    (source_port, destination_port): (u16, u16),
    fill: impl FnOnce(&mut [u8]) -> Option<usize>,
    buffer: &mut [u8],
) -> Option<usize> {
    let start = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + UDP_HEADER_LENGTH;
    let taken = fill(buffer.get_mut(start..)?)?;
    let udp = envelope.write(IpNumber::UDP, UDP_HEADER_LENGTH + taken, buffer)?;
    let (header, payload) = udp.split_at_mut_checked(UDP_HEADER_LENGTH)?;
    let udp_header = UdpHeader::with_ipv6_checksum(
        source_port,
        destination_port,
        &etherparse::Ipv6Header {
            source: envelope.source.octets(),
            destination: envelope.destination.octets(),
            ..Default::default()
        },
        payload,
    )
    .ok()?;
    header.copy_from_slice(&udp_header.to_bytes());
    set_flow_label(buffer)?;
    Some(start + taken)
}

/// Sends the datagram in `frame` back where it came from (RFC 862), from `source_mac`, with `time_to_live` and
/// `identification`.
///
/// The caller has parsed the frame. The checksum stays right: it sums up what is turned around, in whatever order.
/// Returns the frame's length, or `None` when the frame is not what the caller says.
pub fn turn_into_udp_echo(
    frame: &mut [u8],
    header_length: usize,
    source_mac: MacAddr,
    time_to_live: u8,
    identification: u16,
) -> Option<usize> {
    let (length, udp) = ipv4::turn_around(
        frame,
        header_length,
        source_mac,
        time_to_live,
        identification,
    )?;
    let (source, destination) = udp.get_mut(..4)?.split_at_mut_checked(2)?;
    source.swap_with_slice(destination);
    Some(length)
}

/// The same over IPv6, for a datagram that starts `offset` bytes into the frame. Extension headers are left out.
pub fn turn_into_ipv6_udp_echo(
    frame: &mut [u8],
    offset: usize,
    source_mac: MacAddr,
    hop_limit: u8,
) -> Option<usize> {
    let turned = turn_around(frame, offset, source_mac, None, hop_limit, IpNumber::UDP)?;
    let (source, destination) = turned.payload.get_mut(..4)?.split_at_mut_checked(2)?;
    source.swap_with_slice(destination);
    let length = turned.length;
    set_flow_label(frame)?;
    Some(length)
}
