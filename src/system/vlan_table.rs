//! The VLAN tables of a bridge and its ports (`bridge-vlan` of `bridge(8)`, IEEE 802.1Q clause 8).
//!
//! A bridge that filters lets a frame in at a port only if the port is in the frame's VLAN, and out at those that are in
//! it too. A port is in no VLAN before it is put there: the bridge is made without a default one.

use std::collections::BTreeSet;

use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, LinkAttribute,
    LinkHeader, LinkMessage, VlanProtocol,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::requests::Requests;
use crate::vm::VmId;
use crate::wire::VlanId;

/// The VLAN that untagged frames are in, inside the bridge: the kernel's default.
const UNTAGGED: u16 = 1;

/// Which port of a filtering bridge is in which VLAN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VlanFiltering {
    /// The bridge looks at 802.1ad tags, which are the outer ones of two, in place of 802.1Q tags.
    pub provider: bool,
    /// The VLAN of each VM's port, tagged; `None` for untagged.
    pub ports: Vec<Option<VlanId>>,
}

impl VlanFiltering {
    /// The attributes that make a new bridge filter.
    pub(super) fn attributes(&self) -> [InfoBridge; 3] {
        let protocol = if self.provider {
            VlanProtocol::Ieee8021Ad
        } else {
            VlanProtocol::Ieee8021Q
        };
        [
            InfoBridge::VlanProtocol(protocol),
            InfoBridge::VlanDefaultPvid(0),
            InfoBridge::VlanFiltering(true),
        ]
    }

    /// Every VLAN that a port is in, once.
    fn all(&self) -> BTreeSet<Option<VlanId>> {
        self.ports.iter().copied().collect()
    }

    /// The VLAN of the port of `vm`.
    pub(super) fn of(&self, vm: VmId) -> Option<VlanId> {
        self.ports.get(vm.index()).copied().flatten()
    }

    /// The number by which the bridge knows that VLAN.
    pub(super) fn number_of(&self, vm: VmId) -> u16 {
        self.of(vm).map_or(UNTAGGED, VlanId::get)
    }
}

impl Requests {
    /// Puts the port with that index in `vlan`, or has its untagged frames in the VLAN for those. `name` is for the
    /// error.
    pub(super) fn set_port_vlan(&mut self, name: &str, index: u32, vlan: Option<VlanId>) {
        self.set_vlan(name, index, vlan, None);
    }

    /// Puts the host's side of a bridge in every VLAN that a port of it is in, so that a VLAN interface on the bridge
    /// reaches the VMs.
    pub(super) fn set_bridge_vlans(&mut self, name: &str, index: u32, filtering: &VlanFiltering) {
        for vlan in filtering.all() {
            self.set_vlan(name, index, vlan, Some(BridgeFlag::LowerDev));
        }
    }

    /// Puts a port that leads to another bridge of the lab in every VLAN that a port of the lab is in.
    pub(super) fn set_trunk_vlans(&mut self, name: &str, index: u32, filtering: &VlanFiltering) {
        for vlan in filtering.all() {
            self.set_vlan(name, index, vlan, None);
        }
    }

    fn set_vlan(&mut self, name: &str, index: u32, vlan: Option<VlanId>, side: Option<BridgeFlag>) {
        let vid = vlan.map_or(UNTAGGED, VlanId::get);
        let message = vlan_message(index, vlan, side);
        self.add(
            (RouteNetlinkMessage::SetLink(message), 0),
            format!("put {name} in VLAN {vid}"),
        );
    }
}

/// The request to put the link with that index in `vlan`; `side` is given where it is the bridge itself.
fn vlan_message(index: u32, vlan: Option<VlanId>, side: Option<BridgeFlag>) -> LinkMessage {
    let (vid, flags) = match vlan {
        Some(vlan) => (vlan.get(), BridgeVlanInfoFlags::empty()),
        None => (
            UNTAGGED,
            BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
        ),
    };
    let info = AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
    let side = side.map(AfSpecBridge::Flags);
    let mut message = LinkMessage::default();
    message.header = LinkHeader {
        interface_family: AddressFamily::Bridge,
        index,
        ..LinkHeader::default()
    };
    message.attributes = vec![LinkAttribute::AfSpecBridge(
        side.into_iter().chain([info]).collect(),
    )];
    message
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    fn bytes(message: &impl Emitable) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn requests_are_those_that_iproute2_sends() {
        // As `bridge vlan add dev v0 vid 100`, `… vid 1 pvid untagged` and `bridge vlan add dev b1 vid 100 self`.
        let vlan = VlanId::new(100);
        let cases: [(_, _, &[u8]); 3] = [
            (vlan, None, &[12, 0, 26, 0, 8, 0, 2, 0, 0, 0, 100, 0]),
            (None, None, &[12, 0, 26, 0, 8, 0, 2, 0, 6, 0, 1, 0]),
            (
                vlan,
                Some(BridgeFlag::LowerDev),
                &[
                    20, 0, 26, 0, 6, 0, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 0, 0, 100, 0,
                ],
            ),
        ];
        let header = [7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (vlan, side, attributes) in cases {
            let message = bytes(&vlan_message(3, vlan, side));
            assert_eq!(message, [&header, attributes].concat());
        }
        // As `ip link add b1 type bridge vlan_protocol 802.1ad vlan_default_pvid 0 vlan_filtering 1`.
        let filtering = VlanFiltering {
            provider: true,
            ports: Vec::new(),
        };
        let attributes: Vec<u8> = filtering.attributes().iter().flat_map(bytes).collect();
        let expected = [
            [6, 0, 8, 0, 0x88, 0xa8, 0, 0],
            [6, 0, 39, 0, 0, 0, 0, 0],
            [5, 0, 7, 0, 1, 0, 0, 0],
        ];
        assert_eq!(attributes, expected.concat());
    }
}
