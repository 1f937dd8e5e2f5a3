//! The DHCP client (RFC 2131 section 4.4): how a VM comes by an address, keeps it and loses it. Knows messages and
//! times; what carries them is in [`frames`].

pub(in crate::vm) mod frames;
mod lease;
mod message;
mod receive;

use std::net::Ipv4Addr;
use std::time::Duration;

use self::lease::Lease;
use self::message::Outgoing;
use self::receive::Answer;
use crate::time::Instant;
use crate::wire::{
    ClasslessRoute, DhcpKind, DhcpRequest, IPV4_HEADER_LENGTH, MacAddr, UDP_HEADER_LENGTH,
};

/// Wait for an answer to the first message; it doubles with each further one (RFC 2131 section 4.1).
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest wait for an answer.
pub const LAST_TIMEOUT: Duration = Duration::from_secs(64);
/// Each wait is this much longer or shorter, at random, lest many clients keep in step.
pub const TIMEOUT_SPREAD: Duration = Duration::from_secs(1);
/// Requests for an offered address before the client looks for another.
pub const MAX_LEASE_REQUESTS: u32 = 4;
/// Least wait for an answer to a renewal (RFC 2131 section 4.4.5).
pub const RENEWAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Wait after the server has taken an address back, or refused it.
pub const REFUSED_WAIT: Duration = Duration::from_secs(1);
/// Wait after somebody else turned out to use the address (RFC 2131 section 3.1, 5).
pub const DECLINED_WAIT: Duration = Duration::from_secs(10);

/// How far the client has come.
#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// It looks for servers. (INIT and SELECTING: the first offer is taken.)
    Selecting {
        /// When the search began; `None` before the first message.
        since: Option<Instant>,
        transaction: u32,
        /// Messages sent.
        sent: u32,
        /// When the next one is due.
        at: Instant,
    },
    /// It has asked for an address that was offered. (REQUESTING)
    Requesting {
        since: Instant,
        transaction: u32,
        sent: u32,
        at: Instant,
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// It has an address. (BOUND, RENEWING and REBINDING, by the time.)
    Bound {
        lease: Lease,
        transaction: u32,
        /// When something is due: the first or next renewal, or the end. `None` for never.
        at: Option<Instant>,
        /// When the present renewal began.
        since: Option<Instant>,
    },
}

/// The step that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Something to send.
    Send(Outgoing),
    /// The lease has run out.
    Expired(Ipv4Addr),
}

/// One VM's client.
#[derive(Debug)]
pub(super) struct DhcpClient {
    mac: MacAddr,
    /// The largest message that the interface takes in one piece.
    maximum_size: u16,
    state: State,
}

impl DhcpClient {
    /// A client that begins to look for an address at `now`, by an interface with that address and MTU.
    pub(super) fn new(
        now: Instant,
        mac: MacAddr,
        mtu: u16,
        random: &mut fastrand::Rng,
    ) -> DhcpClient {
        let headers = (IPV4_HEADER_LENGTH + UDP_HEADER_LENGTH) as u16;
        DhcpClient {
            mac,
            maximum_size: mtu.saturating_sub(headers),
            state: selecting(now, random),
        }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Selecting { at, .. } | State::Requesting { at, .. } => Some(*at),
            State::Bound { at, .. } => *at,
        }
    }

    /// Returns the step that is due at `now`, and counts it as done.
    pub(super) fn overdue(&mut self, now: Instant, random: &mut fastrand::Rng) -> Option<Due> {
        if self.deadline()? > now {
            return None;
        }
        match &mut self.state {
            State::Selecting {
                since,
                transaction,
                sent,
                at,
            } => {
                *at = now + timeout(*sent, random);
                *sent += 1;
                let (since, transaction) = (*since.get_or_insert(now), *transaction);
                Some(Due::Send(self.discover(now, since, transaction)))
            }
            State::Requesting { sent, .. } if *sent >= MAX_LEASE_REQUESTS => {
                self.state = selecting(now, random);
                self.overdue(now, random)
            }
            State::Requesting {
                since,
                transaction,
                sent,
                at,
                address,
                server,
            } => {
                *at = now + timeout(*sent, random);
                *sent += 1;
                let (since, transaction) = (*since, *transaction);
                let (address, server) = (*address, *server);
                Some(Due::Send(self.request(
                    now,
                    since,
                    transaction,
                    address,
                    server,
                )))
            }
            State::Bound { lease, .. } if lease.expires_at <= now => {
                let address = lease.address;
                self.state = selecting(now, random);
                Some(Due::Expired(address))
            }
            State::Bound {
                lease,
                transaction,
                at,
                since,
            } => {
                let is_first = since.is_none();
                let began = *since.get_or_insert(now);
                if is_first {
                    *transaction = random.u32(..);
                }
                let is_rebinding = lease.rebind_at <= now;
                let end = if is_rebinding {
                    lease.expires_at
                } else {
                    lease.rebind_at
                };
                *at = Some((now + ((end - now) / 2).max(RENEWAL_TIMEOUT)).min(end));
                let transaction = *transaction;
                let renewal = self.renewal(now, began, transaction, is_rebinding)?;
                Some(Due::Send(renewal))
            }
        }
    }

    /// The lease in use.
    fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound { lease, .. } => Some(lease),
            State::Selecting { .. } | State::Requesting { .. } => None,
        }
    }

    /// The ways out of the network that the lease brings, if there is one.
    pub(in crate::vm::ipv4) fn routes(&self) -> &[ClasslessRoute] {
        self.lease().map_or(&[], |lease| &lease.routes)
    }

    /// Gives the address back, because somebody else uses it: tells the server, and looks for another one later.
    pub(super) fn decline(&mut self, now: Instant, random: &mut fastrand::Rng) -> Option<Outgoing> {
        let State::Bound { lease, .. } = &self.state else {
            return None;
        };
        let (address, server) = (lease.address, lease.server);
        self.state = selecting(now + DECLINED_WAIT, random);
        let request = DhcpRequest {
            requested: Some(address),
            server: Some(server),
            ..self.message(DhcpKind::Decline, random.u32(..))
        };
        Some(Outgoing { request, to: None })
    }

    /// Gives the address back, because the VM stops (RFC 2131 section 4.4.6).
    pub(super) fn release(&mut self, now: Instant, random: &mut fastrand::Rng) -> Option<Outgoing> {
        let lease = self.lease()?;
        let request = DhcpRequest {
            client_address: lease.address,
            server: Some(lease.server),
            ..self.message(DhcpKind::Release, random.u32(..))
        };
        let to = Some((lease.server_mac, lease.server));
        self.state = selecting(now, random);
        Some(Outgoing { request, to })
    }

    fn bind(&mut self, lease: Lease) {
        self.state = State::Bound {
            at: lease.renew_at,
            lease,
            transaction: 0,
            since: None,
        };
    }

    const fn transaction(&self) -> u32 {
        match self.state {
            State::Selecting { transaction, .. }
            | State::Requesting { transaction, .. }
            | State::Bound { transaction, .. } => transaction,
        }
    }
}

fn selecting(at: Instant, random: &mut fastrand::Rng) -> State {
    State::Selecting {
        since: None,
        transaction: random.u32(..),
        sent: 0,
        at,
    }
}

/// How long to wait for an answer after `sent` messages before this one.
fn timeout(sent: u32, random: &mut fastrand::Rng) -> Duration {
    let wait = (FIRST_TIMEOUT * 2u32.pow(sent.min(8))).min(LAST_TIMEOUT);
    wait - TIMEOUT_SPREAD + (2 * TIMEOUT_SPREAD).mul_f64(random.f64())
}
