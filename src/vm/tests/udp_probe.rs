//! Probes by UDP. Datagrams are read, and answered, by etherparse.

use std::net::Ipv6Addr;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use super::*;
use crate::wire::{IcmpErrorKind, ProbeHead, is_ephemeral, turn_into_icmp_error};

const IP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
const PORT: u16 = 9_000;

/// A VM that pings its peer by UDP, and knows it.
fn bench(over_ipv6: bool) -> Bench {
    let probe = Probe {
        port: PORT,
        ..Probe::of(ProbeKind::Udp)
    };
    bench_of(ipv6::config(), probe, 20, over_ipv6)
}

/// A VM that pings its peer, and knows it.
pub(super) fn bench_of(
    vm: VmConfig,
    probe: Probe,
    payload_length: usize,
    over_ipv6: bool,
) -> Bench {
    let mut bench = Bench::with(vm);
    let destination = match over_ipv6 {
        true => PEER6.into(),
        false => PEER.into(),
    };
    bench.vm.add_neighbour(destination, PEER_MAC);
    let config = SessionConfig {
        destination,
        probe,
        payload_length,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(config).unwrap();
    bench
}

/// Sends a ping, and returns its frame.
pub(super) fn sent(bench: &mut Bench, now: Instant) -> Vec<u8> {
    match bench.vm.ping(now, bench.session, now, &mut bench.buffer) {
        PingStart::Transmit(transmit) => {
            bench.vm.stamp_sent(transmit.ping.unwrap(), now);
            bench.buffer[..transmit.length].to_vec()
        }
        other => panic!("{other:?}"),
    }
}

/// Ports and payload of a frame.
pub(super) fn read(frame: &[u8]) -> (u16, u16, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Udp(udp)) = packet.transport else {
        panic!("{packet:?}");
    };
    (
        udp.source_port(),
        udp.destination_port(),
        udp.payload().to_vec(),
    )
}

/// The datagram that a host sends from one port to another.
pub(super) fn datagram(over_ipv6: bool, (from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(PEER_MAC.0, MAC.0);
    let step = match over_ipv6 {
        true => ethernet.ipv6(PEER6.octets(), IP6.octets(), 64),
        false => ethernet.ipv4(PEER.octets(), IP.octets(), 64),
    };
    step.udp(from, to).write(&mut frame, payload).unwrap();
    frame
}

pub(super) fn answered(event: Option<Event>) -> (u64, PingOutcome) {
    outcome(event).unwrap()
}

#[test]
fn what_comes_back_from_the_port_answers_the_ping_whose_number_it_has() {
    for over_ipv6 in [false, true] {
        let mut bench = bench(over_ipv6);
        let first = read(&sent(&mut bench, ms(0)));
        let second = read(&sent(&mut bench, ms(1)));
        assert!(is_ephemeral(first.0));
        assert_eq!((first.0, first.1, first.2.len()), (second.0, PORT, 20));
        for (sequence, (from, to, payload)) in [(1, second), (0, first.clone())] {
            let reply = datagram(over_ipv6, (to, from), &payload);
            let (_, event) = bench.receive(ms(5), &reply);
            let expected = PingOutcome::Answered {
                due: ms(sequence),
                sent: ms(sequence),
                received: ms(5),
            };
            assert_eq!(answered(event), (sequence, expected));
        }
        let (from, to, payload) = first;
        let again = datagram(over_ipv6, (to, from), &payload);
        let (_, event) = bench.receive(ms(6), &again);
        assert_eq!(answered(event), (0, PingOutcome::Duplicate));
    }
}

#[test]
fn a_frame_tells_session_and_number_of_a_request_and_of_its_reply() {
    for over_ipv6 in [false, true] {
        let mut bench = bench(over_ipv6);
        sent(&mut bench, ms(0));
        let request = sent(&mut bench, ms(1));
        let head = ProbeHead::parse(&request).unwrap();
        assert_eq!(
            (head.is_request, head.identifier, head.sequence),
            (true, bench.session.0, 1)
        );
        assert!(ProbeHead::is_request(&request));
        let (from, to, payload) = read(&request);
        let reply = datagram(over_ipv6, (to, from), &payload);
        assert_eq!(ProbeHead::parse(&reply), Some(head.turned()));
        assert!(!ProbeHead::is_request(&reply));
    }
}

#[test]
fn what_is_not_what_was_sent_is_corrupt_or_no_reply() {
    let mut bench = bench(false);
    let (from, to, payload) = read(&sent(&mut bench, ms(0)));
    // From another port, or to one that no session has: nobody listens there.
    for ports in [(to + 1, from), (to, from ^ 1)] {
        let (_, event) = bench.receive(ms(1), &datagram(false, ports, &payload));
        assert_eq!(ignored(event), Ignored::ClosedPort(ports.1), "{ports:?}");
    }
    let ping = |bench: &mut Bench, now| read(&sent(bench, now)).2;
    // With two on their way nobody knows which one a strange datagram is about.
    let second = ping(&mut bench, ms(2));
    let strange = datagram(false, (to, from), b"x");
    let (_, event) = bench.receive(ms(3), &strange);
    assert_eq!(ignored(event), Ignored::UnexpectedEchoReply);
    let mut damaged = second;
    damaged[19] ^= 1;
    let (_, event) = bench.receive(ms(3), &datagram(false, (to, from), &damaged));
    assert_eq!(answered(event), (1, PingOutcome::Corrupt { due: ms(2) }));
    let (_, event) = bench.receive(ms(3), &strange);
    assert_eq!(answered(event), (0, PingOutcome::Corrupt { due: ms(0) }));
    let (_, event) = bench.receive(ms(4), &strange);
    assert_eq!(ignored(event), Ignored::UnexpectedEchoReply);
}

#[test]
fn a_port_at_which_nobody_listens_refuses_the_ping_however_little_the_error_quotes() {
    for quoted in [8, 16, 40] {
        let mut bench = bench(false);
        let mut frame = sent(&mut bench, ms(0));
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
        let refused = PingOutcome::Errored {
            due: ms(0),
            sent: ms(0),
            error: PingError::Refused,
        };
        assert_eq!(answered(event), (0, refused), "{quoted}");
        let (_, event) = bench.receive(ms(8), &frame);
        assert_eq!(ignored(event), Ignored::UnexpectedIcmpError, "once only");
    }
}

#[test]
fn an_echo_reply_does_not_answer_a_ping_by_udp_nor_the_reverse() {
    let mut bench = bench(false);
    let (_, _, payload) = read(&sent(&mut bench, ms(0)));
    let echo = bench.echo(true, bench.session.0, 0, PEER, |space| {
        space.copy_from_slice(&payload[..16]);
    });
    let (_, event) = bench.receive(ms(1), &echo);
    assert_eq!(ignored(event), Ignored::UnexpectedEchoReply);
}
