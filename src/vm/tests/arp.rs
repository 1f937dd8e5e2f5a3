//! Neighbours that age, and an address that somebody else claims.

use super::*;

const THIEF: MacAddr = MacAddr([2, 0, 0, 0, 0, 66]);
const WHO_HAS_PEER: &str = "ARP request who-has 10.77.0.3 tell 10.77.0.2";
const ANNOUNCEMENT: &str = "ARP request who-has 10.77.0.2 tell 10.77.0.2";

/// A VM that asks first whether its address is free, or announces it, or both.
fn start(probe: bool, announce: Option<Duration>) -> Bench {
    let mut config = VmConfig::new(MAC, IP);
    (config.ipv4.probe, config.ipv4.announce) = (probe, announce);
    Bench::with(config)
}

/// The VM's doings until `end`, each with its time in milliseconds.
fn run(bench: &mut Bench, end: u64) -> Vec<(u64, Option<String>, Option<Event>)> {
    let mut told = Vec::new();
    let mut now = ms(0);
    while let Some(at) = bench.vm.poll_at().filter(|at| *at <= ms(end)) {
        now = now.max(at);
        if let Some((sent, event)) = bench.poll(now) {
            told.push((now.as_nanos() / 1_000_000, sent, event));
        }
    }
    told
}

/// The hardware address that the next ping goes to; broadcast if its neighbour is asked for.
fn ping_goes_to(bench: &mut Bench, now: Instant) -> MacAddr {
    bench.ping(now);
    MacAddr(bench.buffer[..6].try_into().unwrap())
}

#[test]
fn a_neighbour_in_use_whose_answer_is_old_is_asked_again_by_unicast_five_seconds_later() {
    let mut bench = Bench::resolved();
    assert!(bench.ping(ms(29_999)).contains("echo request"));
    assert_eq!(bench.vm.poll_at(), None, "it is fresh");
    assert!(bench.ping(ms(30_000)).contains("echo request"));
    assert!(bench.vm.take_dirty(), "there is a deadline");
    assert_eq!(bench.vm.poll_at(), Some(ms(35_000)));
    let (sent, event) = bench.poll(ms(35_000)).unwrap();
    assert_eq!((sent.as_deref(), event), (Some(WHO_HAS_PEER), None));
    assert_eq!(bench.buffer[..6], PEER_MAC.0, "by unicast");
    assert_eq!(
        ping_goes_to(&mut bench, ms(35_001)),
        PEER_MAC,
        "used meanwhile"
    );
    assert_eq!(bench.receive(ms(35_002), &arp_reply()), (None, None));
    assert_eq!(bench.vm.poll_at(), None, "it has answered");
    assert!(bench.ping(ms(65_001)).contains("echo request"));
    assert_eq!(bench.vm.poll_at(), None, "and is fresh again");
}

#[test]
fn a_ping_goes_by_what_has_changed_since_the_one_before() {
    const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 77]);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
    let mut bench = Bench::resolved();
    let second = SessionConfig {
        destination: OTHER.into(),
        probe: Probe::ICMP_ECHO,
        payload_length: 8,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    let second = bench.vm.open_session(second).unwrap();
    assert_eq!(ping_goes_to(&mut bench, ms(1)), PEER_MAC);
    assert_eq!(ping_goes_to(&mut bench, ms(2)), PEER_MAC);
    bench.vm.add_neighbour(PEER.into(), OTHER_MAC);
    assert_eq!(ping_goes_to(&mut bench, ms(3)), OTHER_MAC);
    bench.vm.add_neighbour(OTHER.into(), PEER_MAC);
    // In turns with another session, whose requests are shorter.
    let first = bench.session;
    for at in 4..8 {
        bench.session = if at % 2 == 0 { second } else { first };
        let (mac, length, to) = match at % 2 {
            0 => (PEER_MAC, 8, "10.77.0.9"),
            _ => (OTHER_MAC, 16, "10.77.0.3"),
        };
        let told = bench.ping(ms(at));
        let id = bench.session.0;
        assert!(
            told.contains(&format!("> {to}, ICMP echo request id {id} ")),
            "{told}"
        );
        assert!(told.ends_with(&format!("({length} bytes)")), "{told}");
        assert_eq!(bench.buffer[..6], mac.0);
    }
    bench.session = first;
    assert!(bench.ping(ms(8)).contains("> 10.77.0.3"));
    bench.vm.redirect(first, OTHER.into());
    assert!(bench.ping(ms(9)).contains("> 10.77.0.9"));
}

#[test]
fn a_neighbour_that_replies_to_pings_is_asked_again_nevertheless_as_by_linux() {
    let mut bench = Bench::resolved();
    let mut asked = Vec::new();
    for sequence in 0..100 {
        let now = ms(sequence * 1_000);
        while let Some((sent, _)) = bench.poll(now) {
            assert_eq!(sent.as_deref(), Some(WHO_HAS_PEER));
            asked.push(sequence);
            bench.receive(now, &arp_reply());
        }
        assert!(bench.ping(now).contains("echo request"), "{sequence}");
        let reply = bench.reply_to(sequence);
        bench.receive(now, &reply);
    }
    assert_eq!(asked, [35, 70]);
}

#[test]
fn a_neighbour_that_does_not_answer_any_more_is_given_up_and_asked_for_anew() {
    let mut bench = Bench::resolved();
    bench.ping(ms(30_000));
    for at in [35_000, 36_000, 37_000] {
        assert!(bench.poll(ms(at)).unwrap().0.is_some(), "at {at} ms");
        assert_eq!(bench.buffer[..6], PEER_MAC.0, "at {at} ms");
        assert_eq!(bench.poll(ms(at)), None);
    }
    assert!(bench.ping(ms(37_999)).contains("echo request"));
    assert_eq!((bench.poll(ms(38_000)), bench.vm.poll_at()), (None, None));
    assert_eq!(bench.ping(ms(38_000)), WHO_HAS_PEER);
    assert_eq!(bench.buffer[..6], MacAddr::BROADCAST.0);
}

#[test]
fn a_neighbour_that_is_not_used_is_not_asked() {
    let mut bench = Bench::resolved();
    assert_eq!((bench.poll(ms(600_000)), bench.vm.poll_at()), (None, None));
}

/// An ARP packet from the peer's address at `mac`, in a frame for `destination`.
fn claim(operation: u16, mac: MacAddr, target: Ipv4Addr, destination: MacAddr) -> Vec<u8> {
    arp(operation, mac, PEER, target, destination)
}

/// A reply about the peer's own address that names `mac` twice, as gratuitous replies do.
fn gratuitous_reply(mac: MacAddr, destination: MacAddr) -> Vec<u8> {
    let mut frame = claim(ArpPacket::REPLY, mac, PEER, destination);
    frame[32..38].copy_from_slice(&mac.0);
    frame
}

#[test]
fn each_arp_packet_moves_a_known_neighbour_as_in_linux() {
    const ALL: MacAddr = MacAddr::BROADCAST;
    const THIRD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
    let (request, reply) = (ArpPacket::REQUEST, ArpPacket::REPLY);
    let group = MacAddr([3, 0, 0, 0, 0, 1]);
    let nowhere = Ipv4Addr::UNSPECIFIED;
    let from = |sender| arp(request, THIEF, sender, IP, ALL);
    // Then: if it moves a neighbour that was confirmed half a second, or two seconds ago, and if it is stale after that.
    let (both, later, never) = ((true, true), (false, true), (false, false));
    let table = [
        (
            "a request to us",
            claim(request, THIEF, IP, ALL),
            both,
            true,
        ),
        (
            "a request to us, unicast",
            claim(request, THIEF, IP, MAC),
            both,
            true,
        ),
        (
            "a request to another",
            claim(request, THIEF, THIRD, ALL),
            later,
            true,
        ),
        (
            "a request to another, unicast",
            claim(request, THIEF, THIRD, MAC),
            later,
            true,
        ),
        (
            "a request to everybody",
            claim(request, THIEF, Ipv4Addr::new(10, 77, 255, 255), ALL),
            later,
            true,
        ),
        (
            "a request to nobody",
            claim(request, THIEF, nowhere, ALL),
            later,
            true,
        ),
        (
            "a request to a group",
            claim(request, THIEF, Ipv4Addr::new(224, 0, 0, 1), ALL),
            never,
            false,
        ),
        (
            "a request to itself",
            claim(request, THIEF, Ipv4Addr::LOCALHOST, ALL),
            never,
            false,
        ),
        (
            "a gratuitous request",
            claim(request, THIEF, PEER, ALL),
            both,
            true,
        ),
        (
            "a gratuitous request, unicast",
            claim(request, THIEF, PEER, MAC),
            both,
            true,
        ),
        (
            "a gratuitous reply",
            gratuitous_reply(THIEF, ALL),
            both,
            true,
        ),
        (
            "a gratuitous reply, unicast",
            gratuitous_reply(THIEF, MAC),
            both,
            false,
        ),
        (
            "a reply about itself for another",
            claim(reply, THIEF, PEER, ALL),
            later,
            true,
        ),
        ("a reply to us", claim(reply, THIEF, IP, MAC), later, false),
        (
            "a reply to us, broadcast",
            claim(reply, THIEF, IP, ALL),
            later,
            true,
        ),
        (
            "a reply to another",
            claim(reply, THIEF, THIRD, MAC),
            later,
            false,
        ),
        (
            "a request from where it was",
            claim(request, PEER_MAC, IP, ALL),
            never,
            false,
        ),
        (
            "an announcement of where it was",
            claim(request, PEER_MAC, PEER, ALL),
            never,
            false,
        ),
        (
            "a frame for another station",
            claim(request, THIEF, PEER, THIEF),
            never,
            false,
        ),
        (
            "our own hardware address",
            claim(request, MAC, PEER, ALL),
            never,
            false,
        ),
        (
            "no hardware address",
            claim(request, MacAddr::ZERO, PEER, ALL),
            never,
            false,
        ),
        (
            "a group's hardware address",
            claim(request, group, PEER, ALL),
            never,
            false,
        ),
        (
            "everybody's hardware address",
            claim(request, ALL, PEER, ALL),
            never,
            false,
        ),
        ("a probe", from(nowhere), never, false),
        ("our own address", from(IP), never, false),
        ("another's address", from(THIRD), never, false),
        ("RARP", claim(3, THIEF, PEER, ALL), never, false),
    ];
    for (what, frame, moves, is_stale) in table {
        for (at, is_moved) in [(500, moves.0), (2_000, moves.1)] {
            let mut bench = Bench::resolved();
            bench.receive(ms(at), &frame);
            let expected = if is_moved { THIEF } else { PEER_MAC };
            let what = format!("{what} after {at} ms");
            assert_eq!(ping_goes_to(&mut bench, ms(at + 1)), expected, "{what}");
            let check = (is_moved && is_stale).then(|| ms(at + 1 + 5_000));
            assert_eq!(bench.vm.poll_at(), check, "{what}");
        }
    }
}

#[test]
fn an_announcement_counts_in_the_vms_own_vlan_only() {
    let announcement = claim(ArpPacket::REQUEST, THIEF, PEER, MacAddr::BROADCAST);
    let tagged = |id: u8| [&announcement[..12], &[0x81, 0, 0, id], &announcement[12..]].concat();
    for (what, frame, expected) in [
        ("without a tag", announcement.clone(), THIEF),
        ("with a priority only", tagged(0), THIEF),
        ("in another VLAN", tagged(7), PEER_MAC),
    ] {
        let mut bench = Bench::resolved();
        bench.receive(ms(10), &frame);
        assert_eq!(ping_goes_to(&mut bench, ms(11)), expected, "{what}");
    }
}

#[test]
fn only_who_asks_us_is_remembered_and_one_who_was_given_up_is_found_again() {
    const ALL: MacAddr = MacAddr::BROADCAST;
    let third = Ipv4Addr::new(10, 77, 0, 9);
    let request = ArpPacket::REQUEST;
    for (what, frame, is_added, is_revived) in [
        (
            "a request to us",
            claim(request, PEER_MAC, IP, ALL),
            true,
            true,
        ),
        (
            "a request to another",
            claim(request, PEER_MAC, third, ALL),
            false,
            true,
        ),
        (
            "a gratuitous request",
            claim(request, PEER_MAC, PEER, ALL),
            false,
            true,
        ),
        (
            "a gratuitous reply",
            gratuitous_reply(PEER_MAC, ALL),
            false,
            true,
        ),
        ("a reply to us", arp_reply(), false, true),
        (
            "a frame for another station",
            claim(request, PEER_MAC, IP, THIEF),
            false,
            false,
        ),
    ] {
        let mut bench = Bench::new();
        bench.receive(ms(0), &frame);
        assert_eq!(
            bench.vm.neighbours.get(PEER.into()).is_some(),
            is_added,
            "{what}"
        );
        assert_eq!(bench.vm.poll_at(), None, "{what}");

        let mut bench = Bench::new();
        bench.ping(ms(0));
        while let Some(at) = bench.vm.poll_at() {
            bench.poll(at);
        }
        bench.receive(ms(9_000), &frame);
        let expected = if is_revived { PEER_MAC } else { ALL };
        assert_eq!(ping_goes_to(&mut bench, ms(9_001)), expected, "{what}");
    }
}

#[test]
fn whatever_tells_where_a_neighbour_is_ends_the_search_for_it() {
    const ALL: MacAddr = MacAddr::BROADCAST;
    let third = Ipv4Addr::new(10, 77, 0, 9);
    let (request, reply) = (ArpPacket::REQUEST, ArpPacket::REPLY);
    for (what, frame, is_stale) in [
        ("a request to us", claim(request, PEER_MAC, IP, ALL), true),
        (
            "a request to another",
            claim(request, PEER_MAC, third, ALL),
            true,
        ),
        (
            "a gratuitous request",
            claim(request, PEER_MAC, PEER, ALL),
            true,
        ),
        ("a gratuitous reply", gratuitous_reply(PEER_MAC, ALL), true),
        ("a reply to us", arp_reply(), false),
        ("a broadcast reply", claim(reply, PEER_MAC, IP, ALL), true),
    ] {
        let mut bench = Bench::new();
        bench.ping(ms(0));
        bench.ping(ms(1));
        let (first, event) = bench.receive(ms(500), &frame);
        let elapsed = Duration::from_millis(500);
        let resolved = Event::Resolved {
            address: PEER.into(),
            mac: PEER_MAC,
            elapsed,
        };
        assert_eq!(event, Some(resolved), "{what}");
        let mut sent = vec![first.unwrap()];
        while bench.vm.poll_at() == Some(Instant::ZERO) {
            sent.push(bench.poll(ms(500)).unwrap().0.unwrap());
        }
        sent.retain(|frame| frame.contains("echo request"));
        assert_eq!(sent.len(), 2, "{what}: {sent:?}");
        let check = is_stale.then(|| ms(5_500));
        assert_eq!(bench.vm.poll_at(), check, "{what}");
    }
}

#[test]
fn a_neighbour_that_was_filled_in_stays_where_it_is() {
    const ALL: MacAddr = MacAddr::BROADCAST;
    for frame in [
        claim(ArpPacket::REQUEST, THIEF, IP, ALL),
        claim(ArpPacket::REQUEST, THIEF, PEER, ALL),
        claim(ArpPacket::REPLY, THIEF, IP, MAC),
    ] {
        let mut bench = Bench::new();
        bench.vm.add_neighbour(PEER.into(), PEER_MAC);
        bench.receive(ms(100_000), &frame);
        assert_eq!(ping_goes_to(&mut bench, ms(100_001)), PEER_MAC);
        assert_eq!(bench.vm.poll_at(), None);
    }
}

#[test]
fn permanent_neighbours_are_not_forgotten_and_strangers_are_not_added_beyond_the_bound() {
    let mut bench = Bench::new();
    let filled = |i: usize| IpAddr::from(Ipv4Addr::from(0x0a4d_0100 + i as u32));
    for i in 0..MAX_NEIGHBOURS {
        bench.vm.add_neighbour(filled(i), PEER_MAC);
    }
    let request = claim(ArpPacket::REQUEST, PEER_MAC, IP, MacAddr::BROADCAST);
    assert!(bench.receive(ms(1), &request).0.is_some(), "it is answered");
    assert_eq!(bench.vm.neighbours.get(PEER.into()), None);
    assert!((0..MAX_NEIGHBOURS).all(|i| bench.vm.neighbours.get(filled(i)).is_some()));
}

#[test]
fn a_flood_of_arp_requests_costs_a_bounded_table() {
    let mut bench = Bench::resolved();
    for i in 0..5_000u32 {
        let sender = Ipv4Addr::from(0x0a4e_0000 + i);
        let frame = arp(ArpPacket::REQUEST, PEER_MAC, sender, IP, MacAddr::BROADCAST);
        assert!(bench.receive(ms(u64::from(i)), &frame).0.is_some());
        bench.ping(ms(u64::from(i))); // the neighbour that is in use stays
    }
    assert_eq!(bench.vm.neighbours.len(), MAX_NEIGHBOURS);
    assert_eq!(bench.vm.neighbours.get(PEER.into()), Some(PEER_MAC));
}

#[test]
fn an_address_is_announced_twice_if_that_is_wanted_and_not_before_its_turn() {
    let announcement = |at| (at, Some(ANNOUNCEMENT.to_owned()), None);
    for (announce, expected) in [
        (None, vec![]),
        (
            Some(Duration::ZERO),
            vec![announcement(0), announcement(2_000)],
        ),
        (
            Some(Duration::from_millis(70)),
            vec![announcement(70), announcement(2_070)],
        ),
    ] {
        let mut bench = start(false, announce);
        assert_eq!(bench.vm.address(), Some(IP), "it is used from the start");
        assert_eq!(run(&mut bench, 100_000), expected, "{announce:?}");
    }
}

#[test]
fn an_address_is_probed_for_three_times_and_taken_and_announced_if_nobody_objects() {
    let mut bench = start(true, None);
    assert_eq!(bench.vm.address(), None);
    assert_eq!(
        bench.ping(ms(0)),
        "unresolved",
        "there is no address to ping from"
    );
    let request = arp(ArpPacket::REQUEST, PEER_MAC, PEER, IP, MacAddr::BROADCAST);
    let (reply, event) = bench.receive(ms(0), &request);
    assert_eq!((reply, ignored(event)), (None, Ignored::OtherTarget));
    let told = run(&mut bench, 100_000);
    let probe = Some("ARP request who-has 10.77.0.2 tell 0.0.0.0".to_owned());
    let frames: Vec<_> = told.iter().map(|(_, sent, _)| sent.clone()).collect();
    let announcement = Some(ANNOUNCEMENT.to_owned());
    assert_eq!(
        frames,
        [
            probe.clone(),
            probe.clone(),
            probe,
            announcement.clone(),
            announcement
        ]
    );
    let at: Vec<_> = told.iter().map(|(at, ..)| *at).collect();
    assert!(at[0] <= 1_000, "{at:?}");
    assert!((1_000..=2_001).contains(&(at[1] - at[0])), "{at:?}");
    assert!((1_000..=2_001).contains(&(at[2] - at[1])), "{at:?}");
    assert_eq!((at[3] - at[2], at[4] - at[3]), (2_000, 2_000), "{at:?}");
    let ready = Event::AddressReady { address: IP.into() };
    assert_eq!((told[3].2, told[4].2), (Some(ready), None));
    assert_eq!(bench.vm.address(), Some(IP));
    assert_eq!(bench.ping(ms(50_000)), WHO_HAS_PEER);
}

#[test]
fn an_address_that_somebody_has_or_tries_as_well_is_not_taken() {
    let unspecified = Ipv4Addr::UNSPECIFIED;
    for frame in [
        arp(ArpPacket::REPLY, THIEF, IP, unspecified, MAC),
        arp(ArpPacket::REQUEST, THIEF, IP, PEER, MacAddr::BROADCAST),
        arp(
            ArpPacket::REQUEST,
            THIEF,
            unspecified,
            IP,
            MacAddr::BROADCAST,
        ),
    ] {
        let mut bench = start(true, None);
        let told = bench.receive(ms(10), &frame);
        let conflict = Event::Conflict {
            address: IP.into(),
            mac: THIEF,
        };
        assert_eq!(told, (None, Some(conflict)), "{}", Describe(&frame));
        assert_eq!(
            (run(&mut bench, 100_000), bench.vm.address()),
            (vec![], None)
        );
    }
    let mut bench = start(true, None);
    let own = arp(ArpPacket::REQUEST, MAC, unspecified, IP, MacAddr::BROADCAST);
    let (_, event) = bench.receive(ms(10), &own);
    assert_eq!(
        ignored(event),
        Ignored::ArpSender,
        "its own probe, come back"
    );
}

#[test]
fn an_address_in_use_is_defended_once_in_ten_seconds() {
    let mut bench = Bench::resolved();
    let conflict = Some(Event::Conflict {
        address: IP.into(),
        mac: THIEF,
    });
    for (at, operation, target, is_defended) in [
        (0, ArpPacket::REQUEST, IP, true),
        (1, ArpPacket::REPLY, IP, false),
        (9_999, ArpPacket::REQUEST, PEER, false),
        (10_000, ArpPacket::REPLY, PEER, true),
        (10_001, ArpPacket::REQUEST, IP, false),
    ] {
        let claim = arp(operation, THIEF, IP, target, MacAddr::BROADCAST);
        let defence = is_defended.then(|| ANNOUNCEMENT.to_owned());
        assert_eq!(
            bench.receive(ms(at), &claim),
            (defence, conflict),
            "at {at} ms"
        );
    }
    assert_eq!(bench.vm.address(), Some(IP), "and kept");
}

#[test]
fn an_announcement_of_a_new_place_moves_a_known_neighbour_at_once() {
    let moved = MacAddr([2, 0, 0, 0, 0, 0x61]);
    let announcement =
        b"\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x61\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01\
        \x02\x00\x00\x00\x00\x61\x0a\x4d\x00\x3c\x00\x00\x00\x00\x00\x00\x0a\x4d\x00\x02";
    let mut bench = Bench::new();
    let session = bench.vm.open_session(SessionConfig {
        destination: Ipv4Addr::new(10, 77, 0, 60).into(),
        probe: Probe::ICMP_ECHO,
        payload_length: 16,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    });
    bench.session = session.unwrap();
    bench.ping(ms(0));
    let first = arp(
        ArpPacket::REPLY,
        THIEF,
        Ipv4Addr::new(10, 77, 0, 60),
        IP,
        MAC,
    );
    assert!(bench.receive(ms(1), &first).1.is_some());
    bench.receive(ms(2_000), announcement);
    assert!(bench.ping(ms(2_001)).contains("echo request"));
    assert_eq!(bench.buffer[..6], moved.0);
}
