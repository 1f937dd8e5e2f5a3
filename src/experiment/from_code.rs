//! Plans made by a program, without the text of a scenario.

use std::borrow::Cow;

use super::{Experiment, FlowPlan, IpVersion, Scenario, SettingError, plan};
use crate::load::Target;
use crate::vm::{Probe, VmId};

/// The default payload of a ping in bytes, as in ping(8).
pub(super) const PAYLOAD_LENGTH: usize = 56;

impl Experiment {
    /// Creates a plan of `vms` VMs without load, as `--vms` alone does: TAPs on a bridge in a private namespace, addresses
    /// from 10.77.0.2 on. Change its fields before a lab is built from it. Without phases the VMs only answer.
    ///
    /// ```
    /// use tap_reactor::experiment::{Experiment, FlowPlan};
    /// use tap_reactor::hypervisor::Phase;
    /// use tap_reactor::load::Pacing;
    /// use tap_reactor::vm::VmId;
    ///
    /// let mut plan = Experiment::of_vms(2)?;
    /// plan.is_simulated = true;
    /// plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
    /// plan.phases = vec![Phase::counted(0..1, Pacing::Window(1), 100)];
    /// assert_eq!(plan.planned_pings(), Some(100));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If `vms` is 0 or more than there are addresses, or memory, for.
    pub fn of_vms(vms: u32) -> Result<Experiment, SettingError> {
        let mut scenario = Scenario::default();
        scenario.settings.set("vms", [vms]);
        plan(&scenario)
    }
}

impl FlowPlan {
    /// Creates a flow of ICMP echoes from one VM to another over IPv4, with 56 bytes of payload.
    pub const fn between(source: VmId, target: VmId) -> FlowPlan {
        FlowPlan {
            source,
            target: Target::Vm(target),
            version: IpVersion::V4,
            probe: Probe::ICMP_ECHO,
            payload_length: PAYLOAD_LENGTH,
        }
    }
}

/// Lets a lab borrow its plan.
impl<'a> From<&'a Experiment> for Cow<'a, Experiment> {
    fn from(plan: &'a Experiment) -> Self {
        Cow::Borrowed(plan)
    }
}

/// Lets a lab own its plan.
impl From<Experiment> for Cow<'_, Experiment> {
    fn from(plan: Experiment) -> Self {
        Cow::Owned(plan)
    }
}
