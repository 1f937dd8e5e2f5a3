//! The way there and the way back of pings between two VMs of the run, each by itself: both ends go by one clock here.
//!
//! A ping turns when the VM that it is for has read its request, of one in fragments the first. That instant is kept by ping until
//! the reply is read. Of a ping between ranks on one machine, the one that has the VM tells it to the one that has sent the ping.

use rustc_hash::FxHashMap;

use super::Hypervisor;
use super::by_ping::{Bounded, Key};
use super::record_buffer::Entry;
use crate::fabric::Fabric;
use crate::ranks::{Turn, TurnedPing, Turns};
use crate::record::Way;
use crate::time::Instant;
use crate::vm::{PingId, Vm, VmId};
use crate::wire::{MacAddr, PingHead};

/// Pings that have turned and are kept, the last ones. Those whose replies are lost stay until others need the room.
const MAX_TURNED: usize = 1 << 16;

/// When pings turned.
#[derive(Debug)]
pub(super) struct OneWay {
    turned: Bounded<Instant>,
    ranks: Option<OtherRanks>,
}

/// Other ranks on this machine.
#[derive(Debug)]
struct OtherRanks {
    turns: Turns,
    /// Their VMs that ping VMs of this one, each with the number of its rank.
    stations: FxHashMap<MacAddr, (VmId, u32)>,
}

impl<F: Fabric> Hypervisor<F> {
    /// Measures the way there and the way back of pings between VMs of the run from now on. Takes a clock reading a ping more.
    pub fn measure_one_way(&mut self) {
        let one_way = OneWay {
            turned: Bounded::new(MAX_TURNED),
            ranks: None,
        };
        self.reads_frames = true;
        self.one_way.get_or_insert_with(|| Box::new(one_way));
    }

    /// The same of pings to and from VMs of other ranks on this machine, by what they tell each other in `turns`. `stations` are the
    /// VMs of others that ping VMs of this run, each with the number of its rank.
    pub fn measure_one_way_between_ranks(
        &mut self,
        turns: Turns,
        stations: impl IntoIterator<Item = (MacAddr, (VmId, u32))>,
    ) {
        if let Some(one_way) = &mut self.one_way {
            one_way.ranks = Some(OtherRanks {
                turns,
                stations: stations.into_iter().collect(),
            });
        }
    }

    /// `vm` has read `frame` at `now`.
    #[cold]
    pub(super) fn note_turn(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.take_turns();
        match self.ping_in(frame) {
            Some((key, Way::Request)) if self.target_of_ping(key) == Some(vm) => {
                self.keep_turn(key, now);
            }
            Some(_) => {}
            None => self.tell_turn(now, vm, frame),
        }
    }

    fn keep_turn(&mut self, key: Key, at: Instant) {
        if let Some(OneWay { turned, .. }) = self.one_way.as_deref_mut()
            // Of a request that was duplicated, the first one is answered first.
            && turned.get(key).is_none()
        {
            turned.insert(key, at);
        }
    }

    /// Keeps what other ranks have told: the reply that was read may be to one of these pings.
    fn take_turns(&mut self) {
        while let Some(one_way) = self.one_way.as_deref_mut()
            && let Some(ranks) = &mut one_way.ranks
            && let Some(turn) = ranks.turns.take()
        {
            let Turn { source, ping, at } = turn;
            let key = match ping {
                TurnedPing::Numbered(identifier, sequence) => {
                    Some(Key::new(source, identifier, sequence))
                }
                TurnedPing::Asks(address) => {
                    let ping = self.vm(source).and_then(|vm| vm.link_ping(address));
                    ping.map(|ping| Key::of(source, ping))
                }
            };
            if let Some(key) = key {
                self.keep_turn(key, at);
            }
        }
    }

    /// `vm` has read a frame that no VM of this run has sent: if it is a ping for it of one of another rank, that is told there.
    fn tell_turn(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        let has_others = |one_way: &OneWay| one_way.ranks.is_some();
        if !self.one_way.as_deref().is_some_and(has_others) {
            return;
        }
        let Some(head) = PingHead::parse(frame) else {
            return;
        };
        let (is_request, mac, target, ping) = match &head {
            PingHead::Probe(head) => {
                let ping = TurnedPing::Numbered(head.identifier, head.sequence);
                (head.is_request, head.source_mac, head.destination, ping)
            }
            PingHead::Link(head) => {
                let ping = TurnedPing::Asks(head.target);
                (head.is_request, head.source_mac, head.target, ping)
            }
        };
        let is_for_it = |reader: &Vm| reader.has_address(target);
        if !is_request || !self.vm(vm).is_some_and(is_for_it) {
            return;
        }
        let ranks = self.one_way.as_deref_mut().and_then(|it| it.ranks.as_mut());
        if let Some(OtherRanks { turns, stations }) = ranks
            && let Some((source, rank)) = stations.get(&mac).copied()
        {
            let at = now;
            turns.tell(rank, &Turn { source, ping, at });
        }
    }

    /// The reply to a ping of `vm`, due at `due`, was read.
    #[cold]
    pub(super) fn record_one_way(
        &mut self,
        (vm, ping): (VmId, PingId),
        due: Instant,
        (sent, received): (Instant, Instant),
    ) {
        let Some(OneWay { turned, .. }) = self.one_way.as_deref_mut() else {
            return;
        };
        // What was kept may be of a ping with the same number, 65,536 pings ago, whose reply was lost.
        let turned = turned.remove(Key::of(vm, ping));
        if let Some(turned) = turned.filter(|turned| (sent..=received).contains(turned)) {
            self.push_record(Entry::OneWay {
                due,
                forward: turned.nanos_since(sent),
                backward: received.nanos_since(turned),
            });
        }
    }
}
