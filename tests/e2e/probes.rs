//! Probes of other kinds than ICMP echo: somebody else's program is the other end, and the kernel.

use serde_json::Value;

use crate::lab::{Lab, Running, number, wait_until};

/// Sends back what comes to a UDP port, over IPv4 and IPv6.
const UDP_ECHO: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', int(sys.argv[1])))
print('listens', flush=True)
while True:
    data, address = s.recvfrom(65536)
    s.sendto(data, address)
";

/// Sends datagrams to the port of the echo service, and compares what comes back.
const UDP_CLIENT: &str = "
import socket, sys
for size in (8, 100, 1472):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect((sys.argv[1], 7))
    sent = bytes(i % 251 for i in range(size))
    s.send(sent)
    assert s.recv(65536) == sent, size
print('the same')
";

/// Starts a program of Python's in the lab's namespace, and waits until it listens.
pub fn python(lab: &Lab, program: &str, port: &str) -> Running {
    let mut running = lab.start(&["python3", "-c", program, port]);
    wait_until("the program to listen", || {
        running.expect_alive();
        running.stdout().contains("listens").then_some(())
    });
    running
}

/// The report of a run in the lab's namespace, where the host has addresses.
pub fn ping(lab: &Lab, arguments: &str, status: i32) -> Value {
    let addresses =
        "--netns host --host-address 10.77.0.1/16 --host-address fd77::1/64 --ipv6 --json";
    let run = lab.tap_reactor(&format!("{addresses} {arguments}"));
    run.expect_status(status).json()
}

pub fn total(report: &Value, count: &str) -> u64 {
    number(report, &format!("/totals/{count}"))
}

#[test]
fn a_program_that_sends_back_answers_every_ping_by_udp_of_every_size() {
    let lab = Lab::new();
    let _echo = python(&lab, UDP_ECHO, "9000");
    for target in ["10.77.0.1", "fd77::1"] {
        for size in ["8", "56", "1400", "5000 --allow-fragmentation"] {
            let arguments = format!(
                "--vms 1 --ping vm0:{target} --probe udp --port 9000 --size {size} --count 50"
            );
            let report = ping(&lab, &arguments, 0);
            assert_eq!(total(&report, "received"), 50, "{target} {size}: {report}");
            assert_eq!(report["flows"][0]["probe"], "udp");
        }
    }
}

#[test]
fn a_port_of_the_kernel_at_which_nobody_listens_refuses_pings_and_is_timed() {
    let lab = Lab::new();
    // The kernel sends few errors a second to one host.
    for name in ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"] {
        lab.run(&["sysctl", "-w", name]).expect_status(0);
    }
    for target in ["10.77.0.1", "fd77::1"] {
        let arguments =
            format!("--vms 1 --ping vm0:{target} --probe udp --port 9001 --count 20 -i 20ms");
        let report = ping(&lab, &arguments, 1);
        assert_eq!(total(&report, "errored"), 20, "{target}: {report}");
        assert_eq!(number(&report, "/errors/refused"), 20);
        assert_eq!(number(&report, "/refused_ns/count"), 20);
        assert!(number(&report, "/refused_ns/min") > 0);
        let losses = &report["losses"];
        assert_eq!(number(losses, "/0/count"), 20, "{losses}");
        assert_eq!(losses[0]["cause"], "reported", "{losses}");
    }
}

#[test]
fn kinds_of_probes_are_mixed_in_one_run_and_told_apart() {
    for fabric in ["sim", "bridge", "xdp"] {
        let lab = Lab::new();
        let flows = "--ping vm0:vm1 --ping vm0:vm1,probe=icmp --ping vm1:vm0,port=9";
        let run = lab.tap_reactor(&format!(
            "--fabric {fabric} --vms 2 {flows} --probe udp --count 5 -i 50ms --timeout 5s --json"
        ));
        let report = run.expect_status(1).json();
        let flows = report["flows"].as_array().expect("flows");
        let found = flows.iter().map(|flow| {
            let count = |name: &str| number(flow, &format!("/totals/{name}"));
            let probe = flow["probe"].as_str().expect("a kind");
            (probe, count("received"), count("errored") + count("lost"))
        });
        // VMs limit the errors that they send to one host, as the kernel does.
        let found: Vec<_> = found.collect();
        let expected = [("udp", 5, 0), ("icmp", 5, 0), ("udp", 0, 5)];
        assert_eq!(found, expected, "{report}");
        assert!(number(&report, "/errors/refused") > 0, "{report}");
    }
}

#[test]
fn a_client_of_the_kernel_gets_back_what_it_sends_to_the_echo_service_of_a_vm() {
    let lab = Lab::new();
    let mut vms =
        lab.start_tap_reactor("--netns host --vms 2 --udp-echo --host-address 10.77.0.1/16");
    lab.wait_until_ports_forward(&mut vms, &["tap0", "tap1"]);
    wait_until("the host's address", || {
        let addresses = lab.ip("-4 -oneline address show dev br0");
        addresses.contains("10.77.0.1/16").then_some(())
    });
    let client = lab.run(&["python3", "-c", UDP_CLIENT, "10.77.0.2"]);
    assert_eq!(client.expect_status(0).stdout, "the same\n");
}

#[test]
fn the_kernel_answers_requests_for_its_addresses_and_nobody_those_for_others() {
    let lab = Lab::new();
    for target in ["10.77.0.1", "fd77::1"] {
        let arguments = format!("--vms 1 --ping vm0:{target} --probe arp --count 50 --window 1");
        let report = ping(&lab, &arguments, 0);
        assert_eq!(total(&report, "received"), 50, "{target}: {report}");
        assert_eq!(number(&report, "/resolution_ns/count"), 0, "{report}");
    }
    let arguments =
        "--vms 1 --ping vm0:10.77.0.99 --probe arp --count 2 --window 1 --timeout 100ms";
    let report = ping(&lab, arguments, 1);
    assert_eq!((total(&report, "sent"), total(&report, "lost")), (2, 2));
    assert_eq!(number(&report, "/losses/0/count"), 2, "{report}");
}

#[test]
fn a_unicast_request_reaches_its_destination_only_and_the_kernel_answers() {
    let lab = Lab::new();
    for target in ["10.77.0.1", "fd77::1"] {
        let arguments = format!(
            "--vms 1 --ping vm0:{target} --probe arp --arp-request unicast --count 50 --window 1"
        );
        let report = ping(&lab, &arguments, 0);
        assert_eq!(total(&report, "received"), 50, "{target}: {report}");
        assert_eq!(number(&report, "/neighbours/found"), 1, "{report}");
    }
    // What a third VM gets of them.
    for (ipv6, request) in [
        ("", "arp.opcode == 1"),
        ("--ping-ipv6", "icmpv6.type == 135"),
    ] {
        for (how, from, to) in [("unicast", 0, 4), ("broadcast", 50, 60)] {
            let lab = Lab::new();
            let file = tempfile::NamedTempFile::with_suffix(".pcapng").expect("a temporary file");
            let file = file.path().display().to_string();
            let arguments = format!(
                "--vms 3 --filter=off --ping vm0:vm1 {ipv6} --probe arp --arp-request {how} --count 50 --window 1 --timeout 5s --json --capture {file}"
            );
            let report = lab.tap_reactor(&arguments).expect_status(0).json();
            assert_eq!(total(&report, "received"), 50, "{how}: {report}");
            let seen = |tap: &str| {
                let filter = format!("{request} && frame.interface_name == \"{tap}\"");
                let read = lab.run(&["tshark", "-r", &file, "-Y", &filter]);
                read.expect_status(0).stdout.lines().count()
            };
            assert!(seen("tap1") >= 50, "{how}");
            let third = seen("tap2");
            assert!((from..=to).contains(&third), "{how}: {third}");
        }
    }
}

#[test]
fn copies_of_a_request_that_others_do_not_take_are_not_where_it_was_lost() {
    let lab = Lab::new();
    let arguments = "--netns host --vms 4 --filter=on --ping vm0:absent --probe arp --count 3 --window 1 --timeout 100ms --json";
    let report = lab.tap_reactor(arguments).expect_status(1).json();
    assert_eq!(total(&report, "lost"), 3, "{report}");
    assert_eq!(report["losses"][0]["cause"], "unknown", "{report}");
    assert_eq!(number(&report, "/losses/0/count"), 3, "{report}");
}

#[test]
fn vms_answer_each_other_and_arping() {
    for fabric in ["sim", "bridge", "xdp"] {
        for ipv6 in ["", "--ping-ipv6"] {
            let lab = Lab::new();
            let report = lab
                .tap_reactor(&format!(
                    "--fabric {fabric} --vms 20 --ping ring --probe arp --count 20 --window 1 --timeout 5s {ipv6} --json"
                ))
                .expect_status(0)
                .json();
            assert_eq!(total(&report, "received"), 400, "{fabric}: {report}");
        }
    }
    let lab = Lab::new();
    let mut vms = lab.start_tap_reactor("--netns host --vms 2 --host-address 10.77.0.1/16");
    lab.wait_until_ports_forward(&mut vms, &["tap0", "tap1"]);
    wait_until("the host's address", || {
        let addresses = lab.ip("-4 -oneline address show dev br0");
        addresses.contains("10.77.0.1/16").then_some(())
    });
    let arping = lab.run(&["arping", "-I", "br0", "-c", "3", "10.77.0.3"]);
    arping.expect_status(0);
}
