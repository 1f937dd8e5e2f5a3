//! The real fabric: a Linux bridge with a TAP for each VM.

use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::clean::remove_marked;
use super::error::SystemError;
use super::lab::LabConfig;
use super::limits::ensure_descriptors;
use super::links::{BridgePlan, LinkChange};
use super::mark::Mark;
use super::namespace::Namespace;
use super::netlink::Netlink;
use super::new_lab::{bridge_mac, check_free};
use super::prepared::{attach_tap, check_prepared_lab};
use super::sysctl;
use super::tap::Tap;
use crate::fabric::{Fabric, Read, Write, WriteDrop};
use crate::vm::VmId;
use crate::wire::MacAddr;

/// The TAP of `vm0` is registered with this token; smaller ones are for timers and the like.
pub const FIRST_TAP_TOKEN: usize = 16;

/// Descriptors that a run needs beside those of its TAPs: poll, timer, signals, netlink, a file or two.
const OTHER_DESCRIPTORS: u64 = 32;

/// The token with which the TAP of `vm` is registered.
pub const fn token_of(vm: VmId) -> Token {
    Token(vm.index() + FIRST_TAP_TOKEN)
}

/// The VM whose TAP is registered with `token`; `None` if that is something else's.
pub fn vm_of(token: Token) -> Option<VmId> {
    let index = token.0.checked_sub(FIRST_TAP_TOKEN)?;
    u32::try_from(index).ok().map(VmId)
}

/// A bridge, and the TAPs on it.
///
/// TAPs are persistent, so that the end of the process need not wait for each of them: in a private namespace the kernel
/// removes all at once with the namespace; elsewhere [`TapFabric::remove_all`] does, or dropping the fabric after an
/// error, or `tap-reactor clean` if the process was killed.
#[derive(Debug)]
pub struct TapFabric {
    lab: LabConfig,
    registry: Registry,
    taps: Vec<Option<Tap>>,
    netlink: Netlink,
    mark: Mark,
    alias: String,
    bridge_index: u32,
    bridge_mac: Option<MacAddr>,
    at_end: AtEnd,
    warnings: Vec<SystemError>,
    namespace: Namespace,
}

/// Who takes the links away at the end of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AtEnd {
    /// The kernel, with the namespace; or nobody, because they were there before, or are gone already.
    Leave,
    /// We do: what carries our mark.
    RemoveMarked,
}

impl TapFabric {
    /// Enters the namespace, and makes the bridge there (or, to attach, checks what is there). TAPs are registered with
    /// `registry`, edge-triggered, when their VM is plugged in.
    ///
    /// # Errors
    /// When the lab can't exist, a name in it is taken, or the system refuses; what had been made is removed again.
    pub fn new(registry: Registry, lab: LabConfig) -> Result<TapFabric, SystemError> {
        lab.validate()?;
        ensure_descriptors(u64::from(lab.vms) + OTHER_DESCRIPTORS)?;
        let mark = Mark::of_this_process()?;
        let namespace = Namespace::enter(&lab.netns, &mark, lab.attach)?;
        let mut warnings = Vec::new();
        if namespace.is_ours() {
            warnings = sysctl::quieten_namespace();
        }
        let mut fabric = TapFabric {
            registry,
            taps: Vec::with_capacity(lab.vms as usize),
            netlink: Netlink::open()?,
            mark,
            alias: mark.alias(),
            bridge_index: 0,
            bridge_mac: None,
            at_end: AtEnd::Leave,
            warnings,
            namespace,
            lab,
        };
        if fabric.lab.attach {
            fabric.bridge_index = check_prepared_lab(&mut fabric.netlink, &fabric.lab)?;
        } else {
            fabric.check_names(fabric.lab.vms)?;
            fabric.make_bridge()?;
        }
        Ok(fabric)
    }

    /// The index of the bridge, for those who want to look it up.
    pub fn bridge_index(&self) -> u32 {
        self.bridge_index
    }

    /// What the system refused without harm to the run, such as switching IPv6 off where `/proc/sys` is read-only:
    /// for the user to know.
    pub fn warnings(&self) -> &[SystemError] {
        &self.warnings
    }

    /// Whether the names of the bridge and of the first `count` TAPs are free. [`TapFabric::new`] asks this for
    /// [`LabConfig::vms`] before it makes anything.
    ///
    /// # Errors
    /// The name that is taken.
    pub fn check_names(&mut self, count: u32) -> Result<(), SystemError> {
        let links = self.netlink.links()?;
        let (has_bridge, taps) = (self.bridge_index != 0, &self.taps);
        let is_plugged = |index: u32| matches!(taps.get(index as usize), Some(Some(_)));
        let is_ours = |name: &str| {
            has_bridge && name == self.lab.bridge
                || self.lab.tap_index(name).is_some_and(is_plugged)
        };
        check_free(
            &self.lab,
            count,
            links.iter().filter(|link| !is_ours(&link.name)),
        )
    }

    fn make_bridge(&mut self) -> Result<(), SystemError> {
        if !self.namespace.ends_with_us() {
            self.at_end = AtEnd::RemoveMarked;
        }
        if self.namespace.is_ours() {
            // Whoever pings the bridge's address from inside the namespace goes through the loopback interface.
            self.netlink.change_link("lo", &up())?;
        }
        let mac = bridge_mac(&self.lab, &self.mark);
        self.bridge_mac = Some(mac);
        let name = self.lab.bridge.clone();
        self.bridge_index = self.netlink.create_bridge(&BridgePlan {
            name: &name,
            mac,
            mtu: self.lab.mtu.into(),
            group: self.mark.group(),
            alias: &self.alias,
            vlan_filtering: self.lab.vlan_filtering.as_ref(),
        })?;
        let index = self.bridge_index;
        if let Some(filtering) = &self.lab.vlan_filtering {
            self.netlink.set_bridge_vlans(&name, index, filtering)?;
        }
        if let Some(address) = self.lab.host_address6 {
            sysctl::enable_ipv6(&name)?;
            self.netlink.add_address(&name, index, address.into())?;
        } else {
            self.silence_link(&name);
        }
        if let Some(address) = self.lab.host_address {
            self.netlink.add_address(&name, index, address.into())?;
        }
        self.netlink.change_link(&name, &up())
    }

    /// In a namespace of somebody else, IPv6 is switched off for our links only, and before they come up.
    fn silence_link(&mut self, name: &str) {
        if self.namespace.is_ours() {
            return;
        }
        let refusal = sysctl::disable_ipv6(name).err();
        // What is refused for one link is refused for all: once is enough to know.
        if self.warnings.is_empty() {
            self.warnings.extend(refusal);
        }
    }

    fn make_tap(&mut self, vm: VmId, name: &str) -> Result<Tap, SystemError> {
        let tap = Tap::create(name)?;
        self.silence_link(name);
        let change = LinkChange {
            master: Some(self.bridge_index),
            up: Some(true),
            mtu: Some(self.lab.mtu.into()),
            group: Some(self.mark.group()),
            alias: Some(&self.alias),
            tx_queue_length: self.lab.tx_queue_length,
        };
        self.netlink
            .try_change_link(name, &change)
            .map_err(|refusal| refusal.of(format!("add {name} to bridge {}", self.lab.bridge)))?;
        if let Some(filtering) = &self.lab.vlan_filtering
            && let Some(link) = self.netlink.link(name)?
        {
            let vlan = filtering.of(vm);
            self.netlink.set_port_vlan(name, link.index, vlan)?;
        }
        Ok(tap)
    }

    /// Takes the port of `vm` away again, with its TAP unless that was there before.
    ///
    /// # Errors
    /// When the kernel refuses to remove the TAP.
    pub fn unplug(&mut self, vm: VmId) -> Result<(), SystemError> {
        let Some(tap) = self.taps.get_mut(vm.index()).and_then(Option::take) else {
            return Ok(());
        };
        // Closing the descriptor takes it out of the poll, and a TAP that does not persist out of the system.
        if self.lab.attach {
            Ok(())
        } else {
            tap.set_persistent(false)
        }
    }

    /// How many frames each VM did not get because its TAP's queue was full, read for all of them at once.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn queue_drops(&mut self) -> Result<Vec<(VmId, u64)>, SystemError> {
        let ports = self.netlink.ports(self.bridge_index)?;
        let mut drops: Vec<(VmId, u64)> = ports
            .iter()
            .filter_map(|link| {
                let index = self.lab.tap_index(&link.name)?;
                let is_plugged = matches!(self.taps.get(index as usize), Some(Some(_)));
                is_plugged.then_some((VmId(index), link.tx_dropped))
            })
            .collect();
        drops.sort_unstable();
        Ok(drops)
    }

    /// Ends the lab: removes the TAPs and the bridge, and the namespace if we made it. Does nothing where the kernel
    /// does that with the process (a private namespace), or where all of it was there before (attached).
    ///
    /// # Errors
    /// When something is left behind; the rest is removed nevertheless.
    pub fn remove_all(mut self) -> Result<(), SystemError> {
        self.tear_down()
    }

    fn tear_down(&mut self) -> Result<(), SystemError> {
        let mut outcome = Ok(());
        if std::mem::replace(&mut self.at_end, AtEnd::Leave) == AtEnd::RemoveMarked {
            outcome = self.remove_links();
        }
        outcome.and(self.namespace.remove())
    }

    fn remove_links(&mut self) -> Result<(), SystemError> {
        // Descriptors stay open: closing TAPs one by one takes a hundred times as long.
        let links = self.netlink.links()?;
        let removal = remove_marked(&mut self.netlink, &links, |mark| *mark == self.mark);
        match removal.failed.into_iter().next() {
            Some(error) => Err(error.advise("tap-reactor clean removes it later")),
            None => Ok(()),
        }
    }
}

impl Drop for TapFabric {
    fn drop(&mut self) {
        // After an error, which is reported in place of this one. `tap-reactor clean` finds what is left.
        let _ = self.tear_down();
    }
}

impl Fabric for TapFabric {
    type Error = SystemError;

    fn plug(&mut self, vm: VmId, mac: MacAddr) -> Result<(), SystemError> {
        let name = self.lab.tap_name(vm.0);
        let operation = || format!("plug {vm} into {name}");
        if matches!(self.taps.get(vm.index()), Some(Some(_))) {
            return Err(SystemError::refused(
                operation(),
                "it is plugged in already",
            ));
        }
        if Some(mac) == self.bridge_mac {
            let why = format!("{mac} is the address of bridge {} itself", self.lab.bridge);
            return Err(SystemError::refused(operation(), why));
        }
        let tap = if self.lab.attach {
            attach_tap(&mut self.netlink, &self.lab, self.bridge_index, &name)?
        } else {
            self.make_tap(vm, &name)?
        };
        self.registry
            .register(
                &mut SourceFd(&tap.as_raw_fd()),
                token_of(vm),
                Interest::READABLE,
            )
            .map_err(|error| SystemError::io(operation(), &error))?;
        if !self.lab.attach {
            // Last, so that until here closing the descriptor removes the TAP, whatever went wrong.
            tap.set_persistent(true)?;
        }
        if self.taps.len() <= vm.index() {
            self.taps.resize_with(vm.index() + 1, || None);
        }
        self.taps[vm.index()] = Some(tap);
        Ok(())
    }

    #[inline]
    fn read(&mut self, vm: VmId, buffer: &mut [u8]) -> Read {
        match self.taps.get(vm.index()) {
            Some(Some(tap)) => tap.read(buffer),
            _ => Read::Failed,
        }
    }

    #[inline]
    fn write(&mut self, vm: VmId, frame: &[u8]) -> Write {
        match self.taps.get(vm.index()) {
            Some(Some(tap)) => tap.write(frame),
            _ => Write::Dropped(WriteDrop::LinkDown),
        }
    }
}

fn up() -> LinkChange<'static> {
    LinkChange {
        up: Some(true),
        ..LinkChange::default()
    }
}
