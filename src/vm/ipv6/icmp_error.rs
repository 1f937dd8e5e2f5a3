//! Errors on IPv6 (RFC 4443): those that a VM sends, and those that are about its pings.

use std::net::{IpAddr, Ipv6Addr};

use super::{HOP_LIMIT, Received, Vm, ended};
use crate::time::Instant;
use crate::vm::{Ignored, PingError, PingOutcome, SessionId};
use crate::wire::{
    ExtensionFault, Icmpv6Error, Ipv6Packet, QuotedIcmpv6Echo, turn_into_icmpv6_error,
};

/// `IPPROTO_NONE`: nothing follows.
const NO_NEXT_HEADER: u8 = 59;
/// Unrecognised next header, a code of parameter problem.
pub(super) const UNRECOGNISED_NEXT_HEADER: u8 = 1;

/// A packet that is refused, and what its sender is told.
#[derive(Clone, Copy, Debug)]
pub(in crate::vm) struct Refusal {
    /// How the packet is counted.
    pub(super) ignored: Ignored,
    /// Who is told.
    sender: Ipv6Addr,
    /// Who tells.
    source: Ipv6Addr,
    /// Type, code and parameter of the error.
    error: (u8, u8, u32),
}

impl Refusal {
    /// What `source` tells `sender`.
    pub(super) const fn to(
        sender: Ipv6Addr,
        source: Ipv6Addr,
        ignored: Ignored,
        error: (u8, u8, u32),
    ) -> Refusal {
        Refusal {
            ignored,
            sender,
            source,
            error,
        }
    }
}

impl Vm {
    /// Refuses a packet whose extension headers are not as they should be.
    pub(super) fn refuse_extension(
        &self,
        packet: &Ipv6Packet<'_>,
        fault: ExtensionFault,
    ) -> Result<Received, Ignored> {
        let ignored = Ignored::ExtensionHeaders;
        match fault {
            ExtensionFault::Malformed(error) => Err(Ignored::Malformed(error)),
            ExtensionFault::Discard | ExtensionFault::TooMany => Err(ignored),
            ExtensionFault::ParameterProblem {
                code,
                pointer,
                even_to_group,
            } => {
                let error = (Icmpv6Error::PARAMETER_PROBLEM, code, pointer as u32);
                self.refuse_ipv6(packet, ignored, error, even_to_group)
            }
        }
    }

    /// Refuses a packet of a protocol, named at `named_at`, that VMs don't speak.
    pub(super) fn refuse_protocol(
        &self,
        packet: &Ipv6Packet<'_>,
        protocol: u8,
        named_at: usize,
    ) -> Result<Received, Ignored> {
        let ignored = Ignored::Protocol(protocol);
        if protocol == NO_NEXT_HEADER {
            return Err(ignored);
        }
        let error = (
            Icmpv6Error::PARAMETER_PROBLEM,
            UNRECOGNISED_NEXT_HEADER,
            named_at as u32,
        );
        self.refuse_ipv6(packet, ignored, error, false)
    }

    /// Refuses a packet with an error message, if one may be sent about it: not to nobody, and not about what went to a
    /// group but for the few cases where that is allowed (RFC 4443 section 2.4 e).
    pub(super) fn refuse_ipv6(
        &self,
        packet: &Ipv6Packet<'_>,
        ignored: Ignored,
        error: (u8, u8, u32),
        even_to_group: bool,
    ) -> Result<Received, Ignored> {
        let to_group = packet.destination.is_multicast();
        if packet.source.is_unspecified() || (to_group && !even_to_group) {
            return Err(ignored);
        }
        // What went to a group is answered from the address that the VM would ping the sender from.
        let own = self.ipv6.as_ref().and_then(|ipv6| {
            let mut assigned = ipv6.addresses.iter().filter(|a| a.is_assigned());
            assigned.next().map(|a| a.interface.address)
        });
        let source = if to_group {
            own.ok_or(ignored)?
        } else {
            packet.destination
        };
        Ok(Received::Refused(Refusal::to(
            packet.source,
            source,
            ignored,
            error,
        )))
    }

    /// Turns the refused packet in the first `length` bytes of `buffer` into the error message, unless there were too
    /// many of late (RFC 4443 section 2.4 f).
    pub(super) fn write_refusal(
        &mut self,
        now: Instant,
        refusal: &Refusal,
        buffer: &mut [u8],
        length: usize,
    ) -> Option<usize> {
        let ipv6 = self.ipv6.as_mut()?;
        if !ipv6.limiter.allow(now, refusal.sender.into()) {
            return None;
        }
        let mac = self.mac;
        turn_into_icmpv6_error(
            buffer,
            length,
            refusal.error,
            mac,
            refusal.source,
            HOP_LIMIT,
        )
    }

    /// Ends the ping that an error quotes. Anybody on the way may have sent it, but only about a ping that is on its
    /// way.
    pub(super) fn receive_icmpv6_error(
        &mut self,
        now: Instant,
        error: &Icmpv6Error<'_>,
    ) -> Option<Received> {
        let quoted = QuotedIcmpv6Echo::parse(error.invoking_packet)?;
        let ipv6 = self.ipv6.as_ref()?;
        if !ipv6.addresses.is_assigned(quoted.source) {
            return None;
        }
        let id = SessionId(quoted.identifier);
        let session = self.session_mut(id)?;
        if session.config.destination != IpAddr::V6(quoted.destination) {
            return None;
        }
        let (sequence, due) = session.fail(quoted.sequence, now)?;
        let error = ping_error(error);
        let outcome = PingOutcome::Errored { due, error };
        Some(Received::Taken(Some(ended(id, sequence, outcome))))
    }
}

/// What an error means for the ping that it quotes.
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
