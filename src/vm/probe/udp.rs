//! UDP to a port where whatever is sent comes back: the echo service (RFC 862), or another.
//!
//! The payload begins with four bytes that tell the session, and four of the ping's number.

use super::MAX_OUTSTANDING;
use super::datagram::{Datagram, Told};
use super::kind::{Over, Row, ToBuild};
use super::payload::{self, Contents};
use crate::vm::{PingId, SessionId, Vm};
use crate::wire::{UDP_ECHO_PORT, UDP_HEADER_LENGTH, WIDE_FLOWS, of_udp_number, udp_number};

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
    first_flow: WIDE_FLOWS,
    is_numbered: true,
    most_outstanding: MAX_OUTSTANDING,
    build: Vm::datagram_request,
};

/// The number that travels with a ping.
const fn number(ping: PingId) -> u64 {
    udp_number(ping.session.0, ping.sequence)
}

fn fill(_: &Vm, to_build: ToBuild<'_>, space: &mut [u8]) {
    payload::fill(number(to_build.ping), space);
}

fn told(payload: &[u8]) -> Told {
    let number = payload.first_chunk().copied().map(u64::from_be_bytes);
    let (session, sequence) = number.map(of_udp_number).unzip();
    Told {
        session: session.map(SessionId),
        sequence,
    }
}

fn answers(payload: &[u8], ping: PingId, length: usize) -> bool {
    Contents::of(payload).is_of(number(ping), length)
}
