//! Signals that come before there is a lab.

use super::SystemError;
use super::handler::{self, Before};

/// While this lives, SIGINT, SIGTERM and SIGHUP end the process at once, with status 1 and a message that nothing was made:
/// a program has nothing to clean up while it reads and plans. A [`StopSignals`](super::StopSignals) that is created
/// meanwhile takes precedence. Dropping this restores the actions from before.
#[derive(Debug)]
pub struct EarlySignals(Vec<Before>);

impl EarlySignals {
    /// Takes the signals over, and outlives SIGXFSZ from now on.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<EarlySignals, SystemError> {
        let taken = handler::outlive_file_size_limit()
            .and_then(|()| super::stop_signals())
            .and_then(|signals| handler::install_early(&signals));
        taken
            .map(EarlySignals)
            .map_err(|errno| SystemError::kernel("handle SIGINT, SIGTERM and SIGHUP", errno))
    }
}

impl Drop for EarlySignals {
    fn drop(&mut self) {
        // The kernel has accepted these actions before.
        let _ = handler::restore(&self.0);
    }
}
