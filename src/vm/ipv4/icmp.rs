//! ICMP (RFC 792, RFC 1122 section 3.2.2): echo, questions for the time, and errors about our pings.

use std::net::Ipv4Addr;

use crate::time::Instant;
use crate::vm::ip::{
    Answer, DEFAULT_TIME_TO_LIVE, Disposition, Input, Protocol, Received, Service,
};
use crate::vm::probe::payload::Contents;
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    IPV4_HEADER_LENGTH, IcmpMessage, Ipv4Packet, PROTOCOL_ICMP, PlainEcho, turn_into_echo_reply,
};

/// The row of ICMP.
pub(in crate::vm) const ICMP: Protocol = Protocol {
    input: Input::Ipv4(
        |_, datagram| datagram.protocol == PROTOCOL_ICMP,
        Vm::receive_icmp,
    ),
    ..Protocol::NONE
};

impl Vm {
    /// Answers an echo request that came in the plainest of frames. `None`, and nothing has happened, when there is
    /// anything out of the ordinary about it, or it is something else: the long way tells what.
    #[inline]
    pub(in crate::vm) fn answer_plain_echo(&mut self, frame: &mut [u8]) -> Option<Transmit> {
        let echo = PlainEcho::parse_request(frame, |payload| Contents::of(payload).sum())?;
        self.is_plainly_for_us(&echo).then_some(())?;
        self.goes_straight_back(&echo).then_some(())?;
        self.turn_into_reply(frame)
    }

    /// Takes an echo reply that came in the plainest of frames. `None`, and nothing has happened, when there is anything out
    /// of the ordinary about it, or it is something else: the long way tells what.
    #[inline]
    pub(in crate::vm) fn take_plain_reply(
        &mut self,
        now: Instant,
        frame: &[u8],
    ) -> Option<Reaction> {
        let mut contents = None;
        let echo = PlainEcho::parse_reply(frame, |payload| {
            contents.insert(Contents::of(payload)).sum()
        })?;
        self.is_plainly_for_us(&echo).then_some(())?;
        self.may_be_a_reply(&echo).then_some(())?;
        let (ping, outcome) =
            self.receive_echo_reply(now, echo.source.into(), &echo.echo, contents?)?;
        Some(Reaction {
            transmit: None,
            event: Some(Event::Ping(ping, outcome)),
        })
    }

    #[inline]
    fn is_plainly_for_us(&self, echo: &PlainEcho<'_>) -> bool {
        echo.destination_mac == self.mac
            && self.vlan.is_none()
            && self.carries(echo.length)
            && self.address() == Some(echo.destination)
    }

    /// Tells what [`Vm::may_be_sent`] tells; of the replies of one host, that was found out for the first.
    #[inline]
    fn may_be_a_reply(&mut self, echo: &PlainEcho<'_>) -> bool {
        let replier = Some((echo.source, echo.source_mac));
        let requests = self.ipv4.shortcuts.requests.as_ref();
        if requests.is_some_and(|requests| requests.replier == replier) {
            return true;
        }
        let may_be = self.may_be_sent(echo);
        if may_be && let Some(requests) = &mut self.ipv4.shortcuts.requests {
            requests.replier = replier;
        }
        may_be
    }

    fn may_be_sent(&self, echo: &PlainEcho<'_>) -> bool {
        let interface = self.ipv4.interface();
        interface.is_some_and(|interface| interface.may_be_sender(echo.source))
            && self.is_other_station(echo.source_mac)
    }

    /// Tells if the answer goes to the hardware address that the question came from, at any time.
    #[inline]
    fn goes_straight_back(&mut self, echo: &PlainEcho<'_>) -> bool {
        let asker = Some((echo.source, echo.source_mac));
        if self.ipv4.shortcuts.asker != asker {
            if !self.may_go_straight_back(echo) {
                return false;
            }
            self.ipv4.shortcuts.asker = asker;
        }
        true
    }

    fn may_go_straight_back(&self, echo: &PlainEcho<'_>) -> bool {
        let next_hop = self.ipv4.lasting_next_hop(echo.source);
        let is_back = |next_hop: Ipv4Addr| match self.neighbours.get(next_hop.into()) {
            Some(mac) => mac == echo.source_mac,
            None => next_hop == echo.source,
        };
        self.may_be_sent(echo) && next_hop.is_some_and(is_back)
    }

    #[inline(always)]
    fn turn_into_reply(&mut self, frame: &mut [u8]) -> Option<Transmit> {
        self.requests_answered += 1;
        let id = self.ipv4.next_identification();
        let length = turn_into_echo_reply(
            frame,
            IPV4_HEADER_LENGTH,
            self.mac,
            DEFAULT_TIME_TO_LIVE,
            id,
        )?;
        Some(Transmit { length, ping: None })
    }

    fn receive_icmp(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv4Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let packet = datagram.packet;
        let answer = |service| {
            Ok(Disposition::Answer(Answer {
                service,
                offset: datagram.offset,
                destination: packet.source.into(),
                source: packet.destination.into(),
            }))
        };
        let mut contents = None;
        let message = IcmpMessage::parse_summed(packet, |payload| {
            contents.insert(Contents::of(payload)).sum()
        });
        match message.map_err(Ignored::Malformed)? {
            // Those to a group that the VM has joined are answered too, as in Linux with `icmp_echo_ignore_broadcasts` off.
            IcmpMessage::EchoRequest(_) => answer(Service::Echo),
            IcmpMessage::TimestampRequest => answer(Service::Timestamp),
            // RFC 1122 section 3.2.2: nothing else goes to a group.
            _ if packet.destination.is_multicast() => Err(Ignored::OtherAddress),
            IcmpMessage::EchoReply(echo) => {
                let contents = contents.unwrap_or_else(|| Contents::of(echo.payload));
                let reply = self.receive_echo_reply(now, packet.source.into(), &echo, contents);
                let (ping, outcome) = reply.ok_or(Ignored::UnexpectedEchoReply)?;
                Ok(Disposition::Taken(Some(Event::Ping(ping, outcome))))
            }
            IcmpMessage::Error(error) => self.receive_icmp_error(now, &error),
            IcmpMessage::Redirect(redirect) => self.receive_redirect(now, packet.source, &redirect),
            IcmpMessage::Other { kind, .. } => Err(Ignored::IcmpType(kind)),
        }
    }
}
