//! IPv4 datagrams (RFC 791).

use std::net::Ipv4Addr;

use etherparse::err::ipv4::HeaderSliceError;
use etherparse::{IpNumber, Ipv4HeaderSlice};

use super::checksum;
use super::error::{Layer, ParseError};

/// Bytes of a header without options.
pub const IPV4_HEADER_LENGTH: usize = 20;

/// `IPPROTO_ICMP`
pub const PROTOCOL_ICMP: u8 = IpNumber::ICMP.0;

/// A datagram whose header is sound: version, lengths and header checksum have been verified.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<'a> {
    /// Where it comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Hops it may still take.
    pub time_to_live: u8,
    /// The protocol number of the payload (`IPPROTO_*`).
    pub protocol: u8,
    /// Whether this is a piece of a larger datagram.
    pub is_fragment: bool,
    /// Bytes of the header, options included: 20 to 60.
    pub header_length: usize,
    /// Where the payload starts in the frame.
    pub payload_offset: usize,
    /// The payload, link-layer padding cut off.
    pub payload: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// Reads the datagram at the start of `bytes`, which lie `offset` bytes into the frame.
    ///
    /// # Errors
    /// When bytes are missing, a length field contradicts another, or the header checksum is wrong.
    pub fn parse(bytes: &'a [u8], offset: usize) -> Result<Self, ParseError> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|e| match e {
            HeaderSliceError::Len(e) => {
                ParseError::truncated(Layer::Ipv4, offset, e.required_len, e.len)
            }
            HeaderSliceError::Content(_) => {
                ParseError::field(Layer::Ipv4, offset, "version or header length")
            }
        })?;
        let header_length = header.slice().len();
        let total_length = usize::from(header.total_len());
        if total_length < header_length {
            return Err(ParseError::field(Layer::Ipv4, offset, "total length"));
        }
        let payload = bytes
            .get(header_length..total_length)
            .ok_or_else(|| ParseError::truncated(Layer::Ipv4, offset, total_length, bytes.len()))?;
        if checksum::of(header.slice()) != 0 {
            return Err(ParseError::checksum(Layer::Ipv4, offset));
        }
        Ok(Ipv4Packet {
            source: header.source_addr(),
            destination: header.destination_addr(),
            time_to_live: header.ttl(),
            protocol: header.protocol().0,
            is_fragment: header.is_fragmenting_payload(),
            header_length,
            payload_offset: offset + header_length,
            payload,
        })
    }
}
