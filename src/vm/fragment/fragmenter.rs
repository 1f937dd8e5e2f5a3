//! Datagrams that are larger than their path carries, on their way out fragment by fragment.
//!
//! A VM sends at most one frame at a time, so the first fragment goes out where the datagram would have, and the others
//! are work that is ready at once ([`Vm::poll`]).

use std::collections::VecDeque;

use crate::time::Instant;
use crate::vm::ipv6::Ipv6;
use crate::vm::{Ignored, PingId, Transmit, Vm};
use crate::wire::{
    ETHERNET_HEADER_LENGTH, EthernetFrame, Payload, insert_fragment_header, write_fragment,
    write_ipv6_fragment,
};

/// Datagrams that may be on their way out at once; the next are dropped.
pub const MAX_OUTGOING: usize = 64;

/// One datagram, whole.
#[derive(Debug)]
struct Queued {
    frame: Vec<u8>,
    /// It has a fragment header then.
    is_ipv6: bool,
    /// The largest datagram that its path carries.
    mtu: u16,
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

    /// Takes a frame that is to be cut into datagrams of at most `mtu` bytes; on IPv6, it has a fragment header. Returns
    /// true if there was room for it.
    pub(in crate::vm) fn push(
        &mut self,
        frame: &[u8],
        is_ipv6: bool,
        mtu: u16,
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
            mtu,
            ping,
            next: 0,
        });
        true
    }

    /// Builds the next fragment in `buffer`.
    ///
    /// The stamp of a ping belongs to its first fragment: what the fragments take among themselves is part of the
    /// round trip, as it is where the kernel cuts what `ping` has stamped.
    pub(in crate::vm) fn next(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        let queued = self.queue.front_mut()?;
        let (frame, next, mtu) = (&queued.frame, queued.next, usize::from(queued.mtu));
        let written = if queued.is_ipv6 {
            write_ipv6_fragment(frame, next, mtu, buffer)
        } else {
            write_fragment(frame, next, mtu, buffer)
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
        let carries = |mtu: u16| length <= ETHERNET_HEADER_LENGTH + usize::from(mtu);
        let interface = self.mtu;
        let ipv6 = self.ipv6.as_deref();
        let least = ipv6.map_or(interface, |ipv6| ipv6.least_mtu(interface));
        if carries(least.min(self.ipv4.least_mtu(interface))) {
            return Ok(transmit);
        }
        let frame = EthernetFrame::parse(buffer).map_err(Ignored::Malformed)?;
        let (is_ipv6, mtu) = match frame.payload().map_err(Ignored::Malformed)? {
            Payload::Ipv4(packet) => {
                let mtu = self.ipv4.path_mtu(now, packet.destination, interface);
                (false, mtu)
            }
            Payload::Ipv6(packet) => {
                let path_mtu = |ipv6: &Ipv6| ipv6.path_mtu(now, packet.destination, interface);
                (true, ipv6.map_or(interface, path_mtu))
            }
            Payload::Arp(_) | Payload::Other(_) => return Ok(transmit),
        };
        if carries(mtu) {
            return Ok(transmit);
        }
        if !may_be_cut {
            return Err(Ignored::FragmentationNeeded);
        }
        let length = if is_ipv6 {
            let identification = self.random.u32(..);
            insert_fragment_header(buffer, length, identification)
                .ok_or(Ignored::FragmentQueueFull)?
        } else {
            length
        };
        let frame = buffer.get(..length).unwrap_or_default();
        if !self.fragmenter.push(frame, is_ipv6, mtu, ping) {
            return Err(Ignored::FragmentQueueFull);
        }
        Ok(self.fragmenter.next(buffer))
    }
}
