//! Flows and pacing that change while a phase runs, in virtual time.

use super::tests::{MS, due, load, ms, phase};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_change_of_the_pacing_keeps_what_was_due_before_it_and_scales_the_time_to_the_next_ping() {
    type Pings = &'static [(u32, u64)];
    // Two flows from 0 on; asked at `asked`, changed at 25 ms, asked again at 70 ms.
    let table: [(Pacing, u64, Pacing, Pings); 8] = [
        // Flow 0 is due at 0, 20, 40, flow 1 at 10, 30: in 15 and 5 ms, which become 30 and 10.
        (
            Pacing::Interval(20 * MS),
            25,
            Pacing::Interval(40 * MS),
            &[(1, 35), (0, 55)],
        ),
        (
            Pacing::Interval(20 * MS),
            25,
            Pacing::Interval(10 * MS),
            &[
                (1, 27),
                (0, 32),
                (1, 37),
                (0, 42),
                (1, 47),
                (0, 52),
                (1, 57),
                (0, 62),
                (1, 67),
            ],
        ),
        // Two pings that were due before are handed out late, with the times at which they were due.
        (
            Pacing::Interval(20 * MS),
            5,
            Pacing::Interval(40 * MS),
            &[(1, 10), (0, 20), (1, 35), (0, 55)],
        ),
        // 100 per second: at 0, 10, 20, in 5 ms. Half as many: in 10.
        (
            Pacing::Rate(100.0),
            25,
            Pacing::Rate(50.0),
            &[(1, 35), (0, 55)],
        ),
        (
            Pacing::Rate(100.0),
            5,
            Pacing::Rate(200.0),
            &[
                (1, 10),
                (0, 20),
                (1, 27),
                (0, 32),
                (1, 37),
                (0, 42),
                (1, 47),
                (0, 52),
                (1, 57),
                (0, 62),
                (1, 67),
            ],
        ),
        // Another kind of pacing begins as a phase does.
        (
            Pacing::Rate(100.0),
            5,
            Pacing::Interval(40 * MS),
            &[(1, 10), (0, 20), (0, 25), (1, 45), (0, 65)],
        ),
        (
            Pacing::Interval(20 * MS),
            5,
            Pacing::Rate(50.0),
            &[(1, 10), (0, 20), (0, 25), (1, 45), (0, 65)],
        ),
        (
            Pacing::Interval(20 * MS),
            5,
            Pacing::Window(2),
            // One of flow 1 and two of flow 0 are outstanding.
            &[(1, 10), (0, 20), (1, 25)],
        ),
    ];
    for (from, asked, to, after) in table {
        let mut load = load(2, from, None);
        let before = due(&mut load, ms(asked));
        assert!(before.iter().all(|(_, at)| *at <= asked), "{before:?}");
        load.set_pacing(ms(25), to);
        assert_eq!(due(&mut load, ms(70)), after, "{from:?} to {to:?}, {asked}");
    }
}

#[test]
fn windows_open_and_close_when_they_change() {
    let mut load = load(2, Pacing::Window(2), None);
    assert_eq!(due(&mut load, ms(0)), [(0, 0), (0, 0), (1, 0), (1, 0)]);
    load.set_pacing(ms(5), Pacing::Window(3));
    assert_eq!(due(&mut load, ms(6)), [(0, 5), (1, 5)]);
    load.finished(ms(7), FlowId(0));
    load.set_pacing(ms(8), Pacing::Window(1));
    assert_eq!(
        due(&mut load, ms(9)),
        [],
        "two are outstanding, and one may be"
    );
    load.finished(ms(10), FlowId(0));
    assert_eq!(due(&mut load, ms(10)), [], "one still is");
    load.finished(ms(12), FlowId(0));
    assert_eq!(due(&mut load, ms(13)), [(0, 12)]);
    load.set_pacing(ms(14), Pacing::Interval(10 * MS));
    assert_eq!(due(&mut load, ms(20)), [(0, 14), (1, 19)]);
}

#[test]
fn pings_due_at_the_end_of_a_phase_whose_pacing_changed_are_those_that_would_have_been_handed_out()
{
    let random = &mut fastrand::Rng::with_seed(5);
    let mut changed_late = 0;
    for case in 0..2_000 {
        let flows = random.u32(1..6);
        let mut pacing = |kind: bool| {
            let mean = random.u64(200..20_000);
            match kind {
                true => Pacing::Interval(Duration::from_nanos(mean)),
                false => Pacing::Rate(1e9 / mean as f64),
            }
        };
        let (first, second) = (pacing(case % 2 == 0), pacing(case % 4 < 2));
        let count = random.bool().then(|| random.u64(1..40));
        let asked = Instant::from_nanos(random.u64(0..50_000));
        let changed = Instant::from_nanos(random.u64(0..50_000).max(asked.as_nanos()));
        let end = Instant::from_nanos(random.u64(0..100_000).max(changed.as_nanos() + 1));
        let retired = (random.u8(..) < 64).then_some(FlowId(0));
        let added = random.u8(..) < 64;
        let [mut counted, mut calculated] = [(); 2].map(|()| {
            let mut load = load(flows, first, count);
            while load.next(asked).is_some() {}
            load.set_pacing(changed, second);
            load.retire(retired.as_slice());
            if added {
                let id = load.add_flow();
                load.join(changed, id);
            }
            load
        });
        changed_late += u32::from(matches!(counted.schedule, Schedule::Changing(_)));
        let last = Instant::from_nanos(end.as_nanos() - 1);
        let dues: Vec<Due> = std::iter::from_fn(|| counted.next(last)).collect();
        assert!(dues.is_sorted_by_key(|due| due.due), "{dues:?}");
        assert_eq!(
            calculated.end_phase(end),
            dues.len() as u64,
            "{first:?} to {second:?} at {changed:?}, {flows} flows, {count:?} each, sent until {asked:?}, \
             end {end:?}, {retired:?} ends, one added: {added}"
        );
    }
    assert!(changed_late > 100, "{changed_late}");
}

#[test]
fn a_flow_that_is_added_takes_part_in_the_phase_that_runs_and_in_none_before() {
    for (pacing, theirs) in [
        (Pacing::Interval(10 * MS), vec![(1, 15), (1, 25), (1, 35)]),
        (Pacing::Rate(100.0), vec![(1, 30), (1, 40), (1, 50)]),
        (Pacing::Window(1), vec![(1, 15)]),
    ] {
        let mut load = load(1, pacing, Some(3));
        let late = load.add_flow();
        load.retire(&[]);
        assert!(due(&mut load, ms(14)).iter().all(|(flow, _)| *flow == 0));
        load.join(ms(15), late);
        let pings = due(&mut load, ms(50));
        let of_late: Vec<_> = pings.into_iter().filter(|(flow, _)| *flow == 1).collect();
        assert_eq!(of_late, theirs, "{pacing:?}");
    }
    let mut idle = Load::new(1);
    let flow = idle.add_flow();
    idle.join(ms(1), flow);
    assert_eq!((idle.next_at(), idle.is_done()), (None, true));
}

#[test]
fn a_flow_can_join_when_all_others_of_the_phase_are_over() {
    for pacing in [
        Pacing::Interval(MS),
        Pacing::Rate(1000.0),
        Pacing::Window(1),
    ] {
        let mut load = load(1, pacing, Some(1));
        assert_eq!(due(&mut load, ms(10)), [(0, 0)]);
        load.finished(ms(10), FlowId(0));
        assert!(load.is_done());
        let late = load.add_flow();
        load.join(ms(20), late);
        assert_eq!(due(&mut load, ms(20)), [(1, 20)], "{pacing:?}");
        assert!(load.is_handed_out() && !load.is_done());
    }
}

#[test]
fn turns_go_round_the_flows_that_are_left() {
    let mut load = load(5, Pacing::Rate(1000.0), None);
    let turns = |load: &mut Load, at: u64| -> Vec<u32> {
        due(load, ms(at)).iter().map(|(flow, _)| *flow).collect()
    };
    assert_eq!(turns(&mut load, 2), [0, 1, 2]);
    load.retire(&[FlowId(0), FlowId(3)]);
    assert_eq!(turns(&mut load, 6), [4, 1, 2, 4]);
    let added = load.add_flow();
    load.join(ms(6), added);
    assert_eq!(turns(&mut load, 11), [1, 2, 4, 5, 1]);
    load.retire(&[FlowId(1), FlowId(2), FlowId(4), FlowId(5)]);
    assert_eq!((load.next_at(), load.next(ms(50))), (None, None));
}

#[test]
fn exponential_times_stay_exponential_when_the_rate_changes() {
    for (from, to) in [
        (Pacing::Rate(100.0), Pacing::Rate(1000.0)),
        (Pacing::Interval(10 * MS), Pacing::Interval(MS)),
        (Pacing::Rate(100.0), Pacing::Interval(MS)),
    ] {
        let waits = (0..4_000).map(|seed| {
            let mut load = Load::new(seed);
            load.add_flow();
            let phase = PhaseLoad {
                arrivals: Arrivals::Poisson,
                ..phase(1, from, None)
            };
            load.begin(ms(0), &phase);
            while load.next(ms(100)).is_some() {}
            load.set_pacing(ms(100), to);
            load.next(ms(0) + 100 * SECOND)
                .unwrap()
                .due
                .nanos_since(ms(100)) as f64
                / 1e6
        });
        let waits: Vec<f64> = waits.collect();
        let mean = waits.iter().sum::<f64>() / waits.len() as f64;
        let variance = waits.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>();
        let deviation = (variance / waits.len() as f64).sqrt();
        assert!((mean - 1.0).abs() < 0.06, "{from:?} to {to:?}: mean {mean}");
        assert!((deviation - 1.0).abs() < 0.1, "{deviation}");
    }
}
