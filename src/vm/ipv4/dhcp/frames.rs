//! The frames that carry a VM's DHCP messages (RFC 2131 section 4.1), and what the messages do to its address.

use std::net::Ipv4Addr;

use super::{Answer, Due, Outgoing};
use crate::time::Instant;
use crate::vm::ip::{DEFAULT_TIME_TO_LIVE, Disposition, Input, Protocol, Received};
use crate::vm::{Event, Ignored, Ipv4Interface, Reaction, Transmit, Vm};
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
        let client = self.ipv4.dhcp.as_mut();
        let answer = client
            .and_then(|client| client.receive(now, received.source_mac, &reply, &mut self.random))
            .ok_or(Ignored::UnexpectedDhcp)?;
        let event = match answer {
            Answer::Requesting => return Ok(Disposition::Send(Vm::poll_dhcp)),
            Answer::Leased(interface, elapsed) => {
                self.use_lease(now, interface);
                let address = interface.address;
                Some(Event::Leased { address, elapsed })
            }
            Answer::Renewed(address) => Some(Event::Renewed { address }),
            Answer::Refused(None) => None,
            Answer::Refused(Some(address)) => {
                self.ipv4.acd.release();
                Some(Event::LeaseLost { address })
            }
        };
        Ok(Disposition::Taken(event))
    }

    /// Sends the message that is due at `now`, or gives up the address whose lease has run out.
    fn poll_dhcp(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let client = self.ipv4.dhcp.as_mut()?;
        Some(match client.overdue(now, &mut self.random)? {
            Due::Send(outgoing) => Reaction {
                transmit: self.send_dhcp(&outgoing, buffer),
                event: None,
            },
            Due::Expired(address) => {
                self.ipv4.acd.release();
                Reaction {
                    transmit: None,
                    event: Some(Event::LeaseLost { address }),
                }
            }
        })
    }

    /// Tells the server that somebody else uses the address that it granted.
    pub(in crate::vm) fn decline_lease(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let outgoing = self.ipv4.dhcp.as_mut()?.decline(now, &mut self.random)?;
        self.send_dhcp(&outgoing, buffer)
    }

    fn use_lease(&mut self, now: Instant, interface: Ipv4Interface) {
        if self.ipv4.probe {
            self.ipv4.acd.probe(interface, now);
        } else {
            let announce = self.ipv4.announce.map(|_| now);
            self.ipv4.acd.take(interface, announce);
        }
    }

    fn send_dhcp(&self, outgoing: &Outgoing, buffer: &mut [u8]) -> Option<Transmit> {
        let (destination_mac, destination) = outgoing
            .to
            .unwrap_or((MacAddr::BROADCAST, Ipv4Addr::BROADCAST));
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
        let length = write_udp(&envelope, ports, DhcpRequest::MAX_LENGTH, fill, buffer)?;
        Some(Transmit { length, ping: None })
    }
}
