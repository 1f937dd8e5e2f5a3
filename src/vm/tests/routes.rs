//! The ways of answers: by the routes, to the neighbour that they name, and to nobody who can't have asked.

use std::net::Ipv6Addr;

use etherparse::{PacketBuilder, TcpHeader};

use super::*;
use crate::vm::redirects::REDIRECT_LIFETIME;
use crate::wire::{IcmpErrorKind, insert_fragment_header, write_fragment, write_ipv6_fragment};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 1]);
const IP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
/// A time at which the reports of groups are over.
const QUIET: u64 = 3_000;

/// Everything that a VM answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Question {
    Echo,
    EchoInFragments,
    UdpEcho,
    ClosedPort,
    TcpSyn,
    UnknownProtocol,
}

const QUESTIONS: [Question; 6] = [
    Question::Echo,
    Question::EchoInFragments,
    Question::UdpEcho,
    Question::ClosedPort,
    Question::TcpSyn,
    Question::UnknownProtocol,
];

impl Question {
    /// The frames of the question from `mac` and `source` to the VM.
    fn frames(self, mac: MacAddr, source: IpAddr) -> Vec<Vec<u8>> {
        let ethernet = PacketBuilder::ethernet2(mac.0, MAC.0);
        let step = match source {
            IpAddr::V4(source) => ethernet.ipv4(source.octets(), IP.octets(), 64),
            IpAddr::V6(source) => ethernet.ipv6(source.octets(), IP6.octets(), 64),
        };
        let mut frame = Vec::new();
        let payload = [0x5a; 56];
        match (self, source) {
            (Question::Echo | Question::EchoInFragments, IpAddr::V4(_)) => {
                step.icmpv4_echo_request(7, 1).write(&mut frame, &payload)
            }
            (Question::Echo | Question::EchoInFragments, IpAddr::V6(_)) => {
                step.icmpv6_echo_request(7, 1).write(&mut frame, &payload)
            }
            (Question::UdpEcho, _) => step.udp(40_000, 7).write(&mut frame, &payload),
            (Question::ClosedPort | Question::UnknownProtocol, _) => {
                step.udp(40_000, 9).write(&mut frame, &payload)
            }
            (Question::TcpSyn, _) => {
                let mut header = TcpHeader::new(40_000, 80, 1_000, 1_024);
                header.syn = true;
                step.tcp_header(header).write(&mut frame, &[])
            }
        }
        .unwrap();
        match (self, source) {
            (Question::UnknownProtocol, IpAddr::V4(_)) => {
                frame[23] = 132;
                seal(&mut frame);
            }
            (Question::UnknownProtocol, IpAddr::V6(_)) => frame[20] = 132,
            (Question::EchoInFragments, _) => return cut(frame, source.is_ipv6()),
            _ => {}
        }
        vec![frame]
    }
}

/// Cuts the datagram in `frame` in fragments.
fn cut(mut frame: Vec<u8>, is_ipv6: bool) -> Vec<Vec<u8>> {
    if is_ipv6 {
        frame.splice(..0, [0; 8]);
        insert_fragment_header(&mut frame, 77).unwrap();
    } else {
        // It has "don't fragment", as etherparse makes it.
        frame[20] = 0;
        seal(&mut frame);
    }
    let mut fragments = Vec::new();
    let mut next = Some(0);
    while let Some(offset) = next {
        let mut buffer = vec![0; 200];
        let (length, following) = if is_ipv6 {
            write_ipv6_fragment(&frame, offset, 80, &mut buffer).unwrap()
        } else {
            write_fragment(&frame, offset, 60, &mut buffer).unwrap()
        };
        buffer.truncate(length);
        fragments.push(buffer);
        next = following;
    }
    assert!(fragments.len() > 1);
    fragments
}

/// A VM of both families that has sent its reports, with or without gateways.
fn bench(has_gateway: bool) -> Bench {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv4.addressing = Addressing::Static(Ipv4Interface {
        address: IP,
        prefix_length: 16,
        gateway: has_gateway.then_some(GATEWAY),
    });
    config.ipv4.udp_echo = true;
    config.ipv6 = Some(Ipv6Config {
        interface: Some(Ipv6Interface {
            address: IP6,
            prefix_length: 64,
        }),
        gateway: has_gateway.then_some(GATEWAY6),
        probe: false,
        slaac: false,
        dhcp: false,
        report: Duration::ZERO,
        announce: None,
    });
    let mut bench = Bench::with(config);
    while let Some(at) = bench.vm.poll_at() {
        assert!(at <= ms(QUIET), "it never ends");
        bench.poll(at);
    }
    bench
}

/// Asks a VM at `now`. Returns the destination of the answer, if one is sent at once, and the last event.
fn ask(
    bench: &mut Bench,
    question: Question,
    mac: MacAddr,
    source: IpAddr,
) -> (Option<MacAddr>, Option<Event>) {
    let mut last = (None, None);
    for frame in question.frames(mac, source) {
        let (sent, event) = bench.receive(ms(QUIET), &frame);
        last = (sent.map(|_| destination(bench)), event);
    }
    last
}

/// The destination of the frame that was built last.
fn destination(bench: &Bench) -> MacAddr {
    MacAddr(*bench.buffer.first_chunk().unwrap())
}

/// Each question from both families, from a neighbour or from far away.
fn questions(near: bool) -> impl Iterator<Item = (Question, IpAddr)> {
    let sources: [IpAddr; 2] = if near {
        [PEER.into(), PEER6.into()]
    } else {
        [FAR.into(), FAR6.into()]
    };
    QUESTIONS
        .into_iter()
        .flat_map(move |question| sources.map(|source| (question, source)))
}

#[test]
fn a_host_of_another_network_gets_no_answer_without_a_gateway() {
    for (question, source) in questions(false) {
        let mut bench = bench(false);
        let (sent, event) = ask(&mut bench, question, PEER_MAC, source);
        let what = format!("{question:?} from {source}");
        assert_eq!(sent, None, "{what}");
        let expected = match question {
            Question::ClosedPort => Ignored::ClosedPort(9),
            Question::UnknownProtocol => Ignored::Protocol(132),
            _ => Ignored::NoRoute,
        };
        assert_eq!(ignored(event), expected, "{what}");
        if question != Question::EchoInFragments {
            assert_eq!(bench.vm.poll_at(), None, "{what}");
        }
        assert_eq!(bench.vm.neighbours.len(), 0, "{what}");
    }
}

#[test]
fn a_host_of_another_network_is_answered_by_the_gateway_whoever_handed_over_the_question() {
    for (question, source) in questions(false) {
        let mut bench = bench(true);
        bench.vm.add_neighbour(GATEWAY.into(), GATEWAY_MAC);
        bench.vm.add_neighbour(GATEWAY6.into(), GATEWAY_MAC);
        let (sent, _) = ask(&mut bench, question, PEER_MAC, source);
        assert_eq!(sent, Some(GATEWAY_MAC), "{question:?} from {source}");
    }
}

#[test]
fn an_answer_waits_until_the_gateway_says_where_it_is() {
    for (question, source) in questions(false) {
        let mut bench = bench(true);
        let what = format!("{question:?} from {source}");
        let (sent, _) = ask(&mut bench, question, PEER_MAC, source);
        assert_eq!(sent, None, "{what}");
        assert!(bench.vm.poll_at() <= Some(ms(QUIET)), "{what}");
        let (asked, event) = bench.poll(ms(QUIET)).unwrap();
        let asked = asked.unwrap();
        let is_asked = match source {
            IpAddr::V4(_) => asked.contains("who-has 10.77.0.1"),
            IpAddr::V6(_) => asked.contains("who has fd77::1"),
        };
        assert!(is_asked, "{what}: {asked}");
        assert_eq!(event, None);
        assert!(bench.vm.poll_at() > Some(ms(QUIET)), "{what}");
        let told = match source {
            IpAddr::V4(_) => GATEWAY.into(),
            IpAddr::V6(_) => GATEWAY6.into(),
        };
        bench.vm.add_neighbour(told, GATEWAY_MAC);
        assert_eq!(bench.vm.poll_at(), Some(Instant::ZERO), "{what}");
        let (sent, _) = bench.poll(ms(QUIET)).unwrap();
        assert!(sent.is_some(), "{what}");
        assert_eq!(destination(&bench), GATEWAY_MAC, "{what}");
        assert_eq!(bench.poll(ms(QUIET)), None, "{what}");
    }
}

#[test]
fn answers_by_a_gateway_that_is_silent_are_bounded_and_dropped_in_the_end() {
    for source in [IpAddr::from(FAR), FAR6.into()] {
        let mut bench = bench(true);
        bench.vm.keep_ignored_probes();
        let request = PingHead::parse(&Question::Echo.frames(PEER_MAC, source)[0]);
        assert!(request.is_some());
        let mut kept = 0;
        loop {
            match ask(&mut bench, Question::Echo, PEER_MAC, source) {
                (None, None) => kept += 1,
                (None, event) => {
                    assert_eq!(ignored(event), Ignored::AnswerQueueFull);
                    assert_eq!(bench.vm.take_ignored_probe(), request);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        let bytes = kept * Question::Echo.frames(PEER_MAC, source)[0].len();
        assert!((120_000..=MAX_WAITING_ANSWERS).contains(&bytes), "{bytes}");
        let mut dropped = 0;
        let mut now = ms(QUIET);
        while let Some(at) = bench.vm.poll_at() {
            now = now.max(at);
            match bench.poll(now) {
                Some((None, event)) => {
                    assert_eq!(ignored(event), Ignored::NoNeighbour);
                    assert_eq!(bench.vm.take_ignored_probe(), request);
                    dropped += 1;
                }
                Some((Some(asked), None)) => assert!(asked.contains("who"), "{asked}"),
                None => {}
                other => panic!("{other:?}"),
            }
            assert!(now < ms(QUIET + 10_000));
        }
        assert_eq!(dropped, kept);
        let (sent, event) = ask(&mut bench, Question::Echo, PEER_MAC, source);
        assert_eq!((sent, event), (None, None), "and it starts over");
    }
}

#[test]
fn a_neighbour_is_answered_where_it_is_known_to_be_and_else_where_the_question_came_from() {
    for (question, source) in questions(true) {
        for (known, expected) in [
            (None, PEER_MAC),
            (Some(PEER_MAC), PEER_MAC),
            (Some(GATEWAY_MAC), GATEWAY_MAC),
        ] {
            let mut bench = bench(false);
            if let Some(mac) = known {
                bench.vm.add_neighbour(source, mac);
            }
            let (sent, _) = ask(&mut bench, question, PEER_MAC, source);
            assert_eq!(sent, Some(expected), "{question:?} {source} {known:?}");
            assert!(bench.vm.neighbours.len() <= 1);
        }
    }
}

#[test]
fn nobody_is_answered_who_cannot_have_asked() {
    let good = [IpAddr::from(PEER), PEER6.into()];
    let addresses = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.9.9.9",
        "10.77.0.0",
        "10.77.255.255",
        "255.255.255.255",
        "240.0.0.1",
        "254.1.2.3",
        "224.0.0.1",
        "239.1.2.3",
        "10.77.0.2",
        "::",
        "::1",
        "ff02::1",
        "ff05::2",
        "::ffff:10.77.0.3",
        "fd77::2",
    ];
    let addresses = addresses.map(|text| (PEER_MAC, text.parse().unwrap()));
    let stations = [
        MacAddr::ZERO,
        MacAddr::BROADCAST,
        MacAddr([1, 0, 0x5e, 0, 0, 1]),
        MAC,
    ];
    let stations = stations.map(|mac| good.map(|source| (mac, source)));
    for (mac, source) in addresses.into_iter().chain(stations.concat()) {
        for question in QUESTIONS {
            let mut bench = bench(true);
            bench.vm.add_neighbour(GATEWAY.into(), GATEWAY_MAC);
            bench.vm.add_neighbour(GATEWAY6.into(), GATEWAY_MAC);
            let (sent, event) = ask(&mut bench, question, mac, source);
            let what = format!("{question:?} from {mac} {source}");
            assert_eq!(sent, None, "{what}");
            assert_eq!(ignored(event), Ignored::BadSource, "{what}");
            assert_eq!(bench.vm.poll_at(), None, "{what}");
        }
    }
}

#[test]
fn a_plain_echo_takes_the_short_way_only_where_it_goes_straight_back() {
    for (source, known, redirected, expected) in [
        (PEER, None, false, true),
        (PEER, Some((PEER, PEER_MAC)), false, true),
        (PEER, Some((PEER, GATEWAY_MAC)), false, false),
        (PEER, None, true, false),
        (FAR, None, false, false),
        (FAR, Some((GATEWAY, PEER_MAC)), false, true),
        (FAR, Some((GATEWAY, GATEWAY_MAC)), false, false),
    ] {
        let mut bench = bench(true);
        if let Some((address, mac)) = known {
            bench.vm.add_neighbour(address.into(), mac);
        }
        if redirected {
            bench.vm.ipv4.redirect(ms(0), FAR, PEER);
        }
        let mut frame = Question::Echo.frames(PEER_MAC, source.into()).remove(0);
        let is_short = bench.vm.answer_plain_echo(&mut frame).is_some();
        assert_eq!(is_short, expected, "{source} {known:?} {redirected}");
    }
}

/// A redirect from `router` of what `quoted` sent to `destination`, to `gateway`.
fn redirect(
    (router_mac, router): (MacAddr, Ipv4Addr),
    gateway: Ipv4Addr,
    (quoted, destination): (Ipv4Addr, Ipv4Addr),
    code: u8,
) -> Vec<u8> {
    let mut frame = vec![0; 600];
    let request = EchoRequest {
        envelope: envelope((MAC, quoted), (router_mac, destination)),
        identifier: 1,
        sequence: 1,
    };
    request.write(16, |p| p.fill(0), &mut frame).unwrap();
    let kind = IcmpErrorKind { kind: 5, code };
    let length =
        crate::wire::turn_into_icmp_error(&mut frame, (kind, 0), router_mac, router, 64, 1)
            .unwrap();
    frame.truncate(length);
    frame[..6].copy_from_slice(&MAC.0);
    frame[30..34].copy_from_slice(&IP.octets());
    seal(&mut frame);
    frame[38..42].copy_from_slice(&gateway.octets());
    frame[36..38].fill(0);
    let sum = checksum(&frame[34..]);
    frame[36..38].copy_from_slice(&sum);
    frame
}

#[test]
fn a_redirect_is_taken_from_the_gateway_in_use_and_to_a_neighbour_only() {
    let other = Ipv4Addr::new(10, 77, 0, 7);
    let other_mac = MacAddr([2, 0, 10, 77, 0, 7]);
    let from = (GATEWAY_MAC, GATEWAY);
    let ours = (IP, FAR);
    let outside = Ipv4Addr::new(10, 99, 0, 7);
    for (name, frame, expected) in [
        ("sound", redirect(from, other, ours, 1), Some(other_mac)),
        ("a network", redirect(from, other, ours, 0), Some(other_mac)),
        ("no code", redirect(from, other, ours, 4), None),
        (
            "a neighbour's",
            redirect((PEER_MAC, PEER), other, ours, 1),
            None,
        ),
        (
            "about another's",
            redirect(from, other, (PEER, FAR), 1),
            None,
        ),
        (
            "about a neighbour",
            redirect(from, other, (IP, PEER), 1),
            None,
        ),
        ("to outside", redirect(from, outside, ours, 1), None),
        ("to itself", redirect(from, GATEWAY, ours, 1), None),
        ("to us", redirect(from, IP, ours, 1), None),
        ("to all", redirect(from, Ipv4Addr::BROADCAST, ours, 1), None),
        (
            "to a group",
            redirect(from, Ipv4Addr::new(224, 0, 0, 1), ours, 1),
            None,
        ),
    ] {
        let mut bench = bench(true);
        bench.vm.add_neighbour(GATEWAY.into(), GATEWAY_MAC);
        bench.vm.add_neighbour(other.into(), other_mac);
        let (sent, event) = bench.receive(ms(QUIET), &frame);
        assert_eq!(sent, None, "{name}");
        assert_eq!(event.is_none(), expected.is_some(), "{name}: {event:?}");
        let (sent, _) = ask(&mut bench, Question::Echo, PEER_MAC, FAR.into());
        assert_eq!(sent, Some(expected.unwrap_or(GATEWAY_MAC)), "{name}");
        let over = ms(QUIET) + REDIRECT_LIFETIME;
        let next_hop = bench.vm.next_hop(over, FAR.into());
        assert_eq!(next_hop, Some(GATEWAY.into()), "{name}");
    }
}

#[test]
fn a_redirect_to_a_neighbour_that_is_not_known_is_taken_when_it_has_answered() {
    let other = Ipv4Addr::new(10, 77, 0, 7);
    let mut bench = bench(true);
    bench.vm.add_neighbour(GATEWAY.into(), GATEWAY_MAC);
    let told = redirect((GATEWAY_MAC, GATEWAY), other, (IP, FAR), 1);
    assert_eq!(bench.receive(ms(QUIET), &told), (None, None));
    let next_hop = |bench: &Bench| bench.vm.next_hop(ms(QUIET), FAR.into());
    assert_eq!(next_hop(&bench), Some(GATEWAY.into()));
    let (asked, _) = bench.poll(ms(QUIET)).unwrap();
    assert!(asked.is_some_and(|asked| asked.contains("who-has 10.77.0.7")));
    bench.vm.add_neighbour(other.into(), PEER_MAC);
    bench.receive(ms(QUIET), &told);
    assert_eq!(next_hop(&bench), Some(other.into()));
}

#[test]
fn pings_go_another_way_as_soon_as_there_is_one() {
    let other = Ipv4Addr::new(10, 77, 0, 7);
    let other_mac = MacAddr([2, 0, 10, 77, 0, 7]);
    let mut bench = bench(true);
    for (address, mac) in [(GATEWAY, GATEWAY_MAC), (PEER, PEER_MAC), (other, other_mac)] {
        bench.vm.add_neighbour(address.into(), mac);
    }
    let [far, near] = [FAR, PEER].map(|destination| {
        let config = SessionConfig {
            destination: destination.into(),
            probe: Probe::ICMP_ECHO,
            payload_length: 16,
            timeout: TIMEOUT,
            options: PingOptions::default(),
        };
        bench.vm.open_session(config).unwrap()
    });
    let ping = |bench: &mut Bench, now: Instant, session: SessionId| {
        let start = bench.vm.ping(now, session, now, &mut bench.buffer);
        assert!(matches!(start, PingStart::Transmit(_)), "{start:?}");
        destination(bench)
    };
    for _ in 0..2 {
        assert_eq!(ping(&mut bench, ms(QUIET), far), GATEWAY_MAC);
        assert_eq!(ping(&mut bench, ms(QUIET), near), PEER_MAC);
    }
    assert_eq!(ping(&mut bench, ms(QUIET), far), GATEWAY_MAC);
    let told = redirect((GATEWAY_MAC, GATEWAY), other, (IP, FAR), 1);
    assert_eq!(bench.receive(ms(QUIET), &told), (None, None));
    assert_eq!(ping(&mut bench, ms(QUIET), far), other_mac);
    let over = ms(QUIET) + REDIRECT_LIFETIME;
    assert_eq!(ping(&mut bench, over, far), GATEWAY_MAC);
}

#[test]
fn an_asker_that_moves_is_answered_where_it_went() {
    let mut bench = bench(false);
    for (told, expected) in [
        (None, PEER_MAC),
        (Some(GATEWAY_MAC), GATEWAY_MAC),
        (Some(PEER_MAC), PEER_MAC),
    ] {
        if let Some(mac) = told {
            let moved = arp(ArpPacket::REQUEST, mac, PEER, IP, MacAddr::BROADCAST);
            bench.receive(ms(QUIET), &moved);
        }
        for _ in 0..3 {
            let (sent, _) = ask(&mut bench, Question::Echo, PEER_MAC, PEER.into());
            assert_eq!(sent, Some(expected), "{told:?}");
        }
    }
}
