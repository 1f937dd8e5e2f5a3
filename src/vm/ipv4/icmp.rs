//! ICMP (RFC 792, RFC 1122 section 3.2.2): echo, errors about our pings, and errors about what others send us.

use std::net::{IpAddr, Ipv4Addr};

use super::responder::Service;
use super::{Action, TIME_TO_LIVE, is_host};
use crate::time::Instant;
use crate::vm::{
    Event, Ignored, Ipv4Interface, PingError, PingId, PingOutcome, Reaction, SessionId, Transmit,
    Vm,
};
use crate::wire::{
    Echo, EthernetFrame, IPV4_HEADER_LENGTH, IcmpError, IcmpErrorKind, IcmpMessage, Ipv4Packet,
    PlainEcho, turn_into_echo_reply, turn_into_icmp_error,
};

impl Vm {
    /// Answers an echo request that came in the plainest of frames. `None`, and nothing has happened, when there is
    /// anything out of the ordinary about it, or it is something else: [`Vm::receive`] tells what. Such an answer does not
    /// depend on the time, so that who expects a request need not look at the clock.
    #[inline]
    pub fn answer_plain_echo(&mut self, frame: &mut [u8]) -> Option<Transmit> {
        let echo = PlainEcho::parse_request(frame)?;
        self.is_plainly_for_us(&echo).then_some(())?;
        self.turn_into_reply(frame)
    }

    /// Answers an echo request, or takes an echo reply, that came in the plainest of frames. `None`, and nothing has
    /// happened, when there is anything out of the ordinary about it: the long way tells what.
    #[inline]
    pub(in crate::vm) fn receive_plain_echo(
        &mut self,
        now: Instant,
        frame: &mut [u8],
    ) -> Option<Reaction> {
        let echo = PlainEcho::parse(frame)?;
        self.is_plainly_for_us(&echo).then_some(())?;
        if echo.is_request {
            return Some(Reaction {
                transmit: Some(self.turn_into_reply(frame)?),
                event: None,
            });
        }
        let (ping, outcome) = self.receive_echo_reply(now, echo.source, &echo.echo)?;
        Some(Reaction {
            transmit: None,
            event: Some(Event::Ping(ping, outcome)),
        })
    }

    fn is_plainly_for_us(&self, echo: &PlainEcho<'_>) -> bool {
        let is_to_us = |interface: &Ipv4Interface| {
            echo.destination == interface.address && interface.may_be_sender(echo.source)
        };
        echo.destination_mac == self.mac
            && self.vlan.is_none()
            && self.carries(echo.length)
            && self.ipv4.interface().is_some_and(is_to_us)
    }

    fn turn_into_reply(&mut self, frame: &mut [u8]) -> Option<Transmit> {
        let id = self.ipv4.next_identification();
        let length = turn_into_echo_reply(frame, IPV4_HEADER_LENGTH, self.mac, TIME_TO_LIVE, id)?;
        Some(Transmit { length, ping: None })
    }

    /// Ends the ping that an echo reply from `source` answers.
    fn receive_echo_reply(
        &mut self,
        now: Instant,
        source: Ipv4Addr,
        echo: &Echo<'_>,
    ) -> Option<(PingId, PingOutcome)> {
        let id = SessionId(echo.identifier);
        let session = self.session_mut(id)?;
        if session.config.destination != IpAddr::V4(source) {
            return None;
        }
        let (sequence, outcome) = session.reply(echo.sequence, echo.payload, now)?;
        let ping = PingId {
            session: id,
            sequence,
        };
        Some((ping, outcome))
    }

    pub(super) fn receive_icmp(
        &mut self,
        now: Instant,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Action, Ignored> {
        match IcmpMessage::parse(packet).map_err(Ignored::Malformed)? {
            IcmpMessage::EchoRequest(_) => Ok(Action::Answer(Service::Echo {
                header_length: packet.header_length,
            })),
            IcmpMessage::TimestampRequest => Ok(Action::Answer(Service::Time {
                header_length: packet.header_length,
            })),
            IcmpMessage::EchoReply(echo) => {
                let (ping, outcome) = self
                    .receive_echo_reply(now, packet.source, &echo)
                    .ok_or(Ignored::UnexpectedEchoReply)?;
                Ok(Action::Ping(ping, outcome))
            }
            IcmpMessage::Error(error) => self
                .receive_icmp_error(now, &error)
                .ok_or(Ignored::UnexpectedIcmpError),
            IcmpMessage::Other { kind, .. } => Err(Ignored::IcmpType(kind)),
        }
    }

    /// Ends the ping that an error quotes. Anybody on the way may have sent it, but only about a ping that is on its
    /// way: who can't see our pings can't end them but by chance.
    fn receive_icmp_error(&mut self, now: Instant, error: &IcmpError) -> Option<Action> {
        let quoted = error.quoted?;
        if Some(quoted.source) != self.address() {
            return None;
        }
        let id = SessionId(quoted.identifier);
        let session = self.session_mut(id)?;
        if session.config.destination != IpAddr::V4(quoted.destination) {
            return None;
        }
        let (sequence, due) = session.fail(quoted.sequence, now)?;
        let ping = PingId {
            session: id,
            sequence,
        };
        let error = ping_error(error.kind);
        Some(Action::Ping(ping, PingOutcome::Errored { due, error }))
    }

    /// Turns the datagram in `buffer`, from `source`, into an error about it, unless there were too many of late or RFC
    /// 1122 section 3.2.2 forbids it: what went to more than one station gets no answer. (It also forbids errors about
    /// errors, and about fragments but the first, which don't come here.)
    pub(super) fn refuse_ipv4(
        &mut self,
        now: Instant,
        error: (IcmpErrorKind, u8),
        source: Ipv4Addr,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let frame = EthernetFrame::parse(buffer).ok()?;
        let own = self.address()?;
        if frame.destination.is_multicast()
            || !is_host(source)
            || !self.ipv4.limiter.allow(now, source.into())
        {
            return None;
        }
        let identification = self.ipv4.next_identification();
        let mac = self.mac;
        let length = turn_into_icmp_error(buffer, error, mac, own, TIME_TO_LIVE, identification)?;
        Some(Transmit { length, ping: None })
    }
}

/// What an error means for the ping that it quotes.
fn ping_error(error: IcmpErrorKind) -> PingError {
    match (error.kind, error.code) {
        (3, 0 | 6 | 8 | 11) => PingError::NetworkUnreachable,
        (3, 1 | 7 | 12) => PingError::HostUnreachable,
        (3, 2) => PingError::ProtocolUnreachable,
        (3, 3) => PingError::PortUnreachable,
        (3, 4) => PingError::FragmentationNeeded,
        (3, 9 | 10 | 13) => PingError::Prohibited,
        (11, 1) => PingError::ReassemblyTimeExceeded,
        (11, _) => PingError::TimeExceeded,
        (12, _) => PingError::ParameterProblem,
        _ => PingError::Unreachable,
    }
}
