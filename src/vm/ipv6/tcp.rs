//! TCP over IPv6: see [`crate::vm::ipv4::tcp`].

use crate::vm::Ignored;
use crate::vm::ip::{Answer, Disposition, Input, Protocol, Received, Service};
use crate::wire::{Ipv6Packet, PROTOCOL_TCP, TcpSegment};

/// The row of TCP over IPv6.
pub(in crate::vm) const TCP: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| datagram.protocol == PROTOCOL_TCP,
        |_, _, datagram| receive(datagram),
    ),
    ..Protocol::NONE
};

/// A segment to a group, or from nobody, gets no answer.
fn receive(datagram: &Received<'_, Ipv6Packet<'_>>) -> Result<Disposition, Ignored> {
    let packet = datagram.packet;
    let segment = TcpSegment::parse_ipv6(packet, datagram.payload, datagram.offset);
    let segment = segment.map_err(Ignored::Malformed)?;
    if packet.destination.is_multicast() || packet.source.is_unspecified() || segment.is_reset {
        return Err(Ignored::ClosedPort(segment.destination_port));
    }
    Ok(Disposition::Answer(Answer {
        service: Service::TcpReset(segment),
        offset: datagram.offset,
        destination: datagram.packet.source.into(),
        source: packet.destination.into(),
    }))
}
