//! What carries a VM's DHCP messages (RFC 2131 section 4.1), and what they do to its address.

use std::net::Ipv4Addr;

use super::{Answer, Due, Outgoing};
use crate::time::Instant;
use crate::vm::ipv4::TIME_TO_LIVE;
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpReply, DhcpRequest, Ipv4Envelope, MacAddr, write_udp,
};

impl Vm {
    /// Takes a message from a server.
    pub(in crate::vm) fn receive_dhcp(
        &mut self,
        now: Instant,
        sender: MacAddr,
        reply: DhcpReply,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let client = self.ipv4.dhcp.as_mut().ok_or(Ignored::UnexpectedDhcp)?;
        let (transmit, event) = match client.receive(now, sender, reply, &mut self.random)? {
            Answer::Send(outgoing) => (self.post(&outgoing, buffer), None),
            Answer::Leased(elapsed) => {
                let address = self.use_lease(now, None);
                let leased = |address| Event::Leased { address, elapsed };
                (None, address.map(leased))
            }
            Answer::Renewed(previous) => {
                let address = self.use_lease(now, Some(previous));
                let renewed = |address| Event::Renewed { address, previous };
                (None, address.map(renewed))
            }
            Answer::Refused(None) => (None, None),
            Answer::Refused(Some(address)) => (None, Some(self.lose_lease(address))),
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
        self.post(&outgoing, buffer)
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
        Event::LeaseLost { address }
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
        let length = write_udp(&envelope, ports, DhcpRequest::LENGTH, fill, buffer)?;
        Some(Transmit { length, ping: None })
    }
}
