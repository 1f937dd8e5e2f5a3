//! What carries a VM's DHCP messages (RFC 2131 section 4.1), and what they do to its address.

use std::net::Ipv4Addr;

use super::{Answer, Due, Outgoing};
use crate::time::Instant;
use crate::vm::ipv4::TIME_TO_LIVE;
use crate::vm::{Event, Ignored, Ipv4Interface, Reaction, Transmit, Vm};
use crate::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpReply, DhcpRequest, Ipv4Envelope, MacAddr, write_udp,
};

impl Vm {
    /// Takes a message from a server.
    pub(in crate::vm) fn receive_dhcp(
        &mut self,
        now: Instant,
        sender: MacAddr,
        reply: &DhcpReply,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let client = self.ipv4.dhcp.as_mut();
        let answer = client
            .and_then(|client| client.receive(now, sender, reply, &mut self.random))
            .ok_or(Ignored::UnexpectedDhcp)?;
        let (transmit, event) = match answer {
            Answer::Send(outgoing) => (self.post(&outgoing, buffer), None),
            Answer::Leased(interface, elapsed) => {
                self.use_lease(now, interface);
                let address = interface.address;
                (None, Some(Event::Leased { address, elapsed }))
            }
            Answer::Renewed(address) => (None, Some(Event::Renewed { address })),
            Answer::Refused(None) => (None, None),
            Answer::Refused(Some(address)) => {
                self.ipv4.acd.release();
                (None, Some(Event::LeaseLost { address }))
            }
        };
        Ok(Reaction { transmit, event })
    }

    /// Sends the message that is due at `now`, or gives up the address whose lease has run out.
    pub(in crate::vm) fn poll_dhcp(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let client = self.ipv4.dhcp.as_mut()?;
        Some(match client.overdue(now, &mut self.random)? {
            Due::Send(outgoing) => Reaction {
                transmit: self.post(&outgoing, buffer),
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
        self.post(&outgoing, buffer)
    }

    fn use_lease(&mut self, now: Instant, interface: Ipv4Interface) {
        if self.ipv4.probe {
            self.ipv4.acd.probe(interface, now);
        } else {
            let announce = self.ipv4.announce.map(|_| now);
            self.ipv4.acd.take(interface, announce);
        }
    }

    fn post(&self, outgoing: &Outgoing, buffer: &mut [u8]) -> Option<Transmit> {
        let (destination_mac, destination) = outgoing
            .to
            .unwrap_or((MacAddr::BROADCAST, Ipv4Addr::BROADCAST));
        let envelope = Ipv4Envelope {
            source_mac: self.mac,
            destination_mac,
            source: outgoing.request.client_address,
            destination,
            time_to_live: TIME_TO_LIVE,
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
