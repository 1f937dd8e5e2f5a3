//! Commands to a lab while it runs: names become ids here, and the plan grows with what is added.

use std::ops::Range;

use super::build::{expect_members, fill_neighbour_tables_of, flow_config, set_flow_paths};
use super::instruments::{interface, make_now};
use super::{Driver, LabError, LabOn};
use crate::experiment::{FlowPlan, IpVersion};
use crate::fabric::{Fabric, Instrument, InstrumentConfig, InstrumentKind, Rule};
use crate::hypervisor::{Command, FlowConfig, Outcome, Relocation};
use crate::load::{FlowId, Target};
use crate::system::{Neighbours, SystemError};
use crate::time::Instant;
use crate::vm::VmId;

impl<'a, F, D> LabOn<'a, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Returns the present time of the lab.
    pub fn now(&self) -> Instant {
        self.driver.now()
    }

    /// Carries out `command` now. Flows that it adds are in the plan and in the report from then on.
    ///
    /// # Errors
    /// If it asks for what can't be, or the system refuses an operation.
    pub fn carry_out(&mut self, command: Command) -> Result<Outcome, LabError> {
        let added = match &command {
            Command::StartFlows(flows, _) => flows.clone(),
            _ => Vec::new(),
        };
        let now = self.driver.now();
        let outcome = self.hypervisor.carry_out(now, command);
        let outcome = outcome.map_err(LabError::of_command)?;
        if let Outcome::Flows(ids) = &outcome {
            self.plan_flows(ids.clone(), &added);
        }
        Ok(outcome)
    }

    /// Adds `number` VMs to the plan, which [`Command::StartVms`] starts. They have the settings that all VMs share, and the
    /// addresses that they would have had from the beginning.
    ///
    /// # Errors
    /// If there is no room for so many.
    pub fn expect_vms(&mut self, number: u32) -> Result<Vec<VmId>, LabError> {
        let more = self.plan_vms(number)?;
        more.clone()
            .for_each(|index| self.expect_vm(index as usize));
        Ok(more.map(VmId).collect())
    }

    /// Adds `number` VMs to the plan, and returns their numbers. They are still to be announced.
    pub(super) fn plan_vms(&mut self, number: u32) -> Result<Range<u32>, LabError> {
        let more = self.plan.more_vms(number)?;
        let all = self.plan.vms.len() + more.len();
        self.driver.make_room(all)?;
        let first = self.plan.vms.len();
        let plan = self.plan.to_mut();
        plan.vms.extend(more);
        // Groups that all VMs join are joined by further ones, too.
        for joined in &mut plan.memberships {
            if joined.vms == (0..first as u32) {
                joined.vms.end = all as u32;
            }
        }
        Ok(first as u32..all as u32)
    }

    /// Announces a VM that was planned later than the others.
    pub(super) fn announce_vm(&mut self, index: usize) {
        self.expect_vm(index);
        if self.hypervisor.fabric().is_watched()
            && let Some(vm) = self.plan.vms.get(index)
        {
            let (id, mac) = (VmId(index as u32), vm.mac);
            let interface = interface(&self.plan, id, mac);
            self.hypervisor.fabric().tell_vm(id, mac, &interface);
        }
    }

    /// Returns the VMs that `who` names and that exist or are to start: `vm3`, `vm[0-9]`, `all`, or a group.
    ///
    /// # Errors
    /// If there are none.
    pub fn vms_named(&self, who: &str) -> Result<Vec<VmId>, LabError> {
        let named = self.plan.vms_named(who)?;
        let vms: Vec<VmId> = named
            .into_iter()
            .filter(|vm| self.is_present(*vm))
            .collect();
        match vms.is_empty() {
            true => Err(LabError::Plan(format!(
                "{who} has stopped; expected VMs that are up"
            ))),
            false => Ok(vms),
        }
    }

    /// Returns the flows of a pattern such as `vm0:vm1` or `mesh`, between VMs that exist or are to start. Their pings have
    /// `size` bytes of payload; by default as many as those of the plan.
    ///
    /// # Errors
    /// If it is no pattern, or there are no such VMs.
    pub fn flows_of(&self, pattern: &str, size: Option<&str>) -> Result<Vec<FlowConfig>, LabError> {
        let planned = self.plan.flows_of(pattern, size)?;
        let is_present = |flow: &&FlowPlan| match flow.target {
            Target::Vm(target) => self.is_present(flow.source) && self.is_present(target),
            Target::Address(_) => self.is_present(flow.source),
        };
        let present = planned.iter().filter(is_present);
        let flows: Vec<FlowConfig> = present
            .map(|flow| flow_config(&self.plan, flow))
            .collect::<Result<_, _>>()?;
        match flows.is_empty() {
            true => Err(LabError::Plan(format!(
                "{pattern}: an end of each flow has stopped; expected VMs that are up"
            ))),
            false => Ok(flows),
        }
    }

    /// Returns the rules that values such as `vm3:delay=5ms,loss=1%` stand for.
    ///
    /// # Errors
    /// If one can't be understood, or names a VM that does not exist.
    pub fn rules_of(&self, impair: &[&str]) -> Result<Vec<Rule>, LabError> {
        Ok(self.plan.rules_of(impair)?)
    }

    /// Returns the VM that a value such as `vm3:leaf1` moves, and where to, `repeat` times there and back.
    ///
    /// # Errors
    /// If it can't be understood, is about several VMs or none that exists, or names a time.
    pub fn move_of(
        &self,
        value: &str,
        repeat: Option<u32>,
    ) -> Result<(VmId, Relocation), LabError> {
        Ok(self.plan.move_of(value, repeat)?)
    }

    /// Returns the instrument that options of a run stand for, such as `capture` with `capture-on-loss`, for
    /// [`Command::Observe`]. Its file is created. `command` names the run in it.
    ///
    /// # Errors
    /// If a value can't be, or the file can't be created.
    pub fn instrument_of(
        &mut self,
        command: &str,
        options: &[(&'static str, &str)],
    ) -> Result<Box<dyn Instrument>, LabError> {
        let mut kinds = options.iter();
        let kind = kinds.find_map(|(name, _)| InstrumentKind::named(name));
        let kind = kind.ok_or_else(|| {
            LabError::Plan("no instrument is named; expected capture or trace".to_owned())
        })?;
        let options: Vec<_> = options
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let config = self.plan.instrument_of(kind, &options)?;
        self.make_instrument(command, &config)
    }

    /// Makes an instrument that writes to a file.
    pub(super) fn make_instrument(
        &mut self,
        command: &str,
        config: &InstrumentConfig,
    ) -> Result<Box<dyn Instrument>, LabError> {
        let run = self.run_words(command);
        make_now(&self.plan, config, run, self.driver.signals())
    }

    /// The command of the run, true if it is in virtual time, and the beginning of its set-up.
    pub(super) fn run_words(&mut self, command: &str) -> (String, bool, Instant) {
        let is_virtual = self.hypervisor.fabric().environment().is_simulated;
        (command.to_owned(), is_virtual, self.started)
    }

    /// Returns true if `vm` exists or is to start.
    fn is_present(&self, vm: VmId) -> bool {
        self.hypervisor.vm(vm).is_some() || self.hypervisor.is_expected(vm)
    }

    /// Adds flows with the numbers `ids` to the plan, as the flows of a plan are prepared.
    fn plan_flows(&mut self, ids: Range<u32>, flows: &[FlowConfig]) {
        for (id, flow) in ids.clone().map(FlowId).zip(flows) {
            expect_members(&self.plan, id, flow, &mut self.hypervisor);
        }
        let planned = flows.iter().map(planned);
        let plan = self.plan.to_mut();
        plan.flows.extend(planned);
        let added = plan.flows.get(ids.start as usize..).unwrap_or_default();
        if plan.lab.neighbours == Neighbours::Static {
            for flow in added {
                fill_neighbour_tables_of(plan, flow, &mut self.hypervisor);
            }
        }
        let topology = self.hypervisor.fabric().environment().topology;
        if let Some(topology) = topology.filter(|topology| topology.leaves() > 0) {
            let added = ids.map(FlowId).zip(added.iter().copied());
            set_flow_paths(added, &topology, self.hypervisor.recorder());
        }
    }
}

/// Returns a flow as a plan has it.
fn planned(flow: &FlowConfig) -> FlowPlan {
    let destination = flow.session.destination;
    FlowPlan {
        source: flow.source,
        target: flow.target.map_or(Target::Address(destination), Target::Vm),
        version: match destination.is_ipv4() {
            true => IpVersion::V4,
            false => IpVersion::V6,
        },
        probe: flow.session.probe,
        payload_length: flow.session.payload_length,
    }
}
