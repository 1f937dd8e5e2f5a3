//! The source ports of probes: ephemeral ones, as a kernel chooses them (RFC 6056).

use crate::vm::{SessionId, Vm};
use crate::wire::{EPHEMERAL_PORTS, QuotedProbe, is_ephemeral};

/// How many ephemeral ports there are.
pub(super) const NUMBER: u32 = (*EPHEMERAL_PORTS.end() - *EPHEMERAL_PORTS.start()) as u32 + 1;
/// The step from the port of one session to that of the next: it has no factor in common with [`NUMBER`], so that each port has
/// its turn before one comes again, in an order that looks like none.
const STEP: u32 = 10_007;

/// The ephemeral port at that place of an order that looks like none, in which each has its turn before one comes again.
pub(super) fn port_in_turn(place: u32) -> u16 {
    EPHEMERAL_PORTS.start() + (place % NUMBER * STEP % NUMBER) as u16
}

/// The ports of one VM's sessions. Sessions may have the same one where there are more of them than ports: what they send tells
/// them apart.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Ports {
    /// The place of the first session's port among the ephemeral ones; `None` before a session needs one.
    first: Option<u16>,
}

impl Ports {
    /// Chooses at random, if that has not been done.
    pub(super) fn choose(&mut self, random: &mut fastrand::Rng) {
        if self.first.is_none() {
            self.first = Some(random.u16(..NUMBER as u16));
        }
    }

    /// The port of that session.
    fn of(self, session: SessionId) -> Option<u16> {
        let place = (u32::from(self.first?) + u32::from(session.0) * STEP) % NUMBER;
        Some(EPHEMERAL_PORTS.start() + place as u16)
    }
}

impl Vm {
    /// The port that the probes of `session` come from. `None` if no session has ports.
    pub(super) fn local_port(&self, session: SessionId) -> Option<u16> {
        self.probes.as_ref()?.ports.of(session)
    }

    /// The session whose probe an ICMP error quotes, by its ports and destination.
    pub(super) fn session_of_port(&self, port: u16, quoted: &QuotedProbe) -> Option<SessionId> {
        self.sessions_of_port(port).find(|id| {
            let session = self.sessions.get(usize::from(id.0));
            session.is_some_and(|session| session.config.destination == quoted.destination)
        })
    }

    /// The sessions whose probes come from `port`.
    pub(super) fn sessions_of_port(&self, port: u16) -> impl Iterator<Item = SessionId> {
        // Each port has its turn once among as many sessions as there are ports.
        let ports = self.probes.as_ref().map(|probes| probes.ports);
        let first = ports.and_then(|ports| ports.first);
        let first = first.filter(|_| is_ephemeral(port));
        let first = first.map(|first| {
            let place = u32::from(port - EPHEMERAL_PORTS.start()) + NUMBER - u32::from(first);
            place % NUMBER * INVERSE % NUMBER
        });
        let sessions = self.sessions.len();
        let all = first
            .into_iter()
            .flat_map(|first| (first..=u16::MAX.into()).step_by(NUMBER as usize));
        all.take_while(move |number| (*number as usize) < sessions)
            .map(|number| SessionId(number as u16))
    }
}

/// What undoes a multiplication by [`STEP`]: their product is 1 more than a multiple of [`NUMBER`].
const INVERSE: u32 = {
    let mut inverse = 1;
    while inverse * STEP % NUMBER != 1 {
        inverse += 1;
    }
    inverse
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_ephemeral_port_is_one_sessions_before_it_is_anothers() {
        let ports = Ports {
            first: Some(28_000),
        };
        let chosen: HashSet<u16> = (0..NUMBER as u16)
            .map(|session| ports.of(SessionId(session)).unwrap())
            .collect();
        assert_eq!(chosen.len(), NUMBER as usize);
        assert!(chosen.iter().all(|port| is_ephemeral(*port)));
        let next = SessionId(NUMBER as u16);
        assert_eq!(ports.of(next), ports.of(SessionId(0)));
        assert_eq!(Ports::default().of(SessionId(0)), None);
    }

    #[test]
    fn a_seed_chooses_the_same_ports_again_and_another_seed_others() {
        let chosen = |seed| {
            let mut ports = Ports::default();
            let mut random = fastrand::Rng::with_seed(seed);
            ports.choose(&mut random);
            let first = ports.of(SessionId(0));
            ports.choose(&mut random);
            assert_eq!(ports.of(SessionId(0)), first);
            first
        };
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }
}
