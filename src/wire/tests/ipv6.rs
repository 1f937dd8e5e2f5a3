//! IPv6 frames built and read back, damaged, and made of noise.

use std::net::Ipv6Addr;
use std::time::Duration;

use proptest::prelude::*;

use crate::wire::*;

const A: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);
const B: MacAddr = MacAddr([2, 0, 10, 77, 0, 3]);
const IP_A: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const IP_B: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);

const ENVELOPE: Ipv6Envelope = Ipv6Envelope {
    source_mac: A,
    destination_mac: B,
    source: IP_A,
    destination: IP_B,
    traffic_class: 0,
    hop_limit: 64,
};

fn built(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Vec<u8> {
    let mut frame = vec![0xaa; 2000];
    let length = write(&mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn echo_frame(envelope: Ipv6Envelope, payload: &[u8]) -> Vec<u8> {
    let request = Icmpv6EchoRequest {
        envelope,
        identifier: 7,
        sequence: 9,
    };
    built(|frame| request.write(payload.len(), |p| p.copy_from_slice(payload), frame))
}

fn packet(frame: &[u8]) -> Result<Ipv6Packet<'_>, ParseError> {
    match EthernetFrame::parse(frame)?.payload()? {
        Payload::Ipv6(packet) => Ok(packet),
        other => panic!("not IPv6: {other:?}"),
    }
}

fn message(frame: &[u8]) -> Result<Icmpv6Message<'_>, ParseError> {
    let packet = packet(frame)?;
    match packet.upper_layer() {
        Ok(UpperLayer::Whole {
            payload, offset, ..
        }) => Icmpv6Message::parse(&packet, payload, offset),
        other => panic!("not whole: {other:?}"),
    }
}

/// Any walk down the layers: it must end.
fn walk(frame: &[u8]) {
    let _ = Describe(frame).to_string();
    if let Ok(frame) = EthernetFrame::parse(frame)
        && let Ok(Payload::Ipv6(packet)) = frame.payload()
        && let Ok(UpperLayer::Whole {
            payload, offset, ..
        }) = packet.upper_layer()
    {
        let _ = Icmpv6Message::parse(&packet, payload, offset);
    }
}

/// `frame` with eight bytes of destination options put between the IPv6 header and the rest.
fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let payload = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    frame[18..20].copy_from_slice(&payload.to_be_bytes());
    let next = std::mem::replace(&mut frame[20], 60);
    frame.splice(54..54, [next, 0, 1, 4, 0, 0, 0, 0]);
    frame
}

#[test]
fn a_request_becomes_its_reply_in_place() {
    let plain = echo_frame(ENVELOPE, b"payload of odd length");
    let group = Ipv6Envelope {
        destination: ALL_NODES,
        traffic_class: 0xb8,
        ..ENVELOPE
    };
    let to_group = echo_frame(group, b"payload of odd length");
    for (name, mut frame, echo_offset) in [
        ("plain", plain.clone(), 54),
        ("with options", with_options(&plain), 62),
        ("to a group", to_group, 54),
    ] {
        let class = packet(&frame).unwrap().traffic_class;
        frame.extend([0; 3]); // padding, as a short frame on a wire has
        let length = turn_into_icmpv6_echo_reply(&mut frame, echo_offset, B, IP_B, 64);
        assert_eq!(length, Some(plain.len()), "{name}");
        let reply = &frame[..plain.len()];
        let ethernet = EthernetFrame::parse(reply).unwrap();
        assert_eq!(
            (ethernet.source, ethernet.destination),
            (B, MacAddr([2, 0, 10, 77, 0, 2]))
        );
        let read = packet(reply).unwrap();
        assert_eq!((read.source, read.destination), (IP_B, IP_A), "{name}");
        assert_eq!((read.traffic_class, read.hop_limit), (class, 64), "{name}");
        let Icmpv6Message::EchoReply(echo) = message(reply).unwrap() else {
            panic!("{name}: {}", Describe(reply));
        };
        assert_eq!(
            (echo.identifier, echo.sequence, echo.payload),
            (7, 9, &b"payload of odd length"[..])
        );
    }
}

#[test]
fn each_kind_of_damage_is_named_with_its_layer() {
    let good = echo_frame(ENVELOPE, &[0x55; 8]);
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 6] = [
        (
            |f| f.truncate(53),
            "IPv6 at byte 14: 40 bytes needed, 39 present",
        ),
        (
            |f| f.truncate(60),
            "IPv6 at byte 14: 56 bytes needed, 46 present",
        ),
        (|f| f[14] = 0x45, "IPv6 at byte 14: bad version"),
        (|f| f[56] ^= 1, "ICMPv6 at byte 54: bad checksum"),
        (|f| f[37] ^= 1, "ICMPv6 at byte 54: bad checksum"),
        (
            |f| f[19] = 4,
            "ICMPv6 at byte 54: 8 bytes needed, 4 present",
        ),
    ];
    for (change, expected) in cases {
        let mut frame = good.clone();
        change(&mut frame);
        let error = message(&frame).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    assert!(message(&good).is_ok());
}

#[test]
fn an_error_quotes_as_much_as_the_least_mtu_holds() {
    for (payload, length) in [(8, 14 + 48 + 56), (1400, 14 + 1280)] {
        let frame = echo_frame(ENVELOPE, &vec![0x55; payload]);
        let mut buffer = frame.clone();
        buffer.resize(2000, 0xaa);
        let written = turn_into_icmpv6_error(
            &mut buffer,
            frame.len(),
            (Icmpv6Error::UNRECOGNISED_NEXT_HEADER, 6),
            B,
            IP_B,
            64,
        );
        assert_eq!(written, Some(length));
        let error = &buffer[..length];
        assert_eq!(packet(error).unwrap().destination, IP_A);
        let Icmpv6Message::Error(error) = message(error).unwrap() else {
            panic!("{}", Describe(error));
        };
        assert_eq!((error.kind, error.code, error.parameter), (4, 1, 6));
        assert_eq!(error.invoking_packet, &frame[14..length - 48]);
    }
    let frame = echo_frame(ENVELOPE, &[]);
    let mut short = frame.clone();
    assert_eq!(
        turn_into_icmpv6_error(
            &mut short,
            frame.len(),
            (Icmpv6Error::PORT_UNREACHABLE, 0),
            B,
            IP_B,
            64
        ),
        None
    );
}

/// A solicitation from A for `target`, as it is made to find it.
fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let group = solicited_node(target);
    let envelope = Ipv6Envelope {
        destination_mac: multicast_mac(group),
        destination: group,
        ..ENVELOPE
    };
    let message = NeighbourSolicitation {
        target,
        source_link: Some(A),
        nonce: None,
    };
    built(|frame| message.write(envelope, frame))
}

/// `frame`, an ICMPv6 message without extension headers, with its checksum put right.
fn sealed(mut frame: Vec<u8>) -> Vec<u8> {
    let (source, destination) = {
        let packet = packet(&frame).unwrap();
        (packet.source, packet.destination)
    };
    super::icmpv6::seal(source, destination, &mut frame[54..]).unwrap();
    frame
}

#[test]
fn neighbour_discovery_from_afar_or_malformed_is_refused() {
    let good = solicitation(IP_B);
    assert!(message(&good).is_ok());
    let probe = {
        let group = solicited_node(IP_B);
        let envelope = Ipv6Envelope {
            source: Ipv6Addr::UNSPECIFIED,
            destination_mac: multicast_mac(group),
            destination: group,
            ..ENVELOPE
        };
        let message = NeighbourSolicitation {
            target: IP_B,
            source_link: None,
            nonce: Some([1, 2, 3, 4, 5, 6]),
        };
        built(|frame| message.write(envelope, frame))
    };
    match message(&probe).unwrap() {
        Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Solicitation(read)) => {
            assert_eq!(
                (read.target, read.source_link, read.nonce),
                (IP_B, None, Some([1, 2, 3, 4, 5, 6]))
            );
        }
        _ => panic!("{}", Describe(&probe)),
    }
    let advertisement = {
        let message = NeighbourAdvertisement {
            target: IP_A,
            target_link: Some(A),
            router: false,
            solicited: true,
            overrides: true,
        };
        built(|frame| message.write(ENVELOPE, frame))
    };
    type Change = fn(&mut Vec<u8>);
    let cases: [(&[u8], Change, &str); 9] = [
        (&good, |f| f[21] = 254, "bad hop limit"),
        (&good, |f| f[55] = 1, "bad code"),
        (&good, |f| f[62] = 0xff, "bad target"),
        (&good, |f| f[79] = 0, "bad option"),
        (&good, |f| f[79] = 2, "bad option"),
        (
            &good,
            |f| f[22..38].fill(0),
            "bad source link-layer address of nobody",
        ),
        (
            &probe,
            |f| f[38..54].copy_from_slice(&IP_B.octets()),
            "bad destination of a probe",
        ),
        (&advertisement, |f| f[62] = 0xff, "bad target"),
        (
            &advertisement,
            |f| f[38..54].copy_from_slice(&ALL_NODES.octets()),
            "bad solicited flag to a group",
        ),
    ];
    for (frame, change, expected) in cases {
        let mut frame = frame.to_vec();
        change(&mut frame);
        let frame = sealed(frame);
        let error = message(&frame).unwrap_err().to_string();
        assert_eq!(error, format!("ICMPv6 at byte 54: {expected}"));
    }
}

/// A router advertisement as radvd sends it: two prefixes, one of them 64 bits long, an MTU, and its address.
fn router_advertisement() -> Vec<u8> {
    let envelope = Ipv6Envelope {
        destination_mac: multicast_mac(ALL_NODES),
        source: link_local(A),
        destination: ALL_NODES,
        hop_limit: 255,
        ..ENVELOPE
    };
    let mut body = vec![0; 8];
    body.extend([1, 1, 2, 0, 10, 77, 0, 2]);
    body.extend([5, 1, 0, 0, 0, 0, 0x05, 0xdc]);
    for (length, flags, third) in [(64, 0xc0, 1), (48, 0x80, 2)] {
        body.extend([3, 4, length, flags, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08]);
        body.extend([0; 4]);
        body.extend(Ipv6Addr::new(0xfd99, 0, third, 0, 0, 0, 0, 0).octets());
    }
    let header = etherparse::icmpv6::RouterAdvertisementHeader {
        cur_hop_limit: 64,
        managed_address_config: false,
        other_config: false,
        router_lifetime: 1800,
    };
    let message = etherparse::Icmpv6Type::RouterAdvertisement(header);
    built(|frame| {
        super::icmpv6::write(
            &envelope,
            message,
            body.len(),
            |b| b.copy_from_slice(&body),
            frame,
        )
    })
}

#[test]
fn a_router_advertisement_tells_its_prefixes() {
    let frame = router_advertisement();
    let Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::RouterAdvertisement(router)) =
        message(&frame).unwrap()
    else {
        panic!("{}", Describe(&frame));
    };
    assert_eq!((router.hop_limit, router.router_lifetime), (64, 1800));
    assert_eq!((router.source_link, router.mtu), (Some(A), Some(1500)));
    let prefixes: Vec<_> = router.prefixes().collect();
    let first = AdvertisedPrefix {
        prefix: "fd99:0:1::".parse().unwrap(),
        length: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: 3600,
        preferred_lifetime: 1800,
    };
    assert_eq!(prefixes[0], first);
    assert_eq!((prefixes[1].length, prefixes[1].autonomous), (48, false));
    assert_eq!(prefixes.len(), 2);
}

#[test]
fn a_listener_query_tells_its_delay() {
    use MldVersion::One;
    let two = MldVersion::Two {
        robustness: 2,
        query_interval: Duration::from_secs(125),
    };
    for (version, code, version_1_mode, milliseconds) in [
        (One, 0, true, 0),
        (One, 1000, true, 1000),
        (One, 0x9000, true, 0x9000),
        (two, 10_000, false, 10_000),
        (two, 0x8000, false, 32_768),
        (two, 0xffff, false, 0x1fff << 10),
        (two, 0xffff, true, 0x7fff),
        (two, 1000, true, 1000),
    ] {
        let query = MldQuery {
            version,
            maximum_response_code: code,
            group: Ipv6Addr::UNSPECIFIED,
        };
        assert_eq!(
            query.maximum_response_delay(version_1_mode),
            Duration::from_millis(milliseconds),
            "{query:?}"
        );
    }
}

#[test]
fn messages_of_version_1_go_to_the_group_or_to_all_routers() {
    let group = solicited_node(IP_B);
    for (kind, kind_byte, destination, told) in [
        (
            MldMessage::Report,
            131,
            group,
            "multicast listener report for ff02::1:ff00:3",
        ),
        (
            MldMessage::Done,
            132,
            ALL_ROUTERS,
            "multicast listener done",
        ),
    ] {
        let frame = built(|frame| write_mld_message(A, link_local(A), kind, group, frame));
        assert!(message(&frame).is_ok(), "its checksum is right");
        assert_eq!(frame.len(), 14 + 40 + 8 + 24);
        assert_eq!(
            (frame[20], frame[21]),
            (0, 1),
            "hop-by-hop options, hop limit"
        );
        assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
        assert_eq!((frame[62], &frame[66..70]), (kind_byte, &[0; 4][..]));
        assert_eq!(frame[70..86], group.octets());
        let expected = format!(
            "{A} > {}, IPv6 {} > {destination}, {told}",
            multicast_mac(destination),
            link_local(A)
        );
        assert_eq!(Describe(&frame).to_string(), expected);
    }
}

#[test]
fn frames_are_described_as_tcpdump_would() {
    let groups = [(GroupRecord::ChangeToExclude, solicited_node(IP_A))];
    let report = |frame: &mut [u8]| write_mld_report(A, link_local(A), &groups, frame);
    let advertisement = NeighbourAdvertisement {
        target: IP_A,
        target_link: Some(A),
        router: false,
        solicited: true,
        overrides: true,
    };
    let tagged = {
        let mut frame = vec![0; 8];
        frame.extend(echo_frame(ENVELOPE, &[0; 56]));
        let vlan: Vlan = "100.200".parse().unwrap();
        vlan.put_on(&mut frame).unwrap();
        frame
    };
    let cut_short = tagged[..70].to_vec();
    for (frame, expected) in [
        (
            echo_frame(ENVELOPE, &[0; 56]),
            "02:00:0a:4d:00:03, IPv6 fd77::2 > fd77::3, ICMPv6 echo request id 7 seq 9 (56 bytes)",
        ),
        (
            solicitation(IP_B),
            "33:33:ff:00:00:03, IPv6 fd77::2 > ff02::1:ff00:3, neighbour solicitation, who has fd77::3",
        ),
        (
            built(|frame| advertisement.write(ENVELOPE, frame)),
            "02:00:0a:4d:00:03, IPv6 fd77::2 > fd77::3, neighbour advertisement, fd77::2 is at \
             02:00:0a:4d:00:02 solicited override",
        ),
        (
            built(report),
            "33:33:00:00:00:16, IPv6 fe80::aff:fe4d:2 > ff02::16, multicast listener report v2",
        ),
        (
            built(|frame| write_router_solicitation(A, link_local(A), frame)),
            "33:33:00:00:00:02, IPv6 fe80::aff:fe4d:2 > ff02::2, router solicitation",
        ),
        (
            router_advertisement(),
            "33:33:00:00:00:01, IPv6 fe80::aff:fe4d:2 > ff02::1, router advertisement for 1800s, prefix \
             fd99:0:1::/64, prefix fd99:0:2::/48",
        ),
        (
            tagged,
            "02:00:0a:4d:00:03, VLAN 100.200, IPv6 fd77::2 > fd77::3, ICMPv6 echo request id 7 seq 9 (56 bytes)",
        ),
        (
            cut_short,
            "02:00:0a:4d:00:03, VLAN 100.200, malformed: IPv6 at byte 22: 104 bytes needed, 48 present",
        ),
    ] {
        let expected = format!("02:00:0a:4d:00:02 > {expected}");
        assert_eq!(Describe(&frame).to_string(), expected);
    }
}

#[test]
fn a_report_lists_its_groups_behind_a_router_alert() {
    let groups = [IP_A, IP_B].map(|ip| (GroupRecord::ModeIsExclude, solicited_node(ip)));
    let frame = built(|frame| write_mld_report(A, link_local(A), &groups, frame));
    assert!(message(&frame).is_ok(), "its checksum is right");
    assert_eq!(frame[20], 0, "hop-by-hop options come first");
    assert_eq!(frame[54..62], [58, 0, 5, 2, 0, 0, 1, 0]);
    assert_eq!(frame[62], 143);
    assert_eq!(frame[69], 2, "two records");
    assert_eq!(frame[70], 2, "mode is exclude");
    assert_eq!(frame[94..110], solicited_node(IP_B).octets());
}

fn any_ip() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(Ipv6Addr::from)
}

proptest! {
    #[test]
    fn noise_behind_a_good_start_is_read_without_a_panic(
        kind in 0usize..4, start in 14usize..100, noise in prop::collection::vec(any::<u8>(), 0..200), offset in 0usize..120
    ) {
        let mut frame = match kind {
            0 => echo_frame(ENVELOPE, &[1; 40]),
            1 => solicitation(IP_B),
            2 => router_advertisement(),
            _ => with_options(&echo_frame(ENVELOPE, &[1; 40])),
        };
        frame.truncate(start);
        frame.extend(noise);
        walk(&frame);
        if frame.len() > 70 {
            // Also behind the checksum.
            let length = (frame.len() - 54) as u16;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            frame[14] = 0x60;
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
            walk(&sealed(frame.clone()));
        }
        let length = frame.len();
        let _ = turn_into_icmpv6_echo_reply(&mut frame.clone(), offset, A, IP_A, 64);
        frame.resize(1500, 0);
        let _ = turn_into_icmpv6_error(&mut frame, length, (Icmpv6Error::PORT_UNREACHABLE, 0), A, IP_A, 64);
    }

    #[test]
    fn an_echo_built_is_the_echo_read(
        source in any_ip(), destination in any_ip(), identifier: u16, sequence: u16, hop_limit: u8, traffic_class: u8,
        payload in prop::collection::vec(any::<u8>(), 0..1453), own in any_ip()
    ) {
        let envelope = Ipv6Envelope { source, destination, hop_limit, traffic_class, ..ENVELOPE };
        let request = Icmpv6EchoRequest { envelope, identifier, sequence };
        let mut frame = built(|f| request.write(payload.len(), |p| p.copy_from_slice(&payload), f));
        let read = packet(&frame).unwrap();
        prop_assert_eq!(
            (read.source, read.destination, read.hop_limit, read.traffic_class),
            (source, destination, hop_limit, traffic_class)
        );
        let Icmpv6Message::EchoRequest(echo) = message(&frame).unwrap() else { panic!("no request") };
        prop_assert_eq!((echo.identifier, echo.sequence, echo.payload), (identifier, sequence, &payload[..]));
        let length = turn_into_icmpv6_echo_reply(&mut frame, 54, B, own, 64).unwrap();
        let Icmpv6Message::EchoReply(echo) = message(&frame[..length]).unwrap() else { panic!("no reply") };
        prop_assert_eq!((echo.identifier, echo.sequence, echo.payload), (identifier, sequence, &payload[..]));
    }

    #[test]
    fn an_advertisement_built_is_the_one_read(
        target: u128, mac in any::<Option<[u8; 6]>>(), router: bool, solicited: bool, overrides: bool
    ) {
        // Not a group's.
        let target = Ipv6Addr::from(target >> 1);
        let message = NeighbourAdvertisement { target, target_link: mac.map(MacAddr), router, solicited, overrides };
        let frame = built(|f| message.write(ENVELOPE, f));
        let Ok(Icmpv6Message::NeighbourDiscovery(NeighbourDiscovery::Advertisement(read))) = self::message(&frame)
        else { panic!("{}", Describe(&frame)) };
        prop_assert_eq!(read, message);
    }
}

/// The flow label of a frame.
fn label(frame: &[u8]) -> u32 {
    u32::from_be_bytes([0, frame[15] & 0x0f, frame[16], frame[17]])
}

#[test]
fn packets_of_one_flow_have_one_label_and_those_of_the_link_have_none() {
    let request = |source, destination, identifier, sequence, length: usize, class| {
        let envelope = Ipv6Envelope {
            source,
            destination,
            traffic_class: class,
            ..ENVELOPE
        };
        let request = Icmpv6EchoRequest {
            envelope,
            identifier,
            sequence,
        };
        let frame = built(|frame| request.write(length, |p| p.fill(1), frame));
        assert_eq!(frame[14] >> 4, 6, "the version stays");
        assert_eq!(packet(&frame).unwrap().traffic_class, class);
        frame
    };
    let third: Ipv6Addr = "fd77::4".parse().unwrap();
    let first = request(IP_A, IP_B, 7, 1, 56, 0);
    let of_flow = label(&first);
    assert_ne!(of_flow, 0);
    // As the kernel's `ping`: neither identifier nor sequence number are part of it.
    for same in [
        request(IP_A, IP_B, 7, 2, 56, 0),
        request(IP_A, IP_B, 8, 1, 1_000, 0xff),
    ] {
        assert_eq!(label(&same), of_flow);
    }
    for other in [
        request(IP_A, third, 7, 1, 56, 0),
        request(third, IP_B, 7, 1, 56, 0),
        request(IP_B, IP_A, 7, 1, 56, 0),
    ] {
        assert_ne!(label(&other), of_flow);
        assert_ne!(label(&other), 0);
    }
    let mut reply = first.clone();
    turn_into_icmpv6_echo_reply(&mut reply, 54, B, IP_B, 64).unwrap();
    assert!(label(&reply) != of_flow && label(&reply) != 0);
    assert!(message(&reply).is_ok(), "its checksum is right");
    let mut error = first.clone();
    error.resize(2_000, 0);
    let kind = (Icmpv6Error::PORT_UNREACHABLE, 0);
    turn_into_icmpv6_error(&mut error, first.len(), kind, B, IP_B, 64).unwrap();
    assert!(label(&error) != label(&reply) && label(&error) != 0);
    let datagram = |ports| built(|frame| write_ipv6_udp(&ENVELOPE, ports, |_| Some(8), frame));
    assert_eq!(label(&datagram((1, 2))), label(&datagram((1, 2))));
    assert_ne!(label(&datagram((1, 2))), label(&datagram((1, 3))));
    let groups = [(GroupRecord::ChangeToExclude, solicited_node(IP_A))];
    for without in [
        solicitation(IP_B),
        router_advertisement(),
        built(|frame| write_router_solicitation(A, link_local(A), frame)),
        built(|frame| write_mld_report(A, link_local(A), &groups, frame)),
    ] {
        assert_eq!(label(&without), 0);
    }
}
