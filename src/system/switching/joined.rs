//! A bridge that exists and belongs to somebody else: the run's TAPs become ports of it, and leave it at the end
//! (`--join`). Nothing is written to the bridge itself.
//!
//! Two attributes of a bridge follow its ports unless somebody has set them, and the kernel does not tell whether somebody
//! has: its hardware address is the lowest of its ports' (`br_stp_recalculate_bridge_id()`), its MTU the smallest
//! (`br_mtu_auto_adjust()`). So each TAP gets the bridge's own address and MTU, and neither changes while they come and go.
//! A bridge without other ports loses both with the last TAP all the same: [`restore`] gives them back.

use std::collections::HashSet;
use std::time::Duration;

use ipnet::IpNet;

use super::super::error::SystemError;
use super::super::lab_config::{LabConfig, NetnsChoice};
use super::super::namespace::netlink_in;
use super::super::netlink::Netlink;
use super::super::netlink::bridge::{BridgeSettings, VlanFilter};
use super::super::netlink::link::{Link, LinkKind};
use super::super::netlink::link_requests::LinkChange;
use super::super::tap::Tap;
use super::Switching;
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

/// Ports that a bridge can have (`BR_MAX_PORTS` of `net/bridge/br_private.h`, of which number 0 is none).
const MOST_PORTS: usize = 1023;
/// The largest MTU of a TAP (`drivers/net/tun.c`).
const LARGEST_TAP_MTU: u32 = 65_521;

/// A bridge that exists, as it was when it was looked up.
#[derive(Clone, Debug)]
pub struct ExistingBridge {
    link: Link,
    ports: usize,
    addresses: Vec<IpNet>,
    settings: BridgeSettings,
}

impl ExistingBridge {
    /// Looks up the bridge `name` in the namespace `netns`, and changes nothing.
    ///
    /// # Errors
    /// When the namespace or the bridge does not exist, when the link is not a bridge or is down.
    pub fn find(netns: &NetnsChoice, name: &str) -> Result<ExistingBridge, SystemError> {
        ExistingBridge::find_by(&mut netlink_in(netns)?, name)
    }

    /// The same, in the namespace of `netlink`.
    pub(in crate::system) fn find_by(
        netlink: &mut Netlink,
        name: &str,
    ) -> Result<ExistingBridge, SystemError> {
        let refused = |why: String| SystemError::refused(format!("join bridge {name}"), why);
        let links = netlink.links()?;
        let Some(link) = links.iter().find(|link| link.name == name) else {
            let why = format!("there is no such link in that namespace; {}", list(&links));
            return Err(refused(why));
        };
        let Some(settings) = netlink.bridge_settings(name)? else {
            let why = format!("it is {}; expected a Linux bridge", link.kind);
            let advice = "a switch of another kind takes TAPs by --fabric none --hook CMD";
            return Err(refused(why).advise(advice));
        };
        if !link.up {
            return Err(refused("it is down".to_owned()).advise(format!("ip link set {name} up")));
        }
        Ok(ExistingBridge {
            ports: links
                .iter()
                .filter(|port| port.master == Some(link.index))
                .count(),
            addresses: netlink.addresses(link.index)?,
            link: link.clone(),
            settings,
        })
    }

    /// Checks that the TAPs of `lab` can become ports of it.
    ///
    /// # Errors
    /// The first thing that speaks against it, and what is expected.
    pub fn check(&self, lab: &LabConfig) -> Result<(), SystemError> {
        let Link { name, mtu, .. } = &self.link;
        let refused = |why: String| SystemError::refused(format!("join bridge {name}"), why);
        let free = MOST_PORTS.saturating_sub(self.ports);
        if free < lab.own_count() as usize {
            let why = format!(
                "it has {} of {MOST_PORTS} ports, and {} VMs need one each",
                self.ports,
                lab.own_count()
            );
            return Err(refused(why).advise(format!("--vms {free} or less")));
        }
        if *mtu > LARGEST_TAP_MTU {
            let why = format!("its MTU is {mtu}; expected {LARGEST_TAP_MTU} or less, as of a TAP");
            return Err(refused(why));
        }
        if *mtu < u32::from(lab.mtu) {
            let why = format!("its MTU is {mtu}, which is less than the VMs' {}", lab.mtu);
            return Err(refused(why).advise(format!("--mtu {mtu} or less")));
        }
        let default_pvid = self.vlan_filter().map(|filter| filter.default_pvid);
        let vlan_of = |vm| lab.vlan_filtering.as_ref().and_then(|vlans| vlans.of(vm));
        let untagged = (0..lab.vms).map(VmId).find(|&vm| vlan_of(vm).is_none());
        if let (Some(0), Some(vm)) = (default_pvid, untagged) {
            let why = format!(
                "it filters VLANs and has none for untagged frames (vlan_default_pvid 0), as those of {vm} are to it"
            );
            return Err(refused(why).advise("expected --vlan with a VLAN of the bridge"));
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// Its MTU in bytes, which a TAP that joins it gets too.
    pub fn mtu(&self) -> u32 {
        self.link.mtu
    }

    /// The hardware address for a TAP that joins it: the bridge's own. `None` where it has none, and gets the TAP's.
    fn mac_of_taps(&self) -> Option<MacAddr> {
        Some(self.link.mac).filter(|mac| mac.is_unicast())
    }

    /// Its addresses, each with the length of its network's prefix.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// Its VLAN filter, if that is on.
    pub fn vlan_filter(&self) -> Option<VlanFilter> {
        self.settings.vlan_filter
    }
}

impl Switching for ExistingBridge {
    fn add<'a>(
        &'a mut self,
        (_, tap, _): (VmId, &Tap, u32),
        _: &RxFilter,
        change: &mut LinkChange<'a>,
    ) -> Result<Option<String>, SystemError> {
        change.master = Some(self.link.index);
        change.mac = self.mac_of_taps();
        change.mtu = Some(self.mtu());
        Ok(Some(format!(
            "add {} to bridge {}",
            tap.name(),
            self.name()
        )))
    }

    fn restore(&self, netlink: &mut Netlink) -> Result<(), SystemError> {
        restore(netlink, &self.link)
    }

    fn owner_of(&self, mac: MacAddr) -> Option<&str> {
        Some(self.name()).filter(|_| self.mac_of_taps() == Some(mac))
    }

    fn links(&self, _: &LabConfig) -> HashSet<String> {
        [self.name().to_owned()].into()
    }

    fn bridge_index(&self) -> Option<u32> {
        Some(self.link.index)
    }

    fn has_own_vlans(&self) -> bool {
        true
    }

    /// The bridge may have no other port that it could have its carrier from.
    fn slow_ports<'a>(&'a self, taps: HashSet<&'a str>) -> HashSet<&'a str> {
        let bridge = (!taps.is_empty()).then_some(self.name());
        taps.into_iter().chain(bridge).collect()
    }

    fn time_to_forward(&self) -> Duration {
        self.settings.time_to_forward()
    }
}

#[cfg(test)]
impl ExistingBridge {
    /// A bridge that does not exist.
    pub fn example(
        name: &str,
        mtu: u32,
        ports: usize,
        addresses: &[&str],
        default_pvid: Option<u16>,
    ) -> ExistingBridge {
        let vlan_filter = default_pvid.map(|default_pvid| VlanFilter {
            is_provider: false,
            default_pvid,
        });
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        ExistingBridge {
            link: Link {
                mtu,
                ..Link::example(name, LinkKind::Bridge)
            },
            ports,
            addresses: addresses.collect(),
            settings: BridgeSettings {
                has_stp: false,
                forward_delay: Duration::from_secs(15),
                vlan_filter,
            },
        }
    }
}

/// Gives a bridge, which was like `before`, its hardware address and MTU back if it has lost them with its last port. One
/// that has ports, or is gone, is left alone.
///
/// # Errors
/// When the kernel refuses.
pub(in crate::system) fn restore(netlink: &mut Netlink, before: &Link) -> Result<(), SystemError> {
    let links = netlink.links()?;
    let has_ports = links.iter().any(|link| link.master == Some(before.index));
    let Some(now) = links.iter().find(|link| link.index == before.index) else {
        return Ok(());
    };
    let change = LinkChange {
        mac: Some(before.mac).filter(|mac| mac.is_unicast() && *mac != now.mac),
        mtu: Some(before.mtu).filter(|mtu| *mtu != now.mtu),
        ..LinkChange::default()
    };
    if has_ports || change.mac.is_none() && change.mtu.is_none() {
        return Ok(());
    }
    netlink.change_link(&now.name, &change)
}

/// The bridges among `links`, in words.
fn list(links: &[Link]) -> String {
    let bridges = links.iter().filter(|link| link.kind == LinkKind::Bridge);
    let names: Vec<&str> = bridges.map(|link| link.name.as_str()).collect();
    match names.as_slice() {
        [] => "there is no bridge at all".to_owned(),
        names => format!("expected one of {}", names.join(", ")),
    }
}
