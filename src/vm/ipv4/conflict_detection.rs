//! Address conflict detection (RFC 5227): an IPv4 address is tried, announced, held and defended. Knows addresses and
//! times; the frames are [`super::arp`]'s.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Ipv4Interface;
use crate::time::Instant;

/// The random wait before the first probe is at most this long (`PROBE_WAIT`).
pub const PROBE_WAIT: Duration = Duration::from_secs(1);
/// How many probes are sent (`PROBE_NUM`).
pub const PROBES: u8 = 3;
/// Least time between two probes (`PROBE_MIN`).
pub const PROBE_MIN: Duration = Duration::from_secs(1);
/// Greatest time between two probes (`PROBE_MAX`).
pub const PROBE_MAX: Duration = Duration::from_secs(2);
/// How long after the last probe the address is taken (`ANNOUNCE_WAIT`).
pub const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
/// How many announcements are sent (`ANNOUNCE_NUM`).
pub const ANNOUNCEMENTS: u8 = 2;
/// Time between two announcements (`ANNOUNCE_INTERVAL`).
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// An address is defended at most once in this time (`DEFEND_INTERVAL`).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// What is still to be done for the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing: there is no address, or it is used and everybody was told.
    Idle,
    /// It is asked whether somebody else has the address, which may not be used yet.
    Probing {
        interface: Ipv4Interface,
        /// Probes sent so far.
        sent: u8,
        /// When the next one is due, or, after the last, when the address is ours.
        at: Instant,
    },
    /// The address is used, and announcements of it are still to be sent.
    Announcing {
        /// Announcements sent so far.
        sent: u8,
        /// When the next one is due.
        at: Instant,
    },
}

/// A broadcast that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broadcast {
    /// An ARP probe for this address.
    Probe(Ipv4Addr),
    /// An ARP announcement of this address.
    Announce {
        address: Ipv4Addr,
        /// The address may be used from now on.
        is_first: bool,
    },
}

/// The consequence of a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The address was only tried; it is given up.
    GivenUp,
    /// The address is ours; it is to be announced once more.
    Defend,
    /// The address is ours, and was defended a moment ago. Two hosts that both defend would flood the network.
    Ignore,
}

/// The IPv4 address of one VM.
#[derive(Debug)]
pub(super) struct Acd {
    /// The address and network in use.
    interface: Option<Ipv4Interface>,
    state: State,
    defended: Option<Instant>,
}

impl Acd {
    /// No address.
    pub(super) const fn none() -> Acd {
        Acd {
            interface: None,
            state: State::Idle,
            defended: None,
        }
    }

    /// Takes `interface` for use at once; announced from `announce` on, if at all.
    pub(super) fn take(&mut self, interface: Ipv4Interface, announce: Option<Instant>) {
        self.interface = Some(interface);
        self.state = announce.map_or(State::Idle, |at| State::Announcing { sent: 0, at });
    }

    /// Tries `interface`: probes for it, the first one at `at`, and then takes it and announces it.
    pub(super) fn probe(&mut self, interface: Ipv4Interface, at: Instant) {
        self.interface = None;
        self.state = State::Probing {
            interface,
            sent: 0,
            at,
        };
    }

    /// The same address is in another network from now on, or has another gateway.
    pub(super) fn update(&mut self, new: Ipv4Interface) {
        if let State::Probing { interface, .. } = &mut self.state {
            *interface = new;
        } else if let Some(interface) = &mut self.interface {
            *interface = new;
        }
    }

    /// Uses the address no longer.
    pub(super) fn release(&mut self) {
        self.interface = None;
        self.state = State::Idle;
    }

    /// The address and network in use.
    #[inline]
    pub(super) const fn interface(&self) -> Option<&Ipv4Interface> {
        self.interface.as_ref()
    }

    /// The address that is tried.
    pub(super) fn tentative(&self) -> Option<Ipv4Addr> {
        match &self.state {
            State::Probing { interface, .. } => Some(interface.address),
            _ => None,
        }
    }

    /// When [`Acd::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Probing { at, .. } | State::Announcing { at, .. } => Some(at),
            State::Idle => None,
        }
    }

    /// Returns the broadcast that is due at `now`, and counts it as sent.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        random: &mut fastrand::Rng,
    ) -> Option<Broadcast> {
        match self.state {
            State::Probing {
                interface,
                sent,
                at,
            } if at <= now && sent < PROBES => {
                let wait = if sent + 1 < PROBES {
                    PROBE_MIN + (PROBE_MAX - PROBE_MIN).mul_f64(random.f64())
                } else {
                    ANNOUNCE_WAIT
                };
                self.state = State::Probing {
                    interface,
                    sent: sent + 1,
                    at: now + wait,
                };
                Some(Broadcast::Probe(interface.address))
            }
            State::Probing { interface, at, .. } if at <= now => {
                self.interface = Some(interface);
                self.announced(now, 1);
                Some(Broadcast::Announce {
                    address: interface.address,
                    is_first: true,
                })
            }
            State::Announcing { sent, at } if at <= now => {
                self.announced(now, sent + 1);
                let address = self.interface?.address;
                Some(Broadcast::Announce {
                    address,
                    is_first: false,
                })
            }
            _ => None,
        }
    }

    /// Somebody else claims the address.
    pub(super) fn conflict(&mut self, now: Instant) -> Verdict {
        if self.interface.is_none() {
            self.state = State::Idle;
            return Verdict::GivenUp;
        }
        if self.defended.is_some_and(|at| now - at < DEFEND_INTERVAL) {
            return Verdict::Ignore;
        }
        self.defended = Some(now);
        Verdict::Defend
    }

    fn announced(&mut self, now: Instant, sent: u8) {
        self.state = match sent < ANNOUNCEMENTS {
            true => State::Announcing {
                sent,
                at: now + ANNOUNCE_INTERVAL,
            },
            false => State::Idle,
        };
    }
}
