//! The pings on their way from VMs whose own frames are not captured.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::pings::Key;
use crate::time::Instant;

/// Pings that are followed at most; of more, the oldest are forgotten.
const MAX_PINGS: usize = 1 << 20;

/// Pings of which no request is kept, each with its place among the frames that are.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    /// The numbers of the frames that follow the requests.
    by_key: FxHashMap<Key, u64>,
    /// In the order in which they were sent; those that are over may still be there.
    order: VecDeque<(Instant, Key, u64)>,
}

impl Hidden {
    /// Follows a ping that is sent at `at`, in front of the frame with that number.
    pub(super) fn open(&mut self, at: Instant, key: Key, number: u64) {
        self.by_key.insert(key, number);
        self.order.push_back((at, key, number));
        if self.order.len() > MAX_PINGS {
            self.forget_first();
        }
    }

    /// The ping is over: returns the number of the frame that followed its request.
    pub(super) fn close(&mut self, key: Key) -> Option<u64> {
        self.by_key.remove(&key)
    }

    /// The number of the frame that followed the first ping that is not over, and was sent less than `longest` before `now`.
    pub(super) fn first(&mut self, now: Instant, longest: Duration) -> Option<u64> {
        while let Some((at, key, number)) = self.order.front() {
            if now < *at + longest && self.by_key.get(key) == Some(number) {
                return Some(*number);
            }
            self.forget_first();
        }
        None
    }

    fn forget_first(&mut self) {
        if let Some((_, key, number)) = self.order.pop_front()
            && self.by_key.get(&key) == Some(&number)
        {
            self.by_key.remove(&key);
        }
    }
}
