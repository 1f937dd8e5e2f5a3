//! Makes what a lab consists of: what carries frames, and a TAP for each VM.

use super::super::error::SystemError;
use super::super::lab_config::{FabricKind, Prepared, Sharing};
use super::super::netlink::link_requests::{LinkChange, index_of};
use super::super::switching::bridges::{Bridges, Maker, silence_link};
use super::super::switching::joined::ExistingBridge;
use super::super::switching::xdp::XdpSwitch;
use super::super::tap::Tap;
use super::{AtEnd, TapFabric};
use crate::vm::{RxFilter, VmId};

/// TAPs that are removed in one go: half a second in which nobody else on the host can change a link.
const TAPS_OF_A_GROUP: u32 = 1000;
/// The first of the run's groups has the bridges, the last what is just being removed; the others have TAPs.
const TAP_GROUPS: std::ops::Range<u32> = 1..255;
pub(super) const LEAVING_GROUP: u32 = TAP_GROUPS.end;

/// The group of the TAP of `vm` among the groups of the run.
fn tap_group(vm: VmId) -> u32 {
    TAP_GROUPS.start + vm.0 / TAPS_OF_A_GROUP % (TAP_GROUPS.end - TAP_GROUPS.start)
}

impl TapFabric {
    /// Makes what carries frames from TAP to TAP.
    pub(super) fn make_switching(&mut self) -> Result<(), SystemError> {
        if !self.namespace.ends_with_us() {
            self.at_end = AtEnd::RemoveMarked;
        }
        let is_other = self.lab.sharing == Some(Sharing::Other);
        if self.namespace.is_ours() && !is_other {
            // Whoever pings the bridge's address from inside the namespace goes through the loopback interface.
            let up = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            self.netlink.change_link("lo", &up)?;
        }
        if self.lab.fabric == FabricKind::Xdp {
            self.switching = Box::new(XdpSwitch::load(self.lab.vms)?);
        }
        if self.lab.prepared == Prepared::Bridge {
            let bridge = ExistingBridge::find_by(&mut self.netlink, &self.lab.bridge)?;
            bridge.check(&self.lab)?;
            self.switching = Box::new(bridge);
        }
        let Some(Ok(topology)) = self.lab.topology() else {
            return Ok(());
        };
        self.switching = Box::new(match is_other {
            true => Bridges::find(&mut self.netlink, &self.lab, topology)?,
            false => Bridges::make(&mut self.maker(), topology)?,
        });
        Ok(())
    }

    /// Makes links in the namespace of the lab.
    pub(super) fn maker(&mut self) -> Maker<'_> {
        Maker {
            netlink: &mut self.netlink,
            lab: &self.lab,
            mark: &self.mark,
            silence: !self.namespace.is_ours(),
            warnings: &mut self.warnings,
        }
    }

    pub(super) fn make_tap(
        &mut self,
        vm: VmId,
        name: &str,
        rx_filter: &RxFilter,
    ) -> Result<Tap, SystemError> {
        let tap = Tap::create(name)?;
        let index = index_of(name)?;
        self.filter
            .add(&mut self.netlink, (vm, &tap, index), rx_filter)?;
        if self.has_disciplines {
            // A TAP queues by itself, and what a discipline would hold beside is a quarter of its memory. Not every kernel
            // has them, and a run does without.
            self.has_disciplines = self.netlink.remove_discipline(index).is_ok();
        }
        if !self.namespace.is_ours() {
            silence_link(name, &mut self.warnings);
        }
        let mut change = LinkChange {
            up: Some(true),
            mtu: Some(self.lab.mtu.into()),
            group: Some(self.mark.group(tap_group(vm))),
            alias: Some(&self.alias),
            tx_queue_length: self.lab.tx_queue_length,
            ..LinkChange::default()
        };
        let operation = self.switching.add(vm, &tap, rx_filter, &mut change)?;
        self.netlink
            .try_change_link(name, &change)
            .map_err(|refusal| {
                refusal.of(operation.unwrap_or_else(|| format!("configure link {name}")))
            })?;
        if let Some(filtering) = &self.lab.vlan_filtering {
            let vlan = filtering.of(vm);
            // A bridge of somebody else has a VLAN of its own choice for untagged frames.
            if vlan.is_some() || !self.switching.has_own_vlans() {
                self.netlink.set_port_vlan(name, index, vlan)?;
            }
        }
        let port = (vm, &tap, index);
        self.switching
            .introduce(&mut self.netlink, &self.lab, port, rx_filter)?;
        Ok(tap)
    }
}
