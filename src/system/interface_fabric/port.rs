//! One interface, and the VMs behind it.

use super::inside::Inside;
use super::ring::{Rest, Slot};
use super::socket::{Receiver, Sender};
use super::stations::{Recipients, Stations, addresses};
use crate::fabric::{Read, Write};
use crate::system::error::SystemError;
use crate::system::netlink::Link;
use crate::vm::VmId;
use crate::wire::{
    MacAddr, OFFLOAD_HEADER_LENGTH, Offload, VLAN_TAG_LENGTH, complete_checksum, restore_tag,
};

/// A frame that is larger is none that an interface has received as one.
const LARGEST: usize = 128 * 1024;

/// A port: frames to its VMs come from outside, and with `bridge` from one to another.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) name: String,
    /// The interface's own address.
    pub(super) mac: MacAddr,
    pub(super) receiver: Receiver,
    sender: Sender,
    pub(super) stations: Stations,
    /// Frames from VM to VM; `None` where these go outside, too.
    inside: Option<Inside>,
    /// The next look goes there first.
    is_inside_next: bool,
    front: Front,
    /// Frames from outside that could not be taken.
    lost: u64,
}

/// The frame of the ring whose turn it is.
#[derive(Debug, Default)]
struct Front {
    /// It was looked at.
    is_sorted: bool,
    recipients: Recipients,
    /// The segments that it is to be cut into; 0 if it is not.
    segments: usize,
    /// The segment that the next recipient reads next.
    segment: usize,
    /// The frame with the header before it, if it is larger than its slot: `large_bytes` of this.
    large: Vec<u8>,
    large_bytes: usize,
}

impl Front {
    /// The frame in whole.
    fn frame<'a>(&'a self, slot: &Slot<'a>) -> &'a [u8] {
        let large = self.large.get(OFFLOAD_HEADER_LENGTH..self.large_bytes);
        large.filter(|_| self.large_bytes > 0).unwrap_or(slot.frame)
    }
}

impl Port {
    /// Begins to receive at an interface. With `bridges` frames between its VMs do not leave. `most` frames wait
    /// each way at most; with `filters` VMs get nothing that their network cards would drop.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn open(
        link: &Link,
        (most, mtu): (usize, usize),
        (bridges, filters): (bool, bool),
    ) -> Result<Port, SystemError> {
        Ok(Port {
            name: link.name.clone(),
            mac: link.mac,
            receiver: Receiver::open(link.index, most, mtu)?,
            sender: Sender::open(link.index)?,
            stations: Stations::new(filters),
            inside: bridges.then(|| Inside::new(most)),
            is_inside_next: false,
            front: Front::default(),
            lost: 0,
        })
    }

    /// Returns true if there are frames to look at.
    #[inline]
    pub(super) fn has_frames(&self) -> bool {
        self.receiver.ring.has_frame() || self.inside.as_ref().is_some_and(Inside::has_frame)
    }

    /// The VM that is to read next: of a frame from outside and of one from inside in turn.
    pub(super) fn next_receiver(&mut self) -> Option<VmId> {
        self.is_inside_next = !self.is_inside_next;
        match self.is_inside_next {
            true => self.receiver_inside().or_else(|| self.receiver_outside()),
            false => self.receiver_outside().or_else(|| self.receiver_inside()),
        }
    }

    fn receiver_inside(&mut self) -> Option<VmId> {
        self.inside.as_mut()?.receiver(&self.stations)
    }

    /// The VM that is to read the frame of the ring whose turn it is. What is for none is let go.
    #[inline]
    fn receiver_outside(&mut self) -> Option<VmId> {
        loop {
            if !self.front.is_sorted && !self.sort() {
                return None;
            }
            match self.front.recipients.next() {
                Some(vm) if self.stations.has(vm) => return Some(vm),
                Some(_) => self.pass(),
                None => {
                    self.receiver.ring.release();
                    self.front.is_sorted = false;
                }
            }
        }
    }

    /// Looks whom the next frame of the ring is for, and what is to be done with it. Returns false if there is none.
    #[inline]
    fn sort(&mut self) -> bool {
        let Some(slot) = self.receiver.ring.front() else {
            return false;
        };
        let front = &mut self.front;
        front.is_sorted = true;
        (front.segments, front.segment, front.large_bytes) = (0, 0, 0);
        self.stations.find(slot.frame, &mut front.recipients);
        if self.inside.is_some()
            && addresses(slot.frame).is_some_and(|(_, from)| self.stations.of(from).is_some())
        {
            // The switch has sent a frame of ours back, which those that it is for have already.
            front.recipients.clear();
        }
        let offload = Offload::parse(slot.offload);
        if slot.rest != Rest::Nothing
            || !matches!(offload, Some(Offload::Done | Offload::Checksum { .. }))
        {
            self.sort_large(offload);
        }
        true
    }

    /// The same of a frame that is larger than its slot, or to be cut.
    #[cold]
    fn sort_large(&mut self, offload: Option<Offload>) {
        let Some(slot) = self.receiver.ring.front() else {
            return;
        };
        let front = &mut self.front;
        let mut is_whole = slot.rest == Rest::Nothing;
        if let Rest::InSocket(length) = slot.rest {
            let bytes = (OFFLOAD_HEADER_LENGTH + length).min(LARGEST);
            if front.large.len() < bytes {
                front.large.resize(bytes, 0);
            }
            // Also if nobody is to have it: the next one is behind it.
            is_whole = self
                .receiver
                .take_large(front.large.get_mut(..bytes).unwrap_or_default());
            front.large_bytes = bytes;
        }
        let is_known = match offload {
            Some(Offload::Segments(cut)) => {
                front.segments = cut.count(front.frame(&slot));
                front.segments > 0
            }
            Some(_) => true,
            None => false,
        };
        if !is_whole || !is_known {
            if front.recipients.next().is_some() {
                self.lost += 1;
            }
            front.recipients.clear();
        }
    }

    /// The next recipient has the next part of the frame.
    fn pass(&mut self) {
        let front = &mut self.front;
        front.segment += 1;
        if front.segment >= front.segments {
            front.segment = 0;
            front.recipients.pass();
        }
    }

    /// Reads a frame for `vm`, if it is the turn of one.
    #[inline]
    pub(super) fn read(&mut self, vm: VmId, buffer: &mut [u8]) -> Read {
        if self.inside.is_some()
            && self.receiver_inside() == Some(vm)
            && let Some(inside) = &mut self.inside
        {
            return Read::Frame(inside.read(buffer));
        }
        if self.receiver_outside() != Some(vm) {
            return Read::Empty;
        }
        let length = self.take(buffer);
        self.pass();
        if self.front.recipients.next().is_none() {
            self.receiver.ring.release();
            self.front.is_sorted = false;
        }
        Read::Frame(length)
    }

    /// Copies the frame whose turn it is into `buffer`, as it would look on the wire, and returns its length.
    #[inline]
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let Some(slot) = self.receiver.ring.front() else {
            return 0;
        };
        let tag = slot.tag.map_or(0, |_| VLAN_TAG_LENGTH);
        let space = buffer.get_mut(tag..).unwrap_or_default();
        let frame = self.front.frame(&slot);
        let length = match Offload::parse(slot.offload) {
            Some(Offload::Segments(cut)) => {
                let written = cut.write(frame, self.front.segment, space);
                written.unwrap_or(0)
            }
            offload => {
                let length = frame.len().min(space.len());
                if let (Some(to), Some(from)) = (space.get_mut(..length), frame.get(..length)) {
                    to.copy_from_slice(from);
                    if let Some(Offload::Checksum { start, offset }) = offload {
                        complete_checksum(to, start, offset);
                    }
                }
                length
            }
        };
        match slot.tag {
            Some((kind, content)) => {
                // There is room: the frame lies behind it.
                let _ = restore_tag(buffer, kind, content);
                length + tag
            }
            None => length,
        }
    }

    /// Sends a frame of `vm`: to the VM that it is for, or outside.
    #[inline]
    pub(super) fn write(&mut self, frame: &[u8]) -> Write {
        if let Some(inside) = &mut self.inside
            && let Some((destination, _)) = addresses(frame)
        {
            let is_inside = self.stations.of(destination).is_some();
            if is_inside || destination.is_multicast() {
                inside.push(frame);
            }
            if is_inside {
                return Write::Sent;
            }
        }
        self.sender.send(frame)
    }

    /// The frames for VMs so far that found no room.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn drops(&mut self) -> Result<u64, SystemError> {
        self.lost += self.receiver.take_drops()?;
        let inside = self.inside.as_ref().map_or(0, |inside| inside.lost);
        Ok(self.lost + inside)
    }
}
