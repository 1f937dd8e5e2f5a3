//! Owns the VMs and their flows, and routes a frame or a deadline to one of them.
//!
//! A [`Hypervisor`] waits for nothing and reads no clock: a driver does, the [`crate::reactor`] on real TAPs or the
//! [`crate::sim`] in virtual time. The driver reads a frame and calls [`Hypervisor::receive`], asks
//! [`Hypervisor::next_step`] for what is due, sends what either returns, and sleeps until
//! [`Hypervisor::next_deadline`].

mod accounts;
mod drop_reason;
mod due;
mod ending;
mod frames;
mod journal;
mod moves;
mod phases;
mod record;
mod resolution;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::fabric::Fabric;
use crate::load::{FlowId, Load};
use crate::record::Recorder;
use crate::time::Instant;
use crate::vm::{Event, PingId, SessionConfig, Vm, VmConfig, VmId};
use crate::wire::MacAddr;

use self::journal::Journal;
use self::moves::Moves;
pub use self::moves::{Change, Move, Moved};
pub use self::phases::{ADDRESS_WAIT, Phase};
use self::resolution::Resolution;
pub use self::resolution::{ANSWER_WAIT, FindNeighbours};

/// Bytes of fragments that all VMs together hold at once. A single one holds at most
/// [`crate::vm::MAX_REASSEMBLY_BYTES`] of others' fragments and [`crate::vm::MAX_OUTGOING`] datagrams of its own.
pub const MAX_FRAGMENT_BYTES: usize = 256 << 20;
/// A frame to send, at the start of the buffer that was passed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The VM that sends it.
    pub vm: VmId,
    /// Its length in bytes.
    pub length: usize,
    /// The ping that it starts, to be stamped with [`Hypervisor::stamp_sent`] right before the write.
    pub ping: Option<PingId>,
    /// Whether the same flow has another frame to send right now.
    pub more: bool,
}

/// What came of one deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A frame is to be sent.
    Send(Outgoing),
    /// Nothing is to be sent.
    Quiet,
}

impl From<Option<Outgoing>> for Step {
    fn from(outgoing: Option<Outgoing>) -> Step {
        outgoing.map_or(Step::Quiet, Step::Send)
    }
}

/// Who pings whom, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowConfig {
    /// The VM that sends the echo requests.
    pub source: VmId,
    /// Their destination, payload and timeout.
    pub session: SessionConfig,
    /// The VM that they go to, if it is one. When a DHCP server gives it an address, they go to that address.
    pub target: Option<VmId>,
}

/// A VM and what the hypervisor knows of it.
#[derive(Debug)]
struct Guest {
    vm: Vm,
    /// When it was made, until the first of its pings is answered.
    booting_since: Option<Instant>,
    /// The flow of each of its sessions.
    flows: Vec<FlowId>,
    /// The earliest entry for this VM among the timers.
    armed: Option<Instant>,
    /// Whether it stands in the queue of VMs that have something to do at once.
    is_ready: bool,
    /// Bytes of fragments that it held when it was last looked at.
    fragment_bytes: usize,
    /// Whether it had no address when it was last looked at, and may come by one.
    is_configuring: bool,
    /// The flows that go to it.
    targeted_by: Vec<FlowId>,
}

/// Where a flow's pings live.
#[derive(Debug)]
struct FlowState {
    /// `None` while an end of the flow is not there yet.
    ping: Option<PingOwner>,
    /// Whether there is a timer for its oldest ping.
    is_armed: bool,
}

#[derive(Clone, Copy, Debug)]
struct PingOwner {
    vm: VmId,
    session: crate::vm::SessionId,
}

/// What a timer is for. Timers are never cancelled: one that comes too early sets itself anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// The oldest ping of a flow may be overdue.
    PingTimeout(FlowId),
    /// A VM has something to do.
    Vm(VmId),
}

/// The VMs, their flows, and the fabric they are plugged into.
#[derive(Debug)]
pub struct Hypervisor<F> {
    fabric: F,
    /// By [`VmId`], which is never given twice: what is still on its way to a VM that was removed finds nobody.
    guests: Vec<Option<Guest>>,
    stations: FxHashMap<MacAddr, VmId>,
    load: Load,
    /// The phases to come.
    phases: VecDeque<Phase>,
    /// When the present phase ends at the latest.
    phase_end: Option<Instant>,
    /// Whether the present phase lasts as long as its duration, however little there is to do in it.
    lasts: bool,
    /// Whether pings of the present phase are still to be due.
    is_scheduled: bool,
    /// How long the first phase waits for VMs that have no address yet.
    address_wait: Duration,
    /// Since when it does, and until when.
    held: Option<(Instant, Instant)>,
    /// How many VMs have no address yet, and may come by one.
    configuring: usize,
    /// The search for neighbours before flows begin.
    resolution: Resolution,
    flows: Vec<FlowState>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Flows that have sent and may need a timer.
    unarmed: Vec<FlowId>,
    ready: VecDeque<VmId>,
    /// Bytes of fragments that all VMs hold.
    fragment_bytes: usize,
    /// VMs that come up or leave while others ping.
    moves: Moves,
    /// What [`Hypervisor::recorder`] brings up to date first.
    recorder: Recorder,
    journal: Journal,
    keeps_events: bool,
    /// What happened last, if somebody wants to know.
    event: Option<(VmId, Event)>,
}

impl<F: Fabric> Hypervisor<F> {
    /// A hypervisor without VMs, which will record with `recorder`, and whose random choices follow from `seed`.
    pub fn new(fabric: F, recorder: Recorder, seed: u64) -> Self {
        Hypervisor {
            fabric,
            guests: Vec::new(),
            stations: FxHashMap::default(),
            load: Load::new(seed),
            phases: VecDeque::new(),
            phase_end: None,
            lasts: false,
            is_scheduled: false,
            address_wait: ADDRESS_WAIT,
            held: None,
            configuring: 0,
            resolution: Resolution::default(),
            flows: Vec::new(),
            timers: BinaryHeap::new(),
            unarmed: Vec::new(),
            ready: VecDeque::new(),
            fragment_bytes: 0,
            moves: Moves::default(),
            recorder,
            journal: Journal::new(),
            keeps_events: false,
            event: None,
        }
    }

    /// Makes a VM that starts at `now` as `config` says, plugged into the fabric: on the real one, a
    /// TAP opened through `/dev/net/tun` and joined to the bridge.
    ///
    /// # Errors
    /// When the fabric can't give it a port; the VM does not exist then.
    pub fn create_vm(&mut self, now: Instant, config: VmConfig) -> Result<VmId, F::Error> {
        let id = VmId(self.guests.len() as u32);
        self.create_vm_as(id, now, config)?;
        Ok(id)
    }

    /// The same with a number of the caller's choice, which no other VM has or had.
    ///
    /// # Errors
    /// As [`Hypervisor::create_vm`].
    pub fn create_vm_as(
        &mut self,
        id: VmId,
        now: Instant,
        config: VmConfig,
    ) -> Result<(), F::Error> {
        let vm = Vm::new(now, config);
        self.fabric.plug(id, &vm.rx_filter())?;
        let is_configuring = vm.is_configuring();
        self.configuring += usize::from(is_configuring);
        if self.guests.len() <= id.index() {
            self.guests.resize_with(id.index() + 1, || None);
        }
        let guest = Some(Guest {
            vm,
            is_configuring,
            targeted_by: Vec::new(),
            booting_since: Some(now),
            flows: Vec::new(),
            armed: None,
            is_ready: false,
            fragment_bytes: 0,
        });
        if let Some(slot) = self.guests.get_mut(id.index()) {
            *slot = guest;
        }
        self.stations.insert(config.mac, id);
        self.schedule(id);
        Ok(())
    }

    /// Removes VMs at `now`, with their flows and their ports, while others go on. What is on its way to them finds nobody;
    /// what they had on their way themselves is abandoned. All that are to go at the same time should go by
    /// one call: on a real fabric each call takes a while ([`crate::system::TapFabric`]'s `unplug`).
    ///
    /// # Errors
    /// When a port can't be removed; the VMs are gone nevertheless.
    pub fn remove_vms(&mut self, now: Instant, vms: &[VmId]) -> Result<(), F::Error> {
        for vm in vms {
            self.abandon_pings_of(now, *vm);
            let Some(guest) = self.guests.get_mut(vm.index()).and_then(Option::take) else {
                continue;
            };
            if self.stations.get(&guest.vm.mac()) == Some(vm) {
                self.stations.remove(&guest.vm.mac());
            }
            guest.flows.iter().for_each(|flow| self.load.retire(*flow));
            self.configuring -= usize::from(guest.is_configuring);
            self.fragment_bytes = self.fragment_bytes.saturating_sub(guest.fragment_bytes);
        }
        self.fabric.unplug(vms)
    }

    /// Adds a flow, which pings in the phases that it takes part in, from when both of its ends are there. `None` if there
    /// is no such VM, or if it has 65,536 flows, as many as ICMP identifiers can tell apart.
    pub fn add_flow(&mut self, config: FlowConfig) -> Option<FlowId> {
        let is_awaited = self.moves.is_awaited(&config);
        let ping = match is_awaited {
            true => None,
            false => Some(self.open_flow(FlowId(self.flows.len() as u32), &config)?),
        };
        let id = match is_awaited {
            true => self.load.add_awaited_flow(),
            false => self.load.add_flow(),
        };
        if is_awaited {
            self.moves.await_flow(id, config);
        }
        self.flows.push(FlowState {
            ping,
            is_armed: false,
        });
        self.recorder.add_flow();
        Some(id)
    }

    /// Opens the session of a flow whose ends are there.
    fn open_flow(&mut self, id: FlowId, config: &FlowConfig) -> Option<PingOwner> {
        let guest = self.guests.get_mut(config.source.index())?.as_mut()?;
        let session = guest.vm.open_session(config.session)?;
        guest.flows.push(id);
        let target = config.target.and_then(|vm| self.guests.get_mut(vm.index()));
        if let Some(Some(target)) = target {
            target.targeted_by.push(id);
        }
        Some(PingOwner {
            vm: config.source,
            session,
        })
    }

    /// Has events kept from now on, for [`Hypervisor::take_event`].
    pub fn keep_events(&mut self) {
        self.keeps_events = true;
    }

    /// What happened in the last step or to the last frame, recorded already, if events are kept.
    pub fn take_event(&mut self) -> Option<(VmId, Event)> {
        self.event.take()
    }

    /// Whether any VM pings at all.
    pub fn has_flows(&self) -> bool {
        !self.flows.is_empty()
    }

    /// The VM whose interface has the address `mac`.
    pub fn station(&self, mac: MacAddr) -> Option<VmId> {
        self.stations.get(&mac).copied()
    }

    /// The VM `id`.
    pub fn vm(&self, id: VmId) -> Option<&Vm> {
        Some(&self.guests.get(id.index())?.as_ref()?.vm)
    }

    /// The VM `id`, to be changed: its neighbours filled in, say.
    pub fn vm_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        Some(&mut self.guests.get_mut(id.index())?.as_mut()?.vm)
    }

    /// How many VMs have been made, those that were removed since included; they are `VmId(0)` up to that.
    pub fn vm_count(&self) -> usize {
        self.guests.len()
    }

    /// What carries the VMs' frames.
    pub fn fabric(&mut self) -> &mut F {
        &mut self.fabric
    }

    /// What was measured so far.
    pub fn recorder(&mut self) -> &mut Recorder {
        self.journal.enter(&mut self.recorder);
        &mut self.recorder
    }

    /// Ends the VMs, and hands back the fabric and what was measured.
    pub fn into_parts(mut self) -> (F, Recorder) {
        self.end();
        self.journal.enter(&mut self.recorder);
        (self.fabric, self.recorder)
    }
}

#[cfg(test)]
mod tests;
