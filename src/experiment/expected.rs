//! The number of pings and of frames that are due in each phase of a plan, computed before the run.

use std::collections::HashMap;
use std::time::Duration;

use super::{Experiment, FlowPlan};
use crate::hypervisor::{Change, Phase};
use crate::load::{Arrivals, Pacing, PhaseLoad, Start, Target};
use crate::vm::VmId;

/// The number of pings that are due, or of frames of streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    /// The number; `None` where it depends on replies, on a signal, or on what a draft does not list.
    pub pings: Option<u64>,
    /// True if it is exact. It is not if pings are due at random, or if VMs start or stop in the phase.
    pub is_exact: bool,
}

impl Expected {
    /// What is due of `load` within `duration`, while all VMs are up.
    pub(super) fn of(load: &PhaseLoad, duration: Option<Duration>) -> Expected {
        Expected {
            pings: load.pings_due(duration),
            is_exact: is_exact(load, duration),
        }
    }

    pub(super) fn add(&mut self, other: Expected) {
        let both = self.pings.zip(other.pings);
        self.pings = both.map(|(a, b)| a.saturating_add(b));
        self.is_exact &= other.is_exact;
    }
}

/// The part of a phase in which a VM is up.
#[derive(Clone, Copy)]
struct Stay {
    from: Duration,
    until: Duration,
}

impl Experiment {
    /// Returns the number of pings that are due in each phase.
    pub fn expected_pings(&self) -> Vec<Expected> {
        let transitions = self.phases.iter().flat_map(|phase| &phase.transitions);
        if transitions.count() == 0 {
            let phases = self.phases.iter();
            return phases
                .map(|phase| Expected::of(&phase.load, phase.duration))
                .collect();
        }
        // Who comes later; who has left.
        let mut awaited = self.pending_vms();
        let mut left = std::collections::HashSet::new();
        let mut expected = Vec::new();
        for phase in &self.phases {
            let end = phase.duration.unwrap_or(Duration::MAX);
            let mut stays: HashMap<VmId, Stay> = HashMap::new();
            for each in &phase.transitions {
                let stay = stays.entry(each.vm).or_insert(Stay {
                    from: Duration::ZERO,
                    until: end,
                });
                match each.change {
                    Change::Start => {
                        stay.from = each.after;
                        awaited.remove(&each.vm);
                    }
                    Change::Stop => stay.until = each.after,
                }
            }
            let stay = |vm: VmId| match awaited.contains(&vm) || left.contains(&vm) {
                true => None,
                false => Some(stays.get(&vm).copied().unwrap_or(Stay {
                    from: Duration::ZERO,
                    until: end,
                })),
            };
            expected.push(Expected {
                pings: self.pings_of(phase, stay),
                is_exact: is_exact(&phase.load, phase.duration) && stays.is_empty(),
            });
            let stops = phase
                .transitions
                .iter()
                .filter(|m| m.change == Change::Stop);
            left.extend(stops.map(|m| m.vm));
        }
        expected
    }

    /// The pings of a phase in which VMs come and go: those of each flow while both of its ends are there.
    fn pings_of(&self, phase: &Phase, stay: impl Fn(VmId) -> Option<Stay>) -> Option<u64> {
        let load = &phase.load;
        let flows = load.flows.iter().map(|id| self.flows.get(id.index()));
        let flows: Vec<&FlowPlan> = flows.collect::<Option<_>>()?;
        let stays = (0u32..).zip(flows).filter_map(|(number, flow)| {
            let here = stay(flow.source)?;
            let there = match flow.target {
                Target::Vm(vm) => stay(vm)?,
                Target::Address(_) => here,
            };
            let from = here.from.max(there.from);
            let until = here.until.min(there.until);
            (from < until).then_some((number, Stay { from, until }))
        });
        let count = load.count.unwrap_or(u64::MAX);
        match load.pacing {
            // Who comes in the course of a phase begins at once.
            Pacing::Interval(_) if phase.duration.is_some() => {
                let pings = stays.map(|(number, stay)| {
                    let first = match stay.from {
                        Duration::ZERO => load.first_expected(number),
                        from => from,
                    };
                    load.pings_between(first, stay.until)
                });
                Some(pings.fold(0, u64::saturating_add))
            }
            Pacing::Rate(_) if phase.duration.is_some() => {
                let (flows, time) = together(stays.map(|(_, stay)| stay).collect());
                let due = load.pings_due(Some(time)).unwrap_or(u64::MAX);
                Some(due.min(count.saturating_mul(flows)))
            }
            _ => {
                let flows = stays.count() as u64;
                load.count.map(|count| count.saturating_mul(flows))
            }
        }
    }
}

/// Returns their number, and the time in which at least one of them is up.
fn together(mut stays: Vec<Stay>) -> (u64, Duration) {
    stays.sort_by_key(|stay| stay.from);
    let (mut time, mut until) = (Duration::ZERO, Duration::ZERO);
    for stay in &stays {
        let from = stay.from.max(until);
        time = time.saturating_add(stay.until.saturating_sub(from));
        until = until.max(stay.until);
    }
    (stays.len() as u64, time)
}

/// Returns true if the number of pings does not depend on random choices.
fn is_exact(load: &PhaseLoad, duration: Option<Duration>) -> bool {
    let is_spread = matches!(load.start, Start::Spread | Start::Within(Duration::ZERO));
    duration.is_none()
        || load.arrivals == Arrivals::Uniform
            && (is_spread || !matches!(load.pacing, Pacing::Interval(_)))
}
