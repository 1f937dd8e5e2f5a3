//! TCP (RFC 9293) of a host that listens at no port: a segment is answered with a reset, as often as it comes.

use crate::vm::Ignored;
use crate::vm::ip::{Answer, Disposition, Input, Protocol, Received, Service};
use crate::wire::{Ipv4Packet, PROTOCOL_TCP, TcpSegment};

/// The row of TCP over IPv4.
pub(in crate::vm) const TCP: Protocol = Protocol {
    input: Input::Ipv4(
        |_, datagram| datagram.protocol == PROTOCOL_TCP,
        |_, _, datagram| receive(datagram),
    ),
    ..Protocol::NONE
};

fn receive(datagram: &Received<'_, Ipv4Packet<'_>>) -> Result<Disposition, Ignored> {
    let segment = TcpSegment::parse(datagram.packet).map_err(Ignored::Malformed)?;
    if datagram.packet.destination.is_multicast() || segment.is_reset {
        return Err(Ignored::ClosedPort(segment.destination_port));
    }
    Ok(Disposition::Answer(Answer {
        service: Service::TcpReset(segment),
        offset: datagram.offset,
        destination: datagram.packet.source.into(),
        source: datagram.packet.destination.into(),
    }))
}
