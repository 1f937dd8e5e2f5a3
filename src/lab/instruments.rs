//! The instruments of a run: made before its VMs exist, reported after it.

use std::net::IpAddr;

use super::{LabError, Observer};
use crate::experiment::{Experiment, IpVersion};
use crate::fabric::output::Sink;
use crate::fabric::{Epoch, Instrument, InstrumentConfig, Interface, Recording, RunInfo, WriteTo};
use crate::system::{self, PollHandle, StopSignals, SystemError, is_written_at_once, open_sink};
use crate::time::{Clock, Instant, MonotonicClock, unix_nanos};
use crate::vm::VmId;
use crate::wire::{MacAddr, link_local};

/// Makes the instruments of a plan whose set-up began at `start`, and opens what they write to. `pipes` is told of pipes;
/// without it the run is in virtual time.
///
/// # Errors
/// If a file can't be opened, or a signal comes while a reader is waited for.
pub(super) fn make(
    plan: &Experiment,
    pipes: Option<&PollHandle>,
    signals: &StopSignals,
    start: Instant,
    observer: &mut dyn Observer,
) -> Result<Vec<Box<dyn Instrument>>, SystemError> {
    let mut instruments = Vec::new();
    if plan.instruments.is_empty() {
        return Ok(instruments);
    }
    let run = run_info(plan, observer.command(), pipes.is_none(), start);
    for config in &plan.instruments {
        if let WriteTo::File(ring) = config.to()
            && config.files() > 1
            && let Some(old) = system::old_ring_file(ring)
        {
            let words = format!("{} is of an older ring of the same name", old.display());
            observer.warns(&words);
        }
        let waits = format!("waiting for a reader of {}", config.to());
        let sink = open_sink(config, pipes, signals, || observer.warns(&waits))?;
        let mut instrument = config.make(&run, sink).map_err(|error| {
            SystemError::refused(format!("switch on {}", config.kind()), error.to_string())
        })?;
        introduce(plan, instrument.as_mut());
        instruments.push(instrument);
    }
    Ok(instruments)
}

/// Makes an instrument for a lab that runs already, to write to what its options name. A file is created; there is nobody to
/// wait for.
///
/// # Errors
/// If the file can't be created, or is not one that is written without waiting for a reader.
pub(super) fn make_now(
    plan: &Experiment,
    config: &InstrumentConfig,
    run: (String, bool, Instant),
    signals: &StopSignals,
) -> Result<Box<dyn Instrument>, LabError> {
    if !matches!(config.to(), WriteTo::File(path) if is_written_at_once(path)) {
        let words = format!("{}: expected a file for a {}", config.to(), config.kind());
        return Err(LabError::Plan(words));
    }
    let sink = open_sink(config, None, signals, || {})?;
    make_for(plan, config, run, sink)
}

/// Makes an instrument for a lab that runs already, to write to `sink`.
///
/// # Errors
/// If an option can't be after all.
pub(super) fn make_for(
    plan: &Experiment,
    config: &InstrumentConfig,
    (command, is_virtual, start): (String, bool, Instant),
    sink: Box<dyn Sink>,
) -> Result<Box<dyn Instrument>, LabError> {
    let mut made = config.make(&run_info(plan, command, is_virtual, start), sink)?;
    introduce(plan, made.as_mut());
    Ok(made)
}

/// Tells an instrument of the VMs of the plan.
fn introduce(plan: &Experiment, instrument: &mut dyn Instrument) {
    for (number, vm) in (0..).zip(&plan.vms) {
        let id = VmId(number);
        instrument.vm(id, vm.mac, &interface(plan, id, vm.mac));
    }
}

fn run_info(plan: &Experiment, command: String, is_virtual: bool, start: Instant) -> RunInfo {
    let kernel = (!is_virtual).then(system::kernel_release).flatten();
    let zero = || unix_nanos().map(|now| now.saturating_sub(MonotonicClock.now().as_nanos()));
    RunInfo {
        command,
        system: kernel.unwrap_or_default(),
        seed: plan.seed,
        start,
        epoch: match is_virtual {
            true => Epoch::default(),
            false => Epoch {
                nanos_at_zero: zero().unwrap_or(0),
            },
        },
        timeout: plan.timeout,
    }
}

/// The interface of a VM of the plan.
pub(super) fn interface(plan: &Experiment, vm: VmId, mac: MacAddr) -> Interface {
    let versions = [IpVersion::V4, IpVersion::V6];
    let planned = versions
        .into_iter()
        .filter_map(|version| plan.address(vm, version));
    let has_ipv6 = plan.vm_defaults.ipv6.is_some();
    let own = has_ipv6.then(|| IpAddr::V6(link_local(mac)));
    Interface {
        name: plan.lab.port_name(vm),
        addresses: planned
            .chain(own)
            .filter(|address| !address.is_unspecified())
            .collect(),
    }
}

/// Why recordings are not what was asked for, one sentence each.
pub(super) fn shortcomings(recordings: &[Recording]) -> impl Iterator<Item = String> {
    let failed = recordings.iter().filter(|one| one.has_failed).map(|one| {
        let why = one.ended.as_deref().unwrap_or("it could not be written");
        format!(
            "the {} {} is not complete: {why}; {}s not in it: {}",
            one.kind, one.file, one.kind.record, one.dropped
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
