//! `scripts/lab-up.sh` and `scripts/lab-down.sh`, and a run on what they made.

use crate::lab::{Finished, Lab, repository_file};
use crate::report::Report;

#[test]
fn scripts_that_take_no_arguments_refuse_any_and_touch_nothing() {
    let lab = Lab::new();
    for script in ["lab-up", "lab-down", "test"] {
        let path = repository_file(&format!("scripts/{script}.sh"));
        let path = path.to_str().expect("a path in UTF-8");
        let refused = lab.run(&[path, "--help"]).expect_status(2);
        let expected = format!("{script}.sh: expected no arguments, not '--help'");
        assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
        assert_eq!(lab.link_names(), [""; 0]);
    }
}

/// Runs a script of the repository in the lab, with these variables set.
fn script(lab: &Lab, name: &str, variables: &[&str]) -> Finished {
    let path = repository_file(name);
    let command = ["env"]
        .iter()
        .chain(variables)
        .copied()
        .chain([path.to_str().expect("a path in UTF-8")]);
    lab.run(&command.collect::<Vec<_>>())
}

#[test]
fn a_run_uses_the_lab_made_by_hand_and_leaves_it_alone() {
    let lab = Lab::new();
    let up = script(&lab, "scripts/lab-up.sh", &[]).expect_status(0);
    assert!(
        up.stdout.contains("+ ip link add name br0 type bridge"),
        "each step is shown:\n{}",
        up.stdout
    );
    assert_eq!(lab.link_names(), ["br0", "tap0", "tap1"]);
    let before = lab.identities();
    for _ in 0..2 {
        let run = lab
            .tap_reactor("--netns host --attach --ping vm0:vm1 --count 100 --interval 1ms --json");
        Report::of_success(run, 100);
        assert_eq!(lab.identities(), before);
    }
    script(&lab, "scripts/lab-down.sh", &[]).expect_status(0);
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn a_lab_made_by_hand_may_have_other_names_and_more_taps() {
    let lab = Lab::new();
    let names = ["BRIDGE=switch", "TAP_PREFIX=port", "TAPS=4"];
    script(&lab, "scripts/lab-up.sh", &names).expect_status(0);
    assert_eq!(
        lab.link_names(),
        ["port0", "port1", "port2", "port3", "switch"]
    );
    let run = lab.tap_reactor(
        "--netns host --attach --bridge switch --tap-prefix port --vms 4 --ping vm3:vm0 --count 5 --interval 1ms --json",
    );
    Report::of_success(run, 5);
    script(&lab, "scripts/lab-down.sh", &names).expect_status(0);
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn attach_uses_a_named_namespace_too() {
    let lab = Lab::new();
    script(&lab, "scripts/lab-up.sh", &[]).expect_status(0);
    let before = lab.identities();
    let other = Lab::new();
    let arguments = format!(
        "--netns {} --attach --ping vm0:vm1 --count 5 --interval 1ms --json",
        lab.name()
    );
    Report::of_success(other.tap_reactor(&arguments), 5);
    assert_eq!(lab.identities(), before);
}

#[test]
fn lab_up_refuses_names_that_are_taken_or_impossible() {
    let lab = Lab::new();
    lab.ip("link add tap1 type bridge");
    let before = lab.identities();
    for (variables, complaint) in [
        (&[][..], "link tap1 exists"),
        (&["BRIDGE=tap1", "TAP_PREFIX=port"][..], "link tap1 exists"),
        (
            &["BRIDGE=port0", "TAP_PREFIX=port"][..],
            "can't both be named port0",
        ),
        (&["BRIDGE=a234567890123456"][..], "not an interface name"),
        (&["TAP_PREFIX=a/"][..], "not an interface name"),
        (&["TAPS=0"][..], "1 to 1023"),
        (&["TAPS=1024"][..], "1 to 1023"),
        (&["TAPS=two"][..], "1 to 1023"),
    ] {
        let up = script(&lab, "scripts/lab-up.sh", variables).expect_status(1);
        assert!(
            up.stderr.contains(complaint),
            "{variables:?}: {}",
            up.stderr
        );
        assert_eq!(lab.identities(), before, "{variables:?}");
    }
}

#[test]
fn lab_up_takes_away_what_it_made_when_a_step_fails() {
    let lab = Lab::new();
    // A device node that is no TAP device: the bridge gets made, the first TAP does not.
    let path = repository_file("scripts/lab-up.sh");
    let command = format!(
        "mount --bind /dev/null /dev/net/tun && exec {}",
        path.display()
    );
    let up = lab.run(&["unshare", "--mount", "sh", "-c", &command]);
    assert_ne!(up.status, 0);
    assert!(
        up.stdout.contains("+ ip link add name br0"),
        "{}",
        up.stdout
    );
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn lab_down_removes_only_what_lab_up_made() {
    let lab = Lab::new();
    script(&lab, "scripts/lab-up.sh", &[]).expect_status(0);
    script(
        &lab,
        "scripts/lab-up.sh",
        &["BRIDGE=br1", "TAP_PREFIX=other"],
    )
    .expect_status(0);
    // Links that look alike: one more port of the same bridge, one with a mark that only begins like ours.
    lab.ip("tuntap add dev tap2 mode tap");
    lab.ip("link set tap2 master br0");
    lab.ip("link add br00 type bridge");
    crate::lab::succeed(std::process::Command::new("ip").args([
        "-n",
        lab.name(),
        "link",
        "set",
        "dev",
        "br00",
        "alias",
        "tap-reactor lab br00",
    ]));
    script(&lab, "scripts/lab-down.sh", &[]).expect_status(0);
    assert_eq!(
        lab.link_names(),
        ["br00", "br1", "other0", "other1", "tap2"]
    );
    let again = script(&lab, "scripts/lab-down.sh", &[]).expect_status(1);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
}
