//! Frames between VMs behind the same port that this program hands over itself (`--interface …,bridge`).

use std::collections::VecDeque;

use super::stations::{Recipients, Stations};
use crate::vm::VmId;

/// Frames on their way, first come first served.
#[derive(Debug)]
pub(super) struct Inside {
    frames: VecDeque<Vec<u8>>,
    /// Buffers of frames that have arrived.
    spare: Vec<Vec<u8>>,
    /// Those that the first frame is for; empty before it was looked at.
    recipients: Recipients,
    /// It was looked at.
    is_sorted: bool,
    /// The most frames that wait.
    most: usize,
    /// Frames that found no room.
    pub(super) lost: u64,
}

impl Inside {
    /// Nothing on its way; `most` frames wait at most.
    pub(super) fn new(most: usize) -> Inside {
        Inside {
            frames: VecDeque::new(),
            spare: Vec::new(),
            recipients: Recipients::default(),
            is_sorted: false,
            most,
            lost: 0,
        }
    }

    #[inline]
    pub(super) fn has_frame(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Takes a frame.
    pub(super) fn push(&mut self, frame: &[u8]) {
        if self.frames.len() >= self.most {
            self.lost += 1;
            return;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.frames.push_back(buffer);
    }

    /// The VM that is to read the first frame next.
    pub(super) fn receiver(&mut self, stations: &Stations) -> Option<VmId> {
        loop {
            let frame = self.frames.front()?;
            if !std::mem::replace(&mut self.is_sorted, true) {
                stations.find(frame, &mut self.recipients);
            }
            match self.recipients.next() {
                Some(vm) if stations.has(vm) => return Some(vm),
                Some(_) => self.recipients.pass(),
                None => {
                    self.is_sorted = false;
                    self.spare.extend(self.frames.pop_front());
                }
            }
        }
    }

    /// Reads the first frame for the VM that [`Inside::receiver`] has told, into the start of `buffer`. Returns its length.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        self.recipients.pass();
        let frame = self.frames.front().map_or(&[][..], Vec::as_slice);
        let length = frame.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), frame.get(..length)) {
            to.copy_from_slice(from);
        }
        length
    }
}
