//! A hypervisor driven by hand on a switch in memory.

use super::*;
use crate::experiment::{Experiment, FlowPlan};
use crate::fabric::{FdbChange, FdbEvent, MAX_MISBEHAVING, Place, Write, WriteDrop};
use crate::lab::SimulatedLab;
use crate::load::Pacing;
use crate::record::{DropReason, Limits, Metric, Pause};
use crate::sim::{Switch, WIRE_DELAY};
use crate::system::Neighbours;
use crate::time::LazyNow;
use crate::vm::{Announcement, Misbehaviour};

#[test]
fn every_frame_that_was_written_or_not_is_counted_as_what_it_was() {
    // No VM takes part, so no lab is built.
    let switch = Switch::new(WIRE_DELAY);
    let mut hypervisor = Hypervisor::new(switch, Recorder::new(Limits::default()), 1);
    for (written, times) in [
        (Write::Sent, 4),
        (Write::Dropped(WriteDrop::QueueFull), 1),
        (Write::Dropped(WriteDrop::LinkDown), 2),
        (Write::Dropped(WriteDrop::Refused), 3),
    ] {
        (0..times)
            .for_each(|_| hypervisor.frame_written(written, || (Instant::ZERO, VmId(0), &[])));
    }
    let recorder = hypervisor.recorder();
    let dropped: Vec<_> = recorder.drops().iter().collect();
    assert_eq!(
        dropped,
        [
            (DropReason::QueueFull, 1),
            (DropReason::LinkDown, 2),
            (DropReason::Refused, 3)
        ]
    );
    assert_eq!(recorder.setup().frames_out + recorder.work().frames_out, 4);
}

#[test]
fn a_plain_echo_request_is_answered_without_a_clock_and_nothing_else_is() {
    let mut plan = Experiment::of_vms(2).unwrap();
    plan.lab.neighbours = Neighbours::Static;
    plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    let hypervisor = lab.hypervisor();
    let phase = Phase::counted(0..1, Pacing::Interval(Duration::from_secs(1)), 1);
    hypervisor.start(Instant::ZERO, vec![phase]);
    let mut buffer = vec![0; 2048];
    let request = std::iter::from_fn(|| hypervisor.next_step(Instant::ZERO, &mut buffer));
    let request = request.filter_map(|step| match step {
        Step::Send(outgoing) => Some(outgoing),
        Step::Quiet => None,
    });
    let request = request.last().expect("a ping is due");
    assert!(request.ping.is_some(), "it starts a ping");
    hypervisor.stamp(&request, Instant::ZERO, &mut buffer);
    let mut now = LazyNow::new(Instant::from_nanos(1));
    let answer = hypervisor.receive(&mut now, VmId(1), &mut buffer, request.length);
    let answer = answer.expect("an answer to a plain request");
    assert_eq!((answer.vm, answer.length), (VmId(1), request.length));
    assert_eq!(now.reading(), None);
    // The reply is for the one who asked, and needs the time.
    let outgoing = hypervisor.receive(&mut now, VmId(0), &mut buffer, answer.length);
    assert_eq!(outgoing, None);
    assert!(now.reading().is_some());
    assert_eq!(hypervisor.recorder().totals().received, 1);
}

#[test]
fn a_run_that_is_stopped_comes_to_its_last_gate_when_its_own_pings_are_over() {
    let at = Instant::from_nanos;
    for is_answered in [true, false] {
        let mut plan = Experiment::of_vms(2).unwrap();
        plan.lab.neighbours = Neighbours::Static;
        plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        let hypervisor = lab.hypervisor();
        let mut buffer = vec![0; 2048];
        let last_sent = |hypervisor: &mut Hypervisor<_>, now, buffer: &mut Vec<u8>| {
            let steps = std::iter::from_fn(|| hypervisor.next_step(now, buffer));
            let sent = steps.filter_map(|step| match step {
                Step::Send(outgoing) => Some(outgoing),
                Step::Quiet => None,
            });
            sent.last()
        };
        hypervisor.stop_at_gates();
        let phase = Phase::counted(0..1, Pacing::Interval(Duration::from_secs(1)), 9);
        hypervisor.start(Instant::ZERO, vec![phase.clone(), phase]);
        last_sent(hypervisor, Instant::ZERO, &mut buffer);
        assert_eq!(hypervisor.take_gate(), Some((0, true)));
        hypervisor.open_gate(Instant::ZERO);
        let request = last_sent(hypervisor, Instant::ZERO, &mut buffer).expect("a ping is due");
        hypervisor.stamp(&request, Instant::ZERO, &mut buffer);
        hypervisor.stop(at(1));
        let mut frame = buffer.clone();
        last_sent(hypervisor, at(2), &mut buffer);
        assert_eq!(
            (hypervisor.take_gate(), hypervisor.is_done()),
            (None, false)
        );
        if is_answered {
            let mut now = LazyNow::new(at(3));
            let answer = hypervisor.receive(&mut now, VmId(1), &mut frame, request.length);
            let answer = answer.expect("an answer to a plain request");
            hypervisor.receive(&mut now, VmId(0), &mut frame, answer.length);
            last_sent(hypervisor, at(4), &mut buffer);
        } else {
            hypervisor.give_up(at(4));
        }
        // The second phase does not begin any more.
        assert_eq!(hypervisor.take_gate(), Some((1, false)));
        // It answers others there.
        assert!(hypervisor.has_gates() && !hypervisor.is_done());
        hypervisor.open_gate(at(5));
        last_sent(hypervisor, at(6), &mut buffer);
        assert!(hypervisor.is_done());
        let totals = hypervisor.recorder().totals();
        assert_eq!(
            (totals.received, totals.lost),
            match is_answered {
                true => (1, 0),
                false => (0, 1),
            }
        );
    }
}

#[test]
fn a_reply_whose_reading_of_the_clock_shows_a_pause_is_measured_across_it() {
    let at = Instant::from_nanos;
    for (from, across, is_one_way) in [(5, 1, false), (20, 0, false), (5, 1, true), (20, 0, true)] {
        let mut plan = Experiment::of_vms(2).unwrap();
        plan.lab.neighbours = Neighbours::Static;
        plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        let hypervisor = lab.hypervisor();
        if is_one_way {
            hypervisor.measure_one_way();
        }
        let phase = Phase::counted(0..1, Pacing::Window(1), 1);
        hypervisor.start(at(0), vec![phase]);
        let mut buffer = vec![0; 2048];
        let steps = std::iter::from_fn(|| hypervisor.next_step(at(0), &mut buffer));
        let sent = steps.filter_map(|step| match step {
            Step::Send(outgoing) => Some(outgoing),
            Step::Quiet => None,
        });
        let request = sent.last().expect("a ping is due");
        let length = request.length;
        assert!(request.ping.is_some(), "it starts a ping");
        hypervisor.stamp(&request, at(1), &mut buffer);
        hypervisor.receive(at(4), VmId(1), &mut buffer, length);
        hypervisor.receive(at(10), VmId(0), &mut buffer, length);
        hypervisor.paused(Pause {
            from: at(from),
            to: at(from + 4),
            nanos: 4,
            run_delay: 0,
            writing: 0,
            answering: 0,
        });
        let paused = hypervisor.recorder().latency(Metric::Paused).summary();
        assert_eq!(paused.count, across, "a pause from {from}, {is_one_way}");
        let backward = hypervisor.recorder().latency(Metric::Backward).summary();
        let expected = is_one_way.then_some(6);
        assert_eq!(backward.max, expected, "a pause from {from}");
    }
}

#[test]
fn a_start_or_stop_does_not_wait_for_a_later_change_of_an_earlier_phase() {
    let seconds = |count| Instant::ZERO + Duration::from_secs(count);
    let mut lifecycle = Lifecycle::default();
    lifecycle.schedule(seconds(60), VmId(9), lifecycle::Due::Behave);
    let change = |after, vm, change| Transition {
        after: Duration::from_secs(after),
        vm: VmId(vm),
        change,
    };
    let mut phase = Phase::counted(0..0, Pacing::Window(1), 0);
    // Those of one instant keep their order.
    phase.transitions = vec![
        change(1, 4, Change::Stop),
        change(1, 3, Change::Start),
        change(70, 3, Change::Stop),
    ];
    lifecycle.begin(Instant::ZERO, &phase);
    let due: Vec<_> = lifecycle.changes().collect();
    let expected = [(1, VmId(4)), (1, VmId(3)), (60, VmId(9)), (70, VmId(3))];
    assert_eq!(due, expected.map(|(at, vm)| (seconds(at), vm)));
}

#[test]
fn a_misbehaviour_that_is_refused_tells_no_flows_apart() {
    let most = MAX_MISBEHAVING as u32;
    let mut plan = Experiment::of_vms(most + 1).unwrap();
    plan.lab.neighbours = Neighbours::Static;
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    let hypervisor = lab.hypervisor();
    let mut silence =
        |vm| hypervisor.misbehave(Instant::ZERO, VmId(vm), Misbehaviour::Silent, None);
    (0..most).for_each(|vm| silence(vm).unwrap());
    let why = silence(most).unwrap_err();
    assert!(why.contains("expected no more at a time"), "{why}");
    assert!(!hypervisor.offenders.contains(&VmId(most)));
}

/// A lab on a switch, whose VMs have just been moved, each without an announcement.
fn moved(vms: u32) -> SimulatedLab<'static> {
    let mut plan = Experiment::of_vms(vms).unwrap();
    // Tables are not filled, and learn where VMs are.
    plan.lab.neighbours = Neighbours::AtOnce;
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    for vm in (0..vms).map(VmId) {
        let relocation = Relocation {
            announcement: Announcement::None,
            ..Relocation::to(Place::Leaf(1))
        };
        let command = Command::Move(vm, Box::new(relocation));
        lab.hypervisor().carry_out(Instant::ZERO, command).unwrap();
    }
    lab
}

#[test]
fn what_tables_say_of_others_when_a_vm_moves_is_kept() {
    let mut lab = moved(3);
    let hypervisor = lab.hypervisor();
    let at = |micros| Instant::ZERO + Duration::from_micros(micros);
    let heard = [
        (0, FdbChange::Forgotten),
        (1, FdbChange::Learned),
        (1, FdbChange::Told),
        (2, FdbChange::Told),
        (2, FdbChange::Forgotten),
    ];
    let heard = heard.map(|(vm, change)| {
        let (vm, at) = (VmId(vm), at(5));
        FdbEvent { vm, at, change }
    });
    // What tables have lost of VM 2 has gone with its port.
    hypervisor.hear_of_move(VmId(2), &heard);
    let moves = hypervisor.recorder().moves().unwrap();
    let known = |made: &crate::record::Move| (made.learned, made.told_since, made.forgotten_since);
    let known: Vec<_> = moves.all().iter().map(known).collect();
    let then = Some(at(5));
    let expected = [(None, None, then), (then, then, None), (None, then, None)];
    assert_eq!(known, expected);
}

#[test]
fn what_a_table_was_told_or_has_lost_may_have_been_so_before_it_was_heard() {
    let mut lab = moved(3);
    let hypervisor = lab.hypervisor();
    let at = |micros| Instant::ZERO + Duration::from_micros(micros);
    for (vm, change) in [
        (0, FdbChange::Told),
        (1, FdbChange::Forgotten),
        (2, FdbChange::Learned),
    ] {
        let (vm, at) = (VmId(vm), at(9));
        let event = FdbEvent { vm, at, change };
        // An answer that was read between these two times came by what the table says.
        hypervisor.hear_of_table(&event, Instant::ZERO + Duration::from_micros(5));
    }
    let moves = hypervisor.recorder().moves().unwrap();
    let known = |made: &crate::record::Move| (made.learned, made.told_since, made.forgotten_since);
    let known: Vec<_> = moves.all().iter().map(known).collect();
    let then = Some(at(5));
    let expected = [
        (None, then, None),
        (None, None, then),
        (Some(at(9)), None, None),
    ];
    assert_eq!(known, expected);
}

#[test]
fn a_moved_vm_is_watched_until_it_has_been_seen_or_leaves() {
    let mut lab = moved(2);
    let hypervisor = lab.hypervisor();
    let at = Instant::from_nanos(7);
    hypervisor.fabric().write(at, VmId(0), &[0xff; 60]);
    assert!(hypervisor.fabric().is_watched());
    hypervisor
        .carry_out(at, Command::StopVms(vec![VmId(0), VmId(1)]))
        .unwrap();
    assert!(!hypervisor.fabric().is_watched());
    let moves = hypervisor.recorder().moves().unwrap();
    let first_out: Vec<_> = moves.all().iter().map(|made| made.seen.first_out).collect();
    assert_eq!(first_out, [Some(at), None]);
}

#[test]
fn news_of_tables_at_the_end_of_a_run_wait_for_a_look_that_knows_the_time() {
    let mut lab = moved(1);
    let hypervisor = lab.hypervisor();
    hypervisor
        .fabric()
        .write(Instant::from_nanos(7), VmId(0), &[0xff; 60]);
    hypervisor.end();
    assert_eq!(
        hypervisor.fabric().fdb_events(Instant::from_nanos(8)).len(),
        1
    );
}
