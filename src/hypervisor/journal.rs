//! Pings that were sent and answered, and frames that were handled, on their way into the recorder.
//!
//! Each of them goes into half a dozen histograms. A ping takes four system calls, between which neither the code for that
//! nor the histograms stay in the processor's caches; so they are taken note of, and entered many at a time. It also keeps
//! that work out of the time between a ping's stamp and its write.

use super::Hypervisor;
use crate::fabric::Fabric;
use crate::load::FlowId;
use crate::record::Recorder;
use crate::time::Instant;

/// Entries that are held at most: more than one turn of the reactor makes.
const LENGTH: usize = 256;

/// What the recorder is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry {
    /// [`Recorder::echo_sent`]
    Sent {
        flow: FlowId,
        due: Instant,
        ready: Instant,
        sent: Instant,
    },
    /// [`Recorder::answered`]
    Answered {
        flow: FlowId,
        sequence: u64,
        due: Instant,
        sent: Instant,
        received: Instant,
    },
    /// [`Recorder::lag`]
    Lag(u64),
}

/// Entries that the recorder has not been told yet, in order.
#[derive(Debug)]
pub(super) struct Journal(Vec<Entry>);

impl Journal {
    pub(super) fn new() -> Journal {
        Journal(Vec::with_capacity(LENGTH))
    }

    /// Adds an entry. Whether there is no room for another.
    #[inline]
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        self.0.push(entry);
        self.0.len() >= LENGTH
    }

    /// Tells `recorder` everything.
    #[inline]
    pub(super) fn enter(&mut self, recorder: &mut Recorder) {
        if !self.0.is_empty() {
            self.enter_all(recorder);
        }
    }

    fn enter_all(&mut self, recorder: &mut Recorder) {
        for entry in self.0.drain(..) {
            match entry {
                Entry::Sent {
                    flow,
                    due,
                    ready,
                    sent,
                } => recorder.echo_sent(flow, due, ready, sent),
                Entry::Lag(elapsed) => recorder.lag(elapsed),
                Entry::Answered {
                    flow,
                    sequence,
                    due,
                    sent,
                    received,
                } => recorder.answered(flow, sequence, due, sent, received),
            }
        }
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Has the recorder told in time.
    #[inline]
    pub(super) fn note(&mut self, entry: Entry) {
        if self.journal.add(entry) {
            self.journal.enter(&mut self.recorder);
        }
    }
}
