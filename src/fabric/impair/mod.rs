//! Impairments of a run's frames (`--impair`): delay, loss, reordering, duplication, corruption, rate.
//!
//! They act at the edge of a VM, on every fabric alike, in this process: many kernels have no `netem`, and none tells what
//! it did to which frame. Here each impaired frame is counted, so that a report tells the network's own losses from those
//! that were asked for. Frames that are to be delayed are held here, and released when the driver says that their time has
//! come; how late that was is measured too.
//!
//! See `tc-netem(8)` for the terms.

mod held;
mod impaired;
mod link;
mod noted;
mod profile;
mod warmup;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::held::MAX_HELD_BYTES;
use self::held::{Held, Store};
pub use self::impaired::{Impaired, Impairment};
use self::link::{Choice, Link, Release};
pub(super) use self::noted::Noted;
pub use self::noted::{Harm, ImpairedPing, ImpairedStream};
pub use self::profile::{Delay, Distribution, Loss, Profile, Rate};
use self::warmup::WarmUp;
use super::{Direction, Fabric, Observed, Read, Write};
use crate::time::{Instant, Now};
use crate::vm::VmId;
use crate::wire::{MacAddr, PingHead, StreamHead};

/// Held frames that are looked at for the one of a ping.
pub(super) const MAX_LOOKS: usize = 1_000;

/// The length of the Ethernet header, which is never corrupted.
const HEADER: usize = 14;

/// What is done to the frames of some VMs. Each of them has a link of its own.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// The words of a user that it stands for; empty of one that a program made.
    pub words: String,
    /// The VMs, by index.
    pub vms: RangeInclusive<u32>,
    /// The direction of the frames.
    pub direction: Direction,
    /// The hardware addresses that the frames are for, in ascending order; `None` for all, broadcast and multicast included.
    pub to: Option<Vec<MacAddr>>,
    /// What is done to them.
    pub profile: Profile,
}

/// A number of frames, by VM, direction and kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImpairmentCount {
    /// The VM.
    pub vm: VmId,
    /// The direction.
    pub direction: Direction,
    /// What was done to them.
    pub kind: Impairment,
    /// Their number.
    pub frames: u64,
}

/// A held frame that was released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Released {
    /// The VM whose frame it is.
    pub vm: VmId,
    /// Nanoseconds by which it was released too late; `None` if a misbehaving VM has made it up.
    pub late: Option<u64>,
    /// The result of writing it; `None` if it is for the VM, which may read it now.
    pub written: Option<Write>,
}

/// Numbers of frames by VM, direction and kind. A VM takes 128 bytes, once one with its number or a higher one was impaired.
#[derive(Debug, Default)]
struct Counts(Vec<[[u64; Impairment::ALL.len()]; Direction::BOTH.len()]>);

impl Counts {
    fn add(&mut self, vm: VmId, direction: Direction, kind: Impairment) {
        if self.0.len() <= vm.index() {
            self.0.resize(vm.index() + 1, Default::default());
        }
        let of_vm = self.0.get_mut(vm.index());
        let of_direction = of_vm.and_then(|counts| counts.get_mut(direction as usize));
        if let Some(frames) = of_direction.and_then(|counts| counts.get_mut(kind as usize)) {
            *frames += 1;
        }
    }
}

/// The impairments of a run.
#[derive(Debug, Default)]
pub(super) struct Impair {
    rules: Vec<Rule>,
    seed: u64,
    /// By VM and number of the rule.
    links: FxHashMap<(VmId, usize), Link>,
    held: Store,
    /// Released frames that their VMs have still to read.
    arrived: FxHashMap<VmId, VecDeque<Held>>,
    counts: Counts,
    warmup: WarmUp,
    /// Frames of pings that were dropped or changed; `None` if nobody asks for them.
    noted: Option<Noted>,
    /// Frames that are held for longer are noted, too.
    longest_hold: Option<Duration>,
    /// The frame at hand is of a warm-up: what is done to it is not counted, as its ping is not.
    is_warmup: bool,
    /// A frame that is corrupted before it is written.
    scratch: Vec<u8>,
}

impl Impair {
    /// Replaces the rules. Of those that fit a frame the last one is applied. Frames that are held already stay so. Returns
    /// false if they are what they were.
    pub(super) fn set_rules(&mut self, rules: Vec<Rule>, seed: u64) -> bool {
        // Links that stay as they are go on with their queues and choices.
        let is_change = (&self.rules, self.seed) != (&rules, seed);
        if is_change {
            self.rules = rules;
            self.seed = seed;
            self.links.clear();
            self.arrived.retain(|_, frames| !frames.is_empty());
        }
        is_change
    }

    /// Returns the rules.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns true if it has nothing to do with frames: there are no rules, and none is held of those that were.
    pub(super) fn is_idle(&self) -> bool {
        let holds_none = self.held.next_at().is_none() && self.arrived.is_empty();
        self.rules.is_empty() && holds_none && !self.warmup.is_on()
    }

    /// From now on pings count for the run, or not because they are a warm-up.
    pub(super) fn set_counted(&mut self, is_counted: bool) {
        self.warmup.set(!is_counted);
    }

    /// The frames of pings, and of searches for neighbours, that are held at `now`, up to a number that is looked at in no time.
    pub(super) fn held_pings(&self, now: Instant) -> impl Iterator<Item = ImpairedPing> {
        let held = self.held.iter().take(MAX_LOOKS);
        held.filter_map(move |held| {
            Some(ImpairedPing {
                at: now,
                vm: held.vm,
                direction: held.direction,
                harm: Harm::Impairment(Impairment::Delayed),
                head: PingHead::parse(&held.frame)?,
            })
        })
    }

    /// The frames of streams that are held, all of them.
    pub(super) fn held_streams(&self) -> impl Iterator<Item = ImpairedStream> {
        self.held.iter().filter_map(|held| {
            Some(ImpairedStream {
                vm: held.vm,
                direction: held.direction,
                harm: Harm::Impairment(Impairment::Delayed),
                head: StreamHead::parse(&held.frame)?,
            })
        })
    }

    /// Takes those that were noted since the last call.
    pub(super) fn take_noted_streams(&mut self) -> Vec<ImpairedStream> {
        self.noted
            .as_mut()
            .map_or_else(Vec::new, Noted::take_streams)
    }

    /// From now on frames of pings that are dropped or changed are noted.
    pub(super) fn note_pings(&mut self) {
        self.noted.get_or_insert_default();
    }

    /// From now on those are noted, too, that are held for longer than that.
    pub(super) fn note_longer_holds(&mut self, longest: Duration) {
        self.longest_hold = Some(longest);
    }

    /// Takes those that were noted since the last call.
    pub(super) fn take_noted(&mut self) -> Vec<ImpairedPing> {
        self.noted.as_mut().map_or_else(Vec::new, Noted::take)
    }

    /// Writes a frame of `vm` to `fabric`, or what the impairments make of it. Returns the result, `None` if they write nothing
    /// now.
    pub(super) fn write<F: Fabric>(
        &mut self,
        fabric: &mut F,
        mut now: impl Now,
        vm: VmId,
        frame: &[u8],
    ) -> (Option<Write>, Impaired) {
        let mut impaired = Impaired::default();
        self.is_warmup = self.warmup.sends(frame);
        let Some(rule) = self.rule(vm, Direction::Out, frame) else {
            return (Some(fabric.write(now, vm, frame)), impaired);
        };
        if let Some(noted) = &mut self.noted {
            noted.see((vm, Direction::Out), frame);
        }
        let (twice, bit) = match self.link(vm, rule).map(Link::choose) {
            Some(Choice::Sent { twice, bit }) => (twice, bit),
            Some(Choice::Lost) => {
                self.count(vm, Direction::Out, Impairment::Lost, &mut impaired);
                self.note((vm, Direction::Out), now, frame, impaired);
                return (None, impaired);
            }
            None => (false, None),
        };
        let original = frame;
        let mut scratch = std::mem::take(&mut self.scratch);
        let frame = match bit {
            Some(bit) => {
                scratch.clear();
                scratch.extend_from_slice(frame);
                self.corrupt(vm, Direction::Out, bit, &mut scratch, &mut impaired);
                scratch.as_slice()
            }
            None => frame,
        };
        let way = (vm, Direction::Out);
        let mut written = None;
        for _ in 0..self.schedule_copies(way, rule, now.now(), frame, twice, &mut impaired) {
            written = Some(fabric.write(&mut now, vm, frame));
        }
        self.note(way, now, original, impaired);
        self.scratch = scratch;
        (written, impaired)
    }

    /// Reads a frame for `vm` that was released, or one from `fabric` if the impairments let it through. One that does not
    /// come through at once is [consumed](Read::Consumed).
    pub(super) fn read<F: Fabric>(
        &mut self,
        fabric: &mut F,
        mut now: impl Now,
        vm: VmId,
        buffer: &mut [u8],
    ) -> (Read, Impaired) {
        let mut impaired = Impaired::default();
        if let Some((length, impaired)) = self.take_arrived(vm, buffer) {
            return (Read::Frame(length), impaired);
        }
        let read = fabric.read(&mut now, vm, buffer);
        let Read::Frame(length) = read else {
            return (read, impaired);
        };
        let frame = buffer.get_mut(..length).unwrap_or_default();
        let Some(rule) = self.rule(vm, Direction::In, frame) else {
            return (read, impaired);
        };
        self.is_warmup = self.warmup.has(frame);
        if let Some(noted) = &mut self.noted {
            noted.see((vm, Direction::In), frame);
        }
        let (twice, bit) = match self.link(vm, rule).map(Link::choose) {
            Some(Choice::Sent { twice, bit }) => (twice, bit),
            Some(Choice::Lost) => {
                self.count(vm, Direction::In, Impairment::Lost, &mut impaired);
                self.note((vm, Direction::In), now, frame, impaired);
                return (Read::Consumed(length), impaired);
            }
            None => (false, None),
        };
        let (way, at) = ((vm, Direction::In), now.now());
        if let Some(bit) = bit {
            // As it was sent: the bit may be one that tells whose it is.
            let mut corrupted = Impaired::default();
            corrupted.add(Impairment::Corrupted);
            self.note(way, at, frame, corrupted);
            self.corrupt(vm, Direction::In, bit, frame, &mut impaired);
        }
        let coming = self.schedule_copies(way, rule, at, frame, twice, &mut impaired);
        if impaired.is_dropped() {
            self.note(way, at, frame, impaired);
        }
        if coming > 1 {
            // The buffer has room for one: the driver is told of the second copy at once.
            self.hold(way, at, frame, impaired);
        }
        match coming {
            0 => (Read::Consumed(length), impaired),
            _ => (read, impaired),
        }
    }

    /// The time of the next release.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.held.next_at()
    }

    /// Releases the next frame that is due by `now`; one that a VM has sent is written by `write`.
    pub(super) fn release(
        &mut self,
        now: Instant,
        write: impl FnOnce(VmId, &[u8]) -> Write,
    ) -> Option<Released> {
        let held = self.held.release(now)?;
        let (vm, late) = (held.vm, now.nanos_since(held.at));
        let written = match held.direction {
            Direction::Out => Some(write(vm, &held.frame)),
            Direction::In => {
                self.arrived.entry(vm).or_default().push_back(held);
                None
            }
        };
        Some(Released {
            vm,
            late: Some(late),
            written,
        })
    }

    /// Drops at `now` the frames that are held for `vms` or from them, or all of them. Tells `tell` of each, and of when it was
    /// sent if it is not to be received.
    pub(super) fn drop_held(
        &mut self,
        now: Instant,
        vms: Option<&[VmId]>,
        mut tell: impl FnMut(Option<Instant>, &Observed<'_>),
    ) {
        let gone: Option<FxHashSet<VmId>> = vms.map(|vms| vms.iter().copied().collect());
        let is_gone = |vm: &VmId| gone.as_ref().is_none_or(|gone| gone.contains(vm));
        let mut dropped = self.held.remove(is_gone);
        let arrived = self.arrived.extract_if(|vm, _| is_gone(vm));
        dropped.extend(arrived.flat_map(|(_, frames)| frames));
        dropped.sort_by_key(|held| (held.at, held.vm));
        self.links.retain(|(vm, _), _| !is_gone(vm));
        for mut held in dropped {
            count_unreleased(&mut self.counts, &held);
            held.impaired.add(Impairment::Unreleased);
            let way = (held.vm, held.direction);
            self.note(way, now, &held.frame, held.impaired);
            let observed = Observed {
                vm: held.vm,
                direction: held.direction,
                frame: &held.frame,
                impaired: held.impaired,
                refused: None,
            };
            tell(held.sent(), &observed);
        }
    }

    /// The numbers of impaired frames so far, by VM, direction and kind; without those of a warm-up.
    pub(super) fn counts(&self) -> Vec<ImpairmentCount> {
        let mut unreleased: FxHashMap<(VmId, Direction), u64> = FxHashMap::default();
        for held in self.held.iter().filter(|held| held.is_counted) {
            *unreleased.entry((held.vm, held.direction)).or_default() += 1;
        }
        let last = unreleased.keys().map(|(vm, _)| vm.index() + 1).max();
        let counted = self.counts.0.iter().copied();
        let counted = counted.chain(std::iter::repeat(Default::default()));
        let vms = self.counts.0.len().max(last.unwrap_or(0));
        let counts = counted.take(vms).zip(0..).flat_map(|(counts, vm)| {
            let directions = Direction::BOTH.into_iter().zip(counts);
            directions.map(move |(direction, counts)| (VmId(vm), direction, counts))
        });
        let mut rows = Vec::new();
        for (vm, direction, counts) in counts {
            for (kind, counted) in Impairment::ALL.into_iter().zip(counts) {
                let held = match kind {
                    Impairment::Unreleased => unreleased.get(&(vm, direction)),
                    _ => None,
                };
                let frames = counted + held.copied().unwrap_or(0);
                if frames > 0 {
                    rows.push(ImpairmentCount {
                        vm,
                        direction,
                        kind,
                        frames,
                    });
                }
            }
        }
        rows
    }

    /// The number of the last rule that fits the frame, unless that does nothing.
    fn rule(&self, vm: VmId, direction: Direction, frame: &[u8]) -> Option<usize> {
        let destination = frame.first_chunk().map(|mac| MacAddr(*mac));
        let is_for = |macs: &Vec<MacAddr>| {
            destination.is_some_and(|destination| macs.binary_search(&destination).is_ok())
        };
        let number = self.rules.iter().rposition(|rule| {
            rule.direction == direction
                && rule.vms.contains(&vm.0)
                && rule.to.as_ref().is_none_or(is_for)
        });
        number.filter(|number| {
            let rule = self.rules.get(*number);
            rule.is_some_and(|rule| !rule.profile.is_void())
        })
    }

    /// The link of `vm` for the rule of that number.
    fn link(&mut self, vm: VmId, rule: usize) -> Option<&mut Link> {
        let profile = self.rules.get(rule)?.profile;
        let seed = self.seed;
        Some(self.links.entry((vm, rule)).or_insert_with(|| {
            // Each link makes its own choices, whatever the others carry.
            let number = u64::from(vm.0) << 32 | rule as u64;
            Link::new(profile, fastrand::Rng::with_seed(seed ^ number).u64(..))
        }))
    }

    /// Counts the frame at hand, once for each kind: not again for a second copy.
    fn count(&mut self, vm: VmId, direction: Direction, kind: Impairment, impaired: &mut Impaired) {
        if impaired.has(kind) {
            return;
        }
        impaired.add(kind);
        if self.is_warmup {
            return;
        }
        self.counts.add(vm, direction, kind);
    }

    /// Notes the frame if it belongs to a ping, nothing of it is passed on as it was, and that is asked for.
    fn note(
        &mut self,
        (vm, direction): (VmId, Direction),
        mut now: impl Now,
        frame: &[u8],
        impaired: Impaired,
    ) {
        if let Some(noted) = &mut self.noted {
            noted.note((vm, direction), || now.now(), frame, impaired);
        }
    }

    /// Inverts a bit behind the Ethernet header.
    fn corrupt(
        &mut self,
        vm: VmId,
        direction: Direction,
        bit: u64,
        frame: &mut [u8],
        impaired: &mut Impaired,
    ) {
        let payload = frame.get_mut(HEADER..).unwrap_or_default();
        let bits = 8 * payload.len() as u64;
        let bit = bit.checked_rem(bits).unwrap_or(0);
        if let Some(byte) = payload.get_mut((bit / 8) as usize) {
            *byte ^= 1 << (bit % 8);
            self.count(vm, direction, Impairment::Corrupted, impaired);
        }
    }

    /// Schedules a frame, if `twice` two copies of it. Returns how many are to be passed on at once; others are held. A frame
    /// whose second copy finds no room is not duplicated, and is not dropped.
    fn schedule_copies(
        &mut self,
        way: (VmId, Direction),
        rule: usize,
        now: Instant,
        frame: &[u8],
        twice: bool,
        impaired: &mut Impaired,
    ) -> u32 {
        let (vm, direction) = way;
        let mut passing = match self.schedule(way, rule, now, frame, impaired) {
            Ok(passes) => u32::from(passes),
            Err(dropped) => {
                self.count(vm, direction, dropped, impaired);
                return 0;
            }
        };
        let mut copy = *impaired;
        copy.add(Impairment::Duplicated);
        if twice && let Ok(passes) = self.schedule(way, rule, now, frame, &mut copy) {
            self.count(vm, direction, Impairment::Duplicated, impaired);
            *impaired = copy;
            passing += u32::from(passes);
        }
        passing
    }

    /// Schedules one copy of a frame. Returns true if it is to be passed on at once, and false if it is held.
    ///
    /// # Errors
    /// Why it is dropped.
    fn schedule(
        &mut self,
        (vm, direction): (VmId, Direction),
        rule: usize,
        now: Instant,
        frame: &[u8],
        impaired: &mut Impaired,
    ) -> Result<bool, Impairment> {
        let (at, is_reordered) = match self.link(vm, rule).map(|l| l.schedule(now, frame.len())) {
            Some(Release::At { at, is_reordered }) => (at, is_reordered),
            Some(Release::QueueFull) => return Err(Impairment::QueueFull),
            None => return Ok(true),
        };
        if at > now {
            let mut held = *impaired;
            held.add(Impairment::Delayed);
            held.delay = at - now;
            if is_reordered {
                held.add(Impairment::Reordered);
            }
            if !self.hold((vm, direction), at, frame, held) {
                return Err(Impairment::NoMemory);
            }
            if self
                .longest_hold
                .is_some_and(|longest| held.delay > longest)
                && let Some(noted) = &mut self.noted
            {
                let harm = Harm::Impairment(Impairment::Delayed);
                noted.push((vm, direction), || now, frame, harm);
            }
            impaired.delay = impaired.delay.max(held.delay);
            self.count(vm, direction, Impairment::Delayed, impaired);
        }
        if is_reordered {
            self.count(vm, direction, Impairment::Reordered, impaired);
        }
        Ok(at <= now)
    }

    /// Holds a frame until `at`. Returns false if there is no room for it.
    fn hold(
        &mut self,
        (vm, direction): (VmId, Direction),
        at: Instant,
        frame: &[u8],
        impaired: Impaired,
    ) -> bool {
        self.held.hold(Held {
            at,
            vm,
            direction,
            frame: frame.into(),
            impaired,
            is_counted: !self.is_warmup,
        })
    }

    fn take_arrived(&mut self, vm: VmId, buffer: &mut [u8]) -> Option<(usize, Impaired)> {
        let frames = self.arrived.get_mut(&vm)?;
        let held = frames.pop_front()?;
        // With rules there is a next one soon.
        if frames.is_empty() && self.rules.is_empty() {
            self.arrived.remove(&vm);
        }
        let length = held.frame.len().min(buffer.len());
        let space = buffer.get_mut(..length)?;
        space.copy_from_slice(held.frame.get(..length)?);
        Some((length, held.impaired))
    }
}

fn count_unreleased(counts: &mut Counts, held: &Held) {
    if held.is_counted {
        counts.add(held.vm, held.direction, Impairment::Unreleased);
    }
}
