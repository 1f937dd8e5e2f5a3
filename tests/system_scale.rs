//! More VMs than a bridge has ports, and what the kernel keeps from each of them. Needs root.

mod support;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use support::{
    enter_own_network, fabric, host_lab, link, link_names, links, run, wait_until,
    wait_until_forwarding,
};
use tap_reactor::fabric::{Fabric, Read, Write};
use tap_reactor::system::{LabConfig, LinkKind, Neighbours, TapFabric};
use tap_reactor::time::Instant;
use tap_reactor::topology::{Callers, Topology};
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::{ArpPacket, MacAddr};

fn address(vm: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a4d_0002 + vm)
}

fn rx_filter(vm: u32) -> RxFilter {
    let [a, b, c, d] = address(vm).octets();
    RxFilter {
        addresses: vec![address(vm)],
        ..RxFilter::new(MacAddr([2, 0, a, b, c, d]))
    }
}

fn plug_all(fabric: &mut TapFabric, count: u32) {
    for vm in 0..count {
        fabric.plug(VmId(vm), &rx_filter(vm)).unwrap();
    }
    wait_until_forwarding(fabric);
}

fn frame(from: u32, to: MacAddr) -> Vec<u8> {
    let MacAddr(source) = rx_filter(from).mac;
    [&to.0[..], &source, &[0x88, 0xb5], &[0x5a; 50]].concat()
}

fn arp_request(from: u32, target: u32) -> Vec<u8> {
    let request = ArpPacket {
        operation: ArpPacket::REQUEST,
        sender_mac: rx_filter(from).mac,
        sender: address(from),
        target_mac: MacAddr::ZERO,
        target: address(target),
    };
    let mut frame = vec![0; 64];
    let length = request.write(MacAddr::BROADCAST, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

/// The VMs that have a frame to read; each is left with none.
fn receivers(fabric: &mut TapFabric, count: u32) -> Vec<u32> {
    let mut buffer = [0; 2048];
    (0..count)
        .filter(|vm| {
            let mut has_any = false;
            while let Read::Frame(_) = fabric.read(Instant::ZERO, VmId(*vm), &mut buffer) {
                has_any = true;
            }
            has_any
        })
        .collect()
}

/// Asserts that `expected` of `count` VMs, and no others, get a frame. On a busy processor the kernel may hand frames from
/// bridge to bridge only after the write that sent them has returned.
fn expect_receivers(fabric: &mut TapFabric, count: u32, expected: &[u32], what: &str) {
    let mut all = BTreeSet::new();
    wait_until(&format!("frames for {expected:?}: {what}"), || {
        all.extend(receivers(fabric, count));
        expected.iter().all(|vm| all.contains(vm))
    });
    all.extend(receivers(fabric, count));
    assert_eq!(Vec::from_iter(all), expected, "{what}");
}

#[test]
fn leaves_around_a_spine_are_one_segment_and_are_taken_away_as_one() {
    enter_own_network();
    let lab = LabConfig {
        vms: 8,
        ports_per_bridge: 3,
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 8);
    let names: BTreeSet<String> = link_names().into_iter().collect();
    let bridges = ["br0", "br0-0", "br0-1", "br0-2"];
    for bridge in bridges {
        assert_eq!(link(bridge).kind, LinkKind::Bridge);
    }
    for (leaf, uplink, downlink) in [
        ("br0-0", "br0-0u", "br0-0d"),
        ("br0-1", "br0-1u", "br0-1d"),
        ("br0-2", "br0-2u", "br0-2d"),
    ] {
        assert_eq!(link(uplink).master, Some(link(leaf).index));
        assert_eq!(link(downlink).master, Some(link("br0").index));
    }
    for vm in 0..8 {
        let leaf = format!("br0-{}", vm / 3);
        assert_eq!(link(&format!("tap{vm}")).master, Some(link(&leaf).index));
    }
    assert_eq!(names.len(), 1 + 4 + 6 + 8);
    assert!(
        links()[1..]
            .iter()
            .all(|link| link.up && link.alias.is_some())
    );
    assert_eq!(run("ip -6 address"), "");

    receivers(&mut fabric, 8);
    let broadcast = frame(7, MacAddr::BROADCAST);
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(7), &broadcast),
        Write::Sent
    );
    expect_receivers(&mut fabric, 8, &[0, 1, 2, 3, 4, 5, 6], "a frame to all");
    // vm7 has been learnt all over the tree; and its frame is there before the write has returned.
    for from in [0, 6] {
        assert_eq!(
            fabric.write(Instant::ZERO, VmId(from), &frame(from, rx_filter(7).mac)),
            Write::Sent
        );
        expect_receivers(&mut fabric, 8, &[7], "a frame to vm7");
    }
    fabric.close().unwrap();
    assert_eq!(link_names(), ["lo"]);
}

#[test]
fn a_vm_in_the_place_of_one_that_left_joins_the_first_leaf_with_a_free_port() {
    enter_own_network();
    let lab = LabConfig {
        vms: 4,
        ports_per_bridge: 2,
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 4);
    fabric.unplug(&[VmId(1)]).unwrap();
    fabric.plug(VmId(4), &rx_filter(4)).unwrap();
    assert_eq!(link("tap4").master, Some(link("br0-0").index));
}

#[test]
fn the_kernel_keeps_from_a_vm_what_its_network_card_would_drop() {
    for filter in [true, false] {
        enter_own_network();
        let lab = LabConfig {
            vms: 4,
            filter,
            ..host_lab()
        };
        let (mut fabric, _poll) = fabric(lab).unwrap();
        plug_all(&mut fabric, 4);
        receivers(&mut fabric, 4);
        let everybody = vec![1, 2, 3];
        let stranger = MacAddr([2, 9, 9, 9, 9, 9]);
        let table = [
            ("a request for vm2's address", arp_request(0, 2), vec![2]),
            ("a request for nobody's address", arp_request(0, 9), vec![]),
            ("an announcement", arp_request(0, 0), everybody.clone()),
            (
                "a broadcast that is not ARP",
                frame(0, MacAddr::BROADCAST),
                everybody.clone(),
            ),
            ("unicast to nobody, flooded", frame(0, stranger), vec![]),
            (
                "a group",
                frame(0, MacAddr([0x33, 0x33, 0, 0, 0, 1])),
                vec![],
            ),
        ];
        for (what, frame, wanted) in table {
            assert_eq!(fabric.write(Instant::ZERO, VmId(0), &frame), Write::Sent);
            let expected = if filter { &wanted } else { &everybody };
            expect_receivers(
                &mut fabric,
                4,
                expected,
                &format!("{what}, filter {filter}"),
            );
        }
        let overflow: u64 = fabric.queue_drops().unwrap().iter().map(|(_, n)| n).sum();
        assert_eq!(overflow, 0);
    }
}

#[test]
fn an_overflow_is_counted_and_what_the_filter_drops_is_not() {
    enter_own_network();
    let lab = LabConfig {
        vms: 3,
        tx_queue_length: Some(10),
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 3);
    receivers(&mut fabric, 3);
    for _ in 0..5 {
        fabric.write(Instant::ZERO, VmId(0), &arp_request(0, 9));
    }
    for _ in 0..14 {
        fabric.write(Instant::ZERO, VmId(0), &arp_request(0, 1));
    }
    let drops = fabric.queue_drops().unwrap();
    assert_eq!(drops, [(VmId(0), 0), (VmId(1), 4), (VmId(2), 0)]);
}

#[test]
fn vms_that_go_together_are_removed_at_once_and_others_stay() {
    enter_own_network();
    let lab = LabConfig {
        vms: 6,
        ports_per_bridge: 3,
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 6);
    let leaving = [VmId(1), VmId(2), VmId(4), VmId(17)];
    fabric.unplug(&leaving).unwrap();
    fabric.unplug(&leaving).unwrap();
    let taps: Vec<String> = link_names()
        .into_iter()
        .filter(|name| name.starts_with("tap"))
        .collect();
    assert_eq!(taps, ["tap0", "tap3", "tap5"]);
    assert_eq!(
        fabric.write(Instant::ZERO, VmId(0), &frame(0, MacAddr::BROADCAST)),
        Write::Sent
    );
    expect_receivers(&mut fabric, 6, &[3, 5], "a frame to all");
    fabric.plug(VmId(1), &rx_filter(1)).unwrap();
    assert_eq!(link("tap1").master, Some(link("br0-0").index));
}

#[test]
fn a_vm_that_has_an_address_now_hears_requests_for_that_alone() {
    enter_own_network();
    let (mut fabric, _poll) = fabric(host_lab()).unwrap();
    fabric.plug(VmId(0), &rx_filter(0)).unwrap();
    fabric
        .plug(VmId(1), &RxFilter::new(rx_filter(1).mac))
        .unwrap();
    receivers(&mut fabric, 2);
    fabric.write(Instant::ZERO, VmId(0), &arp_request(0, 9));
    expect_receivers(&mut fabric, 2, &[1], "a frame to all");
    fabric.set_rx_filter(VmId(1), &rx_filter(1)).unwrap();
    fabric.write(Instant::ZERO, VmId(0), &arp_request(0, 9));
    assert!(receivers(&mut fabric, 2).is_empty());
    fabric.write(Instant::ZERO, VmId(0), &arp_request(0, 1));
    expect_receivers(&mut fabric, 2, &[1], "a frame to all");
}

/// Five VMs in a network of their own, of which vm0 is to talk to all others, and nothing in their queues.
fn five_vms(ports_per_bridge: u32, neighbours: Neighbours) -> (TapFabric, support::Polled) {
    enter_own_network();
    let topology = Topology::new(5, ports_per_bridge).unwrap();
    let lab = LabConfig {
        vms: 5,
        ports_per_bridge,
        neighbours,
        callers: Callers::new(&topology, (1..5).map(|vm| (VmId(0), VmId(vm)))),
        filter: false,
        ..host_lab()
    };
    let (mut fabric, poll) = fabric(lab).unwrap();
    plug_all(&mut fabric, 5);
    receivers(&mut fabric, 5);
    (fabric, poll)
}

#[test]
fn a_bridge_that_answers_arp_requests_floods_none() {
    for ports_per_bridge in [9, 2] {
        let (mut fabric, _poll) = five_vms(ports_per_bridge, Neighbours::Proxy);
        for target in 1..5 {
            let request = arp_request(0, target);
            assert_eq!(fabric.write(Instant::ZERO, VmId(0), &request), Write::Sent);
            let mut buffer = [0; 64];
            let Read::Frame(length) = fabric.read(Instant::ZERO, VmId(0), &mut buffer) else {
                panic!("nobody answered for vm{target}, {ports_per_bridge} ports");
            };
            let frame = tap_reactor::wire::EthernetFrame::parse(&buffer[..length]).unwrap();
            let Ok(tap_reactor::wire::Payload::Arp(reply)) = frame.payload() else {
                panic!("{frame:?}");
            };
            assert_eq!(reply.operation, ArpPacket::REPLY);
            assert_eq!(
                (reply.sender, reply.sender_mac),
                (address(target), rx_filter(target).mac)
            );
            assert!(receivers(&mut fabric, 5).is_empty());
            let unicast = self::frame(0, rx_filter(target).mac);
            assert_eq!(fabric.write(Instant::ZERO, VmId(0), &unicast), Write::Sent);
            expect_receivers(&mut fabric, 5, &[target], "a frame to one");
        }
        // What the bridge can't answer goes its usual way, as does what is no request.
        for flooded in [arp_request(0, 99), frame(0, MacAddr::BROADCAST)] {
            assert_eq!(fabric.write(Instant::ZERO, VmId(0), &flooded), Write::Sent);
            expect_receivers(&mut fabric, 5, &[1, 2, 3, 4], "a frame to all");
        }
    }
}

#[test]
fn a_bridge_that_is_told_where_vms_are_floods_no_frame_to_one_that_has_not_spoken() {
    for ports_per_bridge in [9, 2] {
        let (mut fabric, _poll) = five_vms(ports_per_bridge, Neighbours::Static);
        for target in 1..5 {
            let unicast = self::frame(0, rx_filter(target).mac);
            assert_eq!(fabric.write(Instant::ZERO, VmId(0), &unicast), Write::Sent);
            expect_receivers(
                &mut fabric,
                5,
                &[target],
                &format!("{ports_per_bridge} ports"),
            );
        }
    }
}

#[test]
fn a_lab_that_waits_for_the_kernel_says_so() {
    let words =
        "tap-reactor: waiting for the kernel, which has not answered a request for a second";
    let program = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tap-reactor"));
        command
            .args(arguments.split_ascii_whitespace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let said = |run: Child| {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    // How long the kernel takes to remove a lab depends on the machine, as does how much of it others have to wait for: on a fast
    // one nobody waits for a second, and nothing is to be said.
    for vms in [3_000, 9_000] {
        let mut large = program(&format!(
            "--netns private --vms {vms} --duration 5min --quiet"
        ));
        let devices = format!("/proc/{}/net/dev", large.id());
        wait_until("a large lab", || {
            let devices = std::fs::read_to_string(&devices).unwrap();
            devices.contains(&format!("tap{}:", vms - 1))
        });
        large.kill().unwrap();
        large.wait().unwrap();
        let small = "--netns private --vms 2 --ping vm0:vm1 --count 1";
        // What is quiet waits as well, and says nothing.
        let quiet = program(&format!("{small} --quiet"));
        let small = said(program(small));
        assert_eq!(said(quiet), "");
        assert!(small.matches(words).count() <= 1, "{small}");
        if small.contains(words) {
            return;
        }
    }
}
