//! The end of a run: by itself, by a signal, by force; and what it leaves behind.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Finished, Lab, RemovedName, Running, TAP_REACTOR, succeed, wait_until};
use crate::report::Report;

/// Pings for much longer than any test.
const ENDLESS: &str = "--ping vm0:vm1 --count 10000000 --interval 1ms";

/// Starts pings in the lab's own namespace and waits until they flow.
fn endless(lab: &Lab, arguments: &str) -> Running {
    let mut run = lab.start_tap_reactor(&format!("--netns host {ENDLESS} {arguments}"));
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    run
}

#[test]
fn a_signal_ends_the_run_with_the_report_of_what_was_measured_so_far() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let lab = Lab::new();
        let run = endless(&lab, "--json");
        run.signal(signal);
        let report = Report::of(&run.wait().expect_status(1));
        assert!(
            report.totals.received >= 40 && report.totals.received < 10_000_000,
            "{report:?}"
        );
        // What was under way when the signal came was neither answered nor lost.
        assert!(
            report.totals.sent - report.totals.received <= 1000,
            "{report:?}"
        );
        assert_eq!(lab.link_names(), [""; 0], "after {signal}");
    }
}

#[test]
fn a_second_sigint_ends_the_wait_for_an_answer() {
    let lab = Lab::new();
    let mut run = lab
        .start_tap_reactor("--netns host --ping vm0:10.77.99.99 --count 10 --timeout 60s --json");
    lab.wait_until_vm_sent(&mut run, "tap0", 1);
    run.signal(Signal::SIGINT);
    run.signal(Signal::SIGINT);
    // It is waited for half a minute at most.
    Report::of(&run.wait().expect_status(1));
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn a_signal_while_vms_are_made_ends_the_run_before_all_are() {
    const VMS: usize = 4000;
    let lab = Lab::new();
    let arguments = format!("--netns host --vms {VMS} --ping ring --count 1 --json --verbose");
    let mut run = lab.start_tap_reactor(&arguments);
    lab.wait_until_ports_forward(&mut run, &["tap0"]);
    run.signal(Signal::SIGINT);
    let run = run.wait().expect_status(1);
    let made = run.stderr.matches(" starts: ").count();
    assert!(0 < made && made < VMS, "{made}");
    assert_eq!(Report::of(&run).totals.sent, 0);
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn serving_ends_by_signal_or_duration_and_that_is_no_failure() {
    for signal in [Some(Signal::SIGINT), Some(Signal::SIGTERM), None] {
        let lab = Lab::new();
        let duration = if signal.is_some() {
            ""
        } else {
            "--duration 500ms"
        };
        let mut run = lab.start_tap_reactor(&format!("--netns host --vms 3 {duration}"));
        if let Some(signal) = signal {
            lab.wait_until_ports_forward(&mut run, &["tap0", "tap1", "tap2"]);
            run.signal(signal);
        }
        run.wait().expect_status(0);
        assert_eq!(lab.link_names(), [""; 0], "after {signal:?}");
    }
}

#[test]
fn a_run_on_the_hosts_namespace_leaves_links_and_sysctls_as_they_were() {
    let lab = Lab::new();
    lab.ip("link add br1 type bridge");
    lab.ip("link set br1 up");
    let names = [
        "ipv6/conf/all/disable_ipv6",
        "ipv6/conf/default/disable_ipv6",
        "ipv6/conf/br1/disable_ipv6",
        "ipv4/ip_forward",
        "bridge/bridge-nf-call-iptables",
        "bridge/bridge-nf-call-arptables",
        "bridge/bridge-nf-call-ip6tables",
    ];
    let state = |lab: &Lab| -> (Vec<Value>, Vec<Option<String>>) {
        let mut links = lab.ip_json("address show");
        for link in &mut links {
            // A timer that runs whether we are here or not.
            link["linkinfo"]["info_data"]["gc_timer"] = Value::Null;
        }
        (links, names.iter().map(|name| lab.sysctl(name)).collect())
    };
    let before = state(&lab);
    let mut run = lab.start_tap_reactor("--netns host --vms 2 --ping vm0:vm1 --interval 1ms");
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    assert_eq!(state(&lab).1, before.1, "during the run");
    run.signal(Signal::SIGINT);
    run.wait().expect_status(0);
    assert_eq!(state(&lab), before, "after the run");
}

#[test]
fn every_link_made_on_the_hosts_namespace_carries_the_mark() {
    let lab = Lab::new();
    let run = endless(&lab, "");
    let links = lab.links();
    assert_eq!(links.keys().collect::<Vec<_>>(), ["br0", "tap0", "tap1"]);
    for (name, link) in &links {
        assert!(
            link["ifalias"]
                .as_str()
                .is_some_and(|alias| alias.contains("tap-reactor")),
            "{name}: {link}"
        );
        assert_ne!(link["group"], "default", "{name}: {link}");
    }
    run.signal(Signal::SIGINT);
    run.wait();
}

#[test]
fn killed_in_a_private_lab_it_leaves_nothing_behind() {
    let lab = Lab::new();
    let run = lab.start_tap_reactor(&format!("--vms 3 {ENDLESS}"));
    let pid = run.pid().to_string();
    // A witness inside: a link pair with one end in the private namespace. When that namespace ends, the kernel takes
    // that end away, and the other end with it.
    wait_until("three ports in the private namespace", || {
        let links = Command::new("nsenter")
            .args(["--net", "--target", &pid, "ip", "-o", "link"])
            .output()
            .ok()?;
        let links = String::from_utf8_lossy(&links.stdout).into_owned();
        (links.contains(" tap2: ") && links.matches("LOWER_UP").count() >= 4).then_some(())
    });
    lab.ip(&format!(
        "link add witness type veth peer name inside netns {pid}"
    ));
    assert_eq!(lab.link_names(), ["witness"]);
    run.signal(Signal::SIGKILL);
    assert_eq!(run.wait().status, 128 + 9);
    wait_until("the private namespace to vanish", || {
        lab.link_names().is_empty().then_some(())
    });
}

#[test]
fn clean_takes_away_what_a_killed_run_left_and_nothing_else() {
    let lab = Lab::new();
    // Not ours: a link without the mark, and a lab made by hand.
    lab.ip("link add foreign type bridge");
    let script = crate::lab::repository_file("scripts/lab-up.sh");
    lab.run(&[
        "env",
        "BRIDGE=hand",
        "TAP_PREFIX=hand-tap",
        script.to_str().expect("a path in UTF-8"),
    ])
    .expect_status(0);
    // Ours and alive.
    let mut alive = lab.start_tap_reactor("--netns host --bridge br1 --tap-prefix live");
    lab.wait_until_ports_forward(&mut alive, &["live0", "live1"]);
    let stays = lab.links();
    // Ours, and killed.
    let killed = endless(&lab, "");
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.wait().status, 128 + 9);
    assert!(
        lab.link_names().contains(&"br0".to_owned()),
        "nothing was left to clean: {:?}",
        lab.link_names()
    );

    let cleaned = clean(&lab).expect_status(0);
    assert!(
        cleaned.stdout.contains("br0"),
        "does not say what it removed: {cleaned:?}"
    );
    assert_eq!(names(&lab), stays.keys().cloned().collect::<Vec<_>>());
    assert!(alive.is_alive());
    clean(&lab).expect_status(0);
    assert_eq!(names(&lab), stays.keys().cloned().collect::<Vec<_>>());

    // The names are free again, and the one that lives ends well.
    let again = lab.tap_reactor("--netns host --ping vm0:vm1 --count 3 --interval 1ms --json");
    Report::of_success(again, 3);
    alive.signal(Signal::SIGTERM);
    alive.wait().expect_status(0);
    assert_eq!(names(&lab), ["foreign", "hand", "hand-tap0", "hand-tap1"]);
}

fn names(lab: &Lab) -> Vec<String> {
    lab.link_names()
}

/// Runs `tap-reactor clean` in the lab, in a world without the machine's named namespaces, which it would clean too.
fn clean(lab: &Lab) -> Finished {
    let script = format!("mount -t tmpfs tmpfs /run/netns && exec {TAP_REACTOR} clean");
    lab.run(&["unshare", "--mount", "sh", "-c", &script])
}

#[test]
fn a_named_namespace_is_left_as_it_was() {
    let lab = Lab::new();
    let other = Lab::new();
    let before = lab.ip_json("address show");
    // Started in one namespace, at work in another.
    let run = other.tap_reactor(&format!(
        "--netns {} --ping vm0:vm1 --count 20 --interval 1ms --json",
        lab.name()
    ));
    Report::of_success(run, 20);
    assert_eq!(lab.ip_json("address show"), before);
    assert_eq!(other.link_names(), [""; 0]);
    let known = succeed(Command::new("ip").args(["netns", "list"]));
    assert!(
        known.contains(lab.name()),
        "the namespace itself is somebody else's"
    );
}

#[test]
fn a_namespace_that_does_not_exist_is_made_for_the_run() {
    let lab = Lab::new();
    let name = format!("{}-new", lab.name());
    // Not from inside `ip netns exec`, which hides from the machine what is mounted there.
    let mut command = Command::new(TAP_REACTOR);
    command.args(["--netns", &name]);
    let mut run = Running::start(command);
    let _removed = RemovedName(name.clone());
    let exists = || succeed(Command::new("ip").args(["netns", "list"])).contains(&name);
    wait_until("a bridge in the new namespace", || {
        run.expect_alive();
        let link = Command::new("ip")
            .args(["-n", &name, "link", "show", "br0"])
            .output()
            .ok()?;
        link.status.success().then_some(())
    });
    run.signal(Signal::SIGTERM);
    run.wait().expect_status(0);
    assert!(!exists(), "{name} is still there");
}

#[test]
fn the_hosts_namespace_is_the_one_it_was_started_in_whatever_sysfs_shows() {
    let lab = Lab::new();
    // nsenter leaves /sys as it was: it shows the links of another namespace.
    let net = format!("--net=/run/netns/{}", lab.name());
    let printed = succeed(Command::new("nsenter").arg(net).arg(TAP_REACTOR).args([
        "--netns=host",
        "--ping=vm0:vm1",
        "--count=5",
        "--interval=1ms",
        "--json",
    ]));
    assert!(printed.contains(r#""received""#), "{printed}");
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn a_run_has_one_thread() {
    let lab = Lab::new();
    let run = endless(&lab, "");
    let threads = std::fs::read_dir(format!("/proc/{}/task", run.pid()))
        .expect("list the threads")
        .count();
    assert_eq!(threads, 1);
    run.signal(Signal::SIGINT);
    run.wait();
}
