use std::slice;

use super::*;
use crate::record::Totals;
use crate::report::fixtures;

fn of<'a>(comparison: &'a Comparison, figure: &str) -> &'a Difference {
    let found = comparison
        .differences
        .iter()
        .find(|each| each.figure == figure);
    found.unwrap()
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let report = fixtures::report();
    let same = pair(("a", &report), ("b", &report));
    for each in &same.differences {
        assert_eq!(each.difference, Some(0.0), "{each:?}");
        // Where a metric is not kept by the second, nobody knows how much it varies.
        assert_ne!(each.beyond_spread, Some(true), "{each:?}");
    }
    assert_eq!(same.beyond_spread(), (0, 14));
    assert!(same.sentence().starts_with("No figure differs"));
}

#[test]
fn a_run_three_times_slower_differs_by_that_and_not_in_rate() {
    let (before, after) = (fixtures::report(), fixtures::slower(3));
    let comparison = pair(("a.json", &before), ("b.json", &after));
    let p50 = of(&comparison, "rtt.p50");
    assert!((p50.ratio.unwrap() - 3.0).abs() < 0.01, "{p50:?}");
    assert!(p50.difference.unwrap() > 0.0);
    assert_eq!(p50.beyond_spread, Some(true), "{p50:?}");
    assert_eq!(of(&comparison, "rate").beyond_spread, Some(false));
    assert_eq!(of(&comparison, "loss").ratio, Some(1.0));
}

#[test]
fn flows_that_never_pass_after_a_mark_are_a_change_even_of_short_runs() {
    let run = |flows: u64, passed: u64| {
        let mut run = fixtures::whole();
        run.seconds.clear();
        let [mark] = run.marks.as_mut_slice() else {
            panic!("one mark");
        };
        (mark.flow_count, mark.passed) = (flows, passed);
        run
    };
    for (before, after, judged) in [
        ((10, 10), (10, 0), Some(Judgement::Worse)),
        ((1, 1), (1, 0), Some(Judgement::Worse)),
        ((10, 9), (10, 10), Some(Judgement::Better)),
        ((10, 10), (10, 10), None),
        // So many flows more have passed as there were more of them.
        ((10, 10), (12, 12), None),
        ((10, 10), (12, 0), Some(Judgement::Worse)),
    ] {
        let [one, other] = [before, after].map(|(flows, passed)| run(flows, passed));
        let comparison = pair(("a", &one), ("b", &other));
        let passed = of(&comparison, "mark.policy.passed");
        assert_eq!(passed.judgement(), judged, "{before:?} {after:?}");
        assert_eq!(passed.before, Some(before.1 as f64));
        let flows = of(&comparison, "mark.policy.flows");
        assert_eq!(
            (flows.after, flows.judgement()),
            (Some(after.0 as f64), None)
        );
        let is_change = comparison.change() == Change::Yes;
        assert_eq!(is_change, judged.is_some(), "{before:?} {after:?}");
    }
}

#[test]
fn of_short_runs_no_spread_is_told() {
    let mut short = fixtures::report();
    short.seconds.truncate(SECONDS_NEEDED - 1);
    let comparison = pair(("a", &short), ("b", &fixtures::report()));
    assert!(
        comparison
            .differences
            .iter()
            .all(|each| each.beyond_spread.is_none())
    );
    assert!(comparison.sentence().starts_with("Whether"));
}

#[test]
fn a_loss_is_judged_by_the_number_of_pings() {
    let run = |lost: u64| {
        let mut run = fixtures::report();
        run.totals = Totals {
            sent: 10_000,
            received: 10_000 - lost,
            lost,
            ..Totals::default()
        };
        run
    };
    let cases = [
        (0, 0, false),
        (0, 1, false),
        (0, 10, true),
        (0, 1_000, true),
        (1_000, 0, true),
        (500, 520, false),
        (500, 600, true),
        (10_000, 10_000, false),
    ];
    for (before, after, expected) in cases {
        let comparison = pair(("a", &run(before)), ("b", &run(after)));
        let loss = of(&comparison, "loss");
        assert_eq!(
            loss.beyond_spread,
            Some(expected),
            "{before} {after}: {loss:?}"
        );
    }
}

#[test]
fn what_a_run_does_not_have_is_absent() {
    use crate::record::{Limits, Recorder};
    use crate::report::Context;
    let empty = Report::new(&Recorder::new(Limits::default()), &Context::default());
    let comparison = pair(("a", &empty), ("b", &fixtures::report()));
    for each in &comparison.differences {
        assert_eq!(
            (each.before, each.difference, each.ratio),
            (None, None, None),
            "{each:?}"
        );
    }
}

#[test]
fn an_outage_is_told_as_one_and_is_a_change() {
    let report = |totals: Totals| Report {
        totals,
        stream_counts: None,
        ..fixtures::report()
    };
    let calm = fixtures::report();
    let attempted = Totals {
        sent: 1_000,
        lost: 1_000,
        unresolved: 500,
        corrupt: 2,
        errored: 3,
        unsent: 4,
        ..Totals::default()
    };
    let out = report(attempted);
    let none = report(Totals::default());
    let all = "no ping was answered (1,000 lost, 500 unresolved, 2 corrupt, 3 errored, 4 due but never sent)";
    let unresolved = report(Totals {
        unresolved: 5,
        ..Totals::default()
    });
    for (before, after, change, sentence) in [
        (
            &calm,
            &out,
            Change::Yes,
            format!("An outage: of after, {all}."),
        ),
        (
            &out,
            &calm,
            Change::Yes,
            format!("An outage has ended: of before, {all}."),
        ),
        (
            &calm,
            &none,
            Change::Yes,
            "An outage: of after, no ping was sent.".to_owned(),
        ),
        (
            &calm,
            &unresolved,
            Change::Yes,
            "An outage: of after, no ping was answered (5 unresolved).".to_owned(),
        ),
        (
            &none,
            &out,
            Change::Unknown,
            format!("Neither run can be compared: of before, no ping was sent; of after, {all}."),
        ),
    ] {
        let comparison = pair(("before", before), ("after", after));
        assert_eq!(comparison.sentence(), sentence);
        assert_eq!(comparison.change(), change, "{sentence}");
    }
    let one = report(Totals {
        received: 1,
        ..attempted
    });
    assert_eq!(pair(("a", &one), ("b", &one)).before.outage, None);
}

#[test]
fn runs_that_differ_by_more_than_they_vary_have_changed() {
    let mut short = fixtures::report();
    short.seconds.truncate(SECONDS_NEEDED - 1);
    for (after, change, sentence) in [
        (fixtures::report(), Change::No, "No figure differs by more"),
        (
            fixtures::slower(3),
            Change::Yes,
            "12 of 14 figures differ by more",
        ),
        (
            short,
            Change::Unknown,
            "Whether the differences mean anything",
        ),
    ] {
        let comparison = pair(("a", &fixtures::report()), ("b", &after));
        assert_eq!(comparison.change(), change, "{sentence}");
        assert!(
            comparison.sentence().starts_with(sentence),
            "{}",
            comparison.sentence()
        );
    }
}

#[test]
fn a_comparison_as_json_is_read_back() {
    let comparison = pair(("a", &fixtures::report()), ("b", &fixtures::slower(2)));
    let mut out = Vec::new();
    compare_json(slice::from_ref(&comparison), &mut out).unwrap();
    assert_eq!(
        serde_json::from_slice::<Comparison>(&out).unwrap(),
        comparison
    );
}

#[test]
fn each_run_is_compared_with_the_first() {
    let runs = [1, 3, 1, 2].map(fixtures::slower);
    let named: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(&runs).collect();
    for number in 0..=4 {
        let comparisons = compare(&named[..number]);
        assert_eq!(comparisons.len(), number.saturating_sub(1));
        for (found, run) in comparisons.iter().zip(&named[1..]) {
            assert_eq!(*found, pair(named[0], *run));
        }
    }
}

#[test]
fn several_comparisons_as_json_are_a_list_of_what_one_is() {
    let runs = [1, 2, 3].map(fixtures::slower);
    let comparisons = compare(&[("a", &runs[0]), ("b", &runs[1]), ("c", &runs[2])]);
    let mut out = Vec::new();
    compare_json(&comparisons, &mut out).unwrap();
    let read: Vec<Comparison> = serde_json::from_slice(&out).unwrap();
    assert_eq!(read, comparisons);
}

#[test]
fn less_latency_or_loss_and_a_higher_rate_are_better() {
    use Judgement::{Better, Same, Worse};
    let of = |quantity, difference, beyond_spread| Difference {
        figure: "x".to_owned(),
        quantity,
        before: Some(1.0),
        after: Some(1.0),
        difference,
        ratio: None,
        spread: None,
        beyond_spread,
    };
    for (quantity, difference, beyond, judged) in [
        (Quantity::Ns, Some(-5.0), Some(true), Some(Better)),
        (Quantity::Ns, Some(5.0), Some(true), Some(Worse)),
        (Quantity::Share, Some(-0.1), Some(true), Some(Better)),
        (Quantity::Share, Some(0.1), Some(true), Some(Worse)),
        (Quantity::PerSecond, Some(-5.0), Some(true), Some(Worse)),
        (Quantity::PerSecond, Some(5.0), Some(true), Some(Better)),
        (Quantity::Flows, Some(5.0), Some(true), Some(Better)),
        (Quantity::Flows, Some(-5.0), Some(true), Some(Worse)),
        (Quantity::PerSecond, Some(5.0), Some(false), Some(Same)),
        (Quantity::Ns, Some(0.0), Some(false), Some(Same)),
        (Quantity::Ns, Some(5.0), None, None),
        (Quantity::Ns, None, None, None),
    ] {
        let told = of(quantity, difference, beyond).judgement();
        assert_eq!(told, judged, "{quantity:?} {difference:?} {beyond:?}");
    }
}

#[test]
fn floods_of_two_runs_are_compared_by_kind() {
    let before = fixtures::whole();
    let mut after = before.clone();
    after.floods[0].copies *= 2;
    after.floods[0].amplification *= 2.0;
    let mut uncounted = before.clone();
    uncounted.floods.clear();
    let comparison = pair(("a", &before), ("b", &after));
    let figure = |what: &str| of(&comparison, &format!("floods.arp_request.{what}"));
    assert_eq!(figure("copies").ratio, Some(2.0));
    assert_eq!(figure("amplification").difference, Some(2.0));
    assert_eq!(figure("frames").difference, Some(0.0));
    assert_eq!(figure("unwanted").before, Some(5.0));
    assert_eq!(figure("last_copy.p99").before, None, "no copy came");
    let floods = |comparison: &Comparison| {
        let figures = comparison.differences.iter();
        let figures = figures.filter(|each| each.figure.starts_with("floods."));
        figures.map(|each| each.after).collect::<Vec<_>>()
    };
    // Eight figures of the only kind that one of the runs has.
    let of_one = floods(&pair(("a", &before), ("b", &uncounted)));
    assert_eq!(of_one, [None; 8]);
    assert!(floods(&pair(("a", &uncounted), ("b", &uncounted))).is_empty());
}
