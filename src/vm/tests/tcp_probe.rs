//! Probes by TCP. Segments are read, and answered, by etherparse.

use std::net::Ipv6Addr;

use etherparse::{PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};

use super::udp_probe::{answered, bench_of, sent as begin};
use super::*;
use crate::wire::{IcmpErrorKind, PingHead, ProbeHead, is_ephemeral, turn_into_icmp_error};

const IP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
const PORT: u16 = 80;
/// The peer's initial sequence number: its next one wraps.
const PEER_INITIAL: u32 = u32::MAX;

/// A VM that pings its peer by TCP, and knows it.
fn bench(close: TcpClose, hold_millis: u32, over_ipv6: bool) -> Bench {
    let probe = Probe {
        close,
        hold_millis,
        ..Probe::of(ProbeKind::Tcp)
    };
    let config = match over_ipv6 {
        true => ipv6::config(),
        false => VmConfig::new(MAC, IP),
    };
    bench_of(config, probe, 0, over_ipv6)
}

/// One that waits so long for a reply.
fn patient(close: TcpClose, hold_millis: u32, timeout: Duration) -> Bench {
    let mut bench = bench(close, hold_millis, false);
    let config = SessionConfig {
        destination: PEER.into(),
        probe: Probe {
            close,
            hold_millis,
            ..Probe::of(ProbeKind::Tcp)
        },
        payload_length: 0,
        timeout,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(config).unwrap();
    bench
}

/// A segment, by what tests look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) ports: (u16, u16),
    /// `S`, `F`, `R` and `.` for ACK, as tcpdump has them.
    pub(super) flags: String,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
}

/// Reads a frame, whose checksum has to be right.
pub(super) fn read(frame: &[u8]) -> (Segment, TcpHeader) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        panic!("{packet:?}");
    };
    let sum = match packet.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => {
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
        }
        Some(etherparse::NetSlice::Ipv6(ip)) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(sum, Ok(tcp.checksum()));
    assert!(tcp.payload().is_empty());
    let flags = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.ack(), '.'),
    ];
    let segment = Segment {
        ports: (tcp.source_port(), tcp.destination_port()),
        flags: flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| flag)
            .collect(),
        sequence: tcp.sequence_number(),
        acknowledged: tcp.acknowledgment_number(),
    };
    (segment, tcp.to_header())
}

/// The frame of a segment that the peer sends.
pub(super) fn frame(over_ipv6: bool, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(segment.ports.0, segment.ports.1, segment.sequence, 1_024);
    let has = |flag| segment.flags.contains(flag);
    (header.syn, header.fin, header.rst) = (has('S'), has('F'), has('R'));
    header.ack = has('.');
    header.acknowledgment_number = segment.acknowledged;
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(PEER_MAC.0, MAC.0);
    let step = match over_ipv6 {
        true => ethernet
            .ipv6(PEER6.octets(), IP6.octets(), 64)
            .tcp_header(header),
        false => ethernet
            .ipv4(PEER.octets(), IP.octets(), 64)
            .tcp_header(header),
    };
    step.write(&mut frame, payload).unwrap();
    frame
}

/// What the peer sends to the end that `syn` came from, `behind` its first number, and acknowledging so many of the VM's.
fn answer(syn: &Segment, flags: &str, behind: u32, acknowledged: u32) -> Segment {
    Segment {
        ports: (syn.ports.1, syn.ports.0),
        flags: flags.to_owned(),
        sequence: PEER_INITIAL.wrapping_add(behind),
        acknowledged: syn.sequence.wrapping_add(acknowledged),
    }
}

impl Bench {
    /// Takes a frame, and returns what it sends and what it tells.
    pub(super) fn take(&mut self, now: Instant, frame: &[u8]) -> (Option<Segment>, Option<Event>) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        let reaction = self.vm.receive(now, &mut self.buffer, frame.len());
        let sent = reaction.transmit;
        let sent = sent.map(|transmit| read(&self.buffer[..transmit.length]).0);
        (sent, reaction.event)
    }

    /// What is sent because it is time.
    fn segment_due(&mut self, now: Instant) -> Option<Segment> {
        let reaction = self.vm.poll(now, &mut self.buffer)?;
        assert_eq!(reaction.event, None);
        let transmit = reaction.transmit?;
        assert_eq!(transmit.ping, None, "a ping begins once");
        Some(read(&self.buffer[..transmit.length]).0)
    }

    /// When something is due, on IPv4: over IPv6 there is always something.
    fn due_at(&self) -> Option<Instant> {
        let has_ipv6 = self.vm.ipv6.is_some();
        self.vm.poll_at().filter(|_| !has_ipv6)
    }

    fn open_now(&self) -> u64 {
        self.vm.connections().open()
    }
}

/// A flags, numbers behind the VM's first, and the peer's.
fn expect(sent: Option<&Segment>, syn: &Segment, flags: &str, numbers: (u32, u32)) {
    let expected = Segment {
        ports: syn.ports,
        flags: flags.to_owned(),
        sequence: syn.sequence.wrapping_add(numbers.0),
        acknowledged: PEER_INITIAL.wrapping_add(numbers.1),
    };
    assert_eq!(sent, Some(&expected));
}

const fn answer_at(due: u64, received: u64) -> PingOutcome {
    PingOutcome::Answered {
        due: ms(due),
        sent: ms(due),
        received: ms(received),
    }
}

#[test]
fn a_syn_has_the_number_of_its_ping_and_the_one_option_and_what_answers_it_is_found_by_it() {
    for over_ipv6 in [false, true] {
        let mut bench = bench(TcpClose::Rst, 0, over_ipv6);
        let first = begin(&mut bench, ms(0));
        let second = begin(&mut bench, ms(1));
        let ((first, header), (other, _)) = (read(&first), read(&second));
        assert_eq!((&*first.flags, first.ports.1), ("S", PORT));
        assert!(is_ephemeral(first.ports.0) && first.ports.0 != other.ports.0);
        let mtu = if over_ipv6 { 1440 } else { 1460 };
        let options: Vec<_> = header.options_iterator().collect();
        assert_eq!(options, [Ok(TcpOptionElement::MaximumSegmentSize(mtu))]);
        assert_eq!(other.sequence, first.sequence + 1);

        let head = ProbeHead::parse(&second).unwrap();
        let (session, number) = (bench.session.0, (bench.session.0, 1));
        assert_eq!((head.identifier, head.sequence), number);
        assert!(head.is_request && ProbeHead::is_request(&second));
        for flags in ["S.", "R."] {
            let reply = frame(over_ipv6, &answer(&other, flags, 0, 1), b"");
            assert_eq!(ProbeHead::parse(&reply), Some(head.turned()), "{flags}");
        }
        // What is neither a SYN nor answers one.
        for flags in [".", "F.", "R", "S", "SR."] {
            let reply = frame(over_ipv6, &answer(&other, flags, 0, 1), b"");
            let head = ProbeHead::parse(&reply);
            assert_eq!(head.is_some(), flags == "SR.", "{flags}");
        }
        for (sequence, syn) in [(1, &other), (0, &first)] {
            let (sent, event) = bench.take(ms(5), &frame(over_ipv6, &answer(syn, "S.", 0, 1), b""));
            expect(sent.as_ref(), syn, "R.", (1, 1));
            assert_eq!(answered(event), (sequence, answer_at(sequence, 5)));
        }
        let counts = bench.vm.connections();
        assert_eq!((counts.opened, counts.open()), (2, 0), "{session}");
        assert_eq!(bench.due_at(), None, "nothing is left");
    }
}

#[test]
fn a_reset_refuses_a_ping_if_it_acknowledges_its_syn() {
    for over_ipv6 in [false, true] {
        let mut bench = bench(TcpClose::Rst, 0, over_ipv6);
        let (syn, _) = read(&begin(&mut bench, ms(0)));
        for (flags, acknowledged) in [("R.", 2), ("R.", 0), ("R", 1), (".", 1), ("S", 1)] {
            let segment = frame(over_ipv6, &answer(&syn, flags, 0, acknowledged), b"");
            let (sent, event) = bench.take(ms(1), &segment);
            assert_eq!((sent, ignored(event)), (None, Ignored::UnexpectedEchoReply));
        }
        // An end of another connection is told that it is over.
        let (sent, event) = bench.take(ms(1), &frame(over_ipv6, &answer(&syn, "S.", 0, 7), b""));
        assert_eq!(ignored(event), Ignored::UnexpectedEchoReply);
        let sent = sent.unwrap();
        assert_eq!((&*sent.flags, sent.sequence), ("R", syn.sequence + 7));

        let reset = frame(over_ipv6, &answer(&syn, "R.", 0, 1), b"");
        let refused = PingOutcome::Errored {
            due: ms(0),
            sent: ms(0),
            error: PingError::Refused,
        };
        assert_eq!(answered(bench.take(ms(2), &reset).1), (0, refused));
        let (sent, event) = bench.take(ms(3), &reset);
        assert_eq!(
            (sent, ignored(event)),
            (None, Ignored::ClosedPort(syn.ports.0))
        );
    }
}

#[test]
fn a_syn_that_what_is_left_of_another_connection_has_answered_is_repeated_at_once_and_once() {
    let mut bench = patient(TcpClose::Rst, 0, Duration::from_secs(10));
    let (syn, _) = read(&begin(&mut bench, ms(0)));
    let left = frame(false, &answer(&syn, ".", 0, 7), b"");
    bench.vm.keep_ignored_probes();
    let is_reset = |bench: &mut Bench, at| {
        let (sent, event) = bench.take(ms(at), &left);
        assert_eq!(ignored(event), Ignored::UnexpectedEchoReply);
        let sent = sent.unwrap();
        assert_eq!((&*sent.flags, sent.sequence), ("R", syn.sequence + 7));
        // Should the ping be lost, it is known what to.
        let Some(PingHead::Probe(head)) = bench.vm.take_ignored_probe() else {
            panic!("nothing is kept");
        };
        let number = (head.identifier, head.sequence);
        assert_eq!((number, head.is_request), ((bench.session.0, 0), false));
    };
    is_reset(&mut bench, 1);
    assert_eq!(bench.vm.poll_at(), Some(ms(3)));
    assert_eq!(bench.segment_due(ms(3)).as_ref(), Some(&syn));
    assert_eq!(bench.vm.connections().syns_repeated, 1);
    // Who does not heed resets has it not send one SYN after the other.
    is_reset(&mut bench, 4);
    assert_eq!(bench.vm.poll_at(), Some(ms(2_003)));
    let accepted = frame(false, &answer(&syn, "S.", 0, 1), b"");
    assert_eq!(
        answered(bench.take(ms(5), &accepted).1),
        (0, answer_at(0, 5))
    );
}

#[test]
fn a_keep_alive_of_the_peer_is_answered() {
    let mut bench = patient(TcpClose::Fin, 60_000, Duration::from_secs(10));
    let (syn, _) = read(&begin(&mut bench, ms(0)));
    bench.take(ms(1), &frame(false, &answer(&syn, "S.", 0, 1), b""));
    for garbage in [&b""[..], b"x"] {
        let (sent, _) = bench.take(ms(2), &frame(false, &answer(&syn, ".", 0, 1), garbage));
        expect(sent.as_ref(), &syn, ".", (1, 1));
    }
    let (sent, _) = bench.take(ms(3), &frame(false, &answer(&syn, ".", 1, 1), b""));
    assert_eq!(sent, None);
}

#[test]
fn syns_are_repeated_after_one_two_and_four_seconds_while_their_ping_is_waited_for() {
    let mut bench = patient(TcpClose::Rst, 0, Duration::from_secs(10));
    let first = begin(&mut bench, ms(0));
    let (syn, _) = read(&first);
    for at in [1_000, 3_000, 7_000] {
        assert_eq!(bench.vm.poll_at(), Some(ms(at)));
        assert_eq!(bench.segment_due(ms(at)).as_ref(), Some(&syn), "{at}");
    }
    assert_eq!(bench.vm.connections().syns_repeated, 3);
    // The ping is over before the next.
    assert_eq!(bench.vm.poll_at(), Some(ms(10_000)));
    assert_eq!(bench.segment_due(ms(10_000)), None);
    let lost = PingOutcome::Lost { due: ms(0) };
    let over = bench.vm.expire(ms(10_000), bench.session);
    assert_eq!(answered(over), (0, lost));
    assert_eq!(bench.vm.poll_at(), None);
    // An answer that comes then is late, and its sender is told.
    let (sent, event) = bench.take(ms(10_001), &frame(false, &answer(&syn, "S.", 0, 1), b""));
    assert_eq!(sent.map(|reset| reset.flags).as_deref(), Some("R"));
    assert_eq!(answered(event), (0, PingOutcome::Late { lost: None }));
    assert_eq!(bench.vm.connections().opened, 0);

    // One that answers a repeated SYN is in time. Whose ping was given up sends none again.
    let (syn, _) = read(&begin(&mut bench, ms(20_000)));
    let (given_up, _) = read(&begin(&mut bench, ms(20_001)));
    assert!(bench.segment_due(ms(21_000)).is_some());
    let (_, event) = bench.take(ms(21_002), &frame(false, &answer(&syn, "S.", 0, 1), b""));
    assert_eq!(answered(event), (1, answer_at(20_000, 21_002)));
    assert_eq!(bench.vm.give_up(GiveUp::All).len(), 1);
    assert_eq!(bench.segment_due(ms(21_003)), None);
    assert_eq!((bench.vm.poll_at(), given_up.ports.1), (None, PORT));
}

#[test]
fn a_connection_is_closed_by_a_fin_of_each_side_in_any_order() {
    // What the peer sends, and what the VM answers: flags, and numbers behind the first ones.
    type Step = ((&'static str, u32, u32), Option<(&'static str, u32, u32)>);
    let orders: [&[Step]; 4] = [
        &[((".", 1, 2), None), (("F.", 1, 2), Some((".", 2, 2)))],
        &[(("F.", 1, 2), Some((".", 2, 2)))],
        // Both at once.
        &[(("F.", 1, 1), Some((".", 2, 2))), ((".", 2, 2), None)],
        // The peer has not got the FIN, nor the acknowledgement of its SYN.
        &[
            (("S.", 0, 1), Some(("F.", 1, 1))),
            (("F.", 1, 2), Some((".", 2, 2))),
        ],
    ];
    for over_ipv6 in [false, true] {
        for order in orders {
            let mut bench = bench(TcpClose::Fin, 0, over_ipv6);
            let (syn, _) = read(&begin(&mut bench, ms(0)));
            let (fin, event) = bench.take(ms(1), &frame(over_ipv6, &answer(&syn, "S.", 0, 1), b""));
            expect(fin.as_ref(), &syn, "F.", (1, 1));
            assert_eq!(answered(event), (0, answer_at(0, 1)));
            for ((flags, behind, acknowledged), expected) in order {
                assert_eq!(bench.open_now(), 1, "{order:?}");
                let segment = answer(&syn, flags, *behind, *acknowledged);
                let (sent, _) = bench.take(ms(2), &frame(over_ipv6, &segment, b""));
                match expected {
                    Some((flags, own, peers)) => {
                        expect(sent.as_ref(), &syn, flags, (*own, *peers));
                    }
                    None => assert_eq!(sent, None, "{order:?}"),
                }
            }
            assert_eq!((bench.open_now(), bench.due_at()), (0, None));
        }
    }
}

#[test]
fn a_fin_is_repeated_and_a_peer_that_never_closes_is_reset_after_the_timeout() {
    let mut bench = patient(TcpClose::Fin, 0, Duration::from_secs(5));
    let (syn, _) = read(&begin(&mut bench, ms(0)));
    bench.take(ms(1), &frame(false, &answer(&syn, "S.", 0, 1), b""));
    for at in [1_001, 3_001] {
        assert_eq!(bench.vm.poll_at(), Some(ms(at)));
        expect(bench.segment_due(ms(at)).as_ref(), &syn, "F.", (1, 1));
    }
    bench.take(ms(3_002), &frame(false, &answer(&syn, ".", 1, 2), b""));
    assert_eq!(bench.vm.poll_at(), Some(ms(5_001)), "nothing is repeated");
    let reset = bench.segment_due(ms(5_001));
    expect(reset.as_ref(), &syn, "R.", (2, 1));
    assert_eq!((bench.open_now(), bench.vm.poll_at()), (0, None));
    assert_eq!(bench.vm.connections().syns_repeated, 0);
}

#[test]
fn a_connection_is_held_for_its_time_and_takes_what_comes_in_it() {
    for close in [TcpClose::Rst, TcpClose::Fin] {
        let mut bench = bench(close, 10_000, false);
        let (syn, _) = read(&begin(&mut bench, ms(0)));
        let (sent, event) = bench.take(ms(1), &frame(false, &answer(&syn, "S.", 0, 1), b""));
        expect(sent.as_ref(), &syn, ".", (1, 1));
        assert_eq!(answered(event), (0, answer_at(0, 1)));
        // The SYN again: the acknowledgement was lost.
        let (sent, event) = bench.take(ms(2), &frame(false, &answer(&syn, "S.", 0, 1), b""));
        expect(sent.as_ref(), &syn, ".", (1, 1));
        assert_eq!(answered(event), (0, PingOutcome::Duplicate));
        // Data, and what is not in order.
        for (behind, payload, acknowledged) in [(1, b"hello", 6), (9, b"world", 6)] {
            let segment = answer(&syn, ".", behind, 1);
            let (sent, event) = bench.take(ms(3), &frame(false, &segment, payload));
            expect(sent.as_ref(), &syn, ".", (1, acknowledged));
            assert_eq!(event, None);
        }
        // A reset that is not exactly in order may be anybody's.
        let (sent, _) = bench.take(ms(4), &frame(false, &answer(&syn, "R", 7, 0), b""));
        assert_eq!((sent, bench.open_now()), (None, 1));
        assert_eq!(bench.segment_due(ms(10_000)), None);
        let end = bench.segment_due(ms(10_001));
        match close {
            TcpClose::Rst => expect(end.as_ref(), &syn, "R.", (1, 6)),
            TcpClose::Fin => expect(end.as_ref(), &syn, "F.", (1, 6)),
        }
        assert_eq!(bench.open_now(), u64::from(close == TcpClose::Fin));
        assert_eq!(bench.vm.connections().ended_by_peer, 0);
    }
}

#[test]
fn a_peer_that_ends_a_held_connection_is_answered_and_counted() {
    for (close, flags, sent_flags) in [
        (TcpClose::Rst, "F.", Some("R.")),
        (TcpClose::Fin, "F.", Some("F.")),
        (TcpClose::Fin, "R.", None),
    ] {
        let mut bench = bench(close, 10_000, false);
        let (syn, _) = read(&begin(&mut bench, ms(0)));
        bench.take(ms(1), &frame(false, &answer(&syn, "S.", 0, 1), b""));
        let (sent, event) = bench.take(ms(2), &frame(false, &answer(&syn, flags, 1, 1), b""));
        assert_eq!(event, None);
        match sent_flags {
            Some(flags) => expect(sent.as_ref(), &syn, flags, (1, 2)),
            None => assert_eq!(sent, None),
        }
        if sent_flags == Some("F.") {
            assert_eq!(bench.open_now(), 1);
            bench.take(ms(3), &frame(false, &answer(&syn, ".", 2, 2), b""));
        }
        assert_eq!((bench.open_now(), bench.vm.poll_at()), (0, None));
        assert_eq!(bench.vm.connections().ended_by_peer, 1);
    }
}

#[test]
fn connections_that_are_open_when_the_vm_stops_are_reset() {
    let mut bench = bench(TcpClose::Fin, 10_000, false);
    let open = read(&begin(&mut bench, ms(0))).0;
    begin(&mut bench, ms(1));
    bench.take(ms(2), &frame(false, &answer(&open, "S.", 0, 1), b""));
    let mut left = Vec::new();
    while let Some(transmit) = bench.vm.leave(ms(3), &mut bench.buffer) {
        let frame = &bench.buffer[..transmit.length];
        if SlicedPacket::from_ethernet(frame)
            .is_ok_and(|packet| matches!(packet.transport, Some(TransportSlice::Tcp(_))))
        {
            left.push(read(frame).0);
        }
    }
    assert_eq!(left.len(), 1);
    expect(left.first(), &open, "R.", (1, 1));
}

#[test]
fn an_icmp_error_about_a_syn_ends_its_ping_and_one_about_what_follows_ends_none() {
    for (quoted, is_syn) in [(8, true), (20, true), (8, false)] {
        let mut bench = bench(TcpClose::Rst, 0, false);
        let mut frame = begin(&mut bench, ms(0));
        let second = begin(&mut bench, ms(0));
        if !is_syn {
            // A segment behind the first SYN has the number of the second.
            frame[34 + 4..34 + 8].copy_from_slice(&second[34 + 4..34 + 8]);
        }
        frame.resize(200, 0);
        let kind = IcmpErrorKind::PORT_UNREACHABLE;
        let length = turn_into_icmp_error(&mut frame, (kind, 0), PEER_MAC, PEER, 64, 1).unwrap();
        frame.truncate(length.min(ECHO_FRAME_OVERHEAD + 20 + quoted));
        let ip = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&ip.to_be_bytes());
        seal(&mut frame);
        frame[36..38].fill(0);
        let sum = checksum(&frame[34..]);
        frame[36..38].copy_from_slice(&sum);
        let (_, event) = bench.receive(ms(7), &frame);
        if is_syn {
            let refused = PingOutcome::Errored {
                due: ms(0),
                sent: ms(0),
                error: PingError::Refused,
            };
            assert_eq!(answered(event), (0, refused), "{quoted}");
        } else {
            assert_eq!(ignored(event), Ignored::UnexpectedIcmpError);
        }
    }
}

#[test]
fn a_ping_for_which_no_port_is_free_is_not_sent_and_the_reason_is_told() {
    let mut bench = bench(TcpClose::Rst, 0, false);
    let mut start = || {
        bench
            .vm
            .ping(ms(0), bench.session, ms(0), &mut bench.buffer)
    };
    for _ in 0..28_232 {
        assert!(matches!(start(), PingStart::Transmit(_)));
    }
    match start() {
        PingStart::Unresolved(_, why) => assert_eq!(why, Unsent::PortsInUse),
        other => panic!("{other:?}"),
    }
}
