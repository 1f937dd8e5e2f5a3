//! Path MTU discovery of one VM, over both families, in virtual time.

use std::net::{IpAddr, Ipv6Addr};

use super::ipv6::{config, seal6};
use super::*;
use crate::wire::{
    IcmpErrorKind, Icmpv6EchoRequest, Icmpv6Error, Ipv6Envelope, turn_into_icmp_error,
    turn_into_icmpv6_error,
};

const IP6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 4);
/// A time at which the reports of groups are over.
const QUIET: u64 = 3_000;
/// So that the packet has 1,428 bytes over IPv4, and 1,448 over IPv6.
const PAYLOAD: usize = 1_400;

/// A VM that knows its neighbours.
fn settled() -> Bench {
    let mut bench = Bench::with(config());
    while bench.vm.poll_at().is_some_and(|at| at <= ms(QUIET)) {
        bench.poll(ms(QUIET));
    }
    for address in [PEER.into(), OTHER.into(), PEER6.into(), OTHER6.into()] {
        bench.vm.add_neighbour(address, PEER_MAC);
    }
    bench
}

fn session(bench: &mut Bench, destination: IpAddr, dont_fragment: bool) -> SessionId {
    let options = PingOptions {
        dont_fragment,
        ..PingOptions::default()
    };
    let config = SessionConfig {
        destination,
        probe: Probe::ICMP_ECHO,
        payload_length: PAYLOAD,
        timeout: TIMEOUT,
        options,
    };
    bench.vm.open_session(config).unwrap()
}

/// Sends a ping at `at` milliseconds, and returns the frames in which it goes out.
fn ping(bench: &mut Bench, at: u64, session: SessionId) -> Vec<Vec<u8>> {
    let start = bench.vm.ping(ms(at), session, ms(at), &mut bench.buffer);
    let PingStart::Transmit(transmit) = start else {
        panic!("{start:?}");
    };
    frames(bench, at, transmit)
}

fn frames(bench: &mut Bench, at: u64, first: Transmit) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut next = Some(first);
    while let Some(transmit) = next {
        if let Some(ping) = transmit.ping {
            bench.vm.stamp_sent(ping, ms(at));
        }
        frames.push(bench.buffer[..transmit.length].to_vec());
        next = (bench.vm.poll_at() == Some(Instant::ZERO))
            .then(|| bench.vm.poll(ms(at), &mut bench.buffer)?.transmit)
            .flatten();
    }
    frames
}

/// Bytes of the datagrams in some frames.
fn lengths(frames: &[Vec<u8>]) -> Vec<usize> {
    frames.iter().map(|frame| frame.len() - 14).collect()
}

/// A stranger's word that `frame` is larger than `mtu`.
fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
    let mut buffer = frame.to_vec();
    buffer.resize(3_000, 0);
    let length;
    if frame[14] >> 4 == 4 {
        let kind = IcmpErrorKind::FRAGMENTATION_NEEDED;
        let router = Ipv4Addr::new(198, 51, 100, 1);
        length = turn_into_icmp_error(&mut buffer, (kind, 0), PEER_MAC, router, 64, 1).unwrap();
        buffer.truncate(length);
        buffer[40..42].copy_from_slice(&(mtu as u16).to_be_bytes());
        buffer[36..38].fill(0);
        let sum = checksum(&buffer[34..]);
        buffer[36..38].copy_from_slice(&sum);
    } else {
        let kind = IcmpErrorKind {
            kind: Icmpv6Error::PACKET_TOO_BIG,
            code: 0,
        };
        let router = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let written =
            turn_into_icmpv6_error(&mut buffer, frame.len(), (kind, mtu), PEER_MAC, router, 64);
        buffer.truncate(written.unwrap());
    }
    buffer
}

#[test]
fn the_ping_after_one_that_was_too_big_goes_out_in_fragments_that_fit() {
    let whole = &[1_428][..];
    let whole6 = &[1_448][..];
    let least = &[548, 548, 372][..];
    for (family, mtu, expected) in [
        (4, 1_427, &[1_420, 28][..]),
        (4, 1_300, &[1_300, 148]),
        (4, 1_428, whole),
        (4, 1_500, whole),
        (4, 65_535, whole),
        // A router that does not say, and those that say less than they may.
        (4, 0, least),
        (4, 1, least),
        (4, 551, least),
        (4, 552, least),
        (6, 1_447, &[1_440, 64]),
        (6, 1_300, &[1_296, 208]),
        (6, 1_280, &[1_280, 224]),
        (6, 1_448, whole6),
        (6, 1_500, whole6),
        (6, 65_535, whole6),
        (6, u32::MAX, whole6),
        (6, 0, whole6),
        (6, 1_279, whole6),
    ] {
        let mut bench = settled();
        let (peer, other) = if family == 4 {
            (PEER.into(), OTHER.into())
        } else {
            (PEER6.into(), OTHER6.into())
        };
        let near = session(&mut bench, peer, false);
        let far = session(&mut bench, other, false);
        let sent = ping(&mut bench, QUIET, near);
        assert_eq!(sent.len(), 1);
        let (_, event) = bench.receive(ms(QUIET + 1), &too_big(&sent[0], mtu));
        let errored = PingOutcome::Errored {
            due: ms(QUIET),
            sent: ms(QUIET),
            error: PingError::FragmentationNeeded,
        };
        assert_eq!(outcome(event), Some((0, errored)), "{family} {mtu}");
        let sent = ping(&mut bench, QUIET + 2, near);
        assert_eq!(lengths(&sent), expected, "{family} {mtu}");
        let to_other = ping(&mut bench, QUIET + 3, far);
        assert_eq!(to_other.len(), 1, "another path");
        // What is not raised is forgotten after ten minutes.
        bench.receive(ms(QUIET + 4), &too_big(&sent[0], 1_490));
        let later = QUIET + 1 + 600_000;
        assert_eq!(lengths(&ping(&mut bench, later - 1, near)), expected);
        assert_eq!(ping(&mut bench, later, near).len(), 1, "{family} {mtu}");
    }
}

#[test]
fn a_ping_that_must_not_be_cut_is_not_sent_once_the_path_is_known() {
    for peer in [PEER.into(), PEER6.into()] {
        let mut bench = settled();
        let near = session(&mut bench, peer, true);
        let sent = ping(&mut bench, QUIET, near);
        bench.receive(ms(QUIET + 1), &too_big(&sent[0], 1_300));
        let start = bench
            .vm
            .ping(ms(QUIET + 2), near, ms(QUIET + 2), &mut bench.buffer);
        assert!(
            matches!(
                start,
                PingStart::Unresolved(
                    Event::Ping(_, PingOutcome::Unresolved { .. }),
                    Unsent::FragmentationNeeded
                )
            ),
            "{start:?}"
        );
    }
}

#[test]
fn an_error_about_what_this_vm_has_not_sent_tells_nothing_of_the_path() {
    for peer in [PEER.into(), PEER6.into()] {
        let mut bench = settled();
        let near = session(&mut bench, peer, false);
        let sent = ping(&mut bench, QUIET, near).remove(0);
        let (source, destination, identifier) = if peer.is_ipv4() {
            (29, 33, 38)
        } else {
            (37, 53, 58)
        };
        for at in [source, destination, identifier] {
            let mut forged = sent.clone();
            forged[at] ^= 0x40;
            if peer.is_ipv4() {
                seal(&mut forged);
            } else {
                seal6(&mut forged);
            }
            // Errors go where the packet came from: to us all the same.
            let mut error = too_big(&forged, 1_300);
            if at == source {
                if peer.is_ipv4() {
                    error[33] ^= 0x40;
                    seal(&mut error);
                } else {
                    error[53] ^= 0x40;
                    seal6(&mut error);
                }
            }
            let (_, event) = bench.receive(ms(QUIET + 1), &error);
            assert_eq!(ignored(event), Ignored::UnexpectedIcmpError, "{peer} {at}");
        }
        assert_eq!(ping(&mut bench, QUIET + 2, near).len(), 1, "{peer}");
        // Nor one about a ping that is over.
        let reply_time = ms(QUIET + 2) + TIMEOUT;
        while bench.vm.expire(reply_time, near).is_some() {}
        let (_, event) = bench.receive(reply_time, &too_big(&sent, 1_300));
        assert_eq!(ignored(event), Ignored::UnexpectedIcmpError, "{peer}");
        assert_eq!(ping(&mut bench, QUIET + 999, near).len(), 1, "{peer}");
    }
}

#[test]
fn answers_fit_the_path_as_well() {
    let ask = |is_ipv4: bool| {
        let mut frame = vec![0; 3_000];
        let length = if is_ipv4 {
            let request = EchoRequest {
                envelope: envelope((PEER_MAC, PEER), (MAC, IP)),
                identifier: 1,
                sequence: 1,
            };
            request.write(PAYLOAD, |p| p.fill(1), &mut frame)
        } else {
            let request = Icmpv6EchoRequest {
                envelope: Ipv6Envelope {
                    source_mac: PEER_MAC,
                    destination_mac: MAC,
                    source: PEER6,
                    destination: IP6,
                    traffic_class: 0,
                    hop_limit: 64,
                },
                identifier: 1,
                sequence: 1,
            };
            request.write(PAYLOAD, |p| p.fill(1), &mut frame)
        };
        frame.truncate(length.unwrap());
        frame
    };
    for (is_ipv4, expected) in [(true, [1_300, 148]), (false, [1_296, 208])] {
        let mut bench = settled();
        let asked = ask(is_ipv4);
        let answer = |bench: &mut Bench, at: u64| {
            bench.buffer[..asked.len()].copy_from_slice(&asked);
            let reaction = bench.vm.receive(ms(at), &mut bench.buffer, asked.len());
            frames(bench, at, reaction.transmit.unwrap())
        };
        let answers = answer(&mut bench, QUIET);
        assert_eq!(answers.len(), 1);
        let (_, event) = bench.receive(ms(QUIET), &too_big(&answers[0], 1_300));
        assert_eq!(event, None);
        assert_eq!(lengths(&answer(&mut bench, QUIET)), expected);
        assert_eq!(answer(&mut bench, QUIET + 600_000).len(), 1);
    }
}
