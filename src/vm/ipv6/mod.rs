//! IPv6 (RFC 8200, RFC 4443): what a VM does with a packet, and the pings it sends.
//!
//! A VM without IPv6 has none of this: it is a box, or nothing. What addresses there are is [`address`]'s, what routers
//! tell is [`route`]'s, neighbour discovery is [`neighbour_discovery`]'s, what routers give [`slaac`]'s, and errors are [`icmp_error`]'s.

mod address;
mod fragment;
mod icmp_error;
mod mld;
mod neighbour_discovery;
mod route;
mod slaac;
mod state;
mod udp;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::fragment::Datagram;
use super::ipv4::TIME_TO_LIVE;
use super::ipv4::receive_ipv6_tcp;
use super::probe::fill_payload;
use super::{
    Event, Ignored, PingId, PingOutcome, Reaction, SessionConfig, SessionId, Transmit, Vm,
};
use crate::time::Instant;
use crate::wire::{
    ETHER_TYPE_IPV6, Icmpv6EchoRequest, Icmpv6Message, Ipv6Envelope, Ipv6Packet, MacAddr,
    NeighbourAdvertisement, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TcpSegment, UpperLayer,
    multicast_mac, turn_into_icmpv6_echo_reply, turn_into_ipv6_udp_echo,
};

pub use self::address::{
    DUPLICATE_PROBES, Ipv6Interface, MAX_IPV6_ADDRESSES, PROBE_INTERVAL, START_WAIT,
};
use self::icmp_error::Refusal;
pub use self::mld::{MLD_REPORT_INTERVAL, MLD_REPORTS};
pub use self::route::{MAX_PREFIXES, ROUTER_SOLICITATION_INTERVAL, ROUTER_SOLICITATIONS};
pub(super) use self::state::Ipv6;
pub use self::state::Ipv6Config;

/// Hop limit of the packets that a VM sends, unless a router advises another (RFC 1700).
const HOP_LIMIT: u8 = TIME_TO_LIVE;
/// How long fragments wait for each other (RFC 8200 section 4.5).
pub const IPV6_REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(60);
/// `type` of a neighbour advertisement.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// What each address takes, for those who bound memory.
#[cfg(test)]
pub(super) const ADDRESS_BYTES: usize = size_of::<address::Address>();

/// What an IPv6 packet turned out to be, apart from the buffer that it lies in.
pub(super) enum Received {
    /// An echo request, to be answered in place.
    Request {
        /// Where the request starts in the frame.
        offset: usize,
        /// The address that answers.
        source: Ipv6Addr,
        hop_limit: u8,
    },
    /// A solicitation, to be answered.
    Solicitation {
        answer: NeighbourAdvertisement,
        envelope: Ipv6Envelope,
        event: Option<Event>,
    },
    /// Nothing is to be answered; pings that waited may be sent.
    Taken(Option<Event>),
    /// The sender is to be told that the packet is not welcome.
    Refused(Refusal),
    /// It is for the UDP echo service, to be answered in place.
    UdpEcho {
        /// Where the datagram starts in the frame.
        offset: usize,
        hop_limit: u8,
    },
    /// It is for a TCP port at which nobody listens, to be answered with a reset in place.
    Reset(TcpSegment),
    /// It was the last fragment of this one.
    Whole(Datagram),
    /// It is a fragment that waits for others.
    Wait,
}

impl Vm {
    /// The IPv6 addresses that it uses, the link-local one first.
    pub fn ipv6_addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let addresses = self.ipv6.iter().flat_map(|ipv6| ipv6.addresses.iter());
        addresses
            .filter(|a| a.is_assigned())
            .map(|a| a.interface.address)
    }

    pub(super) fn receive_ipv6(
        &mut self,
        now: Instant,
        frame: &[u8],
        packet: &Ipv6Packet<'_>,
        sender: MacAddr,
    ) -> Result<Received, Ignored> {
        let off = Ignored::EtherType(ETHER_TYPE_IPV6);
        let ipv6 = self.ipv6.as_mut().ok_or(off)?;
        let destination = packet.destination;
        if !ipv6.addresses.is_assigned(destination) && !ipv6.listens_to(destination) {
            return Err(Ignored::OtherAddress);
        }
        let source = packet.source;
        // Only an advertisement from one of our own addresses says something: somebody else has it.
        let is_own = ipv6.addresses.is_assigned(source);
        let is_advertisement = packet.payload.first() == Some(&NEIGHBOUR_ADVERTISEMENT)
            && packet.next_header == PROTOCOL_ICMPV6;
        if source.is_multicast() || source.is_loopback() || (is_own && !is_advertisement) {
            return Err(Ignored::BadSource);
        }
        match packet.upper_layer() {
            Err(fault) => self.refuse_extension(packet, fault),
            Ok(UpperLayer::Fragment(fragment)) => {
                let headers = fragment.headers_in(frame, packet).unwrap_or_default();
                self.receive_ipv6_fragment(now, headers, packet, &fragment)
            }
            Ok(UpperLayer::Whole {
                protocol: PROTOCOL_ICMPV6,
                offset,
                payload,
                ..
            }) => {
                match Icmpv6Message::parse(packet, payload, offset).map_err(Ignored::Malformed)? {
                    Icmpv6Message::EchoRequest(_) => self.receive_ipv6_echo(now, packet, offset),
                    Icmpv6Message::EchoReply(echo) => {
                        let id = SessionId(echo.identifier);
                        let (sequence, outcome) = self
                            .session_mut(id)
                            .filter(|session| session.config.destination == IpAddr::V6(source))
                            .and_then(|session| session.reply(echo.sequence, echo.payload, now))
                            .ok_or(Ignored::UnexpectedEchoReply)?;
                        Ok(Received::Taken(Some(ended(id, sequence, outcome))))
                    }
                    Icmpv6Message::Error(error) => self
                        .receive_icmpv6_error(now, &error)
                        .ok_or(Ignored::UnexpectedIcmpError),
                    Icmpv6Message::NeighbourDiscovery(message) => {
                        self.receive_discovery(now, packet, sender, &message)
                    }
                    Icmpv6Message::MldQuery(query) => {
                        let random = self.random.f64();
                        let ipv6 = self.ipv6.as_mut().ok_or(off)?;
                        if query.group.is_unspecified() || ipv6.groups().contains(&query.group) {
                            let delay = query.maximum_response_delay.mul_f64(random);
                            ipv6.mld.queried(now + delay);
                            ipv6.find_deadline();
                        }
                        Ok(Received::Taken(None))
                    }
                    Icmpv6Message::Other { kind, .. } => Err(Ignored::IcmpType(kind)),
                }
            }
            Ok(UpperLayer::Whole {
                protocol: PROTOCOL_UDP,
                offset,
                payload,
                ..
            }) => self.receive_ipv6_udp(packet, offset, payload),
            Ok(UpperLayer::Whole {
                protocol: PROTOCOL_TCP,
                offset,
                payload,
                ..
            }) => receive_ipv6_tcp(packet, offset, payload),
            Ok(UpperLayer::Whole {
                protocol, named_at, ..
            }) => self.refuse_protocol(packet, protocol, named_at),
        }
    }

    fn receive_ipv6_echo(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        offset: usize,
    ) -> Result<Received, Ignored> {
        let ipv6 = self.ipv6.as_ref().ok_or(Ignored::OtherAddress)?;
        if packet.source.is_unspecified() {
            return Err(Ignored::BadSource);
        }
        let source = if packet.destination.is_multicast() {
            ipv6.addresses.source_for(now, packet.source)
        } else {
            Some(packet.destination)
        };
        Ok(Received::Request {
            offset,
            source: source.ok_or(Ignored::OtherAddress)?,
            hop_limit: ipv6.hop_limit,
        })
    }

    /// Answers in place, and hands on what happened.
    ///
    /// # Errors
    /// When there is no room for an answer.
    pub(super) fn settle_ipv6(
        &mut self,
        now: Instant,
        received: Received,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Reaction, Ignored> {
        let mac = self.mac;
        let frame = buffer.get_mut(..length).unwrap_or_default();
        let answer = match received {
            Received::Request {
                offset,
                source,
                hop_limit,
            } => turn_into_icmpv6_echo_reply(frame, offset, mac, source, hop_limit),
            Received::UdpEcho { offset, hop_limit } => {
                turn_into_ipv6_udp_echo(frame, offset, mac, hop_limit)
            }
            Received::Solicitation {
                answer,
                envelope,
                event,
            } => return Ok(reaction(answer.write(envelope, buffer), event)),
            Received::Taken(event) => {
                return Ok(Reaction {
                    transmit: self.next_resolved(now, buffer),
                    event,
                });
            }
            Received::Refused(refusal) => {
                let event = Some(Event::Ignored(refusal.ignored));
                let length = self.write_refusal(now, &refusal, buffer, length);
                return Ok(reaction(length, event));
            }
            Received::Reset(segment) => return Ok(self.reset_ipv6(&segment, frame)),
            Received::Whole(datagram) => return self.receive_ipv6_whole(now, datagram, buffer),
            Received::Wait => return Ok(Reaction::default()),
        };
        let transmit = answer.map(|length| Transmit { length, ping: None });
        self.fit(transmit, buffer).map(|transmit| Reaction {
            transmit,
            event: None,
        })
    }

    /// Does one thing that is due at `now` on IPv6.
    pub(super) fn poll_ipv6(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let ipv6 = self.ipv6.as_mut()?;
        ipv6.deadline.filter(|at| *at <= now)?;
        let reaction = ipv6.overdue(now, self.mac, buffer);
        let reaction = reaction.or_else(|| self.poll_ipv6_fragments(now, buffer));
        if let Some(ipv6) = &mut self.ipv6 {
            ipv6.find_deadline();
        }
        reaction
    }

    pub(super) fn ipv6_echo_request(
        &self,
        now: Instant,
        ping: PingId,
        config: SessionConfig,
        destination: Ipv6Addr,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let ipv6 = self.ipv6.as_ref()?;
        let envelope = Ipv6Envelope {
            source_mac: self.mac,
            destination_mac: mac,
            source: ipv6.addresses.source_for(now, destination)?,
            destination,
            traffic_class: config.options.dscp << 2,
            // What a router advises is the default; who asks for another number gets it.
            hop_limit: match config.options.time_to_live {
                HOP_LIMIT => ipv6.hop_limit,
                asked => asked,
            },
        };
        let request = Icmpv6EchoRequest {
            envelope,
            identifier: ping.session.0,
            sequence: ping.sequence as u16,
        };
        let fill = |payload: &mut [u8]| fill_payload(ping.sequence, payload);
        let length = request.write(config.payload_length, fill, buffer)?;
        Some(Transmit {
            length,
            ping: Some(ping),
        })
    }
}

/// The headers of a packet from `source` to the group `group`.
fn to_group(source_mac: MacAddr, source: Ipv6Addr, group: Ipv6Addr) -> Ipv6Envelope {
    Ipv6Envelope {
        source_mac,
        destination_mac: multicast_mac(group),
        source,
        destination: group,
        traffic_class: 0,
        hop_limit: HOP_LIMIT,
    }
}

fn ended(session: SessionId, sequence: u64, outcome: PingOutcome) -> Event {
    Event::Ping(PingId { session, sequence }, outcome)
}

fn reaction(length: Option<usize>, event: Option<Event>) -> Reaction {
    Reaction {
        transmit: length.map(|length| Transmit { length, ping: None }),
        event,
    }
}
