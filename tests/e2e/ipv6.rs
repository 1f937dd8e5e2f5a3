//! IPv6, with the kernel's stack, its duplicate address detection and its neighbour table, `ndisc6` and `radvd` as
//! witnesses.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::lab::{Finished, Lab, Running, TAP_REACTOR, wait_until};

/// VMs that answer in a lab's namespace, where the bridge has the address fd77::1/64.
fn serve(lab: &Lab, arguments: &str) -> Running {
    let mut command = Command::new(TAP_REACTOR);
    command.args(["--netns", lab.name(), "--host-address", "fd77::1/64"]);
    command.args(arguments.split_whitespace());
    let mut running = Running::start(command);
    running.wait_until_it_says("serving");
    wait_until(
        "a link-local address on the bridge that may be used",
        || {
            let addresses = lab.ip("-6 -oneline address show dev br0 scope link");
            (addresses.contains("fe80:") && !addresses.contains("tentative")).then_some(())
        },
    );
    running
}

/// The kernel's `ping` to `target`, which must get every reply as it should be.
fn ping(lab: &Lab, arguments: &str) -> Finished {
    let words = format!("ping -6 -n -c 3 -i 0.01 -W 5 {arguments}");
    let words: Vec<&str> = words.split_whitespace().collect();
    let ping = lab.run(&words).expect_status(0);
    for fault in ["wrong", "errors", "truncated", "different address"] {
        assert!(!ping.stdout.contains(fault), "{}", ping.stdout);
    }
    ping
}

#[test]
fn the_kernels_ping_gets_its_bytes_back_in_every_size_and_scope() {
    let lab = Lab::new();
    let _vms = serve(&lab, "--vms 2");
    for size in ["0", "1", "56", "1452", "1453", "4000", "65507"] {
        let ping = ping(&lab, &format!("-s {size} fd77::2"));
        let all = "3 packets transmitted, 3 received, 0% packet loss";
        assert!(ping.stdout.contains(all), "{}", ping.stdout);
        assert!(!ping.stdout.contains("DUP"), "{}", ping.stdout);
    }
    ping(&lab, "fe80::aff:fe4d:3%br0");
    // Both answer to all nodes, one of them as a duplicate.
    let all = ping(&lab, "ff02::1%br0");
    for vm in ["fe80::aff:fe4d:2", "fe80::aff:fe4d:3"] {
        assert!(
            all.stdout.contains(&format!("bytes from {vm}%br0")),
            "{}",
            all.stdout
        );
    }
}

#[test]
fn the_kernel_knows_each_vm_by_neighbour_discovery() {
    let lab = Lab::new();
    let _vms = serve(&lab, "--vms 3");
    for address in ["fd77::2", "fd77::4"] {
        ping(&lab, address);
        let neighbours = lab.ip_json(&format!("-6 neighbour show to {address} dev br0"));
        assert_eq!(neighbours.len(), 1, "{neighbours:?}");
        let mac = format!("02:00:0a:4d:00:0{}", &address[6..]);
        assert_eq!(neighbours[0]["lladdr"], *mac);
        assert_eq!(neighbours[0]["state"], serde_json::json!(["REACHABLE"]));
    }
    let nobody = lab.run(&["ping", "-6", "-n", "-c", "1", "-W", "4", "fd77::99"]);
    assert_eq!(nobody.status, 1, "{nobody:?}");
}

#[test]
fn ndisc6_hears_each_vms_own_mac_address_and_nobody_for_other_addresses() {
    let lab = Lab::new();
    let _vms = serve(&lab, "--vms 3");
    for (address, mac) in [
        ("fd77::2", "02:00:0A:4D:00:02"),
        ("fe80::aff:fe4d:4", "02:00:0A:4D:00:04"),
    ] {
        let found = lab.run(&["ndisc6", "-q", address, "br0"]).expect_status(0);
        assert_eq!(found.stdout.trim(), mac);
    }
    let nobody = lab.run(&["ndisc6", "-q", "-r", "1", "-w", "500", "fd77::99", "br0"]);
    assert_eq!(nobody.status, 2, "{nobody:?}");
}

#[test]
fn the_kernels_duplicate_address_detection_finds_a_vm() {
    let lab = Lab::new();
    let _vms = serve(&lab, "--vms 2");
    let state = |address: &str| {
        wait_until(&format!("the kernel to have tried {address}"), || {
            let line = lab.ip(&format!("-6 -oneline address show dev br0 to {address}"));
            let is_over = line.contains("dadfailed") || !line.contains("tentative");
            is_over.then(|| line.contains("dadfailed"))
        })
    };
    lab.ip("-6 address add fd77::3/64 dev br0");
    assert!(state("fd77::3"), "a VM has it");
    lab.ip("-6 address add fd77::99/64 dev br0");
    assert!(!state("fd77::99"), "nobody has it");
}

#[test]
fn a_vm_that_probes_finds_the_kernel_and_reports_the_conflict() {
    let lab = Lab::new();
    lab.make_by_hand();
    lab.run(&[
        "sh",
        "-c",
        "echo 0 > /proc/sys/net/ipv6/conf/br0/disable_ipv6",
    ])
    .expect_status(0);
    lab.ip("-6 address add fd77::2/64 dev br0 nodad");
    let mut run = lab.start_tap_reactor("--netns host --attach --ipv6 --dad -v");
    run.wait_until_it_says("vm0   conflict: fd77::2 is also used by");
    run.wait_until_it_says("vm1   uses fd77::3");
    run.signal(Signal::SIGINT);
    let run = run.wait().expect_status(0);
    assert!(!run.stderr.contains("vm0   uses fd77::2"), "{}", run.stderr);
}

#[test]
fn vms_ping_each_other_and_the_kernel_over_ipv6_and_resolution_is_measured_apart() {
    let lab = Lab::new();
    for (arguments, flows) in [
        ("--ping vm0:vm1 -6", 1),
        (
            "--ping vm0:vm1 --ping-ipv6 --allow-fragmentation --size 65527",
            1,
        ),
        ("--ping vm0:fd77::3", 1),
        ("--ping vm0:[fd77::1] --host-address fd77::1/64", 1),
        ("--ping vm0:fe80::aff:fe4d:3", 1),
        (
            "--ping mesh -6 --vms 5 --host-address 10.77.0.1/16 --host-address fd77::1/64",
            20,
        ),
    ] {
        let run = lab.tap_reactor(&format!("{arguments} --count 20 --interval 1ms --json"));
        let report = run.expect_status(0).json();
        assert_eq!(report["totals"]["received"], 20 * flows, "{arguments}");
        assert_eq!(report["resolution_ns"]["count"], 0, "{arguments}");
        // Who is asked before asking has the answer already.
        let resolved = report["resolution6_ns"]["count"].as_u64().expect("a count");
        assert!((1..=flows).contains(&resolved), "{arguments}: {resolved}");
    }
}

#[test]
fn the_kernel_routes_what_goes_to_the_gateway_and_its_errors_end_the_pings_they_are_about() {
    let lab = Lab::new();
    for setting in [
        "net.ipv6.conf.all.forwarding=1",
        // As many errors as there are pings.
        "net.ipv6.icmp.ratelimit=0",
    ] {
        lab.run(&["sysctl", "-qw", setting]).expect_status(0);
    }
    lab.ip("link set lo up");
    lab.ip("route add unreachable 2001:db8:1::/64");
    lab.ip("route add prohibit 2001:db8:2::/64");
    // The far end of a narrow link; it needs no answer, because the errors come before.
    lab.ip("link add narrow mtu 1280 type veth peer name far");
    lab.ip("link set far up");
    lab.ip("link set narrow up");
    lab.ip("address add 2001:db8:3::1/64 dev narrow nodad");
    for (destination, options, error) in [
        ("2001:db8:1::9", "", "network_unreachable"),
        ("2001:db8:2::9", "", "prohibited"),
        ("2001:db8:3::9", "--ttl 1", "time_exceeded"),
        ("2001:db8:3::9", "--size 1400", "fragmentation_needed"),
    ] {
        let line = format!(
            "--netns {} --host-address fd77::1/64 --host-address 10.77.0.1/16 --gateway fd77::1 --gateway 10.77.0.1 \
             --ping vm0:{destination} --count 1 --json {options}",
            lab.name()
        );
        let report = lab.tap_reactor(&line).expect_status(1).json();
        assert_eq!(report["errors"], json!({ error: 1 }), "{line}: {report}");
    }
    // Both ways out at once: the router's own far side, by either version.
    lab.ip("address add 203.0.113.1/24 dev narrow");
    let line = format!(
        "--netns {} --host-address fd77::1/64 --host-address 10.77.0.1/16 --gateway fd77::1 --gateway 10.77.0.1 \
         --ping vm0:2001:db8:3::1 --ping vm1:203.0.113.1 --count 3 --json",
        lab.name()
    );
    let report = lab.tap_reactor(&line).expect_status(0).json();
    assert_eq!(report["totals"]["received"], json!(6), "{report}");
}

#[test]
fn announced_addresses_are_in_the_kernels_neighbour_table_unasked() {
    let lab = Lab::new();
    // A kernel that takes what nobody asked for, as routers do.
    lab.run(&[
        "sysctl",
        "-qw",
        "net.ipv6.conf.default.accept_untracked_na=1",
    ])
    .expect_status(0);
    lab.run(&["sysctl", "-qw", "net.ipv6.conf.default.forwarding=1"])
        .expect_status(0);
    let _vms = serve(&lab, "--vms 3 --announce");
    wait_until("the announcements", || {
        let table = lab.ip("-6 neigh show dev br0");
        let known = |last: u8| {
            let mac = format!("02:00:0a:4d:00:0{last}");
            ["fd77::", "fe80::aff:fe4d:"]
                .iter()
                .all(|net| table.contains(&format!("{net}{last} lladdr {mac}")))
        };
        (2..5).all(known).then_some(())
    });
}

#[test]
fn a_closed_port_and_an_unknown_protocol_are_refused_as_the_kernel_understands_it() {
    let lab = Lab::new();
    let _vms = serve(&lab, "--vms 1 --udp-echo");
    let script = r#"
import socket
def udp(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect(("fd77::2", port))
    s.send(b"x" * 3000)
    try:
        return len(s.recv(9000))
    except ConnectionRefusedError:
        return "refused"
print(udp(7), udp(9))
errors = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
errors.settimeout(5)
socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253).sendto(b"hello", ("fd77::2", 0))
while True:
    message = errors.recv(2000)
    if message[0] < 128:
        break
print(list(message[:2]), list(message[4:8]))
"#;
    let run = lab.run(&["python3", "-c", script]).expect_status(0);
    assert_eq!(run.stdout, "3000 refused\n[4, 1] [0, 0, 0, 6]\n");
}

#[test]
fn vms_take_address_and_router_from_radvd() {
    let lab = Lab::new();
    let folder = tempfile::TempDir::new().expect("make a temporary directory");
    let config = folder.path().join("radvd.conf");
    let text = "interface br0 { AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; \
                prefix fd99::/64 { AdvOnLink on; AdvAutonomous on; }; };\n";
    std::fs::write(&config, text).expect("write radvd's configuration");
    lab.make_by_hand();
    for (file, value) in [("br0/disable_ipv6", 0), ("all/forwarding", 1)] {
        let write = format!("echo {value} > /proc/sys/net/ipv6/conf/{file}");
        lab.run(&["sh", "-c", &write]).expect_status(0);
    }
    lab.ip("-6 address add fd99::1/64 dev br0 nodad");
    lab.ip("-6 address add 2001:db8::1/128 dev lo nodad");
    let pid_file = folder.path().join("radvd.pid");
    let words = [
        "radvd",
        "--nodaemon",
        "--logmethod",
        "stderr",
        "--config",
        config.to_str().expect("a path in UTF-8"),
        "--pidfile",
        pid_file.to_str().expect("a path in UTF-8"),
    ];
    let mut vms = lab.start_tap_reactor("--netns host --attach --slaac -v");
    // The bridge has a carrier only while somebody holds its TAPs.
    wait_until("a link-local address on the bridge", || {
        let addresses = lab.ip("-6 -oneline address show dev br0 scope link");
        (addresses.contains("fe80:") && !addresses.contains("tentative")).then_some(())
    });
    let mut radvd = lab.start(&words);
    vms.wait_until_it_says("vm0   uses fd99::aff:fe4d:2");
    vms.wait_until_it_says("vm1   uses fd99::aff:fe4d:3");
    radvd.expect_alive();
    ping(&lab, "fd99::aff:fe4d:2");
    // An address beyond the router, to whose next hop only its advertisement leads.
    ping(&lab, "-I 2001:db8::1 fd99::aff:fe4d:3");
    drop(vms);

    // Pings begin when there is a router. It answers those to its other address, and tells of those to where it knows no
    // way.
    let run = lab.tap_reactor(
        "--netns host --attach --slaac --ping vm0:2001:db8::1 --ping vm1:2001:db8:dead::1 --interval 50ms --duration 8s \
         --json",
    );
    let report = run.expect_status(1).json();
    assert!(report["totals"]["received"].as_u64() > Some(20), "{report}");
    assert!(report["totals"]["errored"].as_u64() > Some(1), "{report}");
    assert_eq!(report["totals"]["unresolved"], 0, "{report}");
}
