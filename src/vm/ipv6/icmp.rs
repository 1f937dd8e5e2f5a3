//! ICMPv6 (RFC 4443): echo, and errors about our pings. Messages of other protocols are taken by rows before this one.

use crate::time::Instant;
use crate::vm::ip::{Answer, Disposition, Input, Protocol, Received, Service};
use crate::vm::probe::payload::Contents;
use crate::vm::{Event, Ignored, Vm};
use crate::wire::{Icmpv6Message, Ipv6Packet, PROTOCOL_ICMPV6};

/// The row of ICMPv6, for types that no row before it takes.
pub(in crate::vm) const ICMP: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| datagram.protocol == PROTOCOL_ICMPV6,
        Vm::receive_icmpv6,
    ),
    ..Protocol::NONE
};

impl<'a> Received<'a, Ipv6Packet<'_>> {
    /// The type of an ICMPv6 message; `None` for anything else.
    pub(super) fn icmpv6_type(&self) -> Option<u8> {
        let kind = self.payload.first().copied();
        kind.filter(|_| self.protocol == PROTOCOL_ICMPV6)
    }

    /// Reads an ICMPv6 message.
    pub(super) fn icmpv6(&self) -> Result<Icmpv6Message<'a>, Ignored> {
        let message = Icmpv6Message::parse(self.packet, self.payload, self.offset);
        message.map_err(Ignored::Malformed)
    }
}

impl Vm {
    fn receive_icmpv6(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let packet = datagram.packet;
        let mut contents = None;
        let (payload, offset) = (datagram.payload, datagram.offset);
        let message = Icmpv6Message::parse_summed(packet, payload, offset, |payload| {
            contents.insert(Contents::of(payload)).sum()
        });
        match message.map_err(Ignored::Malformed)? {
            Icmpv6Message::EchoRequest(_) => {
                let ipv6 = self.ipv6.as_ref().ok_or(Ignored::OtherAddress)?;
                if packet.source.is_unspecified() {
                    return Err(Ignored::BadSource);
                }
                let source = if packet.destination.is_multicast() {
                    ipv6.source_for(now, packet.source)
                } else {
                    Some(packet.destination)
                };
                Ok(Disposition::Answer(Answer {
                    service: Service::Echo,
                    offset: datagram.offset,
                    destination: packet.source.into(),
                    source: source.ok_or(Ignored::OtherAddress)?.into(),
                }))
            }
            Icmpv6Message::EchoReply(echo) => {
                let contents = contents.unwrap_or_else(|| Contents::of(echo.payload));
                let reply = self.receive_echo_reply(now, packet.source.into(), &echo, contents);
                let (ping, outcome) = reply.ok_or(Ignored::UnexpectedEchoReply)?;
                Ok(Disposition::Taken(Some(Event::Ping(ping, outcome))))
            }
            Icmpv6Message::Error(error) => self.receive_icmpv6_error(now, &error),
            Icmpv6Message::NeighbourDiscovery(_)
            | Icmpv6Message::MldQuery(_)
            | Icmpv6Message::MldReport(_) => Err(Ignored::Protocol(datagram.protocol)),
            Icmpv6Message::Other { kind, .. } => Err(Ignored::IcmpType(kind)),
        }
    }
}
