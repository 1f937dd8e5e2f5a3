//! Known truth in, the same truth out: what the wire does is what the report says.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::experiment::AddressPlan;
use crate::hypervisor::{FlowConfig, Phase};
use crate::load::{Arrivals, Pacing, PhaseLoad, Start};
use crate::record::{Limits, Metric, Recorder};
use crate::vm::{Ipv6Config, Ipv6Interface, PingOptions, SessionConfig, VmConfig, VmId};

mod endpoints;
mod moves;
mod neighbours;

const END: Instant = Instant::from_nanos(3_600_000_000_000);
const MS: Duration = Duration::from_millis(1);

/// A lab of VMs on one switch.
struct Lab {
    hypervisor: Hypervisor<Switch>,
    addresses: AddressPlan,
}

impl Lab {
    fn new(vms: u32, impairments: Impairments) -> Lab {
        Lab::with_ipv6(vms, impairments, None)
    }

    /// VMs that are on IPv6 what `ipv6` says of each.
    fn with_ipv6(vms: u32, impairments: Impairments, ipv6: Option<fn(u32) -> Ipv6Config>) -> Lab {
        let addresses = AddressPlan::new("10.0.0.0/8".parse().unwrap(), u64::from(vms)).unwrap();
        let recorder = Recorder::new(Limits::default());
        let mut hypervisor = Hypervisor::new(Switch::new(impairments, 1), recorder, 1);
        for i in 0..vms {
            let plan = addresses.vm(VmId(i));
            let config = VmConfig {
                ipv6: ipv6.map(|change| change(i)),
                ..VmConfig::new(plan.mac, plan.address)
            };
            let Ok(_) = hypervisor.create_vm(Instant::ZERO, config);
        }
        Lab {
            hypervisor,
            addresses,
        }
    }

    fn flow(&mut self, source: u32, destination: u32) {
        let address = self.addresses.vm(VmId(destination)).address;
        self.flow_to(source, destination, address.into());
    }

    fn flow_to(&mut self, source: u32, destination: u32, address: IpAddr) {
        let session = SessionConfig {
            destination: address,
            payload_length: 56,
            timeout: Duration::from_secs(1),
            options: PingOptions::default(),
        };
        self.hypervisor
            .add_flow(FlowConfig {
                source: VmId(source),
                session,
                target: Some(VmId(destination)),
            })
            .unwrap();
    }

    /// One flow from vm0 to vm1, for the whole run.
    fn ping(&mut self, pacing: Pacing, count: u64) -> Instant {
        self.flow(0, 1);
        self.run(vec![phase("", 1, pacing, Some(count), None)])
    }

    fn run(&mut self, phases: Vec<Phase>) -> Instant {
        self.hypervisor.start(Instant::ZERO, phases);
        run(&mut self.hypervisor, Instant::ZERO, END)
    }
}

fn phase(
    name: &str,
    flows: u32,
    pacing: Pacing,
    count: Option<u64>,
    duration: Option<Duration>,
) -> Phase {
    let load = PhaseLoad {
        flows: 0..flows,
        pacing,
        arrivals: Arrivals::Uniform,
        count,
        start: Start::Spread,
    };
    Phase {
        name: name.to_owned(),
        is_counted: name != "warm-up",
        load,
        duration,
        moves: Vec::new(),
    }
}

fn within(value: u64, truth: u64, share: f64) -> bool {
    value.abs_diff(truth) as f64 <= truth as f64 * share
}

#[test]
fn a_fixed_delay_comes_out_as_twice_that_and_resolution_takes_one_round_trip() {
    let mut lab = Lab::new(
        2,
        Impairments {
            delay: MS,
            ..Impairments::default()
        },
    );
    let end = lab.ping(Pacing::Interval(10 * MS), 1_000);
    assert_eq!(end.as_nanos(), (999 * 10 + 2) * 1_000_000);
    let recorder = lab.hypervisor.recorder();
    let totals = recorder.totals();
    assert_eq!(
        (totals.sent, totals.received, totals.failed()),
        (1_000, 1_000, 0)
    );
    let rtt = recorder.run().rtt().summary();
    assert_eq!((rtt.min, rtt.max), (Some(2_000_000), Some(2_000_000)));
    assert_eq!(
        recorder.latency(Metric::Resolution).summary().max,
        Some(2_000_000)
    );
    // The first ping was due before its neighbour was known: it feels both round trips.
    assert_eq!(recorder.run().response().summary().max, Some(4_000_000));
}

#[test]
fn a_window_is_kept_full() {
    let mut lab = Lab::new(
        2,
        Impairments {
            delay: MS,
            ..Impairments::default()
        },
    );
    let end = lab.ping(Pacing::Window(8), 800);
    assert_eq!(lab.hypervisor.recorder().totals().received, 800);
    assert_eq!(
        end.as_nanos(),
        (100 * 2 + 2) * 1_000_000,
        "100 rounds of 8, and one to resolve"
    );
}

#[test]
fn loss_both_ways_duplicates_and_reordering_are_counted_as_they_were_put_in() {
    let pings = 20_000;
    let wire = Impairments {
        loss: 0.05,
        ..Impairments::default()
    };
    let mut lab = Lab::new(2, wire);
    lab.ping(Pacing::Interval(MS), pings);
    let totals = *lab.hypervisor.recorder().run().totals();
    assert_eq!(totals.sent, pings);
    assert_eq!(totals.received + totals.lost, pings);
    let truth = (pings as f64 * (1.0 - 0.95 * 0.95)) as u64;
    assert!(within(totals.lost, truth, 0.1), "{totals:?}, {truth} lost");

    let wire = Impairments {
        duplicate: 0.1,
        ..Impairments::default()
    };
    let mut lab = Lab::new(2, wire);
    lab.ping(Pacing::Interval(MS), pings);
    let totals = *lab.hypervisor.recorder().run().totals();
    // A request that arrives twice is answered twice, and each answer may be doubled again.
    let truth = (pings as f64 * (1.1 * 1.1 - 1.0)) as u64;
    assert!(
        within(totals.duplicate, truth, 0.1),
        "{totals:?}, {truth} duplicate"
    );
    assert_eq!((totals.received, totals.lost), (pings, 0));

    let wire = Impairments {
        reorder: 0.05,
        reorder_delay: 3 * MS,
        ..Impairments::default()
    };
    let mut lab = Lab::new(2, wire);
    lab.ping(Pacing::Interval(MS), pings);
    let totals = *lab.hypervisor.recorder().run().totals();
    let truth = (pings as f64 * (1.0 - 0.95 * 0.95)) as u64;
    assert!(
        within(totals.reordered, truth, 0.1),
        "{totals:?}, {truth} reordered"
    );
    assert_eq!((totals.received, totals.duplicate), (pings, 0));
}

#[test]
fn a_reply_after_the_timeout_is_late_and_its_ping_lost() {
    let wire = Impairments {
        delay: 600 * MS,
        ..Impairments::default()
    };
    let mut lab = Lab::new(2, wire);
    lab.ping(Pacing::Interval(100 * MS), 50);
    let totals = *lab.hypervisor.recorder().run().totals();
    assert_eq!((totals.sent, totals.received, totals.lost), (50, 0, 50));
    assert!(
        totals.late >= 45,
        "those of the last second come after the end: {totals:?}"
    );
}

#[test]
fn nobody_there_is_unresolved_not_lost() {
    let mut lab = Lab::new(
        2,
        Impairments {
            loss: 1.0,
            ..Impairments::default()
        },
    );
    lab.ping(Pacing::Interval(100 * MS), 10);
    let totals = *lab.hypervisor.recorder().run().totals();
    assert_eq!((totals.sent, totals.lost, totals.unresolved), (0, 0, 10));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let wire = Impairments {
            jitter: MS,
            loss: 0.1,
            duplicate: 0.1,
            reorder: 0.1,
            reorder_delay: 5 * MS,
            ..Impairments::default()
        };
        let mut lab = Lab::new(5, wire);
        for i in 0..5 {
            lab.flow(i, (i + 1) % 5);
        }
        let end = lab.run(vec![phase("", 5, Pacing::Interval(MS), Some(500), None)]);
        let run = lab.hypervisor.recorder().run();
        (end, *run.totals(), run.rtt().summary().p99)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_stall_of_the_receiver_shows_in_rtt_and_not_in_lateness() {
    let mut lab = Lab::new(2, Impairments::default());
    let from = Instant::from_nanos(1_000_000_000);
    lab.hypervisor.fabric().stall(Stall {
        vm: VmId(1),
        from,
        until: from + 100 * MS,
    });
    lab.ping(Pacing::Interval(MS), 3_000);
    let run = lab.hypervisor.recorder().run();
    assert_eq!(run.totals().received, 3_000);
    assert_eq!(
        run.lateness().summary().max,
        Some(0),
        "what the first waits for is its neighbour"
    );
    let max = run.response().summary().max.unwrap_or_default();
    assert!(within(max, 100_000_000, 0.01), "{max}");
    // One ping a millisecond, for 100 ms: that many were held up, by 50 ms in the mean.
    let p95 = run.response().summary().p99.unwrap_or_default();
    assert!(within(p95, 70_000_000, 0.05), "{p95}");
}

#[test]
fn phases_follow_one_another_and_each_has_its_own_figures() {
    let mut lab = Lab::new(
        2,
        Impairments {
            delay: MS,
            ..Impairments::default()
        },
    );
    lab.flow(0, 1);
    let tenth = Some(100 * MS);
    let end = lab.run(vec![
        phase("warm-up", 1, Pacing::Interval(MS), None, tenth),
        phase("slow", 1, Pacing::Rate(100.0), None, tenth),
        phase("fast", 1, Pacing::Rate(1_000.0), None, tenth),
        phase("counted", 1, Pacing::Interval(MS), Some(7), None),
    ]);
    assert_eq!(end.as_nanos() / 1_000_000, 300 + 6 + 2);
    let recorder = lab.hypervisor.recorder();
    let phases: Vec<(&str, u64, u64)> = recorder
        .phases()
        .iter()
        .map(|phase| (phase.name(), phase.totals().sent, phase.totals().received))
        .collect();
    let expected = [
        ("warm-up", 100, 100),
        ("slow", 10, 10),
        ("fast", 100, 100),
        ("counted", 7, 7),
    ];
    assert_eq!(phases, expected);
    assert_eq!(recorder.totals().sent, 117, "the warm-up does not count");
}

#[test]
fn a_vm_that_is_removed_takes_its_flows_along_and_leaves_others_alone() {
    let pacings = [
        Pacing::Interval(MS),
        Pacing::Rate(4_000.0),
        Pacing::Window(2),
    ];
    for pacing in pacings {
        let mut lab = Lab::new(4, Impairments::default());
        // vm0 goes. Two flows are its own, one is to it, and one is none of its business.
        for (source, destination) in [(0, 1), (0, 2), (3, 0), (2, 3)] {
            lab.flow(source, destination);
        }
        let phases = ["before", "after"].map(|name| phase(name, 4, pacing, None, Some(MS * 200)));
        lab.hypervisor.start(Instant::ZERO, phases.into());
        let hypervisor = &mut lab.hypervisor;
        run(hypervisor, Instant::ZERO, Instant::ZERO + MS * 100);
        let Ok(()) = hypervisor.remove_vms(Instant::ZERO + MS * 100, &[VmId(0)]);
        let at_removal: Vec<_> = hypervisor
            .recorder()
            .flows()
            .iter()
            .map(|f| *f.totals())
            .collect();
        assert!(hypervisor.vm(VmId(0)).is_none());
        let end = run(hypervisor, Instant::ZERO + MS * 100, END);
        assert!(hypervisor.is_done(), "{pacing:?}");
        assert!(
            end < Instant::ZERO + Duration::from_secs(2),
            "{pacing:?}: {end:?}"
        );
        let flows = hypervisor.recorder().flows();
        for own in [0, 1] {
            assert_eq!(flows[own].totals(), &at_removal[own], "{pacing:?}");
        }
        let to_it = flows[2].totals();
        assert_eq!(to_it.lost, to_it.sent - to_it.received, "{pacing:?}");
        assert!(to_it.lost > 0, "{pacing:?}");
        let other = flows[3].totals();
        assert_eq!((other.lost, other.received), (0, other.sent), "{pacing:?}");
        assert!(other.sent > at_removal[3].sent, "{pacing:?}");
    }
}

#[test]
fn a_vm_made_while_others_ping_gets_a_number_of_its_own_and_its_boot_is_timed() {
    let wire = Impairments {
        delay: MS,
        ..Impairments::default()
    };
    let mut lab = Lab::new(2, wire);
    lab.flow(0, 1);
    let phases = vec![phase("", 2, Pacing::Interval(MS), None, Some(MS * 300))];
    lab.hypervisor.start(Instant::ZERO, phases);
    let at = Instant::ZERO + MS * 100;
    run(&mut lab.hypervisor, Instant::ZERO, at);
    // vm0's own first answer: a resolution and a round trip, of two milliseconds each.
    let boot = lab.hypervisor.recorder().latency(Metric::Boot).summary();
    assert_eq!((boot.count, boot.max), (1, Some(4_000_000)));
    let Ok(()) = lab.hypervisor.remove_vms(at, &[VmId(1)]);
    let plan = lab.addresses.vm(VmId(2));
    let Ok(vm) = lab
        .hypervisor
        .create_vm(at, VmConfig::new(plan.mac, plan.address));
    assert_eq!(vm, VmId(2));
    assert!(lab.hypervisor.vm(VmId(1)).is_none());
    assert_eq!(lab.hypervisor.station(plan.mac), Some(vm));
}

#[test]
fn pings_that_are_due_when_a_phase_ends_are_caught_up_with_or_counted_as_unsent() {
    for (resumed_at, unsent) in [(150, 0), (250, 100)] {
        let mut lab = Lab::new(2, Impairments::default());
        lab.flow(0, 1);
        let phase = phase("", 1, Pacing::Rate(1_000.0), None, Some(100 * MS));
        lab.hypervisor.start(Instant::ZERO, vec![phase]);
        // Until then the driver does nothing, as on a host that takes the CPU away.
        run(&mut lab.hypervisor, Instant::ZERO + resumed_at * MS, END);
        let totals = *lab.hypervisor.recorder().run().totals();
        assert_eq!(
            (totals.sent + totals.unsent, totals.unsent),
            (100, unsent),
            "resumed at {resumed_at} ms"
        );
        assert_eq!(totals.received, totals.sent);
    }
}

/// vmI has the address fd77:: + 2 + I, and tries it first.
fn probing(vm: u32) -> Ipv6Config {
    Ipv6Config {
        interface: Some(Ipv6Interface {
            address: ipv6_address(vm),
            prefix_length: 64,
        }),
        probe: true,
        slaac: false,
        report: Duration::ZERO,
        gateway: None,
        announce: None,
    }
}

fn ipv6_address(vm: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2 + vm as u16)
}

#[test]
fn pings_over_ipv6_begin_when_addresses_are_tried_and_their_resolution_is_measured_apart() {
    let wire = Impairments {
        delay: MS,
        ..Impairments::default()
    };
    let mut lab = Lab::with_ipv6(5, wire, Some(probing));
    for vm in 0..5 {
        let next = (vm + 1) % 5;
        lab.flow_to(vm, next, ipv6_address(next).into());
    }
    lab.run(vec![phase("", 5, Pacing::Interval(MS), Some(100), None)]);
    let recorder = lab.hypervisor.recorder();
    let totals = recorder.totals();
    assert_eq!((totals.received, totals.failed()), (500, 0));
    assert!(recorder.latency(Metric::Resolution).is_empty());
    let resolution = recorder.latency(Metric::Resolution6).summary();
    assert_eq!((resolution.count, resolution.max), (5, Some(2_000_000)));
    assert_eq!(recorder.run().rtt().summary().max, Some(2_000_000));
}

#[test]
fn of_two_that_try_one_address_the_first_to_ask_takes_it() {
    let same = |_| probing(0);
    let mut lab = Lab::with_ipv6(2, Impairments::default(), Some(same));
    run(&mut lab.hypervisor, Instant::ZERO, END);
    let taken = (0..2).filter(|&vm| {
        let vm = lab.hypervisor.vm(VmId(vm)).unwrap();
        vm.ipv6_addresses()
            .any(|address| address == ipv6_address(0))
    });
    assert_eq!(taken.count(), 1);
    let drops = lab.hypervisor.recorder().drops();
    assert_eq!(drops.get(crate::record::DropReason::ArpConflict), 1);
}
