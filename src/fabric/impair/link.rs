//! One impaired link: one direction of one VM, with its own random choices, queue and order.

use std::collections::VecDeque;

use super::profile::{Loss, Profile};
use crate::time::Instant;

/// The state of an impaired link.
#[derive(Debug)]
pub(super) struct Link {
    profile: Profile,
    random: fastrand::Rng,
    /// Frames so far.
    frames: u64,
    /// The Gilbert–Elliott model is in its bad state.
    is_bad: bool,
    /// When each of the frames before the rate will have been sent.
    queue: VecDeque<Instant>,
    /// The release of the last frame that kept the order.
    last: Instant,
}

/// What is to be done to a frame as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    /// It is lost.
    Lost,
    /// It is sent.
    Sent {
        /// It is sent a second time.
        twice: bool,
        /// This bit of it is inverted, counted from the first of the payload. It may be behind its end.
        bit: Option<u64>,
    },
}

/// When one copy of a frame is released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Release {
    /// At this time: not before now.
    At {
        at: Instant,
        /// It overtakes others.
        is_reordered: bool,
    },
    /// Never: the queue is full.
    QueueFull,
}

impl Link {
    pub(super) fn new(profile: Profile, seed: u64) -> Link {
        Link {
            profile,
            random: fastrand::Rng::with_seed(seed),
            frames: 0,
            is_bad: false,
            queue: VecDeque::new(),
            last: Instant::ZERO,
        }
    }

    /// Chooses what is done to the next frame.
    pub(super) fn choose(&mut self) -> Choice {
        self.frames += 1;
        if self.loses() {
            return Choice::Lost;
        }
        let corrupts = self.happens(self.profile.corrupt);
        Choice::Sent {
            twice: self.happens(self.profile.duplicate),
            bit: corrupts.then(|| self.random.u64(..)),
        }
    }

    /// Schedules one copy of a frame of `length` bytes.
    pub(super) fn schedule(&mut self, now: Instant, length: usize) -> Release {
        let Some(mut at) = self.send_at_rate(now, length) else {
            return Release::QueueFull;
        };
        let mut is_reordered = false;
        if let Some(delay) = self.profile.delay {
            is_reordered = self.happens(self.profile.reorder);
            if !is_reordered {
                at = (at + delay.draw(&mut self.random)).max(self.last);
                self.last = at;
            }
        }
        Release::At { at, is_reordered }
    }

    /// Returns when a frame has been sent at the rate; `None` if the queue is full.
    fn send_at_rate(&mut self, now: Instant, length: usize) -> Option<Instant> {
        let Some(rate) = self.profile.rate else {
            return Some(now);
        };
        while self.queue.front().is_some_and(|sent| *sent <= now) {
            self.queue.pop_front();
        }
        if self.queue.len() >= rate.queue as usize {
            return None;
        }
        let begin = self.queue.back().map_or(now, |last| now.max(*last));
        let nanos = u128::from(length as u64) * 8 * 1_000_000_000;
        let nanos = nanos.div_ceil(u128::from(rate.bits_per_second.max(1)));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let sent = Instant::from_nanos(begin.as_nanos().saturating_add(nanos));
        self.queue.push_back(sent);
        Some(sent)
    }

    fn loses(&mut self) -> bool {
        match self.profile.loss {
            Loss::None => false,
            Loss::Random(share) => self.happens(share),
            Loss::Every(count) => self.frames.is_multiple_of(u64::from(count.max(1))),
            Loss::GilbertElliott {
                to_bad,
                to_good,
                bad_loss,
                good_loss,
            } => {
                let change = if self.is_bad { to_good } else { to_bad };
                self.is_bad ^= self.happens(change);
                self.happens(if self.is_bad { bad_loss } else { good_loss })
            }
        }
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fabric::impair::{Delay, Rate};

    const MS: Duration = Duration::from_millis(1);

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(1000 * micros)
    }

    fn sent(micros: u64) -> Release {
        Release::At {
            at: at(micros),
            is_reordered: false,
        }
    }

    #[test]
    fn a_rate_takes_its_time_for_each_frame_and_its_queue_drops_what_arithmetic_says() {
        let rate = Rate {
            bits_per_second: 8_000_000,
            queue: 3,
        };
        let profile = Profile {
            rate: Some(rate),
            ..Profile::default()
        };
        let mut link = Link::new(profile, 1);
        // A frame of 1,000 bytes takes a millisecond; seven of them come in the first.
        for expected in [Some(1000), Some(2000), Some(3000), None, None] {
            let release = link.schedule(at(0), 1000);
            assert_eq!(release, expected.map_or(Release::QueueFull, sent));
        }
        assert_eq!(link.schedule(at(999), 1000), Release::QueueFull);
        assert_eq!(link.schedule(at(1000), 1000), sent(4000));
        assert_eq!(link.schedule(at(9000), 500), sent(9500));
    }

    #[test]
    fn jitter_keeps_the_order_and_what_is_reordered_is_not_held() {
        let profile = Profile {
            delay: Some(Delay {
                jitter: 5 * MS,
                ..Delay::constant(5 * MS)
            }),
            reorder: 0.25,
            ..Profile::default()
        };
        let mut link = Link::new(profile, 1);
        let (mut last, mut reordered) = (Instant::ZERO, 0);
        for micros in 0..10_000 {
            match link.schedule(at(micros), 100) {
                Release::At {
                    at: release,
                    is_reordered: true,
                } => {
                    assert_eq!(release, at(micros));
                    reordered += 1;
                }
                Release::At { at: release, .. } => {
                    assert!(release >= last && release <= at(micros) + 10 * MS);
                    last = release;
                }
                Release::QueueFull => panic!("there is no queue"),
            }
        }
        assert!((2300..2700).contains(&reordered), "{reordered}");
    }

    #[test]
    fn every_model_of_loss_loses_its_share_and_bursts_are_as_long_as_the_model_says() {
        const FRAMES: u64 = 200_000;
        let bursty = |bad_loss, good_loss| Loss::GilbertElliott {
            to_bad: 0.01,
            to_good: 0.1,
            bad_loss,
            good_loss,
        };
        // Share of frames lost, and mean length of a burst of losses.
        for (loss, share, burst) in [
            (Loss::None, 0.0, 0.0),
            (Loss::Random(0.05), 0.05, 1.0 / 0.95),
            (Loss::Every(100), 0.01, 1.0),
            (Loss::Every(1), 1.0, FRAMES as f64),
            (bursty(1.0, 0.0), 0.01 / 0.11, 10.0),
            (bursty(0.5, 0.01), (0.01 * 0.5 + 0.1 * 0.01) / 0.11, 1.8),
        ] {
            let profile = Profile {
                loss,
                ..Profile::default()
            };
            let mut link = Link::new(profile, 3);
            let (mut lost, mut bursts, mut was_lost) = (0u64, 0u64, false);
            for _ in 0..FRAMES {
                let is_lost = link.choose() == Choice::Lost;
                lost += u64::from(is_lost);
                bursts += u64::from(is_lost && !was_lost);
                was_lost = is_lost;
            }
            let found = lost as f64 / FRAMES as f64;
            assert!((found - share).abs() <= 0.1 * share, "{loss:?}: {found}");
            let length = lost as f64 / bursts.max(1) as f64;
            assert!((length - burst).abs() <= 0.1 * burst, "{loss:?}: {length}");
        }
    }
}
