//! A STAMP reflector (RFC 8762 section 4.3), which reflects the test packets of TWAMP Light as well.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::time::Instant;
use crate::vm::Vm;
use crate::vm::ip::Service;
use crate::wire::{NtpTimestamp, Reflection, StampNumber, UdpDatagram};

/// Sessions that a stateful reflector counts the packets of; with one more, the one that was the first to fall silent is forgotten,
/// and begins anew with its next packet.
pub const MAX_STAMP_SESSIONS: usize = 1024;

/// How a reflector numbers the packets that it sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StampMode {
    /// As the test packets that they reflect are.
    Stateless,
    /// One after the other in each session, so that its packets which were lost on their way there are told from those lost on
    /// their way back.
    Stateful,
}

impl StampMode {
    /// The name in options, such as `stateless`.
    pub const fn name(self) -> &'static str {
        match self {
            StampMode::Stateless => "stateless",
            StampMode::Stateful => "stateful",
        }
    }
}

/// A session, as its test packets tell it. The reflector has one address of each family, and one port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::vm) struct StampSession {
    source: IpAddr,
    port: u16,
    identifier: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    next: u32,
    last: Instant,
}

/// The state of a reflector. Nothing is on the heap before the first packet to a stateful one.
#[derive(Debug)]
pub(in crate::vm) struct StampReflector {
    mode: StampMode,
    sessions: FxHashMap<StampSession, Count>,
}

impl StampReflector {
    pub(super) fn new(mode: StampMode) -> StampReflector {
        StampReflector {
            mode,
            sessions: FxHashMap::default(),
        }
    }

    /// The number of the next packet of `session`; `None` for that of the test packet.
    fn next(&mut self, now: Instant, session: StampSession) -> Option<u32> {
        if self.mode == StampMode::Stateless {
            return None;
        }
        if self.sessions.len() >= MAX_STAMP_SESSIONS && !self.sessions.contains_key(&session) {
            let silent = self.sessions.iter().min_by_key(|(_, count)| count.last);
            if let Some(silent) = silent.map(|(session, _)| *session) {
                self.sessions.remove(&silent);
            }
        }
        let count = self.sessions.entry(session);
        let count = count.or_insert(Count { next: 0, last: now });
        let next = count.next;
        *count = Count {
            next: next.wrapping_add(1),
            last: now,
        };
        Some(next)
    }
}

impl Vm {
    /// The service that a datagram from `source` to the reflector's port asks for. `None` if there is no reflector.
    pub(in crate::vm) fn stamp_service(
        &self,
        source: IpAddr,
        datagram: &UdpDatagram<'_>,
    ) -> Option<Service> {
        self.probes.as_ref()?.services.stamp.as_ref()?;
        let number = StampNumber::of_request(datagram.payload);
        Some(Service::Stamp(StampSession {
            source,
            port: datagram.source_port,
            identifier: number.and_then(|number| number.session),
        }))
    }

    /// What is added to the packet of a session that came and is sent back at `now`.
    pub(in crate::vm) fn reflection(
        &mut self,
        now: Instant,
        session: StampSession,
    ) -> Option<Reflection> {
        let timestamp = NtpTimestamp::of_unix(self.unix_nanos(now));
        let reflector = self.probes.as_mut()?.services.stamp.as_mut()?;
        Some(Reflection {
            sequence: reflector.next(now, session),
            received: timestamp,
            sent: timestamp,
        })
    }
}
