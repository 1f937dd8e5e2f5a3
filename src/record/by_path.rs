//! Flows by whether they cross from one bridge of a tree to another.

use super::Metric;
use crate::load::FlowId;

/// Which flows go across leaves and which stay within one: a byte for each flow, none where there is no tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct FlowPaths(Vec<Option<bool>>);

impl FlowPaths {
    /// How many flows cross from one leaf to another.
    pub(super) fn flows_across(&self) -> u64 {
        let across = self.0.iter().filter(|flow| **flow == Some(true));
        across.count() as u64
    }

    pub(super) fn set(&mut self, flow: FlowId, is_across: bool) {
        if self.0.len() <= flow.index() {
            self.0.resize(flow.index() + 1, None);
        }
        if let Some(path) = self.0.get_mut(flow.index()) {
            *path = Some(is_across);
        }
    }

    /// Where the rtt of `flow` counts as well: nowhere for one to an address that is not a VM's, somewhere behind the spine.
    pub(super) fn metric_of(&self, flow: FlowId) -> Option<Metric> {
        let is_across = self.0.get(flow.index()).copied().flatten()?;
        Some(if is_across {
            Metric::AcrossLeaves
        } else {
            Metric::WithinLeaf
        })
    }
}
