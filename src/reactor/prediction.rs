//! Whether it pays to read a TAP right after a frame was sent to it.

/// Misses in a row after which a predicted read is tried only now and then.
const PATIENCE: u32 = 16;
/// How often it is tried then: one frame in so many.
const RETRY: u32 = 64;

/// Keeps score of predicted reads.
///
/// Between TAPs of one bridge in one namespace every prediction comes true. Where a frame takes its time (a shaper, a
/// second bridge behind a real wire), each one is a system call for nothing, so the reactor stops predicting.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Prediction {
    misses: u32,
}

impl Prediction {
    /// Whether to read now. Counts as asking.
    pub(super) fn is_worth_a_read(&mut self) -> bool {
        if self.misses < PATIENCE {
            return true;
        }
        self.misses += 1;
        (self.misses - PATIENCE).is_multiple_of(RETRY)
    }

    /// Whether predictions come true so seldom that only some are tried.
    pub(super) fn is_given_up(self) -> bool {
        self.misses >= PATIENCE
    }

    /// The frame was there.
    pub(super) fn hit(&mut self) {
        self.misses = 0;
    }

    /// It was not.
    pub(super) fn missed(&mut self) {
        self.misses = if self.misses < PATIENCE {
            self.misses + 1
        } else {
            PATIENCE
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_tried_until_they_keep_missing_then_now_and_then_until_one_hits() {
        let mut prediction = Prediction::default();
        for _ in 0..PATIENCE {
            assert!(prediction.is_worth_a_read());
            prediction.missed();
        }
        assert!(prediction.is_given_up());
        for _ in 0..3 {
            for _ in 1..RETRY {
                assert!(!prediction.is_worth_a_read());
            }
            assert!(prediction.is_worth_a_read());
            prediction.missed();
        }
        prediction.hit();
        assert!(prediction.is_worth_a_read() && !prediction.is_given_up());
    }
}
