//! The part of a lab that differs between real and virtual time.

use crate::experiment::Experiment;
use crate::fabric::Fabric;
use crate::hypervisor::Hypervisor;
use crate::reactor::{End, Ready, Sources, Watcher};
use crate::system::{PollHandle, Probed, StopSignals, SystemError};
use crate::time::Instant;

/// Drives the hypervisor of a lab on a fabric `F`: [`RealTime`](super::RealTime) or [`VirtualTime`](super::VirtualTime).
pub trait Driver<F: Fabric> {
    /// Returns the present time.
    fn now(&self) -> Instant;

    /// Returns the time at [`Instant::ZERO`], in nanoseconds since 1970 (UTC).
    fn unix_nanos_at_zero(&self) -> u64;

    /// Returns a handle of the poll, with which the pipes of instruments are registered; `None` in virtual time, which polls
    /// none.
    ///
    /// # Errors
    /// If the process has no file descriptor left for it.
    fn pipes(&mut self) -> Result<Option<PollHandle>, SystemError> {
        Ok(None)
    }

    /// Makes room for so many VMs at once, those that there are included.
    ///
    /// # Errors
    /// If the process may not have enough file descriptors.
    fn make_room(&mut self, vms: usize) -> Result<(), SystemError> {
        let _ = vms;
        Ok(())
    }

    /// Completes the set-up of a lab whose ports exist. A signal may end that early, of which
    /// [`Driver::is_to_stop`] tells.
    ///
    /// # Errors
    /// If the system refuses an operation.
    fn make_ready(&mut self, plan: &Experiment, fabric: &mut F) -> Result<(), SystemError> {
        let _ = (plan, fabric);
        Ok(())
    }

    /// Undoes what [`Driver::make_ready`] did.
    ///
    /// # Errors
    /// If the system refuses an operation.
    fn leave(&mut self, plan: &Experiment) -> Result<(), SystemError> {
        let _ = plan;
        Ok(())
    }

    /// Returns true if a signal has arrived, with which [`Driver::run`] will end at once.
    ///
    /// # Errors
    /// If signals can't be read.
    fn is_to_stop(&mut self) -> Result<bool, SystemError>;

    /// Calls `watcher` periodically while the lab runs, beside those that are there, if figures change while somebody watches.
    fn watch(&mut self, watcher: Watcher) {
        let _ = watcher;
    }

    /// Removes all watchers.
    fn end_watch(&mut self) {}

    /// Returns the sources of the poll, with which the control socket is registered.
    ///
    /// # Errors
    /// If the process has no file descriptor left for a poll.
    fn sources(&mut self) -> Result<&mut Sources, SystemError>;

    /// Has [`Driver::run`] and [`Driver::wait`] return [`End::Called`] at `at`, if no client of the control socket is the reason before.
    fn call_at(&mut self, at: Option<Instant>);

    /// Returns the clients of the control socket that had an event since the last call.
    fn take_ready(&mut self) -> Ready;

    /// Waits until something has come from other ranks, a signal has arrived, or it is `until`. In virtual time there are no others.
    ///
    /// # Errors
    /// If the system refuses an operation.
    fn wait_for_ranks(&mut self, until: Option<Instant>) -> Result<(), SystemError> {
        let _ = until;
        Ok(())
    }

    /// Looks whether frames of other ranks come through what connects their labs to that of `plan`. `None` if there is nothing to
    /// find out.
    ///
    /// # Errors
    /// If none have come from a rank in time.
    fn probe_others(&mut self, plan: &Experiment) -> Result<Option<Probed>, SystemError> {
        let _ = plan;
        Ok(None)
    }

    /// Looks no more.
    fn end_probe(&mut self) {}

    /// Waits, after a run, for a client of the control socket ([`End::Called`]), a signal, or the time that was set with
    /// [`Driver::call_at`].
    ///
    /// # Errors
    /// If the system refuses an operation.
    fn wait(&mut self) -> Result<End, SystemError>;

    /// Runs until the phases are over or a signal arrives; without flows until `until` or a signal. Returns
    /// [`End::Called`] where a client of the control socket is to be looked after; the next call goes on with the run.
    ///
    /// # Errors
    /// If the system refuses an operation, or a VM can't start or stop. The measurements so far remain in the hypervisor.
    fn run(
        &mut self,
        hypervisor: &mut Hypervisor<F>,
        until: Option<Instant>,
    ) -> Result<End, SystemError>;

    /// Returns the signals that end a run.
    fn signals(&mut self) -> &mut StopSignals;
}
