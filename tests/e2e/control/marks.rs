//! Marks of a running lab, with nftables and links as what changes: each figure lies between the instants that the test itself
//! took around its commands, give or take what the run measured of itself.

use nix::sys::signal::Signal;
use tap_reactor::time::Instant;

use super::*;
use crate::lab::{Running, now};

/// Pings a millisecond apart, and answers awaited for not long.
const PINGS: &str =
    "--vms 2 --ping vm0:vm1 --interval 1ms --timeout 200ms --resolve static --netns host --json";
/// The interval of [`PINGS`].
const INTERVAL: u64 = 1_000_000;

/// Does something, and returns the instants before and after.
fn around<T>(act: impl FnOnce() -> T) -> ((Instant, Instant), T) {
    let before = now();
    let done = act();
    ((before, now()), done)
}

fn nft(lab: &Lab, command: &str) {
    let words: Vec<&str> = ["nft"].into_iter().chain(command.split(' ')).collect();
    lab.run(&words).expect_status(0);
}

/// Waits until vm0 has sent another fifty pings.
fn let_ping(lab: &Lab, run: &mut Running) {
    let sent = lab.frames("tap0").expect("tap0").sent_by_vm;
    lab.wait_until_vm_sent(run, "tap0", sent + 50);
}

/// A figure of the only flow of a mark, in nanoseconds.
fn figure(report: &Value, mark: usize, name: &str) -> Option<u64> {
    report["marks"][mark]["flows"][0][name].as_u64()
}

/// What the run measured of itself: by how much pings were sent too late at most, and answers read after they were due.
fn slowness(report: &Value) -> (u64, u64) {
    let most = |metric: &str| number(report, &format!("/{metric}/max"));
    (most("lateness_ns"), most("response_ns"))
}

#[test]
fn a_policy_that_is_set_and_lifted_is_measured_between_the_callers_own_instants() {
    let (lab, socket) = (Lab::new(), Socket::new());
    let mut run = socket.start(&lab, &format!("{PINGS} --expect loss<100%"));
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    for hook in ["ingress", "egress"] {
        let chain = format!("{{ type filter hook {hook} device tap1 priority 0; policy accept; }}");
        nft(&lab, &format!("add table netdev {hook}"));
        nft(&lab, &format!("add chain netdev {hook} c {chain}"));
    }
    let mut expected = Vec::new();
    for hook in ["ingress", "egress"] {
        let mark = |name: &str| socket.post("/marks", &json!({ "name": name }));
        let (stop, _) = around(|| mark("stop"));
        let drop = format!("add rule netdev {hook} c ip protocol icmp drop");
        let (set, ()) = around(|| nft(&lab, &drop));
        let_ping(&lab, &mut run);
        let (start, _) = around(|| mark("start"));
        let (lifted, ()) = around(|| nft(&lab, &format!("flush chain netdev {hook} c")));
        let_ping(&lab, &mut run);
        expected.push((stop, set));
        expected.push((start, lifted));
    }
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    let (lateness, response) = slowness(&report);
    assert_eq!(
        report["marks"].as_array().map(Vec::len),
        Some(4),
        "{report}"
    );
    for (index, (mark, change)) in expected.into_iter().enumerate() {
        let names = ["stop", "start"];
        assert_eq!(report["marks"][index]["name"], names[index % 2]);
        assert_eq!(
            figure(&report, index, "changes"),
            Some(1),
            "{index}: {report}"
        );
        // From the mark to the change of the network, at least and at most.
        let least = change.0.nanos_since(mark.1);
        let most = change.1.nanos_since(mark.0);
        let (found, least, most) = match names[index % 2] {
            // The last ping that passes was due one interval before the change or later, unless it was sent late.
            "stop" => (
                figure(&report, index, "last_pass_ns"),
                least.saturating_sub(INTERVAL + lateness),
                most + response,
            ),
            // The first one is due one interval after the change or earlier.
            _ => (
                figure(&report, index, "first_pass_ns"),
                least,
                most + INTERVAL + response,
            ),
        };
        let found = found.expect("pings that passed");
        assert!(
            (least..=most).contains(&found),
            "{index}: {found} is not within {least} and {most}: {report}"
        );
    }
}

#[test]
fn a_link_that_others_set_down_and_up_is_a_mark_each_time() {
    let lab = Lab::new();
    let mut run = lab.start_tap_reactor(&format!("{PINGS} --mark-on link --expect loss<100%"));
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    lab.ip("link set tap1 down");
    let_ping(&lab, &mut run);
    let (up, _) = around(|| lab.ip("link set tap1 up"));
    let_ping(&lab, &mut run);
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    let told = |mark: usize, field: &str| report["marks"][mark][field].clone();
    assert_eq!(
        report["marks"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
    for (mark, detail) in ["tap1 was set down", "tap1 was set up again"]
        .iter()
        .enumerate()
    {
        assert_eq!(
            (told(mark, "name"), told(mark, "detail")),
            (json!("link"), json!(detail))
        );
        assert_eq!(told(mark, "flow_count"), 1, "{report}");
    }
    let (_, response) = slowness(&report);
    assert!(
        report["marks"][0]["flows"][0]["unanswered"].as_u64() > Some(0),
        "{report}"
    );
    // The kernel tells when the link is down already. Pings that were due before it told that it is up, and sent late, pass.
    let at = |mark: usize| told(mark, "at_ns").as_u64().expect("a time");
    if let Some(first) = figure(&report, 0, "first_pass_ns") {
        assert!(first + response + INTERVAL >= at(1) - at(0), "{report}");
    }
    let first = figure(&report, 1, "first_pass_ns").expect("pings that passed");
    let most = up.1.nanos_since(up.0) + INTERVAL + response;
    assert!(first <= most, "{first} is more than {most}: {report}");
}

#[test]
fn routes_of_others_are_marks_and_what_the_run_itself_changes_is_none() {
    let (lab, socket) = (Lab::new(), Socket::new());
    let arguments = format!(
        "{PINGS} --host-address 10.77.0.1/16 --ipv6 --mark-on route,link --expect mark.route.marks=3"
    );
    let mut run = socket.start(&lab, &arguments);
    lab.wait_until_vm_sent(&mut run, "tap0", 50);
    // VMs that come and go are the run's own doing.
    socket.post("/vms", &json!({ "vms": 2 }));
    socket.wait_for("/", "four VMs", |lab| lab["vms"] == 4);
    socket.text("/vms/vm3", &["--request", "DELETE"]);
    socket.wait_for("/", "three VMs", |lab| lab["vms"] == 3);
    // An address makes routes of the kernel's own.
    lab.ip("address add 10.88.0.1/24 dev br0");
    for change in [
        "route add 10.99.0.0/16 via 10.77.0.2",
        "route del 10.99.0.0/16 via 10.77.0.2",
        "-6 route add unreachable fd99::/64",
    ] {
        lab.ip(change);
        let_ping(&lab, &mut run);
    }
    run.signal(Signal::SIGINT);
    let report = run.wait().json();
    let marks = report["marks"].as_array().expect("marks");
    let told: Vec<_> = marks
        .iter()
        .map(|mark| (mark["name"].as_str(), mark["detail"].as_str()))
        .collect();
    let route = |detail| (Some("route"), Some(detail));
    let expected = [
        route("10.99.0.0/16 was added"),
        route("10.99.0.0/16 was removed"),
        route("fd99::/64 was added"),
    ];
    assert_eq!(told, expected, "{report}");
    assert_eq!(report["expectations"][0]["holds"], true, "{report}");
}

#[test]
fn what_is_expected_of_marks_decides_and_what_can_not_be_is_refused_beforehand() {
    let lab = Lab::new();
    let pings = "--fabric sim --ping vm0:vm1 --count 3";
    let run = lab.tap_reactor(&format!("{pings} --expect mark.policy.passed>0"));
    let run = run.expect_status(1);
    assert!(
        run.stdout
            .contains("expected mark.policy.passed>0: FAILS, found that no mark policy was set"),
        "{}",
        run.stdout
    );
    for wrong in [
        "--expect mark.policy.first_pass<1ms",
        "--expect mark.policy.rtt.p99<1ms",
        "--mark-on links",
        "--fabric sim --mark-on link",
    ] {
        let run = lab.tap_reactor(&format!("--ping vm0:vm1 --count 1 {wrong}"));
        let said = run.expect_status(2).stderr;
        let option = wrong.split(' ').rfind(|word| word.starts_with("--"));
        assert!(said.contains(option.unwrap_or_default()), "{wrong}: {said}");
    }
}

#[test]
fn what_the_kernel_refuses_to_tell_of_is_said_when_the_run_begins() {
    let lab = Lab::new();
    // From the end of the set-up on no descriptor is left, but the one by which this hook is waited for.
    let hook = "[ $TAP_REACTOR_EVENT = down ] && exit; n=0; \
                until ls -l /proc/$TAP_REACTOR_PID/fd | grep -q pidfd; do n=$((n + 1)); [ $n -lt 1000 ] || exit 1; done; \
                prlimit --pid $TAP_REACTOR_PID --nofile=3:";
    let mut command = vec![TAP_REACTOR];
    command.extend(PINGS.split_whitespace());
    command.extend("--fabric none --mark-on route,link --hook".split(' '));
    command.push(hook);
    let mut run = lab.start(&command);
    for words in ["changes of links", "changes of routes"] {
        run.wait_until_it_says(words);
    }
    succeed(Command::new("prlimit").args(["--pid", &run.pid().to_string(), "--nofile=512:"]));
    run.signal(Signal::SIGINT);
    // The run was none the worse for it: it has a report.
    run.wait().json();
}
