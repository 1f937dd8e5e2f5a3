//! What carries frames between the VMs: real TAPs on a bridge in a run, a switch in memory in a simulation.

mod link_event;

use std::io;

pub use self::link_event::{LinkEvent, LinkFate};
use crate::time::Instant;
use crate::vm::{RxFilter, VmId};

/// Carries the frames of VMs that are plugged into it. Nothing here waits.
pub trait Fabric {
    /// Why a VM could not be plugged in: names the operation and the object.
    type Error: std::error::Error;

    /// Gives `vm` a port of its own, whose network interface listens to what `rx_filter` says.
    ///
    /// # Errors
    /// When the port can't be made; nothing of it is left behind then.
    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), Self::Error>;

    /// Has the network interface of `vm` listen to what `rx_filter` says from now on.
    ///
    /// # Errors
    /// When it can't be told; it listens to what it did before.
    fn tune(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), Self::Error>;

    /// Takes the ports of `vms` away again, all at once. Those that have none are passed over.
    ///
    /// # Errors
    /// When a port can't be removed; no frame comes from it any more nevertheless.
    fn unplug(&mut self, vms: &[VmId]) -> Result<(), Self::Error>;

    /// Whether the driver's poll is told when a frame comes for `vm`, as it is from the start. Where it is told again, it
    /// is told at once of what has come meanwhile. A fabric that no poll waits for does nothing; nor does one that has no
    /// such VM.
    ///
    /// # Errors
    /// When the poll refuses.
    fn announce(&mut self, vm: VmId, announced: bool) -> io::Result<()> {
        let _ = (vm, announced);
        Ok(())
    }

    /// What became of the fabric's links by somebody else's hand since the last time, for a driver whose poll says that
    /// there is something. A fabric without links has nothing to tell.
    fn link_events(&mut self) -> Vec<LinkEvent> {
        Vec::new()
    }

    /// Takes one frame that has arrived for `vm` and puts it at the start of `buffer`.
    fn read(&mut self, vm: VmId, buffer: &mut [u8]) -> Read;

    /// Sends one frame from `vm`, an Ethernet frame without preamble and frame check sequence.
    fn write(&mut self, vm: VmId, frame: &[u8]) -> Write;

    /// Tells the time before frames are written, in virtual time ([`crate::sim`]). A fabric of the kernel's needs no telling.
    fn advance(&mut self, now: Instant) {
        let _ = now;
    }

    /// The time at which the next frame under way arrives, for a driver in virtual time: [`Instant::ZERO`] for at once,
    /// `None` if no frame is under way. A fabric whose frames a poll tells of has none.
    fn next_arrival(&self) -> Option<Instant> {
        None
    }

    /// Takes the next VM that a frame has arrived for by `now`, for a driver in virtual time, which then
    /// [reads](Fabric::read) all that has arrived for it.
    fn next_receiver(&mut self, now: Instant) -> Option<VmId> {
        let _ = now;
        None
    }

    /// Counts the frames so far that found the queue of their port full.
    ///
    /// # Errors
    /// When the counters can't be read.
    fn overflows(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }
}

/// What came of [`Fabric::read`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// A frame of that many bytes lies at the start of the buffer.
    Frame(usize),
    /// Nothing waits (`EAGAIN`).
    Empty,
    /// The port can't be read now: the interface is gone or broken (`EIO`, `EBADFD`, …).
    Failed,
}

/// What came of [`Fabric::write`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// The fabric took the frame.
    Sent,
    /// The fabric did not take the frame, which is gone, as on a network card.
    Dropped(WriteDrop),
}

/// Why a fabric did not take a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteDrop {
    /// The queue is full (`EAGAIN`, `ENOBUFS`).
    QueueFull,
    /// The interface is down (`EIO`).
    LinkDown,
    /// The kernel refused the frame for another reason.
    Refused,
}
