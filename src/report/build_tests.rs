use super::*;
use crate::load::FlowId;
use crate::record::{DropReason, Limits};
use crate::time::Instant;

fn sample() -> Report {
    let mut recorder = Recorder::new(Limits::default());
    recorder.add_flow();
    recorder.add_flow();
    for sequence in 0..100 {
        let at = |nanos: u64| Instant::from_nanos(sequence * 1_000_000 + nanos);
        recorder.echo_sent(FlowId(0), at(0), at(0), at(50_000));
        recorder.answered(FlowId(0), sequence, at(0), at(50_000), at(250_000));
        recorder.turn();
        recorder.frame_in();
        recorder.frame_out();
    }
    recorder.resolved(9_000);
    recorder.dropped(DropReason::UnknownEthertype);
    let flows = [
        FlowName {
            src: "vm0".to_owned(),
            dst: "vm1".to_owned(),
            address: Some("10.77.0.3".to_owned()),
        },
        FlowName {
            src: "vm0".to_owned(),
            dst: "10.77.0.1".to_owned(),
            address: None,
        },
    ];
    let context = Context {
        run: "--vms 2 --ping vm0:vm1",
        started_unix_ms: Some(1_700_000_000_000),
        setup_ns: 23_000_000,
        interrupted: false,
        flows: &|index| flows.get(index).cloned(),
        ..Context::default()
    };
    Report::new(&recorder, &context)
}

#[test]
fn the_json_document_has_the_fields_that_scripts_read() {
    let json = serde_json::to_value(sample()).unwrap();
    for (path, value) in [
        ("/schema", serde_json::json!(SCHEMA)),
        ("/interrupted", serde_json::json!(false)),
        ("/elapsed_ns", serde_json::json!(99_250_000)),
        ("/setup_ns", serde_json::json!(23_000_000)),
        ("/rate_per_s", serde_json::json!(1007.557)),
        ("/totals/sent", serde_json::json!(100)),
        ("/totals/corrupt", serde_json::json!(0)),
        ("/rtt_ns/p99_9", serde_json::json!(200_000)),
        ("/response_ns/p50", serde_json::json!(250_000)),
        ("/lateness_ns/mean", serde_json::json!(50_000)),
        ("/resolution_ns/count", serde_json::json!(1)),
        ("/first_ns/count", serde_json::json!(1)),
        ("/lag_ns/count", serde_json::json!(0)),
        ("/lag_ns/p50", serde_json::json!(null)),
        ("/flows/0/src", serde_json::json!("vm0")),
        ("/flows/0/rtt_ns/max", serde_json::json!(200_000)),
        ("/flows/1/totals/sent", serde_json::json!(0)),
        ("/drops", serde_json::json!({"unknown_ethertype": 1})),
        ("/reactor/turns", serde_json::json!(100)),
        ("/histograms/lag", serde_json::json!(null)),
        ("/histograms/rtt/max", serde_json::json!(200_000)),
        ("/seconds/0/received", serde_json::json!(100)),
        ("/seconds/0/length_ns", serde_json::json!(99_200_000)),
        ("/seconds/0/response_ns/p99", serde_json::json!(250_000)),
        ("/verdict/limited_by_tool", serde_json::json!(false)),
    ] {
        assert_eq!(json.pointer(path), Some(&value), "{path}");
    }
}

#[test]
fn a_saved_report_is_read_back_as_it_was() {
    let report = sample();
    let mut saved = Vec::new();
    super::super::json(&report, &mut saved).unwrap();
    let read: Report = serde_json::from_slice(&saved).unwrap();
    assert_eq!(
        serde_json::to_value(&read).unwrap(),
        serde_json::to_value(&report).unwrap()
    );
}

#[test]
fn an_undivided_run_has_no_phases() {
    assert!(sample().phases.is_empty());
}
