//! Moves of VMs on real TAPs: from leaf to leaf, to another port, to another namespace and back, while others ping them.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{
    Lab, RemovedName, Running, Socket, TAP_REACTOR, number, repository_file, run_in, wait_until,
};

/// Two leaves of two VMs each; vm1 is pinged from its own leaf and from the other.
const TREE: &str = "--vms 4 --ports-per-bridge 2 --ping vm0:vm1 --ping vm2:vm1 --interval 1ms --timeout 300ms --json";

/// What a table tells of each gap: the flow's source, where from and where to, if it has ended and by what.
fn told(report: &Value) -> Vec<(String, String, String, bool, String)> {
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = report["moves"].as_array().cloned().unwrap_or_default();
    rows.iter()
        .map(|row| {
            (
                word(row, "src"),
                word(row, "from"),
                word(row, "to"),
                row["gap_ns"].is_u64(),
                word(row, "ended_by"),
            )
        })
        .collect()
}

fn moved(source: &str, to: &str, ended_by: &str) -> (String, String, String, bool, String) {
    let words = [source, "leaf0", to, ended_by].map(str::to_owned);
    let [source, from, to, ended_by] = words;
    let has_ended = ended_by != "not_ended";
    (source, from, to, has_ended, ended_by)
}

/// Runs the tree for a time in which vm1 moves once or more, and returns the report. A ping may be lost at each move.
fn report(arguments: &str) -> Value {
    let lab = Lab::new();
    let run = lab.tap_reactor(&format!(
        "{TREE} --netns host --duration 600ms --expect loss<100% {arguments}"
    ));
    let run = run.expect_status(0);
    assert!(lab.link_names().is_empty(), "{:?}", lab.link_names());
    let report = run.json();
    assert_eq!(
        report["links"],
        Value::Null,
        "no change by others: {report}"
    );
    report
}

#[test]
fn what_ends_the_gap_of_a_move_from_leaf_to_leaf_is_what_the_vm_announced() {
    for (arguments, ended_by) in [
        ("--move vm1:leaf1@200ms", "fdb_by_announcement"),
        (
            "--move vm1:leaf1@200ms,announce=rarp",
            "fdb_by_announcement",
        ),
        (
            "--move vm1:leaf1@200ms,announce=na --ipv6 --ping-ipv6",
            "fdb_by_announcement",
        ),
        ("--move vm1:leaf1@200ms,announce=none", "not_ended"),
        // It pings across the spine, so that its next frame tells where it is.
        (
            "--move vm1:leaf1@200ms,announce=none --ping vm1:vm0",
            "fdb_by_own_frame",
        ),
        (
            "--move vm1:leaf1@200ms,announce=none --resolve static",
            "fdb_by_lab",
        ),
        (
            "--move vm1:leaf1@200ms,announce=none --resolve proxy",
            "fdb_by_lab",
        ),
    ] {
        let report = report(arguments);
        let mut rows = told(&report);
        rows.retain(|(source, ..)| source != "vm1");
        let expected = [
            moved("vm0", "leaf1", ended_by),
            moved("vm2", "leaf1", ended_by),
        ];
        assert_eq!(rows, expected, "{arguments}: {report}");
        let has_gaps = ended_by != "not_ended";
        let gaps = number(&report, "/outage_ns/count");
        assert_eq!(gaps > 0, has_gaps, "{arguments}: {report}");
        if !has_gaps {
            assert!(
                number(&report, "/moves/0/lost") > 0,
                "{arguments}: {report}"
            );
        }
    }
}

#[test]
fn a_frame_of_the_vm_tells_only_those_bridges_where_it_is_that_it_comes_to() {
    // vm3 is on the leaf that vm1 moves to: what vm1 sends to it stays there.
    let report = report("--move vm1:leaf1@200ms,announce=none --ping vm1:vm3");
    let rows = told(&report);
    let ends: Vec<(&str, &str)> = rows.iter().map(|row| (&*row.0, &*row.4)).collect();
    let expected = [
        ("vm0", "not_ended"),
        ("vm2", "fdb_by_own_frame"),
        ("vm1", "fdb_by_own_frame"),
    ];
    assert_eq!(ends, expected, "{report}");
}

#[test]
fn frames_to_a_vm_that_no_other_bridge_knew_are_flooded() {
    // Nothing that vm1 has sent before left its leaf.
    let lab = Lab::new();
    let run = lab.tap_reactor(
        "--vms 4 --ports-per-bridge 2 --ping vm0:vm1 --interval 1ms --duration 300ms --netns host --json \
         --expect loss<100% --move vm1:leaf1@100ms,announce=none",
    );
    let report = run.expect_status(0).json();
    assert_eq!(
        told(&report),
        [moved("vm0", "leaf1", "flooded")],
        "{report}"
    );
}

#[test]
fn each_phase_of_a_move_comes_after_the_one_before() {
    let report = report("--move vm1:leaf1@200ms,count=2,interval=20ms");
    for row in report["moves"].as_array().expect("moves") {
        let time = |name: &str| {
            row[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {row}"))
        };
        assert!(time("netlink_ns") <= time("announced_ns"), "{row}");
        assert_eq!(time("announced_ns"), time("fdb_ns"), "{row}");
        assert!(time("fdb_ns") <= time("first_in_ns"), "{row}");
        assert!(time("first_in_ns") <= time("first_out_ns"), "{row}");
        assert!(time("first_out_ns") <= time("first_answer_ns"), "{row}");
        let gap = time("last_answer_ns") + time("first_answer_ns");
        // The last answer before may have come from the old place while the link was changed.
        let is_exact = time("last_answer_ns") > 0;
        assert!(
            time("gap_ns") == gap || !is_exact && time("gap_ns") < gap,
            "{row}"
        );
        assert_eq!(time("resolution_ns"), 1_000_000, "{row}");
        assert_eq!(row["peer"], row["src"], "{row}");
    }
}

#[test]
fn a_vm_that_moves_to_and_fro_is_measured_each_time_wherever_it_goes() {
    let name = format!("trm-{}", std::process::id());
    let _guard = RemovedName(name.clone());
    for (place, to) in [
        ("leaf1".to_owned(), "leaf1".to_owned()),
        ("br0".to_owned(), "br0".to_owned()),
        ("br0-1".to_owned(), "leaf1".to_owned()),
        (format!("netns:{name}"), format!("netns:{name}")),
    ] {
        let arguments = format!("--move vm1:{place}@100ms,every=80ms --repeat 4 --filter=on");
        let report = report(&arguments);
        let rows = told(&report);
        let expected = (0..4).flat_map(|number| {
            let ways = [("leaf0", &*to), (&*to, "leaf0")];
            let (from, to) = ways[number % 2];
            ["vm0", "vm2"].map(|source| {
                let words = [source, from, to, "fdb_by_announcement"].map(str::to_owned);
                let [source, from, to, ended_by] = words;
                (source, from, to, true, ended_by)
            })
        });
        assert_eq!(rows, expected.collect::<Vec<_>>(), "{place}: {report}");
        assert_eq!(number(&report, "/outage_ns/count"), 8, "{place}: {report}");
        let path = std::path::Path::new("/run/netns").join(&name);
        assert!(!path.exists(), "{place}");
    }
}

#[test]
fn another_port_of_the_same_bridge_is_a_link_that_goes_down_and_comes_up_as_often_as_it_is_repeated()
 {
    let report = report("--move vm1:port@200ms --repeat 3");
    let expected = [
        moved("vm0", "leaf0", "fdb_by_announcement"),
        moved("vm2", "leaf0", "fdb_by_announcement"),
    ];
    assert_eq!(told(&report), [&expected[..]; 3].concat(), "{report}");
}

#[test]
fn an_announcement_that_is_withheld_held_or_lost_tells_no_bridge_where_the_vm_is() {
    const MS: u64 = 1_000_000;
    // With the earliest times, in milliseconds after the move was due, of the announcement and of what the bridges heard.
    for (option, value, announced, fdb, ended_by) in [
        (
            "--misbehave",
            "vm1:silent@150ms+250ms",
            None,
            Some(200),
            "fdb_by_own_frame",
        ),
        (
            "--misbehave",
            "vm1:flap 300ms/280ms@150ms+300ms",
            None,
            Some(200),
            "fdb_by_own_frame",
        ),
        // Pings of its own from before the move are written behind it.
        (
            "--impair",
            "vm1:out:delay=50ms",
            Some(50),
            Some(0),
            "fdb_by_own_frame",
        ),
        ("--impair", "vm1:out:loss=100%", None, None, "not_ended"),
    ] {
        let lab = Lab::new();
        let plan = format!(
            "{TREE} --duration 600ms --expect loss<=100% --move vm1:leaf1@200ms --ping vm1:vm0"
        );
        let mut command = vec![TAP_REACTOR];
        command.extend(plan.split_whitespace().chain([option, value]));
        let (run, arguments) = (lab.run(&command), value);
        let report = run.json();
        let rows = report["moves"].as_array().expect("moves");
        assert!(!rows.is_empty(), "{arguments}: {report}");
        for row in rows {
            for (name, earliest) in [("announced_ns", announced), ("fdb_ns", fdb)] {
                let told = row[name].as_u64();
                assert_eq!(
                    told.is_some(),
                    earliest.is_some(),
                    "{arguments}: {name}: {row}"
                );
                let at = number(row, "/at_ns");
                let is_later =
                    told.is_none_or(|told| at + told >= (200 + earliest.unwrap_or(0)) * MS);
                assert!(is_later, "{arguments}: {name}: {row}");
            }
            // A frame that was held is no frame that was sent.
            assert_eq!(
                row["fdb_ns"].is_u64(),
                row["first_out_ns"].is_u64(),
                "{arguments}: {row}"
            );
            assert_eq!(row["ended_by"], ended_by, "{arguments}: {row}");
        }
    }
}

#[test]
fn vms_keep_their_vlan_and_an_expectation_judges_their_outages() {
    for (limit, status) in [("outage.p99<10s", 0), ("outage.max<1us", 1)] {
        let lab = Lab::new();
        let run = lab.tap_reactor(&format!(
            "{TREE} --netns host --duration 400ms --expect loss<100% --expect {limit} --vlan 7 \
             --move vm1:leaf1@200ms"
        ));
        let report = run.expect_status(status).json();
        assert_eq!(number(&report, "/outage_ns/count"), 2, "{report}");
    }
}

/// A lab that is asked to move its VMs.
struct Steered {
    lab: Lab,
    socket: Socket,
    run: Running,
}

impl Steered {
    fn start(arguments: &str) -> Steered {
        let (lab, socket) = (Lab::new(), Socket::new());
        let mut run = socket.start(&lab, &format!("{TREE} --netns host {arguments}"));
        lab.wait_until_vm_sent(&mut run, "tap1", 20);
        Steered { lab, socket, run }
    }

    fn ctl(&self, words: &str) -> crate::lab::Finished {
        let path = self.socket.path();
        let path = path.to_str().expect("a path in UTF-8");
        let mut command = vec![TAP_REACTOR, "ctl", path];
        command.extend(words.split(' '));
        run_in(self.socket.folder.path(), &command, "")
    }

    /// The bridge that a TAP is a port of.
    fn bridge_of(&self, tap: &str) -> Option<String> {
        let links = self.lab.links();
        Some(links.get(tap)?["master"].as_str()?.to_owned())
    }

    fn end(self) -> Value {
        self.run.signal(Signal::SIGINT);
        self.run.wait().json()
    }
}

#[test]
fn a_lab_moves_its_vms_on_request_and_refuses_what_can_not_be() {
    let steered = Steered::start("");
    for (words, said) in [
        ("move vm1 leaf7", "expected leaf0 to leaf1"),
        ("move vm1 leaf0", "expected another place"),
        ("move vm1 br9", "bridge br9 is none of the lab's"),
        ("move vm1 netns:host", "expected a name that is free"),
        ("move vm9 leaf1", "vm9"),
        ("move vm[0-1] leaf1", "expected one VM"),
        ("move vm1 leaf1@5s", "expected no time"),
        ("move vm1 back", "was not moved yet"),
        (
            "move vm1 leaf1,outage=1s --repeat 0",
            "expected 1 to 100000",
        ),
        (
            "move vm1 leaf1,outage=1s",
            "outage is for --fabric sim; expected none",
        ),
    ] {
        let refused = steered.ctl(words);
        assert_ne!(refused.status, 0, "{words}: {refused:?}");
        assert!(refused.stderr.contains(said), "{words}: {refused:?}");
    }
    assert_eq!(steered.bridge_of("tap1").as_deref(), Some("br0-0"));
    let done = steered.ctl("move vm1 leaf1,announce=rarp").expect_status(0);
    assert!(
        done.stdout.starts_with("vm1 moved from leaf0 to leaf1 in "),
        "{done:?}"
    );
    assert_eq!(steered.bridge_of("tap1").as_deref(), Some("br0-1"));
    let back = steered.ctl("--json move vm1 back").expect_status(0).json();
    assert_eq!(
        (&back["from"], &back["to"]),
        (&json!("leaf1"), &json!("leaf0"))
    );
    assert_eq!(steered.bridge_of("tap1").as_deref(), Some("br0-0"));
    let report = steered.end();
    assert_eq!(number(&report, "/outage_ns/count"), 4, "{report}");
    assert_eq!(report["links"], Value::Null, "{report}");
}

#[test]
fn a_vm_that_moved_silently_is_gone_until_it_speaks() {
    let mut steered = Steered::start("");
    steered.ctl("move vm1 leaf1,announce=none").expect_status(0);
    // Pings get there no more, whoever sends them: requests are all that comes out of tap0.
    let received = |steered: &Steered| {
        let status = steered.ctl("--json status").expect_status(0).json();
        (
            number(&status, "/totals/received"),
            number(&status, "/totals/lost"),
        )
    };
    let (before, _) = received(&steered);
    wait_until("pings that are lost", || {
        steered.run.expect_alive();
        (received(&steered).1 > 20).then_some(())
    });
    assert_eq!(received(&steered).0, before, "nobody answers");
    steered
        .ctl("flow vm1:vm3 --window 1 --count 1")
        .expect_status(0);
    wait_until("answers again", || {
        steered.run.expect_alive();
        (received(&steered).0 > before + 20).then_some(())
    });
    let report = steered.end();
    let ended: Vec<String> = told(&report).into_iter().map(|row| row.4).collect();
    assert_eq!(ended, ["fdb_by_own_frame", "fdb_by_own_frame"], "{report}");
}

#[test]
fn a_vm_in_another_namespace_has_its_tap_there_and_a_name_that_carries_the_mark() {
    let name = format!("trn-{}", std::process::id());
    let _guard = RemovedName(name.clone());
    let mut steered = Steered::start("");
    steered
        .ctl(&format!("move vm1 netns:{name}"))
        .expect_status(0);
    assert_eq!(
        steered.bridge_of("tap1"),
        None,
        "it is not in the lab's namespace"
    );
    // The name is in the mount namespace of the run, as `ip netns exec` made it.
    let mounts = format!("--mount=/proc/{}/ns/mnt", steered.run.pid());
    let there = crate::lab::succeed(
        std::process::Command::new("nsenter")
            .args([&*mounts, "ip", "-n", &name, "-json", "link", "show"]),
    );
    let there: Value = serde_json::from_str(&there).expect("a document");
    let tap = there.as_array().expect("links").iter();
    let tap = tap
        .clone()
        .find(|link| link["ifname"] == "tap1")
        .expect("the TAP");
    assert_eq!(tap["master"], "br0", "{there}");
    let alias = tap["ifalias"].as_str().unwrap_or_default();
    assert!(alias.starts_with("tap-reactor pid="), "{there}");
    // Both flows are answered again.
    wait_until("the gaps have ended", || {
        steered.run.expect_alive();
        let so_far = steered.ctl("report json").expect_status(0).json();
        (number(&so_far, "/outage_ns/count") == 2).then_some(())
    });
    let report = steered.end();
    assert_eq!(number(&report, "/outage_ns/count"), 2, "{report}");
    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
}

#[test]
fn a_lab_of_somebody_else_moves_no_vms() {
    let lab = Lab::new();
    lab.make_by_hand();
    for (arguments, said) in [
        ("--netns host --attach --move vm1:port", "--attach"),
        (
            "--netns host --join br0 --subnet 10.77.0.0/16 --move vm1:port",
            "--join",
        ),
        ("--fabric xdp --move vm1:port", "--fabric"),
        ("--move vm1:leaf1", "all VMs are on one bridge"),
        (
            "--ports-per-bridge 1 --move vm1:leaf1",
            "vm1 is at leaf1 already; expected another place",
        ),
        ("--move vm1:back@300ms", "vm1 was not moved yet"),
        (
            "--ports-per-bridge 1 --move vm1:netns:host",
            "expected a name that is free",
        ),
        (
            "--move vm1:br9@1s",
            "--move vm1:br9@1s: bridge br9 is none of the lab's; expected br0, or netns:NAME",
        ),
        (
            "--ports-per-bridge 1 --move vm1:br7",
            "bridge br7 is none of the lab's; expected br0 or br0-0 to br0-1, or netns:NAME",
        ),
        (
            "--netns host --move vm1:br9",
            "bridge br9 is none of the lab's",
        ),
        (
            "--fabric sim --move vm1:leaf9",
            "there is no leaf9; expected leaf0",
        ),
        (
            "--move vm1:port@10h",
            "--move vm1:port@10h: all pings of the phase have ended before",
        ),
    ] {
        let before = lab.identities();
        let run = lab.tap_reactor(&format!("--ping vm0:vm1 --count 1 {arguments}"));
        assert!(run.stderr.contains(said), "{arguments}: {run:?}");
        run.expect_status(2);
        assert_eq!(lab.identities(), before, "{arguments}");
    }
}

#[test]
fn across_an_evpn_fabric_that_floods_nothing_bgp_ends_the_gap() {
    let script = repository_file("scripts/experiments/evpn.sh");
    let output = std::process::Command::new(script)
        .env("TAP_REACTOR", TAP_REACTOR)
        .output()
        .expect("the script");
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert!(output.status.success(), "{said}{failed}");
    let cells = said.lines().skip(2).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    });
    let ends: Vec<[String; 3]> = cells
        .map(|cells| [0, 1, 5].map(|cell| cells.get(cell).cloned().unwrap_or_default()))
        .collect();
    let announced = "fdb_by_announcement";
    let expected = [
        ["on", "vm0 → vm1", announced],
        ["on", "vm2 → vm1", announced],
        ["off", "vm0 → vm1", "fdb_by_controller"],
        ["off", "vm2 → vm1", announced],
    ];
    assert_eq!(
        ends,
        expected.map(|row| row.map(str::to_owned)),
        "{said}{failed}"
    );
}
