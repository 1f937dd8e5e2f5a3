//! A learning switch in memory, whose wires all have the same delay and lose nothing. What else happens to frames is up to
//! the [impairments](crate::fabric::Rule) of the run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use crate::fabric::{
    DropPlace, Environment, Fabric, FdbChange, FdbEvent, FrameDrop, FrameDrops, FrameHead,
    KernelName, Place, Read, Relocated, RelocationError, RxIndex, Write, WriteDrop,
};
use crate::time::{Instant, Now};
use crate::vm::{RxFilter, VmId};
use crate::wire::{EthernetFrame, MacAddr};

/// The time that a frame takes through the switch of `--fabric sim`.
pub const WIRE_DELAY: Duration = Duration::from_micros(10);

/// The reason for the drop of a frame for a VM that is on its way, or that the network has yet to find.
const MOVING: &str = "MOVING";
/// Why a frame is dropped whose destination has moved, and has sent nothing from its new port yet.
const LEFT_PORT: &str = "LEFT_PORT";

/// Checks that a simulation has a place: all VMs are on one leaf at first, and there is another one. What carries frames is the same
/// everywhere.
///
/// # Errors
/// If it has not, with those that it has.
pub(crate) fn check_place(place: &Place) -> Result<(), String> {
    let what = match place {
        Place::Leaf(0 | 1) | Place::Port | Place::Namespace(_) | Place::Back => return Ok(()),
        Place::Leaf(_) => "",
        Place::Bridge(_) => "bridge ",
    };
    Err(format!(
        "there is no {what}{place}; expected leaf0, where all VMs are in a simulation, leaf1, port or netns:NAME"
    ))
}

/// A span in which one VM takes no frames; they are delivered at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stall {
    /// The VM.
    pub vm: VmId,
    /// The beginning.
    pub from: Instant,
    /// The end.
    pub until: Instant,
}

/// Dropped frames that are noted until they are asked for.
const MAX_DROPS: usize = 1 << 16;

/// A switch that learns which address is behind which port, as a bridge does (IEEE 802.1D).
#[derive(Debug)]
pub struct Switch {
    delay: Duration,
    stalls: Vec<Stall>,
    ports: Vec<Option<Port>>,
    table: HashMap<MacAddr, VmId>,
    /// It is told where a VM is that is plugged in.
    is_told: bool,
    /// The receive filters of the VMs' interfaces, if they are simulated.
    rx_index: Option<RxIndex>,
    /// The maximum number of frames in flight to one port.
    queue_length: Option<u32>,
    queue_drops: u64,
    /// The frames that it has dropped since they were last asked for, if anybody asks.
    dropped: Option<FrameDrops>,
    /// Future arrivals, earliest first; simultaneous ones in the order of sending.
    arrivals: BinaryHeap<Reverse<(Instant, u64, VmId)>>,
    /// Frames in flight, by their number in `arrivals`.
    frames: HashMap<u64, Vec<u8>>,
    sent: u64,
    /// VMs that were moved have sent their first frame since, as is to be told.
    learned: Vec<FdbEvent>,
}

#[derive(Debug, Default)]
struct Port {
    /// Frames that have arrived.
    inbox: VecDeque<Vec<u8>>,
    /// The number of frames in flight.
    under_way: u32,
    /// Where it is, if it was moved.
    place: Option<Place>,
    /// It carries nothing before that.
    from: Instant,
    /// It was moved, and the network does not know yet.
    is_astray: bool,
    /// Its link is down.
    is_down: bool,
}

impl Switch {
    /// Creates a switch without ports, through which a frame takes `delay`.
    pub fn new(delay: Duration) -> Switch {
        Switch {
            delay,
            stalls: Vec::new(),
            ports: Vec::new(),
            table: HashMap::new(),
            is_told: false,
            rx_index: None,
            queue_length: None,
            queue_drops: 0,
            dropped: None,
            arrivals: BinaryHeap::new(),
            frames: HashMap::new(),
            sent: 0,
            learned: Vec::new(),
        }
    }

    /// Adds receive filters, which drop the frames that a VM does not accept, as the filter of a TAP does. A flooded frame
    /// then takes time only for the VMs that accept it. Call it before any VM is plugged in.
    pub fn with_rx_filters(mut self) -> Switch {
        self.rx_index = Some(RxIndex::default());
        self
    }

    /// Has the table filled in: it is told of each VM that is plugged in, as bridges are where neighbours are told.
    pub fn with_filled_table(mut self) -> Switch {
        self.is_told = true;
        self
    }

    /// Limits the frames in flight to one port; more are dropped, as by the queue of a TAP.
    pub fn with_queue(mut self, frames: u32) -> Switch {
        self.queue_length = Some(frames);
        self
    }

    /// Adds a stall.
    pub fn stall(&mut self, stall: Stall) {
        self.stalls.push(stall);
    }

    fn carry(&mut self, now: Instant, to: VmId, frame: &[u8]) {
        let Some(Some(port)) = self.ports.get_mut(to.index()) else {
            return;
        };
        if port.is_down {
            return self.note_drop("ENETDOWN", now, to, frame);
        }
        if now < port.from {
            return self.note_drop(MOVING, now, to, frame);
        }
        // What goes to where the VM was is lost.
        let is_broadcast = frame.first().is_some_and(|byte| byte & 1 != 0);
        if port.is_astray && !is_broadcast {
            return self.note_drop(LEFT_PORT, now, to, frame);
        }
        if self
            .queue_length
            .is_some_and(|length| port.under_way >= length)
        {
            self.queue_drops += 1;
            return self.note_drop("FULL_RING", now, to, frame);
        }
        port.under_way += 1;
        let mut at = now + self.delay;
        let mut stalls = self.stalls.iter();
        if let Some(stall) = stalls.find(|s| s.vm == to && s.from <= at && at < s.until) {
            at = stall.until;
        }
        self.sent += 1;
        self.frames.insert(self.sent, frame.to_vec());
        self.arrivals.push(Reverse((at, self.sent, to)));
    }

    /// Notes that a frame is dropped at the port of `vm`, if anybody asks.
    #[cold]
    fn note_drop(&mut self, reason: &str, at: Instant, vm: VmId, frame: &[u8]) {
        let by = (KernelName::new(reason), KernelName::EMPTY);
        self.note_drop_by(by, at, vm, frame);
    }

    fn note_drop_by(
        &mut self,
        (reason, function): (KernelName, KernelName),
        at: Instant,
        vm: VmId,
        frame: &[u8],
    ) {
        let Some(dropped) = &mut self.dropped else {
            return;
        };
        if dropped.drops.len() >= MAX_DROPS {
            dropped.missed += 1;
            return;
        }
        dropped.drops.push(FrameDrop {
            at,
            place: DropPlace::Port(vm),
            reason,
            function,
            frame: FrameHead::new(frame),
        });
    }
}

impl Fabric for Switch {
    type Error = Infallible;

    fn plug(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), Infallible> {
        if let Some(rx_index) = &mut self.rx_index {
            rx_index.add(vm, rx_filter);
        }
        if self.ports.len() <= vm.index() {
            self.ports.resize_with(vm.index() + 1, || None);
        }
        if let Some(port) = self.ports.get_mut(vm.index()) {
            *port = Some(Port::default());
        }
        if self.is_told {
            self.table.insert(rx_filter.mac, vm);
        }
        Ok(())
    }

    fn has_filter(&self) -> bool {
        self.rx_index.is_some()
    }

    fn set_rx_filter(&mut self, vm: VmId, rx_filter: &RxFilter) -> Result<(), Infallible> {
        if let Some(rx_index) = &mut self.rx_index {
            rx_index.remove(vm);
            rx_index.add(vm, rx_filter);
        }
        Ok(())
    }

    /// As a bridge, it forgets what it has learnt on a port whose link goes down, and what is on its way there is lost.
    fn set_link(&mut self, vm: VmId, up: bool) -> Result<(), Infallible> {
        if let Some(Some(port)) = self.ports.get_mut(vm.index()) {
            port.is_down = !up;
            if !up {
                port.inbox.clear();
                self.table.retain(|_, learnt| *learnt != vm);
            }
        }
        Ok(())
    }

    fn unplug(&mut self, vms: &[VmId]) -> Result<(), Infallible> {
        for vm in vms {
            if let Some(port) = self.ports.get_mut(vm.index()) {
                *port = None;
            }
            if let Some(rx_index) = &mut self.rx_index {
                rx_index.remove(*vm);
            }
        }
        // As a bridge forgets what it has learnt on a port that goes.
        let ports = &self.ports;
        let is_there = |vm: &VmId| matches!(ports.get(vm.index()), Some(Some(_)));
        self.table.retain(|_, vm| is_there(vm));
        Ok(())
    }

    fn prepare_place(
        &mut self,
        vm: VmId,
        place: &Place,
    ) -> Result<(), RelocationError<Infallible>> {
        match self.ports.get(vm.index()) {
            Some(Some(_)) => check_place(place).map_err(RelocationError::Unfit),
            _ => Err(RelocationError::Unfit(format!(
                "{vm} has no port; expected a VM that is up"
            ))),
        }
    }

    /// All places are alike: the port carries nothing for `outage`, frames that are on their way to it included, and then what
    /// is for everybody only, until its VM has sent a frame.
    fn relocate(
        &mut self,
        now: Instant,
        vm: VmId,
        to: &Place,
        _: &RxFilter,
        outage: Duration,
    ) -> Result<Relocated, RelocationError<Infallible>> {
        self.prepare_place(vm, to)?;
        let ready = now + outage;
        let (mut from, mut place) = (Place::Leaf(0), to.clone());
        if let Some(Some(port)) = self.ports.get_mut(vm.index()) {
            from = port.place.take().unwrap_or(from);
            if place == Place::Port {
                place.clone_from(&from);
            }
            port.place = Some(place.clone());
            port.from = ready;
            port.is_astray = !self.is_told;
        }
        Ok(Relocated {
            from,
            to: place,
            began: now,
            ready: Some(ready),
            is_introduced: self.is_told,
        })
    }

    fn fdb_events(&mut self, _: Instant) -> Vec<FdbEvent> {
        std::mem::take(&mut self.learned)
    }

    fn read(&mut self, _: impl Now, vm: VmId, buffer: &mut [u8]) -> Read {
        let Some(frame) = self
            .ports
            .get_mut(vm.index())
            .and_then(Option::as_mut)
            .and_then(|port| port.inbox.pop_front())
        else {
            return Read::Empty;
        };
        let length = frame.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), frame.get(..length)) {
            to.copy_from_slice(from);
        }
        Read::Frame(length)
    }

    fn write(&mut self, mut now: impl Now, vm: VmId, frame: &[u8]) -> Write {
        let Ok(header) = EthernetFrame::parse(frame) else {
            return Write::Sent;
        };
        if matches!(self.ports.get(vm.index()), Some(Some(port)) if port.is_down) {
            return Write::Dropped(WriteDrop::LinkDown);
        }
        let at = now.now();
        if let Some(Some(port)) = self.ports.get_mut(vm.index())
            && port.place.is_some()
        {
            if at < port.from {
                self.note_drop(MOVING, at, vm, frame);
                return Write::Sent;
            }
            if std::mem::take(&mut port.is_astray) {
                let change = FdbChange::Learned;
                self.learned.push(FdbEvent { vm, at, change });
            }
        }
        self.table.insert(header.source, vm);
        match self.table.get(&header.destination).copied() {
            Some(port) if !header.destination.is_multicast() => match port == vm {
                true => self.note_drop("SAME_PORT", at, vm, frame),
                false => self.carry(at, port, frame),
            },
            _ => {
                let listeners = self
                    .rx_index
                    .as_ref()
                    .and_then(|rx_index| rx_index.listeners(&header));
                let all = || (0..self.ports.len() as u32).map(VmId).collect();
                for port in listeners.unwrap_or_else(all) {
                    if port != vm {
                        self.carry(at, port, frame);
                    }
                }
            }
        }
        Write::Sent
    }

    fn next_at(&self) -> Option<Instant> {
        self.arrivals.peek().map(|Reverse((at, ..))| *at)
    }

    fn next_receiver(&mut self, now: Instant) -> Option<VmId> {
        let &Reverse((at, number, vm)) = self.arrivals.peek()?;
        if at > now {
            return None;
        }
        self.arrivals.pop();
        let frame = self.frames.remove(&number);
        let Some(frame) = frame else {
            return Some(vm);
        };
        if let Some(Some(port)) = self.ports.get_mut(vm.index()) {
            port.under_way = port.under_way.saturating_sub(1);
            if at < port.from {
                self.note_drop(MOVING, at, vm, &frame);
            } else if port.is_down {
                self.note_drop("ENETDOWN", at, vm, &frame);
            } else {
                port.inbox.push_back(frame);
            }
        } else {
            // As a TAP's queue is emptied when that goes.
            let by = ("NOT_SPECIFIED", "tun_queue_purge");
            let by = (KernelName::new(by.0), KernelName::new(by.1));
            self.note_drop_by(by, at, vm, &frame);
        }
        Some(vm)
    }

    fn watch_drops(&mut self) -> Result<bool, Infallible> {
        self.dropped.get_or_insert_default();
        Ok(true)
    }

    fn frame_drops(&mut self) -> FrameDrops {
        self.dropped
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn drops(&mut self) -> Result<u64, Infallible> {
        Ok(self.queue_drops)
    }

    fn environment(&self) -> Environment {
        Environment::simulated("sim")
    }
}
