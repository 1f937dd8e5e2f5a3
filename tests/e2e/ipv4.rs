//! IPv4 as the kernel has it: fragments, errors, routes, UDP and address conflicts, with the kernel's own stack at the
//! other end.

use std::fs::File;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{Lab, Running, TAP_REACTOR, wait_until};

/// Starts the binary so that it makes its lab in this namespace, arguments separated by blanks.
pub fn start(lab: &Lab, arguments: &str) -> Running {
    let mut command = Command::new(TAP_REACTOR);
    command
        .args(["--netns", lab.name()])
        .args(arguments.split_whitespace());
    Running::start(command)
}

/// Runs it to its end, and returns its report.
fn report(lab: &Lab, arguments: &str, status: i32) -> Value {
    let run = start(lab, &format!("--json {arguments}"));
    run.wait().expect_status(status).json()
}

/// Serves, with the host's address on the bridge, until the ports of `vms` VMs forward.
fn serve(lab: &Lab, vms: u32, arguments: &str) -> Running {
    let arguments = format!("--vms {vms} --host-address 10.77.0.1/16 --json {arguments}");
    let mut running = start(lab, &arguments);
    let taps: Vec<String> = (0..vms).map(|vm| format!("tap{vm}")).collect();
    let taps: Vec<&str> = taps.iter().map(String::as_str).collect();
    lab.wait_until_ports_forward(&mut running, &taps);
    wait_for_host_address(lab, &mut running);
    running
}

pub fn wait_for_host_address(lab: &Lab, running: &mut Running) {
    wait_until("the host's address", || {
        running.expect_alive();
        let bridge = lab.links().contains_key("br0");
        let addresses = bridge.then(|| lab.ip("-4 -oneline address show dev br0"))?;
        addresses.contains("10.77.0.1/16").then_some(())
    });
}

/// Does something in the lab's namespace, on this thread.
pub fn inside<T>(lab: &Lab, act: impl FnOnce() -> T) -> T {
    let own = File::open("/proc/thread-self/ns/net").expect("open the test's own namespace");
    let labs = File::open(format!("/run/netns/{}", lab.name())).expect("open the lab's namespace");
    setns(labs, CloneFlags::CLONE_NEWNET).expect("enter the lab's namespace");
    let done = act();
    setns(own, CloneFlags::CLONE_NEWNET).expect("leave the lab's namespace");
    done
}

/// A UDP socket of the kernel's that talks to `peer` only, and so hears of errors.
fn udp_to(lab: &Lab, peer: &str) -> UdpSocket {
    let socket = inside(lab, || UdpSocket::bind("10.77.0.1:0")).expect("a UDP socket");
    socket.connect(peer).expect("connect");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set a timeout");
    socket
}

#[test]
fn the_largest_datagram_goes_both_ways_in_fragments() {
    let lab = Lab::new();
    let vms = serve(&lab, 2, "");
    for size in ["1473", "2952", "2953", "20000", "65507"] {
        let command = [
            "ping",
            "-n",
            "-c",
            "5",
            "-i",
            "0.01",
            "-W",
            "5",
            "-s",
            size,
            "10.77.0.2",
        ];
        let ping = lab.run(&command).expect_status(0);
        assert!(
            ping.stdout.contains("5 received, 0% packet loss"),
            "{}",
            ping.stdout
        );
        for fault in ["DUP", "wrong", "errors", "truncated"] {
            assert!(!ping.stdout.contains(fault), "{}", ping.stdout);
        }
    }
    drop(vms);
    let lab = Lab::new();
    for (mtu, size) in [(1500, 1473), (1500, 65_507), (576, 65_507), (68, 3_000)] {
        let line = format!(
            "--host-address 10.77.0.1/16 --ping vm0:10.77.0.1 --ping vm0:vm1 --count 20 --timeout 5s --mtu {mtu} --allow-fragmentation --size {size}"
        );
        let report = report(&lab, &line, 0);
        assert_eq!(report["totals"]["received"], json!(40), "{line}: {report}");
    }
}

#[test]
fn many_pings_in_fragments_at_once_are_put_together() {
    let lab = Lab::new();
    let line =
        "--vms 6 --ping mesh --window 4 --count 50 --allow-fragmentation --size 20000 --timeout 5s";
    let report = report(&lab, line, 0);
    assert_eq!(report["totals"]["received"], json!(30 * 50), "{report}");
    assert_eq!(report["drops"].get("reassembly_timeout"), None, "{report}");
}

#[test]
fn udp_comes_back_from_the_echo_service_and_a_closed_port_is_refused() {
    let lab = Lab::new();
    let _vms = serve(&lab, 2, "--udp-echo");
    let echo = udp_to(&lab, "10.77.0.2:7");
    let mut buffer = vec![0; 70_000];
    for size in [0, 1, 1_472, 1_473, 65_507] {
        let sent: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        echo.send(&sent).expect("send");
        let received = echo.recv(&mut buffer).expect("receive");
        assert_eq!(buffer[..received], sent, "{size} bytes");
    }
    let closed = udp_to(&lab, "10.77.0.3:9");
    closed.send(b"is anybody there?").expect("send");
    let error = closed.recv(&mut buffer).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn what_a_router_reports_about_a_ping_is_named_in_the_report() {
    let lab = Lab::new();
    lab.run(&[
        "sysctl",
        "-w",
        "net.ipv4.ip_forward=1",
        "net.ipv4.icmp_ratelimit=0",
    ])
    .expect_status(0);
    lab.ip("route add unreachable 192.0.2.0/24");
    lab.ip("route add prohibit 198.51.100.0/24");
    lab.ip("link add narrow mtu 600 type veth peer name far");
    lab.ip("link set narrow up");
    lab.ip("address add 203.0.113.1/24 dev narrow");
    // One ping each: the kernel tells a host of at most five that it does not route, and one more each second.
    for (destination, options, error) in [
        ("192.0.2.1", "", "host_unreachable"),
        ("198.51.100.1", "", "prohibited"),
        ("203.0.113.9", "--ttl 1", "time_exceeded"),
        (
            "203.0.113.9",
            "--size 1000 --dont-fragment",
            "fragmentation_needed",
        ),
    ] {
        let line = format!(
            "--host-address 10.77.0.1/16 --gateway 10.77.0.1 --ping vm0:{destination} --count 1 {options}"
        );
        let report = report(&lab, &line, 1);
        assert_eq!(report["errors"], json!({ error: 1 }), "{line}: {report}");
        assert_eq!(
            (&report["totals"]["errored"], &report["totals"]["lost"]),
            (&json!(1), &json!(0)),
            "{line}"
        );
    }
    let line = "--host-address 10.77.0.1/16 --gateway 10.77.0.1 --ping vm0:203.0.113.1 --count 5";
    assert_eq!(
        report(&lab, line, 0)["totals"]["received"],
        json!(5),
        "a route that works"
    );
}

#[test]
fn time_to_live_service_class_and_the_fragment_flag_go_out_as_asked_for() {
    let lab = Lab::new();
    lab.make_by_hand();
    let mut capture = lab.start(&[
        "tcpdump",
        "-n",
        "-v",
        "-c",
        "1",
        "-i",
        "tap1",
        "--immediate-mode",
        "icmp[0] == 8",
    ]);
    capture.wait_until_it_says("listening on tap1");
    let line = "--netns host --attach --ping vm0:vm1 --count 1 --ttl 9 --dscp 46 --dont-fragment";
    lab.tap_reactor(line).expect_status(0);
    let seen = capture.wait().expect_status(0).stdout;
    for expected in ["tos 0xb8", "ttl 9,", "flags [DF]"] {
        assert!(seen.contains(expected), "{expected} is missing in {seen}");
    }
}

#[test]
fn an_announced_address_is_in_the_kernels_neighbour_table_unasked() {
    let lab = Lab::new();
    lab.run(&["sysctl", "-w", "net.ipv4.conf.default.arp_accept=1"])
        .expect_status(0);
    let mut vms = serve(&lab, 3, "--announce");
    wait_until("the announcements", || {
        vms.expect_alive();
        let known = lab.ip("-4 neighbour show dev br0");
        let all = ["10.77.0.2 ", "10.77.0.3 ", "10.77.0.4 "];
        all.iter().all(|vm| known.contains(vm)).then_some(())
    });
}

#[test]
fn an_address_that_the_host_has_is_not_taken_and_one_that_it_takes_later_is_defended() {
    let lab = Lab::new();
    lab.make_by_hand();
    lab.ip("address add 10.77.0.2/16 dev br0");
    let line = "--netns host --attach --dad --json --ping vm0:vm1 --ping vm1:10.77.0.2 --count 3";
    let run = lab.tap_reactor(line).expect_status(1);
    let report = run.json();
    let conflict = &report["addresses"]["conflicts"][0];
    assert_eq!(
        (&conflict["vm"], &conflict["address"]),
        (&json!("vm0"), &json!("10.77.0.2")),
        "{report}"
    );
    let totals = |flow: usize, what: &str| report["flows"][flow]["totals"][what].clone();
    assert_eq!(
        totals(0, "unresolved"),
        json!(3),
        "vm0 has no address: {report}"
    );
    assert_eq!(
        totals(1, "received"),
        json!(3),
        "vm1 pings the host: {report}"
    );
    drop(lab);

    let lab = Lab::new();
    let mut vms = serve(&lab, 1, "");
    lab.ip("address add 10.77.0.2/16 dev br0");
    let duplicate = [
        "arping",
        "-D",
        "-c",
        "2",
        "-w",
        "5",
        "-I",
        "br0",
        "10.77.0.2",
    ];
    lab.run(&duplicate).expect_status(1);
    lab.run(&["arping", "-U", "-c", "1", "-I", "br0", "10.77.0.2"]);
    vms.expect_alive();
    vms.signal(Signal::SIGINT);
    let report = vms.wait().json();
    assert_eq!(
        report["addresses"]["conflicts"][0]["times"],
        json!(1),
        "{report}"
    );
    assert_eq!(report["drops"]["arp_conflict"], json!(1), "{report}");
}
