//! Multicast listener discovery (RFC 3810 section 5 and 6): a VM reports the groups that it is in when they change, and
//! when a router asks.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::{Ignored, Reaction, Transmit, Vm};
use crate::wire::{ALL_NODES, Icmpv6Message, Ipv6Packet, MldQuery, MldRecord, write_mld_report};

/// How often a change is reported (`Robustness Variable`, RFC 3810 section 9.1).
pub const MLD_REPORTS: u8 = 2;
/// Time between two such reports (`Unsolicited Report Interval`).
pub const MLD_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The row of MLD.
pub(in crate::vm) const MLD: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| datagram.icmpv6_type() == Some(MldQuery::TYPE),
        Vm::receive_mld,
    ),
    poll: Vm::poll_mld,
    deadline: |vm| vm.ipv6.as_ref()?.mld.deadline(),
    ..Protocol::NONE
};

/// The reports that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Mld {
    /// When the next report of a change is due, and how many follow it.
    change: Option<(Instant, u8)>,
    /// When the answer to a query is due.
    answer: Option<Instant>,
}

impl Mld {
    /// The groups have changed: reports it from `at` on.
    pub(super) fn changed(&mut self, at: Instant) {
        self.change = Some((at, MLD_REPORTS - 1));
    }

    /// A router asks; an answer that is to come earlier anyway answers this query too (section 6.2).
    pub(super) fn queried(&mut self, at: Instant) {
        self.answer = Some(self.answer.map_or(at, |earlier| earlier.min(at)));
    }

    /// The time at which [`Mld::overdue`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let change = self.change.map(|(at, _)| at);
        [change, self.answer].into_iter().flatten().min()
    }

    /// The report that is to be sent at `now`.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<MldRecord> {
        if let Some((at, left)) = self.change
            && at <= now
        {
            self.change = left
                .checked_sub(1)
                .map(|left| (now + MLD_REPORT_INTERVAL, left));
            return Some(MldRecord::ChangeToExclude);
        }
        self.answer.take_if(|at| *at <= now)?;
        Some(MldRecord::ModeIsExclude)
    }
}

impl Vm {
    fn receive_mld(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let Icmpv6Message::MldQuery(query) = datagram.icmpv6()? else {
            return Err(Ignored::IcmpType(MldQuery::TYPE));
        };
        let random = self.random.f64();
        if query.group.is_unspecified() || self.reported_groups().contains(&query.group) {
            let delay = query.maximum_response_delay.mul_f64(random);
            if let Some(ipv6) = &mut self.ipv6 {
                ipv6.mld.queried(now + delay);
            }
        }
        Ok(Disposition::Taken(None))
    }

    fn poll_mld(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let ipv6 = self.ipv6.as_mut()?;
        let record = ipv6.mld.overdue(now)?;
        let source = ipv6.link_local_source();
        let groups = self.reported_groups();
        let length = write_mld_report(self.mac, source, record, &groups, buffer);
        Some(Reaction {
            transmit: length.map(|length| Transmit { length, ping: None }),
            event: None,
        })
    }

    /// The IPv6 groups that routers are told of, each once: not that of all nodes, nor any that ends at the interface
    /// (section 6).
    fn reported_groups(&self) -> Vec<Ipv6Addr> {
        let mut groups = Vec::new();
        self.each_group(&mut |group| {
            if let IpAddr::V6(group) = group
                && group != ALL_NODES
                && group.octets()[1] & 0x0f > 1
            {
                groups.push(group);
            }
        });
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}
