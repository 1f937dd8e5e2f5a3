//! Several ranks: processes on the cores of one machine, and processes that a launcher has started.

mod one_way;
mod streams;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tap_reactor::time::{Clock, MonotonicClock};
use tempfile::TempDir;

use crate::capture::read;
use crate::lab::{Finished, Lab, RemovedName, Running, TAP_REACTOR, number, wait_until};

/// Kills of ranks, where the environment does not say how many.
pub const SOME_KILLS: u32 = 6;
/// The environment variable with the number of kills.
pub const KILLS: &str = "TAP_REACTOR_KILLS";

/// A port of the loopback interface that no other test of this process has.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    21_000 + (std::process::id() % 500) as u16 * 40 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The processes that `run` has started.
fn ranks_of(run: &Running) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", run.pid());
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let numbers = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    numbers.map(Pid::from_raw).collect()
}

pub fn wait_for_ranks(run: &mut Running, number: usize) -> Vec<Pid> {
    wait_until("ranks to begin", || {
        run.expect_alive();
        Some(ranks_of(run)).filter(|ranks| ranks.len() == number)
    })
}

/// The numbers of the ranks that a report tells of.
fn rows(report: &Value) -> Vec<u64> {
    let rows = report["ranks"].as_array().into_iter().flatten();
    rows.map(|row| number(row, "/rank")).collect()
}

fn pairs(report: &Value) -> HashSet<(String, String)> {
    let flows = report["flows"].as_array().expect("flows").iter();
    let end = |flow: &Value, end: &str| flow[end].as_str().expect("a name").to_owned();
    flows
        .map(|flow| (end(flow, "src"), end(flow, "dst")))
        .collect()
}

#[test]
fn two_cores_make_one_report_of_the_flows_that_one_process_would_have() {
    let lab = Lab::new();
    for fabric in [
        "--ping ring",
        "--ping ring --ports-per-bridge 3",
        "--ping ring --ports-per-bridge 3 --resolve static",
        "--ping ring --ports-per-bridge 3 --resolve proxy",
        "--ping ring --ipv6 -6",
        "--ping vm0:vm1 --ping vm0:vm9",
        "--ping vm9:all --rate 1000",
        "--ping ring --fabric xdp",
        "--ping ring --fabric xdp --ipv6 -6",
        "--ping vm9:all --rate 1000 --fabric xdp --netns tap-reactor-xdp-ranks",
    ] {
        let words = format!("--vms 10 --count 10 {fabric} --json");
        let words = match fabric.contains("--rate") {
            true => words,
            false => format!("{words} --interval 5ms"),
        };
        let one = lab.tap_reactor(&words).expect_status(0).json();
        let two = lab
            .tap_reactor(&format!("--cores 2 {words}"))
            .expect_status(0)
            .json();
        assert_eq!(pairs(&one), pairs(&two), "{fabric}");
        for figure in [
            "/totals/sent",
            "/totals/received",
            "/flow_count",
            "/fabric/leaves",
            "/fabric/flows_across",
        ] {
            let number = |report: &Value| report.pointer(figure).and_then(Value::as_u64);
            assert_eq!(number(&one), number(&two), "{fabric}: {figure}");
        }
        assert_eq!(
            number(&two, "/rtt_ns/count"),
            number(&two, "/totals/received")
        );
        assert_eq!((rows(&one), rows(&two)), (vec![], vec![0, 1]), "{fabric}");
        assert_eq!(two["ranks"][0]["clock_offset_ns"], 0);
        // One machine has one clock.
        let row = &two["ranks"][1];
        let offset = row["clock_offset_ns"]
            .as_i64()
            .expect("an offset")
            .unsigned_abs();
        assert!(offset <= number(row, "/clock_error_ns"), "{row}");
    }
}

#[test]
fn what_one_rank_does_to_pings_of_another_is_what_their_losses_are_put_down_to() {
    let lab = Lab::new();
    let words = "--cores 2 --vms 6 --ping vm0:vm3 --ping vm1:vm4 --ping vm5:vm2 --count 60 --interval 5ms \
                 --timeout 200ms --resolve static --json";
    for (harm, expected) in [
        (
            "--impair vm3:in:every=10 --impair vm4:out:every=6",
            json!([
                ["impaired", "vm4", "reply", 10, "lost"],
                ["impaired", "vm3", "request", 6, "lost"]
            ]),
        ),
        // Both ranks lose some, each of the other.
        (
            "--impair vm3:in:every=10 --impair vm2:in:every=6",
            json!([
                ["impaired", "vm2", "request", 10, "lost"],
                ["impaired", "vm3", "request", 6, "lost"]
            ]),
        ),
        (
            "--misbehave vm4:silent",
            // All that were lost: a ping may come before a rank that was late to begin.
            json!([["impaired", "vm4", "request", null, "silent"]]),
        ),
        // Held until long after the pings' timeout.
        (
            "--impair vm3:in:delay=20s",
            json!([["impaired", "vm3", "request", 60, "delayed"]]),
        ),
        // The source ignores what the rank of the target has changed.
        (
            "--impair vm3:out:corrupt=100%",
            json!([["impaired", "vm3", "reply", 60, "corrupted"]]),
        ),
    ] {
        let report = lab.tap_reactor(&format!("{words} {harm}"));
        let report = report.expect_status(1).json();
        let rows = report["losses"].as_array().into_iter().flatten();
        let rows: Vec<Value> = rows
            .map(|row| {
                let column = |name: &str| row[name].clone();
                ["cause", "place", "direction", "count", "reason"]
                    .map(column)
                    .into()
            })
            .collect();
        let mut expected = expected;
        for row in expected.as_array_mut().into_iter().flatten() {
            if row[3].is_null() {
                row[3] = report["totals"]["lost"].clone();
            }
        }
        assert_eq!(Value::from(rows), expected, "{harm}");
    }
}

#[test]
fn phases_begin_together_whether_they_end_by_time_or_by_count() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("phases.toml");
    let text = "
        ping = 'ring'
        [[group]]
        vms = 4
        [[group]]
        name = 'pinned'
        vms = 4
        rank = 0
        [[phase]]
        name = 'count'
        count = 20
        interval = '2ms'
        [[phase]]
        name = 'one rank'
        ping = 'vm0:vm1'
        count = 30
        window = 1
        [[phase]]
        name = 'time'
        duration = '200ms'
        warmup = '100ms'
        rate = 1000
        [[phase]]
        name = 'last'
        window = 2
        count = 40
    ";
    std::fs::write(&file, text).expect("a scenario");
    let report = lab.tap_reactor(&format!("--cores 2 --scenario {} --json", file.display()));
    let report = report.expect_status(0).json();
    let phases = report["phases"].as_array().expect("phases");
    let told: Vec<(&str, u64)> = phases
        .iter()
        .map(|phase| {
            (
                phase["name"].as_str().expect("a name"),
                number(phase, "/totals/received"),
            )
        })
        .collect();
    let expected = [
        ("count", 160),
        ("one rank", 30),
        ("warm-up", 100),
        ("time", 200),
        ("last", 320),
    ];
    assert_eq!(told, expected);
    for phase in phases {
        // From histograms of both ranks.
        assert_eq!(
            number(phase, "/rtt_ns/count"),
            number(phase, "/totals/received")
        );
        assert!(phase["rtt_ns"]["p99"].is_u64(), "{phase}");
    }
}

#[test]
fn ranks_of_one_machine_have_a_core_each_and_end_with_one_signal_to_all() {
    let lab = Lab::new();
    for is_to_group in [true, false] {
        let words = format!(
            "{TAP_REACTOR} --cores 2 --netns host --vms 4 --ping ring --interval 5ms --json"
        );
        let words: Vec<&str> = ["setsid"].into_iter().chain(words.split(' ')).collect();
        let mut run = lab.start(&words);
        lab.wait_until_vm_sent(&mut run, "tap3", 20);
        let ranks = wait_for_ranks(&mut run, 2);
        let cores: HashSet<String> = ranks
            .iter()
            .map(|rank| {
                let status =
                    std::fs::read_to_string(format!("/proc/{rank}/status")).expect("its state");
                let line = status
                    .lines()
                    .find(|line| line.starts_with("Cpus_allowed_list"));
                line.expect("its processors").to_owned()
            })
            .collect();
        assert_eq!(cores.len(), 2, "{cores:?}");
        let launcher = Pid::from_raw(run.pid() as i32);
        match is_to_group {
            true => killpg(launcher, Signal::SIGINT).expect("a group"),
            false => kill(launcher, Signal::SIGTERM).expect("a process"),
        }
        let run = run.wait();
        assert!(run.status < 2, "{run:?}");
        let report = run.json();
        assert_eq!(report["interrupted"], true);
        assert_eq!(rows(&report), [0, 1]);
        assert_eq!(lab.link_names(), [""; 0]);
    }
}

#[test]
fn a_signal_to_one_rank_ends_all_and_no_ping_that_is_on_its_way_is_lost() {
    let lab = Lab::new();
    // All are held for long on their way, so that some are on theirs whenever the signal comes; the first rank has those that
    // the other one's VMs answer, and the other way round.
    let words = "--cores 2 --netns host --vms 4 --ping mesh --interval 5ms --resolve static --timeout 5s --json \
                 --impair all:out:delay=150ms";
    for (victim, signal) in [(0, Signal::SIGTERM), (1, Signal::SIGINT)] {
        let mut run = lab.start_tap_reactor(words);
        lab.wait_until_vm_sent(&mut run, "tap3", 100);
        let ranks = wait_for_ranks(&mut run, 2);
        kill(ranks[victim], signal).expect("a rank");
        let run = run.wait();
        let report = run.json();
        let [sent, received, lost] =
            ["sent", "received", "lost"].map(|name| number(&report, &format!("/totals/{name}")));
        assert_eq!((received, lost), (sent, 0), "rank {victim}: {}", run.stderr);
        assert_eq!(rows(&report), [0, 1]);
        assert_eq!(lab.link_names(), [""; 0]);
    }
}

#[test]
fn the_lab_of_ranks_is_in_the_namespace_that_was_chosen_and_goes_with_them() {
    let lab = Lab::new();
    let name = format!("trt-ranks-{}", std::process::id());
    let _removed = RemovedName(name.clone());
    for netns in ["host", &name] {
        let words = format!(
            "--cores 2 --vms 6 --ports-per-bridge 2 --netns {netns} --ping ring --count 5 --interval 5ms -q"
        );
        let run = lab.tap_reactor(&words).expect_status(0);
        assert_eq!(
            (run.stdout.as_str(), run.stderr.as_str()),
            ("", ""),
            "{netns}"
        );
        assert_eq!(lab.link_names(), [""; 0], "{netns}");
        assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    }
}

#[test]
fn each_rank_writes_a_capture_of_its_own_vms() {
    let lab = Lab::new();
    let folder = TempDir::new().expect("a directory");
    let file = |name: &str| folder.path().join(name);
    let words = "--vms 4 --ping ring --count 5 --resolve static --json";
    let name = file("lab-{}.pcapng");
    let run = lab.tap_reactor(&format!("--cores 2 {words} --capture {}", name.display()));
    let report = run.expect_status(0).json();
    for rank in 0..2 {
        let capture = file(&format!("lab-{rank}.pcapng"));
        let frames = read(&capture);
        let own = [2 * rank, 2 * rank + 1].map(|vm| format!("tap{vm}"));
        // Of ten pings each of its VMs sees the request and the reply, at either end.
        assert_eq!(frames.len(), 40, "rank {rank}");
        for frame in frames {
            assert!(own.contains(&frame.interface), "rank {rank}: {frame:?}");
        }
        let row = &report["recordings"][rank];
        assert_eq!(row["records"], 40);
        assert_eq!(row["file"].as_str(), capture.to_str());
    }
}

#[test]
fn what_several_cores_cannot_do_is_refused_before_anything_is_started() {
    let lab = Lab::new();
    lab.expect_refusals(&[
        ("--cores 0 --vms 4", "--cores 0: expected 1 to 4096"),
        (
            "--cores 2 --rank 0/2",
            "--cores 2: cannot be used with --rank",
        ),
        (
            "--cores 2 --fabric sim --ping ring",
            "--fabric sim cannot be used with several ranks",
        ),
        (
            "--cores 2 --ping ring --control lab.sock",
            "--control and --metrics cannot be used with several ranks",
        ),
        (
            "--cores 2 --ping ring --capture lab.pcapng",
            "--capture cannot be used with several ranks: each rank would write there; expected a file with {} in its name",
        ),
        ("--cores 2 --sweep vms=2,4", "cannot be used with --cores"),
        (
            "--meet 127.0.0.1:9",
            "--meet 127.0.0.1:9: expected --rank beside it",
        ),
        ("--ranks 2", "--ranks 2: expected --rank auto beside it"),
        ("--rank 2/2", "--rank 2/2: there is no rank 2 of 2"),
        ("--rank auto", "--rank auto: no launcher tells it"),
        (
            "--rank 0/2",
            "--rank 0/2: no launcher tells where the ranks meet",
        ),
        (
            "--rank 0/2 --meet nowhere",
            "--meet nowhere: expected HOST:PORT",
        ),
        (
            "--rank 0/2 --meet 127.0.0.1:9 --vms 4 --ping ring",
            "vm1 of rank 0 pings vm2 of rank 1",
        ),
    ]);
}

#[test]
fn a_secret_or_a_meeting_point_that_can_not_be_is_refused_by_its_name() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, text, mode) in [
        ("short", "short", 0o600),
        ("open", "0123456789abcdef", 0o644),
        ("good", "0123456789abcdef", 0o600),
    ] {
        std::fs::write(path(name), text).expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path(name), mode).expect("a mode");
    }
    let secret = |name: &str| {
        format!(
            "--rank 0/2 --meet 127.0.0.1:9 --meet-secret-file {}",
            path(name)
        )
    };
    let of_secret = |name: &str, why: &str| {
        let path = path(name);
        format!("--meet-secret-file {path}: read the secret in {path}: {why}")
    };
    let cases = [
        (secret("short"), of_secret("short", "expected 16 to 4096 letters")),
        (secret("open"), of_secret("open", "others may use it (mode 0644)")),
        (secret("none"), of_secret("none", "No such file or directory (ENOENT)")),
        (
            "--rank 1/2 --meet 10.99.0.1:9".to_owned(),
            "--meet 10.99.0.1:9: others of the network reach it, and there is no secret; expected --meet-secret-file FILE, or"
                .to_owned(),
        ),
        (
            format!("--rank 0/2 --meet {}", path("good")),
            format!("--meet {}: something is there that is no socket; expected", path("good")),
        ),
        (
            format!("--rank 1/2 --meet {}", path("no/dir")),
            format!("--meet {}: its folder is not there; expected", path("no/dir")),
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(words, expected)| (words.as_str(), expected.as_str()))
        .collect();
    lab.expect_refusals(&cases);
}

#[test]
fn a_phase_that_ends_by_a_count_lasts_in_a_rank_without_flows_until_all_are_done() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("phases.toml");
    let text = "
        vms = 4
        timeout = '100ms'
        ping = 'vm0:vm3'
        interval = '5ms'
        [[phase]]
        name = 'one'
        count = 60
        misbehave = 'vm3:silent@100ms+100ms'
        [[phase]]
        name = 'two'
        count = 60
        misbehave = 'vm3:silent@100ms+100ms'
    ";
    std::fs::write(&file, text).expect("a scenario");
    for words in [
        "--vms 4 --ping vm0:vm3 --count 60 --interval 5ms --misbehave vm3:silent@100ms+100ms"
            .to_owned(),
        format!("--scenario {}", file.display()),
    ] {
        let run = lab.tap_reactor(&format!("--cores 2 --timeout 100ms {words} --json"));
        let report = run.expect_status(1).json();
        let misbehaviours = report["misbehaviours"].as_array().expect("misbehaviours");
        for each in misbehaviours {
            assert_eq!(each["refused"], Value::Null, "{each}");
            assert!(number(each, "/ended_ns") > number(each, "/began_ns"));
            assert!(number(each, "/counts/ignored") > 0, "{each}");
        }
        let phases = report["phases"].as_array().map_or(0, Vec::len);
        assert_eq!(misbehaviours.len(), phases.max(1));
        assert_eq!(report["interrupted"], false, "{words}");
    }
}

#[test]
fn what_became_of_pings_while_a_vm_misbehaved_is_told_of_the_flows_of_all_ranks() {
    let lab = Lab::new();
    // Flows of both ranks to a VM of the second one, and one of each rank between others.
    let report = lab.tap_reactor(
        "--cores 2 --vms 8 --ping vm0:vm7 --ping vm4:vm7 --ping vm1:vm2 --ping vm5:vm6 --count 60 --interval 5ms \
         --timeout 100ms --misbehave vm7:silent@100ms+100ms --json",
    );
    let report = report.expect_status(1).json();
    let rows = report["misbehaviours"].as_array().expect("misbehaviours");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let sum = |flows: &str, what: &str| -> u64 {
        let times = ["before", "during", "after"];
        let each = times.map(|when| number(&rows[0], &format!("/{flows}/{when}/{what}")));
        each.iter().sum()
    };
    let lost = number(&report, "/totals/lost");
    assert!(lost >= 2, "{report}");
    assert_eq!(sum("misbehaving", "unanswered"), lost);
    assert_eq!(sum("misbehaving", "answered"), 120 - lost);
    assert_eq!(
        (sum("others", "answered"), sum("others", "unanswered")),
        (120, 0)
    );
    let during = &rows[0]["misbehaving"]["during"];
    assert_eq!(during["causes"][0]["cause"], "impaired", "{during}");
    assert_eq!(
        during["causes"].as_array().map(Vec::len),
        Some(1),
        "{during}"
    );
    let marks = report["marks"].as_array().expect("marks");
    let told: Vec<(&str, u64)> = marks
        .iter()
        .map(|mark| {
            (
                mark["name"].as_str().expect("a name"),
                number(mark, "/flow_count"),
            )
        })
        .collect();
    assert_eq!(told, [("vm7-silent", 4), ("vm7-silent-over", 4)]);
}

/// Two ranks that a launcher might have started; `variables` are those of each.
fn start(lab: &Lab, rank: u32, variables: &[String], words: &str) -> Running {
    let rank = format!("RANK={rank}");
    let all = ["env", rank.as_str(), "WORLD_SIZE=2"].into_iter();
    let all = all.chain(variables.iter().map(String::as_str));
    let command: Vec<&str> = all.chain([TAP_REACTOR]).chain(words.split(' ')).collect();
    lab.start(&command)
}

const PAIRS: &str = "--rank auto --vms 8 --ping pairs --count 20 --interval 5ms --json";

#[test]
fn ranks_of_a_launcher_meet_over_tcp_and_rank_0_tells_the_report_of_all() {
    let lab = Lab::new();
    let meet = [
        "MASTER_ADDR=127.0.0.1".to_owned(),
        format!("MASTER_PORT={}", port()),
        "TAP_REACTOR_MEET_SECRET=0123456789abcdef".to_owned(),
    ];
    for is_first_early in [true, false] {
        let mut order = [0, 1];
        if !is_first_early {
            order.reverse();
        }
        let mut runs = order.map(|rank| start(&lab, rank, &meet, PAIRS));
        if !is_first_early {
            runs.reverse();
        }
        let [first, other] = runs.map(Running::wait);
        let report = first.expect_status(0).json();
        let other = other.expect_status(0);
        assert_eq!((other.stdout.as_str(), other.stderr.as_str()), ("", ""));
        assert_eq!(number(&report, "/totals/received"), 80);
        assert_eq!(rows(&report), [0, 1]);
        assert_eq!(pairs(&report).len(), 4);
    }
}

#[test]
fn who_does_not_belong_to_the_ranks_gets_one_line_and_disturbs_nobody() {
    let lab = Lab::new();
    let port = port();
    let meet = |secret: &str| {
        [
            "MASTER_ADDR=127.0.0.1".to_owned(),
            format!("MASTER_PORT={port}"),
            format!("TAP_REACTOR_MEET_SECRET={secret}"),
        ]
    };
    let (good, bad) = (meet("0123456789abcdef"), meet("another-secret-of-somebody"));
    let mut first = start(&lab, 0, &good, PAIRS);
    // A rank with another secret.
    let other = start(&lab, 1, &bad, PAIRS).wait();
    let line = "tap-reactor: rank 0 refuses this rank: it does not know the secret\n";
    assert_eq!((other.status, other.stderr.as_str()), (1, line));
    first.wait_until_it_says("refused: it does not know the secret\n");
    // A program that speaks something else.
    let stranger = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo 'GET / HTTP/1.1' >&3; cat <&3");
    let stranger = lab.run(&["bash", "-c", &stranger]);
    let told: Vec<&str> = stranger.stdout.lines().collect();
    assert!(
        matches!(told[..], [greeting, "refused it is no rank of this program"] if greeting.starts_with("tap-reactor-ranks 1 ")),
        "{stranger:?}"
    );
    first.wait_until_it_says("refused: it is no rank of this program\n");
    // The rank that is waited for.
    let other = start(&lab, 1, &good, PAIRS);
    let report = first.wait().expect_status(0);
    assert_eq!(report.stderr.lines().count(), 2, "{}", report.stderr);
    assert_eq!(rows(&report.json()), [0, 1]);
    other.wait().expect_status(0);
}

#[test]
fn ranks_with_another_plan_all_end_and_say_why() {
    let lab = Lab::new();
    let meet = [
        "MASTER_ADDR=127.0.0.1".to_owned(),
        format!("MASTER_PORT={}", port()),
    ];
    let first = start(&lab, 0, &meet, PAIRS);
    let other = start(&lab, 1, &meet, &PAIRS.replace("--count 20", "--count 21"));
    let why = "the plan of rank 1 is another than that of rank 0; expected the same command and scenario for all\n";
    for (run, line) in [
        (first.wait(), format!("tap-reactor: {why}")),
        (
            other.wait(),
            format!("tap-reactor: rank 0 refuses this rank: {why}"),
        ),
    ] {
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{run:?}");
        let said = run.stderr.replace(
            &format!("tap-reactor: a connection to the meeting point was refused: {why}"),
            "",
        );
        assert_eq!(said, line);
    }
}

#[test]
fn a_rank_tells_what_is_wrong_with_the_meeting_point() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("meet.sock");
    for (greeting, expected) in [
        (
            "tap-reactor-ranks 2 9.9.9 00000000000000000000000000000000\n",
            "rank 0 is tap-reactor 9.9.9 (protocol 2), and this is tap-reactor ",
        ),
        (
            "220 mail.example ESMTP\n",
            "what listens there is no meeting point of this program",
        ),
        (
            "",
            "what listens there has closed the connection without a word",
        ),
    ] {
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let words = format!(
            "--rank 1/2 --meet {} --vms 4 --ping pairs --count 1",
            path.display()
        );
        let run = lab.start_tap_reactor(&words);
        let (mut rank, _) = listener.accept().expect("a rank");
        if greeting.is_empty() {
            // It has been heard, and goes.
            rank.write_all(b"t").expect("a byte");
        }
        rank.write_all(greeting.as_bytes()).expect("a greeting");
        rank.shutdown(Shutdown::Write).expect("an end");
        let mut said = Vec::new();
        let _ = rank.read_to_end(&mut said);
        let run = run.wait();
        assert_eq!((run.status, run.stderr.lines().count()), (1, 1), "{run:?}");
        assert!(run.stderr.contains(expected), "{}", run.stderr);
    }
}

/// Kills one of the ranks of a run at a random moment; returns how the run ended.
fn kill_one(lab: &Lab, random: &mut fastrand::Rng, words: &str) -> (usize, Duration, Finished) {
    let mut run = lab.start_tap_reactor(words);
    let begun = MonotonicClock.now();
    let after = Duration::from_millis(random.u64(0..700));
    let victim = random.usize(0..2);
    let ranks = wait_for_ranks(&mut run, 2);
    wait_until("the moment", || {
        (MonotonicClock.now() >= begun + after).then_some(())
    });
    let _ = kill(ranks[victim], Signal::SIGKILL);
    (victim, after, run.wait())
}

#[test]
fn a_rank_that_is_killed_at_any_moment_ends_the_others_and_leaves_nothing() {
    let lab = Lab::new();
    let given = std::env::var(KILLS).ok();
    let kills = given.map_or(SOME_KILLS, |kills| kills.parse().expect("a number"));
    let mut random = fastrand::Rng::with_seed(0x7261_6e6b);
    for number in 0..kills {
        let netns = if number % 2 == 0 { "private" } else { "host" };
        let words = format!(
            "--cores 2 --vms 20 --ports-per-bridge 6 --netns {netns} --ping ring --interval 5ms --duration 20s -q"
        );
        let (victim, after, run) = kill_one(&lab, &mut random, &words);
        let context = format!("rank {victim} killed after {after:?} ({netns}): {run:?}");
        assert_eq!(run.status, 1, "{context}");
        let line = format!("rank {victim} has not ended by itself: signal: 9 (SIGKILL)");
        assert!(run.stderr.contains(&line), "{context}");
        let left = lab.run(&[TAP_REACTOR, "clean"]);
        left.expect_status(0);
        assert_eq!(lab.link_names(), [""; 0], "{context}");
        let processes = Command::new("ip")
            .args(["netns", "pids", lab.name()])
            .output();
        let processes = processes.expect("processes").stdout;
        assert_eq!(String::from_utf8_lossy(&processes), "", "{context}");
    }
}

#[test]
fn a_rank_that_is_killed_is_named_with_its_phase_and_the_report_of_the_others_is_kept() {
    let lab = Lab::new();
    let words = "--cores 2 --netns host --vms 4 --ping ring --interval 5ms --duration 20s --json";
    for victim in [1, 0] {
        let mut run = lab.start_tap_reactor(words);
        lab.wait_until_vm_sent(&mut run, "tap3", 50);
        let ranks = wait_for_ranks(&mut run, 2);
        kill(ranks[victim], Signal::SIGKILL).expect("a rank");
        let run = run.wait();
        assert_eq!(run.status, 1, "{run:?}");
        let expected = match victim {
            0 => "tap-reactor: rank 1: rank 0 is gone\n",
            _ => " is gone in the run: its connection has ended\n",
        };
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        // Nobody has sent one, and what was in the queues of its TAPs has gone with it.
        assert!(!run.stderr.contains("SIGTERM"), "{}", run.stderr);
        let report = run.json();
        assert!(number(&report, "/totals/received") > 20, "{report}");
        let losses = report["losses"].as_array().into_iter().flatten();
        let causes: HashSet<&str> = losses.filter_map(|row| row["cause"].as_str()).collect();
        assert!(
            causes.iter().all(|cause| *cause == "absent"),
            "{}",
            report["losses"]
        );
        lab.run(&[TAP_REACTOR, "clean"]).expect_status(0);
        assert_eq!(lab.link_names(), [""; 0]);
    }
}

#[test]
fn ranks_end_with_the_process_that_has_started_them() {
    let lab = Lab::new();
    let words = "--cores 2 --netns host --vms 4 --ping ring --interval 5ms -q";
    let mut run = lab.start_tap_reactor(words);
    lab.wait_until_vm_sent(&mut run, "tap3", 20);
    let ranks = wait_for_ranks(&mut run, 2);
    run.signal(Signal::SIGKILL);
    run.wait();
    for rank in ranks {
        wait_until("a rank to end", || kill(rank, None).is_err().then_some(()));
    }
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn the_secret_of_ranks_is_not_told_to_hooks() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("environment");
    let hook = format!("env >>{}", file.display());
    let words = format!("{TAP_REACTOR} --cores 2 --fabric none --vms 4 --duration 100ms -q --hook");
    let words: Vec<&str> = words.split(' ').chain([hook.as_str()]).collect();
    lab.run(&words).expect_status(0);
    let told = std::fs::read_to_string(&file).expect("what hooks were told");
    assert!(
        told.contains("TAP_REACTOR_TAPS=tap0 tap1\n")
            && told.contains("TAP_REACTOR_TAPS=tap2 tap3\n"),
        "{told}"
    );
    assert!(
        !told.contains("SECRET") && !told.contains("CORES"),
        "{told}"
    );
}
