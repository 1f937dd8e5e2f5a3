//! TCP between VMs and the kernel: its sockets accept what VMs open, and open what VMs accept.

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Lab, Running, number, wait_until};
use crate::probes::{ping, python, total};

/// Accepts connections over IPv4 and IPv6, reads until the other side has closed, and says how each has ended.
const SERVER: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('::', int(sys.argv[1])))
s.listen(4096)
print('listens', flush=True)
while True:
    connection, address = s.accept()
    try:
        connection.sendall(b'hello')
        print('closed' if connection.recv(1) == b'' else 'data', flush=True)
    except ConnectionError:
        print('reset', flush=True)
    connection.close()
";

/// Opens connections to an address and closes them, several at once; data that it sends has the connection reset.
const CLIENT: &str = "
import socket, sys
address = sys.argv[1]
family = socket.AF_INET6 if ':' in address else socket.AF_INET
for turn in range(20):
    held = []
    for each in range(10):
        s = socket.socket(family, socket.SOCK_STREAM)
        s.settimeout(10)
        s.connect((address, 8080))
        held.append(s)
    for s in held:
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b''
        s.close()
s = socket.create_connection((address, 8080), 10)
s.send(b'hello')
try:
    assert s.recv(1) == b'', 'data'
    print('closed')
except ConnectionResetError:
    print('reset')
try:
    socket.create_connection((address, 8081), 10)
except ConnectionRefusedError:
    print('refused')
";

/// Opens a connection whose end the kernel asks after each second, and gives up after two questions.
const KEEPS_ALIVE: &str = "
import socket, sys, time
s = socket.create_connection((sys.argv[1], 8080), 10)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
    s.setsockopt(socket.IPPROTO_TCP, option, value)
s.settimeout(6)
try:
    s.recv(1)
except TimeoutError as error:
    print('open' if error.errno is None else 'dead')
";

/// Accepts connections over IPv4 and closes each at once.
const CLOSES_FIRST: &str = "
import socket, sys
s = socket.create_server(('', int(sys.argv[1])), backlog=4096)
print('listens', flush=True)
while True:
    s.accept()[0].close()
";

fn server(lab: &Lab, port: &str) -> Running {
    python(lab, SERVER, port)
}

#[test]
fn the_kernel_answers_every_syn_and_agrees_how_each_connection_was_closed() {
    let lab = Lab::new();
    for (port, close, ends) in [
        // A SYN that is reset never gets to the program.
        ("9000", "--tcp-close rst", None),
        ("9001", "--tcp-close fin", Some("closed")),
        ("9002", "--tcp-close fin --tcp-hold 20ms", Some("closed")),
        ("9003", "--tcp-close rst --tcp-hold 20ms", Some("reset")),
    ] {
        let server = server(&lab, port);
        for target in ["10.77.0.1", "fd77::1"] {
            let arguments = format!(
                "--vms 1 --ping vm0:{target} --probe tcp --port {port} {close} --count 40 --timeout 5s"
            );
            let report = ping(&lab, &arguments, 0);
            assert_eq!(total(&report, "received"), 40, "{target} {close}: {report}");
            assert_eq!(total(&report, "duplicate"), 0, "{report}");
            assert_eq!(report["flows"][0]["probe"], "tcp");
        }
        let said = || -> Vec<String> {
            let text = server.stdout();
            text.lines().skip(1).map(str::to_owned).collect()
        };
        match ends {
            None => assert_eq!(said(), [""; 0], "{close}"),
            Some(how) => {
                wait_until("the ends of all connections", || {
                    (said().len() == 80).then_some(())
                });
                // Those that are open when the run ends are reset.
                let others = said().iter().filter(|end| *end != how).count();
                assert!(others <= 10, "{close}: {:?}", said());
            }
        }
    }
    let sockets = lab.run(&["ss", "--tcp", "--all", "--numeric", "--no-header"]);
    let left = sockets.expect_status(0).stdout;
    let left: Vec<&str> = left
        .lines()
        .filter(|line| !line.contains("LISTEN"))
        .collect();
    assert!(
        left.iter().all(|line| line.starts_with("TIME-WAIT")),
        "{left:?}"
    );
}

#[test]
fn a_run_is_repeated_at_a_server_that_remembers_the_connections_of_the_one_before() {
    let lab = Lab::new();
    let _server = python(&lab, CLOSES_FIRST, "9000");
    let arguments = "--vms 1 --ping vm0:10.77.0.1 --probe tcp --port 9000 --tcp-close fin --tcp-hold 20ms --count 40";
    for is_first in [true, false] {
        let report = ping(&lab, arguments, 0);
        assert_eq!(total(&report, "received"), 40, "{report}");
        // The host has the ports, and the numbers, in TIME-WAIT.
        let repeated = number(&report, "/connections/syns_repeated");
        assert_eq!(repeated == 0, is_first, "{report}");
    }
    // Where resets do not end that (RFC 1337), nothing can be done, and it is told.
    let keep = "net.ipv4.tcp_rfc1337=1";
    lab.run(&["sysctl", "-w", keep]).expect_status(0);
    let report = ping(&lab, arguments, 1);
    let losses = &report["losses"];
    assert_eq!(
        number(losses, "/0/count"),
        total(&report, "lost"),
        "{losses}"
    );
    assert_eq!(losses[0]["cause"], "ignored", "{losses}");
    assert_eq!(losses[0]["direction"], "reply", "{losses}");
    assert_eq!(losses[0]["reason"], "unexpected_reply", "{losses}");
}

#[test]
fn a_keep_alive_of_the_kernel_is_answered_by_the_vm_that_listens() {
    let lab = Lab::new();
    let mut vms =
        lab.start_tap_reactor("--netns host --vms 1 --tcp-listen 8080 --host-address 10.77.0.1/16");
    lab.wait_until_ports_forward(&mut vms, &["tap0"]);
    let client = lab.run(&["python3", "-c", KEEPS_ALIVE, "10.77.0.2"]);
    assert_eq!(client.expect_status(0).stdout, "open\n");
}

#[test]
fn a_syn_that_is_repeated_is_of_its_ping_in_traces_and_captures() {
    let lab = Lab::new();
    let folder = TempDir::new().expect("make a temporary directory");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let run = lab.tap_reactor(&format!(
        "--fabric sim --ping vm0:vm1 --probe tcp --count 3 --interval 100ms --timeout 3500ms --impair vm1:out:loss=100% \
         --resolve static --json --capture {} --trace {}",
        file("c.pcapng"),
        file("t.jsonl")
    ));
    run.expect_status(1);
    let trace = std::fs::read_to_string(file("t.jsonl")).expect("a trace");
    let of_kind = |kind: &str| -> Vec<u64> {
        let lines = trace
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        lines
            .filter(|line: &Value| line["kind"] == kind)
            .map(|line| number(&line, "/ping"))
            .collect()
    };
    assert_eq!(of_kind("ping_sent"), [0, 1, 2]);
    assert_eq!(of_kind("ping_repeated"), [0, 1, 2, 0, 1, 2]);
    let comments = [
        "tshark",
        "-r",
        &file("c.pcapng"),
        "-T",
        "fields",
        "-e",
        "frame.comment",
    ];
    let comments = lab.run(&comments).expect_status(0).stdout;
    let said = |words: &str| {
        comments
            .lines()
            .filter(|line| line.starts_with(words))
            .count()
    };
    for ping in 0..3 {
        let name = format!("ping {ping} of vm0 → vm1: no answer in time");
        // Where each is sent, and where it and its repeats arrive.
        assert_eq!(said(&name), 4, "{comments}");
        assert_eq!(said(&format!("repeat of {name}")), 2, "{comments}");
    }
    assert!(!comments.contains("not known yet"), "{comments}");
}

#[test]
fn a_port_of_the_kernel_at_which_nobody_listens_refuses_every_connection_and_is_timed() {
    let lab = Lab::new();
    for target in ["10.77.0.1", "fd77::1"] {
        let arguments = format!("--vms 1 --ping vm0:{target} --probe tcp --port 9001 --count 20");
        let report = ping(&lab, &arguments, 1);
        assert_eq!(total(&report, "errored"), 20, "{target}: {report}");
        assert_eq!(number(&report, "/errors/refused"), 20);
        assert_eq!(number(&report, "/refused_ns/count"), 20);
        assert_eq!(report["losses"][0]["cause"], "reported", "{report}");
    }
}

#[test]
fn clients_of_the_kernel_open_and_close_connections_that_vms_accept() {
    let lab = Lab::new();
    let mut vms = lab.start_tap_reactor(
        "--netns host --vms 2 --ipv6 --tcp-listen 8080 --host-address 10.77.0.1/16 --host-address fd77::1/64",
    );
    lab.wait_until_ports_forward(&mut vms, &["tap0", "tap1"]);
    wait_until("the host's addresses", || {
        let addresses = lab.ip("-oneline address show dev br0");
        let are_there = ["10.77.0.1/16", "fd77::1/64"].map(|each| addresses.contains(each));
        (are_there == [true; 2] && !addresses.contains("tentative")).then_some(())
    });
    for address in ["10.77.0.2", "fd77::3"] {
        let client = lab.run(&["python3", "-c", CLIENT, address]);
        assert_eq!(
            client.expect_status(0).stdout,
            "reset\nrefused\n",
            "{address}"
        );
    }
}

#[test]
fn vms_open_connections_to_each_other_on_every_fabric_and_in_vlans() {
    for fabric in ["sim", "bridge", "xdp"] {
        for more in ["", "--tcp-close fin", "-6", "--vlan 7"] {
            if fabric == "xdp" && more == "--vlan 7" {
                continue;
            }
            let lab = Lab::new();
            let run = lab.tap_reactor(&format!(
                "--fabric {fabric} --vms 3 --ping ring --probe tcp {more} --count 5 --timeout 5s --json"
            ));
            let report = run.expect_status(0).json();
            assert_eq!(total(&report, "received"), 15, "{fabric} {more}: {report}");
        }
    }
}

#[test]
fn a_report_tells_how_many_connections_were_opened_and_open_at_once_and_what_was_repeated() {
    let lab = Lab::new();
    let run = |arguments: &str, status| {
        let all = format!("--fabric sim --vms 2 --ping vm0:vm1 --probe tcp {arguments} --json");
        lab.tap_reactor(&all).expect_status(status).json()
    };
    let figure = |report: &Value, name: &str| number(report, &format!("/connections/{name}"));
    // One each 10 ms, each held for 45 ms.
    for close in ["rst", "fin"] {
        let report = run(
            &format!("--count 200 --tcp-hold 45ms --tcp-close {close}"),
            0,
        );
        assert_eq!(figure(&report, "opened"), 200, "{report}");
        assert_eq!(figure(&report, "open_at_once"), 5, "{report}");
        assert_eq!(report["connections"]["opened_per_s"], 100.0, "{report}");
        assert_eq!(figure(&report, "syns_repeated"), 0, "{report}");
    }
    // Each phase has its own, a warm-up too.
    let report = run("--warmup 100ms --duration 200ms", 0);
    let opened = ["/phases/0", "/phases/1", ""]
        .map(|of| number(&report, &format!("{of}/connections/opened")));
    assert_eq!(opened, [10, 20, 20], "{report}");
    assert_eq!(
        report["phases"][1]["connections"]["opened_per_s"], 100.0,
        "{report}"
    );
    let report = run("--count 200 --impair loss=30% --timeout 2s", 1);
    assert_eq!(figure(&report, "opened"), total(&report, "received"));
    // Half of the SYNs, or of what answers them, are lost; each is repeated once, after a second.
    let repeated = figure(&report, "syns_repeated");
    assert!((60..140).contains(&repeated), "{repeated}");
    let lost = total(&report, "lost");
    assert!(lost > 10 && lost < repeated, "{lost} of {repeated}");
    let causes = report["losses"].as_array().expect("losses");
    assert!(
        causes.iter().all(|row| row["cause"] == "impaired"),
        "{report}"
    );
}

/// Ten connections are tracked; the packets of one more are dropped.
const RULES: &str = "
table inet track {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state new ct count over 10 drop
    }
}
";

#[test]
fn connections_that_are_one_too_many_for_a_rule_are_lost_and_put_down_to_it() {
    let lab = Lab::new();
    let rules = format!("echo '{RULES}' | nft -f -");
    lab.run(&["sh", "-c", &rules]).expect_status(0);
    for version in ["", "-6"] {
        let run = lab.tap_reactor(&format!(
            "--netns host --vms 2 {version} --ping vm0:vm1 --probe tcp --tcp-hold 1h --count 30 --timeout 500ms --json"
        ));
        let report = run.expect_status(1).json();
        assert_eq!(total(&report, "received"), 10, "{version}: {report}");
        assert_eq!(number(&report, "/connections/open_at_once"), 10);
        let losses = &report["losses"];
        assert_eq!(number(losses, "/0/count"), 20, "{losses}");
        assert_eq!(
            losses[0]["reason"], "NETFILTER_DROP in nft_do_chain",
            "{losses}"
        );
        // They were reset when the run ended: the next one finds room.
    }
}
