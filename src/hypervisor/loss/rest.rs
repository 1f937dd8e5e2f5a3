//! Explains what is left at the end of a run by what was counted.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::FlowLosses;
use super::elimination::{Balance, OpenFlow, eliminate};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::load::FlowId;
use crate::record::{Attribution, Cause, Place};
use crate::time::Instant;
use crate::vm::VmId;

type ByFlow = BTreeMap<FlowId, FlowLosses>;

impl<F: Fabric> Hypervisor<F> {
    /// Explains the lost pings of which nothing is known, by what was counted. To be called at the end of a run, when none is
    /// on its way.
    pub fn explain_rest(&mut self, now: Instant) {
        self.look_at_drops(now);
        let Some(search) = &mut self.loss_search else {
            return;
        };
        let flows = std::mem::take(&mut search.flows);
        search.open = 0;
        let open = flows.iter().filter(|(_, of)| !of.open.is_empty());
        let targets: Vec<VmId> = open.filter_map(|(flow, _)| self.target_of(*flow)).collect();
        if targets.is_empty() {
            return;
        }
        let dropped = self.dropped_at_ports();
        let mut to_targets: BTreeMap<VmId, Vec<FlowId>> = targets
            .into_iter()
            .map(|target| (target, Vec::new()))
            .collect();
        for flow in (0..self.flows.len() as u32).map(FlowId) {
            let target = self.target_of(flow);
            if let Some(of_target) = target.and_then(|target| to_targets.get_mut(&target)) {
                of_target.push(flow);
            }
        }
        for (target, of_target) in to_targets {
            let Some(balance) = self.balance(target, &of_target, &flows, &dropped) else {
                continue;
            };
            let open_flow = |id: &FlowId| {
                let due = &flows.get(id).filter(|of| !of.open.is_empty())?.open;
                let source = self.flows.get(id.index())?.ping?.vm;
                let of = OpenFlow {
                    source,
                    open: due.len() as u64,
                    dropped: dropped.get(&source).copied(),
                };
                Some((*id, due, of))
            };
            let open: Vec<_> = of_target.iter().filter_map(open_flow).collect();
            let of_flows: Vec<OpenFlow> = open.iter().map(|(.., of)| *of).collect();
            let rows = eliminate(target, balance, &of_flows);
            for ((flow, due, _), rows) in open.into_iter().zip(rows) {
                let each = rows
                    .into_iter()
                    .flat_map(|(to, pings)| (0..pings).map(move |_| to));
                for (due, to) in due.iter().zip(each) {
                    self.recorder
                        .attribute(flow, *due, Attribution::UNKNOWN, to);
                }
            }
        }
    }

    /// Counts the pings to `target`, which are those of `of_target`; `None` if it is not there.
    fn balance(
        &self,
        target: VmId,
        of_target: &[FlowId],
        flows: &ByFlow,
        dropped: &FxHashMap<VmId, u64>,
    ) -> Option<Balance> {
        let mut balance = Balance {
            answered: self.vm(target)?.requests_answered(),
            dropped: dropped.get(&target).copied(),
            ..Balance::default()
        };
        let none = FlowLosses::default();
        for id in of_target {
            let of = flows.get(id).unwrap_or(&none);
            balance.sent += self.pings_begun(*id).saturating_sub(of.unresolved);
            balance.explained += of.explained;
            balance.abandoned += of.abandoned;
            balance.open += of.open.len() as u64;
        }
        Some(balance)
    }

    fn target_of(&self, flow: FlowId) -> Option<VmId> {
        self.flows.get(flow.index())?.target
    }

    /// The frames that the kernel dropped at the port of each VM and that no loss is put down to yet, if it counts them.
    fn dropped_at_ports(&mut self) -> FxHashMap<VmId, u64> {
        let counters = self.fabric.port_counters().unwrap_or_default();
        let explained = self.explained_at_ports();
        let left = counters.iter().map(|(vm, counted)| {
            let explained = explained.get(vm).copied().unwrap_or(0);
            (*vm, counted.tx_dropped.saturating_sub(explained))
        });
        let mut left: FxHashMap<VmId, u64> = left.collect();
        // What the filters of VMs drop, which is what was flooded, reaches all ports but two nearly alike.
        let filtered = left.values().min().copied().filter(|_| left.len() > 2);
        left.values_mut()
            .for_each(|frames| *frames -= filtered.unwrap_or(0));
        left
    }

    /// The frames dropped at the port of each VM that losses are put down to.
    fn explained_at_ports(&self) -> FxHashMap<VmId, u64> {
        let mut explained = FxHashMap::default();
        for (row, pings) in self.recorder.losses().rows() {
            if let (Cause::QueueFull | Cause::Filtered | Cause::Absent, Place::Vm(vm)) =
                (row.cause, row.place)
            {
                *explained.entry(vm).or_default() += pings;
            }
        }
        explained
    }

    /// The pings that a flow has begun.
    fn pings_begun(&self, flow: FlowId) -> u64 {
        let owner = self.flows.get(flow.index()).and_then(|flow| flow.ping);
        let begun = owner.and_then(|owner| self.vm(owner.vm)?.pings_begun(owner.session));
        begun.unwrap_or(0)
    }
}
