//! IPv4 options (RFC 791 section 3.1), as far as a host is concerned that a datagram is for.
//!
//! As Linux does (`__ip_options_compile` and `__ip_options_echo` in `net/ipv4/ip_options.c`): options that make no sense
//! are told to the sender; record route and timestamp are filled in where the datagram comes in, come back with the
//! answer, and are filled in again where that leaves; others do not come back. Source routes are not followed.

use std::net::Ipv4Addr;

use super::ethernet::ETHERNET_HEADER_LENGTH;
use super::ipv4::IPV4_HEADER_LENGTH;

/// Bytes of options at most: a header has 15 words.
const MAX_LENGTH: usize = 40;

pub(super) const END: u8 = 0;
pub(super) const NO_OPERATION: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// The kinds of timestamp options (RFC 791): times only, each behind the address of who noted it, or only those of the
/// hosts whose addresses are given.
const TIMES_ONLY: u8 = 0;
const TIMES_AND_ADDRESSES: u8 = 1;
const GIVEN_ADDRESSES: u8 = 3;

/// Why a datagram is not to be taken for its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionsFault {
    /// One of them makes no sense; the byte of the header that is at fault (RFC 1122 section 3.2.2.5).
    Problem(u8),
    /// It came by way of a route that its sender chose.
    SourceRoute,
}

/// The address and the time that options record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// Whose interface it passes.
    pub address: Ipv4Addr,
    /// Milliseconds since midnight UTC.
    pub time: u32,
}

/// Looks for what is wrong with `options`, which stand behind the fixed header.
///
/// # Errors
/// With the first fault.
pub fn check_options(options: &[u8]) -> Result<(), OptionsFault> {
    let (mut has_source_route, mut has_record, mut has_timestamp) = (false, false, false);
    for option in split(options) {
        let Split { at, option } = option?;
        type Check = fn(&[u8]) -> Result<(), usize>;
        let (seen, check): (_, Check) = match option.first() {
            Some(&(LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE)) => {
                (&mut has_source_route, |option| check_route(option, false))
            }
            Some(&RECORD_ROUTE) => (&mut has_record, |option| check_route(option, true)),
            Some(&TIMESTAMP) => (&mut has_timestamp, check_timestamp),
            Some(&ROUTER_ALERT) if option.len() < 4 => return Err(problem(at + 1)),
            _ => continue,
        };
        if std::mem::replace(seen, true) {
            return Err(problem(at));
        }
        check(option).map_err(|offset| problem(at + offset))?;
    }
    if has_source_route {
        return Err(OptionsFault::SourceRoute);
    }
    Ok(())
}

/// Looks for what is wrong with a route, one that `is_record`ed or one that was given. The error is the byte of it that
/// is at fault.
fn check_route(option: &[u8], is_record: bool) -> Result<(), usize> {
    let &[_, _, pointer, ..] = option else {
        return Err(1);
    };
    // It counts from 1, and has three bytes before it.
    let (pointer, length) = (usize::from(pointer), option.len());
    let has_no_room = is_record && pointer <= length && pointer + 3 > length;
    if pointer < 4 || has_no_room {
        return Err(2);
    }
    Ok(())
}

/// The same for timestamps.
fn check_timestamp(option: &[u8]) -> Result<(), usize> {
    let &[_, _, pointer, flags, ..] = option else {
        return Err(1);
    };
    let (pointer, length) = (usize::from(pointer), option.len());
    let kind = flags & 0x0f;
    let room = match kind {
        TIMES_AND_ADDRESSES | GIVEN_ADDRESSES => 8,
        _ => 4,
    };
    if pointer < 5 || (pointer <= length && pointer + room - 1 > length) {
        return Err(2);
    }
    let is_overflowing = pointer > length && kind != GIVEN_ADDRESSES && flags >> 4 == 15;
    if is_overflowing { Err(3) } else { Ok(()) }
}

/// Turns the options of the datagram in `frame`, whose header has `header_length` bytes, into those of its answer, which
/// `passage` takes in and sends. Returns the bytes of the new header, or `None` when the frame is not what the caller
/// says. [`check_options`] has found nothing.
pub fn answer_options(frame: &mut [u8], header_length: usize, passage: Passage) -> Option<usize> {
    let start = ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH;
    let options = frame.get(start..ETHERNET_HEADER_LENGTH + header_length)?;
    let mut answer = [END; MAX_LENGTH];
    let mut length = 0;
    for wanted in [RECORD_ROUTE, TIMESTAMP] {
        let mut found = split(options).filter_map(Result::ok);
        let Some(Split { option, .. }) = found.find(|found| found.option.first() == Some(&wanted))
        else {
            continue;
        };
        let place = answer.get_mut(length..length + option.len())?;
        place.copy_from_slice(option);
        length += option.len();
        if wanted == RECORD_ROUTE {
            (0..2).for_each(|_| record_route(place, passage.address));
        } else {
            note_time(place, passage, true);
            note_time(place, passage, false);
        }
    }
    replace_options(
        frame,
        header_length,
        answer.get(..length.next_multiple_of(4))?,
    )
}

/// Puts other `options`, a multiple of four bytes and no more than there are, into the datagram in `frame`, whose header
/// has `header_length` bytes; the header's checksum is not made right. Returns the bytes of the new header.
pub fn replace_options(frame: &mut [u8], header_length: usize, options: &[u8]) -> Option<usize> {
    let ip = frame.get_mut(ETHERNET_HEADER_LENGTH..)?;
    let total_length = usize::from(u16::from_be_bytes(*ip.get(2..)?.first_chunk()?));
    let new_length = IPV4_HEADER_LENGTH + options.len();
    let shorter_by = header_length.checked_sub(new_length)?;
    ip.get(header_length..total_length)?;
    ip.copy_within(header_length..total_length, new_length);
    ip.get_mut(IPV4_HEADER_LENGTH..new_length)?
        .copy_from_slice(options);
    *ip.first_mut()? = 0x40 | (new_length / 4) as u8;
    let total_length = (total_length - shorter_by) as u16;
    ip.get_mut(2..4)?
        .copy_from_slice(&total_length.to_be_bytes());
    Some(new_length)
}

/// Writes `address` into the next free place of a record route option, if there is one.
fn record_route(option: &mut [u8], address: Ipv4Addr) {
    fill_next(option, &address.octets());
}

/// Writes the time into the next free place of a timestamp option; where there is none, who has come in is counted.
fn note_time(option: &mut [u8], passage: Passage, is_coming_in: bool) {
    let Some(&[_, _, pointer, flags]) = option.first_chunk::<4>() else {
        return;
    };
    let time = passage.time.to_be_bytes();
    let [a, b, c, d] = passage.address.octets();
    let kind = flags & 0x0f;
    if usize::from(pointer) > option.len() {
        if is_coming_in
            && kind != GIVEN_ADDRESSES
            && let Some(flags) = option.get_mut(3)
        {
            *flags = flags.saturating_add(0x10);
        }
        return;
    }
    match kind {
        TIMES_ONLY => fill_next(option, &time),
        TIMES_AND_ADDRESSES => {
            let [e, f, g, h] = time;
            fill_next(option, &[a, b, c, d, e, f, g, h]);
        }
        GIVEN_ADDRESSES => {
            let at = usize::from(pointer).saturating_sub(1);
            if option.get(at..at + 4) == Some(&[a, b, c, d]) {
                let [e, f, g, h] = time;
                fill_next(option, &[a, b, c, d, e, f, g, h]);
            }
        }
        _ => {}
    }
}

/// Writes `bytes` where the option's pointer says, and moves that on; nothing if there is no room.
fn fill_next(option: &mut [u8], bytes: &[u8]) {
    let Some(at) = option
        .get(2)
        .and_then(|pointer| usize::from(*pointer).checked_sub(1))
    else {
        return;
    };
    if let Some(place) = option.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
        if let Some(pointer) = option.get_mut(2) {
            *pointer = pointer.saturating_add(bytes.len() as u8);
        }
    }
}

/// One option, and where it stands among them.
struct Split<'a> {
    at: usize,
    option: &'a [u8],
}

/// The options one by one, without those that only fill; ends with the first that has no sound length.
fn split(options: &[u8]) -> impl Iterator<Item = Result<Split<'_>, OptionsFault>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while options.get(at) == Some(&NO_OPERATION) {
            at += 1;
        }
        let kind = options.get(at).copied().unwrap_or(END);
        if kind == END {
            return None;
        }
        let here = at;
        let length = options.get(at + 1).copied().map_or(0, usize::from);
        let option = options.get(at..at + length).filter(|_| length >= 2);
        at = option.map_or(options.len(), |option| at + option.len());
        Some(match option {
            Some(option) => Ok(Split { at: here, option }),
            None => Err(problem(here)),
        })
    })
}

/// A fault at byte `at` of the options.
fn problem(at: usize) -> OptionsFault {
    OptionsFault::Problem((IPV4_HEADER_LENGTH + at) as u8)
}
