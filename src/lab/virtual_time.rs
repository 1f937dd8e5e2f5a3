//! Labs on a fabric in memory, in virtual time: no TAP, no privilege, no waiting.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::time::Duration;

use mio::{Events, Interest, Poll};
use nix::sys::signal::Signal;

use super::control::listen;
use super::{Driver, LabError, LabOn};
use crate::experiment::Experiment;
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::reactor::{End, LAST_WAIT, Ready, Source, Sources};
use crate::sim::{self, Switch, WIRE_DELAY};
use crate::system::{StopSignals, SystemError};
use crate::time::{Clock, Instant, MonotonicClock};

/// The virtual time after which a simulation without pings and without an end is ended.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// VMs on a fabric in memory, in virtual time, with the single steps of [`Lab`](super::Lab).
///
/// Any [`Fabric`] will do whose operations can't fail and which reports its [arrivals](Fabric::next_at);
/// `scripts/examples/custom-fabric.rs` brings one.
///
/// ```
/// use tap_reactor::experiment::{Experiment, FlowPlan};
/// use tap_reactor::hypervisor::Phase;
/// use tap_reactor::lab::SimulatedLab;
/// use tap_reactor::load::Pacing;
/// use tap_reactor::sim::{Switch, WIRE_DELAY};
/// use tap_reactor::vm::VmId;
///
/// let mut plan = Experiment::of_vms(2)?;
/// plan.flows = vec![FlowPlan::between(VmId(0), VmId(1))];
/// plan.phases = vec![Phase::counted(0..1, Pacing::Window(1), 100)];
/// let mut lab = SimulatedLab::new(Switch::new(WIRE_DELAY), plan)?;
/// lab.populate(&mut ())?;
/// lab.run(&mut ());
/// assert_eq!(lab.hypervisor().recorder().totals().received, 100);
/// lab.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Signals and dropping: see [`Lab`](super::Lab).
pub type SimulatedLab<'a, F = Switch> = LabOn<'a, F, VirtualTime>;

/// A clock that jumps from event to event.
#[derive(Debug)]
pub struct VirtualTime {
    now: Instant,
    signals: StopSignals,
    /// The signal that ended the run, or is to.
    signal: Option<Signal>,
    /// The wait for clients of the control socket, if there is one.
    clients: Option<Clients>,
}

/// The wait for clients of the control socket.
#[derive(Debug)]
struct Clients {
    poll: Poll,
    sources: Sources,
    events: Events,
    ready: Ready,
    /// The time, in real time, by which they have to be looked after.
    call_at: Option<Instant>,
}

impl Clients {
    fn new(signals: &StopSignals) -> Result<Clients, SystemError> {
        let create = |e: std::io::Error| SystemError::io("create the poll", &e);
        let poll = Poll::new().map_err(create)?;
        let mut sources = Sources::new(poll.registry())?;
        sources
            .register(signals, Source::Signals, Interest::READABLE)
            .map_err(create)?;
        Ok(Clients {
            poll,
            sources,
            events: Events::with_capacity(64),
            ready: Ready::default(),
            call_at: None,
        })
    }

    /// Waits for a client or a signal, or until a client has to be looked after.
    fn wait(&mut self) -> Result<(), SystemError> {
        let now = MonotonicClock.now();
        let timeout = self.call_at.map(|at| at - now);
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(SystemError::io("wait for the next event", &e)),
        }
        for event in &self.events {
            if let Some(Source::Control(number)) = self.sources.get(event.token()) {
                self.ready.note(number, event);
            }
        }
        Ok(())
    }
}

impl<'a> SimulatedLab<'a> {
    /// Creates a lab on the switch of `--fabric sim`.
    ///
    /// # Errors
    /// As [`SimulatedLab::new`].
    pub fn on_switch(plan: impl Into<Cow<'a, Experiment>>) -> Result<SimulatedLab<'a>, LabError> {
        let plan = plan.into();
        let mut switch = Switch::new(WIRE_DELAY);
        if plan.lab.filter {
            switch = switch.with_rx_filters();
        }
        if plan.lab.neighbours.are_filled_in() {
            switch = switch.with_filled_table();
        }
        if let Some(frames) = plan.lab.tx_queue_length {
            switch = switch.with_queue(frames);
        }
        SimulatedLab::new(switch, plan)
    }
}

impl<'a, F: Fabric<Error = Infallible>> SimulatedLab<'a, F> {
    /// Creates a lab on `fabric`, still without VMs, and begins to handle signals. Time begins at [`Instant::ZERO`].
    ///
    /// # Errors
    /// If the kernel has no descriptor left for the signals.
    pub fn new(
        fabric: F,
        plan: impl Into<Cow<'a, Experiment>>,
    ) -> Result<SimulatedLab<'a, F>, LabError> {
        let driver = VirtualTime {
            now: Instant::ZERO,
            signals: StopSignals::new()?,
            signal: None,
            clients: None,
        };
        let mut plan = plan.into();
        let listeners = listen(&mut plan)?;
        Ok(LabOn::of(plan, fabric, driver, (Instant::ZERO, listeners)))
    }
}

impl<F: Fabric<Error = Infallible>> Driver<F> for VirtualTime {
    fn now(&self) -> Instant {
        self.now
    }

    /// It is midnight, and 1970, where time is virtual.
    fn unix_nanos_at_zero(&self) -> u64 {
        0
    }

    fn is_to_stop(&mut self) -> Result<bool, SystemError> {
        if self.signal.is_none() {
            self.signal = self.signals.take()?;
        }
        Ok(self.signal.is_some())
    }

    fn sources(&mut self) -> Result<&mut Sources, SystemError> {
        let clients = match self.clients.take() {
            Some(clients) => clients,
            None => Clients::new(&self.signals)?,
        };
        Ok(&mut self.clients.insert(clients).sources)
    }

    fn call_at(&mut self, at: Option<Instant>) {
        if let Some(clients) = &mut self.clients {
            clients.call_at = at;
        }
    }

    fn take_ready(&mut self) -> Ready {
        let clients = self.clients.as_mut();
        clients.map_or(Ready::default(), |clients| {
            std::mem::take(&mut clients.ready)
        })
    }

    fn wait(&mut self) -> Result<End, SystemError> {
        let Some(clients) = &mut self.clients else {
            return Ok(End::Done);
        };
        clients.wait()?;
        Ok(match self.signals.take()? {
            Some(signal) => End::Signal(signal),
            None => End::Called,
        })
    }

    fn run(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        until: Option<Instant>,
    ) -> Result<End, SystemError> {
        if hypervisor.is_stopping() {
            return Ok(self.end(hypervisor, End::Stopped));
        }
        let until = until.unwrap_or(match hypervisor.has_flows() {
            // It ends where its plan does.
            true => Instant::from_nanos(u64::MAX),
            false => self.now + LONGEST,
        });
        let (signal, signals) = (&mut self.signal, &self.signals);
        let is_to_stop = || {
            *signal = signal.or_else(|| signals.take().ok().flatten());
            signal.is_some()
        };
        (self.now, _) = sim::run_unless(hypervisor, self.now, until, is_to_stop);
        let Some(signal) = self.signal.take() else {
            return Ok(End::Done);
        };
        hypervisor.stop(self.now);
        Ok(self.end(hypervisor, End::Signal(signal)))
    }

    fn signals(&mut self) -> &mut StopSignals {
        &mut self.signals
    }
}

impl VirtualTime {
    /// Waits for the outstanding pings of a run that was stopped.
    fn end<F: Fabric<Error = Infallible>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        by: End,
    ) -> End {
        self.now = sim::run(hypervisor, self.now, self.now + LAST_WAIT);
        hypervisor.give_up(self.now);
        by
    }
}
