//! Streams: frames that VMs send one way, on schedules of their own, and what VMs read of them.
//!
//! Nothing is kept of a frame that was sent: what did not come until a ping's timeout after the last one is lost. Whether all have
//! come to VMs of other ranks is not known here: for these it is always waited so long.

use std::net::IpAddr;
use std::time::Duration;

use super::record_buffer::Entry;
use super::{FRAME_OF_STREAM, Hypervisor, Outgoing, Step};
use crate::fabric::Fabric;
use crate::load::{Due, Load, PhaseLoad, Sizes};
use crate::record::StreamId;
use crate::time::{Instant, Now, earliest};
use crate::vm::{StreamConfig, VmId};
use crate::wire::{FRAME_CHECK_SEQUENCE, StreamHead, StreamTag, stamp_stream};

/// A stream: who sends what, and for whom it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamFlow {
    /// The VM that sends.
    pub source: VmId,
    /// What it sends.
    pub config: StreamConfig,
    /// The VM whose address that is; frames follow the one that a DHCP server leases to it.
    pub target: Option<VmId>,
    /// The VMs that it is for, of those of this run.
    pub receivers: Vec<VmId>,
    /// How many other ranks have.
    pub receivers_elsewhere: u64,
    /// Its source is a VM of a rank whose clock nobody knows here.
    pub has_two_clocks: bool,
    /// The sizes of its frames.
    pub sizes: Sizes,
    /// False in a warm-up.
    pub is_counted: bool,
}

/// A frame of a stream that is to be stamped with its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Built {
    /// The stream.
    stream: StreamId,
    /// When the schedule wanted the frame sent.
    due: Instant,
    /// Its length.
    length: u32,
    /// Where its payload begins.
    payload: u32,
}

/// A stream that is there.
#[derive(Debug)]
struct State {
    flow: StreamFlow,
    /// Its place among those of the source, once it has begun.
    place: Option<usize>,
    /// The number of the next frame.
    next: u64,
}

/// The schedule of streams that share it. There they are numbered from 0.
#[derive(Debug)]
struct Lane {
    streams: Vec<StreamId>,
    load: Load,
}

/// The streams of a run.
#[derive(Debug)]
pub(super) struct Streams {
    /// Tells its frames from those of other runs.
    run: u32,
    states: Vec<State>,
    /// The schedules of the present phase.
    lanes: Vec<Lane>,
    /// For how long frames are waited for.
    timeout: Duration,
    /// The frame that is to be stamped next.
    built: Option<Built>,
    /// When the last frame was sent.
    last_sent: Option<Instant>,
    /// Frames are waited for.
    is_waiting: bool,
    /// VMs that streams are for and that are not there: they have stopped, or are still to start.
    absent: Vec<VmId>,
    random: fastrand::Rng,
}

impl Streams {
    /// When the next frame is due.
    fn next_at(&self) -> Option<Instant> {
        let lanes = self.lanes.iter().map(|lane| lane.load.next_at());
        lanes.fold(None, earliest)
    }

    /// When there is something to do: a frame is due, or those on their way are waited for no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        earliest(self.next_at(), self.settles_at())
    }

    /// These VMs have stopped, or are still to start.
    pub(super) fn becomes_absent(&mut self, vms: impl Iterator<Item = VmId>) {
        self.absent.extend(vms);
        self.absent.sort_unstable();
        self.absent.dedup();
    }

    /// `vm` has started.
    pub(super) fn is_there(&mut self, vm: VmId) {
        self.absent.retain(|other| *other != vm);
    }

    /// When frames on their way are waited for no longer, after the last one was sent.
    fn settles_at(&self) -> Option<Instant> {
        let is_waiting = self.is_waiting && self.is_handed_out();
        Some(self.last_sent.filter(|_| is_waiting)? + self.timeout)
    }

    /// Returns true once no frame of the present phase is to be sent any more.
    pub(super) fn is_handed_out(&self) -> bool {
        self.lanes.iter().all(|lane| lane.load.is_handed_out())
    }

    /// Returns true once none is waited for either.
    pub(super) fn is_done(&self) -> bool {
        self.is_handed_out() && !self.is_waiting
    }

    /// Returns true if a frame was due before `end` and was not sent.
    pub(super) fn is_behind(&self, end: Instant) -> bool {
        self.lanes.iter().any(|lane| lane.load.is_behind(end))
    }

    /// The end of the schedules, once all of them are over.
    pub(super) fn schedule_end(&self) -> Option<Instant> {
        let ends = self.lanes.iter().map(|lane| lane.load.schedule_end());
        ends.flatten().max()
    }

    /// Takes the first frame that is due at `now`, with the stream that it is of.
    #[inline]
    fn next(&mut self, now: Instant) -> Option<(StreamId, Due)> {
        let lane = match self.lanes.as_mut_slice() {
            [only] => only,
            several => several
                .iter_mut()
                .filter_map(|lane| Some((lane.load.next_at()?, lane)))
                .min_by_key(|(at, _)| *at)
                .map(|(_, lane)| lane)?,
        };
        let due = lane.load.next(now)?;
        // Nobody answers it.
        lane.load.finished(now, due.flow);
        Some((*lane.streams.get(due.flow.index())?, due))
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Makes ready for streams: `run` tells their frames from those of other runs, and for `timeout` after the last one they are
    /// waited for.
    pub fn expect_streams(&mut self, run: u32, timeout: Duration) {
        self.reads_frames = true;
        self.streams = Some(Box::new(Streams {
            run,
            states: Vec::new(),
            lanes: Vec::new(),
            timeout,
            built: None,
            last_sent: None,
            is_waiting: false,
            absent: Vec::new(),
            random: fastrand::Rng::with_seed(self.seed),
        }));
    }

    /// Adds a stream, after [`Hypervisor::expect_streams`]: the n-th one, from 0, is that of the number n in the phases. With one that
    /// is not for one VM alone, all VMs are given what comes to their ports from now on, to see what is not for them.
    pub fn add_stream(&mut self, flow: StreamFlow) {
        self.recorder
            .add_stream(flow.is_counted, flow.receivers.clone());
        let Some(streams) = &mut self.streams else {
            return;
        };
        let stream = StreamId(streams.states.len() as u32);
        let is_there = matches!(self.slots.get(flow.source.index()), Some(Some(_)));
        let ends = (is_there, flow.receivers_elsewhere);
        self.recorder
            .stream_crosses(stream, ends, flow.has_two_clocks);
        let leaks = flow.config.mac.is_some() || flow.config.destination.is_multicast();
        let slots = &self.slots;
        let is_absent = |vm: &&VmId| matches!(slots.get(vm.index()), None | Some(None));
        streams.becomes_absent(flow.receivers.iter().filter(is_absent).copied());
        streams.states.push(State {
            flow,
            place: None,
            next: 0,
        });
        if leaks && self.fabric.open_filters() {
            for vm in (0..self.slots.len() as u32).map(VmId) {
                self.set_rx_filter(vm);
            }
        }
    }

    /// The streams to which a way is to be found beforehand.
    pub(super) fn stream_ids(&self) -> impl Iterator<Item = StreamId> + use<F> {
        let number = self.streams.as_ref().map_or(0, |it| it.states.len());
        (0..number as u32).map(StreamId)
    }

    /// The source of a stream, and its place there.
    pub(super) fn open_stream(&mut self, stream: StreamId) -> Option<(VmId, usize)> {
        let streams = self.streams.as_deref_mut()?;
        let state = streams.states.get_mut(stream.index())?;
        let vm = state.flow.source;
        if let Some(place) = state.place {
            return Some((vm, place));
        }
        let slot = self.slots.get_mut(vm.index())?.as_mut()?;
        let place = slot.vm.open_stream(state.flow.config);
        state.place = Some(place);
        Some((vm, place))
    }

    /// Sends the streams to `vm`, those of that IP version, to `address`, its new address, from now on.
    pub(super) fn redirect_streams(&mut self, vm: VmId, address: IpAddr) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        let to_it = |state: &&mut State| state.flow.target == Some(vm);
        for state in streams.states.iter_mut().filter(to_it) {
            if state.flow.config.destination.is_ipv4() == address.is_ipv4() {
                state.flow.config.destination = address;
            }
            let source = self.slots.get_mut(state.flow.source.index());
            if let (Some(Some(source)), Some(place)) = (source, state.place) {
                source.vm.redirect_stream(place, address);
            }
        }
    }

    /// Begins the streams of a phase at `at`, each with the others of its load.
    pub(super) fn begin_streams(&mut self, at: Instant, loads: &[PhaseLoad]) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        let lanes = loads.iter().map(|load| {
            let mut lane = Lane {
                streams: load.flows.iter().map(|flow| StreamId(flow.0)).collect(),
                load: Load::new(streams.random.u64(..)),
            };
            let number = lane.streams.len() as u32;
            for _ in 0..number {
                lane.load.add_flow();
            }
            let load = PhaseLoad {
                flows: (0..number).into(),
                ..load.clone()
            };
            lane.load.begin(at, &load);
            lane
        });
        streams.lanes = lanes.collect();
    }

    /// Ends the streams of the present phase at `end`. Frames that were due before and were not sent are counted.
    pub(super) fn end_streams(&mut self, end: Instant) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        let lanes = streams.lanes.iter_mut();
        let unsent = lanes.map(|lane| lane.load.end_phase(end)).sum();
        self.recorder().stream_unsent(unsent);
    }

    /// Gives up frames on their way, once all have come that were sent or no other is waited for.
    #[cold]
    pub(super) fn settle_streams(&mut self, now: Instant) {
        self.look_at_impaired_streams();
        let settles_at = self.streams.as_ref().and_then(|it| it.settles_at());
        let Some(settles_at) = settles_at else {
            return;
        };
        let is_missing = |streams: &crate::record::Streams| streams.is_any_missing();
        let is_over = settles_at <= now
            // A duplicate may be on its way still.
            || !self.recorder().streams().is_some_and(is_missing)
                && self.fabric.next_at().is_none();
        if is_over {
            self.give_up_streams();
        }
    }

    /// Waits for no frame of a stream any more.
    pub(super) fn give_up_streams(&mut self) {
        if let Some(streams) = &mut self.streams {
            streams.is_waiting = false;
        }
    }

    /// Returns true if the run that is over at `now` goes on for copies of frames that VMs have read just now and that impairments
    /// hold: they are waited for as long as others.
    pub fn waits_for_held_copies(&mut self, now: Instant) -> bool {
        let is_any_held = self.fabric.next_at().is_some();
        let Some(streams) = self.streams.as_deref_mut().filter(|_| is_any_held) else {
            return false;
        };
        let last = streams.last_sent;
        streams.is_waiting = last.is_some_and(|last| now < last + streams.timeout);
        streams.is_waiting
    }

    /// Sends the frame of a stream that is due by `due_by`, if it was due before any ping of an open loop. `None` if there is none.
    #[inline(never)]
    pub(super) fn next_of_streams(
        &mut self,
        now: Instant,
        due_by: Instant,
        buffer: &mut [u8],
    ) -> Option<Step> {
        let streams = self.streams.as_mut()?;
        if let Some(ping) = self.load.next_at().filter(|ping| *ping > Instant::ZERO) {
            streams.next_at().filter(|at| *at <= ping)?;
        }
        let (stream, due) = streams.next(due_by)?;
        Some(self.start_frame(now, stream, due, buffer))
    }

    fn start_frame(&mut self, now: Instant, stream: StreamId, due: Due, buffer: &mut [u8]) -> Step {
        let built = self.build_frame(now, stream, due, buffer);
        built.unwrap_or_else(|| {
            self.recorder.stream_unresolved(stream);
            Step::Quiet
        })
    }

    fn build_frame(
        &mut self,
        now: Instant,
        stream: StreamId,
        due: Due,
        buffer: &mut [u8],
    ) -> Option<Step> {
        let (vm, place) = self.open_stream(stream)?;
        let streams = self.streams.as_deref_mut()?;
        let state = streams.states.get_mut(stream.index())?;
        let size = state.flow.sizes.of(state.next, &mut streams.random);
        let length = usize::from(size).saturating_sub(FRAME_CHECK_SEQUENCE);
        let tag = StreamTag {
            run: streams.run,
            stream: stream.0,
            sequence: state.next,
        };
        let slot = self.slots.get_mut(vm.index())?.as_mut()?;
        let built = slot.vm.stream_frame(now, place, (tag, length), buffer);
        state.next += u64::from(built.is_some());
        if slot.vm.take_dirty() {
            self.after_change(now, vm);
        }
        let built = built?;
        self.streams.as_deref_mut()?.built = Some(Built {
            stream,
            due: due.due,
            length: built.length as u32,
            payload: built.payload as u32,
        });
        Some(Step::Send(Outgoing {
            vm,
            length: built.length,
            ping: Some(FRAME_OF_STREAM),
            more: false,
        }))
    }

    /// The head of a frame, if that is one of a stream of this run.
    pub(super) fn stream_head(&self, frame: &[u8]) -> Option<StreamHead> {
        let run = self.streams.as_ref()?.run;
        StreamHead::parse(frame).filter(|head| head.tag.run == run)
    }

    /// The source of a frame of a stream of this run, of whichever rank it is.
    pub(super) fn planned_source_of(&self, head: &StreamHead) -> Option<VmId> {
        let streams = self.streams.as_ref()?;
        let state = streams.states.get(head.tag.stream as usize)?;
        (head.tag.run == streams.run).then_some(state.flow.source)
    }

    /// The same, if this process has that VM.
    pub(super) fn source_of(&self, head: &StreamHead) -> Option<VmId> {
        let source = self.planned_source_of(head)?;
        self.vm(source).map(|_| source)
    }

    /// Returns true if a frame is of a stream of this run that is for `vm`, which this run has.
    pub(super) fn is_stream_for(&self, head: &StreamHead, vm: VmId) -> bool {
        let run = self.streams.as_ref().map(|streams| streams.run);
        let is_for =
            |streams: &crate::record::Streams| streams.is_for(StreamId(head.tag.stream), vm);
        run == Some(head.tag.run) && self.recorder.streams().is_some_and(is_for)
    }

    /// Returns true if a frame is of a stream that is for one VM.
    pub(super) fn has_one_receiver(&self, head: &StreamHead) -> bool {
        let states = self.streams.as_ref().map(|streams| &streams.states);
        let state = states.and_then(|states| states.get(head.tag.stream as usize));
        state.is_some_and(|State { flow, .. }| {
            flow.receivers.len() as u64 + flow.receivers_elsewhere == 1
        })
    }

    /// The VMs that `stream` is for and that are not there. One look tells it of a stream for one VM.
    pub(super) fn absent_receivers(&self, stream: StreamId) -> Vec<VmId> {
        let streams = self.streams.as_deref();
        let flow = streams.and_then(|it| Some(&it.states.get(stream.index())?.flow));
        let (Some(streams), Some(flow)) = (streams, flow) else {
            return Vec::new();
        };
        match flow.receivers.as_slice() {
            [only] => match self.vm(*only) {
                Some(_) => Vec::new(),
                None => vec![*only],
            },
            _ => {
                let absent = streams.absent.iter().copied();
                let records = self.recorder.streams();
                let is_for = |vm: &VmId| records.is_some_and(|it| it.is_for(stream, *vm));
                absent.filter(is_for).collect()
            }
        }
    }

    /// Stamps the frame at the start of `buffer`, the one that was built last, with `at`.
    #[inline(never)]
    pub(super) fn stamp_stream(&mut self, at: Instant, buffer: &mut [u8]) {
        let built = self.streams.as_mut().and_then(|it| it.built.take());
        let Some(Built {
            stream,
            due,
            length,
            payload,
        }) = built
        else {
            return;
        };
        let frame = buffer.get_mut(..length as usize).unwrap_or_default();
        // There is room: the frame was built with it.
        let _ = stamp_stream(frame, payload as usize, at);
        let mut is_any_absent = false;
        if let Some(streams) = &mut self.streams {
            (streams.last_sent, streams.is_waiting) = (Some(at), true);
            is_any_absent = !streams.absent.is_empty();
        }
        if is_any_absent || !self.offenders.is_empty() {
            self.note_unreached_receivers(at, stream, frame);
        }
        self.push_record(Entry::StreamSent {
            stream,
            octets: length + FRAME_CHECK_SEQUENCE as u32,
            due,
            sent: at,
        });
    }

    /// Takes a frame that `vm` has read `now`, if it is one of a stream for it. Returns true if it was: the VM has nothing to answer.
    pub(super) fn take_stream(&mut self, now: &mut impl Now, vm: VmId, frame: &[u8]) -> bool {
        let Some(run) = self.streams.as_ref().map(|streams| streams.run) else {
            return false;
        };
        let slot = self.slots.get(vm.index()).and_then(Option::as_ref);
        let Some(read) = slot.and_then(|slot| slot.vm.read_stream(frame, run)) else {
            return false;
        };
        let stream = StreamId(read.frame.tag.stream);
        if !read.frame.is_sound {
            // What says whom it is for may be what is damaged.
            self.recorder.stream_corrupt(stream, vm);
            return false;
        }
        let streams = self.recorder.streams();
        let is_receiver = streams.is_some_and(|streams| streams.is_for(stream, vm));
        if !read.is_for_it || !is_receiver {
            // One for this VM alone that has another address is lost, and leaks to nobody.
            if !is_receiver || read.frame.destination_mac.is_multicast() {
                self.recorder.stream_leaked(stream);
                self.note_misled_stream(now.now(), vm, frame);
            }
            return false;
        }
        let received = now.now();
        self.push_record(Entry::StreamReceived {
            stream,
            vm,
            sequence: read.frame.tag.sequence,
            octets: (frame.len() + FRAME_CHECK_SEQUENCE) as u32,
            sent: read.frame.sent(received),
            received,
        });
        true
    }
}
