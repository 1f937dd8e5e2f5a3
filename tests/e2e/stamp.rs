//! STAMP between VMs and other people's programs: tshark reads the packets, scapy builds and reads them at the other end.

use std::process::Command;

use tempfile::TempDir;

use crate::lab::{Lab, Running, number, succeed, wait_until};

/// A reflector made of scapy's packets, stateful; one that is told to be TWAMP Light's knows no session, and sends 41 bytes.
const REFLECTOR: &str = "
import socket, sys, time
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated as Request
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated as Reply
from scapy.contrib.stamp import STAMPTestTLV as TLV
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', 862))
print('listens', flush=True)
number = 0
while True:
    data, address = s.recvfrom(65536)
    received = time.time() + 2208988800
    # scapy 2.5 does not find what is behind the packet by itself.
    request, padding = Request(data[:44]), data[44:]
    assert not request.err_estimate.S and not request.err_estimate.Z, request
    assert request.ssid and not request.mbz and abs(float(request.ts) - received) < 60, request
    assert bytes(request) == data[:44], request
    tlv = TLV(padding)
    assert not padding or (bytes(tlv) == padding and tlv.type == 1 and padding[0] == 0x80), tlv
    reply = Reply(seq=number, ts=received, ssid=request.ssid, ts_rx=received, seq_sender=request.seq,
                  ts_sender=request.ts, err_estimate_sender=request.err_estimate, ttl_sender=64)
    reply = bytes(reply) + data[44:]
    # The time as it came: scapy rounds it.
    reply = reply[:28] + data[4:12] + reply[36:]
    if sys.argv[1:] == ['twamp-light']:
        reply = (reply[:14] + bytes(2) + reply[16:])[:41]
    s.sendto(reply, address)
    number += 1
";

/// Sends test packets by scapy to the reflectors of VMs, and checks what comes back.
const SENDER: &str = "
import socket, sys, time
from scapy.contrib.stamp import STAMPSessionSenderTestUnauthenticated as Request
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated as Reply
mode, *addresses = sys.argv[1:]
for address in addresses:
    for session in 1, 2:
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(10)
        s.connect((address, 862))
        if family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
        else:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 33)
        for turn, sequence in enumerate((5, 4, 900)):
            now = time.time() + 2208988800
            request = bytes(Request(seq=sequence, ssid=session, ts=now)) + bytes(turn)
            s.send(request)
            answer = s.recv(65536)
            reply = Reply(answer[:44])
            assert len(answer) == len(request), reply
            assert reply.seq == (turn if mode == 'stateful' else sequence), reply
            assert (reply.seq_sender, reply.ssid, reply.ttl_sender) == (sequence, session, 33), reply
            assert answer[28:36] == request[4:12] and answer[36:38] == request[12:14], reply
            assert (reply.mbz1, reply.mbz2) == (0, 0), reply
            assert now - 60 < float(reply.ts_rx) <= float(reply.ts) < now + 60, reply
        # TWAMP Light without padding.
        s.send(request[:14])
        answer = s.recv(65536)
        assert len(answer) == 44 and answer[24:38] == request[:14], answer
print('agreed')
";

/// Debian's Python, which has scapy.
const PYTHON: &str = "/usr/bin/python3";

fn reflector(lab: &Lab, mode: &str) -> Running {
    let mut running = lab.start(&[PYTHON, "-c", REFLECTOR, mode]);
    wait_until("the reflector to listen", || {
        running.expect_alive();
        running.stdout().contains("listens").then_some(())
    });
    running
}

#[test]
fn reflectors_made_of_scapys_packets_answer_every_ping() {
    for mode in ["stamp", "twamp-light"] {
        let lab = Lab::new();
        let _reflector = reflector(&lab, mode);
        for target in ["10.77.0.1", "fd77::1"] {
            for size in [44, 48, 1000] {
                let run = lab.tap_reactor(&format!(
                    "--netns host --host-address 10.77.0.1/16 --host-address fd77::1/64 --ipv6 --vms 1 \
                     --ping vm0:{target} --probe stamp --size {size} --count 20 --timeout 5s --json"
                ));
                let report = run.expect_status(0).json();
                let received = number(&report, "/totals/received");
                assert_eq!(received, 20, "{mode} {target} {size}: {report}");
                assert_eq!(report["flows"][0]["probe"], "stamp");
            }
        }
    }
}

#[test]
fn a_sender_made_of_scapys_packets_agrees_with_the_reflectors_of_vms() {
    for mode in ["stateless", "stateful"] {
        let lab = Lab::new();
        let mut vms = lab.start_tap_reactor(&format!(
            "--netns host --vms 2 --ipv6 --stamp-reflector={mode} --host-address 10.77.0.1/16 --host-address fd77::1/64"
        ));
        lab.wait_until_ports_forward(&mut vms, &["tap0", "tap1"]);
        wait_until("the host's addresses", || {
            let addresses = lab.ip("-oneline address show dev br0");
            let are_there = ["10.77.0.1/16", "fd77::1/64"].map(|each| addresses.contains(each));
            (are_there == [true; 2] && !addresses.contains("tentative")).then_some(())
        });
        let client = lab.run(&[PYTHON, "-c", SENDER, mode, "10.77.0.2", "fd77::3"]);
        assert_eq!(client.expect_status(0).stdout, "agreed\n", "{mode}");
    }
}

/// Fields of each frame that a VM has sent to or from the reflector's port, as tshark reads them as TWAMP-Test.
fn twamp_test(file: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", file, "-d", "udp.port==862,twamp.test"]);
    // Outbound, as an interface's; those that came are captured as well.
    command.args(["-Y", "twamp.test && frame.packet_flags_direction == 2"]);
    command.args(["-T", "fields"]);
    fields.iter().for_each(|field| {
        command.args(["-e", field]);
    });
    let text = succeed(&mut command);
    let fields = |line: &str| line.split('\t').map(str::to_owned).collect();
    text.lines().map(fields).collect()
}

#[test]
fn tshark_reads_test_packets_and_their_reflections_as_twamp_test() {
    const COUNT: usize = 5;
    for (fabric, more) in [("sim", ""), ("bridge", "--ping-ipv6"), ("bridge", "")] {
        let (lab, folder) = (Lab::new(), TempDir::new().expect("a folder"));
        let file = folder.path().join("run.pcapng").display().to_string();
        let run = lab.tap_reactor(&format!(
            "--fabric {fabric} --vms 2 --ping vm0:vm1 --probe stamp {more} --ttl 255 --count {COUNT} --timeout 5s \
             --stamp-reflector=stateful --capture {file} --json"
        ));
        let report = run.expect_status(0).json();
        assert_eq!(
            number(&report, "/totals/received"),
            COUNT as u64,
            "{report}"
        );
        let frames = twamp_test(
            &file,
            &[
                "udp.dstport",
                "twamp.test.seq_number",
                "twamp.test.timestamp",
                "twamp.test.error_estimate",
                "twamp.test.receive_timestamp",
                "twamp.test.sender_seq_number",
                "twamp.test.sender_timestamp",
                "twamp.test.sender_error_estimate",
                "twamp.test.sender_ttl",
                "_ws.malformed",
                "udp.payload",
            ],
        );
        assert_eq!(frames.len(), 2 * COUNT, "{frames:?}");
        let (requests, replies): (Vec<_>, Vec<_>) =
            frames.into_iter().partition(|frame| frame[0] == "862");
        assert_eq!(requests.len(), COUNT);
        // Scale 22, multiplier 1.
        for (turn, (request, reply)) in requests.iter().zip(&replies).enumerate() {
            let turn = turn.to_string();
            assert_eq!((&request[1], &request[3]), (&turn, &"5633".to_owned()));
            assert_eq!((&reply[1], &reply[5]), (&turn, &turn));
            assert_eq!(&reply[2], &reply[4], "times");
            // tshark 4.0 shows the sender's time otherwise than the others: its eight bytes.
            assert_eq!(reply[10][56..72], request[10][8..24], "{reply:?}");
            assert_eq!((&reply[7], &reply[8]), (&request[3], &"255".to_owned()));
            assert_eq!((&request[9], &reply[9]), (&String::new(), &String::new()));
        }
    }
}

#[test]
fn a_lost_test_packet_and_a_lost_reflection_are_told_apart() {
    let lab = Lab::new();
    for (impaired, part) in [("vm1:in", "request"), ("vm1", "reply")] {
        let run = lab.tap_reactor(&format!(
            "--fabric sim --vms 2 --ping vm0:vm1 --probe stamp --count 50 --one-way --impair {impaired}:every=10 --json"
        ));
        let report = run.expect_status(1).json();
        let losses = &report["losses"];
        assert_eq!(number(losses, "/0/count"), 5, "{report}");
        assert_eq!(losses[0]["cause"], "impaired", "{losses}");
        assert_eq!(losses[0]["direction"], part, "{losses}");
    }
}
