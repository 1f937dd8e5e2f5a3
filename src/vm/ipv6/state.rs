//! What a VM is on IPv6, and what it knows: its parts, the groups that it listens to, and the way to others.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::HOP_LIMIT;
use super::address::{Addresses, Ipv6Interface, START_WAIT, share_prefix};
use super::mld::Mld;
use super::route::Routes;
use crate::time::Instant;
use crate::vm::fragment::Reassembly;
use crate::vm::limiter::ErrorLimiter;
use crate::wire::{ALL_NODES, MacAddr, link_local, multicast_mac, solicited_node};

/// All nodes of one's own interface: `ff01::1`.
const ALL_NODES_OF_INTERFACE: Ipv6Addr = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);

/// What a VM is on IPv6, beside the link-local address that it makes from its hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Config {
    /// An address that it is told.
    pub interface: Option<Ipv6Interface>,
    /// Who takes packets for other networks, until a router says that it does.
    pub gateway: Option<Ipv6Addr>,
    /// Whether it asks if somebody else has an address before it uses it (RFC 4862 section 5.4).
    pub probe: bool,
    /// Whether it takes addresses and a default router from router advertisements.
    pub slaac: bool,
    /// How long after its start it reports the groups that it listens to. Many VMs that do so at once are a storm.
    pub report: Duration,
    /// Whether it announces its addresses (RFC 4861 section 7.2.6), and how long after its start, or after it has made
    /// sure of one.
    pub announce: Option<Duration>,
}

/// What a VM knows and does on IPv6.
#[derive(Debug)]
pub(in crate::vm) struct Ipv6 {
    pub(super) addresses: Addresses,
    pub(super) routes: Routes,
    pub(super) mld: Mld,
    /// Nothing before the first fragment.
    pub(in crate::vm) fragments: Option<Box<Reassembly>>,
    pub(super) limiter: ErrorLimiter,
    pub(super) hop_limit: u8,
    /// The largest packet that the link carries, where a router says that it is smaller than the interface's.
    pub(super) link_mtu: Option<u16>,
    pub(super) probe: bool,
    pub(super) slaac: bool,
    /// The earliest deadline of the parts above.
    pub(super) deadline: Option<Instant>,
}

impl Ipv6 {
    /// What a VM is on IPv6 when it starts at `now`.
    pub(in crate::vm) fn new(
        now: Instant,
        mac: MacAddr,
        config: &Ipv6Config,
        random: &mut fastrand::Rng,
    ) -> Ipv6 {
        let mut ipv6 = Ipv6 {
            addresses: Addresses::with_room(2, config.announce),
            routes: Routes::by(config.gateway),
            mld: Mld::default(),
            fragments: None,
            limiter: ErrorLimiter::default(),
            hop_limit: HOP_LIMIT,
            link_mtu: None,
            probe: config.probe,
            slaac: config.slaac,
            deadline: None,
        };
        let start = now + START_WAIT.mul_f64(random.f64());
        let link_local = Ipv6Interface {
            address: link_local(mac),
            prefix_length: 64,
        };
        for interface in [Some(link_local), config.interface].into_iter().flatten() {
            let probe = config.probe.then_some(start);
            ipv6.addresses.add(now, interface, None, probe, random);
        }
        // Reports come before the probe, so that a switch that looks at them passes the answers (RFC 4862 section 5.4.2).
        let report = if config.probe {
            now
        } else {
            now + config.report
        };
        ipv6.mld.changed(report);
        if config.slaac {
            ipv6.routes.solicit(start);
        }
        ipv6.find_deadline();
        ipv6
    }

    /// Whether an address is still tried, or a router still looked for.
    pub(in crate::vm) fn is_configuring(&self) -> bool {
        self.routes.is_soliciting() || self.addresses.iter().any(|a| !a.is_assigned())
    }

    /// Hop limit of packets for which nothing else is asked.
    pub(in crate::vm) const fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// The largest packet to send over an interface that carries those of `interface` bytes.
    pub(in crate::vm) fn mtu(&self, interface: u16) -> u16 {
        self.link_mtu.unwrap_or(interface)
    }

    /// When there is something to do.
    pub(in crate::vm) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The neighbour to which a packet for `destination` is handed. `None` when there is no way there.
    pub(in crate::vm) fn next_hop(&self, now: Instant, destination: Ipv6Addr) -> Option<Ipv6Addr> {
        let source = self.addresses.source_for(now, destination)?;
        if source.is_unicast_link_local() || self.is_on_link(now, destination) {
            return Some(destination);
        }
        self.routes.default_router(now)
    }

    pub(super) fn is_on_link(&self, now: Instant, destination: Ipv6Addr) -> bool {
        // The prefix of an address from a router says nothing about who is on the link; the router does.
        let mut told = self.addresses.iter().filter(|a| a.lifetime.is_none());
        let is_told = told.any(|a| {
            let Ipv6Interface {
                address,
                prefix_length,
            } = a.interface;
            share_prefix(address, destination, prefix_length)
        });
        is_told || self.routes.is_on_link(now, destination)
    }

    /// The solicited-node groups of all addresses, each once.
    pub(super) fn groups(&self) -> Vec<Ipv6Addr> {
        let addresses = self.addresses.iter().map(|a| a.interface.address);
        let mut groups: Vec<Ipv6Addr> = addresses.map(solicited_node).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// The hardware addresses of every group that it [listens to](Ipv6::listens_to) (RFC 2464 section 7); some twice.
    pub(in crate::vm) fn group_macs(&self) -> impl Iterator<Item = MacAddr> {
        let addresses = self.addresses.iter();
        let groups = addresses.map(|a| solicited_node(a.interface.address));
        groups.chain([ALL_NODES]).map(multicast_mac)
    }

    /// Whether packets to the group `group` are for this VM.
    pub(super) fn listens_to(&self, group: Ipv6Addr) -> bool {
        group == ALL_NODES
            || group == ALL_NODES_OF_INTERFACE
            || self
                .addresses
                .iter()
                .any(|a| solicited_node(a.interface.address) == group)
    }

    pub(super) fn find_deadline(&mut self) {
        self.deadline = [
            self.addresses.deadline(),
            self.routes.deadline(),
            self.mld.deadline(),
            self.fragments
                .as_ref()
                .and_then(|fragments| fragments.deadline()),
        ]
        .into_iter()
        .flatten()
        .min();
    }
}
