//! `tap-reactor --vms 2 --ping vm0:vm1 --count 100`, and what it tells about it.

use crate::lab::{Lab, Running};
use crate::report::Report;

#[test]
fn a_hundred_pings_between_two_vms_are_all_answered() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--vms 2 --ping vm0:vm1 --count 100")
        .expect_status(0);
    assert_eq!(run.stderr, "");
    let summary = run
        .stdout
        .lines()
        .find(|line| line.contains("vm0") && line.contains("vm1"));
    let summary = summary.unwrap_or_else(|| panic!("no line sums the flow up:\n{}", run.stdout));
    assert!(
        run.stdout.contains("100 sent") || run.stdout.contains("100 of 100"),
        "{summary}"
    );
    for word in ["100", "p50", "p99"] {
        assert!(run.stdout.contains(word), "no {word} in\n{}", run.stdout);
    }
    assert!(
        run.stdout.contains('█') || run.stdout.contains("##"),
        "no histogram in\n{}",
        run.stdout
    );
}

#[test]
fn the_two_vms_may_be_left_to_the_defaults() {
    let lab = Lab::new();
    let run = lab.tap_reactor("--ping vm0:vm1 --count 3 --interval 1ms --json");
    Report::of_success(run, 3);
}

#[test]
fn the_json_report_is_complete_and_agrees_with_itself() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--vms 2 --ping vm0:vm1 --count 100 --interval 1ms --json")
        .expect_status(0);
    assert_eq!(run.stderr, "");
    let report = Report::of(&run);
    assert!(!report.schema.is_null());
    assert_eq!(
        (
            report.totals.sent,
            report.totals.received,
            report.totals.lost
        ),
        (100, 100, 0)
    );
    assert_eq!(
        (
            report.totals.duplicate,
            report.totals.late,
            report.totals.corrupt
        ),
        (0, 0, 0)
    );
    assert_eq!(report.flows.len(), 1);
    assert_eq!(
        (report.flows[0].src.as_str(), report.flows[0].dst.as_str()),
        ("vm0", "vm1")
    );
    assert_eq!(
        report.resolution_ns.count, 1,
        "one neighbour had to be resolved"
    );
    assert_eq!(report.lateness_ns.count, 100, "each ping sent was so late");
    assert!(report.setup_ns > 0);
    assert!(
        report.drops.values().all(|&dropped| dropped == 0),
        "{:?}",
        report.drops
    );
    // ARP request and reply, then a hundred echo requests and replies, each sent once and received once.
    assert_eq!(report.reactor.frames_out, 202);
    assert_eq!(report.reactor.frames_in, 202);
    assert!(report.reactor.turns > 0);
}

#[test]
fn a_ping_is_due_an_interval_after_the_one_before_however_late_that_was() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--ping vm0:vm1 --count 101 --interval 2ms --json")
        .expect_status(0);
    let report = Report::of(&run);
    // n pings take n intervals, the last one's included.
    assert_eq!(report.elapsed_ns, 202_000_000);
    // Drift would add each one's lateness: the last answer came no later than the last ping was due, late and answered.
    let document = run.json();
    let length = document["seconds"][0]["length_ns"].as_f64();
    let last_answer = report.lateness_ns.max + report.rtt_ns.max + report.resolution_ns.max;
    assert!(
        length.is_some_and(|length| length <= 202e6 + 1.01 * last_answer),
        "{document}"
    );
}

#[test]
fn every_flow_is_reported_apart() {
    let lab = Lab::new();
    let flows = "--vms 4 --ping vm0:vm1 --ping vm1:vm0 --ping vm3:vm2";
    let run = lab
        .tap_reactor(&format!("{flows} --count 20 --interval 1ms --json"))
        .expect_status(0);
    let report = Report::of(&run);
    let ends: Vec<_> = report
        .flows
        .iter()
        .map(|flow| (flow.src.as_str(), flow.dst.as_str()))
        .collect();
    assert_eq!(ends, [("vm0", "vm1"), ("vm1", "vm0"), ("vm3", "vm2")]);
    for flow in &report.flows {
        assert_eq!(
            (flow.totals.sent, flow.totals.received),
            (20, 20),
            "{flow:?}"
        );
    }
}

#[test]
fn payloads_from_nothing_to_the_mtu_arrive() {
    let lab = Lab::new();
    for (size, mtu) in [
        (0, 1500),
        (1, 1500),
        (56, 1500),
        (57, 1500),
        (1472, 1500),
        (8972, 9000),
        (0, 68),
    ] {
        let run = lab.tap_reactor(&format!(
            "--ping vm0:vm1 --count 5 --interval 1ms --size {size} --mtu {mtu} --json"
        ));
        Report::of_success(run, 5);
    }
}

#[test]
fn quiet_prints_nothing_and_does_its_work() {
    let lab = Lab::new();
    lab.make_by_hand();
    let run = lab.tap_reactor("--netns host --attach --ping vm0:vm1 --count 5 --interval 1ms -q");
    let run = run.expect_status(0);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    // An ARP request and five pings.
    assert_eq!(lab.frames("tap0").expect("tap0").sent_by_vm, 6);
}

#[test]
fn the_transcript_tells_every_step_on_standard_error() {
    for fabric in ["bridge", "sim"] {
        let lab = Lab::new();
        let run = lab
            .tap_reactor(&format!(
                "--ping vm0:vm1 --count 2 --interval 1ms -v --fabric {fabric}"
            ))
            .expect_status(0);
        tells_every_step(&run.stderr);
    }
}

fn tells_every_step(stderr: &str) {
    let story: Vec<&str> = stderr.lines().collect();
    let mut from = 0;
    // In this order, whatever else is told in between.
    for words in [
        &["vm0", "ARP", "who-has 10.77.0.3", "10.77.0.2"][..],
        &["vm1", "02:00:0a:4d:00:02"][..],
        &["vm1", "10.77.0.3 is-at 02:00:0a:4d:00:03"][..],
        &["vm0", "echo request", "10.77.0.3", "id", "seq"][..],
        &["vm1", "echo reply", "10.77.0.2", "id", "seq"][..],
    ] {
        let found = story[from..]
            .iter()
            .position(|line| words.iter().all(|word| line.contains(word)));
        from += found
            .unwrap_or_else(|| panic!("{words:?} is missing after line {from} of\n{stderr}"))
            + 1;
    }
}

#[test]
fn the_transcript_leaves_the_json_document_alone() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--ping vm0:vm1 --count 2 --interval 1ms -v --json")
        .expect_status(0);
    assert_eq!(Report::of(&run).totals.received, 2);
    assert!(run.stderr.contains("who-has"));
}

#[test]
fn pings_that_are_not_answered_are_lost_and_the_status_says_so() {
    let lab = Lab::new();
    // The kernel answers for the address, but not to the ping.
    lab.run(&[
        "sh",
        "-c",
        "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all",
    ])
    .expect_status(0);
    let arguments = "--netns host --host-address 10.77.0.1/16 --vms 1 --ping vm0:10.77.0.1";
    let run = lab.tap_reactor(&format!(
        "{arguments} --count 3 --interval 1ms --timeout 100ms --json"
    ));
    let report = Report::of(&run.expect_status(1));
    assert_eq!(
        (
            report.totals.sent,
            report.totals.received,
            report.totals.lost
        ),
        (3, 0, 3)
    );
    assert_eq!((report.rtt_ns.count, report.resolution_ns.count), (0, 1));
    assert_eq!(report.rate_per_s, 0.0);
    assert_eq!(report.elapsed_ns, 3_000_000, "three pings, three intervals");
    assert!(
        report.waited_ns >= 90_000_000,
        "the last ping is given up 100 ms after it was sent: {report:?}"
    );
}

#[test]
fn pings_to_an_address_that_nobody_has_never_leave_and_the_status_says_so() {
    let lab = Lab::new();
    let run =
        lab.tap_reactor("--ping vm0:10.77.99.99 --count 3 --interval 1ms --timeout 100ms --json");
    let report = Report::of(&run.expect_status(1));
    assert_eq!(
        (
            report.totals.sent,
            report.totals.received,
            report.totals.unresolved
        ),
        (0, 0, 3)
    );
    assert_eq!((report.rtt_ns.count, report.resolution_ns.count), (0, 0));
    assert_eq!(
        (report.flows[0].src.as_str(), report.flows[0].dst.as_str()),
        ("vm0", "10.77.99.99")
    );
}

#[test]
fn private_labs_run_side_by_side_and_touch_nothing_outside() {
    let lab = Lab::new();
    // The names that the private labs use are taken outside. That must not matter to them.
    lab.ip("link add br0 type bridge");
    let before = lab.ip_json("address show");
    let arguments = "--ping vm0:vm1 --count 50 --interval 1ms --json";
    let runs: Vec<Running> = (0..3).map(|_| lab.start_tap_reactor(arguments)).collect();
    for run in runs {
        Report::of_success(run.wait(), 50);
    }
    assert_eq!(lab.ip_json("address show"), before);
}

#[test]
fn a_run_may_end_by_duration() {
    let lab = Lab::new();
    let run =
        lab.tap_reactor("--ping vm0:vm1 --count 1000000 --interval 1ms --duration 200ms --json");
    let report = Report::of(&run);
    assert!(
        report.totals.received > 0 && report.totals.received <= 202,
        "{report:?}"
    );
    assert_eq!(report.totals.received, report.totals.sent, "{report:?}");
}

#[test]
fn help_and_version_are_no_errors() {
    let lab = Lab::new();
    let help = lab.tap_reactor("--help").expect_status(0);
    for option in [
        "--vms",
        "--ping",
        "--count",
        "--interval",
        "--timeout",
        "--size",
        "--mtu",
        "--duration",
        "--netns",
        "--bridge",
        "--tap-prefix",
        "--subnet",
        "--host-address",
        "--attach",
        "--json",
        "clean",
    ] {
        assert!(
            help.stdout.contains(option),
            "{option} is missing in\n{}",
            help.stdout
        );
    }
    let version = lab.tap_reactor("--version").expect_status(0);
    assert_eq!(
        version.stdout.trim(),
        format!("tap-reactor {}", env!("CARGO_PKG_VERSION"))
    );
}
