//! Multicast listener discovery of one VM, frame by frame, in virtual time.

use std::net::Ipv6Addr;

use super::ipv6::{config, packet, with};
use super::*;
use crate::wire::{ALL_NODES, link_local, multicast_mac};

/// A time at which the reports of groups are over.
const QUIET: u64 = 3_000;
const LOCAL: &str = "ff02::1:ff4d:2";
const GLOBAL: &str = "ff02::1:ff00:2";
const UNSPECIFIED: &str = "::";

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A VM that has sent its reports.
fn settled(config: VmConfig) -> Bench {
    let mut bench = Bench::with(config);
    sent(&mut bench, QUIET);
    bench
}

/// The listener messages that a VM sends until `until` milliseconds, with the time, and for version 2 with the records.
fn sent(bench: &mut Bench, until: u64) -> Vec<(u64, String)> {
    let mut sent = Vec::new();
    while let Some(at) = bench.vm.poll_at().filter(|at| *at <= ms(until)) {
        let (mut what, _) = bench.poll(at).unwrap_or_default();
        let Some(what) = what.take_if(|what| what.contains("listener")) else {
            continue;
        };
        let mut what = what.split_once("> ").unwrap().1.to_owned();
        assert_eq!(bench.buffer[21], 1, "hop limit of {what}");
        assert_eq!(
            bench.buffer[54..62],
            [58, 0, 5, 2, 0, 0, 1, 0],
            "router alert of {what}"
        );
        if bench.buffer[62] == 143 {
            let count = usize::from(bench.buffer[69]);
            for record in bench.buffer[70..].chunks(20).take(count) {
                let group: [u8; 16] = record[4..20].try_into().unwrap();
                what += &format!(" {} {}", record[0], Ipv6Addr::from(group));
            }
        }
        sent.push((at.as_nanos() / 1_000_000, what));
        assert!(sent.len() < 100, "it never ends: {sent:?}");
    }
    sent
}

/// An ICMPv6 message to `destination` behind a router alert, from a neighbour's link-local address.
fn message(destination: Ipv6Addr, icmp: &[u8]) -> Vec<u8> {
    altered(destination, icmp, |_| ())
}

/// The same with a change before the checksum is made: the fixed header lies at 14, the message at 54.
fn altered(destination: Ipv6Addr, icmp: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = packet(destination, 58, icmp);
    frame[..6].copy_from_slice(&multicast_mac(destination).0);
    frame[21] = 1;
    frame[22..38].copy_from_slice(&link_local(PEER_MAC).octets());
    change(&mut frame);
    super::ipv6::seal6(&mut frame);
    frame[19] += 8;
    frame[20] = 0;
    frame.splice(54..54, [58, 0, 5, 2, 0, 0, 1, 0]);
    frame
}

/// A query of `length` bytes with the maximum response code `code`.
fn query(group: &str, code: u16, length: usize) -> Vec<u8> {
    let [c0, c1] = code.to_be_bytes();
    let mut message = vec![130, 0, 0, 0, c0, c1, 0, 0];
    message.extend(ip(group).octets());
    message.resize(length, 0);
    message
}

fn report(group: &str) -> Vec<u8> {
    let mut message = query(group, 0, 24);
    message[0] = 131;
    message
}

#[test]
fn a_query_is_answered_in_its_time_with_the_groups_that_it_asks_for() {
    let both = format!("ff02::16, multicast listener report v2 2 {GLOBAL} 2 {LOCAL}");
    let one = format!("ff02::16, multicast listener report v2 2 {GLOBAL}");
    for (group, code, expected) in [
        (UNSPECIFIED, 1000, Some(&both)),
        (UNSPECIFIED, 0, Some(&both)),
        (GLOBAL, 1000, Some(&one)),
        ("ff02::1:ff00:9", 1000, None),
        ("ff02::1", 1000, None),
    ] {
        let mut bench = settled(config());
        let query = message(ALL_NODES, &query(group, code, 28));
        assert_eq!(bench.receive(ms(QUIET), &query), (None, None));
        let sent = sent(&mut bench, QUIET + 100_000);
        let whats: Vec<_> = sent.iter().map(|(_, what)| what).collect();
        assert_eq!(whats, expected.into_iter().collect::<Vec<_>>(), "{group}");
        for (at, _) in sent {
            assert!((QUIET..=QUIET + u64::from(code)).contains(&at), "{at}");
        }
    }
}

#[test]
fn a_query_for_sources_of_a_group_is_answered_for_the_group() {
    let mut bench = settled(config());
    let mut asked = query(GLOBAL, 1000, 28 + 16);
    asked[27] = 1;
    bench.receive(ms(QUIET), &message(ALL_NODES, &asked));
    assert_eq!(sent(&mut bench, QUIET + 100_000).len(), 1);
}

#[test]
fn a_query_that_is_not_as_the_rfc_says_is_ignored_with_the_reason() {
    let all = || query(UNSPECIFIED, 1000, 28);
    let with_sources = |group| {
        let mut query = query(group, 1000, 28);
        query[27] = 1;
        query
    };
    let mut cases: Vec<(Vec<u8>, &str)> = vec![
        (
            altered(ALL_NODES, &all(), |frame| frame[21] = 2),
            "bad hop limit",
        ),
        (
            altered(ALL_NODES, &all(), |frame| {
                frame[22..38].copy_from_slice(&ip("fd77::3").octets());
            }),
            "bad source",
        ),
        (
            altered(ALL_NODES, &all(), |frame| frame[22..38].fill(0)),
            "its source address can't be one host's",
        ),
        (
            message(ALL_NODES, &with_sources(UNSPECIFIED)),
            "bad sources",
        ),
        (
            message(ALL_NODES, &with_sources(GLOBAL)),
            "44 bytes needed, 28 present",
        ),
        (message(ALL_NODES, &query("fd77::2", 1000, 24)), "bad group"),
        (
            message(ALL_NODES, &query(UNSPECIFIED, 1000, 23)),
            "24 bytes needed, 23 present",
        ),
    ];
    for length in 25..28 {
        let frame = message(ALL_NODES, &query(UNSPECIFIED, 1000, length));
        cases.push((frame, "bad length"));
    }
    for options in [
        // No router alert, one for RSVP, and padding alone.
        None,
        Some([5, 2, 0, 1, 1, 0]),
        Some([1, 4, 0, 0, 0, 0]),
    ] {
        let mut frame = message(ALL_NODES, &all());
        match options {
            Some(options) => frame[56..62].copy_from_slice(&options),
            None => {
                frame[20] = 58;
                frame[19] -= 8;
                frame.drain(54..62);
            }
        }
        cases.push((frame, "bad router alert"));
    }
    // A router alert of another length.
    let mut frame = message(ALL_NODES, &all());
    frame[56..62].copy_from_slice(&[5, 4, 0, 0, 0, 0]);
    cases.push((
        frame,
        "its extension headers are too many, or ask for what can't be done",
    ));
    for (frame, expected) in cases {
        let mut bench = settled(config());
        let (_, event) = bench.receive(ms(QUIET), &frame);
        let told = ignored(event).to_string();
        assert!(told.contains(expected), "{expected}: {told}");
        assert_eq!(sent(&mut bench, QUIET + 100_000), [], "{expected}");
    }
}

#[test]
fn a_router_of_version_1_is_answered_in_version_1_while_it_is_there() {
    let mut bench = settled(config());
    let told = |group: &str| format!("{group}, multicast listener report for {group}");
    let answer = |bench: &mut Bench, at: u64, length: usize, code: u16| {
        let query = message(ALL_NODES, &query(UNSPECIFIED, code, length));
        assert_eq!(bench.receive(ms(at), &query), (None, None));
        let mut sent = sent(bench, at + 100_000);
        for (sent_at, _) in &sent {
            assert!((at..=at + 33_000).contains(sent_at), "{at}: {sent:?}");
        }
        sent.sort_by(|(_, one), (_, other)| one.cmp(other));
        sent.into_iter().map(|(_, what)| what).collect::<Vec<_>>()
    };
    let older = [told(GLOBAL), told(LOCAL)];
    assert_eq!(answer(&mut bench, QUIET, 24, 1_000), older);
    // Queries of version 2 change nothing about it, and their code is no floating-point number.
    assert_eq!(answer(&mut bench, QUIET + 200_000, 28, 0xffff), older);
    let newer = [format!(
        "ff02::16, multicast listener report v2 2 {GLOBAL} 2 {LOCAL}"
    )];
    // Two queries, one every 125 s, and the 10 s for their answer.
    assert_eq!(answer(&mut bench, QUIET + 258_000, 28, 1_000), older);
    assert_eq!(answer(&mut bench, QUIET + 360_000, 28, 1_000), newer);
    assert_eq!(answer(&mut bench, QUIET + 500_000, 24, 0), older, "at once");
}

#[test]
fn the_robustness_and_interval_of_the_last_query_tell_how_long_a_router_of_version_1_is_there() {
    let mut bench = settled(config());
    let mut asked = query(GLOBAL, 1_000, 28);
    // Three times 20 s, and a second.
    (asked[24], asked[25]) = (3, 20);
    bench.receive(ms(QUIET), &message(ALL_NODES, &asked));
    let older = message(ALL_NODES, &query(GLOBAL, 10, 24));
    bench.receive(ms(QUIET + 2_000), &older);
    sent(&mut bench, QUIET + 2_100);
    for (after, expected) in [(60_900, "listener report for"), (61_000, "report v2")] {
        let at = QUIET + 2_000 + after;
        let newer = message(ALL_NODES, &query(GLOBAL, 10, 28));
        bench.receive(ms(at), &newer);
        let sent = sent(&mut bench, at + 50);
        assert!(sent[0].1.contains(expected), "{after} {sent:?}");
    }
}

#[test]
fn another_members_report_of_version_1_is_enough() {
    let ours = |bench: &mut Bench, at: u64| {
        let sent = sent(bench, at + 100_000);
        sent.into_iter().map(|(_, what)| what).collect::<Vec<_>>()
    };
    let told = |group: &str| format!("{group}, multicast listener report for {group}");
    let group = ip(GLOBAL);
    let mut alone = message(group, &report(GLOBAL));
    alone[..6].copy_from_slice(&MAC.0);
    for (frame, is_heard) in [
        (message(group, &report(GLOBAL)), true),
        (alone, false),
        (
            altered(group, &report(GLOBAL), |frame| frame[22..38].fill(0)),
            false,
        ),
        (
            altered(group, &report(GLOBAL), |frame| {
                frame[22..38].copy_from_slice(&ip("fd77::3").octets());
            }),
            false,
        ),
        (message(group, &report("ff02::1:ff00:9")), false),
    ] {
        let mut bench = settled(config());
        let query = message(ALL_NODES, &query(GLOBAL, 1_000, 24));
        bench.receive(ms(QUIET), &query);
        bench.receive(ms(QUIET), &frame);
        let expected = if is_heard { vec![] } else { vec![told(GLOBAL)] };
        assert_eq!(ours(&mut bench, QUIET), expected);
    }
    // In version 2, each host answers for itself.
    let mut bench = settled(config());
    bench.receive(ms(QUIET), &message(ALL_NODES, &query(GLOBAL, 1_000, 28)));
    let (_, event) = bench.receive(ms(QUIET), &message(group, &report(GLOBAL)));
    assert_eq!(ignored(event), Ignored::IcmpType(131));
    assert_eq!(ours(&mut bench, QUIET).len(), 1);
}

#[test]
fn a_group_that_is_left_is_reported_as_left() {
    // Two VMs with one address: one tries it, the other has it. Routers are of version 2.
    let mut bench = Bench::with(with(|ipv6| ipv6.probe = true));
    let mut before = Vec::new();
    while !before
        .iter()
        .any(|(_, what): &(u64, String)| what.contains(" 4 "))
    {
        let at = bench.vm.poll_at().unwrap().as_nanos() / 1_000_000;
        before.extend(sent(&mut bench, at));
    }
    let message = crate::wire::NeighbourAdvertisement {
        target: ip("fd77::2"),
        target_link: Some(PEER_MAC),
        router: false,
        solicited: false,
        overrides: true,
    };
    let mut frame = vec![0; 200];
    let envelope = crate::wire::Ipv6Envelope {
        source_mac: PEER_MAC,
        destination_mac: multicast_mac(ALL_NODES),
        source: ip("fd77::2"),
        destination: ALL_NODES,
        traffic_class: 0,
        hop_limit: 255,
    };
    let length = message.write(envelope, &mut frame).unwrap();
    bench.receive(ms(100), &frame[..length]);
    let after = sent(&mut bench, 100_000);
    let left = format!(" 3 {GLOBAL}");
    let count = after
        .iter()
        .filter(|(_, what)| what.contains(&left))
        .count();
    assert_eq!(count, 2, "{after:?}");
}
