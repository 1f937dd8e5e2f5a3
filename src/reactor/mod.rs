//! The real run: one poll, one thread, and the only place that waits.
//!
//! One turn waits for whatever is ready first (a TAP, the timer, a signal), reads what has come, and sends what is due.
//! Every loop in it has a budget, so that no TAP starves another:
//!
//! - mio is edge-triggered: a TAP that still holds frames when its budget is spent goes on a carry-over list, and the
//!   next poll does not wait.
//! - `write()` to a TAP runs the whole bridge before it returns, so a unicast frame to a VM of ours lies in that VM's
//!   queue already. The reactor reads it at once (`Reactor::exchange`), before it asks the poll anything. No edge is
//!   lost by that: `epoll_wait` looks again whether a queue holds anything before it reports it (`ep_send_events` in
//!   `fs/eventpoll.c`), and a frame that comes later is a new edge.
//! - Under load, the poll is not even told of TAPs that are read that way all the time (`attention`).
//! - Signals and the end of the run are looked for in every turn.

mod attention;
mod narrator;
mod prediction;
mod spinning;
mod wakeup;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use self::attention::{Attention, Look};
pub use self::narrator::Narrator;
use self::prediction::Prediction;
use self::spinning::Spinning;
use self::wakeup::Wakeup;
use crate::fabric::{Fabric, Read, Write};
use crate::hypervisor::{Hypervisor, Outgoing, Step};
use nix::sys::signal::Signal;

use crate::record::{DropReason, Recorder};
use crate::system::{DeadlineTimer, StopSignals, SystemError, vm_of};
use crate::time::{Clock, Instant, MonotonicClock, earliest};
use crate::vm::VmId;
use crate::wire::{EthernetFrame, LARGEST_FRAME, MacAddr};

const TIMER: Token = Token(0);
const SIGNALS: Token = Token(1);

/// Frames read from one TAP before another gets its turn.
const READ_BUDGET: usize = 64;
/// Frames sent for due pings before the TAPs are looked at again.
const SEND_BUDGET: usize = 64;
/// VMs that come up, or rows of VMs that leave, before the TAPs are looked at again: each takes a millisecond or more.
const MOVE_BUDGET: usize = 1;
/// Frames followed from TAP to TAP for one frame sent: a request, its reply, and one to spare.
const FOLLOW_BUDGET: usize = 3;
/// Events taken from the poll at once.
const EVENTS: usize = 1024;
/// A deadline nearer than this is polled for: to sleep and wake takes a core about as long.
const NEAR: Duration = Duration::from_micros(20);

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything that was to be done is done: every ping is over, or the time to serve is.
    Done,
    /// The user or the system asked for it; some pings may be on their way.
    Signal(Signal),
}

/// Looks at the figures now and then while a run goes on.
type Watcher = Box<dyn FnMut(Instant, &Recorder)>;

/// A watcher, how often it looks, and when it does next.
struct Watch {
    period: Duration,
    next: Instant,
    watcher: Watcher,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
}

/// A frame that the fabric has taken.
#[derive(Clone, Copy, Debug)]
struct Sent {
    source: MacAddr,
    destination: MacAddr,
}

/// Has the poll tell of frames for `vm`.
fn attend<F: Fabric>(hypervisor: &mut Hypervisor<F>, vm: VmId) -> Result<(), SystemError> {
    hypervisor
        .fabric()
        .announce(vm, true)
        .map_err(|e| SystemError::io(format!("put the TAP of {vm} back on the poll"), &e))
}

/// Drives a [`Hypervisor`] in real time.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    timer: DeadlineTimer,
    signals: StopSignals,
    clock: MonotonicClock,
    /// TAPs that hold frames for which no edge will come, each once.
    undrained: VecDeque<VmId>,
    prediction: Prediction,
    attention: Attention,
    spinning: Spinning,
    wakeup: Wakeup,
    buffer: Vec<u8>,
    narrator: Option<Narrator>,
    watch: Option<Watch>,
    /// When the poll of this turn returned: what waits since then waits for the tool.
    polled_at: Instant,
    stop: Option<Signal>,
}

impl Reactor {
    /// A reactor that ends its run when `signals` says so.
    ///
    /// # Errors
    /// When the kernel refuses a file descriptor for the poll, the timer or the signals.
    pub fn new(signals: StopSignals) -> Result<Reactor, SystemError> {
        let poll = Poll::new().map_err(|e| SystemError::io("create the poll", &e))?;
        let timer = DeadlineTimer::new()?;
        let register =
            |e: io::Error| SystemError::io("register timer and signals with the poll", &e);
        for (descriptor, token) in [(timer.as_raw_fd(), TIMER), (signals.as_raw_fd(), SIGNALS)] {
            poll.registry()
                .register(&mut SourceFd(&descriptor), token, Interest::READABLE)
                .map_err(register)?;
        }
        Ok(Reactor {
            poll,
            events: Events::with_capacity(EVENTS),
            timer,
            signals,
            clock: MonotonicClock,
            undrained: VecDeque::new(),
            prediction: Prediction::default(),
            attention: Attention::default(),
            spinning: Spinning::default(),
            wakeup: Wakeup::default(),
            buffer: vec![0; LARGEST_FRAME],
            narrator: None,
            watch: None,
            polled_at: Instant::ZERO,
            stop: None,
        })
    }

    /// A handle with which a fabric registers its file descriptors.
    ///
    /// # Errors
    /// When the kernel has no descriptor left for it.
    pub fn registry(&self) -> Result<Registry, SystemError> {
        let cloned = self.poll.registry().try_clone();
        cloned.map_err(|e| SystemError::io("share the poll", &e))
    }

    /// Tells each step to `narrator` from now on.
    pub fn narrate(&mut self, narrator: Narrator) {
        self.narrator = Some(narrator);
    }

    /// Has `watcher` look at the figures every `period` from now on. The run waits for it, so it must be quick.
    pub fn watch(&mut self, period: Duration, watcher: Watcher) {
        self.watch = Some(Watch {
            period,
            next: self.clock.now(),
            watcher,
        });
    }

    /// Has nobody look any more.
    pub fn end_watch(&mut self) {
        self.watch = None;
    }

    /// Has the poll asked again and again for `span` after anything has happened, before the reactor sleeps. Without end
    /// for [`Duration::MAX`].
    pub fn spin(&mut self, span: Duration) {
        self.spinning = Spinning::new(span);
    }

    /// Gives SIGINT and SIGTERM their default meaning back: the next one ends the process at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn restore_signals(&self) -> Result<(), SystemError> {
        self.signals.restore()
    }

    /// Runs turns until the hypervisor's last phase is over, or a signal asks for the end. Without flows it serves: VMs
    /// answer until `until` or a signal.
    ///
    /// # Errors
    /// When the poll or the timer fails, or a VM can't come up or leave; what was measured is in the hypervisor still.
    pub fn run<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        until: Option<Instant>,
    ) -> Result<End, SystemError> {
        let serves = !hypervisor.has_flows();
        self.polled_at = self.clock.now();
        loop {
            let now = self.clock.now();
            if let Some(signal) = self.stop.take() {
                return Ok(End::Signal(signal));
            }
            if serves && until.is_some_and(|until| until <= now) || !serves && hypervisor.is_done()
            {
                return Ok(End::Done);
            }
            self.turn(hypervisor, now, until)?;
        }
    }

    /// One turn: wait, read what has come, send what is due.
    fn turn<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        until: Option<Instant>,
    ) -> Result<(), SystemError> {
        let watch = self.watch.as_ref().map(|watch| watch.next);
        let deadline = earliest(hypervisor.next_deadline(), earliest(until, watch));
        self.wait(hypervisor, now, deadline)?;
        self.sort_events()?;
        self.look_around(hypervisor)?;
        for _ in 0..self.undrained.len() {
            if let Some(vm) = self.undrained.pop_front() {
                self.drain(hypervisor, vm);
                self.spinning.worked(self.polled_at);
            }
        }
        if hypervisor.has_moves() {
            self.make_moves(hypervisor)?;
        }
        let mut now = self.clock.now();
        for _ in 0..SEND_BUDGET {
            let Some(step) = hypervisor.next_step(now, &mut self.buffer) else {
                break;
            };
            self.spinning.worked(now);
            if let Some(outgoing) = self.tell(now, step) {
                now = self.exchange(hypervisor, outgoing).unwrap_or(now);
            }
        }
        hypervisor.recorder().turn();
        self.let_watch(now, hypervisor.recorder());
        Ok(())
    }

    /// Polls: without waiting when there is work, else until something is ready or `deadline` has come.
    fn wait<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<(), SystemError> {
        let has_work = !self.undrained.is_empty();
        let is_near = deadline.is_some_and(|deadline| deadline <= now + NEAR);
        let timeout = if has_work || is_near || self.spinning.goes_on(now) {
            Some(Duration::ZERO)
        } else {
            if let Some(deadline) = deadline {
                self.timer.arm(self.wakeup.before(now, deadline))?;
            }
            self.attend_to_all(hypervisor)?;
            None
        };
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(e) => return Err(SystemError::io("wait for the next event", &e)),
        }
        let before = now.nanos_since(self.polled_at);
        self.polled_at = self.clock.now();
        if timeout.is_none()
            && let Some(set) = self.timer.armed()
            && set > now
            && self.events.iter().all(|event| event.token() == TIMER)
        {
            self.wakeup.woke(set, self.polled_at);
        }
        let poll = self.polled_at.nanos_since(now);
        let recorder = hypervisor.recorder();
        // What came before the poll is work of the last turn, if that had any.
        if self.spinning.was_idle() {
            recorder.spun(before);
        } else {
            recorder.busy(before);
        }
        let was_idle = timeout.is_some() && !has_work && self.events.is_empty();
        self.spinning.polled(was_idle);
        if was_idle {
            recorder.spun(poll);
            if deadline.is_none_or(|deadline| deadline > now) {
                self.attend_to_all(hypervisor)?;
            }
        } else if timeout.is_some() {
            recorder.busy(poll);
        }
        Ok(())
    }

    /// Puts TAPs that are ready behind those carried over, and takes signals and the timer's tick.
    fn sort_events(&mut self) -> Result<(), SystemError> {
        for event in &self.events {
            match event.token() {
                TIMER => self.timer.rang(),
                SIGNALS => self.stop = self.signals.take()?,
                token => {
                    // A TAP that was carried over may be reported again. It is then drained twice, the second time in
                    // vain, which is cheaper than to look for it.
                    self.undrained.extend(vm_of(token));
                }
            }
        }
        Ok(())
    }

    /// Has the poll tell of every TAP.
    fn attend_to_all<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        let mut back = self.attention.pause();
        back.try_for_each(|vm| attend(hypervisor, vm))
    }

    /// Has some of the TAPs read that the poll does not tell of.
    fn look_around<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        for _ in 0..self.attention.looks() {
            match self.attention.look() {
                Some(Look::Read(vm)) => self.undrained.push_back(vm),
                Some(Look::PutBack(vm)) => attend(hypervisor, vm)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Has VMs come up and leave that are to.
    fn make_moves<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        for _ in 0..MOVE_BUDGET {
            let now = self.clock.now();
            let Some(moved) = hypervisor.make_move(now)? else {
                break;
            };
            self.spinning.worked(now);
            if let Some(narrator) = &mut self.narrator {
                narrator.moved(now, &moved);
            }
        }
        Ok(())
    }

    /// Reads a TAP until it is empty or its budget is spent.
    fn drain<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, vm: VmId) {
        for _ in 0..READ_BUDGET {
            match hypervisor.fabric().read(vm, &mut self.buffer) {
                Read::Frame(length) => {
                    let now = self.clock.now();
                    hypervisor.recorder().lag(now.nanos_since(self.polled_at));
                    if let Some(reply) = self.handle(hypervisor, now, vm, length) {
                        self.exchange(hypervisor, reply);
                    }
                }
                Read::Empty => return,
                // Of a VM that was removed while its TAP stood on the list.
                Read::Failed if hypervisor.vm(vm).is_none() => return,
                Read::Failed => return hypervisor.recorder().dropped(DropReason::ReadFailed),
            }
        }
        self.undrained.push_back(vm);
    }

    /// Sends a frame, reads it where it went, sends what comes of it, and so on to the end of the exchange. Returns when
    /// the last frame was read, if any was.
    fn exchange<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        first: Outgoing,
    ) -> Option<Instant> {
        let mut outgoing = first;
        let mut read_at = None;
        for _ in 0..FOLLOW_BUDGET {
            let more = outgoing.more;
            let Some(sent) = self.send(hypervisor, outgoing) else {
                return read_at;
            };
            if more || !self.prediction.is_worth_a_read() {
                return read_at;
            }
            let Some(vm) = hypervisor.station(sent.destination) else {
                return read_at;
            };
            let Read::Frame(length) = hypervisor.fabric().read(vm, &mut self.buffer) else {
                self.prediction.missed();
                return read_at;
            };
            self.prediction.hit();
            if self.attention.hit(vm) {
                // If it fails, the poll tells of it still.
                let _ = hypervisor.fabric().announce(vm, false);
            }
            if self.buffer.get(6..12) != Some(&sent.source.0) {
                // Somebody else's frame came before, and ours lies behind it.
                self.undrained.push_back(vm);
            }
            let now = self.clock.now();
            read_at = Some(now);
            let Some(reply) = self.handle(hypervisor, now, vm, length) else {
                return read_at;
            };
            outgoing = reply;
        }
        self.send(hypervisor, outgoing);
        read_at
    }

    /// Hands a frame that was read to its VM.
    fn handle<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        vm: VmId,
        length: usize,
    ) -> Option<Outgoing> {
        if let Some(narrator) = &mut self.narrator {
            narrator.received(now, vm, self.buffer.get(..length).unwrap_or_default());
        }
        let step = hypervisor.receive(now, vm, &mut self.buffer, length)?;
        self.tell(now, step)
    }

    /// Writes a frame, stamped if it starts a ping. Returns where it went if the fabric took it.
    fn send<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        outgoing: Outgoing,
    ) -> Option<Sent> {
        let frame = self.buffer.get(..outgoing.length).unwrap_or_default();
        if let Some(narrator) = &mut self.narrator {
            narrator.sent(self.clock.now(), outgoing.vm, frame);
        }
        if let Some(ping) = outgoing.ping {
            hypervisor.stamp_sent(outgoing.vm, ping, self.clock.now());
        }
        let written = hypervisor.fabric().write(outgoing.vm, frame);
        hypervisor.frame_written(written);
        match written {
            Write::Sent => EthernetFrame::parse(frame).ok().map(|frame| Sent {
                source: frame.source,
                destination: frame.destination,
            }),
            Write::Dropped(_) => None,
        }
    }

    fn let_watch(&mut self, now: Instant, recorder: &Recorder) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.next <= now) {
            watch.next = now + watch.period;
            (watch.watcher)(now, recorder);
        }
    }

    /// Narrates what happened, and hands on what is to be sent.
    fn tell(&mut self, now: Instant, step: Step) -> Option<Outgoing> {
        if let (Some(narrator), Some(event)) = (&mut self.narrator, &step.event) {
            narrator.event(now, step.vm, *event);
        }
        step.outgoing
    }
}
