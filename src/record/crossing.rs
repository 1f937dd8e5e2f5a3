//! Round trips by whether they cross from one bridge of a tree to another.

use super::Latency;
use crate::load::FlowId;

/// The rtt of flows within one leaf, and of those across leaves: two histograms and a byte for each flow.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Crossing {
    flows: Vec<Option<bool>>,
    within: Latency,
    across: Latency,
}

impl Crossing {
    /// The rtt between VMs of the same leaf.
    pub const fn within(&self) -> &Latency {
        &self.within
    }

    /// The rtt between VMs of different leaves.
    pub const fn across(&self) -> &Latency {
        &self.across
    }

    /// How many flows cross from one leaf to another.
    pub fn flows_across(&self) -> u64 {
        self.flows
            .iter()
            .filter(|flow| **flow == Some(true))
            .count() as u64
    }

    pub(super) fn place(&mut self, flow: FlowId, is_across: bool) {
        if self.flows.len() <= flow.index() {
            self.flows.resize(flow.index() + 1, None);
        }
        if let Some(place) = self.flows.get_mut(flow.index()) {
            *place = Some(is_across);
        }
    }

    pub(super) fn answered(&mut self, flow: FlowId, rtt: u64) {
        match self.flows.get(flow.index()) {
            Some(Some(true)) => self.across.record(rtt),
            Some(Some(false)) => self.within.record(rtt),
            // To an address that is not a VM: somewhere behind the spine.
            Some(None) | None => {}
        }
    }
}
