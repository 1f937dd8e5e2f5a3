//! One VM beside a plain model of its neighbours and pings: whatever comes when, both must say and send the same.
//!
//! The model keeps everything in maps, looks at all of it at every tick, and knows nothing of queues and deadlines.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::wire::{
    IcmpErrorKind, Icmpv6EchoRequest, Ipv6Envelope, NeighbourAdvertisement, NeighbourSolicitation,
    multicast_mac, solicited_node, turn_into_icmp_error, turn_into_icmpv6_echo_reply,
};

/// The model looks at the world twenty times a second; everything that has a deadline is a multiple of that.
const TICK: u64 = 50;
const PAYLOAD: usize = 16;

/// Peers, each with a session of its own: those below [`FIRST_IPV6`] on IPv4, the others on IPv6.
const PEERS: u8 = 4;
const FIRST_IPV6: u8 = 2;
const IPV6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// How long a confirmation lasts, in milliseconds.
const REACHABLE: u64 = 30_000;

fn address(peer: u8) -> IpAddr {
    match peer {
        0..FIRST_IPV6 => ipv4(peer).into(),
        _ => ipv6(peer).into(),
    }
}

fn ipv4(peer: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, peer)
}

fn ipv6(peer: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, peer.into())
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
    /// The peer, or somebody who says so, sends an ARP packet from that hardware address.
    Arp { peer: u8, mac: u8, kind: Arp },
    /// The same, a neighbour solicitation for the VM's address.
    Solicitation { peer: u8, mac: u8 },
    /// The same, a neighbour advertisement.
    Advertisement {
        peer: u8,
        mac: Option<u8>,
        solicited: bool,
        overrides: bool,
    },
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

#[derive(Clone, Copy, Debug)]
enum Arp {
    RequestToUs,
    RequestToAnother,
    Announcement,
    ReplyToUs,
    ReplyToAll,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let peer = || 0..PEERS;
    let (peer4, peer6) = (0..FIRST_IPV6, FIRST_IPV6..PEERS);
    let arp = prop::sample::select(vec![
        Arp::RequestToUs,
        Arp::RequestToAnother,
        Arp::Announcement,
        Arp::ReplyToUs,
        Arp::ReplyToAll,
    ]);
    let one = prop_oneof![
        3 => (0u64..30).prop_map(Happening::Time),
        1 => (90u64..110).prop_map(Happening::Time),
        1 => (550u64..700).prop_map(Happening::Time),
        6 => peer().prop_map(Happening::Ping),
        4 => (peer4, 0u8..4, arp)
            .prop_map(|(peer, mac, kind)| Happening::Arp { peer, mac, kind }),
        1 => (peer6.clone(), 0u8..4)
            .prop_map(|(peer, mac)| Happening::Solicitation { peer, mac }),
        3 => (peer6, prop::option::of(0u8..4), any::<bool>(), any::<bool>())
            .prop_map(|(peer, mac, solicited, overrides)| {
                Happening::Advertisement { peer, mac, solicited, overrides }
            }),
        4 => (peer(), 0u16..12, prop::bool::weighted(0.9))
            .prop_map(|(peer, sequence, is_sound)| Happening::Reply { peer, sequence, is_sound }),
        3 => (peer(), 0u64..3, prop::bool::weighted(0.8))
            .prop_map(|(peer, back, is_sound)| Happening::ReplyFromLast { peer, back, is_sound }),
        1 => (0..FIRST_IPV6, 0u16..12)
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
        /// When it got there, or into its state.
        changed: u64,
        state: Known,
    },
    GivenUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Reachable { confirmed: u64 },
    Stale,
    Delayed { since: u64 },
    Probed { last: u64, requests: u8 },
}

/// If a message is believed against what is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Believed {
    Yes,
    OneSecondAfterAChange,
    No,
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
        let target = address(peer);
        let IpAddr::V6(ipv6) = target else {
            let to = last.map_or("broadcast".to_owned(), |mac| mac.to_string());
            let asked = format!("{MAC} > {to}, ARP request who-has {target} tell {IP}");
            return self.told.push(asked);
        };
        let group = solicited_node(ipv6);
        let (to, destination) = match last {
            Some(mac) => (mac, ipv6),
            None => (multicast_mac(group), group),
        };
        self.told.push(format!(
            "{MAC} > {to}, IPv6 {IPV6} > {destination}, neighbour solicitation, who has {target}"
        ));
    }

    fn send(&mut self, peer: u8, sequence: u64, mac: MacAddr) {
        let Some(Fate::Waits { due }) = self.pings.get(&(peer, sequence)).copied() else {
            panic!("{peer} {sequence} does not wait");
        };
        let at = self.now;
        self.pings.insert((peer, sequence), Fate::Sent { due, at });
        let ping = match address(peer) {
            IpAddr::V4(to) => format!("IPv4 {IP} > {to}, ICMP"),
            IpAddr::V6(to) => format!("IPv6 {IPV6} > {to}, ICMPv6"),
        };
        self.told.push(format!(
            "{MAC} > {mac}, {ping} echo request id {peer} seq {sequence} ({PAYLOAD} bytes)"
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
            None | Some(Neighbour::GivenUp) => {
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
                changed,
                state,
            }) => {
                let mac = *mac;
                match *state {
                    Known::Reachable { confirmed } if now - confirmed < REACHABLE => {}
                    Known::Reachable { .. } | Known::Stale => {
                        (*state, *changed) = (Known::Delayed { since: now }, now);
                    }
                    Known::Delayed { .. } | Known::Probed { .. } => {}
                }
                self.send(peer, sequence, mac);
            }
        }
    }

    /// The place that a message gives a peer, now or before. Returns false if that is not known, and remains so.
    fn hear(
        &mut self,
        peer: u8,
        sender: Option<MacAddr>,
        is_answer: bool,
        believed: Believed,
        (adds, revives): (bool, bool),
    ) -> bool {
        let now = self.now;
        let told = if is_answer {
            Known::Reachable { confirmed: now }
        } else {
            Known::Stale
        };
        match self.neighbours.get(&peer).cloned() {
            None if !adds => false,
            Some(Neighbour::GivenUp) if !revives => false,
            None | Some(Neighbour::GivenUp) => {
                let known = sender.map(|mac| Neighbour::Known {
                    mac,
                    changed: now,
                    state: told,
                });
                self.neighbours.extend(known.map(|known| (peer, known)));
                true
            }
            Some(Neighbour::Asked { since, waiting, .. }) => {
                let Some(mac) = sender else {
                    return true;
                };
                let is_used = !is_answer && !waiting.is_empty();
                let delayed = Known::Delayed { since: now };
                let known = Neighbour::Known {
                    mac,
                    changed: now,
                    state: if is_used { delayed } else { told },
                };
                self.neighbours.insert(peer, known);
                let resolved = Event::Resolved {
                    address: address(peer),
                    mac,
                    elapsed: Duration::from_millis(now - since),
                };
                self.told.push(format!("{resolved:?}"));
                for sequence in waiting {
                    self.send(peer, sequence, mac);
                }
                true
            }
            Some(Neighbour::Known {
                mac,
                changed,
                state,
            }) => {
                let is_fresh =
                    matches!(state, Known::Reachable { confirmed } if now - confirmed < REACHABLE);
                let is_other = sender.is_some_and(|sender| sender != mac);
                let moves = match believed {
                    Believed::Yes => is_other,
                    Believed::OneSecondAfterAChange => is_other && now > changed + 1_000,
                    Believed::No => false,
                };
                let (mac, changed, state) = if moves {
                    (sender.unwrap(), now, told)
                } else if is_other && believed == Believed::No && is_fresh {
                    (mac, now, Known::Stale)
                } else if is_answer && !is_other {
                    (mac, if is_fresh { changed } else { now }, told)
                } else {
                    (mac, changed, state)
                };
                let known = Neighbour::Known {
                    mac,
                    changed,
                    state,
                };
                self.neighbours.insert(peer, known);
                true
            }
        }
    }

    fn arp(&mut self, peer: u8, sender: MacAddr, kind: Arp) {
        let locked = Believed::OneSecondAfterAChange;
        let (is_answer, believed, adds) = match kind {
            Arp::RequestToUs => (false, Believed::Yes, true),
            Arp::Announcement => (false, Believed::Yes, false),
            Arp::RequestToAnother | Arp::ReplyToAll => (false, locked, false),
            Arp::ReplyToUs => (true, locked, false),
        };
        let is_known = self.hear(peer, Some(sender), is_answer, believed, (adds, true));
        match kind {
            Arp::RequestToUs => self
                .told
                .push(format!("{MAC} > {sender}, ARP reply {IP} is-at {MAC}")),
            Arp::ReplyToUs | Arp::ReplyToAll if !is_known => {
                self.ignore(Ignored::UnexpectedArpReply);
            }
            _ if !is_known => self.ignore(Ignored::OtherTarget),
            _ => {}
        }
    }

    fn solicitation(&mut self, peer: u8, sender: MacAddr) {
        self.hear(peer, Some(sender), false, Believed::Yes, (true, true));
        let to = address(peer);
        self.told.push(format!(
            "{MAC} > {sender}, IPv6 {IPV6} > {to}, neighbour advertisement, {IPV6} is at {MAC} solicited override"
        ));
    }

    fn advertisement(
        &mut self,
        peer: u8,
        sender: Option<MacAddr>,
        solicited: bool,
        overrides: bool,
    ) {
        let believed = if overrides {
            Believed::Yes
        } else {
            Believed::No
        };
        if !self.hear(peer, sender, solicited, believed, (false, false)) {
            self.ignore(Ignored::UnexpectedAdvertisement);
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
                sent: ms(at),
                error,
            },
        );
    }

    fn give_up(&mut self, peer: u8, waiting: Vec<u64>) {
        for sequence in waiting {
            let Some(Fate::Waits { due }) = self.pings.insert((peer, sequence), Fate::GivenUp)
            else {
                panic!("{peer} {sequence} does not wait");
            };
            self.tell(peer, sequence, PingOutcome::Unresolved { due: ms(due) });
        }
    }

    /// Whatever is overdue.
    fn tick(&mut self) {
        let now = self.now;
        for (peer, neighbour) in self.neighbours.clone() {
            match neighbour {
                Neighbour::Asked {
                    since,
                    last,
                    requests,
                    waiting,
                } if now - last >= 1_000 => {
                    if requests < 3 {
                        let asked = Neighbour::Asked {
                            since,
                            last: now,
                            requests: requests + 1,
                            waiting,
                        };
                        self.neighbours.insert(peer, asked);
                        self.ask(peer, None);
                    } else {
                        self.neighbours.insert(peer, Neighbour::GivenUp);
                        self.give_up(peer, waiting);
                    }
                }
                Neighbour::Known {
                    mac,
                    changed,
                    state,
                } => {
                    let (changed, state) = match state {
                        Known::Delayed { since } if now - since >= 5_000 => {
                            let (last, requests) = (now, 1);
                            (now, Known::Probed { last, requests })
                        }
                        Known::Probed { last, requests: 3 } if now - last >= 1_000 => {
                            self.neighbours.insert(peer, Neighbour::GivenUp);
                            continue;
                        }
                        Known::Probed { last, requests } if now - last >= 1_000 => {
                            let (last, requests) = (now, requests + 1);
                            (changed, Known::Probed { last, requests })
                        }
                        _ => continue,
                    };
                    let known = Neighbour::Known {
                        mac,
                        changed,
                        state,
                    };
                    self.neighbours.insert(peer, known);
                    self.ask(peer, Some(mac));
                }
                Neighbour::Asked { .. } | Neighbour::GivenUp => {}
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
        let mut config = VmConfig::new(MAC, IP);
        config.ipv6 = Some(Ipv6Config {
            interface: Some(Ipv6Interface {
                address: IPV6,
                prefix_length: 64,
            }),
            probe: false,
            slaac: false,
            dhcp: false,
            report: Duration::MAX,
            gateway: None,
            announce: None,
        });
        let mut vm = Vm::new(ms(0), config);
        vm.neighbours
            .set_reachable_time(Duration::from_millis(REACHABLE));
        for peer in 0..PEERS {
            let config = SessionConfig {
                destination: address(peer),
                probe: Probe::ICMP_ECHO,
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
        for peer in 0..PEERS {
            while let Some(event) = self.vm.expire(self.now, SessionId(peer.into())) {
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

fn fill(sequence: u16, is_sound: bool) -> impl Fn(&mut [u8]) {
    move |payload| {
        fill_payload(sequence.into(), payload);
        payload[9] ^= u8::from(!is_sound);
    }
}

/// A ping of ours to a peer on IPv4 as it was sent.
fn request(peer: u8, sequence: u16, is_sound: bool) -> Vec<u8> {
    let mut frame = vec![0; 600];
    let request = EchoRequest {
        envelope: envelope((MAC, IP), (mac(peer), ipv4(peer))),
        identifier: peer.into(),
        sequence,
    };
    let length = request.write(PAYLOAD, fill(sequence, is_sound), &mut frame);
    assert_eq!(length, Some(ECHO_FRAME_OVERHEAD + PAYLOAD));
    frame
}

/// The reply of a peer to a ping of ours.
fn reply(peer: u8, sequence: u16, is_sound: bool) -> Vec<u8> {
    let (mut frame, length);
    if peer < FIRST_IPV6 {
        frame = request(peer, sequence, is_sound);
        length = turn_into_echo_reply(&mut frame, 20, mac(peer), 64, 1);
    } else {
        frame = vec![0; 600];
        let request = Icmpv6EchoRequest {
            envelope: Ipv6Envelope {
                source_mac: MAC,
                destination_mac: mac(peer),
                source: IPV6,
                destination: ipv6(peer),
                ..from6(peer, peer)
            },
            identifier: peer.into(),
            sequence,
        };
        let written = request.write(PAYLOAD, fill(sequence, is_sound), &mut frame);
        frame.truncate(written.unwrap());
        length = turn_into_icmpv6_echo_reply(&mut frame, 54, mac(peer), ipv6(peer), 64);
    }
    frame.truncate(length.unwrap());
    frame
}

/// The headers of a packet from a peer, which is at that hardware address, to us.
fn from6(peer: u8, sender: u8) -> Ipv6Envelope {
    Ipv6Envelope {
        source_mac: mac(sender),
        destination_mac: MAC,
        source: ipv6(peer),
        destination: IPV6,
        traffic_class: 0,
        hop_limit: 64,
    }
}

fn built6(
    peer: u8,
    sender: u8,
    write: impl FnOnce(Ipv6Envelope, &mut [u8]) -> Option<usize>,
) -> Vec<u8> {
    let mut frame = vec![0; 600];
    let length = write(from6(peer, sender), &mut frame).unwrap();
    frame.truncate(length);
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
            kind,
        } => {
            let (all, another) = (MacAddr::BROADCAST, Ipv4Addr::new(10, 77, 9, 9));
            let (operation, target, destination) = match kind {
                Arp::RequestToUs => (ArpPacket::REQUEST, IP, all),
                Arp::RequestToAnother => (ArpPacket::REQUEST, another, all),
                Arp::Announcement => (ArpPacket::REQUEST, ipv4(peer), all),
                Arp::ReplyToUs => (ArpPacket::REPLY, IP, MAC),
                Arp::ReplyToAll => (ArpPacket::REPLY, IP, all),
            };
            subject.receive(&arp(
                operation,
                mac(sender),
                ipv4(peer),
                target,
                destination,
            ));
            model.arp(peer, mac(sender), kind);
        }
        Happening::Solicitation { peer, mac: sender } => {
            let message = NeighbourSolicitation {
                target: IPV6,
                source_link: Some(mac(sender)),
                nonce: None,
            };
            subject.receive(&built6(peer, sender, |envelope, frame| {
                message.write(envelope, frame)
            }));
            model.solicitation(peer, mac(sender));
        }
        Happening::Advertisement {
            peer,
            mac: sender,
            solicited,
            overrides,
        } => {
            let message = NeighbourAdvertisement {
                target: ipv6(peer),
                target_link: sender.map(mac),
                router: false,
                solicited,
                overrides,
            };
            subject.receive(&built6(peer, 9, |envelope, frame| {
                message.write(envelope, frame)
            }));
            model.advertisement(peer, sender.map(mac), solicited, overrides);
        }
        Happening::Reply {
            peer,
            sequence,
            is_sound,
        } => {
            subject.receive(&reply(peer, sequence, is_sound));
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
                turn_into_icmp_error(&mut frame, (kind, 0), mac(9), ipv4(9), 64, 1).unwrap();
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
