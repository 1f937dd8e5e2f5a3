//! Hears what bridges learn of the VMs that were moved (`rtnetlink(7)`, `RTNLGRP_NEIGH`).
//!
//! A bridge tells of a new entry of its forwarding database, of one that is behind another port now, and of one that it
//! removes, with its port or because it is too old (`fdb_notify()` in `net/bridge/br_fdb.c`). It does so within the system
//! call that writes the frame it learns from, so that what a frame has changed can be heard right behind its write.

use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use rustc_hash::FxHashMap;

use super::error::SystemError;
use super::netlink::link::attributes;
use super::netlink::monitor::{Monitor, messages};
use crate::fabric::{FdbChange, FdbEvent};
use crate::time::Instant;
use crate::vm::VmId;
use crate::wire::MacAddr;

/// Bytes of `struct ndmsg`, which the attributes follow, and where its state and its flags are.
const HEADER: usize = 12;
const STATE: usize = 8;
const FLAGS: usize = 10;
/// `NUD_NOARP` and `NUD_PERMANENT` of `linux/neighbour.h`, the states of entries that somebody has set (`fdb_to_nud()` in
/// `net/bridge/br_fdb.c`): they do not age.
const SET: u8 = 0x40 | 0x80;
/// `NTF_EXT_LEARNED` of `linux/neighbour.h`: somebody has told the bridge, as the lab itself does, or a daemon of a routing
/// protocol.
const TOLD: u8 = 1 << 4;
/// `NDA_LLADDR` of `linux/neighbour.h`.
const HARDWARE_ADDRESS: u16 = 2;

/// Listens for changes of the tables of bridges. The descriptor is readable when there are some.
#[derive(Debug)]
pub(super) struct FdbMonitor {
    monitor: Monitor,
    moved: FxHashMap<MacAddr, VmId>,
}

impl FdbMonitor {
    /// Listens in the network namespace of the calling thread, for nothing yet.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(super) fn open() -> Result<FdbMonitor, SystemError> {
        Ok(FdbMonitor {
            monitor: Monitor::open("tables of bridges", &[libc::RTNLGRP_NEIGH])?,
            moved: FxHashMap::default(),
        })
    }

    /// Tells of `vm`, which has the address `mac`, too from now on.
    pub(super) fn expect(&mut self, vm: VmId, mac: MacAddr) {
        self.moved.insert(mac, vm);
    }

    /// Tells no longer of those of which `is_gone` is true.
    pub(super) fn forget(&mut self, is_gone: impl Fn(VmId) -> bool) {
        self.moved.retain(|_, vm| !is_gone(*vm));
    }

    /// The changes since the last call, heard `now`.
    pub(super) fn drain(&mut self, now: Instant, events: &mut Vec<FdbEvent>) {
        let moved = &self.moved;
        // What was missed is told as nothing: the gap then ends for an unknown reason.
        self.monitor.hear(|told| {
            let heard = messages(told).filter_map(|(kind, payload)| {
                let (mac, change) = change(kind, payload)?;
                let vm = *moved.get(&mac)?;
                Some(FdbEvent {
                    vm,
                    at: now,
                    change,
                })
            });
            events.extend(heard);
        });
    }
}

/// The station that a message, a `struct ndmsg` with attributes, is about, and what has changed; `None` if it is not about a
/// bridge.
fn change(kind: u16, payload: &[u8]) -> Option<(MacAddr, FdbChange)> {
    if payload.first() != Some(&(libc::AF_BRIDGE as u8)) {
        return None;
    }
    let [state, _] = u16::from_ne_bytes(*payload.get(STATE..)?.first_chunk()?).to_le_bytes();
    let is_told = payload.get(FLAGS)? & TOLD != 0 || state & SET != 0;
    let mut attributes = attributes(payload.get(HEADER..)?);
    let (_, mac) = attributes.find(|(kind, _)| *kind == HARDWARE_ADDRESS)?;
    let mac = MacAddr(mac.try_into().ok()?);
    match kind {
        libc::RTM_NEWNEIGH if is_told => Some((mac, FdbChange::Told)),
        libc::RTM_NEWNEIGH => Some((mac, FdbChange::Learned)),
        // Who has told a bridge takes it back when it pleases; only what was learned ages.
        libc::RTM_DELNEIGH if !is_told => Some((mac, FdbChange::Forgotten)),
        _ => None,
    }
}

impl AsRawFd for FdbMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(family: i32, (state, flags): (u8, u8), mac: [u8; 6]) -> Vec<u8> {
        let state = u16::from(state).to_ne_bytes();
        let mut payload = vec![
            family as u8,
            0,
            0,
            0,
            7,
            0,
            0,
            0,
            state[0],
            state[1],
            flags,
            0,
        ];
        payload.extend(10_u16.to_ne_bytes());
        payload.extend(HARDWARE_ADDRESS.to_ne_bytes());
        payload.extend(mac);
        payload.extend([0; 2]);
        payload
    }

    #[test]
    fn what_a_bridge_has_learned_or_forgotten_is_read_and_nothing_else() {
        let mac = [2, 0, 10, 77, 0, 5];
        let heard = |change| Some((MacAddr(mac), change));
        let bridge = libc::AF_BRIDGE;
        let (reachable, fixed, local) = ((2, 0), (0x40, 0), (0x80, 0));
        let told = (2, TOLD);
        for (kind, family, entry, expected) in [
            (
                libc::RTM_NEWNEIGH,
                bridge,
                reachable,
                heard(FdbChange::Learned),
            ),
            (
                libc::RTM_DELNEIGH,
                bridge,
                reachable,
                heard(FdbChange::Forgotten),
            ),
            (libc::RTM_GETNEIGH, bridge, reachable, None),
            (libc::RTM_NEWNEIGH, bridge, told, heard(FdbChange::Told)),
            (libc::RTM_NEWNEIGH, bridge, fixed, heard(FdbChange::Told)),
            (libc::RTM_NEWNEIGH, bridge, local, heard(FdbChange::Told)),
            (libc::RTM_DELNEIGH, bridge, told, None),
            (libc::RTM_DELNEIGH, bridge, fixed, None),
            (libc::RTM_NEWNEIGH, libc::AF_INET, reachable, None),
        ] {
            assert_eq!(change(kind, &payload(family, entry, mac)), expected);
        }
        for length in 0..payload(bridge, reachable, mac).len() - 2 {
            let whole = payload(bridge, reachable, mac);
            assert_eq!(change(libc::RTM_NEWNEIGH, &whole[..length]), None);
        }
    }
}
