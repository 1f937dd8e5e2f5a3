//! Probes that are carried by UDP: what all such kinds do alike.
//!
//! Each flow has a source port that no other to the same peer has. An ICMP error that says that nobody listens at the port
//! ends a ping as refused.

use std::net::IpAddr;

use super::kind::{Over, ToBuild};
use super::ports::{Ends, Peer};
use crate::time::Instant;
use crate::vm::{Event, Ignored, PingId, SessionId, Transmit, Vm};
use crate::wire::{UdpDatagram, write_ipv6_udp, write_udp};

/// How a kind of probe uses the payload of a datagram.
#[derive(Clone, Copy)]
pub(super) struct Datagram {
    /// Writes the payload of a ping, all of it.
    pub(super) fill: fn(&Vm, ToBuild<'_>, &mut [u8]),
    /// Reads which ping a reply says that it answers.
    pub(super) told: fn(&[u8]) -> Told,
    /// Tells if the payload of a reply answers this ping, which carried so many bytes.
    pub(super) answers: fn(&[u8], PingId, usize) -> bool,
}

/// The ping that a reply says that it answers, as far as it says so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Told {
    pub(super) session: Option<SessionId>,
    /// Its number, of which 16 bits.
    pub(super) sequence: Option<u16>,
}

impl Vm {
    /// Builds the request of a ping by UDP.
    pub(super) fn datagram_request(
        &mut self,
        to_build: ToBuild<'_>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let ToBuild {
            now,
            ping,
            config,
            mac,
        } = to_build;
        let Over::Udp(datagram) = config.probe.kind.row().protocol else {
            return None;
        };
        let port = self.session(ping.session)?.port?.get();
        let ports = (port, config.probe.port);
        let size = config.payload_length;
        let identification = match config.destination {
            IpAddr::V4(_) => self.ipv4.next_identification(),
            IpAddr::V6(_) => 0,
        };
        let vm = &*self;
        let fill = |space: &mut [u8]| {
            (datagram.fill)(vm, to_build, space.get_mut(..size)?);
            Some(size)
        };
        let length = match config.destination {
            IpAddr::V4(destination) => {
                let envelope =
                    vm.ipv4_envelope(&config.options, destination, mac, identification)?;
                write_udp(&envelope, ports, size, fill, buffer)
            }
            IpAddr::V6(destination) => {
                let envelope = vm.ipv6_envelope(now, &config.options, destination, mac)?;
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
        let payload = datagram.payload;
        let peer = Peer {
            address: source,
            port: datagram.source_port,
        };
        let port = datagram.destination_port;
        let id = self.session_between(Ends { peer, port })?;
        let kind = self.session(id)?.config.probe.kind;
        let Over::Udp(of_kind) = kind.row().protocol else {
            return None;
        };
        let told = (of_kind.told)(payload);
        let is_of = |session: SessionId| session == id;
        let session = self.session_mut(id)?;
        // What does not tell which ping it answers is damaged, or not what was sent.
        let sequence = match told.session.is_none_or(is_of) {
            true => told.sequence,
            false => None,
        };
        let sequence = sequence.or_else(|| session.only_outstanding());
        let ping = |sequence| PingId {
            session: id,
            sequence,
        };
        let is_sound = |sequence, length| (of_kind.answers)(payload, ping(sequence), length);
        let reply = sequence.and_then(|sequence| session.reply(sequence, is_sound, now));
        let event = reply.map(|(sequence, outcome)| Event::Ping(ping(sequence), outcome));
        Some(event.ok_or(Ignored::UnexpectedEchoReply))
    }
}
