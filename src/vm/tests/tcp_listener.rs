//! A VM that accepts TCP connections. Segments are made, and answers read, by etherparse.

use std::collections::HashSet;

use super::tcp_probe::{Segment, frame, read};
use super::*;

const PORT: u16 = 8080;

fn bench() -> Bench {
    let config = VmConfig {
        tcp_listen: Some(PORT),
        ..ipv6::config()
    };
    Bench::with(config)
}

fn segment(flags: &str, sequence: u32, acknowledged: u32) -> Segment {
    Segment {
        ports: (40_000, PORT),
        flags: flags.to_owned(),
        sequence,
        acknowledged,
    }
}

#[test]
fn a_connection_is_accepted_and_closed_when_the_peer_closes_it_however_often_it_says_so() {
    for over_ipv6 in [false, true] {
        let mut bench = bench();
        let mut send = |flags: &str, sequence: u32, acknowledged, payload: &[u8]| {
            let frame = frame(over_ipv6, &segment(flags, sequence, acknowledged), payload);
            let (sent, event) = bench.take(ms(0), &frame);
            assert_eq!(event, None);
            sent
        };
        let first = u32::MAX;
        let accepted = send("S", first, 0, b"").unwrap();
        assert_eq!((&*accepted.flags, accepted.acknowledged), ("S.", 0));
        assert_eq!(send("S", first, 0, b"").as_ref(), Some(&accepted));
        let own = accepted.sequence;
        let answer = |flags: &str, behind: u32, acknowledged| {
            Some(Segment {
                ports: (PORT, 40_000),
                flags: flags.to_owned(),
                sequence: own.wrapping_add(behind),
                acknowledged,
            })
        };
        assert_eq!(send(".", 0, own.wrapping_add(1), b""), None);
        for _ in 0..2 {
            let fin = send("F.", 0, own.wrapping_add(1), b"");
            assert_eq!(fin, answer("F.", 1, 1));
        }
        assert_eq!(send(".", 1, own.wrapping_add(2), b""), None);
        assert_eq!(send("F.", 0, own.wrapping_add(2), b""), answer(".", 2, 1));
        assert_eq!(send("R.", 1, own.wrapping_add(2), b""), None);
        // A keep-alive, without data or with a byte that has come.
        for garbage in [&b""[..], b"x"] {
            let sent = send(".", first, own.wrapping_add(1), garbage);
            assert_eq!(sent, answer(".", 1, 0), "{garbage:?}");
        }
        assert_eq!(
            send(".", first, own.wrapping_add(1), b"xy"),
            answer("R", 1, 0)
        );
        // Data is none that a listener takes.
        assert_eq!(send(".", 0, own.wrapping_add(1), b"x"), answer("R", 1, 0));
        // Who acknowledges what he can't have got has no connection.
        assert_eq!(send(".", 0, own.wrapping_add(9), b""), answer("R", 9, 0));
        assert_eq!(send("R.", 0, own.wrapping_add(9), b""), None);
        assert_eq!(send("S.", 0, own.wrapping_add(1), b""), answer("R", 1, 0));
        for nobodys in ["SF", "SR", "F", "R", ""] {
            assert_eq!(send(nobodys, 0, 0, b""), None, "{nobodys}");
        }
        assert_eq!(bench.vm.requests_answered(), 2);
    }
}

#[test]
fn what_goes_to_another_port_or_to_many_is_answered_as_without_a_listener() {
    let mut bench = bench();
    let mut closed = segment("S", 5, 0);
    closed.ports.1 = PORT + 1;
    let (sent, event) = bench.take(ms(0), &frame(false, &closed, b""));
    assert_eq!(sent.map(|sent| sent.flags).as_deref(), Some("R."));
    assert_eq!(ignored(event), Ignored::ClosedPort(PORT + 1));
    let mut shared = frame(false, &segment("S", 5, 0), b"");
    shared[..6].copy_from_slice(&MacAddr::BROADCAST.0);
    assert_eq!(bench.take(ms(0), &shared).0, None);
}

#[test]
fn any_number_of_syns_takes_no_memory_and_each_connection_has_a_number_of_its_own() {
    let mut bench = bench();
    let before = format!("{:?}", bench.vm.probes);
    let mut numbers = HashSet::new();
    for port in 1..=60_000 {
        let mut syn = segment("S", 5, 0);
        syn.ports.0 = port;
        let (sent, _) = bench.take(ms(0), &frame(false, &syn, b""));
        numbers.insert(sent.unwrap().sequence);
    }
    assert!(numbers.len() > 59_990, "{}", numbers.len());
    assert_eq!(format!("{:?}", bench.vm.probes), before);
    // Another VM has others.
    let config = VmConfig {
        tcp_listen: Some(PORT),
        seed: 99,
        ..ipv6::config()
    };
    let mut other = Bench::with(config);
    let (sent, _) = other.take(ms(0), &frame(false, &segment("S", 5, 0), b""));
    let (own, _) = bench.take(ms(0), &frame(false, &segment("S", 5, 0), b""));
    assert_ne!(sent.unwrap().sequence, own.unwrap().sequence);
    let read_again = read(&frame(false, &segment("S", 5, 0), b""));
    assert_eq!(read_again.0, segment("S", 5, 0));
}
