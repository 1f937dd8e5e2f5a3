//! UDP over IPv6: the echo service (RFC 862), and ports at which nobody listens.

use super::{Received, Vm};
use crate::vm::Ignored;
use crate::vm::ipv4::ECHO_PORT;
use crate::wire::{Icmpv6Error, Ipv6Packet, UdpDatagram};

/// Port unreachable, a code of destination unreachable.
const PORT_UNREACHABLE: u8 = 4;

impl Vm {
    pub(super) fn receive_ipv6_udp(
        &mut self,
        packet: &Ipv6Packet<'_>,
        offset: usize,
        payload: &[u8],
    ) -> Result<Received, Ignored> {
        let datagram =
            UdpDatagram::parse_ipv6(packet, payload, offset).map_err(Ignored::Malformed)?;
        let port = datagram.destination_port;
        let closed = Ignored::ClosedPort(port);
        if port != ECHO_PORT || !self.ipv4.udp_echo {
            let error = (Icmpv6Error::DESTINATION_UNREACHABLE, PORT_UNREACHABLE, 0);
            return self.refuse_ipv6(packet, closed, error, false);
        }
        let hop_limit = self.ipv6.as_ref().ok_or(closed)?.hop_limit;
        // Two echo services would send one datagram to and fro for ever, if somebody forged the first; and all of them
        // would answer what went to a group.
        if datagram.source_port == ECHO_PORT
            || packet.destination.is_multicast()
            || packet.source.is_unspecified()
        {
            return Err(closed);
        }
        Ok(Received::UdpEcho { offset, hop_limit })
    }
}
