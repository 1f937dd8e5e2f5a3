//! The switches that carry frames from TAP to TAP, one kind a file, and the wait for their ports.

pub(super) mod attached;
pub(super) mod bridges;
pub(super) mod forwarding;
pub(super) mod joined;
pub(super) mod xdp;

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use super::error::SystemError;
use super::lab_config::LabConfig;
use super::netlink::Netlink;
use super::netlink::link_requests::LinkChange;
use super::netlink::requests::Requests;
use super::tap::Tap;
use crate::fabric::Place;
use crate::topology::Topology;
use crate::vm::{RxFilter, VmId};
use crate::wire::MacAddr;

/// A place of the TAP of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    /// The leaf with that number, or number 0 the only bridge.
    Leaf(usize),
    /// The spine of a tree.
    Spine,
    /// The bridge of a namespace beside that of the lab, behind the port of the spine with that index.
    Beside(u32),
    /// A bridge that is none of the lab's.
    Elsewhere,
}

/// The switch of one lab, of one of the kinds of [`FabricKind`](super::FabricKind).
pub(super) trait Switching: Debug {
    /// Takes in the TAP of `vm`, which has that index: adds to `change`, by which the TAP is configured next, what makes it a port. Returns the
    /// operation, for an error of that change; `None` if it is nothing but the configuration, as of a TAP that needs
    /// nothing to be a port.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn add<'a>(
        &'a mut self,
        (vm, tap, index): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
        change: &mut LinkChange<'a>,
    ) -> Result<Option<String>, SystemError> {
        let _ = (vm, tap, index, rx_filter, change);
        Ok(None)
    }

    /// Adds the requests that fill the switch's tables for `vm`, whose TAP with this index is a port by then, where the lab
    /// wants that.
    fn introduce(
        &self,
        requests: &mut Requests,
        lab: &LabConfig,
        (vm, tap, index): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) {
        let _ = (requests, lab, vm, tap, index, rx_filter);
    }

    /// Sets the receive filter of `vm`, if the switch looks at it.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn set_rx_filter(
        &mut self,
        (vm, tap, index): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        let _ = (vm, tap, index, rx_filter);
        Ok(())
    }

    /// Finds a bridge of the lab, to which VMs can be moved, by its place. `None` if it is none of the lab.
    fn find(&self, place: &Place) -> Option<Spot> {
        let _ = place;
        None
    }

    /// Where the TAP of `vm` is. `None` if the switch does not know.
    fn spot_of(&self, vm: VmId) -> Option<Spot> {
        let _ = vm;
        None
    }

    /// The bridge at `spot` of the lab, by its index and its name.
    fn bridge_at(&self, spot: Spot) -> Option<(u32, &str)> {
        let _ = spot;
        None
    }

    /// The TAP of `vm` has been moved to `spot`.
    fn moved(&mut self, vm: VmId, spot: Spot) {
        let _ = (vm, spot);
    }

    /// Forgets `vm`, whose TAP is about to go, or was not made after all.
    fn remove(&mut self, vm: VmId) {
        let _ = vm;
    }

    /// Gives the switch back what it has lost with its ports.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn restore(&self, netlink: &mut Netlink) -> Result<(), SystemError> {
        let _ = netlink;
        Ok(())
    }

    /// The bridge that has this address itself.
    fn owner_of(&self, mac: MacAddr) -> Option<&str> {
        let _ = mac;
        None
    }

    /// The names of its own links.
    fn links(&self, lab: &LabConfig) -> HashSet<String> {
        let _ = lab;
        HashSet::new()
    }

    /// The index of the bridge, of a tree the spine's. `None` where there is none.
    fn bridge_index(&self) -> Option<u32> {
        None
    }

    /// The tree of bridges, as it was planned. `None` where there is none of ours.
    fn topology(&self) -> Option<Topology> {
        None
    }

    /// Returns true if untagged frames are in a VLAN of the switch's own choice.
    fn has_own_vlans(&self) -> bool {
        false
    }

    /// The ports that forward only some time after they were made, the host's own by the name of the bridge: none of
    /// `taps`, unless the switch says so.
    fn slow_ports<'a>(&'a self, taps: HashSet<&'a str>) -> HashSet<&'a str> {
        let _ = taps;
        HashSet::new()
    }

    /// The time that these ports take by the settings of their bridge.
    fn time_to_forward(&self) -> Duration {
        Duration::ZERO
    }

    /// The time that they may take beside, for a carrier that others decide on.
    fn time_for_carrier(&self) -> Duration {
        Duration::ZERO
    }
}

/// A switch of somebody else, or none at all: TAPs are made for whoever takes them.
#[derive(Debug)]
pub(super) struct External;

impl Switching for External {}
