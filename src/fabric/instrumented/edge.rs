//! What stands between the VMs and their ports: impairments, and VMs that misbehave.

use std::time::Duration;

use super::super::impair::Impair;
use super::super::misbehave::{Misbehave, MisbehaviourRecord};
use super::super::{
    Direction, Fabric, Impaired, ImpairedPing, ImpairedStream, ImpairmentCount, Notice, Observed,
    Released, Rule, Write,
};
use super::Instrumented;
use crate::time::{Instant, earliest};
use crate::vm::{Act, Misbehaviour, RxFilter, Station, VmId};
use crate::wire::MacAddr;

/// What stands between the VMs and their ports.
#[derive(Debug, Default)]
pub(super) struct Edge {
    pub(super) misbehave: Option<Misbehave>,
    pub(super) impair: Option<Impair>,
}

impl Edge {
    /// Returns true if frames have to pass here.
    pub(super) fn is_passed(&self) -> bool {
        let is_impaired = self.impair.as_ref().is_some_and(|impair| !impair.is_idle());
        is_impaired || self.misbehave.as_ref().is_some_and(Misbehave::goes_on)
    }

    /// The time at which something of it is due.
    #[cold]
    pub(super) fn next_at(&self) -> Option<Instant> {
        let held = self.impair.as_ref().and_then(Impair::next_at);
        let due = self.misbehave.as_ref().and_then(Misbehave::next_at);
        earliest(held, due)
    }
}

impl<F> Instrumented<F> {
    /// Impairs frames by `rules` from now on, in place of the rules so far. Of those that fit a frame the last one is
    /// applied. Random choices follow from `seed`. Frames that are held already stay so. The instruments are told
    /// if these are others.
    pub fn set_impairments(&mut self, now: Instant, rules: Vec<Rule>, seed: u64) {
        // Of rules that change nothing, all are as good as none.
        let rules = match rules.iter().all(|rule| rule.profile.is_void()) {
            true => Vec::new(),
            false => rules,
        };
        if !rules.is_empty() || self.impair().is_some() {
            let number = rules.len();
            let edge = self.edge.get_or_insert_default();
            let impair = edge.impair.get_or_insert_default();
            if self.notes_pings {
                impair.note_pings();
            }
            if let Some(longest) = self.longest_hold {
                impair.note_longer_holds(longest);
            }
            let is_change = impair.set_rules(rules, seed);
            self.set_watched();
            if is_change {
                self.tell(now, &Notice::Impaired(number));
            }
        }
    }

    /// From now on frames of pings that impairments drop or change, or misbehaving VMs neither send nor take, are noted, until they are
    /// [taken](Instrumented::take_impaired_pings).
    pub fn note_impaired_pings(&mut self) {
        self.notes_pings = true;
        if let Some(edge) = &mut self.edge {
            edge.impair.iter_mut().for_each(Impair::note_pings);
            edge.misbehave.iter_mut().for_each(Misbehave::note_pings);
        }
    }

    /// From now on frames of pings are noted, too, that an impairment or a slow VM holds for longer than that: of very many that are
    /// held it would take too long to look at all when a ping fails, and of others' pings nobody here knows when they do.
    pub fn note_longer_holds(&mut self, longest: Duration) {
        self.longest_hold = Some(longest);
        if let Some(edge) = &mut self.edge {
            let impair = edge.impair.iter_mut();
            impair.for_each(|impair| impair.note_longer_holds(longest));
            let misbehave = edge.misbehave.iter_mut();
            misbehave.for_each(|misbehave| misbehave.note_longer_holds(longest));
        }
    }

    /// Takes those frames of pings that were noted since the last call.
    pub fn take_impaired_pings(&mut self) -> Vec<ImpairedPing> {
        let Some(edge) = &mut self.edge else {
            return Vec::new();
        };
        let impair = edge.impair.as_mut();
        let mut pings = impair.map_or_else(Vec::new, Impair::take_noted);
        pings.extend(edge.misbehave.iter_mut().flat_map(Misbehave::take_noted));
        pings
    }

    /// Takes those frames of streams that were noted since the last call, with those of pings.
    pub fn take_impaired_streams(&mut self) -> Vec<ImpairedStream> {
        let Some(edge) = &mut self.edge else {
            return Vec::new();
        };
        let impair = edge.impair.as_mut();
        let mut frames = impair.map_or_else(Vec::new, Impair::take_noted_streams);
        let misbehave = edge.misbehave.iter_mut();
        frames.extend(misbehave.flat_map(Misbehave::take_noted_streams));
        frames
    }

    /// Returns the frames of streams that impairments and slow VMs hold.
    pub fn held_streams(&self) -> impl Iterator<Item = ImpairedStream> {
        let impaired = self.impair().into_iter().flat_map(Impair::held_streams);
        let misbehave = self.misbehave().into_iter();
        impaired.chain(misbehave.flat_map(Misbehave::held_streams))
    }

    /// Returns the frames of pings that impairments and slow VMs hold at `now`, of very many some.
    pub fn held_pings(&self, now: Instant) -> impl Iterator<Item = ImpairedPing> {
        let impair = self.impair().into_iter();
        let impaired = impair.flat_map(move |impair| impair.held_pings(now));
        let misbehave = self.misbehave().into_iter();
        impaired.chain(misbehave.flat_map(move |misbehave| misbehave.held_pings(now)))
    }

    /// Returns the rules by which frames are impaired; of those that fit a frame the last one is applied.
    pub fn rules(&self) -> &[Rule] {
        self.impair().map_or(&[], Impair::rules)
    }

    pub(super) fn impair(&self) -> Option<&Impair> {
        self.edge.as_ref()?.impair.as_ref()
    }

    pub(super) fn impair_mut(&mut self) -> Option<&mut Impair> {
        self.edge.as_mut()?.impair.as_mut()
    }

    pub(super) fn misbehave(&self) -> Option<&Misbehave> {
        self.edge.as_ref()?.misbehave.as_ref()
    }

    pub(super) fn misbehave_mut(&mut self) -> &mut Misbehave {
        let edge = self.edge.get_or_insert_default();
        let misbehave = edge.misbehave.get_or_insert_default();
        if self.notes_pings {
            misbehave.note_pings();
        }
        if let Some(longest) = self.longest_hold {
            misbehave.note_longer_holds(longest);
        }
        misbehave
    }

    /// Makes `vm` misbehave, from the first of two times on until the second at the latest, as the station that others know;
    /// random choices follow from the seed. Returns the hardware address that it sends from in place of its own, if that is
    /// another.
    ///
    /// # Errors
    /// If it misbehaves already, or too many others do; says so.
    pub fn begin_misbehaviour(
        &mut self,
        times: (Instant, Instant),
        vm: VmId,
        misbehaviour: Misbehaviour,
        of: (Station, u64),
    ) -> Result<Option<MacAddr>, String> {
        let begun = self.misbehave_mut().begin(times, vm, misbehaviour, of)?;
        self.set_watched();
        Ok(begun)
    }

    /// From now on others know `vm` as `station`, which matters to what it does if it misbehaves.
    pub fn set_station(&mut self, vm: VmId, station: Station) {
        let edge = self.edge.as_deref_mut();
        if let Some(misbehave) = edge.and_then(|edge| edge.misbehave.as_mut()) {
            misbehave.set_station(vm, station);
        }
    }

    /// Takes note that `vm` was to misbehave at `now` and does not; `why` says the reason.
    pub fn refuse_misbehaviour(&mut self, now: Instant, vm: VmId, what: Misbehaviour, why: String) {
        self.misbehave_mut().refuse(now, vm, what, why);
    }

    /// Returns true if the link of `vm` was down at any time from the first of two times, not long ago, until the second, because
    /// it misbehaves.
    pub fn was_link_down(&self, vm: VmId, times: (Instant, Instant)) -> bool {
        self.misbehave()
            .is_some_and(|misbehave| misbehave.was_link_down(vm, times))
    }

    /// Returns true if `vm` sent from another hardware address than its own at `at`, not long ago, because it misbehaves.
    pub fn had_wrong_mac(&self, vm: VmId, at: Instant) -> bool {
        self.misbehave()
            .is_some_and(|misbehave| misbehave.had_wrong_mac(vm, at))
    }

    /// Returns true if `vm` did so at `at` or before.
    pub fn had_wrong_mac_until(&self, vm: VmId, at: Instant) -> bool {
        self.misbehave()
            .is_some_and(|misbehave| misbehave.had_wrong_mac_until(vm, at))
    }

    /// Returns the VMs that misbehave.
    pub fn misbehaving(&self) -> Vec<VmId> {
        self.misbehave()
            .map_or_else(Vec::new, Misbehave::misbehaving)
    }

    /// Returns the frames per second that misbehaving VMs send at most, all together.
    pub fn misbehaving_rate(&self) -> u64 {
        self.misbehave().map_or(0, Misbehave::rate)
    }

    /// Returns the misbehaviours so far, with what they have done.
    pub fn misbehaviours(&self) -> Vec<MisbehaviourRecord> {
        self.misbehave().map_or_else(Vec::new, Misbehave::records)
    }

    /// From now on pings count for the run, or are a warm-up whose impaired frames are not counted.
    pub fn set_counted(&mut self, is_counted: bool) {
        if let Some(impair) = self.impair_mut() {
            impair.set_counted(is_counted);
            self.set_watched();
        }
    }

    /// Returns the numbers of frames that were impaired so far, by VM, direction and kind; without those of a warm-up.
    pub fn impairments(&self) -> Vec<ImpairmentCount> {
        self.impair().map_or_else(Vec::new, Impair::counts)
    }

    /// Drops the frames that impairments hold at `now` for `vms` or from them, or all of them, and tells the instruments.
    pub fn drop_held(&mut self, now: Instant, vms: Option<&[VmId]>) {
        let Some(edge) = self.edge.as_deref_mut() else {
            return;
        };
        if let (Some(misbehave), Some(vms)) = (&mut edge.misbehave, vms) {
            vms.iter().for_each(|vm| misbehave.forget(now, *vm));
        }
        if let Some(impair) = &mut edge.impair {
            let instruments = &mut self.instruments;
            impair.drop_held(now, vms, |sent, observed| {
                for (_, instrument) in &mut *instruments {
                    instrument.unreleased(now, sent, observed);
                }
            });
        }
        self.set_watched();
    }
}

impl<F: Fabric> Instrumented<F> {
    /// Releases the next frame that impairments hold and that is due by `now`: it is written, or its VM may read it. Or does
    /// one thing that a misbehaving VM has to do by `now`.
    pub fn release(&mut self, now: Instant) -> Option<Released> {
        let edge = self.edge.as_deref_mut()?;
        let (fabric, moved) = (&mut self.fabric, &mut self.moved);
        let mut refusal = None;
        let released = edge.impair.as_mut().and_then(|impair| {
            impair.release(now, |vm, frame| {
                let mut written = Write::Sent;
                let mut write = |fabric: &mut F| {
                    written = fabric.write(now, vm, frame);
                    written == Write::Sent
                };
                match moved {
                    Some(moved) => moved.writing(fabric, now, (vm, frame), write),
                    None => _ = write(fabric),
                }
                if let Write::Dropped(reason) = written {
                    refusal = Some((vm, frame.to_vec(), reason));
                }
                written
            })
        });
        if let Some((vm, frame, reason)) = refusal {
            // It was shown as one that is held.
            let observed = Observed {
                vm,
                direction: Direction::Out,
                frame: &frame,
                impaired: Impaired::default(),
                refused: Some(reason),
            };
            self.each(|instrument| instrument.frame(now, &observed));
        }
        let released = released.or_else(|| self.misbehave_now(now))?;
        // It may have been the last thing that was held.
        self.set_watched();
        Some(released)
    }

    /// Does one thing that a misbehaving VM has to do by `now`.
    #[cold]
    pub(super) fn misbehave_now(&mut self, now: Instant) -> Option<Released> {
        let mut edge = self.edge.take()?;
        let Edge { misbehave, impair } = &mut *edge;
        let done = misbehave.as_mut().and_then(|misbehave| {
            let (vm, act) = misbehave.poll(now)?;
            let is_taken = match act {
                Act::Send(length) => {
                    let frame = misbehave.made(length);
                    self.write_shown(impair.as_mut(), now, vm, frame) == Write::Sent
                }
                Act::Link(up) => {
                    let is_set = self.fabric.set_link(vm, up).is_ok();
                    if up {
                        misbehave.link_came_up(vm, self.fabric.time_after(now));
                    }
                    is_set
                }
            };
            if !is_taken {
                misbehave.refused(vm);
            }
            Some(vm)
        });
        self.edge = Some(edge);
        Some(Released {
            vm: done?,
            late: None,
            written: Some(Write::Sent),
        })
    }

    /// Has the port of `vm`, which was moved, be as its misbehaviour wants it: it has come up, and hears what a VM wants.
    #[cold]
    pub(super) fn misbehave_moved(&mut self, vm: VmId, rx_filter: Option<&RxFilter>) {
        let Some(misbehave) = self.edge.as_mut().and_then(|edge| edge.misbehave.as_mut()) else {
            return;
        };
        let mut is_done = true;
        if let Some(widened) = rx_filter.and_then(|filter| misbehave.widen(vm, filter)) {
            is_done = self.fabric.set_rx_filter(vm, &widened).is_ok();
        }
        if misbehave.is_link_down(vm) {
            is_done &= self.fabric.set_link(vm, false).is_ok();
        }
        if !is_done {
            misbehave.refused(vm);
        }
    }

    /// Ends the misbehaviour of `vm` at `now`. Returns what it was, if it has misbehaved.
    pub fn end_misbehaviour(&mut self, now: Instant, vm: VmId) -> Option<Misbehaviour> {
        let misbehave = self.edge.as_mut()?.misbehave.as_mut()?;
        let (misbehaviour, is_down) = misbehave.end(now, vm)?;
        self.set_watched();
        if is_down {
            if self.fabric.set_link(vm, true).is_err() {
                self.misbehave_mut().refused(vm);
            }
            let since = self.fabric.time_after(now);
            self.misbehave_mut().link_came_up(vm, since);
        }
        Some(misbehaviour)
    }
}
