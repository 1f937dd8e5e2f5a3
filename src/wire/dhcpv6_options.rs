//! The options of a DHCPv6 message (RFC 8415 section 21): where they lie, one in another, and how they are written.

use std::net::Ipv6Addr;

pub(super) const CLIENT_IDENTIFIER: u16 = 1;
pub(super) const SERVER_IDENTIFIER: u16 = 2;
pub(super) const IA_NA: u16 = 3;
pub(super) const IA_ADDRESS: u16 = 5;
pub(super) const OPTION_REQUEST: u16 = 6;
pub(super) const PREFERENCE: u16 = 7;
pub(super) const ELAPSED_TIME: u16 = 8;
pub(super) const STATUS_CODE: u16 = 13;
pub(super) const RAPID_COMMIT: u16 = 14;
pub(super) const SOLICIT_MAX: u16 = 82;

/// Bytes of an option before its content.
pub(super) const OPTION_HEADER_LENGTH: usize = 4;
/// Bytes of an identity association before the options in it.
pub(super) const IA_NA_LENGTH: usize = 12;
/// Bytes of an address with its lifetimes, before the options in it.
pub(super) const IA_ADDRESS_LENGTH: usize = 24;

/// A run of options, each of which ends within it. One whose code nobody asks for is skipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dhcpv6Options<'a>(&'a [u8]);

/// An option that runs over the end of what it lies in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overrun;

impl<'a> Dhcpv6Options<'a> {
    /// The options in `bytes`.
    ///
    /// # Errors
    /// When the last one runs over the end.
    pub(super) fn find(bytes: &'a [u8]) -> Result<Dhcpv6Options<'a>, Overrun> {
        let mut walk = Walk(bytes);
        walk.by_ref().for_each(drop);
        if walk.0.is_empty() {
            Ok(Dhcpv6Options(bytes))
        } else {
            Err(Overrun)
        }
    }

    /// The content of the first option with that code: no option of a client may be there twice but identity
    /// associations and addresses (RFC 8415 section 21.1).
    pub(super) fn first(&self, code: u16) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    /// The same, if it has `N` bytes.
    pub(super) fn fixed<const N: usize>(&self, code: u16) -> Option<[u8; N]> {
        self.first(code)?.try_into().ok()
    }

    /// The contents of all options with that code.
    pub(super) fn all(&self, code: u16) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let all = Walk(self.0);
        all.filter(move |(found, _)| *found == code)
            .map(|(_, content)| content)
    }
}

/// Goes through options: their codes and contents. What it can't read is left behind.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (code, rest) = self.0.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (content, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        self.0 = rest;
        Some((u16::from_be_bytes(*code), content))
    }
}

/// Writes options one behind the other into `buffer`.
pub(super) struct OptionWriter<'a> {
    buffer: &'a mut [u8],
    end: usize,
}

impl<'a> OptionWriter<'a> {
    /// Writes behind the first `end` bytes of `buffer`.
    pub(super) fn new(buffer: &'a mut [u8], end: usize) -> OptionWriter<'a> {
        OptionWriter { buffer, end }
    }

    /// Writes one option; its content is these pieces. `None` when there is no room.
    pub(super) fn option(&mut self, code: u16, pieces: &[&[u8]]) -> Option<()> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.open(code, length)?;
        pieces.iter().try_for_each(|piece| self.put(piece))
    }

    /// Starts an option whose content of `length` bytes follows: with [`OptionWriter::put`], or as options.
    pub(super) fn open(&mut self, code: u16, length: usize) -> Option<()> {
        self.put(&code.to_be_bytes())?;
        self.put(&u16::try_from(length).ok()?.to_be_bytes())
    }

    /// Writes bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.end.checked_add(bytes.len())?;
        self.buffer.get_mut(self.end..end)?.copy_from_slice(bytes);
        self.end = end;
        Some(())
    }

    /// The number of bytes written, with those before the options.
    pub(super) const fn length(&self) -> usize {
        self.end
    }
}

/// Writes an identity association with these addresses: what a client asks for, so without times and lifetimes, which
/// are the server's to say (RFC 8415 section 21.4 and 21.6).
pub(super) fn write_association(
    writer: &mut OptionWriter<'_>,
    association: u32,
    addresses: &[Ipv6Addr],
) -> Option<()> {
    let each = OPTION_HEADER_LENGTH + IA_ADDRESS_LENGTH;
    writer.open(IA_NA, IA_NA_LENGTH + addresses.len() * each)?;
    writer.put(&association.to_be_bytes())?;
    writer.put(&[0; 8])?;
    for address in addresses {
        writer.option(IA_ADDRESS, &[&address.octets(), &[0; 8]])?;
    }
    Some(())
}
