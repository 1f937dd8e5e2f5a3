//! Default routers on IPv6: several, of which some leave, die, turn into hosts, or name a better next hop.

use std::net::Ipv6Addr;

use super::ipv6::{advertisement_of, drain, packet, seal6};
use super::*;
use crate::wire::{Ipv6Envelope, NeighbourAdvertisement, link_local};

const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa2]);
/// The flags of a preference (RFC 4191 section 2.2).
const HIGH: u8 = 0b01 << 3;
const LOW: u8 = 0b11 << 3;
/// The VM's address in the prefix that the routers tell of.
const OWN: &str = "fd99::aff:fe4d:2";

/// A VM with SLAAC that pings a host far away, and has heard `advertisements`.
pub(super) fn bench(advertisements: &[(MacAddr, u8, u16)]) -> Bench {
    let mut config = VmConfig::new(MAC, IP);
    config.ipv6 = Some(Ipv6Config {
        interface: None,
        gateway: None,
        probe: false,
        slaac: true,
        dhcp: false,
        report: Duration::ZERO,
        announce: None,
    });
    let mut bench = Bench::with(config);
    let session = SessionConfig {
        destination: FAR.into(),
        probe: Probe::ICMP_ECHO,
        payload_length: 16,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(session).unwrap();
    for &(mac, flags, lifetime) in advertisements {
        let frame = advertisement_of(mac, flags, lifetime, 36_000);
        bench.receive(ms(0), &frame);
    }
    drain(&mut bench, ms(20_000));
    bench
}

/// Where a ping goes at `now`; nowhere if there is no router, or it is asked for.
fn way(bench: &mut Bench, now: Instant) -> Option<MacAddr> {
    let sent = bench.ping(now);
    sent.contains("echo request")
        .then(|| MacAddr(*bench.buffer.first_chunk().unwrap()))
}

/// The advertisement by which a router answers a solicitation, or tells that it is a host now.
pub(super) fn answer(
    mac: MacAddr,
    link: Option<MacAddr>,
    router: bool,
    overrides: bool,
) -> Vec<u8> {
    let message = NeighbourAdvertisement {
        target: link_local(mac),
        target_link: link,
        router,
        solicited: true,
        overrides,
    };
    let envelope = Ipv6Envelope {
        source_mac: mac,
        destination_mac: MAC,
        source: link_local(mac),
        destination: link_local(MAC),
        traffic_class: 0,
        hop_limit: 255,
    };
    let mut frame = vec![0; 200];
    let length = message.write(envelope, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

#[test]
fn a_router_that_leaves_takes_no_other_with_it() {
    for (name, advertisements, expected) in [
        ("one", &[(A, 0, 1800)][..], Some(A)),
        ("it leaves", &[(A, 0, 1800), (A, 0, 0)], None),
        ("another leaves", &[(A, 0, 1800), (B, 0, 0)], Some(A)),
        (
            "the second leaves",
            &[(A, 0, 1800), (B, 0, 1800), (B, 0, 0)],
            Some(A),
        ),
        (
            "the first leaves",
            &[(A, 0, 1800), (B, 0, 1800), (A, 0, 0)],
            Some(B),
        ),
        (
            "the second is preferred",
            &[(A, 0, 1800), (B, HIGH, 1800)],
            Some(B),
        ),
        ("the first is not", &[(A, LOW, 1800), (B, 0, 1800)], Some(B)),
        (
            "reserved is medium",
            &[(A, 0b10 << 3, 1800), (B, LOW, 1800)],
            Some(A),
        ),
        (
            "preference changes",
            &[(A, HIGH, 1800), (B, 0, 1800), (A, LOW, 1800)],
            Some(B),
        ),
        (
            "the first ends early",
            &[(A, HIGH, 10), (B, 0, 1800)],
            Some(B),
        ),
    ] {
        let mut bench = bench(advertisements);
        assert_eq!(way(&mut bench, ms(20_000)), expected, "{name}");
    }
}

#[test]
fn a_router_that_is_silent_is_left_for_another_and_taken_again_when_it_speaks() {
    let mut bench = bench(&[(A, HIGH, 9_000), (B, LOW, 9_000)]);
    let mut now = ms(20_000);
    assert_eq!(way(&mut bench, now), Some(A));
    // It is used, asked whether it is there still, and does not say so.
    let mut ways = Vec::new();
    for _ in 0..200 {
        now = now + Duration::from_millis(500);
        drain(&mut bench, now);
        ways.push(way(&mut bench, now));
    }
    let left = ways.iter().position(|way| *way == Some(B));
    let left = left.expect("it is left");
    assert!(ways[..left].iter().all(|way| *way == Some(A)), "{ways:?}");
    now = now + Duration::from_millis(500);
    bench.receive(now, &advertisement_of(A, HIGH, 9_000, 36_000));
    assert_eq!(way(&mut bench, now), Some(A));
}

#[test]
fn a_router_that_turns_into_a_host_is_left() {
    let other = MacAddr([2, 0, 0, 0, 0, 0xa9]);
    for (name, link, router, overrides, expected) in [
        ("a router still", Some(A), true, true, A),
        ("a host", Some(A), false, true, B),
        ("a host, by its word on nothing else", None, false, false, B),
        ("a host where it was", Some(A), false, false, B),
        ("somebody else's word", Some(other), false, false, A),
        ("a host elsewhere", Some(other), false, true, B),
    ] {
        let mut bench = bench(&[(A, 0, 1800), (B, 0, 1800)]);
        assert_eq!(way(&mut bench, ms(20_000)), Some(A));
        bench.receive(ms(20_000), &answer(A, link, router, overrides));
        assert_eq!(way(&mut bench, ms(20_000)), Some(expected), "{name}");
    }
}

/// A redirect of `destination` to `target`, which is at `link`, from `source`.
fn redirect(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    link: Option<MacAddr>,
    change: fn(&mut [u8]),
) -> Vec<u8> {
    let mut message = vec![137, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(destination.octets());
    if let Some(MacAddr(mac)) = link {
        message.extend([2, 1]);
        message.extend(mac);
    }
    let mut frame = packet(OWN.parse().unwrap(), 58, &message);
    frame[21] = 255;
    frame[22..38].copy_from_slice(&source.octets());
    change(&mut frame);
    seal6(&mut frame);
    frame
}

#[test]
fn a_redirect_is_taken_from_the_router_in_use_as_rfc_4861_says() {
    let (a, b) = (link_local(A), link_local(B));
    let own: Ipv6Addr = OWN.parse().unwrap();
    let near: Ipv6Addr = "fd99::7".parse().unwrap();
    let global: Ipv6Addr = "fd99::b".parse().unwrap();
    let same: fn(&mut [u8]) = |_| ();
    for (name, frame, expected) in [
        ("to a router", redirect(a, FAR, b, Some(B), same), Some(B)),
        (
            "to the host itself",
            redirect(a, FAR, FAR, Some(B), same),
            Some(B),
        ),
        ("without where", redirect(a, FAR, b, None, same), None),
        ("from another", redirect(b, FAR, b, Some(B), same), Some(A)),
        (
            "from a global address",
            redirect(global, FAR, b, Some(B), same),
            Some(A),
        ),
        (
            "to a global address",
            redirect(a, FAR, global, Some(B), same),
            Some(A),
        ),
        ("to itself", redirect(a, FAR, a, Some(B), same), Some(A)),
        (
            "to us",
            redirect(a, FAR, link_local(MAC), Some(B), same),
            Some(A),
        ),
        (
            "of a neighbour",
            redirect(a, near, b, Some(B), same),
            Some(A),
        ),
        (
            "of a group",
            redirect(a, "ff02::1".parse().unwrap(), b, Some(B), same),
            Some(A),
        ),
        (
            "of our own address",
            redirect(a, own, b, Some(B), same),
            Some(A),
        ),
        (
            "from far away",
            redirect(a, FAR, b, Some(B), |f| f[21] = 254),
            Some(A),
        ),
        (
            "with a code",
            redirect(a, FAR, b, Some(B), |f| f[55] = 1),
            Some(A),
        ),
    ] {
        let mut bench = bench(&[(A, 0, 9_000)]);
        let (sent, event) = bench.receive(ms(20_000), &frame);
        assert_eq!(sent, None, "{name}");
        assert_eq!(event.is_some(), expected == Some(A), "{name}: {event:?}");
        assert_eq!(way(&mut bench, ms(20_000)), expected, "{name}");
        let over = ms(20_000) + REDIRECT_LIFETIME;
        assert_eq!(
            bench.vm.next_hop(over, FAR.into()),
            Some(a.into()),
            "{name}"
        );
    }
}

/// An advertisement of A that tells these times in milliseconds.
fn telling(reachable: u32, retransmit: u32) -> Vec<u8> {
    let mut frame = advertisement_of(A, 0, 1800, 36_000);
    frame[62..66].copy_from_slice(&reachable.to_be_bytes());
    frame[66..70].copy_from_slice(&retransmit.to_be_bytes());
    seal6(&mut frame);
    frame
}

#[test]
fn neighbours_are_asked_again_after_the_time_that_the_last_router_told() {
    // The times told in turn, and the milliseconds between two solicitations then.
    for (told, expected) in [
        (&[][..], 1_000),
        (&[0], 1_000),
        (&[200], 200),
        (&[200, 0], 200),
        (&[200, 3_000], 3_000),
        // Shorter times than Linux takes, and the longest.
        (&[1], 10),
        (&[3_600_000], 3_600_000),
    ] {
        let mut bench = bench(&[]);
        for time in told {
            bench.receive(ms(20_000), &telling(0, *time));
        }
        // A neighbour of the prefix that nobody answers for.
        bench.receive(ms(20_000), &telling(0, 0));
        let destination: Ipv6Addr = "fd99::99".parse().unwrap();
        bench.vm.redirect(bench.session, destination.into());
        bench.ping(ms(30_000));
        let asked = drain(&mut bench, ms(30_000 + 5 * expected));
        let times: Vec<u64> = asked
            .iter()
            .filter(|(_, what)| what.ends_with("who has fd99::99"))
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(
            times,
            [30_000 + expected, 30_000 + 2 * expected],
            "{told:?}"
        );
        // IPv4 knows nothing of it.
        assert_eq!(
            bench.vm.neighbours.reachable_time(PEER.into()),
            BASE_REACHABLE_TIME
        );
    }
}

#[test]
fn a_neighbour_is_reachable_for_about_the_time_that_the_last_router_told() {
    let router = link_local(A).into();
    for (told, expected) in [
        (&[1_000][..], 1_000),
        (&[1_000, 0], 1_000),
        (&[1_000, 90_000], 90_000),
        (&[1], 100),
        (&[u32::MAX], u64::from(u32::MAX)),
    ] {
        let mut bench = bench(&[]);
        for time in told {
            bench.receive(ms(20_000), &telling(*time, 0));
        }
        let time = bench.vm.neighbours.reachable_time(router).as_millis() as u64;
        assert!(
            (expected / 2..=expected * 3 / 2).contains(&time),
            "{told:?} {time}"
        );
        let last = told.iter().rfind(|told| **told > 0).unwrap();
        bench.receive(ms(20_000), &telling(*last, 0));
        let again = bench.vm.neighbours.reachable_time(router).as_millis() as u64;
        assert_eq!(again, time, "drawn anew for another value only");
    }
}
