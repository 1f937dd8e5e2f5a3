//! One VM beside a plain model of its neighbours and pings: whatever comes when, both must say and send the same.
//!
//! The model keeps everything in maps, looks at all of it at every tick, and knows nothing of queues and deadlines.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::{IcmpErrorKind, turn_into_icmp_error};

/// The model looks at the world twenty times a second; everything that has a deadline is a multiple of that.
const TICK: u64 = 50;
const PAYLOAD: usize = 16;

fn address(peer: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, peer)
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, number])
}

/// Something that happens to the VM.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// So many ticks pass.
    Time(u64),
    /// A ping of the session to that peer is due.
    Ping(u8),
    /// The peer, or somebody who says so, sends an ARP request or reply from that hardware address.
    Arp { peer: u8, mac: u8, is_request: bool },
    /// A reply to a ping arrives, with the right payload or another.
    Reply {
        peer: u8,
        sequence: u16,
        is_sound: bool,
    },
    /// The same for one of the newest pings, counted from the last.
    ReplyFromLast { peer: u8, back: u64, is_sound: bool },
    /// A router reports a ping undeliverable.
    Error { peer: u8, sequence: u16 },
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let peer = || 0u8..3;
    let one = prop_oneof![
        3 => (0u64..30).prop_map(Happening::Time),
        1 => (1_100u64..1_400).prop_map(Happening::Time),
        6 => peer().prop_map(Happening::Ping),
        3 => (peer(), 0u8..5, any::<bool>())
            .prop_map(|(peer, mac, is_request)| Happening::Arp { peer, mac, is_request }),
        4 => (peer(), 0u16..12, prop::bool::weighted(0.9))
            .prop_map(|(peer, sequence, is_sound)| Happening::Reply { peer, sequence, is_sound }),
        3 => (peer(), 0u64..3, prop::bool::weighted(0.8))
            .prop_map(|(peer, back, is_sound)| Happening::ReplyFromLast { peer, back, is_sound }),
        1 => (peer(), 0u16..12)
            .prop_map(|(peer, sequence)| Happening::Error { peer, sequence }),
    ];
    prop::collection::vec(one, 1..120)
}

#[derive(Clone, Debug)]
enum Neighbour {
    Asked {
        since: u64,
        last: u64,
        requests: u8,
        waiting: Vec<u64>,
    },
    Known {
        mac: MacAddr,
        confirmed: u64,
        /// When it was last asked whether it is there still, and how often.
        check: Option<(u64, u8)>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Waits { due: u64 },
    Sent { due: u64, at: u64 },
    Answered,
    GivenUp,
}

/// The state that the VM ought to have, with times in milliseconds.
#[derive(Default, Debug)]
struct Model {
    now: u64,
    neighbours: BTreeMap<u8, Neighbour>,
    /// By peer and sequence number. The peer is the session as well.
    pings: BTreeMap<(u8, u64), Fate>,
    told: Vec<String>,
}

impl Model {
    fn tell(&mut self, peer: u8, sequence: u64, outcome: PingOutcome) {
        let ping = PingId {
            session: SessionId(peer.into()),
            sequence,
        };
        self.told.push(format!("{:?}", Event::Ping(ping, outcome)));
    }

    fn ignore(&mut self, ignored: Ignored) {
        self.told.push(format!("{:?}", Event::Ignored(ignored)));
    }

    fn ask(&mut self, peer: u8, last: Option<MacAddr>) {
        let to = last.map_or("broadcast".to_owned(), |mac| mac.to_string());
        let (who, tell) = (address(peer), IP);
        self.told.push(format!(
            "{MAC} > {to}, ARP request who-has {who} tell {tell}"
        ));
    }

    fn send(&mut self, peer: u8, sequence: u64, mac: MacAddr) {
        let Some(Fate::Waits { due }) = self.pings.get(&(peer, sequence)).copied() else {
            panic!("{peer} {sequence} does not wait");
        };
        let at = self.now;
        self.pings.insert((peer, sequence), Fate::Sent { due, at });
        let to = address(peer);
        self.told.push(format!(
            "{MAC} > {mac}, IPv4 {IP} > {to}, ICMP echo request id {peer} seq {sequence} ({PAYLOAD} bytes)"
        ));
    }

    /// Pings to the peer that were started so far.
    fn started(&self, peer: u8) -> u64 {
        self.pings.range((peer, 0)..=(peer, u64::MAX)).count() as u64
    }

    fn ping(&mut self, peer: u8) {
        let sequence = self.started(peer);
        let now = self.now;
        self.pings
            .insert((peer, sequence), Fate::Waits { due: now });
        match self.neighbours.get_mut(&peer) {
            None => {
                let asked = Neighbour::Asked {
                    since: now,
                    last: now,
                    requests: 1,
                    waiting: vec![sequence],
                };
                self.neighbours.insert(peer, asked);
                self.ask(peer, None);
            }
            Some(Neighbour::Asked { waiting, .. }) => waiting.push(sequence),
            Some(Neighbour::Known {
                mac,
                confirmed,
                check,
            }) => {
                let mac = *mac;
                let is_stale = check.is_none() && now - *confirmed >= 60_000;
                if is_stale {
                    *check = Some((now, 1));
                }
                self.send(peer, sequence, mac);
                if is_stale {
                    self.ask(peer, Some(mac));
                }
            }
        }
    }

    fn arp(&mut self, peer: u8, sender: MacAddr, is_request: bool) {
        let known = Neighbour::Known {
            mac: sender,
            confirmed: self.now,
            check: None,
        };
        match self.neighbours.get(&peer).cloned() {
            None if is_request => {
                self.neighbours.insert(peer, known);
            }
            None => self.ignore(Ignored::UnexpectedArpReply),
            Some(Neighbour::Asked { since, waiting, .. }) => {
                self.neighbours.insert(peer, known);
                let resolved = Event::Resolved {
                    address: address(peer).into(),
                    mac: sender,
                    elapsed: Duration::from_millis(self.now - since),
                };
                self.told.push(format!("{resolved:?}"));
                for sequence in waiting {
                    self.send(peer, sequence, sender);
                }
            }
            Some(Neighbour::Known {
                mac,
                confirmed,
                check,
            }) => {
                let is_fresh = check.is_none() && self.now - confirmed < 60_000;
                if !is_fresh || mac == sender {
                    self.neighbours.insert(peer, known);
                }
            }
        }
        if is_request {
            self.told
                .push(format!("{MAC} > {sender}, ARP reply {IP} is-at {MAC}"));
        }
    }

    fn reply(&mut self, peer: u8, sequence: u64, is_sound: bool) {
        let fate = self.pings.get(&(peer, sequence)).copied();
        let received = ms(self.now);
        let outcome = match fate {
            None | Some(Fate::Waits { .. }) => return self.ignore(Ignored::UnexpectedEchoReply),
            Some(Fate::Answered) => PingOutcome::Duplicate,
            Some(Fate::GivenUp) => PingOutcome::Late { lost: None },
            Some(Fate::Sent { due, at }) if Duration::from_millis(self.now - at) > TIMEOUT => {
                self.pings.insert((peer, sequence), Fate::GivenUp);
                PingOutcome::Late {
                    lost: Some(ms(due)),
                }
            }
            Some(Fate::Sent { due, .. }) if !is_sound => {
                self.pings.insert((peer, sequence), Fate::GivenUp);
                PingOutcome::Corrupt { due: ms(due) }
            }
            Some(Fate::Sent { due, at }) => {
                self.pings.insert((peer, sequence), Fate::Answered);
                let (due, sent) = (ms(due), ms(at));
                PingOutcome::Answered {
                    due,
                    sent,
                    received,
                }
            }
        };
        self.tell(peer, sequence, outcome);
    }

    fn error(&mut self, peer: u8, sequence: u64) {
        let fate = self.pings.get(&(peer, sequence)).copied();
        let Some(Fate::Sent { due, at }) = fate else {
            return self.ignore(Ignored::UnexpectedIcmpError);
        };
        if Duration::from_millis(self.now - at) > TIMEOUT {
            return self.ignore(Ignored::UnexpectedIcmpError);
        }
        self.pings.insert((peer, sequence), Fate::GivenUp);
        let error = PingError::HostUnreachable;
        self.tell(
            peer,
            sequence,
            PingOutcome::Errored {
                due: ms(due),
                error,
            },
        );
    }

    /// Whatever is overdue.
    fn tick(&mut self) {
        let now = self.now;
        for (peer, neighbour) in self.neighbours.clone() {
            let (last, requests, to) = match &neighbour {
                Neighbour::Asked { last, requests, .. } => (*last, *requests, None),
                Neighbour::Known {
                    check: Some((last, requests)),
                    mac,
                    ..
                } => (*last, *requests, Some(*mac)),
                Neighbour::Known { check: None, .. } => continue,
            };
            if now - last < 1_000 {
                continue;
            }
            if requests < 3 {
                match self.neighbours.get_mut(&peer) {
                    Some(Neighbour::Asked { last, requests, .. }) => {
                        (*last, *requests) = (now, *requests + 1)
                    }
                    Some(Neighbour::Known { check, .. }) => *check = Some((now, requests + 1)),
                    None => {}
                }
                self.ask(peer, to);
                continue;
            }
            self.neighbours.remove(&peer);
            if let Neighbour::Asked { waiting, .. } = neighbour {
                for sequence in waiting {
                    let Some(Fate::Waits { due }) =
                        self.pings.insert((peer, sequence), Fate::GivenUp)
                    else {
                        panic!("{peer} {sequence} does not wait");
                    };
                    self.tell(peer, sequence, PingOutcome::Unresolved { due: ms(due) });
                }
            }
        }
        for ((peer, sequence), fate) in self.pings.clone() {
            if let Fate::Sent { due, at } = fate
                && now - at >= 500
            {
                self.pings.insert((peer, sequence), Fate::GivenUp);
                self.tell(peer, sequence, PingOutcome::Lost { due: ms(due) });
            }
        }
    }
}

/// The VM under test, telling what it does in the model's words.
struct Subject {
    vm: Vm,
    buffer: Vec<u8>,
    now: Instant,
    told: Vec<String>,
}

impl Subject {
    fn new() -> Subject {
        let mut vm = Vm::new(ms(0), VmConfig::new(MAC, IP));
        for peer in 0..3 {
            let config = SessionConfig {
                destination: address(peer).into(),
                payload_length: PAYLOAD,
                timeout: TIMEOUT,
                options: PingOptions::default(),
            };
            vm.open_session(config).unwrap();
        }
        Subject {
            vm,
            buffer: vec![0; 2_000],
            now: ms(0),
            told: Vec::new(),
        }
    }

    fn note(&mut self, reaction: Reaction) {
        if let Some(transmit) = reaction.transmit {
            if let Some(ping) = transmit.ping {
                self.vm.stamp_sent(ping, self.now);
            }
            let frame = &self.buffer[..transmit.length];
            self.told.push(Describe(frame).to_string());
        }
        self.told
            .extend(reaction.event.map(|event| format!("{event:?}")));
    }

    fn ping(&mut self, peer: u8) {
        let session = SessionId(peer.into());
        match self.vm.ping(self.now, session, self.now, &mut self.buffer) {
            PingStart::Transmit(transmit) => self.note(Reaction {
                transmit: Some(transmit),
                event: None,
            }),
            PingStart::Waiting => {}
            other => panic!("{other:?}"),
        }
    }

    fn receive(&mut self, frame: &[u8]) {
        self.buffer[..frame.len()].copy_from_slice(frame);
        let reaction = self.vm.receive(self.now, &mut self.buffer, frame.len());
        self.note(reaction);
    }

    /// Does all that is ready, until it says that nothing is.
    fn settle(&mut self) {
        while let Some(reaction) = self.vm.poll(self.now, &mut self.buffer) {
            self.note(reaction);
        }
        for peer in 0..3 {
            while let Some(event) = self.vm.expire(self.now, SessionId(peer)) {
                self.note(Reaction {
                    transmit: None,
                    event: Some(event),
                });
            }
        }
        let deadline = self.vm.poll_at();
        assert!(
            deadline.is_none_or(|at| at > self.now),
            "{deadline:?} is past"
        );
    }
}

/// A ping of ours as it was sent.
fn request(peer: u8, sequence: u16, is_sound: bool) -> Vec<u8> {
    let mut frame = vec![0; 600];
    let request = EchoRequest {
        envelope: envelope((MAC, IP), (mac(peer), address(peer))),
        identifier: peer.into(),
        sequence,
    };
    let fill = |payload: &mut [u8]| {
        fill_payload(sequence.into(), payload);
        payload[9] ^= u8::from(!is_sound);
    };
    let length = request.write(PAYLOAD, fill, &mut frame).unwrap();
    assert_eq!(length, ECHO_FRAME_OVERHEAD + PAYLOAD);
    frame
}

fn apply(happening: Happening, subject: &mut Subject, model: &mut Model) {
    match happening {
        Happening::Time(_) => {}
        Happening::Ping(peer) => {
            subject.ping(peer);
            model.ping(peer);
        }
        Happening::Arp {
            peer,
            mac: sender,
            is_request,
        } => {
            let operation = if is_request {
                ArpPacket::REQUEST
            } else {
                ArpPacket::REPLY
            };
            subject.receive(&arp(operation, mac(sender), address(peer), IP, MAC));
            model.arp(peer, mac(sender), is_request);
        }
        Happening::Reply {
            peer,
            sequence,
            is_sound,
        } => {
            let mut frame = request(peer, sequence, is_sound);
            let length = turn_into_echo_reply(&mut frame, 20, mac(peer), 64, 1).unwrap();
            subject.receive(&frame[..length]);
            model.reply(peer, sequence.into(), is_sound);
        }
        Happening::ReplyFromLast {
            peer,
            back,
            is_sound,
        } => {
            if let Some(sequence) = model.started(peer).checked_sub(1 + back) {
                let sequence = sequence as u16;
                let reply = Happening::Reply {
                    peer,
                    sequence,
                    is_sound,
                };
                apply(reply, subject, model);
            }
        }
        Happening::Error { peer, sequence } => {
            let mut frame = request(peer, sequence, true);
            let kind = IcmpErrorKind { kind: 3, code: 1 };
            let length =
                turn_into_icmp_error(&mut frame, (kind, 0), mac(9), address(9), 64, 1).unwrap();
            subject.receive(&frame[..length]);
            model.error(peer, sequence.into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_vm_does_what_a_plain_model_of_it_does(happenings in happenings()) {
        let (mut subject, mut model) = (Subject::new(), Model::default());
        for happening in happenings {
            apply(happening, &mut subject, &mut model);
            let ticks = if let Happening::Time(ticks) = happening { ticks } else { 0 };
            for tick in 0..=ticks {
                if tick > 0 {
                    model.now += TICK;
                    subject.now = ms(model.now);
                }
                subject.settle();
                model.tick();
                subject.told.sort();
                model.told.sort();
                prop_assert_eq!(&subject.told, &model.told, "at {} ms, {:?}", model.now, happening);
                subject.told.clear();
                model.told.clear();
            }
        }
    }
}
