//! TCP over IPv6: see [`crate::vm::ipv4::tcp`].

use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::{Ignored, Vm};
use crate::wire::{Ipv6Packet, PROTOCOL_TCP, TcpSegment};

/// The row of TCP over IPv6.
pub(in crate::vm) const TCP: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| datagram.protocol == PROTOCOL_TCP,
        Vm::receive_ipv6_tcp,
    ),
    ..Protocol::NONE
};

impl Vm {
    /// A segment to a group, or from nobody, gets no answer.
    fn receive_ipv6_tcp(
        &mut self,
        now: Instant,
        received: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let packet = received.packet;
        let segment = TcpSegment::parse_ipv6(packet, received.payload, received.offset);
        let segment = segment.map_err(Ignored::Malformed)?;
        let is_for_many = received.is_shared || packet.destination.is_multicast();
        if is_for_many || packet.source.is_unspecified() {
            return Err(Ignored::ClosedPort(segment.destination_port));
        }
        let addresses = (packet.source.into(), packet.destination.into());
        self.receive_segment(now, addresses, received.offset, &segment)
    }
}
