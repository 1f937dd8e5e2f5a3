//! The frame path: frames read for a VM, and frames written for one.

use super::record_buffer::Entry;
use super::{FRAME_OF_STREAM, Hypervisor, Outgoing};
use crate::fabric::{Fabric, Write, WriteDrop};
use crate::record::Pause;
use crate::time::{Instant, Now};
use crate::vm::{PingId, Reaction, VmId};

/// A frame within this process that was due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It can be read for this VM.
    Frame(VmId),
    /// It was passed on to the fabric.
    Passed,
}

impl<F: Fabric> Hypervisor<F> {
    /// Passes the frame in the first `length` bytes of `buffer`, which was read `now`, to `vm`. Returns the frame that the
    /// VM sends in response, if any; it is built in `buffer`. `now` is asked for unless the frame is a plain echo request,
    /// whose answer does not depend on it.
    pub fn receive(
        &mut self,
        mut now: impl Now,
        vm: VmId,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Outgoing> {
        self.recorder.frame_in();
        if self.reads_frames
            && self.read_one_way(&mut now, vm, buffer.get(..length).unwrap_or_default())
        {
            return None;
        }
        let slot = self.slots.get_mut(vm.index())?.as_mut()?;
        let reaction = slot.vm.receive(&mut now, buffer, length);
        self.apply(now, vm, reaction)
    }

    /// Looks in a frame for what is measured one way. Returns true if it is of a stream: there is no more to do then.
    #[inline(never)]
    fn read_one_way(&mut self, now: &mut impl Now, vm: VmId, frame: &[u8]) -> bool {
        if self.one_way.is_some() {
            self.note_turn(now.now(), vm, frame);
        }
        self.streams.is_some() && self.take_stream(now, vm, frame)
    }

    /// Takes the next frame within this process that is due by `now`: one on its way through a fabric in memory, or one that
    /// an impairment has held. Returns its VM if that may [read](Fabric::read) it now.
    pub fn next_arrival(&mut self, now: Instant) -> Option<Arrival> {
        let Some(released) = self.fabric.release(now) else {
            return self.fabric.next_receiver(now).map(Arrival::Frame);
        };
        if let Some(late) = released.late {
            self.recorder.released(late);
        }
        match released.written {
            None => return Some(Arrival::Frame(released.vm)),
            Some(Write::Sent) => {}
            Some(Write::Dropped(reason)) => self.recorder.dropped(reason.into()),
        }
        Some(Arrival::Passed)
    }

    /// Records `at` as the send time of the ping that the frame at the start of `buffer` starts, or writes it into the frame of a
    /// stream. To be called right before the frame is written.
    #[inline(always)]
    pub fn stamp(&mut self, outgoing: &Outgoing, at: Instant, buffer: &mut [u8]) {
        match outgoing.ping {
            Some(FRAME_OF_STREAM) => self.stamp_stream(at, buffer),
            Some(ping) => self.stamp_sent(outgoing.vm, ping, at),
            None => {}
        }
    }

    /// Records `at` as the send time of `ping`.
    pub(super) fn stamp_sent(&mut self, vm: VmId, ping: PingId, at: Instant) {
        let Some(Some(slot)) = self.slots.get_mut(vm.index()) else {
            return;
        };
        let Some(&flow) = slot.flows.get(ping.session) else {
            return;
        };
        if let Some((due, ready)) = slot.vm.stamp_sent(ping, at) {
            self.push_record(Entry::Sent {
                flow,
                due,
                ready,
                sent: at,
            });
            // The timer is armed later: the frame is still to be written, and its reply may arrive before the next wait.
            self.unarmed.push(flow);
        }
    }

    /// Records the lag of a frame: `elapsed` nanoseconds passed between the return of the poll and its handling.
    pub fn lag(&mut self, elapsed: u64) {
        self.push_record(Entry::Lag(elapsed));
    }

    /// Records the result of writing a frame. If the fabric did not accept it, `refused` tells when that was, whose it is, and
    /// what is in it.
    #[inline]
    pub fn frame_written<'f>(
        &mut self,
        outcome: Write,
        refused: impl FnOnce() -> (Instant, VmId, &'f [u8]),
    ) {
        match outcome {
            Write::Sent => self.recorder.frame_out(),
            Write::Dropped(reason) => {
                let (now, vm, frame) = refused();
                self.frame_refused(now, vm, frame, reason);
            }
        }
    }

    /// Records that the fabric did not accept a frame of `vm`.
    #[cold]
    fn frame_refused(&mut self, now: Instant, vm: VmId, frame: &[u8], reason: WriteDrop) {
        self.recorder.dropped(reason.into());
        self.note_refused(now, vm, frame, reason);
        self.note_refused_stream(now, vm, frame, reason);
    }

    /// Updates the totals, the VM's timer and its waiting flows after its state has changed.
    #[cold]
    pub(super) fn after_change(&mut self, now: Instant, vm: VmId) {
        self.bound_fragments(vm);
        self.count_configuring(vm);
        self.count_connections(now, vm);
        self.schedule(vm);
        self.member_changed(now, vm);
        self.wake_flows(now, vm);
    }

    /// Records the event of a VM's reaction, and follows up a change of its state. Returns the frame to send, if any.
    #[inline(always)]
    pub(super) fn apply(
        &mut self,
        mut now: impl Now,
        vm: VmId,
        reaction: Reaction,
    ) -> Option<Outgoing> {
        if let Some(event) = &reaction.event {
            let now = now.now();
            self.fabric.tell_event(now, vm, event);
            self.record(now, vm, event);
        }
        let slot = self.slots.get_mut(vm.index()).and_then(Option::as_mut);
        if slot.is_some_and(|slot| slot.vm.take_dirty()) {
            self.after_change(now.now(), vm);
        }
        reaction.transmit.map(|transmit| Outgoing {
            vm,
            length: transmit.length,
            ping: transmit.ping,
            more: false,
        })
    }

    /// Records a pause of the process that the reading of the clock for the last frame has shown: the reply in that frame,
    /// if it was one, arrived after the pause.
    #[cold]
    pub fn paused(&mut self, pause: Pause) {
        let reply = self.buffer.take_last_reply();
        self.recorder().paused(pause);
        if let Some(reply) = reply {
            self.push_record(reply);
        }
    }
}
