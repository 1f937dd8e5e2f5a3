//! Multicast groups of one VM on IPv4, frame by frame, in virtual time: IGMP, what comes to a group, and pings to one.

use proptest::prelude::*;

use super::*;
use crate::wire::{
    ETHERNET_HEADER_LENGTH, IPV4_HEADER_LENGTH, PROTOCOL_TCP, ipv4_multicast_mac, write_udp,
};

/// A time at which the reports of a change are over.
const QUIET: u64 = 3_000;
const G: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
/// Has the hardware address of `G`.
const TWIN: Ipv4Addr = Ipv4Addr::new(239, 129, 2, 3);
const OF_LINK: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const ALL: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn joined(groups: &[Ipv4Addr]) -> Bench {
    let mut bench = Bench::new();
    for group in groups {
        bench.vm.join_group(ms(0), (*group).into());
    }
    bench
}

/// A VM that has sent its reports.
fn settled(groups: &[Ipv4Addr]) -> Bench {
    let mut bench = joined(groups);
    sent(&mut bench, QUIET);
    bench
}

/// The IGMP message in a frame that a VM sends: where to, its type, and the groups with the types of their records.
fn read(frame: &[u8]) -> String {
    let packet = match EthernetFrame::parse(frame).unwrap().payload().unwrap() {
        Payload::Ipv4(packet) => packet,
        other => panic!("{other:?}"),
    };
    assert_eq!(packet.protocol, 2);
    assert_eq!(packet.source, IP);
    assert_eq!(frame[..6], ipv4_multicast_mac(packet.destination).0);
    assert_eq!(packet.time_to_live, 1);
    assert_eq!(packet.options, [148, 4, 0, 0], "router alert");
    assert_eq!(frame[15], 0xc0, "type of service");
    assert_eq!(frame[18..22], [0, 0, 0x40, 0], "don't fragment");
    assert_eq!(checksum(packet.payload), [0, 0]);
    let address = |bytes: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap());
    let mut text = format!("{} {:02x}", packet.destination, packet.payload[0]);
    if packet.payload[0] == 0x22 {
        let records = packet.payload[8..].chunks(8);
        assert_eq!(records.len(), usize::from(packet.payload[7]));
        for record in records {
            assert_eq!(record[1..4], [0; 3]);
            text += &format!(" {} {}", record[0], address(&record[4..]));
        }
    } else {
        assert_eq!(packet.payload.len(), 8);
        text += &format!(" {}", address(&packet.payload[4..]));
    }
    text
}

/// What a VM sends until `until` milliseconds, with the time.
fn sent(bench: &mut Bench, until: u64) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    while let Some(at) = bench.vm.poll_at().filter(|at| *at <= ms(until)) {
        if let Some(reaction) = bench.vm.poll(at, &mut bench.buffer)
            && let Some(transmit) = reaction.transmit
        {
            let text = read(&bench.buffer[..transmit.length]);
            sent.push((at.as_nanos() / 1_000_000, text));
        }
        assert!(sent.len() < 100, "it never ends: {sent:?}");
    }
    sent
}

fn told(sent: Vec<(u64, String)>) -> Vec<String> {
    sent.into_iter().map(|(_, text)| text).collect()
}

/// A datagram of the protocol `protocol` from the peer, or from nowhere.
fn datagram(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET_HEADER_LENGTH + IPV4_HEADER_LENGTH];
    let mac = match to.is_multicast() {
        true => ipv4_multicast_mac(to),
        false => MAC,
    };
    frame[..6].copy_from_slice(&mac.0);
    frame[6..12].copy_from_slice(&PEER_MAC.0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let length = (IPV4_HEADER_LENGTH + payload.len()) as u16;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    (frame[22], frame[23]) = (1, protocol);
    frame[26..30].copy_from_slice(&from.octets());
    frame[30..34].copy_from_slice(&to.octets());
    frame.extend(payload);
    seal(&mut frame);
    frame
}

/// An IGMP message of `length` bytes with the type `kind` and the code `code` about `group`.
fn message(kind: u8, code: u8, group: Ipv4Addr, rest: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(group.octets());
    message.extend(rest);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

fn query(code: u8, group: Ipv4Addr, rest: &[u8]) -> Vec<u8> {
    let to = if group.is_unspecified() { ALL } else { group };
    datagram(PEER, to, 2, &message(0x11, code, group, rest))
}

/// What a query of version 3 has behind the group: robustness 2, interval 125 s, no source.
const V3: &[u8] = &[2, 125, 0, 0];

#[test]
fn a_vm_that_joins_no_group_is_silent_and_hears_of_none() {
    let mut bench = Bench::new();
    assert_eq!(bench.vm.poll_at(), None);
    assert_eq!(bench.vm.rx_filter().groups, []);
    let (reply, event) = bench.receive(ms(0), &query(100, NONE, V3));
    assert_eq!((reply, ignored(event)), (None, Ignored::OtherStation));
    assert_eq!(bench.vm.poll_at(), None);
}

#[test]
fn a_join_is_reported_twice_within_a_second_in_one_message_and_costs_no_wake_up_after() {
    let mut bench = joined(&[G, TWIN, OF_LINK, ALL, G]);
    let groups = bench.vm.rx_filter().groups;
    let macs = [ALL, G, OF_LINK].map(ipv4_multicast_mac);
    assert_eq!(groups, macs, "two groups have one address");
    let reports = sent(&mut bench, 100_000);
    let expected = format!("224.0.0.22 22 4 {G} 4 {TWIN} 4 {OF_LINK}");
    assert_eq!(told(reports.clone()), [expected.clone(), expected]);
    assert_eq!(reports[0].0, 0);
    assert!(reports[1].0 <= 1_000, "{reports:?}");
    assert_eq!(bench.vm.poll_at(), None);
}

#[test]
fn a_vm_reports_its_groups_when_it_has_an_address() {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv4.probe = true;
    let mut bench = Bench::with(config);
    bench.vm.join_group(ms(0), G.into());
    let mut reports = 0;
    while let Some(at) = bench.vm.poll_at().filter(|at| *at <= ms(20_000)) {
        let had_address = bench.vm.address().is_some();
        let text = bench.poll(at).unwrap().0.unwrap_or_default();
        if text.contains("IGMP") {
            assert!(had_address, "{at:?}");
            reports += 1;
        }
    }
    assert_eq!(reports, 2);
}

#[test]
fn a_query_is_answered_in_its_time_in_the_version_of_the_router() {
    let source = [2, 125, 0, 1, 192, 0, 2, 1];
    let both = |kind: u8| {
        vec![
            format!("{G} {kind:02x} {G}"),
            format!("{TWIN} {kind:02x} {TWIN}"),
        ]
    };
    let v3 = |text: &str| vec![format!("224.0.0.22 22 {text}")];
    let all = v3(&format!("2 {G} 2 {TWIN}"));
    let one = v3(&format!("2 {G}"));
    let other = Ipv4Addr::new(239, 9, 9, 9);
    for (what, code, group, rest, within, expected) in [
        ("version 1", 0, NONE, &[][..], 10_000, both(0x12)),
        ("version 1 with a group", 0, G, &[], 10_000, both(0x12)),
        ("version 2", 20, NONE, &[], 2_000, both(0x16)),
        (
            "version 2, one group",
            10,
            G,
            &[],
            1_000,
            vec![format!("{G} 16 {G}")],
        ),
        ("version 2, another group", 10, other, &[], 0, vec![]),
        ("version 2, all hosts", 10, ALL, &[], 0, vec![]),
        (
            "version 2, the longest time",
            255,
            G,
            &[],
            25_500,
            vec![format!("{G} 16 {G}")],
        ),
        ("version 3", 20, NONE, V3, 2_000, all.clone()),
        ("version 3 at once", 0, NONE, V3, 0, all.clone()),
        (
            "version 3, floating point",
            0x8f,
            NONE,
            V3,
            24_800,
            all.clone(),
        ),
        ("version 3, one group", 10, G, V3, 1_000, one.clone()),
        ("version 3, a source", 10, G, &source, 1_000, one.clone()),
        ("version 3, another group", 10, other, V3, 0, vec![]),
        (
            "version 3, no robustness",
            10,
            G,
            &[0, 125, 0, 0],
            1_000,
            one.clone(),
        ),
        (
            "version 3, robustness 7",
            10,
            G,
            &[7, 0, 0, 0],
            1_000,
            one.clone(),
        ),
        (
            "version 3, S flag",
            10,
            G,
            &[10, 125, 0, 0],
            1_000,
            one.clone(),
        ),
        (
            "version 3, reserved bits",
            10,
            G,
            &[0xf2, 125, 0, 0],
            1_000,
            one.clone(),
        ),
        (
            "version 3, data behind it",
            10,
            G,
            &[2, 125, 0, 0, 1, 2, 3],
            1_000,
            one.clone(),
        ),
        (
            "version 3, data behind a source",
            10,
            G,
            &[2, 9, 0, 1, 1, 2, 3, 4, 5],
            1_000,
            one,
        ),
    ] {
        let mut bench = settled(&[G, TWIN]);
        // Neither sender nor time to live nor router alert nor destination matter.
        let asked = message(0x11, code, group, rest);
        for (from, to) in [(PEER, ALL), (NONE, ALL), (NONE, G), (PEER, G)] {
            let frame = datagram(from, to, 2, &asked);
            assert_eq!(bench.receive(ms(QUIET), &frame), (None, None), "{what}");
        }
        let mut answers = sent(&mut bench, QUIET + 100_000);
        for (at, _) in &answers {
            assert!((QUIET..=QUIET + within).contains(at), "{what}: {answers:?}");
        }
        answers.sort_by(|(_, one), (_, other)| one.cmp(other));
        assert_eq!(told(answers), expected, "{what}");
    }
}

#[test]
fn what_is_no_query_is_ignored_with_the_reason() {
    let mut bad_sum = message(0x11, 100, NONE, V3);
    bad_sum[2] ^= 1;
    let to_all = |message: &[u8]| datagram(PEER, ALL, 2, message);
    let nine = message(0x11, 100, NONE, &[0]);
    let eleven = message(0x11, 100, NONE, &[2, 125, 0]);
    let cases = [
        (to_all(&bad_sum), "bad checksum"),
        (
            to_all(&message(0x11, 100, NONE, V3)[..7]),
            "8 bytes needed, 7 present",
        ),
        (to_all(&[]), "8 bytes needed, 0 present"),
        (to_all(&nine), "12 bytes needed, 9 present"),
        (to_all(&eleven), "12 bytes needed, 11 present"),
        (
            to_all(&message(0x11, 100, G, &[2, 125, 0, 2, 1, 2, 3, 4])),
            "20 bytes needed, 16 present",
        ),
        (
            to_all(&message(0x11, 100, G, &[2, 125, 0xff, 0xff])),
            "262152 bytes needed, 12 present",
        ),
        (
            to_all(&message(0x11, 100, NONE, &[2, 125, 0, 1, 1, 2, 3, 4])),
            "bad sources",
        ),
        (
            to_all(&message(0x22, 0, NONE, &[])),
            "IGMP type 34 is not acted upon",
        ),
        (
            to_all(&message(0x99, 0, NONE, &[])),
            "IGMP type 153 is not acted upon",
        ),
        (
            datagram(IP, ALL, 2, &message(0x11, 100, NONE, V3)),
            "its source address can't be one host's",
        ),
        (
            datagram(G, ALL, 2, &message(0x11, 100, NONE, V3)),
            "its source address can't be one host's",
        ),
        (
            datagram(NONE, IP, 2, &message(0x11, 100, NONE, V3)),
            "its source address can't be one host's",
        ),
        (
            datagram(
                PEER,
                Ipv4Addr::new(239, 129, 2, 3),
                2,
                &message(0x11, 100, NONE, V3),
            ),
            "it is for another address",
        ),
    ];
    for (frame, expected) in cases {
        let mut bench = settled(&[G]);
        let (reply, event) = bench.receive(ms(QUIET), &frame);
        assert_eq!(reply, None, "{expected}");
        let text = ignored(event).to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(bench.vm.poll_at(), None, "{expected}");
    }
}

#[test]
fn an_older_router_is_remembered_for_as_long_as_the_rfc_says() {
    let kinds = |bench: &mut Bench, at: u64, code: u8, rest: &[u8]| {
        bench.receive(ms(at), &query(code, NONE, rest));
        told(sent(bench, at + 30_000))
    };
    let older = |kind: u8| vec![format!("{G} {kind:02x} {G}")];
    let newest = vec![format!("224.0.0.22 22 2 {G}")];
    let mut bench = settled(&[G]);
    // Robustness 3, interval 20 s, response 10 s: 70 s.
    assert_eq!(kinds(&mut bench, QUIET, 1, &[3, 20, 0, 0]), newest);
    assert_eq!(kinds(&mut bench, 100_000, 10, &[]), older(0x16));
    assert_eq!(kinds(&mut bench, 169_800, 1, &[2, 125, 0, 0]), older(0x16));
    assert_eq!(kinds(&mut bench, 170_000, 1, &[2, 125, 0, 0]), newest);
    // 2 × 125 + 10 s. The oldest decides.
    assert_eq!(kinds(&mut bench, 300_000, 0, &[]), older(0x12));
    assert_eq!(kinds(&mut bench, 400_000, 10, &[]), older(0x12));
    assert_eq!(kinds(&mut bench, 549_999, 1, V3), older(0x12));
    assert_eq!(kinds(&mut bench, 600_000, 1, V3), older(0x16));
    assert_eq!(kinds(&mut bench, 660_000, 1, V3), newest);
}

#[test]
fn a_change_is_reported_as_often_as_the_router_says() {
    for (robustness, expected) in [(0, 2), (1, 1), (2, 2), (7, 7)] {
        let mut bench = settled(&[G]);
        bench.receive(ms(QUIET), &query(1, NONE, &[robustness, 125, 0, 0]));
        sent(&mut bench, QUIET + 1_000);
        bench.vm.join_group(ms(QUIET + 1_000), TWIN.into());
        let reports = told(sent(&mut bench, QUIET + 100_000));
        let one = format!("224.0.0.22 22 4 {TWIN}");
        assert_eq!(reports, vec![one; expected], "{robustness}");
    }
    // To a router of version 2: once more, within ten seconds.
    let mut bench = settled(&[G]);
    bench.receive(ms(QUIET), &query(1, NONE, &[]));
    sent(&mut bench, QUIET + 1_000);
    bench.vm.join_group(ms(QUIET + 1_000), TWIN.into());
    let reports = sent(&mut bench, QUIET + 100_000);
    assert!(reports.iter().all(|(at, _)| *at <= QUIET + 11_000));
    assert_eq!(told(reports), vec![format!("{TWIN} 16 {TWIN}"); 2]);
}

#[test]
fn another_hosts_report_takes_the_place_of_ones_own_for_older_routers() {
    for (rest, kind, is_enough) in [
        (&[][..], 0x16, true),
        (&[], 0x12, true),
        // Routers of version 3 want to hear of each host.
        (V3, 0x16, false),
    ] {
        let mut bench = settled(&[G, TWIN]);
        bench.receive(ms(QUIET), &query(100, NONE, rest));
        bench.receive(ms(QUIET), &datagram(PEER, G, 2, &message(kind, 0, G, &[])));
        let reports = told(sent(&mut bench, QUIET + 100_000)).concat();
        assert_eq!(!reports.contains(&G.to_string()), is_enough, "{reports}");
        assert!(reports.contains(&TWIN.to_string()), "{reports}");
    }
    // One that no router has heard is not enough.
    let mut alone = datagram(PEER, G, 2, &message(0x16, 0, G, &[]));
    alone[..6].copy_from_slice(&MAC.0);
    for frame in [datagram(PEER, IP, 2, &message(0x16, 0, G, &[])), alone] {
        let mut bench = settled(&[G]);
        bench.receive(ms(QUIET), &query(100, NONE, &[]));
        bench.receive(ms(QUIET), &frame);
        assert_eq!(sent(&mut bench, QUIET + 100_000).len(), 1);
    }
}

#[test]
fn who_leaves_tells_routers_that_want_to_know() {
    let leave = |bench: &mut Bench| {
        let mut frames = Vec::new();
        while let Some(transmit) = bench.vm.leave(ms(50_000), &mut bench.buffer) {
            frames.push(read(&bench.buffer[..transmit.length]));
        }
        assert_eq!(bench.vm.rx_filter().groups, [ipv4_multicast_mac(ALL)]);
        frames
    };
    let ask = |bench: &mut Bench, code: u8| {
        bench.receive(ms(QUIET), &query(code, NONE, &[]));
        assert_eq!(sent(bench, QUIET + 20_000).len(), 2);
    };
    let mut bench = settled(&[G, TWIN]);
    assert_eq!(leave(&mut bench), [format!("224.0.0.22 22 3 {G} 3 {TWIN}")]);
    let mut bench = settled(&[G, TWIN]);
    ask(&mut bench, 10);
    let heard = datagram(PEER, G, 2, &message(0x16, 0, G, &[]));
    bench.receive(ms(QUIET + 21_000), &heard);
    let last = format!("224.0.0.2 17 {TWIN}");
    assert_eq!(
        leave(&mut bench),
        [last],
        "another host is the last reporter"
    );
    let mut bench = settled(&[G, TWIN]);
    ask(&mut bench, 0);
    assert_eq!(leave(&mut bench), [""; 0]);
}

fn echo_to(to: Ipv4Addr, kind: u8) -> Vec<u8> {
    let mut echo = vec![kind, 0, 0, 0, 0, 7, 0, 1];
    echo.extend(b"payload");
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum);
    datagram(PEER, to, 1, &echo)
}

fn udp_to(to: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut frame = vec![0; 200];
    let fill = |space: &mut [u8]| {
        space.copy_from_slice(b"hello");
        Some(5)
    };
    let envelope = envelope((PEER_MAC, PEER), (ipv4_multicast_mac(to), to));
    let length = write_udp(&envelope, (40_000, port), 5, fill, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

#[test]
fn what_comes_to_a_group_is_answered_from_the_vms_own_address_or_not_at_all() {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv4.udp_echo = true;
    let mut bench = Bench::with(config);
    bench.vm.join_group(ms(0), G.into());
    let reply = |what: &str| Some(format!("IPv4 {IP} > {PEER}, {what}"));
    let bad_option = {
        let mut frame = echo_to(G, 8);
        frame.splice(34..34, [7, 3, 1, 0]);
        (frame[14], frame[17]) = (0x46, frame[17] + 4);
        let sum = checksum(
            &frame[14..38]
                .iter()
                .enumerate()
                .map(|(i, byte)| if (10..12).contains(&i) { 0 } else { *byte })
                .collect::<Vec<_>>(),
        );
        frame[24..26].copy_from_slice(&sum);
        frame
    };
    for (what, frame, expected) in [
        (
            "echo",
            echo_to(G, 8),
            reply("ICMP echo reply id 7 seq 1 (7 bytes)"),
        ),
        (
            "UDP echo",
            udp_to(G, 7),
            reply("UDP port 7 > 40000 (5 bytes)"),
        ),
        ("a closed port", udp_to(G, 9), None),
        (
            "an unknown protocol",
            datagram(PEER, G, 132, &[0; 20]),
            None,
        ),
        ("TCP", datagram(PEER, G, PROTOCOL_TCP, &[0; 20]), None),
        ("a bad option", bad_option, None),
        ("an echo reply", echo_to(G, 0), None),
        ("an ICMP error", echo_to(G, 3), None),
        ("the twin", echo_to(TWIN, 8), None),
        ("all hosts", echo_to(ALL, 8), None),
        ("another group", echo_to(OF_LINK, 8), None),
    ] {
        let (sent, _) = bench.receive(ms(QUIET), &frame);
        assert_eq!(sent, expected, "{what}");
        // The same in a frame to the VM alone.
        let mut alone = frame;
        alone[..6].copy_from_slice(&MAC.0);
        let (sent, _) = bench.receive(ms(QUIET), &alone);
        assert_eq!(sent, expected, "{what}, alone");
    }
    // The own frame of a port that sends it back.
    let mut own = echo_to(G, 8);
    own[6..12].copy_from_slice(&MAC.0);
    assert_eq!(bench.receive(ms(QUIET), &own).0, None);
}

#[test]
fn the_checksums_of_answers_to_a_group_are_right() {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv4.udp_echo = true;
    let mut bench = Bench::with(config);
    bench.vm.join_group(ms(0), G.into());
    let (sent, _) = bench.receive(ms(QUIET), &udp_to(G, 7));
    // Describing it checks them.
    assert!(sent.unwrap().contains("UDP port 7 > 40000"));
    let mut without = udp_to(G, 7);
    without[40..42].fill(0);
    bench.receive(ms(QUIET), &without);
    assert_eq!(bench.buffer[40..42], [0, 0], "none stays none");
}

/// A VM that pings `G`, and the sequence numbers of its pings.
fn pinging() -> Bench {
    let mut bench = Bench::new();
    let config = SessionConfig {
        destination: G.into(),
        probe: Probe::ICMP_ECHO,
        payload_length: 16,
        timeout: TIMEOUT,
        options: PingOptions {
            time_to_live: 1,
            ..PingOptions::default()
        },
    };
    bench.session = bench.vm.open_session(config).unwrap();
    bench
}

#[test]
fn a_ping_to_a_group_is_sent_at_once_to_the_groups_hardware_address() {
    let mut bench = pinging();
    assert_eq!(
        bench.vm.find_neighbour(ms(0), bench.session),
        Neighbour::Known
    );
    let text = bench.ping(ms(0));
    assert!(
        text.contains("10.77.0.2 > 239.1.2.3, ICMP echo request"),
        "{text}"
    );
    assert_eq!(bench.buffer[..6], [1, 0, 0x5e, 1, 2, 3]);
    assert_eq!(bench.buffer[22], 1, "time to live");
}

#[test]
fn each_member_answers_each_ping_once_and_the_first_reply_ends_it() {
    let member = |last: u8| Ipv4Addr::new(10, 77, 0, last);
    let mut bench = pinging();
    let reply = |bench: &Bench, last: u8, sequence: u64, is_sound: bool| {
        let session = bench.session.0;
        bench.echo(true, session, sequence, member(last), |payload| {
            fill_payload(sequence + u64::from(!is_sound), payload);
        })
    };
    let mut known = 0;
    for sequence in 0..2 {
        let start = 1_000 * sequence;
        bench.ping(ms(start));
        for (after, last, expected) in [
            (10, 3, Some(true)),
            (20, 4, Some(false)),
            (30, 5, Some(false)),
        ] {
            let frame = reply(&bench, last, sequence, true);
            let (_, event) = bench.receive(ms(start + after), &frame);
            let Some((
                of,
                PingOutcome::Member {
                    member: id,
                    is_first,
                    sent,
                    received,
                    ..
                },
            )) = outcome(event)
            else {
                panic!("{event:?}");
            };
            assert_eq!((of, Some(is_first)), (sequence, expected));
            assert_eq!((sent, received), (ms(start), ms(start + after)));
            let address = bench.vm.member(bench.session, id);
            assert_eq!(address, Some(member(last).into()));
            known = known.max(id.0);
        }
        for (after, last, is_sound, expected) in [
            (40, 4, true, Some(PingOutcome::Duplicate)),
            (50, 6, false, None),
            (501, 6, true, Some(PingOutcome::Late { lost: None })),
        ] {
            let frame = reply(&bench, last, sequence, is_sound);
            let (_, event) = bench.receive(ms(start + after), &frame);
            let found = outcome(event).map(|(_, outcome)| outcome);
            assert_eq!(found, expected, "{after}");
        }
        assert_eq!(bench.vm.expire(ms(start + 900), bench.session), None);
    }
    assert_eq!(known, 2, "members keep their numbers");
}

#[test]
fn a_ping_to_a_group_ends_once_whatever_its_members_reply() {
    let mut bench = pinging();
    bench.ping(ms(0));
    let reply = |bench: &Bench, last: u8, content: u64| {
        let source = Ipv4Addr::new(10, 77, 0, last);
        bench.echo(true, bench.session.0, 0, source, |payload| {
            fill_payload(content, payload);
        })
    };
    let frame = reply(&bench, 3, 9);
    let (_, event) = bench.receive(ms(10), &frame);
    assert!(matches!(
        outcome(event),
        Some((0, PingOutcome::Corrupt { .. }))
    ));
    let frame = reply(&bench, 4, 0);
    let (_, event) = bench.receive(ms(20), &frame);
    let Some((
        0,
        further @ PingOutcome::Member {
            is_first: false, ..
        },
    )) = outcome(event)
    else {
        panic!("{event:?}");
    };
    assert!(!further.is_final());
    // Nobody answers the next in time.
    bench.ping(ms(1_000));
    let lost = bench.vm.expire(ms(1_500), bench.session);
    assert!(matches!(outcome(lost), Some((1, PingOutcome::Lost { .. }))));
}

#[test]
fn a_vm_in_a_group_stays_small() {
    const { assert!(crate::vm::ipv4::IGMP_BYTES <= 160) };
}

proptest! {
    #[test]
    fn noise_makes_it_neither_panic_nor_talk_without_end(
        kind: u8, code: u8, to_group: bool, rest in prop::collection::vec(any::<u8>(), 0..40),
        sealed: bool, cut in 0usize..60
    ) {
        let mut bench = settled(&[G, TWIN]);
        let group = if to_group { G } else { NONE };
        let kind = [0x11, 0x12, 0x16, 0x17, 0x22, kind][usize::from(kind % 6)];
        let mut bytes = message(kind, code, group, &rest);
        if !sealed {
            bytes[2] ^= 0x55;
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 2));
        let frame = datagram(PEER, if to_group { G } else { ALL }, 2, &bytes);
        prop_assert_eq!(bench.receive(ms(QUIET), &frame).0, None);
        prop_assert!(sent(&mut bench, QUIET + 400_000).len() <= 2);
        prop_assert_eq!(bench.vm.poll_at(), None);
    }
}
