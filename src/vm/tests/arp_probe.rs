//! Pings by ARP and neighbour discovery.

use super::*;

const OTHER_MAC: MacAddr = MacAddr([2, 0, 0x0a, 0x4d, 0, 9]);

/// A VM that pings its peer by ARP.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.session = bench.vm.open_session(config(PEER)).unwrap();
    bench
}

fn config(destination: Ipv4Addr) -> SessionConfig {
    SessionConfig {
        destination: destination.into(),
        probe: Probe::of(ProbeKind::Arp),
        payload_length: 0,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    }
}

fn answered(due: u64, received: u64) -> PingOutcome {
    PingOutcome::Answered {
        due: ms(due),
        sent: ms(due),
        received: ms(received),
    }
}

#[test]
fn a_reply_answers_the_request_that_is_on_its_way_and_no_other_is_sent_meanwhile() {
    let mut bench = bench();
    let request = "ARP request who-has 10.77.0.3 tell 10.77.0.2";
    assert_eq!(bench.ping(ms(0)), request);
    assert_eq!(bench.buffer[..6], MacAddr::BROADCAST.0);
    assert_eq!(bench.ping(ms(1)), "refused", "replies have no numbers");
    let (sent, event) = bench.receive(ms(2), &arp_reply());
    assert_eq!((sent, outcome(event)), (None, Some((0, answered(0, 2)))));
    let (_, event) = bench.receive(ms(3), &arp_reply());
    assert_eq!(ignored(event), Ignored::UnexpectedArpReply, "once only");
    assert_eq!(bench.ping(ms(4)), request, "each ping asks");
    // Somebody else's address, and a reply to somebody else.
    let others = Ipv4Addr::new(10, 77, 0, 9);
    let other = arp(ArpPacket::REPLY, OTHER_MAC, others, IP, MAC);
    assert_eq!(outcome(bench.receive(ms(5), &other).1), None);
    let to_other = arp(ArpPacket::REPLY, PEER_MAC, PEER, others, OTHER_MAC);
    assert_eq!(outcome(bench.receive(ms(5), &to_other).1), None);
    let (_, event) = bench.receive(ms(6), &arp_reply());
    assert_eq!(outcome(event), Some((1, answered(4, 6))));
}

#[test]
fn a_request_that_nobody_answers_is_lost_and_the_next_one_is_sent() {
    let mut bench = bench();
    bench.ping(ms(0));
    let after = ms(0) + TIMEOUT;
    let lost = bench.vm.expire(after, bench.session);
    assert_eq!(outcome(lost), Some((0, PingOutcome::Lost { due: ms(0) })));
    bench.ping(after);
    let (_, event) = bench.receive(after, &arp_reply());
    assert!(matches!(
        outcome(event),
        Some((1, PingOutcome::Answered { .. }))
    ));
}

#[test]
fn a_reply_that_is_waited_for_twice_serves_both() {
    let mut bench = bench();
    let by_arp = bench.session;
    // An echo request waits for the same neighbour.
    bench.session = SessionId(0);
    assert!(bench.ping(ms(0)).starts_with("ARP request"));
    bench.session = by_arp;
    assert!(bench.ping(ms(0)).starts_with("ARP request"));
    let (sent, event) = bench.receive(ms(3), &arp_reply());
    assert!(sent.is_some_and(|sent| sent.contains("echo request")));
    assert!(matches!(event, Some(Event::Resolved { .. })));
    assert_eq!(bench.vm.poll_at(), Some(Instant::ZERO));
    let (_, event) = bench.poll(ms(3)).unwrap();
    assert_eq!(outcome(event), Some((0, answered(0, 3))));
    assert_eq!(bench.poll(ms(3)), None);
}

#[test]
fn of_several_sessions_that_ask_for_one_address_the_first_is_answered_first() {
    let mut bench = bench();
    let first = bench.session;
    let second = bench.vm.open_session(config(PEER)).unwrap();
    for session in [second, first] {
        bench.session = session;
        bench.ping(ms(0));
    }
    for session in [second, first] {
        let (_, event) = bench.receive(ms(1), &arp_reply());
        let Some(Event::Ping(ping, _)) = event else {
            panic!("{event:?}");
        };
        assert_eq!(ping.session, session);
    }
}

#[test]
fn a_unicast_request_goes_to_the_one_who_was_found_first_and_only_there() {
    let mut bench = Bench::new();
    let unicast = |destination: IpAddr| SessionConfig {
        destination,
        probe: Probe {
            arp_request: ArpRequest::Unicast,
            ..Probe::of(ProbeKind::Arp)
        },
        ..config(PEER)
    };
    bench.session = bench.vm.open_session(unicast(PEER.into())).unwrap();
    let request = "ARP request who-has 10.77.0.3 tell 10.77.0.2";
    // The search, which is none of its pings.
    assert_eq!(bench.ping(ms(0)), request);
    assert_eq!(bench.buffer[..6], MacAddr::BROADCAST.0);
    let (sent, event) = bench.receive(ms(2), &arp_reply());
    assert_eq!(sent.as_deref(), Some(request));
    assert_eq!(bench.buffer[..6], PEER_MAC.0);
    assert!(matches!(event, Some(Event::Resolved { .. })), "{event:?}");
    let (sent, event) = bench.receive(ms(5), &arp_reply());
    let expected = PingOutcome::Answered {
        due: ms(0),
        sent: ms(2),
        received: ms(5),
    };
    assert_eq!((sent, outcome(event)), (None, Some((0, expected))));
    for at in 10..20 {
        assert_eq!(bench.ping(ms(at)), request);
        assert_eq!(bench.buffer[..6], PEER_MAC.0);
        let (_, event) = bench.receive(ms(at), &arp_reply());
        assert_eq!(outcome(event), Some((at - 9, answered(at, at))));
    }
    // One who is not there is not asked, and the ping is over with the search.
    let absent = Ipv4Addr::new(10, 77, 0, 9).into();
    bench.session = bench.vm.open_session(unicast(absent)).unwrap();
    bench.ping(ms(30));
    assert_eq!(bench.buffer[..6], MacAddr::BROADCAST.0);
    let mut told = Vec::new();
    while let Some(at) = bench.vm.poll_at().filter(|at| *at < ms(10_000)) {
        while let Some((sent, event)) = bench.poll(at) {
            if sent.is_some() {
                assert_eq!(bench.buffer[..6], MacAddr::BROADCAST.0);
            }
            told.extend(outcome(event));
        }
    }
    assert_eq!(told, [(0, PingOutcome::Unresolved { due: ms(30) })]);
}
