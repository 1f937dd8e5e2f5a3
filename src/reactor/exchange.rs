//! Frames from TAP to VM and on: read, handled, and sent where they go.

use super::Reactor;
use crate::fabric::{Fabric, Read, Write};
use crate::hypervisor::{Hypervisor, Outgoing, Step};
use crate::record::DropReason;
use crate::time::{Clock, Instant};
use crate::vm::VmId;
use crate::wire::{EthernetFrame, MacAddr};

/// Frames read from one TAP before another gets its turn.
const READ_BUDGET: usize = 64;
/// Frames followed from TAP to TAP for one frame sent: a request, its reply, and one to spare.
const FOLLOW_BUDGET: usize = 3;

/// A frame that the fabric has taken.
#[derive(Clone, Copy, Debug)]
struct Sent {
    source: MacAddr,
    destination: MacAddr,
}

impl Reactor {
    /// Reads a TAP until it is empty or its budget is spent.
    pub(super) fn drain<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, vm: VmId) {
        for _ in 0..READ_BUDGET {
            match hypervisor.fabric().read(vm, &mut self.buffer) {
                Read::Frame(length) => {
                    let now = self.clock.now();
                    hypervisor.recorder().lag(now.nanos_since(self.polled_at));
                    if let Some(reply) = self.handle(hypervisor, now, vm, length) {
                        self.exchange(hypervisor, reply);
                    }
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
        for _ in 0..FOLLOW_BUDGET {
            let more = outgoing.more;
            let Some(sent) = self.send(hypervisor, outgoing) else {
                return read_at;
            };
            if more || !self.prediction.is_worth_a_read() {
                return read_at;
            }
            let Some(vm) = hypervisor.station(sent.destination) else {
                return read_at;
            };
            let Read::Frame(length) = hypervisor.fabric().read(vm, &mut self.buffer) else {
                self.prediction.missed();
                return read_at;
            };
            self.prediction.hit();
            if self.attention.hit(vm) {
                // If it fails, the poll tells of it still.
                let _ = hypervisor.fabric().announce(vm, false);
            }
            if self.buffer.get(6..12) != Some(&sent.source.0) {
                // Somebody else's frame came before, and ours lies behind it.
                self.undrained.push_back(vm);
            }
            let now = self.clock.now();
            read_at = Some(now);
            let Some(reply) = self.handle(hypervisor, now, vm, length) else {
                return read_at;
            };
            outgoing = reply;
        }
        self.send(hypervisor, outgoing);
        read_at
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
        let step = hypervisor.receive(now, vm, &mut self.buffer, length)?;
        self.tell(now, step)
    }

    /// Writes a frame, stamped if it starts a ping. Returns where it went if the fabric took it.
    fn send<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        outgoing: Outgoing,
    ) -> Option<Sent> {
        let frame = self.buffer.get(..outgoing.length).unwrap_or_default();
        if let Some(narrator) = &mut self.narrator {
            narrator.sent(self.clock.now(), outgoing.vm, frame);
        }
        if let Some(ping) = outgoing.ping {
            hypervisor.stamp_sent(outgoing.vm, ping, self.clock.now());
        }
        let written = hypervisor.fabric().write(outgoing.vm, frame);
        hypervisor.frame_written(written);
        match written {
            Write::Sent => EthernetFrame::parse(frame).ok().map(|frame| Sent {
                source: frame.source,
                destination: frame.destination,
            }),
            Write::Dropped(_) => None,
        }
    }

    /// Narrates what happened, and hands on what is to be sent.
    pub(super) fn tell(&mut self, now: Instant, step: Step) -> Option<Outgoing> {
        if let (Some(narrator), Some(event)) = (&mut self.narrator, &step.event) {
            narrator.event(now, step.vm, *event);
        }
        step.outgoing
    }
}
