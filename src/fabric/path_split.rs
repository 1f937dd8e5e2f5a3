//! Follows pings on their way, where a run splits it (`--path-split`): each write and each read of their frames is stamped
//! here, and the kernel's own stamps are joined to them once the reply was read.
//!
//! Pings are followed in two phases of their own: first without stamps, so that it is known how long they take without, then
//! with them.

use super::path_stamps::{PATH_SLOTS, PathKey};
use super::{Fabric, PathStamps};
use crate::record::{Latency, PATH_STAMPS, PathSample, PathSplit};
use crate::time::{Instant, Now};
use crate::wire::ProbeHead;

/// The most pings that are stamped in a run: 3 MiB.
pub const MAX_SPLIT_PINGS: u32 = 50_000;
/// Readings of the clock by which it is known how long one takes, and how often so many.
const READINGS: u32 = 100;
const ROUNDS: u32 = 20;

/// Pings that are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SplitPings {
    /// Without stamps, to know how long they take.
    Unstamped,
    /// With stamps.
    Stamped,
}

/// Follows pings.
#[derive(Debug)]
pub(super) struct PathFollower {
    follows: Option<SplitPings>,
    /// Pings on their way, by the slots of their keys.
    flights: Vec<Option<Flight>>,
    samples: Vec<PathSample>,
    unstamped: Latency,
    /// What a reading of the clock takes, in nanoseconds.
    reading: f64,
    /// Pings that were sent to be stamped.
    sent: u64,
}

/// A ping on its way, with the instants that are known so far.
#[derive(Clone, Copy, Debug)]
struct Flight {
    key: PathKey,
    sent: Instant,
    request: Passage,
    reply: Passage,
}

/// When this process has written and read a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Passage {
    write_called: Instant,
    written: Instant,
    read_called: Instant,
    read: Instant,
}

/// A frame that is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writing {
    slot: usize,
    is_request: bool,
}

impl PathFollower {
    pub(super) fn new() -> PathFollower {
        PathFollower {
            follows: None,
            flights: vec![None; PATH_SLOTS],
            samples: Vec::with_capacity(MAX_SPLIT_PINGS as usize),
            unstamped: Latency::new(),
            reading: 0.0,
            sent: 0,
        }
    }

    /// Follows such pings from now on, or none. Those that are on their way are forgotten.
    pub(super) fn follow<F: Fabric>(
        &mut self,
        fabric: &mut F,
        pings: Option<SplitPings>,
    ) -> Result<(), F::Error> {
        let was_stamped = self.follows == Some(SplitPings::Stamped);
        let is_stamped = pings == Some(SplitPings::Stamped);
        if was_stamped != is_stamped {
            fabric.stamp_path(is_stamped)?;
        }
        if is_stamped {
            self.reading = reading_cost(fabric);
        }
        self.flights.fill(None);
        self.follows = pings;
        Ok(())
    }

    pub(super) const fn is_active(&self) -> bool {
        self.follows.is_some()
    }

    /// The stages of all pings so far.
    pub(super) fn split(&self) -> PathSplit {
        let sent = self.sent;
        PathSplit::of(&self.samples, &self.unstamped, self.reading, sent)
    }

    /// Reads the clock if pings are stamped.
    fn stamp<F: Fabric>(&self, fabric: &F) -> Instant {
        match self.follows {
            Some(SplitPings::Stamped) => fabric.time_after(Instant::ZERO),
            _ => Instant::ZERO,
        }
    }

    /// A frame is about to be written.
    pub(super) fn writes<F: Fabric>(
        &mut self,
        fabric: &F,
        now: &mut impl Now,
        frame: &[u8],
    ) -> Option<Writing> {
        let echo = ProbeHead::parse(frame)?;
        let key = PathKey::of(&echo);
        let slot = key.slot();
        let is_request = echo.is_request;
        let is_stamped = self.follows == Some(SplitPings::Stamped);
        if is_request && is_stamped && self.sent >= u64::from(MAX_SPLIT_PINGS) {
            return None;
        }
        let write_called = self.stamp(fabric);
        let flight = self.flights.get_mut(slot)?;
        let passage = Passage {
            write_called,
            ..Passage::default()
        };
        if is_request {
            self.sent += u64::from(is_stamped);
            *flight = Some(Flight {
                key,
                sent: now.now(),
                request: passage,
                reply: Passage::default(),
            });
        } else {
            flight.as_mut().filter(|of| of.key == key)?.reply = passage;
        }
        Some(Writing { slot, is_request })
    }

    /// It was written.
    pub(super) fn wrote<F: Fabric>(&mut self, fabric: &F, writing: Writing) {
        let written = self.stamp(fabric);
        if let Some(Some(flight)) = self.flights.get_mut(writing.slot) {
            match writing.is_request {
                true => flight.request.written = written,
                false => flight.reply.written = written,
            }
        }
    }

    /// A frame is about to be read. Returns the present time.
    pub(super) fn reads<F: Fabric>(&self, fabric: &F) -> Instant {
        self.stamp(fabric)
    }

    /// A frame was read; the reading was begun at `read_called`.
    pub(super) fn read<F: Fabric>(
        &mut self,
        fabric: &mut F,
        now: &mut impl Now,
        read_called: Instant,
        frame: &[u8],
    ) {
        if self.follows == Some(SplitPings::Stamped) {
            // The time that whoever asks gets, too.
            now.now();
        }
        let Some(echo) = ProbeHead::parse(frame) else {
            return;
        };
        let key = PathKey::of(&echo);
        let Some(place) = self.flights.get_mut(key.slot()) else {
            return;
        };
        let Some(flight) = place.as_mut().filter(|flight| flight.key == key) else {
            return;
        };
        if echo.is_request {
            flight.request.read_called = read_called;
            if self.follows == Some(SplitPings::Stamped) {
                flight.request.read = now.now();
            }
            return;
        }
        (flight.reply.read_called, flight.reply.read) = (read_called, now.now());
        if let Some(flight) = place.take() {
            self.finish(fabric, key, &flight);
        }
    }

    fn finish<F: Fabric>(&mut self, fabric: &mut F, key: PathKey, flight: &Flight) {
        match self.follows {
            Some(SplitPings::Stamped) => {
                self.samples.extend(flight.join(fabric.path_stamps(key)));
            }
            Some(SplitPings::Unstamped) => {
                let rtt = flight.reply.read.nanos_since(flight.sent);
                self.unstamped.record(rtt);
            }
            None => {}
        }
    }
}

impl Flight {
    /// Joins the kernel's stamps of request and reply; `None` if something is missing.
    fn join(&self, kernel: [Option<PathStamps>; 2]) -> Option<PathSample> {
        let [request, reply] = [kernel[0]?, kernel[1]?];
        let [a1, a2, a3, a4, a5, a6, a7, a8] = self.request.join(request);
        let [b1, b2, b3, b4, b5, b6, b7, b8] = self.reply.join(reply);
        let stamps: [Instant; PATH_STAMPS] = [
            self.sent, a1, a2, a3, a4, a5, a6, a7, a8, b1, b2, b3, b4, b5, b6, b7, b8,
        ];
        PathSample::of(&stamps, [request.made, reply.made])
    }
}

impl Passage {
    /// All instants of a frame, in their order.
    fn join(&self, kernel: PathStamps) -> [Instant; 8] {
        // A frame that was not in the queue when `write` returned woke this process later.
        let runs = match self.written < kernel.queued {
            true => self.read_called,
            false => self.written,
        };
        [
            self.write_called,
            kernel.entered,
            kernel.bridged,
            kernel.dequeued,
            kernel.queued,
            runs,
            self.read_called,
            self.read,
        ]
    }
}

/// What a reading of the clock takes, in nanoseconds: in the fastest of some rounds, as nothing makes it faster.
fn reading_cost<F: Fabric>(fabric: &F) -> f64 {
    let round = |_| {
        let from = fabric.time_after(Instant::ZERO);
        let last = (0..READINGS).fold(from, |_, _| fabric.time_after(Instant::ZERO));
        last.nanos_since(from)
    };
    let fastest = (0..ROUNDS).map(round).min().unwrap_or_default();
    fastest as f64 / f64::from(READINGS)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;
    use crate::fabric::{Environment, Instrumented, Read, Write};
    use crate::vm::{RxFilter, VmId};

    /// A kernel whose every step takes a known time, and a clock that takes none.
    #[derive(Debug, Default)]
    struct Kernel {
        now: Cell<u64>,
        queue: Vec<Vec<u8>>,
        stamps: [Option<PathStamps>; 2],
        /// The frame is queued so long after `write` has returned.
        queued_after: u64,
        is_stamping: bool,
    }

    impl Kernel {
        fn takes(&self, nanos: u64) -> Instant {
            self.now.set(self.now.get() + nanos);
            Instant::from_nanos(self.now.get())
        }
    }

    impl Fabric for Kernel {
        type Error = Infallible;

        fn plug(&mut self, _: VmId, _: &RxFilter) -> Result<(), Infallible> {
            Ok(())
        }

        fn set_rx_filter(&mut self, _: VmId, _: &RxFilter) -> Result<(), Infallible> {
            Ok(())
        }

        fn unplug(&mut self, _: &[VmId]) -> Result<(), Infallible> {
            Ok(())
        }

        fn read(&mut self, _: impl Now, _: VmId, buffer: &mut [u8]) -> Read {
            let Some(frame) = self.queue.pop() else {
                return Read::Empty;
            };
            buffer[..frame.len()].copy_from_slice(&frame);
            self.takes(600);
            Read::Frame(frame.len())
        }

        fn write(&mut self, _: impl Now, _: VmId, frame: &[u8]) -> Write {
            let stamps = PathStamps {
                entered: self.takes(700),
                bridged: self.takes(400),
                dequeued: self.takes(90),
                queued: Instant::from_nanos(self.takes(200).as_nanos() + self.queued_after),
                made: 4,
            };
            self.takes(300);
            let is_reply = !ProbeHead::is_request(frame);
            self.stamps[usize::from(is_reply)] = self.is_stamping.then_some(stamps);
            self.queue.push(frame.to_vec());
            Write::Sent
        }

        fn stamp_path(&mut self, stamps: bool) -> Result<(), Infallible> {
            self.is_stamping = stamps;
            Ok(())
        }

        fn path_stamps(&mut self, _: PathKey) -> [Option<PathStamps>; 2] {
            self.stamps
        }

        fn time_after(&self, _: Instant) -> Instant {
            self.takes(0)
        }

        fn environment(&self) -> Environment {
            Environment::simulated("scripted")
        }
    }

    /// An echo message from one of two addresses to the other.
    fn echo(is_request: bool, sequence: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0]);
        let (from, to) = if is_request { (2, 3) } else { (3, 2) };
        frame.extend([10, 77, 0, from, 10, 77, 0, to]);
        frame.extend([if is_request { 8 } else { 0 }, 0, 0, 0, 0, 9, 0, sequence]);
        frame
    }

    /// Has a ping pass, whose request comes so long after `write` has said so, and is looked for in vain so often.
    fn ping(fabric: &mut Instrumented<Kernel>, sequence: u8, queued_after: u64, tries: u32) {
        let mut buffer = [0; 64];
        let sent = fabric.inner().takes(0);
        fabric.inner().takes(50);
        fabric.inner().queued_after = queued_after;
        fabric.write(sent, VmId(0), &echo(true, sequence));
        fabric.inner().queued_after = 0;
        let queue = std::mem::take(&mut fabric.inner().queue);
        for _ in 0..tries {
            let now = fabric.inner().takes(1_000);
            assert_eq!(fabric.read(now, VmId(1), &mut buffer), Read::Empty);
        }
        fabric.inner().queue = queue;
        fabric.inner().takes(60);
        let read = Instant::from_nanos(fabric.inner().now.get() + 600);
        assert!(matches!(
            fabric.read(read, VmId(1), &mut buffer),
            Read::Frame(_)
        ));
        let answered = fabric.inner().takes(500);
        fabric.write(answered, VmId(1), &echo(false, sequence));
        fabric.inner().takes(70);
        let read = Instant::from_nanos(fabric.inner().now.get() + 600);
        assert!(matches!(
            fabric.read(read, VmId(0), &mut buffer),
            Read::Frame(_)
        ));
        fabric.inner().takes(5_000);
    }

    fn means(split: &PathSplit) -> Vec<u64> {
        let stages = split.stages.iter();
        let means = stages.map(|of| of.times.expand().summary().mean.unwrap());
        means.collect()
    }

    #[test]
    fn each_stage_is_what_its_part_of_the_kernel_takes() {
        for (tries, queued_after, wake_up, ours) in [
            (0, 0, 300, 110),
            // Of a frame that was there when `write` returned, what this process does before it reads it is its own.
            (2, 0, 300, 2_110),
            // Of one that came later, the time until it is read is the wake-up, but for 100 ns that are the queue's.
            (2, 400, 1_960, 50),
        ] {
            let mut fabric = Instrumented::new(Kernel::default());
            fabric.split_path(Some(SplitPings::Stamped)).unwrap();
            (0..10).for_each(|sequence| ping(&mut fabric, sequence, queued_after, tries));
            let split = fabric.path_split().unwrap();
            assert_eq!((split.pings, split.incomplete), (10, 0));
            let request = [700, 400, 90, 200 + queued_after, wake_up, 600, ours];
            let reply = [700, 400, 90, 200, 300, 600, 570];
            assert_eq!(
                means(&split),
                [request, reply].concat(),
                "{tries} {queued_after}"
            );
            let rtt = split.rtt.expand().summary().mean;
            assert_eq!(rtt, Some(means(&split).iter().sum()));
        }
    }
    #[test]
    fn pings_count_that_are_followed_all_the_way() {
        let mut fabric = Instrumented::new(Kernel::default());
        assert_eq!(fabric.path_split(), None);
        ping(&mut fabric, 0, 0, 0);
        fabric.split_path(Some(SplitPings::Unstamped)).unwrap();
        assert!(fabric.is_watched());
        (0..3).for_each(|sequence| ping(&mut fabric, sequence, 0, 0));
        fabric.split_path(Some(SplitPings::Stamped)).unwrap();
        // A reply to nothing, a request that nobody answers, and frames of other things.
        let now = fabric.inner().takes(0);
        for frame in [echo(false, 7), echo(true, 8), Vec::new(), vec![0; 60]] {
            fabric.write(now, VmId(0), &frame);
            fabric.read(now, VmId(1), &mut [0; 64]);
        }
        ping(&mut fabric, 9, 0, 0);
        // One whose reply the kernel has not seen.
        fabric.inner().is_stamping = false;
        ping(&mut fabric, 10, 0, 0);
        fabric.split_path(None).unwrap();
        assert!(!fabric.is_watched());
        ping(&mut fabric, 11, 0, 0);
        let split = fabric.path_split().unwrap();
        assert_eq!((split.pings, split.incomplete), (1, 2));
        let unstamped = split.unstamped.expand().summary();
        assert_eq!((unstamped.count, unstamped.mean), (3, Some(5_260)));
        assert_eq!(split.rtt.expand().summary().mean, Some(5_260));
    }

    #[test]
    fn request_and_reply_of_a_ping_have_one_key_and_others_another() {
        let key = |frame: &[u8]| PathKey::of(&ProbeHead::parse(frame).unwrap());
        let request = echo(true, 1);
        assert_eq!(key(&request), key(&echo(false, 1)));
        assert_ne!(key(&request), key(&echo(true, 2)));
        let mut of_other = request.clone();
        of_other[29] = 4;
        assert_ne!(key(&request), key(&of_other));
        assert!((0..=255).all(|sequence| key(&echo(true, sequence)).slot() < PATH_SLOTS));
    }
}
