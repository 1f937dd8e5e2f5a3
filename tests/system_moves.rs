//! Moves of TAPs between bridges and namespaces, and what is to be done to them where they are then. Needs root.

mod support;

use std::time::Duration;

use support::{
    Polled, enter_own_network, fabric, host_lab, link, link_names, run, wait_until,
    wait_until_forwarding,
};
use tap_reactor::fabric::{
    DropPlace, Fabric, Instrumented, LinkFate, Place, Read, Relocated, Write,
};
use tap_reactor::reactor::Source;
use tap_reactor::system::{LabConfig, TapFabric};
use tap_reactor::time::Instant;
use tap_reactor::vm::{Misbehaviour, RxFilter, Station, VmId};
use tap_reactor::wire::MacAddr;

const VM0: VmId = VmId(0);
const VM1: VmId = VmId(1);
const VM2: VmId = VmId(2);

fn mac(vm: VmId) -> MacAddr {
    let [a, b, c, d] = (0x0a4d_0002 + vm.0).to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn rx_filter(vm: VmId) -> RxFilter {
    RxFilter::new(mac(vm))
}

/// A lab of three VMs on one bridge of a namespace that the test has made.
fn lab() -> (TapFabric, Polled) {
    lab_of(LabConfig::default().ports_per_bridge)
}

/// The same with that many ports on a bridge.
fn lab_of(ports_per_bridge: u32) -> (TapFabric, Polled) {
    enter_own_network();
    // As in a namespace of somebody else.
    for which in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        std::fs::write(path, "0").unwrap();
    }
    let (mut fabric, polled) = fabric(LabConfig {
        vms: 3,
        ports_per_bridge,
        ..host_lab()
    })
    .unwrap_or_else(|error| panic!("{error}"));
    for vm in [VM0, VM1, VM2] {
        fabric.plug(vm, &rx_filter(vm)).unwrap();
    }
    wait_until_forwarding(&mut fabric);
    (fabric, polled)
}

fn beside() -> Place {
    Place::Namespace("beside".to_owned())
}

fn home() -> Place {
    Place::Bridge("br0".to_owned())
}

fn relocate(fabric: &mut impl Fabric, vm: VmId, to: &Place) -> Result<Relocated, String> {
    let made = fabric.relocate(Instant::ZERO, vm, to, &rx_filter(vm), Duration::ZERO);
    let made = made.map_err(|error| error.to_string())?;
    if made.ready.is_some() {
        return Ok(made);
    }
    let mut ended = fabric.ended_relocations(true).into_iter();
    let (_, ready) = ended.find(|(of, _)| *of == vm).unwrap();
    let ready = Some(ready.map_err(|error| error.to_string())?);
    Ok(Relocated { ready, ..made })
}

/// Returns true if the link of that name in the namespace beside is up.
fn is_up_beside(name: &str) -> bool {
    let shown = run(&format!("ip -n beside -oneline link show {name}"));
    let flags = shown.split(['<', '>']).nth(1).unwrap_or_default();
    flags.split(',').any(|flag| flag == "UP")
}

fn frame(from: VmId, to: MacAddr) -> Vec<u8> {
    [&to.0[..], &mac(from).0[..], &[0x88, 0xb5], &[0x5a; 50]].concat()
}

/// Frames that `vm` has got.
fn read_all(fabric: &mut TapFabric, vm: VmId) -> usize {
    let mut buffer = [0; 2_048];
    let mut frames = 0;
    while let Read::Frame(length) = fabric.read(Instant::ZERO, vm, &mut buffer) {
        frames += usize::from(buffer[..length].ends_with(&[0x5a; 50]));
    }
    frames
}

#[test]
fn a_link_goes_down_and_up_in_the_namespace_that_its_vm_was_moved_to() {
    let (mut fabric, _polled) = lab();
    relocate(&mut fabric, VM1, &beside()).unwrap();
    for up in [false, true] {
        fabric.set_link(VM1, up).unwrap();
        assert_eq!(is_up_beside("tap1"), up);
    }
    relocate(&mut fabric, VM1, &home()).unwrap();
    fabric.set_link(VM1, false).unwrap();
    assert!(!link("tap1").up);
}

#[test]
fn a_vm_in_another_namespace_is_counted_there_and_not_said_to_be_absent() {
    let (mut fabric, _polled) = lab();
    let path = |fabric: &mut TapFabric, from, to| fabric.path_state(from, mac(to), Some(to));
    for place in [beside(), home(), beside()] {
        relocate(&mut fabric, VM1, &place).unwrap();
        let is_home = place == home();
        for (from, to) in [(VM0, VM1), (VM1, VM0)] {
            let state = path(&mut fabric, from, to).unwrap();
            assert_eq!(state.is_some(), is_home, "{place}");
            let ends = state.map(|state| state.source.is_some() && state.destination.is_some());
            assert_ne!(ends, Some(false), "{place}");
        }
        assert!(path(&mut fabric, VM0, VM2).unwrap().is_some());
        let before = fabric.port_counters().unwrap();
        let vms: Vec<VmId> = before.iter().map(|(vm, _)| *vm).collect();
        assert_eq!(vms, [VM0, VM1, VM2], "{place}");
        let sent = before[1].1.rx_packets;
        let written = fabric.write(Instant::ZERO, VM1, &frame(VM1, mac(VM0)));
        assert_eq!(written, Write::Sent);
        let after = fabric.port_counters().unwrap();
        assert_eq!(after[1].1.rx_packets, sent + 1, "{place}");
    }
}

#[test]
fn what_bridges_learn_of_a_vm_that_came_again_is_none_of_its_former_moves() {
    let (mut fabric, _polled) = lab();
    let learned = |fabric: &mut TapFabric| {
        fabric.fdb_events(Instant::ZERO);
        run("bridge fdb flush dev br0");
        fabric.fdb_events(Instant::ZERO);
        let written = fabric.write(Instant::ZERO, VM1, &frame(VM1, mac(VM0)));
        assert_eq!(written, Write::Sent);
        fabric.fdb_events(Instant::ZERO).len()
    };
    relocate(&mut fabric, VM1, &Place::Port).unwrap();
    assert_eq!(learned(&mut fabric), 1);
    fabric.unplug(&[VM1]).unwrap();
    fabric.plug(VM1, &rx_filter(VM1)).unwrap();
    assert_eq!(learned(&mut fabric), 0);
}

#[test]
fn what_is_dropped_at_a_vm_in_another_namespace_is_told() {
    // The watch may begin before the namespace is there, or after that.
    for is_early in [true, false] {
        let (mut fabric, _polled) = lab();
        let watch = |fabric: &mut TapFabric| assert!(fabric.watch_drops().unwrap());
        if is_early {
            watch(&mut fabric);
        }
        relocate(&mut fabric, VM1, &beside()).unwrap();
        if !is_early {
            watch(&mut fabric);
        }
        run("ip -n beside link set br0 down");
        let request = [0; 28];
        let arp = [&[0xff; 6][..], &mac(VM1).0, &[8, 6], &request].concat();
        let written = fabric.write(Instant::ZERO, VM1, &arp);
        assert_eq!(written, Write::Sent);
        let drops = fabric.frame_drops().drops;
        let places: Vec<DropPlace> = drops.iter().map(|drop| drop.place).collect();
        assert_eq!(places, [DropPlace::Port(VM1)], "{is_early}: {drops:?}");
    }
}

#[test]
fn a_link_that_somebody_has_deleted_is_not_said_to_be_set() {
    let (mut fabric, _polled) = lab();
    run("ip link delete tap1");
    let error = fabric.set_link(VM1, false).expect_err("there is none");
    assert!(error.to_string().contains("tap1"), "{error}");
}

/// Has VM 1 misbehave for a minute.
fn misbehave(fabric: &mut Instrumented<TapFabric>, misbehaviour: Misbehaviour) {
    let station = Station {
        mac: mac(VM1),
        address: None,
        prefix_length: 0,
        vlan: None,
    };
    let times = (Instant::ZERO, Instant::ZERO + Duration::from_secs(60));
    fabric
        .begin_misbehaviour(times, VM1, misbehaviour, (station, 1))
        .unwrap();
    fabric.set_rx_filter(VM1, &rx_filter(VM1)).unwrap();
}

#[test]
fn a_vm_that_loops_hears_everything_wherever_it_was_moved_to() {
    let (fabric, _polled) = lab();
    let mut fabric = Instrumented::new(fabric);
    misbehave(&mut fabric, Misbehaviour::Loop(1_000));
    let nobody = MacAddr([2, 0, 0, 0, 0, 9]);
    for place in [Place::Port, beside(), home()] {
        relocate(&mut fabric, VM1, &place).unwrap();
        // The links to a namespace that was just made carry frames a moment later.
        wait_until(&format!("a frame for nobody at {place}"), || {
            read_all(fabric.inner(), VM1);
            let written = fabric.write(Instant::ZERO, VM0, &frame(VM0, nobody));
            assert_eq!(written, Write::Sent);
            read_all(fabric.inner(), VM1) == 1
        });
    }
}

#[test]
fn a_vm_goes_to_another_bridge_while_others_are_served_and_the_poll_tells_when_it_is_there() {
    let (mut fabric, mut polled) = lab_of(2);
    let leaves = ["br0-0", "br0-1"].map(|name| Some(link(name).index));
    for to in [1, 0] {
        let place = Place::Leaf(to);
        let made = fabric.relocate(Instant::ZERO, VM1, &place, &rx_filter(VM1), Duration::ZERO);
        let made = made.unwrap();
        assert_eq!(made.ready, None, "it goes on");
        let mut ended = Vec::new();
        wait_until("the end of the move", || {
            if polled.ready().contains(&Source::Moves) {
                ended.extend(fabric.ended_relocations(false));
            }
            !ended.is_empty()
        });
        let (vm, ready) = ended.pop().unwrap();
        assert!(vm == VM1 && ready.unwrap() > made.began);
        assert_eq!(link("tap1").master, leaves[to as usize]);
    }
}

#[test]
fn moves_to_other_bridges_that_the_kernel_refuses_or_that_are_waited_for_end_each_as_it_does() {
    let (mut fabric, _polled) = lab_of(2);
    fabric.prepare_place(VM2, &Place::Leaf(0)).unwrap();
    run("ip link delete tap2");
    for (vm, to) in [(VM0, 1), (VM1, 1), (VM2, 0)] {
        let place = Place::Leaf(to);
        let made = fabric.relocate(Instant::ZERO, vm, &place, &rx_filter(vm), Duration::ZERO);
        assert_eq!(made.unwrap().ready, None);
    }
    let mut ended = fabric.ended_relocations(true);
    ended.sort_by_key(|(vm, _)| *vm);
    let vms: Vec<(VmId, bool)> = ended.iter().map(|(vm, end)| (*vm, end.is_ok())).collect();
    assert_eq!(vms, [(VM0, true), (VM1, true), (VM2, false)]);
    let error = ended.pop().unwrap().1.unwrap_err().to_string();
    assert!(error.contains("move tap2 to leaf0"), "{error}");
    let leaf = Some(link("br0-1").index);
    assert_eq!([link("tap0").master, link("tap1").master], [leaf; 2]);
    assert!(fabric.ended_relocations(true).is_empty());
    // It is gone: another try fails as well, and is no move to where it is already.
    relocate(&mut fabric, VM2, &Place::Leaf(1)).expect_err("there is no such link");
}

#[test]
fn a_vm_whose_link_a_misbehaviour_holds_down_stays_unplugged_through_a_move() {
    let (fabric, _polled) = lab();
    let mut fabric = Instrumented::new(fabric);
    let flap = Misbehaviour::Flap {
        period: Duration::from_secs(2),
        down: Duration::from_secs(1),
    };
    misbehave(&mut fabric, flap);
    fabric.release(Instant::ZERO).expect("the link goes down");
    assert!(!link("tap1").up);
    relocate(&mut fabric, VM1, &Place::Port).unwrap();
    assert!(!link("tap1").up, "another port");
    relocate(&mut fabric, VM1, &beside()).unwrap();
    assert!(!is_up_beside("tap1"), "another namespace");
    relocate(&mut fabric, VM1, &home()).unwrap();
    assert!(!link("tap1").up, "back again");
    fabric
        .release(Instant::ZERO + Duration::from_secs(1))
        .expect("the link comes up");
    assert!(link("tap1").up);
}

#[test]
fn a_vm_that_did_not_arrive_is_known_to_be_where_it_is() {
    let (mut fabric, _polled) = lab();
    relocate(&mut fabric, VM0, &beside()).unwrap();
    run("ip -n beside link delete br0");
    let error = relocate(&mut fabric, VM1, &beside()).expect_err("there is no bridge");
    assert!(error.contains("move tap1"), "{error}");
    assert!(!link_names().contains(&"tap1".to_owned()));
    fabric.set_link(VM1, true).unwrap();
    assert!(is_up_beside("tap1"));
    let back = relocate(&mut fabric, VM1, &home()).unwrap();
    assert_eq!((back.from, back.to), (beside(), home()));
    let bridge = fabric.bridge_index();
    assert_eq!(link("tap1").master, bridge);
}

#[test]
fn a_vm_that_did_not_leave_stays_filtered_and_watched() {
    let (mut fabric, _polled) = lab();
    assert!(fabric.watch_links());
    relocate(&mut fabric, VM0, &beside()).unwrap();
    relocate(&mut fabric, VM0, &home()).unwrap();
    run("ip -n beside link add tap1 type bridge");
    relocate(&mut fabric, VM1, &beside()).expect_err("the name is taken");
    // A flooded frame for nobody, and one for it.
    for (to, frames) in [(MacAddr([2, 0, 0, 0, 0, 9]), 0), (mac(VM1), 1)] {
        read_all(&mut fabric, VM1);
        let written = fabric.write(Instant::ZERO, VM0, &frame(VM0, to));
        assert_eq!(written, Write::Sent);
        assert_eq!(read_all(&mut fabric, VM1), frames, "{to}");
    }
    // What it wants may change.
    let group = MacAddr([0x33, 0x33, 0, 0, 0, 9]);
    let mut wider = rx_filter(VM1);
    wider.groups.push(group);
    fabric.set_rx_filter(VM1, &wider).unwrap();
    let written = fabric.write(Instant::ZERO, VM0, &frame(VM0, group));
    assert_eq!((written, read_all(&mut fabric, VM1)), (Write::Sent, 1));
    assert_eq!(fabric.link_events(), []);
    run("ip link set tap1 down");
    let events = fabric.link_events();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.vm, &event.change))
        .collect();
    assert_eq!(told, [(Some(VM1), &LinkFate::Down)]);
}

#[test]
fn a_tap_that_comes_back_is_as_silent_as_when_it_was_made() {
    let (mut fabric, _polled) = lab();
    let is_off = || {
        let path = "/proc/sys/net/ipv6/conf/tap1/disable_ipv6";
        std::fs::read_to_string(path).unwrap().trim() == "1"
    };
    assert!(is_off(), "as it was made");
    relocate(&mut fabric, VM1, &beside()).unwrap();
    relocate(&mut fabric, VM1, &home()).unwrap();
    assert!(is_off(), "as it came back");
}

#[test]
fn a_namespace_that_could_not_be_made_stands_in_the_way_of_no_later_one() {
    let (mut fabric, _polled) = lab();
    let before = link_names();
    let index = fabric.bridge_index().unwrap();
    type Hindrance = [String; 2];
    let hindrances: [Hindrance; 2] = [
        // The veth can't be made; and it can't be joined to the bridge.
        [
            "ip link add br0-0u type bridge".to_owned(),
            "ip link delete br0-0u".to_owned(),
        ],
        [
            "ip link delete br0".to_owned(),
            format!("ip link add name br0 index {index} up type bridge"),
        ],
    ];
    for [make, remove] in hindrances {
        run(&make);
        relocate(&mut fabric, VM1, &beside()).expect_err(&make);
        run(&remove);
        let mut now = link_names();
        now.sort_unstable();
        let mut expected = before.clone();
        expected.sort_unstable();
        assert_eq!(now, expected, "{make}");
        assert!(
            !std::path::Path::new("/run/netns/beside").exists(),
            "{make}"
        );
    }
    relocate(&mut fabric, VM1, &beside()).unwrap();
    assert!(is_up_beside("tap1"));
}

#[test]
fn a_vm_that_has_heard_everything_for_a_time_hears_what_it_wants_again() {
    let (mut fabric, _polled) = lab();
    let mut promiscuous = rx_filter(VM1);
    promiscuous.is_promiscuous = true;
    let nobody = MacAddr([2, 0, 0, 0, 0, 9]);
    for (rx_filter, frames) in [
        (rx_filter(VM1), 0),
        (promiscuous.clone(), 1),
        (rx_filter(VM1), 0),
        (promiscuous, 1),
    ] {
        fabric.set_rx_filter(VM1, &rx_filter).unwrap();
        read_all(&mut fabric, VM1);
        let written = fabric.write(Instant::ZERO, VM0, &frame(VM0, nobody));
        assert_eq!(written, Write::Sent);
        assert_eq!(read_all(&mut fabric, VM1), frames, "{rx_filter:?}");
    }
}
