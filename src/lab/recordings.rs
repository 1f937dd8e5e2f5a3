//! The files that a run is recorded in: opened before its VMs exist, reported after it.

use std::net::IpAddr;
use std::path::Path;

use super::Observer;
use crate::experiment::{Experiment, IpVersion};
use crate::fabric::capture::{Capture, CaptureConfig, Epoch, Interface, Section};
use crate::fabric::{EventLog, Instrument, Recording, RecordingKind};
use crate::system::{self, PollHandle, StopSignals, SystemError, open_sink};
use crate::time::{Clock, Instant, MonotonicClock, unix_nanos};
use crate::vm::VmId;
use crate::wire::link_local;

/// Opens the files that a plan is to be recorded in: its capture, and its trace with times relative to `start`. `pipes` is
/// the poll's handle of pipes; without it the run is in virtual time.
///
/// # Errors
/// If a file can't be opened, or a signal comes while a reader is waited for.
pub(super) fn open(
    plan: &Experiment,
    pipes: Option<&PollHandle>,
    signals: &StopSignals,
    start: Instant,
    observer: &mut dyn Observer,
) -> Result<Vec<Box<dyn Instrument>>, SystemError> {
    let command = observer.command();
    if let Some(ring) = plan.capture.as_ref().filter(|capture| capture.is_ring())
        && let Some(old) = system::old_ring_file(&ring.path)
    {
        let words = format!("{} is of an older ring of the same name", old.display());
        observer.warns(&words);
    }
    let mut open = |kind: RecordingKind, path: &Path, files| {
        let waits = format!("waiting for a reader of {}", path.display());
        let file = (kind, path, files);
        open_sink(file, pipes, signals, || observer.warns(&waits))
    };
    let mut instruments: Vec<Box<dyn Instrument>> = Vec::new();
    if let Some(config) = &plan.capture {
        let files = config.limit.map_or(1, |limit| limit.files);
        let sink = open(RecordingKind::Capture, &config.path, files)?;
        let section = section(plan, &command, pipes.is_none());
        let mut capture = Capture::new(config, section, plan.timeout, sink);
        add_vms(plan, config, &mut capture);
        instruments.push(Box::new(capture));
    }
    if let Some(path) = &plan.trace {
        let sink = open(RecordingKind::Trace, path, 1)?;
        let log = EventLog::new(path.display().to_string(), sink, start);
        instruments.push(Box::new(log));
    }
    Ok(instruments)
}

fn section(plan: &Experiment, command: &str, is_virtual: bool) -> Section {
    let system = match is_virtual {
        true => String::new(),
        false => system::machine().map_or(String::new(), |machine| machine.kernel),
    };
    let seed = plan.seed;
    Section {
        application: concat!("tap-reactor ", env!("CARGO_PKG_VERSION")).to_owned(),
        system,
        comment: format!("{command}\nseed {seed}"),
        epoch: match is_virtual {
            true => Epoch::default(),
            false => Epoch {
                nanos_at_zero: unix_nanos()
                    .unwrap_or(0)
                    .saturating_sub(MonotonicClock.now().as_nanos()),
            },
        },
    }
}

fn add_vms(plan: &Experiment, config: &CaptureConfig, capture: &mut Capture) {
    for (index, vm_plan) in plan.vms.iter().enumerate() {
        let vm = VmId(index as u32);
        let versions = [IpVersion::V4, IpVersion::V6];
        let planned = versions
            .into_iter()
            .filter_map(|version| plan.address(vm, version));
        let own = plan
            .vm_defaults
            .ipv6
            .map(|_| IpAddr::V6(link_local(vm_plan.mac)));
        let is_known = |address: &IpAddr| !address.is_unspecified();
        let interface = config.captures(vm).then(|| Interface {
            name: format!("{}{index}", plan.lab.tap_prefix),
            addresses: planned.chain(own).filter(is_known).collect(),
        });
        capture.add(vm, vm_plan.mac, interface);
    }
}

/// Why recordings are not what was asked for, one sentence each.
pub(super) fn shortcomings(recordings: &[Recording]) -> impl Iterator<Item = String> {
    let failed = recordings.iter().filter(|one| one.has_failed).map(|one| {
        let why = one.ended.as_deref().unwrap_or("it could not be written");
        format!(
            "the {} {} is not complete: {why}; {}s not in it: {}",
            one.kind,
            one.file,
            one.kind.record(),
            one.dropped
        )
    });
    let missed = recordings.iter().filter(|one| one.missed > 0).map(|one| {
        format!(
            "the {} {} lacks failed pings whose frames were in memory no more, in which --capture-snap makes room: {}",
            one.kind, one.file, one.missed
        )
    });
    failed.chain(missed)
}
