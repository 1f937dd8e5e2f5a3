//! In the steady state a ping allocates nothing: not in the VMs, the schedule and the record, and not in the reactor on
//! real TAPs either.
//!
//! What may allocate is a second that ends, for its line in the report, however many pings were in it.

#[path = "support/cable.rs"]
mod cable;
mod support;

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use cable::Pairs;
use support::{enter_own_network, host_lab};
use tap_reactor::experiment::AddressPlan;
use tap_reactor::hypervisor::{FlowConfig, Hypervisor, Phase};
use tap_reactor::load::{Arrivals, Pacing, PhaseLoad};
use tap_reactor::reactor::{End, Reactor};
use tap_reactor::record::{Limits, Recorder};
use tap_reactor::system::{LabConfig, StopSignals, TapFabric};
use tap_reactor::time::{Clock, MonotonicClock};
use tap_reactor::vm::{PingOptions, SessionConfig, VmConfig, VmId};

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
    let mut reactor = Reactor::new(StopSignals::new().unwrap()).unwrap();
    let lab = LabConfig {
        vms: 2,
        ..host_lab()
    };
    let fabric = TapFabric::new(reactor.registry().unwrap(), lab).unwrap();
    let mut hypervisor = Hypervisor::new(fabric, Recorder::new(Limits::default()), 0);
    let plan = AddressPlan::new("10.77.0.0/16".parse().unwrap(), 2).unwrap();
    for vm in (0..2).map(VmId) {
        let vm = plan.vm(vm);
        let config = VmConfig::new(vm.mac, vm.address);
        hypervisor.create_vm(MonotonicClock.now(), config).unwrap();
    }
    let session = SessionConfig {
        destination: plan.vm(VmId(1)).address.into(),
        payload_length: 56,
        timeout: Duration::from_secs(5),
        options: PingOptions::default(),
    };
    let source = VmId(0);
    hypervisor
        .add_flow(FlowConfig {
            source,
            session,
            target: None,
        })
        .unwrap();
    let mut run = |pacing: Pacing, count: u64| -> (AllocationInfo, u64) {
        let load = PhaseLoad {
            flows: 0..1,
            pacing,
            arrivals: Arrivals::Uniform,
            count: Some(count),
            start_jitter: Duration::ZERO,
        };
        let phase = Phase {
            name: String::new(),
            is_counted: true,
            load,
            duration: None,
            moves: Vec::new(),
        };
        let start = MonotonicClock.now();
        hypervisor.start(start, vec![phase]);
        let info = measure(|| {
            let end = reactor.run(&mut hypervisor, None).unwrap();
            assert_eq!(end, End::Done);
        });
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
