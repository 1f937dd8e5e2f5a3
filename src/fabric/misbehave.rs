//! VMs that misbehave on purpose, between them and their ports.
//!
//! What each does is [`Misbehaving`]'s. Here the frames of all of them pass, and what they have done is kept for the report.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::impair::{MAX_LOOKS, Noted};
use super::{Direction, Harm, ImpairedPing, ImpairedStream};
use crate::time::{Instant, Now};
use crate::vm::{
    Act, Misbehaving, Misbehaviour, Misdeeds, Receiving, RxFilter, Sending, Station, VmId,
};
use crate::wire::{LARGEST_FRAME, MacAddr, PingHead, StreamHead};

/// VMs that misbehave at a time at most.
pub const MAX_MISBEHAVING: usize = 64;
/// Misbehaviours of a run at most.
pub const MAX_MISBEHAVIOURS: usize = 256;
/// Times that links were down which are remembered, the last ones.
const MAX_DOWNS: usize = 4_096;
/// The most copies of frames that floods may make in a second, on all ports together: a kernel takes about two microseconds
/// for each, and this process as much.
const MOST_COPIES: u64 = 250_000;

/// Checks that a network of so many ports can carry `rate` frames a second that go to all of them.
///
/// # Errors
/// If it can't; says what is expected.
pub fn check_copies_of(rate: u64, ports: usize) -> Result<(), String> {
    let others = (ports as u64).saturating_sub(1);
    let copies = rate.saturating_mul(others);
    if copies <= MOST_COPIES {
        return Ok(());
    }
    let most = MOST_COPIES / others.max(1);
    Err(format!(
        "{rate} frames/s, each to {others} others, are {copies} copies a second; expected {most} frames/s at most, or fewer VMs"
    ))
}

/// The misbehaviour of one VM, and what it has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MisbehaviourRecord {
    /// The VM.
    pub vm: VmId,
    /// What it does.
    pub misbehaviour: Misbehaviour,
    /// Its beginning.
    pub began: Instant,
    /// Its end; `None` if it goes on.
    pub ended: Option<Instant>,
    /// What was done.
    pub misdeeds: Misdeeds,
    /// Why it did not take place; `None` if it did.
    pub refused: Option<String>,
}

/// All VMs that misbehave, or have.
#[derive(Debug, Default)]
pub(super) struct Misbehave {
    active: FxHashMap<VmId, Active>,
    records: Vec<MisbehaviourRecord>,
    /// Frames of pings that were neither sent nor taken, if these are noted.
    noted: Option<Noted>,
    /// Frames that are held for longer are noted, too.
    longest_hold: Option<Duration>,
    /// The times for which links were down, until `None` if one still is; the oldest first.
    downs: VecDeque<(VmId, Instant, Option<Instant>)>,
    /// The frame that was made last, or changed before it is sent.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Active {
    misbehaving: Misbehaving,
    /// The index of its record.
    record: usize,
}

impl Misbehave {
    /// From now on frames of pings that are neither sent nor taken are noted.
    pub(super) fn note_pings(&mut self) {
        self.noted.get_or_insert_default();
    }

    /// From now on those are noted, too, that are held for longer than that.
    pub(super) const fn note_longer_holds(&mut self, longest: Duration) {
        self.longest_hold = Some(longest);
    }

    /// The frames of pings, and of searches for neighbours, that slow VMs hold at `now`, up to a number that is looked at in no
    /// time.
    pub(super) fn held_pings(&self, now: Instant) -> impl Iterator<Item = ImpairedPing> {
        self.held().take(MAX_LOOKS).filter_map(move |(vm, frame)| {
            Some(ImpairedPing {
                at: now,
                vm,
                direction: Direction::Out,
                harm: Harm::Slow,
                head: PingHead::parse(frame)?,
            })
        })
    }

    /// The frames of streams that they hold, all of them.
    pub(super) fn held_streams(&self) -> impl Iterator<Item = ImpairedStream> {
        self.held().filter_map(|(vm, frame)| {
            Some(ImpairedStream {
                vm,
                direction: Direction::Out,
                harm: Harm::Slow,
                head: StreamHead::parse(frame)?,
            })
        })
    }

    fn held(&self) -> impl Iterator<Item = (VmId, &[u8])> {
        self.active.iter().flat_map(|(vm, active)| {
            let frames = active.misbehaving.held();
            frames.map(move |frame| (*vm, frame))
        })
    }

    /// Takes those that were noted since the last call.
    pub(super) fn take_noted(&mut self) -> Vec<ImpairedPing> {
        self.noted.as_mut().map_or_else(Vec::new, Noted::take)
    }

    /// The same of frames of streams.
    pub(super) fn take_noted_streams(&mut self) -> Vec<ImpairedStream> {
        self.noted
            .as_mut()
            .map_or_else(Vec::new, Noted::take_streams)
    }

    /// Makes `vm` misbehave from `now` on until `end` at the latest. Returns the hardware address that it sends from in place of
    /// its own, if that is another. The error says why it can't.
    pub(super) fn begin(
        &mut self,
        (now, end): (Instant, Instant),
        vm: VmId,
        misbehaviour: Misbehaviour,
        (station, seed): (Station, u64),
    ) -> Result<Option<MacAddr>, String> {
        if self.is_misbehaving(vm) {
            let other = self.active.get(&vm).map(|of| of.misbehaving.misbehaviour());
            let other = other.map_or_else(String::new, |other| other.to_string());
            return Err(format!(
                "{vm} misbehaves already: {other}; expected a VM that does not"
            ));
        }
        if self.active.len() >= MAX_MISBEHAVING {
            let most = MAX_MISBEHAVING;
            return Err(format!(
                "{most} VMs misbehave already; expected no more at a time"
            ));
        }
        let begun = self.records.iter().filter(|each| each.refused.is_none());
        if begun.count() >= MAX_MISBEHAVIOURS {
            let most = MAX_MISBEHAVIOURS;
            return Err(format!(
                "there were {most} misbehaviours already; expected no more in a run"
            ));
        }
        self.scratch.resize(LARGEST_FRAME, 0);
        // One that has ended, and holds something still, drops that.
        self.forget(now, vm);
        let misbehaving = Misbehaving::new((now, end), misbehaviour, station, seed);
        let wrong_mac = misbehaving.wrong_mac();
        let record = self.records.len();
        self.record(now, vm, misbehaviour, None);
        self.active.insert(
            vm,
            Active {
                misbehaving,
                record,
            },
        );
        Ok(wrong_mac)
    }

    /// Takes note that `vm` was to misbehave at `now`, and does not. Those of a plan are refused, so there are no more of
    /// them than it has.
    pub(super) fn refuse(&mut self, now: Instant, vm: VmId, what: Misbehaviour, why: String) {
        self.record(now, vm, what, Some(why));
    }

    fn record(
        &mut self,
        now: Instant,
        vm: VmId,
        misbehaviour: Misbehaviour,
        refused: Option<String>,
    ) {
        self.records.push(MisbehaviourRecord {
            vm,
            misbehaviour,
            began: now,
            ended: refused.is_some().then_some(now),
            misdeeds: Misdeeds::default(),
            refused,
        });
    }

    /// Ends the misbehaviour of `vm` at `now`. Returns what it was, and true if the VM's link is to be set up.
    pub(super) fn end(&mut self, now: Instant, vm: VmId) -> Option<(Misbehaviour, bool)> {
        let active = self.active.get_mut(&vm)?;
        let record = self.records.get_mut(active.record);
        if record.as_ref().is_some_and(|record| record.ended.is_some()) {
            return None;
        }
        let is_down = active.misbehaving.end(now);
        if let Some(record) = record {
            record.ended = Some(now);
        }
        let misbehaviour = active.misbehaving.misbehaviour();
        self.forget_if_over(now, vm);
        Some((misbehaviour, is_down))
    }

    /// Drops what is left of `vm` at `now`, when it stops.
    pub(super) fn forget(&mut self, now: Instant, vm: VmId) {
        self.downs
            .retain(|(of, _, until)| *of != vm || until.is_some());
        self.drop_active(now, vm);
    }

    fn drop_active(&mut self, now: Instant, vm: VmId) {
        if let Some(mut active) = self.active.remove(&vm) {
            for frame in active.misbehaving.held() {
                if let Some(noted) = &mut self.noted {
                    let harm = Harm::Misbehaviour(Misbehaviour::SLOW);
                    noted.push((vm, Direction::Out), || now, frame, harm);
                }
            }
            active.misbehaving.drop_held();
            self.keep(&active);
        }
    }

    /// From now on others know `vm` as `station`.
    pub(super) fn set_station(&mut self, vm: VmId, station: Station) {
        if let Some(active) = self.active.get_mut(&vm) {
            active.misbehaving.set_station(station);
        }
    }

    fn keep(&mut self, active: &Active) {
        if let Some(record) = self.records.get_mut(active.record) {
            record.misdeeds = *active.misbehaving.misdeeds();
        }
    }

    fn forget_if_over(&mut self, now: Instant, vm: VmId) {
        let is_over = |active: &Active| active.misbehaving.is_over();
        if self.active.get(&vm).is_some_and(is_over) {
            self.drop_active(now, vm);
        }
    }

    /// Returns true if VMs misbehave, or hold frames of the time when they did.
    pub(super) fn goes_on(&self) -> bool {
        !self.active.is_empty()
    }

    /// Returns true if `vm` misbehaves.
    pub(super) fn is_misbehaving(&self, vm: VmId) -> bool {
        let record = self
            .active
            .get(&vm)
            .and_then(|of| self.records.get(of.record));
        record.is_some_and(|record| record.ended.is_none())
    }

    /// Returns true if the link of `vm` is down because it misbehaves.
    pub(super) fn is_link_down(&self, vm: VmId) -> bool {
        let active = self.active.get(&vm);
        active.is_some_and(|active| active.misbehaving.is_link_down())
    }

    /// The VMs that misbehave, in the order of their numbers.
    pub(super) fn misbehaving(&self) -> Vec<VmId> {
        let vms = self.active.keys().copied();
        let mut vms: Vec<VmId> = vms.filter(|vm| self.is_misbehaving(*vm)).collect();
        vms.sort_unstable();
        vms
    }

    /// Frames per second that those make together that misbehave now.
    pub(super) fn rate(&self) -> u64 {
        let now = self
            .active
            .iter()
            .filter(|(vm, _)| self.is_misbehaving(**vm));
        now.map(|(_, of)| u64::from(of.misbehaving.misbehaviour().rate()))
            .sum()
    }

    /// The misbehaviours so far, in the order of their beginnings.
    pub(super) fn records(&self) -> Vec<MisbehaviourRecord> {
        let mut records = self.records.clone();
        for active in self.active.values() {
            if let Some(record) = records.get_mut(active.record) {
                record.misdeeds = *active.misbehaving.misdeeds();
            }
        }
        records
    }

    /// Widens the receive filter of `vm` by what its misbehaviour has to hear.
    pub(super) fn widen(&self, vm: VmId, rx_filter: &RxFilter) -> Option<RxFilter> {
        let active = self.active.get(&vm)?;
        let mut rx_filter = rx_filter.clone();
        active.misbehaving.widen(&mut rx_filter);
        Some(rx_filter)
    }

    /// The time at which [`Misbehave::poll`] has something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let all = self.active.values();
        all.filter_map(|active| active.misbehaving.next_at()).min()
    }

    /// Does one thing that is due by `now`, and returns the VM that does it; a frame to send is [made](Misbehave::made).
    pub(super) fn poll(&mut self, now: Instant) -> Option<(VmId, Act)> {
        let due = |(vm, active): (&VmId, &Active)| Some((active.misbehaving.next_at()?, *vm));
        let (at, vm) = self.active.iter().filter_map(due).min()?;
        if at > now {
            return None;
        }
        let misbehaving = &mut self.active.get_mut(&vm)?.misbehaving;
        let act = misbehaving.poll(now, &mut self.scratch);
        if let Some(Act::Link(false)) = act {
            self.link_went_down(vm, now);
        }
        self.forget_if_over(now, vm);
        Some((vm, act?))
    }

    fn link_went_down(&mut self, vm: VmId, now: Instant) {
        self.downs.push_back((vm, now, None));
        if self.downs.len() > MAX_DOWNS {
            self.downs.pop_front();
        }
    }

    /// The link of `vm`, which was down because it flaps, is up again since `now`.
    pub(super) fn link_came_up(&mut self, vm: VmId, now: Instant) {
        let mut latest_first = self.downs.iter_mut().rev();
        let open = latest_first.find(|(of, _, until)| *of == vm && until.is_none());
        if let Some((_, _, until)) = open {
            *until = Some(now);
        }
    }

    /// Returns true if the link of `vm` was down at any time from the first of two times, not long ago, until the second, because it
    /// flaps.
    pub(super) fn was_link_down(&self, vm: VmId, (first, last): (Instant, Instant)) -> bool {
        let lasted = |(of, from, until): &(VmId, Instant, Option<Instant>)| {
            *of == vm && *from <= last && until.is_none_or(|until| first < until)
        };
        self.downs.iter().any(lasted)
    }

    /// Returns true if `vm` sent from another hardware address than its own at `at`.
    pub(super) fn had_wrong_mac(&self, vm: VmId, at: Instant) -> bool {
        let mut records = self.with_wrong_mac(vm, at);
        records.any(|record| record.ended.is_none_or(|ended| at < ended))
    }

    /// Returns true if `vm` sent from another hardware address than its own at `at` or before.
    pub(super) fn had_wrong_mac_until(&self, vm: VmId, at: Instant) -> bool {
        self.with_wrong_mac(vm, at).next().is_some()
    }

    fn with_wrong_mac(&self, vm: VmId, at: Instant) -> impl Iterator<Item = &MisbehaviourRecord> {
        self.records.iter().filter(move |record| {
            record.vm == vm
                && record.misbehaviour == Misbehaviour::WrongMac
                && record.refused.is_none()
                && record.began <= at
        })
    }

    /// The frame of that length that was made last.
    pub(super) fn made(&self, length: usize) -> &[u8] {
        self.scratch.get(..length).unwrap_or_default()
    }

    /// Takes note that the port of `vm` did not take a frame.
    pub(super) fn refused(&mut self, vm: VmId) {
        if let Some(active) = self.active.get_mut(&vm) {
            active.misbehaving.refused();
        }
    }

    /// Tells what becomes of a frame that `vm` sends: the frame to be sent now, if any, which may be another.
    pub(super) fn sends<'a>(
        &'a mut self,
        now: &mut impl Now,
        vm: VmId,
        frame: &'a [u8],
    ) -> Option<&'a [u8]> {
        let Some(active) = self.active.get_mut(&vm) else {
            return Some(frame);
        };
        let scratch = self.scratch.get_mut(..frame.len())?;
        scratch.copy_from_slice(frame);
        let at = now.now();
        let sending = active.misbehaving.sends(at, scratch);
        let misbehaviour = active.misbehaving.misbehaviour();
        let harm = match (sending, misbehaviour) {
            (Sending::Never, _) => Some(Harm::Misbehaviour(misbehaviour.name())),
            (Sending::Later, Misbehaviour::Slow(delay)) => {
                let is_longer = |longest| delay > longest;
                self.longest_hold
                    .is_some_and(is_longer)
                    .then_some(Harm::Slow)
            }
            _ => None,
        };
        if let (Some(harm), Some(noted)) = (harm, &mut self.noted) {
            noted.push((vm, Direction::Out), || at, frame, harm);
        }
        (sending == Sending::Now).then_some(scratch)
    }

    /// Tells what becomes of `frame`, which came for `vm`. Returns true if the VM takes it, and the frame that is sent in return.
    pub(super) fn receives<'a>(
        &'a mut self,
        now: Instant,
        vm: VmId,
        frame: &'a [u8],
    ) -> (bool, Option<&'a [u8]>) {
        let Some(active) = self.active.get_mut(&vm) else {
            return (true, None);
        };
        let receiving = active.misbehaving.receives(now, frame, &mut self.scratch);
        if let (Receiving::Ignored, Some(noted)) = (receiving, &mut self.noted) {
            let harm = Harm::Misbehaviour(active.misbehaving.misbehaviour().name());
            noted.push((vm, Direction::In), || now, frame, harm);
        }
        match receiving {
            Receiving::Taken => (true, None),
            Receiving::Reflected => (true, Some(frame)),
            Receiving::Ignored => (false, None),
            Receiving::Answered(length) => (false, self.scratch.get(..length)),
        }
    }
}
