//! The options of a DHCP message (RFC 2132): where they lie, and how pieces of one are joined (RFC 3396).

use std::net::Ipv4Addr;

/// `sname` lies here in a message.
const SNAME: std::ops::Range<usize> = 44..108;
/// `file` lies here.
const FILE: std::ops::Range<usize> = 108..236;
/// The magic cookie lies here, and the options behind it.
const COOKIE_START: usize = 236;
const OPTIONS_START: usize = 240;
pub(super) const COOKIE: [u8; 4] = [99, 130, 83, 99];

const PAD: u8 = 0;
const END: u8 = 255;
const OVERLOAD: u8 = 52;

/// A way to a network, as a classless static route option has it (RFC 3442).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClasslessRoute {
    /// The network; no bit behind the prefix is set.
    pub destination: Ipv4Addr,
    /// How many bits of it name the network, 0 to 32.
    pub prefix_length: u8,
    /// The router that takes datagrams for it; `None` when they go to their destinations directly.
    pub gateway: Option<Ipv4Addr>,
}

/// The options of one message, in the order in which pieces of one are joined: those of the field for options, then
/// those of `file` and of `sname`, if the message says that they hold options.
#[derive(Clone, Copy, Debug)]
pub(super) struct DhcpOptions<'a>([&'a [u8]; 3]);

/// A field in which an option runs over the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Overrun;

/// An option is there, but not as long as it has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BadLength;

impl<'a> DhcpOptions<'a> {
    /// Finds the options of `message`. `None` if it is too short, or has another cookie.
    ///
    /// # Errors
    /// When one of its fields of options can't be read to the end.
    pub(super) fn find(message: &'a [u8]) -> Option<Result<DhcpOptions<'a>, Overrun>> {
        if message.get(COOKIE_START..OPTIONS_START)? != COOKIE {
            return None;
        }
        let options = DhcpOptions([message.get(OPTIONS_START..)?, &[], &[]]);
        let overload = match options.fixed(OVERLOAD) {
            Ok(Some([overload @ 1..=3])) => overload,
            _ => 0,
        };
        let field = |bit: u8, range| match overload & bit {
            0 => Some([].as_slice()),
            _ => message.get(range),
        };
        let [first, ..] = options.0;
        let options = DhcpOptions([first, field(1, FILE)?, field(2, SNAME)?]);
        Some(if options.0.into_iter().all(is_whole) {
            Ok(options)
        } else {
            Err(Overrun)
        })
    }

    /// The option `code` of `N` bytes. One that is repeated counts as it comes first.
    pub(super) fn fixed<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, BadLength> {
        let mut value = [0; N];
        let mut length = 0;
        let mut is_given = false;
        for piece in self.pieces(code) {
            is_given = true;
            for byte in piece {
                if let Some(place) = value.get_mut(length) {
                    *place = *byte;
                }
                length += 1;
            }
        }
        if !is_given {
            Ok(None)
        } else if length > 0 && length.is_multiple_of(N) {
            Ok(Some(value))
        } else {
            Err(BadLength)
        }
    }

    /// The classless static routes (RFC 3442), at most `limit` of them. `None` if there are none, or they make no sense.
    pub(super) fn routes(&self, code: u8, limit: usize) -> Option<Vec<ClasslessRoute>> {
        let joined: Vec<u8> = self.pieces(code).flatten().copied().collect();
        let mut routes = Vec::new();
        let mut rest = joined.as_slice();
        while let Some((&prefix_length, behind)) = rest.split_first() {
            if prefix_length > 32 {
                return None;
            }
            let (significant, behind) =
                behind.split_at_checked(usize::from(prefix_length).div_ceil(8))?;
            let (gateway, behind) = behind.split_first_chunk::<4>()?;
            let mut destination = [0; 4];
            destination
                .get_mut(..significant.len())?
                .copy_from_slice(significant);
            let mask = u32::MAX
                .checked_shl(32 - u32::from(prefix_length))
                .unwrap_or(0);
            let gateway = Ipv4Addr::from(*gateway);
            if routes.len() < limit {
                routes.push(ClasslessRoute {
                    destination: (u32::from_be_bytes(destination) & mask).into(),
                    prefix_length,
                    gateway: (!gateway.is_unspecified()).then_some(gateway),
                });
            }
            rest = behind;
        }
        (!routes.is_empty()).then_some(routes)
    }

    /// The contents of all options with that code.
    fn pieces(&self, code: u8) -> impl Iterator<Item = &'a [u8]> {
        let all = self.0.into_iter().flat_map(Walk);
        all.filter(move |(found, _)| *found == code)
            .map(|(_, content)| content)
    }
}

/// Tells if every option of `field` ends within it. It need not have an end marker.
fn is_whole(field: &[u8]) -> bool {
    let mut walk = Walk(field);
    walk.by_ref().for_each(drop);
    walk.0.is_empty()
}

/// Goes through the options of one field: their codes and contents. What it can't read is left behind.
struct Walk<'a>(&'a [u8]);

impl<'a> Iterator for Walk<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((&PAD, rest)) = self.0.split_first() {
            self.0 = rest;
        }
        if let Some((&END, _)) = self.0.split_first() {
            self.0 = &[];
        }
        let (&[code, length], rest) = self.0.split_first_chunk::<2>()?;
        let (content, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some((code, content))
    }
}
