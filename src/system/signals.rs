//! SIGINT and SIGTERM as something to read, so that a run ends between two turns and still reports.

use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::SystemError;

const STOP: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// Receives SIGINT and SIGTERM by a signalfd (`signalfd(2)`); until [`StopSignals::restore`] they end nothing.
#[derive(Debug)]
pub struct StopSignals {
    descriptor: SignalFd,
}

impl StopSignals {
    /// Blocks both signals for this thread, the only one of a run, and collects them from now on.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub fn new() -> Result<Self, SystemError> {
        let error =
            |errno: Errno| SystemError::kernel("receive SIGINT and SIGTERM by a descriptor", errno);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        // The descriptor first: when that fails, nothing has been blocked.
        let descriptor = SignalFd::with_flags(&stop_set(), flags).map_err(error)?;
        stop_set().thread_block().map_err(error)?;
        Ok(Self { descriptor })
    }

    /// The next signal that has arrived, or `None` when there is none.
    ///
    /// # Errors
    /// When the descriptor can't be read.
    pub fn take(&self) -> Result<Option<Signal>, SystemError> {
        loop {
            return match self.descriptor.read_signal() {
                Ok(Some(info)) => match Signal::try_from(info.ssi_signo as i32) {
                    Ok(signal) => Ok(Some(signal)),
                    Err(_) => continue,
                },
                Ok(None) => Ok(None),
                Err(Errno::EINTR) => continue,
                Err(errno) => Err(SystemError::kernel("read the descriptor of signals", errno)),
            };
        }
    }

    /// Gives both signals their default meaning back: from now on one of them ends the process at once, and so does
    /// one that has arrived and was not taken.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn restore(&self) -> Result<(), SystemError> {
        let error = |errno: Errno| {
            SystemError::kernel("give SIGINT and SIGTERM their default meaning", errno)
        };
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in STOP {
            #[allow(unsafe_code)]
            // SAFETY: the default action installs no handler, so no code of ours runs in a signal's context.
            unsafe { sigaction(signal, &default) }.map_err(error)?;
        }
        stop_set().thread_unblock().map_err(error)
    }
}

fn stop_set() -> SigSet {
    STOP.into_iter().collect()
}

impl AsRawFd for StopSignals {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::unix::SourceFd;
    use mio::{Interest, Token};
    use nix::sys::signal::raise;

    #[test]
    fn stop_signals_are_read_instead_of_ending_the_process() {
        let signals = StopSignals::new().unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(4);
        poll.registry()
            .register(
                &mut SourceFd(&signals.as_raw_fd()),
                Token(3),
                Interest::READABLE,
            )
            .unwrap();
        assert_eq!(signals.take().unwrap(), None);
        for signal in STOP {
            raise(signal).unwrap(); // to this thread alone
            poll.poll(&mut events, Some(std::time::Duration::from_secs(10)))
                .unwrap();
            assert_eq!(events.iter().count(), 1);
            assert_eq!(signals.take().unwrap(), Some(signal));
            assert_eq!(signals.take().unwrap(), None);
        }
        signals.restore().unwrap();
        let mask = SigSet::thread_get_mask().unwrap();
        assert!(!STOP.into_iter().any(|signal| mask.contains(signal)));
    }
}
