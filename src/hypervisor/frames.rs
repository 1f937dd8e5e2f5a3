//! A frame that was read for a VM, and a frame that was written for one.

use super::journal::Entry;
use super::{Hypervisor, Outgoing};
use crate::fabric::{Fabric, Write};
use crate::time::Instant;
use crate::vm::{PingId, Reaction, VmId};

impl<F: Fabric> Hypervisor<F> {
    /// Hands the frame of `length` bytes at the start of `buffer`, read at `now`, to the VM it was read for. Returns the
    /// frame that it sends in turn.
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

    /// The same for a frame that is expected to be an echo request, which is answered without a look at the clock. `None`,
    /// and nothing has happened, if it is anything else or there is no such VM.
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

    /// Records that the frame of `ping` is written at `at`.
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
            // Not now: the frame is still to be written, and its reply may be read before anybody has to wait for it.
            self.unarmed.push(flow);
        }
    }

    /// Records that a frame was handled `elapsed` nanoseconds after the driver knew of it.
    pub fn lag(&mut self, elapsed: u64) {
        self.note(Entry::Lag(elapsed));
    }

    /// Records what the fabric made of a frame.
    pub fn frame_written(&mut self, outcome: Write) {
        match outcome {
            Write::Sent => self.recorder.frame_out(),
            Write::Dropped(reason) => self.recorder.dropped(reason.into()),
        }
    }

    /// Sees to it that the VM is asked again when it wants to be, and keeps what is kept of all VMs together.
    #[cold]
    pub(super) fn after_change(&mut self, now: Instant, vm: VmId) {
        self.bound_fragments(vm);
        self.count_configuring(vm);
        self.schedule(vm);
        self.wake_flows(now, vm);
    }

    /// Records what a VM's reaction says, and sees to it that the VM is asked again when it wants to be.
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
