//! UDP (RFC 768): the echo service (RFC 862), and ports at which nobody listens.

use super::ipv4::Action;
use super::{Ignored, Vm};
use crate::wire::{IcmpErrorKind, Ipv4Packet, UdpDatagram};

/// The port of the echo service.
pub(super) const ECHO_PORT: u16 = 7;

impl Vm {
    pub(super) fn receive_udp(&mut self, packet: &Ipv4Packet<'_>) -> Result<Action, Ignored> {
        let datagram = UdpDatagram::parse(packet).map_err(Ignored::Malformed)?;
        let port = datagram.destination_port;
        if port != ECHO_PORT || !self.config.ipv4.udp_echo {
            return Ok(Action::Refuse {
                kind: IcmpErrorKind::PORT_UNREACHABLE,
                source: packet.source,
                ignored: Ignored::ClosedPort(port),
            });
        }
        // Two echo services would send one datagram to and fro for ever, if somebody forged the first.
        if datagram.source_port == ECHO_PORT {
            return Err(Ignored::ClosedPort(port));
        }
        Ok(Action::UdpEcho {
            header_length: packet.header_length,
        })
    }
}
