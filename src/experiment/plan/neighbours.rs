//! Neighbour resolution: as the user chooses, or by requests before anything is measured, or, if these would take too long,
//! by a proxy or static tables; and the choice of a filter that keeps requests for others from the VMs.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Setting, SettingError, Settings};
use crate::experiment::{FlowPlan, IpVersion, Membership, Resolution, VmDefaults, VmPlan};
use crate::hypervisor::{ANSWER_WAIT, FindNeighbours, Phase};
use crate::load::Target;
use crate::system::{FabricKind, LabConfig, Neighbours, Prepared};
use crate::vm::{ANNOUNCEMENTS, PROBES, ROBUSTNESS_VARIABLE, VmId};

/// The longest expected time of a search for neighbours, unless one is asked for.
const LONGEST: Duration = Duration::from_secs(1);
/// The time to deliver one copy of a request to a VM that is not meant, and to read it: 1.4 to 2.8 µs were measured.
const DELIVERY: Duration = Duration::from_nanos(2_500);
/// The same if a filter drops it: 0.5 to 0.9 µs were measured.
const FILTERED_DELIVERY: Duration = Duration::from_nanos(1_000);
/// The time of a request and its answer besides.
const EXCHANGE: Duration = Duration::from_micros(10);
/// Requests that are outstanding at once at most: far fewer than frames that a TAP has room for.
const MOST_OUTSTANDING: u32 = 64;
/// Copies of requests that are under way at once at most: so many take the kernel some ten milliseconds, in which
/// nothing else is looked at.
const MOST_COPIES: u32 = 32_768;
/// The default length of a TAP's queue.
const TAP_QUEUE: u32 = 1_000;

/// The part of a plan that the decision depends on.
pub(super) struct Lab<'a> {
    pub(super) config: &'a LabConfig,
    pub(super) is_simulated: bool,
    pub(super) vms: &'a [VmPlan],
    pub(super) vm_defaults: &'a VmDefaults,
    pub(super) flows: &'a [FlowPlan],
    pub(super) phases: &'a [Phase],
    pub(super) memberships: &'a [Membership],
}

/// The kind of resolution, its expected cost, and the filter.
pub(super) struct Decision {
    pub(super) neighbours: Neighbours,
    pub(super) resolution: Resolution,
    pub(super) filter: bool,
}

pub(super) fn decide(settings: &Settings, lab: &Lab<'_>) -> Result<Decision, SettingError> {
    let requests = Requests::of(lab);
    let beside = lab.broadcasts_beside();
    let pings = expected_pings(lab.phases);
    let filter = filter(settings)?;
    let is_filtered = |deliveries| filter.unwrap_or_else(|| filter_pays(deliveries, pings));
    let asking = requests.deliveries.saturating_add(beside);
    let wish = wish(settings, lab)?;
    let time = lab.time(requests.between_vms, is_filtered(asking));
    let (neighbours, spared) = match wish {
        Some(wish) => (wish, None),
        None if time <= LONGEST || lab.must_ask() => (Neighbours::Before, None),
        None if lab.may_be_proxied(&requests) => (Neighbours::Proxy, Some(requests.between_vms)),
        None => (Neighbours::Static, Some(requests.between_vms)),
    };
    let (asked, deliveries) = match neighbours {
        Neighbours::Before | Neighbours::AtOnce => (requests.pairs, requests.deliveries),
        Neighbours::Proxy => (requests.directed, requests.deliveries_with_proxy()),
        Neighbours::Static => (requests.outside, requests.outside_deliveries()),
    };
    let filter = is_filtered(deliveries.saturating_add(beside));
    let expected = lab
        .time(deliveries, filter)
        .saturating_add(times(EXCHANGE, asked));
    let is_first = match neighbours {
        Neighbours::AtOnce => false,
        Neighbours::Before | Neighbours::Static => true,
        Neighbours::Proxy => expected <= LONGEST,
    };
    let longest = match wish {
        Some(_) => Duration::MAX,
        None => LONGEST,
    };
    // The time is an estimate for an unknown machine.
    let at_most = expected.min(longest).saturating_mul(2);
    let first = (is_first && asked > 0).then(|| FindNeighbours {
        outstanding: lab.outstanding(),
        at_most: at_most.saturating_add(ANSWER_WAIT),
    });
    let resolution = Resolution {
        requests: asked,
        deliveries,
        spared,
        expected,
        first,
    };
    Ok(Decision {
        neighbours,
        resolution,
        filter,
    })
}

/// The kind of resolution that is asked for, if any.
fn wish(settings: &Settings, lab: &Lab<'_>) -> Result<Option<Neighbours>, SettingError> {
    let Some(setting) = settings.get("resolve") else {
        return Ok(None);
    };
    let wish: Neighbours = setting
        .choice()?
        .parse()
        .map_err(|why| setting.error(why))?;
    for (version, flag) in [(IpVersion::V4, "--dhcp"), (IpVersion::V6, "--dhcp6")] {
        if wish.are_filled_in() && lab.vm_defaults.leases(version) {
            return Err(setting.error(format_args!(
                "expected before or at-once with {flag}: nobody's address is known beforehand"
            )));
        }
    }
    if wish.are_filled_in() && lab.config.prepared == Prepared::Bridge {
        let why =
            "expected before or at-once with --join, which fills no tables of a bridge that exists";
        return Err(setting.error(why));
    }
    if wish == Neighbours::Proxy {
        check_proxy(setting, lab)?;
    }
    Ok(Some(wish))
}

fn check_proxy(setting: &Setting, lab: &Lab<'_>) -> Result<(), SettingError> {
    let is_bridge = !lab.is_simulated && lab.config.fabric == FabricKind::Bridge;
    let refused = [
        (
            !is_bridge,
            "another fabric",
            "which has no bridge that answers",
        ),
        (
            lab.config.prepared == Prepared::BridgeAndTaps,
            "--attach",
            "which leaves the bridge as it is",
        ),
        (
            lab.vms.iter().any(|vm| vm.vlan.is_some()),
            "VLANs",
            "whose tags the bridge's answers do not have",
        ),
        (
            lab.flows.iter().any(|flow| flow.version == IpVersion::V6),
            "pings over IPv6",
            "for which no bridge answers",
        ),
    ];
    match refused.iter().find(|(is_set, ..)| *is_set) {
        Some((_, other, why)) => Err(setting.error(format_args!(
            "expected before, at-once or static with {other}, {why}"
        ))),
        None => Ok(()),
    }
}

/// The filter that is asked for; `None` for whichever is better.
fn filter(settings: &Settings) -> Result<Option<bool>, SettingError> {
    let counts = settings.get("count-floods").map(Setting::switch);
    if counts.transpose()?.unwrap_or(false) {
        let asked = settings.get("filter");
        if let Some(filter) = asked.filter(|filter| filter.text == "on") {
            let why = "cannot be used with --count-floods, which counts what it drops";
            return Err(filter.error(why));
        }
        return Ok(Some(false));
    }
    Ok(match settings.or_default("filter").choice()? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    })
}

/// Returns true if a filter takes less time than it saves: it drops copies of broadcasts, of which there are `deliveries`,
/// and runs for every ping.
fn filter_pays(deliveries: u64, pings: u64) -> bool {
    const SAVED: Duration = DELIVERY.saturating_sub(FILTERED_DELIVERY);
    /// 6 to 9 % of the 4 µs that a ping between two VMs takes.
    const COST: Duration = Duration::from_nanos(250);
    /// To load its program and attach it to TAPs.
    const SETUP: Duration = Duration::from_millis(10);
    times(SAVED, deliveries) > times(COST, pings) + SETUP
}

/// The number of pings in the first seconds, in which the broadcasts are. The filter takes a small share of
/// each, however long the run is.
fn expected_pings(phases: &[Phase]) -> u64 {
    const FIRST: Duration = Duration::from_secs(5);
    /// Between TAPs on one processor.
    const MOST_A_SECOND: u64 = 250_000;
    let mut left = FIRST;
    let mut pings = 0_u64;
    for phase in phases {
        let time = phase.duration.unwrap_or(left).min(left);
        let most = (time.as_secs_f64() * MOST_A_SECOND as f64) as u64;
        let due = phase.load.pings_due(Some(time)).unwrap_or(most);
        pings = pings.saturating_add(due.min(most));
        left -= time;
        if left.is_zero() {
            break;
        }
    }
    pings
}

/// The requests that VMs have to send.
#[derive(Default)]
struct Requests {
    /// Requests, if the target of a request learns the address of its sender.
    pairs: u64,
    /// Requests, if it does not.
    directed: u64,
    /// Those of them that are no VMs.
    outside: u64,
    /// Copies of the requests that the fabric delivers: one for each other VM.
    deliveries: u64,
    /// Those of them for VMs.
    between_vms: u64,
    /// Those of them over IPv6.
    between_vms6: u64,
}

impl Requests {
    fn of(lab: &Lab<'_>) -> Requests {
        let mut requests = Requests::default();
        for version in [IpVersion::V4, IpVersion::V6] {
            let flows = lab.flows.iter().filter(|flow| flow.version == version);
            let to_vms = flows.clone().filter_map(|flow| match flow.target {
                Target::Vm(target) => Some((flow.source, target)),
                Target::Address(_) => None,
            });
            let directed = distinct(to_vms.clone());
            let pairs = distinct(to_vms.map(|(a, b)| (a.min(b), a.max(b))));
            let outside: HashSet<(VmId, IpAddr)> = flows
                .filter_map(|flow| match flow.target {
                    Target::Vm(_) => None,
                    // Nobody is asked where a group is.
                    Target::Address(address) if address.is_multicast() => None,
                    Target::Address(address) => Some((flow.source, lab.next_hop(address))),
                })
                .collect();
            let outside = outside.len() as u64;
            let copies = match lab.is_xdp() {
                true => 0,
                false => (lab.vms.len() as u64).saturating_sub(1),
            };
            let between_vms = pairs.saturating_mul(copies);
            requests.pairs += pairs + outside;
            requests.directed += directed + outside;
            requests.outside += outside;
            requests.between_vms = requests.between_vms.saturating_add(between_vms);
            requests.deliveries = requests
                .deliveries
                .saturating_add(between_vms)
                .saturating_add(outside.saturating_mul(copies));
            if version == IpVersion::V6 {
                requests.between_vms6 = between_vms;
            }
        }
        requests
    }

    fn outside_deliveries(&self) -> u64 {
        self.deliveries.saturating_sub(self.between_vms)
    }

    /// The bridge answers for VMs over IPv4.
    fn deliveries_with_proxy(&self) -> u64 {
        self.outside_deliveries().saturating_add(self.between_vms6)
    }
}

/// The number of different items.
fn distinct<T: Ord>(items: impl Iterator<Item = T>) -> u64 {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable();
    items.dedup();
    items.len() as u64
}

impl Lab<'_> {
    /// Returns true if the fabric is XDP, which delivers a request for a neighbour only to its target.
    fn is_xdp(&self) -> bool {
        !self.is_simulated && self.config.fabric == FabricKind::Xdp
    }

    /// The neighbour to which a datagram for an address outside the lab is handed.
    fn next_hop(&self, address: IpAddr) -> IpAddr {
        let gateway6 = self.vm_defaults.ipv6.and_then(|plan| plan.gateway);
        match address {
            IpAddr::V4(to) if !self.is_neighbour(to) => {
                self.vm_defaults.gateway.map_or(address, IpAddr::V4)
            }
            IpAddr::V4(_) => address,
            IpAddr::V6(to) => match self.vm_defaults.ipv6 {
                Some(plan) if !plan.subnet.contains(&to) => gateway6.map_or(address, IpAddr::V6),
                _ => address,
            },
        }
    }

    fn is_neighbour(&self, address: Ipv4Addr) -> bool {
        let host_bits = 32 - u32::from(self.vm_defaults.prefix_length.min(32));
        let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
        let first = self
            .vms
            .first()
            .map_or(Ipv4Addr::UNSPECIFIED, |vm| vm.address);
        (u32::from(address) ^ u32::from(first)) & mask == 0
    }

    /// Copies of broadcasts that VMs send beside their requests.
    fn broadcasts_beside(&self) -> u64 {
        let vm_defaults = self.vm_defaults;
        let mut frames = 0;
        if vm_defaults.dad {
            frames += u64::from(PROBES) + u64::from(ANNOUNCEMENTS);
        } else if vm_defaults.announce {
            frames += u64::from(ANNOUNCEMENTS);
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            if vm_defaults.leases(version) {
                frames += 2;
            }
        }
        let vms = self.vms.len() as u64;
        let mut frames = frames * vms;
        if !self.is_xdp() {
            // XDP drops reports of groups: no VM is in the group of routers.
            let reporters = match vm_defaults.ipv6 {
                Some(_) => vms,
                None => 0,
            };
            let joined = self.memberships.iter().filter(|of| of.group.is_ipv4());
            let joined = distinct(joined.flat_map(|of| of.vms.clone()));
            frames += u64::from(ROBUSTNESS_VARIABLE) * (reporters + joined);
        }
        frames.saturating_mul(vms.saturating_sub(1))
    }

    /// The time that the kernel takes for so many copies; zero in virtual time, and on a switch of somebody else.
    fn time(&self, deliveries: u64, is_filtered: bool) -> Duration {
        let is_foreign = matches!(self.config.fabric, FabricKind::None | FabricKind::Interface);
        let is_ours = !self.is_simulated && !is_foreign;
        // TAPs of somebody else have no filter of ours.
        let is_filtered = is_filtered && self.config.prepared != Prepared::BridgeAndTaps;
        match (is_ours, is_filtered) {
            (false, _) => Duration::ZERO,
            (true, true) => times(FILTERED_DELIVERY, deliveries),
            (true, false) => times(DELIVERY, deliveries),
        }
    }

    /// Returns true if no table can be filled: nobody knows the addresses, or the bridge is somebody else's.
    fn must_ask(&self) -> bool {
        let mut versions = [IpVersion::V4, IpVersion::V6].into_iter();
        versions.any(|version| self.vm_defaults.leases(version))
            || self.config.prepared == Prepared::Bridge
    }

    /// Returns true if the bridge can answer for VMs: it knows neither IPv6 nor VLANs, stays as it is if it is somebody
    /// else's, and would answer announcements and probes as well.
    fn may_be_proxied(&self, requests: &Requests) -> bool {
        self.time(requests.between_vms6, true) <= LONGEST
            && self.config.fabric == FabricKind::Bridge
            && self.config.prepared == Prepared::Nothing
            && self.vms.iter().all(|vm| vm.vlan.is_none())
            && !self.vm_defaults.announce
            && !self.vm_defaults.dad
    }

    /// The most requests that may be outstanding at once: every queue has room for a copy of each, and more.
    fn outstanding(&self) -> u32 {
        let (queue, ports, most) = match self.is_simulated {
            false => (TAP_QUEUE, self.config.vms.max(1), MOST_OUTSTANDING),
            // Time is virtual, and answers may be long under way.
            true => (u32::MAX, 1, MOST_OUTSTANDING * 16),
        };
        let queue = self.config.tx_queue_length.unwrap_or(queue);
        (queue / 4).min(MOST_COPIES / ports).clamp(1, most)
    }
}

fn times(span: Duration, number: u64) -> Duration {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(nanos.saturating_mul(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_chosen_where_it_saves_more_than_it_takes() {
        // Copies of broadcasts, pings, and whether it pays: a second of pings of two VMs are 250,000.
        for (deliveries, pings, pays) in [
            (0, 0, false),
            (0, 1_000, false),
            (1, 100, false),
            (1, 0, false),
            (10_000, 20_000, false),
            (10_000, 19_999, true),
            (60_025, 40_000, true),
            (490_050, 200_000, true),
            (490_050, 1_250_000, true),
            (39_800, 1_250_000, false),
            (999_000, u64::MAX, false),
            (u64::MAX, 1, true),
        ] {
            assert_eq!(
                filter_pays(deliveries, pings),
                pays,
                "{deliveries}, {pings}"
            );
        }
    }
}
