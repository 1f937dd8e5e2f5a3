//! Named namespaces, and what is removed from where, each test in namespaces of its own.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use support::{enter_own_network, fabric, host_lab, link, link_names, links, run, wait_until};
use tap_reactor::fabric::Fabric;
use tap_reactor::system::{
    LabConfig, LinkChange, Mark, Netlink, NetnsChoice, Prepared, Tap, clean,
};
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::MacAddr;

/// The alias of a run that is gone: nobody has shown its presence.
const GONE: &str = "tap-reactor pid=1 run=0000000000000000";
/// The same as earlier versions wrote it: no kernel can be set to give process numbers as large.
const GONE_EARLIER: &str = "tap-reactor pid=8388608 start=1";

/// A process that is killed at the end of its test at the latest.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program, by way of the command `through`.
fn start(through: &str, arguments: &str) -> Running {
    let program = env!("CARGO_BIN_EXE_tap-reactor");
    let mut words = through
        .split_ascii_whitespace()
        .chain([program])
        .chain(arguments.split_ascii_whitespace());
    let child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap())
}

/// Runs `tap-reactor clean` by way of the command `through`, and returns its output.
fn clean_through(through: &str) -> String {
    run(&format!(
        "{through} {} clean",
        env!("CARGO_BIN_EXE_tap-reactor")
    ))
}

/// A link that looks as if the run with that alias had made it.
fn forge_link(name: &str, alias: &str, group: u32) {
    run(&format!("ip link add {name} type bridge"));
    let change = LinkChange {
        alias: Some(alias),
        group: Some(group),
        ..LinkChange::default()
    };
    Netlink::open().unwrap().change_link(name, &change).unwrap();
}

fn named_lab() -> LabConfig {
    LabConfig {
        netns: NetnsChoice::Named("lab".to_owned()),
        ..LabConfig::default()
    }
}

fn plug(fabric: &mut impl Fabric<Error = tap_reactor::system::SystemError>, vm: u32) {
    let mac = MacAddr([2, 0, 0, 0, 1, vm as u8]);
    fabric.plug(VmId(vm), &RxFilter::new(mac)).unwrap();
}

#[test]
fn cleaning_removes_the_links_of_runs_that_are_gone_and_no_others() {
    enter_own_network();
    let ours = Mark::new();
    let _presence = ours.show_presence().unwrap();
    let elsewhere = "tap-reactor pid=8388608 start=1 pidns=1";
    let group = Mark::parse(GONE).unwrap().group(0);
    forge_link("gone0", GONE, group);
    forge_link("gone1", GONE, group);
    forge_link("gone2", GONE, 0);
    forge_link("gone3", GONE_EARLIER, group);
    forge_link("alive0", &ours.alias(), ours.group(0));
    forge_link("elsewhere0", elsewhere, 7);
    forge_link("unmarked0", "uplink", ours.group(0));
    forge_link("similar0", "tap-reactor pid=8388608", group + 1);

    let mut cleaned = clean().unwrap();
    cleaned.removed.sort();
    assert_eq!(cleaned.removed, ["gone0", "gone1", "gone2", "gone3"]);
    let kept: Vec<_> = cleaned.kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(kept, ["alive0", "elsewhere0"]);
    assert!(
        cleaned.kept[0].1.contains(&ours.pid().to_string()),
        "{:?}",
        cleaned.kept
    );
    assert!(cleaned.failed.is_empty(), "{:?}", cleaned.failed);
    assert_eq!(
        link_names(),
        ["lo", "alive0", "elsewhere0", "unmarked0", "similar0"]
    );

    let again = clean().unwrap();
    assert_eq!((again.removed.len(), again.kept.len()), (0, 2));
}

#[test]
fn from_every_pid_and_time_namespace_the_living_are_told_from_the_dead() {
    // With other clocks, other process numbers, and both.
    let ways = [
        "env",
        "unshare -T --boottime 86400 --kill-child",
        "unshare --pid --mount-proc --kill-child",
        "unshare -T --boottime 4000 --pid --mount-proc --kill-child",
    ];
    for run_through in ways {
        enter_own_network();
        let mut living = start(run_through, "--netns host --bridge br1 --tap-prefix live");
        let mut dead = start(run_through, "--netns host");
        wait_until("two labs", || {
            let links = links();
            // A TAP is there a moment before its mark is.
            let is_whole = |tap: &&str| {
                let mut named = links.iter().filter(|link| link.name == **tap);
                named.any(|link| link.alias.is_some())
            };
            ["live1", "tap1"].iter().all(is_whole)
        });
        dead.kill();
        for clean_through_way in ways {
            let printed = clean_through(clean_through_way);
            for link in ["br1", "live0", "live1"] {
                let kept = format!("kept {link}: its run, process ");
                assert!(
                    printed.contains(&kept),
                    "{run_through}, {clean_through_way}: {printed}"
                );
            }
        }
        // What a wrapper has started ends a moment after it.
        wait_until("the dead run's links to be gone", || {
            clean_through(ways[1]);
            link_names() == ["lo", "br1", "live0", "live1"]
        });
        living.kill();
        wait_until("the other's links to be gone", || {
            clean_through(ways[2]);
            link_names() == ["lo"]
        });
    }
}

#[test]
fn a_tap_that_a_process_is_attached_to_keeps_its_run_from_being_cleaned() {
    for alias in [GONE, GONE_EARLIER] {
        enter_own_network();
        let tap = Tap::create("tap0").unwrap();
        tap.set_persistent(true).unwrap();
        let change = LinkChange {
            alias: Some(alias),
            ..LinkChange::default()
        };
        Netlink::open()
            .unwrap()
            .change_link("tap0", &change)
            .unwrap();
        forge_link("br0", alias, 7);
        let cleaned = clean().unwrap();
        let reason = || "a process is attached to tap0".to_owned();
        let names = ["tap0", "br0"].map(str::to_owned);
        assert_eq!(cleaned.kept, names.map(|name| (name, reason())));
        drop(tap);
        // A process that another test has just forked has a copy of its descriptor until it executes its program.
        wait_until("nobody to be attached", || !link("tap0").carrier);
        assert_eq!(clean().unwrap().removed.len(), 2);
        assert_eq!(link_names(), ["lo"]);
    }
}

#[test]
fn a_group_that_a_stranger_has_joined_is_not_removed_as_a_whole() {
    enter_own_network();
    let group = Mark::parse(GONE).unwrap().group(0);
    forge_link("gone0", GONE, group);
    forge_link("stranger", "", group);
    forge_link("gone1", GONE, group);
    assert_eq!(clean().unwrap().removed, ["gone0", "gone1"]);
    assert_eq!(link_names(), ["lo", "stranger"]);
}

#[test]
fn a_link_left_by_a_killed_run_is_told_from_one_of_somebody_else() {
    enter_own_network();
    forge_link("tap1", GONE, 5);
    let error = fabric(host_lab()).map(drop).unwrap_err().to_string();
    assert!(
        error.ends_with("a run that was killed has left it behind: tap-reactor clean"),
        "{error}"
    );
}

#[test]
fn a_named_lab_can_be_looked_into_and_vanishes_at_its_end() {
    for by_drop in [false, true] {
        enter_own_network();
        let (mut fabric, _poll) = fabric(named_lab()).unwrap();
        plug(&mut fabric, 0);
        plug(&mut fabric, 1);
        assert!(run("ip netns list").starts_with("lab"));
        let seen = run("ip netns exec lab ip link show master br0");
        assert!(seen.contains("tap0") && seen.contains("tap1"), "{seen}");
        // All of it is ours, so IPv6 is off altogether.
        assert_eq!(run("ip netns exec lab ip -6 address"), "");
        assert!(run("ip netns exec lab ip link show lo").contains("alias tap-reactor pid="));
        if by_drop {
            drop(fabric);
        } else {
            fabric.close().unwrap();
        }
        assert_eq!(run("ip netns list"), "");
        assert_eq!(link_names(), ["lo"]);
    }
}

#[test]
fn a_named_namespace_of_somebody_else_is_left_as_it_was() {
    enter_own_network();
    run("ip netns add lab");
    let (mut fabric, _poll) = fabric(named_lab()).unwrap();
    plug(&mut fabric, 0);
    assert!(run("ip netns exec lab ip link show tap0").contains("master br0"));
    assert_eq!(
        run("ip netns exec lab cat /proc/sys/net/ipv6/conf/default/disable_ipv6"),
        "0\n"
    );
    fabric.close().unwrap();
    let left = run("ip netns exec lab ip -oneline link");
    assert_eq!(left.lines().count(), 1, "{left}");
    assert!(
        left.contains("lo:") && left.contains("state DOWN") && !left.contains("alias"),
        "{left}"
    );
}

#[test]
fn a_name_that_is_no_network_namespace_is_refused_at_once_and_stays() {
    let table = [
        ("touch", "an empty file"),
        ("mkfifo", "a FIFO"),
        ("mkdir", "a directory"),
        ("cp /etc/passwd", "a file"),
        ("ln -s /dev/null", "a device"),
        ("ln -s /proc/self/ns/uts", "a namespace of another kind"),
        (
            "python3 -c __import__('socket').socket(1).bind(__import__('sys').argv[1])",
            "a socket",
        ),
    ];
    enter_own_network();
    std::fs::create_dir_all("/run/netns").unwrap();
    let path = Path::new("/run/netns/lab");
    for (make, what) in table {
        run(&format!("{make} /run/netns/lab"));
        let error = fabric(named_lab()).map(drop).unwrap_err().to_string();
        let expected = format!(
            "enter namespace lab: /run/netns/lab is {what}, expected a network namespace; choose another --netns"
        );
        assert!(error.starts_with(&expected), "{error}");
        let cleaned = clean().unwrap();
        let reason = format!("it is {what}, expected a network namespace");
        assert_eq!(cleaned.kept, [("/run/netns/lab".to_owned(), reason)]);
        assert!(
            cleaned.removed.is_empty() && cleaned.failed.is_empty(),
            "{cleaned:?}"
        );
        let removed = std::fs::remove_dir(path).or_else(|_| std::fs::remove_file(path));
        removed.unwrap();
    }
    let missing = LabConfig {
        prepared: Prepared::BridgeAndTaps,
        netns: NetnsChoice::Named("absent".to_owned()),
        ..LabConfig::default()
    };
    let error = fabric(missing).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("enter namespace absent: there is none of that name"),
        "{error}"
    );
    assert!(!std::fs::exists("/run/netns/absent").unwrap());
}

#[test]
fn cleaning_removes_the_named_namespace_of_a_run_that_is_gone() {
    enter_own_network();
    run("ip netns add stranger");
    run("ip netns exec stranger ip link add gone0 type bridge");
    run("ip netns exec stranger ip link add uplink type bridge");
    let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    let stranger = std::fs::File::open("/run/netns/stranger").unwrap();
    nix::sched::setns(&stranger, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let change = LinkChange {
        alias: Some(GONE),
        ..LinkChange::default()
    };
    Netlink::open()
        .unwrap()
        .change_link("gone0", &change)
        .unwrap();
    nix::sched::setns(&here, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let runs = ["dead", "living"].map(|name| start("env", &format!("--vms 1 --netns {name}")));
    for name in ["dead", "living"] {
        wait_until("a lab in a named namespace", || {
            // A TAP that does not persist yet goes with its process.
            let show = ["-n", name, "-details", "link", "show", "dev", "tap0"];
            let shown = Command::new("ip").args(show).output().unwrap();
            String::from_utf8_lossy(&shown.stdout).contains("persist on")
        });
    }
    let [mut dead, mut living] = runs;
    dead.kill();

    let cleaned = clean().unwrap();
    let mut removed = cleaned.removed.clone();
    removed.sort();
    assert_eq!(
        removed,
        [
            "br0 in namespace dead",
            "gone0 in namespace stranger",
            "namespace dead",
            "tap0 in namespace dead",
        ]
    );
    let kept: Vec<_> = cleaned.kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        kept,
        [
            "br0 in namespace living",
            "tap0 in namespace living",
            "namespace living"
        ]
    );
    assert!(cleaned.failed.is_empty(), "{:?}", cleaned.failed);
    assert_eq!(names_in_use(), ["living", "stranger"]);
    assert!(run("ip -n stranger link").contains("uplink"));
    // We are back where we were.
    assert_eq!(link_names(), ["lo"]);
    living.kill();
}

/// The names of all namespaces.
fn names_in_use() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A run that stops before and after each of its system calls.
struct Traced(Running);

impl Traced {
    /// Starts a short run in a namespace of its own making.
    fn start(netns: &str) -> Traced {
        Traced::run(&format!("--vms 3 --netns {netns} --duration 1ms --quiet"))
    }

    fn run(arguments: &str) -> Traced {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-reactor"));
        command
            .args(arguments.split_ascii_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: the call is one system call.
        unsafe { command.pre_exec(|| Ok(nix::sys::ptrace::traceme()?)) };
        let traced = Traced(Running(command.spawn().unwrap()));
        // It stops first when it has become the program.
        assert!(traced.is_stopped());
        traced
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.0.id() as i32)
    }

    /// Waits until it has stopped; it may have ended instead.
    fn is_stopped(&self) -> bool {
        let stopped = waitpid(self.pid(), Some(WaitPidFlag::__WALL)).unwrap();
        matches!(stopped, WaitStatus::Stopped(..))
    }

    /// Returns true if it is in the last stage of a run, or about to enter it: it takes the signals over, and what it does
    /// from then on does not depend on how long anything took.
    fn is_at_its_end(&self) -> bool {
        let about = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid())).unwrap();
        let number = about
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        number == Some(nix::libc::SYS_rt_sigaction)
    }

    /// Goes on until its next stop. False at its end.
    fn step(&self) -> bool {
        nix::sys::ptrace::syscall(self.pid(), None).unwrap();
        self.is_stopped()
    }
}

#[test]
fn wherever_a_run_is_killed_cleaning_removes_what_it_had_made() {
    enter_own_network();
    let name = Path::new("/run/netns/lab");
    let has_links = || nix::net::if_::if_nametoindex("br0").is_ok();
    let is_there = || name.exists() || has_links();
    for netns in ["lab", "host"] {
        // First without killing: between which of its stops something of it is there, and where its last stage begins.
        let traced = Traced::start(netns);
        let (mut stops, mut first, mut end, mut last) = (0, None, None, 0);
        while traced.step() {
            stops += 1;
            if is_there() {
                first = first.or(Some(stops));
                last = stops;
            }
            if first.is_some() && end.is_none() && traced.is_at_its_end() {
                end = Some(stops);
            }
        }
        assert!(!is_there());
        let (first, end) = (first.unwrap(), end.unwrap());
        // Everything in the making and in the removal, and some of what is done in between. How often it waits between the
        // two depends on the machine, so that the removal is counted from the beginning of the last stage.
        let in_making = (first - 4..first + 60).map(|stop| (stop, None));
        let until_gone = last - end;
        let in_removal = (until_gone - 40..until_gone + 4).map(|more| (first, Some(more)));
        let (mut left, mut unmounted) = (0, 0);
        for (stop, in_last_stage) in in_making.chain(in_removal) {
            let mut traced = Traced::start(netns);
            let mut still_runs = (0..stop).all(|_| traced.step());
            if let Some(more) = in_last_stage {
                while still_runs && !traced.is_at_its_end() {
                    still_runs = traced.step();
                }
                still_runs = still_runs && (0..more).all(|_| traced.step());
            }
            if still_runs {
                traced.0.kill();
            }
            if is_there() {
                left += 1;
                let metadata = std::fs::metadata(name);
                unmounted += u32::from(metadata.is_ok_and(|file| file.len() > 0));
            }
            let cleaned = clean().unwrap();
            let context = format!(
                "{netns}, killed at stop {stop}, {in_last_stage:?} after its last stage began: {cleaned:?}"
            );
            assert!(!is_there(), "{context}");
            assert!(
                cleaned.kept.is_empty() && cleaned.failed.is_empty(),
                "{context}"
            );
            assert_eq!(link_names(), ["lo"], "{context}");
        }
        assert!(left > 80, "{netns}: {left} of them left something");
        assert_eq!(
            unmounted > 4,
            netns == "lab",
            "{netns}: {unmounted} names without a mount"
        );
    }
}

#[test]
fn a_vm_takes_few_system_calls() {
    enter_own_network();
    // Each stops before and after.
    let calls = |vms: u32| {
        let traced = Traced::run(&format!(
            "--vms {vms} --filter=on --ping vm0:vm1 --count 1 --quiet"
        ));
        let mut stops = 0;
        while traced.step() {
            stops += 1;
        }
        stops / 2
    };
    // How often it waits, and polls, depends on who else has the processor: the least is what it takes.
    let least = |vms: u32| (0..3).map(|_| calls(vms)).min().unwrap_or_default();
    // Four times 32, which are made together.
    let (few, more) = (least(288), least(416));
    let of_a_vm = f64::from(more - few) / 128.0;
    // It opens a TAP, names it, asks for its index, has it polled and persist, and closes it. All else is shared. What debugging
    // checks is that a descriptor is open before it closes it.
    let own = if cfg!(debug_assertions) { 7.0 } else { 6.0 };
    assert!(of_a_vm < own + 1.0, "{of_a_vm} system calls for each VM");
}

/// How often a run is killed in its moves, unless [`KILLS`] says otherwise.
const SOME_KILLS: u32 = 12;
/// The environment variable with the number of kills.
const KILLS: &str = "TAP_REACTOR_KILLS";

#[test]
fn wherever_a_run_is_killed_in_a_move_cleaning_removes_what_it_had_made() {
    enter_own_network();
    let given = std::env::var(KILLS).ok();
    let kills = given.map_or(SOME_KILLS, |kills| kills.parse().expect("a number"));
    let beside = Path::new("/run/netns/beside");
    let has_links = || nix::net::if_::if_nametoindex("br0").is_ok();
    let is_there = || beside.exists() || Path::new("/run/netns/lab").exists() || has_links();
    let mut random = fastrand::Rng::with_seed(0x6d6f_7665);
    for netns in ["lab", "host"] {
        // There and back, and to the other leaf: what is killed is in the one namespace, in the other, or between.
        let arguments = format!(
            "--vms 2 --ports-per-bridge 1 --netns {netns} --ping vm0:vm1 --interval 5ms --duration 60ms --quiet \
             --resolve static --move vm1:netns:beside,every=10ms --move vm0:leaf1,every=10ms --repeat 4"
        );
        // First without killing: between which of its stops there is a namespace beside the lab's.
        let traced = Traced::run(&arguments);
        let (mut stops, mut first, mut last) = (0, None, 0);
        while traced.step() {
            stops += 1;
            if beside.exists() {
                first = first.or(Some(stops));
                last = stops;
            }
        }
        assert!(!is_there());
        let first = first.expect("a namespace beside the lab's");
        let mut left = 0;
        for _ in 0..kills.div_ceil(2) {
            let stop = random.u32(first - 8..last);
            let mut traced = Traced::run(&arguments);
            let stops = (0..stop).take_while(|_| traced.step()).count() as u32;
            match stops == stop {
                true => traced.0.kill(),
                // How often a run waits depends on the machine.
                false => last = last.min(stops).max(first),
            }
            left += u32::from(is_there());
            let cleaned = clean().unwrap();
            let context = format!("{netns}, killed at stop {stop} of {last}: {cleaned:?}");
            assert!(!is_there(), "{context}");
            assert!(
                cleaned.kept.is_empty() && cleaned.failed.is_empty(),
                "{context}"
            );
            assert_eq!(link_names(), ["lo"], "{context}");
        }
        assert!(left > 0, "{netns}: none of them left anything");
    }
}

#[test]
fn a_name_in_the_making_is_left_to_its_run() {
    enter_own_network();
    let mut traced = Traced::start("lab");
    while !Path::new("/run/netns/lab").exists() {
        assert!(traced.step());
    }
    let kept = (
        "namespace lab".to_owned(),
        "its run is still going".to_owned(),
    );
    assert_eq!(clean().unwrap().kept, [kept]);
    traced.0.kill();
    assert_eq!(clean().unwrap().removed, ["namespace lab"]);
    assert!(names_in_use().is_empty());
}
