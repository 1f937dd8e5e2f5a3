//! Echo messages in frames without anything out of the ordinary, read at once.
//!
//! Nearly every frame of a run is one. What takes four parsers elsewhere ([`EthernetFrame`](super::EthernetFrame),
//! [`Ipv4Packet`](super::Ipv4Packet), [`IcmpMessage`](super::IcmpMessage) and the tags) is one comparison of fixed bytes
//! here; whatever differs is left to them, faults and all.

use std::net::Ipv4Addr;

use super::checksum::{self, Summed};
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::icmp::{
    ECHO_FRAME_OVERHEAD, Echo, ICMP_ECHO_HEADER_LENGTH, TYPE_ECHO_REPLY, TYPE_ECHO_REQUEST,
};
use super::ipv4::{IPV4_HEADER_LENGTH, PROTOCOL_ICMP};
use super::mac::MacAddr;
use super::plain_head::PlainHead;

/// Where the message says what it is.
const KIND: usize = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH;
/// The one flag that a datagram of one piece may have.
const DONT_FRAGMENT: u16 = 0x4000;

/// An ICMP echo message in an IPv4 datagram of one piece and without options, in an untagged frame. All checksums have
/// been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainEcho<'a> {
    /// The address the frame was sent to.
    pub destination_mac: MacAddr,
    /// The address that it was sent from.
    pub source_mac: MacAddr,
    /// Where the datagram comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// The message.
    pub echo: Echo<'a>,
    /// Bytes of the frame, link-layer padding cut off.
    pub length: usize,
}

impl<'a> PlainEcho<'a> {
    /// Reads `frame` if it is a request. `None` if it is anything else, which costs one look, or anything about it is wrong.
    /// `sum` finds the sum of the payload.
    #[inline]
    pub fn parse_request(
        frame: &'a [u8],
        sum: impl FnOnce(&'a [u8]) -> Summed,
    ) -> Option<PlainEcho<'a>> {
        PlainEcho::parse(TYPE_ECHO_REQUEST, frame, sum)
    }

    /// Reads `frame` if it is a reply. `None` if it is anything else, which costs one look, or anything about it is wrong.
    /// `sum` finds the sum of the payload.
    #[inline]
    pub fn parse_reply(
        frame: &'a [u8],
        sum: impl FnOnce(&'a [u8]) -> Summed,
    ) -> Option<PlainEcho<'a>> {
        PlainEcho::parse(TYPE_ECHO_REPLY, frame, sum)
    }

    #[inline(always)]
    fn parse(
        kind: u8,
        frame: &'a [u8],
        sum: impl FnOnce(&'a [u8]) -> Summed,
    ) -> Option<PlainEcho<'a>> {
        if frame.get(KIND) != Some(&kind) {
            return None;
        }
        let head = frame.first_chunk::<ECHO_FRAME_OVERHEAD>()?;
        let plain = PlainHead(head);
        let is_plain = plain.is_ipv4()
            && plain.word(20) & !DONT_FRAGMENT == 0
            && head[23] == PROTOCOL_ICMP
            && head[KIND + 1] == 0;
        if !is_plain {
            return None;
        }
        let length = ETHERNET_HEADER_LENGTH + usize::from(plain.word(16));
        let frame = frame.get(..length)?;
        let payload = frame.get(ECHO_FRAME_OVERHEAD..)?;
        let ip: &[u8; IPV4_HEADER_LENGTH] = head[ETHERNET_HEADER_LENGTH..].first_chunk()?;
        let icmp: &[u8; ICMP_ECHO_HEADER_LENGTH] = head.last_chunk()?;
        if checksum::of(ip) != 0 || checksum::of_message(icmp, sum(payload)) != 0 {
            return None;
        }
        let (destination_mac, source_mac) = plain.macs();
        let (source, destination) = plain.addresses();
        Some(PlainEcho {
            destination_mac,
            source_mac,
            source,
            destination,
            echo: Echo {
                identifier: plain.word(38),
                sequence: plain.word(40),
                payload,
            },
            length,
        })
    }
}
