//! Reports of made-up runs: what was put in comes out, and every format is written where the scripts that read them
//! back with other programs find them (`scripts/check-hdr.py`, `scripts/check-html.sh`).

use std::path::{Path, PathBuf};

use tap_reactor::load::FlowId;
use tap_reactor::record::{DropReason, Limits, Metric, Recorder};
use tap_reactor::report::{
    Context, Destination, FlowName, Format, Report, check_file, schema_json, write_comparison,
    write_file,
};
use tap_reactor::time::Instant;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Pings per second of all flows together.
const RATE: u64 = 2_000;

/// Where the reports of this test lie.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-files");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn place(name: &str) -> Destination {
    check_file(&folder().join(name)).unwrap()
}

/// Numbers without a pattern, the same every time (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A ring of VMs in which vmI pings vmI+1.
fn ring(flows: u32) -> Vec<FlowName> {
    let name = |flow| FlowName {
        src: format!("vm{flow}"),
        dst: format!("vm{}", (flow + 1) % flows),
        address: Some(format!("10.77.0.{}", 2 + (flow + 1) % flows)),
        ..FlowName::default()
    };
    (0..flows).map(name).collect()
}

fn recorder_of(flows: u32) -> Recorder {
    let mut recorder = Recorder::new(Limits::default());
    (0..flows).for_each(|_| recorder.add_flow());
    recorder
}

/// A run as a real one might be: most round trips around 10 µs, a slow tail, some loss, one stall, three phases.
fn lifelike(seconds: u64, slower_by: u64) -> Report {
    let flows = 24;
    let mut recorder = recorder_of(flows);
    let mut random = Random(7);
    for sequence in 0..seconds * RATE {
        let due = SECOND + sequence * SECOND / RATE;
        let third = seconds * RATE / 3;
        if sequence % third == 0 && sequence / third < 3 {
            let name = ["calm", "with a stall", "busy"][(sequence / third) as usize];
            recorder.begin_phase(name, Instant::from_nanos(due));
        }
        let flow = FlowId((sequence % u64::from(flows)) as u32);
        let tail = match random.below(1_000) {
            0 => 400 * MICROSECOND,
            1..20 => 40 * MICROSECOND + random.below(60 * MICROSECOND),
            _ => 0,
        };
        let around = (0..4).map(|_| random.below(1_500)).sum::<u64>();
        let rtt = (7 * MICROSECOND + around + tail) * slower_by / 100;
        let mut late = 15 * MICROSECOND + random.below(45 * MICROSECOND);
        // The generator stalls for 100 ms in the middle of the run.
        let stalled = (due - SECOND)
            .checked_sub(seconds * SECOND / 2)
            .filter(|since| *since < 100 * MILLISECOND);
        if let Some(since) = stalled {
            late += 100 * MILLISECOND - since;
        }
        let at = |nanos| Instant::from_nanos(due + nanos);
        recorder.echo_sent(flow, at(0), at(0), at(late));
        match random.below(5_000) {
            0 => recorder.lost(flow, 0, at(0), at(late + 2 * MILLISECOND)),
            1 => recorder.corrupt(flow, 0, at(0), at(late + rtt)),
            2 => {
                recorder.answered(flow, sequence, at(0), at(late), at(late + rtt));
                recorder.duplicate(flow, at(late + rtt + 5));
            }
            _ => recorder.answered(flow, sequence, at(0), at(late), at(late + rtt)),
        }
        recorder.turn();
        recorder.busy(12 * MICROSECOND);
        for _ in 0..4 {
            recorder.frame_in();
            recorder.frame_out();
            recorder.lag(500 + random.below(2_500));
        }
    }
    (0..flows).for_each(|_| recorder.resolved(20 * MICROSECOND + random.below(15 * MICROSECOND)));
    recorder.dropped_many(DropReason::UnknownEthertype, 3);
    recorder.dropped_many(DropReason::NotForOurMac, 1_204);
    let names = ring(flows);
    let context = Context {
        run: "--vms 24 --ping ring --rate 2000 --duration 30s <made up for a test>",
        started_unix_ms: Some(1_760_000_000_000),
        setup_ns: 23 * MILLISECOND,
        interrupted: false,
        flows: &|index| names.get(index).cloned(),
        ..Context::default()
    };
    Report::new(&recorder, &context)
}

/// 10 s at 1,000 pings/s with a fixed rtt of 200 µs, in the middle of which `stalled` stands still for 100 ms.
fn stalling(generator: bool) -> Report {
    let mut recorder = recorder_of(1);
    let stall = 5 * SECOND..5 * SECOND + 100 * MILLISECOND;
    for sequence in 0..10_000 {
        let due = sequence * MILLISECOND;
        let held = if stall.contains(&due) {
            stall.end - due
        } else {
            0
        };
        let (late, rtt) = if generator { (held, 0) } else { (0, held) };
        let at = |nanos| Instant::from_nanos(due + nanos);
        recorder.echo_sent(FlowId(0), at(0), at(0), at(late));
        let received = at(late + rtt + 200 * MICROSECOND);
        recorder.answered(FlowId(0), sequence, at(0), at(late), received);
    }
    Report::new(&recorder, &Context::default())
}

/// Returns the number of values of a histogram above a millisecond.
fn slow(latency: &tap_reactor::record::Latency) -> u64 {
    let slow = latency.iter().filter(|bucket| bucket.low > MILLISECOND);
    slow.map(|bucket| bucket.count).sum()
}

#[test]
fn a_stall_appears_in_response_whoever_stalls_and_rtt_and_lateness_tell_whose_it_was() {
    for (generator, in_rtt, in_lateness) in [(true, 0, 100), (false, 100, 0)] {
        let report = stalling(generator);
        assert_eq!(report.totals.received, 10_000);
        let near = |found: u64, expected: u64| found.abs_diff(expected) <= 2;
        assert!(near(slow(&report.histograms[Metric::Response]), 100));
        assert!(
            near(slow(&report.histograms[Metric::Rtt]), in_rtt),
            "generator: {generator}"
        );
        assert!(
            near(slow(&report.histograms[Metric::Lateness]), in_lateness),
            "generator: {generator}"
        );
        assert_eq!(
            report.summaries[Metric::Response].max,
            Some(100 * MILLISECOND + 200 * MICROSECOND)
        );
        // A percentile is the upper edge of a bucket, less than a thousandth above the value.
        let p50 = report.summaries[Metric::Rtt].p50.unwrap();
        assert!((200_000..200_200).contains(&p50), "{p50}");
        let worst = report
            .seconds
            .iter()
            .max_by_key(|second| second.response_ns.max);
        assert_eq!(worst.map(|second| second.start_ns / SECOND), Some(5));
    }
}

#[test]
fn every_format_is_written_for_the_programs_that_read_them_back() {
    let mut report = lifelike(30, 100);
    let expectations = ["p99<200us", "loss<0.01%"].map(|text| text.parse().unwrap());
    assert!(!report.expect(&expectations), "{:?}", report.expectations);
    assert_eq!(report.totals.sent, 60_000);
    for format in Format::all() {
        write_file(place(&format!("run.{}", format.ending())), &report).unwrap();
    }
    for metric in Metric::ALL {
        write_file(place(&format!("run.{metric}.hgrm")), &report).unwrap();
    }
    let schema = serde_json::from_str(&schema_json()).unwrap();
    let document = std::fs::read(folder().join("run.json")).unwrap();
    let document = serde_json::from_slice(&document).unwrap();
    jsonschema::validate(&schema, &document).unwrap();
    let slower = lifelike(30, 115);
    write_file(place("slower.json"), &slower).unwrap();
    let other = [
        lifelike(20, 85),
        lifelike(10, 60),
        lifelike(10, 200),
        lifelike(10, 300),
    ];
    let files = ["other.json", "quick.json", "slow.json", "slowest.json"];
    let mut runs = vec![("run.json", &report), ("slower.json", &slower)];
    runs.extend(files.into_iter().zip(&other));
    for (name, number) in [("compare.html", 2), ("three.html", 3), ("six.html", 6)] {
        write_comparison(place(name), &runs[..number]).unwrap();
    }
    write_file(
        place("empty.html"),
        &Report::new(&recorder_of(0), &Context::default()),
    )
    .unwrap();
}
