//! What is known of frames of streams that did not come.

use std::collections::BTreeMap;

use super::{StreamId, Streams};
use crate::record::Attribution;
use crate::vm::VmId;

/// Frames of which is kept what became of each. With one more they are counted, and it is not seen any more if a copy has come.
const MAX_FRAMES: usize = 1 << 16;
/// Rows of what was counted so; what is beyond is not told.
const MAX_ROWS: usize = 1 << 16;

/// What became of a frame, or of a copy of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Fact {
    stream: StreamId,
    sequence: u64,
    /// The VM that it did not come to; `None` of all that it is for.
    vm: Option<VmId>,
    what: Attribution,
}

/// What is known, in bounded memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    frames: Vec<Fact>,
    counted: LostFrames,
}

/// Lost frames by stream and by what they are put down to.
pub type LostFrames = BTreeMap<StreamId, BTreeMap<Attribution, u64>>;

impl Streams {
    /// The frame of `stream` with that number did not come to `vm`, or to nobody whom it is for, because of `what`.
    pub(in crate::record) fn lost(
        &mut self,
        (stream, sequence): (StreamId, u64),
        vm: Option<VmId>,
        what: Attribution,
    ) {
        if !self
            .records
            .get(stream.index())
            .is_some_and(|it| it.is_counted)
        {
            return;
        }
        if self.facts.frames.len() >= MAX_FRAMES {
            let mut counted = std::mem::take(&mut self.facts.counted);
            self.count(&mut counted);
            let mut rows = 0;
            counted.retain(|_, of_stream| {
                rows += of_stream.len();
                rows <= MAX_ROWS
            });
            self.facts.counted = counted;
            self.facts.frames.clear();
        }
        self.facts.frames.push(Fact {
            stream,
            sequence,
            vm,
            what,
        });
    }

    /// The copies of frames of which is known what became of them, those left out that have come after all.
    pub fn lost_frames(&self) -> LostFrames {
        let mut counted = self.facts.counted.clone();
        self.count(&mut counted);
        counted
    }

    fn count(&self, counted: &mut LostFrames) {
        let mut frames = self.facts.frames.clone();
        frames.sort_unstable();
        for of_frame in frames
            .chunk_by(|one, other| (one.stream, one.sequence) == (other.stream, other.sequence))
        {
            let Some(first) = of_frame.first() else {
                continue;
            };
            let Some(record) = self.records.get(first.stream.index()) else {
                continue;
            };
            let rows = counted.entry(first.stream).or_default();
            for receiver in &record.receivers {
                let is_of_it = |fact: &&Fact| fact.vm.is_none_or(|vm| vm == receiver.vm);
                let is_missing = receiver.sequence.is_missing(first.sequence);
                if let Some(fact) = of_frame.iter().find(is_of_it).filter(|_| is_missing) {
                    *rows.entry(fact.what).or_default() += 1;
                }
            }
            // They are missing wherever that is.
            if let Some(fact) = of_frame.iter().find(|fact| fact.vm.is_none())
                && record.receivers_elsewhere > 0
            {
                *rows.entry(fact.what).or_default() += record.receivers_elsewhere;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Cause, Place, Way};
    use crate::time::Instant;

    const STREAM: StreamId = StreamId(1);

    fn at(vm: u32) -> Attribution {
        Attribution::of(Cause::Impaired, Way::Request, Place::Vm(VmId(vm)))
    }

    /// Ten frames to vm1 and vm2, of which vm1 has all but the fourth and vm2 all but the last two.
    fn streams() -> Streams {
        let mut streams = Streams::default();
        streams.add(false, vec![VmId(1)], 0);
        streams.add(true, vec![VmId(1), VmId(2)], 0);
        let now = Instant::from_nanos(1);
        for number in 0..10 {
            streams.sent(STREAM, now, 64);
            for (vm, came) in [(1, number != 3), (2, number < 8)] {
                if came {
                    streams.received((STREAM, VmId(vm)), (number, 64), (now, now));
                }
            }
        }
        streams
    }

    #[test]
    fn a_copy_that_did_not_come_is_counted_once_and_one_that_came_is_not() {
        let mut streams = streams();
        for (number, vm, what) in [
            (3, Some(1), at(1)),
            // The same again, one that has come, one that nobody knows, and two of a warm-up.
            (3, Some(1), at(1)),
            (5, Some(1), at(1)),
            (9, Some(7), at(7)),
            (9, None, at(0)),
            // vm1 has got it all the same.
            (8, None, at(0)),
        ] {
            streams.lost((STREAM, number), vm.map(VmId), what);
        }
        streams.lost((StreamId(0), 9), None, at(0));
        streams.lost((StreamId(5), 9), None, at(0));
        let expected = BTreeMap::from([(STREAM, BTreeMap::from([(at(0), 2), (at(1), 1)]))]);
        assert_eq!(streams.lost_frames(), expected);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted_and_receivers_elsewhere_have_not_got_it_either() {
        let mut streams = streams();
        streams.set_crossing(STREAM, (true, 3), false);
        for number in 10..10 + MAX_FRAMES as u64 + 5 {
            streams.lost((STREAM, number), None, at(0));
            streams.lost((STREAM, number), Some(VmId(2)), at(2));
        }
        let lost = streams.lost_frames();
        let frames = MAX_FRAMES as u64 + 5;
        let all: u64 = lost[&STREAM].values().sum();
        assert_eq!(all, frames * 5);
        assert!(streams.facts.frames.len() <= MAX_FRAMES);
    }
}
