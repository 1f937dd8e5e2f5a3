use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::load::FlowId;
use crate::record::{ByGroup, Limits, MAX_GROUPS, StreamId};
use crate::time::Instant;
use crate::vm::{PingError, VmId};

const FLOW: FlowId = FlowId(0);
const LAB: LabGauges = LabGauges {
    vms: 3,
    rss_bytes: Some(4096),
    misbehaviours: Vec::new(),
    floods: None,
};

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn recorder() -> Recorder {
    recorder_of_flows(1)
}

fn recorder_of_flows(flows: u32) -> Recorder {
    let mut recorder = Recorder::new(Limits::default());
    (0..flows).for_each(|_| recorder.add_flow());
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
    recorder.lost(FLOW, 0, at(40_000), at(50_000));
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
fn streams_have_a_gauge_of_each_count_and_a_histogram_of_one_way_times() {
    let mut recorder = recorder_of_flows(0);
    assert!(!page(&recorder).contains("tap_reactor_stream_frames"));
    for is_counted in [false, true] {
        recorder.add_stream(is_counted, vec![VmId(1), VmId(2)]);
    }
    // Of four frames, to two VMs each: one came to one of them, one to both, to one of these twice.
    for stream in [StreamId(0), StreamId(1)] {
        for number in 0..4 {
            recorder.stream_sent(stream, 64, at(number), at(number));
        }
        for (vm, number) in [(1, 0), (1, 2), (2, 2), (2, 2)] {
            let times = (at(number), at(number + 1_500));
            recorder.stream_received((stream, VmId(vm)), (number, 64), times);
        }
        recorder.stream_corrupt(stream, VmId(1));
        recorder.stream_leaked(stream);
        recorder.stream_unresolved(stream);
    }
    let page = page(&recorder);
    let samples = samples(&page);
    for (series, value) in [
        ("tap_reactor_stream_frames_sent", 4.0),
        ("tap_reactor_stream_frames_expected", 8.0),
        ("tap_reactor_stream_frames_received", 3.0),
        ("tap_reactor_stream_frames_lost", 5.0),
        ("tap_reactor_stream_frames_duplicate", 1.0),
        ("tap_reactor_stream_frames_reordered", 0.0),
        ("tap_reactor_stream_frames_corrupt", 1.0),
        ("tap_reactor_stream_frames_leaked", 1.0),
        ("tap_reactor_stream_frames_unresolved", 1.0),
        ("tap_reactor_stream_frames_unsent", 0.0),
        ("tap_reactor_stream_seconds_count", 3.0),
        ("tap_reactor_stream_seconds_bucket{le=\"1e-06\"}", 0.0),
        ("tap_reactor_stream_seconds_bucket{le=\"2e-06\"}", 3.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}\n{page}");
    }
    assert!(
        page.contains("# TYPE tap_reactor_stream_frames_lost gauge\n"),
        "{page}"
    );
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
            50 => recorder.lost(FLOW, 0, at(due - 3_000), at(due)),
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
    recorder.begin_uncounted("warm-up", at(0));
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

/// A recorder of the groups `g0`, `g1` and so on, of one VM each, with as many flows: one from each VM.
fn recorder_of_groups(groups: u32, vms: u32) -> Recorder {
    let mut recorder = Recorder::new(Limits::default());
    let names: Vec<String> = (0..groups).map(|group| format!("g{group}")).collect();
    let ranges = names.iter().map(String::as_str).zip(0..);
    let by_group = ByGroup::new(ranges.map(|(name, first)| (name, first..first + 1)));
    recorder.count_by_group(by_group.unwrap());
    for vm in 0..vms {
        recorder.add_flow();
        recorder.set_source(FlowId(vm), VmId(vm));
    }
    recorder
}

fn run_of_groups(groups: u32, vms: u32, phases: u64) -> Recorder {
    run(recorder_of_groups(groups, vms), phases)
}

/// Pings of all flows that end in every way, in a warm-up and so many phases.
fn run(mut recorder: Recorder, phases: u64) -> Recorder {
    let vms = recorder.flows().len() as u32;
    recorder.begin_uncounted("warm-up", at(0));
    let span = 1_000_000;
    for phase in 0..=phases {
        let begin = phase * span;
        if phase > 0 {
            recorder.begin_phase(&format!("p{phase}"), at(begin));
        }
        for flow in (0..vms).map(FlowId) {
            for number in 0..10_u64 {
                let due = at(begin + number);
                let nanos = (u64::from(flow.0) + 1) * number.pow(6) * 137;
                let sent = at(due.as_nanos() + nanos / 3);
                let received = at(sent.as_nanos() + nanos);
                recorder.group_sent(flow, due, due, sent);
                recorder.echo_sent(flow, due, due, sent);
                match number {
                    0 => recorder.lost(flow, 0, due, sent),
                    1 => recorder.corrupt(flow, 0, due, sent),
                    2 => recorder.errored(flow, 0, due, PingError::Unreachable, sent),
                    3 => recorder.abandoned(flow, 0, due),
                    4 => continue,
                    _ => {
                        let sequence = 100 - number;
                        recorder.answered_in_detail(flow, sequence, due, sent, received);
                        recorder.answered(flow, sequence, due, sent, received);
                    }
                }
            }
            let now = at(begin + 20);
            recorder.unresolved(flow, 0, now, now);
            recorder.duplicate(flow, now);
            recorder.late(flow, now);
            recorder.member_lost(flow, VmId(0), now);
            recorder.answered_again(flow, now, now, at(begin + 50_000));
        }
        recorder.unsent(3);
        recorder.lag(5_000);
    }
    recorder
}

/// The samples without the label `group`: those that differ in it alone are added up.
fn without_group(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (series, value) in samples(page) {
        let whole = match series.split_once("group=\"") {
            None => series.to_owned(),
            Some((before, behind)) => {
                let (_, behind) = behind.split_once('"').unwrap();
                let joined = match behind.strip_prefix(',') {
                    Some(behind) => format!("{before}{behind}"),
                    None => format!("{}{behind}", before.trim_end_matches([',', '{'])),
                };
                match joined.contains('{') {
                    true => joined,
                    false => joined.replace('}', ""),
                }
            }
        };
        *sums.entry(whole).or_default() += value;
    }
    sums
}

/// The values of the label `group` in `page`.
fn groups_of(page: &str) -> BTreeSet<&str> {
    let lines = page.lines().filter_map(|line| line.split_once("group=\""));
    lines
        .map(|(_, group)| group.split_once('"').unwrap().0)
        .collect()
}

#[test]
fn groups_add_up_to_the_run_however_many_there_are() {
    // Groups, VMs, phases; values of the label.
    for (groups, vms, phases, labels) in [
        (1, 1, 1, 1),
        (2, 2, 1, 2),
        (2, 5, 3, 2),
        (15, 15, 2, 15),
        (16, 16, 2, 16),
        (17, 17, 2, 17),
        (40, 45, 2, 17),
        (5, 6, 30, 5),
        (20, 20, 30, 17),
    ] {
        let case = format!("{groups} groups, {vms} VMs, {phases} phases");
        let grouped = run_of_groups(groups, vms, phases);
        let page = page(&grouped);
        assert_eq!(groups_of(&page).len(), labels, "{case}");
        let sums = without_group(&page);
        // By phase, or of all phases that share a name.
        let mut of_run: BTreeMap<&str, f64> = BTreeMap::new();
        for (series, value) in &sums {
            let name = series.split('{').next().unwrap();
            *of_run.entry(name).or_default() += value;
        }
        let totals: Totals = grouped.phases().iter().map(|phase| *phase.totals()).sum();
        for count in Count::ALL {
            let name = format!("tap_reactor_pings_{}_total", count.name());
            assert!(totals.get(*count) > 0, "{case}: {name}");
            assert_eq!(of_run[&*name], totals.get(*count) as f64, "{case}: {name}");
        }
        for metric in [Metric::Rtt, Metric::Response, Metric::Lateness, Metric::Lag] {
            let mut whole = Buckets::default();
            let parts = grouped.phases().iter();
            parts.for_each(|phase| whole.add(phase.latency(metric).unwrap()));
            let name = format!("tap_reactor_{metric}_seconds");
            let count = of_run[&*format!("{name}_count")];
            assert_eq!(count, whole.count as f64, "{case}: {name}");
            let sum = of_run[&*format!("{name}_sum")] * 1e9;
            let difference = (sum / whole.sum_ns as f64 - 1.0).abs();
            assert!(difference < 1e-9, "{case}: {name}: {sum}");
            let mut within = 0;
            for ((_, edge), count) in EDGES.iter().zip(whole.counts) {
                within += count;
                let buckets = sums.iter().filter(|(series, _)| {
                    series.starts_with(&format!("{name}_bucket"))
                        && series.contains(&format!("le=\"{edge}\""))
                });
                let found: f64 = buckets.map(|(_, value)| value).sum();
                assert_eq!(found, within as f64, "{case}: {name} {edge}");
            }
        }
    }
}

#[test]
fn phases_of_groups_are_those_of_a_run_without_groups() {
    let grouped = page(&run_of_groups(3, 4, 3));
    let plain = page(&run(recorder_of_flows(4), 3));
    let plain: BTreeMap<String, f64> = samples(&plain)
        .into_iter()
        .map(|(series, value)| (series.to_owned(), value))
        .collect();
    let sums = without_group(&grouped);
    assert!(sums.keys().eq(plain.keys()));
    for (series, value) in &sums {
        let difference = (value - plain[series]).abs();
        assert!(difference < 1e-8, "{series}: {value}, {}", plain[series]);
    }
}

#[test]
fn the_buckets_of_each_group_are_cumulative() {
    let page = page(&run_of_groups(3, 4, 2));
    let mut before: BTreeMap<&str, f64> = BTreeMap::new();
    let lines = page.lines().filter(|line| line.contains("_bucket{"));
    for line in lines {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (series, _) = series.split_once("le=").unwrap();
        let value: f64 = value.parse().unwrap();
        let earlier = before.insert(series, value).unwrap_or_default();
        assert!(value >= earlier, "{line}");
    }
    assert!(before.len() > 3 * 3 * 4, "{before:?}");
}

#[test]
fn flows_of_no_group_have_no_label_and_appear_with_the_first_of_them() {
    let sent = |page: &str| {
        let samples = samples(page).into_iter();
        let sent = samples.filter(|(name, _)| name.starts_with("tap_reactor_pings_sent"));
        let sent: Vec<(String, f64)> = sent.map(|(name, value)| (name.to_owned(), value)).collect();
        sent
    };
    let mut recorder = recorder_of_groups(1, 1);
    let series = |label: &str| format!("tap_reactor_pings_sent_total{label}");
    let of_group = (series("{group=\"g0\"}"), 0.0);
    assert_eq!(sent(&page(&recorder)), std::slice::from_ref(&of_group));
    recorder.add_flow();
    recorder.set_source(FlowId(1), VmId(7));
    recorder.group_sent(FlowId(1), at(0), at(0), at(0));
    recorder.echo_sent(FlowId(1), at(0), at(0), at(0));
    assert_eq!(sent(&page(&recorder)), [(series(""), 1.0), of_group]);
}

#[test]
fn many_groups_and_phases_make_a_bounded_number_of_series() {
    let of = |groups, phases| {
        let page = page(&run_of_groups(groups, groups + 1, phases));
        let samples = samples(&page);
        let sent = samples
            .keys()
            .filter(|name| name.starts_with("tap_reactor_pings_sent"));
        sent.count()
    };
    for (groups, phases, pairs) in [
        (1, 40, 17 * 2),
        (3, 40, 16 * 4),
        (MAX_GROUPS as u32, 40, 3 * 17),
        (60, 40, 3 * 18),
        (60, 1, 2 * 18),
    ] {
        let found = of(groups, phases);
        assert_eq!(found, pairs, "{groups} groups, {phases} phases");
        assert!(found <= MAX_PAIRS);
    }
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

#[test]
fn floods_are_counted_by_kind_where_they_are_looked_for() {
    let mut floods = Floods::default();
    if let Some(counts) = floods.get_mut(FloodKind::Multicast) {
        (counts.frames, counts.copies) = (2, 9);
        (counts.repeated, counts.unwanted) = (1, 4);
    }
    let floods = Some(floods);
    let page = |lab: &LabGauges| prometheus(&recorder(), lab, Exposition::Prometheus);
    let told = page(&LabGauges { floods, ..LAB });
    let told = samples(&told);
    for (name, value) in [
        ("frames", 2.0),
        ("copies", 9.0),
        ("copies_repeated", 1.0),
        ("copies_unwanted", 4.0),
    ] {
        let series = |kind| format!("tap_reactor_flooded_{name}_total{{kind=\"{kind}\"}}");
        assert_eq!(told[series("multicast").as_str()], value, "{name}");
        assert_eq!(told[series("arp_request").as_str()], 0.0, "{name}");
    }
    assert!(!page(&LAB).contains("flooded"));
}
