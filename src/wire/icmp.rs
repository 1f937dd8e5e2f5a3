//! ICMP echo (RFC 792): read, built, and answered in place.

use etherparse::Icmpv4Slice;

use super::checksum::{self, Filled, Summed};
use super::echo_template::EchoTemplate;
use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmp_error::{IcmpError, IcmpRedirect, is_error};
use super::ipv4::{self, IPV4_HEADER_LENGTH, Ipv4Envelope, Ipv4Packet};
use super::mac::MacAddr;

/// Bytes of an echo message before its payload.
pub const ICMP_ECHO_HEADER_LENGTH: usize = 8;

/// Bytes of an echo request's frame around its payload.
pub const ECHO_FRAME_OVERHEAD: usize =
    ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH + ICMP_ECHO_HEADER_LENGTH;

const TYPE_TIMESTAMP_REQUEST: u8 = 13;
const TYPE_TIMESTAMP_REPLY: u8 = 14;
/// Bytes of a timestamp message: those of an echo without payload, and three times.
const TIMESTAMP_LENGTH: usize = 20;

pub(super) const TYPE_ECHO_REPLY: u8 = 0;
pub(super) const TYPE_ECHO_REQUEST: u8 = 8;

/// An ICMP message whose checksum has been verified.
#[derive(Clone, Copy, Debug)]
pub enum IcmpMessage<'a> {
    /// Somebody asks for an echo.
    EchoRequest(Echo<'a>),
    /// Somebody answers our request.
    EchoReply(Echo<'a>),
    /// Somebody asks what time it is.
    TimestampRequest,
    /// Somebody tells what became of a datagram.
    Error(IcmpError),
    /// A router names another one.
    Redirect(IcmpRedirect),
    /// Another message.
    Other {
        /// `type` of RFC 792.
        kind: u8,
        /// `code` of RFC 792.
        code: u8,
    },
}

/// The fields that an echo request and its reply have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo<'a> {
    /// Chosen by the asker, to tell its own from others'.
    pub identifier: u16,
    /// Counts the asker's requests.
    pub sequence: u16,
    /// Comes back as it went.
    pub payload: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Reads the message in `packet`, whose protocol is ICMP.
    ///
    /// # Errors
    /// When bytes are missing or the checksum is wrong.
    pub fn parse(packet: &Ipv4Packet<'a>) -> Result<Self, ParseError> {
        IcmpMessage::parse_summed(packet, |payload| ().sum(payload))
    }

    /// Reads the message as [`IcmpMessage::parse`] does; `sum` finds the sum of what is behind its first
    /// [`ICMP_ECHO_HEADER_LENGTH`] bytes.
    ///
    /// # Errors
    /// When bytes are missing or the checksum is wrong.
    pub fn parse_summed(
        packet: &Ipv4Packet<'a>,
        sum: impl FnOnce(&'a [u8]) -> Summed,
    ) -> Result<Self, ParseError> {
        let offset = packet.payload_offset;
        let message = match packet.payload {
            // What somebody puts behind the three times is not looked at.
            [TYPE_TIMESTAMP_REQUEST, ..] => packet.payload.get(..TIMESTAMP_LENGTH),
            _ => None,
        };
        let slice = Icmpv4Slice::from_slice(message.unwrap_or(packet.payload))
            .map_err(|e| ParseError::truncated(Layer::Icmp, offset, e.required_len, e.len))?;
        let (header, payload) = packet.payload.split_first_chunk().unwrap_or((&[0; 8], &[]));
        if checksum::of_message(header, sum(payload)) != 0 {
            return Err(ParseError::checksum(Layer::Icmp, offset));
        }
        let [i0, i1, s0, s1] = slice.bytes5to8();
        let echo = Echo {
            identifier: u16::from_be_bytes([i0, i1]),
            sequence: u16::from_be_bytes([s0, s1]),
            payload,
        };
        Ok(match (slice.type_u8(), slice.code_u8()) {
            // RFC 792 knows no code but 0. Hosts don't look at it (`icmp_echo` in Linux), and give it back.
            (TYPE_ECHO_REQUEST, _) => IcmpMessage::EchoRequest(echo),
            (TYPE_ECHO_REPLY, 0) => IcmpMessage::EchoReply(echo),
            (TYPE_TIMESTAMP_REQUEST, _) if message.is_some() => IcmpMessage::TimestampRequest,
            (kind, code) if is_error(kind) => {
                IcmpMessage::Error(IcmpError::parse(kind, code, [s0, s1], payload))
            }
            (kind, code) => IcmpRedirect::parse(kind, code, packet.payload)
                .map_or(IcmpMessage::Other { kind, code }, IcmpMessage::Redirect),
        })
    }
}

/// Everything that an echo request's headers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EchoRequest {
    /// The headers around it.
    pub envelope: Ipv4Envelope,
    /// Tells this VM's conversations apart.
    pub identifier: u16,
    /// Counts the requests of one conversation.
    pub sequence: u16,
}

impl EchoRequest {
    /// Builds the frame at the start of `buffer` with `payload_length` bytes of payload, which `fill` writes, and
    /// may tell the sum of.
    ///
    /// Returns the frame's length, or `None` when the buffer is too short or the datagram would be over 65,535 bytes.
    /// It may be longer than a link carries, and is then to be cut into fragments.
    pub fn write<P: Filled>(
        &self,
        payload_length: usize,
        fill: impl FnOnce(&mut [u8]) -> P,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let template = EchoTemplate::new(self, payload_length)?;
        template.write(self.envelope.identification, self.sequence, fill, buffer)
    }
}

/// Turns the echo request in `frame` into its reply, sent from `source_mac`, with `time_to_live` and
/// `identification`.
///
/// The caller has parsed the frame: an IPv4 header of `header_length` bytes lies after the Ethernet header, and a sound
/// echo request after that. Returns the reply's length, link-layer padding cut off, or `None` when the frame is not what
/// the caller says.
pub fn turn_into_echo_reply(
    frame: &mut [u8],
    header_length: usize,
    source_mac: MacAddr,
    time_to_live: u8,
    identification: u16,
) -> Option<usize> {
    let (length, icmp) = ipv4::turn_around(
        frame,
        header_length,
        source_mac,
        time_to_live,
        identification,
    )?;
    let &mut [ref mut kind, code, c0, c1, ..] = icmp else {
        return None;
    };
    let old = u16::from_be_bytes([*kind, code]);
    *kind = TYPE_ECHO_REPLY;
    let new = u16::from_be_bytes([*kind, code]);
    let mut sum = checksum::update(u16::from_be_bytes([c0, c1]), old, new);
    if sum == 0 {
        sum = sum_of_zeros(icmp)?;
    }
    *icmp.get_mut(2..)?.first_chunk_mut()? = sum.to_be_bytes();
    Some(length)
}

/// The checksum of a message for which an [update](checksum::update) gives zero.
///
/// Zero may stand for either zero of ones' complement. Only a sum over a message that is all zeros (identifier and sequence
/// number 0, no payload) needs the other one, and only adding it all up tells.
#[cold]
fn sum_of_zeros(icmp: &mut [u8]) -> Option<u16> {
    icmp.get_mut(2..4)?.fill(0);
    Some(checksum::of(icmp))
}

/// Turns the timestamp request in `frame` into its reply, as [`turn_into_echo_reply`] does with an echo. It came, and
/// goes, `time` milliseconds after midnight UTC.
pub fn turn_into_timestamp_reply(
    frame: &mut [u8],
    header_length: usize,
    source_mac: MacAddr,
    time_to_live: u8,
    identification: u16,
    time: u32,
) -> Option<usize> {
    let total_length = ((header_length + TIMESTAMP_LENGTH) as u16).to_be_bytes();
    frame
        .get_mut(ETHERNET_HEADER_LENGTH + 2..ETHERNET_HEADER_LENGTH + 4)?
        .copy_from_slice(&total_length);
    let (length, icmp) = ipv4::turn_around(
        frame,
        header_length,
        source_mac,
        time_to_live,
        identification,
    )?;
    icmp.get_mut(..4)?
        .copy_from_slice(&[TYPE_TIMESTAMP_REPLY, 0, 0, 0]);
    let (received, sent) = icmp
        .get_mut(12..TIMESTAMP_LENGTH)?
        .split_at_mut_checked(4)?;
    received.copy_from_slice(&time.to_be_bytes());
    sent.copy_from_slice(&time.to_be_bytes());
    let sum = checksum::of(icmp).to_be_bytes();
    icmp.get_mut(2..4)?.copy_from_slice(&sum);
    Some(length)
}
