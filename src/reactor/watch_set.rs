//! The set of TAPs that epoll watches.
//!
//! The reactor reads most frames directly after writing them, from the TAP of the destination. The kernel nevertheless
//! reports each to epoll, which takes a tenth of a round trip (`ep_poll_callback` in `fs/eventpoll.c`). Under load these
//! reports are unnecessary: a TAP that is read directly again and again is removed from epoll. Frames from other sources
//! are found by the next read of the TAP, or because every turn reads a few of the removed TAPs. As soon as the reactor
//! is idle, and so always before it sleeps, it adds all of them again; epoll then reports at once those that hold frames
//! (`ep_insert`).

use crate::vm::VmId;

/// Number of frames read directly, without an idle poll between them, before the first TAP is removed. A run that sleeps
/// between its pings never reaches it.
const BUSY: u32 = 2048;
/// Number of frames read directly from the same TAP after that before it is removed.
const FREQUENT: u8 = 4;
/// Maximum number of removed TAPs, so that adding them again takes no longer than a hundred round trips.
const MOST: usize = 1024;
/// Removed TAPs that are checked in each turn. Most checks find nothing: pings to the TAP have it read more often.
const CHECKS: usize = 4;

/// The state of one TAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tap {
    /// It is watched. Counts the frames read directly from it since the reactor became busy.
    On(u8),
    /// It is not watched.
    Off {
        /// A frame was read directly from it since the last check.
        is_in_use: bool,
    },
}

/// The action for a TAP that is not watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// Read it: it may hold unexpected frames.
    Read(VmId),
    /// Watch it again: it is no longer in use.
    PutBack(VmId),
}

/// Counts the frames read directly, and decides which TAPs are watched.
#[derive(Debug, Default)]
pub(super) struct WatchSet {
    /// By VM; as long as needed for the TAPs counted since the reactor was last idle.
    taps: Vec<Tap>,
    /// The TAPs that are not watched, each once.
    off: Vec<VmId>,
    /// Frames since the reactor was last idle, up to [`BUSY`].
    frames: u32,
    /// Index into `off` of the next TAP to check.
    next: usize,
}

impl WatchSet {
    /// Counts a frame read directly from the TAP of `vm`. Returns true if the TAP is to be removed from epoll now.
    #[inline]
    pub(super) fn count_read(&mut self, vm: VmId) -> bool {
        if self.frames < BUSY {
            self.frames += 1;
            return false;
        }
        if self.taps.len() <= vm.index() {
            self.taps.resize(vm.index() + 1, Tap::On(0));
        }
        match self.taps.get_mut(vm.index()) {
            Some(Tap::Off { is_in_use }) => *is_in_use = true,
            Some(Tap::On(hits)) if *hits < FREQUENT => *hits += 1,
            Some(tap) if self.off.len() < MOST => {
                *tap = Tap::Off { is_in_use: true };
                self.off.push(vm);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Returns how often to call [`WatchSet::next_check`] in this turn.
    pub(super) fn checks(&self) -> usize {
        self.off.len().min(CHECKS)
    }

    /// Returns the action for the next TAP in turn that is not watched. `None` if all are watched.
    pub(super) fn next_check(&mut self) -> Option<Check> {
        if self.next >= self.off.len() {
            self.next = 0;
        }
        let vm = *self.off.get(self.next)?;
        if let Some(Tap::Off { is_in_use }) = self.taps.get_mut(vm.index())
            && std::mem::take(is_in_use)
        {
            self.next += 1;
            return Some(Check::Read(vm));
        }
        self.off.swap_remove(self.next);
        if let Some(tap) = self.taps.get_mut(vm.index()) {
            *tap = Tap::On(0);
        }
        Some(Check::PutBack(vm))
    }

    /// Resets the counts because the reactor is idle. Returns the TAPs to add to epoll again.
    pub(super) fn restore(&mut self) -> std::vec::Drain<'_, VmId> {
        self.frames = 0;
        self.taps.clear();
        self.off.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: VmId = VmId(7);

    /// The state of a reactor that has been busy with other TAPs.
    fn busy() -> WatchSet {
        let mut watch_set = WatchSet::default();
        for _ in 0..BUSY {
            assert!(!watch_set.count_read(VM));
        }
        watch_set
    }

    fn take_off(watch_set: &mut WatchSet, vm: VmId) {
        for _ in 0..FREQUENT {
            assert!(!watch_set.count_read(vm));
        }
        assert!(watch_set.count_read(vm), "{vm}");
        assert!(!watch_set.count_read(vm), "it is off already: {vm}");
    }

    #[test]
    fn a_tap_goes_off_after_a_while_and_comes_back_with_a_pause() {
        let mut watch_set = busy();
        take_off(&mut watch_set, VM);
        assert_eq!(watch_set.restore().collect::<Vec<_>>(), [VM]);
        assert!(!watch_set.count_read(VM), "it starts from the beginning");
        assert_eq!(watch_set.checks(), 0);
    }

    #[test]
    fn a_tap_in_use_is_read_and_one_that_is_not_is_put_back() {
        let mut watch_set = busy();
        take_off(&mut watch_set, VM);
        take_off(&mut watch_set, VmId(2));
        for _ in 0..3 {
            watch_set.count_read(VM);
            assert_eq!(watch_set.next_check(), Some(Check::Read(VM)));
            watch_set.count_read(VmId(2));
            assert_eq!(watch_set.next_check(), Some(Check::Read(VmId(2))));
        }
        watch_set.count_read(VM);
        assert_eq!(watch_set.next_check(), Some(Check::Read(VM)));
        assert_eq!(watch_set.next_check(), Some(Check::PutBack(VmId(2))));
        assert_eq!(watch_set.next_check(), Some(Check::PutBack(VM)));
        assert_eq!(watch_set.next_check(), None);
        take_off(&mut watch_set, VM);
    }

    #[test]
    fn only_so_many_are_off_at_once() {
        let mut watch_set = busy();
        for vm in 0..MOST as u32 {
            take_off(&mut watch_set, VmId(vm));
        }
        for _ in 0..=FREQUENT {
            assert!(!watch_set.count_read(VmId(MOST as u32)));
        }
        assert_eq!(watch_set.checks(), CHECKS);
    }
}
