//! Datagrams that are larger than the link carries, on their way out fragment by fragment.
//!
//! A VM sends at most one frame at a time, so the first fragment goes out where the datagram would have, and the others
//! are work that is ready at once ([`Vm::poll`]).

use std::collections::VecDeque;

use crate::vm::{Ignored, PingId, Transmit, Vm};
use crate::wire::{
    ETHER_TYPE_IPV6, ETHERNET_HEADER_LENGTH, EthernetFrame, insert_fragment_header, write_fragment,
    write_ipv6_fragment,
};

/// Datagrams that may be on their way out at once; the next are dropped.
pub const MAX_OUTGOING: usize = 64;

/// The largest datagrams that the link carries, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::vm) struct Mtu {
    pub(in crate::vm) ipv4: u16,
    pub(in crate::vm) ipv6: u16,
}

/// One datagram, whole.
#[derive(Debug)]
struct Queued {
    frame: Vec<u8>,
    /// It has a fragment header then.
    is_ipv6: bool,
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

    pub(in crate::vm) fn is_full(&self) -> bool {
        self.queue.len() >= MAX_OUTGOING
    }

    /// Takes a frame that is to be cut; on IPv6, it has a fragment header. Returns whether there was room for it.
    pub(in crate::vm) fn push(
        &mut self,
        frame: &[u8],
        is_ipv6: bool,
        ping: Option<PingId>,
    ) -> bool {
        if self.is_full() {
            return false;
        }
        let mut copy = std::mem::take(&mut self.spare);
        copy.clear();
        copy.extend_from_slice(frame);
        self.queue.push_back(Queued {
            frame: copy,
            is_ipv6,
            ping,
            next: 0,
        });
        true
    }

    /// Builds the next fragment in `buffer`.
    ///
    /// The stamp of a ping belongs to its first fragment: what the fragments take among themselves is part of the
    /// round trip, as it is where the kernel cuts what `ping` has stamped.
    pub(in crate::vm) fn next(&mut self, mtu: Mtu, buffer: &mut [u8]) -> Option<Transmit> {
        let queued = self.queue.front_mut()?;
        let (frame, next) = (&queued.frame, queued.next);
        let written = if queued.is_ipv6 {
            write_ipv6_fragment(frame, next, usize::from(mtu.ipv6), buffer)
        } else {
            write_fragment(frame, next, usize::from(mtu.ipv4), buffer)
        };
        let ping = queued.ping.take();
        let (length, next) = written.unwrap_or_default();
        match next {
            Some(next) => queued.next = next,
            None => {
                self.spare = self.queue.pop_front()?.frame;
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
        let queued: usize = self.queue.iter().map(|each| each.frame.capacity()).sum();
        queued + self.spare.capacity()
    }
}

impl Vm {
    /// The largest datagrams that its link carries.
    pub(in crate::vm) fn mtu(&self) -> Mtu {
        let interface = self.mtu;
        Mtu {
            ipv4: self.ipv4.mtu(interface),
            ipv6: self
                .ipv6
                .as_ref()
                .map_or(interface, |ipv6| ipv6.mtu(interface)),
        }
    }

    /// Tells if the link carries an IPv4 frame of `length` bytes in one piece.
    pub(in crate::vm) fn carries(&self, length: usize) -> bool {
        length <= ETHERNET_HEADER_LENGTH + usize::from(self.ipv4.mtu(self.mtu))
    }

    /// Hands on a frame that the link carries; of one that it does not, the first fragment.
    pub(in crate::vm) fn fit(
        &mut self,
        transmit: Option<Transmit>,
        buffer: &mut [u8],
    ) -> Result<Option<Transmit>, Ignored> {
        let Some(Transmit { length, ping }) = transmit else {
            return Ok(None);
        };
        let mtu = self.mtu();
        let carries = |mtu: u16| length <= ETHERNET_HEADER_LENGTH + usize::from(mtu);
        if carries(mtu.ipv4.min(mtu.ipv6)) {
            return Ok(transmit);
        }
        let frame = EthernetFrame::parse(buffer).map_err(Ignored::Malformed)?;
        let is_ipv6 = frame.ether_type == ETHER_TYPE_IPV6;
        if !is_ipv6 && carries(mtu.ipv4) {
            return Ok(transmit);
        }
        let length = if is_ipv6 {
            let identification = self.random.u32(..);
            insert_fragment_header(buffer, length, identification)
                .ok_or(Ignored::FragmentQueueFull)?
        } else {
            length
        };
        let frame = buffer.get(..length).unwrap_or_default();
        if !self.fragmenter.push(frame, is_ipv6, ping) {
            return Err(Ignored::FragmentQueueFull);
        }
        Ok(self.fragmenter.next(mtu, buffer))
    }
}
