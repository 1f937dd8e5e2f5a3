//! Captures: the frames of a run as a pcapng file, each with a comment that says what it means in the run.
//!
//! [`Capture`] encodes into an [`Output`]; a [`Sink`] writes that. All VMs are in one file, with an interface for each.
//! What a frame means may become known later: whether a ping was answered. Frames with comments are therefore kept until
//! then, but no longer than a ping may take, and no more than [`MAX_KEPT`] bytes of them; they stay in the order of time.
//!
//! - [`narrated`]: whole captures with comments
//! - [`around_loss`]: the frames around failed pings only

mod around_loss;
mod file;
mod narrated;
mod pcapng;
mod pings;
mod queue;
mod words;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustc_hash::FxHashMap;

use self::around_loss::AroundLoss;
pub use self::file::Interface;
use self::file::{File, Frame};
use self::narrated::Narrated;
pub(in crate::fabric) use self::pcapng::ENHANCED_PACKET;
pub use self::pcapng::{Direction, Epoch};
use super::output::{Output, Sink};
use crate::time::Instant;
use crate::vm::{Event, VmId};
use crate::wire::MacAddr;

/// Bytes of frames that are kept at most until it is known what they mean.
pub const MAX_KEPT: usize = 64 << 20;

/// The time on top of a ping's timeout after which nothing more is heard of it: timers are late.
const GRACE: Duration = Duration::from_millis(200);

/// What is captured, and where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureConfig {
    /// The file; `-` for standard output.
    pub path: PathBuf,
    /// Each frame has a comment.
    pub has_comments: bool,
    /// Bytes that are kept of each frame at most.
    pub snap: Option<u32>,
    /// The first and the last of the VMs whose frames are captured; `None` for all.
    pub vms: Option<(VmId, VmId)>,
    /// The end of the file.
    pub limit: Option<CaptureLimit>,
    /// Only so many frames before and after each ping that was lost, late or corrupt.
    pub around_loss: Option<u32>,
}

/// The size of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaptureLimit {
    /// Bytes of a file at most.
    pub bytes: u64,
    /// Files, of which the last ones are kept. With one, the capture ends when it is full.
    pub files: u32,
}

/// The head of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// The program and its version.
    pub application: String,
    /// The operating system.
    pub system: String,
    /// The command, the seed.
    pub comment: String,
    /// The time of the clock.
    pub epoch: Epoch,
}

/// The counts of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CaptureCounts {
    /// Frames in the file, or handed to a reader.
    pub frames: u64,
    /// Frames that are not: the reader was slow or gone, the disk was full, the limit was reached.
    pub dropped: u64,
    /// Frames of pings of which it was not known what came of them when they were written.
    pub unknown: u64,
    /// Files begun.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The limit was reached.
    pub is_full: bool,
}

/// A frame on its way between a VM and the fabric.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    at: Instant,
    vm: VmId,
    direction: Direction,
    bytes: &'a [u8],
}

/// Writes the frames of a run, in one of three ways.
#[derive(Debug)]
enum Way {
    /// Each at once.
    Plain,
    /// Each when it is known what it means.
    Narrated(Box<Narrated>),
    /// Those around failed pings.
    AroundLoss(Box<AroundLoss>),
}

/// Captures the frames of a run.
#[derive(Debug)]
pub struct Capture {
    way: Way,
    file: File,
    /// Bytes that are kept of each frame.
    snap: usize,
    /// The VMs whose frames are captured.
    vms: Option<(VmId, VmId)>,
    stations: FxHashMap<MacAddr, VmId>,
}

impl Capture {
    /// Creates a capture into `sink`. `timeout` is how long a ping may take.
    pub fn new(
        config: &CaptureConfig,
        section: Section,
        timeout: Duration,
        sink: Box<dyn Sink>,
    ) -> Capture {
        let longest = timeout + GRACE;
        let way = match (config.around_loss, config.has_comments) {
            (Some(frames), has_comments) => {
                Way::AroundLoss(Box::new(AroundLoss::new(frames, has_comments, longest)))
            }
            (None, true) => Way::Narrated(Box::new(Narrated::new(longest))),
            (None, false) => Way::Plain,
        };
        Capture {
            way,
            file: File::new(config, section, sink),
            snap: config.snap.map_or(usize::MAX, |bytes| bytes as usize),
            vms: config.vms,
            stations: FxHashMap::default(),
        }
    }

    /// Adds a VM of the run, before its frames.
    pub fn add(&mut self, vm: VmId, mac: MacAddr, interface: Interface) {
        self.stations.insert(mac, vm);
        self.file.add(vm, interface);
    }

    /// Takes a frame that `vm` sent or received at `at`.
    pub fn frame(&mut self, at: Instant, vm: VmId, direction: Direction, bytes: &[u8]) {
        let is_captured = self
            .vms
            .is_none_or(|(first, last)| first <= vm && vm <= last);
        let seen = Seen {
            at,
            vm,
            direction,
            bytes,
        };
        match &mut self.way {
            Way::Narrated(narrated) => {
                narrated.release(at, &mut self.file);
                narrated.frame(&seen, is_captured.then_some(self.snap), &self.stations);
            }
            _ if !is_captured => {}
            Way::Plain => self.file.write(&Frame {
                at,
                vm,
                direction,
                bytes: bytes.get(..self.snap).unwrap_or(bytes),
                length: bytes.len() as u32,
                comment: &[],
            }),
            Way::AroundLoss(around) => around.frame(&seen, self.snap),
        }
    }

    /// Takes an event of `vm` at `now`: the frame before was the cause, or a deadline.
    pub fn event(&mut self, now: Instant, vm: VmId, event: &Event) {
        match event {
            Event::Leased { address, .. } | Event::Renewed { address, .. } => {
                self.file.add_address(vm, IpAddr::V4(*address));
            }
            Event::AddressReady { address } => self.file.add_address(vm, *address),
            _ => {}
        }
        match &mut self.way {
            Way::Plain => {}
            Way::Narrated(narrated) => narrated.event(now, vm, event),
            Way::AroundLoss(around) => around.event(vm, event),
        }
    }

    /// `vm` stopped.
    pub fn stopped(&mut self, vm: VmId) {
        if let Way::Narrated(narrated) = &mut self.way {
            narrated.stopped(vm);
        }
    }

    /// Returns the buffer, for what hands it to the sink.
    pub fn output(&mut self) -> &mut Output {
        self.file.output()
    }

    /// Writes what is to be written by `now`: to be called between two turns.
    pub fn flush(&mut self, now: Instant) {
        match &mut self.way {
            Way::Plain => {}
            Way::Narrated(narrated) => narrated.release(now, &mut self.file),
            Way::AroundLoss(around) => around.trim(now, &self.stations, &mut self.file),
        }
        if self.file.output().is_due() {
            self.file.output().flush();
        }
    }

    /// Writes all that is kept, and ends the file.
    pub fn close(&mut self) {
        match &mut self.way {
            Way::Plain => {}
            Way::Narrated(narrated) => narrated.release_all(&mut self.file),
            Way::AroundLoss(around) => around.write_all(&self.stations, &mut self.file),
        }
        self.file.close();
    }

    /// Returns the counts so far.
    pub fn counts(&mut self) -> CaptureCounts {
        let unknown = match &self.way {
            Way::Plain => 0,
            Way::Narrated(narrated) => narrated.unknown(),
            Way::AroundLoss(around) => around.unknown(),
        };
        let (dropped, files, is_full) =
            (self.file.dropped(), self.file.files(), self.file.is_full());
        let output = self.file.output();
        CaptureCounts {
            frames: output.records(),
            dropped: dropped + output.lost(),
            unknown,
            files,
            bytes: output.written(),
            is_full,
        }
    }
}

#[cfg(test)]
mod tests;
