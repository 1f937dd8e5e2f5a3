//! Fragments in frames without anything out of the ordinary, read at once, as [`PlainEcho`](super::PlainEcho) is.
//!
//! Most fragments of a large datagram are such: neither the first, which sets a time, nor the last, which makes it whole.

use std::net::Ipv4Addr;

use super::checksum;
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::IPV4_HEADER_LENGTH;
use super::mac::MacAddr;
use super::plain_head::PlainHead;

/// The flag that says that more fragments follow, and the only one that a fragment may have.
const MORE_FRAGMENTS: u16 = 0x2000;
/// The bits of the offset, in blocks of eight bytes.
const OFFSET: u16 = 0x1fff;

/// A fragment of an IPv4 datagram that is neither the first nor the last, without options, in an untagged frame. The checksum
/// of its header has been verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainFragment<'a> {
    /// The address that the frame was sent to.
    pub destination_mac: MacAddr,
    /// The address that it was sent from.
    pub source_mac: MacAddr,
    /// Where the datagram comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// The protocol number of the whole's payload.
    pub protocol: u8,
    /// The number that the fragments of the datagram have in common.
    pub identification: u16,
    /// Where the payload belongs in that of the whole, in bytes.
    pub offset: usize,
    /// The payload, link-layer padding cut off.
    pub payload: &'a [u8],
}

impl<'a> PlainFragment<'a> {
    /// Reads `frame`. `None` if it is anything else, which costs one look, or anything about it is wrong.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Option<PlainFragment<'a>> {
        let head = frame.first_chunk::<{ ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH }>()?;
        let plain = PlainHead(head);
        let position = plain.word(20);
        let is_plain =
            position & !OFFSET == MORE_FRAGMENTS && position & OFFSET > 0 && plain.is_ipv4();
        if !is_plain {
            return None;
        }
        let end = ETHERNET_HEADER_LENGTH + usize::from(plain.word(16));
        let payload = frame.get(head.len()..end)?;
        let ip: &[u8; IPV4_HEADER_LENGTH] = head.last_chunk()?;
        if checksum::of(ip) != 0 {
            return None;
        }
        let (destination_mac, source_mac) = plain.macs();
        let (source, destination) = plain.addresses();
        Some(PlainFragment {
            destination_mac,
            source_mac,
            source,
            destination,
            protocol: head[23],
            identification: plain.word(18),
            offset: usize::from(position & OFFSET) * 8,
            payload,
        })
    }
}
