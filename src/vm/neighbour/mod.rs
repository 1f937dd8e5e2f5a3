//! The neighbours of one VM: which hardware address has which IP address, asked for by ARP or neighbour discovery.
//!
//! One state machine for both families, as Linux has it (`net/core/neighbour.c`; RFC 4861 section 7.3 describes it for
//! IPv6, RFC 1122 section 2.3.2.1 asks for the same of ARP): an entry is incomplete, reachable, stale, delayed, probed or
//! failed. [`table`] has the entries and their timers, [`update`] has what a message changes, and this file has what a VM
//! does about it.

mod table;
mod update;

use std::net::IpAddr;
use std::time::Duration;

pub use self::table::VainSearch;
pub(super) use self::table::{Found, Lookup, NeighbourTable};
use self::table::{Overdue, Waited};
pub(super) use self::update::Claim;
use self::update::Update;
use super::ip::Protocol;
use super::{Event, Reaction, Transmit, Vm};
use crate::time::Instant;
use crate::wire::MacAddr;

/// Time between two requests for one neighbour (`retrans_time`).
pub const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Requests before a neighbour is given up: by broadcast or multicast one that is not known (`mcast_solicit`), by unicast
/// one that is (`ucast_solicit`).
pub const MAX_REQUESTS: u8 = 3;
/// How long a confirmed neighbour is taken to be reachable, on average (`base_reachable_time`). Each VM draws a factor of
/// 0.5 to 1.5, so that VMs that were confirmed together do not ask together.
pub const BASE_REACHABLE_TIME: Duration = Duration::from_secs(30);
/// How long a stale neighbour that is used has to tell that it is there, before it is asked (`delay_first_probe_time`).
pub const DELAY_FIRST_PROBE_TIME: Duration = Duration::from_secs(5);
/// How long after a change an entry ignores ARP packets that nobody asked for and that name another hardware address
/// (`locktime`): of several answers, the first counts.
pub const LOCK_TIME: Duration = Duration::from_secs(1);
/// Pings that may wait for one neighbour; the next are turned away.
pub const MAX_WAITING: usize = 1024;
/// Neighbours that a VM remembers; above that the least recently used stale one is forgotten.
pub const MAX_NEIGHBOURS: usize = 1024;

/// The row of neighbours: asked for by ARP or neighbour discovery, and asked again.
pub(super) const NEIGHBOURS: Protocol = Protocol {
    poll: Vm::poll_neighbours,
    deadline: |vm| vm.neighbours.deadline(),
    ..Protocol::NONE
};

/// The result of a message about a neighbour.
pub(super) enum Heard {
    /// Nothing: the neighbour is unknown, and stays so.
    Unknown,
    /// The neighbour is known; pings that waited for it may be sent now, if there is an event.
    Known(Option<Event>),
}

impl Heard {
    /// The event that pings wait for no longer.
    pub(super) fn event(self) -> Option<Event> {
        match self {
            Heard::Unknown => None,
            Heard::Known(event) => event,
        }
    }
}

impl Vm {
    /// Takes what a message says of the neighbour `address`, and queues the pings that waited for it.
    pub(super) fn hear_of(&mut self, now: Instant, address: IpAddr, claim: Claim) -> Heard {
        match self.neighbours.update(now, address, claim) {
            Update::Unknown => Heard::Unknown,
            Update::Known => Heard::Known(None),
            Update::Resolved {
                mac,
                waited: Waited { elapsed, pings },
            } => {
                self.resolve(now, pings);
                Heard::Known(Some(Event::Resolved {
                    address,
                    mac,
                    elapsed,
                }))
            }
        }
    }

    /// Asks for a neighbour whose answer is overdue, or gives up a ping or an answer that waited for one.
    fn poll_neighbours(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        loop {
            match self.neighbours.overdue(now)? {
                Overdue::Ask(address, last) => {
                    return Some(Reaction {
                        transmit: self.solicit(now, address, last, buffer),
                        event: None,
                    });
                }
                Overdue::GiveUp(waiting) => {
                    self.unresolved.extend(waiting);
                    // Answers that waited for it are dropped as well.
                    let dropped = self.next_unresolved();
                    if let Some(reaction) = dropped.or_else(|| self.next_answer(now, buffer)) {
                        return Some(reaction);
                    }
                }
            }
        }
    }

    /// Asks who has `address`, by the protocol of its family: everybody, or the one who had it last.
    pub(super) fn solicit(
        &self,
        now: Instant,
        address: IpAddr,
        last: Option<MacAddr>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        match address {
            IpAddr::V4(target) => self.arp_request(target, last, buffer),
            IpAddr::V6(target) => self.neighbour_solicitation(now, target, last, buffer),
        }
    }
}
