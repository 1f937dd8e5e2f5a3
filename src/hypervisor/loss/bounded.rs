//! Values by ping, in bounded memory.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::evidence::Key;

/// Values of the pings that one was kept of last.
///
/// They lie in the order in which they came, so that a new one, and the oldest, which makes room for it, are where the last ones
/// were; by key there are only their numbers.
#[derive(Debug)]
pub(in crate::hypervisor) struct Bounded<T> {
    /// The values, the oldest first; some have been taken since.
    values: VecDeque<Option<(Key, T)>>,
    /// The number of the first of them.
    first: u64,
    numbers: FxHashMap<Key, u64>,
    limit: usize,
}

impl<T> Bounded<T> {
    /// Keeps nothing yet, and up to `limit` values.
    pub(in crate::hypervisor) fn new(limit: usize) -> Bounded<T> {
        Bounded {
            values: VecDeque::new(),
            first: 0,
            numbers: FxHashMap::default(),
            limit,
        }
    }

    /// Returns the value of `key`.
    pub(in crate::hypervisor) fn get(&self, key: Key) -> Option<&T> {
        let place = self.place(*self.numbers.get(&key)?);
        let (_, value) = self.values.get(place)?.as_ref()?;
        Some(value)
    }

    /// The same, to be changed.
    pub(in crate::hypervisor) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let place = self.place(*self.numbers.get(&key)?);
        let (_, value) = self.values.get_mut(place)?.as_mut()?;
        Some(value)
    }

    /// Keeps the value of `key`, in place of the one that it has. The oldest value leaves if there is no room.
    pub(in crate::hypervisor) fn insert(&mut self, key: Key, value: T) {
        let number = self.first + self.values.len() as u64;
        self.values.push_back(Some((key, value)));
        if let Some(before) = self.numbers.insert(key, number) {
            self.take(before);
        }
        if self.numbers.len() > self.limit
            && let Some((oldest, _)) = self.values.pop_front().flatten()
        {
            self.first += 1;
            self.numbers.remove(&oldest);
        }
        self.drop_taken();
        if self.values.len() > 2 * self.limit {
            self.close_up();
        }
    }

    /// Takes the value of `key`.
    pub(in crate::hypervisor) fn remove(&mut self, key: Key) -> Option<T> {
        let number = self.numbers.remove(&key)?;
        let value = self.take(number);
        self.drop_taken();
        value
    }

    fn place(&self, number: u64) -> usize {
        (number - self.first) as usize
    }

    fn take(&mut self, number: u64) -> Option<T> {
        let place = self.place(number);
        let (_, value) = self.values.get_mut(place)?.take()?;
        Some(value)
    }

    /// Has the oldest value be the first: [`Bounded::insert`] relies on that.
    fn drop_taken(&mut self) {
        while let Some(None) = self.values.front() {
            self.values.pop_front();
            self.first += 1;
        }
    }

    /// Leaves no room between the values. Takes time proportional to their number.
    fn close_up(&mut self) {
        self.values.retain(Option::is_some);
        let keys = self.values.iter().flatten().map(|(key, _)| *key);
        self.numbers = keys.zip(self.first..).collect();
    }
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
            assert!(values.values.len() <= 20);
        }
        assert_eq!(values.remove(key(0)), Some(0));
    }
}
