//! `--fabric interface`: VMs directly behind interfaces that exist, which stay as they are, whatever becomes of the run.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cable::{Cable, OUTSIDE, quiet};
use crate::lab::{Finished, Lab, Running, TAP_REACTOR, number, wait_until};

/// A cable to an interface that VMs are behind.
fn cable() -> Cable {
    Cable::new("eth1", "--fabric interface --interface eth1")
}

/// Two interfaces of one namespace, each other's ends.
fn pair() -> Lab {
    let lab = quiet();
    lab.ip("link add eth1 type veth peer name eth2");
    lab.ip("link set eth1 up");
    lab.ip("link set eth2 up");
    lab
}

/// Runs VMs behind interfaces, and returns the totals.
#[track_caller]
fn totals(lab: &Lab, words: &str) -> Value {
    let run = lab.tap_reactor(&format!("--fabric interface --json {words}"));
    run.json()["totals"].clone()
}

#[test]
fn a_kernel_behind_an_interface_and_the_vms_ping_each_other_and_it_stays_as_it_is() {
    let cable = cable();
    // The host goes on using its own addresses there.
    cable.host.ip("address add 10.77.200.2/16 dev eth1");
    let before = cable.interface();
    let run = cable.start("");
    for target in ["10.77.0.4", "10.77.200.2"] {
        let ping = ["ping", "-c20", "-i0.01", "-W5", "-q", target];
        let told = cable.other.run(&ping).expect_status(0).stdout;
        // A VM that heard frames twice would answer twice.
        assert!(told.contains("20 received, 0% packet loss"), "{told}");
    }
    let neighbours = cable.host.ip("neigh show dev eth1");
    assert!(!neighbours.contains("10.77.0."), "{neighbours}");
    run.signal(Signal::SIGINT);
    let report = run.wait().expect_status(0).json();
    let totals = &report["totals"];
    assert!(number(totals, "/received") > 0, "{report}");
    assert_eq!(number(totals, "/lost"), 0, "{report}");
    assert_eq!(report["fabric"]["kind"], "interface");
    assert_eq!(cable.interface(), before);

    let run = cable.start("");
    run.signal(Signal::SIGKILL);
    run.wait();
    wait_until("the interface as it was", || {
        (cable.interface() == before).then_some(())
    });
}

#[test]
fn the_interfaces_of_a_namespace_with_a_name_are_found() {
    let cable = cable();
    let elsewhere = Lab::new();
    let words = format!(
        "--netns {} --vms 2 --interface eth1 --ping vm0:{OUTSIDE} --count 5 --interval 5ms",
        cable.host.name()
    );
    assert_eq!(number(&totals(&elsewhere, &words), "/received"), 5);
}

#[test]
fn checksums_and_sizes_that_the_sender_leaves_to_its_card_are_right() {
    let cable = cable();
    let mut run = cable.start("--udp-echo --ipv6");
    let send = "
import socket
for family, vm in (socket.AF_INET, '10.77.0.2'), (socket.AF_INET6, 'fd77::2'):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((vm, 7))
    for size in (1, 100, 1400):
        s.send(bytes(size))
        assert len(s.recv(65535)) == size, size
    s.setsockopt(socket.SOL_UDP, 103, 500)  # UDP_SEGMENT: many datagrams as one
    for size in (2000, 30000):
        s.send(bytes(size))
        for _ in range(size // 500):
            assert len(s.recv(65535)) == 500
    # Nobody listens there.
    t = socket.socket(family, socket.SOCK_STREAM)
    t.settimeout(5)
    assert t.connect_ex((vm, 80)) == 111, vm
";
    let path = "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 net.ipv6.conf.eth0.accept_dad=0";
    cable.other.run(&["sh", "-c", path]).expect_status(0);
    cable.other.ip("address add fd77::200:1/64 dev eth0 nodad");
    cable.other.run(&["python3", "-c", send]).expect_status(0);
    run.expect_alive();
    run.signal(Signal::SIGINT);
    run.wait().expect_status(0);
}

#[test]
fn a_large_segment_is_answered_as_the_segments_that_it_stands_for() {
    let cable = cable();
    let run = cable.start("");
    // Of a connection that does not exist, 3,000 bytes that the card was to cut at 1,000, with a header before them
    // (PACKET_VNET_HDR). Each segment is answered by a reset.
    let send = "
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.setsockopt(263, 15, 1)
s.bind(('eth0', 0))
heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
heard.bind(('eth0', 0x0800))
heard.settimeout(5)
source, destination = socket.inet_aton('10.77.200.1'), socket.inet_aton('10.77.0.2')
def fold(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return total
tcp = struct.pack('!HHIIBBHHH', 1234, 80, 7000, 0, 0x50, 0x08, 1000, 0, 0)
length = len(tcp) + 3000
partial = fold(source + destination + struct.pack('!HH', 6, length))
tcp = tcp[:16] + struct.pack('!H', partial) + tcp[18:]
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + length, 9, 0, 64, 6, 0, source, destination)
ip = ip[:10] + struct.pack('!H', 0xffff - fold(ip)) + ip[12:]
mac = open('/sys/class/net/eth0/address').read().strip().replace(':', '')
frame = bytes.fromhex('02000a4d0002' + mac + '0800') + ip + tcp + bytes(3000)
s.send(struct.pack('=BBHHHH', 1, 1, 54, 1000, 34, 16) + frame)
numbers = []
while len(numbers) < 3:
    answer = heard.recv(65535)
    if answer[23] == 6 and answer[26:30] == destination:
        assert answer[47] & 4, answer
        numbers.append(struct.unpack('!I', answer[42:46])[0])
assert numbers == [8000, 9000, 10000], numbers
";
    cable.other.run(&["python3", "-c", send]).expect_status(0);
    run.signal(Signal::SIGINT);
    run.wait().expect_status(0);
}

#[test]
fn vms_behind_two_interfaces_reach_each_other_by_what_connects_these() {
    let lab = pair();
    let words =
        "--vms 4 --interface vm[0-1]=eth1 --interface vm[2-3]=eth2 --count 50 --interval 2ms";
    for more in [
        "--ping vm[0-1]:vm[2-3]",
        "--ping vm[0-1]:vm[2-3] --ping-ipv6",
        "--ping vm[0-1]:vm[2-3] --resolve static",
        "--ping vm[0-1]:vm[2-3] --vlan 9",
        "--ping vm[0-1]:vm[2-3] --vlan 9.10",
        "--ping vm[0-1]:vm[2-3] --filter=off",
        "--ping vm[0-1]:vm[2-3] --size 8000 --mtu 576 --allow-fragmentation",
        "--ping vm0:vm2 --ping vm3:vm1 --impair vm0:delay=2ms",
    ] {
        let totals = totals(&lab, &format!("{words} {more}"));
        assert_eq!(number(&totals, "/received"), 100, "{more}: {totals}");
        assert_eq!(number(&totals, "/duplicate"), 0, "{more}: {totals}");
    }
}

#[test]
fn vms_behind_one_interface_reach_each_other_by_the_switch_outside_or_are_bridged() {
    let lab = quiet();
    lab.ip("link add eth1 type veth peer name port1");
    lab.ip("link add br0 type bridge mcast_snooping 0");
    lab.ip("link set port1 master br0");
    for link in ["eth1", "port1", "br0"] {
        lab.ip(&format!("link set {link} up"));
    }
    let ping = "--vms 3 --ping vm0:vm1 --ping vm2:vm1 --count 20 --interval 2ms --timeout 200ms";
    let words = format!("{ping} --interface eth1");
    let bridged = format!("{ping} --interface eth1,bridge");
    assert_eq!(number(&totals(&lab, &words), "/received"), 0);
    let here = totals(&lab, &bridged);
    assert_eq!(number(&here, "/received"), 40, "{here}");
    // The switch sends frames back where they came from, the broadcasts among them.
    lab.ip("link set port1 type bridge_slave hairpin on");
    for words in [&words, &bridged] {
        for more in ["", "--announce", "--ping-ipv6", "--dad"] {
            let back = totals(&lab, &format!("{words} {more}"));
            assert_eq!(number(&back, "/received"), 40, "{words} {more}: {back}");
            assert_eq!(number(&back, "/duplicate"), 0, "{words} {more}: {back}");
        }
    }
}

#[test]
fn ranks_share_interfaces_or_have_their_own() {
    let lab = pair();
    let words = "--cores 2 --vms 4 --interface vm[0-1]=eth1 --interface vm[2-3]=eth2 --count 50 --interval 2ms";
    for more in ["--ping vm[0-1]:vm[2-3]", "--ping vm0:vm2 --ping vm3:vm1"] {
        let totals = totals(&lab, &format!("{words} {more}"));
        assert_eq!(number(&totals, "/received"), 100, "{more}: {totals}");
    }
    // Both ranks have VMs behind one interface, which nobody then bridges.
    lab.expect_refusals(&[(
        "--fabric interface --cores 2 --vms 4 --interface eth1,bridge --ping vm0:vm1",
        "--interface eth1,bridge in one lab cannot be used with several ranks: no process has all VMs behind it",
    )]);
    let (one, other) = (quiet(), quiet());
    one.ip(&format!(
        "link add eth1 type veth peer name eth1 netns {}",
        other.name()
    ));
    let folder = tempfile::tempdir().expect("a folder");
    let start = |lab: &Lab, rank| {
        lab.ip("link set eth1 up");
        lab.start_tap_reactor(&format!(
            "--rank {rank}/2 --meet {} --fabric interface --interface eth1,bridge --vms 10 --ping ring --count 20 \
             --interval 5ms --json",
            folder.path().join("meet").display()
        ))
    };
    let runs = [start(&one, 0), start(&other, 1)];
    let [first, second] = runs.map(Running::wait);
    second.expect_status(0);
    let report = first.expect_status(0).json();
    assert_eq!(number(&report, "/totals/received"), 200, "{report}");
}

#[test]
fn frames_that_find_no_room_are_counted() {
    let cable = cable();
    let run = cable.start("--txqueuelen 32");
    run.stop();
    let send = "
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
s.bind(('eth0', 0))
for _ in range(500):
    s.send(b'\\xff' * 6 + b'\\x02' * 6 + b'\\x88\\xb5' + bytes(46))
";
    cable.other.run(&["python3", "-c", send]).expect_status(0);
    run.signal(Signal::SIGCONT);
    let ping = ["ping", "-c1", "-W1", "10.77.0.2"];
    wait_until("a VM that answers", || {
        (cable.other.run(&ping).status == 0).then_some(())
    });
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    let drops = number(&report["verdict"], "/tap_queue_drops");
    assert!((450..=500).contains(&drops), "{report}");
}

#[test]
fn frames_that_an_interface_has_no_room_for_are_drops_and_the_run_goes_on() {
    let cable = cable();
    let run = cable.start("--timeout 200ms");
    let tc = |words: &str| {
        let command = format!("tc qdisc {words}");
        let command: Vec<&str> = command.split(' ').collect();
        cable.host.run(&command).expect_status(0);
    };
    // One frame passes, the next one waits, and then there is no room for a long time.
    tc("add dev eth1 root tbf rate 8bit burst 200b limit 200b");
    let dropped = || {
        let told = cable
            .host
            .run(&["tc", "-s", "-j", "qdisc", "show", "dev", "eth1"]);
        number(&told.json()[0], "/drops")
    };
    wait_until("frames that found no room", || {
        (dropped() >= 50).then_some(())
    });
    let counted = dropped();
    tc("del dev eth1 root");
    let ping = ["ping", "-c20", "-i0.01", "-W5", "-q", "10.77.0.4"];
    let told = cable.other.run(&ping).expect_status(0).stdout;
    assert!(told.contains("20 received, 0% packet loss"), "{told}");
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    let full = number(&report, "/drops/queue_full");
    assert!(full >= counted, "{report}");
    let rows = report["losses"].as_array().into_iter().flatten();
    let refused: u64 = rows
        .filter(|row| row["cause"] == "refused" && row["place"] == "vm1")
        .map(|row| number(row, "/count"))
        .sum();
    assert!((1..=full).contains(&refused), "{report}");
    let totals = |name: &str| number(&report, &format!("/totals/{name}"));
    let failed = ["lost", "late", "corrupt", "errored", "unresolved"].map(totals);
    let sum = totals("received") + failed.iter().sum::<u64>();
    assert_eq!(totals("sent"), sum, "{report}");
    assert!(totals("received") > 0, "{report}");
}

#[test]
fn an_interface_that_goes_down_or_loses_its_carrier_is_told_of() {
    let cable = cable();
    for (lab, link, gone, back) in [
        (&cable.host, "eth1", "was set down", "was set up again"),
        (
            &cable.other,
            "eth0",
            "lost its carrier",
            "has its carrier again",
        ),
    ] {
        let mut run = cable.start("--verbose");
        lab.ip(&format!("link set {link} down"));
        run.wait_until_it_says(&format!("eth1 {gone}"));
        lab.ip(&format!("link set {link} up"));
        run.wait_until_it_says(&format!("eth1 {back}"));
        let ping = ["ping", "-c1", "-W1", "10.77.0.2"];
        wait_until("a VM that answers again", || {
            run.expect_alive();
            (cable.other.run(&ping).status == 0).then_some(())
        });
        run.signal(Signal::SIGINT);
        let report = run.wait().json();
        let changes = report["links"].as_array().map(Vec::len);
        assert_eq!(changes, Some(2), "{report}");
    }
}

#[test]
fn pings_that_an_interface_without_carrier_takes_are_put_down_to_that() {
    let cable = cable();
    let mut run = cable.start("--verbose --timeout 30ms");
    cable.other.ip("link set eth0 down");
    run.wait_until_it_says("its link has no carrier");
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    let losses = report["losses"].as_array().into_iter().flatten();
    let mut reasons = losses.map(|row| (&row["cause"], &row["place"], &row["reason"]));
    let expected = ["refused", "vm1", "its link has no carrier"].map(Value::from);
    let is_expected = |row: (&Value, &Value, &Value)| [row.0, row.1, row.2] == expected.each_ref();
    assert!(reasons.any(is_expected), "{report}");
}

#[test]
fn what_vms_can_not_be_behind_is_refused_before_anything_is_touched() {
    let host = pair();
    host.ip("link add br9 type bridge");
    host.ip("link add p0 type veth peer name p1");
    host.ip("link set p0 master br9 up");
    host.ip("link add down0 type veth peer name down1");
    host.ip("link add small0 mtu 1400 type veth peer name small1");
    host.ip("link set small0 up");
    host.ip("link add mv0 link eth1 type macvlan mode bridge");
    let before = host.identities();
    let cases = [
        (
            "",
            "--fabric interface: vm0 is behind no interface; expected --interface IFACE",
        ),
        (
            "--interface eth7",
            "--interface eth7: put VMs behind eth7: there is no such interface where the program was started; expected one such as ",
        ),
        ("--interface a/b", "the name \"a/b\" must not contain"),
        ("--interface lo", "it carries no Ethernet frames"),
        ("--interface br9", "it is a bridge; expected a network card"),
        ("--interface p0", "it is a port of another bridge"),
        (
            "--interface mv0",
            "it receives no frames for other hardware addresses than its own; expected a network card",
        ),
        ("--interface down0", "it is down; ip link set down0 up"),
        (
            "--interface small0",
            "its MTU is 1400, which is less than the VMs' 1500; --mtu 1400 or less",
        ),
        (
            "--vms 4 --interface vm[0-2]=eth1 --interface vm[2-3]=eth2",
            "--interface vm[2-3]=eth2: vm2 is behind eth1 already; expected each VM once",
        ),
        (
            "--vms 4 --interface vm[0-1]=eth1 --interface vm3=eth2",
            "vm2 is behind no interface; expected --interface 'vm[2-3]=IFACE' beside the others",
        ),
        (
            "--interface vm[0-9]=eth1",
            "there is no vm9; expected vm0 to vm1",
        ),
        (
            "--interface eth1,hub",
            "expected an interface, for all VMs or after",
        ),
        (
            "--interface vm0=eth1 --interface vm1=eth1,bridge",
            "expected ,bridge for all or none",
        ),
        (
            "--interface eth1 --netns private",
            "--netns private: has no interfaces",
        ),
        (
            "--interface eth1 --misbehave vm1:silent",
            "the interfaces of --fabric interface lead to others; expected another --fabric",
        ),
        (
            "--interface eth1 --bridge br7",
            "needs --fabric bridge, and the fabric is interface",
        ),
    ];
    let words = cases.map(|(words, why)| (format!("--fabric interface {words}"), why));
    let words: Vec<_> = words
        .iter()
        .map(|(words, why)| (words.as_str(), *why))
        .collect();
    host.expect_refusals(&words);
    host.expect_refusals(&[(
        "--interface eth1",
        "--interface eth1: needs --fabric interface, and the fabric is bridge",
    )]);
    assert_eq!(host.identities(), before);
    let command = [TAP_REACTOR, "--fabric", "interface", "--interface", "eth1"];
    let refused: Finished = host.run_as(65_534, &command).expect_status(3);
    assert!(refused.stderr.contains("needs root"), "{}", refused.stderr);
}
