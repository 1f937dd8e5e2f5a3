//! Where lost pings were lost, on real TAPs: causes that the tool has itself, and what it finds out without being told.

pub mod kernel;
mod streams;

use serde_json::{Value, json};

use crate::lab::{Lab, number};
use crate::rights::as_nobody;

/// Without ARP or anything else there are no frames but those of the pings.
const CALM: &str = "--resolve static --ping vm0:vm1 --interval 1ms --json";

/// A hook that makes a switch of the TAPs, for `--fabric none`.
const SWITCH: &str = "#!/bin/sh
test $TAP_REACTOR_EVENT = up || exit 0
ip link add br9 type bridge
ip link set br9 up
for tap in $TAP_REACTOR_TAPS; do ip link set $tap master br9; done
";

/// The rows of losses, each as cause, direction and place.
fn rows(report: &Value) -> Vec<(String, u64)> {
    let rows = report["losses"].as_array().map(Vec::as_slice);
    let rows = rows.unwrap_or_default().iter().map(|row| {
        let [cause, direction, place] =
            ["cause", "direction", "place"].map(|key| row[key].as_str().unwrap());
        let count = row["count"].as_u64().unwrap();
        (format!("{cause} {direction} {place}"), count)
    });
    let rows: Vec<_> = rows.collect();
    let totals = |count: &str| number(report, &format!("/totals/{count}"));
    let failed: u64 = ["lost", "unresolved", "corrupt", "errored", "unsent"]
        .map(totals)
        .iter()
        .sum();
    let sum: u64 = rows.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, failed, "{report}");
    rows
}

fn row(what: &str, count: u64) -> (String, u64) {
    (what.to_owned(), count)
}

#[test]
fn what_impairments_lose_is_put_down_to_them_in_each_direction_on_every_fabric() {
    for fabric in ["sim", "bridge", "xdp"] {
        let lab = Lab::new();
        let impairments = "--impair vm1:in:every=10 --impair vm1:out:every=9";
        let run = lab.tap_reactor(&format!(
            "--fabric {fabric} {CALM} --count 200 {impairments}"
        ));
        let mut found = rows(&run.expect_status(1).json());
        found.sort();
        // Each tenth request, and each ninth of the 180 replies.
        let expected = [
            row("impaired reply vm1", 20),
            row("impaired request vm1", 20),
        ];
        assert_eq!(found, expected, "{fabric}");
    }
}

#[test]
fn what_the_vm_reads_and_ignores_is_put_down_to_it_on_every_fabric_with_and_without_the_kernels_word()
 {
    let expected = |report: &Value| {
        assert_eq!(rows(report), [row("ignored request vm1", 50)], "{report}");
        assert_eq!(report["losses"][0]["reason"], "other_vlan");
    };
    let lab = Lab::new();
    // vm1 takes tagged frames only; vm2 gets a copy of what is flooded.
    let arguments = format!("--vms 3 {CALM} --count 50 --timeout 100ms --vlan vm1=100");
    for fabric in ["sim", "bridge", "xdp"] {
        let run = lab.tap_reactor(&format!("--fabric {fabric} {arguments}"));
        expected(&run.expect_status(1).json());
    }
    let report = as_nobody(&lab, &arguments).expect_status(1).json();
    assert_eq!(report["loss_attribution"]["method"], "counters");
    expected(&report);
}

#[test]
fn a_spine_that_has_a_vm_where_it_was_before_a_silent_move_is_told_with_its_port() {
    let lab = Lab::new();
    let arguments = "--vms 4 --ports-per-bridge 2 --ping vm0:vm1 --ping vm2:vm1 --interval 1ms --duration 400ms \
                     --timeout 50ms --move vm1:leaf1@100ms,announce=none --json";
    for (run, method) in [
        (lab.tap_reactor(arguments), "tracepoints"),
        (as_nobody(&lab, arguments), "counters"),
    ] {
        let report = run.expect_status(1).json();
        assert_eq!(report["loss_attribution"]["method"], method);
        let lost = number(&report, "/totals/lost");
        let found = rows(&report);
        let at_spine = found
            .iter()
            .position(|(what, _)| what == "in_bridge request br0-0d");
        let row = &report["losses"][at_spine.expect("such losses")];
        let why = "the forwarding table has the destination at the port that it comes by";
        assert_eq!(row["reason"], why, "{method}");
        // Those of vm2, which are as many, come to where it was. A few may have been on their way when it moved.
        assert!(2 * number(row, "/count") + 40 >= lost, "{found:?}");
    }
}

#[test]
fn a_tap_that_is_down_refuses_frames_and_takes_none() {
    for (tap, cause) in [
        ("tap0", "refused request vm0"),
        ("tap1", "absent request vm1"),
    ] {
        let lab = Lab::new();
        let mut run =
            lab.start_tap_reactor(&format!("--netns host {CALM} --count 1000 --timeout 100ms"));
        lab.wait_until_vm_sent(&mut run, tap, 10);
        lab.ip(&format!("link set {tap} down"));
        let report = run.wait().expect_status(1).json();
        let found = rows(&report);
        let of_cause = found.iter().find(|(what, _)| what == cause);
        let lost = number(&report, "/totals/lost");
        // One may have been answered when the link went down.
        assert!(
            of_cause.is_some_and(|(_, pings)| pings + 1 >= lost),
            "{found:?}"
        );
        assert!(lost > 1, "{found:?}");
    }
}

#[test]
fn a_vm_that_stops_and_a_neighbour_that_is_not_there_are_told_apart() {
    let lab = Lab::new();
    let report = lab
        .tap_reactor("--vms 1 --ping vm0:10.77.9.9 --count 3 --interval 1ms --json")
        .expect_status(1)
        .json();
    assert_eq!(rows(&report), [row("unresolved request tool", 3)]);
    let scenario = tempfile::NamedTempFile::new().unwrap();
    let text = "vms = 2\nping = 'vm0:vm1'\nresolve = 'static'\ninterval = '1ms'\n\
                timeout = '100ms'\n[[phase]]\nduration = '200ms'\n\
                [[phase]]\nduration = '200ms'\nstop = 'vm1'\n";
    std::fs::write(scenario.path(), text).unwrap();
    let file = scenario.path().display();
    let report = lab
        .tap_reactor(&format!("--scenario {file} --json"))
        .expect_status(1)
        .json();
    let found = rows(&report);
    let [(what, pings)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(what, "absent request vm1");
    assert!(*pings > 100, "{found:?}");
}

#[test]
fn what_others_drop_is_found_by_the_kernels_word_and_without_it() {
    // What is done to the ports; what the kernel tells of it, and what is found by elimination; and the reason of the first.
    let table = [
        (
            "for tap in $TAP_REACTOR_TAPS; do bridge link set dev $tap isolated on; done",
            ["in_bridge request vm0", "in_bridge request vm0"],
            "both ports are isolated",
        ),
        (
            "nft 'add table netdev t'
            nft 'add chain netdev t c { type filter hook ingress device tap1 priority 0; }'
            nft 'add rule netdev t c drop'",
            ["before_bridge reply vm1", "between_ports reply unknown"],
            "NETFILTER_DROP in nft_do_chain",
        ),
    ];
    let lab = Lab::new();
    for (ports, found, reason) in table {
        let (_directory, script) = hook(ports);
        let arguments = format!(
            "--vms 2 {CALM} --count 20 --fabric none --hook {}",
            script.display()
        );
        for (run, what, method) in [
            (lab.tap_reactor(&arguments), found[0], "tracepoints"),
            (as_nobody(&lab, &arguments), found[1], "counters"),
        ] {
            let report = run.expect_status(1).json();
            assert_eq!(report["loss_attribution"]["method"], method);
            assert_eq!(rows(&report), [row(what, 20)], "{report}");
            if method == "tracepoints" {
                assert_eq!(report["losses"][0]["reason"], reason);
            }
        }
    }
}

/// A script that makes a bridge, with `ports` set, which everybody can read; and its directory, with which it goes.
fn hook(ports: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("hook.sh");
    std::fs::write(&script, format!("{SWITCH}{ports}\n")).unwrap();
    for path in [directory.path(), &script] {
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, everybody).unwrap();
    }
    (directory, script)
}

#[test]
fn a_reply_that_is_dropped_is_told_without_the_kernels_word_also_where_others_got_the_request() {
    let lab = Lab::new();
    // The bridge never learns where vm1 is, or only from its first reply: it floods requests for it.
    for ports in [
        "nft 'add table netdev t'
        nft 'add chain netdev t c { type filter hook ingress device tap1 priority 0; }'
        nft 'add rule netdev t c drop'",
        "nft 'add table bridge t'
        nft 'add chain bridge t c { type filter hook forward priority 0; }'
        nft 'add rule bridge t c iifname tap1 drop'",
    ] {
        let (_directory, script) = hook(ports);
        let arguments = format!(
            "--vms 3 {CALM} --count 20 --timeout 100ms --fabric none --hook {}",
            script.display()
        );
        let report = as_nobody(&lab, &arguments).expect_status(1).json();
        assert_eq!(report["loss_attribution"]["method"], "counters");
        let expected = [row("between_ports reply unknown", 20)];
        assert_eq!(rows(&report), expected, "{report}");
    }
}

#[test]
fn who_is_not_root_learns_it_by_elimination_and_the_report_says_so() {
    let lab = Lab::new();
    let run = as_nobody(
        &lab,
        &format!("--vms 2 {CALM} --count 50 --impair vm1:every=5"),
    );
    let report = run.expect_status(1).json();
    assert_eq!(report["loss_attribution"]["method"], "counters");
    assert_eq!(rows(&report), [row("impaired reply vm1", 10)]);
    let run = as_nobody(&lab, "--vms 2 --ping vm0:vm1 --count 1 --attribute-loss=on");
    let refused = run.expect_status(3).stderr;
    let said = "--attribute-loss on: watch dropped frames";
    let expected = "expected root (CAP_BPF and CAP_PERFMON, outside of user namespaces), or --attribute-loss auto";
    assert!(
        refused.contains(said) && refused.contains(expected),
        "{refused}"
    );
}

#[test]
fn switched_off_it_finds_nothing_and_says_so() {
    let lab = Lab::new();
    let run = lab.tap_reactor(&format!(
        "{CALM} --count 50 --impair vm1:every=5 --attribute-loss=off"
    ));
    let report = run.expect_status(1).json();
    assert_eq!(rows(&report), [row("unknown unknown unknown", 10)]);
    let search = json!({"method": "none", "why": "--attribute-loss=off"});
    assert_eq!(report["loss_attribution"], search);
}

#[test]
fn what_the_filter_drops_for_a_foreign_address_is_put_down_to_it_at_the_vm_that_it_was_for() {
    let lab = Lab::new();
    let arguments = "--vms 3 --filter=on --interval 1ms --count 20 --timeout 100ms --misbehave vm1:wrong-mac --json";
    for (ping, resolve, expected) in [
        ("vm0:vm1", "at-once", "filtered request vm1"),
        ("vm1:vm0", "at-once", "unresolved request vm1"),
    ] {
        let arguments = format!("{arguments} --ping {ping} --resolve {resolve}");
        for (run, method) in [
            (lab.tap_reactor(&arguments), "tracepoints"),
            (as_nobody(&lab, &arguments), "counters"),
        ] {
            let report = run.expect_status(1).json();
            assert_eq!(report["loss_attribution"]["method"], method);
            assert_eq!(
                rows(&report),
                [row(expected, 20)],
                "{method} {ping} {resolve}"
            );
        }
    }
}

#[test]
fn what_was_sent_to_a_foreign_address_before_it_was_put_right_is_put_down_to_the_filter() {
    let lab = Lab::new();
    let run = lab.tap_reactor(
        "--vms 3 --ping vm0:vm1 --ping vm1:vm0,probe=arp --interval 5ms --duration 400ms --timeout 50ms \
         --filter=on --misbehave vm1:wrong-mac@100ms+100ms --json",
    );
    let report = run.expect_status(1).json();
    let losses = report["losses"].as_array().expect("there are some");
    let reason = "sent to a hardware address that is not its own";
    assert!(
        losses
            .iter()
            .all(|row| row["reason"] == reason && row["cause"] == "filtered"),
        "{losses:?}"
    );
}

#[test]
fn pings_without_a_neighbour_tell_what_became_of_the_search_for_it_on_every_fabric() {
    let lab = Lab::new();
    let pings = "--vms 3 --ping vm0:vm1 --interval 10ms --count 10 --resolve at-once --json";
    let lost = "neighbour reply impaired on purpose: lost";
    let check = |report: &Value, place: &str, reason: &str| {
        let expected = format!("unresolved request {place}");
        assert_eq!(rows(report), [row(&expected, 10)], "{report}");
        assert_eq!(report["losses"][0]["reason"], reason);
    };
    for fabric in ["sim", "bridge", "xdp"] {
        let run = lab.tap_reactor(&format!(
            "{pings} --fabric {fabric} --impair vm1:out:loss=100%"
        ));
        check(&run.expect_status(1).json(), "vm1", lost);
    }
    let run = as_nobody(&lab, &format!("{pings} --impair vm1:out:loss=100%"));
    check(&run.expect_status(1).json(), "vm1", lost);
    // What others do to the frames of the search, by the kernel's word; and by the states of the ports.
    let directory = tempfile::tempdir().unwrap();
    for (name, ports, place, reason) in [
        (
            "nft",
            "nft 'add table netdev t'
            nft 'add chain netdev t c { type filter hook ingress device tap1 priority 0; }'
            nft 'add rule netdev t c drop'",
            "vm1",
            "neighbour reply dropped before the bridge: NETFILTER_DROP in nft_do_chain",
        ),
        (
            "isolated",
            "for tap in $TAP_REACTOR_TAPS; do bridge link set dev $tap isolated on; done",
            "vm0",
            "neighbour request dropped in the bridge: both ports are isolated",
        ),
    ] {
        let script = directory.path().join(name);
        std::fs::write(&script, format!("{SWITCH}{ports}\n")).unwrap();
        for path in [directory.path(), &script] {
            let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(path, everybody).unwrap();
        }
        let arguments = format!("{pings} --fabric none --hook {}", script.display());
        check(
            &lab.tap_reactor(&arguments).expect_status(1).json(),
            place,
            reason,
        );
        if name == "isolated" {
            let report = as_nobody(&lab, &arguments).expect_status(1).json();
            check(&report, place, reason);
        }
    }
}

#[test]
fn pings_by_arp_that_impairments_lose_are_put_down_to_them() {
    let lab = Lab::new();
    for fabric in ["sim", "bridge", "xdp"] {
        for (impair, expected) in [
            ("vm1:in:every=2", "impaired request vm1"),
            ("vm0:in:every=2", "impaired reply vm0"),
        ] {
            let report = lab
                .tap_reactor(&format!(
                    "--fabric {fabric} --vms 3 --probe arp --ping vm0:vm1 --interval 20ms --timeout 10ms --count 20 \
                     --impair {impair} --json"
                ))
                .expect_status(1)
                .json();
            let found = rows(&report);
            assert!(
                matches!(found.as_slice(), [(what, count)] if what == expected && *count >= 5),
                "{fabric} {impair}: {found:?}"
            );
        }
    }
}
