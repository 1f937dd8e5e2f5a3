//! Multicast listener discovery (RFC 2710, RFC 3810): a VM reports the groups that it is in when they change, and when a
//! router asks. [`Memberships`] says when; the twin for IPv4 is [`crate::vm::ipv4::igmp`].

use std::net::{IpAddr, Ipv6Addr};

use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::membership::{Memberships, ROBUSTNESS_VARIABLE, Report};
use crate::vm::{Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    ALL_NODES, Icmpv6Message, Ipv6Packet, MldMessage, MldQuery, MldReport, MldVersion,
    mld_records_in, write_mld_message, write_mld_report,
};

/// The row of MLD.
pub(in crate::vm) const MLD: Protocol = Protocol {
    input: Input::Ipv6(
        |_, datagram| {
            matches!(
                datagram.icmpv6_type(),
                Some(MldQuery::TYPE | MldReport::TYPE)
            )
        },
        Vm::receive_mld,
    ),
    poll: Vm::poll_mld,
    deadline: |vm| vm.ipv6.as_ref()?.mld.memberships.deadline(),
    groups: |vm, tell| {
        if let Some(ipv6) = &vm.ipv6 {
            let joined = ipv6.mld.joined.iter().flat_map(|joined| joined.iter());
            joined.for_each(|group| tell((*group).into()));
        }
    },
    leave: Vm::leave_ipv6_groups,
};

/// The groups that routers are told of, and the version in which.
#[derive(Debug)]
pub(super) struct Mld {
    /// The groups that the VM has joined, beside those that its addresses take. Boxed: most VMs join none.
    #[allow(clippy::box_collection)]
    joined: Option<Box<Vec<Ipv6Addr>>>,
    memberships: Memberships<Ipv6Addr>,
    /// Until when a router that speaks version 1 is taken to be there (RFC 3810 section 8.2.1).
    version_1_until: Instant,
}

impl Mld {
    /// In no group, with routers of version 2.
    pub(super) const fn new() -> Mld {
        Mld {
            joined: None,
            memberships: Memberships::new(),
            version_1_until: Instant::ZERO,
        }
    }

    /// The groups have changed: reports it from `at` on.
    pub(super) fn changed(&mut self, at: Instant) {
        self.memberships.changed(at);
    }

    /// Reports all groups from `at` on, as if each were new.
    pub(super) fn announce(&mut self, at: Instant) {
        self.memberships.announce(at);
    }

    fn is_version_1(&self, now: Instant) -> bool {
        now < self.version_1_until
    }

    /// Takes a router's query (`__mld_query_work` in `net/ipv6/mcast.c`). One for sources of a group is answered as one for
    /// the group: the VM listens to all sources.
    fn queried(&mut self, now: Instant, query: &MldQuery, random: &mut fastrand::Rng) {
        match query.version {
            MldVersion::One => {
                let timeout = self.memberships.older_querier_present_timeout();
                self.version_1_until = now + timeout;
                self.memberships.stop_changes();
            }
            MldVersion::Two {
                robustness,
                query_interval,
            } if !self.is_version_1(now) => {
                let response = query.maximum_response_delay(false);
                // Linux takes none that is less than its own.
                let robustness = match robustness {
                    0 => 0,
                    told => told.max(ROBUSTNESS_VARIABLE),
                };
                self.memberships.learn(robustness, query_interval, response);
            }
            MldVersion::Two { .. } => {}
        }
        let is_version_1 = self.is_version_1(now);
        let maximum = query.maximum_response_delay(is_version_1);
        let group = (!query.group.is_unspecified()).then_some(query.group);
        self.memberships
            .queried(now, group, maximum, is_version_1, random);
    }
}

impl Vm {
    /// Joins an IPv6 group, and reports it from `at` on.
    pub(in crate::vm) fn join_ipv6_group(&mut self, at: Instant, group: Ipv6Addr) {
        if let Some(ipv6) = &mut self.ipv6
            && group.is_multicast()
        {
            let joined = ipv6.mld.joined.get_or_insert_default();
            if !joined.contains(&group) {
                joined.push(group);
                ipv6.mld.changed(at);
            }
        }
    }

    /// Leaves the IPv6 groups that it has joined, and tells routers so. Those of its addresses go with these.
    fn leave_ipv6_groups(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        let mld = &mut self.ipv6.as_mut()?.mld;
        let joined = mld.joined.as_mut()?;
        if !joined.is_empty() {
            joined.clear();
            mld.memberships.changed(now);
        }
        self.poll_mld(now, buffer)?.transmit
    }

    fn receive_mld(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv6Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let ignored = Ignored::IcmpType(datagram.icmpv6_type().unwrap_or_default());
        let message = datagram.icmpv6()?;
        let groups = self.reported_groups();
        let mld = &mut self.ipv6.as_mut().ok_or(ignored)?.mld;
        mld.memberships.set(&groups);
        match message {
            Icmpv6Message::MldQuery(query) => mld.queried(now, &query, &mut self.random),
            // One in a frame to this VM alone was heard by no router.
            Icmpv6Message::MldReport(report) if mld.is_version_1(now) && datagram.is_shared => {
                mld.memberships.heard(report.group);
            }
            _ => return Err(ignored),
        }
        Ok(Disposition::Taken(None))
    }

    fn poll_mld(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let deadline = (MLD.deadline)(self);
        deadline.filter(|at| *at <= now)?;
        let groups = self.reported_groups();
        let (mac, interface) = (self.mac, self.mtu);
        let ipv6 = self.ipv6.as_mut()?;
        let (source, room) = (
            ipv6.link_local_source(),
            mld_records_in(ipv6.mtu(interface)),
        );
        let mld = &mut ipv6.mld;
        mld.memberships.set(&groups);
        let is_version_1 = mld.is_version_1(now);
        let report = mld
            .memberships
            .overdue(now, is_version_1, room, &mut self.random)?;
        let length = match report {
            Report::Records(records) => write_mld_report(mac, source, &records, buffer),
            Report::Member(group) => {
                write_mld_message(mac, source, MldMessage::Report, group, buffer)
            }
            Report::Left(group) => write_mld_message(mac, source, MldMessage::Done, group, buffer),
        };
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
