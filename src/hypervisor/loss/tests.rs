//! Tests of the search for what became of lost pings, on a switch in memory.

use std::time::Duration;

use super::obstacle::{Ends, TOO_LARGE};
use super::*;
use crate::experiment::{Experiment, FlowPlan};
use crate::fabric::{DropPlace, FrameDrop, FrameHead, KernelName, MisbehaviourRecord, PortState};
use crate::hypervisor::{Command, Outgoing, Phase, Step};
use crate::lab::SimulatedLab;
use crate::load::Pacing;
use crate::record::{Member, Way, Why};
use crate::sim::Switch;
use crate::system::Neighbours;
use crate::vm::{Misbehaviour, Misdeeds, PingError, PingId, PingOutcome, Probe, ProbeKind};

/// A lab on a switch whose VMs know each other, with a flow from VM to VM for each of `flows`.
fn acquainted(vms: u32, flows: &[(u32, u32)]) -> SimulatedLab<'static> {
    let mut plan = Experiment::of_vms(vms).unwrap();
    plan.lab.neighbours = Neighbours::Static;
    let flows = flows.iter();
    plan.flows = flows
        .map(|(from, to)| FlowPlan::between(VmId(*from), VmId(*to)))
        .collect();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    lab
}

/// What becomes of a ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Answered,
    RequestLost,
    ReplyLost,
    Reported,
}

/// Sends the pings that are due at the beginning, each to what becomes of those of its source.
fn send_to(hypervisor: &mut Hypervisor<Switch>, target: VmId, fate_of: impl Fn(VmId, u64) -> Fate) {
    let now = Instant::ZERO;
    let mut buffer = vec![0; 2048];
    while let Some(step) = hypervisor.next_step(now, &mut buffer) {
        let Step::Send(Outgoing {
            vm,
            length,
            ping: Some(ping),
            ..
        }) = step
        else {
            continue;
        };
        hypervisor.stamp_sent(vm, ping, now);
        let fate = fate_of(vm, ping.sequence);
        if matches!(fate, Fate::Answered | Fate::ReplyLost) {
            hypervisor.receive(now, target, &mut buffer, length);
        }
        match fate {
            Fate::Answered => {
                hypervisor.receive(now, vm, &mut buffer, length);
            }
            Fate::Reported => {
                let error = PingError::HostUnreachable;
                let outcome = PingOutcome::Errored {
                    due: now,
                    sent: now,
                    error,
                };
                hypervisor.record_ping(now, vm, ping, outcome);
            }
            Fate::RequestLost | Fate::ReplyLost => {
                hypervisor.record_ping(now, vm, ping, PingOutcome::Lost { due: now });
            }
        }
    }
}

/// Begins to ping, in search of losses: who sends the first request, its length in `buffer`, and the ping.
fn first_request(hypervisor: &mut Hypervisor<Switch>, buffer: &mut [u8]) -> (VmId, usize, PingId) {
    let Ok(()) = hypervisor.attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
    let phase = Phase::counted(0..1, Pacing::Window(8), 1);
    hypervisor.start(Instant::ZERO, vec![phase]);
    match hypervisor.next_step(Instant::ZERO, buffer) {
        Some(Step::Send(Outgoing {
            vm,
            length,
            ping: Some(ping),
            ..
        })) => (vm, length, ping),
        step => panic!("no ping: {step:?}"),
    }
}

/// The directions of lost pings of which no cause is known, with the number of each.
fn lost_ways(hypervisor: &mut Hypervisor<Switch>) -> Vec<(Way, u64)> {
    let rows = hypervisor.recorder().losses().rows();
    rows.filter(|(row, _)| row.cause == Cause::Unknown)
        .map(|(row, pings)| (row.way, pings))
        .collect()
}

#[test]
fn what_a_flow_sent_before_it_or_its_source_left_counts_in_the_balance_of_its_target() {
    let leave: [fn() -> Command; 2] = [
        || Command::StopFlows(vec![FlowId(0)]),
        || Command::StopVms(vec![VmId(0)]),
    ];
    for command in leave {
        for (fate, way) in [
            (Fate::RequestLost, Way::Request),
            (Fate::ReplyLost, Way::Reply),
        ] {
            let mut lab = acquainted(3, &[(0, 2), (1, 2)]);
            let hypervisor = lab.hypervisor();
            let Ok(()) = hypervisor.attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
            let phase = Phase::counted(0..2, Pacing::Window(1), 1);
            hypervisor.start(Instant::ZERO, vec![phase]);
            send_to(hypervisor, VmId(2), |source, _| match source {
                VmId(0) => Fate::Answered,
                _ => fate,
            });
            let command = command();
            let case = format!("{command:?}, {fate:?}");
            hypervisor.carry_out(Instant::ZERO, command).unwrap();
            hypervisor.explain_rest(Instant::ZERO);
            assert_eq!(lost_ways(hypervisor), [(way, 1)], "{case}");
        }
    }
}

#[test]
fn a_request_that_was_reported_undeliverable_is_not_missed_again() {
    let mut lab = acquainted(2, &[(0, 1)]);
    let hypervisor = lab.hypervisor();
    let Ok(()) = hypervisor.attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
    let phase = Phase::counted(0..1, Pacing::Window(8), 2);
    hypervisor.start(Instant::ZERO, vec![phase]);
    send_to(hypervisor, VmId(1), |_, sequence| match sequence {
        0 => Fate::Reported,
        _ => Fate::ReplyLost,
    });
    hypervisor.explain_rest(Instant::ZERO);
    assert_eq!(lost_ways(hypervisor), [(Way::Reply, 1)]);
}

#[test]
fn requests_to_groups_are_not_taken_for_those_of_flows() {
    let mut lab = acquainted(2, &[(0, 1)]);
    let hypervisor = lab.hypervisor();
    let Ok(()) = hypervisor.attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
    let phase = Phase::counted(0..1, Pacing::Window(1), 1);
    hypervisor.start(Instant::ZERO, vec![phase]);
    // It may have answered one to a group instead.
    let member = Member::Vm(VmId(1));
    hypervisor
        .recorder()
        .member_answered(FlowId(0), member, Instant::ZERO);
    send_to(hypervisor, VmId(1), |_, _| Fate::ReplyLost);
    hypervisor.explain_rest(Instant::ZERO);
    assert_eq!(lost_ways(hypervisor), [(Way::Unknown, 1)]);
}

#[test]
fn a_syn_that_was_answered_may_have_been_a_repeat_of_one_that_was_lost() {
    let mut plan = Experiment::of_vms(2).unwrap();
    plan.lab.neighbours = Neighbours::Static;
    plan.timeout = Duration::from_secs(10);
    plan.vm_defaults.tcp_listen = Some(80);
    plan.flows = vec![FlowPlan {
        probe: Probe::of(ProbeKind::Tcp),
        payload_length: 0,
        ..FlowPlan::between(VmId(0), VmId(1))
    }];
    for (repeats, way) in [(false, Way::Request), (true, Way::Unknown)] {
        let mut lab = SimulatedLab::on_switch(&plan).unwrap();
        lab.populate(&mut ()).unwrap();
        let hypervisor = lab.hypervisor();
        let Ok(()) = hypervisor.attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
        let phase = Phase::counted(0..1, Pacing::Window(8), 1);
        hypervisor.start(Instant::ZERO, vec![phase]);
        send_to(hypervisor, VmId(1), |_, _| Fate::RequestLost);
        let later = Instant::ZERO + Duration::from_secs(1);
        let mut buffer = vec![0; 2048];
        while repeats && let Some(step) = hypervisor.next_step(later, &mut buffer) {
            if let Step::Send(Outgoing { vm, length, .. }) = step
                && vm == VmId(0)
            {
                hypervisor.receive(later, VmId(1), &mut buffer, length);
            }
        }
        let source = hypervisor.vm(VmId(0)).unwrap();
        assert_eq!(source.connections().syns_repeated, u64::from(repeats));
        hypervisor.explain_rest(later);
        assert_eq!(lost_ways(hypervisor), [(way, 1)]);
    }
}

#[test]
fn what_stands_in_the_way_is_judged_by_the_length_of_each_ping() {
    let mut lab = acquainted(2, &[(0, 1)]);
    let hypervisor = lab.hypervisor();
    let Ok(()) = hypervisor.attribute_losses(AttributeLoss::Auto, Duration::from_secs(1));
    // What was read of two TAPs a moment ago.
    let port = PortState {
        is_up: true,
        has_carrier: true,
        mtu: 1_500,
        bridge: None,
    };
    let state = PathState {
        is_bridged: false,
        source: Some(port),
        destination: Some(port),
        forwarding: None,
        returned_at: None,
        between: crate::fabric::Between::default(),
    };
    let ends = (VmId(0), Some(VmId(1)));
    let between = |bytes| Ends::between(VmId(0), VmId(1), bytes);
    let search = hypervisor.loss_search.as_mut().unwrap();
    search.states.insert(ends, Some(state));
    for (bytes, is_too_large) in [(0, false), (9_000, true), (100, false)] {
        let found = hypervisor.obstacle(Instant::ZERO, between(bytes), Way::Request);
        let expected = is_too_large.then_some(Why::State(TOO_LARGE));
        assert_eq!(found.and_then(|found| found.why), expected, "{bytes} bytes");
    }
}

#[test]
fn a_ping_that_is_answered_after_all_is_counted_no_longer_whatever_it_was_put_down_to() {
    let flow = FlowId(3);
    let at_port = |cause, way| Attribution::of(cause, way, Place::Vm(VmId(1)));
    // The count of the flow, and the drops at the port of VM 1 that are explained.
    for (to, count, drops) in [
        (Attribution::UNKNOWN, Count::Open, 0),
        (
            Attribution::reported(PingError::HostUnreachable),
            Count::Explained,
            0,
        ),
        (at_port(Cause::QueueFull, Way::Request), Count::Explained, 1),
        (at_port(Cause::Filtered, Way::Reply), Count::Answered, 1),
        (at_port(Cause::Ignored, Way::Request), Count::Explained, 0),
        (
            at_port(Cause::DeliveredElsewhere, Way::Request),
            Count::Stray,
            0,
        ),
    ] {
        for is_counted in [true, false] {
            let mut search = LossSearch::default();
            let due = Instant::ZERO;
            let failed = Failed { due, to, count };
            let figures = |search: &mut LossSearch| {
                let at_port = search.explained_at.get(&VmId(1)).copied();
                let of_flow = search.flows.entry(flow).or_default();
                let pings = of_flow.of(&failed, is_counted).copied();
                (pings.unwrap_or(0), at_port.unwrap_or(0))
            };
            let pings = u64::from(count != Count::Answered);
            search.count(flow, &failed, is_counted);
            search.count(flow, &failed, is_counted);
            assert_eq!(figures(&mut search), (2 * pings, 2 * drops), "{to}");
            search.discount(flow, &failed, is_counted);
            assert_eq!(figures(&mut search), (pings, drops), "{to}");
        }
    }
}

#[test]
fn a_ping_that_was_sent_late_to_a_vm_whose_link_was_down_by_then_is_put_down_to_that() {
    let ms = |millis| Duration::from_millis(millis);
    let at = |millis| Instant::ZERO + ms(millis);
    // Whose link goes down at 20 ms, and up at 50 ms; when a ping due at 0 was sent, which fails a timeout later.
    for (flaps, sent, expected) in [
        (1, 0, (Cause::Unknown, Way::Unknown)),
        (1, 21, (Cause::Impaired, Way::Request)),
        (0, 0, (Cause::Unknown, Way::Unknown)),
        (0, 15, (Cause::Impaired, Way::Reply)),
    ] {
        let mut lab = acquainted(2, &[(0, 1)]);
        let hypervisor = lab.hypervisor();
        let (vm, _, ping) = first_request(hypervisor, &mut [0; 2048]);
        let flap = Command::Misbehave {
            vm: VmId(flaps),
            misbehaviour: Misbehaviour::Flap {
                period: ms(100),
                down: ms(30),
            },
            lasts: None,
        };
        hypervisor.carry_out(at(20), flap).unwrap();
        for now in [20, 50] {
            assert!(hypervisor.fabric().release(at(now)).is_some());
        }
        let timeout = hypervisor.vm(vm).unwrap().timeout(ping.session).unwrap();
        let lost = PingOutcome::Lost { due: Instant::ZERO };
        hypervisor.record_ping(at(sent) + timeout, vm, ping, lost);
        let rows = hypervisor.recorder().losses().rows();
        let found: Vec<_> = rows.map(|(row, _)| (row.cause, row.way)).collect();
        assert_eq!(found, [expected], "vm{flaps}, sent at {sent} ms");
    }
}

#[test]
fn a_frame_of_a_vm_that_this_run_does_not_have_is_not_taken_for_too_long_where_its_link_was_down() {
    for (mtu, expected) in [
        (1_500, (Cause::Absent, "its link is down")),
        (68, (Cause::InBridge, TOO_LARGE)),
    ] {
        let mut lab = acquainted(2, &[(0, 1)]);
        let hypervisor = lab.hypervisor();
        let mut buffer = [0; 2048];
        let (vm, length, ping) = first_request(hypervisor, &mut buffer);
        hypervisor.receive(Instant::ZERO, VmId(1), &mut buffer, length);
        // The reply comes from a VM of another rank.
        buffer[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
        let port = PortState {
            is_up: true,
            has_carrier: true,
            mtu,
            bridge: None,
        };
        let state = PathState {
            is_bridged: false,
            source: Some(port),
            destination: Some(port),
            forwarding: None,
            returned_at: None,
            between: crate::fabric::Between::default(),
        };
        let search = hypervisor.loss_search.as_mut().unwrap();
        search.states.insert((vm, Some(vm)), Some(state));
        let drop = FrameDrop {
            at: Instant::ZERO,
            place: DropPlace::Port(vm),
            reason: KernelName::new("NOT_SPECIFIED"),
            function: KernelName::new("br_dev_queue_push_xmit"),
            frame: FrameHead::new(&buffer[..length]),
        };
        hypervisor.note_drop(Instant::ZERO, &drop);
        let lost = PingOutcome::Lost { due: Instant::ZERO };
        hypervisor.record_ping(Instant::ZERO, vm, ping, lost);
        let rows = hypervisor.recorder().losses().rows();
        let found: Vec<_> = rows.map(|(row, _)| (row.cause, row.way, row.why)).collect();
        let (cause, why) = expected;
        assert_eq!(found, [(cause, Way::Reply, Some(Why::State(why)))]);
    }
}

#[test]
fn a_vm_of_another_rank_flaps_as_long_as_it_is_planned_to() {
    let mut lab = acquainted(2, &[(0, 1)]);
    let hypervisor = lab.hypervisor();
    let at = |millis| Instant::ZERO + Duration::from_millis(millis);
    hypervisor.elsewhere.push(MisbehaviourRecord {
        vm: VmId(7),
        misbehaviour: Misbehaviour::Flap {
            period: Duration::from_millis(100),
            down: Duration::from_millis(30),
        },
        began: at(10),
        ended: Some(at(50)),
        misdeeds: Misdeeds::default(),
        refused: None,
    });
    for (vm, millis, expected) in [(7, 9, false), (7, 10, true), (7, 50, false), (1, 20, false)] {
        let found = hypervisor.flaps_elsewhere(VmId(vm), at(millis), Way::Request);
        assert_eq!(found.is_some(), expected, "vm{vm} at {millis} ms");
    }
}
