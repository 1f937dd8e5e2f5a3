//! UDP over IPv6: replies to probes, services, and ports at which nobody listens.

use crate::time::Instant;
use crate::vm::ip::{Answer, Disposition, Input, Protocol, Received};
use crate::vm::service::is_of_service;
use crate::vm::{Ignored, Vm};
use crate::wire::{Icmpv6Error, Ipv6Packet, PROTOCOL_UDP, UdpDatagram};

/// The row of UDP over IPv6, for ports that no row before it takes.
pub(in crate::vm) const UDP: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| datagram.protocol == PROTOCOL_UDP,
        Vm::receive_ipv6_udp,
    ),
    ..Protocol::NONE
};

impl Vm {
    fn receive_ipv6_udp(
        &mut self,
        now: Instant,
        received: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let packet = received.packet;
        let datagram = UdpDatagram::parse_ipv6(packet, received.payload, received.offset);
        let datagram = datagram.map_err(Ignored::Malformed)?;
        if let Some(reply) = self.receive_udp_reply(now, packet.source.into(), &datagram) {
            return Ok(Disposition::Taken(Some(reply?)));
        }
        let closed = Ignored::ClosedPort(datagram.destination_port);
        let Some(service) = self.udp_service(packet.source.into(), &datagram) else {
            let error = (Icmpv6Error::PORT_UNREACHABLE, 0);
            return self.refuse_ipv6(packet, closed, error, None);
        };
        // All VMs would answer what went to a group.
        if is_of_service(datagram.source_port)
            || packet.destination.is_multicast()
            || packet.source.is_unspecified()
        {
            return Err(closed);
        }
        Ok(Disposition::Answer(Answer {
            service,
            offset: received.offset,
            destination: packet.source.into(),
            source: packet.destination.into(),
        }))
    }
}
