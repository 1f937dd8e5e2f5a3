//! The head of a fragment, with nothing verified: for what looks at frames and does not act on them.

use etherparse::EtherType;

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::IPV4_HEADER_LENGTH;
use super::ipv6::IPV6_HEADER_LENGTH;
use super::ipv6_extension::IPV6_FRAGMENT_HEADER_LENGTH;
use super::mac::MacAddr;
use super::vlan::{VLAN_TAG_LENGTH, tags_of};

/// The protocol number of IPv6's fragment header (RFC 8200 section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// The place of a fragment in its datagram (RFC 791 section 3.2, RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentHead {
    /// The address that the frame was sent from.
    pub source_mac: MacAddr,
    /// The address that it was sent to.
    pub destination_mac: MacAddr,
    /// The number that all fragments of the datagram have.
    pub identification: u32,
    /// Where it starts in the datagram's payload, in bytes.
    pub offset: u16,
    /// Bytes of the datagram's payload in it.
    pub length: u16,
    /// Others follow it.
    pub has_more: bool,
}

impl FragmentHead {
    /// Reads `frame`. `None` if it carries no fragment, or a whole datagram.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<FragmentHead> {
        let (destination, rest) = frame.split_first_chunk()?;
        let source = rest.first_chunk()?;
        let tags = tags_of(frame).count() * VLAN_TAG_LENGTH;
        let ether_type = frame.get(ETHERNET_HEADER_LENGTH + tags - 2..)?;
        let (ether_type, packet) = ether_type.split_first_chunk()?;
        let (identification, position, length) = match EtherType(u16::from_be_bytes(*ether_type)) {
            EtherType::IPV4 => of_ipv4(packet)?,
            EtherType::IPV6 => of_ipv6(packet)?,
            _ => return None,
        };
        Some(FragmentHead {
            source_mac: MacAddr(*source),
            destination_mac: MacAddr(*destination),
            identification,
            offset: position & !7,
            length,
            has_more: position & 1 != 0,
        })
        .filter(|head| head.has_more || head.offset > 0)
    }
}

/// Identification, offset in bytes with the lowest bit set if more fragments follow, and bytes of payload.
fn of_ipv4(packet: &[u8]) -> Option<(u32, u16, u16)> {
    let head = packet.first_chunk::<IPV4_HEADER_LENGTH>()?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    // The offset counts blocks of eight bytes in 13 bits; the bit above them says that more follow.
    let position = (word(6) & 0x1fff) << 3 | (word(6) >> 13 & 1);
    let header = u16::from(head[0] & 0x0f) * 4;
    Some((word(4).into(), position, word(2).saturating_sub(header)))
}

fn of_ipv6(packet: &[u8]) -> Option<(u32, u16, u16)> {
    let (head, behind) = packet.split_first_chunk::<IPV6_HEADER_LENGTH>()?;
    if head[6] != FRAGMENT_HEADER {
        return None;
    }
    let &[_, _, o0, o1, i0, i1, i2, i3] = behind.first_chunk::<IPV6_FRAGMENT_HEADER_LENGTH>()?;
    let length = u16::from_be_bytes([head[4], head[5]]);
    Some((
        u32::from_be_bytes([i0, i1, i2, i3]),
        u16::from_be_bytes([o0, o1]),
        length.saturating_sub(IPV6_FRAGMENT_HEADER_LENGTH as u16),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::{A, B, IDENTIFICATION, write_echo4, write_echo6};
    use crate::wire::{Vlan, insert_fragment_header, write_fragment, write_ipv6_fragment};

    const SIZE: usize = 4_000;

    fn datagram4(buffer: &mut [u8]) -> usize {
        write_echo4(SIZE, buffer)
    }

    fn datagram6(buffer: &mut [u8]) -> usize {
        let length = 8 + write_echo6(SIZE, &mut buffer[8..]);
        insert_fragment_header(buffer, IDENTIFICATION.into()).unwrap();
        length
    }

    /// Writes a datagram, and returns its length.
    type Write = fn(&mut [u8]) -> usize;

    /// Writes the fragment of a datagram that starts there, with an MTU of 1,500 bytes; its length, and where the next starts.
    type Cut = fn(&[u8], usize, usize, &mut [u8]) -> Option<(usize, Option<usize>)>;

    #[test]
    fn the_fragments_of_a_datagram_say_where_they_belong() {
        let mut whole = [0; SIZE + 200];
        let cases: [(Write, Cut, u16); 2] = [
            (datagram4, write_fragment, 1_480),
            (datagram6, write_ipv6_fragment, 1_448),
        ];
        for (write, cut, piece) in cases {
            let length = write(&mut whole);
            let (mut offset, mut heads) = (Some(0), Vec::new());
            while let Some(from) = offset {
                let mut buffer = [0; 1_600];
                let (mut length, next) = cut(&whole[..length], from, 1_500, &mut buffer).unwrap();
                if from > 0 {
                    let vlan: Vlan = "100.200".parse().unwrap();
                    buffer.copy_within(..length, vlan.length());
                    vlan.put_on(&mut buffer).unwrap();
                    length += vlan.length();
                }
                heads.push(FragmentHead::parse(&buffer[..length]).unwrap());
                for end in 0..60 {
                    // Whatever is there of it.
                    let _ = FragmentHead::parse(&buffer[..end]);
                }
                offset = next;
            }
            let size = SIZE as u16 + 8;
            let expected = [(0, piece), (piece, piece), (2 * piece, size - 2 * piece)];
            for (index, (offset, length)) in expected.into_iter().enumerate() {
                let head = FragmentHead {
                    source_mac: A,
                    destination_mac: B,
                    identification: IDENTIFICATION.into(),
                    offset,
                    length,
                    has_more: index < 2,
                };
                assert_eq!(heads[index], head);
            }
            assert_eq!(heads.len(), 3);
        }
        let length = datagram4(&mut whole);
        assert_eq!(FragmentHead::parse(&whole[..length]), None);
    }
}
