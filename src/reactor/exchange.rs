//! Frames from TAP to VM and on: read, handled, and sent where they go.

use super::Reactor;
use crate::fabric::{Fabric, Read, Write};
use crate::hypervisor::{Hypervisor, Outgoing};
use crate::record::DropReason;
use crate::time::{Clock, Instant};
use crate::vm::VmId;
use crate::wire::MacAddr;

/// Frames read from one TAP before another gets its turn.
const READ_BUDGET: usize = 64;
/// Frames followed from TAP to TAP for one frame sent: a request, its reply, and one to spare.
const FOLLOW_BUDGET: usize = 3;

/// Where a frame goes, and where it comes from.
fn addresses(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let (destination, rest) = frame.split_first_chunk()?;
    Some((MacAddr(*destination), MacAddr(*rest.first_chunk()?)))
}

impl Reactor {
    /// Reads a TAP until it is empty or its budget is spent.
    pub(super) fn drain<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, vm: VmId) {
        // When a frame was handled last.
        let mut last = None;
        for _ in 0..READ_BUDGET {
            match hypervisor.fabric().read(vm, &mut self.buffer) {
                Read::Frame(length) => {
                    let (now, reply) = match self.answer(hypervisor, vm, length) {
                        // The lag of what follows at once on another frame is told without a clock of its own.
                        Some(answer) => (last.unwrap_or_else(|| self.clock.now()), Some(answer)),
                        None => {
                            let now = self.clock.now();
                            (now, self.handle(hypervisor, now, vm, length))
                        }
                    };
                    hypervisor.lag(now.nanos_since(self.polled_at));
                    let read_at = reply.and_then(|reply| self.exchange(hypervisor, reply));
                    last = read_at.or(Some(now));
                }
                Read::Empty => return,
                // Of a VM that was removed while its TAP stood on the list.
                Read::Failed if hypervisor.vm(vm).is_none() => return,
                Read::Failed => return hypervisor.recorder().dropped(DropReason::ReadFailed),
            }
        }
        self.undrained.push_back(vm);
    }

    /// Sends a frame, reads it where it went, sends what comes of it, and so on to the end of the exchange. Returns when
    /// the last frame was read, if any was.
    pub(super) fn exchange<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        first: Outgoing,
    ) -> Option<Instant> {
        let mut outgoing = first;
        let mut read_at = None;
        // Whose request was answered: the answer goes back there.
        let mut asker = None;
        for _ in 0..FOLLOW_BUDGET {
            let Outgoing { vm, more, ping, .. } = outgoing;
            if !self.send(hypervisor, outgoing) || more || !self.prediction.is_worth_a_read() {
                return read_at;
            }
            let Some((destination, source)) = addresses(&self.buffer) else {
                return read_at;
            };
            let Some(receiver) = asker.take().or_else(|| hypervisor.station(destination)) else {
                return read_at;
            };
            let Read::Frame(length) = hypervisor.fabric().read(receiver, &mut self.buffer) else {
                self.prediction.missed();
                return read_at;
            };
            self.prediction.hit();
            if self.attention.hit(receiver) {
                // If it fails, the poll tells of it still.
                let _ = hypervisor.fabric().announce(receiver, false);
            }
            let is_ours = addresses(&self.buffer).is_some_and(|(_, from)| from == source);
            if !is_ours {
                // Somebody else's frame came before, and ours lies behind it.
                self.undrained.push_back(receiver);
            }
            if ping.is_some()
                && let Some(answer) = self.answer(hypervisor, receiver, length)
            {
                asker = is_ours.then_some(vm);
                outgoing = answer;
                continue;
            }
            let now = self.clock.now();
            read_at = Some(now);
            let Some(reply) = self.handle(hypervisor, now, receiver, length) else {
                return read_at;
            };
            outgoing = reply;
        }
        self.send(hypervisor, outgoing);
        read_at
    }

    /// Has a VM answer a frame that was read if it is an echo request as they come. That takes no time, unless somebody
    /// wants to be told when.
    fn answer<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        vm: VmId,
        length: usize,
    ) -> Option<Outgoing> {
        let frame = self.buffer.get_mut(..length)?;
        match self.narrator {
            None => hypervisor.answer(vm, frame),
            Some(_) => None,
        }
    }

    /// Hands a frame that was read to its VM.
    fn handle<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        vm: VmId,
        length: usize,
    ) -> Option<Outgoing> {
        if let Some(narrator) = &mut self.narrator {
            narrator.received(now, vm, self.buffer.get(..length).unwrap_or_default());
        }
        let reply = hypervisor.receive(now, vm, &mut self.buffer, length);
        self.tell(hypervisor, now);
        reply
    }

    /// Writes a frame, stamped if it starts a ping. Whether the fabric took it.
    fn send<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, outgoing: Outgoing) -> bool {
        let frame = self.buffer.get(..outgoing.length).unwrap_or_default();
        if let Some(narrator) = &mut self.narrator {
            narrator.sent(self.clock.now(), outgoing.vm, frame);
        }
        if let Some(ping) = outgoing.ping {
            hypervisor.stamp_sent(outgoing.vm, ping, self.clock.now());
        }
        let written = hypervisor.fabric().write(outgoing.vm, frame);
        hypervisor.frame_written(written);
        written == Write::Sent
    }

    /// Narrates what happened.
    pub(super) fn tell<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, now: Instant) {
        if let Some(narrator) = &mut self.narrator
            && let Some((vm, event)) = hypervisor.take_event()
        {
            narrator.event(now, vm, event);
        }
    }
}
