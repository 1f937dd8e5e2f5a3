//! What carries the frames: which fabric, and what fits to it.

use std::time::Duration;

use super::{Setting, SettingError, Settings};
use crate::sim::{Impairments, Simulation};
use crate::system::FabricKind;
use crate::topology::{DEFAULT_PORTS_PER_BRIDGE, Topology};

/// Settings of a fabric, and the fabrics that have them.
const ONLY: &[(&str, &[&str])] = &[
    ("bridge", &["bridge"]),
    ("ports-per-bridge", &["bridge"]),
    ("host-addr", &["bridge"]),
    ("attach", &["bridge"]),
    ("hook", &["none"]),
    ("netns", &["bridge", "xdp", "none"]),
    ("tap-prefix", &["bridge", "xdp", "none"]),
    ("txqueuelen", &["bridge", "xdp", "none"]),
    ("spin", &["bridge", "xdp", "none"]),
    ("sim-delay", &["sim"]),
    ("sim-jitter", &["sim"]),
    ("sim-loss", &["sim"]),
    ("sim-duplicate", &["sim"]),
    ("sim-reorder", &["sim"]),
    ("sim-queue", &["sim"]),
];

/// How long a reordered frame is held back, in wire delays: long enough for others to pass it.
const REORDER_DELAYS: u32 = 3;

/// What carries the frames.
pub(super) enum Fabric {
    /// TAPs of the kernel, and what joins them.
    Taps(FabricKind),
    /// A switch in memory.
    Simulated(Simulation),
}

/// Reads the choice of the fabric, and refuses settings that it does not have.
pub(super) fn fabric(settings: &Settings) -> Result<Fabric, SettingError> {
    let choice = settings.get("fabric");
    let name = choice.map_or("bridge", |setting| setting.text.as_str());
    let fabric = match (name, choice) {
        ("bridge", _) => Fabric::Taps(FabricKind::Bridge),
        ("xdp", _) => Fabric::Taps(FabricKind::Xdp),
        ("none", _) => Fabric::Taps(FabricKind::None),
        ("sim", _) => Fabric::Simulated(simulation(settings)?),
        (_, Some(setting)) => return Err(setting.error("allowed are bridge, xdp, none, sim")),
        (_, None) => Fabric::Taps(FabricKind::Bridge),
    };
    for (setting, fabrics) in ONLY {
        if let Some(setting) = settings.get(setting)
            && !["false", "off", "auto"].contains(&setting.text.as_str())
            && !fabrics.contains(&name)
        {
            let fabrics = fabrics.join(" or ");
            return Err(setting.error(format_args!("allowed only with --fabric {fabrics}")));
        }
    }
    Ok(fabric)
}

fn simulation(settings: &Settings) -> Result<Simulation, SettingError> {
    let time = |name: &str, default: Duration| match settings.get(name) {
        Some(setting) if setting.text == "0" => Ok(Duration::ZERO),
        Some(setting) => setting.duration(),
        None => Ok(default),
    };
    let share = |name: &str| settings.get(name).map_or(Ok(0.0), share);
    let default = Impairments::default();
    let delay = time("sim-delay", default.delay)?;
    let impairments = Impairments {
        delay,
        jitter: time("sim-jitter", default.jitter)?,
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
        _ => Err(setting.error("allowed is a share from 0% to 100%, such as 0.5%")),
    }
}

/// A bound of a queue.
pub(super) fn frames(settings: &Settings, name: &str) -> Result<Option<u32>, SettingError> {
    let allowed = "a number of frames, 1 or more";
    let Some(setting) = settings.get(name) else {
        return Ok(None);
    };
    match setting.number(allowed)? {
        0 => Err(setting.error(format_args!("allowed is {allowed}"))),
        frames => Ok(Some(frames)),
    }
}

/// How many of `vms` share one bridge.
pub(super) fn ports_per_bridge(settings: &Settings, vms: u32) -> Result<u32, SettingError> {
    let Some(setting) = settings.get("ports-per-bridge") else {
        return match Topology::new(vms, DEFAULT_PORTS_PER_BRIDGE) {
            Ok(_) => Ok(DEFAULT_PORTS_PER_BRIDGE),
            Err(error) => Err(SettingError::new(format_args!("vms: {error}"))),
        };
    };
    let ports = setting.number("a number of VMs, 1 to 1023")?;
    Topology::new(vms, ports).map_err(|error| setting.error(error))?;
    Ok(ports)
}
