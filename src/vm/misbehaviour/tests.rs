use std::net::Ipv6Addr;

use super::*;
use crate::vm::VmConfig;
use crate::wire::{
    ArpPacket, DhcpReply, EthernetFrame, Icmpv6Message, NeighbourDiscovery, NeighbourSolicitation,
    Payload, UdpDatagram, VlanId, link_local, take_off,
};

const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 9]);
const OTHER: MacAddr = MacAddr([2, 0, 10, 77, 0, 3]);
const MS: Duration = Duration::from_millis(1);

fn station(vlan: Option<Vlan>) -> Station {
    Station {
        mac: MAC,
        address: Some(Ipv4Addr::new(10, 77, 0, 9)),
        prefix_length: 16,
        vlan,
    }
}

fn begin(misbehaviour: Misbehaviour) -> Misbehaving {
    Misbehaving::new((Instant::ZERO, at(60_000)), misbehaviour, station(None), 7)
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + MS * u32::try_from(millis).unwrap()
}

/// All frames that it sends unasked until `end`, with their times.
fn sent(misbehaving: &mut Misbehaving, end: Instant) -> Vec<(Instant, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut buffer = [0; 2000];
    while let Some(now) = misbehaving.next_at().filter(|at| *at < end) {
        match misbehaving.poll(now, &mut buffer) {
            Some(Act::Send(length)) => frames.push((now, buffer[..length].to_vec())),
            other => panic!("{other:?}"),
        }
    }
    frames
}

/// An ARP request of `OTHER` for `target`.
fn question(target: Ipv4Addr) -> Vec<u8> {
    let mut buffer = vec![0; 60];
    let request = ArpPacket {
        operation: ArpPacket::REQUEST,
        sender_mac: OTHER,
        sender: Ipv4Addr::new(10, 77, 0, 3),
        target_mac: MacAddr::ZERO,
        target,
    };
    request.write(MacAddr::BROADCAST, &mut buffer).unwrap();
    buffer
}

#[test]
fn each_flood_sends_so_many_of_the_frames_that_a_textbook_has() {
    type Check = fn(&EthernetFrame<'_>) -> bool;
    fn discovery<'a>(frame: &EthernetFrame<'a>) -> Option<NeighbourDiscovery<'a>> {
        let Ok(Payload::Ipv6(packet)) = frame.payload() else {
            return None;
        };
        match Icmpv6Message::parse(&packet, packet.payload, 0).ok()? {
            Icmpv6Message::NeighbourDiscovery(message) => Some(message),
            _ => None,
        }
    }
    fn udp(frame: &EthernetFrame<'_>) -> Option<(u16, Vec<u8>)> {
        let Ok(Payload::Ipv4(packet)) = frame.payload() else {
            return None;
        };
        let datagram = UdpDatagram::parse(&packet).ok()?;
        (packet.destination == Ipv4Addr::BROADCAST)
            .then(|| (datagram.destination_port, datagram.payload.to_vec()))
    }
    let cases: [(Flood, bool, Check); 6] = [
        (Flood::Arp, true, |frame| match frame.payload() {
            Ok(Payload::Arp(arp)) => {
                let [a, b, ..] = arp.target.octets();
                arp.operation == ArpPacket::REQUEST
                    && (arp.sender_mac, a, b) == (MAC, 10, 77)
                    && frame.destination == MacAddr::BROADCAST
            }
            _ => false,
        }),
        (Flood::Broadcast, true, |frame| {
            frame.destination == MacAddr::BROADCAST && udp(frame).is_some_and(|(port, _)| port == 9)
        }),
        (Flood::Mac, false, |frame| {
            frame.destination.is_unicast() && frame.ether_type == 0x88b5
        }),
        (Flood::Dhcp, false, |frame| {
            let (port, message) = udp(frame).unwrap();
            // Servers tell clients apart by what they say their address is.
            port == 67
                && message.get(28..34) == Some(&frame.source.0)
                && DhcpReply::parse(&message, 0).is_err()
        }),
        (Flood::Router, true, |frame| match discovery(frame) {
            Some(NeighbourDiscovery::RouterAdvertisement(told)) => {
                let prefixes: Vec<_> = told.prefixes().collect();
                told.router_lifetime > 0
                    && told.source_link == Some(MAC)
                    && prefixes.len() == 1
                    && prefixes[0].prefix == frames::ROGUE_PREFIX
                    && prefixes[0].autonomous
            }
            _ => false,
        }),
        (Flood::Neighbour, true, |frame| match discovery(frame) {
            Some(NeighbourDiscovery::Solicitation(asked)) => {
                frame.destination == multicast_mac(solicited_node(asked.target))
            }
            _ => false,
        }),
    ];
    for (flood, has_own_mac, check) in cases {
        for vlan in [None, VlanId::new(7).map(Vlan::Single)] {
            let misbehaviour = Misbehaviour::Flood(flood, 1000);
            let of = station(vlan);
            let mut misbehaving =
                Misbehaving::new((Instant::ZERO, at(60_000)), misbehaviour, of, 7);
            let frames = sent(&mut misbehaving, at(100));
            assert_eq!(frames.len(), 100, "{flood:?}");
            assert_eq!(misbehaving.misdeeds().get(Misdeed::Sent), 100);
            let mut sources = std::collections::HashSet::new();
            for (number, (when, mut frame)) in frames.into_iter().enumerate() {
                assert_eq!(when, at(number as u64));
                let start = take_off(vlan, &mut frame).expect("the VM's VLAN");
                assert_eq!(start > 0, vlan.is_some());
                let parsed = EthernetFrame::parse(&frame[start..]).unwrap();
                assert!(check(&parsed), "{flood:?}: {parsed:?}");
                assert!(parsed.source.is_unicast());
                sources.insert(parsed.source);
            }
            let expected = if has_own_mac { 1 } else { 100 };
            assert_eq!(sources.len(), expected, "{flood:?}");
            assert_eq!(sources.contains(&MAC), has_own_mac);
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_frames_and_another_one_others() {
    let frames = |seed| {
        let flood = Misbehaviour::Flood(Flood::Mac, 100);
        let mut misbehaving = Misbehaving::new((Instant::ZERO, at(50)), flood, station(None), seed);
        sent(&mut misbehaving, at(100))
    };
    assert_eq!(frames(1).len(), 5, "until its end");
    assert_eq!(frames(1), frames(1));
    assert_ne!(frames(1), frames(2));
}

#[test]
fn frames_that_are_far_too_late_are_left_out_and_counted() {
    let mut misbehaving = begin(Misbehaviour::Flood(Flood::Broadcast, 1000));
    let mut buffer = [0; 2000];
    assert!(misbehaving.poll(at(50), &mut buffer).is_some());
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Missed), 0);
    // Those of 50 ms are made up for, those of a second are not.
    assert!(misbehaving.poll(at(1000), &mut buffer).is_some());
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Missed), 999);
    assert_eq!(misbehaving.poll(at(1000), &mut buffer), None);
    assert_eq!(misbehaving.next_at(), Some(at(1001)));
    // Nobody had the time for those that were due when it ends.
    misbehaving.end(at(1011));
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Missed), 999 + 10);
}

#[test]
fn a_silent_vm_neither_sends_nor_takes_a_frame_until_it_ends() {
    let mut misbehaving = begin(Misbehaviour::Silent);
    let mut frame = question(Ipv4Addr::new(10, 77, 0, 9));
    assert_eq!(misbehaving.sends(at(1), &mut frame), Sending::Never);
    let taken = misbehaving.receives(at(1), &frame, &mut []);
    assert_eq!((taken, misbehaving.next_at()), (Receiving::Ignored, None));
    assert!(!misbehaving.end(at(100)));
    assert!(misbehaving.is_over());
    assert_eq!(misbehaving.sends(at(2), &mut frame), Sending::Now);
    let taken = misbehaving.receives(at(2), &frame, &mut []);
    assert_eq!(taken, Receiving::Taken);
    let done: Vec<_> = misbehaving.misdeeds().iter().collect();
    assert_eq!(done, [(Misdeed::Withheld, 1), (Misdeed::Ignored, 1)]);
}

#[test]
fn a_slow_vm_sends_everything_later_and_in_order_even_after_its_end() {
    let mut misbehaving = begin(Misbehaviour::Slow(MS * 50));
    let mut buffer = [0; 200];
    for (millis, byte) in [(1, 1), (2, 2)] {
        let sending = misbehaving.sends(at(millis), &mut [byte; 60]);
        assert_eq!(sending, Sending::Later);
    }
    assert_eq!(misbehaving.next_at(), Some(at(51)));
    assert_eq!(misbehaving.poll(at(50), &mut buffer), None);
    assert_eq!(misbehaving.poll(at(51), &mut buffer), Some(Act::Send(60)));
    assert_eq!(buffer[0], 1);
    misbehaving.end(at(100));
    assert!(!misbehaving.is_over());
    assert_eq!(misbehaving.sends(at(51), &mut [3; 60]), Sending::Now);
    assert_eq!(misbehaving.poll(at(52), &mut buffer), Some(Act::Send(60)));
    assert_eq!((buffer[0], misbehaving.is_over()), (2, true));
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Delayed), 2);
}

#[test]
fn a_slow_vm_holds_no_more_than_it_has_room_for() {
    let mut misbehaving = begin(Misbehaviour::Slow(MS * 50));
    let mut frame = vec![0; 1 << 20];
    let held = (0..20).filter(|_| misbehaving.sends(at(1), &mut frame) == Sending::Later);
    assert_eq!(held.count(), 16);
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Missed), 4);
}

#[test]
fn a_flapping_link_goes_down_once_a_period_and_is_up_at_the_end() {
    let mut misbehaving = begin(Misbehaviour::Flap {
        period: MS * 100,
        down: MS * 30,
    });
    let mut turns = Vec::new();
    while let Some(now) = misbehaving.next_at().filter(|now| *now < at(250)) {
        turns.push((now, misbehaving.poll(now, &mut []).unwrap()));
    }
    let expected = [
        (0, false),
        (30, true),
        (100, false),
        (130, true),
        (200, false),
        (230, true),
    ];
    assert_eq!(
        turns,
        expected.map(|(millis, up)| (at(millis), Act::Link(up)))
    );
    assert!(!misbehaving.end(at(100)), "the link is up");
    let mut misbehaving = begin(Misbehaviour::Flap {
        period: MS * 100,
        down: MS * 30,
    });
    assert!(!misbehaving.end(at(100)), "it was never down");
    let mut misbehaving = begin(Misbehaviour::Flap {
        period: MS * 100,
        down: MS * 30,
    });
    // Somebody was busy elsewhere: the link is down for as long as it is to be nevertheless.
    assert_eq!(misbehaving.poll(at(80), &mut []), Some(Act::Link(false)));
    assert_eq!(misbehaving.next_at(), Some(at(110)));
    assert_eq!(misbehaving.sends(at(90), &mut [0; 60]), Sending::Never);
    assert!(misbehaving.end(at(100)), "the link is down");
}

#[test]
fn a_thief_of_an_address_announces_it_and_answers_who_asks_for_it_and_for_nothing_else() {
    let stolen = Ipv4Addr::new(10, 77, 0, 2);
    let mut misbehaving = begin(Misbehaviour::Steal(stolen.into()));
    let announced = sent(&mut misbehaving, at(2500));
    assert_eq!(announced.len(), 3);
    for (number, (when, frame)) in announced.iter().enumerate() {
        assert_eq!(*when, at(1000 * number as u64));
        let Ok(Payload::Arp(arp)) = EthernetFrame::parse(frame).unwrap().payload() else {
            panic!("not ARP");
        };
        assert!(arp.is_gratuitous());
        assert_eq!((arp.sender, arp.sender_mac), (stolen, MAC));
    }
    let mut answer = [0; 100];
    let asked = misbehaving.receives(at(1), &question(stolen), &mut answer);
    let Receiving::Answered(length) = asked else {
        panic!("{asked:?}");
    };
    let Ok(Payload::Arp(arp)) = EthernetFrame::parse(&answer[..length]).unwrap().payload() else {
        panic!("not ARP");
    };
    assert_eq!(arp.operation, ArpPacket::REPLY);
    assert_eq!((arp.sender, arp.sender_mac), (stolen, MAC));
    assert_eq!(arp.target_mac, OTHER);
    let own = question(Ipv4Addr::new(10, 77, 0, 9));
    assert_eq!(
        misbehaving.receives(at(1), &own, &mut answer),
        Receiving::Taken
    );

    let stolen: Ipv6Addr = "fd77::2".parse().unwrap();
    let mut misbehaving = begin(Misbehaviour::Steal(stolen.into()));
    let group = solicited_node(stolen);
    let mut asked = [0; 100];
    let envelope = crate::wire::Ipv6Envelope {
        source_mac: OTHER,
        destination_mac: multicast_mac(group),
        source: link_local(OTHER),
        destination: group,
        traffic_class: 0,
        hop_limit: 255,
    };
    let length = NeighbourSolicitation {
        target: stolen,
        source_link: Some(OTHER),
        nonce: None,
    }
    .write(envelope, &mut asked)
    .unwrap();
    let told = [
        sent(&mut misbehaving, at(1)).remove(0).1,
        match misbehaving.receives(at(1), &asked[..length], &mut answer) {
            Receiving::Answered(length) => answer[..length].to_vec(),
            other => panic!("{other:?}"),
        },
    ];
    for frame in told {
        let Ok(Payload::Ipv6(packet)) = EthernetFrame::parse(&frame).unwrap().payload() else {
            panic!("not IPv6");
        };
        match Icmpv6Message::parse(&packet, packet.payload, 0).unwrap() {
            Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Advertisement(told)) => {
                assert_eq!((told.target, told.target_link), (stolen, Some(MAC)));
                assert!(told.overrides);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_vm_with_a_wrong_address_names_it_wherever_it_names_its_own() {
    let mut misbehaving = begin(Misbehaviour::WrongMac);
    let mut reply = [0; 60];
    ArpPacket {
        operation: ArpPacket::REPLY,
        sender_mac: MAC,
        sender: Ipv4Addr::new(10, 77, 0, 9),
        target_mac: OTHER,
        target: Ipv4Addr::new(10, 77, 0, 3),
    }
    .write(OTHER, &mut reply)
    .unwrap();
    assert_eq!(misbehaving.sends(at(1), &mut reply), Sending::Now);
    let frame = EthernetFrame::parse(&reply).unwrap();
    let Ok(Payload::Arp(arp)) = frame.payload() else {
        panic!("not ARP");
    };
    assert!(frame.source != MAC && frame.source.is_unicast());
    assert_eq!((arp.sender_mac, arp.target_mac), (frame.source, OTHER));

    let mut buffer = [0; 200];
    let Some(Act::Send(length)) =
        begin(Misbehaviour::Flood(Flood::Router, 1)).poll(at(0), &mut buffer)
    else {
        panic!("nothing sent");
    };
    let told = &mut buffer[..length];
    assert_eq!(misbehaving.sends(at(1), told), Sending::Now);
    let changed = EthernetFrame::parse(told).unwrap();
    let Ok(Payload::Ipv6(packet)) = changed.payload() else {
        panic!("not IPv6");
    };
    // With a checksum that is right.
    match Icmpv6Message::parse(&packet, packet.payload, 0).unwrap() {
        Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::RouterAdvertisement(told)) => {
            assert_eq!(told.source_link, Some(frame.source));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Changed), 2);
}

#[test]
fn a_looped_port_sends_back_what_comes_but_no_more_than_its_rate() {
    let mut misbehaving = begin(Misbehaviour::Loop(1000));
    let frame = question(Ipv4Addr::new(10, 77, 0, 1));
    let reflected = |misbehaving: &mut Misbehaving, now| {
        misbehaving.receives(now, &frame, &mut []) == Receiving::Reflected
    };
    let at_once = (0..100)
        .filter(|_| reflected(&mut misbehaving, at(0)))
        .count();
    assert_eq!(at_once, 11);
    let later = (1..=1000)
        .map(at)
        .filter(|now| reflected(&mut misbehaving, *now));
    assert_eq!(later.count(), 1000);
    assert_eq!(misbehaving.misdeeds().get(Misdeed::Missed), 89);
}

#[test]
fn whoever_has_to_hear_more_has_a_wider_receive_filter() {
    let narrow = crate::vm::Vm::new(
        Instant::ZERO,
        VmConfig::new(MAC, Ipv4Addr::new(10, 77, 0, 9)),
    );
    let narrow = narrow.rx_filter();
    let widened = |misbehaviour| {
        let mut filter = narrow.clone();
        begin(misbehaviour).widen(&mut filter);
        filter
    };
    assert_eq!(widened(Misbehaviour::Silent), narrow);
    assert!(widened(Misbehaviour::Loop(1)).is_promiscuous);
    let stolen = Ipv4Addr::new(10, 77, 0, 2);
    let filter = widened(Misbehaviour::Steal(stolen.into()));
    let asked = question(stolen);
    let asked = EthernetFrame::parse(&asked).unwrap();
    assert!(filter.accepts(&asked) && !narrow.accepts(&asked));
    let everything = widened(Misbehaviour::Loop(1));
    assert!(everything.accepts(&asked));
    // One that looks for an address hears all requests, and goes on doing so.
    let mut searching = RxFilter::new(MAC);
    begin(Misbehaviour::Steal(stolen.into())).widen(&mut searching);
    assert_eq!(searching, RxFilter::new(MAC));
}

#[test]
fn each_kind_has_a_name_of_its_own_and_can_be_said() {
    let words = Misbehaviour::DEFAULTS.map(|each| each.to_string());
    let expected = [
        "silent",
        "slow 50ms",
        "flap 1s/100ms",
        "steal 10.77.0.2",
        "wrong-mac",
        "arp-flood 1000/s",
        "broadcast 1000/s",
        "mac-flood 10000/s",
        "dhcp-starve 100/s",
        "ra-rogue 1/s",
        "nd-flood 1000/s",
        "loop 1000/s",
    ];
    assert_eq!(words, expected);
    for (misbehaviour, words) in Misbehaviour::DEFAULTS.into_iter().zip(words) {
        assert!(words.starts_with(misbehaviour.name()), "{words}");
        misbehaviour.check().unwrap();
        let expected = misbehaviour.expected();
        let is_example = expected.ends_with(&format!("such as {words}"));
        let is_number =
            expected.contains("such as 1000/s") || expected == "expected the word alone";
        assert!(is_example || is_number, "{expected}");
    }
}

#[test]
fn a_flood_is_of_the_address_that_its_vm_has_at_the_time() {
    let arp = |frame: &[u8]| match EthernetFrame::parse(frame).unwrap().payload() {
        Ok(Payload::Arp(arp)) => (arp.sender, arp.target.octets()),
        other => panic!("{other:?}"),
    };
    let none = Station {
        address: None,
        prefix_length: 0,
        ..station(None)
    };
    let flood = Misbehaviour::Flood(Flood::Arp, 1_000);
    let mut misbehaving = Misbehaving::new((Instant::ZERO, at(60_000)), flood, none, 7);
    for (_, frame) in sent(&mut misbehaving, at(50)) {
        let (sender, target) = arp(&frame);
        // To ask for an address that somebody tries would make that one give it up: nobody has these.
        assert_eq!(
            (sender, &target[..3]),
            (Ipv4Addr::UNSPECIFIED, &[192, 0, 2][..])
        );
    }
    misbehaving.set_station(station(None));
    for (_, frame) in sent(&mut misbehaving, at(100)) {
        let (sender, target) = arp(&frame);
        assert_eq!(
            (sender, &target[..2]),
            (Ipv4Addr::new(10, 77, 0, 9), &[10, 77][..])
        );
    }
}

#[test]
fn frames_that_are_dropped_with_a_slow_vm_are_counted() {
    let mut misbehaving = begin(Misbehaviour::Slow(MS * 50));
    for millis in [1, 2, 3] {
        misbehaving.sends(at(millis), &mut [1; 60]);
    }
    misbehaving.poll(at(51), &mut [0; 60]).unwrap();
    misbehaving.end(at(52));
    misbehaving.drop_held();
    assert!(misbehaving.is_over());
    let done: Vec<_> = misbehaving.misdeeds().iter().collect();
    assert_eq!(done, [(Misdeed::Delayed, 1), (Misdeed::Missed, 2)]);
}
