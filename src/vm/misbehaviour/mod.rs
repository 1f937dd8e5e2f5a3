//! Misbehaviour on purpose: a VM that is a bad neighbour to the others, as a textbook has it.
//!
//! [`Misbehaving`] stands between a VM and its port, and is pure as the VM is: it is asked about each frame that the VM sends
//! or that comes for it, and says what it has to send unasked, and when. A VM that behaves has none. Read RFC 5227 section 1.1
//! (a stolen address), RFC 6104 (rogue router advertisements) and RFC 6583 (floods of neighbour discovery) first.

mod frames;
mod kind;
mod misdeeds;
mod pace;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use self::kind::{
    Flood, HIGHEST_MISBEHAVIOUR_RATE, LONGEST_MISBEHAVIOUR, MISBEHAVIOUR_NAMES, Misbehaviour,
};
pub use self::misdeeds::{Misdeed, Misdeeds};
use self::pace::{Limit, Pace};
use super::RxFilter;
use crate::time::Instant;
use crate::wire::{
    EthernetFrame, MacAddr, Vlan, multicast_mac, replace_source_mac, solicited_node, take_off,
};

/// Time between two announcements of a stolen address.
const STEAL_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of frames that a slow VM holds at most; further ones are dropped, and counted.
const MOST_HELD: usize = 16 << 20;

/// The VM whose misbehaviour it is, as others know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Station {
    /// Its hardware address.
    pub mac: MacAddr,
    /// Its IPv4 address, if it has one.
    pub address: Option<Ipv4Addr>,
    /// The number of bits of that which name the network.
    pub prefix_length: u8,
    /// Its VLAN.
    pub vlan: Option<Vlan>,
}

/// What becomes of a frame that the VM sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sending {
    /// It is sent, as it is in the buffer now.
    Now,
    /// It is held, and sent later by [`Misbehaving::poll`].
    Later,
    /// It is not sent.
    Never,
}

/// What becomes of a frame that comes for the VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiving {
    /// The VM takes it.
    Taken,
    /// The VM does not take it.
    Ignored,
    /// It is answered by the frame of this length, and the VM does not take it.
    Answered(usize),
    /// It is sent back, and the VM takes it.
    Reflected,
}

/// Something that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// The frame of this length, at the start of the buffer, is sent.
    Send(usize),
    /// The VM's link goes up, or down.
    Link(bool),
}

/// A VM that misbehaves.
#[derive(Debug)]
pub struct Misbehaving {
    misbehaviour: Misbehaviour,
    station: Station,
    random: fastrand::Rng,
    /// Its frames, of one that sends unasked.
    pace: Option<Pace>,
    /// The frames that it may send back.
    limit: Limit,
    /// From then on it sends nothing unasked.
    end: Instant,
    /// The frames of a slow VM, in the order of their sending.
    held: VecDeque<(Instant, Box<[u8]>)>,
    held_bytes: usize,
    /// When its link goes up or down.
    link: Option<(Instant, bool)>,
    /// The hardware address that it sends from in place of its own.
    wrong_mac: MacAddr,
    /// It behaves again, but for what it holds still.
    has_ended: bool,
    misdeeds: Misdeeds,
}

impl Misbehaving {
    /// A VM that misbehaves from `now` on until `end`, or until it is [ended](Misbehaving::end); random choices follow from
    /// `seed`.
    pub fn new(
        (now, end): (Instant, Instant),
        misbehaviour: Misbehaviour,
        station: Station,
        seed: u64,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let pace = match misbehaviour {
            Misbehaviour::Flood(_, rate) => Some(Pace::per_second(now, rate)),
            Misbehaviour::Steal(_) => Some(Pace::every(now, STEAL_INTERVAL)),
            _ => None,
        };
        let limit = match misbehaviour {
            Misbehaviour::Loop(rate) => Limit::per_second(rate),
            _ => Limit::per_second(HIGHEST_MISBEHAVIOUR_RATE),
        };
        Misbehaving {
            misbehaviour,
            station,
            pace,
            limit,
            end,
            held: VecDeque::new(),
            held_bytes: 0,
            link: matches!(misbehaviour, Misbehaviour::Flap { .. }).then_some((now, false)),
            wrong_mac: frames::random_mac(&mut random),
            random,
            has_ended: false,
            misdeeds: Misdeeds::default(),
        }
    }

    /// The misbehaviour.
    pub const fn misbehaviour(&self) -> Misbehaviour {
        self.misbehaviour
    }

    /// What it has done so far.
    pub const fn misdeeds(&self) -> &Misdeeds {
        &self.misdeeds
    }

    /// Counts a frame that it was to send, and that its port did not take.
    pub fn refused(&mut self) {
        self.misdeeds.add(Misdeed::Refused);
    }

    /// Widens the receive filter of its VM by what it has to hear.
    pub fn widen(&self, rx_filter: &mut RxFilter) {
        match self.misbehaviour {
            _ if self.has_ended => {}
            Misbehaviour::Loop(_) => rx_filter.is_promiscuous = true,
            Misbehaviour::Steal(IpAddr::V4(address)) => rx_filter.addresses.push(address),
            Misbehaviour::Steal(IpAddr::V6(address)) => {
                rx_filter
                    .groups
                    .push(multicast_mac(solicited_node(address)));
            }
            _ => {}
        }
    }

    /// Tells what becomes of `frame`, which the VM sends at `now`. It may be changed.
    pub fn sends(&mut self, now: Instant, frame: &mut [u8]) -> Sending {
        match self.misbehaviour {
            _ if self.has_ended => Sending::Now,
            Misbehaviour::Silent => self.withhold(),
            Misbehaviour::Flap { .. } if self.is_link_down() => self.withhold(),
            Misbehaviour::Slow(delay) => self.hold(now + delay, frame),
            Misbehaviour::WrongMac => {
                let tags = self.station.vlan.map_or(0, Vlan::length);
                replace_source_mac(frame, tags, self.station.mac, self.wrong_mac);
                self.misdeeds.add(Misdeed::Changed);
                Sending::Now
            }
            _ => Sending::Now,
        }
    }

    /// Tells what becomes of `frame`, which comes for the VM at `now`; its answer is built in `answer`.
    pub fn receives(&mut self, now: Instant, frame: &[u8], answer: &mut [u8]) -> Receiving {
        match self.misbehaviour {
            _ if self.has_ended => Receiving::Taken,
            Misbehaviour::Silent => {
                self.misdeeds.add(Misdeed::Ignored);
                Receiving::Ignored
            }
            Misbehaviour::Loop(_) => match self.limit.allow(now) {
                true => {
                    self.misdeeds.add(Misdeed::Reflected);
                    Receiving::Reflected
                }
                false => {
                    self.misdeeds.add(Misdeed::Missed);
                    Receiving::Taken
                }
            },
            Misbehaviour::Steal(address) => match self.claim(frame, address, answer) {
                Some(length) => {
                    self.misdeeds.add(Misdeed::Answered);
                    Receiving::Answered(length)
                }
                None => Receiving::Taken,
            },
            _ => Receiving::Taken,
        }
    }

    /// When [`Misbehaving::poll`] has something to do; `None` for never.
    pub fn next_at(&self) -> Option<Instant> {
        let pace = self.pace.as_ref().filter(|_| !self.has_ended);
        let unasked = pace.map(Pace::next_at).filter(|at| *at < self.end);
        let held = self.held.front().map(|(at, _)| *at);
        let link = self.link.map(|(at, _)| at).filter(|at| *at < self.end);
        let next = [unasked, held, link];
        next.into_iter().flatten().min()
    }

    /// Does one thing that is due at `now`; a frame to send is built in `buffer`. `None` when nothing is due.
    pub fn poll(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Act> {
        if let Some((at, up)) = self.link
            && at <= now
            && at < self.end
        {
            return Some(self.turn_link(now, at, up));
        }
        if self.held.front().is_some_and(|(at, _)| *at <= now) {
            let (_, frame) = self.held.pop_front()?;
            self.held_bytes -= frame.len();
            buffer.get_mut(..frame.len())?.copy_from_slice(&frame);
            self.misdeeds.add(Misdeed::Delayed);
            return Some(Act::Send(frame.len()));
        }
        let (has_ended, end) = (self.has_ended, self.end);
        let pace = self.pace.as_mut();
        let pace = pace.filter(|pace| !has_ended && pace.next_at() < end)?;
        self.misdeeds.add_many(Misdeed::Missed, pace.take(now)?);
        let length = self.build(buffer)?;
        self.misdeeds.add(Misdeed::Sent);
        Some(Act::Send(length))
    }

    /// Ends the misbehaviour at `now`. Returns true if the VM's link is to be set up. What it holds still is sent when it is due;
    /// [`Misbehaving::is_over`] tells when there is no more.
    pub fn end(&mut self, now: Instant) -> bool {
        let is_down = self.is_link_down();
        let left = self.pace.as_ref().map(|pace| pace.left(now.min(self.end)));
        self.misdeeds.add_many(Misdeed::Missed, left.unwrap_or(0));
        self.link = None;
        self.has_ended = true;
        is_down
    }

    /// Returns true once it has ended and holds nothing more.
    pub fn is_over(&self) -> bool {
        self.has_ended && self.held.is_empty()
    }

    /// Returns true if its link is down: the next turn is the one that sets it up.
    fn is_link_down(&self) -> bool {
        self.link.is_some_and(|(_, up)| up)
    }

    fn withhold(&mut self) -> Sending {
        self.misdeeds.add(Misdeed::Withheld);
        Sending::Never
    }

    fn hold(&mut self, at: Instant, frame: &[u8]) -> Sending {
        if self.held_bytes + frame.len() > MOST_HELD {
            self.misdeeds.add(Misdeed::Missed);
            return Sending::Never;
        }
        self.held_bytes += frame.len();
        self.held.push_back((at, frame.into()));
        Sending::Later
    }

    /// Takes note of the link's next turn, and returns the one that is due.
    fn turn_link(&mut self, now: Instant, at: Instant, up: bool) -> Act {
        if let Misbehaviour::Flap { period, down } = self.misbehaviour {
            let is_up_for = period.saturating_sub(down);
            let stays = if up { is_up_for } else { down };
            // A turn that comes late does not make the next one early: each state lasts as long as it is to.
            let since = if now - at > down.min(is_up_for) {
                now
            } else {
                at
            };
            self.link = Some((since + stays, !up));
        }
        if !up {
            self.misdeeds.add(Misdeed::LinkDown);
        }
        Act::Link(up)
    }

    /// Builds the next frame that it sends unasked.
    fn build(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (station, random) = (&self.station, &mut self.random);
        let untagged = behind_tags(station.vlan, buffer);
        let length = match self.misbehaviour {
            Misbehaviour::Steal(address) => frames::announcement(station, address, untagged),
            Misbehaviour::Flood(flood, _) => frames::flood(flood, station, random, untagged),
            _ => None,
        };
        tag(station.vlan, buffer, length?)
    }

    /// Answers `frame` if it asks who has `address`.
    fn claim(&self, frame: &[u8], address: IpAddr, answer: &mut [u8]) -> Option<usize> {
        let mut question = frame.to_vec();
        let start = take_off(self.station.vlan, &mut question)?;
        let question = EthernetFrame::parse(question.get(start..)?).ok()?;
        let untagged = behind_tags(self.station.vlan, answer);
        let length = frames::claim(&self.station, &question, address, untagged);
        tag(self.station.vlan, answer, length?)
    }
}

/// Where a frame is built, with room before it for the tags of a VLAN.
fn behind_tags(vlan: Option<Vlan>, buffer: &mut [u8]) -> &mut [u8] {
    let tags = vlan.map_or(0, Vlan::length);
    buffer.get_mut(tags..).unwrap_or_default()
}

/// Puts the tags of a VLAN on a frame that was built behind them. Returns its length then.
fn tag(vlan: Option<Vlan>, buffer: &mut [u8], length: usize) -> Option<usize> {
    match vlan {
        None => Some(length),
        Some(vlan) => vlan.put_on(buffer).map(|()| length + vlan.length()),
    }
}

#[cfg(test)]
mod tests;
