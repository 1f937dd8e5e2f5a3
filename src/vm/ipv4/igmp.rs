//! IGMP (RFC 2236): a VM that is in no group but that of all hosts has nothing to report, and so is silent (section 6).

use crate::vm::Ignored;
use crate::vm::ip::{Input, Protocol};
use crate::wire::PROTOCOL_IGMP;

/// The row of IGMP.
pub(in crate::vm) const IGMP: Protocol = Protocol {
    input: Input::Ipv4(
        |_, datagram| datagram.protocol == PROTOCOL_IGMP,
        |_, _, datagram| Err(Ignored::Protocol(datagram.protocol)),
    ),
    ..Protocol::NONE
};
