//! The frame path: frames read for a VM, and frames written for one.

use super::journal::Entry;
use super::{Hypervisor, Outgoing};
use crate::fabric::{Fabric, Write};
use crate::time::Instant;
use crate::vm::{PingId, Reaction, VmId};

impl<F: Fabric> Hypervisor<F> {
    /// Passes the frame in the first `length` bytes of `buffer`, read at `now`, to `vm`. Returns the frame that the VM
    /// sends in response, if any; it is built in `buffer`.
    pub fn receive(
        &mut self,
        now: Instant,
        vm: VmId,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<Outgoing> {
        self.recorder.frame_in();
        let reaction = self
            .guests
            .get_mut(vm.index())?
            .as_mut()?
            .vm
            .receive(now, buffer, length);
        self.apply(now, vm, reaction)
    }

    /// Answers `frame` in place if it is a plain echo request to `vm`, which needs no clock reading. `None`, without any
    /// effect, if it is another frame or the VM does not exist: then pass it to [`Hypervisor::receive`].
    pub fn answer(&mut self, vm: VmId, frame: &mut [u8]) -> Option<Outgoing> {
        let guest = self.guests.get_mut(vm.index())?.as_mut()?;
        let answer = guest.vm.answer_plain_echo(frame)?;
        self.recorder.frame_in();
        Some(Outgoing {
            vm,
            length: answer.length,
            ping: None,
            more: false,
        })
    }

    /// Records `at` as the send time of `ping`. To be called right before its frame is written.
    pub fn stamp_sent(&mut self, vm: VmId, ping: PingId, at: Instant) {
        let Some(Some(guest)) = self.guests.get_mut(vm.index()) else {
            return;
        };
        let Some(&flow) = guest.flows.get(usize::from(ping.session.0)) else {
            return;
        };
        if let Some((due, ready)) = guest.vm.stamp_sent(ping, at) {
            self.note(Entry::Sent {
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
        self.note(Entry::Lag(elapsed));
    }

    /// Records the result of writing a frame.
    pub fn frame_written(&mut self, outcome: Write) {
        match outcome {
            Write::Sent => self.recorder.frame_out(),
            Write::Dropped(reason) => self.recorder.dropped(reason.into()),
        }
    }

    /// Updates the totals, the VM's timer and its waiting flows after its state has changed.
    #[cold]
    pub(super) fn after_change(&mut self, now: Instant, vm: VmId) {
        self.bound_fragments(vm);
        self.count_configuring(vm);
        self.schedule(vm);
        self.wake_flows(now, vm);
    }

    /// Records the event of a VM's reaction, and follows up a change of its state. Returns the frame to send, if any.
    #[inline(always)]
    pub(super) fn apply(&mut self, now: Instant, vm: VmId, reaction: Reaction) -> Option<Outgoing> {
        if let Some(event) = &reaction.event {
            if self.keeps_events {
                self.event = Some((vm, *event));
            }
            self.record(now, vm, event);
        }
        let guest = self.guests.get_mut(vm.index()).and_then(Option::as_mut);
        if guest.is_some_and(|guest| guest.vm.take_dirty()) {
            self.after_change(now, vm);
        }
        reaction.transmit.map(|transmit| Outgoing {
            vm,
            length: transmit.length,
            ping: transmit.ping,
            more: false,
        })
    }
}
