//! What the kernel drops while pings flow, each cause brought about by itself: the report puts every lost ping down to it.

use nix::libc;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::rows;
use crate::lab::{Lab, Running, number, wait_until};

/// Without ARP or anything else there are no frames but those of the pings.
const PINGS: &str = "--netns host --vms 3 --resolve static --ping vm0:vm1 --interval 2ms --timeout 100ms \
                     --json";
/// Frames of vm0 under a cause, at least.
const FRAMES: u64 = 10;

/// A cause: commands, in which `@` stands for a blank within an argument; what all lost pings are put down to, and the reason.
type Cause = (&'static [&'static str], &'static str, &'static str);

/// Where bridges look into packets (br_netfilter), they fragment those that are too long.
const UNFRAGMENTED: &str =
    "sh -c cd@/proc/sys/net/bridge@||@exit@0;@echo@0@>@bridge-nf-call-iptables";

/// The same from one leaf to another.
const OVER_SPINE: &str = "--netns host --vms 6 --ports-per-bridge 2 --resolve static --ping vm0:vm2 --interval 2ms --timeout 100ms \
                          --json";

const OF_SPINES: &[Cause] = &[
    (
        &["ip link set br0 down"],
        "in_bridge request br0",
        "the bridge is down",
    ),
    (
        &["ip link set br0-1u down"],
        "in_bridge request br0-1u",
        "its link is down",
    ),
    (
        &["bridge link set dev br0-1d state 0"],
        "in_bridge request br0-1d",
        "its port is disabled",
    ),
    (
        &["ip link set br0-1d down"],
        "in_bridge request br0-1d",
        "its link is down",
    ),
    (
        &[
            "bridge link set dev br0-0d isolated on",
            "bridge link set dev br0-1d isolated on",
        ],
        "in_bridge request br0-1d",
        "both ports are isolated",
    ),
    (
        &[UNFRAGMENTED, "ip link set br0-1d mtu 68"],
        "in_bridge request br0-1d",
        "larger than its link carries",
    ),
    (
        &["bridge fdb replace 02:00:0a:4d:00:04 dev br0-2d master static sticky"],
        "delivered_elsewhere request br0-2d",
        "the forwarding table has the destination there",
    ),
];

const OF_BRIDGES: &[Cause] = &[
    (
        &["bridge link set dev tap1 state 0"],
        "in_bridge request vm1",
        "its port is disabled",
    ),
    (
        &["bridge link set dev tap0 state 0"],
        "in_bridge request vm0",
        "its port is disabled",
    ),
    (
        &["ip link set tap0 nomaster"],
        "before_bridge request vm0",
        "OTHERHOST in ip_rcv_core",
    ),
    (
        &["ip link set br0 down"],
        "in_bridge request br0",
        "the bridge is down",
    ),
    (
        &[
            "bridge link set dev tap1 isolated on",
            "bridge link set dev tap0 isolated on",
        ],
        "in_bridge request vm0",
        "both ports are isolated",
    ),
    (
        &[
            // One that its own address has taught passes a locked port.
            "bridge link set dev tap0 locked on",
            "bridge fdb del 02:00:0a:4d:00:02 dev tap0 master",
        ],
        "in_bridge request vm0",
        "its port is locked",
    ),
    (
        &["bridge fdb replace 02:00:0a:4d:00:03 dev tap2 master static sticky"],
        "delivered_elsewhere request vm2",
        "the forwarding table has it at vm2",
    ),
    (
        &["bridge fdb replace 02:00:0a:4d:00:03 dev br0 self local"],
        "delivered_elsewhere request br0",
        "the forwarding table has the destination at the bridge itself",
    ),
    (
        &["bridge fdb replace 02:00:0a:4d:00:03 dev tap0 master static sticky"],
        "in_bridge request vm0",
        "the forwarding table has the destination at the port that it comes by",
    ),
    (
        &[UNFRAGMENTED, "ip link set tap1 mtu 68"],
        "in_bridge request vm1",
        "larger than its link carries",
    ),
    (
        &[
            "bridge link set dev tap1 flood off learning off",
            "bridge link set dev tap2 flood off",
            "bridge fdb del 02:00:0a:4d:00:03 dev tap1 master",
        ],
        "in_bridge request vm1",
        "its address is unknown, and is not flooded to it",
    ),
    (
        &[
            "nft add table netdev t",
            "nft add chain netdev t c {type@filter@hook@ingress@device@tap1@priority@0;}",
            "nft add rule netdev t c drop",
        ],
        "before_bridge reply vm1",
        "NETFILTER_DROP in nft_do_chain",
    ),
    (
        &["ip link del tap1"],
        "absent request vm1",
        "it has no port",
    ),
];

const OF_XDP: &[Cause] = &[
    (
        &["ip link set tap1 down"],
        "absent request vm1",
        "its link is down",
    ),
    (
        &["ip link set tap1 mtu 68"],
        "in_bridge request vm1",
        "larger than its link carries",
    ),
    (
        &["ip link del tap1"],
        "absent request vm1",
        "it has no port",
    ),
];

fn carry_out(lab: &Lab, commands: &[&str]) {
    for command in commands {
        let words = command.split(' ').map(|word| word.replace('@', " "));
        let words: Vec<String> = words.collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        lab.run(&words).expect_status(0);
    }
}

/// Frames that vm0 has written to its TAP, those that the kernel did not pass on included.
fn written_by_vm0(lab: &Lab) -> u64 {
    let links = lab.ip_json("-statistics link show dev tap0");
    let count = |what: &str| number(&links[0], &format!("/stats64/rx/{what}"));
    count("packets") + count("dropped")
}

/// Brings a cause about while pings flow, has some more sent, and ends the run. Its report.
fn report_of(arguments: &str, commands: &[&str]) -> Value {
    let lab = Lab::new();
    let mut run = lab.start_tap_reactor(arguments);
    lab.wait_until_vm_sent(&mut run, "tap0", FRAMES);
    carry_out(&lab, commands);
    let before = written_by_vm0(&lab);
    // Not each of its frames is a ping.
    wait_until("pings to be lost", || {
        run.expect_alive();
        (written_by_vm0(&lab) >= before + 2 * FRAMES).then_some(())
    });
    run.signal(Signal::SIGINT);
    run.wait().json()
}

fn check(arguments: &str, causes: &[Cause]) {
    for (commands, what, reason) in causes {
        let report = report_of(arguments, commands);
        let lost = number(&report, "/totals/lost");
        assert!(lost >= FRAMES, "{commands:?}: {report}");
        // One may have been on its way when the cause came about.
        let found = rows(&report);
        let (first, count) = &found[0];
        assert!(
            first == what && count + 1 >= lost,
            "{commands:?}: {}",
            report["losses"]
        );
        assert_eq!(report["losses"][0]["reason"], *reason, "{commands:?}");
        assert_eq!(report["loss_attribution"]["method"], "tracepoints");
    }
}

#[test]
fn every_ping_that_a_bridge_loses_is_put_down_to_what_lost_it() {
    check(PINGS, OF_BRIDGES);
}

#[test]
fn every_ping_that_is_lost_between_bridges_is_put_down_to_the_port_that_lost_it() {
    check(OVER_SPINE, OF_SPINES);
}

#[test]
fn every_ping_by_udp_that_a_bridge_loses_is_put_down_to_what_lost_it() {
    check(&format!("{PINGS} --probe udp"), OF_BRIDGES);
}

#[test]
fn every_ping_by_arp_that_is_dropped_on_its_way_is_put_down_to_what_dropped_it() {
    const OF_ARP: &[Cause] = &[
        (
            &[
                "nft add table netdev t",
                "nft add chain netdev t c {type@filter@hook@ingress@device@tap1@priority@0;}",
                "nft add rule netdev t c drop",
            ],
            "before_bridge reply vm1",
            "NETFILTER_DROP in nft_do_chain",
        ),
        (
            &["bridge link set dev tap0 state 0"],
            "in_bridge request vm0",
            "its port is disabled",
        ),
        // The kernel tells of nothing: others get the question.
        (
            &["bridge link set dev tap1 bcast_flood off"],
            "in_bridge request vm1",
            "broadcasts are not flooded to it",
        ),
    ];
    check(&format!("{PINGS} --probe arp"), OF_ARP);
    const OF_ND: &[Cause] = &[(
        &["bridge link set dev tap1 mcast_flood off"],
        "in_bridge request vm1",
        "multicast is not flooded to it",
    )];
    check(&format!("{PINGS} --probe arp --ping-ipv6"), OF_ND);
}

#[test]
fn every_ping_that_is_lost_on_its_way_by_xdp_is_put_down_to_what_lost_it() {
    check(&format!("{PINGS} --fabric xdp"), OF_XDP);
}

#[test]
fn what_a_full_queue_does_not_take_is_put_down_to_it_as_many_pings_as_were_counted() {
    let lab = Lab::new();
    for (fabric, reason) in [
        ("bridge", "FULL_RING in tun_net_xmit"),
        // There the kernel tells of no frame, and a program where it counts them would cost each ping its time.
        ("xdp", "counted as dropped at its TAP"),
    ] {
        // Frames that were held come in bursts, which are longer than the queue.
        for (held, what) in [
            ("vm0", "queue_full request vm1"),
            ("vm1", "queue_full reply vm0"),
        ] {
            let report = lab
                .tap_reactor(&format!(
                    "--fabric {fabric} --vms 2 --resolve static --ping vm0:vm1 --window 64 --count 640 \
                     --txqueuelen 4 --impair {held}:out:delay=10ms --json"
                ))
                .expect_status(1)
                .json();
            let lost = number(&report, "/totals/lost");
            assert!(lost > 0, "{report}");
            assert_eq!(number(&report, "/drops/tap_queue"), lost, "{report}");
            assert_eq!(rows(&report), [(what.to_owned(), lost)], "{report}");
            assert_eq!(report["losses"][0]["reason"], reason, "{fabric}");
        }
    }
}

#[test]
fn nothing_watches_drops_any_more_when_a_run_was_killed() {
    let lab = Lab::new();
    let mut run = lab.start_tap_reactor(&format!("{PINGS} --fabric xdp"));
    lab.wait_until_vm_sent(&mut run, "tap0", FRAMES);
    let attached = links_of(&run);
    let mut names: Vec<String> = attached
        .iter()
        .map(|about| value(about, "tp_name:"))
        .collect();
    names.sort();
    // None at which all frames pass.
    assert_eq!(names, ["kfree_skb"]);
    run.signal(Signal::SIGKILL);
    run.wait();
    expect_forgotten(&attached);
}

/// What the kernel says of each link by which a process has a BPF program at a raw tracepoint.
pub fn links_of(run: &Running) -> Vec<String> {
    let folder = format!("/proc/{}/fdinfo", run.pid());
    let about = std::fs::read_dir(folder).expect("its descriptors");
    let about = about.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    about
        .filter(|about| about.contains("\nlink_type:\traw_tracepoint"))
        .collect()
}

fn value(about: &str, key: &str) -> String {
    let line = about.lines().find_map(|line| line.strip_prefix(key));
    line.expect("a line of it").trim().to_owned()
}

/// Waits until the kernel has neither these links nor their programs any more.
pub fn expect_forgotten(links: &[String]) {
    for about in links {
        for (key, command) in [("link_id:", LINK_BY_ID), ("prog_id:", PROGRAM_BY_ID)] {
            let id = value(about, key).parse().expect("a number");
            wait_until("the kernel to forget it", || {
                (!exists(command, id)).then_some(())
            });
        }
    }
}

/// Commands of `linux/bpf.h`.
const PROGRAM_BY_ID: libc::c_int = 13;
const LINK_BY_ID: libc::c_int = 30;

/// Returns true if the kernel has a BPF object with that number.
fn exists(command: libc::c_int, id: u32) -> bool {
    let argument = [id, 0, 0];
    // SAFETY: the kernel reads the argument; the descriptor that it makes is closed here.
    let found = unsafe {
        let found = libc::syscall(libc::SYS_bpf, command, &argument, size_of_val(&argument));
        libc::close(found as libc::c_int);
        found
    };
    found >= 0
}
