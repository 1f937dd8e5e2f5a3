//! Finds what a ping is put down to when it fails.

use std::net::IpAddr;
use std::time::Duration;

use super::evidence::{Fact, Strength};
use super::neighbour::back;
use super::notes::harmed;
use super::obstacle::{Ends, obstacle};
use super::{Count, Failed};
use crate::fabric::{Explained, Fabric, Notice, PathState};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::by_ping::{Key, Purpose};
use crate::load::FlowId;
use crate::record::{Attribution, Cause, DropReason, Place, Way, Why};
use crate::time::Instant;
use crate::vm::{ArpRequest, Misbehaviour, PingId, SessionId, VmId};
use crate::wire::MacAddr;

/// For so long a state that was read is taken for the present one.
pub(super) const STATE_LASTS: Duration = Duration::from_millis(100);
/// A bridge forwards by a port whose link has come up a moment later (`net/core/link_watch.c`): by then frames for it go to others
/// only.
const PORT_RETURNS: Duration = Duration::from_millis(100);
/// The answer to a ping is on its way for so long at most, where nothing holds it: it may find the link of its destination down.
const ANSWERS_COME: Duration = Duration::from_millis(10);
/// States that are read in that time at most.
const MAX_STATES: usize = 256;

impl<F: Fabric> Hypervisor<F> {
    /// Finds what the ping of `vm`, of `flow` and due at `due`, is to be put down to that has just failed. So far it is put down to
    /// `from`.
    #[cold]
    pub(in crate::hypervisor) fn explain(
        &mut self,
        now: Instant,
        (vm, ping): (VmId, PingId),
        (flow, due): (FlowId, Instant),
        from: Attribution,
    ) {
        let Some(search) = &self.loss_search else {
            return;
        };
        let key = Key::of(vm, ping);
        let purpose = self.purpose_of_ping((vm, ping), from);
        // Very many may fail in one go.
        if search.looked_at != Some(now) {
            // A look at each whose cause is known would have the kernel wake this process for each.
            match search.evidence.decides(purpose, due) {
                true => self.look_at_impaired(),
                false => self.look_at_drops(now),
            }
        }
        let Some(search) = &mut self.loss_search else {
            return;
        };
        let fact = search.evidence.take(purpose, due);
        let fact = match fact.filter(|fact| fact.strength != Strength::Elsewhere) {
            // What holds it says more than what became of a copy.
            None => self.held(now, purpose).or(fact),
            known => known,
        };
        let to = match from.cause {
            Cause::Unknown => self.cause_of_loss(now, (vm, ping), (flow, due), fact),
            Cause::Unresolved => self.cause_of_want(now, (vm, ping), flow, fact),
            // What was reported, or came back changed, is known already; not who did it on purpose.
            _ => fact
                .map(|fact| fact.what)
                .filter(|what| what.cause == Cause::Impaired),
        };
        let to = to.unwrap_or(from);
        let is_stray = |fact: Fact| fact.strength == Strength::Elsewhere && fact.what == to;
        self.recorder().attribute(flow, due, from, to);
        let count = match (from.cause, to.cause, to.way) {
            (Cause::Unresolved, ..) => Count::Unresolved,
            (Cause::Unknown, Cause::Unknown, _) => Count::Open,
            (Cause::Unknown, _, Way::Request) if fact.is_some_and(is_stray) => Count::Stray,
            // Errors are reported of requests.
            (Cause::Reported, ..) | (Cause::Unknown, _, Way::Request) => Count::Explained,
            _ => Count::Answered,
        };
        let failed = Failed { due, to, count };
        let is_counted = self.recorder.is_counted(due);
        if let Some(search) = &mut self.loss_search {
            search.count(flow, &failed, is_counted);
            search.failed.insert(key, failed);
        }
        if to.cause != Cause::Unknown && self.fabric.is_watched() {
            self.tell_explained(now, (vm, ping), due, to);
        }
    }

    /// A reply came to a ping that was put down to something else when it was given up.
    #[cold]
    pub(in crate::hypervisor) fn answered_late(&mut self, vm: VmId, ping: PingId, flow: FlowId) {
        let key = Key::of(vm, ping);
        let Some(search) = &mut self.loss_search else {
            return;
        };
        let Some(failed) = search.failed.remove(key) else {
            return;
        };
        let is_counted = self.recorder.is_counted(failed.due);
        search.discount(flow, &failed, is_counted);
        let (from, due) = (failed.to, failed.due);
        self.recorder()
            .attribute(flow, due, from, Attribution::LATE);
    }

    /// The VM or the flow of a ping on its way has left.
    pub(in crate::hypervisor) fn abandoned(&mut self, flow: FlowId) {
        if let Some(search) = &mut self.loss_search {
            search.flows.entry(flow).or_default().abandoned += 1;
        }
    }

    /// `vm` is about to leave, with the flows that it is the source of.
    pub(in crate::hypervisor) fn flows_leave(&mut self, vm: VmId) {
        let slot = self.slots.get(vm.index()).and_then(Option::as_ref);
        let flows = slot.into_iter().flat_map(|slot| slot.flows.iter());
        let flows: Vec<FlowId> = flows.copied().collect();
        for flow in flows {
            self.flow_leaves(flow);
        }
    }

    /// `flow` is about to leave: keeps how many pings it has begun.
    pub(in crate::hypervisor) fn flow_leaves(&mut self, flow: FlowId) {
        if self.loss_search.is_none() {
            return;
        }
        let owner = self.flows.get(flow.index()).and_then(|flow| flow.ping);
        let Some(source) = owner.map(|owner| owner.vm) else {
            return;
        };
        let begun = self.pings_begun(flow);
        if let Some(search) = &mut self.loss_search {
            search.flows.entry(flow).or_default().left = Some((source, begun));
        }
    }

    /// Tells the instruments why a ping failed.
    fn tell_explained(
        &mut self,
        now: Instant,
        (vm, ping): (VmId, PingId),
        due: Instant,
        to: Attribution,
    ) {
        let reason = to.why.map(|why| why.to_string());
        let found = Explained {
            vm,
            ping,
            due,
            cause: to.cause.name(),
            words: to.cause.words(),
            direction: to.way.word(),
            place: &to.place.to_string(),
            reason: &reason.unwrap_or_default(),
        };
        self.fabric.tell(now, &Notice::Explained(&found));
    }

    /// What the frames of a ping are for that has failed so far because of `from`.
    fn purpose_of_ping(&self, (vm, ping): (VmId, PingId), from: Attribution) -> Purpose {
        match self.asked_for(vm, ping.session) {
            Some(address) if from.cause != Cause::Unresolved => Purpose::Search(vm, address),
            _ => Purpose::Ping(Key::of(vm, ping)),
        }
    }

    /// The address for which the pings of a session ask, if they are such questions.
    fn asked_for(&self, vm: VmId, session: SessionId) -> Option<IpAddr> {
        let vm = self.vm(vm)?;
        let is_numbered = vm.probe(session)?.kind.is_numbered();
        vm.destination(session).filter(|_| !is_numbered)
    }

    /// An impairment or a slow VM holds the request of a ping or of a search, or the reply: it will come late, or never.
    pub(super) fn held(&mut self, now: Instant, purpose: Purpose) -> Option<Fact> {
        let search = self.loss_search.as_ref()?;
        if search.held_at != Some(now) {
            let held = self.fabric.held_pings(now);
            let held = held.filter_map(|held| {
                let (purpose, way) = self.purpose_of(&held.head)?;
                Some((purpose, harmed(held.harm, way, held.vm)))
            });
            let held = held.collect();
            let search = self.loss_search.as_mut()?;
            (search.held, search.held_at) = (held, Some(now));
        }
        let what = *self.loss_search.as_ref()?.held.get(&purpose)?;
        Some(Fact::decisive(now, what))
    }

    /// Why a ping was not sent, if anything tells.
    fn cause_of_want(
        &mut self,
        now: Instant,
        of: (VmId, PingId),
        flow: FlowId,
        fact: Option<Fact>,
    ) -> Option<Attribution> {
        let waited = Why::Drop(DropReason::NeighbourQueueFull);
        match fact {
            Some(fact) if fact.what.why != Some(waited) => Some(fact.what),
            waiting => {
                let absent = self.absent(flow);
                let failed = absent.or_else(|| self.failed_search(now, of, flow));
                failed.or(waiting.map(|fact| fact.what))
            }
        }
    }

    /// Why a ping was lost, if anything tells: a fact, or what stands in its way.
    fn cause_of_loss(
        &mut self,
        now: Instant,
        (vm, ping): (VmId, PingId),
        (flow, due): (FlowId, Instant),
        fact: Option<Fact>,
    ) -> Option<Attribution> {
        let target = self.flows.get(flow.index()).and_then(|flow| flow.target);
        if let Some(target) = target
            && fact.is_none_or(may_be_misled)
            && let Some(misled) = self.misled(now, (vm, ping.session), target)
        {
            return Some(misled);
        }
        let sent = self.sent_between(now, (vm, ping.session), due);
        let of_copies = fact.filter(|fact| fact.strength == Strength::Elsewhere);
        if let Some(fact) = fact
            && of_copies.is_none()
        {
            let absent = self.absent(flow).filter(|_| may_miss_its_target(fact.what));
            let why = fact.what.why;
            let what = || self.flapping_or(fact.what, fact.at);
            return Some(absent.map_or_else(what, |absent| Attribution { why, ..absent }));
        }
        let was_down = match of_copies {
            Some(fact) => {
                let to = match fact.what.way {
                    Way::Reply => Some(vm),
                    _ => target,
                };
                let forwarded = (back(fact.at, PORT_RETURNS), fact.at);
                to.and_then(|to| self.was_down(to, forwarded, fact.what.way))
            }
            None => {
                let of_target = target.and_then(|to| self.was_down(to, sent, Way::Request));
                let answered = (sent.0, sent.1 + ANSWERS_COME);
                of_target.or_else(|| self.was_down(vm, answered, Way::Reply))
            }
        };
        let in_the_way = self.absent(flow).or(was_down).or_else(|| {
            let Some(target) = target else {
                return self.obstacle(now, Ends::outside(vm), Way::Request);
            };
            let bytes = self.vm(vm)?.packet_length(ping.session)?;
            let there = match self.asked_for(vm, ping.session) {
                Some(address) => {
                    let question = Ends::asking(vm, target, address);
                    match self.vm(vm)?.probe(ping.session)?.arp_request {
                        ArpRequest::Broadcast => question,
                        ArpRequest::Unicast => Ends::between(vm, target, question.bytes),
                    }
                }
                None => Ends::between(vm, target, bytes),
            };
            let back = Ends::between(target, vm, there.bytes);
            let there = self.obstacle(now, there, Way::Request);
            let there = there.or_else(|| self.obstacle(now, back, Way::Reply));
            there.or_else(|| self.misdirected(now, (vm, ping.session), (target, sent)))
        });
        in_the_way.or(of_copies.map(|fact| fact.what))
    }

    /// A ping of `flow` failed because its target is not there, if it is a VM and is not there.
    fn absent(&self, flow: FlowId) -> Option<Attribution> {
        let target = self.flows.get(flow.index())?.target?;
        let is_there = self.vm(target).is_some();
        (!is_there).then_some(Attribution::of(
            Cause::Absent,
            Way::Request,
            Place::Vm(target),
        ))
    }

    /// The times between which a ping was sent that has just failed: the tool may have been behind, and its timeout counts from then.
    fn sent_between(
        &self,
        now: Instant,
        (vm, session): (VmId, SessionId),
        due: Instant,
    ) -> (Instant, Instant) {
        let timeout = self.vm(vm).and_then(|vm| vm.timeout(session));
        let at_last = timeout.map_or(due, |timeout| back(now, timeout));
        (due, due.max(at_last))
    }

    /// `vm` has a link that was down at any time between these two, when a frame was to come to it, because it flaps.
    pub(super) fn was_down(
        &self,
        vm: VmId,
        times: (Instant, Instant),
        way: Way,
    ) -> Option<Attribution> {
        let was_down = self.fabric.was_link_down(vm, times);
        was_down.then(|| flapping(way, vm))
    }

    /// The same of a VM of another rank that flaps at that time, by the plan.
    pub(super) fn flaps_elsewhere(&self, vm: VmId, at: Instant, way: Way) -> Option<Attribution> {
        let mut records = self.misbehaviours_elsewhere().iter();
        let flaps = records.any(|record| {
            let is_flap = matches!(record.misbehaviour, Misbehaviour::Flap { .. });
            let is_then = record.began <= at && record.ended.is_none_or(|ended| at < ended);
            is_flap && is_then && record.vm == vm
        });
        flaps.then(|| flapping(way, vm))
    }

    /// The flapping that `what` comes of, which was found at `at`, or `what`.
    pub(super) fn flapping_or(&self, what: Attribution, at: Instant) -> Attribution {
        let of_link = match what.place {
            Place::Vm(vm) if matches!(what.cause, Cause::Absent | Cause::Refused) => Some(vm),
            _ => None,
        };
        let flapping = of_link.and_then(|vm| self.was_down(vm, (at, at), what.way));
        flapping.unwrap_or(what)
    }

    /// What stands in the way from one VM to another.
    pub(super) fn obstacle(&mut self, now: Instant, ends: Ends, way: Way) -> Option<Attribution> {
        let state = self.path_state(now, (ends.source, ends.destination))?;
        obstacle(&state, ends, way)
    }

    /// The way from one VM to another, or to one that is none of the run's, as it is or was a moment ago.
    pub(super) fn path_state(
        &mut self,
        now: Instant,
        (source, destination): (VmId, Option<VmId>),
    ) -> Option<PathState> {
        let mac = match destination {
            Some(destination) => self.vm(destination)?.mac(),
            None => MacAddr::ZERO,
        };
        let search = self.loss_search.as_mut()?;
        if now - search.states_since >= STATE_LASTS {
            search.states.clear();
            search.states_since = now;
        }
        match search.states.get(&(source, destination)) {
            Some(known) => *known,
            None if search.states.len() >= MAX_STATES => None,
            None => {
                let state = self.fabric.path_state(source, mac, destination);
                let state = state.ok().flatten();
                let search = self.loss_search.as_mut()?;
                search.states.insert((source, destination), state);
                state
            }
        }
    }
}

/// What a frame for `vm` is put down to whose link is down because it flaps.
const fn flapping(way: Way, vm: VmId) -> Attribution {
    Attribution {
        why: Some(Why::State(Misbehaviour::FLAP)),
        ..Attribution::of(Cause::Impaired, way, Place::Vm(vm))
    }
}

/// Returns true if what happened to a frame may have happened because it was sent to a wrong hardware address.
fn may_be_misled(fact: Fact) -> bool {
    let comes_of_it = matches!(
        fact.what.cause,
        Cause::Ignored | Cause::Filtered | Cause::DeliveredElsewhere
    );
    fact.what.way == Way::Request && comes_of_it
}

/// Returns true if a request may have been lost like that because there is no VM that it is for.
fn may_miss_its_target(what: Attribution) -> bool {
    let is_before = matches!(
        what.cause,
        Cause::Impaired | Cause::Refused | Cause::BeforeBridge
    );
    what.way == Way::Request && !is_before
}
