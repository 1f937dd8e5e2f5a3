//! What the kernel says of a port of a bridge, of what it has counted there, and of who is behind it (`linux/if_link.h`,
//! `linux/neighbour.h`).

use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourHeader, NeighbourMessage};
use netlink_packet_route::stats::{StatsFilterMask, StatsMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::super::error::SystemError;
use super::Netlink;
use super::link::{LINK_HEADER_BYTES, Link, attributes, find_attribute, link_info, parse_link};
use crate::fabric::{PortCounters, StpState};
use crate::wire::MacAddr;

/// A link, and what it is as a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::system) struct Port {
    pub(in crate::system) link: Link,
    /// The index of the other end, of one of a pair.
    pub(in crate::system) peer: Option<u32>,
    /// `None` unless it is a port of a bridge.
    pub(in crate::system) settings: Option<PortSettings>,
}

/// The settings of a port of a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::system) struct PortSettings {
    pub(in crate::system) state: StpState,
    pub(in crate::system) is_isolated: bool,
    pub(in crate::system) is_locked: bool,
    pub(in crate::system) learns: bool,
    pub(in crate::system) floods_unknown: bool,
    pub(in crate::system) floods_multicast: bool,
    pub(in crate::system) floods_broadcast: bool,
    pub(in crate::system) is_hairpin: bool,
}

/// Which link is meant.
#[derive(Clone, Copy, Debug)]
pub(in crate::system) enum LinkKey<'a> {
    Name(&'a str),
    Index(u32),
}

mod attribute {
    pub(super) const LINK: u16 = 5;
    pub(super) const INFO_SLAVE_DATA: u16 = 5;
    pub(super) const BRPORT_STATE: u16 = 1;
    pub(super) const BRPORT_MODE: u16 = 4;
    pub(super) const BRPORT_LEARNING: u16 = 8;
    pub(super) const BRPORT_UNICAST_FLOOD: u16 = 9;
    pub(super) const BRPORT_MCAST_FLOOD: u16 = 27;
    pub(super) const BRPORT_BCAST_FLOOD: u16 = 30;
    pub(super) const BRPORT_ISOLATED: u16 = 33;
    pub(super) const BRPORT_LOCKED: u16 = 39;
    pub(super) const STATS_LINK_64: u16 = 1;
}

/// `struct if_stats_msg`.
const STATS_HEADER_BYTES: usize = 12;

impl Netlink {
    /// A link as a port; `None` if there is no such link.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::system) fn port(
        &mut self,
        key: LinkKey<'_>,
    ) -> Result<Option<Port>, SystemError> {
        let mut message = LinkMessage::default();
        match key {
            LinkKey::Name(name) => message
                .attributes
                .push(LinkAttribute::IfName(name.to_owned())),
            LinkKey::Index(index) => {
                message.header = LinkHeader {
                    index,
                    ..LinkHeader::default()
                }
            }
        }
        let mut port = None;
        let request = RouteNetlinkMessage::GetLink(message);
        match self.request(vec![(request, 0)], |payload| port = parse_port(payload)) {
            Err(refusal) if refusal.errno != Errno::ENODEV => {
                Err(refusal.of(format!("look up {key:?}")))
            }
            _ => Ok(port),
        }
    }

    /// The index of the port behind which the bridge with that index has learned `mac`, in a VLAN if it looks at tags.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::system) fn port_to(
        &mut self,
        bridge: u32,
        mac: MacAddr,
        vlan: Option<u16>,
    ) -> Result<Option<u32>, SystemError> {
        let mut message = NeighbourMessage::default();
        message.header = NeighbourHeader {
            family: AddressFamily::Bridge,
            ..NeighbourHeader::default()
        };
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
            NeighbourAttribute::Controller(bridge),
        ];
        message
            .attributes
            .extend(vlan.map(NeighbourAttribute::Vlan));
        let mut port = None;
        let request = RouteNetlinkMessage::GetNeighbour(message);
        let asked = self.request(vec![(request, 0)], |payload| {
            // `ndm_ifindex` of `struct ndmsg`.
            let index = payload.get(4..).and_then(|rest| rest.first_chunk());
            port = index.map(|bytes| u32::from_ne_bytes(*bytes));
        });
        match asked {
            Err(refusal) if refusal.errno != Errno::ENOENT => {
                Err(refusal.of(format!("find the port behind which {mac} is")))
            }
            _ => Ok(port),
        }
    }

    /// What every link of the namespace has counted since it was made, by its index.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(in crate::system) fn counters(&mut self) -> Result<Vec<(u32, PortCounters)>, SystemError> {
        let mut message = StatsMessage::default();
        message.header.filter_mask = StatsFilterMask::Link64;
        self.dump(&RouteNetlinkMessage::GetStats(message), parse_counters)
            .map_err(|refusal| refusal.of("read the counters of links"))
    }
}

fn parse_port(payload: &[u8]) -> Option<Port> {
    let link = parse_link(payload)?;
    let peer = find_attribute(payload.get(LINK_HEADER_BYTES..)?, attribute::LINK);
    let data = link_info(payload).and_then(|info| find_attribute(info, attribute::INFO_SLAVE_DATA));
    Some(Port {
        peer: peer
            .and_then(|value| value.first_chunk())
            .map(|bytes| u32::from_ne_bytes(*bytes)),
        settings: data.and_then(parse_settings),
        link,
    })
}

/// Reads the attributes of a port; `None` if they are those of a port of something else than a bridge.
pub(super) fn parse_settings(data: &[u8]) -> Option<PortSettings> {
    let flag = |wanted| find_attribute(data, wanted).is_some_and(|value| value == [1]);
    // Kernels that don't tell flood.
    let unless_off = |wanted| find_attribute(data, wanted) != Some(&[0]);
    Some(PortSettings {
        state: match find_attribute(data, attribute::BRPORT_STATE)?.first()? {
            0 => StpState::Disabled,
            1 => StpState::Listening,
            2 => StpState::Learning,
            3 => StpState::Forwarding,
            4 => StpState::Blocking,
            _ => return None,
        },
        is_isolated: flag(attribute::BRPORT_ISOLATED),
        is_locked: flag(attribute::BRPORT_LOCKED),
        learns: flag(attribute::BRPORT_LEARNING),
        floods_unknown: flag(attribute::BRPORT_UNICAST_FLOOD),
        floods_multicast: unless_off(attribute::BRPORT_MCAST_FLOOD),
        floods_broadcast: unless_off(attribute::BRPORT_BCAST_FLOOD),
        is_hairpin: flag(attribute::BRPORT_MODE),
    })
}

fn parse_counters(payload: &[u8]) -> Option<(u32, PortCounters)> {
    // `ifindex` of `struct if_stats_msg`.
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let (_, stats) = attributes(payload.get(STATS_HEADER_BYTES..)?)
        .find(|(kind, _)| *kind == attribute::STATS_LINK_64)?;
    // Of `struct rtnl_link_stats64`.
    let number = |place: usize| {
        let bytes = stats.get(place * 8..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let counters = PortCounters {
        rx_packets: number(0)?,
        tx_packets: number(1)?,
        rx_dropped: number(6)?,
        tx_dropped: number(7)?,
    };
    Some((index, counters))
}
