//! Hears from the kernel what becomes of the lab's links by somebody else's hand (`rtnetlink(7)`, `RTNLGRP_LINK`).
//!
//! The kernel tells of every change of every link in the namespace, the run's own among them. So the monitor knows the links
//! of the lab by their index, which is never used again, and how each is to be; what is told of a link is compared with that,
//! and only a difference is somebody else's doing. What the run itself changes it tells the monitor beforehand
//! ([`LinkMonitor::forget`]) or afterwards ([`LinkMonitor::expect`]).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::libc;
use rustc_hash::FxHashMap;

use super::error::SystemError;
use super::netlink::link::{Link, attributes, parse_link};
use super::netlink::monitor::{Monitor, messages};
use crate::fabric::{LinkEvent, LinkFate};
use crate::vm::VmId;

/// `IFLA_NEW_NETNSID` of `linux/if_link.h`: the link is gone because it went to another namespace.
const NEW_NAMESPACE: u16 = 45;

/// Listens for changes of links. The descriptor is readable when there are some.
#[derive(Debug)]
pub(super) struct LinkMonitor {
    monitor: Monitor,
    known: Known,
    /// Events that were heard, and not told yet.
    heard: Vec<LinkEvent>,
    /// The kernel had more to tell than the socket could hold.
    is_overrun: bool,
}

/// The links of the lab, by their index.
#[derive(Debug, Default)]
struct Known(FxHashMap<u32, Expected>);

/// How a link is to be.
#[derive(Clone, Debug)]
struct Expected {
    name: String,
    vm: Option<VmId>,
    up: bool,
    master: Option<u32>,
    /// Whether it has a carrier, if that is somebody else's matter.
    carrier: Option<bool>,
}

impl LinkMonitor {
    /// Listens in the network namespace of the calling thread, for nothing yet.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(super) fn open() -> Result<LinkMonitor, SystemError> {
        Ok(LinkMonitor {
            monitor: Monitor::open("links", &[libc::RTNLGRP_LINK])?,
            known: Known::default(),
            heard: Vec::new(),
            is_overrun: false,
        })
    }

    /// Tells changes of `link` from now on, of the way it is now. For a link that was just made, what its making was heard
    /// by must have been [heard](LinkMonitor::hear) before.
    pub(super) fn expect(&mut self, link: &Link, vm: Option<VmId>) {
        let expected = Expected {
            name: link.name.clone(),
            vm,
            up: link.up,
            master: link.master,
            carrier: None,
        };
        self.known.0.insert(link.index, expected);
    }

    /// The same of a link whose other end is somebody else's: it may lose its carrier while it is up.
    pub(super) fn expect_carrier(&mut self, link: &Link) {
        let expected = Expected {
            name: link.name.clone(),
            vm: None,
            up: link.up,
            master: link.master,
            carrier: Some(link.carrier),
        };
        self.known.0.insert(link.index, expected);
    }

    /// Tells nothing more of the links of `vms`, which are about to go.
    pub(super) fn forget(&mut self, vms: &[VmId]) {
        let stays = |vm: &VmId| !vms.contains(vm);
        self.known
            .0
            .retain(|_, link| link.vm.as_ref().is_none_or(stays));
    }

    /// The run itself is about to set the link of `vm` up or down.
    pub(super) fn expect_state(&mut self, vm: VmId, up: bool) {
        self.hear();
        let mut links = self.known.0.values_mut();
        if let Some(link) = links.find(|link| link.vm == Some(vm)) {
            link.up = up;
        }
    }

    /// Hears what the kernel has to tell up to now.
    pub(super) fn hear(&mut self) {
        let (known, heard) = (&mut self.known, &mut self.heard);
        self.is_overrun |= !self.monitor.hear(|told| known.read(told, heard));
    }

    /// The events since the last call. [`LinkMonitor::is_overrun`] says when some are missing.
    pub(super) fn drain(&mut self) -> Vec<LinkEvent> {
        self.hear();
        std::mem::take(&mut self.heard)
    }

    /// Returns true if the kernel had more to tell than it could keep, so that all links are to be [compared](Self::compare).
    pub(super) fn is_overrun(&self) -> bool {
        self.is_overrun
    }

    /// The events that a list of all links there are shows.
    pub(super) fn compare(&mut self, links: &[Link]) -> Vec<LinkEvent> {
        self.is_overrun = false;
        let mut events = Vec::new();
        let mut missing: Vec<u32> = self.known.0.keys().copied().collect();
        for link in links {
            self.known.see(link, &mut events);
            missing.retain(|index| *index != link.index);
        }
        for index in missing {
            self.known.lose(index, LinkFate::Deleted, &mut events);
        }
        events
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }
}

impl AsRawFd for LinkMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_raw_fd()
    }
}

impl Known {
    /// Reads one datagram.
    fn read(&mut self, told: &[u8], events: &mut Vec<LinkEvent>) {
        for (kind, payload) in messages(told) {
            // The family is the first byte of `struct ifinfomsg`. A bridge tells of its ports by messages of its own family,
            // of which the one that a port has left it looks like the removal of the link.
            if payload.first() != Some(&(libc::AF_UNSPEC as u8)) {
                continue;
            }
            let Some(link) = parse_link(payload) else {
                continue;
            };
            match kind {
                libc::RTM_NEWLINK => self.see(&link, events),
                libc::RTM_DELLINK => {
                    let mut attributes = attributes(payload.get(16..).unwrap_or_default());
                    let fate = match attributes.any(|(kind, _)| kind == NEW_NAMESPACE) {
                        true => LinkFate::Moved,
                        false => LinkFate::Deleted,
                    };
                    self.lose(link.index, fate, events);
                }
                _ => {}
            }
        }
    }

    /// Compares a link with how it is to be, and expects it as it is from now on.
    fn see(&mut self, link: &Link, events: &mut Vec<LinkEvent>) {
        let Some(expected) = self.0.get_mut(&link.index) else {
            return;
        };
        let before = expected.clone();
        expected.up = link.up;
        expected.master = link.master;
        expected.carrier = before.carrier.map(|_| link.carrier);
        let mut changes = Vec::new();
        if before.up != expected.up {
            if expected.up {
                // It gets its carrier, if there is one, a moment later.
                expected.carrier = before.carrier.map(|_| true);
            }
            changes.push(match expected.up {
                true => LinkFate::Up,
                false => LinkFate::Down,
            });
        } else if link.up && before.carrier != expected.carrier {
            changes.push(match link.carrier {
                true => LinkFate::CarrierBack,
                false => LinkFate::CarrierLost,
            });
        }
        if before.master != link.master {
            changes.extend(before.master.map(|index| LinkFate::Left {
                bridge: self.name_of(index),
            }));
            changes.extend(link.master.map(|index| LinkFate::Joined {
                bridge: self.name_of(index),
            }));
        }
        events.extend(changes.into_iter().map(|change| LinkEvent {
            link: before.name.clone(),
            vm: before.vm,
            change,
        }));
    }

    /// A link is gone, and not looked for any more.
    fn lose(&mut self, index: u32, change: LinkFate, events: &mut Vec<LinkEvent>) {
        if let Some(Expected { name, vm, .. }) = self.0.remove(&index) {
            events.push(LinkEvent {
                link: name,
                vm,
                change,
            });
        }
    }

    fn name_of(&self, index: u32) -> String {
        let known = self.0.get(&index).map(|link| link.name.clone());
        let look_up = || {
            let name = nix::net::if_::if_indextoname(index).ok()?;
            Some(name.to_string_lossy().into_owned())
        };
        let unknown = || format!("the bridge of index {index}");
        known.or_else(look_up).unwrap_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::LinkKind;
    use crate::wire::MacAddr;

    fn link(index: u32, name: &str, up: bool, master: Option<u32>) -> Link {
        Link {
            index,
            mac: MacAddr::ZERO,
            master,
            up,
            ..Link::example(name, LinkKind::Tap)
        }
    }

    #[test]
    fn only_what_differs_from_what_is_expected_is_told_and_by_name() {
        let mut monitor = LinkMonitor::open().unwrap();
        monitor.expect(&link(1_000_001, "br0", true, None), None);
        monitor.expect(
            &link(1_000_002, "tap0", true, Some(1_000_001)),
            Some(VmId(0)),
        );
        monitor.expect(
            &link(1_000_003, "tap1", true, Some(1_000_001)),
            Some(VmId(1)),
        );
        let of = |name: &str, vm: Option<u32>, change: LinkFate| LinkEvent {
            link: name.to_owned(),
            vm: vm.map(VmId),
            change,
        };
        let br0 = || "br0".to_owned();
        let bridge = link(1_000_001, "br0", true, None);
        // A stranger's link, and ours as they are to be.
        let all = |tap0: Option<Link>, tap1: Option<Link>| {
            let stranger = link(1_000_009, "eth0", false, None);
            let list = [Some(stranger), Some(bridge.clone()), tap0, tap1];
            list.into_iter().flatten().collect::<Vec<_>>()
        };
        let tap0 = |up, master| Some(link(1_000_002, "tap0", up, master));
        let tap1 = |up, master| Some(link(1_000_003, "tap1", up, master));
        let (on, off) = (Some(1_000_001), None);
        let table = [
            (all(tap0(true, on), tap1(true, on)), vec![]),
            (
                all(tap0(false, on), tap1(true, on)),
                vec![of("tap0", Some(0), LinkFate::Down)],
            ),
            (
                all(tap0(true, off), tap1(true, on)),
                vec![
                    of("tap0", Some(0), LinkFate::Up),
                    of("tap0", Some(0), LinkFate::Left { bridge: br0() }),
                ],
            ),
            (
                all(tap0(true, on), None),
                vec![
                    of("tap0", Some(0), LinkFate::Joined { bridge: br0() }),
                    of("tap1", Some(1), LinkFate::Deleted),
                ],
            ),
            (all(tap0(true, on), None), vec![]),
        ];
        for (links, expected) in table {
            assert_eq!(monitor.compare(&links), expected);
        }
        monitor.forget(&[VmId(0)]);
        assert_eq!(monitor.compare(&all(None, None)), []);
    }
}
