use super::*;
use crate::load::FlowId;
use crate::record::{DropReason, Limits};
use crate::report::SCHEMA;
use crate::report::builder::FLOWS;
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
            ..FlowName::default()
        },
        FlowName {
            src: "vm0".to_owned(),
            dst: "10.77.0.1".to_owned(),
            address: None,
            ..FlowName::default()
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

#[test]
fn every_phase_that_was_planned_is_told_in_order_and_why_nothing_was_sent_in_some() {
    let planned = [
        ("warm-up", false),
        ("calm", true),
        ("idle", true),
        ("nobody", true),
        ("behind", true),
        ("last", true),
    ];
    let planned = planned.map(|(name, counted)| (name.to_owned(), counted));
    let context = Context {
        phases: &planned,
        ..Context::default()
    };
    let unbegun = Report::new(&Recorder::new(Limits::default()), &context);
    let names = |report: &Report| {
        report
            .phases
            .iter()
            .map(|phase| phase.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&unbegun), planned.clone().map(|(name, _)| name));
    assert!(
        unbegun
            .phases
            .iter()
            .all(|phase| phase.nothing_sent.as_deref() == Some("the run ended before it began"))
    );

    let mut recorder = Recorder::new(Limits::default());
    recorder.add_flow();
    let at = Instant::from_nanos;
    recorder.begin_uncounted("warm-up", at(0));
    recorder.begin_phase("calm", at(100));
    recorder.echo_sent(FlowId(0), at(150), at(150), at(150));
    recorder.answered(FlowId(0), 0, at(150), at(150), at(160));
    recorder.begin_phase("idle", at(200));
    recorder.begin_phase("nobody", at(300));
    recorder.unresolved(FlowId(0), 0, at(350), at(390));
    recorder.begin_phase("behind", at(400));
    recorder.unsent(3);
    let report = Report::new(&recorder, &context);
    assert_eq!(names(&report), names(&unbegun));
    let told: Vec<_> = report
        .phases
        .iter()
        .map(|phase| {
            (
                phase.counted,
                phase.totals.sent,
                phase.nothing_sent.as_deref(),
            )
        })
        .collect();
    let expected = [
        (false, 0, Some("no ping was due in it")),
        (true, 1, None),
        (true, 0, Some("no ping was due in it")),
        (true, 0, Some("there was no way to send 1 ping")),
        (true, 0, Some("3 due pings could not be sent in time")),
        (true, 0, Some("the run ended before it began")),
    ];
    assert_eq!(told, expected);

    let mut text = Vec::new();
    super::super::text(&report, &mut text, 80).unwrap();
    let mut page = Vec::new();
    super::super::html(&report, &mut page).unwrap();
    let mut table = Vec::new();
    super::super::csv(&report, &mut table).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    let [text, page, table] = [text, page, table].map(|bytes| String::from_utf8(bytes).unwrap());
    for (index, phase) in report.phases.iter().enumerate() {
        let why = phase.nothing_sent.as_deref().unwrap_or_default();
        for (told, first) in [(&text, ""), (&table, "phase,")] {
            let line = told
                .lines()
                .find(|line| line.starts_with(&format!("{first}{}", phase.name)));
            assert!(
                line.is_some_and(|line| line.contains(why)),
                "{}: {told}",
                phase.name
            );
        }
        assert!(
            page.contains(&format!("<td>{}</td>", phase.name)) && page.contains(why),
            "{page}"
        );
        let told = json["phases"][index]
            .get("nothing_sent")
            .and_then(|why| why.as_str());
        assert_eq!(told, phase.nothing_sent.as_deref());
    }
}

#[test]
fn a_ping_an_hour_is_a_rate() {
    let second = 1_000_000_000;
    for (events, elapsed, rate) in [
        (1, 0, 0.0),
        (0, second, 0.0),
        (1, 3_600 * second, 0.000_277_778),
        (1, 3 * second, 0.333_333_333),
        (1_000, 3 * second, 333.333),
    ] {
        assert_eq!(per_second(events, elapsed), rate, "{events} in {elapsed}");
    }
}

/// Pings that each of the flows below `flows` sends, half of which are lost.
fn ping(recorder: &mut Recorder, flows: u32, round: u64) {
    for flow in (0..flows).map(FlowId) {
        let at = |nanos| Instant::from_nanos(round * 1_000_000_000 + nanos);
        recorder.echo_sent(flow, at(0), at(0), at(50));
        match (u64::from(flow.0) + round) % 2 {
            0 => recorder.lost(flow, 0, at(0), at(90)),
            _ => recorder.answered(flow, round, at(0), at(50), at(80)),
        }
    }
}

#[test]
fn a_report_made_while_the_run_goes_on_has_the_counts_of_one_instant() {
    for (flows, told) in [(3_000, 3_001), (FLOWS_TOLD as u32 + 5, WORST_TOLD)] {
        let mut recorder = Recorder::new(Limits::default());
        (0..flows).for_each(|_| recorder.add_flow());
        ping(&mut recorder, flows, 0);
        let mut builder = Builder::default();
        let (mut slices, mut most) = (1, 0);
        let mut prepared = 0;
        while !builder.prepare(&recorder, &|_| None) {
            slices += 1;
            // A flow more, and intervals that end meanwhile.
            if slices == 5 {
                recorder.add_flow();
            }
            if slices < 8 {
                ping(&mut recorder, flows, slices);
            }
            let items = builder.flows.len() + builder.seconds.len();
            most = most.max(items.saturating_sub(prepared));
            prepared = items;
        }
        assert!((1..=FLOWS).contains(&most), "{most} items in a slice");
        builder.count(&recorder, &Context::default());
        // What happens from then on is not told.
        let totals = recorder.totals();
        let report = loop {
            ping(&mut recorder, flows, slices);
            if let Some(report) = builder.complete(&|_| None) {
                break report;
            }
        };
        assert_eq!(report.totals, totals);
        assert_eq!(report.flow_count, u64::from(flows) + 1);
        assert_eq!(report.flows.len(), told);
        let rtt = &report.histograms[Metric::Rtt];
        assert_eq!(rtt.count(), report.totals.received);
        let sum_of_seconds: u64 = report.seconds.iter().map(|second| second.received).sum();
        assert_eq!(sum_of_seconds, report.totals.received);
        let sum: Totals = report.flows.iter().map(|flow| flow.totals).sum();
        match told < WORST_TOLD + 1 {
            true => assert!(sum.lost > 0 && report.flows.iter().all(|flow| flow.totals.lost > 0)),
            false => assert_eq!(
                (sum.sent, sum.lost),
                (report.totals.sent, report.totals.lost)
            ),
        }
    }
}
