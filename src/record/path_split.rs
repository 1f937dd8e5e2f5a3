//! The parts of a round trip, from stamps on the way of its frames.
//!
//! A ping has seventeen stamps: when it was sent and when its reply was received, seven more readings of the clock by this
//! process, and four of the kernel's each way. Sixteen spans lie between them, of which each belongs to one [`PathStage`], so
//! that the stages of a ping sum to its round trip.
//!
//! Stamps take time themselves. What a stamp takes is known beforehand ([`StampCost`]); one half of it lies before the instant
//! that it tells and one behind, and is taken off the two spans that meet there.

use super::{Latency, PathStage, PathWay, SparseLatency};
use crate::time::Instant;

/// The instants of a ping, in their order.
pub const PATH_STAMPS: usize = 17;
const SPANS: usize = PATH_STAMPS - 1;

/// The maker of a stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Maker {
    /// The instant is known anyway.
    Free,
    /// This process, which reads the clock once more.
    Process,
    /// A program in the kernel.
    Kernel,
}

/// The makers of the stamps of a ping.
const MAKERS: [Maker; PATH_STAMPS] = {
    use Maker::{Free, Kernel as K, Process as P};
    [Free, P, K, K, K, K, P, P, P, P, K, K, K, K, P, P, Free]
};

/// The stage that each span belongs to, and of which frame.
const STAGES: [(PathStage, PathWay); SPANS] = {
    use PathStage::{Bridge, CopyIn, CopyOut, Ours, Qdisc, TapQueue, WakeUp};
    use PathWay::{Reply, Request};
    [
        (Ours, Request),
        (CopyIn, Request),
        (Bridge, Request),
        (Qdisc, Request),
        (TapQueue, Request),
        (WakeUp, Request),
        (Ours, Request),
        (CopyOut, Request),
        (Ours, Reply),
        (CopyIn, Reply),
        (Bridge, Reply),
        (Qdisc, Reply),
        (TapQueue, Reply),
        (WakeUp, Reply),
        (Ours, Reply),
        (CopyOut, Reply),
    ]
};

/// The span of each way in which a frame may pass other devices, which stamp it, too.
const BETWEEN_DEVICES: [usize; 2] = [2, 10];
/// The stamps of each way that tell something.
const KERNEL_STAMPS: u32 = 4;
/// The stamps of a ping that this process makes.
const PROCESS_STAMPS: f64 = 7.0;

/// What a stamp takes, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct StampCost {
    /// A reading of the clock by this process.
    pub by_process: f64,
    /// A stamp by the kernel.
    pub by_kernel: f64,
}

impl StampCost {
    fn of(self, maker: Maker) -> f64 {
        match maker {
            Maker::Free => 0.0,
            Maker::Process => self.by_process,
            Maker::Kernel => self.by_kernel,
        }
    }

    /// What a stamp of the kernel's takes, if a ping takes `unstamped` without stamps and `stamped` with `made` of the kernel,
    /// and a reading of the clock takes `by_process`. None is ever less than nothing.
    fn between(unstamped: u64, stamped: u64, by_process: f64, made: f64) -> StampCost {
        let added = stamped.saturating_sub(unstamped) as f64;
        let by_kernel = (added - by_process * PROCESS_STAMPS) / made;
        StampCost {
            by_process,
            by_kernel: by_kernel.max(0.0),
        }
    }
}

/// The stamps of one ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathSample {
    /// The spans between them in nanoseconds.
    spans: [u32; SPANS],
    /// The stamps that the kernel has made of the request and of the reply.
    made: [u32; 2],
}

impl PathSample {
    /// The `stamps` of a ping, of which request and reply have passed `made` of the kernel; `None` if they are not in order.
    pub fn of(stamps: &[Instant; PATH_STAMPS], made: [u32; 2]) -> Option<PathSample> {
        let mut spans = [0; SPANS];
        for (span, pair) in spans.iter_mut().zip(stamps.windows(2)) {
            let &[from, to] = pair else {
                return None;
            };
            let nanos = to.as_nanos().checked_sub(from.as_nanos())?;
            *span = u32::try_from(nanos).unwrap_or(u32::MAX);
        }
        Some(PathSample { spans, made })
    }

    /// The round trip, as stamped.
    pub fn rtt(&self) -> u64 {
        self.spans.iter().map(|span| u64::from(*span)).sum()
    }

    /// The spans without what the stamps took. One that is shorter than that leaves the rest to those beside it, so that the sum
    /// is that of the round trip without all stamps.
    fn corrected(&self, cost: StampCost) -> [f64; SPANS] {
        let mut owed = 0.0;
        let mut spans = [0.0; SPANS];
        let costs = MAKERS.map(|maker| cost.of(maker) / 2.0);
        let both = costs.windows(2).map(|pair| pair.iter().sum::<f64>());
        for (at, ((span, raw), both)) in spans.iter_mut().zip(self.spans).zip(both).enumerate() {
            let way = BETWEEN_DEVICES.iter().position(|between| *between == at);
            let made = way.and_then(|way| self.made.get(way)).copied();
            let others = made.map_or(0, |made| made.saturating_sub(KERNEL_STAMPS));
            owed += both + f64::from(others) * cost.by_kernel;
            let raw = f64::from(raw);
            let taken = owed.min(raw);
            *span = raw - taken;
            owed -= taken;
        }
        // Behind the last one there is none.
        for span in spans.iter_mut().rev() {
            let taken = owed.min(*span);
            *span -= taken;
            owed -= taken;
        }
        spans
    }
}

/// One stage of one way, over all pings.
#[derive(Clone, PartialEq, Debug)]
pub struct StageTimes {
    /// The stage.
    pub stage: PathStage,
    /// The frame.
    pub way: PathWay,
    /// How long it took, without the stamps.
    pub times: SparseLatency,
}

/// The stages of many pings.
#[derive(Clone, PartialEq, Debug)]
pub struct PathSplit {
    /// Pings with all their stamps.
    pub pings: u64,
    /// Pings that were sent to be stamped and lack one: lost, or not seen on a part of their way.
    pub incomplete: u64,
    /// What a stamp took.
    pub cost: StampCost,
    /// Round trips of the same flows without stamps, right before.
    pub unstamped: SparseLatency,
    /// Round trips of the pings, without what the stamps took.
    pub rtt: SparseLatency,
    /// The stages, in the order of the way of the request and then of the reply.
    pub stages: Vec<StageTimes>,
}

impl PathSplit {
    /// Sums up the stages of `samples`. `unstamped` are round trips of pings without stamps, `by_process` is what a reading of
    /// the clock takes, and `sent` is how many pings were sent to be stamped.
    pub fn of(
        samples: &[PathSample],
        unstamped: &Latency,
        by_process: f64,
        sent: u64,
    ) -> PathSplit {
        let mut times = Latency::new();
        for sample in samples {
            times.record(sample.rtt());
        }
        let made = samples.iter().flat_map(|each| each.made);
        let made = made.map(f64::from).sum::<f64>() / samples.len().max(1) as f64;
        let medians = (unstamped.quantile(0.5), times.quantile(0.5));
        let cost = match medians {
            (Some(unstamped), Some(stamped)) => {
                StampCost::between(unstamped, stamped, by_process, made)
            }
            _ => StampCost {
                by_process,
                by_kernel: 0.0,
            },
        };
        let spans: Vec<[f64; SPANS]> = samples.iter().map(|each| each.corrected(cost)).collect();
        let mut sum = |is_of: &dyn Fn(&(PathStage, PathWay)) -> bool| {
            times.clear();
            for spans in &spans {
                let own = spans.iter().zip(&STAGES).filter(|(_, of)| is_of(of));
                let nanos: f64 = own.map(|(span, _)| span).sum();
                times.record(nanos.round() as u64);
            }
            SparseLatency::from(&times)
        };
        let rtt = sum(&|_| true);
        let all = PathWay::ALL
            .into_iter()
            .flat_map(|way| PathStage::ALL.map(|stage| (stage, way)));
        let stages = all
            .map(|(stage, way)| StageTimes {
                stage,
                way,
                times: sum(&|of| *of == (stage, way)),
            })
            .collect();
        let pings = samples.len() as u64;
        PathSplit {
            pings,
            incomplete: sent.saturating_sub(pings),
            cost,
            unstamped: SparseLatency::from(unstamped),
            rtt,
            stages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(spans: [u64; SPANS]) -> PathSample {
        let mut at = 1_000;
        let mut stamps = [Instant::from_nanos(at); PATH_STAMPS];
        for (stamp, span) in stamps.iter_mut().skip(1).zip(spans) {
            at += span;
            *stamp = Instant::from_nanos(at);
        }
        PathSample::of(&stamps, [4, 4]).unwrap()
    }

    /// Powers of two: each sum tells what it is the sum of.
    fn powers() -> PathSample {
        sample(std::array::from_fn(|at| 1 << at))
    }

    fn mean(split: &PathSplit, stage: PathStage, way: PathWay) -> u64 {
        let mut stages = split.stages.iter();
        let of = stages
            .find(|of| (of.stage, of.way) == (stage, way))
            .unwrap();
        of.times.expand().summary().mean.unwrap()
    }

    #[test]
    fn every_span_of_a_ping_belongs_to_one_stage() {
        let split = PathSplit::of(&[powers()], &Latency::new(), 0.0, 3);
        assert_eq!((split.pings, split.incomplete), (1, 2));
        use PathStage::{Bridge, CopyIn, CopyOut, Ours, Qdisc, TapQueue, WakeUp};
        for (stage, request, reply) in [
            (CopyIn, 1 << 1, 1 << 9),
            (Bridge, 1 << 2, 1 << 10),
            (Qdisc, 1 << 3, 1 << 11),
            (TapQueue, 1 << 4, 1 << 12),
            (WakeUp, 1 << 5, 1 << 13),
            (Ours, 1 | 1 << 6, 1 << 8 | 1 << 14),
            (CopyOut, 1 << 7, 1 << 15),
        ] {
            assert_eq!(mean(&split, stage, PathWay::Request), request, "{stage:?}");
            assert_eq!(mean(&split, stage, PathWay::Reply), reply, "{stage:?}");
        }
        let rtt = split.rtt.expand().summary();
        assert_eq!(rtt.max, Some(powers().rtt()));
        assert_eq!(powers().rtt(), (1 << SPANS) - 1);
    }

    #[test]
    fn stages_sum_to_the_round_trip_without_what_the_stamps_take() {
        // Seven readings of the clock of 30 ns, eight stamps of the kernel of 80 ns.
        let cost = StampCost {
            by_process: 30.0,
            by_kernel: 80.0,
        };
        for spans in [
            [1_000; SPANS],
            // Shorter than their stamps, and longer than those behind.
            std::array::from_fn(|at| if at % 3 == 0 { 10 } else { 200 }),
            std::array::from_fn(|at| if at < 8 { 1 } else { 500 }),
        ] {
            let sample = sample(spans);
            let sum: f64 = sample.corrected(cost).iter().sum();
            let expected = sample.rtt() - 7 * 30 - 8 * 80;
            assert_eq!(sum.round() as u64, expected, "{spans:?}");
        }
        // Between two stamps of the kernel, the halves of both.
        assert_eq!(sample([1_000; SPANS]).corrected(cost)[2], 920.0);
        assert_eq!(
            sample([1_000; SPANS]).corrected(cost)[1],
            1_000.0 - 15.0 - 40.0
        );
        // Those at other devices are between the first two of each way.
        let across = PathSample {
            made: [4, 14],
            ..sample([1_000; SPANS])
        };
        let spans = across.corrected(cost);
        assert_eq!((spans[2], spans[10]), (920.0, 120.0));
        // Nothing is less than nothing.
        assert_eq!(sample([1; SPANS]).corrected(cost), [0.0; SPANS]);
    }

    #[test]
    fn the_cost_of_a_stamp_is_what_pings_take_longer() {
        for (unstamped, stamped, by_process, by_kernel) in [
            (5_000, 5_850, 30.0, 80.0),
            (5_000, 5_000, 30.0, 0.0),
            (5_000, 4_000, 30.0, 0.0),
            (0, 8, 0.0, 1.0),
        ] {
            let cost = StampCost::between(unstamped, stamped, by_process, 8.0);
            assert_eq!((cost.by_process, cost.by_kernel), (by_process, by_kernel));
        }
        let mut unstamped = Latency::new();
        unstamped.record(16_000);
        let split = PathSplit::of(&[sample([1_100; SPANS])], &unstamped, 0.0, 1);
        assert_eq!(split.cost.by_kernel, 200.0);
        assert_eq!(split.rtt.expand().summary().p50, Some(16_000));
    }

    #[test]
    fn stamps_that_are_not_in_order_are_no_way() {
        for at in 1..PATH_STAMPS {
            let mut stamps: [Instant; PATH_STAMPS] =
                std::array::from_fn(|at| Instant::from_nanos(at as u64 * 10 + 1_000));
            assert!(PathSample::of(&stamps, [4, 4]).is_some());
            stamps[at] = Instant::from_nanos(999);
            assert_eq!(PathSample::of(&stamps, [4, 4]), None, "{at}");
        }
    }
}
