//! ICMP errors on IPv6 (RFC 4443): those about our pings, and those about what others send us.

use std::net::{IpAddr, Ipv6Addr};

use crate::time::Instant;
use crate::vm::ip::{DEFAULT_TIME_TO_LIVE, Disposition, ErrorMessage};
use crate::vm::{Ignored, PingError, Vm};
use crate::wire::{
    ExtensionFault, IPV6_NO_NEXT_HEADER, IcmpErrorKind, Icmpv6Error, Ipv6Packet, QuotedProbe,
    turn_into_icmpv6_error,
};

impl Vm {
    /// Refuses a packet whose extension headers are not as they should be.
    pub(super) fn refuse_extension(
        &self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        fault: ExtensionFault,
    ) -> Result<Disposition, Ignored> {
        let ignored = Ignored::ExtensionHeaders;
        match fault {
            ExtensionFault::Malformed(error) => Err(Ignored::Malformed(error)),
            ExtensionFault::Discard | ExtensionFault::TooMany => Err(ignored),
            ExtensionFault::ParameterProblem {
                code,
                pointer,
                even_to_group,
            } => {
                let kind = Icmpv6Error::PARAMETER_PROBLEM;
                let error = (IcmpErrorKind { kind, code }, pointer as u32);
                let ipv6 = self.ipv6.as_ref().filter(|_| even_to_group);
                let group_source = ipv6.and_then(|ipv6| ipv6.source_for(now, packet.source));
                self.refuse_ipv6(packet, ignored, error, group_source)
            }
        }
    }

    /// Refuses a packet of a protocol, named at `named_at`, that VMs don't speak.
    pub(super) fn refuse_protocol(
        &self,
        packet: &Ipv6Packet<'_>,
        protocol: u8,
        named_at: usize,
    ) -> Result<Disposition, Ignored> {
        let ignored = Ignored::Protocol(protocol);
        if protocol == IPV6_NO_NEXT_HEADER {
            return Err(ignored);
        }
        let error = (Icmpv6Error::UNRECOGNISED_NEXT_HEADER, named_at as u32);
        self.refuse_ipv6(packet, ignored, error, None)
    }

    /// Refuses a packet with an error message, if one may be sent about it: not to nobody, and not about what went to a
    /// group but for the few cases where that is allowed (RFC 4443 section 2.4 e): from `group_source` then.
    pub(super) fn refuse_ipv6(
        &self,
        packet: &Ipv6Packet<'_>,
        ignored: Ignored,
        (kind, parameter): (IcmpErrorKind, u32),
        group_source: Option<Ipv6Addr>,
    ) -> Result<Disposition, Ignored> {
        let to_group = packet.destination.is_multicast();
        if packet.source.is_unspecified() {
            return Err(ignored);
        }
        let source = if to_group {
            group_source.ok_or(ignored)?
        } else {
            packet.destination
        };
        Ok(Disposition::Error(ErrorMessage {
            ignored,
            destination: packet.source.into(),
            source: source.into(),
            kind,
            parameter,
        }))
    }

    /// Turns the refused packet in the first `length` bytes of `buffer` into the error message from `source`, unless there
    /// were too many of late (RFC 4443 section 2.4 f). Returns the message's length.
    pub(in crate::vm) fn write_icmpv6_error(
        &mut self,
        now: Instant,
        error_message: &ErrorMessage,
        source: Ipv6Addr,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<usize> {
        let ipv6 = self.ipv6.as_mut()?;
        if !ipv6.limiter.allow(now, error_message.destination) {
            return None;
        }
        let error = (error_message.kind, error_message.parameter);
        turn_into_icmpv6_error(
            buffer,
            length,
            error,
            self.mac,
            source,
            DEFAULT_TIME_TO_LIVE,
        )
    }

    /// Ends the ping that an error quotes. One that tells how much the path carries holds for what is sent next as well; it
    /// may be about an answer, too.
    pub(super) fn receive_icmpv6_error(
        &mut self,
        now: Instant,
        error: &Icmpv6Error<'_>,
    ) -> Result<Disposition, Ignored> {
        let unexpected = Ignored::UnexpectedIcmpError;
        let is_too_big = error.kind == Icmpv6Error::PACKET_TOO_BIG;
        let ipv6 = self.ipv6.as_ref().ok_or(unexpected)?;
        let is_own = |source| matches!(source, IpAddr::V6(own) if ipv6.addresses.is_assigned(own));
        let quoted = QuotedProbe::of_ipv6(error.invoking_packet)
            .filter(|quoted| is_own(quoted.source) && (quoted.is_request || is_too_big));
        let quoted = quoted.ok_or(unexpected)?;
        let mut event = None;
        if quoted.is_request {
            event = self.receive_quoted(now, &quoted, ping_error(error));
            event.ok_or(unexpected)?;
        }
        if let (IpAddr::V6(destination), Some(ipv6)) = (quoted.destination, self.ipv6.as_mut())
            && is_too_big
        {
            let mtu = u16::try_from(error.parameter).unwrap_or(u16::MAX);
            ipv6.lower_path_mtu(now, destination, mtu, self.mtu);
        }
        Ok(Disposition::Taken(event))
    }
}

/// The meaning of an error for the ping that it quotes.
fn ping_error(error: &Icmpv6Error<'_>) -> PingError {
    match (error.kind, error.code) {
        (Icmpv6Error::DESTINATION_UNREACHABLE, 0) => PingError::NetworkUnreachable,
        (Icmpv6Error::DESTINATION_UNREACHABLE, 1 | 5 | 6) => PingError::Prohibited,
        (Icmpv6Error::DESTINATION_UNREACHABLE, 3) => PingError::HostUnreachable,
        (Icmpv6Error::DESTINATION_UNREACHABLE, 4) => PingError::PortUnreachable,
        (Icmpv6Error::PACKET_TOO_BIG, _) => PingError::FragmentationNeeded,
        (Icmpv6Error::TIME_EXCEEDED, 1) => PingError::ReassemblyTimeExceeded,
        (Icmpv6Error::TIME_EXCEEDED, _) => PingError::TimeExceeded,
        (Icmpv6Error::PARAMETER_PROBLEM, 1) => PingError::ProtocolUnreachable,
        (Icmpv6Error::PARAMETER_PROBLEM, _) => PingError::ParameterProblem,
        _ => PingError::Unreachable,
    }
}
