//! The reactor's use of the TAPs: it plugs VMs in and out, and carries their frames.

use std::io;
use std::time::Duration;

use mio::Interest;
use nix::errno::Errno;

use super::super::clean::mark_of;
use super::super::error::SystemError;
use super::super::filter::FilterKind;
use super::super::lab_config::{Prepared, Sharing};
use super::super::namespace_watch::NameWatch;
use super::super::netlink::link_requests::LinkChange;
use super::super::netlink::port::LinkKey;
use super::super::netlink::requests::Requests;
use super::super::path_stamps::PathStamper;
use super::super::route_monitor::RouteMonitor;
use super::port::Port;
use super::setup::{LEAVING_GROUP, VMS_AT_ONCE};
use super::watch::own_namespace;
use super::{AtEnd, TapFabric};
use crate::fabric::{
    EndedRelocation, Environment, Fabric, FdbEvent, FrameDrops, LinkEvent, PathKey, PathStamps,
    PathState, Place, PortCounters, Read, Relocated, RelocationError, RouteEvent, Write, WriteDrop,
};
use crate::time::{Clock, Instant, MonotonicClock, Now};
use crate::topology::outside_name;
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

impl Fabric for TapFabric {
    type Error = SystemError;

    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), SystemError> {
        self.plug_together(&[(vm, rx_filter)])
    }

    /// Some dozens by the same few requests, which takes a fraction of a millisecond for each of them.
    fn plug_all(&mut self, vms: &[(VmId, &RxFilter)]) -> Result<(), SystemError> {
        let mut plugged: Vec<VmId> = Vec::with_capacity(vms.len());
        for some in vms.chunks(VMS_AT_ONCE) {
            if let Err(error) = self.plug_together(some) {
                // The first error is the one to tell.
                let _ = self.unplug(&plugged);
                return Err(error);
            }
            plugged.extend(some.iter().map(|(vm, _)| *vm));
        }
        Ok(())
    }

    fn set_rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), SystemError> {
        let Some(Some(port)) = self.taps.get(vm.index()) else {
            return Ok(());
        };
        let on_switch = (vm, &port.tap, port.index);
        self.switching.set_rx_filter(on_switch, rx_filter)?;
        let index = (!self.moves.is_beside(vm)).then_some(port.index);
        let port = (vm, &port.tap, index);
        unless_gone(
            self.filter
                .set_rx_filter(&mut self.netlink, port, rx_filter),
        )
    }

    /// Takes about as long as the kernel needs to tell all who listen: a fraction of a millisecond. It is no change by others.
    fn set_link(&mut self, vm: VmId, up: bool) -> Result<(), SystemError> {
        let Some(Some(port)) = self.taps.get(vm.index()) else {
            return Ok(());
        };
        if let Some(monitor) = &mut self.monitor {
            monitor.expect_state(vm, up);
        }
        let change = LinkChange {
            up: Some(up),
            ..LinkChange::default()
        };
        let netlink = self.moves.netlink_of(vm, &mut self.netlink);
        netlink.change_link(port.tap.name(), &change)
    }

    fn shared_with(&self) -> Option<String> {
        if self.lab.outside.is_some() {
            return Some("a port of its bridge leads to others".to_owned());
        }
        let is_alone = self.namespace.is_ours() && self.lab.prepared == Prepared::Nothing;
        (!is_alone).then(|| "its network namespace was not made by this run".to_owned())
    }

    /// Holds up the caller for 20 ms, and half a millisecond more for each VM: the kernel waits for its own readers of a
    /// link before it removes it (`synchronize_net()`), once for all that go together.
    fn unplug(&mut self, vms: &[VmId]) -> Result<(), SystemError> {
        // Where the kernel does not tell, nobody knows what they did not get.
        let _ = self.keep_counters(vms);
        let leaving: Vec<Port> = vms
            .iter()
            .filter_map(|vm| self.taps.get_mut(vm.index()).and_then(Option::take))
            .collect();
        if let Some(monitor) = &mut self.monitor {
            monitor.forget(vms);
        }
        self.moves.forget(vms);
        if let Some(watch) = &mut self.drop_watch {
            leaving
                .iter()
                .for_each(|port| watch.remove_station(port.mac));
        }
        for vm in vms {
            self.switching.remove(*vm);
            self.filter.remove(*vm);
        }
        // Closing the descriptor takes a TAP out of the poll, and one that does not persist out of the system.
        if self.lab.prepared == Prepared::BridgeAndTaps {
            return Ok(());
        }
        self.remove_taps(leaving)?;
        self.switching.restore(&mut self.netlink)
    }

    fn drops(&mut self) -> Result<u64, SystemError> {
        let drops = self.queue_drops()?;
        let frames = drops.into_iter().map(|(_, frames)| frames);
        Ok(frames.fold(0, u64::saturating_add))
    }

    fn set_polled(&mut self, vm: VmId, polled: bool) -> io::Result<()> {
        match self.taps.get(vm.index()) {
            Some(Some(port)) if polled => {
                self.polled
                    .taps
                    .register(&port.tap, vm.index(), Interest::READABLE)
            }
            Some(Some(port)) => self.polled.taps.deregister(&port.tap),
            _ => Ok(()),
        }
    }

    /// A refusal of the kernel is a [warning](Fabric::warnings).
    fn watch_links(&mut self) -> bool {
        match self.listen() {
            Ok((monitor, name_watch)) => {
                self.monitor = Some(monitor);
                self.name_watch = name_watch;
            }
            Err(error) => self.warnings.push(error),
        }
        true
    }

    fn link_events(&mut self) -> Vec<LinkEvent> {
        self.expect_moved_links();
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
        events.extend(self.name_watch.as_ref().and_then(NameWatch::deletion));
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

    fn prepare_place(&mut self, _: VmId, to: &Place) -> Result<(), RelocationError<SystemError>> {
        self.make_place(to)
    }

    /// Goes on in the background from one bridge to another of the same namespace, where the kernel has io_uring for this process.
    /// Else it holds up the caller for 0.2 ms or more; to another namespace for 20 ms (`synchronize_net()`).
    fn relocate(
        &mut self,
        _: Instant,
        vm: VmId,
        to: &Place,
        rx_filter: &RxFilter,
        outage: Duration,
    ) -> Result<Relocated, RelocationError<SystemError>> {
        self.move_tap(vm, to, rx_filter, outage)
    }

    fn ended_relocations(&mut self, waits: bool) -> Vec<EndedRelocation<SystemError>> {
        self.ended_moves(waits)
    }

    fn fdb_events(&mut self, now: Instant) -> Vec<FdbEvent> {
        self.heard_of_tables(now)
    }

    fn time_after(&self, _: Instant) -> Instant {
        MonotonicClock.now()
    }

    fn watch_drops(&mut self) -> Result<bool, SystemError> {
        self.listen_for_drops().map(|()| true)
    }

    fn frame_drops(&mut self) -> FrameDrops {
        self.take_drops()
    }

    fn stamp_path(&mut self, stamps: bool) -> Result<(), SystemError> {
        self.path_stamper = match stamps {
            true => Some(PathStamper::open(own_namespace()?)?),
            false => None,
        };
        Ok(())
    }

    fn path_stamps(&mut self, ping: PathKey) -> [Option<PathStamps>; 2] {
        let stamper = self.path_stamper.as_ref();
        stamper.map_or([None, None], |stamper| stamper.stamps(ping))
    }

    fn has_filter(&self) -> bool {
        self.filter_kind() != FilterKind::None
    }

    fn port_counters(&mut self) -> Result<Vec<(VmId, PortCounters)>, SystemError> {
        self.read_counters()
    }

    fn path_state(
        &mut self,
        source: VmId,
        destination: MacAddr,
        owner: Option<VmId>,
    ) -> Result<Option<PathState>, SystemError> {
        // The tables that lead to another namespace say nothing of what is there.
        let is_beside = |vm| self.moves.is_beside(vm);
        if is_beside(source) || owner.is_some_and(is_beside) {
            return Ok(None);
        }
        self.look_at_path(source, destination, owner).map(Some)
    }

    #[inline]
    fn read(&mut self, _: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        let Some(Some(port)) = self.taps.get_mut(vm.index()) else {
            return Read::Failed;
        };
        let read = port.tap.read(buffer);
        match read {
            // Read where it was written a moment ago: as many came as went, and the queue is as long as before.
            Read::Frame(_) if buffer.get(..6) == Some(&self.last_destination) => {
                self.last_destination = [0; 6];
            }
            Read::Frame(_) | Read::Consumed(_) => port.count_read(),
            Read::Empty | Read::Failed => port.row = 0,
        }
        read
    }

    #[inline]
    fn write(&mut self, _: impl Now, vm: VmId, frame: &[u8]) -> Write {
        if let Some(destination) = frame.first_chunk() {
            self.last_destination = *destination;
        }
        if self.filter.waits() {
            self.begin_to_filter();
        }
        match self.taps.get(vm.index()) {
            Some(Some(port)) => port.tap.write(frame),
            _ => Write::Dropped(WriteDrop::LinkDown),
        }
    }

    fn environment(&self) -> Environment {
        Environment {
            kind: self.lab.fabric.to_string(),
            topology: self.switching.topology(),
            is_simulated: false,
        }
    }

    /// Refusals of the system that do not harm the run, such as switching IPv6 off where `/proc/sys` is read-only.
    fn warnings(&self) -> &[SystemError] {
        &self.warnings
    }

    /// Of a bridge that runs the spanning tree protocol, a while.
    fn forwards_after(&self) -> Duration {
        self.switching.time_to_forward()
    }

    fn outlives_process(&self) -> bool {
        self.at_end == AtEnd::RemoveMarked
    }

    /// Removes the TAPs and the bridge, and the namespace if we made it. Does nothing where the kernel does that with the
    /// process (a private namespace), or where all of it was there before (attached).
    fn close(&mut self) -> Result<(), SystemError> {
        self.end_background();
        let mut outcome = self.close_outside();
        if std::mem::replace(&mut self.at_end, AtEnd::Leave) == AtEnd::RemoveMarked {
            outcome = outcome.and(self.remove_links());
            outcome = outcome.and(self.close_beside());
        }
        outcome.and(self.namespace.remove())
    }
}

impl TapFabric {
    /// Removes the port that leads out of the lab: where the kernel would do that, it does so some time after the end of the
    /// process, and what the port stands on is free from now on.
    fn close_outside(&mut self) -> Result<(), SystemError> {
        if self.lab.outside.is_none() || self.lab.sharing == Some(Sharing::Other) {
            return Ok(());
        }
        match self.netlink.link(&outside_name(&self.lab.bridge))? {
            Some(link) if mark_of(&link) == Some(self.mark) => {
                // While it is up, for the reason that `Bridges::lead_outside` gives.
                let alone = LinkChange {
                    master: Some(0),
                    ..LinkChange::default()
                };
                self.netlink.change_link(&link.name, &alone)?;
                self.netlink.delete_link(&link)
            }
            _ => Ok(()),
        }
    }

    /// Removes the TAPs by request. Closing their descriptors does so too, but not while a copy of one is open, as in a
    /// process that is just being started.
    pub(super) fn remove_taps(&mut self, leaving: Vec<Port>) -> Result<(), SystemError> {
        let group = self.mark.group(LEAVING_GROUP);
        let change = LinkChange {
            group: Some(group),
            ..LinkChange::default()
        };
        let mut requests = Requests::default();
        let mut is_any_there = false;
        for port in &leaving {
            // If it is gone, a link of that name is somebody else's.
            if is_there(port.tap.set_persistent(false))? {
                is_any_there = true;
                let name = port.tap.name();
                let operation = format!("configure link {name}");
                requests.add_unless_gone(change.request(LinkKey::Name(name)), operation);
            }
        }
        self.netlink.carry_out(requests)?;
        match is_any_there {
            true => self.netlink.delete_group(group),
            false => Ok(()),
        }
    }

    /// Adds the TAP that was just made for `vm` to the links that the monitor, if there is one, knows.
    pub(super) fn expect_link(&mut self, vm: VmId, name: &str) -> Result<(), SystemError> {
        let Some(monitor) = &mut self.monitor else {
            return Ok(());
        };
        monitor.hear();
        if let Some(link) = self.netlink.link(name)? {
            monitor.expect(&link, Some(vm));
        }
        Ok(())
    }

    #[cold]
    fn begin_to_filter(&mut self) {
        // The kernel has taken the same request before. Without a filter, TAPs merely hear more than they want.
        let _ = self.filter.begin(&mut self.netlink);
    }
}

/// Passes over that a TAP is gone, which somebody may have deleted: its VM has a cable that leads nowhere, and goes on.
fn unless_gone(outcome: Result<(), SystemError>) -> Result<(), SystemError> {
    is_there(outcome).map(drop)
}

/// Returns false if the TAP that something was done to is gone.
fn is_there(outcome: Result<(), SystemError>) -> Result<bool, SystemError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.errno(), Some(Errno::EBADFD | Errno::ENODEV)) => Ok(false),
        Err(error) => Err(error),
    }
}
