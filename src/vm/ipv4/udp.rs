//! UDP (RFC 768): replies to probes, services, and ports at which nobody listens.

use crate::time::Instant;
use crate::vm::ip::{Answer, Disposition, ErrorMessage, Input, Protocol, Received};
use crate::vm::service::is_of_service;
use crate::vm::{Ignored, Vm};
use crate::wire::{IcmpErrorKind, Ipv4Packet, PROTOCOL_UDP, UdpDatagram};

/// The row of UDP over IPv4, for ports that no row before it takes.
pub(in crate::vm) const UDP: Protocol = Protocol {
    input: Input::Ipv4(
        |_, datagram| datagram.protocol == PROTOCOL_UDP,
        Vm::receive_udp,
    ),
    ..Protocol::NONE
};

impl Vm {
    fn receive_udp(
        &mut self,
        now: Instant,
        received: &Received<'_, Ipv4Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let packet = received.packet;
        let datagram = UdpDatagram::parse(packet).map_err(Ignored::Malformed)?;
        if let Some(reply) = self.receive_udp_reply(now, packet.source.into(), &datagram) {
            return Ok(Disposition::Taken(Some(reply?)));
        }
        let closed = Ignored::ClosedPort(datagram.destination_port);
        let Some(service) = self.udp_service(packet.source.into(), &datagram) else {
            return Ok(Disposition::Error(ErrorMessage {
                ignored: closed,
                destination: packet.source.into(),
                source: packet.destination.into(),
                kind: IcmpErrorKind::PORT_UNREACHABLE,
                parameter: 0,
            }));
        };
        if is_of_service(datagram.source_port) {
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
