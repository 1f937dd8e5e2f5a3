use super::*;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn name(name: &str) -> MarkName {
    name.parse().unwrap()
}

/// The figures of the only flow of each mark.
fn figures(marks: &Marks) -> Vec<[Option<u64>; 4]> {
    let of = |mark: &Mark| {
        let (_, figures) = mark.flows().next().expect("the flow has pinged");
        [0, 1, 2, 3].map(|index| figures.get(MarkMetric::ALL[index]))
    };
    marks.all().iter().map(of).collect()
}

/// A ping: when it was due, and when it was answered, or that it was not, or that it says nothing.
#[derive(Clone, Copy, Debug)]
enum Ended {
    Passed(u64),
    Failed,
    Left,
}

#[test]
fn each_figure_of_a_mark_is_measured_from_what_it_says() {
    use Ended::{Failed, Left, Passed};
    // The mark is at 100. Pings in the order of their numbers: when each was due, and its end.
    type Case = (
        &'static str,
        &'static [(u64, Ended)],
        Option<[Option<u64>; 4]>,
    );
    let table: &[Case] = &[
        (
            "a way opens",
            &[
                (100, Failed),
                (110, Failed),
                (120, Passed(125)),
                (130, Passed(137)),
            ],
            Some([Some(25), Some(37), Some(12), Some(1)]),
        ),
        (
            "a way closes",
            &[(100, Passed(105)), (110, Passed(113)), (120, Failed)],
            Some([Some(5), Some(13), Some(8), Some(1)]),
        ),
        (
            "nothing changes",
            &[(100, Passed(105)), (110, Passed(115))],
            Some([Some(5), Some(15), Some(10), Some(0)]),
        ),
        (
            "nothing passes",
            &[(100, Failed), (110, Failed)],
            Some([None, None, None, Some(0)]),
        ),
        (
            "one passes",
            &[(100, Failed), (110, Passed(120)), (120, Failed)],
            Some([Some(20), Some(20), None, Some(2)]),
        ),
        (
            "pings due before the mark do not count",
            &[(99, Passed(130)), (98, Failed), (100, Passed(140))],
            Some([Some(40), Some(40), None, Some(0)]),
        ),
        (
            "one that left is passed over",
            &[(100, Passed(105)), (110, Left), (120, Passed(125))],
            Some([Some(5), Some(25), Some(20), Some(0)]),
        ),
        ("nobody pings", &[(99, Passed(130)), (110, Left)], None),
    ];
    for (what, pings, expected) in table {
        let mut marks = Marks::new([0].into_iter());
        marks.set(at(100), name("policy"), String::new());
        for (sequence, &(due, end)) in (0..).zip(*pings) {
            tell(&mut marks, FlowId(0), sequence, due, end);
        }
        let told = marks.all()[0].flows().next();
        let told = told.map(|_| figures(&marks)[0]);
        assert_eq!(told, *expected, "{what}");
    }
}

fn tell(marks: &mut Marks, flow: FlowId, sequence: u64, due: u64, end: Ended) {
    match end {
        Ended::Passed(received) => marks.passed(flow, sequence, at(due), at(received)),
        Ended::Failed => marks.failed(flow, sequence, at(due)),
        Ended::Left => marks.abandoned(flow, sequence),
    }
}

#[test]
fn a_flow_that_begins_after_a_mark_is_measured_from_its_own_first_ping() {
    use Ended::{Failed, Left, Passed};
    // The marks are at 100 and 1000. When the flow begins, and its pings: first pass, last pass and gap of each mark.
    type Told = (usize, [Option<u64>; 3]);
    type Case = (
        &'static str,
        Option<u64>,
        &'static [(u64, Ended)],
        &'static [Told],
    );
    let table: &[Case] = &[
        (
            "one that was there",
            None,
            &[(500, Passed(505)), (510, Passed(517))],
            &[(0, [Some(405), Some(417), Some(12)])],
        ),
        (
            "one that comes later",
            Some(490),
            &[(500, Passed(505)), (510, Passed(517))],
            &[(0, [Some(5), Some(17), Some(12)])],
        ),
        (
            "the first ping ends last",
            Some(490),
            &[(510, Passed(517)), (500, Failed)],
            &[(0, [Some(17), Some(17), None])],
        ),
        (
            "nothing is due before the next mark",
            Some(990),
            &[(1000, Passed(1005))],
            &[(1, [Some(5), Some(5), None])],
        ),
        (
            "the next mark has the time from itself on",
            Some(490),
            &[(500, Failed), (1010, Passed(1015))],
            &[(0, [None; 3]), (1, [Some(15), Some(15), None])],
        ),
        (
            "one whose VM comes back is told from the mark on",
            Some(490),
            &[(110, Passed(115)), (120, Left), (500, Passed(505))],
            &[(0, [Some(15), Some(405), Some(390)])],
        ),
        (
            "pings from before the mark are no beginning",
            Some(150),
            &[(90, Passed(130)), (200, Passed(205))],
            &[(0, [Some(5), Some(5), None])],
        ),
    ];
    for (what, begins, pings, expected) in table {
        let mut marks = Marks::new([0].into_iter());
        marks.set(at(100), name("policy"), String::new());
        let (mut begins, mut is_second) = (*begins, false);
        for (sequence, &(due, end)) in (0..).zip(*pings) {
            if begins.is_some_and(|begins| begins <= due) {
                marks.began(FlowId(0));
                begins = None;
            }
            if due >= 1000 && !is_second {
                marks.set(at(1000), name("policy"), String::new());
                is_second = true;
            }
            tell(&mut marks, FlowId(0), sequence, due, end);
        }
        let told: Vec<Told> = (0..)
            .zip(marks.all())
            .filter_map(|(index, mark)| {
                let (_, figures) = mark.flows().next()?;
                let told = [0, 1, 2].map(|index| figures.get(MarkMetric::ALL[index]));
                Some((index, told))
            })
            .collect();
        assert_eq!(told, *expected, "{what}");
    }
}

#[test]
fn the_end_of_a_window_is_the_next_mark_even_one_that_is_not_told() {
    let mut marks = Marks::new([5].into_iter());
    for index in 0..MAX_MARKS as u64 + 3 {
        marks.set(at(100 * (index + 1)), name("m"), String::new());
    }
    assert_eq!((marks.all().len(), marks.untold()), (MAX_MARKS, 3));
    let last = 100 * MAX_MARKS as u64;
    for (sequence, due) in [
        (5, 99),
        (6, 100),
        (7, 199),
        (8, 200),
        (9, last),
        (10, last + 99),
        (11, last + 100),
        (12, last + 900),
    ] {
        // The answer comes when another mark was set.
        marks.passed(FlowId(0), sequence, at(due), at(due + 1000));
    }
    let answered = |index: usize| {
        let flow = marks.all()[index].flows().next();
        flow.map(|(_, figures)| {
            (
                figures.answered,
                figures.get(MarkMetric::FirstPass).unwrap(),
            )
        })
    };
    assert_eq!(answered(0), Some((2, 1000)));
    assert_eq!(answered(1), Some((1, 1000)));
    assert_eq!(answered(2), None);
    assert_eq!(answered(MAX_MARKS - 1), Some((2, 1000)));
    assert_eq!(marks.all()[MAX_MARKS - 1].end(), Some(at(last + 100)));
}

#[test]
fn no_mark_is_before_the_one_that_was_set_before_it() {
    let mut marks = Marks::new([0].into_iter());
    for time in [100, 90, 110] {
        marks.set(at(time), name("m"), String::new());
    }
    let times: Vec<_> = marks
        .all()
        .iter()
        .map(|mark| (mark.at(), mark.end()))
        .collect();
    let expected = [
        (at(100), Some(at(100))),
        (at(100), Some(at(110))),
        (at(110), None),
    ];
    assert_eq!(times, expected);
}

#[test]
fn marks_of_very_many_flows_are_bounded() {
    let flows = MAX_MARKED_FLOWS as u64 / 2 + 1;
    let mut marks = Marks::new((0..flows).map(|_| 0));
    for mark in 0..3 {
        marks.set(at(mark), name("m"), String::new());
        let last = FlowId(flows as u32 - 1);
        marks.failed(last, mark, at(mark));
    }
    assert_eq!((marks.all().len(), marks.untold()), (1, 2));
    assert_eq!(size_of::<FlowMark>(), 56);
    assert_eq!(size_of::<Option<End>>(), 3);
}

#[test]
fn numbers_that_are_left_out_do_not_pile_up() {
    let mut marks = Marks::new([0].into_iter());
    marks.set(at(0), name("m"), String::new());
    for sequence in (1..200_000).step_by(2) {
        marks.passed(FlowId(0), sequence, at(sequence), at(sequence));
        assert!(marks.ends[0].kept.len() <= MAX_KEPT, "{sequence}");
    }
    marks.failed(FlowId(0), u64::MAX - 1, at(1));
    assert!(marks.ends[0].kept.is_empty());
    assert_eq!(figures(&marks)[0][3], Some(1));
}

/// Of all pings that have ended, in any order, the figures as somebody finds them who sees them all at the end.
#[test]
fn pings_that_end_in_any_order_have_the_figures_that_a_look_at_all_of_them_gives() {
    #[derive(Clone, Copy, Debug)]
    struct Ping {
        sequence: u64,
        due: u64,
        end: Ended,
        ends_at: u64,
    }
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let first = random.u64(0..3);
        let mut now = 0;
        let mut pings: Vec<Ping> = (0..random.u64(1..60))
            .map(|index| {
                now += random.u64(0..20);
                // An answer takes less than a timeout, most often, and everything else takes one.
                let ends_at = now
                    + if random.bool() {
                        random.u64(1..10)
                    } else {
                        100
                    };
                let end = match random.u32(0..10) {
                    0 => Ended::Left,
                    1..5 => Ended::Failed,
                    _ => Ended::Passed(ends_at),
                };
                let sequence = first + index;
                Ping {
                    sequence,
                    due: now,
                    end,
                    ends_at,
                }
            })
            .collect();
        let mut times: Vec<u64> = (0..random.usize(1..4))
            .map(|_| random.u64(0..=now))
            .collect();
        times.sort_unstable();
        let mut marks = Marks::new([first].into_iter());
        for time in &times {
            marks.set(at(*time), name("m"), String::new());
        }
        pings.sort_by_key(|ping| ping.ends_at);
        for ping in &pings {
            tell(&mut marks, FlowId(0), ping.sequence, ping.due, ping.end);
        }
        for (index, mark) in marks.all().iter().enumerate() {
            let end = times.get(index + 1).copied().unwrap_or(u64::MAX);
            let mut of_mark: Vec<Ping> = pings.clone();
            of_mark.retain(|ping| (times[index]..end).contains(&ping.due));
            let receipts: Vec<u64> = of_mark
                .iter()
                .filter_map(|ping| match ping.end {
                    Ended::Passed(received) => Some(received - times[index]),
                    _ => None,
                })
                .collect();
            of_mark.sort_by_key(|ping| ping.sequence);
            let passes: Vec<bool> = of_mark
                .iter()
                .filter(|ping| !matches!(ping.end, Ended::Left))
                .map(|ping| matches!(ping.end, Ended::Passed(_)))
                .collect();
            let changes = passes.windows(2).filter(|two| two[0] != two[1]).count() as u64;
            let expected = (!passes.is_empty()).then(|| {
                [
                    receipts.iter().min().copied(),
                    receipts.iter().max().copied(),
                    receipts.windows(2).map(|two| two[1] - two[0]).max(),
                    Some(changes),
                ]
            });
            let found = mark.flows().next().map(|(_, figures)| {
                assert_eq!(figures.answered, receipts.len() as u64);
                assert_eq!(figures.answered + figures.unanswered, passes.len() as u64);
                [0, 1, 2, 3].map(|index| figures.get(MarkMetric::ALL[index]))
            });
            assert_eq!(found, expected, "seed {seed}, mark {index}, {pings:?}");
        }
    }
}
