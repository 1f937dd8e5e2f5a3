//! A refusal by the system gives status 3 and names the operation, its object, the reason, and a remedy.

use crate::lab::{Finished, Lab, RemovedName};
use crate::report::Report;
use crate::rights;

const MAIN_JOB: &str = "--vms 2 --ping vm0:vm1 --count 3 --interval 1ms";

/// The message must contain all of `words`, in one line, and nothing may stand on standard output.
#[track_caller]
fn expect_refusal(run: Finished, words: &[&str]) {
    let run = run.expect_status(3);
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    for word in words {
        assert!(
            run.stderr.contains(word),
            "{word:?} is missing in: {}",
            run.stderr
        );
    }
}

#[test]
fn a_bridge_of_that_name_is_somebody_elses() {
    let lab = Lab::new();
    lab.ip("link add br0 type bridge");
    let before = lab.identities();
    expect_refusal(
        lab.tap_reactor(&format!("--netns host {MAIN_JOB}")),
        &["br0", "exists", "--bridge"],
    );
    assert_eq!(lab.identities(), before);
}

#[test]
fn the_loopback_interface_is_no_bridge_of_ours() {
    let lab = Lab::new();
    let run = lab.tap_reactor(&format!(
        "--netns host --bridge lo --tap-prefix l {MAIN_JOB}"
    ));
    expect_refusal(run, &["lo", "exists", "--bridge"]);
}

#[test]
fn a_link_with_the_name_of_a_tap_is_somebody_elses() {
    let lab = Lab::new();
    lab.ip("link add tap1 type bridge");
    let before = lab.identities();
    expect_refusal(
        lab.tap_reactor(&format!("--netns host {MAIN_JOB}")),
        &["tap1", "exists", "--tap-prefix"],
    );
    assert_eq!(
        lab.identities(),
        before,
        "what was made before the refusal is gone, the rest is there"
    );
}

#[test]
fn a_persistent_tap_of_that_name_is_not_taken_over() {
    let lab = Lab::new();
    lab.ip("tuntap add dev tap0 mode tap");
    let before = lab.identities();
    expect_refusal(
        lab.tap_reactor(&format!("--netns host {MAIN_JOB}")),
        &["tap0", "exists", "--tap-prefix"],
    );
    assert_eq!(lab.identities(), before);
}

#[test]
fn attaching_needs_a_bridge_and_a_tap_for_each_vm() {
    let lab = Lab::new();
    let attach = format!("--netns host --attach {MAIN_JOB}");
    // From nothing to a whole lab, a step at a time: each refusal names the first thing that is missing.
    for (missing, then) in [
        ("br0", "link add br0 type bridge"),
        ("br0", "link set br0 up"),
        ("tap0", "tuntap add dev tap0 mode tap"),
        ("tap0", "link set tap0 master br0 up"),
        ("tap1", "link add tap1 type bridge"),
        ("tap1", "link delete tap1"),
        ("tap1", "tuntap add dev tap1 mode tap"),
        ("tap1", "link set tap1 master br0 up"),
    ] {
        let before = lab.identities();
        expect_refusal(lab.tap_reactor(&attach), &[missing]);
        assert_eq!(lab.identities(), before, "after the refusal for {missing}");
        lab.ip(then);
    }
    Report::of_success(lab.tap_reactor(&format!("{attach} --json")), 3);
}

#[test]
fn a_bridge_that_is_no_bridge_is_refused() {
    let lab = Lab::new();
    lab.ip("link add br0 type veth peer name br1");
    for tap in ["tap0", "tap1"] {
        lab.ip(&format!("tuntap add dev {tap} mode tap"));
    }
    expect_refusal(
        lab.tap_reactor(&format!("--netns host --attach {MAIN_JOB}")),
        &["br0", "bridge"],
    );
}

#[test]
fn a_tap_that_another_run_holds_is_busy() {
    let lab = Lab::new();
    lab.make_by_hand();
    let mut holder = lab.start_tap_reactor("--netns host --attach");
    lab.wait_until_ports_forward(&mut holder, &["tap0", "tap1"]);
    expect_refusal(
        lab.tap_reactor(&format!("--netns host --attach {MAIN_JOB}")),
        &["tap0", "busy"],
    );
}

#[test]
fn a_missing_tap_device_is_named() {
    let lab = Lab::new();
    for netns in ["private", "host"] {
        let run = rights::tap_reactor_after(
            &lab,
            rights::NO_TUN,
            "",
            &format!("--netns {netns} {MAIN_JOB}"),
        );
        expect_refusal(run, &["/dev/net/tun", "modprobe tun"]);
        assert_eq!(lab.link_names(), [""; 0]);
    }
}

#[test]
fn a_tap_device_that_may_not_be_opened_is_named() {
    let lab = Lab::new();
    let run = rights::as_nobody_after(&lab, rights::CLOSED_TUN, MAIN_JOB);
    expect_refusal(run, &["/dev/net/tun", "ermission denied", "root"]);
}

#[test]
fn the_hosts_namespace_is_not_for_everybody() {
    let lab = Lab::new();
    let run = rights::as_nobody(&lab, &format!("--netns host {MAIN_JOB}"));
    expect_refusal(run, &["br0", "not permitted", "root"]);
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn forbidden_user_namespaces_are_named() {
    let lab = Lab::new();
    let run = rights::without_user_namespaces(&lab, MAIN_JOB);
    expect_refusal(run, &["user namespace", "max_user_namespaces", "root"]);
}

#[test]
fn too_few_file_descriptors_are_named() {
    let lab = Lab::new();
    // Without the capability nobody, root included, may raise the hard limit again.
    let bounded = "setpriv --bounding-set -sys_resource prlimit --nofile=20:20";
    let arguments = "--vms 100 --ping vm0:vm1 --count 1";
    for netns in ["private", "host"] {
        let run =
            rights::tap_reactor_after(&lab, ":", bounded, &format!("--netns {netns} {arguments}"));
        expect_refusal(run, &["20", "file", "ulimit"]);
        assert_eq!(lab.link_names(), [""; 0], "--netns {netns}");
    }
}

#[test]
fn namespaces_to_move_to_and_the_watch_for_drops_are_counted_among_file_descriptors() {
    let lab = Lab::new();
    let name = |number: u32| format!("trd-{}-{number}", std::process::id());
    let _guards: Vec<RemovedName> = (0..3).map(|number| RemovedName(name(number))).collect();
    let moves: String = (0..3)
        .map(|number| format!(" --move vm{number}:netns:{}@50ms", name(number)))
        .collect();
    let run = |limit: u64, arguments: &str| {
        let bounded =
            format!("setpriv --bounding-set -sys_resource prlimit --nofile={limit}:{limit}");
        let arguments =
            format!("--netns host --vms 100 --ping vm98:vm99 --duration 100ms {arguments}");
        rights::tap_reactor_after(&lab, ":", &bounded, &arguments)
    };
    let needed = |arguments: &str| -> u64 {
        let refused = run(20, arguments);
        let words = refused.stderr.split("reserve ").nth(1);
        let number = words.and_then(|rest| rest.split(' ').next());
        let number = number.and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("{refused:?}"))
    };
    let few = needed("--attribute-loss off");
    assert_eq!(needed(&format!("--attribute-loss off{moves}")), few + 15);
    let all = format!(
        "--attribute-loss auto{moves} --move vm3:netns:{}@80ms",
        name(0)
    );
    assert_eq!(needed(&all), few + 15 + 10);
    run(few + 15 + 10, &all).expect_status(0);
}

#[test]
fn a_soft_limit_of_file_descriptors_is_raised_without_being_asked() {
    let lab = Lab::new();
    let through = "prlimit --nofile=20:1000";
    let arguments = "--vms 100 --ping vm0:vm99 --count 3 --interval 1ms --json";
    Report::of_success(rights::tap_reactor_after(&lab, ":", through, arguments), 3);
}
