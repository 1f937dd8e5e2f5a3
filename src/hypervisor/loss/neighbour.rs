//! What neighbours have to do with a lost ping: one whose neighbour was not found was never sent, and one to a hardware address that
//! nobody has comes to nobody.

use std::net::IpAddr;
use std::time::Duration;

use super::evidence::{Fact, judge};
use super::obstacle::Ends;
use crate::fabric::{Direction, Fabric, Harm, ImpairedPing, Impairment};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::by_ping::Purpose;
use crate::load::FlowId;
use crate::record::{Attribution, Cause, Place, Way, Why};
use crate::time::Instant;
use crate::vm::{PingId, SessionId, VainSearch, VmId};
use crate::wire::{LinkHead, MacAddr};

/// Hardware addresses that were corrupted in what a VM said of its own, and of which that is kept.
const MAX_CORRUPTED: usize = 1 << 16;

/// Why a ping comes to nobody that is sent to an address which an impairment has made.
const CORRUPTED_ADDRESS: &str = "sent to a hardware address that was corrupted";

/// Why a filter drops what is sent to another hardware address than the VM's own.
const FOREIGN_ADDRESS: &str = "sent to a hardware address that is not its own";

impl<F: Fabric> Hypervisor<F> {
    /// What became of the search for the neighbour that a ping of `vm` waited for in vain, if all of its requests are known to have
    /// failed.
    pub(super) fn failed_search(
        &mut self,
        now: Instant,
        (vm, ping): (VmId, PingId),
        flow: FlowId,
    ) -> Option<Attribution> {
        let asker = self.vm(vm)?;
        let neighbour = asker.neighbour_of(now, ping.session)?;
        let search = asker.vain_search(neighbour)?;
        let purpose = Purpose::Search(vm, neighbour);
        let target = self.target_at(flow, neighbour);
        if let Some(target) = target {
            let question = Ends::asking(vm, target, neighbour);
            let back = Ends::between(target, vm, question.bytes);
            let there = self.obstacle(now, question, Way::Request);
            let in_the_way = there.or_else(|| self.obstacle(now, back, Way::Reply));
            if in_the_way.is_some() {
                return in_the_way.map(Attribution::unfound);
            }
        }
        let known = self.of_each_request(&search, purpose, target);
        let answers_are_filtered =
            self.fabric.has_filter() && self.fabric.had_wrong_mac(vm, search.last);
        let known = known.or(answers_are_filtered.then_some(filtered(Way::Reply, vm)));
        let known = known.or_else(|| Some(self.held(now, purpose)?.what));
        known.map(Attribution::unfound)
    }

    /// What became of each request of a search or of its reply; of several things the one that says most. `None` if nothing is
    /// known of one of them.
    fn of_each_request(
        &self,
        search: &VainSearch,
        purpose: Purpose,
        target: Option<VmId>,
    ) -> Option<Attribution> {
        // Each one is sent a little later than it was due.
        let late = search.interval / 10;
        let ago = |number: u8| back(search.last, search.interval * u32::from(number));
        let first = back(ago(search.requests.checked_sub(1)?), late);
        let facts = self.loss_search.as_ref()?.evidence.of(purpose);
        let facts = facts.filter(|fact| fact.at >= first);
        let down = |number| {
            let sent = (ago(number), ago(number));
            let of_target = target.and_then(|vm| self.was_down(vm, sent, Way::Request));
            of_target.map(|what| Fact::decisive(ago(number), what))
        };
        let is_known = |number: &u8| {
            let sent = back(ago(*number), late);
            let answered_by = sent + search.interval;
            let mut times = facts.clone().map(|fact| fact.at);
            times.any(|at| (sent..answered_by).contains(&at)) || down(*number).is_some()
        };
        if !(0..search.requests).all(|number| is_known(&number)) {
            return None;
        }
        let found = judge(facts.clone()).or_else(|| down(0));
        Some(found?.what)
    }

    /// A ping comes to nobody that `vm` sends to `target`, or whose reply it gets, because the one who sends takes a hardware address
    /// for the other's that is not.
    pub(super) fn misdirected(
        &self,
        now: Instant,
        (vm, session): (VmId, SessionId),
        (target, sent): (VmId, (Instant, Instant)),
    ) -> Option<Attribution> {
        let of_nobody = |mac| self.station(mac).is_none_or(|station| station == target);
        let taken_for = self.taken_for(now, (vm, session), target);
        if !self.fabric.has_filter() {
            // Whoever reads it tells.
            return None;
        }
        if taken_for.is_some_and(of_nobody) || self.was_misled((vm, session), (target, sent)) {
            return Some(filtered(Way::Request, target));
        }
        let (first, last) = sent;
        let is_wrong = |at| self.fabric.had_wrong_mac(vm, at);
        (is_wrong(first) || is_wrong(last)).then(|| filtered(Way::Reply, vm))
    }

    /// The same if the address is what an impairment has made of the target's.
    pub(super) fn misled(
        &self,
        now: Instant,
        of: (VmId, SessionId),
        target: VmId,
    ) -> Option<Attribution> {
        let taken_for = self.taken_for(now, of, target)?;
        let search = self.loss_search.as_ref()?;
        let own = self.vm(target)?.mac();
        if differing_bits(taken_for, own) != 1 {
            return None;
        }
        let mut places = [target, of.0].into_iter();
        let place = places.find(|place| search.corrupted.get((target, *place)).is_some())?;
        Some(Attribution {
            why: Some(Why::State(CORRUPTED_ADDRESS)),
            ..Attribution::of(Cause::Impaired, Way::Request, Place::Vm(place))
        })
    }

    /// `target` had sent from another hardware address than its own, and what the VM knows of it was put right only after the first of
    /// the times between which the ping was sent.
    fn was_misled(
        &self,
        (vm, session): (VmId, SessionId),
        (target, (first, last)): (VmId, (Instant, Instant)),
    ) -> bool {
        let updated_at = || {
            let sender = self.vm(vm)?;
            sender.neighbour_updated_at(sender.neighbour_of(first, session)?)
        };
        self.fabric.had_wrong_mac_until(target, last) && updated_at().is_some_and(|at| at >= first)
    }

    /// The hardware address to which a VM sends what is for `target`, if that is another than the target's.
    fn taken_for(
        &self,
        now: Instant,
        (vm, session): (VmId, SessionId),
        target: VmId,
    ) -> Option<MacAddr> {
        let sender = self.vm(vm)?;
        let neighbour = sender.neighbour_of(now, session)?;
        let target = self.vm(target)?;
        let mac = sender.neighbour_mac(neighbour)?;
        (target.has_address(neighbour) && mac != target.mac()).then_some(mac)
    }

    /// The VM that a flow is to, if it is the neighbour with that address.
    fn target_at(&self, flow: FlowId, neighbour: IpAddr) -> Option<VmId> {
        let target = self.flows.get(flow.index())?.target?;
        let is_it = self.vm(target)?.has_address(neighbour);
        is_it.then_some(target)
    }

    /// A frame by which a VM tells its hardware address was dropped or changed on purpose, and was for `ping.vm` or from it.
    pub(super) fn note_corrupted(&mut self, ping: &ImpairedPing, head: &LinkHead) {
        if ping.harm != Harm::Impairment(Impairment::Corrupted) {
            return;
        }
        if let Some(owner) = self.station(head.source_mac)
            && let Some(search) = &mut self.loss_search
        {
            search.corrupted.insert((owner, ping.vm), ());
        }
    }

    /// Returns true if a frame that was seen at `vm`, on its way out of it or in, is from the VM or for it.
    pub(super) fn is_own(&self, vm: VmId, direction: Direction, head: &LinkHead) -> bool {
        direction == Direction::Out || self.is_link_for(vm, head)
    }

    /// Returns true if a question for a hardware address, or its answer, is for `vm`. Questions go to all.
    pub(super) fn is_link_for(&self, vm: VmId, head: &LinkHead) -> bool {
        match head.is_request {
            true => self.vm(vm).is_some_and(|vm| vm.has_address(head.target)),
            false => self.station(head.destination_mac) == Some(vm),
        }
    }
}

/// What a filter drops at `vm` because it was sent to another address.
const fn filtered(way: Way, vm: VmId) -> Attribution {
    Attribution {
        why: Some(Why::State(FOREIGN_ADDRESS)),
        ..Attribution::of(Cause::Filtered, way, Place::Vm(vm))
    }
}

/// The corrupted addresses of VMs: whose, and the VM whose frames were impaired.
pub(super) fn no_corrupted() -> super::Bounded<(), (VmId, VmId)> {
    super::Bounded::new(MAX_CORRUPTED)
}

/// So long before.
pub(super) fn back(at: Instant, span: Duration) -> Instant {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Instant::from_nanos(at.as_nanos().saturating_sub(span))
}

/// How many bits two addresses differ in: an impairment changes one.
fn differing_bits(one: MacAddr, other: MacAddr) -> u32 {
    let pairs = one.0.into_iter().zip(other.0);
    pairs.map(|(one, other)| (one ^ other).count_ones()).sum()
}
