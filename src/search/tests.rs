use proptest::prelude::*;

use super::*;

/// A network that carries `capacity`, and a tool that does `tool`.
fn run(goals: &[&str], ladder: &Ladder, (capacity, tool): (f64, f64)) -> (Search, usize) {
    let goals: Vec<Goal> = goals.iter().map(|goal| goal.parse().unwrap()).collect();
    let mut search = Search::new(goals.clone(), ladder.clone(), true);
    let mut trials = 0;
    while let Some(planned) = search.next() {
        let loss = (1.0 - capacity / planned.load).max(0.0);
        let good = goals.iter().map(|goal| loss <= allowed(goal)).collect();
        let verdict = match planned.load > tool {
            true => Verdict::Limited(Some(tool)),
            false => Verdict::Measured { good, loss },
        };
        search.record(planned, verdict);
        trials += 1;
        assert!(trials < 1_000, "the search does not end: {planned:?}");
    }
    (search, trials)
}

/// What the goals of these tests allow to be lost.
fn allowed(goal: &Goal) -> f64 {
    if goal.to_string().contains("loss<=10%") {
        0.1
    } else {
        0.0
    }
}

fn ladder() -> Ladder {
    Ladder::new(&(1_000.0..=1e6), 0.01, false).unwrap()
}

#[test]
fn the_bounds_are_around_what_is_carried() {
    let (search, trials) = run(&["rate: loss=0"], &ladder(), (123_456.0, f64::INFINITY));
    let finding = search.findings()[0];
    let (lower, upper) = (finding.lower.unwrap(), finding.upper.unwrap());
    assert!(lower <= 123_456.0 && upper > 123_456.0, "{finding:?}");
    assert!((upper - lower) / upper <= 0.01, "{finding:?}");
    assert_eq!(finding.throughput, Some(lower));
    assert_eq!(finding.ending, Ending::Found);
    assert!(trials < 40, "{trials}");
}

#[test]
fn several_goals_are_found_at_once() {
    let goals = ["rate: loss=0", "rate: loss<=10%"];
    let (search, trials) = run(&goals, &ladder(), (90_000.0, f64::INFINITY));
    let [none, tenth] = search.findings()[..] else {
        panic!("two goals");
    };
    assert!(none.lower.unwrap() <= 90_000.0 && none.upper.unwrap() > 90_000.0);
    let most = 100_000.0;
    assert!(tenth.lower.unwrap() <= most && tenth.upper.unwrap() > most);
    // A tenth of it is lost there.
    assert!(tenth.throughput.unwrap() <= 90_001.0, "{tenth:?}");
    assert!(trials < 80, "{trials}");
}

#[test]
fn where_the_tool_ends_there_is_a_lower_bound_and_no_upper_one() {
    let (search, trials) = run(&["rate: loss=0"], &ladder(), (1e9, 300_000.0));
    let finding = search.findings()[0];
    assert_eq!((finding.upper, finding.ending), (None, Ending::Tool));
    let lower = finding.lower.unwrap();
    assert!((280_000.0..=300_000.0).contains(&lower), "{finding:?}");
    assert!(trials < 60, "{trials}");
}

#[test]
fn the_ends_of_the_range_are_told() {
    let (search, _) = run(&["rate: loss=0"], &ladder(), (2e6, f64::INFINITY));
    assert_eq!(search.findings()[0].ending, Ending::Range);
    assert_eq!(search.findings()[0].lower, Some(1e6));
    let (search, _) = run(&["rate: loss=0"], &ladder(), (10.0, f64::INFINITY));
    assert_eq!(search.findings()[0].ending, Ending::Least);
    assert_eq!(search.findings()[0].upper, Some(1_000.0));
    let (search, trials) = run(&["rate: loss=0"], &ladder(), (1e9, 10.0));
    let finding = search.findings()[0];
    assert_eq!((finding.lower, finding.ending), (None, Ending::Tool));
    assert!(trials < 100, "{trials}");
}

#[test]
fn a_search_that_is_ended_tells_what_is_known() {
    let goals = vec![
        "rate: loss=0, initial=100ms, final=10s, sum=60s"
            .parse()
            .unwrap(),
    ];
    let mut search = Search::new(goals, ladder(), true);
    assert_eq!(search.findings()[0].ending, Ending::Unfinished);
    for _ in 0..12 {
        let planned = search.next().unwrap();
        let loss = (1.0 - 50_000.0 / planned.load).max(0.0);
        let good = vec![loss == 0.0];
        search.record(planned, Verdict::Measured { good, loss });
    }
    let finding = search.findings()[0];
    assert_eq!(finding.ending, Ending::Unfinished);
    assert!(finding.lower.unwrap() <= 50_000.0, "{finding:?}");
    assert!(finding.upper.unwrap() >= 50_000.0, "{finding:?}");
}

#[test]
fn what_something_disturbs_is_tried_again_and_no_loss() {
    let goals = vec!["rate: loss=0".parse().unwrap()];
    let mut search = Search::new(goals, ladder(), true);
    let first = search.next().unwrap();
    search.record(first, Verdict::Disturbed);
    assert_eq!(search.next(), Some(first));
    search.record(first, Verdict::Disturbed);
    search.record(first, Verdict::Disturbed);
    let next = search.next().unwrap();
    assert!(next.load < first.load, "{next:?}");
    let finding = search.findings()[0];
    assert_eq!((finding.lower, finding.upper), (None, None));
}

/// A search on a network that carries everything, by a tool that fails as `is_limited` says of the load, the seconds, and how many
/// trials at that load were valid so far.
fn run_tiring(is_limited: impl Fn(f64, f64, usize) -> bool) -> Search {
    let goals = vec!["rate: loss=0, initial=100ms, sum=4s".parse().unwrap()];
    let mut search = Search::new(goals, ladder(), true);
    let mut valid = vec![0; ladder().last() + 1];
    for _ in 0..300 {
        let Some(planned) = search.next() else {
            return search;
        };
        let seconds = planned.duration.as_secs_f64();
        let verdict = if is_limited(planned.load, seconds, valid[planned.step]) {
            Verdict::Limited(Some(planned.load.min(200_000.0)))
        } else {
            valid[planned.step] += 1;
            let good = vec![true];
            Verdict::Measured { good, loss: 0.0 }
        };
        search.record(planned, verdict);
    }
    panic!("the search does not end");
}

#[test]
fn a_search_ends_where_the_tool_keeps_up_for_a_short_while_only() {
    let search = run_tiring(|load, seconds, _| load > 200_000.0 * (2.0 - seconds));
    let finding = search.findings()[0];
    assert_eq!((finding.upper, finding.ending), (None, Ending::Tool));
    let lower = finding.lower.unwrap();
    assert!((190_000.0..=200_000.0).contains(&lower), "{finding:?}");
    // Or at times.
    let search = run_tiring(|load, _, valid| load > 200_000.0 && valid > 0);
    assert_eq!(search.findings()[0].ending, Ending::Tool);
}

#[test]
fn what_is_counted_grows_from_the_least() {
    let ladder = Ladder::new(&(1.0..=10_000.0), 0.01, true).unwrap();
    let goals: Vec<Goal> = vec!["vms: unresolved=0".parse().unwrap()];
    let mut search = Search::new(goals, ladder, false);
    let mut most = 0.0_f64;
    while let Some(planned) = search.next() {
        most = most.max(planned.load);
        let good = vec![planned.load <= 777.0];
        search.record(planned, Verdict::Measured { good, loss: 0.0 });
    }
    let finding = search.findings()[0];
    assert!(finding.lower.unwrap() <= 777.0 && finding.upper.unwrap() > 777.0);
    assert_eq!(finding.ending, Ending::Found);
    assert!(most <= 2.0 * 777.0, "{most}");
}

proptest! {
    #[test]
    fn every_search_ends_with_true_bounds(
        capacity in 500.0..2e6_f64,
        tool in prop_oneof![Just(f64::INFINITY), 500.0..2e6_f64],
        width in 0.001..0.2_f64,
    ) {
        let goal = format!("rate: loss=0, width={}%, initial=100ms, sum=4s", width * 100.0);
        let ladder = Ladder::new(&(1_000.0..=1e6), width, false).unwrap();
        let (search, _) = run(&[&goal], &ladder, (capacity, tool));
        let finding = search.findings()[0];
        prop_assert!(finding.lower.is_none_or(|lower| lower <= capacity && lower <= tool));
        prop_assert!(finding.upper.is_none_or(|upper| upper > capacity && upper <= tool));
        prop_assert!(finding.ending != Ending::Unfinished);
    }
}
