//! TCP (RFC 9293) over IPv4.

use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::{Ignored, Vm};
use crate::wire::{Ipv4Packet, PROTOCOL_TCP, TcpSegment};

/// The row of TCP over IPv4.
pub(in crate::vm) const TCP: Protocol = Protocol {
    input: Input::Ipv4(
        |_, datagram| datagram.protocol == PROTOCOL_TCP,
        Vm::receive_tcp,
    ),
    ..Protocol::NONE
};

impl Vm {
    fn receive_tcp(
        &mut self,
        now: Instant,
        received: &Received<'_, Ipv4Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let packet = received.packet;
        let segment = TcpSegment::parse(packet).map_err(Ignored::Malformed)?;
        if received.is_shared || packet.destination.is_multicast() {
            return Err(Ignored::ClosedPort(segment.destination_port));
        }
        let addresses = (packet.source.into(), packet.destination.into());
        self.receive_segment(now, addresses, received.offset, &segment)
    }
}
