//! Explains what is left at the end of a run by what was counted.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::elimination::{Balance, Found, OpenFlow, eliminate};
use super::{FlowLosses, Pings};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::load::FlowId;
use crate::record::Attribution;
use crate::time::Instant;
use crate::vm::VmId;

type ByFlow = BTreeMap<FlowId, FlowLosses>;

impl<F: Fabric> Hypervisor<F> {
    /// Explains the lost pings of which nothing is known, by what was counted. To be called at the end of a run, when none is
    /// on its way.
    pub fn explain_rest(&mut self, now: Instant) {
        self.look_at_drops(now);
        self.look_at_held_streams();
        let Some(search) = &mut self.loss_search else {
            return;
        };
        let flows = std::mem::take(&mut search.flows);
        let is_left = |of: &FlowLosses| of.open > 0 || !of.stray.is_empty();
        let left = flows.iter().filter(|(_, of)| is_left(of));
        let targets: Vec<VmId> = left.filter_map(|(flow, _)| self.target_of(*flow)).collect();
        if targets.is_empty() {
            return;
        }
        let mut dropped = self.dropped_at_ports();
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
            let Some(balance) = self.balance(target, &of_target, &flows) else {
                continue;
            };
            let open_flow = |id: &FlowId| {
                let of = flows.get(id)?;
                let present = || self.flows.get(id.index())?.ping.map(|owner| owner.vm);
                let left = of.left.map(|(source, _)| source);
                Some(OpenFlow {
                    id: *id,
                    source: left.or_else(present)?,
                    counted: of.open,
                    uncounted: of.open_uncounted,
                    stray: of.stray(),
                })
            };
            let open = of_target.iter().filter_map(open_flow);
            let open: Vec<OpenFlow> = open.filter(|of| of.open() + of.stray > 0).collect();
            let rows = eliminate(target, balance, &open, &mut dropped);
            for (of, Found { open: rows, stray }) in open.iter().zip(rows) {
                if let Some(losses) = flows.get(&of.id) {
                    self.attribute_stray((of.id, losses), stray);
                }
                // Which of them was lost to what nobody knows, unless they were all lost to one.
                if let [(to, _)] = rows.as_slice() {
                    self.recorder.attribute_rest(of.id, to.cause);
                }
                // Phases that do not count are the first.
                let mut uncounted = of.uncounted;
                for (to, pings) in rows {
                    let left_out = pings.min(uncounted);
                    uncounted -= left_out;
                    self.recorder.attribute_counted(
                        of.id,
                        pings - left_out,
                        Attribution::UNKNOWN,
                        to,
                    );
                }
            }
        }
    }

    /// Puts stray pings of a flow, as many as were answered after all, down to what became of the replies.
    fn attribute_stray(
        &mut self,
        (flow, losses): (FlowId, &FlowLosses),
        answered: Vec<(Attribution, u64)>,
    ) {
        let mut stray: Vec<(Attribution, Pings)> =
            losses.stray.iter().map(|(from, of)| (*from, *of)).collect();
        for (to, mut pings) in answered {
            for (from, of) in &mut stray {
                // Phases that do not count are the first.
                let left_out = pings.min(of.uncounted);
                let counted = (pings - left_out).min(of.counted);
                of.uncounted -= left_out;
                of.counted -= counted;
                pings -= left_out + counted;
                self.recorder.attribute_counted(flow, counted, *from, to);
            }
        }
    }

    /// Counts the pings to `target`, which are those of `of_target`; `None` if it is not there.
    fn balance(&self, target: VmId, of_target: &[FlowId], flows: &ByFlow) -> Option<Balance> {
        // It has answered requests to groups as well, and these are in no balance.
        let is_ambiguous = self.recorder.has_members();
        let mut balance = Balance {
            answered: self.vm(target)?.requests_answered(),
            is_ambiguous,
            ..Balance::default()
        };
        let none = FlowLosses::default();
        for id in of_target {
            let of = flows.get(id).unwrap_or(&none);
            let begun = || self.pings_begun(*id);
            let begun = of.left.map_or_else(begun, |(_, begun)| begun);
            balance.sent += begun.saturating_sub(of.unresolved);
            balance.explained += of.explained;
            // Who asks for an address to find a neighbour is answered alike.
            balance.is_ambiguous |= of.abandoned > 0 || !self.is_numbered(*id);
            // A SYN that is repeated may be answered more than once.
            balance.is_ambiguous |= self.repeats_syns(*id);
            balance.open += of.open + of.open_uncounted;
            balance.stray += of.stray();
        }
        Some(balance)
    }

    /// Returns true if the pings of a flow are told from other frames by numbers; of one that has left nobody knows.
    fn is_numbered(&self, flow: FlowId) -> bool {
        let owner = self.flows.get(flow.index()).and_then(|flow| flow.ping);
        let probe = owner.and_then(|owner| self.vm(owner.vm)?.probe(owner.session));
        probe.is_none_or(|probe| probe.kind.is_numbered())
    }

    /// Returns true if the source of a flow has repeated SYNs.
    fn repeats_syns(&self, flow: FlowId) -> bool {
        let owner = self.flows.get(flow.index()).and_then(|flow| flow.ping);
        let source = owner.and_then(|owner| self.vm(owner.vm));
        source.is_some_and(|source| source.connections().syns_repeated > 0)
    }

    fn target_of(&self, flow: FlowId) -> Option<VmId> {
        self.flows.get(flow.index())?.target
    }

    /// The frames that the kernel dropped at the port of each VM and that no loss is put down to yet, if it counts them.
    fn dropped_at_ports(&mut self) -> FxHashMap<VmId, u64> {
        let counters = self.fabric.port_counters().unwrap_or_default();
        let search = self.loss_search.as_ref();
        let left = counters.iter().map(|(vm, counted)| {
            let explained = search.and_then(|search| search.explained_at.get(vm));
            let explained = explained.copied().unwrap_or(0);
            (*vm, counted.tx_dropped.saturating_sub(explained))
        });
        let mut left: FxHashMap<VmId, u64> = left.collect();
        // What the filters of VMs drop, which is what was flooded, reaches all ports but two nearly alike.
        let filtered = left.values().min().copied().filter(|_| left.len() > 2);
        left.values_mut()
            .for_each(|frames| *frames -= filtered.unwrap_or(0));
        left
    }

    /// The pings that a flow has begun; 0 if it or its source has left.
    pub(super) fn pings_begun(&self, flow: FlowId) -> u64 {
        let owner = self.flows.get(flow.index()).and_then(|flow| flow.ping);
        let begun = owner.and_then(|owner| self.vm(owner.vm)?.pings_begun(owner.session));
        begun.unwrap_or(0)
    }
}
