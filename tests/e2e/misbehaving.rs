//! VMs that misbehave, with `tcpdump`, `ip`, `bridge` and the kernel's own `ping` as witnesses of what they do, in namespaces that
//! the runs make themselves.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::lab::{Lab, RemovedName, Running, Socket, TAP_REACTOR, number, succeed, wait_until};

/// vm2, which misbehaves, as others know it.
const MAC: &str = "02:00:0a:4d:00:04";

/// A run in a namespace that it has made, which goes on until it is told to stop.
struct World {
    name: RemovedName,
    socket: Socket,
    run: Running,
}

impl World {
    /// Starts three VMs, of which vm0 pings vm1 and vm2 pings vm1, and waits until they do.
    fn new(more: &str) -> World {
        static MADE: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "the end-to-end tests make network namespaces, which needs root: run scripts/test.sh as root"
        );
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        let name = RemovedName(format!("trm-{}-{count}", std::process::id()));
        let socket = Socket::new();
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60", TAP_REACTOR, "--netns", &name.0]);
        command.args("--vms 3 --ping vm0:vm1 --ping vm2:vm1 --interval 5ms --json".split(' '));
        command.args("--timeout 200ms --expect loss<=100% --control".split(' '));
        command.arg(socket.path());
        command.args(more.split_whitespace());
        let mut run = Running::start(command);
        wait_until("a lab that pings", || {
            run.expect_alive();
            let sent = socket.path().exists().then(|| frames(&name.0, "rx"))??;
            (sent > 20).then_some(())
        });
        World { name, socket, run }
    }

    /// What `ctl` prints, which must succeed.
    fn ctl(&self, words: &[&str]) -> String {
        succeed(
            Command::new(TAP_REACTOR)
                .arg("ctl")
                .arg(self.socket.path())
                .args(words),
        )
    }

    /// A command in the namespace.
    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "60", "ip", "netns", "exec", &self.name.0]);
        command.args(words);
        command
    }

    /// Starts tcpdump on the port of vm2.
    fn watch(&self, filter: &str) -> Running {
        let words = [
            "tcpdump",
            "-n",
            "-e",
            "-v",
            "-l",
            "--immediate-mode",
            "-Q",
            "in",
        ];
        let mut words = words.to_vec();
        words.extend(["-i", "tap2", filter]);
        let mut tcpdump = Running::start(self.inside(&words));
        tcpdump.wait_until_it_says("listening on");
        tcpdump
    }

    /// Ends the run, and returns its report.
    fn end(self) -> Value {
        self.ctl(&["stop"]);
        self.run.wait().expect_status(0).json()
    }
}

/// The frames that vm2 has sent (`rx`) or that lie or lay in its queue (`tx`), as the kernel counts them.
fn frames(netns: &str, direction: &str) -> Option<u64> {
    let words = ["-n", netns, "-s", "-j", "link", "show", "tap2"];
    let told = Command::new("ip").args(words).output().ok()?.stdout;
    let links: Value = serde_json::from_slice(&told).ok()?;
    links[0]["stats64"][direction]["packets"].as_u64()
}

/// Waits until a witness has printed `words`.
fn wait_until_seen(witness: &mut Running, words: &str) {
    wait_until(words, || {
        witness.expect_alive();
        witness.stdout().contains(words).then_some(())
    });
}

/// The only misbehaviour of a report.
fn misbehaviour(report: &Value) -> &Value {
    let all = report["misbehaviours"].as_array().expect("misbehaviours");
    assert_eq!(all.len(), 1, "{report}");
    &all[0]
}

#[test]
fn tcpdump_sees_what_each_flood_and_each_false_claim_sends() {
    for (what, filter, words) in [
        (
            "steal 10.77.0.2",
            "arp",
            &[MAC, "who-has 10.77.0.2 tell 10.77.0.2"][..],
        ),
        (
            "arp-flood 200/s",
            "arp",
            &[MAC, "ff:ff:ff:ff:ff:ff", "tell 10.77.0.4"],
        ),
        (
            "broadcast 200/s",
            "udp port 9",
            &["10.77.0.4.9 > 255.255.255.255.9"],
        ),
        ("mac-flood 200/s", "ether proto 0x88b5", &["06:"]),
        (
            "dhcp-starve",
            "udp port 67",
            &["BOOTP/DHCP, Request from 06:", "Discover"],
        ),
        (
            "ra-rogue 10/s",
            "icmp6",
            &[
                "router advertisement",
                "2001:db8:bad::/64",
                "source link-address option",
            ],
        ),
        (
            "nd-flood 200/s",
            "icmp6",
            &["neighbor solicitation", "who has fe80::"],
        ),
        (
            "wrong-mac",
            "icmp and ether[6] = 6",
            &["10.77.0.4 > 10.77.0.3", "echo request"],
        ),
    ] {
        let mut world = World::new("");
        let mut tcpdump = world.watch(filter);
        world.ctl(&["misbehave", &format!("vm2:{what}")]);
        for words in words {
            wait_until_seen(&mut tcpdump, words);
        }
        world.run.expect_alive();
        wait_until("pings of others meanwhile", || {
            let report = world.ctl(&["report", "json"]);
            let report: Value = serde_json::from_str(&report).expect("JSON");
            (number(misbehaviour(&report), "/others/during/answered") > 0).then_some(())
        });
        let told = world.ctl(&["behave", "vm2"]);
        assert!(told.contains(what) && !told.contains("goes on"), "{told}");
        let report = world.end();
        let of = misbehaviour(&report);
        assert_eq!(
            (&of["vm"], &of["what"]),
            (&"vm2".into(), &what_of(what).into())
        );
        let done: u64 = ["sent", "changed"]
            .iter()
            .filter_map(|kind| of["counts"][*kind].as_u64())
            .sum();
        assert!(done > 0, "{of}");
        // vm0 and vm1 have nothing to do with vm2, and their addresses are not stolen for long enough.
        assert!(number(of, "/others/during/answered") > 0, "{of}");
    }
}

impl World {
    /// Frames of a kind that were flooded so far, and their copies.
    fn flooded(&self, kind: &str) -> (u64, u64) {
        let told = self.ctl(&["report", "json"]);
        let report: Value = serde_json::from_str(&told).expect("JSON");
        let floods = report["floods"].as_array().map_or(&[][..], Vec::as_slice);
        let of_kind = floods.iter().find(|flood| flood["kind"] == kind);
        of_kind.map_or((0, 0), |flood| {
            (number(flood, "/frames"), number(flood, "/copies"))
        })
    }

    /// Copies that each of some frames of a kind makes, which `send` has sent; all of them are the same.
    fn copies(&self, kind: &str, send: impl FnOnce(&World)) -> f64 {
        let before = self.flooded(kind);
        send(self);
        let after = wait_until("floods", || {
            Some(self.flooded(kind)).filter(|after| after.0 >= before.0 + 3)
        });
        // No copy is on its way any more when the VMs behave.
        self.ctl(&["behave", "all"]);
        let _ = after;
        let after = self.flooded(kind);
        (after.1 - before.1) as f64 / (after.0 - before.0) as f64
    }

    /// Changes a port of the bridge.
    fn set_port(&self, tap: &str, flags: &str) {
        let words = ["-n", &self.name.0, "link", "set", "dev", tap];
        succeed(Command::new("bridge").args(words).args(flags.split(' ')));
    }
}

#[test]
fn flags_of_ports_change_the_counts_of_copies_as_they_should() {
    let world = World::new("--count-floods");
    let sends = |what: &'static str| {
        move |world: &World| {
            world.ctl(&["misbehave", what]);
        }
    };
    for (kind, what, flags, fewer) in [
        ("broadcast", "vm2:broadcast 200/s", "bcast_flood", 1.0),
        ("unknown_unicast", "vm2:mac-flood 200/s", "flood", 1.0),
        ("multicast", "vm2:nd-flood 200/s", "mcast_flood", 1.0),
    ] {
        assert_eq!(world.copies(kind, sends(what)), 2.0, "{kind}");
        world.set_port("tap0", &format!("{flags} off"));
        assert_eq!(world.copies(kind, sends(what)), fewer, "{flags} off");
        world.set_port("tap0", &format!("{flags} on"));
    }
    // Isolated ports do not reach one another.
    for tap in ["tap0", "tap2"] {
        world.set_port(tap, "isolated on");
    }
    let broadcast = "vm2:broadcast 200/s";
    assert_eq!(world.copies("broadcast", sends(broadcast)), 1.0, "isolated");
    for tap in ["tap0", "tap2"] {
        world.set_port(tap, "isolated off");
    }
    // The bridge knows who has that address, and answers in its place.
    let neighbour = "neigh add 10.77.0.99 lladdr 02:00:0a:4d:00:02 dev br0 nud permanent";
    let words = ["-n", &world.name.0];
    succeed(Command::new("ip").args(words).args(neighbour.split(' ')));
    for tap in ["tap0", "tap1"] {
        world.set_port(tap, "neigh_suppress on");
    }
    let before = world.flooded("arp_request");
    world.ctl(&[
        "flow",
        "vm2:10.77.0.99",
        "--interval",
        "50ms",
        "--count",
        "3",
    ]);
    let after = wait_until("a request", || {
        Some(world.flooded("arp_request")).filter(|after| after.0 > before.0)
    });
    assert_eq!(after.1, before.1, "neigh_suppress");
    world.end();
}

#[test]
fn a_bridge_that_snoops_sends_a_group_to_its_members_alone() {
    let world = World::new("--count-floods");
    let change = |words: &str| {
        let netns = ["-n", &world.name.0];
        succeed(Command::new("ip").args(netns).args(words.split(' ')));
    };
    world.ctl(&["flow", "vm2:239.1.2.3", "--interval", "10ms"]);
    let a_frame = || {
        let before = world.flooded("multicast");
        let after = wait_until("multicasts", || {
            Some(world.flooded("multicast")).filter(|after| after.0 >= before.0 + 10)
        });
        (after.1 - before.1) as f64 / (after.0 - before.0) as f64
    };
    assert!(a_frame() > 1.5, "flooded to both");
    change("link set br0 type bridge mcast_query_response_interval 100");
    change("link set br0 type bridge mcast_snooping 1 mcast_querier 1");
    let words = [
        "-n",
        &world.name.0,
        "mdb",
        "add",
        "dev",
        "br0",
        "port",
        "tap1",
    ];
    let group = ["grp", "239.1.2.3", "permanent"];
    succeed(Command::new("bridge").args(words).args(group));
    // It steers from its first query on.
    wait_until("a group that is steered", || {
        (a_frame() < 1.2).then_some(())
    });
    world.end();
}

/// A misbehaviour with its default rate.
fn what_of(what: &str) -> String {
    match what {
        "dhcp-starve" => "dhcp-starve 100/s".to_owned(),
        what => what.to_owned(),
    }
}

#[test]
fn the_bridge_learns_the_addresses_of_a_flood() {
    let world = World::new("");
    let learnt = || {
        let words = ["-n", &world.name.0, "-j", "fdb", "show", "br", "br0"];
        let told = succeed(Command::new("bridge").args(words));
        let entries: Vec<Value> = serde_json::from_str(&told).expect("JSON");
        let is_made_up = |entry: &&Value| {
            let mac = entry["mac"].as_str().unwrap_or_default();
            mac.starts_with("06:") && entry["ifname"] == "tap2"
        };
        entries.iter().filter(is_made_up).count()
    };
    assert_eq!(learnt(), 0);
    world.ctl(&["misbehave", "vm2:mac-flood 2000/s"]);
    wait_until("a table that fills", || (learnt() >= 1000).then_some(()));
    world.ctl(&["behave", "vm2"]);
    let told: Value = serde_json::from_str(&world.ctl(&["--json", "misbehaviours"])).unwrap();
    let sent = number(&told, "/items/0/counts/sent");
    // A table that changes while it is read may be told in part.
    wait_until("an entry for each frame", || {
        (learnt() as u64 == sent).then_some(())
    });
    let report = world.end();
    assert_eq!(number(misbehaviour(&report), "/counts/sent"), sent);
}

#[test]
fn the_kernel_takes_a_stolen_address_for_the_thiefs_and_waits_for_a_slow_vm() {
    let world = World::new("--host-address 10.77.0.1/16");
    let ping = |address| succeed(&mut world.inside(&["ping", "-c", "1", "-W", "5", address]));
    ping("10.77.0.2");
    let neighbour = || {
        let words = ["-n", &world.name.0, "-j", "neigh", "show", "10.77.0.2"];
        let told: Value = serde_json::from_str(&succeed(Command::new("ip").args(words))).unwrap();
        told[0]["lladdr"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(neighbour(), "02:00:0a:4d:00:02");
    world.ctl(&["misbehave", "vm2:steal 10.77.0.2"]);
    // vm0 defends its address once.
    wait_until("a neighbour that is another", || {
        (neighbour() == MAC).then_some(())
    });
    // And the thief claims it again.
    wait_until("a second claim", || {
        let told: Value = serde_json::from_str(&world.ctl(&["--json", "misbehaviours"])).unwrap();
        (number(&told, "/items/0/counts/sent") >= 2).then_some(())
    });
    world.ctl(&["behave", "vm2"]);
    world.ctl(&["misbehave", "vm2:slow 300ms"]);
    let told = ping("10.77.0.4");
    let (_, time) = told.split_once("time=").expect("a time");
    let time: f64 = time
        .split(' ')
        .next()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!(time >= 300.0, "{told}");
    world.ctl(&["behave", "vm2"]);
    let report = world.end();
    let slow = &report["misbehaviours"][1];
    assert_eq!(slow["kind"], "slow");
    assert!(number(slow, "/counts/delayed") > 0, "{slow}");
    assert!(number(&report, "/misbehaviours/0/counts/sent") >= 2);
}

#[test]
fn a_silent_vm_has_a_port_that_takes_frames_and_sends_none() {
    let world = World::new("");
    world.ctl(&["misbehave", "vm2:silent"]);
    let (sent, queued) = (frames(&world.name.0, "rx"), frames(&world.name.0, "tx"));
    // Whoever pings it is heard.
    let ping = || world.ctl(&["flow", "vm1:vm2", "--interval", "5ms"]);
    let begun = ping();
    wait_until("frames for vm2", || {
        let more = frames(&world.name.0, "tx")?;
        (more > queued? + 20).then_some(())
    });
    assert_eq!(frames(&world.name.0, "rx"), sent);
    // So that no ping is due just before it speaks again, and sent after.
    let flow = begun.split_whitespace().nth(1).expect("flow N begins");
    world.ctl(&["end-flow", flow]);
    world.ctl(&["behave", "vm2"]);
    ping();
    wait_until("frames of vm2", || {
        (frames(&world.name.0, "rx") > sent).then_some(())
    });
    let report = world.end();
    let of = misbehaviour(&report);
    assert!(
        number(of, "/counts/withheld") > 0 && number(of, "/counts/ignored") > 20,
        "{of}"
    );
    // One of vm2's own may be due just before it speaks again, and sent after.
    assert!(number(of, "/misbehaving/during/answered") <= 1, "{of}");
    assert_eq!(number(of, "/others/during/unanswered"), 0, "{of}");
}

#[test]
fn a_flapping_link_goes_down_and_up_and_is_no_change_by_others() {
    let mut world = World::new("--mark-on link");
    let words = ["ip", "-o", "monitor", "link", "dev", "tap2"];
    let mut monitor = Running::start(world.inside(&words));
    world.ctl(&["misbehave", "vm2:flap 100ms/40ms"]);
    for state in ["state DOWN", ",UP"] {
        wait_until("a link that flaps", || {
            monitor.expect_alive();
            // The kernel tells of each time more than once.
            (monitor.stdout().matches(state).count() >= 8).then_some(())
        });
    }
    world.run.expect_alive();
    world.ctl(&["behave", "vm2"]);
    let flags = || {
        let words = ["-n", &world.name.0, "-j", "link", "show", "tap2"];
        let told: Value = serde_json::from_str(&succeed(Command::new("ip").args(words))).unwrap();
        told[0]["flags"].to_string()
    };
    assert!(flags().contains("\"UP\""), "{}", flags());
    let report = world.end();
    let of = misbehaviour(&report);
    assert!(number(of, "/counts/link_down") >= 2, "{of}");
    assert!(number(of, "/counts/withheld") > 0, "{of}");
    assert!(report["links"].is_null(), "{}", report["links"]);
    // The bridge floods what is for it also when its link has come up and its port not yet: that is the same cause.
    let losses = report["losses"].as_array().expect("losses").iter();
    let causes: Vec<_> = losses
        .map(|row| (row["cause"].as_str(), row["reason"].as_str()))
        .collect();
    assert!(!causes.is_empty(), "{report}");
    let flap = (Some("impaired"), Some("flap"));
    assert!(causes.iter().all(|cause| *cause == flap), "{causes:?}");
    let names = report["marks"].as_array().expect("marks").iter();
    let names: Vec<_> = names
        .map(|mark| mark["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["vm2-flap", "vm2-flap-over"]);
}

#[test]
fn a_looped_port_sends_the_broadcasts_of_others_back() {
    let world = World::new("");
    let mut tcpdump = world.watch("arp and ether src 02:00:0a:4d:00:02");
    world.ctl(&["misbehave", "vm2:loop"]);
    // Nobody has that address, and vm0 asks everybody for it.
    world.ctl(&["flow", "vm0:10.77.0.99", "--interval", "50ms"]);
    wait_until_seen(&mut tcpdump, "who-has 10.77.0.99 tell 10.77.0.2");
    world.ctl(&["behave", "vm2"]);
    let report = world.end();
    assert!(number(misbehaviour(&report), "/counts/reflected") > 0);
}

#[test]
fn a_lab_that_is_not_the_runs_own_is_refused_before_anything_is_touched() {
    let lab = Lab::new();
    lab.ip("link add other type bridge");
    lab.ip("link set other up");
    let before = lab.identities();
    let job = "--vms 3 --ping vm0:vm1 --count 1 --misbehave vm2:silent";
    for (place, why) in [
        (
            "--netns host",
            "the namespace of the host is not the run's own",
        ),
        (
            &*format!("--netns {}", lab.name()),
            "exists already, and is not the run's own",
        ),
        ("--netns host --attach", "the bridge is somebody else's"),
        (
            "--netns host --join other --subnet 10.77.0.0/16",
            "the bridge is somebody else's",
        ),
    ] {
        let run = lab.tap_reactor(&format!("{place} {job}")).expect_status(2);
        assert!(run.stderr.contains(why), "{place}: {}", run.stderr);
        assert!(
            run.stderr.contains("expected --netns private"),
            "{}",
            run.stderr
        );
        assert_eq!((run.stdout.as_str(), run.stderr.lines().count()), ("", 1));
        assert_eq!(lab.identities(), before, "{place}");
    }
    // By request, too.
    let socket = Socket::new();
    let run = socket.start(&lab, "--netns host --vms 2 --ping vm0:vm1 --interval 10ms");
    let words = ["misbehave", "vm1:silent"];
    let told = Command::new(TAP_REACTOR)
        .arg("ctl")
        .arg(socket.path())
        .args(words)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(
        told.contains("was not made by this run; expected a lab in a namespace"),
        "{told}"
    );
    run.signal(nix::sys::signal::Signal::SIGINT);
    run.wait();
}

#[test]
fn floods_are_counted_for_a_report_that_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("floods.json");
    let words =
        "--vms 3 --ping vm0:absent --count 1 --timeout 10ms --count-floods --quiet --output";
    let run = Lab::new().tap_reactor(&format!("{words} {}", file.display()));
    run.expect_status(1);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(report["floods"][0]["kind"], "arp_request", "{report}");
}
