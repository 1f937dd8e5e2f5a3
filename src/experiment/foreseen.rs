//! How many pings a plan is expected to send, VMs that come up and leave in the course of it included.

use std::collections::HashMap;
use std::time::Duration;

use super::{Experiment, FlowPlan};
use crate::hypervisor::{Change, Phase};
use crate::load::{Pacing, Target};
use crate::vm::VmId;

/// From when to when a VM is there, from the beginning of a phase on. It never comes up where there is no `from`.
#[derive(Clone, Copy)]
struct Presence {
    from: Option<Duration>,
    until: Duration,
}

impl Experiment {
    /// How many pings are due in each phase: exactly, or what is to be expected where that is a matter of chance. `None`
    /// where that depends on replies or has no end.
    pub fn pings_due(&self) -> Vec<Option<u64>> {
        // VMs that move; all others are there.
        let mut moving: HashMap<VmId, Presence> = HashMap::new();
        for vm in self.newcomers() {
            let until = Duration::MAX;
            moving.insert(vm, Presence { from: None, until });
        }
        let of_phase = |phase: &Phase| {
            for m in &phase.moves {
                let here = moving.entry(m.vm).or_insert(Presence {
                    from: Some(Duration::ZERO),
                    until: Duration::MAX,
                });
                match m.change {
                    Change::Start => here.from = Some(m.after),
                    Change::Stop => here.until = m.after,
                }
            }
            let pings = match moving.is_empty() || !self.lists_all_flows() {
                true => phase.load.pings_due(phase.duration),
                false => self.pings_of_moving(phase, &moving),
            };
            for here in moving.values_mut() {
                here.from = here.from.map(|_| Duration::ZERO);
                if here.until < Duration::MAX {
                    here.until = Duration::ZERO;
                }
            }
            pings
        };
        self.phases.iter().map(of_phase).collect()
    }

    fn pings_of_moving(&self, phase: &Phase, moving: &HashMap<VmId, Presence>) -> Option<u64> {
        let range = phase.load.flows.start as usize..phase.load.flows.end as usize;
        let flows = self.flows.get(range).unwrap_or_default();
        let load = &phase.load;
        let times: Vec<_> = (0..)
            .zip(flows)
            .filter_map(|(number, flow)| {
                let (from, until) = presence(flow, moving)?;
                // Flows of VMs that come later are spread by that.
                let first = match from {
                    Duration::ZERO => load.expected_start(number),
                    later => later,
                };
                Some((first, until))
            })
            .collect();
        let by_count = load
            .count
            .map(|count| count.saturating_mul(times.len() as u64));
        let Some(duration) = phase.duration else {
            return by_count;
        };
        let by_time = match load.pacing {
            Pacing::Window(_) => return by_count,
            // As long as anybody is there.
            Pacing::Rate(_) => {
                let first = times.iter().map(|(from, _)| *from).min();
                let last = times.iter().map(|(_, until)| *until).max();
                let (first, last) = first.zip(last)?;
                let due = |time: Duration| load.pings_due(Some(time.min(duration)));
                due(last)?.saturating_sub(due(first)?)
            }
            Pacing::Interval(_) => times
                .iter()
                .map(|(from, until)| {
                    load.pings_of_flow((*until).min(duration).saturating_sub(*from))
                })
                .fold(0, u64::saturating_add),
        };
        Some(by_count.map_or(by_time, |count| count.min(by_time)))
    }
}

/// From when to when a flow is there, if it does: from when both ends are up until its source leaves.
fn presence(flow: &FlowPlan, moving: &HashMap<VmId, Presence>) -> Option<(Duration, Duration)> {
    let of = |vm| {
        moving.get(&vm).copied().unwrap_or(Presence {
            from: Some(Duration::ZERO),
            until: Duration::MAX,
        })
    };
    let source = of(flow.source);
    let target = match flow.target {
        Target::Vm(vm) => of(vm).from?,
        Target::Address(_) => Duration::ZERO,
    };
    let from = source.from?.max(target);
    (from < source.until).then_some((from, source.until))
}
