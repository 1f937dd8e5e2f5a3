//! The fabric of a run with its impairments and instruments: the one place that every frame of every driver passes.

mod edge;
mod frames;

use std::borrow::Cow;
use std::time::Duration;

use self::edge::Edge;
use super::path_split::PathFollower;
use super::relocation_watch::RelocationWatch;
use super::{Fabric, Instrument, Interface, Notice, Recording, Sightings, SplitPings};
use crate::load::{FlowId, Target};
use crate::record::{Floods, PathSplit};
use crate::time::Instant;
use crate::vm::{Event, RxFilter, SessionId, VmId};
use crate::wire::MacAddr;

/// Why a recording that was ended by [`Instrumented::end`] does not last until the run does.
const ENDED_BY_REQUEST: &str = "it was ended by request";
/// So many of those are told of at the end of the run, the last ones.
const ENDED_TOLD: usize = 1_000;

/// A fabric whose frames are impaired by [rules](super::Rule) and shown to [instruments](Instrument), and whose VMs may
/// [misbehave](crate::vm::Misbehaviour); all of that can change while it runs.
///
/// Without any, a frame costs the test of one flag.
#[derive(Debug)]
pub struct Instrumented<F> {
    fabric: F,
    /// There are instruments, or frames pass something at the edge, or a VM is watched after a move.
    is_watched: bool,
    /// The filters of all ports let all through, to see who gets what is not for them.
    are_filters_open: bool,
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

impl<F> Instrumented<F> {
    /// Wraps `fabric`; there are neither instruments nor impairments yet.
    pub const fn new(fabric: F) -> Instrumented<F> {
        Instrumented {
            fabric,
            is_watched: false,
            are_filters_open: false,
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

    /// Has all filters let all through that are set from now on. What a VM itself wants the instruments are told all the same. Returns
    /// false if they do already.
    pub const fn open_filters(&mut self) -> bool {
        !std::mem::replace(&mut self.are_filters_open, true)
    }

    /// The filter of a port whose VM wants what `rx_filter` lets through.
    fn opened<'f>(&self, rx_filter: &'f RxFilter) -> Cow<'f, RxFilter> {
        match self.are_filters_open {
            true => Cow::Owned(RxFilter {
                is_promiscuous: true,
                ..rx_filter.clone()
            }),
            false => Cow::Borrowed(rx_filter),
        }
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
}
