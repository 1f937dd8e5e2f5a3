//! A VM against a model of it: random sequences of pings, answers, lies, losses and times. The model knows each
//! neighbour and each ping by name and looks at all of them at every tick; it has no queues, no deadlines and no bytes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tap_reactor::time::Instant;
use tap_reactor::vm::{
    Event, PingOptions, PingOutcome, PingStart, REACHABLE_TIME, RETRY_INTERVAL, Reaction,
    SessionConfig, SessionId, Vm, VmConfig,
};
use tap_reactor::wire::{ARP_FRAME_LENGTH, ArpPacket, Describe, MacAddr, turn_into_echo_reply};

const MAC: MacAddr = MacAddr([2, 0, 10, 77, 0, 2]);
const IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Neighbours, each of which is pinged in a session of its own.
const NEIGHBOURS: usize = 3;
/// All times are multiples of this, in milliseconds.
const TICK: u64 = 50;
const TIMEOUT: u64 = 500;
/// Requests before a neighbour is given up.
const REQUESTS: u32 = 3;

fn address(neighbour: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 3 + neighbour as u8)
}

/// Where the neighbour is, or, with a `face` other than 0, where somebody says that it is.
fn mac(neighbour: usize, face: u8) -> MacAddr {
    MacAddr([2, face, 10, 77, 0, 3 + neighbour as u8])
}

/// What happens to the VM.
#[derive(Clone, Debug)]
enum Step {
    Ping(usize),
    /// An ARP packet from a neighbour.
    Arp {
        neighbour: usize,
        face: u8,
        is_request: bool,
    },
    /// An echo reply to one of the pings that were sent, counted from the last.
    Reply {
        neighbour: usize,
        back: usize,
        damaged: bool,
    },
    /// So many ticks pass.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let neighbour = 0..NEIGHBOURS;
    let wait = prop_oneof![1u64..4, 5u64..25, 15u64..70, 1000u64..1300];
    let step = prop_oneof![
        4 => neighbour.clone().prop_map(Step::Ping),
        4 => (neighbour.clone(), 0u8..2, any::<bool>())
            .prop_map(|(neighbour, face, is_request)| Step::Arp { neighbour, face, is_request }),
        4 => (neighbour, 0usize..3, prop::bool::weighted(0.2))
            .prop_map(|(neighbour, back, damaged)| Step::Reply { neighbour, back, damaged }),
        4 => wait.prop_map(Step::Wait),
    ];
    vec(step, 1..60)
}

/// What the model knows of a neighbour.
#[derive(Clone, Debug)]
enum Neighbour {
    Unknown,
    /// Asked for so many times, the last time then.
    Asked {
        times: u32,
        last: u64,
    },
    /// There, as it said then.
    Known {
        at: MacAddr,
        since: u64,
    },
    /// There, and asked again by unicast.
    Doubted {
        at: MacAddr,
        times: u32,
        last: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ping {
    Waiting,
    Sent(u64),
    Answered,
    GivenUp,
    /// Given up before it was sent.
    Unresolved,
}

struct Model {
    now: u64,
    neighbours: Vec<Neighbour>,
    pings: Vec<Vec<Ping>>,
    /// What the VM is to do at this tick.
    told: Vec<String>,
}

impl Model {
    fn new() -> Model {
        Model {
            now: 0,
            neighbours: vec![Neighbour::Unknown; NEIGHBOURS],
            pings: vec![Vec::new(); NEIGHBOURS],
            told: Vec::new(),
        }
    }

    fn send(&mut self, neighbour: usize, at: MacAddr) {
        for (number, ping) in self.pings[neighbour].iter_mut().enumerate() {
            if *ping == Ping::Waiting {
                *ping = Ping::Sent(self.now);
                self.told.push(format!("ping {neighbour} {number} to {at}"));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ping(neighbour) => {
                self.pings[neighbour].push(Ping::Waiting);
                match self.neighbours[neighbour] {
                    Neighbour::Unknown => {
                        self.told.push(format!("ask {neighbour} broadcast"));
                        self.neighbours[neighbour] = Neighbour::Asked {
                            times: 1,
                            last: self.now,
                        };
                    }
                    Neighbour::Asked { .. } => {}
                    Neighbour::Doubted { at, .. } => self.send(neighbour, at),
                    Neighbour::Known { at, since } => {
                        if self.is_old(since) {
                            self.told.push(format!("ask {neighbour} {at}"));
                            self.neighbours[neighbour] = Neighbour::Doubted {
                                at,
                                times: 1,
                                last: self.now,
                            };
                        }
                        self.send(neighbour, at);
                    }
                }
            }
            Step::Arp {
                neighbour,
                face,
                is_request,
            } => {
                let says = mac(neighbour, face);
                if is_request {
                    self.told.push(format!("answer {neighbour} {says}"));
                }
                let believed = match self.neighbours[neighbour] {
                    Neighbour::Unknown => is_request,
                    Neighbour::Asked { .. } => {
                        self.told.push(format!("resolved {neighbour} {says}"));
                        true
                    }
                    Neighbour::Doubted { .. } => true,
                    Neighbour::Known { at, since } => at == says || self.is_old(since),
                };
                if believed {
                    self.neighbours[neighbour] = Neighbour::Known {
                        at: says,
                        since: self.now,
                    };
                    self.send(neighbour, says);
                }
            }
            Step::Reply {
                neighbour,
                back,
                damaged,
            } => {
                let Some(number) = self.pings[neighbour].len().checked_sub(1 + back) else {
                    return;
                };
                let ping = &mut self.pings[neighbour][number];
                if matches!(ping, Ping::Waiting | Ping::Unresolved) {
                    return;
                }
                let (outcome, then) = match (*ping, damaged) {
                    (Ping::Sent(_), false) => ("answered", Ping::Answered),
                    (Ping::Sent(_), true) => ("corrupt", Ping::GivenUp),
                    (Ping::Answered, _) => ("duplicate", Ping::Answered),
                    _ => ("late", Ping::GivenUp),
                };
                *ping = then;
                self.told.push(format!("{outcome} {neighbour} {number}"));
            }
            Step::Wait(_) => {}
        }
    }

    fn is_old(&self, since: u64) -> bool {
        self.now - since >= REACHABLE_TIME.as_millis() as u64
    }

    /// Lets one tick pass.
    fn tick(&mut self) {
        self.now += TICK;
        let again = RETRY_INTERVAL.as_millis() as u64;
        for neighbour in 0..NEIGHBOURS {
            for (number, ping) in self.pings[neighbour].iter_mut().enumerate() {
                if let Ping::Sent(at) = *ping
                    && self.now - at >= TIMEOUT
                {
                    *ping = Ping::GivenUp;
                    self.told.push(format!("lost {neighbour} {number}"));
                }
            }
            let now = self.now;
            let (times, last, to) = match &mut self.neighbours[neighbour] {
                Neighbour::Asked { times, last } => (times, last, "broadcast".to_owned()),
                Neighbour::Doubted { times, last, at } => (times, last, at.to_string()),
                _ => continue,
            };
            if now - *last < again {
                continue;
            }
            if *times < REQUESTS {
                (*times, *last) = (*times + 1, now);
                self.told.push(format!("ask {neighbour} {to}"));
                continue;
            }
            self.neighbours[neighbour] = Neighbour::Unknown;
            for (number, ping) in self.pings[neighbour].iter_mut().enumerate() {
                if *ping == Ping::Waiting {
                    *ping = Ping::Unresolved;
                    self.told.push(format!("unresolved {neighbour} {number}"));
                }
            }
        }
    }
}

/// The real thing, told in the model's words.
struct Real {
    now: u64,
    vm: Vm,
    buffer: Vec<u8>,
    /// Pings that were started to each neighbour, and the frames of those that were sent.
    started: [usize; NEIGHBOURS],
    sent: BTreeMap<(usize, usize), Vec<u8>>,
    told: Vec<String>,
}

impl Real {
    fn new() -> Real {
        let mut vm = Vm::new(Instant::ZERO, VmConfig::new(MAC, IP));
        for neighbour in 0..NEIGHBOURS {
            vm.open_session(SessionConfig {
                destination: address(neighbour).into(),
                payload_length: 32,
                timeout: Duration::from_millis(TIMEOUT),
                options: PingOptions::default(),
            })
            .unwrap();
        }
        Real {
            now: 0,
            vm,
            buffer: vec![0; 2048],
            started: [0; NEIGHBOURS],
            sent: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    fn at(&self) -> Instant {
        Instant::from_nanos(self.now * 1_000_000)
    }

    fn step(&mut self, step: &Step) {
        let now = self.at();
        match *step {
            Step::Ping(neighbour) => {
                self.started[neighbour] += 1;
                let session = SessionId(neighbour as u16);
                if let PingStart::Transmit(transmit) =
                    self.vm.ping(now, session, now, &mut self.buffer)
                {
                    self.tell(Reaction {
                        transmit: Some(transmit),
                        event: None,
                    });
                }
            }
            Step::Arp {
                neighbour,
                face,
                is_request,
            } => {
                let packet = ArpPacket {
                    operation: if is_request {
                        ArpPacket::REQUEST
                    } else {
                        ArpPacket::REPLY
                    },
                    sender_mac: mac(neighbour, face),
                    sender: address(neighbour),
                    target_mac: MAC,
                    target: IP,
                };
                packet.write(MAC, &mut self.buffer).unwrap();
                let reaction = self.vm.receive(now, &mut self.buffer, ARP_FRAME_LENGTH);
                self.tell(reaction);
            }
            Step::Reply {
                neighbour,
                back,
                damaged,
            } => {
                let Some(number) = self.started[neighbour].checked_sub(1 + back) else {
                    return;
                };
                let Some(request) = self.sent.get(&(neighbour, number)) else {
                    return;
                };
                let mut frame = request.clone();
                if damaged {
                    // The last two bytes, exchanged: the checksum does not see it.
                    let end = frame.len();
                    frame.swap(end - 4, end - 2);
                }
                turn_into_echo_reply(&mut frame, 20, mac(neighbour, 0), 64, 1).unwrap();
                self.buffer[..frame.len()].copy_from_slice(&frame);
                let reaction = self.vm.receive(now, &mut self.buffer, frame.len());
                self.tell(reaction);
            }
            Step::Wait(_) => {}
        }
        self.settle();
    }

    fn tick(&mut self) {
        self.now += TICK;
        for neighbour in 0..NEIGHBOURS {
            let session = SessionId(neighbour as u16);
            while let Some(event) = self.vm.expire(self.at(), session) {
                self.tell(Reaction {
                    transmit: None,
                    event: Some(event),
                });
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(reaction) = self.vm.poll(self.at(), &mut self.buffer) {
            self.tell(reaction);
        }
    }

    fn tell(&mut self, reaction: Reaction) {
        if let Some(transmit) = reaction.transmit {
            let frame = self.buffer[..transmit.length].to_vec();
            let to = match MacAddr(frame[..6].try_into().unwrap()) {
                MacAddr::BROADCAST => "broadcast".to_owned(),
                mac => mac.to_string(),
            };
            let told = Describe(&frame).to_string();
            let neighbour = (0..NEIGHBOURS)
                .find(|i| told.contains(&address(*i).to_string()))
                .unwrap_or_else(|| frame[41] as usize - 3);
            if let Some(ping) = transmit.ping {
                self.vm.stamp_sent(ping, self.at());
                let number = ping.sequence as usize;
                self.told.push(format!("ping {neighbour} {number} to {to}"));
                self.sent.insert((neighbour, number), frame);
            } else if told.contains("who-has") {
                self.told.push(format!("ask {neighbour} {to}"));
            } else {
                assert!(told.contains("is-at"), "{told}");
                self.told.push(format!("answer {neighbour} {to}"));
            }
        }
        match reaction.event {
            Some(Event::Resolved {
                address: who, mac, ..
            }) => {
                let neighbour = (0..NEIGHBOURS).find(|i| who == address(*i)).unwrap();
                self.told.push(format!("resolved {neighbour} {mac}"));
            }
            Some(Event::Ping(ping, outcome)) => {
                let outcome = match outcome {
                    PingOutcome::Answered { .. } => "answered",
                    PingOutcome::Corrupt { .. } => "corrupt",
                    PingOutcome::Lost { .. } => "lost",
                    PingOutcome::Unresolved { .. } => "unresolved",
                    PingOutcome::Errored { .. } => "errored",
                    PingOutcome::Duplicate => "duplicate",
                    PingOutcome::Late { lost: None } => "late",
                    PingOutcome::Late { lost: Some(_) } => "late and lost",
                };
                self.told
                    .push(format!("{outcome} {} {}", ping.session.0, ping.sequence));
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_vm_does_what_its_model_does(steps in steps()) {
        let (mut model, mut real) = (Model::new(), Real::new());
        for step in &steps {
            model.step(step);
            real.step(step);
            let ticks = if let Step::Wait(ticks) = step { *ticks } else { 0 };
            for tick in 0..=ticks {
                if tick > 0 {
                    model.tick();
                    real.tick();
                }
                // What happens at one instant has no order that anybody sees.
                model.told.sort();
                real.told.sort();
                prop_assert_eq!(&model.told, &real.told, "at {} ms, {:?}", model.now, step);
                model.told.clear();
                real.told.clear();
            }
        }
    }
}
