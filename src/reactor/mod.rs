//! The event loop of a real run: one thread with one poll, the only code that blocks.
//!
//! A turn waits until something is ready (a TAP, the timer, a signal), reads the frames that have arrived, and sends the
//! pings that are due. Every loop in it has a budget, so that no TAP starves another:
//!
//! - mio is edge-triggered: a TAP that still holds frames when its budget is spent goes on a carry-over list, and the
//!   next poll does not wait.
//! - `write()` to a TAP runs the whole bridge before it returns, so a unicast frame to another VM of the run is in that
//!   VM's queue already. The reactor reads it at once (`Reactor::exchange`), before the next poll. No edge is lost by
//!   that: `epoll_wait` checks again that a queue holds something before it reports it (`ep_send_events` in
//!   `fs/eventpoll.c`), and a frame that arrives later is a new edge.
//! - Under load, TAPs that are always read that way are removed from epoll (`watch_set`).
//! - Signals and the end of the run are checked in every turn.

mod busy_poll;
mod control;
mod frames;
mod pauses;
mod poll;
mod prediction;
mod sources;
mod timer_lead;
mod watch_set;
mod watchers;

use std::collections::VecDeque;
use std::time::Duration;

use mio::{Events, Interest, Poll};

use self::busy_poll::BusyPoll;
pub use self::control::{ClientId, ControlClients, MAX_CLIENTS, MAX_REFUSED, Ready};
use self::pauses::PauseWatch;
use self::prediction::Prediction;
pub use self::sources::{Source, Sources};
use self::timer_lead::TimerLead;
use self::watch_set::WatchSet;
pub use self::watchers::Watcher;
use self::watchers::Watchers;
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use nix::sys::signal::Signal;

use crate::system::{DeadlineTimer, StopSignals, SystemError};
use crate::time::{Clock, Instant, MonotonicClock, earliest};
use crate::vm::VmId;
use crate::wire::LARGEST_FRAME;

/// Pings sent in a turn before the TAPs are read again.
const SEND_BUDGET: usize = 64;
/// VMs that start, or groups of VMs that stop, in a turn before the TAPs are read again: each takes a millisecond or more.
const TRANSITION_BUDGET: usize = 1;
/// Maximum number of events of one poll.
const EVENTS: usize = 1024;
/// Maximum number of consecutive turns that send nothing because TAPs still hold frames: enough to empty a queue of the
/// kernel's default length, so that a flood from outside does not silence the VMs.
const MOST_DEFERRED: u32 = 16;
/// The time for which outstanding pings are waited for after a signal; those of other ranks for as long again.
pub const LAST_WAIT: Duration = Duration::from_secs(1);
/// A signal that follows the first one within this time is a duplicate: `timeout(1)` signals its child and then the
/// child's process group.
const SAME_WISH: Duration = Duration::from_millis(100);
/// For so long the drops that the poll reports wait for others. As long as one has not been looked at, the kernel wakes nobody
/// for the next, which takes it longer than all else that it does to tell of one.
const DROPS_WAIT: Duration = Duration::from_millis(1);
/// What has become of links waits no longer for VMs that move.
const LONGEST_UNLOOKED: Duration = Duration::from_millis(10);

/// The reason why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The run is complete: every ping is finished, or its time is over.
    Done,
    /// A signal ended it; some pings may have been outstanding.
    Signal(Signal),
    /// [`Command::Stop`](crate::hypervisor::Command::Stop) ended it; some pings may have been outstanding.
    Stopped,
    /// It has not ended: somebody else is to look after other ranks, or the clients of the control socket, of whom [`Reactor::take_ready`]
    /// tells, and to call [`Reactor::run`] again, which goes on.
    Called,
}

/// Drives a [`Hypervisor`] in real time.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    sources: Sources,
    events: Events,
    timer: DeadlineTimer,
    signals: StopSignals,
    clock: MonotonicClock,
    /// TAPs to read: reported by the poll, or carried over because they may hold frames that no edge reports.
    undrained: VecDeque<VmId>,
    /// Direct reads from the TAPs of other VMs.
    prediction: Prediction,
    /// Direct reads of replies from addresses outside the run.
    outside: Prediction,
    watch_set: WatchSet,
    busy_poll: BusyPoll,
    timer_lead: TimerLead,
    buffer: Vec<u8>,
    watchers: Watchers,
    /// The time by which the clients of the control socket have to be looked after.
    call_at: Option<Instant>,
    /// The earliest time at which watchers, clients or drops are to be looked after.
    next_look: Option<Instant>,
    /// Time at which the poll of this turn returned.
    polled_at: Instant,
    /// Earliest time at which a frame of this turn may have arrived; the return of the poll if that waited.
    known_since: Instant,
    unread: Unread,
    /// The last frame sent was not followed because its flow has another to send at once.
    is_in_burst: bool,
    /// The VM whose TAP holds such frames, once the last of them was sent.
    burst_at: Option<VmId>,
    /// Pings sent in a turn before the TAPs are read again.
    send_budget: usize,
    /// Consecutive turns that sent nothing because TAPs still held frames.
    deferred: u32,
    pauses: PauseWatch,
    stop: Option<Signal>,
    /// The run is ending.
    ending: Option<Ending>,
    /// A signal or a client of the control socket asks for attention between two turns.
    has_news: bool,
    /// Time at which [`Reactor::run`] returned because of a client.
    called_at: Option<Instant>,
    fabric_news: FabricNews,
    /// When that was last looked at.
    looked_at: Instant,
    /// The time by which the drops that the poll has reported are looked at.
    drops_at: Option<Instant>,
    /// Clients of the control socket that the poll has reported.
    ready: Ready,
    /// The poll has reported a socket of other ranks.
    hears_ranks: bool,
}

/// What the poll has reported of the fabric beside TAPs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct FabricNews {
    /// A move of a VM has ended.
    moves: bool,
    /// A link has changed.
    links: bool,
    /// Frames were dropped.
    drops: bool,
}

/// Frames written since the last poll whose replies were not read directly.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Unread {
    #[default]
    Nothing,
    /// A frame whose reply may have arrived since.
    Frame,
    /// Such a frame, and pings after it, the first of them sent at this time.
    Since(Instant),
}

/// The end of a run by a signal or a command.
#[derive(Clone, Copy, Debug)]
struct Ending {
    by: End,
    since: Instant,
    /// End of the wait for outstanding pings.
    until: Instant,
    /// No other wait comes behind it.
    is_last: bool,
}

impl Reactor {
    /// Creates a reactor whose run ends when one of `signals` arrives.
    ///
    /// # Errors
    /// If the kernel refuses a file descriptor for the poll or the timer, or their registration.
    pub fn new(signals: StopSignals) -> Result<Reactor, SystemError> {
        let poll = Poll::new().map_err(|e| SystemError::io("create the poll", &e))?;
        let mut sources = Sources::new(poll.registry())?;
        let timer = DeadlineTimer::new()?;
        sources
            .register(&timer, Source::Timer, Interest::READABLE)
            .and_then(|_| sources.register(&signals, Source::Signals, Interest::READABLE))
            .map_err(|e| SystemError::io("register timer and signals with the poll", &e))?;
        Ok(Reactor {
            poll,
            sources,
            events: Events::with_capacity(EVENTS),
            timer,
            signals,
            clock: MonotonicClock,
            undrained: VecDeque::new(),
            prediction: Prediction::default(),
            outside: Prediction::default(),
            watch_set: WatchSet::default(),
            busy_poll: BusyPoll::default(),
            timer_lead: TimerLead::default(),
            buffer: vec![0; LARGEST_FRAME],
            watchers: Watchers::default(),
            call_at: None,
            next_look: None,
            polled_at: Instant::ZERO,
            known_since: Instant::ZERO,
            unread: Unread::Nothing,
            is_in_burst: false,
            burst_at: None,
            send_budget: SEND_BUDGET,
            deferred: 0,
            pauses: PauseWatch::new(MonotonicClock.now()),
            stop: None,
            ending: None,
            has_news: false,
            called_at: None,
            fabric_news: FabricNews::default(),
            looked_at: Instant::ZERO,
            drops_at: None,
            ready: Ready::default(),
            hears_ranks: false,
        })
    }

    /// Returns the sources of the poll, with which file descriptors are registered.
    pub fn sources(&mut self) -> &mut Sources {
        &mut self.sources
    }

    /// Calls `watcher` periodically from now on, beside those that are there already.
    pub fn watch(&mut self, watcher: Watcher) {
        self.watchers.add(self.clock.now(), watcher);
        self.set_next_look();
    }

    /// Removes all watchers.
    pub fn end_watch(&mut self) {
        self.watchers = Watchers::default();
        self.set_next_look();
    }

    /// Has [`Reactor::run`] return [`End::Called`] at `at`, if it is still running and no client of the control socket was
    /// the reason before.
    pub fn call_at(&mut self, at: Option<Instant>) {
        self.call_at = at;
        self.set_next_look();
    }

    /// Returns the clients of the control socket that the poll has reported since the last call.
    pub fn take_ready(&mut self) -> Ready {
        std::mem::take(&mut self.ready)
    }

    fn set_next_look(&mut self) {
        let next = earliest(self.watchers.next_at(), self.call_at);
        self.next_look = earliest(next, self.drops_at);
    }

    /// Enables busy polling: for `span` after any work the reactor polls again instead of sleeping; without end for
    /// [`Duration::MAX`].
    pub fn spin(&mut self, span: Duration) {
        self.busy_poll = BusyPoll::new(span);
    }

    /// Sets the queue length of the TAPs, in frames, so that one turn never fills more than half of a queue.
    pub fn queues_hold(&mut self, frames: u32) {
        self.send_budget = (frames as usize / 2).clamp(1, SEND_BUDGET);
    }

    /// Returns the signals that end the run, for code that waits for them before or after it.
    pub fn signals(&self) -> &StopSignals {
        &self.signals
    }

    /// Makes [`Reactor::run`] end at once with `signal`, which was received elsewhere.
    pub fn stop(&mut self, signal: Signal) {
        self.stop = Some(signal);
    }

    /// Returns the signals for changes; see [`Reactor::signals`].
    pub fn signals_mut(&mut self) -> &mut StopSignals {
        &mut self.signals
    }

    /// Returns true if a signal has arrived already, so that [`Reactor::run`] will end at once. To be checked during a
    /// long set-up.
    ///
    /// # Errors
    /// If signals can't be read.
    pub fn is_to_stop(&mut self) -> Result<bool, SystemError> {
        if self.stop.is_none() {
            self.stop = self.signals.take()?;
        }
        Ok(self.stop.is_some())
    }

    /// Runs turns until the last phase is over and every ping is finished, until `until`, or until a signal arrives or the run
    /// is stopped by a command. After these two, outstanding pings are waited for, for [`LAST_WAIT`] or until a further
    /// signal; those left count as lost. A run that stops at gates then answers the pings of others until the last gate is open,
    /// for as long again at most. Without flows the VMs only answer. Called again, it goes on where it was.
    ///
    /// # Errors
    /// If the poll or the timer fails, or a VM can't start or stop. The measurements so far remain in the hypervisor.
    pub fn run<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        until: Option<Instant>,
    ) -> Result<End, SystemError> {
        let serves = !hypervisor.has_flows() && !hypervisor.stops_at_gates();
        let mut now = self.clock.now();
        match self.called_at.take() {
            Some(at) => {
                if let Some(pause) = self.pauses.answered(at, now) {
                    hypervisor.paused(pause);
                }
            }
            None => {
                self.polled_at = now;
                self.pauses.skip(now);
            }
        }
        self.handle_signal(hypervisor, now);
        loop {
            match self.ending {
                Some(end) if end.until <= now && !end.is_last && hypervisor.has_gates() => {
                    hypervisor.give_up(now);
                    self.ending = Some(end.prolonged());
                }
                Some(end) if hypervisor.is_done() || end.until <= now => {
                    let now = self.read_rest(hypervisor, now)?;
                    hypervisor.give_up(now);
                    self.ending = None;
                    return Ok(end.by);
                }
                Some(end) => now = self.turn(hypervisor, now, Some(end.until))?,
                None if until.is_some_and(|until| until <= now) => {
                    self.read_rest(hypervisor, now)?;
                    return Ok(End::Done);
                }
                None if !serves && hypervisor.is_done() => {
                    now = self.read_rest(hypervisor, now)?;
                    if !hypervisor.waits_for_held_copies(now) {
                        return Ok(End::Done);
                    }
                }
                None => now = self.turn(hypervisor, now, until)?,
            }
            // Behind a turn, so that the run goes on however much clients ask for.
            if self.has_news || hypervisor.is_at_new_gate() {
                self.has_news = false;
                self.handle_signal(hypervisor, now);
                if self.ready.is_any()
                    || self.hears_ranks
                    || self.call_at.is_some_and(|at| at <= now)
                    || hypervisor.is_at_new_gate()
                {
                    self.hears_ranks = false;
                    self.called_at = Some(now);
                    return Ok(End::Called);
                }
            }
        }
    }

    /// Reads what the TAPs hold at the end of a run, which nothing waits for: copies for those who are not to get any, of streams and
    /// floods, and second copies. A `write()` returns when the copies that bridges make of its frame are in the queues: there are no more
    /// once a poll of all TAPs reports none. Returns the time after that.
    #[cold]
    fn read_rest<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        mut now: Instant,
    ) -> Result<Instant, SystemError> {
        self.watch_all(hypervisor)?;
        // So many empty all queues, if all are full. A flood from outside has no end.
        let rounds = MOST_DEFERRED as usize + hypervisor.vm_count() / EVENTS;
        for _ in 0..rounds {
            self.wait(hypervisor, now, Some(now))?;
            self.sort_events(hypervisor)?;
            self.pass_due(hypervisor);
            now = self.polled_at;
            if self.undrained.is_empty() {
                break;
            }
            for _ in 0..self.undrained.len() {
                if let Some(vm) = self.undrained.pop_front() {
                    self.drain(hypervisor, vm);
                    self.busy_poll.worked(self.polled_at);
                }
            }
        }
        Ok(now)
    }

    /// Begins the end of the run at `now` if a signal has arrived or the hypervisor was told to stop; hastens it if another
    /// signal has.
    fn handle_signal<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, now: Instant) {
        if let Some(signal) = self.stop.take() {
            let begun = self.ending.get_or_insert_with(|| {
                hypervisor.stop(now);
                Ending::new(End::Signal(signal), now)
            });
            begun.signalled(now);
            // Other ranks are to be told at once.
            if hypervisor.has_gates() {
                (self.hears_ranks, self.has_news) = (true, true);
            }
        } else if hypervisor.is_stopping() && self.ending.is_none() {
            self.ending = Some(Ending::new(End::Stopped, now));
        }
    }

    /// Performs one turn: waits, reads the frames that have arrived, sends the pings that are due. Returns the time of its
    /// end.
    fn turn<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        until: Option<Instant>,
    ) -> Result<Instant, SystemError> {
        let deadline = earliest(hypervisor.next_deadline(), earliest(until, self.next_look));
        let last_poll = self.wait(hypervisor, now, deadline)?;
        let was_full = self.sort_events(hypervisor)?;
        let has_moved = std::mem::take(&mut self.fabric_news.moves);
        if has_moved {
            // Until the VM has announced itself, nobody reaches it; and now its peers' pings are worth a read again.
            hypervisor.end_moves(false);
            self.prediction.hit();
        }
        self.check_unwatched(hypervisor)?;
        self.pass_due(hypervisor);
        for _ in 0..self.undrained.len() {
            if let Some(vm) = self.undrained.pop_front() {
                self.drain(hypervisor, vm);
                self.busy_poll.worked(self.polled_at);
            }
        }
        if hypervisor.has_due_commands() {
            self.carry_out_due(hypervisor)?;
        }
        // TAPs are read before anything is sent, so that the run's own frames overflow no queue.
        if (was_full || !self.undrained.is_empty()) && self.deferred < MOST_DEFERRED {
            self.deferred += 1;
        } else {
            self.deferred = 0;
            self.send_due(hypervisor);
        }
        // Frames can't wait, and of what has become of links it is known only that it is past.
        if self.fabric_news.links {
            // What bridges have learned of a VM that moves was learned before the frames of the next turn, and perhaps before those
            // that the last one has read behind its poll.
            hypervisor.hear_of_tables(last_poll, self.polled_at);
        }
        if self.has_news_to_look_at(hypervisor) && !has_moved {
            self.look_at_fabric(hypervisor);
        }
        if let Some(pause) = self.pauses.look_back() {
            hypervisor.recorder().paused(pause);
        }
        hypervisor.recorder().turn();
        let now = self.read_clock(hypervisor);
        let now = self.let_write(hypervisor, now, false);
        if self.next_look.is_some_and(|at| at <= now) {
            self.let_watch(hypervisor, now);
        }
        Ok(now)
    }

    /// Returns true if there is something to look at that the poll has reported of the fabric. As long as a VM moves it can wait,
    /// for some time: most of it is of that move.
    #[inline]
    fn has_news_to_look_at<F: Fabric>(&self, hypervisor: &Hypervisor<F>) -> bool {
        self.fabric_news != FabricNews::default()
            && (!hypervisor.is_any_under_way()
                || self.polled_at >= self.looked_at + LONGEST_UNLOOKED)
    }

    /// Has the hypervisor look at what the poll has reported of the fabric.
    #[cold]
    fn look_at_fabric<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>) {
        let news = std::mem::take(&mut self.fabric_news);
        self.looked_at = self.polled_at;
        if news.links {
            hypervisor.look_at_links(self.polled_at);
        }
        if news.drops {
            self.drops_at.get_or_insert(self.polled_at + DROPS_WAIT);
            self.set_next_look();
        }
    }

    /// Lets the instruments write what they have, and returns the time after that. A write that takes long is a pause.
    #[inline]
    fn let_write<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        is_idle: bool,
    ) -> Instant {
        match hypervisor.fabric().flush(now, is_idle) {
            true => self.has_written(hypervisor, now),
            false => now,
        }
    }

    #[cold]
    fn has_written<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, from: Instant) -> Instant {
        let now = self.clock.now();
        if let Some(pause) = self.pauses.wrote(from, now) {
            hypervisor.paused(pause);
        }
        now
    }

    /// Reads the clock, and checks for a pause if the last reading was long ago.
    #[inline]
    fn read_clock<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>) -> Instant {
        let now = self.clock.now();
        self.check_gap(hypervisor, now);
        now
    }

    /// Checks for a pause between the last reading of the clock and `now`, if that was long ago.
    #[inline]
    fn check_gap<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, now: Instant) {
        if self.pauses.is_gap(now) {
            self.look_for_pause(hypervisor, now);
        }
    }

    #[cold]
    fn look_for_pause<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, now: Instant) {
        // A trace waits for the reader of its output: that is not a pause.
        if let Some(pause) = self.pauses.look(now)
            && !hypervisor.fabric().waits_for_reader()
        {
            hypervisor.paused(pause);
        }
    }

    /// Starts and stops the VMs that are due to.
    fn carry_out_due<F: Fabric<Error = SystemError>>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        for _ in 0..TRANSITION_BUDGET {
            let now = self.clock.now();
            if !hypervisor.carry_out_due(now)? {
                break;
            }
            self.busy_poll.worked(now);
            // The fabric may have read link changes meanwhile, which the poll does not report again.
            self.fabric_news.links = true;
            // Waits within the kernel are not pauses.
            self.pauses.skip(self.clock.now());
        }
        Ok(())
    }

    /// Calls the watcher if it is time to, and sees to it that clients and drops are looked after in time.
    #[cold]
    fn let_watch<F: Fabric>(&mut self, hypervisor: &mut Hypervisor<F>, now: Instant) {
        self.has_news |= self.call_at.is_some_and(|at| at <= now);
        if self.drops_at.is_some_and(|at| at <= now) {
            self.drops_at = None;
            hypervisor.look_at_drops(now);
            self.set_next_look();
        }
        if self.watchers.look(now, hypervisor.recorder()) {
            self.pauses.skip(self.clock.now());
            self.set_next_look();
        }
    }
}

impl Ending {
    fn new(by: End, now: Instant) -> Ending {
        Ending {
            by,
            since: now,
            until: now + LAST_WAIT,
            is_last: false,
        }
    }

    /// The same, with the wait for others behind that for the own pings.
    fn prolonged(self) -> Ending {
        Ending {
            until: self.until + LAST_WAIT,
            is_last: true,
            ..self
        }
    }

    /// Handles a signal at `now`, the first one or a further one.
    fn signalled(&mut self, now: Instant) {
        if now - self.since >= SAME_WISH {
            (self.until, self.is_last) = (now, true);
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
            let mut ending = Ending::new(End::Signal(Signal::SIGINT), at(0));
            ending.signalled(at(further));
            assert_eq!(ending.until, at(until), "{further}");
            assert_eq!(ending.is_last, until == further, "{further}");
            // Of a wait for others, too.
            let mut prolonged = Ending::new(End::Signal(Signal::SIGINT), at(0)).prolonged();
            assert_eq!(prolonged.until, at(2_000));
            prolonged.signalled(at(1_000 + further));
            assert_eq!(prolonged.until, at(1_000 + further));
        }
    }
}
