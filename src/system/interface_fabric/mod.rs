//! VMs directly behind network interfaces that exist, without TAPs and without a bridge (`packet(7)`).
//!
//! What an interface receives goes to the VMs behind it by its destination; what they send leaves by the interface. So two VMs
//! behind one interface reach each other only if the switch that it is connected to sends their frames back (as VEPA, IEEE
//! 802.1Qbg), unless the port is to bridge them. The interface stays where it is and as it is: a host that has addresses on it
//! goes on using them, and hears the broadcasts for the VMs but nothing else that is for them. The kernel ends all of it with the
//! sockets, whatever ends the process.

mod inside;
mod port;
mod ring;
mod socket;
mod stations;

use std::collections::HashMap;

use mio::Interest;
use nix::sys::signal::Signal;

use self::port::Port;
use super::error::SystemError;
use super::kernel_fabric::KernelFabric;
use super::lab_config::{LabConfig, NetnsChoice};
use super::limits::{ensure_limit, open_descriptors};
use super::link_monitor::LinkMonitor;
use super::mark::Mark;
use super::namespace::Namespace;
use super::netlink::Netlink;
use super::netlink::port::LinkKey;
use super::outside::ExistingLink;
use super::poll_handle::FabricHandles;
use super::route_monitor::RouteMonitor;
use super::signals::StopSignals;
use crate::fabric::{
    Between, Environment, Fabric, FrameDrops, LinkEvent, PathState, PortState, Read, RouteEvent,
    Write, WriteDrop,
};
use crate::time::{Clock, Instant, MonotonicClock, Now};
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

/// Frames that wait at an interface where nothing else is said.
const QUEUE: u32 = 4096;
/// Descriptors of a port.
pub(crate) const DESCRIPTORS_OF_AN_INTERFACE: u64 = 2;
/// Those of a run beside: netlink, monitors, files.
const OTHER_DESCRIPTORS: u64 = 16;

/// The interfaces of a lab, and the VMs behind them.
#[derive(Debug)]
pub struct InterfaceFabric {
    lab: LabConfig,
    polled: FabricHandles,
    ports: Vec<Port>,
    /// The place in `ports` of the port of each VM that is plugged in.
    port_of: Vec<Option<usize>>,
    /// The port that is looked at first the next time.
    next: usize,
    netlink: Netlink,
    monitor: Option<LinkMonitor>,
    routes: Option<RouteMonitor>,
    warnings: Vec<SystemError>,
    /// That of the interfaces, if it has a name.
    _namespace: Option<Namespace>,
}

impl InterfaceFabric {
    /// Begins to receive at the interfaces of `lab` that have VMs of this process behind them.
    ///
    /// # Errors
    /// When an interface is missing or unfit, or the system refuses.
    pub fn new(polled: FabricHandles, lab: LabConfig) -> Result<InterfaceFabric, SystemError> {
        let of_ports = lab.interfaces.len() as u64 * DESCRIPTORS_OF_AN_INTERFACE;
        ensure_limit(open_descriptors() + of_ports + OTHER_DESCRIPTORS)?;
        let namespace = match &lab.netns {
            NetnsChoice::Named(_) => Some(Namespace::enter(&lab.netns, &Mark::new(), true, None)?),
            NetnsChoice::Host | NetnsChoice::Private => None,
        };
        let mut fabric = InterfaceFabric {
            polled,
            ports: Vec::new(),
            port_of: Vec::new(),
            next: 0,
            netlink: Netlink::open()?,
            monitor: None,
            routes: None,
            warnings: Vec::new(),
            _namespace: namespace,
            lab,
        };
        let mut places: HashMap<String, usize> = HashMap::new();
        for vm in fabric.lab.own().collect::<Vec<_>>() {
            let Some(interface) = fabric.lab.interface_of(VmId(vm)).cloned() else {
                continue;
            };
            let place = match places.get(&interface.name) {
                Some(place) => *place,
                None => fabric.open(&interface.name, interface.bridges)?,
            };
            places.insert(interface.name, place);
        }
        Ok(fabric)
    }

    /// Opens a port, and returns its place.
    fn open(&mut self, name: &str, bridges: bool) -> Result<usize, SystemError> {
        // Once more: it may have changed since the plan was made.
        let link = ExistingLink::find_in(&NetnsChoice::Host, name)?;
        link.check_port(&self.lab)?;
        let frames = self.lab.tx_queue_length.unwrap_or(QUEUE) as usize;
        let port = Port::open(
            link.link(),
            (frames, self.lab.mtu.into()),
            (bridges, self.lab.filter),
        )
        .map_err(|error| error.asked_for_by(&format!("--interface {name}")))?;
        self.polled
            .ports
            .register(&port.receiver, 0, Interest::READABLE)
            .map_err(|error| {
                SystemError::io(format!("have the poll tell of frames at {name}"), &error)
            })?;
        self.ports.push(port);
        Ok(self.ports.len() - 1)
    }

    #[inline]
    fn port(&mut self, vm: VmId) -> Option<&mut Port> {
        let place = (*self.port_of.get(vm.index())?)?;
        self.ports.get_mut(place)
    }

    /// The state of the interface that `vm` is behind.
    fn port_state(&mut self, vm: VmId) -> Result<Option<PortState>, SystemError> {
        let Some(name) = self.port(vm).map(|port| port.name.clone()) else {
            return Ok(None);
        };
        let port = self.netlink.port(LinkKey::Name(&name))?;
        Ok(port.map(|port| PortState {
            is_up: port.link.up,
            has_carrier: port.link.carrier,
            mtu: port.link.mtu,
            bridge: None,
        }))
    }

    fn listen(&mut self) -> Result<LinkMonitor, SystemError> {
        let mut monitor = LinkMonitor::open()?;
        for link in self.netlink.links()? {
            if self.ports.iter().any(|port| port.name == link.name) {
                monitor.expect_carrier(&link);
            }
        }
        self.polled
            .links
            .register(&monitor, 0, Interest::READABLE)
            .map_err(|error| SystemError::io("have the poll tell of changes of links", &error))?;
        Ok(monitor)
    }
}

impl KernelFabric for InterfaceFabric {
    const DESCRIPTORS_OF_A_VM: u64 = 0;

    fn create(polled: FabricHandles, lab: LabConfig) -> Result<InterfaceFabric, SystemError> {
        InterfaceFabric::new(polled, lab)
    }

    /// What is behind the interface decides on that.
    fn wait_until_forwarding(&mut self, _: &StopSignals) -> Result<Option<Signal>, SystemError> {
        Ok(None)
    }
}

impl Fabric for InterfaceFabric {
    type Error = SystemError;

    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), SystemError> {
        let refused = |why: String| Err(SystemError::refused(format!("plug {vm} in"), why));
        let name = self.lab.interface_of(vm).map(|interface| &interface.name);
        let place = name.and_then(|name| self.ports.iter().position(|port| port.name == *name));
        let Some((place, port)) = place.and_then(|place| Some((place, self.ports.get_mut(place)?)))
        else {
            return refused("no --interface is for it".to_owned());
        };
        if let Some(other) = port.stations.of(rx_filter.mac) {
            return refused(format!(
                "{other} behind {} has its address {}",
                port.name, rx_filter.mac
            ));
        }
        if port.mac == rx_filter.mac {
            return refused(format!(
                "{} is the address of {} itself",
                rx_filter.mac, port.name
            ));
        }
        port.stations.add(vm, rx_filter);
        if self.port_of.len() <= vm.index() {
            self.port_of.resize(vm.index() + 1, None);
        }
        if let Some(of_vm) = self.port_of.get_mut(vm.index()) {
            *of_vm = Some(place);
        }
        Ok(())
    }

    fn set_rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), SystemError> {
        if let Some(port) = self.port(vm) {
            port.stations.add(vm, rx_filter);
        }
        Ok(())
    }

    fn shared_with(&self) -> Option<String> {
        Some("the interfaces of its lab lead to others".to_owned())
    }

    fn unplug(&mut self, vms: &[VmId]) -> Result<(), SystemError> {
        for vm in vms {
            if let Some(port) = self.port(*vm) {
                port.stations.remove(*vm);
            }
            if let Some(of_vm) = self.port_of.get_mut(vm.index()) {
                *of_vm = None;
            }
        }
        Ok(())
    }

    /// A refusal of the kernel is a [warning](Fabric::warnings).
    fn watch_links(&mut self) -> bool {
        match self.listen() {
            Ok(monitor) => self.monitor = Some(monitor),
            Err(error) => self.warnings.push(error),
        }
        true
    }

    fn link_events(&mut self) -> Vec<LinkEvent> {
        let Some(monitor) = &mut self.monitor else {
            return Vec::new();
        };
        let mut events = monitor.drain();
        // Where the kernel does not list them, the next change tells.
        if monitor.is_overrun()
            && let Ok(links) = self.netlink.links()
        {
            events.extend(monitor.compare(&links));
        }
        events
    }

    /// A refusal of the kernel is a [warning](Fabric::warnings).
    fn watch_routes(&mut self) {
        match RouteMonitor::listen(&self.polled.links) {
            Ok(monitor) => self.routes = Some(monitor),
            Err(error) => self.warnings.push(error),
        }
    }

    fn route_events(&mut self) -> Vec<RouteEvent> {
        let routes = self.routes.as_mut();
        routes.map_or_else(Vec::new, RouteMonitor::drain)
    }

    fn time_after(&self, _: Instant) -> Instant {
        MonotonicClock.now()
    }

    /// The kernel tells of the frames of a whole namespace, of which those of the lab are a part that nobody can tell apart.
    fn watch_drops(&mut self) -> Result<bool, SystemError> {
        let why = "the frames of the VMs are among those of others there";
        Err(SystemError::refused(
            "watch what the kernel drops behind interfaces",
            why,
        ))
    }

    fn frame_drops(&mut self) -> FrameDrops {
        FrameDrops::default()
    }

    fn has_filter(&self) -> bool {
        self.lab.filter
    }

    fn path_state(
        &mut self,
        source: VmId,
        _: MacAddr,
        owner: Option<VmId>,
    ) -> Result<Option<PathState>, SystemError> {
        Ok(Some(PathState {
            is_bridged: false,
            source: self.port_state(source)?,
            destination: match owner {
                Some(owner) => self.port_state(owner)?,
                None => None,
            },
            forwarding: None,
            returned_at: None,
            between: Between::default(),
        }))
    }

    #[inline]
    fn read(&mut self, _: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        match self.port(vm) {
            Some(port) => port.read(vm, buffer),
            None => Read::Failed,
        }
    }

    #[inline]
    fn write(&mut self, _: impl Now, vm: VmId, frame: &[u8]) -> Write {
        match self.port(vm) {
            Some(port) => port.write(frame),
            None => Write::Dropped(WriteDrop::LinkDown),
        }
    }

    /// At once as long as a ring holds a frame: the poll tells only of those that come.
    #[inline]
    fn next_at(&self) -> Option<Instant> {
        let mut ports = self.ports.iter();
        ports.any(Port::has_frames).then_some(Instant::ZERO)
    }

    /// Of one port after the other.
    fn next_receiver(&mut self, _: Instant) -> Option<VmId> {
        for _ in 0..self.ports.len() {
            let place = self.next;
            self.next = (place + 1) % self.ports.len();
            let receiver = self.ports.get_mut(place).and_then(Port::next_receiver);
            if receiver.is_some() {
                return receiver;
            }
        }
        None
    }

    fn drops(&mut self) -> Result<u64, SystemError> {
        let mut ports = self.ports.iter_mut();
        ports.try_fold(0, |sum, port| Ok(sum + port.drops()?))
    }

    fn environment(&self) -> Environment {
        Environment {
            kind: self.lab.fabric.to_string(),
            topology: None,
            is_simulated: false,
        }
    }

    fn warnings(&self) -> &[SystemError] {
        &self.warnings
    }
}
