//! Where the reactor waits, and what the poll then tells.

use std::io;
use std::time::Duration;

use super::attention::Look;
use super::{EVENTS, Reactor, SIGNALS, TIMER, Unlooked};
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::system::{LINKS_TOKEN, SystemError, vm_of};
use crate::time::{Clock, Instant};
use crate::vm::VmId;

/// A deadline nearer than this is polled for: to sleep and wake takes a core about as long.
const NEAR: Duration = Duration::from_micros(20);

/// Has the poll tell of frames for `vm`.
fn attend<F: Fabric>(hypervisor: &mut Hypervisor<F>, vm: VmId) -> Result<(), SystemError> {
    hypervisor
        .fabric()
        .announce(vm, true)
        .map_err(|e| SystemError::io(format!("put the TAP of {vm} back on the poll"), &e))
}

impl Reactor {
    /// Polls: without waiting when there is work, else until something is ready or `deadline` has come.
    pub(super) fn wait<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<(), SystemError> {
        let has_work = !self.undrained.is_empty();
        let is_near = deadline.is_some_and(|deadline| deadline <= now + NEAR);
        let unlooked = std::mem::take(&mut self.unlooked);
        // What answers at once has answered already, and does not wait for a timer to be set.
        let may_have_come = unlooked != Unlooked::Nothing;
        let timeout = if has_work || is_near || may_have_come || self.spinning.goes_on(now) {
            Some(Duration::ZERO)
        } else {
            if let Some(deadline) = deadline {
                self.timer.arm(self.wakeup.before(now, deadline))?;
            }
            self.attend_to_all(hypervisor)?;
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
        let before = now.nanos_since(self.polled_at);
        let last_poll = self.polled_at;
        if timeout.is_some() {
            self.polled_at = self.read_clock(hypervisor);
            self.known_since = match unlooked {
                // Frames were left in the TAPs when the last turn ended.
                _ if has_work => last_poll,
                Unlooked::Since(first) => first,
                Unlooked::Frame | Unlooked::Nothing => now,
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

    /// Puts TAPs that are ready behind those carried over, and takes signals and the timer's tick. Whether more TAPs may be
    /// ready than the poll had room to tell.
    pub(super) fn sort_events(&mut self) -> Result<bool, SystemError> {
        let mut told = 0;
        for event in &self.events {
            told += 1;
            match event.token() {
                TIMER => self.timer.rang(),
                SIGNALS => self.stop = self.signals.take()?,
                LINKS_TOKEN => self.has_link_events = true,
                token => {
                    // A TAP that was carried over may be reported again. It is then drained twice, the second time in
                    // vain, which is cheaper than to look for it.
                    self.undrained.extend(vm_of(token));
                }
            }
        }
        Ok(told == EVENTS)
    }

    /// Has the poll tell of every TAP.
    pub(super) fn attend_to_all<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        let mut back = self.attention.pause();
        back.try_for_each(|vm| attend(hypervisor, vm))
    }

    /// Has some of the TAPs read that the poll does not tell of.
    pub(super) fn look_around<F: Fabric>(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
    ) -> Result<(), SystemError> {
        if self.prediction.is_given_up() {
            // Frames are not where they went any more: the poll has to tell when they come.
            return self.attend_to_all(hypervisor);
        }
        for _ in 0..self.attention.looks() {
            match self.attention.look() {
                Some(Look::Read(vm)) => self.undrained.push_back(vm),
                Some(Look::PutBack(vm)) => attend(hypervisor, vm)?,
                None => {}
            }
        }
        Ok(())
    }
}
