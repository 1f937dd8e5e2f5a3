//! Known truth: what was put in comes out of the report, exactly.

use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::fabric::{Impairment, Instrument, Observed, Rate, WriteDrop};

/// Pings from vm0 to vm1 with one rule.
struct Trial {
    direction: Direction,
    profile: Profile,
}

/// One rule, for what vm1 sends.
fn outwards(profile: Profile) -> [Trial; 1] {
    [Trial {
        direction: Direction::Out,
        profile,
    }]
}

/// 98 bytes of a ping take 784 µs of it.
const ONE_MEGABIT: Option<Rate> = Some(Rate {
    bits_per_second: 1_000_000,
    queue: 10,
});

/// Runs `pings` pings, one every `interval`. Static neighbours: there are no other frames.
fn trial(trials: &[Trial], interval: Duration, pings: u64) -> Lab {
    let mut lab = new_lab(2, WIRE_DELAY);
    for (vm, neighbour) in [(0, 1), (1, 0)] {
        let VmConfig { mac, .. } = config(&lab, neighbour);
        let address = lab.plan().vms[neighbour as usize].address;
        lab.hypervisor()
            .tell_neighbour(VmId(vm), address.into(), mac);
    }
    let rules = trials.iter().map(|trial| Rule {
        words: String::new(),
        vms: 1..=1,
        direction: trial.direction,
        to: None,
        profile: trial.profile,
    });
    let rules = rules.collect();
    lab.carry_out(Command::Impair(rules)).unwrap();
    flow(&mut lab, 0, 1);
    carry(
        &mut lab,
        vec![phase("", 1, Pacing::Interval(interval), Some(pings), None)],
    );
    lab
}

fn frames(lab: &mut Lab, direction: Direction, kind: Impairment) -> u64 {
    let counts = lab.hypervisor().fabric().impairments();
    let mut rows = counts.iter();
    let row = rows.find(|row| (row.vm, row.direction, row.kind) == (VmId(1), direction, kind));
    row.map_or(0, |row| row.frames)
}

#[test]
fn every_ping_that_is_lost_is_one_that_was_impaired() {
    let lossy = [
        Loss::Random(0.03),
        Loss::Every(7),
        Loss::GilbertElliott {
            to_bad: 0.01,
            to_good: 0.2,
            bad_loss: 0.9,
            good_loss: 0.01,
        },
    ];
    for loss in lossy {
        for direction in [Direction::Out, Direction::In] {
            let profile = Profile {
                loss,
                corrupt: 0.02,
                ..Profile::default()
            };
            let mut lab = trial(&[Trial { direction, profile }], MS, 10_000);
            let totals = lab.hypervisor().recorder().totals();
            let lost = frames(&mut lab, direction, Impairment::Lost);
            let corrupted = frames(&mut lab, direction, Impairment::Corrupted);
            assert!(lost > 100 && corrupted > 100, "{loss:?} {lost} {corrupted}");
            // A frame with a wrong bit fails a checksum.
            assert_eq!(totals.lost, lost + corrupted, "{loss:?} {direction:?}");
            assert_eq!(totals.received + totals.lost, totals.sent);
            if let Loss::Every(count) = loss {
                assert_eq!(lost, 10_000 / u64::from(count));
            }
        }
    }
}

#[test]
fn what_is_done_to_the_frames_of_a_warm_up_is_not_counted_as_its_pings_are_not() {
    // Pings of a phase are still on their way when the next one begins.
    for (delay, direction, loss) in [
        (None, Direction::Out, Loss::Every(10)),
        (None, Direction::In, Loss::Every(7)),
        (Some(MS * 45), Direction::Out, Loss::Random(0.3)),
        (Some(MS * 45), Direction::In, Loss::Random(0.3)),
    ] {
        let mut lab = new_lab(2, WIRE_DELAY);
        for (vm, neighbour) in [(0, 1), (1, 0)] {
            let VmConfig { mac, .. } = config(&lab, neighbour);
            let address = lab.plan().vms[neighbour as usize].address;
            lab.hypervisor()
                .tell_neighbour(VmId(vm), address.into(), mac);
        }
        let rule = |vm, direction, delay: Option<Duration>, loss| Rule {
            words: String::new(),
            vms: vm..=vm,
            direction,
            to: None,
            profile: Profile {
                delay: delay.map(Delay::constant),
                loss,
                ..Profile::default()
            },
        };
        let rules = vec![
            rule(0, Direction::Out, delay, Loss::None),
            rule(1, direction, delay, loss),
        ];
        lab.carry_out(Command::Impair(rules)).unwrap();
        flow(&mut lab, 0, 1);
        let duration = Some(500 * MS);
        let phases = ["a", "warm-up", "b"];
        let phases = phases.map(|name| phase(name, 1, Pacing::Interval(MS), None, duration));
        carry(&mut lab, phases.into());
        let totals = lab.hypervisor().recorder().totals();
        let lost = frames(&mut lab, direction, Impairment::Lost);
        assert_eq!(totals.sent, 1_000);
        assert!(lost > 20, "{direction:?} {lost}");
        assert_eq!(
            totals.sent,
            totals.received + lost,
            "{direction:?} {delay:?}"
        );
        let delayed = delay.map_or(0, |_| totals.sent - lost);
        assert_eq!(frames(&mut lab, direction, Impairment::Delayed), delayed);
    }
}

#[test]
fn an_rtt_is_the_delay_that_was_injected_and_what_the_path_takes_without() {
    let delay = |base: Duration, jitter: Duration| Profile {
        delay: Some(Delay {
            jitter,
            ..Delay::constant(base)
        }),
        ..Profile::default()
    };
    let path = 2 * WIRE_DELAY;
    for (out, arriving, least, most) in [
        (5 * MS, Duration::ZERO, 5 * MS, 5 * MS),
        (5 * MS, 2 * MS, 7 * MS, 7 * MS),
        (Duration::ZERO, 3 * MS, 3 * MS, 3 * MS),
    ] {
        let trials = [
            Trial {
                direction: Direction::Out,
                profile: delay(out, Duration::ZERO),
            },
            Trial {
                direction: Direction::In,
                profile: delay(arriving, Duration::ZERO),
            },
        ];
        let mut lab = trial(&trials, 10 * MS, 100);
        let rtt = lab.hypervisor().recorder().run().rtt().summary();
        let nanos = |time: Duration| Some((time + path).as_nanos() as u64);
        // HDR histograms keep three digits.
        let is_about = |found: Option<u64>, truth: Option<u64>| {
            found
                .zip(truth)
                .is_some_and(|(found, truth)| within(found, truth, 0.001))
        };
        assert!(is_about(rtt.min, nanos(least)), "{rtt:?}");
        assert!(is_about(rtt.max, nanos(most)), "{rtt:?}");
        let release = lab.hypervisor().recorder().latency(Metric::Release);
        assert_eq!(release.summary().max, Some(0), "time is virtual");
    }
    let mut lab = trial(&outwards(delay(5 * MS, MS)), 10 * MS, 5_000);
    let rtt = lab.hypervisor().recorder().run().rtt().summary();
    let expected = (5 * MS + path).as_nanos() as u64;
    assert!(within(rtt.mean.unwrap(), expected, 0.01), "{rtt:?}");
    assert!(rtt.min >= Some(4_000_000) && rtt.max <= Some(6_030_000));
}

#[test]
fn a_rate_gives_that_rate_and_its_queue_the_drops_that_arithmetic_says() {
    let profile = Profile {
        rate: ONE_MEGABIT,
        ..Profile::default()
    };
    let (pings, interval) = (10_000u64, 100);
    let mut lab = trial(&outwards(profile), Duration::from_micros(interval), pings);
    let totals = lab.hypervisor().recorder().totals();
    // The link sends without a break: in the time of all pings, and then what the queue holds.
    let sent = (pings - 1) * interval / 784 + 10;
    assert!(
        totals.received.abs_diff(sent) <= 1,
        "{totals:?}, {sent} expected"
    );
    let dropped = frames(&mut lab, Direction::Out, Impairment::QueueFull);
    assert_eq!(totals.received + dropped, pings);
    assert_eq!(totals.lost, dropped);
    let rtt = lab.hypervisor().recorder().run().rtt().summary();
    let longest = 10 * 784_000 + 20_000;
    assert!(rtt.max.unwrap() <= longest + longest / 1000, "{rtt:?}");
    assert!(rtt.p50.unwrap() > longest * 9 / 10, "{rtt:?}");
}

#[test]
fn a_second_copy_that_finds_no_room_is_neither_a_duplicate_nor_a_drop() {
    let profile = Profile {
        duplicate: 1.0,
        rate: ONE_MEGABIT,
        ..Profile::default()
    };
    let mut lab = trial(&outwards(profile), Duration::from_millis(1), 1000);
    let totals = lab.hypervisor().recorder().totals();
    assert_eq!((totals.sent, totals.received), (1000, 1000));
    assert_eq!(frames(&mut lab, Direction::Out, Impairment::QueueFull), 0);
    let duplicated = frames(&mut lab, Direction::Out, Impairment::Duplicated);
    // The run ends with the last reply, maybe before its duplicate is released.
    let unreleased = frames(&mut lab, Direction::Out, Impairment::Unreleased);
    assert!((200..400).contains(&duplicated), "{duplicated}");
    assert_eq!(duplicated, totals.duplicate + unreleased);
}

#[test]
fn duplicates_and_what_overtakes_are_counted_by_both_sides_alike() {
    let profile = Profile {
        duplicate: 0.1,
        ..Profile::default()
    };
    for direction in [Direction::Out, Direction::In] {
        let mut lab = trial(&[Trial { direction, profile }], MS, 5_000);
        let totals = lab.hypervisor().recorder().totals();
        let doubled = frames(&mut lab, direction, Impairment::Duplicated);
        assert!(doubled > 400);
        assert_eq!(
            (totals.received, totals.duplicate),
            (5_000, doubled),
            "{direction:?}"
        );
    }
    // A frame counts once for each kind, however many copies of it there are.
    let profile = Profile {
        delay: Some(Delay::constant(5 * MS)),
        duplicate: 1.0,
        ..Profile::default()
    };
    for direction in [Direction::Out, Direction::In] {
        let mut lab = trial(&[Trial { direction, profile }], MS, 1_000);
        for kind in [Impairment::Duplicated, Impairment::Delayed] {
            assert_eq!(frames(&mut lab, direction, kind), 1_000, "{kind:?}");
        }
    }
    // What is not held overtakes the one before it, which is held for one and a half intervals.
    let profile = Profile {
        delay: Some(Delay::constant(MS * 3 / 2)),
        reorder: 0.1,
        ..Profile::default()
    };
    let direction = Direction::Out;
    let mut lab = trial(&[Trial { direction, profile }], MS, 5_000);
    let totals = lab.hypervisor().recorder().totals();
    let reordered = frames(&mut lab, direction, Impairment::Reordered);
    let delayed = frames(&mut lab, direction, Impairment::Delayed);
    assert_eq!(reordered + delayed, 5_000);
    // Not where the one before was not held either.
    assert!(totals.reordered <= reordered && totals.reordered > reordered * 8 / 10);
    assert_eq!(totals.received, 5_000);
}

#[test]
fn the_last_rule_that_fits_is_applied_and_others_pass_unharmed() {
    let rule = |vms, to, share| Rule {
        words: String::new(),
        vms,
        direction: Direction::Out,
        to,
        profile: losing(share),
    };
    let mut lab = new_lab(4, WIRE_DELAY);
    let mac = config(&lab, 2).mac;
    let rules = vec![
        rule(0..=9, None, 1.0),
        rule(1..=3, None, 0.0),
        rule(0..=0, Some(vec![mac]), 0.0),
    ];
    lab.carry_out(Command::Impair(rules)).unwrap();
    for (vm, neighbour) in [(0, 1), (0, 2), (1, 0), (2, 0), (3, 1), (1, 3)] {
        let VmConfig { mac, .. } = config(&lab, neighbour);
        let address = lab.plan().vms[neighbour as usize].address;
        lab.hypervisor()
            .tell_neighbour(VmId(vm), address.into(), mac);
    }
    flow(&mut lab, 0, 1);
    flow(&mut lab, 0, 2);
    flow(&mut lab, 3, 1);
    carry(
        &mut lab,
        vec![phase("", 3, Pacing::Interval(MS), Some(50), None)],
    );
    let flows = lab.hypervisor().recorder().flows();
    let received: Vec<u64> = flows.iter().map(|flow| flow.totals().received).collect();
    assert_eq!(received, [0, 50, 50]);
}

#[test]
fn a_phase_may_have_other_impairments_and_links_that_stay_go_on_as_they_were() {
    let rules = |loss| {
        let profile = Profile {
            loss,
            ..Profile::default()
        };
        Some(vec![Rule {
            words: String::new(),
            vms: 0..=0,
            direction: Direction::Out,
            to: None,
            profile,
        }])
    };
    let mut lab = new_lab(2, WIRE_DELAY);
    flow(&mut lab, 0, 1);
    let mut phases: Vec<Phase> = ["a", "b", "c", "d"]
        .map(|name| phase(name, 1, Pacing::Interval(MS), Some(8), None))
        .into();
    phases[1].impairments = rules(Loss::Every(5));
    phases[2].impairments = rules(Loss::Every(5));
    phases[3].impairments = Some(Vec::new());
    carry(&mut lab, phases);
    let phases = lab.hypervisor().recorder().phases();
    let lost: Vec<u64> = phases.iter().map(|phase| phase.totals().lost).collect();
    // The fifth, and the tenth and the fifteenth.
    assert_eq!(lost, [0, 1, 2, 0]);
}

#[test]
fn what_is_held_for_a_vm_that_stops_or_beyond_the_end_is_counted_as_never_released() {
    let mut lab = impaired_lab(
        3,
        Profile {
            delay: Some(Delay::constant(100 * MS)),
            ..Profile::default()
        },
    );
    flow(&mut lab, 0, 1);
    let only = phase("", 1, Pacing::Interval(MS), None, Some(200 * MS));
    lab.hypervisor().start(Instant::ZERO, vec![only]);
    let at = Instant::ZERO + 250 * MS;
    run(lab.hypervisor(), Instant::ZERO, at);
    lab.hypervisor()
        .carry_out(at, Command::StopVms(vec![VmId(1)]))
        .unwrap();
    let kinds = |lab: &mut Lab, kind| {
        let rows = lab.hypervisor().fabric().impairments().into_iter();
        rows.filter(|row| row.kind == kind)
            .map(|row| (row.vm.0, row.frames))
            .collect::<Vec<_>>()
    };
    let of_vm1 = |rows: &[(u32, u64)]| rows.iter().find(|(vm, _)| *vm == 1).map(|(_, n)| *n);
    let at_removal = of_vm1(&kinds(&mut lab, Impairment::Unreleased));
    run(lab.hypervisor(), at, at + 200 * MS);
    let delayed = kinds(&mut lab, Impairment::Delayed);
    let unreleased = kinds(&mut lab, Impairment::Unreleased);
    let released = lab
        .hypervisor()
        .recorder()
        .latency(Metric::Release)
        .summary()
        .count;
    let sum = |rows: &[(u32, u64)]| rows.iter().map(|(_, frames)| frames).sum::<u64>();
    assert!(at_removal > Some(10), "{at_removal:?}");
    assert_eq!(of_vm1(&unreleased), at_removal);
    assert_eq!(sum(&delayed), released + sum(&unreleased));
}

/// Tells of frames that were refused.
#[derive(Debug)]
struct Refusals(Sender<(Instant, VmId, WriteDrop)>);

impl Instrument for Refusals {
    fn frame(&mut self, now: Instant, observed: &Observed<'_>) {
        if let Some(why) = observed.refused {
            self.0.send((now, observed.vm, why)).unwrap();
        }
    }
}

#[test]
fn a_frame_that_was_held_and_is_refused_then_is_shown_as_that() {
    let mut lab = impaired_lab(
        2,
        Profile {
            delay: Some(Delay::constant(100 * MS)),
            ..Profile::default()
        },
    );
    let (refusals, told) = channel();
    let observe = Command::Observe(Box::new(Refusals(refusals)));
    lab.hypervisor().carry_out(Instant::ZERO, observe).unwrap();
    flow(&mut lab, 0, 1);
    let only = phase("", 1, Pacing::Interval(MS), Some(1), None);
    lab.hypervisor().start(Instant::ZERO, vec![only]);
    let now = run(lab.hypervisor(), Instant::ZERO, Instant::ZERO + 50 * MS);
    let Ok(()) = lab.hypervisor().fabric().set_link(VmId(0), false);
    run(lab.hypervisor(), now, END);
    let told: Vec<_> = told.try_iter().collect();
    let (_, vm, why) = told[0];
    assert_eq!((vm, why), (VmId(0), WriteDrop::LinkDown), "{told:?}");
    assert!(told[0].0 >= Instant::ZERO + 100 * MS, "{told:?}");
}

#[test]
fn rules_that_were_taken_away_cost_nothing_once_no_frame_is_held() {
    let mut lab = new_lab(2, WIRE_DELAY);
    flow(&mut lab, 0, 1);
    let delayed = Profile {
        delay: Some(Delay::constant(MS * 5)),
        ..Profile::default()
    };
    impair(&mut lab, delayed);
    let only = phase("", 1, Pacing::Interval(MS), None, Some(MS * 100));
    lab.hypervisor().start(Instant::ZERO, vec![only]);
    let is_watched_at = |millis: u32, lab: &mut Lab| {
        lab.drive(Some(Instant::ZERO + MS * millis)).unwrap();
        lab.hypervisor().fabric().is_watched()
    };
    assert!(is_watched_at(20, &mut lab));
    lab.carry_out(Command::Impair(Vec::new())).unwrap();
    assert!(is_watched_at(21, &mut lab), "frames are held");
    assert!(!is_watched_at(50, &mut lab));
    assert_eq!(lab.hypervisor().recorder().totals().failed(), 0);
}
