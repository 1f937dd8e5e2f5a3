//! Takes in what happens to the frames of streams.

use super::Recorder;
use crate::record::{Attribution, Metric, StreamId, Streams};
use crate::time::Instant;
use crate::vm::VmId;

impl Recorder {
    /// Adds a stream for `receivers`: the n-th call, from 0, adds `StreamId(n)`. One of a warm-up does not count.
    pub fn add_stream(&mut self, is_counted: bool, receivers: Vec<VmId>) {
        let histograms = self.limits.flow_histograms;
        let streams = self.streams.get_or_insert_default();
        streams.add(is_counted, receivers, histograms);
    }

    /// So many VMs that other ranks have are among those that `stream` is for, or its source is, unless this process `has_source`.
    /// Nobody knows the difference of their clocks if it `has_two_clocks`.
    pub fn stream_crosses(
        &mut self,
        stream: StreamId,
        (has_source, receivers): (bool, u64),
        has_two_clocks: bool,
    ) {
        if let Some(streams) = &mut self.streams {
            streams.set_crossing(stream, (has_source, receivers), has_two_clocks);
        }
    }

    /// The streams, if there are any.
    pub fn streams(&self) -> Option<&Streams> {
        self.streams.as_deref()
    }

    /// A frame of `octets` bytes, due at `due`, was written at `sent`.
    pub fn stream_sent(&mut self, stream: StreamId, octets: u64, due: Instant, sent: Instant) {
        let phase = self.phase_at(due);
        phase.record(Metric::Lateness, sent.nanos_since(due));
        phase.stream_sent(due, sent);
        if let Some(streams) = &mut self.streams {
            streams.sent(stream, sent, octets);
        }
    }

    /// A frame of `octets` bytes, sent at `sent`, was read at `received` by a VM that it is for.
    pub fn stream_received(
        &mut self,
        of: (StreamId, VmId),
        frame: (u64, u64),
        (sent, received): (Instant, Instant),
    ) {
        let Some(streams) = &mut self.streams else {
            return;
        };
        let at = match streams.has_two_clocks(of.0) {
            true => received,
            false => sent,
        };
        if let Some(one_way) = streams.received(of, frame, (sent, received)) {
            self.record(Metric::Stream, one_way);
        }
        self.phase_at(at).answered(received);
    }

    /// The frame of a stream with that number did not come to `vm`, or to nobody whom it is for, because of `what`.
    pub fn stream_lost(&mut self, frame: (StreamId, u64), vm: Option<VmId>, what: Attribution) {
        if let Some(streams) = &mut self.streams {
            streams.lost(frame, vm, what);
        }
    }

    /// `vm` has read a frame of a stream that is for it, as far as can be told, and that was damaged on its way.
    pub fn stream_corrupt(&mut self, stream: StreamId, vm: VmId) {
        if let Some(streams) = &mut self.streams {
            streams.corrupt(stream, vm);
        }
    }

    /// A VM has read a frame that it is not for.
    pub fn stream_leaked(&mut self, stream: StreamId) {
        let streams = self.streams.as_mut();
        if let Some(record) = streams.and_then(|streams| streams.get_mut(stream)) {
            record.leaked += 1;
        }
    }

    /// A frame was due and could not be sent, because the neighbour was not known or no way led to it.
    pub fn stream_unresolved(&mut self, stream: StreamId) {
        let streams = self.streams.as_mut();
        if let Some(record) = streams.and_then(|streams| streams.get_mut(stream)) {
            record.unresolved += 1;
        }
    }

    /// So many frames of the present phase's streams were due and will not be sent: its time is up.
    pub fn stream_unsent(&mut self, frames: u64) {
        let is_counted = self.current_phase().counted();
        if let Some(streams) = self.streams.as_mut().filter(|_| is_counted) {
            streams.unsent = streams.unsent.saturating_add(frames);
        }
    }
}
