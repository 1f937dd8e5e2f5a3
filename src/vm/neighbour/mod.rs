//! The neighbour table of one VM: which hardware address has which IP address (RFC 1122 section 2.3.2).

mod advertised;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::Vm;
use super::event::{PingId, Reaction, Transmit};
use super::ip::Protocol;
use crate::time::Instant;
use crate::wire::MacAddr;

pub(super) use advertised::Waited;

/// Time between two ARP requests for one neighbour (RFC 1122 section 2.3.2.1 allows one a second).
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Requests before a neighbour is given up, as Linux does (`mcast_solicit`).
pub const MAX_REQUESTS: u8 = 3;
/// How long an answer is taken for true: against unasked contradiction, and without asking again.
pub const REACHABLE_TIME: Duration = Duration::from_secs(60);
/// Pings that may wait for one neighbour; the next are turned away.
pub const MAX_WAITING: usize = 1024;
/// Neighbours that are remembered as asked for in vain.
const MAX_FAILED: usize = 16;
/// Neighbours that a VM remembers; above that the least recently used is forgotten.
pub const MAX_NEIGHBOURS: usize = 1024;

/// The row of neighbours: asked for by ARP or neighbour discovery, and asked again.
pub(super) const NEIGHBOURS: Protocol = Protocol {
    poll: Vm::poll_neighbours,
    deadline: |vm| vm.neighbours.deadline(),
    ..Protocol::NONE
};

#[derive(Debug)]
enum State {
    /// Service for, not answered.
    Incomplete {
        since: Instant,
        retry_at: Instant,
        requests: u8,
        waiting: VecDeque<PingId>,
    },
    /// Answered, or heard of in a request to us. When that is [`REACHABLE_TIME`] ago, the next use has it asked again.
    Reachable {
        mac: MacAddr,
        /// `None` when it has only said so itself.
        confirmed: Option<Instant>,
        used: Instant,
    },
    /// In use, and asked again by unicast whether it is there still (RFC 1122 section 2.3.2.1, "unicast poll").
    Checked {
        mac: MacAddr,
        used: Instant,
        retry_at: Instant,
        requests: u8,
    },
}

/// The way of a ping to a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lookup {
    /// Send it to this address.
    Found(MacAddr),
    /// It waits, and an ARP request is to be sent for it.
    Ask,
    /// It waits for a request that is under way.
    Wait,
    /// Too many wait already.
    Full,
}

/// The state of a neighbour that nothing is to be sent to yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Its address is known.
    Known,
    /// Its address is known, and it is asked now whether it is there still.
    Checking,
    /// It was asked for before.
    Asking,
    /// It is asked for now.
    Unknown,
}

/// A deadline of an unanswered request.
#[derive(Debug)]
pub(super) enum Overdue {
    /// Ask, everybody or only the address at which the neighbour was last.
    Ask(IpAddr, Option<MacAddr>),
    /// Nobody answers; these pings waited.
    GiveUp(VecDeque<PingId>),
}

/// Bounded: at most [`MAX_NEIGHBOURS`] learned entries beside those this VM itself asked for.
#[derive(Debug, Default)]
pub(super) struct NeighbourTable {
    /// Looked up once a ping, so the hash is a quick one. Others may choose addresses that collide, but only so many.
    entries: FxHashMap<IpAddr, State>,
    /// Deadlines of incomplete entries, earliest first since all intervals are alike; some are out of date.
    retries: VecDeque<(Instant, IpAddr)>,
    /// Neighbours to be asked at once.
    asks: VecDeque<IpAddr>,
    /// Neighbours that were asked for in vain, and when that was, the oldest first. Those with an entry are asked again.
    failed: VecDeque<(IpAddr, Instant)>,
}

impl NeighbourTable {
    /// Finds the address for `ping`, or lets it wait.
    pub(super) fn lookup(&mut self, now: Instant, address: IpAddr, ping: PingId) -> Lookup {
        match self.entries.get_mut(&address) {
            Some(State::Checked { mac, used, .. }) => {
                *used = now;
                Lookup::Found(*mac)
            }
            Some(State::Reachable {
                mac,
                used,
                confirmed,
            }) if is_fresh(now, *confirmed) => {
                *used = now;
                Lookup::Found(*mac)
            }
            Some(entry @ &mut State::Reachable { mac, .. }) => {
                *entry = checked(now, mac);
                self.asks.push_back(address);
                Lookup::Found(mac)
            }
            Some(State::Incomplete { waiting, .. }) if waiting.len() >= MAX_WAITING => Lookup::Full,
            Some(State::Incomplete { waiting, .. }) => {
                waiting.push_back(ping);
                Lookup::Wait
            }
            None => {
                let retry_at = now + RETRY_INTERVAL;
                let waiting = VecDeque::from([ping]);
                self.entries.insert(
                    address,
                    State::Incomplete {
                        since: now,
                        retry_at,
                        requests: 1,
                        waiting,
                    },
                );
                self.retries.push_back((retry_at, address));
                Lookup::Ask
            }
        }
    }

    /// Looks for a neighbour before anything is to be sent to it; one that was found and may be gone is asked again.
    pub(super) fn find(&mut self, now: Instant, address: IpAddr) -> Found {
        match self.entries.get_mut(&address) {
            Some(State::Incomplete { .. }) => Found::Asking,
            Some(State::Checked { .. }) => Found::Known,
            Some(State::Reachable { confirmed, .. }) if is_fresh(now, *confirmed) => Found::Known,
            Some(entry @ &mut State::Reachable { mac, .. }) => {
                *entry = checked(now, mac);
                self.asks.push_back(address);
                Found::Checking
            }
            None => {
                let unasked = State::Incomplete {
                    since: now,
                    retry_at: now,
                    requests: 0,
                    waiting: VecDeque::new(),
                };
                self.entries.insert(address, unasked);
                self.asks.push_back(address);
                Found::Unknown
            }
        }
    }

    /// Tells if an answer of a neighbour is awaited.
    pub(super) fn is_asking(&self, address: IpAddr) -> bool {
        let state = self.entries.get(&address);
        matches!(
            state,
            Some(State::Incomplete { .. } | State::Checked { .. })
        )
    }

    /// When the neighbour `address` was last asked for in vain, if nothing was heard of it since.
    pub(super) fn failed_at(&self, address: IpAddr) -> Option<Instant> {
        if self.failed.is_empty() || self.entries.contains_key(&address) {
            return None;
        }
        let mut failed = self.failed.iter();
        failed
            .find(|(known, _)| *known == address)
            .map(|(_, at)| *at)
    }

    /// The address of a neighbour that is known now.
    pub(super) fn get(&self, address: IpAddr) -> Option<MacAddr> {
        match self.entries.get(&address)? {
            State::Reachable { mac, .. } | State::Checked { mac, .. } => Some(*mac),
            State::Incomplete { .. } => None,
        }
    }

    /// Makes `mac` the address of a neighbour for good: it is not asked again, and nobody's claim changes it.
    pub(super) fn set(&mut self, address: IpAddr, mac: MacAddr) {
        let for_ever = Instant::from_nanos(u64::MAX);
        self.learn(for_ever, address, mac, true);
    }

    /// Takes the sender of an ARP packet. Returns, if somebody waited for it, for how long and which pings.
    ///
    /// `may_add`: the packet was a request to us, so that an answer is likely to be needed (RFC 826). An entry that is
    /// fresh is not overwritten by a claim that nobody asked for.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        may_add: bool,
    ) -> Option<(Duration, VecDeque<PingId>)> {
        let reachable = State::Reachable {
            mac,
            confirmed: Some(now),
            used: now,
        };
        match self.entries.get_mut(&address) {
            Some(State::Reachable {
                mac: known,
                confirmed,
                ..
            }) => {
                if *known == mac || !is_fresh(now, *confirmed) {
                    (*known, *confirmed) = (mac, (*confirmed).max(Some(now)));
                }
                None
            }
            Some(entry) => match std::mem::replace(entry, reachable) {
                State::Incomplete { since, waiting, .. } => Some((now - since, waiting)),
                State::Reachable { .. } | State::Checked { .. } => None,
            },
            None => {
                if may_add {
                    self.make_room();
                    self.entries.insert(address, reachable);
                }
                None
            }
        }
    }

    /// Tells if a neighbour is to be asked at once.
    pub(super) fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// When the next request is to be repeated, or its neighbour given up; possibly earlier than anything is to be done.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retries.front().map(|&(at, _)| at)
    }

    /// Takes one deadline that has passed at `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        while let Some(address) = self.asks.pop_front() {
            if let Some(State::Incomplete { retry_at, .. } | State::Checked { retry_at, .. }) =
                self.entries.get(&address)
                && let Some(overdue) = self.ask_again(now, *retry_at, address)
            {
                return Some(overdue);
            }
        }
        while let Some(&(at, address)) = self.retries.front().filter(|(at, _)| *at <= now) {
            self.retries.pop_front();
            if let Some(overdue) = self.ask_again(now, at, address) {
                return Some(overdue);
            }
        }
        None
    }

    /// Counts one request more for a neighbour whose deadline was `at`, or gives it up. `None` if that deadline is out
    /// of date, or if nobody waits for what was given up.
    fn ask_again(&mut self, now: Instant, at: Instant, address: IpAddr) -> Option<Overdue> {
        let (retry_at, requests, mac) = match self.entries.get_mut(&address)? {
            State::Reachable { .. } => return None,
            State::Incomplete {
                retry_at, requests, ..
            } => (retry_at, requests, None),
            State::Checked {
                retry_at,
                requests,
                mac,
                ..
            } => (retry_at, requests, Some(*mac)),
        };
        if *retry_at != at {
            return None;
        }
        if *requests >= MAX_REQUESTS {
            self.failed.retain(|(known, _)| *known != address);
            if self.failed.len() >= MAX_FAILED {
                self.failed.pop_front();
            }
            self.failed.push_back((address, now));
            return match self.entries.remove(&address) {
                Some(State::Incomplete { waiting, .. }) => Some(Overdue::GiveUp(waiting)),
                _ => None,
            };
        }
        *requests += 1;
        *retry_at = now + RETRY_INTERVAL;
        self.retries.push_back((*retry_at, address));
        Some(Overdue::Ask(address, mac))
    }

    /// Forgets the least recently used neighbour if the table is full.
    fn make_room(&mut self) {
        if self.entries.len() < MAX_NEIGHBOURS {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .filter_map(|(address, state)| match state {
                State::Reachable { used, .. } | State::Checked { used, .. } => {
                    Some((*used, *address))
                }
                State::Incomplete { .. } => None,
            })
            .min();
        if let Some((_, address)) = oldest {
            self.entries.remove(&address);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Vm {
    /// Asks for a neighbour whose answer is overdue, or gives up a ping that waited for one.
    fn poll_neighbours(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        loop {
            match self.neighbours.overdue(now)? {
                Overdue::Ask(address, last) => {
                    return Some(Reaction {
                        transmit: self.solicit(now, address, last, buffer),
                        event: None,
                    });
                }
                Overdue::GiveUp(waiting) => {
                    self.unresolved.extend(waiting);
                    if let Some(reaction) = self.next_unresolved() {
                        return Some(reaction);
                    }
                }
            }
        }
    }

    /// Asks who has `address`, by the protocol of its family: everybody, or the one who had it last.
    pub(super) fn solicit(
        &self,
        now: Instant,
        address: IpAddr,
        last: Option<MacAddr>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        match address {
            IpAddr::V4(target) => self.arp_request(target, last, buffer),
            IpAddr::V6(target) => self.neighbour_solicitation(now, target, last, buffer),
        }
    }
}

/// A neighbour in use that is to be asked at once whether it is at `mac` still.
fn checked(now: Instant, mac: MacAddr) -> State {
    State::Checked {
        mac,
        used: now,
        retry_at: now,
        requests: 0,
    }
}

/// Tells if an entry that was confirmed then is still taken for true at `now`.
fn is_fresh(now: Instant, confirmed: Option<Instant>) -> bool {
    confirmed.is_some_and(|at| now - at < REACHABLE_TIME)
}
