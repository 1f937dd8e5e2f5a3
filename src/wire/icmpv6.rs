//! ICMPv6 (RFC 4443): echo and error messages, read, built, and answered in place.

use std::net::Ipv6Addr;

use etherparse::{IcmpEchoHeader, Icmpv6Header, Icmpv6Slice, Icmpv6Type, IpNumber, icmpv6};

use super::checksum::{self, Filled, Summed};
use super::error::{Layer, ParseError};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::flow_label::set_flow_label;
use super::icmp::Echo;
use super::icmp_error::IcmpErrorKind;
use super::ipv6::{
    IPV6_HEADER_LENGTH, IPV6_MINIMUM_MTU, Ipv6Envelope, Ipv6Packet, PROTOCOL_ICMPV6,
};
use super::mac::MacAddr;
use super::mld::{MldQuery, MldReport};
use super::neighbour_discovery::NeighbourDiscovery;

/// Bytes of any ICMPv6 message before its body, and of an echo message before its payload.
pub const ICMPV6_HEADER_LENGTH: usize = Icmpv6Header::MIN_LEN;

/// Bytes of an echo request's frame around its payload.
pub const ICMPV6_ECHO_FRAME_OVERHEAD: usize =
    ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + ICMPV6_HEADER_LENGTH;

/// Types from here on are information; those below are errors (RFC 4443 section 2.1).
const FIRST_INFORMATIONAL: u8 = 128;

/// An ICMPv6 message whose checksum has been verified.
#[derive(Clone, Debug)]
pub enum Icmpv6Message<'a> {
    /// Somebody asks for an echo.
    EchoRequest(Echo<'a>),
    /// Somebody answers our request.
    EchoReply(Echo<'a>),
    /// A packet could not be delivered.
    Error(Icmpv6Error<'a>),
    /// A message of neighbour discovery (RFC 4861).
    NeighbourDiscovery(NeighbourDiscovery<'a>),
    /// A query for the members of groups (RFC 3810).
    MldQuery(MldQuery),
    /// A member of a group tells a router of version 1 (RFC 2710).
    MldReport(MldReport),
    /// Another message.
    Other {
        /// `type` of RFC 4443.
        kind: u8,
        /// `code` of RFC 4443.
        code: u8,
    },
}

/// An error message: what it says, and the packet that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv6Error<'a> {
    /// `type` of RFC 4443.
    pub kind: u8,
    /// `code` of RFC 4443.
    pub code: u8,
    /// The MTU of a packet too big, the pointer of a parameter problem, else unused.
    pub parameter: u32,
    /// As much of the packet as fits, from its IPv6 header on.
    pub invoking_packet: &'a [u8],
}

impl Icmpv6Error<'_> {
    /// `ICMPV6_DEST_UNREACH`
    pub const DESTINATION_UNREACHABLE: u8 = icmpv6::TYPE_DST_UNREACH;
    /// `ICMPV6_PKT_TOOBIG`
    pub const PACKET_TOO_BIG: u8 = icmpv6::TYPE_PACKET_TOO_BIG;
    /// `ICMPV6_TIME_EXCEED`
    pub const TIME_EXCEEDED: u8 = icmpv6::TYPE_TIME_EXCEEDED;
    /// `ICMPV6_PARAMPROB`
    pub const PARAMETER_PROBLEM: u8 = icmpv6::TYPE_PARAMETER_PROBLEM;

    /// Nobody listens at the port.
    pub const PORT_UNREACHABLE: IcmpErrorKind = of(Self::DESTINATION_UNREACHABLE, 4);
    /// Not all fragments of a packet came in time.
    pub const REASSEMBLY_TIME_EXCEEDED: IcmpErrorKind = of(Self::TIME_EXCEEDED, 1);
    /// A header field makes no sense.
    pub const ERRONEOUS_HEADER: IcmpErrorKind = of(Self::PARAMETER_PROBLEM, 0);
    /// A protocol, or an extension header, is not known.
    pub const UNRECOGNISED_NEXT_HEADER: IcmpErrorKind = of(Self::PARAMETER_PROBLEM, 1);
    /// The first fragment does not have all headers (RFC 7112).
    pub const INCOMPLETE_HEADERS: IcmpErrorKind = of(Self::PARAMETER_PROBLEM, 3);
}

const fn of(kind: u8, code: u8) -> IcmpErrorKind {
    IcmpErrorKind { kind, code }
}

impl<'a> Icmpv6Message<'a> {
    /// Reads the message `payload`, which `packet` carries and which lies `offset` bytes into the frame.
    ///
    /// # Errors
    /// When bytes are missing, the checksum is wrong, or the message is not valid by the RFC that defines it.
    pub fn parse(
        packet: &Ipv6Packet<'_>,
        payload: &'a [u8],
        offset: usize,
    ) -> Result<Self, ParseError> {
        Icmpv6Message::parse_summed(packet, payload, offset, |body| ().sum(body))
    }

    /// Reads the message as [`Icmpv6Message::parse`] does; `sum` finds the sum of what is behind its first
    /// [`ICMPV6_HEADER_LENGTH`] bytes.
    ///
    /// # Errors
    /// When bytes are missing or the checksum is wrong.
    pub fn parse_summed(
        packet: &Ipv6Packet<'_>,
        payload: &'a [u8],
        offset: usize,
        sum: impl FnOnce(&'a [u8]) -> Summed,
    ) -> Result<Self, ParseError> {
        let slice = Icmpv6Slice::from_slice(payload)
            .map_err(|e| ParseError::truncated(Layer::Icmpv6, offset, e.required_len, e.len))?;
        let (source, destination) = (packet.source, packet.destination);
        let (header, body) = payload
            .split_at_checked(ICMPV6_HEADER_LENGTH)
            .unwrap_or((payload, &[]));
        let checksum = checksum::of_message_with_pseudo_header(
            source,
            destination,
            PROTOCOL_ICMPV6,
            (header, body.len()),
            sum(body),
        );
        if checksum != 0 {
            return Err(ParseError::checksum(Layer::Icmpv6, offset));
        }
        let [b0, b1, b2, b3] = slice.bytes5to8();
        let echo = Echo {
            identifier: u16::from_be_bytes([b0, b1]),
            sequence: u16::from_be_bytes([b2, b3]),
            payload: body,
        };
        Ok(match (slice.type_u8(), slice.code_u8()) {
            // RFC 4443 knows no code but 0. Hosts don't look at it, and give it back.
            (icmpv6::TYPE_ECHO_REQUEST, _) => Icmpv6Message::EchoRequest(echo),
            (icmpv6::TYPE_ECHO_REPLY, 0) => Icmpv6Message::EchoReply(echo),
            (
                kind @ (icmpv6::TYPE_ROUTER_SOLICITATION
                | icmpv6::TYPE_ROUTER_ADVERTISEMENT
                | icmpv6::TYPE_NEIGHBOR_SOLICITATION
                | icmpv6::TYPE_NEIGHBOR_ADVERTISEMENT
                | icmpv6::TYPE_REDIRECT_MESSAGE),
                code,
            ) => match NeighbourDiscovery::parse(packet, &slice, offset)? {
                Some(message) => Icmpv6Message::NeighbourDiscovery(message),
                None => Icmpv6Message::Other { kind, code },
            },
            (MldQuery::TYPE, _) => {
                Icmpv6Message::MldQuery(MldQuery::parse(packet, payload, offset)?)
            }
            (MldReport::TYPE, _) => {
                Icmpv6Message::MldReport(MldReport::parse(packet, payload, offset)?)
            }
            (kind, code) if kind < FIRST_INFORMATIONAL => Icmpv6Message::Error(Icmpv6Error {
                kind,
                code,
                parameter: u32::from_be_bytes([b0, b1, b2, b3]),
                invoking_packet: body,
            }),
            (kind, code) => Icmpv6Message::Other { kind, code },
        })
    }
}

/// Builds the message that `envelope` carries at the start of `buffer`, with `body_length` bytes of body, which `fill`
/// writes, and may tell the sum of.
///
/// Returns the frame's length, or `None` when the buffer is too short or the packet would be too long.
pub(super) fn write<P: Filled>(
    envelope: &Ipv6Envelope,
    message: Icmpv6Type,
    body_length: usize,
    fill: impl FnOnce(&mut [u8]) -> P,
    buffer: &mut [u8],
) -> Option<usize> {
    let length = ICMPV6_HEADER_LENGTH + body_length;
    let payload = envelope.write(IpNumber::IPV6_ICMP, length, buffer)?;
    let (header, body) = payload.split_at_mut_checked(ICMPV6_HEADER_LENGTH)?;
    let bytes = Icmpv6Header::new(message).to_bytes();
    header.copy_from_slice(bytes.get(..ICMPV6_HEADER_LENGTH)?);
    let sum = checksum::of_message_with_pseudo_header(
        envelope.source,
        envelope.destination,
        PROTOCOL_ICMPV6,
        (header, body_length),
        fill(body).sum(body),
    );
    header.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH + length)
}

/// Puts the right checksum in the ICMPv6 message `payload`.
pub(super) fn seal(source: Ipv6Addr, destination: Ipv6Addr, payload: &mut [u8]) -> Option<()> {
    payload.get_mut(2..4)?.copy_from_slice(&[0, 0]);
    let sum = checksum::with_pseudo_header(source, destination, PROTOCOL_ICMPV6, payload);
    payload.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// An echo request to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icmpv6EchoRequest {
    /// From whom to whom.
    pub envelope: Ipv6Envelope,
    /// Tells this VM's conversations apart.
    pub identifier: u16,
    /// Counts the requests of one conversation.
    pub sequence: u16,
}

impl Icmpv6EchoRequest {
    /// Builds the frame at the start of `buffer` with `payload_length` bytes of payload, which `fill` writes,
    /// and may tell the sum of.
    ///
    /// Returns the frame's length, or `None` when the buffer is too short or the packet would be too long.
    pub fn write<P: Filled>(
        &self,
        payload_length: usize,
        fill: impl FnOnce(&mut [u8]) -> P,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let echo = IcmpEchoHeader {
            id: self.identifier,
            seq: self.sequence,
        };
        let message = Icmpv6Type::EchoRequest(echo);
        let length = write(&self.envelope, message, payload_length, fill, buffer)?;
        set_flow_label(buffer)?;
        Some(length)
    }
}

/// Turns the echo request in `frame` into its reply, sent from `source_mac` and `source` with `hop_limit`.
///
/// The caller has parsed the frame: an IPv6 packet lies after the Ethernet header, and a sound echo request
/// `echo_offset` bytes into the frame. Extension headers are left out of the reply, as a kernel does; the traffic class
/// stays. Returns the reply's length, or `None` when the frame is not what the caller says.
pub fn turn_into_icmpv6_echo_reply(
    frame: &mut [u8],
    echo_offset: usize,
    source_mac: MacAddr,
    source: Ipv6Addr,
    hop_limit: u8,
) -> Option<usize> {
    let turned = turn_around(
        frame,
        echo_offset,
        source_mac,
        Some(source),
        hop_limit,
        IpNumber::IPV6_ICMP,
    )?;
    let [kind, code, c0, c1, ..] = turned.payload else {
        return None;
    };
    let before = u16::from_be_bytes([*kind, *code]);
    *kind = icmpv6::TYPE_ECHO_REPLY;
    let after = u16::from_be_bytes([*kind, *code]);
    let mut sum = checksum::update(u16::from_be_bytes([*c0, *c1]), before, after);
    if turned.asked != source {
        // The addresses are part of the sum; that they change places alone would change nothing.
        for (before, after) in turned.asked.segments().into_iter().zip(source.segments()) {
            sum = checksum::update(sum, before, after);
        }
    }
    [*c0, *c1] = sum.to_be_bytes();
    let length = turned.length;
    set_flow_label(frame)?;
    Some(length)
}

/// A packet on its way back to where it came from.
pub(super) struct TurnedAround<'a> {
    /// Where it had gone.
    pub(super) asked: Ipv6Addr,
    /// Its payload: the same as before.
    pub(super) payload: &'a mut [u8],
    /// The frame's length.
    pub(super) length: usize,
}

/// Sends the packet in `frame` back, without its extension headers: what stands `offset` bytes into the frame, which is
/// `protocol`'s, moves up behind the fixed header. It comes from `source`, or from where it had gone.
pub(super) fn turn_around(
    frame: &mut [u8],
    offset: usize,
    source_mac: MacAddr,
    source: Option<Ipv6Addr>,
    hop_limit: u8,
    protocol: IpNumber,
) -> Option<TurnedAround<'_>> {
    const START: usize = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH;
    let packet = Ipv6Packet::parse(frame.get(ETHERNET_HEADER_LENGTH..)?, ETHERNET_HEADER_LENGTH);
    let packet = packet.ok()?;
    let (asker, asked, traffic_class) = (packet.source, packet.destination, packet.traffic_class);
    let extensions = offset.checked_sub(START)?;
    let length = packet.payload.len().checked_sub(extensions)?;
    if extensions > 0 {
        frame.copy_within(offset..offset + length, START);
    }
    let envelope = Ipv6Envelope {
        source_mac,
        destination_mac: MacAddr(*frame.get(6..)?.first_chunk()?),
        source: source.unwrap_or(asked),
        destination: asker,
        traffic_class,
        hop_limit,
    };
    Some(TurnedAround {
        asked,
        payload: envelope.write(protocol, length, frame)?,
        length: START + length,
    })
}

/// Turns the packet in `frame`, which ends with it, into an error message about it, sent from `source_mac` and `source`
/// to where it came from.
///
/// `kind` and `parameter` are those of [`Icmpv6Error`]. As much of the packet is quoted as fits into
/// [`IPV6_MINIMUM_MTU`] (RFC 4443 section 2.4 c). Returns the message's length, or `None` when the buffer around the
/// frame, of which the packet takes `length` bytes, is too short.
pub fn turn_into_icmpv6_error(
    buffer: &mut [u8],
    length: usize,
    (kind, parameter): (IcmpErrorKind, u32),
    source_mac: MacAddr,
    source: Ipv6Addr,
    hop_limit: u8,
) -> Option<usize> {
    const QUOTE: usize = IPV6_MINIMUM_MTU - IPV6_HEADER_LENGTH - ICMPV6_HEADER_LENGTH;
    let frame = buffer.get(..length)?;
    let packet = Ipv6Packet::parse(frame.get(ETHERNET_HEADER_LENGTH..)?, ETHERNET_HEADER_LENGTH);
    let packet = packet.ok()?;
    let quoted = (IPV6_HEADER_LENGTH + packet.payload.len()).min(QUOTE);
    let envelope = Ipv6Envelope {
        source_mac,
        destination_mac: MacAddr(*frame.get(6..)?.first_chunk()?),
        source,
        destination: packet.source,
        traffic_class: 0,
        hop_limit,
    };
    buffer.get(..ICMPV6_ECHO_FRAME_OVERHEAD + quoted)?;
    let start = ETHERNET_HEADER_LENGTH;
    buffer.copy_within(start..start + quoted, ICMPV6_ECHO_FRAME_OVERHEAD);
    let message = Icmpv6Type::Unknown {
        type_u8: kind.kind,
        code_u8: kind.code,
        bytes5to8: parameter.to_be_bytes(),
    };
    let length = write(&envelope, message, quoted, |_| (), buffer)?;
    set_flow_label(buffer)?;
    Some(length)
}
