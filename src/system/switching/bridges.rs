//! The lab's bridges: one, or leaves around a spine where one has too few ports.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use ipnet::Ipv4Net;

use super::super::arp_proxy::Way;
use super::super::error::SystemError;
use super::super::lab_config::{LabConfig, Neighbours};
use super::super::mark::Mark;
use super::super::netlink::Netlink;
use super::super::netlink::link::Link;
use super::super::netlink::link_requests::{BridgePlan, LinkChange};
use super::super::netlink::requests::Requests;
use super::super::outside::{Home, PortPlan};
use super::super::sysctl;
use super::super::tap::Tap;
use super::{Spot, Switching};
use crate::fabric::Place;
use crate::topology::{BRIDGE_PORTS, Topology, leaf_name, outside_name, uplink_names};
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

/// The group of bridges and veth pairs among a run's groups; the TAPs have the others.
const GROUP: u32 = 0;

/// How long the port that leads out of the lab may take to get its carrier: a network card agrees on a speed with the other side
/// first, and the other lab may still be made.
const TIME_FOR_CARRIER: Duration = Duration::from_secs(25);

/// The bridges of a lab, and how many TAPs each has.
#[derive(Debug)]
pub(in crate::system) struct Bridges {
    topology: Topology,
    spine: u32,
    /// The name of the spine, or of the only bridge.
    host_bridge: String,
    macs: Vec<(MacAddr, String)>,
    /// The bridges that TAPs join: the leaves, or the only one.
    leaves: Vec<Leaf>,
    /// The names of both ends of the veth pairs between leaves and spine.
    uplinks: Vec<String>,
    /// The name of the port of the spine that leads out of the lab.
    outside: Option<String>,
    /// The bridge that has an address of the host.
    host_side: Option<String>,
    /// Where each VM's TAP is, and for one that was moved the leaves that it has left.
    places: HashMap<VmId, Spot>,
    left: HashMap<VmId, Vec<usize>>,
}

#[derive(Debug)]
struct Leaf {
    name: String,
    index: u32,
    taps: u32,
    /// Its own port towards the spine, and the spine's port towards it, by index.
    uplink: Option<(u32, u32)>,
}

/// Makes links that carry the mark of a run.
pub(in crate::system) struct Maker<'a> {
    pub(in crate::system) netlink: &'a mut Netlink,
    pub(in crate::system) lab: &'a LabConfig,
    pub(in crate::system) mark: &'a Mark,
    /// The namespace is somebody else's, so IPv6 is switched off for our links only.
    pub(in crate::system) silence: bool,
    pub(in crate::system) warnings: &'a mut Vec<SystemError>,
}

impl Bridges {
    /// Makes the bridges of `topology`, and joins them.
    pub(in crate::system) fn make(
        maker: &mut Maker<'_>,
        topology: Topology,
    ) -> Result<Bridges, SystemError> {
        let name = maker.lab.bridge.clone();
        let mac = bridge_mac(maker.lab.host_address, maker.mark);
        let has_address = maker.lab.host_address.is_some() || maker.lab.host_address6.is_some();
        let mut bridges = Bridges {
            topology,
            spine: maker.bridge(&name, mac, true)?,
            host_bridge: name.clone(),
            macs: vec![(mac, name.clone())],
            leaves: Vec::new(),
            uplinks: Vec::new(),
            outside: None,
            host_side: has_address.then(|| name.clone()),
            places: HashMap::new(),
            left: HashMap::new(),
        };
        for leaf in 0..topology.leaves() {
            bridges.make_leaf(maker, leaf)?;
        }
        if topology.leaves() == 0 {
            let index = bridges.spine;
            bridges.leaves.push(Leaf {
                name,
                index,
                taps: 0,
                uplink: None,
            });
        }
        Ok(bridges)
    }

    /// Finds the bridges of `topology` that another process of the same lab has made.
    ///
    /// # Errors
    /// When one of them is not there.
    pub(in crate::system) fn find(
        netlink: &mut Netlink,
        lab: &LabConfig,
        topology: Topology,
    ) -> Result<Bridges, SystemError> {
        let links = netlink.links()?;
        let named = links.iter().map(|link| (link.name.as_str(), link));
        let by_name: HashMap<&str, &Link> = named.collect();
        let find = |name: &str| {
            by_name.get(name).copied().ok_or_else(|| {
                let operation = format!("find {name} of the lab");
                SystemError::refused(
                    operation,
                    "rank 0 has not made it, or somebody has removed it",
                )
            })
        };
        let name = lab.bridge.clone();
        let spine = find(&name)?;
        let has_address = lab.host_address.is_some() || lab.host_address6.is_some();
        let mut bridges = Bridges {
            topology,
            spine: spine.index,
            host_bridge: name.clone(),
            macs: vec![(spine.mac, name.clone())],
            leaves: Vec::new(),
            uplinks: Vec::new(),
            outside: None,
            host_side: has_address.then(|| name.clone()),
            places: HashMap::new(),
            left: HashMap::new(),
        };
        for number in 0..topology.leaves() {
            let name = leaf_name(&lab.bridge, number);
            let (up, down) = uplink_names(&lab.bridge, number);
            let leaf = find(&name)?;
            let uplink = (find(&up)?.index, find(&down)?.index);
            bridges.macs.push((leaf.mac, name.clone()));
            bridges.uplinks.extend([up, down]);
            bridges.leaves.push(Leaf {
                index: leaf.index,
                name,
                taps: 0,
                uplink: Some(uplink),
            });
        }
        if topology.leaves() == 0 {
            bridges.leaves.push(Leaf {
                name,
                index: spine.index,
                taps: 0,
                uplink: None,
            });
        }
        Ok(bridges)
    }

    /// Makes the port that leads out of the lab, to what stands at `home`, if the lab has one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(in crate::system) fn lead_outside(
        &mut self,
        maker: &mut Maker<'_>,
        home: &mut Home,
    ) -> Result<(), SystemError> {
        let Some(outside) = &maker.lab.outside else {
            return Ok(());
        };
        let name = outside_name(&maker.lab.bridge);
        let plan = PortPlan {
            name: &name,
            mtu: maker.lab.mtu.into(),
            group: maker.mark.group(GROUP),
            alias: &maker.mark.alias(),
        };
        home.make_port(maker.netlink, &plan, outside)?;
        // A macvlan device hands on whether it hears all multicasts, as a port does, only while it is up: it becomes a port and
        // ceases to be one while it is, or the interface below hears them ever after (`macvlan_change_rx_flags()`).
        maker.silence_link(&name);
        maker.netlink.change_link(&name, &up(None))?;
        maker.trunk(&name, self.spine)?;
        self.outside = Some(name);
        Ok(())
    }

    fn make_leaf(&mut self, maker: &mut Maker<'_>, leaf: u32) -> Result<(), SystemError> {
        let name = leaf_name(&maker.lab.bridge, leaf);
        let mac = leaf_mac(leaf, maker.mark);
        let index = maker.bridge(&name, mac, false)?;
        let uplink = maker.uplink(leaf, (index, self.spine))?;
        self.macs.push((mac, name.clone()));
        let (up, down) = uplink_names(&maker.lab.bridge, leaf);
        self.uplinks.extend([up, down]);
        self.leaves.push(Leaf {
            name,
            index,
            taps: 0,
            uplink: Some(uplink),
        });
        Ok(())
    }

    /// Chooses the bridge that the TAP of `vm` is to join: the one of the plan; for a VM beyond the plan, or in the
    /// place of one that was removed, the first with a free port. Returns its place here.
    fn choose(&self, vm: VmId) -> usize {
        let has_room = |leaf: &Leaf| leaf.taps < self.topology.ports_per_bridge();
        if vm.0 < self.topology.vms() {
            return self.topology.leaf_of(vm) as usize;
        }
        // Where all are full the kernel may still find a port on the last one, or says that there is none.
        let last = self.leaves.len().saturating_sub(1);
        self.leaves.iter().position(has_room).unwrap_or(last)
    }

    /// The port that leads to a TAP with that index at `spot`, from the bridge there, from the spine, and from the leaves
    /// `callers`.
    fn ways_to(&self, spot: Spot, tap: u32, callers: impl Iterator<Item = u32>) -> Vec<Way> {
        let spine = |port| Way {
            bridge: self.spine,
            port,
        };
        let (mut ways, own) = match spot {
            Spot::Leaf(place) => {
                let Some(own) = self.leaves.get(place) else {
                    return Vec::new();
                };
                let mut ways = vec![Way {
                    bridge: own.index,
                    port: tap,
                }];
                ways.extend(own.uplink.map(|(_, port)| spine(port)));
                (ways, Some(place))
            }
            Spot::Spine => (vec![spine(tap)], None),
            Spot::Beside(port) => (vec![spine(port)], None),
            Spot::Elsewhere => return Vec::new(),
        };
        let others = callers.filter(|caller| Some(*caller as usize) != own);
        ways.extend(others.filter_map(|caller| {
            let leaf = self.leaves.get(caller as usize)?;
            Some(Way {
                bridge: leaf.index,
                port: leaf.uplink?.0,
            })
        }));
        ways
    }

    /// Changes the number of TAPs that the bridge at `spot` has.
    fn count(&mut self, spot: Spot, change: impl FnOnce(&mut u32)) {
        if let Spot::Leaf(place) = spot
            && let Some(leaf) = self.leaves.get_mut(place)
        {
            change(&mut leaf.taps);
        }
    }
}

impl Switching for Bridges {
    fn add<'a>(
        &'a mut self,
        (vm, tap, _): (VmId, &Tap, u32),
        _: &RxFilter,
        change: &mut LinkChange<'a>,
    ) -> Result<Option<String>, SystemError> {
        let place = self.choose(vm);
        let Some(leaf) = self.leaves.get_mut(place) else {
            return Ok(None);
        };
        leaf.taps += 1;
        self.places.insert(vm, Spot::Leaf(place));
        change.master = Some(leaf.index);
        Ok(Some(format!("add {} to bridge {}", tap.name(), leaf.name)))
    }

    fn introduce(
        &self,
        requests: &mut Requests,
        lab: &LabConfig,
        (vm, tap, index): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) {
        let Some(spot) = self.places.get(&vm) else {
            return;
        };
        if !lab.neighbours.are_filled_in() {
            return;
        }
        let left = self.left.get(&vm).into_iter().flatten();
        let left = left.map(|place| *place as u32);
        let callers = lab.callers.leaves_of(vm).chain(left);
        // A VM that was moved may be where it is called from, or have left there.
        let callers: BTreeSet<u32> = callers.collect();
        let ways = self.ways_to(*spot, index, callers.into_iter());
        if lab.neighbours == Neighbours::Static {
            return requests.teach_bridges(tap.name(), rx_filter.mac, &ways);
        }
        if !matches!(spot, Spot::Beside(_)) {
            requests.proxy_arp(tap.name(), index);
        }
        requests.introduce(tap.name(), rx_filter, &ways);
    }

    fn find(&self, place: &Place) -> Option<Spot> {
        match place {
            Place::Leaf(number) => {
                let number = *number as usize;
                let leaf = self.leaves.get(number)?;
                leaf.uplink.map(|_| Spot::Leaf(number))
            }
            Place::Bridge(name) => {
                let is_leaf = |leaf: &Leaf| leaf.name == *name;
                if let Some(place) = self.leaves.iter().position(is_leaf) {
                    return Some(Spot::Leaf(place));
                }
                let is_spine = self.host_bridge == *name;
                is_spine.then_some(Spot::Spine)
            }
            Place::Port | Place::Namespace(_) | Place::Back => None,
        }
    }

    fn spot_of(&self, vm: VmId) -> Option<Spot> {
        self.places.get(&vm).copied()
    }

    fn bridge_at(&self, spot: Spot) -> Option<(u32, &str)> {
        match spot {
            Spot::Leaf(place) => {
                let leaf = self.leaves.get(place)?;
                Some((leaf.index, &leaf.name))
            }
            Spot::Spine => Some((self.spine, &self.host_bridge)),
            Spot::Beside(_) | Spot::Elsewhere => None,
        }
    }

    fn moved(&mut self, vm: VmId, spot: Spot) {
        self.count(spot, |taps| *taps += 1);
        let Some(before) = self.places.insert(vm, spot) else {
            return;
        };
        self.count(before, |taps| *taps = taps.saturating_sub(1));
        if let Spot::Leaf(place) = before {
            let left = self.left.entry(vm).or_default();
            if !left.contains(&place) {
                left.push(place);
            }
        }
    }

    fn remove(&mut self, vm: VmId) {
        if let Some(spot) = self.places.remove(&vm) {
            self.count(spot, |taps| *taps = taps.saturating_sub(1));
        }
        self.left.remove(&vm);
    }

    fn owner_of(&self, mac: MacAddr) -> Option<&str> {
        let owner = self.macs.iter().find(|(own, _)| *own == mac);
        owner.map(|(_, name)| name.as_str())
    }

    fn links(&self, lab: &LabConfig) -> HashSet<String> {
        bridge_links(lab).collect()
    }

    fn bridge_index(&self) -> Option<u32> {
        Some(self.spine)
    }

    fn topology(&self) -> Option<Topology> {
        Some(self.topology)
    }

    /// A TAP has its carrier before it becomes a port, and forwards at once. The ends of a veth pair get theirs from each
    /// other, and the bridge that the host sees from its first port.
    fn slow_ports<'a>(&'a self, taps: HashSet<&'a str>) -> HashSet<&'a str> {
        let host_side = self.host_side.iter().filter(|_| !taps.is_empty());
        let slow = self.uplinks.iter().chain(&self.outside).chain(host_side);
        slow.map(String::as_str).collect()
    }

    fn time_for_carrier(&self) -> Duration {
        match self.outside {
            Some(_) => TIME_FOR_CARRIER,
            None => Duration::ZERO,
        }
    }
}

/// The name of every link that [`Bridges::make`] makes for `lab`.
pub(in crate::system) fn bridge_links(lab: &LabConfig) -> impl Iterator<Item = String> {
    let topology = lab.topology().and_then(Result::ok);
    let leaves = topology.map_or(0, |topology| topology.leaves());
    let leaves = (0..leaves).flat_map(|leaf| {
        let (up, down) = uplink_names(&lab.bridge, leaf);
        [leaf_name(&lab.bridge, leaf), up, down]
    });
    let outside = lab.outside.as_ref().map(|_| outside_name(&lab.bridge));
    leaves
        .chain(topology.map(|_| lab.bridge.clone()))
        .chain(outside)
}

impl Maker<'_> {
    /// Makes a bridge and brings it up, with the host's addresses if it is the one that the host sees. Returns its index.
    pub(in crate::system) fn bridge(
        &mut self,
        name: &str,
        mac: MacAddr,
        is_host_side: bool,
    ) -> Result<u32, SystemError> {
        let index = self.netlink.create_bridge(&BridgePlan {
            name,
            mac,
            mtu: self.lab.mtu.into(),
            group: self.mark.group(GROUP),
            alias: &self.mark.alias(),
            vlan_filtering: self.lab.vlan_filtering.as_ref(),
        })?;
        if is_host_side {
            self.host_side(name, index)?;
        } else {
            self.silence_link(name);
        }
        self.netlink.change_link(name, &up(None))?;
        Ok(index)
    }

    /// Gives the bridge that the host sees its addresses, and puts its side of it in the VLANs of the VMs.
    fn host_side(&mut self, name: &str, index: u32) -> Result<(), SystemError> {
        if let Some(filtering) = &self.lab.vlan_filtering {
            let mut requests = Requests::default();
            requests.set_bridge_vlans(name, index, filtering);
            self.netlink.carry_out(requests)?;
        }
        if let Some(address) = self.lab.host_address6 {
            sysctl::enable_ipv6(name)?;
            self.netlink.add_address(name, index, address.into())?;
        } else {
            self.silence_link(name);
        }
        if let Some(address) = self.lab.host_address {
            self.netlink.add_address(name, index, address.into())?;
        }
        Ok(())
    }

    /// Joins a leaf to the spine; `bridges` are the indices of both.
    fn uplink(&mut self, leaf: u32, bridges: (u32, u32)) -> Result<(u32, u32), SystemError> {
        let (up, down) = uplink_names(&self.lab.bridge, leaf);
        self.veth((&up, &down))?;
        Ok((self.port(&up, bridges.0)?, self.port(&down, bridges.1)?))
    }

    /// Makes a veth pair, still down.
    pub(in crate::system) fn veth(&mut self, names: (&str, &str)) -> Result<(), SystemError> {
        let (group, alias) = (self.mark.group(GROUP), self.mark.alias());
        self.netlink
            .create_veth(names, self.lab.mtu.into(), group, &alias)
    }

    /// Makes one end of a veth pair a port of `bridge`, which answers for the VMs where the lab wants that. Returns its index.
    pub(in crate::system) fn port(&mut self, name: &str, bridge: u32) -> Result<u32, SystemError> {
        let index = self.trunk(name, bridge)?;
        if self.lab.neighbours == Neighbours::Proxy {
            let mut requests = Requests::default();
            requests.proxy_arp(name, index);
            self.netlink.carry_out(requests)?;
        }
        Ok(index)
    }

    /// Makes one end of a veth pair a port of `bridge` that has all VLANs of the lab, and returns its index.
    pub(in crate::system) fn trunk(&mut self, name: &str, bridge: u32) -> Result<u32, SystemError> {
        self.silence_link(name);
        self.netlink.change_link(name, &up(Some(bridge)))?;
        let index = self.netlink.index(name)?;
        if let Some(filtering) = &self.lab.vlan_filtering {
            let mut requests = Requests::default();
            requests.set_trunk_vlans(name, index, filtering);
            self.netlink.carry_out(requests)?;
        }
        Ok(index)
    }

    fn silence_link(&mut self, name: &str) {
        if self.silence {
            silence_link(name, self.warnings);
        }
    }
}

/// In a namespace of somebody else, IPv6 is switched off for our links only, and before they come up.
pub(in crate::system) fn silence_link(name: &str, warnings: &mut Vec<SystemError>) {
    let refusal = sysctl::disable_ipv6(name).err();
    // What is refused for one link is refused for all: once is enough to know.
    if warnings.is_empty() {
        warnings.extend(refusal);
    }
}

fn up(master: Option<u32>) -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        master,
        ..LinkChange::default()
    }
}

/// A bridge's address is given, because a bridge without one takes the lowest of its ports' and changes it as they come
/// and go. With an IPv4 address it is made from that, as those of the VMs are; without, from the process number.
fn bridge_mac(host_address: Option<Ipv4Net>, mark: &Mark) -> MacAddr {
    let (prefix, [a, b, c, d]) = match host_address {
        Some(address) => ([0x02, 0x00], address.addr().octets()),
        None => ([0x06, 0x00], mark.pid().to_be_bytes()),
    };
    let [first, second] = prefix;
    MacAddr([first, second, a, b, c, d])
}

/// As [`bridge_mac`], with the number of the leaf and what of the process number has room beside it.
fn leaf_mac(leaf: u32, mark: &Mark) -> MacAddr {
    const { assert!(BRIDGE_PORTS <= u16::MAX as u32) };
    let [high, low] = (leaf as u16).to_be_bytes();
    let [_, a, b, c] = mark.pid().to_be_bytes();
    MacAddr([0x0a, high, low, a, b, c])
}
