//! The choice of the fabric, and the options that it excludes.

use super::{Setting, SettingError, Settings};
use crate::experiment::options::{OPTIONS, any_of};
use crate::experiment::scenario::Scenario;
use crate::sim::{Impairments, Simulation};
use crate::system::FabricKind;
use crate::topology::Topology;

/// The time that a reordered frame is held back, in wire delays: long enough for others to pass it.
const REORDER_DELAYS: u32 = 3;

/// The fabric that carries the frames.
pub(super) enum Fabric {
    /// TAPs of the kernel, and what joins them.
    Taps(FabricKind),
    /// A switch in memory.
    Simulated(Simulation),
}

/// Reads the choice of the fabric, and refuses settings that it does not have.
pub(super) fn fabric(scenario: &Scenario) -> Result<Fabric, SettingError> {
    let settings = &scenario.settings;
    let name = settings.or_default("fabric").choice()?;
    for option in OPTIONS.iter().filter(|option| !option.works_with(name)) {
        let mut everywhere = [settings].into_iter().chain(&scenario.phases);
        let setting = everywhere.find_map(|settings| settings.get(option.name));
        if let Some(setting) = setting.filter(|setting| !setting.is_off()) {
            let fabrics = any_of(option.fabrics);
            let why = format_args!("needs --fabric {fabrics}, and the fabric is {name}");
            return Err(setting.error(why));
        }
    }
    Ok(match name {
        "xdp" => Fabric::Taps(FabricKind::Xdp),
        "none" => Fabric::Taps(FabricKind::None),
        "sim" => Fabric::Simulated(simulation(settings)?),
        _ => Fabric::Taps(FabricKind::Bridge),
    })
}

fn simulation(settings: &Settings) -> Result<Simulation, SettingError> {
    let time = |name| settings.or_default(name).duration_or_none();
    let share = |name| share(&settings.or_default(name));
    let delay = time("sim-delay")?;
    let impairments = Impairments {
        delay,
        jitter: time("sim-jitter")?,
        loss: share("sim-loss")?,
        duplicate: share("sim-duplicate")?,
        reorder: share("sim-reorder")?,
        reorder_delay: delay.saturating_mul(REORDER_DELAYS),
    };
    Ok(Simulation {
        impairments,
        queue_length: frames(settings, "sim-queue")?,
    })
}

/// A share as people write it, `1%` or `0.01`.
fn share(setting: &Setting) -> Result<f64, SettingError> {
    let (digits, unit) = match setting.text.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (setting.text.as_str(), 1.0),
    };
    match digits.trim().parse::<f64>() {
        Ok(number) if (0.0..=unit).contains(&number) => Ok(number / unit),
        _ => Err(setting.error("expected a share from 0% to 100%, such as 0.5%")),
    }
}

/// A bound of a queue.
pub(super) fn frames(settings: &Settings, name: &str) -> Result<Option<u32>, SettingError> {
    let expected = "a number of frames, 1 or more";
    let Some(setting) = settings.get(name) else {
        return Ok(None);
    };
    match setting.number(expected)? {
        0 => Err(setting.error(format_args!("expected {expected}"))),
        frames => Ok(Some(frames)),
    }
}

/// The number of `vms` on one bridge.
pub(super) fn ports_per_bridge(settings: &Settings, vms: u32) -> Result<u32, SettingError> {
    let setting = settings.or_default("ports-per-bridge");
    let ports = setting.number("a number of VMs, 1 to 1023")?;
    Topology::new(vms, ports).map_err(|error| setting.error(error))?;
    Ok(ports)
}
