//! TCP connections that are accepted and closed again (RFC 9293), without data.
//!
//! Nothing is kept of a connection, be it half open, open or closed: what a listener says in one follows from the segment that it
//! answers. Its initial sequence number follows from both ends and the peer's, as that of a SYN cookie does (RFC 4987 section 3.6):
//! who acknowledges it has got it, and it tells what the peer's next number is. However many SYNs come, they take no memory; and there is
//! no number of connections after which one more is refused.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use crate::vm::Vm;
use crate::vm::tcp::Arrived;
use crate::wire::TcpSegment;

/// A port at which a VM accepts connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpListener {
    port: u16,
    /// Nobody else knows it, so that nobody acknowledges what he has not got.
    secret: u64,
}

impl TcpListener {
    pub(super) const fn new(port: u16, secret: u64) -> TcpListener {
        TcpListener { port, secret }
    }

    /// The initial sequence number of the connection that a segment is of, from one address to the other, if the peer's was
    /// `of_peer`.
    fn initial_sequence(
        &self,
        addresses: (IpAddr, IpAddr),
        segment: &TcpSegment,
        of_peer: u32,
    ) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.secret, addresses, segment.source_port, of_peer).hash(&mut hasher);
        hasher.finish() as u32
    }

    /// How far a segment is behind the peer's initial sequence number, and how far what it acknowledges is behind our own. `None` if
    /// it is of no connection.
    fn place(&self, addresses: (IpAddr, IpAddr), segment: &TcpSegment) -> Option<(u32, u32)> {
        let acknowledged = segment.acknowledgement?;
        // Behind the SYN, before it, and behind the FIN.
        [1, 0, 2].into_iter().find_map(|behind| {
            let of_peer = segment.sequence.wrapping_sub(behind);
            let initial = self.initial_sequence(addresses, segment, of_peer);
            let own = acknowledged.wrapping_sub(initial);
            (own == 1 || own == 2).then_some((behind, own))
        })
    }

    /// Answers a segment that is for its port.
    fn receive(
        &self,
        addresses: (IpAddr, IpAddr),
        size: u16,
        segment: &TcpSegment,
    ) -> Option<TcpSegment> {
        let answer = TcpSegment {
            acknowledgement: Some(segment.next_sequence()),
            ..segment.turned()
        };
        let Some(acknowledged) = segment.acknowledgement else {
            // A FIN beside a SYN, or neither, is nobody's.
            let is_syn = segment.is_syn && !segment.is_fin && !segment.is_reset;
            return is_syn.then_some(TcpSegment {
                is_syn: true,
                sequence: self.initial_sequence(addresses, segment, segment.sequence),
                // Data beside a SYN is not taken.
                acknowledgement: Some(segment.sequence.wrapping_add(1)),
                maximum_segment_size: Some(size),
                ..answer
            });
        };
        if segment.is_reset {
            return None;
        }
        let answer = TcpSegment {
            sequence: acknowledged,
            ..answer
        };
        match self.place(addresses, segment) {
            Some(_) if segment.is_syn => Some(segment.reset()),
            // A keep-alive, which has nothing new (RFC 9293 sections 3.8.4 and 3.10.7.4).
            Some((0, _)) if segment.payload_length <= 1 => Some(TcpSegment {
                acknowledgement: Some(segment.sequence.wrapping_add(1)),
                ..answer
            }),
            Some((1, own)) if segment.payload_length == 0 => segment.is_fin.then_some(TcpSegment {
                is_fin: own == 1,
                ..answer
            }),
            Some((2, _)) if segment.next_sequence() == segment.sequence => None,
            _ => Some(segment.reset()),
        }
    }
}

impl Vm {
    /// Takes a segment from one address to another that is for the port at which the VM listens. `None` if it is for another.
    pub(in crate::vm) fn receive_at_listener(
        &mut self,
        addresses: (IpAddr, IpAddr),
        segment: &TcpSegment,
    ) -> Option<Arrived> {
        let listener = self.probes.as_ref()?.services.tcp?;
        if listener.port != segment.destination_port {
            return None;
        }
        let size = self.maximum_segment_size(addresses.0);
        let answer = listener.receive(addresses, size, segment);
        self.requests_answered += u64::from(answer.is_some_and(|answer| answer.is_syn));
        Some(Arrived {
            answer,
            event: None,
        })
    }
}
