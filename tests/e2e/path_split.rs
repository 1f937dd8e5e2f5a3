//! Where the microseconds of a ping go, on real TAPs with the kernel's own stamps.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, number, wait_until};
use crate::losses::kernel::{expect_forgotten, links_of};
use crate::rights::as_nobody;

const RUN: &str = "--ping vm0:vm1 --count 3 --interval 10ms --json";

/// The means of the stages, each checked to be of all pings.
fn means(report: &Value) -> Vec<(String, u64)> {
    let stages = report["path_stages"].as_array().expect("stages");
    let stages = stages.iter().map(|stage| {
        let [name, way] = ["stage", "direction"].map(|key| stage[key].as_str().unwrap());
        assert_eq!(
            stage["time_ns"]["count"], report["path_split"]["pings"],
            "{name} {way}"
        );
        (format!("{way} {name}"), number(stage, "/time_ns/mean"))
    });
    stages.collect()
}

#[test]
fn the_stages_sum_to_the_round_trip_and_no_figure_of_the_run_has_them() {
    for (arguments, pings) in [
        ("--vms 2 --path-split", 1_000),
        ("--vms 2 --path-split=100 --ping-ipv6", 100),
        ("--vms 2 --path-split=100 --vlan 7", 100),
        ("--vms 6 --path-split=100 --ports-per-bridge 1", 100),
        (
            "--vms 2 --path-split=100 --size 1472 --impair vm1:delay=1ms",
            100,
        ),
        // As many from each flow.
        (
            "--vms 4 --path-split=99 --ping vm2:vm3 --resolve static",
            100,
        ),
        ("--vms 2 --path-split=100 --ping vm0:239.1.2.3", 100),
    ] {
        let lab = Lab::new();
        let run = lab.tap_reactor(&format!("{arguments} {RUN}"));
        let report: Value = serde_json::from_str(&run.stdout).expect(&run.stderr);
        let split = &report["path_split"];
        assert_eq!(number(split, "/pings"), pings, "{arguments}: {split}");
        assert_eq!(number(split, "/incomplete"), 0, "{arguments}");
        assert_eq!(
            number(split, "/unstamped_rtt_ns/count"),
            pings,
            "{arguments}"
        );
        let means = means(&report);
        assert_eq!(means.len(), 14);
        // Each of them in the kernel takes time, on the way there and back.
        let nothing = means.iter().find(|(stage, mean)| {
            *mean == 0
                && !["qdisc", "tap_queue"]
                    .iter()
                    .any(|short| stage.ends_with(short))
        });
        assert_eq!(nothing, None, "{arguments}: {means:?}");
        let sum: u64 = means.iter().map(|(_, mean)| mean).sum();
        let rtt = number(split, "/rtt_ns/mean");
        assert!(
            sum.abs_diff(rtt) * 20 <= rtt,
            "{arguments}: {sum} {rtt} {means:?}"
        );
        let flows = report["flows"].as_array().unwrap().len() as u64;
        assert_eq!(number(&report, "/totals/sent"), 3 * flows, "{arguments}");
        let phases = report["phases"].as_array().unwrap();
        let counted = phases.iter().map(|phase| phase["counted"] == true);
        assert_eq!(
            counted.collect::<Vec<_>>(),
            [true, false, false],
            "{arguments}"
        );
    }
}

#[test]
fn a_queueing_discipline_that_delays_is_the_stage_that_is_slow() {
    let lab = Lab::new();
    let run =
        "--netns host --vms 2 --ping vm0:vm1 --count 30 --interval 20ms --path-split=50 --json";
    let mut run = lab.start_tap_reactor(run);
    lab.wait_until_vm_sent(&mut run, "tap0", 3);
    // At 50 bytes a millisecond, a frame of 98 bytes waits for two of them.
    let slow = "tc qdisc add dev tap1 root tbf rate 400kbit burst 110 limit 10000";
    let slow: Vec<&str> = slow.split(' ').collect();
    lab.run(&slow).expect_status(0);
    let report = run.wait().expect_status(0).json();
    let split = &report["path_split"];
    assert_eq!(number(split, "/pings"), 50, "{split}");
    means(&report);
    for stage in report["path_stages"].as_array().unwrap() {
        let is_slow = stage["stage"] == "qdisc" && stage["direction"] == "request";
        let p50 = number(stage, "/time_ns/p50");
        assert_eq!(p50 >= 1_000_000, is_slow, "{stage}");
    }
}

#[test]
fn two_runs_at_once_stamp_their_own_pings_alone() {
    let lab = Lab::new();
    let runs = [(); 2].map(|()| lab.start_tap_reactor(&format!("--vms 2 --path-split=3000 {RUN}")));
    for run in runs {
        let report = run.wait().expect_status(0).json();
        let split = &report["path_split"];
        assert_eq!(number(split, "/pings"), 3_000, "{split}");
        assert_eq!(number(split, "/incomplete"), 0);
    }
}

#[test]
fn what_can_not_be_split_is_refused_before_anything_is_made() {
    for (arguments, said) in [
        (
            "--fabric xdp --ping vm0:vm1 --count 1",
            "needs --fabric bridge",
        ),
        (
            "--fabric sim --ping vm0:vm1 --count 1",
            "needs --fabric bridge",
        ),
        (
            "--fabric none --ping vm0:vm1 --count 1",
            "needs --fabric bridge",
        ),
        ("", "nothing is pinged"),
        ("--ping vm0:vm1", "the run never ends; expected --count"),
        ("--ping vm0:10.77.0.1 --count 1", "no VM pings another"),
        (
            "--ping vm0:vm1 --count 1 --size 2000 --allow-fragmentation",
            "are sent in fragments",
        ),
        (
            "--ping vm0:vm1 --count 1 --move vm1:netns:aside",
            "moves to another network namespace",
        ),
        ("--ping vm0:vm1 --count 1 --path-split=0", "expected"),
        ("--ping vm0:vm1 --count 1 --path-split=50001", "50000"),
    ] {
        let lab = Lab::new();
        let option = match arguments.contains("--path-split") {
            true => "",
            false => "--path-split",
        };
        let run = lab.tap_reactor(&format!("--vms 2 {option} {arguments}"));
        let refused = run.expect_status(2).stderr;
        assert!(refused.contains(said), "{arguments}: {refused}");
        assert!(refused.contains("--path-split"), "{arguments}: {refused}");
    }
}

#[test]
fn who_is_not_root_is_told_what_is_missing() {
    let lab = Lab::new();
    let run = as_nobody(&lab, &format!("--vms 2 --path-split {RUN}"));
    let refused = run.expect_status(3).stderr;
    let said = "--path-split: stamp frames on their way";
    assert!(
        refused.contains(said) && refused.contains("expected root"),
        "{refused}"
    );
}

#[test]
fn the_stages_are_in_every_form_of_the_report_and_can_be_compared_and_merged() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let run = |name: &str| {
        let files = ["json", "html"].map(|form| format!("-o {}", path(&format!("{name}.{form}"))));
        let run = "--vms 2 --ping vm0:vm1 --count 3 --interval 10ms --path-split=200";
        let run = lab.tap_reactor(&format!("{run} {}", files.join(" ")));
        run.expect_status(0).stdout
    };
    let text = run("one");
    assert!(text.contains("Where the time of 200 pings went"), "{text}");
    assert!(text.contains("copy-in"), "{text}");
    assert!(text.contains("Stamps are taken off"), "{text}");
    run("other");
    let page = std::fs::read_to_string(path("one.html")).unwrap();
    assert!(page.contains("<h2>Where the microseconds go</h2>"));
    assert_eq!(page.matches("<title>copy-in ").count(), 2);
    let both = format!("{} {}", path("one.json"), path("other.json"));
    let compared = lab.tap_reactor(&format!("report --compare {both}")).stdout;
    for figure in ["path.rtt.p50", "path.copy_in.p50", "path.ours.p99"] {
        assert!(compared.contains(figure), "{compared}");
    }
    let merged = lab.tap_reactor(&format!("report --merge {both} --json"));
    let merged = merged.expect_status(0).json();
    assert_eq!(number(&merged, "/path_split/pings"), 400);
    assert_eq!(number(&merged, "/path_stages/0/time_ns/count"), 400);
}

const TRACEPOINTS: [&str; 4] = [
    "tp_name:\tnetif_receive_skb_entry\n",
    "tp_name:\tnet_dev_queue\n",
    "tp_name:\tnet_dev_start_xmit\n",
    "tp_name:\tnet_dev_xmit\n",
];

#[test]
fn nothing_stamps_frames_any_more_when_a_run_was_killed() {
    let lab = Lab::new();
    let run = lab.start_tap_reactor(&format!("--vms 2 --path-split=50000 {RUN}"));
    let is_ours = |about: &String| TRACEPOINTS.iter().any(|name| about.contains(name));
    let attached = wait_until("the programs at their tracepoints", || {
        let mut links = links_of(&run);
        links.retain(is_ours);
        (links.len() == TRACEPOINTS.len()).then_some(links)
    });
    run.signal(Signal::SIGKILL);
    run.wait();
    expect_forgotten(&attached);
}
