//! Moves of VMs between the bridges of a lab, and to a namespace beside it.
//!
//! A port changes its bridge by one request: the kernel takes it from the old one itself. What else there is to do is done
//! before, or after the VM has announced itself, so that the network misses the VM for a part of what that request takes: 0.2 to
//! 0.3 ms, in most of which the kernel waits for whoever still sends to the port (`synchronize_net()`). It is carried out in the
//! background, and the run goes on meanwhile. Other kinds of moves are several requests, each of which needs the answer to the one
//! before; so they hold up the caller, as does every move where the kernel has no io_uring for the process.
//!
//! A TAP that goes to another namespace keeps its descriptor, and comes out down and without a bridge. What depends on the
//! namespace is lost with that: the shared filter, queueing disciplines, and the VLANs of the port.

mod places;

use std::fs::File;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::error::SystemError;
use super::super::fdb_monitor::FdbMonitor;
use super::super::namespace_file::CURRENT_NAMESPACE;
use super::super::netlink::Netlink;
use super::super::netlink::background::Background;
use super::super::netlink::link::Link;
use super::super::netlink::link_requests::LinkChange;
use super::super::netlink::port::LinkKey;
use super::super::netlink::requests::Requests;
use super::super::side_namespace::SideNamespace;
use super::super::switching::Spot;
use super::super::switching::bridges::silence_link;
use super::TapFabric;
use crate::fabric::{EndedRelocation, FdbEvent, Place, Relocated, RelocationError};
use crate::time::{Clock, Instant, MonotonicClock};
use crate::vm::{RxFilter, VmId};

/// The namespaces beside the lab's that one run makes at most.
pub(super) const MAX_NAMESPACES: usize = 16;

/// Why a move of a real TAP is given no time.
pub const OUTAGE_IS_SIMULATED: &str = "outage is for --fabric sim; expected none, because a move of a real TAP takes the time that it takes";

type Failure = RelocationError<SystemError>;

/// What the moves of a run have led to.
#[derive(Debug, Default)]
pub(super) struct Moves {
    monitor: Option<FdbMonitor>,
    /// The namespaces that were made.
    beside: Vec<SideNamespace>,
    /// Where VMs are that are not where the plan has put them.
    places: FxHashMap<VmId, Place>,
    /// Those of a move that has failed, which may be ports of no bridge.
    astray: FxHashSet<VmId>,
    /// Those of whose links the kernel tells changes that the run has made, as far as they were not looked at.
    changed: Vec<VmId>,
    /// Carries changes of links out while the run goes on, if the kernel has that for this process.
    background: Option<Background>,
    under_way: Vec<UnderWay>,
}

/// A change of a TAP's bridge that is under way.
#[derive(Debug)]
struct UnderWay {
    /// The number of the request.
    number: u32,
    vm: VmId,
    place: Place,
    spot: Spot,
    rx_filter: RxFilter,
}

impl Moves {
    /// The number of the namespace that `vm` is in; `None` for that of the lab.
    pub(super) fn namespace_of(&self, vm: VmId) -> Option<usize> {
        match self.places.get(&vm) {
            Some(Place::Namespace(name)) => self.find(name),
            _ => None,
        }
    }

    /// Returns true if `vm` is in another namespace than the lab.
    pub(super) fn is_beside(&self, vm: VmId) -> bool {
        self.namespace_of(vm).is_some()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.beside.iter().position(|side| side.name() == name)
    }

    /// The connections to the kernel in the namespaces beside the lab's, in the order of their numbers.
    pub(super) fn netlinks(&mut self) -> impl Iterator<Item = &mut Netlink> {
        self.beside.iter_mut().map(|side| &mut side.netlink)
    }

    /// The numbers of the inodes of those namespaces.
    pub(super) fn inodes(&self) -> impl Iterator<Item = Result<u64, SystemError>> {
        self.beside.iter().map(SideNamespace::inode)
    }

    /// The links of all namespaces beside the lab's.
    pub(super) fn links(&mut self) -> Result<Vec<Link>, SystemError> {
        let mut links = Vec::new();
        for netlink in self.netlinks() {
            links.extend(netlink.links()?);
        }
        Ok(links)
    }

    /// The connection to the kernel in the namespace that `vm` is in; `home` is that in the namespace of the lab.
    pub(super) fn netlink_of<'a>(&'a mut self, vm: VmId, home: &'a mut Netlink) -> &'a mut Netlink {
        let number = self.namespace_of(vm);
        match number.and_then(|number| self.beside.get_mut(number)) {
            Some(side) => &mut side.netlink,
            None => home,
        }
    }

    /// Forgets VMs that are about to go.
    pub(super) fn forget(&mut self, vms: &[VmId]) {
        for vm in vms {
            self.places.remove(vm);
            self.astray.remove(vm);
        }
        let beside = self.beside.iter_mut().map(|side| &mut side.monitor);
        let monitors: Vec<&mut FdbMonitor> = self.monitor.iter_mut().chain(beside).collect();
        if !monitors.is_empty() {
            let gone: FxHashSet<VmId> = vms.iter().copied().collect();
            for monitor in monitors {
                monitor.forget(|vm| gone.contains(&vm));
            }
        }
    }
}

impl TapFabric {
    /// Moves the TAP of `vm` to another place.
    pub(super) fn move_tap(
        &mut self,
        vm: VmId,
        to: &Place,
        rx_filter: &RxFilter,
        outage: Duration,
    ) -> Result<Relocated, Failure> {
        if !outage.is_zero() {
            return Err(unfit(OUTAGE_IS_SIMULATED));
        }
        let name = self.lab.tap_name(vm.0);
        if !matches!(self.taps.get(vm.index()), Some(Some(_))) {
            return Err(unfit(format!("{vm} has no TAP; expected a VM that is up")));
        }
        self.make_place(to)?;
        let (from, to) = (self.present_place(vm), self.named(to));
        if from == to && !self.moves.astray.contains(&vm) {
            return Err(unfit(format!(
                "{vm} is at {to} already; expected another place, or port for another port of the same bridge"
            )));
        }
        // Our own change is none of somebody else's.
        if let Some(monitor) = &mut self.monitor {
            monitor.hear();
            monitor.forget(&[vm]);
        }
        if let Some(monitor) = &mut self.moves.monitor {
            monitor.expect(vm, rx_filter.mac);
        }
        for side in &mut self.moves.beside {
            side.monitor.expect(vm, rx_filter.mac);
        }
        let began = MonotonicClock.now();
        if let Some(spot) = self.begin_to_change_bridge(vm, &name, &to, rx_filter) {
            return Ok(Relocated {
                from,
                to,
                began,
                ready: None,
                is_introduced: self.fills_tables_at(spot),
            });
        }
        self.moves.changed.push(vm);
        let spot = match self.carry(vm, &name, &to, rx_filter) {
            Ok(spot) => spot,
            Err(failure) => {
                self.moves.astray.insert(vm);
                return Err(failure);
            }
        };
        self.moves.astray.remove(&vm);
        Ok(Relocated {
            to: match to {
                Place::Port => from.clone(),
                to => to,
            },
            from,
            began,
            ready: Some(MonotonicClock.now()),
            is_introduced: self.fills_tables_at(spot),
        })
    }

    /// Begins to make the TAP of `vm`, if it is in the lab's namespace and stays there, a port of the bridge at `place`. Returns
    /// the place; `None` if that does not go on in the background.
    fn begin_to_change_bridge(
        &mut self,
        vm: VmId,
        name: &str,
        place: &Place,
        rx_filter: &RxFilter,
    ) -> Option<Spot> {
        let is_to_bridge = matches!(place, Place::Leaf(_) | Place::Bridge(_));
        if !is_to_bridge || self.moves.is_beside(vm) || self.moves.background.is_none() {
            return None;
        }
        let (spot, bridge) = self.bridge_of(place).ok()?;
        let background = self.moves.background.as_mut()?;
        let number = background.begin(joining(bridge).request(LinkKey::Name(name)))?;
        self.moves.under_way.push(UnderWay {
            number,
            vm,
            place: place.clone(),
            spot,
            rx_filter: rx_filter.clone(),
        });
        Some(spot)
    }

    /// Waits for the moves that are under way, and carries out no other in the background.
    pub(super) fn end_background(&mut self) {
        self.moves.background = None;
    }

    /// Takes note of the moves that went on in the background and have ended, all of them if this `waits`. Returns their VMs, and
    /// what came of each.
    pub(super) fn ended_moves(&mut self, waits: bool) -> Vec<EndedRelocation<SystemError>> {
        let Some(background) = &mut self.moves.background else {
            return Vec::new();
        };
        let ended = background.ended(waits).into_iter();
        let ended = ended.filter_map(|(number, outcome)| {
            let mut under_way = self.moves.under_way.iter();
            let index = under_way.position(|of| of.number == number)?;
            let of = self.moves.under_way.swap_remove(index);
            let name = self.lab.tap_name(of.vm.0);
            let outcome = outcome.map_err(|refusal| refusal.of(moving(&name, &of.place)));
            let outcome = outcome.and_then(|()| {
                self.set_place(of.vm, &of.place, of.spot);
                self.fill_in(of.vm, &name, of.spot, &of.rx_filter)
            });
            self.moves.changed.push(of.vm);
            match outcome {
                Ok(()) => self.moves.astray.remove(&of.vm),
                Err(_) => self.moves.astray.insert(of.vm),
            };
            Some((
                of.vm,
                outcome
                    .map(|()| MonotonicClock.now())
                    .map_err(Failure::from),
            ))
        });
        ended.collect()
    }

    /// Makes the TAP of `vm` a port at another place, and notes each step once it is made: the next one may fail. Returns the
    /// place.
    fn carry(
        &mut self,
        vm: VmId,
        name: &str,
        to: &Place,
        rx_filter: &RxFilter,
    ) -> Result<Spot, Failure> {
        let spot = match (to, self.moves.namespace_of(vm)) {
            (Place::Port, _) => {
                self.restart_port(vm, name)?;
                self.switching.spot_of(vm).unwrap_or(Spot::Elsewhere)
            }
            (Place::Namespace(_), before) => self.move_beside(vm, name, (to, before))?,
            (_, Some(before)) => self.move_home(vm, name, (to, before), rx_filter)?,
            (_, None) => self.change_bridge(vm, name, to)?,
        };
        self.fill_in(vm, name, spot, rx_filter)?;
        Ok(spot)
    }

    /// Takes note that the TAP of `vm` is at a place, or at least in its namespace.
    fn set_place(&mut self, vm: VmId, place: &Place, spot: Spot) {
        self.moves.places.insert(vm, place.clone());
        self.switching.moved(vm, spot);
    }

    /// Returns true if the lab fills the tables of the bridge at `spot`.
    fn fills_tables_at(&self, spot: Spot) -> bool {
        self.lab.neighbours.are_filled_in() && spot != Spot::Elsewhere
    }

    /// Takes the link of `vm` down and up again.
    fn restart_port(&mut self, vm: VmId, name: &str) -> Result<(), SystemError> {
        let netlink = self.moves.netlink_of(vm, &mut self.netlink);
        for up in [false, true] {
            let change = LinkChange {
                up: Some(up),
                ..LinkChange::default()
            };
            netlink.change_link(name, &change)?;
        }
        Ok(())
    }

    /// Makes the TAP of `vm`, in the lab's namespace, a port of the bridge at `place`.
    fn change_bridge(&mut self, vm: VmId, name: &str, place: &Place) -> Result<Spot, Failure> {
        let (spot, bridge) = self.bridge_of(place)?;
        join(&mut self.netlink, name, bridge, place)?;
        self.set_place(vm, place, spot);
        Ok(spot)
    }

    /// The bridge at a place in the lab's namespace.
    fn bridge_of(&mut self, place: &Place) -> Result<(Spot, u32), Failure> {
        if let Some(spot) = self.switching.find(place)
            && let Some((index, _)) = self.switching.bridge_at(spot)
        {
            return Ok((spot, index));
        }
        match place {
            Place::Bridge(name) => Ok((Spot::Elsewhere, self.netlink.index(name)?)),
            other => Err(unfit(format!("there is no bridge at {other}"))),
        }
    }

    /// Moves a TAP to the namespace `place`, from that with the number `before` or from the lab's.
    fn move_beside(
        &mut self,
        vm: VmId,
        name: &str,
        (place, before): (&Place, Option<usize>),
    ) -> Result<Spot, Failure> {
        let number = match place {
            Place::Namespace(beside) => self.moves.find(beside),
            _ => None,
        };
        let gone = || unfit(format!("there is no namespace at {place}"));
        let number = number.ok_or_else(gone)?;
        match before {
            None => {
                let side = self.moves.beside.get(number).ok_or_else(gone)?;
                self.netlink.change_link(name, &LinkChange::away_to(side))?;
                // It is of the namespace, and what the VM hears there it sorts out itself.
                self.filter.remove(vm);
            }
            Some(before) => {
                // It is there already if it has left for there, and not arrived.
                if let Ok([from, side]) = self.moves.beside.get_disjoint_mut([before, number]) {
                    from.netlink.change_link(name, &LinkChange::away_to(side))?;
                }
            }
        }
        let side = self.moves.beside.get(number).ok_or_else(gone)?;
        let (spot, bridge) = (Spot::Beside(side.port), side.bridge);
        self.set_place(vm, place, spot);
        let index = self.renumber(vm, name)?;
        self.arrive(vm, (name, index), bridge)?;
        Ok(spot)
    }

    /// Moves a TAP from the namespace with the number `before` back to that of the lab.
    fn move_home(
        &mut self,
        vm: VmId,
        name: &str,
        (place, before): (&Place, usize),
        rx_filter: &RxFilter,
    ) -> Result<Spot, Failure> {
        let (spot, bridge) = self.bridge_of(place)?;
        let here = File::open(CURRENT_NAMESPACE)
            .map_err(|error| SystemError::io("open the current namespace", &error))?;
        if let Some(side) = self.moves.beside.get_mut(before) {
            side.netlink
                .change_link(name, &LinkChange::away_to(&here))?;
        }
        self.set_place(vm, place, spot);
        // What follows is as of a new TAP, which is down still.
        let index = self.renumber(vm, name)?;
        if !self.namespace.is_ours() {
            silence_link(name, &mut self.warnings);
        }
        if let Some(Some(port)) = self.taps.get(vm.index()) {
            let mut requests = Requests::default();
            let tap = (vm, &port.tap, index);
            self.filter
                .add(&mut self.netlink, &mut requests, tap, rx_filter)?;
            let filtered = self.filter.write();
            filtered
                .and_then(|()| self.netlink.carry_out(requests))
                .inspect_err(|_| self.filter.remove(vm))?;
        }
        self.arrive(vm, (name, index), bridge)?;
        Ok(spot)
    }

    /// Takes note of the index that the TAP of `vm` has in the namespace that it has come to, and returns it.
    fn renumber(&mut self, vm: VmId, name: &str) -> Result<u32, SystemError> {
        let netlink = self.moves.netlink_of(vm, &mut self.netlink);
        let index = netlink.index(name)?;
        if let Some(Some(port)) = self.taps.get_mut(vm.index()) {
            port.index = index;
            if let Some(watch) = &mut self.drop_watch {
                watch.add_stations([(port.mac, index)]);
            }
        }
        Ok(index)
    }

    /// Makes the TAP of `vm`, which has come from another namespace and is down, a port of `bridge`.
    fn arrive(
        &mut self,
        vm: VmId,
        (name, index): (&str, u32),
        bridge: u32,
    ) -> Result<(), SystemError> {
        let netlink = self.moves.netlink_of(vm, &mut self.netlink);
        // As when it was made: not every kernel has disciplines.
        let _ = netlink.remove_discipline(index);
        join(
            netlink,
            name,
            bridge,
            &Place::Bridge(self.lab.bridge.clone()),
        )
    }

    /// Gives the port that the TAP of `vm` has become what the lab gives its ports: a VLAN, and entries in tables.
    fn fill_in(
        &mut self,
        vm: VmId,
        name: &str,
        spot: Spot,
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        let fills = self.fills_tables_at(spot);
        let Some(Some(port)) = self.taps.get(vm.index()) else {
            return Ok(());
        };
        if let Some(filtering) = &self.lab.vlan_filtering
            && spot != Spot::Elsewhere
        {
            let netlink = self.moves.netlink_of(vm, &mut self.netlink);
            let mut requests = Requests::default();
            requests.set_port_vlan(name, port.index, filtering.of(vm));
            netlink.carry_out(requests)?;
        }
        if fills {
            let port = (vm, &port.tap, port.index);
            let mut requests = Requests::default();
            self.switching
                .introduce(&mut requests, &self.lab, port, rx_filter);
            self.netlink.carry_out(requests)?;
        }
        Ok(())
    }

    /// Takes what the kernel has told of links so far for changes by the run, if it has moved any since the last call, and has
    /// the link monitor know them as they are now. That is not done at once, because there is what can't wait: an announcement.
    pub(super) fn expect_moved_links(&mut self) {
        for vm in std::mem::take(&mut self.moves.changed) {
            // It has begun to move on, and is looked at when it has ended that.
            if self.moves.under_way.iter().any(|of| of.vm == vm) {
                continue;
            }
            let name = self.lab.tap_name(vm.0);
            match (self.moves.namespace_of(vm), &mut self.monitor) {
                // Of a link that can't be looked at, the run's own change is told as that of somebody else.
                (None, _) => _ = self.expect_link(vm, &name),
                (Some(_), Some(monitor)) => monitor.hear(),
                (Some(_), None) => {}
            }
        }
    }

    /// What bridges have learned of moved VMs since the last call, heard `now`.
    pub(super) fn heard_of_tables(&mut self, now: Instant) -> Vec<FdbEvent> {
        let mut events = Vec::new();
        if let Some(monitor) = &mut self.moves.monitor {
            monitor.drain(now, &mut events);
        }
        for side in &mut self.moves.beside {
            side.monitor.drain(now, &mut events);
        }
        events
    }

    /// Removes what the run has made in the namespaces beside the lab's.
    pub(super) fn close_beside(&mut self) -> Result<(), SystemError> {
        let mark = self.mark;
        let mut outcome = Ok(());
        for mut side in self.moves.beside.drain(..) {
            outcome = outcome.and(side.close(&mark));
        }
        outcome
    }
}

/// Makes a TAP a port of the bridge with that index, and brings it up.
fn join(netlink: &mut Netlink, name: &str, bridge: u32, place: &Place) -> Result<(), SystemError> {
    netlink
        .try_change_link(name, &joining(bridge))
        .map_err(|refusal| refusal.of(moving(name, place)))
}

/// The change that makes a link a port of the bridge with that index, and brings it up.
fn joining(bridge: u32) -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        master: Some(bridge),
        ..LinkChange::default()
    }
}

/// The operation, for an error.
fn moving(name: &str, place: &Place) -> String {
    format!("move {name} to {place}")
}

fn unfit(why: impl Into<String>) -> Failure {
    RelocationError::Unfit(why.into())
}
