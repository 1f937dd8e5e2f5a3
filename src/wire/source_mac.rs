//! The hardware address that a frame says it comes from, wherever it says so.

use super::checksum;
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv6::{ETHER_TYPE_IPV6, IPV6_HEADER_LENGTH, PROTOCOL_ICMPV6};
use super::mac::MacAddr;

/// Bytes of a hardware address.
const LENGTH: usize = 6;
/// EtherType of ARP.
const ETHER_TYPE_ARP: u16 = 0x0806;
/// Bytes of an ARP packet before its sender's hardware address.
const ARP_SENDER: usize = 8;
/// `ND_OPT_SOURCE_LINKADDR` and `ND_OPT_TARGET_LINKADDR` (RFC 4861 section 4.6.1).
const LINK_OPTIONS: [u8; 2] = [1, 2];

/// Replaces the source address of `frame`, whose VLAN tags take `tags` bytes, by `new`, wherever it is `old`: in the Ethernet
/// header, as the sender's of an ARP packet, and in the options of neighbour discovery. Frames of others stay as they are.
pub fn replace_source_mac(frame: &mut [u8], tags: usize, old: MacAddr, new: MacAddr) {
    replace(frame, LENGTH, old, new);
    let start = ETHERNET_HEADER_LENGTH + tags;
    let kind = start.checked_sub(2).and_then(|at| frame.get(at..start));
    match kind
        .and_then(|kind| kind.try_into().ok())
        .map(u16::from_be_bytes)
    {
        Some(ETHER_TYPE_ARP) => {
            replace(frame, start + ARP_SENDER, old, new);
        }
        Some(ETHER_TYPE_IPV6) => replace_in_options(frame, start, old, new),
        _ => {}
    }
}

/// Returns true if the address at `at` was `old`, and is `new`.
fn replace(frame: &mut [u8], at: usize, old: MacAddr, new: MacAddr) -> bool {
    let place = frame.get_mut(at..at + LENGTH);
    match place.filter(|place| **place == old.0) {
        Some(place) => {
            place.copy_from_slice(&new.0);
            true
        }
        None => false,
    }
}

/// The same in the options of a message of neighbour discovery in the IPv6 packet that begins at `start`.
fn replace_in_options(frame: &mut [u8], start: usize, old: MacAddr, new: MacAddr) {
    let message = start + IPV6_HEADER_LENGTH;
    if frame.get(start + 6) != Some(&PROTOCOL_ICMPV6) {
        return;
    }
    // Bytes of each message before its options.
    let mut at = message
        + match frame.get(message) {
            Some(133) => 8,
            Some(134) => 16,
            Some(135 | 136) => 24,
            Some(137) => 40,
            _ => return,
        };
    while let Some(&[kind, units]) = frame.get(at..).and_then(<[u8]>::first_chunk) {
        if LINK_OPTIONS.contains(&kind) && replace(frame, at + 2, old, new) {
            reseal(frame, message + 2, old, new);
        }
        if units == 0 {
            return;
        }
        at += 8 * usize::from(units);
    }
}

/// Makes the checksum at `at` right again after `old` was replaced by `new`.
fn reseal(frame: &mut [u8], at: usize, old: MacAddr, new: MacAddr) {
    let Some(field) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) else {
        return;
    };
    let mut sum = u16::from_be_bytes(*field);
    for (old, new) in old.0.chunks_exact(2).zip(new.0.chunks_exact(2)) {
        if let (&[o0, o1], &[n0, n1]) = (old, new) {
            sum = checksum::update(
                sum,
                u16::from_be_bytes([o0, o1]),
                u16::from_be_bytes([n0, n1]),
            );
        }
    }
    *field = sum.to_be_bytes();
}
