//! Somebody else agrees: the kernel's own stack and the usual tools talk to the VMs through the bridge.

use std::process::Command;

use nix::sys::signal::Signal;

use crate::lab::{Lab, Running, TAP_REACTOR, succeed, wait_until};
use crate::report::Report;

/// VMs that answer in a lab's namespace, with the host's address on the bridge. The binary is started outside and
/// enters the namespace by its name.
fn serve(lab: &Lab, vms: u32) -> Running {
    serve_and(lab, vms, "")
}

/// The same, with more arguments.
fn serve_and(lab: &Lab, vms: u32, more: &str) -> Running {
    let mut command = Command::new(TAP_REACTOR);
    command.args([
        "--netns",
        lab.name(),
        "--host-address",
        "10.77.0.1/16",
        "--vms",
        &vms.to_string(),
    ]);
    command.args(more.split_whitespace());
    let mut running = Running::start(command);
    let taps: Vec<String> = (0..vms).map(|vm| format!("tap{vm}")).collect();
    lab.wait_until_ports_forward(
        &mut running,
        &taps.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    wait_until("the host's address", || {
        running.expect_alive();
        let addresses = lab.ip("-4 -oneline address show dev br0");
        addresses.contains("10.77.0.1/16").then_some(())
    });
    running
}

#[test]
fn the_kernels_ping_gets_its_bytes_back_in_every_size() {
    let lab = Lab::new();
    let _vms = serve(&lab, 2);
    for size in ["0", "1", "7", "56", "57", "1400", "1472"] {
        // ping compares the payload of each reply with what it has sent.
        let arguments = [
            "ping",
            "-n",
            "-c",
            "3",
            // Without a time in the payload, the last reply is waited for as long as this.
            "-i",
            "0.2",
            "-W",
            "5",
            "-s",
            size,
            "-M",
            "do",
            "10.77.0.2",
        ];
        let ping = lab.run(&arguments).expect_status(0);
        assert!(
            ping.stdout
                .contains("3 packets transmitted, 3 received, 0% packet loss"),
            "{}",
            ping.stdout
        );
        for fault in ["DUP", "wrong", "errors", "truncated", "different address"] {
            assert!(!ping.stdout.contains(fault), "{}", ping.stdout);
        }
    }
}

#[test]
fn a_flood_of_pings_from_the_kernel_is_answered() {
    let lab = Lab::new();
    let _vms = serve(&lab, 2);
    let ping = lab
        .run(&[
            "ping",
            "-n",
            "-q",
            "-f",
            "-c",
            "2000",
            "-W",
            "5",
            "10.77.0.3",
        ])
        .expect_status(0);
    assert!(
        ping.stdout
            .contains("2000 packets transmitted, 2000 received, 0% packet loss"),
        "{}",
        ping.stdout
    );
}

#[test]
fn vms_that_ping_as_fast_as_they_can_answer_others_at_once_and_lose_nothing() {
    let lab = Lab::new();
    let mut run = serve_and(
        &lab,
        2,
        "--ping vm0:vm1 --window 1 --timeout 20s --duration 60s --json",
    );
    // By now the poll is not told of these TAPs any more: who wants them answers to be found by the reactor itself.
    lab.wait_until_vm_sent(&mut run, "tap0", 20_000);
    for address in ["10.77.0.2", "10.77.0.3"] {
        let count = "ping -n -q -c 100 -i 0.01 -W 5";
        let ping: Vec<&str> = count.split(' ').chain([address]).collect();
        let ping = lab.run(&ping).expect_status(0);
        let all = "100 packets transmitted, 100 received, 0% packet loss";
        assert!(ping.stdout.contains(all), "{}", ping.stdout);
    }
    run.expect_alive();
    run.signal(Signal::SIGINT);
    let report: serde_json::Value =
        serde_json::from_str(&run.wait().stdout).expect("a report in JSON");
    let of = |name: &str| report["totals"][name].as_u64();
    assert!(
        of("sent") <= of("received").map(|received| received + 1),
        "{report}"
    );
    assert_eq!((of("lost"), of("late")), (Some(0), Some(0)), "{report}");
}

#[test]
fn fping_finds_every_vm_and_nobody_else() {
    let lab = Lab::new();
    let _vms = serve(&lab, 5);
    let vms = [
        "10.77.0.2",
        "10.77.0.3",
        "10.77.0.4",
        "10.77.0.5",
        "10.77.0.6",
    ];
    // Without a time to wait, it takes what comes after the next ping for lost.
    let count: Vec<&str> = ["fping", "-c", "5", "-p", "20", "-t", "5000", "-q"]
        .into_iter()
        .chain(vms)
        .collect();
    let fping = lab.run(&count).expect_status(0);
    for vm in vms {
        let line = fping
            .stderr
            .lines()
            .find(|line| line.split_whitespace().next() == Some(vm));
        assert!(
            line.is_some_and(|line| line.contains("5/5/0%")),
            "{}",
            fping.stderr
        );
    }
    let scan = lab.run(&[
        "fping",
        "-a",
        "-q",
        "-r",
        "0",
        "-t",
        "5000",
        "-g",
        "10.77.0.2",
        "10.77.0.9",
    ]);
    assert_eq!(scan.stdout.lines().collect::<Vec<_>>(), vms, "{scan:?}");
}

#[test]
fn arping_hears_each_vms_own_mac_address_once() {
    let lab = Lab::new();
    let _vms = serve(&lab, 3);
    for (address, mac) in [
        ("10.77.0.2", "02:00:0A:4D:00:02"),
        ("10.77.0.4", "02:00:0A:4D:00:04"),
    ] {
        let arping = lab
            .run(&["arping", "-c", "2", "-w", "10", "-I", "br0", address])
            .expect_status(0);
        let reply = format!("reply from {address} [{mac}]");
        assert_eq!(
            arping.stdout.matches(&reply).count(),
            2,
            "{}",
            arping.stdout
        );
        assert!(
            arping.stdout.contains("Received 2 response(s)"),
            "{}",
            arping.stdout
        );
    }
    // Duplicate address detection probes from 0.0.0.0 (RFC 5227); who owns the address must defend it.
    lab.run(&[
        "arping",
        "-D",
        "-c",
        "1",
        "-w",
        "5",
        "-I",
        "br0",
        "10.77.0.3",
    ])
    .expect_status(1);
    lab.run(&[
        "arping",
        "-D",
        "-c",
        "1",
        "-w",
        "1",
        "-I",
        "br0",
        "10.77.0.99",
    ])
    .expect_status(0);
}

#[test]
fn the_kernel_knows_each_vms_mac_address_and_the_bridge_its_port() {
    let lab = Lab::new();
    let _vms = serve(&lab, 3);
    for (vm, address) in ["10.77.0.2", "10.77.0.3", "10.77.0.4"]
        .into_iter()
        .enumerate()
    {
        lab.run(&["ping", "-n", "-c", "1", "-W", "5", address])
            .expect_status(0);
        let mac = format!("02:00:0a:4d:00:0{}", vm + 2);
        let neighbours = lab.ip_json(&format!("neighbour show to {address} dev br0"));
        assert_eq!(neighbours.len(), 1, "{neighbours:?}");
        assert_eq!(neighbours[0]["lladdr"], *mac);
    }
    // What the bridge has learned from frames, as against the addresses of the TAPs' host sides, which it knows anyway.
    let known = lab.bridge_json("fdb show br br0 dynamic");
    let mut learned: Vec<String> = known
        .iter()
        .map(|entry| format!("{} on {}", entry["mac"], entry["ifname"]).replace('"', ""))
        .collect();
    learned.sort();
    assert_eq!(
        learned,
        [
            "02:00:0a:4d:00:02 on tap0",
            "02:00:0a:4d:00:03 on tap1",
            "02:00:0a:4d:00:04 on tap2"
        ]
    );
}

#[test]
fn in_a_lab_of_ours_the_only_frames_are_ours() {
    let lab = Lab::new();
    assert_eq!(
        lab.sysctl("ipv6/conf/default/disable_ipv6").as_deref(),
        Some("0")
    );
    for netns in ["private", "host"] {
        // Long enough for the multicast reports and solicitations of a host's IPv6, and for a bridge's first queries.
        let arguments = format!("--netns {netns} --vms 3 --duration 1500ms --json");
        let report = Report::of(&lab.tap_reactor(&arguments).expect_status(0));
        assert_eq!(
            report.reactor.frames_in, 0,
            "--netns {netns}: {:?}",
            report.drops
        );
    }
}

#[test]
fn a_private_lab_spares_its_frames_what_slows_them_down() {
    let lab = Lab::new();
    let mut run = lab.start_tap_reactor("--vms 2");
    run.wait_until_it_says("serving");
    let inside = |command: &str| {
        let target = run.pid().to_string();
        let enter = ["--net", "--target", &target, "--"].into_iter();
        succeed(Command::new("nsenter").args(enter.chain(command.split_whitespace())))
    };
    for table in ["iptables", "ip6tables", "arptables"] {
        let file = format!("/proc/sys/net/bridge/bridge-nf-call-{table}");
        // Where the module is not loaded there is no such file, and nothing to switch off.
        if std::path::Path::new(&file).exists() {
            assert_eq!(inside(&format!("cat {file}")), "0\n", "{table}");
        }
    }
    assert_eq!(
        inside("cat /proc/sys/net/ipv6/conf/default/disable_ipv6"),
        "1\n"
    );
    let bridge = inside("ip -details -json link show br0");
    for setting in [r#""mcast_snooping":0"#, r#""stp_state":0"#] {
        assert!(bridge.contains(setting), "{setting} is missing in {bridge}");
    }
}

#[test]
fn a_vm_gets_its_replies_from_the_kernel() {
    let lab = Lab::new();
    for netns in ["private", "host"] {
        let run = lab.tap_reactor(&format!(
            "--netns {netns} --vms 1 --host-address 10.77.0.1/16 --ping vm0:10.77.0.1 --count 50 --interval 1ms --json"
        ));
        let report = Report::of_success(run, 50);
        assert_eq!(report.resolution_ns.count, 1);
        assert_eq!(
            (report.flows[0].src.as_str(), report.flows[0].dst.as_str()),
            ("vm0", "10.77.0.1")
        );
    }
}

#[test]
fn frames_counted_are_frames_that_the_kernel_counted() {
    let lab = Lab::new();
    lab.make_by_hand();
    let run =
        lab.tap_reactor("--netns host --attach --ping vm0:vm1 --count 100 --interval 1ms --json");
    let report = Report::of_success(run, 100);
    let (tap0, tap1) = (
        lab.frames("tap0").expect("tap0"),
        lab.frames("tap1").expect("tap1"),
    );
    assert_eq!(report.reactor.frames_out, tap0.sent_by_vm + tap1.sent_by_vm);
    assert_eq!(
        report.reactor.frames_in,
        tap0.queued_for_vm + tap1.queued_for_vm
    );
}

#[test]
fn round_trips_are_as_long_as_a_capture_sees_them() {
    let lab = Lab::new();
    lab.make_by_hand();
    let capture = [
        "tcpdump",
        "-n",
        "-tt",
        "-l",
        "--immediate-mode",
        "-c",
        "100",
        "-i",
        "tap0",
        "icmp",
    ];
    let mut tcpdump = lab.start(&capture);
    tcpdump.wait_until_it_says("listening on");
    let run =
        lab.tap_reactor("--netns host --attach --ping vm0:vm1 --count 50 --interval 1ms --json");
    let report = Report::of_success(run, 50);
    let frames = tcpdump.wait().expect_status(0).stdout;
    let mut sent = None;
    let mut seen: Vec<f64> = Vec::new();
    for line in frames.lines() {
        let at: f64 = line
            .split_whitespace()
            .next()
            .and_then(|at| at.parse().ok())
            .expect("a time stamp");
        if line.contains("ICMP echo request") {
            assert!(line.contains("10.77.0.2 > 10.77.0.3"), "{line}");
            sent = Some(at);
        } else {
            assert!(
                line.contains("10.77.0.3 > 10.77.0.2: ICMP echo reply"),
                "{line}"
            );
            seen.push((at - sent.take().expect("a request before each reply")) * 1e9);
        }
    }
    assert_eq!(seen.len(), 50);
    seen.sort_by(f64::total_cmp);
    // The tool stamps before its write and after its read, so the capture lies inside what it reports. tcpdump
    // prints microseconds, a histogram rounds to its precision.
    let (median, reported) = (seen[24], report.rtt_ns.p50 * 1.01 + 1e3);
    assert!(
        reported >= median,
        "reported {} ns, seen on the wire {median} ns",
        report.rtt_ns.p50
    );
    assert!(
        report.rtt_ns.p50 <= median + 5e6,
        "reported {} ns, seen on the wire {median} ns",
        report.rtt_ns.p50
    );
}

#[test]
fn a_reply_of_the_hosts_kernel_is_read_before_anything_else_is_done() {
    let lab = Lab::new();
    lab.make_by_hand();
    lab.ip("address add 10.77.0.1/16 dev br0");
    let capture = "tcpdump -n -l --immediate-mode -c 1000 -i tap0 icmp";
    let capture: Vec<&str> = capture.split_whitespace().collect();
    let mut tcpdump = lab.start(&capture);
    tcpdump.wait_until_it_says("listening on");
    let run = lab.tap_reactor(
        "--netns host --attach --vms 1 --ping vm0:10.77.0.1 --count 500 --interval 1ms --json",
    );
    let report: serde_json::Value = serde_json::from_str(&run.expect_status(0).stdout).unwrap();
    let frames = tcpdump.wait().expect_status(0).stdout;
    // A request and its reply in turn, as many as the tool says.
    let expected = [
        "10.77.0.2 > 10.77.0.1: ICMP echo request",
        "10.77.0.1 > 10.77.0.2: ICMP echo reply",
    ];
    let mut seen = 0;
    for (line, expected) in frames.lines().zip(expected.iter().cycle()) {
        assert!(line.contains(expected), "{seen}: {line}");
        seen += 1;
    }
    assert_eq!(seen, 1_000);
    assert_eq!(report["totals"]["received"], 500);
    // Lag is that of frames which the poll had to tell of. A reply that lay in the TAP when the write returned was read
    // without it, and so before any timer was set.
    let told = report["lag_ns"]["count"].as_u64().expect("a count");
    let frames = report["reactor"]["frames_in"].as_u64().expect("a count");
    assert!(frames >= 500, "{report}");
    assert!(
        told <= frames / 10,
        "{told} of {frames} frames were announced"
    );
}
