//! ICMP errors (RFC 792, RFC 1122 section 3.2.2): those about our pings, and those about what others send us.

use std::net::Ipv4Addr;

use crate::time::Instant;
use crate::vm::ip::{DEFAULT_TIME_TO_LIVE, ErrorMessage, is_host};
use crate::vm::{Event, PingError, Vm};
use crate::wire::{EthernetFrame, IcmpError, IcmpErrorKind, turn_into_icmp_error};

impl Vm {
    /// Ends the ping that an error quotes.
    pub(super) fn receive_icmp_error(&mut self, now: Instant, error: &IcmpError) -> Option<Event> {
        let quoted = error.quoted?;
        if Some(quoted.source) != self.address() {
            return None;
        }
        let destination = quoted.destination.into();
        let echo = (quoted.identifier, quoted.sequence);
        self.receive_echo_error(now, destination, echo, ping_error(error.kind))
    }

    /// Turns the datagram in `buffer` into an error about it from `source`, unless there were too many of late or RFC
    /// 1122 section 3.2.2 forbids it: what went to more than one station gets no answer. (It also forbids errors about
    /// errors, and about fragments but the first, which don't come here.) Returns the error's length.
    pub(in crate::vm) fn write_icmp_error(
        &mut self,
        now: Instant,
        error_message: &ErrorMessage,
        source: Ipv4Addr,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let frame = EthernetFrame::parse(buffer).ok()?;
        let is_hosts = matches!(error_message.destination, std::net::IpAddr::V4(to) if is_host(to));
        if frame.destination.is_multicast()
            || !is_hosts
            || !self.ipv4.limiter.allow(now, error_message.destination)
        {
            return None;
        }
        let error = (error_message.kind, error_message.parameter as u8);
        let identification = self.ipv4.next_identification();
        turn_into_icmp_error(
            buffer,
            error,
            self.mac,
            source,
            DEFAULT_TIME_TO_LIVE,
            identification,
        )
    }
}

/// The meaning of an error for the ping that it quotes.
fn ping_error(error: IcmpErrorKind) -> PingError {
    match (error.kind, error.code) {
        (3, 0 | 6 | 8 | 11) => PingError::NetworkUnreachable,
        (3, 1 | 7 | 12) => PingError::HostUnreachable,
        (3, 2) => PingError::ProtocolUnreachable,
        (3, 3) => PingError::PortUnreachable,
        (3, 4) => PingError::FragmentationNeeded,
        (3, 9 | 10 | 13) => PingError::Prohibited,
        (11, 1) => PingError::ReassemblyTimeExceeded,
        (11, _) => PingError::TimeExceeded,
        (12, _) => PingError::ParameterProblem,
        _ => PingError::Unreachable,
    }
}
