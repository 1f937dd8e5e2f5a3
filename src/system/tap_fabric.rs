//! The real fabric: a TAP for each VM, and a Linux bridge or another switch that joins them.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::bridges::{Bridges, Maker, bridge_links, silence_link};
use super::clean::remove_marked;
use super::error::SystemError;
use super::filter;
use super::lab::{LabConfig, Neighbours, Switching};
use super::limits::ensure_descriptors;
use super::links::{LinkChange, index_of};
use super::mark::Mark;
use super::namespace::Namespace;
use super::netlink::Netlink;
use super::new_lab::check_free;
use super::overflow::{Reading, overflows};
use super::prepared::{attach_tap, check_prepared_lab};
use super::sysctl;
use super::tap::Tap;
use super::xdp::XdpSwitch;
use crate::fabric::{Fabric, Read, Station, Write, WriteDrop};
use crate::topology::Topology;
use crate::vm::VmId;

/// The TAP of `vm0` is registered with this token; smaller ones are for timers and the like.
pub const FIRST_TAP_TOKEN: usize = 16;

/// Descriptors that a run needs beside those of its TAPs: poll, timer, signals, netlink, a file or two.
const OTHER_DESCRIPTORS: u64 = 32;

/// TAPs that are removed in one go: half a second in which nobody else on the host can change a link.
const TAPS_OF_A_GROUP: u32 = 1000;
/// The first of the run's groups has the bridges, the last what is just being removed; the others have TAPs.
const TAP_GROUPS: std::ops::Range<u32> = 1..255;
const LEAVING_GROUP: u32 = TAP_GROUPS.end;

/// The token with which the TAP of `vm` is registered.
pub const fn token_of(vm: VmId) -> Token {
    Token(vm.index() + FIRST_TAP_TOKEN)
}

/// The VM whose TAP is registered with `token`; `None` if that is something else's.
pub fn vm_of(token: Token) -> Option<VmId> {
    let index = token.0.checked_sub(FIRST_TAP_TOKEN)?;
    u32::try_from(index).ok().map(VmId)
}

/// The TAPs, and what carries frames between them.
///
/// TAPs are persistent, so that the end of the process need not wait for each of them: in a private namespace the kernel
/// removes all at once with the namespace; elsewhere [`TapFabric::remove_all`] does, or dropping the fabric after an
/// error, or `tap-reactor clean` if the process was killed.
#[derive(Debug)]
pub struct TapFabric {
    lab: LabConfig,
    registry: Registry,
    taps: Vec<Option<Port>>,
    netlink: Netlink,
    mark: Mark,
    alias: String,
    carrier: Carrier,
    at_end: AtEnd,
    warnings: Vec<SystemError>,
    namespace: Namespace,
    /// Whether the kernel gives links queueing disciplines, as far as is known.
    has_disciplines: bool,
    /// Where the last frame that was written goes.
    last_destination: [u8; 6],
}

/// The group of the TAP of `vm` among the groups of the run.
fn tap_group(vm: VmId) -> u32 {
    TAP_GROUPS.start + vm.0 / TAPS_OF_A_GROUP % (TAP_GROUPS.end - TAP_GROUPS.start)
}

/// What carries frames from TAP to TAP.
#[derive(Debug)]
enum Carrier {
    /// The bridge with that index, which was there before.
    Prepared(u32),
    /// Bridges of ours.
    Bridges(Bridges),
    /// A program on each TAP.
    Xdp(Box<XdpSwitch>),
    /// Whatever somebody else attaches the TAPs to.
    External,
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
            carrier: Carrier::External,
            at_end: AtEnd::Leave,
            warnings,
            namespace,
            has_disciplines: true,
            last_destination: [0; 6],
            lab,
        };
        if fabric.lab.attach {
            fabric.carrier =
                Carrier::Prepared(check_prepared_lab(&mut fabric.netlink, &fabric.lab)?);
        } else {
            fabric.check_names(fabric.lab.vms)?;
            fabric.make_carrier()?;
        }
        Ok(fabric)
    }

    /// The index of the bridge, of a tree the spine's, for those who want to look it up. `None` where there is none.
    pub fn bridge_index(&self) -> Option<u32> {
        match &self.carrier {
            Carrier::Prepared(index) => Some(*index),
            Carrier::Bridges(bridges) => Some(bridges.spine()),
            Carrier::Xdp(_) | Carrier::External => None,
        }
    }

    /// The tree of bridges that the TAPs are on; `None` where there is none of ours.
    pub fn topology(&self) -> Option<Topology> {
        match &self.carrier {
            Carrier::Bridges(bridges) => Some(bridges.topology()),
            Carrier::Prepared(_) | Carrier::Xdp(_) | Carrier::External => None,
        }
    }

    /// Makes what carries frames from TAP to TAP.
    fn make_carrier(&mut self) -> Result<(), SystemError> {
        if !self.namespace.ends_with_us() {
            self.at_end = AtEnd::RemoveMarked;
        }
        if self.namespace.is_ours() {
            // Whoever pings the bridge's address from inside the namespace goes through the loopback interface.
            let up = LinkChange {
                up: Some(true),
                ..LinkChange::default()
            };
            self.netlink.change_link("lo", &up)?;
        }
        if self.lab.switching == Switching::Xdp {
            self.carrier = Carrier::Xdp(Box::new(XdpSwitch::load(self.lab.vms)?));
        }
        let Some(Ok(topology)) = self.lab.topology() else {
            return Ok(());
        };
        let mut maker = Maker {
            netlink: &mut self.netlink,
            lab: &self.lab,
            mark: &self.mark,
            silence: !self.namespace.is_ours(),
            warnings: &mut self.warnings,
        };
        self.carrier = Carrier::Bridges(Bridges::make(&mut maker, topology)?);
        Ok(())
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
        let has_bridges = matches!(self.carrier, Carrier::Bridges(_));
        let taps = &self.taps;
        let is_plugged = |index: u32| matches!(taps.get(index as usize), Some(Some(_)));
        let bridges: HashSet<String> = bridge_links(&self.lab).collect();
        let is_ours = |name: &str| {
            has_bridges && bridges.contains(name)
                || self.lab.tap_index(name).is_some_and(is_plugged)
        };
        check_free(
            &self.lab,
            &bridges,
            count,
            links.iter().filter(|link| !is_ours(&link.name)),
        )
    }

    fn make_tap(
        &mut self,
        vm: VmId,
        name: &str,
        station: &Station,
    ) -> Result<(Tap, usize), SystemError> {
        let tap = Tap::create(name)?;
        if self.has_filters() {
            tap.attach_filter(&mut filter::program(station))?;
        }
        let index = index_of(name)?;
        if self.has_disciplines {
            // A TAP queues by itself, and what a discipline would hold beside is a quarter of its memory. Not every kernel
            // has them, and a run does without.
            self.has_disciplines = self.netlink.remove_discipline(index).is_ok();
        }
        if !self.namespace.is_ours() {
            silence_link(name, &mut self.warnings);
        }
        let mut change = LinkChange {
            up: Some(true),
            mtu: Some(self.lab.mtu.into()),
            group: Some(self.mark.group(tap_group(vm))),
            alias: Some(&self.alias),
            tx_queue_length: self.lab.tx_queue_length,
            ..LinkChange::default()
        };
        let mut place = 0;
        let mut operation = format!("configure link {name}");
        match &mut self.carrier {
            Carrier::Bridges(bridges) => {
                place = bridges.choose(vm);
                if let Some((bridge, index)) = bridges.get(place) {
                    change.master = Some(index);
                    operation = format!("add {name} to bridge {bridge}");
                }
            }
            Carrier::Xdp(switch) => {
                switch.add(vm, &tap, station)?;
                change.xdp = Some(switch.program()?);
                operation = format!("put the XDP switch on {name}");
            }
            Carrier::Prepared(_) | Carrier::External => {}
        }
        self.netlink
            .try_change_link(name, &change)
            .map_err(|refusal| refusal.of(operation))?;
        if let Some(filtering) = &self.lab.vlan_filtering {
            let vlan = filtering.of(vm);
            self.netlink.set_port_vlan(name, index, vlan)?;
        }
        self.introduce(vm, (name, index), place, station)?;
        Ok((tap, place))
    }

    /// Fills the bridges' tables for `vm`, where that is wanted.
    fn introduce(
        &mut self,
        vm: VmId,
        (name, index): (&str, u32),
        place: usize,
        station: &Station,
    ) -> Result<(), SystemError> {
        let Carrier::Bridges(bridges) = &self.carrier else {
            return Ok(());
        };
        if self.lab.neighbours == Neighbours::Asked {
            return Ok(());
        }
        let ways = bridges.ways_to(place, index, self.lab.callers.leaves_of(vm));
        if self.lab.neighbours == Neighbours::Told {
            return self.netlink.teach_bridges(name, station.mac, &ways);
        }
        self.netlink.proxy_arp(name, index)?;
        self.netlink.introduce(name, station, &ways)
    }

    /// How many frames each VM did not get because its TAP's queue was full, read for all of them at once. To be asked
    /// at the end of a run: what lies unread in a queue is lost by it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn queue_drops(&mut self) -> Result<Vec<(VmId, u64)>, SystemError> {
        let links = self.netlink.links()?;
        let has_filters = self.has_filters();
        let mut found = Vec::with_capacity(self.taps.len());
        for link in &links {
            let Some(vm) = self.lab.tap_index(&link.name).map(VmId) else {
                continue;
            };
            let Some(Some(port)) = self.taps.get_mut(vm.index()) else {
                continue;
            };
            if link.tx_dropped > 0 && has_filters {
                port.read_all(link.tx_queue_length);
            }
            let reading = Reading {
                tx_dropped: link.tx_dropped,
                queue_length: link.tx_queue_length,
                longest_row: port.longest_row,
            };
            found.push((vm, reading));
        }
        found.sort_unstable_by_key(|(vm, _)| *vm);
        let readings: Vec<Reading> = found.iter().map(|(_, reading)| *reading).collect();
        let overflows = overflows(&readings, has_filters);
        Ok(found.iter().map(|(vm, _)| *vm).zip(overflows).collect())
    }

    /// Whether a filter stands before each TAP. Not where somebody else has made it: the filter would outlive us. And not
    /// behind XDP, which passes it by.
    fn has_filters(&self) -> bool {
        self.lab.filter && !self.lab.attach && self.lab.switching != Switching::Xdp
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

    fn plug(&mut self, vm: VmId, station: &Station) -> Result<(), SystemError> {
        let name = self.lab.tap_name(vm.0);
        let operation = || format!("plug {vm} into {name}");
        if matches!(self.taps.get(vm.index()), Some(Some(_))) {
            return Err(SystemError::refused(
                operation(),
                "it is plugged in already",
            ));
        }
        if let Carrier::Bridges(bridges) = &self.carrier
            && let Some(bridge) = bridges.owner_of(station.mac)
        {
            let why = format!("{} is the address of bridge {bridge} itself", station.mac);
            return Err(SystemError::refused(operation(), why));
        }
        let (tap, place) = match self.carrier {
            Carrier::Prepared(bridge) => {
                (attach_tap(&mut self.netlink, &self.lab, bridge, &name)?, 0)
            }
            _ => self.make_tap(vm, &name, station)?,
        };
        register(&self.registry, vm, &tap).map_err(|error| SystemError::io(operation(), &error))?;
        if !self.lab.attach {
            // Last, so that until here closing the descriptor removes the TAP, whatever went wrong.
            tap.set_persistent(true)?;
        }
        if self.taps.len() <= vm.index() {
            self.taps.resize_with(vm.index() + 1, || None);
        }
        self.taps[vm.index()] = Some(Port::new(tap, place));
        if let Carrier::Bridges(bridges) = &mut self.carrier {
            bridges.joined(place);
        }
        Ok(())
    }

    fn tune(&mut self, vm: VmId, station: &Station) -> Result<(), SystemError> {
        let has_filters = self.has_filters();
        let Some(Some(port)) = self.taps.get(vm.index()) else {
            return Ok(());
        };
        if let Carrier::Xdp(switch) = &mut self.carrier {
            switch.remove(vm);
            return switch.add(vm, &port.tap, station);
        }
        if has_filters {
            port.tap.attach_filter(&mut filter::program(station))?;
        }
        Ok(())
    }

    /// Holds up the caller for 20 ms, and half a millisecond more for each VM: the kernel waits for its own readers of a
    /// link before it removes it (`synchronize_net()`), once for all that go together.
    fn unplug(&mut self, vms: &[VmId]) -> Result<(), SystemError> {
        let mut leaving: Vec<Port> = vms
            .iter()
            .filter_map(|vm| self.taps.get_mut(vm.index()).and_then(Option::take))
            .collect();
        if let Carrier::Xdp(switch) = &mut self.carrier {
            vms.iter().for_each(|vm| switch.remove(*vm));
        }
        if let Carrier::Bridges(bridges) = &mut self.carrier {
            leaving.iter().for_each(|port| bridges.left(port.place));
        }
        // Closing the descriptor takes a TAP out of the poll, and one that does not persist out of the system.
        if self.lab.attach {
            return Ok(());
        }
        if let [port] = leaving.as_mut_slice() {
            return port.tap.set_persistent(false);
        }
        let group = self.mark.group(LEAVING_GROUP);
        let change = LinkChange {
            group: Some(group),
            ..LinkChange::default()
        };
        for port in &leaving {
            self.netlink.change_link(port.tap.name(), &change)?;
        }
        self.netlink.delete_group(group)
    }

    fn announce(&mut self, vm: VmId, announced: bool) -> io::Result<()> {
        match self.taps.get(vm.index()) {
            Some(Some(port)) if announced => register(&self.registry, vm, &port.tap),
            Some(Some(port)) => self
                .registry
                .deregister(&mut SourceFd(&port.tap.as_raw_fd())),
            _ => Ok(()),
        }
    }

    #[inline]
    fn read(&mut self, vm: VmId, buffer: &mut [u8]) -> Read {
        let Some(Some(port)) = self.taps.get_mut(vm.index()) else {
            return Read::Failed;
        };
        let read = port.tap.read(buffer);
        match read {
            // Read where it was written a moment ago: as many came as went, and the queue is as long as before.
            Read::Frame(_) if buffer.get(..6) == Some(&self.last_destination) => {
                self.last_destination = [0; 6];
            }
            Read::Frame(_) => port.count_read(),
            Read::Empty | Read::Failed => port.row = 0,
        }
        read
    }

    #[inline]
    fn write(&mut self, vm: VmId, frame: &[u8]) -> Write {
        if let Some(destination) = frame.first_chunk() {
            self.last_destination = *destination;
        }
        match self.taps.get(vm.index()) {
            Some(Some(port)) => port.tap.write(frame),
            _ => Write::Dropped(WriteDrop::LinkDown),
        }
    }
}

/// Has the poll tell when a frame comes for `vm`.
fn register(registry: &Registry, vm: VmId, tap: &Tap) -> io::Result<()> {
    let mut source = SourceFd(&tap.as_raw_fd());
    registry.register(&mut source, token_of(vm), Interest::READABLE)
}

/// The port of one VM.
#[derive(Debug)]
struct Port {
    tap: Tap,
    /// The bridge that it is on, as [`Bridges::choose`] says.
    place: usize,
    /// Frames read since the queue was found empty, those apart that were read where they had just been written.
    row: u32,
    /// The most that ever was.
    longest_row: u32,
}

impl Port {
    fn new(tap: Tap, place: usize) -> Port {
        Port {
            tap,
            place,
            row: 0,
            longest_row: 0,
        }
    }

    /// Takes note that a frame was read from the queue.
    #[inline]
    fn count_read(&mut self) {
        self.row = self.row.saturating_add(1);
        self.longest_row = self.longest_row.max(self.row);
    }

    /// Reads what is left, at most `length` frames, for the sake of the count.
    fn read_all(&mut self, length: u32) {
        let mut cut_off = [0; 1];
        for _ in 0..length {
            if !matches!(self.tap.read(&mut cut_off), Read::Frame(_)) {
                return;
            }
            self.count_read();
        }
    }
}
