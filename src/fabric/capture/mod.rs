//! Captures: the frames of a run as a pcapng file, each with a comment that says what it means in the run.
//!
//! [`Capture`] encodes into an [`Output`](super::output::Output), which a [`Sink`] writes. All VMs are in one file, with an
//! interface for each. What a frame means may become known later: whether a ping was answered. Frames with comments are
//! therefore kept until then, but no longer than a ping may take, and no more than [`MAX_KEPT`] bytes of them; they stay in
//! the order of time.
//!
//! - `narrated`: whole captures with comments
//! - `around_loss`: the frames around failed pings only

mod around_loss;
mod config;
mod file;
mod hidden;
mod narrated;
mod pcapng;
mod pings;
mod queue;
mod words;

use std::time::Duration;

use rustc_hash::FxHashMap;

use self::around_loss::AroundLoss;
use self::config::CaptureConfig;
pub use self::file::Interface;
use self::file::{File, Frame};
use self::narrated::Narrated;
pub(in crate::fabric) use self::pcapng::ENHANCED_PACKET;
pub use self::pcapng::Epoch;
use super::output::{Form, Sink};
use super::{
    Instrument, InstrumentConfig, InstrumentKind, Notice, Observed, OptionError, Recording, RunInfo,
};
use crate::load::{FlowId, Target};
use crate::time::Instant;
use crate::vm::{Event, SessionId, VmId};
use crate::wire::MacAddr;

/// The instrument of `--capture`.
pub(super) const CAPTURE: InstrumentKind = InstrumentKind {
    form: Form::Pcapng,
    check: |config| {
        let limit = CaptureConfig::read(config)?.limit;
        Ok(limit.map_or(1, |limit| limit.files))
    },
    ..InstrumentKind::new("capture", "frame", make)
};

/// Makes the capture of a run.
fn make(
    config: &InstrumentConfig,
    run: &RunInfo,
    sink: Box<dyn Sink>,
) -> Result<Box<dyn Instrument>, OptionError> {
    let config = CaptureConfig::read(config)?;
    let section = Section {
        application: concat!("tap-reactor ", env!("CARGO_PKG_VERSION")).to_owned(),
        system: run.system.clone(),
        comment: format!("{}\nseed {}", run.command, run.seed),
        epoch: run.epoch,
    };
    Ok(Box::new(Capture::new(&config, section, run.timeout, sink)))
}

/// Bytes of frames that are kept at most until it is known what they mean.
const MAX_KEPT: usize = 64 << 20;

/// The time on top of a ping's timeout after which nothing more is heard of it: timers are late.
const GRACE: Duration = Duration::from_millis(200);

/// The time at which nothing is on its way any more.
const END: Instant = Instant::from_nanos(u64::MAX);

/// The reason why a capture with a limit ended.
const LIMIT_REACHED: &str = "the limit of the file was reached";

/// The head of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Section {
    /// The program and its version.
    pub application: String,
    /// The operating system.
    pub system: String,
    /// The command, the seed.
    pub comment: String,
    /// The time of the clock.
    pub epoch: Epoch,
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
struct Capture {
    way: Way,
    file: File,
    /// Bytes that are kept of each frame.
    snap: usize,
    stations: FxHashMap<MacAddr, VmId>,
    config: CaptureConfig,
}

impl Capture {
    /// Creates a capture into `sink`. `timeout` is how long a ping may take.
    fn new(
        config: &CaptureConfig,
        section: Section,
        timeout: Duration,
        sink: Box<dyn Sink>,
    ) -> Capture {
        let longest = timeout + GRACE;
        let snap = config.snap.map_or(usize::MAX, |bytes| bytes as usize);
        let way = match (config.around_loss, config.has_comments) {
            (Some(frames), has_comments) => Way::AroundLoss(Box::new(AroundLoss::new(
                frames,
                has_comments,
                snap,
                longest,
            ))),
            (None, true) => Way::Narrated(Box::new(Narrated::new(longest))),
            (None, false) => Way::Plain,
        };
        Capture {
            way,
            file: File::new(config, section, sink),
            snap,
            stations: FxHashMap::default(),
            config: config.clone(),
        }
    }

    /// What was written so far.
    fn recording(&mut self) -> Recording {
        let (unknown, missed) = match &self.way {
            Way::Plain => (0, 0),
            Way::Narrated(narrated) => (narrated.unknown(), 0),
            Way::AroundLoss(around) => (around.unknown(), around.missed()),
        };
        let (dropped, files) = (self.file.dropped(), self.file.files());
        let limit = self.file.is_full().then(|| LIMIT_REACHED.to_owned());
        let recording = self.file.output().recording();
        Recording {
            dropped: recording.dropped + dropped,
            unknown,
            missed,
            files,
            ended: recording.ended.or(limit),
            ..recording
        }
    }
}

impl Instrument for Capture {
    fn frame(&mut self, now: Instant, observed: &Observed<'_>) {
        let is_captured = self.file.has(observed.vm);
        match &mut self.way {
            Way::Narrated(narrated) => {
                narrated.release(now, &mut self.file);
                let snap = is_captured.then_some(self.snap);
                narrated.frame(now, observed, snap, &self.stations);
            }
            Way::AroundLoss(around) if !is_captured => around.hidden_frame(now, observed),
            Way::Plain if !is_captured => {}
            Way::Plain => self.file.write(&Frame {
                at: now,
                vm: observed.vm,
                direction: observed.direction,
                bytes: observed.frame.get(..self.snap).unwrap_or(observed.frame),
                length: observed.frame.len() as u32,
                comment: &[],
            }),
            Way::AroundLoss(around) => around.frame(now, observed),
        }
    }

    fn unreleased(&mut self, now: Instant, sent: Option<Instant>, observed: &Observed<'_>) {
        match (sent, &mut self.way) {
            (None, _) => self.frame(now, observed),
            (Some(_), Way::Plain) => {}
            (Some(sent), Way::Narrated(narrated)) => narrated.unreleased(sent, observed),
            (Some(sent), Way::AroundLoss(around)) => around.unreleased(sent, observed),
        }
    }

    fn begin(&mut self, now: Instant) {
        if let Way::AroundLoss(around) = &mut self.way {
            around.begin(now);
        }
    }

    fn vm(&mut self, vm: VmId, mac: MacAddr, interface: &Interface) {
        self.stations.insert(mac, vm);
        if self.config.captures(vm) {
            self.file.add(vm, interface.clone());
        }
    }

    fn flow(&mut self, _: FlowId, vm: VmId, session: SessionId, target: Target) {
        if let Way::Narrated(narrated) = &mut self.way {
            narrated.flow(vm, session, target);
        }
    }

    fn event(&mut self, now: Instant, vm: VmId, event: &Event) {
        match event {
            Event::Leased { address, .. } | Event::Renewed { address, .. } => {
                self.file.add_address(vm, *address);
            }
            Event::AddressReady { address } => self.file.add_address(vm, *address),
            _ => {}
        }
        match &mut self.way {
            Way::Plain => {}
            Way::Narrated(narrated) => narrated.event(now, vm, event),
            Way::AroundLoss(around) => around.event(now, vm, self.file.has(vm), event),
        }
    }

    fn notice(&mut self, now: Instant, notice: &Notice<'_>) {
        // Of VMs and links other comments and the interfaces tell.
        if let Notice::Explained(found) = notice {
            return match &mut self.way {
                Way::Plain => {}
                Way::Narrated(narrated) => narrated.explained(found),
                Way::AroundLoss(around) => around.explained(found),
            };
        }
        let is_told = !matches!(notice, Notice::Started(..) | Notice::Stopped(_));
        let has_comments = match &self.way {
            Way::Plain => false,
            Way::Narrated(_) => true,
            Way::AroundLoss(around) => around.has_comments(),
        };
        if is_told && has_comments {
            self.file.tell(now, &notice.to_string());
        }
        if let (Way::Narrated(narrated), Notice::Stopped(vm)) = (&mut self.way, notice) {
            narrated.stopped(*vm);
        }
    }

    fn flush(&mut self, now: Instant, is_idle: bool) -> bool {
        match &mut self.way {
            Way::Plain => {}
            Way::Narrated(narrated) => narrated.release(now, &mut self.file),
            Way::AroundLoss(around) => around.trim(now, &self.stations, &mut self.file),
        }
        self.file.output().flush_if_due(now, is_idle)
    }

    fn resume(&mut self) {
        self.file.output().resume();
    }

    fn so_far(&mut self) -> Option<Recording> {
        let is_named = self.file.output().is_named();
        is_named.then(|| self.recording())
    }

    fn finish(&mut self) -> Option<Recording> {
        self.file.output().end();
        match &mut self.way {
            Way::Plain => {}
            Way::Narrated(narrated) => narrated.release_all(&mut self.file),
            Way::AroundLoss(around) => around.write_all(&self.stations, &mut self.file),
        }
        self.file.close();
        self.so_far()
    }

    fn is_over(&self) -> bool {
        self.file.is_over()
    }
}

#[cfg(test)]
mod tests;
