//! Takes note of what happens to frames of pings.

use super::evidence::{Fact, Strength, elsewhere};
use super::kernel::{Parties, SENDS, is_ambiguous, meaning};
use super::obstacle::{fits, link_down};
use crate::fabric::{Direction, Fabric, FrameDrop, Harm, ImpairedPing, WriteDrop};
use crate::hypervisor::Hypervisor;
use crate::hypervisor::by_ping::Key;
use crate::hypervisor::drop_reason::drop_reason;
use crate::record::{Attribution, Cause, DropReason, Place, Way, Why};
use crate::time::Instant;
use crate::vm::{Event, Ignored, Vm, VmId};
use crate::wire::{LinkHead, packet_length};

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
        if let Some((key, way, _)) = self.ping_in(frame) {
            let what = Attribution {
                why: Some(Why::Write(why)),
                ..Attribution::of(Cause::Refused, way, Place::Vm(vm))
            };
            self.note(key, now, (what, Strength::Decisive));
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
        let Some((key, way)) = self.ping_of(&head) else {
            return;
        };
        let addressed = self.station(head.destination_mac);
        let meant = match way {
            Way::Reply => Some(key.source()),
            Way::Request | Way::Unknown => self.target_of_ping(key).or(addressed),
        };
        let is_for = head.destination_mac.is_multicast() || meant == Some(vm);
        let why = Some(Why::Drop(drop_reason(why)));
        let noted = match is_for {
            true => {
                let what = Attribution::of(Cause::Ignored, way, Place::Vm(vm));
                (Attribution { why, ..what }, Strength::Decisive)
            }
            // One that was sent to it, as to the thief of an address, it was not flooded to.
            false if addressed == Some(vm) => {
                let what = elsewhere(way, vm);
                (Attribution { why, ..what }, Strength::Elsewhere)
            }
            false => (elsewhere(way, vm), Strength::Elsewhere),
        };
        self.note(key, now, noted);
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
            self.note(Key::of(vm, *ping), now, (what, Strength::Decisive));
        }
    }

    /// The kernel has dropped a frame.
    pub(super) fn note_drop(&mut self, now: Instant, drop: &FrameDrop) {
        let Some((key, way, [source, destination])) = self.ping_in(drop.frame.bytes()) else {
            return;
        };
        let parties = Parties {
            source: self.station(source),
            // A question for a hardware address goes to all, and is for one.
            destination: match destination.is_multicast() {
                true => self.target_of_ping(key),
                false => self.station(destination),
            },
        };
        let (mut what, strength) = meaning(drop, parties, way);
        if is_ambiguous(drop)
            && let (Some(source), Some(destination)) = (parties.source, parties.destination)
        {
            let bytes = packet_length(drop.frame.bytes()).unwrap_or(0);
            let ends = (source, destination);
            let found = self.obstacle(now, ends, way, bytes);
            match found {
                Some(found) if found.cause == Cause::Absent => what = found,
                // It has passed all else, and was too long, or the link was down at that time.
                _ if drop.function.as_str() == SENDS => {
                    let state = self.path_state(now, ends);
                    if state.is_some_and(|state| fits(&state, bytes)) {
                        what = link_down(way, destination);
                    }
                }
                Some(found) => (what.place, what.why) = (found.place, found.why),
                None => {
                    let moving = [destination, source].into_iter();
                    let mut moving = moving.filter(|vm| self.was_moving(*vm, drop.at));
                    what.why = moving.next().map(Why::Moving).or(what.why);
                }
            }
        }
        // Copies of a question for a hardware address come to all others as well, whatever becomes of it.
        let is_shared = destination.is_multicast() && LinkHead::parse(drop.frame.bytes()).is_some();
        if strength == Strength::Elsewhere && is_shared {
            return;
        }
        self.note(key, drop.at, (what, strength));
    }

    /// An impairment, or a misbehaving VM, has dropped or changed a frame.
    pub(super) fn note_impaired(&mut self, ping: &ImpairedPing) {
        let Some((key, way)) = self.ping_of(&ping.head) else {
            return;
        };
        let what = Attribution {
            why: Some(match ping.harm {
                Harm::Impairment(kind) => Why::Impairment(kind),
                Harm::Misbehaviour(name) => Why::State(name),
            }),
            ..Attribution::of(Cause::Impaired, way, Place::Vm(ping.vm))
        };
        let is_for = ping.direction == Direction::Out
            || ping.head.destination_mac.is_multicast()
            || self.station(ping.head.destination_mac) == Some(ping.vm);
        let strength = match is_for {
            true => Strength::Decisive,
            false => Strength::Elsewhere,
        };
        self.note(key, ping.at, (what, strength));
    }

    fn note(&mut self, key: Key, at: Instant, (what, strength): (Attribution, Strength)) {
        if let Some(search) = &mut self.loss_search {
            let fact = Fact { at, what, strength };
            search.evidence.add(key, fact);
        }
    }
}
