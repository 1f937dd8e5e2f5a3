//! More flows of one VM than 16 bits can tell apart, and several that come from one port.

use std::collections::{HashMap, HashSet};

use super::udp_probe::{answered, read};
use super::*;
use crate::wire::{IcmpErrorKind, ProbeHead, turn_into_icmp_error};

/// Sessions that one VM can have to one port of one peer.
const PORTS: usize = 28_232;

fn peer(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn config(kind: ProbeKind, last: u8) -> SessionConfig {
    SessionConfig {
        destination: peer(last).into(),
        probe: Probe::of(kind),
        payload_length: kind.least_payload(),
        timeout: TIMEOUT,
        options: PingOptions::default(),
    }
}

/// A VM that knows its peers.
fn bench() -> Bench {
    let mut bench = Bench::with(VmConfig::new(MAC, IP));
    (3..8).for_each(|last| bench.vm.add_neighbour(peer(last).into(), PEER_MAC));
    bench
}

impl Bench {
    fn open(&mut self, kind: ProbeKind, last: u8) -> SessionId {
        self.vm.open_session(config(kind, last)).unwrap()
    }

    fn take_event(&mut self, now: Instant, frame: &[u8]) -> Option<Event> {
        self.buffer[..frame.len()].copy_from_slice(frame);
        let reaction = self.vm.receive(now, &mut self.buffer, frame.len());
        reaction.event
    }

    fn begin(&mut self, session: SessionId) -> Vec<u8> {
        match self.vm.ping(ms(0), session, ms(0), &mut self.buffer) {
            PingStart::Transmit(transmit) => {
                self.vm.stamp_sent(transmit.ping.unwrap(), ms(0));
                self.buffer[..transmit.length].to_vec()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The session that an event is of, if its ping was answered.
fn session_answered(event: Option<Event>) -> Option<SessionId> {
    match event {
        Some(Event::Ping(ping, PingOutcome::Answered { .. })) => Some(ping.session),
        _ => None,
    }
}

/// The datagram that `from` sends back.
fn sent_back(request: &[u8], from: u8) -> Vec<u8> {
    let (source, destination, payload) = read(request);
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(PEER_MAC.0, MAC.0)
        .ipv4(peer(from).octets(), IP.octets(), 64)
        .udp(destination, source)
        .write(&mut frame, &payload)
        .unwrap();
    frame
}

/// The segment that answers a SYN.
fn answer_to_syn(request: &[u8], from: u8, is_reset: bool) -> Vec<u8> {
    let packet = etherparse::SlicedPacket::from_ethernet(request).unwrap();
    let Some(etherparse::TransportSlice::Tcp(syn)) = packet.transport else {
        panic!("{packet:?}");
    };
    let segment = etherparse::PacketBuilder::ethernet2(PEER_MAC.0, MAC.0)
        .ipv4(peer(from).octets(), IP.octets(), 64)
        .tcp(syn.destination_port(), syn.source_port(), 9, 100)
        .ack(syn.sequence_number().wrapping_add(1));
    let segment = if is_reset {
        segment.rst()
    } else {
        segment.syn()
    };
    let mut frame = Vec::new();
    segment.write(&mut frame, b"").unwrap();
    frame
}

#[test]
fn flows_by_udp_are_told_apart_by_peer_and_port_however_many_they_are() {
    let mut bench = bench();
    let sessions: Vec<(u8, SessionId)> = (0..70_000)
        .map(|number| 3 + (number % 3) as u8)
        .map(|last| (last, bench.open(ProbeKind::Udp, last)))
        .collect();
    let mut ports: HashMap<u16, HashSet<u8>> = HashMap::new();
    let mut requests = Vec::new();
    for (last, session) in &sessions {
        let request = bench.begin(*session);
        let (port, ..) = read(&request);
        assert!(ports.entry(port).or_default().insert(*last), "{session}");
        let head = ProbeHead::parse(&request).unwrap();
        assert_eq!((head.identifier, head.sequence), (session.0, 0));
        requests.push(request);
    }
    let shared = ports.values().filter(|peers| peers.len() == 3).count();
    assert!(shared > 10_000, "{shared}");
    for ((last, session), request) in sessions.iter().zip(&requests) {
        let (_, event) = bench.receive(ms(1), &sent_back(request, *last));
        assert_eq!(session_answered(event), Some(*session));
    }
    for (last, session) in sessions.iter().step_by(997) {
        // From another peer it is nobody's, or of another flow that has nothing on its way.
        let request = bench.begin(*session);
        let (_, event) = bench.receive(ms(1), &sent_back(&request, 3 + (last - 2) % 3));
        assert!(matches!(event, Some(Event::Ignored(_))), "{event:?}");
    }
}

#[test]
fn a_quoted_datagram_is_that_of_the_flow_to_its_destination() {
    let mut bench = bench();
    let sessions = [3, 4].map(|last| {
        let of_peer: Vec<SessionId> = (0..PORTS)
            .map(|_| bench.open(ProbeKind::Udp, last))
            .collect();
        of_peer
    });
    assert_eq!(bench.vm.open_session(config(ProbeKind::Udp, 3)), None);
    let (first, mut frame) = (sessions[0][5], bench.begin(sessions[0][5]));
    let (port, ..) = read(&frame);
    let requests = sessions[1].iter().map(|id| (*id, bench.begin(*id)));
    let twin = requests
        .into_iter()
        .find(|(_, frame)| read(frame).0 == port);
    let (twin, mut frame_of_twin) = twin.unwrap();
    for (session, frame, last) in [(twin, &mut frame_of_twin, 4), (first, &mut frame, 3)] {
        frame.resize(200, 0);
        let kind = IcmpErrorKind::PORT_UNREACHABLE;
        let from = peer(last);
        let length = turn_into_icmp_error(frame, (kind, 0), PEER_MAC, from, 64, 1).unwrap();
        frame.truncate(length);
        let (_, event) = bench.receive(ms(1), frame);
        match event {
            Some(Event::Ping(ping, PingOutcome::Errored { error, .. })) => {
                assert_eq!((ping.session, error), (session, PingError::Refused));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_flow_whose_peer_has_another_address_has_a_port_there_that_no_other_has() {
    let mut bench = bench();
    let moved = bench.open(ProbeKind::Udp, 3);
    let others: Vec<SessionId> = (1..PORTS).map(|_| bench.open(ProbeKind::Udp, 4)).collect();
    bench.vm.redirect(moved, peer(4).into());
    let (port, ..) = read(&bench.begin(moved));
    for other in others {
        assert_ne!(read(&bench.begin(other)).0, port);
    }
    // There is none for one more, until one leaves.
    let one_more = bench.open(ProbeKind::Udp, 3);
    bench.vm.redirect(one_more, peer(4).into());
    let start = bench.vm.ping(ms(0), one_more, ms(0), &mut bench.buffer);
    let PingStart::Unresolved(_, why) = start else {
        panic!("{start:?}");
    };
    assert_eq!(why, Unsent::PortsInUse);
    bench.vm.redirect(moved, peer(5).into());
    bench.vm.redirect(one_more, peer(4).into());
    bench.vm.redirect(one_more, peer(6).into());
    bench.vm.redirect(one_more, peer(4).into());
    let request = bench.begin(one_more);
    let (_, event) = bench.receive(ms(1), &sent_back(&request, 4));
    assert!(matches!(answered(event), (1, PingOutcome::Answered { .. })));
}

#[test]
fn flows_by_tcp_are_told_apart_however_many_they_are() {
    let mut bench = bench();
    let sessions: Vec<(u8, SessionId)> = (0..140_000)
        .map(|number| 3 + (number % 5) as u8)
        .map(|last| (last, bench.open(ProbeKind::Tcp, last)))
        .collect();
    let mut numbers = HashSet::new();
    for (number, (last, session)) in sessions.iter().enumerate() {
        if number % 7 != 0 && number % 65_536 != 1 {
            continue;
        }
        let request = bench.begin(*session);
        let head = ProbeHead::parse(&request).unwrap();
        assert_eq!((head.identifier, head.sequence), (session.0, 0));
        assert!(numbers.insert(head.identifier));
        let is_reset = number % 2 == 1;
        let answer = answer_to_syn(&request, *last, is_reset);
        assert_eq!(ProbeHead::parse(&answer), Some(head.turned()));
        let event = bench.take_event(ms(1), &answer);
        match event {
            Some(Event::Ping(ping, PingOutcome::Answered { .. })) if !is_reset => {
                assert_eq!(ping.session, *session);
            }
            Some(Event::Ping(ping, PingOutcome::Errored { .. })) if is_reset => {
                assert_eq!(ping.session, *session);
            }
            other => panic!("{number}: {other:?}"),
        }
    }
}

#[test]
fn a_late_answer_to_a_syn_is_told_of_the_flow_and_ping_whatever_their_numbers() {
    let mut bench = bench();
    let sessions: Vec<SessionId> = (0..70_000).map(|_| bench.open(ProbeKind::Tcp, 3)).collect();
    for session in [sessions[0], sessions[69_999]] {
        let mut late = Vec::new();
        for sequence in 0..3_000 {
            let request = bench.begin(session);
            if sequence == 2_990 {
                late = answer_to_syn(&request, 3, false);
                continue;
            }
            let answer = answer_to_syn(&request, 3, true);
            bench.take_event(ms(1), &answer);
        }
        let now = ms(0) + TIMEOUT + TIMEOUT;
        assert!(bench.vm.expire(now, session).is_some());
        while bench.vm.poll(now, &mut bench.buffer).is_some() {}
        let event = bench.take_event(now, &late);
        let Some(Event::Ping(ping, PingOutcome::Late { .. })) = event else {
            panic!("{event:?}");
        };
        assert_eq!((ping.session, ping.sequence), (session, 2_990));
    }
}

#[test]
fn what_16_bits_tell_apart_has_numbers_of_its_own_and_is_bounded() {
    let mut bench = bench();
    (0..70_000).for_each(|number| {
        bench.open(ProbeKind::Udp, 3 + (number % 3) as u8);
    });
    let echo = bench.open(ProbeKind::Icmp, 3);
    // The bench has one itself.
    assert_eq!(echo, SessionId(1));
    let stamp = bench.open(ProbeKind::Stamp, 3);
    assert_eq!(stamp, SessionId(2));
    for _ in 3..65_536 {
        bench.open(ProbeKind::Icmp, 4);
    }
    assert_eq!(bench.vm.open_session(config(ProbeKind::Icmp, 4)), None);
    assert_eq!(bench.vm.open_session(config(ProbeKind::Stamp, 4)), None);
    assert!(bench.vm.open_session(config(ProbeKind::Arp, 4)).is_some());
}
