//! The TCP connections that a VM has opened, by their ends, and when something is due for one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::AddAssign;

use super::ports::{ByEnds, Ends, Peer};
use crate::time::Instant;
use crate::vm::PingId;

/// How far a connection has come (RFC 9293 section 3.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// SYN-SENT.
    SynSent,
    /// ESTABLISHED.
    Open,
    /// FIN-WAIT-1 and what may follow it.
    Closing {
        /// The peer has acknowledged our FIN.
        is_acknowledged: bool,
        /// The peer has sent its own.
        is_closed_by_peer: bool,
    },
}

impl State {
    /// Our FIN was sent, and nothing was heard since.
    pub(super) const FIN_SENT: State = State::Closing {
        is_acknowledged: false,
        is_closed_by_peer: false,
    };
}

/// A connection that is not over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// The ping that has opened it.
    pub(super) ping: PingId,
    pub(super) state: State,
    /// How often the segment that is to be acknowledged was repeated.
    pub(super) repeats: u8,
    /// When something is due.
    pub(super) due: Instant,
    /// How long an acknowledgement is waited for.
    pub(super) until: Instant,
    /// The number that the peer's next byte has.
    pub(super) expected: u32,
}

/// What has happened to a VM's connections.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ConnectionCounts {
    /// Those that a first SYN was sent for.
    pub begun: u64,
    /// Those that were opened: SYNs that a SYN has answered.
    pub opened: u64,
    /// Those that are over: closed by both ends or reset.
    pub closed: u64,
    /// Those that their peers have closed or reset while they were held.
    pub ended_by_peer: u64,
    /// SYNs that were repeated.
    pub syns_repeated: u64,
}

impl ConnectionCounts {
    /// Those that are open.
    pub const fn open(&self) -> u64 {
        self.opened.saturating_sub(self.closed)
    }

    /// What has happened since it was `earlier`.
    const fn since(self, earlier: ConnectionCounts) -> ConnectionCounts {
        ConnectionCounts {
            begun: self.begun - earlier.begun,
            opened: self.opened - earlier.opened,
            closed: self.closed - earlier.closed,
            ended_by_peer: self.ended_by_peer - earlier.ended_by_peer,
            syns_repeated: self.syns_repeated - earlier.syns_repeated,
        }
    }
}

impl AddAssign for ConnectionCounts {
    fn add_assign(&mut self, other: ConnectionCounts) {
        self.begun += other.begun;
        self.opened += other.opened;
        self.closed += other.closed;
        self.ended_by_peer += other.ended_by_peer;
        self.syns_repeated += other.syns_repeated;
    }
}

/// Those of one VM. Nothing is on the heap before the first; an open one takes less than 200 bytes.
#[derive(Default, Debug)]
pub(super) struct Connections {
    by_ends: ByEnds<Connection>,
    /// When something is due for which, some of them no longer.
    due: BinaryHeap<Reverse<(Instant, Ends)>>,
    /// What has happened so far.
    pub(super) counts: ConnectionCounts,
    /// That of it which was told.
    told: ConnectionCounts,
}

impl Connections {
    /// Opens the connection of `ping`, at a port that no other to that peer has. `None` if all are in use.
    pub(super) fn open(
        &mut self,
        random: &mut fastrand::Rng,
        peer: Peer,
        connection: Connection,
    ) -> Option<Ends> {
        let ends = self.by_ends.open(random, peer, connection)?;
        self.due.push(Reverse((connection.due, ends)));
        Some(ends)
    }

    /// Returns true if each port is in use for a connection to `peer`.
    pub(super) fn is_full(&self, peer: Peer) -> bool {
        self.by_ends.is_full(peer)
    }

    pub(super) fn get(&self, ends: Ends) -> Option<Connection> {
        self.by_ends.get(ends).copied()
    }

    /// Puts `connection` in the place of what it was.
    pub(super) fn set(&mut self, ends: Ends, connection: Connection) {
        let Some(place) = self.by_ends.get_mut(ends) else {
            return;
        };
        let is_later = place.due != connection.due;
        *place = connection;
        if is_later {
            self.due.push(Reverse((connection.due, ends)));
        }
        self.drop_past();
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, ends: Ends) {
        let Some(connection) = self.by_ends.remove(ends) else {
            return;
        };
        if connection.state != State::SynSent {
            self.counts.closed += 1;
        }
        self.drop_past();
    }

    /// What has happened since this was asked last. `None` if nothing has.
    pub(super) fn untold(&mut self) -> Option<ConnectionCounts> {
        let untold = self.counts.since(self.told);
        self.told = self.counts;
        (untold != ConnectionCounts::default()).then_some(untold)
    }

    /// Takes one of them, if there is any.
    pub(super) fn take_any(&mut self) -> Option<(Ends, Connection)> {
        let Reverse((_, ends)) = self.due.peek()?;
        let (ends, connection) = (*ends, self.get(*ends)?);
        self.remove(ends);
        Some((ends, connection))
    }

    /// When something is due for the next one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let Reverse((at, _)) = self.due.peek()?;
        Some(*at)
    }

    /// The connection for which something is due at `now`.
    pub(super) fn next_due(&self, now: Instant) -> Option<(Ends, Connection)> {
        let Reverse((at, ends)) = self.due.peek()?;
        let connection = self.get(*ends)?;
        (*at <= now).then_some((*ends, connection))
    }

    /// Has the first entry be one that still holds.
    fn drop_past(&mut self) {
        while let Some(Reverse((at, ends))) = self.due.peek()
            && self
                .by_ends
                .get(*ends)
                .is_none_or(|connection| connection.due != *at)
        {
            self.due.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::vm::SessionId;
    use crate::vm::probe::ports::NUMBER;

    fn peer(last: u8) -> Peer {
        Peer {
            address: Ipv4Addr::new(10, 77, 0, last).into(),
            port: 80,
        }
    }

    fn connection(sequence: u64) -> Connection {
        let due = Instant::from_nanos(sequence);
        Connection {
            ping: PingId {
                session: SessionId(0),
                sequence,
            },
            state: State::SynSent,
            repeats: 0,
            due,
            until: due,
            expected: 0,
        }
    }

    #[test]
    fn one_more_connection_than_a_peer_has_ports_is_refused_until_one_is_over() {
        let mut connections = Connections::default();
        let mut random = fastrand::Rng::with_seed(1);
        let mut open = |connections: &mut Connections, last| {
            connections.open(&mut random, peer(last), connection(0))
        };
        (0..NUMBER).for_each(|_| assert!(open(&mut connections, 1).is_some()));
        assert_eq!(open(&mut connections, 1), None);
        assert!(connections.is_full(peer(1)) && !connections.is_full(peer(2)));
        let port = 40_000;
        connections.remove(Ends {
            peer: peer(1),
            port,
        });
        assert_eq!(open(&mut connections, 1).map(|ends| ends.port), Some(port));
        // What is over has left nothing.
        while let Some((ends, _)) = connections.take_any() {
            connections.remove(ends);
        }
        assert!(connections.due.is_empty());
    }

    #[test]
    fn the_first_that_is_due_is_told_whatever_has_changed() {
        let mut connections = Connections::default();
        let mut random = fastrand::Rng::with_seed(3);
        let opened: Vec<Ends> = (1..=3)
            .map(|at| {
                let opened = connections.open(&mut random, peer(1), connection(at));
                opened.unwrap()
            })
            .collect();
        let due_at = |connections: &Connections| connections.due_at().unwrap().as_nanos();
        assert_eq!(due_at(&connections), 1);
        connections.set(opened[0], connection(9));
        assert_eq!(due_at(&connections), 2);
        connections.remove(opened[1]);
        assert_eq!(due_at(&connections), 3);
        connections.set(opened[0], connection(2));
        assert_eq!(due_at(&connections), 2);
        let (ends, _) = connections.next_due(Instant::from_nanos(2)).unwrap();
        assert_eq!(ends, opened[0]);
        assert!(connections.next_due(Instant::from_nanos(1)).is_none());
    }
}
