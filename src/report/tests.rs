//! Every metric through everything that tells metrics.

use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

use super::units::span;
use super::{Expectation, Format, Report, compare, compare_text, fixtures, merge, text};
use crate::record::{Count, Latency, LatencySummary, Metric, PerMetric, Scope};

/// A run in which each metric has a value that no other has: the n-th n + 1 times 101 ns.
fn report() -> Report {
    let mut report = fixtures::report();
    report.histograms = PerMetric::from_fn(|metric| {
        let mut latency = Latency::new();
        latency.record(value(metric));
        latency
    });
    report.summaries = PerMetric::from_fn(|metric| report.histograms[metric].summary());
    report
}

const fn value(metric: Metric) -> u64 {
    (metric as u64 + 1) * 101
}

fn written(name: &str, report: &Report) -> String {
    let mut out = Vec::new();
    let format = Format::of(name.as_ref()).unwrap();
    format.write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_flow_has_no_count_that_is_not_kept_for_it() {
    let mut report = report();
    report.totals.unsent = 7;
    let json: Value = serde_json::from_str(&written("r.json", &report)).unwrap();
    assert_eq!(json.pointer("/totals/unsent"), Some(&Value::from(7)));
    for &count in Count::ALL {
        let of_flow = json.pointer(&format!("/flows/0/totals/{}", count.name()));
        assert_eq!(of_flow.is_some(), count != Count::Unsent, "{count:?}");
    }
    let table = written("r.csv", &report);
    let mut table = csv::Reader::from_reader(table.as_bytes());
    let mut unsent: Vec<(String, String)> = Vec::new();
    for row in table.deserialize() {
        let row: std::collections::HashMap<String, String> = row.unwrap();
        unsent.push((row["kind"].clone(), row["unsent"].clone()));
    }
    let has = |kind: &str, text: &str| unsent.contains(&(kind.to_owned(), text.to_owned()));
    assert!(has("run", "7") && has("flow", ""), "{unsent:?}");
    assert!(!has("flow", "0"), "{unsent:?}");
    // Reports of earlier versions have it.
    let mut earlier = json.clone();
    earlier["flows"][0]["totals"]["unsent"] = Value::from(0);
    for document in [json, earlier] {
        let read: Report = serde_json::from_value(document).unwrap();
        assert_eq!(read.flows, report.flows);
    }
}

#[test]
fn every_metric_is_in_every_format_under_its_name() {
    let report = report();
    let mut told = Vec::new();
    text(&report, &mut told, 80).unwrap();
    let told = String::from_utf8(told).unwrap();
    let page = written("r.html", &report);
    let json: Value = serde_json::from_str(&written("r.json", &report)).unwrap();
    let table = written("r.csv", &report);
    let mut table = csv::Reader::from_reader(table.as_bytes());
    let columns = table.headers().unwrap().clone();
    let run = table.records().next().unwrap().unwrap();
    for &metric in Metric::ALL {
        let (name, value) = (metric.name(), value(metric));
        let line = told
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        assert_eq!(line.unwrap().matches(&span(value)).count(), 6, "{told}");
        let cells = format!("<td>{name}</td><td>1</td><td>{}</td>", span(value));
        assert!(page.contains(&cells), "{name}: {page}");
        assert!(
            page.contains(&format!("{name}: ")),
            "{name} is not explained"
        );
        let max = |pointer: String| json.pointer(&pointer).and_then(Value::as_u64);
        assert_eq!(
            max(format!("/{}/p99_9", metric.summary_name())),
            Some(value)
        );
        assert_eq!(max(format!("/histograms/{name}/max")), Some(value));
        for figure in ["min", "p50", "p99_9", "max"] {
            let column = format!("{name}_{figure}_ns");
            let at = columns.iter().position(|each| each == column).unwrap();
            assert_eq!(run[at], value.to_string(), "{column}");
        }
        let percentiles = written(&format!("r.{name}.hgrm"), &report);
        let micros = format!("#[Max     = {:12.3},", value as f64 / 1e3);
        assert!(percentiles.contains(&micros), "{name}: {percentiles}");
    }
    assert_eq!(written("r.hgrm", &report), written("r.rtt.hgrm", &report));
}

/// A thousand values of which each figure is another: p50 is 1 µs, p90 2 µs and so on.
fn spread() -> Latency {
    let mut latency = Latency::new();
    for (count, nanos) in [
        (1, 500),
        (499, 1_000),
        (400, 2_000),
        (90, 3_000),
        (9, 4_000),
        (1, 5_000),
    ] {
        (0..count).for_each(|_| latency.record(nanos));
    }
    latency
}

#[test]
fn every_figure_of_every_metric_is_in_its_own_column() {
    let mut report = fixtures::report();
    report.histograms = PerMetric::from_fn(|_| spread());
    report.summaries = PerMetric::from_fn(|_| spread().summary());
    report.phases = vec![fixtures::phase()];
    report.phases[0].summaries = report.summaries.clone();
    report.phases[0].summaries[Metric::Response].p99 = Some(7_000);
    let mut told = Vec::new();
    text(&report, &mut told, 80).unwrap();
    let told = String::from_utf8(told).unwrap();
    let page = written("r.html", &report);
    let row = "500 ns 1.00 µs 2.00 µs 3.00 µs 4.00 µs 5.00 µs";
    for &metric in Metric::ALL {
        let lines = told
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let mut lines = lines.filter(|line| line.split(' ').next() == Some(metric.name()));
        assert!(lines.any(|line| line.ends_with(row)), "{metric}: {told}");
        let cells = row.replace(" ns", "_ns").replace(" µs", "_µs");
        let cells: String = cells
            .split(' ')
            .map(|cell| format!("<td>{}</td>", cell.replace('_', " ")))
            .collect();
        let cells = format!("<td>{metric}</td><td>1,000</td>{cells}<td>1.61 µs</td><td>");
        assert!(page.contains(&cells), "{metric}: {page}");
    }
    let phase = told.lines().find(|line| line.starts_with("calm")).unwrap();
    assert!(
        phase.contains("1.00 µs") && phase.contains("7.00 µs"),
        "{phase}"
    );
    for cells in [
        "<td>1.00 µs</td><td>3.00 µs</td><td>7.00 µs</td>",
        "<b>1.00 µs</b><span>rtt p50",
        "<b>3.00 µs</b><span>rtt p99",
    ] {
        assert!(page.contains(cells), "{cells}");
    }
    let table = written("r.csv", &report);
    let mut rows = csv::Reader::from_reader(table.as_bytes()).into_deserialize();
    let run: std::collections::HashMap<String, String> = rows.next().unwrap().unwrap();
    let json: Value = serde_json::from_str(&written("r.json", &report)).unwrap();
    let deviation = spread().summary().stdev.unwrap().to_string();
    for &metric in Metric::ALL {
        for (figure, value) in [
            ("min", "500"),
            ("p50", "1000"),
            ("p90", "2000"),
            ("p99", "3001"),
            ("p99_9", "4001"),
            ("max", "5000"),
            ("mean", "1611"),
            ("stdev", &deviation),
        ] {
            assert_eq!(
                run[&format!("{metric}_{figure}_ns")],
                value,
                "{metric} {figure}"
            );
            assert_eq!(
                json[metric.summary_name()][figure].to_string(),
                value,
                "{metric} {figure}"
            );
        }
    }
}

#[test]
fn every_metric_is_in_the_interval_log_under_its_name() {
    let log = written("r.hlog", &report());
    let mut tags = Vec::new();
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        if let LogEntry::Interval(line) = entry.unwrap() {
            tags.push(line.tag().map(|tag| tag.as_str()).unwrap_or("rtt"));
        }
    }
    for metric in Metric::ALL {
        let lines = tags.iter().filter(|tag| **tag == metric.name()).count();
        let expected = match metric.scope() {
            Scope::Second => fixtures::report().seconds.len(),
            Scope::Phase | Scope::Run => 1,
        };
        assert_eq!(lines, expected, "{metric}: {tags:?}");
    }
}

#[test]
fn every_metric_is_read_back_merged_and_compared() {
    let report = report();
    let read: Report = serde_json::from_str(&written("r.json", &report)).unwrap();
    let merged = merge(&[read.clone(), report.clone()]).unwrap();
    let mut other = report.clone();
    for &metric in Metric::ALL {
        assert_eq!(
            read.histograms[metric], report.histograms[metric],
            "{metric}"
        );
        assert_eq!(read.summaries[metric], report.summaries[metric], "{metric}");
        assert_eq!(merged.histograms[metric].count(), 2, "{metric}");
        assert_eq!(merged.summaries[metric].count, 2, "{metric}");
        other.summaries[metric].p99 = Some(2 * value(metric));
    }
    let comparison = compare(&[("a", &read), ("b", &other)]);
    let mut told = Vec::new();
    compare_text(&comparison, &mut told).unwrap();
    let told = String::from_utf8(told).unwrap();
    for &metric in Metric::ALL {
        let figure = format!("{metric}.p99 ");
        let line = told.lines().find(|line| line.starts_with(&figure)).unwrap();
        assert!(line.contains("× 2.00"), "{line}");
    }
}

#[test]
fn every_metric_can_be_expected_to_be_something() {
    let report = report();
    for &metric in Metric::ALL {
        for (text, holds) in [
            (format!("{metric}.p99.9={}ns", value(metric)), true),
            (format!("{metric}.max<{}ns", value(metric)), false),
        ] {
            let expectation: Expectation = text.parse().unwrap();
            assert_eq!(expectation.check(&report).holds, holds, "{text}");
        }
        let error = "x.p99<1s".parse::<Expectation>().unwrap_err().to_string();
        assert!(error.contains(metric.name()), "{error}");
    }
    let mut without = report;
    without.histograms[Metric::Boot] = Latency::new();
    let boot: Expectation = "boot.p99<1s".parse().unwrap();
    assert!(!boot.check(&without).holds);
}

#[test]
fn each_metric_of_a_second_is_kept_for_each_second() {
    let second = &fixtures::report().seconds[0];
    for &metric in Metric::ALL {
        let kept = second.latency(metric).is_some();
        assert_eq!(kept, metric.scope() == Scope::Second, "{metric}");
    }
}

#[test]
fn a_report_of_an_earlier_version_lacks_metrics_and_one_of_a_later_has_more() {
    let mut json = serde_json::to_value(fixtures::report()).unwrap();
    json["boot_ns"].take();
    let fields = json.as_object_mut().unwrap();
    fields.remove("boot_ns");
    fields.insert("later_ns".to_owned(), Value::from("whatever"));
    let histograms = fields["histograms"].as_object_mut().unwrap();
    histograms.remove("boot");
    histograms.insert("later".to_owned(), Value::from(7));
    let read: Report = serde_json::from_value(json).unwrap();
    assert_eq!(read.summaries[Metric::Boot], LatencySummary::default());
    assert!(read.histograms[Metric::Boot].is_empty());
    assert_eq!(read.histograms[Metric::Rtt].count(), 3_995);
}
