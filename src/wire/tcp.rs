//! TCP (RFC 9293) as far as it goes for a host that listens at no port: segments are read, and answered with a reset.
//!
//! Read section 3.10.7.1 first: "CLOSED state".

use etherparse::{IpNumber, TcpHeader, TcpHeaderSlice};

use super::checksum;
use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::flow_label::set_flow_label;
use super::ipv4::{IPV4_HEADER_LENGTH, Ipv4Envelope, Ipv4Packet};
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Envelope, Ipv6Packet};
use super::mac::MacAddr;

/// `IPPROTO_TCP`
pub const PROTOCOL_TCP: u8 = IpNumber::TCP.0;

/// Bytes of a header without options.
const TCP_HEADER_LENGTH: usize = TcpHeader::MIN_LEN;

/// A segment whose checksum has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSegment {
    /// The port that it was sent from.
    pub source_port: u16,
    /// The port that it is for.
    pub destination_port: u16,
    /// It is a reset, which is never answered with another.
    pub is_reset: bool,
    sequence: u32,
    /// The number that it acknowledges, if it does.
    acknowledgement: Option<u32>,
    /// How many sequence numbers it takes: its bytes, and one each for SYN and FIN.
    length: u32,
}

impl TcpSegment {
    /// Reads the segment in `packet`, whose protocol is TCP.
    ///
    /// # Errors
    /// When bytes are missing, the header's length can't be, or the checksum is wrong.
    pub fn parse(packet: &Ipv4Packet<'_>) -> Result<Self, ParseError> {
        let (source, destination) = (packet.source, packet.destination);
        let segment = packet.payload;
        let sum = checksum::with_ipv4_pseudo_header(source, destination, PROTOCOL_TCP, segment);
        read(segment, packet.payload_offset, sum)
    }

    /// Reads the segment `payload`, which `packet` carries and which lies `offset` bytes into the frame.
    ///
    /// # Errors
    /// As [`TcpSegment::parse`].
    pub fn parse_ipv6(
        packet: &Ipv6Packet<'_>,
        payload: &[u8],
        offset: usize,
    ) -> Result<Self, ParseError> {
        let (source, destination) = (packet.source, packet.destination);
        let sum = checksum::with_pseudo_header(source, destination, PROTOCOL_TCP, payload);
        read(payload, offset, sum)
    }

    /// The header of the reset that answers it.
    fn reset(&self) -> TcpHeader {
        let sequence = self.acknowledgement.unwrap_or(0);
        let mut header = TcpHeader::new(self.destination_port, self.source_port, sequence, 0);
        header.rst = true;
        if self.acknowledgement.is_none() {
            header.ack = true;
            header.acknowledgment_number = self.sequence.wrapping_add(self.length);
        }
        header
    }
}

/// Reads the segment `bytes`, over which and over whose pseudo-header `sum` is the checksum.
fn read(bytes: &[u8], offset: usize, sum: u16) -> Result<TcpSegment, ParseError> {
    use etherparse::err::tcp::HeaderSliceError;
    let header = TcpHeaderSlice::from_slice(bytes).map_err(|error| match error {
        HeaderSliceError::Len(e) => {
            ParseError::truncated(Layer::Tcp, offset, e.required_len, e.len)
        }
        HeaderSliceError::Content(_) => ParseError::field(Layer::Tcp, offset, "data offset"),
    })?;
    if sum != 0 {
        return Err(ParseError::checksum(Layer::Tcp, offset));
    }
    let bytes = bytes.len() - header.slice().len();
    Ok(TcpSegment {
        source_port: header.source_port(),
        destination_port: header.destination_port(),
        is_reset: header.rst(),
        sequence: header.sequence_number(),
        acknowledgement: header.ack().then(|| header.acknowledgment_number()),
        length: bytes as u32 + u32::from(header.syn()) + u32::from(header.fin()),
    })
}

/// Turns the datagram in `frame`, which holds `segment`, into the reset that answers it, sent from `source_mac` with
/// `time_to_live`.
///
/// As Linux does (`tcp_v4_send_reset` in `net/ipv4/tcp_ipv4.c`), without options, not to be cut, and with the request's
/// code point. Returns the frame's length, or `None` when the frame is not what the caller says.
pub fn turn_into_tcp_reset(
    frame: &mut [u8],
    segment: &TcpSegment,
    source_mac: MacAddr,
    time_to_live: u8,
) -> Option<usize> {
    let envelope = Ipv4Envelope {
        dont_fragment: true,
        ..Ipv4Envelope::answering(frame, source_mac, time_to_live)?
    };
    let mut reset = segment.reset();
    let (from, to) = (envelope.source.octets(), envelope.destination.octets());
    reset.checksum = reset.calc_checksum_ipv4_raw(from, to, &[]).ok()?;
    let space = envelope.write(IpNumber::TCP, TCP_HEADER_LENGTH, frame)?;
    space.copy_from_slice(&reset.to_bytes());
    Some(ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH + TCP_HEADER_LENGTH)
}

/// The same over IPv6. Extension headers are left out.
pub fn turn_into_ipv6_tcp_reset(
    frame: &mut [u8],
    segment: &TcpSegment,
    source_mac: MacAddr,
    hop_limit: u8,
) -> Option<usize> {
    let (envelope, _) = Ipv6Envelope::answering(frame, source_mac, hop_limit)?;
    let mut reset = segment.reset();
    let (from, to) = (envelope.source.octets(), envelope.destination.octets());
    reset.checksum = reset.calc_checksum_ipv6_raw(from, to, &[]).ok()?;
    let space = envelope.write(IpNumber::TCP, TCP_HEADER_LENGTH, frame)?;
    space.copy_from_slice(&reset.to_bytes());
    set_flow_label(frame)?;
    Some(ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + TCP_HEADER_LENGTH)
}
