//! Tells each step of a run, as a transcript of a lab session would.

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
    /// A narrator that writes to `out` and counts time from `start`.
    pub fn new(out: Box<dyn Write>, start: Instant) -> Narrator {
        Narrator { out, start }
    }

    /// Tells something that is neither a frame nor an event.
    pub fn say(&mut self, now: Instant, what: std::fmt::Arguments<'_>) {
        let seconds = now.nanos_since(self.start) as f64 / 1e9;
        // A transcript that nobody can read any more is no reason to end the run.
        let _ = writeln!(self.out, "{seconds:11.6}  {what}");
    }

    /// Tells of a frame that `vm` received.
    pub(super) fn received(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.say(now, format_args!("{vm} ← {}", Describe(frame)));
    }

    /// Tells of a frame that `vm` sends.
    pub(super) fn sent(&mut self, now: Instant, vm: VmId, frame: &[u8]) {
        self.say(now, format_args!("{vm} → {}", Describe(frame)));
    }

    /// Tells who came up or left.
    pub(super) fn moved(&mut self, now: Instant, moved: &Moved) {
        match moved {
            Moved::Started(vm) => self.say(now, format_args!("{vm} starts")),
            Moved::Stopped(vms) => {
                for vm in vms {
                    self.say(now, format_args!("{vm} leaves"));
                }
            }
        }
    }

    /// Tells what came of a frame or a deadline.
    pub(super) fn event(&mut self, now: Instant, vm: VmId, event: Event) {
        match event {
            Event::Resolved {
                address,
                mac,
                elapsed,
            } => {
                self.say(
                    now,
                    format_args!("{vm}   learned {address} is at {mac}, after {elapsed:?}"),
                );
            }
            Event::AddressReady { address } => {
                self.say(
                    now,
                    format_args!("{vm}   takes {address}: nobody else has it"),
                );
            }
            Event::AddressTried { address } => {
                self.say(
                    now,
                    format_args!("{vm}   tries {address}, which a router gives"),
                );
            }
            Event::AddressLost { address } => {
                self.say(
                    now,
                    format_args!("{vm}   gives {address} up: its time is over"),
                );
            }
            Event::Leased { address, elapsed } => {
                self.say(
                    now,
                    format_args!("{vm}   was granted {address}, after {elapsed:?}"),
                );
            }
            Event::Renewed { address, previous } if address == previous => {
                self.say(now, format_args!("{vm}   keeps {address} for longer"));
            }
            Event::Renewed { address, previous } => {
                self.say(
                    now,
                    format_args!("{vm}   was granted {address} instead of {previous}"),
                );
            }
            Event::LeaseLost { address } => {
                self.say(now, format_args!("{vm}   has lost {address}"));
            }
            Event::Conflict { address, mac } => {
                self.say(
                    now,
                    format_args!("{vm}   shares {address} with {mac}: conflict"),
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
                        self.tell(now, vm, id, sequence, "came back changed")
                    }
                    PingOutcome::Lost { .. } => {
                        self.tell(now, vm, id, sequence, "lost: no reply in time")
                    }
                    PingOutcome::Unresolved { .. } => {
                        self.tell(
                            now,
                            vm,
                            id,
                            sequence,
                            "given up: nobody answers for its address",
                        );
                    }
                    PingOutcome::Errored { error, .. } => {
                        self.tell(now, vm, id, sequence, error.name());
                    }
                    PingOutcome::Duplicate => {
                        self.tell(now, vm, id, sequence, "answered once more")
                    }
                    PingOutcome::Late { .. } => {
                        self.tell(now, vm, id, sequence, "answered too late")
                    }
                }
            }
            Event::Ignored(ignored) => {
                self.say(now, format_args!("{vm}   ignores it: {ignored}"));
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
