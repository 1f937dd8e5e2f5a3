//! More VMs than a bridge has ports, other fabrics than a bridge, and what idle VMs cost.

use serde_json::Value;

use crate::lab::{Lab, TAP_REACTOR};
use crate::rights::NOBODY;

#[test]
fn flows_within_a_leaf_and_across_leaves_are_told_apart() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--vms 8 --ports-per-bridge 3 --ping mesh --count 3 --interval 1ms --json")
        .expect_status(0);
    let report = run.json();
    assert_eq!(report["totals"]["received"], 8 * 7 * 3);
    assert_eq!(report["fabric"]["kind"], "bridge");
    assert_eq!(report["fabric"]["leaves"], 3);
    assert_eq!(report["fabric"]["ports_per_bridge"], 3);
    // Leaves of 3, 3 and 2 VMs.
    let within = 3 * 2 + 3 * 2 + 2;
    assert_eq!(report["fabric"]["flows_across"], 8 * 7 - within);
    assert_eq!(report["rtt_within_leaf_ns"]["count"], within * 3);
    assert_eq!(
        report["rtt_across_leaves_ns"]["count"],
        (8 * 7 - within) * 3
    );
    assert_eq!(report["boot_ns"]["count"], 8);
    assert!(
        report["memory"]["rss_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0)
    );
    assert_eq!(report["drops"].get("tap_queue"), None);

    let plan = lab
        .tap_reactor("--vms 8 --ports-per-bridge 3 --ping ring --count 3 --dry-run")
        .expect_status(0);
    for line in [
        "spine br0: 3 leaves",
        "  leaf br0-2 (by br0-2u to br0-2d): vm6 to vm7",
        "3 of 8 flows cross the spine",
    ] {
        assert!(plan.stdout.contains(line), "{line}:\n{}", plan.stdout);
    }
}

#[test]
fn two_thousand_vms_on_leaves_resolve_and_ping() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--vms 2000 --ping vm0:vm1999 --ping vm7:vm8 --count 20 --interval 1ms --json")
        .expect_status(0);
    let report = run.json();
    assert_eq!(report["totals"]["received"], 40);
    assert_eq!(report["fabric"]["leaves"], 2);
    assert_eq!(report["rtt_across_leaves_ns"]["count"], 20);
    let per_vm = report["memory"]["per_vm_bytes"].as_u64().expect("a figure");
    assert!(per_vm <= 1024, "an idle VM takes {per_vm} bytes");
}

#[test]
fn the_bridge_answers_where_asking_would_take_long_and_the_run_says_so() {
    let lab = Lab::new();
    let arguments = "--vms 3200 --ports-per-bridge 800 --ping ring --count 1";
    let run = lab
        .tap_reactor(&format!("{arguments} --json"))
        .expect_status(0);
    let report = run.json();
    assert_eq!(report["totals"]["received"], 3200);
    assert_eq!(report["resolution_ns"]["count"], 3200);
    assert_eq!(report["fabric"]["neighbours"], "proxy");
    assert_eq!(report["fabric"]["spared_deliveries"], 3200 * 3199);
    for (how, arguments) in [
        (
            "resolved before the first ping, and the bridge answers; with --resolve=before,",
            arguments.to_owned(),
        ),
        (
            "static tables, no requests, and groups are not reported; with --resolve=before,",
            format!("{arguments} -6"),
        ),
    ] {
        let plan = lab
            .tap_reactor(&format!("{arguments} --dry-run"))
            .expect_status(0);
        let expected = format!("neighbours: {how}");
        assert!(plan.stdout.contains(&expected), "{}", plan.stdout);
    }
    assert!(
        run.stderr.contains("first ping, and the bridge answers"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_bridge_that_answers_arp_leaves_the_rest_of_the_world_alone() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor(
            "--vms 6 --ports-per-bridge 3 --netns host --host-address 10.77.0.1/16 --resolve proxy \
             --ping mesh --ping vm4:10.77.0.1 --count 2 --json",
        )
        .expect_status(0);
    let report = run.json();
    assert_eq!(report["totals"]["received"], (6 * 5 + 1) * 2);
    assert_eq!(report["fabric"]["neighbours"], "proxy");
    assert_eq!(report["fabric"].get("spared_deliveries"), None);
    // It does not for IPv6, and nobody is told that it would.
    let run = lab
        .tap_reactor("--vms 4 --resolve proxy --ping mesh -6 --count 2")
        .expect_status(2);
    assert!(
        run.stderr.contains("--resolve proxy: expected before"),
        "{}",
        run.stderr
    );
}

#[test]
fn idle_vms_never_wake_the_reactor() {
    let lab = Lab::new();
    let run = lab
        .tap_reactor("--vms 200 --duration 2s --json")
        .expect_status(0);
    let report = run.json();
    // The end of the time is one; multicast of the bridge itself, when it comes up, may be another.
    let turns = report["reactor"]["turns"].as_u64().expect("a figure");
    assert!(turns <= 3, "{turns} turns: {report}");
}

#[test]
fn the_filter_changes_what_the_kernel_delivers_and_nothing_that_a_vm_does() {
    let lab = Lab::new();
    let arguments = "--vms 20 --ping mesh --count 1 --json";
    let outcome = |more: &str| {
        let run = lab
            .tap_reactor(&format!("{arguments} {more}"))
            .expect_status(0);
        run.json()
    };
    let (with, without) = (outcome("--filter"), outcome("--filter=off"));
    assert_eq!(with["totals"], without["totals"]);
    assert_eq!(with["drops"].get("arp_not_for_us"), None);
    assert!(
        without["drops"]["arp_not_for_us"].as_u64() > Some(0),
        "{without}"
    );
    assert_eq!(with["drops"].get("tap_queue"), None);
}

#[test]
fn a_simulation_needs_no_rights_says_what_it_is_and_comes_out_the_same_each_time() {
    let lab = Lab::new();
    let run = |seed: u32| {
        let arguments = format!(
            "--fabric sim --vms 50 --ping ring --count 40 --impair in:loss=2%,delay=30us±30us --seed {seed} --json"
        );
        let words = [TAP_REACTOR].into_iter().chain(arguments.split(' '));
        lab.run_as(NOBODY, &words.collect::<Vec<_>>())
    };
    let first = run(1).expect_status(1);
    let report = first.json();
    assert_eq!(report["fabric"]["simulated"], true);
    assert_eq!(report["totals"]["sent"], 50 * 40);
    assert!(report["totals"]["lost"].as_u64() > Some(20), "{report}");
    assert_eq!(run(1).stdout, first.stdout);
    assert_ne!(run(2).stdout, first.stdout);
    assert_eq!(lab.link_names(), [] as [&str; 0]);
    let text = lab
        .tap_reactor("--fabric sim --ping vm0:vm1 --count 3")
        .expect_status(0);
    assert!(text.stdout.contains("Simulated: "), "{}", text.stdout);
}

#[test]
fn xdp_carries_the_same_pings_without_a_bridge() {
    let lab = Lab::new();
    for arguments in [
        "--vms 6 --ping mesh --count 5",
        "--vms 6 --ping mesh --count 5 --ipv6 --ping-ipv6",
        "--vms 3 --ping mesh --count 5 --vlan 10",
        "--vms 2 --ping vm0:vm1 --count 5 --size 8000 --mtu 9000",
        // Alike in what the switch looks at first.
        "--vms 3 --mac vm0=02:00:00:00:00:07 --mac vm1=02:11:00:00:00:07 --ping mesh --count 5",
    ] {
        let run = lab
            .tap_reactor(&format!("{arguments} --interval 1ms --fabric xdp --json"))
            .expect_status(0);
        let report = run.json();
        assert_eq!(report["fabric"]["kind"], "xdp");
        assert_eq!(report["totals"]["lost"], 0);
    }
    // An ARP request for one of us wakes nobody else.
    let run = lab
        .tap_reactor("--vms 20 --ping mesh --count 1 --fabric xdp --json")
        .expect_status(0);
    assert_eq!(run.json()["drops"].get("arp_not_for_us"), None);
}

#[test]
fn a_hook_joins_the_taps_to_a_switch_of_the_users_and_hears_of_their_end() {
    let lab = Lab::new();
    let hook = "case $TAP_REACTOR_EVENT in \
         up) ip link add sw0 type bridge forward_delay 0 && ip link set sw0 up && \
             for tap in $TAP_REACTOR_TAPS; do ip link set $tap master sw0; done ;; \
         down) ip link delete sw0; echo gone; ls -d /sys/class/net/tap0 >/dev/null; ip link show tap2 ;; \
         esac";
    let command = |hook: &str| {
        let words =
            "--fabric none --netns host --vms 3 --ping mesh --count 5 --interval 1ms --json --hook";
        let mut command = vec![crate::lab::TAP_REACTOR];
        command.extend(words.split(' '));
        command.push(hook);
        lab.run(&command)
    };
    let run = command(hook).expect_status(0);
    assert_eq!(run.json()["totals"]["received"], 3 * 2 * 5);
    assert_eq!(run.json()["fabric"]["kind"], "none");
    assert!(
        run.stderr.contains("gone") && run.stderr.contains("tap2"),
        "{}",
        run.stderr
    );
    assert_eq!(lab.link_names(), [] as [&str; 0]);

    let run = command("exit 7").expect_status(3);
    assert!(run.stderr.contains("run the hook (up)"), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    assert_eq!(lab.link_names(), [] as [&str; 0]);
}

#[test]
fn a_hook_without_a_shell_names_the_shell_that_is_missing() {
    let lab = Lab::new();
    let command = format!(
        "env PATH=/nowhere {} --fabric none --vms 2 --ping mesh --hook true",
        crate::lab::TAP_REACTOR
    );
    let run = lab
        .run(&command.split(' ').collect::<Vec<_>>())
        .expect_status(3);
    assert_eq!(
        run.stderr,
        "tap-reactor: run the hook (up) \"true\": no sh in PATH; a hook is a shell command: expected a shell, such as /bin/sh\n"
    );
    assert_eq!(run.stdout, "");
}

/// Three residents, one of them a server, and clients that come up and leave in the course of the run.
const COMING_AND_GOING: &str = r#"
[[group]]
name = "resident"
vms = 3
[[group]]
name = "client"
vms = 20
[[phase]]
name = "calm"
ping = ["vm1:vm2"]
interval = "5ms"
count = 20
[[phase]]
name = "coming"
ping = ["vm1:vm2", "client:vm0"]
interval = "20ms"
start = "client at 100 per second"
count = 10
[[phase]]
name = "going"
ping = ["vm1:vm2", "client:vm0"]
interval = "20ms"
stop = ["vm[13-22] at 50 per second", "vm3"]
count = 30
"#;

#[test]
fn vms_come_up_and_leave_while_others_ping() {
    for arguments in [
        "",
        "--resolve proxy --ports-per-bridge 8",
        "--resolve static --ports-per-bridge 8",
        "-6",
        "--fabric xdp",
        "--netns host",
        "--fabric sim",
        "--verbose",
    ] {
        let lab = Lab::new();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("moves.toml");
        std::fs::write(&path, COMING_AND_GOING).expect("write the scenario");
        let file = path.display();
        let run = lab.tap_reactor(&format!("--scenario {file} --json {arguments}"));
        let report = run.json();
        // A ping under way when its VM leaves is not waited for.
        let totals = &report["totals"];
        assert_eq!(totals["lost"], 0, "{arguments}: {totals}");
        assert_eq!(totals["unresolved"], 0, "{arguments}: {totals}");
        // What the run itself does to links is no news.
        assert_eq!(report["links"], Value::Null, "{arguments}");
        // vm1 and every client.
        assert_eq!(report["boot_ns"]["count"], 21, "{arguments}: {report}");
        let flows = report["flows"].as_array().expect("flows");
        let of = |src: &str| {
            let flow = flows.iter().rfind(|flow| flow["src"] == src);
            flow.and_then(|flow| flow["totals"]["sent"].as_u64())
        };
        assert_eq!((of("vm1"), of("vm12")), (Some(40), Some(40)), "{arguments}");
        let leaves = of("vm3");
        assert!(
            (Some(10)..Some(40)).contains(&leaves),
            "{arguments}: {leaves:?}"
        );
        assert!(of("vm22") >= Some(10), "{arguments}");
        if arguments == "--verbose" {
            for line in ["vm22 starts", "vm22 stops"] {
                assert!(run.stderr.contains(line), "{}", run.stderr);
            }
        }
        assert_eq!(lab.link_names(), [] as [&str; 0], "{arguments}");
    }
}
