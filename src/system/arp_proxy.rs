//! A bridge that answers ARP requests itself, as container networks have it: it knows every neighbour beforehand, and
//! which port it is behind, and floods no request (`br_do_proxy_suppress_arp()` in `net/bridge/br_arp_nd_proxy.c`).
//!
//! The flag is `proxy_arp_wifi` on the port of the one who is asked for. A port with its sibling `proxy_arp` gets nothing
//! flooded at all, neither announcements nor IPv6's multicast, and nobody's requests but the VMs' are answered. With this
//! one everything else goes its usual way: a request that the bridge can't answer, or one of the host, too.
//!
//! Tables are filled for the bridges that need an entry only: 10,000 VMs, each known on each of eleven bridges, would take
//! longer to write down than to make.

use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkHeader, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::requests::Requests;
use crate::vm::RxFilter;
use crate::wire::MacAddr;

/// A bridge, and its port behind which a VM is; both by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    pub(super) bridge: u32,
    pub(super) port: u32,
}

const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;

impl Requests {
    /// Tells every bridge which port `mac` is behind, as if it had heard from there: else the first frame to a VM that has
    /// not sent any is flooded. `name` is for the error.
    pub(super) fn teach_bridges(&mut self, name: &str, mac: MacAddr, ways: &[Way]) {
        for way in ways {
            self.add((forwarding(*way, mac), REPLACE), behind(name));
        }
    }

    /// Makes bridges answer requests for whatever is behind the port with that index, and flood no answered request to it.
    /// `name` is for the error.
    pub(super) fn proxy_arp(&mut self, name: &str, index: u32) {
        let request = port_flag(index, InfoBridgePort::ProxyARPWifi(true));
        self.add(
            (request, 0),
            format!("have ARP requests answered for {name}"),
        );
    }

    /// Tells bridges which port the VM with `rx_filter` is behind, and which addresses it has. `name` is for the error.
    pub(super) fn introduce(&mut self, name: &str, rx_filter: &RxFilter, ways: &[Way]) {
        for way in ways {
            self.add((forwarding(*way, rx_filter.mac), REPLACE), behind(name));
            for address in &rx_filter.addresses {
                let request = neighbour(way.bridge, *address, rx_filter.mac);
                self.add((request, REPLACE), behind(name));
            }
        }
    }
}

fn behind(name: &str) -> String {
    format!("tell the bridge who is behind {name}")
}

fn port_flag(index: u32, flag: InfoBridgePort) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        index,
        ..LinkHeader::default()
    };
    message.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![flag])),
    ])];
    RouteNetlinkMessage::NewLink(message)
}

/// An entry of a bridge's forwarding table that does not age, as from a controller. A static one costs the kernel a walk
/// over all ports (`fdb_add_hw_addr()` in `net/bridge/br_fdb.c`).
fn forwarding(way: Way, mac: MacAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: way.port,
        state: NeighbourState::Reachable,
        flags: NeighbourFlags::Controller | NeighbourFlags::ExtLearned,
        ..NeighbourHeader::default()
    };
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
    RouteNetlinkMessage::NewNeighbour(message)
}

/// A permanent neighbour of a bridge.
fn neighbour(bridge: u32, address: Ipv4Addr, mac: MacAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Inet,
        ifindex: bridge,
        state: NeighbourState::Permanent,
        ..NeighbourHeader::default()
    };
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    RouteNetlinkMessage::NewNeighbour(message)
}
