//! Changes of a run's links by others: each is named in the report with its time, and the run goes on.

use serde_json::{Value, json};

use crate::lab::{Lab, RemovedName, Running, wait_until};

/// Pings for long enough, and answers awaited for not long.
const PINGS: &str = "--ping vm0:vm1 --ping vm1:vm0 --interval 2ms --timeout 200ms --json";

/// A run whose links somebody else is about to change.
struct Disturbed {
    lab: Lab,
    run: Running,
}

impl Disturbed {
    /// Starts a run in the lab and waits until its pings flow.
    fn start(lab: Lab, arguments: &str) -> Disturbed {
        let mut run = lab.start_tap_reactor(&format!("{arguments} {PINGS}"));
        lab.wait_until_vm_sent(&mut run, "tap0", 50);
        Disturbed { lab, run }
    }

    /// Does `change` to the links, has some pings sent, and ends the run. Its report, and its exit status.
    fn change(mut self, change: &str) -> (Value, i32) {
        self.lab.ip(change);
        // vm0's link may be the one that is gone: then its VM has nothing more to be counted by.
        let sent = self.lab.frames("tap0").map(|frames| frames.sent_by_vm);
        if let Some(sent) = sent {
            self.lab
                .wait_until_vm_sent(&mut self.run, "tap0", sent + 20);
        }
        self.run.signal(nix::sys::signal::Signal::SIGINT);
        let run = self.run.wait();
        let report = run.json();
        (report, run.status)
    }
}

/// The changes of a report without their times, which must be within the run.
fn changes(report: &Value) -> Vec<Value> {
    let mut changes = report["links"].as_array().cloned().unwrap_or_default();
    for change in &mut changes {
        let at = change.as_object_mut().expect("an object").remove("at_ns");
        let at = at.and_then(|at| at.as_u64()).expect("a time");
        assert!(0 < at && at < 60_000_000_000, "{report}");
    }
    changes
}

/// Somebody's lab, to attach to.
fn prepared() -> Lab {
    let lab = Lab::new();
    lab.ip("link add br0 type bridge forward_delay 0");
    for tap in ["tap0", "tap1"] {
        lab.ip(&format!("tuntap add dev {tap} mode tap"));
        lab.ip(&format!("link set {tap} master br0 up"));
    }
    lab.ip("link set br0 up");
    lab
}

#[test]
fn what_others_do_to_a_link_is_named_with_its_time_and_its_vm() {
    let tap1 = |change: &str| json!({"link": "tap1", "vm": "vm1", "change": change});
    let from_br0 =
        |link: &str, vm: &str| json!({"link": link, "vm": vm, "change": "left", "bridge": "br0"});
    let table = [
        ("link del tap1", vec![tap1("deleted")]),
        ("link set tap1 down", vec![tap1("down")]),
        ("link set tap1 nomaster", vec![from_br0("tap1", "vm1")]),
        (
            "link set br0 down",
            vec![json!({"link": "br0", "change": "down"})],
        ),
        (
            "link del br0",
            vec![
                from_br0("tap0", "vm0"),
                from_br0("tap1", "vm1"),
                json!({"link": "br0", "change": "deleted"}),
            ],
        ),
    ];
    for (change, mut expected) in table {
        for place in ["in the host's", "in a named", "attached", "joined"] {
            let disturbed = match place {
                "joined" => {
                    let lab = Lab::new();
                    lab.ip("link add br0 type bridge");
                    lab.ip("link set br0 up");
                    Disturbed::start(lab, "--netns host --join br0 --subnet 10.77.0.0/16")
                }
                "attached" => Disturbed::start(prepared(), "--netns host --attach"),
                "in a named" => {
                    let lab = Lab::new();
                    let arguments = format!("--netns {}", lab.name());
                    Disturbed::start(lab, &arguments)
                }
                _ => Disturbed::start(Lab::new(), "--netns host"),
            };
            let context = format!("{change}, {place}");
            let (report, status) = disturbed.change(change);
            let by_name = |change: &Value| change.to_string();
            let mut found = changes(&report);
            found.sort_by_key(by_name);
            expected.sort_by_key(by_name);
            assert_eq!(found, expected, "{context}: {report}");
            assert_eq!(status, 1, "{context}: {report}");
            let verdict = report["verdict"]["sentence"].as_str().expect("a sentence");
            assert!(
                verdict.contains("Others changed its links meanwhile: "),
                "{context}: {verdict}"
            );
        }
    }
}

#[test]
fn a_cable_that_is_plugged_in_again_is_told_as_both() {
    let lab = Lab::new();
    let mut disturbed = Disturbed::start(lab, "--netns host");
    disturbed.lab.ip("link set tap1 down");
    let sent = disturbed.lab.frames("tap0").expect("tap0").sent_by_vm;
    disturbed
        .lab
        .wait_until_vm_sent(&mut disturbed.run, "tap0", sent + 20);
    let (report, _) = disturbed.change("link set tap1 up");
    let told: Vec<_> = changes(&report)
        .iter()
        .map(|change| change["change"].clone())
        .collect();
    assert_eq!(told, ["down", "up"]);
}

#[test]
fn a_tap_that_is_moved_to_another_namespace_is_told_so() {
    let (lab, other) = (Lab::new(), Lab::new());
    let disturbed = Disturbed::start(lab, "--netns host");
    let (report, _) = disturbed.change(&format!("link set tap1 netns {}", other.name()));
    let moved = json!({"link": "tap1", "vm": "vm1", "change": "moved"});
    assert_eq!(changes(&report), [moved]);
}

#[test]
fn the_end_of_a_namespaces_name_is_told_and_the_run_goes_on() {
    let name = format!("trt-{}-deleted", std::process::id());
    let mut command = std::process::Command::new(crate::lab::TAP_REACTOR);
    command.args([
        "--netns",
        &name,
        "--ping",
        "vm0:vm1",
        "--interval",
        "2ms",
        "--json",
    ]);
    let mut run = Running::start(command);
    let _removed = RemovedName(name.clone());
    let ip = |arguments: &[&str]| std::process::Command::new("ip").args(arguments).output();
    wait_until("pings in the new namespace", || {
        run.expect_alive();
        let shown = ip(&["-n", &name, "-s", "-j", "link", "show", "tap0"]).ok()?;
        let links: Value = serde_json::from_slice(&shown.stdout).ok()?;
        (links[0]["stats64"]["rx"]["packets"].as_u64()? > 50).then_some(())
    });
    assert!(ip(&["netns", "del", &name]).expect("ip").status.success());
    // Somebody else's by now: not to be taken away at the end of the run.
    assert!(ip(&["netns", "add", &name]).expect("ip").status.success());
    run.signal(nix::sys::signal::Signal::SIGINT);
    let run = run.wait().expect_status(0);
    let report = run.json();
    let deleted = json!({"link": format!("namespace {name}"), "change": "deleted"});
    assert_eq!(changes(&report), [deleted]);
    let names = crate::lab::succeed(std::process::Command::new("ip").args(["netns", "list"]));
    assert!(names.contains(&name), "{names}");
}

#[test]
fn a_tap_that_has_lost_its_mark_stays_and_the_run_says_so() {
    let lab = Lab::new();
    let mut run = lab.start_tap_reactor("--netns host --vms 2 --ping vm0:vm1 --interval 2ms -q");
    lab.wait_until_vm_sent(&mut run, "tap0", 20);
    lab.ip("link set tap1 alias somebody-elses");
    run.signal(nix::sys::signal::Signal::SIGINT);
    let run = run.wait().expect_status(3);
    assert!(run.stderr.contains("remove tap1: "), "{run:?}");
    assert_eq!(lab.link_names(), ["tap1"]);
}
