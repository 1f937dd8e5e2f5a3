//! A network of its own for each test on real TAPs.
#![allow(dead_code)] // Not every test uses all of it.

pub mod cable;

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tap_reactor::reactor::{Source, Sources};
use tap_reactor::system::{
    LabConfig, Link, Netlink, NetnsChoice, StopSignals, SystemError, TapFabric,
};
use tap_reactor::time::{Clock, MonotonicClock};

/// Moves the calling thread, which is the test's own, into network and mount namespaces of its own, with an empty `/run`,
/// so that named namespaces are its own too. The kernel removes all of it with the thread.
pub fn enter_own_network() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect(
        "this test makes TAPs in namespaces of its own: run it as root (scripts/test.sh does)",
    );
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .expect("a mount namespace of our own");
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("an empty /run");
}

/// The configuration of a lab in the namespace that the test is in.
pub fn host_lab() -> LabConfig {
    LabConfig {
        netns: NetnsChoice::Host,
        ..LabConfig::default()
    }
}

/// A poll, and the sources of its events.
pub struct Polled {
    poll: mio::Poll,
    sources: Sources,
}

impl Polled {
    /// What is ready now.
    pub fn ready(&mut self) -> Vec<Source> {
        let mut events = mio::Events::with_capacity(8);
        let ready = self.poll.poll(&mut events, Some(Duration::ZERO));
        ready.expect("a poll");
        let tokens = events.iter().map(|event| event.token());
        tokens.filter_map(|token| self.sources.get(token)).collect()
    }
}

/// Creates a fabric by itself, with a poll but without VMs and a lab, for the tests of that layer.
pub fn fabric(lab: LabConfig) -> Result<(TapFabric, Polled), SystemError> {
    let poll = mio::Poll::new().expect("a poll");
    let mut sources = Sources::new(poll.registry())?;
    let fabric = TapFabric::new(sources.of_fabric()?, lab)?;
    Ok((fabric, Polled { poll, sources }))
}

/// Waits until all that is plugged in reaches all else, as a run does before its first frame.
pub fn wait_until_forwarding(fabric: &mut TapFabric) {
    let mut signals = StopSignals::new().expect("a descriptor of signals");
    let stopped_by = fabric.wait_until_forwarding(&signals);
    assert_eq!(stopped_by.expect("ports that forward"), None);
    signals.release().expect("signals as before");
}

/// Runs `command`, words separated by blanks, and returns what it printed.
pub fn run(command: &str) -> String {
    let mut words = command.split_ascii_whitespace();
    let program = words.next().expect("a program");
    let output = std::process::Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{program}, which this test calls: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}{complaint}");
    text
}

/// Asks again and again until `is_so`, and fails the test when patience runs out.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = MonotonicClock.now() + Duration::from_secs(30);
    while !is_so() {
        assert!(MonotonicClock.now() < deadline, "waited in vain for {what}");
        // Only between two questions to another process: nothing is assumed to have happened meanwhile.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes the lab of `scripts/lab-up.sh` in the namespace that the test is in. Its links send nothing of their own (IPv6 and
/// multicast snooping are off): a frame of the kernel's would take a place in a queue, at any moment.
pub fn make_lab_by_hand() {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab-up.sh"));
}

/// The names of all links, in the order in which they were made.
pub fn link_names() -> Vec<String> {
    links().into_iter().map(|link| link.name).collect()
}

/// All links of the namespace that the test is in.
pub fn links() -> Vec<Link> {
    let mut netlink = Netlink::open().expect("a netlink socket");
    netlink.links().expect("a list of links")
}

/// The link with that name.
pub fn link(name: &str) -> Link {
    let mut links = links();
    links.retain(|link| link.name == name);
    links.pop().unwrap_or_else(|| panic!("no link {name}"))
}

/// A copy of the descriptor of the TAP with that name, which only one test has.
pub fn copy_of_descriptor(tap: &str) -> OwnedFd {
    let line = format!("iff:\t{tap}\n");
    let mut descriptors = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let number = descriptors.find_map(|entry| {
        let path = entry.unwrap().path();
        let is_it = std::fs::read_to_string(&path).is_ok_and(|about| about.contains(&line));
        is_it.then(|| path.file_name()?.to_str()?.parse::<RawFd>().ok())?
    });
    // SAFETY: the caller has the TAP open.
    unsafe { BorrowedFd::borrow_raw(number.unwrap()) }
        .try_clone_to_owned()
        .unwrap()
}
