//! The wait for ports of bridges to forward. A port does so only after the kernel has told its bridge of its carrier, which it
//! does in a worker of its own (`linkwatch_event()` of `net/core/link_watch.c`), and after what the spanning tree protocol
//! takes; and a bridge carries what its host sends only after the same was done for its own carrier, which it has from its
//! first port that forwards. What is sent before is lost without a trace.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::super::error::SystemError;
use super::super::link_monitor::LinkMonitor;
use super::super::netlink::Netlink;
use super::super::signals::{StopSignals, Waited};
use crate::fabric::StpState;
use crate::time::{Clock, MonotonicClock};

/// Time for a port to forward beyond what the spanning tree protocol takes.
const MARGIN: Duration = Duration::from_secs(5);

/// Waits until `ports` forward frames, or a signal comes, which is returned.
///
/// # Errors
/// When one of them does not within [`MARGIN`] after `time_to_forward`.
pub(in crate::system) fn wait(
    netlink: &mut Netlink,
    ports: &HashSet<&str>,
    time_to_forward: Duration,
    signals: &StopSignals,
) -> Result<Option<Signal>, SystemError> {
    let mut monitor = LinkMonitor::open()?;
    let limit = time_to_forward.saturating_add(MARGIN);
    let deadline = MonotonicClock.now() + limit;
    let signals = signals.collect()?;
    loop {
        // Before the states are read, so that a change after that wakes.
        monitor.hear();
        let waits = |(name, state): &(String, StpState)| {
            *state != StpState::Forwarding && ports.contains(name.as_str())
        };
        // A port rather than the bridge, which was made before and has its carrier from them.
        let Some((port, state)) = netlink.port_states()?.into_iter().rev().find(waits) else {
            return Ok(None);
        };
        match signals.wait_for(monitor.as_fd(), Some(deadline))? {
            Waited::Ready => {}
            Waited::Signal(signal) => return Ok(Some(signal)),
            Waited::TimeOut => {
                let operation = format!("wait until port {port} forwards");
                let why = format!("its state is {state:?} after {limit:?}; expected Forwarding");
                return Err(SystemError::refused(operation, why).advise(format!(
                    "bridge -details link show dev {port}; one without a carrier, as of a cable that leads nowhere, does not"
                )));
            }
        }
    }
}
