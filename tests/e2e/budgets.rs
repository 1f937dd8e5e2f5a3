//! What one TAP or interface brings does not keep another one waiting: so many frames are read there, and then it is the next one's turn.

use nix::sys::signal::Signal;

use crate::cable::quiet;
use crate::lab::{Lab, Running, wait_until};

/// Frames that wait for vm0 before there is one for vm1. All of them are read from the TAP or the interface of vm0 by a tool that goes on
/// until that is empty.
const FLOOD: usize = 1000;

/// What is read of them before it is vm1's turn: 64 of a TAP or a port, and what the answers to those let it read at once.
const BUDGET: usize = 64 * 3;

/// Finds the two VMs. When it is told to go on, it sends the echo requests for vm0, and then the one for vm1, and says so; in the end it
/// prints how many answers of vm0 were before that of vm1. Its arguments are the interfaces towards them.
const ASKER: &str = r#"
import os, socket, struct, sys
ports = dict(zip((2, 3), sys.argv[1:3]))
def checksum(data):
    sums = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    sums = (sums & 0xffff) + (sums >> 16)
    return ~(sums + (sums >> 16)) & 0xffff
own_mac, own = b'\x02\x11\x22\x33\x44\x55', bytes([10, 77, 200, 9])
def vm(host): return bytes([10, 77, 0, host])
def mac(host): return b'\x02\x00' + vm(host)
hears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
hears.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
hears.settimeout(0.2)
says = {}
for host, port in ports.items():
    says[host] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    says[host].bind((port, 0))
def next_from(*hosts):
    while True:
        frame, (_, _, kind, *_) = hears.recvfrom(2000)
        if kind != 4 and frame[:6] == own_mac:
            for host in hosts:
                if frame[6:12] == mac(host): return host, frame
arp = struct.pack('!HHBBH', 1, 0x800, 6, 4, 1) + own_mac + own + bytes(6)
for host in ports:
    for _ in range(100):
        says[host].send(b'\xff' * 6 + own_mac + b'\x08\x06' + arp + vm(host))
        try: next_from(host); break
        except TimeoutError: pass
hears.settimeout(20)
def request(host, number):
    echo = struct.pack('!BBHHH', 8, 0, 0, 77, number) + bytes(56)
    echo = echo[:2] + struct.pack('!H', checksum(echo)) + echo[4:]
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(echo), number, 0, 64, 1, 0) + own + vm(host)
    ip = ip[:10] + struct.pack('!H', checksum(ip)) + ip[12:]
    return mac(host) + own_mac + b'\x08\x00' + ip + echo
print('found', flush=True)
while not os.path.exists(sys.argv[4]): pass
for number in range(int(sys.argv[3])): says[2].send(request(2, number))
says[3].send(request(3, 0))
print('sent', flush=True)
before = 0
while next_from(2, 3)[0] == 2: before += 1
print(before)
"#;

/// Has vm0 flooded while the tool stands still, and returns how many of its answers came before that of vm1.
fn answers_before(run: &Running, asked_in: &Lab, ports: [&str; 2]) -> usize {
    let folder = tempfile::tempdir().expect("make a temporary directory");
    let go = folder.path().join("go");
    let (flood, path) = (FLOOD.to_string(), go.display().to_string());
    let [first, second] = ports;
    let asker = asked_in.start(&["python3", "-c", ASKER, first, second, &flood, &path]);
    let wait_for = |word: &str| {
        wait_until(word, || asker.stdout().contains(word).then_some(()));
    };
    wait_for("found");
    run.stop();
    std::fs::write(&go, "").expect("write a file");
    wait_for("sent");
    run.signal(Signal::SIGCONT);
    let told = asker.wait().expect_status(0).stdout;
    let before = told.lines().last().and_then(|line| line.parse().ok());
    before.unwrap_or_else(|| panic!("no number: {told}"))
}

/// Ends a run in which nothing was lost.
fn end(run: Running) {
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    assert_eq!(report["verdict"]["tap_queue_drops"], 0, "{report}");
}

#[test]
fn a_flooded_tap_does_not_keep_another_one_waiting() {
    let lab = quiet();
    let mut run = lab.start_tap_reactor("--netns host --vms 2 --txqueuelen 5000 --json");
    wait_until("the TAPs", || {
        run.expect_alive();
        (lab.link_names().len() == 3).then_some(())
    });
    let before = answers_before(&run, &lab, ["br0", "br0"]);
    assert!(before <= BUDGET, "{before} of {FLOOD}");
    end(run);
}

#[test]
fn a_flooded_interface_does_not_keep_another_one_waiting() {
    let (host, other) = (quiet(), quiet());
    for number in [1, 2] {
        let far = other.name();
        host.ip(&format!(
            "link add eth{number} type veth peer name far{number} netns {far}"
        ));
        host.ip(&format!("link set eth{number} up"));
        other.ip(&format!("link set far{number} up"));
    }
    let run = host.start_tap_reactor(
        "--fabric interface --interface vm0=eth1 --interface vm1=eth2 --vms 2 --json",
    );
    let before = answers_before(&run, &other, ["far1", "far2"]);
    assert!(before <= BUDGET, "{before} of {FLOOD}");
    end(run);
}
