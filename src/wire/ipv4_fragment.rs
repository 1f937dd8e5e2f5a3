//! Datagrams cut into fragments, and put together again (RFC 791 section 3.2).

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::{IPV4_HEADER_LENGTH, seal};
use super::ipv4_options::{END as OPTION_END, NO_OPERATION as OPTION_NO_OPERATION};
use super::ipv6::IPV6_HEADER_LENGTH;

/// The bit in the byte of flags and offset that says that more fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;
/// The bit of an option's type that says that every fragment carries it.
const COPIED: u8 = 0x80;

/// Builds the fragment that starts `offset` bytes into the payload of the datagram in `frame`, so that its datagram has
/// at most `mtu` bytes, at the start of `buffer`.
///
/// Returns the fragment's length and where the next one starts, if there is one; `None` when that can't be: the buffer
/// or the MTU is too small, or `frame` is not a sound frame.
pub fn write_fragment(
    frame: &[u8],
    offset: usize,
    mtu: usize,
    buffer: &mut [u8],
) -> Option<(usize, Option<usize>)> {
    let first = *frame.get(ETHERNET_HEADER_LENGTH)?;
    let header_length = 4 * usize::from(first & 0x0f);
    let payload_start = ETHERNET_HEADER_LENGTH + header_length;
    let rest = frame.get(payload_start + offset..)?;
    let room = mtu.checked_sub(header_length)? & !7;
    if room == 0 {
        return None;
    }
    let is_last = rest.len() <= room;
    let payload = rest.get(..rest.len().min(room))?;
    let length = payload_start + payload.len();
    let fragment = buffer.get_mut(..length)?;
    let (headers, space) = fragment.split_at_mut_checked(payload_start)?;
    headers.copy_from_slice(frame.get(..payload_start)?);
    space.copy_from_slice(payload);
    let header = headers.get_mut(ETHERNET_HEADER_LENGTH..)?;
    if offset > 0 {
        keep_copied_options(header.get_mut(IPV4_HEADER_LENGTH..)?);
    }
    let total_length = u16::try_from(header_length + payload.len()).ok()?;
    let more = if is_last { 0 } else { MORE_FRAGMENTS };
    let position = u16::try_from(offset / 8).ok()? | more;
    header
        .get_mut(2..4)?
        .copy_from_slice(&total_length.to_be_bytes());
    header
        .get_mut(6..8)?
        .copy_from_slice(&position.to_be_bytes());
    seal(header)?;
    Some((length, (!is_last).then_some(offset + payload.len())))
}

/// Makes one datagram of `frame`: Ethernet and IPv4 headers of its first fragment, `headers` bytes, and the payload of all of
/// them.
///
/// Returns where the frame starts, or `None` when the datagram would have over 65,535 bytes, or the headers are not what they
/// should be.
pub fn seal_reassembled(frame: &mut [u8], headers: usize) -> Option<usize> {
    let total_length = u16::try_from(frame.len().checked_sub(ETHERNET_HEADER_LENGTH)?).ok()?;
    let header = frame.get_mut(ETHERNET_HEADER_LENGTH..headers)?;
    header
        .get_mut(2..4)?
        .copy_from_slice(&total_length.to_be_bytes());
    header.get_mut(6..8)?.fill(0);
    seal(header)?;
    Some(0)
}

/// Builds the first fragment of a datagram, of either version, as it came, at the start of `buffer`: `headers` are its own,
/// from Ethernet on, and `payload` is what has come of the datagram.
///
/// Returns the frame's length, or `None` when the buffer is too short, or the headers are not what they should be.
pub fn write_first_fragment(headers: &[u8], payload: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let ip = headers.get(ETHERNET_HEADER_LENGTH..)?;
    let number = |at: usize| {
        Some(usize::from(u16::from_be_bytes(
            *ip.get(at..)?.first_chunk()?,
        )))
    };
    let length = ETHERNET_HEADER_LENGTH
        + match ip.first()? >> 4 {
            4 => number(2)?,
            _ => IPV6_HEADER_LENGTH + number(4)?,
        };
    let own = payload.get(..length.checked_sub(headers.len())?)?;
    let (head, tail) = buffer
        .get_mut(..length)?
        .split_at_mut_checked(headers.len())?;
    head.copy_from_slice(headers);
    tail.copy_from_slice(own);
    Some(length)
}

/// Blanks the options that only the first fragment carries (`ip_options_fragment` in `net/ipv4/ip_options.c`).
fn keep_copied_options(options: &mut [u8]) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let length = match kind {
            OPTION_END => return,
            OPTION_NO_OPERATION => 1,
            _ => match options.get(at + 1) {
                Some(&length) if length >= 2 => usize::from(length),
                _ => return,
            },
        };
        if kind & COPIED == 0
            && let Some(option) = options.get_mut(at..at + length)
        {
            option.fill(OPTION_NO_OPERATION);
        }
        at += length;
    }
}
