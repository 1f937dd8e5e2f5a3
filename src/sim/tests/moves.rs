//! Moves in virtual time, where an outage comes out exactly.

use super::*;
use crate::fabric::{KernelName, Place, SplitPings};
use crate::hypervisor::{PlannedMisbehaviour, PlannedMove, Relocation};
use crate::load::FlowId;
use crate::record::{EndedBy, Move};
use crate::vm::{Announcement, Misbehaviour, RxFilter};

/// A lab of two VMs, of which the first pings the second, and the second may ping the first, once in `interval`.
fn pinging(interval: Duration, both_ways: bool) -> (Lab, Phase) {
    let mut lab = new_lab(2, MS / 10);
    flow(&mut lab, 0, 1);
    if both_ways {
        flow(&mut lab, 1, 0);
    }
    let flows = 1 + u32::from(both_ways);
    let pacing = Pacing::Interval(interval);
    let mut only = phase("", flows, pacing, None, Some(MS * 100));
    // Both at once, so that each is due at whole intervals.
    only.load.start = crate::load::Start::Within(Duration::ZERO);
    (lab, only)
}

fn planned(after: Duration, relocation: Relocation) -> PlannedMove {
    PlannedMove {
        after,
        vm: VmId(1),
        relocation,
    }
}

fn silent() -> Relocation {
    Relocation {
        announcement: Announcement::None,
        ..Relocation::to(Place::Leaf(1))
    }
}

/// Impairs what the VM that moves sends.
fn of_moving(profile: Profile) -> Rule {
    Rule {
        words: String::new(),
        vms: 1..=1,
        direction: Direction::Out,
        to: None,
        profile,
    }
}

fn moves(lab: &mut Lab) -> Vec<Move> {
    lab.hypervisor().look_at_moves(Instant::ZERO);
    let moves = lab.hypervisor().recorder().moves();
    moves.map_or_else(Vec::new, |moves| moves.all().to_vec())
}

#[test]
fn an_outage_that_is_injected_comes_out_exactly() {
    // In microseconds: the interval of pings, when the VM moves and for how long its port carries nothing; and then the
    // gap and the pings that are lost in it. A ping is answered 200 µs after it was due.
    for (interval, at, outage, gap, lost) in [
        (1_000, 20_500, 3_000, 4_000, 3),
        // The ping due at 21 ms is under way when the port goes, and that due at 22 ms is sent to where the VM was.
        (1_000, 21_050, 1_000, 3_000, 2),
        (1_000, 20_500, 0, 1_000, 0),
        // Beside the outage there is what a request takes to get there. Those are lost that are sent in the outage, and those
        // that are on their way when it begins.
        (100, 20_000, 3_000, 3_100, 30),
        (10, 20_000, 3_000, 3_100, 309),
        (10, 20_000, 280, 380, 37),
    ] {
        let micros = Duration::from_micros;
        let (mut lab, mut only) = pinging(micros(interval), false);
        let relocation = Relocation {
            outage: micros(outage),
            ..Relocation::to(Place::Leaf(1))
        };
        only.moves = vec![planned(micros(at), relocation)];
        carry(&mut lab, vec![only]);
        let moves = moves(&mut lab);
        let [made] = moves.as_slice() else {
            panic!("one move: {moves:?}");
        };
        let [figures] = made.gaps.as_slice() else {
            panic!("one peer: {made:?}");
        };
        let case = format!("every {interval} µs, at {at} µs for {outage} µs");
        assert_eq!(figures.nanos(), Some(gap * 1_000), "{case}");
        assert_eq!((figures.lost, figures.late), (lost, 0), "{case}");
        assert_eq!(made.ended_by(figures), EndedBy::FdbByAnnouncement, "{case}");
        let ready = Instant::ZERO + micros(at + outage);
        assert_eq!(
            (made.ready, made.seen.announced),
            (Some(ready), Some(ready)),
            "{case}"
        );
        let histogram = lab.hypervisor().recorder().latency(Metric::Outage);
        assert_eq!(histogram.moments().max(), Some(gap * 1_000), "{case}");
    }
}

#[test]
fn a_vm_that_moves_silently_is_gone_until_it_speaks() {
    for both_ways in [false, true] {
        let (mut lab, mut only) = pinging(MS, both_ways);
        only.moves = vec![planned(MS * 20 + MS / 2, silent())];
        carry(&mut lab, vec![only]);
        let moves = moves(&mut lab);
        let ends: Vec<EndedBy> = moves[0]
            .gaps
            .iter()
            .map(|gap| moves[0].ended_by(gap))
            .collect();
        match both_ways {
            false => assert_eq!(ends, [EndedBy::NotEnded]),
            true => assert_eq!(ends, [EndedBy::FdbByOwnFrame; 2]),
        }
    }
}

#[test]
fn an_announcement_is_written_and_learned_from_when_it_gets_to_the_port_if_ever() {
    let impaired = |delay: Option<Duration>, lost: bool| {
        vec![of_moving(Profile {
            delay: delay.map(Delay::constant),
            loss: match lost {
                true => Loss::Random(1.0),
                false => Profile::default().loss,
            },
            ..Profile::default()
        })]
    };
    let silent = |lasts| PlannedMisbehaviour {
        after: MS * 20,
        vm: VmId(1),
        misbehaviour: Misbehaviour::Silent,
        lasts: Some(lasts),
    };
    let (delayed, lost) = (impaired(Some(MS * 5), false), impaired(None, true));
    let by_announcement = EndedBy::FdbByAnnouncement;
    let micros = Duration::from_micros;
    // The interval of pings, and when the VM moves; then how long after that it is announced, and known, in microseconds.
    for (interval, at, impairments, silence, announced, learned, ended_by) in [
        (1, 20_500, vec![], None, Some(0), Some(0), by_announcement),
        // Pings of its own from before the move are written behind it, and before the announcement.
        (
            1,
            20_500,
            delayed.clone(),
            None,
            Some(5_000),
            Some(500),
            EndedBy::FdbByOwnFrame,
        ),
        // Nothing is held but the announcement.
        (
            8,
            22_500,
            delayed,
            None,
            Some(5_000),
            Some(5_000),
            by_announcement,
        ),
        (1, 20_500, lost, None, None, None, EndedBy::NotEnded),
        // It is heard of again by its first ping behind the silence.
        (
            1,
            20_500,
            vec![],
            Some(MS * 10 + MS / 2),
            None,
            Some(10_500),
            EndedBy::FdbByOwnFrame,
        ),
    ] {
        let (mut lab, mut only) = pinging(MS * interval, true);
        only.moves = vec![planned(micros(at), Relocation::to(Place::Leaf(1)))];
        only.misbehaviours = silence.map(silent).into_iter().collect();
        only.impairments = Some(impairments.clone());
        carry(&mut lab, vec![only]);
        let moves = moves(&mut lab);
        let case = format!("{impairments:?} {silence:?}: {moves:?}");
        let after = |micros: Option<u64>| {
            micros.map(|micros| moves[0].began + Duration::from_micros(micros))
        };
        assert_eq!(moves[0].seen.announced, after(announced), "{case}");
        assert_eq!(moves[0].learned, after(learned), "{case}");
        for gap in &moves[0].gaps {
            assert_eq!(moves[0].ended_by(gap), ended_by, "{case}");
        }
    }
}

#[test]
fn moves_to_another_port_are_made_as_often_as_they_are_repeated() {
    let (mut lab, mut only) = pinging(MS, false);
    let relocation = Relocation {
        repeat: 3,
        every: MS * 20,
        ..Relocation::to(Place::Port)
    };
    only.moves = vec![planned(MS * 10, relocation)];
    carry(&mut lab, vec![only]);
    let told: Vec<_> = moves(&mut lab)
        .into_iter()
        .map(|made| (made.from, made.to))
        .collect();
    assert_eq!(told, vec![("leaf0".to_owned(), "leaf0".to_owned()); 3]);
    assert_eq!(lab.hypervisor().refused_moves(), None);
}

#[test]
fn moves_to_and_fro_are_measured_each_and_their_announcements_counted() {
    let (mut lab, mut only) = pinging(MS, false);
    let relocation = Relocation {
        repeat: 4,
        every: MS * 20,
        count: 3,
        interval: MS * 2,
        outage: MS,
        ..Relocation::to(Place::Leaf(1))
    };
    only.moves = vec![planned(MS * 10 + MS / 2, relocation)];
    carry(&mut lab, vec![only]);
    let told: Vec<_> = moves(&mut lab)
        .iter()
        .map(|made| (made.from.clone(), made.to.clone(), made.gaps[0].nanos()))
        .collect();
    let there = ("leaf0".to_owned(), "leaf1".to_owned(), Some(2_000_000));
    let back = ("leaf1".to_owned(), "leaf0".to_owned(), Some(2_000_000));
    assert_eq!(told, [there.clone(), back.clone(), there, back]);
    let histogram = lab.hypervisor().recorder().latency(Metric::Outage);
    assert_eq!(histogram.summary().count, 4);
}

#[test]
fn what_can_not_be_moved_is_refused_and_the_run_goes_on() {
    let (mut lab, mut only) = pinging(MS, false);
    let back = Relocation::to(Place::Back);
    let stranger = PlannedMove {
        vm: VmId(7),
        ..planned(MS * 10, silent())
    };
    only.moves = vec![planned(MS * 5, back), stranger];
    carry(&mut lab, vec![only]);
    assert_eq!(moves(&mut lab), []);
    let refused = lab.hypervisor().refused_moves().expect("two of them");
    assert_eq!((refused.first, refused.count), (VmId(1), 2));
    assert_eq!(
        refused.why,
        "vm1 was not moved yet; expected a place to go to"
    );
    assert_eq!(lab.hypervisor().recorder().totals().failed(), 0);
}

#[test]
fn a_move_to_where_frames_are_not_stamped_is_refused_until_pings_were_followed() {
    let (mut lab, mut only) = pinging(MS, false);
    let away = Relocation::to(Place::Namespace("beside".to_owned()));
    only.moves = vec![planned(MS * 5, away)];
    let followed = Phase {
        splits: Some(SplitPings::Unstamped),
        ..phase("", 1, Pacing::Window(1), Some(1), None)
    };
    carry(&mut lab, vec![only, followed]);
    let refused = lab.hypervisor().refused_moves().expect("one of them");
    let said = "vm1 can't move to netns:beside before pings have been followed (--path-split)";
    assert!(refused.why.starts_with(said), "{}", refused.why);
}

#[test]
fn pings_that_are_lost_belong_to_the_move_before_them() {
    // A timeout is longer than the time between moves, and so is an outage: no gap but the last one ends.
    let (mut lab, mut only) = pinging(MS, true);
    let relocation = Relocation {
        repeat: 3,
        every: MS * 5,
        outage: MS * 10,
        ..Relocation::to(Place::Leaf(1))
    };
    only.moves = vec![planned(MS * 20 + MS / 2, relocation)];
    carry(&mut lab, vec![only]);
    let lost: Vec<Vec<u64>> = moves(&mut lab)
        .iter()
        .map(|made| made.gaps.iter().map(|gap| gap.lost).collect())
        .collect();
    assert_eq!(lost, [[5, 5], [5, 5], [10, 10]]);
}

#[test]
fn every_ping_that_a_move_costs_is_told_whatever_delays_replies() {
    for (delay, outage) in [(0, 1_000), (2_000, 1_000), (5_000, 1_000), (3_000, 8_000)] {
        let micros = Duration::from_micros;
        let (mut lab, mut only) = pinging(MS, false);
        let rule = of_moving(Profile {
            delay: Some(Delay::constant(micros(delay))),
            ..Profile::default()
        });
        lab.carry_out(Command::Impair(vec![rule])).unwrap();
        let relocation = Relocation {
            outage: micros(outage),
            ..Relocation::to(Place::Leaf(1))
        };
        only.moves = vec![planned(micros(20_500), relocation)];
        carry(&mut lab, vec![only]);
        let moves = moves(&mut lab);
        let failed = lab.hypervisor().recorder().totals().failed();
        let case = format!("replies held for {delay} µs, an outage of {outage} µs");
        assert!(failed > 0, "{case}");
        assert_eq!(moves[0].gaps[0].lost, failed, "{case}");
    }
}

#[test]
fn a_frame_that_a_vm_sends_while_its_port_carries_nothing_is_dropped_with_a_reason() {
    let mut switch = Switch::new(MS);
    let filter = RxFilter {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        addresses: Vec::new(),
        groups: Vec::new(),
        is_promiscuous: false,
    };
    switch.plug(VmId(0), &filter).unwrap();
    switch.watch_drops().unwrap();
    let now = Instant::ZERO;
    switch
        .relocate(now, VmId(0), &Place::Leaf(1), &filter, MS)
        .unwrap();
    switch.write(now, VmId(0), &[0xff; 60]);
    let dropped = switch.frame_drops().drops;
    let reasons: Vec<KernelName> = dropped.iter().map(|drop| drop.reason).collect();
    assert_eq!(reasons, [KernelName::new("MOVING")]);
}

#[test]
fn a_frame_for_a_vm_that_has_moved_and_is_silent_is_dropped_at_the_port_that_it_has_left() {
    let mut switch = Switch::new(MS);
    let filter = |vm| RxFilter {
        mac: MacAddr([2, 0, 0, 0, 0, vm]),
        addresses: Vec::new(),
        groups: Vec::new(),
        is_promiscuous: false,
    };
    for vm in 0..2 {
        switch.plug(VmId(vm.into()), &filter(vm)).unwrap();
    }
    switch.watch_drops().unwrap();
    let frame = |to: MacAddr, from: MacAddr| [&to.0[..], &from.0, &[8, 0], &[0; 46]].concat();
    let [own, other] = [0, 1].map(|vm| filter(vm).mac);
    switch.write(Instant::ZERO, VmId(0), &frame(other, own));
    switch
        .relocate(Instant::ZERO, VmId(0), &Place::Leaf(1), &filter(0), MS)
        .unwrap();
    for at in [Instant::ZERO, Instant::ZERO + MS] {
        switch.write(at, VmId(1), &frame(own, other));
    }
    let dropped = switch.frame_drops().drops;
    let reasons: Vec<&str> = dropped.iter().map(|drop| drop.reason.as_str()).collect();
    assert_eq!(reasons, ["MOVING", "LEFT_PORT"]);
}

#[test]
fn a_move_has_a_gap_for_each_flow_that_pings_then() {
    let mut lab = new_lab(2, MS / 10);
    flow(&mut lab, 0, 1);
    flow(&mut lab, 1, 0);
    let pacing = Pacing::Interval(MS);
    let mut first = phase("", 1, pacing, None, Some(MS * 10));
    first.moves = vec![planned(MS * 5, Relocation::to(Place::Leaf(1)))];
    let second = phase("", 2, pacing, None, Some(MS * 10));
    carry(&mut lab, vec![first, second]);
    let moves = moves(&mut lab);
    let flows: Vec<FlowId> = moves[0].gaps.iter().map(|gap| gap.flow).collect();
    assert_eq!(flows, [FlowId(0)]);
}

#[test]
fn frames_for_a_vm_that_has_moved_find_it_at_once_where_the_table_is_filled() {
    for is_told in [true, false] {
        let mut switch = match is_told {
            true => Switch::new(MS).with_filled_table(),
            false => Switch::new(MS),
        };
        let filter = |vm| RxFilter {
            mac: MacAddr([2, 0, 0, 0, 0, vm]),
            addresses: Vec::new(),
            groups: Vec::new(),
            is_promiscuous: false,
        };
        for vm in [0, 1] {
            switch.plug(VmId(vm.into()), &filter(vm)).unwrap();
        }
        let now = Instant::ZERO;
        let moved = switch.relocate(now, VmId(1), &Place::Leaf(1), &filter(1), Duration::ZERO);
        assert_eq!(moved.unwrap().is_introduced, is_told);
        let mut frame = [0; 60];
        frame[..6].copy_from_slice(&filter(1).mac.0);
        frame[6..12].copy_from_slice(&filter(0).mac.0);
        switch.write(now, VmId(0), &frame);
        let receiver = switch.next_receiver(now + MS);
        assert_eq!(receiver, is_told.then_some(VmId(1)));
    }
}
