use super::*;
use crate::load::FlowId;
use crate::record::{DropReason, Limits, Recorder};
use crate::report::{Context, FlowName, fixtures};
use crate::time::Instant;

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

/// `flows` flows of `pings` pings each, all answered, flow i after 8 µs and i times 10 ns.
fn report(flows: u32, pings: u64, also: fn(&mut Recorder)) -> Report {
    let mut recorder = Recorder::new(Limits::default());
    (0..flows).for_each(|_| recorder.add_flow());
    for sequence in 0..pings {
        for flow in 0..flows {
            let due = sequence * 10_000_000;
            let rtt = 8_000 + u64::from(flow) * 10 + sequence * 40;
            recorder.echo_sent(FlowId(flow), at(due), at(due), at(due + 55_000));
            let received = at(due + 55_000 + rtt);
            recorder.answered(FlowId(flow), sequence, at(due), at(due + 55_000), received);
        }
    }
    also(&mut recorder);
    let flows: Vec<_> = (0..flows)
        .map(|flow| FlowName {
            src: format!("vm{flow}"),
            dst: format!("vm{}", flow + 1),
            address: Some(format!("10.77.0.{}", flow + 3)),
            ..FlowName::default()
        })
        .collect();
    let context = Context {
        setup_ns: 23_100_000,
        flows: &|index| flows.get(index).cloned(),
        ..Context::default()
    };
    Report::new(&recorder, &context)
}

fn told(report: &Report) -> String {
    let mut out = Vec::new();
    text(report, &mut out, 80).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_flow_is_summed_up_as_ping_does() {
    let text = told(&report(1, 100, |_| {}));
    let line = "vm0 → vm1 (10.77.0.3): 100 sent, 100 received, 0 % lost, \
                rtt min/mean/max/stdev = 8.00/9.98/12.0/1.16 µs";
    assert_eq!(text.lines().next(), Some(line), "{text}");
    assert!(text.contains("100 pings answered in 990 ms (101/s); the lab was set up in 23.1 ms"));
}

#[test]
fn a_run_that_ended_before_a_ping_was_followed_says_so_without_a_table() {
    let mut report = fixtures::whole();
    report.path_split.as_mut().unwrap().pings = 0;
    let text = told(&report);
    assert!(
        text.contains("\nNo ping was followed to its end after the run"),
        "{text}"
    );
    assert!(!text.contains("copy-in"), "{text}");
}

#[test]
fn no_line_of_figures_is_wider_than_asked_for() {
    let text = told(&report(30, 1_000, |_| {}));
    let widest = text.lines().skip(12).map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{text}");
}

#[test]
fn of_many_flows_only_the_worst_are_told() {
    let text = told(&report(30, 2, |recorder| {
        recorder.echo_sent(FlowId(3), at(0), at(0), at(0));
        recorder.lost(FlowId(3), 0, at(0), at(1_000_000_000));
    }));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "30 flows, 29 of them without loss; the worst 10:");
    assert!(lines[1].starts_with("vm3 → vm4"), "{text}");
    assert_eq!(lines[2], "  not received: 1 unknown");
    assert!(lines[3].starts_with("vm29 → vm30"), "{text}");
    assert_eq!(text.matches(" → ").count(), 10);
}

#[test]
fn what_did_not_happen_is_not_told() {
    let text = told(&report(1, 10, |_| {}));
    for absent in [
        "duplicate",
        "late,",
        "dropped",
        "Interrupted",
        "resolution",
        "phase",
        "lag",
    ] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
}

#[test]
fn what_happened_is_told() {
    let mut report = report(1, 10, |recorder| {
        recorder.duplicate(FlowId(0), at(0));
        recorder.dropped_many(DropReason::Ipv6Ignored, 1_234);
        recorder.dropped_many(DropReason::TapQueue, 5);
        recorder.resolved(14_000);
    });
    report.interrupted = true;
    let text = told(&report);
    for present in [
        "1 duplicate",
        "ipv6_ignored                 1,234",
        "Interrupted",
        "5 frames overflowed the queue of a port",
    ] {
        assert!(text.contains(present), "{present}: {text}");
    }
    let is_row = |line: &str| line.split_whitespace().take(2).eq(["resolution", "1"]);
    assert!(text.lines().any(is_row), "{text}");
}

#[test]
fn columns_of_marks_stand_apart_however_long_their_cells_are() {
    for (flows, passed) in [(1, 1), (200, 200), (9_759, 9_747), (1_000_000, 999_999)] {
        let mut report = fixtures::whole();
        let [mark] = report.marks.as_mut_slice() else {
            panic!("one mark");
        };
        (mark.flow_count, mark.passed) = (flows, passed);
        let told = told(&report);
        let mut lines = told.lines().skip_while(|line| !line.starts_with("mark "));
        let (heading, row) = (lines.next().unwrap(), lines.next().unwrap());
        let cells: Vec<_> = row.split("  ").filter(|cell| !cell.is_empty()).collect();
        let passed = format!("{} of {}", count(passed), count(flows));
        assert_eq!(cells.len(), 1 + MARK_COLUMNS.len() + 1, "{row}");
        assert_eq!(cells[2].trim(), passed, "{row}");
        // The heading ends where the cells do.
        let end = |line: &str, cell: &str| {
            let at = line.find(cell).unwrap() + cell.len();
            line[..at].chars().count()
        };
        assert_eq!(end(heading, "passed"), end(row, &passed), "{told}");
    }
}

#[test]
fn each_phase_has_its_line() {
    let text = told(&report(1, 10, |recorder| {
        for (step, name) in ["1,000/s", "20,000/s"].into_iter().enumerate() {
            let begin = 1_000_000_000 * (1 + step as u64);
            recorder.begin_phase(name, at(begin));
            recorder.echo_sent(FlowId(0), at(begin), at(begin), at(begin));
            recorder.lost(FlowId(0), 0, at(begin), at(begin + 1_000_000));
        }
    }));
    assert!(
        text.lines().any(|line| line.starts_with("20,000/s")),
        "{text}"
    );
    assert!(text.contains("100 %"), "{text}");
}

#[test]
fn the_histogram_holds_every_ping() {
    let text = told(&report(1, 1_000, |_| {}));
    let bars = text.lines().filter(|line| line.contains('│'));
    let counted: u64 = bars
        .filter_map(|line| {
            let figures = line.trim_end_matches(" %").trim_end();
            let mut words = figures.split_whitespace().rev();
            words.next();
            words.next()?.parse::<u64>().ok()
        })
        .sum();
    assert_eq!(counted, 1_000, "{text}");
}

#[test]
fn expectations_are_told_with_their_verdicts() {
    let mut report = report(1, 10, |_| {});
    assert!(!report.expect(&["p99<1ms".parse().unwrap(), "sent>10".parse().unwrap()]));
    let text = told(&report);
    let last: Vec<_> = text.lines().rev().take(2).collect();
    assert_eq!(last[1], "expected p99<1ms: holds, found 8.36 µs");
    assert_eq!(last[0], "expected sent>10: FAILS, found 10");
    report.shortcomings = Some(vec!["SIGINT\u{1b} came".to_owned()]);
    let text = told(&report);
    let last = text.lines().next_back();
    assert_eq!(last, Some("The run is not complete: SIGINT\\u{1b} came"));
}

#[test]
fn a_run_without_pings_makes_a_report_too() {
    let text = told(&report(0, 0, |_| {}));
    assert_eq!(
        text,
        "served: 0 frames in, 0 frames out; the lab was set up in 23.1 ms\n"
    );
}

#[test]
fn a_phase_of_a_disturbed_run_is_not_held_against_the_tool() {
    let mut phase = fixtures::phase();
    phase.verdict.limited_by_tool = true;
    for (disturbed, expected) in [(false, "(limited by the tool)"), (true, "(disturbed)")] {
        let mut report = fixtures::report();
        report.phases = vec![phase.clone(), phase.clone()];
        report.verdict.disturbed = disturbed;
        let mut told = Vec::new();
        text(&report, &mut told, 80).expect("memory takes all");
        let told = String::from_utf8(told).expect("text");
        assert_eq!(told.matches(expected).count(), 2, "{told}");
    }
}
