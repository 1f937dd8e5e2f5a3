//! ARP requests and replies (RFC 826), and neighbour solicitations and advertisements over IPv6 (RFC 4861), as `arping` sends
//! them: no IP header, no route, and no neighbour that has to be known, unless that is the one who is asked.
//!
//! A reply says which address it is about, and not which request it answers. So a session has one request on its way at a
//! time, and of several sessions that ask for one address the one that asked first is answered.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Session;
use super::kind::{Over, Row, ToBuild};
use crate::time::Instant;
use crate::vm::neighbour::Heard;
use crate::vm::{Event, PingId, Reaction, SessionId, Transmit, Vm};
use crate::wire::WIDE_FLOWS;

/// The row of ARP.
pub(super) const ROW: Row = Row {
    name: "arp",
    protocol: Over::Link,
    default_port: None,
    header_length: 0,
    has_payload: false,
    least_payload: 0,
    is_to_groups: false,
    first_flow: WIDE_FLOWS,
    is_numbered: false,
    most_outstanding: 1,
    build: Vm::link_request,
};

/// Who is asked for a hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum ArpRequest {
    /// Everybody; over IPv6 the group of the address.
    #[default]
    Broadcast,
    /// The one who is known to have the address, as who verifies that a neighbour is still there does (RFC 1122 section 2.3.2.1, RFC
    /// 4861 section 7.2.2, `arp_solicit` in Linux' `net/ipv4/arp.c`).
    Unicast,
}

impl ArpRequest {
    /// The names in options, by number.
    pub const NAMES: &'static [&'static str] = &["broadcast", "unicast"];
}

/// The sessions of a VM that have asked, and answers to be told.
#[derive(Default, Debug)]
pub(super) struct LinkProbes {
    /// Those that wait for an answer, in the order in which they asked.
    asking: VecDeque<SessionId>,
    answered: VecDeque<Event>,
}

impl Vm {
    fn link_request(
        &mut self,
        ToBuild {
            now,
            ping,
            config,
            mac,
        }: ToBuild<'_>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let last = match config.probe.arp_request {
            ArpRequest::Broadcast => None,
            ArpRequest::Unicast => Some(mac),
        };
        let request = self.solicit(now, config.destination, last, buffer)?;
        let asking = &mut self.probes.get_or_insert_default().link.asking;
        if !asking.contains(&ping.session) {
            asking.push_back(ping.session);
        }
        Some(Transmit {
            ping: Some(ping),
            ..request
        })
    }

    /// Takes a reply about `address`. `None` if no session asks for it.
    pub(in crate::vm) fn receive_link_reply(
        &mut self,
        now: Instant,
        address: IpAddr,
    ) -> Option<Event> {
        let (place, PingId { session, sequence }) = self.asking_for(address)?;
        let probes = self.probes.as_mut()?;
        probes.link.asking.remove(place);
        let of_session = self.session_mut(session)?;
        let (sequence, outcome) = of_session.reply(sequence as u16, |_, _| true, now)?;
        Some(Event::Ping(PingId { session, sequence }, outcome))
    }

    /// The ping that asks for `address`: of several the first.
    pub fn link_ping(&self, address: IpAddr) -> Option<PingId> {
        self.asking_for(address).map(|(_, ping)| ping)
    }

    fn asking_for(&self, address: IpAddr) -> Option<(usize, PingId)> {
        let asking = &self.probes.as_ref()?.link.asking;
        asking.iter().enumerate().find_map(|(place, id)| {
            let session = self.session(*id)?;
            let is_it = |session: &&Session| session.config.destination == address;
            // One that was given up is not on its way.
            let sequence = Some(session).filter(is_it)?.only_outstanding()?;
            let ping = PingId {
                session: *id,
                sequence: sequence.into(),
            };
            Some((place, ping))
        })
    }

    /// The result of a message that may have answered a ping as well. If it has two things to tell, the answer is told as soon as
    /// there is nothing else.
    pub(in crate::vm) fn heard_and_answered(
        &mut self,
        heard: Heard,
        answered: Option<Event>,
    ) -> Heard {
        match (heard, answered) {
            (heard, None) => heard,
            (heard @ Heard::Known(Some(_)), Some(answered)) => {
                self.is_dirty = true;
                let probes = self.probes.get_or_insert_default();
                probes.link.answered.push_back(answered);
                heard
            }
            (_, Some(answered)) => Heard::Known(Some(answered)),
        }
    }

    /// Tells if there is such an answer.
    pub(in crate::vm) fn has_answered(&self) -> bool {
        let probes = self.probes.as_ref();
        probes.is_some_and(|probes| !probes.link.answered.is_empty())
    }

    /// The next such answer.
    pub(in crate::vm) fn next_answered(&mut self) -> Option<Reaction> {
        let event = self.probes.as_mut()?.link.answered.pop_front()?;
        Some(Reaction {
            transmit: None,
            event: Some(event),
        })
    }
}
