//! IPv4 as the kernel has it: fragments, errors, routes, UDP, address conflicts and DHCP, with the kernel's own stack
//! and a real DHCP server at the other end.

use std::fs::File;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{Finished, Lab, Running, TAP_REACTOR, wait_until};

/// Starts the binary so that it makes its lab in this namespace, arguments separated by blanks.
fn start(lab: &Lab, arguments: &str) -> Running {
    let mut command = Command::new(TAP_REACTOR);
    command
        .args(["--netns", lab.name()])
        .args(arguments.split_whitespace());
    Running::start(command)
}

/// Runs it to its end, and returns its report.
fn report(lab: &Lab, arguments: &str, status: i32) -> Value {
    let run = start(lab, &format!("--json {arguments}"));
    document(&run.wait().expect_status(status))
}

fn document(run: &Finished) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
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

fn wait_for_host_address(lab: &Lab, running: &mut Running) {
    wait_until("the host's address", || {
        running.expect_alive();
        let bridge = lab.links().contains_key("br0");
        let addresses = bridge.then(|| lab.ip("-4 -oneline address show dev br0"))?;
        addresses.contains("10.77.0.1/16").then_some(())
    });
}

/// Does something in the lab's namespace, on this thread.
fn inside<T>(lab: &Lab, act: impl FnOnce() -> T) -> T {
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
    let report = document(&run);
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
    let report = document(&vms.wait());
    assert_eq!(
        report["addresses"]["conflicts"][0]["times"],
        json!(1),
        "{report}"
    );
    assert_eq!(report["drops"]["arp_conflict"], json!(1), "{report}");
}

/// A DHCP server in a lab that a run has made, until it is dropped.
fn dnsmasq(lab: &Lab, run: &mut Running, options: &[&str]) -> Running {
    let range = "--dhcp-range=10.77.100.0,10.77.200.255,255.255.0.0,2m";
    dnsmasq_with(lab, run, &[&[range], options].concat())
}

/// The same, which has no addresses but those of `options`.
fn dnsmasq_with(lab: &Lab, run: &mut Running, options: &[&str]) -> Running {
    wait_for_host_address(lab, run);
    let mut command = vec![
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=br0",
        "--bind-interfaces",
        "--no-ping",
        "--leasefile-ro",
    ];
    command.extend_from_slice(options);
    lab.start(&command)
}

#[test]
fn vms_get_their_addresses_from_a_real_server_and_then_ping() {
    let lab = Lab::new();
    let line = "--vms 50 --host-address 10.77.0.1/16 --dhcp --address-wait 60s --ping ring --ping vm0:10.77.0.1 --count 5 --json";
    let mut run = start(&lab, line);
    let server = dnsmasq(&lab, &mut run, &[]);
    let report = document(&run.wait().expect_status(0));
    drop(server);
    assert_eq!(report["totals"]["received"], json!(51 * 5), "{report}");
    assert_eq!(report["addresses"]["leased"], json!(50), "{report}");
    assert_eq!(report["lease_ns"]["count"], json!(50), "{report}");
    let address = report["flows"][0]["address"].as_str().expect("an address");
    assert!(
        address.starts_with("10.77.1"),
        "from the server's range: {address}"
    );
}

#[test]
fn two_hundred_vms_that_look_for_an_address_at_once_all_get_one() {
    let mut command = std::process::Command::new(crate::lab::repository_file(
        "scripts/experiments/dhcp-storm.sh",
    ));
    command.env("TAP_REACTOR", crate::lab::TAP_REACTOR);
    command.args(["--vms", "200", "--expect", "loss=0%"]);
    let run = Running::start(command).wait().expect_status(0);
    for expected in [
        "600 sent, 600 received, 0 % lost",
        "\nlease            200 ",
        "\nlease\n",
        "addresses by DHCP: 200 granted, 0 renewed, 0 lost",
        "when every VM had its address",
    ] {
        assert!(run.stdout.contains(expected), "{expected}: {}", run.stdout);
    }
}

#[test]
fn a_vm_without_a_lease_does_not_hold_up_the_others_and_the_report_says_so() {
    let lab = Lab::new();
    let line = "--vms 3 --host-address 10.77.0.1/16 --dhcp --address-wait 8s --ping vm0:vm1 --ping vm2:vm0 --count 5";
    let mut run = start(&lab, line);
    let server = dnsmasq(&lab, &mut run, &["--dhcp-host=02:00:0a:4d:00:04,ignore"]);
    let run = run.wait().expect_status(1);
    drop(server);
    let lines: Vec<&str> = run.stdout.lines().collect();
    for expected in [
        "5 sent, 5 received, 0 % lost",
        ", 5 unresolved",
        "when 1 VM still had no address (--address-wait)",
        "no_route: a ping's VM had no address, or no gateway to its network (--gateway)",
    ] {
        let is_told = lines.iter().any(|line| line.contains(expected));
        assert!(is_told, "{expected}: {}", run.stdout);
    }
}

#[test]
fn a_lease_is_renewed_and_one_that_the_server_takes_back_is_given_up() {
    let lab = Lab::new();
    let mut run = start(
        &lab,
        "--vms 2 --host-address 10.77.0.1/16 --dhcp --json --verbose",
    );
    let server = dnsmasq(
        &lab,
        &mut run,
        &["--dhcp-option-force=58,2", "--dhcp-option-force=59,4"],
    );
    run.wait_until_it_says("renewed the lease of");
    drop(server);
    // Another range: the server refuses to renew, and grants another address instead.
    let server = dnsmasq_with(
        &lab,
        &mut run,
        &[
            "--dhcp-authoritative",
            "--dhcp-range=10.77.5.1,10.77.5.9,255.255.0.0,2m",
        ],
    );
    run.wait_until_it_says("lost the lease of 10.77.1");
    run.wait_until_it_says("leased 10.77.5.");
    run.signal(Signal::SIGINT);
    let report = document(&run.wait());
    drop(server);
    for event in ["leased", "renewed", "lost"] {
        assert!(
            report["addresses"][event].as_u64() > Some(0),
            "{event}: {report}"
        );
    }
}

#[test]
fn without_a_server_the_pings_are_unresolved_and_the_run_ends() {
    let lab = Lab::new();
    // A minute is what VMs are given; a signal ends it sooner.
    let mut run = start(
        &lab,
        "--host-address 10.77.0.1/16 --dhcp --address-wait 60s --ping vm0:vm1 --count 3 --json",
    );
    lab.wait_until_vm_sent(&mut run, "tap0", 1);
    run.signal(Signal::SIGINT);
    let report = document(&run.wait().expect_status(1));
    assert_eq!(report["totals"]["sent"], json!(0), "{report}");
    assert_eq!(report["interrupted"], json!(true), "{report}");
}
