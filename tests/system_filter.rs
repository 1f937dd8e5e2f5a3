//! The receive filter in the kernel, the program that all TAPs share. Needs root.

mod support;

use std::net::Ipv4Addr;

use support::{enter_own_network, fabric, host_lab, link};
use tap_reactor::fabric::{Fabric, Read, Write};
use tap_reactor::system::{FabricKind, FilterKind, LabConfig, TapFabric};
use tap_reactor::time::Instant;
use tap_reactor::vm::{RxFilter, VmId};
use tap_reactor::wire::{ArpPacket, EthernetFrame, Ipv4Envelope, MacAddr, Payload, write_udp};

const OURS: MacAddr = MacAddr([0x33, 0x33, 0xff, 0, 0, 1]);
const EVERYBODYS: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
const NOBODYS: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 9]);
/// Of no VM.
const STRANGER: u8 = 99;

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 10, 77, 0, number])
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

fn rx_filter(number: u8, addresses: &[u8], groups: &[MacAddr]) -> RxFilter {
    RxFilter {
        mac: mac(number),
        addresses: addresses.iter().map(|number| address(*number)).collect(),
        groups: groups.to_vec(),
        is_promiscuous: false,
    }
}

/// vm0, which sends; one VM beside others in a group; one that is in several and has two addresses; one that looks for an
/// address; and one that has somebody else's.
fn stations() -> Vec<RxFilter> {
    vec![
        rx_filter(0, &[10], &[]),
        rx_filter(1, &[11], &[EVERYBODYS, OURS]),
        rx_filter(2, &[12, 22], &[EVERYBODYS]),
        rx_filter(3, &[], &[EVERYBODYS]),
        rx_filter(4, &[11], &[]),
    ]
}

fn arp(operation: u16, sender: u8, target: u8, destination: MacAddr) -> Vec<u8> {
    let packet = ArpPacket {
        operation,
        sender_mac: mac(0),
        sender: address(sender),
        target_mac: MacAddr::ZERO,
        target: address(target),
    };
    let mut frame = vec![0; 64];
    let length = packet.write(destination, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn udp(port: u16, destination_mac: MacAddr) -> Vec<u8> {
    let envelope = Ipv4Envelope {
        source_mac: mac(0),
        destination_mac,
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::BROADCAST,
        time_to_live: 64,
        dscp: 0,
        dont_fragment: false,
        identification: 0,
    };
    let mut frame = vec![0; 128];
    let length = write_udp(&envelope, (68, port), 40, |_| Some(40), &mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn destinations() -> [MacAddr; 7] {
    let of_vms = [mac(1), mac(2), mac(STRANGER)];
    let of_many = [MacAddr::BROADCAST, OURS, EVERYBODYS, NOBODYS];
    let [a, b, c] = of_vms;
    let [d, e, f, g] = of_many;
    [a, b, c, d, e, f, g]
}

fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for destination in destinations() {
        let MacAddr(bytes) = destination;
        let MacAddr(source) = mac(0);
        frames.push([&bytes[..], &source, &[0x88, 0xb5], &[0x5a; 50]].concat());
        frames.extend([67, 68, 9].map(|port| udp(port, destination)));
        let numbers = [10, 11, 12, 22, STRANGER];
        for operation in 0..4 {
            for sender in numbers {
                frames.extend(numbers.map(|target| arp(operation, sender, target, destination)));
            }
        }
    }
    frames
}

fn read_all(fabric: &mut TapFabric, vm: u32) -> usize {
    let mut buffer = [0; 2048];
    let mut count = 0;
    while let Read::Frame(_) = fabric.read(Instant::ZERO, VmId(vm), &mut buffer) {
        count += 1;
    }
    count
}

/// Returns the VMs, of the first `vms`, that receive a frame of vm0.
fn hearers(fabric: &mut TapFabric, vms: u32, frame: &[u8]) -> Vec<u32> {
    assert_eq!(fabric.write(Instant::ZERO, VmId(0), frame), Write::Sent);
    (0..vms).filter(|vm| read_all(fabric, *vm) > 0).collect()
}

/// Returns the VMs that should receive it: those that accept it, but not the sender; and all if several claim an address
/// in it.
fn expected(stations: &[RxFilter], frame: &[u8]) -> Vec<u32> {
    let frame = EthernetFrame::parse(frame).unwrap();
    let count = |has: &dyn Fn(&RxFilter) -> bool| stations.iter().filter(|vm| has(vm)).count();
    let of_frame =
        |vm: &RxFilter| vm.mac == frame.destination || vm.groups.contains(&frame.destination);
    let mut is_for_several = count(&of_frame) > 1;
    if let (MacAddr::BROADCAST, Ok(Payload::Arp(arp))) = (frame.destination, frame.payload()) {
        is_for_several = [arp.sender, arp.target]
            .iter()
            .any(|address| count(&|vm| vm.addresses.contains(address)) > 1);
    }
    (1..)
        .zip(&stations[1..])
        .filter(|(_, rx_filter)| is_for_several || rx_filter.accepts(&frame))
        .map(|(vm, _)| vm)
        .collect()
}

/// A lab of that many VMs behind the shared filter.
fn lab(stations: &[RxFilter]) -> (TapFabric, support::Polled) {
    enter_own_network();
    let (mut fabric, poll) = fabric(host_lab()).unwrap();
    for (vm, rx_filter) in (0..).zip(stations) {
        fabric.plug(VmId(vm), rx_filter).unwrap();
    }
    for vm in 0..stations.len() as u32 {
        read_all(&mut fabric, vm);
    }
    assert_eq!(
        fabric.filter_kind(),
        FilterKind::Shared,
        "root outside of a user namespace has CAP_BPF, and Linux clsact and cls_bpf since 4.16"
    );
    (fabric, poll)
}

#[test]
fn every_vm_hears_what_it_wants_and_no_more_than_what_several_do() {
    let stations = stations();
    let (mut fabric, _poll) = lab(&stations);
    for frame in frames() {
        let heard = hearers(&mut fabric, 5, &frame);
        assert_eq!(heard, expected(&stations, &frame), "{frame:02x?}");
    }
    for vm in 0..5 {
        assert_eq!(link(&format!("tap{vm}")).tx_dropped, 0);
    }
    let drops = fabric.queue_drops().unwrap();
    assert!(drops.iter().all(|(_, drops)| *drops == 0), "{drops:?}");
}

#[test]
fn a_tag_changes_nothing_and_a_second_one_lets_broadcasts_pass() {
    let stations = stations();
    let (mut fabric, _poll) = lab(&stations);
    let tag = [0x81, 0, 0, 7];
    for destination in destinations() {
        for (sender, target) in [(10, 11), (10, 12), (10, STRANGER), (10, 10), (11, STRANGER)] {
            let frame = arp(1, sender, target, destination);
            let mut tagged = frame.clone();
            tagged.splice(12..12, tag);
            let heard = hearers(&mut fabric, 5, &tagged);
            assert_eq!(heard, expected(&stations, &frame), "{tagged:02x?}");
            tagged.splice(12..12, [0x88, 0xa8, 0, 8]);
            let mut opaque = frame.clone();
            opaque[12..14].copy_from_slice(&[0x88, 0xb5]);
            let heard = hearers(&mut fabric, 5, &tagged);
            assert_eq!(heard, expected(&stations, &opaque), "{tagged:02x?}");
        }
    }
}

#[test]
fn what_a_vm_wants_may_change_and_vms_may_come_and_go() {
    let mut stations = stations();
    let (mut fabric, _poll) = lab(&stations);
    let nobody = rx_filter(STRANGER - 1, &[], &[]);
    let steps = [
        // The seeker finds an address, and leaves the group.
        (3, Some(rx_filter(3, &[13], &[]))),
        // The group that several were in is vm1's alone, and then nobody's.
        (2, Some(rx_filter(2, &[12], &[]))),
        (1, Some(rx_filter(1, &[11], &[OURS]))),
        // The address of two is one's, whichever of them goes.
        (4, None),
        (
            4,
            Some(rx_filter(4, &[11, STRANGER], &[NOBODYS, EVERYBODYS])),
        ),
        (1, None),
        (1, Some(rx_filter(1, &[11], &[OURS, OURS]))),
        // It loses its address; and another one moves to a card of its own.
        (4, Some(rx_filter(4, &[], &[NOBODYS]))),
        (2, Some(rx_filter(STRANGER, &[12, 22], &[EVERYBODYS]))),
        // All go, and come back.
        (1, None),
        (2, None),
        (3, None),
        (4, None),
        (2, Some(rx_filter(2, &[12], &[OURS]))),
    ];
    for (vm, wanted) in steps {
        let is_plugged = stations[vm] != nobody;
        match &wanted {
            Some(rx_filter) if is_plugged => {
                fabric.set_rx_filter(VmId(vm as u32), rx_filter).unwrap()
            }
            Some(rx_filter) => fabric.plug(VmId(vm as u32), rx_filter).unwrap(),
            None => fabric.unplug(&[VmId(vm as u32)]).unwrap(),
        }
        read_all(&mut fabric, vm as u32);
        stations[vm] = wanted.clone().unwrap_or_else(|| nobody.clone());
        let (plugged, gone): (Vec<u32>, Vec<u32>) =
            (0..5).partition(|vm| stations[*vm as usize] != nobody);
        for frame in frames() {
            let mut expected = expected(&stations, &frame);
            expected.retain(|vm| plugged.contains(vm));
            let heard = hearers(&mut fabric, 5, &frame);
            assert_eq!(
                heard, expected,
                "vm{vm} {wanted:?}, without {gone:?}: {frame:02x?}"
            );
        }
    }
}

#[test]
fn a_lab_that_all_vms_have_left_filters_for_those_who_come_after() {
    let stations = stations();
    let (mut fabric, _poll) = lab(&stations);
    for round in 0..2 {
        let request = arp(1, 10, 22, MacAddr::BROADCAST);
        assert_eq!(hearers(&mut fabric, 5, &request), [2, 3], "{round}");
        let all: Vec<VmId> = (0..5).map(VmId).collect();
        fabric.unplug(&all).unwrap();
        for (vm, rx_filter) in (0..).zip(&stations) {
            fabric.plug(VmId(vm), rx_filter).unwrap();
        }
        for vm in 0..5 {
            read_all(&mut fabric, vm);
        }
    }
}

#[test]
fn a_vm_for_which_there_is_no_room_hears_everything_and_no_other_does() {
    let (mut fabric, _poll) = lab(&stations());
    let groups: Vec<MacAddr> = (0..u16::MAX)
        .map(|group| group.to_be_bytes())
        .map(|[high, low]| MacAddr([0x33, 0x33, 1, 0, high, low]))
        .collect();
    fabric.plug(VmId(5), &rx_filter(5, &[15], &groups)).unwrap();
    fabric
        .set_rx_filter(VmId(4), &rx_filter(4, &[14], &groups))
        .unwrap();
    for vm in [4, 5] {
        read_all(&mut fabric, vm);
    }
    let request = arp(1, 10, STRANGER, MacAddr::BROADCAST);
    assert_eq!(hearers(&mut fabric, 6, &request), [3, 4, 5]);
    let for_vm1 = arp(1, 10, 12, mac(1));
    assert_eq!(hearers(&mut fabric, 6, &for_vm1), [1, 4, 5]);
    // There is room again for everybody else.
    fabric.plug(VmId(6), &rx_filter(6, &[16], &[])).unwrap();
    read_all(&mut fabric, 6);
    assert_eq!(hearers(&mut fabric, 7, &request), [3, 4, 5]);
    let for_vm6 = arp(1, 10, 12, mac(6));
    assert_eq!(hearers(&mut fabric, 7, &for_vm6), [4, 5, 6]);
}

#[test]
fn a_switch_of_the_users_finds_the_place_for_programs_of_its_own_free() {
    enter_own_network();
    let lab = LabConfig {
        fabric: FabricKind::None,
        ..host_lab()
    };
    let (mut fabric, _poll) = fabric(lab).unwrap();
    fabric.plug(VmId(0), &rx_filter(0, &[10], &[])).unwrap();
    assert_eq!(fabric.filter_kind(), FilterKind::Classic);
    support::run("tc qdisc add dev tap0 clsact");
}

#[test]
fn the_filter_takes_no_descriptor_for_each_vm() {
    let (mut fabric, _poll) = lab(&stations());
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    // Other tests of this process open and close some meanwhile: many VMs drown them.
    let before = open();
    let count = 200;
    for vm in 5..5 + count {
        fabric
            .plug(VmId(vm), &rx_filter(vm as u8, &[], &[]))
            .unwrap();
    }
    let after = open();
    assert!(after - before < count as usize * 3 / 2, "{before}, {after}");
}
