//! A bridge that answers ARP requests itself, as container networks have it: it knows every neighbour beforehand, and
//! which port it is behind, and floods no request (`br_do_proxy_suppress_arp()` in `net/bridge/br_arp_nd_proxy.c`).
//!
//! Nothing at all is flooded to a port that has the flag, so announcements and IPv6's multicast do not get there either.

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

use super::error::SystemError;
use super::netlink::Netlink;
use crate::fabric::Station;
use crate::wire::MacAddr;

/// A bridge, and its port behind which a VM is; both by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Way {
    pub(super) bridge: u32,
    pub(super) port: u32,
}

const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;

impl Netlink {
    /// Tells every bridge which port `mac` is behind, as if it had heard from there: else the first frame to a VM that has
    /// not sent any is flooded. `name` is for the error.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub(super) fn teach_bridges(
        &mut self,
        name: &str,
        mac: MacAddr,
        ways: &[Way],
    ) -> Result<(), SystemError> {
        let requests = ways.iter().map(|way| (forwarding(*way, mac), REPLACE));
        self.request(requests.collect(), |_| ())
            .map_err(|refusal| refusal.of(format!("tell the bridge who is behind {name}")))
    }

    /// Has a request that a bridge has answered go no further by the port with that index, which leads to another bridge
    /// of the lab. `name` is for the error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn suppress_answered(&mut self, name: &str, index: u32) -> Result<(), SystemError> {
        let request = port_flag(index, InfoBridgePort::NeighSupress(true));
        self.request(vec![(request, 0)], |_| ())
            .map_err(|refusal| refusal.of(format!("keep answered ARP requests from {name}")))
    }

    /// Has the port with that index answer ARP requests, and tells every bridge which port `station` is behind. `name` is
    /// for the error.
    ///
    /// # Errors
    /// When the kernel refuses any of it.
    pub(super) fn proxy_arp(
        &mut self,
        name: &str,
        index: u32,
        station: &Station,
        ways: &[Way],
    ) -> Result<(), SystemError> {
        let mut requests = vec![(port_flag(index, InfoBridgePort::ProxyARP(true)), 0)];
        for way in ways {
            requests.push((forwarding(*way, station.mac), REPLACE));
            for address in &station.addresses {
                requests.push((neighbour(way.bridge, *address, station.mac), REPLACE));
            }
        }
        self.request(requests, |_| ()).map_err(|refusal| {
            refusal.of(format!("have the bridge answer ARP requests for {name}"))
        })
    }
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

/// A static entry of a bridge's forwarding table.
fn forwarding(way: Way, mac: MacAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: way.port,
        state: NeighbourState::Noarp,
        flags: NeighbourFlags::Controller,
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
