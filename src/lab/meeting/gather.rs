//! The run of a rank between its gates, and one report of all.

use std::collections::HashSet;

use super::super::{Driver, LabOn};
use super::{Meeting, Side};
use crate::experiment::Experiment;
use crate::fabric::Fabric;
use crate::hypervisor::Command;
use crate::load::{FlowId, Target};
use crate::ranks::deadlines::DOCUMENTS;
use crate::ranks::{Gate, Leader};
use crate::reactor::End;
use crate::report::{RankDocument, RankPart, RankParts, Report};
use crate::system::{SystemError, host_name};
use crate::time::{Clock, Instant, MonotonicClock, earliest};
use crate::vm::VmId;

/// What became of the report of a rank.
#[derive(Debug)]
pub enum Gathered {
    /// It is that of the whole run.
    Whole(Box<Report>),
    /// Rank 0 has it, and tells it.
    Delivered(Box<Report>),
    /// Rank 0 can't have it, so that it is to be told here.
    Kept(Box<Report>),
}

/// The name of a phase, for who is told of a rank that is gone in it.
fn phase_words(plan: &Experiment, begun: usize) -> String {
    let phase = begun.checked_sub(1).and_then(|last| plan.phases.get(last));
    match phase {
        Some(phase) if !phase.name.is_empty() => format!("phase {:?}", phase.name),
        Some(_) => "the run".to_owned(),
        None => String::new(),
    }
}

impl<F, D> LabOn<'_, F, D>
where
    F: Fabric,
    D: Driver<F>,
    SystemError: From<F::Error>,
{
    /// Waits at `gate` until all ranks have come there. VMs answer meanwhile. A signal, or the end of another rank, ends the wait.
    /// Where a tunnel connects the labs, this rank comes to the gate when it has heard of all others through that, and can be
    /// heard until all have.
    ///
    /// # Errors
    /// If the system refuses, or nothing of another rank comes through.
    pub(in crate::lab) fn pass(&mut self, gate: Gate) -> Result<(), SystemError> {
        let passed = self.come_and_wait(gate);
        self.driver.end_probe();
        passed
    }

    fn come_and_wait(&mut self, gate: Gate) -> Result<(), SystemError> {
        let mut has_come = false;
        while let Some(meeting) = &mut self.meeting {
            let probed = self.driver.probe_others(&self.plan)?;
            if !has_come && probed.is_none_or(|probed| probed.is_whole) {
                meeting.arrive(gate);
                has_come = true;
            }
            meeting.look_after()?;
            if meeting.takes(gate) || meeting.is_stopped {
                return Ok(());
            }
            let next = probed.map(|probed| probed.next_at);
            self.driver.call_at(earliest(meeting.timeout(), next));
            match self.driver.run(&mut self.hypervisor, None)? {
                End::Called => {}
                end => {
                    self.ended_early = Some(end);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Passes gates with the other ranks, and ends the run with them. Returns the time by which to look again.
    pub(in crate::lab) fn meet_others(&mut self) -> Result<Option<Instant>, SystemError> {
        let Some(meeting) = &mut self.meeting else {
            return Ok(None);
        };
        if self.hypervisor.is_stopping()
            && !meeting.is_stopped
            && !std::mem::replace(&mut meeting.tells_stop, true)
        {
            meeting.stop(None);
        }
        if let Some((number, is_phase)) = self.hypervisor.take_gate() {
            meeting.arrive(match is_phase {
                true => Gate::Phase(number),
                false => Gate::End,
            });
        }
        meeting.set_phase(&phase_words(&self.plan, self.hypervisor.phases_begun()));
        meeting.look_after()?;
        while let Some((gate, at)) = meeting.open.pop_front() {
            // One before a phase may have been opened when this rank had just been told to end.
            if gate == Gate::End || !self.hypervisor.is_stopping() {
                self.hypervisor.open_gate(at);
            }
        }
        if meeting.is_stopped && !self.hypervisor.is_stopping() {
            let now = self.driver.now();
            // To stop can't fail.
            let _ = self.hypervisor.carry_out(now, Command::Stop);
        }
        Ok(meeting.timeout())
    }

    /// Tells response apart of the flows to VMs of other ranks that misbehave by the plan: the hypervisor does not know those VMs.
    pub(in crate::lab) fn tell_offenders_elsewhere(&mut self) {
        let phases = self.plan.phases.iter();
        let offenders = phases.flat_map(|phase| &phase.misbehaviours_elsewhere);
        let offenders: HashSet<VmId> = offenders.map(|planned| planned.vm).collect();
        for (id, flow) in (0..).map(FlowId).zip(&self.plan.flows) {
            if matches!(flow.target, Target::Vm(vm) if offenders.contains(&vm)) {
                self.hypervisor.recorder().set_misbehaving(id);
            }
        }
    }

    /// The run has ended at this rank: no ping of its own is on its way any more.
    pub(in crate::lab) fn tell_end(&mut self, ended: &Result<End, SystemError>) {
        let phase = phase_words(&self.plan, self.hypervisor.phases_begun());
        let Some(meeting) = &mut self.meeting else {
            return;
        };
        meeting.set_phase(&phase);
        let why = match ended {
            Ok(End::Done | End::Called) => return,
            Ok(End::Signal(_) | End::Stopped) => None,
            Err(error) => Some(error.to_string()),
        };
        if why.is_some() || !std::mem::replace(&mut meeting.tells_stop, true) {
            meeting.stop(why.as_deref());
        }
        meeting.arrive(Gate::End);
    }

    /// Gives the report to rank 0, or gathers those of all there. Of a run that is not of several ranks it is the report. What is
    /// amiss in other ranks is kept for [`LabOn::judge`].
    pub fn gather(&mut self, mut report: Report) -> Gathered {
        let Some(part) = &self.plan.part else {
            return Gathered::Whole(Box::new(report));
        };
        let rank = part.rank;
        let Some(mut meeting) = self.meeting.take() else {
            return Gathered::Whole(Box::new(report));
        };
        let amiss = match rank.is_first() {
            // It judges the report, and tells its own then.
            true => Vec::new(),
            false => self.refusals(),
        };
        let of_others: Vec<_> = self.hypervisor.losses_of_others().collect();
        let elsewhere = self.hypervisor.misbehaviours_elsewhere().len();
        let streams = self.stream_names();
        let measured = (&*self.hypervisor.recorder(), streams.as_slice());
        let mut document =
            RankDocument::new((report.clone(), elsewhere), measured, of_others, amiss);
        // What they did there is not known here.
        let own = report.misbehaviours.len().saturating_sub(elsewhere);
        report.misbehaviours.truncate(own);
        let gathered = match &mut meeting.side {
            Side::First(leader, ..) => {
                leader.deliver(MonotonicClock.now());
                let mut gathering = Gathering::new(document);
                gathering.take_in(leader);
                meeting.gathering = Some(gathering);
                self.deliver(&mut meeting);
                let (report, amiss) = whole(&mut meeting, report);
                self.amiss_elsewhere = amiss;
                Gathered::Whole(Box::new(report))
            }
            Side::Other(connecting) => {
                if let Some((member, _)) = &mut connecting.connected
                    && let Ok(text) = document.to_text()
                {
                    member.deliver(MonotonicClock.now(), &text, DOCUMENTS);
                }
                self.deliver(&mut meeting);
                match meeting.is_delivered {
                    true => Gathered::Delivered(Box::new(report)),
                    false => {
                        let why = meeting.failed.take();
                        let why = why.unwrap_or_else(|| "rank 0 is gone".to_owned());
                        self.amiss_elsewhere = vec![format!("rank {}: {why}", rank.number())];
                        self.amiss_elsewhere
                            .extend(document.tell_alone(&mut report));
                        Gathered::Kept(Box::new(report))
                    }
                }
            }
        };
        self.meeting = Some(meeting);
        gathered
    }

    /// Waits until what was measured is where it belongs, or can't come there.
    fn deliver(&mut self, meeting: &mut Meeting) {
        loop {
            let looked_after = meeting.look_after();
            let is_member_alone = match &meeting.side {
                Side::First(..) => false,
                Side::Other(connecting) => connecting
                    .connected
                    .as_ref()
                    .is_none_or(|(member, _)| member.timeout().is_none()),
            };
            if looked_after.is_err() || meeting.is_delivered || is_member_alone {
                return;
            }
            if self.driver.wait_for_ranks(meeting.timeout()).is_err() {
                return;
            }
        }
    }
}

/// What all ranks have told so far, at rank 0.
#[derive(Debug)]
pub(super) struct Gathering {
    parts: RankParts,
    /// The ranks of which it can't be read, and why.
    unread: Vec<(u32, String)>,
}

impl Gathering {
    fn new(own: RankDocument) -> Gathering {
        Gathering {
            parts: RankParts::new(RankPart {
                rank: 0,
                host: host_name(),
                clock: Default::default(),
                document: own,
            }),
            unread: Vec::new(),
        }
    }

    /// Takes in what has come to `leader`.
    pub(super) fn take_in(&mut self, leader: &mut Leader) {
        while let Some(delivery) = leader.next_delivery() {
            match RankDocument::parse(&delivery.document) {
                Ok(document) => self.parts.add(RankPart {
                    rank: delivery.rank,
                    host: delivery.host,
                    clock: delivery.clock,
                    document,
                }),
                Err(error) => self.unread.push((delivery.rank, error.to_string())),
            }
        }
    }
}

/// The report of all ranks that have told theirs, and what is amiss in them; `own` if it can't be had.
fn whole(meeting: &mut Meeting, own: Report) -> (Report, Vec<String>) {
    let Some(mut gathering) = meeting.gathering.take() else {
        return (own, Vec::new());
    };
    gathering.unread.sort();
    let unread = gathering.unread.into_iter();
    let unread =
        unread.map(|(rank, why)| format!("what rank {rank} has measured can't be read: {why}"));
    let mut amiss: Vec<String> = unread.collect();
    amiss.extend(meeting.failed.take());
    match gathering.parts.merge() {
        Some((report, of_ranks)) => {
            amiss.extend(of_ranks);
            (report, amiss)
        }
        None => (own, amiss),
    }
}
