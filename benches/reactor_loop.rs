//! The work of the bare loop done by the library: VMs, sessions, neighbour tables, histograms.

use std::time::Duration;

use tap_reactor::experiment::{Experiment, FlowPlan};
use tap_reactor::lab::TapLab;
use tap_reactor::load::Pacing;
use tap_reactor::vm::VmId;

use crate::ping_lab::{Result, ping, plan};

pub struct ReactorLoop {
    pub lab: TapLab<'static>,
    pairs: u32,
}

impl ReactorLoop {
    /// A lab with two VMs for each pair, in a private namespace that the calling thread enters. `change` makes its plan
    /// differ. The bare loop's TAPs have no filter: both labs are to be of the same kind.
    pub fn new(pairs: u32, change: impl FnOnce(&mut Experiment)) -> Result<ReactorLoop> {
        let mut plan = plan(2 * pairs)?;
        let pair = |pair| FlowPlan::between(VmId(2 * pair), VmId(2 * pair + 1));
        plan.flows = (0..pairs).map(pair).collect();
        change(&mut plan);
        let mut lab = TapLab::new(plan)?;
        lab.populate(&mut ())?;
        Ok(ReactorLoop { lab, pairs })
    }

    /// Sends `count` pings in each pair, and fails unless all are answered. Returns the time that it took.
    pub fn ping(&mut self, pacing: Pacing, count: u64) -> Result<Duration> {
        ping(&mut self.lab, 0..self.pairs, pacing, count)
    }

    /// Sends `count` pings in each pair, `window` of them outstanding. Returns round trips a second.
    pub fn rate(&mut self, window: u32, count: u64) -> Result<f64> {
        let pings = u64::from(self.pairs) * count;
        Ok(pings as f64 / self.ping(Pacing::Window(window), count)?.as_secs_f64())
    }
}
