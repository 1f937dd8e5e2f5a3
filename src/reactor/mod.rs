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
mod exchange;
mod narrator;
mod pauses;
mod prediction;
mod spinning;
mod waiting;
mod wakeup;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use self::attention::Attention;
pub use self::narrator::Narrator;
use self::pauses::PauseWatch;
use self::prediction::Prediction;
use self::spinning::Spinning;
use self::wakeup::Wakeup;
use crate::fabric::Fabric;
use crate::hypervisor::{Hypervisor, Step};
use nix::sys::signal::Signal;

use crate::record::Recorder;
use crate::system::{DeadlineTimer, StopSignals, SystemError};
use crate::time::{Clock, Instant, MonotonicClock, earliest};
use crate::vm::VmId;
use crate::wire::LARGEST_FRAME;

const TIMER: Token = Token(0);
const SIGNALS: Token = Token(1);

/// Frames sent for due pings before the TAPs are looked at again.
const SEND_BUDGET: usize = 64;
/// VMs that come up, or rows of VMs that leave, before the TAPs are looked at again: each takes a millisecond or more.
const MOVE_BUDGET: usize = 1;
/// Events taken from the poll at once.
const EVENTS: usize = 1024;
/// Turns in a row in which nothing is sent because TAPs still hold frames: as many as it takes to empty a queue of the
/// kernel's default length, so that a flood from elsewhere does not silence the VMs.
const MOST_DEFERRED: u32 = 16;
/// How long pings on their way are waited for after a signal.
pub const LAST_WAIT: Duration = Duration::from_secs(1);
/// A signal that follows the first one sooner is the same wish: `timeout(1)` signals its child and then the child's group.
const SAME_WISH: Duration = Duration::from_millis(100);

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything that was to be done is done: every ping is over, or the time to serve is.
    Done,
    /// The user or the system asked for it; some pings may be on their way.
    Signal(Signal),
}

/// Somebody who looks at the figures now and then while a run goes on.
pub struct Watcher {
    /// How often.
    pub period: Duration,
    /// Takes a look. The run waits for it, so it must be quick.
    pub look: Box<Look>,
}

/// What a watcher does.
type Look = dyn FnMut(Instant, &Recorder);

/// A watcher, and when it looks next.
#[derive(Debug)]
struct Watch {
    next: Instant,
    watcher: Watcher,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("period", &self.period)
            .finish_non_exhaustive()
    }
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
    /// The same for answers from outside of the tool.
    outside: Prediction,
    attention: Attention,
    spinning: Spinning,
    wakeup: Wakeup,
    buffer: Vec<u8>,
    narrator: Option<Narrator>,
    watch: Option<Watch>,
    /// When the poll of this turn returned.
    polled_at: Instant,
    /// Since when the frames of this turn may have waited for the tool: since the poll returned if that waited for them.
    known_since: Instant,
    unlooked: Unlooked,
    /// Pings that are sent before the TAPs are looked at again.
    send_budget: usize,
    /// Turns in a row in which TAPs held frames that had not been read, so that nothing was sent.
    deferred: u32,
    pauses: PauseWatch,
    stop: Option<Signal>,
    /// Somebody has changed a link.
    has_link_events: bool,
}

/// What was written since the TAPs were looked at.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Unlooked {
    #[default]
    Nothing,
    /// A frame whose answer may have come since.
    Frame,
    /// Such a frame, and others, the first of them at that time.
    Since(Instant),
}

/// A run that is to end before its plan is over.
#[derive(Clone, Copy, Debug)]
struct Ending {
    signal: Signal,
    since: Instant,
    /// When pings on their way are waited for no longer.
    until: Instant,
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
            outside: Prediction::default(),
            attention: Attention::default(),
            spinning: Spinning::default(),
            wakeup: Wakeup::default(),
            buffer: vec![0; LARGEST_FRAME],
            narrator: None,
            watch: None,
            polled_at: Instant::ZERO,
            known_since: Instant::ZERO,
            unlooked: Unlooked::Nothing,
            send_budget: SEND_BUDGET,
            deferred: 0,
            pauses: PauseWatch::new(MonotonicClock.now()),
            stop: None,
            has_link_events: false,
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

    /// Has `watcher` look at the figures from now on.
    pub fn watch(&mut self, watcher: Watcher) {
        self.watch = Some(Watch {
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

    /// The TAPs hold that many frames: what is sent in one turn never fills more than half of a queue.
    pub fn queues_hold(&mut self, frames: u32) {
        self.send_budget = (frames as usize / 2).clamp(1, SEND_BUDGET);
    }

    /// The signals that end the run, for those who wait beside the reactor.
    pub fn signals(&self) -> &StopSignals {
        &self.signals
    }

    /// Has [`Reactor::run`] end at once, because of `signal`, which somebody else has taken.
    pub fn stop(&mut self, signal: Signal) {
        self.stop = Some(signal);
    }

    /// The signals, for what comes after the run.
    pub fn signals_mut(&mut self) -> &mut StopSignals {
        &mut self.signals
    }

    /// Whether a signal asks for the end already: [`Reactor::run`] will end at once then. For who has much to do before.
    ///
    /// # Errors
    /// When signals can't be read.
    pub fn is_to_stop(&mut self) -> Result<bool, SystemError> {
        if self.stop.is_none() {
            self.stop = self.signals.take()?;
        }
        Ok(self.stop.is_some())
    }

    /// Runs turns until the hypervisor's last phase is over and every ping of it has ended, or a signal asks for the end.
    /// Then nothing more is sent, and what is on its way is waited for, a second at most and until a further signal; what is
    /// left is lost. Without flows it serves: VMs answer until `until` or a signal.
    ///
    /// # Errors
    /// When the poll or the timer fails, or a VM can't come up or leave; what was measured is in the hypervisor still.
    pub fn run<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        until: Option<Instant>,
    ) -> Result<End, SystemError> {
        let serves = !hypervisor.has_flows();
        if self.narrator.is_some() {
            hypervisor.keep_events();
        }
        let mut ending: Option<Ending> = None;
        let mut now = self.clock.now();
        self.polled_at = now;
        self.pauses.skip(now);
        loop {
            if let Some(signal) = self.stop.take() {
                let begun = ending.get_or_insert_with(|| {
                    hypervisor.stop(now);
                    Ending::new(signal, now)
                });
                begun.signalled(now);
            }
            match ending {
                Some(end) if hypervisor.is_done() || end.until <= now => {
                    hypervisor.give_up(now);
                    return Ok(End::Signal(end.signal));
                }
                Some(end) => now = self.turn(hypervisor, now, Some(end.until))?,
                None if serves && until.is_some_and(|until| until <= now) => return Ok(End::Done),
                None if !serves && hypervisor.is_done() => return Ok(End::Done),
                None => now = self.turn(hypervisor, now, until)?,
            }
        }
    }

    /// One turn: wait, read what has come, send what is due. Returns when it was over.
    fn turn<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        until: Option<Instant>,
    ) -> Result<Instant, SystemError> {
        let watch = self.watch.as_ref().map(|watch| watch.next);
        let deadline = earliest(hypervisor.next_deadline(), earliest(until, watch));
        self.wait(hypervisor, now, deadline)?;
        let was_full = self.sort_events()?;
        if std::mem::take(&mut self.has_link_events) {
            self.look_at_links(hypervisor);
        }
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
        // Reading comes before sending, so that no queue overflows for what the tool itself sends.
        if (was_full || !self.undrained.is_empty()) && self.deferred < MOST_DEFERRED {
            self.deferred += 1;
        } else {
            self.deferred = 0;
            self.send_due(hypervisor);
        }
        if let Some(pause) = self.pauses.look_back() {
            hypervisor.recorder().paused(pause);
        }
        hypervisor.recorder().turn();
        let now = self.read_clock(hypervisor);
        self.let_watch(now, hypervisor.recorder());
        Ok(now)
    }

    /// Sends what is due, and follows each frame to where it goes.
    fn send_due<F: Fabric<Error = SystemError>>(&mut self, hypervisor: &mut Hypervisor<F>) {
        let mut now = self.read_clock(hypervisor);
        for _ in 0..self.send_budget {
            let Some(step) = hypervisor.next_step(now, &mut self.buffer) else {
                break;
            };
            self.spinning.worked(now);
            self.tell(hypervisor, now);
            if let Step::Send(outgoing) = step {
                now = self.exchange(hypervisor, outgoing).unwrap_or(now);
            }
        }
    }

    /// Reads the clock, and looks for a pause if it was not read for long.
    #[inline]
    fn read_clock<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>) -> Instant {
        let now = self.clock.now();
        if self.pauses.is_gap(now) {
            self.look_for_pause(hypervisor, now);
        }
        now
    }

    #[cold]
    fn look_for_pause<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, now: Instant) {
        // Who narrates waits for whoever reads that.
        if let Some(pause) = self.pauses.look(now)
            && self.narrator.is_none()
        {
            hypervisor.recorder().paused(pause);
        }
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
            // What others do meanwhile may have been heard, so that the poll does not tell of it any more.
            self.has_link_events = true;
            if let Some(narrator) = &mut self.narrator {
                narrator.moved(now, &moved);
            }
            // The kernel has its own to wait for.
            self.pauses.skip(self.clock.now());
        }
        Ok(())
    }

    /// Takes note of what somebody else has done to the links of the run.
    #[cold]
    fn look_at_links<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>) {
        for event in hypervisor.fabric().link_events() {
            if let Some(narrator) = &mut self.narrator {
                narrator.say(
                    self.polled_at,
                    format_args!("{} {}", event.link, event.change),
                );
            }
            hypervisor.recorder().link_changed(self.polled_at, event);
        }
    }

    fn let_watch(&mut self, now: Instant, recorder: &Recorder) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.next <= now) {
            watch.next = now + watch.watcher.period;
            (watch.watcher.look)(now, recorder);
            self.pauses.skip(self.clock.now());
        }
    }
}

impl Ending {
    fn new(signal: Signal, now: Instant) -> Ending {
        Ending {
            signal,
            since: now,
            until: now + LAST_WAIT,
        }
    }

    /// A signal came at `now`, the first one or a further one.
    fn signalled(&mut self, now: Instant) {
        if now - self.since >= SAME_WISH {
            self.until = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_signal_ends_the_wait_unless_it_is_the_first_one_again() {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        for (further, until) in [(0, 1_000), (99, 1_000), (100, 100), (700, 700)] {
            let mut ending = Ending::new(Signal::SIGINT, at(0));
            ending.signalled(at(further));
            assert_eq!(ending.until, at(until), "{further}");
        }
    }
}
