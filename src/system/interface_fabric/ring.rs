//! The memory in which the kernel puts the frames that an interface receives (`Documentation/networking/packet_mmap.rst` of
//! its source, `TPACKET_V2`): a ring of slots, each with a header, which are the kernel's and ours in turn.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

use super::socket::{set_option, socket_error};
use crate::system::error::SystemError;
use crate::system::mapping::Mapping;
use crate::wire::{ETHERNET_HEADER_LENGTH, OFFLOAD_HEADER_LENGTH, VLAN_TAG_LENGTH};

/// Bytes in a slot before the frame: `TPACKET2_HDRLEN` and the room before it, rounded up.
const BEFORE_FRAME: usize = 128;
/// A slot that is larger holds no frame of a usual link. What is larger than the slot comes by the socket.
const LARGEST_SLOT: usize = 16 * 1024;
const SMALLEST_SLOT: usize = 2048;
/// Bytes of a ring at most, however large its slots are.
const MOST_BYTES: usize = 16 << 20;
/// Bytes that the kernel allocates as one.
const BLOCK: usize = 64 * 1024;

/// The ring, mapped into our memory.
#[derive(Debug)]
pub(super) struct Ring {
    mapping: Mapping,
    slot_bytes: usize,
    slots: usize,
    /// The slot whose turn it is.
    at: usize,
}

/// A frame that the kernel has put into the ring.
pub(super) struct Slot<'a> {
    /// The frame without the tag that the kernel took off, or as much of it as the slot has room for.
    pub(super) frame: &'a [u8],
    /// Type and content of that tag.
    pub(super) tag: Option<(u16, u16)>,
    /// What the sender has left to do.
    pub(super) offload: &'a [u8; OFFLOAD_HEADER_LENGTH],
    /// Where the rest of it is.
    pub(super) rest: Rest,
}

/// The rest of a frame that is larger than its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// There is none.
    Nothing,
    /// The socket has the frame once more, which has so many bytes.
    InSocket(usize),
    /// The kernel had no memory for it.
    Lost,
}

impl Ring {
    /// Gives `socket` a ring of at least `slots` slots, as far as memory is to be spent, for frames of an `mtu`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn of(socket: &OwnedFd, slots: usize, mtu: usize) -> Result<Ring, SystemError> {
        let frame = ETHERNET_HEADER_LENGTH + VLAN_TAG_LENGTH + mtu;
        let slot_bytes = (BEFORE_FRAME + frame)
            .next_power_of_two()
            .clamp(SMALLEST_SLOT, LARGEST_SLOT);
        let bytes = (slots * slot_bytes).min(MOST_BYTES).next_multiple_of(BLOCK);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (bytes / BLOCK) as u32,
            tp_frame_size: slot_bytes as u32,
            tp_frame_nr: (bytes / slot_bytes) as u32,
        };
        set_option(socket, libc::PACKET_RX_RING, &request)?;
        let bytes = NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
        let mapping = Mapping::of(socket, bytes);
        Ok(Ring {
            mapping: mapping.map_err(|errno| socket_error("map the ring of", errno))?,
            slot_bytes,
            slots: bytes.get() / slot_bytes,
            at: 0,
        })
    }

    /// The header of the slot whose turn it is.
    #[inline]
    fn header(&self) -> *mut libc::tpacket2_hdr {
        #[allow(unsafe_code)]
        // SAFETY: `at` is less than `slots`, so that the slot is within the mapping.
        let slot = unsafe {
            self.mapping
                .start()
                .as_ptr()
                .byte_add(self.at * self.slot_bytes)
        };
        slot.cast()
    }

    /// Whose the slot is, and what is to be known of it.
    #[inline]
    fn status(&self) -> &AtomicU32 {
        #[allow(unsafe_code)]
        // SAFETY: the status is the first member of a header within the mapping, which is aligned to its slot, lives as long as
        // `self`, and is read and written as a whole by the kernel, too.
        unsafe {
            AtomicU32::from_ptr((&raw mut (*self.header()).tp_status).cast())
        }
    }

    /// Returns true if there is a frame.
    #[inline]
    pub(super) fn has_frame(&self) -> bool {
        self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The frame that came first of those that are not [released](Ring::release) yet.
    #[inline]
    pub(super) fn front(&self) -> Option<Slot<'_>> {
        // The kernel writes it last.
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        #[allow(unsafe_code)]
        // SAFETY: the slot is ours until it is released, which takes `&mut self`: the kernel does not write it meanwhile.
        let (header, bytes) = unsafe {
            (
                &*self.header(),
                std::slice::from_raw_parts(self.header().cast::<u8>(), self.slot_bytes),
            )
        };
        let begin = usize::from(header.tp_mac);
        let kept = header.tp_snaplen as usize;
        let frame = bytes.get(begin..begin + kept)?;
        let offload = bytes.get(..begin)?.last_chunk()?;
        let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let kind = match status & libc::TP_STATUS_VLAN_TPID_VALID {
                0 => libc::ETH_P_8021Q as u16,
                _ => header.tp_vlan_tpid,
            };
            (kind, header.tp_vlan_tci)
        });
        let length = header.tp_len as usize;
        let rest = match status & libc::TP_STATUS_COPY {
            0 if length <= kept => Rest::Nothing,
            0 => Rest::Lost,
            _ => Rest::InSocket(length),
        };
        Some(Slot {
            frame,
            tag,
            offload,
            rest,
        })
    }

    /// Gives the slot of the frame that came first back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.at += 1;
        if self.at == self.slots {
            self.at = 0;
        }
    }
}
