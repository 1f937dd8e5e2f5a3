//! What ranks on one machine tell each other of pings while they run: when the VM that one is for has read it. They have one clock,
//! and memory in common.
//!
//! In that memory is a ring for each rank that tells and each that is told. The one that tells writes before its VM answers, so that
//! it can be read once the answer was.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Rank;
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::FLOW_BITS;

/// Turns that a ring has room for: those told and not read yet.
const ROOM: u64 = 1 << 14;
/// Words of a turn.
const OF_A_TURN: usize = 4;
/// Where it is counted how many were written and how many were read, each in a cache line of its own; and where they begin.
const WRITTEN: usize = 0;
const READ: usize = 8;
const FIRST: usize = 16;
/// The bits of an identifier, between the number of a ping and its source in the first word of a turn.
const IDENTIFIERS: u32 = (1 << FLOW_BITS) - 1;
const SOURCE: u32 = 16 + FLOW_BITS;
const OF_A_RING: usize = FIRST + ROOM as usize * OF_A_TURN;

/// Words that all of them have in common.
pub trait Words: AsRef<[AtomicU64]> + Debug {}

impl<T: AsRef<[AtomicU64]> + Debug> Words for T {}

/// A VM has read a ping of another rank that is for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// The VM that has sent it.
    pub source: VmId,
    /// Its identifier and number on the wire; of one without, the address that it asks for.
    pub ping: TurnedPing,
    /// When it was read.
    pub at: Instant,
}

/// What tells a ping from others of its source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TurnedPing {
    /// Its identifier and its number.
    Numbered(u32, u16),
    /// The address that it asks for.
    Asks(IpAddr),
}

/// What this rank tells others and is told by them.
#[derive(Debug)]
pub struct Turns {
    memory: Box<dyn Words>,
    rank: Rank,
    /// The rank that is to be asked next.
    next: u32,
}

impl Turns {
    /// The words that so many ranks need.
    pub const fn words(ranks: u32) -> usize {
        (ranks as usize).pow(2) * OF_A_RING
    }

    /// Those of `rank`, by memory of at least [`Turns::words`], all 0 at first. `None` if there is less.
    pub fn new(memory: Box<dyn Words>, rank: Rank) -> Option<Turns> {
        let is_enough = (*memory).as_ref().len() >= Turns::words(rank.count());
        is_enough.then_some(Turns {
            memory,
            rank,
            next: 0,
        })
    }

    /// The ring by which `from` tells `to`.
    fn ring(&self, from: u32, to: u32) -> &[AtomicU64] {
        let number = from as usize * self.rank.count() as usize + to as usize;
        let words = (*self.memory).as_ref();
        words
            .get(number * OF_A_RING..(number + 1) * OF_A_RING)
            .unwrap_or_default()
    }

    /// Tells rank `to`, if there is room.
    pub fn tell(&mut self, to: u32, turn: &Turn) {
        let ring = self.ring(self.rank.number(), to);
        let (Some(written), Some(read)) = (ring.get(WRITTEN), ring.get(READ)) else {
            return;
        };
        let number = written.load(Ordering::Relaxed);
        if number.wrapping_sub(read.load(Ordering::Acquire)) >= ROOM {
            return;
        }
        let source = u64::from(turn.source.0) << SOURCE;
        let (ping, address) = match turn.ping {
            TurnedPing::Numbered(identifier, sequence) => {
                let flow = u64::from(identifier & IDENTIFIERS);
                (flow << 16 | u64::from(sequence), 0)
            }
            TurnedPing::Asks(IpAddr::V4(address)) => (0, address.to_ipv6_mapped().to_bits()),
            TurnedPing::Asks(IpAddr::V6(address)) => (0, address.to_bits()),
        };
        let values = [
            source | ping,
            turn.at.as_nanos(),
            (address >> 64) as u64,
            address as u64,
        ];
        for (word, value) in place(ring, number).iter().zip(values) {
            word.store(value, Ordering::Relaxed);
        }
        written.store(number.wrapping_add(1), Ordering::Release);
    }

    /// Takes what another rank has told.
    pub fn take(&mut self) -> Option<Turn> {
        for _ in 0..self.rank.count() {
            let from = self.next;
            if let Some(turn) = self.take_from(from) {
                return Some(turn);
            }
            self.next = (from + 1) % self.rank.count();
        }
        None
    }

    fn take_from(&self, from: u32) -> Option<Turn> {
        let ring = self.ring(from, self.rank.number());
        let (written, read) = (ring.get(WRITTEN)?, ring.get(READ)?);
        let number = read.load(Ordering::Relaxed);
        if written.load(Ordering::Acquire) == number {
            return None;
        }
        let mut words = place(ring, number)
            .iter()
            .map(|word| word.load(Ordering::Relaxed));
        let [ping, at, high, low] = [(); 4].map(|()| words.next().unwrap_or(0));
        read.store(number.wrapping_add(1), Ordering::Release);
        let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
        Some(Turn {
            source: VmId((ping >> SOURCE) as u32),
            ping: match address {
                Ipv6Addr::UNSPECIFIED => {
                    TurnedPing::Numbered((ping >> 16) as u32 & IDENTIFIERS, ping as u16)
                }
                asked => TurnedPing::Asks(canonical(asked)),
            },
            at: Instant::from_nanos(at),
        })
    }
}

fn canonical(address: Ipv6Addr) -> IpAddr {
    let mapped: Option<Ipv4Addr> = address.to_ipv4_mapped();
    mapped.map_or(IpAddr::V6(address), IpAddr::V4)
}

/// The words of the turn of that number.
fn place(ring: &[AtomicU64], number: u64) -> &[AtomicU64] {
    let first = FIRST + (number % ROOM) as usize * OF_A_TURN;
    ring.get(first..first + OF_A_TURN).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Debug)]
    struct Memory(Arc<[AtomicU64]>);

    impl AsRef<[AtomicU64]> for Memory {
        fn as_ref(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    fn of(memory: &Memory, rank: &str) -> Turns {
        Turns::new(Box::new(memory.clone()), rank.parse().unwrap()).unwrap()
    }

    fn turn(number: u64) -> Turn {
        let pings = [
            TurnedPing::Numbered(number as u32 & IDENTIFIERS, 7),
            TurnedPing::Asks("10.77.0.9".parse().unwrap()),
            TurnedPing::Asks("fd77::9".parse().unwrap()),
        ];
        Turn {
            source: VmId(1 << 20 | 3),
            ping: pings[(number % 3) as usize],
            at: Instant::from_nanos(number),
        }
    }

    #[test]
    fn each_rank_is_told_what_is_for_it_in_order_and_what_there_is_room_for() {
        let words = (0..Turns::words(3)).map(|_| AtomicU64::new(0));
        let memory = Memory(words.collect());
        let [mut one, mut two, mut three] = ["0/3", "1/3", "2/3"].map(|rank| of(&memory, rank));
        for round in 0..3 {
            (0..ROOM + 5).for_each(|number| two.tell(0, &turn(number)));
            let other = turn(ROOM + 9 + round);
            three.tell(0, &other);
            two.tell(2, &turn(round + 1));
            let mut told: Vec<Turn> = std::iter::from_fn(|| one.take()).collect();
            let at = told.iter().position(|told| *told == other);
            told.remove(at.expect("what rank 2 has told"));
            assert_eq!(told, (0..ROOM).map(turn).collect::<Vec<_>>());
            assert_eq!(three.take(), Some(turn(round + 1)));
            assert_eq!((two.take(), three.take()), (None, None));
        }
        assert!(Turns::new(Box::new(memory), "0/4".parse().unwrap()).is_none());
    }
}
