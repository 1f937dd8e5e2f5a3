//! UDP (RFC 768) to a port where whatever is sent comes back: the echo service (RFC 862), or another.
//!
//! The payload begins with two bytes that tell the session, and six of the ping's number. An ICMP error that says that nobody
//! listens at the port ends a ping as refused.

use std::net::IpAddr;

use super::kind::{Over, Row, ToBuild};
use super::payload::{self, Contents};
use super::{MAX_OUTSTANDING, Session};
use crate::time::Instant;
use crate::vm::{Event, Ignored, PingId, ProbeKind, SessionId, Transmit, Vm};
use crate::wire::{UDP_ECHO_PORT, UDP_HEADER_LENGTH, UdpDatagram, write_ipv6_udp, write_udp};

/// The row of UDP.
pub(super) const ROW: Row = Row {
    name: "udp",
    protocol: Over::Udp,
    default_port: Some(UDP_ECHO_PORT),
    header_length: UDP_HEADER_LENGTH,
    has_payload: true,
    least_payload: size_of::<u64>(),
    is_to_groups: false,
    is_numbered: true,
    most_outstanding: MAX_OUTSTANDING,
    build: Vm::udp_request,
};

/// The bits of the number that travels with a ping which are the ping's own; those above are the session's.
const SEQUENCE_BITS: u32 = 48;

/// The number that travels with a ping.
const fn number(session: SessionId, sequence: u64) -> u64 {
    (session.0 as u64) << SEQUENCE_BITS | sequence & ((1 << SEQUENCE_BITS) - 1)
}

impl Vm {
    fn udp_request(&mut self, to_build: ToBuild<'_>, buffer: &mut [u8]) -> Option<Transmit> {
        let ToBuild {
            now,
            ping,
            config,
            mac,
        } = to_build;
        let ports = (self.local_port(ping.session)?, config.probe.port);
        let size = config.payload_length;
        let fill = |space: &mut [u8]| {
            payload::fill(number(ping.session, ping.sequence), space.get_mut(..size)?);
            Some(size)
        };
        let length = match config.destination {
            IpAddr::V4(destination) => {
                let identification = self.ipv4.next_identification();
                let envelope = self.ipv4_envelope(config, destination, mac, identification)?;
                write_udp(&envelope, ports, size, fill, buffer)
            }
            IpAddr::V6(destination) => {
                let envelope = self.ipv6_envelope(now, config, destination, mac)?;
                write_ipv6_udp(&envelope, ports, fill, buffer)
            }
        };
        Some(Transmit {
            length: length?,
            ping: Some(ping),
        })
    }

    /// Takes a datagram that came from where one of the VM's sessions sends its probes to. `None` if none does.
    pub(in crate::vm) fn receive_udp_reply(
        &mut self,
        now: Instant,
        source: IpAddr,
        datagram: &UdpDatagram<'_>,
    ) -> Option<Result<Event, Ignored>> {
        let told = datagram.payload.first_chunk().copied();
        let told = told.map(u64::from_be_bytes);
        let named = told.map(|number| SessionId((number >> SEQUENCE_BITS) as u16));
        let expects = |id: SessionId| {
            let session = self.sessions.get(usize::from(id.0));
            session.is_some_and(|Session { config, .. }| {
                config.probe.kind == ProbeKind::Udp
                    && config.probe.port == datagram.source_port
                    && config.destination == source
            })
        };
        let expecting = |wanted: Option<SessionId>| {
            let mut sessions = self.sessions_of_port(datagram.destination_port);
            sessions.find(|id| expects(*id) && wanted.is_none_or(|wanted| wanted == *id))
        };
        let of_number = named.and_then(|named| expecting(Some(named)));
        let id = of_number.or_else(|| expecting(None))?;
        let contents = Contents::of(datagram.payload);
        let is_sound = |sequence, length| contents.is_of(number(id, sequence), length);
        let session = self.session_mut(id)?;
        // What does not tell which ping it answers is damaged, or not what was sent.
        let sequence = match told.filter(|_| named == Some(id)) {
            Some(number) => Some(number as u16),
            None => session.only_outstanding(),
        };
        let reply = sequence.and_then(|sequence| session.reply(sequence, is_sound, now));
        let event = reply.map(|(sequence, outcome)| {
            let session = id;
            Event::Ping(PingId { session, sequence }, outcome)
        });
        Some(event.ok_or(Ignored::UnexpectedEchoReply))
    }
}
