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

#[test]
fn a_neighbour_in_use_is_asked_again_by_unicast_when_its_answer_is_a_minute_old() {
    let mut bench = Bench::resolved();
    assert!(bench.ping(ms(59_999)).contains("echo request"));
    assert_eq!(bench.vm.poll_at(), None, "it is fresh");
    assert!(bench.ping(ms(60_000)).contains("echo request"));
    assert_eq!(bench.vm.poll_at(), Some(Instant::ZERO));
    let (sent, event) = bench.poll(ms(60_000)).unwrap();
    assert_eq!((sent.as_deref(), event), (Some(WHO_HAS_PEER), None));
    assert_eq!(bench.buffer[..6], PEER_MAC.0, "by unicast");
    assert!(
        bench.ping(ms(60_001)).contains("echo request"),
        "it is used meanwhile"
    );
    assert_eq!(bench.receive(ms(60_002), &arp_reply()), (None, None));
    assert_eq!(bench.poll(ms(61_000)), None, "it has answered");
    assert!(bench.ping(ms(120_001)).contains("echo request"));
    assert_eq!(
        bench.poll(ms(120_001)),
        None,
        "and is fresh for another minute"
    );
}

#[test]
fn a_neighbour_that_does_not_answer_any_more_is_forgotten_and_asked_for_anew() {
    let mut bench = Bench::resolved();
    bench.ping(ms(60_000));
    for at in [60_000, 61_000, 62_000] {
        assert!(bench.poll(ms(at)).unwrap().0.is_some(), "at {at} ms");
        assert_eq!(bench.buffer[..6], PEER_MAC.0, "at {at} ms");
        assert_eq!(bench.poll(ms(at)), None);
    }
    assert!(bench.ping(ms(62_999)).contains("echo request"));
    assert_eq!((bench.poll(ms(63_000)), bench.vm.poll_at()), (None, None));
    assert_eq!(bench.ping(ms(63_000)), WHO_HAS_PEER);
    assert_eq!(bench.buffer[..6], MacAddr::BROADCAST.0);
}

#[test]
fn a_neighbour_that_is_not_used_is_not_asked() {
    let mut bench = Bench::resolved();
    assert_eq!((bench.poll(ms(600_000)), bench.vm.poll_at()), (None, None));
}

#[test]
fn a_claim_that_nobody_asked_for_does_not_overwrite_a_fresh_neighbour() {
    let mut bench = Bench::resolved();
    let claim = arp(ArpPacket::REPLY, THIEF, PEER, IP, MAC);
    for (at, expected) in [(1, PEER_MAC), (59_999, PEER_MAC), (60_000, THIEF)] {
        bench.receive(ms(at), &claim);
        assert_eq!(
            bench.vm.neighbours.get(PEER.into()),
            Some(expected),
            "at {at} ms"
        );
    }
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
