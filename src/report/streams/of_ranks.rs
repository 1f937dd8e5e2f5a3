//! What several ranks know of the same streams: one has sent what others have received.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::encoding::{self, Encoded};
use super::{StreamName, Told, known_losses, told};
use crate::record::{Moments, OneWay, StreamRecord, Streams};
use crate::report::{LossReport, losses};

/// What one rank knows of streams, those of a warm-up left out.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(in crate::report) struct StreamsOfRank {
    unsent: u64,
    streams: Vec<StreamOfRank>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct StreamOfRank {
    number: usize,
    name: StreamName,
    record: StreamRecord,
    /// What is known of frames that did not come.
    losses: Vec<LossReport>,
    #[serde(with = "times")]
    one_way: OneWay,
}

impl StreamsOfRank {
    pub(in crate::report) fn of(streams: &Streams, names: &[StreamName]) -> StreamsOfRank {
        let lost = streams.lost_frames();
        let records = streams.records().iter().enumerate();
        let told = records.filter(|(_, record)| record.is_counted() && !record.is_idle());
        let told = told.map(|(number, record)| StreamOfRank {
            number,
            name: names.get(number).cloned().unwrap_or_default(),
            losses: known_losses(&lost, number),
            record: record.closed(OneWay::default()),
            one_way: record.one_way().clone(),
        });
        StreamsOfRank {
            unsent: streams.unsent(),
            streams: told.collect(),
        }
    }
}

/// The streams of a run of several ranks.
pub(in crate::report) fn of_ranks(parts: impl IntoIterator<Item = StreamsOfRank>) -> Told {
    let mut all: BTreeMap<usize, (StreamName, StreamRecord, Vec<LossReport>)> = BTreeMap::new();
    let mut unsent: u64 = 0;
    for part in parts {
        unsent = unsent.saturating_add(part.unsent);
        for stream in part.streams {
            let record = stream.record.closed(stream.one_way);
            match all.get_mut(&stream.number) {
                Some((_, known, lost)) => {
                    known.merge(record);
                    losses::merge(lost, &stream.losses);
                }
                None => {
                    all.insert(stream.number, (stream.name, record, stream.losses));
                }
            }
        }
    }
    let all = all.values();
    told(
        unsent,
        all.map(|(name, record, lost)| (name, record, lost.clone())),
    )
}

/// One-way times in a document.
mod times {
    use super::*;

    #[derive(Serialize, Deserialize)]
    enum Form {
        Histogram(Option<Encoded>),
        /// Number, least, greatest, mean and standard deviation.
        Moments(u64, u64, u64, f64, f64),
    }

    pub fn serialize<S: Serializer>(one_way: &OneWay, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match one_way {
            OneWay::Histogram(histogram) => Form::Histogram(encoding::encode(histogram)),
            OneWay::Moments(moments) => Form::Moments(
                moments.count(),
                moments.min().unwrap_or(0),
                moments.max().unwrap_or(0),
                moments.mean().unwrap_or(0.0),
                moments.stdev().unwrap_or(0.0),
            ),
        };
        form.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OneWay, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Histogram(encoded) => {
                let latency = encoding::latency(encoded).map_err(serde::de::Error::custom)?;
                OneWay::Histogram(Box::new(latency))
            }
            Form::Moments(count, min, max, mean, stdev) => {
                OneWay::Moments(Moments::from_parts(count, min, max, mean, stdev))
            }
        })
    }
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
            recorder.stream_crosses(stream, 2 - receives.len() as u64, two_clocks);
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
