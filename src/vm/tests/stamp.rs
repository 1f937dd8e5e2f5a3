//! STAMP: probes, and the reflector. Datagrams are read, and built, by etherparse.

use super::udp_probe::{answered, bench_of, datagram, read, sent};
use super::*;
use crate::wire::{ProbeHead, STAMP_LENGTH, STAMP_PORT, is_ephemeral};

/// 2000-01-01, at the start of time: NTP's 0xbc17c200.
const NEW_YEAR: u64 = 946_684_800_000_000_000;
const NEW_YEAR_NTP: [u8; 4] = [0xbc, 0x17, 0xc2, 0x00];
const SIZE: usize = 60;

fn config(stamp_reflector: Option<StampMode>) -> VmConfig {
    VmConfig {
        unix_nanos: NEW_YEAR,
        stamp_reflector,
        ..ipv6::config()
    }
}

/// A VM that pings its peer by STAMP, and knows it.
fn sender(over_ipv6: bool) -> Bench {
    bench_of(config(None), Probe::of(ProbeKind::Stamp), SIZE, over_ipv6)
}

/// What a reflector makes of a test packet; those of TWAMP Light know no session.
fn reflected(request: &[u8], is_twamp_light: bool) -> Vec<u8> {
    let mut reply = request.to_vec();
    reply[4..12].copy_from_slice(&[0xbc, 0x17, 0xc2, 1, 0, 0, 0, 0]);
    reply[16..24].copy_from_slice(&[0xbc, 0x17, 0xc2, 0, 9, 0, 0, 0]);
    reply[24..38].copy_from_slice(&request[..14]);
    reply[40] = 64;
    if is_twamp_light {
        reply[..4].copy_from_slice(&[0, 0, 0, 77]);
        reply[14..16].fill(0);
        reply.truncate(41);
    }
    reply
}

/// The answer of a reflector to a datagram from that port, and the time to live it was sent with.
fn reflect(bench: &mut Bench, over_ipv6: bool, from: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let mut frame = datagram(over_ipv6, (from, STAMP_PORT), payload);
    let at = if over_ipv6 { 21 } else { 22 };
    frame[at] = 61;
    if !over_ipv6 {
        seal(&mut frame);
    }
    bench.buffer[..frame.len()].copy_from_slice(&frame);
    let reaction = bench.vm.receive(ms(250), &mut bench.buffer, frame.len());
    let length = reaction.transmit?.length;
    let (source, destination, payload) = read(&bench.buffer[..length]);
    assert_eq!((source, destination), (STAMP_PORT, from));
    Some(payload)
}

#[test]
fn a_test_packet_has_number_time_and_session_and_padding_that_is_told() {
    for over_ipv6 in [false, true] {
        let mut bench = sender(over_ipv6);
        sent(&mut bench, ms(0));
        let (from, to, payload) = read(&sent(&mut bench, ms(1_500)));
        assert!(is_ephemeral(from));
        assert_eq!((to, payload.len()), (STAMP_PORT, SIZE));
        assert_eq!(payload[..4], [0, 0, 0, 1]);
        assert_eq!(payload[4..12], [0xbc, 0x17, 0xc2, 1, 0x80, 0, 0, 0]);
        let session = u16::from_be_bytes([payload[14], payload[15]]);
        assert_eq!(u32::from(session), bench.session.0 + 1);
        assert_eq!(payload[16..STAMP_LENGTH], [0; 28]);
        assert_eq!(payload[STAMP_LENGTH..][..4], [0x80, 1, 0, 12]);
    }
}

#[test]
fn reflected_packets_answer_pings_of_reflectors_that_know_sessions_and_of_others() {
    for (over_ipv6, is_twamp_light) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let mut bench = sender(over_ipv6);
        let first = read(&sent(&mut bench, ms(0)));
        let second = read(&sent(&mut bench, ms(1)));
        for (sequence, (from, to, payload)) in [(1, second), (0, first)] {
            let reply = reflected(&payload, is_twamp_light);
            let reply = datagram(over_ipv6, (to, from), &reply);
            let (_, event) = bench.receive(ms(5), &reply);
            let expected = PingOutcome::Answered {
                due: ms(sequence),
                sent: ms(sequence),
                received: ms(5),
            };
            assert_eq!(answered(event), (sequence, expected));
            let (_, event) = bench.receive(ms(6), &reply);
            assert_eq!(answered(event), (sequence, PingOutcome::Duplicate));
        }
    }
}

#[test]
fn what_does_not_bring_back_what_was_sent_is_corrupt() {
    for damage in [24, 36] {
        let mut bench = sender(false);
        let (from, to, payload) = read(&sent(&mut bench, ms(0)));
        let mut reply = reflected(&payload, false);
        // The number's upper half: the lower one says which ping it is.
        reply[damage] ^= 1;
        let (_, event) = bench.receive(ms(1), &datagram(false, (to, from), &reply));
        let corrupt = PingOutcome::Corrupt { due: ms(0) };
        assert_eq!(answered(event), (0, corrupt), "byte {damage}");
    }
}

#[test]
fn a_frame_tells_session_and_number_however_little_of_it_is_kept() {
    for over_ipv6 in [false, true] {
        let mut bench = sender(over_ipv6);
        sent(&mut bench, ms(0));
        let request = sent(&mut bench, ms(1));
        let head = ProbeHead::parse(&request).unwrap();
        assert_eq!(
            (head.is_request, head.identifier, head.sequence),
            (true, bench.session.0, 1)
        );
        let (from, to, payload) = read(&request);
        let reply = datagram(over_ipv6, (to, from), &reflected(&payload, false));
        // What the kernel tells of a frame that it drops.
        for frame in [&reply[..], &reply[..96]] {
            assert_eq!(ProbeHead::parse(frame), Some(head.turned()));
        }
        assert_eq!(ProbeHead::parse(&request[..96]), Some(head));
        let reply = datagram(over_ipv6, (to, from), &reflected(&payload, true));
        assert_eq!(ProbeHead::parse(&reply), None, "no session");
    }
}

#[test]
fn a_reflector_sends_back_what_came_with_its_times_and_the_time_to_live() {
    for (over_ipv6, mode) in [
        (false, StampMode::Stateless),
        (false, StampMode::Stateful),
        (true, StampMode::Stateless),
        (true, StampMode::Stateful),
    ] {
        let mut bench = Bench::with(config(Some(mode)));
        let mut request = [0x77; 100];
        for (turn, sequence) in [7_u32, 9, 8].into_iter().enumerate() {
            request[..4].copy_from_slice(&sequence.to_be_bytes());
            let reply = reflect(&mut bench, over_ipv6, 40_000, &request).unwrap();
            assert_eq!(reply.len(), request.len());
            let own = match mode {
                StampMode::Stateless => sequence,
                StampMode::Stateful => turn as u32,
            };
            assert_eq!(reply[..4], own.to_be_bytes());
            for at in [4, 16] {
                assert_eq!(reply[at..at + 4], NEW_YEAR_NTP);
                assert_eq!(reply[at + 4..at + 8], [0x40, 0, 0, 0]);
            }
            assert_eq!(reply[12..16], [22, 1, 0x77, 0x77]);
            assert_eq!(reply[24..38], request[..14]);
            assert_eq!(reply[38..44], [0, 0, 61, 0, 0, 0]);
            assert_eq!(reply[44..], request[44..]);
        }
        // Another session: its own numbers.
        request[15] = 0;
        let reply = reflect(&mut bench, over_ipv6, 40_000, &request).unwrap();
        let first = [8, 0][usize::from(mode == StampMode::Stateful)];
        assert_eq!(reply[3], first);
    }
}

#[test]
fn a_packet_that_is_too_short_for_the_answer_is_answered_with_the_base_packet() {
    for over_ipv6 in [false, true] {
        for length in [0, 3, 14, 41] {
            let mut bench = Bench::with(config(Some(StampMode::Stateless)));
            // What lay in the buffer before.
            bench.buffer.fill(0xee);
            let request = vec![0x77; length];
            let reply = reflect(&mut bench, over_ipv6, 40_000, &request).unwrap();
            assert_eq!(reply.len(), STAMP_LENGTH);
            let mut sender = [0; 14];
            let copied = length.min(14);
            sender[..copied].fill(0x77);
            assert_eq!(reply[24..38], sender, "{length}");
            assert_eq!(reply[38..], [0, 0, 61, 0, 0, 0], "{length}");
        }
    }
}

#[test]
fn options_and_extension_headers_of_a_test_packet_are_not_sent_back() {
    let mut bench = Bench::with(config(Some(StampMode::Stateless)));
    let request: Vec<u8> = (0..50).collect();
    let mut frame = datagram(false, (40_000, STAMP_PORT), &request);
    // No operation, four times.
    frame.splice(34..34, [1; 4]);
    frame[14] = 0x46;
    let total = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    seal(&mut frame);
    bench.buffer[..frame.len()].copy_from_slice(&frame);
    let reaction = bench.vm.receive(ms(0), &mut bench.buffer, frame.len());
    let length = reaction.transmit.unwrap().length;
    let (_, _, reply) = read(&bench.buffer[..length]);
    assert_eq!((length, reply.len()), (14 + 20 + 8 + 50, 50));
    assert_eq!(
        (&reply[24..38], &reply[44..]),
        (&request[..14], &request[44..])
    );

    let mut frame = datagram(true, (40_000, STAMP_PORT), &request);
    // Destination options that say nothing.
    frame[20] = 60;
    frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    bench.buffer[..frame.len()].copy_from_slice(&frame);
    let reaction = bench.vm.receive(ms(0), &mut bench.buffer, frame.len());
    let length = reaction.transmit.unwrap().length;
    let (_, _, reply) = read(&bench.buffer[..length]);
    assert_eq!((length, reply.len()), (14 + 40 + 8 + 50, 50));
    assert_eq!(
        (&reply[24..38], &reply[44..]),
        (&request[..14], &request[44..])
    );
}

#[test]
fn nothing_is_reflected_without_a_reflector_or_to_another_service() {
    let request = [0; STAMP_LENGTH];
    for over_ipv6 in [false, true] {
        let mut bench = Bench::with(config(Some(StampMode::Stateless)));
        for from in [7, STAMP_PORT] {
            let answer = reflect(&mut bench, over_ipv6, from, &request);
            assert_eq!(answer, None, "from {from}");
        }
        let mut bench = Bench::with(config(None));
        let frame = datagram(over_ipv6, (40_000, STAMP_PORT), &request);
        let (_, event) = bench.receive(ms(0), &frame);
        assert_eq!(ignored(event), Ignored::ClosedPort(STAMP_PORT));
    }
}

#[test]
fn a_stateful_reflector_forgets_the_session_that_is_silent_longest() {
    let mut bench = Bench::with(config(Some(StampMode::Stateful)));
    let mut number = |session: u16, at: u64| {
        let mut request = [0; STAMP_LENGTH];
        request[14..16].copy_from_slice(&session.to_be_bytes());
        let frame = datagram(false, (40_000, STAMP_PORT), &request);
        bench.buffer[..frame.len()].copy_from_slice(&frame);
        let reaction = bench.vm.receive(ms(at), &mut bench.buffer, frame.len());
        let (_, _, reply) = read(&bench.buffer[..reaction.transmit.unwrap().length]);
        u32::from_be_bytes(*reply.first_chunk().unwrap())
    };
    let most = MAX_STAMP_SESSIONS as u16;
    for session in 1..=most {
        assert_eq!(number(session, u64::from(session)), 0);
    }
    assert_eq!(number(1, 5_000), 1);
    assert_eq!(number(most + 1, 5_001), 0);
    // The second has made room, the first has not.
    assert_eq!(number(1, 5_002), 2);
    assert_eq!(number(2, 5_003), 0);
}
