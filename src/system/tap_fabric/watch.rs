//! What a run asks the kernel about frames that do not arrive: which it dropped, what its ports have counted, and what
//! stands between two of them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use mio::Interest;

use super::super::drop_watch::DropWatch;
use super::super::error::SystemError;
use super::super::lab_config::FabricKind;
use super::super::namespace_file::CURRENT_NAMESPACE;
use super::super::netlink::port::{LinkKey, Port};
use super::TapFabric;
use super::moves::MAX_NAMESPACES;
use crate::fabric::{
    BridgeState, DropPlace, FrameDrops, KernelName, PathState, PortCounters, PortState,
};
use crate::topology::uplink_of;
use crate::vm::VmId;
use crate::wire::MacAddr;

/// Bridges in a row that a frame passes, at most: leaf, spine and leaf, and some of somebody else's.
const MOST_BRIDGES: usize = 8;

/// The kernel's number of the network namespace that this process is in.
pub(super) fn own_namespace() -> Result<u64, SystemError> {
    let namespace = fs::metadata(CURRENT_NAMESPACE);
    let namespace =
        namespace.map_err(|error| SystemError::io("look up the network namespace", &error))?;
    Ok(namespace.ino())
}

/// The number of the namespace beside the lab's that a link is in, if it is in one, and its index there.
type InNamespace = (Option<usize>, u32);

impl TapFabric {
    /// Listens for dropped frames. The poll reports them.
    pub(super) fn listen_for_drops(&mut self) -> Result<(), SystemError> {
        let mut watch = DropWatch::open((own_namespace()?, MAX_NAMESPACES as u32), self.lab.vms)?;
        let ports = self.taps.iter().flatten();
        watch.add_stations(ports.map(|port| (port.mac, port.index)));
        for inode in self.moves.inodes() {
            watch.add_namespace(inode?)?;
        }
        self.polled
            .drops
            .register(&watch, 0, Interest::READABLE)
            .map_err(|error| SystemError::io("have the poll tell of dropped frames", &error))?;
        self.drop_watch = Some(watch);
        Ok(())
    }

    pub(super) fn take_drops(&mut self) -> FrameDrops {
        let lab = &self.lab;
        let watch = self.drop_watch.as_mut();
        watch.map_or_else(FrameDrops::default, |watch| {
            watch.take(|name| match lab.tap_index(name) {
                Some(index) => DropPlace::Port(VmId(index)),
                None => DropPlace::Link(KernelName::new(name)),
            })
        })
    }

    pub(super) fn read_counters(&mut self) -> Result<Vec<(VmId, PortCounters)>, SystemError> {
        let vms = self.vms_by_index();
        let mut found = Vec::with_capacity(vms.len());
        let mut keep = |namespace: Option<usize>, counters: Vec<(u32, PortCounters)>| {
            found.extend(counters.into_iter().filter_map(|(index, counters)| {
                let of = |(own, _): &(InNamespace, VmId)| *own;
                let place = vms.binary_search_by_key(&(namespace, index), of).ok()?;
                Some((vms.get(place)?.1, counters))
            }));
        };
        keep(None, self.netlink.counters()?);
        for (number, netlink) in self.moves.netlinks().enumerate() {
            keep(Some(number), netlink.counters()?);
        }
        found.sort_by_key(|(vm, _)| *vm);
        Ok(found)
    }

    /// The VMs that are plugged in, by the namespace and the index of their port, in that order.
    fn vms_by_index(&self) -> Vec<(InNamespace, VmId)> {
        let ports = self.taps.iter().enumerate();
        let mut vms: Vec<(InNamespace, VmId)> = ports
            .filter_map(|(vm, port)| {
                let (port, vm) = (port.as_ref()?, VmId(vm as u32));
                Some(((self.moves.namespace_of(vm), port.index), vm))
            })
            .collect();
        vms.sort_unstable();
        vms
    }

    pub(super) fn look_at_path(
        &mut self,
        source: VmId,
        destination: MacAddr,
        owner: Option<VmId>,
    ) -> Result<PathState, SystemError> {
        let from = self.port_of(source)?;
        let to = owner.map(|vm| self.port_of(vm)).transpose()?.flatten();
        let (forwarding, returned_at) = match &from {
            Some(port) => self.follow(source, port.link.master, destination)?,
            None => (None, None),
        };
        Ok(PathState {
            is_bridged: self.lab.fabric != FabricKind::Xdp,
            source: from.map(|port| self.describe(&port)).transpose()?,
            destination: to.map(|port| self.describe(&port)).transpose()?,
            forwarding,
            returned_at,
        })
    }

    fn port_of(&mut self, vm: VmId) -> Result<Option<Port>, SystemError> {
        match self.taps.get(vm.index()) {
            Some(Some(port)) => self.netlink.port(LinkKey::Name(port.tap.name())),
            _ => Ok(None),
        }
    }

    fn describe(&mut self, port: &Port) -> Result<PortState, SystemError> {
        let bridge = match (port.settings, port.link.master) {
            (Some(settings), Some(index)) => {
                let bridge = self.netlink.port(LinkKey::Index(index))?;
                bridge.map(|bridge| BridgeState {
                    name: KernelName::new(&bridge.link.name),
                    is_up: bridge.link.up,
                    state: settings.state,
                    is_isolated: settings.is_isolated,
                    is_locked: settings.is_locked,
                    learns: settings.learns,
                    floods_unknown: settings.floods_unknown,
                    floods_multicast: settings.floods_multicast,
                    floods_broadcast: settings.floods_broadcast,
                    is_hairpin: settings.is_hairpin,
                })
            }
            _ => None,
        };
        Ok(PortState {
            is_up: port.link.up,
            has_carrier: port.link.carrier,
            mtu: port.link.mtu,
            bridge,
        })
    }

    /// Follows a frame of `source` for `mac` from the bridge with that index through the forwarding tables, to the port by
    /// which it leaves the last bridge; `None` where one does not know. The other is the port of a bridge by which it would
    /// leave as it came: the first bridge, if it does not know, floods it to the spine, too.
    fn follow(
        &mut self,
        source: VmId,
        mut bridge: Option<u32>,
        mac: MacAddr,
    ) -> Result<(Option<DropPlace>, Option<KernelName>), SystemError> {
        let vlan = self.lab.vlan_filtering.as_ref();
        let vlan = vlan.map(|filtering| filtering.number_of(source));
        let (mut place, mut came_by) = (None, None);
        let mut is_flooded = false;
        for _ in 0..MOST_BRIDGES {
            let Some(index) = bridge else {
                break;
            };
            let known = self.netlink.port_to(index, mac, vlan)?;
            let port = match known {
                Some(port) => self.netlink.port(LinkKey::Index(port))?,
                None if came_by.is_none() => {
                    is_flooded = true;
                    self.uplink_of(index)?
                }
                None => None,
            };
            let Some(port) = port else {
                return Ok((None, None));
            };
            let name = KernelName::new(&port.link.name);
            if known.is_some() && known == came_by {
                return Ok((None, Some(name)));
            }
            if is_flooded && came_by.is_some() {
                return Ok((None, None));
            }
            if let Some(vm) = self.lab.tap_index(&port.link.name) {
                return Ok((Some(DropPlace::Port(VmId(vm))), None));
            }
            place = Some(DropPlace::Link(name));
            let other_end = match port.peer {
                Some(peer) => self.netlink.port(LinkKey::Index(peer))?,
                None => None,
            };
            came_by = port.peer;
            bridge = other_end.and_then(|port| port.link.master);
        }
        Ok((place.filter(|_| !is_flooded), None))
    }

    /// The port that connects the leaf with that index to the spine. `None` of a bridge that is none.
    fn uplink_of(&mut self, bridge: u32) -> Result<Option<Port>, SystemError> {
        // Of other labs no bridge is a leaf.
        let Some(Ok(_)) = self.lab.topology() else {
            return Ok(None);
        };
        let Some(bridge) = self.netlink.port(LinkKey::Index(bridge))? else {
            return Ok(None);
        };
        let uplink = uplink_of(&bridge.link.name);
        self.netlink.port(LinkKey::Name(&uplink))
    }
}
