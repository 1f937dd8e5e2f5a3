//! Streams on TAPs: what comes of them on a bridge and on XDP, what impairments do to them, and what a program of somebody else's reads
//! of them.

use serde_json::Value;

use crate::lab::{Lab, number, wait_until};

/// The reports of the streams of a run.
fn streams(report: &Value) -> &[Value] {
    report["streams"].as_array().unwrap()
}

/// The report of a run; `None` if this machine was too slow for it.
fn whole(lab: &Lab, command: &str) -> Option<Value> {
    let run = lab.tap_reactor(&format!("{command} --json"));
    let report = run.json();
    let unsent = number(&report, "/stream_counts/unsent");
    let queued = report.pointer("/drops/tap_queue").is_some();
    (unsent == 0 && !queued).then_some(report)
}

#[test]
fn a_stream_comes_whole_over_a_bridge_and_over_xdp_tagged_or_not_and_over_ipv6() {
    let lab = Lab::new();
    for more in [
        "--fabric bridge",
        "--fabric bridge --vlan 7 --size imix",
        "--fabric bridge --ipv6 -6 --size 84-1518",
        "--fabric xdp",
        "--fabric xdp --ipv6 -6 --size bbbfg",
    ] {
        let command = format!("{more} --stream vm0:vm1 --rate 5k --count 2000 --resolve static");
        let report = whole(&lab, &command).expect("a rate that any machine sends");
        let [stream] = streams(&report) else {
            panic!("{report}");
        };
        for (path, expected) in [
            ("/counts/sent", 2000),
            ("/counts/received", 2000),
            ("/counts/lost", 0),
            ("/counts/duplicate", 0),
            ("/counts/reordered", 0),
            ("/counts/leaked", 0),
            ("/longest_loss", 0),
            ("/one_way_ns/count", 2000),
        ] {
            assert_eq!(number(stream, path), expected, "{more}: {path}");
        }
        let octets = |end: &str| number(stream, &format!("/{end}/octets"));
        assert_eq!(octets("sent"), octets("received"), "{more}");
        assert_eq!(number(&report, "/lateness_ns/count"), 2000, "{more}");
        assert_eq!(number(&report, "/totals/sent"), 0, "{more}");
    }
}

#[test]
fn what_an_impairment_does_on_taps_is_what_a_stream_has() {
    let lab = Lab::new();
    for fabric in ["bridge", "xdp"] {
        let command = format!(
            "--fabric {fabric} --stream vm0:vm1 --rate 2k --count 2000 --resolve static \
             --impair vm0:out:delay=20ms,loss=5%,duplicate=5%"
        );
        let report = whole(&lab, &command).expect("a rate that any machine sends");
        let of = |kind: &str| {
            let impairments = report["impairments"].as_array().unwrap();
            let of_kind = impairments.iter().filter(|one| one["kind"] == kind);
            of_kind.map(|one| number(one, "/frames")).sum::<u64>()
        };
        let stream = &streams(&report)[0];
        let (lost, duplicated) = (of("lost"), of("duplicated"));
        assert!(lost > 50 && duplicated > 50, "{report}");
        assert_eq!(number(stream, "/counts/lost"), lost, "{fabric}");
        assert_eq!(number(stream, "/counts/duplicate"), duplicated, "{fabric}");
        let least = number(stream, "/one_way_ns/min");
        assert!(least >= 20_000_000, "{fabric}: {least} ns");
    }
}

#[test]
fn groups_broadcasts_and_absent_addresses_come_to_whom_the_bridge_floods_them() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groups.toml");
    let text = "stream = ['vm0:absent', 'vm0:broadcast', 'vm0:239.1.2.3']\nrate = 1000\ncount = 100\n\
                [[group]]\nvms = 3\n[[group]]\nvms = 1\njoin = '239.1.2.3'\n";
    std::fs::write(&file, text).unwrap();
    let command = format!("--scenario {}", file.display());
    let report = whole(&lab, &command).expect("a rate that any machine sends");
    let told = streams(&report).iter().map(|stream| {
        let of = |name: &str| number(stream, &format!("/counts/{name}"));
        [of("sent"), of("received"), of("lost"), of("leaked")]
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        // A bridge without snooping sends what is for a group to all.
        [[100, 0, 0, 300], [100, 300, 0, 0], [100, 100, 0, 200]]
    );
}

#[test]
fn copies_for_nobody_are_counted_to_the_last_and_so_are_the_floods_that_they_are_of() {
    let lab = Lab::new();
    for (fabric, more) in [
        ("bridge", ""),
        ("bridge", "--impair vm1:in:delay=30ms"),
        ("xdp", ""),
        ("sim", "--impair vm3:in:delay=30ms"),
    ] {
        let words = format!("--fabric {fabric} --vms 4 --rate 1k --count 100 {more}");
        let absent = format!("{words} --stream vm0:absent");
        let report = whole(&lab, &absent).expect("a rate that any machine sends");
        let leaked = number(&report, "/stream_counts/leaked");
        assert_eq!(leaked, 300, "{fabric} {more}");
        let several =
            format!("{absent} --stream vm1:broadcast --stream vm2:239.1.2.3 --count-floods");
        let report = whole(&lab, &several).expect("a rate that any machine sends");
        // XDP keeps what is for a group from all who are in none.
        let of_group = if fabric == "xdp" { 0 } else { 300 };
        let leaked = number(&report, "/stream_counts/leaked");
        assert_eq!(leaked, 300 + of_group, "{fabric} {more}");
        let floods = report["floods"].as_array().expect("floods");
        for (kind, copies, unwanted) in [
            ("unknown_unicast", 300, 300),
            ("broadcast", 300, 0),
            ("multicast", of_group, of_group),
        ] {
            let flood = floods.iter().find(|flood| flood["kind"] == kind);
            let flood = flood.unwrap_or_else(|| panic!("{kind}: {report}"));
            let told = ["/frames", "/copies", "/unwanted"].map(|count| number(flood, count));
            assert_eq!(told, [100, copies, unwanted], "{fabric} {more} {kind}");
        }
    }
}

/// Reads datagrams at the discard port of the host until `sys.argv[1]` have come, and prints the distinct numbers of frames, the
/// least, the greatest, and whether one's time is later than the next one's.
const RECEIVER: &str = "
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind(('', 9))
s.settimeout(20)
print('listens', flush=True)
seen, times, streams, sizes = [], [], set(), set()
try:
    while len(seen) < int(sys.argv[1]):
        data = s.recv(2000)
        run, numbers = struct.unpack('!IQ', data[:12])
        seen.append(numbers & (1 << 40) - 1)
        streams.add(numbers >> 40)
        times.append(int.from_bytes(data[12:18], 'big'))
        sizes.add(len(data) + 46)
except TimeoutError:
    pass
print(len(seen), len(set(seen)), min(seen), max(seen), seen == sorted(seen), times == sorted(times), sorted(streams), sorted(sizes))
";

#[test]
fn a_socket_of_the_kernel_reads_every_frame_with_its_number_and_time() {
    let lab = Lab::new();
    let mut receiver = lab.start(&["python3", "-c", RECEIVER, "1200"]);
    wait_until("the program to listen", || {
        receiver.expect_alive();
        receiver.stdout().contains("listens").then_some(())
    });
    let command = "--netns host --host-address 10.77.0.1/16 --vms 1 --stream vm0:10.77.0.1 --size imix --rate 5k --count 1200";
    let report = whole(&lab, command).expect("a rate that any machine sends");
    let read = receiver.wait().expect_status(0).stdout;
    // All of them, each once, in order, with rising times, of one stream, in the sizes of the mix.
    let expected = "1200 1200 0 1199 True True [0] [64, 594, 1518]";
    assert_eq!(read.lines().last(), Some(expected), "{read}");
    let stream = &streams(&report)[0];
    assert_eq!(number(stream, "/counts/sent"), 1200);
    assert_eq!(
        number(stream, "/counts/expected"),
        0,
        "the host tells nothing of it"
    );
    assert_eq!(
        number(stream, "/sent/octets"),
        100 * (7 * 64 + 4 * 594 + 1518)
    );
}

#[test]
fn loss_of_a_stream_decides_the_status_unless_an_expectation_does() {
    let lab = Lab::new();
    let command = "--fabric sim --stream vm0:vm1 --count 100 --impair vm0:out:every=10";
    for (more, status) in [
        ("", 1),
        ("--expect streams.loss<=10%", 0),
        ("--expect streams.loss<10%", 1),
        (
            "--expect streams.lost=10 --expect streams.longest_loss=1",
            0,
        ),
        ("--expect streams.duplicate=0", 1),
    ] {
        lab.tap_reactor(&format!("{command} {more}"))
            .expect_status(status);
    }
    let run = lab.tap_reactor(command);
    assert!(
        run.stderr.contains("frames of streams not received: 10"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_a_stream_can_not_be_is_refused() {
    let lab = Lab::new();
    lab.expect_refusals(&[
        (
            "--stream vm0:vm1 --window 4",
            "a stream gets no replies; expected a rate or an interval",
        ),
        ("--stream vm0:vm1 --size 9000", "expected 64 to 1518"),
        ("--stream vm0:vm9", "there is no vm9"),
    ]);
}
