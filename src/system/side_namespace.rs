//! A network namespace beside that of the lab, to which VMs are moved: as another host, with a bridge of its own that a veth
//! pair connects to the lab's.
//!
//! In a lab whose namespace ends with the process it has no name either, and ends with the process. Elsewhere it has one, made
//! as [`super::namespace`] makes names: marked and with the presence of the run, so that `tap-reactor clean` finds it, and what
//! was moved into it, after the run was killed.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use super::clean::remove_marked;
use super::error::SystemError;
use super::fdb_monitor::FdbMonitor;
use super::lab_config::{LabConfig, Neighbours};
use super::mark::Mark;
use super::name_rules::validate_interface_name;
use super::namespace::{Made, enter_file, make_named, make_nameless};
use super::namespace_file::CURRENT_NAMESPACE;
use super::netlink::Netlink;
use super::netlink::link_requests::{BridgePlan, LinkChange, index_of};
use super::sysctl;
use crate::topology::uplink_names;
use crate::wire::MacAddr;

/// The group of what is made here among a run's groups, as that of the lab's bridges.
const GROUP: u32 = 0;

/// The namespace, and the connection to the kernel in it.
#[derive(Debug)]
pub(super) struct SideNamespace {
    name: String,
    file: File,
    /// Its name and presence.
    made: Made,
    pub(super) netlink: Netlink,
    pub(super) monitor: FdbMonitor,
    /// Its bridge.
    pub(super) bridge: u32,
    /// The port of the lab's bridge that leads here.
    pub(super) port: u32,
}

impl SideNamespace {
    /// The names of the veth pair of the namespace with that number: its end here, and that of the lab's bridge.
    ///
    /// # Errors
    /// If the bridge's name leaves no room for them.
    pub(super) fn veth_names(lab: &LabConfig, number: u32) -> Result<(String, String), String> {
        let names = uplink_names(&lab.bridge, number);
        match validate_interface_name(&names.0).and(validate_interface_name(&names.1)) {
            Ok(()) => Ok(names),
            Err(why) => Err(format!(
                "the link to a namespace beside the lab's would be named {}, which {why}; expected a shorter --bridge",
                names.0
            )),
        }
    }

    /// Makes the namespace `name`, with a bridge that is connected to the bridge of the lab with the index `spine`. The number
    /// is unlike those of the lab's leaves and other such namespaces.
    ///
    /// # Errors
    /// When the system refuses an operation; nothing is left behind that [`super::clean()`] does not find.
    pub(super) fn make(
        home: &mut Netlink,
        (lab, mark): (&LabConfig, &Mark),
        spine: u32,
        (name, number): (&str, u32),
        has_name: bool,
    ) -> Result<SideNamespace, SystemError> {
        let names = SideNamespace::veth_names(lab, number);
        let (inner, outer) =
            names.map_err(|why| SystemError::refused(format!("connect namespace {name}"), why))?;
        let here = File::open(CURRENT_NAMESPACE)
            .map_err(|error| SystemError::io("open the current namespace", &error))?;
        let made = match has_name {
            true => make_named(name, mark),
            false => make_nameless(mark),
        };
        let inside = made.and_then(|made| {
            let _ = sysctl::quieten_namespace();
            let file = File::open(CURRENT_NAMESPACE)
                .map_err(|error| SystemError::io("open the current namespace", &error))?;
            let mut netlink = Netlink::open()?;
            let bridge = make_bridge(&mut netlink, lab, mark, number)?;
            let monitor = FdbMonitor::open()?;
            Ok((made, file, netlink, bridge, monitor))
        });
        enter_file(&here, || "return from another namespace".to_owned())?;
        let (made, file, netlink, bridge, monitor) = inside?;
        let mut side = SideNamespace {
            name: name.to_owned(),
            file,
            made,
            netlink,
            monitor,
            bridge,
            port: 0,
        };
        side.connect(home, (lab, mark), spine, (&inner, &outer))?;
        Ok(side)
    }

    /// Joins its bridge to that of the lab.
    fn connect(
        &mut self,
        home: &mut Netlink,
        (lab, mark): (&LabConfig, &Mark),
        spine: u32,
        (inner, outer): (&str, &str),
    ) -> Result<(), SystemError> {
        let group = mark.group(GROUP);
        home.create_veth((inner, outer), lab.mtu.into(), group, &mark.alias())?;
        let away = LinkChange {
            netns: Some(self.file.as_fd()),
            ..LinkChange::default()
        };
        home.change_link(inner, &away)?;
        let join = |master| LinkChange {
            up: Some(true),
            master: Some(master),
            ..LinkChange::default()
        };
        self.netlink.change_link(inner, &join(self.bridge))?;
        let _ = sysctl::disable_ipv6(outer);
        home.change_link(outer, &join(spine))?;
        self.port = index_of(outer)?;
        if let Some(filtering) = &lab.vlan_filtering {
            let index = self.netlink.index(inner)?;
            self.netlink.set_trunk_vlans(inner, index, filtering)?;
            home.set_trunk_vlans(outer, self.port, filtering)?;
        }
        if lab.neighbours == Neighbours::Proxy {
            home.proxy_arp(outer, self.port)?;
        }
        Ok(())
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Removes what carries `mark` in it, and its name.
    ///
    /// # Errors
    /// If something is left behind.
    pub(super) fn close(&mut self, mark: &Mark) -> Result<(), SystemError> {
        let links = self.netlink.links()?;
        let removal = remove_marked(&mut self.netlink, &links, |of| of == mark);
        let removed = match removal.failed.into_iter().next() {
            Some(error) => Err(error.advise("tap-reactor clean removes it later")),
            None => Ok(()),
        };
        removed.and(self.made.remove(&self.file))
    }
}

impl AsFd for SideNamespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for SideNamespace {
    fn as_raw_fd(&self) -> RawFd {
        self.monitor.as_raw_fd()
    }
}

/// Makes the bridge of the namespace that the thread is in, and brings it up.
fn make_bridge(
    netlink: &mut Netlink,
    lab: &LabConfig,
    mark: &Mark,
    number: u32,
) -> Result<u32, SystemError> {
    let [a, b, c, d] = mark.pid().to_be_bytes();
    let name = lab.bridge.as_str();
    let index = netlink.create_bridge(&BridgePlan {
        name,
        mac: MacAddr([0x0e, number as u8, a, b, c, d]),
        mtu: lab.mtu.into(),
        group: mark.group(GROUP),
        alias: &mark.alias(),
        vlan_filtering: lab.vlan_filtering.as_ref(),
    })?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.change_link(name, &up)?;
    Ok(index)
}
