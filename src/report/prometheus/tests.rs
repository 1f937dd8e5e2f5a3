use std::collections::BTreeMap;

use super::*;
use crate::load::FlowId;
use crate::record::Limits;
use crate::time::Instant;

const FLOW: FlowId = FlowId(0);
const LAB: LabGauges = LabGauges {
    vms: 3,
    rss_bytes: Some(4096),
};

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn recorder() -> Recorder {
    let mut recorder = Recorder::new(Limits::default());
    recorder.add_flow();
    recorder
}

fn ping(recorder: &mut Recorder, sequence: u64, [due, sent, received]: [u64; 3]) {
    recorder.echo_sent(FLOW, at(due), at(due), at(sent));
    recorder.answered(FLOW, sequence, at(due), at(sent), at(received));
}

/// The samples of a page.
fn samples(page: &str) -> BTreeMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let mut samples = BTreeMap::new();
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let before = samples.insert(series, value.parse().unwrap());
        assert_eq!(before, None, "{series} is there twice");
    }
    samples
}

fn page(recorder: &Recorder) -> String {
    prometheus(recorder, &LAB, Exposition::Prometheus)
}

#[test]
fn a_known_run_has_known_samples() {
    let mut recorder = recorder();
    // Lateness 500, 0, 0; rtt 1 µs, 1.5 µs, 20 s; response 1.5 µs, 1.5 µs, 20 s.
    ping(&mut recorder, 0, [0, 500, 1_500]);
    ping(&mut recorder, 1, [10_000, 10_000, 11_500]);
    ping(&mut recorder, 2, [20_000, 20_000, 20_000_020_000]);
    recorder.echo_sent(FLOW, at(30_000), at(30_000), at(30_000));
    recorder.echo_sent(FLOW, at(40_000), at(40_000), at(40_000));
    recorder.lost(FLOW, at(40_000), at(50_000));
    recorder.resolved(3_000_000);
    recorder.dropped_many(DropReason::LinkDown, 7);
    let page = page(&recorder);
    let samples = samples(&page);
    for (series, value) in [
        ("tap_reactor_vms", 3.0),
        ("tap_reactor_flows", 1.0),
        ("tap_reactor_pings_outstanding", 1.0),
        ("process_resident_memory_bytes", 4096.0),
        ("tap_reactor_pings_sent_total", 5.0),
        ("tap_reactor_pings_received_total", 3.0),
        ("tap_reactor_pings_lost_total", 1.0),
        ("tap_reactor_pings_late_total", 0.0),
        (
            "tap_reactor_frames_dropped_total{reason=\"link_down\"}",
            7.0,
        ),
        ("tap_reactor_frames_dropped_total{reason=\"no_route\"}", 0.0),
        ("tap_reactor_rtt_seconds_bucket{le=\"1e-06\"}", 1.0),
        ("tap_reactor_rtt_seconds_bucket{le=\"2e-06\"}", 2.0),
        ("tap_reactor_rtt_seconds_bucket{le=\"10.0\"}", 2.0),
        ("tap_reactor_rtt_seconds_bucket{le=\"+Inf\"}", 3.0),
        ("tap_reactor_rtt_seconds_count", 3.0),
        ("tap_reactor_response_seconds_bucket{le=\"1e-06\"}", 0.0),
        ("tap_reactor_lateness_seconds_bucket{le=\"1e-06\"}", 5.0),
        ("tap_reactor_lateness_seconds_sum", 5e-7),
        ("tap_reactor_resolution_seconds_bucket{le=\"0.002\"}", 0.0),
        ("tap_reactor_resolution_seconds_bucket{le=\"0.005\"}", 1.0),
        ("tap_reactor_boot_seconds_count", 0.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    let sum = samples["tap_reactor_rtt_seconds_sum"];
    assert!((sum / 20.000_002_5 - 1.0).abs() < 1.0 / 2_000.0, "{sum}");
}

#[test]
fn a_value_that_is_an_edge_is_within_it_and_the_next_that_can_be_told_apart_is_not() {
    let index_of = |nanos| {
        let mut latency = Latency::new();
        latency.record(nanos);
        let mut buckets = Buckets::default();
        buckets.add(&latency);
        assert_eq!(buckets.count, 1);
        buckets.counts.iter().position(|count| *count == 1)
    };
    assert_eq!(index_of(0), Some(0));
    for (index, (edge, label)) in EDGES.iter().enumerate() {
        assert_eq!(
            label.parse::<f64>().map(|le| (le * 1e9).round() as u64),
            Ok(*edge)
        );
        let next = (index + 1 < EDGES.len()).then_some(index + 1);
        assert_eq!(index_of(*edge), Some(index), "{edge}");
        assert_eq!(index_of(edge - edge / 900), Some(index), "{edge}");
        assert_eq!(index_of(edge + edge / 900), next, "{edge}");
    }
    assert_eq!(index_of(u64::MAX), None);
}

#[test]
fn what_counts_only_grows() {
    let mut recorder = recorder();
    let mut before: BTreeMap<String, f64> = BTreeMap::new();
    let mut random = 1_u64;
    for sequence in 0..400 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Zeros change a sum of floating point by its rounding alone.
        let (due, rtt) = (
            sequence * 1_000,
            [0, 0, random >> 34][sequence as usize % 3],
        );
        match sequence % 100 {
            0 => recorder.begin_phase(["a", "b", "a", "c"][sequence as usize / 100], at(due)),
            50 => recorder.lost(FLOW, at(due - 3_000), at(due)),
            _ => ping(&mut recorder, sequence, [due, due, due + rtt]),
        }
        let page = page(&recorder);
        let now = samples(&page);
        for (series, value) in now
            .iter()
            .filter(|(series, _)| !series.ends_with("outstanding"))
        {
            let earlier = before.get(*series).copied().unwrap_or_default();
            assert!(*value >= earlier, "{series}: {earlier}, then {value}");
        }
        assert!(
            before
                .keys()
                .all(|series| now.contains_key(series.as_str()))
        );
        before = now
            .iter()
            .map(|(series, value)| ((*series).to_owned(), *value))
            .collect();
    }
}

#[test]
fn phases_have_a_label_and_those_with_the_same_name_are_one() {
    let mut recorder = recorder();
    recorder.begin_warmup(at(0));
    ping(&mut recorder, 0, [0, 0, 500]);
    for (index, name) in ["a\"b\\c\nd", "load", "a\"b\\c\nd"].into_iter().enumerate() {
        let begin = (index as u64 + 1) * 1_000;
        recorder.begin_phase(name, at(begin));
        ping(&mut recorder, index as u64 + 1, [begin, begin, begin + 500]);
    }
    let page = page(&recorder);
    let samples = samples(&page);
    for (phase, pings) in [("warm-up", 1.0), ("load", 1.0), (r#"a\"b\\c\nd"#, 2.0)] {
        let sent = format!("tap_reactor_pings_sent_total{{phase=\"{phase}\"}}");
        assert_eq!(samples.get(sent.as_str()), Some(&pings), "{sent}");
        let bucket = format!("tap_reactor_rtt_seconds_bucket{{phase=\"{phase}\",le=\"1e-06\"}}");
        assert_eq!(samples.get(bucket.as_str()), Some(&pings), "{bucket}");
    }
    assert!(samples.contains_key("tap_reactor_first_seconds_count"));
}

#[test]
fn many_phases_make_a_bounded_number_of_series() {
    let of = |phases: u64| {
        let mut recorder = recorder();
        for phase in 0..phases {
            recorder.begin_phase(&format!("p{phase}"), at(phase * 1_000));
            ping(&mut recorder, phase, [phase * 1_000; 3]);
        }
        page(&recorder)
    };
    let (many, more) = (of(40), of(80));
    let (many, more) = (samples(&many), samples(&more));
    assert!(many.keys().eq(more.keys()));
    let sent = many
        .iter()
        .filter(|(series, _)| series.starts_with("tap_reactor_pings_sent"));
    let sent: Vec<f64> = sent.map(|(_, value)| *value).collect();
    assert_eq!((sent.len(), sent.iter().sum()), (MAX_PHASES + 1, 40.0));
    assert_eq!(many["tap_reactor_rtt_seconds_count{phase=\"other\"}"], 24.0);
}

#[test]
fn the_formats_have_the_same_samples_and_differ_in_what_they_say_of_them() {
    let mut recorder = recorder();
    ping(&mut recorder, 0, [0, 0, 500]);
    let [text, open] = Exposition::ALL.map(|format| prometheus(&recorder, &LAB, format));
    assert_eq!(samples(&text), samples(&open));
    assert!(text.contains("# TYPE tap_reactor_pings_sent_total counter\n"));
    assert!(open.contains("# TYPE tap_reactor_pings_sent counter\n"));
    assert!(open.contains("# UNIT tap_reactor_rtt_seconds seconds\n"));
    assert!(open.contains("# UNIT process_resident_memory_bytes bytes\n"));
    assert!(open.ends_with("\n# EOF\n"));
    assert!(!text.contains("# UNIT") && !text.contains("# EOF") && text.ends_with('\n'));
}

#[test]
fn the_rows_of_the_tables_need_no_escaping_and_are_spans_of_time() {
    for metric in Metric::ALL {
        assert_eq!(metric.unit(), "ns", "{metric}");
    }
    let docs = Metric::ALL.iter().map(|metric| metric.doc());
    for doc in docs.chain(Count::ALL.iter().map(|count| count.doc())) {
        assert!(!doc.contains(['"', '\\', '\n']), "{doc}");
        assert!(doc.len() > 10 && doc.ends_with('.'), "{doc}");
    }
    let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    assert!(Metric::ALL.iter().all(|metric| is_plain(metric.name())));
    assert!(Count::ALL.iter().all(|count| is_plain(count.name())));
}

#[test]
fn a_format_is_found_by_its_media_type() {
    for (media_type, format) in [
        ("text/plain", Some(Exposition::Prometheus)),
        (
            "Application/OpenMetrics-Text",
            Some(Exposition::OpenMetrics),
        ),
        ("application/json", None),
        ("*/*", None),
        ("", None),
    ] {
        assert_eq!(
            Exposition::of_media_type(media_type),
            format,
            "{media_type}"
        );
    }
}
