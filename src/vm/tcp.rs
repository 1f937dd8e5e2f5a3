//! TCP (RFC 9293) over either family: a segment is of a connection that the VM has opened, or for the port at which it listens;
//! others are answered with a reset, as often as they come.

use std::net::IpAddr;

use super::ip::{Answer, Disposition, Service};
use super::{Event, Ignored, Vm};
use crate::time::Instant;
use crate::wire::TcpSegment;

/// What comes of a segment.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Arrived {
    /// The segment that answers it.
    pub(super) answer: Option<TcpSegment>,
    pub(super) event: Option<Event>,
}

impl Arrived {
    /// Of one to a port at which nobody listens.
    fn at_closed_port(segment: &TcpSegment) -> Arrived {
        let closed = Ignored::ClosedPort(segment.destination_port);
        Arrived {
            answer: (!segment.is_reset).then(|| segment.reset()),
            event: Some(Event::Ignored(closed)),
        }
    }
}

impl Vm {
    /// Takes a segment from one host to the VM, that lies `offset` bytes into its frame.
    pub(super) fn receive_segment(
        &mut self,
        now: Instant,
        (source, destination): (IpAddr, IpAddr),
        offset: usize,
        segment: &TcpSegment,
    ) -> Result<Disposition, Ignored> {
        let of_connection = self.receive_of_connection(now, source, segment);
        let addresses = (source, destination);
        let arrived = of_connection
            .or_else(|| self.receive_at_listener(addresses, segment))
            .unwrap_or_else(|| Arrived::at_closed_port(segment));
        let Arrived { answer, event } = arrived;
        match (answer, event) {
            (Some(answer), event) => Ok(Disposition::Answer(Answer {
                service: Service::Tcp(answer, event),
                offset,
                destination: source,
                source: destination,
            })),
            (None, Some(Event::Ignored(ignored))) => Err(ignored),
            (None, event) => Ok(Disposition::Taken(event)),
        }
    }
}
