//! TCP (RFC 9293) of a host that listens at no port: a segment is answered with a reset, as often as it comes.

use super::{Action, TIME_TO_LIVE};
use crate::vm::ipv6::Received;
use crate::vm::{Event, Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    EthernetFrame, Ipv4Packet, Ipv6Packet, TcpSegment, turn_into_ipv6_tcp_reset,
    turn_into_tcp_reset,
};

/// Finds out what to do with a segment over IPv4.
pub(super) fn receive_tcp(packet: &Ipv4Packet<'_>) -> Result<Action, Ignored> {
    let segment = TcpSegment::parse(packet).map_err(Ignored::Malformed)?;
    answerable(segment).map(Action::Reset)
}

/// The same over IPv6, of a segment that lies `offset` bytes into the frame. What went to a group, or came from nobody,
/// gets no answer.
pub(in crate::vm) fn receive_ipv6_tcp(
    packet: &Ipv6Packet<'_>,
    offset: usize,
    payload: &[u8],
) -> Result<Received, Ignored> {
    let segment = TcpSegment::parse_ipv6(packet, payload, offset).map_err(Ignored::Malformed)?;
    if packet.destination.is_multicast() || packet.source.is_unspecified() {
        return Err(Ignored::ClosedPort(segment.destination_port));
    }
    answerable(segment).map(Received::Reset)
}

fn answerable(segment: TcpSegment) -> Result<TcpSegment, Ignored> {
    if segment.is_reset {
        return Err(Ignored::ClosedPort(segment.destination_port));
    }
    Ok(segment)
}

impl Vm {
    /// Turns the datagram in `frame` into a reset, unless the frame went to more than one station.
    pub(super) fn reset_ipv4(&self, segment: &TcpSegment, frame: &mut [u8]) -> Reaction {
        reset(segment, frame, |frame| {
            turn_into_tcp_reset(frame, segment, self.mac, TIME_TO_LIVE)
        })
    }

    /// The same over IPv6.
    pub(in crate::vm) fn reset_ipv6(&self, segment: &TcpSegment, frame: &mut [u8]) -> Reaction {
        reset(segment, frame, |frame| {
            let hop_limit = self.ipv6.as_ref()?.hop_limit();
            turn_into_ipv6_tcp_reset(frame, segment, self.mac, hop_limit)
        })
    }
}

fn reset(
    segment: &TcpSegment,
    frame: &mut [u8],
    turn: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Reaction {
    let is_alone = EthernetFrame::parse(frame).is_ok_and(|f| !f.destination.is_multicast());
    let length = if is_alone { turn(frame) } else { None };
    Reaction {
        transmit: length.map(|length| Transmit { length, ping: None }),
        event: Some(Event::Ignored(Ignored::ClosedPort(
            segment.destination_port,
        ))),
    }
}
