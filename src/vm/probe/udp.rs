//! UDP to a port where whatever is sent comes back: the echo service (RFC 862), or another.
//!
//! The payload begins with two bytes that tell the session, and six of the ping's number.

use super::MAX_OUTSTANDING;
use super::datagram::{Datagram, Told};
use super::kind::{Over, Row, ToBuild};
use super::payload::{self, Contents};
use crate::vm::{PingId, SessionId, Vm};
use crate::wire::{UDP_ECHO_PORT, UDP_HEADER_LENGTH};

/// The row of UDP.
pub(super) const ROW: Row = Row {
    name: "udp",
    protocol: Over::Udp(Datagram {
        fill,
        told,
        answers,
    }),
    default_port: Some(UDP_ECHO_PORT),
    header_length: UDP_HEADER_LENGTH,
    has_payload: true,
    least_payload: size_of::<u64>(),
    is_to_groups: false,
    is_numbered: true,
    most_outstanding: MAX_OUTSTANDING,
    build: Vm::datagram_request,
};

/// The bits of the number that travels with a ping which are the ping's own; those above are the session's.
const SEQUENCE_BITS: u32 = 48;

/// The number that travels with a ping.
const fn number(ping: PingId) -> u64 {
    (ping.session.0 as u64) << SEQUENCE_BITS | ping.sequence & ((1 << SEQUENCE_BITS) - 1)
}

fn fill(_: &Vm, to_build: ToBuild<'_>, space: &mut [u8]) {
    payload::fill(number(to_build.ping), space);
}

fn told(payload: &[u8]) -> Told {
    let number = payload.first_chunk().copied().map(u64::from_be_bytes);
    Told {
        session: number.map(|number| SessionId((number >> SEQUENCE_BITS) as u16)),
        sequence: number.map(|number| number as u16),
    }
}

fn answers(payload: &[u8], ping: PingId, length: usize) -> bool {
    Contents::of(payload).is_of(number(ping), length)
}
