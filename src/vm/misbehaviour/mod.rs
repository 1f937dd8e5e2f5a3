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

pub use self::kind::{Flood, HIGHEST_MISBEHAVIOUR_RATE, LONGEST_MISBEHAVIOUR, Misbehaviour};
pub use self::misdeeds::{Misdeed, Misdeeds};
use self::pace::{Limit, Pace};
use super::RxFilter;
use crate::time::Instant;
use crate::wire::{
    MacAddr, Vlan, behind_tags, multicast_mac, put_on, replace_source_mac, solicited_node, untagged,
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
    doing: Doing,
    /// From then on it sends nothing unasked.
    end: Instant,
    /// It behaves again, but for what it holds still.
    has_ended: bool,
    misdeeds: Misdeeds,
}

/// The state of a misbehaviour.
#[derive(Debug)]
enum Doing {
    /// Nothing is sent and nothing taken.
    Silent,
    /// Frames are sent unasked.
    Paced(Pace),
    /// Frames are held, in the order of their sending.
    Slow {
        held: VecDeque<(Instant, Box<[u8]>)>,
        bytes: usize,
    },
    /// The link goes up or down then.
    Flap { at: Instant, up: bool },
    /// Frames are sent from another hardware address.
    WrongMac(MacAddr),
    /// Frames are sent back, no more than that.
    Loop(Limit),
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
        let doing = match misbehaviour {
            Misbehaviour::Silent => Doing::Silent,
            Misbehaviour::Slow(_) => Doing::Slow {
                held: VecDeque::new(),
                bytes: 0,
            },
            Misbehaviour::Flap { .. } => Doing::Flap { at: now, up: false },
            Misbehaviour::Steal(_) => Doing::Paced(Pace::every(now, STEAL_INTERVAL)),
            Misbehaviour::WrongMac => Doing::WrongMac(frames::random_mac(&mut random)),
            Misbehaviour::Flood(_, rate) => Doing::Paced(Pace::per_second(now, rate)),
            Misbehaviour::Loop(rate) => Doing::Loop(Limit::per_second(rate)),
        };
        Misbehaving {
            misbehaviour,
            station,
            random,
            doing,
            end,
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

    /// The hardware address that it sends from in place of its own, if that is another.
    pub const fn wrong_mac(&self) -> Option<MacAddr> {
        match self.doing {
            Doing::WrongMac(mac) => Some(mac),
            _ => None,
        }
    }

    /// From now on others know the VM as `station`: its address is another, or it has none any more.
    pub const fn set_station(&mut self, station: Station) {
        self.station = station;
    }

    /// Counts a frame that it was to send, and that its port did not take.
    pub fn refused(&mut self) {
        self.misdeeds.add(Misdeed::Refused);
    }

    /// The frames that it holds, the one that is due first at the front.
    pub fn held(&self) -> impl Iterator<Item = &[u8]> {
        let held = match &self.doing {
            Doing::Slow { held, .. } => Some(held),
            _ => None,
        };
        held.into_iter().flatten().map(|(_, frame)| &**frame)
    }

    /// Drops the frames that it holds, and counts them.
    pub fn drop_held(&mut self) {
        if let Doing::Slow { held, bytes } = &mut self.doing {
            self.misdeeds.add_many(Misdeed::Missed, held.len() as u64);
            held.clear();
            *bytes = 0;
        }
    }

    /// Widens the receive filter of its VM by what it has to hear.
    pub fn widen(&self, rx_filter: &mut RxFilter) {
        match self.misbehaviour {
            _ if self.has_ended => {}
            Misbehaviour::Loop(_) => rx_filter.is_promiscuous = true,
            // One that looks for an address hears all requests anyway.
            Misbehaviour::Steal(IpAddr::V4(address)) if !rx_filter.addresses.is_empty() => {
                rx_filter.addresses.push(address);
            }
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
        match (&mut self.doing, self.misbehaviour) {
            _ if self.has_ended => Sending::Now,
            (Doing::Silent, _) | (Doing::Flap { up: true, .. }, _) => {
                self.misdeeds.add(Misdeed::Withheld);
                Sending::Never
            }
            (Doing::Slow { held, bytes }, Misbehaviour::Slow(delay)) => {
                if *bytes + frame.len() > MOST_HELD {
                    self.misdeeds.add(Misdeed::Missed);
                    return Sending::Never;
                }
                *bytes += frame.len();
                held.push_back((now + delay, (&*frame).into()));
                Sending::Later
            }
            (Doing::WrongMac(wrong), _) => {
                let tags = self.station.vlan.map_or(0, Vlan::length);
                replace_source_mac(frame, tags, self.station.mac, *wrong);
                self.misdeeds.add(Misdeed::Changed);
                Sending::Now
            }
            _ => Sending::Now,
        }
    }

    /// Tells what becomes of `frame`, which comes for the VM at `now`; its answer is built in `answer`.
    pub fn receives(&mut self, now: Instant, frame: &[u8], answer: &mut [u8]) -> Receiving {
        let (receiving, misdeed) = match (&mut self.doing, self.misbehaviour) {
            _ if self.has_ended => return Receiving::Taken,
            (Doing::Silent, _) => (Receiving::Ignored, Misdeed::Ignored),
            (Doing::Loop(limit), _) => match limit.allow(now) {
                true => (Receiving::Reflected, Misdeed::Reflected),
                false => (Receiving::Taken, Misdeed::Missed),
            },
            (_, Misbehaviour::Steal(address)) => match self.claim(frame, address, answer) {
                Some(length) => (Receiving::Answered(length), Misdeed::Answered),
                None => return Receiving::Taken,
            },
            _ => return Receiving::Taken,
        };
        self.misdeeds.add(misdeed);
        receiving
    }

    /// When [`Misbehaving::poll`] has something to do; `None` for never.
    pub fn next_at(&self) -> Option<Instant> {
        match &self.doing {
            Doing::Slow { held, .. } => held.front().map(|(at, _)| *at),
            _ if self.has_ended => None,
            Doing::Paced(pace) => Some(pace.next_at()).filter(|at| *at < self.end),
            Doing::Flap { at, .. } => Some(*at).filter(|at| *at < self.end),
            Doing::Silent | Doing::WrongMac(_) | Doing::Loop(_) => None,
        }
    }

    /// Does one thing that is due at `now`; a frame to send is built in `buffer`. `None` when nothing is due.
    pub fn poll(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Act> {
        let due = self.next_at().filter(|at| *at <= now)?;
        match (&mut self.doing, self.misbehaviour) {
            (Doing::Slow { held, bytes }, _) => {
                let (_, frame) = held.pop_front()?;
                *bytes -= frame.len();
                buffer.get_mut(..frame.len())?.copy_from_slice(&frame);
                self.misdeeds.add(Misdeed::Delayed);
                Some(Act::Send(frame.len()))
            }
            (Doing::Paced(pace), _) => {
                self.misdeeds.add_many(Misdeed::Missed, pace.take(now)?);
                let length = self.build(buffer)?;
                self.misdeeds.add(Misdeed::Sent);
                Some(Act::Send(length))
            }
            (Doing::Flap { at, up }, Misbehaviour::Flap { period, down }) => {
                let is_up_for = period.saturating_sub(down);
                let turns_up = *up;
                // A turn that comes late does not make the next one early: each state lasts as long as it is to.
                let is_late = now - due > down.min(is_up_for);
                let since = if is_late { now } else { due };
                *at = since + if turns_up { is_up_for } else { down };
                *up = !turns_up;
                if !turns_up {
                    self.misdeeds.add(Misdeed::LinkDown);
                }
                Some(Act::Link(turns_up))
            }
            _ => None,
        }
    }

    /// Ends the misbehaviour at `now`. Returns true if the VM's link is to be set up. What it holds still is sent when it is due;
    /// [`Misbehaving::is_over`] tells when there is no more.
    pub fn end(&mut self, now: Instant) -> bool {
        let is_down = self.is_link_down();
        if std::mem::replace(&mut self.has_ended, true) {
            return false;
        }
        if let Doing::Paced(pace) = &self.doing {
            let left = pace.left(now.min(self.end));
            self.misdeeds.add_many(Misdeed::Missed, left);
        }
        is_down
    }

    /// Returns true once it has ended and holds nothing more.
    pub fn is_over(&self) -> bool {
        self.has_ended && self.next_at().is_none()
    }

    /// Returns true if its link is down: the next turn is the one that sets it up.
    pub const fn is_link_down(&self) -> bool {
        matches!(self.doing, Doing::Flap { up: true, .. }) && !self.has_ended
    }

    /// Builds the next frame that it sends unasked.
    fn build(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let (station, random) = (&self.station, &mut self.random);
        let room = behind_tags(station.vlan, buffer);
        let length = match self.misbehaviour {
            Misbehaviour::Steal(address) => frames::announcement(station, address, room),
            Misbehaviour::Flood(flood, _) => frames::flood(flood, station, random, room),
            _ => None,
        };
        Some(put_on(station.vlan, buffer, length?))
    }

    /// Answers `frame` if it asks who has `address`.
    fn claim(&self, frame: &[u8], address: IpAddr, answer: &mut [u8]) -> Option<usize> {
        let vlan = self.station.vlan;
        let question = untagged(vlan, frame)?;
        let room = behind_tags(vlan, answer);
        let length = frames::claim(&self.station, &question, address, room)?;
        Some(put_on(vlan, answer, length))
    }
}

#[cfg(test)]
mod tests;
