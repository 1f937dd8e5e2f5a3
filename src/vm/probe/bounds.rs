//! How many sessions a VM can have.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::kind::{Probe, ProbeKind};
use super::ports::NUMBER;
use crate::vm::Vm;
use crate::wire::{EPHEMERAL_PORTS, NARROW_FLOWS, WIDE_FLOWS};

/// Counts sessions of one VM, to destinations that are named by `D`.
#[derive(Debug)]
pub struct SessionCounts<D = IpAddr> {
    narrow: u32,
    wide: u32,
    /// Those that need a port of their own.
    by_peer: FxHashMap<(D, u16), u32>,
}

/// What a VM has too many sessions of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooManySessions {
    /// Those of kinds that have 16 bits to tell them apart.
    Narrow,
    /// Those of all other kinds.
    Wide,
    /// Those that need a port of their own, of that kind to that port of one destination.
    ToPeer(ProbeKind, u16),
}

impl<D> Default for SessionCounts<D> {
    fn default() -> SessionCounts<D> {
        SessionCounts {
            narrow: 0,
            wide: 0,
            by_peer: FxHashMap::default(),
        }
    }
}

impl<D: Hash + Eq> SessionCounts<D> {
    /// Counts one more.
    ///
    /// # Errors
    /// A VM can't have as many.
    pub fn add(&mut self, probe: Probe, destination: D) -> Result<(), TooManySessions> {
        let (number, limit, why) = match probe.kind.is_narrow() {
            true => (&mut self.narrow, NARROW_FLOWS, TooManySessions::Narrow),
            false => (&mut self.wide, WIDE_FLOWS, TooManySessions::Wide),
        };
        if *number == limit {
            return Err(why);
        }
        *number += 1;
        if probe.kind.has_port_by_flow() {
            let number = self.by_peer.entry((destination, probe.port)).or_default();
            if *number == NUMBER {
                return Err(TooManySessions::ToPeer(probe.kind, probe.port));
            }
            *number += 1;
        }
        Ok(())
    }
}

impl Vm {
    /// Counts its sessions.
    pub fn session_counts(&self) -> SessionCounts {
        let mut counts = SessionCounts::default();
        for session in self.sessions.iter().chain(self.wide_sessions()) {
            // Those that are there were not too many.
            let _ = counts.add(session.config.probe, session.config.destination);
        }
        counts
    }
}

impl fmt::Display for TooManySessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (EPHEMERAL_PORTS.start(), EPHEMERAL_PORTS.end());
        match self {
            TooManySessions::Narrow => write!(
                f,
                "more than {NARROW_FLOWS} flows by icmp and stamp, which is all that their identifiers of 16 bits can tell apart"
            ),
            TooManySessions::Wide => {
                write!(f, "more than {WIDE_FLOWS} flows by udp, tcp and arp")
            }
            TooManySessions::ToPeer(kind, port) => write!(
                f,
                "more than {NUMBER} {kind} flows to port {port} of one destination, each of which needs a port of its own from {first} to {last}"
            ),
        }
    }
}
