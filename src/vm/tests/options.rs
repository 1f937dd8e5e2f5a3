//! IPv4 options, and what else a host notes on what passes it: the time.

use super::*;

/// 03:04:05.006 in the morning, at the start of time.
const MORNING: u64 = 11_045_006;
const NOW: u32 = 11_045_006 + 1_000;

fn bench() -> Bench {
    Bench::with(VmConfig {
        unix_nanos: MORNING * 1_000_000,
        ..VmConfig::new(MAC, IP)
    })
}

/// An echo request with these options, of a multiple of four bytes.
fn request(bench: &mut Bench, options: &[u8]) -> Vec<u8> {
    let mut frame = bench.echo(false, 7, 1, PEER, |payload| payload.fill(0x5a));
    frame.splice(34..34, options.iter().copied());
    frame[14] = 0x40 | ((20 + options.len()) / 4) as u8;
    let total = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    seal(&mut frame);
    frame
}

/// The answer: the options of the echo reply, or the words of what else there is, and what is counted.
fn answer(options: &[u8]) -> (Result<Vec<u8>, String>, Option<Ignored>) {
    let mut bench = bench();
    let frame = request(&mut bench, options);
    let (sent, event) = bench.receive(ms(1_000), &frame);
    let event = event.map(|event| ignored(Some(event)));
    let Some(words) = sent else {
        return (Err("silent".to_owned()), event);
    };
    if !words.ends_with("ICMP echo reply id 7 seq 1 (16 bytes)") {
        return (Err(format!("{words}, at {}", bench.buffer[38])), event);
    }
    let end = 14 + 4 * usize::from(bench.buffer[14] & 0x0f);
    (Ok(bench.buffer[34..end].to_vec()), event)
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn options_are_noted_returned_and_left_out_as_linux_does() {
    let own = &IP.octets()[..];
    let other = &PEER.octets()[..];
    let time = &NOW.to_be_bytes()[..];
    let none: &[u8] = &[0; 4];
    let table: &[(&str, Vec<u8>, Vec<u8>)] = &[
        ("no-operations", vec![1; 4], vec![]),
        ("router alert", vec![148, 4, 0, 0], vec![]),
        ("security", vec![130, 3, 0, 0], vec![]),
        ("after the end, nonsense", vec![0, 7, 1, 1], vec![]),
        (
            "record route with room for three",
            bytes(&[&[7, 15, 8], other, none, none, &[0]]),
            bytes(&[&[7, 15, 16], other, own, own, &[0]]),
        ),
        (
            "with room for one",
            bytes(&[&[1, 7, 7, 4], none]),
            bytes(&[&[7, 7, 8], own, &[0]]),
        ),
        (
            "full",
            bytes(&[&[7, 7, 8], other, &[0]]),
            bytes(&[&[7, 7, 8], other, &[0]]),
        ),
        (
            "times",
            bytes(&[&[68, 12, 5, 0], none, none]),
            bytes(&[&[68, 12, 13, 0], time, time]),
        ),
        (
            "times with room for one; who leaves is not counted",
            bytes(&[&[68, 8, 5, 0x30], none]),
            bytes(&[&[68, 8, 9, 0x30], time]),
        ),
        (
            "times, full: who comes in is counted",
            bytes(&[&[68, 8, 9, 0x30], time]),
            bytes(&[&[68, 8, 9, 0x40], time]),
        ),
        (
            "times and addresses",
            bytes(&[&[68, 20, 5, 1], none, none, none, none]),
            bytes(&[&[68, 20, 21, 1], own, time, own, time]),
        ),
        (
            "given addresses",
            bytes(&[&[68, 20, 5, 3], own, none, other, none]),
            bytes(&[&[68, 20, 13, 3], own, time, other, none]),
        ),
        (
            "both: the route comes first, and it is filled up",
            bytes(&[&[68, 8, 5, 0], none, &[7, 7, 4], none, &[1]]),
            bytes(&[&[7, 7, 8], own, &[68, 8, 9, 0], time, &[0]]),
        ),
    ];
    for (name, asked, expected) in table {
        let (answered, event) = answer(asked);
        assert_eq!((answered, event), (Ok(expected.clone()), None), "{name}");
    }
}

#[test]
fn options_that_make_no_sense_are_told_to_the_sender_and_source_routes_are_not_taken() {
    let problem = |at: u8| {
        let words = "IPv4 10.77.0.2 > 10.77.0.3, ICMP type 12 code 0 about echo request id 7 seq 1 to 10.77.0.2";
        format!("{words}, at {at}")
    };
    let table: &[(&str, &[u8], String)] = &[
        ("longer than the header", &[7, 8, 4, 0], problem(20)),
        ("of one byte", &[1, 7, 1, 0], problem(21)),
        ("cut off behind its kind", &[1, 1, 1, 7], problem(23)),
        ("a route without a pointer", &[7, 2, 0, 0], problem(21)),
        ("a pointer into the head", &[7, 4, 3, 0], problem(22)),
        ("half a place", &[7, 8, 6, 0, 0, 0, 0, 0], problem(22)),
        ("two records", &[7, 3, 4, 7, 3, 4, 0, 0], problem(23)),
        ("times without flags", &[68, 3, 5, 0], problem(21)),
        (
            "times whose pointer is in the head",
            &[68, 4, 4, 0],
            problem(22),
        ),
        (
            "no room for the address",
            &[68, 8, 5, 1, 0, 0, 0, 0],
            problem(22),
        ),
        ("sixteen that had no room", &[68, 4, 5, 0xf0], problem(23)),
        ("a short router alert", &[148, 3, 0, 0], problem(21)),
        ("a source route, done", &[131, 3, 4, 0], "silent".to_owned()),
        (
            "a strict one to go",
            &[137, 7, 4, 10, 77, 0, 3, 0],
            "silent".to_owned(),
        ),
    ];
    for (name, options, expected) in table {
        let (answered, event) = answer(options);
        assert_eq!(answered, Err(expected.clone()), "{name}");
        assert_eq!(event, Some(Ignored::Ipv4Options), "{name}");
    }
}

#[test]
fn a_host_tells_the_time_of_day_to_who_asks() {
    for (at, expected) in [
        (1_000, NOW),
        // A day later but for a millisecond, and when midnight has come.
        (86_400_000 - 1, 11_045_005),
        (86_400_000 - 11_045_006, 0),
    ] {
        let mut bench = bench();
        let mut frame = bench.echo(false, 7, 1, PEER, |payload| payload.fill(0));
        frame[34] = 13;
        // The message has 20 bytes, and a host does not mind if there is more.
        assert_eq!(frame.len(), 14 + 20 + 24);
        frame[36..38].fill(0);
        let sum = checksum(&frame[34..]);
        frame[36..38].copy_from_slice(&sum);
        seal(&mut frame);
        bench.buffer[..frame.len()].copy_from_slice(&frame);
        let reaction = bench.vm.receive(ms(at), &mut bench.buffer, frame.len());
        assert_eq!(reaction.event, None);
        assert_eq!(reaction.transmit.unwrap().length, 54);
        let message = &bench.buffer[34..54];
        assert_eq!(checksum(message), [0; 2]);
        assert_eq!(message[..2], [14, 0]);
        assert_eq!(
            message[4..8],
            frame[38..42],
            "identifier and sequence number"
        );
        assert_eq!(message[12..16], expected.to_be_bytes(), "received");
        assert_eq!(message[16..20], expected.to_be_bytes(), "sent");

        let mut short = frame.clone();
        short[17] = 39;
        seal(&mut short);
        let (sent, event) = bench.receive(ms(0), &short);
        assert_eq!(sent, None);
        assert!(matches!(ignored(event), Ignored::Malformed(_)), "{event:?}");
    }
}

#[test]
fn an_echo_request_whose_options_make_no_sense_is_kept_though_its_sender_is_told() {
    for options in [[7, 8, 4, 0], [131, 3, 4, 0]] {
        let mut bench = bench();
        bench.vm.keep_ignored_probes();
        let frame = request(&mut bench, &options);
        bench.receive(ms(0), &frame);
        let kept = bench.vm.take_ignored_probe();
        assert!(kept.is_some());
        assert_eq!(kept, PingHead::parse(&frame));
    }
}
