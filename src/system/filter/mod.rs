//! A filter in the kernel that drops what a VM's network card would, before it comes to the VM's TAP.
//!
//! A frame that is flooded to 1,000 ports would otherwise wake the reactor 1,000 times for one VM that wants it. Only what
//! a VM ignores is dropped: another station's unicast, groups that it has not joined, what is broadcast to DHCP servers,
//! and ARP requests for somebody else. Announcements (sender = target, RFC 5227) and whatever speaks of the VM's own
//! address pass, as do other broadcasts. The kernel has taken a VLAN tag off the frame by the time that it is judged, so
//! that tagged and untagged frames are judged alike; a second tag makes the frame pass.
//!
//! There are two that do this. [`shared`] is one program for all TAPs, which runs before anything of a port is touched.
//! Where the kernel does not let us have that (it takes `CAP_BPF` outside of user namespaces) [`classic`] makes a program
//! for each TAP, which runs when the frame has come to its queue.

mod classic;
mod shared;

use self::shared::SharedFilter;
use super::error::SystemError;
use super::lab_config::{FabricKind, LabConfig, Prepared};
use super::netlink::Netlink;
use super::netlink::requests::Requests;
use super::tap::Tap;
use crate::vm::{RxFilter, VmId};

/// The kind of filter that drops what the VMs' network cards would.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterKind {
    /// Nothing: VMs hear all that comes.
    None,
    /// One program for all TAPs.
    Shared,
    /// A program for each TAP.
    Classic,
}

/// The filter before the TAPs of a lab.
#[derive(Debug)]
pub(super) enum Filter {
    /// Nothing: VMs hear all that comes.
    None,
    /// The kind that the kernel supports, which the first TAP will show; the number of VMs that are planned.
    Untried(u32),
    /// One program for all.
    Shared(Box<SharedFilter>),
    /// A program for each.
    Classic,
}

impl Filter {
    /// The filter that is to stand before the TAPs of `lab`. None where somebody else has made them: it would outlive us.
    /// And nothing behind XDP, which passes it by.
    pub(super) fn of(lab: &LabConfig) -> Filter {
        match lab.fabric {
            _ if !lab.filter || lab.prepared == Prepared::BridgeAndTaps => Filter::None,
            FabricKind::Xdp => Filter::None,
            FabricKind::Bridge => Filter::Untried(lab.vms),
            // A link has one place for programs, and there it is for whoever the TAPs are handed to.
            FabricKind::None | FabricKind::Interface => Filter::Classic,
        }
    }

    /// Its kind, as far as is known.
    pub(super) fn kind(&self) -> FilterKind {
        match self {
            Filter::None | Filter::Untried(_) => FilterKind::None,
            Filter::Shared(_) => FilterKind::Shared,
            Filter::Classic => FilterKind::Classic,
        }
    }

    /// Limits the TAP with that index, which must be down still, to what `rx_filter` says: once the filter is
    /// [written](Filter::write) and then `requests` carried out. If one of these fails, [`Filter::remove`] undoes it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn add(
        &mut self,
        netlink: &mut Netlink,
        requests: &mut Requests,
        (vm, tap, index): (VmId, &Tap, u32),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        match self {
            Filter::None => Ok(()),
            Filter::Untried(vms) => {
                let shared = SharedFilter::load(*vms).and_then(|mut shared| {
                    // The first in its block, it asks for nothing else.
                    shared.add(netlink, requests, (vm, index), rx_filter)?;
                    shared.write()?;
                    Ok(shared)
                });
                if let Ok(shared) = shared {
                    *self = Filter::Shared(Box::new(shared));
                    return Ok(());
                }
                *self = Filter::Classic;
                tap.attach_filter(&mut classic::program(rx_filter))
            }
            Filter::Shared(shared) => shared.add(netlink, requests, (vm, index), rx_filter),
            Filter::Classic => tap.attach_filter(&mut classic::program(rx_filter)),
        }
    }

    /// Writes down what TAPs want that were added.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn write(&mut self) -> Result<(), SystemError> {
        match self {
            Filter::Shared(shared) => shared.write(),
            Filter::None | Filter::Untried(_) | Filter::Classic => Ok(()),
        }
    }

    /// Limits the TAP of `vm` to what `rx_filter` says from now on. One without an index is in no namespace of `netlink`, where
    /// it hears everything if that is what it did.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn set_rx_filter(
        &mut self,
        netlink: &mut Netlink,
        (vm, tap, index): (VmId, &Tap, Option<u32>),
        rx_filter: &RxFilter,
    ) -> Result<(), SystemError> {
        match (self, index) {
            (Filter::None | Filter::Untried(_), _) | (Filter::Shared(_), None) => Ok(()),
            (Filter::Shared(shared), Some(index)) => {
                shared.set_rx_filter(netlink, (vm, index), rx_filter)
            }
            (Filter::Classic, _) => tap.attach_filter(&mut classic::program(rx_filter)),
        }
    }

    /// Returns true if [`Filter::begin`] has something to do.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        matches!(self, Filter::Shared(shared) if shared.waits())
    }

    /// Limits TAPs from now on to what they want, where they are not yet.
    ///
    /// # Errors
    /// When the kernel refuses; TAPs hear everything then.
    pub(super) fn begin(&mut self, netlink: &mut Netlink) -> Result<(), SystemError> {
        match self {
            Filter::Shared(shared) => shared.begin(netlink),
            Filter::None | Filter::Untried(_) | Filter::Classic => Ok(()),
        }
    }

    /// Forgets `vm`, whose TAP is about to go.
    pub(super) fn remove(&mut self, vm: VmId) {
        if let Filter::Shared(shared) = self {
            shared.remove(vm);
        }
    }
}
