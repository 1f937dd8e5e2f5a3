//! The places of a lab that VMs can move to: checked before anything is changed, and made where they are not there yet.

use std::os::fd::AsRawFd;

use mio::Interest;

use super::super::super::error::SystemError;
use super::super::super::fdb_monitor::FdbMonitor;
use super::super::super::lab_config::{FabricKind, Prepared};
use super::super::super::limits::{ensure_limit, open_descriptors};
use super::super::super::netlink::background::Background;
use super::super::super::netlink::link::{Link, LinkKind};
use super::super::super::side_namespace::{DESCRIPTORS_OF_A_NAMESPACE, SideNamespace};
use super::super::super::switching::Spot;
use super::super::TapFabric;
use super::{Failure, MAX_NAMESPACES, unfit};
use crate::fabric::Place;
use crate::vm::VmId;

impl TapFabric {
    /// Where `vm` is now, in the words of an option.
    pub(super) fn present_place(&self, vm: VmId) -> Place {
        if let Some(place) = self.moves.places.get(&vm) {
            return place.clone();
        }
        let spot = self.switching.spot_of(vm);
        match spot {
            Some(Spot::Leaf(number)) if self.has_leaves() => Place::Leaf(number as u32),
            _ => Place::Bridge(self.lab.bridge.clone()),
        }
    }

    pub(super) fn has_leaves(&self) -> bool {
        let topology = self.switching.topology();
        topology.is_some_and(|topology| topology.leaves() > 0)
    }

    /// Checks that VMs can go to a place, makes a namespace there if it is one that does not exist yet, and listens to what
    /// bridges learn.
    pub(in super::super) fn make_place(&mut self, to: &Place) -> Result<(), Failure> {
        self.check(to)?;
        if let Place::Namespace(name) = to
            && self.moves.find(name).is_none()
        {
            self.make_beside(name)?;
        }
        if self.moves.monitor.is_none() {
            let monitor = FdbMonitor::open()?;
            self.report_fdb(&monitor)?;
            self.moves.monitor = Some(monitor);
            self.moves.background = self.open_background();
        }
        Ok(())
    }

    /// A connection for changes of links in the background; `None` where the kernel does not let this process have one.
    fn open_background(&self) -> Option<Background> {
        let background = Background::open().ok()?;
        let polled = &self.polled.moves;
        let registered = polled.register(&background, 0, Interest::READABLE);
        registered.is_ok().then_some(background)
    }

    fn report_fdb(&self, monitor: &impl AsRawFd) -> Result<(), SystemError> {
        let what = "have the poll tell of what bridges learn";
        self.polled
            .links
            .register(monitor, 0, Interest::READABLE)
            .map_err(|error| SystemError::io(what, &error))
    }

    fn make_beside(&mut self, name: &str) -> Result<(), Failure> {
        let Some(spine) = self.switching.bridge_index() else {
            return Err(unfit("the lab has no bridge of its own"));
        };
        ensure_limit(open_descriptors() + DESCRIPTORS_OF_A_NAMESPACE)?;
        let leaves = self.switching.topology().map_or(0, |tree| tree.leaves());
        let number = leaves + self.moves.beside.len() as u32;
        let has_name = !self.namespace.ends_with_us();
        let mut made = SideNamespace::make(&mut self.maker(), spine, (name, number), has_name)?;
        if let Err(error) = self.watch_beside(&made) {
            // The first error is the one to tell.
            let _ = made.close(&self.mark);
            return Err(error.into());
        }
        self.moves.beside.push(made);
        Ok(())
    }

    /// Listens to what bridges learn in a namespace that was made, and for what is dropped there, if it does in that of the lab.
    fn watch_beside(&mut self, made: &SideNamespace) -> Result<(), SystemError> {
        if let Some(watch) = &mut self.drop_watch {
            watch.add_namespace(made.inode()?)?;
        }
        self.report_fdb(made)
    }

    /// Checks what can be checked, and changes nothing.
    fn check(&mut self, to: &Place) -> Result<(), Failure> {
        match (self.lab.fabric, self.lab.prepared) {
            (FabricKind::Bridge, Prepared::Nothing) => {}
            (FabricKind::Bridge, Prepared::Bridge) => {
                return Err(unfit(
                    "the bridge of --join is somebody else's; expected a lab whose bridges the program has made",
                ));
            }
            (FabricKind::Bridge, Prepared::BridgeAndTaps) => {
                return Err(unfit(
                    "the TAPs of --attach are somebody else's; expected a lab whose TAPs and bridges the program has made",
                ));
            }
            (kind, _) => {
                return Err(unfit(format!(
                    "--fabric {kind} moves no VMs; expected --fabric bridge or sim"
                )));
            }
        }
        match to {
            Place::Leaf(number) => self.check_leaf(*number)?,
            Place::Bridge(name) => self.check_bridge(name)?,
            Place::Namespace(name) => self.check_namespace(name)?,
            Place::Port | Place::Back => {}
        }
        Ok(())
    }

    /// The same place by the name that the lab itself has for it.
    pub(super) fn named(&self, to: &Place) -> Place {
        match self.switching.find(to) {
            Some(Spot::Leaf(number)) if self.has_leaves() => Place::Leaf(number as u32),
            _ => to.clone(),
        }
    }

    fn check_leaf(&self, number: u32) -> Result<(), Failure> {
        let leaves = self.switching.topology().map_or(0, |tree| tree.leaves());
        match leaves {
            0 => Err(unfit(format!(
                "there is no leaf{number}: all VMs are on one bridge; expected fewer --ports-per-bridge than VMs"
            ))),
            leaves if number >= leaves => Err(unfit(format!(
                "there is no leaf{number}; expected leaf0 to leaf{}",
                leaves - 1
            ))),
            _ => Ok(()),
        }
    }

    fn check_bridge(&mut self, name: &str) -> Result<(), Failure> {
        if self
            .switching
            .find(&Place::Bridge(name.to_owned()))
            .is_some()
        {
            return Ok(());
        }
        if !self.namespace.is_ours() {
            return Err(unfit(format!(
                "bridge {name} is none of the lab's, and its namespace is somebody else's; expected a bridge of the lab, or \
                 a namespace that the program has made"
            )));
        }
        let links = self.netlink.links()?;
        let is_bridge = |link: &&Link| link.kind == LinkKind::Bridge;
        match links.iter().find(|link| link.name == name) {
            Some(link) if link.kind != LinkKind::Bridge => {
                Err(unfit(format!("{name} is {}; expected a bridge", link.kind)))
            }
            Some(link) if !link.up => Err(unfit(format!(
                "bridge {name} is down; expected one that is up (ip link set {name} up)"
            ))),
            Some(_) => Ok(()),
            None => {
                let bridges = links.iter().filter(is_bridge);
                let bridges: Vec<&str> = bridges.map(|link| link.name.as_str()).collect();
                Err(unfit(format!(
                    "there is no bridge {name} in the lab's namespace; expected one of {}",
                    bridges.join(", ")
                )))
            }
        }
    }

    fn check_namespace(&self, name: &str) -> Result<(), Failure> {
        if self.moves.find(name).is_some() {
            return Ok(());
        }
        self.lab.check_beside(name).map_err(unfit)?;
        if self.moves.beside.len() >= MAX_NAMESPACES {
            return Err(unfit(format!(
                "there are {MAX_NAMESPACES} namespaces beside the lab's; expected no further one"
            )));
        }
        SideNamespace::veth_names(&self.lab, u32::from(u16::MAX)).map_err(unfit)?;
        Ok(())
    }
}
