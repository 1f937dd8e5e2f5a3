//! Flow labels (RFC 6437), as Linux gives them by default (`auto_flowlabels` of 1, `ip6_make_flowlabel`): packets of one
//! flow have the same label, which is a hash of what makes the flow, so that routers can share flows out without a look
//! behind the fixed header. Messages of neighbour discovery, router discovery and MLD have none.

use etherparse::IpNumber;

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv6::{IPV6_HEADER_LENGTH, PROTOCOL_ICMPV6};

/// Bits of a label.
const BITS: u32 = 20;

/// Puts the label of its flow into the packet in `frame`, which is whole and has no extension headers: a hash of addresses,
/// protocol, and ports; of ICMPv6, type and code stand for ports.
pub(super) fn set_flow_label(frame: &mut [u8]) -> Option<()> {
    let packet = frame.get_mut(ETHERNET_HEADER_LENGTH..)?;
    let (header, payload) = packet.split_at_mut_checked(IPV6_HEADER_LENGTH)?;
    let header: &mut [u8; IPV6_HEADER_LENGTH] = header.try_into().ok()?;
    let protocol = header[6];
    let ports: [u8; 4] = *payload.first_chunk()?;
    let ports = match IpNumber(protocol) {
        IpNumber(PROTOCOL_ICMPV6) => [ports[0], ports[1], 0, 0],
        _ => ports,
    };
    let ports = u64::from(protocol) << 32 | u64::from(u32::from_be_bytes(ports));
    let mut hash = mix(0, ports);
    for part in header[8..].chunks_exact(8) {
        hash = mix(hash, u64::from_be_bytes(*part.first_chunk()?));
    }
    // None is 0, which would mean that there is no label.
    let label = ((hash >> (u64::BITS - BITS)) as u32).max(1);
    let [_, high, middle, low] = label.to_be_bytes();
    header[1] = header[1] & 0xf0 | high;
    (header[2], header[3]) = (middle, low);
    Some(())
}

/// Every bit of the result depends on every bit of both.
const fn mix(hash: u64, word: u64) -> u64 {
    /// Odd, with about as many ones as zeroes (2⁶⁴ divided by the golden ratio).
    const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
    const START: u64 = 0x2545_f491_4f6c_dd1d;
    let product = (hash ^ word ^ START) as u128 * FACTOR;
    (product >> 64) as u64 ^ product as u64
}
