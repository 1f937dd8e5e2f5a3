//! The fabric of TAPs by itself without root: a user namespace with a network namespace in it.
//!
//! Without the usual test harness, because a user namespace can be made only by a process with a single thread.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fchmodat, makedev, mknod};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use tap_reactor::fabric::{Fabric, Read, Write};
use tap_reactor::reactor::Sources;
use tap_reactor::system::{FilterKind, LabConfig, TapFabric};
use tap_reactor::time::Instant;
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::{ArpPacket, MacAddr};

fn main() {
    if nix::unistd::geteuid().is_root() {
        open_tun_device_to_all();
        become_nobody();
    }
    a_private_lab_needs_no_root();
    println!("test a_private_lab_needs_no_root ... ok");
    a_limit_of_namespaces_is_reported_with_what_to_do();
    println!("test a_limit_of_namespaces_is_reported_with_what_to_do ... ok");
}

/// `/dev/net/tun` is open to all on most systems, but not on every one: here it is, for this process only.
fn open_tun_device_to_all() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)
        .expect("a mount namespace (run as root, or as an ordinary user)");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
    mount(
        Some("tmpfs"),
        "/dev/net",
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )
    .expect("a /dev/net of our own");
    let all = Mode::from_bits_truncate(0o666);
    mknod("/dev/net/tun", SFlag::S_IFCHR, all, makedev(10, 200)).expect("a node for the driver");
    fchmodat(
        nix::fcntl::AT_FDCWD,
        "/dev/net/tun",
        all,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .expect("a node open to all, whatever the umask");
}

fn become_nobody() {
    let (user, group) = (Uid::from_raw(65534), Gid::from_raw(65534));
    setgroups(&[]).expect("no groups");
    setresgid(group, group, group).expect("another group");
    setresuid(user, user, user).expect("another user");
    // A process that changed its user owns no file in /proc until it says that it has nothing to hide (proc(5)).
    nix::sys::prctl::set_dumpable(true).expect("a /proc/self of our own");
}

fn a_private_lab_needs_no_root() {
    let poll = mio::Poll::new().unwrap();
    let lab = LabConfig {
        host_address: Some("10.77.0.1/16".parse().unwrap()),
        ..LabConfig::default()
    };
    let mut sources = Sources::new(poll.registry()).unwrap();
    let mut fabric =
        TapFabric::new(sources.of_fabric().unwrap(), lab).unwrap_or_else(|error| panic!("{error}"));
    for vm in 0..2 {
        let rx_filter = RxFilter {
            addresses: vec![[10, 77, 0, 2 + vm].into()],
            ..RxFilter::new(MacAddr([2, 0, 10, 77, 0, 2 + vm]))
        };
        fabric
            .plug(VmId(vm.into()), &rx_filter)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(fabric.warnings().is_empty(), "{:?}", fabric.warnings());
    let frame = [
        &[0xff; 6][..],
        &[2, 0, 10, 77, 0, 2],
        &[0x88, 0xb5],
        &[0x5a; 50],
    ]
    .concat();
    assert_eq!(fabric.write(Instant::ZERO, VmId(0), &frame), Write::Sent);
    let mut buffer = [0; 2048];
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(1), &mut buffer),
        Read::Frame(64)
    );
    assert_eq!(buffer[..64], frame);
    the_classic_filter_does_for_the_shared_one(&mut fabric);
    fabric.close().unwrap();
}

/// Programs that TAPs share take a privilege that a user namespace does not give.
fn the_classic_filter_does_for_the_shared_one(fabric: &mut TapFabric) {
    assert_eq!(fabric.filter_kind(), FilterKind::Classic);
    let mut buffer = [0; 2048];
    for (target, expected) in [(3, Read::Frame(42)), (9, Read::Empty)] {
        let request = ArpPacket {
            operation: ArpPacket::REQUEST,
            sender_mac: MacAddr([2, 0, 10, 77, 0, 2]),
            sender: [10, 77, 0, 2].into(),
            target_mac: MacAddr::ZERO,
            target: [10, 77, 0, target].into(),
        };
        let mut frame = [0; 42];
        request.write(MacAddr::BROADCAST, &mut frame).unwrap();
        assert_eq!(fabric.write(Instant::ZERO, VmId(0), &frame), Write::Sent);
        assert_eq!(fabric.read(Instant::ZERO, VmId(1), &mut buffer), expected);
    }
}

/// The limit holds for the user namespace that the first test has left us in.
fn a_limit_of_namespaces_is_reported_with_what_to_do() {
    std::fs::write("/proc/sys/user/max_net_namespaces", "0").unwrap();
    let poll = mio::Poll::new().unwrap();
    let mut sources = Sources::new(poll.registry()).unwrap();
    let error = TapFabric::new(sources.of_fabric().unwrap(), LabConfig::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("make a network namespace: No space left on device (ENOSPC); "),
        "{error}"
    );
    assert!(error.contains("max_net_namespaces"), "{error}");
}
