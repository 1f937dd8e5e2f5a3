//! A VXLAN that connects labs of several hosts (`--underlay`, RFC 7348), made in the namespace that the program was started in
//! with its port in the lab's: the datagrams come and go by the host's own addresses.
//!
//! Frames to a group, and to who is not known, go to each peer by itself (head-end replication), or to a multicast group of the
//! network. Where the peers are those of ranks, in their order, each tunnel knows beforehand behind which peer every VM is; else
//! it learns that from the frames that come.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkInfo};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::libc;

use super::super::error::SystemError;
use super::super::name_rules::validate_interface_name;
use super::super::netlink::Netlink;
use super::super::netlink::link::attributes;
use super::super::netlink::port::LinkKey;
use super::super::netlink::requests::{Request, Requests};
use super::{Home, NEEDS_ROOT, PortPlan};
use crate::number::whole_number;
use crate::wire::MacAddr;

/// The port that IANA has assigned to VXLAN; the kernel's own default is an older one.
pub const VXLAN_PORT: u16 = 4789;
/// Largest number of a VXLAN: 24 bits.
const LARGEST_VNI: u64 = 0xff_ffff;
/// Most peers: each broadcast is sent to all of them.
const MOST_PEERS: usize = 4096;
/// Bytes of `struct rtmsg`, which the attributes follow.
const ROUTE_HEADER: usize = 12;

/// A VXLAN, as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Underlay {
    /// Its number, which all labs have in common.
    pub vni: u32,
    /// Where the others are.
    pub peers: Peers,
    /// The other ranks, if there are any.
    pub ranks: Option<OtherRanks>,
}

/// Where the other ends of a VXLAN are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peers {
    /// At these addresses, that of this host may be among them.
    Addresses(Vec<IpAddr>),
    /// In a multicast group of the network that an interface is connected to.
    Group {
        /// The group.
        group: IpAddr,
        /// The interface.
        interface: String,
    },
}

/// What a rank knows of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherRanks {
    /// The own number.
    pub own: u32,
    /// How many there are.
    pub count: u32,
    /// What all of them have in common, and nobody else.
    pub plan: [u8; 32],
    /// The VMs of the others: MAC address and rank.
    pub stations: Vec<(MacAddr, u32)>,
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VXLAN {}", self.vni)?;
        match &self.peers {
            Peers::Addresses(peers) => {
                let peers: Vec<String> = peers.iter().map(IpAddr::to_string).collect();
                write!(f, " with {}", peers.join(", "))
            }
            Peers::Group { group, interface } => write!(f, " in group {group} on {interface}"),
        }
    }
}

impl Underlay {
    /// Reads `vxlan:VNI,PEER[,PEER…]` or `vxlan:VNI,group=ADDRESS,dev=IFACE`. Names of hosts are looked up.
    ///
    /// # Errors
    /// What is wrong, and what is expected.
    pub fn find(text: &str) -> Result<Underlay, String> {
        let expected = "expected vxlan:VNI,PEER,… with addresses or names of hosts, or vxlan:VNI,group=239.1.1.1,dev=eth0";
        let rest = text.strip_prefix("vxlan:").ok_or(expected)?;
        let (vni, peers) = rest.split_once(',').ok_or(expected)?;
        let number = whole_number(vni).filter(|vni| (1..=LARGEST_VNI).contains(vni));
        let vni = number
            .ok_or_else(|| format!("{vni} is no number of a VXLAN; expected 1 to {LARGEST_VNI}"))?;
        let peers = match peers.strip_prefix("group=") {
            Some(group) => read_group(group).ok_or(expected)??,
            None => Peers::Addresses(read_peers(peers)?),
        };
        Ok(Underlay {
            vni: vni as u32,
            peers,
            ranks: None,
        })
    }

    fn is_ipv6(&self) -> bool {
        match &self.peers {
            Peers::Addresses(peers) => peers.first().is_some_and(IpAddr::is_ipv6),
            Peers::Group { group, .. } => group.is_ipv6(),
        }
    }

    /// Bytes of a frame's surroundings in a datagram: IP, UDP and VXLAN headers, and the Ethernet header of the frame itself.
    fn overhead(&self) -> u32 {
        match self.is_ipv6() {
            true => 40 + 8 + 8 + 14,
            false => 20 + 8 + 8 + 14,
        }
    }

    /// Checks that this host, where the calling thread is, has one of the peers' addresses, as each host of ranks has that all get
    /// the same peers: to one that has none, the others send nothing.
    ///
    /// # Errors
    /// If it has none, or a peer can't be reached.
    pub fn check_own_host(&self) -> Result<(), SystemError> {
        let Peers::Addresses(peers) = &self.peers else {
            return Ok(());
        };
        let mut netlink = Netlink::open()?;
        for peer in peers {
            if netlink.route_to(*peer)?.is_local {
                return Ok(());
            }
        }
        let peers: Vec<String> = peers.iter().map(IpAddr::to_string).collect();
        let why = format!("none of the peers {} is this host", peers.join(", "));
        Err(SystemError::refused("--underlay", why).advise(
            "expected the same peers at all ranks, with an address of the host of each, this one's too",
        ))
    }

    /// Returns the largest IP datagram of a VM that goes by it in one piece, from the namespace of the calling thread.
    ///
    /// # Errors
    /// If a peer can't be reached, or an interface does not exist.
    pub fn mtu(&self) -> Result<u32, SystemError> {
        let mut netlink = Netlink::open()?;
        let mut least = u32::MAX;
        match &self.peers {
            Peers::Addresses(peers) => {
                for peer in peers {
                    let route = netlink.route_to(*peer)?;
                    if !route.is_local
                        && let Some(port) = netlink.port(LinkKey::Index(route.interface))?
                    {
                        least = least.min(port.link.mtu);
                    }
                }
            }
            Peers::Group { interface, .. } => match netlink.link(interface)? {
                Some(link) if link.up => least = link.mtu,
                Some(_) => {
                    let why = "it is down";
                    let refused = SystemError::refused(joining(interface), why);
                    return Err(refused.advise(format!("ip link set {interface} up")));
                }
                None => {
                    let why = "there is no such interface where the program was started";
                    return Err(SystemError::refused(joining(interface), why));
                }
            },
        }
        Ok(least.saturating_sub(self.overhead()))
    }
}

fn joining(interface: &str) -> String {
    format!("join a group on {interface}")
}

fn read_group(text: &str) -> Option<Result<Peers, String>> {
    let (group, interface) = text.split_once(",dev=")?;
    let group: IpAddr = group.parse().ok()?;
    if !group.is_multicast() {
        return Some(Err(format!(
            "{group} is no multicast group; expected one such as 239.1.1.1"
        )));
    }
    Some(match validate_interface_name(interface) {
        Ok(()) => Ok(Peers::Group {
            group,
            interface: interface.to_owned(),
        }),
        Err(why) => Err(format!("dev={interface}: the name {why}")),
    })
}

fn read_peers(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut peers: Vec<IpAddr> = Vec::new();
    for word in text.split(',') {
        let address = match word.parse() {
            Ok(address) => address,
            Err(_) => {
                let found = (word, VXLAN_PORT).to_socket_addrs();
                let mut found =
                    found.map_err(|error| format!("the peer {word} can't be found: {error}"))?;
                let found = found.next();
                found
                    .ok_or_else(|| format!("the peer {word} has no address"))?
                    .ip()
            }
        };
        if address.is_multicast() || address.is_unspecified() {
            return Err(format!(
                "{address} is no address of a peer; a group is written group={address},dev=eth0"
            ));
        }
        if peers
            .iter()
            .any(|other| other.is_ipv6() != address.is_ipv6())
        {
            return Err("expected peers of IPv4 or of IPv6, not of both".to_owned());
        }
        if peers.contains(&address) {
            return Err(format!(
                "the peer {address} is named twice; expected each once"
            ));
        }
        peers.push(address);
    }
    match peers.len() {
        ..=MOST_PEERS => Ok(peers),
        number => Err(format!("{number} peers; expected {MOST_PEERS} at most")),
    }
}

/// The way to an address.
struct Route {
    /// It is one of this host.
    is_local: bool,
    /// The interface, by its index.
    interface: u32,
    /// The own address that is used.
    source: Option<IpAddr>,
}

impl Netlink {
    /// The route to `address`.
    ///
    /// # Errors
    /// If there is none.
    fn route_to(&mut self, address: IpAddr) -> Result<Route, SystemError> {
        let mut message = RouteMessage::default();
        let (family, length, destination) = match address {
            IpAddr::V4(address) => (AddressFamily::Inet, 32, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(address)),
        };
        message.header = RouteHeader {
            address_family: family,
            destination_prefix_length: length,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Destination(destination)];
        let mut route = None;
        let request = (RouteNetlinkMessage::GetRoute(message), 0);
        let operation = || format!("find the way to {address}");
        self.request(vec![request], |payload| route = parse_route(payload))
            .map_err(|refusal| {
                let error = refusal.of(operation());
                error.advise("expected a peer that this host reaches where the program was started")
            })?;
        route.ok_or_else(|| SystemError::refused(operation(), "the kernel tells none"))
    }
}

fn parse_route(payload: &[u8]) -> Option<Route> {
    let mut route = Route {
        is_local: *payload.get(7)? == libc::RTN_LOCAL,
        interface: 0,
        source: None,
    };
    for (kind, value) in attributes(payload.get(ROUTE_HEADER..)?) {
        match kind {
            libc::RTA_OIF => route.interface = u32::from_ne_bytes(*value.first_chunk()?),
            libc::RTA_PREFSRC => {
                route.source = match value.len() {
                    4 => Some(IpAddr::from(*value.first_chunk::<4>()?)),
                    16 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    Some(route)
}

impl Home {
    /// Makes a port that is an end of `underlay`, and fills its table.
    pub(super) fn make_vxlan(
        &mut self,
        lab: &mut Netlink,
        plan: &PortPlan<'_>,
        underlay: &Underlay,
    ) -> Result<(), SystemError> {
        let mut info = vec![InfoVxlan::Id(underlay.vni), InfoVxlan::Port(VXLAN_PORT)];
        let mut requests = Requests::default();
        // By their numbers, without this host.
        let mut peers: BTreeMap<u32, IpAddr> = BTreeMap::new();
        let mut below = None;
        let mut learns = true;
        match &underlay.peers {
            Peers::Group { group, interface } => {
                info.push(match group {
                    IpAddr::V4(group) => InfoVxlan::Group(*group),
                    IpAddr::V6(group) => InfoVxlan::Group6(*group),
                });
                below = Some(self.netlink.index(interface)?);
            }
            Peers::Addresses(all) => {
                let mut source = None;
                let mut own = None;
                for (number, peer) in (0u32..).zip(all) {
                    let route = self.netlink.route_to(*peer)?;
                    match route.is_local {
                        true => own = Some(number),
                        false => {
                            source = source.or(route.source);
                            peers.insert(number, *peer);
                        }
                    }
                }
                if let Some(IpAddr::V6(source)) = source {
                    // Without it, it would be of IPv4.
                    info.push(InfoVxlan::Local6(source));
                }
                let ranks = underlay.ranks.as_ref();
                learns = ranks.is_none_or(|ranks| !ranks.are_at(all.len(), own, peers.len()));
            }
        }
        info.push(InfoVxlan::Learning(learns));
        if let Some(below) = below {
            info.push(InfoVxlan::Link(below));
        }
        let info = vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(info)),
        ];
        self.make(lab, plan, info, None)
            .map_err(|refusal| explain(refusal, underlay))?;
        let index = lab.index(plan.name)?;
        for peer in peers.values() {
            requests.add(
                entry(index, MacAddr::ZERO, *peer, NLM_F_APPEND),
                format!("send to the peer {peer}"),
            );
        }
        let ranks = underlay.ranks.iter().filter(|_| !learns);
        for (mac, rank) in ranks.flat_map(|ranks| &ranks.stations) {
            if let Some(peer) = peers.get(rank) {
                requests.add(
                    entry(index, *mac, *peer, NLM_F_REPLACE),
                    format!("tell the VXLAN that {mac} is at {peer}"),
                );
            }
        }
        lab.carry_out(requests)
    }
}

impl OtherRanks {
    /// Returns true if `peers` peers are those of the ranks, in their order: `own` is the number of this host, and `others` are
    /// not here.
    fn are_at(&self, peers: usize, own: Option<u32>, others: usize) -> bool {
        peers == self.count as usize && own == Some(self.own) && others + 1 == peers
    }
}

fn explain(refusal: super::super::netlink::Refusal, underlay: &Underlay) -> SystemError {
    let errno = refusal.errno;
    let error = refusal.of(format!("make {underlay}"));
    match errno {
        Errno::EEXIST => error.advise(
            "another run on this host has that VXLAN, or one that has just been killed; expected another number, or one rank \
             a host and --cores for more",
        ),
        Errno::EOPNOTSUPP => error.advise("this kernel has no VXLAN driver: modprobe vxlan"),
        Errno::EPERM => error.advise(NEEDS_ROOT),
        _ => error,
    }
}

/// An entry of the forwarding table of a VXLAN device that does not age: `mac` is at `peer`.
fn entry(index: u32, mac: MacAddr, peer: IpAddr, how: u16) -> Request {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: index,
        state: NeighbourState::Permanent,
        flags: NeighbourFlags::Own,
        ..NeighbourHeader::default()
    };
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Destination(match peer {
            IpAddr::V4(peer) => NeighbourAddress::Inet(peer),
            IpAddr::V6(peer) => NeighbourAddress::Inet6(peer),
        }),
    ];
    (
        RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | how,
    )
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_vxlan_is_written_with_its_peers_or_with_a_group() {
        for (text, expected) in [
            (
                "vxlan:42,192.0.2.1,192.0.2.2",
                "VXLAN 42 with 192.0.2.1, 192.0.2.2",
            ),
            (
                "vxlan:16777215,2001:db8::1",
                "VXLAN 16777215 with 2001:db8::1",
            ),
            (
                "vxlan:7,group=239.1.1.1,dev=eth0",
                "VXLAN 7 in group 239.1.1.1 on eth0",
            ),
            (
                "vxlan:7,group=ff05::7,dev=eth0",
                "VXLAN 7 in group ff05::7 on eth0",
            ),
        ] {
            assert_eq!(Underlay::find(text).unwrap().to_string(), expected);
        }
        for (text, expected) in [
            ("gre:7,192.0.2.1", "expected vxlan:VNI,PEER,…"),
            ("vxlan:7", "expected vxlan:VNI,PEER,…"),
            (
                "vxlan:0,192.0.2.1",
                "0 is no number of a VXLAN; expected 1 to 16777215",
            ),
            (
                "vxlan:16777216,192.0.2.1",
                "16777216 is no number of a VXLAN",
            ),
            ("vxlan:7,192.0.2.1,::1", "expected peers of IPv4 or of IPv6"),
            (
                "vxlan:7,192.0.2.1,192.0.2.1",
                "the peer 192.0.2.1 is named twice",
            ),
            (
                "vxlan:7,239.1.1.1",
                "a group is written group=239.1.1.1,dev=eth0",
            ),
            (
                "vxlan:7,group=192.0.2.1,dev=eth0",
                "192.0.2.1 is no multicast group",
            ),
            ("vxlan:7,group=239.1.1.1", "expected vxlan:VNI,PEER,…"),
            (
                "vxlan:7,group=239.1.1.1,dev=a/b",
                "dev=a/b: the name must not contain",
            ),
        ] {
            let why = Underlay::find(text).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }

    #[test]
    fn peers_are_those_of_ranks_if_each_has_one_and_the_own_one_is_here() {
        let ranks = OtherRanks {
            own: 1,
            count: 3,
            plan: [0; 32],
            stations: Vec::new(),
        };
        for (peers, own, others, are) in [
            (3, Some(1), 2, true),
            (3, Some(0), 2, false),
            (3, None, 3, false),
            (3, Some(1), 1, false),
            (2, Some(1), 1, false),
        ] {
            assert_eq!(
                ranks.are_at(peers, own, others),
                are,
                "{peers} {own:?} {others}"
            );
        }
    }

    #[test]
    fn the_way_to_a_loopback_address_is_local() {
        let route = Netlink::open()
            .unwrap()
            .route_to(Ipv4Addr::LOCALHOST.into());
        assert!(route.unwrap().is_local);
    }
}
