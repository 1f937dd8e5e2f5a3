//! The trace as lines of JSON, compared with what `-v` tells and with the report.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Lab, TAP_REACTOR};

fn lines(text: &str) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(line).collect()
}

fn count(lines: &[Value], kind: &str) -> u64 {
    lines.iter().filter(|line| line["kind"] == kind).count() as u64
}

#[test]
fn the_trace_has_the_events_that_are_told_and_counted() {
    let lab = Lab::new();
    for fabric in [
        "--fabric bridge --netns host",
        "--fabric xdp --netns host",
        "--fabric sim --seed 7 --impair loss=5%,duplicate=5% --timeout 30ms",
    ] {
        let folder = TempDir::new().expect("make a temporary directory");
        let file = folder.path().join("events.jsonl");
        let run = lab.tap_reactor(&format!(
            "{fabric} --vms 4 --ping ring --count 40 --interval 1ms -v --json --trace {}",
            file.display()
        ));
        let events = lines(&fs::read_to_string(&file).expect("a trace"));
        let report = run.json();
        for (kind, total) in [
            ("ping_sent", "sent"),
            ("ping_answered", "received"),
            ("ping_lost", "lost"),
            ("ping_duplicate", "duplicate"),
        ] {
            assert_eq!(
                Some(count(&events, kind)),
                report["totals"][total].as_u64(),
                "{kind}"
            );
        }
        // An event is told behind its VM and three spaces, a start and why a ping failed in words.
        let told = run.stderr.lines().filter(|line| {
            let rest = line
                .trim_start()
                .split_once("  vm")
                .map_or("", |(_, rest)| rest);
            let behind = rest.trim_start_matches(|it: char| it.is_ascii_digit());
            ["   ", " starts", " ping "]
                .iter()
                .any(|start| behind.starts_with(start))
        });
        let untold = count(&events, "ping_sent");
        assert_eq!(
            events.len() as u64 - untold,
            told.count() as u64,
            "{fabric}"
        );
        assert_eq!(report["recordings"][0]["records"], events.len() as u64);
        assert!(events.is_sorted_by_key(|event| event["time_ns"].as_u64()));
        let first = events.iter().find(|event| event["kind"] == "ping_answered");
        let first = first.expect("an answered ping");
        assert!(first["rtt_ns"].as_u64() > Some(0), "{first}");
        let number = first["flow"].as_u64().expect("the number of a flow");
        assert_eq!(first["vm"], format!("vm{number}"));
        assert_eq!(first["dst"], format!("vm{}", (number + 1) % 4));
    }
}

#[test]
fn a_trace_is_read_live_on_standard_output() {
    let lab = Lab::new();
    let run = format!("{TAP_REACTOR} --netns host --ping vm0:vm1 --count 3 --trace -");
    let whole = lab
        .run(&["sh", "-c", &format!("{run} | cat")])
        .expect_status(0);
    assert_eq!(count(&lines(&whole.stdout), "ping_answered"), 3);
    assert!(whole.stderr.contains("3 sent, 3 received"), "{whole:?}");
    let both = lab.run(&["sh", "-c", &format!("{run} --capture - | cat")]);
    let expected =
        "tap-reactor: --trace -: something else is written there; expected another file\n";
    assert_eq!(both.stderr, expected);
}
