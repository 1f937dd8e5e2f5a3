//! STAMP test packets (RFC 8762), in unauthenticated mode: a reflector sends them back with its own time, and the time to live that
//! they came with. Those of TWAMP Light do so as well.
//!
//! A session has an identifier (RFC 8972 section 3). Reflectors that leave it out are known by the port that they send to.

use super::MAX_OUTSTANDING;
use super::datagram::{Datagram, Told};
use super::kind::{Over, Row, ToBuild};
use crate::vm::{PingId, SessionId, Vm};
use crate::wire::{NtpTimestamp, STAMP_LENGTH, STAMP_PORT, StampNumber, UDP_HEADER_LENGTH};

/// The row of STAMP.
pub(super) const ROW: Row = Row {
    name: "stamp",
    protocol: Over::Udp(Datagram {
        fill,
        told,
        answers,
    }),
    default_port: Some(STAMP_PORT),
    header_length: UDP_HEADER_LENGTH,
    has_payload: true,
    least_payload: STAMP_LENGTH,
    is_to_groups: false,
    first_flow: 0,
    is_numbered: true,
    most_outstanding: MAX_OUTSTANDING,
    build: Vm::datagram_request,
};

/// The number of a ping's test packet.
const fn number(ping: PingId) -> StampNumber {
    StampNumber {
        session: Some(ping.session.0 as u16),
        sequence: ping.sequence as u32,
    }
}

fn fill(vm: &Vm, to_build: ToBuild<'_>, space: &mut [u8]) {
    let timestamp = NtpTimestamp::of_unix(vm.unix_nanos(to_build.now));
    number(to_build.ping).fill(timestamp, space);
}

fn told(payload: &[u8]) -> Told {
    let number = StampNumber::of_reply(payload);
    Told {
        session: number
            .and_then(|number| number.session)
            .map(|session| SessionId(session.into())),
        sequence: number.map(|number| number.sequence as u16),
    }
}

fn answers(payload: &[u8], ping: PingId, _: usize) -> bool {
    number(ping).is_reflected_by(payload)
}
