//! IGMP (RFC 1112, RFC 2236, RFC 3376): a VM reports the groups that it has joined when they change, and when a router asks.
//! [`Memberships`] says when; the twin for IPv6 is [`crate::vm::ipv6::mld`].
//!
//! All groups but that of all hosts are reported, those of the link (224.0.0.0/24) too, as in Linux
//! (`igmp_link_local_mcast_reports`). A VM that has joined none is silent, and costs nothing.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::time::Instant;
use crate::vm::ip::{Disposition, Input, Protocol, Received};
use crate::vm::membership::{
    Memberships, QUERY_INTERVAL, QUERY_RESPONSE_INTERVAL, ROBUSTNESS_VARIABLE, Report,
};
use crate::vm::{Ignored, Reaction, Transmit, Vm};
use crate::wire::{
    ALL_HOSTS, IgmpMessage, IgmpQuery, IgmpVersion, Ipv4Packet, OlderIgmpMessage, PROTOCOL_IGMP,
    VERSION_1_RESPONSE_TIME, igmp_records_in, write_igmp_report, write_older_igmp_message,
};

/// The row of IGMP.
pub(in crate::vm) const IGMP: Protocol = Protocol {
    input: Input::Ipv4(
        |_, datagram| datagram.protocol == PROTOCOL_IGMP,
        Vm::receive_igmp,
    ),
    poll: Vm::poll_igmp,
    deadline: |vm| {
        // Nothing is told without an address: not every switch believes a report from nowhere.
        vm.ipv4.interface()?;
        vm.ipv4.igmp.as_ref()?.memberships.deadline()
    },
    groups: |vm, tell| {
        if let Some(igmp) = &vm.ipv4.igmp {
            tell(ALL_HOSTS.into());
            igmp.joined.iter().for_each(|group| tell((*group).into()));
        }
    },
    leave: Vm::leave_ipv4_groups,
};

/// The groups that a VM has joined, and the version in which routers are told of them.
#[derive(Debug)]
pub(super) struct Igmp {
    joined: Vec<Ipv4Addr>,
    memberships: Memberships<Ipv4Addr>,
    /// Until when routers that speak version 1 and 2 are taken to be there (RFC 3376 section 7.2.1).
    version_1_until: Instant,
    version_2_until: Instant,
}

impl Igmp {
    /// In no group, with routers of version 3.
    const fn new() -> Igmp {
        Igmp {
            joined: Vec::new(),
            memberships: Memberships::new(),
            version_1_until: Instant::ZERO,
            version_2_until: Instant::ZERO,
        }
    }

    /// Tells if the VM has joined the group.
    pub(super) fn is_member(&self, group: Ipv4Addr) -> bool {
        self.joined.contains(&group)
    }

    /// The version that is spoken: that of the oldest router heard of late.
    fn version(&self, now: Instant) -> IgmpVersion {
        if now < self.version_1_until {
            IgmpVersion::V1
        } else if now < self.version_2_until {
            IgmpVersion::V2
        } else {
            IgmpVersion::V3
        }
    }

    /// Takes a router's query (`igmp_heard_query` in `net/ipv4/igmp.c`). One for sources of a group is answered as one for
    /// the group: the VM listens to all sources.
    fn queried(&mut self, now: Instant, query: &IgmpQuery, random: &mut fastrand::Rng) {
        let older_until = now + self.memberships.older_querier_present_timeout();
        match query.version {
            IgmpVersion::V1 => self.version_1_until = older_until,
            IgmpVersion::V2 => self.version_2_until = older_until,
            IgmpVersion::V3 if self.version(now) == IgmpVersion::V3 => self.learn(query),
            IgmpVersion::V3 => {}
        }
        if query.version != IgmpVersion::V3 {
            self.memberships.stop_changes();
        }
        let version = self.version(now);
        let (mut group, mut maximum) = (query.group, query.maximum_response_time);
        if version == IgmpVersion::V1 && query.version == IgmpVersion::V3 {
            // Who may be of version 1 knows neither.
            (group, maximum) = (Ipv4Addr::UNSPECIFIED, VERSION_1_RESPONSE_TIME);
        }
        let group = (!group.is_unspecified()).then_some(group);
        let is_older = version != IgmpVersion::V3;
        self.memberships
            .queried(now, group, maximum, is_older, random);
    }

    /// Takes the values of a router of version 3 (RFC 3376 sections 4.1.6, 4.1.7 and 8.3).
    fn learn(&mut self, query: &IgmpQuery) {
        let robustness = match query.robustness {
            0 => ROBUSTNESS_VARIABLE,
            told => told,
        };
        let interval = match query.query_interval {
            Duration::ZERO => QUERY_INTERVAL,
            told => told,
        };
        let second = Duration::from_secs(1);
        let response = QUERY_RESPONSE_INTERVAL.min(interval.saturating_sub(second));
        self.memberships.learn(robustness, interval, response);
    }
}

impl Vm {
    /// Joins an IPv4 group, and reports it from `at` on.
    pub(in crate::vm) fn join_ipv4_group(&mut self, at: Instant, group: Ipv4Addr) {
        let igmp = &mut self.ipv4.igmp;
        let igmp = igmp.get_or_insert_with(|| Box::new(Igmp::new()));
        if group.is_multicast() && group != ALL_HOSTS && !igmp.is_member(group) {
            igmp.joined.push(group);
            igmp.memberships.changed(at);
        }
    }

    /// Leaves all IPv4 groups, and tells routers so.
    fn leave_ipv4_groups(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        let igmp = self.ipv4.igmp.as_mut()?;
        if !igmp.joined.is_empty() {
            igmp.joined.clear();
            igmp.memberships.changed(now);
        }
        // Some groups may be left without a word.
        std::iter::from_fn(|| self.poll_igmp(now, buffer)).find_map(|reaction| reaction.transmit)
    }

    fn receive_igmp(
        &mut self,
        now: Instant,
        datagram: &Received<'_, Ipv4Packet<'_>>,
    ) -> Result<Disposition, Ignored> {
        let ignored = Ignored::Protocol(datagram.protocol);
        // To a VM in no group, IGMP is a protocol like any other that it does not speak.
        let igmp = self.ipv4.igmp.as_mut().ok_or(ignored)?;
        let message = IgmpMessage::parse(datagram.packet).map_err(Ignored::Malformed)?;
        igmp.memberships.set(&igmp.joined);
        match message {
            IgmpMessage::Query(query) => igmp.queried(now, &query, &mut self.random),
            // One in a frame to this VM alone was heard by no router.
            IgmpMessage::Report(group)
                if igmp.version(now) != IgmpVersion::V3 && datagram.is_shared =>
            {
                igmp.memberships.heard(group);
            }
            IgmpMessage::Report(_) | IgmpMessage::Other(_) => {
                let number = datagram.payload.first().copied().unwrap_or_default();
                return Err(Ignored::IgmpType(number));
            }
        }
        Ok(Disposition::Taken(None))
    }

    fn poll_igmp(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Reaction> {
        let deadline = (IGMP.deadline)(self);
        deadline.filter(|at| *at <= now)?;
        let source = self.address()?;
        let (mac, room) = (self.mac, igmp_records_in(self.ipv4.mtu(self.mtu)));
        let igmp = self.ipv4.igmp.as_mut()?;
        igmp.memberships.set(&igmp.joined);
        let version = igmp.version(now);
        let is_older = version != IgmpVersion::V3;
        let memberships = &mut igmp.memberships;
        let report = memberships.overdue(now, is_older, room, &mut self.random)?;
        let mut older =
            |message, group| write_older_igmp_message(mac, source, message, group, buffer);
        let length = match (report, version) {
            (Report::Member(group), IgmpVersion::V1) => {
                older(OlderIgmpMessage::Version1Report, group)
            }
            (Report::Member(group), _) => older(OlderIgmpMessage::Version2Report, group),
            // Routers of version 1 know of nobody who leaves.
            (Report::Left(_), IgmpVersion::V1) => None,
            (Report::Left(group), _) => older(OlderIgmpMessage::Leave, group),
            (Report::Records(records), _) => write_igmp_report(mac, source, &records, buffer),
        };
        Some(Reaction {
            transmit: length.map(|length| Transmit { length, ping: None }),
            event: None,
        })
    }
}
