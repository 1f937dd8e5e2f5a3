//! Duplicate address detection (RFC 4862 section 5.4): an IPv6 address is tried, announced and used. Knows times; the
//! frames are [`super::neighbour_discovery`]'s. IPv6 knows no defence of an address.

use std::time::Duration;

use crate::time::Instant;
use crate::vm::{ANNOUNCE_INTERVAL, ANNOUNCEMENTS};
use crate::wire::Nonce;

/// Probes for an address before it is used (`DupAddrDetectTransmits`, RFC 4862 section 5.1).
pub const DUPLICATE_PROBES: u8 = 1;
/// How far an address has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dad {
    /// It is asked whether somebody else has it; it may not be used yet.
    Tentative {
        /// Probes sent so far.
        sent: u8,
        /// When the next one is due, or, after the last, when the address is ours.
        at: Instant,
        /// By which our own probe is known if it comes back (RFC 7527).
        nonce: Nonce,
    },
    /// It is used, and announcements of it are still to be sent.
    Announcing {
        /// Announcements sent so far.
        sent: u8,
        /// When the next one is due.
        at: Instant,
    },
    /// It is used.
    Assigned,
}

/// The step that is due for an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DadDue {
    /// Ask whether somebody has it.
    Probe(Nonce),
    /// It may be used from now on.
    Ready,
    /// Tell everybody that the VM has it.
    Announce,
}

impl Dad {
    /// An address that is tried first, with the first probe at `at`.
    pub(super) fn tentative(at: Instant, random: &mut fastrand::Rng) -> Dad {
        Dad::Tentative {
            sent: 0,
            at,
            nonce: std::array::from_fn(|_| random.u8(..)),
        }
    }

    /// An address that is used from `now` on, and announced that much later, if at all.
    pub(super) fn used(now: Instant, announce: Option<Duration>) -> Dad {
        announce.map_or(Dad::Assigned, |delay| Dad::Announcing {
            sent: 0,
            at: now + delay,
        })
    }

    /// Tells if the address may be used.
    pub(super) fn is_assigned(&self) -> bool {
        !matches!(self, Dad::Tentative { .. })
    }

    /// Tells if a probe with `nonce` is this address's own, come back.
    pub(super) fn is_own_probe(&self, nonce: Option<Nonce>) -> bool {
        match self {
            Dad::Tentative { nonce: own, .. } => nonce == Some(*own),
            Dad::Announcing { .. } | Dad::Assigned => false,
        }
    }

    /// The time at which [`Dad::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Dad::Tentative { at, .. } | Dad::Announcing { at, .. } => Some(*at),
            Dad::Assigned => None,
        }
    }

    /// Does what is due at `now`; an address is taken into use `interval` after its probe (`RetransTimer`, RFC 4862 section
    /// 5.1), and announced after `announce`, if at all.
    pub(super) fn overdue(
        &mut self,
        now: Instant,
        interval: Duration,
        announce: Option<Duration>,
    ) -> Option<DadDue> {
        self.deadline().filter(|at| *at <= now)?;
        match self {
            Dad::Tentative { sent, at, nonce } if *sent < DUPLICATE_PROBES => {
                *sent += 1;
                *at = now + interval;
                Some(DadDue::Probe(*nonce))
            }
            Dad::Tentative { .. } => {
                *self = Dad::used(now, announce);
                Some(DadDue::Ready)
            }
            Dad::Announcing { sent, at } => {
                *sent += 1;
                *at = now + ANNOUNCE_INTERVAL;
                if *sent >= ANNOUNCEMENTS {
                    *self = Dad::Assigned;
                }
                Some(DadDue::Announce)
            }
            Dad::Assigned => None,
        }
    }
}
