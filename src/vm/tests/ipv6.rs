//! One VM on IPv6, frame by frame, in virtual time.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;
use crate::vm::ipv6::Ipv6;
use crate::wire::{
    ALL_NODES, IcmpErrorKind, Icmpv6EchoRequest, Ipv6Envelope, NeighbourAdvertisement,
    NeighbourSolicitation, link_local, multicast_mac, solicited_node, turn_into_icmpv6_echo_reply,
    turn_into_icmpv6_error,
};

const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const OTHER: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
/// A time at which the reports of groups are over.
const QUIET: u64 = 3_000;

pub(super) fn config() -> VmConfig {
    VmConfig {
        ipv6: Some(Ipv6Config {
            interface: Some(Ipv6Interface {
                address: ADDRESS,
                prefix_length: 64,
            }),
            probe: false,
            slaac: false,
            dhcp: false,
            report: Duration::ZERO,
            gateway: None,
            announce: None,
        }),
        ..VmConfig::new(MAC, IP)
    }
}

pub(super) fn with(change: impl FnOnce(&mut Ipv6Config)) -> VmConfig {
    let mut config = config();
    change(config.ipv6.as_mut().unwrap());
    config
}

/// A VM that pings `destination`.
fn bench(config: VmConfig, destination: Ipv6Addr) -> Bench {
    let mut bench = Bench::with(config);
    let session = SessionConfig {
        destination: destination.into(),
        probe: Probe::ICMP_ECHO,
        payload_length: 16,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(session).unwrap();
    bench
}

/// A VM that has sent its reports.
fn settled() -> Bench {
    let mut bench = bench(config(), OTHER);
    drain(&mut bench, ms(QUIET));
    bench
}

/// Everything that a VM does until `until`, with the milliseconds at which it does so.
pub(super) fn drain(bench: &mut Bench, until: Instant) -> Vec<(u64, String)> {
    let mut done = Vec::new();
    while let Some(at) = bench.vm.poll_at().filter(|at| *at <= until) {
        if let Some((sent, event)) = bench.poll(at) {
            let what = sent.or(event.map(|event| format!("{event:?}")));
            done.push((at.as_nanos() / 1_000_000, what.unwrap_or_default()));
        }
        assert!(done.len() < 100, "it never ends: {done:?}");
    }
    done
}

fn envelope6(source: Ipv6Addr, destination: Ipv6Addr) -> Ipv6Envelope {
    let destination_mac = if destination.is_multicast() {
        multicast_mac(destination)
    } else {
        MAC
    };
    Ipv6Envelope {
        source_mac: PEER_MAC,
        destination_mac,
        source,
        destination,
        traffic_class: 0,
        hop_limit: 64,
    }
}

fn built(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut frame = vec![0; 2000];
    let length = write(&mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let message = NeighbourSolicitation {
        target,
        source_link: (!source.is_unspecified()).then_some(PEER_MAC),
        nonce: None,
    };
    built(|frame| message.write(envelope6(source, destination), frame))
}

fn advertisement(target: Ipv6Addr, destination: Ipv6Addr, solicited: bool) -> Vec<u8> {
    let message = NeighbourAdvertisement {
        target,
        target_link: Some(PEER_MAC),
        router: false,
        solicited,
        overrides: true,
    };
    built(|frame| message.write(envelope6(target, destination), frame))
}

fn echo_request(source: Ipv6Addr, destination: Ipv6Addr, length: usize) -> Vec<u8> {
    let request = Icmpv6EchoRequest {
        envelope: envelope6(source, destination),
        identifier: 7,
        sequence: 9,
    };
    built(|frame| request.write(length, |payload| payload.fill(0x55), frame))
}

/// A packet from the other, of any protocol.
pub(super) fn packet(destination: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = echo_request(OTHER, destination, 0);
    frame.truncate(54);
    frame[18..20].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    frame[20] = next_header;
    frame.extend(payload);
    frame
}

/// The next header, offset, flag and identification of a fragment header.
fn fragment(next_header: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let [o0, o1] = (offset | u16::from(more)).to_be_bytes();
    let mut bytes = vec![next_header, 0, o0, o1, 0, 0, 0, 77];
    bytes.extend(payload);
    packet(ADDRESS, 44, &bytes)
}

#[test]
fn a_solicitation_for_each_of_its_addresses_is_answered_as_rfc_4861_says() {
    let local = link_local(MAC);
    let nobody = Ipv6Addr::UNSPECIFIED;
    for (source, destination, target, expected) in [
        (
            OTHER,
            solicited_node(ADDRESS),
            ADDRESS,
            "IPv6 fd77::2 > fd77::3, neighbour advertisement, fd77::2 is at 02:00:0a:4d:00:02 solicited override",
        ),
        (
            OTHER,
            ADDRESS,
            ADDRESS,
            "IPv6 fd77::2 > fd77::3, neighbour advertisement, fd77::2 is at 02:00:0a:4d:00:02 solicited override",
        ),
        (
            OTHER,
            solicited_node(local),
            local,
            "IPv6 fe80::aff:fe4d:2 > fd77::3, neighbour advertisement, fe80::aff:fe4d:2 is at 02:00:0a:4d:00:02 \
             solicited override",
        ),
        (
            nobody,
            solicited_node(ADDRESS),
            ADDRESS,
            "IPv6 fd77::2 > ff02::1, neighbour advertisement, fd77::2 is at 02:00:0a:4d:00:02 override",
        ),
    ] {
        let frame = solicitation(source, destination, target);
        let (sent, event) = settled().receive(ms(QUIET), &frame);
        assert_eq!((sent.as_deref(), event), (Some(expected), None));
    }
}

#[test]
fn what_is_not_for_it_is_ignored_and_named() {
    let foreign: Ipv6Addr = "fd77::1234".parse().unwrap();
    let same_group: Ipv6Addr = "fd77::1:0:2".parse().unwrap();
    let mut far = solicitation(OTHER, ADDRESS, ADDRESS);
    far[21] = 254;
    for (frame, expected) in [
        (
            solicitation(OTHER, solicited_node(foreign), foreign),
            Ignored::OtherStation,
        ),
        (
            solicitation(OTHER, solicited_node(ADDRESS), same_group),
            Ignored::OtherTarget,
        ),
        (
            advertisement(foreign, ADDRESS, true),
            Ignored::UnexpectedAdvertisement,
        ),
        (echo_request(ALL_NODES, ADDRESS, 8), Ignored::BadSource),
        (echo_request(ADDRESS, ADDRESS, 8), Ignored::BadSource),
        (
            echo_request(Ipv6Addr::UNSPECIFIED, ADDRESS, 8),
            Ignored::BadSource,
        ),
        (echo_request(OTHER, foreign, 8), Ignored::OtherAddress),
        (packet(ADDRESS, 59, &[]), Ignored::Protocol(59)),
    ] {
        let (sent, event) = settled().receive(ms(QUIET), &frame);
        assert_eq!((sent, ignored(event)), (None, expected));
    }
    let (sent, event) = settled().receive(ms(QUIET), &far);
    assert!(matches!(ignored(event), Ignored::Malformed(_)) && sent.is_none());
    // A VM without IPv6.
    let (sent, event) = Bench::new().receive(ms(1), &echo_request(OTHER, ADDRESS, 8));
    assert_eq!((sent, ignored(event)), (None, Ignored::EtherType(0x86dd)));
}

#[test]
fn a_ping_is_resolved_answered_and_checked_again_by_unicast_when_it_is_old() {
    let mut bench = settled();
    let asked = "IPv6 fd77::2 > ff02::1:ff00:3, neighbour solicitation, who has fd77::3";
    assert_eq!(bench.ping(ms(QUIET)), asked);
    let (sent, event) = bench.receive(ms(QUIET + 2), &advertisement(OTHER, ADDRESS, true));
    assert_eq!(
        sent.as_deref(),
        Some("IPv6 fd77::2 > fd77::3, ICMPv6 echo request id 1 seq 0 (16 bytes)")
    );
    assert_eq!(
        event,
        Some(Event::Resolved {
            address: OTHER.into(),
            mac: PEER_MAC,
            elapsed: Duration::from_millis(2)
        })
    );
    let request = Icmpv6EchoRequest {
        envelope: Ipv6Envelope {
            source_mac: MAC,
            destination_mac: PEER_MAC,
            ..envelope6(ADDRESS, OTHER)
        },
        identifier: bench.session.0 as u16,
        sequence: 0,
    };
    let mut reply = built(|frame| request.write(16, |payload| fill_payload(0, payload), frame));
    turn_into_icmpv6_echo_reply(&mut reply, 54, PEER_MAC, OTHER, 64).unwrap();
    let (_, event) = bench.receive(ms(QUIET + 5), &reply);
    let answered = PingOutcome::Answered {
        due: ms(QUIET),
        sent: ms(QUIET + 2),
        received: ms(QUIET + 5),
    };
    assert_eq!(outcome(event), Some((0, answered)));

    // When its advertisement is too old, the next ping starts the delay before the check.
    let old = ms(QUIET + 2) + BASE_REACHABLE_TIME;
    assert!(bench.ping(old).contains("echo request"));
    let check = "IPv6 fd77::2 > fd77::3, neighbour solicitation, who has fd77::3";
    let check_at = old + DELAY_FIRST_PROBE_TIME;
    assert_eq!(bench.vm.poll_at(), Some(check_at));
    assert_eq!(bench.poll(check_at), Some((Some(check.to_owned()), None)));
    bench.receive(check_at, &advertisement(OTHER, ADDRESS, true));
    assert_eq!(drain(&mut bench, ms(100_000)), []);
}

#[test]
fn a_neighbour_that_asked_first_needs_no_question_but_is_checked() {
    let mut bench = settled();
    bench.receive(ms(QUIET), &solicitation(OTHER, ADDRESS, ADDRESS));
    assert!(bench.ping(ms(QUIET + 1)).contains("echo request"));
    let check = "IPv6 fd77::2 > fd77::3, neighbour solicitation, who has fd77::3";
    let check_at = ms(QUIET + 1) + DELAY_FIRST_PROBE_TIME;
    assert_eq!(bench.vm.poll_at(), Some(check_at));
    let expected = (Some(check.to_owned()), None);
    assert_eq!(bench.poll(check_at), Some(expected));
}

#[test]
fn an_address_is_tried_before_it_is_used_if_so_told() {
    let mut bench = bench(with(|ipv6| ipv6.probe = true), OTHER);
    let frames = drain(&mut bench, ms(10_000));
    let (reports, frames): (Vec<_>, Vec<_>) = frames
        .iter()
        .map(|(at, what)| (*at, what.as_str()))
        .partition(|(_, what)| what.contains("listener"));
    let from_nobody = "IPv6 :: > ff02::16, multicast listener report v2";
    assert_eq!(
        reports[..2]
            .iter()
            .filter(|(_, what)| *what == from_nobody)
            .count(),
        2
    );
    assert_eq!(reports[0].0, 0, "before the first probe");
    assert_eq!(reports.len(), 4, "twice, and twice more from the address");
    let (times, frames): (Vec<u64>, Vec<&str>) = frames.into_iter().unzip();
    let start = times[0];
    assert!(start < 1000, "{times:?}");
    assert_eq!(
        frames,
        [
            "IPv6 :: > ff02::1:ff4d:2, neighbour solicitation, who has fe80::aff:fe4d:2",
            "IPv6 :: > ff02::1:ff00:2, neighbour solicitation, who has fd77::2",
            "AddressReady { address: fe80::aff:fe4d:2 }",
            "AddressReady { address: fd77::2 }",
        ]
    );
    assert_eq!(times[2], start + 1000);
    let addresses: Vec<_> = bench.vm.ipv6_addresses().collect();
    assert_eq!(addresses, [link_local(MAC), ADDRESS]);
}

#[test]
fn a_tentative_address_is_given_up_when_somebody_else_has_or_tries_it() {
    let claims = [
        solicitation(Ipv6Addr::UNSPECIFIED, solicited_node(ADDRESS), ADDRESS),
        advertisement(ADDRESS, ALL_NODES, false),
    ];
    for claim in claims {
        let mut bench = bench(with(|ipv6| ipv6.probe = true), OTHER);
        drain(&mut bench, ms(1000));
        let (sent, event) = bench.receive(ms(1001), &claim);
        let conflict = Event::Conflict {
            address: ADDRESS.into(),
            mac: PEER_MAC,
        };
        assert_eq!((sent, event), (None, Some(conflict)));
        drain(&mut bench, ms(10_000));
        let addresses: Vec<_> = bench.vm.ipv6_addresses().collect();
        assert_eq!(addresses, [link_local(MAC)]);
        assert_eq!(bench.ping(ms(10_000)), "unresolved");
    }
}

#[test]
fn a_tentative_address_answers_nobody_and_its_own_probe_is_no_conflict() {
    let mut bench = bench(with(|ipv6| ipv6.probe = true), OTHER);
    // The first that is no report of groups.
    let (at, own) = std::iter::repeat_with(|| {
        let at = bench.vm.poll_at().unwrap();
        let own = bench.vm.poll(at, &mut bench.buffer).unwrap();
        (at, bench.buffer[..own.transmit.unwrap().length].to_vec())
    })
    .find(|(_, frame)| frame[20] == 58)
    .unwrap();
    let asked = solicitation(OTHER, solicited_node(ADDRESS), ADDRESS);
    for frame in [own, asked] {
        let (sent, event) = bench.receive(at, &frame);
        assert_eq!((sent, ignored(event)), (None, Ignored::OtherTarget));
    }
    let (sent, event) = bench.receive(at, &echo_request(OTHER, ADDRESS, 8));
    assert_eq!((sent, ignored(event)), (None, Ignored::OtherAddress));
}

#[test]
fn own_frames_that_come_back_are_no_conflict() {
    // As a hairpin port returns them: at once, or after the address was taken into use.
    for delay in [0, 5_000] {
        let mut config = with(|ipv6| {
            ipv6.probe = true;
            ipv6.announce = Some(Duration::ZERO);
        });
        (config.ipv4.probe, config.ipv4.announce) = (true, Some(Duration::ZERO));
        let mut bench = bench(config, OTHER);
        let mut on_their_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut kinds = Vec::new();
        loop {
            let poll_at = bench.vm.poll_at();
            let comes_at = on_their_way.front().map(|(at, _)| *at);
            let Some(now) = crate::time::earliest(poll_at, comes_at) else {
                break;
            };
            let reaction = if comes_at.is_some_and(|at| at <= now) {
                let (_, frame) = on_their_way.pop_front().unwrap();
                bench.buffer[..frame.len()].copy_from_slice(&frame);
                bench.vm.receive(now, &mut bench.buffer, frame.len())
            } else {
                let reaction = bench.vm.poll(now, &mut bench.buffer);
                reaction.unwrap_or_default()
            };
            let event = reaction.event;
            assert!(!matches!(event, Some(Event::Conflict { .. })), "{event:?}");
            if let Some(transmit) = reaction.transmit {
                let frame = bench.buffer[..transmit.length].to_vec();
                kinds.push(bench.describe(transmit.length));
                on_their_way.push_back((now + Duration::from_millis(delay), frame));
            }
            assert!(kinds.len() < 50, "it never ends: {kinds:#?}");
        }
        for kind in [
            "ARP request",
            "neighbour solicitation",
            "neighbour advertisement",
        ] {
            assert!(kinds.iter().any(|told| told.contains(kind)), "{kind}");
        }
        let addresses: Vec<_> = bench.vm.ipv6_addresses().collect();
        assert_eq!(addresses, [link_local(MAC), ADDRESS]);
        assert_eq!(bench.vm.address(), Some(IP));
    }
}

#[test]
fn another_station_with_our_hardware_address_that_tries_our_address_is_a_conflict() {
    let mut bench = bench(with(|ipv6| ipv6.probe = true), OTHER);
    drain(&mut bench, ms(1000));
    let mut probe = solicitation(Ipv6Addr::UNSPECIFIED, solicited_node(ADDRESS), ADDRESS);
    probe[6..12].copy_from_slice(&MAC.0);
    let (_, event) = bench.receive(ms(1001), &probe);
    let conflict = Event::Conflict {
        address: ADDRESS.into(),
        mac: MAC,
    };
    assert_eq!(event, Some(conflict), "it has another nonce (RFC 7527)");
}

#[test]
fn another_station_with_an_address_in_use_is_reported() {
    let mut bench = settled();
    let (sent, event) = bench.receive(ms(QUIET), &advertisement(ADDRESS, ALL_NODES, false));
    let conflict = Event::Conflict {
        address: ADDRESS.into(),
        mac: PEER_MAC,
    };
    assert_eq!((sent, event), (None, Some(conflict)));
    assert_eq!(bench.vm.ipv6_addresses().count(), 2, "it keeps it");
}

/// A router advertisement from the peer: a default router for `router` seconds, with the prefix fd99::/64 for `valid`
/// seconds.
fn router_advertisement(router: u16, valid: u32) -> Vec<u8> {
    advertisement_of(PEER_MAC, 0, router, valid)
}

/// The same from any router, with flags.
pub(super) fn advertisement_of(router_mac: MacAddr, flags: u8, router: u16, valid: u32) -> Vec<u8> {
    let [l0, l1] = router.to_be_bytes();
    let mut message = vec![134, 0, 0, 0, 33, flags, l0, l1, 0, 0, 0, 0, 0, 0, 0, 0];
    let MacAddr(mac) = router_mac;
    message.extend([1, 1]);
    message.extend(mac);
    message.extend([3, 4, 64, 0xc0]);
    message.extend(valid.to_be_bytes());
    message.extend(valid.to_be_bytes());
    message.extend([0; 4]);
    message.extend(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0).octets());
    let mut frame = packet(ALL_NODES, 58, &message);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    frame[21] = 255;
    frame[6..12].copy_from_slice(&router_mac.0);
    frame[22..38].copy_from_slice(&link_local(router_mac).octets());
    seal6(&mut frame);
    frame
}

/// Puts the ICMPv6 checksum of `frame`, which has no extension headers, right.
pub(super) fn seal6(frame: &mut [u8]) {
    let length = (frame.len() - 54) as u16;
    frame[56..58].fill(0);
    let mut summed = frame[22..54].to_vec();
    summed.extend(u32::from(length).to_be_bytes());
    summed.extend([0, 0, 0, 58]);
    summed.extend(&frame[54..]);
    frame[56..58].copy_from_slice(&checksum(&summed));
}

#[test]
fn a_router_gives_an_address_and_a_way_out_for_as_long_as_it_says() {
    let made: Ipv6Addr = "fd99::aff:fe4d:2".parse().unwrap();
    let mut bench = bench(with(|ipv6| ipv6.slaac = true), FAR);
    let asked = drain(&mut bench, ms(20_000));
    let asked: Vec<u64> = asked
        .iter()
        .filter(|(_, what)| what.ends_with("router solicitation"))
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(asked.len(), 3);
    assert_eq!((asked[1] - asked[0], asked[2] - asked[1]), (4000, 4000));
    assert_eq!(bench.ping(ms(20_000)), "unresolved");

    let (_, event) = bench.receive(ms(20_000), &router_advertisement(1800, 3600));
    assert_eq!(
        event,
        Some(Event::AddressReady {
            address: made.into()
        })
    );
    assert_eq!(
        bench.ping(ms(20_001)),
        "IPv6 fd99::aff:fe4d:2 > 2001:db8::9, ICMPv6 echo request id 1 seq 1 (16 bytes)",
        "by way of the router, whose hardware address is known"
    );
    assert_eq!(&bench.buffer[..6], PEER_MAC.0);
    assert_eq!(
        bench.buffer[21], 33,
        "the hop limit that the router advises"
    );

    // Two hours are left to it whatever the router says now; but it is no router any more.
    bench.receive(ms(30_000), &router_advertisement(0, 0));
    assert!(bench.vm.ipv6_addresses().any(|address| address == made));
    assert_eq!(bench.ping(ms(30_001)), "unresolved");
    let done = drain(&mut bench, ms(8_000_000));
    let lost = format!("AddressLost {{ address: {made} }}");
    let lost = done.iter().find(|(_, what)| *what == lost);
    assert_eq!(lost.map(|(at, _)| *at), Some(3_620_000), "{done:?}");
}

#[test]
fn what_is_outside_the_network_goes_to_the_gateway() {
    let gateway = OTHER;
    let mut bench = bench(with(|ipv6| ipv6.gateway = Some(gateway)), FAR);
    drain(&mut bench, ms(QUIET));
    let asked =
        format!("IPv6 {ADDRESS} > ff02::1:ff00:3, neighbour solicitation, who has {gateway}");
    assert_eq!(bench.ping(ms(QUIET)), asked);
    let (sent, _) = bench.receive(ms(QUIET), &advertisement(gateway, ADDRESS, true));
    let ping = format!("IPv6 {ADDRESS} > {FAR}, ICMPv6 echo request id 1 seq 0 (16 bytes)");
    assert_eq!(sent, Some(ping));
    assert_eq!(bench.buffer[..6], PEER_MAC.0);
}

#[test]
fn addresses_are_announced_twice_when_they_are_known_to_be_its_own() {
    let announcements = |config: VmConfig, until: u64| {
        let mut bench = bench(config, OTHER);
        let done = drain(&mut bench, ms(until));
        let told = done.into_iter().filter_map(|(at, what)| {
            let words = what.split_once("neighbour advertisement, ")?.1;
            assert!(
                what.starts_with("IPv6 ") && what.contains(" > ff02::1, "),
                "{what}"
            );
            Some((at, words.to_owned()))
        });
        told.collect::<Vec<_>>()
    };
    let link_local = format!("fe80::aff:fe4d:2 is at {MAC} override");
    let global = format!("{ADDRESS} is at {MAC} override");
    let delay = Some(Duration::from_millis(300));
    let expected = |start: u64| -> Vec<(u64, String)> {
        [start, start + 2_000]
            .into_iter()
            .flat_map(|at| [(at, link_local.clone()), (at, global.clone())])
            .collect()
    };
    let at_once = with(|ipv6| ipv6.announce = delay);
    assert_eq!(announcements(at_once, 60_000), expected(300));
    assert_eq!(announcements(config(), 60_000), []);
    // A probe, and a second without an answer, come first.
    let probed = with(|ipv6| {
        ipv6.announce = delay;
        ipv6.probe = true;
    });
    let found = announcements(probed, 60_000);
    let start = found[0].0;
    assert!((1_300..=2_300).contains(&start), "{found:?}");
    assert_eq!(found, expected(start));
}

#[test]
fn what_a_router_says_of_the_links_mtu_holds_if_it_can() {
    for (mtu, fragments) in [
        (1280u32, 2),
        (1499, 2),
        (1500, 1),
        (1279, 1),
        (9000, 1),
        (0, 1),
    ] {
        let mut bench = bench(with(|ipv6| ipv6.slaac = true), FAR);
        drain(&mut bench, ms(20_000));
        let mut router = router_advertisement(1800, 3600);
        router.extend([5, 1, 0, 0]);
        router.extend(mtu.to_be_bytes());
        router[19] += 8;
        seal6(&mut router);
        bench.receive(ms(20_000), &router);
        let made: Ipv6Addr = "fd99::aff:fe4d:2".parse().unwrap();
        let request = Icmpv6EchoRequest {
            envelope: envelope6(OTHER, made),
            identifier: 1,
            sequence: 1,
        };
        let frame = built(|frame| request.write(1_452, |_| (), frame));
        assert_eq!(frame.len(), 14 + 1_500);
        let (sent, _) = bench.receive(ms(20_000), &frame);
        let later = std::iter::from_fn(|| bench.poll(ms(20_000))).filter_map(|(sent, _)| sent);
        let to_asker = |frame: &String| frame.contains(&format!("> {OTHER}, "));
        let sent: Vec<String> = sent.into_iter().chain(later).filter(to_asker).collect();
        assert_eq!(sent.len(), fragments, "{mtu}: {sent:?}");
        let are_fragments = sent.iter().all(|frame| frame.contains("fragment"));
        assert_eq!(are_fragments, fragments > 1, "{mtu}: {sent:?}");
    }
}

#[test]
fn routers_are_not_heard_unless_so_told() {
    let (sent, event) = settled().receive(ms(QUIET), &router_advertisement(1800, 3600));
    assert_eq!((sent, ignored(event)), (None, Ignored::IcmpType(134)));
}

#[test]
fn prefixes_beyond_any_bound_make_no_more_addresses_than_there_is_room_for() {
    let mut bench = bench(with(|ipv6| ipv6.slaac = true), FAR);
    for i in 0..1000u16 {
        let mut frame = router_advertisement(1800, 3600);
        let prefix = frame.len() - 14;
        frame[prefix..prefix + 2].copy_from_slice(&i.to_be_bytes());
        seal6(&mut frame);
        bench.receive(ms(1), &frame);
    }
    assert_eq!(bench.vm.ipv6_addresses().count(), MAX_IPV6_ADDRESSES);
}

#[test]
fn what_it_does_not_speak_is_refused_with_the_error_that_rfc_4443_asks_for() {
    let udp = {
        let mut datagram = vec![0x30, 0, 0, 9, 0, 9, 0, 0, 0xaa];
        let mut summed = [OTHER.octets(), ADDRESS.octets()].concat();
        summed.extend([0, 0, 0, 9, 0, 0, 0, 17]);
        summed.extend(&datagram);
        datagram[6..8].copy_from_slice(&checksum(&summed));
        packet(ADDRESS, 17, &datagram)
    };
    let option = |kind: u8| [58, 0, kind, 4, 0, 0, 0, 0];
    let cases = [
        (
            packet(ADDRESS, 132, &[0; 20]),
            "parameter problem, code 1, at byte 6",
        ),
        (
            packet(ADDRESS, 253, &[]),
            "parameter problem, code 1, at byte 6",
        ),
        (
            packet(ADDRESS, 60, &[253, 0, 1, 4, 0, 0, 0, 0]),
            "parameter problem, code 1, at byte 40",
        ),
        (udp, "destination unreachable, code 4"),
        (
            packet(ADDRESS, 60, &option(0x9e)),
            "parameter problem, code 2, at byte 42",
        ),
        (
            packet(ALL_NODES, 60, &option(0x9e)),
            "parameter problem, code 2, at byte 42",
        ),
        (
            packet(ADDRESS, 60, &option(0xde)),
            "parameter problem, code 2, at byte 42",
        ),
        (
            packet(ADDRESS, 43, &[58, 0, 0, 1, 0, 0, 0, 0]),
            "parameter problem, code 0, at byte 42",
        ),
        (
            fragment(58, 0, true, &[0; 9]),
            "parameter problem, code 0, at byte 4",
        ),
        (
            fragment(0, 0, true, &[58, 0, 1, 4, 0, 0, 0, 0]),
            "parameter problem, code 1, at byte 40",
        ),
        (
            fragment(58, 0xfff8, false, &[0; 80]),
            "parameter problem, code 0, at byte 42",
        ),
        (
            fragment(60, 0, true, &[58, 1, 0, 0, 0, 0, 0, 0]),
            "parameter problem, code 3, at byte 0",
        ),
    ];
    for (frame, expected) in cases {
        let (sent, _) = settled().receive(ms(QUIET), &frame);
        let sent = sent.unwrap_or_default();
        assert!(
            sent.ends_with(&format!("ICMPv6 {expected}")),
            "{expected}: {sent}"
        );
        // From the address of the asker's scope, also if the packet went to a group.
        let from = format!("IPv6 {ADDRESS} > {OTHER}, ");
        assert!(sent.starts_with(&from), "{expected}: {sent}");
    }
    for frame in [
        packet(ALL_NODES, 253, &[]),
        packet(ALL_NODES, 60, &option(0xde)),
        packet(ADDRESS, 60, &option(0x5e)),
        packet(ADDRESS, 59, &[1, 2, 3]),
    ] {
        assert_eq!(settled().receive(ms(QUIET), &frame).0, None);
    }
    let mut bench = settled();
    let sent = (0..100).filter(|_| {
        bench
            .receive(ms(QUIET), &packet(ADDRESS, 253, &[]))
            .0
            .is_some()
    });
    assert_eq!(sent.count(), 6, "a burst, and then one a second");
}

#[test]
fn an_error_ends_the_ping_that_it_quotes() {
    for (error, expected) in [
        ((1, 0, 0), PingError::NetworkUnreachable),
        ((1, 3, 0), PingError::HostUnreachable),
        ((1, 4, 0), PingError::PortUnreachable),
        ((2, 0, 1280), PingError::FragmentationNeeded),
        ((3, 0, 0), PingError::TimeExceeded),
        ((4, 1, 6), PingError::ProtocolUnreachable),
    ] {
        let mut bench = settled();
        bench.vm.add_neighbour(OTHER.into(), PEER_MAC);
        let PingStart::Transmit(transmit) =
            bench
                .vm
                .ping(ms(QUIET), bench.session, ms(QUIET), &mut bench.buffer)
        else {
            panic!("nothing sent");
        };
        bench.vm.stamp_sent(transmit.ping.unwrap(), ms(QUIET));
        let (kind, code, parameter) = error;
        let error = (IcmpErrorKind { kind, code }, parameter);
        let mut frame = bench.buffer[..1500].to_vec();
        let router: Ipv6Addr = "fd77::1".parse().unwrap();
        let length =
            turn_into_icmpv6_error(&mut frame, transmit.length, error, PEER_MAC, router, 64);
        frame.truncate(length.unwrap());
        let (_, event) = bench.receive(ms(QUIET + 1), &frame);
        let errored = PingOutcome::Errored {
            due: ms(QUIET),
            sent: ms(QUIET),
            error: expected,
        };
        assert_eq!(outcome(event), Some((0, errored)));
        let (_, event) = bench.receive(ms(QUIET + 1), &frame);
        assert_eq!(ignored(event), Ignored::UnexpectedIcmpError, "not twice");
    }
}

#[test]
fn all_nodes_are_answered_from_the_address_that_fits() {
    let local = link_local(PEER_MAC);
    for (source, expected) in [
        (
            local,
            "IPv6 fe80::aff:fe4d:2 > fe80::aff:fe4d:3, ICMPv6 echo reply id 7 seq 9 (8 bytes)",
        ),
        (
            OTHER,
            "IPv6 fd77::2 > fd77::3, ICMPv6 echo reply id 7 seq 9 (8 bytes)",
        ),
    ] {
        let frame = echo_request(source, ALL_NODES, 8);
        let (sent, _) = settled().receive(ms(QUIET), &frame);
        assert_eq!(sent.as_deref(), Some(expected));
    }
}

#[test]
fn large_echoes_come_in_fragments_and_go_out_in_fragments() {
    let mut bench = settled();
    let whole = {
        let request = Icmpv6EchoRequest {
            envelope: envelope6(OTHER, ADDRESS),
            identifier: 7,
            sequence: 9,
        };
        let mut frame = vec![0; 5000];
        request
            .write(4000, |payload| payload.fill(0x55), &mut frame)
            .unwrap();
        frame[54..4062].to_vec()
    };
    // The last piece first.
    for offset in [2000usize, 1000, 0] {
        let end = if offset == 2000 {
            whole.len()
        } else {
            offset + 1000
        };
        let piece = fragment(58, offset as u16, end < whole.len(), &whole[offset..end]);
        let (sent, event) = bench.receive(ms(QUIET), &piece);
        assert_eq!(event, None);
        let first = "IPv6 fd77::2 > fd77::3, fragment ";
        assert_eq!(sent.is_some(), offset == 0);
        assert!(sent.is_none_or(|sent| sent.starts_with(first)));
    }
    let rest = drain(&mut bench, ms(QUIET));
    let ends: Vec<&str> = rest
        .iter()
        .map(|(_, what)| what.split_once("of protocol").unwrap().1)
        .collect();
    assert_eq!(
        ends,
        [" 58, 1448 bytes at 1448+", " 58, 1112 bytes at 2896"]
    );
}

#[test]
fn fragments_that_never_become_whole_are_given_up_and_reported() {
    let mut bench = settled();
    let piece = fragment(58, 0, true, &[128, 0, 0, 0, 0, 0, 0, 0]);
    bench.receive(ms(QUIET), &piece);
    let done = drain(&mut bench, ms(QUIET + 100_000));
    let told = "IPv6 fd77::2 > fd77::3, ICMPv6 time exceeded, code 1";
    assert_eq!(done, [(QUIET + 60_000, told.to_owned())]);
}

#[test]
fn an_idle_vm_takes_less_than_a_kilobyte() {
    // A box, room for two addresses and for their groups: nothing else is on the heap before something comes.
    let membership = crate::vm::membership::bytes_of::<Ipv6Addr>();
    let ipv6 = size_of::<Ipv6>() + 2 * (crate::vm::ipv6::ADDRESS_BYTES + membership);
    let vm = size_of::<Vm>();
    assert!(vm + ipv6 <= 1024, "{vm} and {ipv6}");
}

proptest! {
    #[test]
    fn noise_makes_it_neither_panic_nor_talk(
        kind in 0usize..6, at in 14usize..80, noise in prop::collection::vec(any::<u8>(), 0..60), sealed: bool,
        until in 0u64..100_000
    ) {
        let mut bench = bench(with(|ipv6| { ipv6.slaac = true; ipv6.probe = at % 2 == 0; }), OTHER);
        drain(&mut bench, ms(until % 5000));
        let mut frame = match kind {
            0 => echo_request(OTHER, ADDRESS, 100),
            1 => solicitation(OTHER, solicited_node(ADDRESS), ADDRESS),
            2 => router_advertisement(1800, 3600),
            3 => advertisement(OTHER, ADDRESS, true),
            4 => fragment(58, 0, true, &[0; 64]),
            _ => packet(ADDRESS, 60, &[58, 0, 1, 4, 0, 0, 0, 0]),
        };
        let at = at.min(frame.len());
        let end = (at + noise.len()).min(frame.len());
        frame[at..end].copy_from_slice(&noise[..end - at]);
        if sealed && frame.len() > 60 {
            seal6(&mut frame);
        }
        let length = frame.len();
        bench.buffer[..length].copy_from_slice(&frame);
        let reaction = bench.vm.receive(ms(5000), &mut bench.buffer, length);
        let sent = reaction.transmit.map_or(0, |transmit| transmit.length);
        prop_assert!(sent <= length + 48, "{sent} bytes for {length}");
        drain(&mut bench, ms(5000 + until));
    }
}
