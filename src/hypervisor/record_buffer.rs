//! Buffers measurements of pings and frames, and passes them to the recorder in batches.
//!
//! Each measurement goes into about six histograms. A ping takes four system calls, between which neither that code nor
//! the histograms stay in the processor's caches, so batches are cheaper. Buffering also keeps that work out of the time
//! between a ping's send stamp and its write.

use super::Hypervisor;
use crate::fabric::Fabric;
use crate::load::FlowId;
use crate::record::{Recorder, StreamId};
use crate::time::Instant;
use crate::vm::VmId;

/// Capacity in entries: more than one turn of the reactor produces.
const LENGTH: usize = 256;

/// A measurement, named after the recorder's method that takes it.
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
    /// [`Recorder::one_way`]
    OneWay {
        due: Instant,
        forward: u64,
        backward: u64,
    },
    /// [`Recorder::stream_sent`]
    StreamSent {
        stream: StreamId,
        octets: u32,
        due: Instant,
        sent: Instant,
    },
    /// [`Recorder::stream_received`]
    StreamReceived {
        stream: StreamId,
        vm: VmId,
        sequence: u64,
        octets: u32,
        sent: Instant,
        received: Instant,
    },
    /// [`Recorder::lag`]
    Lag(u64),
}

/// Measurements not yet passed to the recorder, in order.
#[derive(Debug)]
pub(super) struct RecordBuffer(Vec<Entry>);

impl RecordBuffer {
    pub(super) fn new() -> RecordBuffer {
        RecordBuffer(Vec::with_capacity(LENGTH))
    }

    /// Adds an entry.
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// Returns true if there is no room for a further entry.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= LENGTH
    }

    /// Takes the last entry back if it is of a reply.
    pub(super) fn take_last_reply(&mut self) -> Option<Entry> {
        self.0
            .pop_if(|entry| matches!(entry, Entry::Answered { .. }))
    }

    /// Passes all entries to `recorder`.
    #[inline]
    pub(super) fn flush(&mut self, recorder: &mut Recorder) {
        if !self.0.is_empty() {
            self.flush_all(recorder);
        }
    }

    fn flush_all(&mut self, recorder: &mut Recorder) {
        if recorder.has_details() {
            self.flush_to_details(recorder);
        }
        for entry in self.0.drain(..) {
            match entry {
                Entry::Sent {
                    flow,
                    due,
                    ready,
                    sent,
                } => recorder.echo_sent(flow, due, ready, sent),
                Entry::OneWay {
                    due,
                    forward,
                    backward,
                } => recorder.one_way(due, (forward, backward)),
                Entry::Lag(elapsed) => recorder.lag(elapsed),
                Entry::StreamSent {
                    stream,
                    octets,
                    due,
                    sent,
                } => recorder.stream_sent(stream, octets.into(), due, sent),
                Entry::StreamReceived {
                    stream,
                    vm,
                    sequence,
                    octets,
                    sent,
                    received,
                } => {
                    let frame = (sequence, octets.into());
                    recorder.stream_received((stream, vm), frame, (sent, received));
                }
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

impl RecordBuffer {
    /// Passes pings and answers on to the marks of the run, and to its figures by group.
    #[cold]
    fn flush_to_details(&self, recorder: &mut Recorder) {
        for entry in &self.0 {
            match *entry {
                Entry::Sent {
                    flow,
                    due,
                    ready,
                    sent,
                } => recorder.group_sent(flow, due, ready, sent),
                Entry::Answered {
                    flow,
                    sequence,
                    due,
                    sent,
                    received,
                } => recorder.answered_in_detail(flow, sequence, due, sent, received),
                Entry::OneWay { .. }
                | Entry::StreamSent { .. }
                | Entry::StreamReceived { .. }
                | Entry::Lag(_) => {}
            }
        }
    }
}

impl<F: Fabric> Hypervisor<F> {
    /// Buffers a measurement for the recorder.
    #[inline]
    pub(super) fn push_record(&mut self, entry: Entry) {
        if self.buffer.is_full() {
            self.buffer.flush(&mut self.recorder);
        }
        self.buffer.push(entry);
    }
}
