//! ICMP echo over IPv4 and IPv6 (RFC 792, RFC 4443): builds the requests of pings, and finds the ping that a reply or an
//! error is about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::MAX_OUTSTANDING;
use super::kind::{Over, Row, ToBuild};
use super::payload::{self, Contents};
use crate::time::Instant;
use crate::vm::ipv4::Requests;
use crate::vm::{PingId, PingOutcome, SessionConfig, SessionId, Transmit, Vm};
use crate::wire::{
    Echo, EchoRequest, EchoTemplate, ICMP_ECHO_HEADER_LENGTH, Icmpv6EchoRequest, MacAddr,
};

/// The row of ICMP echo.
pub(super) const ROW: Row = Row {
    name: "icmp",
    protocol: Over::Icmp,
    default_port: None,
    has_payload: true,
    least_payload: 0,
    is_to_groups: true,
    first_flow: 0,
    is_numbered: true,
    most_outstanding: MAX_OUTSTANDING,
    header_length: ICMP_ECHO_HEADER_LENGTH,
    build: Vm::echo_request,
};

/// The ICMP identifier of a session's requests.
const fn identifier(session: SessionId) -> u16 {
    session.0 as u16
}

/// Builds the request of a ping. It may be larger than the link carries.
#[inline]
fn request(
    template: &EchoTemplate,
    identification: u16,
    ping: PingId,
    buffer: &mut [u8],
) -> Option<Transmit> {
    let fill = |payload: &mut [u8]| payload::fill(ping.sequence, payload);
    let length = template.write(identification, ping.sequence as u16, fill, buffer)?;
    Some(Transmit {
        length,
        ping: Some(ping),
    })
}

impl Vm {
    /// Builds the request of a ping, and keeps its template for the next one if it fits the link.
    fn echo_request(&mut self, to_build: ToBuild<'_>, buffer: &mut [u8]) -> Option<Transmit> {
        let ToBuild {
            ping, config, mac, ..
        } = to_build;
        match config.destination {
            IpAddr::V4(destination) => {
                let template = self.ipv4_echo_template(ping.session, config, destination, mac)?;
                let identification = self.ipv4.next_identification();
                let request = request(&template, identification, ping, buffer)?;
                if self.carries(request.length) {
                    self.keep_template(ping.session, destination, template);
                }
                Some(request)
            }
            IpAddr::V6(destination) => self.ipv6_echo_request(to_build, destination, buffer),
        }
    }

    /// Builds the request of a ping as that of the one before, if all is as it was.
    #[inline]
    pub(super) fn next_of_requests(
        &mut self,
        now: Instant,
        ping: PingId,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let requests = self.ipv4.shortcuts.requests.as_ref();
        if !requests.is_some_and(|of| of.session == ping.session && now < of.until) {
            return None;
        }
        let identification = self.ipv4.next_identification();
        let template = &self.ipv4.shortcuts.requests.as_ref()?.template;
        request(template, identification, ping, buffer)
    }

    /// Keeps the template of the requests of `session` for the next one, if that is handed to the same neighbour.
    fn keep_template(&mut self, session: SessionId, destination: Ipv4Addr, template: EchoTemplate) {
        let requests = self.reachable_until(destination).map(|until| Requests {
            session,
            until,
            template,
            replier: None,
        });
        match (&mut self.ipv4.shortcuts.requests, requests) {
            // In place: a VM with many sessions allocates nothing for each of its pings.
            (Some(kept), Some(requests)) => {
                let replier = kept.replier;
                **kept = Requests {
                    replier,
                    ..requests
                };
            }
            (kept, requests) => *kept = requests.map(Box::new),
        }
    }

    /// The time until which pings to `destination` are handed to a neighbour that is taken for reachable. `None` if the
    /// neighbour may be another one before.
    fn reachable_until(&self, destination: Ipv4Addr) -> Option<Instant> {
        let next_hop = self.ipv4.lasting_next_hop(destination)?;
        self.neighbours.reachable_until(next_hop.into())
    }

    fn ipv4_echo_template(
        &self,
        session: SessionId,
        config: &SessionConfig,
        destination: Ipv4Addr,
        mac: MacAddr,
    ) -> Option<EchoTemplate> {
        let request = EchoRequest {
            envelope: self.ipv4_envelope(&config.options, destination, mac, 0)?,
            identifier: identifier(session),
            sequence: 0,
        };
        EchoTemplate::new(&request, config.payload_length)
    }

    fn ipv6_echo_request(
        &self,
        to_build: ToBuild<'_>,
        destination: Ipv6Addr,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let ToBuild {
            now,
            ping,
            config,
            mac,
        } = to_build;
        let request = Icmpv6EchoRequest {
            envelope: self.ipv6_envelope(now, &config.options, destination, mac)?,
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
        let id = SessionId(echo.identifier.into());
        let session = self.sessions.get_mut(usize::from(echo.identifier))?;
        let (sequence, outcome) = if session.echoes_from == source {
            let is_sound = |sequence, length| contents.is_of(sequence, length);
            session.reply(echo.sequence, is_sound, now)?
        } else {
            session.member_reply(source, echo.sequence, contents, now)?
        };
        let session = id;
        Some((PingId { session, sequence }, outcome))
    }
}
