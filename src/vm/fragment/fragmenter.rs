//! Datagrams that are larger than their path carries, on their way out fragment by fragment.
//!
//! A VM sends at most one frame at a time, so the first fragment goes out where the datagram would have, and the others
//! are work that is ready at once ([`Vm::poll`]).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;

use crate::time::Instant;
use crate::vm::ipv6::Ipv6;
use crate::vm::{Ignored, PingId, Transmit, Vm};
use crate::wire::{
    ETHERNET_HEADER_LENGTH, EthernetFrame, IPV6_FRAGMENT_HEADER_LENGTH, Payload,
    insert_fragment_header, write_fragment, write_ipv6_fragment,
};

/// Datagrams that may be on their way out at once; the next are dropped.
pub const MAX_OUTGOING: usize = 64;

/// Bytes before a frame in the memory that it lies in: a fragment header fits in.
pub(in crate::vm) const HEADROOM: usize = IPV6_FRAGMENT_HEADER_LENGTH;

/// How a datagram is to be cut.
#[derive(Clone, Copy, Debug)]
pub(in crate::vm) struct Cut {
    pub(in crate::vm) is_ipv6: bool,
    /// The largest datagram that its path carries.
    pub(in crate::vm) mtu: u16,
}

/// One datagram, whole.
#[derive(Debug)]
struct Queued {
    memory: Vec<u8>,
    /// Where its frame lies in that; one of IPv6 has a fragment header.
    frame: Range<usize>,
    cut: Cut,
    /// The ping that its first fragment starts, until that is sent.
    ping: Option<PingId>,
    /// Where the next fragment starts in its payload.
    next: usize,
}

/// The queue of one VM. Memory: at most [`MAX_OUTGOING`] times 64 KiB while there is something to send; one buffer is
/// kept for the next.
#[derive(Debug, Default)]
pub(in crate::vm) struct Fragmenter {
    queue: VecDeque<Queued>,
    spare: Vec<u8>,
}

impl Fragmenter {
    pub(in crate::vm) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= MAX_OUTGOING
    }

    /// Tells if there is another fragment to send after the next one.
    pub(in crate::vm) fn has_several(&self) -> bool {
        let has_more = |first: &Queued| first.frame.len() > first.next + usize::from(first.cut.mtu);
        self.queue.len() > 1
            || self
                .queue
                .front()
                .is_some_and(|first| first.next > 0 && has_more(first))
    }

    /// Takes the memory that is kept, made large enough for a frame of `length` bytes that starts at [`HEADROOM`].
    fn take_memory(&mut self, length: usize) -> Vec<u8> {
        let mut memory = std::mem::take(&mut self.spare);
        if memory.len() < HEADROOM + length {
            memory.resize(HEADROOM + length, 0);
        }
        memory
    }

    /// Queues the datagram whose frame lies at `frame` in `memory`, which the memory that is kept takes the place of.
    fn push(&mut self, memory: &mut Vec<u8>, frame: Range<usize>, cut: Cut, ping: Option<PingId>) {
        self.queue.push_back(Queued {
            memory: std::mem::replace(memory, std::mem::take(&mut self.spare)),
            frame,
            cut,
            ping,
            next: 0,
        });
    }

    /// Builds the next fragment in `buffer`.
    ///
    /// The stamp of a ping belongs to its first fragment: what the fragments take among themselves is part of the
    /// round trip, as it is where the kernel cuts what `ping` has stamped.
    pub(in crate::vm) fn next(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        let queued = self.queue.front_mut()?;
        let frame = queued.memory.get(queued.frame.clone()).unwrap_or_default();
        let (next, mtu) = (queued.next, usize::from(queued.cut.mtu));
        let written = if queued.cut.is_ipv6 {
            write_ipv6_fragment(frame, next, mtu, buffer)
        } else {
            write_fragment(frame, next, mtu, buffer)
        };
        let ping = queued.ping.take();
        let (length, next) = written.unwrap_or_default();
        match next {
            Some(next) => queued.next = next,
            None => {
                self.spare = self.queue.pop_front()?.memory;
            }
        }
        (length > ETHERNET_HEADER_LENGTH).then_some(Transmit { length, ping })
    }

    /// Keeps no buffer for the next datagram.
    pub(in crate::vm) fn drop_spare(&mut self) {
        self.spare = Vec::new();
    }

    /// Bytes held.
    pub(in crate::vm) fn held(&self) -> usize {
        let queued: usize = self.queue.iter().map(|each| each.memory.capacity()).sum();
        queued + self.spare.capacity()
    }
}

impl Vm {
    /// Tells if an IPv4 frame of `length` bytes gets everywhere in one piece.
    pub(in crate::vm) fn carries(&self, length: usize) -> bool {
        length <= ETHERNET_HEADER_LENGTH + usize::from(self.ipv4.least_mtu(self.mtu))
    }

    /// Hands on a frame that its path carries; of one that it does not, the first fragment.
    ///
    /// # Errors
    /// When it must not be cut, or there is no room for it.
    pub(in crate::vm) fn fit(
        &mut self,
        now: Instant,
        transmit: Option<Transmit>,
        may_be_cut: bool,
        buffer: &mut [u8],
    ) -> Result<Option<Transmit>, Ignored> {
        let Some(Transmit { length, ping }) = transmit else {
            return Ok(None);
        };
        let frame = buffer.get(..length).unwrap_or_default();
        let Some(cut) = self.cut_of(now, frame)? else {
            return Ok(transmit);
        };
        if !may_be_cut {
            return Err(Ignored::FragmentationNeeded);
        }
        let write = |_: &mut Vm, space: &mut [u8]| {
            space.copy_from_slice(frame);
            Some(ping)
        };
        self.cut(cut, length, write)?;
        Ok(self.fragmenter.next(buffer))
    }

    /// Hands on a frame of `length` bytes as [`Vm::fit`] does, which lies from `start` on in `memory`; another memory may be
    /// there then.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(in crate::vm) fn fit_from(
        &mut self,
        now: Instant,
        memory: &mut Vec<u8>,
        (start, length): (usize, usize),
        buffer: &mut [u8],
    ) -> Result<Option<Transmit>, Ignored> {
        let frame = memory.get(start..start + length).unwrap_or_default();
        let Some(cut) = self.cut_of(now, frame)? else {
            let space = buffer.get_mut(..length);
            space.ok_or(Ignored::FragmentLength)?.copy_from_slice(frame);
            return Ok(Some(Transmit { length, ping: None }));
        };
        self.queue(cut, memory, start..start + length, None)?;
        if memory.capacity() == 0 {
            // The next datagram may be as large.
            memory.reserve(start + length);
        }
        Ok(self.fragmenter.next(buffer))
    }

    /// Tells how the datagram in `frame` is to be cut; `None` if its path carries it.
    fn cut_of(&self, now: Instant, frame: &[u8]) -> Result<Option<Cut>, Ignored> {
        let carries = |mtu: u16| frame.len() <= ETHERNET_HEADER_LENGTH + usize::from(mtu);
        let interface = self.mtu;
        let ipv6 = self.ipv6.as_deref();
        let least = ipv6.map_or(interface, |ipv6| ipv6.least_mtu(interface));
        if carries(least.min(self.ipv4.least_mtu(interface))) {
            return Ok(None);
        }
        let ethernet = EthernetFrame::parse(frame).map_err(Ignored::Malformed)?;
        let destination = match ethernet.payload().map_err(Ignored::Malformed)? {
            Payload::Ipv4(packet) => packet.destination.into(),
            Payload::Ipv6(packet) => packet.destination.into(),
            Payload::Arp(_) | Payload::Other(_) => return Ok(None),
        };
        let cut = self.cut_to(now, destination);
        Ok((!carries(cut.mtu)).then_some(cut))
    }

    /// Tells how a datagram to `destination` is to be cut if it is too large.
    pub(in crate::vm) fn cut_to(&self, now: Instant, destination: IpAddr) -> Cut {
        let (is_ipv6, mtu) = match destination {
            IpAddr::V4(destination) => (false, self.ipv4.path_mtu(now, destination, self.mtu)),
            IpAddr::V6(destination) => {
                let path_mtu = |ipv6: &Ipv6| ipv6.path_mtu(now, destination, self.mtu);
                (true, self.ipv6.as_deref().map_or(self.mtu, path_mtu))
            }
        };
        Cut { is_ipv6, mtu }
    }

    /// Queues a datagram to be cut, whose frame of `length` bytes `write` writes, and tells the ping that it starts; nothing if
    /// that returns `None`. Returns true if there was one.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(in crate::vm) fn cut(
        &mut self,
        cut: Cut,
        length: usize,
        write: impl FnOnce(&mut Vm, &mut [u8]) -> Option<Option<PingId>>,
    ) -> Result<bool, Ignored> {
        if self.fragmenter.is_full() {
            return Err(Ignored::FragmentQueueFull);
        }
        let mut memory = self.fragmenter.take_memory(length);
        let frame = HEADROOM..HEADROOM + length;
        let space = memory.get_mut(frame.clone()).unwrap_or_default();
        match write(self, space) {
            Some(ping) => self.queue(cut, &mut memory, frame, ping).map(|()| true),
            None => {
                self.fragmenter.spare = memory;
                Ok(false)
            }
        }
    }

    /// Queues the datagram whose frame lies at `frame` in `memory`, behind [`HEADROOM`] or more. What is kept for the next one
    /// takes its place.
    ///
    /// # Errors
    /// When there is no room for it.
    fn queue(
        &mut self,
        cut: Cut,
        memory: &mut Vec<u8>,
        mut frame: Range<usize>,
        ping: Option<PingId>,
    ) -> Result<(), Ignored> {
        if self.fragmenter.is_full() {
            return Err(Ignored::FragmentQueueFull);
        }
        if cut.is_ipv6 {
            frame.start = frame.start.saturating_sub(HEADROOM);
            let identification = self.random.u32(..);
            memory
                .get_mut(frame.clone())
                .and_then(|space| insert_fragment_header(space, identification))
                .ok_or(Ignored::FragmentQueueFull)?;
        }
        self.fragmenter.push(memory, frame, cut, ping);
        Ok(())
    }
}
