//! TCP (RFC 9293) as far as it goes for a host that opens connections and closes them: segments without data are built, and all
//! are read.
//!
//! Read section 3.10.7 first: "SEGMENT ARRIVES".

use etherparse::{IpNumber, TcpHeader, TcpHeaderSlice, TcpOptionElement};

use super::checksum;
use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::flow_label::set_flow_label;
use super::ipv4::{IPV4_HEADER_LENGTH, Ipv4Envelope, Ipv4Packet};
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Envelope, Ipv6Packet};
use super::mac::MacAddr;

/// `IPPROTO_TCP`
pub const PROTOCOL_TCP: u8 = IpNumber::TCP.0;

/// Bytes of the header of a segment that opens a connection, with the one option that it has.
pub const TCP_SYN_LENGTH: usize = TcpHeader::MIN_LEN + 4;
/// Bytes of the longest frame with a segment that is built here, without tags.
pub const TCP_LONGEST_FRAME: usize = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + TCP_SYN_LENGTH;

/// The window of all segments that are built here but resets.
const WINDOW: u16 = u16::MAX;

/// A segment. Of one that was read, the checksum has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpSegment {
    /// The port that it was sent from.
    pub source_port: u16,
    /// The port that it is for.
    pub destination_port: u16,
    /// It opens a connection.
    pub is_syn: bool,
    /// Its sender has nothing to send behind it.
    pub is_fin: bool,
    /// It is a reset, which is never answered with another.
    pub is_reset: bool,
    /// The number of its SYN, or else of its first byte.
    pub sequence: u32,
    /// The number that it acknowledges, if it does.
    pub acknowledgement: Option<u32>,
    /// The largest segment that its sender takes, in bytes of data, if it says so (RFC 9293 section 3.7.1). Of those that are built
    /// only SYNs do.
    pub maximum_segment_size: Option<u16>,
    /// Bytes of data; those that are built have none.
    pub payload_length: u32,
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

    /// The number behind it: it takes one for each byte, and one each for SYN and FIN.
    pub const fn next_sequence(&self) -> u32 {
        let length = self.payload_length + self.is_syn as u32 + self.is_fin as u32;
        self.sequence.wrapping_add(length)
    }

    /// A segment that goes where this one came from, and says nothing yet.
    pub fn turned(&self) -> TcpSegment {
        TcpSegment {
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..TcpSegment::default()
        }
    }

    /// The reset that answers it (RFC 9293 section 3.10.7.1).
    pub fn reset(&self) -> TcpSegment {
        let acknowledgement = match self.acknowledgement {
            Some(_) => None,
            None => Some(self.next_sequence()),
        };
        TcpSegment {
            is_reset: true,
            sequence: self.acknowledgement.unwrap_or(0),
            acknowledgement,
            ..self.turned()
        }
    }

    /// Its header, without a checksum.
    fn header(&self) -> Option<TcpHeader> {
        let window = if self.is_reset { 0 } else { WINDOW };
        let (from, to) = (self.source_port, self.destination_port);
        let mut header = TcpHeader::new(from, to, self.sequence, window);
        header.syn = self.is_syn;
        header.fin = self.is_fin;
        header.rst = self.is_reset;
        header.ack = self.acknowledgement.is_some();
        header.acknowledgment_number = self.acknowledgement.unwrap_or(0);
        if let Some(size) = self.maximum_segment_size.filter(|_| self.is_syn) {
            let options = [TcpOptionElement::MaximumSegmentSize(size)];
            header.set_options(&options).ok()?;
        }
        Some(header)
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
    let size = header.options_iterator().find_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
        _ => None,
    });
    Ok(TcpSegment {
        source_port: header.source_port(),
        destination_port: header.destination_port(),
        is_syn: header.syn(),
        is_fin: header.fin(),
        is_reset: header.rst(),
        sequence: header.sequence_number(),
        acknowledgement: header.ack().then(|| header.acknowledgment_number()),
        maximum_segment_size: size,
        payload_length: (bytes.len() - header.slice().len()) as u32,
    })
}

/// Builds the frame of a segment at the start of `buffer`. Returns the frame's length, or `None` when the buffer is too short.
pub fn write_tcp(
    envelope: &Ipv4Envelope,
    segment: &TcpSegment,
    buffer: &mut [u8],
) -> Option<usize> {
    let mut header = segment.header()?;
    let (from, to) = (envelope.source.octets(), envelope.destination.octets());
    header.checksum = header.calc_checksum_ipv4_raw(from, to, &[]).ok()?;
    let length = header.header_len();
    let space = envelope.write(IpNumber::TCP, length, buffer)?;
    space.copy_from_slice(&header.to_bytes());
    Some(ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH + length)
}

/// The same over IPv6.
pub fn write_ipv6_tcp(
    envelope: &Ipv6Envelope,
    segment: &TcpSegment,
    buffer: &mut [u8],
) -> Option<usize> {
    let mut header = segment.header()?;
    let (from, to) = (envelope.source.octets(), envelope.destination.octets());
    header.checksum = header.calc_checksum_ipv6_raw(from, to, &[]).ok()?;
    let length = header.header_len();
    let space = envelope.write(IpNumber::TCP, length, buffer)?;
    space.copy_from_slice(&header.to_bytes());
    set_flow_label(buffer)?;
    Some(ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + length)
}

/// Turns the segment in `frame` into `answer`, sent from `source_mac` with `time_to_live`.
///
/// As Linux does (`tcp_v4_send_reset` in `net/ipv4/tcp_ipv4.c`), without IP options, not to be cut, and with the code point of what is
/// answered. Returns the frame's length, or `None` when the frame is not what the caller says.
pub fn turn_into_tcp(
    frame: &mut [u8],
    answer: &TcpSegment,
    source_mac: MacAddr,
    time_to_live: u8,
) -> Option<usize> {
    let envelope = Ipv4Envelope {
        dont_fragment: true,
        ..Ipv4Envelope::answering(frame, source_mac, time_to_live)?
    };
    write_tcp(&envelope, answer, frame)
}

/// The same over IPv6. Extension headers are left out.
pub fn turn_into_ipv6_tcp(
    frame: &mut [u8],
    answer: &TcpSegment,
    source_mac: MacAddr,
    hop_limit: u8,
) -> Option<usize> {
    let (envelope, _) = Ipv6Envelope::answering(frame, source_mac, hop_limit)?;
    write_ipv6_tcp(&envelope, answer, frame)
}
