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
    Between, BridgeState, DropPlace, FrameDrops, KernelName, PathState, PortCounters, PortState,
    StpState,
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
            Some(port) => {
                let meant = to.as_ref().and_then(|port| port.link.master);
                self.follow(source, (port.link.master, meant), destination)?
            }
            None => (None, None),
        };
        let bridge_of = |port: &Option<Port>| port.as_ref().and_then(|port| port.link.master);
        let between = match (bridge_of(&from), bridge_of(&to)) {
            (Some(one), Some(other)) if one != other => self.between(one, other)?,
            _ => Between::default(),
        };
        Ok(PathState {
            between,
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
    /// which it leaves the last bridge; `None` where that which it is `meant` for does not know. One that comes to another bridge, which
    /// does not know, has left the right way where it came from. The other is the port of a bridge by which it would
    /// leave as it came: the first bridge, if it does not know, floods it to the spine, too.
    fn follow(
        &mut self,
        source: VmId,
        (mut bridge, meant): (Option<u32>, Option<u32>),
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
                let is_astray = !is_flooded && meant.is_some() && bridge != meant;
                return Ok((place.filter(|_| is_astray), None));
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

    /// The ports that connect two leaves with the spine, in the order in which frames pass them.
    fn between(&mut self, from: u32, to: u32) -> Result<Between, SystemError> {
        let mut ports = Vec::new();
        let leaves = [from, to].map(|leaf| self.uplink_of(leaf));
        for (leaf, place) in leaves.into_iter().zip(0..) {
            let Some(uplink) = leaf? else {
                continue;
            };
            let peer = uplink.peer.map(LinkKey::Index);
            let on_spine = peer.map(|peer| self.netlink.port(peer)).transpose()?;
            let on_spine = on_spine.flatten();
            match place {
                0 => ports.extend([Some(uplink), on_spine]),
                _ => ports.extend([on_spine, Some(uplink)]),
            }
        }
        let ports: Vec<Port> = ports.into_iter().flatten().collect();
        let mut bridges = ports.iter().filter_map(|port| port.link.master);
        let spine = bridges.find(|bridge| ![from, to].contains(bridge));
        let spine = spine
            .map(|spine| self.netlink.port(LinkKey::Index(spine)))
            .transpose()?;
        let name = |port: &Port| KernelName::new(&port.link.name);
        let is_isolated = |port: &Port| port.settings.is_some_and(|of| of.is_isolated);
        let stopped = |port: &Port| {
            let state = port.settings.map(|of| of.state);
            Some((
                name(port),
                state.filter(|state| *state != StpState::Forwarding)?,
            ))
        };
        let down = ports.iter().find(|port| !port.link.up).map(name);
        let isolated = ports.iter().zip(ports.iter().skip(1)).find(|(one, next)| {
            one.link.master == next.link.master && is_isolated(one) && is_isolated(next)
        });
        let narrowest = ports.iter().min_by_key(|port| port.link.mtu);
        Ok(Between {
            bridge: spine
                .flatten()
                .filter(|spine| !spine.link.up)
                .as_ref()
                .map(name),
            down,
            stopped: ports.iter().find_map(stopped),
            isolated: isolated.map(|(_, port)| name(port)),
            narrowest: narrowest.map(|port| (name(port), port.link.mtu)),
        })
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
