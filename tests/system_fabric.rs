//! The fabric of TAPs on a bridge by itself, on the real kernel, each test in namespaces of its own.

mod support;

use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};
use support::{
    copy_of_descriptor, enter_own_network, fabric, host_lab, link, link_names, links,
    make_lab_by_hand, run, wait_until, wait_until_forwarding,
};
use tap_reactor::fabric::{Fabric, LinkEvent, LinkFate, Read, Write, WriteDrop};
use tap_reactor::reactor::Source;
use tap_reactor::system::{
    LabConfig, LinkChange, LinkKind, Mark, Netlink, NetnsChoice, Owner, Prepared, StopSignals, Tap,
    TapFabric,
};
use tap_reactor::time::Instant;
use tap_reactor::topology::BRIDGE_PORTS;
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::MacAddr;

fn mac(vm: u32) -> MacAddr {
    let [a, b, c, d] = (0x0a4d_0002 + vm).to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn rx_filter(vm: u32) -> RxFilter {
    RxFilter::new(mac(vm))
}

fn plug_all(fabric: &mut TapFabric, count: u32) {
    for vm in 0..count {
        fabric.plug(VmId(vm), &rx_filter(vm)).unwrap();
    }
}

/// A frame of the local experimental EtherType (IEEE 802, 88b5).
fn frame(from: u32, to: MacAddr) -> Vec<u8> {
    [&to.0[..], &mac(from).0[..], &[0x88, 0xb5], &[0x5a; 50]].concat()
}

#[test]
fn a_tap_is_marked_joined_to_the_bridge_and_up() {
    enter_own_network();
    let lab = LabConfig {
        mtu: 1400,
        tx_queue_length: Some(77),
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 2);

    assert_eq!(link_names(), ["lo", "br0", "tap0", "tap1"]);
    let bridge = link("br0");
    assert_eq!(bridge.kind, LinkKind::Bridge);
    assert_eq!(Some(bridge.index), fabric.bridge_index());
    for name in ["tap0", "tap1"] {
        let tap = link(name);
        assert_eq!((tap.kind, tap.master), (LinkKind::Tap, Some(bridge.index)));
    }
    for link in &links()[1..] {
        let mark = Mark::parse(link.alias.as_deref().unwrap()).unwrap();
        assert_eq!(mark.owner(), Owner::Alive);
        let chunk = u32::from(link.name != "br0");
        assert_eq!(link.group, mark.group(chunk));
        assert!(link.up);
        assert_eq!(link.mtu, 1400);
    }
    let details = run("ip -details link show tap1");
    assert!(
        details.contains("qlen 77") && details.contains("persist on"),
        "{details}"
    );
    let details = run("ip -details link show br0");
    for setting in ["forward_delay 0 ", "stp_state 0 ", "mcast_snooping 0 "] {
        assert!(details.contains(setting), "{details}");
    }
    assert_eq!(fabric.warnings().len(), 0);
    // IPv6 is off on each of our links, and only there.
    assert_eq!(run("ip -6 address"), "");
    assert_eq!(
        run("cat /proc/sys/net/ipv6/conf/default/disable_ipv6"),
        "0\n"
    );
    assert_eq!(run("cat /proc/sys/net/ipv6/conf/tap0/disable_ipv6"), "1\n");
}

#[test]
fn a_frame_crosses_the_bridge_before_its_write_returns() {
    for netns in [NetnsChoice::Private, NetnsChoice::Host] {
        enter_own_network();
        let lab = LabConfig {
            netns,
            vms: 3,
            ..LabConfig::default()
        };
        let (mut fabric, mut poll) = fabric(lab).unwrap();
        plug_all(&mut fabric, 3);
        let mut buffer = [0; 2048];
        for vm in 0..3 {
            assert_eq!(
                fabric.read(Instant::ZERO, VmId(vm), &mut buffer),
                Read::Empty
            );
        }

        let broadcast = frame(0, MacAddr::BROADCAST);
        assert_eq!(
            fabric.write(Instant::ZERO, VmId(0), &broadcast),
            Write::Sent
        );
        for vm in [1, 2] {
            assert_eq!(
                fabric.read(Instant::ZERO, VmId(vm), &mut buffer),
                Read::Frame(64)
            );
            assert_eq!(buffer[..64], broadcast);
        }
        assert_eq!(
            fabric.read(Instant::ZERO, VmId(0), &mut buffer),
            Read::Empty
        );

        // vm0's port has been learnt, so nobody but vm0 gets the answer; and the poll says so.
        poll.ready();
        assert_eq!(
            fabric.write(Instant::ZERO, VmId(1), &frame(1, mac(0))),
            Write::Sent
        );
        assert_eq!(poll.ready(), [Source::Tap(VmId(0))]);
        assert_eq!(
            fabric.read(Instant::ZERO, VmId(2), &mut buffer),
            Read::Empty
        );
        assert_eq!(
            fabric.read(Instant::ZERO, VmId(0), &mut buffer),
            Read::Frame(64)
        );
    }
}

#[test]
fn what_a_tap_cannot_take_or_give_is_an_outcome_and_not_an_error() {
    enter_own_network();
    let (mut fabric, _poll) = fabric(LabConfig {
        tx_queue_length: Some(5),
        ..host_lab()
    })
    .unwrap();
    plug_all(&mut fabric, 2);
    let mut buffer = [0; 2048];
    for _ in 0..8 {
        assert_eq!(
            fabric.write(Instant::ZERO, VmId(0), &frame(0, MacAddr::BROADCAST)),
            Write::Sent
        );
    }
    assert_eq!(fabric.queue_drops().unwrap(), [(VmId(0), 0), (VmId(1), 3)]);

    run("ip link set tap0 down");
    let down = Write::Dropped(WriteDrop::LinkDown);
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(0), &frame(0, MacAddr::BROADCAST)),
        down
    );
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(0), &[]),
        Write::Dropped(WriteDrop::Refused)
    );
    run("ip link delete tap1");
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(1), &mut buffer),
        Read::Failed
    );
    assert!(matches!(
        fabric.write(Instant::ZERO, VmId(1), &frame(1, mac(0))),
        Write::Dropped(_)
    ));
    // Never plugged in.
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(9), &mut buffer),
        Read::Failed
    );
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(9), &frame(9, mac(0))),
        down
    );
}

#[test]
fn changes_of_links_that_the_kernel_could_not_keep_are_found_by_looking() {
    enter_own_network();
    let lab = LabConfig {
        vms: 3,
        ..host_lab()
    };
    let (mut fabric, mut poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 3);
    fabric.watch_links();
    assert!(fabric.warnings().is_empty(), "{:?}", fabric.warnings());
    // What the run does is its own affair.
    fabric.unplug(&[VmId(2)]).unwrap();
    fabric.plug(VmId(2), &rx_filter(2)).unwrap();
    assert_eq!(fabric.link_events(), []);

    // Far more than a socket holds, all of it about somebody else's link.
    run("ip link add uplink type bridge");
    let mut netlink = Netlink::open().unwrap();
    for turn in 0..2000 {
        let change = LinkChange {
            up: Some(turn % 2 == 0),
            ..LinkChange::default()
        };
        netlink.change_link("uplink", &change).unwrap();
    }
    run("ip link delete tap1");
    run("ip link set tap0 nomaster");
    assert!(poll.ready().contains(&Source::Links));
    let of = |link: &str, vm: u32, change: LinkFate| LinkEvent {
        link: link.to_owned(),
        vm: Some(VmId(vm)),
        change,
    };
    let bridge = "br0".to_owned();
    assert_eq!(
        fabric.link_events(),
        [
            of("tap0", 0, LinkFate::Left { bridge }),
            of("tap1", 1, LinkFate::Deleted),
        ]
    );
    assert_eq!(fabric.link_events(), []);
    // A VM whose TAP is gone leaves like any other.
    fabric.set_rx_filter(VmId(1), &rx_filter(1)).unwrap();
    fabric.unplug(&[VmId(1)]).unwrap();
    fabric.plug(VmId(1), &rx_filter(1)).unwrap();
    // Its name may be somebody else's by then.
    for leaving in [&[VmId(1)][..], &[VmId(1), VmId(2)]] {
        run("ip link delete tap1");
        run("ip link add tap1 type bridge");
        fabric.unplug(leaving).unwrap();
        assert_eq!(link("tap1").kind, LinkKind::Bridge);
        run("ip link delete tap1");
        fabric.plug(VmId(1), &rx_filter(1)).unwrap();
    }
    assert_eq!(link_names(), ["lo", "br0", "tap0", "uplink", "tap1"]);
}

#[test]
fn what_a_prepared_tap_had_dropped_before_is_not_counted() {
    enter_own_network();
    make_lab_by_hand();
    for tap in ["tap0", "tap1"] {
        run(&format!("ip link set {tap} txqueuelen 5"));
    }
    let broadcast = frame(0, MacAddr::BROADCAST);
    let mut buffer = [0; 2048];
    // Ports of a bridge forward a moment after somebody has attached to their TAPs.
    let taps = ["tap0", "tap1"].map(|name| Tap::attach(name).unwrap());
    wait_until("a past with drops", || {
        assert_eq!(taps[0].write(&broadcast), Write::Sent);
        link("tap1").tx_dropped >= 3
    });
    drop(taps);
    // A process that another test has just forked has copies of their descriptors until it executes its program.
    wait_until("nobody to be attached", || {
        ["tap0", "tap1"].iter().all(|tap| !link(tap).carrier)
    });

    let lab = LabConfig {
        prepared: Prepared::BridgeAndTaps,
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 2);
    wait_until_forwarding(&mut fabric);
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(1), &mut buffer),
        Read::Empty
    );
    assert_eq!(fabric.queue_drops().unwrap(), [(VmId(0), 0), (VmId(1), 0)]);
    for _ in 0..9 {
        assert_eq!(
            fabric.write(Instant::ZERO, VmId(0), &broadcast),
            Write::Sent
        );
    }
    assert_eq!(fabric.queue_drops().unwrap(), [(VmId(0), 0), (VmId(1), 4)]);
}

#[test]
fn what_a_vm_that_has_left_did_not_get_is_still_counted() {
    enter_own_network();
    let lab = LabConfig {
        vms: 3,
        tx_queue_length: Some(5),
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 3);
    let overflow = |fabric: &mut TapFabric, frames: u32| {
        for _ in 0..frames {
            let written = fabric.write(Instant::ZERO, VmId(0), &frame(0, MacAddr::BROADCAST));
            assert_eq!(written, Write::Sent);
        }
    };
    let vms = [VmId(0), VmId(1), VmId(2)];
    let drops = |fabric: &mut TapFabric| {
        let drops = fabric.queue_drops().unwrap();
        assert_eq!(drops.iter().map(|(vm, _)| *vm).collect::<Vec<_>>(), vms);
        drops.iter().map(|(_, frames)| *frames).collect::<Vec<_>>()
    };
    overflow(&mut fabric, 8);
    fabric.unplug(&[VmId(1)]).unwrap();
    assert_eq!(drops(&mut fabric), [0, 3, 3]);
    // It comes back, with another TAP.
    fabric.plug(VmId(1), &rx_filter(1)).unwrap();
    overflow(&mut fabric, 7);
    assert_eq!(drops(&mut fabric), [0, 5, 10]);
    fabric.unplug(&[VmId(1), VmId(2)]).unwrap();
    assert_eq!(drops(&mut fabric), [0, 5, 10]);
}

#[test]
fn the_host_side_of_a_private_lab_is_quiet_and_has_its_address() {
    enter_own_network();
    let host_address = "10.77.0.1/16".parse().unwrap();
    let lab = LabConfig {
        host_address: Some(host_address),
        ..LabConfig::default()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 2);
    assert!(
        run("ip address show dev br0")
            .contains("inet 10.77.0.1/16 brd 10.77.255.255 scope global br0")
    );
    assert!(run("ip link show dev br0").contains("link/ether 02:00:0a:4d:00:01"));
    assert!(run("ip route").contains("10.77.0.0/16 dev br0"));
    assert_eq!(run("ip -6 address"), "");
    if std::path::Path::new("/proc/sys/net/bridge").exists() {
        assert_eq!(
            run("cat /proc/sys/net/bridge/bridge-nf-call-iptables"),
            "0\n"
        );
    }
    let error = fabric
        .plug(VmId(2), &RxFilter::new(MacAddr([2, 0, 10, 77, 0, 1])))
        .unwrap_err();
    assert!(
        error.to_string().contains("address of bridge br0"),
        "{error}"
    );
    let error = fabric.plug(VmId(1), &rx_filter(1)).unwrap_err();
    assert!(error.to_string().contains("plugged in already"), "{error}");
}

#[test]
fn the_end_of_a_lab_removes_its_links_and_no_others() {
    for by_drop in [false, true] {
        enter_own_network();
        run("ip link add uplink type bridge");
        let (mut fabric, _poll) = fabric(host_lab()).unwrap();
        plug_all(&mut fabric, 2);
        if by_drop {
            // In our group, but without our mark: then each of ours goes by itself.
            run(&format!("ip link set uplink group {}", link("br0").group));
            drop(fabric);
        } else {
            fabric.close().unwrap();
        }
        assert_eq!(link_names(), ["lo", "uplink"]);
    }
}

#[test]
fn a_vm_that_is_unplugged_takes_its_tap_along_and_may_come_back() {
    enter_own_network();
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    plug_all(&mut fabric, 2);
    fabric.unplug(&[VmId(0)]).unwrap();
    fabric.unplug(&[VmId(0)]).unwrap();
    assert_eq!(link_names(), ["lo", "br0", "tap1"]);
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(0), &mut [0; 64]),
        Read::Failed
    );
    fabric.plug(VmId(0), &rx_filter(0)).unwrap();
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(1), &frame(1, MacAddr::BROADCAST)),
        Write::Sent
    );
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(0), &mut [0; 64]),
        Read::Frame(64)
    );
}

#[test]
fn a_vm_is_unplugged_although_a_copy_of_its_descriptor_is_open() {
    enter_own_network();
    let lab = LabConfig {
        tap_prefix: "copied".to_owned(),
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 2);
    let copy = copy_of_descriptor("copied1");
    fabric.unplug(&[VmId(1)]).unwrap();
    assert_eq!(link_names(), ["lo", "br0", "copied0"]);
    fabric.plug(VmId(1), &rx_filter(1)).unwrap();
    drop(copy);
    assert_eq!(link_names(), ["lo", "br0", "copied0", "copied1"]);
}

#[test]
fn a_name_that_is_taken_is_named_and_nothing_is_made() {
    for (taken, advice) in [
        (
            "br0",
            "another --bridge, or add TAPs to that one: --join br0",
        ),
        ("tap1", "another --tap-prefix"),
    ] {
        enter_own_network();
        run(&format!("ip link add {taken} type bridge"));
        let error = fabric(host_lab()).map(drop).unwrap_err().to_string();
        assert!(
            error.contains(&format!(
                "{taken}: a link of that name exists, a bridge; choose"
            )),
            "{error}"
        );
        assert!(error.ends_with(advice), "{error}");
        assert_eq!(link_names(), ["lo", taken]);
        run(&format!("ip link delete {taken}"));
        assert!(fabric(host_lab()).is_ok());
    }
    // A running lab's own names are not in its way.
    enter_own_network();
    let lab = LabConfig {
        bridge: "tap7".to_owned(),
        ..host_lab()
    };
    let (mut running, _poll) = fabric(lab).unwrap();
    plug_all(&mut running, 2);
    running.check_names(3).unwrap();
    run("ip tuntap add dev tap2 mode tap");
    assert!(running.check_names(3).is_err());

    // Somebody takes the name after it was checked: the device is not taken over.
    enter_own_network();
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    run("ip tuntap add dev tap0 mode tap");
    let error = fabric.plug(VmId(0), &rx_filter(0)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    assert!(
        error.to_string().contains("the name tap0 is taken"),
        "{error}"
    );
    drop(fabric);
    assert_eq!(link_names(), ["lo", "tap0"]);
}

#[test]
fn vms_are_plugged_in_together_or_none_of_them_is() {
    enter_own_network();
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    let filters: Vec<RxFilter> = (0..=BRIDGE_PORTS).map(rx_filter).collect();
    let vms = |range: std::ops::Range<u32>| -> Vec<(VmId, &RxFilter)> {
        let vms = range.map(|vm| (VmId(vm), &filters[vm as usize]));
        vms.collect()
    };
    let taps = || links().len() - 2;
    fabric.plug_all(&vms(0..70)).unwrap();
    assert_eq!(taps(), 70);
    let (first, last) = (link("tap0"), link("tap69"));
    assert!(last.up && last.carrier && last.master == first.master);
    assert_eq!(last.alias, first.alias);
    fabric.write(Instant::ZERO, VmId(69), &frame(69, mac(0)));
    let mut buffer = [0; 2048];
    wait_until("a frame from one to the other", || {
        matches!(
            fabric.read(Instant::ZERO, VmId(0), &mut buffer),
            Read::Frame(_)
        )
    });

    // A name is taken, with others of the lab before and behind it, in other requests and the same.
    run("ip tuntap add dev tap160 mode tap");
    let error = fabric.plug_all(&vms(70..170)).unwrap_err();
    assert!(
        error.to_string().contains("the name tap160 is taken"),
        "{error}"
    );
    wait_until("those before it to go", || taps() == 71);
    run("ip link del tap160");

    // The kernel refuses one among the requests that it gets together: there are more ports than a bridge can have.
    let error = fabric.plug_all(&vms(70..BRIDGE_PORTS + 1)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EXFULL));
    assert!(
        error.to_string().starts_with("add tap1023 to bridge br0: "),
        "{error}"
    );
    wait_until("all of them to go", || taps() == 70);

    fabric.plug_all(&vms(70..BRIDGE_PORTS)).unwrap();
    assert_eq!(taps(), BRIDGE_PORTS as usize);
    fabric.close().unwrap();
    assert_eq!(link_names(), ["lo"]);
}

#[test]
fn the_port_after_the_last_is_refused_and_leaves_no_tap() {
    enter_own_network();
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    plug_all(&mut fabric, BRIDGE_PORTS);
    let error = fabric
        .plug(VmId(BRIDGE_PORTS), &rx_filter(BRIDGE_PORTS))
        .unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EXFULL));
    assert!(
        error.to_string().starts_with("add tap1023 to bridge br0: "),
        "{error}"
    );
    // Its descriptor is closed; a process that another test has just forked has a copy until it executes its program.
    wait_until("the TAP without a port to go", || {
        links().len() == 2 + BRIDGE_PORTS as usize
    });
    assert_eq!(fabric.queue_drops().unwrap().len(), BRIDGE_PORTS as usize);
    fabric.close().unwrap();
    assert_eq!(link_names(), ["lo"]);
}

#[test]
fn a_bridge_that_is_joined_keeps_its_address_and_mtu_while_vms_come_and_go() {
    enter_own_network();
    run("ip link add cni0 mtu 1400 type bridge");
    run("ip link set cni0 up");
    let own = || (link("cni0").mac, link("cni0").mtu);
    let before = own();
    let (mut fabric, _poll) = fabric(LabConfig {
        prepared: Prepared::Bridge,
        bridge: "cni0".to_owned(),
        vms: 3,
        mtu: 1300,
        ..host_lab()
    })
    .unwrap();
    plug_all(&mut fabric, 3);
    let (bridge, tap) = (link("cni0"), link("tap0"));
    assert_eq!((tap.master, tap.mtu), (Some(bridge.index), 1400));
    assert_eq!(own(), before);
    for leaving in [&[VmId(0)][..], &[VmId(1), VmId(2)]] {
        fabric.unplug(leaving).unwrap();
        assert_eq!(own(), before, "without {leaving:?}");
    }
    assert_eq!(link_names(), ["lo", "cni0"]);
    fabric.plug(VmId(2), &rx_filter(2)).unwrap();
    assert_eq!(own(), before);
    fabric.close().unwrap();
    assert_eq!(
        (link_names(), own()),
        (vec!["lo".into(), "cni0".into()], before)
    );
}

#[test]
fn an_attached_lab_is_used_and_left_as_it_was() {
    enter_own_network();
    make_lab_by_hand();
    let state = || {
        ["br0", "tap0", "tap1"].map(|name| {
            let link = link(name);
            (link.index, link.alias, link.group, link.up)
        })
    };
    let before = state();
    let (mut fabric, _poll) = fabric(LabConfig {
        prepared: Prepared::BridgeAndTaps,
        ..host_lab()
    })
    .unwrap();
    plug_all(&mut fabric, 2);
    wait_until_forwarding(&mut fabric);
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(0), &frame(0, MacAddr::BROADCAST)),
        Write::Sent
    );
    assert_eq!(
        fabric.read(Instant::ZERO, VmId(1), &mut [0; 64]),
        Read::Frame(64)
    );
    assert_eq!(fabric.queue_drops().unwrap(), [(VmId(0), 0), (VmId(1), 0)]);
    let error = Tap::attach("tap0").unwrap_err();
    assert!(
        error.to_string().contains("another process is attached"),
        "{error}"
    );
    fabric.unplug(&[VmId(0)]).unwrap();
    fabric.close().unwrap();
    assert_eq!(link_names(), ["lo", "br0", "tap0", "tap1"]);
    assert_eq!(state(), before);
}

#[test]
fn an_incomplete_lab_is_not_attached_to_and_nothing_is_made() {
    enter_own_network();
    let attach = || LabConfig {
        prepared: Prepared::BridgeAndTaps,
        ..host_lab()
    };
    let refusal = || fabric(attach()).map(drop).unwrap_err().to_string();
    let steps = [
        (
            "ip tuntap add dev br0 mode tap",
            "attach to bridge br0: there is no such link",
        ),
        (
            "ip link delete br0",
            "attach to bridge br0: it is not a bridge",
        ),
        (
            "ip link add br0 type bridge",
            "attach to bridge br0: there is no such link",
        ),
        ("ip link set br0 up", "attach to bridge br0: it is down"),
        (
            "ip link add tap0 type bridge",
            "attach to TAP tap0: there is no such link",
        ),
        ("ip link delete tap0", "attach to TAP tap0: it is not a TAP"),
        (
            "ip tuntap add dev tap0 mode tun",
            "attach to TAP tap0: there is no such link",
        ),
        ("ip link delete tap0", "attach to TAP tap0: it is not a TAP"),
        (
            "ip tuntap add dev tap0 mode tap",
            "attach to TAP tap0: there is no such link",
        ),
        (
            "ip link set tap0 master br0",
            "attach to TAP tap0: it is not a port of bridge br0",
        ),
        ("ip link set tap0 up", "attach to TAP tap0: it is down"),
        (
            "ip link set tap0 mtu 1300",
            "attach to TAP tap1: there is no such link",
        ),
        (
            "ip link set tap0 mtu 1500",
            "attach to TAP tap0: its MTU is 1300, the lab's 1500",
        ),
        (
            "ip link set tap0 mtu 1600",
            "attach to TAP tap1: there is no such link",
        ),
    ];
    for (next_step, expected) in steps {
        let error = refusal();
        assert!(error.starts_with(expected), "{error}, not: {expected}");
        run(next_step);
    }
    assert_eq!(link_names(), ["lo", "br0", "tap0"]);
}

#[test]
fn a_machine_without_the_driver_is_told_what_to_do_and_left_clean() {
    enter_own_network();
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    run("mount -t tmpfs tmpfs /dev/net");
    let error = fabric.plug(VmId(0), &rx_filter(0)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOENT));
    let text = error.to_string();
    assert!(
        text.starts_with(
            "create TAP tap0 (open /dev/net/tun): No such file or directory (ENOENT); "
        ),
        "{text}"
    );
    assert!(text.contains("modprobe tun"), "{text}");
    drop(fabric);
    assert_eq!(link_names(), ["lo"]);
}

#[test]
fn a_read_only_proc_sys_is_a_warning_that_is_given_once() {
    enter_own_network();
    run("mount --bind /proc/sys /proc/sys");
    run("mount -o remount,bind,ro /proc/sys");
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    plug_all(&mut fabric, 2);
    let [warning] = fabric.warnings() else {
        panic!("one warning, not {:?}", fabric.warnings());
    };
    assert_eq!(warning.errno(), Some(Errno::EROFS));
    assert!(
        warning
            .operation()
            .contains("/proc/sys/net/ipv6/conf/br0/disable_ipv6"),
        "{warning}"
    );
}

#[test]
fn a_port_that_does_not_forward_yet_is_waited_for_until_a_signal_comes() {
    for (prepared, port) in [
        (Prepared::Nothing, "br0-1u"),
        (Prepared::Nothing, "br0-1d"),
        (Prepared::BridgeAndTaps, "tap1"),
    ] {
        enter_own_network();
        if prepared == Prepared::BridgeAndTaps {
            make_lab_by_hand();
        }
        let (mut fabric, _poll) = fabric(LabConfig {
            prepared,
            ports_per_bridge: 1,
            ..host_lab()
        })
        .unwrap();
        plug_all(&mut fabric, 2);
        wait_until_forwarding(&mut fabric);
        run(&format!("ip link set {port} down"));
        let mut signals = StopSignals::new().unwrap();
        raise(Signal::SIGTERM).unwrap();
        let stopped_by = fabric.wait_until_forwarding(&signals).unwrap();
        assert_eq!(stopped_by, Some(Signal::SIGTERM), "{port}");
        signals.release().unwrap();
        run(&format!("ip link set {port} up"));
        wait_until_forwarding(&mut fabric);
        let ports = run("bridge -oneline link show");
        for line in ports.lines() {
            assert!(line.contains("state forwarding"), "{port}: {ports}");
        }
    }
}

#[test]
fn the_host_is_heard_as_soon_as_the_lab_forwards() {
    enter_own_network();
    let lab = LabConfig {
        host_address: Some("10.77.0.1/16".parse().unwrap()),
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    // Without ports there is nobody to wait for.
    wait_until_forwarding(&mut fabric);
    plug_all(&mut fabric, 2);
    wait_until_forwarding(&mut fabric);
    assert!(run("ip link show dev br0").contains("state UP"));
    // Ports that do not forward are waited for; the bridge has its carrier from them.
    for tap in ["tap0", "tap1"] {
        run(&format!("ip link set {tap} down"));
    }
    wait_until("the bridge to lose its carrier", || !link("br0").carrier);
    let mut signals = StopSignals::new().unwrap();
    raise(Signal::SIGTERM).unwrap();
    let stopped_by = fabric.wait_until_forwarding(&signals).unwrap();
    assert_eq!(stopped_by, Some(Signal::SIGTERM));
    signals.release().unwrap();
    run("ip link set tap1 up");
    wait_until_forwarding(&mut fabric);
    let socket = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    socket.send_to(b"hello", "10.77.255.255:9").unwrap();
    let mut buffer = [0; 2048];
    let read = fabric.read(Instant::ZERO, VmId(1), &mut buffer);
    assert!(matches!(read, Read::Frame(_)), "{read:?}");
}
