//! IPv4 datagrams (RFC 791).

use std::net::Ipv4Addr;

use etherparse::err::ipv4::HeaderSliceError;
use etherparse::{EtherType, IpNumber, Ipv4HeaderSlice};

use super::checksum;
use super::error::{Layer, ParseError};
use super::ethernet::{self, ETHERNET_HEADER_LENGTH};
use super::mac::MacAddr;

/// Bytes of a header without options.
pub const IPV4_HEADER_LENGTH: usize = 20;

/// First byte of a header without options.
pub(super) const VERSION_4_FIVE_WORDS: u8 = 0x45;

/// `IPPROTO_ICMP`
pub const PROTOCOL_ICMP: u8 = IpNumber::ICMP.0;
/// `IPPROTO_UDP`
pub const PROTOCOL_UDP: u8 = IpNumber::UDP.0;

/// `IPPROTO_IGMP`
pub const PROTOCOL_IGMP: u8 = IpNumber::IGMP.0;

/// Bytes of the largest datagram: its length field has 16 bits.
pub const IPV4_MAX_LENGTH: usize = 65_535;

/// The hardware address that datagrams to the group `group` are sent to: `01:00:5e` and its last 23 bits (RFC 1112
/// section 6.4).
pub const fn ipv4_multicast_mac(group: Ipv4Addr) -> MacAddr {
    let [_, a, b, c] = group.octets();
    MacAddr([0x01, 0x00, 0x5e, a & 0x7f, b, c])
}

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
    /// It is a fragment of a larger datagram.
    pub is_fragment: bool,
    /// Further fragments follow.
    pub more_fragments: bool,
    /// Where the piece belongs in the payload of the whole, in bytes.
    pub fragment_offset: usize,
    /// The number that the fragments of one datagram have in common.
    pub identification: u16,
    /// Bytes of the header, options included: 20 to 60.
    pub header_length: usize,
    /// The options, between the fixed header and the payload.
    pub options: &'a [u8],
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
            more_fragments: header.more_fragments(),
            fragment_offset: usize::from(header.fragments_offset().value()) * 8,
            identification: header.identification(),
            header_length,
            options: header.options(),
            payload_offset: offset + header_length,
            payload,
        })
    }
}

/// The header fields of a datagram to be sent, but for its protocol and length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4Envelope {
    /// The sender's hardware address.
    pub source_mac: MacAddr,
    /// The next hop's hardware address.
    pub destination_mac: MacAddr,
    /// The sender's address.
    pub source: Ipv4Addr,
    /// Where the datagram goes.
    pub destination: Ipv4Addr,
    /// Hops that it may take.
    pub time_to_live: u8,
    /// Differentiated services code point (RFC 2474), 0 to 63; higher bits are ignored.
    pub dscp: u8,
    /// Routers must not cut it into fragments.
    pub dont_fragment: bool,
    /// Tells its fragments from those of other datagrams between the same hosts (RFC 6864).
    pub identification: u16,
}

impl Ipv4Envelope {
    /// That of the answer to the datagram in `frame`, sent from `source_mac` to where it came from, with its code point. It may be
    /// cut, and has no identification. `None` if there is no such datagram.
    pub(super) fn answering(
        frame: &[u8],
        source_mac: MacAddr,
        time_to_live: u8,
    ) -> Option<Ipv4Envelope> {
        let ip: &[u8; IPV4_HEADER_LENGTH] = frame.get(ETHERNET_HEADER_LENGTH..)?.first_chunk()?;
        let addresses = ip.last_chunk::<8>()?;
        Some(Ipv4Envelope {
            source_mac,
            destination_mac: MacAddr(*frame.get(6..)?.first_chunk()?),
            source: Ipv4Addr::from(*addresses.last_chunk::<4>()?),
            destination: Ipv4Addr::from(*addresses.first_chunk::<4>()?),
            time_to_live,
            dscp: ip[1] >> 2,
            dont_fragment: false,
            identification: 0,
        })
    }

    /// Puts the Ethernet and IPv4 headers of a datagram with `length` bytes of `protocol` at the start of `buffer`.
    ///
    /// Returns those bytes, or `None` when the buffer is too short or the datagram would be over 65,535 bytes.
    pub(super) fn write<'a>(
        &self,
        protocol: IpNumber,
        length: usize,
        buffer: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let (headers, rest) = buffer.split_first_chunk_mut()?;
        let payload = rest.get_mut(..length)?;
        self.fill(protocol, length, headers)?;
        Some(payload)
    }

    /// Writes the Ethernet and IPv4 headers of a datagram with `length` bytes of `protocol`.
    ///
    /// `None` when the datagram would be over 65,535 bytes.
    pub(super) fn fill(
        &self,
        protocol: IpNumber,
        length: usize,
        headers: &mut [u8; ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH],
    ) -> Option<()> {
        let total = u16::try_from(IPV4_HEADER_LENGTH.checked_add(length)?).ok()?;
        let (ethernet, header) = headers.split_first_chunk_mut::<ETHERNET_HEADER_LENGTH>()?;
        ethernet::fill_header(
            ethernet,
            self.destination_mac,
            self.source_mac,
            EtherType::IPV4,
        );
        let flags = u16::from(self.dont_fragment) << 14;
        let first = u16::from_be_bytes([VERSION_4_FIVE_WORDS, self.dscp << 2]);
        let words = [
            word(first, total),
            word(self.identification, flags),
            word(u16::from_be_bytes([self.time_to_live, protocol.0]), 0),
            self.source.into(),
            self.destination.into(),
        ];
        fill_sealed(header.first_chunk_mut()?, words);
        Some(())
    }
}

/// Sends the datagram in `frame` back where it came from: turns hardware and IPv4 addresses around, and gives it a new
/// time to live, an identification of the answerer's (RFC 6864) and no fragment flags. What is behind the IPv4 header, of
/// `header_length` bytes, stays.
///
/// Options stay as they are: see [`super::answer_options`]. Returns the frame's length, link-layer padding cut off, and
/// the payload of the datagram, or `None` when the frame is not what the caller says.
pub(super) fn turn_around(
    frame: &mut [u8],
    header_length: usize,
    source_mac: MacAddr,
    time_to_live: u8,
    identification: u16,
) -> Option<(usize, &mut [u8])> {
    let (ethernet, ip) = frame.split_first_chunk_mut::<ETHERNET_HEADER_LENGTH>()?;
    ethernet.copy_within(6..12, 0);
    *ethernet.last_chunk_mut::<8>()?.first_chunk_mut()? = source_mac.0;
    let (header, _) = ip.split_first_chunk_mut::<IPV4_HEADER_LENGTH>()?;
    let old = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let words = [
        old(0),
        // No fragment flags, no offset.
        word(identification, 0),
        word(u16::from_be_bytes([time_to_live, header[9]]), 0),
        old(16),
        old(12),
    ];
    let total_length = (words[0] & 0xffff) as usize;
    fill_sealed(header, words);
    let (header, payload) = ip
        .get_mut(..total_length)?
        .split_at_mut_checked(header_length)?;
    if header_length != IPV4_HEADER_LENGTH {
        seal(header)?;
    }
    Some((ETHERNET_HEADER_LENGTH + total_length, payload))
}

/// The destination of the datagram in `frame`.
pub fn ipv4_destination(frame: &[u8]) -> Option<Ipv4Addr> {
    let place: &[u8; 4] = frame.get(ETHERNET_HEADER_LENGTH + 16..)?.first_chunk()?;
    Some(Ipv4Addr::from(*place))
}

/// Makes `destination` the destination of the datagram in `frame`, whose header has `header_length` bytes: one to a group
/// is answered from an address of the answerer's. The checksum of UDP, which sums up the addresses, stays right; that of
/// the header is not made right. `None` when the frame is not what the caller says.
pub fn set_ipv4_destination(
    frame: &mut [u8],
    header_length: usize,
    destination: Ipv4Addr,
) -> Option<()> {
    let ip = frame.get_mut(ETHERNET_HEADER_LENGTH..)?;
    let (header, payload) = ip.split_at_mut_checked(header_length)?;
    let is_udp = header.get(9) == Some(&PROTOCOL_UDP);
    let place: &mut [u8; 4] = header.get_mut(16..)?.first_chunk_mut()?;
    let old = std::mem::replace(place, destination.octets());
    if is_udp {
        let place: &mut [u8; 2] = payload.get_mut(6..)?.first_chunk_mut()?;
        *place = checksum::after_change(*place, old, destination.octets());
    }
    Some(())
}

/// A word of a header, of its two halves.
fn word(high: u16, low: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

/// Writes a header without options, whose checksum is 0 in `words`, with its checksum.
#[inline(always)]
fn fill_sealed(header: &mut [u8; IPV4_HEADER_LENGTH], mut words: [u32; 5]) {
    words[2] |= u32::from(checksum::of_words(words));
    for (to, word) in header.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_be_bytes();
    }
}

/// Writes the checksum of a header.
#[inline(always)]
pub(super) fn seal(header: &mut [u8]) -> Option<()> {
    *header.get_mut(10..)?.first_chunk_mut()? = [0; 2];
    let sum = checksum::of(header).to_be_bytes();
    *header.get_mut(10..)?.first_chunk_mut()? = sum;
    Some(())
}
