//! The replies to pings of a multicast group: each member may answer each ping once.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::time::Instant;

/// The most members of one group whose replies are told apart. Replies of more are not taken.
pub const MAX_MEMBERS: usize = 65_536;

/// One member of the group that a session pings, in the order in which they were heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId(pub u32);

/// The members that have answered pings of one session.
///
/// Memory: some 60 bytes a member, and of each ping answered within the last timeout 40 bytes and a bit a member.
#[derive(Debug, Default)]
pub(super) struct Members {
    addresses: Vec<IpAddr>,
    numbers: FxHashMap<IpAddr, MemberId>,
    /// The pings that were answered within the last timeout, in the order of their first answers.
    answered: VecDeque<Answered>,
}

#[derive(Debug)]
pub(super) struct Answered {
    sequence: u64,
    pub(super) due: Instant,
    pub(super) sent: Instant,
    /// Bit `n` tells whether member `n` has answered.
    by: Vec<u64>,
}

impl Members {
    /// The address of a member.
    pub(super) fn address(&self, member: MemberId) -> Option<IpAddr> {
        self.addresses.get(member.0 as usize).copied()
    }

    /// The member with that address, a new one if need be. `None` if there are too many.
    pub(super) fn find(&mut self, address: IpAddr) -> Option<MemberId> {
        if let Some(member) = self.numbers.get(&address) {
            return Some(*member);
        }
        let member = MemberId(self.addresses.len() as u32);
        (self.addresses.len() < MAX_MEMBERS).then_some(())?;
        self.addresses.push(address);
        self.numbers.insert(address, member);
        Some(member)
    }

    /// The ping `sequence`, if it was answered of late.
    pub(super) fn answered(&mut self, sequence: u64) -> Option<&mut Answered> {
        let mut answered = self.answered.iter_mut().rev();
        answered.find(|answered| answered.sequence == sequence)
    }

    /// A ping has ended with its first reply at `now`, which is that of `member` unless its payload was wrong. Those before
    /// are forgotten whose `timeout` is over.
    pub(super) fn add(
        &mut self,
        now: Instant,
        timeout: Duration,
        (sequence, due, sent): (u64, Instant, Instant),
        member: Option<MemberId>,
    ) {
        while let Some(oldest) = self.answered.front()
            && oldest.sent + timeout < now
        {
            self.answered.pop_front();
        }
        let mut answered = Answered {
            sequence,
            due,
            sent,
            by: Vec::new(),
        };
        if let Some(member) = member {
            answered.insert(member);
        }
        self.answered.push_back(answered);
    }
}

impl Answered {
    /// Notes that a member has answered. False if it had before.
    pub(super) fn insert(&mut self, member: MemberId) -> bool {
        let (word, bit) = (member.0 as usize / 64, 1u64 << (member.0 % 64));
        if self.by.len() <= word {
            self.by.resize(word + 1, 0);
        }
        let Some(word) = self.by.get_mut(word) else {
            return false;
        };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}
