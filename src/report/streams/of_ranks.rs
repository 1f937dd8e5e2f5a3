//! What several ranks know of the same streams: one has sent what others have received.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::{Deserialize, Deserializer, Serialize};

use super::super::encoding::{self, Encoded};
use super::{StreamName, StreamReport, Told, known_losses, told};
use crate::record::{Moments, OneWay, StreamRecord, Streams};
use crate::report::{LossReport, losses};

/// What one rank knows of streams, or several together; those of a warm-up are left out.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(in crate::report) struct StreamsOfRank {
    unsent: u64,
    /// By their number.
    streams: BTreeMap<usize, StreamOfRank>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct StreamOfRank {
    name: StreamName,
    record: StreamRecord,
    /// What is known of frames that did not come.
    losses: Vec<LossReport>,
    #[serde(deserialize_with = "readable")]
    one_way: Times,
}

impl StreamsOfRank {
    pub(in crate::report) fn of(streams: &Streams, names: &[StreamName]) -> StreamsOfRank {
        let lost = streams.lost_frames();
        let records = streams.records().iter().enumerate();
        let told = records.filter(|(_, record)| record.is_counted() && !record.is_elsewhere());
        let told = told.map(|(number, record)| {
            let stream = StreamOfRank {
                name: names.get(number).cloned().unwrap_or_default(),
                losses: known_losses(&lost, number),
                record: record.closed(OneWay::default()),
                one_way: Times::from(record.one_way()),
            };
            (number, stream)
        });
        StreamsOfRank {
            unsent: streams.unsent(),
            streams: told.collect(),
        }
    }

    /// Takes in what another rank knows.
    pub(in crate::report) fn add(&mut self, other: StreamsOfRank) {
        self.unsent = self.unsent.saturating_add(other.unsent);
        for (number, stream) in other.streams {
            match self.streams.entry(number) {
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    known.record.merge(stream.record);
                    losses::merge(&mut known.losses, &stream.losses);
                    known.one_way.add(&stream.one_way);
                }
                Entry::Vacant(place) => {
                    place.insert(stream);
                }
            }
        }
    }

    /// The streams of a run of several ranks, once all have told of them that will, and how many are left out because a rank has not
    /// that has one of their ends.
    pub(in crate::report) fn told(self) -> (Told, u64) {
        let all = self.streams.into_values();
        let (all, partial): (Vec<_>, Vec<_>) = all.partition(|of| of.record.is_whole());
        (
            StreamsOfRank::of_whole(self.unsent, &all),
            partial.len() as u64,
        )
    }

    fn of_whole(unsent: u64, all: &[StreamOfRank]) -> Told {
        let named = all.iter();
        let named = named.map(|stream| (&stream.name, &stream.record, stream.losses.clone()));
        told(unsent, named, |place, record, name, losses| {
            let one_way = all.get(place).map(|stream| stream.one_way.known());
            let whole = record.closed(one_way.unwrap_or_default());
            StreamReport::of(&whole, name, losses)
        })
    }
}

/// One-way times, as short as they are in a document: a histogram that is open has hundreds of kilobytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
enum Times {
    Histogram(Option<Encoded>),
    /// Number, least, greatest, mean and standard deviation.
    Moments(u64, u64, u64, f64, f64),
}

impl From<&OneWay> for Times {
    fn from(one_way: &OneWay) -> Times {
        match one_way {
            OneWay::Histogram(histogram) => Times::Histogram(encoding::encode(histogram)),
            OneWay::Moments(moments) => Times::Moments(
                moments.count(),
                moments.min().unwrap_or(0),
                moments.max().unwrap_or(0),
                moments.mean().unwrap_or(0.0),
                moments.stdev().unwrap_or(0.0),
            ),
        }
    }
}

impl Times {
    fn read(&self) -> Result<OneWay, String> {
        Ok(match self {
            Times::Histogram(encoded) => {
                OneWay::Histogram(Box::new(encoding::latency(encoded.as_ref())?))
            }
            Times::Moments(count, min, max, mean, stdev) => {
                OneWay::Moments(Moments::from_parts(*count, *min, *max, *mean, *stdev))
            }
        })
    }

    /// What was read of a document once can be read again.
    fn known(&self) -> OneWay {
        self.read().unwrap_or_default()
    }

    fn add(&mut self, other: &Times) {
        let mut both = self.known();
        both.merge(&other.known());
        *self = Times::from(&both);
    }
}

/// Takes times that can be read.
fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Times, D::Error> {
    let times = Times::deserialize(deserializer)?;
    times.read().map_err(serde::de::Error::custom)?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Limits, Recorder, StreamId};
    use crate::time::Instant;
    use crate::vm::VmId;

    fn at(number: u64, more: u64) -> Instant {
        Instant::from_nanos(1_000_000 + number * 100_000 + more)
    }

    /// Frames of two streams, of which `sends` tells which are sent and `receives` which VMs are there: vm1 lacks the fifth, which
    /// comes last, and those from the eighth on, vm2 each third one.
    fn recorded(sends: bool, receives: &[u32], two_clocks: bool) -> Streams {
        let mut recorder = Recorder::new(Limits::default());
        for number in 0..2 {
            let here = receives.iter().map(|vm| VmId(*vm));
            recorder.add_stream(true, here.collect());
            let stream = StreamId(number);
            let elsewhere = 2 - receives.len() as u64;
            recorder.stream_crosses(stream, (sends, elsewhere), two_clocks);
            let came = |vm: u32, number: &u64| match vm {
                1 => *number != 5 && *number < 8,
                _ => !number.is_multiple_of(3),
            };
            for frame in 0..10 {
                if sends {
                    recorder.stream_sent(stream, 125, at(frame, 0), at(frame, 0));
                }
            }
            for vm in receives {
                let frames = (0..10).filter(|frame| came(*vm, frame));
                for frame in frames.chain([5].into_iter().filter(|_| *vm == 1)) {
                    let times = (at(frame, 0), at(frame + 1, u64::from(*vm)));
                    recorder.stream_received((stream, VmId(*vm)), (frame, 125), times);
                }
            }
        }
        recorder.streams().unwrap().clone()
    }

    fn of_ranks(parts: [StreamsOfRank; 2]) -> Told {
        let [mut all, other] = parts;
        all.add(other);
        let (told, left_out) = all.told();
        assert_eq!(left_out, 0);
        told
    }

    fn names() -> Vec<StreamName> {
        let name = |dst: &str| StreamName {
            src: "vm0".to_owned(),
            dst: dst.to_owned(),
            ..StreamName::default()
        };
        vec![name("239.1.2.3"), name("broadcast")]
    }

    #[test]
    fn what_ranks_have_sent_and_received_is_told_as_one_process_would() {
        let whole = recorded(true, &[1, 2], false);
        let one = super::super::of_streams(&whole, &names());
        for parts in [
            [(true, &[1][..]), (false, &[2])],
            [(false, &[2, 1]), (true, &[])],
            [(true, &[2]), (false, &[1])],
        ] {
            let parts = parts.map(|(sends, receives)| {
                let streams = recorded(sends, receives, false);
                let part = StreamsOfRank::of(&streams, &names());
                let text = serde_json::to_string(&part).unwrap();
                serde_json::from_str(&text).unwrap()
            });
            assert_eq!(of_ranks(parts), one);
        }
        let Told {
            counts, streams, ..
        } = one;
        let counts = counts.unwrap();
        assert_eq!((counts.sent, counts.expected), (20, 40));
        assert_eq!((counts.lost, counts.reordered), (2 * 6, 2));
        assert_eq!(streams[1].longest_loss, 2);
        assert_eq!(streams[1].one_way_ns.count, 14);
    }

    #[test]
    fn streams_with_an_end_in_a_rank_that_has_not_told_are_left_out() {
        for (sends, receives, left_out) in [
            (true, &[1, 2][..], 0),
            (true, &[1], 2),
            (true, &[], 2),
            (false, &[1, 2], 2),
            (false, &[], 0),
        ] {
            let streams = recorded(sends, receives, false);
            let (told, found) = StreamsOfRank::of(&streams, &names()).told();
            assert_eq!(found, left_out, "{sends} {receives:?}");
            let counts = told.counts.unwrap();
            assert_eq!(counts.received + counts.lost, counts.expected);
            assert_eq!(told.streams.is_empty(), left_out > 0 || !sends);
        }
    }

    #[test]
    fn between_two_clocks_no_times_are_told() {
        let parts = [(true, &[][..]), (false, &[1, 2])].map(|(sends, receives)| {
            StreamsOfRank::of(&recorded(sends, receives, !sends), &names())
        });
        let Told {
            counts, streams, ..
        } = of_ranks(parts);
        let counts = counts.unwrap();
        assert_eq!((counts.lost, counts.reordered), (2 * 6, 2));
        assert!(streams[0].has_two_clocks);
        assert_eq!(streams[0].one_way_ns.count, 0);
        assert_eq!(streams[0].jitter_ns, None);
    }
}
