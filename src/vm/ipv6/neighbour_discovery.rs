//! Neighbour discovery (RFC 4861): who is where, and who has which address. What routers tell is
//! [`super::slaac`]'s.

use std::net::{IpAddr, Ipv6Addr};

use super::address::AddressDue;
use super::{HOP_LIMIT, Ipv6, Received, Vm, reaction, to_group};
use crate::time::Instant;
use crate::vm::neighbour::Waited;
use crate::vm::{Event, Ignored, Reaction, Transmit};
use crate::wire::{
    ALL_NODES, Ipv6Envelope, Ipv6Packet, MacAddr, NeighbourAdvertisement, NeighbourDiscovery,
    NeighbourSolicitation, solicited_node, write_mld_report, write_router_solicitation,
};

const ROUTER_SOLICITATION: u8 = 133;

impl Vm {
    pub(super) fn receive_discovery(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        sender: MacAddr,
        message: &NeighbourDiscovery<'_>,
    ) -> Result<Received, Ignored> {
        match message {
            NeighbourDiscovery::Solicitation(message) => {
                self.receive_solicitation(now, packet, sender, message)
            }
            NeighbourDiscovery::Advertisement(message) => {
                self.receive_advertisement(now, sender, message)
            }
            NeighbourDiscovery::RouterAdvertisement(message) => {
                self.receive_router(now, packet.source, message)
            }
            NeighbourDiscovery::RouterSolicitation => Err(Ignored::IcmpType(ROUTER_SOLICITATION)),
        }
    }

    fn receive_solicitation(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        sender: MacAddr,
        message: &NeighbourSolicitation,
    ) -> Result<Received, Ignored> {
        let ipv6 = self.ipv6.as_mut().ok_or(Ignored::OtherTarget)?;
        let target = message.target;
        let own = ipv6.addresses.find(target).ok_or(Ignored::OtherTarget)?;
        let is_probe = packet.source.is_unspecified();
        if !own.is_assigned() {
            // Somebody asks for an address that is not ours yet; or tries it too, or it is our own probe.
            if !is_probe || own.is_own_probe(message.nonce) {
                return Err(Ignored::OtherTarget);
            }
            return Ok(ipv6.give_up(now, target, sender));
        }
        let answer = |solicited| NeighbourAdvertisement {
            target,
            target_link: Some(self.mac),
            router: false,
            solicited,
            overrides: true,
        };
        if is_probe {
            return Ok(Received::Solicitation {
                answer: answer(false),
                envelope: to_group(self.mac, target, ALL_NODES),
                event: None,
            });
        }
        let answer = answer(true);
        let event = message
            .source_link
            .filter(|mac| mac.is_unicast())
            .and_then(|mac| {
                let waited = self.neighbours.hear(now, packet.source.into(), mac);
                self.neighbour_found(now, packet.source, mac, waited)
            });
        let envelope = Ipv6Envelope {
            source_mac: self.mac,
            destination_mac: message.source_link.unwrap_or(sender),
            source: target,
            destination: packet.source,
            traffic_class: 0,
            hop_limit: HOP_LIMIT,
        };
        Ok(Received::Solicitation {
            answer,
            envelope,
            event,
        })
    }

    fn receive_advertisement(
        &mut self,
        now: Instant,
        sender: MacAddr,
        message: &NeighbourAdvertisement,
    ) -> Result<Received, Ignored> {
        let ipv6 = self.ipv6.as_mut().ok_or(Ignored::OtherTarget)?;
        let target = message.target;
        if let Some(own) = ipv6.addresses.find(target) {
            if !own.is_assigned() {
                return Ok(ipv6.give_up(now, target, sender));
            }
            // Both go on using it: unlike IPv4, IPv6 knows no defence (RFC 4862 section 5.4.4).
            return Ok(Received::Taken(Some(conflict(target, sender))));
        }
        let link = message.target_link.filter(|mac| mac.is_unicast());
        let waited = self
            .neighbours
            .advertised(
                now,
                target.into(),
                link,
                message.solicited,
                message.overrides,
            )
            .ok_or(Ignored::UnexpectedAdvertisement)?;
        let event = link.and_then(|mac| self.neighbour_found(now, target, mac, waited));
        Ok(Received::Taken(event))
    }

    /// Has the pings that waited for a neighbour sent.
    pub(super) fn neighbour_found(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        mac: MacAddr,
        waited: Option<Waited>,
    ) -> Option<Event> {
        let (elapsed, pings) = waited?;
        self.resolve(now, pings);
        Some(Event::Resolved {
            address: address.into(),
            mac,
            elapsed,
        })
    }

    /// Asks who has `target`: its solicited-node group, or the one who had it last.
    pub(in crate::vm) fn neighbour_solicitation(
        &self,
        now: Instant,
        target: Ipv6Addr,
        last: Option<MacAddr>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let ipv6 = self.ipv6.as_ref()?;
        let source_mac = self.mac;
        let source = ipv6.addresses.source_for(now, target)?;
        let to_group = to_group(source_mac, source, solicited_node(target));
        let envelope = match last {
            None => to_group,
            Some(destination_mac) => Ipv6Envelope {
                destination_mac,
                destination: target,
                ..to_group
            },
        };
        let message = NeighbourSolicitation {
            target,
            source_link: Some(source_mac),
            nonce: None,
        };
        let length = message.write(envelope, buffer)?;
        Some(Transmit { length, ping: None })
    }
}

impl Ipv6 {
    /// Gives up an address that was only tried: somebody else has it, or tries it too.
    fn give_up(&mut self, now: Instant, address: Ipv6Addr, sender: MacAddr) -> Received {
        self.addresses.remove(address);
        self.mld.changed(now);
        self.find_deadline();
        Received::Taken(Some(conflict(address, sender)))
    }

    /// Does one thing that is due at `now`.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Option<Reaction> {
        let link_local = self
            .addresses
            .iter()
            .find(|a| a.is_assigned() && a.interface.address.is_unicast_link_local())
            .map_or(Ipv6Addr::UNSPECIFIED, |a| a.interface.address);
        if let Some(record) = self.mld.overdue(now) {
            let groups = self.groups();
            let length = write_mld_report(mac, link_local, record, &groups, buffer);
            return Some(reaction(length, None));
        }
        if let Some(due) = self.addresses.overdue(now) {
            return Some(match due {
                AddressDue::Probe(target, nonce) => {
                    let group = solicited_node(target);
                    let envelope = to_group(mac, Ipv6Addr::UNSPECIFIED, group);
                    let message = NeighbourSolicitation {
                        target,
                        source_link: None,
                        nonce: Some(nonce),
                    };
                    reaction(message.write(envelope, buffer), None)
                }
                AddressDue::Announce(target) => {
                    let message = NeighbourAdvertisement {
                        target,
                        target_link: Some(mac),
                        router: false,
                        solicited: false,
                        overrides: true,
                    };
                    reaction(
                        message.write(to_group(mac, target, ALL_NODES), buffer),
                        None,
                    )
                }
                AddressDue::Ready(address) => {
                    if address.is_unicast_link_local() {
                        // Reports that came from nobody are repeated (RFC 3590 section 4).
                        self.mld.changed(now);
                    }
                    let address = address.into();
                    reaction(None, Some(Event::AddressReady { address }))
                }
                AddressDue::Expired(address) => {
                    self.mld.changed(now);
                    let address = IpAddr::V6(address);
                    reaction(None, Some(Event::AddressLost { address }))
                }
            });
        }
        if self.routes.overdue(now) {
            let length = write_router_solicitation(mac, link_local, buffer);
            return Some(reaction(length, None));
        }
        None
    }
}

fn conflict(address: Ipv6Addr, mac: MacAddr) -> Event {
    Event::Conflict {
        address: address.into(),
        mac,
    }
}
