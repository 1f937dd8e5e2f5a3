//! The report tells the impairments that were put in.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::*;
use crate::experiment::{self, FlowPlan, IpVersion, Scenario};
use crate::fabric::{Delay, Direction, Loss, Profile, Rule};
use crate::hypervisor::{AttributeLoss, Command, Phase};
use crate::lab::SimulatedLab;
use crate::load::{Pacing, Start, Target};
use crate::record::Metric;
use crate::vm::{Ipv6Config, Ipv6Interface, Probe, VmConfig, VmId};
use crate::wire::MacAddr;

mod endpoints;
mod impairments;
mod lifecycle;
mod losses;
mod many_flows;
mod marks;
mod misbehaviours;
mod moves;
mod neighbours;
mod one_way;
mod searches;
mod steering;
mod streams;

const END: Instant = Instant::from_nanos(3_600_000_000_000);
const MS: Duration = Duration::from_millis(1);

/// VMs on one switch. The tests drive it themselves: the driver is what they test.
type Lab = SimulatedLab<'static>;

/// Creates a lab still without VMs, whose plan has `vms` of them.
fn empty_lab(vms: u32, switch: Switch) -> Lab {
    let scenario = format!("vms = {vms}\nsubnet = '10.0.0.0/8'");
    let scenario = Scenario::parse("test.toml", &scenario).unwrap();
    let plan = experiment::plan(&scenario).unwrap();
    let mut lab = SimulatedLab::new(switch, plan).unwrap();
    let Ok(()) = lab
        .hypervisor()
        .attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
    lab
}

/// Creates a lab of VMs whose configurations are changed by `change`.
fn changed_lab(vms: u32, delay: Duration, change: impl Fn(u32, &mut VmConfig)) -> Lab {
    let mut lab = empty_lab(vms, Switch::new(delay));
    for vm in 0..vms {
        let mut config = config(&lab, vm);
        change(vm, &mut config);
        let Ok(_) = lab.hypervisor().create_vm(Instant::ZERO, config);
    }
    lab
}

fn new_lab(vms: u32, delay: Duration) -> Lab {
    changed_lab(vms, delay, |_, _| ())
}

/// Creates a lab in which frames on their way to each VM are impaired.
fn impaired_lab(vms: u32, profile: Profile) -> Lab {
    let mut lab = new_lab(vms, WIRE_DELAY);
    impair(&mut lab, profile);
    lab
}

/// Impairs the frames on their way to each VM.
fn impair(lab: &mut Lab, profile: Profile) {
    let rule = Rule {
        words: String::new(),
        vms: 0..=u32::MAX,
        direction: Direction::In,
        to: None,
        profile,
    };
    lab.carry_out(Command::Impair(vec![rule])).unwrap();
}

/// Creates a lab of which the VMs from `first` on start later.
fn lab_with_pending_vms(vms: u32, first: u32, delay: Duration) -> Lab {
    let mut lab = empty_lab(vms, Switch::new(delay));
    for vm in 0..vms {
        let config = config(&lab, vm);
        if vm < first {
            let Ok(_) = lab.hypervisor().create_vm(Instant::ZERO, config);
        } else {
            lab.hypervisor().expect_vm(VmId(vm), config);
        }
    }
    lab
}

/// Returns the planned configuration of a VM.
fn config(lab: &Lab, vm: u32) -> VmConfig {
    lab.plan().vm_config(vm as usize).unwrap()
}

fn flow(lab: &mut Lab, source: u32, destination: u32) {
    add_flow(lab, source, Target::Vm(VmId(destination)), 56);
}

fn flow_to(lab: &mut Lab, source: u32, address: IpAddr) {
    add_flow(lab, source, Target::Address(address), 56);
}

fn add_flow(lab: &mut Lab, source: u32, target: Target, payload_length: usize) {
    let flow = FlowPlan {
        source: VmId(source),
        target,
        version: IpVersion::V4,
        probe: Probe::ICMP_ECHO,
        payload_length,
    };
    lab.add_flow(flow).unwrap();
}

/// Adds a flow from vm0 to vm1 and runs it alone.
fn ping(lab: &mut Lab, pacing: Pacing, count: u64) -> Instant {
    flow(lab, 0, 1);
    carry(lab, vec![phase("", 1, pacing, Some(count), None)])
}

fn carry(lab: &mut Lab, phases: Vec<Phase>) -> Instant {
    lab.hypervisor().start(Instant::ZERO, phases);
    run(lab.hypervisor(), Instant::ZERO, END)
}

fn phase(
    name: &str,
    flows: u32,
    pacing: Pacing,
    count: Option<u64>,
    duration: Option<Duration>,
) -> Phase {
    let mut phase = Phase::counted(0..flows, pacing, 0);
    phase.name = name.to_owned();
    phase.is_counted = name != "warm-up";
    phase.load.count = count;
    phase.duration = duration;
    phase
}

fn losing(share: f64) -> Profile {
    Profile {
        loss: Loss::Random(share),
        ..Profile::default()
    }
}

fn within(value: u64, truth: u64, share: f64) -> bool {
    value.abs_diff(truth) as f64 <= truth as f64 * share
}

#[test]
fn a_fixed_delay_comes_out_as_twice_that_and_resolution_takes_one_round_trip() {
    let mut lab = new_lab(2, MS);
    let end = ping(&mut lab, Pacing::Interval(10 * MS), 1_000);
    assert_eq!(end.as_nanos(), (999 * 10 + 2) * 1_000_000);
    let recorder = lab.hypervisor().recorder();
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
    let mut lab = new_lab(2, MS);
    let end = ping(&mut lab, Pacing::Window(8), 800);
    assert_eq!(lab.hypervisor().recorder().totals().received, 800);
    assert_eq!(
        end.as_nanos(),
        (100 * 2 + 2) * 1_000_000,
        "100 rounds of 8, and one to resolve"
    );
}

#[test]
fn loss_both_ways_duplicates_and_reordering_are_counted_as_they_were_put_in() {
    let pings = 20_000;
    let mut lab = impaired_lab(2, losing(0.05));
    ping(&mut lab, Pacing::Interval(MS), pings);
    let totals = *lab.hypervisor().recorder().run().totals();
    assert_eq!(totals.sent, pings);
    assert_eq!(totals.received + totals.lost, pings);
    let truth = (pings as f64 * (1.0 - 0.95 * 0.95)) as u64;
    assert!(within(totals.lost, truth, 0.1), "{totals:?}, {truth} lost");

    let profile = Profile {
        duplicate: 0.1,
        ..Profile::default()
    };
    let mut lab = impaired_lab(2, profile);
    ping(&mut lab, Pacing::Interval(MS), pings);
    let totals = *lab.hypervisor().recorder().run().totals();
    // A request that arrives twice is answered twice, and each answer may be doubled again.
    let truth = (pings as f64 * (1.1 * 1.1 - 1.0)) as u64;
    assert!(
        within(totals.duplicate, truth, 0.1),
        "{totals:?}, {truth} duplicate"
    );
    assert_eq!((totals.received, totals.lost), (pings, 0));

    let profile = Profile {
        reorder: 0.05,
        delay: Some(Delay::constant(MS + MS / 2)),
        ..Profile::default()
    };
    let mut lab = impaired_lab(2, profile);
    ping(&mut lab, Pacing::Interval(MS), pings);
    let totals = *lab.hypervisor().recorder().run().totals();
    // One is overtaken if the next is not held, and it is.
    let not_overtaken = 1.0 - 0.05 * 0.95;
    let truth = (pings as f64 * (1.0 - not_overtaken * not_overtaken)) as u64;
    assert!(
        within(totals.reordered, truth, 0.1),
        "{totals:?}, {truth} reordered"
    );
    assert_eq!((totals.received, totals.duplicate), (pings, 0));
}

#[test]
fn a_reply_after_the_timeout_is_late_and_its_ping_lost() {
    let delay = 600 * MS;
    let mut lab = new_lab(2, delay);
    ping(&mut lab, Pacing::Interval(100 * MS), 50);
    let totals = *lab.hypervisor().recorder().run().totals();
    assert_eq!((totals.sent, totals.received, totals.lost), (50, 0, 50));
    assert!(
        totals.late >= 45,
        "those of the last second come after the end: {totals:?}"
    );
}

#[test]
fn nobody_there_is_unresolved_not_lost() {
    let mut lab = impaired_lab(2, losing(1.0));
    ping(&mut lab, Pacing::Interval(100 * MS), 10);
    let totals = *lab.hypervisor().recorder().run().totals();
    assert_eq!((totals.sent, totals.lost, totals.unresolved), (0, 0, 10));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let profile = Profile {
            delay: Some(Delay {
                jitter: MS,
                ..Delay::constant(MS)
            }),
            loss: Loss::Random(0.1),
            duplicate: 0.1,
            reorder: 0.1,
            ..Profile::default()
        };
        let mut lab = impaired_lab(5, profile);
        for i in 0..5 {
            flow(&mut lab, i, (i + 1) % 5);
        }
        let end = carry(
            &mut lab,
            vec![phase("", 5, Pacing::Interval(MS), Some(500), None)],
        );
        let run = lab.hypervisor().recorder().run();
        (end, *run.totals(), run.rtt().summary().p99)
    };
    assert_eq!(run(), run());
}

#[test]
fn a_stall_of_the_receiver_shows_in_rtt_and_not_in_lateness() {
    let mut lab = new_lab(2, WIRE_DELAY);
    let from = Instant::from_nanos(1_000_000_000);
    lab.hypervisor().fabric().inner().stall(Stall {
        vm: VmId(1),
        from,
        until: from + 100 * MS,
    });
    ping(&mut lab, Pacing::Interval(MS), 3_000);
    let run = lab.hypervisor().recorder().run();
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
    let mut lab = new_lab(2, MS);
    flow(&mut lab, 0, 1);
    let tenth = Some(100 * MS);
    let end = carry(
        &mut lab,
        vec![
            phase("warm-up", 1, Pacing::Interval(MS), None, tenth),
            phase("slow", 1, Pacing::Rate(100.0), None, tenth),
            phase("fast", 1, Pacing::Rate(1_000.0), None, tenth),
            phase("counted", 1, Pacing::Interval(MS), Some(7), None),
        ],
    );
    assert_eq!(end.as_nanos() / 1_000_000, 300 + 6 + 2);
    let recorder = lab.hypervisor().recorder();
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
        let mut lab = new_lab(4, WIRE_DELAY);
        // vm0 goes. Two flows are its own, one is to it, and one is none of its business.
        for (source, destination) in [(0, 1), (0, 2), (3, 0), (2, 3)] {
            flow(&mut lab, source, destination);
        }
        let phases = ["before", "after"].map(|name| phase(name, 4, pacing, None, Some(MS * 200)));
        lab.hypervisor().start(Instant::ZERO, phases.into());
        let hypervisor = lab.hypervisor();
        run(hypervisor, Instant::ZERO, Instant::ZERO + MS * 100);
        hypervisor
            .carry_out(Instant::ZERO + MS * 100, Command::StopVms(vec![VmId(0)]))
            .unwrap();
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
    let delay = MS;
    let mut lab = new_lab(2, delay);
    flow(&mut lab, 0, 1);
    let phases = vec![phase("", 2, Pacing::Interval(MS), None, Some(MS * 300))];
    lab.hypervisor().start(Instant::ZERO, phases);
    let at = Instant::ZERO + MS * 100;
    run(lab.hypervisor(), Instant::ZERO, at);
    // vm0's own first answer: a resolution and a round trip, of two milliseconds each.
    let boot = lab.hypervisor().recorder().latency(Metric::Boot).summary();
    assert_eq!((boot.count, boot.max), (1, Some(4_000_000)));
    lab.hypervisor()
        .carry_out(at, Command::StopVms(vec![VmId(1)]))
        .unwrap();
    let config = VmConfig::new(MacAddr([2, 0, 10, 0, 0, 4]), "10.0.0.4".parse().unwrap());
    let Ok(vm) = lab.hypervisor().create_vm(at, config);
    assert_eq!(vm, VmId(2));
    assert!(lab.hypervisor().vm(VmId(1)).is_none());
    assert_eq!(lab.hypervisor().station(config.mac), Some(vm));
}

#[test]
fn pings_that_are_due_when_a_phase_ends_are_caught_up_with_or_counted_as_unsent() {
    for (resumed_at, unsent) in [(150, 0), (250, 100)] {
        let mut lab = new_lab(2, WIRE_DELAY);
        flow(&mut lab, 0, 1);
        let phase = phase("", 1, Pacing::Rate(1_000.0), None, Some(100 * MS));
        lab.hypervisor().start(Instant::ZERO, vec![phase]);
        // Until then the driver does nothing, as on a host that takes the CPU away.
        run(lab.hypervisor(), Instant::ZERO + resumed_at * MS, END);
        let totals = *lab.hypervisor().recorder().run().totals();
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
        dhcp: false,
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
    let delay = MS;
    let mut lab = changed_lab(5, delay, |vm, config| config.ipv6 = Some(probing(vm)));
    for vm in 0..5 {
        let next = (vm + 1) % 5;
        flow_to(&mut lab, vm, ipv6_address(next).into());
    }
    carry(
        &mut lab,
        vec![phase("", 5, Pacing::Interval(MS), Some(100), None)],
    );
    let recorder = lab.hypervisor().recorder();
    let totals = recorder.totals();
    assert_eq!((totals.received, totals.failed()), (500, 0));
    assert!(recorder.latency(Metric::Resolution).is_empty());
    let resolution = recorder.latency(Metric::Resolution6).summary();
    assert_eq!((resolution.count, resolution.max), (5, Some(2_000_000)));
    assert_eq!(recorder.run().rtt().summary().max, Some(2_000_000));
}

#[test]
fn of_two_that_try_one_address_the_first_to_ask_takes_it() {
    let mut lab = changed_lab(2, WIRE_DELAY, |_, config| {
        config.ipv6 = Some(probing(0));
    });
    run(lab.hypervisor(), Instant::ZERO, END);
    let taken = (0..2).filter(|&vm| {
        let vm = lab.hypervisor().vm(VmId(vm)).unwrap();
        vm.ipv6_addresses()
            .any(|address| address == ipv6_address(0))
    });
    assert_eq!(taken.count(), 1);
    let drops = lab.hypervisor().recorder().drops();
    assert_eq!(drops.get(crate::record::DropReason::ArpConflict), 1);
}
