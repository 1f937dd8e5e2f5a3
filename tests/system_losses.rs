//! What the kernel tells of the frames that it drops, each cause provoked on real TAPs.

mod support;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::mount::{MsFlags, mount};
use support::{
    copy_of_descriptor, enter_own_network, fabric, host_lab, run, wait_until, wait_until_forwarding,
};
use tap_reactor::fabric::{
    DROPPED_BYTES, DropPlace, Fabric, FrameDrop, FrameDrops, KernelName, PathState, PortState,
    Read, StpState, Write, WriteDrop,
};
use tap_reactor::reactor::Source;
use tap_reactor::system::{FabricKind, LabConfig, TapFabric};
use tap_reactor::time::{Clock, Instant, MonotonicClock};
use tap_reactor::topology::{leaf_name, uplink_names};
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::MacAddr;

const VM0: VmId = VmId(0);
const VM1: VmId = VmId(1);
const VM2: VmId = VmId(2);
/// Frames that are sent for each cause.
const FRAMES: u16 = 10;
/// The length of a frame's IP packet.
const LENGTH: u16 = 84;

fn mac(vm: VmId) -> MacAddr {
    let [a, b, c, d] = (0x0a4d_0002 + vm.0).to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// An echo request with so many bytes of IP.
fn echo(from: MacAddr, to: MacAddr, sequence: u16, length: u16) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0[..], &[8, 0, 0x45, 0]].concat();
    frame.extend(length.to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 1, 0, 0, 10, 77, 0, 2, 10, 77, 0, 3]);
    let words = frame[14..].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend([8, 0, 0, 0, 0, 7]);
    frame.extend(sequence.to_be_bytes());
    frame.resize(14 + usize::from(length), 0x5a);
    frame
}

/// A lab of three VMs, of which the switch knows where they are, whose dropped frames are watched.
fn watched(lab: LabConfig) -> (TapFabric, support::Polled) {
    enter_own_network();
    // Where it is on, bridges look into packets, and fragment them.
    let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    let (mut fabric, polled) = fabric(lab).unwrap_or_else(|error| panic!("{error}"));
    for vm in [VM0, VM1, VM2] {
        fabric.plug(vm, &RxFilter::new(mac(vm))).unwrap();
    }
    wait_until_forwarding(&mut fabric);
    for (from, to) in [(VM0, VM1), (VM1, VM2), (VM2, VM0)] {
        assert_eq!(send(&mut fabric, from, to, 0), Write::Sent);
    }
    empty(&mut fabric);
    assert!(
        fabric
            .watch_drops()
            .unwrap_or_else(|error| panic!("{error}"))
    );
    (fabric, polled)
}

fn send(fabric: &mut TapFabric, from: VmId, to: VmId, sequence: u16) -> Write {
    fabric.write(
        Instant::ZERO,
        from,
        &echo(mac(from), mac(to), sequence, LENGTH),
    )
}

/// Reads what has come to the VMs.
fn empty(fabric: &mut TapFabric) {
    let mut buffer = [0; 2_048];
    for vm in [VM0, VM1, VM2] {
        while matches!(fabric.read(Instant::ZERO, vm, &mut buffer), Read::Frame(_)) {}
    }
}

/// The numbers of drops by place, reason and function. No frame was missed.
fn summary(drops: &FrameDrops) -> BTreeMap<(String, String, String), u32> {
    assert_eq!(drops.missed, 0);
    let mut counts = BTreeMap::new();
    for drop in &drops.drops {
        let [place, reason, function] = [
            &drop.place.to_string(),
            drop.reason.as_str(),
            drop.function.as_str(),
        ]
        .map(str::to_owned);
        *counts.entry((place, reason, function)).or_default() += 1;
    }
    counts
}

fn expected(count: u32, drop: [&str; 3]) -> BTreeMap<(String, String, String), u32> {
    let [place, reason, function] = drop.map(str::to_owned);
    BTreeMap::from([((place, reason, function), count)])
}

/// A cause of drops.
struct Cause {
    name: &'static str,
    /// Commands that bring it about; `@` stands for a blank within an argument.
    commands: &'static [&'static str],
    /// How many of [`FRAMES`] are dropped.
    drops: u32,
    /// Place, reason and function.
    told: [&'static str; 3],
    /// What the state of the path from vm0 to vm1 says.
    path: fn(&PathState) -> bool,
}

fn carry_out(commands: &[&str]) {
    for command in commands {
        let words: Vec<String> = command
            .split(' ')
            .map(|word| word.replace('@', " "))
            .collect();
        let output = std::process::Command::new(&words[0])
            .args(&words[1..])
            .output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {complaint}");
    }
}

fn source(state: &PathState) -> tap_reactor::fabric::BridgeState {
    state.source.unwrap().bridge.unwrap()
}

fn destination(state: &PathState) -> tap_reactor::fabric::BridgeState {
    state.destination.unwrap().bridge.unwrap()
}

fn leads_to(state: &PathState, vm: VmId) -> bool {
    state.forwarding == Some(DropPlace::Port(vm))
}

const UNSPECIFIED: [&str; 3] = ["vm0", "NOT_SPECIFIED", "br_handle_frame_finish"];

const CAUSES: &[Cause] = &[
    Cause {
        name: "the queue of the destination is full",
        commands: &["ip link set tap1 txqueuelen 4"],
        drops: 6,
        told: ["vm1", "FULL_RING", "tun_net_xmit"],
        path: |state| leads_to(state, VM1),
    },
    Cause {
        name: "the forwarding table has another port, which nobody has open",
        commands: &[
            "ip tuntap add mode tap name closed",
            "ip link set closed master br0 up",
            "bridge fdb replace 02:00:0a:4d:00:03 dev closed master static",
        ],
        drops: 10,
        told: UNSPECIFIED,
        path: |state| state.forwarding == Some(DropPlace::Link(KernelName::new("closed"))),
    },
    Cause {
        name: "the forwarding table has the source's own port",
        commands: &["bridge fdb replace 02:00:0a:4d:00:03 dev tap0 master static"],
        drops: 10,
        told: UNSPECIFIED,
        path: |state| leads_to(state, VM0) && !source(state).is_hairpin,
    },
    Cause {
        name: "the source is in no bridge",
        commands: &["ip link set tap0 nomaster"],
        drops: 10,
        told: ["vm0", "OTHERHOST", "ip_rcv_core"],
        path: |state| state.source.is_some_and(|port| port.bridge.is_none()),
    },
    Cause {
        name: "the port of the destination is disabled",
        commands: &["bridge link set dev tap1 state 0"],
        drops: 10,
        told: UNSPECIFIED,
        path: |state| destination(state).state == StpState::Disabled,
    },
    Cause {
        name: "the port of the source is disabled",
        commands: &["bridge link set dev tap0 state 0"],
        drops: 10,
        told: ["vm0", "BRIDGE_INGRESS_STP_STATE", "br_handle_frame"],
        path: |state| source(state).state == StpState::Disabled && source(state).is_up,
    },
    Cause {
        name: "the port of the source is listening",
        commands: &["bridge link set dev tap0 state 1"],
        drops: 10,
        told: ["vm0", "BRIDGE_INGRESS_STP_STATE", "br_handle_frame"],
        path: |state| source(state).state == StpState::Listening,
    },
    Cause {
        name: "the port of the source is learning",
        commands: &["bridge link set dev tap0 state 2"],
        drops: 10,
        told: ["vm0", "BRIDGE_INGRESS_STP_STATE", "br_handle_frame_finish"],
        path: |state| source(state).state == StpState::Learning,
    },
    Cause {
        name: "both ports are isolated",
        commands: &[
            "bridge link set dev tap0 isolated on",
            "bridge link set dev tap1 isolated on",
        ],
        drops: 10,
        told: UNSPECIFIED,
        path: |state| source(state).is_isolated && destination(state).is_isolated,
    },
    Cause {
        name: "the port of the source is locked",
        commands: &[
            "bridge link set dev tap0 locked on",
            "bridge fdb del 02:00:0a:4d:00:02 dev tap0 master",
        ],
        drops: 10,
        told: UNSPECIFIED,
        path: |state| source(state).is_locked && leads_to(state, VM1),
    },
    Cause {
        name: "the frame is longer than the destination's MTU",
        // Four bytes more pass, as a tag may be.
        commands: &["ip link set tap1 mtu 70"],
        drops: 10,
        told: ["vm1", "NOT_SPECIFIED", "br_dev_queue_push_xmit"],
        path: |state| state.destination.is_some_and(|port| port.mtu == 70),
    },
    Cause {
        name: "the destination is unknown and nothing is flooded",
        commands: &[
            "bridge fdb del 02:00:0a:4d:00:03 dev tap1 master",
            "bridge link set dev tap1 flood off",
            "bridge link set dev tap2 flood off",
        ],
        drops: 10,
        told: ["vm0", "NO_TX_TARGET", "br_handle_frame_finish"],
        path: |state| state.forwarding.is_none() && !destination(state).floods_unknown,
    },
    Cause {
        name: "the bridge is down",
        commands: &["ip link set br0 down"],
        drops: 10,
        told: ["vm0", "BRIDGE_INGRESS_STP_STATE", "br_handle_frame"],
        path: |state| !source(state).is_up,
    },
    Cause {
        name: "the forwarding table has the destination at the bridge itself",
        commands: &["bridge fdb replace 02:00:0a:4d:00:03 dev br0 self local"],
        drops: 10,
        told: ["br0", "OTHERHOST", "ip_rcv_core"],
        path: |state| state.forwarding == Some(DropPlace::Link(KernelName::new("br0"))),
    },
    Cause {
        name: "a program drops every frame that comes from the source",
        commands: &[
            "tc qdisc replace dev tap0 clsact",
            "tc filter add dev tap0 ingress bpf da object-pinned /run/bpf/drop",
        ],
        drops: 10,
        told: ["vm0", "TC_INGRESS", "__netif_receive_skb_core"],
        path: |state| leads_to(state, VM1),
    },
    Cause {
        name: "a program drops every frame that goes to the destination",
        commands: &[
            "tc qdisc del dev tap1 clsact",
            "tc qdisc add dev tap1 clsact",
            "tc filter add dev tap1 egress bpf da object-pinned /run/bpf/drop",
        ],
        drops: 10,
        told: ["vm1", "TC_EGRESS", "__dev_queue_xmit"],
        path: |state| leads_to(state, VM1),
    },
    Cause {
        name: "the queueing discipline is full",
        // Two frames pass at once, and two wait for a minute and more.
        commands: &["tc qdisc add dev tap1 root tbf rate 8bit burst 200b limit 200b"],
        drops: 6,
        told: ["vm1", "QDISC_DROP", "__dev_queue_xmit"],
        path: |state| leads_to(state, VM1),
    },
    Cause {
        name: "a rule of the bridge's packet filter drops every second frame",
        commands: &[
            "nft add table bridge t",
            "nft add chain bridge t c {type@filter@hook@forward@priority@0;}",
            "nft add rule bridge t c numgen inc mod 2 0 drop",
        ],
        drops: 5,
        told: ["vm1", "NETFILTER_DROP", "nft_do_chain"],
        path: |state| leads_to(state, VM1),
    },
    Cause {
        name: "a rule drops every second frame that comes from the source",
        commands: &[
            "nft add table netdev t",
            "nft add chain netdev t c {type@filter@hook@ingress@device@tap0@priority@0;}",
            "nft add rule netdev t c numgen inc mod 2 0 drop",
        ],
        drops: 5,
        told: ["vm0", "NETFILTER_DROP", "nft_do_chain"],
        path: |state| leads_to(state, VM1),
    },
    Cause {
        name: "a rule drops every second frame that goes to the destination",
        commands: &[
            "nft add table netdev t",
            "nft add chain netdev t c {type@filter@hook@egress@device@tap1@priority@0;}",
            "nft add rule netdev t c numgen inc mod 2 0 drop",
        ],
        drops: 5,
        told: ["vm1", "NETFILTER_DROP", "nft_do_chain"],
        path: |state| leads_to(state, VM1),
    },
];

#[test]
fn each_cause_of_a_bridge_is_told_with_place_reason_and_frame() {
    for cause in CAUSES {
        let (mut fabric, _polled) = watched(host_lab());
        pin_dropping_program();
        carry_out(cause.commands);
        let name = cause.name;
        let from = MonotonicClock.now();
        for sequence in 1..=FRAMES {
            assert_eq!(send(&mut fabric, VM0, VM1, sequence), Write::Sent, "{name}");
        }
        let to = MonotonicClock.now();
        let drops = fabric.frame_drops();
        assert_eq!(summary(&drops), expected(cause.drops, cause.told), "{name}");
        for drop in &drops.drops {
            assert!((from..=to).contains(&drop.at), "{name}: {:?}", drop.at);
            let frame = drop.frame.bytes();
            let sequence = u16::from_be_bytes([frame[40], frame[41]]);
            assert!((1..=FRAMES).contains(&sequence), "{name}: {sequence}");
            let whole = echo(mac(VM0), mac(VM1), sequence, LENGTH);
            assert_eq!(frame, &whole[..DROPPED_BYTES], "{name}");
        }
        let path = fabric
            .path_state(VM0, mac(VM1), Some(VM1))
            .unwrap()
            .unwrap();
        assert!((cause.path)(&path), "{name}: {path:?}");
        assert_eq!(fabric.frame_drops(), FrameDrops::default(), "{name}");
    }
}

/// Pins a program to `/run/bpf/drop` that drops every frame (`TC_ACT_SHOT`), where `tc` finds it.
fn pin_dropping_program() {
    // r0 = 2; return r0
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let path = CString::new("/run/bpf/drop").unwrap();
    std::fs::create_dir("/run/bpf").unwrap();
    mount(
        Some("bpf"),
        "/run/bpf",
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let license = c"MIT";
    let classifier = 3u64;
    let load = [
        classifier | 2 << 32,
        instructions.as_ptr() as u64,
        license.as_ptr() as u64,
    ];
    // SAFETY: instructions and license outlive the call.
    let program = unsafe { libc::syscall(libc::SYS_bpf, 5, &load, size_of_val(&load)) };
    assert!(program >= 0, "{}", std::io::Error::last_os_error());
    let pin = [path.as_ptr() as u64, program as u64];
    // SAFETY: the path outlives the call; nobody else has the descriptor.
    let pinned = unsafe {
        let pinned = libc::syscall(libc::SYS_bpf, 6, &pin, size_of_val(&pin));
        libc::close(program as i32);
        pinned
    };
    assert_eq!(pinned, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_frame_that_the_tap_refuses_is_told_too() {
    let (mut fabric, _polled) = watched(host_lab());
    run("ip link set tap0 down");
    for sequence in 1..=FRAMES {
        let refused = Write::Dropped(WriteDrop::LinkDown);
        assert_eq!(send(&mut fabric, VM0, VM1, sequence), refused);
    }
    let told = ["vm0", "DEV_READY", "tun_get_user"];
    assert_eq!(summary(&fabric.frame_drops()), expected(10, told));
    let path = fabric
        .path_state(VM0, mac(VM1), Some(VM1))
        .unwrap()
        .unwrap();
    assert!(!path.source.unwrap().is_up);
}

#[test]
fn what_goes_astray_is_no_drop_and_shows_in_the_forwarding_tables_and_in_counters() {
    for (command, leads_to, floods) in [
        (
            "bridge fdb replace 02:00:0a:4d:00:03 dev tap2 master static",
            Some(DropPlace::Port(VM2)),
            false,
        ),
        ("ip link set tap1 down", None, true),
    ] {
        let (mut fabric, _polled) = watched(LabConfig {
            filter: false,
            ..host_lab()
        });
        carry_out(&[command]);
        let before = fabric.port_counters().unwrap();
        for sequence in 1..=FRAMES {
            assert_eq!(send(&mut fabric, VM0, VM1, sequence), Write::Sent);
        }
        assert_eq!(fabric.frame_drops(), FrameDrops::default());
        empty(&mut fabric);
        let path = fabric
            .path_state(VM0, mac(VM1), Some(VM1))
            .unwrap()
            .unwrap();
        assert_eq!(path.forwarding, leads_to);
        assert_eq!(path.destination.unwrap().is_up, !floods);
        let after = fabric.port_counters().unwrap();
        let vms: Vec<VmId> = after.iter().map(|(vm, _)| *vm).collect();
        assert_eq!(vms, [VM0, VM1, VM2]);
        let grown = |vm: VmId| {
            let [(_, before), (_, after)] = [&before, &after].map(|all| all[vm.index()]);
            [
                after.rx_packets - before.rx_packets,
                after.tx_packets - before.tx_packets,
                after.tx_dropped - before.tx_dropped,
            ]
        };
        assert_eq!(grown(VM0), [10, 0, 0], "{command}");
        assert_eq!(grown(VM1), [0, 0, 0], "{command}");
        assert_eq!(grown(VM2), [0, 10, 0], "{command}");
    }
}

nix::ioctl_write_ptr!(attach_filter, b'T', 213, libc::sock_fprog);
nix::ioctl_write_ptr_bad!(
    set_tx_filter,
    nix::request_code_write!(b'T', 209, 4),
    [u16; 5]
);

/// Has the TAP of that name take no frame.
fn take_nothing(tap: &str) {
    let mut filter = [libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel reads the program, which outlives the call.
    unsafe { attach_filter(copy_of_descriptor(tap).as_raw_fd(), &program) }.unwrap();
}

#[test]
fn what_a_tap_filters_is_told_and_a_flooded_frame_once() {
    // Names that no other test has, by which the descriptors are found.
    let unfiltered = LabConfig {
        filter: false,
        tap_prefix: "deaf".to_owned(),
        ..host_lab()
    };
    let (mut fabric, _polled) = watched(unfiltered.clone());
    take_nothing("deaf1");
    for sequence in 1..=FRAMES {
        assert_eq!(send(&mut fabric, VM0, VM1, sequence), Write::Sent);
    }
    let told = ["vm1", "SOCKET_FILTER", "tun_net_xmit"];
    assert_eq!(summary(&fabric.frame_drops()), expected(10, told));
    drop(fabric);

    // One address, which is nobody's.
    let (mut fabric, _polled) = watched(unfiltered.clone());
    let filter = [0, 1, 0xffff, 0xffff, 0xff00];
    // SAFETY: the kernel reads a `struct tun_filter` of one address.
    unsafe { set_tx_filter(copy_of_descriptor("deaf1").as_raw_fd(), &filter) }.unwrap();
    for sequence in 1..=FRAMES {
        assert_eq!(send(&mut fabric, VM0, VM1, sequence), Write::Sent);
    }
    let told = ["vm1", "TAP_TXFILTER", "tun_net_xmit"];
    assert_eq!(summary(&fabric.frame_drops()), expected(10, told));
    drop(fabric);

    let (mut fabric, _polled) = watched(unfiltered);
    take_nothing("deaf1");
    take_nothing("deaf2");
    // One that is for a VM is told of at its port, too, if that is not the first.
    for vm in [1, 2] {
        run(&format!(
            "bridge fdb del {} dev deaf{vm} master",
            mac(VmId(vm))
        ));
    }
    let ports = |fabric: &mut TapFabric| -> Vec<DropPlace> {
        let drops = fabric.frame_drops().drops;
        drops.iter().map(|drop| drop.place).collect()
    };
    for vm in [VM1, VM2] {
        assert_eq!(send(&mut fabric, VM0, vm, 1), Write::Sent);
        let ports = ports(&mut fabric);
        assert!(ports.contains(&DropPlace::Port(vm)), "{ports:?}");
        assert!(ports.len() <= 2, "{ports:?}");
    }
    let stranger = MacAddr([2, 0, 0, 0, 0, 0x77]);
    for destination in [stranger, MacAddr::BROADCAST] {
        // The same frame is another one when it is sent again.
        for sequence in [1, 1, 2, 3] {
            let frame = echo(mac(VM0), destination, sequence, LENGTH);
            assert_eq!(fabric.write(Instant::ZERO, VM0, &frame), Write::Sent);
        }
        let filtered = fabric.frame_drops().drops;
        let filtered = filtered
            .iter()
            .filter(|drop| drop.reason.as_str() == "SOCKET_FILTER");
        assert_eq!(filtered.count(), 4, "{destination}");
    }
}

/// Of the rest XDP has tracepoints that tell no frame: the states and counters of the ports show it.
#[test]
fn what_xdp_drops_in_view_is_told_and_the_rest_shows_in_states_and_counters() {
    let xdp = || LabConfig {
        fabric: FabricKind::Xdp,
        ..host_lab()
    };
    for (name, commands, length, told, dropped) in [
        (
            "the queue of the destination is full",
            &["ip link set tap1 txqueuelen 4"][..],
            LENGTH,
            BTreeMap::new(),
            6,
        ),
        (
            "the destination is down",
            &["ip link set tap1 down"],
            LENGTH,
            BTreeMap::new(),
            0,
        ),
        (
            "the frame is longer than the destination's MTU",
            &["ip link set tap1 mtu 79"],
            LENGTH,
            BTreeMap::new(),
            0,
        ),
        (
            // Such a frame goes through the kernel's general program, which drops it in view.
            "the frame is longer than a page",
            &[],
            4_000,
            expected(10, ["vm0", "XDP", "do_xdp_generic"]),
            0,
        ),
        (
            "the destination was deleted",
            &["ip link del tap1"],
            LENGTH,
            BTreeMap::new(),
            0,
        ),
    ] {
        let (mut fabric, _polled) = watched(xdp());
        carry_out(commands);
        for sequence in 1..=FRAMES {
            let frame = echo(mac(VM0), mac(VM1), sequence, length);
            fabric.write(Instant::ZERO, VM0, &frame);
        }
        assert_eq!(summary(&fabric.frame_drops()), told, "{name}");
        let counters = fabric.port_counters().unwrap();
        let of_destination = counters.iter().find(|(vm, _)| *vm == VM1);
        let counted = of_destination.map_or(0, |(_, counters)| counters.tx_dropped);
        assert_eq!(counted, dropped, "{name}");
        let path = fabric
            .path_state(VM0, mac(VM1), Some(VM1))
            .unwrap()
            .unwrap();
        let port = path.destination;
        let shows = match name {
            "the destination is down" => port.is_some_and(|port| !port.is_up),
            "the frame is longer than the destination's MTU" => {
                port.is_some_and(|port| port.mtu == 79)
            }
            "the destination was deleted" => port.is_none(),
            _ => port.is_some_and(|port| port.is_up),
        };
        assert!(shows, "{name}: {path:?}");
    }
}

#[test]
fn what_other_namespaces_drop_is_not_told() {
    let (mut other, _other_polled) = watched(host_lab());
    run("ip link set tap1 txqueuelen 1");
    // The other lab's descriptors work from here on, too.
    let (mut fabric, _polled) = watched(host_lab());
    for sequence in 1..=FRAMES {
        assert_eq!(send(&mut other, VM0, VM1, sequence), Write::Sent);
    }
    assert_eq!(fabric.frame_drops(), FrameDrops::default());
    let told = ["vm1", "FULL_RING", "tun_net_xmit"];
    assert_eq!(summary(&other.frame_drops()), expected(9, told));
}

#[test]
fn the_poll_tells_of_drops_and_what_the_ring_does_not_hold_is_counted() {
    let (mut fabric, mut polled) = watched(host_lab());
    run("ip link set tap1 txqueuelen 1");
    assert_eq!(send(&mut fabric, VM0, VM1, 0), Write::Sent);
    polled.ready();
    let all = 5_000;
    for sequence in 0..all {
        assert_eq!(send(&mut fabric, VM0, VM1, sequence), Write::Sent);
        if sequence == 0 {
            wait_until("the poll to tell", || {
                polled.ready().contains(&Source::Drops)
            });
        }
    }
    let drops = fabric.frame_drops();
    assert!(drops.missed > 0);
    assert_eq!(drops.drops.len() as u64 + drops.missed, u64::from(all));
    let sequence_of = |drop: &FrameDrop| {
        let frame = drop.frame.bytes();
        u16::from_be_bytes([frame[40], frame[41]])
    };
    let sequences = drops.drops.iter().map(sequence_of);
    assert!(sequences.eq(0..drops.drops.len() as u16), "the first ones");
    // There is room again.
    assert_eq!(send(&mut fabric, VM0, VM1, all), Write::Sent);
    let drops = fabric.frame_drops();
    assert_eq!((drops.drops.len(), drops.missed), (1, 0));
}

#[test]
fn a_frame_is_told_of_with_its_tag() {
    let (mut fabric, _polled) = watched(host_lab());
    run("bridge link set dev tap0 state 2");
    for tag in [&[0x81, 0, 0x20, 42][..], &[0x88, 0xa8, 0x60, 7], &[]] {
        let frame = echo(mac(VM0), mac(VM1), 1, LENGTH);
        let (addresses, rest) = frame.split_at(12);
        let frame = [addresses, tag, rest].concat();
        assert_eq!(fabric.write(Instant::ZERO, VM0, &frame), Write::Sent);
        let drops = fabric.frame_drops().drops;
        assert_eq!(drops.len(), 1);
        assert_eq!(drops[0].frame.bytes(), &frame[..DROPPED_BYTES]);
    }
}

#[test]
fn what_is_dropped_between_two_bridges_is_told_by_the_name_of_the_link() {
    let lab = LabConfig {
        ports_per_bridge: 2,
        vms: 3,
        ..host_lab()
    };
    let bridge = lab.bridge.clone();
    // vm2 is on the second leaf, whose port of the spine comes second in the pair.
    let (_, towards_leaf) = uplink_names(&bridge, 1);
    let (mut fabric, _polled) = watched(lab);
    let path = fabric
        .path_state(VM0, mac(VM2), Some(VM2))
        .unwrap()
        .unwrap();
    assert_eq!(path.forwarding, Some(DropPlace::Port(VM2)));
    let bridge_of = |port: Option<PortState>| port.unwrap().bridge.unwrap().name;
    for (port, leaf) in [(path.source, 0), (path.destination, 1)] {
        assert_eq!(bridge_of(port).as_str(), leaf_name(&bridge, leaf));
    }
    run(&format!("ip link set {towards_leaf} mtu 79"));
    for sequence in 1..=FRAMES {
        assert_eq!(send(&mut fabric, VM0, VM2, sequence), Write::Sent);
    }
    let told = [&towards_leaf, "NOT_SPECIFIED", "br_dev_queue_push_xmit"];
    assert_eq!(summary(&fabric.frame_drops()), expected(10, told));
    // The second leaf does not know where it is any more.
    run(&format!("bridge fdb del {} dev tap2 master", mac(VM2)));
    let path = fabric
        .path_state(VM0, mac(VM2), Some(VM2))
        .unwrap()
        .unwrap();
    assert_eq!(path.forwarding, None);
}
