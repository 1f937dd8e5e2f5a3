//! Owns the VMs, their flows and the fabric, and dispatches frames and deadlines to the VMs.
//!
//! A [`Hypervisor`] never blocks and reads no clock. That is the job of its driver: the [`crate::reactor`] on real TAPs,
//! [`crate::sim`] in virtual time. The driver passes each frame that it reads to [`Hypervisor::receive`], calls
//! [`Hypervisor::next_step`] until nothing is due, sends the frames that either returns, and sleeps until
//! [`Hypervisor::next_deadline`].

mod by_ping;
mod by_session;
mod command;
mod drop_reason;
mod ending;
mod frames;
mod gates;
mod groups;
mod lifecycle;
mod loss;
mod marks;
mod misbehaviours;
mod moves;
mod one_way;
mod phases;
mod record;
mod record_buffer;
mod resolution;
mod streams;
mod timers;
mod totals;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::fabric::{Fabric, Instrumented, MisbehaviourRecord};
use crate::load::{FlowId, Load, Pacing, Target};
use crate::record::Recorder;
use crate::time::Instant;
use crate::vm::{PingId, RxFilter, SessionConfig, SessionId, Vm, VmConfig, VmId};
use crate::wire::{MacAddr, NARROW_FLOWS};

use self::by_session::BySession;
pub use self::command::{Command, CommandError, Outcome};
pub use self::frames::Arrival;
use self::gates::Gates;
use self::groups::Groups;
use self::lifecycle::Lifecycle;
pub use self::lifecycle::{Change, PlannedMisbehaviour, PlannedMove, RefusedStarts, Transition};
use self::loss::LossSearch;
pub use self::loss::{AttributeLoss, LossOfOthers};
pub use self::marks::MarkOn;
use self::misbehaviours::Theft;
use self::moves::Moves;
pub use self::moves::{Moved, RefusedMoves, Relocation};
use self::one_way::OneWay;
pub use self::phases::{ADDRESS_WAIT, Phase};
use self::record_buffer::RecordBuffer;
use self::resolution::Resolution;
pub use self::resolution::{ANSWER_WAIT, FindNeighbours};
pub use self::streams::StreamFlow;
use self::streams::Streams;

/// Bytes of fragments that all VMs together hold at most. A single VM holds at most
/// [`crate::vm::MAX_REASSEMBLY_BYTES`] of received fragments and [`crate::vm::MAX_OUTGOING`] datagrams to send.
pub const MAX_FRAGMENT_BYTES: usize = 256 << 20;

/// The interval of pings in a phase that begins when flows are added, where no pacing was set.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// A frame to send, at the start of the buffer that was passed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// The VM that sends it.
    pub vm: VmId,
    /// Its length in bytes.
    pub length: usize,
    /// The ping that it starts; [`FRAME_OF_STREAM`] in one of a stream.
    pub ping: Option<PingId>,
    /// The same flow has another frame to send at once.
    pub more: bool,
}

impl Outgoing {
    /// Returns true if it is to be [stamped](Hypervisor::stamp) right before the write.
    #[inline]
    pub const fn is_stamped(&self) -> bool {
        self.ping.is_some()
    }
}

/// What stands for a ping in a frame of a stream: there is no session between those that 16 bits tell apart and the others.
pub const FRAME_OF_STREAM: PingId = PingId {
    session: SessionId(NARROW_FLOWS),
    sequence: u64::MAX,
};

/// The result of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The driver is to send this frame.
    Send(Outgoing),
    /// There is nothing to send.
    Quiet,
}

impl From<Option<Outgoing>> for Step {
    fn from(outgoing: Option<Outgoing>) -> Step {
        outgoing.map_or(Step::Quiet, Step::Send)
    }
}

/// A flow: source, destination, and the parameters of its pings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowConfig {
    /// The VM that sends the echo requests.
    pub source: VmId,
    /// Their destination, payload and timeout.
    pub session: SessionConfig,
    /// The destination VM; `None` for an address outside. Pings follow the address that a DHCP server leases to the VM.
    pub target: Option<VmId>,
}

/// A VM and its bookkeeping.
#[derive(Debug)]
struct Slot {
    vm: Vm,
    /// Time of its creation; `None` once the first of its pings has been answered.
    booting_since: Option<Instant>,
    /// The flow of each of its sessions.
    flows: BySession<FlowId>,
    /// The earliest entry for this VM among the timers.
    armed: Option<Instant>,
    /// It is in the queue of VMs that have something to do at once.
    is_ready: bool,
    /// Bytes of fragments that it held at the last check.
    fragment_bytes: usize,
    /// It had no address at the last check but may still get one (DHCP, conflict detection, IPv6 autoconfiguration).
    is_configuring: bool,
    /// The flows that ping it.
    targeted_by: Vec<FlowId>,
}

/// A flow's session in its source VM.
#[derive(Debug)]
struct FlowState {
    /// `None` while one of the flow's VMs does not exist yet, and once the flow has ended.
    ping: Option<PingOwner>,
    /// The destination VM; `None` for an address outside.
    target: Option<VmId>,
    /// A timer is set for its oldest ping.
    is_armed: bool,
}

#[derive(Clone, Copy, Debug)]
struct PingOwner {
    vm: VmId,
    session: crate::vm::SessionId,
}

/// The purpose of a timer. Timers are never cancelled: one that expires too early is set again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// The oldest ping of a flow may have timed out.
    PingTimeout(FlowId),
    /// A VM has a deadline.
    Vm(VmId),
}

/// The VMs, their flows, and the fabric they are plugged into.
#[derive(Debug)]
pub struct Hypervisor<F> {
    fabric: Instrumented<F>,
    /// By [`VmId`]. An id is never reused, so frames and timers for a removed VM are ignored.
    slots: Vec<Option<Slot>>,
    stations: FxHashMap<MacAddr, VmId>,
    load: Load,
    /// The phases to come.
    phases: VecDeque<Phase>,
    /// The latest end of the present phase.
    phase_end: Option<Instant>,
    /// The present phase takes its whole duration, even when it has nothing left to do.
    lasts: bool,
    /// The schedule of the present phase has not ended.
    is_scheduled: bool,
    /// The run has a plan of phases.
    is_planned: bool,
    /// The present phase has no end: it began when flows were added without one.
    is_open: bool,
    /// The gates of a run that several ranks make together.
    gates: Option<Gates>,
    /// The run goes on when its plan is complete.
    stays: bool,
    /// The run was stopped.
    is_stopping: bool,
    /// Its plan was complete then.
    was_complete: bool,
    refused_starts: Option<RefusedStarts>,
    /// The present phase is one for flows with a pace of their own that have a number of pings to send, and ends with them.
    ends_with_apart: bool,
    /// The pacing of the present phase, or of the one that begins when flows are added without one.
    pacing: Pacing,
    /// The maximum time that the first phase waits for VMs without an address.
    address_wait: Duration,
    /// Start and latest end of that wait, while it lasts.
    held: Option<(Instant, Instant)>,
    /// Number of VMs that have no address yet but may still get one.
    configuring: usize,
    /// The resolution of neighbours before flows begin.
    resolution: Resolution,
    /// Seeds the random choices of impairments.
    seed: u64,
    flows: Vec<FlowState>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Flows that have sent a ping and may need a timer.
    unarmed: Vec<FlowId>,
    ready: VecDeque<VmId>,
    /// Bytes of fragments that all VMs hold.
    fragment_bytes: usize,
    /// VMs that start or stop during the run.
    lifecycle: Lifecycle,
    /// VMs that are expected to answer pings to groups.
    groups: Groups,
    /// Changes by others of which each is a mark.
    marked_changes: MarkOn,
    /// VMs that misbehave at some time of the run, as far as is known.
    offenders: Vec<VmId>,
    /// The misbehaviours of VMs of other ranks, by the plan.
    elsewhere: Vec<MisbehaviourRecord>,
    /// Addresses that were stolen.
    thefts: Vec<Theft>,
    /// Moves of VMs so far.
    moves: Moves,
    /// What is known of failed pings, if that is looked for.
    loss_search: Option<Box<LossSearch>>,
    /// When pings turned, if that is asked for.
    one_way: Option<Box<OneWay>>,
    /// What is sent one way, if anything is.
    streams: Option<Box<Streams>>,
    /// One of the two is there: frames that come are looked at for it.
    reads_frames: bool,
    /// Lacks the entries of `buffer`, which [`Hypervisor::recorder`] adds first.
    recorder: Recorder,
    buffer: RecordBuffer,
}

impl<F: Fabric> Hypervisor<F> {
    /// Creates a hypervisor without VMs. It records to `recorder`; `seed` seeds the random choices of its load and
    /// of impairments.
    pub fn new(fabric: F, recorder: Recorder, seed: u64) -> Self {
        Hypervisor {
            fabric: Instrumented::new(fabric),
            slots: Vec::new(),
            stations: FxHashMap::default(),
            load: Load::new(seed),
            phases: VecDeque::new(),
            phase_end: None,
            lasts: false,
            is_scheduled: false,
            is_planned: false,
            is_open: false,
            gates: None,
            stays: false,
            is_stopping: false,
            was_complete: false,
            refused_starts: None,
            ends_with_apart: false,
            pacing: Pacing::Interval(DEFAULT_INTERVAL),
            address_wait: ADDRESS_WAIT,
            held: None,
            configuring: 0,
            resolution: Resolution::default(),
            seed,
            flows: Vec::new(),
            timers: BinaryHeap::new(),
            unarmed: Vec::new(),
            ready: VecDeque::new(),
            fragment_bytes: 0,
            lifecycle: Lifecycle::default(),
            groups: Groups::default(),
            marked_changes: MarkOn::default(),
            offenders: Vec::new(),
            elsewhere: Vec::new(),
            thefts: Vec::new(),
            moves: Moves::default(),
            loss_search: None,
            one_way: None,
            streams: None,
            reads_frames: false,
            recorder,
            buffer: RecordBuffer::new(),
        }
    }

    /// Creates a VM that starts at `now`, and plugs it into the fabric: on the real one, this opens a TAP through
    /// `/dev/net/tun` and adds it to the bridge.
    ///
    /// # Errors
    /// If the fabric can't create a port; the VM does not exist then.
    pub fn create_vm(&mut self, now: Instant, config: VmConfig) -> Result<VmId, F::Error> {
        let id = VmId(self.slots.len() as u32);
        self.create_vms(now, [(id, config)])?;
        Ok(id)
    }

    /// Creates VMs as [`Hypervisor::create_vm`] does, each with an id that no other VM has or had, and plugs them in together.
    ///
    /// # Errors
    /// If the fabric can't create one of the ports; none of the VMs exists then.
    pub fn create_vms(
        &mut self,
        now: Instant,
        vms: impl IntoIterator<Item = (VmId, VmConfig)>,
    ) -> Result<(), F::Error> {
        let keeps_echoes = self.loss_search.is_some();
        let vms = vms.into_iter().map(|(id, config)| {
            let mut vm = Vm::new(now, config);
            if keeps_echoes {
                vm.keep_ignored_probes();
            }
            let rx_filter = vm.rx_filter();
            (id, vm, rx_filter)
        });
        let vms: Vec<(VmId, Vm, RxFilter)> = vms.collect();
        let ports = vms.iter().map(|(id, _, rx_filter)| (*id, rx_filter));
        self.fabric.plug_all(&ports.collect::<Vec<_>>())?;
        for (id, vm, _) in vms {
            self.add_vm(now, id, vm);
        }
        Ok(())
    }

    /// Adds a VM that is plugged in.
    fn add_vm(&mut self, now: Instant, id: VmId, mut vm: Vm) {
        // What it says at first is asked for here.
        vm.take_dirty();
        let is_configuring = vm.is_configuring();
        self.configuring += usize::from(is_configuring);
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        self.stations.insert(vm.mac(), id);
        let created = Some(Slot {
            vm,
            is_configuring,
            targeted_by: Vec::new(),
            booting_since: Some(now),
            flows: BySession::new(),
            armed: None,
            is_ready: false,
            fragment_bytes: 0,
        });
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = created;
        }
        self.schedule(id);
    }

    /// Adds a flow. It pings in the phases that include it, once both of its VMs exist. `None` if the source VM does not
    /// exist, or has as many flows already as can be told apart ([`Vm::open_session`]).
    pub fn add_flow(&mut self, config: FlowConfig) -> Option<FlowId> {
        let is_pending = self.lifecycle.is_pending(&config);
        let ping = match is_pending {
            true => None,
            false => Some(self.open_flow(FlowId(self.flows.len() as u32), &config)?),
        };
        let id = match is_pending {
            true => self.load.add_pending_flow(),
            false => self.load.add_flow(),
        };
        if is_pending {
            self.lifecycle.add_pending_flow(id, config);
        }
        self.flows.push(FlowState {
            ping,
            target: config.target,
            is_armed: false,
        });
        self.recorder.add_flow();
        self.recorder.set_source(id, config.source);
        self.tell_misbehaving(id, config.source, config.target);
        Some(id)
    }

    /// Opens the session of a flow whose VMs exist.
    fn open_flow(&mut self, id: FlowId, config: &FlowConfig) -> Option<PingOwner> {
        let slot = self.slots.get_mut(config.source.index())?.as_mut()?;
        let owner = PingOwner {
            vm: config.source,
            session: slot.vm.open_session(config.session)?,
        };
        slot.flows.push(owner.session, id);
        let target = config.target.and_then(|vm| self.slots.get_mut(vm.index()));
        if let Some(Some(target)) = target {
            target.targeted_by.push(id);
        }
        if let Some(target) = self.target(owner, config.target) {
            self.fabric.tell_flow(id, owner.vm, owner.session, target);
        }
        Some(owner)
    }

    /// The target of a flow: its VM, or the address that it pings.
    fn target(&self, flow: PingOwner, target: Option<VmId>) -> Option<Target> {
        let address = || self.vm(flow.vm)?.destination(flow.session);
        match target {
            Some(vm) => Some(Target::Vm(vm)),
            None => address().map(Target::Address),
        }
    }

    /// Returns true if there are flows or streams.
    pub fn has_flows(&self) -> bool {
        !self.flows.is_empty() || self.streams.is_some()
    }

    /// Returns the VM with the MAC address `mac`, which may be one that it has used in place of its own.
    pub fn station(&self, mac: MacAddr) -> Option<VmId> {
        self.stations.get(&mac).copied()
    }

    /// Returns the VM `id`.
    pub fn vm(&self, id: VmId) -> Option<&Vm> {
        Some(&self.slots.get(id.index())?.as_ref()?.vm)
    }

    /// Returns the VM `id` for changes, such as adding neighbours.
    pub fn vm_mut(&mut self, id: VmId) -> Option<&mut Vm> {
        Some(&mut self.slots.get_mut(id.index())?.as_mut()?.vm)
    }

    /// Returns the number of VMs created or expected so far, removed ones included: their ids are below it.
    pub fn vm_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns the fabric, with the instruments of the run.
    pub const fn fabric(&mut self) -> &mut Instrumented<F> {
        &mut self.fabric
    }

    /// Returns the recorder, with everything measured so far.
    pub fn recorder(&mut self) -> &mut Recorder {
        self.buffer.flush(&mut self.recorder);
        &mut self.recorder
    }

    /// Drops the VMs, and returns the fabric and the recorder.
    pub fn into_parts(mut self) -> (F, Recorder) {
        self.end();
        self.buffer.flush(&mut self.recorder);
        (self.fabric.into_inner(), self.recorder)
    }
}

#[cfg(test)]
mod tests;
