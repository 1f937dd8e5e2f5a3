//! Router solicitations and advertisements (RFC 4861 section 4.1, 4.2).

use std::net::Ipv6Addr;

use etherparse::Icmpv6Type;
use etherparse::icmpv6::{
    NdpOptionSlice, NdpOptionType, NdpOptionsIterator, PrefixInformation, RouterAdvertisementHeader,
};

use super::icmpv6::write;
use super::ipv6::{ALL_NODES, ALL_ROUTERS, Ipv6Envelope, multicast_mac};
use super::mac::MacAddr;
use super::neighbour_discovery::{NEIGHBOUR_DISCOVERY_HOP_LIMIT, OPTION_LENGTH, link_option};

/// Bytes of the reachable time and the retransmission timer of an advertisement, before its options.
const TIMES_LENGTH: usize = 8;

/// A router advertisement (RFC 4861 section 4.2).
#[derive(Clone, Debug)]
pub struct RouterAdvertisement<'a> {
    /// Hop limit for packets to be sent; 0 for "no advice".
    pub hop_limit: u8,
    /// For how many seconds it is a default router; 0 for "it is none".
    pub router_lifetime: u16,
    /// Its rank among several.
    pub preference: RouterPreference,
    /// For how many milliseconds a neighbour is reachable after it was confirmed, on average; 0 for "no advice".
    pub reachable_time: u32,
    /// Milliseconds between two solicitations for one neighbour; 0 for "no advice".
    pub retransmit_timer: u32,
    /// Its hardware address, if it says so.
    pub source_link: Option<MacAddr>,
    /// The MTU of the link, if it says so.
    pub mtu: Option<u32>,
    pub(super) options: NdpOptionsIterator<'a>,
}

/// A router's rank among several (RFC 4191 section 2.1), the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RouterPreference {
    /// Only if there is no other.
    Low,
    /// As routers are that know of no ranks.
    Medium,
    /// Rather than others.
    High,
}

impl RouterPreference {
    /// Reads the flags of a router advertisement.
    pub(super) const fn of_flags(flags: u8) -> RouterPreference {
        match flags >> 3 & 0b11 {
            0b01 => RouterPreference::High,
            0b11 => RouterPreference::Low,
            // 0b10 is reserved, and counts as medium.
            _ => RouterPreference::Medium,
        }
    }
}

/// A router's word that packets to one host are better handed to another neighbour (RFC 4861 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// The better next hop: another router, or the destination itself.
    pub target: Ipv6Addr,
    /// The host.
    pub destination: Ipv6Addr,
    /// The hardware address of the target, if it says so.
    pub target_link: Option<MacAddr>,
}

/// A prefix that a router tells of (RFC 4861 section 4.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdvertisedPrefix {
    /// The prefix; bits behind its length may be set.
    pub prefix: Ipv6Addr,
    /// Its length in bits.
    pub length: u8,
    /// Its addresses are neighbours.
    pub on_link: bool,
    /// Hosts may make themselves an address in it (RFC 4862).
    pub autonomous: bool,
    /// Seconds for which addresses in it are valid.
    pub valid_lifetime: u32,
    /// Seconds for which they are preferred.
    pub preferred_lifetime: u32,
}

/// Builds the frame of an advertisement of a router at `source`, which tells all hosts of `prefix`, at the start of `buffer`,
/// and returns its length, or `None` when the buffer is too short. It is a default router for `lifetime` seconds.
pub fn write_router_advertisement(
    source_mac: MacAddr,
    source: Ipv6Addr,
    lifetime: u16,
    prefix: &AdvertisedPrefix,
    buffer: &mut [u8],
) -> Option<usize> {
    let envelope = Ipv6Envelope {
        source_mac,
        destination_mac: multicast_mac(ALL_NODES),
        source,
        destination: ALL_NODES,
        traffic_class: 0,
        hop_limit: NEIGHBOUR_DISCOVERY_HOP_LIMIT,
    };
    let message = Icmpv6Type::RouterAdvertisement(RouterAdvertisementHeader {
        cur_hop_limit: 0,
        managed_address_config: false,
        other_config: false,
        router_lifetime: lifetime,
    });
    let information = PrefixInformation {
        prefix_length: prefix.length,
        on_link: prefix.on_link,
        autonomous_address_configuration: prefix.autonomous,
        valid_lifetime: prefix.valid_lifetime,
        preferred_lifetime: prefix.preferred_lifetime,
        prefix: prefix.prefix.octets(),
    };
    let option = link_option(NdpOptionType::SOURCE_LINK_LAYER_ADDRESS, source_mac);
    let information = information.to_bytes();
    let length = TIMES_LENGTH + information.len() + option.len();
    let fill = |body: &mut [u8]| {
        let told = [0; TIMES_LENGTH];
        let told = told.iter().chain(&information).chain(&option);
        for (space, byte) in body.iter_mut().zip(told) {
            *space = *byte;
        }
    };
    write(&envelope, message, length, fill, buffer)
}

impl RouterAdvertisement<'_> {
    /// The prefixes that it tells of, in order.
    pub fn prefixes(&self) -> impl Iterator<Item = AdvertisedPrefix> {
        self.options.clone().filter_map(|option| match option {
            Ok(NdpOptionSlice::PrefixInformation(option)) => {
                let PrefixInformation {
                    prefix_length,
                    on_link,
                    autonomous_address_configuration,
                    valid_lifetime,
                    preferred_lifetime,
                    prefix,
                } = option.prefix_information();
                Some(AdvertisedPrefix {
                    prefix: Ipv6Addr::from(prefix),
                    length: prefix_length,
                    on_link,
                    autonomous: autonomous_address_configuration,
                    valid_lifetime,
                    preferred_lifetime,
                })
            }
            _ => None,
        })
    }
}

/// Builds a router solicitation from `source` at the start of `buffer` (RFC 4861 section 4.1), and returns its length,
/// or `None` when the buffer is too short. The unspecified address asks without saying where it is.
pub fn write_router_solicitation(
    source_mac: MacAddr,
    source: Ipv6Addr,
    buffer: &mut [u8],
) -> Option<usize> {
    let envelope = Ipv6Envelope {
        source_mac,
        destination_mac: multicast_mac(ALL_ROUTERS),
        source,
        destination: ALL_ROUTERS,
        traffic_class: 0,
        hop_limit: NEIGHBOUR_DISCOVERY_HOP_LIMIT,
    };
    let says_where = !source.is_unspecified();
    let length = if says_where { OPTION_LENGTH } else { 0 };
    let option = link_option(NdpOptionType::SOURCE_LINK_LAYER_ADDRESS, source_mac);
    let fill = |body: &mut [u8]| {
        if says_where {
            body.copy_from_slice(&option);
        }
    };
    write(
        &envelope,
        Icmpv6Type::RouterSolicitation,
        length,
        fill,
        buffer,
    )
}
