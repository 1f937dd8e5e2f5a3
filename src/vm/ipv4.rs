//! IPv4 and ICMP echo (RFC 791, RFC 792, RFC 1122): what a VM does with a datagram, and the pings it sends.

use std::net::{IpAddr, Ipv4Addr};

use super::claim::{Claim, PROBE_WAIT};
use super::{
    Addressing, Event, Ignored, Ipv4Config, Ipv4Interface, PingId, PingOutcome, Reaction,
    SessionConfig, SessionId, Transmit, Vm, ping,
};
use crate::time::Instant;
use crate::wire::{
    EchoRequest, IcmpMessage, Ipv4Packet, MacAddr, PROTOCOL_ICMP, turn_into_echo_reply,
};

/// Time to live of every datagram that a VM sends, the default of RFC 1700.
const TIME_TO_LIVE: u8 = 64;

/// What a VM knows and does on IPv4.
#[derive(Debug)]
pub(super) struct Ipv4 {
    pub(super) claim: Claim,
}

impl Ipv4 {
    /// What a VM is on IPv4 when it starts at `now`.
    pub(super) fn new(now: Instant, config: &Ipv4Config, random: &mut fastrand::Rng) -> Ipv4 {
        let mut claim = Claim::none();
        if let Addressing::Static(interface) = config.addressing {
            if config.probe {
                claim.probe(interface, now + PROBE_WAIT.mul_f64(random.f64()));
            } else {
                claim.take(interface, config.announce.map(|delay| now + delay));
            }
        }
        Ipv4 { claim }
    }

    /// The address and network in use.
    pub(super) fn interface(&self) -> Option<&Ipv4Interface> {
        self.claim.interface()
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.claim.deadline()
    }
}

/// What an IPv4 datagram turned out to be.
pub(super) enum Received {
    /// An echo request, to be answered in place.
    Request {
        /// Bytes of its IPv4 header.
        header_length: usize,
    },
    /// An echo reply to one of our pings.
    Reply(PingId, PingOutcome),
}

impl Vm {
    pub(super) fn receive_ipv4(
        &mut self,
        now: Instant,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Received, Ignored> {
        if Some(packet.destination) != self.address() {
            return Err(Ignored::OtherAddress);
        }
        if !is_host(packet.source) || packet.source == packet.destination {
            return Err(Ignored::BadSource);
        }
        if packet.is_fragment {
            return Err(Ignored::Fragment);
        }
        if packet.protocol != PROTOCOL_ICMP {
            return Err(Ignored::Protocol(packet.protocol));
        }
        match IcmpMessage::parse(packet).map_err(Ignored::Malformed)? {
            IcmpMessage::EchoRequest(_) => Ok(Received::Request {
                header_length: packet.header_length,
            }),
            IcmpMessage::EchoReply(echo) => {
                let id = SessionId(echo.identifier);
                let (sequence, outcome) = self
                    .session_mut(id)
                    .filter(|session| session.config.destination == IpAddr::V4(packet.source))
                    .and_then(|session| session.reply(echo.sequence, echo.payload, now))
                    .ok_or(Ignored::UnexpectedEchoReply)?;
                Ok(Received::Reply(
                    PingId {
                        session: id,
                        sequence,
                    },
                    outcome,
                ))
            }
            IcmpMessage::Other { kind, .. } => Err(Ignored::IcmpType(kind)),
        }
    }

    /// Answers an echo request in place, and hands on what came of a reply.
    pub(super) fn settle_ipv4(
        &self,
        datagram: Received,
        buffer: &mut [u8],
        length: usize,
    ) -> Reaction {
        match datagram {
            Received::Request { header_length } => {
                let frame = buffer.get_mut(..length).unwrap_or_default();
                let length =
                    turn_into_echo_reply(frame, header_length, self.config.mac, TIME_TO_LIVE);
                Reaction {
                    transmit: length.map(|length| Transmit { length, ping: None }),
                    event: None,
                }
            }
            Received::Reply(ping, outcome) => Reaction {
                transmit: None,
                event: Some(Event::Ping(ping, outcome)),
            },
        }
    }

    pub(super) fn ipv4_echo_request(
        &self,
        ping: PingId,
        config: SessionConfig,
        destination: Ipv4Addr,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let request = EchoRequest {
            source_mac: self.config.mac,
            destination_mac: mac,
            source: self.address()?,
            destination,
            time_to_live: TIME_TO_LIVE,
            identifier: ping.session.0,
            sequence: ping.sequence as u16,
        };
        let fill = |payload: &mut [u8]| ping::fill_payload(ping.sequence, payload);
        let length = request.write(config.payload_length, fill, buffer)?;
        Some(Transmit {
            length,
            ping: Some(ping),
        })
    }
}

/// Whether one host can have this address.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_broadcast()
        && !address.is_multicast()
        && !address.is_loopback()
}
