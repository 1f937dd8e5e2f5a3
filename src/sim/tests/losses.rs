//! Known truth: what lost pings are put down to is what was done to them, in each direction, exactly.

use super::*;
use crate::fabric::Impairment;
use crate::load::FlowId;
use crate::record::{Attribution, Cause, Place, Recorder, Way, Why};
use crate::vm::VmId;

/// Two VMs that know each other, so that there are no frames but those of pings.
fn pair(switch: Switch) -> Lab {
    let mut lab = empty_lab(2, switch);
    for vm in 0..2 {
        let config = config(&lab, vm);
        let Ok(_) = lab.hypervisor().create_vm(Instant::ZERO, config);
    }
    for (vm, neighbour) in [(0, 1), (1, 0)] {
        let VmConfig { mac, .. } = config(&lab, neighbour);
        let address = lab.plan().vms[neighbour as usize].address;
        lab.hypervisor()
            .tell_neighbour(VmId(vm), address.into(), mac);
    }
    lab
}

fn rule(vm: u32, direction: Direction, profile: Profile) -> Rule {
    Rule {
        words: String::new(),
        vms: vm..=vm,
        direction,
        to: None,
        profile,
    }
}

fn rows(recorder: &Recorder) -> Vec<(Cause, Way, Place, u64)> {
    let rows = recorder.losses().rows();
    rows.map(|(row, pings)| (row.cause, row.way, row.place, pings))
        .collect()
}

fn is_whole(recorder: &Recorder) {
    let totals = recorder.totals();
    let losses = recorder.losses();
    assert_eq!(losses.total(), totals.failed() + totals.unsent);
    for (index, flow) in recorder.flows().iter().enumerate() {
        let of_flow = losses.of_flow(FlowId(index as u32));
        let sum: u64 = of_flow.iter().map(|(_, pings)| pings).sum();
        assert_eq!(sum, flow.totals().failed(), "flow {index}");
    }
}

#[test]
fn what_impairments_lose_or_spoil_is_put_down_to_them_in_each_direction() {
    let profile = |loss, corrupt| Profile {
        loss,
        corrupt,
        ..Profile::default()
    };
    let losses = [
        (Loss::Random(0.05), 0.0),
        (Loss::Every(9), 0.1),
        (Loss::None, 0.2),
        (Loss::Every(1), 0.0),
    ];
    for (loss, corrupt) in losses {
        for (vm, direction, way) in [
            (0, Direction::Out, Way::Request),
            (1, Direction::In, Way::Request),
            (1, Direction::Out, Way::Reply),
            (0, Direction::In, Way::Reply),
        ] {
            let mut lab = pair(Switch::new(WIRE_DELAY));
            let rules = vec![rule(vm, direction, profile(loss, corrupt))];
            lab.carry_out(Command::Impair(rules)).unwrap();
            ping(&mut lab, Pacing::Interval(MS), 5_000);
            let counts = lab.hypervisor().fabric().impairments();
            let counted = |kind: Impairment| {
                let of_kind = counts.iter().filter(|count| count.kind == kind);
                of_kind.map(|count| count.frames).sum::<u64>()
            };
            let recorder = lab.hypervisor().recorder();
            let failed = recorder.totals().failed();
            let harmed = counted(Impairment::Lost) + counted(Impairment::Corrupted);
            assert!(failed > 200, "{failed}");
            // A wrong bit fails a checksum or the comparison of data, wherever it is.
            assert_eq!(failed, harmed);
            let found = rows(recorder);
            let is_impaired = |row: &(Cause, Way, Place, u64)| {
                (row.0, row.1, row.2) == (Cause::Impaired, way, Place::Vm(VmId(vm)))
            };
            assert!(found.iter().all(is_impaired), "{found:?}");
            assert_eq!(found.iter().map(|row| row.3).sum::<u64>(), failed);
            is_whole(recorder);
        }
    }
}

#[test]
fn losses_in_both_directions_are_told_apart_ping_by_ping() {
    let mut lab = pair(Switch::new(WIRE_DELAY));
    let every = |count| Profile {
        loss: Loss::Every(count),
        ..Profile::default()
    };
    let rules = vec![
        rule(0, Direction::Out, every(10)),
        rule(0, Direction::In, every(9)),
    ];
    lab.carry_out(Command::Impair(rules)).unwrap();
    ping(&mut lab, Pacing::Interval(MS), 1_000);
    let at = |way, pings| (Cause::Impaired, way, Place::Vm(VmId(0)), pings);
    // Each tenth request, and each ninth of the 900 replies.
    let expected = [at(Way::Request, 100), at(Way::Reply, 100)];
    let recorder = lab.hypervisor().recorder();
    assert_eq!(rows(recorder), expected);
    is_whole(recorder);
}

#[test]
fn what_a_full_queue_drops_is_put_down_to_the_queue_of_the_vm_that_it_was_for() {
    let mut lab = pair(Switch::new(MS).with_queue(3));
    flow(&mut lab, 0, 1);
    carry(
        &mut lab,
        vec![phase("", 1, Pacing::Interval(MS / 10), Some(1_000), None)],
    );
    let dropped = lab.hypervisor().fabric().drops().unwrap();
    let recorder = lab.hypervisor().recorder();
    let at = (Cause::QueueFull, Way::Request, Place::Vm(VmId(1)), dropped);
    assert_eq!(rows(recorder), [at]);
    assert!(dropped > 500, "{dropped}");
    is_whole(recorder);
}

#[test]
fn an_answer_after_the_timeout_is_late_and_is_counted_once() {
    let delayed = |base| Profile {
        delay: Some(Delay::constant(base)),
        ..Profile::default()
    };
    // Longer than the timeout, which is a second.
    for delay in [1_500 * MS, 1_001 * MS] {
        let mut lab = pair(Switch::new(Duration::ZERO));
        let rules = vec![rule(1, Direction::Out, delayed(delay))];
        lab.carry_out(Command::Impair(rules)).unwrap();
        flow(&mut lab, 0, 1);
        let phases = vec![phase(
            "",
            1,
            Pacing::Interval(10 * MS),
            None,
            Some(3_000 * MS),
        )];
        carry(&mut lab, phases);
        let recorder = lab.hypervisor().recorder();
        let totals = recorder.totals();
        let losses = rows(recorder);
        let late = (Cause::Late, Way::Unknown, Place::Unknown, totals.late);
        assert!(totals.late > 100, "{delay:?} {totals:?}");
        assert!(losses.contains(&late), "{losses:?} {totals:?}");
        is_whole(recorder);
    }
}

#[test]
fn pings_to_a_vm_that_has_stopped_are_put_down_to_that() {
    let mut lab = pair(Switch::new(WIRE_DELAY));
    flow(&mut lab, 0, 1);
    let load = phase("", 1, Pacing::Interval(10 * MS), Some(100), None);
    lab.hypervisor().start(Instant::ZERO, vec![load]);
    let half = Instant::ZERO + 495 * MS;
    run(lab.hypervisor(), Instant::ZERO, half);
    lab.hypervisor()
        .carry_out(half, Command::StopVms(vec![VmId(1)]))
        .unwrap();
    run(lab.hypervisor(), half, END);
    let recorder = lab.hypervisor().recorder();
    let at = (Cause::Absent, Way::Request, Place::Vm(VmId(1)), 50);
    assert_eq!(rows(recorder), [at]);
    is_whole(recorder);
}

#[test]
fn a_neighbour_that_does_not_answer_is_told_from_no_way_to_it() {
    let mut lab = new_lab(2, WIRE_DELAY);
    flow_to(&mut lab, 0, "10.0.9.9".parse().unwrap());
    flow_to(&mut lab, 1, "192.0.2.1".parse().unwrap());
    let load = phase("", 2, Pacing::Interval(10 * MS), Some(10), None);
    carry(&mut lab, vec![load]);
    let recorder = lab.hypervisor().recorder();
    let whys: Vec<_> = recorder
        .losses()
        .rows()
        .map(|(row, pings)| (row.to_string(), pings))
        .collect();
    let words = "request never sent: no neighbour, route or port";
    let no_route = format!("{words} (no_route)");
    let expected = [(words.to_owned(), 10), (no_route, 10)];
    assert_eq!(whys, expected);
    is_whole(recorder);
}

#[test]
fn where_nothing_is_asked_for_lost_pings_are_unknown_and_the_sums_hold() {
    let scenario = Scenario::parse("t.toml", "vms = 2\nattribute-loss = 'off'").unwrap();
    let plan = experiment::plan(&scenario).unwrap();
    let mut lab = SimulatedLab::on_switch(plan).unwrap();
    lab.populate(&mut ()).unwrap();
    impair(&mut lab, losing(0.2));
    ping(&mut lab, Pacing::Interval(MS), 1_000);
    let recorder = lab.hypervisor().recorder();
    let lost = recorder.totals().lost;
    let rows: Vec<_> = recorder.losses().rows().collect();
    assert_eq!(rows, [(&Attribution::UNKNOWN, lost)]);
    is_whole(recorder);
}

#[test]
fn a_simulation_tells_what_it_drops_whether_it_has_to_or_not() {
    for how in ["auto", "on"] {
        let text = format!("fabric = 'sim'\nvms = 2\nattribute-loss = '{how}'");
        let plan = experiment::plan(&Scenario::parse("t.toml", &text).unwrap()).unwrap();
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        impair(&mut lab, losing(0.2));
        ping(&mut lab, Pacing::Interval(MS), 1_000);
        let recorder = lab.hypervisor().recorder();
        let is_known = |(row, _): (&Attribution, u64)| row.cause == Cause::Impaired;
        assert!(recorder.losses().rows().all(is_known), "{how}");
        is_whole(recorder);
    }
}

#[test]
fn a_reply_that_is_ignored_is_not_a_lost_request() {
    let profile = Profile {
        corrupt: 1.0,
        ..Profile::default()
    };
    let mut lab = pair(Switch::new(WIRE_DELAY));
    // Of a lab whose impairments are not asked, the VM's own word counts.
    let rules = vec![rule(0, Direction::In, profile)];
    lab.carry_out(Command::Impair(rules)).unwrap();
    ping(&mut lab, Pacing::Interval(MS), 100);
    let recorder = lab.hypervisor().recorder();
    let is_reply = |(row, _): (&Attribution, u64)| {
        row.way == Way::Reply && matches!(row.why, Some(Why::Impairment(_)))
    };
    assert!(recorder.losses().rows().all(is_reply));
}

#[test]
fn a_ping_whose_frame_is_held_longer_than_its_timeout_is_put_down_to_the_delay_until_it_is_late() {
    let delayed = Profile {
        delay: Some(Delay::constant(5_000 * MS)),
        ..Profile::default()
    };
    for (direction, way) in [(Direction::In, Way::Request), (Direction::Out, Way::Reply)] {
        let mut lab = pair(Switch::new(WIRE_DELAY));
        let rules = vec![rule(1, direction, delayed)];
        lab.carry_out(Command::Impair(rules)).unwrap();
        flow(&mut lab, 0, 1);
        let load = phase("", 1, Pacing::Interval(10 * MS), Some(20), None);
        carry(&mut lab, vec![load]);
        let recorder = lab.hypervisor().recorder();
        let at = (Cause::Impaired, way, Place::Vm(VmId(1)), 20);
        assert_eq!(rows(recorder), [at]);
        is_whole(recorder);
    }
}

#[test]
fn a_switch_tells_of_links_that_are_down_and_of_frames_that_would_go_back() {
    for (is_down, expected) in [
        (true, (Cause::Absent, Way::Request, Place::Vm(VmId(1)), 10)),
        (false, (Cause::InBridge, Way::Reply, Place::Vm(VmId(1)), 10)),
    ] {
        let mut lab = pair(Switch::new(WIRE_DELAY));
        flow(&mut lab, 0, 1);
        let mac = config(&lab, 0).mac;
        if is_down {
            let Ok(()) = lab.hypervisor().fabric().set_link(VmId(1), false);
        }
        let load = phase("", 1, Pacing::Interval(10 * MS), Some(10), None);
        lab.hypervisor().start(Instant::ZERO, vec![load]);
        let mut now = Instant::ZERO;
        for number in 1..=10 {
            // A frame of vm0's comes back by vm1's port after each request.
            now = run(lab.hypervisor(), now, now + WIRE_DELAY / 2);
            if !is_down {
                let frame = [&[2, 9, 9, 9, 9, 9][..], &mac.0, &[0x88, 0xb5], &[0; 46]].concat();
                lab.hypervisor().fabric().write(now, VmId(1), &frame);
            }
            let next = Instant::ZERO + number * 10 * MS;
            now = run(lab.hypervisor(), now, next);
        }
        run(lab.hypervisor(), now, END);
        let recorder = lab.hypervisor().recorder();
        assert_eq!(rows(recorder), [expected]);
        is_whole(recorder);
    }
}

#[test]
fn a_ping_of_which_an_impairment_drops_any_fragment_is_put_down_to_that() {
    for (family, direction, part) in [
        ("", "in", Way::Request),
        ("", "out", Way::Reply),
        ("ipv6 = true\nping-ipv6 = true\n", "in", Way::Request),
    ] {
        // Three fragments a ping: each seventh is lost, whichever of them it is.
        let text = format!(
            "fabric = 'sim'\nvms = 2\nping = 'vm0:vm1'\ninterval = '1ms'\ncount = 70\ntimeout = '20ms'\nresolve = 'static'\n\
             size = 4000\nallow-fragmentation = true\nimpair = 'vm1:{direction}:every=7'\n{family}"
        );
        let plan = experiment::plan(&Scenario::parse("t.toml", &text).unwrap()).unwrap();
        let mut lab = SimulatedLab::on_switch(plan).unwrap();
        lab.populate(&mut ()).unwrap();
        lab.run(&mut ());
        let recorder = lab.hypervisor().recorder();
        let failed = recorder.totals().failed();
        assert!(failed >= 29, "{failed}");
        let expected = (Cause::Impaired, part, Place::Vm(VmId(1)), failed);
        assert_eq!(rows(recorder), [expected], "{family} {direction}");
        is_whole(recorder);
    }
}
