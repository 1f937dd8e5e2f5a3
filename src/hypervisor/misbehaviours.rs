//! VMs that misbehave on purpose: by command, or on the schedule of a phase.

use std::net::IpAddr;
use std::time::Duration;

use super::lifecycle::Due;
use super::{Hypervisor, Phase};
use crate::fabric::{Fabric, MisbehaviourRecord, Notice, check_copies_of};
use crate::load::FlowId;
use crate::time::Instant;
use crate::vm::{LONGEST_MISBEHAVIOUR, Misbehaviour, Misdeeds, VmId};

/// An address that a VM has stolen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Theft {
    pub(super) address: IpAddr,
    /// The VM whose it is; `None` if it is none of the run's, as that of the host or of a router.
    pub(super) owner: Option<VmId>,
    pub(super) thief: VmId,
}

impl<F: Fabric> Hypervisor<F> {
    /// Makes `vm` misbehave from `now` on, for as long as it `lasts` or until it is [ended](Hypervisor::behave). Beginning and
    /// end are marks, from which on response is told. The error says why it can't be.
    pub(super) fn misbehave(
        &mut self,
        now: Instant,
        vm: VmId,
        misbehaviour: Misbehaviour,
        lasts: Option<Duration>,
    ) -> Result<(), String> {
        if let Some(shared) = self.fabric.shared_with() {
            return Err(format!(
                "{vm} can't misbehave: {shared}; expected a lab in a namespace that it makes, such as --netns private"
            ));
        }
        if let Err(expected) = misbehaviour.check() {
            return Err(format!("{vm} can't do {misbehaviour}: {expected}"));
        }
        if self.is_stopping {
            return Err("the run is ending; expected a misbehaviour before that".to_owned());
        }
        let station = self.vm(vm).map(|vm| vm.station());
        let station = station.ok_or_else(|| format!("{vm} is not up; expected a VM that is"))?;
        if let (Misbehaviour::Steal(address), Some(thief)) = (misbehaviour, self.vm(vm))
            && thief.has_address(address)
        {
            return Err(format!(
                "{address} is {vm}'s own address; expected another's"
            ));
        }
        if misbehaviour.rate() > 0 {
            let rate = self.fabric.misbehaving_rate() + u64::from(misbehaviour.rate());
            check_copies_of(rate, self.ports())
                .map_err(|why| format!("{vm} can't do {misbehaviour}: {why}"))?;
        }
        let seed = self.seed ^ u64::from(vm.0) ^ now.as_nanos();
        let lasts = lasts.map_or(LONGEST_MISBEHAVIOUR, |lasts| {
            lasts.min(LONGEST_MISBEHAVIOUR)
        });
        let times = (now, now + lasts);
        let begun = self
            .fabric
            .begin_misbehaviour(times, vm, misbehaviour, (station, seed));
        if let Some(wrong) = begun? {
            // Others go on to know it by that.
            self.stations.entry(wrong).or_insert(vm);
        }
        if let Misbehaviour::Steal(address) = misbehaviour {
            self.note_theft(address, vm);
        }
        self.expect_misbehaviour_of(vm);
        self.mark_misbehaviour(now, vm, misbehaviour, "");
        self.set_rx_filter(vm);
        let words = misbehaviour.to_string();
        let notice = Notice::Misbehaves(vm, &words);
        self.fabric.tell(now, &notice);
        self.lifecycle.schedule(now + lasts, vm, Due::Behave);
        Ok(())
    }

    /// Checks that what VMs flood at present may go to `more` VMs than there are or are to start. The error says why not.
    pub fn check_flooded(&self, more: usize) -> Result<(), String> {
        match self.fabric.misbehaving_rate() {
            0 => Ok(()),
            rate => check_copies_of(rate, self.ports() + more)
                .map_err(|why| format!("{why}, or an end of the misbehaviours before")),
        }
    }

    /// The VMs that there are or that are to start.
    fn ports(&self) -> usize {
        self.slots.iter().flatten().count() + self.lifecycle.expected()
    }

    /// Carries out a misbehaviour that is due at `due` by the schedule of a phase, with which it ends. That it begins late makes
    /// it end no later: another one may be due then.
    pub(super) fn misbehave_as_planned(
        &mut self,
        now: Instant,
        (due, vm): (Instant, VmId),
        misbehaviour: Misbehaviour,
        lasts: Option<Duration>,
    ) {
        let end = lasts.map(|lasts| due + lasts).or(self.phase_end);
        match self.misbehave(now, vm, misbehaviour, end.map(|end| end - now)) {
            Ok(()) => self.lifecycle.ends_with_phase(vm),
            Err(why) => self.fabric.refuse_misbehaviour(now, vm, misbehaviour, why),
        }
    }

    /// The misbehaviours of the present phase that are still to come, the earliest first: when each is due, and of which VM.
    pub fn misbehaviours_to_come(&self) -> impl Iterator<Item = (Instant, VmId, Misbehaviour)> {
        self.lifecycle.misbehaviours()
    }

    /// Has `vms` misbehave no more from `now` on, neither now nor as planned in this phase.
    pub(super) fn behave_from(&mut self, now: Instant, vms: &[VmId]) {
        self.lifecycle.forget_misbehaviours_to_come(vms);
        self.behave(now, vms);
    }

    /// Ends the misbehaviours of `vms` at `now`.
    pub(super) fn behave(&mut self, now: Instant, vms: &[VmId]) {
        for vm in vms {
            let Some(misbehaviour) = self.fabric.end_misbehaviour(now, *vm) else {
                continue;
            };
            self.lifecycle.forget_misbehaviour_of(*vm);
            self.set_rx_filter(*vm);
            self.mark_misbehaviour(now, *vm, misbehaviour, "-over");
            let words = misbehaviour.to_string();
            self.fabric.tell(now, &Notice::Behaves(*vm, &words));
        }
    }

    /// Ends all misbehaviours at `now`, for the run ends.
    pub(super) fn behave_all(&mut self, now: Instant) {
        let vms = self.fabric.misbehaving();
        self.behave(now, &vms);
    }

    /// Ends the misbehaviours of the present phase, which is over at `at`. Those that did not begin never do.
    pub(super) fn end_misbehaviours_of_phase(&mut self, at: Instant) {
        let (running, unbegun) = self.lifecycle.take_misbehaviours_of_phase();
        self.behave(at, &running);
        self.behaves_elsewhere(at, None);
        for (vm, misbehaviour) in unbegun {
            let why = "the phase was over before; expected a longer one".to_owned();
            self.fabric.refuse_misbehaviour(at, vm, misbehaviour, why);
        }
    }

    /// Keeps response before, during and after misbehaviours if a VM is to misbehave in one of `phases`.
    pub(super) fn expect_misbehaviours(&mut self, phases: &[Phase]) {
        for planned in phases.iter().flat_map(|phase| &phase.misbehaviours) {
            self.expect_misbehaviour_of(planned.vm);
        }
        for planned in phases
            .iter()
            .flat_map(|phase| &phase.misbehaviours_elsewhere)
        {
            self.expect_misbehaviour_of(planned.vm);
        }
    }

    /// The misbehaviours of VMs of other ranks so far, as they were planned. Response is told by them, too: who sends pings to
    /// such a VM, or beside it, is in this rank.
    pub fn misbehaviours_elsewhere(&self) -> &[MisbehaviourRecord] {
        &self.elsewhere
    }

    /// `vm` of another rank misbehaves from `due` on by the plan.
    pub(super) fn misbehaves_elsewhere(
        &mut self,
        due: Instant,
        vm: VmId,
        misbehaviour: Misbehaviour,
        lasts: Option<Duration>,
    ) {
        self.elsewhere.push(MisbehaviourRecord {
            vm,
            misbehaviour,
            began: due,
            ended: None,
            misdeeds: Misdeeds::default(),
            refused: None,
        });
        self.mark_misbehaviour(due, vm, misbehaviour, "");
        let lasts = lasts
            .unwrap_or(LONGEST_MISBEHAVIOUR)
            .min(LONGEST_MISBEHAVIOUR);
        self.lifecycle
            .schedule(due + lasts, vm, Due::BehaveElsewhere);
    }

    /// `vm` of another rank, or each of them, behaves again from `at` on.
    pub(super) fn behaves_elsewhere(&mut self, at: Instant, vm: Option<VmId>) {
        let goes_on = |record: &MisbehaviourRecord| {
            record.ended.is_none() && vm.is_none_or(|vm| vm == record.vm)
        };
        for index in 0..self.elsewhere.len() {
            let Some(record) = self.elsewhere.get_mut(index).filter(|of| goes_on(of)) else {
                continue;
            };
            record.ended = Some(at);
            let (vm, misbehaviour) = (record.vm, record.misbehaviour);
            self.mark_misbehaviour(at, vm, misbehaviour, "-over");
        }
    }

    /// Tells response apart of the flows from and to `vm`, which misbehaves now or later.
    fn expect_misbehaviour_of(&mut self, vm: VmId) {
        if self.offenders.contains(&vm) {
            return;
        }
        self.offenders.push(vm);
        self.buffer.flush(&mut self.recorder);
        self.recorder.keep_responses();
        let from_vm = self.slots.get(vm.index()).and_then(Option::as_ref);
        let from_vm = from_vm.into_iter().flat_map(|slot| slot.flows.iter());
        let mut flows: Vec<FlowId> = from_vm.copied().collect();
        flows.extend(self.flows_to(vm));
        for flow in flows {
            self.recorder.set_misbehaving(flow);
        }
    }

    /// Remembers that `thief` steals an address now: frames for whose it is may have the thief's hardware address.
    fn note_theft(&mut self, address: IpAddr, thief: VmId) {
        let slots = self.slots.iter().zip(0..);
        let mut vms = slots.filter_map(|(slot, id)| Some((&slot.as_ref()?.vm, VmId(id))));
        let owner = vms.find(|(vm, _)| vm.has_address(address));
        let theft = Theft {
            address,
            owner: owner.map(|(_, owner)| owner),
            thief,
        };
        if !self.thefts.contains(&theft) {
            self.thefts.push(theft);
        }
    }

    /// A flow between these VMs was added.
    pub(super) fn tell_misbehaving(&mut self, flow: FlowId, source: VmId, target: Option<VmId>) {
        let is_offender = |vm: &VmId| self.offenders.contains(vm);
        if is_offender(&source) || target.as_ref().is_some_and(is_offender) {
            self.recorder.set_misbehaving(flow);
        }
    }

    /// Sets the mark that a beginning or an end is, `vm9-silent` or `vm9-silent-over`, from which on response is told apart.
    fn mark_misbehaviour(&mut self, now: Instant, vm: VmId, what: Misbehaviour, end: &str) {
        if let Ok(name) = format!("{vm}-{}{end}", what.name()).parse() {
            self.mark(now, name, what.to_string());
        }
        self.recorder.divide_responses(now);
    }
}
