//! TCP connections that are accepted and closed again (RFC 9293), without data.
//!
//! Nothing is kept of a connection, be it half open, open or closed: what a listener says in one follows from the segment that it
//! answers. Its initial sequence number follows from both ends, as that of a SYN cookie does (RFC 4987 section 3.6), and so who
//! acknowledges it has got it. However many SYNs come, they take no memory; and there is no number of connections after which one
//! more is refused.

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

    /// The initial sequence number of the connection that a segment is of, from one address to the other.
    fn initial_sequence(&self, addresses: (IpAddr, IpAddr), segment: &TcpSegment) -> u32 {
        let mut hasher = DefaultHasher::new();
        (self.secret, addresses, segment.source_port).hash(&mut hasher);
        hasher.finish() as u32
    }

    /// Answers a segment that is for its port.
    fn receive(
        &self,
        addresses: (IpAddr, IpAddr),
        size: u16,
        segment: &TcpSegment,
    ) -> Option<TcpSegment> {
        let initial = self.initial_sequence(addresses, segment);
        let answer = TcpSegment {
            acknowledgement: Some(segment.next_sequence()),
            ..segment.turned()
        };
        let Some(acknowledged) = segment.acknowledgement else {
            // A FIN beside a SYN, or neither, is nobody's.
            let is_syn = segment.is_syn && !segment.is_fin && !segment.is_reset;
            return is_syn.then_some(TcpSegment {
                is_syn: true,
                sequence: initial,
                // Data beside a SYN is not taken.
                acknowledgement: Some(segment.sequence.wrapping_add(1)),
                maximum_segment_size: Some(size),
                ..answer
            });
        };
        let is_closed = match acknowledged.wrapping_sub(initial) {
            1 => false,
            2 => true,
            _ => return (!segment.is_reset).then(|| segment.reset()),
        };
        if segment.is_reset {
            return None;
        }
        if segment.is_syn || segment.payload_length > 0 {
            return Some(segment.reset());
        }
        segment.is_fin.then_some(TcpSegment {
            is_fin: !is_closed,
            sequence: acknowledged,
            ..answer
        })
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
