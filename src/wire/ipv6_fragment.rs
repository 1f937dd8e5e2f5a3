//! IPv6 packets cut into fragments, and put together again (RFC 8200 section 4.5).

use etherparse::{IpFragOffset, IpNumber, Ipv6FragmentHeader};

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv6::{IPV6_HEADER_LENGTH, PROTOCOL_ICMPV6};
use super::ipv6_extension::{IPV6_FRAGMENT_HEADER_LENGTH, Ipv6Fragment, UpperLayer, walk};

/// Where the packet's own bytes start in a frame.
const PAYLOAD: usize = ETHERNET_HEADER_LENGTH + IPV6_HEADER_LENGTH;
/// Where they start behind a fragment header.
const CUT_PAYLOAD: usize = PAYLOAD + IPV6_FRAGMENT_HEADER_LENGTH;
/// Where the fixed header names what follows it.
const NEXT_HEADER: usize = ETHERNET_HEADER_LENGTH + 6;

/// Puts a fragment header into the packet that starts [`IPV6_FRAGMENT_HEADER_LENGTH`] bytes into `buffer`, and has no
/// extension headers, so that [`write_ipv6_fragment`] can cut it: the headers before it move to the start. `None` when the
/// buffer is too short.
pub fn insert_fragment_header(buffer: &mut [u8], identification: u32) -> Option<()> {
    let head = buffer.first_chunk_mut::<CUT_PAYLOAD>()?;
    head.copy_within(IPV6_FRAGMENT_HEADER_LENGTH.., 0);
    let header = Ipv6FragmentHeader {
        next_header: IpNumber(head[NEXT_HEADER]),
        fragment_offset: IpFragOffset::ZERO,
        more_fragments: true,
        identification,
    };
    head[NEXT_HEADER] = IpNumber::IPV6_FRAGMENTATION_HEADER.0;
    *head.last_chunk_mut()? = header.to_bytes();
    Some(())
}

/// Builds the fragment that starts `offset` bytes into the fragmentable part of the packet in `frame`, so that it has at
/// most `mtu` bytes, at the start of `buffer`. `frame` has a fragment header behind the fixed one.
///
/// Returns the fragment's length and where the next one starts, if there is one; `None` when that can't be: the buffer
/// or the MTU is too small, or `frame` is not what it should be.
pub fn write_ipv6_fragment(
    frame: &[u8],
    offset: usize,
    mtu: usize,
    buffer: &mut [u8],
) -> Option<(usize, Option<usize>)> {
    let rest = frame.get(CUT_PAYLOAD + offset..)?;
    let room = mtu.checked_sub(CUT_PAYLOAD - ETHERNET_HEADER_LENGTH)? & !7;
    if room == 0 {
        return None;
    }
    let is_last = rest.len() <= room;
    let payload = rest.get(..rest.len().min(room))?;
    let length = CUT_PAYLOAD + payload.len();
    let fragment = buffer.get_mut(..length)?;
    let (headers, space) = fragment.split_at_mut_checked(CUT_PAYLOAD)?;
    headers.copy_from_slice(frame.get(..CUT_PAYLOAD)?);
    space.copy_from_slice(payload);
    set_payload_length(headers, length - PAYLOAD)?;
    // The offset counts blocks of eight bytes and stands three bits up: the number is the same.
    let position = u16::try_from(offset).ok()? | u16::from(!is_last);
    headers
        .get_mut(PAYLOAD + 2..PAYLOAD + 4)?
        .copy_from_slice(&position.to_be_bytes());
    Some((length, (!is_last).then_some(offset + payload.len())))
}

/// Makes one packet of `frame`: the headers of its first fragment, `headers` bytes from Ethernet to the fragment header, and
/// the payload of all of them. The fragment header is left out, and the headers before it move to the payload.
///
/// Returns where the frame starts, or `None` when the packet would be too long, or the headers are not what they should be.
pub fn seal_reassembled_ipv6(frame: &mut [u8], headers: usize) -> Option<usize> {
    let kept = headers
        .checked_sub(IPV6_FRAGMENT_HEADER_LENGTH)
        .filter(|kept| *kept >= PAYLOAD)?;
    let next_header = *frame.get(kept..headers)?.first()?;
    frame.copy_within(..kept, IPV6_FRAGMENT_HEADER_LENGTH);
    let whole = frame.get_mut(IPV6_FRAGMENT_HEADER_LENGTH..)?;
    let length = whole.len() - PAYLOAD;
    let head = whole.get_mut(..kept)?;
    set_payload_length(head, length)?;
    // The last extension header that stays names what stood behind the fragment header.
    let mut named_at = NEXT_HEADER;
    let mut at = PAYLOAD;
    while at < kept {
        named_at = at;
        at += 8 * (1 + usize::from(*head.get(at + 1)?));
    }
    *head.get_mut(named_at)? = next_header;
    Some(IPV6_FRAGMENT_HEADER_LENGTH)
}

fn set_payload_length(headers: &mut [u8], length: usize) -> Option<()> {
    let length = u16::try_from(length).ok()?;
    headers
        .get_mut(ETHERNET_HEADER_LENGTH + 4..ETHERNET_HEADER_LENGTH + 6)?
        .copy_from_slice(&length.to_be_bytes());
    Some(())
}

impl Ipv6Fragment<'_> {
    /// Tells if a first fragment holds all headers up to the upper layer's, as it must (RFC 7112).
    pub fn has_all_headers(&self) -> bool {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        match walk(self.next_header, self.payload, 0) {
            Ok(UpperLayer::Whole {
                protocol, payload, ..
            }) => {
                let least = match protocol {
                    TCP => 20,
                    UDP | PROTOCOL_ICMPV6 => 8,
                    _ => 0,
                };
                payload.len() >= least
            }
            Ok(UpperLayer::Fragment(_)) => true,
            Err(super::ExtensionFault::Malformed(_)) => false,
            // What else is wrong is seen when the packet is whole.
            Err(_) => true,
        }
    }
}
