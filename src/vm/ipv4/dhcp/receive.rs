//! Messages of servers: those that count in each state, and what they change (RFC 2131 section 4.4.1 and 4.4.5).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::Lease;
use super::{DhcpClient, REFUSED_WAIT, State, selecting};
use crate::time::Instant;
use crate::vm::Ignored;
use crate::vm::ip::is_host;
use crate::wire::{DhcpKind, DhcpReply, MacAddr};

/// The outcome of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm::ipv4) enum Answer {
    /// An address is offered, and is asked for at once.
    Requesting,
    /// An address is granted, after that time.
    Leased(Duration),
    /// It is granted for longer, or another one instead; the address so far.
    Renewed(Ipv4Addr),
    /// It is refused; the address that was in use so far, if any.
    Refused(Option<Ipv4Addr>),
}

impl DhcpClient {
    /// Takes a message that came from `mac`.
    ///
    /// # Errors
    /// The reason for which it changes nothing.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        mac: MacAddr,
        reply: DhcpReply,
        random: &mut fastrand::Rng,
    ) -> Result<Answer, Ignored> {
        if reply.client_mac != self.mac || reply.transaction != self.transaction() {
            return Err(Ignored::UnexpectedDhcp);
        }
        // A message that names no server may be the chosen one's.
        let chosen = self.chosen_server(now);
        if chosen.is_some_and(|chosen| reply.server.is_some_and(|server| server != chosen)) {
            return Err(Ignored::DhcpOtherServer);
        }
        let server = reply.server.filter(|server| is_host(*server));
        match (&self.state, reply.kind) {
            (
                &State::Selecting {
                    since: Some(since),
                    transaction,
                    ..
                },
                DhcpKind::Offer,
            ) => {
                let server = server.ok_or(Ignored::DhcpNoServer)?;
                let address = Lease::new(now, mac, server, reply)?.address;
                self.state = State::Requesting {
                    since,
                    transaction,
                    sent: 0,
                    at: now,
                    address,
                    server,
                };
                Ok(Answer::Requesting)
            }
            // Whatever was offered, this address is what the server has noted.
            (
                &State::Requesting {
                    since,
                    server: chosen,
                    ..
                },
                DhcpKind::Ack,
            ) => {
                self.bind(Lease::new(now, mac, server.unwrap_or(chosen), reply)?);
                Ok(Answer::Leased(now - since))
            }
            (
                State::Bound {
                    lease,
                    since: Some(_),
                    ..
                },
                DhcpKind::Ack,
            ) => {
                let previous = lease.address;
                let server = server.unwrap_or(lease.server);
                self.bind(Lease::new(now, mac, server, reply)?);
                Ok(Answer::Renewed(previous))
            }
            (State::Requesting { .. }, DhcpKind::Nak) => {
                self.state = selecting(now + REFUSED_WAIT, random);
                Ok(Answer::Refused(None))
            }
            (
                State::Bound {
                    lease,
                    since: Some(_),
                    ..
                },
                DhcpKind::Nak,
            ) => {
                let address = lease.address;
                self.state = selecting(now + REFUSED_WAIT, random);
                Ok(Answer::Refused(Some(address)))
            }
            _ => Err(Ignored::UnexpectedDhcp),
        }
    }

    /// The only server whose answer counts; `None` while any server's does.
    fn chosen_server(&self, now: Instant) -> Option<Ipv4Addr> {
        match &self.state {
            State::Selecting { .. } => None,
            State::Requesting { server, .. } => Some(*server),
            State::Bound { lease, .. } => (now < lease.rebind_at).then_some(lease.server),
        }
    }
}
