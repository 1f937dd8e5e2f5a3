//! The frames of pings, of searches for neighbours and of streams that impairments dropped or changed, for whoever wants to know why
//! they did not arrive.

use std::collections::VecDeque;

use super::{Direction, Impaired, Impairment};
use crate::fabric::fragments::Fragments;
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::{PingHead, ProbeHead, StreamHead};

/// So many are kept until they are taken, the last ones.
const MAX_NOTED: usize = 1 << 16;

/// What was done on purpose to a frame of which nothing was passed on as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// An impairment.
    Impairment(Impairment),
    /// The VM did not send or take it, because it misbehaves in the way that has this name.
    Misbehaviour(&'static str),
    /// The VM holds it, because it is slow on purpose.
    Slow,
}

impl Harm {
    /// Returns true if the frame is only held: it goes on later.
    pub const fn is_hold(self) -> bool {
        matches!(self, Harm::Impairment(Impairment::Delayed) | Harm::Slow)
    }
}

/// A frame of a ping, or of the search for a neighbour, of which nothing was passed on as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImpairedPing {
    /// The time.
    pub at: Instant,
    /// The VM whose frames are impaired.
    pub vm: VmId,
    /// The direction in which they are.
    pub direction: Direction,
    /// What was done to it.
    pub harm: Harm,
    /// The frame, as it was before.
    pub head: PingHead,
}

/// A frame of a stream of which nothing was passed on as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImpairedStream {
    /// The VM whose frames are impaired.
    pub vm: VmId,
    /// The direction in which they are.
    pub direction: Direction,
    /// What was done to it.
    pub harm: Harm,
    /// The frame, as it was before.
    pub head: StreamHead,
}

/// What was done to a frame of which nothing is passed on as it was.
const HARMS: [Impairment; 5] = [
    Impairment::Lost,
    Impairment::QueueFull,
    Impairment::NoMemory,
    Impairment::Unreleased,
    Impairment::Corrupted,
];

/// Those that nobody has taken yet, the oldest first.
#[derive(Debug, Default)]
pub(in crate::fabric) struct Noted {
    pings: VecDeque<ImpairedPing>,
    streams: VecDeque<ImpairedStream>,
    /// The datagrams whose first fragments were seen.
    fragments: Fragments<ProbeHead>,
}

impl Noted {
    /// Remembers of which ping `frame` is if it is the first of several fragments: the others do not say so.
    pub(super) fn see(&mut self, place: (VmId, Direction), frame: &[u8]) {
        if let Some(head) = ProbeHead::parse(frame) {
            self.fragments.begin(place, frame, head);
        }
    }

    pub(super) fn note(
        &mut self,
        (vm, direction): (VmId, Direction),
        now: impl FnOnce() -> Instant,
        frame: &[u8],
        impaired: Impaired,
    ) {
        if !impaired.is_dropped() && !impaired.has(Impairment::Corrupted) {
            return;
        }
        let kind = HARMS.into_iter().find(|kind| impaired.has(*kind));
        if let Some(kind) = kind {
            self.push((vm, direction), now, frame, Harm::Impairment(kind));
        }
    }

    /// Notes `frame` if it is of a ping, of the search for a neighbour, or of a stream and not only late.
    pub(in crate::fabric) fn push(
        &mut self,
        (vm, direction): (VmId, Direction),
        now: impl FnOnce() -> Instant,
        frame: &[u8],
        harm: Harm,
    ) {
        let place = (vm, direction);
        let later = || self.fragments.find(place, frame).map(|(head, _)| head);
        let head = PingHead::parse(frame).or_else(|| later().map(PingHead::Probe));
        let Some(head) = head else {
            if let Some(head) = StreamHead::parse(frame).filter(|_| !harm.is_hold()) {
                if self.streams.len() >= MAX_NOTED {
                    self.streams.pop_front();
                }
                self.streams.push_back(ImpairedStream {
                    vm,
                    direction,
                    harm,
                    head,
                });
            }
            return;
        };
        if self.pings.len() >= MAX_NOTED {
            self.pings.pop_front();
        }
        self.pings.push_back(ImpairedPing {
            at: now(),
            vm,
            direction,
            harm,
            head,
        });
    }

    pub(in crate::fabric) fn take(&mut self) -> Vec<ImpairedPing> {
        self.pings.drain(..).collect()
    }

    pub(in crate::fabric) fn take_streams(&mut self) -> Vec<ImpairedStream> {
        self.streams.drain(..).collect()
    }
}
