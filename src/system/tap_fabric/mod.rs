//! The real fabric: a TAP for each VM, and a Linux bridge or another switch that joins them.

mod io;
mod moves;
mod port;
mod setup;
mod watch;

use std::collections::HashSet;

use mio::Interest;
use nix::sys::signal::Signal;

use self::moves::Moves;
pub use self::moves::OUTAGE_IS_SIMULATED;
use self::port::Port;
use super::clean::{mark_of, remove_marked};
use super::drop_watch::DropWatch;
use super::drops::Reading;
use super::error::SystemError;
use super::filter::{Filter, FilterKind};
use super::lab_config::{LabConfig, Prepared, Sharing};
use super::limits::{ensure_limit, open_descriptors};
use super::link_monitor::LinkMonitor;
use super::mark::Mark;
use super::namespace::Namespace;
use super::namespace_watch::NameWatch;
use super::netlink::Netlink;
use super::netlink::link::Link;
use super::outside::Home;
use super::path_stamps::PathStamper;
use super::poll_handle::FabricHandles;
use super::preflight::check_free;
use super::route_monitor::RouteMonitor;
use super::signals::StopSignals;
use super::switching::attached::check_attached_lab;
use super::switching::bridges::bridge_links;
use super::switching::{External, Switching, forwarding};
use super::sysctl;
use super::tap::Tap;
use crate::fabric::Fabric;
use crate::vm::VmId;

/// Descriptors that a run needs beside those of its TAPs: poll, timer, signals, netlink, a file or two.
const OTHER_DESCRIPTORS: u64 = 32;

/// The TAPs, and what carries frames between them.
///
/// TAPs are persistent, so that the end of the process need not wait for each of them: in a private namespace the kernel
/// removes all at once with the namespace; elsewhere [`Fabric::close`] does, or dropping the fabric after an
/// error, or `tap-reactor clean` if the process was killed.
#[derive(Debug)]
pub struct TapFabric {
    lab: LabConfig,
    polled: FabricHandles,
    taps: Vec<Option<Port>>,
    netlink: Netlink,
    mark: Mark,
    alias: String,
    switching: Box<dyn Switching>,
    filter: Filter,
    at_end: AtEnd,
    warnings: Vec<SystemError>,
    namespace: Namespace,
    /// The kernel gives links queueing disciplines. `None` until the first TAP has shown that.
    has_disciplines: Option<bool>,
    /// Where the last frame that was written goes.
    last_destination: [u8; 6],
    /// The last counters of VMs that have left.
    departed: Vec<(VmId, Reading)>,
    /// Hears of what others do to the links, once it is [wanted](Fabric::watch_links).
    monitor: Option<LinkMonitor>,
    name_watch: Option<NameWatch>,
    /// Hears of dropped frames, once they are [wanted](Fabric::watch_drops).
    drop_watch: Option<DropWatch>,
    /// Stamps frames on their way, while that is [wanted](Fabric::stamp_path).
    path_stamper: Option<PathStamper>,
    /// Hears of changes of routes, once they are [wanted](Fabric::watch_routes).
    routes: Option<RouteMonitor>,
    /// Where VMs are that were moved.
    moves: Moves,
}

/// The fate of the links at the end of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AtEnd {
    /// The kernel, with the namespace; or nobody, because they were there before, or are gone already.
    Leave,
    /// We do: what carries our mark.
    RemoveMarked,
}

impl TapFabric {
    /// Enters the namespace, and makes the bridge there (or, to attach, checks what is there). The poll
    /// reports TAPs whose VM is plugged in, edge-triggered, and what else is watched, by the handles of `polled`.
    ///
    /// # Errors
    /// When the lab can't exist, a name in it is taken, or the system refuses; what had been made is removed again.
    pub fn new(polled: FabricHandles, lab: LabConfig) -> Result<TapFabric, SystemError> {
        lab.validate()?;
        ensure_limit(open_descriptors() + u64::from(lab.own_count()) + OTHER_DESCRIPTORS)?;
        let mark = Mark::new();
        let is_other = lab.sharing == Some(Sharing::Other);
        let must_exist = lab.prepared != Prepared::Nothing || is_other;
        let home = match lab.outside.is_some() && !is_other {
            true => Some(Home::open()?),
            false => None,
        };
        let namespace = Namespace::enter(&lab.netns, &mark, must_exist, lab.sharing)?;
        let mut warnings = Vec::new();
        if namespace.is_ours() && !is_other {
            warnings = sysctl::quieten_namespace();
        }
        let mut fabric = TapFabric {
            polled,
            taps: Vec::with_capacity(lab.vms as usize),
            netlink: Netlink::open()?,
            mark,
            alias: mark.alias(),
            switching: Box::new(External),
            filter: Filter::of(&lab),
            at_end: AtEnd::Leave,
            warnings,
            namespace,
            has_disciplines: None,
            last_destination: [0; 6],
            departed: Vec::new(),
            monitor: None,
            name_watch: None,
            drop_watch: None,
            path_stamper: None,
            routes: None,
            moves: Moves::default(),
            lab,
        };
        if fabric.lab.prepared == Prepared::BridgeAndTaps {
            let bridge = check_attached_lab(&mut fabric.netlink, &fabric.lab)?;
            fabric.switching = Box::new(bridge);
        } else {
            // The TAPs of others are there.
            if !is_other {
                fabric.check_names(fabric.lab.vms)?;
            }
            fabric.make_switching(home)?;
        }
        Ok(fabric)
    }

    /// The index of the bridge, of a tree the spine's, for those who want to look it up. `None` where there is none.
    pub fn bridge_index(&self) -> Option<u32> {
        self.switching.bridge_index()
    }

    /// Waits until every frame of a TAP reaches the others, or a signal comes, which is returned: until the ports forward
    /// that do so only some time after they were made.
    ///
    /// # Errors
    /// When one of them does not in time.
    pub fn wait_until_forwarding(
        &mut self,
        signals: &StopSignals,
    ) -> Result<Option<Signal>, SystemError> {
        let taps = self.taps.iter().flatten().map(|port| port.tap.name());
        let ports = self.switching.slow_ports(taps.collect());
        if ports.is_empty() {
            return Ok(None);
        }
        let switching = &self.switching;
        let limit = switching.time_to_forward() + switching.time_for_carrier();
        forwarding::wait(&mut self.netlink, &ports, limit, signals)
    }

    /// The filter that drops what the VMs' network cards would. The first VM shows which one the kernel supports.
    pub fn filter_kind(&self) -> FilterKind {
        self.filter.kind()
    }

    /// The TAP of `vm`. Public for benchmarks alone, which carry frames over it that no VM sees.
    #[doc(hidden)]
    pub fn tap(&self, vm: VmId) -> Option<&Tap> {
        self.taps.get(vm.index())?.as_ref().map(|port| &port.tap)
    }

    /// Checks that the names of the bridge and of the first `count` TAPs are free. [`TapFabric::new`] does so for
    /// [`LabConfig::vms`] before it makes anything.
    ///
    /// # Errors
    /// The name that is taken.
    pub fn check_names(&mut self, count: u32) -> Result<(), SystemError> {
        let links = self.netlink.links()?;
        let own = self.switching.links(&self.lab);
        let taps = &self.taps;
        let is_plugged = |index: u32| matches!(taps.get(index as usize), Some(Some(_)));
        let bridges: HashSet<String> = bridge_links(&self.lab).collect();
        let is_ours =
            |name: &str| own.contains(name) || self.lab.tap_index(name).is_some_and(is_plugged);
        check_free(
            &self.lab,
            &bridges,
            count,
            links.iter().filter(|link| !is_ours(&link.name)),
        )
    }

    /// Listens to the kernel about changes of links and of the namespace's name. The poll reports them.
    fn listen(&mut self) -> Result<(LinkMonitor, Option<NameWatch>), SystemError> {
        let mut monitor = LinkMonitor::open()?;
        // Listed when changes are heard already, so that none gets lost in between.
        let bridges = self.switching.links(&self.lab);
        for link in self.netlink.links()? {
            let vm = self.lab.tap_index(&link.name).map(VmId);
            let is_plugged = |vm: &VmId| matches!(self.taps.get(vm.index()), Some(Some(_)));
            if vm.as_ref().is_some_and(is_plugged) {
                monitor.expect(&link, vm);
            } else if bridges.contains(&link.name) {
                monitor.expect(&link, None);
            }
        }
        let name_watch = self.namespace.name().map(NameWatch::new).transpose()?;
        let poll = |error| SystemError::io("have the poll tell of changes of links", &error);
        self.polled
            .links
            .register(&monitor, 0, Interest::READABLE)
            .map_err(poll)?;
        if let Some(watch) = &name_watch {
            self.polled
                .links
                .register(watch, 0, Interest::READABLE)
                .map_err(poll)?;
        }
        Ok((monitor, name_watch))
    }

    fn remove_links(&mut self) -> Result<(), SystemError> {
        // Descriptors stay open: closing TAPs one by one takes a hundred times as long.
        let links = self.netlink.links()?;
        let removal = remove_marked(&mut self.netlink, &links, |mark| *mark == self.mark);
        match removal.failed.into_iter().next() {
            Some(error) => Err(error.advise("tap-reactor clean removes it later")),
            None => self.check_nothing_stays(&links),
        }
    }

    /// Checks that no TAP of ours has lost its mark, by which links are removed: whose it is now, somebody else says.
    fn check_nothing_stays(&self, links: &[Link]) -> Result<(), SystemError> {
        let ours = self.taps.iter().flatten().map(|port| port.tap.name());
        let ours: HashSet<&str> = ours.collect();
        let is_marked = |link: &Link| mark_of(link).is_some_and(|mark| mark == self.mark);
        let stays = links
            .iter()
            .find(|link| ours.contains(link.name.as_str()) && !is_marked(link));
        stays.map_or(Ok(()), |link| {
            let why = "somebody has changed its alias, which says that this run made it";
            Err(SystemError::refused(format!("remove {}", link.name), why))
        })
    }
}

impl Drop for TapFabric {
    fn drop(&mut self) {
        // After an error, which is reported in place of this one. `tap-reactor clean` finds what is left.
        let _ = self.close();
    }
}
