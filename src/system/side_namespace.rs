//! A network namespace beside that of the lab, to which VMs are moved: as another host, with a bridge of its own that a veth
//! pair connects to the lab's.
//!
//! In a lab whose namespace ends with the process it has no name either, and ends with the process. Elsewhere it has one, made
//! as [`super::namespace`] makes names: marked and with the presence of the run, so that `tap-reactor clean` finds it, and what
//! was moved into it, after the run was killed.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

use super::clean::remove_marked;
use super::error::SystemError;
use super::fdb_monitor::FdbMonitor;
use super::lab_config::LabConfig;
use super::mark::Mark;
use super::name_rules::validate_interface_name;
use super::namespace::{Made, enter_file, make_named, make_nameless};
use super::namespace_file::CURRENT_NAMESPACE;
use super::netlink::Netlink;
use super::netlink::link_requests::LinkChange;
use super::switching::bridges::Maker;
use super::sysctl;
use crate::topology::uplink_names;
use crate::wire::MacAddr;

/// Descriptors that a namespace takes: itself, its name, its presence, the connection to the kernel, and the monitor.
pub(crate) const DESCRIPTORS_OF_A_NAMESPACE: u64 = 5;

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

    /// Makes the namespace `name`, with a bridge that is connected to the bridge of the lab with the index `spine`, where
    /// `home` makes links. The number is unlike those of the lab's leaves and other such namespaces.
    ///
    /// # Errors
    /// When the system refuses an operation; nothing is left behind that [`super::clean()`] does not find.
    pub(super) fn make(
        home: &mut Maker<'_>,
        spine: u32,
        (name, number): (&str, u32),
        has_name: bool,
    ) -> Result<SideNamespace, SystemError> {
        let names = SideNamespace::veth_names(home.lab, number);
        let (inner, outer) =
            names.map_err(|why| SystemError::refused(format!("connect namespace {name}"), why))?;
        let here = File::open(CURRENT_NAMESPACE)
            .map_err(|error| SystemError::io("open the current namespace", &error))?;
        let made = match has_name {
            true => make_named(name, home.mark),
            false => make_nameless(home.mark),
        };
        let lab = (home.lab, home.mark);
        let inside = made.and_then(|made| SideNamespace::furnish(made, lab, (name, number)));
        enter_file(&here, || "return from another namespace".to_owned())?;
        let mut side = inside?;
        if let Err(error) = side.connect(home, spine, (&inner, &outer)) {
            // The first error is the one to tell.
            let _ = side.close(home.mark);
            return Err(error);
        }
        Ok(side)
    }

    /// Makes the bridge in a namespace that the thread is in.
    fn furnish(
        made: Made,
        (lab, mark): (&LabConfig, &Mark),
        (name, number): (&str, u32),
    ) -> Result<SideNamespace, SystemError> {
        let _ = sysctl::quieten_namespace();
        let [a, b, c, d] = mark.pid().to_be_bytes();
        let mac = MacAddr([0x0e, number as u8, a, b, c, d]);
        let furnished = || {
            let file = File::open(CURRENT_NAMESPACE)
                .map_err(|error| SystemError::io("open the current namespace", &error))?;
            let mut netlink = Netlink::open()?;
            let bridge = Maker {
                netlink: &mut netlink,
                lab,
                mark,
                silence: false,
                warnings: &mut Vec::new(),
            }
            .bridge(&lab.bridge, mac, false)?;
            Ok((file, netlink, bridge, FdbMonitor::open()?))
        };
        match furnished() {
            Ok((file, netlink, bridge, monitor)) => Ok(SideNamespace {
                name: name.to_owned(),
                file,
                made,
                netlink,
                monitor,
                bridge,
                port: 0,
            }),
            Err(error) => {
                made.abandon();
                Err(error)
            }
        }
    }

    /// Joins its bridge to that of the lab by a pair of links, or makes none.
    fn connect(
        &mut self,
        home: &mut Maker<'_>,
        spine: u32,
        (inner, outer): (&str, &str),
    ) -> Result<(), SystemError> {
        home.veth((inner, outer))?;
        let joined = self.join(home, spine, (inner, outer));
        if joined.is_err()
            && let Ok(Some(link)) = home.netlink.link(outer)
        {
            // Its other end goes with it, wherever that is.
            let _ = home.netlink.delete_link(&link);
        }
        joined
    }

    fn join(
        &mut self,
        home: &mut Maker<'_>,
        spine: u32,
        (inner, outer): (&str, &str),
    ) -> Result<(), SystemError> {
        home.netlink
            .change_link(inner, &LinkChange::away_to(&self.file))?;
        let mut inside = Maker {
            netlink: &mut self.netlink,
            lab: home.lab,
            mark: home.mark,
            silence: false,
            warnings: &mut Vec::new(),
        };
        // What is asked here is answered at the other end: the bridge inside floods nothing to a port that answers.
        inside.trunk(inner, self.bridge)?;
        self.port = home.port(outer, spine)?;
        Ok(())
    }

    /// The number of its inode.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn inode(&self) -> Result<u64, SystemError> {
        let about = self.file.metadata();
        about
            .map(|about| about.ino())
            .map_err(|error| SystemError::io(format!("look up namespace {}", self.name), &error))
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
