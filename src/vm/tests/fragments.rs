//! Datagrams larger than the link carries, both ways.

use super::*;
use crate::wire::{ETHERNET_HEADER_LENGTH, EthernetFrame, IcmpMessage, Payload, write_fragment};

/// The largest payload of a ping.
const LARGEST: usize = 65_507;

/// A VM that pings with so many bytes, and knows its peer.
fn with_payload(payload_length: usize) -> Bench {
    let mut bench = Bench::resolved();
    let config = SessionConfig {
        destination: PEER.into(),
        probe: Probe::ICMP_ECHO,
        payload_length,
        timeout: TIMEOUT,
        options: PingOptions::default(),
    };
    bench.session = bench.vm.open_session(config).unwrap();
    bench
}

/// The fragments of at most `mtu` bytes of the datagram in `frame`.
fn cut(frame: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let mut fragments = Vec::new();
    let mut next = Some(0);
    while let Some(offset) = next {
        let mut buffer = vec![0; mtu + ETHERNET_HEADER_LENGTH];
        let (length, following) = write_fragment(frame, offset, mtu, &mut buffer).unwrap();
        buffer.truncate(length);
        fragments.push(buffer);
        next = following;
    }
    fragments
}

fn request(payload: usize, mtu: usize) -> Vec<Vec<u8>> {
    let mut frame = vec![0; ECHO_FRAME_OVERHEAD + payload];
    let request = EchoRequest {
        envelope: Ipv4Envelope {
            identification: 99,
            ..envelope((PEER_MAC, PEER), (MAC, IP))
        },
        identifier: 5,
        sequence: 6,
    };
    request
        .write(payload, |p| p.fill(0xab), &mut frame)
        .unwrap();
    cut(&frame, mtu)
}

/// Hands what `bench` has sent and is about to send to another VM. Returns how many frames that took and what the other
/// sends in return.
fn hand_over(bench: &mut Bench, first: Option<usize>, other: &mut Vm) -> (usize, Vec<Vec<u8>>) {
    let mut frames = Vec::new();
    let mut length = first;
    while let Some(sent) = length {
        assert!(sent <= ETHERNET_HEADER_LENGTH + 1500);
        frames.push(bench.buffer[..sent].to_vec());
        let reaction = bench.vm.poll(ms(0), &mut bench.buffer);
        length = reaction.and_then(|r| r.transmit).map(|t| t.length);
    }
    let mut answers = Vec::new();
    let mut buffer = vec![0; 66_000];
    for frame in &frames {
        buffer[..frame.len()].copy_from_slice(frame);
        let reaction = other.receive(ms(0), &mut buffer, frame.len());
        let mut answer = reaction.transmit;
        while let Some(transmit) = answer {
            answers.push(buffer[..transmit.length].to_vec());
            answer = other.poll(ms(0), &mut buffer).and_then(|r| r.transmit);
        }
    }
    (frames.len(), answers)
}

#[test]
fn a_fragment_that_joins_others_changes_nothing_that_is_to_be_asked_about() {
    let mut bench = Bench::resolved();
    for round in 0..2 {
        let fragments = request(LARGEST, 1500);
        let mut unchanged = 0;
        for fragment in &fragments {
            bench.vm.take_dirty();
            let asked = |vm: &Vm| (vm.poll_at(), vm.fragment_bytes(), vm.is_configuring());
            let before = asked(&bench.vm);
            let (answer, _) = bench.receive(ms(round), fragment);
            if !bench.vm.take_dirty() {
                assert_eq!((asked(&bench.vm), answer), (before, None));
                unchanged += 1;
            }
        }
        while bench.vm.poll(ms(round), &mut bench.buffer).is_some() {}
        // Memory grows a few times with the first datagram; that is kept for the next. The first fragment sets a
        // deadline, and the last is answered.
        let at_least = if round == 0 { 30 } else { fragments.len() - 2 };
        assert!(unchanged >= at_least, "{unchanged} of {}", fragments.len());
    }
}

#[test]
fn the_largest_ping_goes_to_another_vm_and_back_in_fragments() {
    for (payload, fragments) in [
        (1_472, 1),
        (1_473, 2),
        (2_952, 2),
        (2_953, 3),
        (LARGEST, 45),
    ] {
        let mut bench = with_payload(payload);
        let mut peer = Vm::new(ms(0), VmConfig::new(PEER_MAC, PEER));
        let started = bench
            .vm
            .ping(ms(0), bench.session, ms(0), &mut bench.buffer);
        let PingStart::Transmit(transmit) = started else {
            panic!("{started:?}")
        };
        let ping = transmit.ping.expect("the first fragment carries the stamp");
        bench.vm.stamp_sent(ping, ms(0));
        let (sent, answers) = hand_over(&mut bench, Some(transmit.length), &mut peer);
        assert_eq!(
            (sent, answers.len()),
            (fragments, fragments),
            "{payload} bytes"
        );
        let mut last = None;
        for answer in &answers {
            assert_eq!(last, None, "{payload} bytes");
            last = bench.receive(ms(3), answer).1;
        }
        let answered = PingOutcome::Answered {
            due: ms(0),
            sent: ms(0),
            received: ms(3),
        };
        assert_eq!(outcome(last), Some((0, answered)), "{payload} bytes");
    }
}

#[test]
fn a_request_in_tiny_fragments_in_any_order_is_answered_as_a_whole() {
    let mut fragments = request(1_000, 28);
    assert_eq!(fragments.len(), 126);
    fastrand::Rng::with_seed(3).shuffle(&mut fragments);
    let mut bench = Bench::new();
    let last = fragments.pop().unwrap();
    for fragment in &fragments {
        assert_eq!(bench.receive(ms(0), fragment), (None, None));
    }
    let (reply, _) = bench.receive(ms(0), &last);
    let expected = "IPv4 10.77.0.2 > 10.77.0.3, ICMP echo reply id 5 seq 6 (1000 bytes)";
    assert_eq!(reply.as_deref(), Some(expected));
}

#[test]
fn overlapping_fragments_are_dropped_and_counted() {
    let mut bench = Bench::new();
    let mut fragments = request(1_000, 500);
    let last = fragments.pop().unwrap();
    for fragment in &fragments {
        bench.receive(ms(0), fragment);
    }
    let inside = request(1_000, 300).swap_remove(1);
    assert_eq!(bench.receive(ms(0), &inside), (None, None), "a repetition");
    let mut shifted = fragments[1].clone();
    shifted[21] += 10; // 80 bytes further on
    seal(&mut shifted);
    let (_, event) = bench.receive(ms(0), &shifted);
    assert_eq!(ignored(event), Ignored::FragmentOverlap);
    assert_eq!(
        bench.receive(ms(0), &last),
        (None, None),
        "it begins a new one"
    );
}

#[test]
fn the_sender_of_a_datagram_that_is_not_complete_in_time_is_told_if_the_first_fragment_has_come() {
    for (kept, is_told) in [(0, true), (1, false)] {
        let mut bench = Bench::new();
        let fragment = &request(2_000, 1_500)[kept];
        assert_eq!(bench.receive(ms(5), fragment), (None, None));
        assert_eq!(bench.vm.poll_at(), Some(ms(30_005)));
        assert_eq!(bench.poll(ms(30_004)), None);
        let (sent, event) = bench.poll(ms(30_005)).unwrap();
        assert_eq!(ignored(event), Ignored::ReassemblyTimeout);
        let expected = "IPv4 10.77.0.2 > 10.77.0.3, ICMP type 11 code 1 about echo request id 5 seq 6 to 10.77.0.2";
        assert_eq!(sent.as_deref(), is_told.then_some(expected));
        assert_eq!((bench.poll(ms(99_999)), bench.vm.poll_at()), (None, None));
    }
}

#[test]
fn what_is_on_its_way_out_in_fragments_is_bounded() {
    let mut bench = with_payload(LARGEST);
    let mut pings = 0;
    while bench.ping(ms(0)) != "unresolved" {
        pings += 1; // and one more fragment is on its way
        assert!(pings <= MAX_OUTGOING + MAX_OUTGOING / 45 + 1);
    }
    let mut request = request(4_000, 1_500);
    let asked = PingHead::parse(&request[0]);
    bench.vm.keep_ignored_probes();
    let last = request.pop().unwrap();
    for fragment in &request {
        bench.receive(ms(0), fragment);
    }
    let (sent, event) = bench.receive(ms(0), &last);
    assert_eq!((sent, ignored(event)), (None, Ignored::FragmentQueueFull));
    assert_eq!(bench.vm.take_ignored_probe(), asked, "not the reply");
    assert!(bench.vm.fragment_bytes() < 2 * MAX_OUTGOING * 65_536);
    let mut frames = 0;
    while let Some((sent, _)) = bench.poll(ms(0)) {
        frames += usize::from(sent.is_some());
    }
    assert_eq!(frames, pings * 45 - pings);
}

#[test]
fn options_that_are_not_for_every_fragment_are_blanked_in_the_later_ones() {
    // Record route (not copied) and router alert (copied), RFC 791 and RFC 2113.
    let options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0];
    let mut frame = vec![0; ECHO_FRAME_OVERHEAD + 3_000];
    let request = EchoRequest {
        envelope: envelope((PEER_MAC, PEER), (MAC, IP)),
        identifier: 1,
        sequence: 1,
    };
    request.write(3_000, |p| p.fill(1), &mut frame).unwrap();
    frame.splice(34..34, options);
    frame[14] = 0x48;
    let fragments = cut(&frame, 1_500);
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragments[0][34..46], options);
    assert_eq!(fragments[1][34..46], [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0]);
    let mut bench = Bench::new();
    for fragment in &fragments[..2] {
        assert_eq!(bench.receive(ms(0), fragment), (None, None));
    }
    let (reply, _) = bench.receive(ms(0), &fragments[2]);
    assert!(reply.is_some_and(|reply| reply.contains("fragment of")));
    let frame = EthernetFrame::parse(&bench.buffer[..1_514]).unwrap();
    let Ok(Payload::Ipv4(packet)) = frame.payload() else {
        panic!("not IPv4")
    };
    let route = [7, 7, 8, 10, 77, 0, 2, 0];
    assert_eq!(packet.options, route, "the reply has the route too");
    assert!(
        IcmpMessage::parse(&packet).is_err(),
        "a piece has no checksum of its own"
    );
}

#[test]
fn the_echo_in_a_fragment_for_which_an_older_one_makes_room_is_not_the_one_that_is_lost() {
    let mut bench = with_payload(56);
    bench.vm.keep_ignored_probes();
    let first = request(2_000, 1_500).swap_remove(0);
    let mut made_room = 0;
    for number in 0..=MAX_REASSEMBLIES as u16 {
        let mut fragment = first.clone();
        let header = &mut fragment[ETHERNET_HEADER_LENGTH..ETHERNET_HEADER_LENGTH + 20];
        header[4..6].copy_from_slice(&number.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum);
        let (_, event) = bench.receive(ms(0), &fragment);
        if let Some(Event::Ignored(ignored)) = event {
            assert_eq!(ignored, Ignored::ReassemblyFull, "{number}");
            made_room += 1;
        }
        assert_eq!(bench.vm.take_ignored_probe(), None, "{number}");
    }
    assert_eq!(made_room, 1);
}
