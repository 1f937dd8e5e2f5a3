//! Which TAPs the poll is to tell of.
//!
//! A frame that the reactor reads where it went is announced to the poll all the same, which takes the kernel a tenth of
//! a round trip (`ep_poll_callback` in `fs/eventpoll.c`). Under load there is no need of it: a TAP that is read without
//! being announced again and again is taken off the poll. What comes there from elsewhere is found by the next read, or
//! by a look at a few such TAPs in every turn. As soon as the reactor has nothing to do, and so before it ever sleeps, it
//! puts all of them back, and the poll tells at once of those that hold something (`ep_insert`).

use crate::vm::VmId;

/// Frames that have to be read where they went, without a pause, before a TAP is taken off: a run that sleeps between
/// its pings never comes that far.
const BUSY: u32 = 2048;
/// How many of the frames after that have to be of the same TAP.
const FREQUENT: u8 = 4;
/// TAPs that may be off at once, so that putting them back takes no longer than a hundred round trips.
const MOST: usize = 1024;
/// TAPs that are looked at in a turn, mostly in vain: their own pings have them read more often.
const LOOKS: usize = 4;

/// What is known of one TAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tap {
    /// The poll tells of it. So many frames were read where they went since the reactor is busy.
    On(u8),
    /// The poll does not tell of it.
    Off {
        /// Whether a frame was read where it went since it was looked at last.
        is_in_use: bool,
    },
}

/// What is to be done about a TAP that is off the poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// Something may have come that nobody expected: read it.
    Read(VmId),
    /// It is not in use any more: put it back.
    PutBack(VmId),
}

/// Keeps count of the frames that were read where they went.
#[derive(Debug, Default)]
pub(super) struct Attention {
    /// By VM; as far as any was counted since the last pause.
    taps: Vec<Tap>,
    /// Those that are off, each once.
    off: Vec<VmId>,
    /// Frames since the last pause, up to [`BUSY`].
    frames: u32,
    /// The place in `off` that is looked at next.
    next: usize,
}

impl Attention {
    /// A frame for `vm` was read where it had been sent. Whether to take its TAP off the poll now.
    #[inline]
    pub(super) fn hit(&mut self, vm: VmId) -> bool {
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

    /// How many TAPs to [look](Attention::look) at in this turn.
    pub(super) fn looks(&self) -> usize {
        self.off.len().min(LOOKS)
    }

    /// What to do about the TAP whose turn it is. `None` if all are on the poll.
    pub(super) fn look(&mut self) -> Option<Look> {
        if self.next >= self.off.len() {
            self.next = 0;
        }
        let vm = *self.off.get(self.next)?;
        if let Some(Tap::Off { is_in_use }) = self.taps.get_mut(vm.index())
            && std::mem::take(is_in_use)
        {
            self.next += 1;
            return Some(Look::Read(vm));
        }
        self.off.swap_remove(self.next);
        if let Some(tap) = self.taps.get_mut(vm.index()) {
            *tap = Tap::On(0);
        }
        Some(Look::PutBack(vm))
    }

    /// There is nothing to do: all TAPs are to be put back on the poll, those that are returned.
    pub(super) fn pause(&mut self) -> std::vec::Drain<'_, VmId> {
        self.frames = 0;
        self.taps.clear();
        self.off.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: VmId = VmId(7);

    /// Attention of a reactor that has been busy with others for a while.
    fn busy() -> Attention {
        let mut attention = Attention::default();
        for _ in 0..BUSY {
            assert!(!attention.hit(VM));
        }
        attention
    }

    fn take_off(attention: &mut Attention, vm: VmId) {
        for _ in 0..FREQUENT {
            assert!(!attention.hit(vm));
        }
        assert!(attention.hit(vm), "{vm}");
        assert!(!attention.hit(vm), "it is off already: {vm}");
    }

    #[test]
    fn a_tap_goes_off_after_a_while_and_comes_back_with_a_pause() {
        let mut attention = busy();
        take_off(&mut attention, VM);
        assert_eq!(attention.pause().collect::<Vec<_>>(), [VM]);
        assert!(!attention.hit(VM), "it starts from the beginning");
        assert_eq!(attention.looks(), 0);
    }

    #[test]
    fn a_tap_in_use_is_read_and_one_that_is_not_is_put_back() {
        let mut attention = busy();
        take_off(&mut attention, VM);
        take_off(&mut attention, VmId(2));
        for _ in 0..3 {
            attention.hit(VM);
            assert_eq!(attention.look(), Some(Look::Read(VM)));
            attention.hit(VmId(2));
            assert_eq!(attention.look(), Some(Look::Read(VmId(2))));
        }
        attention.hit(VM);
        assert_eq!(attention.look(), Some(Look::Read(VM)));
        assert_eq!(attention.look(), Some(Look::PutBack(VmId(2))));
        assert_eq!(attention.look(), Some(Look::PutBack(VM)));
        assert_eq!(attention.look(), None);
        take_off(&mut attention, VM);
    }

    #[test]
    fn only_so_many_are_off_at_once() {
        let mut attention = busy();
        for vm in 0..MOST as u32 {
            take_off(&mut attention, VmId(vm));
        }
        for _ in 0..=FREQUENT {
            assert!(!attention.hit(VmId(MOST as u32)));
        }
        assert_eq!(attention.looks(), LOOKS);
    }
}
