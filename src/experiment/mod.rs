//! A validated plan of a lab and its load. Plain data, checked before anything is touched.

mod describe;
mod effective;
mod expected;
mod from_code;
pub mod options;
mod part;
mod plan;
mod scenario;
mod settings;

pub use self::describe::{describe, describe_ranks, neighbours};
pub use self::expected::Expected;
pub use self::part::{Meet, Owners, Part, Pin, PlanHash, Processes};
pub use self::plan::{
    BYTES_PER_FLOW, BYTES_PER_PHASE, BYTES_PER_VM, Listen, MOST_PINGS, draft, plan, plan_for,
};
pub use self::scenario::Scenario;
pub(crate) use self::settings::span;
pub use self::settings::{Origin, PACING, Setting, SettingError, Settings};
pub use crate::number::number;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::fabric::{InstrumentConfig, Rule, WriteTo};
use crate::hypervisor::{AttributeLoss, Change, FindNeighbours, MarkOn, Phase};
use crate::load::{Sizes, Target};
use crate::system::LabConfig;
use crate::vm::{
    Addressing, Ipv4Config, Ipv4Interface, Ipv6Config, Ipv6Interface, PingOptions, Probe,
    StampMode, VmConfig, VmId,
};
use crate::wire::{MacAddr, Vlan};

/// The plan of one VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmPlan {
    /// The hardware address of its interface.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// The VLAN that it is in.
    pub vlan: Option<Vlan>,
}

/// A version of the Internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A multicast group that VMs join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// The numbers of the VMs.
    pub vms: Range<u32>,
}

/// The plan of one flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowPlan {
    /// The VM that sends.
    pub source: VmId,
    /// The destination.
    pub target: Target,
    /// The protocol, if the destination is a VM.
    pub version: IpVersion,
    /// What is sent.
    pub probe: Probe,
    /// Bytes of payload of each ping.
    pub payload_length: usize,
}

/// The plan of one stream in one phase: frames one way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamPlan {
    /// The VM that sends.
    pub source: VmId,
    /// The destination.
    pub target: Target,
    /// The protocol, if the destination is a VM.
    pub version: IpVersion,
    /// The word for the destination, if it was chosen by one: `absent` or `broadcast`.
    pub name: Option<&'static str>,
    /// The hardware address that its frames go to; `None` for that of the neighbour.
    pub mac: Option<MacAddr>,
    /// The VMs that it is for.
    pub receivers: Vec<VmId>,
    /// The sizes of its frames.
    pub sizes: Sizes,
    /// The name of its phase; empty for a run of a single phase.
    pub phase: String,
    /// False in a warm-up.
    pub is_counted: bool,
}

impl StreamPlan {
    /// The flow that it would be if it were of pings, to find its neighbours as for those. `None` if there is none to find.
    pub const fn as_flow(&self) -> Option<FlowPlan> {
        if self.mac.is_some() {
            return None;
        }
        Some(FlowPlan {
            source: self.source,
            target: self.target,
            version: self.version,
            probe: Probe::ICMP_ECHO,
            payload_length: 0,
        })
    }
}

/// The settings that all VMs of a run share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VmDefaults {
    /// The prefix length of the VMs' network.
    pub prefix_length: u8,
    /// The IPv4 router for other networks.
    pub gateway: Option<Ipv4Addr>,
    /// True if the VMs get their IPv4 addresses from a DHCP server, and not from the plan.
    pub dhcp: bool,
    /// True if a VM probes for duplicates of its addresses before it uses them (RFC 5227, RFC 4862).
    pub dad: bool,
    /// True if a VM announces its addresses.
    pub announce: bool,
    /// True if a VM echoes datagrams sent to UDP port 7 (RFC 862).
    pub udp_echo: bool,
    /// A VM reflects STAMP test packets to UDP port 862 (RFC 8762), and how.
    pub stamp_reflector: Option<StampMode>,
    /// The TCP port at which a VM accepts connections.
    pub tcp_listen: Option<u16>,
    /// Header fields of their pings.
    pub ping: PingOptions,
    /// The settings for IPv6, if they speak it.
    pub ipv6: Option<Ipv6Plan>,
}

impl VmDefaults {
    /// Returns true if VMs have no usable address when they start.
    pub fn asks_for_addresses(&self) -> bool {
        self.dhcp || self.dad || self.ipv6.is_some_and(|plan| plan.slaac || plan.dhcp)
    }

    /// Returns true if the VMs get their addresses of that version from a DHCP server, and not from the plan.
    pub fn leases(&self, version: IpVersion) -> bool {
        match version {
            IpVersion::V4 => self.dhcp,
            IpVersion::V6 => self.ipv6.is_some_and(|plan| plan.dhcp),
        }
    }
}

/// The settings for IPv6 that all VMs of a run share. Each VM also has a link-local address, made from its MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv6Plan {
    /// The network of their planned addresses.
    pub subnet: Ipv6Net,
    /// The address of `vm0`, which the others' follow; network + 2 by default.
    pub first: Ipv6Addr,
    /// The router for other networks.
    pub gateway: Option<Ipv6Addr>,
    /// True if they take addresses and a default router from router advertisements.
    pub slaac: bool,
    /// True if they get their addresses from a DHCPv6 server, and not from the plan, and routes from router advertisements.
    pub dhcp: bool,
}

/// The expected cost of resolving neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// Requests that are sent.
    pub requests: u64,
    /// Copies of broadcasts that are delivered for them.
    pub deliveries: u64,
    /// Copies that help spares, where it was chosen for that and not by the user.
    pub spared: Option<u64>,
    /// The expected time of all of it.
    pub expected: Duration,
    /// The search before anything else is sent, if there is one.
    pub first: Option<FindNeighbours>,
}

/// The delay between VMs that announce their addresses or report their groups, for each port of the bridge
/// and each such frame: a broadcast costs the kernel 2 to 2.5 µs a port, so that this takes a quarter of a processor.
const ANNOUNCEMENT_PER_PORT: Duration = Duration::from_micros(10);

/// A plan: the lab to build, the pings to send, and their duration.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The lab on the system, unused if the run is simulated.
    pub lab: LabConfig,
    /// True if the VMs are on a switch in memory, in virtual time, in place of TAPs.
    pub is_simulated: bool,
    /// What is done to the frames of VMs before the first phase, and in a run without phases.
    pub impairments: Vec<Rule>,
    /// The VMs, `vm0` first.
    pub vms: Vec<VmPlan>,
    /// The settings that the VMs share.
    pub vm_defaults: VmDefaults,
    /// The multicast groups that VMs join, each VM no group twice.
    pub memberships: Vec<Membership>,
    /// The flows. Without any, the VMs only answer.
    pub flows: Vec<FlowPlan>,
    /// The streams, in the order of their phases.
    pub streams: Vec<StreamPlan>,
    /// The parts of the run, one after the other; none when the VMs only answer.
    pub phases: Vec<Phase>,
    /// The time to wait for a reply.
    pub timeout: Duration,
    /// True if the lab stays when the phases are over, until a signal or a command ends it.
    pub stays: bool,
    /// The duration of a run without flows; `None` for until a signal arrives.
    pub serve: Option<Duration>,
    /// The longest time that pings wait for VMs without an address.
    pub address_wait: Duration,
    /// The expected cost of [`LabConfig::neighbours`].
    pub resolution: Resolution,
    /// The seed of all random choices.
    pub seed: u64,
    /// The scenario, with the defaults filled in.
    pub effective: Scenario,
    /// The instruments that look at it.
    pub instruments: Vec<InstrumentConfig>,
    /// The changes by others of which each is a mark.
    pub mark_on: MarkOn,
    /// How it is found out what became of lost pings.
    pub attribute_loss: AttributeLoss,
    /// The last two phases follow pings, to split their way.
    pub splits_path: bool,
    /// The way there and the way back of pings are measured, each by itself.
    pub is_one_way: bool,
    /// The addresses at which the lab listens for requests.
    pub listen: Listen,
    /// The time for which the reactor busy-polls after an event before it sleeps; [`Duration::MAX`] for always.
    pub spin: Duration,
    /// The VMs whose ranks are chosen, if several ranks run the plan.
    pub pins: Vec<Pin>,
    /// The part of a plan that this is; `None` of a whole one.
    pub part: Option<Part>,
}

/// The addresses of the VMs: one after the other. By default the host's side has `.1` of the subnet, and the VMs what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressPlan {
    first: Ipv4Addr,
}

/// A subnet that can't hold the VMs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "has room for {room} VMs (network, host side and broadcast address taken off), not for {vms}; expected a prefix of \
     {prefix} bits or fewer"
)]
pub struct SubnetTooSmall {
    prefix: u32,
    room: u64,
    vms: u64,
}

impl AddressPlan {
    /// A plan for `vms` VMs in `subnet`.
    ///
    /// # Errors
    /// When the subnet has fewer addresses than VMs need.
    pub fn new(subnet: Ipv4Net, vms: u64) -> Result<AddressPlan, SubnetTooSmall> {
        let room = match subnet.prefix_len() {
            // The one address is the VM's, as clouds give them.
            32 => 1,
            length => (1u64 << (32 - u32::from(length))).saturating_sub(3),
        };
        if vms > room {
            let addresses = vms.saturating_add(3).checked_next_power_of_two();
            let prefix = 32u32.saturating_sub(addresses.map_or(32, u64::ilog2));
            return Err(SubnetTooSmall { prefix, room, vms });
        }
        Ok(AddressPlan::starting_at(AddressPlan::first_of(subnet)))
    }

    /// A plan in which `first` is the address of `vm0`.
    pub fn starting_at(first: Ipv4Addr) -> AddressPlan {
        AddressPlan { first }
    }

    /// The default address of `vm0` in `subnet`: network + 2, or the only one that there is.
    pub fn first_of(subnet: Ipv4Net) -> Ipv4Addr {
        let offset = if subnet.prefix_len() == 32 { 0 } else { 2 };
        Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(offset))
    }

    /// Address and MAC of `vm`: the first address + index, and `02:00` followed by that address.
    pub fn vm(&self, vm: VmId) -> VmPlan {
        let address = Ipv4Addr::from(u32::from(self.first).wrapping_add(vm.0));
        let [a, b, c, d] = address.octets();
        VmPlan {
            mac: MacAddr([2, 0, a, b, c, d]),
            address,
            vlan: None,
        }
    }
}

impl Experiment {
    /// The configuration of VM number `index`. `None` if there is no such VM.
    pub fn vm_config(&self, index: usize) -> Option<VmConfig> {
        let VmPlan { mac, address, vlan } = *self.vms.get(index)?;
        let vm_defaults = &self.vm_defaults;
        let delay = self.report_delay(index);
        let ipv6 = vm_defaults.ipv6.map(|plan| Ipv6Config {
            interface: (!plan.dhcp).then(|| Ipv6Interface {
                address: plan.address(VmId(index as u32)),
                prefix_length: plan.subnet.prefix_len(),
            }),
            probe: vm_defaults.dad,
            gateway: plan.gateway,
            slaac: plan.slaac,
            dhcp: plan.dhcp,
            // Where nobody asks because that would be a flood, nobody floods reports of groups either. Bridges of ours go
            // without (no multicast snooping).
            report: match self.resolution.spared {
                Some(_) => Duration::MAX,
                None => delay,
            },
            announce: vm_defaults.announce.then_some(delay),
        });
        let addressing = if vm_defaults.dhcp {
            Addressing::Dhcp
        } else {
            Addressing::Static(Ipv4Interface {
                address,
                prefix_length: vm_defaults.prefix_length,
                gateway: vm_defaults.gateway,
            })
        };
        Some(VmConfig {
            vlan,
            ipv6,
            mac,
            mtu: self.lab.mtu,
            // Who starts it knows the time.
            unix_nanos: 0,
            stamp_reflector: vm_defaults.stamp_reflector,
            tcp_listen: vm_defaults.tcp_listen,
            // Two VMs of a run, and the same VM of two runs, choose differently.
            seed: self.seed.wrapping_mul(1 << 32).wrapping_add(index as u64),
            ipv4: Ipv4Config {
                addressing,
                probe: vm_defaults.dad,
                announce: vm_defaults.announce.then_some(delay),
                udp_echo: vm_defaults.udp_echo,
            },
        })
    }

    /// The time from the start of VM number `index` to its announcements and its reports of groups: the VMs take turns.
    pub fn report_delay(&self, index: usize) -> Duration {
        // An address on IPv4; two on IPv6, whose groups are reported as well.
        let frames = match (self.vm_defaults.announce, self.vm_defaults.ipv6) {
            (true, Some(_)) => 4,
            (true, None) | (false, _) => 1,
        };
        let turn = u32::try_from(index * self.vms.len() * frames).unwrap_or(u32::MAX);
        ANNOUNCEMENT_PER_PORT.saturating_mul(turn)
    }

    /// The multicast groups that `vm` joins.
    pub fn groups_of(&self, vm: VmId) -> impl Iterator<Item = IpAddr> {
        let joined = self.memberships.iter();
        let joined = joined.filter(move |joined| joined.vms.contains(&vm.0));
        joined.map(|joined| joined.group)
    }

    /// The VMs that join `group`.
    pub fn members(&self, group: IpAddr) -> impl Iterator<Item = VmId> {
        let joined = self.memberships.iter();
        let joined = joined.filter(move |joined| joined.group == group);
        joined.flat_map(|joined| joined.vms.clone().map(VmId))
    }

    /// The VMs other than `source` that join `group`: those that answer its pings.
    pub fn others(&self, group: IpAddr, source: VmId) -> impl Iterator<Item = VmId> {
        self.members(group).filter(move |vm| *vm != source)
    }

    /// The address that a flow's pings go to. `None` if its VM does not exist, or has no address of that version.
    pub fn destination(&self, flow: &FlowPlan) -> Option<IpAddr> {
        match flow.target {
            Target::Vm(vm) => self.address(vm, flow.version),
            Target::Address(address) => Some(address),
        }
    }

    /// The address that a stream's frames go to. `None` as of [`Experiment::destination`].
    pub fn destination_of(&self, stream: &StreamPlan) -> Option<IpAddr> {
        match stream.target {
            Target::Vm(vm) => self.address(vm, stream.version),
            Target::Address(address) => Some(address),
        }
    }

    /// The planned address of `vm` of that version; unspecified if it gets one from a DHCP server.
    pub fn address(&self, vm: VmId, version: IpVersion) -> Option<IpAddr> {
        let plan = self.vms.get(vm.index())?;
        match version {
            IpVersion::V4 if self.vm_defaults.dhcp => Some(Ipv4Addr::UNSPECIFIED.into()),
            IpVersion::V4 => Some(plan.address.into()),
            IpVersion::V6 => self.ipv6_address(vm).map(IpAddr::V6),
        }
    }

    /// The planned IPv6 address of `vm`; unspecified if it gets one from a DHCP server.
    pub fn ipv6_address(&self, vm: VmId) -> Option<Ipv6Addr> {
        let plan = self.vm_defaults.ipv6?;
        Some(match plan.dhcp {
            true => Ipv6Addr::UNSPECIFIED,
            false => plan.address(vm),
        })
    }

    /// The VMs that come up in the course of the run.
    pub fn pending_vms(&self) -> HashSet<VmId> {
        let transitions = self.phases.iter().flat_map(|phase| &phase.transitions);
        let starts = transitions.filter(|m| m.change == Change::Start);
        starts.map(|m| m.vm).collect()
    }

    /// Returns true if flooded frames are counted.
    pub fn counts_floods(&self) -> bool {
        let mut kinds = self.instruments.iter().map(|config| config.kind().name);
        kinds.any(|kind| kind == "count-floods")
    }

    /// Returns true if there are pings, and VMs move, or a client may move some.
    pub fn may_move_pinged_vms(&self) -> bool {
        let mut phases = self.phases.iter();
        let moves = phases.any(|phase| !phase.moves.is_empty());
        moves && self.flow_count() > 0 || !self.listen.control.is_empty()
    }

    /// Returns true if an instrument writes to `place`.
    pub fn writes_to(&self, place: &WriteTo) -> bool {
        self.instruments.iter().any(|config| config.to() == place)
    }

    /// Returns true if it has flows or streams: VMs do not only answer.
    pub fn has_load(&self) -> bool {
        !self.flows.is_empty() || !self.streams.is_empty()
    }

    /// Returns true if in some phase something is sent at the rate of the phase: streams may each have one of their own.
    pub fn has_common_rate(&self) -> bool {
        self.phases.iter().any(|phase| {
            let mut streams = phase.streams.iter();
            !phase.load.flows.is_empty() || streams.any(|load| load.pacing == phase.load.pacing)
        })
    }

    /// The number of flows. A [draft](draft()) does not list all of them.
    pub fn flow_count(&self) -> usize {
        let ends = self.phases.iter().map(|phase| phase.load.flows.end());
        ends.max().unwrap_or(0) as usize
    }

    /// Returns true if all flows are listed, as they are but in a [draft](draft()).
    pub fn lists_all_flows(&self) -> bool {
        self.flows.len() == self.flow_count()
    }

    /// The number of pings of all phases together; `None` if it depends on the time.
    pub fn planned_pings(&self) -> Option<u64> {
        let mut pings = 0u64;
        for phase in self.phases.iter().filter(|phase| phase.splits.is_none()) {
            let count = phase.load.count.filter(|_| phase.duration.is_none())?;
            pings = pings.saturating_add(count.saturating_mul(phase.load.flows.len() as u64));
        }
        Some(pings)
    }

    /// Returns true if the run ends by itself: each phase when its pings are sent or its duration is over.
    pub fn has_end(&self) -> bool {
        let mut phases = self.phases.iter();
        phases.all(|phase| phase.duration.is_some() || phase.load.count.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vm_has_the_address_after_the_hosts() {
        let plan = AddressPlan::new("10.77.0.0/16".parse().unwrap(), 2).unwrap();
        let vm = plan.vm(VmId(0));
        assert_eq!(
            (vm.address.to_string(), vm.mac.to_string()),
            ("10.77.0.2".into(), "02:00:0a:4d:00:02".into())
        );
        assert_eq!(plan.vm(VmId(254)).address.to_string(), "10.77.1.0");
    }

    #[test]
    fn a_subnet_holds_all_but_three_of_its_addresses() {
        let subnet = |text: &str| text.parse().unwrap();
        for (net, fits, too_many) in [
            ("10.0.0.0/29", 5, 6),
            ("10.0.0.0/30", 1, 2),
            ("10.0.0.0/16", 65_533, 65_534),
        ] {
            assert!(AddressPlan::new(subnet(net), fits).is_ok(), "{net}");
            assert!(AddressPlan::new(subnet(net), too_many).is_err(), "{net}");
        }
        assert!(AddressPlan::new(subnet("10.0.0.0/31"), 1).is_err());
        assert!(AddressPlan::new(subnet("10.0.0.9/32"), 2).is_err());
        let only = AddressPlan::new(subnet("10.0.0.9/32"), 1).unwrap();
        assert_eq!(only.vm(VmId(0)).address, Ipv4Addr::new(10, 0, 0, 9));
    }
}
