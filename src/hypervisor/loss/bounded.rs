//! Values by ping, in bounded memory.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::evidence::Key;

/// Values of the pings that one was kept of last.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    /// The values, each with the number of its entry.
    values: FxHashMap<Key, (u64, T)>,
    /// The entries, the oldest first; the values of some have been taken since.
    order: VecDeque<(u64, Key)>,
    next: u64,
    limit: usize,
}

impl<T> Bounded<T> {
    /// Keeps nothing yet, and up to `limit` values.
    pub(super) fn new(limit: usize) -> Bounded<T> {
        Bounded {
            values: FxHashMap::default(),
            order: VecDeque::new(),
            next: 0,
            limit,
        }
    }

    /// Returns the value of `key`.
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        self.values.get(&key).map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.values.get_mut(&key).map(|(_, value)| value)
    }

    /// Keeps the value of `key`, in place of the one that it has. The oldest value leaves if there is no room.
    pub(super) fn insert(&mut self, key: Key, value: T) {
        self.values.insert(key, (self.next, value));
        self.order.push_back((self.next, key));
        self.next += 1;
        if self.values.len() > self.limit {
            self.drop_oldest();
        }
        if self.order.len() > 2 * self.limit {
            let values = &self.values;
            self.order
                .retain(|(number, key)| is_of(values, *number, key));
        }
    }

    /// Takes the value of `key`.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.values.remove(&key).map(|(_, value)| value)
    }

    fn drop_oldest(&mut self) {
        while let Some((number, key)) = self.order.pop_front() {
            if is_of(&self.values, number, &key) {
                self.values.remove(&key);
                return;
            }
        }
    }
}

/// Returns true if the entry with that number is the one of the value of `key`.
fn is_of<T>(values: &FxHashMap<Key, (u64, T)>, number: u64, key: &Key) -> bool {
    values.get(key).is_some_and(|(of, _)| *of == number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::VmId;

    const fn key(number: u32) -> Key {
        Key::new(VmId(number), 0, 0)
    }

    #[test]
    fn the_oldest_value_leaves_and_what_was_taken_is_none() {
        let mut values = Bounded::new(3);
        (0..3).for_each(|number| values.insert(key(number), number));
        assert_eq!(values.remove(key(0)), Some(0));
        values.insert(key(3), 3);
        values.insert(key(0), 10);
        // The entry of the first value of that key is older, and is none any more.
        assert_eq!(values.get_mut(key(1)), None);
        let kept = [2, 3, 0].map(|number| values.remove(key(number)));
        assert_eq!(kept, [Some(2), Some(3), Some(10)]);
    }

    #[test]
    fn values_that_come_and_go_take_bounded_memory() {
        let mut values = Bounded::new(10);
        values.insert(key(0), 0);
        for number in 1..1_000 {
            values.insert(key(number), number);
            assert_eq!(values.remove(key(number)), Some(number));
            assert!(values.order.len() <= 20);
        }
        assert_eq!(values.remove(key(0)), Some(0));
    }
}
