//! The phases in which pings are followed, to split their way.

use std::time::Duration;

use super::{SettingError, Settings};
use crate::experiment::{FlowPlan, IpVersion};
use crate::fabric::{MAX_SPLIT_PINGS, Place, SplitPings};
use crate::hypervisor::Phase;
use crate::load::{FlowSet, Pacing, Target};
use crate::vm::ProbeKind;

/// The time after which such a phase ends, whatever is lost.
const LONGEST: Duration = Duration::from_secs(30);

/// Bytes of IPv4's and IPv6's headers, and of the one of an echo message.
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const ECHO_BYTES: usize = 8;

/// Adds the phases in which pings are followed behind the others, if the settings want them. Returns true if they do.
pub(super) fn add(
    settings: &Settings,
    mtu: u16,
    flows: &[FlowPlan],
    phases: &mut Vec<Phase>,
) -> Result<bool, SettingError> {
    let setting = settings.get("path-split");
    let Some(setting) = setting.filter(|setting| !setting.is_off()) else {
        return Ok(false);
    };
    let count: u32 = setting
        .number_in(1..=MAX_SPLIT_PINGS)
        .map_err(|error| SettingError::new(format_args!("{error}, or off")))?;
    let Some(last) = phases.last() else {
        return Err(setting.error(
            "nothing is pinged; expected a ping pattern beside it, such as --ping vm0:vm1",
        ));
    };
    if last.load.count.is_none() && last.duration.is_none() {
        let why = "the run never ends; expected --count, --duration, or both beside it";
        return Err(setting.error(why));
    }
    let mut moves = phases.iter().flat_map(|phase| &phase.moves);
    if moves.any(|planned| matches!(planned.relocation.to, Place::Namespace(_))) {
        let why = "a VM moves to another network namespace, where its frames are not stamped; expected other moves";
        return Err(setting.error(why));
    }
    let mut followed = FlowSet::default();
    for id in last.load.flows.iter() {
        let Some(flow) = flows.get(id.index()) else {
            continue;
        };
        if !matches!(flow.target, Target::Vm(_)) {
            continue;
        }
        if flow.probe.kind != ProbeKind::Icmp {
            let why = format_args!(
                "{} sends {} probes, which are not followed in the kernel; expected --probe icmp",
                flow.source, flow.probe.kind
            );
            return Err(setting.error(why));
        }
        let headers = ECHO_BYTES
            + match flow.version {
                IpVersion::V4 => IPV4_BYTES,
                IpVersion::V6 => IPV6_BYTES,
            };
        if flow.payload_length + headers > usize::from(mtu) {
            let why = format_args!(
                "pings of {} bytes are sent in fragments, whose way can't be told from that of the whole; expected --size {} \
                 or less",
                flow.payload_length,
                usize::from(mtu).saturating_sub(headers)
            );
            return Err(setting.error(why));
        }
        followed.insert(id);
    }
    let Ok(number @ 1..) = u32::try_from(followed.len()) else {
        return Err(
            setting.error("no VM pings another; expected such a flow, as by --ping vm0:vm1")
        );
    };
    for (name, splits) in [
        ("path split, without stamps", SplitPings::Unstamped),
        ("path split", SplitPings::Stamped),
    ] {
        let each = u64::from(count.div_ceil(number));
        let phase = Phase::counted(followed.clone(), Pacing::Window(1), each);
        phases.push(Phase {
            name: name.to_owned(),
            is_counted: false,
            duration: Some(LONGEST),
            impairments: Some(Vec::new()),
            splits: Some(splits),
            ..phase
        });
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Scenario, plan};

    fn planned(text: &str) -> Result<Experiment, String> {
        let scenario = Scenario::parse("t.toml", text).map_err(|error| error.to_string())?;
        plan(&scenario).map_err(|error| error.to_string())
    }

    #[test]
    fn two_phases_follow_the_flows_of_the_last_one_between_vms() {
        let text = |split: &str| {
            format!(
                "vms = 4\n{split}\n[[phase]]\nping = 'vm2:vm3'\ncount = 1\n[[phase]]\n\
                 ping = ['vm0:vm1', 'vm0:10.77.0.1', 'vm1:vm0']\ncount = 2\nimpair = 'vm1:delay=1ms'"
            )
        };
        let without = planned(&text("")).unwrap();
        assert!(!without.splits_path);
        for off in ["path-split = false", "path-split = 'off'"] {
            let off = planned(&text(off)).unwrap();
            assert!(!off.splits_path);
            assert_eq!(off.phases, without.phases);
            assert_eq!(off.effective, without.effective);
        }
        for (split, each) in [
            ("path-split = true", 500),
            ("path-split = 1001", 501),
            ("path-split = 1", 1),
        ] {
            let plan = planned(&text(split)).unwrap();
            assert!(plan.splits_path);
            assert_eq!(plan.planned_pings(), without.planned_pings());
            let (own, added) = plan.phases.split_at(2);
            assert_eq!(own, without.phases);
            let kinds = added.iter().map(|phase| phase.splits.unwrap());
            assert!(kinds.eq([SplitPings::Unstamped, SplitPings::Stamped]));
            for phase in added {
                let flows: Vec<_> = phase.load.flows.iter().map(|flow| flow.0).collect();
                assert_eq!((flows, phase.load.count), (vec![1, 3], Some(each)));
                assert_eq!(phase.impairments, Some(Vec::new()));
                assert!(!phase.is_counted);
            }
        }
    }
}
