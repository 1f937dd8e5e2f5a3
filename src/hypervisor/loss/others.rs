//! What this run does on purpose to frames of pings of VMs that other ranks have, and which of them its VMs ignore: who sent them
//! can't know.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::fabric::{Fabric, ImpairedPing, Impairment};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::by_ping::{Bounded, Key};
use crate::record::{Attribution, Way, Why};
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::{MacAddr, PingHead, ProbeHead};

/// Rows that are kept; what is beyond is not told.
const MAX_ROWS: usize = 1 << 16;
/// Pings with a changed frame that are remembered, as a VM of this run ignores that when it comes to it.
const MAX_CHANGED: usize = 1 << 12;

/// The VMs of other ranks, and what became of frames of their pings.
#[derive(Debug)]
pub(super) struct Others {
    stations: FxHashMap<MacAddr, VmId>,
    rows: BTreeMap<(VmId, VmId, Attribution), u64>,
    changed: Bounded<(), Key>,
}

/// Pings from one VM to another that were lost for the same cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LossOfOthers {
    /// The VM that pings, of another rank.
    pub source: VmId,
    /// The VM that it pings, of this one.
    pub target: VmId,
    /// What they are to be put down to.
    pub what: Attribution,
    /// How many.
    pub pings: u64,
}

impl Others {
    /// The ping of a frame, and its source, if that is a VM of another rank; `way` is the part of it that the frame is.
    fn ping_of(&self, head: &PingHead) -> Option<(Key, VmId, Way)> {
        let PingHead::Probe(head) = head else {
            return None;
        };
        let (mac, way) = pinger(head);
        let source = *self.stations.get(&mac)?;
        let key = Key::new(source, head.identifier, head.sequence);
        Some((key, source, way))
    }
}

/// The hardware address of who sends a ping, by one of its frames.
const fn pinger(head: &ProbeHead) -> (MacAddr, Way) {
    match head.is_request {
        true => (head.source_mac, Way::Request),
        false => (head.destination_mac, Way::Reply),
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// These VMs of other ranks ping VMs of this one: what it does to that is kept for them.
    pub fn ping_from_others(&mut self, stations: impl IntoIterator<Item = (MacAddr, VmId)>) {
        let stations: FxHashMap<_, _> = stations.into_iter().collect();
        if let Some(search) = &mut self.loss_search
            && !stations.is_empty()
        {
            search.others = Some(Box::new(Others {
                stations,
                rows: BTreeMap::new(),
                changed: Bounded::new(MAX_CHANGED),
            }));
        }
    }

    /// What has become of pings of others here, those of phases that do not count left out.
    pub fn losses_of_others(&self) -> impl Iterator<Item = LossOfOthers> {
        let others = self
            .loss_search
            .as_ref()
            .and_then(|search| search.others.as_ref());
        let rows = others.into_iter().flat_map(|others| &others.rows);
        rows.map(|((source, target, what), pings)| LossOfOthers {
            source: *source,
            target: *target,
            what: *what,
            pings: *pings,
        })
    }

    /// A frame of another's ping was dropped or changed on purpose at `ping.vm`, which is put down to `what`.
    pub(super) fn note_impaired_of_others(&mut self, ping: &ImpairedPing, what: Attribution) {
        let is_changed = what.why == Some(Why::Impairment(Impairment::Corrupted));
        if let Some(others) = self.others()
            && let Some((key, ..)) = others.ping_of(&ping.head)
            && is_changed
        {
            others.changed.insert(key, ());
        }
        self.note_of_others(ping.at, &ping.head, ping.vm, what);
    }

    /// A VM ignored a frame of another's ping to `vm`.
    pub(super) fn note_ignored_of_others(
        &mut self,
        now: Instant,
        head: &PingHead,
        vm: VmId,
        what: Attribution,
    ) {
        let is_changed = self.others().and_then(|others| {
            let (key, ..) = others.ping_of(head)?;
            others.changed.remove(key)
        });
        if is_changed.is_none() {
            self.note_of_others(now, head, vm, what);
        }
    }

    fn note_of_others(&mut self, at: Instant, head: &PingHead, vm: VmId, what: Attribution) {
        if !self.recorder.is_counted(at) {
            return;
        }
        let Some(others) = self.others() else {
            return;
        };
        let Some((_, source, way)) = others.ping_of(head) else {
            return;
        };
        let row = (source, vm, Attribution { way, ..what });
        if others.rows.len() < MAX_ROWS || others.rows.contains_key(&row) {
            *others.rows.entry(row).or_default() += 1;
        }
    }

    fn others(&mut self) -> Option<&mut Others> {
        self.loss_search.as_mut()?.others.as_deref_mut()
    }
}
