//! Predicts whether a frame can be read from the destination's TAP directly after it was written.

/// Consecutive misses after which only one in [`RETRY`] reads is tried.
const PATIENCE: u32 = 16;
/// One of this many reads is tried after [`PATIENCE`] misses.
const RETRY: u32 = 64;

/// Counts the misses of direct reads.
///
/// Between TAPs on one bridge in one namespace every direct read succeeds. Where frames are delayed (by a shaper, or a
/// second bridge behind a physical link), each is a wasted system call, so the reactor stops trying.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Prediction {
    misses: u32,
}

impl Prediction {
    /// Returns true if the next direct read is to be tried. To be called once for each frame.
    pub(super) fn is_worth_a_read(&mut self) -> bool {
        if self.misses < PATIENCE {
            return true;
        }
        self.misses += 1;
        (self.misses - PATIENCE).is_multiple_of(RETRY)
    }

    /// Returns true if direct reads miss so often that only some are tried.
    pub(super) fn is_given_up(self) -> bool {
        self.misses >= PATIENCE
    }

    /// Records that a direct read returned a frame.
    pub(super) fn hit(&mut self) {
        self.misses = 0;
    }

    /// Records that a direct read returned nothing.
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
