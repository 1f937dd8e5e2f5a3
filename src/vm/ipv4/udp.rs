//! UDP (RFC 768): the echo service (RFC 862), what comes from DHCP servers, and ports at which nobody listens.

use super::Action;
use super::responder::Service;
use crate::vm::{Ignored, Vm};
use crate::wire::{
    DHCP_CLIENT_PORT, DhcpReply, IcmpErrorKind, Ipv4Packet, PROTOCOL_UDP, UDP_HEADER_LENGTH,
    UdpDatagram,
};

/// The port of the echo service.
pub(in crate::vm) const ECHO_PORT: u16 = 7;

impl Vm {
    /// What a DHCP server says, if this VM has a client for it. A server may send it to an address that the VM does not
    /// have yet; that the frame came to this VM is enough.
    pub(in crate::vm) fn dhcp_reply(
        &self,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Option<DhcpReply>, Ignored> {
        if self.ipv4.dhcp.is_none() || packet.protocol != PROTOCOL_UDP || packet.is_fragment {
            return Ok(None);
        }
        let datagram = UdpDatagram::parse(packet).map_err(Ignored::Malformed)?;
        if datagram.destination_port != DHCP_CLIENT_PORT {
            return Ok(None);
        }
        let offset = packet.payload_offset + UDP_HEADER_LENGTH;
        let reply = DhcpReply::parse(datagram.payload, offset).map_err(Ignored::Malformed)?;
        Ok(Some(reply))
    }

    pub(super) fn receive_udp(&mut self, packet: &Ipv4Packet<'_>) -> Result<Action, Ignored> {
        let datagram = UdpDatagram::parse(packet).map_err(Ignored::Malformed)?;
        let port = datagram.destination_port;
        if port != ECHO_PORT || !self.ipv4.udp_echo {
            return Ok(Action::Refuse {
                kind: IcmpErrorKind::PORT_UNREACHABLE,
                pointer: 0,
                source: packet.source,
                ignored: Ignored::ClosedPort(port),
            });
        }
        // Two echo services would send one datagram to and fro for ever, if somebody forged the first.
        if datagram.source_port == ECHO_PORT {
            return Err(Ignored::ClosedPort(port));
        }
        Ok(Action::Answer(Service::UdpEcho {
            header_length: packet.header_length,
        }))
    }
}
