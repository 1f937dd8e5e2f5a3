//! `--underlay`: labs of several hosts, which are namespaces here, on one Ethernet by a VXLAN that the program makes.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Finished, Lab, Running, now, number, wait_until};
use crate::ranks::{KILLS, SOME_KILLS};

/// Two hosts, 192.0.2.1 and 192.0.2.2, that a cable connects.
struct Hosts {
    all: [Lab; 2],
    folder: tempfile::TempDir,
}

const IPV4: &str = "vxlan:42,192.0.2.1,192.0.2.2";

impl Hosts {
    fn new() -> Hosts {
        let all = [Lab::new(), Lab::new()];
        all[0].ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}",
            all[1].name()
        ));
        for (number, host) in (1..).zip(&all) {
            host.ip(&format!("address add 192.0.2.{number}/24 dev eth0"));
            host.ip(&format!("address add 2001:db8::{number}/64 dev eth0 nodad"));
            host.ip("link set eth0 up");
        }
        let folder = tempfile::tempdir().expect("a folder");
        Hosts { all, folder }
    }

    fn start(&self, rank: usize, words: &str) -> Running {
        self.all[rank].start_tap_reactor(&format!(
            "--rank {rank}/2 --meet {} --json {words}",
            self.folder.path().join("meet").display()
        ))
    }

    fn run(&self, words: &str) -> [Finished; 2] {
        let runs = [0, 1].map(|rank| self.start(rank, words));
        runs.map(Running::wait)
    }

    /// What the kernel says of the end of the VXLAN at the first host, once it is there.
    fn tunnel(&self, run: &mut Running) -> Value {
        wait_until("a VXLAN", || {
            run.expect_alive();
            self.all[0].links().remove("br0-out")
        })
    }
}

#[test]
fn flows_cross_from_host_to_host_and_nothing_stays() {
    let hosts = Hosts::new();
    for underlay in [
        IPV4,
        "vxlan:42,192.0.2.2,192.0.2.1",
        "vxlan:42,2001:db8::1,2001:db8::2",
        "vxlan:42,group=239.1.1.1,dev=eth0",
    ] {
        for more in ["", "--resolve static --ports-per-bridge 3"] {
            let words = format!(
                "--vms 10 --ping ring --underlay {underlay} --count 50 --interval 5ms {more}"
            );
            let [first, other] = hosts.run(&words);
            other.expect_status(0);
            let report = first.expect_status(0).json();
            assert_eq!(number(&report, "/totals/received"), 500, "{words}");
            for host in &hosts.all {
                assert_eq!(host.link_names(), ["eth0"], "{words}");
            }
        }
    }
}

#[test]
fn streams_cross_from_host_to_host_without_times_that_no_one_clock_has_measured() {
    let hosts = Hosts::new();
    let words = format!(
        "--vms 4 --stream vm0:vm2 --stream vm3:vm1 --stream vm0:vm1 --stream vm2:broadcast --rate 400 --count 50 \
         --underlay {IPV4} --impair vm2:in:every=5"
    );
    let [first, other] = hosts.run(&words);
    other.expect_status(0);
    let report = first.expect_status(1).json();
    let streams = report["streams"].as_array().expect("streams");
    let counts = streams.iter().map(|stream| {
        let of = |figure: &str| number(stream, figure);
        let counts = ["sent", "received", "lost"].map(|name| of(&format!("/counts/{name}")));
        (
            counts,
            of("/one_way_ns/count"),
            stream["has_two_clocks"] == true,
        )
    });
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [
            ([50, 40, 10], 0, true),
            ([50, 50, 0], 0, true),
            ([50, 50, 0], 50, false),
            // One of its receivers is in its own rank.
            ([50, 150, 0], 50, true),
        ]
    );
}

#[test]
fn peers_in_the_order_of_ranks_are_told_where_each_vm_is_and_others_learn_it() {
    let hosts = Hosts::new();
    for (underlay, learns) in [(IPV4, false), ("vxlan:42,192.0.2.2,192.0.2.1", true)] {
        let words = format!(
            "--netns host --vms 4 --ping ring --interval 10ms --count 200 --underlay {underlay}"
        );
        let mut runs = [0, 1].map(|rank| hosts.start(rank, &words));
        let tunnel = hosts.tunnel(&mut runs[0]);
        hosts.all[0].wait_until_vm_sent(&mut runs[0], "tap1", 20);
        let data = &tunnel["linkinfo"]["info_data"];
        assert_eq!((&data["id"], &data["port"]), (&42.into(), &4789.into()));
        assert_eq!(data["learning"], learns, "{tunnel}");
        assert_eq!(tunnel["mtu"], 1450, "{tunnel}");
        let table = hosts.all[0].bridge_json("fdb show dev br0-out");
        let at = |mac: &str| {
            table
                .iter()
                .any(|entry| entry["mac"] == mac && entry["dst"] == "192.0.2.2")
        };
        for mac in [
            "00:00:00:00:00:00",
            "02:00:0a:4d:00:04",
            "02:00:0a:4d:00:05",
        ] {
            assert!(at(mac), "{mac}: {table:?}");
        }
        let [first, other] = runs.map(Running::wait);
        other.expect_status(0);
        let report = first.expect_status(0).json();
        assert_eq!(number(&report, "/totals/received"), 800, "{report}");
    }
}

#[test]
fn a_rank_that_is_killed_leaves_no_vxlan_and_the_next_run_has_it() {
    let hosts = Hosts::new();
    let words = format!("--vms 4 --ping ring --interval 10ms --underlay {IPV4}");
    let runs = [0, 1].map(|rank| hosts.start(rank, &format!("{words} --netns host")));
    let [first, mut other] = runs;
    hosts.all[1].wait_until_vm_sent(&mut other, "tap2", 20);
    other.signal(Signal::SIGKILL);
    let first = first.wait().expect_status(1);
    assert!(first.stderr.contains("rank 1"), "{}", first.stderr);
    other.wait();
    hosts.all[1].tap_reactor("clean").expect_status(0);
    for host in &hosts.all {
        assert_eq!(host.link_names(), ["eth0"]);
    }
    let [first, other] = hosts.run(&format!("{words} --count 10"));
    other.expect_status(0);
    first.expect_status(0);
}

#[test]
fn a_rank_of_connected_labs_that_is_killed_at_any_moment_ends_the_other_and_leaves_nothing() {
    let hosts = Hosts::new();
    for (host, number) in hosts.all.iter().zip(0..) {
        let other = &hosts.all[1 - number];
        if number == 0 {
            host.ip(&format!(
                "link add up0 type veth peer name up0 netns {}",
                other.name()
            ));
        }
        host.ip("link set up0 up");
    }
    let given = std::env::var(KILLS).ok();
    let kills = given.map_or(SOME_KILLS, |kills| kills.parse().expect("a number"));
    let mut random = fastrand::Rng::with_seed(0x686f_7374);
    for number in 0..kills {
        let outside = [format!("--underlay {IPV4}"), "--uplink up0".to_owned()];
        let outside = &outside[number as usize % 2];
        let netns = if number % 4 < 2 { "private" } else { "host" };
        let words = format!(
            "--vms 20 --ports-per-bridge 6 --netns {netns} --ping ring --interval 5ms --duration 20s {outside}"
        );
        let (victim, after) = (
            random.usize(0..2),
            Duration::from_millis(random.u64(0..1000)),
        );
        let mut runs = [0, 1].map(|rank| hosts.start(rank, &words));
        let begun = now();
        wait_until("the moment", || (now() >= begun + after).then_some(()));
        runs[victim].signal(Signal::SIGKILL);
        let context = format!("rank {victim} killed after {after:?} ({netns}, {outside})");
        // One that nobody has met yet is waited for a minute; a launcher ends the wait as this does.
        let patience = now() + Duration::from_secs(25);
        wait_until("the other rank", || {
            let is_over = !runs[1 - victim].is_alive() || now() >= patience;
            is_over.then_some(())
        });
        if runs[1 - victim].is_alive() {
            runs[1 - victim].signal(Signal::SIGTERM);
        }
        let ended = runs.map(Running::wait);
        let other = &ended[1 - victim];
        assert_eq!(other.status, 1, "{context}: {other:?}");
        assert!(!other.stderr.is_empty(), "{context}: {other:?}");
        for host in &hosts.all {
            host.tap_reactor("clean").expect_status(0);
            let names = host.link_names();
            assert_eq!(names, ["eth0", "up0"], "{context}: {other:?}");
            wait_until("an interface that is free", || {
                let link = host.links().remove("up0")?;
                let is_free = link["promiscuity"] == 0 && link["allmulti"] == 0;
                is_free.then_some(())
            });
        }
        // The next end of the VXLAN can be made only when the kernel has removed the last one with its namespace.
        wait_until("the number of the VXLAN", || {
            hosts.all.iter().all(is_vxlan_free).then_some(())
        });
    }
}

/// Returns true if VXLAN 42 can be made.
fn is_vxlan_free(host: &Lab) -> bool {
    let make = "ip link add probe type vxlan id 42 dstport 4789";
    let make: Vec<&str> = make.split(' ').collect();
    let is_free = host.run(&make).status == 0;
    if is_free {
        host.ip("link del probe");
    }
    is_free
}

#[test]
fn a_tunnel_that_carries_nothing_is_told_before_the_first_ping() {
    let hosts = Hosts::new();
    let rules = "add table t; add chain t in { type filter hook input priority 0; }; add rule t in udp dport 4789 drop";
    hosts.all[1].run(&["nft", rules]).expect_status(0);
    let words = format!("--vms 4 --ping ring --count 10 --underlay {IPV4}");
    let [first, other] = hosts.run(&words);
    let other = other.expect_status(3);
    let expected = "reach the lab of rank 0 (192.0.2.1) by the VXLAN: no frame of it has come within 20s; expected the same \
                    --underlay at all ranks, and UDP port 4789 open between their hosts";
    assert!(other.stderr.contains(expected), "{}", other.stderr);
    let first = first.expect_status(1);
    // Rank 0 may hear of the other, and tells why that has ended.
    let named = first.stderr.contains("rank 1 on ")
        && first
            .stderr
            .contains(" has ended the run: reach the lab of rank 0 ");
    assert!(named, "{}", first.stderr);
    assert_eq!(number(&first.json(), "/totals/sent"), 0);
    for host in &hosts.all {
        assert_eq!(host.link_names(), ["eth0"]);
    }
}

#[test]
fn a_rank_whose_host_is_none_of_the_peers_is_refused_at_once() {
    let hosts = Hosts::new();
    let words = "--meet /tmp/nobody-comes --vms 4 --ping ring --count 10 --underlay vxlan:42";
    for (rank, peers, others) in [
        (1, "192.0.2.1,192.0.2.7", "192.0.2.1, 192.0.2.7"),
        (0, "192.0.2.2", "192.0.2.2"),
        (1, "2001:db8::1", "2001:db8::1"),
    ] {
        let words = format!("--rank {rank}/2 {words},{peers}");
        let run = hosts.all[rank].tap_reactor(&words).expect_status(2);
        let expected = format!(
            "tap-reactor: --underlay: none of the peers {others} is this host; expected the same peers at all ranks, with an \
             address of the host of each, this one's too\n"
        );
        assert_eq!(run.stderr, expected);
    }
}

#[test]
fn what_can_not_be_an_underlay_is_refused_before_anything_is_touched() {
    let hosts = Hosts::new();
    let host = &hosts.all[0];
    host.ip("link add down0 type veth peer name down1");
    let before = host.identities();
    host.expect_refusals(&[
        (
            "--underlay gre:1,192.0.2.2",
            "--underlay gre:1,192.0.2.2: expected vxlan:VNI,PEER,…",
        ),
        (
            "--underlay vxlan:1,203.0.113.9",
            "--underlay vxlan:1,203.0.113.9: find the way to 203.0.113.9: ",
        ),
        (
            "--underlay vxlan:1,group=239.1.1.1,dev=eth9",
            "join a group on eth9: there is no such interface",
        ),
        (
            "--underlay vxlan:1,group=239.1.1.1,dev=down0",
            "it is down; ip link set down0 up",
        ),
        (
            "--underlay vxlan:1,192.0.2.2 --mtu 1451",
            "--mtu 1451: the network below the VXLAN carries 1450 bytes of it in one piece; expected 1450 or less",
        ),
        (
            "--underlay vxlan:1,192.0.2.2 --uplink eth0",
            "--underlay vxlan:1,192.0.2.2: cannot be used with --uplink",
        ),
        (
            "--underlay vxlan:1,192.0.2.2 --fabric xdp",
            "needs --fabric bridge, and the fabric is xdp",
        ),
        (
            "--underlay vxlan:1,192.0.2.2 --misbehave vm1:silent",
            "a port of the bridge leads to others",
        ),
        (
            "--underlay vxlan:1,192.0.2.2 --attach --netns host",
            "cannot be used with --attach",
        ),
    ]);
    assert_eq!(host.identities(), before);
    let run = host
        .tap_reactor(&format!("--underlay {IPV4} --dry-run"))
        .expect_status(0);
    let expected =
        "br0-out of bridge br0 leads to other labs by VXLAN 42 with 192.0.2.1, 192.0.2.2";
    assert!(run.stdout.contains(expected), "{}", run.stdout);
    assert!(run.stdout.contains("MTU 1450"), "{}", run.stdout);
}
