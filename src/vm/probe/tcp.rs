//! TCP (RFC 9293): a ping opens a connection, by a SYN that a SYN answers, or a reset if nobody listens at the port. The connection is
//! closed at once, or held for a time.
//!
//! The initial sequence number tells the session and the number of the ping, and what answers a SYN acknowledges it. Each connection
//! has a port of its own. No data is sent, and what the peer sends is acknowledged and dropped.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::MAX_OUTSTANDING;
use super::connections::{Connection, ConnectionCounts, State};
use super::kind::{Over, Row, ToBuild};
use super::ports::{Ends, Peer};
use crate::time::Instant;
use crate::vm::ip::Protocol;
use crate::vm::tcp::Arrived;
use crate::vm::{
    Event, Ignored, PingError, PingId, PingOutcome, Reaction, SessionConfig, SessionId, Transmit,
    Vm,
};
use crate::wire::{
    IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH, MacAddr, PingHead, ProbeHead, QuotedProbe, TCP_FLOWS,
    TCP_SYN_LENGTH, TcpSegment, of_tcp_number, sequence_mask, tcp_number, write_ipv6_tcp,
    write_tcp,
};

/// The row of TCP.
pub(super) const ROW: Row = Row {
    name: "tcp",
    protocol: Over::Tcp,
    default_port: Some(DEFAULT_PORT),
    header_length: TCP_SYN_LENGTH,
    has_payload: false,
    least_payload: 0,
    is_to_groups: false,
    first_flow: TCP_FLOWS,
    is_numbered: true,
    most_outstanding: MAX_OUTSTANDING,
    build: Vm::connect,
};

/// The port of HTTP, which is more often open than others.
const DEFAULT_PORT: u16 = 80;

/// What is due for connections: SYNs and FINs to be repeated, and the end of those that are held.
pub(in crate::vm) const CONNECTIONS: Protocol = Protocol {
    poll: Vm::poll_connections,
    deadline: |vm| vm.probes.as_ref()?.connections.due_at(),
    leave: Vm::leave_connection,
    ..Protocol::NONE
};

/// The first time that an acknowledgement is waited for; twice as long after each repetition (RFC 6298 sections 2.1 and 5.5).
pub const INITIAL_RTO: Duration = Duration::from_secs(1);
/// The time after which a SYN is repeated that what is left of another connection has answered (Linux: `TCP_TIMEOUT_MIN`).
const SHORTEST_RTO: Duration = Duration::from_millis(2);
/// The longest time (RFC 6298 section 2.5).
const LONGEST_RTO: Duration = Duration::from_secs(60);
/// Bytes of a TCP header that the largest segment leaves room for (RFC 6691).
const TCP_HEADER_LENGTH: u16 = 20;

/// How a connection is ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TcpClose {
    /// By a reset. One that is not held never comes to be: the reset takes the place of the handshake's last segment.
    #[default]
    Rst,
    /// By a FIN of either side.
    Fin,
}

impl TcpClose {
    /// The names in options, by number.
    pub const NAMES: &'static [&'static str] = &["rst", "fin"];

    /// The name in options.
    pub const fn name(self) -> &'static str {
        match self {
            TcpClose::Rst => "rst",
            TcpClose::Fin => "fin",
        }
    }
}

/// The initial sequence number of a ping's connection.
const fn initial_sequence(ping: PingId) -> u32 {
    tcp_number(ping.session.0, ping.sequence)
}

/// The time that the acknowledgement of a segment is waited for that was repeated so often.
fn retransmission_timeout(repeats: u8) -> Duration {
    let factor = 1 << repeats.min(16);
    (INITIAL_RTO * factor).min(LONGEST_RTO)
}

impl Connection {
    /// The number of the SYN.
    const fn initial(&self) -> u32 {
        initial_sequence(self.ping)
    }

    /// The number of what we send next.
    const fn next(&self) -> u32 {
        let behind_fin = matches!(self.state, State::Closing { .. }) as u32;
        self.initial().wrapping_add(1 + behind_fin)
    }

    /// A segment to `ends`' peer from `sequence` on, that acknowledges what has come.
    fn segment(&self, ends: Ends, sequence: u32) -> TcpSegment {
        TcpSegment {
            source_port: ends.port,
            destination_port: ends.peer.port,
            sequence,
            acknowledgement: Some(self.expected),
            ..TcpSegment::default()
        }
    }

    /// Acknowledges all that has come.
    fn acknowledge(&self, ends: Ends) -> TcpSegment {
        self.segment(ends, self.next())
    }

    fn fin(&self, ends: Ends) -> TcpSegment {
        TcpSegment {
            is_fin: true,
            ..self.segment(ends, self.initial().wrapping_add(1))
        }
    }

    fn reset(&self, ends: Ends) -> TcpSegment {
        TcpSegment {
            is_reset: true,
            ..self.acknowledge(ends)
        }
    }

    /// Begins to wait for the acknowledgement of what is sent at `now`.
    fn await_acknowledgement(&mut self, now: Instant, timeout: Duration) {
        self.repeats = 0;
        self.until = now + timeout;
        self.due = (now + INITIAL_RTO).min(self.until);
    }

    /// It is sent again at `now`.
    fn repeat(&mut self, now: Instant) {
        self.repeats = self.repeats.saturating_add(1);
        self.due = (now + retransmission_timeout(self.repeats)).min(self.until);
    }
}

fn ignored() -> Arrived {
    Arrived {
        answer: None,
        event: Some(Event::Ignored(Ignored::UnexpectedEchoReply)),
    }
}

impl Vm {
    /// Opens the connection of a ping.
    fn connect(&mut self, to_build: ToBuild<'_>, buffer: &mut [u8]) -> Option<Transmit> {
        let ToBuild {
            now, ping, config, ..
        } = to_build;
        let peer = Peer::of(config);
        let mut connection = Connection {
            ping,
            state: State::SynSent,
            repeats: 0,
            due: now,
            until: now,
            expected: 0,
        };
        connection.await_acknowledgement(now, config.timeout);
        let connections = &mut self.probes.get_or_insert_default().connections;
        let ends = connections.open(&mut self.random, peer, connection)?;
        self.is_dirty = true;
        connections.counts.begun += 1;
        let syn = self.syn(ends, &connection);
        let transmit = self.segment_frame(to_build, &syn, buffer);
        if transmit.is_none() {
            self.forget(ends);
        }
        transmit.map(|transmit| Transmit {
            ping: Some(ping),
            ..transmit
        })
    }

    fn syn(&self, ends: Ends, connection: &Connection) -> TcpSegment {
        TcpSegment {
            is_syn: true,
            acknowledgement: None,
            maximum_segment_size: Some(self.maximum_segment_size(ends.peer.address)),
            ..connection.segment(ends, connection.initial())
        }
    }

    /// The largest segment that the VM takes from `peer`.
    pub(in crate::vm) const fn maximum_segment_size(&self, peer: IpAddr) -> u16 {
        let ip = match peer {
            IpAddr::V4(_) => IPV4_HEADER_LENGTH,
            IpAddr::V6(_) => IPV6_HEADER_LENGTH,
        };
        self.mtu.saturating_sub(ip as u16 + TCP_HEADER_LENGTH)
    }

    /// Builds the frame of a segment of one of the VM's connections.
    fn segment_frame(
        &mut self,
        to_build: ToBuild<'_>,
        segment: &TcpSegment,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let ToBuild {
            now, config, mac, ..
        } = to_build;
        let length = match config.destination {
            IpAddr::V4(destination) => {
                let identification = self.ipv4.next_identification();
                let envelope =
                    self.ipv4_envelope(&config.options, destination, mac, identification)?;
                write_tcp(&envelope, segment, buffer)
            }
            IpAddr::V6(destination) => {
                let envelope = self.ipv6_envelope(now, &config.options, destination, mac)?;
                write_ipv6_tcp(&envelope, segment, buffer)
            }
        };
        length.map(|length| Transmit { length, ping: None })
    }

    /// What has happened to the connections that the VM has opened.
    pub fn connections(&self) -> ConnectionCounts {
        let probes = self.probes.as_ref();
        probes.map_or_else(ConnectionCounts::default, |probes| {
            probes.connections.counts
        })
    }

    /// What has happened to them since this was asked last. `None` if nothing has.
    pub fn take_connection_counts(&mut self) -> Option<ConnectionCounts> {
        self.probes.as_mut()?.connections.untold()
    }

    fn forget(&mut self, ends: Ends) {
        if let Some(probes) = &mut self.probes {
            probes.connections.remove(ends);
        }
    }

    fn keep(&mut self, ends: Ends, connection: Connection) {
        if let Some(probes) = &mut self.probes {
            probes.connections.set(ends, connection);
        }
    }

    /// Takes a segment from `source` of a connection that the VM has opened, or that answers a SYN of one that is over. `None` if there
    /// is none.
    pub(in crate::vm) fn receive_of_connection(
        &mut self,
        now: Instant,
        source: IpAddr,
        segment: &TcpSegment,
    ) -> Option<Arrived> {
        let ends = Ends {
            peer: Peer {
                address: source,
                port: segment.source_port,
            },
            port: segment.destination_port,
        };
        let connections = &self.probes.as_ref()?.connections;
        match connections.get(ends) {
            Some(connection) if connection.state == State::SynSent => {
                Some(self.receive_in_syn_sent(now, ends, connection, segment))
            }
            Some(connection) => Some(self.receive_in_open(now, ends, connection, segment)),
            None => self.receive_too_late(now, ends.peer, segment),
        }
    }

    /// RFC 9293 section 3.10.7.3.
    fn receive_in_syn_sent(
        &mut self,
        now: Instant,
        ends: Ends,
        mut connection: Connection,
        segment: &TcpSegment,
    ) -> Arrived {
        let expected = connection.initial().wrapping_add(1);
        let answers = segment.acknowledgement == Some(expected);
        match (segment.is_reset, segment.is_syn) {
            (true, _) if answers => {
                self.forget(ends);
                let event = self.fail_connection(now, connection.ping, PingError::Refused);
                match event {
                    Some(_) => Arrived {
                        answer: None,
                        event,
                    },
                    None => ignored(),
                }
            }
            // What is left of another connection between these ends.
            (false, _) if segment.acknowledgement.is_some() && !answers => {
                // It is over now; once only, so that the two do not go on like that (Linux: `tcp_rcv_synsent_state_process`).
                if connection.repeats == 0 {
                    connection.due = (now + SHORTEST_RTO).min(connection.until);
                    self.keep(ends, connection);
                }
                self.keep_ignored_answer(ends.peer.address, connection.ping);
                Arrived {
                    answer: Some(segment.reset()),
                    ..ignored()
                }
            }
            (false, true) if answers => self.opened(now, ends, connection, segment),
            _ => ignored(),
        }
    }

    /// Keeps the head of a reply to `ping` of which the number is another's, if such are kept.
    fn keep_ignored_answer(&mut self, source: IpAddr, ping: PingId) {
        if self.keeps_ignored {
            let head = ProbeHead {
                destination_mac: self.mac,
                source_mac: MacAddr([0; 6]),
                source,
                destination: Ipv4Addr::UNSPECIFIED.into(),
                is_request: false,
                identifier: ping.session.0,
                sequence: ping.wire_sequence(),
            };
            self.probes.get_or_insert_default().ignored = Some(PingHead::Probe(head));
        }
    }

    fn fail_connection(&mut self, now: Instant, ping: PingId, error: PingError) -> Option<Event> {
        let session = self.session_mut(ping.session)?;
        let (sequence, due, sent) = session.fail(ping.sequence as u16, now)?;
        let outcome = PingOutcome::Errored { due, sent, error };
        let session = ping.session;
        Some(Event::Ping(PingId { session, sequence }, outcome))
    }

    /// A SYN has answered ours.
    fn opened(
        &mut self,
        now: Instant,
        ends: Ends,
        mut connection: Connection,
        segment: &TcpSegment,
    ) -> Arrived {
        let outcome = self.reply_to_syn(now, connection.ping);
        let config = self.session(connection.ping.session);
        let config = config.map(|session| session.config);
        let (Some(config), Some(PingOutcome::Answered { .. })) = (config, outcome) else {
            self.forget(ends);
            return Arrived {
                answer: Some(segment.reset()),
                event: outcome.map(|outcome| Event::Ping(connection.ping, outcome)),
            };
        };
        connection.expected = segment.next_sequence();
        connection.state = State::Open;
        if let Some(probes) = &mut self.probes {
            probes.connections.counts.opened += 1;
        }
        let hold = config.probe.hold();
        let answer = match hold.is_zero() {
            true => self.close(now, ends, connection, &config),
            false => {
                connection.due = now + hold;
                self.keep(ends, connection);
                connection.acknowledge(ends)
            }
        };
        Arrived {
            answer: Some(answer),
            event: outcome.map(|outcome| Event::Ping(connection.ping, outcome)),
        }
    }

    fn reply_to_syn(&mut self, now: Instant, ping: PingId) -> Option<PingOutcome> {
        let session = self.session_mut(ping.session)?;
        let (_, outcome) = session.reply(ping.sequence as u16, |_, _| true, now)?;
        Some(outcome)
    }

    /// Closes a connection as its session does. Returns the segment that says so.
    fn close(
        &mut self,
        now: Instant,
        ends: Ends,
        mut connection: Connection,
        config: &SessionConfig,
    ) -> TcpSegment {
        match config.probe.close {
            TcpClose::Rst => {
                self.keep(ends, connection);
                self.forget(ends);
                connection.reset(ends)
            }
            TcpClose::Fin => {
                connection.state = State::FIN_SENT;
                connection.await_acknowledgement(now, config.timeout);
                self.keep(ends, connection);
                connection.fin(ends)
            }
        }
    }

    /// Takes a segment of a connection that is or was open (RFC 9293 section 3.10.7.4).
    fn receive_in_open(
        &mut self,
        now: Instant,
        ends: Ends,
        mut connection: Connection,
        segment: &TcpSegment,
    ) -> Arrived {
        let mut arrived = Arrived::default();
        let is_in_order = segment.sequence == connection.expected;
        if segment.is_reset {
            // What is not exactly in order anybody may have sent (RFC 5961 section 3).
            if is_in_order {
                self.count_ended_by_peer(&connection);
                self.forget(ends);
            }
            return arrived;
        }
        if segment.is_syn {
            // Our acknowledgement was lost, or the SYN has come twice.
            if segment.acknowledgement == Some(connection.initial().wrapping_add(1)) {
                let outcome = self.reply_to_syn(now, connection.ping);
                arrived.event = outcome.map(|outcome| Event::Ping(connection.ping, outcome));
            }
            arrived.answer = Some(match connection.state {
                State::Closing { .. } => connection.fin(ends),
                State::Open | State::SynSent => connection.acknowledge(ends),
            });
            return arrived;
        }
        let has_fin = is_in_order && segment.is_fin;
        if is_in_order {
            connection.expected = segment.next_sequence();
        }
        // What carries something or is not in order, as a keep-alive is, is answered.
        let is_answered = !is_in_order || segment.next_sequence() != segment.sequence;
        match &mut connection.state {
            State::Closing {
                is_acknowledged,
                is_closed_by_peer,
            } => {
                let fin = connection.ping;
                let behind_fin = initial_sequence(fin).wrapping_add(2);
                *is_acknowledged |= segment.acknowledgement == Some(behind_fin);
                *is_closed_by_peer |= has_fin;
                let is_over = *is_acknowledged && *is_closed_by_peer;
                if *is_acknowledged {
                    // Nothing is to be repeated; the peer has as long to close its side.
                    connection.due = connection.until;
                }
                arrived.answer = is_answered.then(|| connection.acknowledge(ends));
                match is_over {
                    true => self.forget(ends),
                    false => self.keep(ends, connection),
                }
            }
            State::Open if has_fin => {
                self.count_ended_by_peer(&connection);
                let session = self.session(connection.ping.session);
                let Some(config) = session.map(|session| session.config) else {
                    return arrived;
                };
                arrived.answer = Some(self.close(now, ends, connection, &config));
                self.closed_by_peer(ends);
            }
            State::Open | State::SynSent => {
                self.keep(ends, connection);
                arrived.answer = is_answered.then(|| connection.acknowledge(ends));
            }
        }
        arrived
    }

    fn count_ended_by_peer(&mut self, connection: &Connection) {
        if connection.state == State::Open
            && let Some(probes) = &mut self.probes
        {
            probes.connections.counts.ended_by_peer += 1;
        }
    }

    /// The peer of a connection that is being closed has sent its FIN before ours.
    fn closed_by_peer(&mut self, ends: Ends) {
        let connections = self.probes.as_ref().map(|probes| &probes.connections);
        if let Some(connection) = connections.and_then(|connections| connections.get(ends)) {
            let state = State::Closing {
                is_acknowledged: false,
                is_closed_by_peer: true,
            };
            self.keep(
                ends,
                Connection {
                    state,
                    ..connection
                },
            );
        }
    }

    /// Takes a SYN of `peer` that answers one whose connection is over. Its other end is to know.
    fn receive_too_late(
        &mut self,
        now: Instant,
        peer: Peer,
        segment: &TcpSegment,
    ) -> Option<Arrived> {
        let (flow, sequence) = of_tcp_number(segment.acknowledgement?.wrapping_sub(1));
        let id = SessionId(flow);
        let session = self.session_mut(id)?;
        let sequence = session.newest_of(sequence, sequence_mask(flow))? as u16;
        let config = &session.config;
        let is_ours = matches!(config.probe.kind.row().protocol, Over::Tcp)
            && (config.destination, config.probe.port) == (peer.address, peer.port);
        if !segment.is_syn || segment.is_reset || !is_ours || session.is_outstanding(sequence) {
            return None;
        }
        let (sequence, outcome) = session.reply(sequence, |_, _| true, now)?;
        let session = id;
        Some(Arrived {
            answer: Some(segment.reset()),
            event: Some(Event::Ping(PingId { session, sequence }, outcome)),
        })
    }

    /// Ends the ping whose SYN an ICMP error quotes.
    pub(super) fn receive_quoted_syn(
        &mut self,
        now: Instant,
        quoted: &QuotedProbe,
        error: PingError,
    ) -> Option<Event> {
        let (port, peer) = quoted.ports;
        let peer = Peer {
            address: quoted.destination,
            port: peer,
        };
        let ends = Ends { peer, port };
        let connection = self.probes.as_ref()?.connections.get(ends)?;
        let ping = connection.ping;
        let number = (ping.session.0, ping.wire_sequence());
        if connection.state != State::SynSent || quoted.number != Some(number) {
            return None;
        }
        let event = self.fail_connection(now, ping, error)?;
        self.forget(ends);
        Some(event)
    }

    /// Does what is due for one connection.
    fn poll_connections(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let (ends, mut connection) = self.probes.as_ref()?.connections.next_due(now)?;
        let ping = connection.ping;
        let session = self.session(ping.session)?;
        let config = session.config;
        let is_overdue = now >= connection.until;
        let segment = match connection.state {
            State::SynSent if is_overdue || !session.is_outstanding(ping.sequence as u16) => {
                self.forget(ends);
                return Some(Reaction::default());
            }
            State::SynSent => {
                connection.repeat(now);
                self.keep(ends, connection);
                if let Some(probes) = &mut self.probes {
                    probes.connections.counts.syns_repeated += 1;
                }
                self.syn(ends, &connection)
            }
            State::Open => self.close(now, ends, connection, &config),
            State::Closing { .. } if is_overdue => {
                self.forget(ends);
                connection.reset(ends)
            }
            State::Closing { .. } => {
                connection.repeat(now);
                self.keep(ends, connection);
                connection.fin(ends)
            }
        };
        Some(Reaction {
            transmit: self.send_segment(now, ping, &config, &segment, buffer),
            event: None,
        })
    }

    /// Resets one connection that is open, before the VM stops.
    fn leave_connection(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        loop {
            let (ends, connection) = self.probes.as_mut()?.connections.take_any()?;
            let session = self.session(connection.ping.session)?;
            let config = session.config;
            if connection.state == State::SynSent {
                continue;
            }
            let reset = connection.reset(ends);
            let transmit = self.send_segment(now, connection.ping, &config, &reset, buffer);
            if transmit.is_some() {
                return transmit;
            }
        }
    }

    /// Builds the frame of a segment that nothing has asked for. `None` if it has to wait for its neighbour.
    fn send_segment(
        &mut self,
        now: Instant,
        ping: PingId,
        config: &SessionConfig,
        segment: &TcpSegment,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let next_hop = self.next_hop(now, config.destination)?;
        let to_build = ToBuild {
            now,
            ping,
            config,
            mac: self.mac,
        };
        let transmit = self.segment_frame(to_build, segment, buffer)?;
        let frame = buffer.get_mut(..transmit.length)?;
        let is_led = self.lead_to_neighbour(now, next_hop, frame);
        matches!(is_led, Ok(true)).then_some(transmit)
    }
}
