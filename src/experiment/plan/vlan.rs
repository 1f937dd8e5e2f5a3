//! The VLANs of the VMs.

use super::Group;
use crate::experiment::VmPlan;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::load::Selection;
use crate::system::{ExistingBridge, VlanFiltering};
use crate::wire::Vlan;

const EXPECTED: &str = "expected a number from 1 to 4094, or two with a dot between them (QinQ), for all VMs or after \
                       vmI= or vm[I-J]=";

/// Puts the VMs in the VLANs that `--vlan` and the groups say: first all of them, then those that are named, then groups.
pub(super) fn place(
    settings: &Settings,
    groups: &[Group<'_>],
    vms: &mut [VmPlan],
) -> Result<(), SettingError> {
    let is_of_all = |setting: &&Setting| !setting.text.contains('=');
    let all = settings.all("vlan").iter().filter(is_of_all);
    let named = settings
        .all("vlan")
        .iter()
        .filter(|setting| !is_of_all(setting));
    if let Some(again) = all.clone().nth(1) {
        return Err(again
            .error("given more than once for all VMs; expected one, or names of VMs before it"));
    }
    let mut is_placed = vec![false; vms.len()];
    for setting in all.chain(named) {
        let (side, vlan) = match setting.text.split_once('=') {
            Some((side, vlan)) => (side.parse(), vlan),
            None => (Ok(Selection::All), setting.text.as_str()),
        };
        let selection: Selection = side.map_err(|_| setting.error(EXPECTED))?;
        let range = selection
            .range(vms.len() as u32)
            .map_err(|why| setting.error(why))?;
        let (first, last) = (*range.start() as usize, *range.end() as usize);
        put(setting, vlan, vms.get_mut(first..=last))?;
        let placed = is_placed.get_mut(first..=last).unwrap_or_default();
        if !is_of_all(&setting) {
            if let Some(again) = placed.iter().position(|is_placed| *is_placed) {
                let vm = first + again;
                return Err(setting.error(format_args!(
                    "vm{vm} is in a VLAN already; expected each VM once"
                )));
            }
            placed.fill(true);
        }
    }
    for group in groups
        .iter()
        .filter(|group| group.name.is_some() || groups.len() > 1)
    {
        if let Some(setting) = group.settings.get("vlan") {
            let first = group.first as usize;
            let members = first..first + group.vms as usize;
            put(setting, &setting.text, vms.get_mut(members))?;
        }
    }
    Ok(())
}

/// The VLAN that all VMs are in, where no other is named.
pub(super) fn of_all(settings: &Settings) -> Result<Option<Vlan>, SettingError> {
    let values = settings.all("vlan").iter();
    let of_all = values.filter(|setting| !setting.text.contains('='));
    let mut vlans = of_all.map(|setting| setting.text.parse().map_err(|_| setting.error(EXPECTED)));
    vlans.next().transpose()
}

fn put(setting: &Setting, vlan: &str, vms: Option<&mut [VmPlan]>) -> Result<(), SettingError> {
    let vlan: Vlan = vlan.parse().map_err(|_| setting.error(EXPECTED))?;
    for vm in vms.unwrap_or_default() {
        vm.vlan = Some(vlan);
    }
    Ok(())
}

/// The VLANs of the TAPs' ports of a bridge that exists, if that filters: a VM's, where the bridge looks at its tag. All
/// other ports, and the bridge's own side, are somebody else's.
pub(super) fn on_bridge(bridge: &ExistingBridge, vms: &[VmPlan]) -> Option<VlanFiltering> {
    let is_provider = bridge.vlan_filter()?.is_provider;
    let port = |vm: &VmPlan| match vm.vlan? {
        vlan @ Vlan::Single(_) if !is_provider => Some(vlan.outermost()),
        vlan @ Vlan::Double { .. } if is_provider => Some(vlan.outermost()),
        // A tag that the bridge takes for payload.
        Vlan::Single(_) | Vlan::Double { .. } => None,
    };
    Some(VlanFiltering {
        provider: is_provider,
        ports: vms.iter().map(port).collect(),
    })
}

/// The VLAN tables of the bridge's ports, if the bridge is to have any.
pub(super) fn filtering(
    settings: &Settings,
    vms: &[VmPlan],
) -> Result<Option<VlanFiltering>, SettingError> {
    let Some(setting) = settings.get("vlan-filtering") else {
        return Ok(None);
    };
    if !settings.switch("vlan-filtering")? {
        return Ok(None);
    }
    if settings.switch("attach")? {
        let why = "cannot be used with --attach, which leaves the bridge as it is";
        return Err(setting.error(why));
    }
    let is_double = |vm: &VmPlan| matches!(vm.vlan, Some(Vlan::Double { .. }));
    let is_single = |vm: &VmPlan| matches!(vm.vlan, Some(Vlan::Single(_)));
    let provider = vms.iter().any(is_double);
    if provider && vms.iter().any(is_single) {
        let why = "a bridge filters by 802.1Q tags or by 802.1ad tags; expected VMs with one tag, or VMs with two";
        return Err(setting.error(why));
    }
    let ports = vms.iter().map(|vm| vm.vlan.map(Vlan::outermost)).collect();
    Ok(Some(VlanFiltering { provider, ports }))
}
