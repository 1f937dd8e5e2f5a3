//! ICMP echo over IPv4 and IPv6 (RFC 792, RFC 4443): builds the requests of pings, and finds the ping that a reply or an
//! error is about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Unsent;
use super::payload::{self, Contents};
use crate::time::Instant;
use crate::vm::ip::DEFAULT_TIME_TO_LIVE;
use crate::vm::ipv4::Requests;
use crate::vm::{Event, PingError, PingId, PingOutcome, SessionConfig, SessionId, Transmit, Vm};
use crate::wire::{
    ECHO_FRAME_OVERHEAD, ETHERNET_HEADER_LENGTH, Echo, EchoRequest, EchoTemplate,
    ICMPV6_ECHO_FRAME_OVERHEAD, Icmpv6EchoRequest, Ipv4Envelope, Ipv6Envelope, MacAddr,
};

/// The ICMP identifier of a session's requests.
const fn identifier(session: SessionId) -> u16 {
    session.0
}

/// The session whose requests have that ICMP identifier.
const fn session_of(identifier: u16) -> SessionId {
    SessionId(identifier)
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
        match config.destination {
            IpAddr::V4(destination) => {
                let template = self.ipv4_echo_template(ping.session, &config, destination, mac);
                let template = template.ok_or(Unsent::NoRoute)?;
                let identification = self.ipv4.next_identification();
                let write =
                    |_: &Vm, space: &mut [u8]| request(&template, identification, ping, space);
                let length = ECHO_FRAME_OVERHEAD + config.payload_length;
                if !self.carries(length) {
                    return self.large_request(now, &config, length, write, buffer);
                }
                let request = write(self, buffer).ok_or(Unsent::NoRoute)?;
                self.keep_template(ping.session, destination, template);
                Ok(request)
            }
            IpAddr::V6(destination) => {
                let write = |vm: &Vm, space: &mut [u8]| {
                    vm.ipv6_echo_request(now, ping, config, destination, mac, space)
                };
                let length = ICMPV6_ECHO_FRAME_OVERHEAD + config.payload_length;
                self.large_request(now, &config, length, write, buffer)
            }
        }
    }

    /// Has `write` build the frame of a request, which has `length` bytes and may be larger than its path carries: then the first
    /// fragment is built in `buffer`, and the whole where the others are cut from.
    ///
    /// # Errors
    /// When it can't be built, must not be cut, or too many fragments are on their way out.
    fn large_request(
        &mut self,
        now: Instant,
        config: &SessionConfig,
        length: usize,
        write: impl FnOnce(&Vm, &mut [u8]) -> Option<Transmit>,
        buffer: &mut [u8],
    ) -> Result<Transmit, Unsent> {
        let cut = self.cut_to(now, config.destination);
        let is_carried = length <= ETHERNET_HEADER_LENGTH + usize::from(cut.mtu);
        if is_carried || config.options.dont_fragment {
            let request = write(self, buffer).ok_or(Unsent::NoRoute)?;
            return match is_carried {
                true => Ok(request),
                false => Err(Unsent::FragmentationNeeded),
            };
        }
        let write = |vm: &Vm, space: &mut [u8]| write(vm, space).map(|request| request.ping);
        match self.cut(cut, length, write) {
            Ok(true) => self.fragmenter.next(buffer).ok_or(Unsent::NoRoute),
            Ok(false) => Err(Unsent::NoRoute),
            Err(_) => Err(Unsent::FragmentQueueFull),
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
        });
        match (&mut self.ipv4.shortcuts.requests, requests) {
            // In place: a VM with many sessions allocates nothing for each of its pings.
            (Some(kept), Some(requests)) => **kept = requests,
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
            envelope: Ipv4Envelope {
                source_mac: self.mac,
                destination_mac: mac,
                source: self.address()?,
                destination,
                time_to_live: config.options.time_to_live,
                dscp: config.options.dscp,
                dont_fragment: config.options.dont_fragment,
                identification: 0,
            },
            identifier: identifier(session),
            sequence: 0,
        };
        EchoTemplate::new(&request, config.payload_length)
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
