//! Signals that come between labs of which one follows the other.

use super::SystemError;
use super::handler::{self, Before};

/// While this lives, a SIGINT, SIGTERM or SIGHUP that no lab takes is only noted, so that what was measured until then can
/// be told; one that comes later than its echo ends the process. A [`StopSignals`](super::StopSignals) that is created
/// meanwhile takes precedence. Dropping this restores the actions from before.
#[derive(Debug)]
pub struct SignalsBetween(Vec<Before>);

impl SignalsBetween {
    /// Takes the signals over.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<SignalsBetween, SystemError> {
        let taken = super::stop_signals().and_then(|signals| {
            handler::forget_all();
            handler::install(&signals, false)
        });
        taken
            .map(SignalsBetween)
            .map_err(|errno| SystemError::kernel("handle SIGINT, SIGTERM and SIGHUP", errno))
    }

    /// Returns true if a signal has come since, whoever took it: also one that came while a lab was about to be built.
    pub fn has_come(&self) -> bool {
        handler::has_come()
    }
}

impl Drop for SignalsBetween {
    fn drop(&mut self) {
        // The kernel has accepted these actions before.
        let _ = handler::restore(&self.0);
    }
}
