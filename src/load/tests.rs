//! Schedules in virtual time.

use super::*;

pub(super) const fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000)
}

pub(super) const MS: Duration = Duration::from_millis(1);

/// A load with that many flows, all in one phase from time zero on.
pub(super) fn load(flows: u32, pacing: Pacing, count: Option<u64>) -> Load {
    let mut load = Load::new(1);
    for _ in 0..flows {
        load.add_flow();
    }
    load.begin(ms(0), &phase(flows, pacing, count));
    load
}

pub(super) fn phase(flows: u32, pacing: Pacing, count: Option<u64>) -> PhaseLoad {
    PhaseLoad {
        flows: (0..flows).into(),
        pacing,
        arrivals: Arrivals::Uniform,
        count,
        start: Start::Spread,
    }
}

pub(super) fn due(load: &mut Load, now: Instant) -> Vec<(u32, u64)> {
    std::iter::from_fn(|| load.next(now))
        .map(|d| (d.flow.0, d.due.as_nanos() / 1_000_000))
        .collect()
}

#[test]
fn due_times_of_a_paced_flow_do_not_drift_when_it_is_asked_late() {
    let mut load = load(1, Pacing::Interval(10 * MS), Some(5));
    assert_eq!(due(&mut load, ms(0)), [(0, 0)]);
    assert_eq!(load.next_at(), Some(ms(10)));
    assert_eq!(due(&mut load, ms(9)), []);
    assert_eq!(due(&mut load, ms(37)), [(0, 10), (0, 20), (0, 30)]);
    assert_eq!(load.next_at(), Some(ms(40)));
    assert_eq!(due(&mut load, ms(99)), [(0, 40)]);
    assert_eq!(load.next_at(), None);
}

#[test]
fn a_rate_is_spread_evenly_over_the_flows_in_turn_and_does_not_drift() {
    let mut load = load(3, Pacing::Rate(1_000.0), Some(2));
    assert_eq!(due(&mut load, ms(1)), [(0, 0), (1, 1)]);
    assert_eq!(load.next_at(), Some(ms(2)));
    assert_eq!(due(&mut load, ms(50)), [(2, 2), (0, 3), (1, 4), (2, 5)]);
    assert_eq!((load.next_at(), load.is_done()), (None, false));
    for id in [0, 1, 2, 0, 1, 2] {
        load.finished(ms(50), FlowId(id));
    }
    assert!(load.is_done());

    let mut load = self::load(1, Pacing::Rate(3.0), None);
    let last = std::iter::from_fn(|| load.next(ms(100_000_000)))
        .last()
        .unwrap();
    assert_eq!(
        last.due,
        ms(100_000_000),
        "300,000 thirds of a second later"
    );
}

#[test]
fn poisson_arrivals_have_the_mean_and_the_spread_of_an_exponential_distribution() {
    for pacing in [Pacing::Rate(1_000.0), Pacing::Interval(MS)] {
        let mut load = load(1, pacing, Some(20_000));
        let phase = PhaseLoad {
            arrivals: Arrivals::Poisson,
            ..phase(1, pacing, Some(20_000))
        };
        load.begin(ms(0), &phase);
        let times: Vec<f64> = std::iter::from_fn(|| load.next(ms(1_000_000)))
            .map(|due| due.due.as_nanos() as f64 / 1e6)
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.03, "{pacing:?}: mean {mean}");
        assert!(
            (variance.sqrt() - 1.0).abs() < 0.05,
            "{pacing:?}: {}",
            variance.sqrt()
        );
    }
}

#[test]
fn a_jittered_start_spreads_the_first_pings_and_keeps_the_interval() {
    let mut load = load(100, Pacing::Interval(10 * MS), Some(2));
    let spread = PhaseLoad {
        start: Start::Within(10 * MS),
        ..phase(100, Pacing::Interval(10 * MS), Some(2))
    };
    load.begin(ms(0), &spread);
    let mut first = [None; 100];
    let all = std::iter::from_fn(|| load.next(ms(1_000))).collect::<Vec<_>>();
    assert!(all.is_sorted_by_key(|due| due.due));
    for ping in all {
        match first[ping.flow.index()] {
            None => first[ping.flow.index()] = Some(ping.due),
            Some(first) => assert_eq!(ping.due - first, 10 * MS),
        }
    }
    let early = first.iter().flatten().filter(|at| **at < ms(5)).count();
    assert!(
        (30..70).contains(&early),
        "{early} of 100 start in the first half"
    );
}

#[test]
fn flows_that_share_an_interval_are_spread_evenly_over_it() {
    type Pings = [(u32, u64)];
    let cases: [(u32, Start, &Pings); 4] = [
        (1, Start::Spread, &[(0, 0), (0, 12), (0, 24)]),
        (
            3,
            Start::Spread,
            &[(0, 0), (1, 4), (2, 8), (0, 12), (1, 16), (2, 20), (0, 24)],
        ),
        (
            2,
            Start::Within(Duration::ZERO),
            &[(0, 0), (1, 0), (0, 12), (1, 12), (0, 24), (1, 24)],
        ),
        (
            5,
            Start::Spread,
            &[
                (0, 0),
                (1, 2),
                (2, 4),
                (3, 7),
                (4, 9),
                (0, 12),
                (1, 14),
                (2, 16),
                (3, 19),
                (4, 21),
                (0, 24),
            ],
        ),
    ];
    for (flows, start, expected) in cases {
        let mut load = load(flows, Pacing::Interval(12 * MS), None);
        let phase = PhaseLoad {
            start,
            ..phase(flows, Pacing::Interval(12 * MS), None)
        };
        load.begin(ms(0), &phase);
        assert_eq!(due(&mut load, ms(24)), expected, "{flows} flows, {start:?}");
    }
}

#[test]
fn poisson_flows_begin_at_random_as_they_go_on() {
    let (flows, mean) = (4_000, 10 * MS);
    let mut load = load(flows, Pacing::Interval(mean), None);
    let phase = PhaseLoad {
        arrivals: Arrivals::Poisson,
        ..phase(flows, Pacing::Interval(mean), None)
    };
    load.begin(ms(0), &phase);
    let (mut pings, mut begun) = ([0_u32; 3], vec![false; flows as usize]);
    let mut begun_by_mean = 0;
    while let Some(ping) = load.next(ms(29)) {
        let millis = ping.due.as_nanos() / 1_000_000;
        pings[(millis / 10) as usize] += 1;
        let is_first = !std::mem::replace(&mut begun[ping.flow.index()], true);
        begun_by_mean += u32::from(is_first && millis < 10);
    }
    // Each ten milliseconds have a ping a flow, give or take four deviations, the first as the others; the last lack one.
    for (at, pings) in pings.iter().enumerate() {
        let expected = if at < 2 { 4_000 } else { 3_600 };
        assert!(
            pings.abs_diff(expected) < 260,
            "after {at} intervals: {pings}"
        );
    }
    // 1 − 1/e of the flows have begun after one interval.
    assert!(begun_by_mean.abs_diff(2_528) < 130, "{begun_by_mean}");
}

#[test]
fn the_pings_of_a_phase_are_foreseen_as_they_are_handed_out() {
    let random = &mut fastrand::Rng::with_seed(5);
    for case in 0..2_000 {
        let flows = random.u32(1..9);
        let duration = random.u64(1..1_000);
        let pacing = match case % 2 {
            0 => Pacing::Interval(Duration::from_nanos(random.u64(1..2_000))),
            _ => Pacing::Rate(1e9 / random.u64(1..200) as f64),
        };
        let count = random.bool().then(|| random.u64(1..9));
        let start = match random.bool() {
            true => Start::Spread,
            false => Start::Within(Duration::ZERO),
        };
        let phase = PhaseLoad {
            start,
            ..phase(flows, pacing, count)
        };
        let mut load = load(flows, pacing, count);
        load.begin(ms(0), &phase);
        let foreseen = phase.pings_due(Some(Duration::from_nanos(duration)));
        let due = enumerated(&mut load, Instant::from_nanos(duration));
        assert_eq!(foreseen, Some(due), "{phase:?} for {duration} ns");
        assert_eq!(
            phase.pings_due(None),
            count.map(|count| count * u64::from(flows))
        );
    }
    let window = phase(3, Pacing::Window(2), None);
    assert_eq!(window.pings_due(Some(MS)), None);
    let late = PhaseLoad {
        start: Start::Within(100 * MS),
        ..phase(100, Pacing::Interval(10 * MS), None)
    };
    assert_eq!(
        late.pings_due(Some(5 * MS)),
        Some(5),
        "most begin after the end"
    );
    let one = PhaseLoad {
        flows: (0..1).into(),
        ..late
    };
    assert_eq!(one.pings_due(Some(5 * MS)), Some(0));
}

#[test]
fn a_window_opens_at_once_and_then_follows_the_replies() {
    let mut load = load(1, Pacing::Window(3), Some(5));
    let flow = FlowId(0);
    let more: Vec<bool> = std::iter::from_fn(|| load.next(ms(1)))
        .map(|d| d.more)
        .collect();
    assert_eq!(more, [true, true, false]);
    assert_eq!(load.next_at(), None);
    load.finished(ms(7), flow);
    assert_eq!(load.next_at(), Some(Instant::ZERO));
    load.finished(ms(8), flow);
    assert_eq!(due(&mut load, ms(9)), [(0, 7), (0, 8)]);
    load.finished(ms(10), flow);
    assert_eq!(due(&mut load, ms(10)), [], "the count is reached");
}

#[test]
fn a_ping_is_due_since_the_reply_that_opened_the_window_however_long_others_are_before_it() {
    for (flows, window) in [(1, 128), (3, 128), (100, 16)] {
        // Half of what is outstanding is answered before as much is sent: no window is ever used up.
        let mut load = load(flows, Pacing::Window(window), None);
        let all = flows * window;
        let mut outstanding: VecDeque<FlowId> = VecDeque::new();
        for turn in 0..20 {
            for _ in 0..all / 2 {
                let ping = load.next(ms(turn)).unwrap();
                let late = ms(turn).nanos_since(ping.due);
                assert!(late <= 2 * MS.as_nanos() as u64, "{flows} flows: {late} ns");
                outstanding.push_back(ping.flow);
            }
            for _ in 0..(all / 2).min(outstanding.len() as u32) {
                load.finished(ms(turn), outstanding.pop_front().unwrap());
            }
        }
    }
}

#[test]
fn pings_of_an_earlier_phase_fill_the_window_of_the_next() {
    let mut load = load(1, Pacing::Window(3), None);
    assert_eq!(due(&mut load, ms(0)).len(), 3);
    load.begin(ms(5), &phase(1, Pacing::Window(4), Some(10)));
    assert_eq!(due(&mut load, ms(5)), [(0, 5)], "one more fits");
    load.finished(ms(6), FlowId(0));
    assert_eq!(due(&mut load, ms(7)), [(0, 6)]);
}

#[test]
fn a_run_is_done_when_every_ping_is_over() {
    assert!(
        load(0, Pacing::Window(1), Some(1)).is_done(),
        "nothing to do"
    );
    let mut load = load(1, Pacing::Interval(MS), Some(2));
    assert!(!load.is_done());
    assert_eq!(due(&mut load, ms(5)).len(), 2);
    load.finished(ms(6), FlowId(0));
    assert!(!load.is_done());
    load.finished(ms(7), FlowId(0));
    assert!(load.is_done());
}

#[test]
fn a_stopped_load_has_nothing_due_and_waits_for_what_is_on_its_way() {
    for pacing in [
        Pacing::Interval(MS),
        Pacing::Rate(1_000.0),
        Pacing::Window(2),
    ] {
        let mut load = load(1, pacing, None);
        assert_eq!(due(&mut load, ms(1)).len(), 2);
        load.end_run(ms(1));
        assert_eq!((due(&mut load, ms(9)), load.next_at()), (vec![], None));
        load.finished(ms(9), FlowId(0));
        assert!(!load.is_done());
        load.finished(ms(9), FlowId(0));
        assert!(load.is_done());
    }
}

/// How many pings are due before `end`, handed out one by one.
fn enumerated(load: &mut Load, end: Instant) -> u64 {
    let last = Instant::from_nanos(end.as_nanos().saturating_sub(1));
    std::iter::from_fn(|| load.next(last)).count() as u64
}

#[test]
fn the_number_of_pings_left_unsent_is_that_of_the_due_times_before_the_end() {
    let random = &mut fastrand::Rng::with_seed(11);
    for case in 0..2_000 {
        let flows = random.u32(1..6);
        let span = random.u64(1..100_000);
        let mean = random.u64(1..20_000).max(span / 100);
        let pacing = match case % 2 {
            0 => Pacing::Interval(Duration::from_nanos(mean)),
            _ => Pacing::Rate(1e9 / (mean as f64 + random.f64())),
        };
        let count = random.bool().then(|| random.u64(1..40));
        let now = Instant::from_nanos(random.u64(0..span));
        let retired = (random.u8(..) < 64).then_some(FlowId(0));
        // The end may lie on a due time.
        let end = match pacing {
            Pacing::Interval(interval) if random.bool() => {
                Instant::ZERO + interval * random.u32(1..20)
            }
            _ => Instant::from_nanos(span),
        };
        let [mut counted, mut calculated] = [(); 2].map(|()| {
            let mut load = load(flows, pacing, count);
            while load.next(now).is_some() {}
            load.retire(retired.as_slice());
            load
        });
        let unsent = calculated.end_phase(end);
        assert_eq!(
            unsent,
            enumerated(&mut counted, end),
            "{pacing:?}, {flows} flows, {count:?} each, sent until {now:?}, end {end:?}"
        );
        assert_eq!(calculated.next_at(), None);
    }
}

#[test]
fn unsent_pings_of_poisson_arrivals_are_as_many_as_their_due_times_would_have_been() {
    let end = ms(2_000);
    for (pacing, mean) in [
        (Pacing::Rate(50.0), 100.0_f64),
        (Pacing::Rate(5_000.0), 10_000.0),
        (Pacing::Interval(20 * MS), 300.0),
        (Pacing::Interval(MS), 6_000.0),
    ] {
        let mut load = load(3, pacing, None);
        let phase = PhaseLoad {
            arrivals: Arrivals::Poisson,
            ..phase(3, pacing, None)
        };
        let draws: Vec<f64> = (0..400)
            .map(|_| {
                load.begin(ms(0), &phase);
                load.end_phase(end) as f64
            })
            .collect();
        let drawn = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|d| (d - drawn).powi(2)).sum::<f64>() / draws.len() as f64;
        // The mean of 400 draws is off by a twentieth of a deviation, and the variance is the mean.
        let tolerance = mean.sqrt() / 5.0;
        assert!((drawn - mean).abs() < tolerance, "{pacing:?}: {drawn}");
        assert!(
            (variance / mean - 1.0).abs() < 0.3,
            "{pacing:?}: {variance}"
        );
    }
    let mut load = load(3, Pacing::Rate(1e6), Some(5));
    assert_eq!(load.end_phase(end), 15, "no more than the flows have");
}

#[test]
fn a_phase_that_is_far_behind_ends_at_once() {
    // One by one this would take hours.
    let end = ms(1_000_000);
    for (pacing, unsent) in [
        (Pacing::Interval(Duration::from_nanos(1)), 1_000_000_000_000),
        (Pacing::Rate(1e12), 1_000_000_000_000_000),
    ] {
        assert_eq!(load(1, pacing, None).end_phase(end), unsent, "{pacing:?}");
    }
}

#[test]
fn what_a_rate_has_due_while_nobody_is_there_is_nobodys() {
    for arrivals in [Arrivals::Uniform, Arrivals::Poisson] {
        let mut load = Load::new(1);
        let flow = load.add_pending_flow();
        let phase = PhaseLoad {
            arrivals,
            ..phase(1, Pacing::Rate(1e12), None)
        };
        load.begin(ms(0), &phase);
        assert_eq!((load.next_at(), load.next(ms(5))), (None, None));
        load.wake(ms(1_000_000), flow);
        let first = load.next_at().unwrap();
        assert!(first >= ms(1_000_000) && first < ms(1_000_001), "{first:?}");
        assert!(load.end_phase(ms(1_000_001)) > 900_000_000);
    }
}
