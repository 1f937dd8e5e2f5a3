//! Other events on a bridge: other protocols, noise, a pulled cable.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::lab::{Lab, now, wait_until};
use crate::raw_socket::RawSocket;
use crate::report::Report;

/// A lab as somebody might have it who never heard of ours: IPv6 on, addresses on the bridge, one more port.
fn lived_in_lab() -> Lab {
    let lab = Lab::new();
    lab.ip("link add br0 type bridge");
    lab.ip("address add 10.77.0.1/16 dev br0");
    lab.ip("address add fd77::1/64 dev br0");
    lab.ip("link add noise0 type veth peer name noise1");
    for port in ["noise1", "tap0", "tap1"] {
        if port.starts_with("tap") {
            lab.ip(&format!("tuntap add dev {port} mode tap"));
        }
        lab.ip(&format!("link set {port} master br0 up"));
    }
    lab.ip("link set noise0 up");
    lab.ip("link set br0 up");
    for port in ["br0", "tap0", "tap1"] {
        assert_eq!(
            lab.sysctl(&format!("ipv6/conf/{port}/disable_ipv6"))
                .as_deref(),
            Some("0")
        );
    }
    lab
}

/// A small generator of numbers (SplitMix64), so that noise is the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// A frame that nobody asked for: of a real protocol, or cut short, or nothing at all.
    fn frame(&mut self) -> Vec<u8> {
        const VM0: [u8; 6] = [2, 0, 10, 77, 0, 2];
        const VM1: [u8; 6] = [2, 0, 10, 77, 0, 3];
        const BROADCAST: [u8; 6] = [0xff; 6];
        const STP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
        const LLDP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
        // A source of our own (locally administered), never a VM's: the bridge would learn it.
        let source = [0x06, 0, 0, 0, 0, self.next() as u8];
        let to = |destination: [u8; 6], rest: &[u8]| [&destination[..], &source[..], rest].concat();
        let someone = [VM0, VM1, BROADCAST][self.below(3)];
        match self.below(9) {
            // IEEE 802.1AB: chassis id, port id, time to live, end.
            0 => to(LLDP, b"\x88\xcc\x02\x07\x04\x06\0\0\0\0\x01\x04\x05\x07eth0\x06\x02\0\x78\0\0"),
            // IEEE 802.1D: a topology change notification, in LLC.
            1 => to(STP, b"\0\x07\x42\x42\x03\0\0\0\x80"),
            // ARP: who has an address that no VM has.
            2 => to(BROADCAST, b"\x08\x06\0\x01\x08\0\x06\x04\0\x01\x06\0\0\0\0\x09\x0a\x4d\0\x09\0\0\0\0\0\0\x0a\x4d\0\x77"),
            // An ICMP echo reply that nobody waits for, its checksum wrong.
            3 => to(
                someone,
                b"\x08\0\x45\0\0\x1c\0\x01\0\0\x40\x01\x66\x3f\x0a\x4d\0\x09\x0a\x4d\0\x02\0\0\x12\x34\xbe\xef\0\x01",
            ),
            // An IPv6 neighbour solicitation, cut short.
            4 => to(someone, b"\x86\xdd\x60\0\0\0\0\x20\x3a\xff\xfe\x80"),
            // VLAN in VLAN in nothing.
            5 => to(someone, b"\x81\0\x00\x05\x88\xa8\x00\x06"),
            // A type that a VM knows, then anything.
            6 => {
                let kind = [[0x08, 0x00], [0x08, 0x06], [0x86, 0xdd], [0x81, 0x00]][self.below(4)];
                let length = self.below(200);
                to(someone, &[&kind[..], &self.bytes(length)].concat())
            }
            // IPv4 with a length that lies.
            7 => {
                let rest = self.bytes(40);
                to(someone, &[b"\x08\0\x4f\0\xff\xff", &rest[..]].concat())
            }
            _ => {
                let length = self.below(1500);
                to(someone, &[&[self.next() as u8], &self.bytes(length + 1)[..]].concat())
            }
        }
    }
}

#[test]
fn ipv6_stp_lldp_and_random_noise_do_not_cost_a_ping() {
    let lab = lived_in_lab();
    // Room for all the noise there is: a run that gets no processor for a while loses no ping by it.
    for tap in ["tap0", "tap1"] {
        lab.ip(&format!("link set {tap} txqueuelen 30000"));
    }
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --ping vm0:vm1 --interval 2ms --timeout 5s --json",
    );
    lab.wait_until_ports_forward(&mut run, &["tap0", "tap1", "noise1"]);
    // Spanning tree joins when the ports already forward: before that it would hold them back for seconds.
    lab.ip("link set br0 type bridge stp_state 1 hello_time 100");
    let sockets = ["noise0", "tap0", "tap1"].map(|link| RawSocket::on(&lab, link));
    let (mut noise, mut sent) = (Noise(0x7a9), 0);
    wait_until("5,000 frames of noise", || {
        run.expect_alive();
        for _ in 0..60 {
            let socket = noise.below(sockets.len());
            sent += u64::from(sockets[socket].send(&noise.frame()));
        }
        (sent >= 5_000).then_some(())
    });
    let pings = lab.frames("tap0").expect("tap0").sent_by_vm;
    lab.wait_until_vm_sent(&mut run, "tap0", pings + 100);
    run.signal(Signal::SIGINT);
    let run = run.wait();
    let report = Report::of(&run);
    let totals = &report.totals;
    assert_eq!((totals.lost, totals.late, totals.corrupt), (0, 0, 0));
    // The last one may be on its way.
    assert!(
        totals.received >= 100 && totals.received + 1 >= totals.sent,
        "{totals:?}"
    );
    assert!(
        report.reactor.frames_in > 2 * totals.received + 1_000,
        "the noise never reached the VMs: {:?}",
        report.reactor
    );
}

#[test]
fn noise_is_not_answered() {
    let lab = lived_in_lab();
    let mut run = lab.start_tap_reactor("--netns host --attach --json --verbose");
    lab.wait_until_ports_forward(&mut run, &["tap0", "tap1"]);
    let sockets = ["tap0", "tap1"].map(|link| RawSocket::on(&lab, link));
    let mut noise = Noise(0x7a9);
    wait_until("the VMs to hear some noise", || {
        run.expect_alive();
        for socket in sockets.iter().cycle().take(20) {
            socket.send(&noise.frame());
        }
        (run.stderr().matches(" ← ").count() > 200).then_some(())
    });
    run.signal(Signal::SIGINT);
    let report = Report::of(&run.wait().expect_status(0));
    assert!(report.reactor.frames_in > 200, "{:?}", report.reactor);
    assert_eq!(report.reactor.frames_out, 0, "{:?}", report.reactor);
}

#[test]
fn a_cable_pulled_and_plugged_in_again_costs_pings_not_the_run() {
    let lab = lived_in_lab();
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --ping vm0:vm1 --interval 2ms --timeout 200ms --json",
    );
    lab.wait_until_vm_sent(&mut run, "tap1", 100);
    lab.ip("link set tap1 down");
    let when_down = lab.frames("tap0").expect("tap0").sent_by_vm;
    lab.wait_until_vm_sent(&mut run, "tap0", when_down + 50);
    lab.ip("link set tap1 up");
    let answered = lab.frames("tap1").expect("tap1").sent_by_vm;
    lab.wait_until_vm_sent(&mut run, "tap1", answered + 100);
    run.signal(Signal::SIGINT);
    let report = Report::of(&run.wait().expect_status(1));
    assert_eq!(
        report.totals.received + report.totals.lost,
        report.totals.sent,
        "{:?}",
        report.totals
    );
    assert!(report.totals.lost >= 40, "{:?}", report.totals);
    assert!(report.totals.received >= 200, "{:?}", report.totals);
}

#[test]
fn frames_that_overflow_while_nobody_reads_are_told_and_decide_the_status() {
    let lab = lived_in_lab();
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --ping vm0:vm1 --interval 2ms --timeout 500ms --expect loss<100% --json",
    );
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    run.stop();
    let socket = RawSocket::on(&lab, "noise0");
    // A protocol for experiments (RFC 9542), to everybody: each TAP's queue holds a thousand.
    let frame = [&[0xff; 6][..], &[6, 0, 0, 0, 0, 1], &[0x88, 0xb5], &[0; 46]].concat();
    let mut sent = 0;
    wait_until("the queues to overflow", || {
        sent += u64::from(socket.send(&frame));
        (sent >= 1_500).then_some(())
    });
    let pings = lab.frames("tap0").expect("tap0").sent_by_vm;
    run.signal(Signal::SIGCONT);
    lab.wait_until_vm_sent(&mut run, "tap0", pings + 50);
    run.signal(Signal::SIGINT);
    let run = run.wait().expect_status(1);
    let report = Report::of(&run);
    let overflow = report.drops.get("tap_queue").copied().unwrap_or_default();
    assert!((900..=2_000).contains(&overflow), "{:?}", report.drops);
    let told =
        format!("frames that overflowed the queue of a port before they were read: {overflow}");
    assert!(run.stderr.contains(&told), "{}", run.stderr);
}

#[test]
fn a_link_down_is_told_among_the_drops() {
    let lab = lived_in_lab();
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --ping vm0:vm1 --ping vm1:vm0 --interval 2ms --timeout 200ms --json",
    );
    lab.wait_until_vm_sent(&mut run, "tap0", 100);
    lab.ip("link set tap0 down");
    // vm1's pings go on, and with them those of vm0 are due.
    let pings = lab.frames("tap1").expect("tap1").sent_by_vm;
    lab.wait_until_vm_sent(&mut run, "tap1", pings + 50);
    run.signal(Signal::SIGINT);
    let report = Report::of(&run.wait().expect_status(1));
    assert!(report.totals.lost > 0, "{:?}", report.totals);
    assert!(
        report.drops.values().any(|&dropped| dropped > 0),
        "{:?}",
        report.drops
    );
}

#[test]
fn a_tap_that_vanishes_in_the_middle_is_no_crash_and_no_spin() {
    let lab = lived_in_lab();
    let mut run = lab.start_tap_reactor(
        "--netns host --attach --ping vm0:vm1 --interval 2ms --timeout 200ms --json",
    );
    lab.wait_until_vm_sent(&mut run, "tap1", 50);
    lab.ip("link delete tap1");
    let pings = lab.frames("tap0").expect("tap0").sent_by_vm;
    lab.wait_until_vm_sent(&mut run, "tap0", pings + 1_000);
    run.signal(Signal::SIGINT);
    let report = Report::of(&run.wait().expect_status(1));
    assert!(report.totals.lost > 0, "{:?}", report.totals);
    assert!(report.totals.received >= 40, "{:?}", report.totals);
    // A few turns a ping; a dead descriptor that is polled for ever would make millions of them.
    assert!(report.reactor.turns < 80_000, "{:?}", report.reactor);
}

#[test]
fn waiting_costs_no_processor_time() {
    let lab = Lab::new();
    let mut run = lab.start_tap_reactor("--netns host --vms 10");
    lab.wait_until_ports_forward(&mut run, &["tap0", "tap9"]);
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.pid())).expect("read stat");
        // After the command's name in parentheses: state is field 3, utime and stime are 14 and 15 (proc(5)).
        let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
        fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum()
    };
    // Setting up may still be under way: begin when a second of it has gone by idly, give up when none does.
    let mut since = (now(), ticks());
    wait_until("a second in which the process uses next to nothing", || {
        if (now() - since.0).as_millis() < 1000 {
            return None;
        }
        let used = ticks() - since.1;
        since = (now(), ticks());
        (used <= 2).then_some(())
    });
    run.signal(Signal::SIGTERM);
    run.wait();
}

#[test]
fn a_process_that_is_stopped_for_a_while_says_so_and_does_not_blame_the_network() {
    let lab = Lab::new();
    let arguments =
        "--netns host --vms 100 --ping pairs --window 8 --duration 3s --timeout 20s --json";
    let mut run = lab.start_tap_reactor(arguments);
    // Until frames go to and fro.
    lab.wait_until_vm_sent(&mut run, "tap0", 100);
    run.stop();
    let stopped = now();
    wait_until("a second", || {
        (now() - stopped >= Duration::from_secs(1)).then_some(())
    });
    run.signal(Signal::SIGCONT);
    let run = run.wait().expect_status(0);
    let report = run.json();
    let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_u64);
    assert!(
        number("/pauses/longest_ns") >= Some(1_000_000_000),
        "{report}"
    );
    // What was on its way then is flagged: whatever took a second is among that.
    if number("/rtt_ns/max") >= Some(1_000_000_000) {
        assert_eq!(
            number("/rtt_ns/max"),
            number("/rtt_paused_ns/max"),
            "{report}"
        );
        assert!(number("/rtt_paused_ns/count") >= Some(1), "{report}");
    }
}

#[test]
fn a_queue_that_overflows_reaches_the_report_and_the_exit_status() {
    let lab = Lab::new();
    let arguments = "--netns host --vms 2 --txqueuelen 4 --ping vm0:vm1 --interval 20ms --json";
    let mut run = lab.start_tap_reactor(arguments);
    lab.wait_until_vm_sent(&mut run, "tap0", 20);
    run.stop();
    let socket = RawSocket::on(&lab, "tap1");
    // To nobody, from nobody: more than the queue holds, while nobody reads it.
    let frame = [
        [2, 0, 0, 0, 0, 9],
        [2, 0, 0, 0, 0, 8],
        [0x88, 0xb5, 0, 0, 0, 0],
    ]
    .concat();
    (0..50).for_each(|_| {
        socket.send(&frame);
    });
    run.signal(Signal::SIGCONT);
    run.signal(Signal::SIGINT);
    let run = run.wait().expect_status(1);
    let report = run.json();
    let overflowed = report["drops"]["tap_queue"].as_u64();
    assert!(overflowed >= Some(40), "{report}");
    assert!(run.stderr.contains("overflowed"), "{}", run.stderr);
}
