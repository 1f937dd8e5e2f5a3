//! Frames from TAP to VM and on: read, handled, and sent where they go.

use super::{Reactor, Unlooked};
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
                        Some(answer) => {
                            let now = last.unwrap_or_else(|| self.read_clock(hypervisor));
                            (now, Some(answer))
                        }
                        None => {
                            let now = self.read_clock(hypervisor);
                            (now, self.handle(hypervisor, now, vm, length))
                        }
                    };
                    hypervisor.lag(now.nanos_since(self.known_since));
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
            if !self.send(hypervisor, outgoing) {
                return read_at;
            }
            if more || !self.prediction.is_worth_a_read() {
                self.leave_unlooked();
                return read_at;
            }
            let Some((destination, source)) = addresses(&self.buffer) else {
                return read_at;
            };
            let Some(receiver) = asker.take().or_else(|| hypervisor.station(destination)) else {
                return self.look_outside(hypervisor, vm, destination).or(read_at);
            };
            let Read::Frame(length) = hypervisor.fabric().read(receiver, &mut self.buffer) else {
                self.prediction.missed();
                self.leave_unlooked();
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
            let now = self.read_clock(hypervisor);
            read_at = Some(now);
            let Some(reply) = self.handle(hypervisor, now, receiver, length) else {
                return read_at;
            };
            outgoing = reply;
        }
        self.send(hypervisor, outgoing);
        read_at
    }

    /// A frame went from `vm` to somebody outside of the tool. Who answers within the write, as the kernel of this host does,
    /// has answered into the TAP that was written to. Returns when a frame was read there.
    fn look_outside<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        vm: VmId,
        destination: MacAddr,
    ) -> Option<Instant> {
        if destination.is_multicast() || !self.outside.is_worth_a_read() {
            self.leave_unlooked();
            return None;
        }
        let Read::Frame(length) = hypervisor.fabric().read(vm, &mut self.buffer) else {
            self.outside.missed();
            self.leave_unlooked();
            return None;
        };
        self.outside.hit();
        let now = self.read_clock(hypervisor);
        if addresses(&self.buffer).is_none_or(|(_, from)| from != destination) {
            // Something else came before.
            self.undrained.push_back(vm);
        }
        if let Some(reply) = self.handle(hypervisor, now, vm, length) {
            self.send(hypervisor, reply);
            self.leave_unlooked();
        }
        Some(now)
    }

    /// A frame was sent, and nobody has looked for what may have come of it.
    fn leave_unlooked(&mut self) {
        if self.unlooked == Unlooked::Nothing {
            self.unlooked = Unlooked::Frame;
        }
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
        if let Some(narrator) = &mut self.narrator {
            let frame = self.buffer.get(..outgoing.length).unwrap_or_default();
            narrator.sent(self.clock.now(), outgoing.vm, frame);
        }
        if let Some(ping) = outgoing.ping {
            let now = self.read_clock(hypervisor);
            if self.unlooked == Unlooked::Frame {
                self.unlooked = Unlooked::Since(now);
            }
            hypervisor.stamp_sent(outgoing.vm, ping, now);
        }
        let frame = self.buffer.get(..outgoing.length).unwrap_or_default();
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
