use super::*;
use crate::record::{Limits, Metric, Recorder};
use crate::report::{
    Builder, Context, Exposition, LabGauges, compare, compare_text, csv, hlog, html, merge,
    prometheus, text,
};

const MS: u64 = 1_000_000;

fn ms(ms: u64) -> Instant {
    Instant::from_nanos(ms * MS)
}

/// A recorder of so many flows, of which flow n pings once a millisecond from 10 ms on and passes from n ms after the mark at
/// 20 ms on, but the last one, which never passes. Another mark of the name follows at 100 ms, and pings end at 110 ms.
fn recorder(flows: u32) -> Recorder {
    let mut recorder = Recorder::new(Limits::default());
    (0..flows).for_each(|_| recorder.add_flow());
    let name = || "policy".parse().unwrap();
    recorder.mark(ms(20), name(), String::new(), || (0..flows).map(|_| 0));
    recorder.mark(ms(100), name(), "tap1 <went>".to_owned(), std::iter::empty);
    for flow in 0..flows {
        for (sequence, due) in (10..110).enumerate() {
            let is_open = flow + 1 < flows && due >= 20 + u64::from(flow);
            let sequence = sequence as u64;
            match is_open {
                true => recorder.answered_in_detail(
                    FlowId(flow),
                    sequence,
                    ms(due),
                    ms(due),
                    ms(due + 1),
                ),
                false => recorder.lost(FlowId(flow), sequence, ms(due), ms(due + 1)),
            }
        }
    }
    recorder
}

fn report(flows: u32) -> Report {
    let context = Context {
        began: Instant::from_nanos(10_000_000),
        flows: &|index| {
            Some(FlowName {
                src: format!("vm{index}"),
                dst: "vm9".to_owned(),
                ..FlowName::default()
            })
        },
        ..Context::default()
    };
    Report::new(&recorder(flows), &context)
}

#[test]
fn marks_are_told_in_slices_as_they_were_when_all_was_counted() {
    let name = |_| None;
    // Of an earlier mark all is prepared; if a ping of it ends after that, it is told anew.
    for (is_changed, in_slices) in [(false, 1), (true, 2)] {
        let mut recorder = recorder(MARK_FLOWS_TOLD as u32);
        let mut builder = Builder::default();
        while !builder.prepare(&recorder, &name) {}
        if is_changed {
            recorder.lost(FlowId(1), 100, ms(30), ms(31));
        }
        let context = Context::default();
        let told = Report::new(&recorder, &context);
        builder.count(&recorder, &context);
        recorder.lost(FlowId(0), 100, ms(30), ms(31));
        recorder.lost(FlowId(0), 101, ms(105), ms(106));
        let mut slices = 0;
        let report = loop {
            slices += 1;
            if let Some(report) = builder.complete(&name) {
                break report;
            }
        };
        assert_eq!(report.marks, told.marks);
        assert_eq!(report.marks[0].flow_count, MARK_FLOWS_TOLD as u64);
        let of_a_mark = MarkMetric::ALL.len() + MARK_FLOWS_TOLD / FLOWS;
        let expected = Metric::ALL.len() + in_slices * of_a_mark + 1;
        assert_eq!(slices, expected, "{is_changed}");
    }
}

#[test]
fn the_document_has_the_figures_of_each_mark_and_is_read_back() {
    let report = report(3);
    let [first, second] = report.marks.as_slice() else {
        panic!("two marks were set");
    };
    assert_eq!((first.at_ns, first.end_ns), (10 * MS, Some(90 * MS)));
    assert_eq!((second.at_ns, second.end_ns), (90 * MS, None));
    assert_eq!(second.detail.as_deref(), Some("tap1 <went>"));
    assert_eq!((first.flow_count, first.passed), (3, 2));
    assert_eq!(first.first_pass_ns.max, Some(2 * MS));
    assert_eq!(first.last_pass_ns.max, Some(80 * MS));
    assert_eq!((first.changes.max, second.changes.max), (Some(1), Some(0)));
    let a_third = |figure: Option<f64>| (figure.unwrap() - 1.0 / 3.0).abs() < 1e-9;
    assert!(a_third(first.changes.mean), "{:?}", first.changes);
    let stdev = first.changes.stdev.unwrap();
    assert!((stdev - 2f64.sqrt() / 3.0).abs() < 1e-9, "{stdev}");
    let told = &first.flows[1];
    assert_eq!(
        (told.src.as_str(), told.answered, told.unanswered),
        ("vm1", 79, 1)
    );
    assert_eq!(told.first_pass_ns, Some(2 * MS));
    assert_eq!(first.flows[2].first_pass_ns, None);
    let json = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
    let sum = Marks::named(&report, "policy").unwrap();
    assert_eq!(sum.latency(MarkMetric::FirstPass).count(), 4);
    assert!(Marks::named(&report, "other").is_none());
}

#[test]
fn of_many_flows_those_that_stand_out_are_told() {
    let flows = MARK_FLOWS_TOLD as u32 + 500;
    let report = report(flows);
    let told = &report.marks[0].flows;
    assert_eq!(told.len(), MARK_WORST_TOLD);
    let never = told.iter().filter(|flow| flow.answered == 0).count();
    assert_eq!(never, MARK_WORST_TOLD / 2, "half of them never passed");
    let last = |flow: &MarkFlowReport| flow.last_pass_ns == Some(80 * MS);
    assert_eq!(
        told.iter().filter(|flow| last(flow)).count(),
        MARK_WORST_TOLD / 2
    );
    assert_eq!(report.marks[0].flow_count, u64::from(flows));
}

#[test]
fn text_page_and_tables_tell_the_marks() {
    let report = report(3);
    let written = |write: fn(&Report, &mut Vec<u8>) -> std::io::Result<()>| {
        let mut out = Vec::new();
        write(&report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let told = written(|report, out| text(report, out, 80));
    let row = told.lines().find(|line| line.starts_with("policy"));
    let words: Vec<_> = row.unwrap().split_whitespace().collect();
    assert_eq!(
        words[..6],
        ["policy", "10.0", "ms", "2", "of", "3"],
        "{told}"
    );
    assert!(told.contains("(tap1 <went>)"), "{told}");
    let page = written(html);
    for part in [
        "<h2>Marks</h2>",
        "Histogram of the first pass",
        "tap1 &lt;went&gt;",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let table = written(csv);
    let mut reader = ::csv::Reader::from_reader(table.as_bytes());
    let rows: Vec<std::collections::HashMap<String, String>> =
        reader.deserialize().map(Result::unwrap).collect();
    let of_kind = |kind: &'static str| rows.iter().filter(move |row| row["kind"] == kind);
    let first = of_kind("mark").next().unwrap();
    for (column, cell) in [
        ("mark", "policy"),
        ("mark_at_ns", "10000000"),
        ("mark_flows", "3"),
        ("mark_passed", "2"),
        ("first_pass_max_ns", "2000000"),
        ("changes_max", "1"),
        ("rtt_count", ""),
    ] {
        assert_eq!(first[column], cell, "{column}");
    }
    assert!(first["changes_mean"].starts_with("0.333333"));
    assert_eq!(
        (of_kind("mark").count(), of_kind("mark_flow").count()),
        (2, 6)
    );
    let flow = of_kind("mark_flow").nth(1).unwrap();
    assert_eq!(
        (flow["src"].as_str(), flow["first_pass_p50_ns"].as_str()),
        ("vm1", "")
    );
    assert_eq!(flow["first_pass_max_ns"], "2000000");
    let log = written(hlog);
    assert_eq!(log.matches("Tag=mark.policy.first_pass,").count(), 2);
    assert_eq!(log.matches("Tag=mark.policy.longest_gap,").count(), 2);
}

#[test]
fn a_file_of_percentiles_has_those_of_all_marks_of_the_name() {
    let report = report(3);
    for (name, count) in [("first_pass", 4), ("changes", 6)] {
        let path = format!("a.mark.policy.{name}.hgrm");
        let mut out = Vec::new();
        let format = crate::report::Format::of(path.as_ref()).unwrap();
        format.write(&report, &mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        assert!(
            table.contains(&format!("Total count    = {count:12}]")),
            "{table}"
        );
    }
}

#[test]
fn a_file_of_percentiles_of_a_mark_that_was_never_set_is_refused() {
    let none = Report::new(&Recorder::new(Limits::default()), &Context::default());
    let (some, path) = (
        report(3),
        std::path::Path::new("a.mark.nosuch.changes.hgrm"),
    );
    let format = crate::report::Format::of(path).unwrap();
    for (report, said) in [
        (
            &some,
            "no mark nosuch was set; expected one that was: policy",
        ),
        (
            &none,
            "no mark nosuch was set; expected one that was, but there is none",
        ),
    ] {
        let error = format.check(report).unwrap_err();
        assert_eq!(error.to_string(), said);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(path);
    let file = crate::report::check_file(&path).unwrap();
    let error = crate::report::write_file(file, &some).unwrap_err();
    assert!(error.to_string().contains("no mark nosuch"), "{error}");
    assert!(!path.exists());
    for name in ["a.mark.policy.changes.hgrm", "a.hgrm", "a.json"] {
        let format = crate::report::Format::of(name.as_ref()).unwrap();
        format.check(&some).unwrap();
    }
}

#[test]
fn runs_are_merged_and_compared_mark_by_mark() {
    let (one, other) = (report(3), report(5));
    let merged = merge(&[one.clone(), other.clone()]).unwrap();
    assert_eq!(merged.marks.len(), 4);
    let many: Vec<Report> = (0..40).map(|_| one.clone()).collect();
    let merged = merge(&many).unwrap();
    assert_eq!((merged.marks.len(), merged.marks_untold), (MAX_MARKS, 16));
    let comparisons = compare(&[("a", &one), ("b", &other)]);
    let find = |figure: &str| {
        let all = comparisons[0].differences.iter();
        let mut found = all.filter(|each| each.figure == figure);
        found.next().map(|each| (each.before, each.after))
    };
    let [before, after] = [2.0, 4.0].map(|ms| Some(ms * MS as f64));
    assert_eq!(find("mark.policy.first_pass.max"), Some((before, after)));
    let mut out = Vec::new();
    compare_text(&comparisons, &mut out).unwrap();
    let told = String::from_utf8(out).unwrap();
    assert!(told.contains("mark.policy.first_pass.p50"), "{told}");
    let none = Report::new(&Recorder::new(Limits::default()), &Context::default());
    let comparisons = compare(&[("a", &none), ("b", &one)]);
    let named = comparisons[0].differences.iter();
    let named = named.filter(|each| each.figure.starts_with("mark.policy."));
    assert!(named.clone().count() == 11 && named.clone().all(|each| each.before.is_none()));
}

#[test]
fn scrapers_get_the_marks_and_first_passes_once_there_are_some() {
    let lab = LabGauges {
        vms: 0,
        rss_bytes: None,
        misbehaviours: Vec::new(),
        floods: None,
    };
    let page = |recorder: &Recorder| prometheus(recorder, &lab, Exposition::Prometheus);
    let told = page(&recorder(3));
    for line in [
        "tap_reactor_marks_total{mark=\"policy\"} 2",
        "tap_reactor_mark_first_pass_seconds_count{mark=\"policy\"} 4",
        "tap_reactor_mark_first_pass_seconds_bucket{mark=\"policy\",le=\"0.001\"} 3",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    assert!(!page(&Recorder::new(Limits::default())).contains("mark"));
}

#[test]
fn what_is_expected_of_marks_is_judged() {
    let check = |report: &Report, text: &str| {
        let expectation: crate::report::Expectation = text.parse().unwrap();
        expectation.check(report).to_string()
    };
    let report = report(3);
    for (text, line) in [
        ("mark.policy.first_pass.max<=2ms", "holds, found 2.00 ms"),
        ("mark.policy.first_pass.p99<1ms", "FAILS, found 2.00 ms"),
        ("mark.policy.passed=4", "holds, found 4"),
        ("mark.policy.flows=6", "holds, found 6"),
        ("mark.policy.marks=2", "holds, found 2"),
        ("mark.policy.changes<=1", "holds, found 1"),
        ("mark.policy.changes.min=0", "holds, found 0"),
        // One of six flows has a change, and the others have none.
        ("mark.policy.changes.mean<=0.4", "holds, found 0.167"),
        ("mark.policy.changes.mean=1", "FAILS, found 0.167"),
        ("mark.policy.changes.mean=0.167", "FAILS, found 0.1667"),
        ("mark.policy.changes.stdev>0.3", "holds, found 0.373"),
        ("mark.policy.longest_gap.max<1100us", "holds, found 1.00 ms"),
        ("mark.policy.last_pass.max<50ms", "FAILS, found 80.0 ms"),
        (
            "mark.other.passed>=0",
            "FAILS, found that no mark other was set",
        ),
    ] {
        assert_eq!(check(&report, text), format!("expected {text}: {line}"));
    }
    // Nothing passes: nothing leaks, and there is no first pass.
    let report = self::report(1);
    for (text, line) in [
        (
            "mark.policy.last_pass.max<10ms",
            "holds, found that nothing passed",
        ),
        ("mark.policy.first_pass.max<10ms", "FAILS, found no value"),
        ("mark.policy.passed=0", "holds, found 0"),
    ] {
        assert_eq!(check(&report, text), format!("expected {text}: {line}"));
    }
    for wrong in [
        "mark.policy<1ms",
        "mark.a b.first_pass.max<1ms",
        "mark.policy.first_pass<1ms",
        "mark.policy.rtt.p99<1ms",
        "mark..first_pass.p99<1ms",
    ] {
        let error = wrong.parse::<crate::report::Expectation>().unwrap_err();
        assert!(error.to_string().contains("mark.NAME"), "{error}");
    }
    for wrong in ["mark.policy.passed<1ms", "mark.policy.first_pass.p9<3"] {
        let error = wrong.parse::<crate::report::Expectation>().unwrap_err();
        assert!(error.to_string().contains("is no value"), "{error}");
    }
}
