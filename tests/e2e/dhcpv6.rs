//! IPv6 addresses by DHCP, from the servers that others run: dnsmasq, which is a router as well, and Kea.

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::ipv4::start;
use crate::lab::{Lab, Running, wait_until};

/// Waits until the host's side of the bridge has its addresses, the link-local one with them: servers speak from there.
fn wait_for_host_addresses(lab: &Lab, run: &mut Running) {
    wait_until("the host's IPv6 addresses", || {
        run.expect_alive();
        lab.links().contains_key("br0").then_some(())?;
        let addresses = lab.ip("-6 -oneline address show dev br0");
        let are_there = ["fd77::1/64", "fe80:"].map(|address| addresses.contains(address));
        (are_there == [true; 2] && !addresses.contains("tentative")).then_some(())
    });
}

/// A server in a lab that a run has made, which advertises its network as a router.
fn dnsmasq(lab: &Lab, run: &mut Running, range: &str) -> Running {
    wait_for_host_addresses(lab, run);
    let range = format!("--dhcp-range={range},64,120");
    lab.start(&[
        "dnsmasq",
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=br0",
        "--bind-interfaces",
        "--leasefile-ro",
        "--log-dhcp",
        "--enable-ra",
        &range,
    ])
}

/// A server with its files, until it is dropped.
struct Kea {
    server: Running,
    _folder: TempDir,
}

impl Kea {
    /// With that number as its identifier, T1 and T2 of 2 and 4 seconds, and further settings.
    fn start(lab: &Lab, run: &mut Running, number: u8) -> Kea {
        wait_for_host_addresses(lab, run);
        let folder = TempDir::new().expect("make a temporary directory");
        let config = json!({"Dhcp6": {
            "interfaces-config": {"interfaces": ["br0"]},
            "lease-database": {"type": "memfile", "persist": false},
            "server-id": {
                "type": "EN", "enterprise-id": 9, "identifier": format!("{number:02X}"), "persist": false
            },
            "preferred-lifetime": 60, "valid-lifetime": 60, "renew-timer": 2, "rebind-timer": 4,
            "subnet6": [{
                "subnet": "fd77::/64", "interface": "br0", "pools": [{"pool": "fd77::200-fd77::2ff"}]
            }],
            "loggers": [{
                "name": "kea-dhcp6", "severity": "DEBUG", "debuglevel": 50,
                "output_options": [{"output": "stderr"}]
            }],
        }});
        let file = folder.path().join("kea-dhcp6.conf");
        std::fs::write(&file, config.to_string()).expect("write a file");
        let place = format!("KEA_PIDFILE_DIR={}", folder.path().display());
        let file = file.display().to_string();
        let mut server = lab.start(&[
            "env",
            &place,
            "KEA_LOCKFILE_DIR=none",
            "kea-dhcp6",
            "-c",
            &file,
        ]);
        server.wait_until_it_says("DHCP6_STARTED");
        Kea {
            server,
            _folder: folder,
        }
    }
}

#[test]
fn vms_get_their_ipv6_addresses_from_a_real_server_ping_and_give_them_back() {
    let lab = Lab::new();
    let line = "--vms 20 --host-address fd77::1/64 --dhcp6 --address-wait 60s -6 --ping ring --ping vm0:fd77::1 \
                --count 3 --json";
    let mut run = start(&lab, line);
    let mut server = dnsmasq(&lab, &mut run, "fd77::100,fd77::1ff");
    let report = run.wait().expect_status(0).json();
    assert_eq!(report["totals"]["received"], json!(21 * 3), "{report}");
    assert_eq!(report["addresses"]["leased"], json!(20), "{report}");
    assert_eq!(report["lease_ns"]["count"], json!(20), "{report}");
    let address = report["flows"][0]["address"].as_str().expect("an address");
    assert!(
        address.starts_with("fd77::1"),
        "from the server's range: {address}"
    );
    for vm in 2..22 {
        server.wait_until_it_says(&format!(
            "DHCPRELEASE(br0) 00:03:00:01:02:00:0a:4d:00:{vm:02x}"
        ));
    }
}

#[test]
fn a_lease_is_renewed_with_its_server_and_rebound_with_another_after_its_death() {
    let lab = Lab::new();
    let mut run = start(
        &lab,
        "--vms 1 --host-address fd77::1/64 --dhcp6 --json --verbose",
    );
    let mut first = Kea::start(&lab, &mut run, 1);
    run.wait_until_it_says("leased fd77::200");
    first.server.wait_until_it_says("RENEW (type 5) received");
    run.wait_until_it_says("renewed the lease of fd77::200");
    drop(first);
    let said = |run: &Running, what: &str| run.stderr().matches(what).count();
    let before = said(&run, "DHCPv6 renew, fd77::200");
    wait_until("a renewal that nobody answers", || {
        (said(&run, "DHCPv6 renew, fd77::200") > before).then_some(())
    });
    let renewed = said(&run, "renewed the lease of fd77::200");
    let mut second = Kea::start(&lab, &mut run, 2);
    second.server.wait_until_it_says("REBIND (type 6) received");
    wait_until("the lease by the second server", || {
        (said(&run, "renewed the lease of fd77::200") > renewed).then_some(())
    });
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    second.server.wait_until_it_says("DHCP6_RELEASE_NA");
    assert_eq!(report["addresses"]["lost"], json!(0), "{report}");
    assert!(
        report["addresses"]["renewed"].as_u64() >= Some(2),
        "{report}"
    );
}

#[test]
fn an_address_that_the_host_has_already_is_declined_and_another_taken() {
    let lab = Lab::new();
    let line = "--vms 1 --host-address fd77::1/64 --dhcp6 --dad --json --verbose";
    let mut run = start(&lab, line);
    wait_for_host_addresses(&lab, &mut run);
    lab.ip("-6 address add fd77::200/128 dev br0 nodad");
    let mut server = Kea::start(&lab, &mut run, 1);
    run.wait_until_it_says("conflict: fd77::200 is also used by");
    server.server.wait_until_it_says("DHCP6_DECLINE_LEASE");
    run.wait_until_it_says("uses fd77::201: no conflict detected");
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    assert_eq!(report["addresses"]["leased"], json!(2), "{report}");
}

#[test]
fn a_vm_for_which_the_server_has_no_address_is_left_out_and_the_report_says_why() {
    let lab = Lab::new();
    let line = "--vms 2 --host-address fd77::1/64 --dhcp6 --address-wait 8s -6 --ping vm0:vm1 --count 3 --json --verbose";
    let mut run = start(&lab, line);
    let server = dnsmasq(&lab, &mut run, "fd77::100,fd77::100");
    let run = run.wait().expect_status(1);
    drop(server);
    let report = run.json();
    assert_eq!(report["totals"]["unresolved"], json!(3), "{report}");
    assert_eq!(report["addresses"]["leased"], json!(1), "{report}");
    assert_eq!(report["addresses"]["missing"], json!(1), "{report}");
    assert!(
        report["drops"]["dhcp_status"].as_u64() > Some(0),
        "{report}"
    );
    let told = "ignored the frame: the DHCP server says NoAddrsAvail";
    assert!(run.stderr.contains(told), "{}", run.stderr);
}

#[test]
fn without_router_advertisements_a_leased_address_is_alone() {
    let lab = Lab::new();
    let line = "--vms 2 --host-address fd77::1/64 --dhcp6 --address-wait 60s -6 --ping vm0:vm1 --count 3 --json --verbose";
    let mut run = start(&lab, line);
    let server = Kea::start(&lab, &mut run, 1);
    let report = run.wait().expect_status(1).json();
    drop(server);
    assert_eq!(report["addresses"]["leased"], json!(2), "{report}");
    assert_eq!(report["drops"]["no_route"], json!(3), "{report}");
}

#[test]
fn a_vm_that_stops_in_the_course_of_a_run_gives_its_address_back() {
    let lab = Lab::new();
    let folder = TempDir::new().expect("make a temporary directory");
    let file = folder.path().join("stop.toml");
    let scenario = "vms = 3\ndhcp6 = true\naddress-wait = '60s'\nhost-address = 'fd77::1/64'\n\
                    [[phase]]\nname = 'one'\nping = 'vm0:fd77::1'\ncount = 40\ninterval = '100ms'\nstop = 'vm2'\n";
    std::fs::write(&file, scenario).expect("write a file");
    let line = format!("--scenario {} --json", file.display());
    let mut run = start(&lab, &line);
    let mut server = dnsmasq(&lab, &mut run, "fd77::100,fd77::1ff");
    server.wait_until_it_says("DHCPRELEASE(br0) 00:03:00:01:02:00:0a:4d:00:04");
    let others = "DHCPRELEASE(br0) 00:03:00:01:02:00:0a:4d:00:02";
    assert!(!server.stderr().contains(others), "{}", server.stderr());
    let report = run.wait().expect_status(0).json();
    assert_eq!(report["totals"]["received"], json!(40), "{report}");
    server.wait_until_it_says(others);
}

#[test]
fn two_hundred_vms_that_look_for_an_ipv6_address_at_once_all_get_one() {
    let script = crate::lab::repository_file("scripts/experiments/dhcp-storm.sh");
    let mut command = std::process::Command::new(script);
    command.env("TAP_REACTOR", crate::lab::TAP_REACTOR);
    command.args(["-6", "--vms", "200", "--expect", "loss=0%"]);
    let run = Running::start(command).wait().expect_status(0);
    for expected in [
        "600 sent, 600 received, 0 % lost",
        "\nlease            200 ",
        "addresses by DHCP: 200 granted, 0 renewed, 0 lost",
        "when every VM had its address",
    ] {
        assert!(run.stdout.contains(expected), "{expected}: {}", run.stdout);
    }
}
