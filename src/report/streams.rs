//! Streams in reports: what became of their frames.

mod of_ranks;

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::of_ranks::StreamsOfRank;
use super::Report;
use super::compare::spread;
use super::document::nothing;
use super::merge::sum;
use super::units::{count, counted, percent, significant, span_or_dash};
use super::{LossReport, losses};
use crate::record::{
    Attribution, LatencySummary, LostFrames, OneWay, StreamId, StreamReceiver, StreamRecord,
    Streams,
};

/// So many streams are told one by one: of more, those that lost most.
pub const STREAMS_TOLD: usize = 1_000;
/// Up to so many are in a text.
pub(super) const SHOWN: usize = 20;

/// Declares [`StreamCounts`]: a count more is one entry more.
macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Frames of streams, by what became of them.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(default)]
        pub struct StreamCounts {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl StreamCounts {
            /// The names of the counts, each with its doc.
            pub const NAMES: &'static [(&'static str, &'static str)] = &[$((stringify!($name), concat!($($doc,)+)),)*];

            /// The count of that name.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            fn add(&mut self, other: &StreamCounts) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }
    };
}

counts! {
    /// Frames sent.
    sent,
    /// Copies that were to come: one of each frame sent to each VM that it is for.
    expected,
    /// Those that came, without duplicates.
    received,
    /// Those that did not.
    lost,
    /// Further copies of frames that a VM had received.
    duplicate,
    /// Frames that a VM received after one with a higher number (RFC 4737).
    reordered,
    /// Frames that came with a wrong checksum; lost as well.
    corrupt,
    /// Frames that came when their number was not remembered any more; lost as well.
    stale,
    /// Copies that VMs read which they are not for.
    leaked,
    /// Frames that were due and not sent, because no neighbour or no way was known.
    unresolved,
    /// Frames that were due and not sent in time; not told of a single stream.
    unsent,
}

impl StreamCounts {
    /// The share of the copies expected that did not come, 0 to 1.
    pub fn loss(&self) -> f64 {
        share(self.lost, self.expected)
    }

    /// Those of all streams that count.
    pub(super) fn of_all(streams: &Streams) -> StreamCounts {
        let mut all = StreamCounts {
            unsent: streams.unsent(),
            ..StreamCounts::default()
        };
        let records = streams.records().iter();
        for record in records.filter(|record| record.is_counted()) {
            all.add(&StreamCounts::of(record));
        }
        all
    }

    fn of(record: &StreamRecord) -> StreamCounts {
        let receivers = record.receivers();
        let sum = |of: fn(&StreamReceiver) -> u64| receivers.iter().map(of).sum::<u64>();
        let expected = record.sent.frames.saturating_mul(receivers.len() as u64);
        let received = sum(|one| one.received.frames);
        StreamCounts {
            sent: record.sent.frames,
            expected,
            received,
            lost: expected.saturating_sub(received),
            duplicate: sum(|one| one.duplicate),
            reordered: sum(|one| one.reordering().reordered),
            corrupt: sum(|one| one.corrupt),
            stale: sum(|one| one.stale),
            leaked: record.leaked,
            unresolved: record.unresolved,
            unsent: 0,
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    }
}

/// All streams together, those of which a report does not tell one by one among them.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StreamTotals {
    /// Their number.
    pub streams: u64,
    /// Frames per second that they sent.
    pub sent_frames_per_s: f64,
    /// Frames per second that VMs received of them.
    pub received_frames_per_s: f64,
    /// How much they vary within the run; absent of fewer than five whole seconds, and of several runs or ranks together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<StreamSpread>,
}

/// How much figures of all streams vary within a run: twice the standard deviation of the value in each whole second.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct StreamSpread {
    /// Of the frames per second that VMs received.
    pub rate: f64,
    /// Of the median of the one-way times, in nanoseconds.
    pub p50: f64,
    /// Of their 99th percentile.
    pub p99: f64,
    /// Of the longest.
    pub max: f64,
}

impl StreamSpread {
    fn within(streams: &Streams) -> Option<StreamSpread> {
        let seconds = streams.seconds().iter();
        let rates = seconds
            .clone()
            .map(|second| second.received as f64 * 1e9 / second.length as f64);
        let times: Vec<LatencySummary> = seconds
            .map(|second| second.rtt.expand().summary())
            .collect();
        let of = |figure: fn(&LatencySummary) -> Option<u64>| {
            let values = times.iter().filter_map(figure).map(|nanos| nanos as f64);
            spread::of_values(values).map(thousandths)
        };
        Some(StreamSpread {
            rate: spread::of_values(rates).map(thousandths)?,
            p50: of(|second| second.p50)?,
            p99: of(|second| second.p99)?,
            max: of(|second| second.max)?,
        })
    }

    /// That of the figure of that name.
    pub(super) fn of(&self, figure: &str) -> Option<f64> {
        match figure {
            "rate" => Some(self.rate),
            "p50" => Some(self.p50),
            "p99" => Some(self.p99),
            "max" => Some(self.max),
            _ => None,
        }
    }
}

impl StreamTotals {
    fn add(&mut self, record: &StreamRecord) {
        self.streams += 1;
        self.sent_frames_per_s += record.sent.rates().0;
        let receivers = record.receivers().iter();
        self.received_frames_per_s += receivers.map(|one| one.received.rates().0).sum::<f64>();
    }

    /// Of two runs: as many as there are in the larger one, at the rate of both one after the other.
    fn merge(&mut self, (ours, theirs): (&StreamCounts, &StreamCounts), other: &StreamTotals) {
        let rate = |(one, frames): (f64, u64), (two, further): (f64, u64)| {
            let took = |rate: f64, frames: u64| {
                if rate > 0.0 {
                    frames as f64 / rate
                } else {
                    0.0
                }
            };
            match took(one, frames) + took(two, further) {
                0.0 => 0.0,
                seconds => thousandths((frames as f64 + further as f64) / seconds),
            }
        };
        self.streams = self.streams.max(other.streams);
        self.spread = None;
        self.sent_frames_per_s = rate(
            (self.sent_frames_per_s, ours.sent),
            (other.sent_frames_per_s, theirs.sent),
        );
        self.received_frames_per_s = rate(
            (self.received_frames_per_s, ours.received),
            (other.received_frames_per_s, theirs.received),
        );
    }
}

/// Frames at one end of a stream.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EndReport {
    /// Frames per second between the first and the last; of several receivers, all together.
    pub frames_per_s: f64,
    /// Megabits per second, Ethernet header, VLAN tags and frame check sequence included.
    pub mbit_per_s: f64,
    /// Bytes of the frames, the same included.
    pub octets: u64,
    /// From the first to the last; of several receivers, the longest.
    pub elapsed_ns: u64,
}

impl EndReport {
    fn merge(&mut self, other: &EndReport) {
        let (ours, theirs) = (self.elapsed_ns as f64, other.elapsed_ns as f64);
        let mean = |one: f64, two: f64| match ours + theirs {
            0.0 => 0.0,
            all => (one * ours + two * theirs) / all,
        };
        self.frames_per_s = mean(self.frames_per_s, other.frames_per_s);
        self.mbit_per_s = mean(self.mbit_per_s, other.mbit_per_s);
        self.octets = self.octets.saturating_add(other.octets);
        self.elapsed_ns = self.elapsed_ns.saturating_add(other.elapsed_ns);
    }
}

/// One stream: who sent frames one way to whom, in one phase.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StreamReport {
    /// The source, such as `vm0`.
    pub src: String,
    /// The destination, such as `vm1`, an address, `absent` or `broadcast`.
    pub dst: String,
    /// The address of `dst`, if `dst` is not one itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The sizes of its frames, as they may be written.
    pub sizes: String,
    /// The name of its phase; absent of a run of a single one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// What became of its frames.
    pub counts: StreamCounts,
    /// The share of the frames received that were reordered, 0 to 1 (RFC 4737 section 3.3).
    pub reordered_share: f64,
    /// The greatest reordering extent, in frames (RFC 4737 section 4.2.1).
    #[serde(default, skip_serializing_if = "nothing")]
    pub most_extent: u64,
    /// The extents of all reordered frames, added up.
    #[serde(default, skip_serializing_if = "nothing")]
    pub extents: u64,
    /// The most frames in a row that a VM did not receive.
    pub longest_loss: u64,
    /// The longest time between two frames that a VM received one after the other.
    pub longest_gap_ns: u64,
    /// What the source sent.
    pub sent: EndReport,
    /// What VMs received that it is for.
    pub received: EndReport,
    /// From the sending of a frame to its receipt, duplicates not counted. Percentiles are absent of one of more than 32 streams.
    pub one_way_ns: LatencySummary,
    /// The interarrival jitter after the last frame (RFC 3550 section 6.4.1), of several receivers the greatest; absent if none
    /// received a second frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<f64>,
    /// The packet delay variation (RFC 5481 section 4.2): by how much one-way times were longer than the shortest.
    pub delay_variation_ns: LatencySummary,
    /// Its lost frames by cause and place: as many as `counts.lost`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<LossReport>,
    /// True if a receiver goes by another clock than the source, as ranks on several machines do: of such there are no one-way times and
    /// no jitter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_two_clocks: bool,
    /// Of one that is for several VMs: each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub receivers: Vec<StreamReceiverReport>,
}

/// One of several VMs that a stream is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StreamReceiverReport {
    /// The VM.
    pub vm: String,
    /// Frames that it received, without duplicates.
    pub received: u64,
    /// Frames sent that it did not receive.
    pub lost: u64,
    /// Further copies of frames that it had received.
    pub duplicate: u64,
    /// Frames that came after one with a higher number.
    pub reordered: u64,
}

/// Name of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StreamName {
    /// The source, such as `vm0`.
    pub src: String,
    /// The destination, such as `vm1`, an address, `absent` or `broadcast`.
    pub dst: String,
    /// The address of `dst`, if `dst` is not one itself.
    pub address: Option<String>,
    /// The sizes of its frames.
    pub sizes: String,
    /// The name of its phase.
    pub phase: String,
}

impl StreamReport {
    fn of(record: &StreamRecord, name: &StreamName, losses: Vec<LossReport>) -> StreamReport {
        let receivers = record.receivers();
        let counts = StreamCounts::of(record);
        let most = |of: &dyn Fn(&StreamReceiver) -> u64| receivers.iter().map(of).max();
        let sum = |of: fn(&StreamReceiver) -> f64| receivers.iter().map(of).sum::<f64>();
        let (frames, bits) = record.sent.rates();
        let one_way_ns = match record.one_way() {
            OneWay::Histogram(histogram) => histogram.summary(),
            OneWay::Moments(moments) => LatencySummary::from(moments),
        };
        let jitters = receivers.iter().filter_map(StreamReceiver::jitter);
        StreamReport {
            src: name.src.clone(),
            dst: name.dst.clone(),
            address: name.address.clone(),
            sizes: name.sizes.clone(),
            phase: name.phase.clone(),
            counts,
            reordered_share: share(counts.reordered, counts.received),
            most_extent: most(&|one| one.reordering().most_extent).unwrap_or(0),
            extents: receivers.iter().map(|one| one.reordering().extents).sum(),
            longest_loss: most(&|one| one.longest_loss(counts.sent)).unwrap_or(0),
            longest_gap_ns: most(&|one| one.longest_gap).unwrap_or(0),
            sent: EndReport {
                frames_per_s: thousandths(frames),
                mbit_per_s: megabits(bits),
                octets: record.sent.octets,
                elapsed_ns: record.sent.elapsed(),
            },
            received: EndReport {
                frames_per_s: thousandths(sum(|one| one.received.rates().0)),
                mbit_per_s: megabits(sum(|one| one.received.rates().1)),
                octets: receivers.iter().map(|one| one.received.octets).sum(),
                elapsed_ns: most(&|one| one.received.elapsed()).unwrap_or(0),
            },
            delay_variation_ns: variation(&one_way_ns),
            one_way_ns,
            jitter_ns: jitters.max_by(f64::total_cmp).map(thousandths),
            losses,
            has_two_clocks: record.has_two_clocks,
            receivers: match receivers {
                [] | [_] => Vec::new(),
                several => several
                    .iter()
                    .map(|one| StreamReceiverReport {
                        vm: one.vm.to_string(),
                        received: one.received.frames,
                        lost: counts.sent.saturating_sub(one.received.frames),
                        duplicate: one.duplicate,
                        reordered: one.reordering().reordered,
                    })
                    .collect(),
            },
        }
    }

    /// Its name in tables: `vm0 → vm1`.
    pub(super) fn title(&self) -> String {
        match self.phase.as_str() {
            "" => format!("{} → {}", self.src, self.dst),
            phase => format!("{} → {} ({phase})", self.src, self.dst),
        }
    }

    /// Takes in the same stream of another run. A single stream's histogram is not saved: percentiles are not known then.
    fn merge(&mut self, other: &StreamReport) {
        self.counts.add(&other.counts);
        self.reordered_share = share(self.counts.reordered, self.counts.received);
        self.most_extent = self.most_extent.max(other.most_extent);
        self.extents = self.extents.saturating_add(other.extents);
        self.longest_loss = self.longest_loss.max(other.longest_loss);
        self.longest_gap_ns = self.longest_gap_ns.max(other.longest_gap_ns);
        self.sent.merge(&other.sent);
        self.received.merge(&other.received);
        self.one_way_ns = sum(&self.one_way_ns, &other.one_way_ns);
        self.delay_variation_ns = variation(&self.one_way_ns);
        losses::merge(&mut self.losses, &other.losses);
        self.has_two_clocks |= other.has_two_clocks;
        self.jitter_ns = match (self.jitter_ns, other.jitter_ns) {
            (Some(one), Some(two)) => Some(one.max(two)),
            (one, two) => one.or(two),
        };
        let mut theirs: HashMap<&str, &StreamReceiverReport> = other
            .receivers
            .iter()
            .map(|one| (one.vm.as_str(), one))
            .collect();
        for ours in &mut self.receivers {
            if let Some(theirs) = theirs.remove(ours.vm.as_str()) {
                ours.received += theirs.received;
                ours.lost += theirs.lost;
                ours.duplicate += theirs.duplicate;
                ours.reordered += theirs.reordered;
            }
        }
    }
}

/// By how much values were greater than the least.
fn variation(one_way: &LatencySummary) -> LatencySummary {
    let Some(min) = one_way.min else {
        return *one_way;
    };
    let above = |value: Option<u64>| value.map(|value| value.saturating_sub(min));
    LatencySummary {
        min: Some(0),
        mean: above(one_way.mean),
        p50: above(one_way.p50),
        p90: above(one_way.p90),
        p99: above(one_way.p99),
        p99_9: above(one_way.p99_9),
        max: above(one_way.max),
        ..*one_way
    }
}

/// So many bits in megabits, to the last bit.
fn megabits(bits: f64) -> f64 {
    bits.round() / 1e6
}

fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// What a report tells of streams.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Told {
    /// The counts of all that count.
    pub(super) counts: Option<StreamCounts>,
    /// All of them together.
    pub(super) totals: Option<StreamTotals>,
    /// The lost frames of all of these.
    pub(super) losses: Vec<LossReport>,
    /// Those that are told one by one.
    pub(super) streams: Vec<StreamReport>,
}

impl Told {
    /// Has `report` tell that.
    pub(super) fn put_into(self, report: &mut Report) {
        report.stream_counts = self.counts;
        report.stream_totals = self.totals;
        report.stream_losses = self.losses;
        report.streams = self.streams;
    }
}

/// What is told of streams with these names.
pub(super) fn of_streams(streams: &Streams, names: &[StreamName]) -> Told {
    let unknown = StreamName::default();
    let lost = streams.lost_frames();
    let records = streams.records().iter().enumerate();
    let counted = records.filter(|(_, record)| record.is_counted());
    let named = counted.map(|(index, record)| {
        let name = names.get(index).unwrap_or(&unknown);
        (name, record, known_losses(&lost, index))
    });
    let mut told = told(streams.unsent(), named, |_, record, name, losses| {
        StreamReport::of(record, name, losses)
    });
    if let Some(totals) = &mut told.totals {
        totals.spread = StreamSpread::within(streams);
    }
    told
}

/// Those of the lost frames of a stream of which something is known.
fn known_losses(lost: &LostFrames, number: usize) -> Vec<LossReport> {
    let rows = lost.get(&StreamId(number as u32)).into_iter().flatten();
    rows.map(|(what, frames)| LossReport::from((what, *frames)))
        .collect()
}

/// The losses of a stream that has lost so many frames: what is known of them, and the rest.
fn all_losses(lost: u64, mut known: Vec<LossReport>) -> Vec<LossReport> {
    let mut left = lost;
    for row in &mut known {
        row.count = row.count.min(left);
        left -= row.count;
    }
    known.retain(|row| row.count > 0);
    if left > 0 {
        losses::merge(&mut known, &[(&Attribution::UNKNOWN, left).into()]);
    }
    known
}

/// The same of these, in their order, with frames that were not sent in time; `of` makes the report of the one at such a place.
fn told<'a>(
    unsent: u64,
    streams: impl Iterator<Item = (&'a StreamName, &'a StreamRecord, Vec<LossReport>)>,
    of: impl Fn(usize, &StreamRecord, &StreamName, Vec<LossReport>) -> StreamReport,
) -> Told {
    let mut told = Told::default();
    let mut totals = StreamTotals::default();
    let mut counts = StreamCounts {
        unsent,
        ..StreamCounts::default()
    };
    let mut all = Vec::new();
    for (place, (name, record, known)) in streams.enumerate() {
        let of_stream = StreamCounts::of(record);
        counts.add(&of_stream);
        totals.add(record);
        let rows = all_losses(of_stream.lost, known);
        losses::merge(&mut told.losses, &rows);
        all.push((place, of_stream.lost, (name, record, rows)));
    }
    if all.len() > STREAMS_TOLD {
        all.sort_by_key(|(_, lost, _)| std::cmp::Reverse(*lost));
        all.truncate(STREAMS_TOLD);
        all.sort_by_key(|(place, ..)| *place);
    }
    let streams = all.into_iter();
    told.streams = streams
        .map(|(place, _, (name, record, rows))| of(place, record, name, rows))
        .collect();
    told.counts = Some(counts);
    told.totals = Some(StreamTotals {
        sent_frames_per_s: thousandths(totals.sent_frames_per_s),
        received_frames_per_s: thousandths(totals.received_frames_per_s),
        ..totals
    });
    told
}

/// The columns of the table of streams.
pub(super) const COLUMNS: [&str; 10] = [
    "stream", "sent", "received", "lost", "twice", "late", "p50", "p99", "jitter", "Mbit/s",
];

/// The rows of that table, of so many streams at most.
pub(super) fn rows(report: &Report, most: usize) -> impl Iterator<Item = [String; 10]> {
    report.streams.iter().take(most).map(|stream| {
        let counts = &stream.counts;
        [
            stream.title(),
            count(counts.sent),
            count(counts.received),
            percent(counts.loss()),
            count(counts.duplicate),
            count(counts.reordered),
            span_or_dash(stream.one_way_ns.p50.or(stream.one_way_ns.mean)),
            span_or_dash(stream.one_way_ns.p99.or(stream.one_way_ns.max)),
            span_or_dash(stream.jitter_ns.map(|nanos| nanos.round() as u64)),
            significant(stream.received.mbit_per_s),
        ]
    })
}

/// All streams in a sentence: `2,000 frames sent, 1,990 received, …`.
pub(super) fn sentence(counts: &StreamCounts) -> String {
    let mut text = format!(
        "{} sent, {} received, {} lost",
        counted(counts.sent, "frame"),
        count(counts.received),
        percent(counts.loss())
    );
    for (number, words) in [
        (counts.duplicate, "received twice"),
        (counts.reordered, "reordered"),
        (counts.corrupt, "damaged"),
        (counts.stale, "too late to be told apart"),
        (counts.leaked, "read by VMs that they are not for"),
        (counts.unresolved, "not sent for want of a neighbour"),
        (counts.unsent, "not sent in time"),
    ] {
        if number > 0 {
            text += &format!(", {} {words}", count(number));
        }
    }
    text
}

/// What is to be said below the table of streams.
pub(super) fn notes(report: &Report) -> impl Iterator<Item = String> {
    let more = left_out(report, SHOWN);
    more.into_iter().chain(two_clocks(report))
}

/// Says why streams have no times, if some have none because of that.
pub(super) fn two_clocks(report: &Report) -> Option<String> {
    let streams = report.streams.iter().filter(|one| one.has_two_clocks);
    let why = |number| {
        let streams = count(number);
        format!("without one-way times, as their ends have different clocks: {streams}")
    };
    Some(streams.count() as u64)
        .filter(|number| *number > 0)
        .map(why)
}

/// Says how many are left out of a table of so many at most, if any.
pub(super) fn left_out(report: &Report, most: usize) -> Option<String> {
    let shown = most.min(report.streams.len()) as u64;
    let more = report.stream_number().checked_sub(shown);
    more.filter(|more| *more > 0)
        .map(|more| format!("… and {} more", count(more)))
}

/// The lines of a text about streams.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let Some(counts) = &report.stream_counts else {
        return Vec::new();
    };
    let mut table = super::Table::new(1, &COLUMNS);
    rows(report, SHOWN).for_each(|row| table.row(row));
    let mut lines = table.lines();
    lines.extend(notes(report));
    lines.push(format!("streams in all: {}", sentence(counts)));
    lines
}

impl Report {
    /// Takes in the streams of another run.
    pub(super) fn merge_streams(&mut self, other: &Report) {
        let counts_before = self.stream_counts.unwrap_or_default();
        match (&mut self.stream_totals, &other.stream_totals) {
            (Some(ours), Some(theirs)) => {
                let further = other.stream_counts.unwrap_or_default();
                ours.merge((&counts_before, &further), theirs);
            }
            (ours @ None, theirs) => *ours = *theirs,
            (Some(_), None) => {}
        }
        match (&mut self.stream_counts, &other.stream_counts) {
            (Some(ours), Some(theirs)) => ours.add(theirs),
            (ours @ None, theirs) => *ours = *theirs,
            (Some(_), None) => {}
        }
        losses::merge(&mut self.stream_losses, &other.stream_losses);
        let mut left: Vec<&StreamReport> = other.streams.iter().collect();
        for ours in &mut self.streams {
            let is_same = |theirs: &&StreamReport| {
                (&theirs.src, &theirs.dst, &theirs.phase) == (&ours.src, &ours.dst, &ours.phase)
            };
            if let Some(at) = left.iter().position(is_same) {
                ours.merge(left.remove(at));
            }
        }
        self.streams.extend(left.into_iter().cloned());
    }

    /// Returns true if it tells of flows or streams: VMs did not only answer.
    pub(super) fn has_load(&self) -> bool {
        self.flow_count > 0 || self.stream_counts.is_some()
    }

    /// Returns true if it tells of streams and of no flow.
    pub fn is_of_streams(&self) -> bool {
        self.flow_count == 0 && self.stream_counts.is_some()
    }

    /// The share of the pings that failed, from 0 to 1; of streams alone, that of the copies of frames that were lost.
    pub fn loss(&self) -> f64 {
        let of_streams = self.stream_counts.filter(|_| self.is_of_streams());
        of_streams.map_or_else(|| self.totals.loss(), |counts| counts.loss())
    }

    /// The number of the streams, those among them that are not told one by one.
    pub(super) fn stream_number(&self) -> u64 {
        self.all_streams().streams.max(self.streams.len() as u64)
    }

    /// All streams together; of a report that does not say, those that it tells.
    fn all_streams(&self) -> StreamTotals {
        let each = || self.streams.iter();
        self.stream_totals.unwrap_or_else(|| StreamTotals {
            streams: each().count() as u64,
            sent_frames_per_s: each().map(|one| one.sent.frames_per_s).sum(),
            received_frames_per_s: each().map(|one| one.received.frames_per_s).sum(),
            spread: None,
        })
    }

    /// The frames per second that were sent of all streams together.
    pub fn stream_load(&self) -> f64 {
        self.all_streams().sent_frames_per_s
    }

    /// The frames per second that VMs received of all streams together; `None` without streams.
    pub fn stream_rate(&self) -> Option<f64> {
        self.stream_counts
            .map(|_| self.all_streams().received_frames_per_s)
    }
}

#[cfg(test)]
mod tests;
