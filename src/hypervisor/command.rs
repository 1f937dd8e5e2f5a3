//! Commands: whatever changes a lab while it runs, and the one place where that is carried out.
//!
//! The phases of a plan, a program that [drives](crate::lab::LabOn::drive) a lab and its control socket all produce
//! [`Command`]s. They name VMs and flows by their ids; [`crate::lab`] finds these by name.

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::phases::STAY;
use super::{FlowConfig, Hypervisor, Moved, Phase, Relocation};
use crate::fabric::{Fabric, Instrument, Notice, Recording, Rule};
use crate::load::{FlowId, Pace, Pacing};
use crate::record::MarkName;
use crate::time::Instant;
use crate::vm::{Misbehaviour, SessionCounts, VmId};

/// A change of a lab.
#[derive(Debug)]
pub enum Command {
    /// These VMs, which were [announced](Hypervisor::expect_vm), start: one a turn, in this order. Others are left as they
    /// are.
    StartVms(Vec<VmId>),
    /// These VMs stop, all at once, with their flows, while the others continue. Pings to them get no reply; their own
    /// outstanding pings end as abandoned. One that was still to start does not. Others are left as they are.
    StopVms(Vec<VmId>),
    /// This VM moves to another place of the fabric, and announces itself there. It keeps all else: addresses, tables, pings.
    Move(VmId, Box<Relocation>),
    /// The moves of these VMs that are still to come in the present phase, those of a repeated one among them, are not made.
    EndMoves(Vec<VmId>),
    /// Flows are added, and ping from now on: in the present phase, as the others of it, and in those to come. Without a
    /// phase one without end begins. With a pace of their own they keep to that whatever the phases do, until they end, or
    /// the run does.
    StartFlows(Vec<FlowConfig>, Option<Pace>),
    /// These flows end; their outstanding pings end as abandoned.
    StopFlows(Vec<FlowId>),
    /// The flows without a pace of their own send at this one from now on, until a phase has another.
    SetPacing(Pacing),
    /// Frames are impaired by these rules from now on, in place of those so far, until a phase has others.
    Impair(Vec<Rule>),
    /// A VM misbehaves from now on.
    Misbehave {
        /// The VM.
        vm: VmId,
        /// What it does.
        misbehaviour: Misbehaviour,
        /// For how long; `None`: until [`Command::Behave`], and [`LONGEST_MISBEHAVIOUR`](crate::vm::LONGEST_MISBEHAVIOUR) at the
        /// longest.
        lasts: Option<Duration>,
    },
    /// These VMs, some of which may misbehave, do so no longer.
    Behave(Vec<VmId>),
    /// An instrument sees every frame and event from now on.
    Observe(Box<dyn Instrument>),
    /// The instrument with this number has seen enough: what it writes ends here.
    EndInstrument(u32),
    /// This instant has a name: from now on it is measured how long the pings of each flow take to pass, or no longer to; see
    /// [`Marks`](crate::record::Marks).
    Mark {
        /// The name, which several marks may have.
        name: MarkName,
        /// What the mark is about, such as `tap1 was set down`; empty if there is nothing to say.
        detail: String,
    },
    /// The run ends before its plan is complete: no further ping is sent, no VM starts or stops. Outstanding pings may still
    /// be answered, until [`Hypervisor::is_done`] or [`Hypervisor::give_up`].
    Stop,
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done, or will be.
    Done,
    /// Flows with these numbers were added.
    Flows(Range<u32>),
    /// A VM was moved.
    Moved(Moved),
    /// The move of a VM was begun, and goes on: [`Hypervisor::moved`] tells what comes of it.
    Moving,
    /// A mark was set at this time.
    Marked(Instant),
    /// An instrument with this number was added.
    Instrument(u32),
    /// An instrument that was ended has written this.
    Recording(Recording),
}

/// A command that can't be carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError<E> {
    /// The fabric refused an operation.
    #[error(transparent)]
    Fabric(#[from] E),
    /// It asks for what can't be. Nothing has changed.
    #[error("{0}")]
    Refused(String),
}

impl<F: Fabric> Hypervisor<F> {
    /// Carries out `command` at `now`.
    ///
    /// # Errors
    /// If it asks for what can't be, or the fabric refuses an operation.
    pub fn carry_out(
        &mut self,
        now: Instant,
        command: Command,
    ) -> Result<Outcome, CommandError<F::Error>> {
        match command {
            Command::StartVms(vms) => self.lifecycle.start(vms),
            Command::StopVms(vms) => self.stop_vms(now, &vms)?,
            Command::Move(vm, relocation) => {
                let moved = self.move_vm(now, vm, *relocation)?;
                return Ok(moved.map_or(Outcome::Moving, Outcome::Moved));
            }
            Command::EndMoves(vms) => self.end_moves_to_come(&vms),
            Command::StartFlows(flows, pace) => {
                let added = self.start_flows(now, flows, pace);
                let added = added.map_err(CommandError::Refused)?;
                self.fabric.tell(now, &Notice::FlowsAdded(added.clone()));
                return Ok(Outcome::Flows(added));
            }
            Command::StopFlows(flows) => {
                self.stop_flows(now, &flows);
                self.fabric.tell(now, &Notice::FlowsEnded(&flows));
            }
            Command::SetPacing(pacing) => {
                self.pacing = pacing;
                self.load.set_pacing(now, pacing);
                self.fabric.tell(now, &Notice::Paced(pacing));
            }
            Command::Impair(rules) => self.fabric.set_impairments(now, rules, self.seed),
            Command::Misbehave {
                vm,
                misbehaviour,
                lasts,
            } => {
                let begun = self.misbehave(now, vm, misbehaviour, lasts);
                begun.map_err(CommandError::Refused)?;
            }
            Command::Behave(vms) => self.behave_from(now, &vms),
            Command::Observe(instrument) => {
                return Ok(Outcome::Instrument(self.observe(now, instrument)));
            }
            Command::EndInstrument(number) => {
                let ended = self.fabric.end(number).cloned();
                return ended.map(Outcome::Recording).ok_or_else(|| {
                    let why = format!("there is no recording {number}; expected one that goes on");
                    CommandError::Refused(why)
                });
            }
            Command::Mark { name, detail } => {
                self.mark(now, name, detail);
                return Ok(Outcome::Marked(now));
            }
            Command::Stop => self.stop(now),
        }
        Ok(Outcome::Done)
    }

    /// Adds flows at `now`, and returns their numbers. The error says why they can't be.
    fn start_flows(
        &mut self,
        now: Instant,
        flows: Vec<FlowConfig>,
        pace: Option<Pace>,
    ) -> Result<Range<u32>, String> {
        if self.is_stopping {
            return Err("the run is ending; expected flows before that".to_owned());
        }
        self.check_sources(&flows)?;
        if self.is_between_phases() {
            self.end_schedule(Some(now));
            // A run of a single phase needs no name for it.
            let name = if self.is_planned { STAY } else { "" };
            self.begin_phase(now, Phase::open(name, self.pacing));
        }
        let first = self.flows.len() as u32;
        for mut config in flows {
            config.session.destination = self.present_destination(&config);
            self.add_flow(config);
        }
        let added = first..self.flows.len() as u32;
        if let Some(pace) = pace {
            self.load.set_apart(added.clone(), pace);
        } else {
            // They have no end.
            self.ends_with_apart = false;
            for phase in &mut self.phases {
                added
                    .clone()
                    .map(FlowId)
                    .for_each(|id| phase.load.flows.insert(id));
            }
        }
        if self.held.is_none() {
            for id in added.clone().map(FlowId) {
                self.join(now, id, pace.is_some());
            }
            self.load.begin_apart(now);
        }
        Ok(added)
    }

    /// Checks that the sources of `flows` exist, or will, and have room for them.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check_sources(&self, flows: &[FlowConfig]) -> Result<(), String> {
        let mut counts: FxHashMap<VmId, SessionCounts> = FxHashMap::default();
        for FlowConfig {
            source, session, ..
        } in flows
        {
            let counts = match counts.entry(*source) {
                Entry::Occupied(counts) => counts.into_mut(),
                Entry::Vacant(place) => place.insert(match self.vm(*source) {
                    Some(vm) => vm.session_counts(),
                    None if self.lifecycle.is_expected(*source) => SessionCounts::default(),
                    None => {
                        return Err(format!("{source} does not exist; expected a VM that is up"));
                    }
                }),
            };
            let added = counts.add(session.probe, session.destination);
            added.map_err(|why| format!("{source} would have {why}"))?;
        }
        Ok(())
    }

    /// Makes a flow that was just added take part in the present phase, or, if it is set apart, begin beside it.
    fn join(&mut self, now: Instant, id: FlowId, is_apart: bool) {
        if self.resolution.is_before_phases() {
            self.resolution.admit(id);
            return;
        }
        let is_open = self.flows.get(id.index());
        let is_open = is_open.is_some_and(|flow| flow.ping.is_some());
        if is_open && self.resolution.admit(id) {
            // It begins once its neighbour is known.
            self.load.suspend(id);
        }
        if !is_apart {
            self.load.join(now, id);
        }
    }

    fn stop_flows(&mut self, now: Instant, flows: &[FlowId]) {
        for id in flows {
            self.lifecycle.forget_flow(*id);
            self.flow_leaves(*id);
            let ping = self.flows.get_mut(id.index());
            if let Some(ping) = ping.and_then(|flow| flow.ping.take()) {
                self.abandon_pings_of_flow(now, ping);
            }
        }
        self.load.retire(flows);
    }

    /// Shows every frame and event from `now` on to `instrument`, and tells it of the flows that there are. Returns its number.
    fn observe(&mut self, now: Instant, mut instrument: Box<dyn Instrument>) -> u32 {
        instrument.begin(now);
        for (id, state) in (0..).map(FlowId).zip(&self.flows) {
            if let Some(owner) = state.ping
                && let Some(target) = self.target(owner, state.target)
            {
                instrument.flow(id, owner.vm, owner.session, target);
            }
        }
        self.fabric.add(instrument)
    }

    /// Returns true if neither a phase runs nor one is to come.
    fn is_between_phases(&self) -> bool {
        !self.is_waiting()
            && self.phases.is_empty()
            && (self.load.is_between_phases() || self.is_quiet())
    }
}
