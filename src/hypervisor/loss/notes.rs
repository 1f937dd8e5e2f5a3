//! Takes note of what happens to frames of pings.

use std::net::IpAddr;

use super::evidence::{Fact, Strength, elsewhere};
use super::kernel::{Parties, is_ambiguous, is_at_exit, is_at_host, meaning};
use super::obstacle::{ARP_BYTES, Ends, at_exit};
use crate::fabric::{Direction, DropPlace, Fabric, FrameDrop, Harm, ImpairedPing, WriteDrop};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::by_ping::{Key, Purpose};
use crate::hypervisor::drop_reason::drop_reason;
use crate::record::{Attribution, Cause, DropReason, Place, Way, Why};
use crate::time::Instant;
use crate::vm::{Event, Ignored, Misbehaviour, Vm, VmId};
use crate::wire::{PingHead, packet_length};

/// Flows of a VM that are looked at for the one that a search is for.
const MAX_FLOWS: usize = 256;

impl<F: Fabric> Hypervisor<F> {
    /// The TAP of `vm` did not take a frame.
    pub(in crate::hypervisor) fn note_refused(
        &mut self,
        now: Instant,
        vm: VmId,
        frame: &[u8],
        why: WriteDrop,
    ) {
        if self.loss_search.is_none() {
            return;
        }
        let purpose = PingHead::parse(frame).and_then(|head| self.purpose_of(&head));
        if let Some((purpose, way)) = purpose {
            let what = Attribution {
                why: Some(Why::Write(why)),
                ..Attribution::of(Cause::Refused, way, Place::Vm(vm))
            };
            self.note(purpose, now, (what, Strength::Decisive));
        }
    }

    /// `vm` has read a frame and did not act on it.
    pub(in crate::hypervisor) fn note_ignored(&mut self, now: Instant, vm: VmId, why: Ignored) {
        if self.loss_search.is_none() {
            return;
        }
        let Some(head) = self.vm_mut(vm).and_then(Vm::take_ignored_probe) else {
            return;
        };
        let addressed = self.station(head.destination_mac());
        let Some((purpose, way)) = self.purpose_of(&head) else {
            if addressed == Some(vm) {
                let robbed = self.robbed_by(vm, &head);
                let what = match robbed {
                    Some(_) => to_thief(Way::Request, vm, why),
                    None => ignored(vm, Way::Request, why),
                };
                self.note_ignored_of_others(now, &head, robbed.unwrap_or(vm), what);
            }
            return;
        };
        let is_shared = head.destination_mac().is_multicast();
        let is_for = match &head {
            PingHead::Probe(_) if is_shared => true,
            PingHead::Probe(_) => match self.meant(purpose, way) {
                Some(meant) => meant == vm,
                None => addressed == Some(vm) && !self.is_stolen_by(now, vm, purpose),
            },
            PingHead::Link(link) => self.is_link_for(vm, link),
        };
        if is_copy(&head) && !is_for {
            return;
        }
        let noted = match is_for {
            true => (ignored(vm, way, why), Strength::Decisive),
            // One that was sent to it, as to the thief of an address, it was not flooded to.
            false if addressed == Some(vm) => (to_thief(way, vm, why), Strength::Elsewhere),
            false => (elsewhere(way, vm), Strength::Elsewhere),
        };
        self.note(purpose, now, noted);
    }

    /// A ping of `vm` is not sent, as `event` tells that is yet to be recorded.
    pub(in crate::hypervisor) fn note_unsent(
        &mut self,
        now: Instant,
        vm: VmId,
        event: &Event,
        why: DropReason,
    ) {
        let what = Attribution {
            why: Some(Why::Drop(why)),
            ..Attribution::UNRESOLVED
        };
        if let Event::Ping(ping, _) = event {
            let purpose = Purpose::Ping(Key::of(vm, *ping));
            self.note(purpose, now, (what, Strength::Decisive));
        }
    }

    /// The kernel has dropped a frame.
    pub(super) fn note_drop(&mut self, now: Instant, drop: &FrameDrop) {
        let Some(head) = PingHead::parse(drop.frame.bytes()) else {
            return;
        };
        let Some((purpose, way)) = self.purpose_of(&head) else {
            return;
        };
        let at_port = match drop.place {
            DropPlace::Port(vm) => Some(vm),
            DropPlace::Link(_) | DropPlace::Nowhere => None,
        };
        let source = self.station(head.source_mac());
        let addressed = match &head {
            // A question for a hardware address goes to all, and is for one.
            PingHead::Link(link) if is_copy(&head) => {
                at_port.filter(|vm| self.is_link_for(*vm, link))
            }
            _ if head.destination_mac().is_multicast() => self.meant(purpose, way),
            _ => self.station(head.destination_mac()),
        };
        let is_elsewhere = at_port.is_some() && at_port != source && at_port != addressed;
        if is_copy(&head) && (is_elsewhere || is_at_host(drop)) {
            return;
        }
        let parties = Parties {
            source,
            // Nobody has the address of one that was sent to a wrong one.
            destination: addressed.or_else(|| self.meant(purpose, way)),
        };
        let (mut what, strength) = meaning(drop, parties, way);
        if let Some(to) = at_port.filter(|_| is_at_exit(drop)) {
            let bytes = match packet_length(drop.frame.bytes()) {
                None if matches!(head, PingHead::Link(_)) => Some(ARP_BYTES),
                length => length,
            };
            let found = self.at_exit(now, (to, bytes), way);
            let found = found.or_else(|| self.flaps_elsewhere(to, drop.at, way));
            what = found.unwrap_or(what);
        } else if is_ambiguous(drop)
            && let Some(source) = source
            && let Some(destination) = addressed.or_else(|| self.asked(purpose))
        {
            let bytes = packet_length(drop.frame.bytes()).unwrap_or(0);
            let ends = match &head {
                PingHead::Link(link) if is_copy(&head) => {
                    Ends::asking(source, destination, link.target)
                }
                _ => Ends::between(source, destination, bytes),
            };
            let found = self.obstacle(now, ends, way);
            match found {
                Some(found) if found.cause == Cause::Absent => what = found,
                Some(found) => (what.place, what.why) = (found.place, found.why),
                None => {
                    let moving = [destination, source].into_iter();
                    let mut moving = moving.filter(|vm| self.was_moving(*vm, drop.at));
                    what.why = moving.next().map(Why::Moving).or(what.why);
                }
            }
        }
        self.note(purpose, drop.at, (what, strength));
    }

    /// What a frame of so many bytes of packet is put down to that was dropped where it was to leave the bridge for `to`; `None` of a
    /// VM of another rank, as nothing is known of its port.
    pub(super) fn at_exit(
        &mut self,
        now: Instant,
        (to, bytes): (VmId, Option<u32>),
        way: Way,
    ) -> Option<Attribution> {
        // The port is all that matters, wherever the frame came from.
        let state = self.path_state(now, (to, Some(to)))?;
        Some(at_exit(&state, (to, bytes?), way))
    }

    /// An impairment, or a misbehaving VM, has dropped or changed a frame.
    pub(super) fn note_impaired(&mut self, ping: &ImpairedPing) {
        let destination = ping.head.destination_mac();
        let impaired = |way| harmed(ping.harm, way, ping.vm);
        let Some((purpose, way)) = self.purpose_of(&ping.head) else {
            if ping.direction == Direction::Out || self.station(destination) == Some(ping.vm) {
                self.note_impaired_of_others(ping, impaired(Way::Request));
            }
            return;
        };
        if ping.harm.is_hold() && matches!(ping.head, PingHead::Link(_)) {
            // How long a search lasts is another matter: when it fails, it is looked what is held then.
            return;
        }
        let is_for = match &ping.head {
            PingHead::Link(link) => self.is_own(ping.vm, ping.direction, link),
            PingHead::Probe(_) => {
                ping.direction == Direction::Out
                    || destination.is_multicast()
                    || self.station(destination) == Some(ping.vm)
            }
        };
        if is_copy(&ping.head) && !is_for {
            return;
        }
        if let PingHead::Link(link) = &ping.head {
            self.note_corrupted(ping, link);
        }
        let strength = match is_for {
            true => Strength::Decisive,
            false => Strength::Elsewhere,
        };
        self.note(purpose, ping.at, (impaired(way), strength));
    }

    /// The VM whose address `thief` has stolen, if a frame was sent to that.
    fn robbed_by(&self, thief: VmId, head: &PingHead) -> Option<VmId> {
        let PingHead::Probe(probe) = head else {
            return None;
        };
        let mut thefts = self.thefts.iter();
        let theft = thefts.find(|theft| theft.address == probe.destination)?;
        theft.owner.filter(|owner| *owner != thief)
    }

    /// Returns true if a ping goes to `thief` because that has stolen the address of the host, or of the router on its way.
    fn is_stolen_by(&self, now: Instant, thief: VmId, purpose: Purpose) -> bool {
        let Purpose::Ping(key) = purpose else {
            return false;
        };
        let is_his = |address: &IpAddr| {
            let mut thefts = self.thefts.iter();
            thefts.any(|theft| (theft.address, theft.owner, theft.thief) == (*address, None, thief))
        };
        let pinger = self.vm(key.source());
        let neighbour = pinger.and_then(|vm| vm.neighbour_of(now, key.session()));
        neighbour.as_ref().is_some_and(is_his)
    }

    /// The VM that a frame is for; `None` if it is none of the run's, and of a search.
    fn meant(&self, purpose: Purpose, way: Way) -> Option<VmId> {
        match (purpose, way) {
            (Purpose::Ping(key), Way::Reply) => Some(key.source()),
            (Purpose::Ping(key), Way::Request | Way::Unknown) => self.target_of_ping(key),
            (Purpose::Search(asker, _), Way::Reply) => Some(asker),
            (Purpose::Search(..), Way::Request | Way::Unknown) => None,
        }
    }

    /// The VM for whose address a search asks, if the asker has a flow to it: one of its first.
    fn asked(&self, purpose: Purpose) -> Option<VmId> {
        let Purpose::Search(asker, address) = purpose else {
            return None;
        };
        let slot = self.slots.get(asker.index())?.as_ref()?;
        let flows = slot.flows.iter().take(MAX_FLOWS);
        let mut targets = flows.filter_map(|flow| self.flows.get(flow.index())?.target);
        targets.find(|vm| self.vm(*vm).is_some_and(|vm| vm.has_address(address)))
    }

    fn note(&mut self, purpose: Purpose, at: Instant, (what, strength): (Attribution, Strength)) {
        if let Some(search) = &mut self.loss_search {
            let fact = Fact { at, what, strength };
            search.evidence.add(purpose, fact);
        }
    }
}

/// What a frame of a ping is put down to whose harm was done at `vm` on purpose.
pub(super) const fn harmed(harm: Harm, way: Way, vm: VmId) -> Attribution {
    Attribution {
        why: Some(match harm {
            Harm::Impairment(kind) => Why::Impairment(kind),
            Harm::Misbehaviour(name) => Why::State(name),
            Harm::Slow => Why::State(Misbehaviour::SLOW),
        }),
        ..Attribution::of(Cause::Impaired, way, Place::Vm(vm))
    }
}

/// What a frame of a ping is put down to that `vm` has read and did not act on.
fn ignored(vm: VmId, way: Way, why: Ignored) -> Attribution {
    Attribution {
        why: Some(Why::Drop(drop_reason(why))),
        ..Attribution::of(Cause::Ignored, way, Place::Vm(vm))
    }
}

/// The same if it was sent to `vm`, which has stolen the address of the one that it was for.
fn to_thief(way: Way, vm: VmId, why: Ignored) -> Attribution {
    Attribution {
        why: Some(Why::Drop(drop_reason(why))),
        ..elsewhere(way, vm)
    }
}

/// Returns true of a question for a hardware address that goes to all: copies come to others as well, whatever becomes of it.
fn is_copy(head: &PingHead) -> bool {
    matches!(head, PingHead::Link(link) if link.destination_mac.is_multicast())
}
