//! Work on a frame that its sender has left to the network card (`Documentation/networking/segmentation-offloads.rst` of the
//! kernel): the checksum, and the cut of a frame that is larger than the link carries. Who takes a frame from the kernel before a
//! card has seen it finds what is left to do in a header before the frame, `struct virtio_net_hdr` (virtio 1.2, section
//! 5.1.6), and does it.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, IpNumber, TcpHeader, UdpHeader};

use super::checksum;
use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::IPV4_HEADER_LENGTH;
use super::ipv6::IPV6_HEADER_LENGTH;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// Bytes of the header before a frame.
pub const OFFLOAD_HEADER_LENGTH: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_ECN`: the flag of RFC 3168 that stands in the first segment alone.
const WITH_ECN: u8 = 0x80;

/// What is left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// Nothing.
    Done,
    /// The checksum over all that begins at `start` is to be put `offset` bytes behind it, where the sum of the pseudo-header is.
    Checksum {
        /// Bytes before what is summed up.
        start: usize,
        /// Bytes from there to the checksum.
        offset: usize,
    },
    /// The frame is to be cut.
    Segments(Segmentation),
}

/// The cut of a frame into segments, each with headers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segmentation {
    protocol: IpNumber,
    /// Bytes before the header of the protocol.
    start: usize,
    /// Bytes of payload in each segment but the last.
    size: usize,
}

impl Offload {
    /// Reads the header, whose numbers are in the order of this machine. `None` if it asks for something that is not known.
    pub fn parse(header: &[u8; OFFLOAD_HEADER_LENGTH]) -> Option<Offload> {
        let &[flags, kind, _, _, s0, s1, c0, c1, o0, o1] = header;
        let number = |bytes| usize::from(u16::from_ne_bytes(bytes));
        let (size, start, offset) = (number([s0, s1]), number([c0, c1]), number([o0, o1]));
        let has_checksum = flags & NEEDS_CHECKSUM != 0;
        let protocol = match kind & !WITH_ECN {
            // VIRTIO_NET_HDR_GSO_NONE
            0 if !has_checksum => return Some(Offload::Done),
            0 => return Some(Offload::Checksum { start, offset }),
            // VIRTIO_NET_HDR_GSO_TCPV4 and _TCPV6
            1 | 4 => IpNumber::TCP,
            // VIRTIO_NET_HDR_GSO_UDP_L4
            5 => IpNumber::UDP,
            _ => return None,
        };
        // Without it nobody says where the protocol's header is.
        (has_checksum && size > 0).then_some(Offload::Segments(Segmentation {
            protocol,
            start,
            size,
        }))
    }
}

/// Completes the checksum of `frame` (`skb_checksum_help()` of `net/core/dev.c`). Does nothing if the frame is too short for it.
pub fn complete_checksum(frame: &mut [u8], start: usize, offset: usize) {
    let sum = checksum::of(frame.get(start..).unwrap_or_default());
    if let Some(field) = frame.get_mut(start + offset..start + offset + 2) {
        // Of UDP, 0 would be none at all.
        let sum = if sum == 0 { 0xffff } else { sum };
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

impl Segmentation {
    /// Where the payload of `frame` begins.
    fn payload(&self, frame: &[u8]) -> Option<usize> {
        let header = frame.get(self.start..)?;
        let length = match self.protocol {
            IpNumber::TCP => usize::from(header.get(12)? >> 4) * 4,
            _ => UdpHeader::LEN,
        };
        let least = match self.protocol {
            IpNumber::TCP => TcpHeader::MIN_LEN,
            _ => UdpHeader::LEN,
        };
        (least..=header.len())
            .contains(&length)
            .then_some(self.start + length)
    }

    /// The number of segments of `frame`; 0 if it is none that can be cut.
    pub fn count(&self, frame: &[u8]) -> usize {
        let payload = self.payload(frame).and_then(|from| frame.get(from..));
        payload.map_or(0, |payload| payload.len().div_ceil(self.size).max(1))
    }

    /// Writes the segment `number`, from 0 on, of `frame` to the start of `to`, and returns its length. `None` if there is none, if
    /// the frame is none that can be cut, or if there is no room.
    pub fn write(&self, frame: &[u8], number: usize, to: &mut [u8]) -> Option<usize> {
        if number >= self.count(frame) {
            return None;
        }
        let from = self.payload(frame)?;
        let (headers, payload) = frame.split_at_checked(from)?;
        let begin = number.checked_mul(self.size)?;
        let end = payload.len().min(begin + self.size);
        let part = payload.get(begin..end)?;
        let is_last = end == payload.len();
        let length = headers.len() + part.len();
        let to = to.get_mut(..length)?;
        let (new_headers, new_part) = to.split_at_mut_checked(from)?;
        new_headers.copy_from_slice(headers);
        new_part.copy_from_slice(part);
        match self.protocol {
            IpNumber::TCP => self.number_tcp(to, begin, (number == 0, is_last))?,
            _ => {
                let datagram = to.get_mut(self.start..)?;
                let length = u16::try_from(datagram.len()).ok()?.to_be_bytes();
                datagram.get_mut(4..6)?.copy_from_slice(&length);
            }
        }
        self.seal(to, number)?;
        Some(length)
    }

    /// Gives a TCP segment its sequence number and its flags (`tcp_gso_segment()` of `net/ipv4/tcp_offload.c`).
    fn number_tcp(
        &self,
        frame: &mut [u8],
        begin: usize,
        (is_first, is_last): (bool, bool),
    ) -> Option<()> {
        const FIN: u8 = 1;
        const PSH: u8 = 8;
        const CWR: u8 = 0x80;
        let header = frame.get_mut(self.start..)?;
        let sequence = header.get_mut(4..8)?.first_chunk_mut()?;
        *sequence = u32::from_be_bytes(*sequence)
            .wrapping_add(begin as u32)
            .to_be_bytes();
        let flags = header.get_mut(13)?;
        if !is_last {
            *flags &= !(FIN | PSH);
        }
        if !is_first {
            *flags &= !CWR;
        }
        Some(())
    }

    /// Puts lengths, the number and checksums into the headers of a segment.
    fn seal(&self, frame: &mut [u8], number: usize) -> Option<()> {
        let network = ETHERNET_HEADER_LENGTH + tags_of(frame).count() * VLAN_TAG_LENGTH;
        let ether_type = *frame.get(network - 2..)?.first_chunk()?;
        let field = match self.protocol {
            IpNumber::TCP => 16,
            _ => 6,
        };
        let (packet, protocol) = (frame.get_mut(network..)?, self.protocol.0);
        let start = self.start.checked_sub(network)?;
        packet.get_mut(start..)?.get_mut(field..field + 2)?.fill(0);
        let (header, message) = packet.split_at_mut_checked(start)?;
        let sum = match EtherType(u16::from_be_bytes(ether_type)) {
            EtherType::IPV4 => {
                let length = u16::try_from(header.len() + message.len()).ok()?;
                header.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
                let identification = header.get_mut(4..6)?.first_chunk_mut()?;
                *identification = u16::from_be_bytes(*identification)
                    .wrapping_add(number as u16)
                    .to_be_bytes();
                header.get_mut(10..12)?.fill(0);
                let sum = checksum::of(header).to_be_bytes();
                header.get_mut(10..12)?.copy_from_slice(&sum);
                let &[source, destination] = header.get(12..IPV4_HEADER_LENGTH)?.as_chunks::<4>().0
                else {
                    return None;
                };
                let (source, destination) = (Ipv4Addr::from(source), Ipv4Addr::from(destination));
                checksum::with_ipv4_pseudo_header(source, destination, protocol, message)
            }
            EtherType::IPV6 => {
                let length = header.len() + message.len() - IPV6_HEADER_LENGTH.min(header.len());
                let length = u16::try_from(length).ok()?;
                header.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
                let &[source, destination] = header.get(8..IPV6_HEADER_LENGTH)?.as_chunks::<16>().0
                else {
                    return None;
                };
                let (source, destination) = (Ipv6Addr::from(source), Ipv6Addr::from(destination));
                checksum::with_pseudo_header(source, destination, protocol, message)
            }
            _ => return None,
        };
        let sum = if sum == 0 { 0xffff } else { sum };
        let place = message.get_mut(field..field + 2)?;
        place.copy_from_slice(&sum.to_be_bytes());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{EthernetFrame, Payload, TcpSegment, UdpDatagram, restore_tag};

    fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2([2; 6], [4; 6])
    }

    /// A frame over IPv4 or IPv6 with TCP or UDP in it, and where the header of that begins.
    fn frame(is_ipv6: bool, is_tcp: bool, payload: &[u8]) -> (Vec<u8>, usize) {
        let ip = match is_ipv6 {
            false => ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            true => ethernet().ipv6([1; 16], [2; 16], 64),
        };
        let mut bytes = Vec::new();
        match is_tcp {
            true => {
                let tcp = ip.tcp(1, 2, 0xffff_ff00, 100).psh().fin().cwr();
                tcp.write(&mut bytes, payload).unwrap();
            }
            false => ip.udp(1, 2).write(&mut bytes, payload).unwrap(),
        }
        (
            bytes,
            ETHERNET_HEADER_LENGTH + if is_ipv6 { 40 } else { 20 },
        )
    }

    fn header(flags: u8, kind: u8, [size, start, offset]: [usize; 3]) -> [u8; 10] {
        let mut bytes = [0; OFFLOAD_HEADER_LENGTH];
        (bytes[0], bytes[1]) = (flags, kind);
        for (place, number) in [(4, size), (6, start), (8, offset)] {
            bytes[place..place + 2].copy_from_slice(&(number as u16).to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_header_says_what_is_left_to_do() {
        for (header, expected) in [
            (header(0, 0, [0, 0, 0]), Some(Offload::Done)),
            // The checksum is right.
            (header(2, 0, [0, 0, 0]), Some(Offload::Done)),
            (
                header(1, 0, [0, 34, 6]),
                Some(Offload::Checksum {
                    start: 34,
                    offset: 6,
                }),
            ),
            // UDP fragmentation offload, which kernels no longer have; and no place of a header.
            (header(1, 3, [1000, 34, 6]), None),
            (header(0, 1, [1000, 0, 0]), None),
            (header(1, 1, [0, 34, 16]), None),
        ] {
            assert_eq!(Offload::parse(&header), expected, "{header:?}");
        }
    }

    #[test]
    fn a_checksum_of_zero_is_written_as_its_complement() {
        let mut frame = [0xff, 0xff, 0, 0];
        complete_checksum(&mut frame, 0, 2);
        assert_eq!(frame, [0xff, 0xff, 0xff, 0xff]);
        complete_checksum(&mut frame, 3, 2);
        assert_eq!(frame, [0xff; 4], "no room for it");
    }

    proptest! {
        #[test]
        fn segments_are_whole_packets_that_carry_the_payload_in_order(
            is_ipv6: bool,
            is_tcp: bool,
            is_tagged: bool,
            payload in prop::collection::vec(any::<u8>(), 1..5000),
            size in 1_usize..2000,
        ) {
            let (mut large, mut start) = frame(is_ipv6, is_tcp, &payload);
            if is_tagged {
                large.splice(..0, [0; VLAN_TAG_LENGTH]);
                restore_tag(&mut large, 0x8100, 9).unwrap();
                start += VLAN_TAG_LENGTH;
            }
            let kind = match (is_tcp, is_ipv6) { (false, _) => 5, (true, false) => 0x81, (true, true) => 4 };
            let Some(Offload::Segments(cut)) = Offload::parse(&header(1, kind, [size, start, 16])) else {
                return Err(TestCaseError::fail("no segments"));
            };
            let count = cut.count(&large);
            prop_assert_eq!(count, payload.len().div_ceil(size));
            let mut carried = Vec::new();
            let mut space = [0; 5100];
            for number in 0..count {
                let length = cut.write(&large, number, &mut space).unwrap();
                let mut segment = space[..length].to_vec();
                if is_tagged {
                    segment.copy_within(..12, VLAN_TAG_LENGTH);
                    segment.drain(..VLAN_TAG_LENGTH);
                }
                let headers = start - if is_tagged { VLAN_TAG_LENGTH } else { 0 };
                let headers = headers + if is_tcp { 20 } else { 8 };
                if is_tcp {
                    let (flags, is_last) = (segment[headers - 20 + 13], number + 1 == count);
                    prop_assert_eq!(flags & 9 != 0, is_last, "FIN and PSH");
                    prop_assert_eq!(flags & 0x80 != 0, number == 0, "CWR");
                    let sequence = segment[headers - 16..headers - 12].try_into().unwrap();
                    let expected = 0xffff_ff00_u32.wrapping_add((number * size) as u32);
                    prop_assert_eq!(u32::from_be_bytes(sequence), expected);
                }
                carried.extend_from_slice(&segment[headers..]);
                // Both verify the checksum, and IPv4's is verified by the way.
                match EthernetFrame::parse(&segment).unwrap().payload().unwrap() {
                    Payload::Ipv4(packet) if is_tcp => drop(TcpSegment::parse(&packet).unwrap()),
                    Payload::Ipv4(packet) => drop(UdpDatagram::parse(&packet).unwrap()),
                    Payload::Ipv6(packet) => {
                        let payload = &segment[ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH..];
                        match is_tcp {
                            true => drop(TcpSegment::parse_ipv6(&packet, payload, 54).unwrap()),
                            false => drop(UdpDatagram::parse_ipv6(&packet, payload, 54).unwrap()),
                        }
                    }
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                }
            }
            prop_assert_eq!(cut.write(&large, count, &mut space), None);
            prop_assert_eq!(carried, payload);
        }

        #[test]
        fn no_bytes_do_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            header: [u8; OFFLOAD_HEADER_LENGTH],
            number in 0_usize..5,
        ) {
            let mut space = [0; 300];
            if let Some(Offload::Segments(cut)) = Offload::parse(&header) {
                let _ = (cut.count(&bytes), cut.write(&bytes, number, &mut space));
            }
            let [.., s0, s1, o0, o1] = header;
            let mut frame = bytes;
            complete_checksum(&mut frame, u16::from_ne_bytes([s0, s1]).into(), u16::from_ne_bytes([o0, o1]).into());
        }
    }
}
