//! Schedules in virtual time.

use std::time::Duration;

use super::*;

const fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000)
}

fn due(load: &mut Load, now: Instant) -> Vec<(u32, u64)> {
    std::iter::from_fn(|| load.next(now))
        .map(|d| (d.flow.0, d.due.as_nanos() / 1_000_000))
        .collect()
}

#[test]
fn due_times_of_a_paced_flow_do_not_drift_when_it_is_asked_late() {
    let mut load = Load::default();
    load.add(ms(0), Pacing::Interval(Duration::from_millis(10)), Some(5));
    assert_eq!(due(&mut load, ms(0)), [(0, 0)]);
    assert_eq!(load.next_at(), Some(ms(10)));
    assert_eq!(due(&mut load, ms(9)), []);
    assert_eq!(due(&mut load, ms(37)), [(0, 10), (0, 20), (0, 30)]);
    assert_eq!(load.next_at(), Some(ms(40)));
    assert_eq!(due(&mut load, ms(99)), [(0, 40)]);
    assert_eq!(load.next_at(), None);
}

#[test]
fn paced_flows_take_turns_by_due_time() {
    let mut load = Load::default();
    load.add(ms(0), Pacing::Interval(Duration::from_millis(3)), Some(3));
    load.add(ms(1), Pacing::Interval(Duration::from_millis(2)), Some(3));
    assert_eq!(
        due(&mut load, ms(100)),
        [(0, 0), (1, 1), (0, 3), (1, 3), (1, 5), (0, 6)]
    );
}

#[test]
fn a_window_opens_at_once_and_then_follows_the_replies() {
    let mut load = Load::default();
    let flow = load.add(ms(0), Pacing::Window(3), Some(5));
    let more: Vec<bool> = std::iter::from_fn(|| load.next(ms(1)))
        .map(|d| d.more)
        .collect();
    assert_eq!(more, [true, true, false]);
    assert_eq!(load.next_at(), None);
    load.finished(ms(7), flow);
    assert_eq!(load.next_at(), Some(Instant::ZERO));
    load.finished(ms(8), flow);
    assert_eq!(due(&mut load, ms(9)), [(0, 7), (0, 7)]);
    load.finished(ms(10), flow);
    assert_eq!(due(&mut load, ms(10)), [], "the count is reached");
}

#[test]
fn a_run_is_done_when_every_ping_is_over() {
    let mut load = Load::default();
    assert!(load.is_done(), "nothing to do");
    let flow = load.add(ms(0), Pacing::Interval(Duration::from_millis(1)), Some(2));
    assert!(!load.is_done());
    assert_eq!(due(&mut load, ms(5)).len(), 2);
    load.finished(ms(6), flow);
    assert!(!load.is_done());
    load.finished(ms(7), flow);
    assert!(load.is_done());
}

#[test]
fn a_stopped_load_has_nothing_due_and_waits_for_what_is_on_its_way() {
    let mut load = Load::default();
    let flow = load.add(ms(0), Pacing::Interval(Duration::from_millis(1)), None);
    assert_eq!(due(&mut load, ms(1)).len(), 2);
    load.stop();
    assert_eq!((due(&mut load, ms(9)), load.next_at()), (vec![], None));
    load.finished(ms(9), flow);
    assert!(!load.is_done());
    load.finished(ms(9), flow);
    assert!(load.is_done());
}
