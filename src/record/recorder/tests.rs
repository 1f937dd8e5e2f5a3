use super::*;

const FLOW: FlowId = FlowId(0);

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn with_flows(flows: usize) -> Recorder {
    let mut recorder = Recorder::new(Limits::default());
    (0..flows).for_each(|_| recorder.add_flow());
    recorder
}

/// One ping, answered.
fn ping(recorder: &mut Recorder, flow: FlowId, sequence: u64, times: [u64; 3]) {
    let [due, sent, received] = times.map(at);
    recorder.echo_sent(flow, due, due, sent);
    recorder.answered(flow, sequence, due, sent, received);
}

#[test]
fn the_three_times_of_a_ping_make_three_histograms() {
    let mut recorder = with_flows(1);
    ping(&mut recorder, FLOW, 0, [1_000, 1_030, 1_500]);
    let run = recorder.run();
    assert_eq!(run.rtt().summary().max, Some(470));
    assert_eq!(run.response().summary().max, Some(500));
    assert_eq!(run.lateness().summary().max, Some(30));
    assert_eq!(recorder.latency(Metric::First).summary().max, Some(470));
    assert!(recorder.latency(Metric::Resolution).is_empty() && run.lag().is_empty());
}

#[test]
fn only_the_first_ping_of_each_flow_is_in_first() {
    let mut recorder = with_flows(2);
    for sequence in 0..10 {
        let due = sequence * 1_000;
        ping(
            &mut recorder,
            FLOW,
            sequence,
            [due, due, due + 100 + sequence],
        );
        ping(
            &mut recorder,
            FlowId(1),
            sequence,
            [due, due, due + 300 + sequence],
        );
    }
    let first = recorder.latency(Metric::First).summary();
    assert_eq!(
        (first.count, first.min, first.max),
        (2, Some(100), Some(300))
    );
}

#[test]
fn the_second_ping_does_not_stand_in_for_a_first_one_that_was_lost() {
    let mut recorder = with_flows(1);
    recorder.echo_sent(FLOW, at(0), at(0), at(0));
    recorder.lost(FLOW, 0, at(0), at(500));
    ping(&mut recorder, FLOW, 1, [1_000, 1_000, 1_100]);
    assert!(recorder.latency(Metric::First).is_empty());
}

#[test]
fn the_time_of_a_closed_loop_is_from_its_first_due_time_to_its_last_reply_and_waiting_is_told_apart()
 {
    type Events = fn(&mut Recorder);
    let table: [(&str, (u64, u64), Events); 5] = [
        ("nothing", (0, 0), |_| {}),
        ("answered", (360, 0), |r| ping(r, FLOW, 0, [90, 100, 450])),
        ("lost", (0, 1_000), |r| {
            r.echo_sent(FLOW, at(100), at(100), at(100));
            r.lost(FLOW, 0, at(100), at(1_100));
        }),
        ("unresolved after a reply", (350, 550), |r| {
            ping(r, FLOW, 0, [100, 100, 450]);
            r.unresolved(FLOW, 0, at(200), at(1_000));
        }),
        ("a reply that overtook", (500, 0), |r| {
            r.echo_sent(FLOW, at(0), at(0), at(0));
            ping(r, FLOW, 1, [10, 10, 500]);
            r.answered(FLOW, 0, at(0), at(0), at(400));
        }),
    ];
    for (name, times, events) in table {
        let mut recorder = with_flows(1);
        events(&mut recorder);
        let run = recorder.run();
        assert_eq!((run.elapsed(), run.waited()), times, "{name}");
    }
}

#[test]
fn the_time_of_an_open_loop_is_its_schedules_whatever_becomes_of_the_last_ping() {
    let mut recorder = with_flows(1);
    for (name, begin, reply) in [("lost", 1_000, None), ("answered", 2_000, Some(2_930))] {
        recorder.begin_phase(name, at(begin));
        for due in [begin, begin + 500] {
            recorder.echo_sent(FLOW, at(due), at(due), at(due));
        }
        recorder.busy(100);
        recorder.answered(FLOW, 0, at(begin), at(begin), at(begin + 10));
        recorder.end_schedule(Some(at(begin + 1_000)));
        recorder.busy(70);
        // Once over, it stays as it was.
        recorder.end_schedule(Some(at(begin + 1_500)));
        match reply {
            Some(received) => {
                recorder.answered(FLOW, 1, at(begin + 500), at(begin + 500), at(received));
            }
            None => recorder.lost(FLOW, 0, at(begin + 500), at(begin + 5_500)),
        }
    }
    let told: Vec<_> = recorder
        .phases()
        .iter()
        .map(|phase| (phase.elapsed(), phase.waited(), phase.work().busy))
        .collect();
    assert_eq!(told, [(1_000, 4_500, 100), (1_000, 0, 100)]);
    let run = recorder.run();
    assert_eq!((run.elapsed(), run.waited()), (2_000, 4_500));
    assert_eq!((run.work().busy, run.work().busy_after), (200, 140));
}

#[test]
fn an_rtt_across_a_pause_is_flagged() {
    let pause = |from, to| Pause {
        from: at(from),
        to: at(to),
        nanos: to - from,
        run_delay: 30,
        writing: 0,
        answering: 0,
    };
    let mut recorder = with_flows(1);
    ping(&mut recorder, FLOW, 0, [100, 100, 150]);
    recorder.paused(pause(200, 300));
    recorder.paused(pause(500, 900));
    // Before, across, at the edges, and after.
    ping(&mut recorder, FLOW, 1, [400, 400, 500]);
    ping(&mut recorder, FLOW, 2, [480, 490, 910]);
    ping(&mut recorder, FLOW, 3, [900, 900, 940]);
    recorder.echo_sent(FLOW, at(499), at(499), at(499));
    recorder.lost(FLOW, 0, at(499), at(1_500));
    let run = recorder.run();
    assert_eq!((run.totals().received, run.totals().lost), (4, 1));
    assert_eq!(run.rtt().count(), 4, "every ping answered has its rtt");
    let paused = recorder.latency(Metric::Paused).summary();
    assert_eq!((paused.count, paused.max), (1, Some(420)));
    let pauses = Pauses {
        count: 2,
        total_ns: 500,
        longest_ns: 400,
        run_delay_ns: 60,
        writing_ns: 0,
        answering_ns: 0,
        lost: 1,
    };
    assert_eq!(*recorder.pauses(), pauses);
}

#[test]
fn each_event_counts_once_in_its_flow_and_in_the_run() {
    let mut recorder = with_flows(2);
    recorder.echo_sent(FLOW, at(0), at(0), at(0));
    recorder.echo_sent(FLOW, at(1), at(1), at(1));
    recorder.echo_sent(FLOW, at(2), at(2), at(2));
    recorder.answered(FLOW, 0, at(0), at(0), at(10));
    recorder.duplicate(FLOW, at(11));
    recorder.lost(FLOW, 0, at(1), at(20));
    recorder.late(FLOW, at(21));
    recorder.corrupt(FLOW, 0, at(2), at(22));
    recorder.unresolved(FlowId(1), 0, at(3), at(30));
    let flow = Totals {
        sent: 3,
        received: 1,
        lost: 1,
        duplicate: 1,
        late: 1,
        corrupt: 1,
        ..Totals::default()
    };
    assert_eq!(*recorder.flows()[0].totals(), flow);
    assert_eq!(recorder.flows()[1].totals().unresolved, 1);
    assert_eq!(
        recorder.totals(),
        Totals {
            unresolved: 1,
            ..flow
        }
    );
}

#[test]
fn a_reply_that_was_overtaken_is_reordered() {
    let table: [(&[u64], u64); 5] = [
        (&[0, 1, 2, 3], 0),
        (&[7, 8, 9], 0),
        (&[0, 2, 1, 3], 1),
        (&[3, 2, 1, 0], 3),
        (&[0, 65_535, 65_536, 131_072], 0),
    ];
    for (order, reordered) in table {
        let mut recorder = with_flows(1);
        for &sequence in order {
            ping(&mut recorder, FLOW, sequence, [0, 0, 1]);
        }
        assert_eq!(recorder.totals().reordered, reordered, "{order:?}");
        assert_eq!(recorder.totals().received, order.len() as u64);
    }
}

#[test]
fn a_ping_belongs_to_the_phase_in_which_it_was_due() {
    let mut recorder = with_flows(1);
    recorder.begin_phase("slow", at(0));
    recorder.echo_sent(FLOW, at(900), at(900), at(900));
    recorder.echo_sent(FLOW, at(950), at(950), at(950));
    recorder.begin_phase("fast", at(1_000));
    ping(&mut recorder, FLOW, 2, [1_000, 1_000, 1_010]);
    recorder.answered(FLOW, 0, at(900), at(900), at(1_900));
    recorder.lost(FLOW, 0, at(950), at(1_950));
    let phases = recorder.phases();
    let told: Vec<_> = phases
        .iter()
        .map(|phase| {
            let totals = phase.totals();
            (
                phase.name(),
                totals.sent,
                totals.received,
                totals.lost,
                phase.elapsed(),
            )
        })
        .collect();
    assert_eq!(told, [("slow", 2, 1, 1, 1_000), ("fast", 1, 1, 0, 10)]);
    assert_eq!(phases[0].rtt().summary().max, Some(1_000));
    assert_eq!(recorder.run().elapsed(), 1_010);
    assert_eq!(recorder.run().rtt().count(), 2);
}

#[test]
fn a_phase_in_which_nothing_was_sent_is_one_nevertheless() {
    let mut recorder = with_flows(1);
    recorder.lag(7);
    recorder.begin_uncounted("warm-up", at(0));
    recorder.begin_phase("idle", at(100));
    recorder.begin_phase("idle again", at(200));
    ping(&mut recorder, FLOW, 0, [250, 250, 260]);
    recorder.begin_phase("the end", at(300));
    let phases = recorder.phases().iter();
    let told: Vec<_> = phases
        .map(|phase| {
            (
                phase.name(),
                phase.counted(),
                phase.totals().sent,
                phase.lag().count(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("warm-up", false, 0, 1),
            ("idle", true, 0, 0),
            ("idle again", true, 1, 0),
            ("the end", true, 0, 0)
        ]
    );
}

#[test]
fn a_warm_up_is_not_counted() {
    let mut recorder = with_flows(1);
    recorder.begin_uncounted("warm-up", at(0));
    recorder.echo_sent(FLOW, at(0), at(0), at(0));
    ping(&mut recorder, FLOW, 1, [10, 10, 5_000]);
    recorder.begin_phase("", at(1_000));
    ping(&mut recorder, FLOW, 2, [1_000, 1_000, 1_100]);
    recorder.lost(FLOW, 0, at(0), at(9_000));
    let one = Totals {
        sent: 1,
        received: 1,
        ..Totals::default()
    };
    assert_eq!(recorder.totals(), one);
    assert_eq!(*recorder.flows()[0].totals(), one);
    assert_eq!(recorder.run().elapsed(), 100);
    assert_eq!(recorder.latency(Metric::First).summary().max, Some(100));
    assert_eq!(recorder.phases()[0].totals().lost, 1);
}

#[test]
fn flows_keep_histograms_only_while_they_are_few() {
    let few = Limits::default().flow_histograms;
    for (flows, kept) in [(1, true), (few, true), (few + 1, false), (few * 2, false)] {
        let recorder = with_flows(flows);
        assert!(
            recorder
                .flows()
                .iter()
                .all(|flow| flow.rtt().is_some() == kept),
            "{flows} flows"
        );
    }
}

#[test]
fn an_event_of_a_flow_that_was_never_added_still_counts_for_the_run() {
    let mut recorder = with_flows(0);
    ping(&mut recorder, FlowId(7), 0, [0, 0, 9]);
    assert_eq!(recorder.totals().received, 1);
}

#[test]
fn the_reactors_work_is_summed_over_the_phases() {
    let mut recorder = with_flows(1);
    for begin in [0, 1_000] {
        recorder.begin_phase("part", at(begin));
        ping(&mut recorder, FLOW, 0, [begin, begin, begin + 10]);
        recorder.turn();
        recorder.frame_in();
        recorder.frame_out();
        recorder.busy(40);
        recorder.spun(30);
        recorder.lag(5);
    }
    let work = Work {
        turns: 2,
        frames_in: 2,
        frames_out: 2,
        busy: 80,
        busy_after: 0,
        spin: 60,
    };
    assert_eq!(recorder.work(), work);
    assert_eq!(recorder.run().lag().count(), 2);
}

#[test]
fn the_seconds_hold_every_ping_that_counts_and_no_other() {
    let mut recorder = with_flows(1);
    let second = 1_000_000_000;
    recorder.begin_uncounted("warm-up", at(0));
    ping(&mut recorder, FLOW, 0, [0, 0, 10]);
    recorder.begin_phase("", at(second));
    for sequence in 0..10 {
        let due = second + sequence * second / 4;
        ping(
            &mut recorder,
            FLOW,
            1 + sequence,
            [due, due + 20, due + 120],
        );
    }
    recorder.echo_sent(FLOW, at(4 * second), at(4 * second), at(4 * second));
    recorder.lost(FLOW, 0, at(4 * second), at(5 * second));
    let told: Vec<_> = recorder
        .closed_intervals()
        .iter()
        .cloned()
        .chain(recorder.open_interval())
        .map(|i| (i.start / second, i.sent, i.received, i.failed))
        .collect();
    assert_eq!(
        told,
        [(0, 4, 4, 0), (1, 4, 4, 0), (2, 3, 2, 0), (3, 0, 0, 1)]
    );
}

#[test]
fn parts_of_the_ranking_of_flows_follow_one_another() {
    let mut recorder = with_flows(50);
    let lost = |flow: u32| (flow * 7) % 5;
    for flow in 0..50 {
        (0..lost(flow)).for_each(|_| recorder.lost(FlowId(flow), 0, at(0), at(9)));
    }
    let mut expected: Vec<u32> = (0..50).collect();
    expected.sort_by_key(|flow| (std::cmp::Reverse(lost(*flow)), *flow));
    for size in [1, 7, 25, 50, 51, usize::MAX] {
        let begins = (0..=50_usize).step_by(size.min(51));
        let ranking =
            begins.flat_map(|begin| recorder.worst_flows(begin..begin.saturating_add(size)));
        assert_eq!(
            ranking.map(|flow| flow.0).collect::<Vec<_>>(),
            expected,
            "{size}"
        );
    }
    assert_eq!(recorder.worst_flows(usize::MAX..usize::MAX), []);
}
