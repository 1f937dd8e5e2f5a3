//! The poll step of a turn: waits, and sorts the reported events.

use std::io;
use std::time::Duration;

use super::watch_set::Check;
use super::{EVENTS, Reactor, Source, Unread};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::system::SystemError;
use crate::time::{Clock, Instant};
use crate::vm::VmId;

/// A deadline nearer than this is busy-polled for: sleeping and waking takes about as long.
const NEAR: Duration = Duration::from_micros(20);

/// Adds the TAP of `vm` to epoll again.
fn watch_again<F: Fabric>(hypervisor: &mut Hypervisor<F>, vm: VmId) -> Result<(), SystemError> {
    hypervisor
        .fabric()
        .set_polled(vm, true)
        .map_err(|e| SystemError::io(format!("add the TAP of {vm} to epoll again"), &e))
}

impl Reactor {
    /// Polls without waiting if there is work, else until something is ready or `deadline` has passed. Returns the time of the
    /// poll before.
    pub(super) fn wait<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Instant, SystemError> {
        let has_work = !self.undrained.is_empty();
        let can_wait = !has_work && !self.has_news_to_look_at(hypervisor);
        let is_near = deadline.is_some_and(|deadline| deadline <= now + NEAR);
        let unread = std::mem::take(&mut self.unread);
        // A reply may be queued already, so the poll must not wait.
        let may_have_come = unread != Unread::Nothing;
        let timeout = if !can_wait || is_near || may_have_come || self.busy_poll.goes_on(now) {
            Some(Duration::ZERO)
        } else {
            let now = self.let_write(hypervisor, now, true);
            if let Some(deadline) = deadline {
                self.timer.arm(self.timer_lead.before(now, deadline))?;
            }
            self.watch_all(hypervisor)?;
            self.pauses.waits(now);
            None
        };
        let was_interrupted = match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                true
            }
            Err(e) => return Err(SystemError::io("wait for the next event", &e)),
        };
        let last_poll = self.polled_at;
        let before = now.nanos_since(last_poll);
        if timeout.is_some() {
            self.polled_at = self.read_clock(hypervisor);
            self.known_since = match unread {
                // Frames were left in the TAPs when the last turn ended.
                _ if has_work => last_poll,
                Unread::Since(first) => first,
                Unread::Frame | Unread::Nothing => now,
            };
        } else {
            self.polled_at = self.clock.now();
            self.known_since = self.polled_at;
            let deadline = self.timer.armed();
            if let Some(pause) = self.pauses.woke(self.polled_at, deadline, was_interrupted) {
                hypervisor.recorder().paused(pause);
            }
        }
        if timeout.is_none()
            && let Some(set) = self.timer.armed()
            && set > now
            && self
                .events
                .iter()
                .all(|event| self.sources.get(event.token()) == Some(Source::Timer))
        {
            self.timer_lead.woke(set, self.polled_at);
        }
        let poll = self.polled_at.nanos_since(now);
        let recorder = hypervisor.recorder();
        // The time before the poll belongs to the last turn: work, or busy polling if it had nothing to do.
        if self.busy_poll.was_idle() {
            recorder.spun(before);
        } else {
            recorder.busy(before);
        }
        let was_idle = timeout.is_some() && !has_work && self.events.is_empty();
        self.busy_poll.polled(was_idle);
        if was_idle {
            recorder.spun(poll);
            if deadline.is_none_or(|deadline| deadline > now) {
                self.watch_all(hypervisor)?;
            }
        } else if timeout.is_some() {
            recorder.busy(poll);
        }
        Ok(last_poll)
    }

    /// Waits until something has come from other ranks, a signal has arrived, or it is `until`. What else is reported is kept for
    /// the run.
    ///
    /// # Errors
    /// If the poll fails.
    pub fn wait_for_ranks(&mut self, until: Option<Instant>) -> Result<(), SystemError> {
        let left = until.map(|until| until - self.clock.now());
        match self.poll.poll(&mut self.events, left) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(SystemError::io("wait for other ranks", &e)),
        }
        for event in &self.events {
            match self.sources.get(event.token()) {
                Some(Source::Tap(vm)) => self.undrained.push_back(vm),
                Some(Source::Timer) => self.timer.rang(),
                Some(Source::Signals) if self.stop.is_none() => self.stop = self.signals.take()?,
                Some(Source::Links) => self.fabric_news.links = true,
                Some(Source::Moves) => self.fabric_news.moves = true,
                Some(Source::Drops) => self.fabric_news.drops = true,
                Some(Source::Control(number)) => self.ready.note(number, event),
                Some(Source::Signals | Source::Ports | Source::Pipes | Source::Ranks) | None => {}
            }
        }
        Ok(())
    }

    /// Queues the TAPs that are ready behind those carried over, and handles the timer, signals and link changes. Returns
    /// true if more TAPs may be ready than one poll can report.
    pub(super) fn sort_events<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<bool, SystemError> {
        let mut told = 0;
        for event in &self.events {
            told += 1;
            match self.sources.get(event.token()) {
                // A TAP that was carried over may be reported again. It is then drained twice; the second, empty read is
                // cheaper than a search of the queue.
                Some(Source::Tap(vm)) => self.undrained.push_back(vm),
                Some(Source::Timer) => self.timer.rang(),
                Some(Source::Signals) => {
                    self.stop = self.signals.take()?;
                    self.has_news = true;
                }
                Some(Source::Links) => self.fabric_news.links = true,
                Some(Source::Moves) => self.fabric_news.moves = true,
                Some(Source::Drops) => self.fabric_news.drops = true,
                Some(Source::Pipes) => hypervisor.fabric().resume(),
                Some(Source::Ranks) => {
                    self.hears_ranks = true;
                    self.has_news = true;
                }
                Some(Source::Control(number)) => {
                    self.ready.note(number, event);
                    self.has_news = true;
                }
                // The fabric has the frames ready.
                Some(Source::Ports) | None => {}
            }
        }
        Ok(told == EVENTS)
    }

    /// Adds every TAP that is not watched to epoll again.
    pub(super) fn watch_all<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        let mut back = self.watch_set.restore();
        back.try_for_each(|vm| watch_again(hypervisor, vm))
    }

    /// Queues some of the TAPs that epoll does not watch for reading.
    pub(super) fn check_unwatched<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        if self.prediction.is_given_up() {
            // Direct reads no longer find the frames: epoll has to report their arrival.
            return self.watch_all(hypervisor);
        }
        for _ in 0..self.watch_set.checks() {
            match self.watch_set.next_check() {
                Some(Check::Read(vm)) => self.undrained.push_back(vm),
                Some(Check::PutBack(vm)) => watch_again(hypervisor, vm)?,
                None => {}
            }
        }
        Ok(())
    }
}
