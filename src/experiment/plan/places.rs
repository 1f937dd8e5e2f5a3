//! Follows VMs from place to place through the moves of a plan: one that can't be is told of before the run.

use rustc_hash::{FxHashMap, FxHashSet};

use super::PlanContext;
use super::moves::moves;
use crate::experiment::settings::{SettingError, Settings};
use crate::fabric::Place;
use crate::hypervisor::{Phase, PlannedMove, Relocation};
use crate::time::Instant;
use crate::topology::{Topology, leaf_name};
use crate::vm::VmId;

/// The places of the VMs of a plan.
pub(super) struct Places<'a> {
    context: &'a PlanContext<'a>,
    /// `None` where all places are alike, as in a simulation.
    topology: Option<Topology>,
    /// VMs that have started or stopped by now: where these are is not followed.
    changing: FxHashSet<VmId>,
    /// Others may move VMs while the run goes on, so that nothing is known.
    is_steered: bool,
    /// Where those are that were moved; `None` of one of which that is not known.
    moved: FxHashMap<VmId, Option<Stay>>,
}

/// The stay of a VM at a place.
#[derive(Clone)]
struct Stay {
    at: Place,
    /// Where it was before its last move.
    before: Option<Place>,
    /// The end of the moves to and fro in this phase that have led to it.
    settles: Option<Instant>,
}

/// Why a VM can't be moved.
enum Refusal {
    AtAlready(Place),
    NotMoved,
}

impl<'a> Places<'a> {
    /// The VMs are where the lab of `context` has them; some are `starting` in the run. Others may move VMs too if the run
    /// `is_steered`.
    pub(super) fn new(
        context: &'a PlanContext<'a>,
        starting: impl Iterator<Item = VmId>,
        is_steered: bool,
    ) -> Places<'a> {
        let topology = context.lab.topology().and_then(Result::ok);
        Places {
            context,
            topology: topology.filter(|_| !context.are_simulated),
            changing: starting.collect(),
            is_steered,
            moved: FxHashMap::default(),
        }
    }

    /// Reads the moves of the next phase, in the order of their times. Of a value about several VMs those are left out that are
    /// at its place already, or were not moved yet and are to go back.
    ///
    /// # Errors
    /// If a value can't be understood, or moves no VM.
    pub(super) fn moves(
        &mut self,
        settings: &Settings,
        phase: &Phase,
    ) -> Result<Vec<PlannedMove>, SettingError> {
        let planned = moves(settings, Some(phase), self.context)?;
        if self.is_steered {
            return Ok(planned.into_iter().map(|(_, planned)| planned).collect());
        }
        let changing = phase.transitions.iter().map(|transition| transition.vm);
        self.changing.extend(changing);
        for stay in self.moved.values_mut().flatten() {
            stay.settles = None;
        }
        // Of each value: it moves a VM, and why it does not move the first one that it does not.
        let values = settings.all("move");
        let mut moving = vec![false; values.len()];
        let mut left_out: Vec<Option<String>> = vec![None; values.len()];
        let mut kept = Vec::with_capacity(planned.len());
        for (number, planned) in planned {
            match (self.follow(&planned), left_out.get_mut(number)) {
                (Ok(()), _) => {
                    if let Some(moving) = moving.get_mut(number) {
                        *moving = true;
                    }
                    kept.push(planned);
                }
                (Err(refusal), Some(why)) => {
                    why.get_or_insert_with(|| refusal.of(planned.vm));
                }
                (Err(_), None) => {}
            }
        }
        for ((value, moves), why) in values.iter().zip(moving).zip(left_out) {
            if let (false, Some(why)) = (moves, why) {
                return Err(value.error(why));
            }
        }
        Ok(kept)
    }

    /// Follows a VM to its next place.
    fn follow(&mut self, planned: &PlannedMove) -> Result<(), Refusal> {
        let vm = planned.vm;
        if self.changing.contains(&vm) {
            return Ok(());
        }
        let stay = match self.moved.get(&vm) {
            Some(None) => return Ok(()),
            Some(Some(stay)) => stay.clone(),
            None => Stay {
                at: self.first_place(vm),
                before: None,
                settles: None,
            },
        };
        let begins = Instant::ZERO + planned.after;
        let next = match stay.settles.is_some_and(|settles| begins <= settles) {
            // It comes between moves to and fro.
            true => None,
            false => Some(self.next(stay, begins, &planned.relocation)?),
        };
        self.moved.insert(vm, next);
        Ok(())
    }

    /// The stay that follows on another by a move at `begins`.
    fn next(&self, stay: Stay, begins: Instant, to: &Relocation) -> Result<Stay, Refusal> {
        let settles = begins + to.every.saturating_mul(to.repeat - 1);
        let settles = (to.repeat > 1).then_some(settles);
        let there = match &to.to {
            Place::Port => {
                return Ok(Stay {
                    before: Some(stay.at.clone()),
                    settles,
                    ..stay
                });
            }
            Place::Back => stay.before.ok_or(Refusal::NotMoved)?,
            other => self.named(other),
        };
        if self.topology.is_some() && there == stay.at {
            return Err(Refusal::AtAlready(there));
        }
        let is_back = to.repeat.is_multiple_of(2);
        let (at, before) = match is_back {
            true => (stay.at, there),
            false => (there, stay.at),
        };
        Ok(Stay {
            at,
            before: Some(before),
            settles,
        })
    }

    /// Where the lab has a VM.
    fn first_place(&self, vm: VmId) -> Place {
        match &self.topology {
            Some(tree) if tree.leaves() > 0 => Place::Leaf(tree.leaf_of(vm)),
            _ => Place::Bridge(self.context.lab.bridge.clone()),
        }
    }

    /// The same place by the name that the lab itself has for it.
    fn named(&self, place: &Place) -> Place {
        let leaves = self.topology.as_ref().map_or(0, Topology::leaves);
        let (bridge, prefix) = (
            &self.context.lab.bridge,
            leaf_name(&self.context.lab.bridge, 0),
        );
        let number = match place {
            Place::Bridge(name) if name != bridge => name
                .strip_prefix(prefix.trim_end_matches('0'))
                .and_then(|number| number.parse().ok()),
            _ => None,
        };
        match number {
            Some(number) if number < leaves => Place::Leaf(number),
            _ => place.clone(),
        }
    }
}

impl Refusal {
    /// It in words, of a VM and any others of the same value.
    fn of(&self, vm: VmId) -> String {
        match self {
            Refusal::AtAlready(place) => format!(
                "{vm} is at {place} already; expected another place, or port for another port of the same bridge"
            ),
            Refusal::NotMoved => format!("{vm} was not moved yet; expected a place to go to"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::experiment::{Scenario, plan};

    /// Two leaves of two VMs each. Returns the VMs that each phase moves, in order.
    fn moved(lines: &str) -> Result<Vec<Vec<u32>>, String> {
        let mut text = format!("vms = 4\nping = 'vm0:vm3'\ncount = 1_000\n{lines}");
        if !lines.contains("ports-per-bridge") && !lines.contains("sim") {
            text.insert_str(0, "ports-per-bridge = 2\n");
        }
        let scenario = Scenario::parse("t.toml", &text).map_err(|error| error.to_string())?;
        let plan = plan(&scenario).map_err(|error| error.to_string())?;
        let vms = |phase: &crate::hypervisor::Phase| {
            phase.moves.iter().map(|planned| planned.vm.0).collect()
        };
        Ok(plan.phases.iter().map(vms).collect())
    }

    #[test]
    fn a_move_to_where_the_vm_is_by_then_is_told_of_before_the_run() {
        let at =
            |vm: u32, place: &str| format!("vm{vm} is at {place} already; expected another place");
        for (lines, said) in [
            ("move = 'vm1:leaf0@300ms'", at(1, "leaf0")),
            ("move = 'vm1:br0-0'", at(1, "leaf0")),
            ("move = 'vm[2-3]:leaf1'", at(2, "leaf1")),
            ("move = 'vm1:br0'\nports-per-bridge = 4", at(1, "br0")),
            ("move = ['vm1:leaf1@2s', 'vm1:leaf1@3s']", at(1, "leaf1")),
            // In the order of their times.
            ("move = ['vm1:leaf0@1s', 'vm1:leaf1@2s']", at(1, "leaf0")),
            (
                "move = ['vm1:leaf0@2s', 'vm1:leaf1@1s', 'vm1:leaf0@3s']",
                at(1, "leaf0"),
            ),
            (
                "[[phase]]\nmove = 'vm1:leaf1'\n[[phase]]\nmove = 'vm1:leaf1'",
                at(1, "leaf1"),
            ),
            (
                "move = 'vm1:back@300ms'",
                "vm1 was not moved yet; expected a place".to_owned(),
            ),
            (
                "move = ['vm1:back@1s', 'vm1:leaf1@2s']",
                "vm1 was not moved yet".to_owned(),
            ),
            (
                "fabric = 'sim'\nmove = 'vm1:back'",
                "vm1 was not moved yet".to_owned(),
            ),
            ("move = ['vm1:port', 'vm1:back@1s']", at(1, "leaf0")),
            // There and back, and there again.
            (
                "repeat = 2\n[[phase]]\nmove = 'vm1:leaf1'\n[[phase]]\nmove = 'vm1:leaf0'",
                at(1, "leaf0"),
            ),
            (
                "repeat = 3\n[[phase]]\nmove = 'vm1:leaf1'\n[[phase]]\nmove = 'vm1:leaf1'",
                at(1, "leaf1"),
            ),
        ] {
            let error = moved(lines).expect_err(lines);
            assert!(error.contains(&said), "{lines}: {error}");
        }
    }

    #[test]
    fn moves_that_can_be_are_planned_and_of_several_vms_those_move_that_are_elsewhere() {
        for (lines, expected) in [
            (
                "move = ['vm1:leaf1@1s', 'vm1:back@2s', 'vm1:back@3s']",
                vec![vec![1, 1, 1]],
            ),
            ("move = ['vm1:leaf1@1s', 'vm1:leaf0@2s']", vec![vec![1, 1]]),
            ("move = 'vm1:port'\nrepeat = 3", vec![vec![1]]),
            ("move = ['vm1:br0', 'vm1:leaf0@1s']", vec![vec![1, 1]]),
            ("move = 'vm[0-3]:leaf1'", vec![vec![0, 1]]),
            ("move = ['vm1:leaf1', 'vm[0-3]:back@1s']", vec![vec![1, 1]]),
            ("move = 'vm1:leaf0'\nfabric = 'sim'", vec![vec![1]]),
            // Between moves to and fro it may be anywhere, as it may if others can move it.
            (
                "move = ['vm1:leaf1,every=1s', 'vm1:leaf1@1s']\nrepeat = 2",
                vec![vec![1, 1]],
            ),
            ("move = 'vm1:back'\ncontrol = 'lab.sock'", vec![vec![1]]),
            (
                "[[phase]]\nmove = 'vm1:leaf1'\n[[phase]]\nmove = 'vm1:back'",
                vec![vec![1], vec![1]],
            ),
            // One that stops later is followed until then.
            (
                "[[phase]]\nduration = '1s'\nmove = 'vm[1-3]:leaf1'\n[[phase]]\nduration = '1s'\nstop = 'vm3'",
                vec![vec![1], vec![]],
            ),
        ] {
            assert_eq!(moved(lines), Ok(expected), "{lines}");
        }
    }
}
