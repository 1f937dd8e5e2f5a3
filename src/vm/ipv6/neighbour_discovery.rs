//! Neighbour discovery (RFC 4861): who is where, and who has which address. What routers tell is
//! [`super::router_discovery`]'s.

use std::net::Ipv6Addr;

use super::address::AddressDue;
use super::conflict_detection::DadDue;
use super::to_group;
use crate::time::Instant;
use crate::vm::ip::{DEFAULT_TIME_TO_LIVE, Disposition, Input, Protocol, Received};
use crate::vm::neighbour::{Claim, Heard};
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    ALL_NODES, ALL_NODES_OF_INTERFACE, Icmpv6Message, Ipv6Envelope, Ipv6Packet, MacAddr,
    NeighbourAdvertisement, NeighbourDiscovery, NeighbourSolicitation, solicited_node,
};

/// The row of neighbour discovery: questions for the VM's own addresses, answers of its neighbours, and how it comes by
/// an address of its own. Neighbours are asked for by [`crate::vm::neighbour`].
pub(in crate::vm) const NEIGHBOUR_DISCOVERY: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| {
            matches!(
                datagram.icmpv6_type(),
                Some(
                    NeighbourDiscovery::NEIGHBOUR_SOLICITATION
                        | NeighbourDiscovery::NEIGHBOUR_ADVERTISEMENT
                )
            )
        },
        Vm::receive_discovery,
    ),
    poll: Vm::poll_addresses,
    deadline: |vm| vm.ipv6.as_ref()?.addresses.deadline(),
    groups: |vm, tell| {
        if let Some(ipv6) = &vm.ipv6 {
            for address in ipv6.addresses.iter() {
                tell(solicited_node(address.interface.address).into());
            }
            tell(ALL_NODES.into());
            tell(ALL_NODES_OF_INTERFACE.into());
        }
    },
    ..Protocol::NONE
};

impl Vm {
    fn receive_discovery(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let (packet, source_mac) = (datagram.packet, datagram.source_mac);
        match datagram.icmpv6()? {
            Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Solicitation(message)) => {
                self.receive_solicitation(now, packet, source_mac, &message)
            }
            Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Advertisement(message)) => {
                self.receive_advertisement(now, source_mac, &message)
            }
            _ => Err(Ignored::IcmpType(
                datagram.icmpv6_type().unwrap_or_default(),
            )),
        }
    }

    fn receive_solicitation(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        sender: MacAddr,
        message: &NeighbourSolicitation,
    ) -> Result<Disposition, Ignored> {
        let mac = self.mac;
        let ipv6 = self.ipv6.as_mut().ok_or(Ignored::OtherTarget)?;
        let target = message.target;
        let own = ipv6.addresses.find(target).ok_or(Ignored::OtherTarget)?;
        let is_probe = packet.source.is_unspecified();
        if !own.is_assigned() {
            // Somebody asks for an address that is not ours yet; or tries it too, or it is our own probe.
            if !is_probe || own.is_own_probe(message.nonce) {
                return Err(Ignored::OtherTarget);
            }
            ipv6.decline(now, target, &mut self.random);
            return Ok(Disposition::Taken(Some(conflict(target, sender))));
        }
        let answer = |solicited| NeighbourAdvertisement {
            target,
            target_link: Some(mac),
            router: false,
            solicited,
            overrides: true,
        };
        if is_probe {
            return Ok(Disposition::Advertise {
                advertisement: answer(false),
                envelope: to_group(self.mac, target, ALL_NODES),
                event: None,
            });
        }
        let event = message
            .source_link
            .filter(|mac| mac.is_unicast())
            .and_then(|mac| {
                let heard = self.hear_of(now, packet.source.into(), Claim::of_sender(mac));
                heard.event()
            });
        let envelope = Ipv6Envelope {
            source_mac: self.mac,
            destination_mac: self
                .neighbours
                .get(packet.source.into())
                .or(message.source_link)
                .unwrap_or(sender),
            source: target,
            destination: packet.source,
            traffic_class: 0,
            hop_limit: DEFAULT_TIME_TO_LIVE,
        };
        Ok(Disposition::Advertise {
            advertisement: answer(true),
            envelope,
            event,
        })
    }

    fn receive_advertisement(
        &mut self,
        now: Instant,
        sender: MacAddr,
        message: &NeighbourAdvertisement,
    ) -> Result<Disposition, Ignored> {
        let ipv6 = self.ipv6.as_mut().ok_or(Ignored::OtherTarget)?;
        let target = message.target;
        if let Some(own) = ipv6.addresses.find(target) {
            if message.target_link.unwrap_or(sender) == self.mac {
                // Our own, come back from a port that returns frames: it contradicts nothing.
                return Err(Ignored::BadSource);
            }
            if !own.is_assigned() {
                ipv6.decline(now, target, &mut self.random);
                return Ok(Disposition::Taken(Some(conflict(target, sender))));
            }
            // Both go on using it: unlike IPv4, IPv6 knows no defence (RFC 4862 section 5.4.4).
            return Ok(Disposition::Taken(Some(conflict(target, sender))));
        }
        let link = message.target_link.filter(|mac| mac.is_unicast());
        let known = self.neighbours.get(target.into());
        let claim = Claim::of_advertisement(link, message.solicited, message.overrides);
        let heard = self.hear_of(now, target.into(), claim);
        let answered = message
            .solicited
            .then(|| self.receive_link_reply(now, target.into()))
            .flatten();
        let Heard::Known(event) = self.heard_and_answered(heard, answered) else {
            return Err(Ignored::UnexpectedAdvertisement);
        };
        // One that is not to override what is known changes nothing else either (RFC 4861 section 7.2.5).
        let is_believed = message.overrides || known.is_none() || link.is_none() || link == known;
        if !message.router
            && is_believed
            && let Some(ipv6) = &mut self.ipv6
        {
            ipv6.routes.forget_router(target);
        }
        Ok(Disposition::Taken(event))
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

    /// Announces the address with that number to all nodes (RFC 4861 section 7.2.6). `None` beyond the last one.
    pub(in crate::vm) fn unsolicited_advertisement(
        &self,
        index: usize,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let addresses = self.ipv6.as_ref()?.addresses.iter();
        let mut assigned = addresses.filter(|address| address.is_assigned());
        announcement(self.mac, assigned.nth(index)?.interface.address, buffer)
    }

    /// Does one thing that is due at `now` for the VM's own addresses.
    fn poll_addresses(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let (mac, interval) = (self.mac, self.neighbours.ipv6_retransmit_time());
        let ipv6 = self.ipv6.as_mut()?;
        let (address, due) = ipv6.addresses.overdue(now, interval)?;
        let (length, event) = match due {
            AddressDue::Dad(DadDue::Probe(nonce)) => {
                let group = solicited_node(address);
                let envelope = to_group(mac, Ipv6Addr::UNSPECIFIED, group);
                let message = NeighbourSolicitation {
                    target: address,
                    source_link: None,
                    nonce: Some(nonce),
                };
                (message.write(envelope, buffer), None)
            }
            AddressDue::Dad(DadDue::Announce) => (announcement(mac, address, buffer), None),
            AddressDue::Dad(DadDue::Ready) => {
                if address.is_unicast_link_local() {
                    // Reports that came from nobody are repeated (RFC 3590 section 4).
                    ipv6.mld.announce(now);
                }
                let address = address.into();
                (None, Some(Event::AddressReady { address }))
            }
            AddressDue::Expired => {
                ipv6.mld.changed(now);
                let address = address.into();
                (None, Some(Event::AddressLost { address }))
            }
        };
        Some(Reaction {
            transmit: length.map(|length| Transmit { length, ping: None }),
            event,
        })
    }
}

/// Tells all nodes that `address` is at `mac`.
pub(in crate::vm) fn announcement(
    mac: MacAddr,
    address: Ipv6Addr,
    buffer: &mut [u8],
) -> Option<usize> {
    let message = NeighbourAdvertisement {
        target: address,
        target_link: Some(mac),
        router: false,
        solicited: false,
        overrides: true,
    };
    message.write(to_group(mac, address, ALL_NODES), buffer)
}

fn conflict(address: Ipv6Addr, mac: MacAddr) -> Event {
    Event::Conflict {
        address: address.into(),
        mac,
    }
}
