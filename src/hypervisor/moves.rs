//! Moves of VMs to other places of the fabric while others ping them, and how they announce themselves there.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::lifecycle::Due;
use super::marks::next_ping;
use super::{CommandError, Hypervisor};
use crate::fabric::{
    Direction, Fabric, FdbChange, FdbEvent, Notice, Place, Relocated, RelocationError,
};
use crate::load::FlowId;
use crate::record::{Gap, Move};
use crate::time::Instant;
use crate::vm::{Announcement, VmId};

/// Room for an announcement with tags.
const ANNOUNCEMENT_BYTES: usize = 256;
/// The default of [`Relocation::interval`], after which QEMU repeats its first announcement for the first time.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);
/// So long after a move drops are put down to it that nothing else explains.
const SETTLES: Duration = Duration::from_millis(100);
/// The default of [`Relocation::every`].
const MOVE_INTERVAL: Duration = Duration::from_millis(100);

/// The move of a VM: where it goes, and how it announces itself there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Relocation {
    /// The place.
    pub to: Place,
    /// The announcement.
    pub announcement: Announcement,
    /// How often it is sent.
    pub count: u32,
    /// The time between two of them.
    pub interval: Duration,
    /// Moves in all: the second goes back, the third there again, and so on.
    pub repeat: u32,
    /// The time from one to the next.
    pub every: Duration,
    /// How long the VM's port carries nothing, in a simulation.
    pub outage: Duration,
}

impl Relocation {
    /// A single move, announced once by gratuitous ARP as soon as it is made; of no length in a simulation.
    pub const fn to(to: Place) -> Relocation {
        Relocation {
            to,
            announcement: Announcement::Garp,
            count: 1,
            interval: ANNOUNCE_INTERVAL,
            repeat: 1,
            every: MOVE_INTERVAL,
            outage: Duration::ZERO,
        }
    }
}

/// A move that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Where the VM was.
    pub from: Place,
    /// Where it is.
    pub to: Place,
    /// When the change of its link began.
    pub began: Instant,
    /// When it was ready.
    pub ready: Instant,
}

/// Moves that were to be made while a run went on, and could not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedMoves {
    /// The first VM.
    pub first: VmId,
    /// Why that one could not be moved.
    pub why: String,
    /// Their number.
    pub count: u64,
}

/// Announcements that are still to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Announcing {
    /// The number of the move.
    number: usize,
    announcement: Announcement,
    left: u32,
    interval: Duration,
}

/// A move whose change of the link goes on while the run does.
#[derive(Debug)]
struct UnderWay {
    /// The number of the move.
    number: usize,
    relocation: Relocation,
    made: Relocated,
    /// The VM's move before: where it was before that.
    before: Option<(usize, Place)>,
    /// Its old port has gone: what tables learn of it from now on they learn from its new one.
    has_left: bool,
}

/// The moves so far.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// The number of each VM's last move, and where it was before.
    last: FxHashMap<VmId, (usize, Place)>,
    under_way: FxHashMap<VmId, UnderWay>,
    /// What came of each VM's last move that was under way.
    ended: FxHashMap<VmId, Result<Moved, String>>,
    refused: Option<RefusedMoves>,
}

impl<F: Fabric> Hypervisor<F> {
    /// Makes ready what a move of `vm` to a place needs and is not there yet, which may take long.
    ///
    /// # Errors
    /// What speaks against it, as far as that can be said before, and what is expected; or if the system refuses an operation.
    pub fn prepare_move(&mut self, vm: VmId, to: &Place) -> Result<(), CommandError<F::Error>> {
        Ok(self.fabric.prepare_place(vm, to)?)
    }

    /// Moves `vm` at `now`, or begins to: returns `None` then.
    ///
    /// # Errors
    /// If this can't be, without a change, or the system refuses an operation.
    pub(super) fn move_vm(
        &mut self,
        now: Instant,
        vm: VmId,
        relocation: Relocation,
    ) -> Result<Option<Moved>, CommandError<F::Error>> {
        let refuse = |why: String| Err(CommandError::Refused(why));
        if self.is_stopping {
            return refuse("the run is ending; expected moves before that".to_owned());
        }
        self.await_moves_of(&[vm]);
        let Some(moving) = self.vm(vm) else {
            return refuse(format!("{vm} does not exist; expected a VM that is up"));
        };
        let rx_filter = moving.rx_filter();
        let to = match relocation.to {
            Place::Back => match self.moves.last.get(&vm) {
                Some((_, from)) => from.clone(),
                None => {
                    return refuse(format!("{vm} was not moved yet; expected a place to go to"));
                }
            },
            ref to => to.clone(),
        };
        if matches!(to, Place::Namespace(_)) && self.is_to_split_path() {
            return refuse(format!(
                "{vm} can't move to {to} before pings have been followed (--path-split): its frames are not stamped there; \
                 expected another place, or a move after that"
            ));
        }
        self.hear_of_tables(now, now);
        // What has ended by now was before.
        self.buffer.flush(&mut self.recorder);
        let made = self
            .fabric
            .relocate(now, vm, &to, &rx_filter, relocation.outage)?;
        self.end_sightings(vm);
        if let Some(ready) = made.ready {
            return Ok(Some(self.complete_move(
                now,
                vm,
                relocation,
                (made, ready),
                None,
            )));
        }
        let number = self.record_move(vm, &made, relocation.announcement);
        let before = self.moves.last.insert(vm, (number, made.from.clone()));
        let under_way = UnderWay {
            number,
            relocation,
            made,
            before,
            has_left: false,
        };
        self.moves.under_way.insert(vm, under_way);
        Ok(None)
    }

    /// Ends the moves whose changes of links have ended; all that are under way if this `waits` for them. One that the system has
    /// refused is among the [refused ones](Hypervisor::refused_moves).
    #[cold]
    pub fn end_moves(&mut self, waits: bool) {
        if self.moves.under_way.is_empty() {
            return;
        }
        for (vm, outcome) in self.fabric.ended_relocations(waits) {
            if let Ok(ready) = outcome {
                // None of it was learned from the announcement.
                self.hear_of_tables(ready, ready);
            }
            let Some(ended) = self.moves.under_way.remove(&vm) else {
                continue;
            };
            let began = ended.made.began;
            let outcome = match outcome {
                Ok(ready) => {
                    let made = (ended.made, ready);
                    Ok(self.complete_move(began, vm, ended.relocation, made, Some(ended.number)))
                }
                Err(error) => {
                    let why = error.to_string();
                    self.recorder.withdraw_move(ended.number);
                    match ended.before {
                        Some(before) => self.moves.last.insert(vm, before),
                        None => self.moves.last.remove(&vm),
                    };
                    let now = self.fabric.time_after(began);
                    self.move_refused(now, vm, &why);
                    Err(why)
                }
            };
            self.moves.ended.insert(vm, outcome);
        }
    }

    /// Waits for the end of those moves that are under way, if one of `vms` is among them.
    pub(super) fn await_moves_of(&mut self, vms: &[VmId]) {
        let under_way = &self.moves.under_way;
        if !under_way.is_empty() && vms.iter().any(|vm| under_way.contains_key(vm)) {
            self.end_moves(true);
        }
    }

    /// Returns true if the change of a link goes on.
    #[inline]
    pub fn is_any_under_way(&self) -> bool {
        !self.moves.under_way.is_empty()
    }

    /// Returns true if `vm` was moving at `at`, or had been ready so little before that bridges may not have known it.
    pub(super) fn was_moving(&self, vm: VmId, at: Instant) -> bool {
        let Some((number, _)) = self.moves.last.get(&vm) else {
            return false;
        };
        let made = self
            .recorder
            .moves()
            .and_then(|moves| moves.all().get(*number));
        made.is_some_and(|made| {
            made.began <= at && made.ready.is_none_or(|ready| at <= ready + SETTLES)
        })
    }

    /// Returns what came of the last move of `vm` that was [under way](super::Outcome::Moving), or why it was not made; `None` as
    /// long as that goes on.
    pub fn moved(&self, vm: VmId) -> Option<&Result<Moved, String>> {
        match self.moves.under_way.contains_key(&vm) {
            true => None,
            false => self.moves.ended.get(&vm),
        }
    }

    /// The link of `vm`, whose move was begun at `now`, is ready: the VM announces itself, and what is still to be done is planned.
    /// `number` is that of the move if it has one.
    fn complete_move(
        &mut self,
        now: Instant,
        vm: VmId,
        relocation: Relocation,
        (made, ready): (Relocated, Instant),
        number: Option<usize>,
    ) -> Moved {
        let is_ready = ready <= self.fabric.time_after(now);
        if let Some(mac) = self.vm(vm).map(|moved| moved.mac()) {
            self.fabric.watch_moved(vm, mac, ready);
        }
        // At once: whatever else there is to do can wait, and until then the VM can't be reached.
        if is_ready && relocation.count > 0 {
            self.write_announcement(ready, vm, relocation.announcement);
        }
        let heard = self.fabric.fdb_events(ready);
        let number = match number {
            Some(number) => {
                let is_ready = |made: &mut Move| made.ready = Some(ready);
                self.recorder.change_move(number, is_ready);
                number
            }
            None => {
                let number = self.record_move(vm, &made, relocation.announcement);
                self.moves.last.insert(vm, (number, made.from.clone()));
                number
            }
        };
        self.hear_of_move(vm, &heard);
        let (from, to) = (made.from.to_string(), made.to.to_string());
        let notice = Notice::Moved {
            vm,
            from: &from,
            to: &to,
        };
        self.fabric.tell(ready, &notice);
        if !self.is_stopping {
            self.plan_after_move(now, vm, relocation, (number, ready, is_ready));
        }
        Moved {
            from: made.from,
            to: made.to,
            began: made.began,
            ready,
        }
    }

    /// Plans the announcements that are left, the first of which `is_sent` or is due when the link is ready, and the next move.
    fn plan_after_move(
        &mut self,
        now: Instant,
        vm: VmId,
        relocation: Relocation,
        (number, ready, is_sent): (usize, Instant, bool),
    ) {
        let announcing = Announcing {
            number,
            announcement: relocation.announcement,
            left: relocation.count.saturating_sub(u32::from(is_sent)),
            interval: relocation.interval,
        };
        let next = match is_sent {
            true => ready + relocation.interval,
            false => ready,
        };
        self.plan_announcement(next, vm, announcing);
        if relocation.repeat > 1 {
            let back = Relocation {
                to: match relocation.to {
                    // There is always another one.
                    Place::Port => Place::Port,
                    _ => Place::Back,
                },
                repeat: relocation.repeat - 1,
                ..relocation
            };
            let at = now + back.every;
            self.lifecycle.schedule(at, vm, Due::Move(Box::new(back)));
        }
    }

    /// The moves of the present phase that are still to come, the earliest first: when each is due, of which VM, and where to.
    pub fn moves_to_come(&self) -> impl Iterator<Item = (Instant, VmId, &Relocation)> {
        self.lifecycle.moves()
    }

    /// Has `vms` move no more; a move that is under way goes on, and is not repeated.
    pub(super) fn end_moves_to_come(&mut self, vms: &[VmId]) {
        self.lifecycle.forget_moves_of(vms);
        for vm in vms {
            if let Some(under_way) = self.moves.under_way.get_mut(vm) {
                under_way.relocation.repeat = 1;
            }
        }
    }

    /// Begins the records of a move. Returns its number.
    fn record_move(&mut self, vm: VmId, made: &Relocated, announcement: Announcement) -> usize {
        let mut peers: Vec<FlowId> = Vec::new();
        let slot = self.slots.get(vm.index()).and_then(Option::as_ref);
        if let Some(slot) = slot {
            let flows = slot.flows.iter().chain(&slot.targeted_by).copied();
            peers.extend(flows.filter(|flow| {
                let state = self.flows.get(flow.index());
                state.is_some_and(|state| state.ping.is_some()) && self.load.takes_part(*flow)
            }));
        }
        peers.sort_unstable();
        peers.dedup();
        let gaps = peers.into_iter().map(|flow| {
            let state = self.flows.get(flow.index());
            let oldest = state.map_or(0, |state| next_ping(state, &self.slots));
            // What was lost before the last answer was lost before.
            let (last, next) = self.recorder.last_answer(flow).unzip();
            let from = next.map_or(oldest, |next| oldest.max(next));
            Gap {
                flow,
                last,
                first: None,
                first_sent: None,
                longest: None,
                from,
                next: from,
                lost: 0,
                late: 0,
                interval: self.load.interval_of(flow),
            }
        });
        let places = (made.from.to_string(), made.to.to_string());
        let times = (made.began, made.ready);
        let mut held = self.fabric.held_pings(made.began);
        let is_held = held.any(|held| (held.vm, held.direction) == (vm, Direction::Out));
        let made = Move {
            sends_unasked: is_held || slot.is_some_and(|slot| !slot.flows.is_empty()),
            is_told: made.is_introduced,
            gaps: gaps.collect(),
            ..Move::new(vm, places, announcement, times)
        };
        self.recorder.moved(made)
    }

    fn plan_announcement(&mut self, at: Instant, vm: VmId, announcing: Announcing) {
        if announcing.left > 0 && announcing.announcement != Announcement::None {
            self.lifecycle.schedule(at, vm, Due::Announce(announcing));
        }
    }

    /// Sends an announcement of `vm` that is due at `now`, and plans the next one, unless the VM has moved on.
    pub(super) fn announce_move(&mut self, now: Instant, vm: VmId, announcing: Announcing) {
        let last = self.moves.last.get(&vm);
        if last.is_none_or(|(number, _)| *number != announcing.number) {
            return;
        }
        self.write_announcement(now, vm, announcing.announcement);
        let next = Announcing {
            left: announcing.left - 1,
            ..announcing
        };
        self.plan_announcement(now + announcing.interval, vm, next);
    }

    /// Sends the frames of an announcement at `now`.
    fn write_announcement(&mut self, now: Instant, vm: VmId, announcement: Announcement) {
        let mut buffer = [0; ANNOUNCEMENT_BYTES];
        let mut index = 0;
        while let Some(Some(slot)) = self.slots.get_mut(vm.index())
            && let Some(transmit) = slot.vm.announce(announcement, index, &mut buffer)
        {
            index += 1;
            let frame = buffer.get(..transmit.length).unwrap_or_default();
            let outcome = self.fabric.write_announcement(now, vm, frame);
            self.frame_written(outcome, || (now, vm, frame));
        }
    }

    /// Takes in what was heard of tables while `vm` was moved, and from its announcement. What they have lost of it has not aged,
    /// but gone with its port.
    pub(super) fn hear_of_move(&mut self, vm: VmId, heard: &[FdbEvent]) {
        let is_news = |event: &&FdbEvent| {
            event.vm != vm
                || matches!(
                    event.change,
                    FdbChange::Told | FdbChange::LearnedFromAnnouncement
                )
        };
        for event in heard.iter().filter(is_news) {
            self.hear_of_table(event, event.at);
        }
    }

    /// Takes in what a table of a bridge says of a moved VM, and has said since no earlier than `since`.
    pub(super) fn hear_of_table(&mut self, event: &FdbEvent, since: Instant) {
        let Some((number, _)) = self.moves.last.get(&event.vm) else {
            return;
        };
        if let Some(under_way) = self.moves.under_way.get_mut(&event.vm) {
            match event.change {
                // It has not aged, but gone with the port.
                FdbChange::Forgotten => {
                    under_way.has_left = true;
                    return;
                }
                FdbChange::Learned if !under_way.has_left => return,
                _ => {}
            }
        }
        let fabric = &self.fabric;
        self.recorder.change_move(*number, |made| {
            // What was heard in the same turn as that in which the move began has an earlier time, and was learned later.
            let (since, at) = match event.at > made.began {
                true => (since.max(made.began), event.at),
                false => {
                    let at = fabric.time_after(event.at);
                    (at, at)
                }
            };
            let known = match event.change {
                FdbChange::Learned => &mut made.learned,
                FdbChange::LearnedFromAnnouncement => {
                    made.learned_from_announcement.get_or_insert(at);
                    &mut made.learned
                }
                FdbChange::Told => &mut made.told_since,
                FdbChange::Forgotten => &mut made.forgotten_since,
            };
            known.get_or_insert(match event.change {
                FdbChange::Told | FdbChange::Forgotten => since,
                FdbChange::Learned | FdbChange::LearnedFromAnnouncement => at,
            });
        });
    }

    /// Takes in what bridges have learned of moved VMs up to `now`; nothing was to be heard of it at `since`.
    #[cold]
    pub fn hear_of_tables(&mut self, since: Instant, now: Instant) {
        for event in self.fabric.fdb_events(now) {
            self.hear_of_table(&event, since.min(event.at));
        }
    }

    /// Takes in which frames `vm` has sent and received since its last move, if there was one.
    fn take_sightings(&mut self, vm: VmId) {
        if let Some((number, _)) = self.moves.last.get(&vm)
            && let Some(seen) = self.fabric.sightings(vm)
        {
            self.recorder.change_move(*number, |made| made.seen = seen);
        }
    }

    /// Looks no longer for the first frames of `vm` since its last move: it moves on, or leaves.
    pub(super) fn end_sightings(&mut self, vm: VmId) {
        if !self.moves.last.is_empty() {
            self.take_sightings(vm);
            self.fabric.unwatch_moved(vm);
        }
    }

    /// Takes in what bridges have learned of moved VMs, and which frames these have sent and received, up to `now`: before the
    /// records are read. Takes time proportional to the number of moved VMs.
    pub fn look_at_moves(&mut self, now: Instant) {
        self.hear_of_tables(now, now);
        let moved: Vec<VmId> = self.moves.last.keys().copied().collect();
        moved.into_iter().for_each(|vm| self.take_sightings(vm));
    }

    /// A move that was planned can't be made at `now`; tells why.
    #[cold]
    pub(super) fn move_refused(&mut self, now: Instant, vm: VmId, why: &str) {
        self.fabric.tell(now, &Notice::MoveRefused(vm, why));
        let refused = self.moves.refused.get_or_insert_with(|| RefusedMoves {
            first: vm,
            why: why.to_owned(),
            count: 0,
        });
        refused.count += 1;
    }

    /// The moves that could not be made while the run went on, if there are any.
    pub const fn refused_moves(&self) -> Option<&RefusedMoves> {
        self.moves.refused.as_ref()
    }
}

impl<E> From<RelocationError<E>> for CommandError<E> {
    fn from(error: RelocationError<E>) -> CommandError<E> {
        match error {
            RelocationError::Unfit(why) => CommandError::Refused(why),
            RelocationError::Fabric(error) => CommandError::Fabric(error),
        }
    }
}
