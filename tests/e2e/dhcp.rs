//! Addresses by DHCP, from the servers that others run: dnsmasq, and the one of busybox.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::ipv4::{document, start, wait_for_host_address};
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
