//! The search for what became of pings that failed.
//!
//! What happens to a frame is noted where it happens, on paths that no ping takes that is answered: a TAP that refuses it, a
//! VM that ignores it, an impairment that drops it, the kernel that tells of a drop. It is kept by ping until that fails. A lost
//! ping of which nothing is known is explained by what stands in its way then, as ports and forwarding tables show it; and at
//! the end of the run, by what was counted. Answered pings take no part in it.

mod elimination;
mod evidence;
mod explain;
mod kernel;
mod neighbour;
mod notes;
mod obstacle;
mod others;
mod rest;
mod streams;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use self::evidence::Evidence;
pub use self::others::LossOfOthers;
use self::others::Others;
use super::Hypervisor;
use super::by_ping::{Bounded, Purpose};
use crate::fabric::{Fabric, PathState};
use crate::load::FlowId;
use crate::record::{Attribution, Cause, LossMethod, Place};
use crate::time::Instant;
use crate::vm::VmId;

/// Failed pings that are remembered, for a late answer.
const MAX_FAILED: usize = 1 << 16;
/// Places by which the stray pings of a flow are told apart; what is beyond is taken for lost.
const MAX_STRAY: usize = 64;

/// A failed ping that may be put down to something else yet.
#[derive(Clone, Copy, Debug)]
struct Failed {
    due: Instant,
    to: Attribution,
    count: Count,
}

/// How a failed ping is counted among those of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Count {
    /// Nothing is known of it.
    Open,
    /// It was not sent.
    Unresolved,
    /// Its request is known not to have been answered.
    Explained,
    /// Its request may have been answered.
    Answered,
    /// All that is known is that copies of its request came to others: the one that it was for may have answered it.
    Stray,
}

/// Failed pings that are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Pings {
    counted: u64,
    /// Those of phases that do not count.
    uncounted: u64,
}

impl Pings {
    /// Returns the number of both.
    const fn all(self) -> u64 {
        self.counted.saturating_add(self.uncounted)
    }
}

/// What is counted of the flow of a lost ping.
#[derive(Clone, Default, Debug)]
struct FlowLosses {
    /// Lost pings of which nothing is known, those of phases that do not count left out.
    open: u64,
    /// The same of phases that do not count.
    open_uncounted: u64,
    /// Pings that were given up before they were sent.
    unresolved: u64,
    /// Lost requests that are explained.
    explained: u64,
    /// Pings of whose requests others got copies, by what they are put down to so far.
    stray: BTreeMap<Attribution, Pings>,
    /// Pings of which nobody knows what became of them.
    abandoned: u64,
    /// Its source and the pings that it had begun, if it or its source has left.
    left: Option<(VmId, u64)>,
}

impl FlowLosses {
    /// Pings of whose requests others got copies.
    fn stray(&self) -> u64 {
        self.stray.values().map(|pings| pings.all()).sum()
    }

    /// The number of pings that are counted like that one; `is_counted` if their phase is.
    fn of(&mut self, failed: &Failed, is_counted: bool) -> Option<&mut u64> {
        match failed.count {
            Count::Open if is_counted => Some(&mut self.open),
            Count::Open => Some(&mut self.open_uncounted),
            Count::Unresolved => Some(&mut self.unresolved),
            Count::Explained => Some(&mut self.explained),
            Count::Answered => None,
            Count::Stray => {
                let has_room = self.stray.len() < MAX_STRAY;
                if !has_room && !self.stray.contains_key(&failed.to) {
                    return Some(&mut self.explained);
                }
                let pings = self.stray.entry(failed.to).or_default();
                Some(match is_counted {
                    true => &mut pings.counted,
                    false => &mut pings.uncounted,
                })
            }
        }
    }
}

/// What is known of failed pings, and of those that may fail.
#[derive(Debug)]
pub(super) struct LossSearch {
    evidence: Evidence,
    failed: Bounded<Failed>,
    flows: BTreeMap<FlowId, FlowLosses>,
    /// Frames dropped at the port of each VM that losses are put down to, those of phases that do not count among them.
    explained_at: FxHashMap<VmId, u64>,
    /// The state of the way from a VM to another at a time shortly ago.
    states: FxHashMap<(VmId, Option<VmId>), Option<PathState>>,
    states_since: Instant,
    /// When drops were looked at last.
    looked_at: Option<Instant>,
    /// The pings that impairments and slow VMs held at a time, with what they are put down to.
    held: FxHashMap<Purpose, Attribution>,
    held_at: Option<Instant>,
    /// Whose hardware address was corrupted in what a VM has said of its own, at the edge of the second one.
    corrupted: Bounded<(), (VmId, VmId)>,
    /// The VMs of other ranks that ping VMs of this run.
    others: Option<Box<Others>>,
}

impl Default for LossSearch {
    fn default() -> LossSearch {
        LossSearch {
            evidence: Evidence::default(),
            failed: Bounded::new(MAX_FAILED),
            flows: BTreeMap::new(),
            explained_at: FxHashMap::default(),
            states: FxHashMap::default(),
            states_since: Instant::ZERO,
            looked_at: None,
            held: FxHashMap::default(),
            held_at: None,
            corrupted: neighbour::no_corrupted(),
            others: None,
        }
    }
}

impl LossSearch {
    /// Counts a ping of `flow` that has failed; `is_counted` if its phase is.
    fn count(&mut self, flow: FlowId, failed: &Failed, is_counted: bool) {
        let of_flow = self.flows.entry(flow).or_default();
        if let Some(pings) = of_flow.of(failed, is_counted) {
            *pings += 1;
        }
        if let Some(vm) = dropped_at(failed.to) {
            *self.explained_at.entry(vm).or_default() += 1;
        }
    }

    /// A ping that was counted was answered after all.
    fn discount(&mut self, flow: FlowId, failed: &Failed, is_counted: bool) {
        let of_flow = self.flows.get_mut(&flow);
        let pings = of_flow.and_then(|flow| flow.of(failed, is_counted));
        let at_port = dropped_at(failed.to).and_then(|vm| self.explained_at.get_mut(&vm));
        for number in [pings, at_port].into_iter().flatten() {
            *number = number.saturating_sub(1);
        }
    }
}

/// The VM at whose port the kernel has dropped and counted a frame, if a loss is put down to that.
fn dropped_at(to: Attribution) -> Option<VmId> {
    match (to.cause, to.place) {
        (Cause::QueueFull | Cause::Filtered | Cause::Absent, Place::Vm(vm)) => Some(vm),
        _ => None,
    }
}

/// How it is found out what became of lost pings.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum AttributeLoss {
    /// By what the kernel tells of each frame that it drops, if it does, and by what it counts, if it does not.
    #[default]
    Auto,
    /// By what the kernel tells of each frame that it drops, or there is no run.
    On,
    /// Not at all: all lost pings are lost for unknown causes.
    Off,
}

impl FromStr for AttributeLoss {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<AttributeLoss, &'static str> {
        match text {
            "auto" => Ok(AttributeLoss::Auto),
            "on" => Ok(AttributeLoss::On),
            "off" => Ok(AttributeLoss::Off),
            _ => Err("expected auto, on or off"),
        }
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Looks for what becomes of lost pings from now on. A frame that is held on purpose for more than `timeout`, after which pings
    /// are given up, is lost by that.
    ///
    /// # Errors
    /// If the kernel is to tell of the frames that it drops, and does not.
    pub fn attribute_losses(
        &mut self,
        how: AttributeLoss,
        timeout: Duration,
    ) -> Result<(), F::Error> {
        if how == AttributeLoss::Off {
            let why = "--attribute-loss=off".to_owned();
            self.recorder.set_loss_method(LossMethod::None, why);
            return Ok(());
        }
        self.loss_search.get_or_insert_default();
        let vms = self.slots.iter_mut().flatten();
        vms.for_each(|slot| slot.vm.keep_ignored_probes());
        self.fabric.note_impaired_pings();
        self.fabric.note_longer_holds(timeout);
        let watched = self.fabric.watch_drops();
        let (method, why) = match &watched {
            Ok(_) if self.fabric.environment().is_simulated => {
                let why = "the fabric is simulated, and tells itself what it drops";
                (LossMethod::None, why.to_owned())
            }
            Ok(true) => (LossMethod::Tracepoints, String::new()),
            Ok(false) => (LossMethod::Counters, String::new()),
            Err(error) => (LossMethod::Counters, error.to_string()),
        };
        self.recorder.set_loss_method(method, why);
        match how {
            AttributeLoss::On => watched.map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Takes note at `now` of the frames that the fabric or an impairment has dropped since the last call. To be called when
    /// the driver's poll reports drops, before pings are given up, and at the end of a run.
    #[cold]
    pub fn look_at_drops(&mut self, now: Instant) {
        let Some(search) = &mut self.loss_search else {
            return;
        };
        search.looked_at = Some(now);
        self.look_at_impaired();
        let drops = self.fabric.frame_drops();
        if drops.missed > 0 {
            self.recorder.drops_missed(drops.missed);
        }
        for drop in &drops.drops {
            match self.stream_head(drop.frame.bytes()) {
                Some(head) => self.note_dropped_stream(now, drop, &head),
                None => self.note_drop(now, drop),
            }
        }
    }

    /// Takes note of the frames that impairments and misbehaving VMs have dropped or changed since the last call.
    fn look_at_impaired(&mut self) {
        for ping in self.fabric.take_impaired_pings() {
            self.note_impaired(&ping);
        }
        self.look_at_impaired_streams();
    }
}

#[cfg(test)]
mod tests;
