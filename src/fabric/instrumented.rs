//! The fabric of a run with its impairments and instruments: the one place that every frame of every driver passes.

use std::io;
use std::time::Duration;

use super::impair::Impair;
use super::misbehave::{Misbehave, MisbehaviourRecord};
use super::path_split::PathFollower;
use super::relocation_watch::RelocationWatch;
use super::{
    Direction, EndedRelocation, Environment, Fabric, FdbEvent, FrameDrops, Impaired, ImpairedPing,
    ImpairmentCount, Instrument, Interface, LinkEvent, Notice, Observed, PathKey, PathStamps,
    PathState, Place, PortCounters, Read, Recording, Released, Relocated, RelocationError,
    RouteEvent, Rule, Sightings, SplitPings, Write,
};
use crate::load::{FlowId, Target};
use crate::record::{Floods, PathSplit};
use crate::time::{Instant, Now, earliest};
use crate::vm::{Act, Event, Misbehaviour, RxFilter, SessionId, Station, VmId};
use crate::wire::MacAddr;

/// Why a recording that was ended by [`Instrumented::end`] does not last until the run does.
const ENDED_BY_REQUEST: &str = "it was ended by request";
/// So many of those are told of at the end of the run, the last ones.
const ENDED_TOLD: usize = 1_000;

/// A fabric whose frames are impaired by [rules](Rule) and shown to [instruments](Instrument), and whose VMs may
/// [misbehave](Misbehaviour); all of that can change while it runs.
///
/// Without any, a frame costs the test of one flag.
#[derive(Debug)]
pub struct Instrumented<F> {
    fabric: F,
    /// There are instruments, or frames pass something at the edge, or a VM is watched after a move.
    is_watched: bool,
    /// In the order of their numbers.
    instruments: Vec<(u32, Box<dyn Instrument>)>,
    /// The number of the next instrument.
    next: u32,
    /// What those have written that were ended.
    ended: Vec<Recording>,
    /// `None` until there is something of that.
    edge: Option<Box<Edge>>,
    moved: Option<Box<RelocationWatch>>,
    /// Follows pings, or has done so.
    path: Option<Box<PathFollower>>,
    /// Impaired frames of pings are noted.
    notes_pings: bool,
    longest_hold: Option<Duration>,
    /// What was flooded, once the instrument that counts that is gone.
    floods: Option<Floods>,
}

/// What stands between the VMs and their ports.
#[derive(Debug, Default)]
struct Edge {
    misbehave: Option<Misbehave>,
    impair: Option<Impair>,
}

impl Edge {
    /// Returns true if frames have to pass here.
    fn is_passed(&self) -> bool {
        let is_impaired = self.impair.as_ref().is_some_and(|impair| !impair.is_idle());
        is_impaired || self.misbehave.as_ref().is_some_and(Misbehave::goes_on)
    }

    /// The time at which something of it is due.
    #[cold]
    fn next_at(&self) -> Option<Instant> {
        let held = self.impair.as_ref().and_then(Impair::next_at);
        let due = self.misbehave.as_ref().and_then(Misbehave::next_at);
        earliest(held, due)
    }
}

impl<F> Instrumented<F> {
    /// Wraps `fabric`; there are neither instruments nor impairments yet.
    pub const fn new(fabric: F) -> Instrumented<F> {
        Instrumented {
            fabric,
            is_watched: false,
            instruments: Vec::new(),
            next: 0,
            ended: Vec::new(),
            edge: None,
            moved: None,
            path: None,
            notes_pings: false,
            longest_hold: None,
            floods: None,
        }
    }

    /// Shows every frame and event to `instrument` from now on, after the instruments that are there already. Returns its
    /// number.
    pub fn add(&mut self, instrument: Box<dyn Instrument>) -> u32 {
        let number = self.next;
        self.next += 1;
        self.instruments.push((number, instrument));
        self.is_watched = true;
        number
    }

    /// Ends what the instrument with that number writes. Returns what that is, which [`Instrumented::finish`] tells again;
    /// `None` if there is no such instrument, or it is in no report.
    pub fn end(&mut self, number: u32) -> Option<&Recording> {
        let place = self.instruments.iter().position(|(id, _)| *id == number)?;
        self.instruments.get_mut(place)?.1.so_far()?;
        let (_, mut instrument) = self.instruments.remove(place);
        self.set_watched();
        let mut recording = instrument.finish()?;
        recording
            .ended
            .get_or_insert_with(|| ENDED_BY_REQUEST.to_owned());
        self.ended.push(recording);
        // A lab that begins and ends captures for days does not remember them all.
        if self.ended.len() > ENDED_TOLD {
            self.ended.remove(0);
        }
        self.ended.last()
    }

    /// Returns what the instruments have written so far that are in reports, with their numbers.
    pub fn recordings(&mut self) -> Vec<(u32, Recording)> {
        let instruments = self.instruments.iter_mut();
        instruments
            .filter_map(|(number, instrument)| Some((*number, instrument.so_far()?)))
            .collect()
    }

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

    /// From now on frames of pings are noted, too, that an impairment holds for longer than that, as long as there are others'
    /// pings of which nobody here knows when they fail.
    pub fn note_longer_holds(&mut self, longest: Duration) {
        self.longest_hold = Some(longest);
        if let Some(edge) = &mut self.edge {
            let impair = edge.impair.iter_mut();
            impair.for_each(|impair| impair.note_longer_holds(longest));
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

    /// Returns the frames of pings that impairments hold at `now`, of very many some.
    pub fn held_pings(&self, now: Instant) -> impl Iterator<Item = ImpairedPing> {
        let impair = self.impair().into_iter();
        impair.flat_map(move |impair| impair.held_pings(now))
    }

    /// Returns the rules by which frames are impaired; of those that fit a frame the last one is applied.
    pub fn rules(&self) -> &[Rule] {
        self.impair().map_or(&[], Impair::rules)
    }

    fn impair(&self) -> Option<&Impair> {
        self.edge.as_ref()?.impair.as_ref()
    }

    fn impair_mut(&mut self) -> Option<&mut Impair> {
        self.edge.as_mut()?.impair.as_mut()
    }

    fn misbehave(&self) -> Option<&Misbehave> {
        self.edge.as_ref()?.misbehave.as_ref()
    }

    fn misbehave_mut(&mut self) -> &mut Misbehave {
        let edge = self.edge.get_or_insert_default();
        let misbehave = edge.misbehave.get_or_insert_default();
        if self.notes_pings {
            misbehave.note_pings();
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

    /// Returns true if the link of `vm` was down at `at`, not long ago, because it misbehaves, or had come up within
    /// `settling` before.
    pub fn was_link_down(&self, vm: VmId, at: Instant, settling: Duration) -> bool {
        self.misbehave()
            .is_some_and(|misbehave| misbehave.was_link_down(vm, at, settling))
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

    /// Returns what was flooded so far, if that is counted.
    pub fn floods(&self) -> Option<Floods> {
        let mut instruments = self.instruments.iter();
        let counted = instruments.find_map(|(_, each)| each.floods());
        counted.or_else(|| self.floods.clone())
    }

    fn set_watched(&mut self) {
        let is_moved = self.moved.as_ref().is_some_and(|moved| moved.goes_on());
        let is_passed = self.edge.as_ref().is_some_and(|edge| edge.is_passed());
        self.is_watched =
            is_moved || is_passed || !self.instruments.is_empty() || self.splits_path();
    }

    /// Returns true if pings are followed to split their way.
    pub fn splits_path(&self) -> bool {
        self.path.as_ref().is_some_and(|path| path.is_active())
    }

    /// Returns the stages of the way of pings, if that was split.
    pub fn path_split(&self) -> Option<PathSplit> {
        self.path.as_ref().map(|path| path.split())
    }

    /// Keeps the first frames of `vm`, which was moved and has the address `mac`, from `since` on.
    pub fn watch_moved(&mut self, vm: VmId, mac: MacAddr, since: Instant) {
        self.moved.get_or_insert_default().begin(vm, mac, since);
        self.set_watched();
    }

    /// Returns the first frames of `vm` since it is [watched](Instrumented::watch_moved).
    pub fn sightings(&self, vm: VmId) -> Option<Sightings> {
        self.moved.as_ref()?.of(vm)
    }

    /// Ends to keep the first frames of `vm`.
    pub fn unwatch_moved(&mut self, vm: VmId) {
        if let Some(moved) = &mut self.moved {
            moved.end(vm);
            self.set_watched();
        }
    }

    /// Returns true if there are instruments, or frames that are impaired, or VMs that misbehave, or one that is watched after a
    /// move.
    #[inline]
    pub const fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Returns true if a call of an instrument may wait for a reader.
    pub fn waits_for_reader(&self) -> bool {
        let mut instruments = self.instruments.iter();
        instruments.any(|(_, each)| each.waits_for_reader())
    }

    /// Returns the fabric itself. What passes it directly is shown to no instrument.
    pub const fn inner(&mut self) -> &mut F {
        &mut self.fabric
    }

    /// Drops the instruments, and returns the fabric.
    pub fn into_inner(self) -> F {
        self.fabric
    }

    /// Tells the instruments of an event of `vm`.
    #[inline]
    pub fn tell_event(&mut self, now: Instant, vm: VmId, event: &Event) {
        if self.is_watched {
            self.each(|instrument| instrument.event(now, vm, event));
        }
    }

    /// Tells the instruments of a VM that is to be.
    pub fn tell_vm(&mut self, vm: VmId, mac: MacAddr, interface: &Interface) {
        self.each(|instrument| instrument.vm(vm, mac, interface));
    }

    /// Tells the instruments of a flow that was opened.
    pub fn tell_flow(&mut self, flow: FlowId, vm: VmId, session: SessionId, target: Target) {
        if self.is_watched {
            self.each(|instrument| instrument.flow(flow, vm, session, target));
        }
    }

    /// Tells the instruments of a change of the lab.
    pub fn tell(&mut self, now: Instant, notice: &Notice<'_>) {
        self.each(|instrument| instrument.notice(now, notice));
    }

    /// Lets the instruments write, between two turns at `now`; see [`Instrument::flush`]. Returns true if that may have taken
    /// long.
    #[inline]
    pub fn flush(&mut self, now: Instant, is_idle: bool) -> bool {
        let mut has_written = false;
        if self.is_watched {
            self.each(|instrument| has_written |= instrument.flush(now, is_idle));
        }
        if has_written {
            self.remove_those_over();
        }
        has_written
    }

    #[cold]
    fn remove_those_over(&mut self) {
        self.instruments.retain(|(_, each)| !each.is_over());
        self.set_watched();
    }

    /// Tells the instruments that a pipe has room again, or that the reader of a stream has gone.
    pub fn resume(&mut self) {
        self.each(|instrument| instrument.resume());
        self.remove_those_over();
    }

    /// Drops the frames that impairments hold at `now` for `vms` or from them, or all of them, and tells the instruments.
    pub fn drop_held(&mut self, now: Instant, vms: Option<&[VmId]>) {
        let Some(edge) = self.edge.as_deref_mut() else {
            return;
        };
        if let (Some(misbehave), Some(vms)) = (&mut edge.misbehave, vms) {
            vms.iter().for_each(|vm| misbehave.forget(*vm));
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

    /// Ends at `now` what the instruments write, and returns what that is. They see nothing more.
    pub fn finish(&mut self, now: Instant) -> Vec<Recording> {
        self.drop_held(now, None);
        self.floods = self.floods();
        let mut recordings = std::mem::take(&mut self.ended);
        let instruments = std::mem::take(&mut self.instruments).into_iter();
        recordings.extend(instruments.filter_map(|(_, mut each)| each.finish()));
        self.set_watched();
        recordings
    }

    #[cold]
    fn each(&mut self, mut tell: impl FnMut(&mut dyn Instrument)) {
        for (_, instrument) in &mut self.instruments {
            tell(instrument.as_mut());
        }
    }
}

impl<F: Fabric> Instrumented<F> {
    /// Follows such pings from now on, to split their way, or none.
    ///
    /// # Errors
    /// If the kernel does not stamp their frames.
    pub fn split_path(&mut self, pings: Option<SplitPings>) -> Result<(), F::Error> {
        let path = self
            .path
            .get_or_insert_with(|| Box::new(PathFollower::new()));
        let outcome = path.follow(&mut self.fabric, pings);
        self.set_watched();
        outcome
    }

    /// Sends an announcement of a move, which is not taken for the first frame of its VM. When it was written, and what bridges
    /// have learned from it, is among what is [seen](Instrumented::sightings) and [heard](Fabric::fdb_events), also if that is
    /// later.
    pub fn write_announcement(&mut self, now: Instant, vm: VmId, frame: &[u8]) -> Write {
        if let Some(moved) = &mut self.moved {
            moved.announces(vm, frame);
        }
        self.write_watched(now, vm, frame)
    }

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
    fn misbehave_now(&mut self, now: Instant) -> Option<Released> {
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
    fn misbehave_moved(&mut self, vm: VmId, rx_filter: Option<&RxFilter>) {
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

    #[cold]
    fn read_watched(&mut self, mut now: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        let path = self.path.as_ref();
        let read_called = path.map(|path| path.reads(&self.fabric));
        let impair = self
            .edge
            .as_deref_mut()
            .and_then(|edge| edge.impair.as_mut());
        let (read, impaired) = match impair {
            Some(impair) => impair.read(&mut self.fabric, &mut now, vm, buffer),
            None => (self.fabric.read(&mut now, vm, buffer), Impaired::default()),
        };
        if let (Some(path), Some(called), Read::Frame(length)) = (&mut self.path, read_called, read)
        {
            let frame = buffer.get(..length).unwrap_or_default();
            path.read(&mut self.fabric, &mut now, called, frame);
        }
        let shown = match read {
            Read::Frame(length) => Some(length),
            Read::Consumed(length) if impaired.is_dropped() => Some(length),
            _ => None,
        };
        if let Some(length) = shown
            && !self.instruments.is_empty()
        {
            let observed = Observed {
                vm,
                direction: Direction::In,
                frame: buffer.get(..length).unwrap_or_default(),
                impaired,
                refused: None,
            };
            let now = now.now();
            self.each(|instrument| instrument.frame(now, &observed));
        }
        let read = match read {
            Read::Frame(length) if self.misbehave().is_some_and(Misbehave::goes_on) => {
                self.receive_misbehaving(now.now(), (vm, length), buffer)
            }
            _ => read,
        };
        if let (Some(moved), Read::Frame(length)) = (&mut self.moved, read) {
            moved.received(now.now(), vm, buffer.get(..length).unwrap_or_default());
        }
        // It may have been the last frame that there was to see, or was held.
        self.set_watched();
        read
    }

    /// Has `vm` do with the frame in `buffer` what its misbehaviour makes of it, if it misbehaves.
    fn receive_misbehaving(
        &mut self,
        now: Instant,
        (vm, length): (VmId, usize),
        buffer: &[u8],
    ) -> Read {
        let Some(mut edge) = self.edge.take() else {
            return Read::Frame(length);
        };
        let mut read = Read::Frame(length);
        let mut is_refused = false;
        if let Some(misbehave) = &mut edge.misbehave {
            let frame = buffer.get(..length).unwrap_or_default();
            let (is_taken, answer) = misbehave.receives(now, vm, frame);
            if !is_taken {
                read = Read::Consumed(length);
            }
            if let Some(answer) = answer {
                let written = self.write_shown(edge.impair.as_mut(), now, vm, answer);
                is_refused = written != Write::Sent;
            }
            if is_refused {
                misbehave.refused(vm);
            }
        }
        self.edge = Some(edge);
        read
    }

    #[cold]
    fn write_watched(&mut self, mut now: impl Now, vm: VmId, frame: &[u8]) -> Write {
        let mut edge = self.edge.take();
        let (misbehave, impair) = match edge.as_deref_mut() {
            Some(edge) => (edge.misbehave.as_mut(), edge.impair.as_mut()),
            None => (None, None),
        };
        let sent = match misbehave {
            Some(misbehave) => misbehave.sends(&mut now, vm, frame),
            None => Some(frame),
        };
        if let (Some(moved), Some(made)) = (&mut self.moved, sent)
            && moved.is_announcement(vm, frame)
        {
            moved.announces(vm, made);
        }
        let written = match sent {
            Some(frame) => self.write_shown(impair, now, vm, frame),
            // As the VM sees it, it is.
            None => Write::Sent,
        };
        self.edge = edge;
        // It may have been the last frame that there was to see.
        self.set_watched();
        written
    }

    /// Writes a frame, or what impairments make of it, and shows it to the instruments.
    fn write_shown(
        &mut self,
        impair: Option<&mut Impair>,
        mut now: impl Now,
        vm: VmId,
        frame: &[u8],
    ) -> Write {
        let path = self.path.as_mut();
        let writing = path.and_then(|path| path.writes(&self.fabric, &mut now, frame));
        let (mut written, mut impaired) = (None, Impaired::default());
        let at = self.moved.as_ref().map(|_| now.now());
        let write = |fabric: &mut F| {
            (written, impaired) = match impair {
                Some(impair) => impair.write(fabric, &mut now, vm, frame),
                None => (Some(fabric.write(&mut now, vm, frame)), impaired),
            };
            written == Some(Write::Sent)
        };
        match (&mut self.moved, at) {
            (Some(moved), Some(at)) => moved.writing(&mut self.fabric, at, (vm, frame), write),
            _ => _ = write(&mut self.fabric),
        }
        // As the VM sees it, what is held or lost is sent.
        let written = written.unwrap_or(Write::Sent);
        if let (Some(path), Some(writing)) = (&mut self.path, writing) {
            path.wrote(&self.fabric, writing);
        }
        if !self.instruments.is_empty() {
            let observed = Observed {
                vm,
                direction: Direction::Out,
                frame,
                impaired,
                refused: match written {
                    Write::Dropped(reason) => Some(reason),
                    _ => None,
                },
            };
            let now = now.now();
            self.each(|instrument| instrument.frame(now, &observed));
        }
        written
    }
}

impl<F: Fabric> Fabric for Instrumented<F> {
    type Error = F::Error;

    #[inline]
    fn read(&mut self, now: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        match self.is_watched {
            true => self.read_watched(now, vm, buffer),
            false => self.fabric.read(now, vm, buffer),
        }
    }

    #[inline]
    fn write(&mut self, now: impl Now, vm: VmId, frame: &[u8]) -> Write {
        match self.is_watched {
            true => self.write_watched(now, vm, frame),
            false => self.fabric.write(now, vm, frame),
        }
    }

    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), F::Error> {
        self.each(|instrument| instrument.rx_filter(vm, rx_filter));
        self.fabric.plug(vm, rx_filter)
    }

    fn plug_all(&mut self, vms: &[(VmId, &RxFilter)]) -> Result<(), F::Error> {
        for (vm, rx_filter) in vms {
            self.each(|instrument| instrument.rx_filter(*vm, rx_filter));
        }
        self.fabric.plug_all(vms)
    }

    fn set_rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), F::Error> {
        self.each(|instrument| instrument.rx_filter(vm, rx_filter));
        let widened = self.misbehave().and_then(|all| all.widen(vm, rx_filter));
        self.fabric
            .set_rx_filter(vm, widened.as_ref().unwrap_or(rx_filter))
    }

    fn set_link(&mut self, vm: VmId, up: bool) -> Result<(), F::Error> {
        self.fabric.set_link(vm, up)
    }

    fn shared_with(&self) -> Option<String> {
        self.fabric.shared_with()
    }

    fn unplug(&mut self, vms: &[VmId]) -> Result<(), F::Error> {
        if let Some(moved) = &mut self.moved {
            vms.iter().for_each(|vm| moved.stop(*vm));
            self.set_watched();
        }
        self.fabric.unplug(vms)
    }

    fn set_polled(&mut self, vm: VmId, polled: bool) -> io::Result<()> {
        self.fabric.set_polled(vm, polled)
    }

    fn watch_links(&mut self) -> bool {
        self.fabric.watch_links()
    }

    fn link_events(&mut self) -> Vec<LinkEvent> {
        self.fabric.link_events()
    }

    fn watch_routes(&mut self) {
        self.fabric.watch_routes();
    }

    fn route_events(&mut self) -> Vec<RouteEvent> {
        self.fabric.route_events()
    }

    fn prepare_place(&mut self, vm: VmId, to: &Place) -> Result<(), RelocationError<F::Error>> {
        self.fabric.prepare_place(vm, to)
    }

    fn relocate(
        &mut self,
        now: Instant,
        vm: VmId,
        to: &Place,
        rx_filter: &RxFilter,
        outage: Duration,
    ) -> Result<Relocated, RelocationError<F::Error>> {
        let relocated = self.fabric.relocate(now, vm, to, rx_filter, outage)?;
        if self.edge.is_some() && relocated.ready.is_some() {
            self.misbehave_moved(vm, Some(rx_filter));
        }
        Ok(relocated)
    }

    fn ended_relocations(&mut self, waits: bool) -> Vec<EndedRelocation<F::Error>> {
        let ended = self.fabric.ended_relocations(waits);
        if self.edge.is_some() {
            let made = ended.iter().filter(|(_, outcome)| outcome.is_ok());
            made.for_each(|(vm, _)| self.misbehave_moved(*vm, None));
        }
        ended
    }

    fn fdb_events(&mut self, now: Instant) -> Vec<FdbEvent> {
        let moved = self.moved.as_mut();
        let mut heard = moved.map_or_else(Vec::new, |moved| moved.take_heard());
        heard.extend(self.fabric.fdb_events(now));
        heard
    }

    fn time_after(&self, now: Instant) -> Instant {
        self.fabric.time_after(now)
    }

    fn watch_drops(&mut self) -> Result<bool, F::Error> {
        self.fabric.watch_drops()
    }

    fn frame_drops(&mut self) -> FrameDrops {
        self.fabric.frame_drops()
    }

    fn stamp_path(&mut self, stamps: bool) -> Result<(), F::Error> {
        self.fabric.stamp_path(stamps)
    }

    fn path_stamps(&mut self, ping: PathKey) -> [Option<PathStamps>; 2] {
        self.fabric.path_stamps(ping)
    }

    fn has_filter(&self) -> bool {
        self.fabric.has_filter()
    }

    fn port_counters(&mut self) -> Result<Vec<(VmId, PortCounters)>, F::Error> {
        self.fabric.port_counters()
    }

    fn path_state(
        &mut self,
        source: VmId,
        destination: MacAddr,
        owner: Option<VmId>,
    ) -> Result<Option<PathState>, F::Error> {
        self.fabric.path_state(source, destination, owner)
    }

    #[inline]
    fn next_at(&self) -> Option<Instant> {
        let next = self.fabric.next_at();
        match &self.edge {
            Some(edge) => earliest(next, edge.next_at()),
            None => next,
        }
    }

    fn next_receiver(&mut self, now: Instant) -> Option<VmId> {
        self.fabric.next_receiver(now)
    }

    fn drops(&mut self) -> Result<u64, F::Error> {
        self.fabric.drops()
    }

    fn environment(&self) -> Environment {
        self.fabric.environment()
    }

    fn warnings(&self) -> &[F::Error] {
        self.fabric.warnings()
    }

    fn forwards_after(&self) -> Duration {
        self.fabric.forwards_after()
    }

    fn outlives_process(&self) -> bool {
        self.fabric.outlives_process()
    }

    fn close(&mut self) -> Result<(), F::Error> {
        self.fabric.close()
    }
}
