//! Rank 0, at which the others meet, as a state machine: it is fed with bytes of connections and instants, and gives bytes and
//! events.

mod greeting;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::clock::ClockOffset;
use super::deadlines::{ALIVE, DOCUMENTS, GREETING, GREETING_BYTES, LEAD, MEETING};
use super::lines::{LONGEST_LINE, Lines};
use super::member::GREETING_WORD;
use super::message::{Gate, Message, VERSION};
use super::seal::{Nonce, Secret, Session, hex};
use super::{Event, Identity};
use crate::escape::escaped;
use crate::time::Instant;

/// Connections that have not said yet who they are.
const MAX_STRANGERS: usize = 64;
/// Refused connections that the user is told of.
const MAX_TOLD: usize = 8;
/// Bytes of the longest document.
const LONGEST_DOCUMENT: usize = 64 << 20;

/// The number of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PeerId(pub u64);

/// Rank 0.
#[derive(Debug)]
pub struct Leader {
    identity: Identity,
    secret: Secret,
    peers: BTreeMap<PeerId, Peer>,
    next_peer: u64,
    /// The other ranks: rank 1 is the first.
    ranks: Vec<Other>,
    /// The gate that this rank has come to.
    own: Option<Gate>,
    /// The last gate that was opened.
    opened: Option<Gate>,
    events: VecDeque<Event>,
    has_met: bool,
    /// The phase that this rank is in.
    phase: String,
    /// The time for what is waited for at present.
    until: Option<Instant>,
    waits_for: WaitsFor,
    alive_at: Instant,
    told: usize,
    /// The run was told to end early.
    is_stopped: bool,
    has_failed: bool,
    /// All documents are here that come.
    is_complete: bool,
    /// The ranks whose documents are here, by index, and were not taken yet.
    whole: VecDeque<usize>,
}

/// What rank 0 waits for until some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WaitsFor {
    Meeting,
    Labs,
    Documents,
}

/// A connection.
#[derive(Debug)]
struct Peer {
    lines: Lines,
    out: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// It has not said who it is: our nonce, the end of the wait, and the bytes that came.
    Stranger(Nonce, Instant, usize),
    /// The rank with that number.
    Rank(usize, Session),
    /// It is closed when all is sent.
    Closing,
}

/// What is known of another rank.
#[derive(Default, Debug)]
struct Other {
    peer: Option<PeerId>,
    clock: Option<ClockOffset>,
    host: String,
    gate: Option<Gate>,
    phase: String,
    heard_at: Instant,
    document: String,
    is_whole: bool,
    is_gone: bool,
}

impl Other {
    /// Its host as words behind its number, if it is known.
    fn place(&self) -> String {
        match self.host.as_str() {
            "" => String::new(),
            host => format!(" on {host}"),
        }
    }
}

/// What a rank has measured, and what is known of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Delivery {
    /// The number of the rank.
    pub rank: u32,
    /// Its host.
    pub host: String,
    /// Its clock.
    pub clock: ClockOffset,
    /// The document.
    pub document: String,
}

impl Leader {
    /// Rank 0, which waits for the others from `now` on.
    pub fn new(now: Instant, identity: Identity, secret: Secret) -> Leader {
        let others = identity.rank.count().saturating_sub(1);
        let mut leader = Leader {
            ranks: (0..others).map(|_| Other::default()).collect(),
            identity,
            secret,
            peers: BTreeMap::new(),
            next_peer: 0,
            own: None,
            opened: None,
            events: VecDeque::new(),
            has_met: false,
            phase: String::new(),
            until: Some(now + MEETING),
            waits_for: WaitsFor::Meeting,
            alive_at: now + ALIVE,
            told: 0,
            is_stopped: false,
            has_failed: false,
            is_complete: false,
            whole: VecDeque::new(),
        };
        // A single rank has met already.
        leader.look_for_all();
        leader
    }

    /// Takes in a connection at `now`. `None` if there are too many: it is to be closed. `nonce` is used for no other one.
    pub fn accept(&mut self, now: Instant, nonce: Nonce) -> Option<PeerId> {
        let strangers = self
            .peers
            .values()
            .filter(|peer| !matches!(peer.state, State::Rank(..)));
        if strangers.count() >= MAX_STRANGERS {
            return None;
        }
        let id = PeerId(self.next_peer);
        self.next_peer += 1;
        let program = &self.identity.program;
        let greeting = format!("{GREETING_WORD} {VERSION} {program} {}\n", hex(&nonce));
        self.peers.insert(
            id,
            Peer {
                lines: Lines::default(),
                out: greeting.into_bytes(),
                state: State::Stranger(nonce, now + GREETING, 0),
            },
        );
        Some(id)
    }

    /// Takes in what has arrived at `now`.
    pub fn handle(&mut self, now: Instant, id: PeerId, bytes: &[u8]) {
        if let Some(peer) = self.peers.get_mut(&id) {
            if let State::Stranger(_, _, count) = &mut peer.state {
                *count = count.saturating_add(bytes.len());
            }
            peer.lines.push(bytes);
        }
        loop {
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            let longest = match &peer.state {
                State::Stranger(_, _, count) if *count > GREETING_BYTES => {
                    return self.refuse(id, "it sent too much before it said who it is");
                }
                State::Stranger(..) => GREETING_BYTES,
                State::Rank(..) => LONGEST_LINE,
                State::Closing => return,
            };
            match peer.lines.next(longest) {
                Ok(Some(line)) => self.handle_line(now, id, &line),
                Ok(None) => return,
                Err(_) => return self.refuse(id, "it does not speak as ranks do"),
            }
        }
    }

    /// The peer has closed the connection.
    pub fn handle_end(&mut self, id: PeerId) {
        match self.peers.remove(&id).map(|peer| peer.state) {
            Some(State::Rank(number, _)) => self.lost(number, "its connection has ended"),
            Some(State::Stranger(..)) => {
                self.tell("a connection to the meeting point has ended before it said who it is");
            }
            Some(State::Closing) | None => {}
        }
    }

    /// Tells the user of a connection, if not of very many.
    fn tell(&mut self, words: &str) {
        self.told += 1;
        if self.told <= MAX_TOLD {
            self.events.push_back(Event::Refused(words.to_owned()));
        }
    }

    /// Closes a connection after a word. Of a rank that is the end.
    fn refuse(&mut self, id: PeerId, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut peer.state, State::Closing) {
            State::Rank(number, _) => {
                peer.out.clear();
                self.lost(number, why);
            }
            State::Stranger(..) => {
                peer.out
                    .extend_from_slice(format!("refused {why}\n").as_bytes());
                self.tell(&format!(
                    "a connection to the meeting point was refused: {why}"
                ));
            }
            State::Closing => {}
        }
    }

    /// The rank with that index is no more.
    fn lost(&mut self, index: usize, why: &str) {
        let Some(other) = self.ranks.get_mut(index) else {
            return;
        };
        if other.is_whole || std::mem::replace(&mut other.is_gone, true) {
            return;
        }
        let place = match other.gate {
            _ if !self.has_met => "at the meeting point".to_owned(),
            None => "before the lab".to_owned(),
            Some(gate) if self.opened.is_none_or(|opened| opened < gate) => gate.to_string(),
            // It went on from that gate when this rank did.
            Some(gate) => match [&self.phase, &other.phase].map(String::as_str) {
                ["", ""] => gate.to_string(),
                ["", phase] | [phase, _] => format!("in {phase}"),
            },
        };
        let host = other.place();
        let number = index + 1;
        self.fail(format!("rank {number}{host} is gone {place}: {why}"));
    }

    fn fail(&mut self, why: String) {
        let is_first = !std::mem::replace(&mut self.has_failed, true);
        self.is_stopped = true;
        self.say_all(&Message::Stop {
            why: Some(why.clone()),
        });
        if is_first {
            self.events.push_back(Event::Failed(why));
        } else {
            self.tell(&why);
        }
    }

    fn handle_line(&mut self, now: Instant, id: PeerId, line: &str) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        match &mut peer.state {
            State::Stranger(nonce, ..) => {
                let nonce = *nonce;
                if let Err(why) = self.greet(now, id, line, &nonce) {
                    self.refuse(id, &why);
                }
            }
            State::Rank(number, session) => {
                let number = *number;
                match session.open(line).map(serde_json::from_str) {
                    Some(Ok(message)) => self.handle_message(now, id, number, message),
                    _ => self.refuse(id, "a message in its name was not from it"),
                }
            }
            State::Closing => {}
        }
    }

    fn say(&mut self, id: PeerId, message: &Message) {
        if let Some(Peer {
            state: State::Rank(_, session),
            out,
            ..
        }) = self.peers.get_mut(&id)
            && let Ok(text) = serde_json::to_string(message)
        {
            out.extend_from_slice(session.seal(&text).as_bytes());
        }
    }

    fn say_all(&mut self, message: &Message) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        ids.into_iter().for_each(|id| self.say(id, message));
    }

    fn handle_message(&mut self, now: Instant, id: PeerId, index: usize, message: Message) {
        let Some(other) = self.ranks.get_mut(index) else {
            return;
        };
        other.heard_at = now;
        match message {
            Message::Tick { sent } => {
                let now = now.as_nanos();
                self.say(id, &Message::Tock { sent, now });
            }
            Message::Synchronized {
                offset,
                error,
                host,
            } => {
                other.clock = Some(ClockOffset {
                    nanos: offset,
                    error,
                });
                other.host = escaped(&host);
                self.look_for_all();
            }
            Message::Arrived { gate } => {
                other.gate = Some(gate);
                self.open(now);
            }
            Message::Alive { phase } => other.phase = escaped(&phase),
            Message::Stop { why: Some(why) } => {
                let host = other.place();
                let number = index + 1;
                let why = escaped(&why);
                self.fail(format!("rank {number}{host} has ended the run: {why}"));
            }
            Message::Stop { why: None } => {
                if !std::mem::replace(&mut self.is_stopped, true) {
                    self.say_all(&Message::Stop { why: None });
                    self.events.push_back(Event::Stop { why: None });
                }
            }
            Message::Document { part, is_last } => {
                if other.document.len() + part.len() > LONGEST_DOCUMENT || other.is_whole {
                    return self.refuse(id, "it says more than it may");
                }
                other.document.push_str(&part);
                other.is_whole = is_last;
                if is_last {
                    self.whole.push_back(index);
                    self.say(id, &Message::Taken);
                    self.look_for_documents();
                }
            }
            Message::Tock { .. } | Message::Open { .. } | Message::Taken => {
                self.refuse(id, "it says what rank 0 does not understand");
            }
        }
    }

    fn look_for_all(&mut self) {
        if !self.has_met && self.ranks.iter().all(|other| other.clock.is_some()) {
            self.has_met = true;
            self.until = None;
            self.events.push_back(Event::Met);
        }
    }

    /// Opens the gate that all have come to, if there is one.
    fn open(&mut self, now: Instant) {
        // A run that was told to end has the last gate left, behind which nobody answers the pings of others any more.
        let is_left = |gate: &Gate| !self.is_stopped || *gate == Gate::End;
        let Some(gate) = self.own.filter(is_left) else {
            return;
        };
        let is_new = self.opened.is_none_or(|opened| opened < gate);
        let is_here = |other: &Other| other.gate == Some(gate) || other.is_gone;
        if !is_new || !self.ranks.iter().all(is_here) {
            return;
        }
        self.opened = Some(gate);
        let slowest = self.ranks.iter().filter_map(|other| other.clock);
        let trip = Duration::from_nanos(slowest.map(|clock| 2 * clock.error).max().unwrap_or(0));
        let at = match gate {
            Gate::Phase(_) => now + LEAD + 2 * trip,
            Gate::Bridges | Gate::Labs | Gate::End => now,
        };
        self.until = None;
        if gate == Gate::Labs {
            for other in &mut self.ranks {
                other.heard_at = now;
            }
        }
        self.say_all(&Message::Open {
            gate,
            at: at.as_nanos(),
        });
        self.events.push_back(Event::Open { gate, at });
    }

    /// This rank has come to `gate`. Up to the begin of the run the others are waited for for `patience`.
    pub fn arrive(&mut self, now: Instant, gate: Gate, patience: Duration) {
        self.own = Some(gate);
        if gate <= Gate::Labs {
            self.until = Some(now + patience);
            self.waits_for = WaitsFor::Labs;
        }
        self.open(now);
    }

    /// The name of the phase that this rank is in.
    pub fn set_phase(&mut self, name: &str) {
        if self.phase != name {
            name.clone_into(&mut self.phase);
        }
    }

    /// Tells the others to stop.
    pub fn stop(&mut self) {
        if !std::mem::replace(&mut self.is_stopped, true) {
            self.say_all(&Message::Stop { why: None });
        }
    }

    /// This rank has measured all that it will, and waits for the documents of the others from `now` on.
    pub fn deliver(&mut self, now: Instant) {
        self.until = Some(now + DOCUMENTS);
        self.waits_for = WaitsFor::Documents;
        self.look_for_documents();
    }

    fn look_for_documents(&mut self) {
        let is_here = |other: &Other| other.is_whole || other.is_gone;
        if self.waits_for != WaitsFor::Documents || !self.ranks.iter().all(is_here) {
            return;
        }
        if !std::mem::replace(&mut self.is_complete, true) {
            self.until = None;
            self.events.push_back(Event::Delivered);
        }
    }

    /// What one of the others has measured, which is not kept here any longer: of each that has told it all, in the order in which
    /// they have.
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        let index = self.whole.pop_front()?;
        let other = self.ranks.get_mut(index)?;
        Some(Delivery {
            rank: index as u32 + 1,
            host: other.host.clone(),
            clock: other.clock.unwrap_or_default(),
            document: std::mem::take(&mut other.document),
        })
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The connections.
    pub fn peers(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// The bytes to send to `peer`.
    pub fn transmit(&self, peer: PeerId) -> &[u8] {
        self.peers.get(&peer).map_or(&[], |peer| &peer.out)
    }

    /// So many of them were sent.
    pub fn transmitted(&mut self, peer: PeerId, count: usize) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.out.drain(..count.min(peer.out.len()));
        }
    }

    /// Returns true if the connection is to be closed now.
    pub fn is_over(&self, peer: PeerId) -> bool {
        let is_over = |peer: &Peer| matches!(peer.state, State::Closing) && peer.out.is_empty();
        self.peers.get(&peer).is_none_or(is_over)
    }
}
