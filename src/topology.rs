//! The bridge topology: assigns each VM's port to a bridge, and tells which flows cross between bridges. Pure.
//!
//! A Linux bridge has at most 1023 ports. More VMs than `ports_per_bridge` are spread over leaf bridges, each connected to
//! one spine bridge by a veth pair. All VMs stay on one Ethernet segment; a path between two leaves is two hops longer.

use std::fmt;

use crate::vm::VmId;

/// The maximum number of ports of a Linux bridge; adding another fails with `EXFULL` (`net/bridge/br_if.c`,
/// `find_portno()`).
pub const BRIDGE_PORTS: u32 = 1023;

/// The default number of VMs on one bridge.
pub const DEFAULT_PORTS_PER_BRIDGE: u32 = 1000;

/// The assignment of VMs to bridges. Plain data: equal arguments give equal topologies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    vms: u32,
    ports_per_bridge: u32,
}

/// A topology that can't be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopologyError {
    /// Zero ports per bridge, or more than a bridge has.
    #[error("{found} ports for a bridge; expected 1 to {most}{why}")]
    Ports {
        /// The requested ports per bridge.
        found: u32,
        /// The maximum number.
        most: u32,
        /// The reason if the maximum is less than [`BRIDGE_PORTS`]; empty otherwise.
        why: &'static str,
    },
    /// More leaves than the spine has ports.
    #[error(
        "{vms} VMs on bridges of {ports_per_bridge} ports; expected at most {most}: the spine has 1023 ports"
    )]
    TooManyLeaves {
        /// The requested number of VMs.
        vms: u32,
        /// The requested ports per bridge.
        ports_per_bridge: u32,
        /// The maximum number of VMs with this many ports per bridge.
        most: u64,
    },
}

impl Topology {
    /// Creates the topology of `vms` VMs with at most `ports_per_bridge` of them on one bridge.
    ///
    /// # Errors
    /// If Linux bridges can't form it.
    pub fn new(vms: u32, ports_per_bridge: u32) -> Result<Topology, TopologyError> {
        let topology = Topology {
            vms,
            ports_per_bridge,
        };
        let (most, why) = if vms > ports_per_bridge {
            (BRIDGE_PORTS - 1, ", and one port leads to the spine")
        } else {
            (BRIDGE_PORTS, "")
        };
        if !(1..=most).contains(&ports_per_bridge) {
            return Err(TopologyError::Ports {
                found: ports_per_bridge,
                most,
                why,
            });
        }
        if topology.leaves() > BRIDGE_PORTS {
            return Err(TopologyError::TooManyLeaves {
                vms,
                ports_per_bridge,
                most: u64::from(ports_per_bridge) * u64::from(BRIDGE_PORTS),
            });
        }
        Ok(topology)
    }

    /// Returns the number of VMs.
    pub const fn vms(&self) -> u32 {
        self.vms
    }

    /// Returns the maximum number of VMs on one bridge.
    pub const fn ports_per_bridge(&self) -> u32 {
        self.ports_per_bridge
    }

    /// Returns the number of leaf bridges; 0 if all VMs fit on one bridge.
    pub const fn leaves(&self) -> u32 {
        if self.vms <= self.ports_per_bridge {
            0
        } else {
            self.vms.div_ceil(self.ports_per_bridge)
        }
    }

    /// Returns the leaf that a VM is on. The first VMs are on leaf 0; without leaves it is always 0.
    pub const fn leaf_of(&self, vm: VmId) -> u32 {
        if self.leaves() == 0 {
            0
        } else {
            vm.0 / self.ports_per_bridge
        }
    }

    /// Returns true if frames between two VMs cross the spine.
    pub const fn is_across(&self, a: VmId, b: VmId) -> bool {
        self.leaf_of(a) != self.leaf_of(b)
    }

    /// Iterates over the leaves: the leaf's index, its first and its last VM.
    pub fn iter(&self) -> impl Iterator<Item = (u32, VmId, VmId)> {
        let Topology {
            vms,
            ports_per_bridge,
        } = *self;
        (0..self.leaves()).map(move |leaf| {
            let first = leaf * ports_per_bridge;
            let last = first.saturating_add(ports_per_bridge).min(vms) - 1;
            (leaf, VmId(first), VmId(last))
        })
    }

    /// Formats the topology, one line for each bridge; `bridge` is the name of the spine, or of the only bridge.
    pub fn describe<'a>(&self, bridge: &'a str) -> impl fmt::Display + 'a {
        Description {
            topology: *self,
            bridge,
        }
    }
}

/// The leaves from which each VM receives traffic, its own leaf excluded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Callers(Vec<(VmId, u32)>);

impl Callers {
    /// Collects the callers from pairs of source and destination.
    pub fn new(topology: &Topology, pairs: impl IntoIterator<Item = (VmId, VmId)>) -> Callers {
        let mut callers: Vec<(VmId, u32)> = pairs
            .into_iter()
            .filter(|(source, target)| topology.is_across(*source, *target))
            .map(|(source, target)| (target, topology.leaf_of(source)))
            .collect();
        callers.sort_unstable();
        callers.dedup();
        Callers(callers)
    }

    /// Returns the leaves, other than its own, from which `vm` receives traffic.
    pub fn leaves_of(&self, vm: VmId) -> impl Iterator<Item = u32> {
        let first = self.0.partition_point(|(target, _)| *target < vm);
        let known = self.0.get(first..).unwrap_or_default();
        let known = known.iter().take_while(move |(target, _)| *target == vm);
        known.map(|(_, leaf)| *leaf)
    }
}

/// Returns the name of a leaf bridge below the spine `bridge`.
pub fn leaf_name(bridge: &str, leaf: u32) -> String {
    format!("{bridge}-{leaf}")
}

/// Returns the name of the port that connects the leaf bridge of that name to the spine.
pub fn uplink_of(leaf: &str) -> String {
    format!("{leaf}u")
}

/// Returns the name of the port of the bridge, or of the spine, that leads out of the lab.
pub fn outside_name(bridge: &str) -> String {
    format!("{bridge}-out")
}

/// Returns the names of the veth pair between a leaf and the spine: the leaf's port, and the spine's.
pub fn uplink_names(bridge: &str, leaf: u32) -> (String, String) {
    let leaf = leaf_name(bridge, leaf);
    (uplink_of(&leaf), format!("{leaf}d"))
}

struct Description<'a> {
    topology: Topology,
    bridge: &'a str,
}

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description { topology, bridge } = self;
        let range = |f: &mut fmt::Formatter<'_>, first: VmId, last: VmId| {
            if first == last {
                write!(f, "{first}")
            } else {
                write!(f, "{first} to {last}")
            }
        };
        match (topology.leaves(), topology.vms.checked_sub(1)) {
            (0, None) => write!(f, "bridge {bridge}: no VMs"),
            (0, Some(last)) => {
                write!(f, "bridge {bridge}: ")?;
                range(f, VmId(0), VmId(last))
            }
            (leaves, _) => {
                write!(f, "spine {bridge}: {leaves} leaves")?;
                for (leaf, first, last) in topology.iter() {
                    let (up, down) = uplink_names(bridge, leaf);
                    let name = leaf_name(bridge, leaf);
                    write!(f, "\n  leaf {name} (by {up} to {down}): ")?;
                    range(f, first, last)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bridge_does_until_its_ports_are_used_up_and_then_leaves_do() {
        let table = [
            (1, 3, 0),
            (3, 3, 0),
            (4, 3, 2),
            (6, 3, 2),
            (7, 3, 3),
            (1023, 1023, 0),
            (1000, 1000, 0),
            (1001, 1000, 2),
            (10_000, 1000, 10),
        ];
        for (vms, ports, leaves) in table {
            let topology = Topology::new(vms, ports).expect("this tree can be built");
            assert_eq!(topology.leaves(), leaves, "{vms} VMs, {ports} ports");
        }
    }

    #[test]
    fn every_vm_is_on_one_leaf_and_no_leaf_has_more_than_its_ports() {
        for (vms, ports) in [(7, 3), (9, 3), (1001, 1000), (5, 1)] {
            let topology = Topology::new(vms, ports).expect("this tree can be built");
            let mut next = 0;
            for (leaf, first, last) in topology.iter() {
                assert_eq!(first.0, next);
                assert!(last.0 - first.0 < ports && last.0 < vms);
                assert!((first.0..=last.0).all(|vm| topology.leaf_of(VmId(vm)) == leaf));
                next = last.0 + 1;
            }
            assert_eq!(next, vms);
        }
    }

    #[test]
    fn what_bridges_cannot_form_is_refused() {
        let table = [
            (2, 0, "1 to 1022"),
            (5, 1024, "1 to 1023"),
            (1024, 1023, "1 to 1022"),
            (3000, 2, "2046"),
        ];
        for (vms, ports, expected) in table {
            let error = Topology::new(vms, ports).expect_err("can't be built");
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(Topology::new(1023, 1023).is_ok());
    }

    #[test]
    fn only_flows_between_leaves_cross_the_spine() {
        let topology = Topology::new(8, 3).expect("this tree can be built");
        for (a, b, across) in [(0, 2, false), (2, 3, true), (6, 7, false), (0, 7, true)] {
            assert_eq!(topology.is_across(VmId(a), VmId(b)), across, "{a} and {b}");
        }
    }

    #[test]
    fn callers_are_the_leaves_of_those_who_talk_to_a_vm_from_elsewhere() {
        let topology = Topology::new(8, 3).expect("this tree can be built");
        let pairs = [(0, 7), (1, 7), (3, 7), (6, 7), (7, 0)].map(|(a, b)| (VmId(a), VmId(b)));
        let callers = Callers::new(&topology, pairs);
        for (vm, expected) in [(7, vec![0, 1]), (0, vec![2]), (3, vec![])] {
            let leaves: Vec<u32> = callers.leaves_of(VmId(vm)).collect();
            assert_eq!(leaves, expected, "vm{vm}");
        }
    }

    #[test]
    fn the_tree_reads_from_the_spine_to_the_vms() {
        let tree = |vms, ports| {
            let topology = Topology::new(vms, ports).expect("this tree can be built");
            topology.describe("br0").to_string()
        };
        assert_eq!(tree(1, 3), "bridge br0: vm0");
        assert_eq!(tree(3, 3), "bridge br0: vm0 to vm2");
        assert_eq!(
            tree(4, 3),
            "spine br0: 2 leaves\n  leaf br0-0 (by br0-0u to br0-0d): vm0 to vm2\n  \
             leaf br0-1 (by br0-1u to br0-1d): vm3"
        );
    }
}
