//! The replies to pings of a multicast group: each member may answer each ping once.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::time::Instant;
use crate::vm::PingOutcome;

/// The most members of one group whose replies are told apart. Replies of more are not taken.
pub const MAX_MEMBERS: usize = 65_536;

/// One member of the group that a session pings: first those that are expected to answer, in the order in which they were
/// named, then others in the order in which they were heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId(pub u32);

/// The members that answer pings of one session, and those expected to.
///
/// Memory: some 80 bytes a member, and of each ping answered within the last timeout 40 bytes and a bit a member.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Of an expected member, the first of its addresses; `None` while it has none.
    addresses: Vec<Option<IpAddr>>,
    /// An expected member may have several.
    numbers: FxHashMap<IpAddr, MemberId>,
    /// When each expected member came; `None` while it is not there.
    present_since: Vec<Option<Instant>>,
    /// Bit `n` tells whether the expected member `n` is there.
    present: Vec<u64>,
    /// The expected members that have not answered pings which are over, with the time when such a ping was due.
    unanswered: Vec<(MemberId, Instant)>,
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
        *self.addresses.get(member.0 as usize)?
    }

    /// The member with that address, a new one if need be. `None` if there are too many.
    pub(super) fn find(&mut self, address: IpAddr) -> Option<MemberId> {
        if let Some(member) = self.numbers.get(&address) {
            return Some(*member);
        }
        let member = MemberId(self.addresses.len() as u32);
        (self.addresses.len() < MAX_MEMBERS).then_some(())?;
        self.addresses.push(Some(address));
        self.numbers.insert(address, member);
        Some(member)
    }

    /// The ping `sequence`, if it was answered of late.
    pub(super) fn answered(&mut self, sequence: u64) -> Option<&mut Answered> {
        let mut answered = self.answered.iter_mut().rev();
        answered.find(|answered| answered.sequence == sequence)
    }

    /// A ping has had its first reply at `now`. Those before `oldest`, the first that is not over, are forgotten whose
    /// `timeout` is over.
    pub(super) fn add(
        &mut self,
        now: Instant,
        timeout: Duration,
        oldest: u64,
        (sequence, due, sent): (u64, Instant, Instant),
    ) {
        while let Some(first) = self.answered.front()
            && first.sent + timeout < now
            && first.sequence < oldest
        {
            self.answered.pop_front();
        }
        self.answered.push_back(Answered {
            sequence,
            due,
            sent,
            by: Vec::new(),
        });
    }

    /// Expects the members with numbers below `count` to answer while they are there.
    pub(super) fn expect(&mut self, count: usize) {
        let count = count.min(MAX_MEMBERS);
        self.addresses.resize(count, None);
        self.present_since.resize(count, None);
        self.present.resize(count.div_ceil(64), 0);
    }

    /// The expected `member` answers from `addresses`, and is there since `since` at the latest if that is known.
    pub(super) fn update(
        &mut self,
        member: MemberId,
        since: Option<Instant>,
        addresses: impl Iterator<Item = IpAddr>,
    ) {
        let index = member.0 as usize;
        let Some(present_since) = self.present_since.get_mut(index) else {
            return;
        };
        *present_since = present_since.or(since);
        if present_since.is_some()
            && let Some(word) = self.present.get_mut(index / 64)
        {
            *word |= bit(member);
        }
        for address in addresses {
            self.numbers.insert(address, member);
            if let Some(known) = self.addresses.get_mut(index) {
                known.get_or_insert(address);
            }
        }
    }

    /// The expected `member` has left.
    pub(super) fn left(&mut self, member: MemberId) {
        let index = member.0 as usize;
        if let Some(since) = self.present_since.get_mut(index) {
            *since = None;
        }
        if let Some(word) = self.present.get_mut(index / 64) {
            *word &= !bit(member);
        }
    }

    /// The expected members that were there when a ping was sent at `sent`, are there now, and are not in `by`.
    fn missing(&self, by: &[u64], sent: Instant) -> impl Iterator<Item = MemberId> {
        let words = self.present.iter().enumerate();
        let missing = words.flat_map(move |(index, present)| {
            let mut left = present & !by.get(index).copied().unwrap_or(0);
            std::iter::from_fn(move || {
                let number = index as u32 * 64 + left.trailing_zeros();
                (left != 0).then(|| left &= left - 1)?;
                Some(MemberId(number))
            })
        });
        missing.filter(move |member| {
            let since = self.present_since.get(member.0 as usize).copied().flatten();
            since.is_some_and(|since| since <= sent)
        })
    }

    /// Tells if every expected member has answered `sequence`.
    pub(super) fn have_all_answered(&self, sequence: u64) -> bool {
        let mut answered = self.answered.iter().rev();
        let answered = answered.find(|answered| answered.sequence == sequence);
        answered.is_some_and(|ping| self.missing(&ping.by, ping.sent).next().is_none())
    }

    /// Ends a ping that was due at `due` and sent at `sent`, to which no further reply is waited for.
    pub(super) fn give_up(&mut self, sequence: u64, due: Instant, sent: Instant) -> PingOutcome {
        let by = self.answered(sequence).map(|ping| ping.by.clone());
        let missing: Vec<_> = self
            .missing(by.as_deref().unwrap_or_default(), sent)
            .collect();
        let missing = missing.into_iter().map(|member| (member, due));
        self.unanswered.extend(missing);
        match by {
            Some(_) => PingOutcome::MembersLost { due },
            None => PingOutcome::Lost { due },
        }
    }

    /// The expected members that have not answered pings which are over, each with the time when its ping was due. They are
    /// told once.
    pub(super) fn take_unanswered(&mut self) -> Vec<(MemberId, Instant)> {
        std::mem::take(&mut self.unanswered)
    }
}

/// The bit of `member` in its word.
const fn bit(member: MemberId) -> u64 {
    1 << (member.0 % 64)
}

impl Answered {
    /// Notes that a member has answered. False if it had before.
    pub(super) fn insert(&mut self, member: MemberId) -> bool {
        let (word, bit) = (member.0 as usize / 64, bit(member));
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
