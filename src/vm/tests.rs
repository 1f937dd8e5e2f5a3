//! One VM, frame by frame, in virtual time.

use std::time::Duration;

use super::neighbour::Claim;
use super::probe::payload::fill as fill_payload;
use super::*;
use crate::wire::{
    ARP_FRAME_LENGTH, ArpPacket, Describe, ECHO_FRAME_OVERHEAD, EchoRequest, Filled, Ipv4Envelope,
    Layer, turn_into_echo_reply,
};

mod arp;
mod arp_probe;
mod dhcp;
mod dhcpv6;
mod fragments;
mod icmp;
mod igmp;
mod ipv6;
mod many_flows;
mod mld;
mod model;
mod options;
mod path_mtu;
mod router_model;
mod routers;
mod routes;
mod stamp;
mod tcp;
mod tcp_listener;
mod tcp_probe;
mod udp_probe;
mod vlan;

const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);
const PEER_MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 3]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const TIMEOUT: Duration = Duration::from_millis(500);

const fn ms(n: u64) -> Instant {
    Instant::from_nanos(n * 1_000_000)
}

/// The headers of a datagram between two stations.
fn envelope(from: (MacAddr, Ipv4Addr), to: (MacAddr, Ipv4Addr)) -> Ipv4Envelope {
    Ipv4Envelope {
        source_mac: from.0,
        destination_mac: to.0,
        source: from.1,
        destination: to.1,
        time_to_live: 64,
        dscp: 0,
        dont_fragment: false,
        identification: 0,
    }
}

/// The Internet checksum of `bytes`, in which it is 0 itself.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

/// Makes the IPv4 header of `frame` sound again, whatever was changed in it.
fn seal(frame: &mut [u8]) {
    let end = 14 + 4 * usize::from(frame[14] & 0x0f);
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..end]);
    frame[24..26].copy_from_slice(&sum);
}

/// A VM under test, with the buffer that its frames are built in.
struct Bench {
    vm: Vm,
    session: SessionId,
    buffer: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(VmConfig::new(MAC, IP))
    }

    fn with(config: VmConfig) -> Bench {
        let mut vm = Vm::new(ms(0), config);
        vm.neighbours.set_reachable_time(BASE_REACHABLE_TIME);
        let config = SessionConfig {
            destination: PEER.into(),
            probe: Probe::ICMP_ECHO,
            payload_length: 16,
            timeout: TIMEOUT,
            options: PingOptions::default(),
        };
        let session = vm.open_session(config).unwrap();
        Bench {
            vm,
            session,
            buffer: vec![0; 66_000],
        }
    }

    /// A VM that knows its peer's address.
    fn resolved() -> Bench {
        let mut bench = Bench::new();
        bench.vm.find_neighbour(ms(0), bench.session);
        bench.receive(ms(0), &arp_reply());
        bench
    }

    fn describe(&self, length: usize) -> String {
        let text = Describe(&self.buffer[..length]).to_string();
        text.split_once(", ")
            .map_or(text.clone(), |(_, what)| what.to_owned())
    }

    /// Starts a ping and returns what is sent; the frame is stamped as sent at once.
    fn ping(&mut self, now: Instant) -> String {
        match self.vm.ping(now, self.session, now, &mut self.buffer) {
            PingStart::Transmit(transmit) => self.send(now, transmit),
            PingStart::Waiting => "waits".to_owned(),
            PingStart::Unresolved(..) => "unresolved".to_owned(),
            PingStart::Refused => "refused".to_owned(),
        }
    }

    fn send(&mut self, now: Instant, transmit: Transmit) -> String {
        if let Some(ping) = transmit.ping {
            self.vm.stamp_sent(ping, now);
        }
        self.describe(transmit.length)
    }

    fn receive(&mut self, now: Instant, frame: &[u8]) -> (Option<String>, Option<Event>) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        let reaction = self.vm.receive(now, &mut self.buffer, frame.len());
        (reaction.transmit.map(|t| self.send(now, t)), reaction.event)
    }

    fn poll(&mut self, now: Instant) -> Option<(Option<String>, Option<Event>)> {
        let reaction = self.vm.poll(now, &mut self.buffer)?;
        Some((reaction.transmit.map(|t| self.send(now, t)), reaction.event))
    }

    /// The reply to the echo request with that sequence number.
    fn reply_to(&self, sequence: u64) -> Vec<u8> {
        self.echo(true, self.session.0, sequence, PEER, |payload| {
            fill_payload(sequence, payload)
        })
    }

    fn echo<P: Filled>(
        &self,
        is_reply: bool,
        identifier: u32,
        sequence: u64,
        source: Ipv4Addr,
        fill: impl FnOnce(&mut [u8]) -> P,
    ) -> Vec<u8> {
        let (to, from) = if is_reply { (source, IP) } else { (IP, source) };
        let (to_mac, from_mac) = if is_reply {
            (PEER_MAC, MAC)
        } else {
            (MAC, PEER_MAC)
        };
        let mut frame = vec![0; ECHO_FRAME_OVERHEAD + 16];
        let request = EchoRequest {
            envelope: envelope((from_mac, from), (to_mac, to)),
            identifier: identifier as u16,
            sequence: sequence as u16,
        };
        request.write(16, fill, &mut frame).unwrap();
        if is_reply {
            turn_into_echo_reply(&mut frame, 20, PEER_MAC, 64, 1).unwrap();
        }
        frame
    }
}

fn arp(
    operation: u16,
    sender_mac: MacAddr,
    sender: Ipv4Addr,
    target: Ipv4Addr,
    destination: MacAddr,
) -> Vec<u8> {
    let mut frame = vec![0; ARP_FRAME_LENGTH];
    ArpPacket {
        operation,
        sender_mac,
        sender,
        target_mac: MacAddr::ZERO,
        target,
    }
    .write(destination, &mut frame)
    .unwrap();
    frame
}

fn arp_reply() -> Vec<u8> {
    arp(ArpPacket::REPLY, PEER_MAC, PEER, IP, MAC)
}

fn outcome(event: Option<Event>) -> Option<(u64, PingOutcome)> {
    match event {
        Some(Event::Ping(ping, outcome)) => Some((ping.sequence, outcome)),
        _ => None,
    }
}

fn ignored(event: Option<Event>) -> Ignored {
    match event {
        Some(Event::Ignored(ignored)) => ignored,
        other => panic!("not ignored: {other:?}"),
    }
}

#[test]
fn an_arp_request_for_its_address_is_answered_and_the_asker_is_remembered() {
    let mut bench = Bench::new();
    let request = arp(ArpPacket::REQUEST, PEER_MAC, PEER, IP, MacAddr::BROADCAST);
    let (reply, event) = bench.receive(ms(1), &request);
    assert_eq!(
        reply.as_deref(),
        Some("ARP reply 10.77.0.2 is-at 02:00:0a:4d:00:02")
    );
    assert_eq!(event, None);
    assert!(
        bench
            .ping(ms(2))
            .starts_with("IPv4 10.77.0.2 > 10.77.0.3, ICMP echo request")
    );
}

#[test]
fn a_probe_is_answered_but_not_remembered() {
    let mut bench = Bench::new();
    let probe = arp(
        ArpPacket::REQUEST,
        PEER_MAC,
        Ipv4Addr::UNSPECIFIED,
        IP,
        MacAddr::BROADCAST,
    );
    assert_eq!(
        bench.receive(ms(1), &probe),
        (
            Some("ARP reply 10.77.0.2 is-at 02:00:0a:4d:00:02".to_owned()),
            None
        )
    );
    assert_eq!(
        bench.ping(ms(2)),
        "ARP request who-has 10.77.0.3 tell 10.77.0.2"
    );
}

#[test]
fn a_ping_waits_for_its_neighbour_and_goes_out_when_the_reply_comes() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.ping(ms(0)),
        "ARP request who-has 10.77.0.3 tell 10.77.0.2"
    );
    assert_eq!(bench.ping(ms(10)), "waits");
    let (sent, event) = bench.receive(ms(12), &arp_reply());
    assert!(sent.is_some_and(|s| s.contains("echo request id 0 seq 0")));
    let elapsed = Duration::from_millis(12);
    assert_eq!(
        event,
        Some(Event::Resolved {
            address: PEER.into(),
            mac: PEER_MAC,
            elapsed
        })
    );
    assert_eq!(bench.vm.poll_at(), Some(Instant::ZERO));
    let (sent, _) = bench.poll(ms(12)).unwrap();
    assert!(sent.is_some_and(|s| s.contains("echo request id 0 seq 1")));
    let reply = bench.reply_to(1);
    let (_, event) = bench.receive(ms(13), &reply);
    let answered = PingOutcome::Answered {
        due: ms(10),
        sent: ms(12),
        received: ms(13),
    };
    assert_eq!(outcome(event), Some((1, answered)));
}

#[test]
fn a_lost_arp_reply_is_asked_for_again_and_the_pings_are_given_up_after_the_third_request() {
    let mut bench = Bench::new();
    bench.ping(ms(0));
    bench.ping(ms(500));
    for (at, request) in [(1_000, true), (2_000, true)] {
        assert_eq!(bench.vm.poll_at(), Some(ms(at)));
        assert_eq!(bench.poll(ms(at - 1)), None);
        let (sent, event) = bench.poll(ms(at)).unwrap();
        assert_eq!(
            (sent.is_some_and(|s| s.contains("who-has")), event),
            (request, None)
        );
        assert_eq!(bench.poll(ms(at)), None);
    }
    let first = bench.poll(ms(3_000)).unwrap();
    let second = bench.poll(ms(3_000)).unwrap();
    assert_eq!(
        (first.0, outcome(first.1)),
        (None, Some((0, PingOutcome::Unresolved { due: ms(0) })))
    );
    assert_eq!(
        (second.0, outcome(second.1)),
        (None, Some((1, PingOutcome::Unresolved { due: ms(500) })))
    );
    assert_eq!((bench.poll(ms(3_000)), bench.vm.poll_at()), (None, None));
    assert_eq!(
        bench.ping(ms(4_000)),
        "ARP request who-has 10.77.0.3 tell 10.77.0.2",
        "and it starts over"
    );
}

#[test]
fn a_ping_whose_way_is_gone_when_its_turn_comes_is_given_up_at_once() {
    let mut bench = Bench::new();
    bench.ping(ms(0));
    // Its neighbour has answered, and was forgotten before the ping could be sent.
    bench.vm.resolved.push_back(PingId {
        session: bench.session,
        sequence: 0,
    });
    assert_eq!(bench.vm.poll_at(), Some(Instant::ZERO));
    let (sent, event) = bench.poll(ms(1)).expect("there is something to do");
    let unresolved = PingOutcome::Unresolved { due: ms(0) };
    assert_eq!((sent, outcome(event)), (None, Some((0, unresolved))));
    assert!(bench.vm.poll_at() > Some(ms(1)));
}

#[test]
fn pings_beyond_the_bound_of_a_neighbours_queue_are_turned_away() {
    let mut bench = Bench::new();
    bench.ping(ms(0));
    for _ in 1..MAX_WAITING {
        assert_eq!(bench.ping(ms(0)), "waits");
    }
    assert_eq!(bench.ping(ms(0)), "unresolved");
}

#[test]
fn a_lost_reply_is_given_up_at_its_deadline_and_a_late_one_is_told_from_a_duplicate() {
    let mut bench = Bench::resolved();
    bench.ping(ms(0));
    bench.ping(ms(10));
    let reply = bench.reply_to(1);
    assert!(matches!(
        outcome(bench.receive(ms(11), &reply).1),
        Some((1, PingOutcome::Answered { .. }))
    ));
    assert_eq!(
        outcome(bench.receive(ms(12), &reply).1),
        Some((1, PingOutcome::Duplicate))
    );
    assert_eq!(bench.vm.expires_at(bench.session), Some(ms(500)));
    assert_eq!(bench.vm.expire(ms(499), bench.session), None);
    let lost = bench.vm.expire(ms(500), bench.session);
    assert_eq!(outcome(lost), Some((0, PingOutcome::Lost { due: ms(0) })));
    assert_eq!(
        (
            bench.vm.expire(ms(900), bench.session),
            bench.vm.expires_at(bench.session)
        ),
        (None, None)
    );
    let late = bench.reply_to(0);
    assert_eq!(
        outcome(bench.receive(ms(600), &late).1),
        Some((0, PingOutcome::Late { lost: None }))
    );
    assert_eq!(
        outcome(bench.receive(ms(601), &reply).1),
        Some((1, PingOutcome::Duplicate))
    );
}

#[test]
fn replies_that_belong_to_no_ping_are_ignored() {
    let mut bench = Bench::resolved();
    bench.ping(ms(0));
    let fill = |payload: &mut [u8]| fill_payload(0, payload);
    let stranger = Ipv4Addr::new(10, 77, 0, 9);
    for (name, frame) in [
        ("wrong id", bench.echo(true, 7, 0, PEER, fill)),
        ("wrong source", bench.echo(true, 0, 0, stranger, fill)),
        ("sequence of the future", bench.echo(true, 0, 1, PEER, fill)),
    ] {
        assert_eq!(
            ignored(bench.receive(ms(1), &frame).1),
            Ignored::UnexpectedEchoReply,
            "{name}"
        );
    }
    let waiting = &mut Bench::new();
    waiting.ping(ms(0));
    let early = waiting.reply_to(0);
    let event = waiting.receive(ms(1), &early).1;
    assert_eq!(
        ignored(event),
        Ignored::UnexpectedEchoReply,
        "a reply to what was not sent"
    );
}

#[test]
fn a_reply_with_another_payload_is_corrupt_and_ends_the_ping() {
    let mut bench = Bench::resolved();
    bench.ping(ms(0));
    let frame = bench.echo(true, 0, 0, PEER, |payload| payload.fill(0xee));
    assert_eq!(
        outcome(bench.receive(ms(1), &frame).1),
        Some((0, PingOutcome::Corrupt { due: ms(0) }))
    );
    assert_eq!(bench.vm.expires_at(bench.session), None);
}

#[test]
fn ten_thousand_pings_are_told_apart_across_the_wrap_of_the_sequence_number() {
    let mut bench = Bench::resolved();
    let start = (1 << 16) - 5_000;
    for sequence in 0..start + 10_000 {
        bench.ping(ms(sequence));
        if sequence % 10 == 3 && sequence > start {
            continue; // this one is lost
        }
        let reply = bench.reply_to(sequence);
        let event = bench.receive(ms(sequence), &reply).1;
        assert!(
            matches!(outcome(event), Some((s, PingOutcome::Answered { .. })) if s == sequence),
            "{sequence}: {event:?}"
        );
        let twice = bench.receive(ms(sequence), &reply).1;
        assert_eq!(outcome(twice), Some((sequence, PingOutcome::Duplicate)));
        while let Some(event) = bench.vm.expire(ms(sequence), bench.session) {
            assert!(
                matches!(outcome(Some(event)), Some((s, PingOutcome::Lost { .. })) if s % 10 == 3 && s + 500 <= sequence)
            );
        }
    }
}

#[test]
fn no_more_than_the_bound_are_on_their_way_at_once() {
    let mut bench = Bench::resolved();
    for _ in 0..MAX_OUTSTANDING {
        assert_ne!(bench.ping(ms(0)), "refused");
    }
    assert_eq!(bench.ping(ms(0)), "refused");
    let oldest = bench.reply_to(0);
    bench.receive(ms(1), &oldest);
    assert_ne!(bench.ping(ms(1)), "refused");
}

#[test]
fn an_echo_request_is_answered_to_whom_it_came_from() {
    let mut bench = Bench::new();
    let request = bench.echo(false, 77, 5, PEER, |payload| payload.fill(0xab));
    let (reply, event) = bench.receive(ms(0), &request);
    assert_eq!(
        reply.as_deref(),
        Some("IPv4 10.77.0.2 > 10.77.0.3, ICMP echo reply id 77 seq 5 (16 bytes)")
    );
    assert_eq!(event, None);
}

#[test]
fn answers_and_requests_share_one_row_of_identifications() {
    // Else fragments of both could be put together.
    let mut bench = Bench::resolved();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request = bench.echo(false, 77, 5, PEER, |payload| payload.fill(0xab));
        bench.receive(ms(0), &request);
        seen.push([bench.buffer[18], bench.buffer[19]]);
        bench.ping(ms(0));
        seen.push([bench.buffer[18], bench.buffer[19]]);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn what_a_vm_does_not_act_on_is_counted_by_kind() {
    let mut bench = Bench::new();
    let fill = |payload: &mut [u8]| payload.fill(0);
    let request = bench.echo(false, 1, 1, PEER, fill);
    let change = |change: fn(&mut Vec<u8>)| {
        let mut frame = request.clone();
        change(&mut frame);
        seal(&mut frame);
        frame
    };
    let other = Ipv4Addr::new(10, 77, 0, 9);
    let cases = [
        (change(|f| f[5] = 9), Ignored::OtherStation),
        (change(|f| f[12] = 0x86), Ignored::EtherType(0x8600)),
        (change(|f| f[33] = 9), Ignored::OtherAddress),
        (change(|f| f[26..30].fill(255)), Ignored::BadSource),
        (change(|f| f[26] = 224), Ignored::BadSource),
        (
            arp(
                ArpPacket::REQUEST,
                PEER_MAC,
                PEER,
                other,
                MacAddr::BROADCAST,
            ),
            Ignored::OtherTarget,
        ),
        (
            arp(3, PEER_MAC, PEER, IP, MacAddr::BROADCAST),
            Ignored::ArpOperation,
        ),
        (
            arp(ArpPacket::REQUEST, MacAddr::BROADCAST, PEER, IP, MAC),
            Ignored::ArpSender,
        ),
        (
            arp(ArpPacket::REQUEST, MAC, PEER, IP, MAC),
            Ignored::ArpSender,
        ),
        (
            arp(ArpPacket::REPLY, PEER_MAC, Ipv4Addr::BROADCAST, IP, MAC),
            Ignored::ArpSender,
        ),
        (arp_reply(), Ignored::UnexpectedArpReply),
    ];
    for (frame, expected) in cases {
        let (sent, event) = bench.receive(ms(0), &frame);
        assert_eq!(
            (sent, ignored(event)),
            (None, expected),
            "{}",
            Describe(&frame)
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_frame_at_any_time_does_not_panic_and_yields_no_longer_frame_than_it_was_or_an_arp_reply(
        frames in proptest::collection::vec(
            (proptest::collection::vec(proptest::num::u8::ANY, 0..120), 0u64..5_000), 1..20)
    ) {
        let mut bench = Bench::new();
        let mut now = 0;
        for (mut bytes, later) in frames {
            now += later;
            // Half of the frames are addressed to the VM and claim a protocol that it speaks.
            if later % 2 == 0 && bytes.len() > 14 {
                bytes[..6].copy_from_slice(&MAC.0);
                bytes[12..14].copy_from_slice(if later % 4 == 0 { &[8, 0] } else { &[8, 6] });
            }
            bench.buffer[..bytes.len()].copy_from_slice(&bytes);
            let reaction = bench.vm.receive(ms(now), &mut bench.buffer, bytes.len());
            if let Some(transmit) = reaction.transmit {
                proptest::prop_assert!(transmit.length <= bytes.len().max(ARP_FRAME_LENGTH));
            }
            bench.ping(ms(now));
            while bench.poll(ms(now)).is_some() {}
            while bench.vm.expire(ms(now), bench.session).is_some() {}
        }
    }
}

#[test]
fn a_reply_after_the_timeout_is_late_even_if_it_is_looked_at_before_the_deadline_is() {
    for (at, outcome_expected) in [
        (500, "Answered"),
        (501, "Late { lost: Some(Instant(0)) }"),
        (9_000, "Late { lost: Some(Instant(0)) }"),
    ] {
        let mut bench = Bench::resolved();
        bench.ping(ms(0));
        let reply = bench.reply_to(0);
        let (_, got) = outcome(bench.receive(ms(at), &reply).1).unwrap();
        assert!(
            format!("{got:?}").starts_with(outcome_expected),
            "{at}: {got:?}"
        );
        assert!(got.is_final(), "{at}");
        assert_eq!(bench.vm.expires_at(bench.session), None, "{at}");
        assert_eq!(bench.vm.expire(ms(10_000), bench.session), None, "{at}");
    }
}

#[test]
fn the_time_that_a_neighbour_takes_to_answer_is_not_the_tools() {
    let mut bench = Bench::new();
    let ping = |bench: &mut Bench, due, now| {
        let start = bench.vm.ping(now, bench.session, due, &mut bench.buffer);
        assert!(!matches!(
            start,
            PingStart::Unresolved(..) | PingStart::Refused
        ));
    };
    // Due at 0 and 1 ms, handed over 1 ms late each; the neighbour answers at 20 ms, and both are sent at 23 ms.
    ping(&mut bench, ms(0), ms(1));
    ping(&mut bench, ms(1), ms(2));
    let found = Claim::of_sender(PEER_MAC);
    bench.vm.hear_of(ms(20), PEER.into(), found);
    for (sequence, due, ready) in [(0, ms(0), ms(19)), (1, ms(1), ms(19))] {
        let id = PingId {
            session: bench.session,
            sequence,
        };
        assert_eq!(bench.vm.stamp_sent(id, ms(23)), Some((due, ready)));
        assert_eq!(bench.vm.stamp_sent(id, ms(24)), None);
    }
    // One whose neighbour is known waits for nobody.
    ping(&mut bench, ms(30), ms(31));
    let id = PingId {
        session: bench.session,
        sequence: 2,
    };
    assert_eq!(bench.vm.stamp_sent(id, ms(32)), Some((ms(30), ms(30))));
}

#[test]
fn pings_that_are_given_up_end_as_what_they_were_and_send_nothing_any_more() {
    let give_up = |bench: &mut Bench, which| -> Vec<String> {
        let ended = bench.vm.give_up(which).into_iter();
        ended
            .map(|(id, outcome)| format!("{} {outcome:?}", id.sequence))
            .collect()
    };
    let mut bench = Bench::new();
    bench.ping(ms(0));
    bench.ping(ms(1));
    assert_eq!(
        give_up(&mut bench, GiveUp::Unsent),
        [
            "0 Unresolved { due: Instant(0) }",
            "1 Unresolved { due: Instant(1000000) }"
        ]
    );
    // The neighbour answers all the same.
    let found = Claim::of_sender(PEER_MAC);
    bench.vm.hear_of(ms(2), PEER.into(), found);
    assert_eq!(bench.vm.next_resolved(ms(2), &mut bench.buffer), None);
    bench.ping(ms(3));
    bench.ping(ms(4));
    let reply = bench.reply_to(3);
    bench.receive(ms(5), &reply);
    assert_eq!(give_up(&mut bench, GiveUp::Unsent), Vec::<String>::new());
    assert_eq!(
        give_up(&mut bench, GiveUp::All),
        ["2 Lost { due: Instant(3000000) }"]
    );
    assert_eq!(give_up(&mut bench, GiveUp::All), Vec::<String>::new());
    let late = bench.reply_to(2);
    assert_eq!(
        outcome(bench.receive(ms(6), &late).1),
        Some((2, PingOutcome::Late { lost: None }))
    );
}
