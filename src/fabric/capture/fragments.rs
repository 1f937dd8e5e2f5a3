//! The pings of later fragments, which say by themselves only of which datagram they are.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::fabric::{Direction, Observed};
use crate::vm::VmId;
use crate::wire::{FragmentHead, MacAddr};

/// Datagrams of which it is known to which ping they belong; of more, the oldest are forgotten.
const MAX_DATAGRAMS: usize = 4_096;

/// A datagram at one place: it is seen where it is sent, and where it is received.
type Datagram = (VmId, Direction, MacAddr, MacAddr, u32);

/// A later fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// Its number, from 2.
    pub(super) number: u16,
    /// No other follows: its number is that of all.
    pub(super) is_last: bool,
}

/// The datagrams in fragments that were seen last, each with a `P` of its ping.
#[derive(Debug)]
pub(super) struct Fragments<P> {
    /// With the length of the first fragment, which is that of all but the last.
    datagrams: FxHashMap<Datagram, (P, u16)>,
    order: VecDeque<Datagram>,
}

impl<P: Copy> Fragments<P> {
    pub(super) fn new() -> Fragments<P> {
        Fragments {
            datagrams: FxHashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Takes the first fragment of a datagram of `ping`, if it is one.
    #[inline]
    pub(super) fn begin(&mut self, seen: &Observed<'_>, ping: P) {
        if let Some(head) = FragmentHead::parse(seen.frame) {
            self.add(datagram(seen, &head), ping, head.length);
        }
    }

    #[cold]
    fn add(&mut self, datagram: Datagram, ping: P, length: u16) {
        if self.datagrams.insert(datagram, (ping, length)).is_none() {
            self.order.push_back(datagram);
        }
        if self.order.len() > MAX_DATAGRAMS
            && let Some(oldest) = self.order.pop_front()
        {
            self.datagrams.remove(&oldest);
        }
    }

    /// The ping of a later fragment, and which of its fragments it is. `None` if it is none, or its first was not seen.
    pub(super) fn find(&self, seen: &Observed<'_>) -> Option<(P, Piece)> {
        let head = FragmentHead::parse(seen.frame)?;
        let (ping, length) = *self.datagrams.get(&datagram(seen, &head))?;
        let piece = Piece {
            number: head.offset.checked_div(length)? + 1,
            is_last: !head.has_more,
        };
        Some((ping, piece))
    }
}

fn datagram(seen: &Observed<'_>, head: &FragmentHead) -> Datagram {
    let (from, to) = (head.source_mac, head.destination_mac);
    (seen.vm, seen.direction, from, to, head.identification)
}
