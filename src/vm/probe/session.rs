//! The pings of one VM to one destination.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use super::kind::{Probe, ProbeKind};
use super::members::{MemberId, Members};
use super::payload::Contents;
use crate::time::Instant;
use crate::vm::{DEFAULT_TIME_TO_LIVE, PingOutcome};

/// Pings of one session that may be on their way at once. Half of what 16 bits can tell apart, so that a late reply is
/// not taken for the answer to a newer ping.
pub const MAX_OUTSTANDING: usize = 1 << 15;

/// How far back a reply can be told to be a duplicate or late: as far as the 16-bit sequence number reaches.
const HISTORY: u64 = 1 << 16;

/// The state of one ping that is not over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ping {
    /// It was handed to the VM at `since`, and its neighbour is being resolved.
    Waiting { due: Instant, since: Instant },
    /// Its neighbour is known, and it is to be sent. Since `ready` at the latest nothing but the tool delays it: that is
    /// when it was due, and the time that its neighbour took to answer on top.
    Ready { due: Instant, ready: Instant },
    /// It was sent, and its reply is awaited.
    Outstanding { due: Instant, sent: Instant },
    /// It is over, but an older one is not.
    Over,
}

/// Which pings are given up before their time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GiveUp {
    /// Those that have not been sent.
    Unsent,
    /// Those that wait for their reply, too.
    All,
}

/// The settings of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// The address that is pinged.
    pub destination: IpAddr,
    /// What is sent.
    pub probe: Probe,
    /// Bytes of payload of each ping.
    pub payload_length: usize,
    /// How long a reply is waited for.
    pub timeout: Duration,
    /// The header fields of each ping.
    pub options: PingOptions,
}

/// The header fields of each ping, as far as they can be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PingOptions {
    /// Hops that it may take.
    pub time_to_live: u8,
    /// Differentiated services code point (RFC 2474), 0 to 63.
    pub dscp: u8,
    /// It must not be cut into fragments on its way.
    pub dont_fragment: bool,
}

impl Default for PingOptions {
    /// 64 hops, best effort, fragments allowed.
    fn default() -> PingOptions {
        PingOptions {
            time_to_live: DEFAULT_TIME_TO_LIVE,
            dscp: 0,
            dont_fragment: false,
        }
    }
}

/// Pings to one destination, the oldest unfinished one first.
///
/// Memory: 32 bytes for each ping on its way, and one bit for each of the last 65,536 sent.
#[derive(Debug)]
pub(in crate::vm) struct Session {
    pub(in crate::vm) config: SessionConfig,
    /// The port that the probes come from, if they come from one and all of the session do.
    pub(super) port: Option<NonZeroU16>,
    /// The host whose ICMP echo replies are answers; unspecified if the probes are of another kind.
    pub(super) echoes_from: IpAddr,
    /// 32 bits, so that a session and its port have no more room than without one.
    most_outstanding: u32,
    next_sequence: u64,
    /// The pings `next_sequence - unfinished.len() .. next_sequence`.
    unfinished: VecDeque<Ping>,
    /// Bit `sequence % HISTORY` tells whether that ping was answered. Grows with the first pings, then wraps.
    answered: Vec<u64>,
    /// Who answers, if a multicast group is pinged.
    members: Option<Box<Members>>,
}

impl Session {
    pub(in crate::vm) fn new(config: SessionConfig) -> Self {
        let is_echo = config.probe.kind == ProbeKind::Icmp;
        Session {
            config,
            port: None,
            echoes_from: match is_echo {
                true => config.destination,
                false => Ipv4Addr::UNSPECIFIED.into(),
            },
            most_outstanding: config.probe.kind.most_outstanding() as u32,
            next_sequence: 0,
            unfinished: VecDeque::new(),
            answered: Vec::new(),
            members: (is_echo && config.destination.is_multicast()).then(Box::default),
        }
    }

    /// Sends further pings to `destination`.
    pub(super) fn redirect(&mut self, destination: IpAddr) {
        self.config.destination = destination;
        if self.config.probe.kind == ProbeKind::Icmp {
            self.echoes_from = destination;
        }
    }

    /// No more pings are on their way at once than `mask` tells from as many others.
    pub(super) fn limit_to(&mut self, mask: u16) {
        self.most_outstanding = self.most_outstanding.min(u32::from(mask / 2) + 1);
    }

    /// The number of pings that were begun.
    pub(in crate::vm) const fn begun(&self) -> u64 {
        self.next_sequence
    }

    /// Tells if one more ping may be on its way.
    pub(in crate::vm) fn has_room(&self) -> bool {
        self.unfinished.len() < self.most_outstanding as usize
    }

    /// Starts a ping at `now` that was due at `due`, and returns its sequence number.
    pub(in crate::vm) fn open(&mut self, now: Instant, due: Instant) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if self.unfinished.capacity() == 0 {
            // Most flows of a large mesh never have a second ping on its way; a queue's first growth is by four.
            self.unfinished.reserve_exact(1);
        }
        self.unfinished.push_back(Ping::Waiting { due, since: now });
        self.make_history(sequence);
        sequence
    }

    /// The neighbour for which a ping waited has answered at `now`.
    pub(in crate::vm) fn resolved(&mut self, now: Instant, sequence: u64) {
        if let Some(ping) = self.get_mut(sequence)
            && let Ping::Waiting { due, since } = *ping
        {
            let ready = due + (now - since);
            *ping = Ping::Ready { due, ready };
        }
    }

    /// Records when the ping left, and returns when it was due and from when on nothing but the tool delayed it; the first
    /// stamp counts.
    #[inline(always)]
    pub(in crate::vm) fn stamp_sent(
        &mut self,
        sequence: u64,
        at: Instant,
    ) -> Option<(Instant, Instant)> {
        let ping = self.get_mut(sequence)?;
        let (due, ready) = match *ping {
            Ping::Waiting { due, .. } => (due, due),
            Ping::Ready { due, ready } => (due, ready),
            Ping::Outstanding { .. } | Ping::Over => return None,
        };
        *ping = Ping::Outstanding { due, sent: at };
        Some((due, ready))
    }

    /// Tells if the ping with the 16-bit `wire_sequence` was sent and is not over.
    pub(super) fn is_outstanding(&self, wire_sequence: u16) -> bool {
        let ping = self
            .newest(wire_sequence)
            .and_then(|sequence| self.get(sequence));
        matches!(ping, Some(Ping::Outstanding { .. }))
    }

    /// Tells if a ping has not left yet.
    pub(in crate::vm) fn is_unsent(&self, sequence: u64) -> bool {
        matches!(
            self.get(sequence),
            Some(Ping::Waiting { .. } | Ping::Ready { .. })
        )
    }

    /// Ends a ping that was never sent, and returns when it was due.
    pub(in crate::vm) fn abandon(&mut self, sequence: u64) -> Option<Instant> {
        let (Ping::Waiting { due, .. } | Ping::Ready { due, .. }) = *self.get_mut(sequence)? else {
            return None;
        };
        self.end(sequence);
        Some(due)
    }

    /// Ends every ping of that kind that is not over, and tells each with what came of it: lost if it was sent,
    /// unresolved if it was not.
    pub(in crate::vm) fn give_up(&mut self, which: GiveUp, mut tell: impl FnMut(u64, PingOutcome)) {
        let first = self.oldest();
        for (sequence, ping) in (first..).zip(&mut self.unfinished) {
            let outcome = match *ping {
                Ping::Waiting { due, .. } | Ping::Ready { due, .. } => {
                    PingOutcome::Unresolved { due }
                }
                Ping::Outstanding { due, sent } if which == GiveUp::All => {
                    unanswered(&mut self.members, sequence, due, sent)
                }
                Ping::Outstanding { .. } | Ping::Over => continue,
            };
            *ping = Ping::Over;
            tell(sequence, outcome);
        }
        self.forget_ended();
    }

    /// Takes a reply with the 16-bit `wire_sequence`; `is_sound` tells of the ping's number and the bytes of payload sent if the
    /// reply holds these. Returns the ping and what came of it, or `None` when no ping of this session has that number.
    #[inline(always)]
    pub(in crate::vm) fn reply(
        &mut self,
        wire_sequence: u16,
        is_sound: impl FnOnce(u64, usize) -> bool,
        received: Instant,
    ) -> Option<(u64, PingOutcome)> {
        let sequence = self.newest(wire_sequence)?;
        let outcome = match self.get_mut(sequence).copied() {
            Some(Ping::Outstanding { due, sent }) => {
                self.end(sequence);
                if received - sent > self.config.timeout {
                    // The time is judged by the stamps, whatever was looked at first: the reply or the timer.
                    PingOutcome::Late { lost: Some(due) }
                } else if is_sound(sequence, self.config.payload_length) {
                    self.set_answered(sequence);
                    PingOutcome::Answered {
                        due,
                        sent,
                        received,
                    }
                } else {
                    PingOutcome::Corrupt { due }
                }
            }
            Some(Ping::Waiting { .. } | Ping::Ready { .. }) => return None,
            Some(Ping::Over) | None if self.was_answered(sequence) => PingOutcome::Duplicate,
            Some(Ping::Over) | None => PingOutcome::Late { lost: None },
        };
        Some((sequence, outcome))
    }

    /// Takes the reply of the member `address` of the multicast group that is pinged, as [`Session::reply`] does. The ping is
    /// over when every expected member has answered or the timeout is over; those of further members within the timeout are
    /// told as well. `None` when it is of no use: its payload is wrong, and the ping was answered already.
    #[cold]
    pub(in crate::vm) fn member_reply(
        &mut self,
        address: IpAddr,
        wire_sequence: u16,
        contents: Contents<'_>,
        received: Instant,
    ) -> Option<(u64, PingOutcome)> {
        let sequence = self.newest(wire_sequence)?;
        let mut members = self.members.take()?;
        let outcome = self.reply_to_group(&mut members, address, sequence, contents, received);
        self.members = Some(members);
        outcome.map(|outcome| (sequence, outcome))
    }

    fn reply_to_group(
        &mut self,
        members: &mut Members,
        address: IpAddr,
        sequence: u64,
        contents: Contents<'_>,
        received: Instant,
    ) -> Option<PingOutcome> {
        let member = members.find(address)?;
        if self.is_unsent(sequence) {
            return None;
        }
        let timeout = self.config.timeout;
        let answered = members.answered(sequence).map(|ping| (ping.due, ping.sent));
        let outstanding = match self.get(sequence) {
            Some(&Ping::Outstanding { due, sent }) => Some((due, sent)),
            _ => None,
        };
        let in_time = |(_, sent): &(Instant, Instant)| received - *sent <= timeout;
        let Some((due, sent)) = answered.or(outstanding).filter(in_time) else {
            // The timer ends the ping.
            return Some(PingOutcome::Late { lost: None });
        };
        let is_sound = contents.is_of(sequence, self.config.payload_length);
        if !is_sound && answered.is_some() {
            return None;
        }
        if answered.is_none() {
            members.add(received, timeout, self.oldest(), (sequence, due, sent));
        }
        if !is_sound {
            self.end(sequence);
            return Some(PingOutcome::Corrupt { due });
        }
        if !members.answered(sequence)?.insert(member) {
            return Some(PingOutcome::Duplicate);
        }
        let is_last = outstanding.is_some() && members.have_all_answered(sequence);
        if is_last {
            self.end(sequence);
        }
        Some(PingOutcome::Member {
            member,
            is_first: answered.is_none(),
            is_last,
            due,
            sent,
            received,
        })
    }

    /// The members of the multicast group that is pinged; `None` if another address is.
    pub(super) fn members_mut(&mut self) -> Option<&mut Members> {
        self.members.as_deref_mut()
    }

    /// The address of a member of the multicast group that is pinged.
    pub(in crate::vm) fn member(&self, member: MemberId) -> Option<IpAddr> {
        self.members.as_ref()?.address(member)
    }

    /// Ends the ping with the 16-bit `wire_sequence`, about which an error came at `now`, and returns it, when it was due and
    /// when it was sent. `None` when no ping of that number is on its way, its time is up, or a member of its group has answered.
    pub(in crate::vm) fn fail(
        &mut self,
        wire_sequence: u16,
        now: Instant,
    ) -> Option<(u64, Instant, Instant)> {
        let sequence = self.newest(wire_sequence)?;
        let Ping::Outstanding { due, sent } = *self.get_mut(sequence)? else {
            return None;
        };
        let members = self.members.as_mut();
        let is_answered = members.is_some_and(|members| members.answered(sequence).is_some());
        if is_answered || now - sent > self.config.timeout {
            return None;
        }
        self.end(sequence);
        Some((sequence, due, sent))
    }

    /// The 16-bit number of the ping that is on its way, if that is one only.
    pub(super) fn only_outstanding(&self) -> Option<u16> {
        let first = self.oldest();
        let sent = (first..)
            .zip(&self.unfinished)
            .filter(|(_, ping)| matches!(ping, Ping::Outstanding { .. }));
        let mut numbers = sent.map(|(sequence, _)| sequence as u16);
        numbers.next().filter(|_| numbers.next().is_none())
    }

    /// When the oldest outstanding ping is to be given up.
    pub(in crate::vm) fn deadline(&self) -> Option<Instant> {
        self.unfinished.iter().find_map(|ping| match *ping {
            Ping::Outstanding { sent, .. } => Some(sent + self.config.timeout),
            Ping::Waiting { .. } | Ping::Ready { .. } | Ping::Over => None,
        })
    }

    /// Gives up the oldest outstanding ping if its reply is overdue at `now`.
    pub(in crate::vm) fn expire(&mut self, now: Instant) -> Option<(u64, PingOutcome)> {
        let index = self
            .unfinished
            .iter()
            .position(|ping| matches!(ping, Ping::Outstanding { .. }))?;
        let Some(&Ping::Outstanding { due, sent }) = self.unfinished.get(index) else {
            return None;
        };
        if sent + self.config.timeout > now {
            return None;
        }
        let sequence = self.oldest() + index as u64;
        self.end(sequence);
        Some((sequence, unanswered(&mut self.members, sequence, due, sent)))
    }

    /// The newest ping with the 16-bit `wire_sequence`.
    #[inline(always)]
    fn newest(&self, wire_sequence: u16) -> Option<u64> {
        self.newest_of(wire_sequence, u16::MAX)
    }

    /// The newest ping that has `wire_sequence` in the bits of `mask`.
    #[inline(always)]
    pub(super) fn newest_of(&self, wire_sequence: u16, mask: u16) -> Option<u64> {
        let newest = self.next_sequence.checked_sub(1)?;
        let behind = (newest as u16).wrapping_sub(wire_sequence) & mask;
        newest.checked_sub(u64::from(behind))
    }

    /// The number of the first ping that is not over; that of the next one where all are.
    pub(in crate::vm) fn oldest(&self) -> u64 {
        self.next_sequence - self.unfinished.len() as u64
    }

    fn get(&self, sequence: u64) -> Option<&Ping> {
        let index = usize::try_from(sequence.checked_sub(self.oldest())?).ok()?;
        self.unfinished.get(index)
    }

    fn get_mut(&mut self, sequence: u64) -> Option<&mut Ping> {
        let index = usize::try_from(sequence.checked_sub(self.oldest())?).ok()?;
        self.unfinished.get_mut(index)
    }

    fn end(&mut self, sequence: u64) {
        if sequence == self.oldest() {
            self.unfinished.pop_front();
        } else if let Some(ping) = self.get_mut(sequence) {
            *ping = Ping::Over;
        }
        self.forget_ended();
    }

    fn forget_ended(&mut self) {
        while self.unfinished.front() == Some(&Ping::Over) {
            self.unfinished.pop_front();
        }
    }

    fn was_answered(&self, sequence: u64) -> bool {
        let (word, bit) = history_position(sequence);
        self.answered.get(word).is_some_and(|w| w & bit != 0)
    }

    fn set_answered(&mut self, sequence: u64) {
        let (word, bit) = history_position(sequence);
        if let Some(w) = self.answered.get_mut(word) {
            *w |= bit;
        }
    }

    /// Makes room in the history for the ping `sequence`, the next one: a word for 64 pings at a time.
    fn make_history(&mut self, sequence: u64) {
        let (word, bit) = history_position(sequence);
        if bit != 1 {
            return;
        }
        match self.answered.get_mut(word) {
            Some(w) => *w = 0,
            None => {
                if word == 0 {
                    self.answered.reserve_exact(1);
                }
                self.answered.push(0);
            }
        }
    }
}

/// The outcome of a sent ping to which no further reply is waited for.
fn unanswered(
    members: &mut Option<Box<Members>>,
    sequence: u64,
    due: Instant,
    sent: Instant,
) -> PingOutcome {
    match members {
        Some(members) => members.give_up(sequence, due, sent),
        None => PingOutcome::Lost { due },
    }
}

/// The word and the bit of `sequence` in the history.
fn history_position(sequence: u64) -> (usize, u64) {
    let position = sequence % HISTORY;
    ((position / 64) as usize, 1 << (position % 64))
}
