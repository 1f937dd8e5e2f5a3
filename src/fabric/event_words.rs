//! An event in words, for a trace and for the comments of a capture.

use std::fmt;

use crate::time::Span;
use crate::vm::{Event, PingOutcome};

/// Displays an event as the predicate of a sentence about its VM: `resolved 10.77.0.3 to 02:00:0a:4d:00:03 in 12.0 µs`.
#[derive(Clone, Copy, Debug)]
pub struct EventWords<'a>(pub &'a Event);

impl fmt::Display for EventWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Event::Resolved {
                address,
                mac,
                elapsed,
            } => write!(f, "resolved {address} to {mac} in {}", Span::from(*elapsed)),
            Event::AddressReady { address } => write!(f, "uses {address}: no conflict detected"),
            Event::AddressTried { address } => {
                write!(f, "checks {address}, formed from a router's prefix")
            }
            Event::AddressLost { address } => {
                write!(f, "removes {address}: its lifetime has expired")
            }
            Event::Leased { address, elapsed } => {
                write!(f, "leased {address} in {}", Span::from(*elapsed))
            }
            Event::Renewed { address, previous } if address == previous => {
                write!(f, "renewed the lease of {address}")
            }
            Event::Renewed { address, previous } => {
                write!(
                    f,
                    "renewed the lease of {previous} and got {address} instead"
                )
            }
            Event::LeaseLost { address } => write!(f, "lost the lease of {address}"),
            Event::Conflict { address, mac } => {
                write!(f, "conflict: {address} is also used by {mac}")
            }
            Event::Ping(ping, outcome) => {
                write!(f, "ping id {} seq {} ", ping.session, ping.sequence)?;
                match outcome {
                    PingOutcome::Answered { sent, received, .. } => {
                        write!(f, "answered in {}", Span::from(*received - *sent))
                    }
                    PingOutcome::Member { sent, received, .. } => {
                        let elapsed = Span::from(*received - *sent);
                        write!(f, "answered by a member in {elapsed}")
                    }
                    PingOutcome::Corrupt { .. } => f.write_str("answered with other data"),
                    PingOutcome::Lost { .. } => f.write_str("timed out"),
                    PingOutcome::Abandoned { .. } => f.write_str("ended: its VM stopped"),
                    PingOutcome::MembersLost { .. } => {
                        f.write_str("timed out: not every member answered")
                    }
                    PingOutcome::Unresolved { .. } => {
                        f.write_str("failed: its address was not resolved")
                    }
                    PingOutcome::Errored { error, .. } => f.write_str(error.name()),
                    PingOutcome::Duplicate => f.write_str("answered again: duplicate reply"),
                    PingOutcome::Late { .. } => f.write_str("answered after its timeout"),
                }
            }
            Event::Ignored(ignored) => write!(f, "ignored the frame: {ignored}"),
        }
    }
}
