//! A fabric of one's own: a hub in memory, which repeats every frame to all other ports and loses one copy in 101.
//!
//!     cargo run --example custom-fabric
//!     cargo test --example custom-fabric

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use tap_reactor::experiment::{Experiment, FlowPlan};
use tap_reactor::fabric::{Environment, Fabric, Read, Write};
use tap_reactor::hypervisor::Phase;
use tap_reactor::lab::SimulatedLab;
use tap_reactor::load::Pacing;
use tap_reactor::report::{self, Report};
use tap_reactor::time::{Instant, Now};
use tap_reactor::vm::{RxFilter, VmId};

/// The time that a frame takes from port to port.
const DELAY: Duration = Duration::from_micros(5);

#[derive(Default)]
struct Hub {
    ports: Vec<VmId>,
    /// Frames under way, in the order in which they arrive: all take the same time.
    under_way: VecDeque<(Instant, VmId, Vec<u8>)>,
    /// The frame that has arrived and is to be read.
    arrived: Option<Vec<u8>>,
    carried: u64,
}

impl Fabric for Hub {
    type Error = Infallible;

    fn plug(&mut self, vm: VmId, _: &RxFilter) -> Result<(), Infallible> {
        self.ports.push(vm);
        Ok(())
    }

    /// A hub does not care what a VM listens to: VMs drop what is not theirs.
    fn set_rx_filter(&mut self, _: VmId, _: &RxFilter) -> Result<(), Infallible> {
        Ok(())
    }

    fn unplug(&mut self, vms: &[VmId]) -> Result<(), Infallible> {
        self.ports.retain(|port| !vms.contains(port));
        Ok(())
    }

    fn write(&mut self, mut now: impl Now, from: VmId, frame: &[u8]) -> Write {
        for to in self.ports.iter().filter(|port| **port != from) {
            self.carried += 1;
            if !self.carried.is_multiple_of(101) {
                let arrival = (now.now() + DELAY, *to, frame.to_vec());
                self.under_way.push_back(arrival);
            }
        }
        Write::Sent
    }

    // What a driver in virtual time asks beside: the time of the next arrival, and then the VM that reads it.

    fn next_at(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, ..)| *at)
    }

    fn next_receiver(&mut self, now: Instant) -> Option<VmId> {
        self.next_at().filter(|at| *at <= now)?;
        let (_, to, frame) = self.under_way.pop_front()?;
        self.arrived = Some(frame);
        Some(to)
    }

    fn read(&mut self, _: impl Now, _: VmId, buffer: &mut [u8]) -> Read {
        let Some(frame) = self.arrived.take() else {
            return Read::Empty;
        };
        buffer[..frame.len()].copy_from_slice(&frame);
        Read::Frame(frame.len())
    }

    // What the report says of it.

    fn environment(&self) -> Environment {
        Environment::simulated("hub")
    }
}

/// Three VMs ping in a ring, and the hub carries it.
fn measure() -> Result<Report, Box<dyn Error>> {
    let mut plan = Experiment::of_vms(3)?;
    plan.flows = [(0, 1), (1, 2), (2, 0)]
        .map(|(source, target)| FlowPlan::between(VmId(source), VmId(target)))
        .into();
    plan.phases = vec![Phase::counted(0..3, Pacing::Window(1), 1_000)];
    let mut lab = SimulatedLab::new(Hub::default(), plan)?;
    lab.populate(&mut ())?;
    lab.run(&mut ());
    let report = lab.report("three VMs on a hub");
    lab.close()?;
    Ok(report)
}

fn main() -> Result<(), Box<dyn Error>> {
    Ok(report::text(&measure()?, &mut std::io::stdout(), 80)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tap_reactor::record::Metric;

    #[test]
    fn a_hub_answers_within_two_delays_but_for_what_it_loses() {
        let report = measure().expect("a report");
        let rtt = &report.summaries[Metric::Rtt];
        assert_eq!((rtt.min, rtt.p50), (Some(10_000), Some(10_000)));
        assert_eq!(report.totals.sent, 3_000);
        assert!(
            (0.01..0.03).contains(&report.totals.loss()),
            "{:?}",
            report.totals
        );
    }
}
