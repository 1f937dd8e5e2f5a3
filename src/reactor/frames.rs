//! The frame path: a frame is read from a TAP and handled, the response is written and read at its destination at once.

use super::{Reactor, Unread};
use crate::fabric::{Fabric, Read, Write};
use crate::hypervisor::{Arrival, Hypervisor, Outgoing, Step};
use crate::record::DropReason;
use crate::time::{Instant, LazyNow, MonotonicClock, Now};
use crate::vm::VmId;
use crate::wire::MacAddr;

/// Frames read from one TAP before the next one is read.
const READ_BUDGET: usize = 64;
/// Held frames that are passed on in a turn before TAPs are read.
const PASS_BUDGET: usize = 64;
/// Frames followed from TAP to TAP for one frame sent: a request, its reply, and one to spare.
const FOLLOW_BUDGET: usize = 3;

/// Returns the destination and source addresses of a frame.
fn addresses(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let (destination, rest) = frame.split_first_chunk()?;
    Some((MacAddr(*destination), MacAddr(*rest.first_chunk()?)))
}

impl Reactor {
    /// Sends the frames that are due, and follows each to its destination. Of a flow that sends several at once all are read
    /// there before it is another flow's turn: frames that wait in the kernel wait within their rtt, and take its caches.
    pub(super) fn send_due<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>) {
        let mut now = self.read_clock(hypervisor);
        // The VM that moves announces itself once the poll has told that it is there.
        let budget = match hypervisor.is_any_under_way() {
            true => 1,
            false => self.send_budget,
        };
        for _ in 0..budget {
            let Some(step) = hypervisor.next_step(now, &mut self.buffer) else {
                break;
            };
            self.busy_poll.worked(now);
            if let Step::Send(outgoing) = step {
                let clock = LazyNow::new(self.clock);
                now = self.exchange(hypervisor, clock, outgoing).unwrap_or(now);
                self.is_in_burst = outgoing.more;
            }
            if let Some(receiver) = self.burst_at.take() {
                if let Unread::Since(first) = std::mem::take(&mut self.unread) {
                    self.known_since = first;
                }
                now = self.drain(hypervisor, receiver).unwrap_or(now);
            }
        }
        self.is_in_burst = false;
    }

    /// Reads a TAP until it is empty or its budget is spent. Returns the time at which a frame was last handled; `None` if
    /// there was none.
    pub(super) fn drain<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        vm: VmId,
    ) -> Option<Instant> {
        // Time at which a frame was last handled.
        let mut last = None;
        for _ in 0..READ_BUDGET {
            let mut now = LazyNow::new(self.clock);
            match hypervisor.fabric().read(&mut now, vm, &mut self.buffer) {
                Read::Frame(length) => {
                    let reply = self.handle(hypervisor, &mut now, vm, length);
                    // A plain echo request that directly follows another frame takes its lag from that frame's clock
                    // reading.
                    let handled = match now.reading().or(last) {
                        Some(at) => at,
                        None => self.read_clock(hypervisor),
                    };
                    hypervisor.lag(handled.nanos_since(self.known_since));
                    let read_at = reply.and_then(|reply| self.exchange(hypervisor, now, reply));
                    last = read_at.or(Some(handled));
                }
                Read::Consumed(_) => {}
                Read::Empty => return last,
                // The VM was removed while its TAP was queued.
                Read::Failed if hypervisor.vm(vm).is_none() => return last,
                Read::Failed => {
                    hypervisor.recorder().dropped(DropReason::ReadFailed);
                    return last;
                }
            }
        }
        self.undrained.push_back(vm);
        last
    }

    /// Sends a frame, reads it from the TAP of its destination, sends the response, and so on to the end of the exchange.
    /// `now` is that of the frame that the first one answers. Returns the time at which the last frame was read; `None` if
    /// none was.
    pub(super) fn exchange<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        mut now: LazyNow<MonotonicClock>,
        first: Outgoing,
    ) -> Option<Instant> {
        let mut outgoing = first;
        let mut read_at = None;
        // The VM whose request was answered: the reply goes back to it.
        let mut asker = None;
        for _ in 0..FOLLOW_BUDGET {
            let Outgoing { vm, more, .. } = outgoing;
            if !self.send(hypervisor, &mut now, outgoing) {
                return read_at;
            }
            if more || !self.prediction.is_worth_a_read() {
                self.leave_unread();
                return read_at;
            }
            let Some((destination, source)) = addresses(&self.buffer) else {
                return read_at;
            };
            let Some(receiver) = asker.take().or_else(|| hypervisor.station(destination)) else {
                return self.look_outside(hypervisor, vm, destination).or(read_at);
            };
            now.pass();
            let read = hypervisor
                .fabric()
                .read(&mut now, receiver, &mut self.buffer);
            let length = match read {
                Read::Frame(length) => length,
                // Nothing is left to follow.
                Read::Consumed(_) => return read_at,
                Read::Empty | Read::Failed => {
                    self.prediction.missed();
                    self.leave_unread();
                    return read_at;
                }
            };
            self.prediction.hit();
            if self.watch_set.count_read(receiver) {
                // If it fails, epoll still reports the TAP.
                let _ = hypervisor.fabric().set_polled(receiver, false);
            }
            let is_ours = addresses(&self.buffer).is_some_and(|(_, from)| from == source);
            if !is_ours {
                // A frame of another sender was queued before, and ours is behind it.
                self.undrained.push_back(receiver);
            } else if std::mem::take(&mut self.is_in_burst) {
                // The first of a burst was, and the rest of it is behind it.
                self.burst_at = Some(receiver);
            }
            let reply = self.handle(hypervisor, &mut now, receiver, length);
            read_at = now.reading().or(read_at);
            let Some(reply) = reply else {
                return read_at;
            };
            // Without a reading it was a plain echo request, whose reply goes back to where it came from.
            asker = (is_ours && now.reading().is_none()).then_some(vm);
            outgoing = reply;
        }
        self.send(hypervisor, &mut now, outgoing);
        read_at
    }

    /// Reads the reply to a frame that `vm` sent to an address outside the run. A peer that replies within the write, as
    /// this host's kernel does, has queued its reply on the same TAP. Returns the time at which a frame was read there.
    fn look_outside<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        vm: VmId,
        destination: MacAddr,
    ) -> Option<Instant> {
        if destination.is_multicast() || !self.outside.is_worth_a_read() {
            self.leave_unread();
            return None;
        }
        let mut now = LazyNow::new(self.clock);
        let Read::Frame(length) = hypervisor.fabric().read(&mut now, vm, &mut self.buffer) else {
            self.outside.missed();
            self.leave_unread();
            return None;
        };
        self.outside.hit();
        if addresses(&self.buffer).is_none_or(|(_, from)| from != destination) {
            // Another frame was queued before the reply.
            self.undrained.push_back(vm);
        }
        if let Some(reply) = self.handle(hypervisor, &mut now, vm, length) {
            self.send(hypervisor, &mut now, reply);
            self.leave_unread();
        }
        now.reading()
    }

    /// Passes on the frames within this process that are due: those that impairments have held, and those of ports that several
    /// VMs are behind. Their receivers read them at once: of such a port, the next frame comes after that one.
    pub(super) fn pass_due<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>) {
        if hypervisor.fabric().next_at().is_none() {
            return;
        }
        for _ in 0..PASS_BUDGET {
            let now = self.read_clock(hypervisor);
            match hypervisor.next_arrival(now) {
                Some(Arrival::Frame(vm)) => {
                    self.drain(hypervisor, vm);
                }
                Some(Arrival::Passed) => self.leave_unread(),
                None => return,
            }
            self.busy_poll.worked(now);
        }
    }

    /// Records that a frame was sent whose reply may be queued but was not read.
    fn leave_unread(&mut self) {
        if self.unread == Unread::Nothing {
            self.unread = Unread::Frame;
        }
    }

    /// Passes the frame in the buffer, read `now`, to its VM.
    #[inline]
    fn handle<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: &mut LazyNow<MonotonicClock>,
        vm: VmId,
        length: usize,
    ) -> Option<Outgoing> {
        let reply = hypervisor.receive(&mut *now, vm, &mut self.buffer, length);
        if let Some(now) = now.reading() {
            self.check_gap(hypervisor, now);
        }
        reply
    }

    /// Writes a frame; one that starts a ping or is of a stream is stamped before. Another one, which answers a frame that was read `now`, is
    /// sent at the same time for whoever asks. Returns true if the fabric accepted it.
    fn send<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: &mut LazyNow<MonotonicClock>,
        outgoing: Outgoing,
    ) -> bool {
        if outgoing.is_stamped() {
            now.pass();
            let now = now.now();
            self.check_gap(hypervisor, now);
            if self.unread == Unread::Frame {
                self.unread = Unread::Since(now);
            }
            hypervisor.stamp(&outgoing, now, &mut self.buffer);
        }
        let frame = self.buffer.get(..outgoing.length).unwrap_or_default();
        let written = hypervisor.fabric().write(&mut *now, outgoing.vm, frame);
        hypervisor.frame_written(written, || {
            let frame = self.buffer.get(..outgoing.length);
            (now.now(), outgoing.vm, frame.unwrap_or_default())
        });
        written == Write::Sent
    }
}
