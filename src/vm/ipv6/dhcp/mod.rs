//! The DHCPv6 client (RFC 8415 section 18.2): how a VM comes by addresses, keeps them and loses them. Knows messages and
//! times; what carries them is in [`frames`].
//!
//! Messages go to all servers of the link, never to one by unicast: RFC 9915 has done away with that.

mod exchange;
pub(in crate::vm) mod frames;
mod lease;
mod message;
mod receive;

use std::net::Ipv6Addr;
use std::time::Duration;

pub use self::exchange::SOLICIT_MAX_TIMEOUT;
use self::exchange::{Exchange, Limits};
use self::lease::Lease;
use self::message::Outgoing;
use self::receive::Answer;
use crate::time::{Instant, earliest};
use crate::wire::{Dhcpv6Kind, MacAddr};

/// The first solicitation is at most this much later than the client's start, at random (`SOL_MAX_DELAY`, RFC 8415 section
/// 7.6).
pub const SOLICIT_MAX_DELAY: Duration = Duration::from_secs(1);
/// Wait after a server has taken the addresses back, or refused them; the delay of the first solicitation follows.
pub const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// The best advertisement so far.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Advertised {
    server: Box<[u8]>,
    preference: u8,
    wanted: Box<[Ipv6Addr]>,
}

/// How far the client has come.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// It looks for servers, and waits for the best of their advertisements (section 18.2.1).
    Soliciting {
        exchange: Exchange,
        best: Option<Advertised>,
    },
    /// It has asked a server for addresses (section 18.2.2).
    Requesting {
        exchange: Exchange,
        server: Box<[u8]>,
        wanted: Box<[Ipv6Addr]>,
        /// When it began to look for addresses.
        since: Instant,
        /// What it has already, when a server has lost its notes of that.
        lease: Option<Lease>,
    },
    /// It has addresses, and may ask for longer (section 18.2.4 and 18.2.5).
    Bound {
        lease: Lease,
        exchange: Option<Exchange>,
    },
    /// It tells the server that somebody else has an address (section 18.2.8).
    Declining {
        exchange: Exchange,
        server: Box<[u8]>,
        address: Ipv6Addr,
    },
}

/// The step that is due.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Due {
    /// Something to send.
    Send(Outgoing),
    /// This lease is lost: its time is over, or its server does not answer any longer and knows nothing of it.
    Lost(Lease),
}

/// One VM's client.
#[derive(Debug)]
pub(super) struct DhcpClient {
    mac: MacAddr,
    /// The longest wait between two solicitations.
    solicit_max: Duration,
    state: State,
}

impl DhcpClient {
    /// A client that begins to look for addresses within [`SOLICIT_MAX_DELAY`] after `now`.
    pub(super) fn new(now: Instant, mac: MacAddr, random: &mut fastrand::Rng) -> DhcpClient {
        DhcpClient {
            mac,
            solicit_max: SOLICIT_MAX_TIMEOUT,
            state: soliciting(now, random),
        }
    }

    /// When something is due.
    fn deadline(&self) -> Instant {
        match &self.state {
            State::Soliciting { exchange, .. } | State::Declining { exchange, .. } => exchange.at,
            State::Requesting {
                exchange, lease, ..
            } => {
                let end = lease.as_ref().map(Lease::expires_at);
                end.map_or(exchange.at, |end| end.min(exchange.at))
            }
            State::Bound { lease, exchange } => {
                let rebind_at = lease.rebind_at;
                let next = match exchange {
                    None => earliest(lease.renew_at, rebind_at),
                    Some(exchange) if exchange.kind == Dhcpv6Kind::Renew => {
                        earliest(Some(exchange.at), rebind_at)
                    }
                    Some(exchange) => Some(exchange.at),
                };
                let end = lease.expires_at();
                next.map_or(end, |next| next.min(end))
            }
        }
    }

    /// Returns the step that is due at `now`, and counts it as done.
    fn overdue(&mut self, now: Instant, random: &mut fastrand::Rng) -> Option<Due> {
        // Each change of state below brings a message, or an end.
        if self.deadline() > now {
            return None;
        }
        if self.lease().is_some_and(|lease| lease.expires_at() <= now) {
            return self.lose(now, random).map(Due::Lost);
        }
        let solicit_max = self.solicit_max;
        let limits = |exchange: &Exchange| Limits::of(exchange.kind, solicit_max);
        match &mut self.state {
            State::Soliciting { exchange, best } => {
                if let Some(best) = best.take() {
                    let since = exchange.since.unwrap_or(now);
                    self.request(now, since, best, random);
                    return self.overdue(now, random);
                }
                let elapsed = exchange.sends(now, limits(exchange), random);
                let outgoing = Outgoing::new(exchange, elapsed, None, Box::default());
                Some(Due::Send(outgoing))
            }
            State::Requesting { exchange, .. } if exchange.is_over(limits(exchange)) => {
                self.lose(now, random).map(Due::Lost)
            }
            State::Requesting {
                exchange,
                server,
                wanted,
                ..
            } => {
                let elapsed = exchange.sends(now, limits(exchange), random);
                let outgoing = Outgoing::new(exchange, elapsed, Some(server), wanted.clone());
                Some(Due::Send(outgoing))
            }
            State::Bound { lease, exchange } => {
                let kind = match lease.rebind_at {
                    Some(at) if at <= now => Dhcpv6Kind::Rebind,
                    _ => Dhcpv6Kind::Renew,
                };
                let exchange = match exchange {
                    Some(exchange) if exchange.kind == kind => exchange,
                    place => place.insert(Exchange::new(kind, now, random)),
                };
                let elapsed = exchange.sends(now, limits(exchange), random);
                let server = (kind == Dhcpv6Kind::Renew).then_some(&*lease.server);
                let outgoing = Outgoing::new(exchange, elapsed, server, lease.valid(now));
                Some(Due::Send(outgoing))
            }
            State::Declining { exchange, .. } if exchange.is_over(limits(exchange)) => {
                self.state = soliciting(now, random);
                None
            }
            State::Declining {
                exchange,
                server,
                address,
            } => {
                let elapsed = exchange.sends(now, limits(exchange), random);
                let outgoing = Outgoing::new(exchange, elapsed, Some(server), Box::new([*address]));
                Some(Due::Send(outgoing))
            }
        }
    }

    /// Asks the server of `best` for what it advertised, from `now` on.
    fn request(
        &mut self,
        now: Instant,
        since: Instant,
        best: Advertised,
        random: &mut fastrand::Rng,
    ) {
        self.state = State::Requesting {
            exchange: Exchange::new(Dhcpv6Kind::Request, now, random),
            server: best.server,
            wanted: best.wanted,
            since,
            lease: None,
        };
    }

    /// The address in use, the first if there are several.
    pub(super) fn address(&self) -> Option<Ipv6Addr> {
        self.lease().map(Lease::address)
    }

    /// The lease in use.
    fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            State::Requesting { lease, .. } => lease.as_ref(),
            State::Soliciting { .. } | State::Declining { .. } => None,
        }
    }

    /// Starts again to look for servers, from `at` on. Returns the lease in use so far, if any.
    fn lose(&mut self, at: Instant, random: &mut fastrand::Rng) -> Option<Lease> {
        match std::mem::replace(&mut self.state, soliciting(at, random)) {
            State::Bound { lease, .. } => Some(lease),
            State::Requesting { lease, .. } => lease,
            State::Soliciting { .. } | State::Declining { .. } => None,
        }
    }

    /// Gives `address` back, because somebody else uses it: tells the server at once, and looks for others after its
    /// answer. Returns the lease, no address of which may be used any longer. `None` if the address is not leased.
    fn decline(
        &mut self,
        now: Instant,
        address: Ipv6Addr,
        random: &mut fastrand::Rng,
    ) -> Option<Lease> {
        let mut leased = self.lease()?.addresses.iter();
        leased.find(|leased| leased.address == address)?;
        let lease = self.lose(now, random)?;
        self.state = State::Declining {
            exchange: Exchange::new(Dhcpv6Kind::Decline, now, random),
            server: lease.server.clone(),
            address,
        };
        Some(lease)
    }

    /// Gives all addresses back, because the VM stops: the message is sent once, for nobody is there for the answer.
    fn release(&mut self, now: Instant, random: &mut fastrand::Rng) -> Option<Outgoing> {
        let lease = self.lease()?;
        let mut exchange = Exchange::new(Dhcpv6Kind::Release, now, random);
        let limits = Limits::of(exchange.kind, self.solicit_max);
        let elapsed = exchange.sends(now, limits, random);
        let outgoing = Outgoing::new(&exchange, elapsed, Some(&lease.server), lease.valid(now));
        self.state = soliciting(now, random);
        Some(outgoing)
    }

    /// The exchange whose answer is awaited.
    fn exchange(&self) -> Option<&Exchange> {
        match &self.state {
            State::Soliciting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Declining { exchange, .. } => Some(exchange),
            State::Bound { exchange, .. } => exchange.as_ref(),
        }
    }
}

/// Looks for servers within [`SOLICIT_MAX_DELAY`] after `at`.
fn soliciting(at: Instant, random: &mut fastrand::Rng) -> State {
    let at = at + SOLICIT_MAX_DELAY.mul_f64(random.f64());
    State::Soliciting {
        exchange: Exchange::new(Dhcpv6Kind::Solicit, at, random),
        best: None,
    }
}
