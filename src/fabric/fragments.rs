//! The pings of later fragments, which say by themselves only of which datagram they are.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Direction;
use crate::vm::VmId;
use crate::wire::{FragmentHead, MacAddr};

/// Datagrams of which it is known to which ping they belong; of more, the oldest are forgotten.
const MAX_DATAGRAMS: usize = 4_096;

/// A datagram at one place: it is seen where it is sent, and where it is received.
type Datagram = (VmId, Direction, MacAddr, MacAddr, u32);

/// A later fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::fabric) struct Piece {
    /// Its number, from 2.
    pub(in crate::fabric) number: u16,
    /// No other follows: its number is that of all.
    pub(in crate::fabric) is_last: bool,
}

/// The datagrams in fragments that were seen last, each with a `P` of its ping.
#[derive(Debug)]
pub(in crate::fabric) struct Fragments<P> {
    /// With the length of the first fragment, which is that of all but the last.
    datagrams: FxHashMap<Datagram, (P, u16)>,
    order: VecDeque<Datagram>,
}

impl<P> Default for Fragments<P> {
    fn default() -> Fragments<P> {
        Fragments {
            datagrams: FxHashMap::default(),
            order: VecDeque::new(),
        }
    }
}

impl<P: Copy> Fragments<P> {
    /// Takes the first fragment of a datagram of `ping`, if `frame` is one, at a place.
    #[inline]
    pub(in crate::fabric) fn begin(&mut self, place: (VmId, Direction), frame: &[u8], ping: P) {
        if let Some(head) = FragmentHead::parse(frame) {
            self.add(datagram(place, &head), ping, head.length);
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
    pub(in crate::fabric) fn find(
        &self,
        place: (VmId, Direction),
        frame: &[u8],
    ) -> Option<(P, Piece)> {
        let head = FragmentHead::parse(frame)?;
        let (ping, length) = *self.datagrams.get(&datagram(place, &head))?;
        let piece = Piece {
            number: head.offset.checked_div(length)? + 1,
            is_last: !head.has_more,
        };
        Some((ping, piece))
    }
}

fn datagram((vm, direction): (VmId, Direction), head: &FragmentHead) -> Datagram {
    let (from, to) = (head.source_mac, head.destination_mac);
    (vm, direction, from, to, head.identification)
}
