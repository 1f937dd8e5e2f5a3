//! Addresses by DHCP, from the servers that others run: dnsmasq, and the one of busybox.

use std::net::UdpSocket;

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::ipv4::{inside, start, wait_for_host_address};
use crate::lab::{Lab, Running};

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
    let report = run.wait().expect_status(0).json();
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
    let why = "tap-reactor: pings not sent, when 1 VM had no address: 5";
    assert!(run.stderr.contains(why), "{}", run.stderr);
    let lines: Vec<&str> = run.stdout.lines().collect();
    for expected in [
        "5 sent, 5 received, 0 % lost",
        ", 5 unresolved",
        "when 1 VM had no address",
        "no_route: a VM had no address, or no gateway to the other network (--gateway)",
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
    let report = run.wait().json();
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
    let report = run.wait().expect_status(1).json();
    assert_eq!(report["totals"]["sent"], json!(0), "{report}");
    assert_eq!(report["interrupted"], json!(true), "{report}");
}

#[test]
fn a_server_that_would_have_its_leases_renewed_after_no_time_is_not_flooded() {
    let lab = Lab::new();
    let mut run = start(
        &lab,
        "--vms 1 --host-address 10.77.0.1/16 --dhcp --json --verbose",
    );
    wait_for_host_address(&lab, &mut run);
    let folder = TempDir::new().expect("make a temporary directory");
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("leases"), "").expect("write a file");
    // T1 is option 0x3a, in bytes.
    let config = format!(
        "start 10.77.9.1\nend 10.77.9.9\ninterface br0\nlease_file {}\npidfile {}\n\
         opt subnet 255.255.0.0\nopt lease 7200\nopt 0x3a 00000000\n",
        file("leases"),
        file("pid")
    );
    std::fs::write(file("config"), config).expect("write a file");
    let server = lab.start(&["busybox", "udhcpd", "-f", "-a", "0", &file("config")]);
    run.wait_until_it_says("leased 10.77.9.");
    let pings = "ping -n -q -c 200 -i 0.01 -W 5";
    let address = run
        .stderr()
        .split("leased ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next().map(str::to_owned))
        .expect("an address");
    let ping: Vec<&str> = pings.split(' ').chain([address.as_str()]).collect();
    lab.run(&ping).expect_status(0);
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    drop(server);
    // Half of the lease is an hour.
    assert_eq!(report["addresses"]["renewed"], json!(0), "{report}");
}

/// Lets one VM ping 192.0.2.1, which is beyond the network and has the lab's host for router, with the lease that dnsmasq
/// gives with these options.
fn ping_beyond(arguments: &str, options: &[&str]) {
    let lab = Lab::new();
    lab.ip("link set dev lo up");
    lab.ip("address add 192.0.2.1/32 dev lo");
    let line = format!(
        "--vms 1 --host-address 10.77.0.1/16 --dhcp --address-wait 60s --ping vm0:192.0.2.1 --count 3 --json {arguments}"
    );
    let mut run = start(&lab, &line);
    let server = dnsmasq(&lab, &mut run, options);
    let report = run.wait().expect_status(0).json();
    drop(server);
    assert_eq!(report["totals"]["received"], json!(3), "{report}");
}

#[test]
fn the_default_route_may_be_the_last_of_many_and_stands_instead_of_the_router() {
    let routes: String = (1..=25)
        .map(|i| format!("198.51.{i}.0/24,10.77.0.99,"))
        .collect();
    let routes = format!("--dhcp-option=121,{routes}0.0.0.0/0,10.77.0.1");
    ping_beyond("", &["--dhcp-option=3,10.77.0.99", &routes]);
}

#[test]
fn options_are_read_where_a_server_finds_room_for_them() {
    // A link that carries 576 bytes has the server put the router, the last in the list, where the file's name would be.
    let long =
        |code: u8, length: usize| format!("--dhcp-option-force={code},{}", "x".repeat(length));
    ping_beyond(
        "--mtu 576",
        &[
            "--dhcp-option=3,10.77.0.1",
            &long(209, 120),
            &long(210, 120),
        ],
    );
}

#[test]
fn replies_are_cut_to_what_the_server_says_that_the_link_carries() {
    let lab = Lab::new();
    let mut run = start(&lab, "--vms 1 --host-address 10.77.0.1/16 --dhcp --verbose");
    let server = dnsmasq(
        &lab,
        &mut run,
        &[
            "--dhcp-host=02:00:0a:4d:00:02,10.77.100.7",
            "--dhcp-option=26,1000",
        ],
    );
    run.wait_until_it_says("leased 10.77.100.7");
    let reassembled = || {
        let table = lab.run(&["cat", "/proc/net/snmp"]).stdout;
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| line.starts_with("Ip:"))
            .map(|line| line.split(' ').collect())
            .collect();
        let column = rows[0].iter().position(|name| *name == "ReasmOKs");
        rows[1][column.expect("a column")].to_owned()
    };
    for (size, expected) in [("972", "0"), ("973", "1"), ("1472", "2")] {
        let ping = [
            "ping",
            "-n",
            "-c",
            "1",
            "-W",
            "5",
            "-s",
            size,
            "10.77.100.7",
        ];
        lab.run(&ping).expect_status(0);
        assert_eq!(reassembled(), expected, "{size} bytes");
    }
    drop(server);
}

#[test]
fn the_report_says_why_an_offer_was_not_taken() {
    let lab = Lab::new();
    let mut run = start(
        &lab,
        "--vms 1 --host-address 10.77.0.1/16 --dhcp --json --verbose",
    );
    wait_for_host_address(&lab, &mut run);
    let server = inside(&lab, || UdpSocket::bind("0.0.0.0:67")).expect("listen as a server");
    server.set_broadcast(true).expect("broadcast");
    let mut message = [0; 300];
    server.recv(&mut message).expect("a VM that looks for one");
    let offer = |options: &[u8]| {
        let mut offer = message;
        offer[0] = 2;
        offer[16..20].copy_from_slice(&[10, 77, 9, 9]);
        offer[240..].fill(0);
        offer[240..243].copy_from_slice(&[53, 1, 2]);
        offer[243..243 + options.len()].copy_from_slice(options);
        let sent = server.send_to(&offer, "10.77.255.255:68");
        sent.expect("send an offer");
    };
    let names_server = [54, 4, 10, 77, 0, 1];
    offer(&[51, 4, 0, 0, 2, 88]);
    offer(&names_server);
    offer(&[&names_server[..], &[51, 2, 2, 88]].concat());
    run.wait_until_it_says("bad lease time");
    run.signal(Signal::SIGINT);
    let run = run.wait();
    for told in [
        "an offer without a server identifier",
        "an offer or grant without a lease time",
    ] {
        assert!(run.stderr.contains(told), "{told}: {}", run.stderr);
    }
    let report = run.json();
    for reason in ["dhcp_no_server", "dhcp_no_lease_time", "bad_dhcp"] {
        assert_eq!(report["drops"][reason], json!(1), "{reason}: {report}");
    }
}
