//! SIGINT, SIGTERM and SIGHUP: each ends a run in order, whatever follows it within two seconds.
//!
//! `timeout(1)` signals its child twice within microseconds (the process, then its group), and a user at a terminal
//! presses a key twice; both mean one thing. So the first signal counts, and what comes within [`ECHO`] after it is taken
//! for its echo.
//!
//! Before there is a lab, a signal ends the program at once ([`EarlySignals`]), and between two labs of one program it is
//! noted ([`SignalsBetween`]). A run has two stages. While it can look ([`StopSignals::new`]), signals are blocked and are
//! read from a signalfd (`signalfd(2)`), between two turns of the reactor or while a hook is waited for. At its end
//! ([`StopSignals::guard_end`]) it is busy with system calls that can't be left half done: counting, writing, removing.
//! There a handler takes the signals, interrupts nothing, and ends the process if one comes that is no echo.

mod between;
mod early;
mod handler;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

pub use self::between::SignalsBetween;
pub use self::early::EarlySignals;
use self::handler::Arrival;
pub(super) use self::handler::has_come_late;
use super::error::SystemError;
use crate::time::{Clock, Instant, MonotonicClock};

/// How long after the first signal others are taken for its echo.
pub const ECHO: Duration = Duration::from_secs(2);

/// The signals that end a run. SIGHUP is none while the process ignores it, as under `nohup(1)`: the kernel would queue it if
/// it were blocked.
pub(super) fn stop_signals() -> Result<SigSet, Errno> {
    let mut signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    if !handler::is_ignored(Signal::SIGHUP)? {
        signals.add(Signal::SIGHUP);
    }
    Ok(signals)
}

/// Receives SIGINT, SIGTERM and SIGHUP, for the rest of the process's life: dropped, it enters the last stage.
#[derive(Debug)]
pub struct StopSignals {
    descriptor: SignalFd,
    signals: SigSet,
    stage: Stage,
}

/// The treatment of a signal.
#[derive(Debug)]
enum Stage {
    /// It waits for somebody to take it.
    Collected,
    /// The handler decides. What signals did before is done again in the end.
    Guarded(Vec<handler::Before>),
    /// It is nobody's here any more.
    Released,
}

/// The outcome of [`Collecting::wait_for`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// The descriptor is readable.
    Ready,
    /// A signal has arrived that is no echo of another.
    Signal(Signal),
    /// The time is up.
    TimeOut,
}

impl StopSignals {
    /// Blocks the signals for this thread, the only one of a run, and collects them from now on.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn new() -> Result<Self, SystemError> {
        let error = |errno: Errno| {
            SystemError::kernel("receive SIGINT, SIGTERM and SIGHUP by a descriptor", errno)
        };
        let signals = stop_signals().map_err(error)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        // The descriptor first: when that fails, nothing has been blocked.
        let descriptor = SignalFd::with_flags(&signals, flags).map_err(error)?;
        signals.thread_block().map_err(error)?;
        handler::forget_arrivals();
        Ok(Self {
            descriptor,
            signals,
            stage: Stage::Collected,
        })
    }

    /// The next signal that has arrived, or `None` when there is none.
    ///
    /// # Errors
    /// When the descriptor can't be read.
    pub fn take(&self) -> Result<Option<Signal>, SystemError> {
        Ok(self.take_with_arrival()?.map(|(signal, _)| signal))
    }

    fn take_with_arrival(&self) -> Result<Option<(Signal, Arrival)>, SystemError> {
        loop {
            return match self.descriptor.read_signal() {
                Ok(Some(info)) => match Signal::try_from(info.ssi_signo as i32) {
                    Ok(signal) => Ok(Some((signal, handler::arrived(MonotonicClock.now())))),
                    Err(_) => continue,
                },
                Ok(None) => Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => Err(SystemError::kernel("read the descriptor of signals", errno)),
            };
        }
    }

    /// Enters the last stage: from now on nothing looks at the descriptor any more, system calls are not interrupted,
    /// echoes do nothing, and any other signal but the first ends the process by its default action, after a word on
    /// standard error of what it leaves; `leaves_links` says whether that is links. What has arrived and was not taken
    /// counts as the first.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn guard_end(&mut self, leaves_links: bool) -> Result<(), SystemError> {
        let error = |errno: Errno| SystemError::kernel("handle SIGINT, SIGTERM and SIGHUP", errno);
        let before = handler::install(&self.signals, leaves_links).map_err(error)?;
        while self.take()?.is_some() {}
        self.signals.thread_unblock().map_err(error)?;
        self.stage = Stage::Guarded(before);
        Ok(())
    }

    /// Gives signals back the effect on the process that they had before.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&mut self) -> Result<(), SystemError> {
        let error =
            |errno: Errno| SystemError::kernel("let go of SIGINT, SIGTERM and SIGHUP", errno);
        match std::mem::replace(&mut self.stage, Stage::Released) {
            Stage::Collected => self.signals.thread_unblock().map_err(error),
            Stage::Guarded(before) => handler::restore(&before).map_err(error),
            Stage::Released => Ok(()),
        }
    }

    /// Collects signals by the descriptor while something is done and [waited for](Collecting::wait_for), in either stage.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn collect(&self) -> Result<Collecting<'_>, SystemError> {
        let blocked = Blocked::begin(&self.signals)
            .map_err(|errno| SystemError::kernel("block SIGINT, SIGTERM and SIGHUP", errno))?;
        Ok(Collecting {
            signals: self,
            _blocked: blocked,
        })
    }
}

/// Signals are read from their descriptor until this is dropped.
pub(super) struct Collecting<'a> {
    signals: &'a StopSignals,
    _blocked: Blocked,
}

impl Collecting<'_> {
    /// Waits until `descriptor` is readable, a signal arrives that is no echo, or it is `until`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn wait_for(
        &self,
        descriptor: BorrowedFd<'_>,
        until: Option<Instant>,
    ) -> Result<Waited, SystemError> {
        loop {
            while let Some((signal, arrival)) = self.signals.take_with_arrival()? {
                if arrival != Arrival::Echo {
                    return Ok(Waited::Signal(signal));
                }
            }
            let left = until.map(|until| until - MonotonicClock.now());
            if left == Some(Duration::ZERO) {
                return Ok(Waited::TimeOut);
            }
            let mut descriptors = [
                PollFd::new(descriptor, PollFlags::POLLIN),
                PollFd::new(self.signals.descriptor.as_fd(), PollFlags::POLLIN),
            ];
            match ppoll(&mut descriptors, left.map(TimeSpec::from_duration), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    let operation = "wait for a process or a signal";
                    return Err(SystemError::kernel(operation, errno));
                }
            }
            if descriptors[0].any().unwrap_or(true) {
                return Ok(Waited::Ready);
            }
        }
    }
}

impl AsRawFd for StopSignals {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_fd().as_raw_fd()
    }
}

impl AsFd for StopSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        // After an error, of which the user is told now: signals that nobody reads any more must not stay blocked.
        if matches!(self.stage, Stage::Collected) {
            let _ = self.guard_end(false);
        }
    }
}

/// Some signals are blocked, so that a descriptor has them; dropped, they are as they were before.
pub(super) struct Blocked {
    before: SigSet,
}

impl Blocked {
    pub(super) fn begin(signals: &SigSet) -> Result<Blocked, Errno> {
        let before = SigSet::thread_get_mask()?;
        signals.thread_block()?;
        Ok(Blocked { before })
    }

    /// The signals that were blocked before.
    pub(super) fn before(&self) -> SigSet {
        self.before
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // It was the mask before, so the kernel has taken it before.
        let _ = self.before.thread_set_mask();
    }
}

/// Held by tests that use signals: what a process does on one, and when the first came, is one thing for all its threads.
#[cfg(test)]
pub(super) static ONE_TEST_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests;
