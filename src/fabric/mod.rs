//! Fabrics, which carry frames between the VMs: real TAPs on a bridge in a run, a switch in memory in a simulation.
//!
//! A [`Fabric`] is all that a run needs of them, so that every run is driven alike. What looks at frames on their way is an
//! [`Instrument`]; a run has one wrapper for all of them, [`Instrumented`], and [`INSTRUMENTS`] lists their kinds.

mod capture;
mod environment;
mod event_log;
mod event_words;
mod floods;
mod fragments;
mod frame_drop;
mod impair;
mod instrument;
mod instrument_kind;
mod instrumented;
mod link_event;
mod misbehave;
pub mod output;
mod path_split;
mod path_stamps;
mod path_state;
mod ping_numbers;
mod recording;
mod relocation;
mod relocation_watch;
mod route_event;
mod rx_index;
mod trace;

use std::fmt;
use std::io;
use std::time::Duration;

pub use self::capture::{Epoch, Interface};
pub use self::environment::Environment;
pub use self::event_words::EventWords;
pub use self::frame_drop::{
    DROPPED_BYTES, DropPlace, FrameDrop, FrameDrops, FrameHead, KernelName,
};
pub use self::impair::{
    Delay, Distribution, Harm, Impaired, ImpairedPing, ImpairedStream, Impairment, ImpairmentCount,
    Loss, MAX_HELD_BYTES, Profile, Rate, Released, Rule,
};
pub use self::instrument::{Direction, Explained, Instrument, Notice, Observed};
pub use self::instrument_kind::{
    InstrumentConfig, InstrumentKind, Make, OptionError, RunInfo, WriteTo,
};
pub use self::instrumented::Instrumented;
pub use self::link_event::{LinkEvent, LinkFate};
pub use self::misbehave::{
    MAX_MISBEHAVING, MAX_MISBEHAVIOURS, MisbehaviourRecord, check_copies_of,
};
pub use self::output::Form;
pub use self::path_split::{MAX_SPLIT_PINGS, SplitPings};
pub use self::path_stamps::{PATH_SLOTS, PathKey, PathStamps};
pub use self::path_state::{Between, BridgeState, PathState, PortCounters, PortState, StpState};
pub use self::recording::Recording;
pub use self::relocation::{
    EndedRelocation, FdbChange, FdbEvent, NoPlace, PLACES, Place, Relocated, RelocationError,
};
pub use self::relocation_watch::Sightings;
pub use self::route_event::RouteEvent;
pub(crate) use self::rx_index::RxIndex;
use crate::time::{Instant, Now};
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

/// The instruments that a run can have. A new one is a file, an [option](crate::experiment::options) of its name, and a row.
pub const INSTRUMENTS: &[&InstrumentKind] = &[
    // Frames, as pcapng.
    &capture::CAPTURE,
    // Copies of frames that are flooded, in the report.
    &floods::COUNT_FLOODS,
    // Events, as lines of JSON.
    &event_log::TRACE,
    // Frames and events, as lines for a person.
    &trace::VERBOSE,
];

/// Carries the frames of the VMs that are plugged into it. No method blocks.
pub trait Fabric {
    /// The error of a failed operation; it names the operation and the object.
    type Error: std::error::Error;

    /// Creates a port for `vm`, whose network interface accepts the frames that `rx_filter` lets through.
    ///
    /// # Errors
    /// If the port can't be created; nothing of it is left behind then.
    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), Self::Error>;

    /// Creates ports for `vms` as [`plug`](Fabric::plug) does for one, where a fabric can do that faster together.
    ///
    /// # Errors
    /// If a port can't be created; nothing of any of them is left behind then.
    fn plug_all(&mut self, vms: &[(VmId, &RxFilter)]) -> Result<(), Self::Error> {
        for (place, (vm, rx_filter)) in vms.iter().enumerate() {
            if let Err(error) = self.plug(*vm, rx_filter) {
                let plugged = vms.iter().take(place).map(|(vm, _)| *vm);
                // The first error is the one to tell.
                let _ = self.unplug(&plugged.collect::<Vec<_>>());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sets the receive filter of `vm`'s network interface.
    ///
    /// # Errors
    /// If the filter can't be set; the previous one stays in force.
    fn set_rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), Self::Error>;

    /// Removes the ports of `vms`, all at once. VMs without a port are ignored.
    ///
    /// # Errors
    /// If a port can't be removed; it delivers no further frame nevertheless.
    fn unplug(&mut self, vms: &[VmId]) -> Result<(), Self::Error>;

    /// Sets the link of `vm` up or down, as its cable would be plugged in or pulled. Other processes see it.
    ///
    /// # Errors
    /// If the link can't be changed, or somebody has deleted it.
    fn set_link(&mut self, vm: VmId, up: bool) -> Result<(), Self::Error> {
        let _ = (vm, up);
        Ok(())
    }

    /// Tells who else may be on the network, so that no VM may misbehave in it; `None` if it is the run's alone.
    fn shared_with(&self) -> Option<String> {
        None
    }

    /// Sets the interest of the driver's poll in frames for `vm`: with `polled` (the state of a new port), the poll
    /// reports the port readable when a frame arrives. Switched on again, it reports frames that arrived meanwhile at
    /// once. Does nothing in a fabric that is not polled, or for a VM without a port.
    ///
    /// # Errors
    /// If the poll refuses.
    fn set_polled(&mut self, vm: VmId, polled: bool) -> io::Result<()> {
        let _ = (vm, polled);
        Ok(())
    }

    /// Starts to watch what other processes do to the fabric's links. Returns false for a fabric without links.
    fn watch_links(&mut self) -> bool {
        false
    }

    /// Returns the changes that other processes made to the fabric's links since the last call. The driver calls this when
    /// its poll reports such a change.
    fn link_events(&mut self) -> Vec<LinkEvent> {
        Vec::new()
    }

    /// Starts to watch what becomes of the routes in the fabric's namespace, if it has one.
    fn watch_routes(&mut self) {}

    /// Returns the changes of routes since the last call, those that the kernel made by itself left out. The driver calls this
    /// as it does [`Fabric::link_events`].
    fn route_events(&mut self) -> Vec<RouteEvent> {
        Vec::new()
    }

    /// Makes ready what a move of `vm` to a place needs and is not there yet, which may take long.
    ///
    /// # Errors
    /// What speaks against the move, as far as that can be said before, and what is expected: without a change. Or if the system
    /// refuses an operation.
    fn prepare_place(&mut self, vm: VmId, to: &Place) -> Result<(), RelocationError<Self::Error>> {
        let _ = (vm, to);
        let why = "this fabric moves no VMs; expected --fabric bridge or sim";
        Err(RelocationError::Unfit(why.to_owned()))
    }

    /// Moves the port of `vm`, whose network interface is to accept what `rx_filter` lets through, to another place at `now`, or
    /// begins to. A simulation takes `outage` for it, in which the port carries nothing; a real fabric takes the time that it
    /// takes. Until that is over, the port is neither moved again nor removed.
    ///
    /// # Errors
    /// If this can't be, without a change; or if the system refuses an operation.
    fn relocate(
        &mut self,
        now: Instant,
        vm: VmId,
        to: &Place,
        rx_filter: &RxFilter,
        outage: Duration,
    ) -> Result<Relocated, RelocationError<Self::Error>> {
        let _ = (now, rx_filter, outage);
        self.prepare_place(vm, to)?;
        let why = format!("this fabric moves no VM to {to}");
        Err(RelocationError::Unfit(why))
    }

    /// Returns the VMs whose moves went on and have ended since the last call, each with the time at which its link was ready, or
    /// with what the system refused. With `waits` the ends of all of them are waited for, which takes as long as the system does.
    /// The driver calls this when its poll reports the end of a move.
    fn ended_relocations(&mut self, waits: bool) -> Vec<EndedRelocation<Self::Error>> {
        let _ = waits;
        Vec::new()
    }

    /// Returns what bridges have learned of VMs that were moved since the last call. The driver calls this as it does
    /// [`Fabric::link_events`].
    fn fdb_events(&mut self, now: Instant) -> Vec<FdbEvent> {
        let _ = now;
        Vec::new()
    }

    /// The present time, after an operation that has begun at `now` and may have taken long: `now` in virtual time.
    fn time_after(&self, now: Instant) -> Instant {
        now
    }

    /// Starts to watch which frames the kernel drops, and why. Returns false for a fabric whose frames no kernel carries.
    ///
    /// # Errors
    /// If the kernel does not tell this process; the error says what is missing.
    fn watch_drops(&mut self) -> Result<bool, Self::Error> {
        Ok(false)
    }

    /// Returns the drops since the last call. A frame that is dropped within [`Fabric::write`] is among them once that has
    /// returned. The driver calls this when its poll reports drops; to be called, too, before a ping is given up as lost.
    fn frame_drops(&mut self) -> FrameDrops {
        FrameDrops::default()
    }

    /// Has the kernel stamp the frames of pings on their way from now on, or no longer.
    ///
    /// # Errors
    /// If the kernel does not; the error says what is missing.
    fn stamp_path(&mut self, stamps: bool) -> Result<(), Self::Error> {
        let _ = stamps;
        Ok(())
    }

    /// Returns the stamps of the request and of the reply of a ping, of each if the kernel has made all of them.
    fn path_stamps(&mut self, ping: PathKey) -> [Option<PathStamps>; 2] {
        let _ = ping;
        [None, None]
    }

    /// Returns true if a filter drops what is not for a VM before the VM can read it, and nobody tells of that.
    fn has_filter(&self) -> bool {
        false
    }

    /// Returns what the kernel counts at the ports of all VMs, in the order of the VMs: nothing in a fabric without a kernel.
    ///
    /// # Errors
    /// If the kernel does not tell.
    fn port_counters(&mut self) -> Result<Vec<(VmId, PortCounters)>, Self::Error> {
        Ok(Vec::new())
    }

    /// Returns what stands between `source` and the hardware address `destination`, which is that of VM `owner`, if it is
    /// one's. `None` in a fabric without a kernel, and where it is not known.
    ///
    /// # Errors
    /// If the kernel does not tell.
    fn path_state(
        &mut self,
        source: VmId,
        destination: MacAddr,
        owner: Option<VmId>,
    ) -> Result<Option<PathState>, Self::Error> {
        let _ = (source, destination, owner);
        Ok(None)
    }

    /// Reads one frame that has arrived for `vm` into the start of `buffer`. The time is that of the reading; a fabric that
    /// needs it asks for it after the frame was read.
    fn read(&mut self, now: impl Now, vm: VmId, buffer: &mut [u8]) -> Read;

    /// Sends one frame from `vm` at `now`, an Ethernet frame without preamble and frame check sequence.
    fn write(&mut self, now: impl Now, vm: VmId, frame: &[u8]) -> Write;

    /// The time of the next frame that is on its way within this process: [`Instant::ZERO`] for at once, `None` if there is
    /// none. The driver then calls [`Fabric::next_receiver`]. Frames on a fabric of the kernel are reported by the poll
    /// instead.
    fn next_at(&self) -> Option<Instant> {
        None
    }

    /// Takes the next VM for which a frame within this process has arrived by `now`. The driver then
    /// [reads](Fabric::read) all that has arrived for that VM.
    fn next_receiver(&mut self, now: Instant) -> Option<VmId> {
        let _ = now;
        None
    }

    /// The number of frames so far that found the queue of their port full. To be called at the end of a run.
    ///
    /// # Errors
    /// If the counters can't be read.
    fn drops(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }

    /// Describes the fabric, for the report.
    fn environment(&self) -> Environment;

    /// Failures so far that do not end the run, for its user.
    fn warnings(&self) -> &[Self::Error] {
        &[]
    }

    /// The time from when a port is created until it carries frames.
    fn forwards_after(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns true if something of the fabric stays when the process is killed before [`Fabric::close`].
    fn outlives_process(&self) -> bool {
        false
    }

    /// Removes what the fabric has created.
    ///
    /// # Errors
    /// If something is left behind; the rest is removed nevertheless.
    fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The result of [`Fabric::read`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// A frame of this length, in bytes, is at the start of the buffer.
    Frame(usize),
    /// A frame of this length was read, and is not for the VM now: an impairment holds it, or has lost it. Others may be
    /// queued behind it.
    Consumed(usize),
    /// No frame is queued (`EAGAIN`).
    Empty,
    /// The port can't be read: the interface was deleted or is broken (`EIO`, `EBADFD`, …).
    Failed,
}

/// The result of [`Fabric::write`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// The fabric took the frame.
    Sent,
    /// The fabric did not accept the frame. It is lost; there is no retry, as on a network card.
    Dropped(WriteDrop),
}

/// The reason why a fabric did not accept a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WriteDrop {
    /// The queue is full (`EAGAIN`, `ENOBUFS`).
    QueueFull,
    /// The interface is down (`EIO`).
    LinkDown,
    /// The kernel refused the frame for another reason.
    Refused,
}

impl fmt::Display for WriteDrop {
    /// Formats it as a clause: `the interface is down`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteDrop::QueueFull => "the queue is full",
            WriteDrop::LinkDown => "the interface is down",
            WriteDrop::Refused => "the kernel refused it",
        })
    }
}
