//! Ethernet II framing (IEEE 802.3 clause 3, RFC 894).

use etherparse::{EtherType, Ethernet2Slice};

use super::arp::ArpPacket;
use super::error::{Layer, ParseError};
use super::ipv4::Ipv4Packet;
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Packet};
use super::mac::MacAddr;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// Bytes before the payload: destination, source, type.
pub const ETHERNET_HEADER_LENGTH: usize = 14;

/// Bytes of the largest frame that is read or built: two VLAN tags, and the largest IPv6 packet with a fragment header to
/// be put in.
pub const LARGEST_FRAME: usize = ETHERNET_HEADER_LENGTH + 8 + 40 + 65_535 + 8;

/// A frame's addresses and type, over its bytes.
#[derive(Clone, Copy, Debug)]
pub struct EthernetFrame<'a> {
    /// The address the frame was sent to.
    pub destination: MacAddr,
    /// The address it was sent from.
    pub source: MacAddr,
    /// The EtherType, or, below 0x600, an IEEE 802.3 length.
    pub ether_type: u16,
    /// The bytes behind that.
    pub(crate) payload: &'a [u8],
}

/// The payload of a frame, as far as a VM understands it.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// ARP for IPv4 over Ethernet.
    Arp(ArpPacket),
    /// An IPv4 datagram, or a fragment of one.
    Ipv4(Ipv4Packet<'a>),
    /// An IPv6 packet, or a fragment of one.
    Ipv6(Ipv6Packet<'a>),
    /// Another protocol: its EtherType.
    Other(u16),
}

/// Bytes of the IP packet in `frame`, whatever tags it has, as its header says; `None` if it carries none.
pub fn packet_length(frame: &[u8]) -> Option<u32> {
    let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
    let (ether_type, packet) = frame
        .get(ETHERNET_HEADER_LENGTH + tags - 2..)?
        .split_first_chunk()?;
    match (EtherType(u16::from_be_bytes(*ether_type)), packet) {
        (EtherType::IPV4, &[_, _, l0, l1, ..]) => Some(u16::from_be_bytes([l0, l1]).into()),
        (EtherType::IPV6, &[_, _, _, _, l0, l1, ..]) => {
            let length = u32::from(u16::from_be_bytes([l0, l1]));
            Some(length + IPV6_HEADER_LENGTH as u32)
        }
        _ => None,
    }
}

/// Addresses `frame`, which has an Ethernet header, to another station.
pub fn set_destination(frame: &mut [u8], destination: MacAddr) {
    if let Some(space) = frame.first_chunk_mut() {
        *space = destination.0;
    }
}

impl<'a> EthernetFrame<'a> {
    /// Reads the header of `frame`, which has no preamble and no frame check sequence.
    ///
    /// # Errors
    /// When there are fewer than [`ETHERNET_HEADER_LENGTH`] bytes.
    pub fn parse(frame: &'a [u8]) -> Result<Self, ParseError> {
        let slice = Ethernet2Slice::from_slice_without_fcs(frame)
            .map_err(|e| ParseError::truncated(Layer::Ethernet, 0, e.required_len, e.len))?;
        Ok(EthernetFrame {
            destination: MacAddr(slice.destination()),
            source: MacAddr(slice.source()),
            ether_type: slice.ether_type().0,
            payload: slice.payload_slice(),
        })
    }

    /// Reads the header of `frame` as it would be without VLAN tags.
    ///
    /// # Errors
    /// When it is cut off.
    pub fn parse_untagged(frame: &'a [u8]) -> Result<Self, ParseError> {
        let tags_length = tags_of(frame).count() * VLAN_TAG_LENGTH;
        EthernetFrame::parse(frame)?.behind_tags(frame, tags_length)
    }

    /// The frame as it would be without the VLAN tags that take `tags_length` bytes of `frame`.
    pub(super) fn behind_tags(
        self,
        frame: &'a [u8],
        tags_length: usize,
    ) -> Result<Self, ParseError> {
        if tags_length == 0 {
            return Ok(self);
        }
        let needed = ETHERNET_HEADER_LENGTH + tags_length;
        let (Some(&[.., k0, k1]), Some(payload)) = (frame.get(..needed), frame.get(needed..))
        else {
            return Err(ParseError::truncated(
                Layer::Ethernet,
                0,
                needed,
                frame.len(),
            ));
        };
        Ok(EthernetFrame {
            ether_type: u16::from_be_bytes([k0, k1]),
            payload,
            ..self
        })
    }

    /// Reads what the frame carries, checksums verified down to the IPv4 header.
    ///
    /// # Errors
    /// When the payload is not what its type says.
    pub fn payload(&self) -> Result<Payload<'a>, ParseError> {
        match EtherType(self.ether_type) {
            EtherType::ARP => {
                ArpPacket::parse(self.payload, ETHERNET_HEADER_LENGTH).map(Payload::Arp)
            }
            EtherType::IPV4 => {
                Ipv4Packet::parse(self.payload, ETHERNET_HEADER_LENGTH).map(Payload::Ipv4)
            }
            EtherType::IPV6 => {
                Ipv6Packet::parse(self.payload, ETHERNET_HEADER_LENGTH).map(Payload::Ipv6)
            }
            EtherType(other) => Ok(Payload::Other(other)),
        }
    }
}

/// Puts an Ethernet header at the start of `buffer`.
///
/// Returns the rest of the buffer, or `None` when it is too short for the header.
pub(super) fn write_header(
    buffer: &mut [u8],
    destination: MacAddr,
    source: MacAddr,
    ether_type: EtherType,
) -> Option<&mut [u8]> {
    let (header, rest) = buffer.split_first_chunk_mut()?;
    fill_header(header, destination, source, ether_type);
    Some(rest)
}

/// Writes an Ethernet header.
#[inline(always)]
pub(super) fn fill_header(
    header: &mut [u8; ETHERNET_HEADER_LENGTH],
    destination: MacAddr,
    source: MacAddr,
    ether_type: EtherType,
) {
    let bytes = etherparse::Ethernet2Header {
        destination: destination.0,
        source: source.0,
        ether_type,
    };
    *header = bytes.to_bytes();
}
