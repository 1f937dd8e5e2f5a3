//! The choice of the fabric, and the options that it excludes.

use super::{SettingError, Settings};
use crate::experiment::options::{OPTIONS, any_of};
use crate::experiment::scenario::Scenario;
use crate::system::FabricKind;
use crate::topology::Topology;

/// The fabric that carries the frames.
pub(super) enum Fabric {
    /// TAPs of the kernel, and what joins them.
    Taps(FabricKind),
    /// A switch in memory.
    Simulated,
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
        "interface" => Fabric::Taps(FabricKind::Interface),
        "sim" => Fabric::Simulated,
        _ => Fabric::Taps(FabricKind::Bridge),
    })
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
    let ports = setting.number("a number of VMs")?;
    Topology::new(vms, ports).map_err(|error| setting.error(error))?;
    Ok(ports)
}
