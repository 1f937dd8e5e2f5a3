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

/// How far the address has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// There is no address.
    Unassigned,
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
        interface: Ipv4Interface,
        /// Announcements sent so far.
        sent: u8,
        /// When the next one is due.
        at: Instant,
    },
    /// The address is used.
    Held { interface: Ipv4Interface },
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
    state: State,
    defended: Option<Instant>,
}

impl Acd {
    /// No address.
    pub(super) const fn none() -> Acd {
        Acd {
            state: State::Unassigned,
            defended: None,
        }
    }

    /// Takes `interface` for use at once; announced from `announce` on, if at all.
    pub(super) fn take(&mut self, interface: Ipv4Interface, announce: Option<Instant>) {
        self.state = match announce {
            Some(at) => State::Announcing {
                interface,
                sent: 0,
                at,
            },
            None => State::Held { interface },
        };
    }

    /// Tries `interface`: probes for it, the first one at `at`, and then takes it and announces it.
    pub(super) fn probe(&mut self, interface: Ipv4Interface, at: Instant) {
        self.state = State::Probing {
            interface,
            sent: 0,
            at,
        };
    }

    /// The same address is in another network from now on, or has another gateway.
    pub(super) fn update(&mut self, new: Ipv4Interface) {
        match &mut self.state {
            State::Unassigned => {}
            State::Probing { interface, .. }
            | State::Announcing { interface, .. }
            | State::Held { interface } => *interface = new,
        }
    }

    /// Uses the address no longer.
    pub(super) fn release(&mut self) {
        self.state = State::Unassigned;
    }

    /// The address and network in use.
    pub(super) fn interface(&self) -> Option<&Ipv4Interface> {
        match &self.state {
            State::Unassigned | State::Probing { .. } => None,
            State::Announcing { interface, .. } | State::Held { interface } => Some(interface),
        }
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
            State::Unassigned | State::Held { .. } => None,
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
                self.announced(now, interface, 1);
                Some(Broadcast::Announce {
                    address: interface.address,
                    is_first: true,
                })
            }
            State::Announcing {
                interface,
                sent,
                at,
            } if at <= now => {
                self.announced(now, interface, sent + 1);
                Some(Broadcast::Announce {
                    address: interface.address,
                    is_first: false,
                })
            }
            _ => None,
        }
    }

    /// Somebody else claims the address.
    pub(super) fn conflict(&mut self, now: Instant) -> Verdict {
        if self.interface().is_none() {
            self.state = State::Unassigned;
            return Verdict::GivenUp;
        }
        if self.defended.is_some_and(|at| now - at < DEFEND_INTERVAL) {
            return Verdict::Ignore;
        }
        self.defended = Some(now);
        Verdict::Defend
    }

    fn announced(&mut self, now: Instant, interface: Ipv4Interface, sent: u8) {
        self.state = if sent < ANNOUNCEMENTS {
            State::Announcing {
                interface,
                sent,
                at: now + ANNOUNCE_INTERVAL,
            }
        } else {
            State::Held { interface }
        };
    }
}
