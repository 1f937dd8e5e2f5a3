//! Messages of servers: those that count in each state, and what they change (RFC 8415 section 16, 18.2.9 and 18.2.10).

use std::time::Duration;

use super::exchange::Exchange;
use super::lease::{Granted, Lease, succeeded};
use super::message::association;
use super::{Advertised, DhcpClient, REFUSED_WAIT, State, soliciting};
use crate::time::Instant;
use crate::vm::Ignored;
use crate::wire::{Dhcpv6Association, Dhcpv6Kind, Dhcpv6Reply, Dhcpv6Status, dhcpv6_identifier};

/// The preference of a server that is chosen at once.
const HIGHEST_PREFERENCE: u8 = 255;

/// The outcome of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// An advertisement may be the best one; others are waited for.
    Kept,
    /// A server is asked at once.
    Requesting,
    /// Addresses are granted, after that time.
    Leased(Duration),
    /// They are granted for longer, or others instead of some; the lease so far.
    Renewed(Lease),
    /// They are refused; the lease that was in use so far, if any.
    Refused(Option<Lease>),
}

impl DhcpClient {
    /// Takes a message of a server.
    ///
    /// # Errors
    /// The reason for which it brings nothing. What was asked is asked again then, or, if the server refuses it, servers
    /// are solicited anew.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        reply: &Dhcpv6Reply<'_>,
        random: &mut fastrand::Rng,
    ) -> Result<Answer, Ignored> {
        let asked = self.exchange().filter(|exchange| exchange.sent > 0);
        let is_answer = asked.is_some_and(|exchange| exchange.transaction == reply.transaction)
            && reply.client == Some(&dhcpv6_identifier(self.mac))
            && matches!(reply.kind, Dhcpv6Kind::Advertise | Dhcpv6Kind::Reply);
        if !is_answer {
            return Err(Ignored::UnexpectedDhcp);
        }
        let server = reply.server.ok_or(Ignored::DhcpNoServer)?;
        if self.chosen_server().is_some_and(|chosen| chosen != server) {
            return Err(Ignored::DhcpOtherServer);
        }
        // It counts even where the server has nothing to give (section 18.2.9).
        self.solicit_max = reply.solicit_max.unwrap_or(self.solicit_max);
        let given = self.association(reply);
        match (&mut self.state, reply.kind) {
            (State::Soliciting { exchange, best }, Dhcpv6Kind::Advertise) => {
                succeeded(reply.status)?;
                let advertised = Advertised {
                    server: server.into(),
                    preference: reply.preference,
                    wanted: Granted::new(given?)?.wanted(),
                };
                // After the first wait any will do (section 18.2.1).
                if reply.preference == HIGHEST_PREFERENCE || exchange.sent > 1 {
                    let since = exchange.since.unwrap_or(now);
                    self.request(now, since, advertised, random);
                    return Ok(Answer::Requesting);
                }
                let is_better = |best: &Advertised| advertised.preference > best.preference;
                if best.as_ref().is_none_or(is_better) {
                    *best = Some(advertised);
                }
                Ok(Answer::Kept)
            }
            (State::Requesting { since, lease, .. }, Dhcpv6Kind::Reply) => {
                let since = *since;
                let status = failure(reply.status, &given);
                if matches!(
                    status,
                    Dhcpv6Status::NO_ADDRESSES
                        | Dhcpv6Status::NO_BINDING
                        | Dhcpv6Status::NOT_ON_LINK
                ) {
                    let lost = self.lose(now + REFUSED_WAIT, random);
                    // Without a lease that is lost, the status is all that there is to tell.
                    let lost = lost.ok_or(Ignored::DhcpStatus(status))?;
                    return Ok(Answer::Refused(Some(lost)));
                }
                succeeded(status)?;
                let granted = Granted::new(given?)?.lease(now, server, lease.as_ref());
                let previous = self.bind(granted);
                Ok(previous.map_or(Answer::Leased(now - since), Answer::Renewed))
            }
            (State::Bound { lease, .. }, Dhcpv6Kind::Reply) => {
                match failure(reply.status, &given) {
                    // The server has lost its notes, and is asked for the same addresses anew (section 18.2.10.1).
                    Dhcpv6Status::NO_BINDING => {
                        let wanted = lease.valid(now);
                        let lease = self.lose(now, random);
                        self.state = State::Requesting {
                            exchange: Exchange::new(Dhcpv6Kind::Request, now, random),
                            server: server.into(),
                            wanted,
                            since: now,
                            lease,
                        };
                        return Ok(Answer::Requesting);
                    }
                    Dhcpv6Status::NOT_ON_LINK => {
                        let lost = self.lose(now + REFUSED_WAIT, random);
                        return Ok(Answer::Refused(lost));
                    }
                    status => succeeded(status)?,
                }
                let granted = Granted::of(given?)?.lease(now, server, Some(lease));
                if granted.addresses.is_empty() {
                    let lost = self.lose(now + REFUSED_WAIT, random);
                    return Ok(Answer::Refused(lost));
                }
                let previous = self.bind(granted);
                Ok(previous.map_or(Answer::Kept, Answer::Renewed))
            }
            (State::Declining { .. }, Dhcpv6Kind::Reply) => {
                self.state = soliciting(now + REFUSED_WAIT, random);
                Ok(Answer::Refused(None))
            }
            _ => Err(Ignored::UnexpectedDhcp),
        }
    }

    /// The only server whose answer counts; `None` while any server's does.
    fn chosen_server(&self) -> Option<&[u8]> {
        match &self.state {
            State::Soliciting { .. } => None,
            State::Requesting { server, .. } | State::Declining { server, .. } => Some(server),
            State::Bound { lease, exchange } => {
                let is_renewing = exchange.is_some_and(|e| e.kind == Dhcpv6Kind::Renew);
                is_renewing.then_some(&*lease.server)
            }
        }
    }

    /// The client's own identity association in `reply`.
    fn association<'a>(
        &self,
        reply: &'a Dhcpv6Reply<'_>,
    ) -> Result<&'a Dhcpv6Association, Ignored> {
        let own = association(self.mac);
        let mut associations = reply.associations.iter();
        associations
            .find(|association| association.id == own)
            .ok_or(Ignored::DhcpNoAddress)
    }

    /// Uses `lease` from now on. Returns the one in use so far, if any.
    fn bind(&mut self, lease: Lease) -> Option<Lease> {
        let bound = State::Bound {
            lease,
            exchange: None,
        };
        match std::mem::replace(&mut self.state, bound) {
            State::Bound { lease, .. } => Some(lease),
            State::Requesting { lease, .. } => lease,
            State::Soliciting { .. } | State::Declining { .. } => None,
        }
    }
}

/// The status of a reply that counts: of all of it, or else of the client's association.
fn failure(whole: Dhcpv6Status, given: &Result<&Dhcpv6Association, Ignored>) -> Dhcpv6Status {
    match (whole, given) {
        (Dhcpv6Status::SUCCESS, Ok(association)) => association.status,
        (whole, _) => whole,
    }
}
