//! The blocks of a pcapng file, appended to a buffer: little-endian, options padded to 32 bits.
//!
//! Read draft-ietf-opsawg-pcapng first. The writer is this crate's own because each frame of a run goes through it: a block
//! takes no allocation, and its comment is formatted where it lies. `pcap-file` takes a vector of options for each frame
//! and swaps the words of the time in interface statistics.

use std::net::IpAddr;

use crate::fabric::Direction;
use crate::time::Instant;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const NAME_RESOLUTION: u32 = 4;
const INTERFACE_STATISTICS: u32 = 5;
/// The type of a block that is a frame.
pub(in crate::fabric) const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINK_TYPE_ETHERNET: u16 = 1;

const COMMENT: u16 = 1;
const SECTION_OS: u16 = 3;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_DESCRIPTION_TEXT: u16 = 3;
const INTERFACE_TIME_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const PACKET_DROPS: u16 = 4;
const RECORD_IPV4: u16 = 1;
const RECORD_IPV6: u16 = 2;
const STATISTICS_START: u16 = 2;
const STATISTICS_END: u16 = 3;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;

/// 10^-9 seconds (`if_tsresol`).
const NANOSECONDS: u8 = 9;

/// Bytes of an enhanced packet block beside frame, comment and padding: head, flags, drop count, end of options, length.
pub(super) const PACKET_OVERHEAD: usize = 28 + 8 + 12 + 4 + 4 + 4;

/// The value of `epb_flags`.
const fn flags(direction: Direction) -> u32 {
    match direction {
        Direction::In => 1,
        Direction::Out => 2,
    }
}

/// A frame as it goes into the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The number of its interface in this section.
    pub(super) interface: u32,
    /// Nanoseconds since 1970.
    pub(super) nanos: u64,
    pub(super) direction: Direction,
    /// The bytes that are kept of it.
    pub(super) bytes: &'a [u8],
    /// Bytes that it had.
    pub(super) length: u32,
    /// Frames of this interface lost to the capture since the one before.
    pub(super) dropped: u64,
    /// UTF-8; none if empty.
    pub(super) comment: &'a [u8],
}

/// Appends a section header, with which each file begins.
pub(super) fn section(out: &mut Vec<u8>, application: &str, system: &str, comment: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        // The length of the section is not known.
        out.extend_from_slice(&u64::MAX.to_le_bytes());
        option(out, COMMENT, comment.as_bytes());
        option(out, SECTION_OS, system.as_bytes());
        option(out, SECTION_APPLICATION, application.as_bytes());
        end_of_options(out);
    });
}

/// Appends the description of the next interface; they are numbered from 0 in their order. `snap` is the most bytes that
/// are kept of a frame; 0 for all.
pub(super) fn interface(out: &mut Vec<u8>, name: &str, description: &str, snap: u32) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend_from_slice(&LINK_TYPE_ETHERNET.to_le_bytes());
        out.extend_from_slice(&0u16.to_le_bytes());
        out.extend_from_slice(&snap.to_le_bytes());
        option(out, INTERFACE_NAME, name.as_bytes());
        option(out, INTERFACE_DESCRIPTION_TEXT, description.as_bytes());
        option(out, INTERFACE_TIME_RESOLUTION, &[NANOSECONDS]);
        end_of_options(out);
    });
}

/// Appends the name of an address.
pub(super) fn name(out: &mut Vec<u8>, address: IpAddr, name: &str) {
    block(out, NAME_RESOLUTION, |out| {
        let (mut octets, kind) = ([0; 16], RECORD_IPV6);
        let (octets, kind) = match address {
            IpAddr::V4(address) => {
                octets[..4].copy_from_slice(&address.octets());
                (&octets[..4], RECORD_IPV4)
            }
            IpAddr::V6(address) => {
                octets = address.octets();
                (&octets[..], kind)
            }
        };
        // The name is ended by a zero.
        option_of(out, kind, &[octets, name.as_bytes(), &[0]]);
        // The end of the records; there are no options.
        end_of_options(out);
    });
}

/// Appends a frame.
#[inline]
pub(super) fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let begin = out.len();
    let captured = packet.bytes.len() as u32;
    let mut head = [0; 28];
    let words = [
        ENHANCED_PACKET,
        0,
        packet.interface,
        (packet.nanos >> 32) as u32,
        packet.nanos as u32,
        captured,
        packet.length,
    ];
    for (space, word) in head.chunks_exact_mut(4).zip(words) {
        space.copy_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&head);
    out.extend_from_slice(packet.bytes);
    pad(out, packet.bytes.len());
    option(out, PACKET_FLAGS, &flags(packet.direction).to_le_bytes());
    if packet.dropped > 0 {
        option(out, PACKET_DROPS, &packet.dropped.to_le_bytes());
    }
    if !packet.comment.is_empty() {
        option(out, COMMENT, packet.comment);
    }
    end_of_options(out);
    end_block(out, begin);
}

/// Appends the counts of an interface at the end of its section: frames seen, and those of them lost to the capture.
/// Times are nanoseconds since 1970.
pub(super) fn statistics(
    out: &mut Vec<u8>,
    interface: u32,
    (start, end): (u64, u64),
    (received, dropped): (u64, u64),
) {
    // The two halves of a time, the upper one first, whatever the byte order.
    let time = |nanos: u64| {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&((nanos >> 32) as u32).to_le_bytes());
        bytes[4..].copy_from_slice(&(nanos as u32).to_le_bytes());
        bytes
    };
    block(out, INTERFACE_STATISTICS, |out| {
        out.extend_from_slice(&interface.to_le_bytes());
        out.extend_from_slice(&time(end));
        option(out, STATISTICS_START, &time(start));
        option(out, STATISTICS_END, &time(end));
        option(out, STATISTICS_RECEIVED, &received.to_le_bytes());
        option(out, STATISTICS_DROPPED, &dropped.to_le_bytes());
        end_of_options(out);
    });
}

/// Converts instants of a run to nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Epoch {
    /// Nanoseconds from 1970 to [`Instant::ZERO`]; 0 in virtual time.
    pub nanos_at_zero: u64,
}

impl Epoch {
    /// Returns `at` in nanoseconds since 1970.
    pub(super) fn nanos(self, at: Instant) -> u64 {
        self.nanos_at_zero.saturating_add(at.as_nanos())
    }
}

/// Appends a block with the body that `write` appends.
fn block(out: &mut Vec<u8>, kind: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    write(out);
    end_block(out, begin);
}

/// Appends the length of the block that began at `begin`, and writes it behind its type as well.
#[inline]
fn end_block(out: &mut Vec<u8>, begin: usize) {
    let length = ((out.len() - begin + 4) as u32).to_le_bytes();
    out.extend_from_slice(&length);
    if let Some(space) = out.get_mut(begin + 4..begin + 8) {
        space.copy_from_slice(&length);
    }
}

#[inline]
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    option_of(out, code, &[value]);
}

/// Appends an option whose value is `parts` in a row, cut to what its length field can say.
#[inline]
fn option_of(out: &mut Vec<u8>, code: u16, parts: &[&[u8]]) {
    let begin = out.len();
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.truncate(begin + 4 + usize::from(u16::MAX));
    let length = out.len() - begin - 4;
    if let Some(space) = out.get_mut(begin + 2..begin + 4) {
        space.copy_from_slice(&(length as u16).to_le_bytes());
    }
    pad(out, length);
}

#[inline]
fn end_of_options(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Pads what has `length` bytes to a multiple of four.
#[inline]
fn pad(out: &mut Vec<u8>, length: usize) {
    let padding = length.wrapping_neg() % 4;
    out.extend_from_slice(&[0; 3][..padding]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a block, which has to be whole.
    fn words(block: &[u8]) -> Vec<u32> {
        assert!(block.len().is_multiple_of(4), "{}", block.len());
        let words = block.chunks(4).map(|word| {
            let word: [u8; 4] = word.try_into().unwrap();
            u32::from_le_bytes(word)
        });
        words.collect()
    }

    #[test]
    fn a_block_says_its_length_at_both_ends_and_its_options_are_padded() {
        for (length, comment, options) in [
            (60, "", 8 + 4),
            (61, "", 8 + 4),
            (61, "a", 8 + 8 + 4),
            (62, "abcd", 8 + 8 + 4),
            (63, "abcde", 8 + 12 + 4),
        ] {
            let mut out = Vec::new();
            packet(
                &mut out,
                &Packet {
                    interface: 7,
                    nanos: (3 << 32) + 5,
                    direction: Direction::Out,
                    bytes: &vec![0xab; length],
                    length: 1_000,
                    dropped: 0,
                    comment: comment.as_bytes(),
                },
            );
            let words = words(&out);
            let padded = length.next_multiple_of(4);
            let total = 28 + padded + options + 4;
            assert_eq!(out.len(), total, "{length} {comment}");
            let head = [6, total as u32, 7, 3, 5, length as u32, 1_000];
            assert_eq!(words[..7], head);
            assert_eq!(words[7 + padded / 4..][..2], [0x0004_0002, 2]);
            assert_eq!(words.last(), Some(&(total as u32)));
            assert_eq!(words[words.len() - 2], 0, "the end of the options");
        }
    }

    #[test]
    fn the_overhead_of_a_packet_is_no_less_than_it_takes() {
        let mut out = Vec::new();
        let comment = "abc".as_bytes();
        let whole = Packet {
            interface: 0,
            nanos: 0,
            direction: Direction::In,
            bytes: &[0; 60],
            length: 60,
            dropped: 3,
            comment,
        };
        packet(&mut out, &whole);
        assert!(out.len() <= PACKET_OVERHEAD + 60 + 4);
    }

    #[test]
    fn a_comment_that_is_too_long_is_cut() {
        let mut out = Vec::new();
        option(&mut out, COMMENT, &[b'x'; 70_000]);
        assert_eq!(out.len(), 4 + 65_536);
        assert_eq!(out[2..4], [0xff, 0xff]);
    }

    #[test]
    fn the_time_of_statistics_has_its_upper_half_first() {
        let mut out = Vec::new();
        statistics(&mut out, 1, (1 << 32, (2 << 32) + 9), (4, 3));
        let words = words(&out);
        assert_eq!(words[2..5], [1, 2, 9]);
        assert_eq!(words[5..8], [0x0008_0002, 1, 0]);
        assert_eq!(words[8..11], [0x0008_0003, 2, 9]);
        assert_eq!(words[11..14], [0x0008_0004, 4, 0]);
        assert_eq!(words[14..17], [0x0008_0005, 3, 0]);
    }

    #[test]
    fn names_of_both_families_are_ended_by_a_zero() {
        for (address, kind, length) in [("10.77.0.9", 1, 4 + 4), ("fd77::9", 2, 16 + 4)] {
            let mut out = Vec::new();
            name(&mut out, address.parse().unwrap(), "vm7");
            let words = words(&out);
            assert_eq!(words[2], (length << 16) | kind);
            let text = 12 + length as usize - 4;
            assert_eq!(&out[text..text + 4], b"vm7\0");
        }
    }
}
