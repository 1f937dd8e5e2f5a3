//! Makes what a lab consists of: what carries frames, and a TAP for each VM.

use mio::Interest;

use super::super::error::SystemError;
use super::super::lab_config::{FabricKind, Prepared, Sharing};
use super::super::netlink::link_requests::LinkChange;
use super::super::netlink::port::LinkKey;
use super::super::netlink::requests::Requests;
use super::super::outside::Home;
use super::super::switching::attached::attach_tap;
use super::super::switching::bridges::{Bridges, Maker, silence_link};
use super::super::switching::joined::ExistingBridge;
use super::super::switching::xdp::XdpSwitch;
use super::super::tap::Tap;
use super::super::traffic_control::no_discipline;
use super::port::Port;
use super::{AtEnd, TapFabric};
use crate::fabric::Fabric;
use crate::vm::{RxFilter, VmId};

/// VMs that are plugged in together: a process that is killed leaves so many TAPs, at most, to be removed one by one, which
/// takes the kernel 17 ms each.
pub(super) const VMS_AT_ONCE: usize = 32;
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
    /// Makes what carries frames from TAP to TAP, and the port that leads out of the lab, to `home`.
    pub(super) fn make_switching(&mut self, home: Option<Home>) -> Result<(), SystemError> {
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
            self.switching = Box::new(XdpSwitch::load(self.lab.vms, self.lab.switch)?);
        }
        if self.lab.prepared == Prepared::Bridge {
            let bridge = ExistingBridge::find_by(&mut self.netlink, &self.lab.bridge)?;
            bridge.check(&self.lab)?;
            self.switching = Box::new(bridge);
        }
        let Some(Ok(topology)) = self.lab.topology() else {
            return Ok(());
        };
        let mut bridges = match is_other {
            true => Bridges::find(&mut self.netlink, &self.lab, topology)?,
            false => Bridges::make(&mut self.maker(), topology)?,
        };
        let led = home.map(|mut home| bridges.lead_outside(&mut self.maker(), &mut home));
        self.switching = Box::new(bridges);
        led.unwrap_or(Ok(()))
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

    /// Plugs VMs in together, or none of them.
    pub(super) fn plug_together(&mut self, vms: &[(VmId, &RxFilter)]) -> Result<(), SystemError> {
        for (vm, rx_filter) in vms {
            self.check_port(*vm, rx_filter)?;
        }
        let mut ports = Vec::with_capacity(vms.len());
        if let Err(error) = self.make_ports(vms, &mut ports) {
            for (vm, _) in vms {
                self.filter.remove(*vm);
                self.switching.remove(*vm);
            }
            if self.lab.prepared != Prepared::BridgeAndTaps {
                // Where that fails, closing their descriptors removes them, one after the other.
                let _ = self.remove_taps(ports);
            }
            return Err(error);
        }
        if let Some(watch) = &mut self.drop_watch {
            watch.add_stations(ports.iter().map(|port| (port.mac, port.index)));
        }
        for ((vm, _), port) in vms.iter().zip(ports) {
            if self.taps.len() <= vm.index() {
                self.taps.resize_with(vm.index() + 1, || None);
            }
            self.taps[vm.index()] = Some(port);
        }
        let mut all = vms.iter();
        let expected = all.try_for_each(|(vm, _)| self.expect_link(*vm, &self.lab.tap_name(vm.0)));
        expected.inspect_err(|_| {
            let vms = vms.iter().map(|(vm, _)| *vm);
            // The first error is the one to tell.
            let _ = self.unplug(&vms.collect::<Vec<_>>());
        })
    }

    fn check_port(&self, vm: VmId, rx_filter: &RxFilter) -> Result<(), SystemError> {
        let refused = |why| Err(SystemError::refused(self.plugging(vm), why));
        if matches!(self.taps.get(vm.index()), Some(Some(_))) {
            return refused("it is plugged in already".to_owned());
        }
        if let Some(bridge) = self.switching.owner_of(rx_filter.mac) {
            let why = format!("{} is the address of bridge {bridge} itself", rx_filter.mac);
            return refused(why);
        }
        Ok(())
    }

    /// The operation, for errors.
    fn plugging(&self, vm: VmId) -> String {
        format!("plug {vm} into {}", self.lab.tap_name(vm.0))
    }

    /// Makes the TAPs of `vms`, or attaches to them, and appends their ports to `ports`, as far as it comes.
    fn make_ports(
        &mut self,
        vms: &[(VmId, &RxFilter)],
        ports: &mut Vec<Port>,
    ) -> Result<(), SystemError> {
        let is_prepared = self.lab.prepared == Prepared::BridgeAndTaps;
        let mut requests = Requests::default();
        for (vm, rx_filter) in vms {
            let name = self.lab.tap_name(vm.0);
            if is_prepared {
                let bridge = self.switching.bridge_index();
                let (tap, dropped) = attach_tap(&mut self.netlink, &self.lab, bridge, &name)?;
                let index = self.netlink.index(&name)?;
                ports.push(Port::new(tap, index, rx_filter.mac, dropped));
                continue;
            }
            let tap = Tap::create(&name)?;
            let index = self.netlink.index(&name)?;
            let configured = self.configure(&mut requests, (*vm, &tap, index), rx_filter);
            ports.push(Port::new(tap, index, rx_filter.mac, 0));
            configured?;
        }
        self.filter.write()?;
        self.netlink.carry_out(requests)?;
        for ((vm, _), port) in vms.iter().zip(ports) {
            self.polled
                .taps
                .register(&port.tap, vm.index(), Interest::READABLE)
                .map_err(|error| SystemError::io(self.plugging(*vm), &error))?;
            if !is_prepared {
                // Last, so that until here closing the descriptor removes the TAP, whatever went wrong.
                port.tap.set_persistent(true)?;
            }
        }
        Ok(())
    }

    /// Adds the requests that make a port of a new TAP. What the kernel may not know shows at the first TAP of the lab.
    fn configure(
        &mut self,
        requests: &mut Requests,
        (vm, tap, index): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        let name = tap.name();
        self.filter
            .add(&mut self.netlink, requests, (vm, tap, index), rx_filter)?;
        // A TAP queues by itself, and what a discipline would hold beside is a quarter of its memory. Not every kernel has
        // them, and a run does without.
        match self.has_disciplines {
            Some(true) => {
                let operation = format!("take the queueing discipline from {name}");
                requests.add(no_discipline(index), operation);
            }
            Some(false) => {}
            None => self.has_disciplines = Some(self.netlink.remove_discipline(index).is_ok()),
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
        let port = (vm, tap, index);
        let operation = self.switching.add(port, rx_filter, &mut change)?;
        requests.add(
            change.request(LinkKey::Index(index)),
            operation.unwrap_or_else(|| format!("configure link {name}")),
        );
        if let Some(filtering) = &self.lab.vlan_filtering {
            let vlan = filtering.of(vm);
            // A bridge of somebody else has a VLAN of its own choice for untagged frames.
            if vlan.is_some() || !self.switching.has_own_vlans() {
                requests.set_port_vlan(name, index, vlan);
            }
        }
        self.switching
            .introduce(requests, &self.lab, port, rx_filter);
        Ok(())
    }
}
