//! How VMs come by each other's hardware addresses: as they are told to, or, where asking would take the kernel minutes,
//! by help.

use super::{Setting, SettingError, Settings};
use crate::experiment::{FlowPlan, IpVersion, VmPlan};
use crate::load::Target;
use crate::system::{LabConfig, Neighbours, Switching};

/// Unless told otherwise, VMs ask each other as long as the kernel has no more copies of requests to deliver than this: ten
/// million take it 10 to 25 seconds.
pub const MOST_DELIVERIES: u64 = 10_000_000;

/// What a user may say about help.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Help {
    Auto,
    On,
    Off,
}

fn help(settings: &Settings) -> Result<Help, SettingError> {
    let Some(setting) = settings.get("arp-proxy") else {
        return Ok(Help::Auto);
    };
    match setting.text.as_str() {
        "auto" => Ok(Help::Auto),
        "on" | "true" => Ok(Help::On),
        "off" | "false" => Ok(Help::Off),
        _ => Err(setting.error("allowed are auto, on, off")),
    }
}

/// Decides it for a lab with these flows. Returns also how many deliveries are spared by help that nobody asked for.
pub(super) fn neighbours(
    settings: &Settings,
    lab: &LabConfig,
    is_simulated: bool,
    vms: &[VmPlan],
    flows: &[FlowPlan],
) -> Result<(Neighbours, Option<u64>), SettingError> {
    let help = help(settings)?;
    let is_told = settings.switch("static-neighbours")?;
    if help == Help::On
        && let Some(setting) = settings.get("arp-proxy")
    {
        check_proxy(setting, settings, is_told)?;
        return Ok((Neighbours::Proxied, None));
    }
    if is_told {
        return Ok((Neighbours::Told, None));
    }
    // Without filters it is the flood that is to be seen.
    let is_wanted = help == Help::Auto && lab.filter && !settings.switch("dhcp")?;
    // XDP hands ARP requests to whom they concern, and so does the simulation with everything; what somebody else's switch
    // does is not ours to spare.
    let versions: &[IpVersion] = match lab.switching {
        Switching::Bridge => &[IpVersion::V4, IpVersion::V6],
        Switching::Xdp => &[IpVersion::V6],
        Switching::External => &[],
    };
    let deliveries = |version| match versions.contains(&version) && is_wanted && !is_simulated {
        true => deliveries(vms.len(), flows, version),
        false => 0,
    };
    let (ipv4, ipv6) = (deliveries(IpVersion::V4), deliveries(IpVersion::V6));
    let spared = ipv4.saturating_add(ipv6);
    if spared <= MOST_DELIVERIES {
        return Ok((Neighbours::Asked, None));
    }
    // What the bridge can answer, it answers: there is something to measure then. It knows nothing of IPv6 and of VLANs, is
    // left alone where it is somebody else's, and would answer announcements and probes as well.
    let may_be_proxied = ipv6 <= MOST_DELIVERIES
        && lab.switching == Switching::Bridge
        && !lab.attach
        && vms.iter().all(|vm| vm.vlan.is_none())
        && !settings.switch("announce")?
        && !settings.switch("probe")?;
    let neighbours = if may_be_proxied {
        Neighbours::Proxied
    } else {
        Neighbours::Told
    };
    Ok((neighbours, Some(spared)))
}

fn check_proxy(setting: &Setting, settings: &Settings, is_told: bool) -> Result<(), SettingError> {
    let refused = [
        (
            settings.switch("attach")?,
            "attach",
            "which leaves the bridge as it is",
        ),
        (is_told, "static-neighbours", "with which nobody asks"),
        (
            settings.get("vlan").is_some(),
            "vlan",
            "whose tag the bridge's answers do not have",
        ),
    ];
    match refused.iter().find(|(is_set, ..)| *is_set) {
        Some((_, other, why)) => {
            Err(setting.error(format_args!("not allowed with --{other}, {why}")))
        }
        None => Ok(()),
    }
}

/// How many copies of requests the kernel delivers until both ends of all flows know each other: one for each other VM.
/// Whoever is asked learns the address of the one who asks.
fn deliveries(vms: usize, flows: &[FlowPlan], version: IpVersion) -> u64 {
    let mut pairs: Vec<_> = flows
        .iter()
        .filter(|flow| flow.version == version)
        .filter_map(|flow| match flow.target {
            Target::Vm(target) => Some((flow.source.min(target), flow.source.max(target))),
            Target::Address(_) => None,
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    (pairs.len() as u64).saturating_mul(vms.saturating_sub(1) as u64)
}
