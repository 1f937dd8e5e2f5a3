//! Errors on IPv6 (RFC 4443): those that a VM sends, and those that are about its pings.

use std::net::Ipv6Addr;

use super::{Received, Vm};
use crate::time::Instant;
use crate::vm::Ignored;
use crate::wire::{ExtensionFault, Icmpv6Error, Ipv6Packet, MacAddr, turn_into_icmpv6_error};

/// `IPPROTO_NONE`: nothing follows.
const NO_NEXT_HEADER: u8 = 59;
/// `IPPROTO_UDP`
const UDP: u8 = 17;
/// Port unreachable, a code of destination unreachable.
const PORT_UNREACHABLE: u8 = 4;
/// Unrecognised next header, a code of parameter problem.
const UNRECOGNISED_NEXT_HEADER: u8 = 1;

/// A packet that is refused, and what its sender is told.
pub(in crate::vm) struct Refusal {
    /// How the packet is counted.
    pub(super) ignored: Ignored,
    kind: u8,
    code: u8,
    parameter: u32,
    source: Ipv6Addr,
    hop_limit: u8,
}

impl Refusal {
    /// Turns the refused packet in the first `length` bytes of `buffer` into the error message.
    pub(super) fn write(&self, mac: MacAddr, buffer: &mut [u8], length: usize) -> Option<usize> {
        let error = (self.kind, self.code, self.parameter);
        turn_into_icmpv6_error(buffer, length, error, mac, self.source, self.hop_limit)
    }
}

impl Vm {
    /// Refuses a packet whose extension headers are not as they should be.
    pub(super) fn refuse_extension(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        fault: ExtensionFault,
    ) -> Result<Received, Ignored> {
        match fault {
            ExtensionFault::Malformed(error) => Err(Ignored::Malformed(error)),
            ExtensionFault::Discard | ExtensionFault::TooMany => Err(Ignored::ExtensionHeaders),
            ExtensionFault::ParameterProblem {
                code,
                pointer,
                even_to_group,
            } => {
                let error = (Icmpv6Error::PARAMETER_PROBLEM, code, pointer as u32);
                self.refuse(now, packet, Ignored::ExtensionHeaders, error, even_to_group)
            }
        }
    }

    /// Refuses a packet of a protocol, named at `named_at`, that VMs don't speak.
    pub(super) fn refuse_protocol(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        (protocol, named_at): (u8, usize),
        (_offset, _payload): (usize, &[u8]),
    ) -> Result<Received, Ignored> {
        let ignored = Ignored::Protocol(protocol);
        let error = match protocol {
            NO_NEXT_HEADER => return Err(ignored),
            UDP => (Icmpv6Error::DESTINATION_UNREACHABLE, PORT_UNREACHABLE, 0),
            _ => (
                Icmpv6Error::PARAMETER_PROBLEM,
                UNRECOGNISED_NEXT_HEADER,
                named_at as u32,
            ),
        };
        self.refuse(now, packet, ignored, error, false)
    }

    /// Refuses a packet with an error message, if one may be sent about it (RFC 4443 section 2.4 e, f).
    fn refuse(
        &mut self,
        now: Instant,
        packet: &Ipv6Packet<'_>,
        ignored: Ignored,
        (kind, code, parameter): (u8, u8, u32),
        even_to_group: bool,
    ) -> Result<Received, Ignored> {
        let to_group = packet.destination.is_multicast();
        if packet.source.is_unspecified() || (to_group && !even_to_group) {
            return Err(ignored);
        }
        let ipv6 = self.ipv6.as_ref().ok_or(ignored)?;
        let source = if to_group {
            ipv6.addresses.source_for(now, packet.source)
        } else {
            Some(packet.destination)
        };
        Ok(Received::Refused(Refusal {
            ignored,
            kind,
            code,
            parameter,
            source: source.ok_or(ignored)?,
            hop_limit: ipv6.hop_limit,
        }))
    }

    /// Takes an error message: a ping that it is about ends with it.
    pub(super) fn receive_icmpv6_error(
        &mut self,
        error: &Icmpv6Error<'_>,
    ) -> Result<Received, Ignored> {
        Err(Ignored::IcmpType(error.kind))
    }
}
