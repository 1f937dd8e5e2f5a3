//! Extension headers of IPv6 (RFC 8200 section 4), walked with a bound.
//!
//! A VM is a host: it looks at options only to find those it must refuse, follows no routing header, and stops at a
//! fragment header. How many headers it walks is bounded (RFC 8504 section 5.3 allows that).

use std::fmt;

use etherparse::{IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

use super::error::{Layer, ParseError};
use super::ipv6::{IPV6_HEADER_LENGTH, Ipv6Packet};

/// Extension headers of one packet that are walked; one with more is refused.
pub const MAX_EXTENSION_HEADERS: usize = 8;

/// Options of one header that are looked at, padding apart; a packet with more is dropped.
const MAX_OPTIONS: usize = 8;

/// Bytes of padding in a row that make sense: they align to eight.
const MAX_PADDING: usize = 7;

/// Bytes of a fragment header.
pub const IPV6_FRAGMENT_HEADER_LENGTH: usize = 8;

/// Where `next header` lies in the fixed header.
const FIRST_NEXT_HEADER: usize = 6;

/// Where the offset stands in a fragment header.
pub const IPV6_FRAGMENT_OFFSET_OFFSET: usize = 2;
/// `IPPROTO_HOPOPTS`, allowed only right behind the fixed header.
pub const IPV6_HOP_BY_HOP: u8 = IpNumber::IPV6_HEADER_HOP_BY_HOP.0;
/// `IPPROTO_NONE`: nothing follows.
pub const IPV6_NO_NEXT_HEADER: u8 = IpNumber::IPV6_NO_NEXT_HEADER.0;

const PAD1: u8 = 0;
/// RFC 2711; every node recognises it.
const ROUTER_ALERT: u8 = 5;

/// The part of a packet behind its extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpperLayer<'a> {
    /// A protocol's packet.
    Whole {
        /// The protocol number.
        protocol: u8,
        /// Where that number stands, in bytes from the start of the IPv6 header: what a parameter problem points to.
        named_at: usize,
        /// Where the protocol's packet starts in the frame.
        offset: usize,
        /// The protocol's packet.
        payload: &'a [u8],
    },
    /// A piece of a larger packet.
    Fragment(Ipv6Fragment<'a>),
}

/// A piece of a larger packet (RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Fragment<'a> {
    /// The number that all fragments of a packet have in common.
    pub identification: u32,
    /// Where the piece belongs in the fragmentable part, in bytes.
    pub fragment_offset: usize,
    /// Another fragment follows.
    pub more_fragments: bool,
    /// The header that the fragmentable part starts with.
    pub next_header: u8,
    /// Bytes from the start of the IPv6 header to the fragment header.
    pub unfragmentable_length: usize,
    /// Where the number that announces the fragment header stands, from the start of the IPv6 header.
    pub named_at: usize,
    /// The piece.
    pub payload: &'a [u8],
}

impl Ipv6Fragment<'_> {
    /// The bytes before the fragment in `frame`, which holds it in `packet`.
    pub fn headers_in<'b>(&self, frame: &'b [u8], packet: &Ipv6Packet<'_>) -> Option<&'b [u8]> {
        let start = packet.offset + self.unfragmentable_length + IPV6_FRAGMENT_HEADER_LENGTH;
        frame.get(..start)
    }
}

/// Why a walk along the extension headers came to an end before their end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExtensionFault {
    /// A header is cut short.
    Malformed(ParseError),
    /// The sender is to be told (RFC 4443 section 3.4).
    ParameterProblem {
        /// 0: erroneous field; 1: next header not recognised; 2: option not recognised.
        code: u8,
        /// Where in the packet, in bytes from the start of the IPv6 header.
        pointer: usize,
        /// It is sent even when the packet went to a group.
        even_to_group: bool,
    },
    /// An option says to discard the packet and keep quiet.
    Discard,
    /// There are more than [`MAX_EXTENSION_HEADERS`].
    TooMany,
}

impl fmt::Display for ExtensionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExtensionFault::Malformed(error) => error.fmt(f),
            ExtensionFault::ParameterProblem { code, pointer, .. } => {
                write!(f, "parameter problem, code {code}, at byte {pointer}")
            }
            ExtensionFault::Discard => f.write_str("an option that is not to be accepted"),
            ExtensionFault::TooMany => write!(f, "more than {MAX_EXTENSION_HEADERS}"),
        }
    }
}

impl<'a> Ipv6Packet<'a> {
    /// Walks along the extension headers to what they are about.
    ///
    /// # Errors
    /// When a header is malformed, asks for what a host must not do, or there are too many.
    pub fn upper_layer(&self) -> Result<UpperLayer<'a>, ExtensionFault> {
        match walk(self.next_header, self.payload, self.offset) {
            Ok(_) if self.is_jumbo => Err(ExtensionFault::Discard),
            walked => walked,
        }
    }

    /// The value of the router alert option (RFC 2711), if its hop-by-hop header has one.
    pub(super) fn router_alert(&self) -> Option<u16> {
        if self.next_header != IPV6_HOP_BY_HOP {
            return None;
        }
        let header = Ipv6RawExtHeaderSlice::from_slice(self.payload).ok()?;
        let mut rest = header.payload();
        loop {
            rest = match rest {
                [PAD1, rest @ ..] => rest,
                [ROUTER_ALERT, 2, v0, v1, ..] => return Some(u16::from_be_bytes([*v0, *v1])),
                [_, length, rest @ ..] => rest.get(usize::from(*length)..)?,
                _ => return None,
            };
        }
    }
}

/// Walks along `payload`, which starts with `next_header` and follows the fixed header of a packet at `offset` in its
/// frame.
pub(super) fn walk(
    next_header: u8,
    payload: &[u8],
    offset: usize,
) -> Result<UpperLayer<'_>, ExtensionFault> {
    let mut next = IpNumber(next_header);
    let mut rest = payload;
    let mut named_at = FIRST_NEXT_HEADER;
    // From the start of the IPv6 header.
    let mut at = IPV6_HEADER_LENGTH;
    let mut is_fragment = false;
    for walked in 0..=MAX_EXTENSION_HEADERS {
        let malformed = |needed| {
            let fault = ParseError::truncated(Layer::Ipv6, offset + at, needed, rest.len());
            ExtensionFault::Malformed(fault)
        };
        let length = match next {
            IpNumber::IPV6_HEADER_HOP_BY_HOP if walked > 0 => {
                return Err(unrecognised(1, named_at));
            }
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_DESTINATION_OPTIONS
            | IpNumber::IPV6_ROUTE_HEADER
                if walked < MAX_EXTENSION_HEADERS =>
            {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest)
                    .map_err(|e| malformed(e.required_len))?;
                if next == IpNumber::IPV6_ROUTE_HEADER {
                    check_routing(header.payload(), at)?;
                } else {
                    let is_hop_by_hop = next == IpNumber::IPV6_HEADER_HOP_BY_HOP;
                    check_options(header.payload(), at + 2, is_hop_by_hop)?;
                }
                next = header.next_header();
                header.slice().len()
            }
            // Fragments of fragments are nobody's, as in Linux (`ipv6_frag_rcv` in `net/ipv6/reassembly.c`).
            IpNumber::IPV6_FRAGMENTATION_HEADER if is_fragment => {
                return Err(unrecognised(0, at));
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER if walked < MAX_EXTENSION_HEADERS => {
                is_fragment = true;
                let header = Ipv6FragmentHeaderSlice::from_slice(rest)
                    .map_err(|e| malformed(e.required_len))?;
                // An atomic fragment is a whole packet (RFC 6946).
                if header.is_fragmenting_payload() {
                    return Ok(UpperLayer::Fragment(Ipv6Fragment {
                        identification: header.identification(),
                        fragment_offset: usize::from(header.fragment_offset().byte_offset()),
                        more_fragments: header.more_fragments(),
                        next_header: header.next_header().0,
                        unfragmentable_length: at,
                        named_at,
                        payload: rest.get(IPV6_FRAGMENT_HEADER_LENGTH..).unwrap_or_default(),
                    }));
                }
                next = header.next_header();
                IPV6_FRAGMENT_HEADER_LENGTH
            }
            IpNumber::IPV6_DESTINATION_OPTIONS
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_FRAGMENTATION_HEADER => break,
            IpNumber(protocol) => {
                return Ok(UpperLayer::Whole {
                    protocol,
                    named_at,
                    offset: offset + at,
                    payload: rest,
                });
            }
        };
        rest = rest.get(length..).ok_or_else(|| malformed(length))?;
        named_at = at;
        at += length;
    }
    Err(ExtensionFault::TooMany)
}

fn unrecognised(code: u8, pointer: usize) -> ExtensionFault {
    ExtensionFault::ParameterProblem {
        code,
        pointer,
        even_to_group: false,
    }
}

/// Tells if a routing header, whose bytes behind the length are `rest`, has been followed to its end.
///
/// A host that is not on the route forwards nothing; type 0 is never followed by anybody (RFC 5095).
fn check_routing(rest: &[u8], at: usize) -> Result<(), ExtensionFault> {
    match rest {
        [_, segments_left, ..] if *segments_left != 0 => Err(unrecognised(0, at + 2)),
        _ => Ok(()),
    }
}

/// Tells if `options`, which start `at` bytes into the packet, may all be skipped (RFC 8200 section 4.2).
///
/// As Linux does (`ip6_parse_tlv` in `net/ipv6/exthdrs.c`), a packet with many options, with much padding, or with
/// something in its padding is dropped (RFC 8504 section 5.3, RFC 4942 section 2.1.9.5).
fn check_options(options: &[u8], at: usize, is_hop_by_hop: bool) -> Result<(), ExtensionFault> {
    const PADN: u8 = 1;
    /// RFC 2675.
    const JUMBO_PAYLOAD: u8 = 0xc2;
    let mut rest = options;
    let (mut padding, mut count) = (0, 0);
    while let [kind, tail @ ..] = rest {
        let pointer = at + options.len() - rest.len();
        let truncated = || unrecognised(0, pointer + 1);
        let (content, tail) = if *kind == PAD1 {
            (&[][..], tail)
        } else {
            let (length, tail) = tail.split_first().ok_or_else(truncated)?;
            tail.split_at_checked(usize::from(*length))
                .ok_or_else(truncated)?
        };
        if *kind == PAD1 || *kind == PADN {
            padding += rest.len() - tail.len();
            if padding > MAX_PADDING || content.iter().any(|byte| *byte != 0) {
                return Err(ExtensionFault::Discard);
            }
            rest = tail;
            continue;
        }
        (padding, count) = (0, count + 1);
        if count > MAX_OPTIONS {
            return Err(ExtensionFault::Discard);
        }
        // The two highest bits tell what a node does that does not recognise the option.
        match (*kind, kind >> 6) {
            (ROUTER_ALERT, _) if is_hop_by_hop && content.len() != 2 => {
                return Err(ExtensionFault::Discard);
            }
            (_, 0) => {}
            (JUMBO_PAYLOAD, _) if is_hop_by_hop => {
                // No packet here is as long as the option is for, so it contradicts the packet in one way or another.
                let is_short = matches!(content, [0, 0, _, _]);
                return Err(unrecognised(0, pointer + if is_short { 2 } else { 0 }));
            }
            (_, 1) => return Err(ExtensionFault::Discard),
            (_, action) => {
                return Err(ExtensionFault::ParameterProblem {
                    code: 2,
                    pointer,
                    even_to_group: action == 2,
                });
            }
        }
        rest = tail;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An extension header of eight bytes: next header, and six bytes of options.
    fn options(next: u8, six: [u8; 6]) -> Vec<u8> {
        let mut header = vec![next, 0];
        header.extend(six);
        header
    }

    const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0];

    fn problem(code: u8, pointer: usize) -> Result<u8, ExtensionFault> {
        Err(unrecognised(code, pointer))
    }

    #[test]
    fn each_header_is_skipped_refused_or_reported_as_rfc_8200_says() {
        let to_group = |pointer| {
            Err(ExtensionFault::ParameterProblem {
                code: 2,
                pointer,
                even_to_group: true,
            })
        };
        type Case = (&'static str, u8, Vec<u8>, Result<u8, ExtensionFault>);
        let cases: [Case; 20] = [
            ("none", 58, vec![], Ok(58)),
            ("padding", 60, options(58, PAD), Ok(58)),
            ("hop-by-hop first", 0, options(17, PAD), Ok(17)),
            (
                "hop-by-hop later",
                60,
                [options(0, PAD), options(58, PAD)].concat(),
                problem(1, 40),
            ),
            ("router alert", 0, options(58, [5, 2, 0, 0, 1, 0]), Ok(58)),
            (
                "an option to skip",
                60,
                options(58, [0x1e, 4, 0, 0, 0, 0]),
                Ok(58),
            ),
            (
                "an option to discard",
                60,
                options(58, [0x5e, 4, 0, 0, 0, 0]),
                Err(ExtensionFault::Discard),
            ),
            (
                "an option to report",
                60,
                options(58, [0, 0x9e, 3, 0, 0, 0]),
                to_group(43),
            ),
            (
                "an option to report to one",
                60,
                options(58, [0xde, 4, 0, 0, 0, 0]),
                problem(2, 42),
            ),
            (
                "as much padding as aligns",
                60,
                [
                    vec![58, 1],
                    vec![0x1e, 5, 0, 0, 0, 0, 0],
                    vec![1, 5, 0, 0, 0, 0, 0],
                ]
                .concat(),
                Ok(58),
            ),
            (
                "more padding",
                60,
                [vec![58, 1], vec![0x1e, 4, 0, 0, 0, 0], vec![0; 8]].concat(),
                Err(ExtensionFault::Discard),
            ),
            (
                "padding with something in it",
                60,
                options(58, [1, 4, 0, 0, 1, 0]),
                Err(ExtensionFault::Discard),
            ),
            (
                "nine options",
                60,
                [vec![58, 2], [0x1e, 0].repeat(9), vec![1, 2, 0, 0]].concat(),
                Err(ExtensionFault::Discard),
            ),
            (
                "a jumbo payload that is none",
                0,
                options(58, [0xc2, 4, 0, 0, 1, 0]),
                problem(0, 44),
            ),
            (
                "an option too long",
                60,
                options(58, [1, 5, 0, 0, 0, 0]),
                problem(0, 43),
            ),
            (
                "a routing header at its end",
                43,
                options(58, [0, 0, 0, 0, 0, 0]),
                Ok(58),
            ),
            (
                "a routing header",
                43,
                options(58, [0, 1, 0, 0, 0, 0]),
                problem(0, 42),
            ),
            (
                "an atomic fragment",
                44,
                vec![58, 0, 0, 0, 0, 0, 0, 9],
                Ok(58),
            ),
            (
                "an atomic fragment of one",
                44,
                [[44, 0, 0, 0, 0, 0, 0, 9], [58, 0, 0, 0, 0, 0, 0, 9]].concat(),
                problem(0, 48),
            ),
            (
                "half a header",
                60,
                vec![58, 0, 0],
                Err(ExtensionFault::Malformed(ParseError::truncated(
                    Layer::Ipv6,
                    54,
                    8,
                    3,
                ))),
            ),
        ];
        for (name, next, payload, expected) in cases {
            let found = walk(next, &payload, 14).map(|upper| match upper {
                UpperLayer::Whole {
                    protocol, offset, ..
                } => {
                    assert_eq!(offset, 54 + payload.len(), "{name}");
                    protocol
                }
                UpperLayer::Fragment(_) => panic!("{name}: a fragment"),
            });
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_walk_ends_after_eight_headers() {
        let chain = |headers: usize| {
            let mut chain = options(60, PAD).repeat(headers - 1);
            chain.extend(options(58, PAD));
            walk(60, &chain, 0).map(|_| ())
        };
        assert_eq!(chain(MAX_EXTENSION_HEADERS), Ok(()));
        assert_eq!(
            chain(MAX_EXTENSION_HEADERS + 1),
            Err(ExtensionFault::TooMany)
        );
    }

    #[test]
    fn a_fragment_names_its_place() {
        let payload = [58, 0, 0x01, 0x01, 0, 0, 0, 7, 0xaa];
        let expected = UpperLayer::Fragment(Ipv6Fragment {
            identification: 7,
            fragment_offset: 256,
            more_fragments: true,
            next_header: 58,
            unfragmentable_length: 40,
            named_at: 6,
            payload: &[0xaa],
        });
        assert_eq!(walk(44, &payload, 14), Ok(expected));
    }
}
