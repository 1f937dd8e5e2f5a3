//! Labs on TAPs, in real time, driven by the reactor.

use std::borrow::Cow;
use std::collections::HashSet;

use super::build::unix_nanos_at_zero;
use super::control::{MOST_CAPTURES, listen};
use super::meeting::Meeting;
use super::steps::not_told_of_drops;
use super::{Driver, LabError, LabOn, Observer};
use crate::experiment::Experiment;
use crate::fabric::Place;
use crate::hypervisor::{AttributeLoss, Hypervisor};
use crate::reactor::{End, MAX_CLIENTS, MAX_REFUSED, Reactor, Ready, Source, Sources, Watcher};
use crate::system::{
    self, DESCRIPTORS_OF_A_DROP_WATCH, DESCRIPTORS_OF_A_NAMESPACE, DESCRIPTORS_OF_AN_INTERFACE,
    DESCRIPTORS_OF_PATH_STAMPS, HookEnd, HookEvent, InterfaceFabric, KernelFabric, PollHandle,
    Probed, StopSignals, SystemError, TapFabric, UnderlayProbe,
};
use crate::time::{Clock, Instant, MonotonicClock};

/// File descriptors of any run beside one for each TAP: standard streams, poll, timer, signals, netlink, namespaces.
const OTHER_DESCRIPTORS: u64 = 17;
/// Those of clients: the handle of their poll, two for each, who may read a stream, one for each that is refused, and the
/// files of their captures.
const CLIENT_DESCRIPTORS: u64 = (1 + 2 * MAX_CLIENTS + MAX_REFUSED + MOST_CAPTURES) as u64;

/// Those of a meeting of ranks, beside one for each: the listener, the handle of the poll, and connections of strangers.
const DESCRIPTORS_OF_A_MEETING: u64 = 70;

/// VMs on TAPs, in real time, with the single steps of [`Lab`](super::Lab).
///
/// [`TapLab::new`](LabOn::new) creates the fabric, [`populate`](LabOn::populate) VMs and flows. Then either
/// [`run`](LabOn::run) runs the whole plan, or a program starts phases of its own and [drives](LabOn::drive) them, any
/// number of times:
///
/// ```no_run
/// # // Needs root.
/// use tap_reactor::experiment::{Experiment, FlowPlan};
/// use tap_reactor::hypervisor::Phase;
/// use tap_reactor::lab::TapLab;
/// use tap_reactor::load::Pacing;
/// use tap_reactor::time::{Clock, MonotonicClock};
/// use tap_reactor::vm::VmId;
///
/// let mut plan = Experiment::of_vms(2)?;
/// plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
/// let mut lab = TapLab::new(plan)?;
/// lab.populate(&mut ())?;
/// for window in [1, 64] {
///     let phase = Phase::counted(0..1, Pacing::Window(window), 10_000);
///     let start = MonotonicClock.now();
///     lab.hypervisor().start(start, vec![phase]);
///     lab.drive(None)?;
///     println!("window {window}: {:?}", MonotonicClock.now() - start);
/// }
/// lab.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Signals and dropping: see [`Lab`](super::Lab).
pub type TapLab<'a> = LabOn<'a, TapFabric, RealTime>;

/// VMs directly behind interfaces that exist, in real time; with the steps of [`TapLab`].
pub type InterfaceLab<'a> = LabOn<'a, InterfaceFabric, RealTime>;

/// The reactor, and the user's hook.
#[derive(Debug)]
pub struct RealTime {
    reactor: Reactor,
    /// File descriptors that it may have open beside those of TAPs.
    other_descriptors: u64,
    /// Looks whether frames of other ranks come through.
    probe: Option<UnderlayProbe>,
    /// The hook was told that the lab is up, so that it is to be told that it goes.
    is_hooked: bool,
}

impl<'a, F: KernelFabric> LabOn<'a, F, RealTime> {
    /// Creates the fabric of `plan`, still without VMs, and begins to handle signals.
    ///
    /// # Errors
    /// If the system refuses an operation. Nothing is left behind then.
    pub fn new(plan: impl Into<Cow<'a, Experiment>>) -> Result<Self, LabError> {
        LabOn::observed(plan, &mut ())
    }

    /// The same, which tells `observer` of who is refused where ranks meet.
    ///
    /// # Errors
    /// As [`LabOn::new`], or if the ranks do not meet.
    pub(super) fn observed(
        plan: impl Into<Cow<'a, Experiment>>,
        observer: &mut dyn Observer,
    ) -> Result<Self, LabError> {
        let mut plan = plan.into();
        let started = MonotonicClock.now();
        if plan.attribute_loss == AttributeLoss::On {
            // Before anything is made.
            system::check_drop_watch().map_err(not_told_of_drops)?;
        }
        if plan.splits_path {
            let checked = system::check_path_stamps();
            checked.map_err(|error| error.asked_for_by("--path-split"))?;
        }
        system::raise_descriptor_limit()?;
        let listeners = listen(&mut plan)?;
        let mut other_descriptors = system::open_descriptors() + other_descriptors(&plan);
        if !listeners.is_empty() {
            other_descriptors += CLIENT_DESCRIPTORS;
        }
        if let Some(part) = &plan.part {
            other_descriptors += DESCRIPTORS_OF_A_MEETING + u64::from(part.rank.count());
        }
        system::ensure_limit(plan.own_vms() as u64 * F::DESCRIPTORS_OF_A_VM + other_descriptors)?;
        let mut reactor = Reactor::new(StopSignals::new()?)?;
        reactor.spin(plan.spin);
        if let Some(frames) = plan.lab.tx_queue_length {
            reactor.queues_hold(frames);
        }
        let mut meeting = None;
        if let Some(part) = &plan.part
            && let Some(meet) = &part.meeting
        {
            let mut begun = Meeting::begin(part, meet, plan.vms.len(), reactor.sources())?;
            begun.meet(&mut reactor, observer)?;
            meeting = Some(begun);
        }
        let make =
            |reactor: &mut Reactor| F::create(reactor.sources().of_fabric()?, plan.lab.clone());
        let fabric = match &mut meeting {
            Some(meeting) if plan.lab.sharing.is_some() => {
                meeting.make_bridges(&mut reactor, observer, make)?
            }
            _ => make(&mut reactor)?,
        };
        let driver = RealTime {
            reactor,
            other_descriptors,
            probe: None,
            is_hooked: false,
        };
        let mut lab = LabOn::of(plan, fabric, driver, (started, listeners));
        lab.meeting = meeting;
        Ok(lab)
    }
}

impl<F: KernelFabric> Driver<F> for RealTime {
    fn now(&self) -> Instant {
        MonotonicClock.now()
    }

    fn unix_nanos_at_zero(&self) -> u64 {
        unix_nanos_at_zero(MonotonicClock.now())
    }

    fn pipes(&mut self) -> Result<Option<PollHandle>, SystemError> {
        self.reactor.sources().handle(Source::Pipes).map(Some)
    }

    fn make_room(&mut self, vms: usize) -> Result<(), SystemError> {
        system::ensure_limit(vms as u64 * F::DESCRIPTORS_OF_A_VM + self.other_descriptors)
    }

    /// Waits until the ports carry frames, and runs the hook.
    fn make_ready(&mut self, plan: &Experiment, fabric: &mut F) -> Result<(), SystemError> {
        let mut stopped_by = fabric.wait_until_forwarding(self.reactor.signals())?;
        if stopped_by.is_none() {
            stopped_by = match hook(plan, HookEvent::Up, self.reactor.signals())? {
                HookEnd::Interrupted(signal) => Some(signal),
                HookEnd::Done => None,
            };
            self.is_hooked = true;
        }
        if let Some(signal) = stopped_by {
            self.reactor.stop(signal);
        }
        Ok(())
    }

    fn leave(&mut self, plan: &Experiment) -> Result<(), SystemError> {
        match std::mem::take(&mut self.is_hooked) {
            true => hook(plan, HookEvent::Down, self.reactor.signals()).map(drop),
            false => Ok(()),
        }
    }

    fn is_to_stop(&mut self) -> Result<bool, SystemError> {
        self.reactor.is_to_stop()
    }

    fn watch(&mut self, watcher: Watcher) {
        self.reactor.watch(watcher);
    }

    fn end_watch(&mut self) {
        self.reactor.end_watch();
    }

    fn sources(&mut self) -> Result<&mut Sources, SystemError> {
        Ok(self.reactor.sources())
    }

    fn call_at(&mut self, at: Option<Instant>) {
        self.reactor.call_at(at);
    }

    fn take_ready(&mut self) -> Ready {
        self.reactor.take_ready()
    }

    /// The lab stays as it is until it is closed; nobody waits for that.
    fn wait(&mut self) -> Result<End, SystemError> {
        Ok(End::Done)
    }

    fn run(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        until: Option<Instant>,
    ) -> Result<End, SystemError> {
        self.reactor.run(hypervisor, until)
    }

    fn wait_for_ranks(&mut self, until: Option<Instant>) -> Result<(), SystemError> {
        self.reactor.wait_for_ranks(until)
    }

    fn probe_others(&mut self, plan: &Experiment) -> Result<Option<Probed>, SystemError> {
        let now = MonotonicClock.now();
        if self.probe.is_none() {
            self.probe = UnderlayProbe::begin(now, &plan.lab)?;
        }
        let probe = self.probe.as_mut();
        probe.map(|probe| probe.look(now)).transpose()
    }

    fn end_probe(&mut self) {
        self.probe = None;
    }

    fn signals(&mut self) -> &mut StopSignals {
        self.reactor.signals_mut()
    }
}

/// The file descriptors that a run of `plan` opens beside those of TAPs and clients.
fn other_descriptors(plan: &Experiment) -> u64 {
    let moves = plan.phases.iter().flat_map(|phase| &phase.moves);
    let beside = moves.filter_map(|planned| match &planned.relocation.to {
        Place::Namespace(name) => Some(name),
        _ => None,
    });
    let beside: HashSet<&String> = beside.collect();
    let of_moves = beside.len() as u64 * DESCRIPTORS_OF_A_NAMESPACE;
    let of_losses = match plan.attribute_loss {
        AttributeLoss::Off => 0,
        AttributeLoss::Auto | AttributeLoss::On => DESCRIPTORS_OF_A_DROP_WATCH,
    };
    let of_stamps = match plan.splits_path {
        true => DESCRIPTORS_OF_PATH_STAMPS,
        false => 0,
    };
    let of_interfaces = plan.lab.interfaces.len() as u64 * DESCRIPTORS_OF_AN_INTERFACE;
    OTHER_DESCRIPTORS + of_interfaces + of_moves + of_losses + of_stamps
}

/// Runs the user's hook, if there is one.
fn hook(
    experiment: &Experiment,
    event: HookEvent,
    signals: &StopSignals,
) -> Result<HookEnd, SystemError> {
    match &experiment.lab.hook {
        Some(command) => system::run_hook(command, event, &experiment.lab, signals),
        None => Ok(HookEnd::Done),
    }
}
