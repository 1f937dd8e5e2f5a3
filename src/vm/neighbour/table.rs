//! The neighbour table: entries, their states, and their timers. An entry has a timer while it is incomplete, delayed or
//! probed only: what is at rest wakes nobody, and whether a reachable one still is shows when it is used.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{
    BASE_REACHABLE_TIME, DELAY_FIRST_PROBE_TIME, MAX_NEIGHBOURS, MAX_REQUESTS, MAX_WAITING,
    RETRY_INTERVAL,
};
use crate::time::Instant;
use crate::vm::PingId;
use crate::wire::MacAddr;

/// The least times that are taken from routers, in milliseconds.
const LEAST_RETRANSMIT_TIME: u32 = 10;
const LEAST_REACHABLE_TIME: u32 = 100;

/// One neighbour.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where it is, or was. Nothing while it was never found.
    pub(super) mac: MacAddr,
    /// When it was last looked up to send something to it.
    pub(super) used: Instant,
    /// When its state or its hardware address changed last.
    pub(super) updated: Instant,
    pub(super) state: State,
}

/// How far a neighbour is known (RFC 4861 section 7.3.2).
#[derive(Debug)]
pub(super) enum State {
    /// Asked for, and never found. Boxed: most of the time there is none.
    Incomplete(Box<Search>),
    /// Packets get there: it said so at `confirmed`. The same as stale when that is too long ago.
    Reachable { confirmed: Instant },
    /// Its address is known, and nothing is known of whether packets get there.
    Stale,
    /// Used while stale: asked at `until` unless it tells before.
    Delay { until: Instant },
    /// Asked by unicast whether it is there still; used meanwhile.
    Probe { retry_at: Instant, requests: u8 },
    /// It did not answer. The next use has it asked for anew.
    Failed,
    /// Filled in for good (`NUD_PERMANENT`): never asked, and nobody's word changes it.
    Permanent,
}

/// A search for a neighbour that is not known.
#[derive(Debug)]
pub(super) struct Search {
    since: Instant,
    retry_at: Instant,
    requests: u8,
    waiting: VecDeque<PingId>,
}

/// Pings that waited for a neighbour.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Waited {
    /// From the first request to the answer.
    pub(super) elapsed: Duration,
    pub(super) pings: VecDeque<PingId>,
}

/// A search for a neighbour that nobody has answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VainSearch {
    /// The number of requests so far.
    pub requests: u8,
    /// When the last of them was sent.
    pub last: Instant,
    /// The time between two of them, at least.
    pub interval: Duration,
}

/// The way of a ping to a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm) enum Lookup {
    /// Send it to this address.
    Found(MacAddr),
    /// The same, and the table has one deadline more.
    Suspected(MacAddr),
    /// It waits, and a request is to be sent for it.
    Ask,
    /// It waits for a request that is under way.
    Wait,
    /// Too many wait already.
    Full,
}

/// The state of a neighbour that nothing is to be sent to yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm) enum Found {
    /// Its address is known.
    Known,
    /// It was asked for before.
    Asking,
    /// It is asked for now: the table has one deadline more.
    Unknown,
}

/// A deadline that has passed.
#[derive(Debug)]
pub(super) enum Overdue {
    /// Ask, everybody or only the address at which the neighbour was last.
    Ask(IpAddr, Option<MacAddr>),
    /// Nobody answers; these pings waited.
    GiveUp(VecDeque<PingId>),
}

/// Bounded: at most [`MAX_NEIGHBOURS`] learned entries beside those this VM itself asked for.
#[derive(Debug)]
pub(in crate::vm) struct NeighbourTable {
    /// Looked up once a ping, so the hash is a quick one. Others may choose addresses that collide, but only so many.
    pub(super) entries: FxHashMap<IpAddr, Entry>,
    pub(super) timers: Timers,
    /// The same for both families until a router tells other times for IPv6.
    ipv4: Times,
    ipv6: Times,
}

/// The times of one family.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// How long a confirmation lasts.
    reachable: Duration,
    /// The value around which that was drawn, and the time between two requests, in milliseconds.
    base_reachable: u32,
    retransmit: u32,
}

impl Times {
    fn drawn(base_reachable: u32, retransmit: u32, random: &mut fastrand::Rng) -> Times {
        let base = Duration::from_millis(base_reachable.into());
        Times {
            reachable: base.mul_f64(0.5 + random.f64()),
            base_reachable,
            retransmit,
        }
    }
}

impl NeighbourTable {
    /// An empty table.
    pub(in crate::vm) fn new(random: &mut fastrand::Rng) -> NeighbourTable {
        let milliseconds = |time: Duration| time.as_millis() as u32;
        let times = Times::drawn(
            milliseconds(BASE_REACHABLE_TIME),
            milliseconds(RETRY_INTERVAL),
            random,
        );
        NeighbourTable {
            entries: FxHashMap::default(),
            timers: Timers::default(),
            ipv4: times,
            ipv6: times,
        }
    }

    fn times(&self, address: IpAddr) -> &Times {
        if address.is_ipv4() {
            &self.ipv4
        } else {
            &self.ipv6
        }
    }

    /// How long a confirmation of `address` lasts.
    pub(in crate::vm) fn reachable_time(&self, address: IpAddr) -> Duration {
        self.times(address).reachable
    }

    /// The time between two requests for neighbours of IPv6.
    pub(in crate::vm) fn ipv6_retransmit_time(&self) -> Duration {
        Duration::from_millis(self.ipv6.retransmit.into())
    }

    /// Takes the times that a router tells for IPv6, in milliseconds; 0 for "as before" (RFC 4861 section 6.3.4). Linux
    /// takes no shorter ones than these, nor are they here (`ndisc_router_discovery` in `net/ipv6/ndisc.c`).
    pub(in crate::vm) fn learn_times(
        &mut self,
        reachable: u32,
        retransmit: u32,
        random: &mut fastrand::Rng,
    ) {
        if retransmit > 0 {
            self.ipv6.retransmit = retransmit.max(LEAST_RETRANSMIT_TIME);
        }
        let reachable = match reachable {
            0 => self.ipv6.base_reachable,
            told => told.max(LEAST_REACHABLE_TIME),
        };
        if reachable != self.ipv6.base_reachable {
            self.ipv6 = Times::drawn(reachable, self.ipv6.retransmit, random);
        }
    }

    /// Lets confirmations last that long.
    #[cfg(test)]
    pub(in crate::vm) fn set_reachable_time(&mut self, time: Duration) {
        (self.ipv4.reachable, self.ipv6.reachable) = (time, time);
    }

    /// Finds the address for `ping`, or lets it wait. Replies to pings confirm nothing, though RFC 4861 section 7.3.1 would
    /// allow it: the kernel takes them for that only if the program says so (`MSG_CONFIRM`), and `ping` does not.
    #[inline]
    pub(in crate::vm) fn lookup(&mut self, now: Instant, address: IpAddr, ping: PingId) -> Lookup {
        let reachable_time = self.reachable_time(address);
        let Some(entry) = self.entries.get_mut(&address) else {
            return self.ask_for(now, address, ping);
        };
        entry.used = now;
        match entry.state {
            State::Permanent => Lookup::Found(entry.mac),
            State::Reachable { confirmed } if now - confirmed < reachable_time => {
                Lookup::Found(entry.mac)
            }
            _ => self.lookup_unconfirmed(now, address, ping),
        }
    }

    /// The same for a neighbour that is not known to be reachable.
    #[cold]
    fn lookup_unconfirmed(&mut self, now: Instant, address: IpAddr, ping: PingId) -> Lookup {
        let Some(entry) = self.entries.get_mut(&address) else {
            return self.ask_for(now, address, ping);
        };
        match &mut entry.state {
            State::Permanent => Lookup::Found(entry.mac),
            State::Failed => self.ask_for(now, address, ping),
            State::Incomplete(search) if search.waiting.len() >= MAX_WAITING => Lookup::Full,
            State::Incomplete(search) => {
                search.waiting.push_back(ping);
                Lookup::Wait
            }
            State::Delay { .. } | State::Probe { .. } => Lookup::Found(entry.mac),
            State::Reachable { .. } | State::Stale => {
                entry.enter(now, address, delay(now), &mut self.timers);
                Lookup::Suspected(entry.mac)
            }
        }
    }

    fn retransmit_time(&self, address: IpAddr) -> Duration {
        Duration::from_millis(self.times(address).retransmit.into())
    }

    /// Begins the search for a neighbour, with the first request sent for `ping` by the caller.
    #[cold]
    fn ask_for(&mut self, now: Instant, address: IpAddr, ping: PingId) -> Lookup {
        let retry_at = now + self.retransmit_time(address);
        self.search(now, address, retry_at, 1, VecDeque::from([ping]));
        Lookup::Ask
    }

    fn search(
        &mut self,
        now: Instant,
        address: IpAddr,
        retry_at: Instant,
        requests: u8,
        waiting: VecDeque<PingId>,
    ) {
        let search = Box::new(Search {
            since: now,
            retry_at,
            requests,
            waiting,
        });
        let entry = self.entries.entry(address).or_insert(Entry {
            mac: MacAddr::ZERO,
            used: now,
            updated: now,
            state: State::Failed,
        });
        entry.enter(now, address, State::Incomplete(search), &mut self.timers);
    }

    /// Looks for a neighbour before anything is to be sent to it.
    pub(in crate::vm) fn find(&mut self, now: Instant, address: IpAddr) -> Found {
        match self.entries.get(&address).map(|entry| &entry.state) {
            None | Some(State::Failed) => {
                self.search(now, address, now, 0, VecDeque::new());
                Found::Unknown
            }
            Some(State::Incomplete(_)) => Found::Asking,
            Some(_) => Found::Known,
        }
    }

    /// Finds the address for a frame that is no ping, and uses it; asks for it if it is not known.
    pub(in crate::vm) fn reach(&mut self, now: Instant, address: IpAddr) -> Option<MacAddr> {
        if self.find(now, address) != Found::Known {
            return None;
        }
        let reachable_time = self.reachable_time(address);
        let entry = self.entries.get_mut(&address)?;
        entry.used = now;
        if entry.is_stale(now, reachable_time) {
            entry.enter(now, address, delay(now), &mut self.timers);
        }
        Some(entry.mac)
    }

    /// When the neighbour `address` was asked for in vain, if nothing was heard of it since.
    pub(in crate::vm) fn failed_at(&self, address: IpAddr) -> Option<Instant> {
        let entry = self.entries.get(&address)?;
        matches!(entry.state, State::Failed).then_some(entry.updated)
    }

    /// When the state or the hardware address of the neighbour `address` changed last.
    pub(in crate::vm) fn updated_at(&self, address: IpAddr) -> Option<Instant> {
        Some(self.entries.get(&address)?.updated)
    }

    /// The search for the neighbour `address` that goes on, or that has failed last.
    pub(in crate::vm) fn vain_search(&self, address: IpAddr) -> Option<VainSearch> {
        let interval = self.retransmit_time(address);
        let entry = self.entries.get(&address)?;
        let (requests, next) = match &entry.state {
            State::Incomplete(search) => (search.requests, search.retry_at),
            State::Failed => (MAX_REQUESTS, entry.updated),
            _ => return None,
        };
        Some(VainSearch {
            requests,
            last: Instant::from_nanos(next.as_nanos().saturating_sub(interval.as_nanos() as u64)),
            interval,
        })
    }

    /// The time until which the neighbour `address` is taken for reachable if nothing more is heard of it. `None` if it is not.
    pub(in crate::vm) fn reachable_until(&self, address: IpAddr) -> Option<Instant> {
        match self.entries.get(&address)?.state {
            State::Permanent => Some(Instant::from_nanos(u64::MAX)),
            State::Reachable { confirmed } => Some(confirmed + self.reachable_time(address)),
            _ => None,
        }
    }

    /// Tells if a neighbour is asked for, and not found yet.
    pub(in crate::vm) fn is_asking(&self, address: IpAddr) -> bool {
        let entry = self.entries.get(&address);
        entry.is_some_and(|entry| matches!(entry.state, State::Incomplete(_)))
    }

    /// The address of a neighbour that is known now.
    pub(in crate::vm) fn get(&self, address: IpAddr) -> Option<MacAddr> {
        let entry = self.entries.get(&address)?;
        match entry.state {
            State::Incomplete(_) | State::Failed => None,
            _ => Some(entry.mac),
        }
    }

    /// Makes `mac` the address of a neighbour for good: it is not asked, and nobody's claim changes it.
    pub(in crate::vm) fn set(&mut self, address: IpAddr, mac: MacAddr) {
        let permanent = Entry {
            mac,
            used: Instant::ZERO,
            updated: Instant::ZERO,
            state: State::Permanent,
        };
        if let Some(old) = self.entries.insert(address, permanent) {
            self.timers.stop(old.state.timer(), address);
        }
    }

    /// When [`NeighbourTable::overdue`] has something.
    pub(in crate::vm) fn deadline(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// Takes one deadline that has passed at `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        while let Some(address) = self.timers.expired(now) {
            let retry_at = now + self.retransmit_time(address);
            let Some(entry) = self.entries.get_mut(&address) else {
                continue;
            };
            let last = entry.mac;
            match &mut entry.state {
                State::Delay { .. } => {
                    let probe = State::Probe {
                        retry_at,
                        requests: 1,
                    };
                    entry.enter(now, address, probe, &mut self.timers);
                    return Some(Overdue::Ask(address, Some(last)));
                }
                State::Probe {
                    retry_at: next,
                    requests,
                } if *requests < MAX_REQUESTS => {
                    (*next, *requests) = (retry_at, *requests + 1);
                    self.timers.start(Some(retry_at), address);
                    return Some(Overdue::Ask(address, Some(last)));
                }
                State::Incomplete(search) if search.requests < MAX_REQUESTS => {
                    (search.retry_at, search.requests) = (retry_at, search.requests + 1);
                    self.timers.start(Some(retry_at), address);
                    return Some(Overdue::Ask(address, None));
                }
                State::Incomplete(search) => {
                    let waiting = std::mem::take(&mut search.waiting);
                    entry.enter(now, address, State::Failed, &mut self.timers);
                    return Some(Overdue::GiveUp(waiting));
                }
                State::Probe { .. } => entry.enter(now, address, State::Failed, &mut self.timers),
                // Without a timer.
                State::Reachable { .. } | State::Stale | State::Failed | State::Permanent => {}
            }
        }
        None
    }

    /// Makes room for one entry more: forgets one that failed, or the stale one that was used least recently. False if
    /// all are in use: then nobody is added.
    pub(super) fn make_room(&mut self, now: Instant) -> bool {
        if self.entries.len() < MAX_NEIGHBOURS {
            return true;
        }
        let idle = self.entries.iter().filter_map(|(address, entry)| {
            let used = match entry.state {
                State::Failed => Instant::ZERO,
                _ if entry.is_stale(now, self.reachable_time(*address)) => entry.used,
                _ => return None,
            };
            Some((used, *address))
        });
        let Some((_, address)) = idle.min() else {
            return false;
        };
        self.entries.remove(&address);
        true
    }

    #[cfg(test)]
    pub(in crate::vm) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Entry {
    /// Tells if the neighbour is known, and nothing of whether packets get there: it was never confirmed, or too long
    /// ago. The latter takes no timer: it shows when somebody looks.
    pub(super) fn is_stale(&self, now: Instant, reachable_time: Duration) -> bool {
        match self.state {
            State::Reachable { confirmed } => now - confirmed >= reachable_time,
            State::Stale => true,
            _ => false,
        }
    }

    /// Changes the state of the entry, which is `address`'s, at `now`, and its timer with it.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        address: IpAddr,
        state: State,
        timers: &mut Timers,
    ) {
        timers.stop(self.state.timer(), address);
        timers.start(state.timer(), address);
        self.state = state;
        self.updated = now;
    }
}

impl State {
    /// When the table has something to do for an entry in this state.
    pub(super) fn timer(&self) -> Option<Instant> {
        match self {
            State::Incomplete(search) => Some(search.retry_at),
            State::Delay { until } => Some(*until),
            State::Probe { retry_at, .. } => Some(*retry_at),
            State::Reachable { .. } | State::Stale | State::Failed | State::Permanent => None,
        }
    }
}

impl Search {
    /// Ends the search at `now`.
    pub(super) fn end(&mut self, now: Instant) -> Waited {
        Waited {
            elapsed: now - self.since,
            pings: std::mem::take(&mut self.waiting),
        }
    }
}

/// A stale neighbour that is used from `now` on.
pub(super) fn delay(now: Instant) -> State {
    State::Delay {
        until: now + DELAY_FIRST_PROBE_TIME,
    }
}

/// The timers of all entries, in order: one for each entry that has one. They are started near the end, and end or are
/// stopped near the beginning, so that little is moved.
#[derive(Debug, Default)]
pub(super) struct Timers(VecDeque<(Instant, IpAddr)>);

impl Timers {
    fn first(&self) -> Option<Instant> {
        self.0.front().map(|&(at, _)| at)
    }

    pub(super) fn start(&mut self, at: Option<Instant>, address: IpAddr) {
        if let Some(timer) = at.map(|at| (at, address))
            && let Err(index) = self.0.binary_search(&timer)
        {
            self.0.insert(index, timer);
        }
    }

    fn stop(&mut self, at: Option<Instant>, address: IpAddr) {
        if let Some(timer) = at.map(|at| (at, address))
            && let Ok(index) = self.0.binary_search(&timer)
        {
            self.0.remove(index);
        }
    }

    /// Takes the first timer that has ended at `now`.
    fn expired(&mut self, now: Instant) -> Option<IpAddr> {
        self.first().filter(|at| *at <= now)?;
        self.0.pop_front().map(|(_, address)| address)
    }
}
