//! Flows with a pace of their own, in virtual time.

use super::tests::{MS, due, load, ms, phase};
use super::*;

const PACINGS: [Pacing; 3] = [
    Pacing::Interval(Duration::from_millis(10)),
    Pacing::Rate(100.0),
    Pacing::Window(2),
];

fn set_apart(load: &mut Load, now: Instant, flows: u32, pace: Pace) -> std::ops::Range<u32> {
    let first = load.flows.len() as u32;
    (0..flows).for_each(|_| {
        load.add_flow();
    });
    load.set_apart(first..first + flows, pace);
    load.begin_apart(now);
    first..first + flows
}

fn pace(pacing: Pacing) -> Pace {
    Pace {
        pacing,
        count: None,
    }
}

/// Hands out what is due at each millisecond of `span`, all answered at once, in `loads` that have the flows from the number
/// beside each on.
fn run(load: &mut Load, span: std::ops::Range<u64>) -> Vec<(u32, u64)> {
    let mut handed_out = Vec::new();
    for now in span.map(ms) {
        let mut ended = Vec::new();
        while let Some(Due { flow, due, .. }) = load.next(now) {
            assert!(due <= now);
            handed_out.push((flow.0, due.as_nanos()));
            ended.push(flow);
        }
        ended.into_iter().for_each(|flow| load.finished(now, flow));
    }
    handed_out
}

#[test]
fn flows_set_apart_send_as_if_alone_and_those_of_the_phase_as_without_them() {
    for of_phase in PACINGS {
        for of_their_own in PACINGS {
            let mut alone = load(2, of_phase, None);
            let mut others = load(3, of_their_own, None);
            let mut both = load(2, of_phase, None);
            assert_eq!(set_apart(&mut both, ms(0), 3, pace(of_their_own)), 2..5);
            let mut expected = run(&mut alone, 0..500);
            expected.extend(
                run(&mut others, 0..500)
                    .iter()
                    .map(|(id, due)| (id + 2, *due)),
            );
            let mut seen = run(&mut both, 0..500);
            seen.sort_unstable();
            expected.sort_unstable();
            assert_eq!(seen, expected, "{of_phase:?} {of_their_own:?}");
        }
    }
}

#[test]
fn due_times_of_all_come_in_their_order() {
    let mut load = load(1, Pacing::Interval(10 * MS), None);
    set_apart(&mut load, ms(0), 1, pace(Pacing::Interval(4 * MS)));
    set_apart(&mut load, ms(2), 1, pace(Pacing::Rate(100.0)));
    assert_eq!(load.next_at(), Some(ms(0)));
    let order = [
        (0, 0),
        (1, 0),
        (2, 2),
        (1, 4),
        (1, 8),
        (0, 10),
        (1, 12),
        (2, 12),
    ];
    assert_eq!(due(&mut load, ms(13)), order);
    assert_eq!(load.next_at(), Some(ms(16)));
}

#[test]
fn a_change_of_the_pacing_or_of_the_phase_leaves_them_as_they_are() {
    let mut load = load(1, Pacing::Interval(10 * MS), None);
    set_apart(&mut load, ms(0), 1, pace(Pacing::Interval(5 * MS)));
    assert_eq!(due(&mut load, ms(5)), [(0, 0), (1, 0), (1, 5)]);
    load.set_pacing(ms(6), Pacing::Interval(100 * MS));
    assert_eq!(due(&mut load, ms(15)), [(1, 10), (1, 15)]);
    assert_eq!(load.end_phase(ms(16)), 0);
    assert!(load.sends_apart() && load.is_between_phases());
    assert_eq!(due(&mut load, ms(20)), [(1, 20)]);
    load.begin(ms(21), &phase(1, Pacing::Rate(1_000.0), Some(1)));
    assert_eq!(due(&mut load, ms(25)), [(0, 21), (1, 25)]);
    load.finished(ms(25), FlowId(0));
    load.finished(ms(25), FlowId(0));
    assert!(load.is_done(), "the phase does not wait for them");
    // Pings that were due at the end and not handed out are those of the run.
    assert_eq!(load.end_run(ms(41)), 3);
    assert_eq!((load.next_at(), load.has_apart()), (None, true));
    (0..6).for_each(|_| load.finished(ms(42), FlowId(1)));
    assert!(!load.has_apart());
}

#[test]
fn they_begin_with_the_first_phase_wait_for_their_vms_and_end_one_by_one_or_with_their_count() {
    for pacing in PACINGS {
        let mut load = Load::new(1);
        load.add_flow();
        let first = load.add_pending_flow();
        load.add_flow();
        let count = Some(3);
        load.set_apart(first.0..first.0 + 2, Pace { pacing, count });
        load.begin_apart(ms(0));
        assert_eq!(load.next_at(), None, "there is no phase");
        load.begin(ms(10), &phase(1, Pacing::Interval(100 * MS), Some(1)));
        let sent = run(&mut load, 10..100);
        assert_eq!(sent.iter().filter(|(flow, _)| *flow == 2).count(), 3);
        assert_eq!(sent.iter().filter(|(flow, _)| *flow == 1).count(), 0);
        assert!(load.has_apart(), "one waits for its VM");
        load.wake(ms(100), first);
        let sent = run(&mut load, 100..200);
        assert_eq!(sent.len(), 3, "{pacing:?}: {sent:?}");
        assert!(!load.has_apart() && load.apart.is_empty());
        let ids = set_apart(&mut load, ms(200), 2, pace(pacing));
        assert!(!run(&mut load, 200..300).is_empty());
        load.retire(&[FlowId(ids.start)]);
        let sent = run(&mut load, 300..400);
        assert!(!sent.is_empty() && sent.iter().all(|(flow, _)| *flow == ids.start + 1));
        load.retire(&[FlowId(ids.start + 1)]);
        assert_eq!((run(&mut load, 400..500), load.next_at()), (vec![], None));
        assert!(load.apart.is_empty());
    }
}

#[test]
fn those_that_the_end_of_the_run_ended_do_not_begin_again() {
    for pacing in PACINGS {
        let mut load = load(1, Pacing::Interval(10 * MS), None);
        let apart = set_apart(&mut load, ms(0), 1, pace(pacing));
        let sent = due(&mut load, ms(1));
        let outstanding = sent.iter().filter(|(flow, _)| *flow == apart.start);
        let outstanding = outstanding.count();
        assert!(outstanding > 0, "{pacing:?}");
        load.end_run(ms(1));
        load.begin(ms(100), &phase(1, Pacing::Interval(10 * MS), None));
        assert!(!load.sends_apart(), "{pacing:?}");
        assert!(load.has_apart(), "{pacing:?}: pings are outstanding");
        let sent = due(&mut load, ms(120));
        assert_eq!(sent, [(0, 100), (0, 110), (0, 120)], "{pacing:?}");
        (0..outstanding).for_each(|_| load.finished(ms(121), FlowId(apart.start)));
        assert!(load.apart.is_empty(), "{pacing:?}");
        // Without outstanding pings they are forgotten at once.
        set_apart(&mut load, ms(130), 1, pace(pacing));
        assert!(!run(&mut load, 130..150).is_empty());
        load.end_run(ms(149));
        assert!(load.apart.is_empty(), "{pacing:?}");
    }
}

#[test]
fn the_interval_of_a_flow_is_the_time_between_its_pings_whoever_else_there_is() {
    for pacing in PACINGS {
        let mut load = load(4, pacing, None);
        // One that ends, one whose VM does not exist, two with a pace of their own, and one that has no part in the phase.
        load.retire(&[FlowId(3)]);
        let pending = load.add_pending_flow();
        load.join(ms(0), pending);
        let apart = set_apart(&mut load, ms(0), 2, pace(Pacing::Rate(50.0)));
        let stranger = load.add_flow();
        let handed_out = run(&mut load, 0..1_000);
        let spacing = |flow: u32| {
            let of_flow = handed_out.iter().filter(|(id, _)| *id == flow);
            let due: Vec<u64> = of_flow.map(|(_, due)| *due).collect();
            Duration::from_nanos((due[10] - due[5]) / 5)
        };
        let is_paced = !matches!(pacing, Pacing::Window(_));
        for flow in 0..3 {
            let expected = is_paced.then(|| spacing(flow));
            assert_eq!(load.interval_of(FlowId(flow)), expected, "{pacing:?}");
        }
        for flow in apart {
            assert_eq!(load.interval_of(FlowId(flow)), Some(spacing(flow)));
        }
        assert_eq!(load.interval_of(stranger), None);
        assert_eq!(load.interval_of(FlowId(3)), None);
    }
}
