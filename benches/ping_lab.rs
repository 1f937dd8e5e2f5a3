//! Pings in a lab, timed.

use std::ops::Range;
use std::time::Duration;

use tap_reactor::experiment::Experiment;
use tap_reactor::hypervisor::Phase;
use tap_reactor::lab::{LabOn, RealTime};
use tap_reactor::load::Pacing;
use tap_reactor::reactor::End;
use tap_reactor::system::KernelFabric;
use tap_reactor::time::{Clock, MonotonicClock};

/// The result of a benchmark: any error ends it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The time that a ping is waited for: long enough for the flood of a thousand requests.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Creates the plan of a lab of `vms` VMs, without a filter and without load.
pub fn plan(vms: u32) -> Result<Experiment> {
    let mut plan = Experiment::of_vms(vms)?;
    plan.timeout = TIMEOUT;
    plan.lab.filter = false;
    Ok(plan)
}

/// Sends `count` pings in each of `flows`, and fails unless all are answered. Returns the time that it took.
pub fn ping<F: KernelFabric>(
    lab: &mut LabOn<'_, F, RealTime>,
    flows: Range<u32>,
    pacing: Pacing,
    count: u64,
) -> Result<Duration> {
    let wanted = flows.len() as u64 * count;
    let before = lab.hypervisor().recorder().totals().received;
    let start = MonotonicClock.now();
    let phase = Phase::counted(flows, pacing, count);
    lab.hypervisor().start(MonotonicClock.now(), vec![phase]);
    let end = lab.drive(None)?;
    let elapsed = MonotonicClock.now() - start;
    let received = lab.hypervisor().recorder().totals().received - before;
    if end != End::Done || received != wanted {
        return Err(format!(
            "the reactor got {received} of {wanted} pings answered, and ended by {end:?}"
        )
        .into());
    }
    Ok(elapsed)
}
