//! ICMP echo over IPv4 and IPv6 (RFC 792, RFC 4443): builds the requests of pings, and finds the ping that a reply or an
//! error is about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Unsent;
use super::payload::{self, Contents};
use crate::time::Instant;
use crate::vm::ip::DEFAULT_TIME_TO_LIVE;
use crate::vm::{
    Event, Ignored, PingError, PingId, PingOutcome, SessionConfig, SessionId, Transmit, Vm,
};
use crate::wire::{Echo, EchoRequest, Icmpv6EchoRequest, Ipv4Envelope, Ipv6Envelope, MacAddr};

/// The ICMP identifier of a session's requests.
const fn identifier(session: SessionId) -> u16 {
    session.0
}

/// The session whose requests have that ICMP identifier.
const fn session_of(identifier: u16) -> SessionId {
    SessionId(identifier)
}

impl Vm {
    /// Builds the request of a ping; of one that is larger than its path carries, the first fragment.
    ///
    /// # Errors
    /// When the VM has no address, it must not be cut, or too many fragments are on their way out.
    pub(super) fn echo_request(
        &mut self,
        now: Instant,
        ping: PingId,
        mac: MacAddr,
        buffer: &mut [u8],
    ) -> Result<Transmit, Unsent> {
        let session = self.sessions.get(usize::from(ping.session.0));
        let config = session.ok_or(Unsent::NoRoute)?.config;
        let request = match config.destination {
            IpAddr::V4(destination) => {
                let request = self.ipv4_echo_request(ping, &config, destination, mac, buffer);
                if let Some(request) = request.filter(|request| self.carries(request.length)) {
                    return Ok(request);
                }
                request
            }
            IpAddr::V6(destination) => {
                self.ipv6_echo_request(now, ping, config, destination, mac, buffer)
            }
        };
        let may_be_cut = !config.options.dont_fragment;
        match self.fit(now, request, may_be_cut, buffer) {
            Ok(request) => request.ok_or(Unsent::NoRoute),
            Err(Ignored::FragmentationNeeded) => Err(Unsent::FragmentationNeeded),
            Err(_) => Err(Unsent::FragmentQueueFull),
        }
    }

    /// It may be larger than the link carries.
    fn ipv4_echo_request(
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
            identifier: identifier(ping.session),
            sequence: ping.sequence as u16,
        };
        let fill = |payload: &mut [u8]| payload::fill(ping.sequence, payload);
        let length = request.write(config.payload_length, fill, buffer)?;
        Some(Transmit {
            length,
            ping: Some(ping),
        })
    }

    fn ipv6_echo_request(
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
            source: ipv6.source_for(now, destination)?,
            destination,
            traffic_class: config.options.dscp << 2,
            // What a router advises is the default; who asks for another number gets it.
            hop_limit: match config.options.time_to_live {
                DEFAULT_TIME_TO_LIVE => ipv6.hop_limit(),
                asked => asked,
            },
        };
        let request = Icmpv6EchoRequest {
            envelope,
            identifier: identifier(ping.session),
            sequence: ping.sequence as u16,
        };
        let fill = |payload: &mut [u8]| payload::fill(ping.sequence, payload);
        let length = request.write(config.payload_length, fill, buffer)?;
        Some(Transmit {
            length,
            ping: Some(ping),
        })
    }

    /// Takes an echo reply from `source`, whose payload is `contents`. `None` if it answers no ping.
    #[inline(always)]
    pub(in crate::vm) fn receive_echo_reply(
        &mut self,
        now: Instant,
        source: IpAddr,
        echo: &Echo<'_>,
        contents: Contents<'_>,
    ) -> Option<(PingId, PingOutcome)> {
        let id = session_of(echo.identifier);
        let session = self.session_mut(id)?;
        let (sequence, outcome) = if session.config.destination == source {
            session.reply(echo.sequence, contents, now)?
        } else {
            session.member_reply(source, echo.sequence, contents, now)?
        };
        let session = id;
        Some((PingId { session, sequence }, outcome))
    }

    /// Ends the ping to `destination` that an ICMP error quotes. Anybody on the way may have sent it, but only about a
    /// ping that is on its way: who can't see our pings can't end them but by chance. `None` if it is about none.
    pub(in crate::vm) fn receive_echo_error(
        &mut self,
        now: Instant,
        destination: IpAddr,
        (identifier, sequence): (u16, u16),
        error: PingError,
    ) -> Option<Event> {
        let id = session_of(identifier);
        let session = self.session_mut(id)?;
        if session.config.destination != destination {
            return None;
        }
        let (sequence, due) = session.fail(sequence, now)?;
        let session = id;
        let outcome = PingOutcome::Errored { due, error };
        Some(Event::Ping(PingId { session, sequence }, outcome))
    }
}
