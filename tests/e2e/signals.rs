//! Signals at any moment of a run: each takes effect, and the report and the clean-up happen.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

use nix::libc::O_NONBLOCK;
use nix::sys::signal::Signal;
use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGTERM};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;
use tap_reactor::system::StopSignals;
use tempfile::TempDir;

use crate::lab::{Lab, Running, TAP_REACTOR, now, succeed, wait_until};

/// Pings for longer than any test.
const ENDLESS: &str = "--netns host --vms 4 --ping ring --interval 5ms";

fn with_hook(hook: &str, arguments: &str) -> Vec<String> {
    let words = format!("{TAP_REACTOR} --netns host --fabric none {arguments} --hook");
    let words = words.split_whitespace().chain([hook]);
    words.map(str::to_owned).collect()
}

fn start(lab: &Lab, command: &[String]) -> Running {
    lab.start(&command.iter().map(String::as_str).collect::<Vec<_>>())
}

fn read_report(directory: &TempDir) -> Value {
    let report = std::fs::read(directory.path().join("r.json")).expect("a report was written");
    serde_json::from_slice(&report).expect("a report in JSON")
}

#[test]
fn signals_that_follow_the_first_lose_neither_the_report_nor_the_clean_up() {
    let lab = Lab::new();
    let table: [&[Signal]; 4] = [
        &[SIGTERM, SIGTERM],
        &[SIGINT, SIGTERM, SIGINT],
        &[SIGHUP, SIGHUP],
        &[SIGINT, SIGINT, SIGINT, SIGTERM, SIGHUP],
    ];
    for signals in table.iter().cycle().take(3 * table.len()) {
        let directory = TempDir::new().expect("a directory");
        let file = directory.path().join("r.json");
        let mut run = lab.start_tap_reactor(&format!("{ENDLESS} --output {}", file.display()));
        lab.wait_until_vm_sent(&mut run, "tap0", 20);
        for signal in *signals {
            run.signal(*signal);
        }
        let run = run.wait();
        assert!(run.status < 2, "{signals:?}: {run:?}");
        let report = read_report(&directory);
        assert_eq!(report["interrupted"], true, "{signals:?}");
        assert!(
            report["totals"]["received"].as_u64() >= Some(15),
            "{report}"
        );
        assert_eq!(lab.link_names(), [""; 0], "{signals:?}");
    }
}

#[test]
fn a_lab_that_stays_answers_after_its_pings_until_a_signal_ends_it_as_complete() {
    let lab = Lab::new();
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("r.json");
    let words =
        "--netns host --vms 2 --host-address 10.77.0.1/16 --ping vm0:vm1 --count 3 -i 10ms --stay";
    let mut run = lab.start_tap_reactor(&format!("{words} --output {}", file.display()));
    // The last of its own pings was answered.
    lab.wait_until_vm_sent(&mut run, "tap1", 3);
    let ping = [
        "ping",
        "-n",
        "-q",
        "-c",
        "20",
        "-i",
        "0.01",
        "-W",
        "5",
        "10.77.0.3",
    ];
    lab.run(&ping).expect_status(0);
    run.expect_alive();
    run.signal(SIGTERM);
    run.wait().expect_status(0);
    let report = read_report(&directory);
    assert_eq!(report["interrupted"], false, "{report}");
    assert_eq!(report["totals"]["received"], 3, "{report}");
    assert_eq!(
        report["phases"].as_array().map(Vec::len),
        Some(0),
        "{report}"
    );
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn a_signal_before_there_is_a_lab_ends_the_program_at_once_with_a_word() {
    let lab = Lab::new();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let directory = TempDir::new().expect("a directory");
        let scenario = directory.path().join("scenario.toml");
        mkfifo(&scenario, Mode::S_IRWXU).expect("a FIFO");
        let file = directory.path().join("r.json");
        let (from, to) = (scenario.display(), file.display());
        let run = lab.start_tap_reactor(&format!("{ENDLESS} --scenario {from} --output {to}"));
        // Opened when the program reads it: it waits for what the scenario says.
        let _scenario = File::options().write(true).open(&scenario);
        run.signal(signal);
        let run = run.wait();
        let words =
            format!("tap-reactor: {signal} came before the lab was built; nothing was made");
        assert_eq!(
            (run.status, run.stderr.trim()),
            (1, words.as_str()),
            "{run:?}"
        );
        assert!(!file.exists(), "{signal}");
        assert_eq!(lab.link_names(), [""; 0], "{signal}");
    }
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_goes_on_being_ignored() {
    let lab = Lab::new();
    let script = format!("trap '' HUP; exec {TAP_REACTOR} {ENDLESS} --json");
    let mut run = lab.start(&["sh", "-c", &script]);
    lab.wait_until_vm_sent(&mut run, "tap0", 20);
    run.signal(SIGHUP);
    let sent = lab.frames("tap0").expect("tap0").sent_by_vm;
    lab.wait_until_vm_sent(&mut run, "tap0", sent + 100);
    run.signal(SIGINT);
    let run = run.wait();
    assert!(run.status < 2, "{run:?}");
    assert_eq!(lab.link_names(), [""; 0]);
}

/// Starts a run whose standard output takes nothing, so that it hangs when it prints its report.
fn start_without_room(lab: &Lab, directory: &TempDir, arguments: &str) -> (Running, File) {
    let full = directory.path().join("full");
    succeed(Command::new("mkfifo").arg(&full));
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(&full)
        .expect("open a FIFO");
    while pipe.write(&[0; 4096]).is_ok() {}
    let script = format!("exec {TAP_REACTOR} {arguments} --json >{}", full.display());
    (lab.start(&["sh", "-c", &script]), pipe)
}

/// Sends the first of two signals that are more than two seconds apart, and with it some echoes, and then the second.
fn signal_twice(run: &mut Running) {
    run.signal(SIGINT);
    let first = now();
    run.signal(SIGTERM);
    wait_until("two seconds to pass", || {
        (now() - first > Duration::from_millis(2500)).then_some(())
    });
    run.expect_alive();
    run.signal(SIGTERM);
}

#[test]
fn a_signal_more_than_two_seconds_after_the_first_ends_at_once_and_says_what_it_leaves() {
    let lab = Lab::new();
    let directory = TempDir::new().expect("a directory");
    let (mut run, _pipe) = start_without_room(&lab, &directory, ENDLESS);
    lab.wait_until_vm_sent(&mut run, "tap0", 20);
    signal_twice(&mut run);
    let run = run.wait();
    assert_eq!(run.status, 128 + SIGTERM as i32, "{run:?}");
    assert!(
        run.stderr
            .ends_with("ended at once; links are left behind, for tap-reactor clean\n"),
        "{run:?}"
    );
    assert!(lab.link_names().contains(&"br0".to_owned()));
}

#[test]
fn a_simulation_that_hangs_when_it_prints_its_report_can_be_ended() {
    let lab = Lab::new();
    let directory = TempDir::new().expect("a directory");
    let arguments = "--fabric sim --ping vm0:vm1 --count 1";
    let (run, _pipe) = start_without_room(&lab, &directory, arguments);
    // In its last stage it sleeps, has had its lab, whose signals a descriptor collected, and a handler for each signal.
    wait_until("the last stage of the run", || {
        let process = format!("/proc/{}", run.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let has = |name| {
            let signals = u64::from_str_radix(value(name)?.trim(), 16).ok()?;
            Some(signals & 1 << (SIGTERM as u64 - 1) != 0)
        };
        let mut descriptors = std::fs::read_dir(format!("{process}/fd")).ok()?.flatten();
        let is_signalfd = |entry: std::fs::DirEntry| {
            let target = std::fs::read_link(entry.path());
            target.is_ok_and(|target| target.ends_with("anon_inode:[signalfd]"))
        };
        let sleeps = value("State:")?.trim().starts_with('S');
        let is_there = sleeps && has("SigCgt:")? && !has("SigBlk:")?;
        (is_there && descriptors.any(is_signalfd)).then_some(())
    });
    run.signal(SIGINT);
    run.signal(SIGINT);
    let run = run.wait().expect_status(3);
    assert!(
        run.stderr.contains("a signal came, and nobody reads it"),
        "{run:?}"
    );
}

#[test]
fn a_signal_ends_a_hook_that_hangs_and_then_the_run() {
    for (event, other) in [("up", "down"), ("down", "up")] {
        // The second does not heed SIGTERM.
        for trap in ["", "trap '' TERM;"] {
            let lab = Lab::new();
            let hook = format!(
                "echo $TAP_REACTOR_EVENT begins; case $TAP_REACTOR_EVENT in \
                 {event}) {trap} sleep 1000; sleep 1000;; {other}) ;; esac"
            );
            let arguments = "--ping vm0:10.77.99.99 --count 1 --timeout 1ms --json";
            let mut run = start(&lab, &with_hook(&hook, arguments));
            run.wait_until_it_says(&format!("{event} begins"));
            run.signal(SIGTERM);
            run.signal(SIGTERM);
            let run = run.wait().expect_status(1);
            let report = run.json();
            assert_eq!(report["interrupted"], event == "up", "{event}");
            // Who was told that the lab is up is told that it goes.
            assert!(run.stderr.contains("down begins"), "{run:?}");
            assert_eq!(lab.link_names(), [""; 0], "{event}");
            let left = succeed(Command::new("ip").args(["netns", "pids", lab.name()]));
            assert_eq!(left, "", "{event}: what the hook had started goes on");
        }
    }
}

#[test]
fn a_hook_gets_the_signals_that_the_program_got() {
    let lab = Lab::new();
    let hook = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    // Beside the hook, the same command as the program's own parent would have run it.
    let witness = ["sh", "-c", hook].map(str::to_owned).to_vec();
    let run_with_usr1_ignored = |words: &[String]| {
        let mut command = vec!["sh", "-c", "trap '' USR1; exec \"$@\"", "sh"];
        command.extend(words.iter().map(String::as_str));
        lab.run(&command).expect_status(0)
    };
    let masks = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("Sig"));
        lines.map(str::to_owned).collect()
    };
    let expected = masks(&run_with_usr1_ignored(&witness).stdout);
    let run = run_with_usr1_ignored(&with_hook(hook, "--duration 1ms"));
    assert_eq!(expected.len(), 2);
    // Of the hook when the lab is up, and of that when it goes.
    assert_eq!(
        masks(&run.stderr),
        [&expected[..], &expected[..]].concat(),
        "{}",
        run.stderr
    );
}

#[test]
fn what_a_hook_leaves_in_the_background_is_not_waited_for() {
    let lab = Lab::new();
    let hook = "sleep 1000 & echo $TAP_REACTOR_EVENT; exit 0";
    let run = start(&lab, &with_hook(hook, "--duration 1ms")).wait();
    assert_eq!(run.expect_status(0).stderr.matches("down").count(), 1);
    assert_eq!(lab.link_names(), [""; 0]);
}

#[test]
fn who_lets_signals_go_leaves_them_as_they_were() {
    // Nothing else in this process, which only starts others, uses them.
    // Which signals the process catches, and which this thread blocks (proc_pid_status(5)).
    let masks = || -> Vec<String> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let lines = status.lines();
        let masks = lines.filter(|line| line.starts_with("SigCgt") || line.starts_with("SigBlk"));
        masks.map(str::to_owned).collect()
    };
    let before = masks();
    for is_guarded in [false, true] {
        let mut signals = StopSignals::new().unwrap();
        if is_guarded {
            signals.guard_end(false).unwrap();
        }
        assert_ne!(masks(), before, "{is_guarded}");
        signals.release().unwrap();
        assert_eq!(masks(), before, "{is_guarded}");
        drop(signals);
        assert_eq!(masks(), before, "{is_guarded}");
    }
}
