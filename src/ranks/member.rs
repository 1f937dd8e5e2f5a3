//! A rank other than rank 0, as a state machine: it is fed with bytes and instants, and gives bytes and events.

use std::collections::VecDeque;
use std::time::Duration;

use super::clock::{ClockOffset, EXCHANGES};
use super::deadlines::{ALIVE, GREETING_BYTES, MEETING, SILENCE};
use super::lines::{LONGEST_LINE, Lines};
use super::message::{Gate, Message, VERSION};
use super::seal::{NONCE, Nonce, Secret, Session, Side, Subject, hex, is_same, unhex};
use super::{Event, Identity};
use crate::escape::escaped;
use crate::time::{Instant, earliest};

/// The first word of rank 0.
pub(super) const GREETING_WORD: &str = "tap-reactor-ranks";

/// Bytes of a document that one message carries.
pub(super) const PART: usize = 32 * 1024;

/// A rank other than rank 0.
#[derive(Debug)]
pub struct Member {
    identity: Identity,
    secret: Secret,
    nonce: Nonce,
    lines: Lines,
    /// Bytes that have come before the handshake was over.
    greeting_bytes: usize,
    out: Vec<u8>,
    state: State,
    offset: Option<ClockOffset>,
    exchanges: u32,
    events: VecDeque<Event>,
    /// The latest time for the next message of rank 0.
    until: Instant,
    /// How long rank 0 may be silent.
    patience: Duration,
    alive_at: Instant,
    phase: String,
}

#[derive(Debug)]
enum State {
    /// Rank 0 has not greeted yet.
    New,
    /// The words and rank 0's nonce of a hello that was not answered yet.
    Hello(String, Nonce),
    /// The handshake is over.
    Met(Session),
    /// Nothing more is said.
    Over,
}

impl Member {
    /// A rank that has just connected, at `now`. `nonce` is used for no other connection.
    pub fn new(now: Instant, identity: Identity, secret: Secret, nonce: Nonce) -> Member {
        Member {
            identity,
            secret,
            nonce,
            lines: Lines::default(),
            greeting_bytes: 0,
            out: Vec::new(),
            state: State::New,
            offset: None,
            exchanges: 0,
            events: VecDeque::new(),
            until: now + MEETING,
            patience: MEETING,
            alive_at: now + ALIVE,
            phase: String::new(),
        }
    }

    /// The offset of rank 0's clock, once it is known.
    pub fn offset(&self) -> ClockOffset {
        self.offset.unwrap_or_default()
    }

    /// Takes in what has arrived at `now`.
    pub fn handle(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.state, State::Over) {
            return;
        }
        self.lines.push(bytes);
        loop {
            let longest = match &self.state {
                State::New | State::Hello(..) => GREETING_BYTES.saturating_sub(self.greeting_bytes),
                State::Met(_) => LONGEST_LINE,
                State::Over => return,
            };
            match self.lines.next(longest) {
                Ok(Some(line)) => self.handle_line(now, &line),
                Ok(None) => return,
                Err(_) => {
                    return self.fail("what listens there is no meeting point of this program");
                }
            }
        }
    }

    /// Rank 0 has closed the connection.
    pub fn handle_end(&mut self) {
        match self.state {
            State::Over => {}
            State::New | State::Hello(..) => {
                self.fail("what listens there has closed the connection without a word");
            }
            State::Met(_) => self.fail("rank 0 is gone"),
        }
    }

    fn fail(&mut self, why: &str) {
        self.state = State::Over;
        self.out.clear();
        self.events.push_back(Event::Failed(why.to_owned()));
    }

    fn handle_line(&mut self, now: Instant, line: &str) {
        match std::mem::replace(&mut self.state, State::Over) {
            State::New => {
                self.greeting_bytes += line.len();
                self.greeted(line);
            }
            State::Hello(words, leader) => {
                self.greeting_bytes += line.len();
                self.welcomed(now, line, &words, &leader);
            }
            State::Met(mut session) => {
                let message = session.open(line).map(serde_json::from_str);
                self.state = State::Met(session);
                self.until = now + self.patience;
                match message {
                    Some(Ok(message)) => self.handle_message(now, message),
                    Some(Err(_)) => self.fail("rank 0 says what this rank does not understand"),
                    None => self.fail("a message in the name of rank 0 was not from it"),
                }
            }
            State::Over => {}
        }
    }

    fn greeted(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [GREETING_WORD, version, program, nonce] = words[..] else {
            return self.fail("what listens there is no meeting point of this program");
        };
        let own = VERSION.to_string();
        if version != own || program != self.identity.program {
            let found = escaped(&format!("tap-reactor {program} (protocol {version})"));
            let own = &self.identity.program;
            return self.fail(&format!(
                "rank 0 is {found}, and this is tap-reactor {own} (protocol {VERSION}); expected the same version"
            ));
        }
        let Some(leader) = unhex::<NONCE>(nonce) else {
            return self.fail("what listens there is no meeting point of this program");
        };
        let words = self.identity.words();
        let subject = Subject {
            leader: &leader,
            member: &self.nonce,
            words: &words,
        };
        let proof = self.secret.proof(Side::Member, subject);
        let hello = format!("hello {words} {} {}\n", hex(&self.nonce), hex(&proof));
        self.out.extend_from_slice(hello.as_bytes());
        self.state = State::Hello(words, leader);
    }

    fn welcomed(&mut self, now: Instant, line: &str, words: &str, leader: &Nonce) {
        if let Some(why) = line.strip_prefix("refused ") {
            return self.fail(&format!("rank 0 refuses this rank: {}", escaped(why)));
        }
        let subject = Subject {
            leader,
            member: &self.nonce,
            words,
        };
        let proof = line.strip_prefix("welcome ").and_then(unhex::<32>);
        let expected = self.secret.proof(Side::Leader, subject);
        if !proof.is_some_and(|proof| is_same(&proof, &expected)) {
            return self.fail("what listens there does not know the secret");
        }
        self.state = State::Met(self.secret.session(Side::Member, subject));
        self.tick(now);
    }

    fn say(&mut self, message: &Message) {
        if let State::Met(session) = &mut self.state
            && let Ok(text) = serde_json::to_string(message)
        {
            self.out.extend_from_slice(session.seal(&text).as_bytes());
        }
    }

    fn tick(&mut self, now: Instant) {
        self.say(&Message::Tick {
            sent: now.as_nanos(),
        });
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        match message {
            Message::Tock { sent, now: there } => {
                let [sent, there] = [sent, there].map(Instant::from_nanos);
                let one = ClockOffset::of_exchange(sent, there, now);
                self.offset = Some(self.offset.map_or(one, |best| best.better(one)));
                self.exchanges += 1;
                if self.exchanges < EXCHANGES {
                    return self.tick(now);
                }
                let ClockOffset { nanos, error } = self.offset();
                let host = self.identity.host.clone();
                self.say(&Message::Synchronized {
                    offset: nanos,
                    error,
                    host,
                });
                self.events.push_back(Event::Met);
            }
            Message::Open { gate, at } => {
                if gate >= Gate::Labs {
                    self.patience = SILENCE;
                    self.until = now + SILENCE;
                }
                let at = self.offset().here(Instant::from_nanos(at));
                self.events.push_back(Event::Open { gate, at });
            }
            Message::Stop { why } => {
                let why = why.map(|why| escaped(&why));
                self.events.push_back(Event::Stop { why });
            }
            Message::Alive { .. } => {}
            Message::Taken => {
                self.state = State::Over;
                self.events.push_back(Event::Delivered);
            }
            Message::Tick { .. }
            | Message::Synchronized { .. }
            | Message::Arrived { .. }
            | Message::Document { .. } => {
                self.fail("rank 0 says what this rank does not understand");
            }
        }
    }

    /// This rank has come to `gate`. Up to the begin of the run rank 0 may be silent for `patience`.
    pub fn arrive(&mut self, now: Instant, gate: Gate, patience: Duration) {
        if gate <= Gate::Labs {
            self.patience = patience;
            self.until = now + patience;
        }
        self.say(&Message::Arrived { gate });
    }

    /// The name of the phase that this rank is in.
    pub fn set_phase(&mut self, name: &str) {
        if self.phase != name {
            name.clone_into(&mut self.phase);
        }
    }

    /// Tells the others to stop, and why if something has failed here.
    pub fn stop(&mut self, why: Option<&str>) {
        let why = why.map(str::to_owned);
        self.say(&Message::Stop { why });
    }

    /// Sends what this rank has measured.
    pub fn deliver(&mut self, now: Instant, document: &str, patience: Duration) {
        (self.patience, self.until) = (patience, now + patience);
        let mut rest = document;
        loop {
            let mut end = rest.len().min(PART);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (part, later) = rest.split_at(end);
            rest = later;
            self.say(&Message::Document {
                part: part.to_owned(),
                is_last: rest.is_empty(),
            });
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The bytes to send.
    pub fn transmit(&self) -> &[u8] {
        &self.out
    }

    /// So many of them were sent.
    pub fn transmitted(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// The time of the next call of [`Member::handle_timeout`].
    pub fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Over => None,
            State::Met(_) => earliest(Some(self.until), Some(self.alive_at)),
            State::New | State::Hello(..) => Some(self.until),
        }
    }

    /// Does what is due at `now`. What has arrived by then was taken in.
    pub fn handle_timeout(&mut self, now: Instant) {
        if matches!(self.state, State::Over) {
            return;
        }
        if now >= self.until {
            let silent = humantime::format_duration(self.patience);
            return self.fail(&format!("rank 0 has said nothing for {silent}"));
        }
        if matches!(self.state, State::Met(_)) && now >= self.alive_at {
            self.alive_at = now + ALIVE;
            let phase = self.phase.clone();
            self.say(&Message::Alive { phase });
        }
    }
}
