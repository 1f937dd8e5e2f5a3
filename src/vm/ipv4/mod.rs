//! IPv4 (RFC 791, RFC 1122): which datagrams a VM takes, what it hands them to, and how it sends its own.

mod arp;
mod conflict_detection;
pub(super) mod dhcp;
mod icmp;
mod responder;
mod tcp;
mod udp;

use std::net::Ipv4Addr;
use std::time::Duration;

use self::conflict_detection::Acd;
pub use self::conflict_detection::{
    ANNOUNCE_INTERVAL, ANNOUNCE_WAIT, ANNOUNCEMENTS, DEFEND_INTERVAL, PROBE_MAX, PROBE_MIN,
    PROBE_WAIT, PROBES,
};
use self::dhcp::DhcpClient;
use self::responder::Service;
pub(super) use self::tcp::receive_ipv6_tcp;
use self::tcp::receive_tcp;
pub(super) use self::udp::ECHO_PORT;
use super::fragment::{Datagram, Fragment, FragmentKey, Reassembly, Taken};
use super::limiter::ErrorLimiter;
use super::probe::fill_payload;
use super::{
    Addressing, Event, Ignored, Ipv4Interface, PingId, PingOutcome, Reaction, SessionConfig,
    Transmit, Vm, VmConfig,
};
use crate::time::Instant;
use crate::wire::{
    EchoRequest, EthernetFrame, IcmpErrorKind, Ipv4Envelope, Ipv4Packet, MacAddr, OptionsFault,
    PROTOCOL_ICMP, PROTOCOL_TCP, PROTOCOL_UDP, Payload, TcpSegment, check_options,
    write_first_fragment, write_reassembled,
};

/// Time to live of datagrams for which nothing else is asked, as RFC 1700 recommends.
pub(super) const TIME_TO_LIVE: u8 = 64;

/// `IPPROTO_IGMP`: who is in no group but that of all hosts has nothing to say in it, and so is silent (RFC 2236 section
/// 6).
const PROTOCOL_IGMP: u8 = 2;

/// How long fragments wait for each other, as in Linux (`ipfrag_time`).
pub const REASSEMBLY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a VM knows and does on IPv4.
#[derive(Debug)]
pub(super) struct Ipv4 {
    acd: Acd,
    /// Boxed: most VMs have none.
    dhcp: Option<Box<DhcpClient>>,
    /// Whether it asks if somebody else has an address before it uses it.
    probe: bool,
    /// Whether it announces its address, and how long after it has it.
    announce: Option<Duration>,
    /// Whether it sends back what comes to UDP port 7.
    pub(super) udp_echo: bool,
    /// Nothing before the first fragment.
    pub(super) fragments: Option<Box<Reassembly>>,
    limiter: ErrorLimiter,
    /// Of the next datagram.
    identification: u16,
}

impl Ipv4 {
    /// What a VM is on IPv4 when it starts at `now`.
    pub(super) fn new(now: Instant, vm: &VmConfig, random: &mut fastrand::Rng) -> Ipv4 {
        let config = &vm.ipv4;
        let mut acd = Acd::none();
        if let Addressing::Static(interface) = config.addressing {
            if config.probe {
                acd.probe(interface, now + PROBE_WAIT.mul_f64(random.f64()));
            } else {
                acd.take(interface, config.announce.map(|delay| now + delay));
            }
        }
        let dhcp = match config.addressing {
            Addressing::Static(_) => None,
            Addressing::Dhcp => Some(Box::new(DhcpClient::new(now, vm.mac, random))),
        };
        Ipv4 {
            acd,
            dhcp,
            probe: config.probe,
            announce: config.announce,
            udp_echo: config.udp_echo,
            fragments: None,
            limiter: ErrorLimiter::default(),
            identification: 0,
        }
    }

    /// The address and network in use.
    pub(super) fn interface(&self) -> Option<&Ipv4Interface> {
        self.acd.interface()
    }

    /// The address that is tried.
    pub(super) fn tentative(&self) -> Option<Ipv4Addr> {
        self.acd.tentative()
    }

    /// Whether it lacks an address that it may come by: it tries one, or looks for a DHCP server.
    pub(super) fn is_configuring(&self) -> bool {
        self.interface().is_none() && (self.dhcp.is_some() || self.tentative().is_some())
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let dhcp = self.dhcp.as_ref().and_then(|client| client.deadline());
        let fragments = self.fragments.as_ref();
        let fragments = fragments.and_then(|fragments| fragments.deadline());
        [self.acd.deadline(), fragments, dhcp]
            .into_iter()
            .flatten()
            .min()
    }

    /// The identification of the next datagram that this VM makes.
    pub(super) fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.wrapping_add(1);
        self.identification
    }
}

/// What is to be done about a datagram.
#[derive(Debug)]
pub(super) enum Action {
    /// It is to be answered in place.
    Answer(Service),
    /// It is for a port at which nobody listens, to be answered with a reset in place.
    Reset(TcpSegment),
    /// Its sender is to be told that nobody is there for it.
    Refuse {
        /// What is told.
        kind: IcmpErrorKind,
        /// Of a parameter problem, the byte of the header that is at fault.
        pointer: u8,
        /// Who is told.
        source: Ipv4Addr,
        /// What nobody is there for.
        ignored: Ignored,
    },
    /// It was the last fragment of this one.
    Whole(Datagram),
    /// It is a fragment that waits for others.
    Wait,
    /// It was about one of our pings.
    Ping(PingId, PingOutcome),
}

impl Vm {
    /// Looks at a datagram; `headers` are what comes before its payload in the frame.
    pub(super) fn receive_ipv4(
        &mut self,
        now: Instant,
        headers: &[u8],
        packet: &Ipv4Packet<'_>,
    ) -> Result<Action, Ignored> {
        let interface = *self.ipv4.interface().ok_or(Ignored::OtherAddress)?;
        // Broadcasts and multicasts are nobody's business here: echo requests to all are not answered, as in Linux
        // (`icmp_echo_ignore_broadcasts`), and no service listens to all.
        if packet.destination != interface.address {
            return Err(Ignored::OtherAddress);
        }
        if !interface.may_be_sender(packet.source) {
            return Err(Ignored::BadSource);
        }
        match check_options(packet.options) {
            Ok(()) => {}
            Err(OptionsFault::SourceRoute) => return Err(Ignored::Ipv4Options),
            Err(OptionsFault::Problem(pointer)) => {
                return Ok(Action::Refuse {
                    kind: IcmpErrorKind::PARAMETER_PROBLEM,
                    pointer,
                    source: packet.source,
                    ignored: Ignored::Ipv4Options,
                });
            }
        }
        if packet.is_fragment {
            return self.receive_fragment(now, headers, packet);
        }
        match packet.protocol {
            PROTOCOL_ICMP => self.receive_icmp(now, packet),
            PROTOCOL_UDP => self.receive_udp(packet),
            PROTOCOL_TCP => receive_tcp(packet),
            PROTOCOL_IGMP => Err(Ignored::Protocol(PROTOCOL_IGMP)),
            protocol => Ok(Action::Refuse {
                kind: IcmpErrorKind::PROTOCOL_UNREACHABLE,
                pointer: 0,
                source: packet.source,
                ignored: Ignored::Protocol(protocol),
            }),
        }
    }

    /// Does what a datagram asks for, in the buffer that its frame of `length` bytes lies in.
    pub(super) fn act(
        &mut self,
        now: Instant,
        action: Action,
        buffer: &mut [u8],
        length: usize,
    ) -> Result<Reaction, Ignored> {
        let frame = buffer.get_mut(..length).unwrap_or_default();
        let answer = match action {
            Action::Wait => return Ok(Reaction::default()),
            Action::Ping(ping, outcome) => {
                return Ok(Reaction {
                    transmit: None,
                    event: Some(Event::Ping(ping, outcome)),
                });
            }
            Action::Refuse {
                kind,
                pointer,
                source,
                ignored,
            } => {
                return Ok(Reaction {
                    transmit: self.refuse_ipv4(now, (kind, pointer), source, buffer),
                    event: Some(Event::Ignored(ignored)),
                });
            }
            Action::Reset(segment) => return Ok(self.reset_ipv4(&segment, frame)),
            Action::Whole(datagram) => return self.receive_whole(now, datagram, buffer),
            Action::Answer(asked) => self.answer_ipv4(now, asked, frame),
        };
        let transmit = answer.map(|length| Transmit { length, ping: None });
        self.fit(transmit, buffer).map(|transmit| Reaction {
            transmit,
            event: None,
        })
    }

    /// Gives up fragments that have waited long enough, and tells the sender, as Linux does, if the first has come
    /// (`ip_expire` in `net/ipv4/ip_fragment.c`).
    pub(super) fn poll_fragments(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let datagram = self.ipv4.fragments.as_mut()?.expire(now)?;
        let length = write_first_fragment(&datagram.headers, &datagram.payload, buffer);
        let source = match datagram.source() {
            std::net::IpAddr::V4(source) => Some(source),
            std::net::IpAddr::V6(_) => None,
        };
        if let Some(fragments) = &mut self.ipv4.fragments {
            fragments.recycle(datagram);
        }
        let transmit = length.zip(source).and_then(|(_, source)| {
            let kind = IcmpErrorKind::REASSEMBLY_TIME_EXCEEDED;
            self.refuse_ipv4(now, (kind, 0), source, buffer)
        });
        Some(Reaction {
            transmit,
            event: Some(Event::Ignored(Ignored::ReassemblyTimeout)),
        })
    }

    /// Builds the echo request of a ping. It may be larger than the link carries.
    pub(super) fn ipv4_echo_request(
        &mut self,
        ping: PingId,
        config: &SessionConfig,
        destination: Ipv4Addr,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let request = EchoRequest {
            envelope: Ipv4Envelope {
                source_mac: self.mac,
                destination_mac: mac,
                source: self.address()?,
                destination,
                time_to_live: config.options.time_to_live,
                dscp: config.options.dscp,
                dont_fragment: config.options.dont_fragment,
                identification: self.ipv4.next_identification(),
            },
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

    fn receive_fragment(
        &mut self,
        now: Instant,
        headers: &[u8],
        packet: &Ipv4Packet<'_>,
    ) -> Result<Action, Ignored> {
        let fragment = Fragment {
            key: FragmentKey {
                source: packet.source.into(),
                destination: packet.destination.into(),
                protocol: packet.protocol,
                identification: packet.identification.into(),
            },
            offset: packet.fragment_offset,
            has_more: packet.more_fragments,
            headers,
            payload: packet.payload,
        };
        let fragments = self
            .ipv4
            .fragments
            .get_or_insert_with(|| Box::new(Reassembly::new(REASSEMBLY_TIMEOUT)));
        match fragments.take(now, &fragment)? {
            Taken::Held => Ok(Action::Wait),
            Taken::HeldInsteadOfOldest => Err(Ignored::ReassemblyFull),
            Taken::Whole(datagram) => Ok(Action::Whole(datagram)),
        }
    }

    /// Takes a datagram that was put together as if it had come in one frame.
    fn receive_whole(
        &mut self,
        now: Instant,
        datagram: Datagram,
        buffer: &mut [u8],
    ) -> Result<Reaction, Ignored> {
        let length = write_reassembled(&datagram.headers, &datagram.payload, buffer);
        if let Some(fragments) = &mut self.ipv4.fragments {
            fragments.recycle(datagram);
        }
        let length = length.ok_or(Ignored::FragmentLength)?;
        let frame = buffer.get(..length).unwrap_or_default();
        let frame = EthernetFrame::parse(frame).map_err(Ignored::Malformed)?;
        let Payload::Ipv4(packet) = frame.payload().map_err(Ignored::Malformed)? else {
            return Err(Ignored::FragmentLength);
        };
        let action = self.receive_ipv4(now, &[], &packet)?;
        self.act(now, action, buffer, length)
    }
}

impl Ipv4Interface {
    /// Whether another host can have sent a datagram from `source`.
    pub(super) fn may_be_sender(&self, source: Ipv4Addr) -> bool {
        is_host(source) && source != self.address && !self.is_broadcast(source)
    }
}

/// Whether one host can have this address.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified()
        && !address.is_broadcast()
        && !address.is_multicast()
        && !address.is_loopback()
}
