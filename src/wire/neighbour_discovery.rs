//! Neighbour discovery (RFC 4861): who has an address on the link. What routers tell is [`super::router_discovery`]'s.
//!
//! Messages are valid only if they come from the link itself: their hop limit is 255, which no router lets through
//! (section 6.1, 7.1).

use std::net::Ipv6Addr;

use etherparse::icmpv6::{
    Icmpv6PayloadSlice, NdpOptionSlice, NdpOptionType, NdpOptionsIterator,
    NeighborAdvertisementHeader,
};
use etherparse::{Icmpv6Slice, Icmpv6Type, icmpv6};

use super::error::{Layer, ParseError};
use super::icmpv6::write;
use super::ipv6::{Ipv6Envelope, Ipv6Packet};
use super::mac::MacAddr;
use super::router_discovery::{Redirect, RouterAdvertisement, RouterPreference};

/// The hop limit of every message.
pub const NEIGHBOUR_DISCOVERY_HOP_LIMIT: u8 = 255;

/// `ND_OPT_NONCE` (RFC 3971 section 5.3.2, RFC 7527).
const OPTION_NONCE: u8 = 14;
/// Bytes of an option that holds an Ethernet address, and of one that holds a nonce.
pub(super) const OPTION_LENGTH: usize = 8;
/// Bytes of a target address.
const TARGET_LENGTH: usize = 16;

/// A number drawn anew for each probe, by which a VM tells its own that came back from another's (RFC 7527).
pub type Nonce = [u8; 6];

/// A valid message.
#[derive(Clone, Debug)]
pub enum NeighbourDiscovery<'a> {
    /// A host asks for routers.
    RouterSolicitation,
    /// A router tells of itself and the link.
    RouterAdvertisement(RouterAdvertisement<'a>),
    /// Somebody asks who has an address.
    Solicitation(NeighbourSolicitation),
    /// Somebody says that it has an address.
    Advertisement(NeighbourAdvertisement),
    /// A router names a better next hop.
    Redirect(Redirect),
}

/// A question for an address (RFC 4861 section 4.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourSolicitation {
    /// The address asked for.
    pub target: Ipv6Addr,
    /// The asker's hardware address; absent when it has no address yet (a probe of RFC 4862).
    pub source_link: Option<MacAddr>,
    /// Of a probe (RFC 7527).
    pub nonce: Option<Nonce>,
}

/// An answer (RFC 4861 section 4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourAdvertisement {
    /// The address that is told of.
    pub target: Ipv6Addr,
    /// The hardware address it is at. May be absent in the answer to a unicast solicitation.
    pub target_link: Option<MacAddr>,
    /// It comes from a router.
    pub router: bool,
    /// It answers a solicitation from the receiver: only then does it confirm that packets get there and back.
    pub solicited: bool,
    /// It shall replace a hardware address that is known.
    pub overrides: bool,
}

/// The options of a message that are of interest.
#[derive(Default)]
struct Options {
    source_link: Option<MacAddr>,
    target_link: Option<MacAddr>,
    mtu: Option<u32>,
    nonce: Option<Nonce>,
}

impl NeighbourDiscovery<'_> {
    /// `ND_ROUTER_SOLICIT`
    pub const ROUTER_SOLICITATION: u8 = icmpv6::TYPE_ROUTER_SOLICITATION;
    /// `ND_ROUTER_ADVERT`
    pub const ROUTER_ADVERTISEMENT: u8 = icmpv6::TYPE_ROUTER_ADVERTISEMENT;
    /// `ND_NEIGHBOR_SOLICIT`
    pub const NEIGHBOUR_SOLICITATION: u8 = icmpv6::TYPE_NEIGHBOR_SOLICITATION;
    /// `ND_NEIGHBOR_ADVERT`
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = icmpv6::TYPE_NEIGHBOR_ADVERTISEMENT;
    /// `ND_REDIRECT`
    pub const REDIRECT: u8 = icmpv6::TYPE_REDIRECT_MESSAGE;
}

impl<'a> NeighbourDiscovery<'a> {
    /// Reads the message `slice`, which `packet` carries. `None` if it is none of the five.
    ///
    /// # Errors
    /// When it is not valid by section 6.1.1, 6.1.2, 7.1.1, 7.1.2 or 8.1.
    pub(super) fn parse(
        packet: &Ipv6Packet<'_>,
        slice: &Icmpv6Slice<'a>,
        offset: usize,
    ) -> Result<Option<Self>, ParseError> {
        let bad = |what| ParseError::field(Layer::Icmpv6, offset, what);
        if packet.hop_limit != NEIGHBOUR_DISCOVERY_HOP_LIMIT {
            return Err(bad("hop limit"));
        }
        if slice.code_u8() != 0 {
            return Err(bad("code"));
        }
        let body = slice
            .payload_slice()
            .map_err(|e| ParseError::truncated(Layer::Icmpv6, offset, e.required_len, e.len))?;
        let from_nobody = packet.source.is_unspecified();
        Ok(Some(match body {
            Icmpv6PayloadSlice::RouterSolicitation(body) => {
                let options = read_options(body.options_iterator(), offset)?;
                if from_nobody && options.source_link.is_some() {
                    return Err(bad("source link-layer address of nobody"));
                }
                NeighbourDiscovery::RouterSolicitation
            }
            Icmpv6PayloadSlice::RouterAdvertisement(body) => {
                let options = read_options(body.options_iterator(), offset)?;
                if !packet.source.is_unicast_link_local() {
                    return Err(bad("source"));
                }
                let [hop_limit, flags, l0, l1] = slice.bytes5to8();
                NeighbourDiscovery::RouterAdvertisement(RouterAdvertisement {
                    hop_limit,
                    router_lifetime: u16::from_be_bytes([l0, l1]),
                    preference: RouterPreference::of_flags(flags),
                    reachable_time: body.reachable_time(),
                    retransmit_timer: body.retrans_timer(),
                    source_link: options.source_link,
                    mtu: options.mtu,
                    options: body.options_iterator(),
                })
            }
            Icmpv6PayloadSlice::NeighborSolicitation(body) => {
                let options = read_options(body.options_iterator(), offset)?;
                let target = body.target_address();
                if target.is_multicast() {
                    return Err(bad("target"));
                }
                if from_nobody && !is_solicited_node(packet.destination) {
                    return Err(bad("destination of a probe"));
                }
                if from_nobody && options.source_link.is_some() {
                    return Err(bad("source link-layer address of nobody"));
                }
                NeighbourDiscovery::Solicitation(NeighbourSolicitation {
                    target,
                    source_link: options.source_link,
                    nonce: options.nonce,
                })
            }
            Icmpv6PayloadSlice::NeighborAdvertisement(body) => {
                let options = read_options(body.options_iterator(), offset)?;
                let flags = NeighborAdvertisementHeader::from_bytes(slice.bytes5to8());
                let target = body.target_address();
                if target.is_multicast() {
                    return Err(bad("target"));
                }
                if packet.destination.is_multicast() && flags.solicited {
                    return Err(bad("solicited flag to a group"));
                }
                NeighbourDiscovery::Advertisement(NeighbourAdvertisement {
                    target,
                    target_link: options.target_link,
                    router: flags.router,
                    solicited: flags.solicited,
                    overrides: flags.r#override,
                })
            }
            Icmpv6PayloadSlice::Redirect(body) => {
                let options = read_options(body.options_iterator(), offset)?;
                let (target, destination) = (body.target_address(), body.destination_address());
                if !packet.source.is_unicast_link_local() {
                    return Err(bad("source"));
                }
                if destination.is_multicast() {
                    return Err(bad("destination that is redirected"));
                }
                // Routers are known by their link-local addresses.
                if !target.is_unicast_link_local() && target != destination {
                    return Err(bad("target"));
                }
                NeighbourDiscovery::Redirect(Redirect {
                    target,
                    destination,
                    target_link: options.target_link,
                })
            }
            _ => return Ok(None),
        }))
    }
}

impl NeighbourSolicitation {
    /// Builds the frame that carries the question at the start of `buffer`, and returns its length, or `None` when the
    /// buffer is too short. `envelope` names who asks; its hop limit is not looked at.
    pub fn write(&self, envelope: Ipv6Envelope, buffer: &mut [u8]) -> Option<usize> {
        let link = self
            .source_link
            .map(|mac| link_option(NdpOptionType::SOURCE_LINK_LAYER_ADDRESS, mac));
        let nonce = self.nonce.map(|nonce| option(OPTION_NONCE, nonce));
        let message = Icmpv6Type::NeighborSolicitation;
        write_message(envelope, message, self.target, [link, nonce], buffer)
    }
}

impl NeighbourAdvertisement {
    /// Builds the frame that carries the answer at the start of `buffer`, and returns its length, or `None` when the
    /// buffer is too short. `envelope` names who answers whom; its hop limit is not looked at.
    pub fn write(&self, envelope: Ipv6Envelope, buffer: &mut [u8]) -> Option<usize> {
        let link = self
            .target_link
            .map(|mac| link_option(NdpOptionType::TARGET_LINK_LAYER_ADDRESS, mac));
        let message = Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
            router: self.router,
            solicited: self.solicited,
            r#override: self.overrides,
        });
        write_message(envelope, message, self.target, [link, None], buffer)
    }
}

fn write_message(
    envelope: Ipv6Envelope,
    message: Icmpv6Type,
    target: Ipv6Addr,
    options: [Option<[u8; OPTION_LENGTH]>; 2],
    buffer: &mut [u8],
) -> Option<usize> {
    let envelope = Ipv6Envelope {
        hop_limit: NEIGHBOUR_DISCOVERY_HOP_LIMIT,
        ..envelope
    };
    let options = options.iter().flatten();
    let length = TARGET_LENGTH + options.clone().count() * OPTION_LENGTH;
    let fill = |body: &mut [u8]| {
        let (head, tail) = body.split_at_mut(TARGET_LENGTH);
        head.copy_from_slice(&target.octets());
        for (space, option) in tail.chunks_exact_mut(OPTION_LENGTH).zip(options) {
            space.copy_from_slice(option);
        }
    };
    write(&envelope, message, length, fill, buffer)
}

pub(super) fn link_option(kind: NdpOptionType, mac: MacAddr) -> [u8; OPTION_LENGTH] {
    option(kind.0, mac.0)
}

fn option(kind: u8, [a, b, c, d, e, f]: [u8; 6]) -> [u8; OPTION_LENGTH] {
    [kind, 1, a, b, c, d, e, f]
}

/// Reads all options; the first of each kind counts, and those that are not known are skipped (section 4.6).
fn read_options(iterator: NdpOptionsIterator<'_>, offset: usize) -> Result<Options, ParseError> {
    let mut options = Options::default();
    for option in iterator {
        let option = option.map_err(|_| ParseError::field(Layer::Icmpv6, offset, "option"))?;
        match option {
            NdpOptionSlice::SourceLinkLayerAddress(option) => {
                options.source_link = options
                    .source_link
                    .or(ethernet_address(option.link_layer_address()));
            }
            NdpOptionSlice::TargetLinkLayerAddress(option) => {
                options.target_link = options
                    .target_link
                    .or(ethernet_address(option.link_layer_address()));
            }
            NdpOptionSlice::Mtu(option) => options.mtu = options.mtu.or(Some(option.mtu())),
            NdpOptionSlice::Unknown(option) if option.option_type().0 == OPTION_NONCE => {
                options.nonce = options.nonce.or(option.data().try_into().ok());
            }
            _ => {}
        }
    }
    Ok(options)
}

fn ethernet_address(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

/// Tells if `group` is the solicited-node group of some address.
fn is_solicited_node(group: Ipv6Addr) -> bool {
    group
        .octets()
        .starts_with(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff])
}
