//! The same work done by the library as a user would have it done: VMs, sessions, neighbour tables, histograms.

use std::time::Duration;

use tap_reactor::load::Pacing;
use tap_reactor::system::{FabricKind, LabConfig};
use tap_reactor::vm::VmId;

use crate::ping_lab::{PingLab, Result, reactor, recorder};

pub struct ReactorLoop {
    pub lab: PingLab,
}

impl ReactorLoop {
    /// A lab with two VMs for each pair, in a private namespace that the calling thread enters.
    pub fn new(pairs: u32, fabric: FabricKind) -> Result<ReactorLoop> {
        let lab = LabConfig {
            vms: 2 * pairs,
            fabric,
            // The bare loop's TAPs have none: both labs are to be of the same kind.
            filter: false,
            ..LabConfig::default()
        };
        let mut lab = PingLab::new(reactor()?, recorder(), lab)?;
        lab.populate()?;
        for pair in 0..pairs {
            lab.flow(VmId(2 * pair), VmId(2 * pair + 1))?;
        }
        Ok(ReactorLoop { lab })
    }

    /// Sends `count` pings in each pair, all of them answered or else an error. How long that took.
    pub fn ping(&mut self, pacing: Pacing, count: u64) -> Result<Duration> {
        self.lab.ping(self.lab.flows(), pacing, count)
    }

    /// Sends `count` pings in each pair, `window` of them on their way at any time; round trips a second.
    pub fn rate(&mut self, window: u32, count: u64) -> Result<f64> {
        let pings = self.lab.flows().len() as u64 * count;
        Ok(pings as f64 / self.ping(Pacing::Window(window), count)?.as_secs_f64())
    }
}
