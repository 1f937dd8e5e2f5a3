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
mod notes;
mod obstacle;
mod rest;

use std::collections::{BTreeMap, VecDeque};
use std::str::FromStr;

use rustc_hash::FxHashMap;

use self::evidence::{Evidence, Key};
use super::Hypervisor;
use crate::fabric::{Fabric, PathState};
use crate::load::FlowId;
use crate::record::{Attribution, LossMethod};
use crate::time::Instant;
use crate::vm::VmId;

/// Failed pings that are remembered, for a late answer.
const MAX_FAILED: usize = 1 << 16;

/// A failed ping that may be put down to something else yet.
#[derive(Clone, Copy, Debug)]
struct Failed {
    due: Instant,
    to: Attribution,
}

/// What is counted of the flow of a lost ping.
#[derive(Clone, Default, Debug)]
struct FlowLosses {
    /// Lost pings of which nothing is known, by when they were due.
    open: Vec<Instant>,
    /// Pings that were given up before they were sent.
    unresolved: u64,
    /// Lost requests that are explained.
    explained: u64,
    /// Pings of which nobody knows what became of them.
    abandoned: u64,
}

/// What is known of failed pings, and of those that may fail.
#[derive(Debug, Default)]
pub(super) struct LossSearch {
    evidence: Evidence,
    failed: FxHashMap<Key, Failed>,
    /// Those, the oldest first.
    order: VecDeque<Key>,
    flows: BTreeMap<FlowId, FlowLosses>,
    /// The way from a VM to another at a time shortly ago.
    states: FxHashMap<(VmId, VmId), Option<PathState>>,
    states_since: Instant,
    /// Open pings, those of all flows.
    open: usize,
}

/// Open pings of all flows of which it is known when they were due.
const MAX_OPEN: usize = 1 << 20;

impl LossSearch {
    fn remember(&mut self, key: Key, failed: Failed) {
        if self.failed.insert(key, failed).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_FAILED
            && let Some(oldest) = self.order.pop_front()
        {
            self.failed.remove(&oldest);
        }
    }

    /// Leaves a lost ping to what is counted.
    fn leave_open(&mut self, flow: FlowId, due: Instant) {
        if self.open < MAX_OPEN {
            self.open += 1;
            self.flows.entry(flow).or_default().open.push(due);
        }
    }

    /// A ping that was left open was answered after all.
    fn close(&mut self, flow: FlowId, due: Instant) {
        let open = self.flows.get_mut(&flow).map(|flow| &mut flow.open);
        if let Some(open) = open
            && let Some(place) = open.iter().rposition(|at| *at == due)
        {
            open.remove(place);
            self.open -= 1;
        }
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
    /// Looks for what becomes of lost pings from now on.
    ///
    /// # Errors
    /// If the kernel is to tell of the frames that it drops, and does not.
    pub fn attribute_losses(&mut self, how: AttributeLoss) -> Result<(), F::Error> {
        if how == AttributeLoss::Off {
            let why = "--attribute-loss=off".to_owned();
            self.recorder.set_loss_method(LossMethod::None, why);
            return Ok(());
        }
        self.loss_search.get_or_insert_default();
        let vms = self.slots.iter_mut().flatten();
        vms.for_each(|slot| slot.vm.keep_ignored_echoes());
        self.fabric.note_impaired_pings();
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
        if self.loss_search.is_none() {
            return;
        }
        for ping in self.fabric.take_impaired_pings() {
            self.note_impaired(&ping);
        }
        let drops = self.fabric.frame_drops();
        if drops.missed > 0 {
            self.recorder.drops_missed(drops.missed);
        }
        for drop in &drops.drops {
            self.note_drop(now, drop);
        }
    }
}
