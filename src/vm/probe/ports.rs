//! The source ports of probes: ephemeral ones, as a kernel chooses them (RFC 6056).
//!
//! What goes to a peer and comes from it is known by both ends, of which the VM's own address is the same for all to one peer. So a
//! port serves as many sessions or connections as there are peers, and each peer has all ephemeral ports.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::kind::Over;
use crate::vm::{SessionConfig, SessionId, Vm};
use crate::wire::{EPHEMERAL_PORTS, QuotedProbe};

/// How many ephemeral ports there are.
pub(super) const NUMBER: u32 = (*EPHEMERAL_PORTS.end() - *EPHEMERAL_PORTS.start()) as u32 + 1;
/// The step from one port to the next one: it has no factor in common with [`NUMBER`], so that each has its turn before one comes
/// again, in an order that looks like none.
const STEP: u32 = 10_007;

/// The far end of sessions and connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

impl Peer {
    /// That of a session's probes.
    pub(super) const fn of(config: &SessionConfig) -> Peer {
        Peer {
            address: config.destination,
            port: config.probe.port,
        }
    }
}

/// Both ends of a session or connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Ends {
    pub(super) peer: Peer,
    /// The VM's port.
    pub(super) port: u16,
}

/// The ports that are used for one peer.
#[derive(Clone, Copy, Default, Debug)]
struct Used {
    /// The place of the next one in the order of all.
    next: u32,
    /// How many are in use.
    number: u32,
}

/// Values by ends, and who has which port. Nothing is on the heap before the first.
#[derive(Debug)]
pub(super) struct ByEnds<T> {
    values: FxHashMap<Ends, T>,
    used: FxHashMap<Peer, Used>,
}

impl<T> Default for ByEnds<T> {
    fn default() -> ByEnds<T> {
        ByEnds {
            values: FxHashMap::default(),
            used: FxHashMap::default(),
        }
    }
}

impl<T> ByEnds<T> {
    /// Keeps a value at a port that no other of that peer has: that after the last one's in an order that looks like none, so that a
    /// port rests as long as there are others. `None` if all are in use.
    pub(super) fn open(
        &mut self,
        random: &mut fastrand::Rng,
        peer: Peer,
        value: T,
    ) -> Option<Ends> {
        let used = self.used.entry(peer).or_insert_with(|| Used {
            next: random.u32(..NUMBER),
            number: 0,
        });
        if used.number == NUMBER {
            return None;
        }
        let ends = loop {
            let place = used.next * STEP % NUMBER;
            let port = EPHEMERAL_PORTS.start() + place as u16;
            used.next = (used.next + 1) % NUMBER;
            let ends = Ends { peer, port };
            if !self.values.contains_key(&ends) {
                break ends;
            }
        };
        used.number += 1;
        self.values.insert(ends, value);
        Some(ends)
    }

    /// Returns true if `peer` has each port.
    pub(super) fn is_full(&self, peer: Peer) -> bool {
        let used = self.used.get(&peer);
        used.is_some_and(|used| used.number == NUMBER)
    }

    pub(super) fn get(&self, ends: Ends) -> Option<&T> {
        self.values.get(&ends)
    }

    pub(super) fn get_mut(&mut self, ends: Ends) -> Option<&mut T> {
        self.values.get_mut(&ends)
    }

    pub(super) fn remove(&mut self, ends: Ends) -> Option<T> {
        let value = self.values.remove(&ends)?;
        if let Some(used) = self.used.get_mut(&ends.peer) {
            used.number -= 1;
        }
        Some(value)
    }
}

impl Vm {
    /// Gives a session whose probes come from a port one. `None` if its peer has all.
    pub(super) fn choose_port(&mut self, id: SessionId, config: &SessionConfig) -> Option<u16> {
        let ports = &mut self.probes.get_or_insert_default().ports;
        let ends = ports.open(&mut self.random, Peer::of(config), id)?;
        Some(ends.port)
    }

    /// Takes back the port of a session, if it has one.
    pub(super) fn free_port(&mut self, config: &SessionConfig, port: u16) {
        let peer = Peer::of(config);
        if let Some(probes) = &mut self.probes {
            probes.ports.remove(Ends { peer, port });
        }
    }

    /// The session whose probes go to `peer` from one of the VM's ports.
    pub(super) fn session_between(&self, ends: Ends) -> Option<SessionId> {
        self.probes.as_ref()?.ports.get(ends).copied()
    }

    /// The session whose probe by UDP an ICMP error quotes.
    pub(super) fn quoted_session(&self, quoted: &QuotedProbe) -> Option<SessionId> {
        let (port, peer) = quoted.ports;
        let peer = Peer {
            address: quoted.destination,
            port: peer,
        };
        let id = self.session_between(Ends { peer, port })?;
        let is_it = |(flow, _): (u32, u16)| flow == id.0;
        quoted.number.is_none_or(is_it).then_some(id)
    }

    /// Returns true if pings of `config` would need a port that is free, and none is.
    pub(super) fn lacks_port(&self, config: &SessionConfig) -> bool {
        let peer = Peer::of(config);
        self.probes
            .as_ref()
            .is_some_and(|probes| match config.probe.kind.row().protocol {
                Over::Tcp => probes.connections.is_full(peer),
                Over::Udp(_) => probes.ports.is_full(peer),
                Over::Icmp | Over::Link => false,
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::is_ephemeral;

    fn peer(last: u8) -> Peer {
        Peer {
            address: Ipv4Addr::new(10, 77, 0, last).into(),
            port: 7,
        }
    }

    #[test]
    fn a_peer_has_every_ephemeral_port_and_a_port_rests_until_all_others_have_had_their_turn() {
        let mut ports = ByEnds::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut open = |ports: &mut ByEnds<()>, last| {
            let ends = ports.open(&mut random, peer(last), ());
            ends.map(|ends| ends.port)
        };
        let mut chosen = HashSet::new();
        for place in 0..NUMBER {
            let port = open(&mut ports, 1).unwrap();
            assert!(is_ephemeral(port) && chosen.insert(port), "{place}");
            if place == 0 {
                let peer = peer(1);
                assert_eq!(ports.remove(Ends { peer, port }), Some(()));
            }
        }
        // That of the first is free again, and the last one in turn.
        assert!(!ports.is_full(peer(1)));
        assert!(chosen.contains(&open(&mut ports, 1).unwrap()));
        assert!(ports.is_full(peer(1)) && !ports.is_full(peer(2)));
        assert_eq!(open(&mut ports, 1), None);
        let other = open(&mut ports, 2).unwrap();
        assert!(chosen.contains(&other), "another peer has all of them");
    }

    #[test]
    fn a_seed_chooses_the_same_ports_again_and_another_seed_others() {
        let chosen = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let ends = ByEnds::default().open(&mut random, peer(1), ());
            ends.unwrap().port
        };
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }
}
