//! Streams whose source is in one rank and whose receivers are in others.

use serde_json::Value;

use nix::sys::signal::{Signal, kill};

use super::wait_for_ranks;
use crate::lab::{Lab, TAP_REACTOR, number};

/// Counts that depend on nothing but what became of the frames.
const COUNTS: [&str; 8] = [
    "sent",
    "expected",
    "received",
    "lost",
    "duplicate",
    "corrupt",
    "leaked",
    "unresolved",
];

fn streams(report: &Value) -> &[Value] {
    report["streams"].as_array().expect("streams")
}

/// What a report tells of the frames of its streams, all together and of each.
fn told(report: &Value) -> Vec<Value> {
    let all = std::iter::once(&report["stream_counts"]);
    let counts = all.chain(streams(report).iter().map(|stream| &stream["counts"]));
    let counts = counts.map(|counts| COUNTS.map(|count| counts[count].clone()).into());
    let ends = streams(report).iter().map(|stream| {
        let octets = ["sent", "received"].map(|end| stream[end]["octets"].clone());
        let receivers = stream["receivers"].as_array().into_iter().flatten();
        let receivers = receivers.map(|one| [one["vm"].clone(), one["lost"].clone()].into());
        let names = ["src", "dst", "address", "phase"].map(|name| stream[name].clone());
        let values = octets.into_iter().chain(names).chain(receivers);
        [
            values.collect::<Vec<Value>>().into(),
            stream["longest_loss"].clone(),
        ]
        .into()
    });
    counts.chain(ends).collect()
}

#[test]
fn two_cores_tell_of_streams_what_one_process_does() {
    let lab = Lab::new();
    for words in [
        "--stream vm[0-1]:vm[2-5] --size imix",
        "--stream ring --warmup 200ms -6 --ipv6",
        "--stream vm0:broadcast --stream vm5:broadcast --resolve static",
        "--stream vm0:239.1.2.3 --join 239.1.2.3",
        "--stream vm[0-5]:vm3 --fabric xdp",
        // Those lost are the same ones.
        "--stream vm0:vm4 --stream vm5:vm1 --impair vm4:in:every=10 --impair vm5:out:every=7",
        "--stream vm0:broadcast --impair vm4:in:every=9 --impair vm1:in:every=6",
        "--stream vm0:vm4,rate=500 --ping vm1:vm5 --interval 10ms",
    ] {
        let pace = match words.contains("--ping") {
            true => "",
            false => "--rate 500",
        };
        let words = format!("--vms 6 {words} {pace} --count 60 --json");
        let [one, two] = ["", "--cores 2 "].map(|cores| {
            let run = lab.tap_reactor(&format!("{cores}{words}"));
            let report = run.json();
            assert_eq!(number(&report, "/stream_counts/unsent"), 0, "{words}");
            let is_whole = number(&report, "/stream_counts/lost") == 0;
            run.expect_status(i32::from(!is_whole));
            report
        });
        assert_eq!(told(&one), told(&two), "{words}");
        for stream in streams(&two) {
            let received = number(stream, "/counts/received");
            assert_eq!(number(stream, "/one_way_ns/count"), received, "{words}");
            assert_eq!(stream.get("has_two_clocks"), None);
        }
        let of_metric = |report: &Value| number(report, "/stream_ns/count");
        assert_eq!(of_metric(&one), of_metric(&two), "{words}");
        assert_eq!(two["ranks"].as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn expectations_are_about_what_all_ranks_have_sent_and_received() {
    let lab = Lab::new();
    let words = "--cores 2 --vms 4 --stream vm0:vm2 --stream vm3:vm1 --rate 500 --count 100 --impair vm2:in:every=10";
    for (expected, status) in [
        ("streams.lost=10", 0),
        ("streams.received=190", 0),
        ("streams.loss<=5%", 0),
        ("streams.loss<5%", 1),
    ] {
        lab.tap_reactor(&format!("{words} --expect {expected}"))
            .expect_status(status);
    }
    let run = lab.tap_reactor(words).expect_status(1);
    let why = "frames of streams not received: 10";
    assert!(run.stderr.contains(why), "{}", run.stderr);
}

#[test]
fn streams_that_can_not_come_to_another_rank_are_refused() {
    let lab = Lab::new();
    lab.expect_refusals(&[
        (
            "--rank 0/2 --meet ./meet --vms 4 --stream vm0:vm2",
            "vm0 of rank 0 sends a stream to vm2 of rank 1: each rank has a lab of its own",
        ),
        (
            "--cores 2 --vms 4 --dhcp --stream vm0:vm2",
            "vm0 of rank 0 sends a stream to vm2 of rank 1: whose address a DHCP server chooses",
        ),
    ]);
}

#[test]
fn streams_of_a_rank_that_is_killed_are_left_out_and_that_is_told() {
    let lab = Lab::new();
    // Of four streams, one stays in each rank.
    let words = "--cores 2 --netns host --vms 4 --stream ring,interval=5ms --duration 20s --json";
    for victim in [1, 0] {
        let mut run = lab.start_tap_reactor(words);
        lab.wait_until_vm_sent(&mut run, "tap3", 50);
        lab.wait_until_vm_sent(&mut run, "tap0", 50);
        let ranks = wait_for_ranks(&mut run, 2);
        kill(ranks[victim], Signal::SIGKILL).expect("a rank");
        let run = run.wait();
        assert_eq!(run.status, 1, "{run:?}");
        let why = "2 streams are left out, which begin or end in a rank that has not told what it has measured";
        assert!(run.stderr.contains(why), "{}", run.stderr);
        let report = run.json();
        let all = [&report["stream_counts"], &report["streams"][0]["counts"]];
        for counts in all {
            let of = |name: &str| counts[name].as_u64().expect("a count");
            assert!(of("sent") > 20, "{report}");
            assert_eq!(of("received") + of("lost"), of("expected"), "{report}");
            assert_eq!(of("expected"), of("sent"), "{report}");
        }
        let ends = streams(&report).iter().map(|of| [&of["src"], &of["dst"]]);
        let expected = if victim == 1 {
            ["vm0", "vm1"]
        } else {
            ["vm2", "vm3"]
        };
        assert_eq!(ends.collect::<Vec<_>>(), [expected], "{report}");
        lab.run(&[TAP_REACTOR, "clean"]).expect_status(0);
    }
}
