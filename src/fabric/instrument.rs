//! Instruments: they see the frames and events of a run, and change none.
//!
//! [`Instrumented`](super::Instrumented) tells all of a run's instruments. An instrument knows no descriptor and reads no
//! clock; each call says when it happened.

use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Impaired, Interface, LinkEvent, Recording, WriteDrop};
use crate::load::{FlowId, Pacing, Target};
use crate::record::Floods;
use crate::time::{Instant, Span};
use crate::vm::{Event, PingId, RxFilter, SessionId, VmId};
use crate::wire::MacAddr;

/// The direction of a frame, seen from its VM.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the VM to the fabric.
    Out,
    /// From the fabric to the VM.
    In,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::Out, Direction::In];

    /// The word for it, as reports have it.
    pub const fn word(self) -> &'static str {
        match self {
            Direction::Out => "out",
            Direction::In => "in",
        }
    }
}

/// A frame on its way between a VM and the fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed<'a> {
    /// The VM that sends or receives it.
    pub vm: VmId,
    /// Sent or received.
    pub direction: Direction,
    /// The frame, an Ethernet frame without preamble and frame check sequence: as it was sent, or as it is received.
    pub frame: &'a [u8],
    /// What the impairments did to it. A received frame that they hold is shown when it is released, and one that they have
    /// lost or never released when they drop it: no event follows.
    pub impaired: Impaired,
    /// Why the fabric did not take a frame that was sent.
    pub refused: Option<WriteDrop>,
}

impl Observed<'_> {
    /// The place at which it is seen.
    pub(super) const fn place(&self) -> (VmId, Direction) {
        (self.vm, self.direction)
    }
}

/// Why a ping failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explained<'a> {
    /// The VM that sent it, or was to.
    pub vm: VmId,
    /// The ping.
    pub ping: PingId,
    /// When it was due.
    pub due: Instant,
    /// The name of the cause.
    pub cause: &'static str,
    /// The words for the cause.
    pub words: &'static str,
    /// The part of the ping that did not arrive: `request`, `reply` or `unknown`.
    pub direction: &'static str,
    /// Where.
    pub place: &'a str,
    /// What more is known; may be empty.
    pub reason: &'a str,
}

impl fmt::Display for Explained<'_> {
    /// Formats it as a line of a trace has it: `vm0 ping 3 failed: request dropped in the bridge, at vm1 (NO_TX_TARGET)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.ping.sequence;
        write!(f, "{} ping {sequence} failed: ", self.vm)?;
        match self.direction {
            "unknown" => {}
            direction => write!(f, "{direction} ")?,
        }
        write!(f, "{}, at {}", self.words, self.place)?;
        match self.reason {
            "" => Ok(()),
            reason => write!(f, " ({reason})"),
        }
    }
}

/// A change of the lab.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice<'a> {
    /// A VM starts; the text describes it, and is empty where there is nothing to say.
    Started(VmId, &'a str),
    /// The system refuses the start of a VM; the text says why. There will be none.
    StartRefused(VmId, &'a str),
    /// A VM stops.
    Stopped(VmId),
    /// A VM was moved.
    Moved {
        /// The VM.
        vm: VmId,
        /// Where it was.
        from: &'a str,
        /// Where it is.
        to: &'a str,
    },
    /// A VM can't be moved as planned; the text says why.
    MoveRefused(VmId, &'a str),
    /// A VM misbehaves from now on, as the words say.
    Misbehaves(VmId, &'a str),
    /// A VM that has misbehaved, as the words say, does so no longer.
    Behaves(VmId, &'a str),
    /// Another process has changed a link of the fabric.
    Link(&'a LinkEvent),
    /// It was found out why a ping failed, of whose end an event has told.
    Explained(&'a Explained<'a>),
    /// This instant was given a name.
    Marked {
        /// The name.
        name: &'a str,
        /// What the mark is about; empty if there is nothing to say.
        detail: &'a str,
    },
    /// The flows send at another pace.
    Paced(Pacing),
    /// Frames are impaired by so many rules, in place of those so far.
    Impaired(usize),
    /// Flows with these numbers were added.
    FlowsAdded(Range<u32>),
    /// These flows have ended.
    FlowsEnded(&'a [FlowId]),
    /// The run ends: no further ping is sent.
    Stopping,
}

impl fmt::Display for Notice<'_> {
    /// Formats the change as a line of a trace has it: `vm3 stops`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |count: usize, one: &'static str, many: &'static str| match count {
            1 => one,
            _ => many,
        };
        match self {
            Notice::Started(vm, "") => write!(f, "{vm} starts"),
            Notice::Started(vm, how) => write!(f, "{vm} starts: {how}"),
            Notice::StartRefused(vm, why) => write!(f, "{vm} can't start: {why}"),
            Notice::Stopped(vm) => write!(f, "{vm} stops"),
            Notice::Moved { vm, from, to } => write!(f, "{vm} moves from {from} to {to}"),
            Notice::MoveRefused(vm, why) => write!(f, "{vm} can't move: {why}"),
            Notice::Misbehaves(vm, what) => write!(f, "{vm} misbehaves: {what}"),
            Notice::Behaves(vm, what) => write!(f, "{vm} misbehaves no longer: {what}"),
            Notice::Link(event) => write!(f, "{} {}", event.link, event.change),
            Notice::Explained(found) => found.fmt(f),
            Notice::Marked { name, detail: "" } => write!(f, "mark {name}"),
            Notice::Marked { name, detail } => write!(f, "mark {name}: {detail}"),
            Notice::Paced(Pacing::Rate(rate)) => {
                write!(f, "pacing: all flows together send {rate} pings a second")
            }
            Notice::Paced(Pacing::Interval(interval)) => {
                let interval = Span::from(*interval);
                write!(f, "pacing: each flow sends a ping every {interval}")
            }
            Notice::Paced(Pacing::Window(window)) => {
                write!(f, "pacing: each flow keeps {window} outstanding")
            }
            Notice::Impaired(0) => f.write_str("impairments: none"),
            Notice::Impaired(1) => f.write_str("impairments: 1 rule"),
            Notice::Impaired(rules) => write!(f, "impairments: {rules} rules"),
            Notice::FlowsAdded(ids) => {
                let flows = FlowNumbers(ids.start, ids.len());
                write!(f, "{flows} {} added", verb(ids.len(), "is", "are"))
            }
            Notice::FlowsEnded(ids) => {
                let flows = FlowNumbers(ids.first().map_or(0, |id| id.0), ids.len());
                write!(f, "{flows} {} ended", verb(ids.len(), "has", "have"))
            }
            Notice::Stopping => f.write_str("the run ends"),
        }
    }
}

/// Displays flows by the number of the first one and how many they are.
struct FlowNumbers(u32, usize);

impl fmt::Display for FlowNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlowNumbers(_, 0) => f.write_str("no flows"),
            FlowNumbers(first, 1) => write!(f, "flow {first}"),
            FlowNumbers(first, count) => write!(f, "flow {first} and {} more", count - 1),
        }
    }
}

/// Sees the frames and events of a run.
///
/// A frame is shown when it was read from the fabric, before its VM handles it, and when it was written to the fabric. The
/// event that it causes follows it.
pub trait Instrument: fmt::Debug {
    /// A frame was sent or received at `now`.
    fn frame(&mut self, now: Instant, observed: &Observed<'_>);

    /// A frame that impairments held is dropped at `now`: its VM stops, or the run ends. One that was to be received was not
    /// shown before; one that was sent was shown when it was `sent`.
    fn unreleased(&mut self, now: Instant, sent: Option<Instant>, observed: &Observed<'_>) {
        if sent.is_none() {
            self.frame(now, observed);
        }
    }

    /// The lab runs already: what comes from `now` on is shown. It is told before all else but VMs of the plan; an instrument
    /// that is there from the set-up on is not told.
    fn begin(&mut self, now: Instant) {
        let _ = now;
    }

    /// The lab is to have `vm`, whose port and addresses are those of `interface`. It has not sent anything yet.
    fn vm(&mut self, vm: VmId, mac: MacAddr, interface: &Interface) {
        let _ = (vm, mac, interface);
    }

    /// A flow of `vm` was opened: pings of `session` to `target`.
    fn flow(&mut self, flow: FlowId, vm: VmId, session: SessionId, target: Target) {
        let _ = (flow, vm, session, target);
    }

    /// Something happened to `vm` at `now`: the frame before was the cause, or a deadline.
    fn event(&mut self, now: Instant, vm: VmId, event: &Event) {
        let _ = (now, vm, event);
    }

    /// The lab changed at `now`.
    fn notice(&mut self, now: Instant, notice: &Notice<'_>) {
        let _ = (now, notice);
    }

    /// The network interface of `vm` accepts what `rx_filter` lets through from now on.
    fn rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) {
        let _ = (vm, rx_filter);
    }

    /// Returns what was flooded so far, if it counts that.
    fn floods(&self) -> Option<Floods> {
        None
    }

    /// Writes what there is to write by `now`. The driver calls this between two turns, when no frame waits for it; with
    /// `is_idle`, when it will sleep until something happens. Returns true if that may have taken long.
    fn flush(&mut self, now: Instant, is_idle: bool) -> bool {
        let _ = (now, is_idle);
        false
    }

    /// A pipe has room again, or the reader of a stream has gone.
    fn resume(&mut self) {}

    /// Returns what was written of the run so far, if that is to be reported.
    fn so_far(&mut self) -> Option<Recording> {
        None
    }

    /// Writes the rest. Returns what was written of the run, if that is to be reported.
    fn finish(&mut self) -> Option<Recording> {
        None
    }

    /// Returns true if nobody can read what it would write any more, and no report is to tell of it.
    fn is_over(&self) -> bool {
        false
    }

    /// Returns true if a call may wait for the reader of what it writes. The driver then does not take long calls for
    /// pauses of the process.
    fn waits_for_reader(&self) -> bool {
        false
    }
}
