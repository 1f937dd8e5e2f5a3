use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::record::Metric;
use crate::report::{self, fixtures, json};

fn saved() -> String {
    let mut bytes = Vec::new();
    json(&fixtures::report(), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_saved_report_tells_the_same_as_before() {
    let read = parse(Path::new("a.json"), saved().as_bytes()).unwrap();
    let mut again = Vec::new();
    json(&read, &mut again).unwrap();
    assert!(String::from_utf8(again).unwrap() == saved());
}

#[test]
fn what_is_no_report_is_refused_by_name() {
    let table = [
        (String::new(), "a.json: not a report of this tool"),
        ("text".to_owned(), "a.json: not a report of this tool"),
        ("[1]".to_owned(), "a.json: not a report of this tool"),
        ("{}".to_owned(), "found JSON without a schema"),
        (
            saved().replace(SCHEMA, "tap-reactor/report/9"),
            "found \"tap-reactor/report/9\"",
        ),
        (
            saved().replace("\"sent\"", "\"send\""),
            "a.json: missing field `sent`",
        ),
        (
            saved().replace("HISTFAAA", "HISTGAAA"),
            "a.json: histogram: does not begin",
        ),
        (
            saved()[..saved().len() / 2].to_owned(),
            "a.json: not a report of this tool",
        ),
    ];
    for (text, wrong) in table {
        let error = parse(Path::new("a.json"), text.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load(Path::new("/no/such/run.json"))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("/no/such/run.json: "), "{error}");
}

/// Every number and every text of a document.
fn leaves<'a>(value: &'a mut Value, found: &mut Vec<&'a mut Value>) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| leaves(value, found)),
        Value::Object(fields) => fields.values_mut().for_each(|value| leaves(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(value),
    }
}

/// Makes everything of a report that can be made of one.
fn tell(report: &Report) {
    let mut out = Vec::new();
    report::text(report, &mut out, 80).unwrap();
    report::html(report, &mut out).unwrap();
    report::csv(report, &mut out).unwrap();
    report::hlog(report, &mut out).unwrap();
    report::hgrm(&report.histograms[Metric::Response], &mut out).unwrap();
    let sample = fixtures::report();
    let runs = [("a", report), ("b", &sample), ("c", report)];
    for number in 0..=runs.len() {
        let runs = &runs[runs.len() - number..];
        report::compare_html(runs, &mut out).unwrap();
        report::compare_text(&report::compare(runs), &mut out).unwrap();
    }
    let merged = report::merge(&[sample, report.clone(), report.clone()]).unwrap();
    report::html(&merged, &mut out).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_number_in_a_file_makes_the_tool_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![
            Value::Null,
            Value::from(0),
            Value::from(1),
            Value::from(-1),
            Value::from(u64::MAX),
            Value::from(i64::MAX),
            Value::from(1e300),
            Value::from(-0.5),
            Value::from(""),
        ])), 1..6),
    ) {
        let mut document: Value = serde_json::from_str(&saved()).unwrap();
        let mut found = Vec::new();
        leaves(&mut document, &mut found);
        for (index, value) in changes {
            let at = index.index(found.len());
            *found[at] = value;
        }
        if let Ok(report) = parse(Path::new("a.json"), document.to_string().as_bytes()) {
            tell(&report);
        }
    }
}

#[test]
fn a_report_of_the_greatest_numbers_is_told_without_a_panic() {
    let text = saved();
    let mut report = parse(Path::new("a.json"), text.as_bytes()).unwrap();
    report.started_unix_ms = Some(u64::MAX);
    report.elapsed_ns = u64::MAX;
    report.setup_ns = u64::MAX;
    report.rate_per_s = f64::MAX;
    report.totals.received = u64::MAX;
    report.totals.lost = u64::MAX;
    for second in &mut report.seconds {
        second.start_ns = u64::MAX;
        second.length_ns = u64::MAX;
        second.received = u64::MAX;
        second.failed = u64::MAX;
        second.rtt_ns.p99 = Some(u64::MAX);
    }
    report.flows[0].rtt_ns.mean = Some(u64::MAX);
    report.flows[0].rtt_ns.stdev = Some(u64::MAX);
    tell(&report);
}

/// Everything that a terminal would not show.
const HOSTILE: &str = "\u{1b}[2J\n\r\u{7}\u{7f}\u{85}\u{9b}31m\u{202e}\u{2066}\u{2028}";

#[test]
fn no_text_in_a_file_does_anything_to_a_terminal() {
    let mut report = fixtures::report();
    report.seconds.truncate(1);
    report.phases = vec![fixtures::phase()];
    report.addresses.conflict(
        crate::vm::VmId(0),
        "10.77.0.2".parse().unwrap(),
        crate::wire::MacAddr([2; 6]),
    );
    report.expect(&["p99<1s".parse().unwrap(), "errored=1".parse().unwrap()]);
    report.phases[0].nothing_sent = Some("why".to_owned());
    let clean = serde_json::to_value(&report).unwrap();
    let told = |report: &Report| {
        let mut out = [const { Vec::new() }; 5];
        let merged = report::merge(&[report.clone(), report.clone()]).unwrap();
        let other = Report {
            tool: "another".to_owned(),
            ..fixtures::report()
        };
        let run = (report.run.as_str(), report);
        let compared = [&[run, ("b", &other)][..], &[run, ("b", &other), run]].map(report::compare);
        report::text(report, &mut out[0], 80).unwrap();
        report::text(&merged, &mut out[1], 80).unwrap();
        report::compare_text(&compared[0], &mut out[2]).unwrap();
        report::compare_text(&compared[1], &mut out[3]).unwrap();
        json(report, &mut out[4]).unwrap();
        out.map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let lines = |text: &[String; 5]| text.each_ref().map(|text| text.lines().count());
    let expected = lines(&told(&report));
    let mut document = clean;
    let mut texts = Vec::new();
    leaves(&mut document, &mut texts);
    let number = texts.len();
    let mut changed = 0;
    for index in 0..number {
        let mut document = serde_json::to_value(&report).unwrap();
        let mut texts = Vec::new();
        leaves(&mut document, &mut texts);
        let text = texts[index].as_str();
        // Histograms are bytes.
        let Some(text) = text.filter(|text| !text.starts_with("HIST")) else {
            continue;
        };
        *texts[index] = Value::from(format!("{text}{HOSTILE}"));
        // Names that are in a list are refused, and so are addresses.
        let Ok(hostile) = parse(Path::new("a.json"), document.to_string().as_bytes()) else {
            continue;
        };
        changed += 1;
        let told = told(&hostile);
        assert_eq!(lines(&told), expected, "{told:?}");
        for text in told {
            let hidden = |each: char| each != '\n' && crate::escape::is_hidden(each);
            assert!(!text.contains(hidden), "{text:?}");
        }
        let mut page = Vec::new();
        report::html(&hostile, &mut page).unwrap();
        assert!(!String::from_utf8(page).unwrap().contains('\u{9b}'));
        let read: Report = serde_json::from_str(&{
            let mut out = Vec::new();
            json(&hostile, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        })
        .unwrap();
        assert_eq!(read, hostile, "what is escaped is read back");
    }
    assert!(changed >= 15, "{changed}");
}
