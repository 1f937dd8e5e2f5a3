//! In the steady state a ping allocates nothing: not in the VMs, the schedule and the record, and not in the reactor on
//! real TAPs either.
//!
//! What may allocate is a second that ends, for its line in the report, however many pings were in it.

#[path = "support/cable.rs"]
mod cable;
#[path = "../benches/ping_lab.rs"]
#[allow(dead_code)] // Of what it has for benchmarks, not everything is needed here.
mod ping_lab;
mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use cable::Pairs;
use ping_lab::{PingLab, reactor, recorder};
use support::{enter_own_network, host_lab};
use tap_reactor::load::Pacing;
use tap_reactor::reactor::End;
use tap_reactor::system::LabConfig;
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::vm::VmId;

/// Until every number that goes round has gone round once: the history of a session has 2^16 bits.
const WARM_UP: u64 = (1 << 16) + 1000;
/// What a second that ends allocates at most: the buckets of two histograms, and now and then room for more seconds.
const OF_A_SECOND: u64 = 8;

#[test]
fn a_ping_between_vms_in_memory_allocates_nothing() {
    let mut lab = Pairs::new(2);
    lab.ping(2, WARM_UP);
    // A phase allocates when it begins, and nothing more however many pings it has.
    let few = measure(|| lab.ping(2, 10));
    let many = measure(|| lab.ping(2, 1010));
    assert!(many.count_total <= few.count_total, "{few:?} then {many:?}");
}

#[test]
fn a_ping_between_taps_allocates_nothing_in_the_reactor() {
    enter_own_network();
    let lab = LabConfig {
        vms: 2,
        ..host_lab()
    };
    let mut lab = PingLab::new(reactor().unwrap(), recorder(), lab).unwrap();
    lab.populate().unwrap();
    lab.flow(VmId(0), VmId(1)).unwrap();
    let mut run = |pacing: Pacing, count: u64| -> (AllocationInfo, u64) {
        let start = MonotonicClock.now();
        lab.begin(lab.flows(), pacing, count);
        let info = measure(|| assert_eq!(lab.run().unwrap(), End::Done));
        (info, (MonotonicClock.now() - start).as_secs() + 1)
    };
    run(Pacing::Window(16), WARM_UP);
    for pacing in [
        Pacing::Window(1),
        Pacing::Window(16),
        Pacing::Interval(Duration::from_micros(100)),
    ] {
        let (info, seconds) = run(pacing, 5000);
        assert!(
            info.count_total <= seconds * OF_A_SECOND,
            "{pacing:?}: {info:?} in {seconds} s"
        );
    }
}
