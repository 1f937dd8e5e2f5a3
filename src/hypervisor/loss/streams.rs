//! Takes note of what happens to frames of streams that do not arrive. Nothing is kept of those that do.

use super::evidence::{Strength, elsewhere};
use super::explain::STATE_LASTS;
use super::kernel::{Parties, is_ambiguous, is_at_exit, meaning};
use super::neighbour::back;
use super::notes::harmed;
use super::obstacle::Ends;
use crate::fabric::{Direction, DropPlace, Fabric, FrameDrop, ImpairedStream, WriteDrop};
use crate::hypervisor::Hypervisor;
use crate::record::{Attribution, Cause, Place, StreamId, Way, Why};
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::{StreamHead, packet_length};

impl<F: Fabric> Hypervisor<F> {
    /// The TAP of `vm` did not take a frame at `now`.
    pub(in crate::hypervisor) fn note_refused_stream(
        &mut self,
        now: Instant,
        vm: VmId,
        frame: &[u8],
        why: WriteDrop,
    ) {
        if self.loss_search.is_some()
            && let Some(head) = StreamHead::parse(frame)
            && self.source_of(&head) == Some(vm)
        {
            let what = Attribution {
                why: Some(Why::Write(why)),
                ..Attribution::of(Cause::Refused, Way::Request, Place::Vm(vm))
            };
            self.note_lost(&head, None, self.flapping_or(what, now));
        }
    }

    /// Takes note of the VMs that a frame of `stream` is for, which is being sent at `at`, and that it does not reach: those that are not
    /// there, and those with a link that is down because it flaps. A switch that does not know where they are floods it, and nobody
    /// drops it.
    #[cold]
    #[inline(never)]
    pub(in crate::hypervisor) fn note_unreached_receivers(
        &mut self,
        at: Instant,
        stream: StreamId,
        frame: &[u8],
    ) {
        if self.loss_search.is_none() {
            return;
        }
        let Some(head) = self.stream_head(frame) else {
            return;
        };
        for vm in self.absent_receivers(stream) {
            let what = Attribution::of(Cause::Absent, Way::Request, Place::Vm(vm));
            self.note_lost(&head, Some(vm), what);
        }
        for place in 0..self.offenders.len() {
            let Some(vm) = self.offenders.get(place).copied() else {
                return;
            };
            if self.is_stream_for(&head, vm)
                && let Some(what) = self.was_down(vm, (at, at), Way::Request)
            {
                self.note_lost(&head, Some(vm), what);
            }
        }
    }

    /// A frame of a stream for one other VM has come to `vm`: to its own hardware address, if somebody believes that the other has it;
    /// to that of the other, if a bridge floods it, which may be because the link of the other is down.
    #[cold]
    #[inline(never)]
    pub(in crate::hypervisor) fn note_misled_stream(
        &mut self,
        now: Instant,
        vm: VmId,
        frame: &[u8],
    ) {
        if self.loss_search.is_some()
            && let Some(head) = self.stream_head(frame)
            && self.has_one_receiver(&head)
        {
            match self.vm(vm).map(|vm| vm.mac()) == Some(head.destination_mac) {
                true => self.note_lost(&head, None, elsewhere(Way::Request, vm)),
                false => self.note_flooded_stream(now, &head, packet_length(frame)),
            }
        }
    }

    /// A frame of a stream for one VM, a packet of `bytes`, came to another, for it was flooded: if that is because the VM can't be
    /// reached, nobody tells more of it.
    fn note_flooded_stream(&mut self, now: Instant, head: &StreamHead, bytes: Option<u32>) {
        let source = self.planned_source_of(head);
        let Some((source, destination)) = source.zip(self.station(head.destination_mac)) else {
            return;
        };
        let ends = Ends::between(source, destination, bytes.unwrap_or(0));
        let found = self.obstacle(now, ends, Way::Request);
        if let Some(found) = found.filter(|found| found.cause == Cause::Absent) {
            // It may be known since then, and the link takes a moment to come up.
            let known = (back(now, STATE_LASTS), now);
            let flapping = self.was_down(destination, known, Way::Request);
            self.note_lost(head, None, flapping.unwrap_or(found));
        }
    }

    /// Takes note of frames that impairments and misbehaving VMs have dropped or changed since the last call.
    pub(in crate::hypervisor) fn look_at_impaired_streams(&mut self) {
        for frame in self.fabric.take_impaired_streams() {
            self.note_impaired_stream(&frame);
        }
    }

    /// The same of those that impairments and slow VMs hold at the end of a run.
    pub(super) fn look_at_held_streams(&mut self) {
        if self.streams.is_some() {
            let held: Vec<_> = self.fabric.held_streams().collect();
            held.iter()
                .for_each(|frame| self.note_impaired_stream(frame));
        }
    }

    fn note_impaired_stream(&mut self, frame: &ImpairedStream) {
        let is_own = match frame.direction {
            Direction::Out => self.source_of(&frame.head) == Some(frame.vm),
            Direction::In => self.is_stream_for(&frame.head, frame.vm),
        };
        if is_own {
            let what = harmed(frame.harm, Way::Request, frame.vm);
            let to = (frame.direction == Direction::In).then_some(frame.vm);
            self.note_lost(&frame.head, to, what);
        }
    }

    /// The kernel has dropped a frame of a stream. Ranks that share a lab all hear of it: of a stream that is for one VM the rank of
    /// its source tells it, of others the one that has the VM at whose port it was.
    pub(super) fn note_dropped_stream(
        &mut self,
        now: Instant,
        drop: &FrameDrop,
        head: &StreamHead,
    ) {
        let Some(source) = self.planned_source_of(head) else {
            return;
        };
        let is_own = self.vm(source).is_some();
        let at_port = match drop.place {
            DropPlace::Port(vm) => Some(vm),
            DropPlace::Link(_) | DropPlace::Nowhere => None,
        };
        let to = at_port.filter(|vm| self.is_stream_for(head, *vm));
        let is_told_here = match self.has_one_receiver(head) {
            true => is_own,
            // Another is a copy that came by another port.
            false => to.is_some() || is_own && at_port == Some(source),
        };
        if !is_told_here {
            return;
        }
        let destination = to.or_else(|| self.station(head.destination_mac));
        let parties = Parties {
            source: Some(source),
            destination,
        };
        let (mut what, strength) = meaning(drop, parties, Way::Request);
        let bytes = packet_length(drop.frame.bytes());
        if strength == Strength::Elsewhere {
            if self.has_one_receiver(head) {
                self.note_flooded_stream(now, head, bytes);
            }
            return;
        }
        if let Some(to) = at_port.filter(|_| is_at_exit(drop)) {
            what = self.at_exit(now, (to, bytes), Way::Request).unwrap_or(what);
        } else if is_ambiguous(drop)
            && let Some(destination) = destination
        {
            let bytes = bytes.unwrap_or(0);
            let ends = Ends::between(source, destination, bytes);
            match self.obstacle(now, ends, Way::Request) {
                Some(found) if found.cause == Cause::Absent => what = found,
                Some(found) => (what.place, what.why) = (found.place, found.why),
                None => {}
            }
        }
        if to.is_some_and(|vm| self.vm(vm).is_none()) {
            // It has stopped while the frame was on its way: as those that are sent later.
            what.why = None;
        }
        self.note_lost(head, to, self.flapping_or(what, drop.at));
    }

    fn note_lost(&mut self, head: &StreamHead, to: Option<VmId>, what: Attribution) {
        let frame = (StreamId(head.tag.stream), head.tag.sequence);
        self.recorder.stream_lost(frame, to, what);
    }
}
