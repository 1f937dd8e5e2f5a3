use std::time::Duration;

use super::around_loss::PIECE;
use super::config::CaptureLimit;
use super::*;
use crate::fabric::output::cup::Cup;
use crate::fabric::{Direction, Impaired, Impairment, WriteDrop};
use crate::vm::{Ignored, PingId, PingOutcome, SessionId};
use crate::wire::{
    ArpPacket, EchoRequest, EthernetFrame, Ipv4Envelope, TCP_FLOWS, TcpSegment,
    turn_into_echo_reply, write_tcp,
};

const TIMEOUT: Duration = Duration::from_secs(1);
const US: u64 = 1_000;
const MS: u64 = 1_000_000;

fn mac(vm: u32) -> MacAddr {
    MacAddr([2, 0, 10, 77, 0, vm as u8 + 2])
}

fn address(vm: u32) -> std::net::Ipv4Addr {
    [10, 77, 0, vm as u8 + 2].into()
}

fn request(from: u32, to: u32, sequence: u64) -> Vec<u8> {
    let request = EchoRequest {
        envelope: Ipv4Envelope {
            source_mac: mac(from),
            destination_mac: mac(to),
            source: address(from),
            destination: address(to),
            time_to_live: 64,
            dscp: 0,
            dont_fragment: false,
            identification: 0,
        },
        identifier: 0,
        sequence: sequence as u16,
    };
    let mut buffer = vec![0; 200];
    let length = request.write(56, |_| {}, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// The SYN of a ping by TCP.
fn syn(from: u32, to: u32, sequence: u64) -> Vec<u8> {
    let envelope = Ipv4Envelope {
        source_mac: mac(from),
        destination_mac: mac(to),
        source: address(from),
        destination: address(to),
        time_to_live: 64,
        dscp: 0,
        dont_fragment: false,
        identification: 0,
    };
    let segment = TcpSegment {
        source_port: 40_000 + sequence as u16,
        destination_port: 80,
        is_syn: true,
        sequence: sequence as u32,
        ..TcpSegment::default()
    };
    let mut buffer = vec![0; 200];
    let length = write_tcp(&envelope, &segment, &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn reply(from: u32, to: u32, sequence: u64) -> Vec<u8> {
    let mut frame = request(from, to, sequence);
    turn_into_echo_reply(&mut frame, 20, mac(to), 64, 0).unwrap();
    frame
}

/// A capture into memory, and a clock.
struct Bench {
    capture: Capture,
    cup: Cup,
    now: u64,
}

/// A frame as a reader of the file sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Read {
    interface: String,
    nanos: u64,
    flags: u32,
    captured: usize,
    length: u32,
    dropped: u64,
    comment: String,
}

const CONFIG: CaptureConfig = CaptureConfig {
    file: String::new(),
    has_comments: true,
    snap: None,
    vms: None,
    limit: None,
    around_loss: None,
};

fn interface(vm: u32) -> Interface {
    Interface {
        name: format!("tap{vm}"),
        addresses: vec![address(vm).into()],
    }
}

impl Bench {
    fn new(config: &CaptureConfig) -> Bench {
        Bench::into(Cup::new(usize::MAX), config)
    }

    fn into(cup: Cup, config: &CaptureConfig) -> Bench {
        let section = Section::default();
        let mut capture = Capture::new(config, section, TIMEOUT, Box::new(cup.clone()));
        for vm in 0..10 {
            capture.vm(VmId(vm), mac(vm), &interface(vm));
        }
        Bench {
            capture,
            cup,
            now: 0,
        }
    }

    fn at(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    fn frame(&mut self, vm: u32, direction: Direction, frame: &[u8]) {
        self.now += US;
        let observed = Observed {
            vm: VmId(vm),
            direction,
            frame,
            impaired: Impaired::default(),
            refused: None,
        };
        self.capture.frame(self.at(), &observed);
    }

    fn event(&mut self, vm: u32, event: Event) {
        self.capture.event(self.at(), VmId(vm), &event);
    }

    fn outcome(&mut self, vm: u32, sequence: u64, outcome: PingOutcome) {
        let session = SessionId(0);
        self.event(vm, Event::Ping(PingId { session, sequence }, outcome));
    }

    fn sends(&mut self, sequence: u64) -> Instant {
        self.frame(0, Direction::Out, &request(0, 9, sequence));
        self.at()
    }

    /// A ping of vm0 to vm9 that is answered.
    fn ping(&mut self, sequence: u64) {
        let sent = self.sends(sequence);
        self.frame(9, Direction::In, &request(0, 9, sequence));
        self.frame(9, Direction::Out, &reply(0, 9, sequence));
        self.frame(0, Direction::In, &reply(0, 9, sequence));
        let answered = PingOutcome::Answered {
            due: sent,
            sent,
            received: self.at(),
        };
        self.outcome(0, sequence, answered);
    }

    fn flush(&mut self) {
        self.capture.flush(self.at(), true);
    }

    /// Closes the capture, and reads its files.
    fn read(mut self) -> Vec<Vec<Read>> {
        self.capture.finish();
        self.so_far()
    }

    fn so_far(&self) -> Vec<Vec<Read>> {
        self.cup
            .0
            .borrow()
            .files
            .iter()
            .map(|file| read(file))
            .collect()
    }

    fn comments(self) -> Vec<String> {
        let files = self.read();
        files
            .concat()
            .into_iter()
            .map(|read| read.comment)
            .collect()
    }
}

/// Reads a file, of which each block has to be whole.
fn read(file: &[u8]) -> Vec<Read> {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut rest, mut interfaces, mut frames) = (file, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (kind, length) = (word(rest, 0), word(rest, 4) as usize);
        let block = &rest[..length];
        assert_eq!(word(block, length - 4) as usize, length);
        rest = &rest[length..];
        let options = |from: usize| {
            let (mut at, mut found) = (from, Vec::new());
            loop {
                let head = word(block, at);
                let (code, size) = (head & 0xffff, (head >> 16) as usize);
                if code == 0 {
                    assert_eq!(
                        at + 8,
                        length,
                        "the end of the options is that of the block"
                    );
                    return found;
                }
                found.push((code, block[at + 4..at + 4 + size].to_vec()));
                at += 4 + size.next_multiple_of(4);
            }
        };
        let value = |options: &[(u32, Vec<u8>)], code: u32| {
            let mut values = options.iter().filter(|(it, _)| *it == code);
            values
                .next()
                .map(|(_, value)| value.clone())
                .unwrap_or_default()
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match kind {
            1 => interfaces.push(text(value(&options(16), 2))),
            6 => {
                let captured = word(block, 20) as usize;
                let options = options(28 + captured.next_multiple_of(4));
                let number = |bytes: Vec<u8>| {
                    let mut whole = [0; 8];
                    whole[..bytes.len()].copy_from_slice(&bytes);
                    u64::from_le_bytes(whole)
                };
                frames.push(Read {
                    interface: interfaces[word(block, 8) as usize].clone(),
                    nanos: u64::from(word(block, 12)) << 32 | u64::from(word(block, 16)),
                    flags: number(value(&options, 2)) as u32,
                    captured,
                    length: word(block, 24),
                    dropped: number(value(&options, 4)),
                    comment: text(value(&options, 1)),
                });
            }
            _ => {}
        }
    }
    frames
}

/// The sums of the frames that the statistics of a file's interfaces say were seen, and lost.
fn statistics(file: &[u8]) -> (u64, u64) {
    let (mut rest, mut sums) = (file, (0, 0));
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        if word(0) == 5 {
            // Behind the times of the start and the end.
            assert_eq!((word(44) & 0xffff, word(56) & 0xffff), (4, 5));
            sums = (sums.0 + long(48), sums.1 + long(60));
        }
        rest = &rest[word(4) as usize..];
    }
    sums
}

#[test]
fn each_frame_of_a_ping_says_what_came_of_it() {
    let mut bench = Bench::new(&CONFIG);
    bench.ping(0);
    bench.ping(1);
    let frames = bench.read().concat();
    let seen: Vec<_> = frames
        .iter()
        .map(|read| {
            (
                read.interface.as_str(),
                read.nanos / US,
                read.flags,
                read.comment.as_str(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("tap0", 1, 2, "ping 0 of vm0 → vm9: answered 3.00 µs later"),
            ("tap9", 2, 1, "ping 0 of vm0 → vm9: answered in 3.00 µs"),
            (
                "tap9",
                3,
                2,
                "reply to ping 0 of vm0 → vm9: answered in 3.00 µs"
            ),
            (
                "tap0",
                4,
                1,
                "reply to ping 0 of vm0 → vm9: answered in 3.00 µs"
            ),
            ("tap0", 5, 2, "ping 1 of vm0 → vm9: answered 3.00 µs later"),
            ("tap9", 6, 1, "ping 1 of vm0 → vm9: answered in 3.00 µs"),
            (
                "tap9",
                7,
                2,
                "reply to ping 1 of vm0 → vm9: answered in 3.00 µs"
            ),
            (
                "tap0",
                8,
                1,
                "reply to ping 1 of vm0 → vm9: answered in 3.00 µs"
            ),
        ]
    );
}

#[test]
fn a_frame_is_kept_until_it_is_known_what_it_means_and_those_behind_it_too() {
    let mut bench = Bench::new(&CONFIG);
    let due = bench.sends(0);
    bench.ping(1);
    bench.flush();
    assert_eq!(bench.so_far().concat().len(), 0);
    bench.now += 1_000 * MS;
    bench.outcome(0, 0, PingOutcome::Lost { due });
    bench.flush();
    assert_eq!(bench.so_far().concat().len(), 5);
    let comments = bench.comments();
    assert_eq!(comments[0], "ping 0 of vm0 → vm9: no answer in time");
    assert_eq!(comments[1], "ping 1 of vm0 → vm9: answered 3.00 µs later");
}

#[test]
fn the_first_frame_after_a_mark_or_a_command_has_it_in_its_comment() {
    let mark = Notice::Marked {
        name: "policy",
        detail: "",
    };
    for (around_loss, has_comments) in [(None, true), (Some(10), true), (Some(10), false)] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss,
            has_comments,
            ..CONFIG
        });
        bench.sends(0);
        bench.now += US;
        bench.capture.notice(bench.at(), &mark);
        bench.now += MS;
        bench.capture.notice(bench.at(), &Notice::Impaired(2));
        bench
            .capture
            .notice(bench.at(), &Notice::Started(VmId(3), ""));
        let due = bench.sends(1);
        bench.sends(2);
        bench.outcome(0, 1, PingOutcome::Lost { due });
        let comments = bench.comments();
        let told = "1.00 ms before: mark policy\n1.00 µs before: impairments: 2 rules\n";
        let of: Vec<bool> = comments.iter().map(|text| text.starts_with(told)).collect();
        assert_eq!(of, [false, has_comments, false], "{comments:?}");
        assert_eq!(
            comments.concat().matches("policy").count(),
            usize::from(has_comments)
        );
    }
}

#[test]
fn what_is_told_late_is_in_the_comment_of_the_first_frame_after_its_time() {
    for around_loss in [None, Some(10)] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss,
            ..CONFIG
        });
        // A phase begins at the end of the one before, while that catches up with its pings.
        let end = bench.at();
        bench.sends(0);
        bench.now += MS;
        bench.capture.notice(bench.at(), &Notice::Impaired(2));
        let mark = Notice::Marked {
            name: "policy",
            detail: "",
        };
        bench.capture.notice(end, &mark);
        let due = bench.sends(1);
        bench.outcome(0, 1, PingOutcome::Lost { due });
        let comments = bench.comments();
        let told = [
            "1.00 µs before: mark policy\nping 0",
            "1.00 µs before: impairments: 2 rules\nping 1",
        ];
        for (comment, told) in comments.iter().zip(told) {
            assert!(comment.starts_with(told), "{comments:?}");
        }
    }
}

#[test]
fn of_many_commands_without_a_frame_the_last_are_told() {
    let mut bench = Bench::new(&CONFIG);
    for rules in 1..=100 {
        bench.capture.notice(bench.at(), &Notice::Impaired(rules));
    }
    bench.sends(0);
    let comment = bench.comments().concat();
    assert_eq!(comment.matches("impairments: ").count(), 32, "{comment}");
    assert!(comment.contains("impairments: 100 rules"), "{comment}");
}

#[test]
fn no_frame_is_kept_longer_than_a_ping_may_take() {
    let mut bench = Bench::new(&CONFIG);
    bench.sends(0);
    bench.now += 1_100 * MS;
    bench.flush();
    assert_eq!(bench.so_far().concat().len(), 0);
    bench.now += 200 * MS;
    bench.flush();
    let written = bench.so_far().concat();
    assert_eq!(written[0].comment, "ping 0 of vm0 → vm9: not known yet");
    assert_eq!(bench.capture.recording().unknown, 1);
    // Its reply comes after all: what is known of it is its name.
    bench.frame(0, Direction::In, &reply(0, 9, 0));
    bench.outcome(0, 0, PingOutcome::Late { lost: None });
    let comments = bench.comments();
    assert_eq!(
        comments[1],
        "reply to ping 0 of vm0 → vm9: answered after its timeout"
    );
}

#[test]
fn frames_of_a_ping_that_come_after_its_timeout_say_that_it_had_no_answer_in_time() {
    let mut bench = Bench::new(&CONFIG);
    let due = bench.sends(0);
    bench.now += 1_000 * MS;
    bench.outcome(0, 0, PingOutcome::Lost { due });
    bench.flush();
    bench.frame(9, Direction::In, &request(0, 9, 0));
    bench.frame(9, Direction::Out, &reply(0, 9, 0));
    bench.frame(0, Direction::In, &reply(0, 9, 0));
    bench.outcome(0, 0, PingOutcome::Late { lost: None });
    // One that never got to the VM.
    let mut impaired = Impaired::default();
    impaired.add(Impairment::Unreleased);
    let observed = Observed {
        vm: VmId(0),
        direction: Direction::In,
        frame: &reply(0, 9, 0),
        impaired,
        refused: None,
    };
    bench.capture.unreleased(bench.at(), None, &observed);
    assert_eq!(
        bench.comments(),
        [
            "ping 0 of vm0 → vm9: no answer in time",
            "ping 0 of vm0 → vm9: no answer in time",
            "reply to ping 0 of vm0 → vm9: no answer in time",
            "reply to ping 0 of vm0 → vm9: answered after its timeout",
            "reply to ping 0 of vm0 → vm9: no answer in time; never released by --impair",
        ]
    );
}

#[test]
fn a_request_that_is_sent_again_is_of_the_same_ping_and_says_what_came_of_it() {
    for around_loss in [None, Some(10)] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss,
            ..CONFIG
        });
        let mut dues = Vec::new();
        for sequence in [0, 1, 0, 1, 0] {
            bench.frame(0, Direction::Out, &syn(0, 9, sequence));
            dues.push(bench.at());
        }
        let mut outcome = |sequence, outcome| {
            let session = SessionId(TCP_FLOWS);
            bench.event(0, Event::Ping(PingId { session, sequence }, outcome));
        };
        outcome(0, PingOutcome::Lost { due: dues[0] });
        let answered = PingOutcome::Answered {
            due: dues[1],
            sent: dues[1],
            received: dues[1] + Duration::from_millis(3),
        };
        outcome(1, answered);
        if around_loss.is_some() {
            assert_eq!(around(&bench).unknown(), 0);
        }
        assert_eq!(
            bench.comments(),
            [
                "ping 0 of vm0 → vm9: no answer in time",
                "ping 1 of vm0 → vm9: answered 3.00 ms later",
                "repeat of ping 0 of vm0 → vm9: no answer in time",
                "repeat of ping 1 of vm0 → vm9: answered in 3.00 ms",
                "repeat of ping 0 of vm0 → vm9: no answer in time",
            ],
            "{around_loss:?}"
        );
    }
}

#[test]
fn a_frame_that_its_receiver_could_not_read_is_not_named_by_the_numbers_in_it() {
    let error = EthernetFrame::parse(&[1; 5]).map(|_| ()).unwrap_err();
    for around_loss in [None, Some(10)] {
        for sequence in [1, 700] {
            let mut bench = Bench::new(&CaptureConfig {
                around_loss,
                ..CONFIG
            });
            let due = bench.sends(0);
            bench.sends(1);
            // A bit of the number of ping 0 was inverted.
            bench.frame(9, Direction::In, &request(0, 9, sequence));
            bench.event(9, Event::Ignored(Ignored::Malformed(error)));
            bench.outcome(0, 0, PingOutcome::Lost { due });
            bench.outcome(0, 1, PingOutcome::Lost { due });
            assert_eq!(
                bench.comments(),
                [
                    "ping 0 of vm0 → vm9: no answer in time",
                    "ping 1 of vm0 → vm9: no answer in time",
                    &format!("malformed; ignored: {error}"),
                ]
            );
        }
    }
}

#[test]
fn no_more_frames_are_kept_than_memory_is_for() {
    let mut bench = Bench::new(&CONFIG);
    let large = vec![0xff; 60_000];
    bench.sends(0);
    for _ in 0..MAX_KEPT / 60_000 + 10 {
        bench.frame(1, Direction::In, &large);
    }
    bench.flush();
    let written = bench.so_far().concat();
    assert!(written[0].comment.ends_with("not known yet"));
}

#[test]
fn frames_that_waited_for_a_lost_ping_are_written_by_and_by_and_none_is_lost() {
    let large = vec![0xff; 60_000];
    let bench_with_frames = || {
        let mut bench = Bench::new(&CONFIG);
        let due = bench.sends(0);
        for _ in 0..400 {
            bench.frame(1, Direction::In, &large);
            bench.flush();
        }
        bench.now += 1_000 * MS;
        bench.outcome(0, 0, PingOutcome::Lost { due });
        bench
    };
    // In turns, as long as there are some.
    let mut bench = bench_with_frames();
    let mut written = 0;
    while written < 401 {
        bench.flush();
        let now = bench.so_far().concat().len();
        assert!((written + 1..written + 60).contains(&now), "{now}");
        written = now;
    }
    bench.capture.finish();
    assert_eq!(bench.capture.recording().dropped, 0);
    // At the end of the run.
    let mut bench = bench_with_frames();
    bench.capture.finish();
    let counts = bench.capture.recording();
    assert_eq!((counts.records, counts.dropped), (401, 0));
    assert_eq!(bench.so_far().concat().len(), 401);
}

#[test]
fn nothing_is_lost_in_one_turn_where_the_run_waits_for_the_sink() {
    let cup = Cup::new(usize::MAX);
    cup.0.borrow_mut().is_waited_for = true;
    let mut bench = Bench::into(
        cup,
        &CaptureConfig {
            has_comments: false,
            ..CONFIG
        },
    );
    for _ in 0..400 {
        bench.frame(1, Direction::In, &vec![0xff; 60_000]);
    }
    bench.capture.finish();
    let counts = bench.capture.recording();
    assert_eq!((counts.records, counts.dropped), (400, 0));
}

#[test]
fn what_happens_because_of_a_frame_stands_in_its_comment() {
    let lost = PingOutcome::Lost { due: Instant::ZERO };
    let elsewhere = Event::Ignored(Ignored::OtherStation);
    let errored = PingOutcome::Errored {
        due: Instant::ZERO,
        sent: Instant::ZERO,
        error: crate::vm::PingError::HostUnreachable,
    };
    for (frame, event, expected) in [
        (
            request(0, 9, 3),
            Some(elsewhere),
            "ping 3 of vm0 → vm9: no answer in time; ignored: it is for another station",
        ),
        (
            reply(5, 9, 3),
            Some(Event::Ping(
                PingId {
                    session: SessionId(0),
                    sequence: 3,
                },
                PingOutcome::Duplicate,
            )),
            "reply to ping 3 of vm5 → vm9; a further reply",
        ),
        (
            reply(0, 9, 3),
            Some(Event::Ping(
                PingId {
                    session: SessionId(0),
                    sequence: 3,
                },
                errored,
            )),
            "reply to ping 3 of vm0 → vm9: no answer in time; the ping ends: host_unreachable",
        ),
        (
            reply(0, 9, 3),
            None,
            "reply to ping 3 of vm0 → vm9: no answer in time",
        ),
        (
            vec![1; 5],
            None,
            "malformed frame of 5 bytes (Ethernet at byte 0: 14 bytes needed, 5 present)",
        ),
    ] {
        let mut bench = Bench::new(&CONFIG);
        bench.sends(3);
        bench.frame(5, Direction::In, &frame);
        if let Some(event) = event {
            bench.event(5, event);
            // Of a deadline, right behind: it has nothing to do with the frame.
            bench.event(
                5,
                Event::LeaseLost {
                    address: address(5).into(),
                },
            );
        }
        bench.outcome(0, 3, lost);
        assert_eq!(bench.comments()[1], expected);
    }
}

#[test]
fn requests_for_a_neighbour_are_counted_until_it_answers() {
    let mut bench = Bench::new(&CONFIG);
    let ask = |bench: &mut Bench, is_resolved: bool| {
        let mut buffer = [0; 60];
        let arp = ArpPacket {
            operation: ArpPacket::REQUEST,
            sender_mac: mac(0),
            sender: address(0),
            target_mac: MacAddr([0; 6]),
            target: address(9),
        };
        let length = arp.write(MacAddr::BROADCAST, &mut buffer).unwrap();
        bench.frame(0, Direction::Out, &buffer[..length]);
        if is_resolved {
            let resolved = Event::Resolved {
                address: address(9).into(),
                mac: mac(9),
                elapsed: Duration::from_micros(8),
            };
            bench.event(0, resolved);
        }
    };
    for is_resolved in [false, true, false, false, false, false] {
        ask(&mut bench, is_resolved);
    }
    let counts = ["1 of 3", "2 of 3", "1 of 3", "2 of 3", "3 of 3", "1 of 3"];
    let expected = counts.map(|count| format!("ARP request {count} for 10.77.0.11"));
    assert_eq!(bench.comments(), expected);
}

#[test]
fn frames_of_other_vms_are_not_captured_but_tell_of_those_that_are() {
    let mut bench = Bench::new(&CaptureConfig {
        vms: Some((VmId(5), VmId(9))),
        ..CONFIG
    });
    bench.ping(0);
    bench.ping(1);
    let frames = bench.read().concat();
    assert_eq!(frames.len(), 4);
    assert!(frames.iter().all(|read| read.interface == "tap9"));
    assert_eq!(
        frames[2].comment,
        "ping 1 of vm0 → vm9: answered in 3.00 µs"
    );
}

#[test]
fn a_frame_is_cut_where_that_is_asked_for() {
    for has_comments in [false, true] {
        let mut bench = Bench::new(&CaptureConfig {
            snap: Some(20),
            has_comments,
            ..CONFIG
        });
        bench.ping(0);
        let frames = bench.read().concat();
        for read in &frames {
            assert_eq!((read.captured, read.length), (20, 98));
            assert_eq!(read.comment.is_empty(), !has_comments);
        }
        assert_eq!(frames.len(), 4);
    }
}

#[test]
fn around_failed_pings_so_many_frames_are_written() {
    let lost = |due| PingOutcome::Lost { due };
    let late = |due| PingOutcome::Late { lost: Some(due) };
    let corrupt = |due| PingOutcome::Corrupt { due };
    // Pings 0 to 9, of which 4 fails: its request is frame 16, its reply is known of after frame 20.
    for (around, outcome, expected) in [
        (0, lost as fn(Instant) -> PingOutcome, vec![16]),
        (2, lost, vec![14, 15, 16, 17, 18]),
        (1, late, vec![15, 16, 17, 35, 36]),
        (1, corrupt, vec![15, 16, 17, 35, 36]),
        (12, lost, (4..29).collect()),
        (1_000, lost, (0..37).collect()),
    ] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss: Some(around),
            ..CONFIG
        });
        let mut due = Instant::ZERO;
        for sequence in 0..10 {
            match sequence {
                4 => due = bench.sends(4),
                _ => bench.ping(sequence),
            }
        }
        bench.outcome(0, 4, outcome(due));
        let frames = bench.read().concat();
        let numbers: Vec<u64> = frames.iter().map(|read| read.nanos / US - 1).collect();
        assert_eq!(numbers, expected, "{around} {outcome:?}");
    }
}

#[test]
fn frames_around_a_lost_ping_have_comments_too_and_none_are_written_without_a_loss() {
    let config = CaptureConfig {
        around_loss: Some(2),
        ..CONFIG
    };
    let mut bench = Bench::new(&config);
    for sequence in 70_000..70_003 {
        bench.ping(sequence);
    }
    let due = bench.sends(70_003);
    bench.ping(70_004);
    bench.now += 1_000 * MS;
    bench.outcome(0, 70_003, PingOutcome::Lost { due });
    bench.now += 10_000 * MS;
    bench.flush();
    assert_eq!(
        bench.comments(),
        [
            "reply to ping 70002 of vm0 → vm9",
            "reply to ping 70002 of vm0 → vm9",
            "ping 70003 of vm0 → vm9: no answer in time",
            "ping 70004 of vm0 → vm9: answered 3.00 µs later",
            "ping 70004 of vm0 → vm9: answered in 3.00 µs",
        ]
    );
    let mut bench = Bench::new(&config);
    (0..100).for_each(|sequence| bench.ping(sequence));
    bench.now += 10_000 * MS;
    bench.flush();
    assert_eq!(bench.read().concat(), []);
}

#[test]
fn a_loss_whose_frames_are_in_memory_no_more_is_counted_and_no_others_are_written() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(2),
        vms: Some((VmId(0), VmId(8))),
        ..CONFIG
    });
    let due = bench.sends(0);
    for _ in 0..1_500 {
        bench.frame(1, Direction::In, &vec![0xff; 60_000]);
        bench.flush();
    }
    bench.outcome(0, 0, PingOutcome::Lost { due });
    // Of a VM whose own frames are not captured, those around its ping are missed.
    bench.outcome(9, 0, PingOutcome::Lost { due });
    bench.capture.finish();
    assert_eq!(bench.capture.recording().missed, 2);
    assert_eq!(bench.so_far().concat(), []);
}

#[test]
fn a_ping_that_was_due_before_the_capture_began_is_not_missed() {
    let lost = |due| PingOutcome::Lost { due };
    let late = |due| PingOutcome::Late { lost: Some(due) };
    let corrupt = |due| PingOutcome::Corrupt { due };
    // The VM that pings, of which the frames of vm0 to vm8 are captured, and the microseconds from the beginning until the
    // ping was due.
    for (vm, due, missed) in [(0, -1, 0), (9, -1, 0), (0, 0, 1), (9, 0, 1), (0, 5, 1)] {
        for outcome in [lost as fn(Instant) -> PingOutcome, late, corrupt] {
            // At its end, when its number comes again, and when it is known that no such request is to come.
            for end in ["at once", "again", "after a while"] {
                let mut bench = Bench::new(&CaptureConfig {
                    around_loss: Some(2),
                    vms: Some((VmId(0), VmId(8))),
                    ..CONFIG
                });
                bench.now = 1_000 * MS;
                bench.capture.begin(bench.at());
                let due = Instant::from_nanos(bench.now.saturating_add_signed(due * US as i64));
                bench.now += 10 * US;
                bench.outcome(vm, 3, outcome(due));
                if end == "again" {
                    bench.frame(vm, Direction::Out, &request(vm, 1, 3));
                }
                if end == "after a while" {
                    bench.ping(70_000);
                    bench.now += 2_000 * MS;
                    bench.flush();
                }
                bench.capture.finish();
                let recording = bench.capture.recording();
                assert_eq!(recording.missed, missed, "{vm} {due:?} {outcome:?} {end}");
            }
        }
    }
}

#[test]
fn a_ping_that_was_due_before_the_capture_began_and_sent_later_is_in_it() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(0),
        ..CONFIG
    });
    bench.now = 1_000 * MS;
    let due = bench.at();
    bench.now += 5 * MS;
    bench.capture.begin(bench.at());
    bench.ping(0);
    bench.sends(1);
    bench.outcome(0, 1, PingOutcome::Lost { due });
    assert_eq!(bench.comments(), ["ping 1 of vm0 → vm9: no answer in time"]);
}

#[test]
fn frames_of_pings_on_their_way_at_the_end_are_written_and_none_is_missed() {
    for (has_comments, fails, expected, unknown) in [
        (
            true,
            false,
            vec![
                "reply to ping 0 of vm0 → vm9",
                "ping 1 of vm0 → vm9: not known yet",
                "ping 1 of vm0 → vm9: not known yet",
            ],
            2,
        ),
        (false, false, vec![""; 3], 1),
        (
            true,
            true,
            vec![
                "reply to ping 0 of vm0 → vm9",
                "ping 1 of vm0 → vm9: no answer in time",
                "ping 1 of vm0 → vm9: no answer in time",
            ],
            0,
        ),
    ] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss: Some(1),
            has_comments,
            ..CONFIG
        });
        bench.ping(0);
        let due = bench.sends(1);
        bench.frame(9, Direction::In, &request(0, 9, 1));
        bench.now += 500 * MS;
        bench.flush();
        if fails {
            bench.outcome(0, 1, PingOutcome::Lost { due });
        }
        bench.capture.finish();
        let recording = bench.capture.recording();
        assert_eq!((recording.unknown, recording.missed), (unknown, 0));
        let frames = bench.so_far().concat();
        let comments: Vec<&str> = frames.iter().map(|read| read.comment.as_str()).collect();
        assert_eq!(comments, expected);
    }
    // One of which nothing more is expected is not on its way.
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(1),
        ..CONFIG
    });
    bench.sends(0);
    bench.now += 2_000 * MS;
    (0..2).for_each(|_| bench.flush());
    assert_eq!(bench.comments(), [""; 0]);
}

#[test]
fn frames_around_a_loss_are_written_if_those_of_the_vm_that_pings_are_not_captured() {
    for (around, expected) in [
        (0, vec!["ping 2 of vm0 → vm9: no answer in time"]),
        (
            1,
            vec![
                "reply to ping 1 of vm0 → vm9",
                "ping 2 of vm0 → vm9: no answer in time",
                "ping 3 of vm0 → vm9",
            ],
        ),
    ] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss: Some(around),
            vms: Some((VmId(5), VmId(9))),
            ..CONFIG
        });
        (0..2).for_each(|sequence| bench.ping(sequence));
        let due = bench.sends(2);
        bench.frame(9, Direction::In, &request(0, 9, 2));
        for sequence in 3..20 {
            bench.ping(sequence);
            bench.flush();
        }
        bench.now += 1_000 * MS;
        bench.outcome(0, 2, PingOutcome::Lost { due });
        bench.flush();
        // Those of pings that are answered go at once.
        assert_eq!(self::around(&bench).len(), around as usize);
        bench.capture.finish();
        assert_eq!(bench.capture.recording().missed, 0);
        let frames = bench.so_far().concat();
        let comments: Vec<&str> = frames.iter().map(|read| read.comment.as_str()).collect();
        assert_eq!(comments, expected);
    }
}

#[test]
fn a_loss_is_captured_however_many_frames_came_before_its_request_was_sent() {
    for waits in [false, true] {
        let mut bench = Bench::new(&CaptureConfig {
            around_loss: Some(1),
            ..CONFIG
        });
        bench.ping(0);
        // Its neighbour was not known yet when it was due, and another one kept the frames from being dropped.
        let due = bench.at();
        bench.sends(1);
        for sequence in 2..10_000 {
            bench.ping(sequence);
        }
        bench.sends(10_000);
        bench.ping(10_001);
        bench.now += 1_000 * MS;
        bench.outcome(0, 1, PingOutcome::Lost { due });
        bench.outcome(0, 10_000, PingOutcome::Lost { due });
        if waits {
            bench.now += 300 * MS;
            (0..100).for_each(|_| bench.flush());
        }
        bench.capture.finish();
        assert_eq!(bench.capture.recording().missed, 0);
        let frames = bench.so_far().concat();
        let comments = frames.iter().map(|read| read.comment.as_str());
        let lost: Vec<&str> = comments.filter(|it| it.contains("no answer")).collect();
        let expected = [
            "ping 1 of vm0 → vm9: no answer in time",
            "ping 10000 of vm0 → vm9: no answer in time",
        ];
        assert_eq!((lost, frames.len()), (expected.to_vec(), 6), "{waits}");
    }
}

#[test]
fn pings_that_are_sent_at_one_time_are_told_apart_around_a_loss() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(10),
        ..CONFIG
    });
    let at = Instant::from_nanos(MS);
    for sequence in 0..3 {
        bench.now = at.as_nanos() - US;
        bench.sends(sequence);
    }
    for (sequence, micros) in [(2, 5), (1, 9)] {
        let answered = PingOutcome::Answered {
            due: at,
            sent: at,
            received: Instant::from_nanos(at.as_nanos() + micros * US),
        };
        bench.outcome(0, sequence, answered);
    }
    bench.outcome(0, 0, PingOutcome::Lost { due: at });
    assert_eq!(
        bench.comments(),
        [
            "ping 0 of vm0 → vm9: no answer in time",
            "ping 1 of vm0 → vm9: answered 9.00 µs later",
            "ping 2 of vm0 → vm9: answered 5.00 µs later",
        ]
    );
}

#[test]
fn a_loss_is_found_however_few_bytes_of_its_frames_are_captured() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(0),
        snap: Some(14),
        ..CONFIG
    });
    let due = bench.sends(0);
    bench.outcome(0, 0, PingOutcome::Lost { due });
    bench.capture.finish();
    assert_eq!(bench.capture.recording().missed, 0);
    let frames = bench.so_far().concat();
    let seen: Vec<_> = frames
        .iter()
        .map(|read| (read.captured, read.length))
        .collect();
    assert_eq!(seen, [(14, 98)]);
    assert!(frames[0].comment.starts_with("ping 0 of vm0"));
}

#[test]
fn a_reply_that_a_member_owes_is_a_loss_whose_frames_are_written() {
    for pinging in [0, 5] {
        for is_last in [false, true] {
            let mut bench = Bench::new(&CaptureConfig {
                around_loss: Some(1),
                vms: Some((VmId(pinging), VmId(9))),
                ..CONFIG
            });
            let due = bench.sends(0);
            bench.frame(9, Direction::In, &request(0, 9, 0));
            for is_first in [true, false] {
                let member = PingOutcome::Member {
                    member: crate::vm::MemberId(u32::from(is_first)),
                    is_first,
                    is_last: is_last && !is_first,
                    due,
                    sent: due,
                    received: bench.at(),
                };
                bench.outcome(0, 0, member);
                bench.now += MS;
            }
            for sequence in 1..10 {
                bench.ping(sequence);
                bench.flush();
            }
            bench.now += 1_000 * MS;
            if !is_last {
                bench.outcome(0, 0, PingOutcome::MembersLost { due });
                bench.outcome(0, 0, PingOutcome::Late { lost: None });
            }
            bench.flush();
            bench.capture.finish();
            assert_eq!(bench.capture.recording().missed, 0);
            let frames = bench.so_far().concat();
            let comments = frames.iter().map(|read| read.comment.as_str());
            let owed = comments.filter(|it| it.ends_with("not every member answered"));
            let owed: Vec<&str> = owed.collect();
            match is_last {
                true => assert_eq!(frames, []),
                false => assert!(owed.contains(&"ping 0 of vm0 → vm9: not every member answered")),
            }
        }
    }
}

#[test]
fn frames_around_a_loss_say_what_was_done_to_them() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(1),
        ..CONFIG
    });
    let mut impaired = Impaired::default();
    impaired.add(Impairment::Lost);
    bench.now = US;
    let due = bench.at();
    for (sequence, impaired, refused) in [
        (0, impaired, None),
        (1, Impaired::default(), Some(WriteDrop::QueueFull)),
    ] {
        let observed = Observed {
            vm: VmId(0),
            direction: Direction::Out,
            frame: &request(0, 9, sequence),
            impaired,
            refused,
        };
        bench.capture.frame(due, &observed);
    }
    bench.outcome(0, 0, PingOutcome::Lost { due });
    assert_eq!(
        bench.comments(),
        [
            "ping 0 of vm0 → vm9: no answer in time; lost by --impair",
            "ping 1 of vm0 → vm9: not known yet; not sent: the queue is full",
        ]
    );
}

#[test]
fn a_ping_whose_vm_stops_is_abandoned_and_not_lost() {
    let mut bench = Bench::new(&CONFIG);
    let due = bench.sends(0);
    bench.outcome(0, 0, PingOutcome::Abandoned { due });
    assert_eq!(
        bench.comments(),
        ["ping 0 of vm0 → vm9: ended: its VM stopped"]
    );
}

fn around(bench: &Bench) -> &AroundLoss {
    match &bench.capture.way {
        Way::AroundLoss(around) => around,
        way => panic!("it is another way: {way:?}"),
    }
}

#[test]
fn the_ring_of_last_frames_has_a_bound_in_time_and_in_memory() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(1),
        ..CONFIG
    });
    let large = vec![0xff; 60_000];
    for sequence in 0..3_000 {
        bench.sends(sequence);
        bench.frame(1, Direction::In, &large);
        bench.flush();
        let kept = (2 * (sequence as usize + 1)).min(2 * MAX_KEPT / 66_000);
        assert!(around(&bench).len() >= kept && around(&bench).size() <= MAX_KEPT);
    }
    // Nothing is heard of those pings, and no more is expected.
    bench.now += 1_200 * MS;
    (0..4).for_each(|_| bench.flush());
    assert_eq!(around(&bench).len(), 1);
}

#[test]
fn while_pings_are_answered_the_ring_keeps_the_frames_of_those_on_their_way_and_those_before_them()
{
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(6),
        ..CONFIG
    });
    for sequence in 0..1_000 {
        bench.ping(sequence);
        bench.flush();
        assert!(around(&bench).len() <= 6);
    }
    // One that is not answered, and the frames of those that follow it, however many.
    let due = bench.sends(1_000);
    for sequence in 1_001..6_001 {
        bench.ping(sequence);
        bench.flush();
    }
    assert_eq!(around(&bench).len(), 6 + 1 + 4 * 5_000);
    bench.now += 1_000 * MS;
    bench.outcome(0, 1_000, PingOutcome::Lost { due });
    // They go in turns, so that none is long.
    bench.flush();
    assert!(around(&bench).len() > 4 * 5_000 - PIECE);
    (0..4 * 5_000 / PIECE).for_each(|_| bench.flush());
    assert_eq!(around(&bench).len(), 6);
    let frames = bench.read().concat();
    let request = frames.iter().position(|read| {
        read.comment == "ping 1000 of vm0 → vm9: no answer in time" && read.interface == "tap0"
    });
    assert_eq!((request, frames.len()), (Some(6), 13));
    assert!(
        frames
            .iter()
            .all(|read| !read.comment.contains("not known"))
    );
}

#[test]
fn pings_that_ended_beside_a_lost_one_say_how() {
    let mut bench = Bench::new(&CaptureConfig {
        around_loss: Some(10),
        ..CONFIG
    });
    let due = bench.sends(0);
    let error = crate::vm::PingError::HostUnreachable;
    let outcomes = [
        PingOutcome::Abandoned { due },
        PingOutcome::Errored {
            due,
            sent: due,
            error,
        },
        PingOutcome::Lost { due },
    ];
    bench.sends(1);
    bench.sends(2);
    for (sequence, outcome) in outcomes.into_iter().enumerate() {
        bench.outcome(0, sequence as u64, outcome);
    }
    assert_eq!(
        bench.comments(),
        [
            "ping 0 of vm0 → vm9: ended: its VM stopped",
            "ping 1 of vm0 → vm9: reported undeliverable, host_unreachable",
            "ping 2 of vm0 → vm9: no answer in time",
        ]
    );
}

#[test]
fn a_file_ends_at_its_limit_and_the_frames_after_it_are_counted() {
    let mut bench = Bench::new(&CaptureConfig {
        limit: Some(CaptureLimit {
            bytes: 2_000,
            files: 1,
        }),
        ..CONFIG
    });
    (0..10).for_each(|sequence| bench.ping(sequence));
    bench.flush();
    bench.capture.finish();
    let counts = bench.capture.recording();
    let files = bench.so_far();
    let written = files.concat().len() as u64;
    assert!(
        counts.ended.as_deref() == Some(LIMIT_REACHED) && written > 4,
        "{counts:?}"
    );
    assert_eq!((counts.records, counts.dropped), (written, 40 - written));
    assert!(bench.cup.0.borrow().files[0].len() <= 2_000);
    assert_eq!(counts.bytes, bench.cup.0.borrow().files[0].len() as u64);
}

#[test]
fn files_of_a_ring_are_each_whole_and_none_is_larger_than_its_limit() {
    let mut bench = Bench::new(&CaptureConfig {
        limit: Some(CaptureLimit {
            bytes: 2_000,
            files: 3,
        }),
        ..CONFIG
    });
    (0..20).for_each(|sequence| bench.ping(sequence));
    bench.flush();
    bench.capture.finish();
    let counts = bench.capture.recording();
    let files = bench.so_far();
    assert_eq!((counts.records, counts.dropped), (80, 0));
    assert_eq!(counts.files, files.len() as u64);
    assert!(files.len() > 3 && files.iter().all(|file| !file.is_empty()));
    assert!(
        bench
            .cup
            .0
            .borrow()
            .files
            .iter()
            .all(|file| file.len() <= 2_000)
    );
    for (file, frames) in bench.cup.0.borrow().files.iter().zip(&files) {
        assert_eq!(statistics(file), (frames.len() as u64, 0));
    }
    let times: Vec<u64> = files.concat().iter().map(|read| read.nanos / US).collect();
    assert_eq!(times, (1..=80).collect::<Vec<_>>());
}

#[test]
fn a_slow_reader_costs_counted_frames_and_the_next_frame_tells() {
    let mut bench = Bench::new(&CaptureConfig {
        has_comments: false,
        ..CONFIG
    });
    bench.cup.0.borrow_mut().room = 0;
    let large = vec![0xff; 60_000];
    for _ in 0..200 {
        bench.frame(1, Direction::In, &large);
        bench.flush();
    }
    let dropped = bench.capture.recording().dropped;
    assert!(dropped > 50, "{dropped}");
    bench.cup.0.borrow_mut().room = usize::MAX;
    bench.capture.resume();
    bench.flush();
    bench.frame(1, Direction::In, &[1; 60]);
    bench.capture.finish();
    let counts = bench.capture.recording();
    let frames = bench.so_far().concat();
    assert_eq!(frames.len() as u64, counts.records);
    assert_eq!(counts.records + counts.dropped, 201);
    let seen = statistics(&bench.cup.0.borrow().files[0]);
    assert_eq!(seen, (201, counts.dropped));
    let told: u64 = frames.iter().map(|read| read.dropped).sum();
    assert_eq!(told, counts.dropped);
}

#[test]
fn a_ping_has_the_target_of_its_flow_whatever_its_frame_is_addressed_to() {
    let mut bench = Bench::new(&CONFIG);
    let target = Target::Address([192, 0, 2, 1].into());
    bench.capture.flow(FlowId(0), VmId(0), SessionId(0), target);
    bench.ping(0);
    let comments = bench.comments();
    assert_eq!(
        comments[0],
        "ping 0 of vm0 → 192.0.2.1: answered 3.00 µs later"
    );
}

#[test]
fn a_frame_that_the_fabric_refused_says_so() {
    let mut bench = Bench::new(&CONFIG);
    let frame = request(0, 9, 0);
    let observed = Observed {
        vm: VmId(0),
        direction: Direction::Out,
        frame: &frame,
        impaired: Impaired::default(),
        refused: Some(WriteDrop::LinkDown),
    };
    bench.capture.frame(Instant::ZERO, &observed);
    bench.outcome(0, 0, PingOutcome::Lost { due: Instant::ZERO });
    assert_eq!(
        bench.comments(),
        ["ping 0 of vm0 → vm9: no answer in time; not sent: the interface is down"]
    );
}
