//! The description of a lab: the plain data that a [`TapFabric`](super::TapFabric) is made from.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};

use super::error::SystemError;
use super::name_rules::{validate_interface_name, validate_namespace_name};
use super::outside::Outside;
use super::switching::xdp::SwitchDescriptors;
use super::vlan_table::VlanFiltering;
use crate::topology::{
    Callers, DEFAULT_PORTS_PER_BRIDGE, Topology, TopologyError, leaf_name, outside_name,
    uplink_names,
};
use crate::vm::VmId;

/// The number of VMs where none is chosen.
pub const DEFAULT_VMS: u32 = 2;
/// The name of the bridge where none is chosen.
pub const DEFAULT_BRIDGE: &str = "br0";
/// The prefix of the TAPs' names where nothing is chosen.
pub const DEFAULT_TAP_PREFIX: &str = "tap";
/// The MTU of bridge and TAPs where none is chosen, in bytes: that of Ethernet.
pub const DEFAULT_MTU: u16 = 1500;

/// Which network namespace the lab lives in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NetnsChoice {
    /// One of the process's own, which ends with it. Works without root where user namespaces are allowed.
    #[default]
    Private,
    /// The one that the process was started in. What is made there is marked, and removed at the end.
    Host,
    /// A named one, as `ip netns` makes them; made, and removed at the end, if it does not exist.
    Named(String),
}

impl FromStr for NetnsChoice {
    type Err = String;

    /// `private`, `host` or the name of a namespace.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "private" => Ok(NetnsChoice::Private),
            "host" => Ok(NetnsChoice::Host),
            name => match validate_namespace_name(name) {
                Ok(()) => Ok(NetnsChoice::Named(name.to_owned())),
                Err(why) => Err(format!("a namespace's name {why}")),
            },
        }
    }
}

/// The switch that carries frames from TAP to TAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FabricKind {
    /// A Linux bridge, or a tree of them.
    #[default]
    Bridge,
    /// An XDP program on each TAP.
    Xdp,
    /// Something that somebody else attaches the TAPs to.
    None,
    /// No TAPs, and what is behind interfaces that exist.
    Interface,
}

/// An interface that exists, and the VMs directly behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfacePort {
    /// Its name.
    pub name: String,
    /// The numbers of the VMs.
    pub vms: Range<u32>,
    /// Frames from one of them to another do not leave.
    pub bridges: bool,
}

impl fmt::Display for FabricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FabricKind::Bridge => "bridge",
            FabricKind::Xdp => "xdp",
            FabricKind::None => "none",
            FabricKind::Interface => "interface",
        })
    }
}

/// The part of a lab that somebody else has made. It stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Prepared {
    /// Nothing: the run makes all of it.
    #[default]
    Nothing,
    /// The bridge, which the run's TAPs join.
    Bridge,
    /// The bridge and the TAPs on it.
    BridgeAndTaps,
}

/// How VMs come by each other's hardware addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Neighbours {
    /// They ask all others, before anything else is sent, a few at a time.
    #[default]
    Before,
    /// They ask all others, when their pings are due.
    AtOnce,
    /// They ask, and the bridge answers in place of the VM that they ask for, from tables that are filled beforehand.
    Proxy,
    /// They know beforehand, and bridges know which port each VM is behind.
    Static,
}

impl Neighbours {
    /// Returns true if tables are filled beforehand.
    pub const fn are_filled_in(self) -> bool {
        matches!(self, Neighbours::Proxy | Neighbours::Static)
    }
}

impl fmt::Display for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Neighbours::Before => "before",
            Neighbours::AtOnce => "at-once",
            Neighbours::Proxy => "proxy",
            Neighbours::Static => "static",
        })
    }
}

impl FromStr for Neighbours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use Neighbours::{AtOnce, Before, Proxy, Static};
        let all = [Before, AtOnce, Proxy, Static];
        let found = all.into_iter().find(|each| each.to_string() == text);
        found.ok_or_else(|| "expected before, at-once, static or proxy".to_owned())
    }
}

/// A lab: bridges and a TAP for each VM.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// How many VMs there will be: what they need is checked before anything is made.
    pub vms: u32,
    /// Where the lab lives.
    pub netns: NetnsChoice,
    /// The switch that carries frames from TAP to TAP.
    pub fabric: FabricKind,
    /// The bridge's name; of a tree, the spine's.
    pub bridge: String,
    /// How many VMs share one bridge; more are spread over leaves of a tree.
    pub ports_per_bridge: u32,
    /// The TAP of `vmI` is called by this and I.
    pub tap_prefix: String,
    /// MTU of bridge and TAPs in bytes, without the Ethernet header.
    pub mtu: u16,
    /// An address for the bridge, so that the host side can talk to the VMs.
    pub host_address: Option<Ipv4Net>,
    /// An IPv6 address for the bridge; without one, IPv6 is off there.
    pub host_address6: Option<Ipv6Net>,
    /// Which port of the bridge is in which VLAN; `None` for a bridge that does not look at tags.
    pub vlan_filtering: Option<VlanFiltering>,
    /// The part of it that somebody else has made, and that stays as it is.
    pub prepared: Prepared,
    /// What is behind a port of the bridge, of a tree the spine's; `None` for no such port.
    pub outside: Option<Outside>,
    /// The interfaces that the VMs are behind; none where they have TAPs.
    pub interfaces: Vec<InterfacePort>,
    /// How many frames wait in a TAP before the kernel drops more; `None` for the kernel's default (1000).
    pub tx_queue_length: Option<u32>,
    /// A command to run when the TAPs are there and before they are removed, for a switch that is not ours.
    pub hook: Option<String>,
    /// How VMs come by each other's hardware addresses.
    pub neighbours: Neighbours,
    /// From which leaves VMs are talked to, for the tables that are filled beforehand.
    pub callers: Callers,
    /// The kernel drops what a VM's network card would: see [`RxFilter`](crate::vm::RxFilter). Never done to TAPs
    /// that somebody else has prepared, and not behind XDP. [`FilterKind`](super::FilterKind) says how.
    pub filter: bool,
    /// The VMs whose TAPs this process makes, by their numbers; `None` for all.
    pub own_vms: Option<Vec<Range<u32>>>,
    /// Other processes have TAPs in the same lab, and this is its part in making that; `None` if there are none.
    pub sharing: Option<Sharing>,
    /// The switch that they share, if it is one by XDP; `None` for one of this process's own.
    pub switch: Option<SwitchDescriptors>,
}

/// What one of several processes does for the lab that they share. Their launcher has made the namespace if that is a
/// private one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// It makes the bridges, before the others come.
    First,
    /// It finds the bridges there.
    Other,
}

impl Default for LabConfig {
    /// Two VMs in a private namespace, `tap0` and `tap1` on `br0`.
    fn default() -> Self {
        LabConfig {
            vms: DEFAULT_VMS,
            netns: NetnsChoice::Private,
            fabric: FabricKind::Bridge,
            bridge: DEFAULT_BRIDGE.to_owned(),
            ports_per_bridge: DEFAULT_PORTS_PER_BRIDGE,
            tap_prefix: DEFAULT_TAP_PREFIX.to_owned(),
            mtu: DEFAULT_MTU,
            host_address: None,
            host_address6: None,
            vlan_filtering: None,
            prepared: Prepared::Nothing,
            outside: None,
            interfaces: Vec::new(),
            tx_queue_length: None,
            hook: None,
            neighbours: Neighbours::Before,
            callers: Callers::default(),
            filter: true,
            own_vms: None,
            sharing: None,
            switch: None,
        }
    }
}

impl LabConfig {
    /// The name of the TAP of the VM with this index.
    pub fn tap_name(&self, index: u32) -> String {
        format!("{}{index}", self.tap_prefix)
    }

    /// The interface that `vm` is directly behind. `None` of one with a TAP.
    pub fn interface_of(&self, vm: VmId) -> Option<&InterfacePort> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|interface| interface.vms.contains(&vm.0))
    }

    /// The first and the last of the VMs behind the interface called `name`, and those between.
    pub fn behind(&self, name: &str) -> Range<u32> {
        let behind = self.interfaces.iter().filter(|of| of.name == name);
        let first = behind.clone().map(|of| of.vms.start).min();
        let end = behind.map(|of| of.vms.end).max();
        first.unwrap_or(0)..end.unwrap_or(0)
    }

    /// The name of the interface by which the frames of `vm` come and go.
    pub fn port_name(&self, vm: VmId) -> String {
        let interface = self.interface_of(vm);
        interface.map_or_else(|| self.tap_name(vm.0), |of| of.name.clone())
    }

    /// The numbers of the VMs whose TAPs this process makes.
    pub fn own(&self) -> impl Iterator<Item = u32> {
        let all = 0..self.vms;
        let own = self.own_vms.as_deref();
        own.unwrap_or(std::slice::from_ref(&all))
            .to_vec()
            .into_iter()
            .flatten()
    }

    /// How many these are.
    pub fn own_count(&self) -> u32 {
        self.own_vms.as_ref().map_or(self.vms, |own| {
            own.iter()
                .map(|range| range.end.saturating_sub(range.start))
                .sum()
        })
    }

    /// Checks that the program may make a namespace `name` beside that of the lab, to which VMs are moved.
    ///
    /// # Errors
    /// What is wrong with the name, and what is expected.
    pub fn check_beside(&self, name: &str) -> Result<(), String> {
        let is_lab = matches!(&self.netns, NetnsChoice::Named(own) if own == name);
        if matches!(name, "host" | "private") || is_lab {
            return Err(format!(
                "netns:{name} is no namespace beside the lab's; expected a name that is free, of a namespace that the program \
                 makes"
            ));
        }
        validate_namespace_name(name).map_err(|why| format!("netns:{name}: the name {why}"))
    }

    /// The tree of bridges; `None` where the lab has none of its own.
    pub fn topology(&self) -> Option<Result<Topology, TopologyError>> {
        (self.fabric == FabricKind::Bridge && self.prepared == Prepared::Nothing)
            .then(|| Topology::new(self.vms, self.ports_per_bridge))
    }

    /// Checks that the lab can exist, as far as that can be told without asking the kernel.
    ///
    /// # Errors
    /// Which part of it can't, and why.
    pub fn validate(&self) -> Result<(), SystemError> {
        let name_is = |name: &str, why: &str| {
            SystemError::refused(format!("name an interface {name:?}"), why)
        };
        validate_interface_name(&self.bridge).map_err(|why| name_is(&self.bridge, why))?;
        let last = self.tap_name(self.vms.saturating_sub(1));
        validate_interface_name(&last)
            .map_err(|why| name_is(&last, why).advise("choose a shorter --tap-prefix"))?;
        if self
            .tap_index(&self.bridge)
            .is_some_and(|index| index < self.vms)
        {
            let why = "bridge and TAP would have the same name";
            return Err(
                name_is(&self.bridge, why).advise("choose another --bridge or --tap-prefix")
            );
        }
        if let Some(topology) = self.topology() {
            let topology = topology.map_err(|error| {
                SystemError::refused(
                    format!("spread {} VMs over bridges", self.vms),
                    error.to_string(),
                )
                .advise("change --ports-per-bridge or --vms")
            })?;
            if let Some(last) = topology.leaves().checked_sub(1) {
                let (up, down) = uplink_names(&self.bridge, last);
                for name in [leaf_name(&self.bridge, last), up, down] {
                    validate_interface_name(&name)
                        .map_err(|why| name_is(&name, why).advise("choose a shorter --bridge"))?;
                }
            }
        }
        if self.outside.is_some() {
            let name = outside_name(&self.bridge);
            validate_interface_name(&name)
                .map_err(|why| name_is(&name, why).advise("choose a shorter --bridge"))?;
        }
        self.validate_prepared()
    }

    fn validate_prepared(&self) -> Result<(), SystemError> {
        let (verb, is_like) = match self.prepared {
            Prepared::Nothing => return Ok(()),
            Prepared::Bridge => ("join", "joined"),
            Prepared::BridgeAndTaps => ("attach to", "attached to"),
        };
        let bridge = &self.bridge;
        if self.netns == NetnsChoice::Private {
            let operation = format!("{verb} bridge {bridge} in a private namespace");
            let why = "a namespace that does not exist yet has no bridge";
            return Err(SystemError::refused(operation, why).advise(
                "expected --netns host, or --netns NAME for the namespace that has the bridge",
            ));
        }
        if self.fabric != FabricKind::Bridge {
            let operation = format!("{verb} bridge {bridge}");
            let why = format!("the fabric is {}; expected bridge", self.fabric);
            return Err(SystemError::refused(operation, why));
        }
        if self.host_address.is_some() || self.host_address6.is_some() {
            let operation = format!("give bridge {bridge} an address");
            let why = format!("it is {is_like}, and left as it is");
            return Err(SystemError::refused(operation, why));
        }
        Ok(())
    }

    /// The inverse of [`LabConfig::tap_name`].
    pub(super) fn tap_index(&self, name: &str) -> Option<u32> {
        let digits = name.strip_prefix(&self.tap_prefix)?;
        let is_plain = !digits.starts_with(['+', '0']) || digits == "0";
        digits.parse().ok().filter(|_| is_plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_chosen_by_a_word_or_a_name() {
        assert_eq!("private".parse(), Ok(NetnsChoice::Private));
        assert_eq!("host".parse(), Ok(NetnsChoice::Host));
        assert_eq!("lab".parse(), Ok(NetnsChoice::Named("lab".to_owned())));
        assert!("../lab".parse::<NetnsChoice>().is_err());
    }

    #[test]
    fn a_lab_that_cannot_exist_is_refused_with_the_reason() {
        let plan = LabConfig::default;
        assert!(plan().validate().is_ok());
        let cases = [
            (
                LabConfig {
                    bridge: "a/b".into(),
                    ..plan()
                },
                "a/b",
            ),
            (
                LabConfig {
                    tap_prefix: "fifteen-bytes-x".into(),
                    ..plan()
                },
                "15 bytes",
            ),
            (
                LabConfig {
                    bridge: "tap1".into(),
                    ..plan()
                },
                "same name",
            ),
            (
                LabConfig {
                    vms: 1024,
                    ports_per_bridge: 1023,
                    ..plan()
                },
                "1 to 1022",
            ),
            (
                LabConfig {
                    vms: 2000,
                    bridge: "fourteen-bytes".into(),
                    ..plan()
                },
                "shorter --bridge",
            ),
            (
                LabConfig {
                    prepared: Prepared::BridgeAndTaps,
                    ..plan()
                },
                "attach to bridge br0 in a private namespace: a namespace that does not exist yet has no bridge; \
                 expected --netns host",
            ),
            (
                LabConfig {
                    prepared: Prepared::BridgeAndTaps,
                    netns: NetnsChoice::Host,
                    host_address: Some("10.77.0.1/16".parse().unwrap()),
                    ..plan()
                },
                "give bridge br0 an address: it is attached to, and left as it is",
            ),
            (
                LabConfig {
                    prepared: Prepared::Bridge,
                    bridge: "cni0".into(),
                    ..plan()
                },
                "join bridge cni0 in a private namespace",
            ),
            (
                LabConfig {
                    prepared: Prepared::Bridge,
                    netns: NetnsChoice::Host,
                    fabric: FabricKind::Xdp,
                    ..plan()
                },
                "join bridge br0: the fabric is xdp; expected bridge",
            ),
        ];
        for (lab, expected) in cases {
            let error = lab.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        for name in ["tap2", "tap01", "tap", "tap+1"] {
            let lab = LabConfig {
                bridge: name.into(),
                ..plan()
            };
            assert!(lab.validate().is_ok(), "{name}");
        }
    }
}
