use super::*;
use crate::record::{Limits, Place, Recorder};
use crate::report::{Context, csv, fixtures, html, json, merge as merge_reports, parse, text};
use crate::time::Instant;
use crate::vm::{PingError, VmId};

/// A run with losses of several causes, of two flows.
fn report() -> Report {
    let mut recorder = Recorder::new(Limits::default());
    recorder.add_flow();
    recorder.add_flow();
    let at = Instant::from_nanos;
    recorder.begin_phase("", at(0));
    let full = Attribution::of(Cause::QueueFull, Way::Request, Place::Vm(VmId(1)));
    let impaired = Attribution::of(Cause::Impaired, Way::Reply, Place::Vm(VmId(0)));
    for sequence in 0..10 {
        let due = at(sequence);
        let flow = FlowId(u32::from(sequence > 7));
        recorder.echo_sent(flow, due, due, due);
        recorder.lost(flow, sequence, due, at(1_000));
        let to = match sequence {
            0..5 => full,
            5 => impaired,
            6 => Attribution::LATE,
            _ => Attribution::UNKNOWN,
        };
        recorder.attribute(flow, due, Attribution::UNKNOWN, to);
    }
    let error = PingError::HostUnreachable;
    recorder.errored(FlowId(1), 10, at(10), error, at(1_000));
    recorder.unsent(2);
    recorder.set_loss_method(LossMethod::Counters, "not root".to_owned());
    Report::new(&recorder, &Context::default())
}

fn texts(report: &Report) -> (String, String, String) {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    };
    (
        written(&|out| text(report, out, 80).unwrap()),
        written(&|out| html(report, out).unwrap()),
        written(&|out| csv(report, out).unwrap()),
    )
}

#[test]
fn the_document_has_a_row_for_each_cause_and_the_sums_are_those_of_the_totals() {
    let report = report();
    let rows: Vec<_> = report
        .losses
        .iter()
        .map(|row| (row.cause, row.place.as_str(), row.direction, row.count))
        .collect();
    let expected = [
        (Cause::QueueFull, "vm1", Way::Request, 5),
        (Cause::Unknown, "unknown", Way::Unknown, 3),
        (Cause::Unsent, "tool", Way::Request, 2),
        (Cause::Impaired, "vm0", Way::Reply, 1),
        (Cause::Reported, "unknown", Way::Unknown, 1),
        (Cause::Late, "unknown", Way::Unknown, 1),
    ];
    assert_eq!(rows, expected);
    let sum: u64 = report.losses.iter().map(|row| row.count).sum();
    assert_eq!(sum, report.totals.failed() + report.totals.unsent);
    for flow in &report.flows {
        let sum: u64 = flow.losses.iter().map(|row| row.count).sum();
        assert_eq!(sum, flow.totals.failed(), "{flow:?}");
    }
    let mut out = Vec::new();
    json(&report, &mut out).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let first = serde_json::json!(
        {"cause": "queue_full", "place": "vm1", "direction": "request", "count": 5}
    );
    assert_eq!(document["losses"][0], first);
    assert_eq!(document["losses"][4]["reason"], "host_unreachable");
    let search = serde_json::json!({"method": "counters", "why": "not root"});
    assert_eq!(document["loss_attribution"], search);
    let read = parse("report.json".as_ref(), &out).unwrap();
    assert_eq!(read, report);
}

#[test]
fn text_page_and_table_tell_every_row_and_how_it_was_found() {
    let report = report();
    let (text, page, table) = texts(&report);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    for told in [
        "queue of the destination full request vm1 5",
        "unknown unknown unknown 3",
        "reported undeliverable unknown unknown 1 host_unreachable",
        "found by elimination, from counters and the states of ports (not root)",
        "5 queue of the destination full (request, vm1); 1 impaired on purpose (reply, vm0); 1 answered too late; 1 otherwise",
    ] {
        assert!(words.contains(told), "{told}\n{text}");
    }
    for told in [
        "<h2>Lost pings</h2>",
        "queue of the destination full",
        "not root",
    ] {
        assert!(page.contains(told), "{told}");
    }
    let mut reader = ::csv::Reader::from_reader(table.as_bytes());
    let columns = reader.headers().unwrap().clone();
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cell = |row: &::csv::StringRecord, name: &str| {
        let at = columns.iter().position(|column| column == name).unwrap();
        row[at].to_owned()
    };
    let of = |kind: &str| -> Vec<&::csv::StringRecord> {
        rows.iter().filter(|row| &row[0] == kind).collect()
    };
    assert_eq!(of("loss").len(), report.losses.len());
    let of_flows: usize = report.flows.iter().map(|flow| flow.losses.len()).sum();
    assert_eq!(of("flow_loss").len(), of_flows);
    let first = of("loss")[0];
    let names = ["loss_cause", "loss_direction", "loss_place", "loss_count"];
    let cells = names.map(|name| cell(first, name));
    assert_eq!(cells, ["queue_full", "request", "vm1", "5"]);
}

#[test]
fn a_run_without_failed_pings_says_nothing_of_losses() {
    let mut report = fixtures::report();
    report.losses.clear();
    report.flows.iter_mut().for_each(|flow| flow.losses.clear());
    let (text, page, table) = texts(&report);
    assert!(!text.contains("lost pings"), "{text}");
    assert!(!page.contains("Lost pings"));
    assert!(!table.contains("\nloss,"));
}

#[test]
fn merged_runs_have_the_sums_of_theirs() {
    let one = report();
    let merged = merge_reports(&[one.clone(), one.clone()]).unwrap();
    let counts =
        |report: &Report| -> Vec<u64> { report.losses.iter().map(|row| row.count).collect() };
    let doubled: Vec<u64> = counts(&one).iter().map(|count| 2 * count).collect();
    assert_eq!(counts(&merged), doubled);
    assert_eq!(merged.loss_attribution, one.loss_attribution);
    for flow in &merged.flows {
        let sum: u64 = flow.losses.iter().map(|row| row.count).sum();
        assert_eq!(sum, flow.totals.failed());
    }
    let mut other = one.clone();
    other.loss_attribution.as_mut().unwrap().method = LossMethod::Tracepoints;
    let merged = merge_reports(&[one, other]).unwrap();
    assert_eq!(merged.loss_attribution, None);
}

#[test]
fn causes_can_be_expected() {
    let report = report();
    for (text, holds) in [
        ("losses.unknown=3", true),
        ("losses.unknown=0", false),
        ("losses.queue_full<=5", true),
        ("losses.in_bridge=0", true),
    ] {
        let outcome = text
            .parse::<crate::report::Expectation>()
            .unwrap()
            .check(&report);
        assert_eq!(outcome.holds, holds, "{outcome}");
    }
    let error = "losses.gremlins=0".parse::<crate::report::Expectation>();
    assert!(error.unwrap_err().to_string().contains("losses.CAUSE"));
}

#[test]
fn a_run_that_lost_nothing_says_so() {
    let mut recorder = Recorder::new(Limits::default());
    recorder.add_flow();
    recorder.begin_phase("", Instant::ZERO);
    let at = Instant::from_nanos;
    recorder.echo_sent(FlowId(0), at(1), at(1), at(1));
    recorder.answered(FlowId(0), 0, at(1), at(1), at(2));
    let report = Report::new(&recorder, &Context::default());
    let merged = merge_reports(&[report.clone(), report.clone()]).unwrap();
    for report in [report, merged] {
        let mut out = Vec::new();
        json(&report, &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(document["losses"], serde_json::json!([]));
        assert_eq!(parse("a.json".as_ref(), &out).unwrap(), report);
    }
}
