//! The trace of a run (`-v`): a line for each frame and event.

use std::io::Write;

use crate::hypervisor::Moved;
use crate::time::Instant;
use crate::vm::{Event, PingOutcome, VmId};
use crate::wire::Describe;

/// Writes one line for each frame and each event, with the time since the start.
pub struct Narrator {
    out: Box<dyn Write>,
    start: Instant,
}

impl std::fmt::Debug for Narrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Narrator")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl Narrator {
    /// Creates a trace that is written to `out`, with times relative to `start`.
    pub fn new(out: Box<dyn Write>, start: Instant) -> Narrator {
        Narrator { out, start }
    }

    /// Writes a line with the time `now` and the text `what`.
    pub fn say(&mut self, now: Instant, what: std::fmt::Arguments<'_>) {
        let seconds = now.nanos_since(self.start) as f64 / 1e9;
        // A trace that can no longer be written, to a closed pipe for example, does not end the run.
        let _ = writeln!(self.out, "{seconds:11.6}  {what}");
    }

    /// Writes the line of a frame that `vm` received.
    pub(super) fn received(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.say(now, format_args!("{vm} ← {}", Describe(frame)));
    }

    /// Writes the line of a frame that `vm` sends.
    pub(super) fn sent(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.say(now, format_args!("{vm} → {}", Describe(frame)));
    }

    /// Writes a line for each VM that started or stopped.
    pub(super) fn moved(&mut self, now: Instant, moved: &Moved) {
        match moved {
            Moved::Started(vm) => self.say(now, format_args!("{vm} starts")),
            Moved::Stopped(vms) => {
                for vm in vms {
                    self.say(now, format_args!("{vm} stops"));
                }
            }
        }
    }

    /// Writes the line of an event.
    pub(super) fn event(&mut self, now: Instant, vm: VmId, event: Event) {
        match event {
            Event::Resolved {
                address,
                mac,
                elapsed,
            } => {
                self.say(
                    now,
                    format_args!("{vm}   resolved {address} to {mac} in {elapsed:?}"),
                );
            }
            Event::AddressReady { address } => {
                self.say(
                    now,
                    format_args!("{vm}   uses {address}: no conflict detected"),
                );
            }
            Event::AddressTried { address } => {
                self.say(
                    now,
                    format_args!("{vm}   checks {address}, formed from a router's prefix"),
                );
            }
            Event::AddressLost { address } => {
                self.say(
                    now,
                    format_args!("{vm}   removes {address}: its lifetime has expired"),
                );
            }
            Event::Leased { address, elapsed } => {
                self.say(now, format_args!("{vm}   leased {address} in {elapsed:?}"));
            }
            Event::Renewed { address, previous } if address == previous => {
                self.say(now, format_args!("{vm}   renewed the lease of {address}"));
            }
            Event::Renewed { address, previous } => {
                self.say(
                    now,
                    format_args!(
                        "{vm}   renewed the lease of {previous} and got {address} instead"
                    ),
                );
            }
            Event::LeaseLost { address } => {
                self.say(now, format_args!("{vm}   lost the lease of {address}"));
            }
            Event::Conflict { address, mac } => {
                self.say(
                    now,
                    format_args!("{vm}   conflict: {address} is also used by {mac}"),
                );
            }
            Event::Ping(ping, outcome) => {
                let (id, sequence) = (ping.session.0, ping.sequence);
                match outcome {
                    PingOutcome::Answered { sent, received, .. } => self.say(
                        now,
                        format_args!(
                            "{vm}   ping id {id} seq {sequence} answered in {:?}",
                            received - sent
                        ),
                    ),
                    PingOutcome::Corrupt { .. } => {
                        self.tell(now, vm, id, sequence, "answered with other data")
                    }
                    PingOutcome::Lost { .. } => self.tell(now, vm, id, sequence, "timed out"),
                    PingOutcome::Unresolved { .. } => {
                        self.tell(
                            now,
                            vm,
                            id,
                            sequence,
                            "failed: its address was not resolved",
                        );
                    }
                    PingOutcome::Errored { error, .. } => {
                        self.tell(now, vm, id, sequence, error.name());
                    }
                    PingOutcome::Duplicate => {
                        self.tell(now, vm, id, sequence, "answered again: duplicate reply")
                    }
                    PingOutcome::Late { .. } => {
                        self.tell(now, vm, id, sequence, "answered after its timeout")
                    }
                }
            }
            Event::Ignored(ignored) => {
                self.say(now, format_args!("{vm}   ignored the frame: {ignored}"));
            }
        }
    }

    fn tell(&mut self, now: Instant, vm: VmId, id: u16, sequence: u64, what: &str) {
        self.say(
            now,
            format_args!("{vm}   ping id {id} seq {sequence} {what}"),
        );
    }
}
