//! The frames that carry a VM's DHCP messages (RFC 2131 section 4.1), and what the messages do to its address.

use std::net::Ipv4Addr;

use super::{Answer, Due, Outgoing};
use crate::time::Instant;
use crate::vm::ip::{DEFAULT_TIME_TO_LIVE, Disposition, Input, Protocol, Received};
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpReply, DhcpRequest, Ipv4Envelope, Ipv4Packet, MacAddr,
    PROTOCOL_UDP, UDP_HEADER_LENGTH, UdpDatagram, write_udp,
};

/// The row of DHCP. A server may send to an address that the VM does not have yet; that the frame came to this VM is
/// enough.
pub(in crate::vm) const DHCP: Protocol = Protocol {
    input: Input::AnyIpv4(
        |vm, datagram| {
            vm.ipv4.dhcp.is_some()
                && datagram.protocol == PROTOCOL_UDP
                && datagram.payload.get(2..4) == Some(&DHCP_CLIENT_PORT.to_be_bytes())
        },
        Vm::receive_dhcp,
    ),
    poll: Vm::poll_dhcp,
    deadline: |vm| vm.ipv4.dhcp.as_ref()?.deadline(),
    leave: Vm::release_dhcp,
    ..Protocol::NONE
};

impl Vm {
    /// Takes a message from a server.
    fn receive_dhcp(
        &mut self,
        now: Instant,
        received: &Received<'_, Ipv4Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let datagram = UdpDatagram::parse(received.packet).map_err(Ignored::Malformed)?;
        let offset = received.offset + UDP_HEADER_LENGTH;
        let reply = DhcpReply::parse(datagram.payload, offset).map_err(Ignored::Malformed)?;
        let client = self.ipv4.dhcp.as_mut().ok_or(Ignored::UnexpectedDhcp)?;
        let event = match client.receive(now, received.source_mac, reply, &mut self.random)? {
            Answer::Requesting => return Ok(Disposition::Send(Vm::poll_dhcp)),
            Answer::Leased(elapsed) => {
                let address = self.use_lease(now, None);
                address.map(|address| Event::Leased {
                    address: address.into(),
                    elapsed,
                })
            }
            Answer::Renewed(previous) => {
                let address = self.use_lease(now, Some(previous));
                address.map(|address| Event::Renewed {
                    address: address.into(),
                    previous: previous.into(),
                })
            }
            Answer::Refused(address) => address.map(|address| self.lose_lease(address)),
        };
        Ok(Disposition::Taken(event))
    }

    /// Sends the message that is due at `now`, or gives up the address whose lease has run out.
    fn poll_dhcp(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let client = self.ipv4.dhcp.as_mut()?;
        Some(match client.overdue(now, &mut self.random)? {
            Due::Send(outgoing) => Reaction {
                transmit: self.send_dhcp(now, &outgoing, buffer),
                event: None,
            },
            Due::Expired(address) => Reaction {
                transmit: None,
                event: Some(self.lose_lease(address)),
            },
        })
    }

    /// Tells the server that somebody else uses the address that it granted.
    pub(in crate::vm) fn decline_lease(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let outgoing = self.ipv4.dhcp.as_mut()?.decline(now, &mut self.random)?;
        self.ipv4.link_mtu = None;
        self.send_dhcp(now, &outgoing, buffer)
    }

    /// Gives the address back, because the VM stops.
    fn release_dhcp(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        let outgoing = self.ipv4.dhcp.as_mut()?.release(now, &mut self.random)?;
        self.send_dhcp(now, &outgoing, buffer)
    }

    /// Takes into use all that the client's lease brings: the address, its network, the gateway and the MTU. Returns the
    /// address, which was `previous` so far.
    fn use_lease(&mut self, now: Instant, previous: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let lease = self.ipv4.dhcp.as_ref()?.lease()?;
        let interface = lease.interface();
        self.ipv4.link_mtu = lease.mtu(self.mtu);
        if previous == Some(interface.address) {
            self.ipv4.acd.update(interface);
        } else if self.ipv4.probe {
            self.ipv4.acd.probe(interface, now);
        } else {
            let announce = self.ipv4.announce.map(|_| now);
            self.ipv4.acd.take(interface, announce);
        }
        Some(interface.address)
    }

    /// Uses nothing any longer that the lease of `address` brought.
    fn lose_lease(&mut self, address: Ipv4Addr) -> Event {
        self.ipv4.acd.release();
        self.ipv4.link_mtu = None;
        Event::LeaseLost {
            address: address.into(),
        }
    }

    fn send_dhcp(&self, now: Instant, outgoing: &Outgoing, buffer: &mut [u8]) -> Option<Transmit> {
        let (destination_mac, destination) = match outgoing.to {
            None => (MacAddr::BROADCAST, Ipv4Addr::BROADCAST),
            Some((granted_by, server)) => {
                let next_hop = self.ipv4.next_hop(now, server);
                let known = next_hop.and_then(|next_hop| self.neighbours.get(next_hop.into()));
                (known.unwrap_or(granted_by), server)
            }
        };
        let envelope = Ipv4Envelope {
            source_mac: self.mac,
            destination_mac,
            source: outgoing.request.client_address,
            destination,
            time_to_live: DEFAULT_TIME_TO_LIVE,
            dscp: 0,
            dont_fragment: false,
            identification: 0,
        };
        let ports = (DHCP_CLIENT_PORT, DHCP_SERVER_PORT);
        let fill = |space: &mut [u8]| outgoing.request.write(space);
        let length = write_udp(&envelope, ports, DhcpRequest::LENGTH, fill, buffer)?;
        Some(Transmit { length, ping: None })
    }
}
