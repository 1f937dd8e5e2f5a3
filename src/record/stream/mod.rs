//! What became of the frames of streams, which nobody answers: counts, order, one-way times and their variation.

mod lost;
mod sequence;

use serde::{Deserialize, Serialize};

use self::lost::Facts;
pub use self::lost::LostFrames;
pub use self::sequence::{MAX_SEQUENCE_GAPS, Reordering};
use self::sequence::{Order, Sequence};
use super::timeline::Timeline;
use super::{Interval, Latency, Moments};
use crate::time::Instant;
use crate::vm::VmId;

/// The number of a stream, counted in the order of the plan: each phase has streams of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u32);

impl StreamId {
    /// Its place in a list of all of them.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Frames at one end of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Carried {
    /// How many.
    pub frames: u64,
    /// Their bytes, frame check sequences and VLAN tags included.
    pub octets: u64,
    /// When the first and the last one passed.
    pub span: Option<(Instant, Instant)>,
}

impl Carried {
    fn add(&mut self, at: Instant, octets: u64) {
        self.frames += 1;
        self.octets += octets;
        let (first, _) = self.span.unwrap_or((at, at));
        self.span = Some((first, at));
    }

    /// Nanoseconds from the first to the last.
    pub fn elapsed(&self) -> u64 {
        self.span.map_or(0, |(first, last)| last.nanos_since(first))
    }

    /// Frames and bits per second: as many as came after the first one, by the time from that to the last. 0 of fewer than two.
    pub fn rates(&self) -> (f64, f64) {
        let elapsed = self.elapsed();
        if self.frames < 2 || elapsed == 0 {
            return (0.0, 0.0);
        }
        let frames = (self.frames - 1) as f64 * 1e9 / elapsed as f64;
        (
            frames,
            frames * 8.0 * self.octets as f64 / self.frames as f64,
        )
    }
}

/// What a VM received of a stream that is for it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StreamReceiver {
    /// The VM.
    #[serde(with = "crate::vm::named")]
    pub vm: VmId,
    /// Frames received, each once.
    pub received: Carried,
    /// Further copies of frames that were received.
    pub duplicate: u64,
    /// Frames that came so late that nothing was known of their number any more: neither received nor duplicate.
    pub stale: u64,
    /// Frames that came with wrong checksums. They are lost as well.
    pub corrupt: u64,
    /// The longest time between two frames that were received one after the other, in nanoseconds.
    pub longest_gap: u64,
    sequence: Sequence,
    /// The time that the last frame took, in nanoseconds.
    transit: Option<u64>,
    jitter: f64,
}

impl StreamReceiver {
    fn new(vm: VmId) -> StreamReceiver {
        StreamReceiver {
            vm,
            received: Carried::default(),
            duplicate: 0,
            stale: 0,
            corrupt: 0,
            longest_gap: 0,
            sequence: Sequence::default(),
            transit: None,
            jitter: 0.0,
        }
    }

    /// Takes in a frame; `sent` if that is known by the clock of `received`. Returns true if it is the first copy of it.
    fn take(
        &mut self,
        (sequence, octets): (u64, u64),
        sent: Option<Instant>,
        received: Instant,
    ) -> bool {
        match self.sequence.arrived(sequence) {
            Order::Duplicate => self.duplicate += 1,
            Order::Stale => self.stale += 1,
            Order::First => {
                if let Some((_, last)) = self.received.span {
                    self.longest_gap = self.longest_gap.max(received.nanos_since(last));
                }
                self.received.add(received, octets);
                let transit = sent.map(|sent| received.nanos_since(sent));
                if let Some(transit) = transit
                    && let Some(before) = self.transit.replace(transit)
                {
                    self.jitter += (transit.abs_diff(before) as f64 - self.jitter) / 16.0;
                }
                return true;
            }
        }
        false
    }

    /// The order of its frames.
    pub const fn reordering(&self) -> &Reordering {
        self.sequence.reordering()
    }

    /// The most frames in a row that it has not received, of `sent`.
    pub fn longest_loss(&self, sent: u64) -> u64 {
        self.sequence.longest_loss(sent)
    }

    /// The interarrival jitter after the last frame (RFC 3550 section 6.4.1), in nanoseconds; `None` before a second frame, and if it
    /// is not known how long frames took.
    pub fn jitter(&self) -> Option<f64> {
        let is_known = self.received.frames > 1 && self.transit.is_some();
        is_known.then_some(self.jitter)
    }
}

/// What became of one stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StreamRecord {
    is_counted: bool,
    /// This process has its source.
    has_source: bool,
    /// Its ends go by different clocks, of which nobody knows the difference: nothing is known of the time that frames take.
    pub has_two_clocks: bool,
    /// Frames sent.
    pub sent: Carried,
    /// Frames that were due and could not be sent, because the neighbour was not known or no way led to it.
    pub unresolved: u64,
    /// Copies that VMs got which they are not for.
    pub leaked: u64,
    /// The VMs that it is for, in the order of their numbers, of those that this process has.
    receivers: Vec<StreamReceiver>,
    /// How many others have.
    receivers_elsewhere: u64,
    #[serde(skip)]
    one_way: OneWay,
}

/// One-way times: of few streams all of them, of others what moments tell.
#[derive(Clone, PartialEq, Debug)]
pub enum OneWay {
    /// All of them.
    Histogram(Box<Latency>),
    /// What moments tell.
    Moments(Moments),
}

impl Default for OneWay {
    fn default() -> OneWay {
        OneWay::Moments(Moments::default())
    }
}

impl OneWay {
    /// Takes in other times.
    pub(crate) fn merge(&mut self, other: &OneWay) {
        match (self, other) {
            (OneWay::Histogram(ours), OneWay::Histogram(theirs)) => ours.merge(theirs),
            (OneWay::Moments(ours), theirs) => ours.merge(theirs.moments()),
            (ours, theirs) => {
                let mut moments = *ours.moments();
                moments.merge(theirs.moments());
                *ours = OneWay::Moments(moments);
            }
        }
    }

    const fn moments(&self) -> &Moments {
        match self {
            OneWay::Histogram(histogram) => histogram.moments(),
            OneWay::Moments(moments) => moments,
        }
    }
}

impl StreamRecord {
    /// False of a warm-up, whose frames are in no figure of the run.
    pub const fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// The VMs that it is for, in the order of their numbers. None if it goes to what is no VM of the run.
    pub fn receivers(&self) -> &[StreamReceiver] {
        &self.receivers
    }

    /// From the sending of a frame to its receipt, of each VM that received it.
    pub const fn one_way(&self) -> &OneWay {
        &self.one_way
    }

    /// Count, extremes, mean and deviation of that.
    pub const fn moments(&self) -> &Moments {
        self.one_way.moments()
    }

    /// The same record with these one-way times, and of its order what is to be known when no further frame is to come.
    pub fn closed(&self, one_way: OneWay) -> StreamRecord {
        let mut closed = StreamRecord {
            one_way,
            ..self.clone()
        };
        for receiver in &mut closed.receivers {
            receiver.sequence = receiver.sequence.closed();
        }
        closed
    }

    /// Takes in what another rank knows of the same stream: its source is in one of them, each of its receivers in one.
    pub fn merge(&mut self, other: StreamRecord) {
        if other.sent.frames > 0 {
            self.sent = other.sent;
        }
        self.has_two_clocks |= other.has_two_clocks;
        self.unresolved += other.unresolved;
        self.leaked += other.leaked;
        self.has_source |= other.has_source;
        let theirs = other.receivers.len() as u64;
        self.receivers_elsewhere = self.receivers_elsewhere.saturating_sub(theirs);
        self.receivers.extend(other.receivers);
        self.receivers.sort_by_key(|one| one.vm);
        self.one_way.merge(&other.one_way);
    }

    /// Returns true if none of its ends is here, and no frame leaked.
    pub const fn is_elsewhere(&self) -> bool {
        !self.has_source && self.receivers.is_empty() && self.leaked == 0
    }

    /// Returns true if it is known of both ends what became of its frames: no rank that has one of them is missing.
    pub const fn is_whole(&self) -> bool {
        self.has_source && self.receivers_elsewhere == 0
    }

    fn receiver_mut(&mut self, vm: VmId) -> Option<&mut StreamReceiver> {
        // Nearly every stream is for one VM.
        let place = match self.receivers.as_slice() {
            [only] if only.vm == vm => 0,
            all => all.binary_search_by_key(&vm, |one| one.vm).ok()?,
        };
        self.receivers.get_mut(place)
    }
}

/// What became of all streams of a run.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    records: Vec<StreamRecord>,
    /// Frames that were due and were not sent in time, of those that count.
    pub(super) unsent: u64,
    /// Copies that were to be received of the frames sent, and those that were.
    expected: u64,
    arrived: u64,
    /// What is known of frames that did not come.
    facts: Facts,
    /// Those that count, second by second, once there is a stream.
    timeline: Option<Box<Timeline>>,
}

impl Streams {
    /// The streams, by their numbers.
    pub fn records(&self) -> &[StreamRecord] {
        &self.records
    }

    /// Frames that were due and were not sent in time, warm-ups not counted.
    pub const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// The seconds that are over, so far as frames were sent or received in them: the latencies are one-way times. Nothing is known of
    /// frames between two clocks.
    pub fn seconds(&self) -> &[Interval] {
        let timeline = self.timeline.as_deref();
        timeline.map(Timeline::closed).unwrap_or_default()
    }

    /// Returns true if not every frame sent has come to each VM that it is for, so far as is known here: not of VMs that other ranks
    /// have.
    pub const fn is_any_missing(&self) -> bool {
        self.arrived < self.expected
    }

    /// Adds a stream for `receivers`. All of up to `histograms` have one of their one-way times.
    pub(super) fn add(&mut self, is_counted: bool, mut receivers: Vec<VmId>, histograms: usize) {
        receivers.sort_unstable();
        receivers.dedup();
        self.timeline
            .get_or_insert_with(|| Box::new(Timeline::new()));
        if self.records.len() == histograms {
            for record in &mut self.records {
                record.one_way = OneWay::Moments(*record.moments());
            }
        }
        let one_way = match self.records.len() < histograms {
            true => OneWay::Histogram(Box::default()),
            false => OneWay::Moments(Moments::default()),
        };
        self.records.push(StreamRecord {
            is_counted,
            has_source: true,
            sent: Carried::default(),
            unresolved: 0,
            leaked: 0,
            receivers: receivers.into_iter().map(StreamReceiver::new).collect(),
            one_way,
            receivers_elsewhere: 0,
            has_two_clocks: false,
        });
    }

    /// So many VMs that other ranks have are among those that `stream` is for, or its source is, unless this process `has_source`.
    /// Nobody knows the difference of their clocks if it `has_two_clocks`.
    pub(super) fn set_crossing(
        &mut self,
        stream: StreamId,
        (has_source, receivers): (bool, u64),
        has_two_clocks: bool,
    ) {
        if let Some(record) = self.records.get_mut(stream.index()) {
            record.has_source = has_source;
            record.receivers_elsewhere = receivers;
            record.has_two_clocks = has_two_clocks;
        }
    }

    /// Returns true if it is not known how long frames of `stream` take.
    pub(super) fn has_two_clocks(&self, stream: StreamId) -> bool {
        let record = self.records.get(stream.index());
        record.is_some_and(|record| record.has_two_clocks)
    }

    /// Returns true if `stream` is for `vm`.
    pub fn is_for(&self, stream: StreamId, vm: VmId) -> bool {
        let record = self.records.get(stream.index());
        record.is_some_and(|record| {
            let receivers = &record.receivers;
            receivers.binary_search_by_key(&vm, |one| one.vm).is_ok()
        })
    }

    /// The record of `stream`.
    pub(super) fn get_mut(&mut self, stream: StreamId) -> Option<&mut StreamRecord> {
        self.records.get_mut(stream.index())
    }

    /// A frame of `octets` bytes was sent.
    pub(super) fn sent(&mut self, stream: StreamId, sent: Instant, octets: u64) {
        if let Some(record) = self.records.get_mut(stream.index()) {
            record.sent.add(sent, octets);
            if let Some(timeline) = self.timeline.as_mut().filter(|_| record.is_counted) {
                timeline.sent(sent);
            }
            self.expected += record.receivers.len() as u64 + record.receivers_elsewhere;
        }
    }

    /// `vm` has received a frame that is for it. Returns its one-way time, if it is the first copy and counts.
    pub(super) fn received(
        &mut self,
        (stream, vm): (StreamId, VmId),
        (sequence, octets): (u64, u64),
        (sent, received): (Instant, Instant),
    ) -> Option<u64> {
        let record = self.records.get_mut(stream.index())?;
        let sent = (!record.has_two_clocks).then_some(sent);
        let receiver = record.receiver_mut(vm)?;
        if !receiver.take((sequence, octets), sent, received) {
            return None;
        }
        // Those of VMs of other ranks are not to come here.
        self.arrived += u64::from(record.sent.frames > 0);
        let sent = sent?;
        let one_way = received.nanos_since(sent);
        match &mut record.one_way {
            OneWay::Histogram(histogram) => histogram.record(one_way),
            OneWay::Moments(moments) => moments.record(one_way),
        }
        if !record.is_counted {
            return None;
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.came(one_way, received);
        }
        Some(one_way)
    }

    /// `vm` has received a frame of a stream that is for it, as far as can be told, and that was damaged on its way.
    pub(super) fn corrupt(&mut self, stream: StreamId, vm: VmId) {
        let record = self.records.get_mut(stream.index());
        if let Some(receiver) = record.and_then(|record| record.receiver_mut(vm)) {
            receiver.corrupt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    #[test]
    fn rates_are_those_between_the_first_and_the_last_frame() {
        let mut carried = Carried::default();
        for number in 0..11 {
            carried.add(Instant::from_nanos(5_000 + number * 100 * US), 125);
        }
        // Eleven frames of a thousand bits, one every 100 µs.
        assert_eq!(carried.elapsed(), 1_000 * US);
        assert_eq!(carried.rates(), (10_000.0, 10_000_000.0));
        assert_eq!(Carried::default().rates(), (0.0, 0.0));
    }

    #[test]
    fn jitter_is_the_running_mean_of_rfc_3550() {
        let mut receiver = StreamReceiver::new(VmId(1));
        let mut expected = 0.0;
        let transits = [100, 130, 90, 90, 200_u64];
        for (number, transit) in (0..).zip(transits) {
            let sent = Instant::from_nanos(number * 1_000);
            let received = Instant::from_nanos(number * 1_000 + transit);
            assert!(receiver.take((number, 64), Some(sent), received));
        }
        for pair in transits.windows(2) {
            expected += (pair[1].abs_diff(pair[0]) as f64 - expected) / 16.0;
        }
        assert_eq!(receiver.jitter(), Some(expected));
        assert_eq!(receiver.longest_gap, 1_110);
    }

    #[test]
    fn a_stream_to_several_is_missing_until_each_of_them_has_each_frame() {
        let mut streams = Streams::default();
        let stream = StreamId(0);
        streams.add(true, vec![VmId(3), VmId(1), VmId(3)], 1);
        assert!(streams.is_for(stream, VmId(3)) && !streams.is_for(stream, VmId(2)));
        let (sent, received) = (Instant::from_nanos(10), Instant::from_nanos(17));
        streams.sent(stream, sent, 64);
        for (vm, one_way, is_missing) in [
            (1, Some(7), true),
            (1, None, true),
            (2, None, true),
            (3, Some(7), false),
        ] {
            let of = (stream, VmId(vm));
            assert_eq!(streams.received(of, (0, 64), (sent, received)), one_way);
            assert_eq!(streams.is_any_missing(), is_missing, "vm{vm}");
        }
        let record = &streams.records()[0];
        let duplicates = record.receivers().iter().map(|one| one.duplicate);
        assert_eq!(duplicates.collect::<Vec<_>>(), [1, 0]);
        assert_eq!(record.moments().count(), 2);
        streams.add(false, Vec::new(), 1);
        let one_way = streams.records()[0].one_way();
        assert!(matches!(one_way, OneWay::Moments(moments) if moments.count() == 2));
    }
}
