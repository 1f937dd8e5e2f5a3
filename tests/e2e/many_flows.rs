//! More flows of one VM than 16 bits tell apart, on a real bridge, and the kernel as the peer of flows that share ports.

use std::fs;

use crate::lab::{Lab, wait_until};
use crate::probes::total;

/// Sends back what comes to a UDP port at each of some addresses, from there.
const UDP_ECHO_AT: &str = "
import select, socket, sys
port, addresses = int(sys.argv[1]), sys.argv[2:]
sockets = []
for address in addresses:
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
    s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    s.bind((address, port))
    sockets.append(s)
print('listens', flush=True)
while True:
    for s in select.select(sockets, [], [])[0]:
        data, peer = s.recvfrom(65536)
        s.sendto(data, peer)
";

/// A scenario in a file.
fn scenario(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::with_suffix(".toml").expect("a temporary file");
    fs::write(file.path(), text).expect("write a scenario");
    file
}

#[test]
fn a_vm_with_more_flows_than_16_bits_tell_apart_is_answered_in_all_on_a_bridge() {
    for probe in ["udp", "tcp"] {
        let lab = Lab::new();
        let flows = format!("'vm0:vm[1-100],probe={probe}',").repeat(700);
        let file = scenario(&format!(
            "vms = 101\ncount = 1\nrate = '7k'\ntimeout = '10s'\nping = [{flows}]"
        ));
        let run = lab.tap_reactor(&format!("--scenario {} --json", file.path().display()));
        let report = run.expect_status(0).json();
        let found = ["sent", "received", "duplicate"].map(|count| total(&report, count));
        assert_eq!(found, [70_000, 70_000, 0], "{probe}");
    }
}

#[test]
fn a_program_at_several_addresses_answers_flows_that_share_source_ports() {
    let lab = Lab::new();
    let addresses = ["10.77.0.1", "10.77.255.1", "fd77::1"];
    // The kernel answers requests for each of its addresses, at whatever interface.
    lab.ip("link set lo up");
    lab.ip("address add 10.77.255.1/32 dev lo");
    let mut command = vec!["python3", "-c", UDP_ECHO_AT, "9000"];
    command.extend(addresses);
    let mut echo = lab.start(&command);
    wait_until("the program to listen", || {
        echo.expect_alive();
        echo.stdout().contains("listens").then_some(())
    });
    // There are 28,232 ports: of two addresses' 15,000 flows some share one.
    let flows: Vec<String> = addresses
        .iter()
        .map(|address| format!("'vm0:{address},probe=udp,port=9000',").repeat(15_000))
        .collect();
    let file = scenario(&format!(
        "vms = 1\ncount = 1\nrate = '5k'\ntimeout = '10s'\nipv6 = true\nhost-address = ['10.77.0.1/16', 'fd77::1/64']\nping = [{}]",
        flows.concat()
    ));
    let run = lab.tap_reactor(&format!(
        "--netns host --json --scenario {}",
        file.path().display()
    ));
    let report = run.expect_status(0).json();
    let found = ["sent", "received", "duplicate", "corrupt"].map(|count| total(&report, count));
    assert_eq!(found, [45_000, 45_000, 0, 0]);
}

#[test]
fn more_flows_of_a_vm_than_can_be_told_apart_are_refused_before_anything_is_touched() {
    let lab = Lab::new();
    let echoes = "'vm0:vm[1-100]',".repeat(656);
    let by_udp = "'vm0:vm1,probe=udp',".repeat(28_233);
    for (vms, flows, expected) in [
        (
            101,
            echoes,
            "vm0 has more than 65536 flows by icmp and stamp",
        ),
        (
            2,
            by_udp,
            "vm0 has more than 28232 udp flows to port 7 of one destination",
        ),
    ] {
        let file = scenario(&format!("vms = {vms}\ncount = 1\nping = [{flows}]"));
        let run = lab.tap_reactor(&format!(
            "--netns host --scenario {}",
            file.path().display()
        ));
        let run = run.expect_status(2);
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        assert!(!lab.link_names().iter().any(|name| name.contains("tap")));
    }
}
