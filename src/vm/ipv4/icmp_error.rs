//! ICMP errors (RFC 792, RFC 1122 section 3.2.2): those about our pings, and those about what others send us.

use std::net::{IpAddr, Ipv4Addr};

use crate::time::Instant;
use crate::vm::ip::{DEFAULT_TIME_TO_LIVE, Disposition, ErrorMessage, is_host};
use crate::vm::{Ignored, PingError, Vm};
use crate::wire::{
    EthernetFrame, IcmpError, IcmpErrorKind, ipv4_destination, turn_into_icmp_error,
};

impl Vm {
    /// Ends the ping that an error quotes. One that tells how much the path carries holds for what is sent next as well; it
    /// may be about an answer, too.
    pub(super) fn receive_icmp_error(
        &mut self,
        now: Instant,
        error: &IcmpError,
    ) -> Result<Disposition, Ignored> {
        let is_too_big = error.kind == IcmpErrorKind::FRAGMENTATION_NEEDED;
        let own = self.address().map(IpAddr::V4);
        let quoted = error
            .quoted
            .filter(|quoted| Some(quoted.source) == own && (quoted.is_request || is_too_big));
        let quoted = quoted.ok_or(Ignored::UnexpectedIcmpError)?;
        let mut event = None;
        if quoted.is_request {
            event = self.receive_quoted(now, &quoted, ping_error(error.kind));
            event.ok_or(Ignored::UnexpectedIcmpError)?;
        }
        if let IpAddr::V4(destination) = quoted.destination
            && is_too_big
        {
            self.ipv4
                .lower_path_mtu(now, destination, error.next_hop_mtu, self.mtu);
        }
        Ok(Disposition::Taken(event))
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
        let is_hosts = matches!(error_message.destination, IpAddr::V4(to) if is_host(to));
        let to_group = ipv4_destination(buffer).is_none_or(|to| to.is_multicast());
        if frame.destination.is_multicast()
            || to_group
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
