//! The interfaces that VMs are directly behind (`--fabric interface`).

use super::Group;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::load::Selection;
use crate::system::{
    ExistingLink, FabricKind, InterfacePort, LabConfig, NetnsChoice, SystemError,
    validate_interface_name,
};
use crate::vm::VmId;

const EXPECTED: &str = "expected an interface, for all VMs or after vmI=, vm[I-J]= or GROUP=, and ,bridge behind it if they are \
                        to reach each other within the program";

/// Reads `interface`: each of the `count` VMs is behind one.
pub(super) fn interfaces(
    settings: &Settings,
    fabric: FabricKind,
    groups: &[Group<'_>],
    count: u32,
) -> Result<Vec<InterfacePort>, SettingError> {
    if fabric != FabricKind::Interface {
        return Ok(Vec::new());
    }
    let mut ports: Vec<InterfacePort> = Vec::new();
    for setting in settings.all("interface") {
        let port = port(setting, groups, count)?;
        for other in &ports {
            let first = port.vms.start.max(other.vms.start);
            if first < port.vms.end.min(other.vms.end) {
                return Err(setting.error(format_args!(
                    "vm{first} is behind {} already; expected each VM once",
                    other.name
                )));
            }
            if other.name == port.name && other.bridges != port.bridges {
                return Err(setting.error(format_args!(
                    "some VMs behind {} are to reach each other within the program and some are not; expected ,bridge for all or none",
                    other.name
                )));
            }
        }
        ports.push(port);
    }
    let is_behind_one = |vm: &u32| ports.iter().any(|port| port.vms.contains(vm));
    if let Some(vm) = (0..count).find(|vm| !is_behind_one(vm)) {
        return Err(SettingError::new(format_args!(
            "--fabric interface: {} is behind no interface; expected --interface {}",
            VmId(vm),
            match ports.is_empty() {
                true => "IFACE, or 'vm[I-J]=IFACE' several times".to_owned(),
                false => format!("'vm[{vm}-{}]=IFACE' beside the others", count - 1),
            }
        )));
    }
    Ok(ports)
}

fn port(
    setting: &Setting,
    groups: &[Group<'_>],
    count: u32,
) -> Result<InterfacePort, SettingError> {
    let (who, interface) = match setting.text.split_once('=') {
        Some((who, interface)) => (who, interface),
        None => ("all", setting.text.as_str()),
    };
    let (name, bridges) = match interface.split_once(',') {
        None => (interface, false),
        Some((name, "bridge")) => (name, true),
        Some(_) => return Err(setting.error(EXPECTED)),
    };
    validate_interface_name(name)
        .map_err(|why| setting.error(format_args!("the name {name:?} {why}; {EXPECTED}")))?;
    let vms = match groups.iter().find(|group| group.name == Some(who)) {
        Some(group) => group.first..group.first + group.vms,
        None => {
            let selection: Selection = who.parse().map_err(|_| setting.error(EXPECTED))?;
            let range = selection.range(count).map_err(|why| setting.error(why))?;
            *range.start()..*range.end() + 1
        }
    };
    Ok(InterfacePort {
        name: name.to_owned(),
        vms,
        bridges,
    })
}

/// Checks that VMs can be behind the interfaces of `lab`.
pub(super) fn check(
    settings: &Settings,
    lab: &LabConfig,
    find: impl Fn(&NetnsChoice, &str) -> Result<ExistingLink, SystemError>,
) -> Result<(), SettingError> {
    for (setting, port) in settings.all("interface").iter().zip(&lab.interfaces) {
        let found = find(&lab.netns, &port.name).and_then(|link| link.check_port(lab));
        found.map_err(|error| setting.error(error))?;
    }
    Ok(())
}
