//! Frames that the kernel dropped on their way from VM to VM, as it tells of them itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::time::Instant;
use crate::vm::VmId;

/// So many bytes of a dropped frame are kept: headers of every kind, and where an echo message has its identifier and
/// sequence number.
pub const DROPPED_BYTES: usize = 96;

/// A frame that was dropped. Of the copies of a flooded frame that are dropped for the same reason at one port after the other,
/// the first one stands for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameDrop {
    /// The time of the drop, of the run's clock.
    pub at: Instant,
    /// The place.
    pub place: DropPlace,
    /// The reason by the kernel's own name, without `SKB_DROP_REASON_`: `FULL_RING`, `NOT_SPECIFIED`. The switch in memory has
    /// the same words, and `ENETDOWN` of a link that is down.
    pub reason: KernelName,
    /// The kernel's function that dropped it, such as `tun_net_xmit`; empty if the kernel does not tell.
    pub function: KernelName,
    /// The first bytes of the frame, with the VLAN tag that the kernel has taken off it, or a bridge has put it in.
    pub frame: FrameHead,
}

/// The device at which a frame was dropped. The kernel means the frame's port of origin while a bridge receives it (functions
/// `br_handle_frame…`), and its port of destination from then on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DropPlace {
    /// The port of this VM.
    Port(VmId),
    /// A device that is no VM's port, such as `br0` or a link between two bridges.
    Link(KernelName),
    /// No device was named, or one that is not there any more.
    Nowhere,
}

impl fmt::Display for DropPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DropPlace::Port(vm) => vm.fmt(f),
            DropPlace::Link(name) => name.fmt(f),
            DropPlace::Nowhere => f.write_str("no device"),
        }
    }
}

/// The drops since the last call of [`Fabric::frame_drops`](super::Fabric::frame_drops).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FrameDrops {
    /// Those that are known one by one, in the order in which they happened.
    pub drops: Vec<FrameDrop>,
    /// The number of further ones for which there was no room.
    pub missed: u64,
}

/// A name of the kernel's: of a device, a function or a reason. What is longer than 47 bytes is cut off.
///
/// The same name is kept once, for as long as the process runs, so that many drops of the same kind cost no more than one. The
/// first 16,384 are kept; any other is `…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelName(&'static &'static str);

/// Names that are kept.
const MOST_NAMES: usize = 1 << 14;

static NAMES: Mutex<BTreeMap<&'static str, KernelName>> = Mutex::new(BTreeMap::new());

impl KernelName {
    const MOST: usize = 47;
    /// No name.
    pub const EMPTY: KernelName = KernelName(&"");

    /// Keeps `name`.
    pub fn new(name: &str) -> KernelName {
        let name = name
            .get(..name.floor_char_boundary(KernelName::MOST))
            .unwrap_or_default();
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = names.get(name) {
            return *kept;
        }
        if names.len() >= MOST_NAMES {
            return KernelName(&"…");
        }
        let text: &'static str = Box::leak(name.into());
        let kept = KernelName(Box::leak(Box::new(text)));
        names.insert(text, kept);
        kept
    }

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The first bytes of an Ethernet frame without preamble, at most [`DROPPED_BYTES`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    length: u8,
    bytes: [u8; DROPPED_BYTES],
}

impl FrameHead {
    /// That of a frame of which the kernel shows nothing.
    pub const NONE: FrameHead = FrameHead {
        length: 0,
        bytes: [0; DROPPED_BYTES],
    };

    /// Keeps the first bytes of `frame`.
    pub fn new(frame: &[u8]) -> FrameHead {
        let mut head = FrameHead::NONE;
        for (byte, of_frame) in head.bytes.iter_mut().zip(frame) {
            *byte = *of_frame;
        }
        head.length = frame.len().min(DROPPED_BYTES) as u8;
        head
    }

    /// Returns the bytes, from the Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }
}

impl fmt::Debug for FrameHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameHead").field(&self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_frames_are_kept_up_to_a_length() {
        let long = "x".repeat(46) + "ä";
        for (name, kept) in [("", ""), ("br0", "br0"), (&long, &long[..46])] {
            assert_eq!(KernelName::new(name).as_str(), kept);
            let other = name.to_owned();
            let again = KernelName::new(&other);
            assert!(std::ptr::eq(KernelName::new(name).as_str(), again.as_str()));
        }
        for length in [0, 1, 95, 96, 97, 9_000] {
            let frame: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let head = FrameHead::new(&frame);
            assert_eq!(head.bytes(), &frame[..length.min(DROPPED_BYTES)]);
        }
    }
}
