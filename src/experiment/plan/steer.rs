//! Names and words that come while a lab runs, read as those of its scenario are; and VMs that are added to it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Range;

use super::addresses::first_of_version;
use super::flows::PlanContext;
use super::vms::{check_number, groups, starting_at};
use super::{impairments, ipv6, misbehaviours, moves, phases, subnet, vlan};
use crate::experiment::settings::{SettingError, Settings};
use crate::experiment::{AddressPlan, Experiment, FlowPlan, Processes, VmPlan};
use crate::fabric::Rule;
use crate::hypervisor::{PlannedMisbehaviour, PlannedMove, Relocation};
use crate::load::Pacing;
use crate::system::{FabricKind, Prepared, SPARE_VMS, available_bytes};
use crate::topology::BRIDGE_PORTS;
use crate::vm::VmId;

const WHO: &str = "expected vmI, vm[I-J], all or the name of a group";

impl Experiment {
    /// The VMs that `who` names: `vm3`, `vm[0-9]`, `all`, or a group.
    ///
    /// # Errors
    /// If it names none, or one that does not exist.
    pub fn vms_named(&self, who: &str) -> Result<Vec<VmId>, SettingError> {
        self.in_context(None, |context| {
            let vms = context.selected(who, WHO);
            let vms = vms.map_err(SettingError::new)?;
            Ok(vms.map(VmId).collect())
        })
    }

    /// The groups that have a name, and the VMs of each, in order. VMs that are added later are in none.
    pub fn vm_groups(&self) -> impl Iterator<Item = (&str, Range<u32>)> {
        // The settings were planned from: they can be read.
        let groups = groups(&self.effective).unwrap_or_default();
        let groups = groups.into_iter();
        groups.filter_map(|group| Some((group.name?, group.first..group.first + group.vms)))
    }

    /// The flows of a pattern such as `vm0:vm1`, whose pings have `size` bytes of payload, or as many as those of the plan.
    ///
    /// # Errors
    /// If it is no pattern, names a VM that does not exist, or leads to more flows than there is memory for.
    pub fn flows_of(
        &self,
        pattern: &str,
        size: Option<&str>,
    ) -> Result<Vec<FlowPlan>, SettingError> {
        let mut settings = given("ping", [pattern]);
        for name in ["size", "probe", "port"] {
            let of_plan = self.effective.settings.get(name);
            if let Some(setting) = of_plan {
                settings.set(name, [&setting.text]);
            }
        }
        if let Some(size) = size {
            settings.set("size", [size]);
        }
        let over_ipv6 = self.effective.settings.switch("ping-ipv6")?;
        self.in_context(available_bytes(), |context| {
            let Some(ping) = settings.get("ping") else {
                return Ok(Vec::new());
            };
            let all = (self.flows.len() as u64).saturating_add(context.count(ping)?);
            context.check_size(all, self.phases.len() + 1)?;
            context.flows(ping, &settings, over_ipv6, usize::MAX)
        })
    }

    /// The rules that values such as `vm3:delay=5ms,loss=1%` stand for.
    ///
    /// # Errors
    /// If one can't be understood, or names a VM that does not exist.
    pub fn rules_of(&self, impair: &[&str]) -> Result<Vec<Rule>, SettingError> {
        let mut settings = Settings::default();
        impair
            .iter()
            .for_each(|value| settings.add_flag("impair", value));
        self.in_context(None, |context| impairments::impairments(&settings, context))
    }

    /// The move that a value such as `vm3:leaf1` stands for, made `repeat` times there and back.
    ///
    /// # Errors
    /// If it can't be understood, is about several VMs or none that exists, or names a time.
    pub fn move_of(
        &self,
        value: &str,
        repeat: Option<u32>,
    ) -> Result<(VmId, Relocation), SettingError> {
        let mut settings = given("move", [value]);
        if let Some(repeat) = repeat {
            settings.set("repeat", [repeat]);
        }
        let moves = self.in_context(None, |context| moves::moves(&settings, None, context))?;
        let error = |why: &str| SettingError::new(format_args!("{value}: {why}"));
        match <[(_, PlannedMove); 1]>::try_from(moves) {
            Ok([(_, planned)]) if planned.after.is_zero() => Ok((planned.vm, planned.relocation)),
            Ok(_) => Err(error("it moves at once; expected no time")),
            Err(_) => Err(error("expected one VM")),
        }
    }

    /// The misbehaviours that a value such as `vm9:silent+2s` stands for, which begin at once.
    ///
    /// # Errors
    /// If it can't be understood, names a VM that does not exist, or has a time to begin at.
    pub fn misbehaviours_of(
        &self,
        misbehave: &str,
    ) -> Result<Vec<PlannedMisbehaviour>, SettingError> {
        let settings = given("misbehave", [misbehave]);
        self.in_context(None, |context| {
            misbehaviours::misbehaviours_now(&settings, context)
        })
    }

    /// The pacing that `rate`, `interval` or `window` of that value stands for.
    ///
    /// # Errors
    /// If the name is another, or the value is none of these.
    pub fn pacing_of(name: &str, value: &str) -> Result<Pacing, SettingError> {
        let names = ["rate", "interval", "window"];
        let Some(name) = names.into_iter().find(|known| *known == name) else {
            let why = format_args!("{name}: expected rate, interval or window");
            return Err(SettingError::new(why));
        };
        phases::steady_pacing(&given(name, [value]))
    }

    /// The next `number` VMs, with the addresses that they would have had in the plan.
    ///
    /// # Errors
    /// If subnet, fabric or tool have no room for them, or an address is somebody else's.
    pub fn more_vms(&self, number: u32) -> Result<Vec<VmPlan>, SettingError> {
        let present = self.vms.len() as u32;
        let settings = &self.effective.settings;
        let room = self.room();
        let all = present.saturating_add(number);
        if number == 0 || all > room {
            let more = room.saturating_sub(present);
            return Err(SettingError::new(match more {
                0 => format!("{number} more VMs: the lab has no room for any; expected none"),
                _ => format!(
                    "{number} more VMs: expected 1 to {more}, of {room} in all, those that have left included"
                ),
            }));
        }
        let subnet = subnet(settings, all)?;
        let addresses = match first_of_version(settings, IpAddr::is_ipv4)? {
            Some((setting, IpAddr::V4(first))) => starting_at(setting, first, subnet, all.into())?,
            _ => AddressPlan::new(subnet, all.into())
                .map_err(|error| settings.or_default("subnet").error(error))?,
        };
        if self.vm_defaults.ipv6.is_some() {
            ipv6::check_room(settings, all)?;
        }
        let vlan = vlan::of_all(settings)?;
        let more: Vec<VmPlan> = (present..all)
            .map(|vm| VmPlan {
                vlan,
                ..addresses.vm(VmId(vm))
            })
            .collect();
        self.check_unused(present, &more)?;
        let context = |context: &PlanContext<'_>| {
            context.check_size(self.flows.len() as u64, self.phases.len())
        };
        self.in_context(available_bytes(), context)?;
        Ok(more)
    }

    /// Checks that no address of VMs from number `first` on is that of a VM or of the host's side.
    fn check_unused(&self, first: u32, more: &[VmPlan]) -> Result<(), SettingError> {
        let macs: HashSet<_> = self.vms.iter().map(|vm| vm.mac).collect();
        let mut addresses: HashSet<IpAddr> = self.vms.iter().map(|vm| vm.address.into()).collect();
        addresses.extend(self.lab.host_address.map(|net| IpAddr::from(net.addr())));
        addresses.extend(self.lab.host_address6.map(|net| IpAddr::from(net.addr())));
        let ipv6 = |vm| self.vm_defaults.ipv6.map(|plan| plan.address(vm).into());
        for (vm, plan) in (first..).map(VmId).zip(more) {
            let mut theirs = [Some(IpAddr::from(plan.address)), ipv6(vm)]
                .into_iter()
                .flatten();
            let taken = theirs.find(|address| addresses.contains(address));
            let taken = taken.map(|address| address.to_string());
            let taken = taken.or(macs.contains(&plan.mac).then(|| plan.mac.to_string()));
            if let Some(taken) = taken {
                let last = vm.0 - first;
                let why = format_args!(
                    "{vm} would have {taken}, which is in use; expected {last} VMs at most"
                );
                return Err(SettingError::new(why));
            }
        }
        Ok(())
    }

    /// The most VMs that the fabric has room for, those that have left included.
    fn room(&self) -> u32 {
        let most = super::size::MOST_VMS;
        let planned = self.lab.vms;
        match (self.lab.prepared, self.lab.fabric) {
            _ if self.is_simulated => most,
            // Nobody has made TAPs, or told the bridge of VLANs, for more.
            (Prepared::BridgeAndTaps, _) => planned,
            _ if self.lab.vlan_filtering.is_some() => planned,
            // No interface is for more.
            (_, FabricKind::Interface) => planned,
            (_, FabricKind::None) => most,
            (_, FabricKind::Xdp) => planned.saturating_add(SPARE_VMS),
            (_, FabricKind::Bridge) => {
                let ports = match self.lab.topology() {
                    Some(Ok(topology)) if topology.leaves() > 0 => {
                        topology.leaves() * topology.ports_per_bridge()
                    }
                    _ => BRIDGE_PORTS - 1,
                };
                ports.min(planned.saturating_add(SPARE_VMS)).max(planned)
            }
        }
    }

    /// Calls `read` with the plan as flows and impairments see it; with the bytes of free memory where it checks whether all
    /// has room.
    fn in_context<T>(
        &self,
        free_memory: Option<u64>,
        read: impl FnOnce(&PlanContext<'_>) -> Result<T, SettingError>,
    ) -> Result<T, SettingError> {
        let settings = &self.effective.settings;
        let groups = groups(&self.effective)?;
        read(&PlanContext {
            may_fragment: settings.switch("allow-fragmentation")?,
            subnet: subnet(settings, check_number(&groups)?)?,
            vm_defaults: &self.vm_defaults,
            lab: &self.lab,
            groups: &groups,
            memberships: &self.memberships,
            vms: &self.vms,
            seed: self.seed,
            are_simulated: self.is_simulated,
            timeout: self.timeout,
            most_flows: usize::MAX,
            free_memory,
            processes: Processes::One,
            own_vms: self.vms.len() as u32,
        })
    }
}

/// Settings of one name, as if given as flags.
fn given<const N: usize>(name: &'static str, values: [&str; N]) -> Settings {
    let mut settings = Settings::default();
    settings.set(name, values);
    settings
}
