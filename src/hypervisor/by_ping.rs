//! Which ping a frame is of, and values by ping in bounded memory.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;

use rustc_hash::FxHasher;

use super::Hypervisor;
use crate::fabric::Fabric;
use crate::record::Way;
use crate::vm::{PingId, SessionId, VmId};
use crate::wire::{FLOW_BITS, LinkHead, PingHead, ProbeHead};

/// A ping by what its frames say: its source, and the identifier and the sequence number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) const fn new(source: VmId, identifier: u32, sequence: u16) -> Key {
        let flow = identifier as u64 & ((1 << FLOW_BITS) - 1);
        Key((source.0 as u64) << (16 + FLOW_BITS) | flow << 16 | sequence as u64)
    }

    /// The VM that sends the ping.
    pub(super) const fn source(self) -> VmId {
        VmId((self.0 >> (16 + FLOW_BITS)) as u32)
    }

    /// The session of the ping, which is the identifier on the wire.
    pub(super) const fn session(self) -> SessionId {
        SessionId((self.0 >> 16) as u32 & ((1 << FLOW_BITS) - 1))
    }

    /// That of a ping of `source`.
    pub(super) const fn of(source: VmId, ping: PingId) -> Key {
        Key::new(source, ping.session.0, ping.wire_sequence())
    }
}

/// What a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Purpose {
    /// A ping that has a number on the wire.
    Ping(Key),
    /// This VM asks for the hardware address of that neighbour: for pings that need it, or because its pings are such questions.
    Search(VmId, IpAddr),
}

/// Values of the pings that one was kept of last, or by another key.
///
/// They lie in the order in which they came, so that a new one, and the oldest, which makes room for it, are where the last ones
/// were; by key there are only their numbers.
#[derive(Debug)]
pub(super) struct Bounded<T, K = Key> {
    /// The values, the oldest first; some have been taken since.
    values: VecDeque<Option<(K, T)>>,
    /// The number of the first of them.
    first: u64,
    numbers: HashMap<K, u64, BuildHasherDefault<PingHasher>>,
    limit: usize,
}

/// Hashes pings such that those of a session that come one after the other are found near each other.
#[derive(Default)]
struct PingHasher {
    all: FxHasher,
    /// The lowest bits of what came last.
    last: u64,
}

/// So many of the lowest bits of a number are those of its hash.
const NEAR: u64 = 63;

impl Hasher for PingHasher {
    fn finish(&self) -> u64 {
        self.all.finish() & !NEAR | self.last
    }

    fn write(&mut self, bytes: &[u8]) {
        self.all.write(bytes);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.all.write_u64(number & !NEAR | self.last);
        self.last = number & NEAR;
    }

    fn write_isize(&mut self, number: isize) {
        self.all.write_isize(number);
    }
}

impl<T, K: Copy + Eq + Hash> Bounded<T, K> {
    /// Keeps nothing yet, and up to `limit` values.
    pub(super) fn new(limit: usize) -> Bounded<T, K> {
        Bounded {
            values: VecDeque::new(),
            first: 0,
            numbers: HashMap::default(),
            limit,
        }
    }

    /// Returns the value of `key`.
    pub(super) fn get(&self, key: K) -> Option<&T> {
        let place = self.place(*self.numbers.get(&key)?);
        let (_, value) = self.values.get(place)?.as_ref()?;
        Some(value)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let place = self.place(*self.numbers.get(&key)?);
        let (_, value) = self.values.get_mut(place)?.as_mut()?;
        Some(value)
    }

    /// Keeps the value of `key`, in place of the one that it has. The oldest value leaves if there is no room.
    pub(super) fn insert(&mut self, key: K, value: T) {
        let number = self.first + self.values.len() as u64;
        self.values.push_back(Some((key, value)));
        if let Some(before) = self.numbers.insert(key, number) {
            self.take(before);
        }
        if self.numbers.len() > self.limit
            && let Some((oldest, _)) = self.values.pop_front().flatten()
        {
            self.first += 1;
            self.numbers.remove(&oldest);
        }
        self.drop_taken();
        if self.values.len() > 2 * self.limit {
            self.close_up();
        }
    }

    /// Takes the value of `key`.
    pub(super) fn remove(&mut self, key: K) -> Option<T> {
        let number = self.numbers.remove(&key)?;
        let value = self.take(number);
        self.drop_taken();
        value
    }

    fn place(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    fn take(&mut self, number: u64) -> Option<T> {
        let place = self.place(number);
        let (_, value) = self.values.get_mut(place)?.take()?;
        Some(value)
    }

    /// Has the oldest value be the first: [`Bounded::insert`] relies on that.
    fn drop_taken(&mut self) {
        while let Some(None) = self.values.front() {
            self.values.pop_front();
            self.first += 1;
        }
    }

    /// Leaves no room between the values. Takes time proportional to their number.
    fn close_up(&mut self) {
        self.values.retain(Option::is_some);
        let keys = self.values.iter().flatten().map(|(key, _)| *key);
        self.numbers = keys.zip(self.first..).collect();
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// The ping of a frame, and the part of it that the frame is, if its source is a VM of the run.
    pub(super) fn ping_in(&self, frame: &[u8]) -> Option<(Key, Way)> {
        match PingHead::parse(frame)? {
            PingHead::Probe(head) => self.ping_of(&head),
            PingHead::Link(head) => {
                let (source, way) = self.asker_of(&head)?;
                let ping = self.vm(source)?.link_ping(head.target)?;
                Some((Key::of(source, ping), way))
            }
        }
    }

    /// What a frame is for, and the part of it that it is, if a VM of the run is the source.
    pub(super) fn purpose_of(&self, head: &PingHead) -> Option<(Purpose, Way)> {
        match head {
            PingHead::Probe(head) => {
                let (key, way) = self.ping_of(head)?;
                Some((Purpose::Ping(key), way))
            }
            PingHead::Link(head) => {
                let (source, way) = self.asker_of(head)?;
                Some((Purpose::Search(source, head.target), way))
            }
        }
    }

    /// The VM that asks for a hardware address, and whether this is its question.
    fn asker_of(&self, head: &LinkHead) -> Option<(VmId, Way)> {
        let (mac, way) = match head.is_request {
            true => (head.source_mac, Way::Request),
            false => (head.destination_mac, Way::Reply),
        };
        Some((self.station(mac)?, way))
    }

    /// The ping of a frame and the part of it that the frame is, if its source is a VM of the run.
    pub(super) fn ping_of(&self, head: &ProbeHead) -> Option<(Key, Way)> {
        let (mac, way) = match head.is_request {
            true => (head.source_mac, Way::Request),
            false => (head.destination_mac, Way::Reply),
        };
        let stolen = self.thefts.iter().filter(|_| way == Way::Reply);
        let mut stolen = stolen.filter(|theft| theft.address == head.destination);
        let owner = stolen.find_map(|theft| theft.owner);
        let source = owner.or_else(|| self.station(mac))?;
        Some((Key::new(source, head.identifier, head.sequence), way))
    }

    /// The VM that the ping is for; `None` if it is none of the run's.
    pub(super) fn target_of_ping(&self, key: Key) -> Option<VmId> {
        let slot = self.slots.get(key.source().index())?.as_ref()?;
        let flow = slot.flows.get(key.session())?;
        self.flows.get(flow.index())?.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(number: u32) -> Key {
        Key::new(VmId(number), 0, 0)
    }

    #[test]
    fn the_oldest_value_leaves_and_what_was_taken_is_none() {
        let mut values = Bounded::new(3);
        (0..3).for_each(|number| values.insert(key(number), number));
        assert_eq!(values.remove(key(0)), Some(0));
        values.insert(key(3), 3);
        values.insert(key(0), 10);
        // The entry of the first value of that key is older, and is none any more.
        assert_eq!(values.get_mut(key(1)), None);
        let kept = [2, 3, 0].map(|number| values.remove(key(number)));
        assert_eq!(kept, [Some(2), Some(3), Some(10)]);
    }

    #[test]
    fn values_that_come_and_go_take_bounded_memory() {
        let mut values = Bounded::new(10);
        values.insert(key(0), 0);
        for number in 1..1_000 {
            values.insert(key(number), number);
            assert_eq!(values.remove(key(number)), Some(number));
            assert!(values.values.len() <= 20);
        }
        assert_eq!(values.remove(key(0)), Some(0));
    }
}
