//! The flows: patterns expanded to flows, each with a payload that fits and a destination that can be reached.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::addresses::{is_host, is_host_of};
use super::memberships;
use super::probe::OwnProbe;
use super::size::Size;
use super::vms::Group;
use crate::experiment::options::suggestion;
use crate::experiment::settings::{Setting, SettingError, Settings};
use crate::experiment::{FlowPlan, IpVersion, Membership, Processes, VmDefaults, VmPlan};
use crate::load::{Pattern, Population, Selection, Target};
use crate::system::LabConfig;
use crate::vm::{ProbeKind, VmId};
use crate::wire::{IPV4_HEADER_LENGTH, IPV4_MAX_LENGTH, IPV6_HEADER_LENGTH};

/// The part of a plan that the flows depend on.
pub(super) struct PlanContext<'a> {
    pub(super) may_fragment: bool,
    pub(super) subnet: Ipv4Net,
    pub(super) vm_defaults: &'a VmDefaults,
    /// The lab, as far as it is planned.
    pub(super) lab: &'a LabConfig,
    pub(super) groups: &'a [Group<'a>],
    pub(super) memberships: &'a [Membership],
    pub(super) vms: &'a [VmPlan],
    pub(super) seed: u64,
    pub(super) are_simulated: bool,
    /// How long pings are waited for.
    pub(super) timeout: Duration,
    /// Flows that are listed; all are counted.
    pub(super) most_flows: usize,
    /// Bytes of memory that are free, if that is known.
    pub(super) free_memory: Option<u64>,
    /// The processes that have to have room in it.
    pub(super) processes: Processes,
    /// How many of the VMs they have.
    pub(super) own_vms: u32,
}

impl PlanContext<'_> {
    /// Makes sure that so many flows and phases have room.
    pub(super) fn check_size(&self, flows: u64, phases: usize) -> Result<(), SettingError> {
        let is_divided = matches!(self.processes, Processes::Rank(_));
        let (flows, undivided) = if is_divided { (0, flows) } else { (flows, 0) };
        let size = Size {
            vms: u64::from(self.own_vms),
            are_simulated: self.are_simulated,
            flows,
            undivided,
            phases: phases as u64,
            processes: self.processes,
        };
        size.check(self.free_memory)
    }

    /// The VMs that `who` names: `vm3`, `vm[0-9]`, `all`, or a group.
    ///
    /// # Errors
    /// If it names none, in the words `expected`, or one that does not exist.
    pub(super) fn selection(
        &self,
        setting: &Setting,
        who: &str,
        expected: &str,
    ) -> Result<RangeInclusive<u32>, SettingError> {
        self.selected(who, expected)
            .map_err(|error| setting.error(error))
    }

    /// As [`PlanContext::selection`], with what is wrong alone.
    pub(super) fn selected(
        &self,
        who: &str,
        expected: &str,
    ) -> Result<RangeInclusive<u32>, String> {
        if let Some(group) = self.groups.iter().find(|group| group.name == Some(who)) {
            return Ok(group.first..=group.first + group.vms.saturating_sub(1));
        }
        let no_vms = |_| format!("{who:?} names no VMs; {expected}");
        let selection: Selection = who.parse().map_err(no_vms)?;
        let vms = selection.range(self.vms.len() as u32);
        vms.map_err(|error| error.to_string())
    }

    /// The pattern, whose sides may be names of groups.
    fn pattern(&self, setting: &Setting) -> Result<Pattern, SettingError> {
        let side = |side: &str| {
            let group = self.groups.iter().find(|group| group.name == Some(side));
            group.map_or_else(
                || side.to_owned(),
                |group| format!("vm[{}-{}]", group.first, group.first + group.vms - 1),
            )
        };
        let own = OwnProbe::of(setting)?.pattern;
        let text = match own.split_once(':') {
            Some((source, "absent"))
                if self.groups.iter().all(|group| group.name != Some("absent")) =>
            {
                let absent = self.absent().map_err(|why| setting.error(why))?;
                format!("{}:{absent}", side(source))
            }
            Some((source, target)) => format!("{}:{}", side(source), side(target)),
            None => own.to_owned(),
        };
        text.parse().map_err(|error| {
            let meant = match text.contains(':') {
                true => String::new(),
                false => suggestion(&text, "", Pattern::WORDS),
            };
            setting.error(format_args!("{error}{meant}"))
        })
    }

    /// The last address of the network that nobody has: no VM, not the host and not the router.
    fn absent(&self) -> Result<Ipv4Addr, String> {
        if self.vm_defaults.dhcp {
            let why = "the DHCP server chooses who has which address; expected one that it gives to nobody";
            return Err(why.to_owned());
        }
        let host = self.lab.host_address.map(|net| net.addr());
        let others = [host, self.vm_defaults.gateway];
        let vms = self.vms.iter().map(|vm| vm.address);
        let taken: HashSet<Ipv4Addr> = vms.chain(others.into_iter().flatten()).collect();
        // The first one is the host's by convention.
        let first = u32::from(self.subnet.network()).saturating_add(2);
        let mut all = (first..=u32::from(self.subnet.broadcast()))
            .rev()
            .map(Ipv4Addr::from);
        let free =
            |address: &Ipv4Addr| is_host_of(self.subnet, *address) && !taken.contains(address);
        all.find(free).ok_or_else(|| {
            let subnet = self.subnet;
            format!("every address of {subnet} is somebody's; expected a larger --subnet")
        })
    }

    /// Returns the number of flows of the pattern.
    pub(super) fn count(&self, setting: &Setting) -> Result<u64, SettingError> {
        let count = self.pattern(setting)?.count(self.population());
        count.map_err(|error| setting.error(error))
    }

    /// The sources of the pattern, each with what it is for.
    pub(super) fn ends(&self, setting: &Setting) -> Result<Vec<(VmId, Target)>, SettingError> {
        let random = fastrand::Rng::with_seed(self.seed);
        self.check_size(self.count(setting)?, 0)?;
        let flows = self.pattern(setting)?.flows(self.population(), random);
        Ok(flows.map_err(|error| setting.error(error))?.collect())
    }

    fn population(&self) -> Population {
        let mut multicast_groups: Vec<IpAddr> = Vec::new();
        for joined in self.memberships {
            if !multicast_groups.contains(&joined.group) {
                multicast_groups.push(joined.group);
            }
        }
        Population {
            vms: self.vms.len() as u32,
            multicast_groups,
        }
    }

    /// The first flows of one pattern, `most` at most, in a phase or of a request with these settings.
    pub(super) fn flows(
        &self,
        setting: &Setting,
        settings: &Settings,
        over_ipv6: bool,
        most: usize,
    ) -> Result<Vec<FlowPlan>, SettingError> {
        let random = fastrand::Rng::with_seed(self.seed);
        let population = self.population();
        let flows = self
            .pattern(setting)?
            .flows(population, random)
            .map_err(|error| setting.error(error))?;
        let own = OwnProbe::of(setting)?;
        if over_ipv6 && own.pattern.ends_with(":absent") {
            let why =
                "that is an IPv4 address; expected an IPv6 address in its place, or no --ping-ipv6";
            return Err(setting.error(why));
        }
        let mut planned = Vec::new();
        // Patterns to an address are to the same one each time.
        let mut last: Option<(Target, Target)> = None;
        for (source, named) in flows.take(most) {
            let version = match named {
                Target::Vm(_) if over_ipv6 => IpVersion::V6,
                Target::Address(IpAddr::V6(_)) => IpVersion::V6,
                Target::Vm(_) | Target::Address(IpAddr::V4(_)) => IpVersion::V4,
            };
            let target = match last {
                Some((same, target)) if same == named => target,
                _ => self.reachable(named).map_err(|why| setting.error(why))?,
            };
            last = Some((named, target));
            if target == Target::Vm(source) {
                let why =
                    format_args!("{source} can't ping itself; expected another VM or address");
                return Err(setting.error(why));
            }
            let probe = self.probe(setting, (own, settings), (source, target))?;
            let size = settings.get("size");
            let payload_length = self.payload_length(source, size, (version, probe.kind))?;
            planned.push(FlowPlan {
                source,
                target,
                version,
                probe,
                payload_length,
            });
        }
        Ok(planned)
    }

    /// The target, as a VM if it is one.
    pub(super) fn reachable(&self, target: Target) -> Result<Target, String> {
        let Target::Address(address) = target else {
            return Ok(target);
        };
        let (vm, reachable) = match address {
            // Whoever has joined it, VM or not.
            _ if memberships::check(address).is_ok() => return Ok(target),
            IpAddr::V4(address) if self.vm_defaults.dhcp => {
                // Which VM will have which address is the server's choice, and so is the way out.
                let why = || format!("{address} can't be the address of a host");
                (None, is_host(address).then_some(()).ok_or_else(why))
            }
            IpAddr::V4(group) if group.is_multicast() => (None, memberships::check(address)),
            IpAddr::V4(address) => {
                let vm = self.vms.iter().position(|vm| vm.address == address);
                (vm, self.check_reachable(address))
            }
            IpAddr::V6(address) => {
                // A plan is there: an IPv6 target asks for one.
                let plan = self.vm_defaults.ipv6.ok_or("VMs don't speak IPv6")?;
                let mut vms = (0..self.vms.len()).map(|vm| plan.address(VmId(vm as u32)));
                // Which VM will have which address is a DHCP server's choice.
                let vm = vms.position(|vm| vm == address && !plan.dhcp);
                (vm, plan.check_reachable(address))
            }
        };
        match vm {
            Some(index) => Ok(Target::Vm(VmId(index as u32))),
            None => reachable.map(|()| target),
        }
    }

    /// Checks that VMs can ping `address`, which is not a VM's; the error says why they can't.
    fn check_reachable(&self, address: Ipv4Addr) -> Result<(), String> {
        let is_outside = self.vm_defaults.gateway.is_some()
            && !self.subnet.contains(&address)
            && is_host(address);
        if is_outside || is_host_of(self.subnet, address) {
            return Ok(());
        }
        Err(format!(
            "{address} is not a host of {}, and without a gateway VMs reach no other network",
            self.subnet
        ))
    }

    /// The payload of pings from `source`: what the phase says, or the source's group, or the default.
    pub(super) fn payload_length(
        &self,
        source: VmId,
        size: Option<&Setting>,
        (version, kind): (IpVersion, ProbeKind),
    ) -> Result<usize, SettingError> {
        let group = self.group_of(source);
        let default = Settings::default();
        let size = size.or_else(|| group?.settings.get("size"));
        if !kind.has_payload() {
            // A scenario with all its settings has the default.
            let is_default = |size: &&Setting| size.text == default.or_default("size").text;
            return match size.filter(|size| !is_default(size)) {
                Some(size) => Err(size.error(format_args!(
                    "{kind} probes carry no payload; expected none of that"
                ))),
                None => Ok(0),
            };
        }
        let setting = match size {
            Some(setting) => Cow::Borrowed(setting),
            None => default.or_default("size"),
        };
        self.fits(&setting, version, kind)
    }

    /// The group that `vm` is in.
    pub(super) fn group_of(&self, vm: VmId) -> Option<&Group<'_>> {
        let next = self.groups.partition_point(|group| group.first <= vm.0);
        next.checked_sub(1).and_then(|last| self.groups.get(last))
    }

    fn fits(
        &self,
        setting: &Setting,
        version: IpVersion,
        kind: ProbeKind,
    ) -> Result<usize, SettingError> {
        let size = setting.number("a number of bytes")?;
        // The length that an IPv6 header tells is without the header.
        let (name, header, whole) = match version {
            IpVersion::V4 => ("IPv4", IPV4_HEADER_LENGTH, IPV4_MAX_LENGTH),
            IpVersion::V6 => (
                "IPv6",
                IPV6_HEADER_LENGTH,
                IPV4_MAX_LENGTH + IPV6_HEADER_LENGTH,
            ),
        };
        let overhead = header + kind.header_length();
        let least = kind.least_payload();
        let mtu = usize::from(self.lab.mtu);
        let largest = if self.may_fragment { whole } else { mtu } - overhead;
        if (least..=largest).contains(&size) {
            return Ok(size);
        }
        let headers = format!(
            "{name} and {} headers take {overhead} bytes",
            kind.protocol_name()
        );
        let why = if self.may_fragment {
            format!("expected {least} to {largest} in fragments ({headers})")
        } else {
            let most = whole - overhead;
            format!(
                "expected {least} to {largest} with an MTU of {mtu} ({headers}), or up to {most} with --allow-fragmentation"
            )
        };
        Err(setting.error(why))
    }
}
