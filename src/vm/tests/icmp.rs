//! Errors about what others send, and about our pings.

use etherparse::IpNumber;

use super::*;
use crate::time::LazyNow;
use crate::wire::{IcmpErrorKind, turn_into_icmp_error, write_udp};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// A datagram from the peer with UDP to `port`.
fn udp(to: (MacAddr, Ipv4Addr), source_port: u16, port: u16, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 66_000];
    let envelope = envelope((PEER_MAC, PEER), to);
    let fill = |space: &mut [u8]| {
        space.fill(0x5a);
        Some(payload)
    };
    let length = write_udp(&envelope, (source_port, port), payload, fill, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn with_udp_echo() -> Bench {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv4.udp_echo = true;
    Bench::with(config)
}

/// `frame` with a change in its IPv4 header.
fn sealed(mut frame: Vec<u8>, change: fn(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    seal(&mut frame);
    frame
}

#[test]
fn a_closed_port_and_an_unknown_protocol_are_told_to_the_sender_with_a_quote() {
    let mut bench = Bench::new();
    let datagram = udp((MAC, IP), 40_000, 9, 4);
    let (sent, event) = bench.receive(ms(0), &datagram);
    let expected =
        "IPv4 10.77.0.2 > 10.77.0.3, ICMP type 3 code 3 about port 40000 > 9 to 10.77.0.2";
    assert_eq!(
        (sent.as_deref(), ignored(event)),
        (Some(expected), Ignored::ClosedPort(9))
    );
    assert_eq!(bench.buffer[15], 0xc0, "internetwork control");
    assert_eq!(
        bench.buffer[42..42 + 32],
        datagram[14..46],
        "the whole of it is quoted"
    );

    let unknown = sealed(datagram, |frame| frame[23] = IpNumber::SCTP.0);
    let (sent, event) = bench.receive(ms(0), &unknown);
    let expected = "IPv4 10.77.0.2 > 10.77.0.3, ICMP type 3 code 2";
    assert_eq!(
        (sent.as_deref(), ignored(event)),
        (Some(expected), Ignored::Protocol(132))
    );
}

#[test]
fn a_quote_makes_the_error_no_longer_than_576_bytes() {
    for (payload, total) in [(0, 56), (519, 575), (520, 576), (521, 576), (1_472, 576)] {
        let mut bench = Bench::new();
        bench.buffer.fill(0xff);
        let datagram = udp((MAC, IP), 1, 9, payload);
        bench.buffer[..datagram.len()].copy_from_slice(&datagram);
        let reaction = bench.vm.receive(ms(0), &mut bench.buffer, datagram.len());
        assert_eq!(
            reaction.transmit.unwrap().length,
            14 + total,
            "{payload} bytes"
        );
        assert_eq!(
            u16::from_be_bytes([bench.buffer[16], bench.buffer[17]]) as usize,
            total
        );
    }
    // One that came in fragments is quoted from its first.
    let mut bench = Bench::new();
    let datagram = udp((MAC, IP), 1, 9, 5_000);
    let mut next = Some(0);
    let mut last = None;
    while let Some(offset) = next {
        let mut fragment = vec![0; 1_600];
        let (length, following) =
            crate::wire::write_fragment(&datagram, offset, 1_500, &mut fragment).unwrap();
        last = Some(bench.receive(ms(0), &fragment[..length]));
        next = following;
    }
    let (sent, event) = last.unwrap();
    assert!(sent.is_some_and(|sent| sent.contains("ICMP type 3 code 3")));
    assert_eq!(ignored(event), Ignored::ClosedPort(9));
}

#[test]
fn errors_are_limited_as_in_linux_and_never_sent_about_what_many_got() {
    let mut bench = Bench::new();
    let datagram = udp((MAC, IP), 1, 9, 4);
    let errors = (0..100).filter(|_| bench.receive(ms(0), &datagram).0.is_some());
    assert_eq!(errors.count(), 6);
    assert!(bench.receive(ms(1_000), &datagram).0.is_some());

    let broadcast = Ipv4Addr::new(10, 77, 255, 255);
    for (to, expected) in [
        ((MacAddr::BROADCAST, IP), Ignored::ClosedPort(9)),
        ((MacAddr::BROADCAST, broadcast), Ignored::OtherAddress),
        (
            (MacAddr::BROADCAST, Ipv4Addr::BROADCAST),
            Ignored::OtherAddress,
        ),
        (
            (MacAddr([1, 0, 0x5e, 0, 0, 1]), Ipv4Addr::new(224, 0, 0, 1)),
            Ignored::OtherStation,
        ),
    ] {
        let (sent, event) = Bench::new().receive(ms(0), &udp(to, 1, 9, 4));
        assert_eq!((sent, ignored(event)), (None, expected), "{to:?}");
    }
    for (name, frame) in [
        (
            "not the first fragment",
            sealed(datagram.clone(), |f| f[21] = 3),
        ),
        ("a bad checksum", {
            let mut frame = datagram.clone();
            *frame.last_mut().unwrap() ^= 1;
            frame
        }),
        ("a length beyond the datagram", {
            let mut frame = datagram.clone();
            frame[39] = 200;
            frame
        }),
        ("an error", {
            let mut frame = datagram.clone();
            frame.resize(600, 0);
            let kind = IcmpErrorKind::PORT_UNREACHABLE;
            let length =
                turn_into_icmp_error(&mut frame, (kind, 0), PEER_MAC, PEER, 64, 1).unwrap();
            frame.truncate(length);
            frame[0..6].copy_from_slice(&MAC.0);
            sealed(frame, |f| f[30..34].copy_from_slice(&IP.octets()))
        }),
    ] {
        assert_eq!(Bench::new().receive(ms(0), &frame).0, None, "{name}");
    }
}

#[test]
fn an_echo_request_to_everybody_is_not_answered() {
    let mut config = VmConfig::new(MAC, IP);
    if let Addressing::Static(interface) = &mut config.ipv4.addressing {
        interface.prefix_length = 16;
    }
    for destination in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 77, 255, 255)] {
        let mut bench = Bench::with(config);
        let mut frame = vec![0; 98];
        let request = EchoRequest {
            envelope: envelope((PEER_MAC, PEER), (MacAddr::BROADCAST, destination)),
            identifier: 1,
            sequence: 1,
        };
        request.write(56, |_| (), &mut frame).unwrap();
        let (sent, event) = bench.receive(ms(0), &frame);
        assert_eq!(
            (sent, ignored(event)),
            (None, Ignored::OtherAddress),
            "{destination}"
        );
    }
    let mut bench = Bench::with(config);
    let fill = |payload: &mut [u8]| payload.fill(0);
    let from_broadcast = bench.echo(false, 1, 1, Ipv4Addr::new(10, 77, 255, 255), fill);
    let (sent, event) = bench.receive(ms(0), &from_broadcast);
    assert_eq!(
        (sent, ignored(event)),
        (None, Ignored::BadSource),
        "a smurf"
    );
}

/// The error that `from` sends about the ping that `bench` has just sent.
fn error_about(bench: &Bench, length: usize, kind: IcmpErrorKind, from: Ipv4Addr) -> Vec<u8> {
    let mut frame = bench.buffer[..length].to_vec();
    frame.resize(2_000, 0);
    // On the way the time to live has gone down, and the quoted checksum with it is another one.
    frame[22] -= 3;
    let length = turn_into_icmp_error(&mut frame, (kind, 0), PEER_MAC, from, 64, 1).unwrap();
    frame.truncate(length);
    frame
}

#[test]
fn an_error_ends_the_ping_that_it_quotes_and_is_named() {
    let unreachable = |code| IcmpErrorKind { kind: 3, code };
    for (kind, error) in [
        (unreachable(0), PingError::NetworkUnreachable),
        (unreachable(1), PingError::HostUnreachable),
        (unreachable(2), PingError::ProtocolUnreachable),
        (unreachable(3), PingError::PortUnreachable),
        (unreachable(4), PingError::FragmentationNeeded),
        (unreachable(5), PingError::Unreachable),
        (unreachable(13), PingError::Prohibited),
        (IcmpErrorKind { kind: 11, code: 0 }, PingError::TimeExceeded),
        (
            IcmpErrorKind { kind: 11, code: 1 },
            PingError::ReassemblyTimeExceeded,
        ),
        (
            IcmpErrorKind { kind: 12, code: 0 },
            PingError::ParameterProblem,
        ),
    ] {
        let mut bench = Bench::resolved();
        bench.ping(ms(3));
        let frame = error_about(&bench, ECHO_FRAME_OVERHEAD + 16, kind, ROUTER);
        let errored = PingOutcome::Errored {
            due: ms(3),
            sent: ms(3),
            error,
        };
        let (_, event) = bench.receive(ms(9), &frame);
        assert_eq!(outcome(event), Some((0, errored)));
        assert!(errored.is_final());
        assert_eq!(bench.vm.expires_at(bench.session), None, "{error:?}");
        let (_, event) = bench.receive(ms(10), &frame);
        assert_eq!(ignored(event), Ignored::UnexpectedIcmpError, "once only");
        let late = bench.reply_to(0);
        assert_eq!(
            outcome(bench.receive(ms(11), &late).1),
            Some((0, PingOutcome::Late { lost: None }))
        );
    }
}

#[test]
fn an_error_about_another_ping_ends_none() {
    let kind = IcmpErrorKind { kind: 3, code: 1 };
    let length = ECHO_FRAME_OVERHEAD + 16;
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 6] = [
        ("another source", |f| f[54] ^= 1),
        ("another destination", |f| f[58] ^= 1),
        ("another identifier", |f| f[67] ^= 1),
        ("another sequence number", |f| f[69] ^= 1),
        ("a reply", |f| f[62] = 0),
        ("a later fragment", |f| f[49] = 1),
    ];
    for (name, change) in cases {
        let mut bench = Bench::resolved();
        bench.ping(ms(0));
        let mut frame = error_about(&bench, length, kind, ROUTER);
        change(&mut frame);
        frame[36..38].fill(0);
        let sum = checksum(&frame[34..]);
        frame[36..38].copy_from_slice(&sum);
        let (_, event) = bench.receive(ms(1), &frame);
        assert_eq!(ignored(event), Ignored::UnexpectedIcmpError, "{name}");
        assert!(bench.vm.expires_at(bench.session).is_some(), "{name}");
    }
}

#[test]
fn the_echo_service_sends_back_what_comes_if_there_is_one() {
    for payload in [0, 1, 1_000, 20_000] {
        let datagram = udp((MAC, IP), 40_000, 7, payload);
        let mut bench = with_udp_echo();
        let mut next = Some(0);
        let mut sent = None;
        while let Some(offset) = next {
            let mut fragment = vec![0; 1_600];
            let (length, following) =
                crate::wire::write_fragment(&datagram, offset, 1_500, &mut fragment).unwrap();
            sent = bench.receive(ms(0), &fragment[..length]).0;
            next = following;
        }
        let sent = sent.unwrap();
        let expected = format!("UDP port 7 > 40000 ({payload} bytes)");
        assert!(
            sent.ends_with(&expected) || sent.contains("fragment"),
            "{sent}"
        );
        let mut frames = 1;
        while bench.poll(ms(0)).is_some() {
            frames += 1;
        }
        assert_eq!(frames, (payload + 8).div_ceil(1_480), "{payload} bytes");
    }
    let (sent, event) = with_udp_echo().receive(ms(0), &udp((MAC, IP), 7, 7, 4));
    assert_eq!(
        (sent, ignored(event)),
        (None, Ignored::ClosedPort(7)),
        "no ping-pong"
    );
    let (sent, _) = Bench::new().receive(ms(0), &udp((MAC, IP), 40_000, 7, 4));
    assert!(sent.is_some_and(|sent| sent.contains("ICMP type 3 code 3 about port 40000 > 7")));
}

#[test]
fn a_request_with_options_is_answered() {
    let mut bench = Bench::new();
    let mut frame = bench.echo(false, 1, 1, PEER, |payload| payload.fill(7));
    frame.splice(34..34, [7, 7, 4, 0, 0, 0, 0, 0]);
    frame[14] = 0x47;
    frame[17] += 8;
    seal(&mut frame);
    let (reply, _) = bench.receive(ms(0), &frame);
    let expected = "IPv4 10.77.0.2 > 10.77.0.3, ICMP echo reply id 1 seq 1 (16 bytes)";
    assert_eq!(reply.as_deref(), Some(expected));
}

#[test]
fn the_short_way_of_a_plain_echo_ends_where_the_long_way_does() {
    let mut random = fastrand::Rng::with_seed(6);
    let (mut short_ways, mut answers) = (0, 0);
    for round in 0..20_000 {
        // Two VMs that are the same, each with a ping on its way; what comes is a request, or the reply.
        let (mut one, mut other) = (Bench::resolved(), Bench::resolved());
        one.ping(ms(1));
        other.ping(ms(1));
        let fill = |payload: &mut [u8]| fill_payload(0, payload);
        let mut frame = one.echo(round % 2 == 0, one.session.0, 0, PEER, fill);
        for _ in 0..random.usize(..3) {
            let at = random.usize(..frame.len().min(60));
            let any = random.u8(..);
            frame[at] = random.choice([0, 1, 8, 0x45, 0x40, 0xff, any]).unwrap();
        }
        frame.resize(frame.len() + random.usize(..3), 0);
        if random.bool() && (5..9).contains(&(frame[14] & 0x0f)) {
            seal(&mut frame);
        }
        let length = frame.len();
        one.buffer[..length].copy_from_slice(&frame);
        other.buffer[..length].copy_from_slice(&frame);
        let mut now = LazyNow::new(ms(2));
        let reaction = one.vm.receive(&mut now, &mut one.buffer, length);
        assert_eq!(
            reaction,
            other.vm.receive_any(ms(2), &mut other.buffer, length),
            "{frame:x?}"
        );
        let sent = reaction.transmit.map_or(0, |transmit| transmit.length);
        assert_eq!(one.buffer[..sent], other.buffer[..sent], "{frame:x?}");
        // What needs no clock is a request on the short way, and nothing happens but its answer.
        let is_answer = now.reading().is_none();
        if is_answer {
            assert!(reaction.transmit.is_some() && reaction.event.is_none());
        }
        let mut third = Bench::resolved();
        third.ping(ms(1));
        let is_reply = third.vm.take_plain_reply(ms(2), &frame).is_some();
        assert!(!(is_reply && is_answer), "{frame:x?}");
        let is_short = is_answer || is_reply;
        short_ways += usize::from(is_short);
        answers += usize::from(matches!(
            reaction.event,
            Some(Event::Ping(_, PingOutcome::Answered { .. }))
        ));
    }
    assert!(
        short_ways > 1000 && answers > 1000,
        "{short_ways} {answers}"
    );
}
