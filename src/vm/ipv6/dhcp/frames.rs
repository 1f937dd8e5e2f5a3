//! The frames that carry a VM's DHCPv6 messages (RFC 8415 section 7.1 and 7.2), and what the messages do to its
//! addresses.

use std::net::Ipv6Addr;

use super::lease::Lease;
use super::{Answer, Due, Outgoing};
use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::ipv6::{Ipv6, to_group};
use crate::vm::{Event, Ignored, Ipv6Interface, Reaction, Transmit, Vm};
use crate::wire::{
    ALL_DHCPV6_SERVERS, DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT, Dhcpv6Reply, Ipv6Packet,
    PROTOCOL_UDP, UDP_HEADER_LENGTH, UdpDatagram, write_ipv6_udp,
};

/// The row of DHCPv6. Nothing is due before the link-local address is there, which the messages come from.
pub(in crate::vm) const DHCP: Protocol = Protocol {
    input: Input::Ipv6(
        |vm, datagram| {
            vm.ipv6.as_ref().is_some_and(|ipv6| ipv6.dhcp.is_some())
                && datagram.protocol == PROTOCOL_UDP
                && datagram.payload.get(2..4) == Some(&DHCPV6_CLIENT_PORT.to_be_bytes())
        },
        Vm::receive_dhcpv6,
    ),
    poll: Vm::poll_dhcpv6,
    deadline: |vm| {
        let ipv6 = vm.ipv6.as_ref()?;
        let client = ipv6.dhcp.as_ref()?;
        (!ipv6.link_local_source().is_unspecified()).then(|| client.deadline())
    },
    leave: Vm::release_dhcpv6,
    ..Protocol::NONE
};

impl Vm {
    /// Takes a message from a server.
    fn receive_dhcpv6(
        &mut self,
        now: Instant,
        received: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let datagram = UdpDatagram::parse_ipv6(received.packet, received.payload, received.offset);
        let datagram = datagram.map_err(Ignored::Malformed)?;
        let offset = received.offset + UDP_HEADER_LENGTH;
        let reply = Dhcpv6Reply::parse(datagram.payload, offset).map_err(Ignored::Malformed)?;
        let ipv6 = self.ipv6.as_mut().ok_or(Ignored::UnexpectedDhcp)?;
        let client = ipv6.dhcp.as_mut().ok_or(Ignored::UnexpectedDhcp)?;
        let event = match client.receive(now, &reply, &mut self.random)? {
            Answer::Kept => None,
            Answer::Requesting => return Ok(Disposition::Send(Vm::poll_dhcpv6)),
            Answer::Leased(elapsed) => {
                let address = ipv6.use_lease(now, None, &mut self.random);
                address.map(|address| Event::Leased {
                    address: address.into(),
                    elapsed,
                })
            }
            Answer::Renewed(previous) => {
                let address = ipv6.use_lease(now, Some(&previous), &mut self.random);
                address.map(|address| Event::Renewed {
                    address: address.into(),
                    previous: previous.address().into(),
                })
            }
            Answer::Refused(lease) => lease.map(|lease| ipv6.lose_lease(now, &lease)),
        };
        Ok(Disposition::Taken(event))
    }

    /// Sends the message that is due at `now`, or gives up the addresses whose lease has run out.
    fn poll_dhcpv6(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let ipv6 = self.ipv6.as_mut()?;
        if ipv6.link_local_source().is_unspecified() {
            return None;
        }
        Some(match ipv6.dhcp.as_mut()?.overdue(now, &mut self.random)? {
            Due::Send(outgoing) => Reaction {
                transmit: self.send_dhcpv6(&outgoing, buffer),
                event: None,
            },
            Due::Lost(lease) => Reaction {
                transmit: None,
                event: Some(ipv6.lose_lease(now, &lease)),
            },
        })
    }

    /// Gives the addresses back, because the VM stops.
    fn release_dhcpv6(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        let client = self.ipv6.as_mut()?.dhcp.as_mut()?;
        let outgoing = client.release(now, &mut self.random)?;
        self.send_dhcpv6(&outgoing, buffer)
    }

    fn send_dhcpv6(&self, outgoing: &Outgoing, buffer: &mut [u8]) -> Option<Transmit> {
        let source = self.ipv6.as_ref()?.link_local_source();
        let envelope = to_group(self.mac, source, ALL_DHCPV6_SERVERS);
        let ports = (DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT);
        let request = outgoing.request(self.mac);
        let length = write_ipv6_udp(&envelope, ports, |space| request.write(space), buffer)?;
        Some(Transmit { length, ping: None })
    }
}

impl Ipv6 {
    /// Takes the addresses of the client's lease into use, for as long as it says, and gives up those that only the
    /// `previous` one had. Each is tried first if so told. Returns the first.
    fn use_lease(
        &mut self,
        now: Instant,
        previous: Option<&Lease>,
        random: &mut fastrand::Rng,
    ) -> Option<Ipv6Addr> {
        let lease = self.dhcp.as_ref()?.lease()?;
        let is_kept = |address| lease.addresses.iter().any(|kept| kept.address == address);
        for gone in previous.into_iter().flat_map(|lease| &lease.addresses) {
            if !is_kept(gone.address) {
                self.addresses.remove(gone.address);
            }
        }
        for leased in &lease.addresses {
            match self.addresses.find_mut(leased.address) {
                // One that the VM was told stays as it is.
                Some(known) => known.lifetime = known.lifetime.and(Some(leased.lifetime)),
                None => {
                    // A prefix that is on the link is a router's to tell, not a server's.
                    let interface = Ipv6Interface {
                        address: leased.address,
                        prefix_length: 128,
                    };
                    let probe = self.probe.then_some(now);
                    let lifetime = Some(leased.lifetime);
                    self.addresses.add(now, interface, lifetime, probe, random);
                    self.mld.changed(now);
                }
            }
        }
        Some(lease.address())
    }

    /// Uses none of the addresses of `lease` any longer.
    fn lose_lease(&mut self, now: Instant, lease: &Lease) -> Event {
        self.remove_leased(now, lease);
        Event::LeaseLost {
            address: lease.address().into(),
        }
    }

    /// Gives up `address`, which somebody else has or tries too, and with it the lease that it is of, if any.
    pub(in crate::vm) fn decline(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        random: &mut fastrand::Rng,
    ) {
        let client = self.dhcp.as_mut();
        if let Some(lease) = client.and_then(|client| client.decline(now, address, random)) {
            self.remove_leased(now, &lease);
        }
        self.addresses.remove(address);
        self.mld.changed(now);
    }

    fn remove_leased(&mut self, now: Instant, lease: &Lease) {
        for leased in &lease.addresses {
            self.addresses.remove(leased.address);
        }
        self.mld.changed(now);
    }
}
